#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/* Indexing, order along an axis, and what is made of comparisons with positions. */

static struct ft_attrs along(int axis, int kind)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = axis;
    attrs.kind = kind;
    return attrs;
}

static int rank_of(const struct ft_at *at)
{
    struct ft_dim dims[FT_MAX_RANK];
    int rank = 0;
    ft_at_shape(at, dims, &rank);
    return rank;
}

static enum ft_status axis_of(struct ft_at *at, int64_t preset, int rank, int *axis, struct ft_err *err)
{
    int64_t given = preset;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    return ft_at_axis(at, given, rank, axis, err);
}

/* ---- Gather */

/* Rows of an initializer that is looked up: embeddings, tables of positions and of relative biases. They are
 * trained. */
static bool is_table(const struct ft_at *at, int axis)
{
    const struct ft_slot *slot = ft_at_slot(at, 0);
    return slot->kind == FT_SLOT_HOST && slot->weight && !ft_host_is_int(slot->host) &&
           slot->host->rank == 2 && axis == 0;
}

static enum ft_status gather_graph(struct ft_at *at, int axis, struct ft_err *err)
{
    struct ft_attrs attrs = along(axis, 0);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    if (is_table(at, axis)) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, 0, FT_PARAM_WEIGHT, &in[0], err));
    } else {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &in[0], err));
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 1, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_GATHER, &attrs, in, 2, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* One known index along one axis of a tensor of the graph is a slice, e.g. x[:, 0]. */
static enum ft_status gather_slice(struct ft_at *at, int axis, struct ft_err *err)
{
    struct ft_attrs attrs = along(axis, 0);
    struct ft_dim out[FT_MAX_RANK];
    const struct ft_host *index = ft_at_host(at, 1);
    ft_value x = FT_NO_VALUE;
    int rank = 0;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    if (type.rank - 1 + index->rank > FT_MAX_RANK) {
        return ft_at_unsupported(at, err, "more than 8 dimensions");
    }
    attrs.start = index->ints[0].coef + (index->ints[0].coef < 0 ? type.dim[axis].coef : 0);
    attrs.count = 1;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SLICE, &attrs, &x, 1, &x, err));
    for (int i = 0; i < type.rank; i++) {
        if (i != axis) {
            out[rank++] = type.dim[i];
            continue;
        }
        for (int k = 0; k < index->rank; k++) {
            out[rank++] = ft_dim_of(1);
        }
    }
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, out, rank, &x, err));
    return ft_at_set(at, 0, x, err);
}

enum ft_status ft_import_gather(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    const struct ft_host *index = ft_at_host(at, 1);
    int axis = 0;
    FT_RETURN_IF_FAILED(axis_of(at, 0, rank_of(at), &axis, err));
    if (ft_at_all_host(at) && (!is_table(at, axis) || index->rank == 0)) {
        return ft_fold_gather(at, axis, err);
    }
    bool one = index != NULL && ft_host_is_int(index) && index->count == 1 && ft_dim_is_known(index->ints[0]);
    return one && ft_at_host(at, 0) == NULL ? gather_slice(at, axis, err) : gather_graph(at, axis, err);
}

