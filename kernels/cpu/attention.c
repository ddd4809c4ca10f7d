#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/sequence.h"

/*
 * Attention: one head of one sequence after the other, each on one thread, so that bits do not depend on how
 * many there are. Queries go in blocks: their scores against all keys, softmax, their mean of v; backward
 * makes the scores again. Scores of a block stay in the second-level cache.
 */

enum {
    BLOCK_ROWS = 48,          /* a multiple of the rows of a register tile */
    LEAST_ROWS = 6,           /* of a block, however many keys there are */
    BLOCK_SCORES = 16 * 1024, /* of one block */
    SHARES = 8                /* of a thread */
};

struct attention {
    struct ft_kernel head;
    struct ft_attrs attrs;
    struct ft_sequences s;
    int64_t channels, size;
    int64_t distances; /* 2D + 1; 0: no bias */
    struct ft_attention_extras more;
    int64_t cols;    /* of a panel */
    int64_t scratch; /* floats of one thread */
};

struct attention_job {
    const struct attention *k;
    const struct ft_vec *vec;
    struct ft_sequences s;
    int threads;
    int64_t shares; /* of the work, taken one after the other */
    const float *q, *key, *v, *bias;
    bool drops; /* weights, by the numbers of */
    struct ft_rand rand;
    const float *dy, *y, *lse; /* backward */
    float *out, *lse_out;      /* forward; dbias */
    float *grad[3];            /* dq, dk, dv */
    float *scratch;
};

/* Rows of `stride` floats; columns past the size of a head are zeros or belong to others. */
struct matrix {
    float *at;
    int64_t stride;
};

/* One head of the tokens of one sequence, from the first to the last that the mask lets through, and what
 * its thread works in. */
struct one {
    int64_t h, first, n;
    int64_t padded_n, padded_size; /* n and the size of a head, whole panels */
    int64_t block;                 /* rows */
    float *relative;               /* (2n - 1): what the score at key - query + n - 1 gets; NULL: nothing */
    float *mask;                   /* (n): 0 or -inf; NULL: all are tokens */
    float *scores, *slopes;        /* (block, padded_n) */
    float *keep;                   /* the same, what weights are multiplied by; NULL: 1 */
    float *room;                   /* what is left of the scratch */
};

