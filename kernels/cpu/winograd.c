#include "kernels/cpu/winograd.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/winograd_shape.h"

enum {
    PLACES = FT_WINO_PLACES,
    DEPTH = 256,    /* channels of a part: 16 KB of a panel */
    TILES = 24,     /* of a block */
    FEW_BLOCKS = 4, /* a thread: with fewer, threads share the panels */
    MIN_CHANNELS = 32
};

struct winograd {
    struct ft_kernel head;
    struct ft_wino_shape s;
    int64_t width, panels; /* features of a panel, and how many there are */
    struct ft_cpu_pack_shape weight;
    struct ft_cpu_pack *pack;
    struct ft_attrs epilogue;
    bool bias;
    int threads;
    bool by_panel;
    float *outside; /* zeros */
};

static struct ft_cpu *cpu_of(const struct winograd *k)
{
    return ft_cpu_of(k->head.device);
}

static void winograd_free(struct ft_kernel *kernel)
{
    struct winograd *k = (struct winograd *)(void *)kernel;
    ft_cpu_pack_drop(cpu_of(k), &k->pack);
    ft_free(k->outside);
    ft_free(k);
}

/* ---- the weight */

void ft_cpu_winograd_panel(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                           const float *weight, int64_t panel, float *to)
{
    int64_t width = cpu->vec->product_cols;
    int64_t feature_stride = shape->trans ? FT_WINO_WEIGHT : shape->depth * FT_WINO_WEIGHT;
    int64_t channel_stride = shape->trans ? shape->cols * FT_WINO_WEIGHT : FT_WINO_WEIGHT;
    float taps[FT_WINO_WEIGHT * FT_VEC_WIDEST];
    for (int64_t c = 0; c < shape->depth; c++) {
        const float *from = weight + panel * width * feature_stride + c * channel_stride;
        for (int64_t f = 0; f < width; f++) {
            for (int t = 0; t < FT_WINO_WEIGHT; t++) {
                taps[t * width + f] = from[shape->trans ? FT_WINO_WEIGHT - 1 - t : t];
            }
            from += feature_stride;
        }
        cpu->vec->wino_weight(taps, to + c * width, shape->depth * width);
    }
}

/* ---- tiles */

/* One run, and where the squares of the tiles at hand lie. */
struct pass {
    const struct winograd *k;
    const float *source, *bias, *residual;
    const float *weight; /* (panels, places, depth, width) */
    float *result, *scratch;
};

struct squares {
    float *of_source, *of_result; /* (places, tiles, channels) and (places, tiles, features) */
    int64_t source_apart, result_apart;
};

static int64_t apart_of(int64_t tiles, int64_t channels)
{
    return tiles * channels + FT_WINO_APART;
}

static int64_t squares_floats(const struct winograd *k, int64_t tiles)
{
    return PLACES * (apart_of(tiles, k->s.depth) + apart_of(tiles, k->s.features));
}

static struct squares squares_of(const struct winograd *k, float *scratch, int64_t tiles)
{
    struct squares s = {.source_apart = apart_of(tiles, k->s.depth),
                        .result_apart = apart_of(tiles, k->s.features)};
    s.of_source = scratch;
    s.of_result = scratch + PLACES * s.source_apart;
    return s;
}

static void read_tile(const struct pass *pass, int64_t tile, float *to, int64_t apart)
{
    const struct winograd *k = pass->k;
    const float *pixels[PLACES];
    ft_wino_source(&k->s, pass->source, k->outside, tile, pixels);
    cpu_of(k)->vec->wino_source(pixels, k->s.depth, to, apart);
}

static void store_tile(const struct pass *pass, int64_t tile, const float *from, int64_t apart)
{
    const struct winograd *k = pass->k;
    struct ft_vec_wino_result t = {.from = from,
                                   .apart = apart,
                                   .features = k->s.features,
                                   .bias = pass->bias,
                                   .residual = pass->residual,
                                   .y = pass->result,
                                   .act = k->epilogue.act,
                                   .act_a = k->epilogue.act_a,
                                   .act_b = k->epilogue.act_b};
    ft_wino_result(&k->s, tile, t.place);
    cpu_of(k)->vec->wino_result(&t);
}

