#include <string.h>

#include "executor/model/import.h"

/* Reductions. */

/* Axes are an attribute or the second input. *nothing: none given and none meant, else none given means all.
 */
static enum ft_status reduce_attrs(struct ft_at *at, int rank, struct ft_attrs *attrs, bool *nothing,
                                   struct ft_err *err)
{
    int64_t *list = NULL;
    int count = 0;
    int64_t keepdims = 1;
    int64_t noop = 0;
    memset(attrs, 0, sizeof *attrs);
    FT_RETURN_IF_FAILED(ft_at_list(at, "axes", 1, &list, &count, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "keepdims", &keepdims, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "noop_with_empty_axes", &noop, err));
    attrs->keepdims = keepdims != 0;
    *nothing = count <= 0 && noop != 0;
    if (count > rank) {
        return FT_FAIL(err, INVALID, "%d axes are given for rank %d", count, rank);
    }
    attrs->axes_count = *nothing ? 0 : count <= 0 ? rank : count;
    for (int i = 0; i < attrs->axes_count; i++) {
        attrs->axes[i] = i;
        if (count > 0) {
            FT_RETURN_IF_FAILED(ft_at_axis(at, list[i], rank, &attrs->axes[i], err));
        }
    }
    return FT_OK;
}

/* What the norms and logarithms do before the sum. */
static enum ft_status prepared(struct ft_at *at, enum ft_reduction reduction, ft_value x, ft_value *out,
                               struct ft_err *err)
{
    struct ft_attrs attrs;
    const ft_value both[2] = {x, x};
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_MAP_ABS;
    *out = x;
    if (reduction == FT_REDUCTION_L1) {
        return ft_at_add(at, FT_OP_MAP, &attrs, &x, 1, out, err);
    }
    if (reduction == FT_REDUCTION_L2 || reduction == FT_REDUCTION_SUM_SQUARE) {
        return ft_at_add(at, FT_OP_MUL, NULL, both, 2, out, err);
    }
    return FT_OK;
}

/* sqrt(sum x^2) of an L2 norm: rewrite.c finds the division that follows in F.normalize. */
enum ft_status ft_import_reduce(struct ft_at *at, int arg, struct ft_err *err)
{
    enum ft_reduction reduction = (enum ft_reduction)arg;
    struct ft_attrs attrs;
    ft_value y = FT_NO_VALUE;
    bool nothing = false;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &y, err));
    FT_RETURN_IF_FAILED(reduce_attrs(at, ft_at_type(at, y)->rank, &attrs, &nothing, err));
    FT_RETURN_IF_FAILED(prepared(at, reduction, y, &y, err));
    if (!nothing) {
        enum ft_op op = reduction == FT_REDUCTION_MEAN ? FT_OP_REDUCE_MEAN : FT_OP_REDUCE_SUM;
        FT_RETURN_IF_FAILED(ft_at_add(at, op, &attrs, &y, 1, &y, err));
    }
    if (reduction == FT_REDUCTION_L2) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SQRT, NULL, &y, 1, &y, err));
    } else if (reduction == FT_REDUCTION_LOG_SUM) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_LOG, NULL, &y, 1, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

static enum ft_status cast(struct ft_at *at, enum ft_cast to, ft_value *v, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = (int)to;
    return ft_at_add(at, FT_OP_CAST, &attrs, v, 1, v, err);
}

/* Any or all of booleans is the largest or smallest of 0 and 1. */
enum ft_status ft_import_fold(struct ft_at *at, int fold, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value y = FT_NO_VALUE;
    bool nothing = false;
    bool booleans = ft_at_dtype(at, 0) == FT_BOOL && (fold == FT_FOLD_MAX || fold == FT_FOLD_MIN);
    if (booleans) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &y, err));
        FT_RETURN_IF_FAILED(cast(at, FT_CAST_FLOAT, &y, err));
    } else {
        FT_RETURN_IF_FAILED(ft_at_value(at, 0, &y, err));
    }
    FT_RETURN_IF_FAILED(reduce_attrs(at, ft_at_type(at, y)->rank, &attrs, &nothing, err));
    attrs.kind = fold;
    if (nothing) {
        return ft_at_pass(at, err);
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE, &attrs, &y, 1, &y, err));
    if (booleans) {
        FT_RETURN_IF_FAILED(cast(at, FT_CAST_BOOL, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}
