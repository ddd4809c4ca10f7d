#include "executor/graph/pack.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "executor/graph/pack_internal.h"

/* ---- what a value is */

static bool has_any(const struct ft_type *t, int from)
{
    for (int i = from; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            return true;
        }
    }
    return false;
}

int ft_pack_lead(const struct ft_type *t)
{
    struct ft_dim rows = ft_dim_symbol(FT_SYMBOL_BATCH);
    struct ft_dim places = ft_dim_symbol(FT_SYMBOL_LENGTH);
    struct ft_dim both;
    bool fits = ft_dim_mul(rows, places, &both);
    assert(fits);
    if (!has_any(t, 0)) {
        return FT_LEAD_FREE;
    }
    if (!has_any(t, 1)) {
        const struct ft_dim d = t->dim[0];
        return ft_dim_equal(d, places) || ft_dim_equal(d, both) ? 1
               : ft_dim_equal(d, rows)                          ? FT_LEAD_ROWS
                                                                : FT_LEAD_OTHER;
    }
    bool leads = t->rank >= 2 && (ft_dim_equal(t->dim[0], rows) || ft_dim_is_one(t->dim[0])) &&
                 ft_dim_equal(t->dim[1], places) && !has_any(t, 2);
    return leads ? 2 : FT_LEAD_OTHER;
}

/* ---- what an op does to tokens */

enum token_rule {
    REFUSED,
    EACH,     /* one element at a time, broadcast */
    ON_AXIS,  /* along a.axis (LAYERNORM: from there on) */
    ON_AXES,  /* along a.axes */
    ON_LAST,  /* along the last axis */
    LOOK_UP,  /* GATHER */
    PRODUCT,  /* MATMUL */
    RESHAPED, /* RESHAPE */
    TURNED,   /* TRANSPOSE */
    SUMMED,   /* CUMSUM */
    SEQUENCE  /* knows where sequences begin */
};

static enum token_rule rule_of(enum ft_op op)
{
    static const enum token_rule rules[FT_OP_COUNT] = {
        [FT_OP_RELU] = EACH,
        [FT_OP_LEAKY_RELU] = EACH,
        [FT_OP_SIGMOID] = EACH,
        [FT_OP_TANH] = EACH,
        [FT_OP_CLIP] = EACH,
        [FT_OP_EXP] = EACH,
        [FT_OP_LOG] = EACH,
        [FT_OP_SQRT] = EACH,
        [FT_OP_NEG] = EACH,
        [FT_OP_SCALE] = EACH,
        [FT_OP_MAP] = EACH,
        [FT_OP_ADD] = EACH,
        [FT_OP_SUB] = EACH,
        [FT_OP_MUL] = EACH,
        [FT_OP_DIV] = EACH,
        [FT_OP_POW] = EACH,
        [FT_OP_CAST] = EACH,
        [FT_OP_COMPARE] = EACH,
        [FT_OP_LOGIC] = EACH,
        [FT_OP_WHERE] = EACH,
        [FT_OP_MAXIMUM] = EACH,
        [FT_OP_MINIMUM] = EACH,
        [FT_OP_MOD] = EACH,
        [FT_OP_EXPAND_TO] = EACH,
        [FT_OP_LAYERNORM] = ON_AXIS,
        [FT_OP_SOFTMAX] = ON_AXIS,
        [FT_OP_LOG_SOFTMAX] = ON_AXIS,
        [FT_OP_CONCAT] = ON_AXIS,
        [FT_OP_SLICE] = ON_AXIS,
        [FT_OP_REDUCE_SUM] = ON_AXES,
        [FT_OP_REDUCE_MEAN] = ON_AXES,
        [FT_OP_REDUCE] = ON_AXES,
        [FT_OP_L2_NORMALIZE] = ON_LAST,
        [FT_OP_GATHER] = LOOK_UP,
        [FT_OP_MATMUL] = PRODUCT,
        [FT_OP_RESHAPE] = RESHAPED,
        [FT_OP_TRANSPOSE] = TURNED,
        [FT_OP_CUMSUM] = SUMMED,
        [FT_OP_ATTENTION] = SEQUENCE,
        [FT_OP_ROPE] = SEQUENCE,
        [FT_OP_POSITIONS] = SEQUENCE,
        [FT_OP_SEQ_POOL] = SEQUENCE,
    };
    return rules[op];
}

/* ---- packing */

static const char of_mask[] = "it computes with " FT_PACK_MASK ", which only attention and pooling may read";

