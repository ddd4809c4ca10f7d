#include "executor/eval/metrics.h"

#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"

struct work {
    const int32_t *query_labels, *index_labels;
    size_t limit;
    bool exclude_self;
    size_t *per_class; /* (classes) Documents of the index */
    size_t classes;
    struct ft_metrics sum;
};

/* Relevant documents a query can find at all; 0: it does not count. */
static size_t relevant(const struct work *w, size_t query)
{
    int32_t label = w->query_labels[query];
    if (label < 0 || (size_t)label >= w->classes) {
        return 0;
    }
    size_t n = w->per_class[label];
    return n - (w->exclude_self && n > 0 ? 1 : 0);
}

/* docarray's weights (method 0): 1, 1, 1/log2(3), ... */
static double gain(size_t rank)
{
    return rank == 0 ? 1.0 : 1.0 / log2((double)(rank + 1));
}

/* Over the first `limit` neighbours: docarray's definitions. */
static void add_at_k(struct work *w, size_t r, size_t count, const bool *hits_at, struct ft_metrics *m)
{
    size_t k = count < w->limit ? count : w->limit;
    size_t hits = 0, first = k;
    double sum = 0, dcg = 0, ideal = 0;
    for (size_t i = 0; i < k; i++) {
        ideal += i < r ? gain(i) : 0;
        if (!hits_at[i]) {
            continue;
        }
        hits++;
        first = first < i ? first : i;
        sum += (double)hits / (double)(i + 1);
        dcg += gain(i);
    }
    double precision = k > 0 ? (double)hits / (double)k : 0;
    double recall = (double)hits / (double)r;
    m->precision_at_k += precision;
    m->recall_at_k += recall;
    m->f1_score_at_k += hits > 0 ? 2 * precision * recall / (precision + recall) : 0;
    m->hit_at_k += hits > 0;
    m->average_precision += hits > 0 ? sum / (double)hits : 0;
    m->reciprocal_rank += hits > 0 ? 1.0 / (double)(first + 1) : 0;
    m->dcg_at_k += dcg;
    m->ndcg_at_k += ideal > 0 ? dcg / ideal : 0;
}

/* Over the first R neighbours: pytorch-metric-learning's definitions. */
static void add_at_r(size_t r, size_t count, const bool *hits_at, struct ft_metrics *m)
{
    size_t hits = 0;
    double sum = 0;
    for (size_t i = 0; i < r && i < count; i++) {
        if (hits_at[i]) {
            hits++;
            sum += (double)hits / (double)(i + 1);
        }
    }
    m->precision_at_1 += count > 0 && hits_at[0];
    m->r_precision += (double)hits / (double)r;
    m->map_at_r += sum / (double)r;
}

struct visit {
    struct work *work;
    bool *hits_at; /* (k) */
};

static void one_query(void *arg, size_t query, size_t count, const uint32_t *ids, const float *distances)
{
    struct visit *v = arg;
    struct work *w = v->work;
    size_t r = relevant(w, query);
    (void)distances;
    if (r == 0) {
        w->sum.skipped++;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        v->hits_at[i] = w->index_labels[ids[i]] == w->query_labels[query];
    }
    add_at_k(w, r, count, v->hits_at, &w->sum);
    add_at_r(r, count, v->hits_at, &w->sum);
    w->sum.queries++;
}

static enum ft_status count_classes(struct work *w, size_t n_index, struct ft_err *err)
{
    for (size_t i = 0; i < n_index; i++) {
        size_t need = w->index_labels[i] < 0 ? 0 : (size_t)w->index_labels[i] + 1;
        w->classes = need > w->classes ? need : w->classes;
    }
    FT_RETURN_IF_FAILED(ft_new(w->classes, sizeof *w->per_class, &w->per_class, err));
    for (size_t i = 0; i < n_index; i++) {
        if (w->index_labels[i] >= 0) {
            w->per_class[w->index_labels[i]]++;
        }
    }
    return FT_OK;
}

enum { METRICS = 11 };
static const struct {
    const char *name;
    size_t offset;
} rows[METRICS] = {
    {"precision_at_k", offsetof(struct ft_metrics, precision_at_k)},
    {"recall_at_k", offsetof(struct ft_metrics, recall_at_k)},
    {"f1_score_at_k", offsetof(struct ft_metrics, f1_score_at_k)},
    {"hit_at_k", offsetof(struct ft_metrics, hit_at_k)},
    {"average_precision", offsetof(struct ft_metrics, average_precision)},
    {"reciprocal_rank", offsetof(struct ft_metrics, reciprocal_rank)},
    {"dcg_at_k", offsetof(struct ft_metrics, dcg_at_k)},
    {"ndcg_at_k", offsetof(struct ft_metrics, ndcg_at_k)},
    {"precision_at_1", offsetof(struct ft_metrics, precision_at_1)},
    {"r_precision", offsetof(struct ft_metrics, r_precision)},
    {"map_at_r", offsetof(struct ft_metrics, map_at_r)},
};

static void take_means(const struct ft_metrics *sum, struct ft_metrics *means)
{
    *means = *sum;
    for (size_t i = 0; i < METRICS; i++) {
        double value;
        memcpy(&value, (const char *)sum + rows[i].offset, sizeof value);
        value /= (double)sum->queries;
        memcpy((char *)means + rows[i].offset, &value, sizeof value);
    }
}

enum ft_status ft_metrics_run(struct ft_device *device, const struct ft_search *search,
                              const int32_t *query_labels, const int32_t *index_labels, size_t limit,
                              struct ft_metrics *metrics, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct work w;
    struct visit visit = {&w, NULL};
    struct ft_search all = *search;
    memset(&w, 0, sizeof w);
    memset(metrics, 0, sizeof *metrics);
    w.query_labels = query_labels;
    w.index_labels = index_labels;
    w.limit = limit;
    w.exclude_self = search->exclude_self;
    if (limit == 0) {
        return FT_FAIL(err, INVALID, "the limit of neighbours is 0, wanted at least 1");
    }
    FT_TRY(count_classes(&w, search->n_index, err));
    all.k = limit;
    for (size_t q = 0; q < search->n_queries; q++) {
        size_t r = relevant(&w, q);
        all.k = r > all.k ? r : all.k;
    }
    all.k = all.k < search->n_index ? all.k : search->n_index;
    FT_TRY(ft_new(all.k, sizeof *visit.hits_at, &visit.hits_at, err));
    FT_TRY(ft_search_each(device, &all, one_query, &visit, err));
    if (w.sum.queries == 0) {
        st = FT_FAIL(err, INVALID,
                     "none of the %zu queries has a document with its label in the index: "
                     "nothing to measure",
                     search->n_queries);
        goto done;
    }
    take_means(&w.sum, metrics);
done:
    ft_free(visit.hits_at);
    ft_free(w.per_class);
    return st;
}

const char *ft_metrics_at(const struct ft_metrics *metrics, size_t i, double *value)
{
    if (i >= METRICS) {
        return NULL;
    }
    memcpy(value, (const char *)metrics + rows[i].offset, sizeof *value);
    return rows[i].name;
}
