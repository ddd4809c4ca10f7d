#include "executor/codec/json.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"

/* Jansson holds the trees. Its own parser is not used: when memory runs out inside a token it goes on with a
 * shortened token and reads past it, and it cannot limit depth or keep integers beyond 64 bits. */

static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

static void set_hooks(void)
{
    json_set_alloc_funcs(ft_alloc, ft_free);
}

static void use_hooks(void)
{
    (void)pthread_once(&hooks_once, set_hooks);
}

static json_t *tree_of(const struct ft_json *json)
{
    return (json_t *)(uintptr_t)json;
}

static struct ft_json *wrapped(json_t *json)
{
    return (struct ft_json *)json;
}

struct parser {
    struct ft_bytes text;
    size_t at;
    int depth;
    struct ft_buf scratch; /* a string without its escapes, or a number with a NUL */
};

static void position_of(const struct parser *p, size_t at, int *line, int *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < at && i < p->text.size; i++) {
        if (p->text.data[i] == '\n') {
            *line += 1;
            *column = 1;
        } else if ((p->text.data[i] & 0xc0) != 0x80) {
            *column += 1;
        }
    }
}

static enum ft_status fail_at(const struct parser *p, size_t at, const char *what, struct ft_err *err)
{
    int line = 0;
    int column = 0;
    position_of(p, at, &line, &column);
    return FT_FAIL(err, INVALID, "JSON line %d column %d: %s", line, column, what);
}

static enum ft_status no_memory(struct ft_err *err)
{
    return FT_FAIL(err, NOMEM, "no memory for a JSON value");
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->text.size) {
        uint8_t c = p->text.data[p->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return;
        }
        p->at++;
    }
}

/* The next byte, or -1 at the end. */
static int peek(const struct parser *p)
{
    return p->at < p->text.size ? p->text.data[p->at] : -1;
}

static bool read_hex4(struct parser *p, uint32_t *out)
{
    *out = 0;
    if (p->text.size - p->at < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        uint8_t c = p->text.data[p->at++];
        uint32_t digit = 0;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        } else {
            return false;
        }
        *out = *out << 4 | digit;
    }
    return true;
}

