#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/graph/internal.h"
#include "executor/graph/plan_internal.h"

/* ---- layouts */

/* Do both layouts put every element at the same place? */
static bool layouts_agree(const struct ft_type *t)
{
    return t->rank != 4 || ft_extent(t, 1) == 1 || ft_extent(t, 2) * ft_extent(t, 3) == 1;
}

static bool lies_in(const struct ft_type *t, enum ft_layout layout)
{
    return t->layout == layout || layouts_agree(t);
}

static struct ft_type with_layout(const struct ft_type *t, enum ft_layout layout)
{
    struct ft_type out = *t;
    out.layout = t->rank == 4 ? layout : FT_ROW_MAJOR;
    return out;
}

/* ---- steps */

struct step_parts {
    enum ft_op op;
    int node;
    const struct ft_attrs *attrs;
    int n_in, n_out;
    int *in, *out;
    struct ft_type *types;
};

static enum ft_status new_parts(struct ft_plan *plan, enum ft_op op, int n_in, int n_out,
                                struct step_parts *s, struct ft_err *err)
{
    memset(s, 0, sizeof *s);
    s->op = op;
    s->node = -1;
    s->n_in = n_in;
    s->n_out = n_out;
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, (size_t)(n_in + n_out), sizeof *s->in, &s->in, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, (size_t)(n_in + n_out), sizeof *s->types, &s->types, err));
    s->out = s->in + n_in;
    return FT_OK;
}

static enum ft_status push_step(struct ft_plan *plan, const struct step_parts *s, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(
        ft_grow(&plan->steps, &plan->steps_capacity, plan->n_steps + 1, sizeof *plan->steps, err));
    plan->steps[plan->n_steps++] = (struct ft_plan_step){.op = s->op,
                                                         .is_reorder = s->node < 0,
                                                         .node = s->node,
                                                         .attrs = s->attrs,
                                                         .n_in = s->n_in,
                                                         .n_out = s->n_out,
                                                         .in = s->in,
                                                         .out = s->out,
                                                         .types = s->types};
    return FT_OK;
}

enum ft_status ft_plan_new_pval(struct ft_plan *plan, const struct ft_type *type, enum ft_place place,
                                int *pval, struct ft_err *err)
{
    int storage = -1;
    FT_RETURN_IF_FAILED(
        ft_grow(&plan->pvals, &plan->pvals_capacity, plan->n_pvals + 1, sizeof *plan->pvals, err));
    FT_RETURN_IF_FAILED(ft_plan_add_storage(plan, place, ft_type_bytes(type), &storage, err));
    *pval = (int)plan->n_pvals++;
    plan->pvals[*pval] = (struct ft_plan_pval){.type = *type, .storage = storage, .other = -1, .bound = true};
    return FT_OK;
}

/* (N, C, H, W) as channels-last memory shows it: (N, H, W, C) row-major. */
static struct ft_type as_stored(const struct ft_type *t)
{
    struct ft_type out = *t;
    if (t->layout == FT_CHANNELS_LAST) {
        out.dim[1] = t->dim[2];
        out.dim[2] = t->dim[3];
        out.dim[3] = t->dim[1];
        out.layout = FT_ROW_MAJOR;
    }
    return out;
}

/* The other layout of a rank-4 value is a transposition of what lies in memory. */
static enum ft_status push_reorder(struct ft_plan *plan, int from, enum ft_layout layout, int *to,
                                   struct ft_err *err)
{
    static const int perms[][4] = {[FT_ROW_MAJOR] = {0, 3, 1, 2}, [FT_CHANNELS_LAST] = {0, 2, 3, 1}};
    struct ft_type type = with_layout(&plan->pvals[from].type, layout);
    struct step_parts s;
    struct ft_attrs *attrs = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 1, sizeof *attrs, &attrs, err));
    FT_RETURN_IF_FAILED(new_parts(plan, FT_OP_TRANSPOSE, 1, 1, &s, err));
    FT_RETURN_IF_FAILED(ft_plan_new_pval(plan, &type, FT_PLACE_BLOCK, to, err));
    memcpy(attrs->perm, perms[layout], sizeof perms[layout]);
    s.attrs = attrs;
    s.in[0] = from;
    s.out[0] = *to;
    s.types[0] = as_stored(&plan->pvals[from].type);
    s.types[1] = as_stored(&type);
    plan->reorders++;
    return push_step(plan, &s, err);
}

