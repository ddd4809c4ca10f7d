#include <math.h>
#include <string.h>

#include "executor/model/hf_internal.h"

/* ModernBERT: LayerNorm in front of each half of a block, rotary places, every third layer global and the
 * others within a window, GeGLU, mostly without biases. */
struct build {
    struct ft_hf *hf;
    struct ft_hf_sizes sizes;
    int64_t window; /* of local layers: keys at most so far away */
    int64_t every;  /* a global layer every so many, where layer_types does not say */
    const struct ft_json *layer_types;
    double theta[2]; /* global, local */
    bool norm_bias, attention_bias, mlp_bias;
    double drop_embedding, drop_attention, drop_mlp;
};

static enum ft_status attention(struct build *b, bool local, ft_value x, ft_value *out, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    int64_t width = b->sizes.hidden;
    int64_t head = width / b->sizes.heads;
    struct ft_hf_attention a = {.bias = FT_NO_VALUE,
                                .heads = b->sizes.heads,
                                .scale = 1.0 / sqrt((double)head),
                                .dropout = b->drop_attention,
                                .window = local ? b->window : 0};
    ft_value all = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "attn.Wqkv", x, 3 * width, b->attention_bias, &all, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.q", all, 0, width, &a.q, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.k", all, width, width, &a.k, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.v", all, 2 * width, width, &a.v, err));
    FT_RETURN_IF_FAILED(ft_hf_rotate(hf, "attn.q", b->sizes.heads, head, b->theta[local], &a.q, err));
    FT_RETURN_IF_FAILED(ft_hf_rotate(hf, "attn.k", b->sizes.heads, head, b->theta[local], &a.k, err));
    FT_RETURN_IF_FAILED(ft_hf_attend(hf, "attn", &a, &all, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "attn.Wo", all, width, b->attention_bias, out, err));
    ft_graph_mark_dropout(hf->graph, *out, b->drop_attention);
    return FT_OK;
}

/* act(first half) * second half */
static enum ft_status feed_forward(struct build *b, ft_value x, ft_value *out, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    int64_t inner = b->sizes.inner;
    ft_value both = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    ft_value gate = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "mlp.Wi", x, 2 * inner, b->mlp_bias, &both, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "mlp.input", both, 0, inner, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "mlp.gate", both, inner, inner, &gate, err));
    FT_RETURN_IF_FAILED(ft_hf_activate(hf, "hidden_activation", b->sizes.act, y, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_multiply(hf, "mlp.gate", y, gate, &y, err));
    ft_graph_mark_dropout(hf->graph, y, b->drop_mlp);
    return ft_hf_linear(hf, "mlp.Wo", y, b->sizes.hidden, b->mlp_bias, out, err);
}

static enum ft_status layer(struct build *b, int i, bool local, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    ft_value y = *x;
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "layers.%d", i));
    if (i > 0) { /* the first layer reads what the embeddings' norm made */
        FT_RETURN_IF_FAILED(ft_hf_norm(hf, "attn_norm", *x, b->sizes.eps, b->norm_bias, &y, err));
    }
    FT_RETURN_IF_FAILED(attention(b, local, y, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_add(hf, "attn.Wo", *x, y, x, err));
    FT_RETURN_IF_FAILED(ft_hf_norm(hf, "mlp_norm", *x, b->sizes.eps, b->norm_bias, &y, err));
    FT_RETURN_IF_FAILED(feed_forward(b, y, &y, err));
    return ft_hf_add(hf, "mlp.Wo", *x, y, x, err);
}

/* ---- config */

static enum ft_status is_local(const struct build *b, int i, bool *local, struct ft_err *err)
{
    const char *type = ft_json_text(ft_json_at(b->layer_types, (size_t)i), NULL);
    if (b->layer_types == NULL) {
        *local = i % b->every != 0;
        return FT_OK;
    }
    *local = type != NULL && strcmp(type, "sliding_attention") == 0;
    if (!*local && (type == NULL || strcmp(type, "full_attention") != 0)) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s: layer_types[%d] is \"%.40s\"; full_attention and "
                       "sliding_attention are built",
                       b->hf->config_path, i, type != NULL ? type : "");
    }
    return FT_OK;
}