enum { MAX_IN = 16 }; /* operands of a row with tokens; CONCAT of more is refused */

static const struct ft_type *type_of(const struct ft_packer *p, ft_value v)
{
    return ft_graph_type(p->c.from, v);
}

FT_PRINTF(3, 4)
static bool refuse(struct ft_packer *p, const struct ft_node *node, const char *format, ...)
{
    char text[FT_NODE_TEXT];
    char reason[FT_ERR_TEXT - FT_NODE_TEXT - 4];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    (void)snprintf(p->why, FT_ERR_TEXT, "%s: %s", ft_node_text(node, text), reason);
    return false;
}

/* A node being made: its operands in the packed graph and its changed attributes. */
struct piece {
    const struct ft_node *node;
    struct ft_attrs attrs;
    ft_value in[MAX_IN];
    int lead; /* of the token operands or the result */
    int rest; /* axes behind the tokens, of the result */
};

/* Places are recognised where they are used. */
static enum ft_status map_operand(struct ft_packer *p, struct piece *piece, int i, bool *ok,
                                  struct ft_err *err)
{
    ft_value v = piece->node->in[i];
    if (v == p->mask) {
        *ok = false;
        return FT_OK;
    }
    if (p->c.map[v] == FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_pack_places(p, v, &p->c.map[v], ok, err));
    }
    piece->in[i] = p->c.map[v];
    return FT_OK;
}

/* An operand without tokens beside tokens: axes of extent 1 that stood where the tokens' axes are go. */
static enum ft_status drop_ones(struct ft_packer *p, struct piece *piece, int i, struct ft_err *err)
{
    const struct ft_type *t = type_of(p, piece->node->in[i]);
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    a.shape_rank = piece->rest;
    for (int k = 0; k < piece->rest; k++) {
        a.shape[k] = t->dim[t->rank - piece->rest + k];
    }
    return ft_graph_add(p->c.to, FT_OP_RESHAPE, &a, &piece->in[i], 1, piece->node->origin, &piece->in[i],
                        err);
}

static enum ft_status each(struct ft_packer *p, struct piece *piece, bool *ok, struct ft_err *err)
{
    for (int i = 0; i < piece->node->n_in; i++) {
        const struct ft_type *t = type_of(p, piece->node->in[i]);
        int lead = ft_pack_lead(t);
        if (lead > 0 && t->rank - lead != piece->rest) {
            *ok = refuse(p, piece->node, "tokens stand beside another axis of operand %d", i);
            return FT_OK;
        }
        if (lead == FT_LEAD_ROWS || lead == FT_LEAD_OTHER) {
            *ok = refuse(p, piece->node, "operand %d has something for each item, not for each token", i);
            return FT_OK;
        }
        for (int k = 0; lead == FT_LEAD_FREE && k < t->rank - piece->rest; k++) {
            if (!ft_dim_is_one(t->dim[k])) {
                *ok = refuse(p, piece->node, "operand %d has numbers of its own for places", i);
                return FT_OK;
            }
        }
        if (lead == FT_LEAD_FREE && t->rank > piece->rest) {
            FT_RETURN_IF_FAILED(drop_ones(p, piece, i, err));
        }
    }
    return FT_OK;
}

static bool on_axis(struct ft_packer *p, struct piece *piece, int *axis)
{
    if (*axis < piece->lead) {
        return refuse(p, piece->node, "it works along the tokens");
    }
    *axis -= piece->lead - 1;
    for (int i = 0; i < piece->node->n_in; i++) {
        int lead = ft_pack_lead(type_of(p, piece->node->in[i]));
        bool joined = piece->node->op == FT_OP_CONCAT;
        if (lead != piece->lead && (lead != FT_LEAD_FREE || joined)) {
            return refuse(p, piece->node, "operand %d has no row for each token", i);
        }
    }
    return true;
}

static bool on_axes(struct ft_packer *p, struct piece *piece)
{
    bool ok = piece->attrs.axes_count > 0 || refuse(p, piece->node, "it works along all axes");
    for (int i = 0; ok && i < piece->attrs.axes_count; i++) {
        ok = on_axis(p, piece, &piece->attrs.axes[i]);
    }
    return ok;
}

static bool product(struct ft_packer *p, const struct piece *piece)
{
    const struct ft_type *b = type_of(p, piece->node->in[1]);
    const struct ft_type *a = type_of(p, piece->node->in[0]);
    bool ok = ft_pack_lead(a) == piece->lead && a->rank == piece->lead + 1 &&
              ft_pack_lead(b) == FT_LEAD_FREE && b->rank == 2 && piece->attrs.trans_a == 0;
    return ok || refuse(p, piece->node, "it is not a product of tokens with one matrix");
}

