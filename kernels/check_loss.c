#include "kernels/check.h"

#include <math.h>
#include <string.h>

/* Embeddings, losses, optimisers. */

static struct ft_type scalar_of(enum ft_dtype dtype)
{
    return ft_type_of(dtype, 0, NULL);
}

/* ---- normalisation */

static enum ft_status infer_norm(const char *op, const struct ft_attrs *attrs, const struct ft_type *x,
                                 struct ft_type *norm, struct ft_err *err)
{
    if (x->rank < 1) {
        return FT_FAIL(err, INVALID, "%s: x is %s, wanted at least one axis", op, FT_SHOW(x));
    }
    if (!(attrs->eps > 0.0F)) {
        return FT_FAIL(err, INVALID, "%s: eps is %g, wanted more than 0", op, (double)attrs->eps);
    }
    *norm = ft_check_like(x);
    norm->rank--;
    norm->dim[norm->rank] = ft_dim_of(0);
    return FT_OK;
}

enum ft_status ft_infer_l2_normalize(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                     struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(infer_norm("l2_normalize", attrs, &in[0], &out[1], err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_l2_normalize_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                         struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type norm;
    FT_RETURN_IF_FAILED(infer_norm("l2_normalize_bwd", attrs, &in[0], &norm, err));
    FT_RETURN_IF_FAILED(ft_check_same("l2_normalize_bwd", "dy and y", &in[0], &in[1], err));
    FT_RETURN_IF_FAILED(ft_check_implied("l2_normalize_bwd", "norm", &in[2], &norm, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

/* ---- distances */

static enum ft_status infer_pdist(const char *op, const struct ft_attrs *attrs, const struct ft_type *a,
                                  const struct ft_type *b, struct ft_type *d, struct ft_err *err)
{
    if (attrs->kind != FT_DIST_EUCLIDEAN && attrs->kind != FT_DIST_SQEUCLIDEAN) {
        return FT_FAIL(err, INVALID, "%s: there is no distance %d", op, attrs->kind);
    }
    FT_RETURN_IF_FAILED(ft_check_rank(op, "a", a, 2, err));
    FT_RETURN_IF_FAILED(ft_check_rank(op, "b", b, 2, err));
    if (!ft_dim_equal(a->dim[1], b->dim[1])) {
        return FT_FAIL(err, INVALID, "%s: rows of a %s and b %s differ in length", op, FT_SHOW(a),
                       FT_SHOW(b));
    }
    *d = ft_check_like(a);
    d->dim[1] = b->dim[0];
    return FT_OK;
}

enum ft_status ft_infer_pdist(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_pdist("pdist", attrs, &in[0], &in[1], &out[0], err);
}

enum ft_status ft_infer_pdist_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    struct ft_type d;
    FT_RETURN_IF_FAILED(infer_pdist("pdist_bwd", attrs, &in[2], &in[3], &d, err));
    FT_RETURN_IF_FAILED(ft_check_implied("pdist_bwd", "dd", &in[0], &d, err));
    FT_RETURN_IF_FAILED(ft_check_implied("pdist_bwd", "d", &in[1], &d, err));
    out[0] = ft_check_like(&in[2]);
    out[1] = ft_check_like(&in[3]);
    return FT_OK;
}

/* ---- triplets and pairs */

static enum ft_status check_mining(const char *op, const struct ft_attrs *attrs, const struct ft_type *mine,
                                   const struct ft_type *la, const struct ft_type *lb, struct ft_err *err)
{
    if ((int)attrs->miner < 0 || attrs->miner > FT_MINER_FACENET_SEMIHARD) {
        return FT_FAIL(err, INVALID, "%s: there is no miner %d", op, (int)attrs->miner);
    }
    if (!isfinite(attrs->margin) || !isfinite(attrs->miner_margin)) {
        return FT_FAIL(err, INVALID, "%s: margins %g and %g must be finite", op, (double)attrs->margin,
                       (double)attrs->miner_margin);
    }
    FT_RETURN_IF_FAILED(ft_check_rank(op, "mine", mine, 2, err));
    FT_RETURN_IF_FAILED(ft_check_vector(op, "la", la, mine->dim[0], err));
    return ft_check_vector(op, "lb", lb, mine->dim[1], err);
}

static enum ft_status check_reducer(const char *op, const struct ft_attrs *attrs, struct ft_err *err)
{
    if (attrs->reducer != FT_REDUCE_AVG_NON_ZERO && attrs->reducer != FT_REDUCE_MEAN) {
        return FT_FAIL(err, INVALID, "%s: there is no reducer %d", op, (int)attrs->reducer);
    }
    return FT_OK;
}

static const int64_t stats_extent[1] = {4};

enum ft_status ft_infer_triplet(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_mining("triplet", attrs, &in[0], &in[2], &in[3], err));
    FT_RETURN_IF_FAILED(check_reducer("triplet", attrs, err));
    FT_RETURN_IF_FAILED(ft_check_same("triplet", "mine and dist", &in[0], &in[1], err));
    out[0] = scalar_of(in[0].dtype);
    out[1] = ft_check_like(&in[1]);
    out[2] = ft_type_of(FT_I64, 1, stats_extent);
    return FT_OK;
}

enum ft_status ft_infer_pairs(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_mining("pairs", attrs, &in[0], &in[1], &in[2], err));
    out[0] = ft_check_like(&in[0]);
    out[1] = out[0];
    out[2] = ft_type_of(FT_I64, 1, stats_extent);
    return FT_OK;
}

enum ft_status ft_infer_masked_mean(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_reducer("masked_mean", attrs, err));
    FT_RETURN_IF_FAILED(ft_check_same("masked_mean", "x and w", &in[0], &in[1], err));
    out[0] = scalar_of(in[0].dtype);
    out[1] = out[0];
    return FT_OK;
}

enum ft_status ft_infer_masked_mean_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                        struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_reducer("masked_mean_bwd", attrs, err));
    FT_RETURN_IF_FAILED(ft_check_rank("masked_mean_bwd", "dy", &in[0], 0, err));
    FT_RETURN_IF_FAILED(ft_check_same("masked_mean_bwd", "x and w", &in[1], &in[2], err));
    FT_RETURN_IF_FAILED(ft_check_rank("masked_mean_bwd", "count", &in[3], 0, err));
    out[0] = ft_check_like(&in[1]);
    return FT_OK;
}

/* ---- optimisers */

enum ft_status ft_infer_sum_squares(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                    struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    (void)err;
    out[0] = scalar_of(in[0].dtype);
    return FT_OK;
}

/* The parameter, its gradient, `states` buffers of its shape, hyper (8) -> all but the gradient. */
static enum ft_status infer_step(const char *op, const struct ft_attrs *attrs, const struct ft_type *in,
                                 int states, struct ft_type *out, struct ft_err *err)
{
    if (attrs->kind != 0 && attrs->kind != 1) {
        return FT_FAIL(err, INVALID, "%s: there is no variant %d", op, attrs->kind);
    }
    for (int i = 1; i < 2 + states; i++) {
        FT_RETURN_IF_FAILED(ft_check_same(op, "p and its buffers", &in[0], &in[i], err));
    }
    FT_RETURN_IF_FAILED(ft_check_vector(op, "hyper", &in[2 + states], ft_dim_of(8), err));
    for (int i = 0; i < 1 + states; i++) {
        out[i] = ft_check_like(&in[0]);
    }
    return FT_OK;
}

enum ft_status ft_infer_sgd_step(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                 struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_step("sgd_step", attrs, in, 1, out, err);
}

enum ft_status ft_infer_adam_step(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    return infer_step("adam_step", attrs, in, 2, out, err);
}
