#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/cli/cli.h"
#include "executor/train/fit.h"

/* Options of `fit` that are not the job's: where things are and how to print. */
struct fit_args {
    const char *eval, *out;
    bool json, quiet;
};

struct screen {
    struct ft_bar bar;
    bool quiet;
};

static bool is_flag(const char *key)
{
    return strcmp(key, "json") == 0 || strcmp(key, "quiet") == 0 || strcmp(key, "help") == 0 ||
           ft_fit_options_is_flag(key);
}

void ft_help_fit(const char *command)
{
    (void)command;
    struct ft_buf text = {0};
    struct ft_err err = {0};
    puts("Options:\n"
         "  --eval DATA            held-out documents: retrieval quality before and after\n"
         "  --out DIR|FILE.zip     the artifact (default: <model>-tuned.zip in the current folder)\n"
         "  --json                 one JSON object on standard output\n"
         "  --quiet                no progress");
    if (ft_fit_options_help(&text, &err) == FT_OK) {
        (void)fwrite(text.data, 1, text.size, stdout);
    }
    ft_buf_release(&text);
    puts("\nExamples:\n"
         "  finetuner fit classifier.onnx train/ --eval test/ --out tuned.zip\n"
         "  finetuner fit classifier.onnx data.jsonl --freeze all --output-dim 64 --epochs 10\n"
         "  finetuner fit classifier.onnx data.jsonl --loss ContrastiveLoss --miner none \\\n"
         "      --optimizer SGD --optimizer-options '{\"momentum\": 0.9}' --learning-rate 0.01");
}

static void on_progress(void *arg, const struct ft_fit_progress *p)
{
    struct screen *screen = arg;
    char title[64];
    char rest[160];
    (void)snprintf(title, sizeof title, "Training [%" PRId64 "/%" PRId64 "]", p->epoch, p->epochs);
    int n = snprintf(rest, sizeof rest, "loss %.4f  %.0f samples/s", p->loss, p->samples_per_second);
    if (p->active_share >= 0 && n > 0) {
        (void)snprintf(rest + n, sizeof rest - (size_t)n, "  active %.0f%%", 100.0 * p->active_share);
    }
    ft_bar_draw(&screen->bar, title, p->step, p->steps, p->eta_seconds, rest);
}

static void on_stage(void *arg, const char *title, int64_t done, int64_t total, double eta_seconds)
{
    struct screen *screen = arg;
    ft_bar_draw(&screen->bar, title, done, total, eta_seconds, "");
}

static void on_note(void *arg, const char *line)
{
    struct screen *screen = arg;
    ft_bar_clear(&screen->bar);
    if (!screen->quiet) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static void on_metrics(void *arg, const char *when, int64_t epoch, const struct ft_json *metrics)
{
    struct screen *screen = arg;
    ft_bar_clear(&screen->bar);
    if (!screen->quiet && strcmp(when, "epoch") == 0) {
        (void)fprintf(stderr, "epoch %" PRId64 ":", epoch);
        for (struct ft_json_iter *it = ft_json_first(metrics); it != NULL; it = ft_json_next(metrics, it)) {
            if (ft_json_is_number(ft_json_value(it))) {
                (void)fprintf(stderr, " %s %.4f", ft_json_key(it), ft_json_real(ft_json_value(it)));
            }
        }
        (void)fputc('\n', stderr);
    }
}

static enum ft_status read_args(const struct ft_args *args, struct fit_args *mine,
                                struct ft_fit_options *options, struct ft_err *err)
{
    for (int i = 0; i < args->n_options; i++) {
        const char *key = args->key[i];
        const char *value = args->value[i];
        if (strcmp(key, "eval") == 0) {
            mine->eval = value;
        } else if (strcmp(key, "out") == 0) {
            mine->out = value;
        } else if (strcmp(key, "json") == 0) {
            FT_RETURN_IF_FAILED(ft_arg_flag(key, value, &mine->json, err));
        } else if (strcmp(key, "quiet") == 0) {
            FT_RETURN_IF_FAILED(ft_arg_flag(key, value, &mine->quiet, err));
        } else {
            enum ft_status st = ft_fit_options_set(options, key, value, err);
            FT_RETURN_IF_FAILED(st == FT_OK ? st : ft_usage(err));
        }
    }
    return FT_OK;
}

/* "classifier-tuned.zip" for "models/classifier.onnx". */
static enum ft_status default_out(const char *model, char **out, struct ft_err *err)
{
    const char *base = ft_path_base(model);
    size_t stem = strlen(base);
    if (ft_path_has_suffix(base, ".onnx")) {
        stem -= strlen(".onnx");
    } else if (ft_path_has_suffix(base, ".zip")) {
        stem -= strlen(".zip");
    }
    struct ft_buf text = {0};
    enum ft_status st = ft_buf_append(&text, base, stem, err);
    if (st == FT_OK) {
        st = ft_buf_text(&text, stem == 0 ? "model-tuned.zip" : "-tuned.zip", err);
    }
    if (st == FT_OK) {
        st = ft_new_text((const char *)text.data, out, err);
    }
    ft_buf_release(&text);
    return st;
}

/* The command as typed, for the model card, without the folders of this machine. */
static enum ft_status command_text(const struct ft_args *args, struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_text(out, "finetuner fit", err));
    for (int i = 0; i < args->n_positional; i++) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, " %s", ft_path_base(args->positional[i])));
    }
    for (int i = 0; i < args->n_options; i++) {
        const char *key = args->key[i];
        if (strcmp(key, "resume") == 0 || strcmp(key, "json") == 0 || strcmp(key, "quiet") == 0 ||
            strcmp(key, "work-dir") == 0 || strcmp(key, "out") == 0 || strcmp(key, "activation-cache") == 0) {
            continue; /* they do not change what comes out */
        }
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, " --%s", key));
        if (args->value[i] != NULL) {
            bool path = strcmp(key, "eval") == 0;
            FT_RETURN_IF_FAILED(
                ft_buf_printf(out, err, " '%s'", path ? ft_path_base(args->value[i]) : args->value[i]));
        }
    }
    return FT_OK;
}

