#include "kernels/ref/ref.h"

#include <math.h>

/* Mining is one walk over all candidate triplets, by definition and not by cleverness: O(M N N). */

struct batch {
    const double *mine; /* (m, n) */
    const int32_t *la;  /* (m) */
    const int32_t *lb;  /* (n) */
    int64_t m, n, offset;
    enum ft_miner miner;
    double margin;
};

static bool is_positive(const struct batch *b, int64_t i, int64_t j)
{
    return b->la[i] == b->lb[j] && j != i + b->offset;
}

static bool is_negative(const struct batch *b, int64_t i, int64_t k)
{
    return b->la[i] != b->lb[k];
}

/* Column of the farthest positive, of the farthest or of the nearest negative farther than `beyond`; -1 if
 * there is none. The first one wins. */
static int64_t farthest_positive(const struct batch *b, int64_t i)
{
    int64_t best = -1;
    for (int64_t j = 0; j < b->n; j++) {
        if (is_positive(b, i, j) && (best < 0 || b->mine[i * b->n + j] > b->mine[i * b->n + best])) {
            best = j;
        }
    }
    return best;
}

static int64_t farthest_negative(const struct batch *b, int64_t i)
{
    int64_t best = -1;
    for (int64_t k = 0; k < b->n; k++) {
        if (is_negative(b, i, k) && (best < 0 || b->mine[i * b->n + k] > b->mine[i * b->n + best])) {
            best = k;
        }
    }
    return best;
}

static int64_t nearest_negative(const struct batch *b, int64_t i, double beyond)
{
    int64_t best = -1;
    for (int64_t k = 0; k < b->n; k++) {
        double d = b->mine[i * b->n + k];
        if (is_negative(b, i, k) && d > beyond && (best < 0 || d < b->mine[i * b->n + best])) {
            best = k;
        }
    }
    return best;
}

/* The one negative that a miner of single negatives takes for (i, j); -1: none. */
static int64_t single_negative(const struct batch *b, int64_t i, int64_t j)
{
    if (b->miner == FT_MINER_BATCH_HARD) {
        return j == farthest_positive(b, i) ? nearest_negative(b, i, -INFINITY) : -1;
    }
    if (b->miner == FT_MINER_FACENET_SEMIHARD) {
        int64_t k = nearest_negative(b, i, b->mine[i * b->n + j]);
        return k >= 0 ? k : farthest_negative(b, i);
    }
    return -1;
}

static bool is_mined(const struct batch *b, int64_t i, int64_t j, int64_t k, int64_t single)
{
    double gap = b->mine[i * b->n + k] - b->mine[i * b->n + j];
    switch (b->miner) {
    case FT_MINER_NONE:
        return true;
    case FT_MINER_MARGIN_ALL:
        return gap <= b->margin;
    case FT_MINER_MARGIN_HARD:
        return gap <= b->margin && gap <= 0.0;
    case FT_MINER_MARGIN_SEMIHARD:
        return gap <= b->margin && gap > 0.0;
    case FT_MINER_MARGIN_EASY:
        return gap > b->margin;
    case FT_MINER_BATCH_HARD:
    case FT_MINER_FACENET_SEMIHARD:
        return k == single;
    }
    return false;
}

typedef void (*visitor)(void *context, int64_t i, int64_t j, int64_t k);

struct counts {
    int64_t candidates, mined, anchors;
};

static struct counts walk(const struct batch *b, visitor visit, void *context)
{
    struct counts c = {0, 0, 0};
    for (int64_t i = 0; i < b->m; i++) {
        int64_t before = c.mined;
        for (int64_t j = 0; j < b->n; j++) {
            if (!is_positive(b, i, j)) {
                continue;
            }
            int64_t single = single_negative(b, i, j);
            for (int64_t k = 0; k < b->n; k++) {
                bool candidate = is_negative(b, i, k);
                bool mined = candidate && is_mined(b, i, j, k, single);
                c.candidates += candidate;
                c.mined += mined;
                if (mined) {
                    visit(context, i, j, k);
                }
            }
        }
        c.anchors += c.mined > before;
    }
    return c;
}

static struct batch batch_of(const struct ft_ref_kernel *k, const void *mine, const void *la, const void *lb)
{
    struct batch b = {.mine = mine,
                      .la = la,
                      .lb = lb,
                      .m = ft_extent(&k->in[0], 0),
                      .n = ft_extent(&k->in[0], 1),
                      .offset = k->attrs.offset,
                      .miner = k->attrs.miner,
                      .margin = (double)k->attrs.miner_margin};
    return b;
}

