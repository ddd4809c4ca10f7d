#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/*
 * Resize (ONNX Resize-10 to 19, Upsample-7 and 9), DepthToSpace and SpaceToDepth.
 *
 * Every mode of Resize is linear in x and works along one axis after the other, so each resized axis becomes
 * the product with a constant matrix (out, in): exact, differentiable, and standard ONNX when written again.
 */

enum coordinate {
    HALF_PIXEL,
    HALF_PIXEL_SYMMETRIC,
    PYTORCH_HALF_PIXEL,
    ALIGN_CORNERS,
    ASYMMETRIC,
    CROP_AND_RESIZE
};
enum interpolation { NEAREST, LINEAR, CUBIC };
enum rounding { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL };

struct resize {
    enum coordinate coordinate;
    enum interpolation mode;
    enum rounding rounding;
    bool antialias, exclude_outside;
    double a;     /* of the cubic kernel */
    float beyond; /* what lies outside; CROP_AND_RESIZE only */
};

struct axis_resize {
    bool same; /* left as it is; the rest says nothing then */
    int64_t in, out;
    double scale;
    double begin, end; /* of the region of interest, in parts of the axis; CROP_AND_RESIZE only */
};

/* ---- attributes */

struct choice {
    const char *name;
    int value;
};

static enum ft_status choose(struct ft_at *at, const char *attr, const struct choice *choices, int *out,
                             struct ft_err *err)
{
    struct ft_bytes text = {0};
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, attr, &text, err));
    if (text.size == 0) {
        return FT_OK;
    }
    for (const struct choice *c = choices; c->name != NULL; c++) {
        if (ft_bytes_is(text, c->name)) {
            *out = c->value;
            return FT_OK;
        }
    }
    return FT_FAIL(err, UNSUPPORTED, "%s '%.*s'", attr, (int)text.size, (const char *)text.data);
}

static enum ft_status read_modes(struct ft_at *at, struct resize *r, struct ft_err *err)
{
    static const struct choice modes[] = {
        {"nearest", NEAREST}, {"linear", LINEAR}, {"bilinear", LINEAR}, {"cubic", CUBIC}, {NULL, 0}};
    static const struct choice coordinates[] = {{"half_pixel", HALF_PIXEL},
                                                {"half_pixel_symmetric", HALF_PIXEL_SYMMETRIC},
                                                {"pytorch_half_pixel", PYTORCH_HALF_PIXEL},
                                                {"align_corners", ALIGN_CORNERS},
                                                {"asymmetric", ASYMMETRIC},
                                                {"tf_crop_and_resize", CROP_AND_RESIZE},
                                                {NULL, 0}};
    static const struct choice roundings[] = {{"round_prefer_floor", PREFER_FLOOR},
                                              {"round_prefer_ceil", PREFER_CEIL},
                                              {"floor", FLOOR},
                                              {"ceil", CEIL},
                                              {NULL, 0}};
    /* Upsample and Resize-10 have no such attributes; onnxruntime and PyTorch's exporter agree on these. */
    bool old = at->opset < 11 || ft_bytes_is(at->node->op, "Upsample");
    int mode = NEAREST;
    int coordinate = old ? ASYMMETRIC : HALF_PIXEL;
    int rounding = old ? FLOOR : PREFER_FLOOR;
    FT_RETURN_IF_FAILED(choose(at, "mode", modes, &mode, err));
    FT_RETURN_IF_FAILED(choose(at, "coordinate_transformation_mode", coordinates, &coordinate, err));
    FT_RETURN_IF_FAILED(choose(at, "nearest_mode", roundings, &rounding, err));
    r->mode = (enum interpolation)mode;
    r->coordinate = (enum coordinate)coordinate;
    r->rounding = (enum rounding)rounding;
    return FT_OK;
}

static enum ft_status read_resize(struct ft_at *at, struct resize *r, struct ft_err *err)
{
    int64_t antialias = 0;
    int64_t exclude = 0;
    float a = -0.75F;
    memset(r, 0, sizeof *r);
    FT_RETURN_IF_FAILED(read_modes(at, r, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "antialias", &antialias, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "exclude_outside", &exclude, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "cubic_coeff_a", &a, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "extrapolation_value", &r->beyond, err));
    r->antialias = antialias != 0;
    r->exclude_outside = exclude != 0;
    r->a = (double)a;
    return FT_OK;
}

