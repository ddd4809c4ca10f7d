#include "executor/train/texts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"

/* Texts between looks at `cancel`; for which another thread is worth starting. */
enum { CHUNK = 4096, WORTH_A_THREAD = 16, LANES = 64 };

static enum ft_status tokenise(const struct ft_texts *texts, size_t i, struct ft_tokens *tokens,
                               struct ft_err *err)
{
    struct ft_buf own = {0};
    struct ft_content content;
    enum ft_status st = texts->source.content(texts->source.arg, i, &own, &content, err);
    if (st == FT_OK) {
        st = ft_prep_text(&texts->prep, &content, tokens, err);
    }
    ft_buf_release(&own);
    return st;
}

/* ---- many at once */

/* Texts next .. end - 1, one after another on one thread; what a tokenizer remembers of words is the lane's.
 */
struct lane {
    struct ft_texts *texts;
    struct ft_tokens tokens;
    size_t first, next, end;
    int32_t *ids;
    size_t count, room;
};

static enum ft_status go(struct lane *lane, struct ft_err *err)
{
    struct ft_tokens *tokens = &lane->tokens;
    for (; lane->next < lane->end; lane->next++) {
        FT_RETURN_IF_FAILED(tokenise(lane->texts, lane->next, tokens, err));
        assert(tokens->count > 0 && tokens->count <= (size_t)lane->texts->prep.max_length);
        FT_RETURN_IF_FAILED(
            ft_grow(&lane->ids, &lane->room, lane->count + tokens->count, sizeof *lane->ids, err));
        memcpy(lane->ids + lane->count, tokens->ids, tokens->count * sizeof *lane->ids);
        lane->count += tokens->count;
        lane->texts->lengths[lane->next] = (uint32_t)tokens->count;
    }
    return FT_OK;
}

static void go_alone(void *arg, size_t i)
{
    struct lane *lanes = arg;
    struct ft_err err = {0};
    (void)(go(&lanes[i], &err) == FT_OK); /* the caller finishes what a lane could not, or tells the story */
}

/* Of ids that fit: from the first text on, without gaps. */
struct keeping {
    size_t keep_max, room; /* bytes; ids that texts->ids has room for */
    bool full;
    struct ft_pool *pool;
    const struct ft_cancel *cancel;
};

static enum ft_status keep(struct ft_texts *t, const struct lane *lane, struct keeping *k, struct ft_err *err)
{
    const int32_t *ids = lane->ids;
    for (size_t i = lane->first; i < lane->end; i++) {
        size_t length = t->lengths[i];
        t->tokens += length;
        t->longest = length > t->longest ? length : t->longest;
        k->full = k->full || (t->kept_tokens + length) * sizeof *ids > k->keep_max;
        if (k->full) {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_grow(&t->ids, &k->room, t->kept_tokens + length, sizeof *ids, err));
        memcpy(t->ids + t->kept_tokens, ids, length * sizeof *ids);
        t->at[t->kept++] = t->kept_tokens;
        t->kept_tokens += length;
        ids += length;
    }
    return FT_OK;
}

static enum ft_status all(struct ft_texts *t, struct lane *lanes, size_t n, struct keeping *k, size_t *failed,
                          struct ft_err *err)
{
    size_t count = t->source.count;
    for (size_t first = 0; first < count; first += CHUNK) {
        size_t these = count - first < CHUNK ? count - first : CHUNK;
        if (ft_cancelled(k->cancel)) {
            return FT_FAIL(err, CANCELLED, "cancelled while documents were prepared");
        }
        for (size_t i = 0; i < n; i++) {
            lanes[i].first = lanes[i].next = first + i * these / n;
            lanes[i].end = first + (i + 1) * these / n;
            lanes[i].count = 0;
        }
        ft_pool_run(k->pool, n, go_alone, lanes);
        for (size_t i = 0; i < n; i++) {
            enum ft_status st = go(&lanes[i], err);
            *failed = st != FT_OK ? lanes[i].next : count;
            FT_RETURN_IF_FAILED(st);
            FT_RETURN_IF_FAILED(keep(t, &lanes[i], k, err));
        }
    }
    return FT_OK;
}

static enum ft_status run_lanes(struct ft_texts *t, const struct ft_cancel *cancel, size_t *failed,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct lane *lanes = NULL;
    struct keeping k = {.keep_max = t->source.keep_max, .cancel = cancel};
    size_t count = t->source.count;
    size_t n = t->source.threads > 0 ? (size_t)t->source.threads : ft_thread_cpus();
    n = count < WORTH_A_THREAD ? 1 : n < LANES ? n : LANES;
    FT_TRY(ft_new(count, sizeof *t->lengths, &t->lengths, err));
    FT_TRY(ft_new(count, sizeof *t->at, &t->at, err));
    FT_TRY(ft_new(n, sizeof *lanes, &lanes, err));
    for (size_t i = 0; i < n; i++) {
        lanes[i].texts = t;
    }
    FT_TRY(ft_pool_new(n - 1, &k.pool, err)); /* the caller works too */
    FT_TRY(all(t, lanes, n, &k, failed, err));
done:
    for (size_t i = 0; lanes != NULL && i < n; i++) {
        ft_tokens_release(&lanes[i].tokens);
        ft_free(lanes[i].ids);
    }
    ft_pool_free(k.pool);
    ft_free(lanes);
    return st;
}

