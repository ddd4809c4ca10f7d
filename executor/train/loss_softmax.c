#include "executor/train/loss_softmax.h"

#include <string.h>

/* Added to what a softmax shall not see: exp() of it is 0 beside any cosine. */
static const float far_below = 1e9F;

struct building {
    struct ft_graph *g;
    const struct ft_loss_spec *spec;
    ft_value cosines;  /* (M, N) */
    ft_value pos, neg; /* (M, N) 0 or 1: pairs of one label and of two */
    ft_value any_neg;  /* (1, 1) 0 or 1: without a negative there is no loss */
};

static enum ft_status unary(struct building *b, enum ft_op op, const struct ft_attrs *attrs, ft_value x,
                            ft_value *out, struct ft_err *err)
{
    ft_value outs[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(ft_graph_add(b->g, op, attrs, &x, 1, "loss/softmax", outs, err));
    *out = outs[0];
    return FT_OK;
}

static enum ft_status scaled(struct building *b, ft_value x, float alpha, float beta, ft_value *out,
                             struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = alpha;
    attrs.beta = beta;
    return unary(b, FT_OP_SCALE, &attrs, x, out, err);
}

static enum ft_status softplus(struct building *b, ft_value x, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_MAP_SOFTPLUS;
    return unary(b, FT_OP_MAP, &attrs, x, out, err);
}

/* Sum (kind < 0) or another fold over the columns, or over everything; extents stay as 1. */
static enum ft_status folded(struct building *b, ft_value x, int kind, bool everything, ft_value *out,
                             struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = kind < 0 ? 0 : kind;
    attrs.axes_count = everything ? 2 : 1;
    attrs.axes[0] = everything ? 0 : 1;
    attrs.axes[1] = everything ? 1 : 0;
    attrs.keepdims = 1;
    return unary(b, kind < 0 ? FT_OP_REDUCE_SUM : FT_OP_REDUCE, &attrs, x, out, err);
}

static enum ft_status sum(struct building *b, ft_value x, ft_value *out, struct ft_err *err)
{
    return folded(b, x, -1, false, out, err);
}

/* x where keep is 1, far below elsewhere. */
static enum ft_status kept(struct building *b, ft_value x, ft_value keep, ft_value *out, struct ft_err *err)
{
    ft_value mask = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(scaled(b, keep, far_below, -far_below, &mask, err));
    return ft_graph_add2(b->g, FT_OP_ADD, x, mask, out, err);
}

/* (M, 1): log sum exp over the columns that are kept. */
static enum ft_status log_sum_exp(struct building *b, ft_value x, ft_value keep, ft_value *out,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(kept(b, x, keep, &x, err));
    return folded(b, x, FT_FOLD_LOG_SUM_EXP, false, out, err);
}

/* The mean of `terms` by the reducer: of positive pairs (M, N), or of anchors (M, 1). */
static enum ft_status reduced(struct building *b, ft_value terms, bool of_pairs, ft_value *loss,
                              struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value outs[FT_MAX_OUTPUTS];
    ft_value in[2] = {terms, b->pos};
    if (!of_pairs) { /* one each */
        FT_RETURN_IF_FAILED(sum(b, b->pos, &in[1], err));
        FT_RETURN_IF_FAILED(scaled(b, in[1], 0.0F, 1.0F, &in[1], err));
    }
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_MUL, in[1], b->any_neg, &in[1], err));
    memset(&attrs, 0, sizeof attrs);
    attrs.reducer = b->spec->reducer;
    FT_RETURN_IF_FAILED(ft_graph_add(b->g, FT_OP_MASKED_MEAN, &attrs, in, 2, "loss/reduce", outs, err));
    *loss = outs[0];
    return FT_OK;
}

/* Of each anchor, minus the mean over its positives of log softmax over all others. */
static enum ft_status supcon(struct building *b, ft_value *loss, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value both = FT_NO_VALUE;
    ft_value v = FT_NO_VALUE;
    ft_value count = FT_NO_VALUE;
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = 1;
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_ADD, b->pos, b->neg, &both, err));
    FT_RETURN_IF_FAILED(scaled(b, b->cosines, 1.0F / b->spec->temperature, 0.0F, &v, err));
    FT_RETURN_IF_FAILED(kept(b, v, both, &v, err));
    FT_RETURN_IF_FAILED(unary(b, FT_OP_LOG_SOFTMAX, &attrs, v, &v, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_MUL, v, b->pos, &v, err));
    FT_RETURN_IF_FAILED(sum(b, v, &v, err));
    FT_RETURN_IF_FAILED(sum(b, b->pos, &count, err));
    /* Too small to change a count; an anchor without positives has 0 / 1e-12 = 0. */
    FT_RETURN_IF_FAILED(scaled(b, count, -1.0F, -1e-12F, &count, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_DIV, v, count, &v, err));
    return reduced(b, v, false, loss, err);
}

