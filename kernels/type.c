#include "kernels/type.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

size_t ft_dtype_size(enum ft_dtype dtype)
{
    static const size_t sizes[FT_DTYPE_COUNT] = {
        [FT_F32] = 4, [FT_F64] = 8, [FT_I64] = 8, [FT_I32] = 4, [FT_U8] = 1, [FT_BOOL] = 1, [FT_BF16] = 2};
    assert((int)dtype >= 0 && dtype < FT_DTYPE_COUNT);
    return sizes[dtype];
}

bool ft_dtype_is_float(enum ft_dtype dtype)
{
    return dtype == FT_F32 || dtype == FT_F64;
}

const char *ft_dtype_name(enum ft_dtype dtype)
{
    static const char *const names[FT_DTYPE_COUNT] = {
        [FT_F32] = "float32", [FT_F64] = "float64", [FT_I64] = "int64",    [FT_I32] = "int32",
        [FT_U8] = "uint8",    [FT_BOOL] = "bool",   [FT_BF16] = "bfloat16"};
    assert((int)dtype >= 0 && dtype < FT_DTYPE_COUNT);
    return names[dtype];
}

struct ft_dim ft_dim_of(int64_t extent)
{
    struct ft_dim d;
    memset(&d, 0, sizeof d); /* padding too: attributes are compared bytewise */
    d.coef = extent;
    return d;
}

struct ft_dim ft_dim_symbol(int symbol)
{
    assert(symbol >= 0 && symbol < FT_MAX_SYMBOLS);
    struct ft_dim d = ft_dim_of(1);
    d.power[symbol] = 1;
    return d;
}

bool ft_dim_is_known(struct ft_dim d)
{
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        if (d.power[k] != 0) {
            return false;
        }
    }
    return true;
}

bool ft_dim_equal(struct ft_dim a, struct ft_dim b)
{
    return a.coef == b.coef && memcmp(a.power, b.power, sizeof a.power) == 0;
}

bool ft_dim_is_one(struct ft_dim d)
{
    return d.coef == 1 && ft_dim_is_known(d);
}

bool ft_dim_mul(struct ft_dim a, struct ft_dim b, struct ft_dim *out)
{
    struct ft_dim d = ft_dim_of(0);
    if (__builtin_mul_overflow(a.coef, b.coef, &d.coef)) {
        return false;
    }
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        int power = a.power[k] + b.power[k];
        if (power > UINT8_MAX) {
            return false;
        }
        d.power[k] = (uint8_t)power;
    }
    *out = d;
    return true;
}

bool ft_dim_div(struct ft_dim a, struct ft_dim b, struct ft_dim *out)
{
    if (b.coef <= 0 || a.coef % b.coef != 0) {
        return false;
    }
    struct ft_dim d = ft_dim_of(a.coef / b.coef);
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        if (a.power[k] < b.power[k]) {
            return false;
        }
        d.power[k] = (uint8_t)(a.power[k] - b.power[k]);
    }
    *out = d;
    return true;
}

bool ft_dim_bind(struct ft_dim d, const int64_t symbols[FT_MAX_SYMBOLS], struct ft_dim *out)
{
    struct ft_dim bound = ft_dim_of(d.coef);
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        if (symbols[k] == 0) {
            bound.power[k] = d.power[k];
            continue;
        }
        for (int p = 0; p < d.power[k]; p++) {
            if (__builtin_mul_overflow(bound.coef, symbols[k], &bound.coef)) {
                return false;
            }
        }
    }
    *out = bound;
    return true;
}

bool ft_type_bind(const struct ft_type *t, const int64_t symbols[FT_MAX_SYMBOLS], struct ft_type *out)
{
    struct ft_type bound = *t;
    for (int i = 0; i < t->rank; i++) {
        if (!ft_dim_bind(t->dim[i], symbols, &bound.dim[i])) {
            return false;
        }
    }
    *out = bound;
    return true;
}

struct ft_type ft_type_of(enum ft_dtype dtype, int rank, const int64_t *extents)
{
    assert(rank >= 0 && rank <= FT_MAX_RANK);
    struct ft_type t;
    memset(&t, 0, sizeof t);
    t.dtype = dtype;
    t.layout = FT_ROW_MAJOR;
    t.rank = rank;
    for (int i = 0; i < rank; i++) {
        t.dim[i] = ft_dim_of(extents[i]);
    }
    return t;
}

bool ft_type_is_known(const struct ft_type *t)
{
    for (int i = 0; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            return false;
        }
    }
    return true;
}

bool ft_type_same_shape(const struct ft_type *a, const struct ft_type *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (!ft_dim_equal(a->dim[i], b->dim[i])) {
            return false;
        }
    }
    return true;
}

int64_t ft_extent(const struct ft_type *t, int axis)
{
    assert(axis >= 0 && axis < t->rank);
    assert(ft_dim_is_known(t->dim[axis]));
    return t->dim[axis].coef;
}

int64_t ft_elements(const struct ft_type *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++) {
        bool over = __builtin_mul_overflow(count, ft_extent(t, i), &count);
        assert(!over);
        (void)over;
    }
    return count;
}

size_t ft_type_bytes(const struct ft_type *t)
{
    size_t bytes = 0;
    bool over = __builtin_mul_overflow(ft_elements(t), ft_dtype_size(t->dtype), &bytes);
    assert(!over);
    (void)over;
    return bytes;
}

/* Text is cut at the buffer's end, never past it. */
struct cursor {
    char *text;
    size_t used;
};

static void put_text(struct cursor *c, const char *text)
{
    size_t room = FT_TYPE_TEXT - 1 - c->used;
    size_t n = strlen(text);
    n = n < room ? n : room;
    memcpy(c->text + c->used, text, n);
    c->used += n;
    c->text[c->used] = '\0';
}

static void put_number(struct cursor *c, long long n)
{
    char digits[24];
    (void)snprintf(digits, sizeof digits, "%lld", n);
    put_text(c, digits);
}

static void put_dim(struct cursor *c, struct ft_dim d)
{
    static const char *const names[FT_MAX_SYMBOLS] = {"N", "S", "T", "S3"};
    const char *times = "";
    if (d.coef != 1 || ft_dim_is_known(d)) {
        put_number(c, d.coef);
        times = "*";
    }
    for (int k = 0; k < FT_MAX_SYMBOLS; k++) {
        if (d.power[k] == 0) {
            continue;
        }
        put_text(c, times);
        put_text(c, names[k]);
        if (d.power[k] > 1) {
            put_text(c, "^");
            put_number(c, d.power[k]);
        }
        times = "*";
    }
}

const char *ft_type_text(const struct ft_type *t, char out[FT_TYPE_TEXT])
{
    struct cursor c = {.text = out, .used = 0};
    put_text(&c, ft_dtype_name(t->dtype));
    put_text(&c, " (");
    for (int i = 0; i < t->rank; i++) {
        put_text(&c, i == 0 ? "" : ", ");
        put_dim(&c, t->dim[i]);
    }
    put_text(&c, ")");
    return out;
}
