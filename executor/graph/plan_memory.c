#include <assert.h>
#include <limits.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"

/* ---- life times */

static int root_of(const struct ft_plan *plan, int storage)
{
    while (plan->storages[storage].share >= 0) {
        storage = plan->storages[storage].share;
    }
    return storage;
}

static void find_life_times(struct ft_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        for (int k = 0; k < step->n_in + step->n_out; k++) {
            int pval = step->in[k]; /* the outputs follow the inputs */
            if (pval < 0) {
                continue;
            }
            struct ft_plan_storage *s = &plan->storages[plan->pvals[pval].storage];
            s->first = (int)i < s->first ? (int)i : s->first;
            s->last = (int)i > s->last ? (int)i : s->last;
        }
    }
}

/* ---- in place */

/* Rows in which element i of the output depends on element i of each input of the output's shape, and on
 * nothing else of that input. */
static bool is_elementwise(enum ft_op op)
{
    static const bool rows[FT_OP_COUNT] = {
        [FT_OP_RELU] = true,       [FT_OP_RELU_BWD] = true,
        [FT_OP_LEAKY_RELU] = true, [FT_OP_LEAKY_RELU_BWD] = true,
        [FT_OP_SIGMOID] = true,    [FT_OP_SIGMOID_BWD] = true,
        [FT_OP_TANH] = true,       [FT_OP_TANH_BWD] = true,
        [FT_OP_CLIP] = true,       [FT_OP_CLIP_BWD] = true,
        [FT_OP_EXP] = true,        [FT_OP_LOG] = true,
        [FT_OP_SQRT] = true,       [FT_OP_NEG] = true,
        [FT_OP_SCALE] = true,      [FT_OP_ADD] = true,
        [FT_OP_SUB] = true,        [FT_OP_MUL] = true,
        [FT_OP_DIV] = true,        [FT_OP_POW] = true,
        [FT_OP_DROPOUT] = true,    [FT_OP_WHERE] = true,
        [FT_OP_MAXIMUM] = true,    [FT_OP_MINIMUM] = true,
        [FT_OP_MOD] = true,        [FT_OP_LOGIC] = true,
        [FT_OP_MAP] = true,        [FT_OP_MAP_BWD] = true,
    };
    return rows[op];
}

/* In a chain: does a row behind the one that makes output o read input k? */
static bool read_later(const struct ft_plan_step *step, int k, int o)
{
    const struct ft_chain *chain = step->chain;
    for (int r = chain == NULL ? 0 : chain->results[o] + 1; chain != NULL && r < chain->n_ops; r++) {
        if (chain->ops[r].in[0] == k || chain->ops[r].in[1] == k) {
            return true;
        }
    }
    return false;
}

static bool may_take_over(const struct ft_plan *plan, const struct ft_plan_step *step, int index, int k,
                          int o)
{
    const struct ft_type *out = &step->types[step->n_in + o];
    int pval = step->in[k];
    if (pval < 0) {
        return false;
    }
    int root = root_of(plan, plan->pvals[pval].storage);
    const struct ft_plan_storage *s = &plan->storages[root];
    if (s->place != FT_PLACE_BLOCK || s->last != index) {
        return false;
    }
    /* Whatever else the step reads from these bytes, it must read element by element too. */
    for (int i = 0; i < step->n_in; i++) {
        bool same_bytes = step->in[i] >= 0 && root_of(plan, plan->pvals[step->in[i]].storage) == root;
        const struct ft_type *t = &step->types[i];
        if (same_bytes && (t->dtype != out->dtype || t->layout != out->layout ||
                           !ft_type_same_shape(t, out) || read_later(step, i, o))) {
            return false;
        }
    }
    return true;
}

static void take_over(struct ft_plan *plan, const struct ft_plan_step *step, int k, int o)
{
    int to = plan->pvals[step->out[o]].storage;
    int root = root_of(plan, plan->pvals[step->in[k]].storage);
    plan->storages[to].share = root;
    plan->storages[root].last = plan->storages[to].last;
}

/* What a product adds to its sum may become the sum where the device does so, if nothing else of the step
 * reads those bytes. */
static void reuse_residual(struct ft_plan *plan, int index)
{
    const struct ft_plan_step *step = &plan->steps[index];
    const struct ft_plan_storage *to = &plan->storages[plan->pvals[step->out[0]].storage];
    int k = step->n_in - 1;
    const struct ft_call call = ft_plan_call_of(step);
    if (to->place != FT_PLACE_BLOCK || !may_take_over(plan, step, index, k, 0) ||
        !ft_kernel_adds_in_place(plan->device, &call)) {
        return;
    }
    int root = root_of(plan, plan->pvals[step->in[k]].storage);
    for (int i = 0; i < k; i++) {
        if (step->in[i] >= 0 && root_of(plan, plan->pvals[step->in[i]].storage) == root) {
            return;
        }
    }
    take_over(plan, step, k, 0);
}

static void reuse_for_output(struct ft_plan *plan, int index, int o)
{
    const struct ft_plan_step *step = &plan->steps[index];
    int to = plan->pvals[step->out[o]].storage;
    if (plan->storages[to].place != FT_PLACE_BLOCK) {
        return;
    }
    for (int k = 0; k < step->n_in; k++) {
        if (may_take_over(plan, step, index, k, o)) {
            take_over(plan, step, k, o);
            return;
        }
    }
}

static void reuse_in_place(struct ft_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        bool fits = (step->chain != NULL || is_elementwise(step->op)) && !step->is_reorder;
        for (int o = 0; fits && o < (step->chain != NULL ? step->n_out : 1); o++) {
            reuse_for_output(plan, (int)i, o);
        }
        if (step->chain == NULL && !step->is_reorder && step->attrs->residual != 0) {
            reuse_residual(plan, (int)i);
        }
    }
}

