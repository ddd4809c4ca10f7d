/*
 * encoder.h - a model ready to embed: device, plan(s), preprocessing. Used by encode, evaluate, fit's
 * evaluation, the server.
 *
 * Texts are computed from the longest to the shortest in batches of a number of tokens, without padding where
 * the graph can be packed (graph/pack.h), else padded to the longest of each batch; results are in the order
 * of the documents. Threads: one thread at a time (it owns the device).
 */
#ifndef FT_TRAIN_ENCODER_H
#define FT_TRAIN_ENCODER_H

#include "executor/base/thread.h"
#include "executor/graph/plan.h"
#include "executor/model/tailor.h"
#include "executor/prep/prep.h"
#include "executor/store/dataset.h"

struct ft_encoder; /* opaque */
/* Tokens that a batch of texts may have for each of its rows: batches of 64 have up to 4,096. */
enum { FT_ENCODE_ROW_TOKENS = 64 };
/* All borrowed for the call to ft_encoder_open(). */
struct ft_encoder_spec {
    const char *model_path;
    const struct ft_tailor_options *tailor;       /* NULL = defaults */
    const struct ft_model_options *model_options; /* may be NULL */
    const struct ft_json *prep_options;           /* over what the model brings; may be NULL */
    const char *device;
    enum ft_precision precision; /* of computing; embeddings are f32. INT8: FT_UNSUPPORTED where the model has
                                  * no product to compute so */
    int threads;                 /* 0 = one a processor */
    int64_t batch_max;           /* rows computed at once */
    /* Bytes, 0 = no budget: batch_max becomes the largest of its halves that fits; FT_LIMIT with the figure
     * if one row does not. Without a budget what the machine cannot hold is refused in the same way. */
    int64_t memory;
};
/* Loads and tailors; an artifact was tailored already and keeps its graph but for what is asked for. */
FT_MUST_CHECK enum ft_status ft_encoder_open(const struct ft_encoder_spec *spec, struct ft_encoder **encoder,
                                             struct ft_err *err);
void ft_encoder_free(struct ft_encoder *encoder);
/* "embedding of 64 numbers at matmul_14, without matmul_15 (...): it is named as a classifier"; borrowed. */
const char *ft_encoder_about(const struct ft_encoder *encoder);
int64_t ft_encoder_batch_max(const struct ft_encoder *encoder);
int64_t ft_encoder_dim(const struct ft_encoder *encoder);
const struct ft_prep *ft_encoder_prep(const struct ft_encoder *encoder);
/* How many of its products with weights are computed in int8, of how many products: "36 of 36"; "": in no
 * other precision than int8. */
const char *ft_encoder_int8(const struct ft_encoder *encoder);
/* What its user should know about the precision on this processor; NULL: nothing. */
const char *ft_encoder_precision_note(const struct ft_encoder *encoder);
/* Of a model of texts: "" when they run without padding, else why they are padded. NULL: of no texts. */
const char *ft_encoder_padded(const struct ft_encoder *encoder);
uint64_t ft_encoder_tokens(const struct ft_encoder *encoder); /* of all texts embedded so far */
/* Memory that it takes as it is now: model, parameters and their packed copies, plans (more come with batches
 * of other sizes). What libraries keep for themselves is not known. */
size_t ft_encoder_bytes(const struct ft_encoder *encoder);
/* What it ran last: to be profiled. NULL: nothing yet. */
struct ft_plan *ft_encoder_plan(const struct ft_encoder *encoder);
/* rows <= batch_max prepared rows (rows, ft_prep_elements) -> out (rows, dim); not of texts. */
FT_MUST_CHECK enum ft_status ft_encoder_rows(struct ft_encoder *encoder, const float *rows_in, size_t rows,
                                             float *out, struct ft_err *err);
/* Any number of documents, in order: out (count, dim). *failed: the one that cannot be prepared, which the
 * caller names; count when it is not that. */
FT_MUST_CHECK enum ft_status ft_encoder_documents(struct ft_encoder *encoder, const struct ft_document *docs,
                                                  size_t count, float *out, size_t *failed,
                                                  struct ft_err *err);
/* All documents of a dataset in order: out (count, dim). Errors name the document. progress may be NULL. */
struct ft_encode_done {
    size_t done, count;        /* documents */
    size_t tokens, tokens_all; /* 0 of other than texts */
};
typedef void (*ft_encode_progress)(void *arg, const struct ft_encode_done *done);
FT_MUST_CHECK enum ft_status ft_encoder_dataset(struct ft_encoder *encoder, const struct ft_dataset *dataset,
                                                float *out, const struct ft_cancel *cancel,
                                                ft_encode_progress progress, void *arg, struct ft_err *err);
#endif