/* A row-major copy in memory that a caller may read. */
static enum ft_status push_copy(struct ft_plan *plan, int from, int *to, struct ft_err *err)
{
    struct ft_type type = plan->pvals[from].type;
    struct step_parts s;
    struct ft_attrs *attrs = NULL;
    type.layout = FT_ROW_MAJOR;
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 1, sizeof *attrs, &attrs, err));
    FT_RETURN_IF_FAILED(new_parts(plan, FT_OP_RESHAPE, 1, 1, &s, err));
    FT_RETURN_IF_FAILED(ft_plan_new_pval(plan, &type, FT_PLACE_WANTED, to, err));
    attrs->shape_rank = type.rank;
    memcpy(attrs->shape, type.dim, sizeof attrs->shape);
    s.attrs = attrs;
    s.in[0] = from;
    s.out[0] = *to;
    s.types[0] = type;
    s.types[1] = type;
    plan->reorders++;
    return push_step(plan, &s, err);
}

/* The pval that holds value `pval` in `layout`; reordered once, for all that come later. */
static enum ft_status in_layout(struct ft_plan *plan, int pval, enum ft_layout layout, int *out,
                                struct ft_err *err)
{
    if (lies_in(&plan->pvals[pval].type, layout)) {
        *out = pval;
        return FT_OK;
    }
    int other = plan->pvals[pval].other;
    if (other < 0) {
        FT_RETURN_IF_FAILED(push_reorder(plan, pval, layout, &other, err));
        plan->pvals[pval].other = other;
        plan->pvals[other].other = pval;
    }
    *out = other;
    return FT_OK;
}

/* ---- nodes */

/* Any layout does: channels-last if an input for which it makes a difference lies so (convolutions are near),
 * else row-major; data before mere shapes. */
static enum ft_layout followed(const struct ft_plan *plan, const struct ft_node *node)
{
    for (int shapes = 0; shapes < 2; shapes++) {
        bool decided = false;
        for (int i = 0; i < node->n_in; i++) {
            const struct ft_plan_pval *p = &plan->pvals[node->in[i]];
            bool made = !ft_node_shape_only(node->op, i) || p->storage >= 0;
            if (ft_node_shape_only(node->op, i) != (shapes == 1) || !made || layouts_agree(&p->type)) {
                continue;
            }
            if (p->type.layout == FT_CHANNELS_LAST) {
                return FT_CHANNELS_LAST;
            }
            decided = true;
        }
        if (decided) {
            break;
        }
    }
    return FT_ROW_MAJOR;
}

static void ask_layouts(const struct ft_plan *plan, const struct ft_node *node, enum ft_layout *in,
                        enum ft_layout *out)
{
    bool follow = false;
    ft_kernel_layouts(plan->device, node->op, &node->attrs, node->n_in, in, out, &follow);
    if (follow) {
        enum ft_layout layout = followed(plan, node);
        for (int i = 0; i < node->n_in; i++) {
            in[i] = layout;
        }
        for (int i = 0; i < node->n_out; i++) {
            out[i] = layout;
        }
    }
}

/* The output of a reshape is its input under another type, unless memory must be laid out anew. */
static enum ft_status lower_reshape(struct ft_plan *plan, const struct ft_node *node, struct ft_err *err)
{
    int from = -1;
    FT_RETURN_IF_FAILED(in_layout(plan, node->in[0], FT_ROW_MAJOR, &from, err));
    struct ft_plan_pval *to = &plan->pvals[node->out[0]];
    to->type.layout = FT_ROW_MAJOR;
    to->storage = plan->pvals[from].storage;
    return FT_OK;
}

/* From (N, H, W, C) to (N, C, H, W) and back, what lies in memory stays: it is the other layout. TensorFlow's
 * exporters put such transpositions around every convolution. */
static bool changes_layout_only(const struct ft_plan *plan, const struct ft_node *node,
                                enum ft_layout *layout)
{
    static const int to_channels[4] = {0, 3, 1, 2};
    static const int to_pixels[4] = {0, 2, 3, 1};
    const struct ft_type *t = &plan->pvals[node->out[0]].type;
    bool floats = t->dtype == FT_F32 || t->dtype == FT_F64;
    if (node->op != FT_OP_TRANSPOSE || t->rank != 4 || !floats || !ft_device_fuses(plan->device)) {
        return false;
    }
    *layout =
        memcmp(node->attrs.perm, to_channels, sizeof to_channels) == 0 ? FT_CHANNELS_LAST : FT_ROW_MAJOR;
    return *layout == FT_CHANNELS_LAST || memcmp(node->attrs.perm, to_pixels, sizeof to_pixels) == 0;
}

