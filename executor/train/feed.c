#include "executor/train/feed.h"

#include <assert.h>

#include "executor/base/alloc.h"

enum { SLOTS = 2 };

struct slot {
    struct ft_batch batch;
    enum ft_status status;
    struct ft_err err;
};

struct ft_feed {
    const struct ft_rows *rows;
    const struct ft_prefix_cache *cache;
    struct ft_sampler *sampler;
    struct slot slots[SLOTS];
    struct ft_queue *empty, *ready;
    struct ft_thread *thread;
    struct ft_pool *pool; /* helps the thread where rows are prepared; NULL where they are only copied */
};

static void fill(struct ft_feed *feed, struct slot *slot)
{
    struct ft_batch *b = &slot->batch;
    uint64_t step = ft_sampler_position(feed->sampler);
    ft_sampler_next(feed->sampler, b->items, b->labels);
    b->rows = b->rows_max;
    slot->status = FT_OK;
    if (feed->cache == NULL) {
        slot->status = ft_rows_batch(feed->rows, step, b, feed->pool, &slot->err);
        return;
    }
    ft_prefix_cache_batch(feed->cache, b);
}

static void produce(void *arg)
{
    struct ft_feed *feed = arg;
    for (;;) {
        struct slot *slot = ft_queue_pop(feed->empty, -1);
        if (slot == NULL) {
            return;
        }
        fill(feed, slot);
        if (!ft_queue_push(feed->ready, slot)) {
            return;
        }
    }
}

/* Are rows made when they are asked for? */
static bool prepares(const struct ft_rows *rows)
{
    return rows->is_text ? rows->texts.kept < rows->count : rows->kept == NULL;
}

enum ft_status ft_feed_new(const struct ft_rows *rows, const struct ft_prefix_cache *cache,
                           struct ft_sampler *sampler, const struct ft_feed_size *size, struct ft_feed **feed,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_feed *f = NULL;
    *feed = NULL;
    FT_TRY(ft_new(1, sizeof *f, &f, err));
    f->rows = rows;
    f->cache = cache;
    f->sampler = sampler;
    size_t threads = rows->threads > 0 ? (size_t)rows->threads : ft_thread_cpus();
    if (cache == NULL && prepares(rows) && threads > 1) {
        FT_TRY(ft_pool_new(threads - 1, &f->pool, err)); /* and the feed's own */
    }
    FT_TRY(ft_queue_new(SLOTS, &f->empty, err));
    FT_TRY(ft_queue_new(SLOTS, &f->ready, err));
    for (int i = 0; i < SLOTS; i++) {
        struct ft_batch *batch = &f->slots[i].batch;
        FT_TRY(cache != NULL ? ft_prefix_batch_init(ft_prefix_cache_frontier(cache), size->rows,
                                                    size->text_tokens, batch, err)
                             : ft_rows_batch_init(rows, size->rows, size->text_tokens, batch, err));
        bool pushed = ft_queue_try_push(f->empty, &f->slots[i]);
        assert(pushed);
    }
    FT_TRY(ft_thread_start("ft-feed", produce, f, &f->thread, err));
    *feed = f;
    f = NULL;
done:
    ft_feed_free(f);
    return st;
}

void ft_feed_free(struct ft_feed *feed)
{
    if (feed == NULL) {
        return;
    }
    if (feed->thread != NULL) {
        ft_queue_close(feed->empty);
        ft_queue_close(feed->ready);
        ft_thread_join(feed->thread);
    }
    ft_pool_free(feed->pool);
    ft_queue_free(feed->empty);
    ft_queue_free(feed->ready);
    for (int i = 0; i < SLOTS; i++) {
        ft_batch_release(&feed->slots[i].batch);
    }
    ft_free(feed);
}

enum ft_status ft_feed_next(struct ft_feed *feed, const struct ft_batch **batch, struct ft_err *err)
{
    struct slot *slot = ft_queue_pop(feed->ready, -1);
    assert(slot != NULL);
    *batch = NULL;
    if (slot->status != FT_OK) {
        *err = slot->err;
        return slot->status;
    }
    *batch = &slot->batch;
    return FT_OK;
}

void ft_feed_done(struct ft_feed *feed, const struct ft_batch *batch)
{
    for (int i = 0; i < SLOTS; i++) {
        if (&feed->slots[i].batch == batch) {
            bool pushed = ft_queue_try_push(feed->empty, &feed->slots[i]);
            assert(pushed);
        }
    }
}
