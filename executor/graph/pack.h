/*
 * pack.h - a text model without padding: the ragged form of a padded graph (DESIGN 5.2).
 *
 * The canonical graph of a text model reads input_ids (N, S), attention_mask (N, S) and perhaps more (N, S)
 * inputs. Its packed form reads the same inputs as one row of tokens (T) each, and in place of the mask
 * spans (N, 2): first token and number of tokens of each sequence (ops.def, sequences). Parameters keep their
 * numbers, names and bytes, outputs their order; an output that is a row per token becomes (T, ...).
 *
 * A value can be packed when it has a row for each token and none looks at another one's, which is proved
 * node by node from the shapes: leading axes (N, S), (1, S), (S) or (N * S) become (T), and no op works along
 * them but ATTENTION, ROPE, POSITIONS and SEQ_POOL, which know where sequences begin. The mask is read by
 * these alone.
 *
 * What exporters spell out is found too: softmax(scale q k' + mask) v over heads is ATTENTION, the sum of
 * tokens times the mask by their number is SEQ_POOL's mean, place 0 its first token, a running sum over
 * tokens POSITIONS. Whether a value is such a mask, or the place of each token, is not read off its nodes,
 * which differ with every exporter: it is computed for some batches and looked at. A window of attention
 * wider than 700 places would not be noticed.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_GRAPH_PACK_H
#define FT_GRAPH_PACK_H

#include "executor/graph/graph.h"

#define FT_PACK_MASK "attention_mask"
#define FT_PACK_SPANS "spans"

/* *packed is owned by the caller: ft_graph_free(). FT_OK with *packed == NULL: it cannot be proved, and why
 * names the node and what it does; the padded graph is what there is. */
FT_MUST_CHECK enum ft_status ft_graph_pack(const struct ft_graph *graph, struct ft_graph **packed,
                                           char why[FT_ERR_TEXT], struct ft_err *err);
#endif
