#include "kernels/check.h"

#include <string.h>

/* Convolution, pooling and batch normalisation: ops over (N, C, S...). Batch symbolic, the rest known. */

static enum ft_status check_window(const char *op, const struct ft_window *w, const struct ft_type *x,
                                   struct ft_err *err)
{
    if (w->rank < 1 || w->rank > 3) {
        return FT_FAIL(err, UNSUPPORTED, "%s: windows of rank %d (1 to 3 are there)", op, w->rank);
    }
    FT_RETURN_IF_FAILED(ft_check_rank(op, "x", x, w->rank + 2, err));
    for (int i = 1; i < x->rank; i++) {
        if (!ft_dim_is_known(x->dim[i])) {
            return FT_FAIL(err, UNSUPPORTED, "%s: x is %s: only its first axis may be symbolic", op,
                           FT_SHOW(x));
        }
    }
    /* Bounds keep all index arithmetic far from overflow. */
    const int64_t most = INT32_MAX;
    for (int i = 0; i < w->rank; i++) {
        if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1 || w->kernel[i] > most ||
            w->stride[i] > most || w->dilation[i] > most || w->out[i] < 0 || w->out[i] > most ||
            x->dim[i + 2].coef > most) {
            return FT_FAIL(
                err, INVALID,
                "%s: spatial axis %d: kernel %lld, stride %lld, dilation %lld are not all at least 1", op, i,
                (long long)w->kernel[i], (long long)w->stride[i], (long long)w->dilation[i]);
        }
        if (w->pad_begin[i] < 0 || w->pad_end[i] < 0 || w->pad_begin[i] > most || w->pad_end[i] > most) {
            return FT_FAIL(err, UNSUPPORTED,
                           "%s: spatial axis %d: pads %lld and %lld are not within 0 to %lld", op, i,
                           (long long)w->pad_begin[i], (long long)w->pad_end[i], (long long)most);
        }
    }
    return FT_OK;
}

/* Output extent of spatial axis i by the floor rule. */
static enum ft_status window_extent(const char *op, const struct ft_window *w, const struct ft_type *x, int i,
                                    int64_t *out, struct ft_err *err)
{
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t padded = x->dim[i + 2].coef + w->pad_begin[i] + w->pad_end[i];
    if (padded < reach) {
        return FT_FAIL(err, INVALID,
                       "%s: x is %s: a window of %lld does not fit spatial axis %d with pads %lld and %lld",
                       op, FT_SHOW(x), (long long)reach, i, (long long)w->pad_begin[i],
                       (long long)w->pad_end[i]);
    }
    *out = (padded - reach) / w->stride[i] + 1;
    return FT_OK;
}

/* ---- convolution */

static enum ft_status infer_conv(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                 const struct ft_type *w, struct ft_type *y, struct ft_err *err)
{
    const struct ft_window *window = &attrs->window;
    FT_RETURN_IF_FAILED(check_window(op, window, x, err));
    FT_RETURN_IF_FAILED(ft_check_rank(op, "w", w, x->rank, err));
    if (!ft_type_is_known(w)) {
        return FT_FAIL(err, INVALID, "%s: w is %s: a weight has no symbols", op, FT_SHOW(w));
    }
    int64_t channels = x->dim[1].coef;
    int64_t per_group = w->dim[1].coef;
    if (attrs->group < 1 || w->dim[0].coef % attrs->group != 0) {
        return FT_FAIL(err, INVALID, "%s: w %s does not divide into %lld groups", op, FT_SHOW(w),
                       (long long)attrs->group);
    }
    if (channels % attrs->group != 0 || channels / attrs->group != per_group) {
        return FT_FAIL(err, INVALID, "%s: x has %lld channels, w wants %lld x group %lld", op,
                       (long long)channels, (long long)per_group, (long long)attrs->group);
    }
    *y = ft_check_like(x);
    y->dim[1] = w->dim[0];
    for (int i = 0; i < window->rank; i++) {
        if (window->kernel[i] != w->dim[i + 2].coef) {
            return FT_FAIL(err, INVALID, "%s: w is %s, the kernel of spatial axis %d is given as %lld", op,
                           FT_SHOW(w), i, (long long)window->kernel[i]);
        }
        int64_t extent = 0;
        FT_RETURN_IF_FAILED(window_extent(op, window, x, i, &extent, err));
        if (window->out[i] != 0 && window->out[i] != extent) {
            return FT_FAIL(err, INVALID, "%s: spatial axis %d has extent %lld, not %lld", op, i,
                           (long long)extent, (long long)window->out[i]);
        }
        y->dim[i + 2] = ft_dim_of(extent);
    }
    return FT_OK;
}

enum ft_status ft_infer_conv(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(infer_conv("conv", attrs, &in[0], &in[1], &out[0], err));
    return ft_check_epilogue(FT_OP_CONV, attrs, in, n_in, in[1].dim[0], &out[0], err);
}

