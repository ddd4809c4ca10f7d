/* datasets with --server: what calls of finetuner.v1 tell of them and do to them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/cli/remote.h"

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *ids[FT_ARGS_MAX];
    size_t n_ids;
    struct ft_output output;
};

static bool is(const struct wish *w, const char *verb)
{
    return w->args.n_positional > 0 && strcmp(w->args.positional[0], verb) == 0;
}

static enum ft_status check_verb(const struct wish *w, struct ft_err *err)
{
    if (!is(w, "verify") && !is(w, "export") && !is(w, "compact")) {
        return FT_OK;
    }
    return FT_FAIL(
        err, USAGE,
        "%s reads the service's folder: on its machine `finetuner datasets %s %s%s --workspace DIR`%s",
        w->args.positional[0], w->args.positional[0],
        w->args.n_positional > 1 ? w->args.positional[1] : "NAME", is(w, "export") ? " --out FILE.bin" : "",
        is(w, "compact") ? ", while it is stopped; it does so by itself in time" : "");
}

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_verb_flag, &w->args, err));
    FT_RETURN_IF_FAILED(check_verb(w, err)); /* first: its options are none of ours */
    for (int i = 0; i < w->args.n_options; i++) {
        const char *key = w->args.key[i];
        const char *value = w->args.value[i];
        bool known = false;
        FT_RETURN_IF_FAILED(ft_remote_verb_option(&w->remote, &w->output, key, value, &known, err));
        if (strcmp(key, "id") == 0) {
            w->ids[w->n_ids++] = value;
        } else if (strcmp(key, "workspace") == 0) {
            return FT_FAIL(err, USAGE,
                           "--server is a service that runs, --workspace its folder on this machine: one of "
                           "both");
        } else if (!known) {
            return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help datasets lists them)", key);
        }
    }
    return FT_OK;
}

/* ---- list */

/* The figures of one. The key names are those of `datasets list` of a workspace. */
static enum ft_status look_at(struct ft_remote *remote, const char *name, struct ft_json **row,
                              struct ft_err *err)
{
    static const char *const keys[][2] = {
        {"documents", "documents"}, {"labels", "classes"}, {"bytes", "bytes"}};
    enum ft_status st = FT_OK;
    struct ft_json *dataset = NULL;
    struct ft_json *o = NULL;
    *row = NULL;
    FT_TRY(ft_remote_dataset(remote, name, &dataset, err));
    FT_TRY(ft_remote_request("dataset", name, &o, err));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int64_t n = ft_json_int(ft_json_get(dataset, keys[i][1]));
        FT_TRY(ft_json_set(o, keys[i][0], ft_json_of_int(n), err));
    }
    *row = o;
    o = NULL;
done:
    ft_json_free(o);
    ft_json_free(dataset);
    return st;
}

static void print_rows(const struct ft_json *rows)
{
    static const char *const keys[] = {"documents", "labels", "bytes"};
    printf("%-24s %14s %12s %18s\n", "dataset", "documents", "labels", "bytes");
    for (size_t i = 0; i < ft_json_count(rows); i++) {
        const struct ft_json *r = ft_json_at(rows, i);
        char text[3][FT_COUNT_TEXT];
        for (size_t k = 0; k < 3; k++) {
            (void)ft_count_text(ft_json_int(ft_json_get(r, keys[k])), text[k]);
        }
        printf("%-24s %14s %12s %18s\n", ft_v1_text(r, "dataset"), text[0], text[1], text[2]);
    }
}

/* One that goes between two calls is passed over. One that is damaged is told of at the end: those beside it
 * are listed all the same. */
static enum ft_status rows_of(struct ft_remote *remote, const struct ft_json *names, struct ft_json *rows,
                              struct ft_err *broken, struct ft_err *err)
{
    for (size_t i = 0; i < ft_json_count(names); i++) {
        struct ft_json *row = NULL;
        struct ft_err why = {0};
        const char *name = ft_v1_text(ft_json_at(names, i), "name");
        enum ft_status st = look_at(remote, name, &row, &why);
        if (st == FT_INTERNAL) {
            ft_datasets_broken(broken, &why, name);
        } else if (st != FT_OK && st != FT_NOT_FOUND) {
            *err = why;
            return st;
        }
        FT_RETURN_IF_FAILED(row != NULL ? ft_json_push(rows, row, err) : FT_OK);
    }
    return FT_OK;
}

