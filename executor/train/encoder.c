#include "executor/train/encoder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/budget.h"
#include "executor/train/encoder_internal.h"
#include "executor/train/input.h"

/* Plans for 1, 8, 64, 512, ... and batch_max rows, made when first needed: a lone query is not padded to a
 * whole batch, and no more than a few plans hold memory. */
enum { BUCKETS = 8, BUCKET_STEP = 8 };

struct bucket {
    int64_t rows;
    struct ft_plan *plan;
};

struct ft_encoder {
    struct ft_encoder_parts parts; /* what is used; owned by the members below after ft_encoder_open() */
    struct ft_device *own_device;
    struct ft_model *own_model;
    struct ft_graph *own_graph;
    struct ft_params own_params;
    struct ft_prep prep;
    struct ft_input input;
    int threads;
    int64_t batch_max;
    struct ft_pool *pool; /* made when a dataset is first encoded */
    struct bucket buckets[BUCKETS];
    int n_buckets;
    struct ft_flat rows, embeddings; /* (batch_max, elements), (batch_max, D) */
    void *rng;                       /* device (2) I64, when the graph reads one */
    char about[256];
};

/* ---- life */

static enum ft_status set_up(struct ft_encoder *e, int threads, int64_t batch_max, struct ft_err *err)
{
    struct ft_device *device = e->parts.device;
    e->threads = threads;
    e->batch_max = batch_max;
    FT_RETURN_IF_FAILED(ft_input_find(e->parts.graph, &e->input, err));
    size_t elements = ft_prep_elements(&e->prep);
    FT_RETURN_IF_FAILED(ft_flat_init(&e->rows, device, (size_t)batch_max * elements, err));
    FT_RETURN_IF_FAILED(ft_flat_init(&e->embeddings, device, (size_t)(batch_max * e->input.dim), err));
    if (e->input.rng != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_device_alloc(device, 2 * sizeof(int64_t), &e->rng, err));
    }
    for (int64_t rows = 1; rows < batch_max && e->n_buckets < BUCKETS - 1; rows *= BUCKET_STEP) {
        e->buckets[e->n_buckets++].rows = rows;
    }
    e->buckets[e->n_buckets++].rows = batch_max;
    return FT_OK;
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
    return ft_input_prep(e->own_graph, e->own_model, spec->prep_options, &e->prep, err);
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
        FT_RETURN_IF_FAILED(ft_encoder_price(e->own_device, e->own_graph, *batch_max, &bytes, err));
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
    for (int i = 0; i < e->n_buckets; i++) {
        ft_plan_free(e->buckets[i].plan);
    }
    if (e->rng != NULL) {
        ft_device_free(e->parts.device, e->rng);
    }
    ft_flat_release(&e->rows);
    ft_flat_release(&e->embeddings);
    ft_params_release(&e->own_params);
    ft_graph_free(e->own_graph);
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

/* ---- running */

static enum ft_status plan_bucket(struct ft_encoder *e, struct bucket *bucket, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_plan *plan = NULL;
    struct ft_plan_spec spec;
    const struct ft_graph *g = e->parts.graph;
    memset(&spec, 0, sizeof spec);
    spec.symbols[FT_SYMBOL_BATCH] = bucket->rows;
    spec.wanted = &e->input.embedding;
    spec.n_wanted = 1;
    FT_TRY(ft_plan_new(e->parts.device, g, &spec, &plan, err));
    FT_TRY(ft_plan_bind(plan, e->input.data, e->rows.data, err));
    FT_TRY(ft_plan_bind(plan, e->input.embedding, e->embeddings.data, err));
    if (e->input.rng != FT_NO_VALUE) {
        FT_TRY(ft_plan_bind(plan, e->input.rng, e->rng, err));
    }
    FT_TRY(ft_params_bind(e->parts.params, plan, g, NULL, err));
    bucket->plan = plan;
    plan = NULL;
done:
    ft_plan_free(plan);
    return st;
}

enum ft_status ft_encoder_rows(struct ft_encoder *e, const float *rows_in, size_t rows, float *out,
                               struct ft_err *err)
{
    size_t elements = ft_prep_elements(&e->prep);
    struct bucket *bucket = e->buckets;
    assert(rows <= (size_t)e->batch_max);
    if (rows == 0) {
        return FT_OK;
    }
    while ((size_t)bucket->rows < rows) {
        bucket++;
    }
    if (bucket->plan == NULL) {
        FT_RETURN_IF_FAILED(plan_bucket(e, bucket, err));
    }
    /* Rows beyond `rows` hold what was there before; nobody reads what becomes of them. */
    FT_RETURN_IF_FAILED(ft_flat_put(&e->rows, 0, rows_in, rows * elements, err));
    ft_params_show(e->parts.params, bucket->plan);
    FT_RETURN_IF_FAILED(ft_plan_run(bucket->plan, err));
    FT_RETURN_IF_FAILED(ft_device_wait(e->parts.device, err));
    return ft_flat_get(&e->embeddings, 0, out, rows * (size_t)e->input.dim, err);
}

enum ft_status ft_encoder_all(struct ft_encoder *e, const struct ft_rows *rows, float *out,
                              const struct ft_cancel *cancel, ft_encode_progress progress, void *arg,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *batch = NULL;
    size_t most = (size_t)e->batch_max;
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
            progress(arg, i + count, rows->count);
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
    FT_RETURN_IF_FAILED(ft_rows_init(&rows, dataset, &e->prep, e->threads, 0, cancel, err));
    enum ft_status st = ft_encoder_all(e, &rows, out, cancel, progress, arg, err);
    ft_rows_release(&rows);
    return st;
}
