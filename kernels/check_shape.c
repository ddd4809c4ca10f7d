#include "kernels/check.h"

#include <string.h>

#include "kernels/int8.h"

/* ---- reductions */

enum ft_status ft_check_reduce(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                               struct ft_type *out, struct ft_err *err)
{
    bool reduced[FT_MAX_RANK] = {false};
    if (attrs->axes_count < 0 || attrs->axes_count > x->rank) {
        return FT_FAIL(err, INVALID, "%s: %d axes given for %s", op, attrs->axes_count, FT_SHOW(x));
    }
    for (int i = 0; i < attrs->axes_count; i++) {
        FT_RETURN_IF_FAILED(ft_check_axis(op, x, attrs->axes[i], err));
        if (reduced[attrs->axes[i]]) {
            return FT_FAIL(err, INVALID, "%s: axis %d is given twice", op, attrs->axes[i]);
        }
        reduced[attrs->axes[i]] = true;
    }
    struct ft_type y = ft_check_like(x);
    y.rank = 0;
    memset(y.dim, 0, sizeof y.dim);
    for (int i = 0; i < x->rank; i++) {
        if (!reduced[i]) {
            y.dim[y.rank++] = x->dim[i];
        } else if (attrs->keepdims) {
            y.dim[y.rank++] = ft_dim_of(1);
        }
    }
    out[0] = y;
    return FT_OK;
}

enum ft_status ft_infer_reduce_sum(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                   struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return ft_check_reduce("reduce_sum", attrs, &in[0], out, err);
}

enum ft_status ft_infer_reduce_mean(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return ft_check_reduce("reduce_mean", attrs, &in[0], out, err);
}

/* ---- moving elements */

static enum ft_status check_same_count(const char *op, const struct ft_type *x, const struct ft_type *y,
                                       struct ft_err *err)
{
    struct ft_dim a;
    struct ft_dim b;
    FT_RETURN_IF_FAILED(ft_check_product(op, x, 0, x->rank, &a, err));
    FT_RETURN_IF_FAILED(ft_check_product(op, y, 0, y->rank, &b, err));
    if (!ft_dim_equal(a, b)) {
        return FT_FAIL(err, INVALID, "%s: %s cannot become %s: the numbers of elements differ", op,
                       FT_SHOW(x), FT_SHOW(y));
    }
    return FT_OK;
}

enum ft_status ft_infer_reshape(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->shape_rank < 0 || attrs->shape_rank > FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "reshape: rank %d is not within 0 to %d", attrs->shape_rank, FT_MAX_RANK);
    }
    struct ft_type y = ft_check_like(&in[0]);
    y.rank = attrs->shape_rank;
    memset(y.dim, 0, sizeof y.dim);
    for (int i = 0; i < y.rank; i++) {
        y.dim[i] = attrs->shape[i];
        if (y.dim[i].coef < 1) {
            return FT_FAIL(err, INVALID, "reshape: dimension %d of the target is %lld", i,
                           (long long)y.dim[i].coef);
        }
    }
    FT_RETURN_IF_FAILED(check_same_count("reshape", &in[0], &y, err));
    out[0] = y;
    return FT_OK;
}

