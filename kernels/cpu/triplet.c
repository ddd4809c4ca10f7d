#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/cpu.h"

/*
 * The triplet family, one anchor an item. The anchor's negatives are gathered side by side, then each
 * positive runs over them in one vector loop; hits are counted in float (exact below 2^24) and become the
 * gradient. Memory: a few rows of N for each thread, one record for each anchor.
 */

enum { PAD = FT_VEC_TILE_COLS };

struct triplet {
    struct ft_kernel head;
    int64_t m, n, offset;
    enum ft_miner miner;
    enum ft_reducer reducer;
    float margin, miner_margin;
};

/* What one anchor comes to. */
struct record {
    double loss;
    int64_t candidates, mined, active;
    int64_t positives, negatives; /* PAIRS: pairs with a weight */
};

struct triplet_job {
    const struct triplet *k;
    const struct ft_vec *vec;
    const float *mine, *dist;
    const int32_t *la, *lb;
    float *pos, *neg; /* TRIPLET: pos = ddist, neg unused */
    struct record *records;
    char *scratch;
    float inverse;
};

/* One anchor's columns: those of its own class by number, all others side by side. */
struct anchor {
    int32_t *same, *positive;  /* columns of the class; those without the anchor itself */
    float *mine, *dist, *hits; /* of the negatives */
    int64_t sames, positives, negatives;
};

static int64_t padded(const struct triplet *k)
{
    return (k->n + 2 * PAD - 1) / PAD * PAD;
}

static size_t anchor_bytes(const struct triplet *k)
{
    return (size_t)padded(k) * (3 * sizeof(float) + 2 * sizeof(int32_t));
}

