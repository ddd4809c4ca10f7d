/*
 * bench_text - seconds in which a model of texts embeds them or is trained on them, through the doors that
 * the product uses: from characters to pooled embeddings, one training step from tokens to updated weights.
 *
 * usage: bench_text WHAT MODEL TEXTS [options]
 *   WHAT            encode: all texts; one: each by itself; train: a step on all of them, four texts a class
 *                   (TripletMarginLoss, semi-hard miner, AdamW)
 *   TEXTS           a file, texts separated by the byte 0x1e
 *   --batch N       rows that an encoder computes at once (64)
 *   --longest N     tokens of a text at most (what the model says)
 *   --freeze WHAT   as `fit` takes it
 *   --cached        train: what the frozen layers make of the texts stands in the batch, as from a run's
 * second epoch on; `fit` copies it there on another thread
 *   --precision P   as `encode` and `fit` take it (f32)
 *   --threads N     (2)
 *   --repeat N      timed runs after two that warm up (5)
 *   --wait          no runs of its own accord: one for each line on standard input, one line of seconds for
 *                   each
 *   --profile       on standard error: where the time of the plan that ran last goes; of `one`, the first
 *                   text alone is run
 *   --slowest N     how many single steps of it are listed (20)
 *   --out FILE      the embeddings, as .npy
 *
 * Seconds are of all texts; of `one`, the median over the texts. Standard output, last line: a JSON object
 * with seconds (median), prepare_seconds, peak_memory_bytes, allocations (ours, inside timed runs).
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/codec/npy.h"
#include "executor/train/encoder.h"
#include "executor/train/input.h"
#include "executor/train/prefix.h"
#include "executor/train/step.h"
#include "tools/benches/profile.h"
#include "tools/benches/runs.h"

enum { MAX_TEXTS = 1 << 16 };

enum what { ENCODE, ONE, TRAIN };

struct bench {
    enum what what;
    const char *model_path, *texts_path, *out, *freeze, *precision;
    int64_t batch, longest;
    bool cached;
    int threads;
    struct ft_runs runs;

    struct ft_buf file; /* that docs are views into */
    struct ft_document *docs;
    double *each; /* (count): seconds of `one` */
    size_t count;
    struct ft_json *prep_options;
    /* encode, one */
    struct ft_encoder *encoder;
    float *embeddings; /* (count, dim) */
    /* train */
    struct ft_device *device;
    struct ft_model *model;
    struct ft_tokenizer *tokenizer;
    struct ft_graph *graph, *packed;
    struct ft_batch rows, kept; /* kept: at the end of the frozen layers */
    struct ft_frontier frontier;
    struct ft_prefix *prefix;
    struct ft_step *step;
    int64_t t;
};

/* ---- command line */

static bool take(struct bench *b, int option)
{
    switch (option) {
    case 'b':
        b->batch = ft_runs_number(optarg, 1 << 20);
        return b->batch > 0;
    case 'l':
        b->longest = ft_runs_number(optarg, 1 << 20);
        return b->longest > 0;
    case 't':
        b->threads = ft_runs_number(optarg, 1024);
        return b->threads > 0;
    case 'r':
    case 's':
        return ft_runs_option(&b->runs, option, optarg);
    case 'f':
        b->freeze = optarg;
        return true;
    case 'p':
        b->precision = optarg;
        return true;
    case 'o':
        b->out = optarg;
        return true;
    default:
        return option == 0;
    }
}

static bool read_positional(struct bench *b, int argc, char **argv)
{
    static const char *const names[] = {"encode", "one", "train"};
    for (int i = 0; optind + 3 == argc && i < 3; i++) {
        if (strcmp(argv[optind], names[i]) == 0) {
            b->what = (enum what)i;
            b->model_path = argv[optind + 1];
            b->texts_path = argv[optind + 2];
        }
    }
    return b->texts_path != NULL;
}

