/*
 * prefix.h - the frozen prefix of a model: computed once per document, kept as bf16, trained behind.
 *
 * When the frozen layers are a prefix of the graph (graph/frontier.h says which values are its end), training
 * reads these values instead of the model's input. They are always rounded to bf16, to the nearest, ties to
 * even, with the cache and without it, in the first epoch and in all later ones: whether activations are kept
 * changes nothing about the result. Training loss and val_loss see rounded values; retrieval metrics and the
 * artifact are of the whole graph in full precision.
 *
 * Of texts there are a row for each token, an item, or both. Their plan has a fixed number of rows and tokens
 * too, of which what a batch does not fill is filler: what becomes of a text then depends on nothing but it.
 *
 * The cache is filled in one pass over a data set, in its order, by one plan of a fixed batch, so that a job
 * that resumes fills it with the same bits. It lies in memory if it fits, else in a file without a name that
 * the system removes whatever happens to the process.
 *
 * Threads: the prefix belongs to the thread of its device; a filled cache is const and may be read by any.
 */
#ifndef FT_TRAIN_PREFIX_H
#define FT_TRAIN_PREFIX_H

#include "executor/graph/frontier.h"
#include "executor/prep/batch.h"
#include "executor/train/params.h"
#include "executor/train/rows.h"

struct ft_prefix;       /* opaque */
struct ft_prefix_cache; /* opaque */

/* Of the prefix's plan; tokens are more where one text is longer. */
enum { FT_PREFIX_ROWS = 32, FT_PREFIX_TOKENS = 512 };

/* All borrowed; the plan reads the frozen weights in `params`, which are the whole graph's. longest: tokens
 * of the longest text, 0 without texts. FT_LIMIT: more values than a batch has inputs. */
FT_MUST_CHECK enum ft_status ft_prefix_new(struct ft_device *device, const struct ft_frontier *frontier,
                                           const struct ft_params *params, int64_t longest,
                                           struct ft_prefix **prefix, struct ft_err *err);
void ft_prefix_free(struct ft_prefix *prefix); /* NULL is fine */
/* Extents of its plan. */
void ft_prefix_symbols(const struct ft_frontier *frontier, int64_t longest, int64_t symbols[FT_MAX_SYMBOLS]);
/* A batch of what the part behind the prefix reads. */
FT_MUST_CHECK enum ft_status ft_prefix_batch_init(const struct ft_frontier *frontier, size_t rows_max,
                                                  size_t tokens_max, struct ft_batch *batch,
                                                  struct ft_err *err);
/* from: rows of the model's input. to: the same rows at the end of the prefix, rounded; labels and items are
 * copied. */
FT_MUST_CHECK enum ft_status ft_prefix_batch(struct ft_prefix *prefix, const struct ft_batch *from,
                                             struct ft_batch *to, struct ft_err *err);

struct ft_prefix_fill {
    const struct ft_rows *rows; /* borrowed for the call */
    int threads;                /* that prepare documents; 0 = as many as processors */
    size_t memory_max;          /* bytes; above: a file */
    const char *dir;            /* of that file; NULL = $TMPDIR or /tmp */
    const struct ft_cancel *cancel;
    void (*progress)(void *arg, size_t done, size_t count); /* may be NULL */
    void *arg;
};
/* FT_CANCELLED. FT_IO: no room for the file, with what it needs. Errors of documents name them. */
FT_MUST_CHECK enum ft_status ft_prefix_fill(struct ft_prefix *prefix, const struct ft_prefix_fill *fill,
                                            struct ft_prefix_cache **cache, struct ft_err *err);
void ft_prefix_cache_free(struct ft_prefix_cache *cache); /* NULL is fine */
/* The documents batch->items[0 .. rows) into a batch of ft_prefix_batch_init(). */
void ft_prefix_cache_batch(const struct ft_prefix_cache *cache, struct ft_batch *batch);
const struct ft_frontier *ft_prefix_cache_frontier(const struct ft_prefix_cache *cache);
size_t ft_prefix_cache_bytes(const struct ft_prefix_cache *cache);
bool ft_prefix_cache_is_file(const struct ft_prefix_cache *cache);
#endif
