/* datasets: what a service keeps in its workspace, looked at and looked after from a shell. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/runs/runs.h"
#include "executor/store/folder.h"
#include "executor/store/set.h"

struct wish {
    struct ft_args args;
    const char *workspace, *out;
    struct ft_output output;
    const char *ids[FT_ARGS_MAX];
    size_t n_ids;
};

void ft_help_datasets(const char *command)
{
    (void)command;
    puts(
        "A service stores what is pushed to it in datasets, one folder each below WORKSPACE/datasets. "
        "Every\n"
        "Document has an id; one that comes again with other content or another label replaces the first.\n"
        "\n"
        "  list                      datasets with Documents, labels, bytes\n"
        "  verify  NAME ...          read every byte and compare checksums; exit code 3 if one is wrong\n"
        "  export  NAME --out F.bin  Documents as sent, as a DocumentArray file: `finetuner fit MODEL "
        "F.bin`,\n"
        "                            or DocumentArray.load_binary('F.bin', protocol='protobuf') in Python\n"
        "  compact NAME              rewrite it without replaced and deleted Documents (a service does that\n"
        "                            by itself in time)\n"
        "  delete  NAME              the whole dataset\n"
        "  delete  NAME --id ID ...  these Documents\n"
        "\n"
        "On the service's machine, in its folder:\n"
        "  --workspace DIR           the service's workspace (default: workspace)\n"
        "  --json                    one JSON object on standard output\n"
        "list, verify and export work beside a running service; compact and delete need it stopped.\n"
        "\n"
        "From anywhere, list and delete, by a service that runs:\n" FT_REMOTE_HELP "\n"
        "\n"
        "Runs that have begun keep the Documents they began with.\n"
        "\n"
        "Example:\n"
        "  finetuner datasets list --server gpu-box:8080\n"
        "  finetuner datasets delete shoes --id a17 --id a18 --server gpu-box:8080\n"
        "  finetuner datasets verify shoes --workspace /srv/finetuner");
}

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_output_flag, &w->args, err));
    w->workspace = "workspace";
    for (int i = 0; i < w->args.n_options; i++) {
        const char *key = w->args.key[i];
        const char *value = w->args.value[i];
        bool known = false;
        FT_RETURN_IF_FAILED(ft_output_option(&w->output, key, value, &known, err));
        if (strcmp(key, "workspace") == 0) {
            w->workspace = value;
        } else if (strcmp(key, "out") == 0) {
            w->out = value;
        } else if (strcmp(key, "id") == 0) {
            w->ids[w->n_ids++] = value;
        } else if (!known) {
            return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help datasets lists them)", key);
        }
    }
    if (w->args.n_positional < 1) {
        return FT_FAIL(err, USAGE, "usage: finetuner %s", ft_command_find("datasets")->usage);
    }
    return FT_OK;
}

/* The folder of the n-th dataset that is named, which must be there. */
static enum ft_status folder_of(const struct wish *w, const char *name, char **dir, struct ft_err *err)
{
    struct ft_buf tail = {0};
    *dir = NULL;
    if (!ft_dataset_name_valid(name)) {
        return FT_FAIL(err, USAGE, "'%.200s' is no dataset's name", name);
    }
    FT_RETURN_IF_FAILED(ft_buf_printf(&tail, err, "datasets/%s", name));
    enum ft_status st = ft_path_join(w->workspace, (const char *)tail.data, dir, err);
    ft_buf_release(&tail);
    if (st == FT_OK && ft_path_kind(*dir) != FT_PATH_DIR) {
        st = FT_FAIL(err, NOT_FOUND, "there is no dataset '%.200s' in %.600s: `finetuner datasets list`",
                     name, w->workspace);
        ft_free(*dir);
        *dir = NULL;
    }
    return st;
}

static enum ft_status info_json(const char *name, const struct ft_folder_info *info, struct ft_json **out,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = NULL;
    *out = NULL;
    FT_TRY(ft_remote_request("dataset", name, &o, err));
    FT_TRY(ft_json_set(o, "documents", ft_json_of_int((int64_t)info->documents), err));
    FT_TRY(ft_json_set(o, "labels", ft_json_of_int((int64_t)info->classes), err));
    FT_TRY(ft_json_set(o, "replaced", ft_json_of_int((int64_t)info->replaced), err));
    FT_TRY(ft_json_set(o, "shards", ft_json_of_int((int64_t)info->shards), err));
    FT_TRY(ft_json_set(o, "journals", ft_json_of_int((int64_t)info->journals), err));
    FT_TRY(ft_json_set(o, "bytes", ft_json_of_int((int64_t)info->bytes), err));
    *out = o;
    o = NULL;
done:
    ft_json_free(o);
    return st;
}

