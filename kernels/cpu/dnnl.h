/*
 * dnnl.h - oneDNN wrapped once: engine, primitives with prebuilt argument lists, packed weights.
 *
 * A struct ft_dnnl is one primitive with its memories; per run only data pointers are exchanged. Its
 * scratchpad is given by the caller. oneDNN allocates through its own heap when objects are made, never in
 * ft_dnnl_run(). Thread-safety: as the device that owns it.
 */
#ifndef FT_KERNELS_CPU_DNNL_H
#define FT_KERNELS_CPU_DNNL_H

#include <oneapi/dnnl/dnnl.h>

#include "kernels/cpu/cpu.h"

enum { FT_DNNL_ARGS = 6 };

struct ft_dnnl {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[FT_DNNL_ARGS];
    void *data[FT_DNNL_ARGS]; /* what args[i].memory points to now */
    int count;
    int scratch_at; /* index of the scratchpad in args, -1 if it needs none */
    size_t scratch; /* bytes */
    int threads;
};

/* The two halves of packing: a reorder into memory that the kernel owns, and when it was last done. */
struct ft_dnnl_pack {
    struct ft_dnnl reorder; /* argument 0 = the plain master */
    void *packed;
    const void *data;
    uint64_t version; /* of data, as packed; 0 = never */
};

FT_MUST_CHECK enum ft_status ft_dnnl_open(struct ft_cpu *cpu, struct ft_err *err);
void ft_dnnl_close(struct ft_cpu *cpu);
/* FT_UNAVAILABLE: this processor's oneDNN computes nothing in bf16; says what is missing and what there is
 * instead. */
FT_MUST_CHECK enum ft_status ft_dnnl_check_bf16(const struct ft_device *device, struct ft_err *err);
/* Why bf16 is no faster than f32 on this processor; NULL: it is. */
const char *ft_dnnl_bf16_note(const struct ft_device *device);
/* FT_UNSUPPORTED: what would run is oneDNN's reference, a plain loop, many times slower than the same in
 * floats. */
FT_MUST_CHECK enum ft_status ft_dnnl_check_loop(const_dnnl_primitive_desc_t pd, struct ft_err *err);
/* How oneDNN calls the element type of a float operand. */
dnnl_data_type_t ft_dnnl_type(const struct ft_type *t);

/* One operand of a primitive: which argument and its format there. */
struct ft_dnnl_operand {
    int arg; /* DNNL_ARG_* */
    const dnnl_memory_desc_t *md;
};

/* Make the primitive of a descriptor; the operands keep their order in d->args. pd stays the caller's.
 * `threads` is what the descriptor was made under, and what it will run with. d must be zero before; on
 * failure it is zero. */
FT_MUST_CHECK enum ft_status ft_dnnl_make(struct ft_cpu *cpu, const_dnnl_primitive_desc_t pd,
                                          const struct ft_dnnl_operand *operands, int count, int threads,
                                          struct ft_dnnl *d, struct ft_err *err);
/* A reorder from one format to another; its operands are 0 = from, 1 = to. */
FT_MUST_CHECK enum ft_status ft_dnnl_reorder(struct ft_cpu *cpu, const dnnl_memory_desc_t *from,
                                             const dnnl_memory_desc_t *to, int threads, struct ft_dnnl *d,
                                             struct ft_err *err);
void ft_dnnl_release(struct ft_dnnl *d);
/* data: one pointer an operand. */
FT_MUST_CHECK enum ft_status ft_dnnl_run(struct ft_cpu *cpu, struct ft_dnnl *d, void *const *data,
                                         void *scratch, struct ft_err *err);

/* Prepare packing from `plain` to `packed`. */
FT_MUST_CHECK enum ft_status ft_dnnl_pack_make(struct ft_cpu *cpu, const dnnl_memory_desc_t *plain,
                                               const dnnl_memory_desc_t *packed, int threads,
                                               struct ft_dnnl_pack *pack, struct ft_err *err);
void ft_dnnl_pack_release(struct ft_dnnl_pack *pack);
/* Bring pack->packed up to date with the master. */
FT_MUST_CHECK enum ft_status ft_dnnl_pack_update(struct ft_cpu *cpu, struct ft_dnnl_pack *pack,
                                                 const struct ft_arg *master, void *scratch,
                                                 struct ft_err *err);

/* Attributes every primitive of ours is made with: scratchpad from the caller. Owned by the caller. epilogue
 * (NULL: none): its residual, laid out like y, is operand FT_DNNL_RESIDUAL and is added, then its activation
 * is applied. The residual's memory must not be the destination's: partial sums are kept there. */
#define FT_DNNL_RESIDUAL (DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1)
FT_MUST_CHECK enum ft_status ft_dnnl_attr(float output_scale, const struct ft_attrs *epilogue,
                                          const dnnl_memory_desc_t *y, dnnl_primitive_attr_t *attr,
                                          struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_dnnl_check(dnnl_status_t status, const char *what, struct ft_err *err);

#endif
