/*
 * nd.h - walking several tensors at once: extents with one stride an operand, in memory order, merged where
 * possible.
 *
 * Operand 0 is the one whose memory order rules. Axes of extent 1 vanish; neighbours that every operand walks
 * as one become one axis. So (N, C, H, W) + (C, 1, 1) channels-last is two axes: pixels and channels.
 * Thread-safety: plain values.
 */
#ifndef FT_KERNELS_CPU_ND_H
#define FT_KERNELS_CPU_ND_H

#include "kernels/type.h"

enum { FT_ND_OPERANDS = 4 };

struct ft_nd {
    int rank; /* >= 1 */
    int operands;
    int64_t extent[FT_MAX_RANK];
    int64_t stride[FT_ND_OPERANDS][FT_MAX_RANK];
};

/* Elements between neighbours along each logical axis, whatever the layout. */
void ft_nd_strides(const struct ft_type *t, int64_t stride[FT_MAX_RANK]);
/* The same for t broadcast to `shape` (NumPy's rule): 0 where it repeats. */
void ft_nd_broadcast(const struct ft_type *t, const struct ft_type *shape, int64_t stride[FT_MAX_RANK]);
/* Order and merge. strides: `operands` arrays over the axes of `shape`. */
void ft_nd_build(const struct ft_type *shape, int operands, int64_t strides[][FT_MAX_RANK], struct ft_nd *nd);

/* All runs along the last axis: n elements at these offsets. */
typedef void (*ft_nd_body)(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n);
/* The work in items: pieces of the last axis of at most ft_nd_piece() elements, times the other axes. */
int64_t ft_nd_piece(const struct ft_nd *nd);
int64_t ft_nd_items(const struct ft_nd *nd);
void ft_nd_walk(const struct ft_nd *nd, int64_t begin, int64_t end, ft_nd_body body, void *context);

#endif
