#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/import.h"

/*
 * What exporters spell out and a row does at once. Each node is looked at before it is added: if it is the
 * last of a pattern, it becomes that row over the pattern's inputs, and what only the pattern needed is
 * dropped with everything else that no output reads. Only what is exact but for rounding is taken.
 */

/* Constants were rounded to float by whoever wrote them down. */
static bool near(float a, float b)
{
    return fabsf(a - b) <= 2e-6F * fabsf(b);
}

/* The node that makes v if it is this row, else NULL. */
static const struct ft_node *made_by(const struct ft_graph *g, ft_value v, enum ft_op op)
{
    int producer = ft_graph_producer(g, v);
    const struct ft_node *node = producer < 0 ? NULL : ft_graph_node(g, producer);
    return node != NULL && node->op == op && node->out[0] == v ? node : NULL;
}

/* What v is this function of, else FT_NO_VALUE. */
static ft_value map_of(const struct ft_graph *g, ft_value v, enum ft_map map)
{
    const struct ft_node *node = made_by(g, v, FT_OP_MAP);
    return node != NULL && node->attrs.kind == (int)map ? node->in[0] : FT_NO_VALUE;
}

static bool is_number(const struct ft_graph *g, ft_value v, float *number)
{
    const struct ft_type *t = ft_graph_type(g, v);
    if (ft_graph_source(g, v) != FT_FROM_CONST || t->dtype != FT_F32 || ft_elements(t) != 1) {
        return false;
    }
    memcpy(number, ft_graph_data(g, v), sizeof *number);
    return true;
}

/* v = k times what is returned; k is multiplied in. */
static ft_value unscaled(const struct ft_graph *g, ft_value v, float *k)
{
    for (;;) {
        const struct ft_node *scale = made_by(g, v, FT_OP_SCALE);
        const struct ft_node *div = made_by(g, v, FT_OP_DIV);
        float number = 1.0F;
        if (scale != NULL && scale->attrs.beta == 0.0F) {
            *k *= scale->attrs.alpha;
            v = scale->in[0];
        } else if (div != NULL && is_number(g, div->in[1], &number)) {
            *k /= number;
            v = div->in[0];
        } else {
            return v;
        }
    }
}

/* v = k (1 + f) where the result is f, else FT_NO_VALUE; k is multiplied in. */
static ft_value one_plus(const struct ft_graph *g, ft_value v, float *k)
{
    const struct ft_node *scale = made_by(g, v, FT_OP_SCALE);
    if (scale == NULL || scale->attrs.alpha != scale->attrs.beta) {
        return FT_NO_VALUE;
    }
    *k *= scale->attrs.alpha;
    return scale->in[0];
}

static void become_map(struct ft_spelled *s, enum ft_map map, ft_value x, float a, float b)
{
    memset(s, 0, sizeof *s);
    s->op = FT_OP_MAP;
    s->attrs.kind = (int)map;
    s->attrs.alpha = a;
    s->attrs.beta = b;
    s->in[0] = x;
    s->n_in = 1;
}

/* ---- activations: k times the product of x and something made of x */

/* min(max(x + 3, 0), 6) */
static bool is_relu6_plus_3(const struct ft_graph *g, ft_value v, ft_value *x)
{
    const struct ft_node *clip = made_by(g, v, FT_OP_CLIP);
    const struct ft_node *scale = clip == NULL ? NULL : made_by(g, clip->in[0], FT_OP_SCALE);
    if (scale == NULL || clip->attrs.lo != 0.0F || clip->attrs.hi != 6.0F || scale->attrs.alpha != 1.0F ||
        scale->attrs.beta != 3.0F) {
        return false;
    }
    *x = scale->in[0];
    return true;
}

