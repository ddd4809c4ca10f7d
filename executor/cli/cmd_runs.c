/* runs, watch, pull: a service's runs, from a shell. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/cli/screen.h"

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *out;
    int64_t from, limit;
    struct ft_output output;
};

void ft_help_runs(const char *command)
{
    if (strcmp(command, "runs") == 0) {
        puts("  runs                   the newest runs\n"
             "  runs RUN               one of them: where it stands, why it failed, its metrics\n"
             "  runs cancel RUN        stop it; it keeps nothing\n"
             "  runs delete RUN        remove one that has ended, its log and its model\n");
    }
    puts("Options:\n" FT_REMOTE_HELP);
    if (strcmp(command, "runs") == 0) {
        puts("  --limit N              how many to list (20)\n"
             "  --json                 one JSON object on standard output\n"
             "\n"
             "Example:\n"
             "  finetuner runs --server gpu-box:8080\n"
             "  finetuner runs cancel 20261126-201530-3fa2 --server gpu-box:8080");
    } else if (strcmp(command, "watch") == 0) {
        puts("  --from N               the first event wanted, from 0; negative: so many from the end (0)\n"
             "  --json                 at the end the object that `finetuner fit --json` prints\n"
             "  --quiet                no progress\n"
             "\n"
             "Ends when the run does, with exit code 0 if it finished well. Ctrl-C ends the watching only.\n"
             "\n"
             "Example:\n"
             "  finetuner watch 20261126-201530-3fa2 --server gpu-box:8080");
    } else {
        puts("  --out DIR|FILE.zip     where to (RUN.zip)\n"
             "  --json                 one JSON object on standard output: run, out\n"
             "  --quiet                no progress\n"
             "\n"
             "The artifact is checked against its SHA-256 and appears under its name only when it is whole; "
             "a\n"
             "stream that is cut is taken up again where it was.\n"
             "\n"
             "Example:\n"
             "  finetuner pull 20261126-201530-3fa2 --server gpu-box:8080 --out tuned.zip\n"
             "  finetuner encode tuned.zip queries.jsonl");
    }
}

static enum ft_status set_option(struct wish *w, const char *command, const char *key, const char *value,
                                 struct ft_err *err)
{
    bool known = false;
    FT_RETURN_IF_FAILED(ft_remote_verb_option(&w->remote, &w->output, key, value, &known, err));
    if (known) {
        return FT_OK;
    }
    if (strcmp(command, "pull") == 0 && strcmp(key, "out") == 0) {
        w->out = value;
        return ft_out_check(value, ".zip", NULL, err);
    }
    if (strcmp(command, "watch") == 0 && strcmp(key, "from") == 0) {
        return ft_arg_int(key, value, -1000000000, 1000000000, &w->from, err);
    }
    if (strcmp(command, "runs") == 0 && strcmp(key, "limit") == 0) {
        return ft_arg_int(key, value, 1, 1000, &w->limit, err);
    }
    return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help %s lists them)", key, command);
}

static enum ft_status read_wish(const char *command, int argc, char **argv, struct wish *w,
                                struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_verb_flag, &w->args, err));
    w->limit = 20;
    for (int i = 0; i < w->args.n_options; i++) {
        FT_RETURN_IF_FAILED(set_option(w, command, w->args.key[i], w->args.value[i], err));
    }
    return FT_OK;
}

/* "2026-11-26T20:15:30.123Z" without the fraction, to read. */
static void print_time(const char *what, const char *time)
{
    if (time[0] != '\0') {
        printf("%-12s %.10s %.8s UTC\n", what, time, strlen(time) > 11 ? time + 11 : "");
    }
}

static void print_table(const struct ft_json *runs)
{
    printf("%-24s %-10s %-20s %-20s %-19s %s\n", "run", "status", "model", "dataset", "created (UTC)",
           "name");
    for (size_t i = 0; i < ft_json_count(runs); i++) {
        const struct ft_json *r = ft_json_at(runs, i);
        const char *created = ft_v1_text(r, "created");
        const char *name = ft_v1_text(r, "name");
        printf("%-24s %-10s %-20s %-20s %.10s %.8s %s\n", ft_v1_text(r, "id"), ft_v1_text(r, "status"),
               ft_v1_text(r, "model")[0] != '\0' ? ft_v1_text(r, "model") : "(configured)",
               ft_v1_text(r, "dataset"), created, strlen(created) > 11 ? created + 11 : "",
               strcmp(name, ft_v1_text(r, "id")) != 0 ? name : "");
    }
}

static void print_metrics(const struct ft_json *metrics)
{
    const struct ft_json *before = ft_json_get(metrics, "before");
    const struct ft_json *after = ft_json_get(metrics, "after");
    if (ft_json_count(after) > 0) {
        ft_print_before_after(before, after);
    }
}

static void print_run(const struct ft_json *run)
{
    const struct ft_json *progress = ft_json_get(run, "progress");
    static const char *const texts[] = {"id", "name", "status", "reason", "model", "dataset", "eval_dataset"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (ft_v1_text(run, texts[i])[0] != '\0') {
            printf("%-12s %s\n", texts[i], ft_v1_text(run, texts[i]));
        }
    }
    print_time("created", ft_v1_text(run, "created"));
    print_time("started", ft_v1_text(run, "started"));
    print_time("finished", ft_v1_text(run, "finished"));
    if (ft_json_int(ft_json_get(run, "resumes")) > 0) {
        printf("%-12s %" PRId64 "\n", "resumes", ft_json_int(ft_json_get(run, "resumes")));
    }
    if (ft_json_int(ft_json_get(progress, "steps")) > 0) {
        printf("%-12s step %" PRId64 " of %" PRId64 ", epoch %" PRId64 " of %" PRId64 ", loss %.4f\n",
               "progress", ft_json_int(ft_json_get(progress, "step")),
               ft_json_int(ft_json_get(progress, "steps")), ft_json_int(ft_json_get(progress, "epoch")),
               ft_json_int(ft_json_get(progress, "epochs")), ft_json_real(ft_json_get(progress, "loss")));
    }
    print_metrics(ft_json_get(run, "metrics"));
}