/* rope_parameters.<kind>.rope_theta, or the older key. */
static enum ft_status read_theta(struct build *b, const char *kind, const char *old, double *theta,
                                 struct ft_err *err)
{
    const struct ft_json *rope = ft_json_get(ft_json_get(b->hf->config, "rope_parameters"), kind);
    struct ft_hf of_rope = *b->hf;
    of_rope.config = rope;
    FT_RETURN_IF_FAILED(ft_hf_positive(b->hf, old, *theta, 1e12, theta, err));
    if (rope == NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_hf_only(&of_rope, "rope_type", "\"default\"", err));
    return ft_hf_positive(&of_rope, "rope_theta", *theta, 1e12, theta, err);
}

static enum ft_status read_layer_types(struct build *b, struct ft_err *err)
{
    static const int64_t every[2] = {1, 1024};
    const struct ft_json *types = ft_json_get(b->hf->config, "layer_types");
    FT_RETURN_IF_FAILED(ft_hf_int(b->hf, "global_attn_every_n_layers", 3, every, &b->every, err));
    if (ft_json_kind(types) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (ft_json_kind(types) != FT_JSON_ARRAY || (int64_t)ft_json_count(types) != b->sizes.layers) {
        return FT_FAIL(err, INVALID, "%s: layer_types must name the kind of each of %lld layers",
                       b->hf->config_path, (long long)b->sizes.layers);
    }
    b->layer_types = types;
    return FT_OK;
}

static enum ft_status read_config(struct build *b, struct ft_err *err)
{
    static const struct ft_hf_keys keys = {"vocab_size",
                                           "hidden_size",
                                           "num_hidden_layers",
                                           "num_attention_heads",
                                           "intermediate_size",
                                           "max_position_embeddings",
                                           NULL,
                                           "norm_eps",
                                           "hidden_activation",
                                           false};
    static const int64_t windows[2] = {2, 1 << 20};
    struct ft_hf *hf = b->hf;
    b->sizes = (struct ft_hf_sizes){50368, 768, 22, 12, 1152, 8192, 0, 1e-5, "gelu"};
    FT_RETURN_IF_FAILED(ft_hf_read_sizes(hf, &keys, &b->sizes, err));
    if (b->sizes.hidden / b->sizes.heads % 2 != 0) {
        return FT_FAIL(err, INVALID, "%s: heads of %lld numbers cannot be rotated in pairs", hf->config_path,
                       (long long)(b->sizes.hidden / b->sizes.heads));
    }
    hf->max_length = b->sizes.positions;
    FT_RETURN_IF_FAILED(ft_hf_int(hf, "local_attention", 128, windows, &b->window, err));
    b->window /= 2; /* in both directions, with its end */
    b->theta[0] = 160000.0;
    b->theta[1] = 10000.0;
    FT_RETURN_IF_FAILED(read_theta(b, "full_attention", "global_rope_theta", &b->theta[0], err));
    FT_RETURN_IF_FAILED(read_theta(b, "sliding_attention", "local_rope_theta", &b->theta[1], err));
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "rope_scaling", "null", err));
    FT_RETURN_IF_FAILED(ft_hf_only(hf, "is_decoder", "false", err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, "embedding_dropout", 0.0, &b->drop_embedding, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, "attention_dropout", 0.0, &b->drop_attention, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(hf, "mlp_dropout", 0.0, &b->drop_mlp, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "norm_bias", false, &b->norm_bias, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "attention_bias", false, &b->attention_bias, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "mlp_bias", false, &b->mlp_bias, err));
    return read_layer_types(b, err);
}

enum ft_status ft_hf_build_modernbert(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err)
{
    struct build b = {.hf = hf};
    (void)arg;
    FT_RETURN_IF_FAILED(read_config(&b, err));
    const int64_t words[2] = {b.sizes.vocab, b.sizes.hidden};
    FT_RETURN_IF_FAILED(ft_hf_inputs(hf, false, err));
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "embeddings"));
    FT_RETURN_IF_FAILED(ft_hf_embed(hf, "tok_embeddings", hf->ids, words, out, err));
    FT_RETURN_IF_FAILED(ft_hf_norm(hf, "norm", *out, b.sizes.eps, b.norm_bias, out, err));
    ft_graph_mark_dropout(hf->graph, *out, b.drop_embedding);
    for (int i = 0; i < (int)b.sizes.layers; i++) {
        bool local = false;
        FT_RETURN_IF_FAILED(is_local(&b, i, &local, err));
        FT_RETURN_IF_FAILED(layer(&b, i, local, out, err));
    }
    FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "%s", ""));
    return ft_hf_norm(hf, "final_norm", *out, b.sizes.eps, b.norm_bias, out, err);
}
