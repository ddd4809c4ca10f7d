#include "kernels/cpu/pad.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/nd.h"

/*
 * Each axis of the larger or stepped side has a table: how far along that axis the element lies that it
 * shows, FILL where it shows the constant. Axes stand in memory order; those at the end that show themselves
 * are one run of memory. Padding's gradient walks the same tables and adds; what lies in front of the first
 * padded axis is independent, so threads split that and never meet.
 */

#define FILL ((int64_t)-1)

struct pick {
    struct ft_kernel head;
    int rank;                     /* axes with a table, at least 1 */
    int lead;                     /* axes in front that show themselves */
    int64_t extent[FT_MAX_RANK];  /* of the side that is walked */
    int64_t *offset[FT_MAX_RANK]; /* elements of the other side */
    int64_t *tables;              /* what they point into */
    int64_t unit, other;          /* elements of a run; of all of the other side */
    size_t size;                  /* of an element */
    unsigned char fill[8];
};

struct pick_job {
    const struct pick *k;
    const char *x;
    char *y;
};

static void pick_free(struct ft_kernel *kernel)
{
    ft_free(((struct pick *)(void *)kernel)->tables);
    ft_free(kernel);
}

static int64_t product(const int64_t *extent, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) {
        n *= extent[i];
    }
    return n;
}

/* Where row `row` (all axes but the last) lies on the other side, or FILL. */
static int64_t base_of(const struct pick *k, int64_t row)
{
    int64_t base = 0;
    for (int i = k->rank - 2; i >= 0; i--) {
        int64_t at = k->offset[i][row % k->extent[i]];
        row /= k->extent[i];
        if (at == FILL) {
            return FILL;
        }
        base += at;
    }
    return base;
}

static void fill_run(const struct pick *k, char *y)
{
    for (int64_t i = 0; i < k->unit; i++) {
        memcpy(y + (size_t)i * k->size, k->fill, k->size);
    }
}

static void pick_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pick_job *job = context;
    const struct pick *k = job->k;
    (void)thread;
    size_t run = (size_t)k->unit * k->size;
    const int64_t *offset = k->offset[k->rank - 1];
    for (int64_t row = begin; row < end; row++) {
        int64_t base = base_of(k, row);
        char *y = job->y + (size_t)(row * k->extent[k->rank - 1]) * run;
        for (int64_t i = 0; i < k->extent[k->rank - 1]; i++, y += run) {
            if (base == FILL || offset[i] == FILL) {
                fill_run(k, y);
            } else {
                memcpy(y, job->x + (size_t)(base + offset[i]) * k->size, run);
            }
        }
    }
}

static enum ft_status pick_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    struct pick_job job = {.k = (const struct pick *)(const void *)kernel, .x = in[0].data, .y = out[0].data};
    const struct pick *k = job.k;
    int64_t rows = product(k->extent, 0, k->rank - 1);
    ft_cpu_items(ft_cpu_of(kernel->device), rows, k->extent[k->rank - 1] * (k->unit + 1), pick_rows, &job);
    return FT_OK;
}

/* ---- the gradient of padding */

static void add_blocks(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pick_job *job = context;
    const struct pick *k = job->k;
    (void)thread;
    int64_t blocks = product(k->extent, 0, k->lead);
    int64_t rows = product(k->extent, k->lead, k->rank - 1);
    int64_t last = k->extent[k->rank - 1];
    const float *dy = (const float *)(const void *)job->x;
    float *dx = (float *)(void *)job->y;
    memset(dx + begin * (k->other / blocks), 0, (size_t)((end - begin) * (k->other / blocks)) * sizeof *dx);
    for (int64_t row = begin * rows; row < end * rows; row++) {
        int64_t base = base_of(k, row);
        for (int64_t i = 0; base != FILL && i < last; i++) {
            int64_t to = k->offset[k->rank - 1][i];
            const float *from = dy + (row * last + i) * k->unit;
            for (int64_t c = 0; to != FILL && c < k->unit; c++) {
                dx[base + to + c] += from[c];
            }
        }
    }
}

static enum ft_status add_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                              void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    struct pick_job job = {.k = (const struct pick *)(const void *)kernel, .x = in[0].data, .y = out[0].data};
    const struct pick *k = job.k;
    int64_t blocks = product(k->extent, 0, k->lead);
    ft_cpu_items(ft_cpu_of(kernel->device), blocks, product(k->extent, k->lead, k->rank) * (k->unit + 1),
                 add_blocks, &job);
    return FT_OK;
}

/* ---- tables */

/* Element i of the walked side along logical axis `axis` -> the other side's, or FILL. */
typedef int64_t (*position)(const struct ft_attrs *a, int axis, int64_t i, int64_t other);

static int64_t padded_at(const struct ft_attrs *a, int axis, int64_t i, int64_t extent)
{
    int64_t at = i - a->pad_begin[axis];
    int64_t period = a->kind == FT_PAD_WRAP ? extent : 2 * (extent - 1);
    switch ((enum ft_pad)a->kind) {
    case FT_PAD_CONSTANT:
        return at >= 0 && at < extent ? at : FILL;
    case FT_PAD_EDGE:
        return at < 0 ? 0 : at < extent ? at : extent - 1;
    case FT_PAD_REFLECT:
    case FT_PAD_WRAP:
        break;
    }
    at = period == 0 ? 0 : (at % period + period) % period;
    return at < extent ? at : period - at;
}

