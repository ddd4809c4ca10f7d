/*
 * cli.h - what the subcommands share: the table of commands, common options, exit codes, ways to print.
 *
 * Tables and JSON go to stdout; progress, notes and errors to stderr. One thread, the main one.
 */
#ifndef FT_CLI_CLI_H
#define FT_CLI_CLI_H

#include "executor/base/thread.h"
#include "executor/cli/args.h"
#include "executor/codec/json.h"
#include "executor/model/model.h"
#include "executor/model/tailor.h"
#include "executor/store/dataset.h"

struct ft_command {
    const char *name;
    const char *usage;                                                /* after "finetuner " */
    const char *summary;                                              /* one line */
    enum ft_status (*run)(int argc, char **argv, struct ft_err *err); /* argv after the command's name */
    void (*help)(const char *command); /* what --help prints below usage and summary; NULL: nothing */
};
const struct ft_command *ft_command_find(const char *name); /* NULL: none */
const struct ft_command *ft_command_at(int i);              /* NULL beyond the last */
void ft_command_help(const struct ft_command *command);

/* What `finetuner help TOPIC` tells of beside commands: lists that would drown their options. */
struct ft_topic {
    const char *name;
    const char *summary; /* one line */
    enum ft_status (*text)(struct ft_buf *out, struct ft_err *err);
};
const struct ft_topic *ft_topic_find(const char *name); /* NULL: none */
const struct ft_topic *ft_topic_at(int i);              /* NULL beyond the last */
void ft_topic_help(const struct ft_topic *topic);
#define FT_MODEL_DATA_HELP                                                                                   \
    "MODEL  an .onnx file, a Hugging Face or sentence-transformers folder, or an artifact of `finetuner "    \
    "fit` (folder\n"                                                                                         \
    "       or .zip)\n"                                                                                      \
    "DATA   .jsonl (one {\"text\" | \"uri\" | \"blob\" | \"tensor\": ..., \"label\": ...} a line), .csv of " \
    "content and label,\n"                                                                                   \
    "       a folder of class folders, a DocumentArray .bin, or - for JSONL on standard input"

