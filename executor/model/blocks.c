#include "executor/model/blocks.h"

#include <stdbool.h>
#include <string.h>

/* What the number stands behind. */
static bool is_list(const char *word, size_t size)
{
    static const char *const words[] = {"layer", "layers", "block", "blocks", "h", "albert_layer_groups"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == size && memcmp(words[i], word, size) == 0) {
            return true;
        }
    }
    return false;
}

int ft_block_of(const char *name)
{
    static const char separators[] = "./";
    enum { DIGITS = 5 };
    while (*name != '\0') {
        size_t size = strcspn(name, separators);
        const char *next = name + size + (name[size] != '\0');
        size_t digits = strspn(next, "0123456789");
        bool number =
            digits > 0 && digits <= DIGITS && (next[digits] == '\0' || strchr(separators, next[digits]));
        if (is_list(name, size) && number) {
            int block = 0;
            for (size_t i = 0; i < digits; i++) {
                block = 10 * block + (next[i] - '0');
            }
            return block;
        }
        name = next;
    }
    return -1;
}

/* The block of the first node that reads each parameter whose own name says nothing. */
static void ask_readers(const struct ft_graph *g, int *depth)
{
    for (int n = ft_graph_nodes(g) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(g, n);
        for (int i = 0; i < node->n_in; i++) {
            int p = ft_graph_param_of(g, node->in[i]);
            if (p >= 0 && ft_block_of(ft_graph_name(g, node->in[i])) < 0) {
                depth[p] = ft_block_of(node->origin) + 1;
            }
        }
    }
}

static bool reads_block(const struct ft_graph *g, const struct ft_node *node, const int *depth)
{
    for (int i = 0; i < node->n_in; i++) {
        int p = ft_graph_param_of(g, node->in[i]);
        if (p >= 0 && depth[p] > 0) {
            return true;
        }
    }
    return false;
}

/* Of what is of no block: depth 0 if it is read before the first of them, else behind the last. */
static void place_others(const struct ft_graph *g, int behind, int *depth)
{
    int first = 0;
    while (first < ft_graph_nodes(g) && !reads_block(g, ft_graph_node(g, first), depth)) {
        first++;
    }
    for (int n = ft_graph_nodes(g) - 1; n >= 0; n--) { /* the earliest reader has the last word */
        const struct ft_node *node = ft_graph_node(g, n);
        for (int i = 0; i < node->n_in; i++) {
            int p = ft_graph_param_of(g, node->in[i]);
            if (p >= 0 && (depth[p] == 0 || depth[p] == behind)) {
                depth[p] = n < first ? 0 : behind;
            }
        }
    }
}

int ft_block_depths(const struct ft_graph *g, int *depth)
{
    int blocks = 0;
    int params = ft_graph_params(g);
    for (int p = 0; p < params; p++) {
        depth[p] = ft_block_of(ft_graph_name(g, ft_graph_param_at(g, p))) + 1;
    }
    ask_readers(g, depth);
    for (int p = 0; p < params; p++) {
        blocks = depth[p] > blocks ? depth[p] : blocks;
    }
    if (blocks > 0) {
        place_others(g, blocks + 1, depth);
    }
    return blocks;
}
