#include "executor/model/import.h"
#include "executor/model/internal.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/pb.h"

/* Data of tensors: raw, typed fields, files beside the model; every element type becomes float or integer. */

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little-endian and read in place");

enum { TENSOR_FLOATS = 4, TENSOR_INT32S = 5, TENSOR_INT64S = 7, TENSOR_DOUBLES = 10, TENSOR_UINT64S = 11 };

struct ft_external {
    struct ft_external *next;
    struct ft_bytes location;
    struct ft_mapping map;
};

float ft_host_float(const struct ft_host *h, int64_t i)
{
    float f = 0.0F;
    memcpy(&f, h->floats + (size_t)i * sizeof f, sizeof f);
    return f;
}

bool ft_host_is_int(const struct ft_host *h)
{
    return h->dtype != FT_F32;
}

static enum ft_status new_host(struct ft_arena *arena, enum ft_dtype dtype, int rank, const int64_t *dims,
                               struct ft_host **out, struct ft_err *err)
{
    struct ft_host *h = NULL;
    *out = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(arena, 1, sizeof *h, &h, err));
    h->dtype = dtype;
    h->rank = rank;
    if (!ft_onnx_count(rank, dims, &h->count)) {
        return FT_FAIL(err, LIMIT, "a tensor has a negative extent or is larger than %zu bytes",
                       FT_MAX_TENSOR_BYTES);
    }
    for (int i = 0; i < rank; i++) {
        h->dims[i] = dims[i];
    }
    *out = h;
    return FT_OK;
}

enum ft_status ft_host_new(struct ft_arena *arena, enum ft_dtype dtype, int rank, const int64_t *dims,
                           struct ft_host **out, float **floats, struct ft_err *err)
{
    struct ft_host *h = NULL;
    *out = NULL;
    if (rank > FT_MAX_RANK) {
        return FT_FAIL(err, UNSUPPORTED, "more than %d dimensions", FT_MAX_RANK);
    }
    FT_RETURN_IF_FAILED(new_host(arena, dtype, rank, dims, &h, err));
    if (h->count > FT_HOST_INTS_MAX) {
        return FT_FAIL(err, LIMIT, "a constant of %lld elements would have to be computed; %d are the limit",
                       (long long)h->count, FT_HOST_INTS_MAX);
    }
    if (dtype == FT_F32) {
        float *data = NULL;
        FT_RETURN_IF_FAILED(ft_arena_new(arena, (size_t)h->count, sizeof *data, &data, err));
        h->floats = (const uint8_t *)data;
        if (floats != NULL) {
            *floats = data;
        }
    } else {
        FT_RETURN_IF_FAILED(ft_arena_new(arena, (size_t)h->count, sizeof *h->ints, &h->ints, err));
    }
    *out = h;
    return FT_OK;
}

enum ft_status ft_host_fill(struct ft_import *im, float value, int rank, const int64_t *dims,
                            struct ft_host **out, struct ft_err *err)
{
    struct ft_host *h = NULL;
    float *data = NULL;
    *out = NULL;
    FT_RETURN_IF_FAILED(new_host(&im->arena, FT_F32, rank, dims, &h, err));
    if (h->count > FT_HOST_FILL_MAX - im->filled) {
        return FT_FAIL(err, LIMIT,
                       "a constant of %lld elements would have to be computed; %d in all are the limit",
                       (long long)h->count, FT_HOST_FILL_MAX);
    }
    im->filled += h->count;
    FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)h->count, sizeof *data, &data, err));
    for (int64_t i = 0; i < h->count; i++) {
        data[i] = value;
    }
    h->floats = (const uint8_t *)data;
    *out = h;
    return FT_OK;
}

