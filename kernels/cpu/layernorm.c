#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/*
 * Layer normalisation: rows of n contiguous values. Backward also sums over rows: they are dealt to a number
 * of lanes that depends on the shape alone; a lane adds blocks of rows in float, blocks in double, and the
 * lanes are merged in order.
 */

struct ln {
    struct ft_kernel head;
    int64_t rows, n, lanes;
    float eps;
    bool bias;
};

struct ln_job {
    const struct ln *k;
    const struct ft_vec *vec;
    const float *dy, *x, *scale, *bias;
    float *y;             /* or dx */
    float *mean, *invstd; /* read by backward */
    float *dscale, *dbias;
    double *sums; /* (lanes, 2, n): dscale and dbias */
    float *block; /* the same for one block of rows */
};

static void forward_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct ln_job *job = context;
    int64_t n = job->k->n;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        double mean = 0;
        double m2 = 0;
        struct ft_vec_moments m = {.count = 0, .mean = &mean, .m2 = &m2};
        job->vec->bn_moments_row(job->x + r * n, n, &m);
        const float mk[2] = {(float)mean, (float)(1.0 / sqrt(m2 / (double)n + (double)job->k->eps))};
        job->vec->ln_apply(job->x + r * n, job->scale, job->bias, job->y + r * n, (size_t)n, mk);
        job->mean[r] = mk[0];
        job->invstd[r] = mk[1];
    }
}

static enum ft_status forward_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct ln *k = (const struct ln *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct ln_job job = {.k = k,
                         .vec = cpu->vec,
                         .x = ft_in(in, 0),
                         .scale = ft_in(in, 1),
                         .bias = k->bias ? ft_in(in, 2) : NULL,
                         .y = ft_out(out, 0),
                         .mean = ft_out(out, 1),
                         .invstd = ft_out(out, 2)};
    ft_cpu_items(cpu, k->rows, 3 * k->n, forward_rows, &job);
    return FT_OK;
}

/* ---- backward */

enum { BLOCK_ROWS = 64 }; /* that a float sum is good for */

static void backward_row(const struct ln_job *job, int64_t r, float *block)
{
    size_t n = (size_t)job->k->n;
    const float *dy = job->dy + r * job->k->n;
    const float *x = job->x + r * job->k->n;
    double invstd = (double)job->invstd[r];
    double sum = job->vec->dot(dy, job->scale, n);
    double dot = job->vec->ln_dot(dy, x, job->scale, n, job->mean[r]);
    const float mkpq[4] = {job->mean[r], job->invstd[r], (float)(invstd * sum / (double)n),
                           (float)(invstd * invstd * invstd * dot / (double)n)};
    job->vec->ln_grad(dy, x, job->scale, job->y + r * job->k->n, n, mkpq, block);
}

static void backward_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct ln_job *job = context;
    const struct ln *k = job->k;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        int64_t last = k->rows * (lane + 1) / k->lanes;
        double *sums = job->sums + lane * 2 * k->n;
        float *block = job->block + lane * 2 * k->n;
        memset(sums, 0, (size_t)(2 * k->n) * sizeof *sums);
        for (int64_t first = k->rows * lane / k->lanes; first < last; first += BLOCK_ROWS) {
            int64_t stop = first + BLOCK_ROWS < last ? first + BLOCK_ROWS : last;
            memset(block, 0, (size_t)(2 * k->n) * sizeof *block);
            for (int64_t r = first; r < stop; r++) {
                backward_row(job, r, block);
            }
            for (int64_t i = 0; i < 2 * k->n; i++) {
                sums[i] += (double)block[i];
            }
        }
    }
}

static void merge_columns(void *context, int thread, int64_t begin, int64_t end)
{
    const struct ln_job *job = context;
    const struct ln *k = job->k;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        double scale = 0;
        double bias = 0;
        for (int64_t lane = 0; lane < k->lanes; lane++) {
            scale += job->sums[lane * 2 * k->n + i];
            bias += job->sums[lane * 2 * k->n + k->n + i];
        }
        job->dscale[i] = (float)scale;
        job->dbias[i] = (float)bias;
    }
}

static enum ft_status backward_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                   const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    const struct ln *k = (const struct ln *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct ln_job job = {.k = k,
                         .vec = cpu->vec,
                         .dy = ft_in(in, 0),
                         .x = ft_in(in, 1),
                         .scale = ft_in(in, 2),
                         .mean = (float *)in[3].data,
                         .invstd = (float *)in[4].data,
                         .y = ft_out(out, 0),
                         .dscale = ft_out(out, 1),
                         .dbias = ft_out(out, 2),
                         .sums = scratch};
    job.block = (float *)(void *)(job.sums + k->lanes * 2 * k->n);
    ft_cpu_items(cpu, k->lanes, 6 * k->n * (k->rows / k->lanes + 1), backward_lanes, &job);
    ft_cpu_items(cpu, k->n, 2 * k->lanes, merge_columns, &job);
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, const struct ft_type *x,
                              ft_cpu_run run, struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct ln), run, kernel, err));
    struct ln *k = (struct ln *)(void *)*kernel;
    k->rows = ft_cpu_product(x, 0, call->attrs.axis);
    k->n = ft_cpu_product(x, call->attrs.axis, x->rank);
    k->eps = call->attrs.eps;
    k->bias = call->n_in == 3;
    k->lanes = ft_cpu_lanes(k->rows * k->n);
    k->lanes = k->lanes < k->rows ? k->lanes : k->rows;
    return FT_OK;
}

enum ft_status ft_cpu_layernorm(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare(device, call, &call->in[0], forward_run, kernel, err);
}

enum ft_status ft_cpu_layernorm_bwd(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(prepare(device, call, &call->in[1], backward_run, kernel, err));
    const struct ln *k = (const struct ln *)(const void *)*kernel;
    *scratch = (size_t)(k->lanes * 2 * k->n) * (sizeof(double) + sizeof(float));
    return FT_OK;
}
