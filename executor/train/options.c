#include "executor/train/fit.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/prep/augment.h"
#include "executor/train/defaults.h"

enum kind { NAME, TEXT, OBJECT, ARRAY, REAL, INTEGER, SIZE, FLAG };

/* The table of fit options. `start` is the default as a user would write it (NULL: none); `choices` are
 * separated by '|' and closed unless NULL; low and high bound numbers, both included. */
struct row {
    const char *key;
    enum kind kind;
    size_t offset;
    const char *start;
    double low, high;
    const char *choices;
    const char *help;
};

#define AT(field) offsetof(struct ft_fit_options, field)
static const struct row rows[] = {
    {"loss", NAME, AT(loss), "TripletMarginLoss", 0, 0,
     "TripletMarginLoss|ContrastiveLoss|SupConLoss|NTXentLoss|MultiSimilarityLoss",
     "TripletMarginLoss, ContrastiveLoss, SupConLoss, NTXentLoss or MultiSimilarityLoss"},
    {"loss_options", OBJECT, AT(loss_options), NULL, 0, 0, NULL,
     "its options as JSON, named and preset as in pytorch-metric-learning; without: see the table below"},
    {"miner", NAME, AT(miner), "auto", 0, 0,
     "auto|none|TripletMarginMiner|BatchHardMiner|FaceNetSemihardMiner",
     "FaceNetSemihardMiner, BatchHardMiner, TripletMarginMiner or none; auto: see the table below"},
    {"miner_options", OBJECT, AT(miner_options), NULL, 0, 0, NULL,
     "its options as JSON, e.g. {\"margin\": 0.2, \"type_of_triplets\": \"semihard\"}"},
    {"optimizer", NAME, AT(optimizer), "AdamW", 0, 0, "SGD|Adam|AdamW", "SGD, Adam or AdamW"},
    {"optimizer_options", OBJECT, AT(optimizer_options), NULL, 0, 0, NULL,
     "its options as JSON, named and preset as in torch.optim"},
    {"learning_rate", REAL, AT(learning_rate), "0", 0, 100, NULL,
     "0 = the optimizer's own of the table below"},
    {"scheduler", NAME, AT(scheduler), "constant", 0, 0, "constant|constant_with_warmup|linear|cosine",
     "constant, constant_with_warmup, linear or cosine"},
    {"scheduler_options", OBJECT, AT(scheduler_options), NULL, 0, 0, NULL,
     "{\"num_warmup_steps\": 0, \"num_training_steps\": \"auto\", \"scheduler_step\": \"batch\"}"},
    {"epochs", INTEGER, AT(epochs), "5", 1, 1e6, NULL, "times the documents are gone through"},
    {"steps", INTEGER, AT(steps), "0", 0, 1e9, NULL,
     "stop after so many steps instead of --epochs; 0 = by epochs"},
    {"batch_size", INTEGER, AT(batch_size), "128", 4, 65536, NULL,
     "documents a step; with --memory and without this the largest number up to the default that fits"},
    {"memory", SIZE, AT(memory), "0", 0, 1e15, NULL,
     "most memory to take, e.g. 512M or 8G: chooses the batch or refuses with the figure; 0 = no budget"},
    {"num_items_per_class", INTEGER, AT(num_items_per_class), "4", 2, 4096, NULL,
     "documents of one class in a batch; the nearest workable number is taken"},
    {"clip_norm", REAL, AT(clip_norm), "1.0", 0, 1e9, NULL, "largest gradient norm; 0 = no clipping"},
    {"val_split", REAL, AT(val_split), "0", 0, 0.9, NULL,
     "share of each class held out for val_loss and, without --eval, the metrics"},
    {"callbacks", ARRAY, AT(callbacks), NULL, 0, 0, NULL,
     "JSON list of {\"name\", \"options\"}: BestModelCheckpoint, EarlyStopping, EvaluationCallback"},
    {"freeze", TEXT, AT(freeze), NULL, 0, 0, NULL,
     "all (but what tailoring adds; without output_dim: but the last layer), a number of leading layers, or "
     "names or patterns (layer1, *.bn1) separated by commas; of texts layers are blocks, and embeddings a "
     "name"},
    {"cut", TEXT, AT(cut), NULL, 0, 0, NULL, "layer whose output is the embedding (see finetuner inspect)"},
    {"keep_head", FLAG, AT(keep_head), "false", 0, 0, NULL, "do not cut a classifier head off"},
    {"output_dim", INTEGER, AT(output_dim), "0", 0, 65536, NULL,
     "add a projection head to so many numbers; 0 = none"},
    {"pooler", NAME, AT(pooler), "default", 0, 0, FT_POOLER_NAMES,
     "spatial pooling in place of the model's own"},
    {"normalize", FLAG, AT(normalize), "false", 0, 0, NULL, "embeddings of length one"},
    {"input_shape", TEXT, AT(input_shape), NULL, 0, 0, NULL, "for a model with open axes, e.g. N,3,224,224"},
    {"prep_options", OBJECT, AT(prep_options), NULL, 0, 0, NULL,
     "preprocessing over what is inferred from the model's input, as JSON, e.g. {\"preset\": \"imagenet\"}: "
     "see finetuner help presets"},
    {"augment", TEXT, AT(augment), "none", 0, 0, NULL,
     "random changes of training images: light, strong or JSON, e.g. {\"flip\": 0.5, \"crop\": [0.5, 1]}; "
     "see finetuner help augment"},
    {"mix", REAL, AT(mix), "1", 0, 1, NULL,
     "how far the written weights are from the given model (0) to the tuned one (1): less than 1 does better "
     "on labels that were not trained on, and forgets less"},
    {"dropout", NAME, AT(dropout), "model", 0, 0, NULL,
     "while training texts: model = as its config.json says, or a probability of 0 .. 1 for all places that "
     "its "
     "family drops at; frozen leading layers never do"},
    {"name", TEXT, AT(name), NULL, 0, 0, NULL, "shown with the run, which is asked for by its id"},
    {"device", NAME, AT(device), "auto", 0, 0, "auto|cpu|ref|cuda",
     "auto, cpu or ref (slow, double precision)"},
    {"precision", NAME, AT(precision), "f32", 0, 0, "f32|bf16|bf16-emulated",
     "of computing: f32, bf16 (needs AVX-512, faster with AVX512_BF16 or AMX; weights, sums and the "
     "optimizer "
     "stay f32, and so does what is written) or bf16-emulated (on any processor, slower than f32: to see "
     "what "
     "bf16 would give)"},
    {"activation_cache", NAME, AT(activation_cache), "auto", 0, 0, "auto|off",
     "auto: what frozen leading layers make of a document is computed once and kept; off: computed again in "
     "every step, with the same result"},
    {"threads", INTEGER, AT(threads), "0", 0, 4096, NULL, "0 = one a processor"},
    {"seed", INTEGER, AT(seed), "42", 0, 9007199254740992.0, NULL,
     "of everything random; equal seeds give equal models"},
    {"limit", INTEGER, AT(limit), "20", 1, 100000, NULL, "neighbours that the metrics look at"},
    {"eval_batch_size", INTEGER, AT(eval_batch_size), "128", 1, 65536, NULL, "documents embedded at a time"},
    {"checkpoint_steps", INTEGER, AT(checkpoint_steps), "200", 0, 1e9, NULL,
     "steps between checkpoints inside an epoch; 0 = at the end of epochs only"},
    {"work_dir", TEXT, AT(work_dir), NULL, 0, 0, NULL, "folder of checkpoints and of the journal of steps"},
    {"resume", FLAG, AT(resume), "false", 0, 0, NULL, "go on from the newest checkpoint"},
};
#undef AT
enum { ROWS = sizeof rows / sizeof *rows };

