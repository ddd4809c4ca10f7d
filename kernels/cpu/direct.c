#include "kernels/cpu/direct.h"

#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"

/*
 * Forward and the gradient of data are the same walk: every pixel of a result is a sum over taps of a
 * source's pixels times a matrix. With a stride, a pixel of the gradient meets only the taps that its place
 * modulo the stride allows: those pixels are a phase, with taps of their own.
 *
 * The depth (taps times the source's channels) is cut so that a panel's part stays in the first cache while
 * the tiles of a block, whose part of the source stays in the second, pass it.
 */

enum {
    PIXELS = FT_VEC_CONV_PIXELS,
    DEPTH = 256,     /* floats of a part: 16 KB of a panel */
    TILES = 24,      /* of a block: 144 KB of the source */
    MIN_PANELS = 4,  /* that a copied part of the source is worth */
    PITCH_MORE = 16, /* floats between copied pixels, so that they are no power of two apart */
    /* of the rule; the other two for windows of one tap */
    MIN_CHANNELS = 64,         /* of the source */
    MIN_CHANNELS_DATA = 512,   /* of dx */
    MIN_CHANNELS_WEIGHT = 256, /* of x */
    TABLE_ADDRESSES = 8192     /* of a block's pixels and taps, at most, unless one tile has more */
};

/* One axis of a phase: result pixel first + every * i, of `count`, meets source pixel step * i + offset[t].
 */
struct axis {
    int64_t count, first, every, step, taps;
    const int64_t *offset, *tap; /* (taps); tap: as the weight counts them */
};

struct geometry {
    int64_t n, source[2], result[2]; /* extents */
    int64_t depth, features;         /* channels of the source and of the result */
    int64_t phases[2];
    struct axis *axis[2]; /* (phases[i]) */
    int64_t *table;       /* what their offset and tap point into */
};

struct direct {
    struct ft_kernel head;
    struct geometry g;
    int64_t width, panels; /* features of a panel, and how many there are */
    int64_t taps, kernel_cols, feature_stride, channel_stride; /* of the weight */
    struct ft_attrs epilogue;
    bool bias;
    int64_t most_taps; /* of a phase */
    int64_t tiles;     /* of a block */
    int64_t pitch;     /* of a copied pixel; 0: sources are read where they lie */
    int threads;
    float *outside; /* zeros */
    float *packed;  /* (panels, taps by phase, depth, width) */
    bool *finite;   /* each panel */
    bool all_finite;
    const void *data; /* what is packed */
    uint64_t version;
};

/* ---- geometry */

static void geometry_free(struct geometry *g)
{
    ft_free(g->axis[0]);
    ft_free(g->axis[1]);
    ft_free(g->table);
}

static void forward_axis(const struct ft_window *w, int i, int64_t extent, struct axis *a, int64_t *table)
{
    *a = (struct axis){.count = extent, .every = 1, .step = w->stride[i], .taps = w->kernel[i]};
    for (int64_t t = 0; t < a->taps; t++) {
        table[t] = t * w->dilation[i] - w->pad_begin[i];
        table[a->taps + t] = t;
    }
    a->offset = table;
    a->tap = table + a->taps;
}

/* x = stride * y + dilation * t - pad: the taps of phase x % stride, for all phases. */
static void data_axis(const struct ft_window *w, int i, int64_t extent, struct axis *axes, int64_t *table)
{
    int64_t stride = w->stride[i];
    int64_t *offset = table;
    int64_t *tap = table + w->kernel[i];
    for (int64_t p = 0; p < stride; p++) {
        struct axis *a = &axes[p];
        *a = (struct axis){.first = p, .every = stride, .step = 1, .offset = offset, .tap = tap};
        a->count = p < extent ? ft_parts_of(extent - p, stride) : 0;
        for (int64_t t = 0; t < w->kernel[i]; t++) {
            int64_t distance = p + w->pad_begin[i] - t * w->dilation[i];
            if (distance % stride == 0) {
                *offset++ = distance / stride;
                *tap++ = t;
                a->taps++;
            }
        }
    }
}

