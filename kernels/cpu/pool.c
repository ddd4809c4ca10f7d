#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/cpu.h"

/*
 * Pooling pixel by pixel: gather the taps of one pixel, then one vector loop over its channels. Backward
 * gathers too (the windows that cover a pixel), so nothing is scattered and threads never meet. Row-major
 * runs the same code on planes of width 1, without vectors.
 */

/* One spatial axis, worked out beforehand: divisions a pixel would cost more than the pixel. */
struct axis {
    int64_t in, out, kernel, stride, dilation, begin, end;
    int64_t most;        /* windows over one position, at most */
    int32_t *first;      /* (out, 2): first and one past the last tap of a window that lie inside */
    int32_t *covered;    /* (out): taps of a window that count in an average */
    int32_t *windows;    /* (in, most): the windows over a position */
    int32_t *windows_of; /* (in): how many */
};

struct pool {
    struct ft_kernel head;
    struct axis axis[3];   /* depth, height, width; those that lower ranks lack have extent 1 */
    int64_t planes, width; /* images x channels, or images and channels apart */
    int64_t taps;          /* most taps of a pixel */
};

/* What one thread notes down for one pixel. */
struct taps {
    int64_t *offset;
    int32_t *index;
    float *weight;
};

struct pool_job {
    const struct pool *k;
    const struct ft_vec *vec;
    const float *x; /* or dy */
    const int32_t *where_in;
    float *y; /* or dx */
    int32_t *where_out;
    char *scratch;
};

static void pool_free(struct ft_kernel *kernel)
{
    struct pool *k = (struct pool *)(void *)kernel;
    for (int i = 0; i < 3; i++) {
        ft_free(k->axis[i].first);
    }
    ft_free(k);
}

static size_t taps_bytes(const struct pool *k)
{
    size_t bytes = (size_t)k->taps * (sizeof(int64_t) + sizeof(int32_t) + sizeof(float));
    return (bytes + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

static struct taps taps_of(const struct pool_job *job, int thread)
{
    struct taps t;
    char *at = job->scratch + (size_t)thread * taps_bytes(job->k);
    t.offset = (int64_t *)(void *)at;
    t.index = (int32_t *)(void *)(at + (size_t)job->k->taps * sizeof(int64_t));
    t.weight = (float *)(void *)(at + (size_t)job->k->taps * (sizeof(int64_t) + sizeof(int32_t)));
    return t;
}

/* ---- taps. A row of pixels has number (plane, d, h), of x or of y. */

struct row {
    int64_t plane, d, h;
};

static struct row row_of(int64_t number, int64_t depth, int64_t height)
{
    return (struct row){
        .plane = number / (depth * height), .d = number / height % depth, .h = number % height};
}

static int64_t tap_at(const struct axis *a, int64_t o, int64_t tap)
{
    return o * a->stride - a->begin + tap * a->dilation;
}

/* Pixels of x under window (o.d, o.h, ow). */
static int window_taps(const struct pool *k, struct row o, int64_t ow, const struct taps *t)
{
    const struct axis *d = &k->axis[0];
    const struct axis *h = &k->axis[1];
    const struct axis *w = &k->axis[2];
    int count = 0;
    int64_t base = o.plane * d->in * h->in * w->in;
    for (int64_t kd = d->first[2 * o.d]; kd < d->first[2 * o.d + 1]; kd++) {
        for (int64_t kh = h->first[2 * o.h]; kh < h->first[2 * o.h + 1]; kh++) {
            int64_t row = (tap_at(d, o.d, kd) * h->in + tap_at(h, o.h, kh)) * w->in;
            for (int64_t kw = w->first[2 * ow]; kw < w->first[2 * ow + 1]; kw++) {
                int64_t pixel = row + tap_at(w, ow, kw);
                t->index[count] = (int32_t)pixel;
                t->offset[count] = (base + pixel) * k->width;
                count++;
            }
        }
    }
    return count;
}

/* Windows over pixel (x.d, x.h, xw). */
static int pixel_taps(const struct pool *k, struct row x, int64_t xw, const struct taps *t)
{
    const struct axis *d = &k->axis[0];
    const struct axis *h = &k->axis[1];
    const struct axis *w = &k->axis[2];
    int count = 0;
    for (int32_t l = 0; l < d->windows_of[x.d]; l++) {
        int64_t slab = (x.plane * d->out + d->windows[x.d * d->most + l]) * h->out;
        for (int32_t i = 0; i < h->windows_of[x.h]; i++) {
            int64_t row = (slab + h->windows[x.h * h->most + i]) * w->out;
            for (int32_t j = 0; j < w->windows_of[xw]; j++) {
                t->offset[count] = (row + w->windows[xw * w->most + j]) * k->width;
                count++;
            }
        }
    }
    return count;
}

/* What the average of each of those windows gives the pixel. */
static void pixel_weights(const struct pool *k, struct row x, int64_t xw, const struct taps *t)
{
    const struct axis *d = &k->axis[0];
    const struct axis *h = &k->axis[1];
    const struct axis *w = &k->axis[2];
    int count = 0;
    for (int32_t l = 0; l < d->windows_of[x.d]; l++) {
        float slabs = (float)d->covered[d->windows[x.d * d->most + l]];
        for (int32_t i = 0; i < h->windows_of[x.h]; i++) {
            float rows = slabs * (float)h->covered[h->windows[x.h * h->most + i]];
            for (int32_t j = 0; j < w->windows_of[xw]; j++) {
                t->weight[count] = 1.0F / (rows * (float)w->covered[w->windows[xw * w->most + j]]);
                count++;
            }
        }
    }
}

/* ---- rows of pixels */

static void max_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        struct row o = row_of(row, k->axis[0].out, k->axis[1].out);
        for (int64_t ow = 0; ow < k->axis[2].out; ow++) {
            int count = window_taps(k, o, ow, &t);
            int64_t to = (row * k->axis[2].out + ow) * k->width;
            job->vec->pool_max(job->x, t.offset, t.index, count, job->y + to, job->where_out + to,
                               (size_t)k->width);
        }
    }
}

