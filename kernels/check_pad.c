#include "kernels/check.h"

static enum ft_status infer_pad(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                struct ft_type *y, struct ft_err *err)
{
    const int64_t most = INT32_MAX; /* keeps index arithmetic far from overflow */
    if (attrs->kind < FT_PAD_CONSTANT || attrs->kind > FT_PAD_WRAP) {
        return FT_FAIL(err, INVALID, "%s: kind %d is unknown", op, attrs->kind);
    }
    *y = ft_check_like(x);
    for (int i = 0; i < x->rank; i++) {
        int64_t begin = attrs->pad_begin[i];
        int64_t end = attrs->pad_end[i];
        if (begin == 0 && end == 0) {
            continue;
        }
        if (begin < 0 || end < 0 || begin > most || end > most) {
            return FT_FAIL(err, INVALID, "%s: pads %lld and %lld of axis %d are not within 0 to %lld", op,
                           (long long)begin, (long long)end, i, (long long)most);
        }
        if (!ft_dim_is_known(x->dim[i]) || x->dim[i].coef > most) {
            return FT_FAIL(err, UNSUPPORTED, "%s: axis %d of x %s must be known", op, i, FT_SHOW(x));
        }
        y->dim[i] = ft_dim_of(x->dim[i].coef + begin + end);
    }
    return FT_OK;
}

enum ft_status ft_infer_pad(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                            struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_pad("pad", attrs, &in[0], &out[0], err);
}

enum ft_status ft_infer_pad_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type y;
    FT_RETURN_IF_FAILED(infer_pad("pad_bwd", attrs, &in[1], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("pad_bwd", "dy", &in[0], &y, err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}
