/*
 * kernel.h - the only door to the kernels: devices, ops, prepared kernels.
 *
 * Life of a kernel: ft_op_infer() checks types once for all devices; ft_kernel_prepare() on a device fixes
 * shapes and layouts, does all slow work (oneDNN primitives) and says how much scratch it wants;
 * ft_kernel_run() only queues. Nothing is allocated by ft_kernel_run() except inside oneDNN itself (it has no
 * hook). What a device lacks comes back as FT_UNSUPPORTED naming op and device: no silent fallback.
 *
 * Devices: `ref` plain loops; all floats are FT_F64 there (the oracle of every other device).
 *          `cpu` oneDNN and vector code, FT_F32. CUDA is a plug-in later: the same table.
 * Threads: one thread owns a device and everything made from it.
 */
#ifndef FT_KERNELS_KERNEL_H
#define FT_KERNELS_KERNEL_H

#include "kernels/type.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ft_op {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) FT_OP_##NAME,
#include "kernels/ops.def"
#undef FT_OP
    FT_OP_COUNT
};
enum { FT_MAX_OUTPUTS = 5 }; /* of any row */

/* Functions of one element: a.kind of the rows MAP and MAP_BWD. */
enum ft_map {
#define FT_MAP(NAME, name, value, slope) FT_MAP_##NAME,
#include "kernels/maps.def"
#undef FT_MAP
    FT_MAP_COUNT
};
const char *ft_map_name(enum ft_map map);
/* The function in double, as `ref` computes it; constants are folded with it. */
double ft_map_value(enum ft_map map, double x, double a, double b);

enum ft_reduce_kind { FT_FOLD_MAX, FT_FOLD_MIN, FT_FOLD_PROD, FT_FOLD_LOG_SUM_EXP, FT_FOLD_COUNT };
enum ft_distance { FT_DIST_EUCLIDEAN, FT_DIST_SQEUCLIDEAN };
enum ft_miner {
    FT_MINER_NONE,            /* all triplets (PML without a miner; TripletMarginMiner cannot express it) */
    FT_MINER_MARGIN_ALL,      /* PML TripletMarginMiner(type_of_triplets="all"): d_an - d_ap <= margin */
    FT_MINER_MARGIN_HARD,     /* ... and d_an - d_ap <= 0 */
    FT_MINER_MARGIN_SEMIHARD, /* ... and d_an - d_ap > 0 */
    FT_MINER_MARGIN_EASY,     /* d_an - d_ap > margin */
    FT_MINER_BATCH_HARD,      /* PML BatchHardMiner: hardest positive and hardest negative of each anchor */
    FT_MINER_FACENET_SEMIHARD /* sentence-transformers' BatchSemiHardTripletLoss: for each (a, p) the nearest
                               * negative farther than p; if there is none, the farthest negative */
};
/* Of rows with integers and booleans. Unsigned 64-bit integers are not told apart from signed ones. */
enum ft_cast {
    FT_CAST_FLOAT,
    FT_CAST_BOOL,
    FT_CAST_I64,
    FT_CAST_I32,
    FT_CAST_I16,
    FT_CAST_I8,
    FT_CAST_U32,
    FT_CAST_U16,
    FT_CAST_U8
};
enum ft_compare { FT_EQUAL, FT_LESS, FT_LESS_OR_EQUAL, FT_GREATER, FT_GREATER_OR_EQUAL };
enum ft_logic { FT_LOGIC_NOT, FT_LOGIC_AND, FT_LOGIC_OR, FT_LOGIC_XOR };
enum ft_scatter { FT_SCATTER_SET, FT_SCATTER_ADD, FT_SCATTER_MUL, FT_SCATTER_MAX, FT_SCATTER_MIN };
enum { FT_CUMSUM_EXCLUSIVE = 1, FT_CUMSUM_REVERSE = 2 };
enum ft_reducer { FT_REDUCE_AVG_NON_ZERO, FT_REDUCE_MEAN };
/* What a sequence's tokens become; the names of sentence-transformers in brackets. */
enum ft_seq_pool {
    FT_SEQ_MEAN,          /* sum / max(count, 1e-9) */
    FT_SEQ_MAX,           /* a NaN wins */
    FT_SEQ_FIRST,         /* the first token (cls) */
    FT_SEQ_LAST,          /* the last one (lasttoken) */
    FT_SEQ_WEIGHTED_MEAN, /* weights 1, 2, ... from the first token on, holes counted (weightedmean) */
    FT_SEQ_MEAN_SQRT_LEN, /* sum / sqrt(count) (mean_sqrt_len_tokens) */
    FT_SEQ_COUNT
};
enum ft_pad { FT_PAD_CONSTANT, FT_PAD_REFLECT, FT_PAD_EDGE, FT_PAD_WRAP };

/* What CONV and MATMUL do with a sum before they store it: y = act(sum + bias + residual). Plans set it
 * (graph/plan_fuse.c); in canonical graphs it is zero. */
