#include <assert.h>
#include <string.h>

#include "executor/graph/pack_internal.h"

/* What exporters spell out around tokens, found from its last node backwards. */

static const struct ft_type *type_of(const struct ft_packer *p, ft_value v)
{
    return ft_graph_type(p->c.from, v);
}

static const struct ft_node *made_by(const struct ft_packer *p, ft_value v, enum ft_op op)
{
    int producer = ft_graph_producer(p->c.from, v);
    const struct ft_node *node = producer < 0 ? NULL : ft_graph_node(p->c.from, producer);
    return node != NULL && node->op == op && node->out[0] == v ? node : NULL;
}

static bool is_number(const struct ft_packer *p, ft_value v, float *number)
{
    const struct ft_type *t = type_of(p, v);
    if (ft_graph_source(p->c.from, v) != FT_FROM_CONST || t->dtype != FT_F32 || ft_elements(t) != 1) {
        return false;
    }
    memcpy(number, ft_graph_data(p->c.from, v), sizeof *number);
    return true;
}

/* v = k times what is returned; k is multiplied in. */
static ft_value unscaled(const struct ft_packer *p, ft_value v, float *k)
{
    for (;;) {
        const struct ft_node *scale = made_by(p, v, FT_OP_SCALE);
        const struct ft_node *mul = made_by(p, v, FT_OP_MUL);
        const struct ft_node *div = made_by(p, v, FT_OP_DIV);
        float number = 1.0F;
        if (scale != NULL && scale->attrs.beta == 0.0F) {
            *k *= scale->attrs.alpha;
            v = scale->in[0];
        } else if (mul != NULL && is_number(p, mul->in[1], &number)) {
            *k *= number;
            v = mul->in[0];
        } else if (div != NULL && is_number(p, div->in[1], &number)) {
            *k /= number;
            v = div->in[0];
        } else {
            return v;
        }
    }
}

/* ---- views: tokens (N, S, C) whose C is cut into heads and moved in front */

enum { VIEW_ROWS = 2, VIEW_PLACES = 3, MAX_STEPS = 12 };

struct view {
    struct ft_packer *p;
    ft_value tokens; /* (N, S, C) or (N, S, H, D) */
    int64_t width;   /* C */
    float scale;
    const struct ft_node *steps[MAX_STEPS]; /* from the last one back */
    int n_steps;
    int turned_at; /* of the steps before it, rotary places come behind; -1: none */
    float base;    /* theirs */
};

/* x cos + (-x2, x1) sin over the last axis: rotary places, as all of them spell it. */
static bool is_rotation(const struct ft_packer *p, ft_value v, ft_value *x, ft_value *cosines,
                        ft_value *sines)
{
    const struct ft_node *add = made_by(p, v, FT_OP_ADD);
    for (int k = 0; add != NULL && k < 8; k++) {
        const struct ft_node *plain = made_by(p, add->in[k & 1], FT_OP_MUL);
        const struct ft_node *swapped = made_by(p, add->in[1 - (k & 1)], FT_OP_MUL);
        int a = (k >> 1) & 1;
        int b = k >> 2;
        const struct ft_node *joined = swapped == NULL ? NULL : made_by(p, swapped->in[b], FT_OP_CONCAT);
        if (plain == NULL || joined == NULL || joined->n_in != 2) {
            continue;
        }
        int last = type_of(p, v)->rank - 1;
        const struct ft_node *neg = made_by(p, joined->in[0], FT_OP_NEG);
        const struct ft_node *behind = neg == NULL ? NULL : made_by(p, neg->in[0], FT_OP_SLICE);
        const struct ft_node *front = made_by(p, joined->in[1], FT_OP_SLICE);
        *x = plain->in[a];
        *cosines = plain->in[1 - a];
        *sines = swapped->in[1 - b];
        int64_t half = type_of(p, *x)->rank == last + 1 ? type_of(p, *x)->dim[last].coef / 2 : 0;
        if (behind != NULL && front != NULL && behind->in[0] == *x && front->in[0] == *x && half > 0 &&
            joined->attrs.axis == last && behind->attrs.axis == last && front->attrs.axis == last &&
            front->attrs.start == 0 && front->attrs.count == half && behind->attrs.start == half &&
            behind->attrs.count == half && front->attrs.step <= 1 && behind->attrs.step <= 1) {
            return true;
        }
    }
    return false;
}

