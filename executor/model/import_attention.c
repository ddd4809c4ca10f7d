#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/*
 * Attention (opset 23) as the products, additions and softmax that it stands for, so that gradients and opset
 * 17 come with the rows. Grouped heads cost nothing: the queries that share a key head are rows of one
 * matrix.
 */

struct attention {
    bool flat; /* inputs are (N, S, heads x size) */
    int64_t q_heads, kv_heads, causal, mode;
    float scale, softcap;
    ft_value q, k, v; /* (N, heads, S, size); k and v with what went before */
    struct ft_dim batch;
    int64_t rows, columns; /* queries; keys, those that went before among them */
    int64_t past;
    int64_t size, v_size;
    ft_value shown; /* what qk_matmul_output is */
};

/* ---- inputs */

/* Input i as (N, heads, S, size). */
static enum ft_status read_heads(struct ft_at *at, int i, int64_t heads, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    FT_RETURN_IF_FAILED(ft_at_value(at, i, out, err));
    struct ft_type t = *ft_at_type(at, *out);
    if (t.rank != 3 && t.rank != 4) {
        return FT_FAIL(err, INVALID, "input %d has rank %d, wanted 3 or 4", i, t.rank);
    }
    for (int k = 1; k < t.rank; k++) {
        if (!ft_dim_is_known(t.dim[k])) {
            return ft_at_unsupported(at, err, "an extent other than the batch is unknown");
        }
    }
    if (t.rank == 4) {
        return FT_OK;
    }
    if (heads < 1 || t.dim[2].coef % heads != 0) {
        return FT_FAIL(err, INVALID, "input %d has %lld features for %lld heads", i, (long long)t.dim[2].coef,
                       (long long)heads);
    }
    const struct ft_dim split[4] = {t.dim[0], t.dim[1], ft_dim_of(heads), ft_dim_of(t.dim[2].coef / heads)};
    memset(&attrs, 0, sizeof attrs);
    memcpy(attrs.perm, (const int[4]){0, 2, 1, 3}, 4 * sizeof(int));
    FT_RETURN_IF_FAILED(ft_at_reshape(at, *out, split, 4, out, err));
    return ft_at_add(at, FT_OP_TRANSPOSE, &attrs, out, 1, out, err);
}

/* Keys or values behind those of the cache, if there is one. */
static enum ft_status with_past(struct ft_at *at, int i, ft_value *x, int64_t *past, struct ft_err *err)
{
    ft_value both[2] = {FT_NO_VALUE, *x};
    struct ft_attrs attrs;
    *past = 0;
    if (!ft_at_has(at, i)) {
        return FT_OK;
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = 2;
    FT_RETURN_IF_FAILED(ft_at_value(at, i, &both[0], err));
    const struct ft_type *t = ft_at_type(at, both[0]);
    if (t->rank != 4 || !ft_dim_is_known(t->dim[2])) {
        return FT_FAIL(err, INVALID, "input %d is no cache of rank 4 and known length", i);
    }
    *past = t->dim[2].coef;
    return ft_at_add(at, FT_OP_CONCAT, &attrs, both, 2, x, err);
}

static enum ft_status read_attributes(struct ft_at *at, struct attention *a, struct ft_err *err)
{
    memset(a, 0, sizeof *a);
    a->shown = FT_NO_VALUE;
    a->scale = NAN;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "q_num_heads", &a->q_heads, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "kv_num_heads", &a->kv_heads, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "is_causal", &a->causal, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "qk_matmul_output_mode", &a->mode, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "scale", &a->scale, err));
    FT_RETURN_IF_FAILED(ft_onnx_attr_float(at->node, "softcap", &a->softcap, err));
    if (a->mode < 0 || a->mode > 3) {
        return FT_FAIL(err, INVALID, "qk_matmul_output_mode %lld", (long long)a->mode);
    }
    return FT_OK;
}

static enum ft_status read_inputs(struct ft_at *at, struct attention *a, struct ft_err *err)
{
    struct ft_dim dims[FT_MAX_RANK];
    int64_t v_past = 0;
    int rank = 0;
    FT_RETURN_IF_FAILED(read_heads(at, 0, a->q_heads, &a->q, err));
    FT_RETURN_IF_FAILED(read_heads(at, 1, a->kv_heads, &a->k, err));
    FT_RETURN_IF_FAILED(read_heads(at, 2, a->kv_heads, &a->v, err));
    ft_at_shape(at, dims, &rank);
    a->flat = rank == 3;
    FT_RETURN_IF_FAILED(with_past(at, 4, &a->k, &a->past, err));
    FT_RETURN_IF_FAILED(with_past(at, 5, &a->v, &v_past, err));
    const struct ft_type *q = ft_at_type(at, a->q);
    const struct ft_type *k = ft_at_type(at, a->k);
    const struct ft_type *v = ft_at_type(at, a->v);
    a->batch = q->dim[0];
    a->q_heads = q->dim[1].coef;
    a->kv_heads = k->dim[1].coef;
    a->rows = q->dim[2].coef;
    a->columns = k->dim[2].coef;
    a->size = q->dim[3].coef;
    a->v_size = v->dim[3].coef;
    if (a->q_heads % a->kv_heads != 0 || v->dim[1].coef != a->kv_heads || v->dim[2].coef != a->columns ||
        k->dim[3].coef != a->size) {
        return FT_FAIL(err, INVALID, "Q, K and V do not belong together");
    }
    a->scale = isnan(a->scale) ? (float)(1.0 / sqrt((double)a->size)) : a->scale;
    return FT_OK;
}

