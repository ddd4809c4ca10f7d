#include <math.h>

#include "kernels/cpu/reduce.h"

/*
 * The rows REDUCE and REDUCE_BWD: plain loops over rows of neighbours. Row element i goes into accumulator i,
 * or all of them into one. Results are dealt to threads whole, so threads do not change their bits.
 */

struct fold {
    struct ft_kernel head;
    struct ft_reduce axes;
    enum ft_reduce_kind fold;
};

struct fold_job {
    const struct fold *k;
    const float *dy, *x;
    float *y; /* read by backward */
    float *dx;
    double *scratch; /* two for each result */
};

/* n neighbours at x, their accumulators `step` (0 or 1) apart; where: of the first in x, and of the first
 * result in y. */
struct row {
    const struct fold_job *job;
    int64_t x_at, y_at, n, step;
    double *a, *b;
};
typedef void (*row_body)(const struct row *r);

static void each_row(const struct fold_job *job, int64_t kept, row_body body)
{
    const struct ft_reduce *axes = &job->k->axes;
    int last = axes->summed.rank - 1;
    int64_t extent = last >= 0 ? axes->summed.extent[last] : 1;
    int64_t stride = last >= 0 ? axes->summed.x[last] : 0;
    int64_t base = ft_reduce_offset(&axes->kept, axes->kept.x, kept);
    struct row r = {.job = job,
                    .y_at = ft_reduce_offset(&axes->kept, axes->kept.y, kept),
                    .n = axes->inner_kept ? axes->inner : extent,
                    .step = axes->inner_kept,
                    .a = job->scratch + 2 * kept * axes->inner,
                    .b = job->scratch + (2 * kept + 1) * axes->inner};
    for (int64_t at = 0; at < axes->summed.count; at += extent) {
        int64_t from = base + ft_reduce_offset(&axes->summed, axes->summed.x, at);
        for (int64_t run = 0; run < (axes->inner_kept ? extent : 1); run++) {
            r.x_at = from + run * stride;
            body(&r);
        }
    }
}

static void row_max(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        double *a = &r->a[i * r->step];
        double v = (double)x[i];
        *a = v > *a || isnan(v) ? v : *a;
    }
}

static void row_min(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        double *a = &r->a[i * r->step];
        double v = (double)x[i];
        *a = v < *a || isnan(v) ? v : *a;
    }
}

static void row_prod(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        r->a[i * r->step] *= (double)x[i];
    }
}

/* Beside the largest, which is the shift unless it is infinite. */
static void row_exp_sum(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        double shift = r->a[i * r->step];
        r->b[i * r->step] += exp((double)x[i] - (isfinite(shift) ? shift : 0.0));
    }
}

static void fold_items(void *context, int thread, int64_t begin, int64_t end)
{
    static const row_body first[FT_FOLD_COUNT] = {row_max, row_min, row_prod, row_max};
    static const double neutral[FT_FOLD_COUNT] = {-INFINITY, INFINITY, 1.0, -INFINITY};
    const struct fold_job *job = context;
    const struct ft_reduce *axes = &job->k->axes;
    enum ft_reduce_kind fold = job->k->fold;
    (void)thread;
    for (int64_t kept = begin; kept < end; kept++) {
        double *a = job->scratch + 2 * kept * axes->inner;
        double *b = a + axes->inner;
        float *y = job->y + ft_reduce_offset(&axes->kept, axes->kept.y, kept);
        for (int64_t c = 0; c < axes->inner; c++) {
            a[c] = neutral[fold];
            b[c] = 0;
        }
        each_row(job, kept, first[fold]);
        if (fold == FT_FOLD_LOG_SUM_EXP) {
            each_row(job, kept, row_exp_sum);
        }
        for (int64_t c = 0; c < axes->inner; c++) {
            double result = fold == FT_FOLD_LOG_SUM_EXP ? (isfinite(a[c]) ? a[c] : 0.0) + log(b[c]) : a[c];
            y[c * axes->inner_y] = (float)result;
        }
    }
}

static enum ft_status fold_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)err;
    const struct fold *k = (const struct fold *)(const void *)kernel;
    struct fold_job job = {.k = k, .x = ft_in(in, 0), .y = ft_out(out, 0), .scratch = scratch};
    ft_cpu_items(ft_cpu_of(kernel->device), k->axes.kept.count, 2 * k->axes.summed.count * k->axes.inner,
                 fold_items, &job);
    return FT_OK;
}

