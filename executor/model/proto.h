/*
 * proto.h - an ONNX ModelProto as flat tables; private to model/.
 *
 * Only what an import needs is kept: names, nodes, attributes, tensors, inputs and outputs, as ranges of the
 * file's bytes in arrays of an arena. Nothing here recurses: a graph in an attribute is parsed when it is
 * asked for, nested types are never entered. Thread-safety: const tables may be read by any number of
 * threads.
 */
#ifndef FT_MODEL_PROTO_H
#define FT_MODEL_PROTO_H

#include "executor/base/arena.h"
#include "executor/base/bytes.h"
#include "kernels/type.h"

/* TensorProto.DataType */
enum ft_onnx_type {
    FT_ONNX_FLOAT = 1,
    FT_ONNX_UINT8 = 2,
    FT_ONNX_INT8 = 3,
    FT_ONNX_UINT16 = 4,
    FT_ONNX_INT16 = 5,
    FT_ONNX_INT32 = 6,
    FT_ONNX_INT64 = 7,
    FT_ONNX_STRING = 8,
    FT_ONNX_BOOL = 9,
    FT_ONNX_FLOAT16 = 10,
    FT_ONNX_DOUBLE = 11,
    FT_ONNX_UINT32 = 12,
    FT_ONNX_UINT64 = 13,
    FT_ONNX_BFLOAT16 = 16
};

struct ft_onnx_tensor {
    struct ft_bytes name;
    struct ft_bytes
        message; /* the whole TensorProto: typed fields are read from it when the data are wanted */
    struct ft_bytes raw;
    bool has_raw, external;
    struct ft_bytes location; /* of external data */
    int64_t offset, length;   /* length -1: to what the shape asks for */
    int32_t type;
    int rank;
    int64_t dims[FT_MAX_RANK];
    int64_t count; /* product of dims; 0 is legal */
};

struct ft_onnx_attr {
    struct ft_bytes name;
    struct ft_bytes message;
};

struct ft_onnx_node {
    struct ft_bytes name, op, domain;
    struct ft_bytes *in;
    int n_in;
    int n_outer;      /* of these, at the end: names that graphs inside the node read */
    bool looked_into; /* n_outer is set, by the importer */
    struct ft_bytes *out;
    int n_out;
    struct ft_onnx_attr *attrs;
    int n_attrs;
};

struct ft_onnx_port { /* an input or output of the graph */
    struct ft_bytes name;
    bool has_tensor_type, has_shape;
    int32_t type;
    int rank;
    struct {
        bool known;
        int64_t extent;
        struct ft_bytes symbol; /* "" if unnamed */
    } dims[FT_MAX_RANK];
};

struct ft_onnx_pair {
    struct ft_bytes key, value;
};

struct ft_onnx_file {
    int64_t ir_version;
    int64_t opset; /* of the default domain; 0: none given */
    struct ft_bytes producer, producer_version, graph_name;
    struct ft_onnx_node *nodes;
    int n_nodes;
    struct ft_onnx_tensor *tensors; /* initializers */
    int n_tensors;
    struct ft_onnx_port *inputs;
    int n_inputs;
    struct ft_onnx_port *outputs;
    int n_outputs;
    struct ft_onnx_pair *metadata;
    int n_metadata;
    bool sparse; /* has sparse_initializer: refused by the importer */
};

/* *file points into `bytes` and the arena. FT_CORRUPT: not protobuf of this shape; FT_LIMIT; FT_INVALID. */
FT_MUST_CHECK enum ft_status ft_onnx_parse(struct ft_bytes bytes, struct ft_arena *arena,
                                           struct ft_onnx_file *file, struct ft_err *err);
/* A GraphProto alone, as a file without the rest. */
FT_MUST_CHECK enum ft_status ft_onnx_parse_graph(struct ft_bytes message, struct ft_arena *arena,
                                                 struct ft_onnx_file *file, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_onnx_parse_tensor(struct ft_bytes message, struct ft_onnx_tensor *tensor,
                                                  struct ft_err *err);

/* Product of extents; false: negative, or larger than any tensor may be (extents of 0 counted as 1). */
bool ft_onnx_count(int rank, const int64_t *dims, int64_t *count);

/* Attributes of a node; a missing one leaves *out as it is. FT_CORRUPT when the field is malformed. */
const struct ft_onnx_attr *ft_onnx_attr(const struct ft_onnx_node *node, const char *name);
FT_MUST_CHECK enum ft_status ft_onnx_attr_int(const struct ft_onnx_node *node, const char *name, int64_t *out,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_onnx_attr_float(const struct ft_onnx_node *node, const char *name, float *out,
                                                struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_onnx_attr_text(const struct ft_onnx_node *node, const char *name,
                                               struct ft_bytes *out, struct ft_err *err);
/* The TensorProto in an attribute; {NULL, 0} when there is none. */
FT_MUST_CHECK enum ft_status ft_onnx_attr_tensor(const struct ft_onnx_node *node, const char *name,
                                                 struct ft_bytes *out, struct ft_err *err);
/* The GraphProto in an attribute; {NULL, 0} when there is none. */
FT_MUST_CHECK enum ft_status ft_onnx_attr_graph(const struct ft_onnx_node *node, const char *name,
                                                struct ft_bytes *out, struct ft_err *err);
/* Lists are made in the arena; *count = -1 when the attribute is missing. */
FT_MUST_CHECK enum ft_status ft_onnx_attr_ints(const struct ft_onnx_node *node, const char *name,
                                               struct ft_arena *arena, int64_t **out, int *count,
                                               struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_onnx_attr_floats(const struct ft_onnx_node *node, const char *name,
                                                 struct ft_arena *arena, float **out, int *count,
                                                 struct ft_err *err);
#endif
