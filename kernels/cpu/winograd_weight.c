#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/winograd.h"
#include "kernels/cpu/winograd_shape.h"

/*
 * The gradient of a weight is a convolution of x with dy as taps: of a tile, 3 x 3 results of 6 x 6 pixels of
 * x and 4 x 4 of dy. Sums over the tiles are products too, (channels, tiles) times (tiles, features), added
 * to where the squares are; threads share the places, so every sum is in the order of the tiles. Only the
 * last sums are transformed.
 */

enum {
    PLACES = FT_WINO_PLACES,
    BLOCK_BYTES = 4 << 20, /* of squares: so many tiles at a time, within these bounds */
    LEAST_TILES = 96,
    MOST_TILES = 256,
    ROWS = 48 /* channels whose tiles pass a panel of dy's */
};

struct weight {
    struct ft_kernel head;
    struct ft_wino_shape s;
    int64_t width, block;
    int threads;
    float *outside; /* zeros for a pixel of either side */
};

struct pass {
    const struct weight *k;
    const float *x, *dy;
    float *dw;
    float *of_x, *of_dy;  /* (places, tiles of the block, channels) and (..., features), rows apart */
    float *sums;          /* (places, depth, features) */
    int64_t first, tiles; /* the block */
};

static const struct ft_vec *vec_of(const struct weight *k)
{
    return ft_cpu_of(k->head.device)->vec;
}

static void weight_free(struct ft_kernel *kernel)
{
    struct weight *k = (struct weight *)(void *)kernel;
    ft_free(k->outside);
    ft_free(k);
}

/* Floats from one tile's square to the next, and from one place to the next. */
static int64_t row_of(int64_t channels)
{
    return channels + FT_WINO_APART;
}

static int64_t apart_of(const struct weight *k, int64_t channels)
{
    return k->block * row_of(channels);
}

/* Both sides of some tiles of the block. */
static void read_tiles(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    const struct ft_wino_shape *s = &k->s;
    for (int64_t i = begin; i < end; i++) {
        const float *pixels[PLACES];
        ft_wino_source(s, pass->x, k->outside, pass->first + i, pixels);
        vec_of(k)->wino_source(pixels, s->depth, pass->of_x + i * row_of(s->depth), apart_of(k, s->depth));
        int64_t place[FT_WINO_PIXELS];
        ft_wino_result(s, pass->first + i, place);
        for (int j = 0; j < FT_WINO_PIXELS; j++) {
            pixels[j] = place[j] < 0 ? k->outside : pass->dy + place[j];
        }
        vec_of(k)->wino_gradient(pixels, s->features, pass->of_dy + i * row_of(s->features),
                                 apart_of(k, s->features));
    }
}

/* Some (place, rows of channels) of the block's products. */
static void add_products(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    const struct ft_wino_shape *s = &k->s;
    int64_t groups = ft_parts_of(s->depth, ROWS);
    struct ft_vec_product t = {.a_row = 1,
                               .a_step = row_of(s->depth),
                               .b_row = row_of(s->features),
                               .b_panel = k->width,
                               .c_row = s->features,
                               .panels = s->features / k->width,
                               .depth = pass->tiles,
                               .alpha = 1.0F};
    for (int64_t i = begin; i < end; i++) {
        int64_t place = i / groups;
        int64_t row = i % groups * ROWS;
        t.rows = ft_smaller(ROWS, s->depth - row);
        t.a = pass->of_x + place * apart_of(k, s->depth) + row;
        t.b = pass->of_dy + place * apart_of(k, s->features);
        t.c = pass->sums + (place * s->depth + row) * s->features;
        t.more = pass->first == 0 ? NULL : t.c;
        vec_of(k)->product(&t);
    }
}

/* Some (panel, channel) of dw. */
static void store_taps(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    const struct ft_wino_shape *s = &k->s;
    float taps[FT_WINO_WEIGHT * FT_VEC_WIDEST];
    for (int64_t i = begin; i < end; i++) {
        int64_t feature = i / s->depth * k->width;
        int64_t channel = i % s->depth;
        vec_of(k)->wino_taps(pass->sums + channel * s->features + feature, s->depth * s->features, taps);
        for (int64_t f = 0; f < k->width; f++) {
            float *to = pass->dw + ((feature + f) * s->depth + channel) * FT_WINO_WEIGHT;
            for (int t = 0; t < FT_WINO_WEIGHT; t++) {
                to[t] = taps[t * k->width + f];
            }
        }
    }
}

static enum ft_status weight_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)err;
    const struct weight *k = (const struct weight *)(void *)kernel;
    const struct ft_wino_shape *s = &k->s;
    struct pass pass = {.k = k, .x = ft_in(in, 0), .dy = ft_in(in, 1), .dw = ft_out(out, 0), .of_x = scratch};
    pass.of_dy = pass.of_x + PLACES * apart_of(k, s->depth);
    pass.sums = pass.of_dy + PLACES * apart_of(k, s->features);
    for (; pass.first < ft_wino_tiles(s); pass.first += k->block) {
        pass.tiles = ft_smaller(k->block, ft_wino_tiles(s) - pass.first);
        ft_parallel_for(k->threads, pass.tiles, read_tiles, &pass);
        ft_parallel_for(k->threads, PLACES * ft_parts_of(s->depth, ROWS), add_products, &pass);
    }
    ft_parallel_for(k->threads, s->features / k->width * s->depth, store_taps, &pass);
    return FT_OK;
}

/* ---- preparation */

static void size(const struct ft_cpu *cpu, const struct ft_call *call, struct weight *k)
{
    k->s = ft_wino_shape_of(&call->in[0], &call->in[1], call->attrs.window.pad_begin);
    k->width = cpu->vec->product_cols;
    int64_t tiles = ft_wino_tiles(&k->s);
    int64_t fit = BLOCK_BYTES / (PLACES * (k->s.depth + k->s.features) * (int64_t)sizeof(float));
    k->block = ft_smaller(tiles, ft_smaller(MOST_TILES, ft_larger(LEAST_TILES, fit)));
    k->threads = ft_cpu_threads(cpu, 2 * tiles * PLACES * k->s.depth * k->s.features / FT_CPU_FLOPS);
}

static size_t scratch_bytes(const struct weight *k)
{
    int64_t squares = apart_of(k, k->s.depth) + apart_of(k, k->s.features);
    return (size_t)(PLACES * (squares + k->s.depth * k->s.features)) * sizeof(float);
}

struct ft_kernel_room ft_cpu_winograd_weight_room(const struct ft_cpu *cpu, const struct ft_call *call)
{
    struct weight k = {0};
    size(cpu, call, &k);
    return (struct ft_kernel_room){.scratch = scratch_bytes(&k)};
}

enum ft_status ft_cpu_winograd_weight(struct ft_device *device, const struct ft_call *call,
                                      struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    struct ft_kernel *made = NULL;
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct weight), weight_run, &made, err));
    made->free = weight_free;
    struct weight *k = (struct weight *)(void *)made;
    size(ft_cpu_of(device), call, k);
    enum ft_status st = ft_new((size_t)ft_larger(k->s.depth, k->s.features), sizeof(float), &k->outside, err);
    if (st != FT_OK) {
        weight_free(made);
        return st;
    }
    *scratch = scratch_bytes(k);
    *kernel = made;
    return FT_OK;
}
