#include <assert.h>
#include <string.h>

#include "executor/codec/safetensors.h"

/* The float of 16 bits of IEEE 754 binary16; exact. */
static float half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t exponent = h >> 10 & 0x1fU;
    uint32_t fraction = h & 0x3ffU;
    uint32_t bits = 0;
    float f = 0.0F;
    if (exponent == 0) { /* zero and subnormals: fraction 2^-24 */
        f = (float)fraction * 0x1p-24F;
        return sign != 0 ? -f : f;
    }
    bits =
        exponent == 31 ? sign | 0x7f800000U | fraction << 13 : sign | (exponent + 112) << 23 | fraction << 13;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float brain(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f = 0.0F;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* One loop a type: `type` is what is read, unaligned, and `value` the float of v. */
#define WIDEN(type, value)                                                                                   \
    for (int64_t i = 0; i < tensor->count; i++) {                                                            \
        type v;                                                                                              \
        memcpy(&v, tensor->data.data + (size_t)i * sizeof v, sizeof v);                                      \
        out[i] = (value);                                                                                    \
    }                                                                                                        \
    return FT_OK

enum ft_status ft_safetensors_floats(const struct ft_tensor *tensor, float *out, struct ft_err *err)
{
    switch (tensor->dtype) {
    case FT_TENSOR_F32:
        if (tensor->count > 0) {
            memcpy(out, tensor->data.data, tensor->data.size);
        }
        return FT_OK;
    case FT_TENSOR_F16:
        WIDEN(uint16_t, half(v));
    case FT_TENSOR_BF16:
        WIDEN(uint16_t, brain(v));
    case FT_TENSOR_F64:
        WIDEN(double, (float)v);
    case FT_TENSOR_BOOL:
        WIDEN(uint8_t, v != 0 ? 1.0F : 0.0F);
    case FT_TENSOR_U8:
        WIDEN(uint8_t, (float)v);
    case FT_TENSOR_I8:
        WIDEN(int8_t, (float)v);
    case FT_TENSOR_U16:
        WIDEN(uint16_t, (float)v);
    case FT_TENSOR_I16:
        WIDEN(int16_t, (float)v);
    case FT_TENSOR_U32:
        WIDEN(uint32_t, (float)v);
    case FT_TENSOR_I32:
        WIDEN(int32_t, (float)v);
    case FT_TENSOR_U64:
        WIDEN(uint64_t, (float)v);
    case FT_TENSOR_I64:
        WIDEN(int64_t, (float)v);
    case FT_TENSOR_F8_E4M3:
    case FT_TENSOR_F8_E5M2:
    case FT_TENSOR_DTYPE_COUNT:
        break;
    }
    return FT_FAIL(err, UNSUPPORTED, "tensor %.200s: 8-bit floats (%s) are not computed with", tensor->name,
                   ft_tensor_dtype_name(tensor->dtype));
}
