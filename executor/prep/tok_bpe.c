/* Byte pair encoding: the pair of the lowest rank first, from left to right among equals. */
#include "executor/prep/tok.h"

#include <string.h>

#include "executor/base/alloc.h"

enum { LINEAR_MAX = 48 }; /* symbols up to which looking at all of them beats a heap */

static inline const struct ft_tok_merge *merge_of(const struct ft_tok_model *m, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)((pair * 0x9e3779b97f4a7c15u) >> 20) & m->merge_mask;
    while (m->merges[at].pair != pair) {
        if (m->merges[at].pair == FT_TOK_NO_PAIR) {
            return NULL;
        }
        at = (at + 1) & m->merge_mask;
    }
    return m->merges + at;
}

/* ---- symbols of a word ---- */

struct symbols {
    const struct ft_tok_model *m;
    struct ft_tok_scratch *s;
    size_t count;
    bool unknown; /* one is waiting to be added */
    struct ft_err *err;
};

static enum ft_status add(struct symbols *y, int32_t id)
{
    struct ft_tok_scratch *s = y->s;
    if (y->count == s->symbol_capacity) {
        FT_RETURN_IF_FAILED(
            ft_grow(&s->symbols, &s->symbol_capacity, y->count + 1, sizeof *s->symbols, y->err));
    }
    s->symbols[y->count++].id = id;
    return FT_OK;
}

static enum ft_status add_waiting(struct symbols *y)
{
    bool unknown = y->unknown;
    y->unknown = false;
    return unknown ? add(y, y->m->unk) : FT_OK;
}

/* Without an unknown token what is unknown is left out. */
static enum ft_status add_unknown(struct symbols *y)
{
    if (y->m->unk < 0) {
        return FT_OK;
    }
    if (!y->m->fuse_unk) {
        FT_RETURN_IF_FAILED(add_waiting(y));
    }
    y->unknown = true;
    return FT_OK;
}

/* Every byte of the character by a token of its own; false: one has none. */
static bool has_bytes(const struct ft_tok_model *m, struct ft_bytes c)
{
    for (size_t i = 0; i < c.size; i++) {
        if (m->byte_ids[c.data[i]] < 0) {
            return false;
        }
    }
    return true;
}

static enum ft_status add_character(struct symbols *y, struct ft_bytes c, bool first, bool last)
{
    const struct ft_tok_model *m = y->m;
    int32_t node = first ? FT_TOK_ROOT : m->continuing;
    node = ft_tok_walk(&m->vocab, node, c);
    node = last && m->suffix.size > 0 ? ft_tok_walk(&m->vocab, node, m->suffix) : node;
    int32_t id = node >= 0 ? m->vocab.nodes[node].value : -1;
    if (id >= 0) {
        FT_RETURN_IF_FAILED(add_waiting(y));
        return add(y, id);
    }
    /* tokenizers falls back to the bytes of prefix and suffix as well; files with both do not exist, and are
     * refused. One that waits comes behind them: theirs does too. */
    if (m->byte_fallback && has_bytes(m, c)) {
        for (size_t i = 0; i < c.size; i++) {
            FT_RETURN_IF_FAILED(add(y, m->byte_ids[c.data[i]]));
        }
        return FT_OK;
    }
    return add_unknown(y);
}

static enum ft_status add_all(struct symbols *y, struct ft_bytes word)
{
    if (y->m->raw_bytes) {
        for (size_t i = 0; i < word.size; i++) {
            int32_t id = y->m->byte_ids[word.data[i]];
            if (id >= 0) {
                FT_RETURN_IF_FAILED(add_waiting(y));
            }
            FT_RETURN_IF_FAILED(id >= 0 ? add(y, id) : add_unknown(y));
        }
        return add_waiting(y);
    }
    size_t n = 0;
    for (size_t at = 0; at < word.size; at += n) {
        (void)ft_tok_point(word.data + at, &n);
        FT_RETURN_IF_FAILED(add_character(y, ft_bytes_of(word.data + at, n), at == 0, at + n == word.size));
    }
    return add_waiting(y);
}

/* ---- merging a few ---- */

/* symbols[i].next holds the rank of the pair (i, i + 1) and .previous what it becomes. */
static void rate(const struct ft_tok_model *m, struct ft_tok_symbol *at, size_t i, size_t count)
{
    const struct ft_tok_merge *merge = i + 1 < count ? merge_of(m, at[i].id, at[i + 1].id) : NULL;
    at[i].next = merge != NULL ? (int32_t)merge->rank : INT32_MAX;
    at[i].previous = merge != NULL ? merge->id : -1;
}

