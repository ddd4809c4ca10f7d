#include "kernels/cpu/direct.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/direct_shape.h"

enum { PIXELS = FT_VEC_CONV_PIXELS };

/* ---- forward */

enum {
    PANEL_BYTES = 196608, /* of a block: they stay in the second cache while the pixels pass */
    MIN_CHANNELS = 64,    /* of the rule */
};

struct direct {
    struct ft_kernel head;
    struct ft_direct_shape s;
    struct ft_attrs epilogue;
    bool bias;
    int64_t block; /* panels */
    int threads;
    float *outside; /* zeros */
    float *packed;  /* (panels, taps, c, features) */
    bool *finite;   /* each panel */
    bool all_finite;
    const void *data; /* what is packed */
    uint64_t version;
};

static void direct_free(struct ft_kernel *kernel)
{
    struct direct *d = (struct direct *)(void *)kernel;
    ft_free(d->outside);
    ft_free(d->packed);
    ft_free(d->finite);
    ft_free(d);
}

static struct ft_cpu *cpu_of(const struct direct *d)
{
    return ft_cpu_of(d->head.device);
}

static int64_t panel_floats(const struct ft_direct_shape *s)
{
    return s->kh * s->kw * s->c * s->features;
}

struct packing {
    struct direct *d;
    const float *w; /* (k, c, taps) */
};

static void pack_panels(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct packing *pack = context;
    const struct ft_direct_shape *s = &pack->d->s;
    int64_t taps = s->kh * s->kw;
    for (int64_t panel = begin; panel < end; panel++) {
        float *to = pack->d->packed + panel * panel_floats(s);
        int64_t count = ft_smaller(s->features, s->k - panel * s->features);
        const float *from = pack->w + panel * s->features * s->c * taps;
        for (int64_t c = 0; c < s->c; c++) {
            for (int64_t f = 0; f < count; f++) {
                for (int64_t t = 0; t < taps; t++) {
                    to[(t * s->c + c) * s->features + f] = from[(f * s->c + c) * taps + t];
                }
            }
        }
        /* Squares in double do not overflow. */
        double sum = cpu_of(pack->d)->vec->sum_squares(to, (size_t)panel_floats(s));
        pack->d->finite[panel] = isfinite(sum);
    }
}

static void pack_update(struct direct *d, const struct ft_arg *w)
{
    if (w->version != 0 && w->version == d->version && w->data == d->data) {
        return;
    }
    struct packing pack = {d, w->data};
    ft_cpu_items(cpu_of(d), d->s.panels, panel_floats(&d->s), pack_panels, &pack);
    d->all_finite = true;
    for (int64_t i = 0; i < d->s.panels; i++) {
        d->all_finite = d->all_finite && d->finite[i];
    }
    d->version = w->version;
    d->data = w->data;
}

/* One run over all pixels and features. */
struct pass {
    struct direct *d;
    const float *x, *bias, *residual;
    float *y;
    char *scratch;
    bool by_panel; /* threads share the panels, not the tiles */
};

