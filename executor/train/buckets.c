#include "executor/train/buckets.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"

enum { PLANS = 24 };

struct entry {
    int64_t symbols[FT_MAX_SYMBOLS];
    struct ft_plan *plan; /* NULL: free */
    uint64_t used;        /* clock of the last use */
};

struct ft_buckets {
    struct ft_buckets_spec spec;
    ft_value *wanted;
    struct entry entries[PLANS];
    struct entry *last;
    uint64_t clock;
    bool shared; /* the plan of entry 0 is the largest, has the memory and stays */
};

int64_t ft_bucket_tokens(int64_t n)
{
    enum { TILE = 6, SHORT = 48, LEAST = 16, PARTS = 16 };
    int64_t step = LEAST;
    assert(n >= 1);
    if (n <= SHORT) {
        return (n + TILE - 1) / TILE * TILE;
    }
    while (2 * step * PARTS < n) {
        step *= 2;
    }
    return (n + step - 1) / step * step;
}

int64_t ft_bucket_rows(int64_t n, int64_t most)
{
    int64_t rows = 1;
    assert(n >= 1 && n <= most);
    while (rows < n) {
        rows *= 2;
    }
    return rows < most ? rows : most;
}

static enum ft_status make(struct ft_buckets *b, const int64_t symbols[FT_MAX_SYMBOLS], struct entry *entry,
                           struct ft_err *err)
{
    struct ft_plan *plan = NULL;
    struct ft_plan_spec spec = {.wanted = b->wanted, .n_wanted = b->spec.n_wanted};
    memcpy(spec.symbols, symbols, sizeof spec.symbols);
    spec.like = b->shared ? b->entries[0].plan : NULL; /* NULL while it is made itself */
    ft_plan_free(entry->plan);
    memset(entry, 0, sizeof *entry);
    FT_RETURN_IF_FAILED(ft_plan_new(b->spec.device, b->spec.graph, &spec, &plan, err));
    enum ft_status st = b->spec.bind(b->spec.arg, plan, err);
    if (st != FT_OK) {
        ft_plan_free(plan);
        return st;
    }
    memcpy(entry->symbols, symbols, sizeof entry->symbols);
    entry->plan = plan;
    return FT_OK;
}

enum ft_status ft_buckets_new(const struct ft_buckets_spec *spec, struct ft_buckets **buckets,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buckets *b = NULL;
    *buckets = NULL;
    FT_TRY(ft_new(1, sizeof *b, &b, err));
    FT_TRY(ft_new((size_t)spec->n_wanted, sizeof *b->wanted, &b->wanted, err));
    memcpy(b->wanted, spec->wanted, (size_t)spec->n_wanted * sizeof *b->wanted);
    b->spec = *spec;
    b->spec.wanted = b->wanted;
    if (spec->largest != NULL) {
        b->shared = true;
        FT_TRY(make(b, spec->largest, &b->entries[0], err));
    }
    *buckets = b;
    b = NULL;
done:
    ft_buckets_free(b);
    return st;
}

void ft_buckets_free(struct ft_buckets *b)
{
    if (b == NULL) {
        return;
    }
    for (int i = PLANS - 1; i >= 0; i--) { /* the first has the memory of the others */
        ft_plan_free(b->entries[i].plan);
    }
    ft_free(b->wanted);
    ft_free(b);
}

enum ft_status ft_buckets_find(struct ft_buckets *b, const int64_t symbols[FT_MAX_SYMBOLS],
                               struct ft_plan **plan, struct ft_err *err)
{
    struct entry *place = &b->entries[b->shared ? 1 : 0];
    *plan = NULL;
    for (int i = 0; i < PLANS; i++) {
        struct entry *e = &b->entries[i];
        if (e->plan != NULL && memcmp(e->symbols, symbols, sizeof e->symbols) == 0) {
            place = e;
            break;
        }
        bool stays = b->shared && i == 0;
        place = !stays && e->used < place->used ? e : place; /* 0 where there is no plan */
    }
    if (place->plan == NULL || memcmp(place->symbols, symbols, sizeof place->symbols) != 0) {
        b->last = NULL;
        FT_RETURN_IF_FAILED(make(b, symbols, place, err));
    }
    place->used = ++b->clock;
    b->last = place;
    *plan = place->plan;
    return FT_OK;
}

struct ft_plan *ft_buckets_last(const struct ft_buckets *b)
{
    return b->last != NULL ? b->last->plan : NULL;
}
