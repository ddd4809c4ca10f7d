#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/*
 * Batch normalisation in one reading pass for the sums and one for the result. Two geometries: rows of
 * channels (channels-last, or rank 2), where rows are dealt to a fixed number of lanes whose sums are merged
 * in order; and planes of one channel (row-major), where one item is one channel. Neither depends on the
 * number of threads.
 */

struct bn {
    struct ft_kernel head;
    bool cols;
    int64_t rows, channels, plane; /* rows of channels; or `rows` images of channels x plane */
    int64_t lanes;
    float eps, momentum;
};

struct bn_job {
    const struct bn *k;
    const struct ft_vec *vec;
    const float *x, *dy;
    float *y;                               /* or dx */
    const float *scale, *bias, *mean, *var; /* var: invstd in training's backward */
    float *out[5];                          /* as the row says */
    double *sums;        /* (lanes, 2 C) or (C, 2): mean and m2, or sum dy and sum dy (x - mean) */
    float *coefficients; /* (4, C) */
};

static int64_t values(const struct bn *k)
{
    return k->cols ? k->rows : k->rows * k->plane;
}

static size_t sums_bytes(const struct bn *k)
{
    return (size_t)(k->lanes * 2 * k->channels) * sizeof(double);
}

static struct bn_job job_of(const struct ft_kernel *kernel, void *scratch)
{
    const struct bn *k = (const struct bn *)(const void *)kernel;
    struct bn_job job = {.k = k, .vec = ft_cpu_of(kernel->device)->vec, .sums = scratch};
    if (scratch != NULL) {
        job.coefficients = (float *)(void *)((char *)scratch + sums_bytes(k));
    }
    return job;
}

static int64_t lane_begin(const struct bn *k, int64_t lane)
{
    return k->rows * lane / k->lanes;
}

/* ---- moments */

static void moments_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        double *sums = job->sums + lane * 2 * k->channels;
        memset(sums, 0, (size_t)(2 * k->channels) * sizeof *sums);
        struct ft_vec_moments m = {.count = 0, .mean = sums, .m2 = sums + k->channels};
        int64_t from = lane_begin(k, lane);
        job->vec->bn_moments_cols(job->x + from * k->channels, lane_begin(k, lane + 1) - from, k->channels,
                                  &m);
    }
}

static void moments_channels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        double *mean = job->sums + c;
        double *m2 = job->sums + k->channels + c;
        *mean = 0;
        *m2 = 0;
        struct ft_vec_moments m = {.count = 0, .mean = mean, .m2 = m2};
        for (int64_t i = 0; i < k->rows; i++) {
            job->vec->bn_moments_row(job->x + (i * k->channels + c) * k->plane, k->plane, &m);
        }
    }
}

/* Merge the lanes of each channel in order; then everything that is one value a channel. */
static void finish_train(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    int64_t channels = k->channels;
    double count = (double)values(k);
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        double mean = job->sums[c];
        double m2 = job->sums[channels + c];
        double before = k->cols ? (double)lane_begin(k, 1) : count;
        for (int64_t lane = 1; lane < k->lanes; lane++) {
            const double *s = job->sums + lane * 2 * channels;
            double more = (double)(lane_begin(k, lane + 1) - lane_begin(k, lane));
            double delta = s[c] - mean;
            mean += delta * (more / (before + more));
            m2 += s[channels + c] + delta * delta * (before * more / (before + more));
            before += more;
        }
        double invstd = 1.0 / sqrt(m2 / count + (double)k->eps);
        double m = (double)k->momentum;
        job->out[3][c] = (float)((1.0 - m) * (double)job->mean[c] + m * mean);
        job->out[4][c] = (float)((1.0 - m) * (double)job->var[c] + m * (m2 / (count - 1.0)));
        job->out[1][c] = (float)mean;
        job->out[2][c] = (float)invstd;
        job->coefficients[c] = (float)mean;
        job->coefficients[channels + c] = (float)(invstd * (double)job->scale[c]);
        job->coefficients[2 * channels + c] = job->bias[c];
    }
}

/* ---- y = (x - mean) * k + b */

static void apply_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    int64_t at = begin * job->k->channels;
    (void)thread;
    job->vec->bn_apply_cols(job->x + at, job->y + at, end - begin, job->k->channels, job->coefficients);
}

static void apply_planes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t c = i % k->channels;
        const float *all = job->coefficients;
        float mkb[3] = {all[c], all[k->channels + c], all[2 * k->channels + c]};
        job->vec->bn_apply_row(job->x + i * k->plane, job->y + i * k->plane, k->plane, mkb);
    }
}