static int64_t sliced_at(const struct ft_attrs *a, int axis, int64_t i, int64_t extent)
{
    (void)extent;
    return axis == a->axis ? a->start + i * a->step : i;
}

/* The inverse: most elements of s are not in x. */
static int64_t placed_at(const struct ft_attrs *a, int axis, int64_t i, int64_t extent)
{
    if (axis != a->axis) {
        return i;
    }
    int64_t at = (i - a->start) / a->step;
    return at >= 0 && at < extent && at * a->step == i - a->start ? at : FILL;
}

/* Logical axes in memory order. */
static void memory_order(const struct ft_type *t, int order[FT_MAX_RANK])
{
    static const int last[4] = {0, 2, 3, 1};
    for (int i = 0; i < t->rank; i++) {
        order[i] = t->layout == FT_CHANNELS_LAST ? last[i] : i;
    }
}

static void fill_table(const struct ft_call *call, const struct ft_type *other, int axis, int64_t stride,
                       position at, int64_t extent, int64_t *table)
{
    for (int64_t i = 0; i < extent; i++) {
        int64_t from = at(&call->attrs, axis, i, ft_extent(other, axis));
        table[i] = from == FILL ? FILL : from * stride;
    }
}

/* `walked` and `other` differ on the axes that change; those behind the last of them are one run. */
static enum ft_status make_tables(struct pick *k, const struct ft_call *call, const struct ft_type *walked,
                                  const struct ft_type *other, const bool *changes, position at,
                                  struct ft_err *err)
{
    int order[FT_MAX_RANK];
    int64_t strides[FT_MAX_RANK];
    int64_t entries = 1;
    memory_order(walked, order);
    ft_nd_strides(other, strides);
    k->unit = 1;
    k->rank = walked->rank;
    while (k->rank > 0 && !changes[order[k->rank - 1]]) {
        k->unit *= ft_extent(walked, order[--k->rank]);
    }
    for (int i = 0; i < k->rank; i++) {
        entries += ft_extent(walked, order[i]);
        k->lead += i == k->lead && !changes[order[i]];
    }
    FT_RETURN_IF_FAILED(ft_new((size_t)entries, sizeof *k->tables, &k->tables, err));
    int64_t *table = k->tables;
    for (int i = 0; i < k->rank; i++) {
        k->extent[i] = ft_extent(walked, order[i]);
        k->offset[i] = table;
        fill_table(call, other, order[i], strides[order[i]], at, k->extent[i], table);
        table += k->extent[i];
    }
    if (k->rank == 0) { /* a copy */
        k->rank = 1;
        k->extent[0] = 1;
        k->offset[0] = table;
    }
    k->other = ft_elements(other);
    k->size = ft_dtype_size(walked->dtype);
    return FT_OK;
}

struct pick_plan {
    const struct ft_type *walked, *other;
    position at;
    ft_cpu_run run;
};

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call,
                              const struct pick_plan *plan, struct ft_kernel **kernel, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *made = NULL;
    bool changes[FT_MAX_RANK];
    bool pads = call->op == FT_OP_PAD || call->op == FT_OP_PAD_BWD;
    for (int i = 0; i < plan->walked->rank; i++) {
        changes[i] =
            pads ? call->attrs.pad_begin[i] != 0 || call->attrs.pad_end[i] != 0 : i == call->attrs.axis;
    }
    FT_TRY(ft_cpu_one_layout(call, err));
    FT_TRY(ft_cpu_kernel(device, call, sizeof(struct pick), plan->run, &made, err));
    made->free = pick_free;
    FT_TRY(make_tables((struct pick *)(void *)made, call, plan->walked, plan->other, changes, plan->at, err));
    *kernel = made;
    made = NULL;
done:
    if (made != NULL) {
        pick_free(made);
    }
    return st;
}

static void set_fill(struct pick *k, enum ft_dtype dtype, float alpha)
{
    const int64_t wide = (int64_t)alpha;
    const int32_t narrow = (int32_t)wide;
    const bool truth = alpha != 0.0F;
    const void *from = dtype == FT_I64    ? (const void *)&wide
                       : dtype == FT_I32  ? (const void *)&narrow
                       : dtype == FT_BOOL ? (const void *)&truth
                                          : (const void *)&alpha;
    memcpy(k->fill, from, ft_dtype_size(dtype));
}

enum ft_status ft_cpu_pad(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                          size_t *scratch, struct ft_err *err)
{
    const struct pick_plan plan = {&call->out[0], &call->in[0], padded_at, pick_run};
    *scratch = 0;
    FT_RETURN_IF_FAILED(prepare(device, call, &plan, kernel, err));
    set_fill((struct pick *)(void *)*kernel, call->out[0].dtype, call->attrs.alpha);
    return FT_OK;
}

enum ft_status ft_cpu_pad_bwd(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    const struct pick_plan plan = {&call->in[0], &call->out[0], padded_at, add_run};
    *scratch = 0;
    return prepare(device, call, &plan, kernel, err);
}

enum ft_status ft_cpu_strided(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              struct ft_err *err)
{
    const struct pick_plan slice = {&call->out[0], &call->in[0], sliced_at, pick_run};
    const struct pick_plan place = {&call->out[0], &call->in[0], placed_at, pick_run};
    return prepare(device, call, call->op == FT_OP_SLICE ? &slice : &place, kernel, err);
}