/* What a transposed convolution makes of dy: its extents are given, because several fit one dy. */
static enum ft_status transposed_x(const struct ft_attrs *attrs, const struct ft_type *in, struct ft_type *x,
                                   struct ft_err *err)
{
    const struct ft_window *w = &attrs->window;
    FT_RETURN_IF_FAILED(check_window("conv_bwd_data", w, &in[0], err));
    FT_RETURN_IF_FAILED(ft_check_rank("conv_bwd_data", "w", &in[1], in[0].rank, err));
    *x = ft_check_like(&in[0]);
    if (attrs->group < 1 || !ft_dim_mul(in[1].dim[1], ft_dim_of(attrs->group), &x->dim[1])) {
        return FT_FAIL(err, INVALID, "conv_bwd_data: w %s in %lld groups", FT_SHOW(&in[1]),
                       (long long)attrs->group);
    }
    for (int i = 0; i < w->rank; i++) {
        if (w->out[i] < 1) {
            return FT_FAIL(err, INVALID, "conv_bwd_data: spatial axis %d has no extent given", i);
        }
        x->dim[i + 2] = ft_dim_of(w->out[i]);
    }
    return FT_OK;
}

enum ft_status ft_infer_conv_bwd_data(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                      struct ft_type *out, struct ft_err *err)
{
    struct ft_attrs forward = *attrs; /* its out is x's, not y's */
    struct ft_type x;
    struct ft_type y;
    if (n_in == 3) {
        x = in[2];
    } else {
        FT_RETURN_IF_FAILED(transposed_x(attrs, in, &x, err));
        memset(forward.window.out, 0, sizeof forward.window.out);
    }
    FT_RETURN_IF_FAILED(infer_conv("conv_bwd_data", &forward, &x, &in[1], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("conv_bwd_data", "dy", &in[0], &y, err));
    out[0] = ft_check_like(&x);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

enum ft_status ft_infer_conv_bwd_weight(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                        struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type y;
    FT_RETURN_IF_FAILED(infer_conv("conv_bwd_weight", attrs, &in[0], &in[2], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("conv_bwd_weight", "dy", &in[1], &y, err));
    out[0] = ft_check_like(&in[2]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

enum ft_status ft_infer_fold_batchnorm(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                       struct ft_type *out, struct ft_err *err)
{
    static const char *const names[6] = {"w", "scale", "bias", "mean", "var", "b"};
    (void)attrs;
    if (in[0].rank < 2) {
        return FT_FAIL(err, INVALID, "fold_batchnorm: w is %s", FT_SHOW(&in[0]));
    }
    for (int i = 1; i < n_in; i++) {
        FT_RETURN_IF_FAILED(ft_check_vector("fold_batchnorm", names[i], &in[i], in[0].dim[0], err));
    }
    out[0] = ft_check_like(&in[0]);
    out[1] = ft_check_like(&in[1]);
    return FT_OK;
}

/* ---- pooling */

/* Every window must touch x: an average over nothing and a maximum of nothing have no value. */
static enum ft_status check_windows_touch(const char *op, const struct ft_window *w, const struct ft_type *x,
                                          int i, int64_t out, struct ft_err *err)
{
    int64_t extent = x->dim[i + 2].coef;
    for (int64_t o = 0; o < out; o++) {
        int64_t first = o * w->stride[i] - w->pad_begin[i];
        if (first < 0) { /* the first tap at or after 0 */
            first += (-first + w->dilation[i] - 1) / w->dilation[i] * w->dilation[i];
        }
        int64_t last = o * w->stride[i] - w->pad_begin[i] + (w->kernel[i] - 1) * w->dilation[i];
        if (first > last || first >= extent) {
            return FT_FAIL(err, INVALID, "%s: window %lld of spatial axis %d lies outside x %s", op,
                           (long long)o, i, FT_SHOW(x));
        }
    }
    return FT_OK;
}

static enum ft_status infer_pool(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                 struct ft_type *y, struct ft_err *err)
{
    const struct ft_window *w = &attrs->window;
    FT_RETURN_IF_FAILED(check_window(op, w, x, err));
    *y = ft_check_like(x);
    for (int i = 0; i < w->rank; i++) {
        int64_t extent = 0;
        FT_RETURN_IF_FAILED(window_extent(op, w, x, i, &extent, err));
        if (w->out[i] != 0) {
            /* The importer's ceil rule adds at most one window. */
            if (w->out[i] > extent + 1) {
                return FT_FAIL(err, INVALID, "%s: spatial axis %d has %lld windows, %lld are asked for", op,
                               i, (long long)extent, (long long)w->out[i]);
            }
            extent = w->out[i];
        }
        FT_RETURN_IF_FAILED(check_windows_touch(op, w, x, i, extent, err));
        y->dim[i + 2] = ft_dim_of(extent);
    }
    return FT_OK;
}

enum ft_status ft_infer_maxpool(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_dim plane;
    FT_RETURN_IF_FAILED(infer_pool("maxpool", attrs, &in[0], &out[0], err));
    FT_RETURN_IF_FAILED(ft_check_product("maxpool", &in[0], 2, in[0].rank, &plane, err));
    if (plane.coef > INT32_MAX) {
        return FT_FAIL(err, LIMIT, "maxpool: x is %s: its planes are too large for 32-bit indices",
                       FT_SHOW(&in[0]));
    }
    out[1] = out[0];
    out[1].dtype = FT_I32;
    return FT_OK;
}

enum ft_status ft_infer_maxpool_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type y;
    FT_RETURN_IF_FAILED(infer_pool("maxpool_bwd", attrs, &in[2], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("maxpool_bwd", "dy", &in[0], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("maxpool_bwd", "where", &in[1], &y, err));
    out[0] = ft_check_like(&in[2]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

enum ft_status ft_infer_avgpool(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_pool("avgpool", attrs, &in[0], &out[0], err);
}

enum ft_status ft_infer_avgpool_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type y;
    FT_RETURN_IF_FAILED(infer_pool("avgpool_bwd", attrs, &in[1], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("avgpool_bwd", "dy", &in[0], &y, err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

/* ---- batch normalisation */

/* x (N, C, S...) and `vectors` inputs of (C) from `from` on; *vector is their type. */
static enum ft_status check_channels(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                     const struct ft_type *vectors, int count, struct ft_type *vector,
                                     struct ft_err *err)
{
    if (x->rank < 2 || !ft_dim_is_known(x->dim[1])) {
        return FT_FAIL(err, INVALID, "%s: x is %s, wanted (N, C, ...) with C known", op, FT_SHOW(x));
    }
    if (!(attrs->eps >= 0.0F)) {
        return FT_FAIL(err, INVALID, "%s: eps is %g", op, (double)attrs->eps);
    }
    *vector = ft_check_like(x);
    vector->rank = 1;
    memset(vector->dim, 0, sizeof vector->dim);
    vector->dim[0] = x->dim[1];
    for (int i = 0; i < count; i++) {
        if (!ft_type_same_shape(&vectors[i], vector)) {
            return FT_FAIL(err, INVALID, "%s: x %s has %lld channels, one of its vectors is %s", op,
                           FT_SHOW(x), (long long)x->dim[1].coef, FT_SHOW(&vectors[i]));
        }
    }
    return FT_OK;
}

enum ft_status ft_infer_batchnorm(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type vector;
    FT_RETURN_IF_FAILED(check_channels("batchnorm", attrs, &in[0], &in[1], 4, &vector, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

/* dy, x and three vectors -> dx, dscale, dbias: both backward rows. */
static enum ft_status infer_batchnorm_bwd(const char *op, const struct ft_attrs *attrs,
                                          const struct ft_type *in, struct ft_type *out, struct ft_err *err)
{
    struct ft_type vector;
    FT_RETURN_IF_FAILED(check_channels(op, attrs, &in[1], &in[2], 3, &vector, err));
    FT_RETURN_IF_FAILED(ft_check_same(op, "dy and x", &in[0], &in[1], err));
    out[0] = ft_check_like(&in[1]);
    out[1] = vector;
    out[2] = vector;
    return FT_OK;
}

enum ft_status ft_infer_batchnorm_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                      struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_batchnorm_bwd("batchnorm_bwd", attrs, in, out, err);
}

/* One value a channel has no variance; only a known shape can tell. */
static enum ft_status check_values_per_channel(const char *op, const struct ft_type *x, struct ft_err *err)
{
    struct ft_dim all;
    FT_RETURN_IF_FAILED(ft_check_product(op, x, 0, x->rank, &all, err));
    if (ft_dim_is_known(all) && all.coef == x->dim[1].coef) {
        return FT_FAIL(err, INVALID, "%s: x is %s: more than 1 value per channel is needed when training", op,
                       FT_SHOW(x));
    }
    return FT_OK;
}

enum ft_status ft_infer_batchnorm_train(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                        struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type vector;
    FT_RETURN_IF_FAILED(check_channels("batchnorm_train", attrs, &in[0], &in[1], 4, &vector, err));
    FT_RETURN_IF_FAILED(check_values_per_channel("batchnorm_train", &in[0], err));
    out[0] = ft_check_like(&in[0]);
    for (int i = 1; i < 5; i++) {
        out[i] = vector;
    }
    return FT_OK;
}

enum ft_status ft_infer_batchnorm_train_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                            struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_batchnorm_bwd("batchnorm_train_bwd", attrs, in, out, err);
}