enum ft_status ft_import_gather_elements(struct ft_at *at, int nd, struct ft_err *err)
{
    struct ft_attrs attrs = along(0, 0);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    if (nd) {
        FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "batch_dims", &attrs.count, err));
    } else {
        FT_RETURN_IF_FAILED(axis_of(at, 0, rank_of(at), &attrs.axis, err));
    }
    for (int i = 0; i < 2; i++) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[i], err));
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, nd ? FT_OP_GATHER_ND : FT_OP_GATHER_ELEMENTS, &attrs, in, 2, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_scatter(struct ft_at *at, int nd, struct ft_err *err)
{
    static const char *const names[] = {[FT_SCATTER_SET] = "none",
                                        [FT_SCATTER_ADD] = "add",
                                        [FT_SCATTER_MUL] = "mul",
                                        [FT_SCATTER_MAX] = "max",
                                        [FT_SCATTER_MIN] = "min"};
    struct ft_attrs attrs = along(0, FT_SCATTER_SET);
    struct ft_bytes how = ft_bytes_of_text("none");
    ft_value in[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, "reduction", &how, err));
    while (attrs.kind <= FT_SCATTER_MIN && !ft_bytes_is(how, names[attrs.kind])) {
        attrs.kind++;
    }
    if (attrs.kind > FT_SCATTER_MIN) {
        return FT_FAIL(err, INVALID, "the reduction '%.*s' is not in the standard", ft_bytes_shown(how),
                       how.data);
    }
    if (!nd) {
        FT_RETURN_IF_FAILED(axis_of(at, 0, rank_of(at), &attrs.axis, err));
    }
    for (int i = 0; i < 3; i++) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[i], err));
    }
    FT_RETURN_IF_FAILED(
        ft_at_add(at, nd ? FT_OP_SCATTER_ND : FT_OP_SCATTER_ELEMENTS, &attrs, in, 3, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- along one axis */

enum ft_status ft_import_arg_extreme(struct ft_at *at, int smallest, struct ft_err *err)
{
    struct ft_attrs attrs = along(0, smallest);
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    int64_t keepdims = 1;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "keepdims", &keepdims, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "select_last_index", &attrs.count, err));
    FT_RETURN_IF_FAILED(axis_of(at, 0, rank_of(at), &attrs.axis, err));
    attrs.keepdims = keepdims != 0;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_ARG_EXTREME, &attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* Output `which` of the node that made y. */
static ft_value sibling(const struct ft_at *at, ft_value y, int which)
{
    const struct ft_graph *g = at->im->graph;
    return ft_graph_node(g, ft_graph_producer(g, y))->out[which];
}

/* `sorted = 0` allows any order, ours too. */
enum ft_status ft_import_topk(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs = along(0, 0);
    int64_t largest = 1;
    int64_t *list = NULL;
    int count = 0;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "largest", &largest, err));
    FT_RETURN_IF_FAILED(axis_of(at, -1, rank_of(at), &attrs.axis, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "k", &attrs.count, err)); /* before opset 10 */
    if (ft_at_has(at, 1)) {
        FT_RETURN_IF_FAILED(ft_at_ints(at, 1, &list, &count, err));
        attrs.count = count == 1 ? list[0] : 0;
    }
    if (attrs.count == 0) {
        return ft_at_unsupported(at, err, "no elements: an empty tensor");
    }
    attrs.kind = largest == 0;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TOPK, &attrs, &x, 1, &y, err));
    FT_RETURN_IF_FAILED(ft_at_set(at, 0, y, err));
    return ft_at_set(at, 1, sibling(at, y, 1), err);
}

enum ft_status ft_import_cumsum(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs = along(0, 0);
    int64_t exclusive = 0;
    int64_t reverse = 0;
    int64_t *list = NULL;
    int count = 0;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "exclusive", &exclusive, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "reverse", &reverse, err));
    FT_RETURN_IF_FAILED(ft_at_ints(at, 1, &list, &count, err));
    if (count != 1) {
        return FT_FAIL(err, INVALID, "%d axes are given", count);
    }
    FT_RETURN_IF_FAILED(ft_at_axis(at, list[0], rank_of(at), &attrs.axis, err));
    attrs.kind = (exclusive != 0 ? FT_CUMSUM_EXCLUSIVE : 0) | (reverse != 0 ? FT_CUMSUM_REVERSE : 0);
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CUMSUM, &attrs, &x, 1, &y, err));
    FT_RETURN_IF_FAILED(ft_at_wrapped(at, y, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_max_indices(struct ft_at *at, ft_value x, ft_value y, struct ft_err *err)
{
    struct ft_attrs attrs = along(0, 0);
    int64_t columns = 0;
    const ft_value in[2] = {sibling(at, y, 1), x};
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "storage_order", &columns, err));
    int rank = ft_at_type(at, x)->rank;
    if (columns != 0 && rank > 4) {
        return ft_at_unsupported(at, err, "column-major indices over three axes");
    }
    attrs.kind = columns != 0 && rank == 4;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MAXPOOL_INDICES, &attrs, in, 2, &y, err));
    return ft_at_set(at, 1, y, err);
}

/* ---- positions along an axis, compared with indices */