enum ft_act {
    FT_ACT_NONE,
    FT_ACT_RELU,
    FT_ACT_LEAKY_RELU, /* a.act_a: slope */
    FT_ACT_CLIP,       /* a.act_a .. a.act_b, both finite */
    FT_ACT_SIGMOID,
    FT_ACT_TANH,
    FT_ACT_GELU, /* x Phi(x) */
    FT_ACT_GELU_TANH,
    FT_ACT_SILU,       /* x sigmoid(act_a x) */
    FT_ACT_HARD_SWISH, /* x relu6(x + 3) / 6 */
    FT_ACT_COUNT
};

struct ft_window { /* spatial part of conv and pool; unused axes are zero */
    int rank;
    int64_t kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
    int64_t out[3]; /* pools: output extents when fixed by the importer (ceil_mode), else 0 = computed;
                     * conv_bwd_data without its third input: extents of dx */
};

/* All attributes of all ops in one plain struct; a row's comment says which it reads. Zero it first (memset):
 * graphs compare and hash it bytewise. */
struct ft_attrs {
    struct ft_window window;
    int64_t group;
    struct ft_dim shape[FT_MAX_RANK];
    int shape_rank;
    int axes_count;
    int axes[FT_MAX_RANK]; /* >= 0 */
    int perm[FT_MAX_RANK];
    int axis; /* >= 0 */
    int keepdims;
    int trans_a, trans_b;
    int count_include_pad;
    int kind;
    int64_t start, count, offset, node;
    int64_t step; /* 0 means 1 */
    int64_t pad_begin[FT_MAX_RANK], pad_end[FT_MAX_RANK];
    float alpha, beta, eps, momentum, lo, hi;
    float margin, miner_margin;
    float act_a, act_b;
    enum ft_act act;
    int residual; /* the last input is a tensor of the output's shape that is added */
    int int8;     /* MATMUL: computed as int8.h says. Plans set it (graph/plan_precision.c) */
    enum ft_miner miner;
    enum ft_reducer reducer;
    /* ATTENTION that reads random numbers: the probability that a weight is dropped. With `drops`, which only
     * ft_graph_train_form() reads: training drops output 0 of the row (of ATTENTION its weights) with that.
     */
    float dropout;
    int drops;
};

struct ft_op_info {
    const char *name;
    int inputs_min, inputs_max, outputs;
    uint32_t shape_only;
};
const struct ft_op_info *ft_op_info(enum ft_op op);

/* Shape and type rules, the same for graph (symbols) and kernels (known). Fills out[0 .. outputs) row-major.
 * FT_INVALID says what is wrong in terms of the op's inputs ("conv: x has 3 channels, w wants 4 x group 1").
 */
FT_MUST_CHECK enum ft_status ft_op_infer(enum ft_op op, const struct ft_attrs *attrs,
                                         const struct ft_type *in, int n_in, struct ft_type *out,
                                         struct ft_err *err);

/* ---- devices */
struct ft_device; /* opaque */
/* name: "cpu", "ref", or "auto" (= cpu). threads 0 = as many as processors. FT_NOT_FOUND for an unknown name,
 * FT_UNAVAILABLE for "cuda". *device is owned by the caller: ft_device_close(), after all its kernels. */
FT_MUST_CHECK enum ft_status ft_device_open(const char *name, int threads, struct ft_device **device,
                                            struct ft_err *err);
void ft_device_close(struct ft_device *device);
const char *ft_device_name(const struct ft_device *device);
enum ft_dtype ft_device_float(
    const struct ft_device *device); /* what FT_F32 of a graph is stored as: F64 on ref */
/* Does the device have what plans fuse: epilogues of products (enum ft_act), FOLD_BATCHNORM? `ref` computes a
 * graph as it is written. */
bool ft_device_fuses(const struct ft_device *device);

/* ---- precision
 * On a device that computes in FT_PRECISION_BF16 or _EMULATED, plans store values between steps as FT_BF16
 * (graph/plan_precision.c) and every kernel takes any of its float operands as such: they are widened before
 * anything is done with them, results are rounded once, to the nearest, ties to even. Sums are float or wider
 * as ever. On FT_PRECISION_BF16 convolutions and matrix products whose x, dy, a, b and w are FT_BF16 are the
 * processor's own, but for shapes that it lacks; elsewhere they are widened too (slow; the same values up to
 * the order of sums). oneDNN's gradient of weights in bf16 multiplies dy with the zeros around x: an infinity
 * of dy is a NaN of taps that in floats it does not reach. */
enum ft_precision {
    FT_PRECISION_F32,
    FT_PRECISION_BF16,
    FT_PRECISION_BF16_EMULATED,
    FT_PRECISION_INT8, /* values are floats; products with weights are computed as int8.h says. No training */
    FT_PRECISION_COUNT
};
const char *ft_precision_name(enum ft_precision precision); /* f32 bf16 bf16-emulated int8 */
/* FT_INVALID: no such name. */
FT_MUST_CHECK enum ft_status ft_precision_parse(const char *name, enum ft_precision *precision,
                                                struct ft_err *err);
