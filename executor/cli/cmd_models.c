/* models: what a service can tune and encode with beside its runs, looked at and removed from a shell: of a
 * service that runs, or in its workspace. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/runs/runs.h"
#include "executor/server/stored.h"
#include "executor/store/folder.h"

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *workspace; /* NULL: not named */
    struct ft_output output;
};

void ft_help_models(const char *command)
{
    (void)command;
    puts("A service tunes and encodes with the model it was started with, with tuned ones (see `finetuner "
         "runs`),\n"
         "and with those in WORKSPACE/models: sent by `fit` or `encode --server`, or put there by hand, a "
         "NAME.onnx,\n"
         "a NAME.zip or a folder.\n"
         "\n"
         "  list           names, bytes, how each came there, and the SHA-256 of what one that was sent is "
         "made of\n"
         "  delete NAME    one in WORKSPACE/models. What was tuned from it stays; a run that waits for its "
         "turn\n"
         "                 with it will fail. The configured model goes when the service is started with "
         "another,\n"
         "                 a tuned one with `finetuner runs delete RUN`\n"
         "\n"
         "Of a service that runs:\n" FT_REMOTE_HELP "\n"
         "\n"
         "Or on its machine, in its folder; delete needs it stopped:\n"
         "  --workspace DIR        the service's workspace (default: workspace)\n"
         "\n"
         "  --json                 one JSON object on standard output\n"
         "\n"
         "Example:\n"
         "  finetuner models list --server gpu-box:8080\n"
         "  finetuner models delete minilm-3f0a1b2c4d5e --server gpu-box:8080");
}

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_verb_flag, &w->args, err));
    for (int i = 0; i < w->args.n_options; i++) {
        const char *key = w->args.key[i];
        bool known = false;
        FT_RETURN_IF_FAILED(
            ft_remote_verb_option(&w->remote, &w->output, key, w->args.value[i], &known, err));
        if (strcmp(key, "workspace") == 0) {
            w->workspace = w->args.value[i];
        } else if (!known) {
            return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help models lists them)", key);
        }
    }
    const char *verb = w->args.n_positional > 0 ? w->args.positional[0] : "";
    bool lists = strcmp(verb, "list") == 0 && w->args.n_positional == 1;
    bool deletes = strcmp(verb, "delete") == 0 && w->args.n_positional == 2;
    if (!lists && !deletes) {
        return FT_FAIL(err, USAGE, "usage: finetuner %s", ft_command_find("models")->usage);
    }
    if (w->remote.server != NULL && w->workspace != NULL) {
        return FT_FAIL(
            err, USAGE,
            "--server is a service that runs, --workspace its folder on this machine: one of both");
    }
    if (w->remote.server == NULL &&
        (w->remote.tls || w->remote.tls_ca != NULL || w->remote.tls_cert != NULL)) {
        return FT_FAIL(err, USAGE, "--tls... is how to talk to --server HOST:PORT, which is not named");
    }
    w->workspace = w->workspace != NULL ? w->workspace : "workspace";
    return FT_OK;
}

/* ---- list */

struct model {
    const char *name, *sha256; /* sha256 "": put there by hand */
    bool configured;
    int64_t bytes; /* 0: not known */
};

static enum ft_status add(struct ft_json *rows, const struct model *m, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = NULL;
    FT_TRY(ft_remote_request("model", m->name, &o, err));
    FT_TRY(ft_json_set(o, "configured", ft_json_of_bool(m->configured), err));
    FT_TRY(ft_json_set(o, "bytes", ft_json_of_int(m->bytes), err));
    FT_TRY(ft_json_set(o, "sha256", ft_json_of_text(m->sha256), err));
    st = ft_json_push(rows, o, err);
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

static enum ft_status rows_there(const struct wish *w, struct ft_json *rows, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_remote remote = {0};
    struct ft_json *all = NULL;
    FT_TRY(ft_remote_open(&w->remote, &remote, err));
    FT_TRY(ft_remote_list(&remote, "ListModels", FT_V1_LIST_MODELS_REQUEST, FT_V1_LIST_MODELS_RESPONSE,
                          "models", &all, err));
    for (size_t i = 0; i < ft_json_count(all); i++) {
        const struct ft_json *m = ft_json_at(all, i);
        const struct model model = {.name = ft_v1_text(m, "name"),
                                    .sha256 = ft_v1_text(m, "sha256"),
                                    .configured = ft_json_bool(ft_json_get(m, "configured")),
                                    .bytes = ft_json_int(ft_json_get(m, "bytes"))};
        FT_TRY(add(rows, &model, err));
    }
done:
    ft_json_free(all);
    ft_remote_close(&remote);
    return st;
}

/* *dir: WORKSPACE/models, the caller's. */
static enum ft_status folder_of(const struct wish *w, char **dir, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_path_join(w->workspace, "models", dir, err));
    if (ft_path_kind(*dir) == FT_PATH_DIR) {
        return FT_OK;
    }
    ft_free(*dir);
    *dir = NULL;
    return FT_FAIL(err, NOT_FOUND,
                   "%.600s is no workspace of a service: it has no models; --workspace DIR names one here, "
                   "--server HOST:PORT a service that runs",
                   w->workspace);
}

