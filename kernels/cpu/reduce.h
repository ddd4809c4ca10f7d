/*
 * reduce.h - how a reduction walks its input, in any layout.
 *
 * The axes of x in memory order are kept or reduced. If the innermost is kept, rows of `inner` neighbours go
 * to as many results; else runs of neighbours go to one. Thread-safety: plain values.
 */
#ifndef FT_KERNELS_CPU_REDUCE_H
#define FT_KERNELS_CPU_REDUCE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"

struct ft_reduce_axes {
    int rank;
    int64_t count; /* product of extents */
    int64_t extent[FT_MAX_RANK], x[FT_MAX_RANK], y[FT_MAX_RANK];
};

struct ft_reduce {
    struct ft_reduce_axes kept,
        summed; /* without the innermost axis if that is kept; with it if it is summed */
    bool inner_kept;
    int64_t inner, inner_y; /* its extent (1 if it is summed) and stride in y */
};

/* Strides of x and of the result y over the axes of x, as ft_reduce_build() wants them; attrs: axes,
 * keepdims. */
void ft_reduce_strides(const struct ft_attrs *attrs, const struct ft_type *x, const struct ft_type *y,
                       int64_t strides[2][FT_MAX_RANK]);
void ft_reduce_build(const struct ft_type *x, int64_t strides[2][FT_MAX_RANK], struct ft_reduce *r);
/* Of element `index` of the axes, with a->x or a->y as strides. */
int64_t ft_reduce_offset(const struct ft_reduce_axes *a, const int64_t *stride, int64_t index);

#endif
