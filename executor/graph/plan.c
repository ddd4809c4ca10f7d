#include "executor/graph/plan.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/graph/internal.h"
#include "executor/graph/plan_internal.h"
#include "kernels/bf16.h"

/* ---- types */

enum ft_status ft_plan_bind_type(const struct ft_plan *plan, ft_value v, struct ft_type *type,
                                 struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(plan->graph, v);
    char text[FT_TYPE_TEXT];
    size_t bytes = 0;
    if (!ft_type_bind(t, plan->spec.symbols, type)) {
        return FT_FAIL(err, LIMIT, "'%.200s' %s is too large", ft_graph_name(plan->graph, v),
                       ft_type_text(t, text));
    }
    if (!ft_type_is_known(type)) {
        return FT_FAIL(err, INVALID, "'%.200s' is %s: a symbol has no extent", ft_graph_name(plan->graph, v),
                       ft_type_text(type, text));
    }
    type->layout = FT_ROW_MAJOR;
    type->dtype = ft_dtype_is_float(t->dtype) ? ft_device_float(plan->device) : t->dtype;
    bytes = ft_dtype_size(type->dtype);
    for (int i = 0; i < type->rank; i++) {
        if (!ft_mul_size(bytes, (size_t)type->dim[i].coef, &bytes) || bytes > FT_MAX_TENSOR_BYTES) {
            return FT_FAIL(err, LIMIT, "'%.200s' %s is larger than %zu bytes", ft_graph_name(plan->graph, v),
                           ft_type_text(type, text), FT_MAX_TENSOR_BYTES);
        }
    }
    return FT_OK;
}

static enum ft_status bind_pval(struct ft_plan *plan, ft_value v, struct ft_err *err)
{
    struct ft_plan_pval *p = &plan->pvals[v];
    if (p->bound) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_plan_bind_type(plan, v, &p->type, err));
    p->bound = true;
    return FT_OK;
}

/* ---- lowering */

enum ft_status ft_plan_add_storage(struct ft_plan *plan, enum ft_place place, size_t bytes, int *storage,
                                   struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grow(&plan->storages, &plan->storages_capacity, plan->n_storages + 1,
                                sizeof *plan->storages, err));
    *storage = (int)plan->n_storages++;
    plan->storages[*storage] = (struct ft_plan_storage){.place = place,
                                                        .bytes = bytes,
                                                        .first = INT_MAX,
                                                        .last = -1,
                                                        .share = -1,
                                                        .value = FT_NO_VALUE,
                                                        .first_arg = -1};
    return FT_OK;
}

/* Nodes that `wanted` need. What is read for its shape only is not needed. */
static void mark_needed(struct ft_plan *plan, bool *values)
{
    for (int i = 0; i < plan->spec.n_wanted; i++) {
        values[plan->spec.wanted[i]] = true;
    }
    for (int n = ft_graph_nodes(plan->graph) - 1; n >= 0; n--) {
        const struct ft_node *node = ft_graph_node(plan->graph, n);
        for (int i = 0; i < node->n_out; i++) {
            plan->needed[n] = plan->needed[n] || values[node->out[i]];
        }
        for (int i = 0; plan->needed[n] && i < node->n_in; i++) {
            values[node->in[i]] = values[node->in[i]] || !ft_node_shape_only(node->op, i);
        }
    }
}

static enum ft_status bind_types(struct ft_plan *plan, const bool *values, struct ft_err *err)
{
    for (int n = 0; n < ft_graph_nodes(plan->graph); n++) {
        const struct ft_node *node = ft_graph_node(plan->graph, n);
        for (int i = 0; plan->needed[n] && i < node->n_in; i++) {
            FT_RETURN_IF_FAILED(bind_pval(plan, node->in[i], err));
        }
        for (int i = 0; plan->needed[n] && i < node->n_out; i++) {
            FT_RETURN_IF_FAILED(bind_pval(plan, node->out[i], err));
        }
    }
    for (int v = 0; v < ft_graph_values(plan->graph); v++) {
        if (values[v]) {
            FT_RETURN_IF_FAILED(bind_pval(plan, v, err));
        }
    }
    return FT_OK;
}

