#include <math.h>
#include <string.h>

#include "kernels/check.h"
#include "kernels/sequence.h"

/* Sequences of tokens: padded (N, S, C) beside (N, S), or packed (T, C) beside (N, 2). */

/* `channels`: axes of x behind those of the tokens. */
static enum ft_status check_seq(const char *op, const struct ft_type *x, int channels,
                                const struct ft_type *seq, struct ft_err *err)
{
    if (x->rank != channels + 1 && x->rank != channels + 2) {
        return FT_FAIL(err, INVALID, "%s: x is %s, wanted rank %d (packed) or %d (padded)", op, FT_SHOW(x),
                       channels + 1, channels + 2);
    }
    if (x->rank == channels + 1 && (seq->rank != 2 || !ft_dim_equal(seq->dim[1], ft_dim_of(2)))) {
        return FT_FAIL(err, INVALID, "%s: seq is %s, not spans (N, 2) of the packed tokens of x %s", op,
                       FT_SHOW(seq), FT_SHOW(x));
    }
    if (x->rank == channels + 1) {
        return FT_OK;
    }
    if (seq->rank != 2 || !ft_dim_equal(seq->dim[0], x->dim[0]) || !ft_dim_equal(seq->dim[1], x->dim[1])) {
        return FT_FAIL(err, INVALID, "%s: seq is %s, not a mask of the tokens of x %s", op, FT_SHOW(seq),
                       FT_SHOW(x));
    }
    return FT_OK;
}

/* The size of a head; C must be known. */
static enum ft_status check_heads(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                  int64_t *size, struct ft_err *err)
{
    struct ft_dim channels = x->dim[x->rank - 1];
    if (attrs->group < 1 || !ft_dim_is_known(channels) || channels.coef % attrs->group != 0) {
        return FT_FAIL(err, INVALID, "%s: the last axis of %s is not made of %lld heads", op, FT_SHOW(x),
                       (long long)attrs->group);
    }
    *size = channels.coef / attrs->group;
    return FT_OK;
}

/* ---- attention */

struct attention {
    const char *op;
    const struct ft_type *q, *k, *v, *seq, *bias, *rng; /* the last two may be NULL */
};

/* `q`: the number of q among the inputs; k and v follow. */
static struct attention attention_of(const char *op, const struct ft_type *in, int n_in, int q, int seq)
{
    const struct ft_attention_extras more = ft_attention_extras_of(in, n_in, seq);
    return (struct attention){.op = op,
                              .q = &in[q],
                              .k = &in[q + 1],
                              .v = &in[q + 2],
                              .seq = &in[seq],
                              .bias = more.bias < 0 ? NULL : &in[more.bias],
                              .rng = more.rng < 0 ? NULL : &in[more.rng]};
}

static enum ft_status check_dropout(const struct attention *a, const struct ft_attrs *attrs,
                                    struct ft_err *err)
{
    if (a->rng == NULL) {
        return FT_OK;
    }
    if (!(attrs->dropout >= 0.0F && attrs->dropout <= 1.0F)) {
        return FT_FAIL(err, INVALID, "%s: probability %g is not in [0, 1]", a->op, (double)attrs->dropout);
    }
    if (attrs->node < 0 || attrs->node >= 1 << 20) {
        return FT_FAIL(err, LIMIT, "%s: node number %lld is not below 2^20", a->op, (long long)attrs->node);
    }
    return ft_check_vector(a->op, "rng", a->rng, ft_dim_of(2), err);
}

static enum ft_status check_attention(const struct attention *a, const struct ft_attrs *attrs,
                                      struct ft_type *lse, struct ft_err *err)
{
    int64_t size = 0;
    FT_RETURN_IF_FAILED(check_seq(a->op, a->q, 1, a->seq, err));
    FT_RETURN_IF_FAILED(ft_check_same(a->op, "q and k", a->q, a->k, err));
    FT_RETURN_IF_FAILED(ft_check_same(a->op, "q and v", a->q, a->v, err));
    FT_RETURN_IF_FAILED(check_heads(a->op, attrs, a->q, &size, err));
    if (!isfinite(attrs->alpha) || attrs->count < 0) {
        return FT_FAIL(err, INVALID, "%s: scale %g, window %lld", a->op, (double)attrs->alpha,
                       (long long)attrs->count);
    }
    const struct ft_type *b = a->bias;
    if (b != NULL && (b->rank != 2 || !ft_dim_equal(b->dim[0], ft_dim_of(attrs->group)) ||
                      !ft_dim_is_known(b->dim[1]) || b->dim[1].coef % 2 == 0)) {
        return FT_FAIL(err, INVALID, "%s: bias is %s, wanted (%lld heads, an odd number of distances)", a->op,
                       FT_SHOW(b), (long long)attrs->group);
    }
    FT_RETURN_IF_FAILED(check_dropout(a, attrs, err));
    *lse = ft_check_like(a->q);
    lse->dim[lse->rank - 1] = ft_dim_of(attrs->group);
    return FT_OK;
}

