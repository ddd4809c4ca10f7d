#include <float.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/import.h"

/* Normalisation other than BatchNormalization: each is LAYERNORM between views where it can be. */

static enum ft_status number_attrs(struct ft_at *at, enum ft_op op, ft_value x, float alpha, float beta,
                                   ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = alpha;
    attrs.beta = beta;
    return ft_at_add(at, op, &attrs, &x, 1, out, err);
}

static enum ft_status two(struct ft_at *at, enum ft_op op, ft_value a, ft_value b, ft_value *out,
                          struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_at_add(at, op, NULL, in, 2, out, err);
}

enum ft_status ft_at_ones(struct ft_at *at, const struct ft_type *x, int axis, ft_value *out,
                          struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    float *ones = NULL;
    for (int i = axis; i < x->rank; i++) {
        type.dim[type.rank++] = x->dim[i];
    }
    size_t count = (size_t)ft_elements(&type);
    FT_TRY(ft_new(count, sizeof *ones, &ones, err));
    for (size_t i = 0; i < count; i++) {
        ones[i] = 1.0F;
    }
    FT_TRY(ft_at_const(at, &type, ones, out, err));
done:
    ft_free(ones);
    return st;
}

/* Sums are in float or wider whatever the file asks for; less precision than that is not imitated. */
static enum ft_status check_stash(struct ft_at *at, struct ft_err *err)
{
    int64_t stash = 1;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "stash_type", &stash, err));
    return stash == 1 || stash == 11 ? FT_OK : ft_at_unsupported(at, err, "a stash_type other than float");
}

/* LAYERNORM of x over the axes from `axis` on with a scale of ones. */
static enum ft_status plain(struct ft_at *at, ft_value x, int axis, float eps, ft_value *out,
                            struct ft_err *err)
{
    struct ft_attrs attrs;
    const struct ft_type *type = ft_at_type(at, x);
    ft_value in[2] = {x, FT_NO_VALUE};
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = axis;
    attrs.eps = eps;
    for (int i = axis; i < type->rank; i++) {
        if (!ft_dim_is_known(type->dim[i])) {
            return ft_at_unsupported(at, err, "a normalised axis that depends on the batch");
        }
    }
    FT_RETURN_IF_FAILED(ft_at_ones(at, type, axis, &in[1], err));
    return ft_at_add(at, FT_OP_LAYERNORM, &attrs, in, 2, out, err);
}

/* y * scale + bias, where inputs 1 and 2 hold one number for each index of axis 1. */
static enum ft_status by_channel(struct ft_at *at, ft_value y, ft_value *out, struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, y);
    struct ft_dim view[FT_MAX_RANK];
    ft_value v[2] = {FT_NO_VALUE, FT_NO_VALUE};
    for (int i = 0; i < type.rank; i++) {
        view[i] = ft_dim_of(1);
    }
    view[0] = type.dim[1];
    for (int i = 0; i < 2; i++) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, i + 1, FT_PARAM_WEIGHT, &v[i], err));
        FT_RETURN_IF_FAILED(ft_at_reshape(at, v[i], view, type.rank - 1, &v[i], err));
    }
    FT_RETURN_IF_FAILED(two(at, FT_OP_MUL, y, v[0], &y, err));
    return two(at, FT_OP_ADD, y, v[1], out, err);
}

