#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/* Constants, shape arithmetic, and what turns a known tensor into another. */

/* ---- Constant */

static enum ft_status set_scalar(struct ft_at *at, bool is_int, int64_t i, float f, struct ft_err *err)
{
    struct ft_host *h = NULL;
    float *floats = NULL;
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, is_int ? FT_I64 : FT_F32, 0, NULL, &h, &floats, err));
    if (is_int) {
        h->ints[0] = ft_dim_of(i);
    } else {
        floats[0] = f;
    }
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

static enum ft_status set_list(struct ft_at *at, const int64_t *ints, const float *values, int count,
                               struct ft_err *err)
{
    struct ft_host *h = NULL;
    float *floats = NULL;
    const int64_t dims[1] = {count};
    FT_RETURN_IF_FAILED(
        ft_host_new(&at->im->arena, ints != NULL ? FT_I64 : FT_F32, 1, dims, &h, &floats, err));
    for (int i = 0; i < count; i++) {
        if (ints != NULL) {
            h->ints[i] = ft_dim_of(ints[i]);
        } else {
            floats[i] = values[i];
        }
    }
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

/* A tensor in an attribute, e.g. Constant's `value`; its data may lie beside the model like an initializer's.
 */
static enum ft_status attr_tensor(struct ft_at *at, const char *name, const struct ft_host **out,
                                  struct ft_err *err)
{
    struct ft_onnx_tensor *tensor = NULL;
    struct ft_bytes message = {0};
    *out = NULL;
    if (ft_onnx_attr(at->node, name) == NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_onnx_attr_tensor(at->node, name, &message, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, 1, sizeof *tensor, &tensor, err));
    FT_RETURN_IF_FAILED(ft_onnx_parse_tensor(message, tensor, err));
    return ft_host_decode(at->im, tensor, out, err);
}

enum ft_status ft_import_constant(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    const struct ft_host *h = NULL;
    int64_t *ints = NULL;
    float *floats = NULL;
    int64_t i = 0;
    float f = 0.0F;
    int count = 0;
    FT_RETURN_IF_FAILED(attr_tensor(at, "value", &h, err));
    if (h != NULL) {
        ft_at_set_host(at, 0, h);
        return FT_OK;
    }
    if (ft_onnx_attr(at->node, "value_int") != NULL) {
        FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "value_int", &i, err));
        return set_scalar(at, true, i, 0.0F, err);
    }
    if (ft_onnx_attr(at->node, "value_float") != NULL) {
        FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "value_float", &f, err));
        return set_scalar(at, false, 0, f, err);
    }
    FT_RETURN_IF_FAILED(ft_onnx_attr_ints(at->node, "value_ints", &at->im->arena, &ints, &count, err));
    if (count >= 0) {
        return set_list(at, ints, NULL, count, err);
    }
    FT_RETURN_IF_FAILED(ft_onnx_attr_floats(at->node, "value_floats", &at->im->arena, &floats, &count, err));
    if (count >= 0) {
        return set_list(at, NULL, floats, count, err);
    }
    return ft_at_unsupported(at, err, "texts and sparse tensors");
}

static enum ft_status shape_value(struct ft_at *at, const struct ft_type *type, ft_value *out,
                                  struct ft_err *err);

/* A shape that depends on the batch: the one value, broadcast. */
static enum ft_status constant_along(struct ft_at *at, const struct ft_host *shape,
                                     const struct ft_host *value, struct ft_err *err)
{
    const bool ints = value != NULL && ft_host_is_int(value);
    struct ft_type type = ft_type_of(ints ? value->dtype : FT_F32, 0, NULL);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    const float f = value == NULL || ints ? 0.0F : ft_host_float(value, 0);
    const int64_t n = ints ? value->ints[0].coef : 0;
    const uint8_t bit = n != 0;
    const void *data = !ints                   ? (const void *)&f
                       : type.dtype == FT_BOOL ? (const void *)&bit
                                               : (const void *)&n;
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &type, data, &in[0], err));
    type.rank = (int)shape->count;
    for (int i = 0; i < type.rank; i++) {
        type.dim[i] = shape->ints[i];
        if (type.dim[i].coef < 1) {
            return ft_at_unsupported(at, err, "an empty tensor");
        }
    }
    FT_RETURN_IF_FAILED(shape_value(at, &type, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_EXPAND_TO, NULL, in, 2, &in[0], err));
    return ft_at_set(at, 0, in[0], err);
}

