/* push: DATA of a shell to a dataset of a service. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/clock.h"
#include "executor/cli/remote.h"

struct wish {
    struct ft_args args;
    struct ft_remote_args remote;
    const char *dataset;
    struct ft_output output;
};

void ft_help_push(const char *command)
{
    (void)command;
    puts(
        "Options:\n" FT_REMOTE_HELP "\n"
        "  --dataset NAME         where to; it is made when missing (default)\n"
        "  --json                 one JSON object on standard output\n"
        "  --quiet                no progress\n"
        "\n"
        "DATA  what `finetuner fit` reads: .jsonl, .csv, a folder of class folders, a DocumentArray .bin, or "
        "-\n"
        "      for JSONL on standard input. Files that it names are read here.\n"
        "\n"
        "What the bar counts is on the service's disk. A stream that is cut is taken up again behind the "
        "last\n"
        "of those; the same push again stores nothing twice, since a Document is known by its id, or by its\n"
        "content and label where it has none.\n"
        "\n"
        "Example:\n"
        "  finetuner push train.jsonl --server gpu-box:8080 --dataset shoes\n"
        "  finetuner fit classifier --server gpu-box:8080 --dataset shoes");
}

static enum ft_status read_wish(int argc, char **argv, struct wish *w, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_verb_flag, &w->args, err));
    w->dataset = "default";
    for (int i = 0; i < w->args.n_options; i++) {
        const char *key = w->args.key[i];
        const char *value = w->args.value[i];
        bool known = false;
        FT_RETURN_IF_FAILED(ft_remote_verb_option(&w->remote, &w->output, key, value, &known, err));
        if (strcmp(key, "dataset") == 0) {
            w->dataset = value;
        } else if (!known) {
            return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help push lists them)", key);
        }
    }
    return ft_args_want(&w->args, 1, ft_command_find("push")->usage, err);
}

static enum ft_status print_result(const struct wish *w, const struct ft_push_result *r, double seconds,
                                   struct ft_err *err)
{
    char text[4][FT_COUNT_TEXT];
    if (!w->output.json) {
        printf("pushed %s documents to dataset '%s': %s stored, %s there already, %.1f s",
               ft_count_text((int64_t)r->documents, text[0]), w->dataset,
               ft_count_text((int64_t)r->stored, text[1]), ft_count_text((int64_t)r->duplicates, text[2]),
               seconds);
        if (r->total_known) {
            printf("; it has %s now", ft_count_text((int64_t)r->total, text[3]));
        }
        puts("");
        return FT_OK;
    }
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory");
    }
    FT_TRY(ft_json_set(json, "dataset", ft_json_of_text(w->dataset), err));
    FT_TRY(ft_json_set(json, "documents", ft_json_of_int((int64_t)r->documents), err));
    FT_TRY(ft_json_set(json, "stored", ft_json_of_int((int64_t)r->stored), err));
    FT_TRY(ft_json_set(json, "duplicates", ft_json_of_int((int64_t)r->duplicates), err));
    if (r->total_known) {
        FT_TRY(ft_json_set(json, "total", ft_json_of_int((int64_t)r->total), err));
    }
    FT_TRY(ft_json_set(json, "messages", ft_json_of_int((int64_t)r->messages), err));
    FT_TRY(ft_json_set(json, "retries", ft_json_of_int((int64_t)r->retries), err));
    FT_TRY(ft_json_set(json, "seconds", ft_json_of_real(seconds), err));
    FT_TRY(ft_print_json(json, err));
done:
    ft_json_free(json);
    return st;
}

enum ft_status ft_cmd_push(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct wish w = {0};
    struct ft_remote remote = {0};
    struct ft_dataset *data = NULL;
    struct ft_push_result result;
    FT_TRY(read_wish(argc, argv, &w, err));
    FT_TRY(ft_remote_open(&w.remote, &remote, err));
    FT_TRY(ft_dataset_open(w.args.positional[0], true, &data, err));
    double start = ft_clock_seconds();
    FT_TRY(ft_remote_push(&remote, w.dataset, data, w.output.quiet, &result, err));
    FT_TRY(print_result(&w, &result, ft_clock_seconds() - start, err));
done:
    ft_dataset_free(data);
    ft_remote_close(&remote);
    return st;
}
