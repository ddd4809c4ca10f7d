#include "executor/train/sampler.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"

/* Streams below FT_RAND_SAMPLER: bit 55 marks orders of classes, the rest are orders of one class's items. */
#define ROUND_STREAM ((uint64_t)1 << 55)
enum { PASS_BITS = 24 };

/* A cyclic order of `count` things; `order` is the current pass, `used` of it were handed out. */
struct cycle {
    uint32_t *order;
    size_t count, used;
    uint64_t pass;
};

struct ft_sampler {
    struct ft_sampler_shape shape;
    uint64_t seed, position;
    size_t classes;        /* with items */
    int32_t *class_number; /* (classes) in the caller's numbering */
    struct cycle rounds;   /* over 0 .. classes-1 */
    struct cycle *cycles;  /* (classes), over items */
    uint32_t *orders;      /* memory of all cycles' orders */
    uint32_t *start_order; /* (items) as given: what a seek starts from */
    uint32_t *last;        /* (max(P, K)) what the group in hand took from the pass before */
    uint32_t *scratch;     /* (2 * batch) where a seek draws to */
};

/* ---- shape */

static bool divides(size_t batch, size_t k, size_t classes)
{
    return k >= 2 && k <= batch && batch % k == 0 && batch / k >= 2 && batch / k <= classes;
}

/* The divisor of `batch` nearest to `k` that leaves 2 .. classes classes a batch; 0 if there is none. */
static size_t nearest_divisor(size_t batch, size_t k, size_t classes)
{
    for (size_t distance = 0; distance < batch; distance++) {
        if (divides(batch, k + distance, classes)) {
            return k + distance;
        }
        if (distance < k && divides(batch, k - distance, classes)) {
            return k - distance;
        }
    }
    return 0;
}

enum ft_status ft_sampler_fit_shape(const struct ft_sampler_classes *data, size_t batch,
                                    size_t items_per_class, struct ft_sampler_shape *shape,
                                    struct ft_err *err)
{
    size_t classes = 0, longest = 0, items = 0;
    memset(shape, 0, sizeof *shape);
    for (size_t c = 0; c < data->classes; c++) {
        classes += data->counts[c] > 0;
        longest = data->counts[c] > longest ? data->counts[c] : longest;
        items += data->counts[c];
    }
    if (classes < 2) {
        return FT_FAIL(err, INVALID, "a batch needs two classes, the data have %zu", classes);
    }
    if (batch < 4 || items_per_class < 2) {
        return FT_FAIL(err, INVALID,
                       "batch size %zu with %zu items a class: wanted at least 4 and at least 2, so that a "
                       "batch holds two classes with two items",
                       batch, items_per_class);
    }
    size_t k = items_per_class < batch / 2 ? items_per_class : batch / 2;
    size_t p = batch / k;
    if (p > classes) {
        p = classes;
        k = batch / p;
        k = k > longest && longest >= 2 ? longest : k;
    } else if (batch % k != 0 && nearest_divisor(batch, k, classes) != 0) {
        k = nearest_divisor(batch, k, classes);
        p = batch / k;
    }
    shape->classes_per_batch = p;
    shape->items_per_class = k;
    shape->batch = p * k;
    shape->batches_per_epoch = (items + p * k - 1) / (p * k);
    shape->adjusted = k != items_per_class || p * k != batch;
    return FT_OK;
}

/* ---- orders */

static bool contains(const uint32_t *list, size_t count, uint32_t x)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == x) {
            return true;
        }
    }
    return false;
}

/* A fresh order whose first `head` entries are not among `last`; there are enough others. */
static void next_pass(struct cycle *c, struct ft_rand r, const uint32_t *last, size_t n_last, size_t head)
{
    ft_rand_shuffle(r, c->order, c->count);
    c->pass++;
    c->used = 0;
    size_t j = head;
    for (size_t i = 0; i < head && n_last > 0; i++) {
        if (!contains(last, n_last, c->order[i])) {
            continue;
        }
        while (contains(last, n_last, c->order[j])) {
            j++;
        }
        uint32_t t = c->order[i];
        c->order[i] = c->order[j];
        c->order[j++] = t;
    }
}

/* The next `want` of a cycle with at least `want` things, all different. */
static void take(struct cycle *c, uint64_t seed, uint64_t stream, size_t want, uint32_t *last, uint32_t *out)
{
    size_t left = c->count - c->used;
    size_t first = left < want ? left : want;
    memcpy(out, c->order + c->used, first * sizeof *out);
    c->used += first;
    if (first < want) {
        memcpy(last, out, first * sizeof *last);
        next_pass(c, ft_rand_at(seed, FT_RAND_SAMPLER, stream | c->pass), last, first, want - first);
        memcpy(out + first, c->order, (want - first) * sizeof *out);
        c->used = want - first;
    }
}

