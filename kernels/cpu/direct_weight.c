#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/direct.h"
#include "kernels/cpu/direct_shape.h"

/*
 * dw of a convolution of our own: for each tap the product of x's channels and dy's features over all pixels
 * whose tap lies inside x. Pixels are taken in chunks that stay in the second cache, packed so that neither
 * powers of two between rows nor pixels outside are met. Threads share the features; each sum has the order
 * of the pixels.
 */

enum {
    CHANNELS = FT_VEC_CONV_PIXELS, /* of a register tile */
    CHUNK_FLOATS = 65536,          /* of x and dy together */
    CHUNK_MIN = 32,
    CHUNK_MAX = 512
};

struct weight {
    struct ft_kernel head;
    struct ft_direct_shape s;
    int threads;
    int64_t panels;     /* of a thread, at most */
    int64_t chunk;      /* pixels */
    int64_t x_stride;   /* floats between packed pixels of x: channels, whole tiles */
    int64_t dy_stride;  /* of dy: the thread's features and a line, so that it is no power of two */
    int64_t sum_stride; /* between channels of the sums */
};

struct pass {
    const struct weight *k;
    const struct ft_vec *vec;
    const float *x, *dy;
    float *dw; /* (k, c, kh, kw) */
    float *scratch;
};

/* What one thread works on: features first .. first + count - 1. */
struct part {
    const struct pass *pass;
    int64_t first, count, panels;
    float *x, *dy, *sum;
};

static int64_t scratch_floats(const struct weight *k)
{
    return k->chunk * (k->x_stride + k->dy_stride) + k->x_stride * k->sum_stride;
}

static void pack_row(float *to, const float *from, int64_t count, int64_t padded)
{
    memcpy(to, from, (size_t)count * sizeof *to);
    memset(to + count, 0, (size_t)(padded - count) * sizeof *to);
}

/* Pixels begin .. end - 1 whose tap (i, j) is inside x; returns how many. */
static int64_t pack(const struct part *p, int64_t i, int64_t j, int64_t begin, int64_t end)
{
    const struct weight *k = p->pass->k;
    const struct ft_direct_shape *s = &k->s;
    struct ft_corner at = ft_corner_of(s, p->pass->x, begin);
    int64_t count = 0;
    for (int64_t pixel = begin; pixel < end; pixel++) {
        int64_t row = at.row + i * s->dilation[0];
        int64_t col = at.col + j * s->dilation[1];
        if (row >= 0 && row < s->h && col >= 0 && col < s->w) {
            pack_row(p->x + count * k->x_stride, at.image + (row * s->w + col) * s->c, s->c, k->x_stride);
            pack_row(p->dy + count * k->dy_stride, p->pass->dy + pixel * s->k + p->first, p->count,
                     p->panels * s->features);
            count++;
        }
        ft_corner_next(s, &at);
    }
    return count;
}

static void add_chunk(const struct part *p, int64_t pixels)
{
    const struct weight *k = p->pass->k;
    const int64_t stride[3] = {k->x_stride, k->dy_stride, k->sum_stride};
    for (int64_t panel = 0; panel < p->panels; panel++) {
        int64_t feature = panel * k->s.features;
        for (int64_t c = 0; c < k->x_stride; c += CHANNELS) {
            p->pass->vec->conv_outer(p->x + c, p->dy + feature, p->sum + c * k->sum_stride + feature, pixels,
                                     stride);
        }
    }
}

static void store_tap(const struct part *p, int64_t tap)
{
    const struct weight *k = p->pass->k;
    int64_t taps = k->s.kh * k->s.kw;
    for (int64_t f = 0; f < p->count; f++) {
        float *to = p->pass->dw + (p->first + f) * k->s.c * taps + tap;
        for (int64_t c = 0; c < k->s.c; c++) {
            to[c * taps] = p->sum[c * k->sum_stride + f];
        }
    }
}

static void run_part(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pass *pass = context;
    const struct weight *k = pass->k;
    const struct ft_direct_shape *s = &k->s;
    struct part p = {.pass = pass, .first = begin * s->features, .panels = end - begin};
    p.count = ft_smaller(end * s->features, s->k) - p.first;
    p.x = pass->scratch + thread * scratch_floats(k);
    p.dy = p.x + k->chunk * k->x_stride;
    p.sum = p.dy + k->chunk * k->dy_stride;
    for (int64_t tap = 0; tap < s->kh * s->kw; tap++) {
        memset(p.sum, 0, (size_t)(k->x_stride * k->sum_stride) * sizeof *p.sum);
        for (int64_t from = 0; from < ft_direct_pixels(s); from += k->chunk) {
            int64_t to = ft_smaller(from + k->chunk, ft_direct_pixels(s));
            add_chunk(&p, pack(&p, tap / s->kw, tap % s->kw, from, to));
        }
        store_tap(&p, tap);
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
    ft_parallel_for(k->threads, k->s.panels, run_part, &pass);
    return FT_OK;
}

enum ft_status ft_cpu_direct_weight(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    struct ft_cpu *cpu = ft_cpu_of(device);
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct weight), weight_run, kernel, err));
    struct weight *k = (struct weight *)(void *)*kernel;
    k->s = ft_direct_shape_of(cpu, &call->attrs, &call->in[0], &call->in[1]);
    int64_t taps = k->s.kh * k->s.kw;
    int64_t products = ft_direct_pixels(&k->s) * taps * k->s.c * k->s.k;
    int threads = ft_cpu_threads(cpu, 2 * products / FT_CPU_FLOPS);
    k->threads = (int)ft_smaller(threads, k->s.panels);
    k->panels = (k->s.panels + k->threads - 1) / k->threads;
    k->x_stride = (k->s.c + CHANNELS - 1) / CHANNELS * CHANNELS;
    k->sum_stride = k->panels * k->s.features;
    k->dy_stride = k->sum_stride + k->s.features;
    int64_t fits = CHUNK_FLOATS / (k->x_stride + k->dy_stride);
    k->chunk = ft_larger(CHUNK_MIN, ft_smaller(fits, CHUNK_MAX));
    *scratch = (size_t)(k->threads * scratch_floats(k)) * sizeof(float);
    return FT_OK;
}
