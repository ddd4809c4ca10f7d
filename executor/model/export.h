/*
 * export.h - state of one ONNX export and what the writers of ops share; private to model/.
 *
 * Every op that may stand in a forward graph has a writer in export_ops.c's table; nodes are encoded into a
 * buffer as they are written, weights are appended straight to the file afterwards, so they are held twice at
 * most. Thread-safety: an export belongs to one thread.
 */
#ifndef FT_MODEL_EXPORT_H
#define FT_MODEL_EXPORT_H

#include "executor/base/arena.h"
#include "executor/model/import.h"

struct ft_export {
    struct ft_arena arena;
    const struct ft_graph *graph;
    const char **names; /* of each value in the file; NULL: not written */
    bool *reached;      /* values that the outputs need */
    bool *reserved;     /* values whose name is an output's */
    struct ft_names taken, node_names;
    struct ft_buf nodes; /* encoded NodeProtos, tags included */
};

struct ft_export_attr {
    const char *name;
    enum { FT_ATTR_INT, FT_ATTR_FLOAT, FT_ATTR_INTS, FT_ATTR_TEXT } kind;
    int64_t i;
    float f;
    const int64_t *ints;
    int count;
    const char *text;
};

/* A name nobody has: `stem`, else stem_1, ... */
FT_MUST_CHECK enum ft_status ft_export_fresh(struct ft_export *x, const char *stem, const char **out,
                                             struct ft_err *err);
struct ft_export_node {
    const char *op;
    const char *origin; /* wanted name; may be NULL or "" */
    const char *in[4];  /* NULL: absent */
    int n_in;
    const char *out;
    const char *out2; /* NULL: one output */
    const struct ft_export_attr *attrs;
    int n_attrs;
};
FT_MUST_CHECK enum ft_status ft_export_put(struct ft_export *x, const struct ft_export_node *node,
                                           struct ft_err *err);
/* Any number of inputs: Concat. */
FT_MUST_CHECK enum ft_status ft_export_put_many(struct ft_export *x, const struct ft_export_node *node,
                                                const char *const *in, int n_in, struct ft_err *err);
/* The ONNX node of the same inputs and first output; up to four inputs. */
struct ft_export_node ft_export_like(const struct ft_export *x, const struct ft_node *node, const char *onnx);
/* op(a[, b]) -> a fresh value named after `stem`. */
FT_MUST_CHECK enum ft_status ft_export_step(struct ft_export *x, const char *op, const char *stem,
                                            const char *a, const char *b, const char **out,
                                            struct ft_err *err);
/* A Constant node; its name is made from `stem`. */
FT_MUST_CHECK enum ft_status ft_export_ints(struct ft_export *x, const char *stem, const int64_t *values,
                                            int count, const char **out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_float(struct ft_export *x, const char *stem, float value,
                                             const char **out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_constant(struct ft_export *x, const char *name,
                                                const struct ft_type *type, const void *data,
                                                struct ft_err *err);
/* ---- writers outside export_ops.c, for its table; `onnx` is the name that stands there */
FT_MUST_CHECK enum ft_status ft_export_map(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_conv(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_conv_transpose(struct ft_export *x, const struct ft_node *node,
                                                      const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_pool(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_pad(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_layernorm(struct ft_export *x, const struct ft_node *node,
                                                 const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_cast(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_compare(struct ft_export *x, const struct ft_node *node,
                                               const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_logic(struct ft_export *x, const struct ft_node *node,
                                             const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_mod(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_gather(struct ft_export *x, const struct ft_node *node,
                                              const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_scatter(struct ft_export *x, const struct ft_node *node,
                                               const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_arg_extreme(struct ft_export *x, const struct ft_node *node,
                                                   const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_topk(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_cumsum(struct ft_export *x, const struct ft_node *node,
                                              const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_maxpool_indices(struct ft_export *x, const struct ft_node *node,
                                                       const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_fold(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_attention(struct ft_export *x, const struct ft_node *node,
                                                 const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_rope(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                            struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_positions(struct ft_export *x, const struct ft_node *node,
                                                 const char *onnx, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_export_seq_pool(struct ft_export *x, const struct ft_node *node,
                                                const char *onnx, struct ft_err *err);

/* Writes one node of the graph; FT_UNSUPPORTED names an op without a writer. */
FT_MUST_CHECK enum ft_status ft_export_op(struct ft_export *x, const struct ft_node *node,
                                          struct ft_err *err);
#endif
