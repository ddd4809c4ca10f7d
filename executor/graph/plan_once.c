#include <string.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"

/*
 * Steps that depend on parameters and constants alone: folded normalisations, transposed weights, tables
 * looked up. They run when the parameters have changed and their results stay, so serving pays for them once.
 */

/* What they leave behind stays in memory, so it must be of the size of what it is made of, or small. */
static bool worth_keeping(const struct ft_plan_step *step)
{
    enum { SMALL = 1 << 20 };
    size_t in = 0;
    size_t out = 0;
    for (int k = 0; k < step->n_in; k++) {
        in += step->in[k] >= 0 ? ft_type_bytes(&step->types[k]) : 0;
    }
    for (int k = 0; k < step->n_out; k++) {
        out += ft_type_bytes(&step->types[step->n_in + k]);
    }
    return out <= SMALL || out <= 2 * in;
}

static bool is_settled(const struct ft_plan *plan, const struct ft_plan_step *step)
{
    bool reads = false;
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] < 0) {
            continue;
        }
        enum ft_place place = plan->storages[plan->pvals[step->in[k]].storage].place;
        if (place != FT_PLACE_PARAM && place != FT_PLACE_CONST && place != FT_PLACE_KEPT) {
            return false;
        }
        reads = true;
    }
    for (int k = 0; k < step->n_out; k++) {
        if (plan->storages[plan->pvals[step->out[k]].storage].place != FT_PLACE_BLOCK) {
            return false;
        }
    }
    return reads && worth_keeping(step);
}

enum ft_status ft_plan_once(struct ft_plan *plan, struct ft_err *err)
{
    (void)err;
    if ((plan->flags & FT_PLAN_NO_FUSION) != 0 || !ft_device_fuses(plan->device)) {
        return FT_OK;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct ft_plan_step *step = &plan->steps[i];
        step->once = is_settled(plan, step);
        for (int k = 0; step->once && k < step->n_out; k++) {
            plan->storages[plan->pvals[step->out[k]].storage].place = FT_PLACE_KEPT;
        }
    }
    return FT_OK;
}