static enum ft_status lower_layout_change(struct ft_plan *plan, const struct ft_node *node,
                                          enum ft_layout layout, struct ft_err *err)
{
    int from = -1;
    enum ft_layout other = layout == FT_ROW_MAJOR ? FT_CHANNELS_LAST : FT_ROW_MAJOR;
    FT_RETURN_IF_FAILED(in_layout(plan, node->in[0], other, &from, err));
    struct ft_plan_pval *to = &plan->pvals[node->out[0]];
    to->type.layout = layout;
    to->storage = plan->pvals[from].storage;
    return FT_OK;
}

static enum ft_status lower_node(struct ft_plan *plan, int number, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_node *node = ft_graph_node(plan->graph, number);
    enum ft_layout *in = NULL;
    enum ft_layout out[FT_MAX_OUTPUTS];
    struct step_parts s;
    if (node->op == FT_OP_RESHAPE || node->op == FT_OP_RESHAPE_LIKE) {
        return lower_reshape(plan, node, err);
    }
    enum ft_layout layout = FT_ROW_MAJOR;
    if (changes_layout_only(plan, node, &layout)) {
        return lower_layout_change(plan, node, layout, err);
    }
    FT_TRY(ft_new((size_t)node->n_in, sizeof *in, &in, err));
    ask_layouts(plan, node, in, out);
    FT_TRY(new_parts(plan, node->op, node->n_in, node->n_out, &s, err));
    s.node = number;
    s.attrs = &node->attrs;
    for (int i = 0; i < node->n_in; i++) {
        s.in[i] = -1;
        if (!ft_node_shape_only(node->op, i)) {
            FT_TRY(in_layout(plan, node->in[i], in[i], &s.in[i], err));
        }
        s.types[i] = with_layout(&plan->pvals[node->in[i]].type, in[i]);
    }
    for (int i = 0; i < node->n_out; i++) {
        struct ft_plan_pval *p = &plan->pvals[node->out[i]];
        p->type = with_layout(&p->type, out[i]);
        s.types[node->n_in + i] = p->type;
        s.out[i] = node->out[i];
        FT_TRY(ft_plan_add_storage(plan, FT_PLACE_BLOCK, ft_type_bytes(&p->type), &p->storage, err));
    }
    st = push_step(plan, &s, err);
done:
    ft_free(in);
    return st;
}

/* ---- wanted values */

/* Row-major, and in memory that lasts: the value's own storage if nothing outside is there yet, else a copy.
 */
static enum ft_status lower_wanted(struct ft_plan *plan, int position, struct ft_err *err)
{
    ft_value v = plan->spec.wanted[position];
    int pval = (int)v;
    if (ft_graph_producer(plan->graph, v) >= 0) {
        FT_RETURN_IF_FAILED(in_layout(plan, pval, FT_ROW_MAJOR, &pval, err));
        struct ft_plan_storage *s = &plan->storages[plan->pvals[pval].storage];
        if (s->place == FT_PLACE_BLOCK) {
            s->place = FT_PLACE_WANTED;
        } else if (s->place != FT_PLACE_WANTED || s->value != v) {
            FT_RETURN_IF_FAILED(push_copy(plan, pval, &pval, err));
        }
        plan->storages[plan->pvals[pval].storage].value = v;
    }
    plan->wanted_storage[position] = plan->pvals[pval].storage;
    return FT_OK;
}

/* A value that is wanted twice has one place. */
static int listed_before(const struct ft_plan *plan, int position)
{
    for (int i = 0; i < position; i++) {
        if (plan->spec.wanted[i] == plan->spec.wanted[position]) {
            return i;
        }
    }
    return -1;
}

enum ft_status ft_plan_layout(struct ft_plan *plan, struct ft_err *err)
{
    int nodes = ft_graph_nodes(plan->graph);
    for (int n = 0; n < nodes; n++) {
        if (plan->needed[n]) {
            FT_RETURN_IF_FAILED(lower_node(plan, n, err));
        }
    }
    for (int i = 0; i < plan->spec.n_wanted; i++) {
        int before = listed_before(plan, i);
        if (before >= 0) {
            plan->wanted_storage[i] = plan->wanted_storage[before];
        } else {
            FT_RETURN_IF_FAILED(lower_wanted(plan, i, err));
        }
    }
    return FT_OK;
}