/* 0, 1, ... as (extent, 1, ..., 1) with `after` ones. */
static enum ft_status positions(struct ft_at *at, int64_t extent, int after, ft_value *out,
                                struct ft_err *err)
{
    int64_t dims[FT_MAX_RANK];
    int64_t *values = NULL;
    if (extent < 1 || extent > FT_HOST_INTS_MAX) {
        return ft_at_unsupported(at, err, "a depth that is not within 1 and 4 million");
    }
    for (int i = 0; i <= after; i++) {
        dims[i] = i == 0 ? extent : 1;
    }
    struct ft_type type = ft_type_of(FT_I64, after + 1, dims);
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)extent, sizeof *values, &values, err));
    for (int64_t i = 0; i < extent; i++) {
        values[i] = i;
    }
    return ft_graph_const(at->im->graph, "", &type, values, out, err);
}

static enum ft_status equal(struct ft_at *at, ft_value a, ft_value b, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs = along(0, FT_EQUAL);
    const ft_value in[2] = {a, b};
    return ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, out, err);
}

static enum ft_status depth_of(struct ft_at *at, int64_t *depth, struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, 1);
    if (h == NULL || h->count != 1 || (ft_host_is_int(h) && !ft_dim_is_known(h->ints[0]))) {
        return ft_at_unsupported(at, err, "its depth depends on data");
    }
    if (ft_host_is_int(h)) {
        *depth = h->ints[0].coef;
        return FT_OK;
    }
    double x = (double)ft_host_float(h, 0);
    if (!(fabs(x) <= (double)FT_HOST_INTS_MAX)) {
        return FT_FAIL(err, LIMIT, "a depth of %g", x);
    }
    *depth = (int64_t)x;
    return FT_OK;
}

/* Indices (..., 1, ...) with the axis of the depth put in; floats are truncated. */
static enum ft_status one_hot_indices(struct ft_at *at, int axis, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs = along(0, FT_CAST_I64);
    struct ft_dim dims[FT_MAX_RANK];
    ft_value x = FT_NO_VALUE;
    int n = 0;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    if (type.dtype != FT_I64) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CAST, &attrs, &x, 1, &x, err));
    }
    for (int i = 0; i <= type.rank; i++) {
        dims[i] = i == axis ? ft_dim_of(1) : type.dim[n++];
    }
    return ft_at_reshape(at, x, dims, type.rank + 1, out, err);
}

/* The off and the on value, each as a vector of one. */
static enum ft_status one_hot_values(struct ft_at *at, ft_value *off, ft_value *on, struct ft_err *err)
{
    ft_value values = FT_NO_VALUE;
    struct ft_attrs attrs = along(0, 0);
    attrs.count = 1;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 2, &values, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SLICE, &attrs, &values, 1, off, err));
    attrs.start = 1;
    return ft_at_add(at, FT_OP_SLICE, &attrs, &values, 1, on, err);
}

/* on where the position is the index, or the index and the depth; off elsewhere, also for what is out of
 * range. */
