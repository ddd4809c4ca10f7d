#include <math.h>
#include <string.h>

#include "executor/model/import.h"
#include "kernels/integer.h"

/* Evaluation of what is known at import: shape arithmetic on monomials, small float constants. */

/* ---- broadcasting of up to three known tensors */

struct spread {
    const struct ft_host *in[3];
    int rank;
    int64_t dims[FT_MAX_RANK];
    int64_t count;
};

static enum ft_status spread_over(struct spread *s, int n, struct ft_err *err)
{
    const struct ft_host *const *in = s->in;
    s->rank = 0;
    for (int i = 0; i < n; i++) {
        s->rank = in[i]->rank > s->rank ? in[i]->rank : s->rank;
    }
    for (int k = 0; k < s->rank; k++) { /* from the right */
        int64_t extent = 1;
        for (int i = 0; i < n; i++) {
            int64_t d = k < in[i]->rank ? in[i]->dims[in[i]->rank - 1 - k] : 1;
            if (d != 1 && extent != 1 && d != extent) {
                return FT_FAIL(err, INVALID, "extents %lld and %lld do not broadcast", (long long)d,
                               (long long)extent);
            }
            extent = d != 1 ? d : extent;
        }
        s->dims[s->rank - 1 - k] = extent;
    }
    if (!ft_onnx_count(s->rank, s->dims, &s->count)) {
        return FT_FAIL(err, LIMIT, "the constant is too large");
    }
    return FT_OK;
}

/* Where element `at` of the spread lies in h. */
static int64_t place(const struct spread *s, const struct ft_host *h, int64_t at)
{
    int64_t index = 0;
    int64_t stride = 1;
    for (int k = 0; k < s->rank; k++) {
        int64_t extent = s->dims[s->rank - 1 - k];
        int64_t i = at % extent;
        at /= extent;
        if (k < h->rank) {
            int64_t d = h->dims[h->rank - 1 - k];
            index += (d == 1 ? 0 : i) * stride;
            stride *= d;
        }
    }
    return index;
}

/* Result tensor over the spread of inputs 0 .. n-1, which stand in s->in afterwards. */
static enum ft_status spread_inputs(struct ft_at *at, int n, enum ft_dtype dtype, struct spread *s,
                                    struct ft_host **out, float **floats, struct ft_err *err)
{
    for (int i = 0; i < n; i++) {
        s->in[i] = ft_at_host(at, i);
        if (s->in[i] == NULL) {
            return ft_at_unsupported(at, err, "a tensor that depends on the input");
        }
    }
    FT_RETURN_IF_FAILED(spread_over(s, n, err));
    return ft_host_new(&at->im->arena, dtype, s->rank, s->dims, out, floats, err);
}

/* ---- arithmetic on monomials of any sign; a symbol is at least 1 */

static enum ft_status batch_dependent(struct ft_err *err)
{
    return FT_FAIL(err, UNSUPPORTED, "shape arithmetic that the unknown batch decides");
}

static struct ft_dim with_coef(struct ft_dim d, int64_t coef)
{
    d.coef = coef;
    return coef == 0 ? ft_dim_of(0) : d;
}

static enum ft_status add_dims(struct ft_dim a, struct ft_dim b, bool subtract, struct ft_dim *out,
                               struct ft_err *err)
{
    int64_t sum = 0;
    int64_t term = 0;
    if (__builtin_sub_overflow(0, b.coef, &term)) {
        return FT_FAIL(err, LIMIT, "an integer overflows");
    }
    b.coef = subtract ? term : b.coef;
    if (a.coef == 0 || b.coef == 0) {
        *out = a.coef == 0 ? b : a;
        return FT_OK;
    }
    if (memcmp(a.power, b.power, sizeof a.power) != 0) {
        return batch_dependent(err);
    }
    if (__builtin_add_overflow(a.coef, b.coef, &sum)) {
        return FT_FAIL(err, LIMIT, "an integer overflows");
    }
    *out = with_coef(a, sum);
    return FT_OK;
}

