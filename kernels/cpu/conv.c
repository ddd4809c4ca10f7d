#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/depthwise.h"
#include "kernels/cpu/direct.h"
#include "kernels/cpu/dnnl.h"
#include "kernels/cpu/winograd.h"

/*
 * Convolution through oneDNN. Activations come channels-last (row-major works too, more slowly); weights are
 * plain OIHW masters, packed here to what the primitive wants. A rank-1 window is a rank-2 one over an axis
 * of extent 1. Volumes (rank 5) are row-major.
 */

struct conv {
    struct ft_kernel head;
    struct ft_dnnl main;
    struct ft_dnnl_pack pack; /* forward and backward-data: of w */
    struct ft_dnnl unpack;    /* backward-weight: of dw */
    bool packs, unpacks, bias;
    int inputs;
    struct ft_attrs epilogue;
    size_t dw_at; /* where in scratch the packed dw lies */
};

static void conv_free(struct ft_kernel *kernel)
{
    struct conv *conv = (struct conv *)(void *)kernel;
    ft_dnnl_release(&conv->main);
    ft_dnnl_pack_release(&conv->pack);
    ft_dnnl_release(&conv->unpack);
    ft_free(conv);
}

/* ---- geometry */

/* Descriptors of one convolution as oneDNN names things; weights both plain and open. */
struct shape {
    dnnl_memory_desc_t x, y, w_plain, w_any, b;
    dnnl_dims_t stride, dilation, pad_begin, pad_end;
    int64_t flops;
};

/* From axis `from` on, with an axis of extent 1 in front of a lone spatial one. Returns the number of axes.
 */
static int with_two_spatial(const struct ft_type *t, int from, dnnl_dim_t *dims)
{
    int n = 0;
    for (int i = from; i < t->rank; i++) {
        if (t->rank == 3 && i == 2) {
            dims[n++] = 1;
        }
        dims[n++] = ft_extent(t, i);
    }
    return n;
}

static enum ft_status activation_md(const struct ft_type *t, dnnl_memory_desc_t *md, struct ft_err *err)
{
    dnnl_dims_t dims;
    int rank = with_two_spatial(t, 0, dims);
    dnnl_format_tag_t plain = rank == 5 ? dnnl_ncdhw : dnnl_nchw;
    dnnl_format_tag_t tag = t->layout == FT_CHANNELS_LAST ? dnnl_nhwc : plain;
    return ft_dnnl_check(dnnl_memory_desc_init_by_tag(md, rank, dims, ft_dnnl_type(t), tag), "an activation",
                         err);
}

static enum ft_status weight_mds(const struct ft_type *w, int64_t group, struct shape *s, struct ft_err *err)
{
    dnnl_dims_t dims = {group, ft_extent(w, 0) / group};
    int spatial = with_two_spatial(w, 1, dims + 2) - 1;
    const dnnl_dim_t *from = group > 1 ? dims : dims + 1;
    int rank = spatial + (group > 1 ? 3 : 2);
    dnnl_format_tag_t plain = spatial == 3 ? dnnl_oidhw : dnnl_oihw;
    dnnl_format_tag_t grouped = spatial == 3 ? dnnl_goidhw : dnnl_goihw;
    FT_RETURN_IF_FAILED(ft_dnnl_check(
        dnnl_memory_desc_init_by_tag(&s->w_plain, rank, from, ft_dnnl_type(w), group > 1 ? grouped : plain),
        "a weight", err));
    FT_RETURN_IF_FAILED(ft_dnnl_check(
        dnnl_memory_desc_init_by_tag(&s->w_any, rank, from, ft_dnnl_type(w), dnnl_format_tag_any), "a weight",
        err));
    dnnl_dims_t channels = {ft_extent(w, 0)};
    return ft_dnnl_check(dnnl_memory_desc_init_by_tag(&s->b, 1, channels, dnnl_f32, dnnl_x), "a bias", err);
}

static enum ft_status shape_of(const struct ft_attrs *attrs, const struct ft_type *x, const struct ft_type *w,
                               const struct ft_type *y, struct shape *s, struct ft_err *err)
{
    memset(s, 0, sizeof *s);
    const struct ft_window *window = &attrs->window;
    int skip = window->rank == 1 ? 1 : 0; /* the inserted axis */
    for (int i = 0; i < window->rank + skip; i++) {
        bool inserted = i < skip;
        s->stride[i] = inserted ? 1 : window->stride[i - skip];
        s->dilation[i] = inserted ? 0 : window->dilation[i - skip] - 1;
        s->pad_begin[i] = inserted ? 0 : window->pad_begin[i - skip];
        s->pad_end[i] = inserted ? 0 : window->pad_end[i - skip];
    }
    s->flops = 2 * ft_elements(y) * ft_cpu_product(w, 1, w->rank);
    FT_RETURN_IF_FAILED(activation_md(x, &s->x, err));
    FT_RETURN_IF_FAILED(activation_md(y, &s->y, err));
    return weight_mds(w, attrs->group, s, err);
}

