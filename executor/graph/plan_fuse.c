#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/graph/plan_internal.h"

/*
 * Steps that disappear into the product before them: y = act(conv(x, w) + b + residual).
 *
 * A convolution or product whose result is read once takes over the batch normalisation (evaluation form,
 * folded into weights and bias), the sums with a bias and with a tensor of its own shape and the activation
 * that follow, and moves to where the last of them stood. What was read before is still there: nothing in a
 * plan is written twice.
 */

struct fuse {
    struct ft_plan *plan;
    struct ft_plan_uses uses;
    bool *gone; /* by step */
};

/* ---- who writes and reads what */

enum ft_status ft_plan_uses_init(struct ft_plan_uses *uses, const struct ft_plan *plan, struct ft_err *err)
{
    memset(uses, 0, sizeof *uses);
    FT_RETURN_IF_FAILED(ft_new(plan->n_storages, sizeof *uses->producer, &uses->producer, err));
    FT_RETURN_IF_FAILED(ft_new(plan->n_storages, sizeof *uses->reads, &uses->reads, err));
    for (size_t i = 0; i < plan->n_storages; i++) {
        uses->producer[i] = -1;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct ft_plan_step *step = &plan->steps[i];
        for (int k = 0; k < step->n_in; k++) {
            if (step->in[k] >= 0) {
                uses->reads[plan->pvals[step->in[k]].storage]++;
            }
        }
        for (int k = 0; k < step->n_out; k++) {
            uses->producer[plan->pvals[step->out[k]].storage] = (int)i;
        }
    }
    return FT_OK;
}

void ft_plan_uses_release(struct ft_plan_uses *uses)
{
    ft_free(uses->producer);
    ft_free(uses->reads);
    memset(uses, 0, sizeof *uses);
}

void ft_plan_drop_steps(struct ft_plan *plan, const bool *gone)
{
    size_t kept = 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        if (!gone[i]) {
            plan->steps[kept++] = plan->steps[i];
        }
    }
    plan->n_steps = kept;
}

static int storage_of(const struct fuse *f, int pval)
{
    return f->plan->pvals[pval].storage;
}

/* The product that makes input k of `step` for it alone; NULL if there is none. Its result may be seen under
 * another shape only when it is row-major. */
static struct ft_plan_step *product_before(const struct fuse *f, const struct ft_plan_step *step, int k)
{
    if (step->in[k] < 0) {
        return NULL;
    }
    int storage = storage_of(f, step->in[k]);
    int p = f->uses.producer[storage];
    if (p < 0 || f->uses.reads[storage] != 1 || f->plan->storages[storage].place != FT_PLACE_BLOCK) {
        return NULL;
    }
    struct ft_plan_step *product = &f->plan->steps[p];
    const struct ft_type *y = &product->types[product->n_in];
    const struct ft_type *seen = &step->types[k];
    bool is_product = product->op == FT_OP_CONV || product->op == FT_OP_MATMUL;
    bool same = y->layout == seen->layout && ft_type_same_shape(y, seen);
    bool view = y->layout == FT_ROW_MAJOR && seen->layout == FT_ROW_MAJOR;
    return is_product && product->attrs->act == FT_ACT_NONE && (same || view) ? product : NULL;
}

/* ---- rewriting */

/* The parts of a step that are still being written. */
struct parts {
    struct ft_attrs *attrs;
    int *in; /* inputs, then outputs */
    struct ft_type *types;
};

static enum ft_status new_parts(struct fuse *f, int operands, struct parts *p, struct ft_err *err)
{
    struct ft_arena *arena = &f->plan->arena;
    FT_RETURN_IF_FAILED(ft_arena_new(arena, 1, sizeof *p->attrs, &p->attrs, err));
    FT_RETURN_IF_FAILED(ft_arena_new(arena, (size_t)operands, sizeof *p->in, &p->in, err));
    return ft_arena_new(arena, (size_t)operands, sizeof *p->types, &p->types, err);
}

/* `product` comes to `step`'s place: with room for `more` inputs, attributes of its own, step's first output
 * (seen as the product's). */
static enum ft_status move_product(struct fuse *f, const struct ft_plan_step *product,
                                   struct ft_plan_step *step, int more, struct parts *p, struct ft_err *err)
{
    struct ft_plan *plan = f->plan;
    struct ft_plan_step moved = *product;
    int n_in = product->n_in + more;
    FT_RETURN_IF_FAILED(new_parts(f, n_in + 1, p, err));
    memcpy(p->attrs, product->attrs, sizeof *p->attrs);
    memcpy(p->in, product->in, (size_t)product->n_in * sizeof *p->in);
    memcpy(p->types, product->types, (size_t)product->n_in * sizeof *p->types);
    p->in[n_in] = step->out[0];
    p->types[n_in] = product->types[product->n_in];
    plan->storages[storage_of(f, product->out[0])].place = FT_PLACE_NONE;
    f->uses.producer[storage_of(f, product->out[0])] = -1;
    f->uses.producer[storage_of(f, step->out[0])] = (int)(step - plan->steps);
    f->gone[product - plan->steps] = true;
    moved.attrs = p->attrs;
    moved.n_in = n_in;
    moved.in = p->in;
    moved.out = p->in + n_in;
    moved.types = p->types;
    *step = moved;
    return FT_OK;
}