static bool is_tokens(const struct ft_packer *p, ft_value v)
{
    const struct ft_type *t = type_of(p, v);
    return ft_pack_lead(t) == 2 && t->rank >= 3 && ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_BATCH)) &&
           p->c.map[v] != FT_NO_VALUE;
}

/* Back through what only moves numbers, up to tokens that have a packed form. */
static enum ft_status follow(struct view *w, ft_value v, bool *ok, struct ft_err *err)
{
    ft_value x = FT_NO_VALUE;
    ft_value cosines = FT_NO_VALUE;
    ft_value sines = FT_NO_VALUE;
    *ok = true;
    w->turned_at = -1;
    while (*ok) {
        v = unscaled(w->p, v, &w->scale);
        if (is_tokens(w->p, v)) {
            w->tokens = v;
            w->width = 1;
            for (int i = 2; i < type_of(w->p, v)->rank; i++) {
                w->width *= type_of(w->p, v)->dim[i].coef;
            }
            return FT_OK;
        }
        if (w->turned_at < 0 && is_rotation(w->p, v, &x, &cosines, &sines)) {
            FT_RETURN_IF_FAILED(ft_pack_probe_rotation(w->p, cosines, sines, &w->base, ok, err));
            w->turned_at = w->n_steps;
            v = x;
            continue;
        }
        const struct ft_node *turn = made_by(w->p, v, FT_OP_TRANSPOSE);
        const struct ft_node *step = turn != NULL ? turn : made_by(w->p, v, FT_OP_RESHAPE);
        *ok = step != NULL && w->n_steps < MAX_STEPS;
        if (*ok) {
            w->steps[w->n_steps++] = step;
            v = step->in[0];
        }
    }
    return FT_OK;
}

static bool known_type(const struct ft_packer *p, ft_value v, struct ft_type *t)
{
    const int64_t symbols[FT_MAX_SYMBOLS] = {VIEW_ROWS, VIEW_PLACES};
    return ft_type_bind(type_of(p, v), symbols, t) && ft_type_is_known(t);
}

static void turn_numbers(const struct ft_type *from, const int *perm, const int64_t *in, int64_t *out)
{
    int64_t stride[FT_MAX_RANK];
    int64_t at[FT_MAX_RANK] = {0};
    for (int i = from->rank - 1, n = 1; i >= 0; i--) {
        stride[i] = n;
        n *= (int)ft_extent(from, i);
    }
    for (int64_t k = 0; k < ft_elements(from); k++) {
        int64_t offset = 0;
        for (int i = 0; i < from->rank; i++) {
            offset += at[i] * stride[perm[i]];
        }
        out[k] = in[offset];
        for (int i = from->rank - 1; i >= 0 && ++at[i] == ft_extent(from, perm[i]); i--) {
            at[i] = 0;
        }
    }
}

/* Where each element comes from when all steps but the last `but` are done, for a batch of 2 x 3. */
static enum ft_status trace(const struct view *w, int but, int64_t **numbers, bool *ok, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_type t;
    int64_t *a = NULL;
    int64_t *b = NULL;
    *ok = known_type(w->p, w->tokens, &t);
    if (!*ok) {
        return FT_OK;
    }
    FT_TRY(ft_new((size_t)ft_elements(&t), sizeof *a, &a, err));
    FT_TRY(ft_new((size_t)ft_elements(&t), sizeof *b, &b, err));
    for (int64_t i = 0; i < ft_elements(&t); i++) {
        a[i] = i;
    }
    for (int s = w->n_steps - 1; *ok && s >= but; s--) {
        *ok = known_type(w->p, w->steps[s]->in[0], &t);
        if (*ok && w->steps[s]->op == FT_OP_TRANSPOSE) {
            turn_numbers(&t, w->steps[s]->attrs.perm, a, b);
            int64_t *other = a;
            a = b;
            b = other;
        }
    }
    *numbers = a;
    a = NULL;
done:
    ft_free(a);
    ft_free(b);
    return st;
}

