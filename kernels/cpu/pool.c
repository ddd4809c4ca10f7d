#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/cpu.h"

/*
 * Pooling pixel by pixel: gather the taps of one pixel, then one vector loop over its channels. Backward
 * gathers too (the windows that cover a pixel), so nothing is scattered and threads never meet. Row-major
 * runs the same code on planes of width 1, without vectors.
 */

struct axis {
    int64_t in, out, kernel, stride, dilation, begin, end;
    int32_t *covered; /* (out): taps of each window that count in an average */
};

struct pool {
    struct ft_kernel head;
    struct axis h, w;
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
    ft_free(k->h.covered);
    ft_free(k->w.covered);
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

/* ---- taps */

/* First and one past the last tap of window o that lie inside. */
static void inside(const struct axis *a, int64_t o, int64_t *first, int64_t *last)
{
    int64_t start = o * a->stride - a->begin;
    int64_t f = start < 0 ? (-start + a->dilation - 1) / a->dilation : 0;
    int64_t l = a->in - start > 0 ? (a->in - start + a->dilation - 1) / a->dilation : 0;
    *first = f;
    *last = l < a->kernel ? l : a->kernel;
}

/* The window of tap k that covers position i; -1: none. */
static int64_t covering(const struct axis *a, int64_t i, int64_t k)
{
    int64_t start = i + a->begin - k * a->dilation;
    if (start < 0 || start % a->stride != 0 || start / a->stride >= a->out) {
        return -1;
    }
    return start / a->stride;
}

/* Pixels of x under window (oh, ow). */
static int window_taps(const struct pool *k, int64_t plane, int64_t oh, int64_t ow, const struct taps *t)
{
    int64_t h0 = 0;
    int64_t h1 = 0;
    int64_t w0 = 0;
    int64_t w1 = 0;
    inside(&k->h, oh, &h0, &h1);
    inside(&k->w, ow, &w0, &w1);
    int count = 0;
    for (int64_t kh = h0; kh < h1; kh++) {
        int64_t row = (oh * k->h.stride - k->h.begin + kh * k->h.dilation) * k->w.in;
        int64_t at = row + ow * k->w.stride - k->w.begin;
        for (int64_t kw = w0; kw < w1; kw++) {
            int64_t pixel = at + kw * k->w.dilation;
            t->index[count] = (int32_t)pixel;
            t->offset[count] = (plane * k->h.in * k->w.in + pixel) * k->width;
            count++;
        }
    }
    return count;
}

/* Windows over pixel (h, w) of x, with the weight that an average gives it. */
static int pixel_taps(const struct pool *k, int64_t plane, int64_t h, int64_t w, const struct taps *t)
{
    int count = 0;
    for (int64_t kh = 0; kh < k->h.kernel; kh++) {
        int64_t oh = covering(&k->h, h, kh);
        for (int64_t kw = 0; oh >= 0 && kw < k->w.kernel; kw++) {
            int64_t ow = covering(&k->w, w, kw);
            if (ow >= 0) {
                t->offset[count] = ((plane * k->h.out + oh) * k->w.out + ow) * k->width;
                t->weight[count] = 1.0F / (float)(k->h.covered[oh] * k->w.covered[ow]);
                count++;
            }
        }
    }
    return count;
}

/* ---- rows of pixels */

static void max_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        for (int64_t ow = 0; ow < k->w.out; ow++) {
            int count = window_taps(k, row / k->h.out, row % k->h.out, ow, &t);
            int64_t to = (row * k->w.out + ow) * k->width;
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
        int64_t h = row % k->h.in;
        for (int64_t w = 0; w < k->w.in; w++) {
            int count = pixel_taps(k, row / k->h.in, h, w, &t);
            job->vec->pool_max_bwd(job->x, job->where_in, t.offset, count, (int32_t)(h * k->w.in + w),
                                   job->y + (row * k->w.in + w) * k->width, (size_t)k->width);
        }
    }
}