static void apply(const struct ft_cpu *cpu, struct bn_job *job)
{
    const struct bn *k = job->k;
    if (k->cols) {
        ft_cpu_items(cpu, k->rows, k->channels, apply_rows, job);
    } else {
        ft_cpu_items(cpu, k->rows * k->channels, k->plane, apply_planes, job);
    }
}

static enum ft_status train_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)err;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct bn_job job = job_of(kernel, scratch);
    const struct bn *k = job.k;
    job.x = ft_in(in, 0);
    job.scale = ft_in(in, 1);
    job.bias = ft_in(in, 2);
    job.mean = ft_in(in, 3);
    job.var = ft_in(in, 4);
    job.y = ft_out(out, 0);
    for (int i = 0; i < 5; i++) {
        job.out[i] = ft_out(out, i);
    }
    if (k->cols) {
        ft_cpu_items(cpu, k->lanes, k->rows * k->channels / k->lanes, moments_lanes, &job);
    } else {
        ft_cpu_items(cpu, k->channels, k->rows * k->plane, moments_channels, &job);
    }
    ft_cpu_items(cpu, k->channels, 4 * k->lanes, finish_train, &job);
    apply(cpu, &job);
    return FT_OK;
}

static enum ft_status eval_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)err;
    struct bn_job job = job_of(kernel, scratch);
    int64_t channels = job.k->channels;
    job.x = ft_in(in, 0);
    job.y = ft_out(out, 0);
    for (int64_t c = 0; c < channels; c++) {
        double invstd = 1.0 / sqrt((double)ft_in(in, 4)[c] + (double)job.k->eps);
        job.coefficients[c] = ft_in(in, 3)[c];
        job.coefficients[channels + c] = (float)(invstd * (double)ft_in(in, 1)[c]);
        job.coefficients[2 * channels + c] = ft_in(in, 2)[c];
    }
    apply(ft_cpu_of(kernel->device), &job);
    return FT_OK;
}

/* ---- backward */

static void sums_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        double *sums = job->sums + lane * 2 * k->channels;
        memset(sums, 0, (size_t)(2 * k->channels) * sizeof *sums);
        int64_t from = lane_begin(k, lane);
        int64_t at = from * k->channels;
        job->vec->bn_sums_cols(job->dy + at, job->x + at, lane_begin(k, lane + 1) - from, k->channels,
                               job->mean, sums);
    }
}

static void sums_channels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        double both[2] = {0, 0};
        for (int64_t i = 0; i < k->rows; i++) {
            int64_t at = (i * k->channels + c) * k->plane;
            job->vec->bn_sums_row(job->dy + at, job->x + at, k->plane, job->mean[c], both);
        }
        job->sums[c] = both[0];
        job->sums[k->channels + c] = both[1];
    }
}

/* In evaluation mode mean and var are constants: p and q are 0 and `var` is the variance. */
static void finish_bwd(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    int64_t channels = k->channels;
    bool train = k->head.op == FT_OP_BATCHNORM_TRAIN_BWD;
    double count = (double)values(k);
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        double dot = 0;
        for (int64_t lane = 0; lane < k->lanes; lane++) {
            sum += job->sums[lane * 2 * channels + c];
            dot += job->sums[lane * 2 * channels + channels + c];
        }
        double invstd = train ? (double)job->var[c] : 1.0 / sqrt((double)job->var[c] + (double)k->eps);
        job->out[1][c] = (float)(dot * invstd);
        job->out[2][c] = (float)sum;
        job->coefficients[c] = job->mean[c];
        job->coefficients[channels + c] = (float)(invstd * (double)job->scale[c]);
        job->coefficients[2 * channels + c] = train ? (float)(sum / count) : 0.0F;
        job->coefficients[3 * channels + c] = train ? (float)(invstd * invstd * dot / count) : 0.0F;
    }
}

static void grad_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    int64_t at = begin * k->channels;
    (void)thread;
    if (k->head.op == FT_OP_BATCHNORM_TRAIN_BWD) {
        job->vec->bn_grad_cols(job->dy + at, job->x + at, job->y + at, end - begin, k->channels,
                               job->coefficients);
        return;
    }
    for (int64_t r = begin; r < end; r++, at += k->channels) {
        job->vec->binary(FT_OP_MUL, FT_VEC_VV, job->dy + at, job->coefficients + k->channels, job->y + at,
                         (size_t)k->channels);
    }
}

