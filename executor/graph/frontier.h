/*
 * frontier.h - where the frozen part of a graph ends, and the graph cut there.
 *
 * A value is frozen when it depends on no trained weight, on no op that behaves differently in training
 * (BatchNorm over batch statistics, Dropout), and when its row i depends on row i of the model's input only.
 * In a packed graph of texts (pack.h) rows are items or tokens; a row of a token may depend on all tokens of
 * its item. Where items begin, the input of spans, is known to both parts.
 * The trained part reads some of these values; what is kept per item is the smallest set of values, in bytes,
 * from which the rest follows without doing a convolution or a matrix product again (a minimum cut). A part
 * that reads the model's input itself beside frozen layers has no frozen prefix, nor do frozen layers without
 * such a product (tables of embeddings): they are done again as fast as read.
 *
 * Thread-safety: pure functions of a const graph.
 */
#ifndef FT_GRAPH_FRONTIER_H
#define FT_GRAPH_FRONTIER_H

#include "executor/graph/graph.h"

struct ft_frontier {
    int n; /* values; 0: there is no frozen prefix, everything below is NULL or 0 */
    ft_value
        *values; /* (n) of the graph, in its order; each (N, ...) or (T, ...) float, other extents known */
    bool *of_tokens;       /* (n) (T, ...): a row for each token of an item */
    size_t *elements;      /* (n) numbers per row */
    size_t row_elements;   /* their sum for an item, without its tokens */
    size_t token_elements; /* and for each of its tokens */
    int nodes_before, nodes_after;
    struct ft_graph *prefix;            /* the graph's input -> outputs 0 .. n-1, which are the values */
    struct ft_graph *suffix;            /* inputs 0 .. n-1 -> the output; may read "rng" and "spans" too */
    int *prefix_params, *suffix_params; /* parameter of the part -> parameter of the graph */
};
/* Of the graph's first output, with the graph's frozen flags. The graph is in evaluation form and may go
 * afterwards. ft_frontier_release(). */
FT_MUST_CHECK enum ft_status ft_frontier_find(const struct ft_graph *graph, struct ft_frontier *frontier,
                                              struct ft_err *err);
void ft_frontier_release(struct ft_frontier *frontier); /* zeroed is fine */
#endif
