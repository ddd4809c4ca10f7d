#include "kernels/cpu/depthwise.h"

#include <string.h>

#include "executor/base/alloc.h"

/*
 * dw[c][kh][kw] = sum over images and pixels of dy[c] x[c]: all channels of a row of pixels at once. Rows of
 * y are cut into lanes by the shape alone; each lane sums into its own (kh, kw, C), and the lanes are added
 * in order.
 */

struct depthwise {
    struct ft_kernel head;
    struct ft_window window;
    int64_t channels, in[2], out[2];
    int64_t rows, lanes; /* rows of y in all images */
    int64_t taps;        /* kh x kw */
    int64_t inner[2];    /* columns of y whose taps all lie in x */
};

struct depthwise_job {
    const struct depthwise *k;
    const struct ft_vec *vec;
    const float *x, *dy;
    float *sums; /* (lanes, kh, kw, C) */
    float *dw;
};

/* Columns [from, to) of one row of y with one row of taps; x_row and dy_row are whole rows. */
static void add_columns(const struct depthwise_job *job, const float *x_row, const float *dy_row,
                        int64_t from, int64_t to, float *sum)
{
    const struct depthwise *k = job->k;
    const struct ft_window *w = &k->window;
    int64_t start = from * w->stride[1] - w->pad_begin[1]; /* of the first tap */
    int64_t first = start < 0 ? (-start + w->dilation[1] - 1) / w->dilation[1] : 0;
    int64_t room = k->in[1] - (to - 1) * w->stride[1] + w->pad_begin[1];
    int64_t last = room <= 0 ? 0 : (room + w->dilation[1] - 1) / w->dilation[1];
    last = last < w->kernel[1] ? last : w->kernel[1];
    if (from >= to || first >= last) {
        return;
    }
    const struct ft_vec_depthwise r = {.x = x_row + (start + first * w->dilation[1]) * k->channels,
                                       .dy = dy_row + from * k->channels,
                                       .step = w->stride[1] * k->channels,
                                       .tap = w->dilation[1] * k->channels,
                                       .count = to - from,
                                       .channels = k->channels,
                                       .taps = (int)(last - first)};
    job->vec->depthwise_weight(&r, sum + first * k->channels);
}

static void add_row(const struct depthwise_job *job, int64_t row, float *sum)
{
    const struct depthwise *k = job->k;
    const struct ft_window *w = &k->window;
    int64_t image = row / k->out[0];
    int64_t oh = row % k->out[0];
    const float *dy = job->dy + row * k->out[1] * k->channels;
    for (int64_t kh = 0; kh < w->kernel[0]; kh++) {
        int64_t ih = oh * w->stride[0] - w->pad_begin[0] + kh * w->dilation[0];
        if (ih < 0 || ih >= k->in[0]) {
            continue;
        }
        const float *x = job->x + (image * k->in[0] + ih) * k->in[1] * k->channels;
        float *to = sum + kh * w->kernel[1] * k->channels;
        for (int64_t ow = 0; ow < k->inner[0]; ow++) {
            add_columns(job, x, dy, ow, ow + 1, to);
        }
        add_columns(job, x, dy, k->inner[0], k->inner[1], to);
        for (int64_t ow = k->inner[1]; ow < k->out[1]; ow++) {
            add_columns(job, x, dy, ow, ow + 1, to);
        }
    }
}

static void add_lanes(void *context, int thread, int64_t begin, int64_t end)
{
    const struct depthwise_job *job = context;
    const struct depthwise *k = job->k;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        float *sum = job->sums + lane * k->taps * k->channels;
        memset(sum, 0, (size_t)(k->taps * k->channels) * sizeof *sum);
        int64_t last = (lane + 1) * k->rows / k->lanes;
        for (int64_t row = lane * k->rows / k->lanes; row < last; row++) {
            add_row(job, row, sum);
        }
    }
}

/* The lanes of channels begin .. end - 1, into plain (C, 1, kh, kw). */
static void merge_channels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct depthwise_job *job = context;
    const struct depthwise *k = job->k;
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        for (int64_t tap = 0; tap < k->taps; tap++) {
            float sum = 0.0F;
            for (int64_t lane = 0; lane < k->lanes; lane++) {
                sum += job->sums[(lane * k->taps + tap) * k->channels + c];
            }
            job->dw[c * k->taps + tap] = sum;
        }
    }
}

static enum ft_status weight_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)err;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct depthwise_job job = {.k = (const struct depthwise *)(const void *)kernel,
                                .vec = cpu->vec,
                                .x = ft_in(in, 0),
                                .dy = ft_in(in, 1),
                                .sums = scratch,
                                .dw = ft_out(out, 0)};
    const struct depthwise *k = job.k;
    int64_t row_cost = k->out[1] * k->channels * (k->taps / 4 + 2);
    ft_cpu_items(cpu, k->lanes, k->rows / k->lanes * row_cost, add_lanes, &job);
    ft_cpu_items(cpu, k->channels, k->taps * k->lanes, merge_channels, &job);
    return FT_OK;
}

bool ft_cpu_is_depthwise(const struct ft_call *call)
{
    const struct ft_type *x = &call->in[0];
    const struct ft_type *w = &call->in[2];
    return call->op == FT_OP_CONV_BWD_WEIGHT && x->rank == 4 && ft_extent(w, 2) * ft_extent(w, 3) > 9 &&
           x->layout == FT_CHANNELS_LAST && call->in[1].layout == FT_CHANNELS_LAST && ft_extent(w, 1) == 1 &&
           ft_extent(x, 1) > 1 && call->attrs.group == ft_extent(x, 1) && ft_extent(w, 0) == ft_extent(x, 1);
}

/* Columns whose taps all lie in x: [*first, *last). */
static void inner_columns(const struct ft_window *w, int64_t in, int64_t out, int64_t inner[2])
{
    int64_t reach = (w->kernel[1] - 1) * w->dilation[1];
    int64_t first = (w->pad_begin[1] + w->stride[1] - 1) / w->stride[1];
    int64_t room = in - 1 - reach + w->pad_begin[1];
    int64_t last = room < 0 ? 0 : room / w->stride[1] + 1;
    inner[1] = last < out ? last : out;
    inner[0] = first < inner[1] ? first : inner[1];
}

enum ft_status ft_cpu_depthwise_weight(struct ft_device *device, const struct ft_call *call,
                                       struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct depthwise), weight_run, kernel, err));
    struct depthwise *k = (struct depthwise *)(void *)*kernel;
    const struct ft_type *x = &call->in[0];
    const struct ft_type *y = &call->in[1];
    k->window = call->attrs.window;
    k->channels = ft_extent(x, 1);
    for (int i = 0; i < 2; i++) {
        k->in[i] = ft_extent(x, i + 2);
        k->out[i] = ft_extent(y, i + 2);
    }
    k->rows = ft_extent(y, 0) * k->out[0];
    k->taps = k->window.kernel[0] * k->window.kernel[1];
    /* Sums of all lanes together stay smaller than y. */
    int64_t lanes = k->rows * k->out[1] / (2 * k->taps);
    lanes = lanes < FT_CPU_LANES ? lanes : FT_CPU_LANES;
    lanes = lanes < k->rows ? lanes : k->rows;
    k->lanes = lanes > 1 ? lanes : 1;
    inner_columns(&k->window, k->in[1], k->out[1], k->inner);
    *scratch = (size_t)(k->lanes * k->taps * k->channels) * sizeof(float);
    return FT_OK;
}