static bool is_cube(const struct ft_graph *g, ft_value v, ft_value x)
{
    const struct ft_node *pow = made_by(g, v, FT_OP_POW);
    const struct ft_node *mul = made_by(g, v, FT_OP_MUL);
    float exponent = 0.0F;
    if (pow != NULL) {
        return pow->in[0] == x && is_number(g, pow->in[1], &exponent) && exponent == 3.0F;
    }
    for (int i = 0; mul != NULL && i < 2; i++) {
        const struct ft_node *square = made_by(g, mul->in[i], FT_OP_MUL);
        if (mul->in[1 - i] == x && square != NULL && square->in[0] == x && square->in[1] == x) {
            return true;
        }
    }
    return false;
}

/* sqrt(2 / pi) (x + 0.044715 x^3) */
static bool is_tanh_gelu_argument(const struct ft_graph *g, ft_value v, ft_value x)
{
    float outer = 1.0F;
    const struct ft_node *add = made_by(g, unscaled(g, v, &outer), FT_OP_ADD);
    for (int i = 0; add != NULL && i < 2; i++) {
        float inner = 1.0F;
        if (add->in[i] == x && is_cube(g, unscaled(g, add->in[1 - i], &inner), x)) {
            return near(outer, 0.79788456F) && near(inner, 0.044715F);
        }
    }
    return false;
}

/* x (1 + erf(x / sqrt 2)) / 2, or its tanh form */
static bool is_gelu(const struct ft_graph *g, ft_value x, ft_value gate, float k, enum ft_map *map)
{
    float inner = 1.0F;
    ft_value f = one_plus(g, gate, &k);
    if (f == FT_NO_VALUE || !near(k, 0.5F)) {
        return false;
    }
    ft_value argument = map_of(g, f, FT_MAP_ERF);
    const struct ft_node *tanh = made_by(g, f, FT_OP_TANH);
    *map = tanh == NULL ? FT_MAP_GELU : FT_MAP_GELU_TANH;
    if (tanh != NULL) {
        return is_tanh_gelu_argument(g, tanh->in[0], x);
    }
    return argument != FT_NO_VALUE && unscaled(g, argument, &inner) == x && near(inner, 0.70710678F);
}

/* k x gate */
static bool gated(const struct ft_graph *g, struct ft_spelled *s, ft_value x, ft_value gate, float k)
{
    enum ft_map map = FT_MAP_GELU;
    float inner = 1.0F;
    ft_value of = FT_NO_VALUE;
    const struct ft_node *sigmoid = made_by(g, gate, FT_OP_SIGMOID);
    const struct ft_node *tanh = made_by(g, gate, FT_OP_TANH);
    const struct ft_node *hard = made_by(g, gate, FT_OP_MAP);
    if (is_gelu(g, x, gate, k, &map)) {
        become_map(s, map, x, 0, 0);
    } else if (k == 1.0F && sigmoid != NULL && unscaled(g, sigmoid->in[0], &inner) == x) {
        become_map(s, FT_MAP_SILU, x, inner, 0);
    } else if (k == 1.0F && tanh != NULL && map_of(g, tanh->in[0], FT_MAP_SOFTPLUS) == x) {
        become_map(s, FT_MAP_MISH, x, 0, 0);
    } else if (near(k, 1.0F / 6.0F) && is_relu6_plus_3(g, gate, &of) && of == x) {
        become_map(s, FT_MAP_HARD_SWISH, x, 0, 0);
    } else if (k == 1.0F && hard != NULL && hard->attrs.kind == FT_MAP_HARD_SIGMOID && hard->in[0] == x &&
               near(hard->attrs.alpha, 1.0F / 6.0F) && hard->attrs.beta == 0.5F) {
        become_map(s, FT_MAP_HARD_SWISH, x, 0, 0);
    } else {
        return false;
    }
    return true;
}