static void print_head(void)
{
    printf("%-24s %14s %12s %12s %8s %18s\n", "dataset", "documents", "labels", "replaced", "shards",
           "bytes");
}

static void print_row(const char *name, const struct ft_folder_info *info)
{
    char text[5][FT_COUNT_TEXT];
    const size_t counts[] = {info->documents, info->classes, info->replaced, info->shards,
                             (size_t)info->bytes};
    for (size_t i = 0; i < 5; i++) {
        (void)ft_count_text((int64_t)counts[i], text[i]);
    }
    printf("%-24s %14s %12s %12s %8s %18s\n", name, text[0], text[1], text[2], text[3], text[4]);
}

typedef enum ft_status (*look_at)(const char *dir, struct ft_folder_info *info, struct ft_err *err);

enum ft_status ft_workspace_lock(const char *workspace, int *fd, struct ft_err *err)
{
    enum ft_status st = ft_runs_lock(workspace, fd, err);
    if (st != FT_BUSY) {
        return st;
    }
    const struct ft_err why = *err;
    return ft_err_set(err, st, __FILE__, __LINE__,
                      "%.700s; if it is a service, ask it (--server HOST:PORT) or stop it", why.text);
}

void ft_datasets_broken(struct ft_err *last, const struct ft_err *why, const char *name)
{
    struct ft_err named = *why;
    (void)ft_err_wrap(&named, "dataset '%.64s'", name);
    bool kept = last->code == FT_CORRUPT && why->code != FT_CORRUPT;
    if (last->code != FT_OK) {
        (void)fprintf(stderr, "%s\n", kept ? named.text : last->text);
    }
    *last = kept ? *last : named;
}

static enum ft_status look_into(const struct wish *w, const char *name, look_at look,
                                struct ft_folder_info *info, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(folder_of(w, name, &dir, err));
    enum ft_status st = look(dir, info, err);
    ft_free(dir);
    return st;
}

/* A row, or an object of `array`, for each of the names that can be looked at. */
static enum ft_status show(const struct wish *w, const char *const *names, size_t count, look_at look,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_err broken = {0};
    struct ft_json *array = ft_json_array();
    if (array == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory");
    }
    if (!w->output.json) {
        print_head();
    }
    for (size_t i = 0; i < count; i++) {
        struct ft_folder_info info;
        struct ft_json *row = NULL;
        struct ft_err why = {0};
        if (look_into(w, names[i], look, &info, &why) != FT_OK) {
            ft_datasets_broken(&broken, &why, names[i]);
        } else if (w->output.json) {
            FT_TRY(info_json(names[i], &info, &row, err));
            FT_TRY(ft_json_push(array, row, err));
        } else {
            print_row(names[i], &info);
        }
    }
    if (w->output.json) {
        struct ft_json *taken = array;
        array = NULL;
        FT_TRY(ft_print_json_list("datasets", taken, err));
    }
    if (broken.code != FT_OK) {
        *err = broken;
        st = broken.code;
    }
done:
    ft_json_free(array);
    return st;
}

static enum ft_status list(const struct wish *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list names = {0};
    char *dir = NULL;
    FT_TRY(ft_path_join(w->workspace, "datasets", &dir, err));
    if (ft_path_kind(dir) != FT_PATH_DIR) {
        st = FT_FAIL(
            err, NOT_FOUND,
            "%.600s is no workspace of a service: it has no datasets; --workspace DIR names one here, "
            "--server HOST:PORT a service that runs",
            w->workspace);
        goto done;
    }
    FT_TRY(ft_dir_list(dir, &names, err));
    size_t count = 0;
    for (size_t i = 0; i < names.count; i++) {
        char *name = names.names[i];
        if (!ft_dataset_name_hidden(name)) {
            names.names[i] = names.names[count];
            names.names[count++] = name;
        }
    }
    FT_TRY(show(w, (const char *const *)names.names, count, ft_folder_look, err));
done:
    ft_dir_list_release(&names);
    ft_free(dir);
    return st;
}

static enum ft_status told_json(const char *name, const char *what, int64_t count, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *o = NULL;
    FT_TRY(ft_remote_request("dataset", name, &o, err));
    FT_TRY(ft_json_set(o, what, ft_json_of_int(count), err));
    FT_TRY(ft_print_json(o, err));
done:
    ft_json_free(o);
    return st;
}

