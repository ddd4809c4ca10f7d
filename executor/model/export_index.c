#include "executor/model/export.h"

/* Integers, booleans, choices and indexing. */

static enum ft_status put_cast(struct ft_export *x, const struct ft_export_node *like, int type,
                               struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "to", .kind = FT_ATTR_INT, .i = type};
    struct ft_export_node n = *like;
    n.attrs = &attr;
    n.n_attrs = 1;
    return ft_export_put(x, &n, err);
}

/* A narrower integer type is passed through on the way back to int64, which all our integers are. */
enum ft_status ft_export_cast(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    static const int types[] = {
        [FT_CAST_FLOAT] = FT_ONNX_FLOAT, [FT_CAST_BOOL] = FT_ONNX_BOOL,  [FT_CAST_I64] = FT_ONNX_INT64,
        [FT_CAST_I32] = FT_ONNX_INT32,   [FT_CAST_I16] = FT_ONNX_INT16,  [FT_CAST_I8] = FT_ONNX_INT8,
        [FT_CAST_U32] = FT_ONNX_UINT32,  [FT_CAST_U16] = FT_ONNX_UINT16, [FT_CAST_U8] = FT_ONNX_UINT8};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const char *out = n.out;
    bool narrow = node->attrs.kind > FT_CAST_I64;
    if (narrow) {
        FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &n.out, err));
    }
    FT_RETURN_IF_FAILED(put_cast(x, &n, types[node->attrs.kind], err));
    if (narrow) {
        struct ft_export_node back = {.op = onnx, .in = {n.out}, .n_in = 1, .out = out};
        return put_cast(x, &back, FT_ONNX_INT64, err);
    }
    return FT_OK;
}

enum ft_status ft_export_compare(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                 struct ft_err *err)
{
    static const char *const ops[] = {[FT_EQUAL] = "Equal",
                                      [FT_LESS] = "Less",
                                      [FT_LESS_OR_EQUAL] = "LessOrEqual",
                                      [FT_GREATER] = "Greater",
                                      [FT_GREATER_OR_EQUAL] = "GreaterOrEqual"};
    struct ft_export_node n = ft_export_like(x, node, ops[node->attrs.kind]);
    (void)onnx;
    return ft_export_put(x, &n, err);
}

enum ft_status ft_export_logic(struct ft_export *x, const struct ft_node *node, const char *onnx,
                               struct ft_err *err)
{
    static const char *const ops[] = {
        [FT_LOGIC_NOT] = "Not", [FT_LOGIC_AND] = "And", [FT_LOGIC_OR] = "Or", [FT_LOGIC_XOR] = "Xor"};
    struct ft_export_node n = ft_export_like(x, node, ops[node->attrs.kind]);
    (void)onnx;
    return ft_export_put(x, &n, err);
}

enum ft_status ft_export_mod(struct ft_export *x, const struct ft_node *node, const char *onnx,
                             struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "fmod", .kind = FT_ATTR_INT, .i = node->attrs.kind};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    n.attrs = &attr;
    n.n_attrs = 1;
    return ft_export_put(x, &n, err);
}

/* ---- indexing */

static enum ft_status put_with(struct ft_export *x, struct ft_export_node *n,
                               const struct ft_export_attr *attrs, int count, struct ft_err *err)
{
    n->attrs = attrs;
    n->n_attrs = count;
    return ft_export_put(x, n, err);
}

enum ft_status ft_export_gather(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                struct ft_err *err)
{
    const struct ft_export_attr attr =
        node->op == FT_OP_GATHER_ND
            ? (struct ft_export_attr){.name = "batch_dims", .kind = FT_ATTR_INT, .i = node->attrs.count}
            : (struct ft_export_attr){.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    return put_with(x, &n, &attr, 1, err);
}

/* Extremes came with opset 18. */
enum ft_status ft_export_scatter(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                 struct ft_err *err)
{
    static const char *const texts[] = {
        [FT_SCATTER_SET] = "none", [FT_SCATTER_ADD] = "add", [FT_SCATTER_MUL] = "mul"};
    bool elements = node->op == FT_OP_SCATTER_ELEMENTS;
    if (node->attrs.kind > FT_SCATTER_MUL || (!elements && node->attrs.count != 0)) {
        return FT_FAIL(err, UNSUPPORTED, "%s: a scatter that keeps an extreme is not in opset 17",
                       node->origin);
    }
    const struct ft_export_attr attrs[2] = {
        {.name = "reduction", .kind = FT_ATTR_TEXT, .text = texts[node->attrs.kind]},
        {.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis}};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    return put_with(x, &n, attrs, elements ? 2 : 1, err);
}

enum ft_status ft_export_arg_extreme(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                     struct ft_err *err)
{
    const struct ft_export_attr attrs[3] = {
        {.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis},
        {.name = "keepdims", .kind = FT_ATTR_INT, .i = node->attrs.keepdims != 0},
        {.name = "select_last_index", .kind = FT_ATTR_INT, .i = node->attrs.count != 0}};
    struct ft_export_node n = ft_export_like(x, node, node->attrs.kind != 0 ? "ArgMin" : "ArgMax");
    (void)onnx;
    return put_with(x, &n, attrs, 3, err);
}

enum ft_status ft_export_topk(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    const struct ft_export_attr attrs[2] = {
        {.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis},
        {.name = "largest", .kind = FT_ATTR_INT, .i = node->attrs.kind == 0}};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const char *stem = n.out != NULL ? n.out : x->names[node->out[1]];
    n.out2 = x->names[node->out[1]];
    n.n_in = 2;
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, &node->attrs.count, 1, &n.in[1], err));
    if (n.out == NULL) { /* only the places are read */
        FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &n.out, err));
    }
    return put_with(x, &n, attrs, 2, err);
}

enum ft_status ft_export_cumsum(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                struct ft_err *err)
{
    const int64_t axis[1] = {node->attrs.axis};
    const struct ft_export_attr attrs[2] = {
        {.name = "exclusive", .kind = FT_ATTR_INT, .i = (node->attrs.kind & FT_CUMSUM_EXCLUSIVE) != 0},
        {.name = "reverse", .kind = FT_ATTR_INT, .i = (node->attrs.kind & FT_CUMSUM_REVERSE) != 0}};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    n.n_in = 2;
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, axis, 1, &n.in[1], err));
    return put_with(x, &n, attrs, 2, err);
}