static int conv_threads(const struct ft_cpu *cpu, const struct shape *s)
{
    return ft_cpu_threads(cpu, s->flops / FT_CPU_FLOPS);
}

/* ---- primitive descriptors; owned by the caller */

/* epilogue NULL: a hint for gradients. */
static enum ft_status forward_pd(struct ft_cpu *cpu, const struct shape *s, bool bias,
                                 const struct ft_attrs *epilogue, dnnl_primitive_desc_t *pd,
                                 struct ft_err *err)
{
    dnnl_prop_kind_t kind = epilogue != NULL ? dnnl_forward_inference : dnnl_forward_training;
    dnnl_convolution_desc_t desc;
    FT_RETURN_IF_FAILED(ft_dnnl_check(
        dnnl_dilated_convolution_forward_desc_init(&desc, kind, dnnl_convolution_direct, &s->x, &s->w_any,
                                                   bias ? &s->b : NULL, &s->y, s->stride, s->dilation,
                                                   s->pad_begin, s->pad_end),
        "a convolution", err));
    dnnl_primitive_attr_t attr = NULL;
    FT_RETURN_IF_FAILED(ft_dnnl_attr(1.0F, epilogue, &s->y, &attr, err));
    dnnl_status_t status = dnnl_primitive_desc_create(pd, &desc, attr, cpu->engine, NULL);
    (void)dnnl_primitive_attr_destroy(attr);
    return ft_dnnl_check(status, "this convolution", err);
}

/* A convolution forward has one type for x and w. What a gradient is stored as does not matter to its hint.
 */
static struct shape hint_shape(const struct shape *s, enum ft_op op)
{
    struct shape hint = *s;
    dnnl_data_type_t type = op == FT_OP_CONV_BWD_DATA ? s->w_any.data_type : s->x.data_type;
    hint.x.data_type = type;
    hint.w_any.data_type = type;
    hint.y.data_type = type;
    return hint;
}

static enum ft_status backward_pd(struct ft_cpu *cpu, const struct shape *s, enum ft_op op,
                                  dnnl_primitive_desc_t *pd, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_convolution_desc_t desc;
    const struct shape like = hint_shape(s, op);
    FT_TRY(forward_pd(cpu, &like, false, NULL, &hint, err));
    dnnl_status_t status =
        op == FT_OP_CONV_BWD_DATA
            ? dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &s->x,
                                                               &s->w_any, &s->y, s->stride, s->dilation,
                                                               s->pad_begin, s->pad_end)
            : dnnl_dilated_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &s->x,
                                                                  &s->w_any, NULL, &s->y, s->stride,
                                                                  s->dilation, s->pad_begin, s->pad_end);
    FT_TRY(ft_dnnl_check(status, "a convolution's gradient", err));
    FT_TRY(ft_dnnl_attr(1.0F, NULL, NULL, &attr, err));
    FT_TRY(ft_dnnl_check(dnnl_primitive_desc_create(pd, &desc, attr, cpu->engine, hint),
                         "this convolution's gradient", err));
done:
    if (hint != NULL) {
        (void)dnnl_primitive_desc_destroy(hint);
    }
    if (attr != NULL) {
        (void)dnnl_primitive_attr_destroy(attr);
    }
    return st;
}

/* ---- runs */

static struct ft_cpu *cpu_of(const struct conv *conv)
{
    return ft_cpu_of(conv->head.device);
}

/* Forward (x, w, b -> y) and backward-data (dy, w -> dx): data in argument order of the primitive. */
static enum ft_status run_packed(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    struct conv *conv = (struct conv *)(void *)kernel;
    void *data[5] = {in[0].data, in[1].data, out[0].data};
    for (int i = 2; i < conv->inputs; i++) { /* [bias], [residual] */
        data[i + 1] = in[i].data;
    }
    if (conv->packs) {
        FT_RETURN_IF_FAILED(ft_dnnl_pack_update(cpu_of(conv), &conv->pack, &in[1], scratch, err));
        data[1] = conv->pack.packed;
    }
    return ft_dnnl_run(cpu_of(conv), &conv->main, data, scratch, err);
}

