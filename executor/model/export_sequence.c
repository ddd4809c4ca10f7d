#include <float.h>
#include <math.h>
#include <string.h>

#include "executor/model/export.h"

/* The rows of sequences in their padded form, as exporters spell them out: model/rewrite_attention.c reads
 * this back. Padding gets numbers that nobody reads, where the rows give 0. */

static const struct ft_type *type_of(const struct ft_export *x, ft_value v)
{
    return ft_graph_type(x->graph, v);
}

static enum ft_status padded(const struct ft_export *x, const struct ft_node *node, int operand,
                             struct ft_err *err)
{
    const struct ft_type *t = type_of(x, node->in[operand]);
    if (ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_TOKENS))) {
        return FT_FAIL(err, UNSUPPORTED, "%s: a packed graph is not written as ONNX", node->origin);
    }
    return FT_OK;
}

/* ---- steps that give a fresh value; *v is the operand and becomes it */

static enum ft_status one(struct ft_export *x, const char *op, const char *stem, const char **v,
                          struct ft_err *err)
{
    return ft_export_step(x, op, stem, *v, NULL, v, err);
}

static enum ft_status two(struct ft_export *x, const char *op, const char *stem, const char **v,
                          const char *b, struct ft_err *err)
{
    return ft_export_step(x, op, stem, *v, b, v, err);
}

static enum ft_status with_float(struct ft_export *x, const char *op, const char *stem, const char **v,
                                 float f, struct ft_err *err)
{
    const char *c = NULL;
    FT_RETURN_IF_FAILED(ft_export_float(x, stem, f, &c, err));
    return two(x, op, stem, v, c, err);
}

static enum ft_status with_ints(struct ft_export *x, const char *op, const char *stem, const char **v,
                                const int64_t *ints, int count, struct ft_err *err)
{
    const char *c = NULL;
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, ints, count, &c, err));
    return two(x, op, stem, v, c, err);
}

static enum ft_status with_attr(struct ft_export *x, const char *op, const char *stem, const char **v,
                                const char *b, const struct ft_export_attr *attr, struct ft_err *err)
{
    struct ft_export_node n = {
        .op = op, .in = {*v, b}, .n_in = b == NULL ? 1 : 2, .attrs = attr, .n_attrs = 1};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &n.out, err));
    *v = n.out;
    return ft_export_put(x, &n, err);
}

static enum ft_status cast(struct ft_export *x, const char *stem, const char **v, int64_t type,
                           struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "to", .kind = FT_ATTR_INT, .i = type};
    return with_attr(x, "Cast", stem, v, NULL, &attr, err);
}

static enum ft_status turn(struct ft_export *x, const char *stem, const char **v, const int64_t *perm,
                           int rank, struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "perm", .kind = FT_ATTR_INTS, .ints = perm, .count = rank};
    return with_attr(x, "Transpose", stem, v, NULL, &attr, err);
}

static enum ft_status softmax(struct ft_export *x, const char *stem, const char **v, struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "axis", .kind = FT_ATTR_INT, .i = -1};
    return with_attr(x, "Softmax", stem, v, NULL, &attr, err);
}

/* ---- places */

/* Ones like ids (N, S). */
static enum ft_status ones(struct ft_export *x, const char *stem, const char **v, struct ft_err *err)
{
    const int64_t zero = 0;
    const int64_t one_more = 1;
    FT_RETURN_IF_FAILED(with_ints(x, "Mul", stem, v, &zero, 1, err));
    return with_ints(x, "Add", stem, v, &one_more, 1, err);
}

/* From the first place on; to a fresh value if `out` is NULL. */
static enum ft_status running_sum(struct ft_export *x, const char *stem, const char **v, bool exclusive,
                                  const char *out, struct ft_err *err)
{
    const int64_t axis = 1;
    const struct ft_export_attr attr = {.name = "exclusive", .kind = FT_ATTR_INT, .i = exclusive};
    const struct ft_type scalar = ft_type_of(FT_I64, 0, NULL);
    struct ft_export_node n = {
        .op = "CumSum", .in = {*v}, .n_in = 2, .out = out, .attrs = &attr, .n_attrs = 1};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &n.in[1], err));
    FT_RETURN_IF_FAILED(ft_export_constant(x, n.in[1], &scalar, &axis, err));
    if (out == NULL) {
        FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &n.out, err));
    }
    *v = n.out;
    return ft_export_put(x, &n, err);
}