/* ---- the matrix of one axis */

/* Where element i of the result lies in x. */
static double source_of(const struct resize *r, const struct axis_resize *ax, int64_t i)
{
    double x = (double)i;
    double in = (double)ax->in;
    double out = (double)ax->out;
    switch (r->coordinate) {
    case HALF_PIXEL:
        return (x + 0.5) / ax->scale - 0.5;
    case HALF_PIXEL_SYMMETRIC: {
        double adjustment = out / (ax->scale * in);
        return in / 2.0 * (1.0 - adjustment) + (x + 0.5) / ax->scale - 0.5;
    }
    case PYTORCH_HALF_PIXEL:
        return ax->out > 1 ? (x + 0.5) / ax->scale - 0.5 : 0.0;
    case ALIGN_CORNERS:
        return ax->out > 1 ? x * (in - 1.0) / (out - 1.0) : 0.0;
    case ASYMMETRIC:
        return x / ax->scale;
    case CROP_AND_RESIZE:
        break;
    }
    return ax->out > 1 ? ax->begin * (in - 1.0) + x * (ax->end - ax->begin) * (in - 1.0) / (out - 1.0)
                       : 0.5 * (ax->begin + ax->end) * (in - 1.0);
}

static int64_t clamped(int64_t i, int64_t count)
{
    return i < 0 ? 0 : i >= count ? count - 1 : i;
}

static int64_t nearest_to(enum rounding rounding, double x)
{
    switch (rounding) {
    case PREFER_FLOOR:
        return (int64_t)ceil(x - 0.5);
    case PREFER_CEIL:
        return (int64_t)floor(x + 0.5);
    case FLOOR:
        return (int64_t)floor(x);
    case CEIL:
        break;
    }
    return (int64_t)ceil(x);
}

/* The triangle, or Keys' cubic convolution with parameter a. */
static double kernel_at(const struct resize *r, double t)
{
    t = fabs(t);
    if (r->mode == LINEAR) {
        return t < 1.0 ? 1.0 - t : 0.0;
    }
    if (t < 1.0) {
        return ((r->a + 2.0) * t - (r->a + 3.0)) * t * t + 1.0;
    }
    return t < 2.0 ? ((r->a * t - 5.0 * r->a) * t + 8.0 * r->a) * t - 4.0 * r->a : 0.0;
}

static bool lies_beyond(const struct resize *r, const struct axis_resize *ax, int64_t i)
{
    double x = source_of(r, ax, i);
    return r->coordinate == CROP_AND_RESIZE && !(x >= 0.0 && x <= (double)(ax->in - 1));
}

/* Row `i`: weights of x's elements; none for what lies beyond. Taps beyond an end are the end's own element,
 * or do not count. */
static void fill_row(const struct resize *r, const struct axis_resize *ax, int64_t i, double *row)
{
    double x = source_of(r, ax, i);
    if (lies_beyond(r, ax, i)) {
        return;
    }
    if (r->mode == NEAREST) {
        row[clamped(nearest_to(r->rounding, x), ax->in)] = 1.0;
        return;
    }
    double shrink = r->antialias && ax->scale < 1.0 ? ax->scale : 1.0;
    double reach = (r->mode == LINEAR ? 1.0 : 2.0) / shrink;
    double sum = 0.0;
    for (int64_t k = (int64_t)floor(x - reach); k <= (int64_t)ceil(x + reach); k++) {
        double w = kernel_at(r, ((double)k - x) * shrink);
        if (!r->exclude_outside || (k >= 0 && k < ax->in)) {
            row[clamped(k, ax->in)] += w;
            sum += w;
        }
    }
    for (int64_t k = 0; k < ax->in && (r->antialias || r->exclude_outside); k++) {
        row[k] /= sum;
    }
}

