#include "kernels/cpu/nd.h"

#include <assert.h>
#include <string.h>

enum { PIECE = 4096 };

void ft_nd_strides(const struct ft_type *t, int64_t stride[FT_MAX_RANK])
{
    static const int plain[FT_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const int last[4] = {0, 2, 3, 1};
    const int *order = t->layout == FT_CHANNELS_LAST ? last : plain;
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[order[i]] = step;
        step *= ft_extent(t, order[i]);
    }
}

void ft_nd_broadcast(const struct ft_type *t, const struct ft_type *shape, int64_t stride[FT_MAX_RANK])
{
    int64_t own[FT_MAX_RANK];
    int missing = shape->rank - t->rank;
    assert(missing >= 0);
    ft_nd_strides(t, own);
    for (int i = 0; i < shape->rank; i++) {
        bool repeats = i < missing || (ft_extent(t, i - missing) == 1 && ft_extent(shape, i) != 1);
        stride[i] = repeats ? 0 : own[i - missing];
    }
}

/* Axes of extent above 1 by falling stride of operand 0; stable, so broadcast axes keep their order. */
static int ordered_axes(const struct ft_type *shape, const int64_t stride[FT_MAX_RANK], int axes[FT_MAX_RANK])
{
    int count = 0;
    for (int i = 0; i < shape->rank; i++) {
        if (ft_extent(shape, i) == 1) {
            continue;
        }
        int at = count;
        while (at > 0 && stride[axes[at - 1]] < stride[i]) {
            axes[at] = axes[at - 1];
            at--;
        }
        axes[at] = i;
        count++;
    }
    return count;
}

static bool walks_on(const struct ft_nd *nd, int64_t strides[][FT_MAX_RANK], int axis, int64_t extent)
{
    for (int k = 0; k < nd->operands; k++) {
        if (nd->stride[k][nd->rank - 1] != strides[k][axis] * extent) {
            return false;
        }
    }
    return true;
}

void ft_nd_build(const struct ft_type *shape, int operands, int64_t strides[][FT_MAX_RANK], struct ft_nd *nd)
{
    memset(nd, 0, sizeof *nd);
    nd->operands = operands;
    int axes[FT_MAX_RANK];
    int count = ordered_axes(shape, strides[0], axes);
    for (int i = 0; i < count; i++) {
        int64_t extent = ft_extent(shape, axes[i]);
        bool merge = nd->rank > 0 && walks_on(nd, strides, axes[i], extent);
        int at = merge ? nd->rank - 1 : nd->rank;
        nd->extent[at] = merge ? nd->extent[at] * extent : extent;
        for (int k = 0; k < operands; k++) {
            nd->stride[k][at] = strides[k][axes[i]];
        }
        nd->rank = at + 1;
    }
    if (nd->rank == 0) { /* one element */
        nd->rank = 1;
        nd->extent[0] = 1;
        for (int k = 0; k < operands; k++) {
            nd->stride[k][0] = 1;
        }
    }
}

int64_t ft_nd_piece(const struct ft_nd *nd)
{
    int64_t last = nd->extent[nd->rank - 1];
    return last < PIECE ? last : PIECE;
}

static int64_t pieces(const struct ft_nd *nd)
{
    return (nd->extent[nd->rank - 1] + PIECE - 1) / PIECE;
}

int64_t ft_nd_items(const struct ft_nd *nd)
{
    int64_t items = pieces(nd);
    for (int i = 0; i < nd->rank - 1; i++) {
        items *= nd->extent[i];
    }
    return items;
}

void ft_nd_walk(const struct ft_nd *nd, int64_t begin, int64_t end, ft_nd_body body, void *context)
{
    int last = nd->rank - 1;
    int64_t per_run = pieces(nd);
    int64_t piece = begin % per_run;
    int64_t rest = begin / per_run;
    int64_t index[FT_MAX_RANK] = {0};
    int64_t base[FT_ND_OPERANDS] = {0};
    for (int i = last - 1; i >= 0; i--) {
        index[i] = rest % nd->extent[i];
        rest /= nd->extent[i];
        for (int k = 0; k < nd->operands; k++) {
            base[k] += index[i] * nd->stride[k][i];
        }
    }
    for (int64_t item = begin; item < end; item++) {
        int64_t from = piece * PIECE;
        int64_t n = nd->extent[last] - from < PIECE ? nd->extent[last] - from : PIECE;
        int64_t offset[FT_ND_OPERANDS] = {0};
        for (int k = 0; k < nd->operands; k++) {
            offset[k] = base[k] + from * nd->stride[k][last];
        }
        body(context, offset, n);
        if (++piece < per_run) {
            continue;
        }
        piece = 0;
        for (int i = last - 1; i >= 0; i--) {
            for (int k = 0; k < nd->operands; k++) {
                base[k] += nd->stride[k][i];
            }
            if (++index[i] < nd->extent[i]) {
                break;
            }
            for (int k = 0; k < nd->operands; k++) {
                base[k] -= index[i] * nd->stride[k][i];
            }
            index[i] = 0;
        }
    }
}
