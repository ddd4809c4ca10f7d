#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/bf16.h"

static enum ft_status run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                          void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct ft_ref_kernel *k = (const struct ft_ref_kernel *)(const void *)kernel;
    if (k->checked != NULL) {
        return k->checked(k, in, out, err);
    }
    k->body(k, in, out);
    return FT_OK;
}

static void free_kernel(struct ft_kernel *kernel)
{
    ft_free(kernel);
}

static enum ft_status check_layout(const char *op, const struct ft_type *t, struct ft_err *err)
{
    if (t->layout != FT_ROW_MAJOR) {
        return FT_FAIL(err, UNSUPPORTED, "%s: device ref is row-major only", op);
    }
    return FT_OK;
}

enum ft_status ft_ref_new(struct ft_device *device, const struct ft_call *call, ft_ref_body body,
                          struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(call->op);
    size_t types_bytes = (size_t)call->n_in * sizeof *call->in;
    struct ft_ref_kernel *k = NULL;
    for (int i = 0; i < call->n_in; i++) {
        FT_RETURN_IF_FAILED(check_layout(info->name, &call->in[i], err));
    }
    for (int i = 0; i < info->outputs; i++) {
        FT_RETURN_IF_FAILED(check_layout(info->name, &call->out[i], err));
    }
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *k + types_bytes, &k, err));
    k->head.device = device;
    k->head.op = call->op;
    k->head.run = run;
    k->head.free = free_kernel;
    k->body = body;
    k->attrs = call->attrs;
    k->n_in = call->n_in;
    k->in = (struct ft_type *)(void *)(k + 1);
    memcpy(k->in, call->in, types_bytes);
    memcpy(k->out, call->out, (size_t)info->outputs * sizeof *call->out);
    *kernel = &k->head;
    *scratch = 0;
    return FT_OK;
}

enum ft_status ft_ref_new_checked(struct ft_device *device, const struct ft_call *call,
                                  ft_ref_checked_body body, struct ft_kernel **kernel, size_t *scratch,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_ref_new(device, call, NULL, kernel, scratch, err));
    ((struct ft_ref_kernel *)(void *)*kernel)->checked = body;
    return FT_OK;
}

void ft_ref_move(const struct ft_type *t, void *y, int64_t i, const void *x, int64_t j)
{
    size_t size = ft_dtype_size(t->dtype);
    memcpy((char *)y + (size_t)i * size, (const char *)x + (size_t)j * size, size);
}

void ft_ref_split(const struct ft_type *t, int64_t index, int64_t at[FT_MAX_RANK])
{
    for (int i = t->rank - 1; i >= 0; i--) {
        at[i] = index % ft_extent(t, i);
        index /= ft_extent(t, i);
    }
}

int64_t ft_ref_join(const struct ft_type *t, const int64_t at[FT_MAX_RANK])
{
    int64_t index = 0;
    for (int i = 0; i < t->rank; i++) {
        index = index * ft_extent(t, i) + at[i];
    }
    return index;
}

int64_t ft_ref_broadcast(const struct ft_type *large, int64_t index, const struct ft_type *small)
{
    int64_t at[FT_MAX_RANK];
    int64_t result = 0;
    ft_ref_split(large, index, at);
    for (int i = 0; i < small->rank; i++) {
        int64_t extent = ft_extent(small, i);
        result = result * extent + (extent == 1 ? 0 : at[large->rank - small->rank + i]);
    }
    return result;
}

int64_t ft_ref_extent(const struct ft_type *t, int from, int to)
{
    int64_t product = 1;
    for (int i = from; i < to; i++) {
        product *= ft_extent(t, i);
    }
    return product;
}

void ft_ref_zero(const struct ft_type *t, double *data)
{
    memset(data, 0, ft_type_bytes(t));
}

struct ft_ref_window ft_ref_window_of(const struct ft_window *w, const struct ft_type *x,
                                      const struct ft_type *y)
{
    struct ft_ref_window r;
    r.in_plane = r.out_plane = r.taps = 1;
    for (int i = 0; i < 3; i++) {
        int from = i - 3 + w->rank;
        bool there = from >= 0;
        r.in[i] = there ? ft_extent(x, from + 2) : 1;
        r.out[i] = there ? ft_extent(y, from + 2) : 1;
        r.kernel[i] = there ? w->kernel[from] : 1;
        r.stride[i] = there ? w->stride[from] : 1;
        r.dilation[i] = there ? w->dilation[from] : 1;
        r.pad_begin[i] = there ? w->pad_begin[from] : 0;
        r.pad_end[i] = there ? w->pad_end[from] : 0;
        r.in_plane *= r.in[i];
        r.out_plane *= r.out[i];
        r.taps *= r.kernel[i];
    }
    return r;
}