static bool read_arguments(struct bench *b, int argc, char **argv)
{
    int wait = 0;
    int profile = 0;
    int cached = 0;
    const struct option known[] = {{"batch", required_argument, NULL, 'b'},
                                   {"longest", required_argument, NULL, 'l'},
                                   {"threads", required_argument, NULL, 't'},
                                   {"repeat", required_argument, NULL, 'r'},
                                   {"slowest", required_argument, NULL, 's'},
                                   {"freeze", required_argument, NULL, 'f'},
                                   {"precision", required_argument, NULL, 'p'},
                                   {"out", required_argument, NULL, 'o'},
                                   {"wait", no_argument, &wait, 1},
                                   {"profile", no_argument, &profile, 1},
                                   {"cached", no_argument, &cached, 1},
                                   {NULL, 0, NULL, 0}};
    bool good = true;
    int option = 0;
    while (good && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        good = take(b, option);
    }
    b->runs.wait = wait != 0;
    b->runs.profile = profile != 0;
    b->cached = cached != 0;
    good = good && read_positional(b, argc, argv);
    return good && (b->what != TRAIN || strcmp(b->precision, "int8") != 0);
}

/* ---- set up */

static enum ft_status read_texts(struct bench *b, struct ft_err *err)
{
    enum { SEPARATOR = 0x1e };
    FT_RETURN_IF_FAILED(ft_file_read(b->texts_path, (size_t)1 << 30, &b->file, err));
    FT_RETURN_IF_FAILED(ft_new(MAX_TEXTS, sizeof *b->docs, &b->docs, err));
    const uint8_t *at = b->file.data;
    const uint8_t *end = at + b->file.size;
    while (at < end && b->count < MAX_TEXTS) {
        const uint8_t *stop = memchr(at, SEPARATOR, (size_t)(end - at));
        stop = stop != NULL ? stop : end;
        struct ft_content *c = &b->docs[b->count++].content;
        c->kind = FT_CONTENT_TEXT;
        c->bytes = (struct ft_bytes){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    if (b->count == 0 || at < end) {
        return FT_FAIL(err, INVALID, "%s: wanted 1 to %d texts", b->texts_path, MAX_TEXTS);
    }
    FT_RETURN_IF_FAILED(ft_new(b->count, sizeof *b->each, &b->each, err));
    b->prep_options = ft_json_object();
    if (b->longest > 0) {
        return ft_json_set(b->prep_options, "max_length", ft_json_of_int(b->longest), err);
    }
    return FT_OK;
}

static enum ft_status open_encoder(struct bench *b, struct ft_err *err)
{
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_precision_parse(b->precision, &precision, err));
    struct ft_encoder_spec spec = {.model_path = b->model_path,
                                   .prep_options = b->prep_options,
                                   .device = "cpu",
                                   .precision = precision,
                                   .threads = b->threads,
                                   .batch_max = b->batch};
    FT_RETURN_IF_FAILED(ft_encoder_open(&spec, &b->encoder, err));
    return ft_new(b->count * (size_t)ft_encoder_dim(b->encoder), sizeof *b->embeddings, &b->embeddings, err);
}

/* All texts as one batch. */
static enum ft_status make_batch(struct bench *b, const struct ft_prep *prep, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_tokens tokens = {0};
    FT_TRY(ft_batch_init_texts(&b->rows, b->count, b->count * (size_t)prep->max_length, err));
    ft_batch_clear_texts(&b->rows);
    for (size_t i = 0; i < b->count; i++) {
        FT_TRY(ft_prep_text(prep, &b->docs[i].content, &tokens, err));
        int64_t *ids = b->rows.texts.ids + ft_batch_add_text(&b->rows, tokens.count);
        for (size_t k = 0; k < tokens.count; k++) {
            ids[k] = tokens.ids[k];
        }
        b->rows.labels[i] = (int32_t)(i / 4);
    }
done:
    ft_tokens_release(&tokens);
    return st;
}

/* What the frozen layers make of the batch. */
static enum ft_status keep_batch(struct bench *b, struct ft_err *err)
{
    const struct ft_batch_texts *t = &b->rows.texts;
    FT_RETURN_IF_FAILED(ft_prefix_new(b->device, &b->frontier, ft_step_params(b->step), (int64_t)t->longest,
                                      &b->prefix, err));
    FT_RETURN_IF_FAILED(ft_prefix_batch_init(&b->frontier, b->count, t->tokens, &b->kept, err));
    return ft_prefix_batch(b->prefix, &b->rows, &b->kept, err);
}

static enum ft_status load_model(struct bench *b, struct ft_prep *prep, struct ft_err *err)
{
    char padded[FT_ERR_TEXT];
    struct ft_tailor_options tailor;
    memset(&tailor, 0, sizeof tailor);
    tailor.freeze = b->freeze;
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_precision_parse(b->precision, &precision, err));
    FT_RETURN_IF_FAILED(ft_device_open("cpu", b->threads, &b->device, err));
    FT_RETURN_IF_FAILED(ft_device_set_precision(b->device, precision, err));
    FT_RETURN_IF_FAILED(ft_model_load(b->model_path, NULL, &b->model, err));
    FT_RETURN_IF_FAILED(ft_tailor(b->model, &tailor, &b->graph, NULL, err));
    FT_RETURN_IF_FAILED(ft_input_tokenizer(b->model, &b->tokenizer, err));
    FT_RETURN_IF_FAILED(ft_input_prep(b->graph, b->model, b->tokenizer, b->prep_options, prep, err));
    FT_RETURN_IF_FAILED(ft_input_pack(b->graph, &b->packed, padded, err));
    if (b->packed == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "the model cannot be packed: %s", padded);
    }
    return FT_OK;
}