enum ft_status ft_cmd_fit(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_encode(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_evaluate(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_inspect(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_tailor(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_serve(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_datasets(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_models(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_push(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_runs(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_watch(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_pull(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_worker(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_ping(int argc, char **argv, struct ft_err *err);
enum ft_status ft_cmd_jina(int argc, char **argv, struct ft_err *err); /* called as `jina`: executor, ping */
void ft_help_fit(const char *command);
void ft_help_model(const char *command); /* options of the commands that open a model */
void ft_help_serve(const char *command);
void ft_help_datasets(const char *command);
void ft_help_models(const char *command);
void ft_help_push(const char *command);
void ft_help_runs(const char *command); /* runs, watch, pull */

/* The stop flag that SIGINT and SIGTERM set; a second signal ends the process at once. */
struct ft_cancel *ft_cli_cancel(void);

/* The options of encode, evaluate, inspect and tailor. */
struct ft_model_args {
    struct ft_tailor_options tailor;
    struct ft_model_options model;
    const char *device, *precision, *out, *index, *metric, *measure;
    struct ft_json *prep; /* owned */
    int64_t threads, batch_size, limit, memory;
    bool json, quiet, full;
};
FT_MUST_CHECK enum ft_status ft_model_args_read(const char *command, const struct ft_args *args,
                                                struct ft_model_args *out, struct ft_err *err);
void ft_model_args_release(struct ft_model_args *args);
bool ft_model_args_flag(const char *key);
/* Before the work, not after it: a path whose suffix names another format than `suffix` or `other` (may be
 * NULL) is a slip, FT_USAGE; so is a folder where a file goes. Its folder must be there and may be written
 * to: FT_NOT_FOUND, FT_IO; those above an artifact (".zip", or a folder) are made. NULL is fine. */
FT_MUST_CHECK enum ft_status ft_out_check(const char *out, const char *suffix, const char *other,
                                          struct ft_err *err);
/* FT_USAGE: it is what it is made of. */
FT_MUST_CHECK enum ft_status ft_out_apart(const char *out, const char *model, struct ft_err *err);
/* The folders above an artifact. */
FT_MUST_CHECK enum ft_status ft_out_make_folders(const char *out, struct ft_err *err);
/* Exactly `want` positionals, else FT_USAGE with the command's usage. */
FT_MUST_CHECK enum ft_status ft_args_want(const struct ft_args *args, int want, const char *usage,
                                          struct ft_err *err);
/* Whole text as a number in [low, high]. */
FT_MUST_CHECK enum ft_status ft_arg_int(const char *key, const char *value, int64_t low, int64_t high,
                                        int64_t *out, struct ft_err *err);

/* A flag's value: none, true or 1 is true; false or 0 is false. */
FT_MUST_CHECK enum ft_status ft_arg_flag(const char *key, const char *value, bool *out, struct ft_err *err);

/* The two options that most commands have. */
struct ft_output {
    bool json;  /* one JSON object on standard output */
    bool quiet; /* no progress, no notes */
};
bool ft_output_flag(const char *key); /* and --help, which is seen before */
/* *known: it is one of them, and was taken. */
FT_MUST_CHECK enum ft_status ft_output_option(struct ft_output *output, const char *key, const char *value,
                                              bool *known, struct ft_err *err);

/* Rows (count, dim), one of each Document of a dataset that is no service's: to a .npy file, or, where path
 * ends so, to lines of {"id", "uri" or "text", "label", "embedding": [dim numbers]}. What a Document does not
 * have is left out; numbers read back as the same floats; what is not finite is null. */
#define FT_ROWS_NPY ".npy"
#define FT_ROWS_LINES ".jsonl"
FT_MUST_CHECK enum ft_status ft_write_rows(const char *path, const struct ft_dataset *data, const float *rows,
                                           int64_t dim, struct ft_err *err);
/* The lock of a service's folder, for a command that changes it: close(*fd). FT_BUSY: a service has it. */
FT_MUST_CHECK enum ft_status ft_workspace_lock(const char *workspace, int *fd, struct ft_err *err);
/* One JSON object on stdout and a newline. */
FT_MUST_CHECK enum ft_status ft_print_json(const struct ft_json *json, struct ft_err *err);
/* {key: array} on stdout. */
FT_MUST_CHECK enum ft_status ft_print_json_list(const char *key, struct ft_json *take_array,
                                                struct ft_err *err);
/* What became of Documents of a dataset: "shoes: 1,200 documents deleted", or an object. */
FT_MUST_CHECK enum ft_status ft_datasets_told(const char *name, const char *what, int64_t count, bool json,
                                              struct ft_err *err);
/* One that cannot be looked at hides no other: *last is what the command fails with in the end, a damaged one
 * before any other failure; the rest are told on stderr. */
void ft_datasets_broken(struct ft_err *last, const struct ft_err *why, const char *name);
/* "12,345,678" */
enum { FT_COUNT_TEXT = 40 };
const char *ft_count_text(int64_t n, char out[FT_COUNT_TEXT]);

/* A progress bar on a terminal; on anything else a line now and then. */
struct ft_bar {
    bool terminal, quiet;
    double began;  /* clock when the work did, */
    int64_t from;  /* and how far it was */
    double drawn;  /* clock of the last drawing */
    int64_t shown; /* tenths already told when not on a terminal */
};
/* Of work that begins now, from 0. */
void ft_bar_init(struct ft_bar *bar, bool quiet);
/* Of work that is done often or soon over: it says nothing on anything else than a terminal. */
void ft_bar_init_terminal(struct ft_bar *bar, bool quiet);
/* The work goes on from there, now. */
void ft_bar_begin(struct ft_bar *bar, int64_t from);
/* So many of these were done a second; 0: not known yet. */
double ft_bar_pace(const struct ft_bar *bar, int64_t done);
/* rest: what stands behind the time that is left at that pace. */
void ft_bar_draw(struct ft_bar *bar, const char *title, int64_t done, int64_t total, const char *rest);
/* The same of work that knows its own time. */
void ft_bar_draw_eta(struct ft_bar *bar, const char *title, int64_t done, int64_t total, double eta_seconds,
                     const char *rest);
void ft_bar_clear(struct ft_bar *bar);
/* "0:01:08" */
enum { FT_SPAN_TEXT = 32 };
const char *ft_span_text(double seconds, char out[FT_SPAN_TEXT]);
#endif
