/*
 * json.h - JSON values: parse, build, read, write. Wraps jansson, which never shows outside this room.
 *
 * A struct ft_json is a tree owned by its root; children returned by getters are borrowed from it.
 * Numbers are kept as 64-bit integers where written so, else doubles; NaN and infinities are refused.
 * Integers beyond 64 bits become doubles. Duplicate keys are refused; nesting is limited to FT_MAX_NESTING.
 * Object keys keep their order. Thread-safety: a const tree may be read by any number of threads.
 */
#ifndef FT_CODEC_JSON_H
#define FT_CODEC_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

struct ft_json; /* opaque */

enum ft_json_kind {
    FT_JSON_NULL,
    FT_JSON_BOOL,
    FT_JSON_INT,
    FT_JSON_REAL,
    FT_JSON_TEXT,
    FT_JSON_ARRAY,
    FT_JSON_OBJECT
};

/* Parse one whole text. FT_INVALID names line and column; FT_LIMIT: nested too deeply. *json is the caller's:
 * ft_json_free(). */
FT_MUST_CHECK enum ft_status ft_json_parse(struct ft_bytes text, struct ft_json **json, struct ft_err *err);
/* The same of a file's text: what is wrong is told with its name in front. */
FT_MUST_CHECK enum ft_status ft_json_parse_named(struct ft_bytes text, const char *name,
                                                 struct ft_json **json, struct ft_err *err);
void ft_json_free(struct ft_json *json); /* only roots; NULL is fine */

enum ft_json_kind ft_json_kind(const struct ft_json *json); /* NULL reads as FT_JSON_NULL */
const char *ft_json_kind_name(enum ft_json_kind kind);
bool ft_json_bool(const struct ft_json *json);   /* false unless FT_JSON_BOOL true */
int64_t ft_json_int(const struct ft_json *json); /* INT, or an integral REAL in range; else 0 */
double ft_json_real(const struct ft_json *json); /* INT or REAL; else 0 */
bool ft_json_is_number(const struct ft_json *json);
bool ft_json_is_integral(
    const struct ft_json *json); /* INT, or REAL with an integral value that fits int64 */
/* UTF-8, NUL-terminated; NULL unless TEXT. size may be NULL. A text with U+0000 inside is refused by the
 * parser. */
const char *ft_json_text(const struct ft_json *json, size_t *size);
size_t ft_json_count(const struct ft_json *json);                       /* of an ARRAY or OBJECT; else 0 */
const struct ft_json *ft_json_at(const struct ft_json *json, size_t i); /* ARRAY element; NULL beyond */
const struct ft_json *ft_json_get(const struct ft_json *json,
                                  const char *key); /* OBJECT member; NULL if none */
/* Members in order: for (it = ft_json_first(o); it; it = ft_json_next(o, it)) with key and value of it. */
struct ft_json_iter;
struct ft_json_iter *ft_json_first(const struct ft_json *object); /* NULL when empty; nothing to free */
struct ft_json_iter *ft_json_next(const struct ft_json *object, struct ft_json_iter *it);
const char *ft_json_key(struct ft_json_iter *it);
const struct ft_json *ft_json_value(struct ft_json_iter *it);

/* Building. Setters take over `value` also when they fail, so calls can be nested; a NULL value is FT_NOMEM.
 */
struct ft_json *ft_json_object(void);
struct ft_json *ft_json_array(void);
struct ft_json *ft_json_null(void);
struct ft_json *ft_json_of_bool(bool value);
struct ft_json *ft_json_of_int(int64_t value);
struct ft_json *ft_json_of_real(double value);            /* NULL when not finite */
struct ft_json *ft_json_of_text(const char *text);        /* NULL when not UTF-8 or with U+0000 inside */
struct ft_json *ft_json_of_bytes(struct ft_bytes text);   /* the same */
struct ft_json *ft_json_copy(const struct ft_json *json); /* deep */
FT_MUST_CHECK enum ft_status ft_json_set(struct ft_json *object, const char *key, struct ft_json *take_value,
                                         struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_json_push(struct ft_json *array, struct ft_json *take_value,
                                          struct ft_err *err);

/* Append the text; indent 0 = one line. Reals are written with the fewest digits that read back equal (at
 * most 17) and always with a point or an exponent. */
FT_MUST_CHECK enum ft_status ft_json_write(const struct ft_json *json, int indent, struct ft_buf *out,
                                           struct ft_err *err);
/* The same on one line, members sorted by the bytes of their keys: equal texts of equal values, whatever the
 * order in which they were set. */
FT_MUST_CHECK enum ft_status ft_json_write_sorted(const struct ft_json *json, struct ft_buf *out,
                                                  struct ft_err *err);
#endif