/* ---- TRIPLET */

struct hinge {
    const double *dist;
    double *ddist; /* how often each distance is in an active triplet, with its sign */
    int64_t n, active;
    double margin, sum;
};

static void add_hinge(void *context, int64_t i, int64_t j, int64_t k)
{
    struct hinge *h = context;
    double loss = h->dist[i * h->n + j] - h->dist[i * h->n + k] + h->margin;
    if (!(loss <= 0.0)) { /* a NaN counts: it must be seen */
        h->sum += loss;
        h->active++;
        h->ddist[i * h->n + j] += 1.0;
        h->ddist[i * h->n + k] -= 1.0;
    }
}

static void run_triplet(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct batch b = batch_of(k, in[0].data, in[2].data, in[3].data);
    struct hinge h = {.dist = in[1].data, .ddist = out[1].data, .n = b.n, .margin = (double)k->attrs.margin};
    double *loss = out[0].data;
    int64_t *stats = out[2].data;
    ft_ref_zero(&k->out[1], h.ddist);
    struct counts c = walk(&b, add_hinge, &h);
    int64_t divisor = k->attrs.reducer == FT_REDUCE_MEAN ? c.mined : h.active;
    loss[0] = divisor == 0 ? 0.0 : h.sum / (double)divisor;
    for (int64_t i = 0; divisor != 0 && i < b.m * b.n; i++) {
        h.ddist[i] /= (double)divisor;
    }
    stats[0] = c.candidates;
    stats[1] = c.mined;
    stats[2] = h.active;
    stats[3] = c.anchors;
}
FT_REF_ROW(triplet, run_triplet)

/* ---- PAIRS */

struct weights {
    double *pos;
    double *neg;
    int64_t n;
};

static void add_weights(void *context, int64_t i, int64_t j, int64_t k)
{
    struct weights *w = context;
    w->pos[i * w->n + j] += 1.0;
    w->neg[i * w->n + k] += 1.0;
}

static void run_pairs(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct batch b = batch_of(k, in[0].data, in[1].data, in[2].data);
    struct weights w = {.pos = out[0].data, .neg = out[1].data, .n = b.n};
    int64_t *stats = out[2].data;
    ft_ref_zero(&k->out[0], w.pos);
    ft_ref_zero(&k->out[1], w.neg);
    struct counts c = walk(&b, add_weights, &w);
    stats[0] = c.candidates;
    stats[1] = c.mined;
    stats[2] = 0;
    stats[3] = 0;
    for (int64_t i = 0; i < b.m * b.n; i++) {
        if (b.miner == FT_MINER_NONE) { /* pairs, not triplets: a pair counts once, also without a partner */
            w.pos[i] = is_positive(&b, i / b.n, i % b.n) ? 1.0 : 0.0;
            w.neg[i] = is_negative(&b, i / b.n, i % b.n) ? 1.0 : 0.0;
        }
        stats[2] += w.pos[i] > 0.0;
        stats[3] += w.neg[i] > 0.0;
    }
}
FT_REF_ROW(pairs, run_pairs)

/* ---- MASKED_MEAN */

static void run_masked_mean(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    const double *w = in[1].data;
    double *mean = out[0].data;
    double *count = out[1].data;
    double sum = 0.0;
    double divisor = 0.0;
    int64_t elements = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < elements; i++) {
        sum += w[i] * x[i];
        if (k->attrs.reducer == FT_REDUCE_MEAN || x[i] > 0.0) {
            divisor += w[i];
        }
    }
    mean[0] = divisor == 0.0 ? 0.0 : sum / divisor;
    count[0] = divisor;
}
FT_REF_ROW(masked_mean, run_masked_mean)

static void run_masked_mean_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *x = in[1].data;
    const double *w = in[2].data;
    const double *count = in[3].data;
    double *dx = out[0].data;
    int64_t elements = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < elements; i++) {
        bool counts = count[0] != 0.0 && (k->attrs.reducer == FT_REDUCE_MEAN || x[i] > 0.0);
        dx[i] = counts ? w[i] * dy[0] / count[0] : 0.0;
    }
}
FT_REF_ROW(masked_mean_bwd, run_masked_mean_bwd)