static enum ft_status make_matrix(struct ft_at *at, const struct resize *r, const struct axis_resize *ax,
                                  ft_value *out, struct ft_err *err)
{
    const int64_t extents[2] = {ax->out, ax->in};
    struct ft_type type = ft_type_of(FT_F32, 2, extents);
    double *row = NULL;
    float *matrix = NULL;
    if (ax->out > FT_HOST_INTS_MAX / ax->in) {
        return FT_FAIL(err, LIMIT, "an axis of %lld resized to %lld", (long long)ax->in, (long long)ax->out);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)ax->in, sizeof *row, &row, err));
    FT_RETURN_IF_FAILED(
        ft_arena_new(&at->im->arena, (size_t)(ax->in * ax->out), sizeof *matrix, &matrix, err));
    for (int64_t i = 0; i < ax->out; i++) {
        memset(row, 0, (size_t)ax->in * sizeof *row);
        fill_row(r, ax, i, row);
        for (int64_t k = 0; k < ax->in; k++) {
            matrix[i * ax->in + k] = (float)row[k];
        }
    }
    return ft_at_const(at, &type, matrix, out, err);
}

/* ---- applying it */

/* Product of the extents from .. to - 1. */
static enum ft_status extent_of(const struct ft_type *t, int from, int to, struct ft_dim *out,
                                struct ft_err *err)
{
    *out = ft_dim_of(1);
    for (int i = from; i < to; i++) {
        if (!ft_dim_mul(*out, t->dim[i], out)) {
            return FT_FAIL(err, LIMIT, "a tensor is too large");
        }
    }
    return FT_OK;
}

/* x (outer, in, inner) -> matrix (out, in) times each (in, inner). */
static enum ft_status apply(struct ft_at *at, ft_value matrix, int axis, int64_t count, ft_value *x,
                            struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, *x);
    struct ft_dim flat[3];
    FT_RETURN_IF_FAILED(extent_of(&type, 0, axis, &flat[0], err));
    FT_RETURN_IF_FAILED(extent_of(&type, axis + 1, type.rank, &flat[2], err));
    flat[1] = type.dim[axis];
    FT_RETURN_IF_FAILED(ft_at_reshape(at, *x, flat, 3, x, err));
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    ft_value in[2] = {matrix, *x};
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MATMUL, &attrs, in, 2, x, err));
    type.dim[axis] = ft_dim_of(count);
    return ft_at_reshape(at, *x, type.dim, type.rank, x, err);
}

static enum ft_status resize_axis(struct ft_at *at, const struct resize *r, const struct axis_resize *ax,
                                  int axis, ft_value *x, struct ft_err *err)
{
    ft_value matrix = FT_NO_VALUE;
    bool crops = r->coordinate == CROP_AND_RESIZE && (ax->begin != 0.0 || ax->end != 1.0);
    if (ax->in == ax->out && ax->scale == 1.0 && !crops) {
        return FT_OK;
    }
    if (r->coordinate == ALIGN_CORNERS && (double)ax->out != ax->scale * (double)ax->in) {
        /* onnx's reference divides by the broken extent, onnxruntime and PyTorch by the whole one. */
        return ft_at_unsupported(at, err, "align_corners with a scale that gives no whole extent");
    }
    FT_RETURN_IF_FAILED(make_matrix(at, r, ax, &matrix, err));
    return apply(at, matrix, axis, ax->out, x, err);
}

/* `inside`: 1 where no axis so far lies beyond (x is 0 elsewhere), made of one vector an axis. */
static enum ft_status inside_axis(struct ft_at *at, const struct resize *r, const struct axis_resize *ax,
                                  int after, ft_value *inside, struct ft_err *err)
{
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    ft_value both[2] = {*inside, FT_NO_VALUE};
    float *row = NULL;
    type.rank = after + 1;
    for (int i = 0; i <= after; i++) {
        type.dim[i] = ft_dim_of(i == 0 ? ax->out : 1);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)ax->out, sizeof *row, &row, err));
    for (int64_t i = 0; i < ax->out; i++) {
        row[i] = lies_beyond(r, ax, i) ? 0.0F : 1.0F;
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &type, row, &both[1], err));
    if (both[0] == FT_NO_VALUE) {
        *inside = both[1];
        return FT_OK;
    }
    return ft_at_add(at, FT_OP_MUL, NULL, both, 2, inside, err);
}

/* x + beyond * (1 - inside) */
static enum ft_status add_beyond(struct ft_at *at, float beyond, ft_value inside, ft_value *x,
                                 struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = -beyond;
    attrs.beta = beyond;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SCALE, &attrs, &inside, 1, &inside, err));
    const ft_value both[2] = {*x, inside};
    return ft_at_add(at, FT_OP_ADD, NULL, both, 2, x, err);
}

/* ---- inputs: which axes, and how large they become */

