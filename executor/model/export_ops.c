#include <math.h>
#include <string.h>

#include "executor/model/export.h"

/* How each op of a forward graph is written, opset 17. */

typedef enum ft_status (*writer)(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                 struct ft_err *err);

static const struct ft_type *type_of(const struct ft_export *x, ft_value v)
{
    return ft_graph_type(x->graph, v);
}

struct ft_export_node ft_export_like(const struct ft_export *x, const struct ft_node *node, const char *onnx)
{
    struct ft_export_node n = {.op = onnx, .origin = node->origin, .n_in = node->n_in};
    for (int i = 0; i < node->n_in && i < 4; i++) {
        n.in[i] = x->names[node->in[i]];
    }
    n.out = x->names[node->out[0]];
    return n;
}

enum ft_status ft_export_step(struct ft_export *x, const char *op, const char *stem, const char *a,
                              const char *b, const char **out, struct ft_err *err)
{
    struct ft_export_node n = {.op = op, .in = {a, b}, .n_in = b == NULL ? 1 : 2};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, out, err));
    n.out = *out;
    return ft_export_put(x, &n, err);
}

static enum ft_status write_simple(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    return ft_export_put(x, &n, err);
}

static enum ft_status write_identity(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, "Identity");
    n.n_in = 1;
    return ft_export_put(x, &n, err);
}

/* ---- normalisation */

static enum ft_status write_batchnorm(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                      struct ft_err *err)
{
    const char *in[5];
    const struct ft_export_attr attrs[] = {
        {.name = "epsilon", .kind = FT_ATTR_FLOAT, .f = node->attrs.eps},
        {.name = "momentum", .kind = FT_ATTR_FLOAT, .f = (float)(1.0 - (double)node->attrs.momentum)}};
    struct ft_export_node n = {.op = onnx,
                               .origin = node->origin,
                               .out = x->names[node->out[0]],
                               .attrs = attrs,
                               .n_attrs = node->attrs.momentum == 0.1F ? 1 : 2}; /* 0.9 is the default */
    for (int i = 0; i < 5; i++) {
        in[i] = x->names[node->in[i]];
    }
    return ft_export_put_many(x, &n, in, 5, err);
}

/* ---- matrices */

static enum ft_status write_gemm(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const struct ft_attrs *a = &node->attrs;
    const struct ft_export_attr attrs[] = {
        {.name = "alpha", .kind = FT_ATTR_FLOAT, .f = a->alpha},
        {.name = "transA", .kind = FT_ATTR_INT, .i = a->trans_a != 0},
        {.name = "transB", .kind = FT_ATTR_INT, .i = a->trans_b != 0},
    };
    struct ft_export_node n = ft_export_like(x, node, "Gemm");
    n.attrs = attrs;
    n.n_attrs = 3;
    return ft_export_put(x, &n, err);
}

/* Swap the last two axes of an operand. */
static enum ft_status swapped(struct ft_export *x, const char *stem, ft_value v, const char **out,
                              struct ft_err *err)
{
    int64_t perm[FT_MAX_RANK];
    int rank = type_of(x, v)->rank;
    for (int i = 0; i < rank; i++) {
        perm[i] = i;
    }
    perm[rank - 2] = rank - 1;
    perm[rank - 1] = rank - 2;
    const struct ft_export_attr attr = {.name = "perm", .kind = FT_ATTR_INTS, .ints = perm, .count = rank};
    struct ft_export_node n = {
        .op = "Transpose", .in = {x->names[v]}, .n_in = 1, .attrs = &attr, .n_attrs = 1};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, out, err));
    n.out = *out;
    return ft_export_put(x, &n, err);
}