/* ---- activations */

static enum ft_act act_of_map(const struct ft_attrs *attrs, float *a)
{
    switch (attrs->kind) {
    case FT_MAP_GELU:
        return FT_ACT_GELU;
    case FT_MAP_GELU_TANH:
        return FT_ACT_GELU_TANH;
    case FT_MAP_SILU:
        *a = attrs->alpha;
        return FT_ACT_SILU;
    case FT_MAP_HARD_SWISH:
        return FT_ACT_HARD_SWISH;
    default:
        return FT_ACT_NONE;
    }
}

static enum ft_act act_of(const struct ft_plan_step *step, float *a, float *b)
{
    *a = 0.0F;
    *b = 0.0F;
    switch ((int)step->op) {
    case FT_OP_RELU:
        return FT_ACT_RELU;
    case FT_OP_LEAKY_RELU:
        *a = step->attrs->alpha;
        return *a >= 0.0F ? FT_ACT_LEAKY_RELU : FT_ACT_NONE;
    case FT_OP_CLIP:
        *a = step->attrs->lo;
        *b = step->attrs->hi;
        return isfinite(*a) && isfinite(*b) && *a <= *b ? FT_ACT_CLIP : FT_ACT_NONE;
    case FT_OP_SIGMOID:
        return FT_ACT_SIGMOID;
    case FT_OP_TANH:
        return FT_ACT_TANH;
    case FT_OP_MAP:
        return act_of_map(step->attrs, a);
    default:
        return FT_ACT_NONE;
    }
}

