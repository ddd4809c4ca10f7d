/*
 * tok_trie.h - byte strings to numbers, found by walking: a double array. Private to prep/.
 *
 * One walk finds the longest or every string that a text begins with. Thread-safety: a built trie is only
 * read.
 */
#ifndef FT_PREP_TOK_TRIE_H
#define FT_PREP_TOK_TRIE_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

struct ft_tok_trie {
    struct ft_tok_node {
        int32_t base;   /* a child by byte c is node base + c, if its parent says so */
        int32_t parent; /* -1: free */
        int32_t value;  /* -1: no string ends here */
    } * nodes;
    size_t capacity; /* every base + 255 is below it */
};

struct ft_tok_key {
    struct ft_bytes text; /* borrowed while building */
    int32_t value;        /* >= 0 */
};

/* Keys are sorted in place; of equal ones the last counts, or the first. FT_LIMIT beyond 2^31 nodes. */
FT_MUST_CHECK enum ft_status ft_tok_trie_build(struct ft_tok_key *keys, size_t count, bool first_counts,
                                               struct ft_tok_trie *trie, struct ft_err *err);
void ft_tok_trie_release(struct ft_tok_trie *trie);

enum { FT_TOK_ROOT = 0, FT_TOK_NOWHERE = -1 };

static inline int32_t ft_tok_step(const struct ft_tok_trie *trie, int32_t node, uint8_t byte)
{
    int32_t child = trie->nodes[node].base + byte;
    return trie->nodes[child].parent == node ? child : FT_TOK_NOWHERE;
}

/* The node that a string leads to, or FT_TOK_NOWHERE. */
int32_t ft_tok_walk(const struct ft_tok_trie *trie, int32_t node, struct ft_bytes text);
/* The value of exactly this string; -1: none. */
int32_t ft_tok_find(const struct ft_tok_trie *trie, struct ft_bytes text);
#endif
