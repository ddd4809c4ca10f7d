#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"
#include "executor/server/models.h"
#include "executor/server/stored.h"

/* "classifier" and "classifier.onnx" both name /models/classifier.onnx. */
bool ft_names_configured(const char *model, const char *name)
{
    const char *base = ft_path_base(model);
    size_t length = strlen(name);
    return model[0] != '\0' && (strcmp(model, name) == 0 || (strncmp(base, name, length) == 0 &&
                                                             (base[length] == '\0' || base[length] == '.')));
}

enum ft_status ft_model_path(struct ft_service *service, const char *name, bool tuned, char **path,
                             struct ft_err *err)
{
    const char *configured = service->config->model;
    enum ft_run_state state = FT_RUN_CREATED;
    *path = NULL;
    if (name == NULL || name[0] == '\0') {
        if (tuned) {
            FT_RETURN_IF_FAILED(ft_models_current(ft_encode_models(service->encode), path, err));
        }
        if (tuned && *path == NULL) { /* the first one, still being loaded */
            FT_RETURN_IF_FAILED(ft_runs_newest(service->runs, path, err));
        }
        if (*path == NULL && configured[0] == '\0') {
            return FT_FAIL(err, UNAVAILABLE, "there is no model: set `model` in the config%s",
                           tuned ? ", or tune one with /fit" : " or name one in parameters.model");
        }
        return *path != NULL ? FT_OK : ft_new_text(configured, path, err);
    }
    if (ft_names_configured(configured, name)) {
        return ft_new_text(configured, path, err);
    }
    if (ft_runs_state(service->runs, name, &state, err) == FT_OK) {
        return ft_runs_artifact(service->runs, name, path, err);
    }
    struct ft_stored stored;
    enum ft_status st = ft_stored_find(ft_uploads_models(service->uploads), name, &stored, err);
    *path = stored.path;
    stored.path = NULL;
    ft_stored_release(&stored);
    FT_RETURN_IF_FAILED(st);
    return *path != NULL ? FT_OK : FT_FAIL(err, NOT_FOUND, "there is no run and no model '%.64s'", name);
}

/* Where a run lies is the service's to say. */
static enum ft_status check_options(const struct ft_service *service, const struct ft_json *options,
                                    struct ft_err *err)
{
    static const char *const closed[] = {"work_dir", "resume"};
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        if (ft_json_get(options, closed[i]) != NULL) {
            return FT_FAIL(err, INVALID, "parameters.%s cannot be given to a service", closed[i]);
        }
    }
    return service->engine->check_fit(options, err);
}

/* parameters without what the service reads itself: the fit options. */
static enum ft_status fit_options(const struct ft_request *request, struct ft_json **options,
                                  struct ft_err *err)
{
    static const char *const ours[] = {"dataset", "eval_dataset", "name", "model", "wait"};
    enum ft_status st = FT_OK;
    struct ft_json *copy = ft_json_object();
    *options = NULL;
    if (copy == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading fit options");
    }
    const struct ft_json *given = request->options;
    for (struct ft_json_iter *it = ft_json_first(given); it != NULL; it = ft_json_next(given, it)) {
        const char *key = ft_json_key(it);
        bool taken = false;
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            taken = taken || strcmp(key, ours[i]) == 0;
        }
        if (!taken) {
            FT_TRY(ft_json_set(copy, key, ft_json_copy(ft_json_value(it)), err));
        }
    }
    *options = copy;
    copy = NULL;
done:
    ft_json_free(copy);
    return st;
}

/* What a run is made of; all of it is checked before one is registered. */
struct order {
    const struct ft_fit_ask *ask;
    const struct ft_json *asked; /* with a key: borrowed */
    char *model, *dataset, *eval_dataset;
};

static void order_release(struct order *order)
{
    ft_free(order->model);
    ft_free(order->dataset);
    ft_free(order->eval_dataset);
}