/* ---- backward: a counts ties, or is the product of what is not 0, and b counts zeros */

static int64_t result_of(const struct row *r, int64_t i)
{
    return r->y_at + i * r->step * r->job->k->axes.inner_y;
}

static void row_ties(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        r->a[i * r->step] += x[i] == r->job->y[result_of(r, i)];
    }
}

static void row_share(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    float *dx = r->job->dx + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        int64_t at = result_of(r, i);
        dx[i] = x[i] == r->job->y[at] ? (float)((double)r->job->dy[at] / r->a[i * r->step]) : 0.0F;
    }
}

static void row_factors(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        r->a[i * r->step] *= x[i] == 0.0F ? 1.0 : (double)x[i];
        r->b[i * r->step] += x[i] == 0.0F;
    }
}

/* The product of the others. */
static void row_others(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    float *dx = r->job->dx + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        double product = r->a[i * r->step];
        double zeros = r->b[i * r->step];
        double others = x[i] == 0.0F ? (zeros > 1.0 ? 0.0 : product)
                        : zeros > 0  ? 0.0
                                     : product / (double)x[i];
        dx[i] = (float)((double)r->job->dy[result_of(r, i)] * others);
    }
}

static void row_softmax(const struct row *r)
{
    const float *x = r->job->x + r->x_at;
    float *dx = r->job->dx + r->x_at;
    for (int64_t i = 0; i < r->n; i++) {
        int64_t at = result_of(r, i);
        dx[i] = (float)((double)r->job->dy[at] * exp((double)x[i] - (double)r->job->y[at]));
    }
}

static void backward_items(void *context, int thread, int64_t begin, int64_t end)
{
    static const row_body first[FT_FOLD_COUNT] = {row_ties, row_ties, row_factors, NULL};
    static const row_body second[FT_FOLD_COUNT] = {row_share, row_share, row_others, row_softmax};
    const struct fold_job *job = context;
    const struct ft_reduce *axes = &job->k->axes;
    enum ft_reduce_kind fold = job->k->fold;
    (void)thread;
    for (int64_t kept = begin; kept < end; kept++) {
        double *a = job->scratch + 2 * kept * axes->inner;
        for (int64_t c = 0; c < axes->inner; c++) {
            a[c] = fold == FT_FOLD_PROD ? 1.0 : 0.0;
            a[axes->inner + c] = 0;
        }
        if (first[fold] != NULL) {
            each_row(job, kept, first[fold]);
        }
        each_row(job, kept, second[fold]);
    }
}

static enum ft_status backward_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                   const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    const struct fold *k = (const struct fold *)(const void *)kernel;
    struct fold_job job = {.k = k,
                           .dy = ft_in(in, 0),
                           .x = ft_in(in, 1),
                           .y = (float *)in[2].data,
                           .dx = ft_out(out, 0),
                           .scratch = scratch};
    ft_cpu_items(ft_cpu_of(kernel->device), k->axes.kept.count, 3 * k->axes.summed.count * k->axes.inner,
                 backward_items, &job);
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, const struct ft_type *x,
                              const struct ft_type *y, ft_cpu_run run, struct ft_kernel **kernel,
                              struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK];
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct fold), run, kernel, err));
    struct fold *k = (struct fold *)(void *)*kernel;
    ft_reduce_strides(&call->attrs, x, y, strides);
    ft_reduce_build(x, strides, &k->axes);
    k->fold = (enum ft_reduce_kind)call->attrs.kind;
    return FT_OK;
}

static size_t scratch_of(const struct ft_kernel *kernel)
{
    const struct ft_reduce *axes = &((const struct fold *)(const void *)kernel)->axes;
    return (size_t)(2 * axes->kept.count * axes->inner) * sizeof(double);
}

enum ft_status ft_cpu_reduce(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(prepare(device, call, &call->in[0], &call->out[0], fold_run, kernel, err));
    *scratch = scratch_of(*kernel);
    return FT_OK;
}

enum ft_status ft_cpu_reduce_bwd(struct ft_device *device, const struct ft_call *call,
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(prepare(device, call, &call->in[1], &call->in[0], backward_run, kernel, err));
    *scratch = scratch_of(*kernel);
    return FT_OK;
}
