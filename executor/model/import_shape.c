#include <string.h>

#include "executor/model/import.h"

/* Ops that move or reshape elements, on tensors of the graph and on known ones. */

enum ft_status ft_import_identity(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    return ft_at_pass(at, err);
}

/* A known tensor takes the shape `dims`; it stays a weight if it was one. */
static enum ft_status view_host(struct ft_at *at, int rank, const int64_t *dims, struct ft_err *err)
{
    struct ft_host *out = NULL;
    FT_RETURN_IF_FAILED(ft_host_view(&at->im->arena, ft_at_host(at, 0), rank, dims, &out, err));
    ft_at_set_host(at, 0, out);
    ft_at_keep_weight(at, 0);
    return FT_OK;
}

/* Input 0 in another shape with as many elements. */
static enum ft_status set_shape(struct ft_at *at, const struct ft_dim *dims, int rank, struct ft_err *err)
{
    int64_t extents[FT_MAX_RANK];
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    if (rank > FT_MAX_RANK) {
        return FT_FAIL(err, UNSUPPORTED, "more than %d dimensions", FT_MAX_RANK);
    }
    bool known = ft_at_host(at, 0) != NULL && !ft_at_tied(at, 0);
    for (int i = 0; i < rank; i++) {
        known = known && ft_dim_is_known(dims[i]);
        extents[i] = dims[i].coef;
    }
    if (known) {
        return view_host(at, rank, extents, err);
    }
    FT_RETURN_IF_FAILED(ft_at_moved(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, dims, rank, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_flatten(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    struct ft_dim out[2] = {ft_dim_of(1), ft_dim_of(1)};
    int rank = 0;
    int64_t axis = 1;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &axis, err));
    ft_at_shape(at, dims, &rank);
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis > rank) {
        return FT_FAIL(err, INVALID, "axis %lld does not exist in a tensor of rank %d", (long long)axis,
                       rank);
    }
    for (int i = 0; i < rank; i++) {
        if (!ft_dim_mul(out[i >= axis], dims[i], &out[i >= axis])) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    return set_shape(at, out, 2, err);
}

/* ---- Reshape */

/* The one -1 of a target: what is left of x's elements. */
static enum ft_status infer_rest(const struct ft_dim *x, int x_rank, struct ft_dim *out, int rank,
                                 int unknown, struct ft_err *err)
{
    struct ft_dim all = ft_dim_of(1);
    struct ft_dim rest = ft_dim_of(1);
    bool fits = true;
    for (int i = 0; i < x_rank; i++) {
        fits = fits && x[i].coef > 0 && ft_dim_mul(all, x[i], &all);
    }
    for (int i = 0; i < rank; i++) {
        fits = fits && (i == unknown || (out[i].coef > 0 && ft_dim_mul(rest, out[i], &rest)));
    }
    if (!fits || !ft_dim_div(all, rest, &out[unknown])) {
        return FT_FAIL(err, INVALID, "the target does not divide the number of elements");
    }
    return FT_OK;
}

enum ft_status ft_import_reshape(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    const struct ft_host *target = ft_at_host(at, 1);
    struct ft_dim x[FT_MAX_RANK];
    struct ft_dim out[FT_MAX_RANK];
    int x_rank = 0;
    int unknown = -1;
    int64_t allow_zero = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "allowzero", &allow_zero, err));
    ft_at_shape(at, x, &x_rank);
    if (target == NULL || !ft_host_is_int(target)) {
        return ft_at_unsupported(at, err, "its target shape depends on data");
    }
    if (target->rank != 1 || target->count > FT_MAX_RANK) {
        return ft_at_unsupported(at, err, "its target shape is no list of at most 8 extents");
    }
    int rank = (int)target->count;
    for (int i = 0; i < rank; i++) {
        out[i] = target->ints[i];
        bool known = ft_dim_is_known(out[i]);
        if (known && out[i].coef == 0 && !allow_zero && i < x_rank) {
            out[i] = x[i];
        } else if (known && out[i].coef == -1 && unknown < 0) {
            unknown = i;
        } else if (known && out[i].coef == 0 && allow_zero && ft_at_host(at, 0) == NULL) {
            return ft_at_unsupported(at, err, "an empty tensor");
        } else if (out[i].coef < 1 && !(known && out[i].coef == 0 && ft_at_host(at, 0) != NULL)) {
            return FT_FAIL(err, INVALID, "extent %d of its target shape is %lld", i, (long long)out[i].coef);
        } else if (i == 0 && known && out[0].coef == at->im->fixed_batch && x_rank > 0 &&
                   ft_dim_equal(x[0], ft_dim_symbol(FT_SYMBOL_BATCH))) {
            out[0] = x[0]; /* an export without dynamic axes wrote its own batch here */
        }
    }
    if (unknown >= 0) {
        FT_RETURN_IF_FAILED(infer_rest(x, x_rank, out, rank, unknown, err));
    }
    return set_shape(at, out, rank, err);
}