/* What is damaged is found all the same: it can be removed. root NULL: there is none of that name. */
static enum ft_status find(const char *dir, const char *name, struct ft_stored *stored, struct ft_err *err)
{
    enum ft_status st = ft_stored_find(dir, name, stored, err);
    if (st == FT_CORRUPT) {
        ft_err_clear(err);
        return FT_OK;
    }
    return st;
}

static enum ft_status rows_here(const struct wish *w, struct ft_json *rows, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list names = {0};
    char *dir = NULL;
    FT_TRY(folder_of(w, &dir, err));
    FT_TRY(ft_dir_list(dir, &names, err));
    for (size_t i = 0; i < names.count && st == FT_OK; i++) {
        struct ft_stored stored = {0};
        if (!ft_dataset_name_valid(names.names[i])) {
            continue; /* an upload in the middle, or no name that anybody can say */
        }
        st = find(dir, names.names[i], &stored, err);
        if (st == FT_OK && stored.root != NULL) {
            const struct model model = {
                .name = names.names[i], .sha256 = stored.sha256, .bytes = (int64_t)stored.bytes};
            st = add(rows, &model, err);
        }
        ft_stored_release(&stored);
    }
done:
    ft_dir_list_release(&names);
    ft_free(dir);
    return st;
}

static void print_rows(const struct ft_json *rows)
{
    printf("%-32s %16s  %-10s %s\n", "model", "bytes", "came", "sha256");
    for (size_t i = 0; i < ft_json_count(rows); i++) {
        const struct ft_json *m = ft_json_at(rows, i);
        char text[FT_COUNT_TEXT];
        int64_t bytes = ft_json_int(ft_json_get(m, "bytes"));
        const char *sha256 = ft_v1_text(m, "sha256");
        bool configured = ft_json_bool(ft_json_get(m, "configured"));
        printf("%-32s %16s  %-10s %.12s\n", ft_v1_text(m, "model"),
               bytes > 0 ? ft_count_text(bytes, text) : "-",
               configured          ? "configured"
               : sha256[0] != '\0' ? "sent"
                                   : "by hand",
               sha256);
    }
}

static enum ft_status list(const struct wish *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *rows = ft_json_array();
    if (rows == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory listing");
    }
    FT_TRY(w->remote.server != NULL ? rows_there(w, rows, err) : rows_here(w, rows, err));
    if (w->output.json) {
        struct ft_json *taken = rows;
        rows = NULL;
        FT_TRY(ft_print_json_list("models", taken, err));
    } else {
        print_rows(rows);
    }
done:
    ft_json_free(rows);
    return st;
}

/* ---- delete */

static enum ft_status delete_there(const struct wish *w, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_remote remote = {0};
    struct ft_json *request = NULL;
    FT_TRY(ft_remote_open(&w->remote, &remote, err));
    FT_TRY(ft_remote_request("model", name, &request, err));
    st = ft_remote_call(&remote, "DeleteModel", FT_V1_DELETE_MODEL_REQUEST, request,
                        FT_V1_DELETE_MODEL_RESPONSE, NULL, err);
done:
    ft_json_free(request);
    ft_remote_close(&remote);
    return st;
}

static enum ft_status delete_here(const struct wish *w, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_stored stored = {0};
    char *dir = NULL;
    int lock = -1;
    FT_TRY(folder_of(w, &dir, err));
    FT_TRY(ft_workspace_lock(w->workspace, &lock, err));
    FT_TRY(find(dir, name, &stored, err));
    st = stored.root != NULL
             ? ft_path_remove(stored.root, err)
             : FT_FAIL(err, NOT_FOUND, "there is no model '%.64s' in %.600s: `finetuner models list`", name,
                       w->workspace);
done:
    if (lock >= 0) {
        (void)close(lock);
    }
    ft_stored_release(&stored);
    ft_free(dir);
    return st;
}

static enum ft_status delete_named(const struct wish *w, struct ft_err *err)
{
    const char *name = w->args.positional[1];
    struct ft_json *told = NULL;
    FT_RETURN_IF_FAILED(w->remote.server != NULL ? delete_there(w, name, err) : delete_here(w, name, err));
    if (!w->output.json) {
        printf("model %s is deleted\n", name);
        return FT_OK;
    }
    enum ft_status st = ft_remote_request("deleted", name, &told, err);
    st = st == FT_OK ? ft_print_json(told, err) : st;
    ft_json_free(told);
    return st;
}

enum ft_status ft_cmd_models(int argc, char **argv, struct ft_err *err)
{
    struct wish w = {0};
    FT_RETURN_IF_FAILED(read_wish(argc, argv, &w, err));
    return strcmp(w.args.positional[0], "list") == 0 ? list(&w, err) : delete_named(&w, err);
}