static enum ft_status add_sources(struct ft_plan *plan, const bool *values, struct ft_err *err)
{
    static const enum ft_place places[] = {[FT_FROM_INPUT] = FT_PLACE_INPUT,
                                           [FT_FROM_PARAM] = FT_PLACE_PARAM,
                                           [FT_FROM_CONST] = FT_PLACE_CONST,
                                           [FT_FROM_NODE] = FT_PLACE_NONE};
    for (int v = 0; v < ft_graph_values(plan->graph); v++) {
        enum ft_source source = ft_graph_source(plan->graph, v);
        if (!values[v] || source == FT_FROM_NODE) {
            continue;
        }
        struct ft_plan_pval *p = &plan->pvals[v];
        FT_RETURN_IF_FAILED(
            ft_plan_add_storage(plan, places[source], ft_type_bytes(&p->type), &p->storage, err));
        plan->storages[p->storage].value = v;
    }
    return FT_OK;
}

enum ft_status ft_plan_lower(struct ft_plan *plan, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    bool *values = NULL;
    size_t n_values = (size_t)ft_graph_values(plan->graph);
    FT_TRY(ft_new((size_t)ft_graph_nodes(plan->graph), sizeof *plan->needed, &plan->needed, err));
    FT_TRY(ft_new(n_values, sizeof *values, &values, err));
    FT_TRY(ft_grow(&plan->pvals, &plan->pvals_capacity, n_values, sizeof *plan->pvals, err));
    plan->n_pvals = n_values;
    for (size_t i = 0; i < n_values; i++) {
        plan->pvals[i].storage = -1;
        plan->pvals[i].other = -1;
    }
    mark_needed(plan, values);
    FT_TRY(bind_types(plan, values, err));
    FT_TRY(add_sources(plan, values, err));
done:
    ft_free(values);
    return st;
}

/* ---- life */

typedef enum ft_status (*plan_pass)(struct ft_plan *plan, struct ft_err *err);

static enum ft_status copy_spec(struct ft_plan *plan, const struct ft_plan_spec *spec, struct ft_err *err)
{
    ft_value *wanted = NULL;
    size_t n = (size_t)spec->n_wanted;
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        if (spec->symbols[k] < 0) {
            return FT_FAIL(err, INVALID, "symbol %d stands for %lld", k, (long long)spec->symbols[k]);
        }
    }
    assert(spec->like == NULL || (spec->like->graph == plan->graph && spec->like->device == plan->device));
    plan->spec = *spec;
    plan->spec.wanted = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, n, sizeof *wanted, &wanted, err));
    for (size_t i = 0; i < n; i++) {
        assert(spec->wanted[i] >= 0 && spec->wanted[i] < ft_graph_values(plan->graph));
        wanted[i] = spec->wanted[i];
    }
    plan->spec.wanted = wanted;
    return ft_arena_new(&plan->arena, n, sizeof *plan->wanted_storage, &plan->wanted_storage, err);
}

enum ft_status ft_plan_new_with(struct ft_device *device, const struct ft_graph *graph,
                                const struct ft_plan_spec *spec, unsigned flags, struct ft_plan **out,
                                struct ft_err *err)
{
    enum { CHECKED_STORAGES = 1024 }; /* the check is quadratic */
    static const plan_pass passes[] = {ft_plan_lower,     ft_plan_layout, ft_plan_fuse,   ft_plan_once,
                                       ft_plan_precision, ft_plan_chain,  ft_plan_memory, ft_plan_kernels};
    enum ft_status st = FT_OK;
    struct ft_plan *plan = NULL;
    *out = NULL;
    FT_TRY(ft_new(1, sizeof *plan, &plan, err));
    plan->device = device;
    plan->graph = graph;
    plan->flags = flags;
    plan->keeper = plan;
    FT_TRY(copy_spec(plan, spec, err));
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        if (passes[i] != ft_plan_kernels || (flags & FT_PLAN_NO_KERNELS) == 0) {
            FT_TRY(passes[i](plan, err));
        }
    }
    assert(plan->n_storages > CHECKED_STORAGES || ft_plan_memory_is_sound(plan));
    *out = plan;
    plan = NULL;
done:
    ft_plan_free(plan);
    return st;
}

enum ft_status ft_plan_new(struct ft_device *device, const struct ft_graph *graph,
                           const struct ft_plan_spec *spec, struct ft_plan **plan, struct ft_err *err)
{
    return ft_plan_new_with(device, graph, spec, 0, plan, err);
}

static struct ft_kernel_room room_of(const struct ft_plan *plan, const struct ft_plan_step *step)
{
    if (step->chain != NULL) {
        return (struct ft_kernel_room){0};
    }
    const struct ft_call call = ft_plan_call_of(step);
    return ft_kernel_room(plan->device, &call);
}

