/*
 * cost.h - what training and encoding with a model will cost here: memory, and seconds measured on real
 * steps.
 *
 * Memory is that of a job with the default batch, loss and optimiser. Time is measured on a batch of random
 * rows, so preparing documents is not in it. A model whose steps would take long is timed by its forward pass
 * alone, and a step is taken to cost three of them.
 *
 * Threads: call from one thread; it opens a device of its own.
 */
#ifndef FT_TRAIN_COST_H
#define FT_TRAIN_COST_H

#include "executor/graph/graph.h"

enum { FT_COST_TEXT_TOKENS = 64 }; /* of the texts that are looked at, if they may be as long */
enum ft_cost_measure { FT_COST_AUTO, FT_COST_NEVER, FT_COST_ALWAYS };

struct ft_cost {
    int64_t train_batch, encode_batch;
    size_t train_bytes, encode_bytes; /* of texts of train_tokens on average, whatever the longest may be */
    int64_t train_tokens;             /* 0 of other documents */
    size_t full_bytes;                /* as train_bytes, were all texts as long as the longest; 0: no texts */
    int64_t timed_batch;   /* rows of the step that was timed, or of its forward pass; 0: nothing was timed */
    bool step_is_measured; /* else derived from the forward pass */
    double train_seconds;  /* for 1,000 documents, behind the frozen prefix if there is one */
    double encode_seconds; /* for 1,000 documents */
    size_t frozen_bytes;   /* of a document (a text of FT_COST_TEXT_TOKENS) at the end of the frozen
                            * prefix; 0: there is none */
    int frozen_nodes, nodes;
};
/* graph: tailored. longest: tokens of the longest text, 0 where there are none. FT_UNSUPPORTED and the like:
 * it cannot be trained as it is, said why. */
FT_MUST_CHECK enum ft_status ft_cost_find(const struct ft_graph *graph, int64_t longest,
                                          enum ft_cost_measure measure, struct ft_cost *cost,
                                          struct ft_err *err);
#endif