enum ft_status ft_import_squeeze(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim x[FT_MAX_RANK];
    struct ft_dim out[FT_MAX_RANK];
    bool drop[FT_MAX_RANK] = {false};
    int64_t *list = NULL;
    int count = 0;
    int rank = 0;
    int out_rank = 0;
    ft_at_shape(at, x, &rank);
    FT_RETURN_IF_FAILED(ft_at_list(at, "axes", 1, &list, &count, err));
    for (int i = 0; i < count; i++) {
        int axis = 0;
        FT_RETURN_IF_FAILED(ft_at_axis(at, list[i], rank, &axis, err));
        if (!ft_dim_is_one(x[axis])) {
            return FT_FAIL(err, INVALID, "axis %d has not extent 1", axis);
        }
        drop[axis] = true;
    }
    for (int i = 0; i < rank; i++) {
        if (!drop[i] && !(count < 0 && ft_dim_is_one(x[i]))) {
            out[out_rank++] = x[i];
        }
    }
    return set_shape(at, out, out_rank, err);
}

enum ft_status ft_import_unsqueeze(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim x[FT_MAX_RANK];
    struct ft_dim out[FT_MAX_RANK];
    bool added[FT_MAX_RANK] = {false};
    int64_t *list = NULL;
    int count = 0;
    int rank = 0;
    ft_at_shape(at, x, &rank);
    FT_RETURN_IF_FAILED(ft_at_list(at, "axes", 1, &list, &count, err));
    if (count < 0 || rank + count > FT_MAX_RANK) {
        return FT_FAIL(err, INVALID, "%d axes are given for rank %d", count, rank);
    }
    for (int i = 0; i < count; i++) {
        int axis = 0;
        FT_RETURN_IF_FAILED(ft_at_axis(at, list[i], rank + count, &axis, err));
        if (added[axis]) {
            return FT_FAIL(err, INVALID, "axis %d is given twice", axis);
        }
        added[axis] = true;
    }
    for (int i = 0, k = 0; i < rank + count; i++) {
        out[i] = added[i] ? ft_dim_of(1) : x[k++];
    }
    return set_shape(at, out, rank + count, err);
}

/* ---- Transpose, Concat */

