#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Softmax and its kin along one axis. Rows along another axis than the last are gathered, done and scattered.
 */

struct softmax {
    struct ft_kernel head;
    int64_t outer, n, inner;
};

struct softmax_job {
    const struct softmax *k;
    const struct ft_vec *vec;
    const float *a, *b; /* x; or dy and y */
    float *y;
    float *scratch; /* (threads, 4, n) */
};

/* One contiguous row; t is scratch of n. */
static void softmax_row(const struct softmax_job *job, const float *a, const float *b, float *y, float *t)
{
    const struct ft_vec *vec = job->vec;
    size_t n = (size_t)job->k->n;
    if (job->k->head.op == FT_OP_SOFTMAX) {
        double sum = vec->exp_sum(a, y, n, vec->max(a, n));
        vec->scale(y, y, n, (float)(1.0 / sum));
    } else if (job->k->head.op == FT_OP_LOG_SOFTMAX) {
        float shift = vec->max(a, n);
        double sum = vec->exp_sum(a, t, n, shift);
        float less = (float)log(sum);
        vec->binary(FT_OP_SUB, FT_VEC_VS, a, &shift, y, n);
        vec->binary(FT_OP_SUB, FT_VEC_VS, y, &less, y, n);
    } else if (job->k->head.op == FT_OP_SOFTMAX_BWD) {
        float dot = (float)vec->dot(a, b, n);
        vec->binary(FT_OP_SUB, FT_VEC_VS, a, &dot, t, n);
        vec->binary(FT_OP_MUL, FT_VEC_VV, t, b, y, n);
    } else {
        float sum = (float)vec->sum(a, n);
        vec->unary(FT_OP_EXP, b, t, n, 0, 0);
        vec->scale(t, t, n, sum);
        vec->binary(FT_OP_SUB, FT_VEC_VV, a, t, y, n);
    }
}

static void gather(const float *x, int64_t stride, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++) {
        to[i] = x[i * stride];
    }
}

static void softmax_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct softmax_job *job = context;
    int64_t n = job->k->n;
    int64_t inner = job->k->inner;
    float *t = job->scratch + (int64_t)thread * 4 * n;
    for (int64_t row = begin; row < end; row++) {
        int64_t at = row / inner * n * inner + row % inner;
        const float *b = job->b != NULL ? job->b + at : NULL;
        if (inner == 1) {
            softmax_row(job, job->a + at, b, job->y + at, t);
            continue;
        }
        gather(job->a + at, inner, n, t + n);
        if (b != NULL) {
            gather(b, inner, n, t + 2 * n);
        }
        softmax_row(job, t + n, t + 2 * n, t + 3 * n, t);
        for (int64_t i = 0; i < n; i++) {
            job->y[at + i * inner] = t[3 * n + i];
        }
    }
}

static enum ft_status softmax_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    const struct softmax *k = (const struct softmax *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    bool backward = kernel->op == FT_OP_SOFTMAX_BWD || kernel->op == FT_OP_LOG_SOFTMAX_BWD;
    struct softmax_job job = {.k = k,
                              .vec = cpu->vec,
                              .a = ft_in(in, 0),
                              .b = backward ? ft_in(in, 1) : NULL,
                              .y = ft_out(out, 0),
                              .scratch = scratch};
    ft_cpu_items(cpu, k->outer * k->inner, 4 * k->n, softmax_rows, &job);
    return FT_OK;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct softmax), softmax_run, kernel, err));
    struct softmax *k = (struct softmax *)(void *)*kernel;
    const struct ft_type *x = &call->in[0];
    k->outer = ft_cpu_product(x, 0, call->attrs.axis);
    k->n = ft_extent(x, call->attrs.axis);
    k->inner = ft_cpu_product(x, call->attrs.axis + 1, x->rank);
    *scratch = (size_t)(4 * k->n * ft_cpu_of(device)->threads) * sizeof(float);
    return FT_OK;
}

#define FT_SOFTMAX(name)                                                                                     \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        return prepare(device, call, kernel, scratch, err);                                                  \
    }

FT_SOFTMAX(softmax)
FT_SOFTMAX(softmax_bwd)
FT_SOFTMAX(log_softmax)
FT_SOFTMAX(log_softmax_bwd)
