/*
 * internal.h - what devices implement: one table of prepare functions, derived from ops.def.
 *
 * A device is a struct ft_device with this table in front of its own state. ft_kernel_prepare() in device.c
 * runs ft_op_infer() on the call, compares the result with call->out (shapes and types), then asks the table.
 */
#ifndef FT_KERNELS_INTERNAL_H
#define FT_KERNELS_INTERNAL_H

#include "kernels/kernel.h"

/* A prepared kernel starts with this head; the rest is the device's. */
struct ft_kernel {
    struct ft_device *device;
    enum ft_op op;
    enum ft_status (*run)(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                          void *scratch, struct ft_err *err);
    void (*free)(struct ft_kernel *kernel);
};

typedef enum ft_status (*ft_prepare)(struct ft_device *device, const struct ft_call *call,
                                     struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

struct ft_device_table {
    const char *name;
    enum ft_dtype float_dtype;
    bool fuses;
    ft_prepare prepare[FT_OP_COUNT]; /* NULL: the device lacks the op on purpose */
    /* Does `prepare` take the call with its operands of FT_BF16? Else, and where `prepare` then finds it
     * FT_UNSUPPORTED, device.c widens them (widened.c). */
    bool (*takes_bf16)(const struct ft_device *device, const struct ft_call *call);
    void (*widen)(struct ft_device *device, const uint16_t *from, void *floats, int64_t n);
    void (*narrow)(struct ft_device *device, const void *floats, uint16_t *to, int64_t n);
    /* Can it compute in FT_PRECISION_BF16? NULL: yes. */
    enum ft_status (*check_bf16)(const struct ft_device *device, struct ft_err *err);
    const char *(*bf16_note)(const struct ft_device *device); /* ft_device_precision_note(); NULL: none */
    bool (*chain_takes)(enum ft_op op);                       /* NULL: the device has no chains */
    enum ft_status (*prepare_chain)(struct ft_device *device, const struct ft_chain *chain,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);
    void (*layouts)(enum ft_op op, const struct ft_attrs *attrs, int n_in, enum ft_layout *in,
                    enum ft_layout *out, bool *follow);
    bool (*adds_in_place)(const struct ft_device *device, const struct ft_call *call); /* NULL: never */
    struct ft_kernel_room (*room)(const struct ft_device *device,
                                  const struct ft_call *call); /* NULL: always zeros */
    enum ft_status (*wait)(struct ft_device *device, struct ft_err *err);
    void (*close)(struct ft_device *device);
};

struct ft_device {
    const struct ft_device_table *table;
    enum ft_precision precision;
};

/* The type of FT_BF16 operands as the rest of the device knows it. */
static inline struct ft_type ft_widened_type(const struct ft_device *device, const struct ft_type *t)
{
    struct ft_type out = *t;
    out.dtype = t->dtype == FT_BF16 ? device->table->float_dtype : t->dtype;
    return out;
}

/* widened.c: the kernel of a call whose FT_BF16 operands are widened into scratch and rounded out of it. */
FT_MUST_CHECK enum ft_status ft_widened_prepare(struct ft_device *device, const struct ft_call *call,
                                                struct ft_kernel **kernel, size_t *scratch,
                                                struct ft_err *err);

FT_MUST_CHECK enum ft_status ft_ref_open(struct ft_device **device, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_cpu_open(int threads, struct ft_device **device, struct ft_err *err);

/* Prototypes of all prepare functions of both devices: a row without its kernel fails to link. */
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE)                                                     \
    enum ft_status ft_ref_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);            \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);            \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err);
#include "kernels/ops.def"
#undef FT_OP

#endif
