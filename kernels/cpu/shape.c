#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"
#include "kernels/cpu/pad.h"

/* Rows that move elements without arithmetic; elements are 1, 4 or 8 bytes. */

/* ---- strided copies: expand_to, transpose */

struct copy {
    struct ft_kernel head;
    struct ft_nd nd; /* y, x */
    size_t size;     /* of an element */
    /* A transposed pair of axes is walked in blocks: axis `down` is where x is contiguous; -1: plain runs. */
    int down;
};

struct copy_job {
    const struct copy *k;
    const char *x;
    char *y;
};

static void copy_piece(void *context, const int64_t offset[FT_ND_OPERANDS], int64_t n)
{
    const struct copy_job *job = context;
    const struct ft_nd *nd = &job->k->nd;
    int last = nd->rank - 1;
    size_t size = job->k->size;
    int64_t sy = nd->stride[0][last];
    int64_t sx = nd->stride[1][last];
    char *y = job->y + (size_t)offset[0] * size;
    const char *x = job->x + (size_t)offset[1] * size;
    if (sy == 1 && sx == 1) {
        memcpy(y, x, (size_t)n * size);
    } else if (size == sizeof(uint32_t)) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(y + i * sy * 4, x + i * sx * 4, 4);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            memcpy(y + (size_t)(i * sy) * size, x + (size_t)(i * sx) * size, size);
        }
    }
}

static void copy_range(void *context, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    ft_nd_walk(&((const struct copy_job *)context)->k->nd, begin, end, copy_piece, context);
}

enum { BLOCK = 16 };

/* One matrix of 4-byte elements, (down, last) of y from (last, down) of x, in blocks that stay in L1. */
static void transpose_matrix(const struct copy *k, const float *x, float *y)
{
    int last = k->nd.rank - 1;
    int64_t rows = k->nd.extent[k->down];
    int64_t cols = k->nd.extent[last];
    int64_t row_y = k->nd.stride[0][k->down];
    int64_t col_x = k->nd.stride[1][last];
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        int64_t r1 = r0 + BLOCK < rows ? r0 + BLOCK : rows;
        for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
            int64_t c1 = c0 + BLOCK < cols ? c0 + BLOCK : cols;
            for (int64_t r = r0; r < r1; r++) {
                for (int64_t c = c0; c < c1; c++) {
                    y[r * row_y + c] = x[c * col_x + r];
                }
            }
        }
    }
}

/* Items are the matrices: all axes but the last and `down`. */
static void transpose_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct copy_job *job = context;
    const struct copy *k = job->k;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t rest = item;
        int64_t from = 0;
        int64_t to = 0;
        for (int i = k->nd.rank - 2; i >= 0; i--) {
            if (i == k->down) {
                continue;
            }
            int64_t index = rest % k->nd.extent[i];
            rest /= k->nd.extent[i];
            to += index * k->nd.stride[0][i];
            from += index * k->nd.stride[1][i];
        }
        transpose_matrix(k, (const float *)(const void *)job->x + from, (float *)(void *)job->y + to);
    }
}

static enum ft_status copy_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct copy *k = (const struct copy *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct copy_job job = {.k = k, .x = in[0].data, .y = out[0].data};
    if (k->down < 0) {
        ft_cpu_items(cpu, ft_nd_items(&k->nd), ft_nd_piece(&k->nd), copy_range, &job);
        return FT_OK;
    }
    int64_t matrix = k->nd.extent[k->down] * k->nd.extent[k->nd.rank - 1];
    int64_t items = 1;
    for (int i = 0; i < k->nd.rank; i++) {
        items *= k->nd.extent[i];
    }
    ft_cpu_items(cpu, items / matrix, matrix, transpose_range, &job);
    return FT_OK;
}

static int transposed_axis(const struct ft_nd *nd, size_t size)
{
    int last = nd->rank - 1;
    if (size != sizeof(float) || nd->stride[0][last] != 1 || nd->stride[1][last] <= 1) {
        return -1;
    }
    for (int i = 0; i < last; i++) {
        if (nd->stride[1][i] == 1 && nd->extent[i] >= 4) {
            return i;
        }
    }
    return -1;
}

static enum ft_status prepare_copy(struct ft_device *device, const struct ft_call *call,
                                   int64_t strides[][FT_MAX_RANK], struct ft_kernel **kernel,
                                   struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct copy), copy_run, kernel, err));
    struct copy *k = (struct copy *)(void *)*kernel;
    ft_nd_build(&call->out[0], 2, strides, &k->nd);
    k->size = ft_dtype_size(call->out[0].dtype);
    k->down = transposed_axis(&k->nd, k->size);
    return FT_OK;
}

enum ft_status ft_cpu_expand_to(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK] = {{0}};
    *scratch = 0;
    ft_nd_strides(&call->out[0], strides[0]);
    ft_nd_broadcast(&call->in[0], &call->out[0], strides[1]);
    return prepare_copy(device, call, strides, kernel, err);
}

enum ft_status ft_cpu_transpose(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK] = {{0}};
    int64_t own[FT_MAX_RANK] = {0};
    *scratch = 0;
    ft_nd_strides(&call->out[0], strides[0]);
    ft_nd_strides(&call->in[0], own);
    for (int i = 0; i < call->out[0].rank; i++) {
        strides[1][i] = own[call->attrs.perm[i]];
    }
    return prepare_copy(device, call, strides, kernel, err);
}

/* ---- the same elements under another shape */

struct move {
    struct ft_kernel head;
    size_t bytes;
};

