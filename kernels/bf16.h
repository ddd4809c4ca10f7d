/*
 * bf16.h - one number at a time: the upper half of a float32, rounded to the nearest, ties to even.
 *
 * The same in every instruction set and on every device (kernels/cpu/vec_bf16.inc has the loops). Denormals
 * stay, NaN stays NaN. Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_BF16_H
#define FT_KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

static inline uint16_t ft_bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    uint32_t nan = bits | 0x400000U; /* the payload's upper bits may be zero */
    return (uint16_t)(((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded) >> 16);
}

static inline float ft_bf16_to(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

#endif
