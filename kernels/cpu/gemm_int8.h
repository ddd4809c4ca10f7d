/*
 * gemm_int8.h - products of floats with weights in 8 bits (kernels/int8.h); private to kernels/cpu/.
 *
 * Weights are quantised when they are packed, once a version (packs.h); rows of a block at a time, into
 * scratch. Register tiles are gemm.h's; a tile passes the whole depth, for a panel of bytes is a quarter of
 * one of floats and stays in the first-level cache up to a depth of about 1,500. Neighbours of the depth are
 * multiplied as 16-bit integers (vec_int8.inc): of AVX2's other instruction for bytes sums of two saturate;
 * its speed was not measured. Bytes were measured against weights packed as 16 bits: as fast, at half the
 * memory. One Zen 3 core, panels in its cache: 145 GOP/s, where floats make 87 GFLOP/s. VNNI was never timed:
 * llvm-mca's model of Ice Lake gives 7.9 cycles a step of the depth for 11.1.
 * Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_GEMM_INT8_H
#define FT_KERNELS_CPU_GEMM_INT8_H

#include "kernels/cpu/cpu.h"

/* Of a MATMUL with a.int8, whatever its shape. */
FT_MUST_CHECK enum ft_status ft_cpu_gemm_int8(struct ft_device *device, const struct ft_call *call,
                                              struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);
#endif
