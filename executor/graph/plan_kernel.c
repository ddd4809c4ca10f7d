#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/graph/internal.h"
#include "executor/graph/plan_internal.h"

/* ---- kernels */

static enum ft_status prepare_kernel(struct ft_plan *plan, struct ft_plan_step *step, size_t *scratch,
                                     struct ft_err *err)
{
    if (step->chain != NULL) {
        return ft_chain_prepare(plan->device, step->chain, &step->kernel, scratch, err);
    }
    const struct ft_call call = ft_plan_call_of(step);
    return ft_kernel_prepare(plan->device, &call, &step->kernel, scratch, err);
}

static enum ft_status prepare_step(struct ft_plan *plan, struct ft_plan_step *step, struct ft_err *err)
{
    size_t scratch = 0;
    if (prepare_kernel(plan, step, &scratch, err) != FT_OK) {
        char text[FT_NODE_TEXT];
        const char *name =
            step->node >= 0 ? ft_node_text(ft_graph_node(plan->graph, step->node), text) : "reorder";
        return ft_err_wrap(err, "%s", name);
    }
    plan->scratch_bytes = scratch > plan->scratch_bytes ? scratch : plan->scratch_bytes;
    plan->n_args += (size_t)(step->n_in + step->n_out);
    return FT_OK;
}

/* ---- constants */

static void convert(const struct ft_type *from_type, const void *from, const struct ft_type *to_type,
                    void *to)
{
    int64_t count = ft_elements(from_type);
    const float *f32 = from;
    const double *f64 = from;
    for (int64_t i = 0; i < count; i++) {
        double x = from_type->dtype == FT_F32 ? (double)f32[i] : f64[i];
        if (to_type->dtype == FT_F32) {
            ((float *)to)[i] = (float)x;
        } else {
            ((double *)to)[i] = x;
        }
    }
}

static enum ft_status load_constant(struct ft_plan *plan, ft_value v, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    void *converted = NULL;
    const struct ft_type *from = ft_graph_type(plan->graph, v);
    const struct ft_type *to = &plan->pvals[v].type;
    struct ft_plan_storage *s = &plan->storages[plan->pvals[v].storage];
    const void *data = ft_graph_data(plan->graph, v);
    if (from->dtype != to->dtype) {
        assert(ft_dtype_is_float(from->dtype) && ft_dtype_is_float(to->dtype));
        FT_TRY(ft_new(1, s->bytes, &converted, err));
        convert(from, data, to, converted);
        data = converted;
    }
    FT_TRY(ft_device_alloc(plan->device, s->bytes, &s->owned, err));
    FT_TRY(ft_device_upload(plan->device, s->owned, data, s->bytes, err));
    s->data = s->owned;
    s->version = 1;
done:
    ft_free(converted);
    return st;
}

/* ---- memory */

/* What is kept between runs is the same for all extents, so plans of one graph have the same list of it
 * unless a pass chose otherwise for one of them. */
static bool keeps_the_same(const struct ft_plan *plan, const struct ft_plan *other)
{
    size_t k = 0;
    for (size_t i = 0; i < plan->n_storages; i++) {
        if (plan->storages[i].place != FT_PLACE_KEPT) {
            continue;
        }
        while (k < other->n_storages && other->storages[k].place != FT_PLACE_KEPT) {
            k++;
        }
        if (k == other->n_storages || other->storages[k].bytes != plan->storages[i].bytes) {
            return false;
        }
        k++;
    }
    while (k < other->n_storages && other->storages[k].place != FT_PLACE_KEPT) {
        k++;
    }
    return k == other->n_storages;
}

static void find_keeper(struct ft_plan *plan)
{
    const struct ft_plan *like = plan->spec.like;
    plan->keeper = like != NULL && keeps_the_same(plan, like->keeper) ? like->keeper : plan;
    if (plan->keeper == plan) {
        return;
    }
    for (size_t i = 0, k = 0; i < plan->n_storages; i++) {
        if (plan->storages[i].place == FT_PLACE_KEPT) {
            while (plan->keeper->storages[k].place != FT_PLACE_KEPT) {
                k++;
            }
            plan->storages[i].data = plan->keeper->storages[k++].data;
        }
    }
}

