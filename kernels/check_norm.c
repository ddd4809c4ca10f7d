#include <string.h>

#include "kernels/check.h"

/* Layer normalisation, and reductions that are not sums. */

/* The axes of x from `axis` on, and x's shape with ones in their place. */
static enum ft_status shapes(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                             struct ft_type *normal, struct ft_type *moment, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_check_axis(op, x, attrs->axis, err));
    if (!(attrs->eps >= 0.0F)) {
        return FT_FAIL(err, INVALID, "%s: epsilon %g is negative", op, (double)attrs->eps);
    }
    *moment = ft_check_like(x);
    *normal = ft_check_like(x);
    normal->rank = x->rank - attrs->axis;
    memset(normal->dim, 0, sizeof normal->dim);
    for (int i = attrs->axis; i < x->rank; i++) {
        moment->dim[i] = ft_dim_of(1);
        normal->dim[i - attrs->axis] = x->dim[i];
        if (!ft_dim_is_known(x->dim[i])) {
            return FT_FAIL(err, UNSUPPORTED, "%s: axis %d of %s must be known", op, i, FT_SHOW(x));
        }
    }
    return FT_OK;
}

enum ft_status ft_infer_layernorm(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    struct ft_type normal;
    struct ft_type moment;
    FT_RETURN_IF_FAILED(shapes("layernorm", attrs, &in[0], &normal, &moment, err));
    FT_RETURN_IF_FAILED(ft_check_implied("layernorm", "scale", &in[1], &normal, err));
    if (n_in == 3) {
        FT_RETURN_IF_FAILED(ft_check_implied("layernorm", "bias", &in[2], &normal, err));
    }
    out[0] = ft_check_like(&in[0]);
    out[1] = moment;
    out[2] = moment;
    return FT_OK;
}

enum ft_status ft_infer_layernorm_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                      struct ft_type *out, struct ft_err *err)
{
    struct ft_type normal;
    struct ft_type moment;
    (void)n_in;
    FT_RETURN_IF_FAILED(shapes("layernorm_bwd", attrs, &in[1], &normal, &moment, err));
    FT_RETURN_IF_FAILED(ft_check_same("layernorm_bwd", "dy and x", &in[0], &in[1], err));
    FT_RETURN_IF_FAILED(ft_check_implied("layernorm_bwd", "scale", &in[2], &normal, err));
    FT_RETURN_IF_FAILED(ft_check_implied("layernorm_bwd", "mean", &in[3], &moment, err));
    FT_RETURN_IF_FAILED(ft_check_implied("layernorm_bwd", "invstd", &in[4], &moment, err));
    out[0] = ft_check_like(&in[0]);
    out[1] = normal;
    out[2] = normal;
    return FT_OK;
}

/* ---- reductions */

static enum ft_status check_fold(const char *op, const struct ft_attrs *attrs, struct ft_err *err)
{
    if (attrs->kind < 0 || attrs->kind >= FT_FOLD_COUNT) {
        return FT_FAIL(err, INVALID, "%s: there is no reduction %d", op, attrs->kind);
    }
    return FT_OK;
}

enum ft_status ft_infer_reduce(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_fold("reduce", attrs, err));
    return ft_check_reduce("reduce", attrs, &in[0], out, err);
}

enum ft_status ft_infer_reduce_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                   struct ft_type *out, struct ft_err *err)
{
    struct ft_type y;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_fold("reduce_bwd", attrs, err));
    FT_RETURN_IF_FAILED(ft_check_reduce("reduce_bwd", attrs, &in[1], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("reduce_bwd", "dy", &in[0], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("reduce_bwd", "y", &in[2], &y, err));
    out[0] = ft_check_like(&in[1]);
    return FT_OK;
}
