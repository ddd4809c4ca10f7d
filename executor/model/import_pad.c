#include <string.h>

#include "executor/model/import.h"

/* Pad and Tile: more elements along some axes. */

/* ---- Pad */

enum { FLOAT_INTS = 1 << 24 }; /* up to here every integer is a float */

struct pads {
    enum ft_pad mode;
    int64_t begin[FT_MAX_RANK], end[FT_MAX_RANK];
    float value;
};

static enum ft_status read_mode(struct ft_at *at, enum ft_pad *mode, struct ft_err *err)
{
    static const char *const names[] = {[FT_PAD_CONSTANT] = "constant",
                                        [FT_PAD_REFLECT] = "reflect",
                                        [FT_PAD_EDGE] = "edge",
                                        [FT_PAD_WRAP] = "wrap"};
    struct ft_bytes text = ft_bytes_of_text("constant");
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, "mode", &text, err));
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (ft_bytes_is(text, names[i])) {
            *mode = (enum ft_pad)i;
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "mode '%.*s' is unknown", ft_bytes_shown(text), text.data);
}

/* The constant: an attribute before opset 11, then a scalar of x's type. */
static enum ft_status read_value(struct ft_at *at, float *value, struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, 2);
    *value = 0.0F;
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "value", value, err));
    if (!ft_at_has(at, 2)) {
        return FT_OK;
    }
    if (h == NULL || h->count != 1 || (ft_host_is_int(h) && !ft_dim_is_known(h->ints[0]))) {
        return ft_at_unsupported(at, err, "a constant value that depends on data");
    }
    if (ft_host_is_int(h) && (h->ints[0].coef < -FLOAT_INTS || h->ints[0].coef > FLOAT_INTS)) {
        return ft_at_unsupported(at, err, "a constant integer beyond 2^24");
    }
    *value = ft_host_is_int(h) ? (float)h->ints[0].coef : ft_host_float(h, 0);
    return FT_OK;
}

static enum ft_status read_pads(struct ft_at *at, int rank, struct pads *p, struct ft_err *err)
{
    int64_t *pads = NULL;
    int64_t *axes = NULL;
    int count = 0;
    int n_axes = 0;
    memset(p, 0, sizeof *p);
    FT_RETURN_IF_FAILED(read_mode(at, &p->mode, err));
    FT_RETURN_IF_FAILED(read_value(at, &p->value, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "pads", 1, &pads, &count, err));
    FT_RETURN_IF_FAILED(ft_at_list(at, "axes", 3, &axes, &n_axes, err));
    n_axes = n_axes < 0 ? rank : n_axes;
    if (count != 2 * n_axes || n_axes > rank) {
        return FT_FAIL(err, INVALID, "%d pads for %d axes", count, n_axes);
    }
    for (int i = 0; i < n_axes; i++) {
        int axis = i;
        if (axes != NULL) {
            FT_RETURN_IF_FAILED(ft_at_axis(at, axes[i], rank, &axis, err));
        }
        if (pads[i] < -INT32_MAX || pads[i] > INT32_MAX || pads[i + n_axes] < -INT32_MAX ||
            pads[i + n_axes] > INT32_MAX) {
            return FT_FAIL(err, LIMIT, "pads %lld and %lld are too large", (long long)pads[i],
                           (long long)pads[i + n_axes]);
        }
        p->begin[axis] = pads[i];
        p->end[axis] = pads[i + n_axes];
    }
    return FT_OK;
}

/* Negative pads take elements away before anything is added. */
static enum ft_status crop(struct ft_at *at, struct pads *p, ft_value *x, struct ft_err *err)
{
    for (int i = 0; i < ft_at_type(at, *x)->rank; i++) {
        struct ft_dim extent = ft_at_type(at, *x)->dim[i];
        struct ft_attrs attrs;
        if (p->begin[i] >= 0 && p->end[i] >= 0) {
            continue;
        }
        if (!ft_dim_is_known(extent)) {
            return ft_at_unsupported(at, err, "the batch is cropped");
        }
        memset(&attrs, 0, sizeof attrs);
        attrs.axis = i;
        attrs.start = p->begin[i] < 0 ? -p->begin[i] : 0;
        attrs.count = extent.coef - attrs.start + (p->end[i] < 0 ? p->end[i] : 0);
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SLICE, &attrs, x, 1, x, err));
        p->begin[i] = p->begin[i] < 0 ? 0 : p->begin[i];
        p->end[i] = p->end[i] < 0 ? 0 : p->end[i];
    }
    return FT_OK;
}

