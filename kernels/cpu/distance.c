#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* ---- l2_normalize: one row an item */

struct norm {
    struct ft_kernel head;
    int64_t rows, depth;
    float eps;
};

struct norm_job {
    const struct norm *k;
    const struct ft_vec *vec;
    const float *x, *y_in, *norm_in; /* x is dy when going back */
    float *y, *norm;
};

static void normalize_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct norm_job *job = context;
    size_t depth = (size_t)job->k->depth;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * job->k->depth;
        double length = sqrt(job->vec->dot(x, x, depth));
        double divisor = length > (double)job->k->eps ? length : (double)job->k->eps;
        job->norm[r] = (float)length;
        job->vec->scale(x, job->y + r * job->k->depth, depth, (float)(1.0 / divisor));
    }
}

/* dx = (dy - y (dy . y)) / norm */
static void normalize_bwd_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct norm_job *job = context;
    size_t depth = (size_t)job->k->depth;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *dy = job->x + r * job->k->depth;
        const float *y = job->y_in + r * job->k->depth;
        float *dx = job->y + r * job->k->depth;
        if (job->norm_in[r] < job->k->eps) {
            job->vec->scale(dy, dx, depth, 1.0F / job->k->eps);
            continue;
        }
        double dot = job->vec->dot(dy, y, depth);
        double inverse = 1.0 / (double)job->norm_in[r];
        job->vec->scale(dy, dx, depth, (float)inverse);
        job->vec->add_scaled(y, dx, depth, (float)(-dot * inverse));
    }
}

static enum ft_status normalize_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct norm *k = (const struct norm *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct norm_job job = {
        .k = k, .vec = cpu->vec, .x = ft_in(in, 0), .y = ft_out(out, 0), .norm = ft_out(out, 1)};
    ft_cpu_items(cpu, k->rows, k->depth, normalize_rows, &job);
    return FT_OK;
}

static enum ft_status normalize_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                        const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct norm *k = (const struct norm *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct norm_job job = {.k = k,
                           .vec = cpu->vec,
                           .x = ft_in(in, 0),
                           .y_in = ft_in(in, 1),
                           .norm_in = ft_in(in, 2),
                           .y = ft_out(out, 0)};
    ft_cpu_items(cpu, k->rows, k->depth, normalize_bwd_rows, &job);
    return FT_OK;
}

static enum ft_status prepare_norm(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                   struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct norm), run, kernel, err));
    struct norm *k = (struct norm *)(void *)*kernel;
    const struct ft_type *x = &call->in[0];
    k->depth = ft_extent(x, x->rank - 1);
    k->rows = ft_elements(x) / k->depth;
    k->eps = call->attrs.eps;
    return FT_OK;
}

enum ft_status ft_cpu_l2_normalize(struct ft_device *device, const struct ft_call *call,
                                   struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare_norm(device, call, normalize_run, kernel, err);
}

enum ft_status ft_cpu_l2_normalize_bwd(struct ft_device *device, const struct ft_call *call,
                                       struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare_norm(device, call, normalize_bwd_run, kernel, err);
}

/* ---- pdist: b is packed into panels of 16 rows side by side, so a register holds one component of 16 of
 * them */

struct pdist {
    struct ft_kernel head;
    int64_t m, n, depth;
    int kind;
};

struct pdist_job {
    const struct pdist *k;
    const struct ft_vec *vec;
    const float *a, *b;
    float *d;
    float *panels; /* (n / 16, depth, 16) */
};

static int64_t panels_of(const struct pdist *k)
{
    return (k->n + FT_VEC_TILE_COLS - 1) / FT_VEC_TILE_COLS;
}

static void pack_panels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pdist_job *job = context;
    const struct pdist *k = job->k;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        float *panel = job->panels + p * k->depth * FT_VEC_TILE_COLS;
        for (int64_t c = 0; c < FT_VEC_TILE_COLS; c++) {
            int64_t row = p * FT_VEC_TILE_COLS + c;
            row = row < k->n ? row : k->n - 1; /* columns past the end are computed and dropped */
            for (int64_t i = 0; i < k->depth; i++) {
                panel[i * FT_VEC_TILE_COLS + c] = job->b[row * k->depth + i];
            }
        }
    }
}