/* A constant that another plan has loaded. */
static bool borrow_constant(const struct ft_plan *plan, struct ft_plan_storage *s)
{
    const struct ft_plan *like = plan->spec.like;
    int storage = like == NULL ? -1 : like->pvals[s->value].storage;
    if (storage < 0 || like->storages[storage].data == NULL) {
        return false;
    }
    s->data = like->storages[storage].data;
    s->version = like->storages[storage].version;
    return true;
}

static enum ft_status allocate_storage(struct ft_plan *plan, struct ft_plan_storage *s, struct ft_err *err)
{
    switch (s->place) {
    case FT_PLACE_CONST:
        return borrow_constant(plan, s) ? FT_OK : load_constant(plan, s->value, err);
    case FT_PLACE_KEPT:
        if (plan->keeper != plan) {
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(ft_device_alloc(plan->device, s->bytes, &s->owned, err));
        s->data = s->owned;
        return FT_OK;
    case FT_PLACE_WANTED:
        FT_RETURN_IF_FAILED(ft_device_alloc(plan->device, s->bytes, &s->owned, err));
        s->data = s->owned;
        return FT_OK;
    case FT_PLACE_BLOCK:
        s->data = (char *)plan->block + s->offset;
        return FT_OK;
    case FT_PLACE_INPUT:
    case FT_PLACE_PARAM:
        plan->unbound++;
        return FT_OK;
    case FT_PLACE_NONE:
        break;
    }
    return FT_OK;
}

/* Memory of this size: another plan's, where that is as large. */
static enum ft_status block_of(struct ft_plan *plan, size_t bytes, void *theirs, size_t their_bytes,
                               void **data, bool *owned, struct ft_err *err)
{
    *owned = theirs == NULL || their_bytes < bytes;
    *data = theirs;
    return *owned ? ft_device_alloc(plan->device, bytes, data, err) : FT_OK;
}

static enum ft_status allocate(struct ft_plan *plan, struct ft_err *err)
{
    const struct ft_plan *like = plan->spec.like;
    FT_RETURN_IF_FAILED(block_of(plan, plan->block_bytes, like == NULL ? NULL : like->block,
                                 like == NULL ? 0 : like->block_bytes, &plan->block, &plan->owns_block, err));
    FT_RETURN_IF_FAILED(block_of(plan, plan->scratch_bytes, like == NULL ? NULL : like->scratch,
                                 like == NULL ? 0 : like->scratch_bytes, &plan->scratch, &plan->owns_scratch,
                                 err));
    find_keeper(plan);
    for (size_t i = 0; i < plan->n_storages; i++) {
        FT_RETURN_IF_FAILED(allocate_storage(plan, &plan->storages[i], err));
    }
    return FT_OK;
}

/* Every argument points where its storage is, and stands in that storage's list. */
static enum ft_status link_args(struct ft_plan *plan, struct ft_err *err)
{
    size_t n = 0;
    FT_RETURN_IF_FAILED(ft_new(plan->n_args, sizeof *plan->args, &plan->args, err));
    FT_RETURN_IF_FAILED(ft_new(plan->n_args, sizeof *plan->next_arg, &plan->next_arg, err));
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct ft_plan_step *step = &plan->steps[i];
        step->args = plan->args + n;
        for (int k = 0; k < step->n_in + step->n_out; k++, n++) {
            if (step->in[k] < 0) {
                continue;
            }
            struct ft_plan_storage *s = &plan->storages[plan->pvals[step->in[k]].storage];
            plan->args[n] = (struct ft_arg){.data = s->data, .version = s->version};
            plan->next_arg[n] = s->first_arg;
            s->first_arg = (int)n;
        }
    }
    return FT_OK;
}

enum ft_status ft_plan_kernels(struct ft_plan *plan, struct ft_err *err)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        FT_RETURN_IF_FAILED(prepare_step(plan, &plan->steps[i], err));
    }
    FT_RETURN_IF_FAILED(allocate(plan, err));
    return link_args(plan, err);
}
