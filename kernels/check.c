#include "kernels/check.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* What messages call an op's inputs, in order. */
static const char *const input_names[FT_OP_COUNT] = {
    [FT_OP_CONV] = "x w b residual",
    [FT_OP_CONV_BWD_DATA] = "dy w x",
    [FT_OP_CONV_BWD_WEIGHT] = "x dy w",
    [FT_OP_BATCHNORM] = "x scale bias mean var",
    [FT_OP_BATCHNORM_BWD] = "dy x scale mean var",
    [FT_OP_BATCHNORM_TRAIN] = "x scale bias mean var",
    [FT_OP_BATCHNORM_TRAIN_BWD] = "dy x scale save_mean save_invstd",
    [FT_OP_LAYERNORM] = "x scale bias",
    [FT_OP_LAYERNORM_BWD] = "dy x scale mean invstd",
    [FT_OP_FOLD_BATCHNORM] = "w scale bias mean var b",
    [FT_OP_MAXPOOL_BWD] = "dy where x",
    [FT_OP_AVGPOOL_BWD] = "dy x",
    [FT_OP_MATMUL] = "a b bias residual",
    [FT_OP_RELU_BWD] = "dy y",
    [FT_OP_LEAKY_RELU_BWD] = "dy x",
    [FT_OP_SIGMOID_BWD] = "dy y",
    [FT_OP_TANH_BWD] = "dy y",
    [FT_OP_CLIP_BWD] = "dy x",
    [FT_OP_MAP_BWD] = "dy x",
    [FT_OP_ADD] = "a b",
    [FT_OP_SUB] = "a b",
    [FT_OP_MUL] = "a b",
    [FT_OP_DIV] = "a b",
    [FT_OP_POW] = "a b",
    [FT_OP_COMPARE] = "a b",
    [FT_OP_LOGIC] = "a b",
    [FT_OP_WHERE] = "c a b",
    [FT_OP_MAXIMUM] = "a b",
    [FT_OP_MINIMUM] = "a b",
    [FT_OP_MOD] = "a b",
    [FT_OP_GATHER] = "x index",
    [FT_OP_GATHER_BWD] = "dy index x",
    [FT_OP_GATHER_ELEMENTS] = "x index",
    [FT_OP_GATHER_ND] = "x index",
    [FT_OP_SCATTER_ELEMENTS] = "x index u",
    [FT_OP_SCATTER_ND] = "x index u",
    [FT_OP_MAXPOOL_INDICES] = "where x",
    [FT_OP_DROPOUT] = "x rng",
    [FT_OP_REDUCE_BWD] = "dy x y",
    [FT_OP_SUM_TO] = "x s",
    [FT_OP_EXPAND_TO] = "x s",
    [FT_OP_RESHAPE_LIKE] = "x s",
    [FT_OP_PAD_LIKE] = "x s",
    [FT_OP_PAD_BWD] = "dy x",
    [FT_OP_SOFTMAX_BWD] = "dy y",
    [FT_OP_LOG_SOFTMAX_BWD] = "dy y",
    [FT_OP_ATTENTION] = "q k v seq bias rng",
    [FT_OP_ATTENTION_BWD] = "dy q k v y lse seq bias rng",
    [FT_OP_ATTENTION_BWD_BIAS] = "dy q k v y lse seq bias rng",
    [FT_OP_ROPE] = "x seq",
    [FT_OP_POSITIONS] = "seq ids n",
    [FT_OP_SEQ_POOL] = "x seq",
    [FT_OP_SEQ_POOL_BWD] = "dy x y seq",
    [FT_OP_L2_NORMALIZE_BWD] = "dy y norm",
    [FT_OP_PDIST] = "a b",
    [FT_OP_PDIST_BWD] = "dd d a b",
    [FT_OP_TRIPLET] = "mine dist la lb",
    [FT_OP_PAIRS] = "mine la lb",
    [FT_OP_MASKED_MEAN] = "x w",
    [FT_OP_MASKED_MEAN_BWD] = "dy x w count",
    [FT_OP_SGD_STEP] = "p g v hyper",
    [FT_OP_ADAM_STEP] = "p g m v hyper",
};