enum ft_status ft_import_instance_norm(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    float eps = 1e-5F;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "epsilon", &eps, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &y, err));
    if (ft_at_type(at, y)->rank < 3) {
        return FT_FAIL(err, INVALID, "an instance without positions, rank %d", ft_at_type(at, y)->rank);
    }
    FT_RETURN_IF_FAILED(plain(at, y, 2, eps, &y, err));
    FT_RETURN_IF_FAILED(by_channel(at, y, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* Scale and bias: one number a group until opset 20, one a channel since. */
enum ft_status ft_import_group_norm(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    float eps = 1e-5F;
    int64_t groups = 0;
    ft_value y = FT_NO_VALUE;
    struct ft_dim grouped[3];
    FT_RETURN_IF_FAILED(check_stash(at, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "epsilon", &eps, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "num_groups", &groups, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &y, err));
    struct ft_type type = *ft_at_type(at, y);
    if (type.rank < 2 || !ft_dim_is_known(type.dim[1]) || groups < 1 || type.dim[1].coef % groups != 0) {
        return FT_FAIL(err, INVALID, "the channels are not divided by %lld groups", (long long)groups);
    }
    grouped[0] = type.dim[0];
    grouped[1] = ft_dim_of(groups);
    grouped[2] = ft_dim_of(type.dim[1].coef / groups);
    for (int i = 2; i < type.rank; i++) {
        if (!ft_dim_mul(grouped[2], type.dim[i], &grouped[2])) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, grouped, 3, &y, err));
    FT_RETURN_IF_FAILED(plain(at, y, 2, eps, &y, err));
    if (at->opset < 21) {
        FT_RETURN_IF_FAILED(by_channel(at, y, &y, err));
    }
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, type.dim, type.rank, &y, err));
    if (at->opset >= 21) {
        FT_RETURN_IF_FAILED(by_channel(at, y, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

static bool covers(const struct ft_type *scale, const struct ft_type *x, int axis)
{
    bool same = scale->rank == x->rank - axis;
    for (int i = 0; same && i < scale->rank; i++) {
        same = ft_dim_equal(scale->dim[i], x->dim[axis + i]);
    }
    return same;
}

enum ft_status ft_import_layer_norm(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    int64_t given = -1;
    ft_value in[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value out[FT_MAX_OUTPUTS];
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = 1e-5F;
    FT_RETURN_IF_FAILED(check_stash(at, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "epsilon", &attrs.eps, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    const struct ft_type type = *ft_at_type(at, in[0]);
    FT_RETURN_IF_FAILED(ft_at_axis(at, given, type.rank, &attrs.axis, err));
    bool direct = true;
    int n_in = ft_at_has(at, 2) && !ft_at_no_bias(at, 2) ? 3 : 2;
    for (int i = 1; i < n_in; i++) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, i, FT_PARAM_WEIGHT, &in[i], err));
        direct = direct && covers(ft_at_type(at, in[i]), &type, attrs.axis);
    }
    if (direct) {
        FT_RETURN_IF_FAILED(ft_at_add_all(at, FT_OP_LAYERNORM, &attrs, in, n_in, out, err));
        for (int i = 1; i < 3; i++) {
            FT_RETURN_IF_FAILED(ft_at_set(at, i, out[i], err));
        }
    } else { /* a scale that is broadcast */
        if (ft_at_wants(at, 1) || ft_at_wants(at, 2)) {
            return ft_at_unsupported(at, err, "the mean is read, and the scale is broadcast");
        }
        FT_RETURN_IF_FAILED(plain(at, in[0], attrs.axis, attrs.eps, &out[0], err));
        FT_RETURN_IF_FAILED(two(at, FT_OP_MUL, out[0], in[1], &out[0], err));
        if (n_in == 3) {
            FT_RETURN_IF_FAILED(two(at, FT_OP_ADD, out[0], in[2], &out[0], err));
        }
    }
    return ft_at_set(at, 0, out[0], err);
}

/* x / (bias + alpha mean of x^2 over `size` channels)^beta: the mean is a pool over the channels of (N, 1, C,
 * S). */
enum ft_status ft_import_lrn(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    float alpha = 1e-4F;
    float beta = 0.75F;
    float bias = 1.0F;
    int64_t size = 0;
    struct ft_attrs pool;
    const struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    ft_value power = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "alpha", &alpha, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "beta", &beta, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "bias", &bias, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "size", &size, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    if (size < 1 || type.rank < 2) {
        return FT_FAIL(err, INVALID, "size %lld over channels of a tensor of rank %d", (long long)size,
                       type.rank);
    }
    struct ft_dim view[4] = {type.dim[0], ft_dim_of(1), type.dim[1], ft_dim_of(1)};
    for (int i = 2; i < type.rank; i++) {
        if (!ft_dim_mul(view[3], type.dim[i], &view[3])) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    memset(&pool, 0, sizeof pool);
    pool.count_include_pad = 1;
    pool.window.rank = 2;
    for (int i = 0; i < 2; i++) {
        pool.window.kernel[i] = i == 0 ? size : 1;
        pool.window.stride[i] = 1;
        pool.window.dilation[i] = 1;
    }
    pool.window.pad_begin[0] = (size - 1) / 2;
    pool.window.pad_end[0] = size - 1 - pool.window.pad_begin[0];
    FT_RETURN_IF_FAILED(two(at, FT_OP_MUL, x, x, &y, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, view, 4, &y, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_AVGPOOL, &pool, &y, 1, &y, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, type.dim, type.rank, &y, err));
    FT_RETURN_IF_FAILED(number_attrs(at, FT_OP_SCALE, y, alpha, bias, &y, err));
    FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &beta, &power, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_POW, y, power, &y, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_DIV, x, y, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- x / |x|: a row of zeros stays zeros */

static enum ft_status by_sum(struct ft_at *at, ft_value x, int axis, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value y = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_MAP_ABS;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MAP, &attrs, &x, 1, &y, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.axes_count = 1;
    attrs.axes[0] = axis;
    attrs.keepdims = 1;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_SUM, &attrs, &y, 1, &y, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.lo = FLT_MIN;
    attrs.hi = INFINITY;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CLIP, &attrs, &y, 1, &y, err));
    return two(at, FT_OP_DIV, x, y, out, err);
}

/* L2_NORMALIZE takes the last axis: another one is swapped with it, which is its own inverse. */
static enum ft_status by_length(struct ft_at *at, ft_value x, int axis, ft_value *out, struct ft_err *err)
{
    struct ft_attrs swap;
    struct ft_attrs attrs;
    int last = ft_at_type(at, x)->rank - 1;
    memset(&swap, 0, sizeof swap);
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = FLT_MIN;
    for (int i = 0; i <= last; i++) {
        swap.perm[i] = i == axis ? last : i == last ? axis : i;
    }
    if (axis == last) {
        return ft_at_add(at, FT_OP_L2_NORMALIZE, &attrs, &x, 1, out, err);
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TRANSPOSE, &swap, &x, 1, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_L2_NORMALIZE, &attrs, &x, 1, &x, err));
    return ft_at_add(at, FT_OP_TRANSPOSE, &swap, &x, 1, out, err);
}

enum ft_status ft_import_lp_normalization(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    ft_value x = FT_NO_VALUE;
    int64_t p = 2;
    int64_t given = -1;
    int axis = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "p", &p, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_axis(at, given, ft_at_type(at, x)->rank, &axis, err));
    if (p != 1 && p != 2) {
        return FT_FAIL(err, INVALID, "p is %lld, not 1 or 2", (long long)p);
    }
    FT_RETURN_IF_FAILED(p == 2 ? by_length(at, x, axis, &x, err) : by_sum(at, x, axis, &x, err));
    return ft_at_set(at, 0, x, err);
}

/* ---- BatchNormalization in training mode whose new running statistics are read: those of the batch, with
 * the variance over all its values (not PyTorch's, over one less). */

static enum ft_status batch_moments(struct ft_at *at, ft_value x, ft_value *centred, ft_value *mean,
                                    ft_value *var, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.keepdims = 1;
    for (int i = 0; i < ft_at_type(at, x)->rank; i++) {
        if (i != 1) {
            attrs.axes[attrs.axes_count++] = i;
        }
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_MEAN, &attrs, &x, 1, mean, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_SUB, x, *mean, centred, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_MUL, *centred, *centred, var, err));
    return ft_at_add(at, FT_OP_REDUCE_MEAN, &attrs, var, 1, var, err);
}

