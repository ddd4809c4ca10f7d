#include "executor/model/export.h"

/* How MAP is written: as the op of opset 17 where there is one, else spelled out as exporters did before
 * there was (and as rewrite.c reads it). */

static const struct {
    const char *op;    /* NULL: spelled out */
    const char *a, *b; /* attributes that hold the parameters; NULL: none */
} forms[FT_MAP_COUNT] = {
    [FT_MAP_ABS] = {"Abs", NULL, NULL},
    [FT_MAP_SIGN] = {"Sign", NULL, NULL},
    [FT_MAP_FLOOR] = {"Floor", NULL, NULL},
    [FT_MAP_CEIL] = {"Ceil", NULL, NULL},
    [FT_MAP_ROUND] = {"Round", NULL, NULL},
    [FT_MAP_RECIPROCAL] = {"Reciprocal", NULL, NULL},
    [FT_MAP_SIN] = {"Sin", NULL, NULL},
    [FT_MAP_COS] = {"Cos", NULL, NULL},
    [FT_MAP_TAN] = {"Tan", NULL, NULL},
    [FT_MAP_ASIN] = {"Asin", NULL, NULL},
    [FT_MAP_ACOS] = {"Acos", NULL, NULL},
    [FT_MAP_ATAN] = {"Atan", NULL, NULL},
    [FT_MAP_SINH] = {"Sinh", NULL, NULL},
    [FT_MAP_COSH] = {"Cosh", NULL, NULL},
    [FT_MAP_ASINH] = {"Asinh", NULL, NULL},
    [FT_MAP_ACOSH] = {"Acosh", NULL, NULL},
    [FT_MAP_ATANH] = {"Atanh", NULL, NULL},
    [FT_MAP_ERF] = {"Erf", NULL, NULL},
    [FT_MAP_ELU] = {"Elu", "alpha", NULL},
    [FT_MAP_CELU] = {"Celu", "alpha", NULL},
    [FT_MAP_SOFTPLUS] = {"Softplus", NULL, NULL},
    [FT_MAP_SOFTSIGN] = {"Softsign", NULL, NULL},
    [FT_MAP_HARD_SIGMOID] = {"HardSigmoid", "alpha", "beta"},
    [FT_MAP_HARD_SWISH] = {"HardSwish", NULL, NULL},
    [FT_MAP_THRESHOLDED_RELU] = {"ThresholdedRelu", "alpha", NULL},
    [FT_MAP_SHRINK] = {"Shrink", "lambd", "bias"},
};

/* op(v, number) -> a fresh value. */
static enum ft_status with_number(struct ft_export *x, const char *op, const char *v, float number,
                                  const char **out, struct ft_err *err)
{
    const char *c = NULL;
    const char *stem = v;
    FT_RETURN_IF_FAILED(ft_export_float(x, stem, number, &c, err));
    return ft_export_step(x, op, stem, v, c, out, err);
}

/* The last step: v times x is y. */
static enum ft_status times_x(struct ft_export *x, const struct ft_node *node, const char *v,
                              struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, "Mul");
    n.in[1] = v;
    n.n_in = 2;
    return ft_export_put(x, &n, err);
}

/* x sigmoid(a x) */
static enum ft_status write_silu(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *v = x->names[node->in[0]];
    const char *out = x->names[node->out[0]];
    if (node->attrs.alpha != 1.0F) {
        FT_RETURN_IF_FAILED(with_number(x, "Mul", v, node->attrs.alpha, &v, err));
    }
    FT_RETURN_IF_FAILED(ft_export_step(x, "Sigmoid", out, v, NULL, &v, err));
    return times_x(x, node, v, err);
}

/* x tanh(softplus(x)) */
static enum ft_status write_mish(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *v = x->names[node->in[0]];
    const char *out = x->names[node->out[0]];
    FT_RETURN_IF_FAILED(ft_export_step(x, "Softplus", out, v, NULL, &v, err));
    FT_RETURN_IF_FAILED(ft_export_step(x, "Tanh", out, v, NULL, &v, err));
    return times_x(x, node, v, err);
}

