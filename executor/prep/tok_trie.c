#include "executor/prep/tok_trie.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"

enum { BYTES = 256 };

struct builder {
    struct ft_tok_trie *trie;
    const struct ft_tok_key *keys;
    size_t from; /* where the search for room begins: in front of it is hardly any */
    struct ft_err *err;
};

/* A node whose children are still to be placed: keys [begin, end) share its first `depth` bytes. */
struct task {
    size_t begin, end, depth;
    int32_t node;
};

static int by_text(const void *a, const void *b)
{
    const struct ft_tok_key *x = a;
    const struct ft_tok_key *y = b;
    size_t n = x->text.size < y->text.size ? x->text.size : y->text.size;
    int order = n > 0 ? memcmp(x->text.data, y->text.data, n) : 0;
    if (order == 0) {
        order = (x->text.size > y->text.size) - (x->text.size < y->text.size);
    }
    return order != 0 ? order : (x->value > y->value) - (x->value < y->value);
}

static enum ft_status make_room(struct builder *b, size_t need)
{
    struct ft_tok_trie *trie = b->trie;
    if (need > INT32_MAX) {
        return FT_FAIL(b->err, LIMIT, "a vocabulary needs more than 2^31 nodes");
    }
    size_t old = trie->capacity;
    FT_RETURN_IF_FAILED(ft_grow(&trie->nodes, &trie->capacity, need, sizeof *trie->nodes, b->err));
    for (size_t i = old; i < trie->capacity; i++) {
        trie->nodes[i] = (struct ft_tok_node){0, -1, -1};
    }
    return FT_OK;
}

/* The lowest base from b->from on where every child finds a free node. */
static enum ft_status place(struct builder *b, const uint8_t *bytes, size_t count, int32_t *base)
{
    size_t at = b->from;
    size_t taken = 0;
    for (;; at++) {
        FT_RETURN_IF_FAILED(make_room(b, at + 2 * BYTES));
        const struct ft_tok_node *nodes = b->trie->nodes;
        if (nodes[at].parent >= 0 || at == FT_TOK_ROOT) {
            taken++;
            continue;
        }
        if (at < bytes[0]) {
            continue;
        }
        size_t first = at - bytes[0];
        size_t i = 1;
        while (i < count && nodes[first + bytes[i]].parent < 0 && first + bytes[i] != FT_TOK_ROOT) {
            i++;
        }
        if (i == count) {
            *base = (int32_t)first;
            break;
        }
    }
    /* As darts does it: where nearly all is taken nobody looks again. */
    if (at - b->from > 64 && (double)taken >= 0.9 * (double)(at - b->from + 1)) {
        b->from = at;
    }
    return FT_OK;
}

/* Places the children of one node and leaves them on the stack; keys that end here give it its value. */
static enum ft_status expand(struct builder *b, struct task t, bool first_counts, struct task *children,
                             size_t *child_count)
{
    uint8_t bytes[BYTES];
    size_t count = 0;
    size_t i = t.begin;
    for (; i < t.end && b->keys[i].text.size == t.depth; i++) {
        if (!first_counts || b->trie->nodes[t.node].value < 0) {
            b->trie->nodes[t.node].value = b->keys[i].value;
        }
    }
    while (i < t.end) {
        uint8_t c = b->keys[i].text.data[t.depth];
        size_t begin = i;
        while (i < t.end && b->keys[i].text.data[t.depth] == c) {
            i++;
        }
        children[count] = (struct task){begin, i, t.depth + 1, 0};
        bytes[count++] = c;
    }
    *child_count = count;
    if (count == 0) {
        return FT_OK;
    }
    int32_t base = 0;
    FT_RETURN_IF_FAILED(place(b, bytes, count, &base));
    b->trie->nodes[t.node].base = base;
    for (size_t k = 0; k < count; k++) {
        children[k].node = base + bytes[k];
        b->trie->nodes[children[k].node].parent = t.node;
    }
    return FT_OK;
}

enum ft_status ft_tok_trie_build(struct ft_tok_key *keys, size_t count, bool first_counts,
                                 struct ft_tok_trie *trie, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct task *stack = NULL;
    size_t capacity = 0;
    size_t depth = 0;
    struct builder b = {trie, keys, 1, err};
    *trie = (struct ft_tok_trie){0};
    if (count > 1) {
        qsort(keys, count, sizeof *keys, by_text);
    }
    FT_TRY(make_room(&b, 2 * BYTES));
    FT_TRY(ft_grow(&stack, &capacity, 1, sizeof *stack, err));
    stack[depth++] = (struct task){0, count, 0, FT_TOK_ROOT};
    while (depth > 0) {
        size_t added = 0;
        struct task t = stack[--depth];
        FT_TRY(ft_grow(&stack, &capacity, depth + BYTES, sizeof *stack, err));
        FT_TRY(expand(&b, t, first_counts, stack + depth, &added));
        depth += added;
    }
done:
    ft_free(stack);
    if (st != FT_OK) {
        ft_tok_trie_release(trie);
    }
    return st;
}

void ft_tok_trie_release(struct ft_tok_trie *trie)
{
    ft_free(trie->nodes);
    *trie = (struct ft_tok_trie){0};
}

int32_t ft_tok_walk(const struct ft_tok_trie *trie, int32_t node, struct ft_bytes text)
{
    for (size_t i = 0; i < text.size && node >= 0; i++) {
        node = ft_tok_step(trie, node, text.data[i]);
    }
    return node;
}

int32_t ft_tok_find(const struct ft_tok_trie *trie, struct ft_bytes text)
{
    int32_t node = ft_tok_walk(trie, FT_TOK_ROOT, text);
    return node >= 0 ? trie->nodes[node].value : -1;
}
