/*
 * direct_shape.h - the geometry of weight gradients of our own: extents, and walking over the pixels of y
 * with the place in x where each one's window begins. Private to direct_weight.c. Thread-safety: plain
 * values.
 */
#ifndef FT_KERNELS_CPU_DIRECT_SHAPE_H
#define FT_KERNELS_CPU_DIRECT_SHAPE_H

#include "kernels/cpu/cpu.h"

struct ft_direct_shape {
    int64_t n, h, w, c; /* x */
    int64_t oh, ow, k;  /* y */
    int64_t kh, kw;     /* taps */
    int64_t step[2], dilation[2], pad[2];
    int64_t features, panels; /* of a panel, and how many there are */
};

static inline struct ft_direct_shape ft_direct_shape_of(const struct ft_cpu *cpu,
                                                        const struct ft_attrs *attrs, const struct ft_type *x,
                                                        const struct ft_type *y)
{
    const struct ft_window *v = &attrs->window;
    struct ft_direct_shape s = {.n = ft_extent(x, 0),
                                .c = ft_extent(x, 1),
                                .h = ft_extent(x, 2),
                                .w = ft_extent(x, 3),
                                .k = ft_extent(y, 1),
                                .oh = ft_extent(y, 2),
                                .ow = ft_extent(y, 3)};
    s.kh = v->kernel[0];
    s.kw = v->kernel[1];
    for (int i = 0; i < 2; i++) {
        s.step[i] = v->stride[i];
        s.dilation[i] = v->dilation[i];
        s.pad[i] = v->pad_begin[i];
    }
    s.features = cpu->vec->conv_features;
    s.panels = (s.k + s.features - 1) / s.features;
    return s;
}

/* A pixel of y, and where its window begins in x. */
struct ft_corner {
    const float *image;
    int64_t row, col, y, x;
};

static inline struct ft_corner ft_corner_of(const struct ft_direct_shape *s, const float *x, int64_t pixel)
{
    int64_t line = pixel / s->ow;
    struct ft_corner at = {
        .image = x + line / s->oh * s->h * s->w * s->c, .y = line % s->oh, .x = pixel % s->ow};
    at.row = at.y * s->step[0] - s->pad[0];
    at.col = at.x * s->step[1] - s->pad[1];
    return at;
}

/* The next one; without divisions, which take longer than a small tile's products. */
static inline void ft_corner_next(const struct ft_direct_shape *s, struct ft_corner *at)
{
    at->x++;
    at->col += s->step[1];
    if (at->x == s->ow) {
        at->x = 0;
        at->col = -s->pad[1];
        at->y++;
        at->row += s->step[0];
    }
    if (at->y == s->oh) {
        at->y = 0;
        at->row = -s->pad[0];
        at->image += s->h * s->w * s->c;
    }
}

static inline int64_t ft_direct_pixels(const struct ft_direct_shape *s)
{
    return s->n * s->oh * s->ow;
}

#endif
