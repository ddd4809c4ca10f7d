#include "kernels/check.h"

/* Integers, booleans, choices. */

enum ft_status ft_infer_cast(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind < FT_CAST_FLOAT || attrs->kind > FT_CAST_U8) {
        return FT_FAIL(err, INVALID, "cast: there is no element type %d", attrs->kind);
    }
    if (attrs->kind == FT_CAST_FLOAT && (in[0].dtype == FT_F32 || in[0].dtype == FT_F64)) {
        return FT_FAIL(err, INVALID, "cast: x is %s already", FT_SHOW(&in[0]));
    }
    out[0] = ft_check_like(&in[0]);
    out[0].dtype = attrs->kind == FT_CAST_FLOAT ? FT_F32 : attrs->kind == FT_CAST_BOOL ? FT_BOOL : FT_I64;
    return FT_OK;
}

enum ft_status ft_infer_compare(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind < FT_EQUAL || attrs->kind > FT_GREATER_OR_EQUAL) {
        return FT_FAIL(err, INVALID, "compare: there is no comparison %d", attrs->kind);
    }
    if (attrs->kind != FT_EQUAL && in[0].dtype == FT_BOOL) {
        return FT_FAIL(err, INVALID, "compare: booleans have no order");
    }
    FT_RETURN_IF_FAILED(ft_check_broadcast("compare", &in[0], &in[1], out, err));
    out[0].dtype = FT_BOOL;
    return FT_OK;
}

enum ft_status ft_infer_logic(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    if (attrs->kind < FT_LOGIC_NOT || attrs->kind > FT_LOGIC_XOR) {
        return FT_FAIL(err, INVALID, "logic: there is no function %d", attrs->kind);
    }
    if (n_in != (attrs->kind == FT_LOGIC_NOT ? 1 : 2)) {
        return FT_FAIL(err, INVALID, "logic: function %d does not take %d inputs", attrs->kind, n_in);
    }
    return ft_check_broadcast("logic", &in[0], &in[n_in - 1], out, err);
}

enum ft_status ft_infer_where(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    struct ft_type both;
    FT_RETURN_IF_FAILED(ft_check_broadcast("where", &in[1], &in[2], &both, err));
    return ft_check_broadcast("where", &both, &in[0], out, err);
}

enum ft_status ft_infer_mod(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                            struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind != 1 && (attrs->kind != 0 || in[0].dtype != FT_I64)) {
        return FT_FAIL(err, INVALID, "mod: of floats it has the sign of a: fmod must be 1");
    }
    return ft_check_broadcast("mod", &in[0], &in[1], out, err);
}

/* ---- indexing */

enum ft_status ft_infer_gather(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    const struct ft_type *index = &in[1];
    struct ft_type y = ft_check_like(&in[0]);
    FT_RETURN_IF_FAILED(ft_check_axis("gather", &in[0], attrs->axis, err));
    if (in[0].rank - 1 + index->rank > FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "gather: x %s with index %s would have more than %d axes", FT_SHOW(&in[0]),
                       FT_SHOW(index), FT_MAX_RANK);
    }
    y.rank = 0;
    for (int i = 0; i < in[0].rank; i++) {
        for (int k = 0; i == attrs->axis && k < index->rank; k++) {
            y.dim[y.rank++] = index->dim[k];
        }
        if (i != attrs->axis) {
            y.dim[y.rank++] = in[0].dim[i];
        }
    }
    out[0] = y;
    return FT_OK;
}