static const char *const kind_text[] = {"NAME", "TEXT", "JSON", "JSON", "NUMBER", "N", "BYTES", ""};

static void *field(const struct ft_fit_options *options, const struct row *row)
{
    return (char *)(uintptr_t)options + row->offset;
}

/* ---- finding a row */

/* '-' and '_' are the same letter. */
static bool same_key(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char x = *a == '-' ? '_' : *a;
        char y = *b == '-' ? '_' : *b;
        if (x != y) {
            return false;
        }
    }
    return *a == *b;
}

/* Levenshtein's distance, of the first 40 letters. */
static size_t edits(const char *a, const char *b)
{
    enum { LETTERS = 40 };
    size_t row[LETTERS + 1];
    size_t nb = strnlen(b, LETTERS);
    for (size_t j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (size_t i = 0; i < LETTERS && a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < nb; j++) {
            size_t best = diagonal + ((a[i] == '-' ? '_' : a[i]) != b[j]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            diagonal = row[j + 1];
            best = diagonal + 1 < best ? diagonal + 1 : best;
            row[j + 1] = best;
        }
    }
    return row[nb];
}

static const struct row *find(const char *key)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (same_key(key, rows[i].key)) {
            return &rows[i];
        }
    }
    return NULL;
}

enum { FAR = 4 }; /* edits: more is another word */

