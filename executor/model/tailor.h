/*
 * tailor.h - from a classifier to an embedding model: cut the head, pool, project, normalise, freeze
 * (Finetuner's tailor; head rule of DESIGN 4).
 *
 * Head rule: walk back from the output over Softmax, LogSoftmax, Sigmoid, ArgMax, ZipMap, Dropout, Identity;
 * the last Gemm or MatMul + Add whose input is the pooled or flattened feature is the head if such a tail, a
 * classifier name (fc, head, classifier, logits, output, dense, linear ...) or a width equal to the number of
 * labels says so; otherwise it is kept and `why` says so. --cut NODE and keep_head override. Ambiguity
 * (several outputs, several candidates) lists them.
 */
#ifndef FT_MODEL_TAILOR_H
#define FT_MODEL_TAILOR_H

#include "executor/model/model.h"

/* Replaces the model's own pooling, spatial or over tokens (mean where a text model has none). The names are
 * Finetuner's, its avg and mean being one. */
enum ft_pooler {
    FT_POOLER_DEFAULT,
    FT_POOLER_AVG,           /* "avg", "mean" */
    FT_POOLER_GEM,           /* "GeM" */
    FT_POOLER_MAX,           /* "max": texts only, like all below */
    FT_POOLER_CLS,           /* "cls": the first token */
    FT_POOLER_LAST,          /* "last" */
    FT_POOLER_WEIGHTED_MEAN, /* "weighted_mean": the k-th token counts k times */
};
#define FT_POOLER_NAMES "default|avg|mean|GeM|max|cls|last|weighted_mean"
/* FT_INVALID lists the names. */
FT_MUST_CHECK enum ft_status ft_pooler_find(const char *name, enum ft_pooler *pooler, struct ft_err *err);

struct ft_tailor_options {
    const char *cut; /* node or value whose output is the embedding; NULL = head rule */
    bool keep_head;
    int64_t labels;        /* number of classes in the data, 0 = unknown */
    int64_t output_dim;    /* > 0: Finetuner's ProjectionHead (finetuner/SPEC A.1) to that width */
    int projection_layers; /* 0 = 2, its default */
    enum ft_pooler pooler;
    float gem_p, gem_eps; /* 0 = 3 and 1e-6; p is a trainable parameter, of texts a constant */
    bool normalize;       /* L2-normalise the embedding inside the model */
    /* NULL/"" = nothing, "all" or "true" = all but what tailoring adds or, without a projection, all but the
     * last layer with weights (Finetuner's freeze; a BatchNorm or bias behind a convolution or product is one
     * layer with it), else a comma-separated list of layer names, origins, weights, prefixes of them up to a
     * '.' or '/' ("layer1") or patterns of them ("*.bn?.*"), or a number: so many leading layers with
     * weights. Of a text model layers are the blocks of its transformer (blocks.h): a number freezes the
     * embeddings and so many blocks, "true" leaves the last block, and "embeddings" are what stands before
     * them. */
    const char *freeze;
    uint64_t seed; /* of new weights (torch's Linear init: U(-1/sqrt(fan_in), 1/sqrt(fan_in))) */
};

/* One line of `inspect`: a node, what it makes, what it holds, what tailoring does to it. */
struct ft_layer {
    const char *name; /* Finetuner's "{op}_{index}" and the origin are both accepted by cut and freeze */
    const char *op;
    const char *origin;
    struct ft_type type; /* of its first output */
    int64_t params;      /* weights read first here */
    bool trainable, cut_away;
};
struct ft_tailor_report {
    struct ft_arena_block *memory; /* owned: ft_tailor_report_release() */
    struct ft_layer *layers;
    size_t n_layers;
    const char *embedding_at; /* layer whose output is the embedding */
    const char *head;         /* what goes; "" if nothing */
    const char *why;          /* one sentence */
    int64_t dim;              /* of the embedding */
    int64_t params_total, params_trainable;
};
/* Applies to the model's graph: *tailored is a new graph with one input list and one output "embedding" (N,
 * D), frozen flags set; the caller owns it (ft_graph_free). report may be NULL. An artifact (is_embedding)
 * keeps its graph except for what options ask for explicitly. */
FT_MUST_CHECK enum ft_status ft_tailor(const struct ft_model *model, const struct ft_tailor_options *options,
                                       struct ft_graph **tailored, struct ft_tailor_report *report,
                                       struct ft_err *err);
void ft_tailor_report_release(struct ft_tailor_report *report);
#endif