typedef enum ft_status (*infer_rule)(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                     struct ft_type *out, struct ft_err *err);

static const infer_rule rules[FT_OP_COUNT] = {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) [FT_OP_##NAME] = ft_infer_##name,
#include "kernels/ops.def"
#undef FT_OP
};

#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE)                                                     \
    static_assert((OUTPUTS) <= FT_MAX_OUTPUTS && (IN_MIN) <= (IN_MAX), "row of ops.def: " #name);
#include "kernels/ops.def"
#undef FT_OP

/* The i-th word of an op's input names; ops with one input, or many alike, call it x. */
static const char *input_name(enum ft_op op, int i, int *length)
{
    const char *p = input_names[op];
    for (int k = 0; p != NULL && k < i; k++) {
        p = strchr(p, ' ');
        p = p == NULL ? NULL : p + 1;
    }
    if (p == NULL) {
        p = "x";
    }
    *length = (int)strcspn(p, " ");
    return p;
}

/* What inputs may be, a letter each, the last one for all that follow: . the call's one float type, i int32,
 * l int64, b bool, n a float or int64, * anything. All n of a call are of one type, and so are all *. NULL:
 * floats. */
/* clang-format off */
static const char *const input_takes[FT_OP_COUNT] = {
    [FT_OP_MAXPOOL_BWD] = ".i.",
    [FT_OP_ADD] = "n",
    [FT_OP_SUB] = "n",
    [FT_OP_MUL] = "n",
    [FT_OP_DIV] = "n",
    [FT_OP_POW] = "n",
    [FT_OP_CAST] = "*",
    [FT_OP_COMPARE] = "*",
    [FT_OP_LOGIC] = "b",
    [FT_OP_WHERE] = "b*",
    [FT_OP_MAXIMUM] = "n",
    [FT_OP_MINIMUM] = "n",
    [FT_OP_MOD] = "n",
    [FT_OP_DROPOUT] = ".l",
    [FT_OP_EXPAND_TO] = "*",
    [FT_OP_RESHAPE] = "*",
    [FT_OP_RESHAPE_LIKE] = "*",
    [FT_OP_TRANSPOSE] = "*",
    [FT_OP_CONCAT] = "*",
    [FT_OP_SLICE] = "*",
    [FT_OP_PAD] = "*",
    [FT_OP_TRIPLET] = "..i",
    [FT_OP_PAIRS] = ".i",
    [FT_OP_GATHER] = "*l",
    [FT_OP_GATHER_BWD] = ".l.",
    [FT_OP_GATHER_ELEMENTS] = "*l",
    [FT_OP_GATHER_ND] = "*l",
    [FT_OP_SCATTER_ELEMENTS] = "*l*",
    [FT_OP_SCATTER_ND] = "*l*",
    [FT_OP_ARG_EXTREME] = "n",
    [FT_OP_TOPK] = "n",
    [FT_OP_CUMSUM] = "n",
    [FT_OP_MAXPOOL_INDICES] = "i.",
    [FT_OP_ATTENTION] = "...lnl",
    [FT_OP_ATTENTION_BWD] = "......lnl",
    [FT_OP_ATTENTION_BWD_BIAS] = "......l.l",
    [FT_OP_ROPE] = ".l",
    [FT_OP_POSITIONS] = "l",
    [FT_OP_SEQ_POOL] = ".l",
    [FT_OP_SEQ_POOL_BWD] = "...l",
};
/* clang-format on */

static char letter_of(enum ft_op op, int i)
{
    const char *letters = input_takes[op] == NULL ? "." : input_takes[op];
    size_t last = strlen(letters) - 1;
    return letters[(size_t)i < last ? (size_t)i : last];
}

static bool shape_only(enum ft_op op, int i)
{
    return i < 32 && (ft_op_info(op)->shape_only >> i & 1U) != 0;
}

/* One float type a call: that of the first input that is a float and read. */
static enum ft_dtype float_of(enum ft_op op, const struct ft_type *in, int n_in)
{
    for (int i = 0; i < n_in; i++) {
        if (!shape_only(op, i) && ft_dtype_is_float(in[i].dtype)) {
            return in[i].dtype;
        }
    }
    return FT_F32;
}

/* The element type that input i must have, given the inputs before it. */
static enum ft_dtype wanted_dtype(enum ft_op op, int i, const struct ft_type *in, enum ft_dtype floats)
{
    char letter = letter_of(op, i);
    for (int k = 0; (letter == 'n' || letter == '*') && k < i; k++) {
        if (letter_of(op, k) == letter && !shape_only(op, k)) {
            return in[k].dtype;
        }
    }
    switch (letter) {
    case 'i':
        return FT_I32;
    case 'l':
        return FT_I64;
    case 'b':
        return FT_BOOL;
    case 'n':
        return in[i].dtype == FT_I64 ? FT_I64 : floats;
    case '*':
        return ft_dtype_is_float(in[i].dtype) ? floats : in[i].dtype;
    default:
        return floats;
    }
}

static enum ft_status check_input(enum ft_op op, int i, const struct ft_type *in, enum ft_dtype floats,
                                  struct ft_err *err)
{
    const struct ft_type *t = &in[i];
    const struct ft_op_info *info = ft_op_info(op);
    int n = 0;
    const char *name = input_name(op, i, &n);
    if ((int)t->dtype < 0 || t->dtype >= FT_DTYPE_COUNT || t->rank < 0 || t->rank > FT_MAX_RANK) {
        return FT_FAIL(err, INVALID, "%s: %.*s (input %d) has no valid type", info->name, n, name, i);
    }
    for (int k = 0; k < t->rank; k++) {
        if (t->dim[k].coef < 1) {
            return FT_FAIL(err, INVALID, "%s: %.*s (input %d) is %s: dimensions are at least 1", info->name,
                           n, name, i, FT_SHOW(t));
        }
    }
    enum ft_dtype want = wanted_dtype(op, i, in, floats);
    if (!shape_only(op, i) && t->dtype != want) {
        return FT_FAIL(err, INVALID, "%s: %.*s (input %d) is %s, wanted %s", info->name, n, name, i,
                       FT_SHOW(t), ft_dtype_name(want));
    }
    struct ft_dim count;
    return ft_check_product(info->name, t, 0, t->rank, &count, err);
}

enum ft_status ft_op_infer(enum ft_op op, const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                           struct ft_type *out, struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(op);
    if (n_in < info->inputs_min || n_in > info->inputs_max) {
        return FT_FAIL(err, INVALID, "%s: %d inputs given, it takes %d to %d", info->name, n_in,
                       info->inputs_min, info->inputs_max);
    }
    enum ft_dtype floats = float_of(op, in, n_in);
    for (int i = 0; i < n_in; i++) {
        FT_RETURN_IF_FAILED(check_input(op, i, in, floats, err));
    }
    struct ft_type types[FT_MAX_OUTPUTS];
    memset(types, 0, sizeof types);
    FT_RETURN_IF_FAILED(rules[op](attrs, in, n_in, types, err));
    for (int i = 0; i < info->outputs; i++) {
        struct ft_dim count;
        FT_RETURN_IF_FAILED(ft_check_product(info->name, &types[i], 0, types[i].rank, &count, err));
    }
    memcpy(out, types, (size_t)info->outputs * sizeof *out);
    return FT_OK;
}

/* ---- shared by the rules */

enum ft_status ft_check_epilogue(enum ft_op op, const struct ft_attrs *attrs, const struct ft_type *in,
                                 int n_in, struct ft_dim channels, const struct ft_type *y,
                                 struct ft_err *err)
{
    const char *name = ft_op_info(op)->name;
    int biases = n_in - 2 - (attrs->residual != 0);
    if (biases < 0 || biases > 1 || (int)attrs->act < 0 || attrs->act >= FT_ACT_COUNT) {
        return FT_FAIL(err, INVALID, "%s: %d inputs with residual %d and activation %d", name, n_in,
                       attrs->residual, (int)attrs->act);
    }
    if (biases == 1) {
        FT_RETURN_IF_FAILED(ft_check_vector(name, op == FT_OP_CONV ? "b" : "bias", &in[2], channels, err));
    }
    if (attrs->residual != 0) {
        FT_RETURN_IF_FAILED(ft_check_implied(name, "residual", &in[n_in - 1], y, err));
    }
    return FT_OK;
}

struct ft_type ft_check_like(const struct ft_type *t)
{
    struct ft_type out = *t;
    out.layout = FT_ROW_MAJOR;
    return out;
}

enum ft_status ft_check_product(const char *op, const struct ft_type *t, int from, int to, struct ft_dim *out,
                                struct ft_err *err)
{
    struct ft_dim product = ft_dim_of(1);
    for (int i = from; i < to; i++) {
        if (!ft_dim_mul(product, t->dim[i], &product)) {
            return FT_FAIL(err, LIMIT, "%s: %s has too many elements", op, FT_SHOW(t));
        }
    }
    if (ft_dim_is_known(product) && (uint64_t)product.coef > FT_MAX_TENSOR_BYTES / ft_dtype_size(t->dtype)) {
        return FT_FAIL(err, LIMIT, "%s: %s is larger than %zu bytes", op, FT_SHOW(t), FT_MAX_TENSOR_BYTES);
    }
    *out = product;
    return FT_OK;
}

enum ft_status ft_check_rank(const char *op, const char *name, const struct ft_type *t, int rank,
                             struct ft_err *err)
{
    if (t->rank != rank) {
        return FT_FAIL(err, INVALID, "%s: %s is %s, wanted rank %d", op, name, FT_SHOW(t), rank);
    }
    return FT_OK;
}

enum ft_status ft_check_axis(const char *op, const struct ft_type *t, int axis, struct ft_err *err)
{
    if (axis < 0 || axis >= t->rank) {
        return FT_FAIL(err, INVALID, "%s: axis %d of %s does not exist", op, axis, FT_SHOW(t));
    }
    return FT_OK;
}

enum ft_status ft_check_same(const char *op, const char *names, const struct ft_type *a,
                             const struct ft_type *b, struct ft_err *err)
{
    if (!ft_type_same_shape(a, b)) {
        return FT_FAIL(err, INVALID, "%s: shapes of %s differ: %s and %s", op, names, FT_SHOW(a), FT_SHOW(b));
    }
    return FT_OK;
}

enum ft_status ft_check_implied(const char *op, const char *name, const struct ft_type *t,
                                const struct ft_type *want, struct ft_err *err)
{
    if (!ft_type_same_shape(t, want)) {
        return FT_FAIL(err, INVALID, "%s: %s is %s, the other inputs imply %s", op, name, FT_SHOW(t),
                       FT_SHOW(want));
    }
    return FT_OK;
}

enum ft_status ft_check_vector(const char *op, const char *name, const struct ft_type *t,
                               struct ft_dim extent, struct ft_err *err)
{
    struct ft_type want = ft_check_like(t);
    want.rank = 1;
    want.dim[0] = extent;
    return ft_check_implied(op, name, t, &want, err);
}

/* ---- element by element */

#define FT_UNARY(name)                                                                                       \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)attrs;                                                                                         \
        (void)n_in;                                                                                          \
        (void)err;                                                                                           \
        out[0] = ft_check_like(&in[0]);                                                                      \
        return FT_OK;                                                                                        \
    }

