/*
 * cpu.h - what the kernels of device `cpu` share: its state, how a kernel is made, how flat work is split.
 *
 * Work is done when ft_kernel_run() returns; the wait of the device has nothing to wait for.
 * Thread-safety: one thread owns a device; it alone enters OpenMP.
 */
#ifndef FT_KERNELS_CPU_CPU_H
#define FT_KERNELS_CPU_CPU_H

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec.h"
#include "kernels/internal.h"

struct dnnl_engine;
struct ft_cpu_pack;
struct dnnl_stream;

/* Which convolutions are winograd.h's or direct.h's, and which products gemm.h's: those their rules say;
 * tests force all that they can, without or with winograd.h, or none. */
enum ft_cpu_direct { FT_CPU_DIRECT_RULE, FT_CPU_DIRECT_ALWAYS, FT_CPU_WINOGRAD_ALWAYS, FT_CPU_DIRECT_NEVER };

struct ft_cpu {
    struct ft_device base;
    int threads;
    const struct ft_vec *vec;
    int64_t grain; /* FT_CPU_GRAIN; tests make it small so that small shapes run on several threads */
    enum ft_cpu_direct direct;
    struct ft_cpu_pack *packs; /* packs.h: those in use */
    struct dnnl_engine *engine;
    struct dnnl_stream *stream;
};

/* Each thread gets at least this many elements touched, or FT_CPU_FLOPS times as many operations: less is not
 * worth waking it (20 to 50 us when OpenMP does not spin). */
#define FT_CPU_GRAIN ((int64_t)65536)
enum { FT_CPU_FLOPS = 32 };

static inline struct ft_cpu *ft_cpu_of(struct ft_device *device)
{
    return (struct ft_cpu *)(void *)device;
}

typedef enum ft_status (*ft_cpu_run)(struct ft_kernel *kernel, const struct ft_arg *in,
                                     const struct ft_arg *out, void *scratch, struct ft_err *err);
/* A zeroed kernel of `size` bytes that begins with a struct ft_kernel; freed by ft_free() unless its free is
 * changed.
 * *(struct ft_kernel **)kernel is set. */
FT_MUST_CHECK enum ft_status ft_cpu_kernel(struct ft_device *device, const struct ft_call *call, size_t size,
                                           ft_cpu_run run, struct ft_kernel **kernel, struct ft_err *err);

/* ADD, SUB, MUL, DIV, POW, MAXIMUM, MINIMUM and MOD of integers. */
FT_MUST_CHECK enum ft_status ft_cpu_integers(struct ft_device *device, const struct ft_call *call,
                                             struct ft_kernel **kernel, struct ft_err *err);

/* bf16.c */
bool ft_cpu_takes_bf16(const struct ft_device *device, const struct ft_call *call);
void ft_cpu_widen(struct ft_device *device, const uint16_t *from, void *floats, int64_t n);
void ft_cpu_narrow(struct ft_device *device, const void *floats, uint16_t *to, int64_t n);
/* A copy (RESHAPE) from one to the other. */
FT_MUST_CHECK enum ft_status ft_cpu_convert(struct ft_device *device, const struct ft_call *call,
                                            struct ft_kernel **kernel, struct ft_err *err);

/* chain.c */
bool ft_cpu_chain_takes(enum ft_op op);
FT_MUST_CHECK enum ft_status ft_cpu_chain(struct ft_device *device, const struct ft_chain *chain,
                                          struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

/* How many threads work of `cost` elements gets: at least 1. */
int ft_cpu_threads(const struct ft_cpu *cpu, int64_t cost);
/* Split n floats into ranges that begin at multiples of 64 (of 4 cache lines, whole Philox blocks). */
void ft_cpu_flat(const struct ft_cpu *cpu, int64_t n, ft_parallel_body body, void *context);
/* ft_parallel_for() over items of `item_cost` elements each. */
void ft_cpu_items(const struct ft_cpu *cpu, int64_t items, int64_t item_cost, ft_parallel_body body,
                  void *context);

/* Into how many parts a sum over this many elements is cut; of the shape alone, so threads do not change its
 * bits. */
enum { FT_CPU_LANES = 32 };
int64_t ft_cpu_lanes(int64_t elements);

/* Product of extents from .. to - 1. */
int64_t ft_cpu_product(const struct ft_type *t, int from, int to);
/* FT_UNSUPPORTED when an operand is channels-last; for the rows that want row-major. Inputs whose data are
 * not read do not matter, here and below. */
FT_MUST_CHECK enum ft_status ft_cpu_row_major(const struct ft_call *call, struct ft_err *err);
/* FT_UNSUPPORTED when rank-4 operands do not share one layout; for the rows whose layout follows. */
FT_MUST_CHECK enum ft_status ft_cpu_one_layout(const struct ft_call *call, struct ft_err *err);

static inline const float *ft_in(const struct ft_arg *args, int i)
{
    return (const float *)args[i].data;
}

static inline float *ft_out(const struct ft_arg *args, int i)
{
    return (float *)args[i].data;
}

static inline int64_t ft_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t ft_larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* How many parts of `size` hold n. */
static inline int64_t ft_parts_of(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

#endif
