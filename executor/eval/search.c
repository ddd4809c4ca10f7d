#include "executor/eval/search.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"

/* A tile of distances is 256 x 2048 floats: 2 MiB, which stays in a core's second-level cache and its share
 * of the third. */
enum { TILE_QUERIES = 256, TILE_INDEX = 2048 };

static const char *const metric_names[] = {"cosine", "euclidean", "sqeuclidean"};

enum ft_status ft_metric_parse(const char *name, enum ft_metric *metric, struct ft_err *err)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, metric_names[i]) == 0) {
            *metric = (enum ft_metric)i;
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "there is no distance \"%s\": cosine, euclidean or sqeuclidean", name);
}

struct neighbour {
    float distance;
    uint32_t id;
};

struct work {
    const struct ft_search *search;
    struct ft_device *device;
    bool wide; /* the device's floats are doubles */
    size_t tile_queries, tile_index;
    float *query_norm, *index_norm; /* |x| with cosine, |x|^2 otherwise */
    float *rows;                    /* (larger tile, dim) staging */
    double *rows_wide;
    float *products; /* (tile_queries, tile_index) */
    double *products_wide;
    void *device_queries, *device_index, *device_products, *scratch;
    struct ft_kernel *matmul;
    struct neighbour *heaps; /* (tile_queries, k) */
    size_t *held;            /* (tile_queries) */
    uint32_t *ids;           /* (k) sorted, for the visitor */
    float *distances;        /* (k) */
};

/* ---- rows */

static enum ft_status measure(const struct ft_search *s, const float *rows, size_t count, const char *what,
                              float *norms, struct ft_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const float *x = rows + i * (size_t)s->dim;
        double sum = 0;
        for (int64_t d = 0; d < s->dim; d++) {
            sum += (double)x[d] * (double)x[d];
        }
        norms[i] = (float)(s->metric == FT_METRIC_COSINE ? sqrt(sum) : sum);
        if (!(norms[i] <= FLT_MAX / 4)) { /* so that sums of two and products stay floats */
            return FT_FAIL(err, INVALID, "%s embedding %zu is too long or has a value that is not finite",
                           what, i);
        }
    }
    return FT_OK;
}

/* Upload `count` rows; with cosine they are scaled to length one, and a row of zeros (or so short that 1 /
 * length is no float) stays as it is. */
static enum ft_status put_rows(struct work *w, const float *rows, const float *norms, size_t count, void *to,
                               struct ft_err *err)
{
    size_t dim = (size_t)w->search->dim;
    for (size_t i = 0; i < count; i++) {
        bool scale = w->search->metric == FT_METRIC_COSINE && norms[i] >= FLT_MIN;
        float by = scale ? 1.0F / norms[i] : 1.0F;
        for (size_t d = 0; d < dim; d++) {
            float x = rows[i * dim + d] * by;
            if (w->wide) {
                w->rows_wide[i * dim + d] = (double)x;
            } else {
                w->rows[i * dim + d] = x;
            }
        }
    }
    const void *from = w->wide ? (const void *)w->rows_wide : (const void *)w->rows;
    return ft_device_upload(w->device, to, from, count * dim * (w->wide ? sizeof(double) : sizeof(float)),
                            err);
}

static enum ft_status get_products(struct work *w, struct ft_err *err)
{
    size_t count = w->tile_queries * w->tile_index;
    if (!w->wide) {
        return ft_device_download(w->device, w->products, w->device_products, count * sizeof(float), err);
    }
    FT_RETURN_IF_FAILED(
        ft_device_download(w->device, w->products_wide, w->device_products, count * sizeof(double), err));
    for (size_t i = 0; i < count; i++) {
        w->products[i] = (float)w->products_wide[i];
    }
    return FT_OK;
}

/* ---- heaps: the worst neighbour on top */

static bool worse(struct neighbour a, struct neighbour b)
{
    return a.distance > b.distance || (a.distance == b.distance && a.id > b.id);
}

static void sift_down(struct neighbour *heap, size_t count, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= count) {
            return;
        }
        child += child + 1 < count && worse(heap[child + 1], heap[child]);
        if (!worse(heap[child], heap[i])) {
            return;
        }
        struct neighbour t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
        i = child;
    }
}