enum ft_status ft_export_positions(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    const char *out = x->names[node->out[0]];
    const char *v = x->names[node->in[node->n_in == 3 ? 2 : 0]];
    (void)onnx;
    FT_RETURN_IF_FAILED(padded(x, node, 0, err));
    if (node->n_in == 2) {
        FT_RETURN_IF_FAILED(ones(x, out, &v, err));
    }
    return running_sum(x, out, &v, node->n_in == 2, out, err);
}

/* 0 .. S - 1 (S) of a value (N, S, C). */
static enum ft_status places(struct ft_export *x, const char *stem, const char *like, const char **out,
                             struct ft_err *err)
{
    const int64_t axis = 1;
    const int64_t bounds[2] = {0, 1};
    const struct ft_type scalar = {.dtype = FT_I64};
    const char *c[3] = {NULL, NULL, NULL};
    const char *v = like;
    for (int i = 0; i < 2; i++) {
        FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &c[i], err));
        FT_RETURN_IF_FAILED(ft_export_constant(x, c[i], &scalar, &bounds[i], err));
    }
    FT_RETURN_IF_FAILED(one(x, "Shape", stem, &v, err));
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &c[2], err));
    FT_RETURN_IF_FAILED(ft_export_constant(x, c[2], &scalar, &axis, err));
    FT_RETURN_IF_FAILED(two(x, "Gather", stem, &v, c[2], err));
    struct ft_export_node n = {.op = "Range", .in = {c[0], v, c[1]}, .n_in = 3};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, out, err));
    n.out = *out;
    return ft_export_put(x, &n, err);
}

/* j - i of query i and key j, (S, S). */
static enum ft_status distances(struct ft_export *x, const char *stem, const char *like, const char **out,
                                struct ft_err *err)
{
    const int64_t last = 1;
    const char *at = NULL;
    FT_RETURN_IF_FAILED(places(x, stem, like, &at, err));
    const char *column = at;
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", stem, &column, &last, 1, err));
    *out = at;
    return two(x, "Sub", stem, out, column, err);
}

/* ---- attention */

/* (N, S, C) -> (N, heads, S, D), or (N, heads, D, S) */
static enum ft_status split(struct ft_export *x, const struct ft_node *node, const char **v, bool keys,
                            struct ft_err *err)
{
    static const int64_t rows[4] = {0, 2, 1, 3};
    static const int64_t columns[4] = {0, 2, 3, 1};
    const char *stem = x->names[node->out[0]];
    const int64_t heads = node->attrs.group;
    const int64_t shape[4] = {0, 0, heads, type_of(x, node->in[0])->dim[2].coef / heads};
    FT_RETURN_IF_FAILED(with_ints(x, "Reshape", stem, v, shape, 4, err));
    return turn(x, stem, v, keys ? columns : rows, 4, err);
}

/* 0 at tokens, the lowest number at padding: (N, 1, 1, S) */
static enum ft_status key_mask(struct ft_export *x, const struct ft_node *node, const char **v,
                               struct ft_err *err)
{
    static const int64_t axes[2] = {1, 2};
    const char *stem = x->names[node->out[0]];
    const char *mask = x->names[node->in[3]];
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", stem, &mask, axes, 2, err));
    FT_RETURN_IF_FAILED(cast(x, stem, &mask, FT_ONNX_FLOAT, err));
    FT_RETURN_IF_FAILED(ft_export_float(x, stem, 1.0F, v, err));
    FT_RETURN_IF_FAILED(two(x, "Sub", stem, v, mask, err));
    return with_float(x, "Mul", stem, v, -FLT_MAX, err);
}

