#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/integer.h"

/* What is ordered or summed along one axis, one lane after the other; and the indices of a max pool. */

struct lanes {
    struct ft_kernel head;
    int64_t count, extent, inner; /* lanes; elements of one, `inner` apart */
    int64_t k;                    /* TOPK: how many; ARG_EXTREME: the last of equals */
    int kind;
    bool integers;
    int64_t width, plane, per_plane; /* MAXPOOL_INDICES */
};

struct lanes_job {
    const struct lanes *k;
    const void *x;
    void *y;
    int64_t *places;
    int64_t *scratch; /* `k` for each thread */
};

static int64_t first_of(const struct lanes *k, int64_t extent, int64_t lane)
{
    return lane / k->inner * extent * k->inner + lane % k->inner;
}

/* ---- order */

/* Does a come before b, the larger first? A NaN counts as the largest. */
static bool float_ahead(float a, float b, bool smallest)
{
    float p = smallest ? b : a;
    float q = smallest ? a : b;
    return p > q || (p != p && q == q);
}

static bool ahead(const struct lanes_job *job, int64_t a, int64_t b)
{
    bool smallest = job->k->kind != 0;
    if (job->k->integers) {
        const int64_t *x = job->x;
        return smallest ? x[a] < x[b] : x[a] > x[b];
    }
    const float *x = job->x;
    return float_ahead(x[a], x[b], smallest);
}

static void arg_extreme_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct lanes_job *job = context;
    const struct lanes *k = job->k;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        int64_t first = first_of(k, k->extent, lane);
        int64_t best = 0;
        bool best_nan = !k->integers && ((const float *)job->x)[first] != ((const float *)job->x)[first];
        for (int64_t j = 1; j < k->extent; j++) {
            int64_t at = first + j * k->inner;
            bool nan = !k->integers && ((const float *)job->x)[at] != ((const float *)job->x)[at];
            if (nan || best_nan) { /* a NaN wins, whichever end is looked for */
                best = nan && (!best_nan || k->k != 0) ? j : best;
                best_nan = best_nan || nan;
                continue;
            }
            int64_t there = first + best * k->inner;
            best = ahead(job, at, there) || (k->k != 0 && !ahead(job, there, at)) ? j : best;
        }
        ((int64_t *)job->y)[lane] = best;
    }
}

/* Is element a of the lane worse than b: later in the result? Positions in the lane break ties. */
static bool worse(const struct lanes_job *job, int64_t first, int64_t a, int64_t b)
{
    int64_t at = first + a * job->k->inner;
    int64_t bt = first + b * job->k->inner;
    return ahead(job, bt, at) || (!ahead(job, at, bt) && a > b);
}

/* heap[0] is the worst of those kept. */
static void sift_down(const struct lanes_job *job, int64_t first, int64_t *heap, int64_t n)
{
    int64_t i = 0;
    for (;;) {
        int64_t most = i;
        for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++) {
            most = worse(job, first, heap[child], heap[most]) ? child : most;
        }
        if (most == i) {
            return;
        }
        int64_t moved = heap[i];
        heap[i] = heap[most];
        heap[most] = moved;
        i = most;
    }
}

static void sift_up(const struct lanes_job *job, int64_t first, int64_t *heap, int64_t i)
{
    while (i > 0 && worse(job, first, heap[i], heap[(i - 1) / 2])) {
        int64_t moved = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = moved;
        i = (i - 1) / 2;
    }
}

static void topk_lane(const struct lanes_job *job, int64_t lane, int64_t *heap)
{
    const struct lanes *k = job->k;
    int64_t first = first_of(k, k->extent, lane);
    int64_t to = first_of(k, k->k, lane);
    int64_t n = 0;
    for (int64_t j = 0; j < k->extent; j++) {
        if (n < k->k) {
            heap[n] = j;
            sift_up(job, first, heap, n++);
        } else if (worse(job, first, heap[0], j)) {
            heap[0] = j;
            sift_down(job, first, heap, n);
        }
    }
    while (n > 0) { /* the worst goes last */
        int64_t at = to + --n * k->inner;
        int64_t from = first + heap[0] * k->inner;
        job->places[at] = heap[0];
        if (k->integers) {
            ((int64_t *)job->y)[at] = ((const int64_t *)job->x)[from];
        } else {
            ((float *)job->y)[at] = ((const float *)job->x)[from];
        }
        heap[0] = heap[n];
        sift_down(job, first, heap, n);
    }
}

