#define FT_TOK_UNICODE_TABLES
#include "executor/prep/tok_unicode.h"

#include <assert.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "executor/base/alloc.h"

/* Bits of a code point that a block of the table has. */
enum { BLOCK_BITS = 6 };

/* Hangul syllables are composed by arithmetic (The Unicode Standard, 3.12). */
enum {
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11a7,
    HANGUL_S = 0xac00,
    HANGUL_LS = 19,
    HANGUL_VS = 21,
    HANGUL_TS = 28,
    HANGUL_SS = HANGUL_LS * HANGUL_VS * HANGUL_TS
};

/* The longest decomposition is that of U+FDFA: 18. */
enum { DECOMPOSED_MAX = 32 };

uint32_t ft_tok_flags(uint32_t point)
{
    size_t block = block_of[point >> BLOCK_BITS];
    return class_flags[class_of[block << BLOCK_BITS | (point & ((1u << BLOCK_BITS) - 1))]];
}

size_t ft_tok_utf8(uint32_t point, uint8_t out[4])
{
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (uint8_t)(0xc0 | point >> 6);
        out[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (uint8_t)(0xe0 | point >> 12);
        out[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | point >> 18);
    out[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

enum ft_status ft_tok_put(struct ft_buf *out, uint32_t point, struct ft_err *err)
{
    if (out->capacity - out->size < 8) {
        FT_RETURN_IF_FAILED(ft_buf_reserve(out, 64, err));
    }
    out->size += ft_tok_utf8(point, out->data + out->size);
    return FT_OK;
}

/* Bytes of the longest beginning of a character at text[0]; *whole: it is one. */
static size_t character(const uint8_t *text, size_t size, bool *whole)
{
    uint8_t c = text[0];
    *whole = c < 0x80;
    if (c < 0xc2 || c > 0xf4) {
        return 1;
    }
    size_t want = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    /* The second byte decides about overlong forms, surrogates and what is beyond U+10FFFF. */
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    size_t have = 1;
    while (have < want && have < size && text[have] >= low && text[have] <= high) {
        low = 0x80;
        high = 0xbf;
        have++;
    }
    *whole = have == want;
    return have;
}

enum ft_status ft_tok_repair(struct ft_bytes text, struct ft_buf *out, struct ft_err *err)
{
    size_t at = 0;
    while (at < text.size) {
        bool whole = false;
        size_t n = character(text.data + at, text.size - at, &whole);
        if (whole) {
            FT_RETURN_IF_FAILED(ft_buf_append(out, text.data + at, n, err));
        } else {
            FT_RETURN_IF_FAILED(ft_tok_put(out, 0xfffd, err));
        }
        at += n;
    }
    return FT_OK;
}

int ft_tok_lower(uint32_t point, uint32_t out[2])
{
    size_t low = 0;
    size_t high = sizeof lower_special / sizeof *lower_special;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (lower_special[mid].from < point) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low < sizeof lower_special / sizeof *lower_special && lower_special[low].from == point) {
        out[0] = lower_special[low].to[0];
        out[1] = lower_special[low].to[1];
        return out[1] != 0 ? 2 : 1;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)point);
    return 1;
}

/* ---- normal forms ---- */

static uint32_t order_of(uint32_t point)
{
    if ((ft_tok_flags(point) & FT_TOK_NEWER) != 0) {
        return 0;
    }
    return (uint32_t)utf8proc_get_property((utf8proc_int32_t)point)->combining_class;
}

enum ft_status ft_tok_decompose(uint32_t point, bool compatible, struct ft_tok_points *points,
                                struct ft_err *err)
{
    utf8proc_int32_t out[DECOMPOSED_MAX] = {(utf8proc_int32_t)point};
    utf8proc_ssize_t n = 1;
    uint32_t flags = ft_tok_flags(point);
    if ((flags & (FT_TOK_NFKD_INERT | FT_TOK_NEWER)) == 0) {
        int unused = 0;
        utf8proc_option_t options =
            compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : (utf8proc_option_t)UTF8PROC_DECOMPOSE;
        n = utf8proc_decompose_char((utf8proc_int32_t)point, out, DECOMPOSED_MAX, options, &unused);
    }
    assert(n >= 1 && n <= DECOMPOSED_MAX);
    FT_RETURN_IF_FAILED(
        ft_grow(&points->at, &points->capacity, points->count + (size_t)n, sizeof *points->at, err));
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        points->at[points->count++] = (struct ft_tok_mark){order_of((uint32_t)out[i]), (uint32_t)out[i]};
    }
    return FT_OK;
}

static int by_order(const void *a, const void *b)
{
    uint64_t x = ((const struct ft_tok_mark *)a)->order;
    uint64_t y = ((const struct ft_tok_mark *)b)->order;
    return (x > y) - (x < y);
}

/* Stable: by insertion where the run is as short as runs of marks are, else by qsort() with the place behind
 * the class. */
