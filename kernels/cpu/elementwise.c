#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"

/* ---- one input, or two of one shape: memory order does not matter as long as it is one */

struct element {
    struct ft_kernel head;
    int64_t n;
    float a, b;
};

struct element_job {
    const struct element *k;
    const struct ft_vec *vec;
    const float *x, *t;
    float *y;
};

static void unary_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct element_job *job = context;
    (void)thread;
    job->vec->unary(job->k->head.op, job->x + begin, job->y + begin, (size_t)(end - begin), job->k->a,
                    job->k->b);
}

static void unary_bwd_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct element_job *job = context;
    (void)thread;
    job->vec->unary_bwd(job->k->head.op, job->x + begin, job->t + begin, job->y + begin,
                        (size_t)(end - begin), job->k->a, job->k->b);
}

static enum ft_status unary_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct element *k = (const struct element *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct element_job job = {.k = k, .vec = cpu->vec, .x = ft_in(in, 0), .y = ft_out(out, 0)};
    ft_cpu_flat(cpu, k->n, unary_range, &job);
    return FT_OK;
}

static enum ft_status unary_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct element *k = (const struct element *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct element_job job = {
        .k = k, .vec = cpu->vec, .x = ft_in(in, 0), .t = ft_in(in, 1), .y = ft_out(out, 0)};
    ft_cpu_flat(cpu, k->n, unary_bwd_range, &job);
    return FT_OK;
}

static enum ft_status prepare_element(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                      struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct element), run, kernel, err));
    struct element *k = (struct element *)(void *)*kernel;
    const struct ft_attrs *attrs = &call->attrs;
    bool clips = call->op == FT_OP_CLIP || call->op == FT_OP_CLIP_BWD;
    k->n = ft_elements(&call->in[0]);
    k->a = clips ? attrs->lo : attrs->alpha;
    k->b = clips ? attrs->hi : attrs->beta;
    return FT_OK;
}

#define FT_ELEMENT(name, run)                                                                                \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = 0;                                                                                        \
        return prepare_element(device, call, run, kernel, err);                                              \
    }

FT_ELEMENT(relu, unary_run)
FT_ELEMENT(relu_bwd, unary_bwd_run)
FT_ELEMENT(leaky_relu, unary_run)
FT_ELEMENT(leaky_relu_bwd, unary_bwd_run)
FT_ELEMENT(sigmoid, unary_run)
FT_ELEMENT(sigmoid_bwd, unary_bwd_run)
FT_ELEMENT(tanh, unary_run)
FT_ELEMENT(tanh_bwd, unary_bwd_run)
FT_ELEMENT(clip, unary_run)
FT_ELEMENT(clip_bwd, unary_bwd_run)
FT_ELEMENT(exp, unary_run)
FT_ELEMENT(log, unary_run)
FT_ELEMENT(sqrt, unary_run)
FT_ELEMENT(neg, unary_run)
FT_ELEMENT(scale, unary_run)

/* ---- two inputs, broadcast */

struct binary {
    struct ft_kernel head;
    struct ft_nd nd; /* y, a, b */
};

struct binary_job {
    const struct binary *k;
    const struct ft_vec *vec;
    const float *a, *b;
    float *y;
};

/* Strides along a run are 1 or 0 unless two layouts meet; then one element at a time. */
static void binary_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct binary_job *job = context;
    const struct ft_nd *nd = &job->k->nd;
    enum ft_op op = job->k->head.op;
    int last = nd->rank - 1;
    int64_t sy = nd->stride[0][last];
    int64_t sa = nd->stride[1][last];
    int64_t sb = nd->stride[2][last];
    float *y = job->y + offset[0];
    const float *a = job->a + offset[1];
    const float *b = job->b + offset[2];
    if (sy == 1 && sa == 1 && sb == 1) {
        job->vec->binary(op, FT_VEC_VV, a, b, y, (size_t)n);
    } else if (sy == 1 && sa == 1 && sb == 0) {
        job->vec->binary(op, FT_VEC_VS, a, b, y, (size_t)n);
    } else if (sy == 1 && sa == 0 && sb == 1) {
        job->vec->binary(op, FT_VEC_SV, a, b, y, (size_t)n);
    } else {
        for (int64_t i = 0; i < n; i++) {
            job->vec->binary(op, FT_VEC_VV, a + i * sa, b + i * sb, y + i * sy, 1);
        }
    }
}

