#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"

/*
 * Element-wise steps over tensors of one shape that feed one another become one step, a chain (kernel.h).
 *
 * Steps are looked at in their order; one joins the chains that make its inputs if everything they leave for
 * others is read only later, because the chain stands where its last step stood.
 */

struct member { /* of a chain; by step */
    int chain;  /* number, or -1 */
    int next;   /* the next step of the same chain, or -1 */
};

struct group { /* a chain in the making */
    int first, last, n;
    int n_in; /* distinct inputs from outside, at most what it was when steps joined */
};

struct chains {
    struct ft_plan *plan;
    struct ft_plan_uses uses;
    struct member *members;
    struct group *groups;
    int n_groups;
    int *last_read; /* by storage: the last step looked at that reads it and is in no chain with its producer
                     */
};

static int storage_of(const struct chains *c, int pval)
{
    return c->plan->pvals[pval].storage;
}

static bool float_operand(const struct ft_type *t)
{
    return t->dtype == FT_F32 || t->dtype == FT_BF16;
}

static bool same_place(const struct ft_type *a, const struct ft_type *b)
{
    return a->layout == b->layout && ft_type_same_shape(a, b);
}

static bool same_type(const struct ft_type *a, const struct ft_type *b)
{
    return a->dtype == b->dtype && same_place(a, b);
}

/* Only the shape of EXPAND_TO's second input is read; every other input counts. */
static int operands_of(const struct ft_plan_step *step)
{
    return step->op == FT_OP_EXPAND_TO ? 1 : step->n_in;
}

static bool chainable(const struct chains *c, const struct ft_plan_step *step)
{
    bool fits = !step->is_reorder && !step->once && step->n_out == 1 && operands_of(step) <= 2 &&
                ft_chain_takes(c->plan->device, step->op) && float_operand(&step->types[step->n_in]);
    for (int k = 0; fits && k < operands_of(step); k++) {
        fits = step->in[k] >= 0 && float_operand(&step->types[k]) &&
               step->types[k].rank <= step->types[step->n_in].rank;
    }
    return fits;
}

/* ---- joining */

/* The chain whose member makes input k as a tensor of `step`'s own shape and layout, or -1. */
static int chain_before(const struct chains *c, const struct ft_plan_step *step, int k)
{
    int producer = c->uses.producer[storage_of(c, step->in[k])];
    if (producer < 0 || c->members[producer].chain < 0) {
        return -1;
    }
    const struct ft_plan_step *made = &c->plan->steps[producer];
    const struct ft_type *out = &step->types[step->n_in];
    bool same = same_place(&made->types[made->n_in], out) && same_place(&step->types[k], out);
    return same ? c->members[producer].chain : -1;
}

/* Has a step between the chain's own read what one of them made? */
static bool read_between(const struct chains *c, int chain)
{
    for (int s = c->groups[chain].first; s >= 0; s = c->members[s].next) {
        if (c->last_read[storage_of(c, c->plan->steps[s].out[0])] > s) {
            return true;
        }
    }
    return false;
}

static void start_chain(struct chains *c, int step)
{
    c->groups[c->n_groups] =
        (struct group){.first = step, .last = step, .n = 1, .n_in = operands_of(&c->plan->steps[step])};
    c->members[step] = (struct member){.chain = c->n_groups++, .next = -1};
}

static bool has_room(const struct chains *c, int a, int b)
{
    const struct group *x = &c->groups[a];
    const struct group *y = &c->groups[b];
    return x->n + y->n <= FT_CHAIN_OPS && x->n_in + y->n_in <= FT_CHAIN_INPUTS;
}

/* b's steps, all of them, come into a, in order. */
static void unite(struct chains *c, int a, int b)
{
    int x = c->groups[a].first;
    int y = c->groups[b].first;
    int last = -1;
    c->groups[a].n += c->groups[b].n;
    c->groups[a].n_in += c->groups[b].n_in;
    c->groups[b].n = 0;
    c->groups[a].first = x < y ? x : y;
    while (x >= 0 || y >= 0) {
        bool take_x = y < 0 || (x >= 0 && x < y);
        int s = take_x ? x : y;
        x = take_x ? c->members[x].next : x;
        y = take_x ? y : c->members[y].next;
        c->members[s] = (struct member){.chain = a, .next = -1};
        if (last >= 0) {
            c->members[last].next = s;
        }
        last = s;
    }
    c->groups[a].last = last;
}