enum ft_status ft_import_transpose(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    struct ft_dim dims[FT_MAX_RANK];
    bool used[FT_MAX_RANK] = {false};
    int64_t *list = NULL;
    int count = 0;
    int rank = 0;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    ft_at_shape(at, dims, &rank);
    FT_RETURN_IF_FAILED(ft_onnx_attr_ints(at->node, "perm", &at->im->arena, &list, &count, err));
    if (count >= 0 && count != rank) {
        return FT_FAIL(err, INVALID, "%d axes are given for rank %d", count, rank);
    }
    for (int i = 0; i < rank; i++) {
        attrs.perm[i] = rank - 1 - i;
        if (count >= 0) {
            FT_RETURN_IF_FAILED(ft_at_axis(at, list[i], rank, &attrs.perm[i], err));
        }
        if (used[attrs.perm[i]]) {
            return FT_FAIL(err, INVALID, "axis %d is given twice", attrs.perm[i]);
        }
        used[attrs.perm[i]] = true;
    }
    if (ft_at_host(at, 0) != NULL && !ft_at_tied(at, 0)) {
        return ft_fold_transpose(at, attrs.perm, err);
    }
    FT_RETURN_IF_FAILED(ft_at_moved(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TRANSPOSE, &attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_concat(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    struct ft_dim dims[FT_MAX_RANK];
    ft_value *in = NULL;
    ft_value y = FT_NO_VALUE;
    int rank = 0;
    int n = 0;
    int64_t given = 1;
    memset(&attrs, 0, sizeof attrs);
    for (int i = 0; i < at->node->n_in; i++) {
        if (!ft_at_has(at, i)) {
            return FT_FAIL(err, INVALID, "input %d is missing", i);
        }
    }
    ft_at_shape(at, dims, &rank);
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    FT_RETURN_IF_FAILED(ft_at_axis(at, given, rank, &attrs.axis, err));
    if (ft_at_all_host(at)) {
        return ft_fold_concat(at, attrs.axis, err);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)at->node->n_in, sizeof *in, &in, err));
    for (int i = 0; i < at->node->n_in; i++) {
        const struct ft_host *h = ft_at_host(at, i);
        if (h == NULL || h->rank != rank || h->dims[attrs.axis] != 0) { /* an empty one adds nothing */
            FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[n++], err));
        }
    }
    if (n > ft_op_info(FT_OP_CONCAT)->inputs_max) {
        return ft_at_unsupported(at, err, "too many inputs");
    }
    if (n == 1) {
        return ft_at_set(at, 0, in[0], err);
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CONCAT, &attrs, in, n, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- Slice, Split */

/* first .. last of axis `extent` by NumPy's rules; *count may be 0. */
static void clamp_slice(int64_t extent, int64_t start, int64_t end, int64_t step, int64_t *first,
                        int64_t *count)
{
    int64_t low = step > 0 ? 0 : -1;
    int64_t high = step > 0 ? extent : extent - 1;
    start += start < 0 ? extent : 0;
    end += end < 0 ? (end < -extent ? 0 : extent) : 0;
    start = start < low ? low : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    int64_t span = step > 0 ? end - start : start - end;
    int64_t stride = step > 0 ? step : -step;
    *first = start;
    *count = span <= 0 ? 0 : (span - 1) / stride + 1;
}

struct slices {
    int64_t *start, *end, *axis, *step;
    int count;
};

static enum ft_status read_slices(struct ft_at *at, struct slices *s, struct ft_err *err)
{
    int ends = 0;
    int axes = 0;
    int steps = 0;
    FT_RETURN_IF_FAILED(ft_at_list(at, "starts", 1, &s->start, &s->count, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "ends", 2, &s->end, &ends, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "axes", 3, &s->axis, &axes, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "steps", 4, &s->step, &steps, err));
    if (s->count < 0 || ends != s->count || (axes >= 0 && axes != s->count) ||
        (steps >= 0 && steps != s->count)) {
        return FT_FAIL(err, INVALID, "starts, ends, axes and steps differ in length");
    }
    s->axis = axes < 0 ? NULL : s->axis;
    s->step = steps < 0 ? NULL : s->step;
    for (int i = 0; i < s->count; i++) {
        int64_t step = s->step == NULL ? 1 : s->step[i];
        if (step == 0 || step < -INT32_MAX || step > INT32_MAX) {
            return FT_FAIL(err, INVALID, "step %lld", (long long)step);
        }
    }
    return FT_OK;
}

static enum ft_status slice_host(struct ft_at *at, const struct slices *s, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    for (int i = 0; i < s->count; i++) {
        struct ft_host_slice part = {.step = s->step == NULL ? 1 : s->step[i]};
        FT_RETURN_IF_FAILED(ft_at_axis(at, s->axis == NULL ? i : s->axis[i], x->rank, &part.axis, err));
        clamp_slice(x->dims[part.axis], s->start[i], s->end[i], part.step, &part.start, &part.count);
        FT_RETURN_IF_FAILED(ft_fold_slice(at, x, &part, &x, err));
    }
    ft_at_set_host(at, 0, x);
    return FT_OK;
}

static enum ft_status slice_graph(struct ft_at *at, const struct slices *s, struct ft_err *err)
{
    ft_value x = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    for (int i = 0; i < s->count; i++) {
        struct ft_attrs attrs;
        const struct ft_type *type = ft_at_type(at, x);
        memset(&attrs, 0, sizeof attrs);
        FT_RETURN_IF_FAILED(ft_at_axis(at, s->axis == NULL ? i : s->axis[i], type->rank, &attrs.axis, err));
        struct ft_dim extent = type->dim[attrs.axis];
        if (s->start[i] == 0 && s->end[i] >= INT32_MAX && (s->step == NULL || s->step[i] == 1)) {
            continue; /* all of it, known or not */
        }
        if (!ft_dim_is_known(extent)) {
            return ft_at_unsupported(at, err, "a slice of the batch");
        }
        attrs.step = s->step != NULL && s->step[i] != 1 ? s->step[i] : 0;
        clamp_slice(extent.coef, s->start[i], s->end[i], attrs.step == 0 ? 1 : attrs.step, &attrs.start,
                    &attrs.count);
        if (attrs.start == 0 && attrs.count == extent.coef) {
            continue;
        }
        if (attrs.count == 0) {
            return ft_at_unsupported(at, err, "an empty slice");
        }
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SLICE, &attrs, &x, 1, &x, err));
    }
    return ft_at_set(at, 0, x, err);
}

/* The only number of a known list, else NULL. */
static const struct ft_dim *only_number(const struct ft_at *at, int i)
{
    const struct ft_host *h = ft_at_host(at, i);
    return h != NULL && ft_host_is_int(h) && h->count == 1 ? &h->ints[0] : NULL;
}