struct targets {
    int axes[FT_MAX_RANK];
    int count;
    const struct ft_host *scales, *sizes, *roi;
};

static enum ft_status read_targets(struct ft_at *at, int rank, struct targets *t, struct ft_err *err)
{
    int64_t *axes = NULL;
    int count = -1;
    bool early = at->opset < 11 || ft_bytes_is(at->node->op, "Upsample");
    int at_scales = early ? 1 : 2;
    memset(t, 0, sizeof *t);
    FT_RETURN_IF_FAILED(ft_onnx_attr_ints(at->node, "axes", &at->im->arena, &axes, &count, err));
    t->count = count < 0 ? rank : count;
    for (int i = 0; i < t->count && i < FT_MAX_RANK; i++) {
        FT_RETURN_IF_FAILED(ft_at_axis(at, count < 0 ? i : axes[i], rank, &t->axes[i], err));
    }
    t->scales = ft_at_host(at, at_scales);
    t->sizes = early ? NULL : ft_at_host(at, 3);
    t->roi = early ? NULL : ft_at_host(at, 1);
    if (t->scales != NULL && t->scales->count == 0) {
        t->scales = NULL;
    }
    const struct ft_host *given = t->scales != NULL ? t->scales : t->sizes;
    if (given == NULL || given->count != t->count || ft_host_is_int(given) != (t->scales == NULL)) {
        return ft_at_unsupported(at, err, "neither scales nor sizes are known, one for each axis");
    }
    if (t->roi != NULL && (t->roi->count != 2 * (int64_t)t->count || ft_host_is_int(t->roi))) {
        t->roi = NULL;
    }
    return FT_OK;
}

/* The scale of all axes that keep_aspect_ratio_policy asks for; 0: each axis has its own. */
static enum ft_status common_scale(struct ft_at *at, const struct targets *t, const struct ft_type *x,
                                   double *scale, struct ft_err *err)
{
    static const struct choice policies[] = {
        {"stretch", 0}, {"not_larger", 1}, {"not_smaller", 2}, {NULL, 0}};
    int policy = 0;
    *scale = 0.0;
    FT_RETURN_IF_FAILED(choose(at, "keep_aspect_ratio_policy", policies, &policy, err));
    for (int i = 0; i < t->count && policy != 0 && t->sizes != NULL; i++) {
        struct ft_dim in = x->dim[t->axes[i]];
        if (!ft_dim_is_known(in) || !ft_dim_is_known(t->sizes->ints[i])) {
            return ft_at_unsupported(at, err, "keep_aspect_ratio_policy over an unknown extent");
        }
        double s = (double)t->sizes->ints[i].coef / (double)in.coef;
        if (i == 0 || (policy == 1 ? s < *scale : s > *scale)) {
            *scale = s;
        }
    }
    return FT_OK;
}

/* 0, which is refused, for what is no extent: scales may be any number. */
static int64_t whole_extent(double x)
{
    return x >= 1.0 && x <= (double)FT_HOST_INTS_MAX ? (int64_t)x : 0;
}

/* ax->same: nothing happens along this axis, whose extent may be unknown. */
static enum ft_status axis_target(struct ft_at *at, const struct targets *t, int i, struct ft_dim in,
                                  double common, struct axis_resize *ax, struct ft_err *err)
{
    double scale = t->scales != NULL ? (double)ft_host_float(t->scales, i) : common;
    ax->same = t->scales != NULL ? scale == 1.0 : common == 0.0 && ft_dim_equal(t->sizes->ints[i], in);
    bool whole =
        t->roi == NULL || (ft_host_float(t->roi, i) == 0.0F && ft_host_float(t->roi, i + t->count) == 1.0F);
    ax->same = ax->same && (whole || !ft_dim_is_known(in));
    if (ax->same) {
        return FT_OK;
    }
    if (!ft_dim_is_known(in) || (t->scales == NULL && !ft_dim_is_known(t->sizes->ints[i]))) {
        return ft_at_unsupported(at, err, "an axis of unknown extent is resized");
    }
    ax->in = in.coef;
    ax->scale = scale;
    if (t->scales != NULL) {
        ax->out = whole_extent(floor(scale * (double)ax->in));
    } else if (common != 0.0) {
        ax->out = whole_extent(floor(common * (double)ax->in + 0.5));
    } else {
        ax->out = t->sizes->ints[i].coef;
        ax->scale = (double)ax->out / (double)ax->in;
    }
    ax->begin = t->roi != NULL ? (double)ft_host_float(t->roi, i) : 0.0;
    ax->end = t->roi != NULL ? (double)ft_host_float(t->roi, i + t->count) : 1.0;
    if (!(ax->scale > 0.0) || ax->out < 1 || ax->out > FT_HOST_INTS_MAX) {
        return FT_FAIL(err, INVALID, "an axis of %lld cannot be resized by %g", (long long)ax->in, ax->scale);
    }
    return FT_OK;
}

