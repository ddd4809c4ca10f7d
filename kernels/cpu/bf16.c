#include "kernels/cpu/cpu.h"

/* Between floats and bf16, and which rows take bf16 as it is stored. */

struct convert_job {
    const struct ft_vec *vec;
    const uint16_t *narrow;
    const float *wide;
    uint16_t *to_narrow;
    float *to_wide;
};

static void widen_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct convert_job *job = context;
    (void)thread;
    job->vec->widen(job->narrow + begin, job->to_wide + begin, (size_t)(end - begin));
}

static void narrow_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct convert_job *job = context;
    (void)thread;
    job->vec->narrow(job->wide + begin, job->to_narrow + begin, (size_t)(end - begin));
}

void ft_cpu_widen(struct ft_device *device, const uint16_t *from, void *floats, int64_t n)
{
    const struct ft_cpu *cpu = ft_cpu_of(device);
    struct convert_job job = {.vec = cpu->vec, .narrow = from, .to_wide = floats};
    ft_cpu_flat(cpu, n, widen_range, &job);
}

void ft_cpu_narrow(struct ft_device *device, const void *floats, uint16_t *to, int64_t n)
{
    const struct ft_cpu *cpu = ft_cpu_of(device);
    struct convert_job job = {.vec = cpu->vec, .wide = floats, .to_narrow = to};
    ft_cpu_flat(cpu, n, narrow_range, &job);
}

/* ---- a copy between the two: how plans convert */

struct convert {
    struct ft_kernel head;
    int64_t n;
    bool widens;
};

static enum ft_status convert_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct convert *k = (const struct convert *)(const void *)kernel;
    if (k->widens) {
        ft_cpu_widen(kernel->device, in[0].data, out[0].data, k->n);
    } else {
        ft_cpu_narrow(kernel->device, in[0].data, out[0].data, k->n);
    }
    return FT_OK;
}

enum ft_status ft_cpu_convert(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct convert), convert_run, kernel, err));
    struct convert *k = (struct convert *)(void *)*kernel;
    k->n = ft_elements(&call->out[0]);
    k->widens = call->in[0].dtype == FT_BF16;
    return FT_OK;
}

/* ---- who takes it */

static bool all_narrow(const struct ft_call *call, int inputs)
{
    bool all = call->out[0].dtype == FT_BF16;
    for (int i = 0; i < inputs; i++) {
        all = all && call->in[i].dtype == FT_BF16;
    }
    return all;
}

/* The operands of the product itself: of CONV_BWD_WEIGHT x and dy, else x, dy or a and the weights or b. What
 * is added to the sum has the result's type. */
static bool takes_product(const struct ft_device *device, const struct ft_call *call)
{
    bool narrow = call->in[0].dtype == FT_BF16 && call->in[1].dtype == FT_BF16;
    bool same = call->attrs.residual == 0 || call->in[call->n_in - 1].dtype == call->out[0].dtype;
    /* A bias is a float. */
    bool bias = call->op == FT_OP_CONV || call->op == FT_OP_MATMUL;
    for (int i = 2; bias && i < call->n_in - (call->attrs.residual != 0); i++) {
        narrow = narrow && call->in[i].dtype == FT_F32;
    }
    /* A bias behind a scaled product is added to floats, afterwards. */
    bool scaled = call->op == FT_OP_MATMUL && call->attrs.alpha != 1.0F && call->n_in > 2;
    return device->precision == FT_PRECISION_BF16 && narrow && same && !scaled;
}

bool ft_cpu_takes_bf16(const struct ft_device *device, const struct ft_call *call)
{
    switch ((int)call->op) {
    case FT_OP_CONV:
    case FT_OP_CONV_BWD_DATA:
    case FT_OP_CONV_BWD_WEIGHT:
    case FT_OP_MATMUL:
        return takes_product(device, call);
    case FT_OP_RESHAPE: /* a copy */
        return true;
    case FT_OP_TRANSPOSE: /* what only moves elements asks for their size */
    case FT_OP_GATHER:
    case FT_OP_PAD_LIKE:
    case FT_OP_SLICE:
        return all_narrow(call, 1);
    case FT_OP_CONCAT:
        return all_narrow(call, call->n_in);
    default:
        return false;
    }
}
