#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/direct.h"
#include "kernels/cpu/direct_shape.h"

/*
 * dw of a convolution of our own: for each tap the product of x's channels and dy's features over all pixels
 * whose tap lies inside x. Pixels are taken in chunks, packed as the register tiles read them: six channels a
 * column of x, which stay in the second cache while one panel of dy after the other, in the first cache,
 * meets them. All taps follow one another over a chunk, so that x and dy come from memory once.
 *
 * A small dw is summed over a fixed number of lanes of pixels that the threads share, and these sums are
 * added in order; of a large one the threads share the channels or the features, whichever are more. So no
 * bit depends on the number of threads.
 */

enum {
    CHANNELS = FT_VEC_CONV_PIXELS, /* of a column */
    CHUNK = 192,                   /* pixels */
    BLOCK = 48,                    /* columns: 216 KB a chunk */
    LANES = 8,
    LANE_FLOATS = 81920,    /* sums of a lane, at most */
    GROUP_FLOATS = 1 << 22, /* sums of the taps that follow one another, at most, unless it is one */
    COLUMN_FLOATS = CHUNK * CHANNELS + 16 /* not all columns begin in the same lines of the caches */
};

struct weight {
    struct ft_kernel head;
    struct ft_direct_shape s;
    int64_t columns, block; /* of all channels; of a block */
    int64_t lanes;          /* 1: threads share columns or panels */
    bool by_column, padded;
    int threads;
    int64_t taps;   /* that follow one another */
    int64_t panels; /* of a thread, at most */
};

struct pass {
    const struct weight *k;
    const struct ft_vec *vec;
    const float *x, *dy;
    float *dw; /* (k, c, kh, kw) */
    char *scratch;
    float *lanes; /* (lanes, lane_floats()) */
};

/* Sums of taps, channels and features. */
struct sums {
    int64_t tap, taps, column, columns, panel, panels;
    float *at; /* (taps, columns * CHANNELS, panels * features) */
};

/* What one thread works on. */
struct part {
    const struct pass *pass;
    struct sums sums;
    int64_t begin, end;  /* pixels */
    const float **where; /* (CHUNK): pixels of x */
    int64_t *pixel;      /* (CHUNK): of dy */
    float *x;            /* (block, COLUMN_FLOATS) */
    float *dy;           /* (panels, CHUNK, features) */
    float *outside;      /* (c): zeros */
};

/* ---- sizes */

static int64_t row_floats(const struct weight *k, const struct sums *s)
{
    return s->panels * k->s.features;
}

static int64_t tap_floats(const struct weight *k, const struct sums *s)
{
    return s->columns * CHANNELS * row_floats(k, s);
}

static int64_t all_taps(const struct weight *k)
{
    return k->s.kh * k->s.kw;
}

static int64_t lane_floats(const struct weight *k)
{
    return all_taps(k) * k->columns * CHANNELS * k->s.panels * k->s.features;
}

static int64_t sum_floats(const struct weight *k)
{
    return k->lanes > 1 ? 0 : k->taps * k->block * CHANNELS * k->panels * k->s.features;
}