static enum ft_status write_matmul(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    const struct ft_attrs *a = &node->attrs;
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const char *out = n.out;
    bool plain = a->alpha == 1.0F && node->n_in == 2;
    if (type_of(x, node->in[0])->rank == 2 && type_of(x, node->in[1])->rank == 2 &&
        (!plain || a->trans_a || a->trans_b)) {
        return write_gemm(x, node, err);
    }
    n.n_in = 2;
    if (a->trans_a) {
        FT_RETURN_IF_FAILED(swapped(x, out, node->in[0], &n.in[0], err));
    }
    if (a->trans_b) {
        FT_RETURN_IF_FAILED(swapped(x, out, node->in[1], &n.in[1], err));
    }
    if (!plain) {
        FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &n.out, err));
    }
    FT_RETURN_IF_FAILED(ft_export_put(x, &n, err));
    struct ft_export_node last = {.n_in = 2, .in = {n.out}};
    if (a->alpha != 1.0F) {
        last.op = "Mul";
        FT_RETURN_IF_FAILED(ft_export_float(x, out, a->alpha, &last.in[1], err));
        last.out = out;
        if (node->n_in == 3) {
            FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &last.out, err));
        }
        FT_RETURN_IF_FAILED(ft_export_put(x, &last, err));
        last.in[0] = last.out;
    }
    if (node->n_in == 3) {
        last.op = "Add";
        last.in[1] = x->names[node->in[2]];
        last.out = out;
        return ft_export_put(x, &last, err);
    }
    return FT_OK;
}

/* ---- element by element */

static enum ft_status write_leaky_relu(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                       struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "alpha", .kind = FT_ATTR_FLOAT, .f = node->attrs.alpha};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    n.attrs = &attr;
    n.n_attrs = 1;
    return ft_export_put(x, &n, err);
}

static enum ft_status write_clip(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                 struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    if (!isinf(node->attrs.lo)) {
        FT_RETURN_IF_FAILED(ft_export_float(x, n.out, node->attrs.lo, &n.in[1], err));
    }
    if (!isinf(node->attrs.hi)) {
        FT_RETURN_IF_FAILED(ft_export_float(x, n.out, node->attrs.hi, &n.in[2], err));
    }
    n.n_in = n.in[2] != NULL ? 3 : n.in[1] != NULL ? 2 : 1;
    return ft_export_put(x, &n, err);
}

/* alpha x + beta as Mul and Add, without what does nothing. */
static enum ft_status write_scale(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                  struct ft_err *err)
{
    (void)onnx;
    struct ft_export_node n = ft_export_like(x, node, "Mul");
    const char *out = n.out;
    bool adds = node->attrs.beta != 0.0F;
    n.n_in = 2;
    if (node->attrs.alpha != 1.0F || !adds) {
        FT_RETURN_IF_FAILED(ft_export_float(x, out, node->attrs.alpha, &n.in[1], err));
        if (adds) {
            FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &n.out, err));
        }
        FT_RETURN_IF_FAILED(ft_export_put(x, &n, err));
        n.in[0] = n.out;
    }
    if (adds) {
        n.op = "Add";
        n.out = out;
        FT_RETURN_IF_FAILED(ft_export_float(x, out, node->attrs.beta, &n.in[1], err));
        return ft_export_put(x, &n, err);
    }
    return FT_OK;
}

/* Evaluation mode: nothing. An output keeps its name through Identity. */
static enum ft_status write_dropout(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                    struct ft_err *err)
{
    (void)onnx;
    if (x->reserved[node->out[0]]) {
        return write_identity(x, node, err);
    }
    x->names[node->out[0]] = x->names[node->in[0]];
    return FT_OK;
}

/* ---- reductions */

static enum ft_status write_reduce(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    int64_t axes[FT_MAX_RANK];
    struct ft_export_attr attrs[2] = {
        {.name = "keepdims", .kind = FT_ATTR_INT, .i = node->attrs.keepdims != 0},
        {.name = "axes", .kind = FT_ATTR_INTS, .ints = axes, .count = node->attrs.axes_count},
    };
    struct ft_export_node n = ft_export_like(x, node, onnx);
    if (node->attrs.axes_count == 0) {
        return write_identity(x, node, err); /* an empty list would mean all axes */
    }
    for (int i = 0; i < node->attrs.axes_count; i++) {
        axes[i] = node->attrs.axes[i];
    }
    n.attrs = attrs;
    n.n_attrs = 2;
    if (node->op == FT_OP_REDUCE_SUM) { /* an input since opset 13, ReduceMean's since 18 */
        n.n_attrs = 1;
        n.n_in = 2;
        FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, axes, node->attrs.axes_count, &n.in[1], err));
    }
    return ft_export_put(x, &n, err);
}

static enum ft_status reduce_sum(struct ft_export *x, const char *from, const int64_t *axes, int count,
                                 int64_t keep, const char *out, struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "keepdims", .kind = FT_ATTR_INT, .i = keep};
    struct ft_export_node n = {
        .op = "ReduceSum", .in = {from}, .n_in = 2, .out = out, .attrs = &attr, .n_attrs = 1};
    FT_RETURN_IF_FAILED(ft_export_ints(x, out, axes, count, &n.in[1], err));
    return ft_export_put(x, &n, err);
}