enum ft_status ft_import_batch_statistics(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    float eps = 1e-5F;
    float momentum = 0.9F;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    ft_value moments[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value deviation = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "epsilon", &eps, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "momentum", &momentum, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    FT_RETURN_IF_FAILED(batch_moments(at, x, &y, &moments[0], &moments[1], err));
    FT_RETURN_IF_FAILED(number_attrs(at, FT_OP_SCALE, moments[1], 1.0F, eps, &deviation, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SQRT, NULL, &deviation, 1, &deviation, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_DIV, y, deviation, &y, err));
    FT_RETURN_IF_FAILED(by_channel(at, y, &y, err));
    for (int i = 0; i < 2; i++) {
        struct ft_dim channels[1] = {ft_at_type(at, x)->dim[1]};
        ft_value old = FT_NO_VALUE;
        FT_RETURN_IF_FAILED(ft_at_value(at, 3 + i, &old, err));
        FT_RETURN_IF_FAILED(number_attrs(at, FT_OP_SCALE, old, momentum, 0.0F, &old, err));
        FT_RETURN_IF_FAILED(ft_at_reshape(at, moments[i], channels, 1, &moments[i], err));
        FT_RETURN_IF_FAILED(
            number_attrs(at, FT_OP_SCALE, moments[i], 1.0F - momentum, 0.0F, &moments[i], err));
        FT_RETURN_IF_FAILED(two(at, FT_OP_ADD, old, moments[i], &moments[i], err));
        FT_RETURN_IF_FAILED(ft_at_set(at, 1 + i, moments[i], err));
    }
    return ft_at_set(at, 0, y, err);
}