/* Is that (N, H, S, D), or with `keys` (N, H, D, S)? */
static enum ft_status check_view(const struct view *w, int but, int64_t heads, bool keys, bool *ok,
                                 struct ft_err *err)
{
    int64_t *numbers = NULL;
    int64_t size = w->width / heads;
    int64_t k = 0;
    FT_RETURN_IF_FAILED(trace(w, but, &numbers, ok, err));
    *ok = *ok && size * heads == w->width;
    for (int64_t n = 0; n < VIEW_ROWS && *ok; n++) {
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t i = 0; i < (keys ? size : VIEW_PLACES); i++) {
                for (int64_t j = 0; j < (keys ? VIEW_PLACES : size); j++, k++) {
                    int64_t place = keys ? j : i;
                    int64_t number = keys ? i : j;
                    *ok = *ok && numbers[k] == (n * VIEW_PLACES + place) * w->width + h * size + number;
                }
            }
        }
    }
    ft_free(numbers);
    return FT_OK;
}

static enum ft_status is_view(struct view *w, ft_value v, int64_t heads, bool keys, bool *ok,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(follow(w, v, ok, err));
    if (*ok && w->turned_at >= 0) { /* numbers of one head of one token are turned */
        FT_RETURN_IF_FAILED(check_view(w, w->turned_at, heads, false, ok, err));
    }
    return *ok ? check_view(w, 0, heads, keys, ok, err) : FT_OK;
}

/* The packed form: (T, C), turned. */
static enum ft_status add_view(const struct view *w, int64_t heads, ft_value *out, struct ft_err *err)
{
    struct ft_packer *p = w->p;
    struct ft_attrs a;
    ft_value in[2] = {p->c.map[w->tokens], p->spans};
    memset(&a, 0, sizeof a);
    a.shape_rank = 2;
    a.shape[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
    a.shape[1] = ft_dim_of(w->width);
    if (type_of(p, w->tokens)->rank != 3) {
        FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_RESHAPE, &a, in, 1, "", in, err));
    }
    if (w->turned_at >= 0) {
        memset(&a, 0, sizeof a);
        a.group = heads;
        a.count = w->width / heads;
        a.alpha = w->base;
        FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_ROPE, &a, in, 2, "", in, err));
    }
    *out = in[0];
    return FT_OK;
}

/* ---- attention */

struct attention {
    struct view q, k, v;
    ft_value bias; /* of the packed graph, or FT_NO_VALUE */
    int64_t heads, window;
    float scale;
    bool masked;
};

/* softmax with NaN made 0, as PyTorch does for rows that see nothing */
static const struct ft_node *softmax_of(const struct ft_packer *p, ft_value v)
{
    float zero = 1.0F;
    const struct ft_node *where = made_by(p, v, FT_OP_WHERE);
    if (where != NULL && is_number(p, where->in[1], &zero) && zero == 0.0F) {
        const struct ft_node *not = made_by(p, where->in[0], FT_OP_LOGIC);
        const struct ft_node *same =
            not == NULL || not ->attrs.kind != FT_LOGIC_NOT ? NULL : made_by(p, not ->in[0], FT_OP_COMPARE);
        if (same == NULL || same->in[0] != where->in[2] || same->in[1] != where->in[2]) {
            return NULL;
        }
        v = where->in[2];
    }
    const struct ft_node *softmax = made_by(p, v, FT_OP_SOFTMAX);
    return softmax != NULL && softmax->attrs.axis == type_of(p, v)->rank - 1 ? softmax : NULL;
}

/* Numbers of distances (1, H, S, S) as T5 and MPNet make them: a table (buckets, H) looked up by (S, S). The
 * lookup, or NULL. */