static void max_bwd_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        struct row x = row_of(row, k->axis[0].in, k->axis[1].in);
        for (int64_t w = 0; w < k->axis[2].in; w++) {
            int count = pixel_taps(k, x, w, &t);
            int64_t pixel = (x.d * k->axis[1].in + x.h) * k->axis[2].in + w;
            job->vec->pool_max_bwd(job->x, job->where_in, t.offset, count, (int32_t)pixel,
                                   job->y + (row * k->axis[2].in + w) * k->width, (size_t)k->width);
        }
    }
}

static void avg_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        struct row o = row_of(row, k->axis[0].out, k->axis[1].out);
        float rows = (float)k->axis[0].covered[o.d] * (float)k->axis[1].covered[o.h];
        for (int64_t ow = 0; ow < k->axis[2].out; ow++) {
            int count = window_taps(k, o, ow, &t);
            float weight = 1.0F / (rows * (float)k->axis[2].covered[ow]);
            for (int i = 0; i < count; i++) {
                t.weight[i] = weight;
            }
            job->vec->pool_sum(job->x, t.offset, t.weight, count,
                               job->y + (row * k->axis[2].out + ow) * k->width, (size_t)k->width);
        }
    }
}

static void avg_bwd_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        struct row x = row_of(row, k->axis[0].in, k->axis[1].in);
        for (int64_t w = 0; w < k->axis[2].in; w++) {
            int count = pixel_taps(k, x, w, &t);
            pixel_weights(k, x, w, &t);
            job->vec->pool_sum(job->x, t.offset, t.weight, count,
                               job->y + (row * k->axis[2].in + w) * k->width, (size_t)k->width);
        }
    }
}

/* ---- runs */

static struct pool_job job_of(const struct ft_kernel *kernel, const struct ft_arg *in,
                              const struct ft_arg *out, void *scratch)
{
    struct pool_job job = {.k = (const struct pool *)(const void *)kernel,
                           .vec = ft_cpu_of(kernel->device)->vec,
                           .x = ft_in(in, 0),
                           .y = ft_out(out, 0),
                           .scratch = scratch};
    return job;
}

/* Over the rows of y (forward) or of x. */
static void run_rows(const struct pool_job *job, bool forward, ft_parallel_body body)
{
    struct pool_job copy = *job;
    const struct axis *a = job->k->axis;
    int64_t rows = forward ? a[0].out * a[1].out : a[0].in * a[1].in;
    int64_t cost = (forward ? a[2].out : a[2].in) * (job->k->width + 8) * 4;
    ft_cpu_items(ft_cpu_of(job->k->head.device), job->k->planes * rows, cost, body, &copy);
}

static enum ft_status maxpool_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    job.where_out = (int32_t *)out[1].data;
    run_rows(&job, true, max_rows);
    return FT_OK;
}

static enum ft_status maxpool_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    job.where_in = (const int32_t *)in[1].data;
    run_rows(&job, false, max_bwd_rows);
    return FT_OK;
}

static enum ft_status avgpool_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    run_rows(&job, true, avg_rows);
    return FT_OK;
}

static enum ft_status avgpool_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    run_rows(&job, false, avg_bwd_rows);
    return FT_OK;
}

/* ---- preparation */

