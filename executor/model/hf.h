/*
 * hf.h - a Hugging Face or sentence-transformers folder as a model: config.json and safetensors become the
 * canonical padded graph of a text encoder.
 *
 * Families (config.json's model_type): bert, distilbert, roberta, xlm-roberta, mpnet, albert, electra, t5
 * (its encoder), modernbert, nomic_bert (as transformers has it, and as nomic-ai's own code lays the config
 * out). Inputs of the graph: input_ids (N, S), attention_mask (N, S) and, where the model has several,
 * token_type_ids (N, S), all I64. Output: last_hidden_state (N, S, C); or, where modules.json says how
 * sentence-transformers goes on, embedding (N, D) after pooling, Dense and Normalize. Parameters are named as
 * the files of the base model name them ("encoder.layer.0.attention.self.query.weight"; those of a Dense
 * "2_Dense.linear.weight"), nodes after their modules. Where transformers drops while training, nodes are
 * marked with the config's probability (ft_graph_mark_dropout()). Weights are read from
 * model.safetensors or its shards; a pytorch_model.bin alone is refused, since it is a program in pickle.
 * Every value of the config that changes what the model computes is read and checked, or refused by name.
 */
#ifndef FT_MODEL_HF_H
#define FT_MODEL_HF_H

#include "executor/model/model.h"

/* What the files say beside weights and tokenizer.json, as they came. */
struct ft_hf_file {
    const char *name;
    struct ft_buf text;
};
struct ft_hf_source {
    struct ft_json *config;      /* config.json */
    struct ft_json *transformer; /* sentence_bert_config.json or what older versions called it; may be NULL */
    struct ft_json *prompts;     /* config_sentence_transformers.json; may be NULL */
    struct ft_hf_file *files;    /* of the tokenizer */
    size_t n_files;
    bool prompt_apart; /* its pooling leaves out the tokens of a prompt (include_prompt is false) */
};
void ft_hf_source_free(struct ft_hf_source *source); /* NULL is fine */

/* FT_NOT_FOUND (config.json, weights), FT_CORRUPT, FT_INVALID, FT_UNSUPPORTED, FT_LIMIT; tensors that are
 * missing or belong to nothing are named. *model is the caller's: ft_model_free(). */
FT_MUST_CHECK enum ft_status ft_hf_load(const char *dir, struct ft_model **model, struct ft_err *err);

/* The same files of a tailored model, into a folder: what sentence_transformers.SentenceTransformer(dir)
 * loads, weights in float32. They are read back and compared with the graph. A model whose files cannot say
 * what it computes (a pooler or layers that sentence-transformers has no module for, an encoder that was cut)
 * gets none but tokenizer.json, and why is a part of a sentence that names the reason; else why is "". */
struct ft_hf_out {
    const struct ft_graph *graph; /* one output (N, D) */
    const struct ft_hf_source *source;
    struct ft_bytes tokenizer;  /* text of tokenizer.json */
    const struct ft_json *prep; /* max_length and prefix are read */
};
FT_MUST_CHECK enum ft_status ft_hf_write(const struct ft_hf_out *what, const char *dir, char why[FT_ERR_TEXT],
                                         struct ft_err *err);
#endif