static enum ft_status find_or_fail(const char *key, enum ft_status code, const struct row **row,
                                   struct ft_err *err)
{
    *row = find(key);
    if (*row != NULL) {
        return FT_OK;
    }
    const char *nearest = rows[0].key;
    for (size_t i = 1; i < ROWS; i++) {
        nearest = edits(key, rows[i].key) < edits(key, nearest) ? rows[i].key : nearest;
    }
    if (edits(key, nearest) > (size_t)FAR) {
        return ft_err_set(err, code, __FILE__, __LINE__,
                          "there is no fit option \"%s\"; `finetuner help fit` lists them", key);
    }
    return ft_err_set(err, code, __FILE__, __LINE__, "there is no fit option \"%s\"; the nearest is %s", key,
                      nearest);
}

/* ---- setting */

static enum ft_status set_number(struct ft_fit_options *o, const struct row *row, double value,
                                 struct ft_err *err)
{
    bool whole = row->kind != REAL;
    if (!(value >= row->low && value <= row->high) || (whole && value != floor(value))) {
        return FT_FAIL(err, INVALID, "%s is %g, wanted a %snumber of %g .. %g", row->key, value,
                       whole ? "whole " : "", row->low, row->high);
    }
    if (whole) {
        *(int64_t *)field(o, row) = (int64_t)value;
    } else {
        *(double *)field(o, row) = value;
    }
    return FT_OK;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, value, n) == 0 && (at[n] == '|' || at[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static enum ft_status set_name(struct ft_fit_options *o, const struct row *row, const char *value,
                               struct ft_err *err)
{
    size_t n = strlen(value);
    if (n == 0 || n >= FT_FIT_NAME) {
        return FT_FAIL(err, INVALID, "%s has %zu letters, wanted 1 .. %d", row->key, n, FT_FIT_NAME - 1);
    }
    if (row->choices != NULL && !is_choice(row->choices, value)) {
        return FT_FAIL(err, INVALID, "%s is \"%s\", wanted %s", row->key, value, row->choices);
    }
    memcpy(field(o, row), value, n + 1);
    return FT_OK;
}

static enum ft_status set_text(struct ft_fit_options *o, const struct row *row, const char *value,
                               struct ft_err *err)
{
    char **slot = field(o, row);
    char *text = NULL;
    if (value != NULL) {
        FT_RETURN_IF_FAILED(ft_new_text(value, &text, err));
    }
    ft_free(*slot);
    *slot = text;
    return FT_OK;
}

static enum ft_status set_tree(struct ft_fit_options *o, const struct row *row, struct ft_json *take,
                               struct ft_err *err)
{
    struct ft_json **slot = field(o, row);
    enum ft_json_kind want = row->kind == OBJECT ? FT_JSON_OBJECT : FT_JSON_ARRAY;
    if (take != NULL && ft_json_kind(take) != want) {
        const char *got = ft_json_kind_name(ft_json_kind(take));
        ft_json_free(take);
        return FT_FAIL(err, INVALID, "%s is %s, wanted %s", row->key, got, ft_json_kind_name(want));
    }
    ft_json_free(*slot);
    *slot = take;
    return FT_OK;
}

static enum ft_status set_flag(struct ft_fit_options *o, const struct row *row, const char *value,
                               struct ft_err *err)
{
    bool yes = value == NULL || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!yes && strcmp(value, "false") != 0 && strcmp(value, "0") != 0) {
        return FT_FAIL(err, INVALID, "%s is \"%s\", wanted true or false", row->key, value);
    }
    *(bool *)field(o, row) = yes;
    return FT_OK;
}

static enum ft_status set_number_text(struct ft_fit_options *o, const struct row *row, const char *value,
                                      struct ft_err *err)
{
    char *end = NULL;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number)) {
        return FT_FAIL(err, INVALID, "%s is \"%s\", wanted a number of %g .. %g", row->key, value, row->low,
                       row->high);
    }
    return set_number(o, row, number, err);
}

static enum ft_status set_size(struct ft_fit_options *o, const struct row *row, const char *value,
                               struct ft_err *err)
{
    int64_t bytes = 0;
    if (!ft_size_parse(value, &bytes)) {
        return FT_FAIL(err, INVALID, "%s is \"%s\", wanted bytes, or a number with K, M, G or T", row->key,
                       value);
    }
    return set_number(o, row, (double)bytes, err);
}

static void mark_given(struct ft_fit_options *o, const struct row *row)
{
    if (row->offset == offsetof(struct ft_fit_options, batch_size)) {
        o->batch_size_given = true;
    }
}

