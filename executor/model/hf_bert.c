#include <math.h>
#include <string.h>

#include "executor/model/hf_internal.h"

/*
 * BERT and what has its block under other names: embeddings of words, places and types, LayerNorm, then
 * layers of attention and feed-forward, each added to its input and normalised. One row a family.
 */
struct family {
    struct ft_hf_keys keys;
    struct ft_hf_sizes sizes; /* transformers' defaults */
    const char *scope;        /* of layer i */
    struct {
        const char *q, *k, *v, *o, *norm, *in, *out, *out_norm;
    } block;
    int64_t places;      /* places are counted from here, tokens only; 0: from the start, all of them */
    const char *pad;     /* the key that places comes from; NULL: fixed */
    bool relative;       /* MPNet's bias of distances, shared by the layers */
    const char *narrow;  /* embeddings may be narrower: the module that widens them */
    bool always_widened; /* also where they are not */
    struct {
        const char *hidden, *attention;
        double share;               /* of both, where the config does not say */
        bool attended, transformed; /* what attention and the feed-forward add is not dropped */
    } drop;
};

#define BERT_KEYS                                                                                            \
    {                                                                                                        \
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",        \
            "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", false              \
    }
#define BERT_BLOCK                                                                                           \
    {                                                                                                        \
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",      \
            "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"           \
    }
#define BERT_DROP "hidden_dropout_prob", "attention_probs_dropout_prob"

static const struct family families[] = {
    [FT_HF_BERT] = {.keys = BERT_KEYS,
                    .sizes = {30522, 768, 12, 12, 3072, 512, 2, 1e-12, "gelu"},
                    .scope = "encoder.layer",
                    .block = BERT_BLOCK,
                    .drop = {BERT_DROP, 0.1, false, false}},
    [FT_HF_ROBERTA] = {.keys = BERT_KEYS,
                       .sizes = {50265, 768, 12, 12, 3072, 512, 2, 1e-12, "gelu"},
                       .scope = "encoder.layer",
                       .block = BERT_BLOCK,
                       .places = 1,
                       .pad = "pad_token_id",
                       .drop = {BERT_DROP, 0.1, false, false}},
    [FT_HF_ELECTRA] = {.keys = BERT_KEYS,
                       .sizes = {30522, 256, 12, 4, 1024, 512, 2, 1e-12, "gelu"},
                       .scope = "encoder.layer",
                       .block = BERT_BLOCK,
                       .narrow = "embeddings_project",
                       .drop = {BERT_DROP, 0.1, false, false}},
    [FT_HF_DISTILBERT] = {.keys = {"vocab_size", "dim", "n_layers", "n_heads", "hidden_dim",
                                   "max_position_embeddings", NULL, NULL, "activation", false},
                          .sizes = {30522, 768, 6, 12, 3072, 512, 0, 1e-12, "gelu"},
                          .scope = "transformer.layer",
                          .block = {"attention.q_lin", "attention.k_lin", "attention.v_lin",
                                    "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2",
                                    "output_layer_norm"},
                          .drop = {"dropout", "attention_dropout", 0.1, true, false}},
    [FT_HF_MPNET] = {.keys = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                              "intermediate_size", "max_position_embeddings", NULL, "layer_norm_eps",
                              "hidden_act", false},
                     .sizes = {30527, 768, 12, 12, 3072, 512, 0, 1e-12, "gelu"},
                     .scope = "encoder.layer",
                     .block = {"attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
                               "attention.LayerNorm", "intermediate.dense", "output.dense",
                               "output.LayerNorm"},
                     .places = 1, /* whatever its config says of padding */
                     .relative = true,
                     .drop = {BERT_DROP, 0.1, false, false}},
    [FT_HF_ALBERT] = {.keys = BERT_KEYS,
                      .sizes = {30000, 4096, 12, 64, 16384, 512, 2, 1e-12, "gelu_new"},
                      .scope = "encoder.albert_layer_groups.%d.albert_layers.%d",
                      .block = {"attention.query", "attention.key", "attention.value", "attention.dense",
                                "attention.LayerNorm", "ffn", "ffn_output", "full_layer_layer_norm"},
                      .narrow = "encoder.embedding_hidden_mapping_in",
                      .always_widened = true,
                      .drop = {BERT_DROP, 0.0, false, true}},
};

struct build {
    struct ft_hf *hf;
    const struct family *family;
    struct ft_hf_sizes sizes;
    int64_t embedding;            /* width of the embeddings */
    int64_t first;                /* place of the first token */
    int64_t groups, inner_groups; /* ALBERT: of layers that share weights, of layers in one */
    double drop, drop_weights;
    ft_value bias;
};

/* ---- embeddings */

static enum ft_status integer(struct ft_hf *hf, int64_t value, ft_value *out, struct ft_err *err)
{
    const int64_t one = 1;
    struct ft_type type = ft_type_of(FT_I64, 1, &one);
    return ft_graph_const(hf->graph, "", &type, &value, out, err);
}

/* RoBERTa's: tokens that are not padding are counted from pad + 1; padding stays at pad. */
static enum ft_status counted_places(struct build *b, ft_value *out, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    struct ft_attrs a;
    ft_value pad = FT_NO_VALUE;
    ft_value token = FT_NO_VALUE;
    ft_value count = FT_NO_VALUE;
    memset(&a, 0, sizeof a);
    FT_RETURN_IF_FAILED(integer(hf, b->first - 1, &pad, err));
    const ft_value compared[2] = {hf->ids, pad};
    a.kind = FT_EQUAL;
    FT_RETURN_IF_FAILED(
        ft_hf_node(hf, (struct ft_hf_op){FT_OP_COMPARE, &a, "places"}, compared, 2, &token, err));
    a.kind = FT_LOGIC_NOT;
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_LOGIC, &a, "places"}, &token, 1, &token, err));
    a.kind = FT_CAST_I64;
    FT_RETURN_IF_FAILED(ft_hf_node(hf, (struct ft_hf_op){FT_OP_CAST, &a, "places"}, &token, 1, &token, err));
    const ft_value counted[3] = {hf->mask, hf->ids, token};
    FT_RETURN_IF_FAILED(
        ft_hf_node(hf, (struct ft_hf_op){FT_OP_POSITIONS, NULL, "places"}, counted, 3, &count, err));
    FT_RETURN_IF_FAILED(ft_hf_multiply(hf, "places", count, token, &count, err));
    return ft_hf_add(hf, "places", count, pad, out, err);
}