enum ft_status ft_import_resize(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct resize r;
    struct targets t;
    double common = 0.0;
    ft_value x = FT_NO_VALUE;
    ft_value inside = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(read_resize(at, &r, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    FT_RETURN_IF_FAILED(read_targets(at, type.rank, &t, err));
    if (r.coordinate != CROP_AND_RESIZE) {
        t.roi = NULL;
    }
    FT_RETURN_IF_FAILED(common_scale(at, &t, &type, &common, err));
    for (int i = 0; i < t.count; i++) {
        struct axis_resize ax = {0};
        FT_RETURN_IF_FAILED(axis_target(at, &t, i, type.dim[t.axes[i]], common, &ax, err));
        if (!ax.same) {
            FT_RETURN_IF_FAILED(resize_axis(at, &r, &ax, t.axes[i], &x, err));
        }
        if (!ax.same && r.coordinate == CROP_AND_RESIZE && r.beyond != 0.0F) {
            FT_RETURN_IF_FAILED(inside_axis(at, &r, &ax, type.rank - 1 - t.axes[i], &inside, err));
        }
    }
    if (inside != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(add_beyond(at, r.beyond, inside, &x, err));
    }
    return ft_at_set(at, 0, x, err);
}

/* ---- channels and blocks of pixels */

/* x (N, C, H, W) -> (N, C / b^2, H b, W b), or back; each a reshape, a transposition, a reshape. */
enum ft_status ft_import_depth_space(struct ft_at *at, int to_depth, struct ft_err *err)
{
    static const int dcr[6] = {0, 3, 4, 1, 5, 2};   /* (N, b, b, C', H, W) */
    static const int crd[6] = {0, 1, 4, 2, 5, 3};   /* (N, C', b, b, H, W) */
    static const int depth[6] = {0, 3, 5, 1, 2, 4}; /* (N, C, H', b, W', b) */
    static const struct choice modes[] = {{"DCR", 0}, {"CRD", 1}, {NULL, 0}};
    struct ft_attrs attrs;
    int64_t block = 0;
    int mode = 0;
    ft_value x = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "blocksize", &block, err));
    FT_RETURN_IF_FAILED(choose(at, "mode", modes, &mode, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    const struct ft_dim *d = ft_at_type(at, x)->dim;
    struct ft_dim b = ft_dim_of(block);
    struct ft_dim n = d[0];
    struct ft_dim c = d[1];
    struct ft_dim h = d[2];
    struct ft_dim w = d[3];
    bool fits = ft_at_type(at, x)->rank == 4 && block >= 1 && block <= INT16_MAX;
    fits = fits && (to_depth ? ft_dim_div(h, b, &h) && ft_dim_div(w, b, &w) &&
                                   ft_dim_mul(c, ft_dim_of(block * block), &c)
                             : ft_dim_div(c, ft_dim_of(block * block), &c) && ft_dim_mul(h, b, &h) &&
                                   ft_dim_mul(w, b, &w));
    if (!fits) {
        return FT_FAIL(err, INVALID, "blocks of %lld do not divide the input", (long long)block);
    }
    const struct ft_dim to[6] = {n, d[1], h, b, w, b};
    const struct ft_dim from_dcr[6] = {n, b, b, c, d[2], d[3]};
    const struct ft_dim from_crd[6] = {n, c, b, b, d[2], d[3]};
    const struct ft_dim result[4] = {n, c, h, w};
    memcpy(attrs.perm, to_depth ? depth : mode == 1 ? crd : dcr, sizeof dcr);
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, to_depth ? to : mode == 1 ? from_crd : from_dcr, 6, &x, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TRANSPOSE, &attrs, &x, 1, &x, err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, result, 4, &x, err));
    return ft_at_set(at, 0, x, err);
}
