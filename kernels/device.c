#include "kernels/internal.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/check.h"

const struct ft_op_info *ft_op_info(enum ft_op op)
{
    static const struct ft_op_info infos[FT_OP_COUNT] = {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) {#name, IN_MIN, IN_MAX, OUTPUTS, LIKE},
#include "kernels/ops.def"
#undef FT_OP
    };
    assert((int)op >= 0 && op < FT_OP_COUNT);
    return &infos[op];
}

/* ---- devices */

enum ft_status ft_device_open(const char *name, int threads, struct ft_device **device, struct ft_err *err)
{
    *device = NULL;
    if (threads < 0) {
        return FT_FAIL(err, INVALID, "a device cannot have %d threads", threads);
    }
    if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0) {
        return ft_cpu_open(threads, device, err);
    }
    if (strcmp(name, "ref") == 0) {
        return ft_ref_open(device, err);
    }
    if (strcmp(name, "cuda") == 0) {
        return FT_FAIL(err, UNAVAILABLE,
                       "device cuda: this build has no CUDA plug-in (there are cpu and ref)");
    }
    return FT_FAIL(err, NOT_FOUND, "there is no device \"%.64s\" (there are cpu, ref and auto)", name);
}

void ft_device_close(struct ft_device *device)
{
    if (device != NULL) {
        device->table->close(device);
    }
}

const char *ft_device_name(const struct ft_device *device)
{
    return device->table->name;
}

enum ft_dtype ft_device_float(const struct ft_device *device)
{
    return device->table->float_dtype;
}

/* Both devices of this build keep their data in host memory. */

enum ft_status ft_device_alloc(struct ft_device *device, size_t bytes, void **data, struct ft_err *err)
{
    (void)device;
    *data = NULL;
    return ft_new(1, bytes, data, err);
}

void ft_device_free(struct ft_device *device, void *data)
{
    (void)device;
    ft_free(data);
}

enum ft_status ft_device_upload(struct ft_device *device, void *to, const void *from, size_t bytes,
                                struct ft_err *err)
{
    FT_RETURN_IF_FAILED(device->table->wait(device, err));
    memcpy(to, from, bytes);
    return FT_OK;
}

enum ft_status ft_device_download(struct ft_device *device, void *to, const void *from, size_t bytes,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(device->table->wait(device, err));
    memcpy(to, from, bytes);
    return FT_OK;
}

enum ft_status ft_device_wait(struct ft_device *device, struct ft_err *err)
{
    return device->table->wait(device, err);
}

/* ---- kernels */

void ft_kernel_layouts(const struct ft_device *device, enum ft_op op, const struct ft_attrs *attrs, int n_in,
                       enum ft_layout *in, enum ft_layout *out, bool *follow)
{
    device->table->layouts(op, attrs, n_in, in, out, follow);
}

static enum ft_status check_call_type(const struct ft_device *device, const char *op, const char *side, int i,
                                      const struct ft_type *t, struct ft_err *err)
{
    if (!ft_type_is_known(t)) {
        return FT_FAIL(err, INVALID, "%s: %s %d is %s: a kernel needs known extents", op, side, i,
                       FT_SHOW(t));
    }
    if (t->layout == FT_CHANNELS_LAST && t->rank != 4) {
        return FT_FAIL(err, INVALID, "%s: %s %d is %s: only rank 4 can be channels-last", op, side, i,
                       FT_SHOW(t));
    }
    enum ft_dtype floats = device->table->float_dtype;
    if ((t->dtype == FT_F32 || t->dtype == FT_F64) && t->dtype != floats) {
        return FT_FAIL(err, INVALID, "%s: %s %d is %s: floats of device %s are %s", op, side, i, FT_SHOW(t),
                       device->table->name, ft_dtype_name(floats));
    }
    return FT_OK;
}

static enum ft_status check_call(const struct ft_device *device, const struct ft_call *call,
                                 struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(call->op);
    struct ft_type want[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(ft_op_infer(call->op, &call->attrs, call->in, call->n_in, want, err));
    for (int i = 0; i < call->n_in; i++) {
        FT_RETURN_IF_FAILED(check_call_type(device, info->name, "input", i, &call->in[i], err));
    }
    for (int i = 0; i < info->outputs; i++) {
        const struct ft_type *t = &call->out[i];
        FT_RETURN_IF_FAILED(check_call_type(device, info->name, "output", i, t, err));
        if (t->dtype != want[i].dtype || !ft_type_same_shape(t, &want[i])) {
            return FT_FAIL(err, INVALID, "%s: output %d is given as %s, its inputs make it %s", info->name, i,
                           FT_SHOW(t), FT_SHOW(&want[i]));
        }
    }
    return FT_OK;
}

enum ft_status ft_kernel_prepare(struct ft_device *device, const struct ft_call *call,
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *kernel = NULL;
    *scratch = 0;
    FT_RETURN_IF_FAILED(check_call(device, call, err));
    ft_prepare prepare = device->table->prepare[call->op];
    if (prepare == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "device %s has no kernel for op %s", device->table->name,
                       ft_op_info(call->op)->name);
    }
    return prepare(device, call, kernel, scratch, err);
}