static enum ft_status places(struct build *b, ft_value *out, struct ft_err *err)
{
    const ft_value in[2] = {b->hf->mask, b->hf->ids};
    if (b->first > 0) {
        return counted_places(b, out, err);
    }
    return ft_hf_node(b->hf, (struct ft_hf_op){FT_OP_POSITIONS, NULL, "places"}, in, 2, out, err);
}

/* A model with one type of token adds the one row. */
static enum ft_status add_types(struct build *b, ft_value *x, struct ft_err *err)
{
    static const char module[] = "token_type_embeddings";
    const int64_t shape[2] = {b->sizes.types, b->embedding};
    ft_value row = FT_NO_VALUE;
    if (b->sizes.types == 0) {
        return FT_OK;
    }
    if (b->sizes.types == 1) {
        FT_RETURN_IF_FAILED(ft_hf_weight(b->hf, "token_type_embeddings.weight", 2, shape, &row, err));
    } else {
        FT_RETURN_IF_FAILED(ft_hf_embed(b->hf, module, b->hf->types, shape, &row, err));
    }
    return ft_hf_add(b->hf, module, *x, row, x, err);
}

static enum ft_status embeddings(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    const int64_t words[2] = {b->sizes.vocab, b->embedding};
    const int64_t rows[2] = {b->sizes.positions, b->embedding};
    ft_value place = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "embeddings"));
    FT_RETURN_IF_FAILED(ft_hf_embed(hf, "word_embeddings", hf->ids, words, x, err));
    FT_RETURN_IF_FAILED(add_types(b, x, err));
    FT_RETURN_IF_FAILED(places(b, &place, err));
    FT_RETURN_IF_FAILED(ft_hf_embed(hf, "position_embeddings", place, rows, &place, err));
    FT_RETURN_IF_FAILED(ft_hf_add(hf, "position_embeddings", *x, place, x, err));
    FT_RETURN_IF_FAILED(ft_hf_norm(hf, "LayerNorm", *x, b->sizes.eps, true, x, err));
    ft_graph_mark_dropout(hf->graph, *x, b->drop);
    if (b->family->narrow == NULL || (b->embedding == b->sizes.hidden && !b->family->always_widened)) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "%s", ""));
    return ft_hf_linear(hf, b->family->narrow, *x, b->sizes.hidden, true, x, err);
}

/* ---- layers */

static enum ft_status attention(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    int64_t width = b->sizes.hidden;
    struct ft_hf_attention a = {.bias = b->bias,
                                .heads = b->sizes.heads,
                                .scale = 1.0 / sqrt((double)width / (double)b->sizes.heads),
                                .dropout = b->drop_weights};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.q, *x, width, true, &a.q, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.k, *x, width, true, &a.k, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.v, *x, width, true, &a.v, err));
    FT_RETURN_IF_FAILED(ft_hf_attend(hf, "attention", &a, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.o, y, width, true, &y, err));
    if (!b->family->drop.attended) {
        ft_graph_mark_dropout(hf->graph, y, b->drop);
    }
    FT_RETURN_IF_FAILED(ft_hf_add(hf, b->family->block.o, y, *x, &y, err));
    return ft_hf_norm(hf, b->family->block.norm, y, b->sizes.eps, true, x, err);
}

