/* fit with --server: the model and the data go to the service if they are here, the run is watched, its
 * artifact fetched. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/cli/screen.h"
#include "executor/model/artifact.h"
#include "executor/store/folder.h"

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *eval, *eval_dataset, *dataset, *out, *key;
    struct ft_output output;
    bool detach;
    struct ft_fit_options options;
    const char *given[FT_ARGS_MAX]; /* fit options on the command line */
    size_t n_given;
};

enum { KEY_BYTES = 16 };

static bool flag(const char *key)
{
    return ft_remote_verb_flag(key) || strcmp(key, "detach") == 0 || ft_fit_options_is_flag(key);
}

static enum ft_status set_option(struct wish *w, const char *key, const char *value, struct ft_err *err)
{
    const struct {
        const char *key;
        const char **at;
    } texts[] = {{"eval", &w->eval},
                 {"eval-dataset", &w->eval_dataset},
                 {"dataset", &w->dataset},
                 {"out", &w->out},
                 {"idempotency-key", &w->key}};
    bool known = false;
    FT_RETURN_IF_FAILED(ft_remote_verb_option(&w->remote, &w->output, key, value, &known, err));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(key, texts[i].key) == 0) {
            *texts[i].at = value;
            known = true;
        }
    }
    if (known) {
        return FT_OK;
    }
    if (strcmp(key, "detach") == 0) {
        return ft_arg_flag(key, value, &w->detach, err);
    }
    if (strcmp(key, "resume") == 0 || strcmp(key, "work-dir") == 0) {
        return FT_FAIL(err, USAGE, "--%s is the service's own affair: it resumes runs by itself", key);
    }
    enum ft_status st = ft_fit_options_set(&w->options, key, value, err);
    w->given[w->n_given++] = key;
    return st == FT_OK ? st : ft_usage(err);
}

/* What can be known of them here: devices, and what they compute in, are the service's. */
static enum ft_status check_options(struct ft_fit_options *options, struct ft_err *err)
{
    char device[FT_FIT_NAME];
    char precision[FT_FIT_NAME];
    memcpy(device, options->device, sizeof device);
    memcpy(precision, options->precision, sizeof precision);
    (void)snprintf(options->device, sizeof options->device, "cpu");
    (void)snprintf(options->precision, sizeof options->precision, "f32");
    enum ft_status st = ft_fit_options_check(options, err);
    memcpy(options->device, device, sizeof device);
    memcpy(options->precision, precision, sizeof precision);
    return st;
}

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, flag, &w->args, err));
    FT_RETURN_IF_FAILED(ft_fit_options_init(&w->options, err));
    for (int i = 0; i < w->args.n_options; i++) {
        FT_RETURN_IF_FAILED(set_option(w, w->args.key[i], w->args.value[i], err));
    }
    if (w->args.n_positional != 2 && !(w->args.n_positional == 1 && w->dataset != NULL)) {
        return FT_FAIL(err, USAGE,
                       "usage: finetuner fit MODEL DATA --server HOST:PORT, or fit MODEL --dataset NAME "
                       "--server HOST:PORT with data that the service has");
    }
    if (w->eval != NULL && w->eval_dataset != NULL) {
        return FT_FAIL(err, USAGE, "--eval is data here, --eval-dataset names data there: one of both");
    }
    if (w->detach && w->out != NULL) {
        return FT_FAIL(err, USAGE, "--detach waits for nothing, so there is no artifact for --out yet");
    }
    if (w->dataset != NULL && !ft_dataset_name_valid(w->dataset)) {
        return FT_FAIL(err, USAGE, "--dataset '%.200s' is no dataset's name: 1 to 64 letters, digits, - _ .",
                       w->dataset);
    }
    FT_RETURN_IF_FAILED(check_options(&w->options, err));
    FT_RETURN_IF_FAILED(ft_out_check(w->out, ".zip", NULL, err));
    return w->out != NULL ? ft_artifact_check_place(w->out, err) : FT_OK;
}

