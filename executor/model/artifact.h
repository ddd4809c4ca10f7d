/*
 * artifact.h - what a run hands over: a folder or .zip in Finetuner's layout (DESIGN 4, finetuner/SPEC.md E).
 *
 * config.yml  metadata.yml  models/<name>/{model.onnx, metadata.yml}  models/input-map.yml
 * preprocess/prep.json metrics.json  metrics.yml  README.md (model card); of texts tokenizer.json. No clock,
 * host or path: equal runs give equal bytes. Beside them, of a model that came as a Hugging Face folder, what
 * sentence_transformers.SentenceTransformer(dir) loads: modules.json, config.json, model.safetensors, ...
 * (hf.h), or in README.md why that is left out. An artifact with modules.json is read from those files,
 * others from model.onnx; what both compute is compared before it is written. In a .zip every path starts
 * with <run name>/ as Finetuner's do.
 */
#ifndef FT_MODEL_ARTIFACT_H
#define FT_MODEL_ARTIFACT_H

#include "executor/model/model.h"

struct ft_artifact {
    const char *run_name;
    const char *model_name;
    const struct ft_graph *graph;  /* tailored, trained weights inside */
    const struct ft_json *prep;    /* preprocess options */
    struct ft_bytes tokenizer;     /* text of tokenizer.json; empty: not of texts */
    const struct ft_hf_source *hf; /* files of the Hugging Face model that it came from; NULL: none */
    const struct ft_json *config;  /* run options as used */
    const struct ft_json *metrics; /* {"before": {...}, "after": {...}}, may be empty */
    const struct ft_json
        *card; /* facts for README.md: dataset digest, documents, classes, seed, versions, command */
};
/* path ending in .zip: packed; else a folder. An existing folder must be empty or an artifact; written beside
 * and renamed. left_out: a sentence that tells why there are no files for sentence-transformers though the
 * model came with some, else "". */
FT_MUST_CHECK enum ft_status ft_artifact_write(const struct ft_artifact *artifact, const char *path,
                                               char left_out[FT_ERR_TEXT], struct ft_err *err);
/* FT_EXISTS: what is at `path` already is neither an artifact nor an empty folder, so it is not replaced (nor
 * a folder by a .zip). For those who want to know before the work is done. */
FT_MUST_CHECK enum ft_status ft_artifact_check_place(const char *path, struct ft_err *err);
/* metadata_props of a tailored model (FT_PROPERTY_*): it carries its own preparation (may be NULL), so that
 * the ONNX file alone loads as what it is. *out is the caller's: ft_json_free(). */
FT_MUST_CHECK enum ft_status ft_artifact_properties(const struct ft_json *prep, struct ft_json **out,
                                                    struct ft_err *err);
/* Does this folder or .zip hold one? */
bool ft_artifact_known(const char *path);
#endif
