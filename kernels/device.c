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

bool ft_device_fuses(const struct ft_device *device)
{
    return device->table->fuses;
}

/* ---- precision */

const char *ft_precision_name(enum ft_precision precision)
{
    static const char *const names[FT_PRECISION_COUNT] = {[FT_PRECISION_F32] = "f32",
                                                          [FT_PRECISION_BF16] = "bf16",
                                                          [FT_PRECISION_BF16_EMULATED] = "bf16-emulated",
                                                          [FT_PRECISION_INT8] = "int8"};
    assert((int)precision >= 0 && precision < FT_PRECISION_COUNT);
    return names[precision];
}

enum ft_status ft_precision_parse(const char *name, enum ft_precision *precision, struct ft_err *err)
{
    for (int p = 0; p < FT_PRECISION_COUNT; p++) {
        if (strcmp(name, ft_precision_name((enum ft_precision)p)) == 0) {
            *precision = (enum ft_precision)p;
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "precision is \"%.64s\", wanted f32, bf16, bf16-emulated or int8", name);
}

enum ft_status ft_device_set_precision(struct ft_device *device, enum ft_precision precision,
                                       struct ft_err *err)
{
    if (precision == FT_PRECISION_BF16 && device->table->check_bf16 != NULL) {
        FT_RETURN_IF_FAILED(device->table->check_bf16(device, err));
    }
    device->precision = precision;
    return FT_OK;
}

const char *ft_device_precision_note(const struct ft_device *device)
{
    bool asks = device->precision == FT_PRECISION_BF16 && device->table->bf16_note != NULL;
    return asks ? device->table->bf16_note(device) : NULL;
}

enum ft_precision ft_device_precision(const struct ft_device *device)
{
    return device->precision;
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

bool ft_kernel_adds_in_place(const struct ft_device *device, const struct ft_call *call)
{
    return call->attrs.residual != 0 && device->table->adds_in_place != NULL &&
           device->table->adds_in_place(device, call);
}

struct ft_kernel_room ft_kernel_room(const struct ft_device *device, const struct ft_call *call)
{
    const struct ft_kernel_room none = {0};
    return device->table->room != NULL ? device->table->room(device, call) : none;
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

/* `in`: the call's, as if all floats were the device's. */
static enum ft_status check_call(const struct ft_device *device, const struct ft_call *call,
                                 const struct ft_type *in, struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(call->op);
    struct ft_type want[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(ft_op_infer(call->op, &call->attrs, in, call->n_in, want, err));
    for (int i = 0; i < call->n_in; i++) {
        FT_RETURN_IF_FAILED(check_call_type(device, info->name, "input", i, &call->in[i], err));
    }
    for (int i = 0; i < info->outputs; i++) {
        const struct ft_type *t = &call->out[i];
        const struct ft_type wide = ft_widened_type(device, t);
        if (want[i].dtype == FT_F32) { /* made from integers: the rule does not know the device's float */
            want[i].dtype = device->table->float_dtype;
        }
        FT_RETURN_IF_FAILED(check_call_type(device, info->name, "output", i, t, err));
        if (wide.dtype != want[i].dtype || !ft_type_same_shape(t, &want[i])) {
            return FT_FAIL(err, INVALID, "%s: output %d is given as %s, its inputs make it %s", info->name, i,
                           FT_SHOW(t), FT_SHOW(&want[i]));
        }
    }
    return FT_OK;
}

/* *narrow: some operand is FT_BF16. */
static enum ft_status check_widened(const struct ft_device *device, const struct ft_call *call, bool *narrow,
                                    struct ft_err *err)
{
    struct ft_type *in = NULL;
    *narrow = false;
    FT_RETURN_IF_FAILED(ft_new((size_t)call->n_in, sizeof *in, &in, err));
    for (int i = 0; i < call->n_in; i++) {
        in[i] = ft_widened_type(device, &call->in[i]);
        *narrow = *narrow || call->in[i].dtype == FT_BF16;
    }
    for (int i = 0; i < ft_op_info(call->op)->outputs; i++) {
        *narrow = *narrow || call->out[i].dtype == FT_BF16;
    }
    enum ft_status st = check_call(device, call, in, err);
    ft_free(in);
    return st;
}

enum ft_status ft_kernel_prepare(struct ft_device *device, const struct ft_call *call,
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *kernel = NULL;
    *scratch = 0;
    bool narrow = false;
    FT_RETURN_IF_FAILED(check_widened(device, call, &narrow, err));
    ft_prepare prepare = device->table->prepare[call->op];
    if (prepare == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "device %s has no kernel for op %s", device->table->name,
                       ft_op_info(call->op)->name);
    }
    if (!narrow) {
        return prepare(device, call, kernel, scratch, err);
    }
    if (device->table->takes_bf16 != NULL && device->table->takes_bf16(device, call)) {
        enum ft_status st = prepare(device, call, kernel, scratch, err);
        if (st != FT_UNSUPPORTED) {
            return st;
        }
        ft_err_clear(err); /* what the device has for floats only, here and there a shape of a product */
    }
    return ft_widened_prepare(device, call, kernel, scratch, err);
}

bool ft_chain_takes(const struct ft_device *device, enum ft_op op)
{
    return device->table->chain_takes != NULL && device->table->chain_takes(op);
}

enum ft_status ft_chain_prepare(struct ft_device *device, const struct ft_chain *chain,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *kernel = NULL;
    *scratch = 0;
    assert(chain->n_ops >= 1 && chain->n_ops <= FT_CHAIN_OPS && chain->n_in >= 1);
    assert(chain->n_in <= FT_CHAIN_INPUTS && chain->n_out >= 1 && chain->n_out <= FT_CHAIN_OUTPUTS);
    for (int i = 0; i < chain->n_ops; i++) {
        assert(ft_chain_takes(device, chain->ops[i].op));
        assert(chain->ops[i].in[0] < chain->n_in + i && chain->ops[i].in[1] < chain->n_in + i);
    }
    return device->table->prepare_chain(device, chain, kernel, scratch, err);
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
