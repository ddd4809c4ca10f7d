#include "executor/train/encoder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/buckets.h"
#include "executor/train/budget.h"
#include "executor/train/encoder_internal.h"
#include "executor/train/input.h"
#include "executor/train/text_in.h"

/* Of other than texts there are plans for 1, 8, 64, 512, ... and batch_max rows, made when first needed: a
 * lone query is not padded to a whole batch, and no more than a few plans hold memory. */
enum { BUCKET_STEP = 8 };

struct ft_encoder {
    struct ft_encoder_parts parts; /* what is used; owned by the members below after ft_encoder_open() */
    struct ft_device *own_device;
    struct ft_model *own_model;
    struct ft_tokenizer *own_tokenizer;
    struct ft_graph *own_graph;
    struct ft_params own_params;
    struct ft_prep prep;
    struct ft_input input;
    int threads;
    int64_t batch_max;
    struct ft_pool *pool; /* made when a dataset is first encoded */
    struct ft_buckets *buckets;
    struct ft_flat rows, embeddings; /* (batch_max, elements), (batch_max, D) */
    void *rng;                       /* device (2) I64, when the graph reads one */
    struct ft_text_in text_in;
    struct ft_batch texts;
    uint64_t tokens; /* embedded */
    int64_t bytes;   /* allocated and kept while it was opened and while it ran */
    char about[256];
    char padded[FT_ERR_TEXT];
    char int8[32];
};

/* ---- life */

struct ft_text_limits ft_encoder_limits(int64_t batch_max, int64_t longest)
{
    int64_t tokens = batch_max * FT_ENCODE_ROW_TOKENS;
    return (struct ft_text_limits){
        .rows = batch_max, .tokens = tokens > longest ? tokens : longest, .longest = longest};
}

static enum ft_status bind(void *arg, struct ft_plan *plan, struct ft_err *err)
{
    struct ft_encoder *e = arg;
    FT_RETURN_IF_FAILED(e->input.is_text ? ft_text_in_bind(&e->text_in, plan, err)
                                         : ft_plan_bind(plan, e->input.data, e->rows.data, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(plan, e->input.embedding, e->embeddings.data, err));
    if (e->input.rng != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, e->input.rng, e->rng, err));
    }
    return ft_params_bind(e->parts.params, plan, e->parts.graph, NULL, err);
}

static enum ft_status set_up_texts(struct ft_encoder *e, struct ft_err *err)
{
    struct ft_text_limits limits = ft_encoder_limits(e->batch_max, e->prep.max_length);
    FT_RETURN_IF_FAILED(ft_text_in_init(&e->text_in, e->parts.device, &e->input.text, &limits, err));
    return ft_batch_init_texts(&e->texts, (size_t)limits.rows, (size_t)limits.tokens, err);
}

/* Nobody asks for int8 to get f32: what becomes of it is said, and nothing is an error. */
static enum ft_status count_int8(struct ft_encoder *e, const int64_t symbols[FT_MAX_SYMBOLS],
                                 struct ft_err *err)
{
    struct ft_plan_stats stats;
    struct ft_plan_spec spec = {.wanted = &e->input.embedding, .n_wanted = 1};
    if (ft_device_precision(e->parts.device) != FT_PRECISION_INT8) {
        return FT_OK;
    }
    memcpy(spec.symbols, symbols, sizeof spec.symbols);
    FT_RETURN_IF_FAILED(ft_plan_price(e->parts.device, e->parts.graph, &spec, &stats, err));
    if (stats.int8 == 0) {
        return FT_FAIL(err, UNSUPPORTED,
                       "precision int8 is for products with a matrix of weights, and this model has none "
                       "(convolutions are not): take f32");
    }
    (void)snprintf(e->int8, sizeof e->int8, "%d of %d", stats.int8, stats.products);
    return FT_OK;
}

