/*
 * buckets.h - plans of one graph for batches of many sizes: each is made when it is first needed and kept
 * while it is used; of too many, the one not used longest goes.
 *
 * Sizes are rounded up (ft_bucket_tokens(), ft_bucket_rows()), so that batches of nearly the same size share
 * a plan. Threads: like the device, one thread.
 */
#ifndef FT_TRAIN_BUCKETS_H
#define FT_TRAIN_BUCKETS_H

#include "executor/graph/plan.h"

struct ft_buckets; /* opaque */

struct ft_buckets_spec {
    struct ft_device *device;     /* borrowed, like the graph */
    const struct ft_graph *graph; /* may still grow before the first plan, not after it */
    const ft_value *wanted;       /* copied */
    int n_wanted;
    /* Extents of the largest plan: it is made at once and stays, and all others work in its memory. NULL:
     * each has memory of its own. */
    const int64_t *largest;
    /* Called once for each new plan: bind all that it reads and writes. */
    enum ft_status (*bind)(void *arg, struct ft_plan *plan, struct ft_err *err);
    void *arg;
};
FT_MUST_CHECK enum ft_status ft_buckets_new(const struct ft_buckets_spec *spec, struct ft_buckets **buckets,
                                            struct ft_err *err);
void ft_buckets_free(struct ft_buckets *buckets); /* NULL is fine */
/* The plan for these extents, borrowed until the next call. */
FT_MUST_CHECK enum ft_status ft_buckets_find(struct ft_buckets *buckets,
                                             const int64_t symbols[FT_MAX_SYMBOLS], struct ft_plan **plan,
                                             struct ft_err *err);
/* The plan found last; NULL: none yet. */
struct ft_plan *ft_buckets_last(const struct ft_buckets *buckets);

/* n >= 1 rounded up to a multiple of 6 (rows of a tile of products: one short text is computed as it is),
 * above 48 to one of 16, above 512 to one of 32, above 1,024 to one of 64 ...: what is added is never more
 * than 15 or a sixteenth. */
int64_t ft_bucket_tokens(int64_t n);
/* n >= 1 rounded up to a power of two, at most `most` (>= n). */
int64_t ft_bucket_rows(int64_t n, int64_t most);
#endif
