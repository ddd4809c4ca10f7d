/*
 * winograd_shape.h - the geometry of winograd.h: tiles of y, and the pixels of both sides that each needs.
 * Private to winograd.c and winograd_weight.c. Thread-safety: plain values.
 */
#ifndef FT_KERNELS_CPU_WINOGRAD_SHAPE_H
#define FT_KERNELS_CPU_WINOGRAD_SHAPE_H

#include "kernels/cpu/cpu.h"

enum {
    FT_WINO_TAPS = FT_VEC_WINO_SIDE - FT_VEC_WINO_TILE + 1,
    FT_WINO_WEIGHT = FT_WINO_TAPS * FT_WINO_TAPS,         /* elements of a channel and feature */
    FT_WINO_PLACES = FT_VEC_WINO_SIDE * FT_VEC_WINO_SIDE, /* of a square: as many products */
    FT_WINO_PIXELS = FT_VEC_WINO_TILE * FT_VEC_WINO_TILE, /* of a tile of y */
    FT_WINO_APART = 16 /* floats more between places, and pixels, so that they are no power of two apart */
};

/* Of a convolution from x (n, depth, ...) to y (n, features, ...). */
struct ft_wino_shape {
    int64_t n, x[2], y[2], pad[2], depth, features;
    int64_t tiles[2]; /* of an image of y */
};

static inline struct ft_wino_shape ft_wino_shape_of(const struct ft_type *x, const struct ft_type *y,
                                                    const int64_t pad[2])
{
    struct ft_wino_shape s = {.n = ft_extent(x, 0), .depth = ft_extent(x, 1), .features = ft_extent(y, 1)};
    for (int i = 0; i < 2; i++) {
        s.x[i] = ft_extent(x, 2 + i);
        s.y[i] = ft_extent(y, 2 + i);
        s.pad[i] = pad[i];
        s.tiles[i] = ft_parts_of(s.y[i], FT_VEC_WINO_TILE);
    }
    return s;
}

static inline int64_t ft_wino_tiles(const struct ft_wino_shape *s)
{
    return s->n * s->tiles[0] * s->tiles[1];
}

/* The first pixel of a tile of y. */
struct ft_wino_corner {
    int64_t image, row, col;
};

static inline struct ft_wino_corner ft_wino_corner_of(const struct ft_wino_shape *s, int64_t tile)
{
    int64_t line = tile / s->tiles[1];
    return (struct ft_wino_corner){line / s->tiles[0], line % s->tiles[0] * FT_VEC_WINO_TILE,
                                   tile % s->tiles[1] * FT_VEC_WINO_TILE};
}

/* Of x, as vec->wino_source wants them; outside: (depth) zeros. */
static inline void ft_wino_source(const struct ft_wino_shape *s, const float *x, const float *outside,
                                  int64_t tile, const float *pixels[FT_WINO_PLACES])
{
    struct ft_wino_corner at = ft_wino_corner_of(s, tile);
    const float *image = x + at.image * s->x[0] * s->x[1] * s->depth;
    for (int i = 0; i < FT_WINO_PLACES; i++) {
        int64_t row = at.row + i / FT_VEC_WINO_SIDE - s->pad[0];
        int64_t col = at.col + i % FT_VEC_WINO_SIDE - s->pad[1];
        bool inside = row >= 0 && row < s->x[0] && col >= 0 && col < s->x[1];
        pixels[i] = inside ? image + (row * s->x[1] + col) * s->depth : outside;
    }
}

/* Where in y a tile's pixels lie; -1: outside. */
static inline void ft_wino_result(const struct ft_wino_shape *s, int64_t tile, int64_t place[FT_WINO_PIXELS])
{
    struct ft_wino_corner at = ft_wino_corner_of(s, tile);
    for (int i = 0; i < FT_WINO_PIXELS; i++) {
        int64_t row = at.row + i / FT_VEC_WINO_TILE;
        int64_t col = at.col + i % FT_VEC_WINO_TILE;
        bool inside = row < s->y[0] && col < s->y[1];
        place[i] = inside ? ((at.image * s->y[0] + row) * s->y[1] + col) * s->features : -1;
    }
}

#endif