/* Axes that broadcasting stretches are summed and kept, axes that it adds in front are summed away. */
static enum ft_status write_sum_to(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    (void)onnx;
    const struct ft_type *from = type_of(x, node->in[0]);
    const struct ft_type *to = type_of(x, node->out[0]);
    int64_t stretched[FT_MAX_RANK];
    int64_t added[FT_MAX_RANK];
    int n_stretched = 0;
    int n_added = from->rank - to->rank;
    const char *at = x->names[node->in[0]];
    const char *out = x->names[node->out[0]];
    for (int i = 0; i < n_added; i++) {
        added[i] = i;
    }
    for (int i = 0; i < to->rank; i++) {
        if (ft_dim_is_one(to->dim[i]) && !ft_dim_is_one(from->dim[n_added + i])) {
            stretched[n_stretched++] = n_added + i;
        }
    }
    if (n_stretched == 0 && n_added == 0) {
        return write_identity(x, node, err);
    }
    if (n_stretched > 0) {
        const char *between = out;
        if (n_added > 0) {
            FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &between, err));
        }
        FT_RETURN_IF_FAILED(reduce_sum(x, at, stretched, n_stretched, 1, between, err));
        at = between;
    }
    return n_added > 0 ? reduce_sum(x, at, added, n_added, 0, out, err) : FT_OK;
}

/* x / max(|x|, eps): LpNormalization has no eps. */
static enum ft_status write_l2_normalize(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                         struct ft_err *err)
{
    (void)onnx;
    const int64_t last[1] = {-1};
    struct ft_export_attr attrs[2] = {{.name = "axes", .kind = FT_ATTR_INTS, .ints = last, .count = 1},
                                      {.name = "keepdims", .kind = FT_ATTR_INT, .i = 1}};
    struct ft_export_node norm = {
        .op = "ReduceL2", .in = {x->names[node->in[0]]}, .n_in = 1, .attrs = attrs, .n_attrs = 2};
    const char *out = x->names[node->out[0]];
    if (out != NULL) {
        struct ft_export_node clip = {.op = "Clip", .n_in = 2};
        struct ft_export_node div = {.op = "Div", .origin = node->origin, .n_in = 2, .out = out};
        FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &norm.out, err));
        FT_RETURN_IF_FAILED(ft_export_put(x, &norm, err));
        clip.in[0] = norm.out;
        FT_RETURN_IF_FAILED(ft_export_float(x, out, node->attrs.eps, &clip.in[1], err));
        FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &clip.out, err));
        FT_RETURN_IF_FAILED(ft_export_put(x, &clip, err));
        div.in[0] = norm.in[0];
        div.in[1] = clip.out;
        FT_RETURN_IF_FAILED(ft_export_put(x, &div, err));
    }
    if (x->names[node->out[1]] != NULL) {
        attrs[1].i = 0;
        norm.out = x->names[node->out[1]];
        return ft_export_put(x, &norm, err);
    }
    return FT_OK;
}

/* ---- shapes */

static enum ft_status shape_of(struct ft_export *x, const char *stem, ft_value v, const char **out,
                               struct ft_err *err)
{
    return ft_export_step(x, "Shape", stem, x->names[v], NULL, out, err);
}

static enum ft_status write_like_shape(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                       struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const struct ft_type *to = type_of(x, node->in[1]);
    if (ft_type_is_known(to)) {
        int64_t extents[FT_MAX_RANK];
        for (int i = 0; i < to->rank; i++) {
            extents[i] = to->dim[i].coef;
        }
        FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, extents, to->rank, &n.in[1], err));
        return ft_export_put(x, &n, err);
    }
    FT_RETURN_IF_FAILED(shape_of(x, n.out, node->in[1], &n.in[1], err));
    return ft_export_put(x, &n, err);
}