static void join(struct chains *c, int index)
{
    const struct ft_plan_step *step = &c->plan->steps[index];
    start_chain(c, index);
    for (int k = 0; k < operands_of(step); k++) {
        int before = chain_before(c, step, k);
        int own = c->members[index].chain;
        if (before >= 0 && before != own && has_room(c, before, own) && !read_between(c, before)) {
            unite(c, before, own);
        }
    }
}

static void note_reads(struct chains *c, int index)
{
    const struct ft_plan_step *step = &c->plan->steps[index];
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] < 0) {
            continue;
        }
        int storage = storage_of(c, step->in[k]);
        int producer = c->uses.producer[storage];
        bool inside = producer >= 0 && c->members[producer].chain >= 0 &&
                      c->members[producer].chain == c->members[index].chain;
        if (!inside) {
            c->last_read[storage] = index;
        }
    }
}

/* ---- from a list of steps to one step */

struct draft {
    struct ft_chain *chain;
    struct ft_chain_op *ops;
    int *in; /* pvals: inputs, then outputs */
    struct ft_type *types;
    int *results;
    int made[FT_CHAIN_OPS]; /* storages, by row */
    int n_in;
};

/* Number of an operand in the chain: a row before, or an input, which is added if it is new. */
static int operand(const struct chains *c, struct draft *d, const struct ft_plan_step *step, int k, int row)
{
    int storage = storage_of(c, step->in[k]);
    for (int r = 0; r < row; r++) {
        if (d->made[r] == storage) {
            return FT_CHAIN_INPUTS + r; /* moved behind the inputs when their number is known */
        }
    }
    for (int i = 0; i < d->n_in; i++) {
        if (d->in[i] == step->in[k] && same_type(&d->types[i], &step->types[k])) {
            return i;
        }
    }
    assert(d->n_in < FT_CHAIN_INPUTS);
    d->in[d->n_in] = step->in[k];
    d->types[d->n_in] = step->types[k];
    return d->n_in++;
}

static bool read_outside(const struct chains *c, int index)
{
    int storage = storage_of(c, c->plan->steps[index].out[0]);
    return c->last_read[storage] >= 0 || c->plan->storages[storage].place != FT_PLACE_BLOCK;
}

static void add_outputs(struct chains *c, struct draft *d, const struct group *g)
{
    int row = 0;
    for (int s = g->first; s >= 0; s = c->members[s].next, row++) {
        const struct ft_plan_step *step = &c->plan->steps[s];
        if (read_outside(c, s)) {
            d->in[d->n_in + d->chain->n_out] = step->out[0];
            d->types[d->n_in + d->chain->n_out] = step->types[step->n_in];
            d->results[d->chain->n_out++] = row;
        } else {
            c->plan->storages[storage_of(c, step->out[0])].place = FT_PLACE_NONE;
        }
    }
}

static enum ft_status new_draft(struct ft_plan *plan, const struct group *g, struct draft *d,
                                struct ft_err *err)
{
    size_t most = (size_t)g->n_in + (size_t)g->n;
    memset(d, 0, sizeof *d);
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, 1, sizeof *d->chain, &d->chain, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, (size_t)g->n, sizeof *d->ops, &d->ops, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, (size_t)g->n, sizeof *d->results, &d->results, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&plan->arena, most, sizeof *d->in, &d->in, err));
    return ft_arena_new(&plan->arena, most, sizeof *d->types, &d->types, err);
}

