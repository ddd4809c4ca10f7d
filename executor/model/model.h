/*
 * model.h - a model in memory: canonical graph, how its input is prepared, where it came from; and the
 * loaders.
 *
 * MODEL of the command line: an .onnx file, an artifact of ours (folder or .zip), or a Hugging Face /
 * sentence-transformers folder (hf.h). An .onnx file of texts finds its tokenizer in its folder, as Optimum
 * lays it out, or above a folder "onnx"; a folder with such a file and without safetensors is read from it.
 * Thread-safety: a const model may be read by any number of threads.
 */
#ifndef FT_MODEL_MODEL_H
#define FT_MODEL_MODEL_H

#include "executor/codec/json.h"
#include "executor/graph/graph.h"

struct ft_hf_source; /* hf.h */

struct ft_model {
    struct ft_graph *graph;
    char *name;           /* "classifier": file or folder name without suffix, or metadata.yml's name */
    char *source;         /* path as given */
    bool is_embedding;    /* loaded from an artifact: tailored already, one output (N, D) */
    struct ft_json *prep; /* preprocess options found in an artifact or in the ONNX metadata; NULL if none */
    struct ft_json *meta; /* artifact: config and metrics; ONNX: metadata_props; NULL if none */
    /* What else the files of a Hugging Face model say, so that an artifact can be one again; NULL for other
     * models. */
    struct ft_hf_source *hf;
    int opset;      /* of the ONNX file */
    char *producer; /* "pytorch 2.15.0", "" if unknown */
    /* Of texts; empty, 0 and NULL for other models. */
    struct ft_buf tokenizer; /* text of a tokenizer.json; empty if the model brings none */
    int64_t max_length;      /* tokens of a text, special ones included, beyond which it is cut */
    bool prompt_apart;       /* its pooling leaves out the tokens of a prompt (include_prompt is false) */
    char *prompt;            /* put in front of each text unless others are asked for; NULL: none */
};

/* Fix symbolic input axes that are not the batch ("height=32", or input_shape "N,3,32,32"): NULL if nothing
 * is asked. */
struct ft_model_options {
    const char *input_shape;
};
/* FT_NOT_FOUND, FT_CORRUPT, FT_INVALID, FT_UNSUPPORTED (all unsupported nodes at once, with names). */
FT_MUST_CHECK enum ft_status ft_model_load(const char *path, const struct ft_model_options *options,
                                           struct ft_model **model, struct ft_err *err);
void ft_model_free(struct ft_model *model); /* NULL is fine */
#endif