/* Known extents as they are, 0 where the input's axis is meant, -1 for at most one other. */
static enum ft_status write_reshape(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                    struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const struct ft_type *from = type_of(x, node->in[0]);
    int64_t target[FT_MAX_RANK];
    int unknown = 0;
    for (int i = 0; i < node->attrs.shape_rank; i++) {
        unknown += !ft_dim_is_known(node->attrs.shape[i]);
    }
    int rest = unknown;
    for (int i = 0; i < node->attrs.shape_rank; i++) {
        struct ft_dim d = node->attrs.shape[i];
        target[i] = ft_dim_is_known(d) ? d.coef : -1;
        if (target[i] == -1 && unknown > 1 && i < from->rank && ft_dim_equal(d, from->dim[i])) {
            target[i] = 0;
            rest--;
        }
    }
    if (rest > 1) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s: a reshape with several symbolic extents cannot be written as ONNX", node->origin);
    }
    n.n_in = 2;
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, target, node->attrs.shape_rank, &n.in[1], err));
    return ft_export_put(x, &n, err);
}

static enum ft_status write_transpose(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                      struct ft_err *err)
{
    int64_t perm[FT_MAX_RANK];
    int rank = type_of(x, node->in[0])->rank;
    const struct ft_export_attr attr = {.name = "perm", .kind = FT_ATTR_INTS, .ints = perm, .count = rank};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    for (int i = 0; i < rank; i++) {
        perm[i] = node->attrs.perm[i];
    }
    n.attrs = &attr;
    n.n_attrs = 1;
    return ft_export_put(x, &n, err);
}

static enum ft_status write_axis(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                 struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis};
    struct ft_export_node n = {
        .op = onnx, .origin = node->origin, .out = x->names[node->out[0]], .attrs = &attr, .n_attrs = 1};
    const char **in = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, (size_t)node->n_in, sizeof *in, &in, err));
    for (int i = 0; i < node->n_in; i++) {
        in[i] = x->names[node->in[i]];
    }
    return ft_export_put_many(x, &n, in, node->n_in, err);
}

static enum ft_status write_slice(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                  struct ft_err *err)
{
    const int64_t axis[1] = {node->attrs.axis};
    const int64_t start[1] = {node->attrs.start};
    const int64_t step[1] = {node->attrs.step == 0 ? 1 : node->attrs.step};
    int64_t end[1] = {node->attrs.start + node->attrs.count * step[0]};
    end[0] = step[0] < 0 && end[0] < 0 ? INT64_MIN : end[0]; /* -1 would be the last element */
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const char *in[5] = {n.in[0]};
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, start, 1, &in[1], err));
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, end, 1, &in[2], err));
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, axis, 1, &in[3], err));
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, step, 1, &in[4], err));
    return ft_export_put_many(x, &n, in, step[0] == 1 ? 4 : 5, err);
}

static enum ft_status write_pad_like(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                     struct ft_err *err)
{
    int64_t pads[2 * FT_MAX_RANK] = {0};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const struct ft_type *from = type_of(x, node->in[0]);
    const struct ft_type *to = type_of(x, node->out[0]);
    int axis = node->attrs.axis;
    pads[axis] = node->attrs.start;
    pads[axis + from->rank] = to->dim[axis].coef - from->dim[axis].coef - node->attrs.start;
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, pads, 2 * from->rank, &n.in[1], err));
    return ft_export_put(x, &n, err);
}

/* ---- the table. Rows that only training makes have no writer. */