static enum ft_status set_row(struct ft_fit_options *o, const struct row *row, const char *value,
                              struct ft_err *err)
{
    struct ft_json *tree = NULL;
    if (value == NULL && row->kind != FLAG) {
        return FT_FAIL(err, USAGE, "option %s wants a value", row->key);
    }
    switch (row->kind) {
    case NAME:
        return set_name(o, row, value, err);
    case TEXT:
        return set_text(o, row, value, err);
    case OBJECT:
    case ARRAY:
        if (ft_json_parse(ft_bytes_of_text(value), &tree, err) != FT_OK) {
            return ft_err_wrap(err, "%s", row->key);
        }
        return set_tree(o, row, tree, err);
    case REAL:
    case INTEGER:
        return set_number_text(o, row, value, err);
    case SIZE:
        return set_size(o, row, value, err);
    case FLAG:
        return set_flag(o, row, value, err);
    }
    return FT_OK;
}

enum ft_status ft_fit_options_set(struct ft_fit_options *options, const char *key, const char *value,
                                  struct ft_err *err)
{
    const struct row *row = NULL;
    FT_RETURN_IF_FAILED(find_or_fail(key, FT_USAGE, &row, err));
    mark_given(options, row);
    return set_row(options, row, value, err);
}

enum ft_status ft_fit_options_init(struct ft_fit_options *options, struct ft_err *err)
{
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < ROWS; i++) {
        enum ft_status st = rows[i].start != NULL ? set_row(options, &rows[i], rows[i].start, err) : FT_OK;
        if (st != FT_OK) {
            ft_fit_options_release(options);
            return st;
        }
    }
    return FT_OK;
}

void ft_fit_options_release(struct ft_fit_options *options)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].kind == TEXT) {
            ft_free(*(char **)field(options, &rows[i]));
        } else if (rows[i].kind == OBJECT || rows[i].kind == ARRAY) {
            ft_json_free(*(struct ft_json **)field(options, &rows[i]));
        }
    }
    memset(options, 0, sizeof *options);
}

bool ft_fit_options_is_flag(const char *key)
{
    const struct row *row = find(key);
    return row != NULL && row->kind == FLAG;
}

/* ---- JSON */

/* Finetuner's `freeze` may be true, false or a list of layers. */
static enum ft_status freeze_text(const struct ft_json *value, struct ft_buf *out, struct ft_err *err)
{
    if (ft_json_kind(value) == FT_JSON_BOOL) {
        return ft_json_bool(value) ? ft_buf_text(out, "all", err) : FT_OK;
    }
    if (ft_json_kind(value) == FT_JSON_INT) {
        return ft_buf_printf(out, err, "%" PRId64, ft_json_int(value));
    }
    for (size_t i = 0; i < ft_json_count(value); i++) {
        const char *name = ft_json_text(ft_json_at(value, i), NULL);
        if (name == NULL) {
            return FT_FAIL(err, INVALID, "freeze[%zu] is not a text", i);
        }
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "%s%s", i > 0 ? "," : "", name));
    }
    return FT_OK;
}

/* JSON in JSON: `augment` is a name or an object. */
static enum ft_status set_json_text(struct ft_fit_options *o, const struct row *row,
                                    const struct ft_json *value, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = ft_json_write(value, 0, &text, err);
    if (st == FT_OK) {
        st = set_text(o, row, (const char *)text.data, err);
    }
    ft_buf_release(&text);
    return st;
}

static enum ft_status read_text(struct ft_fit_options *o, const struct row *row, const struct ft_json *value,
                                struct ft_err *err)
{
    enum ft_json_kind kind = ft_json_kind(value);
    if (kind == FT_JSON_OBJECT && strcmp(row->key, "augment") == 0) {
        return set_json_text(o, row, value, err);
    }
    bool is_freeze = strcmp(row->key, "freeze") == 0;
    if (is_freeze && (kind == FT_JSON_BOOL || kind == FT_JSON_ARRAY || kind == FT_JSON_INT)) {
        struct ft_buf text = {0};
        enum ft_status st = freeze_text(value, &text, err);
        if (st == FT_OK) {
            st = set_text(o, row, text.size > 0 ? (const char *)text.data : NULL, err);
        }
        ft_buf_release(&text);
        return st;
    }
    if (ft_json_is_number(value) && strcmp(row->key, "dropout") == 0) {
        char number[32];
        (void)snprintf(number, sizeof number, "%.17g", ft_json_real(value));
        return set_row(o, row, number, err);
    }
    if (kind != FT_JSON_TEXT) {
        return FT_FAIL(err, INVALID, "%s is %s, wanted a text", row->key, ft_json_kind_name(kind));
    }
    return set_row(o, row, ft_json_text(value, NULL), err);
}