static int64_t rounded(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int64_t block_of(int64_t padded_n)
{
    int64_t rows = BLOCK_SCORES / padded_n / LEAST_ROWS * LEAST_ROWS;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
}

/* ---- scratch */

/* Every piece begins at a cache line. */
static int64_t piece(int64_t n)
{
    return rounded(n, 16);
}

static float *take(struct one *o, int64_t n)
{
    float *at = o->room;
    o->room += piece(n);
    return at;
}

/* Enough for any sequence of up to n tokens: two panelled transposes, five copies, two or three blocks of
 * scores. */
static int64_t scratch_of(const struct attention *k, int64_t n)
{
    int64_t padded_n = rounded(n, k->cols);
    int64_t padded_size = rounded(k->size, k->cols);
    int64_t scores = padded_n * BLOCK_ROWS < BLOCK_SCORES ? padded_n * BLOCK_ROWS : BLOCK_SCORES;
    scores = scores < padded_n * LEAST_ROWS ? padded_n * LEAST_ROWS : scores;
    return 2 * piece(padded_n * k->size) + 5 * piece(n * padded_size) +
           (k->more.rng < 0 ? 2 : 3) * piece(scores) + piece(BLOCK_ROWS * padded_size) + 2 * piece(2 * n) +
           piece(n) + 16;
}

/* ---- what one head needs */

static float *row_of(const struct attention_job *job, const struct one *o, const float *x, int64_t i)
{
    return (float *)x + (o->first + i) * job->k->channels + o->h * job->k->size;
}

static float *relative_of(const struct attention_job *job, struct one *o)
{
    const struct attention *k = job->k;
    int64_t most = k->distances / 2;
    int64_t window = k->attrs.count;
    if (job->bias == NULL && (window == 0 || window >= o->n - 1)) {
        return NULL;
    }
    float *relative = take(o, 2 * o->n);
    for (int64_t i = 0; i < 2 * o->n - 1; i++) {
        int64_t d = i - (o->n - 1);
        int64_t near = d < -most ? -most : d > most ? most : d;
        float bias = job->bias == NULL ? 0.0F : job->bias[o->h * k->distances + near + most];
        relative[i] = window != 0 && (d > window || d < -window) ? -INFINITY : bias;
    }
    return relative;
}

static float *mask_of(const struct attention_job *job, struct one *o)
{
    bool holes = false;
    for (int64_t i = 0; i < o->n; i++) {
        holes = holes || !ft_sequence_has(&job->s, o->first + i);
    }
    float *mask = holes ? take(o, o->n) : NULL;
    for (int64_t i = 0; holes && i < o->n; i++) {
        mask[i] = ft_sequence_has(&job->s, o->first + i) ? 0.0F : -INFINITY;
    }
    return mask;
}

/* n is 0 without a token. */
static struct one one_of(const struct attention_job *job, int64_t sequence, int64_t h, int thread)
{
    int64_t first = ft_sequence_begin(&job->s, sequence);
    int64_t end = ft_sequence_end(&job->s, sequence);
    while (first < end && !ft_sequence_has(&job->s, first)) {
        first++;
    }
    while (first < end && !ft_sequence_has(&job->s, end - 1)) {
        end--;
    }
    struct one o = {.h = h, .first = first, .n = end - first};
    o.room = job->scratch + thread * job->k->scratch;
    o.padded_n = rounded(o.n, job->k->cols);
    o.padded_size = rounded(job->k->size, job->k->cols);
    if (o.n > 0) {
        o.block = block_of(o.padded_n);
        o.relative = relative_of(job, &o);
        o.mask = mask_of(job, &o);
        o.scores = take(&o, o.block * o.padded_n);
        o.keep = job->drops ? take(&o, o.block * o.padded_n) : NULL;
    }
    return o;
}

/* x as b of a product: as it lies where heads are whole panels, else a copy with zeros behind each row. */
static struct matrix rows_of(const struct attention_job *job, struct one *o, const float *x)
{
    size_t size = (size_t)job->k->size;
    struct matrix m = {.at = row_of(job, o, x, 0), .stride = job->k->channels};
    if (job->k->size == o->padded_size) {
        return m;
    }
    m.stride = o->padded_size;
    m.at = take(o, o->n * m.stride);
    for (int64_t i = 0; i < o->n; i++) {
        memcpy(m.at + i * m.stride, row_of(job, o, x, i), size * sizeof *x);
        memset(m.at + i * m.stride + size, 0, (size_t)(m.stride - job->k->size) * sizeof *x);
    }
    return m;
}

/* Where a product may write n rows of x: whole panels. */
static struct matrix results_of(const struct attention_job *job, struct one *o, float *x, int64_t first,
                                int64_t n)
{
    struct matrix m = {.at = row_of(job, o, x, first), .stride = job->k->channels};
    if (job->k->size != o->padded_size) {
        m.stride = o->padded_size;
        m.at = take(o, n * m.stride);
    }
    return m;
}

/* Rows of results to where they belong, times scale[i] unless it is NULL; 0 where there is no token. */
static void finish_rows(const struct attention_job *job, const struct one *o, const struct matrix *m,
                        float *x, int64_t first, int64_t n, const float *scale)
{
    size_t size = (size_t)job->k->size;
    for (int64_t i = 0; i < n; i++) {
        float *to = row_of(job, o, x, first + i);
        float *from = m->at + i * m->stride;
        if (o->mask != NULL && o->mask[first + i] != 0) {
            memset(to, 0, size * sizeof *to);
        } else if (scale != NULL) {
            job->vec->scale(from, to, size, scale[i]);
        } else if (to != from) {
            memcpy(to, from, size * sizeof *to);
        }
    }
}

/* Padding before the first token and behind the last one. */
static void zero_edges(const struct attention_job *job, const struct one *o, int64_t sequence, float *x,
                       int64_t width, int64_t at, int64_t count)
{
    for (int64_t r = ft_sequence_begin(&job->s, sequence); r < ft_sequence_end(&job->s, sequence); r++) {
        if (r < o->first || r >= o->first + o->n) {
            memset(x + r * width + at, 0, (size_t)count * sizeof *x);
        }
    }
}

/* ---- a block of queries */

/* Queries first .. first + rows - 1 and the keys that they may see, lo .. hi - 1; lo is the first of a panel.
 */
struct block {
    int64_t first, rows, lo, hi;
};

static struct block block_at(const struct attention_job *job, const struct one *o, int64_t first)
{
    int64_t window = job->k->attrs.count;
    struct block b = {.first = first, .rows = o->n - first < o->block ? o->n - first : o->block, .hi = o->n};
    if (window != 0 && window < o->n) {
        int64_t last = first + b.rows - 1;
        b.lo = first > window ? (first - window) / job->k->cols * job->k->cols : 0;
        b.hi = last + window + 1 < o->n ? last + window + 1 : o->n;
    }
    return b;
}

/* s = alpha x keys^T for the block; keys: transposed panels of all of them. */
static void block_scores(const struct attention_job *job, const struct one *o, const struct block *b,
                         const float *x, const float *keys, float alpha, float *s)
{
    int64_t panel = job->k->size * job->k->cols;
    const struct ft_vec_product p = {.a = row_of(job, o, x, b->first),
                                     .a_row = job->k->channels,
                                     .a_step = 1,
                                     .b = keys + b->lo / job->k->cols * panel,
                                     .b_row = job->k->cols,
                                     .b_panel = panel,
                                     .c = s,
                                     .c_row = o->padded_n,
                                     .rows = b->rows,
                                     .panels = (b->hi - b->lo + job->k->cols - 1) / job->k->cols,
                                     .depth = job->k->size,
                                     .alpha = alpha};
    job->vec->product(&p);
}

/* y (rows of the block) = s x. */
static void block_mix(const struct attention_job *job, const struct one *o, const struct block *b,
                      const float *s, const struct matrix *x, const struct matrix *y)
{
    const struct ft_vec_product p = {.a = s,
                                     .a_row = o->padded_n,
                                     .a_step = 1,
                                     .b = x->at + b->lo * x->stride,
                                     .b_row = x->stride,
                                     .b_panel = job->k->cols,
                                     .c = y->at,
                                     .c_row = y->stride,
                                     .rows = b->rows,
                                     .panels = o->padded_size / job->k->cols,
                                     .depth = b->hi - b->lo,
                                     .alpha = 1.0F};
    job->vec->product(&p);
}

/* y (rows of the keys) += s^T x. */
static void block_spread(const struct attention_job *job, const struct one *o, const struct block *b,
                         const float *s, const struct matrix *x, const struct matrix *y)
{
    const struct ft_vec_product p = {.a = s,
                                     .a_row = 1,
                                     .a_step = o->padded_n,
                                     .b = x->at + b->first * x->stride,
                                     .b_row = x->stride,
                                     .b_panel = job->k->cols,
                                     .c = y->at + b->lo * y->stride,
                                     .c_row = y->stride,
                                     .rows = b->hi - b->lo,
                                     .panels = o->padded_size / job->k->cols,
                                     .depth = b->rows,
                                     .alpha = 1.0F,
                                     .more = y->at + b->lo * y->stride};
    job->vec->product(&p);
}

static struct ft_vec_scores added_to(const struct one *o, const struct block *b, int64_t query)
{
    struct ft_vec_scores r = {.n = b->hi - b->lo,
                              .relative =
                                  o->relative == NULL ? NULL : o->relative + (o->n - 1 - query) + b->lo,
                              .mask = o->mask == NULL ? NULL : o->mask + b->lo};
    return r;
}

/* o->keep for the block: of all its rows at once where they see all keys, so that numbers of a short row are
 * not made in vain. */
static void draw(const struct attention_job *job, const struct one *o, const struct block *b)
{
    int64_t row = 0;
    uint64_t at = ft_attention_element(o->first, o->n, job->k->attrs.group, o->h, &row);
    float p = job->k->attrs.dropout;
    if (o->keep == NULL) {
        return;
    }
    at += (uint64_t)(b->first * row);
    if (b->lo == 0 && b->hi == o->n) {
        job->vec->dropout_mask(job->rand, at, p, o->keep, (size_t)(b->rows * row));
        return;
    }
    for (int64_t i = 0; i < b->rows; i++) {
        job->vec->dropout_mask(job->rand, at + (uint64_t)(i * row + b->lo), p, o->keep + i * row,
                               (size_t)(b->hi - b->lo));
    }
}

/* Row i of the block: x times what draw() found. */
static void drop(const struct attention_job *job, const struct one *o, const struct block *b, int64_t i,
                 float *x)
{
    if (o->keep != NULL) {
        const float *keep = o->keep + i * ((o->n + 3) / 4 * 4);
        job->vec->binary(FT_OP_MUL, FT_VEC_VV, x, keep, x, (size_t)(b->hi - b->lo));
    }
}

static float *transposed(const struct attention_job *job, struct one *o, const float *x)
{
    float *panels = take(o, o->padded_n * job->k->size);
    job->vec->transpose_panels(row_of(job, o, x, 0), job->k->channels, o->n, job->k->size, panels);
    return panels;
}

/* ---- forward */

static void forward_one(const struct attention_job *job, int64_t sequence, int64_t h, int thread)
{
    const struct attention *k = job->k;
    struct one o = one_of(job, sequence, h, thread);
    float weight[BLOCK_ROWS];
    zero_edges(job, &o, sequence, job->out, k->channels, h * k->size, k->size);
    zero_edges(job, &o, sequence, job->lse_out, k->attrs.group, h, 1);
    if (o.n == 0) {
        return;
    }
    float *keys = transposed(job, &o, job->key);
    struct matrix v = rows_of(job, &o, job->v);
    float *room = o.room;
    for (int64_t first = 0; first < o.n; first += o.block) {
        struct block b = block_at(job, &o, first);
        o.room = room;
        struct matrix y = results_of(job, &o, job->out, first, b.rows);
        block_scores(job, &o, &b, job->q, keys, k->attrs.alpha, o.scores);
        draw(job, &o, &b);
        for (int64_t i = 0; i < b.rows; i++) {
            double sum = 0;
            struct ft_vec_scores added = added_to(&o, &b, first + i);
            float most = job->vec->scores_softmax(&added, o.scores + i * o.padded_n, &sum);
            bool token = o.mask == NULL || o.mask[first + i] == 0;
            job->lse_out[(o.first + first + i) * k->attrs.group + h] = token ? most + (float)log(sum) : 0.0F;
            weight[i] = (float)(1.0 / sum);
            drop(job, &o, &b, i, o.scores + i * o.padded_n);
        }
        block_mix(job, &o, &b, o.scores, &v, &y);
        finish_rows(job, &o, &y, job->out, first, b.rows, weight);
    }
}

/* ---- backward */

/* Of a block: o->scores become the weights p, o->slopes alpha p (dy v^T - dy . y); 0 for what is no token.
 * With dropout dy v^T and then p are times what is kept. */
static void block_slopes(const struct attention_job *job, const struct one *o, const struct block *b,
                         const float *keys, const float *values, float alpha)
{
    const struct attention *k = job->k;
    block_scores(job, o, b, job->q, keys, k->attrs.alpha, o->scores);
    block_scores(job, o, b, job->dy, values, 1.0F, o->slopes);
    draw(job, o, b);
    for (int64_t i = 0; i < b->rows; i++) {
        int64_t query = b->first + i;
        float *p = o->scores + i * o->padded_n;
        float *ds = o->slopes + i * o->padded_n;
        if (o->mask != NULL && o->mask[query] != 0) {
            memset(p, 0, (size_t)(b->hi - b->lo) * sizeof *p);
            memset(ds, 0, (size_t)(b->hi - b->lo) * sizeof *ds);
            continue;
        }
        struct ft_vec_scores added = added_to(o, b, query);
        const float shift[2] = {job->lse[(o->first + query) * k->attrs.group + o->h],
                                (float)job->vec->dot(row_of(job, o, job->dy, query),
                                                     row_of(job, o, job->y, query), (size_t)k->size)};
        drop(job, o, b, i, ds);
        job->vec->scores_grad(&added, p, ds, shift, alpha);
        drop(job, o, b, i, p);
    }
}

static void zero_rows(struct matrix m, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) {
        memset(m.at + i * m.stride, 0, (size_t)columns * sizeof *m.at);
    }
}

