#include <stdatomic.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"
#include "kernels/integer.h"

/* Integers, booleans and choices: one output, up to three inputs that broadcast. */

struct logic {
    struct ft_kernel head;
    struct ft_nd nd; /* y, then the inputs */
    enum ft_dtype from, to;
    int kind;
};

struct logic_job {
    const struct logic *k;
    const void *in[3];
    void *y;
    atomic_bool fault;
};

/* Where a piece begins, and how it goes on, by operand. */
struct piece {
    int64_t at[FT_ND_OPERANDS];
    int64_t step[FT_ND_OPERANDS];
    int64_t n;
};

static struct piece piece_of(const struct ft_nd *nd, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    struct piece p = {.n = n};
    for (int k = 0; k < nd->operands; k++) {
        p.at[k] = offset[k];
        p.step[k] = nd->stride[k][nd->rank - 1];
    }
    return p;
}

/* y[i] = f(a[i]) or f(a[i], b[i]); A, B and Y are the element types. */
#define FT_MAP1(Y, A, expression)                                                                            \
    do {                                                                                                     \
        Y *y = (Y *)job->y + p.at[0];                                                                        \
        const A *as = (const A *)job->in[0] + p.at[1];                                                       \
        for (int64_t i = 0; i < p.n; i++) {                                                                  \
            A a = as[i * p.step[1]];                                                                         \
            y[i * p.step[0]] = (Y)(expression);                                                              \
        }                                                                                                    \
    } while (0)

#define FT_MAP2(Y, A, expression)                                                                            \
    do {                                                                                                     \
        Y *y = (Y *)job->y + p.at[0];                                                                        \
        const A *as = (const A *)job->in[0] + p.at[1];                                                       \
        const A *bs = (const A *)job->in[1] + p.at[2];                                                       \
        for (int64_t i = 0; i < p.n; i++) {                                                                  \
            A a = as[i * p.step[1]];                                                                         \
            A b = bs[i * p.step[2]];                                                                         \
            y[i * p.step[0]] = (Y)(expression);                                                              \
        }                                                                                                    \
    } while (0)

/* ---- cast */

static void cast_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct logic_job *job = context;
    struct piece p = piece_of(&job->k->nd, offset, n);
    int kind = job->k->kind;
    if (job->k->from == FT_F32) {
        if (job->k->to == FT_BOOL) {
            FT_MAP1(uint8_t, float, a != 0.0F);
        } else {
            FT_MAP1(int64_t, float, ft_int_narrow(kind, ft_int_of_float((double)a)));
        }
    } else if (job->k->from == FT_I64) {
        if (job->k->to == FT_F32) {
            FT_MAP1(float, int64_t, a);
        } else if (job->k->to == FT_BOOL) {
            FT_MAP1(uint8_t, int64_t, a != 0);
        } else {
            FT_MAP1(int64_t, int64_t, ft_int_narrow(kind, a));
        }
    } else if (job->k->from == FT_I32) {
        if (job->k->to == FT_F32) {
            FT_MAP1(float, int32_t, a);
        } else if (job->k->to == FT_BOOL) {
            FT_MAP1(uint8_t, int32_t, a != 0);
        } else {
            FT_MAP1(int64_t, int32_t, ft_int_narrow(kind, a));
        }
    } else { /* booleans, and bytes that no graph makes */
        if (job->k->to == FT_F32) {
            FT_MAP1(float, uint8_t, a);
        } else if (job->k->to == FT_BOOL) {
            FT_MAP1(uint8_t, uint8_t, a != 0);
        } else {
            FT_MAP1(int64_t, uint8_t, ft_int_narrow(kind, a));
        }
    }
}

/* ---- compare, logic, where */

#define FT_COMPARE(T)                                                                                        \
    do {                                                                                                     \
        if (job->k->kind == FT_EQUAL) {                                                                      \
            FT_MAP2(uint8_t, T, a == b);                                                                     \
        } else if (job->k->kind == FT_LESS) {                                                                \
            FT_MAP2(uint8_t, T, a < b);                                                                      \
        } else if (job->k->kind == FT_LESS_OR_EQUAL) {                                                       \
            FT_MAP2(uint8_t, T, a <= b);                                                                     \
        } else if (job->k->kind == FT_GREATER) {                                                             \
            FT_MAP2(uint8_t, T, a > b);                                                                      \
        } else {                                                                                             \
            FT_MAP2(uint8_t, T, a >= b);                                                                     \
        }                                                                                                    \
    } while (0)

static void compare_floats(const struct logic_job *job, struct piece p)
{
    FT_COMPARE(float);
}

static void compare_integers(const struct logic_job *job, struct piece p)
{
    FT_COMPARE(int64_t);
}

static void compare_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct logic_job *job = context;
    struct piece p = piece_of(&job->k->nd, offset, n);
    if (job->k->from == FT_F32) {
        compare_floats(job, p);
    } else if (job->k->from == FT_I64) {
        compare_integers(job, p);
    } else if (job->k->from == FT_I32) {
        FT_COMPARE(int32_t);
    } else {
        FT_MAP2(uint8_t, uint8_t, a == b);
    }
}