enum ft_status ft_plan_price(struct ft_device *device, const struct ft_graph *graph,
                             const struct ft_plan_spec *spec, struct ft_plan_stats *stats, struct ft_err *err)
{
    struct ft_plan *plan = NULL;
    memset(stats, 0, sizeof *stats);
    FT_RETURN_IF_FAILED(ft_plan_new_with(device, graph, spec, FT_PLAN_NO_KERNELS, &plan, err));
    *stats = ft_plan_stats(plan);
    for (size_t i = 0; i < plan->n_steps; i++) {
        size_t scratch = room_of(plan, &plan->steps[i]).scratch;
        stats->scratch_bytes = scratch > stats->scratch_bytes ? scratch : stats->scratch_bytes;
    }
    ft_plan_free(plan);
    return FT_OK;
}

void ft_plan_free(struct ft_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        ft_kernel_free(plan->steps[i].kernel);
    }
    for (size_t i = 0; i < plan->n_storages; i++) {
        ft_device_free(plan->device, plan->storages[i].owned);
    }
    if (plan->owns_block) {
        ft_device_free(plan->device, plan->block);
    }
    if (plan->owns_scratch) {
        ft_device_free(plan->device, plan->scratch);
    }
    ft_free(plan->needed);
    ft_free(plan->pvals);
    ft_free(plan->storages);
    ft_free(plan->steps);
    ft_free(plan->args);
    ft_free(plan->next_arg);
    ft_free(plan->seconds);
    ft_arena_release(&plan->arena);
    ft_free(plan);
}

/* ---- binding */

static void point(struct ft_plan *plan, const struct ft_plan_storage *s)
{
    for (int a = s->first_arg; a >= 0; a = plan->next_arg[a]) {
        plan->args[a].data = s->data;
        plan->args[a].version = s->version;
    }
}

static struct ft_plan_storage *wanted_storage(const struct ft_plan *plan, ft_value v)
{
    for (int i = 0; i < plan->spec.n_wanted; i++) {
        if (plan->spec.wanted[i] == v) {
            return &plan->storages[plan->wanted_storage[i]];
        }
    }
    return NULL;
}

enum ft_status ft_plan_bind(struct ft_plan *plan, ft_value v, void *data, struct ft_err *err)
{
    bool is_source = ft_graph_source(plan->graph, v) != FT_FROM_NODE;
    struct ft_plan_storage *s = NULL;
    if (data == NULL) {
        return FT_FAIL(err, INVALID, "'%.200s' is bound to no memory", ft_graph_name(plan->graph, v));
    }
    if (is_source) {
        int storage = plan->pvals[v].storage;
        if (storage < 0) {
            return FT_OK; /* nothing reads it */
        }
        s = &plan->storages[storage];
    } else {
        s = wanted_storage(plan, v);
    }
    if (s == NULL) {
        return FT_FAIL(err, INVALID, "'%.200s' is neither an input, parameter or constant nor wanted",
                       ft_graph_name(plan->graph, v));
    }
    plan->unbound -= s->data == NULL;
    ft_device_free(plan->device, s->owned);
    s->owned = NULL;
    s->data = data;
    s->version = s->place == FT_PLACE_PARAM ? s->version : 0;
    plan->keeper->once_version = 0;
    point(plan, s);
    return FT_OK;
}

void ft_plan_set_version(struct ft_plan *plan, uint64_t version)
{
    assert(version > 0);
    plan->version = version;
    for (size_t i = 0; i < plan->n_storages; i++) {
        if (plan->storages[i].place == FT_PLACE_PARAM || plan->storages[i].place == FT_PLACE_KEPT) {
            plan->storages[i].version = version;
            point(plan, &plan->storages[i]);
        }
    }
}

size_t ft_plan_bytes(const struct ft_plan *plan, ft_value v)
{
    struct ft_type type;
    struct ft_err err = {0};
    return ft_plan_bind_type(plan, v, &type, &err) == FT_OK ? ft_type_bytes(&type) : 0;
}

const void *ft_plan_data(const struct ft_plan *plan, ft_value v)
{
    const struct ft_plan_storage *s = wanted_storage(plan, v);
    return s == NULL ? NULL : s->data;
}

/* ---- running */

static enum ft_status check_bound(const struct ft_plan *plan, struct ft_err *err)
{
    for (size_t i = 0; plan->unbound > 0 && i < plan->n_storages; i++) {
        const struct ft_plan_storage *s = &plan->storages[i];
        if (s->data == NULL && s->value != FT_NO_VALUE) {
            return FT_FAIL(err, INVALID, "'%.200s' is not bound to memory",
                           ft_graph_name(plan->graph, s->value));
        }
    }
    return FT_OK;
}