/* A word that a shell reads back as it is. */
static void print_word(const char *word)
{
    if (word[0] != '\0' &&
        strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=,:+") ==
            strlen(word)) {
        (void)fprintf(stderr, " %s", word);
        return;
    }
    (void)fputs(" '", stderr);
    for (const char *p = word; *p != '\0'; p++) {
        if (*p == '\'') {
            (void)fputs("'\\''", stderr);
        } else {
            (void)fputc(*p, stderr);
        }
    }
    (void)fputc('\'', stderr);
}

static void print_resume(const struct ft_args *args, const struct ft_json *summary)
{
    (void)fprintf(stderr, "stopped after step %" PRId64 " of %" PRId64 ". Go on with:\n  finetuner fit",
                  ft_json_int(ft_json_get(summary, "steps")),
                  ft_json_int(ft_json_get(summary, "steps_planned")));
    for (int i = 0; i < args->n_positional; i++) {
        print_word(args->positional[i]);
    }
    for (int i = 0; i < args->n_options; i++) {
        if (strcmp(args->key[i], "resume") == 0) {
            continue;
        }
        (void)fprintf(stderr, " --%s", args->key[i]);
        if (args->value[i] != NULL) {
            print_word(args->value[i]);
        }
    }
    (void)fputs(" --resume\n", stderr);
}

static void print_summary(const struct ft_json *summary)
{
    const struct ft_json *metrics = ft_json_get(summary, "metrics");
    const struct ft_json *before = ft_json_get(metrics, "before");
    const struct ft_json *after = ft_json_get(metrics, "after");
    if (ft_json_count(after) > 0) {
        printf("%-20s %9s %9s\n", "metric", "before", "after");
        for (struct ft_json_iter *it = ft_json_first(after); it != NULL; it = ft_json_next(after, it)) {
            const struct ft_json *old = ft_json_get(before, ft_json_key(it));
            printf("%-20s %9.4f %9.4f\n", ft_json_key(it), ft_json_real(old),
                   ft_json_real(ft_json_value(it)));
        }
    }
    const char *out = ft_json_text(ft_json_get(summary, "out"), NULL);
    printf("%" PRId64 " steps, %" PRId64 " epochs, %.0f samples/s, %.1f s, peak memory %.0f MB%s%s\n",
           ft_json_int(ft_json_get(summary, "steps")), ft_json_int(ft_json_get(summary, "epochs")),
           ft_json_real(ft_json_get(summary, "samples_per_second")),
           ft_json_real(ft_json_get(summary, "seconds")),
           ft_json_real(ft_json_get(summary, "peak_memory_bytes")) / 1e6, out != NULL ? "\nartifact: " : "",
           out != NULL ? out : "");
}

static enum ft_status run_job(const struct ft_args *args, const struct fit_args *mine,
                              const struct ft_fit_options *options, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *train = NULL;
    struct ft_dataset *eval = NULL;
    char *out = NULL;
    struct ft_buf command = {0};
    struct ft_fit_result result = {0};
    struct screen screen = {.quiet = mine->quiet};
    ft_bar_init(&screen.bar, mine->quiet);
    FT_TRY(ft_out_check(mine->out, ".zip", NULL, err));
    FT_TRY(ft_dataset_open(args->positional[1], true, &train, err));
    if (mine->eval != NULL) {
        FT_TRY(ft_dataset_open(mine->eval, true, &eval, err));
    }
    FT_TRY(mine->out != NULL ? ft_new_text(mine->out, &out, err)
                             : default_out(args->positional[0], &out, err));
    FT_TRY(command_text(args, &command, err));
    struct ft_fit_job job = {.model_path = args->positional[0],
                             .train = train,
                             .eval = eval,
                             .options = options,
                             .out = out,
                             .command = (const char *)command.data,
                             .cancel = ft_cli_cancel(),
                             .events = {&screen, on_progress, on_note, on_metrics, on_stage}};
    st = ft_fit(&job, &result, err);
    ft_bar_clear(&screen.bar);
    FT_TRY(st);
    if (mine->json) {
        FT_TRY(ft_print_json(result.summary, err));
    } else if (!result.cancelled) {
        print_summary(result.summary);
    }
    if (result.cancelled) {
        print_resume(args, result.summary);
        st = FT_FAIL(err, CANCELLED, "the run was stopped before its end");
    }
done:
    ft_json_free(result.summary);
    ft_buf_release(&command);
    ft_free(out);
    ft_dataset_free(eval);
    ft_dataset_free(train);
    return st;
}

enum ft_status ft_cmd_fit(int argc, char **argv, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_args args;
    struct fit_args mine = {0};
    struct ft_fit_options options = {0};
    FT_TRY(ft_args_parse(argc, argv, is_flag, &args, err));
    FT_TRY(ft_fit_options_init(&options, err));
    FT_TRY(ft_args_want(&args, 2, ft_command_find("fit")->usage, err));
    FT_TRY(read_args(&args, &mine, &options, err));
    FT_TRY(run_job(&args, &mine, &options, err));
done:
    ft_fit_options_release(&options);
    return st;
}