static enum ft_status mul_dims(struct ft_dim a, struct ft_dim b, struct ft_dim *out, struct ft_err *err)
{
    int64_t product = 0;
    bool fits = !__builtin_mul_overflow(a.coef, b.coef, &product);
    struct ft_dim d = with_coef(a, product);
    for (int k = 0; product != 0 && k < FT_MAX_SYMBOLS; k++) {
        fits = fits && a.power[k] + b.power[k] <= UINT8_MAX;
        d.power[k] = (uint8_t)(a.power[k] + b.power[k]);
    }
    *out = d;
    return fits ? FT_OK : FT_FAIL(err, LIMIT, "an integer overflows");
}

static enum ft_status div_dims(struct ft_dim a, struct ft_dim b, struct ft_dim *out, struct ft_err *err)
{
    if (b.coef == 0 || (a.coef == INT64_MIN && b.coef == -1)) {
        return FT_FAIL(err, INVALID, "an integer division by zero, or one that overflows");
    }
    if (ft_dim_is_known(a) && ft_dim_is_known(b)) {
        *out = ft_dim_of(a.coef / b.coef);
        return FT_OK;
    }
    if (a.coef == 0) {
        *out = a;
        return FT_OK;
    }
    if (a.coef < 0 || b.coef < 0 || !ft_dim_div(a, b, out)) {
        return batch_dependent(err);
    }
    return FT_OK;
}

/* -1, 0, 1 as a < b, a == b, a > b, for every batch. */
static enum ft_status order_dims(struct ft_dim a, struct ft_dim b, int *out, struct ft_err *err)
{
    if (memcmp(a.power, b.power, sizeof a.power) == 0) {
        *out = (a.coef > b.coef) - (a.coef < b.coef);
        return FT_OK;
    }
    /* A positive monomial is at least its coefficient. */
    if (ft_dim_is_known(a) && b.coef > 0 && a.coef < b.coef) {
        *out = -1;
        return FT_OK;
    }
    if (ft_dim_is_known(b) && a.coef > 0 && b.coef < a.coef) {
        *out = 1;
        return FT_OK;
    }
    return batch_dependent(err);
}

/* Known numbers, or a multiple whatever the batch: N * 12 % 4. */
static enum ft_status mod_dims(int kind, struct ft_dim a, struct ft_dim b, struct ft_dim *out,
                               struct ft_err *err)
{
    bool fault = false;
    struct ft_dim quotient;
    if (ft_dim_is_known(a) && ft_dim_is_known(b)) {
        *out = ft_dim_of(ft_int_binary(FT_OP_MOD, kind, a.coef, b.coef, &fault));
        return fault ? FT_FAIL(err, INVALID, "an integer division by zero") : FT_OK;
    }
    *out = ft_dim_of(0);
    return a.coef > 0 && b.coef > 0 && ft_dim_div(a, b, &quotient) ? FT_OK : batch_dependent(err);
}

static enum ft_status pow_dims(struct ft_dim a, struct ft_dim b, struct ft_dim *out, struct ft_err *err)
{
    bool fault = false;
    if (!ft_dim_is_known(a) || !ft_dim_is_known(b)) {
        return batch_dependent(err);
    }
    *out = ft_dim_of(ft_int_binary(FT_OP_POW, 0, a.coef, b.coef, &fault));
    return fault ? FT_FAIL(err, INVALID, "a negative power of zero") : FT_OK;
}

static enum ft_status int_binary(enum ft_op op, int kind, struct ft_dim a, struct ft_dim b,
                                 struct ft_dim *out, struct ft_err *err)
{
    if (op == FT_OP_ADD || op == FT_OP_SUB) {
        return add_dims(a, b, op == FT_OP_SUB, out, err);
    }
    if (op == FT_OP_MUL) {
        return mul_dims(a, b, out, err);
    }
    if (op == FT_OP_DIV) {
        return div_dims(a, b, out, err);
    }
    return op == FT_OP_MOD ? mod_dims(kind, a, b, out, err) : pow_dims(a, b, out, err);
}