static bool reshaped(struct ft_packer *p, struct piece *piece)
{
    const struct ft_type *y = type_of(p, piece->node->out[0]);
    int lead = ft_pack_lead(y);
    if (ft_pack_lead(type_of(p, piece->node->in[0])) < 1 || lead < 1) {
        return refuse(p, piece->node, "it moves the tokens' axes");
    }
    struct ft_attrs *a = &piece->attrs;
    memset(a->shape, 0, sizeof a->shape);
    a->shape_rank = y->rank - lead + 1;
    a->shape[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
    for (int k = 1; k < a->shape_rank; k++) {
        a->shape[k] = y->dim[lead + k - 1];
    }
    return true;
}

static bool turned(struct ft_packer *p, struct piece *piece)
{
    int rank = type_of(p, piece->node->in[0])->rank;
    int perm[FT_MAX_RANK] = {0};
    for (int i = 0; i < rank; i++) {
        int from = piece->attrs.perm[i];
        if ((i < piece->lead) != (from < piece->lead) || (i < piece->lead && from != i)) {
            return refuse(p, piece->node, "it moves the tokens' axes");
        }
        if (i >= piece->lead) {
            perm[i - piece->lead + 1] = from - piece->lead + 1;
        }
    }
    memcpy(piece->attrs.perm, perm, sizeof perm);
    return true;
}

/* Which operand says where the sequences are. */
static int seq_operand(const struct ft_node *node)
{
    switch ((int)node->op) {
    case FT_OP_ATTENTION:
        return 3;
    case FT_OP_POSITIONS:
        return 0;
    default:
        return 1;
    }
}

static bool sequence(struct ft_packer *p, struct piece *piece)
{
    int seq = seq_operand(piece->node);
    if (seq < piece->node->n_in && piece->node->in[seq] != p->mask) {
        return refuse(p, piece->node, "it reads another mask than %s", FT_PACK_MASK);
    }
    for (int i = 0; i < piece->node->n_in; i++) {
        if (i == seq) {
            piece->in[i] = p->spans;
        } else if (ft_pack_lead(type_of(p, piece->node->in[i])) == FT_LEAD_FREE) {
            if (piece->node->op != FT_OP_ATTENTION || i != 4) {
                return refuse(p, piece->node, "operand %d has no row for each token", i);
            }
        } else if (ft_pack_lead(type_of(p, piece->node->in[i])) != 2) {
            return refuse(p, piece->node, "operand %d has no row for each token", i);
        }
    }
    return true;
}

/* ---- the first token, by whatever spelling */

static bool is_zero(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *t = ft_graph_type(g, v);
    const void *data = ft_graph_source(g, v) == FT_FROM_CONST ? ft_graph_data(g, v) : NULL;
    return data != NULL && t->dtype == FT_I64 && ft_elements(t) == 1 && *(const int64_t *)data == 0;
}

static bool takes_first(const struct ft_graph *g, const struct ft_node *node)
{
    const struct ft_type *x = node->n_in == 2 ? ft_graph_type(g, node->in[0]) : NULL;
    return node->op == FT_OP_GATHER && ft_pack_lead(x) == 2 && x->rank == 3 && node->attrs.axis == 1 &&
           is_zero(g, node->in[1]);
}

static enum ft_status add_first(struct ft_packer *p, const struct ft_node *node, struct ft_err *err)
{
    struct ft_attrs a;
    ft_value out = FT_NO_VALUE;
    const ft_value in[2] = {p->c.map[node->in[0]], p->spans};
    const struct ft_type *y = type_of(p, node->out[0]);
    memset(&a, 0, sizeof a);
    a.kind = FT_SEQ_FIRST;
    FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_SEQ_POOL, &a, in, 2, node->origin, &out, err));
    if (y->rank != 2) { /* (N, 1, C): the index was a list */
        memset(&a, 0, sizeof a);
        a.shape_rank = y->rank;
        memcpy(a.shape, y->dim, sizeof y->dim);
        FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_RESHAPE, &a, &out, 1, node->origin, &out, err));
    }
    p->c.map[node->out[0]] = out;
    return ft_copy_name(&p->c, node->out[0], out, err);
}

/* ---- nodes */

