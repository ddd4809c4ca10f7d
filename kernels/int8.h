/*
 * int8.h - how a product is computed in 8 bits (MATMUL with a.int8), the same numbers on every device.
 *
 * A line (a row of a, a column of b) becomes integers q = rint(x * inverse), ties to even, with
 * inverse = levels / most and most = the largest |x| of the line: x is about q * scale, scale = most /
 * levels. A column of b, a weight, has 127 levels: a signed byte. A row of a, made anew in each run, has as
 * many as 16 bits hold and as cannot overflow the sum: |sum of `depth` products| <= depth * levels * 127 <=
 * INT32_MAX, which holds for every part of the sum too, so sums are exact in any order: the same bits for one
 * row alone and in a batch, with any number of threads, in every instruction set. Then, in floats (ref:
 * doubles), y = act(alpha * sum * scale_a * scale_b + bias + residual).
 *
 * A line with a NaN or an infinity has scale NaN, so all that is made of it is NaN. A line whose numbers are
 * all below 1e-30 counts as zeros. Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_INT8_H
#define FT_KERNELS_INT8_H

#include <math.h>
#include <stdint.h>

enum { FT_INT8_LEVELS = 127 };                                              /* of a weight */
enum { FT_INT8_DEPTH_MAX = INT32_MAX / (FT_INT8_LEVELS * FT_INT8_LEVELS) }; /* 133,144 */

/* Of rows of a. At least 127, as depth <= FT_INT8_DEPTH_MAX. */
static inline int32_t ft_int8_levels(int64_t depth)
{
    int64_t levels = INT32_MAX / (FT_INT8_LEVELS * depth);
    return levels < INT16_MAX ? (int32_t)levels : INT16_MAX;
}

struct ft_int8_line {
    float inverse, scale;
};

/* most: of the line; NaN or an infinity if it has one. */
static inline struct ft_int8_line ft_int8_line_of(float most, int32_t levels)
{
    struct ft_int8_line line = {0, 0};
    if (!(most <= 3.40282347e38F)) {
        line.scale = NAN;
    } else if (most >= 1e-30F) {
        line.inverse = (float)levels / most;
        line.scale = most / (float)levels;
    }
    return line;
}

/* Of a line of finite numbers. */
static inline int32_t ft_int8_of(float x, struct ft_int8_line line)
{
    float y = x * line.inverse;
    return (int32_t)rintf(y);
}

#endif