static size_t merge_few(const struct ft_tok_model *m, struct ft_tok_symbol *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        rate(m, at, i, count);
    }
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++) {
            best = at[i].next < at[best].next ? i : best;
        }
        if (count == 0 || at[best].next == INT32_MAX) {
            return count;
        }
        at[best].id = at[best].previous;
        memmove(at + best + 1, at + best + 2, (count - best - 2) * sizeof *at);
        count--;
        rate(m, at, best, count);
        if (best > 0) {
            rate(m, at, best - 1, count);
        }
    }
}

/* ---- merging many ---- */

static enum ft_status heap_push(struct ft_tok_scratch *s, uint64_t key, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grow(&s->heap, &s->heap_capacity, s->heap_count + 1, sizeof *s->heap, err));
    size_t i = s->heap_count++;
    while (i > 0 && s->heap[(i - 1) / 2] > key) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = key;
    return FT_OK;
}

static uint64_t heap_pop(struct ft_tok_scratch *s)
{
    uint64_t top = s->heap[0];
    uint64_t last = s->heap[--s->heap_count];
    size_t i = 0;
    for (size_t child = 1; child < s->heap_count; child = 2 * i + 1) {
        if (child + 1 < s->heap_count && s->heap[child + 1] < s->heap[child]) {
            child++;
        }
        if (s->heap[child] >= last) {
            break;
        }
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

static const struct ft_tok_merge *pair_at(const struct ft_tok_model *m, const struct ft_tok_symbol *at,
                                          int32_t i)
{
    return i >= 0 && at[i].id >= 0 && at[i].next >= 0 ? merge_of(m, at[i].id, at[at[i].next].id) : NULL;
}

static enum ft_status push_pair(const struct ft_tok_model *m, struct ft_tok_scratch *s, int32_t i,
                                struct ft_err *err)
{
    const struct ft_tok_merge *merge = pair_at(m, s->symbols, i);
    return merge != NULL ? heap_push(s, (uint64_t)merge->rank << 32 | (uint32_t)i, err) : FT_OK;
}

static enum ft_status merge_many(const struct ft_tok_model *m, struct ft_tok_scratch *s, size_t *count,
                                 struct ft_err *err)
{
    struct ft_tok_symbol *at = s->symbols;
    s->heap_count = 0;
    for (size_t i = 0; i < *count; i++) {
        at[i].previous = (int32_t)i - 1;
        at[i].next = i + 1 < *count ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < *count; i++) {
        FT_RETURN_IF_FAILED(push_pair(m, s, (int32_t)i, err));
    }
    while (s->heap_count > 0) {
        uint64_t key = heap_pop(s);
        int32_t i = (int32_t)(uint32_t)key;
        const struct ft_tok_merge *merge = pair_at(m, at, i);
        if (merge == NULL || merge->rank != key >> 32) {
            continue; /* merged with a neighbour meanwhile */
        }
        int32_t gone = at[i].next;
        at[i].id = merge->id;
        at[i].next = at[gone].next;
        at[gone].id = -1;
        if (at[i].next >= 0) {
            at[at[i].next].previous = i;
        }
        FT_RETURN_IF_FAILED(push_pair(m, s, i, err));
        FT_RETURN_IF_FAILED(push_pair(m, s, at[i].previous, err));
    }
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (at[i].id >= 0) {
            at[kept++].id = at[i].id;
        }
    }
    *count = kept;
    return FT_OK;
}

enum ft_status ft_tok_bpe(const struct ft_tok_model *m, struct ft_bytes word, struct ft_tok_scratch *s,
                          struct ft_tokens *out, struct ft_err *err)
{
    if (m->ignore_merges) {
        int32_t id = ft_tok_find(&m->vocab, word);
        if (id >= 0) {
            return ft_tok_push(out, id, err);
        }
    }
    if (word.size > INT32_MAX) {
        return FT_FAIL(err, LIMIT, "a word of %zu bytes", word.size);
    }
    struct symbols y = {.m = m, .s = s, .err = err};
    FT_RETURN_IF_FAILED(add_all(&y, word));
    size_t count = y.count;
    if (count <= LINEAR_MAX) {
        count = merge_few(m, s->symbols, count);
    } else {
        FT_RETURN_IF_FAILED(merge_many(m, s, &count, err));
    }
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(ft_tok_push(out, s->symbols[i].id, err));
    }
    return FT_OK;
}