static enum ft_status run_step(const struct ft_plan *plan, const struct ft_plan_step *step,
                               struct ft_err *err)
{
    enum ft_status st = ft_kernel_run(step->kernel, step->args, step->args + step->n_in, plan->scratch, err);
    if (st != FT_OK && step->node >= 0) {
        char text[FT_NODE_TEXT];
        (void)ft_err_wrap(err, "%s", ft_node_text(ft_graph_node(plan->graph, step->node), text));
    }
    return st;
}

enum ft_status ft_plan_run(struct ft_plan *plan, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(check_bound(plan, err));
    double start = plan->seconds == NULL ? 0 : ft_clock_seconds();
    bool settled = plan->version != 0 && plan->keeper->once_version == plan->version;
    for (size_t i = 0; i < plan->n_steps; i++) {
        if (settled && plan->steps[i].once) {
            continue;
        }
        FT_RETURN_IF_FAILED(run_step(plan, &plan->steps[i], err));
        if (plan->seconds != NULL) {
            FT_RETURN_IF_FAILED(ft_device_wait(plan->device, err));
            double end = ft_clock_seconds();
            plan->seconds[i] += end - start;
            start = end;
        }
    }
    plan->keeper->once_version = plan->version;
    return FT_OK;
}

static double number_at(const struct ft_type *t, const void *data, int64_t i)
{
    if (t->dtype == FT_BF16) {
        return (double)ft_bf16_to(((const uint16_t *)data)[i]);
    }
    return t->dtype == FT_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* Does a float output of the step hold something that is not a number of finite size? */
static enum ft_status step_is_finite(const struct ft_plan *plan, const struct ft_plan_step *step,
                                     bool *finite, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    void *copy = NULL;
    *finite = true;
    for (int k = step->n_in; k < step->n_in + step->n_out; k++) {
        const struct ft_type *t = &step->types[k];
        if (!ft_dtype_is_float(t->dtype) && t->dtype != FT_BF16) {
            continue;
        }
        FT_TRY(ft_new(1, ft_type_bytes(t), &copy, err));
        FT_TRY(ft_device_download(plan->device, copy, step->args[k].data, ft_type_bytes(t), err));
        int64_t count = ft_elements(t);
        for (int64_t i = 0; i < count && *finite; i++) {
            *finite = isfinite(number_at(t, copy, i)) != 0;
        }
        ft_free(copy);
        copy = NULL;
    }
done:
    ft_free(copy);
    return st;
}

enum ft_status ft_plan_find_nonfinite(struct ft_plan *plan, char origin[FT_ERR_TEXT], struct ft_err *err)
{
    bool finite = true;
    origin[0] = '\0';
    FT_RETURN_IF_FAILED(check_bound(plan, err));
    for (size_t i = 0; finite && i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        FT_RETURN_IF_FAILED(run_step(plan, step, err));
        FT_RETURN_IF_FAILED(ft_device_wait(plan->device, err));
        FT_RETURN_IF_FAILED(step_is_finite(plan, step, &finite, err));
        if (!finite) {
            char text[FT_NODE_TEXT];
            const char *name =
                step->node >= 0 ? ft_node_text(ft_graph_node(plan->graph, step->node), text) : "reorder";
            (void)snprintf(origin, FT_ERR_TEXT, "%s", name);
        }
    }
    return FT_OK;
}

static void count_products(const struct ft_plan *plan, struct ft_plan_stats *stats)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        bool product = step->op == FT_OP_CONV || step->op == FT_OP_MATMUL;
        stats->products += product && !step->once;
        stats->int8 += product && step->attrs->int8 != 0;
    }
}

struct ft_plan_stats ft_plan_stats(const struct ft_plan *plan)
{
    struct ft_plan_stats stats = {
        .nodes = (int)plan->n_steps - plan->reorders,
        .reorders = plan->reorders,
        .activation_bytes = plan->spec.like == NULL || plan->owns_block ? plan->block_bytes : 0,
        .scratch_bytes = plan->spec.like == NULL || plan->owns_scratch ? plan->scratch_bytes : 0};
    count_products(plan, &stats);
    for (size_t i = 0; i < plan->n_steps; i++) {
        stats.packed_bytes += room_of(plan, &plan->steps[i]).packed;
    }
    for (size_t i = 0; i < plan->n_storages; i++) {
        const struct ft_plan_storage *s = &plan->storages[i];
        if (s->place == FT_PLACE_KEPT) {
            stats.activation_bytes += plan->keeper == plan ? s->bytes : 0;
        } else if (s->place != FT_PLACE_BLOCK && s->place != FT_PLACE_CONST && s->place != FT_PLACE_NONE) {
            stats.bound_bytes += s->bytes;
        }
    }
    return stats;
}