static void grad_planes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bn_job *job = context;
    const struct bn *k = job->k;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t c = i % k->channels;
        const float *all = job->coefficients;
        float mkpq[4] = {all[c], all[k->channels + c], all[2 * k->channels + c], all[3 * k->channels + c]};
        job->vec->bn_grad_row(job->dy + i * k->plane, job->x + i * k->plane, job->y + i * k->plane, k->plane,
                              mkpq);
    }
}

static enum ft_status bwd_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                              void *scratch, struct ft_err *err)
{
    (void)err;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct bn_job job = job_of(kernel, scratch);
    const struct bn *k = job.k;
    job.dy = ft_in(in, 0);
    job.x = ft_in(in, 1);
    job.scale = ft_in(in, 2);
    job.mean = ft_in(in, 3);
    job.var = ft_in(in, 4);
    job.y = ft_out(out, 0);
    job.out[1] = ft_out(out, 1);
    job.out[2] = ft_out(out, 2);
    if (k->cols) {
        ft_cpu_items(cpu, k->lanes, 2 * k->rows * k->channels / k->lanes, sums_lanes, &job);
    } else {
        ft_cpu_items(cpu, k->channels, 2 * k->rows * k->plane, sums_channels, &job);
    }
    ft_cpu_items(cpu, k->channels, 4 * k->lanes, finish_bwd, &job);
    if (k->cols) {
        ft_cpu_items(cpu, k->rows, 2 * k->channels, grad_rows, &job);
    } else {
        ft_cpu_items(cpu, k->rows * k->channels, 2 * k->plane, grad_planes, &job);
    }
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, const struct ft_type *x,
                              ft_cpu_run run, struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct bn), run, kernel, err));
    struct bn *k = (struct bn *)(void *)*kernel;
    k->channels = ft_extent(x, 1);
    k->plane = ft_cpu_product(x, 2, x->rank);
    k->cols = x->layout == FT_CHANNELS_LAST || k->plane == 1;
    k->rows = ft_extent(x, 0) * (k->cols ? k->plane : 1);
    k->lanes = k->cols ? ft_cpu_lanes(ft_elements(x)) : 1;
    k->lanes = k->lanes < k->rows ? k->lanes : k->rows;
    k->eps = call->attrs.eps;
    k->momentum = call->attrs.momentum;
    *scratch = sums_bytes(k) + (size_t)(4 * k->channels) * sizeof(float);
    return FT_OK;
}

#define FT_BATCHNORM(name, x, run)                                                                           \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        return prepare(device, call, &call->in[x], run, kernel, scratch, err);                               \
    }

FT_BATCHNORM(batchnorm, 0, eval_run)
FT_BATCHNORM(batchnorm_bwd, 1, bwd_run)
FT_BATCHNORM(batchnorm_train, 0, train_run)
FT_BATCHNORM(batchnorm_train_bwd, 1, bwd_run)

/* ---- folded into a convolution */

struct fold {
    struct ft_kernel head;
    int64_t features, taps;
    float eps;
    bool bias;
};

struct fold_job {
    const struct fold *k;
    const struct ft_vec *vec;
    const struct ft_arg *in, *out;
};

static void fold_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct fold_job *job = context;
    int64_t taps = job->k->taps;
    (void)thread;
    for (int64_t m = begin; m < end; m++) {
        float factor = ft_in(job->in, 1)[m] / sqrtf(ft_in(job->in, 4)[m] + job->k->eps);
        float b = job->k->bias ? ft_in(job->in, 5)[m] : 0.0F;
        ft_out(job->out, 1)[m] = (b - ft_in(job->in, 3)[m]) * factor + ft_in(job->in, 2)[m];
        job->vec->scale(ft_in(job->in, 0) + m * taps, ft_out(job->out, 0) + m * taps, (size_t)taps, factor);
    }
}

static enum ft_status fold_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct fold *k = (const struct fold *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct fold_job job = {.k = k, .vec = cpu->vec, .in = in, .out = out};
    ft_cpu_items(cpu, k->features, k->taps, fold_range, &job);
    return FT_OK;
}

enum ft_status ft_cpu_fold_batchnorm(struct ft_device *device, const struct ft_call *call,
                                     struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct fold), fold_run, kernel, err));
    struct fold *k = (struct fold *)(void *)*kernel;
    k->features = ft_extent(&call->in[0], 0);
    k->taps = ft_elements(&call->in[0]) / k->features;
    k->eps = call->attrs.eps;
    k->bias = call->n_in == 6;
    return FT_OK;
}
