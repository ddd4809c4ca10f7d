#include "executor/train/sampler.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"

/* Streams below FT_RAND_SAMPLER: bit 55 marks orders of classes, the rest are orders of one class's items. */
#define ROUND_STREAM ((uint64_t)1 << 55)
enum {
    PASS_BITS = 24,
    SMALL = 64, /* orders of at most so many things are shuffled whole; longer ones are computed by place */
    ROUNDS = 6  /* of the Feistel network */
};

/* Something gone through again and again, `want` at a time: pass 0, 1, 2 ..., each in an order of its own.
 * Draws do not care where a pass ends; what a draw takes from the pass that begins differs from what it took
 * of the one before. */
struct cycle {
    uint64_t seed;
    uint64_t stream; /* | pass */
    size_t count;
    size_t want; /* <= count */
};

struct ft_sampler {
    struct ft_sampler_shape shape;
    uint64_t seed, position;
    struct ft_sampler_classes data;
    size_t classes;        /* with items */
    int32_t *class_number; /* (classes) in the caller's numbering; NULL: all have items */
    uint32_t *order;       /* (max(SMALL, 3 max(P, K))) one pass of something small */
    uint32_t *last;        /* (max(P, K)) what a draw took from the pass before */
    uint32_t *head;        /* (2 max(P, K)) how a pass of something large begins */
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
        size_t count = data->count(data->arg, c);
        classes += count > 0;
        longest = count > longest ? count : longest;
        items += count;
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

/* ---- orders

 * The order of a pass is a random one, but for its beginning: entries that the draw across the boundary has
 * just taken from the pass before are exchanged for later ones. At most want - 1 entries are, with places
 * below 2 want, so with at least 3 want things the end of every pass is as it was drawn, and the beginning of
 * the next follows from it. With fewer, what one pass ends with depends on the one before it, back to a pass
 * that begins with a draw: at most `want` passes. */

static struct ft_rand rand_of(const struct cycle *c, uint64_t pass)
{
    assert(pass < (uint64_t)1 << PASS_BITS);
    return ft_rand_at(c->seed, FT_RAND_SAMPLER, c->stream | pass);
}

static bool contains(const uint32_t *list, size_t count, uint32_t x)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == x) {
            return true;
        }
    }
    return false;
}

/* Of `order` none of the first `head` entries stays that is among `last`; behind them are enough others. */
static void part_from(const uint32_t *last, size_t n_last, uint32_t *order, size_t head)
{
    size_t j = head;
    for (size_t i = 0; i < head; i++) {
        if (!contains(last, n_last, order[i])) {
            continue;
        }
        while (contains(last, n_last, order[j])) {
            j++;
        }
        uint32_t t = order[i];
        order[i] = order[j];
        order[j++] = t;
    }
}

/* How many of the draw that goes over the start of `pass` come from the pass before. */
static size_t before(const struct cycle *c, uint64_t pass)
{
    return (size_t)(pass * c->count % c->want);
}

static void shuffled(const struct cycle *c, uint64_t pass, uint32_t *order)
{
    for (size_t i = 0; i < c->count; i++) {
        order[i] = (uint32_t)i;
    }
    ft_rand_shuffle(rand_of(c, pass), order, c->count);
}

