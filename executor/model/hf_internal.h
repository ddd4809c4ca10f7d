/*
 * hf_internal.h - what the families of hf.h share: the config's values, weights by name, layers; private to
 * model/.
 *
 * A family reads its config into sizes, takes its weights under the names of the base model, and appends
 * layers. Module names are relative to the scope (ft_hf_enter()): "attention.self.query" in scope
 * "encoder.layer.0". A weight that the file lacks becomes a graph input for the time being, so that all of
 * them can be named at once by ft_hf_finish(). Widths are checked against the shapes in the file before
 * anything is allocated. Thread-safety: one thread.
 */
#ifndef FT_MODEL_HF_INTERNAL_H
#define FT_MODEL_HF_INTERNAL_H

#include "executor/codec/safetensors.h"
#include "executor/model/files.h"
#include "executor/model/hf.h"

enum { FT_HF_NAME = 256, FT_HF_SCOPE = 128 };

struct ft_hf {
    struct ft_graph *graph;
    struct ft_hf_source *source; /* of the model */
    const struct ft_json *config;
    const char *config_path;
    struct ft_safetensors *weights; /* owned */
    struct ft_buf weight_bytes;     /* what they lie in when they come out of a .zip */
    const char *prefix;             /* in front of the base model's names in the file: "bert.", "" */
    const char *shown;              /* in front of the names that parameters get: "", "2_Dense." */
    bool *used;                     /* tensors of weights */
    struct ft_buf missing;
    size_t n_missing;
    char scope[FT_HF_SCOPE];
    ft_value ids, mask, types; /* inputs; types may be FT_NO_VALUE */
    int64_t max_length;        /* tokens that the model has places for; 0: any number */
};

/* Takes the weights there. ft_hf_release() frees what hf owns, but neither graph nor config. */
FT_MUST_CHECK enum ft_status ft_hf_open(struct ft_hf *hf, const struct ft_files *files, struct ft_err *err);
void ft_hf_release(struct ft_hf *hf);

/* ---- config.json */
/* A whole number in lo .. hi; `fallback` where the key is absent or null, which is refused if fallback is out
 * of the range. */
FT_MUST_CHECK enum ft_status ft_hf_int(const struct ft_hf *hf, const char *key, int64_t fallback,
                                       const int64_t range[2], int64_t *out, struct ft_err *err);
/* A positive number, at most `most`. */
FT_MUST_CHECK enum ft_status ft_hf_positive(const struct ft_hf *hf, const char *key, double fallback,
                                            double most, double *out, struct ft_err *err);