static void avg_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        int64_t oh = row % k->h.out;
        for (int64_t ow = 0; ow < k->w.out; ow++) {
            int count = window_taps(k, row / k->h.out, oh, ow, &t);
            float weight = 1.0F / (float)(k->h.covered[oh] * k->w.covered[ow]);
            for (int i = 0; i < count; i++) {
                t.weight[i] = weight;
            }
            job->vec->pool_sum(job->x, t.offset, t.weight, count, job->y + (row * k->w.out + ow) * k->width,
                               (size_t)k->width);
        }
    }
}

static void avg_bwd_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pool_job *job = context;
    const struct pool *k = job->k;
    struct taps t = taps_of(job, thread);
    for (int64_t row = begin; row < end; row++) {
        for (int64_t w = 0; w < k->w.in; w++) {
            int count = pixel_taps(k, row / k->h.in, row % k->h.in, w, &t);
            job->vec->pool_sum(job->x, t.offset, t.weight, count, job->y + (row * k->w.in + w) * k->width,
                               (size_t)k->width);
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

static void run_rows(const struct pool_job *job, int64_t rows, int64_t pixels, ft_parallel_body body)
{
    struct pool_job copy = *job;
    int64_t cost = pixels * (job->k->width + 8) * 4;
    ft_cpu_items(ft_cpu_of(job->k->head.device), job->k->planes * rows, cost, body, &copy);
}

static enum ft_status maxpool_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    job.where_out = (int32_t *)out[1].data;
    run_rows(&job, job.k->h.out, job.k->w.out, max_rows);
    return FT_OK;
}

static enum ft_status maxpool_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    job.where_in = (const int32_t *)in[1].data;
    run_rows(&job, job.k->h.in, job.k->w.in, max_bwd_rows);
    return FT_OK;
}

static enum ft_status avgpool_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    run_rows(&job, job.k->h.out, job.k->w.out, avg_rows);
    return FT_OK;
}

static enum ft_status avgpool_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                      const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)err;
    struct pool_job job = job_of(kernel, in, out, scratch);
    run_rows(&job, job.k->h.in, job.k->w.in, avg_bwd_rows);
    return FT_OK;
}

/* ---- preparation */

/* Taps inside x count; with include_pad those on its pads too, but never those past pad_end. */
static enum ft_status make_axis(const struct ft_window *w, int i, int64_t in, int64_t out, bool include_pad,
                                struct axis *a, struct ft_err *err)
{
    bool there = i >= 0; /* rank 1 has no h */
    a->in = in;
    a->out = out;
    a->kernel = there ? w->kernel[i] : 1;
    a->stride = there ? w->stride[i] : 1;
    a->dilation = there ? w->dilation[i] : 1;
    a->begin = there ? w->pad_begin[i] : 0;
    a->end = there ? w->pad_end[i] : 0;
    FT_RETURN_IF_FAILED(ft_new((size_t)out, sizeof *a->covered, &a->covered, err));
    for (int64_t o = 0; o < out; o++) {
        int64_t first = 0;
        int64_t last = 0;
        inside(a, o, &first, &last);
        if (include_pad) {
            struct axis padded = *a;
            padded.in += a->end;
            inside(&padded, o, &first, &last);
            first = 0;
        }
        a->covered[o] = (int32_t)(last - first);
    }
    return FT_OK;
}

static int64_t windows_over(const struct axis *a)
{
    int64_t reach = (a->kernel - 1) * a->dilation + 1;
    int64_t most = (reach + a->stride - 1) / a->stride;
    return most < a->kernel ? most : a->kernel;
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
    int rank = x->rank;
    FT_TRY(make_axis(w, w->rank - 2, rank == 4 ? ft_extent(x, 2) : 1, rank == 4 ? ft_extent(y, 2) : 1,
                     include_pad, &k->h, err));
    FT_TRY(
        make_axis(w, w->rank - 1, ft_extent(x, rank - 1), ft_extent(y, rank - 1), include_pad, &k->w, err));
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
    k->taps = forward ? k->h.kernel * k->w.kernel : windows_over(&k->h) * windows_over(&k->w);
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