/* From the order of the pass before, in `order`, to that of `pass`. */
static void next_order(const struct cycle *c, uint64_t pass, uint32_t *last, uint32_t *order)
{
    size_t first = before(c, pass);
    memcpy(last, order + c->count - first, first * sizeof *last);
    shuffled(c, pass, order);
    if (first > 0) {
        part_from(last, first, order, c->want - first);
    }
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static void small_order(const struct cycle *c, uint64_t pass, uint32_t *last, uint32_t *order)
{
    uint64_t period = c->want / gcd(c->count, c->want);
    uint64_t from = c->count < 3 * c->want ? pass - pass % period : pass - (pass > 0 ? 1 : 0);
    shuffled(c, from, order);
    while (from < pass) {
        next_order(c, ++from, last, order);
    }
}

/* ---- long orders, by place: a Feistel network over 2h bits, walked until it lands below `count` (Black and
 * Rogaway, Ciphers with Arbitrary Finite Domains, 2002) */

struct feistel {
    uint32_t keys[ROUNDS];
    unsigned half; /* bits */
    size_t count;
};

static struct feistel feistel_of(const struct cycle *c, uint64_t pass)
{
    struct feistel f = {.half = 1, .count = c->count};
    uint32_t words[8];
    ft_rand_block(rand_of(c, pass), 0, words);
    ft_rand_block(rand_of(c, pass), 1, words + 4);
    memcpy(f.keys, words, sizeof f.keys);
    while (((uint64_t)1 << (2 * f.half)) < c->count) {
        f.half++;
    }
    return f;
}

static uint32_t mixed(uint32_t x, uint32_t key)
{
    uint64_t h = ((uint64_t)key << 32 | x) * 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return (uint32_t)(h >> 32);
}

static uint32_t place(const struct feistel *f, size_t i)
{
    uint32_t mask = ((uint32_t)1 << f->half) - 1;
    uint64_t x = i;
    do {
        uint32_t left = (uint32_t)(x >> f->half);
        uint32_t right = (uint32_t)x & mask;
        for (int k = 0; k < ROUNDS; k++) {
            uint32_t t = left ^ (mixed(right, f->keys[k]) & mask);
            left = right;
            right = t;
        }
        x = (uint64_t)left << f->half | right;
    } while (x >= f->count);
    return (uint32_t)x;
}

/* Entries from .. from + n - 1 of a pass. */
static void large_entries(const struct ft_sampler *s, const struct cycle *c, uint64_t pass, size_t from,
                          size_t n, uint32_t *out)
{
    struct feistel f = feistel_of(c, pass);
    size_t first = before(c, pass);
    size_t i = 0;
    if (first > 0 && from < 2 * c->want) {
        struct feistel old = feistel_of(c, pass - 1);
        for (size_t k = 0; k < first; k++) {
            s->last[k] = place(&old, c->count - first + k);
        }
        for (size_t k = 0; k < 2 * c->want; k++) {
            s->head[k] = place(&f, k);
        }
        part_from(s->last, first, s->head, c->want - first);
        for (; i < n && from + i < 2 * c->want; i++) {
            out[i] = s->head[from + i];
        }
    }
    for (; i < n; i++) {
        out[i] = place(&f, from + i);
    }
}

/* Draw number `draw` of a cycle: `want` things, all different. */
static void take(const struct ft_sampler *s, const struct cycle *c, uint64_t draw, uint32_t *out)
{
    uint64_t at = draw * c->want;
    uint64_t pass = at / c->count;
    size_t from = (size_t)(at % c->count);
    size_t n = c->count - from < c->want ? c->count - from : c->want;
    if (c->count > SMALL && c->count >= 3 * c->want) {
        large_entries(s, c, pass, from, n, out);
        if (n < c->want) {
            large_entries(s, c, pass + 1, 0, c->want - n, out + n);
        }
        return;
    }
    small_order(c, pass, s->last, s->order);
    memcpy(out, s->order + from, n * sizeof *out);
    if (n < c->want) {
        next_order(c, pass + 1, s->last, s->order);
        memcpy(out + n, s->order, (c->want - n) * sizeof *out);
    }
}

/* A class shorter than K: whole fresh orders one after the other. */
static void take_padded(const struct ft_sampler *s, const struct cycle *c, uint64_t visit, uint32_t *out)
{
    size_t k = s->shape.items_per_class;
    uint64_t pass = visit * ((k + c->count - 1) / c->count);
    for (size_t done = 0; done < k; done += c->count) {
        size_t n = k - done < c->count ? k - done : c->count;
        shuffled(c, pass++, s->order);
        memcpy(out + done, s->order, n * sizeof *out);
    }
}

/* What visit number `visit` of a class shows. */
static void take_items(const struct ft_sampler *s, size_t c, uint64_t visit, uint32_t *out)
{
    size_t k = s->shape.items_per_class;
    const struct ft_sampler_classes *data = &s->data;
    size_t count = data->count(data->arg, c);
    struct cycle cycle = {s->seed, (uint64_t)c << PASS_BITS, count, k < count ? k : count};
    if (count < k) {
        take_padded(s, &cycle, visit, out);
    } else {
        take(s, &cycle, visit, out);
    }
    for (size_t j = 0; j < k; j++) {
        out[j] = data->item(data->arg, c, out[j]);
    }
}

void ft_sampler_next(struct ft_sampler *s, uint32_t *items, int32_t *classes)
{
    size_t p = s->shape.classes_per_batch, k = s->shape.items_per_class;
    const struct cycle rounds = {s->seed, ROUND_STREAM, s->classes, p};
    /* The classes of this batch stand at the end of `items` until their items overwrite them from the front:
     * class i is read before any item at its place is written. */
    uint32_t *chosen = items + p * k - p;
    take(s, &rounds, s->position, chosen);
    for (size_t i = 0; i < p; i++) {
        size_t c = s->class_number != NULL ? (size_t)s->class_number[chosen[i]] : chosen[i];
        /* A round shows each class once, so a class's visits are counted by rounds. */
        take_items(s, c, (s->position * p + i) / s->classes, items + i * k);
        for (size_t j = 0; j < k; j++) {
            classes[i * k + j] = (int32_t)c;
        }
    }
    s->position++;
}

/* ---- life */

static size_t class_count(const void *dataset, size_t c)
{
    return ft_dataset_class_count(dataset, c);
}

static uint32_t class_item(const void *dataset, size_t c, size_t k)
{
    return ft_dataset_class_item(dataset, c, k);
}

struct ft_sampler_classes ft_sampler_classes_of(const struct ft_dataset *dataset)
{
    return (struct ft_sampler_classes){ft_dataset_classes(dataset), class_count, class_item, dataset};
}

static enum ft_status number_classes(struct ft_sampler *s, struct ft_err *err)
{
    const struct ft_sampler_classes *data = &s->data;
    for (size_t c = 0; c < data->classes; c++) {
        s->classes += data->count(data->arg, c) > 0;
    }
    if (s->classes == data->classes) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_new(s->classes, sizeof *s->class_number, &s->class_number, err));
    size_t used = 0;
    for (size_t c = 0; c < data->classes; c++) {
        if (data->count(data->arg, c) > 0) {
            s->class_number[used++] = (int32_t)c;
        }
    }
    return FT_OK;
}