static enum ft_status build(struct chains *c, const struct group *g, struct ft_err *err)
{
    struct ft_plan *plan = c->plan;
    struct draft d;
    int row = 0;
    FT_RETURN_IF_FAILED(new_draft(plan, g, &d, err));
    for (int s = g->first; s >= 0; s = c->members[s].next, row++) {
        const struct ft_plan_step *step = &plan->steps[s];
        d.ops[row] = (struct ft_chain_op){.op = step->op, .attrs = step->attrs, .in = {-1, -1}};
        for (int k = 0; k < operands_of(step); k++) {
            d.ops[row].in[k] = operand(c, &d, step, k, row);
        }
        d.made[row] = storage_of(c, step->out[0]);
    }
    for (int r = 0; r < row; r++) {
        for (int k = 0; k < 2; k++) {
            int n = d.ops[r].in[k];
            d.ops[r].in[k] = n >= FT_CHAIN_INPUTS ? n - FT_CHAIN_INPUTS + d.n_in : n;
        }
    }
    add_outputs(c, &d, g);
    struct ft_plan_step *last = &plan->steps[g->last];
    d.chain->n_in = d.n_in;
    d.chain->n_ops = row;
    d.chain->in = d.types;
    d.chain->out = d.types + d.n_in;
    d.chain->ops = d.ops;
    d.chain->results = d.results;
    last->chain = d.chain;
    last->n_in = d.n_in;
    last->n_out = d.chain->n_out;
    last->in = d.in;
    last->out = d.in + d.n_in;
    last->types = d.types;
    return FT_OK;
}

static bool reads_or_makes_bf16(const struct ft_plan_step *step)
{
    bool narrow = step->types[step->n_in].dtype == FT_BF16;
    for (int k = 0; k < operands_of(step); k++) {
        narrow = narrow || step->types[k].dtype == FT_BF16;
    }
    return narrow;
}

/* A chain that leaves more than it may is not worth the trouble of cutting: its steps stay as they are. One
 * step alone is worth it where operands are bf16, which chains turn into floats tile by tile. */
static bool worth_it(const struct chains *c, const struct group *g)
{
    int outputs = 0;
    for (int s = g->first; s >= 0; s = c->members[s].next) {
        outputs += read_outside(c, s);
    }
    return (g->n > 1 || (g->n == 1 && reads_or_makes_bf16(&c->plan->steps[g->first]))) &&
           outputs <= FT_CHAIN_OUTPUTS;
}

static enum ft_status build_all(struct chains *c, bool *gone, struct ft_err *err)
{
    for (int i = 0; i < c->n_groups; i++) {
        const struct group *g = &c->groups[i];
        if (!worth_it(c, g)) {
            continue;
        }
        FT_RETURN_IF_FAILED(build(c, g, err));
        for (int s = g->first; s != g->last; s = c->members[s].next) {
            gone[s] = true;
        }
    }
    return FT_OK;
}

enum ft_status ft_plan_chain(struct ft_plan *plan, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct chains c = {.plan = plan};
    bool *gone = NULL;
    if ((plan->flags & FT_PLAN_NO_FUSION) != 0) {
        return FT_OK;
    }
    FT_TRY(ft_plan_uses_init(&c.uses, plan, err));
    FT_TRY(ft_new(plan->n_steps, sizeof *gone, &gone, err));
    FT_TRY(ft_new(plan->n_steps, sizeof *c.members, &c.members, err));
    FT_TRY(ft_new(plan->n_steps, sizeof *c.groups, &c.groups, err));
    FT_TRY(ft_new(plan->n_storages, sizeof *c.last_read, &c.last_read, err));
    for (size_t i = 0; i < plan->n_storages; i++) {
        c.last_read[i] = -1;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        c.members[i].chain = -1;
        if (chainable(&c, &plan->steps[i])) {
            join(&c, (int)i);
        }
        note_reads(&c, (int)i);
    }
    FT_TRY(build_all(&c, gone, err));
    ft_plan_drop_steps(plan, gone);
done:
    ft_plan_uses_release(&c.uses);
    ft_free(gone);
    ft_free(c.members);
    ft_free(c.groups);
    ft_free(c.last_read);
    return st;
}
