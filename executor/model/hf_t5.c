#include <string.h>

#include "executor/model/hf_internal.h"

/* T5's encoder: RMSNorm in front of each half of a block, no places but a bias of distances that block 0
 * holds, scores without a scale, no biases. */
struct build {
    struct ft_hf *hf;
    struct ft_hf_sizes sizes;
    int64_t head; /* d_kv: heads may be wider or narrower than d_model / heads */
    bool gated;
    double drop;
    ft_value bias;
};

static enum ft_status attention(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    int64_t inner = b->head * b->sizes.heads;
    struct ft_hf_attention a = {.bias = b->bias, .heads = b->sizes.heads, .scale = 1.0, .dropout = b->drop};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_rms_norm(hf, "layer.0.layer_norm", *x, b->sizes.eps, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "layer.0.SelfAttention.q", y, inner, false, &a.q, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "layer.0.SelfAttention.k", y, inner, false, &a.k, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "layer.0.SelfAttention.v", y, inner, false, &a.v, err));
    FT_RETURN_IF_FAILED(ft_hf_attend(hf, "layer.0.SelfAttention", &a, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "layer.0.SelfAttention.o", y, b->sizes.hidden, false, &y, err));
    ft_graph_mark_dropout(hf->graph, y, b->drop);
    return ft_hf_add(hf, "layer.0.SelfAttention.o", *x, y, x, err);
}

static enum ft_status feed_forward(struct build *b, ft_value *x, struct ft_err *err)
{
    static const char *const names[2][2] = {
        {"layer.1.DenseReluDense.wi", NULL},
        {"layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"},
    };
    struct ft_hf *hf = b->hf;
    ft_value in = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    ft_value gate = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_rms_norm(hf, "layer.1.layer_norm", *x, b->sizes.eps, &in, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, names[b->gated][0], in, b->sizes.inner, false, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_activate(hf, "feed_forward_proj", b->sizes.act, y, &y, err));
    if (b->gated) {
        FT_RETURN_IF_FAILED(ft_hf_linear(hf, names[1][1], in, b->sizes.inner, false, &gate, err));
        FT_RETURN_IF_FAILED(ft_hf_multiply(hf, names[1][1], y, gate, &y, err));
    }
    ft_graph_mark_dropout(hf->graph, y, b->drop);
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "layer.1.DenseReluDense.wo", y, b->sizes.hidden, false, &y, err));
    ft_graph_mark_dropout(hf->graph, y, b->drop);
    return ft_hf_add(hf, "layer.1.DenseReluDense.wo", *x, y, x, err);
}

/* "relu", "gated-silu", and "gated-gelu", which has always meant the approximation by tanh. */
static enum ft_status read_projection(struct build *b, struct ft_err *err)
{
    const char *text = NULL;
    FT_RETURN_IF_FAILED(ft_hf_text(b->hf, "feed_forward_proj", "relu", &text, err));
    b->gated = strncmp(text, "gated-", strlen("gated-")) == 0;
    b->sizes.act = b->gated ? text + strlen("gated-") : text;
    if (strcmp(text, "gated-gelu") == 0) {
        b->sizes.act = "gelu_new";
    }
    return FT_OK;
}

static enum ft_status read_config(struct build *b, struct ft_hf_buckets *t, struct ft_err *err)
{
    static const struct ft_hf_keys keys = {.vocab = "vocab_size",
                                           .hidden = "d_model",
                                           .layers = "num_layers",
                                           .heads = "num_heads",
                                           .inner = "d_ff",
                                           .eps = "layer_norm_epsilon",
                                           .any_heads = true};
    static const int64_t heads[2] = {1, 1 << 12};
    static const int64_t buckets[2] = {4, 4096}; /* fewer have no exact half */
    static const int64_t distances[2] = {2, 1 << 20};
    struct ft_hf *hf = b->hf;
    b->sizes = (struct ft_hf_sizes){32128, 512, 6, 8, 2048, 0, 0, 1e-6, NULL};
    FT_RETURN_IF_FAILED(ft_hf_read_sizes(hf, &keys, &b->sizes, err));
    FT_RETURN_IF_FAILED(ft_hf_int(hf, "d_kv", 64, heads, &b->head, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, "dropout_rate", 0.1, &b->drop, err));
    FT_RETURN_IF_FAILED(ft_hf_int(hf, "relative_attention_num_buckets", 32, buckets, &t->buckets, err));
    FT_RETURN_IF_FAILED(
        ft_hf_int(hf, "relative_attention_max_distance", 128, distances, &t->max_distance, err));
    if (t->max_distance <= t->buckets / 4) {
        return FT_FAIL(err, INVALID,
                       "%s: relative_attention_max_distance must be above relative_attention_num_buckets / 4",
                       hf->config_path);
    }
    t->table_rows = t->buckets;
    t->heads = b->sizes.heads;
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "is_decoder", "false", err));
    return read_projection(b, err);
}

/* "shared.weight", or in some files only under the encoder's name. */
static enum ft_status embed(struct build *b, ft_value *x, struct ft_err *err)
{
    const int64_t words[2] = {b->sizes.vocab, b->sizes.hidden};
    bool shared = ft_hf_has(b->hf, "shared.weight") || !ft_hf_has(b->hf, "encoder.embed_tokens.weight");
    return ft_hf_embed(b->hf, shared ? "shared" : "encoder.embed_tokens", b->hf->ids, words, x, err);
}

enum ft_status ft_hf_build_t5(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err)
{
    struct build b = {.hf = hf, .bias = FT_NO_VALUE};
    struct ft_hf_buckets t = {0};
    (void)arg;
    FT_RETURN_IF_FAILED(read_config(&b, &t, err));
    FT_RETURN_IF_FAILED(ft_hf_inputs(hf, false, err));
    FT_RETURN_IF_FAILED(embed(&b, out, err));
    ft_graph_mark_dropout(hf->graph, *out, b.drop);
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "encoder.block.0"));
    FT_RETURN_IF_FAILED(
        ft_hf_relative(hf, "layer.0.SelfAttention.relative_attention_bias", &t, &b.bias, err));
    for (int i = 0; i < (int)b.sizes.layers; i++) {
        FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "encoder.block.%d", i));
        FT_RETURN_IF_FAILED(attention(&b, out, err));
        FT_RETURN_IF_FAILED(feed_forward(&b, out, err));
    }
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "encoder"));
    FT_RETURN_IF_FAILED(ft_hf_rms_norm(hf, "final_layer_norm", *out, b.sizes.eps, out, err));
    ft_graph_mark_dropout(hf->graph, *out, b.drop);
    return FT_OK;
}