/* Does the node see tokens at all? Of one that does, `lead` is theirs. */
static bool sees_tokens(const struct ft_packer *p, const struct ft_node *node, int *lead)
{
    *lead = 0;
    bool seen = false;
    for (int i = 0; i < node->n_in + node->n_out; i++) {
        int one = ft_pack_lead(type_of(p, i < node->n_in ? node->in[i] : node->out[i - node->n_in]));
        seen = seen || one > 0 || one == FT_LEAD_OTHER;
        *lead = one > *lead ? one : *lead;
    }
    return seen;
}

static bool is_token_row(struct ft_packer *p, const struct ft_node *node)
{
    if (rule_of(node->op) == REFUSED || node->n_in > MAX_IN) {
        return refuse(p, node, "it may look from one token at another");
    }
    for (int i = 0; i < node->n_out; i++) {
        if (ft_pack_lead(type_of(p, node->out[i])) == FT_LEAD_OTHER) {
            char text[FT_TYPE_TEXT];
            return refuse(p, node, "its result %s has no row for each token",
                          ft_type_text(type_of(p, node->out[i]), text));
        }
    }
    return true;
}

static enum ft_status fit(struct ft_packer *p, struct piece *piece, bool *ok, struct ft_err *err)
{
    const struct ft_node *node = piece->node;
    for (int i = 0; *ok && i < node->n_in; i++) {
        if (rule_of(node->op) == SEQUENCE && i == seq_operand(node)) {
            continue;
        }
        FT_RETURN_IF_FAILED(map_operand(p, piece, i, ok, err));
    }
    if (!*ok) {
        return FT_OK;
    }
    switch (rule_of(node->op)) {
    case EACH:
        return each(p, piece, ok, err);
    case ON_AXIS:
        *ok = on_axis(p, piece, &piece->attrs.axis);
        break;
    case ON_AXES:
        *ok = on_axes(p, piece);
        break;
    case ON_LAST:
        *ok = type_of(p, node->in[0])->rank > piece->lead || refuse(p, node, "it works along the tokens");
        break;
    case LOOK_UP:
        *ok = (node->attrs.axis == 0 && ft_pack_lead(type_of(p, node->in[0])) == FT_LEAD_FREE) ||
              refuse(p, node, "it looks up tokens");
        break;
    case PRODUCT:
        *ok = product(p, piece);
        break;
    case RESHAPED:
        *ok = reshaped(p, piece);
        break;
    case TURNED:
        *ok = turned(p, piece);
        break;
    case SUMMED:
        break;
    case SEQUENCE:
        *ok = sequence(p, piece);
        break;
    case REFUSED:
        *ok = false;
        break;
    }
    return FT_OK;
}

/* What exporters spell out. */
static enum ft_status spelled(struct ft_packer *p, const struct ft_node *node, bool *done, struct ft_err *err)
{
    ft_value out = FT_NO_VALUE;
    if (takes_first(p->c.from, node) && p->c.map[node->in[0]] != FT_NO_VALUE) {
        *done = true;
        return add_first(p, node, err);
    }
    FT_RETURN_IF_FAILED(ft_pack_attention(p, node, &out, done, err));
    if (!*done) {
        FT_RETURN_IF_FAILED(ft_pack_mean(p, node, &out, done, err));
    }
    if (*done) {
        p->c.map[node->out[0]] = out;
        return ft_copy_name(&p->c, node->out[0], out, err);
    }
    return FT_OK;
}

/* Sums of token numbers from the start of each sequence. */
static enum ft_status add_sums(struct ft_packer *p, struct piece *piece, bool *ok, struct ft_err *err)
{
    const struct ft_node *node = piece->node;
    const struct ft_type *t = type_of(p, node->in[0]);
    ft_value in[3] = {p->spans, piece->in[0], piece->in[0]};
    if (piece->lead != 2 || t->rank != 2 || t->dtype != FT_I64 || node->attrs.axis != 1 ||
        node->attrs.kind != 0) {
        *ok = refuse(p, node, "it may look from one token at another");
        return FT_OK;
    }
    struct ft_attrs a;
    memset(&a, 0, sizeof a);
    FT_RETURN_IF_FAILED(ft_graph_add(p->c.to, FT_OP_POSITIONS, &a, in, 3, node->origin, in, err));
    p->c.map[node->out[0]] = in[0];
    return ft_copy_name(&p->c, node->out[0], in[0], err);
}