static size_t rounded(size_t bytes)
{
    return (bytes + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

/* Parts of a thread's scratch. */
enum { SCRATCH_X, SCRATCH_DY, SCRATCH_OUTSIDE, SCRATCH_SUMS, SCRATCH_WHERE, SCRATCH_PIXEL, SCRATCH_END };

static size_t scratch_at(const struct weight *k, int what)
{
    const size_t bytes[SCRATCH_END] = {
        [SCRATCH_X] = (size_t)(k->block * COLUMN_FLOATS) * sizeof(float),
        [SCRATCH_DY] = (size_t)(k->panels * CHUNK * k->s.features) * sizeof(float),
        [SCRATCH_OUTSIDE] = (size_t)k->s.c * sizeof(float),
        [SCRATCH_SUMS] = (size_t)sum_floats(k) * sizeof(float),
        [SCRATCH_WHERE] = CHUNK * sizeof(const float *),
        [SCRATCH_PIXEL] = CHUNK * sizeof(int64_t),
    };
    size_t at = 0;
    for (int i = 0; i < what; i++) {
        at += rounded(bytes[i]);
    }
    return at;
}

/* ---- a chunk */

/* Of pixels begin .. end - 1 those whose tap (i, j) is inside x, or all of them; returns how many. */
static int64_t gather(const struct part *p, int64_t tap, int64_t begin, int64_t end, bool all)
{
    const struct ft_direct_shape *s = &p->pass->k->s;
    int64_t down = tap / s->kw * s->dilation[0];
    int64_t right = tap % s->kw * s->dilation[1];
    struct ft_corner at = ft_corner_of(s, p->pass->x, begin);
    int64_t count = 0;
    for (int64_t pixel = begin; pixel < end; pixel++) {
        int64_t row = at.row + down;
        int64_t col = at.col + right;
        bool inside = row >= 0 && row < s->h && col >= 0 && col < s->w;
        p->where[count] = inside ? at.image + (row * s->w + col) * s->c : p->outside;
        p->pixel[count] = pixel;
        count += inside || all ? 1 : 0;
        ft_corner_next(s, &at);
    }
    return count;
}

static void pack_x(const struct part *p, int64_t pixels)
{
    int64_t first = p->sums.column * CHANNELS;
    int64_t channels = ft_smaller(p->sums.columns * CHANNELS, p->pass->k->s.c - first);
    int64_t whole = channels / CHANNELS;
    size_t rest = (size_t)(channels % CHANNELS);
    for (int64_t i = 0; i < pixels; i++) {
        const float *from = p->where[i] + first;
        float *to = p->x + i * CHANNELS;
        for (int64_t c = 0; c < whole; c++) {
            memcpy(to, from, CHANNELS * sizeof *to);
            from += CHANNELS;
            to += COLUMN_FLOATS;
        }
        if (rest > 0) {
            memset(to, 0, CHANNELS * sizeof *to);
            memcpy(to, from, rest * sizeof *to);
        }
    }
}

static float *panel_at(const struct part *p, int64_t panel)
{
    return p->dy + panel * CHUNK * p->pass->k->s.features;
}

static void pack_panel(const struct part *p, int64_t panel, int64_t pixels)
{
    const struct ft_direct_shape *s = &p->pass->k->s;
    int64_t feature = (p->sums.panel + panel) * s->features;
    int64_t count = ft_smaller(s->features, s->k - feature);
    const float *from = p->pass->dy + feature;
    float *to = panel_at(p, panel);
    for (int64_t i = 0; i < pixels; i++) {
        memcpy(to, from + p->pixel[i] * s->k, (size_t)count * sizeof *to);
        memset(to + count, 0, (size_t)(s->features - count) * sizeof *to);
        to += s->features;
    }
}

/* Returns whether all of it is finite, as far as anybody asks. */
static bool pack_dy(const struct part *p, int64_t pixels)
{
    const struct weight *k = p->pass->k;
    bool finite = true;
    for (int64_t panel = 0; panel < p->sums.panels; panel++) {
        pack_panel(p, panel, pixels);
        if (k->padded) {
            double sum = p->pass->vec->sum(panel_at(p, panel), (size_t)(pixels * k->s.features));
            finite = finite && isfinite(sum);
        }
    }
    return finite;
}

static void add_products(const struct part *p, int64_t tap, int64_t pixels)
{
    const struct weight *k = p->pass->k;
    int64_t stride = row_floats(k, &p->sums);
    float *sums = p->sums.at + (tap - p->sums.tap) * tap_floats(k, &p->sums);
    for (int64_t panel = 0; panel < p->sums.panels; panel++) {
        const float *dy = panel_at(p, panel);
        for (int64_t c = 0; c < p->sums.columns; c++) {
            float *sum = sums + c * CHANNELS * stride + panel * k->s.features;
            p->pass->vec->conv_outer(p->x + c * COLUMN_FLOATS, dy, sum, pixels, stride);
        }
    }
}

/* Zeros stand for what lies outside x, where no dy is infinite. */
static void add_chunk(const struct part *p, int64_t begin, int64_t end)
{
    int64_t last = p->sums.tap + p->sums.taps;
    (void)gather(p, p->sums.tap, begin, end, true);
    bool finite = pack_dy(p, end - begin);
    for (int64_t tap = p->sums.tap; tap < last; tap++) {
        int64_t pixels = gather(p, tap, begin, end, finite);
        if (!finite) {
            (void)pack_dy(p, pixels);
        }
        pack_x(p, pixels);
        add_products(p, tap, pixels);
    }
}

/* ---- all of them */

static void add_pixels(const struct part *p)
{
    memset(p->sums.at, 0, (size_t)(p->sums.taps * tap_floats(p->pass->k, &p->sums)) * sizeof *p->sums.at);
    for (int64_t from = p->begin; from < p->end; from += CHUNK) {
        add_chunk(p, from, ft_smaller(from + CHUNK, p->end));
    }
}

static void store_column(const struct pass *pass, const struct sums *sums, int64_t tap, int64_t column)
{
    const struct weight *k = pass->k;
    const struct ft_direct_shape *s = &k->s;
    int64_t taps = all_taps(k);
    int64_t channel = (sums->column + column) * CHANNELS;
    int64_t channels = ft_smaller(CHANNELS, s->c - channel);
    int64_t feature = sums->panel * s->features;
    int64_t features = ft_smaller(row_floats(k, sums), s->k - feature);
    const float *from = sums->at + tap * tap_floats(k, sums) + column * CHANNELS * row_floats(k, sums);
    for (int64_t f = 0; f < features; f++) {
        float *to = pass->dw + ((feature + f) * s->c + channel) * taps + sums->tap + tap;
        for (int64_t c = 0; c < channels; c++) {
            to[c * taps] = from[c * row_floats(k, sums) + f];
        }
    }
}

static void store(const struct pass *pass, const struct sums *sums)
{
    for (int64_t tap = 0; tap < sums->taps; tap++) {
        for (int64_t column = 0; column < sums->columns; column++) {
            store_column(pass, sums, tap, column);
        }
    }
}

static struct part part_of(const struct pass *pass, int thread)
{
    const struct weight *k = pass->k;
    char *scratch = pass->scratch + (size_t)thread * scratch_at(k, SCRATCH_END);
    struct part p = {.pass = pass, .end = ft_direct_pixels(&k->s)};
    p.x = (float *)(void *)(scratch + scratch_at(k, SCRATCH_X));
    p.dy = (float *)(void *)(scratch + scratch_at(k, SCRATCH_DY));
    p.outside = (float *)(void *)(scratch + scratch_at(k, SCRATCH_OUTSIDE));
    p.sums.at = (float *)(void *)(scratch + scratch_at(k, SCRATCH_SUMS));
    p.where = (const float **)(void *)(scratch + scratch_at(k, SCRATCH_WHERE));
    p.pixel = (int64_t *)(void *)(scratch + scratch_at(k, SCRATCH_PIXEL));
    p.sums.panels = k->s.panels;
    memset(p.outside, 0, (size_t)k->s.c * sizeof *p.outside);
    return p;
}

static void run_share(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    struct part p = part_of(pass, thread);
    if (!k->by_column) {
        p.sums.panel = begin;
        p.sums.panels = end - begin;
    }
    int64_t first = k->by_column ? begin : 0;
    int64_t last = k->by_column ? end : k->columns;
    for (p.sums.column = first; p.sums.column < last; p.sums.column += p.sums.columns) {
        p.sums.columns = ft_smaller(k->block, last - p.sums.column);
        for (p.sums.tap = 0; p.sums.tap < all_taps(k); p.sums.tap += p.sums.taps) {
            p.sums.taps = ft_smaller(k->taps, all_taps(k) - p.sums.tap);
            add_pixels(&p);
            store(pass, &p.sums);
        }
    }
}

/* The block of columns that begins at `column`, in a lane's sums. */
static struct sums block_of(const struct pass *pass, int64_t lane, int64_t column)
{
    const struct weight *k = pass->k;
    struct sums s = {.taps = all_taps(k), .panels = k->s.panels, .column = column};
    s.columns = ft_smaller(k->block, k->columns - column);
    s.at = pass->lanes + lane * lane_floats(k) + all_taps(k) * column * CHANNELS * row_floats(k, &s);
    return s;
}

static void run_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    struct part p = part_of(pass, thread);
    int64_t pixels = ft_direct_pixels(&k->s);
    for (int64_t lane = begin; lane < end; lane++) {
        p.begin = pixels * lane / k->lanes;
        p.end = pixels * (lane + 1) / k->lanes;
        for (int64_t column = 0; column < k->columns; column += k->block) {
            p.sums = block_of(pass, lane, column);
            add_pixels(&p);
        }
    }
}

/* Columns begin .. end - 1 of all lanes. */
static void merge_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    (void)thread;
    for (int64_t column = begin; column < end; column++) {
        struct sums s = block_of(pass, 0, column / k->block * k->block);
        int64_t row = CHANNELS * row_floats(k, &s);
        for (int64_t tap = 0; tap < s.taps; tap++) {
            float *sum = s.at + tap * tap_floats(k, &s) + (column - s.column) * row;
            for (int64_t lane = 1; lane < k->lanes; lane++) {
                const float *more = sum + lane * lane_floats(k);
                pass->vec->binary(FT_OP_ADD, FT_VEC_VV, sum, more, sum, (size_t)row);
            }
            store_column(pass, &s, tap, column - s.column);
        }
    }
}