static void backward_one(const struct attention_job *job, int64_t sequence, int64_t h, int thread)
{
    const struct attention *k = job->k;
    struct one o = one_of(job, sequence, h, thread);
    for (int i = 0; i < 3; i++) {
        zero_edges(job, &o, sequence, job->grad[i], k->channels, h * k->size, k->size);
    }
    if (o.n == 0) {
        return;
    }
    o.slopes = take(&o, o.block * o.padded_n);
    float *keys = transposed(job, &o, job->key);
    float *values = transposed(job, &o, job->v);
    struct matrix q = rows_of(job, &o, job->q);
    struct matrix key = rows_of(job, &o, job->key);
    struct matrix dy = rows_of(job, &o, job->dy);
    struct matrix dk = results_of(job, &o, job->grad[1], 0, o.n);
    struct matrix dv = results_of(job, &o, job->grad[2], 0, o.n);
    float *room = o.room;
    zero_rows(dk, o.n, o.padded_size);
    zero_rows(dv, o.n, o.padded_size);
    for (int64_t first = 0; first < o.n; first += o.block) {
        struct block b = block_at(job, &o, first);
        o.room = room;
        struct matrix dq = results_of(job, &o, job->grad[0], first, b.rows);
        block_slopes(job, &o, &b, keys, values, k->attrs.alpha);
        block_mix(job, &o, &b, o.slopes, &key, &dq);
        block_spread(job, &o, &b, o.slopes, &q, &dk);
        block_spread(job, &o, &b, o.scores, &dy, &dv);
        finish_rows(job, &o, &dq, job->grad[0], first, b.rows, NULL);
    }
    finish_rows(job, &o, &dk, job->grad[1], 0, o.n, NULL);
    finish_rows(job, &o, &dv, job->grad[2], 0, o.n, NULL);
}