enum ft_status ft_infer_gather_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                   struct ft_type *out, struct ft_err *err)
{
    const struct ft_type forward[2] = {in[2], in[1]};
    struct ft_type y;
    (void)n_in;
    FT_RETURN_IF_FAILED(ft_infer_gather(attrs, forward, 2, &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("gather_bwd", "dy", &in[0], &y, err));
    out[0] = ft_check_like(&in[2]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

/* Off the axis an index must not reach beyond x: equal, or both known and at most x's. */
static enum ft_status check_elements(const char *op, const struct ft_attrs *attrs, const struct ft_type *in,
                                     struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_check_axis(op, &in[0], attrs->axis, err));
    FT_RETURN_IF_FAILED(ft_check_rank(op, "index", &in[1], in[0].rank, err));
    for (int i = 0; i < in[0].rank; i++) {
        struct ft_dim x = in[0].dim[i];
        struct ft_dim k = in[1].dim[i];
        bool within = ft_dim_equal(x, k) || (ft_dim_is_known(x) && ft_dim_is_known(k) && k.coef <= x.coef);
        if (i != attrs->axis && !within) {
            return FT_FAIL(err, INVALID, "%s: index %s reaches beyond x %s on axis %d", op, FT_SHOW(&in[1]),
                           FT_SHOW(&in[0]), i);
        }
    }
    return FT_OK;
}

enum ft_status ft_infer_gather_elements(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                        struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_elements("gather_elements", attrs, in, err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

static enum ft_status check_scatter(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                    struct ft_err *err)
{
    if (attrs->kind < FT_SCATTER_SET || attrs->kind > FT_SCATTER_MIN) {
        return FT_FAIL(err, INVALID, "%s: there is no combination %d", op, attrs->kind);
    }
    if (attrs->kind != FT_SCATTER_SET && (x->dtype == FT_BOOL || x->dtype == FT_I32)) {
        return FT_FAIL(err, INVALID, "%s: %s is not combined", op, FT_SHOW(x));
    }
    return FT_OK;
}

enum ft_status ft_infer_scatter_elements(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                         struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_elements("scatter_elements", attrs, in, err));
    FT_RETURN_IF_FAILED(check_scatter("scatter_elements", attrs, &in[0], err));
    FT_RETURN_IF_FAILED(ft_check_same("scatter_elements", "index and u", &in[1], &in[2], err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

static enum ft_status infer_nd(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                               const struct ft_type *index, struct ft_type *y, struct ft_err *err)
{
    int64_t batch = attrs->count;
    if (index->rank < 1 || !ft_dim_is_known(index->dim[index->rank - 1]) || batch < 0 ||
        batch >= index->rank || index->dim[index->rank - 1].coef > x->rank - batch) {
        return FT_FAIL(err, INVALID,
                       "%s: the last axis of index %s holds no coordinates of x %s after %lld axes", op,
                       FT_SHOW(index), FT_SHOW(x), (long long)batch);
    }
    int fixed = (int)batch + (int)index->dim[index->rank - 1].coef;
    *y = ft_check_like(x);
    y->rank = index->rank - 1 + x->rank - fixed;
    if (y->rank > FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "%s: x %s with index %s would have more than %d axes", op, FT_SHOW(x),
                       FT_SHOW(index), FT_MAX_RANK);
    }
    for (int i = 0; i < (int)batch; i++) {
        if (!ft_dim_equal(index->dim[i], x->dim[i])) {
            return FT_FAIL(err, INVALID, "%s: axis %d of index %s and x %s differ", op, i, FT_SHOW(index),
                           FT_SHOW(x));
        }
    }
    for (int i = 0; i < y->rank; i++) {
        y->dim[i] = i < index->rank - 1 ? index->dim[i] : x->dim[fixed + i - (index->rank - 1)];
    }
    return FT_OK;
}

enum ft_status ft_infer_gather_nd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_nd("gather_nd", attrs, &in[0], &in[1], out, err);
}

enum ft_status ft_infer_scatter_nd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                   struct ft_type *out, struct ft_err *err)
{
    struct ft_type u;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_scatter("scatter_nd", attrs, &in[0], err));
    FT_RETURN_IF_FAILED(infer_nd("scatter_nd", attrs, &in[0], &in[1], &u, err));
    FT_RETURN_IF_FAILED(ft_check_implied("scatter_nd", "u", &in[2], &u, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

/* ---- along one axis */

enum ft_status ft_infer_arg_extreme(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type y = ft_check_like(&in[0]);
    FT_RETURN_IF_FAILED(ft_check_axis("arg_extreme", &in[0], attrs->axis, err));
    y.dtype = FT_I64;
    y.dim[attrs->axis] = ft_dim_of(1);
    if (!attrs->keepdims) {
        y.rank--;
        for (int i = attrs->axis; i < y.rank; i++) {
            y.dim[i] = in[0].dim[i + 1];
        }
    }
    out[0] = y;
    return FT_OK;
}

enum ft_status ft_infer_topk(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(ft_check_axis("topk", &in[0], attrs->axis, err));
    struct ft_dim extent = in[0].dim[attrs->axis];
    if (!ft_dim_is_known(extent) || attrs->count < 1 || attrs->count > extent.coef) {
        return FT_FAIL(err, INVALID, "topk: axis %d of %s has no %lld elements", attrs->axis, FT_SHOW(&in[0]),
                       (long long)attrs->count);
    }
    out[0] = ft_check_like(&in[0]);
    out[0].dim[attrs->axis] = ft_dim_of(attrs->count);
    out[1] = out[0];
    out[1].dtype = FT_I64;
    return FT_OK;
}

enum ft_status ft_infer_cumsum(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(ft_check_axis("cumsum", &in[0], attrs->axis, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_maxpool_indices(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                        struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(ft_check_rank("maxpool_indices", "x", &in[1], in[0].rank, err));
    if (in[0].rank < 3 || !ft_dim_equal(in[0].dim[0], in[1].dim[0]) ||
        !ft_dim_equal(in[0].dim[1], in[1].dim[1]) || (attrs->kind != 0 && in[0].rank != 4)) {
        return FT_FAIL(err, INVALID, "maxpool_indices: where %s does not come from x %s", FT_SHOW(&in[0]),
                       FT_SHOW(&in[1]));
    }
    out[0] = ft_check_like(&in[0]);
    out[0].dtype = FT_I64;
    return FT_OK;
}