static enum ft_status run_weight(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    struct conv *conv = (struct conv *)(void *)kernel;
    void *dw = conv->unpacks ? (char *)scratch + conv->dw_at : out[0].data;
    void *data[3] = {in[0].data, in[1].data, dw};
    FT_RETURN_IF_FAILED(ft_dnnl_run(cpu_of(conv), &conv->main, data, scratch, err));
    if (!conv->unpacks) {
        return FT_OK;
    }
    void *both[2] = {dw, out[0].data};
    return ft_dnnl_run(cpu_of(conv), &conv->unpack, both, scratch, err);
}

/* ---- preparation */

/* oneDNN 2.6.3's product of matrices adds the residual's wrong elements where it is channels-last. */
static enum ft_status check_residual(const struct conv *conv, dnnl_primitive_desc_t pd, const struct shape *s,
                                     struct ft_err *err)
{
    const char *name = "";
    bool rows = s->y.ndims == 4 && s->y.format_desc.blocking.strides[1] == 1;
    FT_RETURN_IF_FAILED(ft_dnnl_check(
        dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name), "a name", err));
    if (conv->epilogue.residual != 0 && rows && strstr(name, "gemm") != NULL) {
        return FT_FAIL(err, UNSUPPORTED, "oneDNN's %s adds no residual here", name);
    }
    return FT_OK;
}

/* In bf16 a plain loop is refused: device.c computes such a call in floats. */
static enum ft_status check_narrow(dnnl_primitive_desc_t pd, const struct shape *s, struct ft_err *err)
{
    bool narrow = s->x.data_type == dnnl_bf16 || s->y.data_type == dnnl_bf16;
    return narrow ? ft_dnnl_check_loop(pd, err) : FT_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* w is operand 1 of the finished primitive: pack it if its format is not plain. */
static enum ft_status make_pack(struct conv *conv, const struct shape *s, const dnnl_memory_desc_t *want,
                                size_t *scratch, struct ft_err *err)
{
    *scratch = conv->main.scratch;
    conv->packs = !dnnl_memory_desc_equal(want, &s->w_plain);
    if (conv->packs) {
        FT_RETURN_IF_FAILED(
            ft_dnnl_pack_make(cpu_of(conv), &s->w_plain, want, conv->main.threads, &conv->pack, err));
        *scratch = larger(*scratch, conv->pack.reorder.scratch);
    }
    return FT_OK;
}

static enum ft_status make_unpack(struct conv *conv, const struct shape *s, const dnnl_memory_desc_t *have,
                                  size_t *scratch, struct ft_err *err)
{
    *scratch = conv->main.scratch;
    conv->unpacks = !dnnl_memory_desc_equal(have, &s->w_plain);
    if (conv->unpacks) {
        FT_RETURN_IF_FAILED(
            ft_dnnl_reorder(cpu_of(conv), have, &s->w_plain, conv->main.threads, &conv->unpack, err));
        size_t shared = larger(*scratch, conv->unpack.scratch);
        conv->dw_at = (shared + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
        *scratch = conv->dw_at + dnnl_memory_desc_get_size(have);
    }
    return FT_OK;
}

static const dnnl_memory_desc_t *md_of(dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static enum ft_status make(struct conv *conv, enum ft_op op, const struct shape *s, size_t *scratch,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_cpu *cpu = cpu_of(conv);
    dnnl_primitive_desc_t pd = NULL;
    int threads = conv_threads(cpu, s);
    int before = ft_parallel_limit(threads);
    if (op == FT_OP_CONV) {
        FT_TRY(forward_pd(cpu, s, conv->bias, &conv->epilogue, &pd, err));
        FT_TRY(check_residual(conv, pd, s, err));
        const dnnl_memory_desc_t *w = md_of(pd, dnnl_query_weights_md);
        struct ft_dnnl_operand operands[5] = {
            {DNNL_ARG_SRC, &s->x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, &s->y}, {DNNL_ARG_BIAS, &s->b}};
        if (conv->epilogue.residual != 0) {
            operands[conv->inputs] = (struct ft_dnnl_operand){FT_DNNL_RESIDUAL, &s->y};
        }
        FT_TRY(check_narrow(pd, s, err));
        FT_TRY(ft_dnnl_make(cpu, pd, operands, conv->inputs + 1, threads, &conv->main, err));
        FT_TRY(make_pack(conv, s, w, scratch, err));
    } else if (op == FT_OP_CONV_BWD_DATA) {
        FT_TRY(backward_pd(cpu, s, op, &pd, err));
        FT_TRY(check_narrow(pd, s, err));
        const dnnl_memory_desc_t *w = md_of(pd, dnnl_query_weights_md);
        const struct ft_dnnl_operand operands[3] = {
            {DNNL_ARG_DIFF_DST, &s->y}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DIFF_SRC, &s->x}};
        FT_TRY(ft_dnnl_make(cpu, pd, operands, 3, threads, &conv->main, err));
        FT_TRY(make_pack(conv, s, w, scratch, err));
    } else {
        FT_TRY(backward_pd(cpu, s, op, &pd, err));
        FT_TRY(check_narrow(pd, s, err));
        const dnnl_memory_desc_t *dw = md_of(pd, dnnl_query_diff_weights_md);
        const struct ft_dnnl_operand operands[3] = {
            {DNNL_ARG_SRC, &s->x}, {DNNL_ARG_DIFF_DST, &s->y}, {DNNL_ARG_DIFF_WEIGHTS, dw}};
        FT_TRY(ft_dnnl_make(cpu, pd, operands, 3, threads, &conv->main, err));
        FT_TRY(make_unpack(conv, s, dw, scratch, err));
    }
done:
    ft_parallel_limit(before);
    if (pd != NULL) {
        (void)dnnl_primitive_desc_destroy(pd);
    }
    return st;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, const struct shape *s,
                              struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *k = NULL;
    ft_cpu_run run = call->op == FT_OP_CONV_BWD_WEIGHT ? run_weight : run_packed;
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct conv), run, &k, err));
    k->free = conv_free;
    struct conv *conv = (struct conv *)(void *)k;
    if (call->op == FT_OP_CONV && call->attrs.residual != 0 && call->attrs.group > 1) {
        /* oneDNN 2.6.3 adds the wrong elements there. */
        st = FT_FAIL(err, UNSUPPORTED, "conv: device cpu adds no residual behind a convolution in groups");
        goto done;
    }
    conv->inputs = call->op == FT_OP_CONV ? call->n_in : 2;
    if (call->op == FT_OP_CONV) {
        conv->bias = call->n_in - (call->attrs.residual != 0) == 3;
        conv->epilogue = call->attrs;
    }
    FT_TRY(make(conv, call->op, s, scratch, err));
    *kernel = k;
    k = NULL;
