#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/* Convolution, pooling, batch normalisation. */

enum pad_rule { PAD_GIVEN, PAD_VALID, PAD_SAME_UPPER, PAD_SAME_LOWER };

static enum ft_status pad_rule(struct ft_at *at, enum pad_rule *rule, struct ft_err *err)
{
    struct ft_bytes text = ft_bytes_of_text("NOTSET");
    *rule = PAD_GIVEN;
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, "auto_pad", &text, err));
    if (ft_bytes_is(text, "VALID")) {
        *rule = PAD_VALID;
    } else if (ft_bytes_is(text, "SAME_UPPER")) {
        *rule = PAD_SAME_UPPER;
    } else if (ft_bytes_is(text, "SAME_LOWER")) {
        *rule = PAD_SAME_LOWER;
    } else if (text.size > 0 && !ft_bytes_is(text, "NOTSET")) {
        return FT_FAIL(err, INVALID, "auto_pad '%.*s' is unknown", ft_bytes_shown(text), text.data);
    }
    return FT_OK;
}

/* One list of the window: `want` numbers, or all `otherwise`. */
static enum ft_status window_list(struct ft_at *at, const char *name, int want, int64_t otherwise,
                                  int64_t *to, struct ft_err *err)
{
    int64_t *list = NULL;
    int count = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_ints(at->node, name, &at->im->arena, &list, &count, err));
    if (count >= 0 && count != want) {
        return FT_FAIL(err, INVALID, "%s has %d numbers, %d are wanted", name, count, want);
    }
    for (int i = 0; i < want; i++) {
        to[i] = count < 0 ? otherwise : list[i];
        if (to[i] < -INT32_MAX || to[i] > INT32_MAX) {
            return FT_FAIL(err, LIMIT, "%s %lld is too large", name, (long long)to[i]);
        }
    }
    return FT_OK;
}

static enum ft_status same_pads(enum pad_rule rule, const struct ft_type *x, struct ft_window *w,
                                struct ft_err *err)
{
    for (int i = 0; i < w->rank; i++) {
        struct ft_dim extent = x->dim[i + 2];
        if (!ft_dim_is_known(extent)) {
            return FT_FAIL(err, UNSUPPORTED, "auto_pad SAME needs known extents");
        }
        int64_t out = (extent.coef + w->stride[i] - 1) / w->stride[i];
        int64_t total = (out - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - extent.coef;
        total = total < 0 ? 0 : total;
        w->pad_begin[i] = rule == PAD_SAME_UPPER ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
    }
    return FT_OK;
}

/* Strides, dilations and pads; kernel is set by the caller. */
static enum ft_status read_window(struct ft_at *at, const struct ft_type *x, struct ft_window *w,
                                  struct ft_err *err)
{
    enum pad_rule rule = PAD_GIVEN;
    int64_t pads[6] = {0};
    FT_RETURN_IF_FAILED(window_list(at, "strides", w->rank, 1, w->stride, err));
    FT_RETURN_IF_FAILED(window_list(at, "dilations", w->rank, 1, w->dilation, err));
    FT_RETURN_IF_FAILED(pad_rule(at, &rule, err));
    for (int i = 0; i < w->rank; i++) {
        if (w->stride[i] < 1 || w->dilation[i] < 1 || w->kernel[i] < 1 || w->kernel[i] > INT32_MAX) {
            return FT_FAIL(err, INVALID, "kernel, strides and dilations are at least 1");
        }
    }
    if (rule == PAD_SAME_UPPER || rule == PAD_SAME_LOWER) {
        return same_pads(rule, x, w, err);
    }
    if (rule == PAD_GIVEN) {
        FT_RETURN_IF_FAILED(window_list(at, "pads", 2 * w->rank, 0, pads, err));
    }
    for (int i = 0; i < w->rank; i++) {
        w->pad_begin[i] = pads[i];
        w->pad_end[i] = pads[i + w->rank];
    }
    return FT_OK;
}

static enum ft_status spatial_rank(const struct ft_type *x, int *rank, struct ft_err *err)
{
    *rank = x->rank - 2;
    if (*rank < 1) {
        return FT_FAIL(err, INVALID, "its input has rank %d, wanted (N, C, ...)", x->rank);
    }
    if (*rank > 3) {
        return FT_FAIL(err, UNSUPPORTED, "windows over %d axes; 1 to 3 are done", *rank);
    }
    return FT_OK;
}

/* x and weight of a convolution; rank, kernel and group of its window. */
static enum ft_status read_conv(struct ft_at *at, struct ft_attrs *attrs, ft_value in[2], struct ft_err *err)
{
    int64_t declared[3] = {0};
    memset(attrs, 0, sizeof *attrs);
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_weight(at, 1, FT_PARAM_WEIGHT, &in[1], err));
    const struct ft_type *x = ft_at_type(at, in[0]);
    const struct ft_type *w = ft_at_type(at, in[1]);
    FT_RETURN_IF_FAILED(spatial_rank(x, &attrs->window.rank, err));
    if (w->rank != x->rank) {
        return FT_FAIL(err, INVALID, "x has rank %d, the weight %d", x->rank, w->rank);
    }
    for (int i = 0; i < attrs->window.rank; i++) {
        attrs->window.kernel[i] = w->dim[i + 2].coef;
    }
    memcpy(declared, attrs->window.kernel, sizeof declared);
    if (ft_onnx_attr(at->node, "kernel_shape") != NULL) {
        FT_RETURN_IF_FAILED(window_list(at, "kernel_shape", attrs->window.rank, 1, declared, err));
    }
    if (memcmp(declared, attrs->window.kernel, sizeof declared) != 0) {
        return FT_FAIL(err, INVALID, "kernel_shape is not the weight's");
    }
    attrs->group = 1;
    return ft_onnx_attr_int(at->node, "group", &attrs->group, err);
}

