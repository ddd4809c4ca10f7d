#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"
#include "executor/cli/screen.h"
#include "executor/model/artifact.h"
#include "executor/train/fit.h"

/* Options of `fit` that are not the job's: where things are and how to print. */
struct fit_args {
    const char *eval, *out;
    struct ft_output output;
};

static bool is_flag(const char *key)
{
    return ft_output_flag(key) || strcmp(key, "detach") == 0 || ft_fit_options_is_flag(key);
}

static bool is_of_services(const char *key)
{
    return strcmp(key, "dataset") == 0 || strcmp(key, "eval-dataset") == 0 || strcmp(key, "detach") == 0 ||
           strcmp(key, "idempotency-key") == 0;
}

void ft_help_fit(const char *command)
{
    (void)command;
    struct ft_buf text = {0};
    struct ft_err err = {0};
    puts(FT_MODEL_DATA_HELP
         "\n"
         "\n"
         "Options:\n"
         "  --eval DATA            held-out documents: retrieval quality before and after\n"
         "  --out DIR|FILE.zip     the artifact (default: <model>-tuned.zip in the current folder)\n"
         "  --json                 one JSON object on standard output\n"
         "  --quiet                no progress");
    if (ft_fit_options_help(&text, &err) == FT_OK) {
        (void)fwrite(text.data, 1, text.size, stdout);
    }
    ft_buf_release(&text);
    puts(
        "\nExamples:\n"
        "  finetuner fit classifier.onnx train/ --eval test/ --out tuned.zip\n"
        "  finetuner fit classifier.onnx data.jsonl --freeze all --output-dim 64 --epochs 10\n"
        "  finetuner fit classifier.onnx data.jsonl --loss ContrastiveLoss --miner none \\\n"
        "      --optimizer SGD --optimizer-options '{\"momentum\": 0.9}' --learning-rate 0.01\n"
        "\n"
        "By a running service. MODEL is a name or a run there, or a file or folder here, which is sent to it "
        "once,\n"
        "with the files that it is read with and no others; a cut command goes on where it was. DATA is "
        "pushed to it,\n"
        "or --dataset names what it has:\n" FT_REMOTE_HELP "\n"
        "  --dataset NAME         where DATA goes (a name made of DATA's own); without DATA: what to train "
        "on\n"
        "  --eval-dataset NAME    instead of --eval: documents that the service has\n"
        "  --detach               print the run's id and go; Ctrl-C does the same later, the run goes on\n"
        "  --idempotency-key KEY  the same key is the same run, whoever asks again (a random one)\n"
        "  --out DIR|FILE.zip     fetch the artifact at the end\n"
        "  finetuner fit ./classifier.onnx train.jsonl --eval test.jsonl --server gpu-box:8080 --out "
        "tuned.zip\n"
        "  finetuner fit classifier --dataset shoes --epochs 10 --server gpu-box:8080 --detach");
}

static enum ft_status read_args(const struct ft_args *args, struct fit_args *mine,
                                struct ft_fit_options *options, struct ft_err *err)
{
    for (int i = 0; i < args->n_options; i++) {
        const char *key = args->key[i];
        const char *value = args->value[i];
        bool known = false;
        FT_RETURN_IF_FAILED(ft_output_option(&mine->output, key, value, &known, err));
        if (strcmp(key, "eval") == 0) {
            mine->eval = value;
        } else if (strcmp(key, "out") == 0) {
            mine->out = value;
        } else if (!known && is_of_services(key)) {
            return FT_FAIL(err, USAGE, "--%s goes with --server HOST:PORT", key);
        } else if (!known) {
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
        if (strcmp(key, "resume") == 0 || ft_output_flag(key) || strcmp(key, "work-dir") == 0 ||
            strcmp(key, "out") == 0 || strcmp(key, "activation-cache") == 0) {
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

static enum ft_status run_job(const struct ft_args *args, const struct fit_args *mine,
                              const struct ft_fit_options *options, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *train = NULL;
    struct ft_dataset *eval = NULL;
    char *out = NULL;
    struct ft_buf command = {0};
    struct ft_fit_result result = {0};
    struct ft_screen screen;
    ft_screen_init(&screen, mine->output.quiet, mine->output.json);
    FT_TRY(ft_out_check(mine->out, ".zip", NULL, err));
    FT_TRY(ft_dataset_open(args->positional[1], true, &train, err));
    if (mine->eval != NULL) {
        FT_TRY(ft_dataset_open(mine->eval, true, &eval, err));
    }
    FT_TRY(mine->out != NULL ? ft_new_text(mine->out, &out, err)
                             : default_out(args->positional[0], &out, err));
    FT_TRY(ft_out_apart(out, args->positional[0], err));
    FT_TRY(ft_artifact_check_place(out, err));
    FT_TRY(command_text(args, &command, err));
    struct ft_fit_job job = {.model_path = args->positional[0],
                             .train = train,
                             .eval = eval,
                             .options = options,
                             .out = out,
                             .command = (const char *)command.data,
                             .cancel = ft_cli_cancel(),
                             .events = ft_screen_events(&screen)};
    st = ft_fit(&job, &result, err);
    ft_bar_clear(&screen.bar);
    FT_TRY(st);
    if (mine->output.json) {
        FT_TRY(ft_print_json(result.summary, err));
    } else if (!result.cancelled) {
        ft_screen_summary(result.summary);
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
    if (ft_remote_wanted(argc, argv)) {
        return ft_remote_fit(argc, argv, err);
    }
    FT_TRY(ft_args_parse(argc, argv, is_flag, &args, err));
    FT_TRY(ft_fit_options_init(&options, err));
    FT_TRY(read_args(&args, &mine, &options, err));
    FT_TRY(ft_args_want(&args, 2, ft_command_find("fit")->usage, err));
    FT_TRY(run_job(&args, &mine, &options, err));
done:
    ft_fit_options_release(&options);
    return st;
}