/* Scores plus the number of their distance, looked up as T5 does: a row of numbers (heads) for each. */
static enum ft_status add_bias(struct ft_export *x, const struct ft_node *node, const char **scores,
                               struct ft_err *err)
{
    static const int64_t heads_last[2] = {1, 0};
    static const int64_t heads_first[3] = {2, 0, 1};
    const char *stem = x->names[node->out[0]];
    const int64_t reach = (type_of(x, node->in[4])->dim[1].coef - 1) / 2;
    const int64_t far = -reach;
    const int64_t front = 0;
    const struct ft_export_attr axis = {.name = "axis", .kind = FT_ATTR_INT, .i = 0};
    const char *d = NULL;
    FT_RETURN_IF_FAILED(distances(x, stem, x->names[node->in[0]], &d, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Min", stem, &d, &reach, 1, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Max", stem, &d, &far, 1, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Add", stem, &d, &reach, 1, err));
    const char *bias = x->names[node->in[4]];
    FT_RETURN_IF_FAILED(turn(x, stem, &bias, heads_last, 2, err));
    FT_RETURN_IF_FAILED(with_attr(x, "Gather", stem, &bias, d, &axis, err));
    FT_RETURN_IF_FAILED(turn(x, stem, &bias, heads_first, 3, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", stem, &bias, &front, 1, err));
    return two(x, "Add", stem, scores, bias, err);
}

/* The mask, and the lowest number where |j - i| > W: (N, 1, S, S) */
static enum ft_status narrow_mask(struct ft_export *x, const struct ft_node *node, const char **mask,
                                  struct ft_err *err)
{
    const char *stem = x->names[node->out[0]];
    const char *d = NULL;
    FT_RETURN_IF_FAILED(distances(x, stem, x->names[node->in[0]], &d, err));
    FT_RETURN_IF_FAILED(one(x, "Abs", stem, &d, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Greater", stem, &d, &node->attrs.count, 1, err));
    FT_RETURN_IF_FAILED(cast(x, stem, &d, FT_ONNX_FLOAT, err));
    FT_RETURN_IF_FAILED(with_float(x, "Mul", stem, &d, -FLT_MAX, err));
    return two(x, "Min", stem, mask, d, err);
}

enum ft_status ft_export_attention(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    static const int64_t rows[4] = {0, 2, 1, 3};
    const char *stem = x->names[node->out[0]];
    const char *scores = x->names[node->in[0]];
    const char *k = x->names[node->in[1]];
    const char *v = x->names[node->in[2]];
    const char *mask = NULL;
    (void)onnx;
    FT_RETURN_IF_FAILED(padded(x, node, 0, err));
    FT_RETURN_IF_FAILED(split(x, node, &scores, false, err));
    FT_RETURN_IF_FAILED(split(x, node, &k, true, err));
    FT_RETURN_IF_FAILED(split(x, node, &v, false, err));
    FT_RETURN_IF_FAILED(two(x, "MatMul", stem, &scores, k, err));
    if (node->attrs.alpha != 1.0F) {
        FT_RETURN_IF_FAILED(with_float(x, "Mul", stem, &scores, node->attrs.alpha, err));
    }
    if (node->n_in == 5) {
        FT_RETURN_IF_FAILED(add_bias(x, node, &scores, err));
    }
    FT_RETURN_IF_FAILED(key_mask(x, node, &mask, err));
    if (node->attrs.count > 0) {
        FT_RETURN_IF_FAILED(narrow_mask(x, node, &mask, err));
    }
    FT_RETURN_IF_FAILED(two(x, "Add", stem, &scores, mask, err));
    FT_RETURN_IF_FAILED(softmax(x, stem, &scores, err));
    FT_RETURN_IF_FAILED(two(x, "MatMul", stem, &scores, v, err));
    FT_RETURN_IF_FAILED(turn(x, stem, &scores, rows, 4, err));
    const int64_t shape[3] = {0, 0, type_of(x, node->in[0])->dim[2].coef};
    struct ft_export_node last = {
        .op = "Reshape", .origin = node->origin, .in = {scores}, .n_in = 2, .out = stem};
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, shape, 3, &last.in[1], err));
    return ft_export_put(x, &last, err);
}

/* ---- rotary places */

/* Numbers from .. to - 1 of the last of four axes. */
static enum ft_status part(struct ft_export *x, const char *stem, const char **v, int64_t from, int64_t to,
                           struct ft_err *err)
{
    const int64_t axis = 3;
    struct ft_export_node n = {.op = "Slice", .in = {*v}, .n_in = 4};
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, &from, 1, &n.in[1], err));
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, &to, 1, &n.in[2], err));
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, &axis, 1, &n.in[3], err));
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &n.out, err));
    *v = n.out;
    return ft_export_put(x, &n, err);
}

static enum ft_status joined(struct ft_export *x, const char *stem, const char **v, const char *b,
                             struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "axis", .kind = FT_ATTR_INT, .i = -1};
    return with_attr(x, "Concat", stem, v, b, &attr, err);
}