static size_t records_bytes(const struct triplet *k)
{
    return ((size_t)k->m * sizeof(struct record) + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

/* Run r of neighbouring negatives: columns *from .. *to - 1. There is one before each column of the class and
 * one after the last. */
static void run_of(const struct anchor *a, int64_t n, int64_t r, int64_t *from, int64_t *to)
{
    *from = r > 0 ? a->same[r - 1] + 1 : 0;
    *to = r < a->sames ? a->same[r] : n;
}

static void negatives_of(const struct anchor *a, const float *row, int64_t n, float *out)
{
    for (int64_t r = 0; r <= a->sames; r++) {
        int64_t from = 0;
        int64_t to = 0;
        run_of(a, n, r, &from, &to);
        memcpy(out, row + from, (size_t)(to - from) * sizeof *out);
        out += to - from;
    }
    memset(out, 0, PAD * sizeof *out);
}

static void scatter_hits(const struct triplet_job *job, const struct anchor *a, float sign, float *row)
{
    const float *hits = a->hits;
    for (int64_t r = 0; r <= a->sames; r++) {
        int64_t from = 0;
        int64_t to = 0;
        run_of(a, job->k->n, r, &from, &to);
        job->vec->scale(hits, row + from, (size_t)(to - from), sign);
        hits += to - from;
    }
}

static struct anchor gather(const struct triplet_job *job, int64_t i, int thread)
{
    const struct triplet *k = job->k;
    int64_t width = padded(k);
    struct anchor a = {.mine = (float *)(void *)(job->scratch + (size_t)thread * anchor_bytes(k))};
    a.dist = a.mine + width;
    a.hits = a.dist + width;
    a.positive = (int32_t *)(void *)(a.hits + width);
    a.same = a.positive + width;
    int32_t label = job->la[i];
    for (int64_t j = 0; j < k->n; j++) {
        if (job->lb[j] == label) {
            a.same[a.sames++] = (int32_t)j;
            a.positive[a.positives] = (int32_t)j;
            a.positives += j != i + k->offset;
        }
    }
    a.negatives = k->n - a.sames;
    negatives_of(&a, job->mine + i * k->n, k->n, a.mine);
    if (job->dist == job->mine) {
        a.dist = a.mine;
    } else {
        negatives_of(&a, job->dist + i * k->n, k->n, a.dist);
    }
    memset(a.hits, 0, (size_t)width * sizeof(float));
    return a;
}

/* ---- miners */

static bool is_single(enum ft_miner miner)
{
    return miner == FT_MINER_BATCH_HARD || miner == FT_MINER_FACENET_SEMIHARD;
}

/* Every other miner is an interval of d_an - d_ap. */
static void set_interval(const struct triplet *k, struct ft_vec_pair *pair)
{
    float bound = k->miner_margin;
    pair->low = -INFINITY;
    pair->high = bound;
    if (k->miner == FT_MINER_NONE) {
        pair->always = true;
    } else if (k->miner == FT_MINER_MARGIN_HARD) {
        pair->high = bound < 0 ? bound : 0;
    } else if (k->miner == FT_MINER_MARGIN_SEMIHARD) {
        pair->low = 0;
    } else if (k->miner == FT_MINER_MARGIN_EASY) {
        pair->low = bound;
        pair->high = INFINITY;
    }
}

static int64_t farthest_positive(const float *mine, const struct anchor *a)
{
    int64_t best = 0;
    for (int64_t p = 1; p < a->positives; p++) {
        best = mine[a->positive[p]] > mine[a->positive[best]] ? p : best;
    }
    return best;
}

static int64_t farthest_negative(const struct triplet_job *job, const struct anchor *a)
{
    float most = job->vec->max(a->mine, (size_t)a->negatives);
    int64_t at = 0;
    while (at < a->negatives - 1 && a->mine[at] != most) {
        at++;
    }
    return at;
}

/* Position among the negatives of the one that goes with a positive. */
static int64_t single_negative(const struct triplet_job *job, const struct anchor *a, float mine_positive)
{
    if (job->k->miner == FT_MINER_BATCH_HARD) {
        int64_t nearest = job->vec->min_above(a->mine, a->negatives, -INFINITY);
        return nearest >= 0 ? nearest : 0;
    }
    int64_t beyond = job->vec->min_above(a->mine, a->negatives, mine_positive);
    return beyond >= 0 ? beyond : farthest_negative(job, a);
}

/* Which positives take part, and for the miners of single negatives with whom: calls back for each. */
typedef void (*pair_body)(const struct triplet_job *job, const struct anchor *a, int64_t i, int32_t j,
                          int64_t single, struct record *r);

static void each_positive(const struct triplet_job *job, const struct anchor *a, int64_t i, pair_body body,
                          struct record *r)
{
    const struct triplet *k = job->k;
    const float *mine = job->mine + i * k->n;
    memset(r, 0, sizeof *r);
    r->candidates = a->positives * a->negatives;
    if (r->candidates == 0) {
        return;
    }
    if (!is_single(k->miner)) {
        for (int64_t p = 0; p < a->positives; p++) {
            body(job, a, i, a->positive[p], -1, r);
        }
        return;
    }
    int64_t first = 0;
    int64_t last = a->positives;
    if (k->miner == FT_MINER_BATCH_HARD) {
        first = farthest_positive(mine, a);
        last = first + 1;
    }
    for (int64_t p = first; p < last; p++) {
        int32_t j = a->positive[p];
        body(job, a, i, j, single_negative(job, a, mine[j]), r);
    }
}

/* ---- TRIPLET */

static void hinge_pair(const struct triplet_job *job, const struct anchor *a, int64_t i, int32_t j,
                       int64_t single, struct record *r)
{
    const struct triplet *k = job->k;
    struct ft_vec_pair pair = {
        .mine = job->mine[i * k->n + j], .dist = job->dist[i * k->n + j], .margin = k->margin};
    struct ft_vec_hinge sum = {0, 0, 0};
    if (single >= 0) {
        float loss = pair.dist - a->dist[single] + pair.margin;
        sum.mined = 1;
        if (!(loss <= 0)) { /* NaN counts: it must be seen */
            sum.active = 1;
            sum.loss = (double)loss;
            a->hits[single] += 1.0F;
        }
    } else {
        set_interval(k, &pair);
        job->vec->hinge(&pair, a->mine, a->dist, a->hits, a->negatives, &sum);
    }
    r->loss += sum.loss;
    r->mined += sum.mined;
    r->active += sum.active;
    job->pos[i * k->n + j] = (float)sum.active;
}

static void triplet_anchors(void *context, int thread, int64_t begin, int64_t end)
{
    const struct triplet_job *job = context;
    const struct triplet *k = job->k;
    for (int64_t i = begin; i < end; i++) {
        struct anchor a = gather(job, i, thread);
        float *ddist = job->pos + i * k->n;
        memset(ddist, 0, (size_t)k->n * sizeof *ddist);
        each_positive(job, &a, i, hinge_pair, &job->records[i]);
        if (job->records[i].active > 0) {
            scatter_hits(job, &a, -1.0F, ddist);
        }
    }
}

static void scale_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct triplet_job *job = context;
    (void)thread;
    job->vec->scale(job->pos + begin, job->pos + begin, (size_t)(end - begin), job->inverse);
}

static struct triplet_job job_of(const struct ft_kernel *kernel, void *scratch)
{
    const struct triplet *k = (const struct triplet *)(const void *)kernel;
    struct triplet_job job = {.k = k,
                              .vec = ft_cpu_of(kernel->device)->vec,
                              .records = scratch,
                              .scratch = (char *)scratch + records_bytes(k)};
    return job;
}

static struct record total_of(const struct triplet_job *job, int64_t *anchors)
{
    struct record all;
    memset(&all, 0, sizeof all);
    *anchors = 0;
    for (int64_t i = 0; i < job->k->m; i++) {
        const struct record *r = &job->records[i];
        all.loss += r->loss;
        all.candidates += r->candidates;
        all.mined += r->mined;
        all.active += r->active;
        all.positives += r->positives;
        all.negatives += r->negatives;
        *anchors += r->mined > 0;
    }
    return all;
}

static enum ft_status triplet_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    (void)err;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct triplet_job job = job_of(kernel, scratch);
    const struct triplet *k = job.k;
    job.mine = ft_in(in, 0);
    job.dist = ft_in(in, 1);
    job.la = (const int32_t *)in[2].data;
    job.lb = (const int32_t *)in[3].data;
    job.pos = ft_out(out, 1);
    ft_cpu_items(cpu, k->m, k->n * 8, triplet_anchors, &job);
    int64_t *stats = (int64_t *)out[2].data;
    struct record all = total_of(&job, &stats[3]);
    int64_t divisor = k->reducer == FT_REDUCE_MEAN ? all.mined : all.active;
    double inverse = divisor > 0 ? 1.0 / (double)divisor : 0.0;
    ft_out(out, 0)[0] = (float)(all.loss * inverse);
    stats[0] = all.candidates;
    stats[1] = all.mined;
    stats[2] = all.active;
    job.inverse = (float)inverse;
    ft_cpu_flat(cpu, k->m * k->n, scale_range, &job);
    return FT_OK;
}

