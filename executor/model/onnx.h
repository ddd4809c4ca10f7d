/*
 * onnx.h - ONNX ModelProto in (opset 7-27) and out (opset 17, IR 8, default domain only).
 *
 * In: scanned with the zero-copy protobuf reader, never recursive beyond FT_MAX_NESTING. Shape arithmetic on
 * symbolic dimensions (Shape -> Gather -> Concat -> Reshape, with the batch unknown) is evaluated at import;
 * what depends on constants only folds. Everything unsupported is refused at once with node names. An
 * initializer that several nodes read through Identity because the exporter merged equal tensors is copied
 * for each reader that trains it; one that is plainly shared by name in several consuming nodes stays shared.
 * External data files are looked up beside the model and nowhere else.
 *
 * A float initializer that a trainable op reads as weight (Conv, Gemm, MatMul and the vector added behind it,
 * BatchNormalization, PRelu) becomes a parameter (BatchNorm's mean and variance: state). In other elementwise
 * ops only a name ending in .weight .bias .gamma .beta .scale .alpha .p does; other floats are constants, and
 * we write them as Constant nodes. Dropout exported in training mode makes DROPOUT and an input "rng"; what
 * we write has neither. ArgMax and ZipMap at the very end are taken off: the scores in front of them are the
 * output. An export with a fixed batch gets a symbolic one when every output then has its declared shape.
 */
#ifndef FT_MODEL_ONNX_H
#define FT_MODEL_ONNX_H

#include "executor/model/model.h"

/* metadata_props with a meaning: JSON of the preprocess options; "true" for a model that was tailored
 * already. */
#define FT_PROPERTY_PREP "finetuner.prep"
#define FT_PROPERTY_EMBEDDING "finetuner.embedding"

/* dir: where external data lie; NULL = none allowed. */
FT_MUST_CHECK enum ft_status ft_onnx_read(struct ft_bytes file, const char *dir,
                                          const struct ft_model_options *options, struct ft_model **model,
                                          struct ft_err *err);
/* properties: metadata_props as an object of texts, may be NULL. Deterministic bytes: no clock, host or path.
 */
FT_MUST_CHECK enum ft_status ft_onnx_write(const struct ft_graph *graph, const char *graph_name,
                                           const struct ft_json *properties, struct ft_buf *out,
                                           struct ft_err *err);
#endif