static void put_tile(const struct pdist_job *job, const float *tile, int64_t row, int64_t col)
{
    const struct pdist *k = job->k;
    int64_t rows = k->m - row < FT_VEC_TILE_ROWS ? k->m - row : FT_VEC_TILE_ROWS;
    int64_t cols = k->n - col < FT_VEC_TILE_COLS ? k->n - col : FT_VEC_TILE_COLS;
    for (int64_t r = 0; r < rows; r++) {
        float *to = job->d + (row + r) * k->n + col;
        const float *from = tile + r * FT_VEC_TILE_COLS;
        if (k->kind == FT_DIST_EUCLIDEAN) {
            job->vec->unary(FT_OP_SQRT, from, to, (size_t)cols, 0, 0);
        } else {
            memcpy(to, from, (size_t)cols * sizeof *to);
        }
    }
}

/* Items are groups of four rows; a panel stays in L1 while all of a thread's rows pass. */
static void pdist_groups(void *context, int thread, int64_t begin, int64_t end)
{
    const struct pdist_job *job = context;
    const struct pdist *k = job->k;
    (void)thread;
    for (int64_t p = 0; p < panels_of(k); p++) {
        const float *panel = job->panels + p * k->depth * FT_VEC_TILE_COLS;
        for (int64_t g = begin; g < end; g++) {
            const float *rows[FT_VEC_TILE_ROWS];
            for (int64_t r = 0; r < FT_VEC_TILE_ROWS; r++) {
                int64_t row = g * FT_VEC_TILE_ROWS + r;
                rows[r] = job->a + (row < k->m ? row : k->m - 1) * k->depth;
            }
            float tile[FT_VEC_TILE_ROWS * FT_VEC_TILE_COLS];
            job->vec->pdist(rows, panel, k->depth, tile);
            put_tile(job, tile, g * FT_VEC_TILE_ROWS, p * FT_VEC_TILE_COLS);
        }
    }
}

static enum ft_status pdist_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct pdist *k = (const struct pdist *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct pdist_job job = {.k = k,
                            .vec = cpu->vec,
                            .a = ft_in(in, 0),
                            .b = ft_in(in, 1),
                            .d = ft_out(out, 0),
                            .panels = scratch};
    ft_cpu_items(cpu, panels_of(k), k->depth * FT_VEC_TILE_COLS, pack_panels, &job);
    int64_t groups = (k->m + FT_VEC_TILE_ROWS - 1) / FT_VEC_TILE_ROWS;
    ft_cpu_items(cpu, groups, FT_VEC_TILE_ROWS * k->n * k->depth / 8, pdist_groups, &job);
    return FT_OK;
}

static enum ft_status prepare_pdist(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                                    int a, struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct pdist), run, kernel, err));
    struct pdist *k = (struct pdist *)(void *)*kernel;
    k->m = ft_extent(&call->in[a], 0);
    k->depth = ft_extent(&call->in[a], 1);
    k->n = ft_extent(&call->in[a + 1], 0);
    k->kind = call->attrs.kind;
    return FT_OK;
}

enum ft_status ft_cpu_pdist(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                            size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(prepare_pdist(device, call, pdist_run, 0, kernel, err));
    const struct pdist *k = (const struct pdist *)(const void *)*kernel;
    *scratch = (size_t)(panels_of(k) * k->depth * FT_VEC_TILE_COLS) * sizeof(float);
    return FT_OK;
}

/* ---- pdist_bwd: da_i = sum_j w_ij (a_i - b_j), db_j = sum_i w_ij (b_j - a_i); zero weights are passed over,
 * and after mining many are. The other side comes in blocks that stay in L1 while a thread's rows pass. */

enum { BLOCK = 32 };

struct bwd_job {
    const struct pdist *k;
    const struct ft_vec *vec;
    const float *dd, *d, *a, *b;
    float *da, *db;
};

