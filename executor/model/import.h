/*
 * import.h - state of one ONNX import and what its op handlers share; private to model/.
 *
 * A name of the file is a slot: an undecoded initializer, a host tensor (known now: constants and shape
 * arithmetic), or a value of the canonical graph. Handlers run once for each node that an output needs, in
 * topological order; whatever has only host inputs is evaluated on the spot, the rest becomes nodes. Integers
 * on the host are monomials of symbols (struct ft_dim, here with any sign and 0), so Shape -> Gather -> Mul
 * -> Concat -> Reshape works before the batch is known. Thread-safety: an import belongs to one thread.
 */
#ifndef FT_MODEL_IMPORT_H
#define FT_MODEL_IMPORT_H

#include "executor/base/arena.h"
#include "executor/base/file.h"
#include "executor/graph/graph.h"
#include "executor/model/proto.h"

#define FT_PRODUCER "finetuner" /* producer_name of files we wrote */

/* ---- names to numbers */
struct ft_names {
    struct ft_bytes *keys;
    int *slots; /* index into keys, or -1 */
    size_t count, mask;
};
FT_MUST_CHECK enum ft_status ft_model_names_init(struct ft_names *names, size_t most, struct ft_arena *arena,
                                                 struct ft_err *err);
int ft_model_names_find(const struct ft_names *names, struct ft_bytes key); /* -1 if none */
int ft_model_names_add(struct ft_names *names,
                       struct ft_bytes key); /* its number; -1 if it is there already */

struct ft_import;

/* ---- host tensors */
enum { FT_HOST_INTS_MAX = 1 << 22 }; /* integers and folded floats; a position table has some thousands */
/* Floats that all ConstantOfShape of a file may make together: its weights, where a file has only their
 * shapes. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* libFuzzer's name for it: inputs that only cost seconds */
enum { FT_HOST_FILL_MAX = 1 << 22 };
#else
enum { FT_HOST_FILL_MAX = 1 << 28 };
#endif
struct ft_host {
    enum ft_dtype dtype; /* FT_F32, FT_I64 (all integers) or FT_BOOL */
    int rank;
    int64_t dims[FT_MAX_RANK];
    int64_t count;
    const uint8_t *floats; /* FT_F32: `count` floats, maybe unaligned: read through ft_host_float() */
    struct ft_dim *ints;   /* FT_I64 and FT_BOOL */
};
float ft_host_float(const struct ft_host *h, int64_t i);
bool ft_host_is_int(const struct ft_host *h);
/* Room for the elements too; *floats may be NULL for integers. FT_LIMIT above FT_HOST_INTS_MAX. */
FT_MUST_CHECK enum ft_status ft_host_new(struct ft_arena *arena, enum ft_dtype dtype, int rank,
                                         const int64_t *dims, struct ft_host **out, float **floats,
                                         struct ft_err *err);
/* Floats, all of them `value`; counted against FT_HOST_FILL_MAX. */
FT_MUST_CHECK enum ft_status ft_host_fill(struct ft_import *im, float value, int rank, const int64_t *dims,
                                          struct ft_host **out, struct ft_err *err);
/* The same elements under another shape (same count). */
FT_MUST_CHECK enum ft_status ft_host_view(struct ft_arena *arena, const struct ft_host *from, int rank,
                                          const int64_t *dims, struct ft_host **out, struct ft_err *err);

enum ft_slot_kind { FT_SLOT_UNSET, FT_SLOT_TENSOR, FT_SLOT_HOST, FT_SLOT_GRAPH, FT_SLOT_BAD };
struct ft_slot {
    struct ft_bytes name;
    enum ft_slot_kind kind;
    const struct ft_onnx_tensor *tensor;
    const struct ft_host *host;
    bool weight; /* host data of an initializer, perhaps reshaped: may be trained */
    struct ft_bytes weight_name;
    ft_value value;     /* FT_SLOT_GRAPH */
    ft_value as_weight; /* values already made of host data; FT_NO_VALUE */
    ft_value as_state;
    ft_value as_const;
    enum ft_cast
        integer;       /* narrower ONNX type that integers here have: what arithmetic on them wraps to; 0 */
    bool from_outside; /* of a nested graph: what the graph around it made */
    int producer;      /* node of the file, or -1 */
    int readers;       /* inputs of needed nodes that name this slot */
};

