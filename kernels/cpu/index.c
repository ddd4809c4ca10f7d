#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/integer.h"

/* Indexing. Places are checked before anything is written; what may meet at one place (GATHER_BWD, scatters)
 * runs on one thread, in order. */

struct index {
    struct ft_kernel head;
    int kind;
    size_t size; /* of an element of x */
    bool integers;
    int rank;
    int64_t indices;              /* elements of index */
    int64_t outer, extent, inner; /* of x around the axis */
    int64_t dims[FT_MAX_RANK];    /* of index; ND: the coordinates' extents */
    int64_t stride[FT_MAX_RANK];  /* of x for each axis of index, 0 along the axis; ND: of each coordinate */
    int64_t axis_stride;          /* ELEMENTS */
    int64_t rows, per_batch, batch_step,
        depth;     /* ND: rows of coordinates, those of one batch, elements of x of it */
    int64_t bytes; /* of x */
};

/* index -> 0 .. extent - 1, or -1 */
static int64_t resolved(int64_t index, int64_t extent)
{
    int64_t i = index < 0 ? index + extent : index;
    return i >= 0 && i < extent ? i : -1;
}

static enum ft_status out_of_range(const struct ft_kernel *k, int64_t index, int64_t extent,
                                   struct ft_err *err)
{
    return FT_FAIL(err, INVALID, "%s: index %lld is not within %lld", ft_op_info(k->op)->name,
                   (long long)index, (long long)extent);
}

static enum ft_status check_indices(const struct index *k, const int64_t *indices, struct ft_err *err)
{
    for (int64_t i = 0; i < k->indices; i++) {
        if (resolved(indices[i], k->extent) < 0) {
            return out_of_range(&k->head, indices[i], k->extent, err);
        }
    }
    return FT_OK;
}

/* ---- gather */

struct gather_job {
    const struct index *k;
    const int64_t *indices;
    const char *x;
    char *y;
};

static void gather_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct gather_job *job = context;
    const struct index *k = job->k;
    size_t run = (size_t)k->inner * k->size;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t which = resolved(job->indices[item % k->indices], k->extent);
        int64_t from = item / k->indices * k->extent + which;
        memcpy(job->y + (size_t)item * run, job->x + (size_t)from * run, run);
    }
}

static enum ft_status gather_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    struct gather_job job = {.k = k, .indices = in[1].data, .x = in[0].data, .y = out[0].data};
    FT_RETURN_IF_FAILED(check_indices(k, job.indices, err));
    ft_cpu_items(ft_cpu_of(kernel->device), k->outer * k->indices, k->inner, gather_range, &job);
    return FT_OK;
}

static enum ft_status gather_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                     const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    const struct ft_vec *vec = ft_cpu_of(kernel->device)->vec;
    const int64_t *indices = in[1].data;
    const float *dy = ft_in(in, 0);
    float *dx = ft_out(out, 0);
    FT_RETURN_IF_FAILED(check_indices(k, indices, err));
    memset(dx, 0, (size_t)k->bytes);
    for (int64_t item = 0; item < k->outer * k->indices; item++) {
        int64_t to = item / k->indices * k->extent + resolved(indices[item % k->indices], k->extent);
        vec->add_scaled(dy + item * k->inner, dx + to * k->inner, (size_t)k->inner, 1.0F);
    }
    return FT_OK;
}

/* ---- one element each */

/* An odometer over the axes of index, with the offset in x that belongs to it (the axis itself left out). */
struct walk {
    int64_t at[FT_MAX_RANK];
    int64_t offset;
};

static void step(const struct index *k, struct walk *w)
{
    for (int d = k->rank - 1; d >= 0; d--) {
        w->offset += k->stride[d];
        if (++w->at[d] < k->dims[d]) {
            return;
        }
        w->offset -= w->at[d] * k->stride[d];
        w->at[d] = 0;
    }
}

static enum ft_status gather_elements_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                          const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    const int64_t *indices = in[1].data;
    struct walk w = {{0}, 0};
    FT_RETURN_IF_FAILED(check_indices(k, indices, err));
    for (int64_t i = 0; i < k->indices; i++, step(k, &w)) {
        int64_t from = w.offset + resolved(indices[i], k->extent) * k->axis_stride;
        memcpy((char *)out[0].data + (size_t)i * k->size, (const char *)in[0].data + (size_t)from * k->size,
               k->size);
    }
    return FT_OK;
}

/* ---- scatter */

static void combine_floats(int kind, float *y, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float a = y[i];
        float b = u[i];
        y[i] = kind == FT_SCATTER_ADD   ? a + b
               : kind == FT_SCATTER_MUL ? a * b
               : kind == FT_SCATTER_MAX ? (a > b || a != a ? a : b)
                                        : (a < b || a != a ? a : b);
    }
}

static void combine_integers(int kind, int64_t *y, const int64_t *u, int64_t n)
{
    enum ft_op op = kind == FT_SCATTER_ADD   ? FT_OP_ADD
                    : kind == FT_SCATTER_MUL ? FT_OP_MUL
                    : kind == FT_SCATTER_MAX ? FT_OP_MAXIMUM
                                             : FT_OP_MINIMUM;
    bool fault = false;
    for (int64_t i = 0; i < n; i++) {
        y[i] = ft_int_binary(op, 0, y[i], u[i], &fault);
    }
}

/* n elements at y[to] with those at u[from]. */
static void put(const struct index *k, void *y, int64_t to, const void *u, int64_t from, int64_t n)
{
    if (k->kind == FT_SCATTER_SET) {
        memcpy((char *)y + (size_t)to * k->size, (const char *)u + (size_t)from * k->size,
               (size_t)n * k->size);
    } else if (k->integers) {
        combine_integers(k->kind, (int64_t *)y + to, (const int64_t *)u + from, n);
    } else {
        combine_floats(k->kind, (float *)y + to, (const float *)u + from, n);
    }
}