/* A fit started again pushes nothing twice, one with other data does. */
static enum ft_status dataset_name(const char *path, const struct ft_dataset *data, char **name,
                                   struct ft_err *err)
{
    char hex[FT_SHA256_HEX];
    FT_RETURN_IF_FAILED(ft_dataset_digest(data, hex, err));
    return ft_remote_content_name(strcmp(path, "-") == 0 ? "stdin" : ft_path_base(path), hex, name, err);
}

/* Documents that lie here or there. Zeroed: none. */
struct data {
    const char *path;        /* NULL: there */
    struct ft_dataset *here; /* what it holds */
    const char *wanted;      /* as somebody calls it there; NULL: we find a name */
    char *name;              /* it has there */
};

/* Whether it can be had, before anything is sent. */
static enum ft_status look_at(struct ft_remote *remote, struct data *data, struct ft_err *err)
{
    struct ft_json *found = NULL;
    if (data->path != NULL) {
        return ft_dataset_open(data->path, true, &data->here, err);
    }
    enum ft_status st = data->wanted != NULL ? ft_remote_dataset(remote, data->wanted, &found, err) : FT_OK;
    ft_json_free(found);
    return st;
}

static enum ft_status send_data(struct ft_remote *remote, struct data *data, bool quiet, struct ft_err *err)
{
    struct ft_push_result r;
    if (data->wanted != NULL) {
        FT_RETURN_IF_FAILED(ft_new_text(data->wanted, &data->name, err));
    }
    if (data->path == NULL) {
        return FT_OK;
    }
    if (data->name == NULL) {
        FT_RETURN_IF_FAILED(dataset_name(data->path, data->here, &data->name, err));
    }
    FT_RETURN_IF_FAILED(ft_remote_push(remote, data->name, data->here, quiet, &r, err));
    if (!quiet) {
        (void)fprintf(stderr, "pushed %zu documents to dataset '%s' (%zu were there already)", r.documents,
                      data->name, r.duplicates);
        if (r.total_known) {
            (void)fprintf(stderr, "; it has %zu now", r.total);
        }
        (void)fputs("\n", stderr);
    }
    return FT_OK;
}

static void data_release(struct data *data)
{
    ft_dataset_free(data->here);
    ft_free(data->name);
}

/* Only what was said: the rest is the service's to choose. */
static enum ft_status given_options(const struct wish *w, struct ft_json **options, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *all = NULL;
    struct ft_json *given = ft_json_object();
    *options = NULL;
    if (given == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory asking");
    }
    FT_TRY(ft_fit_options_write(&w->options, &all, err));
    for (size_t i = 0; i < w->n_given; i++) {
        char key[FT_FIT_NAME];
        (void)snprintf(key, sizeof key, "%s", w->given[i]);
        for (char *p = key; *p != '\0'; p++) {
            *p = *p == '-' ? '_' : *p;
        }
        if (strcmp(key, "name") != 0) { /* the run's, not the job's */
            FT_TRY(ft_json_set(given, key, ft_json_copy(ft_json_get(all, key)), err));
        }
    }
    *options = given;
    given = NULL;
done:
    ft_json_free(all);
    ft_json_free(given);
    return st;
}