int64_t ft_ref_tap(const struct ft_ref_window *g, int64_t o, int64_t tap, bool *counted)
{
    int64_t index = 0;
    int64_t step = 1;
    bool inside = true;
    *counted = true;
    for (int i = 2; i >= 0; i--) {
        int64_t at = o % g->out[i] * g->stride[i] - g->pad_begin[i] + tap % g->kernel[i] * g->dilation[i];
        o /= g->out[i];
        tap /= g->kernel[i];
        inside = inside && at >= 0 && at < g->in[i];
        *counted = *counted && at < g->in[i] + g->pad_end[i];
        index += at * step;
        step *= g->in[i];
    }
    return inside ? index : -1;
}

/* ---- the device */

static void layouts(enum ft_op op, const struct ft_attrs *attrs, int n_in, enum ft_layout *in,
                    enum ft_layout *out, bool *follow)
{
    (void)attrs;
    for (int i = 0; i < n_in; i++) {
        in[i] = FT_ROW_MAJOR;
    }
    for (int i = 0; i < ft_op_info(op)->outputs; i++) {
        out[i] = FT_ROW_MAJOR;
    }
    *follow = false;
}

/* ---- bf16 */

static void widen(struct ft_device *device, const uint16_t *from, void *floats, int64_t n)
{
    double *to = floats;
    (void)device;
    for (int64_t i = 0; i < n; i++) {
        to[i] = (double)ft_bf16_to(from[i]);
    }
}

/* Once, not by way of a float: odd rounding of the double to one keeps on which side of a tie it lies. */
static void narrow(struct ft_device *device, const void *floats, uint16_t *to, int64_t n)
{
    const double *from = floats;
    (void)device;
    for (int64_t i = 0; i < n; i++) {
        float x = (float)from[i];
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        if (isfinite(x) && (double)x != from[i]) {
            bits -= fabs((double)x) > fabs(from[i]); /* towards zero */
            bits |= 1U;
            memcpy(&x, &bits, sizeof bits);
        }
        to[i] = ft_bf16_of(x);
    }
}

static enum ft_status wait_none(struct ft_device *device, struct ft_err *err)
{
    (void)device;
    (void)err;
    return FT_OK; /* a run is done when it returns */
}

static void close_device(struct ft_device *device)
{
    ft_free(device);
}

enum ft_status ft_ref_open(struct ft_device **device, struct ft_err *err)
{
    static const struct ft_device_table table = {
        .name = "ref",
        .float_dtype = FT_F64,
        .prepare =
            {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) [FT_OP_##NAME] = ft_ref_##name,
#include "kernels/ops.def"
#undef FT_OP
            },
        .widen = widen,
        .narrow = narrow,
        .layouts = layouts,
        .wait = wait_none,
        .close = close_device,
    };
    struct ft_device *d = NULL;
    *device = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *d, &d, err));
    d->table = &table;
    *device = d;
    return FT_OK;
}

struct ft_ref_epilogue ft_ref_epilogue_of(const struct ft_ref_kernel *k, const struct ft_arg *in)
{
    struct ft_ref_epilogue e = {NULL, NULL};
    if (k->n_in - (k->attrs.residual != 0) == 3) {
        e.bias = in[2].data;
    }
    if (k->attrs.residual != 0) {
        e.residual = in[k->n_in - 1].data;
    }
    return e;
}

double ft_ref_act(const struct ft_attrs *a, double x)
{
    switch (a->act) {
    case FT_ACT_RELU:
        return x < 0.0 ? 0.0 : x;
    case FT_ACT_LEAKY_RELU:
        return x > 0.0 ? x : (double)a->act_a * x;
    case FT_ACT_CLIP:
        return x < (double)a->act_a ? (double)a->act_a : x > (double)a->act_b ? (double)a->act_b : x;
    case FT_ACT_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case FT_ACT_TANH:
        return tanh(x);
    case FT_ACT_GELU:
        return ft_map_value(FT_MAP_GELU, x, 0.0, 0.0);
    case FT_ACT_GELU_TANH:
        return ft_map_value(FT_MAP_GELU_TANH, x, 0.0, 0.0);
    case FT_ACT_SILU:
        return ft_map_value(FT_MAP_SILU, x, (double)a->act_a, 0.0);
    case FT_ACT_HARD_SWISH:
        return ft_map_value(FT_MAP_HARD_SWISH, x, 0.0, 0.0);
    case FT_ACT_NONE:
    case FT_ACT_COUNT:
        break;
    }
    return x;
}