/* ---- the gradient of the bias: sums along the diagonals, a sequence in float, all of them in double */

static void bias_one(const struct attention_job *job, int64_t sequence, int64_t h, int thread, double *dbias)
{
    const struct attention *k = job->k;
    int64_t most = k->distances / 2;
    struct one o = one_of(job, sequence, h, thread);
    if (o.n == 0) {
        return;
    }
    o.slopes = take(&o, o.block * o.padded_n);
    float *keys = transposed(job, &o, job->key);
    float *values = transposed(job, &o, job->v);
    float *sums = take(&o, 2 * o.n);
    memset(sums, 0, (size_t)(2 * o.n) * sizeof *sums);
    for (int64_t first = 0; first < o.n; first += o.block) {
        struct block b = block_at(job, &o, first);
        block_slopes(job, &o, &b, keys, values, 1.0F);
        for (int64_t i = 0; i < b.rows; i++) {
            job->vec->add_scaled(o.slopes + i * o.padded_n, sums + (o.n - 1 - (first + i)) + b.lo,
                                 (size_t)(b.hi - b.lo), 1.0F);
        }
    }
    for (int64_t i = 0; i < 2 * o.n - 1; i++) {
        int64_t d = i - (o.n - 1);
        dbias[(d < -most ? -most : d > most ? most : d) + most] += (double)sums[i];
    }
}

