#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/internal.h"

/*
 * A kernel over floats for operands that are stored as FT_BF16: inputs are widened into scratch before it
 * runs, outputs are rounded out of scratch after it has run.
 */

struct operand {
    bool narrow;
    int64_t n;
    size_t at; /* in scratch */
};

struct widened {
    struct ft_kernel head;
    struct ft_kernel *inner;
    int n_in, n_out;
    struct operand *operands; /* inputs, then outputs */
    struct ft_arg *args;
};

static struct widened *of(struct ft_kernel *kernel)
{
    return (struct widened *)(void *)kernel;
}

static void widened_free(struct ft_kernel *kernel)
{
    struct widened *w = of(kernel);
    ft_kernel_free(w->inner);
    ft_free(w->operands);
    ft_free(w->args);
    ft_free(w);
}

/* Without a version: kernels keep packed copies by place and version, and the place is scratch, where other
 * kernels' data lie at other times. */
static void show_input(struct widened *w, int i, const struct ft_arg *in, char *scratch)
{
    const struct operand *o = &w->operands[i];
    w->args[i] = *in;
    if (!o->narrow || in->data == NULL) {
        return;
    }
    w->args[i].data = scratch + o->at;
    w->args[i].version = 0;
    w->head.device->table->widen(w->head.device, in->data, w->args[i].data, o->n);
}

static enum ft_status widened_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    struct widened *w = of(kernel);
    struct ft_arg *outs = w->args + w->n_in;
    for (int i = 0; i < w->n_in; i++) {
        show_input(w, i, &in[i], scratch);
    }
    for (int i = 0; i < w->n_out; i++) {
        const struct operand *o = &w->operands[w->n_in + i];
        outs[i] = out[i];
        if (o->narrow) {
            outs[i].data = (char *)scratch + o->at;
        }
    }
    FT_RETURN_IF_FAILED(ft_kernel_run(w->inner, w->args, outs, scratch, err));
    for (int i = 0; i < w->n_out; i++) {
        const struct operand *o = &w->operands[w->n_in + i];
        if (o->narrow) {
            kernel->device->table->narrow(kernel->device, outs[i].data, out[i].data, o->n);
        }
    }
    return FT_OK;
}

/* Is operand i read or written, and not only looked at? */
static bool has_data(const struct ft_call *call, int i)
{
    return i >= call->n_in || i >= 32 || (ft_op_info(call->op)->shape_only >> i & 1U) == 0;
}

/* The inner kernel's scratch comes first. */
static void place_operands(struct widened *w, const struct ft_call *call, size_t *scratch)
{
    size_t float_size = ft_dtype_size(w->head.device->table->float_dtype);
    for (int i = 0; i < w->n_in + w->n_out; i++) {
        const struct ft_type *t = i < w->n_in ? &call->in[i] : &call->out[i - w->n_in];
        struct operand *o = &w->operands[i];
        o->narrow = t->dtype == FT_BF16 && has_data(call, i);
        if (o->narrow) {
            o->n = ft_elements(t);
            o->at = (*scratch + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
            *scratch = o->at + (size_t)o->n * float_size;
        }
    }
}

static enum ft_status prepare_inner(struct widened *w, const struct ft_call *call, struct ft_type *types,
                                    size_t *scratch, struct ft_err *err)
{
    struct ft_device *device = w->head.device;
    struct ft_call inner = *call;
    for (int i = 0; i < w->n_in; i++) {
        types[i] = ft_widened_type(device, &call->in[i]);
    }
    for (int i = 0; i < w->n_out; i++) {
        types[w->n_in + i] = ft_widened_type(device, &call->out[i]);
    }
    inner.in = types;
    inner.out = types + w->n_in;
    FT_RETURN_IF_FAILED(device->table->prepare[call->op](device, &inner, &w->inner, scratch, err));
    place_operands(w, call, scratch);
    return FT_OK;
}

enum ft_status ft_widened_prepare(struct ft_device *device, const struct ft_call *call,
                                  struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct widened *w = NULL;
    struct ft_type *types = NULL;
    *scratch = 0;
    FT_TRY(ft_new(1, sizeof *w, &w, err));
    w->head = (struct ft_kernel){.device = device, .op = call->op, .run = widened_run, .free = widened_free};
    w->n_in = call->n_in;
    w->n_out = ft_op_info(call->op)->outputs;
    size_t n = (size_t)w->n_in + (size_t)w->n_out;
    FT_TRY(ft_new(n, sizeof *types, &types, err));
    FT_TRY(ft_new(n, sizeof *w->operands, &w->operands, err));
    FT_TRY(ft_new(n, sizeof *w->args, &w->args, err));
    FT_TRY(prepare_inner(w, call, types, scratch, err));
    *kernel = &w->head;
    w = NULL;
done:
    ft_free(types);
    if (w != NULL) {
        widened_free(&w->head);
    }
    return st;
}
