#include "kernels/cpu/gemm.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/packs.h"

/*
 * y = act(alpha a b + bias + residual). A part of a panel of b stays in the first-level cache while a block
 * of rows of a, which stays in the second, passes it.
 */

enum {
    DEPTH = 384,    /* of a part: 24 KB of a panel of AVX2 */
    TILE = 6,       /* rows of a register tile (vec_attention.inc) */
    ROWS = 48,      /* of a block: 72 KB */
    AHEAD = 8,      /* rows of a transposed a that are asked for early */
    TILED = 1536,   /* rows of a transposed a, laid out in tiles at once: 2.25 MB */
    PANELS = 12,    /* of a b that is no parameter, packed at once: 288 KB */
    LEAST_ROWS = 6, /* for which packing such a b is worth it */
    /* A thread gets this many times FT_CPU_GRAIN operations, 2.6 million, or 20 to 40 us, about what waking
     * it takes: of few rows the weights come from memory, which two threads read faster (a text of 12
     * tokens: 5.6 ms; 7.6 with 12.6 million). */
    THREAD_FLOPS = 40
};

struct gemm {
    struct ft_kernel head;
    struct ft_attrs attrs;
    int64_t rows, panels, width;
    struct ft_cpu_pack_shape b;
    bool bias;
    int threads;
    struct ft_cpu_pack *pack;
};

struct gemm_job {
    const struct gemm *k;
    const struct ft_cpu *cpu;
    const float *a, *b, *bias, *residual;
    const void *packed; /* NULL: b is packed part by part */
    float *y, *scratch;
    bool by_panel;
};

/* Of the depth. */
struct part {
    int64_t from, length;
    bool first, last;
};

/* Panels first .. first + count - 1 of one part, the first of them at b, `apart` floats between them. */
struct panels {
    int64_t first, count, apart;
    const float *b;
};

static struct part part_of(const struct gemm *k, int64_t index)
{
    int64_t cuts = ft_parts_of(k->b.depth, DEPTH);
    struct part p = {.from = k->b.depth * index / cuts, .first = index == 0, .last = index == cuts - 1};
    p.length = k->b.depth * (index + 1) / cuts - p.from;
    return p;
}

/* ---- a block of rows */

/* Of a transposed a: (tiles, length, TILE), zeros past the last row. */
static void pack_tiles(const struct gemm_job *job, const struct part *part, int64_t row, int64_t rows,
                       float *to)
{
    const float *a = job->a + part->from * job->k->rows + row;
    for (int64_t k = 0; k < part->length; k++) {
        const float *from = a + k * job->k->rows;
        for (int64_t i = 0; i < rows; i += TILE) {
            float *at = to + i * part->length + k * TILE;
            __builtin_prefetch(from + i + AHEAD * job->k->rows);
            if (rows - i >= TILE) {
                memcpy(at, from + i, TILE * sizeof *at);
                continue;
            }
            memset(at, 0, TILE * sizeof *at);
            memcpy(at, from + i, (size_t)(rows - i) * sizeof *at);
        }
    }
}

/* rows of a block; tiles: where a's are, of a transposed one. */
static void run_rows(const struct gemm_job *job, const struct part *part, const struct panels *panels,
                     int64_t row, int64_t rows, const float *tiles)
{
    const struct gemm *k = job->k;
    int64_t step = tiles != NULL ? TILE : rows;
    int64_t cols = k->b.cols;
    struct ft_vec_product t = {.a_row = tiles != NULL ? 1 : k->b.depth,
                               .a_step = tiles != NULL ? TILE : 1,
                               .b_row = k->width,
                               .c_row = cols,
                               .panels = 1,
                               .depth = part->length,
                               .alpha = k->attrs.alpha};
    for (int64_t j = 0; j < panels->count; j++) {
        int64_t col = (panels->first + j) * k->width;
        t.b = panels->b + j * panels->apart;
        t.bias = part->first && job->bias != NULL ? job->bias + col : NULL;
        for (int64_t r = 0; r < rows; r += step) {
            int64_t at = (row + r) * cols + col;
            t.rows = ft_smaller(step, rows - r);
            t.a = tiles != NULL ? tiles + r * part->length : job->a + (row + r) * k->b.depth + part->from;
            t.c = job->y + at;
            t.more = !part->first ? t.c : job->residual != NULL ? job->residual + at : NULL;
            job->cpu->vec->product(&t);
        }
    }
}