struct ft_external; /* mapped data file */
struct ft_import {
    struct ft_arena arena;
    const struct ft_onnx_file *file;
    const char *dir; /* NULL: no external data */
    struct ft_external *externals;
    struct ft_names names; /* slot numbers */
    struct ft_slot *slots;
    int **in; /* slots of each node's inputs, -1 = absent */
    int **out;
    int *roots; /* slots of the outputs, label makers (ArgMax, ZipMap) at the very end taken off */
    struct ft_bytes *root_names;
    int n_roots;
    bool *needed;
    int *order; /* needed nodes, each after what it reads */
    int n_order;
    int depth;                    /* of a nested graph (import_flow.c); 0: the file's own */
    const struct ft_bytes *outer; /* names that a nested graph may read from outside */
    int n_outer;
    int nested_nodes; /* that nested graphs have added, with their names */
    struct ft_graph *graph;
    ft_value rng;        /* (2) I64 input, made when the first DROPOUT comes */
    int64_t filled;      /* elements that ConstantOfShape made so far */
    int64_t fixed_batch; /* > 0: the file fixes axis 0 of its inputs to this; we try it as the batch */
};

/* ---- what handlers use. `n` is the node's number in the file. */
struct ft_at { /* where a handler works */
    struct ft_import *im;
    const struct ft_onnx_node *node;
    int index;
    int64_t opset;
};
typedef enum ft_status (*ft_import_handler)(struct ft_at *at, int arg, struct ft_err *err);
struct ft_import_row {
    const char *op;
    int inputs; /* that must be given */
    ft_import_handler run;
    int arg;
};
/* NULL: an op or a domain that is not read. */
const struct ft_import_row *ft_import_find(const struct ft_onnx_node *node);

/* Host data of an initializer that other nodes read too: reshaping a copy of it would untie them. */
bool ft_at_tied(const struct ft_at *at, int i);
bool ft_at_has(const struct ft_at *at, int i);                   /* input i is given */
struct ft_slot *ft_at_slot(const struct ft_at *at, int i);       /* of a given input */
const struct ft_host *ft_at_host(const struct ft_at *at, int i); /* NULL unless given and known */
bool ft_at_all_host(const struct ft_at *at);                     /* every given input is known */
enum ft_dtype ft_at_dtype(const struct ft_at *at, int i); /* of a given input: FT_F32, FT_I64 or FT_BOOL */
/* Input i as a value of the graph: host floats become a constant, or the parameter they are called or are
 * already. Floats only: FT_UNSUPPORTED. */
FT_MUST_CHECK enum ft_status ft_at_value(struct ft_at *at, int i, ft_value *out, struct ft_err *err);
/* The same for any element type; integers that depend on the batch have no value. */
FT_MUST_CHECK enum ft_status ft_at_tensor(struct ft_at *at, int i, ft_value *out, struct ft_err *err);
/* The same for what is only moved: floats that other nodes read too become the parameter. */
FT_MUST_CHECK enum ft_status ft_at_moved(struct ft_at *at, int i, ft_value *out, struct ft_err *err);
/* Input i as a weight: host floats become a parameter. */
FT_MUST_CHECK enum ft_status ft_at_weight(struct ft_at *at, int i, enum ft_param_role role, ft_value *out,
                                          struct ft_err *err);
/* Is input i an initializer called as parameters are? Outside of convolutions, products and normalisations
 * only a name can tell a parameter from a buffer; our own files keep what is no parameter in Constant nodes.
 */
bool ft_at_named_weight(const struct ft_at *at, int i);
/* Is input i zeros that the exporter made up for a module without bias? */
bool ft_at_no_bias(const struct ft_at *at, int i);
const struct ft_type *ft_at_type(const struct ft_at *at, ft_value v);
/* Shape of input 0, known or symbolic. */
void ft_at_shape(const struct ft_at *at, struct ft_dim dims[FT_MAX_RANK], int *rank);
/* Integers of a known input (scalar or vector) without symbols, in the arena. */
FT_MUST_CHECK enum ft_status ft_at_ints(struct ft_at *at, int i, int64_t **out, int *count,
                                        struct ft_err *err);
/* Axes or the like: from attribute `name`, else from input i; *count = -1 when neither is there. */
FT_MUST_CHECK enum ft_status ft_at_list(struct ft_at *at, const char *name, int i, int64_t **out, int *count,
                                        struct ft_err *err);