static enum ft_status geometry_of(const struct ft_call *call, struct geometry *g, struct ft_err *err)
{
    const struct ft_window *w = &call->attrs.window;
    const struct ft_type *from = &call->in[0];
    const struct ft_type *to = &call->out[0];
    bool data = call->op == FT_OP_CONV_BWD_DATA;
    g->n = ft_extent(from, 0);
    g->depth = ft_extent(from, 1);
    g->features = ft_extent(to, 1);
    int64_t kernel[2] = {w->kernel[0], w->kernel[1]};
    FT_RETURN_IF_FAILED(ft_new((size_t)(2 * (kernel[0] + kernel[1])), sizeof(int64_t), &g->table, err));
    for (int i = 0; i < 2; i++) {
        g->source[i] = ft_extent(from, 2 + i);
        g->result[i] = ft_extent(to, 2 + i);
        g->phases[i] = data ? w->stride[i] : 1;
        FT_RETURN_IF_FAILED(ft_new((size_t)g->phases[i], sizeof(struct axis), &g->axis[i], err));
        int64_t *table = g->table + (i == 0 ? 0 : 2 * kernel[0]);
        (data ? data_axis : forward_axis)(w, i, g->result[i], g->axis[i], table);
    }
    return FT_OK;
}

/* ---- the weight */

static void direct_free(struct ft_kernel *kernel)
{
    struct direct *d = (struct direct *)(void *)kernel;
    geometry_free(&d->g);
    ft_free(d->outside);
    ft_free(d->packed);
    ft_free(d->finite);
    ft_free(d);
}

static struct ft_cpu *cpu_of(const struct direct *d)
{
    return ft_cpu_of(d->head.device);
}

static int64_t tap_floats(const struct direct *d)
{
    return d->g.depth * d->width;
}

static int64_t panel_floats(const struct direct *d)
{
    return d->taps * tap_floats(d);
}

struct packing {
    struct direct *d;
    const float *w;
};

/* One tap of one panel: (depth, width). */
static void pack_tap(const struct direct *d, const float *from, int64_t features, float *to)
{
    for (int64_t c = 0; c < d->g.depth; c++) {
        const float *row = from + c * d->channel_stride;
        for (int64_t f = 0; f < features; f++) {
            to[f] = row[f * d->feature_stride];
        }
        to += d->width;
    }
}

static void pack_panels(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const struct packing *pack = context;
    const struct direct *d = pack->d;
    const struct geometry *g = &d->g;
    for (int64_t panel = begin; panel < end; panel++) {
        float *to = d->packed + panel * panel_floats(d);
        const float *from = pack->w + panel * d->width * d->feature_stride;
        int64_t count = ft_smaller(d->width, g->features - panel * d->width);
        for (int64_t p = 0; p < g->phases[0] * g->phases[1]; p++) {
            const struct axis *rows = &g->axis[0][p / g->phases[1]];
            const struct axis *cols = &g->axis[1][p % g->phases[1]];
            for (int64_t t = 0; t < rows->taps * cols->taps; t++) {
                int64_t tap = rows->tap[t / cols->taps] * d->kernel_cols + cols->tap[t % cols->taps];
                pack_tap(d, from + tap, count, to);
                to += tap_floats(d);
            }
        }
        /* Squares in double do not overflow. */
        double sum =
            cpu_of(d)->vec->sum_squares(d->packed + panel * panel_floats(d), (size_t)panel_floats(d));
        d->finite[panel] = isfinite(sum);
    }
}

static void pack_update(struct direct *d, const struct ft_arg *w)
{
    if (w->version != 0 && w->version == d->version && w->data == d->data) {
        return;
    }
    struct packing pack = {d, w->data};
    ft_cpu_items(cpu_of(d), d->panels, panel_floats(d), pack_panels, &pack);
    d->all_finite = true;
    for (int64_t i = 0; i < d->panels; i++) {
        d->all_finite = d->all_finite && d->finite[i];
    }
    d->version = w->version;
    d->data = w->data;
}

/* ---- a block of tiles */

