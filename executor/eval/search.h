/*
 * search.h - exact nearest neighbours, tiled: queries x index by one matrix product a tile, a heap of `k` per
 * query.
 *
 * Distances are cosine, euclidean or sqeuclidean (finetuner/SPEC A.6), computed in float; ties are ordered by
 * index. The latter two are |a|^2 + |b|^2 - 2ab, never negative: they lose digits far from the origin, and
 * equal rows may be a rounding error apart. Memory is one tile and the results, never queries x index.
 * FT_INVALID names a row that is not finite.
 */
#ifndef FT_EVAL_SEARCH_H
#define FT_EVAL_SEARCH_H

#include <stdbool.h>

#include "executor/base/thread.h"
#include "kernels/kernel.h"

enum ft_metric { FT_METRIC_COSINE, FT_METRIC_EUCLIDEAN, FT_METRIC_SQEUCLIDEAN };
FT_MUST_CHECK enum ft_status ft_metric_parse(const char *name, enum ft_metric *metric, struct ft_err *err);

struct ft_search {
    const float *queries; /* (n_queries, dim) */
    const float *index;   /* (n_index, dim) */
    size_t n_queries, n_index;
    int64_t dim;
    size_t k; /* neighbours per query; fewer exist: the rest is UINT32_MAX */
    enum ft_metric metric;
    bool exclude_self; /* query i is index i */
    /* How far it is, in queries, after each tile; may be NULL. */
    void (*progress)(void *arg, size_t done, size_t total);
    void *progress_arg;
};
/* One call a query, in order: its `count` <= k neighbours, ascending; the arrays are borrowed for the call.
 */
typedef void (*ft_search_visit)(void *arg, size_t query, size_t count, const uint32_t *ids,
                                const float *distances);
FT_MUST_CHECK enum ft_status ft_search_each(struct ft_device *device, const struct ft_search *search,
                                            ft_search_visit visit, void *arg, struct ft_err *err);
/* ids (n_queries, k), distances (n_queries, k) ascending, a missing distance is infinite; either may be NULL.
 */
FT_MUST_CHECK enum ft_status ft_search_run(struct ft_device *device, const struct ft_search *search,
                                           uint32_t *ids, float *distances, struct ft_err *err);
#endif