/* ---- what is added to the scores */

static enum ft_status add_to(struct ft_at *at, ft_value *scores, ft_value bias, struct ft_err *err)
{
    const ft_value both[2] = {*scores, bias};
    return ft_at_add(at, FT_OP_ADD, NULL, both, 2, scores, err);
}

/* Row i sees the cache and the first i + 1 keys behind it. */
static enum ft_status add_causal(struct ft_at *at, const struct attention *a, ft_value *scores,
                                 struct ft_err *err)
{
    const int64_t extents[2] = {a->rows, a->columns};
    struct ft_type type = ft_type_of(FT_F32, 2, extents);
    ft_value bias = FT_NO_VALUE;
    float *data = NULL;
    if (a->columns > FT_HOST_INTS_MAX / a->rows) {
        return FT_FAIL(err, LIMIT, "a causal mask of %lld x %lld", (long long)a->rows, (long long)a->columns);
    }
    FT_RETURN_IF_FAILED(
        ft_arena_new(&at->im->arena, (size_t)(a->rows * a->columns), sizeof *data, &data, err));
    for (int64_t i = 0; i < a->rows * a->columns; i++) {
        data[i] = i % a->columns > i / a->columns + a->past ? -INFINITY : 0.0F;
    }
    FT_RETURN_IF_FAILED(ft_at_const(at, &type, data, &bias, err));
    return add_to(at, scores, bias, err);
}

/* true -> 0, false -> -infinity, of a known mask. */
static enum ft_status known_bool(struct ft_at *at, const struct ft_host *h, ft_value *out, struct ft_err *err)
{
    struct ft_type type = ft_type_of(FT_F32, 0, NULL);
    float *data = NULL;
    type.rank = h->rank;
    for (int i = 0; i < h->rank; i++) {
        type.dim[i] = ft_dim_of(h->dims[i]);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)h->count, sizeof *data, &data, err));
    for (int64_t i = 0; i < h->count; i++) {
        data[i] = h->ints[i].coef != 0 ? 0.0F : -INFINITY;
    }
    return ft_at_const(at, &type, data, out, err);
}

/* The same of one that depends on the input. */
static enum ft_status hide(struct ft_at *at, ft_value seen, ft_value *out, struct ft_err *err)
{
    const float nothing = 0.0F;
    const float infinite = -INFINITY;
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    ft_value in[3] = {seen, FT_NO_VALUE, FT_NO_VALUE};
    FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &nothing, &in[1], err));
    FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &infinite, &in[2], err));
    return ft_at_add(at, FT_OP_WHERE, NULL, in, 3, out, err);
}

/* Keys that a short mask says nothing about are not seen. */
static enum ft_status pad_mask(struct ft_at *at, const struct attention *a, ft_value *mask,
                               struct ft_err *err)
{
    const struct ft_type *t = ft_at_type(at, *mask);
    struct ft_attrs attrs;
    if (t->rank < 1 || !ft_dim_is_known(t->dim[t->rank - 1]) || t->dim[t->rank - 1].coef >= a->columns) {
        return FT_OK;
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_PAD_CONSTANT;
    attrs.alpha = -INFINITY;
    attrs.pad_end[t->rank - 1] = a->columns - t->dim[t->rank - 1].coef;
    return ft_at_add(at, FT_OP_PAD, &attrs, mask, 1, mask, err);
}

static enum ft_status add_mask(struct ft_at *at, const struct attention *a, ft_value *scores,
                               struct ft_err *err)
{
    const struct ft_host *h = ft_at_host(at, 3);
    ft_value mask = FT_NO_VALUE;
    if (!ft_at_has(at, 3)) {
        return FT_OK;
    }
    if (h != NULL && h->dtype == FT_BOOL) {
        FT_RETURN_IF_FAILED(known_bool(at, h, &mask, err));
    } else if (ft_at_dtype(at, 3) == FT_BOOL) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, 3, &mask, err));
        FT_RETURN_IF_FAILED(hide(at, mask, &mask, err));
    } else {
        FT_RETURN_IF_FAILED(ft_at_value(at, 3, &mask, err));
    }
    FT_RETURN_IF_FAILED(pad_mask(at, a, &mask, err));
    return add_to(at, scores, mask, err);
}