/* One run over all pixels and features. */
struct pass {
    const struct direct *d;
    const float *source, *bias, *residual;
    float *result;
    char *scratch;
    /* the phase */
    const struct axis *rows, *cols;
    int64_t first_tap; /* before it in a panel */
    bool by_panel;     /* threads share the panels, not the tiles */
};

static int64_t phase_taps(const struct pass *pass)
{
    return pass->rows->taps * pass->cols->taps;
}

static int64_t phase_pixels(const struct pass *pass)
{
    return pass->d->g.n * pass->rows->count * pass->cols->count;
}

/* What a thread knows about the tiles it is at. */
struct block {
    const struct pass *pass;
    int64_t pixel, pixels;
    int64_t *place;     /* (tiles, PIXELS) */
    const float **at;   /* (tiles, taps of the phase, PIXELS) */
    const float **copy; /* (tiles, PIXELS): of one tap, copied */
    float *copied;      /* (tiles, PIXELS, pitch) */
};

/* A part of the depth: taps .. of one phase, and of each floats from .. */
struct part {
    int64_t tap, taps, from, length;
    bool first, last;
};

static size_t rounded(size_t bytes)
{
    return (bytes + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

static size_t place_bytes(const struct direct *d)
{
    return rounded((size_t)(d->tiles * PIXELS) * sizeof(int64_t));
}

static size_t at_bytes(const struct direct *d)
{
    return rounded((size_t)(d->tiles * PIXELS * ft_larger(1, d->most_taps)) * sizeof(const float *));
}

static size_t copy_bytes(const struct direct *d)
{
    return rounded((size_t)(d->tiles * PIXELS) * sizeof(const float *));
}

static size_t thread_bytes(const struct direct *d)
{
    size_t copied = rounded((size_t)(d->tiles * PIXELS * d->pitch) * sizeof(float));
    return place_bytes(d) + at_bytes(d) + copy_bytes(d) + copied;
}

static struct block block_of(const struct pass *pass, int thread)
{
    const struct direct *d = pass->d;
    char *scratch = pass->scratch + (size_t)thread * thread_bytes(d);
    struct block b = {.pass = pass, .place = (int64_t *)(void *)scratch};
    scratch += place_bytes(d);
    b.at = (const float **)(void *)scratch;
    scratch += at_bytes(d);
    b.copy = (const float **)(void *)scratch;
    b.copied = (float *)(void *)(scratch + copy_bytes(d));
    return b;
}

/* Where a pixel of a phase is. */
struct spot {
    int64_t image, row, col;
};

/* Without divisions, which take longer than a small tile's products. */
static void spot_next(const struct pass *pass, struct spot *spot)
{
    spot->col++;
    if (spot->col == pass->cols->count) {
        spot->col = 0;
        spot->row++;
    }
    if (spot->row == pass->rows->count) {
        spot->row = 0;
        spot->image++;
    }
}

static void address_pixel(const struct pass *pass, const struct spot *spot, const float **at)
{
    const struct direct *d = pass->d;
    const struct geometry *g = &d->g;
    const float *image = pass->source + spot->image * g->source[0] * g->source[1] * g->depth;
    for (int64_t i = 0; i < pass->rows->taps; i++) {
        int64_t row = spot->row * pass->rows->step + pass->rows->offset[i];
        for (int64_t j = 0; j < pass->cols->taps; j++) {
            int64_t col = spot->col * pass->cols->step + pass->cols->offset[j];
            bool inside = row >= 0 && row < g->source[0] && col >= 0 && col < g->source[1];
            *at = inside ? image + (row * g->source[1] + col) * g->depth : d->outside;
            at += PIXELS;
        }
    }
}

static int64_t place_of(const struct pass *pass, const struct spot *spot)
{
    const struct geometry *g = &pass->d->g;
    int64_t row = pass->rows->first + spot->row * pass->rows->every;
    int64_t col = pass->cols->first + spot->col * pass->cols->every;
    return ((spot->image * g->result[0] + row) * g->result[1] + col) * g->features;
}

static void block_address(struct block *b, int64_t pixel, int64_t pixels)
{
    const struct pass *pass = b->pass;
    int64_t line = pixel / pass->cols->count;
    struct spot spot = {
        .image = line / pass->rows->count, .row = line % pass->rows->count, .col = pixel % pass->cols->count};
    b->pixel = pixel;
    b->pixels = pixels;
    for (int64_t i = 0; i < ft_parts_of(pixels, PIXELS) * PIXELS; i++) {
        const float **at = b->at + i / PIXELS * PIXELS * phase_taps(pass) + i % PIXELS;
        address_pixel(pass, &spot, at);
        b->place[i] = place_of(pass, &spot);
        if (i + 1 < pixels) { /* beyond: the last one again, its sums are not stored */
            spot_next(pass, &spot);
        }
    }
}

/* Rows a power of two apart share few lines of the caches: the part moves closer together. */
static void block_copy(struct block *b, const struct part *part)
{
    int64_t taps = phase_taps(b->pass);
    for (int64_t i = 0; i < ft_parts_of(b->pixels, PIXELS) * PIXELS; i++) {
        const float *from = b->at[(i / PIXELS * taps + part->tap) * PIXELS + i % PIXELS];
        float *to = b->copied + i * b->pass->d->pitch;
        memcpy(to, from + part->from, (size_t)part->length * sizeof *to);
        b->copy[i] = to;
    }
}

/* The next panel's part on its way to the second cache, a piece a tile. */
struct ahead {
    const float *at;
    int64_t step, left; /* lines of the cache */
};

enum { LINE_FLOATS = 16 };

static struct ahead ahead_of(const struct block *b, const struct part *part, const float *next, int64_t panel)
{
    const struct direct *d = b->pass->d;
    struct ahead a = {.at = next};
    if (panel + 1 < d->panels) {
        a.left = part->taps * part->length * d->width / LINE_FLOATS;
        a.step = ft_parts_of(a.left, ft_parts_of(b->pixels, PIXELS));
    }
    return a;
}

static void ahead_step(struct ahead *a)
{
    for (int64_t i = 0; i < a->step && a->left > 0; i++) {
        __builtin_prefetch(a->at, 0, 2);
        a->at += LINE_FLOATS;
        a->left--;
    }
}

/* And of the next panel what this tile's pixels store, or read as residual. */
static void ahead_pixels(const struct ft_vec_conv *t, int64_t width)
{
    for (int64_t i = 0; i < t->pixels; i++) {
        if (t->first) {
            __builtin_prefetch(t->y + t->place[i] + width, 1, 2);
        }
        if (t->first && t->residual != NULL) {
            __builtin_prefetch(t->residual + t->place[i] + width, 0, 2);
        }
    }
}

static void run_panel(const struct block *b, const struct part *part, int64_t panel, bool copied)
{
    const struct pass *pass = b->pass;
    const struct direct *d = pass->d;
    int64_t feature = panel * d->width;
    int64_t before = (pass->first_tap + part->tap) * d->g.depth + part->from;
    struct ft_vec_conv t = {.runs = part->taps, .length = part->length, .first = part->first};
    t.from = copied ? 0 : part->from;
    t.panel = d->packed + panel * panel_floats(d) + before * d->width;
    t.features = ft_smaller(d->width, d->g.features - feature);
    t.last = part->last;
    t.bias = pass->bias == NULL ? NULL : pass->bias + feature;
    t.residual = pass->residual == NULL ? NULL : pass->residual + feature;
    t.y = pass->result + feature;
    t.act = d->epilogue.act;
    t.act_a = d->epilogue.act_a;
    t.act_b = d->epilogue.act_b;
    int64_t taps = phase_taps(pass);
    const struct ft_vec *vec = cpu_of(d)->vec;
    struct ahead ahead = ahead_of(b, part, t.panel + panel_floats(d), panel);
    for (int64_t i = 0; i < b->pixels; i += PIXELS) {
        ahead_step(&ahead);
        t.at = copied ? b->copy + i : b->at + i * taps + part->tap * PIXELS;
        t.place = b->place + i;
        t.pixels = ft_smaller(PIXELS, b->pixels - i);
        if (panel + 1 < d->panels) {
            ahead_pixels(&t, d->width);
        }
        if (d->all_finite) {
            vec->conv_tile(&t);
        } else { /* zero times infinity is not zero */
            vec->conv_tile_skip(&t, d->outside);
        }
    }
}

/* Part `index` of a phase's depth; there is one even if no tap meets the phase: its pixels are zero. */
static struct part part_of(const struct pass *pass, int64_t index)
{
    int64_t depth = pass->d->g.depth;
    int64_t taps = phase_taps(pass);
    int64_t cuts = ft_parts_of(depth, DEPTH); /* of one tap */
    if (cuts > 1 && taps > 0) {
        struct part p = {.tap = index / cuts, .taps = 1, .from = depth * (index % cuts) / cuts};
        p.length = depth * (index % cuts + 1) / cuts - p.from;
        p.first = index == 0;
        p.last = index == taps * cuts - 1;
        return p;
    }
    int64_t step = ft_larger(1, DEPTH / depth);
    struct part p = {.tap = index * step, .length = depth, .first = index == 0};
    p.taps = ft_smaller(step, taps - p.tap);
    p.last = p.tap + p.taps == taps;
    return p;
}

static void run_block(struct block *b, int64_t panel_begin, int64_t panel_end)
{
    const struct direct *d = b->pass->d;
    struct part part = {0};
    for (int64_t i = 0; !part.last; i++) {
        part = part_of(b->pass, i);
        bool copied = d->pitch > 0 && d->all_finite && part.taps == 1;
        if (copied) {
            block_copy(b, &part);
        }
        for (int64_t panel = panel_begin; panel < panel_end; panel++) {
            run_panel(b, &part, panel, copied);
        }
    }
}

static void run_part(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct direct *d = pass->d;
    struct block b = block_of(pass, thread);
    int64_t pixel_begin = pass->by_panel ? 0 : begin * PIXELS;
    int64_t pixel_end = pass->by_panel ? phase_pixels(pass) : ft_smaller(end * PIXELS, phase_pixels(pass));
    int64_t step = d->tiles * PIXELS;
    for (int64_t pixel = pixel_begin; pixel < pixel_end; pixel += step) {
        block_address(&b, pixel, ft_smaller(step, pixel_end - pixel));
        run_block(&b, pass->by_panel ? begin : 0, pass->by_panel ? end : d->panels);
    }
}

static enum ft_status direct_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)err;
    struct direct *d = (struct direct *)(void *)kernel;
    const struct geometry *g = &d->g;
    pack_update(d, &in[1]);
    struct pass pass = {.d = d, .source = ft_in(in, 0), .result = ft_out(out, 0), .scratch = scratch};
    pass.bias = d->bias ? ft_in(in, 2) : NULL;
    pass.residual = d->epilogue.residual != 0 ? ft_in(in, d->bias ? 3 : 2) : NULL;
    for (int64_t p = 0; p < g->phases[0] * g->phases[1]; p++) {
        pass.rows = &g->axis[0][p / g->phases[1]];
        pass.cols = &g->axis[1][p % g->phases[1]];
        int64_t tiles = ft_parts_of(phase_pixels(&pass), PIXELS);
        pass.by_panel = tiles < 8 * d->threads && d->panels > 1;
        if (pass.by_panel) {
            ft_parallel_for(d->threads, d->panels, run_part, &pass);
        } else if (tiles > 0) {
            ft_parallel_chunks(d->threads, tiles, d->tiles, run_part, &pass);
        }
        pass.first_tap += phase_taps(&pass);
    }
    return FT_OK;
}