/* ---- PAIRS */

static void mark_pair(const struct triplet_job *job, const struct anchor *a, int64_t i, int32_t j,
                      int64_t single, struct record *r)
{
    const struct triplet *k = job->k;
    int64_t mined = 1;
    if (single >= 0) {
        a->hits[single] += 1.0F;
    } else {
        struct ft_vec_pair pair = {.mine = job->mine[i * k->n + j]};
        set_interval(k, &pair);
        mined = job->vec->mark(&pair, a->mine, a->hits, a->negatives);
    }
    r->mined += mined;
    job->pos[i * k->n + j] = (float)mined;
    r->positives += mined > 0;
}

/* Without a miner a pair counts once, also one without a partner. */
static void all_pairs(const struct triplet_job *job, const struct anchor *a, int64_t i, struct record *r)
{
    float *pos = job->pos + i * job->k->n;
    float *neg = job->neg + i * job->k->n;
    memset(r, 0, sizeof *r);
    for (int64_t p = 0; p < a->positives; p++) {
        pos[a->positive[p]] = 1.0F;
    }
    for (int64_t t = 0; t < a->negatives; t++) {
        a->hits[t] = 1.0F;
    }
    scatter_hits(job, a, 1.0F, neg);
    r->candidates = a->positives * a->negatives;
    r->mined = r->candidates;
    r->positives = a->positives;
    r->negatives = a->negatives;
}

static void pairs_anchors(void *context, int thread, int64_t begin, int64_t end)
{
    const struct triplet_job *job = context;
    const struct triplet *k = job->k;
    for (int64_t i = begin; i < end; i++) {
        struct anchor a = gather(job, i, thread);
        struct record *r = &job->records[i];
        float *neg = job->neg + i * k->n;
        memset(job->pos + i * k->n, 0, (size_t)k->n * sizeof(float));
        memset(neg, 0, (size_t)k->n * sizeof(float));
        if (k->miner == FT_MINER_NONE) {
            all_pairs(job, &a, i, r);
            continue;
        }
        each_positive(job, &a, i, mark_pair, r);
        scatter_hits(job, &a, 1.0F, neg);
        for (int64_t t = 0; t < a.negatives; t++) {
            r->negatives += a.hits[t] > 0;
        }
    }
}

static enum ft_status pairs_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)err;
    struct triplet_job job = job_of(kernel, scratch);
    job.mine = ft_in(in, 0);
    job.dist = job.mine;
    job.la = (const int32_t *)in[1].data;
    job.lb = (const int32_t *)in[2].data;
    job.pos = ft_out(out, 0);
    job.neg = ft_out(out, 1);
    ft_cpu_items(ft_cpu_of(kernel->device), job.k->m, job.k->n * 8, pairs_anchors, &job);
    int64_t *stats = (int64_t *)out[2].data;
    int64_t anchors = 0;
    struct record all = total_of(&job, &anchors);
    stats[0] = all.candidates;
    stats[1] = all.mined;
    stats[2] = all.positives;
    stats[3] = all.negatives;
    return FT_OK;
}

/* ---- preparation */

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, ft_cpu_run run,
                              struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct triplet), run, kernel, err));
    struct triplet *k = (struct triplet *)(void *)*kernel;
    k->m = ft_extent(&call->in[0], 0);
    k->n = ft_extent(&call->in[0], 1);
    k->offset = call->attrs.offset;
    k->miner = call->attrs.miner;
    k->reducer = call->attrs.reducer;
    k->margin = call->attrs.margin;
    k->miner_margin = call->attrs.miner_margin;
    *scratch = records_bytes(k) + (size_t)ft_cpu_of(device)->threads * anchor_bytes(k);
    return FT_OK;
}

enum ft_status ft_cpu_triplet(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    return prepare(device, call, triplet_run, kernel, scratch, err);
}

enum ft_status ft_cpu_pairs(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                            size_t *scratch, struct ft_err *err)
{
    return prepare(device, call, pairs_run, kernel, scratch, err);
}