/* Of each item's keys only the first nonpad_kv_seqlen are real. */
static enum ft_status add_lengths(struct ft_at *at, const struct attention *a, ft_value *scores,
                                  struct ft_err *err)
{
    const int64_t extents[1] = {a->columns};
    const struct ft_dim one = ft_dim_of(1);
    struct ft_type type = ft_type_of(FT_I64, 1, extents);
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value mask = FT_NO_VALUE;
    int64_t *columns = NULL;
    if (!ft_at_has(at, 6)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)a->columns, sizeof *columns, &columns, err));
    for (int64_t i = 0; i < a->columns; i++) {
        columns[i] = i;
    }
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &type, columns, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 6, &in[1], err));
    if (ft_at_type(at, in[1])->rank != 1) {
        return FT_FAIL(err, INVALID, "nonpad_kv_seqlen is no list");
    }
    const struct ft_dim rows[4] = {ft_at_type(at, in[1])->dim[0], one, one, one};
    FT_RETURN_IF_FAILED(ft_at_reshape(at, in[1], rows, 4, &in[1], err));
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = FT_LESS;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, &mask, err));
    FT_RETURN_IF_FAILED(hide(at, mask, &mask, err));
    return add_to(at, scores, mask, err);
}

/* ---- the computation */

static enum ft_status scaled(struct ft_at *at, ft_value *x, float by, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = by;
    return ft_at_add(at, FT_OP_SCALE, &attrs, x, 1, x, err);
}

/* a (or a with the queries of a group as rows) times b, and back to one matrix a query head. */
static enum ft_status product(struct ft_at *at, const struct attention *a, ft_value x, ft_value y,
                              const struct ft_attrs *attrs, ft_value *out, struct ft_err *err)
{
    struct ft_dim last = ft_at_type(at, x)->dim[3];
    const struct ft_dim grouped[4] = {a->batch, ft_dim_of(a->kv_heads),
                                      ft_dim_of(a->q_heads / a->kv_heads * a->rows), last};
    ft_value in[2] = {x, y};
    FT_RETURN_IF_FAILED(ft_at_reshape(at, x, grouped, 4, &in[0], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MATMUL, attrs, in, 2, out, err));
    const struct ft_dim own[4] = {a->batch, ft_dim_of(a->q_heads), ft_dim_of(a->rows),
                                  ft_at_type(at, *out)->dim[3]};
    return ft_at_reshape(at, *out, own, 4, out, err);
}

static enum ft_status scores_of(struct ft_at *at, struct attention *a, ft_value *scores, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = a->scale;
    attrs.trans_b = 1;
    FT_RETURN_IF_FAILED(product(at, a, a->q, a->k, &attrs, scores, err));
    a->shown = *scores;
    if (a->softcap > 0.0F) {
        FT_RETURN_IF_FAILED(scaled(at, scores, 1.0F / a->softcap, err));
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TANH, NULL, scores, 1, scores, err));
        FT_RETURN_IF_FAILED(scaled(at, scores, a->softcap, err));
    }
    a->shown = a->mode == 1 ? *scores : a->shown;
    FT_RETURN_IF_FAILED(add_mask(at, a, scores, err));
    if (a->causal) {
        FT_RETURN_IF_FAILED(add_causal(at, a, scores, err));
    }
    FT_RETURN_IF_FAILED(add_lengths(at, a, scores, err));
    a->shown = a->mode == 2 ? *scores : a->shown;
    return FT_OK;
}

enum ft_status ft_import_attention(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct attention a;
    struct ft_attrs attrs;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(read_attributes(at, &a, err));
    FT_RETURN_IF_FAILED(read_inputs(at, &a, err));
    FT_RETURN_IF_FAILED(scores_of(at, &a, &y, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = 3;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SOFTMAX, &attrs, &y, 1, &y, err));
    a.shown = a.mode == 3 ? y : a.shown;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    FT_RETURN_IF_FAILED(product(at, &a, y, a.v, &attrs, &y, err));
    if (a.flat) {
        const struct ft_dim flat[3] = {a.batch, ft_dim_of(a.rows), ft_dim_of(a.q_heads * a.v_size)};
        memset(&attrs, 0, sizeof attrs);
        memcpy(attrs.perm, (const int[4]){0, 2, 1, 3}, 4 * sizeof(int));
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TRANSPOSE, &attrs, &y, 1, &y, err));
        FT_RETURN_IF_FAILED(ft_at_reshape(at, y, flat, 3, &y, err));
    }
    FT_RETURN_IF_FAILED(ft_at_set(at, 0, y, err));
    FT_RETURN_IF_FAILED(ft_at_set(at, 1, a.k, err));
    FT_RETURN_IF_FAILED(ft_at_set(at, 2, a.v, err));
    return ft_at_set(at, 3, a.shown, err);
}