static enum ft_status feed_forward(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.in, *x, b->sizes.inner, true, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_activate(hf, b->family->keys.act, b->sizes.act, y, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, b->family->block.out, y, b->sizes.hidden, true, &y, err));
    if (!b->family->drop.transformed) {
        ft_graph_mark_dropout(hf->graph, y, b->drop);
    }
    FT_RETURN_IF_FAILED(ft_hf_add(hf, b->family->block.out, y, *x, &y, err));
    return ft_hf_norm(hf, b->family->block.out_norm, y, b->sizes.eps, true, x, err);
}

static enum ft_status layer(struct build *b, int i, int inner, ft_value *x, struct ft_err *err)
{
    if (b->groups > 0) {
        /* as transformers finds the group: int(i / (layers / groups)) */
        int group = (int)((double)i / ((double)b->sizes.layers / (double)b->groups));
        FT_RETURN_IF_FAILED(
            ft_hf_enter(b->hf, err, "encoder.albert_layer_groups.%d.albert_layers.%d", group, inner));
    } else {
        FT_RETURN_IF_FAILED(ft_hf_enter(b->hf, err, "%s.%d", b->family->scope, i));
    }
    FT_RETURN_IF_FAILED(attention(b, x, err));
    return feed_forward(b, x, err);
}

/* ---- config */

static enum ft_status read_config(struct build *b, struct ft_err *err)
{
    static const int64_t widths[2] = {1, 1 << 17};
    static const int64_t groups[2] = {1, 1024};
    const int64_t pads[2] = {0, b->sizes.vocab - 1};
    struct ft_hf *hf = b->hf;
    const struct family *f = b->family;
    FT_RETURN_IF_FAILED(ft_hf_read_sizes(hf, &f->keys, &b->sizes, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, f->drop.hidden, f->drop.share, &b->drop, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, f->drop.attention, f->drop.share, &b->drop_weights, err));
    b->embedding = b->sizes.hidden;
    b->first = f->places > 0 ? f->places + 1 : 0;
    if (f->narrow != NULL) {
        FT_RETURN_IF_FAILED(ft_hf_int(hf, "embedding_size", 128, widths, &b->embedding, err));
    }
    if (f->pad != NULL) {
        FT_RETURN_IF_FAILED(ft_hf_int(hf, f->pad, f->places, pads, &b->first, err));
        b->first++;
    }
    if (b->first >= b->sizes.positions) {
        return FT_FAIL(err, INVALID, "%s: %s leaves no place for a token", hf->config_path,
                       f->keys.positions);
    }
    hf->max_length = b->sizes.positions - b->first;
    if (f->always_widened) {
        FT_RETURN_IF_FAILED(ft_hf_int(hf, "num_hidden_groups", 1, groups, &b->groups, err));
        FT_RETURN_IF_FAILED(ft_hf_int(hf, "inner_group_num", 1, groups, &b->inner_groups, err));
        if (b->sizes.layers * b->inner_groups > groups[1]) {
            return FT_FAIL(
                err, LIMIT, "%s: num_hidden_layers times inner_group_num is %lld; %lld are the limit",
                hf->config_path, (long long)(b->sizes.layers * b->inner_groups), (long long)groups[1]);
        }
    }
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "position_embedding_type", "\"absolute\"", err));
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "is_decoder", "false", err));
    return ft_hf_only(hf, "add_cross_attention", "false", err);
}

/* Buckets are always 32 up to distance 128 (compute_position_bias), whatever the table has. */
static enum ft_status relative(struct build *b, struct ft_err *err)
{
    static const int64_t range[2] = {32, 4096};
    struct ft_hf_buckets t = {.buckets = 32, .max_distance = 128, .heads = b->sizes.heads};
    FT_RETURN_IF_FAILED(ft_hf_int(b->hf, "relative_attention_num_buckets", 32, range, &t.table_rows, err));
    FT_RETURN_IF_FAILED(ft_hf_enter(b->hf, err, "encoder"));
    return ft_hf_relative(b->hf, "relative_attention_bias", &t, &b->bias, err);
}

enum ft_status ft_hf_build_bert(struct ft_hf *hf, int kind, ft_value *out, struct ft_err *err)
{
    struct build b = {.hf = hf,
                      .family = &families[kind],
                      .sizes = families[kind].sizes,
                      .bias = FT_NO_VALUE,
                      .inner_groups = 1};
    FT_RETURN_IF_FAILED(read_config(&b, err));
    FT_RETURN_IF_FAILED(ft_hf_inputs(hf, b.sizes.types > 1, err));
    FT_RETURN_IF_FAILED(embeddings(&b, out, err));
    if (b.family->relative) {
        FT_RETURN_IF_FAILED(relative(&b, err));
    }
    for (int i = 0; i < (int)b.sizes.layers; i++) {
        for (int k = 0; k < (int)b.inner_groups; k++) {
            FT_RETURN_IF_FAILED(layer(&b, i, k, out, err));
        }
    }
    return FT_OK;
}