/* A class shorter than `want`: whole fresh orders one after the other. */
static void take_padded(struct cycle *c, uint64_t seed, uint64_t stream, size_t want, uint32_t *out)
{
    for (size_t done = 0; done < want; done += c->used) {
        next_pass(c, ft_rand_at(seed, FT_RAND_SAMPLER, stream | c->pass), NULL, 0, 0);
        c->used = want - done < c->count ? want - done : c->count;
        memcpy(out + done, c->order, c->used * sizeof *out);
    }
}

static void take_items(struct ft_sampler *s, size_t c, uint32_t *out)
{
    struct cycle *cycle = &s->cycles[c];
    uint64_t stream = (uint64_t)c << PASS_BITS;
    assert(cycle->pass < (uint64_t)1 << PASS_BITS);
    if (cycle->count < s->shape.items_per_class) {
        take_padded(cycle, s->seed, stream, s->shape.items_per_class, out);
    } else {
        take(cycle, s->seed, stream, s->shape.items_per_class, s->last, out);
    }
}

void ft_sampler_next(struct ft_sampler *s, uint32_t *items, int32_t *classes)
{
    size_t p = s->shape.classes_per_batch, k = s->shape.items_per_class;
    /* The classes of this batch stand at the end of `items` until their items overwrite them from the front:
     * class i is read before any item at its place is written. */
    uint32_t *chosen = items + p * k - p;
    take(&s->rounds, s->seed, ROUND_STREAM, p, s->last, chosen);
    for (size_t i = 0; i < p; i++) {
        size_t c = chosen[i];
        take_items(s, c, items + i * k);
        for (size_t j = 0; j < k; j++) {
            classes[i * k + j] = s->class_number[c];
        }
    }
    s->position++;
}

/* ---- life */

/* As before the first draw: passes are "used up", so that the first draw shuffles. */
static void rewind_all(struct ft_sampler *s)
{
    size_t at = 0;
    s->position = 0;
    s->rounds.pass = 0;
    s->rounds.used = s->classes;
    for (size_t c = 0; c < s->classes; c++) {
        s->rounds.order[c] = (uint32_t)c;
        struct cycle *cycle = &s->cycles[c];
        memcpy(cycle->order, s->start_order + at, cycle->count * sizeof *cycle->order);
        cycle->pass = 0;
        cycle->used = cycle->count;
        at += cycle->count;
    }
}

static enum ft_status fill(struct ft_sampler *s, const struct ft_sampler_classes *data, struct ft_err *err)
{
    size_t items = 0;
    for (size_t c = 0; c < data->classes; c++) {
        s->classes += data->counts[c] > 0;
        items += data->counts[c];
    }
    size_t p = s->shape.classes_per_batch, k = s->shape.items_per_class;
    FT_RETURN_IF_FAILED(ft_new(s->classes, sizeof *s->class_number, &s->class_number, err));
    FT_RETURN_IF_FAILED(ft_new(s->classes, sizeof *s->cycles, &s->cycles, err));
    FT_RETURN_IF_FAILED(ft_new(s->classes + items, sizeof *s->orders, &s->orders, err));
    FT_RETURN_IF_FAILED(ft_new(items, sizeof *s->start_order, &s->start_order, err));
    FT_RETURN_IF_FAILED(ft_new(p > k ? p : k, sizeof *s->last, &s->last, err));
    FT_RETURN_IF_FAILED(ft_new(2 * s->shape.batch, sizeof *s->scratch, &s->scratch, err));
    s->rounds.order = s->orders;
    s->rounds.count = s->classes;
    size_t at = 0, used = 0;
    for (size_t c = 0; c < data->classes; c++) {
        if (data->counts[c] == 0) {
            continue;
        }
        s->class_number[used] = (int32_t)c;
        s->cycles[used].order = s->orders + s->classes + at;
        s->cycles[used].count = data->counts[c];
        memcpy(s->start_order + at, data->items[c], data->counts[c] * sizeof *s->start_order);
        at += data->counts[c];
        used++;
    }
    rewind_all(s);
    return FT_OK;
}

enum ft_status ft_sampler_new(const struct ft_sampler_classes *data, const struct ft_sampler_shape *shape,
                              uint64_t seed, struct ft_sampler **sampler, struct ft_err *err)
{
    struct ft_sampler *s = NULL;
    *sampler = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    s->shape = *shape;
    s->seed = seed;
    enum ft_status st = fill(s, data, err);
    if (st != FT_OK) {
        ft_sampler_free(s);
        return st;
    }
    assert(s->classes >= shape->classes_per_batch);
    *sampler = s;
    return FT_OK;
}

void ft_sampler_free(struct ft_sampler *s)
{
    if (s == NULL) {
        return;
    }
    ft_free(s->class_number);
    ft_free(s->cycles);
    ft_free(s->orders);
    ft_free(s->start_order);
    ft_free(s->last);
    ft_free(s->scratch);
    ft_free(s);
}

uint64_t ft_sampler_position(const struct ft_sampler *s)
{
    return s->position;
}

void ft_sampler_seek(struct ft_sampler *s, uint64_t position)
{
    if (position < s->position) {
        rewind_all(s);
    }
    while (s->position < position) {
        ft_sampler_next(s, s->scratch, (int32_t *)(s->scratch + s->shape.batch));
    }
}