#define FT_UNARY_BWD(name, names)                                                                            \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)attrs;                                                                                         \
        (void)n_in;                                                                                          \
        FT_RETURN_IF_FAILED(ft_check_same(#name, names, &in[0], &in[1], err));                               \
        out[0] = ft_check_like(&in[0]);                                                                      \
        return FT_OK;                                                                                        \
    }

FT_UNARY(relu)
FT_UNARY_BWD(relu_bwd, "dy and y")
FT_UNARY(leaky_relu)
FT_UNARY_BWD(leaky_relu_bwd, "dy and x")
FT_UNARY(sigmoid)
FT_UNARY_BWD(sigmoid_bwd, "dy and y")
FT_UNARY(tanh)
FT_UNARY_BWD(tanh_bwd, "dy and y")
FT_UNARY(exp)
FT_UNARY(log)
FT_UNARY(sqrt)
FT_UNARY(neg)
FT_UNARY(scale)

static enum ft_status check_clip(const char *op, const struct ft_attrs *attrs, struct ft_err *err)
{
    if (isnan(attrs->lo) || isnan(attrs->hi)) {
        return FT_FAIL(err, INVALID, "%s: a bound is not a number", op);
    }
    return FT_OK;
}

enum ft_status ft_infer_clip(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_clip("clip", attrs, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_clip_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                 struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_clip("clip_bwd", attrs, err));
    FT_RETURN_IF_FAILED(ft_check_same("clip_bwd", "dy and x", &in[0], &in[1], err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_dropout(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (!(attrs->alpha >= 0.0F && attrs->alpha <= 1.0F)) {
        return FT_FAIL(err, INVALID, "dropout: probability %g is not in [0, 1]", (double)attrs->alpha);
    }
    if (attrs->node < 0 || attrs->node >= 1 << 20) {
        return FT_FAIL(err, LIMIT, "dropout: node number %lld is not below 2^20", (long long)attrs->node);
    }
    FT_RETURN_IF_FAILED(ft_check_vector("dropout", "rng", &in[1], ft_dim_of(2), err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

/* Dimension i counted from the right; missing ones are 1. */
static struct ft_dim dim_from_right(const struct ft_type *t, int i)
{
    return i < t->rank ? t->dim[t->rank - 1 - i] : ft_dim_of(1);
}

enum ft_status ft_check_broadcast(const char *op, const struct ft_type *l, const struct ft_type *r,
                                  struct ft_type *out, struct ft_err *err)
{
    struct ft_type y = ft_check_like(l->rank >= r->rank ? l : r);
    y.dtype = l->dtype;
    for (int i = 0; i < y.rank; i++) {
        struct ft_dim a = dim_from_right(l, i);
        struct ft_dim b = dim_from_right(r, i);
        if (!ft_dim_equal(a, b) && !ft_dim_is_one(a) && !ft_dim_is_one(b)) {
            return FT_FAIL(err, INVALID, "%s: %s and %s do not broadcast", op, FT_SHOW(l), FT_SHOW(r));
        }
        y.dim[y.rank - 1 - i] = ft_dim_is_one(a) ? b : a;
    }
    *out = y;
    return FT_OK;
}

#define FT_BINARY(name)                                                                                      \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)attrs;                                                                                         \
        (void)n_in;                                                                                          \
        return ft_check_broadcast(#name, &in[0], &in[1], out, err);                                          \
    }

FT_BINARY(add)
FT_BINARY(sub)
FT_BINARY(mul)
FT_BINARY(div)
FT_BINARY(pow)
FT_BINARY(maximum)
FT_BINARY(minimum)

/* `small` broadcasts to `large`: NumPy's rule in one direction. */
static enum ft_status check_broadcasts(const char *op, const struct ft_type *small,
                                       const struct ft_type *large, struct ft_err *err)
{
    bool fits = small->rank <= large->rank;
    for (int i = 0; fits && i < small->rank; i++) {
        struct ft_dim d = dim_from_right(small, i);
        fits = ft_dim_is_one(d) || ft_dim_equal(d, dim_from_right(large, i));
    }
    if (!fits) {
        return FT_FAIL(err, INVALID, "%s: %s does not broadcast to %s", op, FT_SHOW(small), FT_SHOW(large));
    }
    return FT_OK;
}

enum ft_status ft_infer_sum_to(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                               struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_broadcasts("sum_to", &in[1], &in[0], err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}

enum ft_status ft_infer_expand_to(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                  struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    FT_RETURN_IF_FAILED(check_broadcasts("expand_to", &in[0], &in[1], err));
    out[0] = ft_check_like(&in[1]);
    out[0].dtype = in[0].dtype;
    return FT_OK;
}