static enum ft_status set_up(struct ft_encoder *e, int threads, int64_t batch_max, struct ft_err *err)
{
    struct ft_device *device = e->parts.device;
    int64_t largest[FT_MAX_SYMBOLS] = {[FT_SYMBOL_BATCH] = batch_max};
    e->threads = threads;
    e->batch_max = batch_max;
    FT_RETURN_IF_FAILED(ft_input_find(e->parts.graph, &e->input, err));
    if (e->input.is_text) {
        FT_RETURN_IF_FAILED(set_up_texts(e, err));
        ft_text_largest(&e->input.text, &e->text_in.limits, largest);
    } else {
        size_t elements = ft_prep_elements(&e->prep);
        FT_RETURN_IF_FAILED(ft_flat_init(&e->rows, device, (size_t)batch_max * elements, err));
    }
    FT_RETURN_IF_FAILED(ft_flat_init(&e->embeddings, device, (size_t)(batch_max * e->input.dim), err));
    if (e->input.rng != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_device_alloc(device, 2 * sizeof(int64_t), &e->rng, err));
    }
    FT_RETURN_IF_FAILED(count_int8(e, largest, err));
    struct ft_buckets_spec spec = {.device = device,
                                   .graph = e->parts.graph,
                                   .wanted = &e->input.embedding,
                                   .n_wanted = 1,
                                   .largest = e->input.is_text ? largest : NULL,
                                   .bind = bind,
                                   .arg = e};
    return ft_buckets_new(&spec, &e->buckets, err);
}

enum ft_status ft_encoder_share(const struct ft_encoder_parts *parts, int threads, int64_t batch_max,
                                struct ft_encoder **encoder, struct ft_err *err)
{
    struct ft_encoder *e = NULL;
    *encoder = NULL;
    assert(batch_max > 0);
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *e, &e, err));
    e->parts = *parts;
    e->prep = *parts->prep;
    (void)snprintf(e->padded, sizeof e->padded, "%s", parts->padded != NULL ? parts->padded : "");
    enum ft_status st = set_up(e, threads, batch_max, err);
    if (st != FT_OK) {
        ft_encoder_free(e);
        return st;
    }
    *encoder = e;
    return FT_OK;
}

static enum ft_status load(struct ft_encoder *e, const struct ft_encoder_spec *spec, struct ft_err *err)
{
    struct ft_tailor_options defaults;
    struct ft_tailor_report report;
    memset(&defaults, 0, sizeof defaults);
    memset(&report, 0, sizeof report);
    FT_RETURN_IF_FAILED(ft_model_load(spec->model_path, spec->model_options, &e->own_model, err));
    FT_RETURN_IF_FAILED(ft_tailor(e->own_model, spec->tailor != NULL ? spec->tailor : &defaults,
                                  &e->own_graph, &report, err));
    (void)snprintf(e->about, sizeof e->about, "embedding of %lld numbers at %s%s%s: %s",
                   (long long)report.dim, report.embedding_at, report.head[0] != '\0' ? ", without " : "",
                   report.head, report.why);
    ft_tailor_report_release(&report);
    FT_RETURN_IF_FAILED(ft_input_tokenizer(e->own_model, &e->own_tokenizer, err));
    FT_RETURN_IF_FAILED(
        ft_input_prep(e->own_graph, e->own_model, e->own_tokenizer, spec->prep_options, &e->prep, err));
    struct ft_graph *packed = NULL;
    FT_RETURN_IF_FAILED(ft_input_pack(e->own_graph, &packed, e->padded, err));
    if (packed != NULL) {
        ft_graph_free(e->own_graph);
        e->own_graph = packed;
    }
    return FT_OK;
}

/* The model as it is now, the program, and what the encoder will take. */
static enum ft_status fit_memory(const struct ft_encoder *e, const struct ft_encoder_spec *spec,
                                 int64_t *batch_max, struct ft_err *err)
{
    size_t budget = spec->memory > 0 ? (size_t)spec->memory : ft_memory_limit();
    size_t loaded = ft_alloc_stats().live_bytes + FT_PROGRAM_BYTES;
    for (*batch_max = spec->batch_max;; *batch_max /= 2) {
        size_t bytes = 0;
        size_t rows = 2 * (size_t)*batch_max * ft_prep_elements(&e->prep) * sizeof(float);
        FT_RETURN_IF_FAILED(
            ft_encoder_price(e->own_device, e->own_graph, *batch_max, e->prep.max_length, &bytes, err));
        if (loaded + rows + bytes <= budget) {
            return FT_OK;
        }
        if (spec->memory == 0 || *batch_max == 1) {
            return FT_FAIL(err, LIMIT, "batches of %lld documents need %zu MB, %s %zu MB",
                           (long long)*batch_max, (loaded + rows + bytes + 999999) / 1000000,
                           spec->memory > 0 ? "and memory is limited to" : "and this machine has",
                           budget / 1000000);
        }
    }
}

