/*
 * depthwise.h - the weight gradient of depthwise convolutions, channels last; private to kernels/cpu/.
 *
 * Windows of more than 3 x 3 taps: at those oneDNN 2.6 takes two to five times as long where the processor
 * has no AVX-512. Smaller ones are as fast there. Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_DEPTHWISE_H
#define FT_KERNELS_CPU_DEPTHWISE_H

#include "kernels/cpu/cpu.h"

/* Is this CONV_BWD_WEIGHT one channel to one feature, channels-last, with a window larger than 3 x 3? */
bool ft_cpu_is_depthwise(const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_depthwise_weight(struct ft_device *device, const struct ft_call *call,
                                                     struct ft_kernel **kernel, size_t *scratch,
                                                     struct ft_err *err);

#endif