static enum ft_status scatter_elements_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                           const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    const int64_t *indices = in[1].data;
    struct walk w = {{0}, 0};
    FT_RETURN_IF_FAILED(check_indices(k, indices, err));
    memmove(out[0].data, in[0].data, (size_t)k->bytes);
    for (int64_t i = 0; i < k->indices; i++, step(k, &w)) {
        put(k, out[0].data, w.offset + resolved(indices[i], k->extent) * k->axis_stride, in[2].data, i, 1);
    }
    return FT_OK;
}

/* ---- rows of coordinates */

/* Where in x row r of the coordinates points. */
static enum ft_status row_place(const struct index *k, const int64_t *indices, int64_t r, int64_t *place,
                                struct ft_err *err)
{
    *place = r / k->per_batch * k->batch_step;
    for (int64_t d = 0; d < k->depth; d++) {
        int64_t index = indices[r * k->depth + d];
        int64_t i = resolved(index, k->dims[d]);
        if (i < 0) {
            return out_of_range(&k->head, index, k->dims[d], err);
        }
        *place += i * k->stride[d];
    }
    return FT_OK;
}

static enum ft_status gather_nd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    size_t run = (size_t)k->inner * k->size;
    for (int64_t r = 0; r < k->rows; r++) {
        int64_t from = 0;
        FT_RETURN_IF_FAILED(row_place(k, in[1].data, r, &from, err));
        memcpy((char *)out[0].data + (size_t)r * run, (const char *)in[0].data + (size_t)from * k->size, run);
    }
    return FT_OK;
}

static enum ft_status scatter_nd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                     const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    const struct index *k = (const struct index *)(const void *)kernel;
    memmove(out[0].data, in[0].data, (size_t)k->bytes);
    for (int64_t r = 0; r < k->rows; r++) {
        int64_t to = 0;
        FT_RETURN_IF_FAILED(row_place(k, in[1].data, r, &to, err));
        put(k, out[0].data, to, in[2].data, r * k->inner, k->inner);
    }
    return FT_OK;
}

/* ---- kernels */

static void plain_strides(const struct ft_type *t, int64_t stride[FT_MAX_RANK])
{
    int64_t n = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= ft_extent(t, i);
    }
}

static enum ft_status new_index(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                const struct ft_type *x, struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct index), run, kernel, err));
    struct index *k = (struct index *)(void *)*kernel;
    k->kind = call->attrs.kind;
    k->size = ft_dtype_size(x->dtype);
    k->integers = x->dtype == FT_I64;
    k->indices = ft_elements(&call->in[1]);
    k->bytes = (int64_t)ft_type_bytes(x);
    return FT_OK;
}

/* GATHER, GATHER_BWD and the ELEMENTS rows: an axis of x. */
static enum ft_status prepare_axis(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                   const struct ft_type *x, struct ft_kernel **kernel, struct ft_err *err)
{
    const struct ft_type *index = &call->in[1];
    int axis = call->attrs.axis;
    FT_RETURN_IF_FAILED(new_index(device, call, run, x, kernel, err));
    struct index *k = (struct index *)(void *)*kernel;
    k->outer = ft_cpu_product(x, 0, axis);
    k->extent = ft_extent(x, axis);
    k->inner = ft_cpu_product(x, axis + 1, x->rank);
    if (call->op == FT_OP_GATHER_ELEMENTS || call->op == FT_OP_SCATTER_ELEMENTS) {
        plain_strides(x, k->stride);
        k->rank = index->rank;
        for (int d = 0; d < index->rank; d++) {
            k->dims[d] = ft_extent(index, d);
        }
        k->axis_stride = k->stride[axis];
        k->stride[axis] = 0;
    }
    return FT_OK;
}

static enum ft_status prepare_nd(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                 struct ft_kernel **kernel, struct ft_err *err)
{
    const struct ft_type *x = &call->in[0];
    const struct ft_type *index = &call->in[1];
    int batch = (int)call->attrs.count;
    int64_t strides[FT_MAX_RANK] = {0};
    FT_RETURN_IF_FAILED(new_index(device, call, run, x, kernel, err));
    struct index *k = (struct index *)(void *)*kernel;
    plain_strides(x, strides);
    k->depth = ft_extent(index, index->rank - 1);
    k->rows = k->indices / k->depth;
    k->per_batch = ft_cpu_product(index, batch, index->rank - 1);
    k->batch_step = ft_cpu_product(x, batch, x->rank);
    k->inner = ft_cpu_product(x, batch + (int)k->depth, x->rank);
    for (int d = 0; d < (int)k->depth; d++) {
        k->dims[d] = ft_extent(x, batch + d);
        k->stride[d] = strides[batch + d];
    }
    return FT_OK;
}

#define FT_INDEX_ROW(name, prepare)                                                                          \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        *scratch = 0;                                                                                        \
        return prepare;                                                                                      \
    }

FT_INDEX_ROW(gather, prepare_axis(device, call, gather_run, &call->in[0], kernel, err))
FT_INDEX_ROW(gather_bwd, prepare_axis(device, call, gather_bwd_run, &call->in[2], kernel, err))
FT_INDEX_ROW(gather_elements, prepare_axis(device, call, gather_elements_run, &call->in[0], kernel, err))
FT_INDEX_ROW(scatter_elements, prepare_axis(device, call, scatter_elements_run, &call->in[0], kernel, err))
FT_INDEX_ROW(gather_nd, prepare_nd(device, call, gather_nd_run, kernel, err))
FT_INDEX_ROW(scatter_nd, prepare_nd(device, call, scatter_nd_run, kernel, err))