static const struct ft_node *bias_lookup(const struct ft_packer *p, ft_value v)
{
    static const int heads_first[3] = {2, 0, 1};
    for (;;) {
        const struct ft_node *expand = made_by(p, v, FT_OP_EXPAND_TO);
        const struct ft_node *reshape = made_by(p, v, FT_OP_RESHAPE);
        if (expand == NULL &&
            (reshape == NULL || type_of(p, v)->rank != type_of(p, reshape->in[0])->rank + 1)) {
            break;
        }
        v = expand != NULL ? expand->in[0] : reshape->in[0];
    }
    const struct ft_node *turn = made_by(p, v, FT_OP_TRANSPOSE);
    bool turned = turn != NULL && type_of(p, v)->rank == 3 &&
                  memcmp(turn->attrs.perm, heads_first, sizeof heads_first) == 0;
    const struct ft_node *look = turned ? made_by(p, turn->in[0], FT_OP_GATHER) : NULL;
    bool known = look != NULL && look->attrs.axis == 0 && p->c.map[look->in[0]] != FT_NO_VALUE &&
                 ft_pack_lead(type_of(p, look->in[0])) == FT_LEAD_FREE &&
                 type_of(p, look->in[0])->rank == 2 && type_of(p, look->in[1])->rank == 2;
    return known ? look : NULL;
}

/* The table by distance (heads, 2D + 1): shared by the layers that share the lookup. */
static enum ft_status add_bias(struct ft_packer *p, const struct ft_node *look, ft_value *out, bool *ok,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t *table = NULL;
    int64_t reach = 0;
    struct ft_attrs a;
    ft_value in[2] = {p->c.map[look->in[0]], FT_NO_VALUE};
    *out = p->bias[look->out[0]];
    *ok = *out != FT_NO_VALUE;
    if (*ok) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_pack_probe_distances(p, look->in[1], &table, &reach, ok, err));
    if (!*ok) {
        return FT_OK;
    }
    struct ft_type t = ft_type_of(FT_I64, 1, (const int64_t[]){2 * reach + 1});
    memset(&a, 0, sizeof a);
    FT_TRY(ft_graph_const(p->c.to, "", &t, table, &in[1], err));
    FT_TRY(ft_graph_add(p->c.to, FT_OP_GATHER, &a, in, 2, look->origin, out, err));
    a.perm[0] = 1;
    FT_TRY(ft_graph_add(p->c.to, FT_OP_TRANSPOSE, &a, out, 1, look->origin, out, err));
    p->bias[look->out[0]] = *out;
done:
    ft_free(table);
    return st;
}

/* The same beside a mask: their sum, or the numbers where the mask is set. */
static const struct ft_node *masked_lookup(const struct ft_packer *p, ft_value v, ft_value *mask)
{
    float low = 0.0F;
    const struct ft_node *add = made_by(p, v, FT_OP_ADD);
    const struct ft_node *where = made_by(p, v, FT_OP_WHERE);
    for (int i = 0; add != NULL && i < 2; i++) {
        const struct ft_node *look = bias_lookup(p, add->in[i]);
        if (look != NULL) {
            *mask = add->in[1 - i];
            return look;
        }
    }
    if (where != NULL && is_number(p, where->in[2], &low) && low <= -1e4F) {
        *mask = where->in[0];
        return bias_lookup(p, where->in[1]);
    }
    return NULL;
}

/* What is added to scores: a mask, numbers of distances, or the sum of both. */
static enum ft_status take_addend(struct ft_packer *p, ft_value v, struct attention *a, bool *ok,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_pack_probe(p, v, FT_PROBE_KEYS, ok, err));
    if (*ok) {
        a->masked = true;
        a->window = p->numbers[v];
        return FT_OK;
    }
    const struct ft_node *look = a->bias == FT_NO_VALUE ? bias_lookup(p, v) : NULL;
    if (look != NULL) {
        return add_bias(p, look, &a->bias, ok, err);
    }
    ft_value mask = FT_NO_VALUE;
    look = a->bias == FT_NO_VALUE ? masked_lookup(p, v, &mask) : NULL;
    if (look != NULL) {
        FT_RETURN_IF_FAILED(ft_pack_probe(p, mask, FT_PROBE_KEYS, ok, err));
    }
    if (look != NULL && *ok) {
        a->masked = true;
        a->window = p->numbers[mask];
        return add_bias(p, look, &a->bias, ok, err);
    }
    return FT_OK;
}