/* d loss / d |a_i - b_j|^2, times 2; the subgradient at 0 is 0, as torch.cdist has it. */
static void slopes(const struct bwd_job *job, int64_t at, int64_t n, float *w)
{
    if (job->k->kind == FT_DIST_SQEUCLIDEAN) {
        job->vec->scale(job->dd + at, w, (size_t)n, 2.0F);
    } else {
        job->vec->quotient(job->dd + at, job->d + at, w, (size_t)n);
    }
}

/* The weights of one row against one block, without the zeros. */
struct list {
    struct ft_vec_weights weights;
    int32_t index[BLOCK];
    float weight[BLOCK];
};

static void compact(const float *from, int64_t n, struct list *list)
{
    int64_t count = 0;
    for (int64_t j = 0; j < n; j++) {
        float v = from[j];
        list->weight[count] = v;
        list->index[count] = (int32_t)j;
        count += v != 0.0F;
    }
    list->weights.count = count;
    list->weights.index = list->index;
    list->weights.weight = list->weight;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void bwd_a_rows(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bwd_job *job = context;
    const struct pdist *k = job->k;
    (void)thread;
    memset(job->da + begin * k->depth, 0, (size_t)((end - begin) * k->depth) * sizeof *job->da);
    for (int64_t first = 0; first < k->n; first += BLOCK) {
        int64_t n = least(BLOCK, k->n - first);
        for (int64_t i = begin; i < end; i++) {
            float line[BLOCK];
            struct list list;
            slopes(job, i * k->n + first, n, line);
            compact(line, n, &list);
            job->vec->weighted_difference(job->a + i * k->depth, job->b + first * k->depth, &list.weights,
                                          k->depth, job->da + i * k->depth);
        }
    }
}

/* Sixteen rows of b against BLOCK of a: weights are read in lines and turned. */
static void bwd_b_tile(const struct bwd_job *job, int64_t col, int64_t cols, int64_t first, int64_t n)
{
    const struct pdist *k = job->k;
    float turned[FT_VEC_TILE_COLS][BLOCK];
    for (int64_t i = 0; i < n; i++) {
        float line[FT_VEC_TILE_COLS];
        slopes(job, (first + i) * k->n + col, cols, line);
        for (int64_t c = 0; c < cols; c++) {
            turned[c][i] = line[c];
        }
    }
    for (int64_t c = 0; c < cols; c++) {
        struct list list;
        int64_t row = (col + c) * k->depth;
        compact(turned[c], n, &list);
        job->vec->weighted_difference(job->b + row, job->a + first * k->depth, &list.weights, k->depth,
                                      job->db + row);
    }
}

static void bwd_b_panels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct bwd_job *job = context;
    const struct pdist *k = job->k;
    (void)thread;
    int64_t from = begin * FT_VEC_TILE_COLS;
    int64_t to = least(end * FT_VEC_TILE_COLS, k->n);
    memset(job->db + from * k->depth, 0, (size_t)((to - from) * k->depth) * sizeof *job->db);
    for (int64_t first = 0; first < k->m; first += BLOCK) {
        for (int64_t col = from; col < to; col += FT_VEC_TILE_COLS) {
            bwd_b_tile(job, col, least(FT_VEC_TILE_COLS, to - col), first, least(BLOCK, k->m - first));
        }
    }
}

static enum ft_status pdist_bwd_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct pdist *k = (const struct pdist *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct bwd_job job = {.k = k,
                          .vec = cpu->vec,
                          .dd = ft_in(in, 0),
                          .d = ft_in(in, 1),
                          .a = ft_in(in, 2),
                          .b = ft_in(in, 3),
                          .da = ft_out(out, 0),
                          .db = ft_out(out, 1)};
    ft_cpu_items(cpu, k->m, k->n * k->depth / 8, bwd_a_rows, &job);
    ft_cpu_items(cpu, panels_of(k), FT_VEC_TILE_COLS * k->m * k->depth / 8, bwd_b_panels, &job);
    return FT_OK;
}

enum ft_status ft_cpu_pdist_bwd(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare_pdist(device, call, pdist_bwd_run, 2, kernel, err);
}