/* ---- preparation */

static void size_blocks(struct direct *d)
{
    const struct geometry *g = &d->g;
    for (int64_t p = 0; p < g->phases[0] * g->phases[1]; p++) {
        int64_t taps = g->axis[0][p / g->phases[1]].taps * g->axis[1][p % g->phases[1]].taps;
        d->most_taps = ft_larger(d->most_taps, taps);
    }
    int64_t fit = TABLE_ADDRESSES / (PIXELS * ft_larger(1, d->most_taps));
    d->tiles = ft_larger(1, ft_smaller(TILES, fit));
    if (g->depth > DEPTH && d->panels >= MIN_PANELS) {
        d->pitch = ft_parts_of(g->depth, ft_parts_of(g->depth, DEPTH)) + PITCH_MORE;
    }
}

enum ft_status ft_cpu_direct(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *k = NULL;
    struct ft_cpu *cpu = ft_cpu_of(device);
    const struct ft_type *w = &call->in[1];
    bool data = call->op == FT_OP_CONV_BWD_DATA;
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct direct), direct_run, &k, err));
    k->free = direct_free;
    struct direct *d = (struct direct *)(void *)k;
    FT_TRY(geometry_of(call, &d->g, err));
    d->width = cpu->vec->conv_features;
    d->panels = ft_parts_of(d->g.features, d->width);
    d->kernel_cols = ft_extent(w, 3);
    d->taps = ft_extent(w, 2) * d->kernel_cols;
    d->feature_stride = data ? d->taps : ft_extent(w, 1) * d->taps;
    d->channel_stride = data ? ft_extent(w, 1) * d->taps : d->taps;
    if (!data) {
        d->epilogue = call->attrs;
        d->bias = call->n_in - (call->attrs.residual != 0) == 3;
    }
    size_blocks(d);
    const struct ft_type *pixels = data ? &call->in[0] : &call->out[0]; /* those of y */
    int64_t macs = ft_elements(pixels) / ft_extent(pixels, 1) * ft_elements(w);
    d->threads = ft_cpu_threads(cpu, 2 * macs / FT_CPU_FLOPS);
    FT_TRY(ft_new((size_t)d->g.depth, sizeof(float), &d->outside, err));
    FT_TRY(ft_new((size_t)(d->panels * panel_floats(d)), sizeof(float), &d->packed, err));
    FT_TRY(ft_new((size_t)d->panels, sizeof(bool), &d->finite, err));
    *scratch = (size_t)d->threads * thread_bytes(d);
    *kernel = k;
    k = NULL;
