#include "executor/train/params.h"

#include <string.h>

#include "executor/base/alloc.h"

enum { ROUND_TO = 16 };

static void lay_out(struct ft_params *p, const struct ft_graph *graph, const bool *trained,
                    size_t totals[FT_PARAMS_GROUPS])
{
    for (int i = 0; i < p->n; i++) {
        struct ft_params_slot *slot = &p->slots[i];
        bool state = ft_graph_param_role(graph, i) == FT_PARAM_STATE;
        bool train = trained != NULL && trained[i];
        slot->group = state ? FT_PARAMS_STATES : train ? FT_PARAMS_TRAINED : FT_PARAMS_FROZEN;
        slot->count = (size_t)ft_elements(ft_graph_type(graph, ft_graph_param_at(graph, i)));
        slot->at = totals[slot->group];
        totals[slot->group] += (slot->count + ROUND_TO - 1) / ROUND_TO * ROUND_TO;
    }
}

enum ft_status ft_params_init(struct ft_params *params, struct ft_device *device,
                              const struct ft_graph *graph, const bool *trained, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t totals[FT_PARAMS_GROUPS] = {0};
    memset(params, 0, sizeof *params);
    params->n = ft_graph_params(graph);
    params->version = 1;
    FT_TRY(ft_new((size_t)params->n, sizeof *params->slots, &params->slots, err));
    lay_out(params, graph, trained, totals);
    for (int g = 0; g < FT_PARAMS_GROUPS; g++) {
        FT_TRY(ft_flat_init(&params->group[g], device, totals[g], err));
    }
    for (int i = 0; i < params->n; i++) {
        const struct ft_params_slot *slot = &params->slots[i];
        FT_TRY(ft_flat_put(&params->group[slot->group], slot->at,
                           ft_graph_data(graph, ft_graph_param_at(graph, i)), slot->count, err));
    }
done:
    if (st != FT_OK) {
        ft_params_release(params);
    }
    return st;
}

void ft_params_release(struct ft_params *params)
{
    for (int g = 0; g < FT_PARAMS_GROUPS; g++) {
        ft_flat_release(&params->group[g]);
    }
    ft_free(params->slots);
    memset(params, 0, sizeof *params);
}

enum ft_status ft_params_bind(const struct ft_params *params, struct ft_plan *plan,
                              const struct ft_graph *graph, const int *numbers, struct ft_err *err)
{
    for (int i = 0; i < ft_graph_params(graph); i++) {
        const struct ft_params_slot *slot = &params->slots[numbers != NULL ? numbers[i] : i];
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, ft_graph_param_at(graph, i),
                                         ft_flat_at(&params->group[slot->group], slot->at), err));
    }
    return FT_OK;
}

void ft_params_show(const struct ft_params *params, struct ft_plan *plan)
{
    ft_plan_set_version(plan, params->version);
}

/* Room for the largest parameter. */
static enum ft_status new_row(const struct ft_params *params, float **row, struct ft_err *err)
{
    size_t longest = 1;
    for (int i = 0; i < params->n; i++) {
        longest = params->slots[i].count > longest ? params->slots[i].count : longest;
    }
    return ft_new(longest, sizeof **row, row, err);
}

enum ft_status ft_params_mix(struct ft_params *params, const struct ft_graph *graph, double share,
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *row = NULL;
    FT_TRY(new_row(params, &row, err));
    for (int i = 0; i < params->n; i++) {
        const struct ft_params_slot *slot = &params->slots[i];
        const float *given = ft_graph_data(graph, ft_graph_param_at(graph, i));
        if (slot->group == FT_PARAMS_FROZEN) {
            continue;
        }
        FT_TRY(ft_flat_get(&params->group[slot->group], slot->at, row, slot->count, err));
        for (size_t j = 0; j < slot->count; j++) {
            row[j] = (float)(given[j] + share * ((double)row[j] - given[j]));
        }
        FT_TRY(ft_flat_put(&params->group[slot->group], slot->at, row, slot->count, err));
    }
    params->version++;
done:
    ft_free(row);
    return st;
}

enum ft_status ft_params_store(struct ft_params *params, struct ft_graph *graph, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *row = NULL;
    FT_TRY(new_row(params, &row, err));
    for (int i = 0; i < params->n; i++) {
        const struct ft_params_slot *slot = &params->slots[i];
        if (slot->group != FT_PARAMS_FROZEN) {
            FT_TRY(ft_flat_get(&params->group[slot->group], slot->at, row, slot->count, err));
            FT_TRY(ft_graph_param_set(graph, i, row, err));
        }
    }
done:
    ft_free(row);
    return st;
}
