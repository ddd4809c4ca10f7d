#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"
#include "kernels/int8.h"

/*
 * Which values are stored as bf16, and which rows are computed in int8, on a device that computes so: the
 * table below, row by row of ops.def.
 *
 * In int8 only steps change: products of something with a weight are marked (a.int8), values stay floats.
 *
 * Products take bf16 and give it; what is element-wise, moves elements or normalises takes what comes and
 * gives bf16 if any of that was; sums, losses and optimisers keep floats. A value that is wanted is a float,
 * like all that is made of parameters alone, so a weight is rounded once, behind its f32 master: that copy is
 * made when the master has changed. Gradients of weights, and whatever else is summed over the batch, stay
 * floats too. Between what a step wants and what is there stands a copy (RESHAPE of its own shape).
 */

/* Letters of inputs, then of outputs. The last one of each counts for all that follow.
 * inputs   n: bf16. e: as it comes, and what outputs follow. w: as a float.
 * outputs  n: bf16. f: if an input with an e is. w: a float.
 * Rows that are not here: w. Integers and booleans are what they are.
 * int8     the row can be computed in int8, its input 1 the weight. */
struct row_rule {
    const char *in, *out;
    bool int8;
};

static const struct row_rule rules[FT_OP_COUNT] = {
    [FT_OP_CONV] = {.in = "nnw", .out = "n"},
    [FT_OP_CONV_BWD_DATA] = {.in = "nnw", .out = "n"},
    [FT_OP_CONV_BWD_WEIGHT] = {.in = "nnw", .out = "w"},
    [FT_OP_MATMUL] = {.in = "nnw", .out = "n", .int8 = true},
    [FT_OP_BATCHNORM] = {.in = "ew", .out = "f"},
    [FT_OP_BATCHNORM_BWD] = {.in = "eew", .out = "fw"},
    [FT_OP_BATCHNORM_TRAIN] = {.in = "ew", .out = "fw"},
    [FT_OP_BATCHNORM_TRAIN_BWD] = {.in = "eew", .out = "fw"},
    [FT_OP_LAYERNORM] = {.in = "ew", .out = "fw"},
    [FT_OP_LAYERNORM_BWD] = {.in = "eew", .out = "fw"},
    [FT_OP_MAXPOOL] = {.in = "e", .out = "f"},
    [FT_OP_MAXPOOL_BWD] = {.in = "e", .out = "f"},
    [FT_OP_AVGPOOL] = {.in = "e", .out = "f"},
    [FT_OP_AVGPOOL_BWD] = {.in = "e", .out = "f"},
    [FT_OP_RELU] = {.in = "e", .out = "f"},
    [FT_OP_RELU_BWD] = {.in = "e", .out = "f"},
    [FT_OP_LEAKY_RELU] = {.in = "e", .out = "f"},
    [FT_OP_LEAKY_RELU_BWD] = {.in = "e", .out = "f"},
    [FT_OP_SIGMOID] = {.in = "e", .out = "f"},
    [FT_OP_SIGMOID_BWD] = {.in = "e", .out = "f"},
    [FT_OP_TANH] = {.in = "e", .out = "f"},
    [FT_OP_TANH_BWD] = {.in = "e", .out = "f"},
    [FT_OP_CLIP] = {.in = "e", .out = "f"},
    [FT_OP_CLIP_BWD] = {.in = "e", .out = "f"},
    [FT_OP_EXP] = {.in = "e", .out = "f"},
    [FT_OP_LOG] = {.in = "e", .out = "f"},
    [FT_OP_SQRT] = {.in = "e", .out = "f"},
    [FT_OP_NEG] = {.in = "e", .out = "f"},
    [FT_OP_SCALE] = {.in = "e", .out = "f"},
    [FT_OP_MAP] = {.in = "e", .out = "f"},
    [FT_OP_MAP_BWD] = {.in = "e", .out = "f"},
    [FT_OP_ADD] = {.in = "e", .out = "f"},
    [FT_OP_SUB] = {.in = "e", .out = "f"},
    [FT_OP_MUL] = {.in = "e", .out = "f"},
    [FT_OP_DIV] = {.in = "e", .out = "f"},
    [FT_OP_POW] = {.in = "e", .out = "f"},
    [FT_OP_WHERE] = {.in = "e", .out = "f"},
    [FT_OP_MAXIMUM] = {.in = "e", .out = "f"},
    [FT_OP_MINIMUM] = {.in = "e", .out = "f"},
    [FT_OP_DROPOUT] = {.in = "e", .out = "f"},
    [FT_OP_GATHER] = {.in = "e", .out = "f"},
    [FT_OP_GATHER_BWD] = {.in = "e", .out = "f"},
    [FT_OP_REDUCE_SUM] = {.in = "e", .out = "w"},
    [FT_OP_REDUCE_MEAN] = {.in = "e", .out = "w"},
    [FT_OP_REDUCE] = {.in = "e", .out = "w"},
    [FT_OP_SUM_TO] = {.in = "e", .out = "w"},
    [FT_OP_EXPAND_TO] = {.in = "e", .out = "f"},
    [FT_OP_RESHAPE] = {.in = "e", .out = "f"},
    [FT_OP_RESHAPE_LIKE] = {.in = "e", .out = "f"},
    [FT_OP_TRANSPOSE] = {.in = "e", .out = "f"},
    [FT_OP_CONCAT] = {.in = "e", .out = "f"},
    [FT_OP_SLICE] = {.in = "e", .out = "f"},
    [FT_OP_PAD_LIKE] = {.in = "e", .out = "f"},
    [FT_OP_PAD] = {.in = "e", .out = "f"},
    [FT_OP_PAD_BWD] = {.in = "e", .out = "f"},
    [FT_OP_SOFTMAX] = {.in = "e", .out = "f"},
    [FT_OP_SOFTMAX_BWD] = {.in = "e", .out = "f"},
    [FT_OP_ATTENTION] = {.in = "eeeew", .out = "fw"},
    [FT_OP_ATTENTION_BWD] = {.in = "eeeeew", .out = "f"},
    [FT_OP_ATTENTION_BWD_BIAS] = {.in = "eeeeew", .out = "w"},
    [FT_OP_ROPE] = {.in = "e", .out = "f"},
    [FT_OP_SEQ_POOL] = {.in = "e", .out = "w"},
    [FT_OP_SEQ_POOL_BWD] = {.in = "e", .out = "f"},
};