static bool activation(const struct ft_graph *g, struct ft_spelled *s)
{
    float k = 1.0F;
    ft_value a = s->in[0];
    ft_value b = s->in[1];
    ft_value x = FT_NO_VALUE;
    if (s->op == FT_OP_SCALE || s->op == FT_OP_DIV) { /* the factor that comes last */
        if (s->op == FT_OP_DIV ? !is_number(g, b, &k) : s->attrs.beta != 0.0F) {
            return false;
        }
        k = s->op == FT_OP_DIV ? 1.0F / k : s->attrs.alpha;
        ft_value v = unscaled(g, a, &k);
        if (near(k, 1.0F / 6.0F) && is_relu6_plus_3(g, v, &x)) {
            become_map(s, FT_MAP_HARD_SIGMOID, x, 1.0F / 6.0F, 0.5F);
            return true;
        }
        const struct ft_node *mul = made_by(g, v, FT_OP_MUL);
        if (mul == NULL) {
            return false;
        }
        a = mul->in[0];
        b = mul->in[1];
    }
    if (ft_graph_type(g, a)->rank != ft_graph_type(g, b)->rank) {
        return false;
    }
    a = unscaled(g, a, &k);
    b = unscaled(g, b, &k);
    return gated(g, s, a, b, k) || gated(g, s, b, a, k);
}

/* ---- F.normalize: x / [expanded] max(sqrt(sum over the last axis of x x), eps) */

static bool l2_normalize(const struct ft_graph *g, struct ft_spelled *s)
{
    ft_value x = s->in[0];
    const int last = ft_graph_type(g, x)->rank - 1;
    const struct ft_node *expand = made_by(g, s->in[1], FT_OP_EXPAND_TO);
    const struct ft_node *clip = made_by(g, expand == NULL ? s->in[1] : expand->in[0], FT_OP_CLIP);
    const struct ft_node *root = clip == NULL ? NULL : made_by(g, clip->in[0], FT_OP_SQRT);
    const struct ft_node *sum = root == NULL ? NULL : made_by(g, root->in[0], FT_OP_REDUCE_SUM);
    const struct ft_node *square = sum == NULL ? NULL : made_by(g, sum->in[0], FT_OP_MUL);
    if (square == NULL || square->in[0] != x || square->in[1] != x || !(clip->attrs.lo > 0.0F) ||
        !isinf(clip->attrs.hi) || sum->attrs.axes_count != 1 || sum->attrs.axes[0] != last ||
        !sum->attrs.keepdims) {
        return false;
    }
    memset(&s->attrs, 0, sizeof s->attrs);
    s->op = FT_OP_L2_NORMALIZE;
    s->attrs.eps = clip->attrs.lo;
    s->n_in = 1;
    return true;
}

/* ---- layer normalisation */

/* The first of the last axes that v is the mean over, kept, of x; -1 if it is no such mean. */
static int mean_from(const struct ft_graph *g, ft_value v, ft_value *x)
{
    const struct ft_node *mean = made_by(g, v, FT_OP_REDUCE_MEAN);
    if (mean == NULL || !mean->attrs.keepdims || mean->attrs.axes_count == 0) {
        return -1;
    }
    *x = mean->in[0];
    int rank = ft_graph_type(g, *x)->rank;
    int first = rank - mean->attrs.axes_count;
    for (int i = 0; i < mean->attrs.axes_count; i++) {
        if (mean->attrs.axes[i] < first) {
            return -1;
        }
    }
    return first;
}

/* v = x - mean of x; the axis as in mean_from(). */
static int centred_from(const struct ft_graph *g, ft_value v, ft_value *x)
{
    const struct ft_node *sub = made_by(g, v, FT_OP_SUB);
    int axis = sub == NULL ? -1 : mean_from(g, sub->in[1], x);
    return axis >= 0 && *x == sub->in[0] ? axis : -1;
}

/* Is v = sqrt(mean of (x - mean)^2 + eps)? */
static bool is_deviation(const struct ft_graph *g, ft_value v, ft_value x, int axis, float *eps)
{
    ft_value square = FT_NO_VALUE;
    ft_value of[2] = {FT_NO_VALUE, FT_NO_VALUE};
    const struct ft_node *root = made_by(g, v, FT_OP_SQRT);
    const struct ft_node *sum = root == NULL ? NULL : made_by(g, root->in[0], FT_OP_SCALE);
    if (sum == NULL || sum->attrs.alpha != 1.0F || !(sum->attrs.beta >= 0.0F) ||
        mean_from(g, sum->in[0], &square) != axis) {
        return false;
    }
    *eps = sum->attrs.beta;
    const struct ft_node *mul = made_by(g, square, FT_OP_MUL);
    return mul != NULL && centred_from(g, mul->in[0], &of[0]) == axis && of[0] == x &&
           centred_from(g, mul->in[1], &of[1]) == axis && of[1] == x;
}

