#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/dnnl.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_int8.h"

/*
 * Matrix products that are not gemm.h's or gemm_int8.h's, through oneDNN, always as a batch of one or more.
 * Where the processor's implementation is faster on a packed b (AVX-512: up to 2.7 times), a second primitive
 * stands ready for parameters: those come with a version.
 */

struct matmul {
    struct ft_kernel head;
    struct ft_dnnl plain;
    struct ft_dnnl packed; /* primitive == NULL: nothing to gain */
    struct ft_dnnl_pack pack;
    bool late_bias; /* bias is added afterwards: oneDNN would scale it too */
    int more;       /* operands 3 ..: [bias] unless it is late, [residual] */
    int64_t rows, cols;
};

static void matmul_free(struct ft_kernel *kernel)
{
    struct matmul *mm = (struct matmul *)(void *)kernel;
    ft_dnnl_release(&mm->plain);
    ft_dnnl_release(&mm->packed);
    ft_dnnl_pack_release(&mm->pack);
    ft_free(mm);
}

/* ---- run */

struct add_rows {
    const struct ft_vec *vec;
    const float *bias;
    float *y;
    int64_t cols;
};

static void add_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct add_rows *job = context;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        float *row = job->y + r * job->cols;
        job->vec->binary(FT_OP_ADD, FT_VEC_VV, row, job->bias, row, (size_t)job->cols);
    }
}

static enum ft_status matmul_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    struct matmul *mm = (struct matmul *)(void *)kernel;
    struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    void *data[5] = {in[0].data, in[1].data, out[0].data};
    for (int i = 0; i < mm->more; i++) {
        data[3 + i] = in[2 + i].data;
    }
    if (mm->packed.primitive != NULL && in[1].version != 0) {
        FT_RETURN_IF_FAILED(ft_dnnl_pack_update(cpu, &mm->pack, &in[1], scratch, err));
        data[1] = mm->pack.packed;
        FT_RETURN_IF_FAILED(ft_dnnl_run(cpu, &mm->packed, data, scratch, err));
    } else {
        FT_RETURN_IF_FAILED(ft_dnnl_run(cpu, &mm->plain, data, scratch, err));
    }
    if (mm->late_bias) {
        struct add_rows job = {.vec = cpu->vec, .bias = ft_in(in, 2), .y = ft_out(out, 0), .cols = mm->cols};
        ft_cpu_items(cpu, mm->rows, mm->cols, add_rows, &job);
    }
    return FT_OK;
}

/* ---- preparation */

struct shape {
    dnnl_memory_desc_t a, b, b_any, y, bias;
    int64_t flops;
    bool with_bias;
    const struct ft_attrs *epilogue;
    int threads;
};

/* (batch, rows, cols) as stored, swapped when transposed; batch 1 is broadcast. */
static enum ft_status matrix_md(const struct ft_type *t, int64_t batch, int64_t rows, int64_t cols,
                                bool trans, dnnl_memory_desc_t *md, struct ft_err *err)
{
    dnnl_dims_t dims = {batch, trans ? cols : rows, trans ? rows : cols};
    dnnl_dims_t strides = {rows * cols, trans ? 1 : cols, trans ? cols : 1};
    return ft_dnnl_check(dnnl_memory_desc_init_by_strides(md, 3, dims, ft_dnnl_type(t), strides), "a matrix",
                         err);
}

static enum ft_status shape_of(const struct ft_call *call, struct shape *s, struct ft_err *err)
{
    memset(s, 0, sizeof *s);
    const struct ft_type *a = &call->in[0];
    const struct ft_type *b = &call->in[1];
    const struct ft_type *y = &call->out[0];
    int64_t a_batch = ft_cpu_product(a, 0, a->rank - 2);
    int64_t b_batch = ft_cpu_product(b, 0, b->rank - 2);
    int64_t y_batch = ft_cpu_product(y, 0, y->rank - 2);
    int64_t a_rows = ft_extent(a, a->rank - 2);
    int64_t a_cols = ft_extent(a, a->rank - 1);
    int64_t b_rows = ft_extent(b, b->rank - 2);
    int64_t b_cols = ft_extent(b, b->rank - 1);
    int64_t y_rows = ft_extent(y, y->rank - 2);
    int64_t y_cols = ft_extent(y, y->rank - 1);
    s->flops = 2 * ft_elements(y) * (call->attrs.trans_a ? a_rows : a_cols);
    if (b_batch == 1 && !call->attrs.trans_a) { /* one product of many rows */
        a_rows *= a_batch;
        y_rows *= y_batch;
        a_batch = 1;
        y_batch = 1;
    }
    FT_RETURN_IF_FAILED(matrix_md(a, a_batch, a_rows, a_cols, call->attrs.trans_a != 0, &s->a, err));
    FT_RETURN_IF_FAILED(matrix_md(b, b_batch, b_rows, b_cols, call->attrs.trans_b != 0, &s->b, err));
    FT_RETURN_IF_FAILED(matrix_md(y, y_batch, y_rows, y_cols, false, &s->y, err));
    const struct ft_type floats = ft_type_of(FT_F32, 0, NULL);
    FT_RETURN_IF_FAILED(matrix_md(&floats, 1, 1, y_cols, false, &s->bias, err));
    return ft_dnnl_check(
        dnnl_memory_desc_init_by_tag(&s->b_any, 3, s->b.dims, ft_dnnl_type(b), dnnl_format_tag_any),
        "a matrix", err);
}