enum ft_status ft_kernel_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                             void *scratch, struct ft_err *err)
{
    return kernel->run(kernel, in, out, scratch, err);
}

void ft_kernel_free(struct ft_kernel *kernel)
{
    if (kernel != NULL) {
        kernel->free(kernel);
    }
}

/* ---- reorder */

/* Where plane p of a (N, C, H, W) tensor and its pixels lie: element (n, c, h, w) is at n * image + c *
 * channel + (h * W + w) * pixel. */
struct strides {
    int64_t image, channel, pixel;
};

static struct strides strides_of(enum ft_layout layout, int64_t channels, int64_t plane)
{
    struct strides s = {.image = channels * plane, .channel = plane, .pixel = 1};
    if (layout == FT_CHANNELS_LAST) {
        s.channel = 1;
        s.pixel = channels;
    }
    return s;
}

static double load_float(enum ft_dtype dtype, const void *data, int64_t i)
{
    return dtype == FT_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static void store_float(enum ft_dtype dtype, void *data, int64_t i, double v)
{
    if (dtype == FT_F64) {
        ((double *)data)[i] = v;
    } else {
        ((float *)data)[i] = (float)v;
    }
}

static void move_element(enum ft_dtype from_dtype, const void *from, int64_t i, enum ft_dtype to_dtype,
                         void *to, int64_t j)
{
    if (from_dtype == to_dtype) {
        int64_t size = (int64_t)ft_dtype_size(to_dtype);
        memcpy((char *)to + j * size, (const char *)from + i * size, (size_t)size);
    } else {
        store_float(to_dtype, to, j, load_float(from_dtype, from, i));
    }
}

/* The case that plans run: float32 both sides. Blocks keep both the reading and the writing side in cache. */
static void reorder_image_f32(const float *from, struct strides f, float *to, struct strides t,
                              int64_t channels, int64_t plane)
{
    enum { BLOCK = 16 };
    for (int64_t c0 = 0; c0 < channels; c0 += BLOCK) {
        int64_t c1 = c0 + BLOCK < channels ? c0 + BLOCK : channels;
        for (int64_t p0 = 0; p0 < plane; p0 += BLOCK) {
            int64_t p1 = p0 + BLOCK < plane ? p0 + BLOCK : plane;
            for (int64_t c = c0; c < c1; c++) {
                for (int64_t p = p0; p < p1; p++) {
                    to[c * t.channel + p * t.pixel] = from[c * f.channel + p * f.pixel];
                }
            }
        }
    }
}

static void reorder_planes(const struct ft_type *from_type, const void *from, const struct ft_type *to_type,
                           void *to)
{
    int64_t images = ft_extent(from_type, 0);
    int64_t channels = ft_extent(from_type, 1);
    int64_t plane = ft_extent(from_type, 2) * ft_extent(from_type, 3);
    struct strides f = strides_of(from_type->layout, channels, plane);
    struct strides t = strides_of(to_type->layout, channels, plane);
    for (int64_t n = 0; n < images; n++) {
        if (from_type->dtype == FT_F32 && to_type->dtype == FT_F32) {
            reorder_image_f32((const float *)from + n * f.image, f, (float *)to + n * t.image, t, channels,
                              plane);
            continue;
        }
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t p = 0; p < plane; p++) {
                move_element(from_type->dtype, from, n * f.image + c * f.channel + p * f.pixel,
                             to_type->dtype, to, n * t.image + c * t.channel + p * t.pixel);
            }
        }
    }
}

static bool is_float(const struct ft_type *t)
{
    return t->dtype == FT_F32 || t->dtype == FT_F64;
}

enum ft_status ft_reorder(struct ft_device *device, const struct ft_type *from_type, const void *from,
                          const struct ft_type *to_type, void *to, struct ft_err *err)
{
    bool known = ft_type_is_known(from_type) && ft_type_is_known(to_type);
    if (!known || !ft_type_same_shape(from_type, to_type)) {
        return FT_FAIL(err, INVALID, "reorder: %s and %s are not one known shape", FT_SHOW(from_type),
                       FT_SHOW(to_type));
    }
    bool same_layout = from_type->layout == to_type->layout;
    if (!same_layout && from_type->rank != 4) {
        return FT_FAIL(err, INVALID, "reorder: %s has one layout only", FT_SHOW(from_type));
    }
    bool floats = is_float(from_type) && is_float(to_type);
    if (!floats && from_type->dtype != to_type->dtype) {
        return FT_FAIL(err, UNSUPPORTED, "reorder: %s to %s (only floats change type)", FT_SHOW(from_type),
                       FT_SHOW(to_type));
    }
    FT_RETURN_IF_FAILED(device->table->wait(device, err));
    if (!same_layout) {
        reorder_planes(from_type, from, to_type, to);
    } else if (from_type->dtype == to_type->dtype) {
        memmove(to, from, ft_type_bytes(from_type));
    } else {
        int64_t count = ft_elements(from_type);
        for (int64_t i = 0; i < count; i++) {
            store_float(to_type->dtype, to, i, load_float(from_type->dtype, from, i));
        }
    }
    return FT_OK;
}
