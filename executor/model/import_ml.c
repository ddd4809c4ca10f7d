/* Ops of domain ai.onnx.ml that stand in front of a network: what scikit-learn's exporter writes for its
 * scalers. Those behind it make labels and are taken off (links.c). */
#include <string.h>

#include "executor/model/import.h"

/* Attribute `name`, one number or one a column, as a constant that broadcasts over rows; FT_NO_VALUE without
 * it. */
static enum ft_status column_constant(struct ft_at *at, const char *name, struct ft_dim columns,
                                      ft_value *out, struct ft_err *err)
{
    float *data = NULL;
    int count = -1;
    *out = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_floats(at->node, name, &at->im->arena, &data, &count, err));
    if (count < 0) {
        return FT_OK;
    }
    if (count < 1 || (count > 1 && !ft_dim_equal(columns, ft_dim_of(count)))) {
        return FT_FAIL(err, INVALID, "%s has %d numbers: 1, or one for each column", name, count);
    }
    const int64_t dims[1] = {count};
    struct ft_type type = ft_type_of(FT_F32, 1, dims);
    return ft_at_const(at, &type, data, out, err);
}

/* (x - offset) * scale */
enum ft_status ft_import_scaler(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    const struct ft_type *x = ft_at_type(at, in[0]);
    if (x->rank < 1) {
        return FT_FAIL(err, INVALID, "a scaler wants columns, not a number");
    }
    struct ft_dim columns = x->dim[x->rank - 1];
    FT_RETURN_IF_FAILED(column_constant(at, "offset", columns, &in[1], err));
    if (in[1] != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SUB, NULL, in, 2, &in[0], err));
    }
    FT_RETURN_IF_FAILED(column_constant(at, "scale", columns, &in[1], err));
    if (in[1] != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, in, 2, &in[0], err));
    }
    return ft_at_set(at, 0, in[0], err);
}