/* The first S of known numbers, as of a table of places: looked up. *done = false: it is no such slice. */
static enum ft_status slice_to_length(struct ft_at *at, bool *done, struct ft_err *err)
{
    const struct ft_dim one = ft_dim_of(1);
    const struct ft_dim *start = only_number(at, 1);
    const struct ft_dim *end = only_number(at, 2);
    const struct ft_dim *axis = ft_at_has(at, 3) ? only_number(at, 3) : NULL;
    const struct ft_dim *step = ft_at_has(at, 4) ? only_number(at, 4) : &one;
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    *done = start != NULL && end != NULL && axis != NULL && step != NULL && !ft_dim_is_known(*end) &&
            end->coef == 1 && ft_dim_is_known(*start) && start->coef == 0 && step->coef == 1;
    if (!*done) {
        return FT_OK;
    }
    memset(&attrs, 0, sizeof attrs);
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_axis(at, axis->coef, ft_at_type(at, in[0])->rank, &attrs.axis, err));
    if (ft_dim_equal(ft_at_type(at, in[0])->dim[attrs.axis], *end)) { /* all of it */
        return ft_at_set(at, 0, in[0], err);
    }
    FT_RETURN_IF_FAILED(ft_at_range(at, *end, 1, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_GATHER, &attrs, in, 2, &in[0], err));
    return ft_at_set(at, 0, in[0], err);
}

enum ft_status ft_import_slice(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct slices s;
    bool done = false;
    FT_RETURN_IF_FAILED(slice_to_length(at, &done, err));
    if (done) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(read_slices(at, &s, err));
    return ft_at_host(at, 0) != NULL ? slice_host(at, &s, err) : slice_graph(at, &s, err);
}

/* Output i is x without extent along `axis`: no value of the graph, but known. Concat leaves it out. */
static enum ft_status set_empty(struct ft_at *at, int i, const struct ft_type *x, int axis,
                                struct ft_err *err)
{
    int64_t dims[FT_MAX_RANK];
    struct ft_host *h = NULL;
    float *floats = NULL;
    for (int k = 0; k < x->rank; k++) {
        if (k != axis && !ft_dim_is_known(x->dim[k])) {
            return ft_at_unsupported(at, err, "an empty part of a batch");
        }
        dims[k] = k == axis ? 0 : x->dim[k].coef;
    }
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, FT_F32, x->rank, dims, &h, &floats, err));
    ft_at_set_host(at, i, h);
    return FT_OK;
}

static enum ft_status split_part(struct ft_at *at, int i, int axis, int64_t start, int64_t count,
                                 struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    const struct ft_host *h = ft_at_host(at, 0);
    if (h != NULL) {
        const struct ft_host_slice part = {axis, start, count, 1};
        FT_RETURN_IF_FAILED(ft_fold_slice(at, h, &part, &h, err));
        ft_at_set_host(at, i, h);
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    if (count == 0) {
        return set_empty(at, i, ft_at_type(at, x), axis, err);
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = axis;
    attrs.start = start;
    attrs.count = count;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SLICE, &attrs, &x, 1, &y, err));
    return ft_at_set(at, i, y, err);
}

enum ft_status ft_import_split(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    int64_t *sizes = NULL;
    int count = 0;
    int rank = 0;
    int axis = 0;
    int64_t given = 0;
    int64_t start = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "axis", &given, err));
    ft_at_shape(at, dims, &rank);
    FT_RETURN_IF_FAILED(ft_at_axis(at, given, rank, &axis, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "split", 1, &sizes, &count, err));
    if (!ft_dim_is_known(dims[axis])) {
        return ft_at_unsupported(at, err, "a split of the batch");
    }
    int64_t extent = dims[axis].coef;
    int parts = at->node->n_out;
    int64_t chunk = parts > 0 ? (extent + parts - 1) / parts : 0;
    if (count >= 0 && count != parts) {
        return FT_FAIL(err, INVALID, "%d sizes are given for %d outputs", count, parts);
    }
    for (int i = 0; i < parts; i++) {
        int64_t size = count >= 0 ? sizes[i] : i + 1 < parts ? chunk : extent - start;
        if (size < 0 || size > extent - start) {
            return FT_FAIL(err, INVALID, "part %d has %lld of %lld elements", i, (long long)size,
                           (long long)extent);
        }
        if (ft_at_wants(at, i)) {
            FT_RETURN_IF_FAILED(split_part(at, i, axis, start, size, err));
        }
        start += size;
    }
    return start == extent ? FT_OK : FT_FAIL(err, INVALID, "the parts are not the whole");
}