/* The products of some tiles' squares, for the features of some panels. */
static void multiply(const struct pass *pass, const struct squares *s, int64_t tiles, int64_t panel_begin,
                     int64_t panel_end)
{
    const struct winograd *k = pass->k;
    int64_t parts = ft_parts_of(k->s.depth, DEPTH);
    struct ft_vec_product t = {.a_row = k->s.depth,
                               .a_step = 1,
                               .b_row = k->width,
                               .b_panel = PLACES * k->s.depth * k->width,
                               .c_row = k->s.features,
                               .rows = tiles,
                               .panels = panel_end - panel_begin,
                               .alpha = 1.0F};
    for (int64_t place = 0; place < PLACES; place++) {
        t.c = s->of_result + place * s->result_apart + panel_begin * k->width;
        for (int64_t i = 0; i < parts; i++) {
            int64_t from = k->s.depth * i / parts;
            t.depth = k->s.depth * (i + 1) / parts - from;
            t.a = s->of_source + place * s->source_apart + from;
            t.b = pass->weight + ((panel_begin * PLACES + place) * k->s.depth + from) * k->width;
            t.more = i == 0 ? NULL : t.c;
            cpu_of(k)->vec->product(&t);
        }
    }
}

/* ---- the ways threads share a run */

/* Blocks of tiles, each from x to y. */
static void run_blocks(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct winograd *k = pass->k;
    const struct squares s = squares_of(k, pass->scratch + thread * squares_floats(k, TILES), TILES);
    for (int64_t first = begin; first < end; first += TILES) {
        int64_t tiles = ft_smaller(TILES, end - first);
        for (int64_t i = 0; i < tiles; i++) {
            read_tile(pass, first + i, s.of_source + i * k->s.depth, s.source_apart);
        }
        multiply(pass, &s, tiles, 0, k->panels);
        for (int64_t i = 0; i < tiles; i++) {
            store_tile(pass, first + i, s.of_result + i * k->s.features, s.result_apart);
        }
    }
}

/* All tiles at once, one step after the other. */
static void read_all(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct winograd *k = pass->k;
    const struct squares s = squares_of(k, pass->scratch, ft_wino_tiles(&k->s));
    for (int64_t i = begin; i < end; i++) {
        read_tile(pass, i, s.of_source + i * k->s.depth, s.source_apart);
    }
}

static void multiply_panels(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct squares s = squares_of(pass->k, pass->scratch, ft_wino_tiles(&pass->k->s));
    multiply(pass, &s, ft_wino_tiles(&pass->k->s), begin, end);
}

static void store_all(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct pass *pass = context;
    const struct winograd *k = pass->k;
    const struct squares s = squares_of(k, pass->scratch, ft_wino_tiles(&k->s));
    for (int64_t i = begin; i < end; i++) {
        store_tile(pass, i, s.of_result + i * k->s.features, s.result_apart);
    }
}

static enum ft_status winograd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                   const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    struct winograd *k = (struct winograd *)(void *)kernel;
    const void *weight = NULL;
    FT_RETURN_IF_FAILED(ft_cpu_pack_panels(cpu_of(k), &k->weight, &in[1], &k->pack, &weight, err));
    struct pass pass = {.k = k, .source = ft_in(in, 0), .result = ft_out(out, 0), .scratch = scratch};
    pass.weight = weight;
    pass.bias = k->bias ? ft_in(in, 2) : NULL;
    pass.residual = k->epilogue.residual != 0 ? ft_in(in, k->bias ? 3 : 2) : NULL;
    if (k->by_panel) {
        ft_parallel_for(k->threads, ft_wino_tiles(&k->s), read_all, &pass);
        ft_parallel_for(k->threads, k->panels, multiply_panels, &pass);
        ft_parallel_for(k->threads, ft_wino_tiles(&k->s), store_all, &pass);
    } else {
        ft_parallel_chunks(k->threads, ft_wino_tiles(&k->s), TILES, run_blocks, &pass);
    }
    return FT_OK;
}

/* ---- preparation */

