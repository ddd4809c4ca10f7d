#include "executor/base/log_json.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/bytes.h"

enum { VALUE_BYTES = 2048, SPEC_BYTES = 48, CLOSING = 3 /* "}\n */ };

struct writer {
    char *line;
    size_t size, most; /* most: so that what closes the object still fits */
};

/* All of it or nothing. */
static bool put(struct writer *w, const char *text, size_t size)
{
    if (w->size + size > w->most) {
        return false;
    }
    memcpy(w->line + w->size, text, size);
    w->size += size;
    return true;
}

static bool put_character(struct writer *w, struct ft_bytes rest, size_t length)
{
    char escape[8];
    unsigned char c = rest.data[0];
    if (length == 0) {
        return put(w, "\xef\xbf\xbd", 3);
    }
    if (c == '"' || c == '\\') {
        const char two[2] = {'\\', (char)c};
        return put(w, two, 2);
    }
    if (c < 0x20 || c == 0x7f) {
        (void)snprintf(escape, sizeof escape, "\\u%04x", c);
        return put(w, escape, 6);
    }
    return put(w, (const char *)rest.data, length);
}

/* As much of it as there is room for. */
static void put_text(struct writer *w, struct ft_bytes text)
{
    while (text.size > 0) {
        size_t length = ft_utf8_length(text);
        if (!put_character(w, text, length)) {
            return;
        }
        length += length == 0 ? 1 : 0;
        text = ft_bytes_of(text.data + length, text.size - length);
    }
}

/* ---- the format */

struct arguments { /* a va_list may be an array: this way it can be passed on */
    va_list list;
};

/* One conversion, "%-8.*lld" and so on. */
struct conversion {
    char spec[SPEC_BYTES]; /* '*' replaced, without the length */
    size_t used;
    char length; /* 0, 'h', 'l', 'L' (ll), 'z' and so on */
    char kind;
};

static void add_spec(struct conversion *c, const char *text)
{
    size_t n = strlen(text);
    if (c->used + n + 4 < sizeof c->spec) { /* the length and the kind come behind it */
        memcpy(c->spec + c->used, text, n + 1);
        c->used += n;
    }
}

/* Reads it at `at`, which begins with '%'; returns what is behind it. */
static const char *read_conversion(const char *at, struct arguments *args, struct conversion *c)
{
    char piece[16];
    *c = (struct conversion){.length = 0};
    add_spec(c, "%");
    for (at++; *at != '\0' && strchr("-+ #0123456789.*", *at) != NULL; at++) {
        (void)snprintf(piece, sizeof piece, "%c", *at);
        if (*at == '*') {
            (void)snprintf(piece, sizeof piece, "%d", va_arg(args->list, int));
        }
        add_spec(c, piece);
    }
    for (; *at != '\0' && strchr("hlzjtL", *at) != NULL; at++) {
        c->length = c->length == 'l' && *at == 'l' ? 'L' : *at;
    }
    c->kind = *at;
    return *at != '\0' ? at + 1 : at;
}

static int64_t signed_argument(struct arguments *args, char length)
{
    switch (length) {
    case 'l':
        return va_arg(args->list, long);
    case 'L':
        return va_arg(args->list, long long);
    case 'z':
    case 't':
        return va_arg(args->list, ptrdiff_t);
    case 'j':
        return va_arg(args->list, intmax_t);
    default:
        return va_arg(args->list, int);
    }
}

static uint64_t unsigned_argument(struct arguments *args, char length)
{
    switch (length) {
    case 'l':
        return va_arg(args->list, unsigned long);
    case 'L':
        return va_arg(args->list, unsigned long long);
    case 'z':
    case 't':
        return va_arg(args->list, size_t);
    case 'j':
        return va_arg(args->list, uintmax_t);
    default:
        return va_arg(args->list, unsigned);
    }
}

