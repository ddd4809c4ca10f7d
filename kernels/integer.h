/*
 * integer.h - what integer arithmetic means on every device: 64 bits that wrap, and no fault of the
 * processor.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_INTEGER_H
#define FT_KERNELS_INTEGER_H

#include "kernels/kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline int64_t ft_int_wrap(uint64_t bits)
{
    return (int64_t)bits;
}

static inline int64_t ft_int_divide(int64_t a, int64_t b, bool *fault)
{
    if (b == 0) {
        *fault = true;
        return 0;
    }
    return b == -1 ? ft_int_wrap(0 - (uint64_t)a) : a / b; /* INT64_MIN / -1 traps */
}

static inline int64_t ft_int_modulo(int64_t a, int64_t b, int kind, bool *fault)
{
    if (b == 0) {
        *fault = true;
        return 0;
    }
    int64_t rest = b == -1 ? 0 : a % b;
    return kind == 0 && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline int64_t ft_int_power(int64_t a, int64_t b, bool *fault)
{
    uint64_t result = 1;
    uint64_t base = (uint64_t)a;
    if (b < 0) {
        *fault = *fault || a == 0;
        return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
    }
    for (uint64_t n = (uint64_t)b; n != 0; n >>= 1) {
        result = (n & 1U) != 0 ? result * base : result;
        base *= base;
    }
    return ft_int_wrap(result);
}

/* a op b for ADD, SUB, MUL, DIV, POW, MAXIMUM, MINIMUM, MOD (a.kind is `kind`). *fault is set where the
 * result would be a division by zero. */
static inline int64_t ft_int_binary(enum ft_op op, int kind, int64_t a, int64_t b, bool *fault)
{
    switch ((int)op) {
    case FT_OP_ADD:
        return ft_int_wrap((uint64_t)a + (uint64_t)b);
    case FT_OP_SUB:
        return ft_int_wrap((uint64_t)a - (uint64_t)b);
    case FT_OP_MUL:
        return ft_int_wrap((uint64_t)a * (uint64_t)b);
    case FT_OP_DIV:
        return ft_int_divide(a, b, fault);
    case FT_OP_POW:
        return ft_int_power(a, b, fault);
    case FT_OP_MOD:
        return ft_int_modulo(a, b, kind, fault);
    case FT_OP_MAXIMUM:
        return a > b ? a : b;
    default: /* FT_OP_MINIMUM */
        return a < b ? a : b;
    }
}

/* Truncated toward zero; INT64_MIN for a NaN and for what 64 bits cannot hold. */
static inline int64_t ft_int_of_float(double x)
{
    return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : INT64_MIN;
}

/* The low bits of x as CAST keeps them. */
static inline int64_t ft_int_narrow(int kind, int64_t x)
{
    switch (kind) {
    case FT_CAST_I32:
        return (int32_t)(uint32_t)x;
    case FT_CAST_I16:
        return (int16_t)(uint16_t)x;
    case FT_CAST_I8:
        return (int8_t)(uint8_t)x;
    case FT_CAST_U32:
        return (uint32_t)x;
    case FT_CAST_U16:
        return (uint16_t)x;
    case FT_CAST_U8:
        return (uint8_t)x;
    default: /* FT_CAST_I64 */
        return x;
    }
}

#ifdef __cplusplus
}
#endif
#endif