void ft_cpu_act(const struct ft_vec *vec, const struct ft_attrs *e, float *y, size_t n)
{
    switch (e->act) {
    case FT_ACT_RELU:
        vec->unary(FT_OP_RELU, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_LEAKY_RELU:
        vec->unary(FT_OP_LEAKY_RELU, y, y, n, e->act_a, 0.0F);
        break;
    case FT_ACT_CLIP:
        vec->unary(FT_OP_CLIP, y, y, n, e->act_a, e->act_b);
        break;
    case FT_ACT_SIGMOID:
        vec->unary(FT_OP_SIGMOID, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_TANH:
        vec->unary(FT_OP_TANH, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_GELU:
        vec->map(FT_MAP_GELU, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_GELU_TANH:
        vec->map(FT_MAP_GELU_TANH, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_SILU:
        vec->map(FT_MAP_SILU, y, y, n, e->act_a, 0.0F);
        break;
    case FT_ACT_HARD_SWISH:
        vec->map(FT_MAP_HARD_SWISH, y, y, n, 0.0F, 0.0F);
        break;
    case FT_ACT_NONE:
    case FT_ACT_COUNT:
        break;
    }
}

static void act_rows(const struct gemm_job *job, const struct panels *panels, int64_t row, int64_t rows)
{
    const struct gemm *k = job->k;
    for (int64_t r = row; k->attrs.act != FT_ACT_NONE && r < row + rows; r++) {
        ft_cpu_act(job->cpu->vec, &k->attrs, job->y + r * k->b.cols + panels->first * k->width,
                   (size_t)(panels->count * k->width));
    }
}

/* ---- a thread's share */

static int64_t longest_part(const struct gemm *k)
{
    return ft_parts_of(k->b.depth, ft_parts_of(k->b.depth, DEPTH));
}

/* Where b is no parameter: for tiles of a transposed a, then for panels; floats of one thread. */
static int64_t tiles_room(const struct gemm *k)
{
    int64_t rows = ft_parts_of(k->rows, TILE) * TILE;
    return k->attrs.trans_a != 0 ? ft_smaller(TILED, rows) * longest_part(k) : 0;
}

static int64_t room_of(const struct gemm *k)
{
    return tiles_room(k) + ft_smaller(PANELS, k->panels) * k->width * longest_part(k);
}

/* What a thread computes. */
struct share {
    int64_t row, row_end, panel, panel_end;
};

static struct share share_of(const struct gemm_job *job, int64_t begin, int64_t end)
{
    const struct gemm *k = job->k;
    return job->by_panel
               ? (struct share){.row_end = k->rows, .panel = begin, .panel_end = end}
               : (struct share){begin * TILE, ft_smaller(end * TILE, k->rows), .panel_end = k->panels};
}

/* Of tiles of rows, or of panels. */
static void run_packed(void *context, int thread, int64_t begin, int64_t end)
{
    const struct gemm_job *job = context;
    const struct gemm *k = job->k;
    struct share share = share_of(job, begin, end);
    struct panels panels = {
        .first = share.panel, .count = share.panel_end - share.panel, .apart = k->b.depth * k->width};
    (void)thread;
    for (int64_t row = share.row; row < share.row_end; row += ROWS) {
        int64_t rows = ft_smaller(ROWS, share.row_end - row);
        struct part part = {0};
        for (int64_t i = 0; !part.last; i++) {
            part = part_of(k, i);
            panels.b = (const float *)job->packed + panels.first * panels.apart + part.from * k->width;
            run_rows(job, &part, &panels, row, rows, NULL);
        }
        act_rows(job, &panels, row, rows);
    }
}

/* One part of the depth; room: as room_of(). */
static void run_part(const struct gemm_job *job, const struct part *part, const struct share *share,
                     float *room)
{
    const struct gemm *k = job->k;
    bool tiles = k->attrs.trans_a != 0;
    float *packed = room + tiles_room(k);
    struct panels panels = {.b = packed, .apart = part->length * k->width};
    for (int64_t row = share->row; tiles && row < share->row_end; row += ROWS) {
        pack_tiles(job, part, row, ft_smaller(ROWS, share->row_end - row),
                   room + (row - share->row) * part->length);
    }
    for (int64_t first = share->panel; first < share->panel_end; first += PANELS) {
        panels.first = first;
        panels.count = ft_smaller(PANELS, share->panel_end - first);
        const struct ft_cpu_pack_part these = {part->from, part->length, first, panels.count};
        ft_cpu_pack_part(job->cpu, &k->b, job->b, &these, packed);
        for (int64_t row = share->row; row < share->row_end; row += ROWS) {
            run_rows(job, part, &panels, row, ft_smaller(ROWS, share->row_end - row),
                     tiles ? room + (row - share->row) * part->length : NULL);
        }
    }
}

/* Of tiles of rows, or of panels. */
static void run_unpacked(void *context, int thread, int64_t begin, int64_t end)
{
    const struct gemm_job *job = context;
    const struct gemm *k = job->k;
    struct share share = share_of(job, begin, end);
    struct share some = share;
    int64_t rows = k->attrs.trans_a != 0 ? TILED : k->rows;
    for (; some.row < share.row_end; some.row = some.row_end) {
        some.row_end = ft_smaller(some.row + rows, share.row_end);
        struct part part = {0};
        for (int64_t i = 0; !part.last; i++) {
            part = part_of(k, i);
            run_part(job, &part, &some, job->scratch + thread * room_of(k));
        }
    }
    const struct panels all = {.first = share.panel, .count = share.panel_end - share.panel};
    act_rows(job, &all, share.row, share.row_end - share.row);
}

static enum ft_status gemm_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    struct gemm *k = (struct gemm *)(void *)kernel;
    struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct gemm_job job = {
        .k = k, .cpu = cpu, .a = ft_in(in, 0), .b = ft_in(in, 1), .y = ft_out(out, 0), .scratch = scratch};
    job.bias = k->bias ? ft_in(in, 2) : NULL;
    job.residual = k->attrs.residual != 0 ? ft_in(in, k->bias ? 3 : 2) : NULL;
    int64_t tiles = ft_parts_of(k->rows, TILE);
    if (in[1].version == 0 || k->attrs.trans_a != 0) {
        ft_cpu_pack_drop(cpu, &k->pack);     /* reserved, in vain */
        job.by_panel = k->rows <= k->b.cols; /* each thread packs the smaller operand */
        ft_parallel_for(k->threads, job.by_panel ? k->panels : tiles, run_unpacked, &job);
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_cpu_pack_panels(cpu, &k->b, &in[1], &k->pack, &job.packed, err));
    job.by_panel = tiles < ROWS / TILE * k->threads;
    if (job.by_panel) {
        ft_parallel_for(k->threads, k->panels, run_packed, &job);
    } else {
        ft_parallel_chunks(k->threads, tiles, ROWS / TILE, run_packed, &job);
    }
    return FT_OK;
}

static void gemm_free(struct ft_kernel *kernel)
{
    struct gemm *k = (struct gemm *)(void *)kernel;
    ft_cpu_pack_drop(ft_cpu_of(kernel->device), &k->pack);
    ft_free(k);
}

/* ---- preparation */

/* Where one b serves all rows. */
static int64_t rows_of(const struct ft_call *call)
{
    return ft_elements(&call->out[0]) / ft_extent(&call->out[0], call->out[0].rank - 1);
}

static struct ft_cpu_pack_shape shape_of(const struct ft_call *call)
{
    const struct ft_type *b = &call->in[1];
    bool trans = call->attrs.trans_b != 0;
    return (struct ft_cpu_pack_shape){.depth = ft_extent(b, b->rank - (trans ? 1 : 2)),
                                      .cols = ft_extent(b, b->rank - (trans ? 2 : 1)),
                                      .trans = trans};
}

static bool all_floats(const struct ft_call *call)
{
    bool all = call->out[0].dtype == FT_F32;
    for (int i = 0; i < call->n_in; i++) {
        all = all && call->in[i].dtype == FT_F32;
    }
    return all;
}

static bool can(const struct ft_cpu *cpu, const struct ft_call *call)
{
    const struct ft_type *a = &call->in[0];
    const struct ft_type *b = &call->in[1];
    struct ft_cpu_pack_shape shape = shape_of(call);
    bool one_b = ft_cpu_product(b, 0, b->rank - 2) == 1;
    bool one_a = call->attrs.trans_a == 0 || ft_cpu_product(a, 0, a->rank - 2) == 1;
    return all_floats(call) && one_b && one_a && ft_elements(&call->out[0]) > 0 && shape.depth > 0 &&
           shape.cols % cpu->vec->product_cols == 0;
}

bool ft_cpu_is_gemm(const struct ft_cpu *cpu, const struct ft_call *call)
{
    if (cpu->direct != FT_CPU_DIRECT_RULE) {
        return cpu->direct != FT_CPU_DIRECT_NEVER && can(cpu, call);
    }
    return strcmp(cpu->vec->name, "avx2") == 0 && can(cpu, call) && rows_of(call) >= LEAST_ROWS;
}

enum ft_status ft_cpu_gemm(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                           size_t *scratch, struct ft_err *err)
{
    struct ft_cpu *cpu = ft_cpu_of(device);
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct gemm), gemm_run, kernel, err));
    struct gemm *k = (struct gemm *)(void *)*kernel;
    k->head.free = gemm_free;
    k->attrs = call->attrs;
    k->rows = rows_of(call);
    k->b = shape_of(call);
    k->width = cpu->vec->product_cols;
    k->panels = k->b.cols / k->width;
    k->bias = call->n_in - (call->attrs.residual != 0) == 3;
    k->threads = ft_cpu_threads(cpu, 2 * k->rows * k->b.depth * k->b.cols / THREAD_FLOPS);
    *scratch = (size_t)(k->threads * room_of(k)) * sizeof(float);
    if (call->attrs.trans_a != 0) { /* a gradient of a weight: b is no parameter */
        return FT_OK;
    }
    enum ft_status st = ft_cpu_pack_reserve(cpu, &k->b, &k->pack, err);
    if (st != FT_OK) {
        gemm_free(*kernel);
        *kernel = NULL;
    }
    return st;
}