static void bias_heads(void *context, int thread, int64_t begin, int64_t end)
{
    const struct attention_job *job = context;
    int64_t distances = job->k->distances;
    double *all = (double *)(void *)(job->scratch + job->threads * job->k->scratch);
    for (int64_t h = begin; h < end; h++) {
        double *dbias = all + h * distances;
        memset(dbias, 0, (size_t)distances * sizeof *dbias);
        for (int64_t n = 0; n < job->s.count; n++) {
            bias_one(job, n, h, thread, dbias);
        }
        for (int64_t d = 0; d < distances; d++) {
            job->out[h * distances + d] = (float)dbias[d];
        }
    }
}

/* ---- sharing the work */

/* Of one head of sequence i, in products. */
static int64_t cost_of(const struct attention_job *job, int64_t i)
{
    int64_t n = ft_sequence_end(&job->s, i) - ft_sequence_begin(&job->s, i);
    int64_t seen = 2 * job->k->attrs.count + 1;
    seen = job->k->attrs.count == 0 || seen > n ? n : seen;
    return n * (seen + 8) * job->k->size;
}

static int64_t ceil_of(int64_t a, int64_t b)
{
    return a <= 0 ? 0 : (a + b - 1) / b;
}

/* Shares begin .. end - 1 of `job->shares`: the heads that begin within them, sequence by sequence. */
static void share_heads(void *context, int thread, int64_t begin, int64_t end)
{
    const struct attention_job *job = context;
    int64_t heads = job->k->attrs.group;
    int64_t total = 0;
    int64_t before = 0;
    for (int64_t i = 0; i < job->s.count; i++) {
        total += heads * cost_of(job, i);
    }
    int64_t from = total / job->shares * begin;
    int64_t to = end == job->shares ? total : total / job->shares * end;
    for (int64_t i = 0; i < job->s.count && before < to; i++) {
        int64_t cost = cost_of(job, i);
        int64_t last = ceil_of(to - before, cost);
        for (int64_t h = ceil_of(from - before, cost); h < heads && h < last; h++) {
            if (job->lse_out != NULL) {
                forward_one(job, i, h, thread);
            } else {
                backward_one(job, i, h, thread);
            }
        }
        before += heads * cost;
    }
}