/* x (0.5 (1 + erf(x / sqrt 2))) */
static enum ft_status write_gelu(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *v = x->names[node->in[0]];
    const char *out = x->names[node->out[0]];
    FT_RETURN_IF_FAILED(with_number(x, "Div", v, 1.41421356237F, &v, err));
    FT_RETURN_IF_FAILED(ft_export_step(x, "Erf", out, v, NULL, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Add", v, 1.0F, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Mul", v, 0.5F, &v, err));
    return times_x(x, node, v, err);
}

/* x (0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))) */
static enum ft_status write_gelu_tanh(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const char *in = x->names[node->in[0]];
    const char *out = x->names[node->out[0]];
    const char *v = NULL;
    FT_RETURN_IF_FAILED(with_number(x, "Pow", in, 3.0F, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Mul", v, 0.044715F, &v, err));
    FT_RETURN_IF_FAILED(ft_export_step(x, "Add", out, in, v, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Mul", v, 0.79788456080F, &v, err));
    FT_RETURN_IF_FAILED(ft_export_step(x, "Tanh", out, v, NULL, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Add", v, 1.0F, &v, err));
    FT_RETURN_IF_FAILED(with_number(x, "Mul", v, 0.5F, &v, err));
    return times_x(x, node, v, err);
}

enum ft_status ft_export_map(struct ft_export *x, const struct ft_node *node, const char *onnx,
                             struct ft_err *err)
{
    (void)onnx;
    enum ft_map map = (enum ft_map)node->attrs.kind;
    if (map == FT_MAP_SILU) {
        return write_silu(x, node, err);
    }
    if (map == FT_MAP_MISH) {
        return write_mish(x, node, err);
    }
    if (map == FT_MAP_GELU) {
        return write_gelu(x, node, err);
    }
    if (map == FT_MAP_GELU_TANH) {
        return write_gelu_tanh(x, node, err);
    }
    bool selu = map == FT_MAP_ELU && node->attrs.beta != 1.0F;
    const char *b = selu ? "gamma" : forms[map].b;
    const struct ft_export_attr attrs[2] = {
        {.name = forms[map].a, .kind = FT_ATTR_FLOAT, .f = node->attrs.alpha},
        {.name = b, .kind = FT_ATTR_FLOAT, .f = node->attrs.beta}};
    struct ft_export_node n = ft_export_like(x, node, selu ? "Selu" : forms[map].op);
    n.attrs = attrs;
    n.n_attrs = (forms[map].a != NULL) + (b != NULL);
    return ft_export_put(x, &n, err);
}

enum ft_status ft_export_layernorm(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                   struct ft_err *err)
{
    const struct ft_export_attr attrs[2] = {{.name = "axis", .kind = FT_ATTR_INT, .i = node->attrs.axis},
                                            {.name = "epsilon", .kind = FT_ATTR_FLOAT, .f = node->attrs.eps}};
    struct ft_export_node n = ft_export_like(x, node, onnx);
    n.attrs = attrs;
    n.n_attrs = 2;
    return ft_export_put(x, &n, err);
}

/* Axes are attributes until opset 17 and inputs since. */
enum ft_status ft_export_fold(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    static const char *const ops[FT_FOLD_COUNT] = {"ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp"};
    int64_t axes[FT_MAX_RANK] = {0};
    const struct ft_export_attr attrs[2] = {
        {.name = "keepdims", .kind = FT_ATTR_INT, .i = node->attrs.keepdims != 0},
        {.name = "axes", .kind = FT_ATTR_INTS, .ints = axes, .count = node->attrs.axes_count}};
    struct ft_export_node n = ft_export_like(x, node, ops[node->attrs.kind]);
    (void)onnx;
    if (node->attrs.axes_count == 0) { /* an empty list would mean all axes */
        n.op = "Identity";
        return ft_export_put(x, &n, err);
    }
    for (int i = 0; i < node->attrs.axes_count; i++) {
        axes[i] = node->attrs.axes[i];
    }
    n.attrs = attrs;
    n.n_attrs = 2;
    return ft_export_put(x, &n, err);
}