/* May v be scores, rather than what is added to them? */
static bool may_be_scores(const struct ft_packer *p, ft_value v)
{
    static const enum ft_op ops[] = {FT_OP_MATMUL, FT_OP_SCALE, FT_OP_DIV, FT_OP_MUL, FT_OP_ADD};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (made_by(p, v, ops[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* One addend, or one choice of scores, less; *ok = false: none was found. */
static enum ft_status less_one(struct ft_packer *p, ft_value *scores, struct attention *a, bool *ok,
                               struct ft_err *err)
{
    const struct ft_node *add = made_by(p, *scores, FT_OP_ADD);
    const struct ft_node *where = made_by(p, *scores, FT_OP_WHERE);
    float low = 0.0F;
    *ok = false;
    for (int i = 1; add != NULL && i >= 0; i--) {
        if (may_be_scores(p, add->in[1 - i])) {
            FT_RETURN_IF_FAILED(take_addend(p, add->in[i], a, ok, err));
        }
        if (*ok) {
            *scores = add->in[1 - i];
            return FT_OK;
        }
    }
    if (where != NULL && is_number(p, where->in[2], &low) && low <= -1e4F) {
        FT_RETURN_IF_FAILED(ft_pack_probe(p, where->in[0], FT_PROBE_KEYS, ok, err));
        a->masked = a->masked || *ok;
        a->window = *ok ? p->numbers[where->in[0]] : a->window;
        *scores = *ok ? where->in[1] : *scores;
    }
    return FT_OK;
}

/* y (N, H, S, D) = softmax(mask(scale q k')) v */
static enum ft_status match(struct ft_packer *p, ft_value y, struct attention *a, bool *ok,
                            struct ft_err *err)
{
    float scale = 1.0F;
    *ok = false;
    const struct ft_node *same = made_by(p, y, FT_OP_RESHAPE);
    while (same != NULL && ft_type_same_shape(type_of(p, y), type_of(p, same->in[0]))) {
        y = same->in[0];
        same = made_by(p, y, FT_OP_RESHAPE);
    }
    const struct ft_node *last = made_by(p, y, FT_OP_MATMUL);
    if (last == NULL || last->n_in != 2 || type_of(p, y)->rank != 4 || last->attrs.trans_a != 0 ||
        last->attrs.trans_b != 0 || last->attrs.alpha != 1.0F || !ft_dim_is_known(type_of(p, y)->dim[1])) {
        return FT_OK;
    }
    const struct ft_node *softmax = softmax_of(p, last->in[0]);
    if (softmax == NULL) {
        return FT_OK;
    }
    ft_value scores = softmax->in[0];
    bool less = true;
    while (less) {
        FT_RETURN_IF_FAILED(less_one(p, &scores, a, &less, err));
    }
    const struct ft_node *first = made_by(p, unscaled(p, scores, &scale), FT_OP_MATMUL);
    if (!a->masked || first == NULL || first->n_in != 2 || first->attrs.trans_a != 0) {
        return FT_OK;
    }
    a->heads = type_of(p, y)->dim[1].coef;
    FT_RETURN_IF_FAILED(is_view(&a->q, first->in[0], a->heads, false, ok, err));
    if (*ok) {
        FT_RETURN_IF_FAILED(is_view(&a->k, first->in[1], a->heads, first->attrs.trans_b == 0, ok, err));
    }
    if (*ok) {
        FT_RETURN_IF_FAILED(is_view(&a->v, last->in[1], a->heads, false, ok, err));
    }
    a->scale = scale * first->attrs.alpha * a->q.scale * a->k.scale;
    *ok = *ok && a->v.scale == 1.0F && a->v.turned_at < 0;
    return FT_OK;
}

enum ft_status ft_pack_attention(struct ft_packer *p, const struct ft_node *node, ft_value *out, bool *done,
                                 struct ft_err *err)
{
    static const int rows[4] = {0, 2, 1, 3};
    const struct view none = {.p = p, .scale = 1.0F};
    struct attention a = {.q = none, .k = none, .v = none, .scale = 1.0F, .bias = FT_NO_VALUE};
    struct ft_attrs attrs;
    *done = false;
    if (node->op != FT_OP_TRANSPOSE || type_of(p, node->in[0])->rank != 4 ||
        memcmp(node->attrs.perm, rows, sizeof rows) != 0 || ft_pack_lead(type_of(p, node->out[0])) != 2) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(match(p, node->in[0], &a, done, err));
    if (!*done) {
        return FT_OK;
    }
    ft_value in[5] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE, p->spans, a.bias};
    FT_RETURN_IF_FAILED(add_view(&a.q, a.heads, &in[0], err));
    FT_RETURN_IF_FAILED(add_view(&a.k, a.heads, &in[1], err));
    FT_RETURN_IF_FAILED(add_view(&a.v, a.heads, &in[2], err));
    ft_value y[FT_MAX_OUTPUTS];
    memset(&attrs, 0, sizeof attrs);
    attrs.group = a.heads;
    attrs.alpha = a.scale;
    attrs.count = a.window;
    FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_ATTENTION, &attrs, in, a.bias == FT_NO_VALUE ? 4 : 5,
                                     node->origin, y, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.shape_rank = 3; /* (T, H, D) */
    attrs.shape[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
    attrs.shape[1] = ft_dim_of(a.heads);
    attrs.shape[2] = type_of(p, node->out[0])->dim[3];
    return ft_graph_add(p->c.to, FT_OP_RESHAPE, &attrs, y, 1, node->origin, out, err);
}

/* ---- mean over tokens: sum of x times the mask, divided by the number of tokens */

enum ft_status ft_pack_mean(struct ft_packer *p, const struct ft_node *node, ft_value *out, bool *done,
                            struct ft_err *err)
{
    struct ft_attrs a;
    bool yes = false;
    *done = false;
    const struct ft_node *sum = node->op == FT_OP_DIV ? made_by(p, node->in[0], FT_OP_REDUCE_SUM) : NULL;
    const struct ft_node *mul = sum == NULL ? NULL : made_by(p, sum->in[0], FT_OP_MUL);
    if (mul == NULL || sum->attrs.axes_count != 1 || sum->attrs.axes[0] != 1 || sum->attrs.keepdims != 0 ||
        ft_pack_lead(type_of(p, node->out[0])) != FT_LEAD_ROWS) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_pack_probe(p, node->in[1], FT_PROBE_COUNT, &yes, err));
    for (int i = 0; yes && i < 2; i++) {
        const struct ft_type *x = type_of(p, mul->in[i]);
        bool is_mask = false;
        if (ft_pack_lead(x) != 2 || x->rank != 3 || p->c.map[mul->in[i]] == FT_NO_VALUE) {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_pack_probe(p, mul->in[1 - i], FT_PROBE_MASK, &is_mask, err));
        if (is_mask) {
            const ft_value in[2] = {p->c.map[mul->in[i]], p->spans};
            memset(&a, 0, sizeof a);
            a.kind = FT_SEQ_MEAN;
            *done = true;
            return ft_graph_add(p->c.to, FT_OP_SEQ_POOL, &a, in, 2, node->origin, out, err);
        }
    }
    return FT_OK;
}

/* ---- places */

static enum ft_status add_number(struct ft_packer *p, int64_t number, ft_value *out, struct ft_err *err)
{
    const struct ft_type scalar = ft_type_of(FT_I64, 0, NULL);
    ft_value in[2] = {FT_NO_VALUE, p->c.map[p->ids]};
    FT_RETURN_IF_FAILED(ft_graph_const(p->c.to, "", &scalar, &number, &in[0], err));
    return ft_graph_add(p->c.to, FT_OP_EXPAND_TO, &(struct ft_attrs){0}, in, 2, "", out, err);
}

enum ft_status ft_pack_places(struct ft_packer *p, ft_value v, ft_value *out, bool *done, struct ft_err *err)
{
    struct ft_attrs a;
    int lead = ft_pack_lead(type_of(p, v));
    *done = false;
    if (lead < 1 || type_of(p, v)->rank != lead || type_of(p, v)->dtype != FT_I64) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_pack_probe(p, v, FT_PROBE_PLACES, done, err));
    if (*done) {
        const ft_value in[2] = {p->spans, p->c.map[p->ids]};
        memset(&a, 0, sizeof a);
        return ft_graph_add(p->c.to, FT_OP_POSITIONS, &a, in, 2, "", out, err);
    }
    FT_RETURN_IF_FAILED(ft_pack_probe(p, v, FT_PROBE_SAME, done, err));
    return *done ? add_number(p, p->numbers[v], out, err) : FT_OK;
}
