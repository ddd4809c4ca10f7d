/*
 * direct.h - convolutions of our own, channels last, without groups; private to kernels/cpu/.
 *
 * Products of register tiles, 6 pixels x 16 features summed over taps and channels, that read x where it lies
 * (no im2col). Each result is summed in the order of taps, then channels, whatever the threads. Taps outside
 * x are left out: they never meet an infinity.
 *
 * The rule: Debian's oneDNN 2.6 is made for AVX-512. Where the widest set is AVX2, ResNets' layers with
 * windows of several taps over 64 and more channels take ours 0.55 to 0.85 of oneDNN's time; one tap, and the
 * 3 channels of a first layer, oneDNN does faster. Between 3 and 64 channels, and with other sets, nobody has
 * measured: oneDNN's. bench_conv measures both. Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_DIRECT_H
#define FT_KERNELS_CPU_DIRECT_H

#include "kernels/cpu/cpu.h"

/* CONV_BWD_WEIGHT: the rule, or what cpu->direct says. */
bool ft_cpu_is_direct_weight(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_direct_weight(struct ft_device *device, const struct ft_call *call,
                                                  struct ft_kernel **kernel, size_t *scratch,
                                                  struct ft_err *err);
/* Can this CONV be ours (channels last, no groups)? And shall it: the rule, or what cpu->direct says? */
bool ft_cpu_can_direct(const struct ft_call *call);
bool ft_cpu_is_direct(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_direct(struct ft_device *device, const struct ft_call *call,
                                           struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

#endif
