/*
 * gemm.h - products of float matrices of our own; private to kernels/cpu/.
 *
 * Register tiles of 6 rows and vec->product_cols columns, summed in the order of the depth in parts of 384:
 * whatever the threads, the same bits. b is packed into panels, a parameter once a version and for all
 * kernels (packs.h); bias and residual are added when a tile is first stored, the activation follows a block
 * of rows.
 *
 * The rule: as for convolutions (direct.h), where the widest set is AVX2; one b for all rows, at least 6
 * of them, whole panels of columns. MiniLM's layers, two Zen 3 cores, GFLOP/s of ours and of Debian's oneDNN
 * 2.6 side by side: 3,328 tokens 88 and 78, 512 tokens 85 and 75, 16 tokens 40 and 11, gradients of weights
 * over 4,935 tokens see tools/bench text. Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_GEMM_H
#define FT_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu.h"

bool ft_cpu_is_gemm(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_gemm(struct ft_device *device, const struct ft_call *call,
                                         struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);
/* y = act(y) of n floats, e->act, as a product ends. */
void ft_cpu_act(const struct ft_vec *vec, const struct ft_attrs *e, float *y, size_t n);
#endif