static size_t encode_utf8(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* After "\u". */
static enum ft_status read_unicode(struct parser *p, struct ft_err *err)
{
    size_t start = p->at - 2;
    uint32_t code = 0;
    uint32_t low = 0;
    if (!read_hex4(p, &code)) {
        return fail_at(p, start, "\\u needs four hexadecimal digits", err);
    }
    if (code == 0) {
        return fail_at(p, start, "text with U+0000 is not read", err);
    }
    if (code >= 0xd800 && code <= 0xdfff) {
        bool pair = code < 0xdc00 && p->text.size - p->at >= 2 && p->text.data[p->at] == '\\' &&
                    p->text.data[p->at + 1] == 'u';
        if (pair) {
            p->at += 2;
            pair = read_hex4(p, &low) && low >= 0xdc00 && low <= 0xdfff;
        }
        if (!pair) {
            return fail_at(p, start, "half of a surrogate pair", err);
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    uint8_t bytes[4];
    size_t n = encode_utf8(code, bytes);
    return ft_buf_append(&p->scratch, bytes, n, err);
}

/* At a backslash. */
static enum ft_status read_escape(struct parser *p, struct ft_err *err)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    if (p->text.size - p->at < 2) {
        return fail_at(p, p->at, "text without its closing quote", err);
    }
    char c = (char)p->text.data[p->at + 1];
    if (c == 'u') {
        p->at += 2;
        return read_unicode(p, err);
    }
    const char *found = c == '\0' ? NULL : strchr(names, c);
    if (found == NULL) {
        return fail_at(p, p->at, "unknown escape", err);
    }
    p->at += 2;
    return ft_buf_append(&p->scratch, &values[found - names], 1, err);
}

/* At a quote. *out is borrowed from the text, or from scratch until the next token. */
static enum ft_status read_string(struct parser *p, struct ft_bytes *out, struct ft_err *err)
{
    size_t open = p->at++;
    bool escaped = false;
    p->scratch.size = 0;
    for (;;) {
        size_t start = p->at;
        while (p->at < p->text.size && p->text.data[p->at] != '"' && p->text.data[p->at] != '\\' &&
               p->text.data[p->at] >= 0x20) {
            p->at++;
        }
        *out = ft_bytes_of(p->text.data + start, p->at - start);
        if (!ft_utf8_valid(*out)) {
            return fail_at(p, start, "text is not UTF-8", err);
        }
        int c = peek(p);
        if (c == -1) {
            return fail_at(p, open, "text without its closing quote", err);
        }
        if (c == '"' && !escaped) {
            p->at++;
            return FT_OK;
        }
        FT_RETURN_IF_FAILED(ft_buf_append(&p->scratch, out->data, out->size, err));
        if (c == '"') {
            p->at++;
            *out = ft_buf_bytes(&p->scratch);
            return FT_OK;
        }
        if (c != '\\') {
            return fail_at(p, p->at, "control character in text", err);
        }
        escaped = true;
        FT_RETURN_IF_FAILED(read_escape(p, err));
    }
}

static size_t skip_digits(struct parser *p)
{
    size_t start = p->at;
    while (p->at < p->text.size && p->text.data[p->at] >= '0' && p->text.data[p->at] <= '9') {
        p->at++;
    }
    return p->at - start;
}

/* Walk over a number by JSON's grammar; *integral says that it has neither fraction nor exponent. */
static enum ft_status skip_number(struct parser *p, bool *integral, struct ft_err *err)
{
    size_t start = p->at;
    *integral = true;
    if (peek(p) == '-') {
        p->at++;
    }
    if (peek(p) == '0') {
        p->at++;
    } else if (skip_digits(p) == 0) {
        return fail_at(p, start, "a value is expected here", err);
    }
    if (peek(p) == '.') {
        p->at++;
        *integral = false;
        if (skip_digits(p) == 0) {
            return fail_at(p, start, "a number needs digits after its point", err);
        }
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        p->at++;
        *integral = false;
        if (peek(p) == '+' || peek(p) == '-') {
            p->at++;
        }
        if (skip_digits(p) == 0) {
            return fail_at(p, start, "a number needs digits in its exponent", err);
        }
    }
    return FT_OK;
}

static bool to_int64(struct ft_bytes digits, int64_t *out)
{
    bool minus = digits.data[0] == '-';
    int64_t value = 0;
    for (size_t i = minus ? 1 : 0; i < digits.size; i++) {
        int64_t digit = digits.data[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, minus ? -digit : digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

static enum ft_status parse_number(struct parser *p, json_t **out, struct ft_err *err)
{
    size_t start = p->at;
    bool integral = false;
    int64_t integer = 0;
    FT_RETURN_IF_FAILED(skip_number(p, &integral, err));
    struct ft_bytes token = ft_bytes_of(p->text.data + start, p->at - start);
    if (integral && to_int64(token, &integer)) {
        *out = json_integer(integer);
    } else {
        p->scratch.size = 0;
        FT_RETURN_IF_FAILED(ft_buf_append(&p->scratch, token.data, token.size, err));
        /* The program never leaves the "C" locale, so the point is a point. */
        double real = strtod((const char *)p->scratch.data, NULL);
        if (!isfinite(real)) {
            return fail_at(p, start, "the number does not fit a double", err);
        }
        *out = json_real(real);
    }
    return *out != NULL ? FT_OK : no_memory(err);
}

static enum ft_status parse_value(struct parser *p, json_t **out, struct ft_err *err);

static enum ft_status parse_array(struct parser *p, json_t *array, struct ft_err *err)
{
    p->at++;
    skip_blanks(p);
    if (peek(p) == ']') {
        p->at++;
        return FT_OK;
    }
    for (;;) {
        json_t *item = NULL;
        FT_RETURN_IF_FAILED(parse_value(p, &item, err));
        if (json_array_append_new(array, item) != 0) {
            return no_memory(err);
        }
        skip_blanks(p);
        int c = peek(p);
        if (c != ',' && c != ']') {
            return fail_at(p, p->at, "',' or ']' is expected here", err);
        }
        p->at++;
        if (c == ']') {
            return FT_OK;
        }
    }
}

/* `"key": value`; the key is read first and must not be there yet. */
static enum ft_status parse_member(struct parser *p, json_t *object, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_bytes key = {0};
    char *name = NULL;
    json_t *item = NULL;
    skip_blanks(p);
    size_t start = p->at;
    if (peek(p) != '"') {
        return fail_at(p, p->at, "a key in double quotes is expected here", err);
    }
    FT_RETURN_IF_FAILED(read_string(p, &key, err));
    name = ft_strndup((const char *)key.data, key.size);
    if (name == NULL) {
        return no_memory(err);
    }
    if (json_object_get(object, name) != NULL) {
        st = fail_at(p, start, "this key stands twice in its object", err);
        goto done;
    }
    skip_blanks(p);
    if (peek(p) != ':') {
        st = fail_at(p, p->at, "':' is expected here", err);
        goto done;
    }
    p->at++;
    FT_TRY(parse_value(p, &item, err));
    if (json_object_set_new_nocheck(object, name, item) != 0) {
        st = no_memory(err);
    }
done:
    ft_free(name);
    return st;
}

static enum ft_status parse_object(struct parser *p, json_t *object, struct ft_err *err)
{
    p->at++;
    skip_blanks(p);
    if (peek(p) == '}') {
        p->at++;
        return FT_OK;
    }
    for (;;) {
        FT_RETURN_IF_FAILED(parse_member(p, object, err));
        skip_blanks(p);
        int c = peek(p);
        if (c != ',' && c != '}') {
            return fail_at(p, p->at, "',' or '}' is expected here", err);
        }
        p->at++;
        if (c == '}') {
            return FT_OK;
        }
    }
}

static enum ft_status parse_container(struct parser *p, bool is_array, json_t **out, struct ft_err *err)
{
    if (p->depth == FT_MAX_NESTING) {
        return FT_FAIL(err, LIMIT, "JSON is nested more than %d levels deep", FT_MAX_NESTING);
    }
    json_t *fresh = is_array ? json_array() : json_object();
    if (fresh == NULL) {
        return no_memory(err);
    }
    p->depth++;
    enum ft_status st = is_array ? parse_array(p, fresh, err) : parse_object(p, fresh, err);
    p->depth--;
    if (st != FT_OK) {
        json_decref(fresh);
        return st;
    }
    *out = fresh;
    return FT_OK;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t n = strlen(word);
    if (p->text.size - p->at < n || memcmp(p->text.data + p->at, word, n) != 0) {
        return false;
    }
    p->at += n;
    return true;
}

/* Recurses through parse_container(), at most FT_MAX_NESTING deep. */
static enum ft_status parse_value(struct parser *p, json_t **out, struct ft_err *err)
{
    *out = NULL;
    skip_blanks(p);
    int c = peek(p);
    if (c == '{' || c == '[') {
        return parse_container(p, c == '[', out, err);
    }
    if (c == '"') {
        struct ft_bytes text = {0};
        FT_RETURN_IF_FAILED(read_string(p, &text, err));
        *out = json_stringn_nocheck((const char *)text.data, text.size);
    } else if (take_word(p, "null")) {
        *out = json_null();
    } else if (take_word(p, "true")) {
        *out = json_true();
    } else if (take_word(p, "false")) {
        *out = json_false();
    } else if (c == -1) {
        return fail_at(p, p->at, "the text ends where a value is expected", err);
    } else {
        return parse_number(p, out, err);
    }
    return *out != NULL ? FT_OK : no_memory(err);
}

enum ft_status ft_json_parse(struct ft_bytes text, struct ft_json **json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct parser p = {.text = text};
    json_t *root = NULL;
    *json = NULL;
    use_hooks();
    FT_TRY(parse_value(&p, &root, err));
    skip_blanks(&p);
    if (p.at < p.text.size) {
        st = fail_at(&p, p.at, "something follows the value", err);
        goto done;
    }
    *json = wrapped(root);
    root = NULL;
done:
    json_decref(root);
    ft_buf_release(&p.scratch);
    return st;
}

enum ft_status ft_json_parse_named(struct ft_bytes text, const char *name, struct ft_json **json,
                                   struct ft_err *err)
{
    return ft_json_parse(text, json, err) == FT_OK ? FT_OK : ft_err_wrap(err, "%s", name);
}

void ft_json_free(struct ft_json *json)
{
    json_decref(tree_of(json));
}

enum ft_json_kind ft_json_kind(const struct ft_json *json)
{
    if (json == NULL) {
        return FT_JSON_NULL;
    }
    switch (json_typeof(tree_of(json))) {
    case JSON_OBJECT:
        return FT_JSON_OBJECT;
    case JSON_ARRAY:
        return FT_JSON_ARRAY;
    case JSON_STRING:
        return FT_JSON_TEXT;
    case JSON_INTEGER:
        return FT_JSON_INT;
    case JSON_REAL:
        return FT_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return FT_JSON_BOOL;
    case JSON_NULL:
        break;
    }
    return FT_JSON_NULL;
}

const char *ft_json_kind_name(enum ft_json_kind kind)
{
    switch (kind) {
    case FT_JSON_NULL:
        return "null";
    case FT_JSON_BOOL:
        return "true or false";
    case FT_JSON_INT:
        return "an integer";
    case FT_JSON_REAL:
        return "a number";
    case FT_JSON_TEXT:
        return "text";
    case FT_JSON_ARRAY:
        return "an array";
    case FT_JSON_OBJECT:
        return "an object";
    }
    return "null";
}

bool ft_json_bool(const struct ft_json *json)
{
    return json_is_true(tree_of(json));
}

bool ft_json_is_number(const struct ft_json *json)
{
    return json_is_number(tree_of(json));
}

bool ft_json_is_integral(const struct ft_json *json)
{
    if (ft_json_kind(json) == FT_JSON_INT) {
        return true;
    }
    double real = ft_json_real(json);
    return ft_json_kind(json) == FT_JSON_REAL && real == floor(real) && real >= -0x1p63 && real < 0x1p63;
}

int64_t ft_json_int(const struct ft_json *json)
{
    if (ft_json_kind(json) == FT_JSON_INT) {
        return json_integer_value(tree_of(json));
    }
    return ft_json_is_integral(json) ? (int64_t)ft_json_real(json) : 0;
}

double ft_json_real(const struct ft_json *json)
{
    return json_number_value(tree_of(json));
}

const char *ft_json_text(const struct ft_json *json, size_t *size)
{
    if (size != NULL) {
        *size = json_string_length(tree_of(json));
    }
    return json_string_value(tree_of(json));
}

size_t ft_json_count(const struct ft_json *json)
{
    return ft_json_kind(json) == FT_JSON_ARRAY ? json_array_size(tree_of(json))
                                               : json_object_size(tree_of(json));
}

const struct ft_json *ft_json_at(const struct ft_json *json, size_t i)
{
    return wrapped(json_array_get(tree_of(json), i));
}

const struct ft_json *ft_json_get(const struct ft_json *json, const char *key)
{
    return wrapped(json_object_get(tree_of(json), key));
}

struct ft_json_iter *ft_json_first(const struct ft_json *object)
{
    return json_object_iter(tree_of(object));
}

struct ft_json_iter *ft_json_next(const struct ft_json *object, struct ft_json_iter *it)
{
    return json_object_iter_next(tree_of(object), it);
}

const char *ft_json_key(struct ft_json_iter *it)
{
    return json_object_iter_key(it);
}

const struct ft_json *ft_json_value(struct ft_json_iter *it)
{
    return wrapped(json_object_iter_value(it));
}

struct ft_json *ft_json_object(void)
{
    use_hooks();
    return wrapped(json_object());
}

struct ft_json *ft_json_array(void)
{
    use_hooks();
    return wrapped(json_array());
}

struct ft_json *ft_json_null(void)
{
    return wrapped(json_null());
}

struct ft_json *ft_json_of_bool(bool value)
{
    return wrapped(json_boolean(value));
}

struct ft_json *ft_json_of_int(int64_t value)
{
    use_hooks();
    return wrapped(json_integer(value));
}

struct ft_json *ft_json_of_real(double value)
{
    use_hooks();
    return wrapped(json_real(value));
}

struct ft_json *ft_json_of_text(const char *text)
{
    return ft_json_of_bytes(ft_bytes_of_text(text));
}

struct ft_json *ft_json_of_bytes(struct ft_bytes text)
{
    use_hooks();
    /* Jansson reads no data of an empty range but wants a pointer. */
    const char *data = text.size > 0 ? (const char *)text.data : "";
    if (!ft_utf8_valid(text) || memchr(data, '\0', text.size) != NULL) {
        return NULL;
    }
    return wrapped(json_stringn_nocheck(data, text.size));
}

struct ft_json *ft_json_copy(const struct ft_json *json)
{
    use_hooks();
    return wrapped(json_deep_copy(tree_of(json)));
}

enum ft_status ft_json_set(struct ft_json *object, const char *key, struct ft_json *take_value,
                           struct ft_err *err)
{
    if (take_value == NULL) {
        return no_memory(err);
    }
    assert(ft_json_kind(object) == FT_JSON_OBJECT);
    if (!ft_utf8_valid(ft_bytes_of_text(key))) {
        ft_json_free(take_value);
        return FT_FAIL(err, INVALID, "a JSON key is not UTF-8");
    }
    if (json_object_set_new_nocheck(tree_of(object), key, tree_of(take_value)) != 0) {
        return no_memory(err);
    }
    return FT_OK;
}

enum ft_status ft_json_push(struct ft_json *array, struct ft_json *take_value, struct ft_err *err)
{
    if (take_value == NULL) {
        return no_memory(err);
    }
    assert(ft_json_kind(array) == FT_JSON_ARRAY);
    return json_array_append_new(tree_of(array), tree_of(take_value)) == 0 ? FT_OK : no_memory(err);
}

static enum ft_status write_text(const char *text, size_t size, struct ft_buf *out, struct ft_err *err)
{
    static const char names[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    size_t start = 0;
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, size + 2, err));
    FT_RETURN_IF_FAILED(ft_buf_append(out, "\"", 1, err));
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_buf_append(out, text + start, i - start, err));
        start = i + 1;
        const char *found = c == '\0' ? NULL : strchr(names, c);
        if (found != NULL) {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "\\%c", letters[found - names]));
        } else {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "\\u%04x", c));
        }
    }
    FT_RETURN_IF_FAILED(ft_buf_append(out, text + start, size - start, err));
    return ft_buf_append(out, "\"", 1, err);
}

