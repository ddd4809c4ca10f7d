#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/direct.h"
#include "kernels/cpu/dnnl.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/winograd.h"

/* ---- layouts */

enum wish { WISH_UNSAID, WISH_ROW_MAJOR, WISH_FOLLOW, WISH_CHANNELS_LAST };

/* Every row says what it wants: ft_cpu_open() looks. DROPOUT's random numbers are counted in row-major order.
 */
static const enum wish wishes[FT_OP_COUNT] = {
    [FT_OP_CONV] = WISH_CHANNELS_LAST,
    [FT_OP_CONV_BWD_DATA] = WISH_CHANNELS_LAST,
    [FT_OP_CONV_BWD_WEIGHT] = WISH_CHANNELS_LAST,
    [FT_OP_BATCHNORM] = WISH_CHANNELS_LAST,
    [FT_OP_BATCHNORM_BWD] = WISH_CHANNELS_LAST,
    [FT_OP_BATCHNORM_TRAIN] = WISH_CHANNELS_LAST,
    [FT_OP_BATCHNORM_TRAIN_BWD] = WISH_CHANNELS_LAST,
    [FT_OP_MAXPOOL] = WISH_CHANNELS_LAST,
    [FT_OP_MAXPOOL_BWD] = WISH_CHANNELS_LAST,
    [FT_OP_AVGPOOL] = WISH_CHANNELS_LAST,
    [FT_OP_AVGPOOL_BWD] = WISH_CHANNELS_LAST,
    [FT_OP_RELU] = WISH_FOLLOW,
    [FT_OP_RELU_BWD] = WISH_FOLLOW,
    [FT_OP_LEAKY_RELU] = WISH_FOLLOW,
    [FT_OP_LEAKY_RELU_BWD] = WISH_FOLLOW,
    [FT_OP_SIGMOID] = WISH_FOLLOW,
    [FT_OP_SIGMOID_BWD] = WISH_FOLLOW,
    [FT_OP_TANH] = WISH_FOLLOW,
    [FT_OP_TANH_BWD] = WISH_FOLLOW,
    [FT_OP_CLIP] = WISH_FOLLOW,
    [FT_OP_CLIP_BWD] = WISH_FOLLOW,
    [FT_OP_EXP] = WISH_FOLLOW,
    [FT_OP_LOG] = WISH_FOLLOW,
    [FT_OP_SQRT] = WISH_FOLLOW,
    [FT_OP_NEG] = WISH_FOLLOW,
    [FT_OP_SCALE] = WISH_FOLLOW,
    [FT_OP_MAP] = WISH_FOLLOW,
    [FT_OP_MAP_BWD] = WISH_FOLLOW,
    [FT_OP_ADD] = WISH_FOLLOW,
    [FT_OP_SUB] = WISH_FOLLOW,
    [FT_OP_MUL] = WISH_FOLLOW,
    [FT_OP_DIV] = WISH_FOLLOW,
    [FT_OP_POW] = WISH_FOLLOW,
    [FT_OP_CAST] = WISH_FOLLOW,
    [FT_OP_COMPARE] = WISH_FOLLOW,
    [FT_OP_LOGIC] = WISH_FOLLOW,
    [FT_OP_WHERE] = WISH_FOLLOW,
    [FT_OP_MAXIMUM] = WISH_FOLLOW,
    [FT_OP_MINIMUM] = WISH_FOLLOW,
    [FT_OP_MOD] = WISH_FOLLOW,
    [FT_OP_REDUCE_SUM] = WISH_FOLLOW,
    [FT_OP_REDUCE_MEAN] = WISH_FOLLOW,
    [FT_OP_REDUCE] = WISH_FOLLOW,
    [FT_OP_REDUCE_BWD] = WISH_FOLLOW,
    [FT_OP_SUM_TO] = WISH_FOLLOW,
    [FT_OP_EXPAND_TO] = WISH_FOLLOW,
    [FT_OP_CONCAT] = WISH_FOLLOW,
    [FT_OP_SLICE] = WISH_FOLLOW,
    [FT_OP_PAD_LIKE] = WISH_FOLLOW,
    [FT_OP_PAD] = WISH_FOLLOW,
    [FT_OP_PAD_BWD] = WISH_FOLLOW,
    [FT_OP_SUM_SQUARES] = WISH_FOLLOW,
    [FT_OP_FOLD_BATCHNORM] = WISH_ROW_MAJOR,
    [FT_OP_DROPOUT] = WISH_ROW_MAJOR,
    [FT_OP_GATHER] = WISH_ROW_MAJOR,
    [FT_OP_GATHER_BWD] = WISH_ROW_MAJOR,
    [FT_OP_GATHER_ELEMENTS] = WISH_ROW_MAJOR,
    [FT_OP_GATHER_ND] = WISH_ROW_MAJOR,
    [FT_OP_SCATTER_ELEMENTS] = WISH_ROW_MAJOR,
    [FT_OP_SCATTER_ND] = WISH_ROW_MAJOR,
    [FT_OP_ARG_EXTREME] = WISH_ROW_MAJOR,
    [FT_OP_TOPK] = WISH_ROW_MAJOR,
    [FT_OP_CUMSUM] = WISH_ROW_MAJOR,
    [FT_OP_MAXPOOL_INDICES] = WISH_ROW_MAJOR,
    [FT_OP_MATMUL] = WISH_ROW_MAJOR,
    [FT_OP_ATTENTION] = WISH_ROW_MAJOR,
    [FT_OP_ATTENTION_BWD] = WISH_ROW_MAJOR,
    [FT_OP_ATTENTION_BWD_BIAS] = WISH_ROW_MAJOR,
    [FT_OP_ROPE] = WISH_ROW_MAJOR,
    [FT_OP_POSITIONS] = WISH_ROW_MAJOR,
    [FT_OP_SEQ_POOL] = WISH_ROW_MAJOR,
    [FT_OP_SEQ_POOL_BWD] = WISH_ROW_MAJOR,
    [FT_OP_RESHAPE] = WISH_ROW_MAJOR,
    [FT_OP_RESHAPE_LIKE] = WISH_ROW_MAJOR,
    [FT_OP_TRANSPOSE] = WISH_ROW_MAJOR,
    [FT_OP_LAYERNORM] = WISH_ROW_MAJOR,
    [FT_OP_LAYERNORM_BWD] = WISH_ROW_MAJOR,
    [FT_OP_SOFTMAX] = WISH_ROW_MAJOR,
    [FT_OP_SOFTMAX_BWD] = WISH_ROW_MAJOR,
    [FT_OP_LOG_SOFTMAX] = WISH_ROW_MAJOR,
    [FT_OP_LOG_SOFTMAX_BWD] = WISH_ROW_MAJOR,
    [FT_OP_L2_NORMALIZE] = WISH_ROW_MAJOR,
    [FT_OP_L2_NORMALIZE_BWD] = WISH_ROW_MAJOR,
    [FT_OP_PDIST] = WISH_ROW_MAJOR,
    [FT_OP_PDIST_BWD] = WISH_ROW_MAJOR,
    [FT_OP_TRIPLET] = WISH_ROW_MAJOR,
    [FT_OP_PAIRS] = WISH_ROW_MAJOR,
    [FT_OP_MASKED_MEAN] = WISH_ROW_MAJOR,
    [FT_OP_MASKED_MEAN_BWD] = WISH_ROW_MAJOR,
    [FT_OP_SGD_STEP] = WISH_ROW_MAJOR,
    [FT_OP_ADAM_STEP] = WISH_ROW_MAJOR,
};

