#include "executor/train/flat.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"

enum ft_status ft_flat_init(struct ft_flat *flat, struct ft_device *device, size_t count, struct ft_err *err)
{
    memset(flat, 0, sizeof *flat);
    flat->device = device;
    flat->dtype = ft_device_float(device);
    flat->count = count;
    size_t bytes = 0;
    if (!ft_mul_size(count, ft_dtype_size(flat->dtype), &bytes)) {
        return FT_FAIL(err, LIMIT, "%zu numbers do not fit any memory", count);
    }
    if (count == 0) {
        return FT_OK;
    }
    enum ft_status st = ft_device_alloc(device, bytes, &flat->data, err);
    if (st == FT_OK && flat->dtype == FT_F64) {
        st = ft_new(count, sizeof(double), &flat->staging, err);
    }
    if (st != FT_OK) {
        ft_flat_release(flat);
    }
    return st;
}

void ft_flat_release(struct ft_flat *flat)
{
    if (flat->data != NULL) {
        ft_device_free(flat->device, flat->data);
    }
    ft_free(flat->staging);
    memset(flat, 0, sizeof *flat);
}

size_t ft_flat_bytes(const struct ft_flat *flat)
{
    return flat->count * ft_dtype_size(flat->dtype);
}

void *ft_flat_at(const struct ft_flat *flat, size_t element)
{
    assert(element <= flat->count);
    return (char *)flat->data + element * ft_dtype_size(flat->dtype);
}

enum ft_status ft_flat_put(struct ft_flat *flat, size_t at, const float *from, size_t count,
                           struct ft_err *err)
{
    assert(at <= flat->count && count <= flat->count - at);
    if (count == 0) {
        return FT_OK;
    }
    if (flat->dtype == FT_F32) {
        return ft_device_upload(flat->device, ft_flat_at(flat, at), from, count * sizeof(float), err);
    }
    for (size_t i = 0; i < count; i++) {
        flat->staging[i] = (double)from[i];
    }
    return ft_device_upload(flat->device, ft_flat_at(flat, at), flat->staging, count * sizeof(double), err);
}

enum ft_status ft_flat_get(struct ft_flat *flat, size_t at, float *to, size_t count, struct ft_err *err)
{
    assert(at <= flat->count && count <= flat->count - at);
    if (count == 0) {
        return FT_OK;
    }
    if (flat->dtype == FT_F32) {
        return ft_device_download(flat->device, to, ft_flat_at(flat, at), count * sizeof(float), err);
    }
    FT_RETURN_IF_FAILED(
        ft_device_download(flat->device, flat->staging, ft_flat_at(flat, at), count * sizeof(double), err));
    for (size_t i = 0; i < count; i++) {
        to[i] = (float)flat->staging[i];
    }
    return FT_OK;
}

enum ft_status ft_flat_save(const struct ft_flat *flat, void *to, struct ft_err *err)
{
    return flat->count == 0 ? FT_OK
                            : ft_device_download(flat->device, to, flat->data, ft_flat_bytes(flat), err);
}

enum ft_status ft_flat_load(struct ft_flat *flat, const void *from, struct ft_err *err)
{
    return flat->count == 0 ? FT_OK
                            : ft_device_upload(flat->device, flat->data, from, ft_flat_bytes(flat), err);
}

enum ft_status ft_one_init(struct ft_one *one, struct ft_device *device, enum ft_op op,
                           const struct ft_attrs *attrs, const size_t *extents, int n_in, struct ft_err *err)
{
    enum { INPUTS = 8 };
    struct ft_type in[INPUTS];
    struct ft_type out[FT_MAX_OUTPUTS];
    struct ft_call call;
    size_t scratch = 0;
    memset(one, 0, sizeof *one);
    memset(&call, 0, sizeof call);
    assert(n_in <= INPUTS);
    one->device = device;
    for (int i = 0; i < n_in; i++) {
        int64_t extent = (int64_t)extents[i];
        in[i] = ft_type_of(ft_device_float(device), extent > 0 ? 1 : 0, &extent);
    }
    FT_RETURN_IF_FAILED(ft_op_infer(op, attrs, in, n_in, out, err));
    call.op = op;
    call.attrs = *attrs;
    call.n_in = n_in;
    call.in = in;
    call.out = out;
    FT_RETURN_IF_FAILED(ft_kernel_prepare(device, &call, &one->kernel, &scratch, err));
    enum ft_status st = FT_OK;
    if (scratch > 0) {
        st = ft_device_alloc(device, scratch, &one->scratch, err);
    }
    if (st != FT_OK) {
        ft_one_release(one);
    }
    return st;
}

enum ft_status ft_one_run(struct ft_one *one, const struct ft_arg *in, const struct ft_arg *out,
                          struct ft_err *err)
{
    return ft_kernel_run(one->kernel, in, out, one->scratch, err);
}

void ft_one_release(struct ft_one *one)
{
    ft_kernel_free(one->kernel);
    if (one->scratch != NULL) {
        ft_device_free(one->device, one->scratch);
    }
    memset(one, 0, sizeof *one);
}
