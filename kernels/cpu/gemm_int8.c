#include "kernels/cpu/gemm_int8.h"

#include "executor/base/alloc.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/packs.h"
#include "kernels/int8.h"

enum {
    TILE = 6,    /* rows of a register tile (vec_int8.inc) */
    ROWS = 48,   /* of a block: 36 KB of integers at a depth of 384, 144 KB at 1,536 */
    PANELS = 12, /* computed for a block before its activation: what they make is still in the cache */
    /* A thread gets this many times FT_CPU_GRAIN operations: gemm.c's times the ratio of tile speeds (a text
       of 12 tokens: 2.7 ms; 3.5 with 320). */
    THREAD_OPS = 64
};

struct gemm_int8 {
    struct ft_kernel head;
    struct ft_attrs attrs;
    int64_t rows, panels, width, pairs; /* pairs: of the depth */
    int32_t levels;
    struct ft_cpu_pack_shape b;
    bool bias, by_panel; /* by_panel: threads share columns, not rows */
    int threads;
    struct ft_cpu_pack *pack;
};

/* Rows of a as integers. */
struct block {
    float *scale; /* (rows) */
    int16_t *q;   /* (rows, pairs, 2) */
};

struct job {
    const struct gemm_int8 *k;
    const struct ft_cpu *cpu;
    const float *a, *bias, *residual;
    const void *packed;
    float *y;
    char *scratch;
    struct block all; /* by_panel: of all rows */
};

/* ---- rows of a */

static size_t block_bytes(const struct gemm_int8 *k, int64_t rows)
{
    size_t scales = (size_t)ft_parts_of(rows * (int64_t)sizeof(float), FT_ALIGN) * FT_ALIGN;
    size_t integers = (size_t)(rows * 2 * k->pairs) * sizeof(int16_t);
    return scales + (integers + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

static struct block block_at(char *memory, int64_t rows)
{
    size_t scales = (size_t)ft_parts_of(rows * (int64_t)sizeof(float), FT_ALIGN) * FT_ALIGN;
    return (struct block){.scale = (float *)(void *)memory, .q = (int16_t *)(void *)(memory + scales)};
}

static void quantise_row(const struct job *job, const float *row, int16_t *q, float *scale)
{
    const struct gemm_int8 *k = job->k;
    size_t depth = (size_t)k->b.depth;
    struct ft_int8_line line = ft_int8_line_of(job->cpu->vec->most(row, depth), k->levels);
    q[2 * k->pairs - 1] = 0; /* of an odd depth */
    job->cpu->vec->quantise(row, q, depth, line.inverse);
    *scale = k->attrs.alpha * line.scale;
}

/* Rows row .. row + rows - 1 of a, to the first ones of the block. */
static void quantise(const struct job *job, int64_t row, int64_t rows, const struct block *to)
{
    const struct gemm_int8 *k = job->k;
    for (int64_t r = 0; r < rows; r++) {
        quantise_row(job, job->a + (row + r) * k->b.depth, to->q + r * 2 * k->pairs, to->scale + r);
    }
}

static void quantise_all(void *context, int thread, int64_t begin, int64_t end)
{
    const struct job *job = context;
    const struct block at = {.scale = job->all.scale + begin, .q = job->all.q + begin * 2 * job->k->pairs};
    (void)thread;
    quantise(job, begin, end - begin, &at);
}

/* ---- products */

/* Rows row .. of y, as many as the block has, and panels first .. end - 1. */
static void run_panels(const struct job *job, const struct block *block, int64_t row, int64_t rows,
                       int64_t first, int64_t end)
{
    const struct gemm_int8 *k = job->k;
    int64_t bytes = ft_cpu_pack_bytes(job->cpu, &k->b);
    for (int64_t j = first; j < end; j++) {
        const char *panel = (const char *)job->packed + j * bytes;
        int64_t at = row * k->b.cols + j * k->width;
        const struct ft_vec_product_int8 p = {
            .a = block->q,
            .b = (const int8_t *)panel + k->width * (int64_t)sizeof(float),
            .a_scale = block->scale,
            .b_scale = (const float *)(const void *)panel,
            .bias = job->bias == NULL ? NULL : job->bias + j * k->width,
            .more = job->residual == NULL ? NULL : job->residual + at,
            .c = job->y + at,
            .c_row = k->b.cols,
            .rows = rows,
            .cols = ft_smaller(k->width, k->b.cols - j * k->width),
            .pairs = k->pairs,
        };
        job->cpu->vec->product_int8(&p);
    }
    int64_t from = first * k->width;
    int64_t cols = ft_smaller(end * k->width, k->b.cols) - from;
    for (int64_t r = row; k->attrs.act != FT_ACT_NONE && r < row + rows; r++) {
        ft_cpu_act(job->cpu->vec, &k->attrs, job->y + r * k->b.cols + from, (size_t)cols);
    }
}

/* Of tiles of rows. */
static void run_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct job *job = context;
    const struct gemm_int8 *k = job->k;
    const struct block block = block_at(job->scratch + (size_t)thread * block_bytes(k, ROWS), ROWS);
    int64_t row_end = ft_smaller(end * TILE, k->rows);
    for (int64_t row = begin * TILE; row < row_end; row += ROWS) {
        int64_t rows = ft_smaller(ROWS, row_end - row);
        quantise(job, row, rows, &block);
        for (int64_t j = 0; j < k->panels; j += PANELS) {
            run_panels(job, &block, row, rows, j, ft_smaller(j + PANELS, k->panels));
        }
    }
}

/* Of panels. */
static void run_columns(void *context, int thread, int64_t begin, int64_t end)
{
    const struct job *job = context;
    (void)thread;
    run_panels(job, &job->all, 0, job->k->rows, begin, end);
}

static enum ft_status gemm_int8_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    struct gemm_int8 *k = (struct gemm_int8 *)(void *)kernel;
    struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct job job = {.k = k, .cpu = cpu, .a = ft_in(in, 0), .y = ft_out(out, 0), .scratch = scratch};
    job.bias = k->bias ? ft_in(in, 2) : NULL;
    job.residual = k->attrs.residual != 0 ? ft_in(in, k->bias ? 3 : 2) : NULL;
    FT_RETURN_IF_FAILED(ft_cpu_pack_panels(cpu, &k->b, &in[1], &k->pack, &job.packed, err));
    if (k->by_panel) {
        job.all = block_at(scratch, k->rows);
        ft_cpu_items(cpu, k->rows, k->b.depth, quantise_all, &job);
        ft_parallel_for(k->threads, k->panels, run_columns, &job);
    } else {
        ft_parallel_for(k->threads, ft_parts_of(k->rows, TILE), run_rows, &job);
    }
    return FT_OK;
}