static const struct {
    writer write;
    const char *onnx;
} writers[FT_OP_COUNT] = {
    [FT_OP_CONV] = {ft_export_conv, "Conv"},
    [FT_OP_CONV_BWD_DATA] = {ft_export_conv_transpose, "ConvTranspose"},
    [FT_OP_BATCHNORM] = {write_batchnorm, "BatchNormalization"},
    [FT_OP_MAXPOOL] = {ft_export_pool, "MaxPool"},
    [FT_OP_AVGPOOL] = {ft_export_pool, "AveragePool"},
    [FT_OP_MATMUL] = {write_matmul, "MatMul"},
    [FT_OP_RELU] = {write_simple, "Relu"},
    [FT_OP_LEAKY_RELU] = {write_leaky_relu, "LeakyRelu"},
    [FT_OP_SIGMOID] = {write_simple, "Sigmoid"},
    [FT_OP_TANH] = {write_simple, "Tanh"},
    [FT_OP_CLIP] = {write_clip, "Clip"},
    [FT_OP_EXP] = {write_simple, "Exp"},
    [FT_OP_LOG] = {write_simple, "Log"},
    [FT_OP_SQRT] = {write_simple, "Sqrt"},
    [FT_OP_NEG] = {write_simple, "Neg"},
    [FT_OP_SCALE] = {write_scale, ""},
    [FT_OP_MAP] = {ft_export_map, ""},
    [FT_OP_LAYERNORM] = {ft_export_layernorm, "LayerNormalization"},
    [FT_OP_ADD] = {write_simple, "Add"},
    [FT_OP_SUB] = {write_simple, "Sub"},
    [FT_OP_MUL] = {write_simple, "Mul"},
    [FT_OP_DIV] = {write_simple, "Div"},
    [FT_OP_POW] = {write_simple, "Pow"},
    [FT_OP_CAST] = {ft_export_cast, "Cast"},
    [FT_OP_COMPARE] = {ft_export_compare, ""},
    [FT_OP_LOGIC] = {ft_export_logic, ""},
    [FT_OP_WHERE] = {write_simple, "Where"},
    [FT_OP_MAXIMUM] = {write_simple, "Max"},
    [FT_OP_MINIMUM] = {write_simple, "Min"},
    [FT_OP_MOD] = {ft_export_mod, "Mod"},
    [FT_OP_GATHER] = {ft_export_gather, "Gather"},
    [FT_OP_GATHER_ELEMENTS] = {ft_export_gather, "GatherElements"},
    [FT_OP_GATHER_ND] = {ft_export_gather, "GatherND"},
    [FT_OP_SCATTER_ELEMENTS] = {ft_export_scatter, "ScatterElements"},
    [FT_OP_SCATTER_ND] = {ft_export_scatter, "ScatterND"},
    [FT_OP_ARG_EXTREME] = {ft_export_arg_extreme, ""},
    [FT_OP_TOPK] = {ft_export_topk, "TopK"},
    [FT_OP_CUMSUM] = {ft_export_cumsum, "CumSum"},
    [FT_OP_MAXPOOL_INDICES] = {ft_export_maxpool_indices, "MaxPool"},
    [FT_OP_DROPOUT] = {write_dropout, ""},
    [FT_OP_REDUCE_SUM] = {write_reduce, "ReduceSum"},
    [FT_OP_REDUCE_MEAN] = {write_reduce, "ReduceMean"},
    [FT_OP_REDUCE] = {ft_export_fold, ""},
    [FT_OP_SUM_TO] = {write_sum_to, ""},
    [FT_OP_EXPAND_TO] = {write_like_shape, "Expand"},
    [FT_OP_RESHAPE] = {write_reshape, "Reshape"},
    [FT_OP_RESHAPE_LIKE] = {write_like_shape, "Reshape"},
    [FT_OP_TRANSPOSE] = {write_transpose, "Transpose"},
    [FT_OP_CONCAT] = {write_axis, "Concat"},
    [FT_OP_SLICE] = {write_slice, "Slice"},
    [FT_OP_PAD_LIKE] = {write_pad_like, "Pad"},
    [FT_OP_PAD] = {ft_export_pad, "Pad"},
    [FT_OP_SOFTMAX] = {write_axis, "Softmax"},
    [FT_OP_LOG_SOFTMAX] = {write_axis, "LogSoftmax"},
    [FT_OP_ATTENTION] = {ft_export_attention, ""},
    [FT_OP_ROPE] = {ft_export_rope, ""},
    [FT_OP_POSITIONS] = {ft_export_positions, ""},
    [FT_OP_SEQ_POOL] = {ft_export_seq_pool, ""},
    [FT_OP_L2_NORMALIZE] = {write_l2_normalize, ""},
};

enum ft_status ft_export_op(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *name = ft_op_info(node->op)->name;
    if (writers[node->op].write == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "%s: op %s belongs to training and is not written as ONNX",
                       node->origin[0] != '\0' ? node->origin : "a node", name);
    }
    for (int i = 1; i < ft_op_info(node->op)->outputs; i++) {
        bool written = node->op == FT_OP_L2_NORMALIZE || node->op == FT_OP_TOPK ||
                       node->op == FT_OP_MAXPOOL; /* its places: by MAXPOOL_INDICES */
        if (!written && x->reached[node->out[i]]) {
            return FT_FAIL(err, UNSUPPORTED, "%s: output %d of %s is not written as ONNX", node->origin, i,
                           name);
        }
    }
    return writers[node->op].write(x, node, writers[node->op].onnx, err);
}
