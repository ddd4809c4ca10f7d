/*
 * blocks.h - the layers of a transformer, by the names of its weights: "encoder.layer.3.output.dense.weight"
 * is of block 3.
 *
 * Depth counts from the input: 0 is what stands before the blocks (embeddings), k + 1 is block k, and behind
 * the last block all have one more. Weights that an exporter renamed are placed by the node that reads them.
 * Thread-safety: pure functions.
 */
#ifndef FT_MODEL_BLOCKS_H
#define FT_MODEL_BLOCKS_H

#include "executor/graph/graph.h"

/* Of the weight or node called so; -1: of none. */
int ft_block_of(const char *name);
/* depth (ft_graph_params(g)); returns the number of blocks, 0: the model has none and all depths are 0. */
int ft_block_depths(const struct ft_graph *g, int *depth);
#endif