static enum ft_status read_row(struct ft_fit_options *o, const struct row *row, const struct ft_json *value,
                               struct ft_err *err)
{
    struct ft_json *copy = NULL;
    enum ft_json_kind kind = ft_json_kind(value);
    switch (row->kind) {
    case NAME:
    case TEXT:
        return read_text(o, row, value, err);
    case OBJECT:
    case ARRAY:
        copy = ft_json_copy(value);
        if (copy == NULL) {
            return FT_FAIL(err, NOMEM, "no memory for option %s", row->key);
        }
        return set_tree(o, row, copy, err);
    case SIZE:
        if (kind == FT_JSON_TEXT) {
            return set_size(o, row, ft_json_text(value, NULL), err);
        }
        /* fallthrough */
    case REAL:
    case INTEGER:
        if (!ft_json_is_number(value)) {
            return FT_FAIL(err, INVALID, "%s is %s, wanted a number of %g .. %g", row->key,
                           ft_json_kind_name(kind), row->low, row->high);
        }
        return set_number(o, row, ft_json_real(value), err);
    case FLAG:
        if (kind != FT_JSON_BOOL) {
            return FT_FAIL(err, INVALID, "%s is %s, wanted true or false", row->key, ft_json_kind_name(kind));
        }
        *(bool *)field(o, row) = ft_json_bool(value);
        return FT_OK;
    }
    return FT_OK;
}

enum ft_status ft_fit_options_read(struct ft_fit_options *options, const struct ft_json *object,
                                   struct ft_err *err)
{
    if (object == NULL || ft_json_kind(object) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (ft_json_kind(object) != FT_JSON_OBJECT) {
        return FT_FAIL(err, INVALID, "fit options are a JSON %s, wanted an object",
                       ft_json_kind_name(ft_json_kind(object)));
    }
    for (struct ft_json_iter *it = ft_json_first(object); it != NULL; it = ft_json_next(object, it)) {
        const struct row *row = NULL;
        FT_RETURN_IF_FAILED(find_or_fail(ft_json_key(it), FT_INVALID, &row, err));
        if (ft_json_kind(ft_json_value(it)) != FT_JSON_NULL) { /* null: keep what is */
            mark_given(options, row);
            FT_RETURN_IF_FAILED(read_row(options, row, ft_json_value(it), err));
        }
    }
    return FT_OK;
}

static struct ft_json *value_of(const struct ft_fit_options *o, const struct row *row)
{
    const void *at = field(o, row);
    switch (row->kind) {
    case NAME:
        return ft_json_of_text(at);
    case TEXT:
        return *(char *const *)at != NULL ? ft_json_of_text(*(char *const *)at) : ft_json_null();
    case OBJECT:
    case ARRAY:
        return *(struct ft_json *const *)at != NULL ? ft_json_copy(*(struct ft_json *const *)at)
                                                    : ft_json_null();
    case REAL:
        return ft_json_of_real(*(const double *)at);
    case INTEGER:
    case SIZE:
        return ft_json_of_int(*(const int64_t *)at);
    case FLAG:
        return ft_json_of_bool(*(const bool *)at);
    }
    return NULL;
}

enum ft_status ft_fit_options_write(const struct ft_fit_options *options, struct ft_json **object,
                                    struct ft_err *err)
{
    struct ft_json *json = ft_json_object();
    *object = NULL;
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the fit options");
    }
    for (size_t i = 0; i < ROWS; i++) {
        enum ft_status st = ft_json_set(json, rows[i].key, value_of(options, &rows[i]), err);
        if (st != FT_OK) {
            ft_json_free(json);
            return st;
        }
    }
    *object = json;
    return FT_OK;
}

/* ---- help */

enum ft_status ft_fit_options_help(struct ft_buf *out, struct ft_err *err)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        char flag[64];
        (void)snprintf(flag, sizeof flag, "--%s %s", row->key, kind_text[row->kind]);
        for (char *p = flag; *p != '\0'; p++) {
            *p = *p == '_' ? '-' : *p;
        }
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-26s %s", flag, row->help));
        if (row->start != NULL && row->kind != FLAG) {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, " (%s)", row->start));
        }
        FT_RETURN_IF_FAILED(ft_buf_text(out, "\n", err));
    }
    return ft_defaults_help(out, err);
}
