/*
 * pad.h - rows that pick elements by one list of positions an axis; private to kernels/cpu/.
 *
 * Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_PAD_H
#define FT_KERNELS_CPU_PAD_H

#include "kernels/cpu/cpu.h"

/* SLICE and PAD_LIKE in steps other than 1. */
FT_MUST_CHECK enum ft_status ft_cpu_strided(struct ft_device *device, const struct ft_call *call,
                                            struct ft_kernel **kernel, struct ft_err *err);

#endif
