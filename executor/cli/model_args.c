/* The options that encode, evaluate, inspect and tailor share, in one table: parser and help come from it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/file.h"
#include "executor/cli/remote.h"

enum kind { FLAG, TEXT, CHOICE, INTEGER, SIZE, JSON, POOLER };

struct row {
    const char *name;
    enum kind kind;
    size_t at; /* offset in struct ft_model_args */
    double low, high;
    const char *arg, *help;
    const char *only; /* commands that know it; NULL: all four */
};

#define AT(field) offsetof(struct ft_model_args, field)
static const struct row rows[] = {
    {"out", TEXT, AT(out), 0, 0, "FILE",
     "where to write the result; embeddings of DATA go to .npy, or to .jsonl with id, uri or text, and label",
     "encode evaluate tailor"},
    {"cut", TEXT, AT(tailor.cut), 0, 0, "LAYER",
     "take this layer's output as the embedding instead of the head rule's", NULL},
    {"keep-head", FLAG, AT(tailor.keep_head), 0, 0, "", "do not cut the classifier's head", NULL},
    {"output-dim", INTEGER, AT(tailor.output_dim), 0, 65536, "D",
     "add Finetuner's projection head to D dimensions", NULL},
    {"pooler", POOLER, AT(tailor.pooler), 0, 0, "NAME",
     "replace the model's pooling: avg (mean), GeM; of texts also max, cls, last, weighted_mean", NULL},
    {"normalize", FLAG, AT(tailor.normalize), 0, 0, "", "L2-normalise the embedding inside the model", NULL},
    {"freeze", TEXT, AT(tailor.freeze), 0, 0, "WHAT",
     "all (but the last layer, or but what tailoring adds), a number of leading layers, or names or "
     "patterns separated by commas",
     NULL},
    {"labels", INTEGER, AT(tailor.labels), 0, 1e9, "N", "classes in your data: helps the head rule", NULL},
    {"seed", INTEGER, AT(tailor.seed), 0, 9e15, "N", "of new weights (0)", NULL},
    {"input-shape", TEXT, AT(model.input_shape), 0, 0, "N,3,32,32", "fix the input's symbolic axes", NULL},
    {"prep-options", JSON, AT(prep), 0, 0, "JSON",
     "preprocessing: keys as `inspect` shows them, e.g. '{\"mean\": [0.5], \"std\": [0.5]}', or "
     "'{\"preset\": "
     "NAME}': see finetuner help presets",
     NULL},
    {"index", TEXT, AT(index), 0, 0, "DATA", "search in these documents instead of in DATA itself",
     "evaluate"},
    {"limit", INTEGER, AT(limit), 1, 100000, "K", "matches per query that count for the @k metrics (20)",
     "evaluate"},
    {"metric", CHOICE, AT(metric), 0, 0, "cosine|euclidean|sqeuclidean", "how near is measured (cosine)",
     "evaluate"},
    {"batch-size", INTEGER, AT(batch_size), 1, 65536, "N", "rows computed at once (64)", "encode evaluate"},
    {"memory", SIZE, AT(memory), 0, 0, "BYTES",
     "most memory to take, e.g. 512M or 8G: smaller batches if need be (no budget)", "encode evaluate"},
    {"device", CHOICE, AT(device), 0, 0, "auto|cpu|ref|cuda", "where to compute (auto)", "encode evaluate"},
    {"precision", CHOICE, AT(precision), 0, 0, "f32|int8|bf16|bf16-emulated",
     "of computing (f32): int8 is faster where a model is products with weights, as texts' are; bf16 is "
     "where "
     "the processor has AVX512_BF16 or AMX, and needs AVX-512; bf16-emulated is slow and only shows what "
     "bf16 "
     "would give",
     "encode evaluate"},
    {"threads", INTEGER, AT(threads), 0, 1024, "N", "0 = one per processor (0)", "encode evaluate"},
    {"full", FLAG, AT(full), 0, 0, "", "one line a layer instead of blocks", "inspect"},
    {"measure", CHOICE, AT(measure), 0, 0, "auto|yes|no",
     "time a training step: if it takes a few seconds, always, never (auto)", "inspect"},
    {"json", FLAG, AT(json), 0, 0, "", "one JSON object on standard output", NULL},
    {"quiet", FLAG, AT(quiet), 0, 0, "", "no progress, no notes", NULL},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static bool knows(const char *command, const struct row *r)
{
    return r->only == NULL || strstr(r->only, command) != NULL;
}

static const struct row *find(const char *key)
{
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].name, key) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

bool ft_model_args_flag(const char *key)
{
    const struct row *r = find(key);
    return strcmp(key, "help") == 0 || (r != NULL && r->kind == FLAG);
}

void ft_help_model(const char *command)
{
    puts("Options:");
    for (int i = 0; i < ROWS; i++) {
        if (knows(command, &rows[i])) {
            printf("  --%-13s %-10s %s\n", rows[i].name, rows[i].arg, rows[i].help);
        }
    }
    puts("\n" FT_MODEL_DATA_HELP);
    if (strcmp(command, "encode") == 0) {
        puts("\nBy a running service, with --out, --json (count, dim, seconds, out) and --quiet. MODEL is a "
             "name or a run\n"
             "there, or a file or folder here, which is sent to it once, with the files that it is read "
             "with:\n" FT_REMOTE_HELP
             "\n  finetuner encode classifier queries.jsonl --server gpu-box:8080 --out queries.npy"
             "\n  finetuner encode ./minilm queries.jsonl --server gpu-box:8080 --out queries.npy");
    }
}