enum ft_status ft_datasets_told(const char *name, const char *what, int64_t count, bool json,
                                struct ft_err *err)
{
    char text[FT_COUNT_TEXT];
    if (json) {
        return told_json(name, what, count, err);
    }
    printf("%s: %s documents %s\n", name, ft_count_text(count, text), what);
    return FT_OK;
}

static enum ft_status told(const struct wish *w, const char *what, size_t count, struct ft_err *err)
{
    return ft_datasets_told(w->args.positional[1], what, (int64_t)count, w->output.json, err);
}

static enum ft_status export_one(const struct wish *w, const char *dir, struct ft_err *err)
{
    size_t count = 0;
    if (w->out == NULL) {
        return FT_FAIL(err, USAGE, "datasets export needs --out FILE.bin");
    }
    FT_RETURN_IF_FAILED(ft_out_check(w->out, ".bin", NULL, err));
    FT_RETURN_IF_FAILED(ft_folder_export(dir, w->out, &count, err));
    return told(w, "exported", count, err);
}

static enum ft_status compact(const struct wish *w, const char *dir, struct ft_err *err)
{
    struct ft_set *set = NULL;
    FT_RETURN_IF_FAILED(ft_set_open(dir, 0, &set, err));
    enum ft_status st = ft_set_compact(set, err);
    size_t count = (size_t)ft_set_stats(set).ids;
    ft_set_close(set);
    return st == FT_OK ? told(w, "kept", count, err) : st;
}

static enum ft_status delete_ids(const struct wish *w, const char *dir, struct ft_err *err)
{
    struct ft_set *set = NULL;
    struct ft_set_result result;
    struct ft_bytes ids[FT_ARGS_MAX];
    for (size_t i = 0; i < w->n_ids; i++) {
        ids[i] = ft_bytes_of_text(w->ids[i]);
    }
    FT_RETURN_IF_FAILED(ft_set_open(dir, 0, &set, err));
    enum ft_status st = ft_set_delete(set, ids, w->n_ids, &result, err);
    ft_set_close(set);
    return st == FT_OK ? told(w, "deleted", result.deleted, err) : st;
}

static enum ft_status delete_all(const struct wish *w, const char *dir, struct ft_err *err)
{
    struct ft_folder_info info;
    struct ft_err broken = {0};
    if (ft_folder_look(dir, &info, &broken) != FT_OK) {
        info.documents = 0; /* what cannot be read can be deleted all the same */
    }
    FT_RETURN_IF_FAILED(ft_path_remove(dir, err));
    return told(w, "deleted", info.documents, err);
}

/* The verbs that change it: no service may be running there. */
static enum ft_status change(const struct wish *w, const char *verb, const char *dir, struct ft_err *err)
{
    int lock = -1;
    FT_RETURN_IF_FAILED(ft_workspace_lock(w->workspace, &lock, err));
    enum ft_status st = strcmp(verb, "compact") == 0 ? compact(w, dir, err)
                        : w->n_ids > 0               ? delete_ids(w, dir, err)
                                                     : delete_all(w, dir, err);
    (void)close(lock);
    return st;
}

enum ft_status ft_cmd_datasets(int argc, char **argv, struct ft_err *err)
{
    struct wish w = {0};
    char *dir = NULL;
    if (ft_remote_wanted(argc, argv)) {
        return ft_remote_datasets(argc, argv, err);
    }
    FT_RETURN_IF_FAILED(read_wish(argc, argv, &w, err));
    const char *verb = w.args.positional[0];
    const char *const *names = w.args.positional + 1;
    int count = w.args.n_positional - 1;
    if (strcmp(verb, "list") == 0 && count == 0) {
        return list(&w, err);
    }
    if (strcmp(verb, "verify") == 0 && count > 0) {
        return show(&w, names, (size_t)count, ft_folder_verify, err);
    }
    bool exports = strcmp(verb, "export") == 0;
    if (count != 1 || (!exports && strcmp(verb, "compact") != 0 && strcmp(verb, "delete") != 0)) {
        return FT_FAIL(err, USAGE, "usage: finetuner %s", ft_command_find("datasets")->usage);
    }
    FT_RETURN_IF_FAILED(folder_of(&w, names[0], &dir, err));
    enum ft_status st = exports ? export_one(&w, dir, err) : change(&w, verb, dir, err);
    ft_free(dir);
    return st;
}
