#include <math.h>
#include <string.h>

#include "executor/model/hf_internal.h"

/*
 * NomicBERT: BERT's order of norms with rotary places, SwiGLU and one matrix for q, k and v. Its config comes
 * as transformers writes it (hidden_size ...) or as nomic-ai's own code does, with GPT-2's keys (n_embd ...)
 * and switches for what the published models do not use; those are refused when they are set. Weights have
 * the same names in both: transformers writes nomic-ai's.
 */
struct build {
    struct ft_hf *hf;
    struct ft_hf_sizes sizes;
    int64_t rotated; /* numbers of a head that are turned */
    double theta;
    bool qkv_bias, fc1_bias, fc2_bias;
    double drop_embedding, drop_attention, drop; /* the last one: of what a half of a block adds */
};

static enum ft_status attention(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    int64_t width = b->sizes.hidden;
    int64_t heads = b->sizes.heads;
    struct ft_hf_attention a = {.bias = FT_NO_VALUE,
                                .heads = heads,
                                .scale = 1.0 / sqrt((double)width / (double)heads),
                                .dropout = b->drop_attention};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "attn.Wqkv", *x, 3 * width, b->qkv_bias, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.q", y, 0, width, &a.q, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.k", y, width, width, &a.k, err));
    FT_RETURN_IF_FAILED(ft_hf_columns(hf, "attn.v", y, 2 * width, width, &a.v, err));
    if (b->rotated > 0) {
        FT_RETURN_IF_FAILED(ft_hf_rotate(hf, "attn.q", heads, b->rotated, b->theta, &a.q, err));
        FT_RETURN_IF_FAILED(ft_hf_rotate(hf, "attn.k", heads, b->rotated, b->theta, &a.k, err));
    }
    FT_RETURN_IF_FAILED(ft_hf_attend(hf, "attn", &a, &y, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "attn.out_proj", y, width, b->qkv_bias, &y, err));
    ft_graph_mark_dropout(hf->graph, y, b->drop);
    FT_RETURN_IF_FAILED(ft_hf_add(hf, "attn.out_proj", *x, y, &y, err));
    return ft_hf_norm(hf, "norm1", y, b->sizes.eps, true, x, err);
}

/* fc11 * act(fc12), through fc2 */
static enum ft_status feed_forward(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    ft_value up = FT_NO_VALUE;
    ft_value gate = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "mlp.fc11", *x, b->sizes.inner, b->fc1_bias, &up, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "mlp.fc12", *x, b->sizes.inner, b->fc1_bias, &gate, err));
    FT_RETURN_IF_FAILED(ft_hf_activate(hf, "hidden_act", b->sizes.act, gate, &gate, err));
    FT_RETURN_IF_FAILED(ft_hf_multiply(hf, "mlp.fc12", gate, up, &up, err));
    FT_RETURN_IF_FAILED(ft_hf_linear(hf, "mlp.fc2", up, b->sizes.hidden, b->fc2_bias, &up, err));
    ft_graph_mark_dropout(hf->graph, up, b->drop);
    FT_RETURN_IF_FAILED(ft_hf_add(hf, "mlp.fc2", *x, up, &up, err));
    return ft_hf_norm(hf, "norm2", up, b->sizes.eps, true, x, err);
}

/* ---- config */

static enum ft_status read_native(struct build *b, struct ft_err *err)
{
    static const struct ft_hf_keys keys = {"vocab_size",        "hidden_size",
                                           "num_hidden_layers", "num_attention_heads",
                                           "intermediate_size", "max_position_embeddings",
                                           "type_vocab_size",   "layer_norm_eps",
                                           "hidden_act",        false};
    struct ft_hf *hf = b->hf;
    const struct ft_json *rope = ft_json_get(hf->config, "rope_parameters");
    struct ft_hf of_rope = *hf;
    int64_t head = 0;
    b->sizes = (struct ft_hf_sizes){30528, 768, 12, 12, 3072, 2048, 2, 1e-12, "silu"};
    FT_RETURN_IF_FAILED(ft_hf_read_sizes(hf, &keys, &b->sizes, err));
    const int64_t heads[2] = {1, 1 << 17};
    FT_RETURN_IF_FAILED(ft_hf_int(hf, "head_dim", b->sizes.hidden / b->sizes.heads, heads, &head, err));
    if (head != b->sizes.hidden / b->sizes.heads) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s: head_dim other than hidden_size / num_attention_heads is not built",
                       hf->config_path);
    }
    b->rotated = head;
    of_rope.config = rope;
    FT_RETURN_IF_FAILED(ft_hf_only(&of_rope, "rope_type", "\"default\"", err));
    return ft_hf_positive(&of_rope, "rope_theta", 1000.0, 1e12, &b->theta, err);
}

static enum ft_status refuse_switches(const struct ft_hf *hf, struct ft_err *err)
{
    static const char *const only[][2] = {
        {"activation_function", "\"swiglu\""},
        {"causal", "false"},
        {"prenorm", "false"},
        {"parallel_block", "false"},
        {"use_rms_norm", "false"},
        {"rotary_emb_interleaved", "false"},
        {"rotary_emb_scale_base", "null"},
        {"rotary_scaling_factor", "null"},
        {"scale_attn_weights", "true"},
        {"scale_attn_by_inverse_layer_idx", "false"},
    };
    for (size_t i = 0; i < sizeof only / sizeof *only; i++) {
        FT_RETURN_IF_FAILED(ft_hf_only(hf, only[i][0], only[i][1], err));
    }
    return FT_OK;
}

