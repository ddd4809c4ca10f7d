#include "executor/model/text_pool.h"

#include <math.h>
#include <string.h>

bool ft_graph_reads_texts(const struct ft_graph *g)
{
    ft_value v = ft_graph_find(g, "input_ids");
    return v != FT_NO_VALUE && ft_graph_source(g, v) == FT_FROM_INPUT && ft_graph_type(g, v)->dtype == FT_I64;
}

static bool is_tokens(const struct ft_type *t)
{
    return t->rank >= 2 && ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_BATCH)) &&
           ft_dim_equal(t->dim[1], ft_dim_symbol(FT_SYMBOL_LENGTH));
}

bool ft_is_token_map(const struct ft_type *t)
{
    return t->rank == 3 && is_tokens(t) && ft_dim_is_known(t->dim[2]);
}

ft_value ft_token_map(const struct ft_graph *g, ft_value v, bool *normalized)
{
    *normalized = false;
    while (!ft_is_token_map(ft_graph_type(g, v))) {
        int n = ft_graph_producer(g, v);
        const struct ft_node *node = n >= 0 ? ft_graph_node(g, n) : NULL;
        if (node == NULL || (node->op != FT_OP_SEQ_POOL && node->op != FT_OP_L2_NORMALIZE)) {
            return FT_NO_VALUE;
        }
        *normalized = *normalized || node->op == FT_OP_L2_NORMALIZE;
        v = node->in[0];
    }
    return v;
}

/* The mask; a model that looks at each token alone has not read it so far. */
static enum ft_status find_mask(struct ft_graph *g, ft_value *mask, struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    *mask = ft_graph_find(g, "attention_mask");
    if (*mask == FT_NO_VALUE) {
        struct ft_type type = *ft_graph_type(g, ft_graph_find(g, "input_ids"));
        return ft_graph_input(g, "attention_mask", &type, mask, err);
    }
    const struct ft_type *t = ft_graph_type(g, *mask);
    return t->dtype == FT_I64 && t->rank == 2 && is_tokens(t)
               ? FT_OK
               : FT_FAIL(err, UNSUPPORTED, "attention_mask is %s, wanted int64 (N, S)",
                         ft_type_text(t, text));
}

static enum ft_status pool(struct ft_graph *g, enum ft_seq_pool kind, ft_value mask, ft_value *v,
                           struct ft_err *err)
{
    struct ft_attrs attrs;
    const ft_value in[2] = {*v, mask};
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = (int)kind;
    return ft_graph_add(g, FT_OP_SEQ_POOL, &attrs, in, 2, "pool", v, err);
}

/* mean(max(x, eps)^p)^(1/p); p is a number here, as it is in Finetuner's (finetuner/SPEC A.3). */
static enum ft_status pool_gem(struct ft_graph *g, const struct ft_tailor_options *o, ft_value mask,
                               ft_value *v, struct ft_err *err)
{
    struct ft_attrs clip;
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    const float p = o->gem_p > 0.0F ? o->gem_p : 3.0F;
    const float inverse = 1.0F / p;
    ft_value pair[2] = {FT_NO_VALUE, FT_NO_VALUE};
    memset(&clip, 0, sizeof clip);
    clip.lo = o->gem_eps > 0.0F ? o->gem_eps : 1e-6F;
    clip.hi = INFINITY;
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_CLIP, &clip, v, 1, "gem/clip", &pair[0], err));
    FT_RETURN_IF_FAILED(ft_graph_const(g, "", &scalar, &p, &pair[1], err));
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_POW, NULL, pair, 2, "gem/pow", &pair[0], err));
    FT_RETURN_IF_FAILED(pool(g, FT_SEQ_MEAN, mask, &pair[0], err));
    FT_RETURN_IF_FAILED(ft_graph_const(g, "", &scalar, &inverse, &pair[1], err));
    return ft_graph_add(g, FT_OP_POW, NULL, pair, 2, "gem/root", v, err);
}

enum ft_status ft_add_text_pooling(struct ft_graph *g, const struct ft_tailor_options *o, ft_value *v,
                                   struct ft_err *err)
{
    ft_value mask = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(find_mask(g, &mask, err));
    switch (o->pooler) {
    case FT_POOLER_DEFAULT:
    case FT_POOLER_AVG:
        return pool(g, FT_SEQ_MEAN, mask, v, err);
    case FT_POOLER_MAX:
        return pool(g, FT_SEQ_MAX, mask, v, err);
    case FT_POOLER_CLS:
        return pool(g, FT_SEQ_FIRST, mask, v, err);
    case FT_POOLER_LAST:
        return pool(g, FT_SEQ_LAST, mask, v, err);
    case FT_POOLER_WEIGHTED_MEAN:
        return pool(g, FT_SEQ_WEIGHTED_MEAN, mask, v, err);
    case FT_POOLER_GEM:
        return pool_gem(g, o, mask, v, err);
    }
    return FT_FAIL(err, INTERNAL, "pooler %d has no graph", (int)o->pooler);
}