done:
    if (k != NULL) {
        conv_free(k);
    }
    return st;
}

enum ft_status ft_cpu_conv(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                           size_t *scratch, struct ft_err *err)
{
    bool narrow = call->in[0].dtype == FT_BF16;
    if (!narrow && ft_cpu_is_winograd(ft_cpu_of(device), call)) {
        return ft_cpu_winograd(device, call, kernel, scratch, err);
    }
    if (!narrow && ft_cpu_is_direct(ft_cpu_of(device), call)) {
        return ft_cpu_direct(device, call, kernel, scratch, err);
    }
    struct shape s;
    FT_RETURN_IF_FAILED(shape_of(&call->attrs, &call->in[0], &call->in[1], &call->out[0], &s, err));
    enum ft_status st = prepare(device, call, &s, kernel, scratch, err);
    if (st == FT_UNSUPPORTED && !narrow && ft_cpu_can_direct(call)) { /* see check_residual() */
        ft_err_clear(err);
        return ft_cpu_direct(device, call, kernel, scratch, err);
    }
    return st;
}

enum ft_status ft_cpu_conv_bwd_data(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    bool narrow = call->in[0].dtype == FT_BF16;
    if (!narrow && ft_cpu_is_winograd(ft_cpu_of(device), call)) {
        return ft_cpu_winograd(device, call, kernel, scratch, err);
    }
    if (!narrow && ft_cpu_is_direct(ft_cpu_of(device), call)) {
        return ft_cpu_direct(device, call, kernel, scratch, err);
    }
    struct shape s;
    FT_RETURN_IF_FAILED(shape_of(&call->attrs, &call->out[0], &call->in[1], &call->in[0], &s, err));
    return prepare(device, call, &s, kernel, scratch, err);
}

enum ft_status ft_cpu_conv_bwd_weight(struct ft_device *device, const struct ft_call *call,
                                      struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    struct shape s;
    bool narrow = call->in[0].dtype == FT_BF16;
    if (!narrow && ft_cpu_is_depthwise(call)) {
        return ft_cpu_depthwise_weight(device, call, kernel, scratch, err);
    }
    if (!narrow && ft_cpu_is_winograd(ft_cpu_of(device), call)) {
        return ft_cpu_winograd_weight(device, call, kernel, scratch, err);
    }
    if (!narrow && ft_cpu_is_direct_weight(ft_cpu_of(device), call)) {
        return ft_cpu_direct_weight(device, call, kernel, scratch, err);
    }
    FT_RETURN_IF_FAILED(shape_of(&call->attrs, &call->in[0], &call->out[0], &call->in[1], &s, err));
    return prepare(device, call, &s, kernel, scratch, err);
}