/* ---- offsets */

struct gap {
    size_t offset, size;
};

/* Gaps below `end`, in order of their offsets, never touching one another. */
struct packer {
    struct gap *gaps;
    size_t n_gaps, capacity;
    size_t end;
};

static size_t rounded(size_t bytes)
{
    return (bytes + FT_ALIGN - 1) / FT_ALIGN * FT_ALIGN;
}

static void remove_gap(struct packer *p, size_t i)
{
    p->n_gaps--;
    for (size_t k = i; k < p->n_gaps; k++) {
        p->gaps[k] = p->gaps[k + 1];
    }
}

/* The smallest gap that is large enough; else the end grows, from a gap that reaches it. */
static size_t take(struct packer *p, size_t size)
{
    size_t best = p->n_gaps;
    for (size_t i = 0; i < p->n_gaps; i++) {
        if (p->gaps[i].size >= size && (best == p->n_gaps || p->gaps[i].size < p->gaps[best].size)) {
            best = i;
        }
    }
    if (best < p->n_gaps) {
        size_t offset = p->gaps[best].offset;
        p->gaps[best].offset += size;
        p->gaps[best].size -= size;
        if (p->gaps[best].size == 0) {
            remove_gap(p, best);
        }
        return offset;
    }
    size_t offset = p->end;
    if (p->n_gaps > 0 && p->gaps[p->n_gaps - 1].offset + p->gaps[p->n_gaps - 1].size == p->end) {
        offset = p->gaps[--p->n_gaps].offset;
    }
    p->end = offset + size;
    return offset;
}

/* There is room for one more gap. */
static void give(struct packer *p, size_t offset, size_t size)
{
    size_t at = 0;
    while (at < p->n_gaps && p->gaps[at].offset < offset) {
        at++;
    }
    bool joins_next = at < p->n_gaps && offset + size == p->gaps[at].offset;
    bool joins_prev = at > 0 && p->gaps[at - 1].offset + p->gaps[at - 1].size == offset;
    if (joins_prev) {
        p->gaps[at - 1].size += size;
        if (joins_next) {
            p->gaps[at - 1].size += p->gaps[at].size;
            remove_gap(p, at);
        }
    } else if (joins_next) {
        p->gaps[at].offset = offset;
        p->gaps[at].size += size;
    } else {
        for (size_t k = p->n_gaps; k > at; k--) {
            p->gaps[k] = p->gaps[k - 1];
        }
        p->gaps[at] = (struct gap){.offset = offset, .size = size};
        p->n_gaps++;
    }
}

/* The packed storage that pval stands for, if it begins (or ends) at step `index`; -1 otherwise. */
static int packed_at(const struct ft_plan *plan, int pval, int index, bool begins)
{
    if (pval < 0) {
        return -1;
    }
    int storage = plan->pvals[pval].storage;
    if (plan->storages[storage].place != FT_PLACE_BLOCK) {
        return -1;
    }
    int root = root_of(plan, storage);
    const struct ft_plan_storage *s = &plan->storages[root];
    return (begins ? s->first : s->last) == index ? root : -1;
}

/* Give and take in the order of the steps; `placed` guards against a storage that a step names twice. */
static void pack(struct ft_plan *plan, struct packer *p, bool *placed)
{
    bool reuse = (plan->flags & FT_PLAN_NO_PACKING) == 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        for (int k = 0; k < step->n_out; k++) {
            int root = packed_at(plan, step->out[k], (int)i, true);
            if (root >= 0 && !placed[root]) {
                plan->storages[root].offset = take(p, rounded(plan->storages[root].bytes));
                placed[root] = true;
            }
        }
        for (int k = 0; reuse && k < step->n_in + step->n_out; k++) {
            int root = packed_at(plan, step->in[k], (int)i, false);
            if (root >= 0 && placed[root]) {
                give(p, plan->storages[root].offset, rounded(plan->storages[root].bytes));
                placed[root] = false;
            }
        }
    }
}

enum ft_status ft_plan_memory(struct ft_plan *plan, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct packer p = {0};
    bool *placed = NULL;
    find_life_times(plan);
    if ((plan->flags & (FT_PLAN_NO_INPLACE | FT_PLAN_NO_PACKING)) == 0) {
        reuse_in_place(plan);
    }
    FT_TRY(ft_new(plan->n_storages, sizeof *placed, &placed, err));
    FT_TRY(ft_grow(&p.gaps, &p.capacity, plan->n_storages + 1, sizeof *p.gaps, err));
    pack(plan, &p, placed);
    for (size_t i = 0; i < plan->n_storages; i++) {
        struct ft_plan_storage *s = &plan->storages[i];
        if (s->place == FT_PLACE_BLOCK) {
            s->offset = plan->storages[root_of(plan, (int)i)].offset;
        }
    }
    plan->block_bytes = p.end;
done:
    ft_free(placed);
    ft_free(p.gaps);
    return st;
}

bool ft_plan_memory_is_sound(const struct ft_plan *plan)
{
    for (size_t i = 0; i < plan->n_storages; i++) {
        const struct ft_plan_storage *a = &plan->storages[i];
        if (a->place != FT_PLACE_BLOCK) {
            continue;
        }
        if (a->offset % FT_ALIGN != 0 || a->offset + a->bytes > plan->block_bytes) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            const struct ft_plan_storage *b = &plan->storages[k];
            bool apart = b->place != FT_PLACE_BLOCK || a->last < b->first || b->last < a->first ||
                         a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            if (!apart && root_of(plan, (int)i) != root_of(plan, (int)k)) {
                return false;
            }
        }
    }
    return true;
}