static void sort_run(struct ft_tok_mark *at, size_t count)
{
    if (count > 32) {
        for (size_t i = 0; i < count; i++) {
            at[i].order = at[i].order << 48 | i;
        }
        qsort(at, count, sizeof *at, by_order);
        for (size_t i = 0; i < count; i++) {
            at[i].order >>= 48;
        }
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct ft_tok_mark mark = at[i];
        size_t to = i;
        for (; to > 0 && at[to - 1].order > mark.order; to--) {
            at[to] = at[to - 1];
        }
        at[to] = mark;
    }
}

void ft_tok_sort_marks(struct ft_tok_points *points)
{
    size_t i = 0;
    while (i < points->count) {
        size_t begin = i;
        while (i < points->count && points->at[i].order != 0) {
            i++;
        }
        if (i - begin > 1) {
            sort_run(points->at + begin, i - begin);
        }
        i += i < points->count ? 1 : 0;
    }
}

/* 0: they do not compose. */
static uint32_t composed(uint32_t a, uint32_t b)
{
    if (a - HANGUL_L < HANGUL_LS && b - HANGUL_V < HANGUL_VS) {
        return HANGUL_S + ((a - HANGUL_L) * HANGUL_VS + (b - HANGUL_V)) * HANGUL_TS;
    }
    if (a - HANGUL_S < HANGUL_SS && (a - HANGUL_S) % HANGUL_TS == 0 && b - HANGUL_T - 1 < HANGUL_TS - 1) {
        return a + (b - HANGUL_T);
    }
    utf8proc_int32_t pair[3] = {(utf8proc_int32_t)a, (utf8proc_int32_t)b, 0};
    utf8proc_ssize_t n =
        utf8proc_normalize_utf32(pair, 2, (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    return n == 1 && (ft_tok_flags((uint32_t)pair[0]) & FT_TOK_NEWER) == 0 ? (uint32_t)pair[0] : 0;
}

void ft_tok_compose(struct ft_tok_points *points)
{
    struct ft_tok_mark *at = points->at;
    size_t count = 0;
    size_t starter = SIZE_MAX;
    for (size_t i = 0; i < points->count; i++) {
        struct ft_tok_mark c = at[i];
        /* Blocked by what stands between with the same class, or a higher one: marks are sorted. */
        bool reaches = starter != SIZE_MAX && (count == starter + 1 || at[count - 1].order < c.order) &&
                       (count == starter + 1 || at[count - 1].order != 0);
        uint32_t both = reaches ? composed(at[starter].point, c.point) : 0;
        if (both != 0) {
            at[starter].point = both;
            continue;
        }
        if (c.order == 0) {
            starter = count;
        }
        at[count++] = c;
    }
    points->count = count;
}

/* ---- clusters ---- */

static int boundary_of(uint32_t point)
{
    return utf8proc_get_property((utf8proc_int32_t)point)->boundclass;
}

bool ft_tok_is_pictograph(uint32_t point)
{
    return boundary_of(point) == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC;
}

static bool is_control(int class)
{
    return class == UTF8PROC_BOUNDCLASS_CONTROL || class == UTF8PROC_BOUNDCLASS_CR ||
           class == UTF8PROC_BOUNDCLASS_LF;
}

static bool is_hangul_pair(int left, int right)
{
    switch (left) {
    case UTF8PROC_BOUNDCLASS_L:
        return right == UTF8PROC_BOUNDCLASS_L || right == UTF8PROC_BOUNDCLASS_V ||
               right == UTF8PROC_BOUNDCLASS_LV || right == UTF8PROC_BOUNDCLASS_LVT;
    case UTF8PROC_BOUNDCLASS_LV:
    case UTF8PROC_BOUNDCLASS_V:
        return right == UTF8PROC_BOUNDCLASS_V || right == UTF8PROC_BOUNDCLASS_T;
    case UTF8PROC_BOUNDCLASS_LVT:
    case UTF8PROC_BOUNDCLASS_T:
        return right == UTF8PROC_BOUNDCLASS_T;
    default:
        return false;
    }
}

bool ft_tok_breaks(uint32_t left, uint32_t right, bool joined)
{
    int a = boundary_of(left);
    int b = boundary_of(right);
    if (a == UTF8PROC_BOUNDCLASS_CR && b == UTF8PROC_BOUNDCLASS_LF) {
        return false;
    }
    if (is_control(a)) {
        return true;
    }
    if ((ft_tok_flags(right) & FT_TOK_EXTEND) != 0) {
        return false;
    }
    if (is_control(b)) {
        return true;
    }
    return !(is_hangul_pair(a, b) || a == UTF8PROC_BOUNDCLASS_PREPEND ||
             (joined && a == UTF8PROC_BOUNDCLASS_ZWJ && b == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC));
}

uint32_t ft_tok_stand_in(uint32_t point)
{
    size_t low = 0;
    size_t high = sizeof stand_ins / sizeof *stand_ins;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (stand_ins[mid].last < point) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    bool found = low < sizeof stand_ins / sizeof *stand_ins && stand_ins[low].first <= point;
    return found ? stand_ins[low].as : point;
}