enum ft_status ft_infer_reshape_like(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                     struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_same_count("reshape_like", &in[0], &in[1], err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

enum ft_status ft_infer_transpose(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    bool used[FT_MAX_RANK] = {false};
    struct ft_type y = ft_check_like(&in[0]);
    for (int i = 0; i < y.rank; i++) {
        int axis = attrs->perm[i];
        if (axis < 0 || axis >= y.rank || used[axis]) {
            return FT_FAIL(err, INVALID, "transpose: the %d axes given for %s are not a permutation", y.rank,
                           FT_SHOW(&in[0]));
        }
        used[axis] = true;
        y.dim[i] = in[0].dim[axis];
    }
    out[0] = y;
    return FT_OK;
}

/* Sum of two monomials of the same symbols: N + N = 2 N. */
static bool add_dims(struct ft_dim a, struct ft_dim b, struct ft_dim *out)
{
    struct ft_dim d = a;
    if (memcmp(a.power, b.power, sizeof a.power) != 0 || __builtin_add_overflow(a.coef, b.coef, &d.coef)) {
        return false;
    }
    *out = d;
    return true;
}

enum ft_status ft_infer_concat(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_check_axis("concat", &in[0], attrs->axis, err));
    struct ft_type y = ft_check_like(&in[0]);
    for (int i = 1; i < n_in; i++) {
        FT_RETURN_IF_FAILED(ft_check_rank("concat", "a later input", &in[i], y.rank, err));
        struct ft_type same = in[i];
        same.dim[attrs->axis] = in[0].dim[attrs->axis];
        if (!ft_type_same_shape(&same, &in[0])) {
            return FT_FAIL(err, INVALID, "concat: input %d is %s, input 0 %s: only axis %d may differ", i,
                           FT_SHOW(&in[i]), FT_SHOW(&in[0]), attrs->axis);
        }
        if (!add_dims(y.dim[attrs->axis], in[i].dim[attrs->axis], &y.dim[attrs->axis])) {
            return FT_FAIL(err, UNSUPPORTED,
                           "concat: extents of axis %d cannot be added: input %d is %s, input 0 %s",
                           attrs->axis, i, FT_SHOW(&in[i]), FT_SHOW(&in[0]));
        }
    }
    out[0] = y;
    return FT_OK;
}

static enum ft_status check_known_axis(const char *op, const char *name, const struct ft_type *t, int axis,
                                       struct ft_err *err)
{
    if (!ft_dim_is_known(t->dim[axis])) {
        return FT_FAIL(err, UNSUPPORTED, "%s: axis %d of %s %s must be known", op, axis, name, FT_SHOW(t));
    }
    return FT_OK;
}

/* Do `count` elements from a.start on in steps of a.step lie within an axis? */
static bool steps_within(const struct ft_attrs *attrs, int64_t count, int64_t extent)
{
    int64_t step = attrs->step == 0 ? 1 : attrs->step;
    int64_t last = 0;
    return count >= 1 && attrs->start >= 0 && attrs->start < extent &&
           !__builtin_mul_overflow(count - 1, step, &last) &&
           !__builtin_add_overflow(attrs->start, last, &last) && last >= 0 && last < extent;
}

enum ft_status ft_infer_slice(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    int axis = attrs->axis;
    FT_RETURN_IF_FAILED(ft_check_axis("slice", &in[0], axis, err));
    FT_RETURN_IF_FAILED(check_known_axis("slice", "x", &in[0], axis, err));
    if (!steps_within(attrs, attrs->count, in[0].dim[axis].coef)) {
        return FT_FAIL(err, INVALID, "slice: %lld elements from %lld on do not lie within axis %d of %s",
                       (long long)attrs->count, (long long)attrs->start, axis, FT_SHOW(&in[0]));
    }
    out[0] = ft_check_like(&in[0]);
    out[0].dim[axis] = ft_dim_of(attrs->count);
    return FT_OK;
}

enum ft_status ft_infer_pad_like(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                 struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    int axis = attrs->axis;
    FT_RETURN_IF_FAILED(ft_check_axis("pad_like", &in[0], axis, err));
    FT_RETURN_IF_FAILED(ft_check_rank("pad_like", "s", &in[1], in[0].rank, err));
    FT_RETURN_IF_FAILED(check_known_axis("pad_like", "x", &in[0], axis, err));
    FT_RETURN_IF_FAILED(check_known_axis("pad_like", "s", &in[1], axis, err));
    struct ft_type same = in[0];
    same.dim[axis] = in[1].dim[axis];
    if (!ft_type_same_shape(&same, &in[1])) {
        return FT_FAIL(err, INVALID, "pad_like: x is %s, s %s: only axis %d may differ", FT_SHOW(&in[0]),
                       FT_SHOW(&in[1]), axis);
    }
    if (!steps_within(attrs, in[0].dim[axis].coef, in[1].dim[axis].coef)) {
        return FT_FAIL(err, INVALID, "pad_like: x %s at %lld does not lie within s %s", FT_SHOW(&in[0]),
                       (long long)attrs->start, FT_SHOW(&in[1]));
    }
    out[0] = same;
    out[0].layout = FT_ROW_MAJOR;
    return FT_OK;
}

/* ---- softmax */

static enum ft_status infer_softmax(const char *op, const struct ft_attrs *attrs, const struct ft_type *in,
                                    struct ft_type *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_check_axis(op, &in[0], attrs->axis, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

#define FT_SOFTMAX(name)                                                                                     \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)n_in;                                                                                          \
        return infer_softmax(#name, attrs, in, out, err);                                                    \
    }

#define FT_SOFTMAX_BWD(name)                                                                                 \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)n_in;                                                                                          \
        FT_RETURN_IF_FAILED(ft_check_same(#name, "dy and y", &in[0], &in[1], err));                          \
        return infer_softmax(#name, attrs, in, out, err);                                                    \
    }

FT_SOFTMAX(softmax)
FT_SOFTMAX_BWD(softmax_bwd)
FT_SOFTMAX(log_softmax)
FT_SOFTMAX_BWD(log_softmax_bwd)

/* ---- matrices */

/* (rows, columns) of an operand after its swap. */
static void matrix_dims(const struct ft_type *t, int trans, struct ft_dim *rows, struct ft_dim *columns)
{
    struct ft_dim r = t->dim[t->rank - 2];
    struct ft_dim c = t->dim[t->rank - 1];
    *rows = trans ? c : r;
    *columns = trans ? r : c;
}

static enum ft_status check_int8(const struct ft_attrs *attrs, const struct ft_type *a,
                                 const struct ft_type *b, struct ft_dim depth, struct ft_err *err)
{
    if (attrs->int8 != 0 && (attrs->trans_a != 0 || b->rank != 2)) {
        return FT_FAIL(err, INVALID, "matmul: in int8 a %s is not transposed and b %s has 2 axes", FT_SHOW(a),
                       FT_SHOW(b));
    }
    bool fits = !ft_dim_is_known(depth) || (depth.coef >= 1 && depth.coef <= FT_INT8_DEPTH_MAX);
    if (attrs->int8 != 0 && !fits) {
        return FT_FAIL(err, INVALID, "matmul: in int8 sums have 1 to %d products, not %lld",
                       FT_INT8_DEPTH_MAX, (long long)depth.coef);
    }
    return FT_OK;
}

enum ft_status ft_infer_matmul(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    const struct ft_type *a = &in[0];
    const struct ft_type *b = &in[1];
    if (a->rank < 2 || b->rank < 2) {
        return FT_FAIL(err, INVALID, "matmul: a %s and b %s must have at least 2 axes", FT_SHOW(a),
                       FT_SHOW(b));
    }
    const struct ft_type *outer = a->rank >= b->rank ? a : b;
    bool fits = a->rank == b->rank || a->rank == 2 || b->rank == 2;
    for (int i = 0; fits && a->rank == b->rank && i < a->rank - 2; i++) {
        fits = ft_dim_equal(a->dim[i], b->dim[i]);
    }
    if (!fits) {
        return FT_FAIL(err, INVALID, "matmul: batch axes of a %s and b %s differ and neither has rank 2",
                       FT_SHOW(a), FT_SHOW(b));
    }
    struct ft_dim m, ka, kb, n;
    matrix_dims(a, attrs->trans_a, &m, &ka);
    matrix_dims(b, attrs->trans_b, &kb, &n);
    if (!ft_dim_equal(ka, kb)) {
        return FT_FAIL(err, INVALID, "matmul: inner extents of a %s%s and b %s%s differ", FT_SHOW(a),
                       attrs->trans_a ? " transposed" : "", FT_SHOW(b), attrs->trans_b ? " transposed" : "");
    }
    FT_RETURN_IF_FAILED(check_int8(attrs, a, b, ka, err));
    out[0] = ft_check_like(outer);
    out[0].dim[outer->rank - 2] = m;
    out[0].dim[outer->rank - 1] = n;
    return ft_check_epilogue(FT_OP_MATMUL, attrs, in, n_in, n, &out[0], err);
}