enum ft_status ft_host_view(struct ft_arena *arena, const struct ft_host *from, int rank, const int64_t *dims,
                            struct ft_host **out, struct ft_err *err)
{
    struct ft_host *h = NULL;
    *out = NULL;
    FT_RETURN_IF_FAILED(new_host(arena, from->dtype, rank, dims, &h, err));
    if (h->count != from->count) {
        return FT_FAIL(err, INVALID, "%lld elements cannot take a shape of %lld", (long long)from->count,
                       (long long)h->count);
    }
    h->floats = from->floats;
    h->ints = from->ints;
    *out = h;
    return FT_OK;
}

/* ---- element types */

static size_t element_size(int32_t type)
{
    switch (type) {
    case FT_ONNX_FLOAT:
    case FT_ONNX_INT32:
    case FT_ONNX_UINT32:
        return 4;
    case FT_ONNX_INT64:
    case FT_ONNX_UINT64:
    case FT_ONNX_DOUBLE:
        return 8;
    case FT_ONNX_UINT16:
    case FT_ONNX_INT16:
    case FT_ONNX_FLOAT16:
    case FT_ONNX_BFLOAT16:
        return 2;
    case FT_ONNX_UINT8:
    case FT_ONNX_INT8:
    case FT_ONNX_BOOL:
        return 1;
    default:
        return 0;
    }
}

static bool is_float_type(int32_t type)
{
    return type == FT_ONNX_FLOAT || type == FT_ONNX_DOUBLE || type == FT_ONNX_FLOAT16 ||
           type == FT_ONNX_BFLOAT16;
}

static float float_of_bits(uint32_t bits)
{
    float f = 0.0F;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE half to single: subnormals are scaled by a multiplication, the rest by moving the exponent. */
static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t exponent = h >> 10 & 0x1fU;
    uint32_t fraction = h & 0x3ffU;
    if (exponent == 31) {
        return float_of_bits(sign | 0x7f800000U | fraction << 13);
    }
    if (exponent == 0) {
        float f = (float)fraction * 0x1p-24F;
        return sign != 0 ? -f : f;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static float element_float(int32_t type, const uint8_t *p)
{
    uint16_t half = 0;
    float f = 0.0F;
    double d = 0.0;
    switch (type) {
    case FT_ONNX_FLOAT:
        memcpy(&f, p, sizeof f);
        return f;
    case FT_ONNX_DOUBLE:
        memcpy(&d, p, sizeof d);
        return (float)d;
    case FT_ONNX_FLOAT16:
        memcpy(&half, p, sizeof half);
        return half_to_float(half);
    default: /* FT_ONNX_BFLOAT16 */
        memcpy(&half, p, sizeof half);
        return float_of_bits((uint32_t)half << 16);
    }
}

/* `size` little-endian bytes, sign-extended when the type has a sign. */
static int64_t element_int(int32_t type, const uint8_t *p)
{
    size_t size = element_size(type);
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    bool has_sign = type == FT_ONNX_INT8 || type == FT_ONNX_INT16 || type == FT_ONNX_INT32;
    if (has_sign && (v >> (8 * size - 1) & 1U) != 0) {
        v |= ~0ULL << (8 * size);
    }
    return type == FT_ONNX_BOOL ? v != 0 : (int64_t)v;
}

/* ---- typed fields: the few old files that have them are copied into raw form */

static enum ft_status collect_floats(const struct ft_onnx_tensor *t, float **floats, double **doubles,
                                     size_t *count, struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(t->message);
    struct ft_pb_field f;
    size_t capacity = 0;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == TENSOR_FLOATS && t->type == FT_ONNX_FLOAT) {
            FT_RETURN_IF_FAILED(ft_pb_append_float(&f, floats, count, &capacity, err));
        } else if (f.number == TENSOR_DOUBLES && t->type == FT_ONNX_DOUBLE) {
            FT_RETURN_IF_FAILED(ft_pb_append_double(&f, doubles, count, &capacity, err));
        }
    }
}