static void cpu_layouts(enum ft_op op, const struct ft_attrs *attrs, int n_in, enum ft_layout *in,
                        enum ft_layout *out, bool *follow)
{
    (void)attrs;
    enum wish wish = wishes[op];
    enum ft_layout layout = wish == WISH_CHANNELS_LAST ? FT_CHANNELS_LAST : FT_ROW_MAJOR;
    for (int i = 0; i < n_in; i++) {
        in[i] = layout;
    }
    for (int i = 0; i < ft_op_info(op)->outputs; i++) {
        out[i] = layout;
    }
    *follow = wish == WISH_FOLLOW;
    /* Weights are masters: plain OIHW, packed inside the kernel. */
    if (op == FT_OP_CONV || op == FT_OP_CONV_BWD_DATA) {
        in[1] = FT_ROW_MAJOR;
    }
    if (op == FT_OP_CONV_BWD_WEIGHT) {
        in[2] = FT_ROW_MAJOR;
        out[0] = FT_ROW_MAJOR;
    }
}

/* ---- the device */

static enum ft_status cpu_wait(struct ft_device *device, struct ft_err *err)
{
    (void)device;
    (void)err;
    return FT_OK;
}

static void cpu_close(struct ft_device *device)
{
    struct ft_cpu *cpu = ft_cpu_of(device);
    ft_dnnl_close(cpu);
    ft_free(cpu);
}

