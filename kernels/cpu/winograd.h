/*
 * winograd.h - convolutions of 3 x 3 taps with fewer products: Winograd's F(4 x 4, 3 x 3), channels last,
 * without groups, strides and dilations; private to kernels/cpu/.
 *
 * A tile of 4 x 4 pixels of y needs 6 x 6 of x. Both, and the weight, are evaluated at the points 0, 1, -1,
 * 2, -2 and infinity along each axis (B, G and A of Lavin and Gray, "Fast Algorithms for Convolutional Neural
 * Networks", 2016), which leaves 36 products of matrices, (tiles, channels) times (channels, features): 36
 * multiplications where 144 were. The gradient of data is the same with the weight turned round and
 * transposed; that of the weight sums 36 products of x's and dy's squares over all tiles and transforms once.
 *
 * Rounding: a result errs by some 2e-6 of the size of its tile's sums (128 units, tests/kernel_cases.h), ten
 * times a plain sum's. An infinity, a NaN or numbers near the largest floats spoil the tiles they are in, not
 * only the results whose windows they lie in. Bits depend on neither batch nor threads. The
 * transformed weight is 4 times its size; all kernels of a device share it (packs.h).
 *
 * The rule: as for direct.h, where the widest set is AVX2; whole panels of channels on both sides, and 32;
 * tiles that y fills so far that they save half of the products, which leaves out 1 x 1, 2 x 2 and 5 x 5
 * pixels (128 images, 512 channels, forward: 17, 59 and 90, with direct.h 82, 119 and 84; of 3 x 3 pixels 140
 * and 82). bench_conv, two Zen 3 cores, GFLOP/s as a plain sum counts them, of these, of direct.h and of
 * Debian's oneDNN 2.6:
 *
 * 16 images, 64 channels at 56 x 56: forward 492, 179, 141; of data 429, 164, 155; of weights 408, 147, 84.
 *
 * 16 images, 512 channels at 7 x 7: forward 318, 150, 152; of data 433, 162, 163; of weights 229, 152, 84.
 *
 * 16 images, 16 channels at 112 x 112: forward 211, 120, 149; of data 186, 93, 121; of weights 80, 35, 61.
 *
 * 64 images, 32 channels to 64 at 4 x 4: forward 297, 153, 109; of data 317, 154, 163; of weights 207, 88,
 * 79; at 16 x 16: 434, 170, 178; 356, 156, 132; 290, 135, 145.
 *
 * One image forward, 64 channels at 56 x 56: 445, 171, 160; 512 channels at 7 x 7: 100, 114, 94.
 *
 * With 16 to 31 channels they would be faster too, but networks that small are where their rounding shows: a
 * unit that it brings over ReLU's edge moves the gradient of a layer of few units by percents
 * (tests/oracle/test_train_oracle.py).
 *
 * Thread-safety: as the device.
 */
#ifndef FT_KERNELS_CPU_WINOGRAD_H
#define FT_KERNELS_CPU_WINOGRAD_H

#include "kernels/cpu/packs.h"

/* CONV and its gradients: the rule, or what cpu->direct says. */
bool ft_cpu_is_winograd(const struct ft_cpu *cpu, const struct ft_call *call);
FT_MUST_CHECK enum ft_status ft_cpu_winograd(struct ft_device *device, const struct ft_call *call,
                                             struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);
/* Of a call that ft_cpu_is_winograd(): ft_kernel_room(). */
struct ft_kernel_room ft_cpu_winograd_room(const struct ft_cpu *cpu, const struct ft_call *call);
/* A panel of the weight, for packs.h: (places, depth, product_cols). */
void ft_cpu_winograd_panel(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                           const float *weight, int64_t panel, float *to);
/* CONV_BWD_WEIGHT */
FT_MUST_CHECK enum ft_status ft_cpu_winograd_weight(struct ft_device *device, const struct ft_call *call,
                                                    struct ft_kernel **kernel, size_t *scratch,
                                                    struct ft_err *err);
struct ft_kernel_room ft_cpu_winograd_weight_room(const struct ft_cpu *cpu, const struct ft_call *call);

#endif