static struct attention_job job_of(const struct attention *k, const struct ft_arg *in, int q, int seq)
{
    const struct ft_cpu *cpu = ft_cpu_of(k->head.device);
    struct attention_job job = {.k = k,
                                .vec = cpu->vec,
                                .s = k->s,
                                .q = ft_in(in, q),
                                .key = ft_in(in, q + 1),
                                .v = ft_in(in, q + 2),
                                .bias = k->more.bias < 0 ? NULL : ft_in(in, k->more.bias),
                                .drops = k->more.rng >= 0};
    job.s.at = in[seq].data;
    if (job.drops) {
        job.rand = ft_attention_rand(&k->attrs, in[k->more.rng].data);
    }
    return job;
}

/* As many threads as the work is worth. */
static void share(struct attention_job *job)
{
    const struct ft_cpu *cpu = ft_cpu_of(job->k->head.device);
    int64_t total = 0;
    for (int64_t i = 0; i < job->s.count; i++) {
        total += job->k->attrs.group * cost_of(job, i);
    }
    job->threads = ft_cpu_threads(cpu, total / FT_CPU_FLOPS + 1);
    job->shares = job->threads == 1 ? 1 : (int64_t)SHARES * job->threads;
    ft_parallel_chunks(job->threads, job->shares, 1, share_heads, job);
}

/* What belongs to no sequence, of rows of `width`. */
static void zero_filler(const struct ft_sequences *s, float *x, int64_t width)
{
    for (int64_t i = 0; !s->padded && i <= s->count; i++) {
        int64_t from = ft_sequence_filler(s, i);
        int64_t to = i < s->count ? ft_sequence_begin(s, i) : s->rows;
        memset(x + from * width, 0, (size_t)((to - from) * width) * sizeof *x);
    }
}

static enum ft_status forward_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    const struct attention *k = (const struct attention *)(const void *)kernel;
    struct attention_job job = job_of(k, in, 0, 3);
    job.out = ft_out(out, 0);
    job.lse_out = ft_out(out, 1);
    job.scratch = scratch;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    zero_filler(&job.s, job.out, k->channels);
    zero_filler(&job.s, job.lse_out, k->attrs.group);
    share(&job);
    return FT_OK;
}

static enum ft_status backward_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                   const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    const struct attention *k = (const struct attention *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct attention_job job = job_of(k, in, 1, 6);
    job.dy = ft_in(in, 0);
    job.y = ft_in(in, 4);
    job.lse = ft_in(in, 5);
    job.scratch = scratch;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    if (kernel->op == FT_OP_ATTENTION_BWD_BIAS) {
        job.threads = cpu->threads;
        job.out = ft_out(out, 0);
        ft_parallel_for(cpu->threads, k->attrs.group, bias_heads, &job);
        return FT_OK;
    }
    for (int i = 0; i < 3; i++) {
        job.grad[i] = ft_out(out, i);
        zero_filler(&job.s, job.grad[i], k->channels);
    }
    share(&job);
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    bool forward = call->op == FT_OP_ATTENTION; /* q, k, v, seq; else dy, q, k, v, y, lse, seq */
    int seq = forward ? 3 : 6;
    const struct ft_type *x = &call->in[forward ? 0 : 1];
    const struct ft_cpu *cpu = ft_cpu_of(device);
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct attention),
                                      forward ? forward_run : backward_run, kernel, err));
    struct attention *k = (struct attention *)(void *)*kernel;
    k->attrs = call->attrs;
    k->s = ft_sequences_of(x, 1, &call->in[seq]);
    k->channels = ft_extent(x, x->rank - 1);
    k->size = k->channels / k->attrs.group;
    k->more = ft_attention_extras_of(call->in, call->n_in, seq);
    k->distances = k->more.bias < 0 ? 0 : ft_extent(&call->in[k->more.bias], 1);
    k->cols = cpu->vec->product_cols;
    k->scratch = scratch_of(k, k->s.length);
    *scratch = (size_t)(k->scratch * cpu->threads) * sizeof(float);
    if (call->op == FT_OP_ATTENTION_BWD_BIAS) {
        *scratch += (size_t)(k->attrs.group * k->distances) * sizeof(double);
    }
    return FT_OK;
}

#define FT_ATTENTION_ROW(name)                                                                               \
    enum ft_status ft_cpu_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        return prepare(device, call, kernel, scratch, err);                                                  \
    }

FT_ATTENTION_ROW(attention)
FT_ATTENTION_ROW(attention_bwd)
FT_ATTENTION_ROW(attention_bwd_bias)