struct precision {
    struct ft_plan *plan;
    bool *narrow;  /* by storage: bf16 */
    bool *settled; /* by storage: made of parameters and constants alone */
    int *twin;     /* by pval: the same in the other float type, or -1 */
    struct ft_plan_step *steps;
    size_t n_steps, capacity;
    size_t n_storages, n_pvals; /* there were before this pass */
};

static char letter(const char *letters, int i)
{
    size_t last = letters == NULL ? 0 : strlen(letters) - 1;
    return letters == NULL ? 'w' : letters[(size_t)i < last ? (size_t)i : last];
}

/* What is added to a product's sum is stored as the product is. */
static char input_letter(const struct ft_plan_step *step, int k)
{
    bool product = step->op == FT_OP_CONV || step->op == FT_OP_MATMUL;
    bool residual = product && step->attrs->residual != 0 && k == step->n_in - 1;
    return residual ? 'n' : letter(rules[step->op].in, k);
}

static int storage_of(const struct precision *p, int pval)
{
    return p->plan->pvals[pval].storage;
}

/* ---- copies from one float type to the other */

static enum ft_status push(struct precision *p, const struct ft_plan_step *step, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_grow(&p->steps, &p->capacity, p->n_steps + 1, sizeof *p->steps, err));
    p->steps[p->n_steps++] = *step;
    return FT_OK;
}

/* Is a copy of this value made once a version of the parameters, like the steps of plan_once.c? */
static bool lasts(const struct precision *p, int pval)
{
    const struct ft_plan *plan = p->plan;
    enum ft_place place = plan->storages[storage_of(p, pval)].place;
    bool fuses = (plan->flags & FT_PLAN_NO_FUSION) == 0 && ft_device_fuses(plan->device);
    return fuses && (place == FT_PLACE_PARAM || place == FT_PLACE_CONST || place == FT_PLACE_KEPT);
}