enum ft_status ft_encoder_open(const struct ft_encoder_spec *spec, struct ft_encoder **encoder,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_encoder *e = NULL;
    int64_t batch_max = 0;
    int64_t before = ft_alloc_thread_bytes();
    *encoder = NULL;
    if (spec->batch_max < 1) {
        return FT_FAIL(err, INVALID, "a batch of %lld documents; wanted at least 1",
                       (long long)spec->batch_max);
    }
    FT_TRY(ft_new(1, sizeof *e, &e, err));
    FT_TRY(ft_device_open(spec->device, spec->threads, &e->own_device, err));
    FT_TRY(ft_device_set_precision(e->own_device, spec->precision, err));
    FT_TRY(load(e, spec, err));
    FT_TRY(ft_params_init(&e->own_params, e->own_device, e->own_graph, NULL, err));
    e->parts.device = e->own_device;
    e->parts.graph = e->own_graph;
    e->parts.params = &e->own_params;
    FT_TRY(fit_memory(e, spec, &batch_max, err));
    FT_TRY(set_up(e, spec->threads, batch_max, err));
    e->bytes = ft_alloc_thread_bytes() - before;
    *encoder = e;
    e = NULL;
done:
    ft_encoder_free(e);
    return st;
}

void ft_encoder_free(struct ft_encoder *e)
{
    if (e == NULL) {
        return;
    }
    ft_buckets_free(e->buckets);
    ft_text_in_release(&e->text_in);
    ft_batch_release(&e->texts);
    if (e->rng != NULL) {
        ft_device_free(e->parts.device, e->rng);
    }
    ft_flat_release(&e->rows);
    ft_flat_release(&e->embeddings);
    ft_params_release(&e->own_params);
    ft_graph_free(e->own_graph);
    ft_tokenizer_free(e->own_tokenizer);
    ft_model_free(e->own_model);
    ft_device_close(e->own_device);
    ft_pool_free(e->pool);
    ft_free(e);
}

const char *ft_encoder_about(const struct ft_encoder *e)
{
    return e->about;
}

int64_t ft_encoder_batch_max(const struct ft_encoder *e)
{
    return e->batch_max;
}

int64_t ft_encoder_dim(const struct ft_encoder *e)
{
    return e->input.dim;
}

const struct ft_prep *ft_encoder_prep(const struct ft_encoder *e)
{
    return &e->prep;
}

const char *ft_encoder_precision_note(const struct ft_encoder *encoder)
{
    return ft_device_precision_note(encoder->parts.device);
}

const char *ft_encoder_int8(const struct ft_encoder *e)
{
    return e->int8;
}

const char *ft_encoder_padded(const struct ft_encoder *e)
{
    return e->input.is_text ? e->padded : NULL;
}

uint64_t ft_encoder_tokens(const struct ft_encoder *e)
{
    return e->tokens;
}

size_t ft_encoder_bytes(const struct ft_encoder *e)
{
    return (size_t)e->bytes;
}

struct ft_plan *ft_encoder_plan(const struct ft_encoder *e)
{
    return ft_buckets_last(e->buckets);
}

/* ---- running */

static enum ft_status find_plan(struct ft_encoder *e, const int64_t symbols[FT_MAX_SYMBOLS],
                                struct ft_plan **plan, struct ft_err *err)
{
    int64_t before = ft_alloc_thread_bytes();
    enum ft_status st = ft_buckets_find(e->buckets, symbols, plan, err);
    e->bytes += ft_alloc_thread_bytes() - before;
    return st;
}

/* Inputs are there. */
static enum ft_status run(struct ft_encoder *e, struct ft_plan *plan, size_t rows, float *out,
                          struct ft_err *err)
{
    int64_t before = ft_alloc_thread_bytes();
    ft_params_show(e->parts.params, plan);
    FT_RETURN_IF_FAILED(ft_plan_run(plan, err));
    FT_RETURN_IF_FAILED(ft_device_wait(e->parts.device, err));
    e->bytes += ft_alloc_thread_bytes() - before; /* weights are packed at the first run */
    return ft_flat_get(&e->embeddings, 0, out, rows * (size_t)e->input.dim, err);
}

