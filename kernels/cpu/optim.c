#include <string.h>

#include "kernels/cpu/cpu.h"

/* Flat buffers: sums in lanes whose number depends on the length alone, and the steps of the optimisers. */

struct flat {
    struct ft_kernel head;
    int64_t n, lanes;
    int kind; /* of the optimiser */
    enum ft_reducer reducer;
};

struct flat_job {
    const struct flat *k;
    const struct ft_vec *vec;
    const float *x, *w;
    double *partial; /* (lanes, 2) */
    struct ft_vec_step step;
    const float *in[4];
    float *out[3];
    float factor;
};

static struct flat_job job_of(const struct ft_kernel *kernel, void *scratch)
{
    struct flat_job job = {.k = (const struct flat *)(const void *)kernel,
                           .vec = ft_cpu_of(kernel->device)->vec,
                           .partial = scratch};
    return job;
}

static double total(const struct flat_job *job, int which)
{
    double sum = 0;
    for (int64_t lane = 0; lane < job->k->lanes; lane++) {
        sum += job->partial[2 * lane + which];
    }
    return sum;
}

static void run_lanes(struct flat_job *job, ft_parallel_body body)
{
    const struct flat *k = job->k;
    ft_cpu_items(ft_cpu_of(k->head.device), k->lanes, k->n / k->lanes, body, job);
}

static int64_t lane_begin(const struct flat *k, int64_t lane)
{
    return k->n * lane / k->lanes;
}

/* ---- sum_squares */

static void squares_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct flat_job *job = context;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        int64_t from = lane_begin(job->k, lane);
        job->partial[2 * lane] =
            job->vec->sum_squares(job->x + from, (size_t)(lane_begin(job->k, lane + 1) - from));
    }
}

static enum ft_status sum_squares_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct flat_job job = job_of(kernel, scratch);
    job.x = ft_in(in, 0);
    run_lanes(&job, squares_lanes);
    ft_out(out, 0)[0] = (float)total(&job, 0);
    return FT_OK;
}

/* ---- masked_mean */

static void masked_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    enum { PART = 1024 };
    const struct flat_job *job = context;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        double sum = 0;
        double divisor = 0;
        int64_t last = lane_begin(job->k, lane + 1);
        for (int64_t at = lane_begin(job->k, lane); at < last; at += PART) {
            float counted[PART];
            size_t n = (size_t)(last - at < PART ? last - at : PART);
            const float *w = job->w + at;
            sum += job->vec->dot(job->x + at, w, n);
            if (job->k->reducer == FT_REDUCE_AVG_NON_ZERO) { /* w where x > 0 */
                job->vec->unary_bwd(FT_OP_RELU_BWD, w, job->x + at, counted, n, 0, 0);
                w = counted;
            }
            divisor += job->vec->sum(w, n);
        }
        job->partial[2 * lane] = sum;
        job->partial[2 * lane + 1] = divisor;
    }
}

static enum ft_status masked_mean_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct flat_job job = job_of(kernel, scratch);
    job.x = ft_in(in, 0);
    job.w = ft_in(in, 1);
    run_lanes(&job, masked_lanes);
    double divisor = total(&job, 1);
    ft_out(out, 0)[0] = divisor == 0.0 ? 0.0F : (float)(total(&job, 0) / divisor);
    ft_out(out, 1)[0] = (float)divisor;
    return FT_OK;
}

static void masked_bwd_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct flat_job *job = context;
    const struct ft_vec *vec = job->vec;
    size_t n = (size_t)(end - begin);
    (void)thread;
    if (job->k->reducer == FT_REDUCE_AVG_NON_ZERO) {
        vec->unary_bwd(FT_OP_RELU_BWD, job->w + begin, job->x + begin, job->out[0] + begin, n, 0, 0);
        vec->scale(job->out[0] + begin, job->out[0] + begin, n, job->factor);
    } else {
        vec->scale(job->w + begin, job->out[0] + begin, n, job->factor);
    }
}

static enum ft_status masked_mean_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                          const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct flat_job job = job_of(kernel, scratch);
    double dy = (double)ft_in(in, 0)[0];
    double count = (double)ft_in(in, 3)[0];
    job.x = ft_in(in, 1);
    job.w = ft_in(in, 2);
    job.out[0] = ft_out(out, 0);
    job.factor = count == 0.0 ? 0.0F : (float)(dy / count);
    ft_cpu_flat(ft_cpu_of(kernel->device), job.k->n, masked_bwd_range, &job);
    return FT_OK;
}

/* ---- optimisers */

static struct ft_vec_step step_of(const float *hyper, int kind)
{
    struct ft_vec_step s = {.lr = hyper[0],
                            .beta1 = hyper[1],
                            .beta2 = hyper[2],
                            .eps = hyper[3],
                            .decay = hyper[4],
                            .correct1 = hyper[5],
                            .correct2 = hyper[6],
                            .scale = hyper[7],
                            .kind = kind};
    return s;
}

static void sgd_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct flat_job *job = context;
    (void)thread;
    job->vec->sgd(&job->step, job->in[0] + begin, job->in[1] + begin, job->in[2] + begin, job->out[0] + begin,
                  job->out[1] + begin, (size_t)(end - begin));
}

static void adam_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct flat_job *job = context;
    float *out[3] = {job->out[0] + begin, job->out[1] + begin, job->out[2] + begin};
    (void)thread;
    job->vec->adam(&job->step, job->in[0] + begin, job->in[1] + begin, job->in[2] + begin, job->in[3] + begin,
                   out, (size_t)(end - begin));
}

static enum ft_status step_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)err;
    struct flat_job job = job_of(kernel, scratch);
    bool adam = kernel->op == FT_OP_ADAM_STEP;
    int state = adam ? 3 : 2; /* p and its moments */
    for (int i = 0; i < state + 1; i++) {
        job.in[i] = ft_in(in, i);
    }
    for (int i = 0; i < state; i++) {
        job.out[i] = ft_out(out, i);
    }
    job.step = step_of(ft_in(in, state + 1), job.k->kind);
    ft_cpu_flat(ft_cpu_of(kernel->device), job.k->n, adam ? adam_range : sgd_range, &job);
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, int x, ft_cpu_run run,
                              struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct flat), run, kernel, err));
    struct flat *k = (struct flat *)(void *)*kernel;
    k->n = ft_elements(&call->in[x]);
    k->lanes = ft_cpu_lanes(k->n);
    k->kind = call->attrs.kind;
    k->reducer = call->attrs.reducer;
    return FT_OK;
}

#define FT_FLAT(name, x, run, doubles)                                                                       \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = (size_t)(doubles)*FT_CPU_LANES * sizeof(double);                                          \
        return prepare(device, call, x, run, kernel, err);                                                   \
    }

FT_FLAT(sum_squares, 0, sum_squares_run, 2)
FT_FLAT(masked_mean, 0, masked_mean_run, 2)
FT_FLAT(masked_mean_bwd, 1, masked_mean_bwd_run, 0)
FT_FLAT(sgd_step, 0, step_run, 0)
FT_FLAT(adam_step, 0, step_run, 0)