/* The fewest digits that read back as the same double; a point or an exponent marks it as a real. */
static enum ft_status write_real(double value, struct ft_buf *out, struct ft_err *err)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    FT_RETURN_IF_FAILED(ft_buf_text(out, text, err));
    return strpbrk(text, ".e") == NULL ? ft_buf_text(out, ".0", err) : FT_OK;
}

static enum ft_status write_scalar(const struct ft_json *json, struct ft_buf *out, struct ft_err *err)
{
    size_t size = 0;
    switch (ft_json_kind(json)) {
    case FT_JSON_BOOL:
        return ft_buf_text(out, ft_json_bool(json) ? "true" : "false", err);
    case FT_JSON_INT:
        return ft_buf_printf(out, err, "%lld", (long long)ft_json_int(json));
    case FT_JSON_REAL:
        return write_real(ft_json_real(json), out, err);
    case FT_JSON_TEXT: {
        const char *text = ft_json_text(json, &size);
        return write_text(text, size, out, err);
    }
    case FT_JSON_NULL:
    case FT_JSON_ARRAY:
    case FT_JSON_OBJECT:
        break;
    }
    return ft_buf_text(out, "null", err);
}

/* What stands in front of an item: the comma, then a line of its own or one blank. */
static enum ft_status write_break(bool comma, int indent, int depth, struct ft_buf *out, struct ft_err *err)
{
    if (comma) {
        FT_RETURN_IF_FAILED(ft_buf_text(out, indent > 0 ? "," : ", ", err));
    }
    return indent > 0 ? ft_buf_printf(out, err, "\n%*s", indent * depth, "") : FT_OK;
}