done:
    if (k != NULL) {
        direct_free(k);
    }
    return st;
}

/* ---- the rule, as direct.h has it */

static bool faster(const struct ft_call *call)
{
    const struct ft_window *w = &call->attrs.window;
    if (ft_extent(&call->in[0], 1) < MIN_CHANNELS) {
        return false;
    }
    if (w->kernel[0] * w->kernel[1] > 1) {
        return true;
    }
    if (call->op == FT_OP_CONV) {
        return call->attrs.residual != 0;
    }
    if (call->op == FT_OP_CONV_BWD_DATA) {
        return ft_extent(&call->out[0], 1) >= MIN_CHANNELS_DATA;
    }
    return ft_extent(&call->in[0], 1) >= MIN_CHANNELS_WEIGHT;
}

static bool wanted(const struct ft_cpu *cpu, const struct ft_call *call)
{
    if (cpu->direct != FT_CPU_DIRECT_RULE) {
        return cpu->direct != FT_CPU_DIRECT_NEVER;
    }
    return strcmp(cpu->vec->name, "avx2") == 0 && faster(call);
}

/* `with`: the other operand that is an activation. */
static bool can(const struct ft_call *call, const struct ft_type *with)
{
    return call->attrs.group == 1 && call->in[0].rank == 4 && call->in[0].layout == FT_CHANNELS_LAST &&
           with->layout == FT_CHANNELS_LAST;
}

bool ft_cpu_can_direct(const struct ft_call *call)
{
    return can(call, &call->out[0]);
}

bool ft_cpu_is_direct(const struct ft_cpu *cpu, const struct ft_call *call)
{
    return ft_cpu_can_direct(call) && wanted(cpu, call);
}

bool ft_cpu_is_direct_weight(const struct ft_cpu *cpu, const struct ft_call *call)
{
    return can(call, &call->in[1]) && wanted(cpu, call);
}