static void topk_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct lanes_job *job = context;
    for (int64_t lane = begin; lane < end; lane++) {
        topk_lane(job, lane, job->scratch + thread * job->k->k);
    }
}

/* ---- sums: floats in double */

static void cumsum_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct lanes_job *job = context;
    const struct lanes *k = job->k;
    bool exclusive = (k->kind & FT_CUMSUM_EXCLUSIVE) != 0;
    bool reverse = (k->kind & FT_CUMSUM_REVERSE) != 0;
    (void)thread;
    for (int64_t lane = begin; lane < end; lane++) {
        int64_t first = first_of(k, k->extent, lane);
        double sum = 0.0;
        uint64_t total = 0;
        for (int64_t j = 0; j < k->extent; j++) {
            int64_t at = first + (reverse ? k->extent - 1 - j : j) * k->inner;
            if (k->integers) {
                uint64_t before = total;
                total += (uint64_t)((const int64_t *)job->x)[at];
                ((int64_t *)job->y)[at] = ft_int_wrap(exclusive ? before : total);
            } else {
                double before = sum;
                sum += (double)((const float *)job->x)[at];
                ((float *)job->y)[at] = (float)(exclusive ? before : sum);
            }
        }
    }
}

/* ---- indices of a max pool */

static void indices_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct lanes_job *job = context;
    const struct lanes *k = job->k;
    const int32_t *where = job->x;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t w = where[i];
        int64_t inside = k->kind != 0 ? w % k->width * (k->plane / k->width) + w / k->width : w;
        ((int64_t *)job->y)[i] = i / k->per_plane * k->plane + inside;
    }
}

/* ---- kernels */

static ft_parallel_body body_of(enum ft_op op)
{
    switch ((int)op) {
    case FT_OP_ARG_EXTREME:
        return arg_extreme_range;
    case FT_OP_TOPK:
        return topk_range;
    case FT_OP_CUMSUM:
        return cumsum_range;
    default: /* FT_OP_MAXPOOL_INDICES */
        return indices_range;
    }
}

static enum ft_status lanes_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)err;
    const struct lanes *k = (const struct lanes *)(const void *)kernel;
    struct lanes_job job = {.k = k,
                            .x = in[0].data,
                            .y = out[0].data,
                            .places = kernel->op == FT_OP_TOPK ? out[1].data : NULL,
                            .scratch = scratch};
    ft_cpu_items(ft_cpu_of(kernel->device), k->count, k->extent, body_of(kernel->op), &job);
    return FT_OK;
}

static enum ft_status prepare_lanes(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    const struct ft_type *x = &call->in[0];
    int axis = call->attrs.axis;
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct lanes), lanes_run, kernel, err));
    struct lanes *k = (struct lanes *)(void *)*kernel;
    k->extent = ft_extent(x, axis);
    k->inner = ft_cpu_product(x, axis + 1, x->rank);
    k->count = ft_elements(x) / k->extent;
    k->k = call->attrs.count;
    k->kind = call->attrs.kind;
    k->integers = x->dtype == FT_I64;
    if (call->op == FT_OP_TOPK) {
        *scratch = (size_t)ft_cpu_of(device)->threads * (size_t)k->k * sizeof(int64_t);
    }
    return FT_OK;
}

#define FT_LANES_ROW(name)                                                                                   \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = 0;                                                                                        \
        return prepare_lanes(device, call, kernel, scratch, err);                                            \
    }

FT_LANES_ROW(arg_extreme)
FT_LANES_ROW(topk)
FT_LANES_ROW(cumsum)

enum ft_status ft_cpu_maxpool_indices(struct ft_device *device, const struct ft_call *call,
                                      struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    const struct ft_type *x = &call->in[1];
    *scratch = 0;
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct lanes), lanes_run, kernel, err));
    struct lanes *k = (struct lanes *)(void *)*kernel;
    k->extent = 1;
    k->count = ft_elements(&call->out[0]);
    k->kind = call->attrs.kind;
    k->width = ft_extent(x, x->rank - 1);
    k->plane = ft_cpu_product(x, 2, x->rank);
    k->per_plane = ft_cpu_product(&call->out[0], 2, x->rank);
    return FT_OK;
}
