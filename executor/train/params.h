/*
 * params.h - a model's parameters as a few flat buffers: trained weights (with their gradients), frozen
 * weights, states.
 *
 * A parameter's id is its number in the graph; its place in a buffer never changes. Each starts at a multiple
 * of 16 numbers; the gaps are zero and stay zero under every optimiser, because their gradients are. Threads:
 * like the device, one thread.
 */
#ifndef FT_TRAIN_PARAMS_H
#define FT_TRAIN_PARAMS_H

#include "executor/graph/plan.h"
#include "executor/train/flat.h"

enum ft_params_group { FT_PARAMS_TRAINED, FT_PARAMS_FROZEN, FT_PARAMS_STATES, FT_PARAMS_GROUPS };

struct ft_params_slot {
    enum ft_params_group group;
    size_t at, count;
};
struct ft_params {
    int n;
    struct ft_params_slot *slots; /* (n) by parameter number */
    struct ft_flat group[FT_PARAMS_GROUPS];
    uint64_t version; /* of what is in the buffers: grows with every change */
};
/* trained[p]: parameter p is trained; NULL: none is. Values are the graph's. */
FT_MUST_CHECK enum ft_status ft_params_init(struct ft_params *params, struct ft_device *device,
                                            const struct ft_graph *graph, const bool *trained,
                                            struct ft_err *err);
void ft_params_release(struct ft_params *params);
/* Bind the plan's parameters to the buffers. numbers[p]: which parameter of the graph given to init the
 * plan's graph calls p; NULL: the numbers are the same. */
FT_MUST_CHECK enum ft_status ft_params_bind(const struct ft_params *params, struct ft_plan *plan,
                                            const struct ft_graph *graph, const int *numbers,
                                            struct ft_err *err);
/* Tell the plan which version it sees. */
void ft_params_show(const struct ft_params *params, struct ft_plan *plan);
/* given + share (trained - given) of every weight and state that training changes; given: what the graph's
 * parameters are (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903; for embeddings LM-Cocktail, Xiao et al.
 * 2023, arXiv:2311.13534). */
FT_MUST_CHECK enum ft_status ft_params_mix(struct ft_params *params, const struct ft_graph *graph,
                                           double share, struct ft_err *err);
/* Write what the buffers hold into the graph's parameters. */
FT_MUST_CHECK enum ft_status ft_params_store(struct ft_params *params, struct ft_graph *graph,
                                             struct ft_err *err);
#endif