static enum ft_status fuse_act(struct fuse *f, struct ft_plan_step *step, struct ft_err *err)
{
    float a = 0.0F;
    float b = 0.0F;
    enum ft_act act = act_of(step, &a, &b);
    const struct ft_plan_step *product = act == FT_ACT_NONE ? NULL : product_before(f, step, 0);
    struct parts p;
    if (product == NULL || (product->op == FT_OP_MATMUL && product->attrs->alpha != 1.0F)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(move_product(f, product, step, 0, &p, err));
    p.attrs->act = act;
    p.attrs->act_a = a;
    p.attrs->act_b = b;
    return FT_OK;
}

/* ---- residuals */

/* Operand `other` as the product sees its result; false if it is not a tensor of that shape and layout. */
static bool residual_fits(const struct ft_plan_step *step, int other, const struct ft_plan_step *product)
{
    const struct ft_type *y = &product->types[product->n_in];
    const struct ft_type *sum = &step->types[step->n_in];
    const struct ft_type *r = &step->types[other];
    return step->in[other] >= 0 && r->layout == y->layout && r->dtype == y->dtype &&
           ft_type_same_shape(r, sum) && ft_elements(sum) == ft_elements(y);
}

static bool takes_residual(const struct ft_plan_step *product)
{
    bool plain = product->op == FT_OP_CONV ? product->attrs->group == 1 : product->attrs->alpha == 1.0F;
    return plain && product->attrs->residual == 0;
}

static enum ft_status fuse_residual(struct fuse *f, struct ft_plan_step *step, struct ft_err *err)
{
    const struct ft_plan_step *best = NULL;
    int side = 0;
    if (step->op != FT_OP_ADD || storage_of(f, step->in[0]) == storage_of(f, step->in[1])) {
        return FT_OK;
    }
    for (int k = 0; k < 2; k++) {
        const struct ft_plan_step *product = product_before(f, step, k);
        if (product != NULL && takes_residual(product) && residual_fits(step, 1 - k, product) &&
            product > best) {
            best = product;
            side = k;
        }
    }
    if (best == NULL) {
        return FT_OK;
    }
    struct parts p;
    int at = best->n_in;
    int residual = step->in[1 - side];
    FT_RETURN_IF_FAILED(move_product(f, best, step, 1, &p, err));
    p.attrs->residual = 1;
    p.in[at] = residual;
    p.types[at] = best->types[best->n_in];
    return FT_OK;
}

/* ---- biases */

static bool takes_bias(const struct ft_plan_step *product)
{
    return product->op == FT_OP_MATMUL && product->n_in == 2 && product->attrs->alpha == 1.0F;
}

/* Operand `other` is one number a column of the product's result, which the sum has too. */
static bool bias_fits(const struct ft_plan_step *step, int other, const struct ft_plan_step *product)
{
    const struct ft_type *y = &product->types[product->n_in];
    const struct ft_type *sum = &step->types[step->n_in];
    const struct ft_type *b = &step->types[other];
    int64_t cols = ft_extent(y, y->rank - 1);
    return step->in[other] >= 0 && b->rank == 1 && b->dtype == y->dtype && ft_elements(b) == cols &&
           ft_type_same_shape(sum, &step->types[1 - other]) && ft_extent(sum, sum->rank - 1) == cols;
}

static enum ft_status fuse_bias(struct fuse *f, struct ft_plan_step *step, struct ft_err *err)
{
    for (int k = 0; step->op == FT_OP_ADD && k < 2; k++) {
        const struct ft_plan_step *product = product_before(f, step, k);
        if (product == NULL || !takes_bias(product) || !bias_fits(step, 1 - k, product)) {
            continue;
        }
        struct parts p;
        int bias = step->in[1 - k];
        const struct ft_type type = step->types[1 - k];
        FT_RETURN_IF_FAILED(move_product(f, product, step, 1, &p, err));
        p.in[2] = bias;
        p.types[2] = type;
        return FT_OK;
    }
    return FT_OK;
}

/* ---- batch normalisation in its evaluation form */

/* w, [b] and the normalisation's five -> weights and bias of the convolution that does both. The new step
 * stands where the convolution stood. */
static enum ft_status push_fold(struct fuse *f, struct ft_plan_step *conv, const struct ft_plan_step *norm,
                                int folded[2], struct ft_err *err)
{
    struct ft_plan *plan = f->plan;
    struct parts p;
    int n_in = conv->n_in == 3 ? 6 : 5;
    FT_RETURN_IF_FAILED(new_parts(f, n_in + 2, &p, err));
    p.in[0] = conv->in[1];
    p.types[0] = conv->types[1];
    for (int i = 1; i < 5; i++) {
        p.in[i] = norm->in[i];
        p.types[i] = norm->types[i];
    }
    if (n_in == 6) {
        p.in[5] = conv->in[2];
        p.types[5] = conv->types[2];
    }
    for (int i = 0; i < 2; i++) {
        p.types[n_in + i] = p.types[i];
        FT_RETURN_IF_FAILED(ft_plan_new_pval(plan, &p.types[i], FT_PLACE_BLOCK, &folded[i], err));
        p.in[n_in + i] = folded[i];
    }
    *conv = (struct ft_plan_step){.op = FT_OP_FOLD_BATCHNORM,
                                  .node = conv->node,
                                  .attrs = norm->attrs,
                                  .n_in = n_in,
                                  .n_out = 2,
                                  .in = p.in,
                                  .out = p.in + n_in,
                                  .types = p.types};
    return FT_OK;
}

static enum ft_status fuse_batchnorm(struct fuse *f, struct ft_plan_step *step, struct ft_err *err)
{
    if (step->op != FT_OP_BATCHNORM) {
        return FT_OK;
    }
    struct ft_plan_step *conv = product_before(f, step, 0);
    if (conv == NULL || conv->op != FT_OP_CONV || conv->attrs->residual != 0 ||
        !ft_type_same_shape(&conv->types[conv->n_in], &step->types[0])) {
        return FT_OK;
    }
    const struct ft_plan_step norm = *step;
    int folded[2] = {-1, -1};
    struct parts p;
    FT_RETURN_IF_FAILED(move_product(f, conv, step, conv->n_in == 3 ? 0 : 1, &p, err));
    FT_RETURN_IF_FAILED(push_fold(f, conv, &norm, folded, err));
    f->gone[conv - f->plan->steps] = false; /* it is the folding now */
    p.in[1] = folded[0];
    p.in[2] = folded[1];
    p.types[2] = norm.types[1];
    return FT_OK;
}

enum ft_status ft_plan_fuse(struct ft_plan *plan, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct fuse f = {.plan = plan};
    if ((plan->flags & FT_PLAN_NO_FUSION) != 0 || !ft_device_fuses(plan->device)) {
        return FT_OK;
    }
    FT_TRY(ft_plan_uses_init(&f.uses, plan, err));
    FT_TRY(ft_new(plan->n_steps, sizeof *f.gone, &f.gone, err));
    for (size_t i = 0; i < plan->n_steps; i++) {
        if (!plan->steps[i].is_reorder) {
            FT_TRY(fuse_batchnorm(&f, &plan->steps[i], err));
            FT_TRY(fuse_bias(&f, &plan->steps[i], err));
            FT_TRY(fuse_residual(&f, &plan->steps[i], err));
            FT_TRY(fuse_act(&f, &plan->steps[i], err));
        }
    }
    ft_plan_drop_steps(plan, f.gone);
done:
    ft_plan_uses_release(&f.uses);
    ft_free(f.gone);
    return st;
}