enum ft_status ft_import_one_hot(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs shift = along(0, 0);
    struct ft_type scalar = ft_type_of(FT_I64, 0, NULL);
    ft_value index = FT_NO_VALUE;
    ft_value place = FT_NO_VALUE;
    ft_value depth = FT_NO_VALUE;
    ft_value here[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value choice[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    int64_t extent = 0;
    int axis = 0;
    int rank = rank_of(at);
    if (rank == FT_MAX_RANK) {
        return ft_at_unsupported(at, err, "more than 8 dimensions");
    }
    FT_RETURN_IF_FAILED(axis_of(at, -1, rank + 1, &axis, err));
    FT_RETURN_IF_FAILED(depth_of(at, &extent, err));
    FT_RETURN_IF_FAILED(one_hot_indices(at, axis, &index, err));
    FT_RETURN_IF_FAILED(positions(at, extent, rank - axis, &place, err));
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &scalar, &extent, &depth, err));
    FT_RETURN_IF_FAILED(equal(at, index, place, &here[0], err));
    const ft_value both[2] = {index, depth};
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_ADD, NULL, both, 2, &index, err));
    FT_RETURN_IF_FAILED(equal(at, index, place, &here[1], err));
    shift.kind = FT_LOGIC_OR;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_LOGIC, &shift, here, 2, &choice[0], err));
    FT_RETURN_IF_FAILED(one_hot_values(at, &choice[2], &choice[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_WHERE, NULL, choice, 3, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* 1 at the first largest element along the axis, before opset 13 of all axes from that one on. */
enum ft_status ft_import_hardmax(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs = along(0, 0);
    struct ft_dim coerced[2] = {ft_dim_of(1), ft_dim_of(1)};
    ft_value x = FT_NO_VALUE;
    ft_value best = FT_NO_VALUE;
    ft_value place = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(axis_of(at, at->opset < 13 ? 1 : -1, rank_of(at), &attrs.axis, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    for (int i = 0; i < type.rank && at->opset < 13; i++) {
        if (!ft_dim_mul(coerced[i >= attrs.axis], type.dim[i], &coerced[i >= attrs.axis])) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    if (at->opset < 13) {
        attrs.axis = 1;
        FT_RETURN_IF_FAILED(ft_at_reshape(at, x, coerced, 2, &x, err));
    }
    struct ft_dim extent = ft_at_type(at, x)->dim[attrs.axis];
    if (!ft_dim_is_known(extent)) {
        return ft_at_unsupported(at, err, "along the batch");
    }
    attrs.keepdims = 1;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_ARG_EXTREME, &attrs, &x, 1, &best, err));
    FT_RETURN_IF_FAILED(positions(at, extent.coef, ft_at_type(at, x)->rank - 1 - attrs.axis, &place, err));
    FT_RETURN_IF_FAILED(equal(at, best, place, &y, err));
    attrs = along(0, FT_CAST_FLOAT);
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CAST, &attrs, &y, 1, &y, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, y, type.dim, type.rank, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* Ones on a diagonal, in the shape of the input. */
enum ft_status ft_import_eye_like(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    int64_t extents[2];
    int64_t diagonal = 0;
    enum ft_cast cast = ft_at_dtype(at, 0) == FT_F32    ? FT_CAST_FLOAT
                        : ft_at_dtype(at, 0) == FT_BOOL ? FT_CAST_BOOL
                                                        : FT_CAST_I64;
    struct ft_host *h = NULL;
    float *floats = NULL;
    int rank = 0;
    ft_at_shape(at, dims, &rank);
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "k", &diagonal, err));
    FT_RETURN_IF_FAILED(ft_at_cast_to(at, "dtype", &cast, err));
    if (rank != 2 || !ft_dim_is_known(dims[0]) || !ft_dim_is_known(dims[1])) {
        return ft_at_unsupported(at, err, "of what is no matrix of known extents");
    }
    extents[0] = dims[0].coef;
    extents[1] = dims[1].coef;
    enum ft_dtype dtype = cast == FT_CAST_FLOAT ? FT_F32 : cast == FT_CAST_BOOL ? FT_BOOL : FT_I64;
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, dtype, 2, extents, &h, &floats, err));
    for (int64_t i = 0; i < h->count; i++) {
        bool on = i % extents[1] - i / extents[1] == diagonal;
        if (dtype == FT_F32) {
            floats[i] = on ? 1.0F : 0.0F;
        } else {
            h->ints[i] = ft_dim_of(on);
        }
    }
    ft_at_set_host(at, 0, h);
    return FT_OK;
}

/* ---- Dropout's mask */

enum ft_status ft_import_dropout_mask(struct ft_at *at, const struct ft_attrs *drop, ft_value rng,
                                      struct ft_err *err)
{
    const float one = 1.0F;
    const uint8_t yes = 1;
    struct ft_type scalar = ft_type_of(rng == FT_NO_VALUE ? FT_BOOL : FT_F32, 0, NULL);
    struct ft_attrs attrs = along(0, FT_GREATER);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    const void *data = rng == FT_NO_VALUE ? (const void *)&yes : (const void *)&one;
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &scalar, data, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_EXPAND_TO, NULL, in, 2, &y, err));
    if (rng != FT_NO_VALUE) { /* the same numbers drop the same ones */
        const float zero = 0.0F;
        in[0] = y;
        in[1] = rng;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_DROPOUT, drop, in, 2, &in[0], err));
        FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &zero, &in[1], err));
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, &y, err));
    }
    return ft_at_set(at, 1, y, err);
}