static enum ft_status pack_piece(struct ft_packer *p, const struct ft_node *node, int lead, bool *ok,
                                 struct ft_err *err)
{
    struct piece piece = {.node = node, .lead = lead, .attrs = node->attrs};
    ft_value out[FT_MAX_OUTPUTS];
    *ok = is_token_row(p, node);
    if (!*ok) {
        return FT_OK;
    }
    piece.rest = type_of(p, node->out[0])->rank - lead;
    FT_RETURN_IF_FAILED(fit(p, &piece, ok, err));
    if (!*ok) {
        return FT_OK;
    }
    if (rule_of(node->op) == SUMMED) {
        return add_sums(p, &piece, ok, err);
    }
    FT_RETURN_IF_FAILED(
        ft_graph_add(p->c.to, node->op, &piece.attrs, piece.in, node->n_in, node->origin, out, err));
    for (int i = 0; i < node->n_out; i++) {
        p->c.map[node->out[i]] = out[i];
        FT_RETURN_IF_FAILED(ft_copy_name(&p->c, node->out[i], out[i], err));
    }
    return FT_OK;
}

/* An operand that has no packed form, rather one that is not made of the mask: its reason is the better one.
 */
static ft_value missing(const struct ft_packer *p, const struct ft_node *node)
{
    ft_value found = FT_NO_VALUE;
    for (int i = 0; i < node->n_in; i++) {
        ft_value v = node->in[i];
        if (p->c.map[v] == FT_NO_VALUE && (found == FT_NO_VALUE || p->reasons[found] == of_mask)) {
            found = v;
        }
    }
    return found;
}

/* A node without a packed form is no failure yet: a mask is made of such nodes, and scores. */
static enum ft_status pack_node(struct ft_packer *p, int number, struct ft_err *err)
{
    const struct ft_node *node = ft_graph_node(p->c.from, number);
    bool done = false;
    int lead = 0;
    p->why[0] = '\0';
    FT_RETURN_IF_FAILED(spelled(p, node, &done, err));
    if (done) {
        return FT_OK;
    }
    if (sees_tokens(p, node, &lead)) {
        FT_RETURN_IF_FAILED(pack_piece(p, node, lead, &done, err));
    } else if (missing(p, node) == FT_NO_VALUE) {
        return ft_copy_node(&p->c, number, err);
    }
    if (done) {
        return FT_OK;
    }
    ft_value from = missing(p, node);
    const char *reason = from == FT_NO_VALUE ? NULL : p->reasons[from];
    if (reason == NULL) {
        FT_RETURN_IF_FAILED(ft_arena_text(&p->arena, p->why, strlen(p->why), &reason, err));
    }
    for (int i = 0; i < node->n_out; i++) {
        p->reasons[node->out[i]] = reason;
    }
    return FT_OK;
}

/* ---- sources and the whole */

static enum ft_status pack_input(struct ft_packer *p, ft_value v, struct ft_err *err)
{
    struct ft_type t = *type_of(p, v);
    if (v == p->mask) {
        p->reasons[v] = of_mask;
        return FT_OK;
    }
    if (ft_pack_lead(&t) == 2) {
        t.dim[0] = ft_dim_symbol(FT_SYMBOL_TOKENS);
        for (int i = 2; i < t.rank; i++) {
            t.dim[i - 1] = t.dim[i];
        }
        t.rank--;
        memset(&t.dim[t.rank], 0, sizeof t.dim[0]);
        return ft_graph_input(p->c.to, ft_graph_name(p->c.from, v), &t, &p->c.map[v], err);
    }
    if (ft_pack_lead(&t) == FT_LEAD_FREE) { /* random numbers */
        return ft_copy_source(&p->c, v, err);
    }
    char text[FT_TYPE_TEXT];
    char reason[FT_ERR_TEXT];
    (void)snprintf(reason, sizeof reason, "input \"%.100s\" is %s, not a row for each token",
                   ft_graph_name(p->c.from, v), ft_type_text(&t, text));
    return ft_arena_text(&p->arena, reason, strlen(reason), &p->reasons[v], err);
}

static bool is_token_input(const struct ft_packer *p, ft_value v)
{
    const struct ft_type *t = v == FT_NO_VALUE ? NULL : type_of(p, v);
    return t != NULL && ft_graph_source(p->c.from, v) == FT_FROM_INPUT && t->dtype == FT_I64 &&
           t->rank == 2 && ft_pack_lead(t) == 2;
}