static enum ft_status weight_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)err;
    const struct weight *k = (const struct weight *)(const void *)kernel;
    struct pass pass = {.k = k,
                        .vec = ft_cpu_of(kernel->device)->vec,
                        .x = ft_in(in, 0),
                        .dy = ft_in(in, 1),
                        .dw = ft_out(out, 0),
                        .scratch = scratch};
    if (k->lanes > 1) {
        pass.lanes = (float *)(void *)((char *)scratch + (size_t)k->threads * scratch_at(k, SCRATCH_END));
        ft_parallel_for(k->threads, k->lanes, run_lanes, &pass);
        ft_parallel_for(k->threads, k->columns, merge_lanes, &pass);
    } else {
        ft_parallel_for(k->threads, k->by_column ? k->columns : k->s.panels, run_share, &pass);
    }
    return FT_OK;
}

/* ---- preparation */

static void share(struct weight *k, int threads)
{
    int64_t columns = k->columns;
    k->panels = k->s.panels;
    k->lanes = ft_smaller(LANES, ft_direct_pixels(&k->s) / (2 * CHUNK));
    if (k->lanes > 1 && lane_floats(k) <= LANE_FLOATS) {
        k->threads = (int)ft_smaller(threads, k->lanes);
    } else {
        k->lanes = 1;
        k->by_column = k->s.c >= k->s.k;
        int64_t shared = k->by_column ? k->columns : k->s.panels;
        k->threads = (int)ft_smaller(threads, shared);
        int64_t each = (shared + k->threads - 1) / k->threads;
        columns = k->by_column ? each : columns;
        k->panels = k->by_column ? k->panels : each;
    }
    int64_t blocks = (columns + BLOCK - 1) / BLOCK; /* of equal size */
    k->block = (columns + blocks - 1) / blocks;
    int64_t tap = k->block * CHANNELS * k->panels * k->s.features;
    k->taps = ft_larger(1, ft_smaller(all_taps(k), GROUP_FLOATS / tap));
}

enum ft_status ft_cpu_direct_weight(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    struct ft_cpu *cpu = ft_cpu_of(device);
    const struct ft_window *w = &call->attrs.window;
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct weight), weight_run, kernel, err));
    struct weight *k = (struct weight *)(void *)*kernel;
    k->s = ft_direct_shape_of(cpu, &call->attrs, &call->in[0], &call->in[1]);
    k->columns = (k->s.c + CHANNELS - 1) / CHANNELS;
    for (int i = 0; i < 2; i++) {
        k->padded = k->padded || w->pad_begin[i] > 0 || w->pad_end[i] > 0;
    }
    int64_t products = ft_direct_pixels(&k->s) * all_taps(k) * k->s.c * k->s.k;
    share(k, ft_cpu_threads(cpu, 2 * products / FT_CPU_FLOPS));
    size_t lanes = k->lanes > 1 ? (size_t)(k->lanes * lane_floats(k)) * sizeof(float) : 0;
    *scratch = (size_t)k->threads * scratch_at(k, SCRATCH_END) + lanes;
    return FT_OK;
}