static enum ft_status read_order(struct ft_service *service, const struct ft_fit_ask *ask,
                                 struct order *order, const char **field, struct ft_err *err)
{
    order->ask = ask;
    *field = "options";
    FT_RETURN_IF_FAILED(check_options(service, ask->options, err));
    *field = "model";
    FT_RETURN_IF_FAILED(ft_model_path(service, ask->model, false, &order->model, err));
    *field = "dataset";
    FT_RETURN_IF_FAILED(ft_datasets_dir(service->datasets, ask->dataset != NULL ? ask->dataset : "default",
                                        &order->dataset, err));
    *field = "eval_dataset";
    if (ask->eval_dataset != NULL) {
        FT_RETURN_IF_FAILED(ft_datasets_dir(service->datasets, ask->eval_dataset, &order->eval_dataset, err));
    }
    *field = "";
    return FT_OK;
}

/* What parameters ask for; *options are the caller's, also on failure. */
static enum ft_status read_ask(const struct ft_request *request, struct ft_json **options,
                               struct ft_fit_ask *ask, bool *wait, struct ft_err *err)
{
    const struct ft_json *given = ft_json_get(request->options, "wait");
    if (ft_json_kind(given) != FT_JSON_NULL && ft_json_kind(given) != FT_JSON_BOOL) {
        return FT_FAIL(err, INVALID, "parameters.wait is %s, not true or false",
                       ft_json_kind_name(ft_json_kind(given)));
    }
    *wait = ft_json_bool(given);
    FT_RETURN_IF_FAILED(ft_request_text(request, "dataset", &ask->dataset, err));
    FT_RETURN_IF_FAILED(ft_request_text(request, "eval_dataset", &ask->eval_dataset, err));
    FT_RETURN_IF_FAILED(ft_request_text(request, "model", &ask->model, err));
    FT_RETURN_IF_FAILED(ft_request_text(request, "name", &ask->name, err));
    FT_RETURN_IF_FAILED(fit_options(request, options, err));
    ask->options = *options;
    return FT_OK;
}