static enum ft_status make_one(struct ft_cpu *cpu, const struct shape *s, const dnnl_memory_desc_t *b,
                               struct ft_dnnl *d, dnnl_memory_desc_t *b_chosen, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_matmul_desc_t desc;
    FT_TRY(ft_dnnl_attr(s->epilogue->alpha, s->epilogue, &s->y, &attr, err));
    FT_TRY(ft_dnnl_check(dnnl_matmul_desc_init(&desc, &s->a, b, s->with_bias ? &s->bias : NULL, &s->y),
                         "a product", err));
    FT_TRY(
        ft_dnnl_check(dnnl_primitive_desc_create(&pd, &desc, attr, cpu->engine, NULL), "this product", err));
    if (s->a.data_type == dnnl_bf16) { /* device.c computes in floats what is refused in bf16 */
        FT_TRY(ft_dnnl_check_loop(pd, err));
    }
    *b_chosen = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    struct ft_dnnl_operand operands[5] = {
        {DNNL_ARG_SRC, &s->a}, {DNNL_ARG_WEIGHTS, b_chosen}, {DNNL_ARG_DST, &s->y}};
    int n = 3;
    if (s->with_bias) {
        operands[n++] = (struct ft_dnnl_operand){DNNL_ARG_BIAS, &s->bias};
    }
    if (s->epilogue->residual != 0) {
        operands[n++] = (struct ft_dnnl_operand){FT_DNNL_RESIDUAL, &s->y};
    }
    FT_TRY(ft_dnnl_make(cpu, pd, operands, n, s->threads, d, err));
done:
    if (pd != NULL) {
        (void)dnnl_primitive_desc_destroy(pd);
    }
    if (attr != NULL) {
        (void)dnnl_primitive_attr_destroy(attr);
    }
    return st;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static enum ft_status make(struct matmul *mm, const struct shape *s, size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_cpu *cpu = ft_cpu_of(mm->head.device);
    dnnl_memory_desc_t chosen;
    int before = ft_parallel_limit(s->threads);
    FT_TRY(make_one(cpu, s, &s->b, &mm->plain, &chosen, err));
    *scratch = mm->plain.scratch;
    if (s->b.dims[0] == 1) {
        FT_TRY(make_one(cpu, s, &s->b_any, &mm->packed, &chosen, err));
        if (chosen.format_desc.blocking.inner_nblks == 0) { /* plain is what it likes best */
            ft_dnnl_release(&mm->packed);
        } else {
            FT_TRY(ft_dnnl_pack_make(cpu, &s->b, &chosen, s->threads, &mm->pack, err));
            *scratch = larger(*scratch, larger(mm->packed.scratch, mm->pack.reorder.scratch));
        }
    }
done:
    ft_parallel_limit(before);
    return st;
}

enum ft_status ft_cpu_matmul(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *k = NULL;
    struct shape s;
    FT_TRY(ft_cpu_row_major(call, err));
    if (call->attrs.int8 != 0) {
        return ft_cpu_gemm_int8(device, call, kernel, scratch, err);
    }
    if (ft_cpu_is_gemm(ft_cpu_of(device), call)) {
        return ft_cpu_gemm(device, call, kernel, scratch, err);
    }
    FT_TRY(shape_of(call, &s, err));
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct matmul), matmul_run, &k, err));
    k->free = matmul_free;
    struct matmul *mm = (struct matmul *)(void *)k;
    bool residual = call->attrs.residual != 0;
    bool has_bias = call->n_in - (residual ? 1 : 0) == 3;
    bool plain = call->attrs.act == FT_ACT_NONE && !residual;
    if (has_bias && call->attrs.alpha != 1.0F && !plain) {
        st =
            FT_FAIL(err, UNSUPPORTED, "matmul: device cpu has no epilogue behind a scaled product with bias");
        goto done;
    }
    mm->late_bias = has_bias && call->attrs.alpha != 1.0F;
    s.with_bias = has_bias && !mm->late_bias;
    mm->more = (s.with_bias ? 1 : 0) + (residual ? 1 : 0);
    s.epilogue = &call->attrs;
    s.threads = ft_cpu_threads(ft_cpu_of(device), s.flops / FT_CPU_FLOPS);
    mm->cols = ft_extent(&call->out[0], call->out[0].rank - 1);
    mm->rows = ft_elements(&call->out[0]) / mm->cols;
    FT_TRY(make(mm, &s, scratch, err));
    *kernel = k;
    k = NULL;
done:
    if (k != NULL) {
        matmul_free(k);
    }
    return st;
}