/* Writes one argument; returns the length that it has, or < 0. */
static int write_argument(struct conversion *c, struct arguments *args, char *out, size_t room)
{
    const char tail[2] = {c->kind, '\0'};
    switch (c->kind) {
    case 'd':
    case 'i':
        add_spec(c, "ll");
        add_spec(c, tail);
        return snprintf(out, room, c->spec, (long long)signed_argument(args, c->length));
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        add_spec(c, "ll");
        add_spec(c, tail);
        return snprintf(out, room, c->spec, (unsigned long long)unsigned_argument(args, c->length));
    case 'e':
    case 'f':
    case 'g':
        add_spec(c, tail);
        return snprintf(out, room, c->spec, va_arg(args->list, double));
    case 'c':
        add_spec(c, tail);
        return snprintf(out, room, c->spec, va_arg(args->list, int));
    case 's':
        add_spec(c, tail);
        return snprintf(out, room, c->spec, va_arg(args->list, const char *));
    case 'p':
        add_spec(c, tail);
        return snprintf(out, room, c->spec, va_arg(args->list, void *));
    default: /* %% */
        return snprintf(out, room, "%%");
    }
}

/* What the part from `at` to `end` of the format becomes. */
static size_t expand(const char *at, const char *end, struct arguments *args, char out[VALUE_BYTES])
{
    size_t size = 0;
    while (at < end) {
        size_t room = VALUE_BYTES - size;
        struct conversion c;
        int n = 1;
        if (*at == '%') {
            at = read_conversion(at, args, &c);
            n = write_argument(&c, args, out + size, room);
        } else {
            out[size] = *at++;
        }
        size += n < 0 ? 0 : (size_t)n;
        size = size < VALUE_BYTES - 1 ? size : VALUE_BYTES - 1;
    }
    return size;
}

/* The blank before the next `key=`, or the format's end; what stands in quotes is a value. */
static const char *next_field(const char *at)
{
    bool quoted = false;
    for (; *at != '\0'; at++) {
        quoted = quoted != (*at == '"');
        if (*at == ' ' && !quoted) {
            const char *key = at + 1;
            while (isalnum((unsigned char)*key) != 0 || *key == '_') {
                key++;
            }
            if (*key == '=' && key > at + 1) {
                return at;
            }
        }
    }
    return at;
}

/* A lone %d, %zu, %.1f: its text is a number, unless it is NaN. */
static bool is_number(const char *from, const char *to, const char *text)
{
    char *end = NULL;
    bool lone = from < to && *from == '%' && strchr("diufge", to[-1]) != NULL &&
                memchr(from + 1, '%', (size_t)(to - from) - 1) == NULL &&
                strcspn(from, "diufge") + 1 == (size_t)(to - from);
    bool padded = text[0] == '0' && isdigit((unsigned char)text[1]) != 0; /* which JSON does not know */
    return lone && !padded && (isdigit((unsigned char)text[0]) != 0 || text[0] == '-') &&
           isfinite(strtod(text, &end)) && *end == '\0';
}

/* "key=value" of the format. */
static void put_field(struct writer *w, const char *from, const char *to, struct arguments *args)
{
    char value[VALUE_BYTES];
    char key[64];
    size_t length = strcspn(from, "=");
    const char *at = from + length + 1;
    bool quoted = to - at >= 2 && *at == '"' && to[-1] == '"';
    size_t size = quoted ? expand(at + 1, to - 1, args, value) : expand(at, to, args, value);
    value[size] = '\0';
    int n = snprintf(key, sizeof key, ",\"%.*s\":", (int)length, from);
    if (is_number(at, to, value)) {
        size_t before = w->size;
        if (put(w, key, (size_t)n) && !put(w, value, size)) {
            w->size = before;
        }
        return;
    }
    key[n++] = '"';
    if (put(w, key, (size_t)n)) {
        put_text(w, ft_bytes_of(value, size));
        w->line[w->size++] = '"'; /* there is always room for it: CLOSING */
    }
}

size_t ft_log_json(char *line, size_t capacity, const struct ft_log_head *head, const char *fmt, va_list args)
{
    struct writer w = {.line = line, .most = capacity - CLOSING};
    struct arguments list;
    char text[VALUE_BYTES];
    va_copy(list.list, args);
    const char *end = next_field(fmt);
    size_t size = expand(fmt, end, &list, text);
    int n = snprintf(line, capacity, "{\"time\":\"%s\",\"level\":\"%s\",\"room\":\"%.32s\",\"message\":\"",
                     head->time, head->level, head->room);
    w.size = (size_t)n;
    put_text(&w, ft_bytes_of(text, size));
    line[w.size++] = '"';
    while (*end != '\0') {
        const char *from = end + 1;
        end = next_field(from);
        put_field(&w, from, end, &list);
    }
    va_end(list.list);
    line[w.size++] = '}';
    line[w.size++] = '\n';
    return w.size;
}