static enum ft_status push_convert(struct precision *p, int from, const struct ft_type *seen,
                                   enum ft_dtype dtype, int *to, struct ft_err *err)
{
    struct ft_plan *plan = p->plan;
    struct ft_attrs *attrs = NULL;
    int *operands = NULL;
    struct ft_type *types = NULL;
    bool once = lasts(p, from);
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 1, sizeof *attrs, &attrs, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 2, sizeof *operands, &operands, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 2, sizeof *types, &types, err));
    types[0] = *seen;
    types[1] = *seen;
    types[1].dtype = dtype;
    FT_RETURN_IF_FAILED(ft_plan_new_pval(plan, &types[1], once ? FT_PLACE_KEPT : FT_PLACE_BLOCK, to, err));
    for (int i = 0; i < 2; i++) { /* memory as it lies there */
        types[i].layout = FT_ROW_MAJOR;
    }
    attrs->shape_rank = types[1].rank;
    memcpy(attrs->shape, types[1].dim, sizeof attrs->shape);
    operands[0] = from;
    operands[1] = *to;
    plan->reorders++;
    const struct ft_plan_step step = {.op = FT_OP_RESHAPE,
                                      .is_reorder = true,
                                      .once = once,
                                      .node = -1,
                                      .attrs = attrs,
                                      .n_in = 1,
                                      .n_out = 1,
                                      .in = operands,
                                      .out = operands + 1,
                                      .types = types};
    return push(p, &step, err);
}

/* Input k of a step as `type` says, from the value that is there: copied once for all that come later. */
static enum ft_status convert_input(struct precision *p, int *in, const struct ft_type *type,
                                    struct ft_err *err)
{
    int twin = p->twin[*in];
    if (twin < 0) {
        struct ft_type seen = p->plan->pvals[*in].type;
        seen.dtype = type->dtype == FT_BF16 ? ft_device_float(p->plan->device) : FT_BF16;
        FT_RETURN_IF_FAILED(push_convert(p, *in, &seen, type->dtype, &twin, err));
        p->twin[*in] = twin;
    }
    *in = twin;
    return FT_OK;
}

/* ---- steps */

/* Operands and types of a step that is being rewritten: inputs, then outputs. */
struct parts {
    int *in;
    struct ft_type *types;
};

static enum ft_status own_parts(struct precision *p, struct ft_plan_step *step, struct parts *parts,
                                struct ft_err *err)
{
    size_t n = (size_t)step->n_in + (size_t)step->n_out;
    FT_RETURN_IF_FAILED(ft_arena_new(&p->plan->arena, n, sizeof *parts->in, &parts->in, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&p->plan->arena, n, sizeof *parts->types, &parts->types, err));
    memcpy(parts->in, step->in, n * sizeof *parts->in);
    memcpy(parts->types, step->types, n * sizeof *parts->types);
    step->in = parts->in;
    step->out = parts->in + step->n_in;
    step->types = parts->types;
    return FT_OK;
}

static bool made_of_weights(const struct precision *p, const struct ft_plan_step *step)
{
    bool reads = false;
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] >= 0) {
            reads = true;
            if (!p->settled[storage_of(p, step->in[k])]) {
                return false;
            }
        }
    }
    return reads;
}

static bool has_symbol(const struct ft_type *t)
{
    return !ft_type_is_known(t);
}

/* The batch, and any other open extent, is in what the step reads and no longer in what it makes. */
static bool sums_over_batch(const struct precision *p, const struct ft_plan_step *step, int o)
{
    const struct ft_graph *g = p->plan->graph;
    bool open = false;
    if (step->node < 0) {
        return false;
    }
    const struct ft_node *node = ft_graph_node(g, step->node);
    for (int k = 0; k < node->n_in; k++) {
        open = open || has_symbol(ft_graph_type(g, node->in[k]));
    }
    return open && o < node->n_out && !has_symbol(ft_graph_type(g, node->out[o]));
}

static void narrow_outputs(struct precision *p, const struct ft_plan_step *step, struct ft_type *types,
                           bool follow)
{
    for (int o = 0; o < step->n_out; o++) {
        int storage = storage_of(p, step->out[o]);
        struct ft_type *t = &types[step->n_in + o];
        char how = letter(rules[step->op].out, o);
        bool wants = how == 'n' || (how == 'f' && follow);
        if (wants && ft_dtype_is_float(t->dtype) && p->plan->storages[storage].place == FT_PLACE_BLOCK &&
            !sums_over_batch(p, step, o)) {
            p->narrow[storage] = true;
            p->plan->storages[storage].bytes =
                p->plan->storages[storage].bytes / ft_dtype_size(t->dtype) * ft_dtype_size(FT_BF16);
            t->dtype = FT_BF16;
        }
    }
}