static void offer(struct neighbour *heap, size_t *held, size_t k, struct neighbour n)
{
    if (*held == k) {
        if (worse(heap[0], n)) {
            heap[0] = n;
            sift_down(heap, k, 0);
        }
        return;
    }
    size_t i = (*held)++;
    heap[i] = n;
    while (i > 0 && worse(heap[i], heap[(i - 1) / 2])) {
        struct neighbour t = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

static void sort_heap(struct neighbour *heap, size_t held)
{
    for (size_t n = held; n > 1; n--) {
        struct neighbour t = heap[0];
        heap[0] = heap[n - 1];
        heap[n - 1] = t;
        sift_down(heap, n - 1, 0);
    }
}

/* ---- tiles */

static float distance_of(const struct ft_search *s, float product, float query_norm, float index_norm)
{
    if (s->metric == FT_METRIC_COSINE) {
        /* Rounding may leave a product of unit vectors a little outside of -1 .. 1. */
        return 1.0F - fmaxf(-1.0F, fminf(1.0F, product));
    }
    float squared = fmaxf(0.0F, query_norm + index_norm - 2.0F * product);
    return s->metric == FT_METRIC_EUCLIDEAN ? sqrtf(squared) : squared;
}

static void scan_tile(struct work *w, size_t q0, size_t nq, size_t i0, size_t ni)
{
    const struct ft_search *s = w->search;
    for (size_t q = 0; q < nq; q++) {
        const float *row = w->products + q * w->tile_index;
        struct neighbour *heap = w->heaps + q * s->k;
        for (size_t i = 0; i < ni; i++) {
            if (s->exclude_self && q0 + q == i0 + i) {
                continue;
            }
            struct neighbour n = {
                distance_of(s, row[i], w->query_norm[q0 + q], w->index_norm[i0 + i]),
                (uint32_t)(i0 + i),
            };
            offer(heap, &w->held[q], s->k, n);
        }
    }
}

/* A tile of queries that met some of the index counts as so much of its queries: few may search a lot. */
static void tell_progress(const struct work *w, size_t q0, size_t nq, size_t met)
{
    const struct ft_search *s = w->search;
    if (s->progress != NULL) {
        s->progress(s->progress_arg, q0 + nq * met / s->n_index, s->n_queries);
    }
}

static enum ft_status search_tile(struct work *w, size_t q0, size_t nq, struct ft_err *err)
{
    const struct ft_search *s = w->search;
    size_t dim = (size_t)s->dim;
    memset(w->held, 0, nq * sizeof *w->held);
    FT_RETURN_IF_FAILED(put_rows(w, s->queries + q0 * dim, w->query_norm + q0, nq, w->device_queries, err));
    for (size_t i0 = 0; i0 < s->n_index; i0 += w->tile_index) {
        size_t ni = s->n_index - i0 < w->tile_index ? s->n_index - i0 : w->tile_index;
        FT_RETURN_IF_FAILED(put_rows(w, s->index + i0 * dim, w->index_norm + i0, ni, w->device_index, err));
        struct ft_arg in[2] = {{w->device_queries, 0}, {w->device_index, 0}};
        struct ft_arg out = {w->device_products, 0};
        FT_RETURN_IF_FAILED(ft_kernel_run(w->matmul, in, &out, w->scratch, err));
        FT_RETURN_IF_FAILED(ft_device_wait(w->device, err));
        FT_RETURN_IF_FAILED(get_products(w, err));
        scan_tile(w, q0, nq, i0, ni);
        tell_progress(w, q0, nq, i0 + ni);
    }
    return FT_OK;
}

static void hand_over(struct work *w, size_t q0, size_t nq, ft_search_visit visit, void *arg)
{
    size_t k = w->search->k;
    for (size_t q = 0; q < nq; q++) {
        struct neighbour *heap = w->heaps + q * k;
        sort_heap(heap, w->held[q]);
        for (size_t i = 0; i < w->held[q]; i++) {
            w->ids[i] = heap[i].id;
            w->distances[i] = heap[i].distance;
        }
        visit(arg, q0 + q, w->held[q], w->ids, w->distances);
    }
}

/* ---- setting up */

static enum ft_status prepare(struct work *w, struct ft_err *err)
{
    const struct ft_search *s = w->search;
    enum ft_dtype dtype = ft_device_float(w->device);
    int64_t m = (int64_t)w->tile_queries, n = (int64_t)w->tile_index;
    struct ft_type in[2] = {ft_type_of(dtype, 2, (const int64_t[]){m, s->dim}),
                            ft_type_of(dtype, 2, (const int64_t[]){n, s->dim})};
    struct ft_type out = ft_type_of(dtype, 2, (const int64_t[]){m, n});
    struct ft_call call;
    memset(&call, 0, sizeof call);
    call.op = FT_OP_MATMUL;
    call.attrs.trans_b = 1;
    call.attrs.alpha = 1.0F;
    call.n_in = 2;
    call.in = in;
    call.out = &out;
    size_t scratch = 0;
    FT_RETURN_IF_FAILED(ft_kernel_prepare(w->device, &call, &w->matmul, &scratch, err));
    FT_RETURN_IF_FAILED(ft_device_alloc(w->device, ft_type_bytes(&in[0]), &w->device_queries, err));
    FT_RETURN_IF_FAILED(ft_device_alloc(w->device, ft_type_bytes(&in[1]), &w->device_index, err));
    FT_RETURN_IF_FAILED(ft_device_alloc(w->device, ft_type_bytes(&out), &w->device_products, err));
    return ft_device_alloc(w->device, scratch, &w->scratch, err);
}

static enum ft_status allocate(struct work *w, struct ft_err *err)
{
    const struct ft_search *s = w->search;
    w->wide = ft_device_float(w->device) == FT_F64;
    w->tile_queries = s->n_queries < TILE_QUERIES ? s->n_queries : TILE_QUERIES;
    w->tile_index = s->n_index < TILE_INDEX ? s->n_index : TILE_INDEX;
    size_t rows = w->tile_queries > w->tile_index ? w->tile_queries : w->tile_index;
    size_t elements = 0, products = w->tile_queries * w->tile_index, heaps = 0;
    if (!ft_mul_size(rows, (size_t)s->dim, &elements) || !ft_mul_size(w->tile_queries, s->k, &heaps)) {
        return FT_FAIL(err, LIMIT, "a search of %zu neighbours in %lld dimensions is too large", s->k,
                       (long long)s->dim);
    }
    FT_RETURN_IF_FAILED(ft_new(s->n_queries, sizeof(float), &w->query_norm, err));
    FT_RETURN_IF_FAILED(ft_new(s->n_index, sizeof(float), &w->index_norm, err));
    FT_RETURN_IF_FAILED(ft_new(elements, sizeof(float), &w->rows, err));
    FT_RETURN_IF_FAILED(ft_new(products, sizeof(float), &w->products, err));
    if (w->wide) {
        FT_RETURN_IF_FAILED(ft_new(elements, sizeof(double), &w->rows_wide, err));
        FT_RETURN_IF_FAILED(ft_new(products, sizeof(double), &w->products_wide, err));
    }
    FT_RETURN_IF_FAILED(ft_new(heaps, sizeof *w->heaps, &w->heaps, err));
    FT_RETURN_IF_FAILED(ft_new(w->tile_queries, sizeof *w->held, &w->held, err));
    FT_RETURN_IF_FAILED(ft_new(s->k, sizeof *w->ids, &w->ids, err));
    return ft_new(s->k, sizeof *w->distances, &w->distances, err);
}

static void release(struct work *w)
{
    ft_kernel_free(w->matmul);
    ft_device_free(w->device, w->device_queries);
    ft_device_free(w->device, w->device_index);
    ft_device_free(w->device, w->device_products);
    ft_device_free(w->device, w->scratch);
    ft_free(w->query_norm);
    ft_free(w->index_norm);
    ft_free(w->rows);
    ft_free(w->rows_wide);
    ft_free(w->products);
    ft_free(w->products_wide);
    ft_free(w->heaps);
    ft_free(w->held);
    ft_free(w->ids);
    ft_free(w->distances);
}

enum ft_status ft_search_each(struct ft_device *device, const struct ft_search *search, ft_search_visit visit,
                              void *arg, struct ft_err *err)
{
    struct work w;
    enum ft_status st = FT_OK;
    memset(&w, 0, sizeof w);
    w.search = search;
    w.device = device;
    assert(search->dim > 0);
    if (search->k == 0 || search->n_index == 0 || search->n_index >= UINT32_MAX) {
        return FT_FAIL(err, INVALID, "a search for %zu neighbours among %zu embeddings", search->k,
                       search->n_index);
    }
    if (search->n_queries == 0) {
        return FT_OK;
    }
    FT_TRY(allocate(&w, err));
    FT_TRY(prepare(&w, err));
    FT_TRY(measure(search, search->queries, search->n_queries, "query", w.query_norm, err));
    FT_TRY(measure(search, search->index, search->n_index, "index", w.index_norm, err));
    for (size_t q0 = 0; q0 < search->n_queries; q0 += w.tile_queries) {
        size_t nq = search->n_queries - q0;
        nq = nq < w.tile_queries ? nq : w.tile_queries;
        FT_TRY(search_tile(&w, q0, nq, err));
        hand_over(&w, q0, nq, visit, arg);
    }
done:
    release(&w);
    return st;
}

struct table {
    size_t k;
    uint32_t *ids;
    float *distances;
};

static void into_table(void *arg, size_t query, size_t count, const uint32_t *ids, const float *distances)
{
    struct table *t = arg;
    for (size_t i = 0; i < t->k; i++) {
        if (t->ids != NULL) {
            t->ids[query * t->k + i] = i < count ? ids[i] : UINT32_MAX;
        }
        if (t->distances != NULL) {
            t->distances[query * t->k + i] = i < count ? distances[i] : INFINITY;
        }
    }
}

enum ft_status ft_search_run(struct ft_device *device, const struct ft_search *search, uint32_t *ids,
                             float *distances, struct ft_err *err)
{
    struct table table = {search->k, ids, distances};
    return ft_search_each(device, search, into_table, &table, err);
}