static bool has_symbols(const struct ft_host *h)
{
    for (int64_t i = 0; h != NULL && ft_host_is_int(h) && i < h->count; i++) {
        if (!ft_dim_is_known(h->ints[i])) {
            return true;
        }
    }
    return false;
}

enum ft_status ft_import_constant_of_shape(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    const struct ft_host *value = NULL;
    const struct ft_host *shape = ft_at_host(at, 0);
    struct ft_host *h = NULL;
    int64_t *dims = NULL;
    int rank = 0;
    FT_RETURN_IF_FAILED(attr_tensor(at, "value", &value, err));
    if (value != NULL && value->count != 1) {
        return FT_FAIL(err, INVALID, "its value has %lld elements", (long long)value->count);
    }
    if (has_symbols(shape) && shape->count <= FT_MAX_RANK) {
        return constant_along(at, shape, value, err);
    }
    FT_RETURN_IF_FAILED(ft_at_ints(at, 0, &dims, &rank, err));
    if (rank > FT_MAX_RANK) {
        return FT_FAIL(err, UNSUPPORTED, "more than %d dimensions", FT_MAX_RANK);
    }
    if (value == NULL || !ft_host_is_int(value)) {
        float x = value == NULL ? 0.0F : ft_host_float(value, 0);
        FT_RETURN_IF_FAILED(ft_host_fill(at->im, x, rank, dims, &h, err));
    } else {
        FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, value->dtype, rank, dims, &h, NULL, err));
        for (int64_t i = 0; i < h->count; i++) {
            h->ints[i] = value->ints[0];
        }
    }
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

/* ---- Shape, Size */

enum ft_status ft_import_shape(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    struct ft_host *h = NULL;
    int rank = 0;
    ft_at_shape(at, dims, &rank);
    int64_t start = 0;
    int64_t end = rank;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "start", &start, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "end", &end, err));
    start += start < 0 ? rank : 0;
    end += end < 0 ? rank : 0;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    const int64_t count[1] = {end - start};
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, FT_I64, 1, count, &h, NULL, err));
    for (int64_t i = 0; i < h->count; i++) {
        h->ints[i] = dims[start + i];
    }
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

enum ft_status ft_import_size(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    struct ft_dim size = ft_dim_of(1);
    struct ft_host *h = NULL;
    int rank = 0;
    ft_at_shape(at, dims, &rank);
    for (int i = 0; i < rank; i++) {
        if (dims[i].coef == 0) {
            size = ft_dim_of(0);
            break;
        }
        if (!ft_dim_mul(size, dims[i], &size)) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, FT_I64, 0, NULL, &h, NULL, err));
    h->ints[0] = size;
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

/* ---- Expand */

/* A value of the graph with this shape, for EXPAND_TO to look at. */
static ft_value value_like(const struct ft_graph *g, const struct ft_type *type)
{
    for (ft_value v = 0; v < ft_graph_values(g); v++) {
        if (ft_type_same_shape(ft_graph_type(g, v), type)) {
            return v;
        }
    }
    return FT_NO_VALUE;
}

/* (symbols, 1): the sum of any value with that axis over its others. */
static enum ft_status vector_along(struct ft_at *at, struct ft_dim symbols, ft_value *out, struct ft_err *err)
{
    for (ft_value v = 0; v < ft_graph_values(at->im->graph); v++) {
        struct ft_type like = *ft_at_type(at, v);
        struct ft_attrs attrs;
        int axis = 0;
        while (axis < like.rank && !ft_dim_equal(like.dim[axis], symbols)) {
            axis++;
        }
        if (axis == like.rank) {
            continue;
        }
        memset(&attrs, 0, sizeof attrs);
        for (int i = 0; i < like.rank; i++) {
            if (i != axis) {
                attrs.axes[attrs.axes_count++] = i;
            }
        }
        if (like.dtype != FT_F32) {
            attrs.kind = FT_CAST_FLOAT;
            FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CAST, &attrs, &v, 1, &v, err));
            attrs.kind = 0;
        }
        if (attrs.axes_count > 0) {
            FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_SUM, &attrs, &v, 1, &v, err));
        }
        return ft_at_reshape(at, v, (const struct ft_dim[]){symbols, ft_dim_of(1)}, 2, out, err);
    }
    return ft_at_unsupported(at, err, "to a shape that no other tensor has");
}