/* The mask and, beside it, an input of token numbers. */
static bool find_inputs(struct ft_packer *p)
{
    p->mask = ft_graph_find(p->c.from, FT_PACK_MASK);
    for (int i = 0; is_token_input(p, p->mask) && i < ft_graph_inputs(p->c.from); i++) {
        ft_value v = ft_graph_input_at(p->c.from, i);
        if (v != p->mask && is_token_input(p, v)) {
            p->ids = v;
            return true;
        }
    }
    (void)snprintf(p->why, FT_ERR_TEXT, "no inputs of token numbers and \"%s\", (N, S) both", FT_PACK_MASK);
    return false;
}

static enum ft_status add_spans(struct ft_packer *p, struct ft_err *err)
{
    struct ft_type t;
    memset(&t, 0, sizeof t);
    t.dtype = FT_I64;
    t.rank = 2;
    t.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    t.dim[1] = ft_dim_of(2);
    return ft_graph_input(p->c.to, FT_PACK_SPANS, &t, &p->spans, err);
}

/* Values stand in the order in which they were made: operands before nodes, parameters in their order. */
static enum ft_status pack_values(struct ft_packer *p, struct ft_err *err)
{
    for (ft_value v = 0; v < ft_graph_values(p->c.from); v++) {
        switch (ft_graph_source(p->c.from, v)) {
        case FT_FROM_INPUT:
            FT_RETURN_IF_FAILED(pack_input(p, v, err));
            break;
        case FT_FROM_PARAM:
        case FT_FROM_CONST:
            FT_RETURN_IF_FAILED(ft_copy_source(&p->c, v, err));
            break;
        case FT_FROM_NODE:
            if (p->needed[v] && p->c.map[v] == FT_NO_VALUE) {
                FT_RETURN_IF_FAILED(pack_node(p, ft_graph_producer(p->c.from, v), err));
            }
            break;
        }
    }
    return FT_OK;
}

/* The first output without a packed form says why. */
static bool all_packed(struct ft_packer *p)
{
    for (int i = 0; i < ft_graph_outputs(p->c.from); i++) {
        ft_value v = ft_graph_output_at(p->c.from, i);
        if (p->c.map[v] == FT_NO_VALUE) {
            (void)snprintf(p->why, FT_ERR_TEXT, "%s", p->reasons[v]);
            return false;
        }
    }
    p->why[0] = '\0';
    return true;
}

static enum ft_status open_packer(struct ft_packer *p, const struct ft_graph *graph, struct ft_graph *to,
                                  struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_copier_init(&p->c, graph, to, err));
    FT_RETURN_IF_FAILED(ft_new(graph->n_values, sizeof *p->needed, &p->needed, err));
    FT_RETURN_IF_FAILED(ft_new(graph->n_values, sizeof *p->verdicts, &p->verdicts, err));
    FT_RETURN_IF_FAILED(ft_new(graph->n_values, sizeof *p->numbers, &p->numbers, err));
    FT_RETURN_IF_FAILED(ft_new(graph->n_values, sizeof *p->reasons, &p->reasons, err));
    FT_RETURN_IF_FAILED(ft_new(graph->n_values, sizeof *p->bias, &p->bias, err));
    for (size_t i = 0; i < graph->n_values; i++) {
        p->bias[i] = FT_NO_VALUE;
    }
    for (size_t i = 0; i < graph->n_outputs; i++) {
        p->needed[graph->outputs[i].value] = true;
    }
    ft_mark_needed(graph, p->needed);
    return FT_OK;
}

enum ft_status ft_graph_pack(const struct ft_graph *graph, struct ft_graph **packed, char why[FT_ERR_TEXT],
                             struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *to = NULL;
    struct ft_packer p = {.mask = FT_NO_VALUE, .ids = FT_NO_VALUE, .spans = FT_NO_VALUE, .why = why};
    *packed = NULL;
    why[0] = '\0';
    FT_TRY(ft_graph_new(&to, err));
    FT_TRY(open_packer(&p, graph, to, err));
    if (!find_inputs(&p)) {
        goto done;
    }
    FT_TRY(add_spans(&p, err));
    FT_TRY(pack_values(&p, err));
    if (all_packed(&p)) {
        FT_TRY(ft_copy_outputs(&p.c, err));
        *packed = to;
        to = NULL;
    }
done:
    ft_free(p.needed);
    ft_free(p.verdicts);
    ft_free(p.numbers);
    ft_free(p.bias);
    ft_free((void *)p.reasons);
    ft_arena_release(&p.arena);
    ft_copier_release(&p.c);
    ft_graph_free(to);
    return st;
}