/* Addresses of a tile's taps; each thread has its own. */
static size_t thread_bytes(const struct ft_direct_shape *s)
{
    size_t bytes = (size_t)(s->kh * s->kw * PIXELS) * sizeof(const float *);
    return (bytes + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

static void address_pixel(const struct direct *d, struct ft_corner corner, const float **at)
{
    const struct ft_direct_shape *s = &d->s;
    for (int64_t i = 0; i < s->kh; i++) {
        int64_t row = corner.row + i * s->dilation[0];
        for (int64_t j = 0; j < s->kw; j++) {
            int64_t col = corner.col + j * s->dilation[1];
            bool inside = row >= 0 && row < s->h && col >= 0 && col < s->w;
            *at = inside ? corner.image + (row * s->w + col) * s->c : d->outside;
            at += PIXELS;
        }
    }
}

/* `pixels` are left; corner: of the tile's first pixel, becomes the next tile's. */
static void address_tile(const struct direct *d, int64_t pixels, struct ft_corner *corner, const float **at)
{
    for (int64_t i = 0; i < PIXELS; i++) {
        address_pixel(d, *corner, at + i);
        if (i + 1 < pixels) { /* beyond: the last one again, its sums are not stored */
            ft_corner_next(&d->s, corner);
        }
    }
}

static void run_tile(const struct pass *pass, int64_t pixel, int64_t panel, const float *const *at)
{
    const struct direct *d = pass->d;
    const struct ft_direct_shape *s = &d->s;
    int64_t feature = panel * s->features;
    int64_t y = pixel * s->k + feature;
    struct ft_vec_conv t = {.at = at, .panel = d->packed + panel * panel_floats(s), .stride = s->k};
    t.runs = s->kh * s->kw;
    t.length = s->c;
    t.pixels = ft_smaller(PIXELS, ft_direct_pixels(s) - pixel);
    t.features = ft_smaller(s->features, s->k - feature);
    t.bias = pass->bias == NULL ? NULL : pass->bias + feature;
    t.residual = pass->residual == NULL ? NULL : pass->residual + y;
    t.y = pass->y + y;
    t.act = d->epilogue.act;
    t.act_a = d->epilogue.act_a;
    t.act_b = d->epilogue.act_b;
    if (d->all_finite) {
        cpu_of(d)->vec->conv_tile(&t);
    } else { /* zero times infinity is not zero */
        cpu_of(d)->vec->conv_tile_skip(&t, d->outside);
    }
}

static int64_t tiles_of(const struct ft_direct_shape *s)
{
    return (ft_direct_pixels(s) + PIXELS - 1) / PIXELS;
}

static void run_part(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct direct *d = pass->d;
    const struct ft_direct_shape *s = &d->s;
    const float **at = (const float **)(void *)(pass->scratch + (size_t)thread * thread_bytes(s));
    int64_t panel_begin = pass->by_panel ? begin : 0;
    int64_t panel_end = pass->by_panel ? end : s->panels;
    int64_t pixel_begin = pass->by_panel ? 0 : begin * PIXELS;
    int64_t pixel_end = pass->by_panel ? ft_direct_pixels(s) : ft_smaller(end * PIXELS, ft_direct_pixels(s));
    for (int64_t p = panel_begin; p < panel_end; p += d->block) {
        int64_t last = ft_smaller(p + d->block, panel_end);
        struct ft_corner corner = ft_corner_of(s, pass->x, pixel_begin);
        for (int64_t pixel = pixel_begin; pixel < pixel_end; pixel += PIXELS) {
            address_tile(d, pixel_end - pixel, &corner, at);
            for (int64_t i = p; i < last; i++) {
                run_tile(pass, pixel, i, at);
            }
        }
    }
}

static enum ft_status run_forward(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    struct direct *d = (struct direct *)(void *)kernel;
    pack_update(d, &in[1]);
    struct pass pass = {.d = d, .x = ft_in(in, 0), .y = ft_out(out, 0), .scratch = scratch};
    pass.bias = d->bias ? ft_in(in, 2) : NULL;
    pass.residual = d->epilogue.residual != 0 ? ft_in(in, d->bias ? 3 : 2) : NULL;
    int64_t tiles = tiles_of(&d->s);
    pass.by_panel = tiles < 8 * d->threads && d->s.panels > 1;
    ft_parallel_for(d->threads, pass.by_panel ? d->s.panels : tiles, run_part, &pass);
    return FT_OK;
}

/* Input 0 is x in both rows. */
static bool rule(const struct ft_cpu *cpu, const struct ft_call *call)
{
    const struct ft_window *w = &call->attrs.window;
    return strcmp(cpu->vec->name, "avx2") == 0 && w->kernel[0] * w->kernel[1] > 1 &&
           ft_extent(&call->in[0], 1) >= MIN_CHANNELS;
}

bool ft_cpu_can_direct(const struct ft_call *call)
{
    return call->attrs.group == 1 && call->in[0].rank == 4 && call->in[0].layout == FT_CHANNELS_LAST &&
           call->out[0].layout == FT_CHANNELS_LAST;
}

bool ft_cpu_is_direct(const struct ft_cpu *cpu, const struct ft_call *call)
{
    if (!ft_cpu_can_direct(call) || cpu->direct == FT_CPU_DIRECT_NEVER) {
        return false;
    }
    return cpu->direct == FT_CPU_DIRECT_ALWAYS || rule(cpu, call);
}

bool ft_cpu_is_direct_weight(const struct ft_cpu *cpu, const struct ft_call *call)
{
    bool can = call->attrs.group == 1 && call->in[0].rank == 4 && call->in[0].layout == FT_CHANNELS_LAST &&
               call->in[1].layout == FT_CHANNELS_LAST;
    if (!can || cpu->direct == FT_CPU_DIRECT_NEVER) {
        return false;
    }
    return cpu->direct == FT_CPU_DIRECT_ALWAYS || rule(cpu, call);
}

enum ft_status ft_cpu_direct(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *k = NULL;
    struct ft_cpu *cpu = ft_cpu_of(device);
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct direct), run_forward, &k, err));
    k->free = direct_free;
    struct direct *d = (struct direct *)(void *)k;
    d->s = ft_direct_shape_of(cpu, &call->attrs, &call->in[0], &call->out[0]);
    d->epilogue = call->attrs;
    d->bias = call->n_in - (call->attrs.residual != 0) == 3;
    d->block = ft_larger(1, PANEL_BYTES / (panel_floats(&d->s) * (int64_t)sizeof(float)));
    int64_t macs = ft_direct_pixels(&d->s) * d->s.panels * panel_floats(&d->s);
    d->threads = ft_cpu_threads(cpu, 2 * macs / FT_CPU_FLOPS);
    FT_TRY(ft_new((size_t)d->s.c, sizeof(float), &d->outside, err));
    FT_TRY(ft_new((size_t)(d->s.panels * panel_floats(&d->s)), sizeof(float), &d->packed, err));
    FT_TRY(ft_new((size_t)d->s.panels, sizeof(bool), &d->finite, err));
    *scratch = (size_t)d->threads * thread_bytes(&d->s);
    *kernel = k;
    k = NULL;
done:
    if (k != NULL) {
        direct_free(k);
    }
    return st;
}
