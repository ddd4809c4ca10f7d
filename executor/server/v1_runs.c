#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/server/models.h"
#include "executor/server/v1.h"

/* Fills in what a Run has and a record of the registry says otherwise. */
static enum ft_status as_run(struct ft_json *record, struct ft_err *err)
{
    return ft_json_set(record, "id", ft_json_copy(ft_json_get(record, "run")), err);
}

enum ft_status ft_v1_run(struct ft_service *service, const char *run, struct ft_json **json,
                         struct ft_v1_why *why)
{
    struct ft_json *record = NULL;
    *json = NULL;
    enum ft_status st = ft_runs_get(service->runs, run, &record, &why->err);
    if (st == FT_NOT_FOUND) {
        ft_v1_at_fault(why, "run");
    }
    if (st == FT_OK) {
        st = as_run(record, &why->err);
    }
    if (st != FT_OK) {
        ft_json_free(record);
        return st;
    }
    *json = record;
    return FT_OK;
}

static const char *text_or_null(const struct ft_json *request, const char *key)
{
    const char *text = ft_v1_text(request, key);
    return *text != '\0' ? text : NULL;
}

enum ft_status ft_v1_fit_submit(struct ft_service *service, const struct ft_json *request,
                                const char *dataset, char id[FT_RUN_ID], struct ft_v1_why *why)
{
    const char *field = "";
    struct ft_json *none = NULL;
    struct ft_fit_ask ask = {.model = text_or_null(request, "model"),
                             .dataset = dataset != NULL ? dataset : text_or_null(request, "dataset"),
                             .eval_dataset = text_or_null(request, "eval_dataset"),
                             .name = text_or_null(request, "name"),
                             .key = text_or_null(request, "idempotency_key"),
                             .options = ft_json_get(request, "options")};
    if (ask.key != NULL && strlen(ask.key) > 128) {
        ft_v1_at_fault(why, "idempotency_key");
        return FT_FAIL(&why->err, INVALID, "idempotency_key has more than 128 bytes");
    }
    if (ask.options == NULL) {
        none = ft_json_object();
        ask.options = none;
    }
    enum ft_status st = ask.options != NULL ? ft_fit_submit(service, &ask, id, &field, &why->err)
                                            : FT_FAIL(&why->err, NOMEM, "out of memory starting a run");
    if (st != FT_OK) {
        ft_v1_at_fault(why, field);
    }
    ft_v1_disk_refused(why); /* what a run begins with cannot be written */
    ft_json_free(none);
    return strcmp(field, "model") == 0 ? ft_v1_not_yet(why, st) : st;
}

FT_V1_ANSWER(ft_v1_fit)
{
    char id[FT_RUN_ID] = "";
    FT_RETURN_IF_FAILED(ft_v1_fit_submit(service, request, NULL, id, why));
    return ft_v1_run(service, id, answer, why);
}

FT_V1_ANSWER(ft_v1_get_run)
{
    const char *run = NULL;
    FT_RETURN_IF_FAILED(ft_v1_need(request, "run", &run, why));
    return ft_v1_run(service, run, answer, why);
}

FT_V1_ANSWER(ft_v1_list_runs)
{
    enum ft_status st = FT_OK;
    struct ft_err *err = &why->err;
    struct ft_json *records = NULL;
    struct ft_json *runs = NULL;
    struct ft_json *page = NULL;
    const char *token = NULL;
    char *end = NULL;
    char text[32];
    int64_t size = 0;
    int64_t next = 0;
    FT_TRY(ft_v1_page(request, &size, &token, why));
    int64_t from = strtoll(token, &end, 10);
    if (*end != '\0' || from < 0 || (*token != '\0' && from == 0)) {
        ft_v1_at_fault(why, "page_token");
        st = FT_FAIL(err, INVALID, "page_token is none of ours");
        goto done;
    }
    FT_TRY(ft_runs_list(service->runs, size, from, &records, &next, err));
    runs = ft_json_array();
    page = ft_json_object();
    if (runs == NULL || page == NULL) {
        st = FT_FAIL(err, NOMEM, "out of memory listing runs");
        goto done;
    }
    for (size_t i = 0; i < ft_json_count(records); i++) {
        struct ft_json *run = ft_json_copy(ft_json_at(records, i));
        st = run != NULL ? as_run(run, err) : FT_FAIL(err, NOMEM, "out of memory listing runs");
        if (st != FT_OK) {
            ft_json_free(run);
            goto done;
        }
        FT_TRY(ft_json_push(runs, run, err));
    }
    struct ft_json *taken = runs;
    runs = NULL;
    FT_TRY(ft_json_set(page, "runs", taken, err));
    if (next > 0) {
        (void)snprintf(text, sizeof text, "%lld", (long long)next);
        FT_TRY(ft_json_set(page, "next_page_token", ft_json_of_text(text), err));
    }
    *answer = page;
    page = NULL;
done:
    ft_json_free(records);
    ft_json_free(runs);
    ft_json_free(page);
    return st;
}

FT_V1_ANSWER(ft_v1_cancel_run)
{
    const char *run = NULL;
    struct ft_err ended = {0};
    FT_RETURN_IF_FAILED(ft_v1_need(request, "run", &run, why));
    enum ft_status st = ft_runs_cancel(service->runs, run, &ended);
    if (st != FT_OK && st != FT_INVALID) { /* INVALID: it has ended, which is told as it is */
        why->err = ended;
        ft_v1_at_fault(why, st == FT_NOT_FOUND ? "run" : "");
        return st;
    }
    return ft_v1_run(service, run, answer, why);
}

/* Whether requests that name no model are answered with that run's. */
static enum ft_status is_served(struct ft_service *service, const char *run, bool *served, struct ft_err *err)
{
    char *current = NULL;
    char *path = NULL;
    struct ft_err none = {0};
    *served = false;
    FT_RETURN_IF_FAILED(ft_models_current(ft_encode_models(service->encode), &current, err));
    if (current != NULL && ft_runs_artifact(service->runs, run, &path, &none) == FT_OK) {
        *served = strcmp(current, path) == 0;
    }
    ft_free(current);
    ft_free(path);
    return FT_OK;
}

FT_V1_ANSWER(ft_v1_delete_run)
{
    const char *run = NULL;
    bool served = false;
    FT_RETURN_IF_FAILED(ft_v1_need(request, "run", &run, why));
    FT_RETURN_IF_FAILED(is_served(service, run, &served, &why->err));
    if (served) {
        why->code = FT_RPC_FAILED_PRECONDITION;
        return FT_FAIL(&why->err, BUSY, "the model of run '%s' is the one that is served", run);
    }
    enum ft_status st = ft_runs_delete(service->runs, run, &why->err);
    if (st == FT_BUSY) {
        why->code = FT_RPC_FAILED_PRECONDITION;
    } else if (st == FT_NOT_FOUND) {
        ft_v1_at_fault(why, "run");
    }
    return st == FT_OK ? ft_v1_empty(answer, why) : st;
}