/* Angles (S, 1, R): place times base^(-2i/R), twice. */
static enum ft_status angles(struct ft_export *x, const struct ft_node *node, const char **out,
                             struct ft_err *err)
{
    const char *stem = x->names[node->out[0]];
    const int64_t half = node->attrs.count / 2;
    const int64_t last = 1;
    const struct ft_type t = ft_type_of(FT_F32, 1, &half);
    float *frequency = NULL;
    const char *c = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, (size_t)half, sizeof *frequency, &frequency, err));
    for (int64_t i = 0; i < half; i++) {
        frequency[i] = (float)pow((double)node->attrs.alpha, (double)(-2 * i) / (double)node->attrs.count);
    }
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, &c, err));
    FT_RETURN_IF_FAILED(ft_export_constant(x, c, &t, frequency, err));
    FT_RETURN_IF_FAILED(places(x, stem, x->names[node->in[0]], out, err));
    FT_RETURN_IF_FAILED(cast(x, stem, out, FT_ONNX_FLOAT, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", stem, out, &last, 1, err));
    FT_RETURN_IF_FAILED(two(x, "Mul", stem, out, c, err));
    FT_RETURN_IF_FAILED(joined(x, stem, out, *out, err));
    return with_ints(x, "Unsqueeze", stem, out, &last, 1, err);
}

/* x cos + (-x2, x1) sin of the rotated numbers (N, S, heads, R) */
static enum ft_status rotate(struct ft_export *x, const struct ft_node *node, const char **v,
                             struct ft_err *err)
{
    const char *stem = x->names[node->out[0]];
    const int64_t half = node->attrs.count / 2;
    const char *front = *v;
    const char *behind = *v;
    const char *cosine = NULL;
    FT_RETURN_IF_FAILED(angles(x, node, &cosine, err));
    const char *sine = cosine;
    FT_RETURN_IF_FAILED(one(x, "Cos", stem, &cosine, err));
    FT_RETURN_IF_FAILED(one(x, "Sin", stem, &sine, err));
    FT_RETURN_IF_FAILED(part(x, stem, &front, 0, half, err));
    FT_RETURN_IF_FAILED(part(x, stem, &behind, half, 2 * half, err));
    FT_RETURN_IF_FAILED(one(x, "Neg", stem, node->attrs.kind == 0 ? &behind : &front, err));
    FT_RETURN_IF_FAILED(joined(x, stem, &behind, front, err));
    FT_RETURN_IF_FAILED(two(x, "Mul", stem, v, cosine, err));
    FT_RETURN_IF_FAILED(two(x, "Mul", stem, &behind, sine, err));
    return two(x, "Add", stem, v, behind, err);
}

enum ft_status ft_export_rope(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    const char *stem = x->names[node->out[0]];
    const int64_t width = type_of(x, node->in[0])->dim[2].coef;
    const int64_t size = width / node->attrs.group;
    const int64_t apart[4] = {0, 0, node->attrs.group, size};
    const int64_t together[3] = {0, 0, width};
    const char *v = x->names[node->in[0]];
    (void)onnx;
    FT_RETURN_IF_FAILED(padded(x, node, 0, err));
    FT_RETURN_IF_FAILED(with_ints(x, "Reshape", stem, &v, apart, 4, err));
    const char *rest = v;
    if (node->attrs.count < size) {
        FT_RETURN_IF_FAILED(part(x, stem, &v, 0, node->attrs.count, err));
        FT_RETURN_IF_FAILED(part(x, stem, &rest, node->attrs.count, size, err));
    }
    FT_RETURN_IF_FAILED(rotate(x, node, &v, err));
    if (node->attrs.count < size) {
        FT_RETURN_IF_FAILED(joined(x, stem, &v, rest, err));
    }
    struct ft_export_node last = {.op = "Reshape", .origin = node->origin, .in = {v}, .n_in = 2, .out = stem};
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, together, 3, &last.in[1], err));
    return ft_export_put(x, &last, err);
}

/* ---- pooling */

/* Sum over the tokens; keepdims 1 keeps an axis of extent 1. */
static enum ft_status sum_tokens(struct ft_export *x, const char *stem, const char **v, int64_t keepdims,
                                 struct ft_err *err)
{
    const int64_t axis = 1;
    const struct ft_export_attr attr = {.name = "keepdims", .kind = FT_ATTR_INT, .i = keepdims};
    const char *c = NULL;
    FT_RETURN_IF_FAILED(ft_export_ints(x, stem, &axis, 1, &c, err));
    return with_attr(x, "ReduceSum", stem, v, c, &attr, err);
}