/* Axis given as number from either end -> 0 .. rank-1 */
FT_MUST_CHECK enum ft_status ft_at_axis(struct ft_at *at, int64_t given, int rank, int *out,
                                        struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_at_scalar(struct ft_at *at, int i, float *out,
                                          struct ft_err *err); /* known number */

/* Append a node; out[0] alone is given back. */
FT_MUST_CHECK enum ft_status ft_at_add(struct ft_at *at, enum ft_op op, const struct ft_attrs *attrs,
                                       const ft_value *in, int n_in, ft_value *out, struct ft_err *err);
/* All outputs of the row. */
FT_MUST_CHECK enum ft_status ft_at_add_all(struct ft_at *at, enum ft_op op, const struct ft_attrs *attrs,
                                           const ft_value *in, int n_in, ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_at_reshape(struct ft_at *at, ft_value x, const struct ft_dim *shape, int rank,
                                           ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_at_const(struct ft_at *at, const struct ft_type *type, const float *data,
                                         ft_value *out, struct ft_err *err);
/* A constant of ones with x's axes from `axis` on, which must be known. */
FT_MUST_CHECK enum ft_status ft_at_ones(struct ft_at *at, const struct ft_type *x, int axis, ft_value *out,
                                        struct ft_err *err);
/* 0, step, 2 step, ... of a count that depends on the batch, I64. */
FT_MUST_CHECK enum ft_status ft_at_range(struct ft_at *at, struct ft_dim count, int64_t step, ft_value *out,
                                         struct ft_err *err);
/* An extent that depends on the batch, as an I64 number (rank 0) or list of one (rank 1). Exact up to 2^24.
 */
FT_MUST_CHECK enum ft_status ft_at_extent(struct ft_at *at, struct ft_dim extent, int rank, ft_value *out,
                                          struct ft_err *err);
/* A node about to be added: if it ends something that exporters spell out, it becomes the row that does it at
 * once (rewrite.c). ft_at_add() asks for every node of one or two inputs. */
struct ft_spelled {
    enum ft_op op;
    struct ft_attrs attrs;
    ft_value in[3];
    int n_in;
};
FT_MUST_CHECK enum ft_status ft_rewrite(struct ft_at *at, struct ft_spelled *s, struct ft_err *err);
/* What output i is. */
FT_MUST_CHECK enum ft_status ft_at_set(struct ft_at *at, int i, ft_value v, struct ft_err *err);
void ft_at_set_host(struct ft_at *at, int i, const struct ft_host *host);
/* Output 0 is input 0 itself. */
FT_MUST_CHECK enum ft_status ft_at_pass(struct ft_at *at, struct ft_err *err);
/* Output i is input 0's weight in another shape. */
void ft_at_keep_weight(struct ft_at *at, int i);
/* "is an output other than the first read?" */
bool ft_at_wants(const struct ft_at *at, int i);
FT_MUST_CHECK enum ft_status ft_at_unsupported(struct ft_at *at, struct ft_err *err, const char *why);

/* ---- data (host.c) */
FT_MUST_CHECK enum ft_status ft_host_decode(struct ft_import *im, const struct ft_onnx_tensor *t,
                                            const struct ft_host **out, struct ft_err *err);
void ft_import_release_externals(struct ft_import *im);

/* ---- handlers, by file */
/* What ft_import_reduce() makes of sums. */
enum ft_reduction {
    FT_REDUCTION_SUM,
    FT_REDUCTION_MEAN,
    FT_REDUCTION_L1,
    FT_REDUCTION_L2,
    FT_REDUCTION_LOG_SUM,
    FT_REDUCTION_SUM_SQUARE
};
/* clang-format off */
#define FT_IMPORT_HANDLERS(X) \
    X(attention) X(conv) X(conv_transpose) X(lp_pool) X(tile) X(pool) X(global_pool) X(batchnorm) X(unary) X(leaky_relu) \
    X(prelu) X(clip) X(extreme) X(binary) X(sum) X(gemm) X(matmul) X(softmax) \
    X(reduce) X(lp_normalization) X(dropout) X(identity) X(flatten) X(reshape) \
    X(transpose) X(squeeze) X(unsqueeze) X(concat) X(slice) X(split) X(pad) X(constant) \
    X(constant_of_shape) X(shape) X(size) X(gather) X(cast) X(expand) X(where) X(compare) \
    X(mod) X(is_nan) X(is_inf) X(gather_elements) X(scatter) X(arg_extreme) X(topk) X(cumsum) \
    X(one_hot) X(hardmax) X(eye_like) X(fold) X(einsum) \
    X(logic) X(range) X(map) X(layer_norm) X(instance_norm) X(group_norm) X(lrn) X(batch_statistics) X(resize) X(depth_space) X(scaler) X(if) X(loop)
/* clang-format on */
#define FT_IMPORT_PROTOTYPE(name)                                                                            \
    enum ft_status ft_import_##name(struct ft_at *at, int arg, struct ft_err *err);
FT_IMPORT_HANDLERS(FT_IMPORT_PROTOTYPE)
#undef FT_IMPORT_PROTOTYPE

/* Host forms of handlers that have both (fold.c). */
FT_MUST_CHECK enum ft_status ft_fold_unary(struct ft_at *at, enum ft_op op, struct ft_err *err);
/* kind: of FT_OP_MOD */
FT_MUST_CHECK enum ft_status ft_fold_binary(struct ft_at *at, enum ft_op op, int kind, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_extreme(struct ft_at *at, bool largest, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_compare(struct ft_at *at, enum ft_compare kind, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_logic(struct ft_at *at, enum ft_logic kind, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_where(struct ft_at *at, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_cast(struct ft_at *at, enum ft_cast to, struct ft_err *err);
/* Arithmetic on integers, not all of them known; Neg, Abs and Sign of integers (import_logic.c). */
FT_MUST_CHECK enum ft_status ft_import_int_binary(struct ft_at *at, enum ft_op op, int kind,
                                                  struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_import_int_unary(struct ft_at *at, struct ft_err *err);
/* Element type of attribute `name`, an ONNX type; *out stays when it is not given. */
FT_MUST_CHECK enum ft_status ft_at_cast_to(struct ft_at *at, const char *name, enum ft_cast *out,
                                           struct ft_err *err);
/* Output 1 of a MaxPool over x that gave y; the mask of a DROPOUT, of ones when rng is FT_NO_VALUE
 * (import_index.c). */
FT_MUST_CHECK enum ft_status ft_import_max_indices(struct ft_at *at, ft_value x, ft_value y,
                                                   struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_import_dropout_mask(struct ft_at *at, const struct ft_attrs *drop,
                                                    ft_value rng, struct ft_err *err);
/* `v` wrapped to the integer type that input 0 has in the file. */
FT_MUST_CHECK enum ft_status ft_at_wrapped(struct ft_at *at, ft_value v, ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_transpose(struct ft_at *at, const int *perm, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_concat(struct ft_at *at, int axis, struct ft_err *err);
struct ft_host_slice { /* `count` elements of an axis: start, start + step, ... */
    int axis;
    int64_t start, count, step;
};
FT_MUST_CHECK enum ft_status ft_fold_slice(struct ft_at *at, const struct ft_host *x,
                                           const struct ft_host_slice *slice, const struct ft_host **out,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_gather(struct ft_at *at, int axis, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_fold_expand(struct ft_at *at, const struct ft_host *x, int rank,
                                            const int64_t *dims, const struct ft_host **out,
                                            struct ft_err *err);

/* What is known becomes the constant slot->as_const. */
FT_MUST_CHECK enum ft_status ft_import_known(struct ft_import *im, struct ft_slot *slot, struct ft_err *err);
/* ---- nested graphs: If and Loop (import_flow.c) */
/* Names that graphs inside a node read become its inputs. */
FT_MUST_CHECK enum ft_status ft_import_outer_inputs(struct ft_import *im, struct ft_err *err);
/* Are all needed ops in the table? (onnx.c) */
FT_MUST_CHECK enum ft_status ft_import_check_ops(const struct ft_import *im, struct ft_err *err);
/* Convert the needed nodes, in order. */
FT_MUST_CHECK enum ft_status ft_import_run(struct ft_import *im, struct ft_err *err);

/* Whole import. */
FT_MUST_CHECK enum ft_status ft_import_links(struct ft_import *im,
                                             struct ft_err *err); /* slots, needed, order */
#endif