static enum ft_status rewrite(struct precision *p, struct ft_plan_step *step, struct ft_err *err)
{
    struct parts parts;
    bool follow = false;
    FT_RETURN_IF_FAILED(own_parts(p, step, &parts, err));
    for (int k = 0; k < step->n_in; k++) {
        struct ft_type *t = &parts.types[k];
        if (parts.in[k] < 0 || !ft_dtype_is_float(t->dtype)) {
            continue;
        }
        char how = input_letter(step, k);
        bool is = p->narrow[storage_of(p, parts.in[k])];
        bool shall = how == 'n' || (how == 'e' && is);
        follow = follow || (how == 'e' && is);
        t->dtype = shall ? FT_BF16 : t->dtype;
        if (is != shall) {
            FT_RETURN_IF_FAILED(convert_input(p, &parts.in[k], t, err));
        }
    }
    narrow_outputs(p, step, parts.types, follow);
    return push(p, step, err);
}

/* ---- int8 */

/* Of a value that changes from run to run with a matrix that is made of parameters alone. */
static bool is_int8(const struct precision *p, const struct ft_plan_step *step)
{
    const struct ft_type *b = &step->types[1];
    if (step->is_reorder || !rules[step->op].int8 || step->attrs->trans_a != 0 || b->rank != 2 ||
        ft_elements(b) == 0) {
        return false;
    }
    bool weight = p->settled[storage_of(p, step->in[1])] && !p->settled[storage_of(p, step->in[0])];
    return weight && ft_extent(b, step->attrs->trans_b != 0 ? 1 : 0) <= FT_INT8_DEPTH_MAX;
}

static enum ft_status mark_int8(const struct precision *p, struct ft_plan_step *step, struct ft_err *err)
{
    struct ft_attrs *attrs = NULL;
    if (!is_int8(p, step)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&p->plan->arena, 1, sizeof *attrs, &attrs, err));
    memcpy(attrs, step->attrs, sizeof *attrs);
    attrs->int8 = 1;
    step->attrs = attrs;
    return FT_OK;
}

/* ---- the pass */

static enum ft_status look_at(struct precision *p, const struct ft_plan_step *from, struct ft_err *err)
{
    struct ft_plan_step step = *from;
    if (!made_of_weights(p, &step)) {
        if (ft_device_precision(p->plan->device) != FT_PRECISION_INT8) {
            return rewrite(p, &step, err);
        }
        FT_RETURN_IF_FAILED(mark_int8(p, &step, err));
        return push(p, &step, err);
    }
    for (int o = 0; o < step.n_out; o++) {
        p->settled[storage_of(p, step.out[o])] = true;
    }
    return push(p, &step, err);
}

static void show_types(const struct precision *p)
{
    for (size_t v = 0; v < p->n_pvals; v++) {
        struct ft_plan_pval *pval = &p->plan->pvals[v];
        if (pval->storage >= 0 && p->narrow[pval->storage]) {
            assert(pval->bound && ft_dtype_is_float(pval->type.dtype));
            pval->type.dtype = FT_BF16;
        }
    }
}

static enum ft_status run(struct precision *p, struct ft_err *err)
{
    struct ft_plan *plan = p->plan;
    FT_RETURN_IF_FAILED(ft_new(p->n_storages, sizeof *p->narrow, &p->narrow, err));
    FT_RETURN_IF_FAILED(ft_new(p->n_storages, sizeof *p->settled, &p->settled, err));
    FT_RETURN_IF_FAILED(ft_new(p->n_pvals, sizeof *p->twin, &p->twin, err));
    for (size_t i = 0; i < p->n_storages; i++) {
        enum ft_place place = plan->storages[i].place;
        p->settled[i] = place == FT_PLACE_PARAM || place == FT_PLACE_CONST;
    }
    for (size_t i = 0; i < p->n_pvals; i++) {
        p->twin[i] = -1;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        FT_RETURN_IF_FAILED(look_at(p, &plan->steps[i], err));
    }
    show_types(p);
    return FT_OK;
}

enum ft_status ft_plan_precision(struct ft_plan *plan, struct ft_err *err)
{
    struct precision p = {.plan = plan, .n_storages = plan->n_storages, .n_pvals = plan->n_pvals};
    if (ft_device_precision(plan->device) == FT_PRECISION_F32) {
        return FT_OK;
    }
    enum ft_status st = run(&p, err);
    if (st == FT_OK) {
        ft_free(plan->steps);
        plan->steps = p.steps;
        plan->n_steps = p.n_steps;
        plan->steps_capacity = p.capacity;
        p.steps = NULL;
    }
    ft_free(p.steps);
    ft_free(p.narrow);
    ft_free(p.settled);
    ft_free(p.twin);
    return st;
}