/* Ours add the residual with the first part of a sum, or as a pixel is stored; oneDNN adds it last, when y
 * holds other parts. */
static bool cpu_adds_in_place(const struct ft_device *device, const struct ft_call *call)
{
    const struct ft_cpu *cpu = (const struct ft_cpu *)(const void *)device;
    if (call->op == FT_OP_CONV) {
        bool ours = ft_cpu_is_winograd(cpu, call) || ft_cpu_is_direct(cpu, call);
        return call->in[0].dtype == FT_F32 && ours;
    }
    return call->op == FT_OP_MATMUL && call->attrs.int8 == 0 && ft_cpu_is_gemm(cpu, call);
}

static struct ft_kernel_room cpu_room(const struct ft_device *device, const struct ft_call *call)
{
    const struct ft_cpu *cpu = (const struct ft_cpu *)(const void *)device;
    bool conv = call->op == FT_OP_CONV || call->op == FT_OP_CONV_BWD_DATA;
    if (conv && ft_cpu_is_winograd(cpu, call)) {
        return ft_cpu_winograd_room(cpu, call);
    }
    if (call->op == FT_OP_CONV_BWD_WEIGHT && ft_cpu_is_winograd(cpu, call)) {
        return ft_cpu_winograd_weight_room(cpu, call);
    }
    return (struct ft_kernel_room){0};
}

static const struct ft_device_table table = {
    .name = "cpu",
    .float_dtype = FT_F32,
    .fuses = true,
    .prepare =
        {
#define FT_OP(NAME, name, IN_MIN, IN_MAX, OUTPUTS, LIKE) [FT_OP_##NAME] = ft_cpu_##name,
#include "kernels/ops.def"
#undef FT_OP
        },
    .takes_bf16 = ft_cpu_takes_bf16,
    .widen = ft_cpu_widen,
    .narrow = ft_cpu_narrow,
    .check_bf16 = ft_dnnl_check_bf16,
    .bf16_note = ft_dnnl_bf16_note,
    .chain_takes = ft_cpu_chain_takes,
    .prepare_chain = ft_cpu_chain,
    .layouts = cpu_layouts,
    .adds_in_place = cpu_adds_in_place,
    .room = cpu_room,
    .wait = cpu_wait,
    .close = cpu_close,
};

enum ft_status ft_cpu_open(int threads, struct ft_device **device, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_cpu *cpu = NULL;
    *device = NULL;
    FT_TRY(ft_new(1, sizeof *cpu, &cpu, err));
    cpu->base.table = &table;
    for (int op = 0; op < FT_OP_COUNT; op++) {
        assert(wishes[op] != WISH_UNSAID);
    }
    cpu->threads = threads > 0 ? threads : ft_parallel_processors();
    const struct ft_vec *sets[FT_VEC_SET_COUNT] = {NULL};
    cpu->vec = sets[ft_vec_available(sets) - 1];
    cpu->grain = FT_CPU_GRAIN;
    FT_TRY(ft_dnnl_open(cpu, err));
    *device = &cpu->base;
    cpu = NULL;
done:
    if (cpu != NULL) {
        cpu_close(&cpu->base);
    }
    return st;
}