static float float_binary(enum ft_op op, float a, float b)
{
    switch ((int)op) {
    case FT_OP_ADD:
        return a + b;
    case FT_OP_SUB:
        return a - b;
    case FT_OP_MUL:
        return a * b;
    case FT_OP_DIV:
        return a / b;
    case FT_OP_MOD:
        return fmodf(a, b);
    default: /* FT_OP_POW */
        return (float)pow((double)a, (double)b);
    }
}

/* Element i; Pow alone mixes integers and floats. */
static float any_float(const struct ft_host *h, int64_t i)
{
    return ft_host_is_int(h) ? (float)h->ints[i].coef : ft_host_float(h, i);
}

static bool all_known(const struct ft_host *h)
{
    for (int64_t i = 0; ft_host_is_int(h) && i < h->count; i++) {
        if (!ft_dim_is_known(h->ints[i])) {
            return false;
        }
    }
    return true;
}

enum ft_status ft_fold_binary(struct ft_at *at, enum ft_op op, int kind, struct ft_err *err)
{
    const struct ft_host *in[2] = {ft_at_host(at, 0), ft_at_host(at, 1)};
    struct ft_host *out = NULL;
    struct spread s;
    float *floats = NULL;
    bool ints = ft_host_is_int(in[0]);
    bool mixed = ints != ft_host_is_int(in[1]);
    if (mixed && (op != FT_OP_POW || ints || !all_known(in[1]))) {
        return FT_FAIL(err, INVALID, "an integer and a float tensor");
    }
    FT_RETURN_IF_FAILED(spread_inputs(at, 2, ints ? FT_I64 : FT_F32, &s, &out, &floats, err));
    for (int64_t i = 0; i < s.count; i++) {
        int64_t a = place(&s, in[0], i);
        int64_t b = place(&s, in[1], i);
        if (ints) {
            FT_RETURN_IF_FAILED(int_binary(op, kind, in[0]->ints[a], in[1]->ints[b], &out->ints[i], err));
        } else {
            floats[i] = float_binary(op, ft_host_float(in[0], a), any_float(in[1], b));
        }
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

static float float_unary(enum ft_op op, float x)
{
    switch ((int)op) {
    case FT_OP_RELU:
        return x > 0.0F ? x : 0.0F;
    case FT_OP_SIGMOID:
        return (float)(1.0 / (1.0 + exp(-(double)x)));
    case FT_OP_TANH:
        return (float)tanh((double)x);
    case FT_OP_EXP:
        return (float)exp((double)x);
    case FT_OP_LOG:
        return (float)log((double)x);
    case FT_OP_SQRT:
        return sqrtf(x);
    default: /* FT_OP_NEG */
        return -x;
    }
}

enum ft_status ft_fold_unary(struct ft_at *at, enum ft_op op, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    float *floats = NULL;
    if (ft_host_is_int(x) && op != FT_OP_NEG) {
        return ft_at_unsupported(at, err, "of integers");
    }
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, x->dtype, x->rank, x->dims, &out, &floats, err));
    for (int64_t i = 0; i < x->count; i++) {
        if (ft_host_is_int(x)) {
            FT_RETURN_IF_FAILED(add_dims(ft_dim_of(0), x->ints[i], true, &out->ints[i], err));
        } else {
            floats[i] = float_unary(op, ft_host_float(x, i));
        }
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

static enum ft_status extreme_dims(struct ft_dim x, struct ft_dim y, bool largest, struct ft_dim *out,
                                   struct ft_err *err)
{
    int order = 0;
    bool lone_bound = ft_dim_is_known(x) != ft_dim_is_known(y) && x.coef == y.coef; /* max(N, 1) = N */
    if (lone_bound && x.coef > 0) {
        order = ft_dim_is_known(x) ? -1 : 1;
    } else {
        FT_RETURN_IF_FAILED(order_dims(x, y, &order, err));
    }
    *out = (order > 0) == largest ? x : y;
    return FT_OK;
}

/* A NaN wins. */
static float extreme_float(float x, float y, bool largest)
{
    return isnan(x) || (!isnan(y) && (x > y) == largest) ? x : y;
}

static enum ft_status extreme_pair(struct ft_at *at, struct spread *s, bool largest,
                                   const struct ft_host **result, struct ft_err *err)
{
    const struct ft_host *const *in = s->in;
    struct ft_host *out = NULL;
    float *floats = NULL;
    bool ints = ft_host_is_int(in[0]);
    if (ints != ft_host_is_int(in[1])) {
        return FT_FAIL(err, INVALID, "an integer and a float tensor");
    }
    FT_RETURN_IF_FAILED(spread_over(s, 2, err));
    FT_RETURN_IF_FAILED(
        ft_host_new(&at->im->arena, ints ? FT_I64 : FT_F32, s->rank, s->dims, &out, &floats, err));
    for (int64_t i = 0; i < s->count; i++) {
        int64_t a = place(s, in[0], i);
        int64_t b = place(s, in[1], i);
        if (ints) {
            FT_RETURN_IF_FAILED(extreme_dims(in[0]->ints[a], in[1]->ints[b], largest, &out->ints[i], err));
        } else {
            floats[i] = extreme_float(ft_host_float(in[0], a), ft_host_float(in[1], b), largest);
        }
    }
    *result = out;
    return FT_OK;
}

enum ft_status ft_fold_extreme(struct ft_at *at, bool largest, struct ft_err *err)
{
    const struct ft_host *most = ft_at_host(at, 0);
    for (int i = 1; i < at->node->n_in; i++) {
        struct spread s = {.in = {most, ft_at_host(at, i)}};
        FT_RETURN_IF_FAILED(extreme_pair(at, &s, largest, &most, err));
    }
    ft_at_set_host(at, 0, most);
    return FT_OK;
}

/* ---- comparisons, logic, Where */

static enum ft_status holds(const struct ft_host *const *in, const int64_t *i, enum ft_compare kind,
                            bool *out, struct ft_err *err)
{
    int order = 0;
    if (ft_host_is_int(in[0])) {
        struct ft_dim a = in[0]->ints[i[0]];
        struct ft_dim b = in[1]->ints[i[1]];
        FT_RETURN_IF_FAILED(order_dims(a, b, &order, err));
    } else {
        float a = ft_host_float(in[0], i[0]);
        float b = ft_host_float(in[1], i[1]);
        if (isnan(a) || isnan(b)) {
            *out = false;
            return FT_OK;
        }
        order = (a > b) - (a < b);
    }
    *out = kind == FT_EQUAL           ? order == 0
           : kind == FT_LESS          ? order < 0
           : kind == FT_LESS_OR_EQUAL ? order <= 0
           : kind == FT_GREATER       ? order > 0
                                      : order >= 0;
    return FT_OK;
}

enum ft_status ft_fold_compare(struct ft_at *at, enum ft_compare kind, struct ft_err *err)
{
    struct ft_host *out = NULL;
    struct spread s;
    const struct ft_host *const *in = s.in;
    FT_RETURN_IF_FAILED(spread_inputs(at, 2, FT_BOOL, &s, &out, NULL, err));
    if (ft_host_is_int(in[0]) != ft_host_is_int(in[1])) {
        return FT_FAIL(err, INVALID, "an integer and a float tensor");
    }
    for (int64_t i = 0; i < s.count; i++) {
        const int64_t index[2] = {place(&s, in[0], i), place(&s, in[1], i)};
        bool truth = false;
        FT_RETURN_IF_FAILED(holds(in, index, kind, &truth, err));
        out->ints[i] = ft_dim_of(truth);
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_fold_logic(struct ft_at *at, enum ft_logic kind, struct ft_err *err)
{
    struct ft_host *out = NULL;
    struct spread s;
    const struct ft_host *const *in = s.in;
    int n = kind == FT_LOGIC_NOT ? 1 : 2;
    FT_RETURN_IF_FAILED(spread_inputs(at, n, FT_BOOL, &s, &out, NULL, err));
    for (int k = 0; k < n; k++) {
        if (in[k]->dtype != FT_BOOL) {
            return FT_FAIL(err, INVALID, "input %d is not boolean", k);
        }
    }
    for (int64_t i = 0; i < s.count; i++) {
        bool a = in[0]->ints[place(&s, in[0], i)].coef != 0;
        bool b = n == 2 && in[1]->ints[place(&s, in[1], i)].coef != 0;
        out->ints[i] = ft_dim_of(kind == FT_LOGIC_NOT   ? !a
                                 : kind == FT_LOGIC_AND ? a && b
                                 : kind == FT_LOGIC_OR  ? a || b
                                                        : a != b);
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_fold_where(struct ft_at *at, struct ft_err *err)
{
    const struct ft_host *in[3] = {ft_at_host(at, 0), ft_at_host(at, 1), ft_at_host(at, 2)};
    struct ft_host *out = NULL;
    struct spread s;
    float *floats = NULL;
    bool ints = in[1] != NULL && ft_host_is_int(in[1]);
    FT_RETURN_IF_FAILED(spread_inputs(at, 3, ints ? FT_I64 : FT_F32, &s, &out, &floats, err));
    if (in[0]->dtype != FT_BOOL || ft_host_is_int(in[2]) != ints) {
        return FT_FAIL(err, INVALID, "its inputs are not a boolean and two tensors of one type");
    }
    out->dtype = in[1]->dtype;
    for (int64_t i = 0; i < s.count; i++) {
        int from = in[0]->ints[place(&s, in[0], i)].coef != 0 ? 1 : 2;
        int64_t index = place(&s, in[from], i);
        if (ints) {
            out->ints[i] = in[from]->ints[index];
        } else {
            floats[i] = ft_host_float(in[from], index);
        }
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

/* ---- Cast */

static enum ft_status cast_element(const struct ft_host *x, int64_t i, enum ft_cast to, struct ft_host *out,
                                   float *floats, struct ft_err *err)
{
    bool known = !ft_host_is_int(x) || ft_dim_is_known(x->ints[i]);
    if (!known && to == FT_CAST_FLOAT) {
        return FT_FAIL(err, UNSUPPORTED, "a float that depends on the batch");
    }
    if (!known) { /* an extent fits every integer type that a shape is computed in, and is not 0 */
        out->ints[i] = to == FT_CAST_BOOL ? ft_dim_of(1) : x->ints[i];
    } else if (to == FT_CAST_FLOAT) {
        floats[i] = any_float(x, i);
    } else if (ft_host_is_int(x)) {
        int64_t n = x->ints[i].coef;
        out->ints[i] = ft_dim_of(to == FT_CAST_BOOL ? n != 0 : ft_int_narrow((int)to, n));
    } else {
        float f = ft_host_float(x, i);
        out->ints[i] =
            ft_dim_of(to == FT_CAST_BOOL ? f != 0.0F : ft_int_narrow((int)to, ft_int_of_float((double)f)));
    }
    return FT_OK;
}

enum ft_status ft_fold_cast(struct ft_at *at, enum ft_cast to, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    float *floats = NULL;
    enum ft_dtype dtype = to == FT_CAST_FLOAT ? FT_F32 : to == FT_CAST_BOOL ? FT_BOOL : FT_I64;
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, dtype, x->rank, x->dims, &out, &floats, err));
    for (int64_t i = 0; i < x->count; i++) {
        FT_RETURN_IF_FAILED(cast_element(x, i, to, out, floats, err));
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

/* ---- moving elements: each builds an index into the source for every element of the result */

/* A result like x in type. Weights may be as large as the file makes them. */
static enum ft_status like_host(struct ft_at *at, const struct ft_host *x, int rank, const int64_t *dims,
                                struct ft_host **out, float **floats, struct ft_err *err)
{
    struct ft_host *h = NULL;
    *floats = NULL;
    if (ft_host_is_int(x)) {
        return ft_host_new(&at->im->arena, x->dtype, rank, dims, out, floats, err);
    }
    *out = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, 1, sizeof *h, &h, err));
    *h = (struct ft_host){.dtype = FT_F32, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++) {
        h->dims[i] = dims[i];
    }
    if (!ft_onnx_count(rank, dims, &h->count) || (h->count > x->count && h->count > FT_HOST_INTS_MAX)) {
        return FT_FAIL(err, LIMIT, "a constant of %lld elements would have to be computed",
                       (long long)h->count);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&at->im->arena, (size_t)h->count, sizeof **floats, floats, err));
    h->floats = (const uint8_t *)*floats;
    *out = h;
    return FT_OK;
}

static void copy_element(const struct ft_host *x, int64_t from, struct ft_host *out, float *floats,
                         int64_t to)
{
    if (ft_host_is_int(x)) {
        out->ints[to] = x->ints[from];
    } else {
        floats[to] = ft_host_float(x, from);
    }
}

enum ft_status ft_fold_transpose(struct ft_at *at, const int *perm, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    float *floats = NULL;
    int64_t dims[FT_MAX_RANK];
    int64_t stride[FT_MAX_RANK]; /* of x, by x's axes */
    int64_t index[FT_MAX_RANK] = {0};
    int64_t from = 0;
    for (int i = x->rank - 1; i >= 0; i--) {
        stride[i] = i == x->rank - 1 ? 1 : stride[i + 1] * x->dims[i + 1];
    }
    for (int i = 0; i < x->rank; i++) {
        dims[i] = x->dims[perm[i]];
    }
    FT_RETURN_IF_FAILED(like_host(at, x, x->rank, dims, &out, &floats, err));
    for (int64_t to = 0; to < x->count; to++) {
        copy_element(x, from, out, floats, to);
        for (int i = x->rank - 1; i >= 0; i--) { /* an odometer over the result's axes */
            from += stride[perm[i]];
            if (++index[i] < dims[i]) {
                break;
            }
            from -= index[i] * stride[perm[i]];
            index[i] = 0;
        }
    }
    ft_at_set_host(at, 0, out);
    ft_at_keep_weight(at, 0);
    return FT_OK;
}

/* Elements before and after an axis. */
static void around(const struct ft_host *h, int axis, int64_t *outer, int64_t *inner)
{
    *outer = 1;
    *inner = 1;
    for (int i = 0; i < h->rank; i++) {
        if (i < axis) {
            *outer *= h->dims[i];
        } else if (i > axis) {
            *inner *= h->dims[i];
        }
    }
}

enum ft_status ft_fold_concat(struct ft_at *at, int axis, struct ft_err *err)
{
    const struct ft_host *first = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    float *floats = NULL;
    int64_t dims[FT_MAX_RANK];
    int64_t outer = 1;
    int64_t inner = 1;
    int64_t before = 0;
    memcpy(dims, first->dims, sizeof dims);
    dims[axis] = 0;
    for (int k = 0; k < at->node->n_in; k++) {
        const struct ft_host *h = ft_at_host(at, k);
        bool fits = h->rank == first->rank && ft_host_is_int(h) == ft_host_is_int(first);
        for (int i = 0; fits && i < h->rank; i++) {
            fits = i == axis || h->dims[i] == first->dims[i];
        }
        if (!fits || __builtin_add_overflow(dims[axis], h->dims[axis], &dims[axis])) {
            return FT_FAIL(err, INVALID, "input %d has another shape or type than input 0", k);
        }
    }
    /* Bounded by FT_HOST_INTS_MAX, so no product overflows. */
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, first->dtype, first->rank, dims, &out, &floats, err));
    around(first, axis, &outer, &inner);
    for (int k = 0; k < at->node->n_in; k++) {
        const struct ft_host *h = ft_at_host(at, k);
        int64_t run = h->dims[axis] * inner;
        for (int64_t i = 0; i < h->count; i++) {
            copy_element(h, i, out, floats, i / run * dims[axis] * inner + before * inner + i % run);
        }
        before += h->dims[axis];
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_fold_slice(struct ft_at *at, const struct ft_host *x, const struct ft_host_slice *slice,
                             const struct ft_host **out, struct ft_err *err)
{
    int axis = slice->axis;
    int64_t count = slice->count;
    struct ft_host *h = NULL;
    float *floats = NULL;
    int64_t dims[FT_MAX_RANK];
    int64_t outer = 1;
    int64_t inner = 1;
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = count;
    FT_RETURN_IF_FAILED(like_host(at, x, x->rank, dims, &h, &floats, err));
    around(x, axis, &outer, &inner);
    for (int64_t i = 0; i < h->count; i++) {
        int64_t o = i / (count * inner);
        int64_t k = i / inner % count;
        copy_element(x, (o * x->dims[axis] + slice->start + k * slice->step) * inner + i % inner, h, floats,
                     i);
    }
    *out = h;
    return FT_OK;
}

enum ft_status ft_fold_gather(struct ft_at *at, int axis, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    const struct ft_host *index = ft_at_host(at, 1);
    struct ft_host *out = NULL;
    float *floats = NULL;
    int64_t dims[2 * FT_MAX_RANK];
    int64_t outer = 1;
    int64_t inner = 1;
    int rank = 0;
    if (!ft_host_is_int(index) || x->rank - 1 + index->rank > FT_MAX_RANK) {
        return ft_at_unsupported(at, err, "indices that are no integers, or more than 8 dimensions");
    }
    for (int i = 0; i < x->rank; i++) {
        for (int k = 0; i == axis && k < index->rank; k++) {
            dims[rank++] = index->dims[k];
        }
        if (i != axis) {
            dims[rank++] = x->dims[i];
        }
    }
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, x->dtype, rank, dims, &out, &floats, err));
    around(x, axis, &outer, &inner);
    for (int64_t i = 0; i < out->count; i++) {
        struct ft_dim d = index->ints[i / inner % index->count];
        int64_t k = d.coef + (d.coef < 0 ? x->dims[axis] : 0);
        if (!ft_dim_is_known(d) || k < 0 || k >= x->dims[axis]) {
            return FT_FAIL(err, INVALID, "index %lld is not within %lld", (long long)d.coef,
                           (long long)x->dims[axis]);
        }
        copy_element(x, (i / (inner * index->count) * x->dims[axis] + k) * inner + i % inner, out, floats, i);
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_fold_expand(struct ft_at *at, const struct ft_host *x, int rank, const int64_t *dims,
                              const struct ft_host **out, struct ft_err *err)
{
    struct ft_host *h = NULL;
    struct spread s = {.rank = rank, .count = 1};
    float *floats = NULL;
    for (int i = 0; i < rank; i++) {
        s.dims[i] = dims[i];
    }
    if (!ft_onnx_count(rank, dims, &s.count)) {
        return FT_FAIL(err, LIMIT, "the target is too large");
    }
    if (s.count == x->count) { /* only a new shape */
        FT_RETURN_IF_FAILED(ft_host_view(&at->im->arena, x, rank, dims, &h, err));
        *out = h;
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(like_host(at, x, rank, dims, &h, &floats, err));
    for (int64_t i = 0; i < s.count; i++) {
        copy_element(x, place(&s, x, i), h, floats, i);
    }
    *out = h;
    return FT_OK;
}