enum ft_status ft_encoder_rows(struct ft_encoder *e, const float *rows_in, size_t rows, float *out,
                               struct ft_err *err)
{
    size_t elements = ft_prep_elements(&e->prep);
    int64_t symbols[FT_MAX_SYMBOLS] = {0};
    struct ft_plan *plan = NULL;
    assert(!e->input.is_text && rows <= (size_t)e->batch_max);
    if (rows == 0) {
        return FT_OK;
    }
    int64_t planned = 1;
    while (planned < (int64_t)rows) {
        planned *= BUCKET_STEP;
    }
    symbols[FT_SYMBOL_BATCH] = planned < e->batch_max ? planned : e->batch_max;
    FT_RETURN_IF_FAILED(find_plan(e, symbols, &plan, err));
    /* Rows beyond `rows` hold what was there before; nobody reads what becomes of them. */
    FT_RETURN_IF_FAILED(ft_flat_put(&e->rows, 0, rows_in, rows * elements, err));
    return run(e, plan, rows, out, err);
}

/* ---- texts */

static enum ft_status run_texts(struct ft_encoder *e, float *out, struct ft_err *err)
{
    int64_t symbols[FT_MAX_SYMBOLS];
    struct ft_plan *plan = NULL;
    const struct ft_batch *b = &e->texts;
    ft_text_symbols(&e->input.text, &e->text_in.limits, (int64_t)b->rows, (int64_t)b->texts.tokens,
                    (int64_t)b->texts.longest, symbols);
    FT_RETURN_IF_FAILED(find_plan(e, symbols, &plan, err));
    FT_RETURN_IF_FAILED(ft_text_in_put(&e->text_in, b, symbols, err));
    return run(e, plan, b->rows, out, err);
}

/* As many of order[0 .. count) as one batch takes. *failed: see ft_encoder_documents(). */
static enum ft_status fill_texts(struct ft_encoder *e, const struct ft_texts *texts, const uint32_t *order,
                                 size_t count, size_t *failed, struct ft_err *err)
{
    struct ft_batch *b = &e->texts;
    ft_batch_clear_texts(b);
    for (size_t k = 0; k < count; k++) {
        int64_t length = texts->lengths[order[k]];
        int64_t longest = texts->lengths[order[0]];
        if (!ft_text_fits(&e->input.text, &e->text_in.limits, (int64_t)b->rows + 1,
                          (int64_t)b->texts.tokens + length, longest)) {
            break;
        }
        size_t at = ft_batch_add_text(b, (size_t)length);
        *failed = order[k];
        FT_RETURN_IF_FAILED(ft_texts_get(texts, order[k], b->texts.ids + at, err));
    }
    *failed = texts->source.count;
    return FT_OK;
}

struct watch {
    const struct ft_cancel *cancel;
    ft_encode_progress progress;
    void *arg;
};

static enum ft_status encode_texts(struct ft_encoder *e, const struct ft_texts *texts, float *out,
                                   const struct watch *watch, size_t *failed, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    uint32_t *order = NULL;
    float *found = NULL;
    size_t dim = (size_t)e->input.dim;
    struct ft_encode_done done = {.count = texts->source.count, .tokens_all = texts->tokens};
    *failed = done.count;
    FT_TRY(ft_texts_by_length(texts, &order, err));
    FT_TRY(ft_new((size_t)e->batch_max * dim, sizeof *found, &found, err));
    while (done.done < done.count) {
        if (ft_cancelled(watch->cancel)) {
            st = FT_FAIL(err, CANCELLED, "cancelled after %zu of %zu documents", done.done, done.count);
            goto done;
        }
        const uint32_t *these = order + done.done;
        FT_TRY(fill_texts(e, texts, these, done.count - done.done, failed, err));
        FT_TRY(run_texts(e, found, err));
        for (size_t k = 0; k < e->texts.rows; k++) {
            memcpy(out + these[k] * dim, found + k * dim, dim * sizeof *out);
        }
        done.done += e->texts.rows;
        done.tokens += e->texts.texts.tokens;
        e->tokens += e->texts.texts.tokens;
        if (watch->progress != NULL) {
            watch->progress(watch->arg, &done);
        }
    }
done:
    ft_free(found);
    ft_free(order);
    return st;
}