static enum ft_status list(struct ft_remote *remote, const struct wish *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_err broken = {0};
    struct ft_json *names = NULL;
    struct ft_json *rows = ft_json_array();
    if (rows == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory listing");
    }
    FT_TRY(ft_remote_list(remote, "ListDatasets", FT_V1_LIST_DATASETS_REQUEST, FT_V1_LIST_DATASETS_RESPONSE,
                          "datasets", &names, err));
    FT_TRY(rows_of(remote, names, rows, &broken, err));
    if (w->output.json) {
        struct ft_json *taken = rows;
        rows = NULL;
        FT_TRY(ft_print_json_list("datasets", taken, err));
    } else {
        print_rows(rows);
    }
    if (broken.code != FT_OK) {
        *err = broken;
        st = broken.code;
    }
done:
    ft_json_free(rows);
    ft_json_free(names);
    return st;
}

/* ---- delete */

static enum ft_status delete_ids(struct ft_remote *remote, const struct wish *w, const char *name,
                                 int64_t *count, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_json *answer = NULL;
    struct ft_json *ids = ft_json_array();
    if (ids == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory");
    }
    FT_TRY(ft_remote_request("dataset", name, &request, err));
    for (size_t i = 0; i < w->n_ids; i++) {
        struct ft_json *id = ft_json_of_text(w->ids[i]);
        FT_TRY(id != NULL ? ft_json_push(ids, id, err) : FT_FAIL(err, USAGE, "--id is not UTF-8 text"));
    }
    struct ft_json *taken = ids;
    ids = NULL;
    FT_TRY(ft_json_set(request, "ids", taken, err));
    FT_TRY(ft_remote_call(remote, "DeleteDocuments", FT_V1_DELETE_DOCUMENTS_REQUEST, request,
                          FT_V1_DELETE_DOCUMENTS_RESPONSE, &answer, err));
    *count = ft_json_int(ft_json_get(answer, "deleted"));
done:
    ft_json_free(ids);
    ft_json_free(answer);
    ft_json_free(request);
    return st;
}

/* What cannot be read can be deleted all the same: it is not known how much that was. */
static enum ft_status delete_all(struct ft_remote *remote, const char *name, int64_t *count,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_err damaged = {0};
    struct ft_json *request = NULL;
    struct ft_json *row = NULL;
    st = look_at(remote, name, &row, &damaged);
    *count = ft_json_int(ft_json_get(row, "documents"));
    if (st != FT_OK && st != FT_INTERNAL) {
        *err = damaged;
        goto done;
    }
    FT_TRY(ft_remote_request("dataset", name, &request, err));
    st = ft_remote_call(remote, "DeleteDataset", FT_V1_DELETE_DATASET_REQUEST, request,
                        FT_V1_DELETE_DATASET_RESPONSE, NULL, err);
    if (st == FT_NOT_FOUND) { /* it was there: an attempt before, whose answer was lost, did it */
        ft_err_clear(err);
        st = FT_OK;
    }
done:
    ft_json_free(row);
    ft_json_free(request);
    return st;
}

static enum ft_status delete_named(struct ft_remote *remote, const struct wish *w, struct ft_err *err)
{
    int64_t count = 0;
    const char *name = w->args.positional[1];
    FT_RETURN_IF_FAILED(w->n_ids > 0 ? delete_ids(remote, w, name, &count, err)
                                     : delete_all(remote, name, &count, err));
    return ft_datasets_told(name, "deleted", count, w->output.json, err);
}

/* ---- the command */

static enum ft_status check(const struct wish *w, struct ft_err *err)
{
    bool fits = (is(w, "list") && w->args.n_positional == 1 && w->n_ids == 0) ||
                (is(w, "delete") && w->args.n_positional == 2);
    return fits ? FT_OK
                : FT_FAIL(err, USAGE,
                          "usage: finetuner datasets list|delete NAME [--id ID ...] --server "
                          "HOST:PORT");
}

enum ft_status ft_remote_datasets(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    FT_TRY(read_wish(argc, argv, &w, err));
    FT_TRY(check(&w, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    FT_TRY(is(&w, "list") ? list(&remote, &w, err) : delete_named(&remote, &w, err));
done:
    ft_remote_close(&remote);
    return st;
}