static void gemm_int8_free(struct ft_kernel *kernel)
{
    struct gemm_int8 *k = (struct gemm_int8 *)(void *)kernel;
    ft_cpu_pack_drop(ft_cpu_of(kernel->device), &k->pack);
    ft_free(k);
}

/* ---- preparation */

static void read_call(struct gemm_int8 *k, const struct ft_cpu *cpu, const struct ft_call *call)
{
    const struct ft_type *b = &call->in[1];
    bool trans = call->attrs.trans_b != 0;
    k->attrs = call->attrs;
    k->b = (struct ft_cpu_pack_shape){.depth = ft_extent(b, trans ? 1 : 0),
                                      .cols = ft_extent(b, trans ? 0 : 1),
                                      .trans = trans,
                                      .form = FT_CPU_PACK_INT8};
    k->rows = ft_elements(&call->in[0]) / k->b.depth;
    k->width = cpu->vec->product_cols;
    k->panels = ft_parts_of(k->b.cols, k->width);
    k->pairs = ft_parts_of(k->b.depth, 2);
    k->levels = ft_int8_levels(k->b.depth);
    k->bias = call->n_in - (call->attrs.residual != 0) == 3;
    k->threads = ft_cpu_threads(cpu, 2 * k->rows * k->b.depth * k->b.cols / THREAD_OPS);
    k->by_panel = ft_parts_of(k->rows, TILE) < 8 * k->threads;
}

enum ft_status ft_cpu_gemm_int8(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    struct ft_cpu *cpu = ft_cpu_of(device);
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct gemm_int8), gemm_int8_run, kernel, err));
    struct gemm_int8 *k = (struct gemm_int8 *)(void *)*kernel;
    k->head.free = gemm_int8_free;
    read_call(k, cpu, call);
    *scratch = k->by_panel ? block_bytes(k, k->rows) : (size_t)k->threads * block_bytes(k, ROWS);
    enum ft_status st = ft_cpu_pack_reserve(cpu, &k->b, &k->pack, err);
    if (st != FT_OK) {
        gemm_int8_free(*kernel);
        *kernel = NULL;
    }
    return st;
}
