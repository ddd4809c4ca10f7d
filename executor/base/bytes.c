#include "executor/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"

struct ft_bytes ft_bytes_of(const void *data, size_t size)
{
    struct ft_bytes b = {.data = data, .size = size};
    return b;
}

struct ft_bytes ft_bytes_of_text(const char *text)
{
    return ft_bytes_of(text, strlen(text));
}

bool ft_bytes_equal(struct ft_bytes a, struct ft_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

int ft_bytes_compare(struct ft_bytes a, struct ft_bytes b)
{
    size_t least = a.size < b.size ? a.size : b.size;
    int order = least == 0 ? 0 : memcmp(a.data, b.data, least); /* no bytes may be NULL */
    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

bool ft_bytes_is(struct ft_bytes a, const char *text)
{
    return ft_bytes_equal(a, ft_bytes_of_text(text));
}

int ft_bytes_shown(struct ft_bytes a)
{
    return a.size > 200 ? 200 : (int)a.size;
}

/* How many continuation bytes follow `lead`, or -1; *least is the smallest code point of that length. */
static int utf8_tail(uint8_t lead, uint32_t *code, uint32_t *least)
{
    if (lead < 0x80) {
        *code = lead;
        *least = 0;
        return 0;
    }
    if ((lead & 0xe0) == 0xc0) {
        *code = lead & 0x1fU;
        *least = 0x80;
        return 1;
    }
    if ((lead & 0xf0) == 0xe0) {
        *code = lead & 0x0fU;
        *least = 0x800;
        return 2;
    }
    if ((lead & 0xf8) == 0xf0) {
        *code = lead & 0x07U;
        *least = 0x10000;
        return 3;
    }
    return -1;
}

size_t ft_utf8_length(struct ft_bytes text)
{
    uint32_t code = 0;
    uint32_t least = 0;
    int tail = text.size == 0 ? -1 : utf8_tail(text.data[0], &code, &least);
    if (tail < 0 || text.size - 1 < (size_t)tail) {
        return 0;
    }
    for (int k = 1; k <= tail; k++) {
        if ((text.data[k] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (text.data[k] & 0x3fU);
    }
    bool is_one = code >= least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return is_one ? (size_t)tail + 1 : 0;
}

bool ft_utf8_valid(struct ft_bytes text)
{
    size_t at = 0;
    while (at < text.size) {
        size_t length = ft_utf8_length(ft_bytes_of(text.data + at, text.size - at));
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}

enum ft_status ft_buf_reserve(struct ft_buf *buf, size_t extra, struct ft_err *err)
{
    size_t need = 0;
    if (!ft_add_size(buf->size, extra, &need) || !ft_add_size(need, 1, &need)) {
        return FT_FAIL(err, NOMEM, "buffer of %zu more bytes is too large", extra);
    }
    return ft_grow(&buf->data, &buf->capacity, need, 1, err);
}

enum ft_status ft_buf_append(struct ft_buf *buf, const void *data, size_t size, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_reserve(buf, size, err));
    if (size > 0) {
        memcpy(buf->data + buf->size, data, size);
    }
    buf->size += size;
    buf->data[buf->size] = '\0';
    return FT_OK;
}

enum ft_status ft_buf_text(struct ft_buf *buf, const char *text, struct ft_err *err)
{
    return ft_buf_append(buf, text, strlen(text), err);
}

enum ft_status ft_buf_printf(struct ft_buf *buf, struct ft_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) {
        return FT_FAIL(err, INTERNAL, "bad format");
    }
    FT_RETURN_IF_FAILED(ft_buf_reserve(buf, (size_t)n, err));
    va_start(args, fmt);
    (void)vsnprintf((char *)buf->data + buf->size, (size_t)n + 1, fmt, args);
    va_end(args);
    buf->size += (size_t)n;
    return FT_OK;
}

struct ft_bytes ft_buf_bytes(const struct ft_buf *buf)
{
    return ft_bytes_of(buf->data, buf->size);
}

void ft_buf_release(struct ft_buf *buf)
{
    ft_free(buf->data);
    *buf = (struct ft_buf){0};
}

void ft_put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

void ft_put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

uint32_t ft_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t ft_get_u64(const uint8_t *p)
{
    return (uint64_t)ft_get_u32(p) | (uint64_t)ft_get_u32(p + 4) << 32;
}

bool ft_size_parse(const char *text, int64_t *bytes)
{
    static const char units[] = "KMGT";
    int64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (value > (INT64_MAX - (*p - '0')) / 10) {
            return false;
        }
        value = value * 10 + (*p - '0');
    }
    if (p == text) {
        return false;
    }
    if (*p != '\0') {
        const char *unit = strchr(units, *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
        for (const char *u = units; unit != NULL && u <= unit; u++) {
            if (value > INT64_MAX / 1024) {
                return false;
            }
            value *= 1024;
        }
        if (unit == NULL || p[1] != '\0') {
            return false;
        }
    }
    *bytes = value;
    return true;
}
