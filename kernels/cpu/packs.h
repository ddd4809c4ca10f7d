/*
 * packs.h - weights laid out in panels for products of our own, once for all kernels of a device that read
 * them; private to kernels/cpu/.
 *
 * A panel is (depth, vec->product_cols), zeros where b has no column. In int8 (kernels/int8.h) it is the
 * scale of each column, floats, then (pairs of the depth, product_cols, 2) signed bytes. Of winograd.h it is
 * (places, depth, product_cols). Plans for batches of many sizes share the packed copies of their weights,
 * which would otherwise be many times the weights themselves. Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_PACKS_H
#define FT_KERNELS_CPU_PACKS_H

#include "kernels/cpu/cpu.h"

struct ft_cpu_pack; /* opaque */
enum ft_cpu_pack_form { FT_CPU_PACK_FLOATS, FT_CPU_PACK_INT8, FT_CPU_PACK_WINOGRAD };
/* b (depth, cols), or (cols, depth) where trans. Of winograd.h: the weight (cols, depth, 3, 3) of a
 * convolution, or (depth, cols, 3, 3), its taps turned round, where trans; whole panels. */
struct ft_cpu_pack_shape {
    int64_t depth, cols;
    bool trans;
    enum ft_cpu_pack_form form;
};
/* Room for the panels of a b that is not known yet, so that running allocates nothing where b is a parameter.
 */
FT_MUST_CHECK enum ft_status ft_cpu_pack_reserve(struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                                                 struct ft_cpu_pack **pack, struct ft_err *err);
/* The panels of b, brought up to date if its version is another than the last time, or 0: they lie panel by
 * panel, ft_cpu_pack_bytes() each. *pack: NULL or what the last call left there; ft_cpu_pack_drop() in the
 * end. */
FT_MUST_CHECK enum ft_status ft_cpu_pack_panels(struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                                                const struct ft_arg *b, struct ft_cpu_pack **pack,
                                                const void **panels, struct ft_err *err);
int64_t ft_cpu_pack_bytes(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape);
void ft_cpu_pack_drop(struct ft_cpu *cpu, struct ft_cpu_pack **pack);

/* Rows from .. from + length - 1 of the depth, panels first .. first + count - 1: to (count, length,
 * product_cols). */
struct ft_cpu_pack_part {
    int64_t from, length, first, count;
};
void ft_cpu_pack_part(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape, const float *b,
                      const struct ft_cpu_pack_part *part, float *to);
#endif