/* How a value is written; indent 0: on one line. */
struct style {
    int indent;
    bool sorted;
};

static enum ft_status write_value(const struct ft_json *json, struct style style, int depth,
                                  struct ft_buf *out, struct ft_err *err);

static enum ft_status write_member(const char *key, const struct ft_json *value, struct style style,
                                   int depth, struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(write_text(key, strlen(key), out, err));
    FT_RETURN_IF_FAILED(ft_buf_text(out, ": ", err));
    return write_value(value, style, depth, out, err);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum ft_status write_sorted(const struct ft_json *object, struct style style, int depth,
                                   struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t count = ft_json_count(object);
    const char **keys = NULL;
    FT_TRY(ft_new(count, sizeof *keys, &keys, err));
    struct ft_json_iter *it = ft_json_first(object);
    for (size_t i = 0; i < count; i++, it = ft_json_next(object, it)) {
        keys[i] = ft_json_key(it);
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count; i++) {
        FT_TRY(write_break(i > 0, style.indent, depth, out, err));
        FT_TRY(write_member(keys[i], ft_json_get(object, keys[i]), style, depth, out, err));
    }
done:
    ft_free(keys);
    return st;
}

static enum ft_status write_items(const struct ft_json *json, struct style style, int depth,
                                  struct ft_buf *out, struct ft_err *err)
{
    bool array = ft_json_kind(json) == FT_JSON_ARRAY;
    if (!array && style.sorted) {
        return write_sorted(json, style, depth, out, err);
    }
    struct ft_json_iter *it = ft_json_first(json);
    for (size_t i = 0; i < ft_json_count(json); i++) {
        FT_RETURN_IF_FAILED(write_break(i > 0, style.indent, depth, out, err));
        if (array) {
            FT_RETURN_IF_FAILED(write_value(ft_json_at(json, i), style, depth, out, err));
        } else {
            FT_RETURN_IF_FAILED(write_member(ft_json_key(it), ft_json_value(it), style, depth, out, err));
            it = ft_json_next(json, it);
        }
    }
    return FT_OK;
}

static enum ft_status write_value(const struct ft_json *json, struct style style, int depth,
                                  struct ft_buf *out, struct ft_err *err)
{
    enum ft_json_kind kind = ft_json_kind(json);
    if (kind != FT_JSON_ARRAY && kind != FT_JSON_OBJECT) {
        return write_scalar(json, out, err);
    }
    if (ft_json_count(json) == 0) {
        return ft_buf_text(out, kind == FT_JSON_ARRAY ? "[]" : "{}", err);
    }
    FT_RETURN_IF_FAILED(ft_buf_text(out, kind == FT_JSON_ARRAY ? "[" : "{", err));
    FT_RETURN_IF_FAILED(write_items(json, style, depth + 1, out, err));
    FT_RETURN_IF_FAILED(write_break(false, style.indent, depth, out, err));
    return ft_buf_text(out, kind == FT_JSON_ARRAY ? "]" : "}", err);
}

static enum ft_status write_whole(const struct ft_json *json, struct style style, struct ft_buf *out,
                                  struct ft_err *err)
{
    size_t before = out->size;
    enum ft_status st = write_value(json, style, 0, out, err);
    if (st != FT_OK) {
        out->size = before;
    }
    return st;
}

enum ft_status ft_json_write(const struct ft_json *json, int indent, struct ft_buf *out, struct ft_err *err)
{
    return write_whole(json, (struct style){.indent = indent}, out, err);
}

enum ft_status ft_json_write_sorted(const struct ft_json *json, struct ft_buf *out, struct ft_err *err)
{
    return write_whole(json, (struct style){.sorted = true}, out, err);
}