enum ft_status ft_arg_int(const char *key, const char *value, int64_t low, int64_t high, int64_t *out,
                          struct ft_err *err)
{
    char *end = NULL;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < low || n > high) {
        return FT_FAIL(err, USAGE, "--%s takes a whole number from %" PRId64 " to %" PRId64 ", not '%s'", key,
                       low, high, value);
    }
    *out = n;
    return FT_OK;
}

enum ft_status ft_arg_flag(const char *key, const char *value, bool *out, struct ft_err *err)
{
    bool yes = value == NULL || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!yes && strcmp(value, "false") != 0 && strcmp(value, "0") != 0) {
        return FT_FAIL(err, USAGE, "--%s is a flag: true or false, not '%s'", key, value);
    }
    *out = yes;
    return FT_OK;
}

bool ft_output_flag(const char *key)
{
    return strcmp(key, "json") == 0 || strcmp(key, "quiet") == 0 || strcmp(key, "help") == 0;
}

enum ft_status ft_output_option(struct ft_output *output, const char *key, const char *value, bool *known,
                                struct ft_err *err)
{
    bool *at = strcmp(key, "json") == 0 ? &output->json : strcmp(key, "quiet") == 0 ? &output->quiet : NULL;
    *known = at != NULL;
    return at != NULL ? ft_arg_flag(key, value, at, err) : FT_OK;
}

static enum ft_status set_pooler(const char *value, enum ft_pooler *pooler, struct ft_err *err)
{
    enum ft_pooler found = FT_POOLER_DEFAULT;
    if (ft_pooler_find(value, &found, err) != FT_OK) {
        return FT_FAIL(err, USAGE, "--pooler takes " FT_POOLER_NAMES ", not '%s'", value);
    }
    *pooler = found;
    return FT_OK;
}

/* One of r->arg's words between bars? */
static enum ft_status check_choice(const struct row *r, const char *value, struct ft_err *err)
{
    size_t size = strlen(value);
    for (const char *word = r->arg; word != NULL; word = strchr(word, '|')) {
        word += *word == '|' ? 1 : 0;
        if (strcspn(word, "|") == size && strncmp(word, value, size) == 0) {
            return FT_OK;
        }
    }
    return FT_FAIL(err, USAGE, "--%s takes %s, not '%s'", r->name, r->arg, value);
}

static enum ft_status set(const struct row *r, const char *value, struct ft_model_args *out,
                          struct ft_err *err)
{
    char *at = (char *)out + r->at;
    int64_t n = 0;
    bool yes = false;
    switch (r->kind) {
    case FLAG:
        FT_RETURN_IF_FAILED(ft_arg_flag(r->name, value, &yes, err));
        memcpy(at, &yes, sizeof yes);
        return FT_OK;
    case CHOICE:
        FT_RETURN_IF_FAILED(check_choice(r, value, err));
        memcpy(at, &value, sizeof value);
        return FT_OK;
    case TEXT:
        memcpy(at, &value, sizeof value);
        return FT_OK;
    case INTEGER:
        FT_RETURN_IF_FAILED(ft_arg_int(r->name, value, (int64_t)r->low, (int64_t)r->high, &n, err));
        memcpy(at, &n, sizeof n);
        return FT_OK;
    case SIZE:
        if (!ft_size_parse(value, &n) || n == 0) {
            return FT_FAIL(err, USAGE, "--%s takes bytes, or a number with K, M, G or T, not '%s'", r->name,
                           value);
        }
        memcpy(at, &n, sizeof n);
        return FT_OK;
    case POOLER:
        return set_pooler(value, &out->tailor.pooler, err);
    case JSON:
        ft_json_free(out->prep);
        out->prep = NULL;
        if (ft_json_parse(ft_bytes_of_text(value), &out->prep, err) != FT_OK) {
            (void)ft_err_wrap(err, "--%s", r->name);
            return ft_usage(err);
        }
        return FT_OK;
    }
    return FT_FAIL(err, INTERNAL, "option --%s has no parser", r->name);
}

enum ft_status ft_model_args_read(const char *command, const struct ft_args *args, struct ft_model_args *out,
                                  struct ft_err *err)
{
    *out = (struct ft_model_args){.device = "auto",
                                  .precision = "f32",
                                  .metric = "cosine",
                                  .measure = "auto",
                                  .batch_size = 64,
                                  .limit = 20};
    for (int i = 0; i < args->n_options; i++) {
        const struct row *r = find(args->key[i]);
        enum ft_status st = FT_OK;
        if (r == NULL || !knows(command, r)) {
            st = FT_FAIL(err, USAGE, "unknown option --%s (finetuner help %s lists them)", args->key[i],
                         command);
        } else {
            st = set(r, args->value[i], out, err);
        }
        if (st != FT_OK) {
            ft_model_args_release(out);
            return st;
        }
    }
    return FT_OK;
}

void ft_model_args_release(struct ft_model_args *args)
{
    ft_json_free(args->prep);
    *args = (struct ft_model_args){0};
}

enum ft_status ft_args_want(const struct ft_args *args, int want, const char *usage, struct ft_err *err)
{
    if (args->n_positional != want) {
        return FT_FAIL(err, USAGE, "usage: finetuner %s", usage);
    }
    return FT_OK;
}