/* Before anything else is made from the device. FT_UNAVAILABLE: the processor lacks the instructions for
 * FT_PRECISION_BF16; says which. `ref` takes all: it rounds. */
FT_MUST_CHECK enum ft_status ft_device_set_precision(struct ft_device *device, enum ft_precision precision,
                                                     struct ft_err *err);
enum ft_precision ft_device_precision(const struct ft_device *device); /* FT_PRECISION_F32 at first */
/* What its user should know about that precision on this processor: that it is slower than f32. NULL:
 * nothing.
 */
const char *ft_device_precision_note(const struct ft_device *device);

/* Device memory, zeroed, 64-byte aligned; copies complete before they return. */
FT_MUST_CHECK enum ft_status ft_device_alloc(struct ft_device *device, size_t bytes, void **data,
                                             struct ft_err *err);
void ft_device_free(struct ft_device *device, void *data);
FT_MUST_CHECK enum ft_status ft_device_upload(struct ft_device *device, void *to, const void *from,
                                              size_t bytes, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_device_download(struct ft_device *device, void *to, const void *from,
                                                size_t bytes, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_device_wait(struct ft_device *device,
                                            struct ft_err *err); /* all queued work is done */

/* ---- kernels */
struct ft_kernel; /* opaque */
/* Which layouts a device wants: in[i] / out[i] are filled with the wanted layout of each rank-4 float
 * operand; *follow = true when any one layout does as long as all rank-4 operands share it (elementwise). */
void ft_kernel_layouts(const struct ft_device *device, enum ft_op op, const struct ft_attrs *attrs, int n_in,
                       enum ft_layout *in, enum ft_layout *out, bool *follow);

/* One call with known types, layouts included. The types are copied. *scratch = bytes wanted at run time
 * (64-byte aligned, contents lost between runs). *kernel is owned by the caller: ft_kernel_free(). */
struct ft_call {
    enum ft_op op;
    struct ft_attrs attrs;
    int n_in;
    const struct ft_type *in;
    const struct ft_type *out;
};
FT_MUST_CHECK enum ft_status ft_kernel_prepare(struct ft_device *device, const struct ft_call *call,
                                               struct ft_kernel **kernel, size_t *scratch,
                                               struct ft_err *err);
/* May y's bytes be those of the residual, the last input of a CONV or MATMUL? Costs no kernel. */
bool ft_kernel_adds_in_place(const struct ft_device *device, const struct ft_call *call);
/* What the kernel of a call takes beside its operands, where that is much and known without making one: zeros
 * else. Costs no kernel. */
struct ft_kernel_room {
    size_t scratch; /* as ft_kernel_prepare() will say */
    size_t packed;  /* what it packs of a weight, beyond one copy of it */
};
struct ft_kernel_room ft_kernel_room(const struct ft_device *device, const struct ft_call *call);

/* version: a number that changes whenever the data change; equal (data, version) lets the kernels of a device
 * keep a packed copy of a weight, one for all of them. 0 = unknown, pack again each time. */
struct ft_arg {
    void *data;
    uint64_t version;
};
/* Queue one run. Pointers must stay valid until ft_device_wait(); shape_only inputs may be NULL. */
FT_MUST_CHECK enum ft_status ft_kernel_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                           const struct ft_arg *out, void *scratch, struct ft_err *err);
void ft_kernel_free(struct ft_kernel *kernel);

/* ---- chains: element-wise rows over tensors of one shape and layout, run together a tile at a time
 * The same bits as the rows one by one; results that no row outside reads never reach memory. Only what is
 * stored as FT_BF16 is rounded to it: a row inside reads the float. Inputs are of
 * that shape or broadcast to it. An output may lie in the memory of an input of its own type that no row
 * after the one that makes it reads. */
enum { FT_CHAIN_INPUTS = 12, FT_CHAIN_OPS = 16, FT_CHAIN_OUTPUTS = 4 };
struct ft_chain_op {
    enum ft_op op;
    const struct ft_attrs *attrs;
    int in[2]; /* number of an input, or n_in + number of an earlier row; in[1] = -1: one operand */
};
struct ft_chain {
    int n_in, n_out, n_ops;
    const struct ft_type *in;
    const struct ft_type *out; /* all of one shape and layout */
    const struct ft_chain_op *ops;
    const int *results; /* of each output: the number of its row */
};
/* Can the row be part of a chain on this device? (EXPAND_TO as a copy of its first input, broadcast.) */
bool ft_chain_takes(const struct ft_device *device, enum ft_op op);
/* As ft_kernel_prepare(); run and freed alike. */
FT_MUST_CHECK enum ft_status ft_chain_prepare(struct ft_device *device, const struct ft_chain *chain,
                                              struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

#ifdef __cplusplus
}
#endif
#endif