static enum ft_status layernorm(struct ft_at *at, struct ft_spelled *s, bool *done, struct ft_err *err)
{
    const struct ft_graph *g = at->im->graph;
    ft_value x = FT_NO_VALUE;
    float eps = 0.0F;
    for (int i = 0; i < (s->op == FT_OP_MUL ? 2 : 1); i++) {
        ft_value deviation = s->op == FT_OP_MUL ? map_of(g, s->in[1 - i], FT_MAP_RECIPROCAL) : s->in[1];
        int axis = deviation == FT_NO_VALUE ? -1 : centred_from(g, s->in[i], &x);
        if (axis < 0 || !is_deviation(g, deviation, x, axis, &eps)) {
            continue;
        }
        const struct ft_type *type = ft_graph_type(g, x);
        for (int k = axis; k < type->rank; k++) {
            if (!ft_dim_is_known(type->dim[k])) {
                return FT_OK;
            }
        }
        memset(s, 0, sizeof *s);
        s->op = FT_OP_LAYERNORM;
        s->attrs.axis = axis;
        s->attrs.eps = eps;
        s->in[0] = x;
        s->n_in = 2;
        *done = true;
        return ft_at_ones(at, type, axis, &s->in[1], err);
    }
    return FT_OK;
}

static bool is_ones(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *type = ft_graph_type(g, v);
    if (ft_graph_source(g, v) != FT_FROM_CONST) {
        return false;
    }
    const float *data = ft_graph_data(g, v);
    for (int64_t i = 0; i < ft_elements(type); i++) {
        if (data[i] != 1.0F) {
            return false;
        }
    }
    return true;
}

/* A scale or a bias that follows a LAYERNORM without. */
static bool affine(const struct ft_graph *g, struct ft_spelled *s)
{
    for (int i = 0; i < 2; i++) {
        const struct ft_node *ln = made_by(g, s->in[i], FT_OP_LAYERNORM);
        ft_value other = s->in[1 - i];
        if (ln == NULL || ln->n_in != 2 || ft_graph_source(g, other) == FT_FROM_NODE ||
            !ft_type_same_shape(ft_graph_type(g, ln->in[1]), ft_graph_type(g, other)) ||
            (s->op == FT_OP_MUL && !is_ones(g, ln->in[1]))) {
            continue;
        }
        s->in[0] = ln->in[0];
        s->in[1] = s->op == FT_OP_MUL ? other : ln->in[1];
        s->in[2] = other;
        s->n_in = s->op == FT_OP_MUL ? 2 : 3;
        s->op = FT_OP_LAYERNORM;
        memcpy(&s->attrs, &ln->attrs, sizeof s->attrs);
        return true;
    }
    return false;
}

enum ft_status ft_rewrite(struct ft_at *at, struct ft_spelled *s, struct ft_err *err)
{
    const struct ft_graph *g = at->im->graph;
    bool done = false;
    if (s->op == FT_OP_DIV || s->op == FT_OP_MUL) {
        FT_RETURN_IF_FAILED(layernorm(at, s, &done, err));
    }
    if (!done && (s->op == FT_OP_MUL || s->op == FT_OP_ADD)) {
        done = affine(g, s);
    }
    if (!done && s->op == FT_OP_DIV) {
        done = l2_normalize(g, s);
    }
    if (!done && (s->op == FT_OP_MUL || s->op == FT_OP_DIV || s->op == FT_OP_SCALE)) {
        (void)activation(g, s);
    }
    return FT_OK;
}