static enum ft_status list_runs(struct ft_remote *remote, const struct wish *w, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *answer = NULL;
    struct ft_json *request = ft_json_object();
    if (request == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory asking");
    }
    FT_TRY(ft_json_set(request, "page_size", ft_json_of_int(w->limit), err));
    FT_TRY(ft_remote_call(remote, "ListRuns", FT_V1_LIST_RUNS_REQUEST, request, FT_V1_LIST_RUNS_RESPONSE,
                          &answer, err));
    if (w->output.json) {
        if (ft_json_get(answer, "runs") == NULL) {
            FT_TRY(ft_json_set(answer, "runs", ft_json_array(), err));
        }
        FT_TRY(ft_print_json(answer, err));
    } else {
        print_table(ft_json_get(answer, "runs"));
        if (ft_json_get(answer, "next_page_token") != NULL) {
            printf("... there are older ones: --limit\n");
        }
    }
done:
    ft_json_free(request);
    ft_json_free(answer);
    return st;
}

static enum ft_status one_run(struct ft_remote *remote, const struct wish *w, const char *verb,
                              const char *id, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_json *answer = NULL;
    bool delete = strcmp(verb, "delete") == 0;
    bool cancel = strcmp(verb, "cancel") == 0;
    FT_TRY(ft_remote_request("run", id, &request, err));
    if (delete) {
        FT_TRY(ft_remote_call(remote, "DeleteRun", FT_V1_DELETE_RUN_REQUEST, request,
                              FT_V1_DELETE_RUN_RESPONSE, &answer, err));
        FT_TRY(ft_json_set(answer, "deleted", ft_json_of_text(id), err));
    } else if (cancel) {
        FT_TRY(
            ft_remote_call(remote, "CancelRun", FT_V1_CANCEL_RUN_REQUEST, request, FT_V1_RUN, &answer, err));
    } else {
        FT_TRY(ft_remote_call(remote, "GetRun", FT_V1_GET_RUN_REQUEST, request, FT_V1_RUN, &answer, err));
    }
    if (w->output.json) {
        FT_TRY(ft_print_json(answer, err));
    } else if (delete) {
        printf("run %s is deleted\n", id);
    } else if (cancel) {
        const char *now = ft_v1_text(answer, "status");
        bool goes_on = now[0] == '\0' || strcmp(now, "CREATED") == 0 || strcmp(now, "STARTED") == 0;
        if (goes_on) {
            printf("run %s stops within a step\n", id);
        } else {
            printf("run %s has ended: %s\n", id, now);
        }
    } else {
        print_run(answer);
    }
done:
    ft_json_free(request);
    ft_json_free(answer);
    return st;
}

enum ft_status ft_cmd_runs(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    FT_TRY(read_wish("runs", argc, argv, &w, err));
    const char *first = w.args.n_positional > 0 ? w.args.positional[0] : "";
    bool verb = strcmp(first, "cancel") == 0 || strcmp(first, "delete") == 0;
    if (w.args.n_positional > (verb ? 2 : 1) || (verb && w.args.n_positional != 2)) {
        st = FT_FAIL(err, USAGE, "usage: finetuner %s", ft_command_find("runs")->usage);
        goto done;
    }
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    if (w.args.n_positional == 0) {
        FT_TRY(list_runs(&remote, &w, err));
    } else {
        FT_TRY(one_run(&remote, &w, verb ? first : "", w.args.positional[verb ? 1 : 0], err));
    }
done:
    ft_remote_close(&remote);
    return st;
}

enum ft_status ft_cmd_watch(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    struct ft_json *run = NULL;
    FT_TRY(read_wish("watch", argc, argv, &w, err));
    FT_TRY(ft_args_want(&w.args, 1, ft_command_find("watch")->usage, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    const char *id = w.args.positional[0];
    st = ft_remote_watch(&remote, id, w.from, w.output.quiet, w.output.json, &run, err);
    if (st == FT_CANCELLED) {
        ft_remote_hint(&remote, id);
    }
    FT_TRY(st);
    FT_TRY(ft_remote_tell(run, NULL, w.output.json, err));
done:
    ft_json_free(run);
    ft_remote_close(&remote);
    return st;
}

static enum ft_status tell_pulled(const char *id, const char *out, bool json, struct ft_err *err)
{
    struct ft_json *told = NULL;
    if (!json) {
        printf("artifact: %s\n", out);
        return FT_OK;
    }
    enum ft_status st = ft_remote_request("run", id, &told, err);
    st = st == FT_OK ? ft_json_set(told, "out", ft_json_of_text(out), err) : st;
    st = st == FT_OK ? ft_print_json(told, err) : st;
    ft_json_free(told);
    return st;
}

enum ft_status ft_cmd_pull(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    struct ft_buf name = {0};
    FT_TRY(read_wish("pull", argc, argv, &w, err));
    FT_TRY(ft_args_want(&w.args, 1, ft_command_find("pull")->usage, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    const char *id = w.args.positional[0];
    FT_TRY(ft_buf_printf(&name, err, "%s.zip", ft_path_base(id)));
    const char *out = w.out != NULL ? w.out : (const char *)name.data;
    FT_TRY(ft_remote_pull(&remote, id, out, w.output.quiet, err));
    FT_TRY(tell_pulled(id, out, w.output.json, err));
done:
    ft_buf_release(&name);
    ft_remote_close(&remote);
    return st;
}