/* First and one past the last tap of window o within `in` positions. */
static void taps_inside(const struct axis *a, int64_t o, int64_t in, int32_t *first, int32_t *last)
{
    int64_t start = o * a->stride - a->begin;
    int64_t f = start < 0 ? (-start + a->dilation - 1) / a->dilation : 0;
    int64_t l = in - start > 0 ? (in - start + a->dilation - 1) / a->dilation : 0;
    *first = (int32_t)f;
    *last = (int32_t)(l < a->kernel ? l : a->kernel);
}

/* By way of the taps inside x: a file may ask for a kernel that would take forever to walk. */
static void fill_windows(struct axis *a)
{
    for (int64_t o = 0; o < a->out; o++) {
        for (int64_t k = a->first[2 * o]; k < a->first[2 * o + 1]; k++) {
            int64_t i = o * a->stride - a->begin + k * a->dilation;
            a->windows[i * a->most + a->windows_of[i]] = (int32_t)o;
            a->windows_of[i]++;
        }
    }
}

/* Most taps of one window that lie inside x. */
static int64_t taps_most(const struct axis *a)
{
    return a->kernel < a->in ? a->kernel : a->in;
}

/* Taps inside x count; with include_pad those on its pads too, but never those past pad_end. */
static enum ft_status make_axis(const struct ft_window *w, int i, bool include_pad, struct axis *a,
                                struct ft_err *err)
{
    bool there = i >= 0;
    a->kernel = there ? w->kernel[i] : 1;
    a->stride = there ? w->stride[i] : 1;
    a->dilation = there ? w->dilation[i] : 1;
    a->begin = there ? w->pad_begin[i] : 0;
    a->end = there ? w->pad_end[i] : 0;
    a->most = a->kernel < a->out ? a->kernel : a->out;
    if (a->dilation == 1) {
        int64_t side_by_side = (a->kernel + a->stride - 1) / a->stride;
        a->most = a->most < side_by_side ? a->most : side_by_side;
    }
    FT_RETURN_IF_FAILED(
        ft_new((size_t)(3 * a->out + a->in * (a->most + 1)), sizeof *a->first, &a->first, err));
    a->covered = a->first + 2 * a->out;
    a->windows = a->covered + a->out;
    a->windows_of = a->windows + a->in * a->most;
    for (int64_t o = 0; o < a->out; o++) {
        int32_t *first = &a->first[2 * o];
        int32_t ignored = 0;
        int32_t last = 0;
        taps_inside(a, o, a->in, &first[0], &first[1]);
        taps_inside(a, o, a->in + a->end, &ignored, &last);
        a->covered[o] = include_pad ? last : first[1] - first[0];
    }
    fill_windows(a);
    return FT_OK;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, const struct ft_type *x,
                              const struct ft_type *y, ft_cpu_run run, struct ft_kernel **kernel,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *made = NULL;
    FT_TRY(ft_cpu_one_layout(call, err));
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct pool), run, &made, err));
    made->free = pool_free;
    struct pool *k = (struct pool *)(void *)made;
    bool last = x->layout == FT_CHANNELS_LAST;
    int64_t channels = ft_extent(x, 1);
    bool include_pad = call->attrs.count_include_pad != 0;
    const struct ft_window *w = &call->attrs.window;
    for (int i = 0; i < 3; i++) {
        int from = i - 3 + w->rank;
        k->axis[i].in = from >= 0 ? ft_extent(x, from + 2) : 1;
        k->axis[i].out = from >= 0 ? ft_extent(y, from + 2) : 1;
        FT_TRY(make_axis(w, from, include_pad, &k->axis[i], err));
    }
    k->planes = ft_extent(x, 0) * (last ? 1 : channels);
    k->width = last ? channels : 1;
    *kernel = made;
    made = NULL;
done:
    if (made != NULL) {
        pool_free(made);
    }
    return st;
}

static void want_scratch(struct ft_kernel *kernel, bool forward, size_t *scratch)
{
    struct pool *k = (struct pool *)(void *)kernel;
    k->taps = 1;
    for (int i = 0; i < 3; i++) {
        k->taps *= forward ? taps_most(&k->axis[i]) : k->axis[i].most;
    }
    *scratch = (size_t)ft_cpu_of(kernel->device)->threads * taps_bytes(k);
}

#define FT_POOL(name, x, y, forward)                                                                         \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        FT_RETURN_IF_FAILED(prepare(device, call, x, y, name##_run, kernel, err));                           \
        want_scratch(*kernel, forward, scratch);                                                             \
        return FT_OK;                                                                                        \
    }

FT_POOL(maxpool, &call->in[0], &call->out[0], true)
FT_POOL(maxpool_bwd, &call->out[0], &call->in[0], false)
FT_POOL(avgpool, &call->in[0], &call->out[0], true)
FT_POOL(avgpool_bwd, &call->out[0], &call->in[0], false)