/* Ones (extent, 1, 1, ...) with `after` axes behind; an extent that is the batch comes from an input. */
static enum ft_status ones_along(struct ft_at *at, struct ft_dim extent, int after, ft_value *out,
                                 struct ft_err *err)
{
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    ft_value both[2] = {FT_NO_VALUE, FT_NO_VALUE};
    float *ones = NULL;
    type.rank = after + 1;
    for (int i = 0; i <= after; i++) {
        type.dim[i] = ft_dim_of(i == 0 ? extent.coef : 1);
    }
    if (extent.coef > FT_HOST_INTS_MAX) {
        return FT_FAIL(err, LIMIT, "an extent of %lld", (long long)extent.coef);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)extent.coef, sizeof *ones, &ones, err));
    for (int64_t i = 0; i < extent.coef; i++) {
        ones[i] = 1.0F;
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &type, ones, out, err));
    if (ft_dim_is_known(extent)) {
        return FT_OK;
    }
    struct ft_dim symbols = extent;
    symbols.coef = 1;
    FT_RETURN_IF_FAILED(vector_along(at, symbols, &both[0], err));
    FT_RETURN_IF_FAILED(
        ft_at_reshape(at, *out, (const struct ft_dim[]){ft_dim_of(extent.coef)}, 1, &both[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, both, 2, out, err));
    type.dim[0] = extent;
    return ft_at_reshape(at, *out, type.dim, type.rank, out, err);
}

/* A value of this shape, there already or made of vectors along its axes: only its shape is looked at, so it
 * is never computed. */
static enum ft_status shape_value(struct ft_at *at, const struct ft_type *type, ft_value *out,
                                  struct ft_err *err)
{
    float one = 1.0F;
    *out = value_like(at->im->graph, type);
    if (*out != FT_NO_VALUE) {
        return FT_OK;
    }
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &one, out, err));
    for (int i = type->rank - 1; i >= 0; i--) {
        ft_value both[2] = {FT_NO_VALUE, *out};
        FT_RETURN_IF_FAILED(ones_along(at, type->dim[i], type->rank - 1 - i, &both[0], err));
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, both, 2, out, err));
    }
    return FT_OK;
}

/* Two-sided broadcasting of input 0's shape with the target. */
static enum ft_status expanded_shape(struct ft_at *at, struct ft_dim *out, int *rank, struct ft_err *err)
{
    const struct ft_host *target = ft_at_host(at, 1);
    struct ft_dim x[FT_MAX_RANK];
    int x_rank = 0;
    ft_at_shape(at, x, &x_rank);
    if (target == NULL || !ft_host_is_int(target) || target->rank != 1 || target->count > FT_MAX_RANK) {
        return ft_at_unsupported(at, err, "its target shape depends on data");
    }
    int n = (int)target->count;
    *rank = n > x_rank ? n : x_rank;
    for (int i = 0; i < *rank; i++) { /* counted from the right */
        struct ft_dim a = i < x_rank ? x[x_rank - 1 - i] : ft_dim_of(1);
        struct ft_dim b = i < n ? target->ints[n - 1 - i] : ft_dim_of(1);
        if (!ft_dim_equal(a, b) && !ft_dim_is_one(a) && !ft_dim_is_one(b)) {
            return FT_FAIL(err, INVALID, "axis %d from the right does not broadcast", i);
        }
        out[*rank - 1 - i] = ft_dim_is_one(a) ? b : a;
    }
    return FT_OK;
}