static void logic_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct logic_job *job = context;
    struct piece p = piece_of(&job->k->nd, offset, n);
    switch (job->k->kind) {
    case FT_LOGIC_NOT:
        FT_MAP1(uint8_t, uint8_t, a == 0);
        break;
    case FT_LOGIC_AND:
        FT_MAP2(uint8_t, uint8_t, (a != 0) & (b != 0));
        break;
    case FT_LOGIC_OR:
        FT_MAP2(uint8_t, uint8_t, (a != 0) | (b != 0));
        break;
    default: /* FT_LOGIC_XOR */
        FT_MAP2(uint8_t, uint8_t, (a != 0) != (b != 0));
        break;
    }
}

/* Elements are moved as unsigned integers of their size. */
#define FT_CHOOSE(T)                                                                                         \
    do {                                                                                                     \
        T *y = (T *)job->y + p.at[0];                                                                        \
        const T *as = (const T *)job->in[1] + p.at[2];                                                       \
        const T *bs = (const T *)job->in[2] + p.at[3];                                                       \
        for (int64_t i = 0; i < p.n; i++) {                                                                  \
            T a = as[i * p.step[2]];                                                                         \
            T b = bs[i * p.step[3]];                                                                         \
            y[i * p.step[0]] = c[i * p.step[1]] != 0 ? a : b;                                                \
        }                                                                                                    \
    } while (0)

static void where_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct logic_job *job = context;
    struct piece p = piece_of(&job->k->nd, offset, n);
    const uint8_t *c = (const uint8_t *)job->in[0] + p.at[1];
    size_t size = ft_dtype_size(job->k->to);
    if (size == sizeof(uint32_t)) {
        FT_CHOOSE(uint32_t);
    } else if (size == sizeof(uint64_t)) {
        FT_CHOOSE(uint64_t);
    } else {
        FT_CHOOSE(uint8_t);
    }
}

/* ---- arithmetic on integers */

static void integer_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    struct logic_job *job = context;
    struct piece p = piece_of(&job->k->nd, offset, n);
    enum ft_op op = job->k->head.op;
    int kind = job->k->kind;
    bool fault = false;
    FT_MAP2(int64_t, int64_t, ft_int_binary(op, kind, a, b, &fault));
    if (fault) {
        atomic_store(&job->fault, true);
    }
}

/* ---- kernels */

static ft_nd_body body_of(enum ft_op op)
{
    switch ((int)op) {
    case FT_OP_CAST:
        return cast_piece;
    case FT_OP_COMPARE:
        return compare_piece;
    case FT_OP_LOGIC:
        return logic_piece;
    case FT_OP_WHERE:
        return where_piece;
    default:
        return integer_piece;
    }
}

static void logic_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct logic *k = ((const struct logic_job *)context)->k;
    (void)thread;
    ft_nd_walk(&k->nd, begin, end, body_of(k->head.op), context);
}

static enum ft_status logic_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct logic *k = (const struct logic *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct logic_job job = {.k = k, .y = out[0].data};
    for (int i = 0; i < k->nd.operands - 1; i++) {
        job.in[i] = in[i].data;
    }
    ft_cpu_items(cpu, ft_nd_items(&k->nd), ft_nd_piece(&k->nd), logic_range, &job);
    return atomic_load(&job.fault)
               ? FT_FAIL(err, INVALID, "%s: an integer is divided by zero", ft_op_info(kernel->op)->name)
               : FT_OK;
}

static enum ft_status prepare_logic(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, struct ft_err *err)
{
    int64_t strides[FT_ND_OPERANDS][FT_MAX_RANK];
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct logic), logic_run, kernel, err));
    struct logic *k = (struct logic *)(void *)*kernel;
    k->from = call->in[call->n_in - 1].dtype;
    k->to = call->out[0].dtype;
    k->kind = call->attrs.kind;
    ft_nd_strides(&call->out[0], strides[0]);
    for (int i = 0; i < call->n_in; i++) {
        ft_nd_broadcast(&call->in[i], &call->out[0], strides[i + 1]);
    }
    ft_nd_build(&call->out[0], 1 + call->n_in, strides, &k->nd);
    return FT_OK;
}

enum ft_status ft_cpu_integers(struct ft_device *device, const struct ft_call *call,
                               struct ft_kernel **kernel, struct ft_err *err)
{
    return prepare_logic(device, call, kernel, err);
}

#define FT_LOGIC_ROW(name)                                                                                   \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = 0;                                                                                        \
        return prepare_logic(device, call, kernel, err);                                                     \
    }

FT_LOGIC_ROW(cast)
FT_LOGIC_ROW(compare)
FT_LOGIC_ROW(logic)
FT_LOGIC_ROW(where)