static enum ft_status fill(struct ft_sampler *s, struct ft_err *err)
{
    size_t p = s->shape.classes_per_batch, k = s->shape.items_per_class;
    size_t most = p > k ? p : k;
    FT_RETURN_IF_FAILED(number_classes(s, err));
    FT_RETURN_IF_FAILED(ft_new(3 * most > SMALL ? 3 * most : SMALL, sizeof *s->order, &s->order, err));
    FT_RETURN_IF_FAILED(ft_new(most, sizeof *s->last, &s->last, err));
    return ft_new(2 * most, sizeof *s->head, &s->head, err);
}

enum ft_status ft_sampler_new(const struct ft_sampler_classes *data, const struct ft_sampler_shape *shape,
                              uint64_t seed, struct ft_sampler **sampler, struct ft_err *err)
{
    struct ft_sampler *s = NULL;
    *sampler = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    s->shape = *shape;
    s->seed = seed;
    s->data = *data;
    enum ft_status st = fill(s, err);
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
    ft_free(s->order);
    ft_free(s->last);
    ft_free(s->head);
    ft_free(s);
}

uint64_t ft_sampler_position(const struct ft_sampler *s)
{
    return s->position;
}

void ft_sampler_seek(struct ft_sampler *s, uint64_t position)
{
    s->position = position;
}