/* What each token counts, (N, S) float: the mask, by place, or of the last token alone. */
static enum ft_status weights(struct ft_export *x, const struct ft_node *node, const char **w,
                              struct ft_err *err)
{
    const char *stem = x->names[node->out[0]];
    const char *mask = x->names[node->in[1]];
    *w = mask;
    if (node->attrs.kind == FT_SEQ_WEIGHTED_MEAN) {
        FT_RETURN_IF_FAILED(ones(x, stem, w, err));
        FT_RETURN_IF_FAILED(running_sum(x, stem, w, false, NULL, err));
        FT_RETURN_IF_FAILED(two(x, "Mul", stem, w, mask, err));
    } else if (node->attrs.kind == FT_SEQ_LAST) {
        const char *count = mask;
        FT_RETURN_IF_FAILED(sum_tokens(x, stem, &count, 1, err));
        FT_RETURN_IF_FAILED(running_sum(x, stem, w, false, NULL, err));
        FT_RETURN_IF_FAILED(two(x, "Equal", stem, w, count, err));
        FT_RETURN_IF_FAILED(cast(x, stem, w, FT_ONNX_INT64, err));
        FT_RETURN_IF_FAILED(two(x, "Mul", stem, w, mask, err));
    }
    return cast(x, stem, w, FT_ONNX_FLOAT, err);
}

static enum ft_status write_weighted(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *out = x->names[node->out[0]];
    const char *v = x->names[node->in[0]];
    const int64_t last = -1;
    const char *w = NULL;
    FT_RETURN_IF_FAILED(weights(x, node, &w, err));
    const char *column = w;
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", out, &column, &last, 1, err));
    FT_RETURN_IF_FAILED(two(x, "Mul", out, &v, column, err));
    FT_RETURN_IF_FAILED(sum_tokens(x, out, &v, 0, err));
    if (node->attrs.kind == FT_SEQ_LAST) {
        w = NULL;
        FT_RETURN_IF_FAILED(ft_export_float(x, out, 1.0F, &w, err));
    } else {
        FT_RETURN_IF_FAILED(sum_tokens(x, out, &w, 1, err));
        FT_RETURN_IF_FAILED(with_float(x, "Max", out, &w, 1e-9F, err));
    }
    if (node->attrs.kind == FT_SEQ_MEAN_SQRT_LEN) {
        FT_RETURN_IF_FAILED(one(x, "Sqrt", out, &w, err));
    }
    struct ft_export_node div = {.op = "Div", .origin = node->origin, .in = {v, w}, .n_in = 2, .out = out};
    return ft_export_put(x, &div, err);
}

static enum ft_status write_max(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *out = x->names[node->out[0]];
    const int64_t one_axis = 1;
    const int64_t last = -1;
    const char *mask = x->names[node->in[1]];
    const struct ft_export_attr attrs[2] = {
        {.name = "axes", .kind = FT_ATTR_INTS, .ints = &one_axis, .count = 1},
        {.name = "keepdims", .kind = FT_ATTR_INT, .i = 0}};
    struct ft_export_node where = {.op = "Where", .n_in = 3};
    FT_RETURN_IF_FAILED(with_ints(x, "Unsqueeze", out, &mask, &last, 1, err));
    FT_RETURN_IF_FAILED(cast(x, out, &mask, FT_ONNX_BOOL, err));
    where.in[0] = mask;
    where.in[1] = x->names[node->in[0]];
    FT_RETURN_IF_FAILED(ft_export_float(x, out, -FLT_MAX, &where.in[2], err));
    FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &where.out, err));
    FT_RETURN_IF_FAILED(ft_export_put(x, &where, err));
    struct ft_export_node most = {.op = "ReduceMax",
                                  .origin = node->origin,
                                  .in = {where.out},
                                  .n_in = 1,
                                  .out = out,
                                  .attrs = attrs,
                                  .n_attrs = 2};
    return ft_export_put(x, &most, err);
}

/* The first place: padding stands behind the tokens. */
static enum ft_status write_first(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const int64_t zero = 0;
    const struct ft_type scalar = {.dtype = FT_I64};
    const struct ft_export_attr attr = {.name = "axis", .kind = FT_ATTR_INT, .i = 1};
    const char *out = x->names[node->out[0]];
    struct ft_export_node n = {.op = "Gather",
                               .origin = node->origin,
                               .in = {x->names[node->in[0]]},
                               .n_in = 2,
                               .out = out,
                               .attrs = &attr,
                               .n_attrs = 1};
    FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &n.in[1], err));
    FT_RETURN_IF_FAILED(ft_export_constant(x, n.in[1], &scalar, &zero, err));
    return ft_export_put(x, &n, err);
}

enum ft_status ft_export_seq_pool(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                  struct ft_err *err)
{
    (void)onnx;
    FT_RETURN_IF_FAILED(padded(x, node, 0, err));
    switch (node->attrs.kind) {
    case FT_SEQ_MAX:
        return write_max(x, node, err);
    case FT_SEQ_FIRST:
        return write_first(x, node, err);
    default:
        return write_weighted(x, node, err);
    }
}