/* Of each positive pair, -log(exp p / (exp p + sum exp n)) over the anchor's negatives = softplus(log sum exp
 * n - p). */
static enum ft_status ntxent(struct building *b, ft_value *loss, struct ft_err *err)
{
    ft_value logits = FT_NO_VALUE;
    ft_value v = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(scaled(b, b->cosines, 1.0F / b->spec->temperature, 0.0F, &logits, err));
    FT_RETURN_IF_FAILED(log_sum_exp(b, logits, b->neg, &v, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_SUB, v, logits, &v, err));
    FT_RETURN_IF_FAILED(softplus(b, v, &v, err));
    return reduced(b, v, true, loss, err);
}

/* log(1 + sum exp(factor (s - base))) / |factor| over what is kept. */
static enum ft_status one_side(struct building *b, float factor, ft_value keep, ft_value *out,
                               struct ft_err *err)
{
    ft_value v = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(scaled(b, b->cosines, factor, -factor * b->spec->base, &v, err));
    FT_RETURN_IF_FAILED(log_sum_exp(b, v, keep, &v, err));
    FT_RETURN_IF_FAILED(softplus(b, v, &v, err));
    return scaled(b, v, factor < 0.0F ? -1.0F / factor : 1.0F / factor, 0.0F, out, err);
}

static enum ft_status multi_similarity(struct building *b, ft_value *loss, struct ft_err *err)
{
    ft_value pull = FT_NO_VALUE;
    ft_value push = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(one_side(b, -b->spec->alpha, b->pos, &pull, err));
    FT_RETURN_IF_FAILED(one_side(b, b->spec->beta, b->neg, &push, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(b->g, FT_OP_ADD, pull, push, &pull, err));
    return reduced(b, pull, false, loss, err);
}

static enum ft_status cosines(struct building *b, const struct ft_loss_inputs *in, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value outs[FT_MAX_OUTPUTS];
    ft_value ab[2] = {FT_NO_VALUE, FT_NO_VALUE};
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = 1e-12F; /* torch.nn.functional.normalize */
    FT_RETURN_IF_FAILED(unary(b, FT_OP_L2_NORMALIZE, &attrs, in->rows, &ab[0], err));
    ab[1] = ab[0];
    if (in->all != in->rows) {
        FT_RETURN_IF_FAILED(unary(b, FT_OP_L2_NORMALIZE, &attrs, in->all, &ab[1], err));
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    attrs.trans_b = 1;
    FT_RETURN_IF_FAILED(ft_graph_add(b->g, FT_OP_MATMUL, &attrs, ab, 2, "loss/cosine", outs, err));
    b->cosines = outs[0];
    return FT_OK;
}

enum ft_status ft_loss_softmax_build(struct ft_graph *g, const struct ft_loss_spec *spec,
                                     const struct ft_loss_inputs *in, ft_value *loss, ft_value *stats,
                                     struct ft_err *err)
{
    struct building b = {.g = g, .spec = spec};
    struct ft_attrs attrs;
    ft_value outs[FT_MAX_OUTPUTS];
    FT_RETURN_IF_FAILED(cosines(&b, in, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.miner = FT_MINER_NONE;
    attrs.offset = in->offset;
    const ft_value mined[3] = {b.cosines, in->row_labels, in->all_labels};
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_PAIRS, &attrs, mined, 3, "loss/pairs", outs, err));
    b.pos = outs[0];
    b.neg = outs[1];
    *stats = outs[2];
    FT_RETURN_IF_FAILED(folded(&b, b.neg, FT_FOLD_MAX, true, &b.any_neg, err));
    switch (spec->kind) {
    case FT_LOSS_SUPCON:
        return supcon(&b, loss, err);
    case FT_LOSS_NTXENT:
        return ntxent(&b, loss, err);
    case FT_LOSS_MULTI_SIMILARITY:
        return multi_similarity(&b, loss, err);
    case FT_LOSS_TRIPLET:
    case FT_LOSS_CONTRASTIVE:
        break;
    }
    return FT_FAIL(err, INVALID, "not a loss over softmaxes");
}