static enum ft_status make_step(struct bench *b, struct ft_err *err)
{
    struct ft_prep prep;
    struct ft_step_spec spec;
    memset(&spec, 0, sizeof spec);
    FT_RETURN_IF_FAILED(load_model(b, &prep, err));
    FT_RETURN_IF_FAILED(make_batch(b, &prep, err));
    FT_RETURN_IF_FAILED(
        ft_loss_parse("TripletMarginLoss", NULL, "TripletMarginMiner", NULL, &spec.loss, err));
    FT_RETURN_IF_FAILED(ft_optim_parse("AdamW", NULL, &spec.optim, err));
    spec.device = b->device;
    spec.graph = b->packed;
    spec.batch = b->count;
    spec.tokens = (int64_t)b->rows.texts.tokens;
    spec.longest = (int64_t)b->rows.texts.longest;
    if (b->cached) {
        FT_RETURN_IF_FAILED(ft_frontier_find(b->packed, &b->frontier, err));
        spec.frontier = &b->frontier;
    }
    if (b->cached && b->frontier.n == 0) {
        return FT_FAIL(err, INVALID, "nothing is frozen that a cache could keep: --freeze");
    }
    FT_RETURN_IF_FAILED(ft_step_new(&spec, &b->step, err));
    return b->cached ? keep_batch(b, err) : FT_OK;
}

static struct ft_plan *plan_of(void *bench)
{
    const struct bench *b = bench;
    return b->what == TRAIN ? ft_step_plan(b->step) : ft_encoder_plan(b->encoder);
}

/* ---- running */

static enum ft_status embed(struct bench *b, size_t first, size_t count, struct ft_err *err)
{
    size_t failed = 0;
    float *to = b->embeddings + first * (size_t)ft_encoder_dim(b->encoder);
    return ft_encoder_documents(b->encoder, b->docs + first, count, to, &failed, err);
}