static void answer_run(struct ft_request *request, const char *run)
{
    struct ft_err err = {0};
    struct ft_json *record = NULL;
    if (ft_runs_get(request->service->runs, run, &record, &err) != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    ft_request_results(request, record);
}

/* A run somebody waits for: its model is the answer's promise, so anything but FINISHED is an error. */
static void answer_ended(struct ft_request *request)
{
    struct ft_err err = {0};
    struct ft_json *record = NULL;
    enum ft_status st = ft_runs_get(request->service->runs, request->run, &record, &err);
    const char *status = ft_json_text(ft_json_get(record, "status"), NULL);
    if (st == FT_OK && status != NULL && strcmp(status, "FINISHED") != 0) {
        const char *reason = ft_json_text(ft_json_get(record, "reason"), NULL);
        st = strcmp(status, "CANCELLED") == 0
                 ? FT_FAIL(&err, CANCELLED, "run '%s' was cancelled", request->run)
                 : FT_FAIL(&err, INVALID, "run '%s' is %s: %s", request->run, status,
                           reason != NULL ? reason : "");
    }
    if (st != FT_OK) {
        ft_json_free(record);
        ft_request_fail(request, &err);
        return;
    }
    ft_request_results(request, record);
}

/* Registers the run and, with `waiter`, that request beside it. The mutex spans both: a run that ends at once
 * must find its waiter, which is not the caller's any more when this succeeds. */
static enum ft_status submit(struct ft_service *service, const struct order *order, struct ft_request *waiter,
                             char id[FT_RUN_ID], struct ft_err *err)
{
    struct ft_run_spec spec = {.name = order->ask->name,
                               .model = order->model,
                               .dataset = order->dataset,
                               .eval_dataset = order->eval_dataset,
                               .key = order->ask->key,
                               .asked = order->asked,
                               .options = order->ask->options};
    (void)pthread_mutex_lock(&service->mutex);
    enum ft_status st = FT_OK;
    if (waiter != NULL && !atomic_load(&service->serving)) { /* ft_release_waiters() will not see it */
        st = FT_FAIL(err, UNAVAILABLE, "the service is going down");
    } else if (waiter != NULL) {
        st = ft_grow(&service->waiters, &service->waiters_capacity, service->n_waiters + 1,
                     sizeof(struct ft_request *), err);
    }
    if (st == FT_OK) {
        st = ft_runs_submit(service->runs, &spec, id, err);
    }
    if (st == FT_OK && waiter != NULL) {
        (void)snprintf(waiter->run, sizeof waiter->run, "%s", id);
        service->waiters[service->n_waiters++] = waiter;
    }
    (void)pthread_mutex_unlock(&service->mutex);
    if (st == FT_OK) {
        FT_LOG_INFO_LINE("server", "run created run=%s", id);
    }
    return st;
}

static enum ft_status set_text(struct ft_json *object, const char *key, const char *text, struct ft_err *err)
{
    return text != NULL ? ft_json_set(object, key, ft_json_of_text(text), err) : FT_OK;
}

/* The names as they were given: what they stand for may change, and be gone when a request is sent again. */
static enum ft_status asked_json(const struct ft_fit_ask *ask, struct ft_json **json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *j = ft_json_object();
    if (j == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory starting a run");
    }
    FT_TRY(set_text(j, "model", ask->model, err));
    FT_TRY(set_text(j, "dataset", ask->dataset, err));
    FT_TRY(set_text(j, "eval_dataset", ask->eval_dataset, err));
    FT_TRY(set_text(j, "name", ask->name, err));
    FT_TRY(ft_json_set(j, "options", ft_json_copy(ask->options), err));
    *json = j;
    j = NULL;
done:
    ft_json_free(j);
    return st;
}

enum ft_status ft_fit_submit(struct ft_service *service, const struct ft_fit_ask *ask, char id[FT_RUN_ID],
                             const char **field, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct order order = {0};
    struct ft_json *asked = NULL;
    *field = "";
    if (ask->key != NULL) {
        FT_TRY(asked_json(ask, &asked, err));
        *field = "idempotency_key";
        FT_TRY(ft_runs_find_key(service->runs, ask->key, asked, id, err));
        if (id[0] != '\0') {
            goto done;
        }
    }
    order.asked = asked;
    FT_TRY(read_order(service, ask, &order, field, err));
    FT_TRY(submit(service, &order, NULL, id, err));
done:
    order_release(&order);
    ft_json_free(asked);
    return st;
}

void ft_endpoint_fit(struct ft_request *request)
{
    struct order order = {0};
    struct ft_fit_ask ask = {0};
    struct ft_json *options = NULL;
    struct ft_err err = {0};
    const char *field = NULL;
    char id[FT_RUN_ID] = "";
    bool wait = false;
    enum ft_status st = read_ask(request, &options, &ask, &wait, &err);
    if (st == FT_OK) {
        st = read_order(request->service, &ask, &order, &field, &err);
    }
    if (st == FT_OK) {
        st = submit(request->service, &order, wait ? request : NULL, id, &err);
    }
    order_release(&order);
    ft_json_free(options);
    if (st != FT_OK) {
        ft_request_fail(request, &err);
    } else if (!wait) {
        answer_run(request, id);
    }
}

/* Take one waiter for that run (NULL: for any) off the list. */
static struct ft_request *take_waiter(struct ft_service *service, const char *run)
{
    struct ft_request *found = NULL;
    (void)pthread_mutex_lock(&service->mutex);
    for (size_t i = 0; i < service->n_waiters && found == NULL; i++) {
        if (run == NULL || strcmp(service->waiters[i]->run, run) == 0) {
            found = service->waiters[i];
            service->waiters[i] = service->waiters[--service->n_waiters];
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return found;
}

void ft_run_has_ended(void *arg, const char *run)
{
    struct ft_service *service = arg;
    struct ft_err err = {0};
    enum ft_run_state state = FT_RUN_CREATED;
    char *path = NULL;
    if (ft_runs_state(service->runs, run, &state, &err) != FT_OK || !ft_run_ended(state)) {
        return; /* cut off by a shutdown: it goes on later, and its waiters have been told */
    }
    if (state == FT_RUN_FINISHED && ft_runs_artifact(service->runs, run, &path, &err) == FT_OK) {
        ft_models_swap(ft_encode_models(service->encode), path, run);
        ft_free(path);
    } else {
        ft_run_is_served(service, run);
    }
}

/* Whoever waited for a run finds its model served. */
void ft_run_is_served(void *arg, const char *run)
{
    struct ft_service *service = arg;
    for (struct ft_request *r = take_waiter(service, run); r != NULL; r = take_waiter(service, run)) {
        answer_ended(r);
    }
}

void ft_release_waiters(struct ft_service *service)
{
    for (struct ft_request *r = take_waiter(service, NULL); r != NULL; r = take_waiter(service, NULL)) {
        struct ft_err err = {0};
        (void)FT_FAIL(&err, UNAVAILABLE, "the service is going down; run '%s' goes on at its next start",
                      r->run);
        ft_request_fail(r, &err);
    }
}

/* parameters.run, which must be there. */
static enum ft_status asked_run(const struct ft_request *request, const char **run, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_request_text(request, "run", run, err));
    if (*run == NULL) {
        return FT_FAIL(err, INVALID, "parameters.run is missing: the id that /fit answered, or one of /runs");
    }
    return FT_OK;
}

static struct ft_json *wrap(const char *key, struct ft_json *take_value)
{
    struct ft_err err = {0};
    struct ft_json *object = ft_json_object();
    if (object == NULL) {
        ft_json_free(take_value);
        return NULL;
    }
    if (ft_json_set(object, key, take_value, &err) != FT_OK) {
        ft_json_free(object);
        return NULL;
    }
    return object;
}

void ft_endpoint_runs(struct ft_request *request)
{
    struct ft_err err = {0};
    struct ft_json *list = NULL;
    int64_t limit = 0;
    enum ft_status st = ft_request_int(request, "limit", 100, 1, 10000, &limit, &err);
    if (st == FT_OK) {
        st = ft_runs_list(request->service->runs, limit, 0, &list, NULL, &err);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    ft_request_results(request, wrap("runs", list));
}

void ft_endpoint_status(struct ft_request *request)
{
    struct ft_err err = {0};
    const char *run = NULL;
    if (asked_run(request, &run, &err) != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    answer_run(request, run);
}

void ft_endpoint_cancel(struct ft_request *request)
{
    struct ft_err err = {0};
    const char *run = NULL;
    enum ft_status st = asked_run(request, &run, &err);
    if (st == FT_OK) {
        st = ft_runs_cancel(request->service->runs, run, &err);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    answer_run(request, run);
}

/* {run, <key>: events of that kind}: parameters `from` (negative: from the end) and `limit`. */
static void answer_events(struct ft_request *request, const char *kind, const char *key,
                          int64_t from_standard)
{
    struct ft_err err = {0};
    const char *run = NULL;
    struct ft_json *events = NULL;
    int64_t from = 0;
    int64_t limit = 0;
    enum ft_status st = asked_run(request, &run, &err);
    if (st == FT_OK) {
        st = ft_request_int(request, "from", from_standard, -1000000, INT32_MAX, &from, &err);
    }
    if (st == FT_OK) {
        st = ft_request_int(request, "limit", 1000, 1, 100000, &limit, &err);
    }
    if (st == FT_OK) {
        st = ft_runs_events(request->service->runs, run, kind, from, limit, &events, &err);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    struct ft_json *object = wrap(key, events);
    if (object != NULL && ft_json_set(object, "run", ft_json_of_text(run), &err) != FT_OK) {
        ft_json_free(object);
        object = NULL;
    }
    ft_request_results(request, object);
}

void ft_endpoint_logs(struct ft_request *request)
{
    answer_events(request, NULL, "events", -200);
}

void ft_endpoint_metrics(struct ft_request *request)
{
    answer_events(request, "metrics", "metrics", 0);
}