/* Of dropout: a number of 0 .. 1. */
FT_MUST_CHECK enum ft_status ft_hf_probability(const struct ft_hf *hf, const char *key, double fallback,
                                               double *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_flag(const struct ft_hf *hf, const char *key, bool fallback, bool *out,
                                        struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_text(const struct ft_hf *hf, const char *key, const char *fallback,
                                        const char **out, struct ft_err *err);
/* FT_UNSUPPORTED unless the key is absent, null or `value` (JSON text: "false", "\"absolute\"", "1.0"). */
FT_MUST_CHECK enum ft_status ft_hf_only(const struct ft_hf *hf, const char *key, const char *value,
                                        struct ft_err *err);

/* What every encoder has, under the family's own keys; a NULL key leaves the fallback. */
struct ft_hf_sizes {
    int64_t vocab, hidden, layers, heads, inner, positions, types;
    double eps;
    const char *act;
};
struct ft_hf_keys {
    const char *vocab, *hidden, *layers, *heads, *inner, *positions, *types, *eps, *act;
    bool any_heads; /* the heads have a width of their own */
};
/* sizes holds the fallbacks. heads divides hidden, unless they are any_heads. */
FT_MUST_CHECK enum ft_status ft_hf_read_sizes(const struct ft_hf *hf, const struct ft_hf_keys *keys,
                                              struct ft_hf_sizes *sizes, struct ft_err *err);

/* ---- inputs and weights */
FT_MUST_CHECK enum ft_status ft_hf_inputs(struct ft_hf *hf, bool types, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_enter(struct ft_hf *hf, struct ft_err *err, const char *fmt, ...)
    FT_PRINTF(3, 4);
/* Parameter "<scope>.<name>"; asked for again, the same value. FT_INVALID: another shape in the file. */
FT_MUST_CHECK enum ft_status ft_hf_weight(struct ft_hf *hf, const char *name, int rank, const int64_t *dims,
                                          ft_value *out, struct ft_err *err);
/* Is it in the file, under the scope? */
bool ft_hf_has(const struct ft_hf *hf, const char *name);
/* FT_CORRUPT: names what the model lacks, and what the file holds that belongs to nothing; `ignored` are
 * prefixes of tensors of heads, "*" in front means suffixes; ends with NULL. */
FT_MUST_CHECK enum ft_status ft_hf_finish(struct ft_hf *hf, const char *const *ignored, struct ft_err *err);

/* ---- layers; `module` names the node and its weights; x is (N, S, C) or (N, C). All names are
 * "<scope>.<module>". */
struct ft_hf_op {
    enum ft_op op;
    const struct ft_attrs *attrs; /* may be NULL */
    const char *module;
};
FT_MUST_CHECK enum ft_status ft_hf_node(struct ft_hf *hf, struct ft_hf_op what, const ft_value *in, int n_in,
                                        ft_value *out, struct ft_err *err);
/* Rows of <module>.weight (rows, width). */
FT_MUST_CHECK enum ft_status ft_hf_embed(struct ft_hf *hf, const char *module, ft_value ids,
                                         const int64_t shape[2], ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_linear(struct ft_hf *hf, const char *module, ft_value x, int64_t width,
                                          bool bias, ft_value *out, struct ft_err *err);
/* LayerNorm over the last axis; without bias where `bias` is false. */
FT_MUST_CHECK enum ft_status ft_hf_norm(struct ft_hf *hf, const char *module, ft_value x, double eps,
                                        bool bias, ft_value *out, struct ft_err *err);
/* x / sqrt(mean(x^2) + eps) * <module>.weight */
FT_MUST_CHECK enum ft_status ft_hf_rms_norm(struct ft_hf *hf, const char *module, ft_value x, double eps,
                                            ft_value *out, struct ft_err *err);
/* A function of transformers' ACT2FN by name; FT_UNSUPPORTED names it and `key`. */
FT_MUST_CHECK enum ft_status ft_hf_activate(struct ft_hf *hf, const char *key, const char *act, ft_value x,
                                            ft_value *out, struct ft_err *err);
/* Is the node what ft_hf_activate() makes of that name? */
bool ft_hf_is_activation(const struct ft_node *node, const char *act);
FT_MUST_CHECK enum ft_status ft_hf_add(struct ft_hf *hf, const char *module, ft_value a, ft_value b,
                                       ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_multiply(struct ft_hf *hf, const char *module, ft_value a, ft_value b,
                                            ft_value *out, struct ft_err *err);
/* `count` columns from `start` on. */
FT_MUST_CHECK enum ft_status ft_hf_columns(struct ft_hf *hf, const char *module, ft_value x, int64_t start,
                                           int64_t count, ft_value *out, struct ft_err *err);
/* q and k by their places, in each of `heads` heads all numbers: base^(-2i/head). */
FT_MUST_CHECK enum ft_status ft_hf_rotate(struct ft_hf *hf, const char *module, int64_t heads,
                                          int64_t rotated, double base, ft_value *x, struct ft_err *err);
struct ft_hf_attention {
    ft_value q, k, v;
    ft_value bias; /* (heads, 2D + 1) or FT_NO_VALUE */
    int64_t heads;
    double scale, dropout;
    int64_t window; /* keys at most so far away; 0: all */
};
FT_MUST_CHECK enum ft_status ft_hf_attend(struct ft_hf *hf, const char *module,
                                          const struct ft_hf_attention *a, ft_value *out, struct ft_err *err);
/* <module>.weight (buckets, heads) by T5's buckets of j - i -> (heads, 2 max_distance + 1) for ATTENTION;
 * `buckets` are computed with, at most table_rows, which the weight has. */
struct ft_hf_buckets {
    int64_t buckets, table_rows, max_distance, heads;
};
FT_MUST_CHECK enum ft_status ft_hf_relative(struct ft_hf *hf, const char *module,
                                            const struct ft_hf_buckets *b, ft_value *out, struct ft_err *err);

/* ---- families: from the inputs to the last hidden state. */
typedef enum ft_status (*ft_hf_build)(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err);
struct ft_hf_family {
    const char *model_type;
    ft_hf_build build;
    int arg;
    const char *prefixes[4];    /* that files put in front; "" is always tried */
    const char *probe;          /* a tensor that shows which prefix it is */
    const char *const *ignored; /* see ft_hf_finish() */
};
/* hf_bert.c: everything with BERT's block. */
enum ft_hf_bert { FT_HF_BERT, FT_HF_ROBERTA, FT_HF_ELECTRA, FT_HF_DISTILBERT, FT_HF_MPNET, FT_HF_ALBERT };
FT_MUST_CHECK enum ft_status ft_hf_build_bert(struct ft_hf *hf, int kind, ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_build_t5(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_build_modernbert(struct ft_hf *hf, int arg, ft_value *out,
                                                    struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_hf_build_nomic(struct ft_hf *hf, int arg, ft_value *out, struct ft_err *err);

/* ---- files */
/* ft_hf_load() of an artifact's or a folder's files. */
FT_MUST_CHECK enum ft_status ft_hf_read(const struct ft_files *files, struct ft_model **model,
                                        struct ft_err *err);
/* base: the Transformer's files. *source is the caller's: ft_hf_source_free(); take_config is taken also when
 * it fails. */
FT_MUST_CHECK enum ft_status ft_hf_source_read(const struct ft_files *files, const struct ft_files *base,
                                               struct ft_json *take_config, struct ft_hf_source **source,
                                               struct ft_err *err);
/* Of an ONNX file in `dir` that reads texts: tokenizer, longest text and prompt out of the files in that
 * folder, or out of the one above where it is called "onnx"; where these have modules.json and the file stops
 * at rows of tokens, the modules behind them. Nothing there: nothing changes. */
FT_MUST_CHECK enum ft_status ft_hf_beside(const char *dir, struct ft_model *model, struct ft_err *err);
/* That folder: `dir` as it is written, or the one above; *out is the caller's, NULL if neither tells of
 * texts. */
FT_MUST_CHECK enum ft_status ft_hf_beside_folder(const char *dir, char **out, struct ft_err *err);
/* Names of files beside config.json, tokenizer.json, modules.json and its like that are read where they are
 * there; NULL beyond the last. */
const char *ft_hf_source_name(size_t i);
/* ft_files_json() with the limit of a model's files. */
FT_MUST_CHECK enum ft_status ft_hf_json(const struct ft_files *files, const char *name, struct ft_json **json,
                                        struct ft_err *err);

/* ---- sentence-transformers */
/* What its Pooling can do, in the order in which several are put side by side. */
enum { FT_HF_MODES = 6 };
struct ft_hf_mode {
    const char *name, *flag; /* of pooling_mode; of older files */
    enum ft_seq_pool kind;
};
extern const struct ft_hf_mode ft_hf_modes[FT_HF_MODES];
/* The function of torch.nn.modules that a Dense names for this node ("activation.Tanh"); NULL: none. */
const char *ft_hf_torch_function(const struct ft_node *node);
/* Of one module of modules.json: a folder below the model's, or "". FT_INVALID. */
FT_MUST_CHECK enum ft_status ft_hf_module_path(const struct ft_json *module, const char **path,
                                               struct ft_err *err);
/* Which folder below holds the Transformer: "" for the model's own; modules may be NULL. */
FT_MUST_CHECK enum ft_status ft_hf_transformer(const struct ft_json *modules, const char **folder,
                                               struct ft_err *err);
/* The modules after the Transformer, from last_hidden_state *x on; each has a folder below the model's. */
FT_MUST_CHECK enum ft_status ft_hf_modules(struct ft_hf *hf, const struct ft_files *files,
                                           const struct ft_json *modules, ft_value *x, struct ft_err *err);
/* Tokenizer, longest text and prompt of the model, whose hf is there; base: the Transformer's files, places
 * as ft_hf's max_length. */
FT_MUST_CHECK enum ft_status ft_hf_text_options(const struct ft_files *files, const struct ft_files *base,
                                                int64_t places, struct ft_model *model, struct ft_err *err);
/* The tokenizer.json of vocab.txt, or of vocab.json and merges.txt, as transformers makes it; nothing where
 * base has neither. config: tokenizer_config.json, may be NULL. */
FT_MUST_CHECK enum ft_status ft_hf_vocab(const struct ft_files *base, const struct ft_json *config,
                                         bool mpnet, struct ft_buf *out, struct ft_err *err);
#endif
