/*
 * head.h - where the embedding of a classifier is: the head rule, --cut, layer names; private to model/.
 *
 * A layer is a node of the canonical graph; it is called "{op}_{index}" (Finetuner's scheme) and, as the file
 * calls it, by its origin. Thread-safety: pure functions on a const graph; texts live in the caller's arena.
 */
#ifndef FT_MODEL_HEAD_H
#define FT_MODEL_HEAD_H

#include "executor/base/arena.h"
#include "executor/model/tailor.h"

struct ft_cut {
    ft_value at;      /* the embedding, before pooling */
    const char *head; /* what goes; "" if nothing */
    const char *why;  /* one sentence */
};
/* FT_INVALID lists the candidates when there are several, or the layers there are when a name is unknown. */
FT_MUST_CHECK enum ft_status ft_cut_find(const struct ft_model *model,
                                         const struct ft_tailor_options *options, struct ft_arena *arena,
                                         struct ft_cut *cut, struct ft_err *err);

enum { FT_LAYER_NAME = 64 };
/* "conv_0" */
const char *ft_layer_name(const struct ft_graph *g, int node, char out[FT_LAYER_NAME]);
/* Nodes that v needs: needed[ft_graph_nodes(g)]. */
void ft_layers_needed(const struct ft_graph *g, ft_value v, bool *needed);
/* The spatial map (N, C, S...) that v is pooled or flattened from; v itself when it is one; FT_NO_VALUE. */
ft_value ft_pooled_map(const struct ft_graph *g, ft_value v);
#endif
