/*
 * direct.h - convolutions of our own, channels last, without groups; private to kernels/cpu/.
 *
 * Products of register tiles, 6 pixels x 16 features summed over taps and channels, that read the source
 * where it lies (no im2col), or copied closer together where its pixels are far apart. Each result is summed
 * in the order of taps, then channels, in parts of 256; each element of a weight's gradient over the pixels
 * in order, or over eight lanes of them: whatever the threads, the same bits. Taps outside x are left out:
 * they never meet an infinity.
 *
 * The rule, behind winograd.h's: Debian's oneDNN 2.6 is made for AVX-512. Where the widest set is AVX2, these
 * are ours, from 64 channels on, with what bench_conv showed for the layers of ResNets on two Zen 3 cores
 * (batch 16, GFLOP/s of ours and oneDNN's, beside a product of matrices at 155 to 185): several taps: forward
 * 157 to 180 and 58 to 155, gradient of data 120 to 169 and 93 to 167, of weights 100 to 143 and 50 to 114;
 * one tap: forward with a residual, which in a ResNet-50 oneDNN computes at 72 to 114; the gradient of data
 * of 512 and more channels of x, 141 to 168 and 120 to 160; of weights from 256 channels of x on, 96 to 130
 * and 74 to 128. Other windows of one tap, and the 3 channels of a first layer, oneDNN does faster. Between 3
 * and 64 channels, and with other sets, nobody has measured: oneDNN's. Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_DIRECT_H
#define FT_KERNELS_CPU_DIRECT_H

#include "kernels/cpu/cpu.h"

/* CONV_BWD_WEIGHT: the rule, or what cpu->direct says. */
bool ft_cpu_is_direct_weight(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_direct_weight(struct ft_device *device, const struct ft_call *call,
                                                  struct ft_kernel **kernel, size_t *scratch,
                                                  struct ft_err *err);
/* Can this CONV or CONV_BWD_DATA be ours (channels last, no groups)? And shall it: the rule, or what
 * cpu->direct says? */
bool ft_cpu_can_direct(const struct ft_call *call);
bool ft_cpu_is_direct(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_direct(struct ft_device *device, const struct ft_call *call,
                                           struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

#endif
