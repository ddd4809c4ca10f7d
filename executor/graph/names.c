#include "executor/graph/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SLOT_EMPTY = -1, SLOT_GONE = -2, FIRST_SLOTS = 64, NAME_MARGIN = 48 };

/* FNV-1a, 64 bit: names are not chosen by an adversary who gains anything from collisions; the graph's size
 * is limited before. */
static uint64_t hash_of(const char *name)
{
    uint64_t h = 0xcbf29ce484222325ULL;
    for (const char *p = name; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * 0x100000001b3ULL;
    }
    return h ^ h >> 32;
}

/* The slot of `name`, or the slot where its probing ended (empty). The table has at least one empty slot. */
static size_t probe(const struct ft_graph *g, const char *name)
{
    const struct ft_graph_names *n = &g->names;
    size_t mask = n->count - 1;
    size_t i = (size_t)hash_of(name) & mask;
    while (n->slots[i] != SLOT_EMPTY) {
        if (n->slots[i] >= 0 && strcmp(g->values[n->slots[i]]->name, name) == 0) {
            break;
        }
        i = (i + 1) & mask;
    }
    return i;
}

ft_value ft_graph_find(const struct ft_graph *g, const char *name)
{
    if (g->names.count == 0) {
        return FT_NO_VALUE;
    }
    ft_value v = g->names.slots[probe(g, name)];
    return v >= 0 ? v : FT_NO_VALUE;
}

static void insert(struct ft_graph *g, ft_value v)
{
    size_t i = probe(g, g->values[v]->name);
    assert(g->names.slots[i] == SLOT_EMPTY);
    g->names.slots[i] = v;
    g->names.used++;
}

enum ft_status ft_names_reserve(struct ft_graph *g, size_t extra, struct ft_err *err)
{
    struct ft_graph_names *n = &g->names;
    if (n->used + extra < n->count / 2) {
        return FT_OK;
    }
    size_t live = g->n_values + extra;
    size_t count = FIRST_SLOTS;
    while (count / 4 < live) {
        count *= 2;
    }
    ft_value *slots = NULL;
    FT_RETURN_IF_FAILED(ft_new(count, sizeof *slots, &slots, err));
    for (size_t i = 0; i < count; i++) {
        slots[i] = SLOT_EMPTY;
    }
    ft_value *old = n->slots;
    size_t old_count = n->count;
    n->slots = slots;
    n->count = count;
    n->used = 0;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i] >= 0) {
            insert(g, old[i]);
        }
    }
    ft_free(old);
    return FT_OK;
}

void ft_names_insert(struct ft_graph *g, ft_value v)
{
    insert(g, v);
}

void ft_names_remove(struct ft_graph *g, ft_value v)
{
    size_t i = probe(g, g->values[v]->name);
    assert(g->names.slots[i] == v);
    g->names.slots[i] = SLOT_GONE;
}

enum ft_status ft_names_fresh(struct ft_graph *g, const char *stem, ft_value v, const char **name,
                              struct ft_err *err)
{
    char *text = NULL;
    size_t size = strlen(stem) + NAME_MARGIN;
    *name = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&g->arena, size, 1, &text, err));
    (void)snprintf(text, size, "%s_%" PRId32, stem, v);
    while (ft_graph_find(g, text) != FT_NO_VALUE) {
        (void)snprintf(text, size, "%s_%" PRId32 "_%" PRIu64, stem, v, ++g->names.next_suffix);
    }
    *name = text;
    return FT_OK;
}

enum ft_status ft_names_claim(struct ft_graph *g, const char *name, ft_value v, struct ft_err *err)
{
    ft_value holder = ft_graph_find(g, name);
    if (holder == FT_NO_VALUE || holder == v) {
        return FT_OK;
    }
    struct ft_graph_value *value = g->values[holder];
    if (!value->auto_named) {
        return FT_FAIL(err, EXISTS, "the graph has a value named '%.200s' already", name);
    }
    const char *other = NULL;
    FT_RETURN_IF_FAILED(ft_names_reserve(g, 1, err));
    FT_RETURN_IF_FAILED(ft_names_fresh(g, name, holder, &other, err));
    ft_names_remove(g, holder);
    value->name = other;
    ft_names_insert(g, holder);
    return FT_OK;
}