static enum ft_status random_key(char text[2 * KEY_BYTES + 1], struct ft_err *err)
{
    unsigned char bytes[KEY_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return FT_FAIL(err, IO, "the system has no random numbers");
    }
    for (size_t i = 0; i < KEY_BYTES; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    return FT_OK;
}

static enum ft_status ask(struct ft_remote *remote, const struct wish *w, const char *model,
                          const char *dataset, const char *eval, struct ft_json **run, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_json *options = NULL;
    char key[2 * KEY_BYTES + 1];
    FT_TRY(random_key(key, err));
    FT_TRY(ft_remote_request("model", model, &request, err));
    FT_TRY(ft_json_set(request, "dataset", ft_json_of_text(dataset), err));
    if (eval != NULL) {
        FT_TRY(ft_json_set(request, "eval_dataset", ft_json_of_text(eval), err));
    }
    if (w->options.name != NULL) {
        FT_TRY(ft_json_set(request, "name", ft_json_of_text(w->options.name), err));
    }
    FT_TRY(ft_json_set(request, "idempotency_key", ft_json_of_text(w->key != NULL ? w->key : key), err));
    FT_TRY(given_options(w, &options, err));
    struct ft_json *taken = options;
    options = NULL;
    FT_TRY(ft_json_set(request, "options", taken, err));
    FT_TRY(ft_remote_call(remote, "Fit", FT_V1_FIT_REQUEST, request, FT_V1_RUN, run, err));
done:
    ft_json_free(options);
    ft_json_free(request);
    return st;
}

/* What goes there first: model, data, data to measure with. */
struct there {
    char *model;
    struct data train, eval;
};

/* A model may be large: what can fail at once does so before it goes. */
static enum ft_status send_all(struct ft_remote *remote, const struct wish *w, struct there *there,
                               struct ft_err *err)
{
    there->train =
        (struct data){.path = w->args.n_positional == 2 ? w->args.positional[1] : NULL, .wanted = w->dataset};
    there->eval = (struct data){.path = w->eval, .wanted = w->eval_dataset};
    FT_RETURN_IF_FAILED(look_at(remote, &there->train, err));
    FT_RETURN_IF_FAILED(look_at(remote, &there->eval, err));
    FT_RETURN_IF_FAILED(ft_remote_model(remote, w->args.positional[0], w->output.quiet, &there->model, err));
    FT_RETURN_IF_FAILED(send_data(remote, &there->train, w->output.quiet, err));
    return send_data(remote, &there->eval, w->output.quiet, err);
}

static enum ft_status watch_and_fetch(struct ft_remote *remote, const struct wish *w, const char *id,
                                      struct ft_err *err)
{
    struct ft_json *run = NULL;
    const char *status = NULL;
    enum ft_status st = ft_remote_watch(remote, id, 0, w->output.quiet, w->output.json, &run, err);
    if (st == FT_CANCELLED || st == FT_UNAVAILABLE) {
        ft_remote_hint(remote, id);
    }
    FT_TRY(st);
    status = ft_json_text(ft_json_get(run, "status"), NULL);
    if (w->out != NULL && status != NULL && strcmp(status, "FINISHED") == 0) {
        FT_TRY(ft_remote_pull(remote, id, w->out, w->output.quiet, err));
    }
    FT_TRY(ft_remote_tell(run, w->out, w->output.json, err));
    if (w->out == NULL && !w->output.json) {
        (void)fprintf(stderr,
                      "the service serves the tuned model as '%s'; fetch it with:\n  finetuner pull %s", id,
                      id);
        ft_remote_print_options(remote);
        (void)fputs(" --out tuned.zip\n", stderr);
    }
done:
    ft_json_free(run);
    return st;
}

static enum ft_status run_there(struct ft_remote *remote, const struct wish *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct there there = {0};
    struct ft_json *run = NULL;
    FT_TRY(send_all(remote, w, &there, err));
    FT_TRY(ask(remote, w, there.model, there.train.name, there.eval.name, &run, err));
    const char *id = ft_json_text(ft_json_get(run, "id"), NULL);
    const char *status = ft_json_text(ft_json_get(run, "status"), NULL);
    if (id == NULL) {
        st = FT_FAIL(err, CORRUPT, "the service started a run without an id");
        goto done;
    }
    if (!w->output.quiet && !w->detach) {
        bool waits = status != NULL && strcmp(status, "CREATED") == 0;
        (void)fprintf(stderr, "run %s%s; Ctrl-C ends the watching, not the run\n", id,
                      waits ? " waits for its turn" : "");
    }
    if (!w->detach) {
        FT_TRY(watch_and_fetch(remote, w, id, err));
    } else if (w->output.json) {
        FT_TRY(ft_print_json(run, err));
    } else {
        printf("%s\n", id);
        ft_remote_hint(remote, id);
    }
done:
    ft_json_free(run);
    ft_free(there.model);
    data_release(&there.train);
    data_release(&there.eval);
    return st;
}

enum ft_status ft_remote_fit(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    FT_TRY(read_wish(argc, argv, &w, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    FT_TRY(run_there(&remote, &w, err));
done:
    ft_remote_close(&remote);
    ft_fit_options_release(&w.options);
    return st;
}