enum ft_status ft_texts_init(struct ft_texts *texts, const struct ft_texts_source *source,
                             const struct ft_prep *prep, const struct ft_cancel *cancel, size_t *failed,
                             struct ft_err *err)
{
    *texts = (struct ft_texts){.source = *source, .prep = *prep};
    *failed = source->count;
    assert(prep->kind == FT_PREP_TEXT);
    enum ft_status st = run_lanes(texts, cancel, failed, err);
    if (st != FT_OK) {
        ft_texts_release(texts);
    }
    return st;
}

void ft_texts_release(struct ft_texts *texts)
{
    ft_free(texts->lengths);
    ft_free(texts->ids);
    ft_free(texts->at);
    *texts = (struct ft_texts){0};
}

size_t ft_texts_bytes(const struct ft_texts *t)
{
    return t->source.count * (sizeof *t->lengths + sizeof *t->at) + t->kept_tokens * sizeof *t->ids;
}

/* ---- reading */

enum ft_status ft_texts_get(const struct ft_texts *t, size_t i, int64_t *ids, struct ft_err *err)
{
    struct ft_tokens own = {0};
    const int32_t *from = i < t->kept ? t->ids + t->at[i] : NULL;
    enum ft_status st = FT_OK;
    if (from == NULL) {
        FT_TRY(tokenise(t, i, &own, err));
        if (own.count != t->lengths[i]) {
            FT_TRY(FT_FAIL(err, INVALID, "the text has changed: %zu tokens, there were %u", own.count,
                           t->lengths[i]));
        }
        from = own.ids;
    }
    for (size_t k = 0; k < t->lengths[i]; k++) {
        ids[k] = from[k];
    }
done:
    ft_tokens_release(&own);
    return st;
}

/* (length, text number): compared as one number, longest and then first first. */
static int longer_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

enum ft_status ft_texts_by_length(const struct ft_texts *t, uint32_t **order, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    uint64_t *keys = NULL;
    size_t n = t->source.count;
    *order = NULL;
    FT_TRY(ft_new(n, sizeof *keys, &keys, err));
    FT_TRY(ft_new(n, sizeof **order, order, err));
    for (size_t i = 0; i < n; i++) {
        keys[i] = (uint64_t)(UINT32_MAX - t->lengths[i]) << 32 | (uint32_t)i;
    }
    qsort(keys, n, sizeof *keys, longer_first);
    for (size_t i = 0; i < n; i++) {
        (*order)[i] = (uint32_t)keys[i];
    }
done:
    ft_free(keys);
    return st;
}

static int descending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    return (x < y) - (x > y);
}

/* K items of one class: it is taken whole as often as it fits, and the rest of it are its longest. */
static size_t most_of_class(const struct ft_texts *t, const struct ft_sampler_classes *classes, size_t c,
                            size_t k, size_t *lengths)
{
    size_t count = classes->count(classes->arg, c);
    size_t all = 0;
    size_t rest = 0;
    for (size_t i = 0; i < count; i++) {
        lengths[i] = t->lengths[classes->item(classes->arg, c, i)];
        all += lengths[i];
    }
    qsort(lengths, count, sizeof *lengths, descending);
    for (size_t i = 0; i < k % count; i++) {
        rest += lengths[i];
    }
    return k / count * all + rest;
}

enum ft_status ft_texts_most(const struct ft_texts *t, const struct ft_sampler_classes *classes,
                             const struct ft_sampler_shape *shape, size_t *tokens, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t *lengths = NULL;
    size_t *sums = NULL;
    *tokens = 0;
    FT_TRY(ft_new(t->source.count, sizeof *lengths, &lengths, err));
    FT_TRY(ft_new(classes->classes, sizeof *sums, &sums, err));
    for (size_t c = 0; c < classes->classes; c++) {
        if (classes->count(classes->arg, c) > 0) {
            sums[c] = most_of_class(t, classes, c, shape->items_per_class, lengths);
        }
    }
    qsort(sums, classes->classes, sizeof *sums, descending);
    for (size_t c = 0; c < classes->classes && c < shape->classes_per_batch; c++) {
        *tokens += sums[c];
    }
done:
    ft_free(sums);
    ft_free(lengths);
    return st;
}