static enum ft_status collect_ints(const struct ft_onnx_tensor *t, int64_t **ints, size_t *count,
                                   struct ft_err *err)
{
    struct ft_pb_cursor c = ft_pb_open(t->message);
    struct ft_pb_field f;
    size_t capacity = 0;
    bool more = false;
    uint32_t number = t->type == FT_ONNX_INT64                                 ? TENSOR_INT64S
                      : t->type == FT_ONNX_UINT64 || t->type == FT_ONNX_UINT32 ? TENSOR_UINT64S
                                                                               : TENSOR_INT32S;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&c, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == number) {
            FT_RETURN_IF_FAILED(ft_pb_append_int64(&f, ints, count, &capacity, err));
        }
    }
}

static enum ft_status wrong_size(const struct ft_onnx_tensor *t, size_t has, struct ft_err *err)
{
    return FT_FAIL(err, CORRUPT, "its shape asks for %lld elements of type %d, the data are %zu %s",
                   (long long)t->count, (int)t->type, has, t->has_raw || t->external ? "bytes" : "elements");
}

static enum ft_status typed_to_raw(struct ft_import *im, const struct ft_onnx_tensor *t, struct ft_bytes *raw,
                                   struct ft_err *err)
{
    float *floats = NULL;
    double *doubles = NULL;
    int64_t *ints = NULL;
    uint8_t *copy = NULL;
    size_t n = 0;
    size_t size = element_size(t->type);
    bool as_float = t->type == FT_ONNX_FLOAT || t->type == FT_ONNX_DOUBLE;
    enum ft_status st = FT_OK;
    FT_TRY(as_float ? collect_floats(t, &floats, &doubles, &n, err) : collect_ints(t, &ints, &n, err));
    if (n != (size_t)t->count) {
        st = wrong_size(t, n, err);
        goto done;
    }
    FT_TRY(ft_arena_new(&im->arena, n, size, &copy, err));
    if (n > 0 && as_float) {
        memcpy(copy, floats != NULL ? (const void *)floats : (const void *)doubles, n * size);
    }
    for (size_t i = 0; i < n && !as_float; i++) {
        memcpy(copy + i * size, &ints[i], size); /* little-endian: the low bytes come first */
    }
    *raw = ft_bytes_of(copy, n * size);
done:
    ft_free(floats);
    ft_free(doubles);
    ft_free(ints);
    return st;
}

/* ---- files beside the model */

bool ft_location_is_safe(struct ft_bytes location)
{
    size_t start = 0;
    if (location.size == 0 || memchr(location.data, '\\', location.size) != NULL) {
        return false;
    }
    for (size_t i = 0; i <= location.size; i++) {
        if (i < location.size && location.data[i] != '/') {
            continue;
        }
        struct ft_bytes part = ft_bytes_of(location.data + start, i - start);
        if (part.size == 0 || ft_bytes_is(part, ".") || ft_bytes_is(part, "..")) {
            return false;
        }
        start = i + 1;
    }
    return true;
}

static enum ft_status map_external(struct ft_import *im, struct ft_bytes location, struct ft_bytes *bytes,
                                   struct ft_err *err)
{
    struct ft_external *e = im->externals;
    const char *name = NULL;
    char *path = NULL;
    enum ft_status st = FT_OK;
    while (e != NULL && !ft_bytes_equal(e->location, location)) {
        e = e->next;
    }
    if (e == NULL) {
        FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, 1, sizeof *e, &e, err));
        FT_RETURN_IF_FAILED(
            ft_arena_text(&im->arena, (const char *)location.data, location.size, &name, err));
        FT_RETURN_IF_FAILED(ft_path_join(im->dir, name, &path, err));
        FT_TRY(ft_file_map(path, &e->map, err));
        e->location = location;
        e->next = im->externals;
        im->externals = e;
    }
    *bytes = e->map.bytes;
done:
    ft_free(path);
    return st;
}

void ft_import_release_externals(struct ft_import *im)
{
    for (struct ft_external *e = im->externals; e != NULL; e = e->next) {
        ft_file_unmap(&e->map);
    }
    im->externals = NULL;
}

