#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"

enum ft_status ft_plan_profile(struct ft_plan *plan, bool on, struct ft_err *err)
{
    ft_free(plan->seconds);
    plan->seconds = NULL;
    return on ? ft_new(plan->n_steps, sizeof *plan->seconds, &plan->seconds, err) : FT_OK;
}

int ft_plan_steps(const struct ft_plan *plan)
{
    return (int)plan->n_steps;
}

struct ft_plan_step_time ft_plan_step_time(const struct ft_plan *plan, int i)
{
    assert(i >= 0 && (size_t)i < plan->n_steps);
    const struct ft_plan_step *step = &plan->steps[i];
    return (struct ft_plan_step_time){
        .op = step->op,
        .chained = step->chain == NULL ? 1 : step->chain->n_ops,
        .is_reorder = step->is_reorder,
        .origin = step->node < 0 ? "" : ft_graph_node(plan->graph, step->node)->origin,
        .attrs = step->attrs,
        .in = step->types,
        .out = step->types + step->n_in,
        .n_in = step->n_in,
        .n_out = step->n_out,
        .seconds = plan->seconds == NULL ? 0 : plan->seconds[i]};
}