static void binary_range(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    ft_nd_walk(&((const struct binary_job *)context)->k->nd, begin, end, binary_piece, context);
}

static enum ft_status binary_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct binary *k = (const struct binary *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct binary_job job = {
        .k = k, .vec = cpu->vec, .a = ft_in(in, 0), .b = ft_in(in, 1), .y = ft_out(out, 0)};
    ft_cpu_items(cpu, ft_nd_items(&k->nd), ft_nd_piece(&k->nd), binary_range, &job);
    return FT_OK;
}

static enum ft_status prepare_binary(struct ft_device *device, const struct ft_call *call,
                                     struct ft_kernel **kernel, struct ft_err *err)
{
    if (call->in[0].dtype == FT_I64) {
        return ft_cpu_integers(device, call, kernel, err);
    }
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct binary), binary_run, kernel, err));
    struct binary *k = (struct binary *)(void *)*kernel;
    int64_t strides[FT_ND_OPERANDS][FT_MAX_RANK];
    ft_nd_strides(&call->out[0], strides[0]);
    ft_nd_broadcast(&call->in[0], &call->out[0], strides[1]);
    ft_nd_broadcast(&call->in[1], &call->out[0], strides[2]);
    ft_nd_build(&call->out[0], 3, strides, &k->nd);
    return FT_OK;
}

#define FT_BROADCAST(name)                                                                                   \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = 0;                                                                                        \
        return prepare_binary(device, call, kernel, err);                                                    \
    }

FT_BROADCAST(add)
FT_BROADCAST(sub)
FT_BROADCAST(mul)
FT_BROADCAST(div)
FT_BROADCAST(pow)
FT_BROADCAST(maximum)
FT_BROADCAST(minimum)
FT_BROADCAST(mod)

/* ---- dropout */

struct dropout {
    struct ft_kernel head;
    int64_t n;
    float alpha;
    uint64_t node;
};

struct dropout_job {
    const struct ft_vec *vec;
    struct ft_rand r;
    float alpha;
    const float *x;
    float *y;
};

static void dropout_range(void *context, int thread, int64_t begin, int64_t end)
{
    enum { PART = 1024 };
    const struct dropout_job *job = context;
    (void)thread;
    for (int64_t at = begin; at < end; at += PART) {
        float keep[PART];
        size_t n = (size_t)(end - at < PART ? end - at : PART);
        job->vec->dropout_mask(job->r, (uint64_t)at, job->alpha, keep, n);
        job->vec->binary(FT_OP_MUL, FT_VEC_VV, job->x + at, keep, job->y + at, n);
    }
}

static enum ft_status dropout_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct dropout *k = (const struct dropout *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    const int64_t *rng = (const int64_t *)in[1].data;
    struct dropout_job job = {
        .vec = cpu->vec,
        .r = ft_rand_at((uint64_t)rng[0], FT_RAND_DROPOUT, (uint64_t)rng[1] << 20 | k->node),
        .alpha = k->alpha,
        .x = ft_in(in, 0),
        .y = ft_out(out, 0)};
    ft_cpu_flat(cpu, k->n, dropout_range, &job);
    return FT_OK;
}

enum ft_status ft_cpu_dropout(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct dropout), dropout_run, kernel, err));
    struct dropout *k = (struct dropout *)(void *)*kernel;
    k->n = ft_elements(&call->in[0]);
    k->alpha = call->attrs.alpha;
    k->node = (uint64_t)call->attrs.node;
    return FT_OK;
}