static enum ft_status run_once(void *bench, double *seconds, struct ft_err *err)
{
    struct bench *b = bench;
    struct ft_step_result result;
    double start = ft_clock_seconds();
    if (b->what == TRAIN) {
        const struct ft_batch *batch = b->cached ? &b->kept : &b->rows;
        FT_RETURN_IF_FAILED(ft_step_run(b->step, batch, ++b->t, 1e-5, &result, err));
    } else if (b->what == ENCODE) {
        FT_RETURN_IF_FAILED(embed(b, 0, b->count, err));
    }
    *seconds = ft_clock_seconds() - start;
    for (size_t i = 0; b->what == ONE && i < b->count; i++) {
        start = ft_clock_seconds();
        FT_RETURN_IF_FAILED(embed(b, i, 1, err));
        b->each[i] = ft_clock_seconds() - start;
    }
    if (b->what == ONE) {
        *seconds = ft_runs_median(b->each, b->count);
    }
    return FT_OK;
}

static enum ft_status write_out(const struct bench *b, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf file = {0};
    int64_t dim = ft_encoder_dim(b->encoder);
    FT_TRY(ft_npy_header((int64_t)b->count, dim, &file, err));
    FT_TRY(ft_buf_append(&file, b->embeddings, b->count * (size_t)dim * sizeof(float), err));
    FT_TRY(ft_file_write(b->out, ft_buf_bytes(&file), err));
done:
    ft_buf_release(&file);
    return st;
}

static void report(struct bench *b, double prepare_seconds)
{
    (void)printf("{\"texts\": %zu, \"runs\": %d, \"seconds\": %.6f, \"prepare_seconds\": %.3f, "
                 "\"peak_memory_bytes\": %lld, \"allocations\": %llu}\n",
                 b->count, b->runs.count, ft_runs_median(b->runs.seconds, (size_t)b->runs.count),
                 prepare_seconds, (long long)ft_peak_memory(), (unsigned long long)b->runs.allocations);
}

static void release(struct bench *b)
{
    ft_prefix_free(b->prefix);
    ft_batch_release(&b->kept);
    ft_step_free(b->step);
    ft_batch_release(&b->rows);
    ft_frontier_release(&b->frontier);
    ft_graph_free(b->packed);
    ft_graph_free(b->graph);
    ft_tokenizer_free(b->tokenizer);
    ft_model_free(b->model);
    ft_device_close(b->device);
    ft_encoder_free(b->encoder);
    ft_free(b->embeddings);
    ft_json_free(b->prep_options);
    ft_free(b->each);
    ft_free(b->docs);
    ft_buf_release(&b->file);
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .batch = 64, .threads = 2, .precision = "f32", .runs = {.repeat = 5, .slowest = 20}};
    struct ft_err err = {0};
    enum ft_status st = FT_OK;
    if (!read_arguments(&b, argc, argv)) {
        (void)fputs("bench_text encode|one|train MODEL TEXTS [--batch N] [--longest N] [--freeze WHAT] "
                    "[--cached] [--threads N] [--precision P] [--repeat N] [--wait] [--profile] [--slowest "
                    "N] [--out FILE]\n",
                    stderr);
        return 2;
    }
    double start = ft_clock_seconds();
    FT_TRY(read_texts(&b, &err));
    b.count = b.runs.profile && b.what == ONE ? 1 : b.count;
    FT_TRY(b.what == TRAIN ? make_step(&b, &err) : open_encoder(&b, &err));
    double prepare_seconds = ft_clock_seconds() - start;
    const struct ft_runs_job job = {run_once, plan_of, &b};
    FT_TRY(ft_runs_all(&b.runs, &job, &err));
    if (b.runs.profile && b.runs.count > 0) {
        FT_TRY(ft_profile_print(plan_of(&b), b.runs.count, b.runs.slowest, stderr, &err));
    }
    if (b.out != NULL && b.encoder != NULL) {
        FT_TRY(write_out(&b, &err));
    }
    report(&b, prepare_seconds);
done:
    if (st != FT_OK) {
        (void)fprintf(stderr, "bench_text: %s\n", err.text);
    }
    release(&b);
    return st == FT_OK ? 0 : 3;
}
