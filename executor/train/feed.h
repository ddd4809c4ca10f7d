/*
 * feed.h - batches prepared on other threads while the device works: two slots, refilled.
 *
 * Rows that are kept are copied by one thread; others are decoded and augmented by as many as the rows allow.
 * The order of batches is the sampler's; the consumer counts what it has used, which is all a checkpoint
 * needs. Threads: one consumer; the producing threads are the feed's own.
 */
#ifndef FT_TRAIN_FEED_H
#define FT_TRAIN_FEED_H

#include "executor/prep/batch.h"
#include "executor/train/prefix.h"
#include "executor/train/rows.h"
#include "executor/train/sampler.h"

struct ft_feed; /* opaque */
struct ft_feed_size {
    size_t rows;        /* of each batch */
    size_t text_tokens; /* that a batch of texts has room for; 0 of other rows */
};
/* Starts preparing at once. Batches hold rows; with a cache (NULL: none) what is kept there instead, and rows
 * are not looked at. Both and the sampler are borrowed; the sampler belongs to the feed until ft_feed_free().
 */
FT_MUST_CHECK enum ft_status ft_feed_new(const struct ft_rows *rows, const struct ft_prefix_cache *cache,
                                         struct ft_sampler *sampler, const struct ft_feed_size *size,
                                         struct ft_feed **feed, struct ft_err *err);
void ft_feed_free(struct ft_feed *feed); /* NULL is fine */
/* The next batch, borrowed until ft_feed_done(). Waits for it; a failure of its preparation comes out here.
 */
FT_MUST_CHECK enum ft_status ft_feed_next(struct ft_feed *feed, const struct ft_batch **batch,
                                          struct ft_err *err);
void ft_feed_done(struct ft_feed *feed, const struct ft_batch *batch);
#endif