enum ft_status ft_import_pad(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_dim dims[FT_MAX_RANK];
    struct ft_attrs attrs;
    struct pads p;
    ft_value x = FT_NO_VALUE;
    int rank = 0;
    bool nothing = true;
    ft_at_shape(at, dims, &rank);
    FT_RETURN_IF_FAILED(read_pads(at, rank, &p, err));
    for (int i = 0; i < rank; i++) {
        nothing = nothing && p.begin[i] == 0 && p.end[i] == 0;
    }
    if (nothing) { /* left over by some exporters */
        return ft_at_pass(at, err);
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    FT_RETURN_IF_FAILED(crop(at, &p, &x, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = (int)p.mode;
    attrs.alpha = p.value;
    nothing = true;
    for (int i = 0; i < rank; i++) {
        attrs.pad_begin[i] = p.begin[i];
        attrs.pad_end[i] = p.end[i];
        nothing = nothing && p.begin[i] == 0 && p.end[i] == 0;
    }
    if (!nothing) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_PAD, &attrs, &x, 1, &x, err));
    }
    return ft_at_set(at, 0, x, err);
}

/* ---- Tile */

/* x (before, extent, after) -> (before, times, extent, after): one axis more, along which x is repeated. */
static enum ft_status repeat_axis(struct ft_at *at, int axis, int64_t times, ft_value *x, struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, *x);
    struct ft_type ones_type = ft_type_of(FT_F32, 2, (const int64_t[]){times, 1});
    struct ft_dim flat[3] = {ft_dim_of(1), ft_dim_of(1), ft_dim_of(1)};
    ft_value both[2] = {FT_NO_VALUE, FT_NO_VALUE};
    float *ones = NULL;
    for (int i = 0; i < type.rank; i++) {
        struct ft_dim *to = &flat[i < axis ? 0 : 2];
        if (!ft_dim_mul(*to, type.dim[i], to)) {
            return FT_FAIL(err, LIMIT, "the tensor is too large");
        }
    }
    if (times > FT_HOST_INTS_MAX || !ft_dim_mul(type.dim[axis], ft_dim_of(times), &type.dim[axis])) {
        return FT_FAIL(err, LIMIT, "axis %d is repeated %lld times", axis, (long long)times);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)times, sizeof *ones, &ones, err));
    for (int64_t i = 0; i < times; i++) {
        ones[i] = 1.0F;
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &ones_type, ones, &both[1], err));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, *x, flat, 3, &both[0], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MUL, NULL, both, 2, x, err));
    return ft_at_reshape(at, *x, type.dim, type.rank, x, err);
}

/* Integers and booleans: there is no 1 to multiply all of them with. */
static enum ft_status repeat_others(struct ft_at *at, int axis, int64_t times, ft_value *x,
                                    struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value in[256];
    if (times > 256) {
        return ft_at_unsupported(at, err, "more than 256 copies of integers");
    }
    for (int64_t i = 0; i < times; i++) {
        in[i] = *x;
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = axis;
    return ft_at_add(at, FT_OP_CONCAT, &attrs, in, (int)times, x, err);
}

enum ft_status ft_import_tile(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    int64_t *repeats = NULL;
    int count = 0;
    ft_value x = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_ints(at, 1, &repeats, &count, err));
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    if (count != ft_at_type(at, x)->rank) {
        return FT_FAIL(err, INVALID, "%d repeats for rank %d", count, ft_at_type(at, x)->rank);
    }
    for (int i = 0; i < count; i++) {
        if (repeats[i] < 1) {
            return repeats[i] < 0 ? FT_FAIL(err, INVALID, "repeat %d is %lld", i, (long long)repeats[i])
                                  : ft_at_unsupported(at, err, "an empty tensor");
        }
        if (repeats[i] > 1 && ft_at_type(at, x)->dtype == FT_F32) {
            FT_RETURN_IF_FAILED(repeat_axis(at, i, repeats[i], &x, err));
        } else if (repeats[i] > 1) {
            FT_RETURN_IF_FAILED(repeat_others(at, i, repeats[i], &x, err));
        }
    }
    return ft_at_set(at, 0, x, err);
}
