#include <string.h>

#include "executor/model/import.h"

/* The functions of maps.def. Parameters are attributes, with the defaults of the standard. */

static const struct {
    const char *op;
    const char *a, *b; /* names of the attributes that hold the parameters; NULL: fixed */
    float a_default, b_default;
} parameters[] = {
    {"Elu", "alpha", NULL, 1.0F, 1.0F},
    {"Selu", "alpha", "gamma", 1.67326319217681884765625F, 1.05070102214813232421875F},
    {"Celu", "alpha", NULL, 1.0F, 0.0F},
    {"Swish", "alpha", NULL, 1.0F, 0.0F},
    {"HardSigmoid", "alpha", "beta", 0.2F, 0.5F},
    {"ThresholdedRelu", "alpha", NULL, 1.0F, 0.0F},
    {"Shrink", "lambd", "bias", 0.5F, 0.0F},
};

static enum ft_status map_attrs(struct ft_at *at, enum ft_map map, struct ft_attrs *attrs, struct ft_err *err)
{
    struct ft_bytes how = {NULL, 0};
    memset(attrs, 0, sizeof *attrs);
    attrs->kind = (int)map;
    for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++) {
        if (ft_bytes_is(at->node->op, parameters[i].op)) {
            attrs->alpha = parameters[i].a_default;
            attrs->beta = parameters[i].b_default;
            FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, parameters[i].a, &attrs->alpha, err));
            if (parameters[i].b != NULL) {
                FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, parameters[i].b, &attrs->beta, err));
            }
        }
    }
    if (map != FT_MAP_GELU) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, "approximate", &how, err));
    if (ft_bytes_is(how, "tanh")) {
        attrs->kind = FT_MAP_GELU_TANH;
    } else if (how.size > 0 && !ft_bytes_is(how, "none")) {
        return FT_FAIL(err, INVALID, "Gelu's approximation '%.*s' is not in the standard",
                       ft_bytes_shown(how), how.data);
    }
    return FT_OK;
}

static enum ft_status fold(struct ft_at *at, const struct ft_attrs *attrs, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    float *floats = NULL;
    if (ft_host_is_int(x)) {
        return ft_at_unsupported(at, err, "of integers");
    }
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, FT_F32, x->rank, x->dims, &out, &floats, err));
    for (int64_t i = 0; i < x->count; i++) {
        floats[i] = (float)ft_map_value((enum ft_map)attrs->kind, (double)ft_host_float(x, i),
                                        (double)attrs->alpha, (double)attrs->beta);
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_import_map(struct ft_at *at, int map, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    if ((map == FT_MAP_ABS || map == FT_MAP_SIGN) && ft_at_dtype(at, 0) == FT_I64) {
        return ft_import_int_unary(at, err);
    }
    FT_RETURN_IF_FAILED(map_attrs(at, (enum ft_map)map, &attrs, err));
    if (ft_at_all_host(at)) {
        return fold(at, &attrs, err);
    }
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MAP, &attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}