/* ---- kernels */

static void free_plain(struct ft_kernel *kernel)
{
    ft_free(kernel);
}

enum ft_status ft_cpu_kernel(struct ft_device *device, const struct ft_call *call, size_t size,
                             ft_cpu_run run, struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_new(1, size, kernel, err));
    (*kernel)->device = device;
    (*kernel)->op = call->op;
    (*kernel)->run = run;
    (*kernel)->free = free_plain;
    return FT_OK;
}

int ft_cpu_threads(const struct ft_cpu *cpu, int64_t cost)
{
    int64_t worth = cost / cpu->grain;
    worth = worth < cpu->threads ? worth : cpu->threads;
    return worth > 1 ? (int)worth : 1;
}

struct flat {
    int64_t n;
    ft_parallel_body body;
    void *context;
};

enum { FLAT_UNIT = 64 };

static void flat_units(void *context, int thread, int64_t begin, int64_t end)
{
    const struct flat *flat = context;
    int64_t last = end * FLAT_UNIT < flat->n ? end * FLAT_UNIT : flat->n;
    flat->body(flat->context, thread, begin * FLAT_UNIT, last);
}

void ft_cpu_flat(const struct ft_cpu *cpu, int64_t n, ft_parallel_body body, void *context)
{
    struct flat flat = {.n = n, .body = body, .context = context};
    ft_parallel_for(ft_cpu_threads(cpu, n), (n + FLAT_UNIT - 1) / FLAT_UNIT, flat_units, &flat);
}

void ft_cpu_items(const struct ft_cpu *cpu, int64_t items, int64_t item_cost, ft_parallel_body body,
                  void *context)
{
    ft_parallel_for(ft_cpu_threads(cpu, items * item_cost), items, body, context);
}

/* ---- types */

int64_t ft_cpu_product(const struct ft_type *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) {
        n *= ft_extent(t, i);
    }
    return n;
}

enum { LANE_ELEMENTS = 16384 };

int64_t ft_cpu_lanes(int64_t elements)
{
    int64_t lanes = elements / LANE_ELEMENTS;
    lanes = lanes < FT_CPU_LANES ? lanes : FT_CPU_LANES;
    return lanes > 1 ? lanes : 1;
}

/* Operand i of a call, inputs first; NULL if only its shape is read. */
static const struct ft_type *operand(const struct ft_call *call, int i)
{
    if (i >= call->n_in) {
        return &call->out[i - call->n_in];
    }
    uint32_t shape_only = ft_op_info(call->op)->shape_only;
    return i < 32 && (shape_only >> i & 1U) != 0 ? NULL : &call->in[i];
}

enum ft_status ft_cpu_row_major(const struct ft_call *call, struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(call->op);
    for (int i = 0; i < call->n_in + info->outputs; i++) {
        const struct ft_type *t = operand(call, i);
        if (t != NULL && t->layout != FT_ROW_MAJOR) {
            return FT_FAIL(err, UNSUPPORTED, "%s: device cpu takes it row-major only", info->name);
        }
    }
    return FT_OK;
}

enum ft_status ft_cpu_one_layout(const struct ft_call *call, struct ft_err *err)
{
    const struct ft_op_info *info = ft_op_info(call->op);
    const struct ft_type *first = NULL;
    for (int i = 0; i < call->n_in + info->outputs; i++) {
        const struct ft_type *t = operand(call, i);
        if (t == NULL || t->rank != 4) {
            continue;
        }
        if (first != NULL && t->layout != first->layout) {
            return FT_FAIL(err, UNSUPPORTED, "%s: device cpu wants one layout for all operands of rank 4",
                           info->name);
        }
        first = t;
    }
    return FT_OK;
}