enum ft_status ft_import_conv(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    ft_value in[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    int n_in = ft_at_has(at, 2) && !ft_at_no_bias(at, 2) ? 3 : 2;
    FT_RETURN_IF_FAILED(read_conv(at, &attrs, in, err));
    if (n_in == 3) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, 2, FT_PARAM_WEIGHT, &in[2], err));
    }
    FT_RETURN_IF_FAILED(read_window(at, ft_at_type(at, in[0]), &attrs.window, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CONV, &attrs, in, n_in, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- ConvTranspose: what a convolution's gradient does to dy */

/* Pads that make the extents as asked for; what is missing is cut from both ends, evenly but for one. */
static void shared_pads(enum pad_rule rule, int64_t total, int64_t *begin, int64_t *end)
{
    total = total < 0 ? 0 : total;
    *begin = rule == PAD_SAME_UPPER ? total / 2 : total - total / 2;
    *end = total - *begin;
}

/* Pads and extents of the result. */
static enum ft_status transposed_extents(struct ft_at *at, const struct ft_type *x, struct ft_window *w,
                                         struct ft_err *err)
{
    enum pad_rule rule = PAD_GIVEN;
    int64_t extra[3] = {0};
    int64_t asked[3] = {0};
    FT_RETURN_IF_FAILED(pad_rule(at, &rule, err));
    FT_RETURN_IF_FAILED(window_list(at, "output_padding", w->rank, 0, extra, err));
    bool same = rule == PAD_SAME_UPPER || rule == PAD_SAME_LOWER;
    bool given = ft_onnx_attr(at->node, "output_shape") != NULL;
    if (given) {
        FT_RETURN_IF_FAILED(window_list(at, "output_shape", w->rank, 0, asked, err));
    }
    for (int i = 0; i < w->rank; i++) {
        struct ft_dim extent = x->dim[i + 2];
        if (!ft_dim_is_known(extent) || extent.coef > INT32_MAX) {
            return FT_FAIL(err, UNSUPPORTED, "a transposed convolution needs known extents");
        }
        int64_t full = w->stride[i] * (extent.coef - 1) + (w->kernel[i] - 1) * w->dilation[i] + 1 + extra[i];
        if (given || same) {
            w->out[i] = given ? asked[i] : extent.coef * w->stride[i];
            shared_pads(rule, full - w->out[i], &w->pad_begin[i], &w->pad_end[i]);
        } else {
            w->out[i] = full - w->pad_begin[i] - w->pad_end[i];
        }
        if (w->out[i] < 1) {
            return FT_FAIL(err, INVALID, "spatial axis %d has no extent left", i);
        }
    }
    return FT_OK;
}

/* y + b, b (M), channels on axis 1. */
static enum ft_status add_bias(struct ft_at *at, ft_value *y, struct ft_err *err)
{
    struct ft_dim shape[FT_MAX_RANK];
    ft_value both[2] = {*y, FT_NO_VALUE};
    FT_RETURN_IF_FAILED(ft_at_weight(at, 2, FT_PARAM_WEIGHT, &both[1], err));
    int rank = ft_at_type(at, *y)->rank - 1;
    for (int i = 0; i < rank; i++) {
        shape[i] = i == 0 ? ft_at_type(at, *y)->dim[1] : ft_dim_of(1);
    }
    FT_RETURN_IF_FAILED(ft_at_reshape(at, both[1], shape, rank, &both[1], err));
    return ft_at_add(at, FT_OP_ADD, NULL, both, 2, y, err);
}

enum ft_status ft_import_conv_transpose(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(read_conv(at, &attrs, in, err));
    const struct ft_type *x = ft_at_type(at, in[0]);
    FT_RETURN_IF_FAILED(read_window(at, x, &attrs.window, err));
    FT_RETURN_IF_FAILED(transposed_extents(at, x, &attrs.window, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CONV_BWD_DATA, &attrs, in, 2, &y, err));
    if (ft_at_has(at, 2) && !ft_at_no_bias(at, 2)) {
        FT_RETURN_IF_FAILED(add_bias(at, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

/* ---- pools */

/* ceil_mode: extents round up, but a window that would start in the end padding does not exist (PyTorch's
 * rule, onnxruntime's too). */
static enum ft_status ceil_extents(const struct ft_type *x, struct ft_window *w, struct ft_err *err)
{
    for (int i = 0; i < w->rank; i++) {
        struct ft_dim extent = x->dim[i + 2];
        if (!ft_dim_is_known(extent) || extent.coef > INT32_MAX) {
            return FT_FAIL(err, UNSUPPORTED, "ceil_mode needs known extents");
        }
        int64_t room =
            extent.coef + w->pad_begin[i] + w->pad_end[i] - ((w->kernel[i] - 1) * w->dilation[i] + 1);
        if (room < 0) {
            return FT_OK; /* the shape rule says what does not fit */
        }
        int64_t out = (room + w->stride[i] - 1) / w->stride[i] + 1;
        if ((out - 1) * w->stride[i] >= extent.coef + w->pad_begin[i]) {
            out--;
        }
        w->out[i] = out;
    }
    return FT_OK;
}

/* Window of a pool over x. */
static enum ft_status read_pool(struct ft_at *at, const struct ft_type *x, struct ft_attrs *attrs,
                                struct ft_err *err)
{
    int64_t ceil_mode = 0;
    memset(attrs, 0, sizeof *attrs);
    FT_RETURN_IF_FAILED(spatial_rank(x, &attrs->window.rank, err));
    if (ft_onnx_attr(at->node, "kernel_shape") == NULL) {
        return FT_FAIL(err, INVALID, "kernel_shape is missing");
    }
    FT_RETURN_IF_FAILED(window_list(at, "kernel_shape", attrs->window.rank, 1, attrs->window.kernel, err));
    FT_RETURN_IF_FAILED(read_window(at, x, &attrs->window, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "ceil_mode", &ceil_mode, err));
    return ceil_mode != 0 ? ceil_extents(x, &attrs->window, err) : FT_OK;
}

static enum ft_status pooled_integers(struct ft_at *at, ft_value *x, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_CAST_FLOAT;
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, x, err));
    return ft_at_add(at, FT_OP_CAST, &attrs, x, 1, x, err);
}

enum ft_status ft_import_pool(struct ft_at *at, int arg, struct ft_err *err)
{
    enum ft_op op = (enum ft_op)arg;
    struct ft_attrs attrs;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    int64_t include_pad = 0;
    bool integers = op == FT_OP_MAXPOOL && ft_at_dtype(at, 0) == FT_I64;
    if (integers) { /* their maximum is the same as floats of 24 bits: int8 and uint8, which ONNX allows */
        FT_RETURN_IF_FAILED(pooled_integers(at, &x, err));
    } else {
        FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    }
    FT_RETURN_IF_FAILED(read_pool(at, ft_at_type(at, x), &attrs, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "count_include_pad", &include_pad, err));
    attrs.count_include_pad = op == FT_OP_AVGPOOL && include_pad != 0;
    FT_RETURN_IF_FAILED(ft_at_add(at, op, &attrs, &x, 1, &y, err));
    if (ft_at_wants(at, 1)) {
        FT_RETURN_IF_FAILED(ft_import_max_indices(at, x, y, err));
    }
    if (integers) {
        memset(&attrs, 0, sizeof attrs);
        attrs.kind = FT_CAST_I64;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CAST, &attrs, &y, 1, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_global_pool(struct ft_at *at, int arg, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    const struct ft_type *type = ft_at_type(at, x);
    int rank = type->rank - 2;
    if (rank < 1) {
        return FT_FAIL(err, INVALID, "its input has rank %d, wanted (N, C, ...)", type->rank);
    }
    if (arg == FT_OP_REDUCE_MEAN) {
        attrs.keepdims = 1;
        attrs.axes_count = rank;
        for (int i = 0; i < rank; i++) {
            attrs.axes[i] = i + 2;
        }
    } else {
        FT_RETURN_IF_FAILED(spatial_rank(type, &attrs.window.rank, err));
        for (int i = 0; i < rank; i++) {
            if (!ft_dim_is_known(type->dim[i + 2])) {
                return ft_at_unsupported(at, err, "a global maximum needs known extents");
            }
            attrs.window.kernel[i] = type->dim[i + 2].coef;
            attrs.window.stride[i] = attrs.window.dilation[i] = 1;
        }
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, (enum ft_op)arg, &attrs, &x, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- the norm of what is under a window */

static enum ft_status lp_power(struct ft_at *at, int64_t p, bool root, ft_value *x, struct ft_err *err)
{
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    float exponent = root ? (float)(1.0 / (double)p) : (float)p;
    ft_value both[2] = {*x, *x};
    if (p == 1) {
        return FT_OK;
    }
    if (p == 2 && !root) {
        return ft_at_add(at, FT_OP_MUL, NULL, both, 2, x, err);
    }
    if (p == 2) {
        return ft_at_add(at, FT_OP_SQRT, NULL, x, 1, x, err);
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &exponent, &both[1], err));
    return ft_at_add(at, FT_OP_POW, NULL, both, 2, x, err);
}

/* |x|^p, and p itself. */
static enum ft_status lp_terms(struct ft_at *at, int64_t *p, ft_value *x, struct ft_err *err)
{
    *p = 2;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "p", p, err));
    if (*p < 1 || *p > 64) {
        return ft_at_unsupported(at, err, "a norm's p that is not within 1 to 64");
    }
    if (*p % 2 != 0) {
        struct ft_attrs attrs;
        memset(&attrs, 0, sizeof attrs);
        attrs.kind = FT_MAP_ABS;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MAP, &attrs, x, 1, x, err));
    }
    return lp_power(at, *p, false, x, err);
}

/* Taps of window o that an average counts: those on x and its pads. */
static int64_t counted_taps(const struct ft_window *w, int i, int64_t extent, int64_t o)
{
    int64_t room = extent + w->pad_end[i] - (o * w->stride[i] - w->pad_begin[i]);
    int64_t taps = (room + w->dilation[i] - 1) / w->dilation[i];
    return taps < w->kernel[i] ? taps : w->kernel[i];
}

/* An average times what it was divided by. */
static enum ft_status undo_average(struct ft_at *at, const struct ft_window *w, const struct ft_type *x,
                                   ft_value *y, struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, *y);
    ft_value both[2] = {*y, FT_NO_VALUE};
    float *counts = NULL;
    int64_t count = 1;
    type.dim[0] = type.dim[1] = ft_dim_of(1);
    for (int i = 2; i < type.rank; i++) {
        count *= type.dim[i].coef;
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)count, sizeof *counts, &counts, err));
    for (int64_t k = 0; k < count; k++) {
        int64_t rest = k;
        counts[k] = 1.0F;
        for (int i = w->rank - 1; i >= 0; i--) {
            int64_t extent = type.dim[i + 2].coef;
            counts[k] *= (float)counted_taps(w, i, x->dim[i + 2].coef, rest % extent);
            rest /= extent;
        }
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &type, counts, &both[1], err));
    return ft_at_add(at, FT_OP_MUL, NULL, both, 2, y, err);
}