enum ft_status ft_import_expand(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    const struct ft_host *h = ft_at_host(at, 0);
    int64_t dims[FT_MAX_RANK];
    bool known = h != NULL;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(expanded_shape(at, type.dim, &type.rank, err));
    for (int i = 0; i < type.rank; i++) {
        known = known && ft_dim_is_known(type.dim[i]);
        dims[i] = type.dim[i].coef;
    }
    if (known) {
        FT_RETURN_IF_FAILED(ft_fold_expand(at, h, type.rank, dims, &h, err));
        ft_at_set_host(at, 0, h);
        if (h->count == ft_at_host(at, 0)->count) {
            ft_at_keep_weight(at, 0);
        }
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &in[0], err));
    if (ft_type_same_shape(ft_at_type(at, in[0]), &type)) {
        return ft_at_set(at, 0, in[0], err);
    }
    FT_RETURN_IF_FAILED(shape_value(at, &type, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_EXPAND_TO, NULL, in, 2, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- Range */

/* The sums of `step` before each place. */
enum ft_status ft_at_range(struct ft_at *at, struct ft_dim count, int64_t step, ft_value *out,
                           struct ft_err *err)
{
    struct ft_type type = ft_type_of(FT_I64, 0, NULL);
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_CUMSUM_EXCLUSIVE;
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &type, &step, &in[0], err));
    type.rank = 1;
    type.dim[0] = count;
    FT_RETURN_IF_FAILED(shape_value(at, &type, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_EXPAND_TO, NULL, in, 2, &y, err));
    return ft_at_add(at, FT_OP_CUMSUM, &attrs, &y, 1, out, err);
}

/* As a number: so many ones, added up. */
enum ft_status ft_at_extent(struct ft_at *at, struct ft_dim extent, int rank, ft_value *out,
                            struct ft_err *err)
{
    const float one = 1.0F;
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    struct ft_attrs sum;
    struct ft_attrs cast;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    memset(&sum, 0, sizeof sum);
    memset(&cast, 0, sizeof cast);
    sum.axes_count = 1;
    sum.keepdims = rank;
    cast.kind = FT_CAST_I64;
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &type, &one, &in[0], err));
    type.rank = 1;
    type.dim[0] = extent;
    FT_RETURN_IF_FAILED(shape_value(at, &type, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_EXPAND_TO, NULL, in, 2, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_SUM, &sum, in, 1, &in[0], err));
    return ft_at_add(at, FT_OP_CAST, &cast, in, 1, out, err);
}

static enum ft_status range_host(struct ft_at *at, const struct ft_host *const ends[3], struct ft_err *err)
{
    double v[3];
    struct ft_host *out = NULL;
    float *floats = NULL;
    bool ints = ft_host_is_int(ends[0]);
    for (int i = 0; i < 3; i++) {
        v[i] = ints ? (double)ends[i]->ints[0].coef : (double)ft_host_float(ends[i], 0);
        if (ints && fabs(v[i]) > 0x1p53) {
            return FT_FAIL(err, LIMIT, "a range beyond 2^53");
        }
    }
    double steps = ceil((v[1] - v[0]) / v[2]);
    if (!(steps < (double)FT_HOST_INTS_MAX)) {
        return FT_FAIL(err, LIMIT, "a range of more than %d elements", FT_HOST_INTS_MAX);
    }
    const int64_t count[1] = {steps > 0.0 ? (int64_t)steps : 0};
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, ints ? FT_I64 : FT_F32, 1, count, &out, &floats, err));
    for (int64_t i = 0; i < count[0]; i++) {
        double x = v[0] + (double)i * v[2];
        if (ints) {
            out->ints[i] = ft_dim_of((int64_t)x);
        } else {
            floats[i] = (float)x;
        }
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

static bool is_known(const struct ft_host *h)
{
    return !ft_host_is_int(h) || ft_dim_is_known(h->ints[0]);
}

enum ft_status ft_import_range(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    const struct ft_host *ends[3];
    struct ft_dim count;
    for (int i = 0; i < 3; i++) {
        ends[i] = ft_at_host(at, i);
        if (ends[i] == NULL || ends[i]->count != 1) {
            return ft_at_unsupported(at, err, "a range whose ends depend on the input");
        }
        if (ends[i]->dtype != ends[0]->dtype) {
            return FT_FAIL(err, INVALID, "its inputs differ in type");
        }
    }
    if (is_known(ends[0]) && is_known(ends[1]) && is_known(ends[2])) {
        return range_host(at, ends, err);
    }
    if (!is_known(ends[0]) || !is_known(ends[2]) || ends[0]->ints[0].coef != 0 || ends[2]->ints[0].coef < 1 ||
        ends[1]->ints[0].coef < 1 || !ft_dim_div(ends[1]->ints[0], ends[2]->ints[0], &count)) {
        return ft_at_unsupported(at, err, "a range over the batch that does not go from 0 up to all of it");
    }
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_range(at, count, ends[2]->ints[0].coef, &y, err));
    return ft_at_set(at, 0, y, err);
}
