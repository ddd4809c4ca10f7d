/*
 * text_pool.h - from a row for each token to one for each text: poolers, and what a text model pooled with;
 * private to model/.
 *
 * Thread-safety: pure functions, but for the graph that is added to.
 */
#ifndef FT_MODEL_TEXT_POOL_H
#define FT_MODEL_TEXT_POOL_H

#include "executor/model/tailor.h"

/* Does the graph read texts ("input_ids")? */
bool ft_graph_reads_texts(const struct ft_graph *g);
/* (N, S, C): a row for each token of a padded batch. */
bool ft_is_token_map(const struct ft_type *t);
/* The token map that v is pooled from, over nothing but a normalisation (*normalized: there is one); v itself
 * when it is one; else FT_NO_VALUE. */
ft_value ft_token_map(const struct ft_graph *g, ft_value v, bool *normalized);
/* (N, S, C) -> (N, C) over the tokens that "attention_mask" names. */
FT_MUST_CHECK enum ft_status ft_add_text_pooling(struct ft_graph *g, const struct ft_tailor_options *options,
                                                 ft_value *v, struct ft_err *err);
#endif