enum ft_status ft_infer_attention(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    const struct attention a = attention_of("attention", in, n_in, 0, 3);
    if (n_in == 6 && (a.bias == NULL || a.rng == NULL)) {
        return FT_FAIL(err, INVALID, "attention: of bias and rng each is given once, in this order");
    }
    FT_RETURN_IF_FAILED(check_attention(&a, attrs, &out[1], err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

static enum ft_status check_attention_bwd(const char *op, const struct ft_attrs *attrs,
                                          const struct ft_type *in, int n_in, struct ft_err *err)
{
    const struct attention a = attention_of(op, in, n_in, 1, 6);
    struct ft_type lse;
    if (n_in == 9 && (a.bias == NULL || a.rng == NULL)) {
        return FT_FAIL(err, INVALID, "%s: of bias and rng each is given once, in this order", op);
    }
    FT_RETURN_IF_FAILED(check_attention(&a, attrs, &lse, err));
    FT_RETURN_IF_FAILED(ft_check_same(op, "dy and q", &in[0], &in[1], err));
    FT_RETURN_IF_FAILED(ft_check_same(op, "y and q", &in[4], &in[1], err));
    return ft_check_implied(op, "lse", &in[5], &lse, err);
}

enum ft_status ft_infer_attention_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                      struct ft_type *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(check_attention_bwd("attention_bwd", attrs, in, n_in, err));
    for (int i = 0; i < 3; i++) {
        out[i] = ft_check_like(&in[1]);
    }
    return FT_OK;
}

enum ft_status ft_infer_attention_bwd_bias(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                           struct ft_type *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(check_attention_bwd("attention_bwd_bias", attrs, in, n_in, err));
    out[0] = ft_check_like(&in[7]);
    return FT_OK;
}

/* ---- places */

enum ft_status ft_infer_rope(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    int64_t size = 0;
    if (n_in == 2) {
        FT_RETURN_IF_FAILED(check_seq("rope", &in[0], 1, &in[1], err));
    } else if (in[0].rank != 3) {
        return FT_FAIL(err, INVALID, "rope: x is %s, wanted rank 3, or seq beside packed tokens",
                       FT_SHOW(&in[0]));
    }
    FT_RETURN_IF_FAILED(check_heads("rope", attrs, &in[0], &size, err));
    if (attrs->count < 2 || attrs->count % 2 != 0 || attrs->count > size) {
        return FT_FAIL(err, INVALID, "rope: %lld of %lld numbers a head are no pairs",
                       (long long)attrs->count, (long long)size);
    }
    if (!(attrs->alpha > 0.0F) || !isfinite(attrs->alpha) || (attrs->kind != 0 && attrs->kind != 1)) {
        return FT_FAIL(err, INVALID, "rope: base %g, direction %d", (double)attrs->alpha, attrs->kind);
    }
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_positions(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    FT_RETURN_IF_FAILED(check_seq("positions", &in[1], 0, &in[0], err));
    if (n_in == 3) {
        FT_RETURN_IF_FAILED(ft_check_same("positions", "ids and n", &in[1], &in[2], err));
    }
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = FT_I64;
    return FT_OK;
}

/* ---- pooling */

static enum ft_status check_pool(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                 const struct ft_type *seq, struct ft_type *y, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(check_seq(op, x, 1, seq, err));
    if (attrs->kind < 0 || attrs->kind >= FT_SEQ_COUNT) {
        return FT_FAIL(err, INVALID, "%s: there is no pooling %d", op, attrs->kind);
    }
    *y = ft_check_like(x);
    memset(y->dim, 0, sizeof y->dim);
    y->rank = 2;
    y->dim[0] = seq->dim[0];
    y->dim[1] = x->dim[x->rank - 1];
    return FT_OK;
}

enum ft_status ft_infer_seq_pool(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                 struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return check_pool("seq_pool", attrs, &in[0], &in[1], &out[0], err);
}

enum ft_status ft_infer_seq_pool_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                     struct ft_type *out, struct ft_err *err)
{
    struct ft_type y;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_pool("seq_pool_bwd", attrs, &in[1], &in[3], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("seq_pool_bwd", "dy", &in[0], &y, err));
    FT_RETURN_IF_FAILED(ft_check_implied("seq_pool_bwd", "y", &in[2], &y, err));
    out[0] = ft_check_like(&in[1]);
    return FT_OK;
}
