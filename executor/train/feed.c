#include "executor/train/feed.h"

#include <assert.h>
#include <string.h>

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

/* One batch on its way; `failed` is the smallest place that did, or SIZE_MAX. */
struct job {
    const struct ft_rows *rows;
    struct ft_batch *batch;
    uint64_t step;
    atomic_size_t failed;
};

static enum ft_status fill_row(const struct job *job, size_t i, struct ft_err *err)
{
    struct ft_batch *b = job->batch;
    return ft_rows_draw(job->rows, b->items[i], job->step, i, b->input[0].data + i * b->input[0].row_elements,
                        err);
}

static void fill_one(void *arg, size_t i)
{
    struct job *job = arg;
    struct ft_err err = {0};
    size_t failed = atomic_load(&job->failed);
    if (failed < i || fill_row(job, i, &err) == FT_OK) {
        return;
    }
    while (i < failed && !atomic_compare_exchange_weak(&job->failed, &failed, i)) {
    }
}

static void fill(struct ft_feed *feed, struct slot *slot)
{
    struct ft_batch *b = &slot->batch;
    struct job job = {.rows = feed->rows, .batch = b, .step = ft_sampler_position(feed->sampler)};
    atomic_init(&job.failed, SIZE_MAX);
    ft_sampler_next(feed->sampler, b->items, b->labels);
    b->rows = b->rows_max;
    slot->status = FT_OK;
    if (feed->cache != NULL) {
        for (size_t i = 0; i < b->rows; i++) {
            ft_prefix_cache_get(feed->cache, b->items[i], b, i);
        }
        return;
    }
    if (feed->pool != NULL) {
        ft_pool_run(feed->pool, b->rows, fill_one, &job);
    } else {
        for (size_t i = 0; i < b->rows; i++) {
            fill_one(&job, i);
        }
    }
    /* Again from there, for the story: the pool's threads have no room for one each. */
    for (size_t i = atomic_load(&job.failed); i < b->rows && slot->status == FT_OK; i++) {
        slot->status = fill_row(&job, i, &slot->err);
    }
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

static enum ft_status init_batch(const struct ft_feed *f, size_t rows, struct ft_batch *batch,
                                 struct ft_err *err)
{
    struct ft_batch_input input;
    if (f->cache != NULL) {
        return ft_prefix_batch_init(ft_prefix_cache_frontier(f->cache), rows, batch, err);
    }
    memset(&input, 0, sizeof input);
    input.name = "input";
    input.row_elements = f->rows->elements;
    return ft_batch_init(batch, &input, 1, rows, err);
}

enum ft_status ft_feed_new(const struct ft_rows *rows, const struct ft_prefix_cache *cache,
                           struct ft_sampler *sampler, size_t batch, struct ft_feed **feed,
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
    if (cache == NULL && rows->kept == NULL && threads > 1) {
        FT_TRY(ft_pool_new(threads - 1, &f->pool, err)); /* and the feed's own */
    }
    FT_TRY(ft_queue_new(SLOTS, &f->empty, err));
    FT_TRY(ft_queue_new(SLOTS, &f->ready, err));
    for (int i = 0; i < SLOTS; i++) {
        FT_TRY(init_batch(f, batch, &f->slots[i].batch, err));
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