enum ft_status ft_import_lp_pool(struct ft_at *at, int global, struct ft_err *err)
{
    struct ft_attrs attrs;
    int64_t p = 0;
    ft_value x = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &x, err));
    struct ft_type type = *ft_at_type(at, x);
    FT_RETURN_IF_FAILED(lp_terms(at, &p, &x, err));
    if (global) {
        memset(&attrs, 0, sizeof attrs);
        attrs.keepdims = 1;
        for (int i = 2; i < type.rank; i++) {
            attrs.axes[attrs.axes_count++] = i;
        }
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_SUM, &attrs, &x, 1, &x, err));
    } else {
        FT_RETURN_IF_FAILED(read_pool(at, &type, &attrs, err));
        attrs.count_include_pad = 1;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_AVGPOOL, &attrs, &x, 1, &x, err));
        FT_RETURN_IF_FAILED(undo_average(at, &attrs.window, &type, &x, err));
    }
    FT_RETURN_IF_FAILED(lp_power(at, p, true, &x, err));
    return ft_at_set(at, 0, x, err);
}

/* ---- batch normalisation */

/* ONNX weighs the old statistics: 0.9 in the file is PyTorch's 0.1, exactly so after rounding to millionths.
 */
static enum ft_status batchnorm_momentum(const struct ft_at *at, float *momentum, struct ft_err *err)
{
    float old = 0.9F;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "momentum", &old, err));
    if (!(old >= 0.0F && old <= 1.0F)) {
        return FT_FAIL(err, INVALID, "momentum %g is not within 0 and 1", (double)old);
    }
    *momentum = (float)(round((1.0 - (double)old) * 1e6) / 1e6);
    return FT_OK;
}

enum ft_status ft_import_batchnorm(struct ft_at *at, int arg, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value in[5];
    ft_value y = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    /* training_mode = 1 comes from a module exported in train(): its batch statistics are outputs nobody
     * reads. What the module is, with its running statistics, is the same. */
    for (int i = 1; i < at->node->n_out; i++) {
        if (ft_at_wants(at, i)) {
            return at->opset >= 14 ? ft_import_batch_statistics(at, arg, err)
                                   : ft_at_unsupported(at, err, "the statistics of a batch are read");
        }
    }
    int64_t spatial = 1; /* until opset 8: 0 = statistics of each position, not of each channel */
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "spatial", &spatial, err));
    if (spatial == 0) {
        return ft_at_unsupported(at, err, "spatial = 0: statistics of each position");
    }
    attrs.eps = 1e-5F;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "epsilon", &attrs.eps, err));
    FT_RETURN_IF_FAILED(batchnorm_momentum(at, &attrs.momentum, err));
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    for (int i = 1; i < 5; i++) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, i, i < 3 ? FT_PARAM_WEIGHT : FT_PARAM_STATE, &in[i], err));
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_BATCHNORM, &attrs, in, 5, &y, err));
    return ft_at_set(at, 0, y, err);
}