/* ---- documents */

static enum ft_status content_of(const void *arg, size_t i, struct ft_buf *own, struct ft_content *content,
                                 struct ft_err *err)
{
    const struct ft_document *docs = arg;
    (void)own;
    (void)err;
    *content = docs[i].content;
    return FT_OK;
}

static enum ft_status text_documents(struct ft_encoder *e, const struct ft_document *docs, size_t count,
                                     float *out, size_t *failed, struct ft_err *err)
{
    const struct ft_texts_source source = {content_of, docs, count, e->threads, SIZE_MAX};
    const struct watch nobody = {0};
    struct ft_texts texts;
    FT_RETURN_IF_FAILED(ft_texts_init(&texts, &source, &e->prep, NULL, failed, err));
    enum ft_status st = encode_texts(e, &texts, out, &nobody, failed, err);
    ft_texts_release(&texts);
    return st;
}

enum ft_status ft_encoder_documents(struct ft_encoder *e, const struct ft_document *docs, size_t count,
                                    float *out, size_t *failed, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *rows = NULL;
    size_t most = (size_t)e->batch_max;
    size_t elements = ft_prep_elements(&e->prep);
    *failed = count;
    if (e->input.is_text) {
        return text_documents(e, docs, count, out, failed, err);
    }
    FT_TRY(ft_new(most < count ? most : count, elements * sizeof *rows, &rows, err));
    for (size_t first = 0; first < count; first += most) {
        size_t n = count - first < most ? count - first : most;
        for (size_t i = 0; i < n; i++) {
            *failed = first + i;
            FT_TRY(ft_prep_item(&e->prep, &docs[first + i].content, rows + i * elements, err));
        }
        *failed = count;
        FT_TRY(ft_encoder_rows(e, rows, n, out + first * (size_t)e->input.dim, err));
    }
done:
    ft_free(rows);
    return st;
}

enum ft_status ft_encoder_all(struct ft_encoder *e, const struct ft_rows *rows, float *out,
                              const struct ft_cancel *cancel, ft_encode_progress progress, void *arg,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *batch = NULL;
    size_t most = (size_t)e->batch_max;
    struct ft_encode_done done = {.count = rows->count};
    if (rows->is_text) {
        const struct watch watch = {cancel, progress, arg};
        size_t failed = 0;
        st = encode_texts(e, &rows->texts, out, &watch, &failed, err);
        return st == FT_OK || failed == rows->count ? st : ft_rows_wrap(rows, failed, err);
    }
    if (rows->kept == NULL) {
        FT_TRY(ft_new(most, rows->elements * sizeof *batch, &batch, err));
        if (e->pool == NULL) {
            FT_TRY(ft_pool_new(e->threads > 0 ? (size_t)e->threads : ft_thread_cpus(), &e->pool, err));
        }
    }
    for (size_t i = 0; i < rows->count; i += most) {
        size_t count = rows->count - i < most ? rows->count - i : most;
        const float *from = batch;
        if (ft_cancelled(cancel)) {
            st = FT_FAIL(err, CANCELLED, "cancelled after %zu of %zu documents", i, rows->count);
            goto done;
        }
        if (rows->kept != NULL) {
            from = rows->kept + i * rows->elements;
        } else {
            FT_TRY(ft_rows_fill(rows, i, count, batch, e->pool, err));
        }
        FT_TRY(ft_encoder_rows(e, from, count, out + i * (size_t)e->input.dim, err));
        if (progress != NULL) {
            done.done = i + count;
            progress(arg, &done);
        }
    }
done:
    ft_free(batch);
    return st;
}

enum ft_status ft_encoder_dataset(struct ft_encoder *e, const struct ft_dataset *dataset, float *out,
                                  const struct ft_cancel *cancel, ft_encode_progress progress, void *arg,
                                  struct ft_err *err)
{
    struct ft_rows rows;
    size_t keep_max = e->input.is_text ? ft_rows_keep_max() : 0;
    FT_RETURN_IF_FAILED(ft_rows_init(&rows, dataset, &e->prep, e->threads, keep_max, cancel, err));
    enum ft_status st = ft_encoder_all(e, &rows, out, cancel, progress, arg, err);
    ft_rows_release(&rows);
    return st;
}
