#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/prep/internal.h"

static float of_f4(const uint8_t *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static float of_f8(const uint8_t *p)
{
    double v;
    memcpy(&v, p, sizeof v);
    return (float)v;
}

/* IEEE half: 1 sign, 5 exponent, 10 fraction bits. */
static float of_f2(const uint8_t *p)
{
    unsigned bits = p[0] | (unsigned)p[1] << 8;
    int exponent = (int)(bits >> 10 & 31U);
    float fraction = (float)(bits & 1023U);
    float v = 0.0F;
    if (exponent == 31) {
        v = fraction == 0.0F ? INFINITY : NAN;
    } else if (exponent == 0) {
        v = ldexpf(fraction, -24);
    } else {
        v = ldexpf(1024.0F + fraction, exponent - 25);
    }
    return (bits & 0x8000U) != 0 ? -v : v;
}

static float of_u1(const uint8_t *p)
{
    return *p;
}

static float of_i1(const uint8_t *p)
{
    return (float)(int8_t)*p;
}

static float of_b1(const uint8_t *p)
{
    return *p != 0 ? 1.0F : 0.0F;
}

#define FT_OF_INTEGER(name, type)                                                                            \
    static float name(const uint8_t *p)                                                                      \
    {                                                                                                        \
        type v;                                                                                              \
        memcpy(&v, p, sizeof v);                                                                             \
        return (float)v;                                                                                     \
    }
FT_OF_INTEGER(of_i2, int16_t)
FT_OF_INTEGER(of_u2, uint16_t)
FT_OF_INTEGER(of_i4, int32_t)
FT_OF_INTEGER(of_u4, uint32_t)
FT_OF_INTEGER(of_i8, int64_t)
FT_OF_INTEGER(of_u8, uint64_t)

struct dtype_row {
    char dtype[4];
    size_t size;
    float (*read)(const uint8_t *p);
    const char *name; /* NumPy's */
};

static const struct dtype_row *dtype_row(const char *dtype)
{
    static const struct dtype_row rows[] = {
        {"<f4", 4, of_f4, "float32"}, {"<f8", 8, of_f8, "float64"}, {"<f2", 2, of_f2, "float16"},
        {"|u1", 1, of_u1, "uint8"},   {"|i1", 1, of_i1, "int8"},    {"|b1", 1, of_b1, "bool"},
        {"<i2", 2, of_i2, "int16"},   {"<u2", 2, of_u2, "uint16"},  {"<i4", 4, of_i4, "int32"},
        {"<u4", 4, of_u4, "uint32"},  {"<i8", 8, of_i8, "int64"},   {"<u8", 8, of_u8, "uint64"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].dtype, dtype) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

enum ft_status ft_content_floats(const struct ft_content *tensor, float *out, size_t count,
                                 struct ft_err *err)
{
    const struct dtype_row *row = dtype_row(tensor->dtype);
    if (row == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "a tensor of dtype \"%s\" is not read", tensor->dtype);
    }
    assert(tensor->bytes.size == count * row->size);
    for (size_t i = 0; i < count; i++) {
        out[i] = row->read(tensor->bytes.data + i * row->size);
        if (!isfinite(out[i])) {
            return FT_FAIL(err, INVALID, "element %zu of the tensor is not a finite 32-bit number", i);
        }
    }
    return FT_OK;
}

const char *ft_content_shown(const struct ft_content *content, char out[FT_CONTENT_TEXT_BYTES])
{
    static const char *const kinds[] = {"nothing", "text", "a blob", "a tensor", "a uri"};
    if (content->kind != FT_CONTENT_TENSOR) {
        (void)snprintf(out, FT_CONTENT_TEXT_BYTES, "%s", kinds[content->kind]);
        return out;
    }
    const struct dtype_row *row = dtype_row(content->dtype);
    size_t at =
        (size_t)snprintf(out, FT_CONTENT_TEXT_BYTES, "a %s tensor (", row == NULL ? "strange" : row->name);
    for (int i = 0; i < content->rank && at < FT_CONTENT_TEXT_BYTES; i++) {
        at += (size_t)snprintf(out + at, FT_CONTENT_TEXT_BYTES - at, i == 0 ? "%lld" : ", %lld",
                               (long long)content->dims[i]);
    }
    if (at < FT_CONTENT_TEXT_BYTES) {
        (void)snprintf(out + at, FT_CONTENT_TEXT_BYTES - at, ")");
    }
    return out;
}

enum ft_status ft_prep_vector_item(const struct ft_prep *prep, const struct ft_content *content, float *row,
                                   struct ft_err *err)
{
    char shown[FT_CONTENT_TEXT_BYTES];
    size_t want = ft_prep_elements(prep);
    size_t have = 1;
    if (content->kind != FT_CONTENT_TENSOR) {
        return FT_FAIL(err, INVALID, "the model wants a tensor of %zu numbers, this is %s", want,
                       ft_content_shown(content, shown));
    }
    for (int i = 0; i < content->rank; i++) {
        have *= (size_t)content->dims[i];
    }
    if (have != want) {
        return FT_FAIL(err, INVALID, "the model wants a tensor of %zu numbers, this is %s", want,
                       ft_content_shown(content, shown));
    }
    return ft_content_floats(content, row, want, err);
}