static void size(const struct ft_cpu *cpu, const struct ft_call *call, struct winograd *k)
{
    bool data = call->op == FT_OP_CONV_BWD_DATA;
    int64_t pad[2];
    for (int i = 0; i < 2; i++) {
        pad[i] = call->attrs.window.pad_begin[i];
        pad[i] = data ? FT_WINO_TAPS - 1 - pad[i] : pad[i];
    }
    k->s = ft_wino_shape_of(&call->in[0], &call->out[0], pad);
    k->width = cpu->vec->product_cols;
    k->panels = k->s.features / k->width;
    k->weight = (struct ft_cpu_pack_shape){
        .depth = k->s.depth, .cols = k->s.features, .trans = data, .form = FT_CPU_PACK_WINOGRAD};
    if (!data) {
        k->epilogue = call->attrs;
        k->bias = call->n_in - (call->attrs.residual != 0) == 3;
    }
    int64_t tiles = ft_wino_tiles(&k->s);
    k->threads = ft_cpu_threads(cpu, 2 * tiles * PLACES * k->s.depth * k->s.features / FT_CPU_FLOPS);
    k->by_panel = tiles <= (int64_t)k->threads * TILES * FEW_BLOCKS && k->panels >= k->threads;
}

static size_t scratch_bytes(const struct winograd *k)
{
    int64_t floats =
        k->by_panel ? squares_floats(k, ft_wino_tiles(&k->s)) : k->threads * squares_floats(k, TILES);
    return (size_t)floats * sizeof(float);
}

struct ft_kernel_room ft_cpu_winograd_room(const struct ft_cpu *cpu, const struct ft_call *call)
{
    struct winograd k = {0};
    size(cpu, call, &k);
    size_t weight = (size_t)(k.s.depth * k.s.features * FT_WINO_WEIGHT) * sizeof(float);
    return (struct ft_kernel_room){.scratch = scratch_bytes(&k),
                                   .packed = (size_t)(k.panels * ft_cpu_pack_bytes(cpu, &k.weight)) - weight};
}

enum ft_status ft_cpu_winograd(struct ft_device *device, const struct ft_call *call,
                               struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *made = NULL;
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct winograd), winograd_run, &made, err));
    made->free = winograd_free;
    struct winograd *k = (struct winograd *)(void *)made;
    size(ft_cpu_of(device), call, k);
    FT_TRY(ft_new((size_t)k->s.depth, sizeof(float), &k->outside, err));
    FT_TRY(ft_cpu_pack_reserve(ft_cpu_of(device), &k->weight, &k->pack, err));
    *scratch = scratch_bytes(k);
    *kernel = made;
    made = NULL;
done:
    if (made != NULL) {
        winograd_free(made);
    }
    return st;
}

/* ---- the rule, as winograd.h has it */

static bool can(const struct ft_cpu *cpu, const struct ft_attrs *attrs, const struct ft_type *x,
                const struct ft_type *y)
{
    const struct ft_window *w = &attrs->window;
    bool fits =
        attrs->group == 1 && x->rank == 4 && x->layout == FT_CHANNELS_LAST && y->layout == FT_CHANNELS_LAST;
    for (int i = 0; fits && i < 2; i++) {
        fits = w->kernel[i] == FT_WINO_TAPS && w->stride[i] == 1 && w->dilation[i] == 1 &&
               w->pad_begin[i] < FT_WINO_TAPS;
    }
    return fits && ft_extent(x, 1) % cpu->vec->product_cols == 0 &&
           ft_extent(y, 1) % cpu->vec->product_cols == 0 && ft_elements(x) > 0 && ft_elements(y) > 0;
}

/* At most half of a plain sum's products; whatever the batch, on which bits must not depend. */
static bool saves(const struct ft_type *y)
{
    int64_t tiles =
        ft_parts_of(ft_extent(y, 2), FT_VEC_WINO_TILE) * ft_parts_of(ft_extent(y, 3), FT_VEC_WINO_TILE);
    return 2 * tiles * PLACES <= ft_extent(y, 2) * ft_extent(y, 3) * FT_WINO_WEIGHT;
}

bool ft_cpu_is_winograd(const struct ft_cpu *cpu, const struct ft_call *call)
{
    const struct ft_type *x = &call->in[0];
    const struct ft_type *y = call->op == FT_OP_CONV_BWD_WEIGHT ? &call->in[1] : &call->out[0];
    if (cpu->direct != FT_CPU_DIRECT_RULE) {
        return cpu->direct == FT_CPU_WINOGRAD_ALWAYS && can(cpu, &call->attrs, x, y);
    }
    return strcmp(cpu->vec->name, "avx2") == 0 && can(cpu, &call->attrs, x, y) && saves(y) &&
           ft_smaller(ft_extent(x, 1), ft_extent(y, 1)) >= MIN_CHANNELS;
}