static enum ft_status external_bytes(struct ft_import *im, const struct ft_onnx_tensor *t,
                                     struct ft_bytes *raw, struct ft_err *err)
{
    struct ft_bytes file = {0};
    if (!ft_location_is_safe(t->location)) {
        return FT_FAIL(err, INVALID, "its data lie in '%.*s': only files below the model's folder are read",
                       ft_bytes_shown(t->location), t->location.data);
    }
    if (im->dir == NULL) {
        return FT_FAIL(err, UNSUPPORTED, "its data lie in the file '%.*s', and there is no folder to look in",
                       ft_bytes_shown(t->location), t->location.data);
    }
    FT_RETURN_IF_FAILED(map_external(im, t->location, &file, err));
    uint64_t want = (uint64_t)t->count * element_size(t->type);
    uint64_t length = t->length < 0 ? want : (uint64_t)t->length;
    if ((uint64_t)t->offset > file.size || length > file.size - (uint64_t)t->offset) {
        return FT_FAIL(err, CORRUPT, "its data would be bytes %lld to %lld of '%.*s', which has %zu",
                       (long long)t->offset, (long long)t->offset + (long long)length,
                       ft_bytes_shown(t->location), t->location.data, file.size);
    }
    *raw = ft_bytes_of(file.data + t->offset, (size_t)length);
    return FT_OK;
}

/* ---- all together */

static enum ft_status decode(struct ft_import *im, const struct ft_onnx_tensor *t, const struct ft_host **out,
                             struct ft_err *err)
{
    struct ft_bytes raw = t->raw;
    struct ft_host *h = NULL;
    float *floats = NULL;
    size_t size = element_size(t->type);
    if (size == 0) {
        return FT_FAIL(err, UNSUPPORTED, "its elements have ONNX type %d, which is not read", (int)t->type);
    }
    if (t->external) {
        FT_RETURN_IF_FAILED(external_bytes(im, t, &raw, err));
    } else if (!t->has_raw) {
        FT_RETURN_IF_FAILED(typed_to_raw(im, t, &raw, err));
    }
    if (raw.size != (uint64_t)t->count * size) {
        return wrong_size(t, raw.size, err);
    }
    if (t->type == FT_ONNX_FLOAT) {
        FT_RETURN_IF_FAILED(new_host(&im->arena, FT_F32, t->rank, t->dims, &h, err));
        h->floats = raw.data;
        *out = h;
        return FT_OK;
    }
    bool as_float = is_float_type(t->type);
    if (as_float) { /* as large as the file makes it */
        FT_RETURN_IF_FAILED(new_host(&im->arena, FT_F32, t->rank, t->dims, &h, err));
        FT_RETURN_IF_FAILED(ft_arena_new(&im->arena, (size_t)t->count, sizeof *floats, &floats, err));
        h->floats = (const uint8_t *)floats;
    } else {
        enum ft_dtype dtype = t->type == FT_ONNX_BOOL ? FT_BOOL : FT_I64;
        FT_RETURN_IF_FAILED(ft_host_new(&im->arena, dtype, t->rank, t->dims, &h, NULL, err));
    }
    for (int64_t i = 0; i < t->count; i++) {
        const uint8_t *p = raw.data + (size_t)i * size;
        if (as_float) {
            floats[i] = element_float(t->type, p);
        } else {
            h->ints[i] = ft_dim_of(element_int(t->type, p));
        }
    }
    *out = h;
    return FT_OK;
}

enum ft_status ft_host_decode(struct ft_import *im, const struct ft_onnx_tensor *t,
                              const struct ft_host **out, struct ft_err *err)
{
    *out = NULL;
    if (decode(im, t, out, err) != FT_OK) {
        return ft_err_wrap(err, "tensor '%.*s'", ft_bytes_shown(t->name), t->name.data);
    }
    return FT_OK;
}