static enum ft_status move_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    memmove(out[0].data, in[0].data, ((const struct move *)(const void *)kernel)->bytes);
    return FT_OK;
}

/* Does row-major order equal memory order? Channels-last it does when a pixel is a plane or a channel. */
static bool is_plain(const struct ft_type *t)
{
    return t->layout == FT_ROW_MAJOR || ft_extent(t, 1) == 1 || ft_cpu_product(t, 2, 4) == 1;
}

static enum ft_status prepare_move(struct ft_device *device, const struct ft_call *call,
                                   struct ft_kernel **kernel, struct ft_err *err)
{
    if (!is_plain(&call->in[0]) || !is_plain(&call->out[0])) {
        return FT_FAIL(err, UNSUPPORTED, "%s: device cpu takes it row-major only",
                       ft_op_info(call->op)->name);
    }
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct move), move_run, kernel, err));
    ((struct move *)(void *)*kernel)->bytes = ft_type_bytes(&call->out[0]);
    return FT_OK;
}

enum ft_status ft_cpu_reshape(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    if (call->in[0].dtype != call->out[0].dtype) {
        return ft_cpu_convert(device, call, kernel, err);
    }
    return prepare_move(device, call, kernel, err);
}

enum ft_status ft_cpu_reshape_like(struct ft_device *device, const struct ft_call *call,
                                   struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare_move(device, call, kernel, err);
}

/* ---- parts along an axis: concat, slice, pad_like */

/* A tensor seen as rows of bytes: everything before the axis in memory, then the axis and everything after
 * it. */
struct rows {
    int64_t count;
    size_t unit; /* bytes of one step along the axis */
};

static struct rows rows_of(const struct ft_type *t, int axis)
{
    int64_t stride[FT_MAX_RANK];
    ft_nd_strides(t, stride);
    struct rows r = {.count = ft_elements(t) / (stride[axis] * ft_extent(t, axis)),
                     .unit = (size_t)stride[axis] * ft_dtype_size(t->dtype)};
    return r;
}

struct part {
    struct ft_kernel head;
    int64_t rows;
    int n_in;
    bool zero;           /* pad_like */
    size_t row_x, row_y; /* bytes a row; concat: row_x of each input is in `widths` */
    size_t at_x, at_y, bytes;
    size_t *widths;
};

static void part_free(struct ft_kernel *kernel)
{
    ft_free(((struct part *)(void *)kernel)->widths);
    ft_free(kernel);
}

static enum ft_status part_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct part *k = (const struct part *)(const void *)kernel;
    if (k->zero) {
        memset(out[0].data, 0, (size_t)k->rows * k->row_y);
    }
    for (int64_t r = 0; r < k->rows; r++) {
        memcpy((char *)out[0].data + (size_t)r * k->row_y + k->at_y,
               (const char *)in[0].data + (size_t)r * k->row_x + k->at_x, k->bytes);
    }
    return FT_OK;
}

static enum ft_status concat_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct part *k = (const struct part *)(const void *)kernel;
    char *y = out[0].data;
    for (int64_t r = 0; r < k->rows; r++) {
        for (int i = 0; i < k->n_in; i++) {
            memcpy(y, (const char *)in[i].data + (size_t)r * k->widths[i], k->widths[i]);
            y += k->widths[i];
        }
    }
    return FT_OK;
}

static enum ft_status prepare_part(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                   struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct part), run, kernel, err));
    (*kernel)->free = part_free;
    struct part *k = (struct part *)(void *)*kernel;
    int axis = call->attrs.axis;
    struct rows x = rows_of(&call->in[0], axis);
    struct rows y = rows_of(&call->out[0], axis);
    k->rows = y.count;
    k->n_in = call->n_in;
    k->row_x = x.unit * (size_t)ft_extent(&call->in[0], axis);
    k->row_y = y.unit * (size_t)ft_extent(&call->out[0], axis);
    if (call->op == FT_OP_SLICE) {
        k->at_x = x.unit * (size_t)call->attrs.start;
        k->bytes = k->row_y;
    } else if (call->op == FT_OP_PAD_LIKE) {
        k->at_y = y.unit * (size_t)call->attrs.start;
        k->bytes = k->row_x;
        k->zero = true;
    }
    return FT_OK;
}

enum ft_status ft_cpu_slice(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                            size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    if (call->attrs.step != 0 && call->attrs.step != 1) {
        return ft_cpu_strided(device, call, kernel, err);
    }
    return prepare_part(device, call, part_run, kernel, err);
}

enum ft_status ft_cpu_pad_like(struct ft_device *device, const struct ft_call *call,
                               struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    if (call->attrs.step != 0 && call->attrs.step != 1) {
        return ft_cpu_strided(device, call, kernel, err);
    }
    return prepare_part(device, call, part_run, kernel, err);
}

enum ft_status ft_cpu_concat(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_kernel *made = NULL;
    *scratch = 0;
    FT_TRY(prepare_part(device, call, concat_run, &made, err));
    struct part *k = (struct part *)(void *)made;
    FT_TRY(ft_new((size_t)call->n_in, sizeof *k->widths, &k->widths, err));
    for (int i = 0; i < call->n_in; i++) {
        struct rows x = rows_of(&call->in[i], call->attrs.axis);
        k->widths[i] = x.unit * (size_t)ft_extent(&call->in[i], call->attrs.axis);
    }
    *kernel = made;
    made = NULL;
done:
    if (made != NULL) {
        part_free(made);
    }
    return st;
}