static enum ft_status read_remote(struct build *b, struct ft_err *err)
{
    static const struct ft_hf_keys keys = {
        "vocab_size",         "n_embd", "n_layer", "n_head", "n_inner", "n_positions", "type_vocab_size",
        "layer_norm_epsilon", NULL,     false};
    struct ft_hf *hf = b->hf;
    const struct ft_json *fraction = ft_json_get(hf->config, "rotary_emb_fraction");
    b->sizes = (struct ft_hf_sizes){30528, 768, 12, 12, 3072, 2048, 2, 1e-12, "silu"};
    FT_RETURN_IF_FAILED(ft_hf_read_sizes(hf, &keys, &b->sizes, err));
    FT_RETURN_IF_FAILED(refuse_switches(hf, err));
    b->sizes.inner = (b->sizes.inner + 255) / 256 * 256; /* its GatedMLP rounds up */
    double part = fraction != NULL ? ft_json_real(fraction) : 0.0;
    if (part != 1.0) { /* 0: learned places, which are then part of the embeddings */
        return FT_FAIL(err, UNSUPPORTED, "%s: rotary_emb_fraction is %g; only 1.0 is built", hf->config_path,
                       part);
    }
    b->rotated = b->sizes.hidden / b->sizes.heads;
    FT_RETURN_IF_FAILED(ft_hf_positive(hf, "rotary_emb_base", 10000.0, 1e12, &b->theta, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "qkv_proj_bias", true, &b->qkv_bias, err));
    FT_RETURN_IF_FAILED(ft_hf_flag(hf, "mlp_fc1_bias", true, &b->fc1_bias, err));
    return ft_hf_flag(hf, "mlp_fc2_bias", true, &b->fc2_bias, err);
}

static enum ft_status read_dropout(struct build *b, bool remote, struct ft_err *err)
{
    static const char *const keys[2][3] = {
        {"hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout_prob"},
        {"embd_pdrop", "attn_pdrop", "resid_pdrop"},
    };
    FT_RETURN_IF_FAILED(ft_hf_probability(b->hf, keys[remote][0], 0.0, &b->drop_embedding, err));
    FT_RETURN_IF_FAILED(ft_hf_probability(b->hf, keys[remote][1], 0.0, &b->drop_attention, err));
    return ft_hf_probability(b->hf, keys[remote][2], 0.0, &b->drop, err);
}

static enum ft_status read_config(struct build *b, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    bool remote = ft_json_get(hf->config, "n_embd") != NULL;
    FT_RETURN_IF_FAILED(remote ? read_remote(b, err) : read_native(b, err));
    FT_RETURN_IF_FAILED(read_dropout(b, remote, err));
    if (b->rotated % 2 != 0) {
        return FT_FAIL(err, INVALID, "%s: heads of %lld numbers cannot be rotated in pairs", hf->config_path,
                       (long long)b->rotated);
    }
    hf->max_length = b->sizes.positions;
    return FT_OK;
}

static enum ft_status embeddings(struct build *b, ft_value *x, struct ft_err *err)
{
    struct ft_hf *hf = b->hf;
    const int64_t words[2] = {b->sizes.vocab, b->sizes.hidden};
    const int64_t types[2] = {b->sizes.types, b->sizes.hidden};
    ft_value type = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_hf_embed(hf, "embeddings.word_embeddings", hf->ids, words, x, err));
    if (b->sizes.types > 1) {
        FT_RETURN_IF_FAILED(
            ft_hf_embed(hf, "embeddings.token_type_embeddings", hf->types, types, &type, err));
    } else {
        FT_RETURN_IF_FAILED(
            ft_hf_weight(hf, "embeddings.token_type_embeddings.weight", 2, types, &type, err));
    }
    FT_RETURN_IF_FAILED(ft_hf_add(hf, "embeddings.token_type_embeddings", *x, type, x, err));
    FT_RETURN_IF_FAILED(ft_hf_norm(hf, "emb_ln", *x, b->sizes.eps, true, x, err));
    ft_graph_mark_dropout(hf->graph, *x, b->drop_embedding);
    return FT_OK;
}

enum ft_status ft_hf_build_nomic(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err)
{
    struct build b = {.hf = hf};
    (void)arg;
    FT_RETURN_IF_FAILED(read_config(&b, err));
    FT_RETURN_IF_FAILED(ft_hf_inputs(hf, b.sizes.types > 1, err));
    FT_RETURN_IF_FAILED(embeddings(&b, out, err));
    for (int i = 0; i < (int)b.sizes.layers; i++) {
        FT_RETURN_IF_FAILED(ft_hf_enter(hf, err, "encoder.layers.%d", i));
        FT_RETURN_IF_FAILED(attention(&b, out, err));
        FT_RETURN_IF_FAILED(feed_forward(&b, out, err));
    }
    return FT_OK;
}
