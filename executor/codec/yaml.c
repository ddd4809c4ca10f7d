#include "executor/codec/yaml.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"

/* ---- reading ---- */

struct entry {
    struct entry *next;
    const char *key; /* of an object */
    int key_line;
    struct ft_yaml *value;
};

/* A container that is still open. */
struct frame {
    struct ft_yaml *node;
    struct entry *first;
    struct entry *last;
    const char *key; /* read, its value not yet */
    int key_line;
};

struct builder {
    struct ft_arena *arena;
    struct frame frames[FT_MAX_NESTING];
    int depth;
    struct ft_yaml *root;
    bool done; /* the document has ended */
    struct ft_err *err;
};

static bool is_digits(const char *text, const char *set)
{
    return *text != '\0' && text[strspn(text, set)] == '\0';
}

static bool one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_integer(const char *text, int64_t *out)
{
    bool minus = *text == '-';
    int base = 10;
    const char *digits = text + (*text == '-' || *text == '+' ? 1 : 0);
    if (strncmp(text, "0x", 2) == 0) {
        base = 16;
        digits = text + 2;
    } else if (strncmp(text, "0o", 2) == 0) {
        base = 8;
        digits = text + 2;
    }
    const char *set = base == 16 ? "0123456789abcdefABCDEF" : base == 8 ? "01234567" : "0123456789";
    if (!is_digits(digits, set)) {
        return false;
    }
    int64_t value = 0;
    for (const char *p = digits; *p != '\0'; p++) {
        int64_t digit = *p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, minus ? -digit : digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool looks_real(const char *text)
{
    static const char digits[] = "0123456789";
    const char *p = text + (*text == '-' || *text == '+' ? 1 : 0);
    size_t whole = strspn(p, digits);
    p += whole;
    if (*p == '.') {
        size_t part = strspn(++p, digits);
        p += part;
        whole += part;
    }
    if (whole == 0) {
        return false;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '-' || *p == '+' ? 1 : 0;
        return is_digits(p, digits);
    }
    return *p == '\0';
}

static bool read_real(const char *text, double *out)
{
    static const char *const infinite[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
    const char *unsigned_text = text + (*text == '-' || *text == '+' ? 1 : 0);
    if (one_of(unsigned_text, infinite)) {
        *out = *text == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (one_of(text, nan_words)) {
        *out = NAN;
        return true;
    }
    if (!looks_real(text)) {
        return false;
    }
    /* The program never leaves the "C" locale, so the point is a point. */
    *out = strtod(text, NULL);
    return true;
}

/* YAML 1.2, chapter 10.3: the core schema. */
static void resolve_plain(struct ft_yaml *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    if (one_of(node->text, nulls)) {
        node->kind = FT_JSON_NULL;
    } else if (one_of(node->text, trues) || one_of(node->text, falses)) {
        node->kind = FT_JSON_BOOL;
        node->truth = (*node->text | 0x20) == 't';
    } else if (read_integer(node->text, &node->integer)) {
        node->kind = FT_JSON_INT;
        node->real = (double)node->integer;
    } else if (read_real(node->text, &node->real)) {
        node->kind = FT_JSON_REAL;
    }
}

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

static enum ft_status scalar_text(struct builder *b, const yaml_event_t *event, const char **out)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length;
    if (memchr(value, '\0', size) != NULL) {
        return FT_FAIL(b->err, INVALID, "YAML line %d: text with U+0000 is not read", line_of(event));
    }
    return ft_arena_text(b->arena, value, size, out, b->err);
}

/* Put a finished or just opened value where it belongs. */
static enum ft_status place(struct builder *b, struct ft_yaml *node)
{
    if (b->depth == 0) {
        b->root = node;
        return FT_OK;
    }
    struct frame *top = &b->frames[b->depth - 1];
    struct entry *entry = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(b->arena, 1, sizeof *entry, &entry, b->err));
    *entry = (struct entry){.key = top->key, .key_line = top->key_line, .value = node};
    if (top->last == NULL) {
        top->first = entry;
    } else {
        top->last->next = entry;
    }
    top->last = entry;
    top->key = NULL;
    top->node->count++;
    return FT_OK;
}

static bool wants_key(const struct builder *b)
{
    if (b->depth == 0) {
        return false;
    }
    const struct frame *top = &b->frames[b->depth - 1];
    return top->node->kind == FT_JSON_OBJECT && top->key == NULL;
}

static enum ft_status on_scalar(struct builder *b, const yaml_event_t *event)
{
    struct ft_yaml *node = NULL;
    if (wants_key(b)) {
        struct frame *top = &b->frames[b->depth - 1];
        top->key_line = line_of(event);
        return scalar_text(b, event, &top->key);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(b->arena, 1, sizeof *node, &node, b->err));
    node->kind = FT_JSON_TEXT;
    node->line = line_of(event);
    FT_RETURN_IF_FAILED(scalar_text(b, event, &node->text));
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        resolve_plain(node);
    }
    return place(b, node);
}

static enum ft_status on_open(struct builder *b, const yaml_event_t *event, enum ft_json_kind kind)
{
    struct ft_yaml *node = NULL;
    if (wants_key(b)) {
        return FT_FAIL(b->err, UNSUPPORTED, "YAML line %d: a key must be a scalar", line_of(event));
    }
    if (b->depth == FT_MAX_NESTING) {
        return FT_FAIL(b->err, LIMIT, "YAML line %d: nested more than %d levels deep", line_of(event),
                       FT_MAX_NESTING);
    }
    FT_RETURN_IF_FAILED(ft_arena_new(b->arena, 1, sizeof *node, &node, b->err));
    node->kind = kind;
    node->line = line_of(event);
    FT_RETURN_IF_FAILED(place(b, node));
    b->frames[b->depth++] = (struct frame){.node = node};
    return FT_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct entry *const *x = a;
    const struct entry *const *y = b;
    int order = strcmp((*x)->key, (*y)->key);
    return order != 0 ? order : (*x)->key_line - (*y)->key_line;
}

static enum ft_status check_keys(struct builder *b, const struct frame *frame)
{
    struct entry **sorted = NULL;
    size_t n = 0;
    enum ft_status st = FT_OK;
    FT_RETURN_IF_FAILED(ft_new(frame->node->count, sizeof(struct entry *), &sorted, b->err));
    for (struct entry *e = frame->first; e != NULL; e = e->next) {
        sorted[n++] = e;
    }
    if (n > 1) {
        qsort(sorted, n, sizeof(struct entry *), by_key);
    }
    for (size_t i = 1; i < n && st == FT_OK; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0) {
            st = FT_FAIL(b->err, INVALID, "YAML line %d: key '%.200s' stands already on line %d",
                         sorted[i]->key_line, sorted[i]->key, sorted[i - 1]->key_line);
        }
    }
    ft_free(sorted);
    return st;
}

static enum ft_status on_close(struct builder *b)
{
    assert(b->depth > 0);
    const struct frame *frame = &b->frames[--b->depth];
    struct ft_yaml *node = frame->node;
    bool object = node->kind == FT_JSON_OBJECT;
    FT_RETURN_IF_FAILED(ft_arena_new(b->arena, node->count, sizeof(struct ft_yaml *), &node->items, b->err));
    if (object) {
        FT_RETURN_IF_FAILED(check_keys(b, frame));
        FT_RETURN_IF_FAILED(ft_arena_new(b->arena, node->count, sizeof(const char *), &node->keys, b->err));
        FT_RETURN_IF_FAILED(ft_arena_new(b->arena, node->count, sizeof(int), &node->key_lines, b->err));
    }
    size_t i = 0;
    for (const struct entry *e = frame->first; e != NULL; e = e->next, i++) {
        node->items[i] = e->value;
        if (object) {
            node->keys[i] = e->key;
            node->key_lines[i] = e->key_line;
        }
    }
    return FT_OK;
}

static enum ft_status no_anchor(struct builder *b, const yaml_event_t *event, const yaml_char_t *anchor)
{
    if (anchor != NULL) {
        return FT_FAIL(b->err, UNSUPPORTED, "YAML line %d: anchors and aliases are not read", line_of(event));
    }
    return FT_OK;
}

static enum ft_status on_event(struct builder *b, const yaml_event_t *event, bool *end)
{
    switch (event->type) {
    case YAML_STREAM_END_EVENT:
        *end = true;
        return FT_OK;
    case YAML_DOCUMENT_START_EVENT:
        if (b->done) {
            return FT_FAIL(b->err, UNSUPPORTED, "YAML line %d: a second document is not read",
                           line_of(event));
        }
        return FT_OK;
    case YAML_DOCUMENT_END_EVENT:
        b->done = true;
        return FT_OK;
    case YAML_ALIAS_EVENT:
        return no_anchor(b, event, event->data.alias.anchor);
    case YAML_SCALAR_EVENT:
        FT_RETURN_IF_FAILED(no_anchor(b, event, event->data.scalar.anchor));
        return on_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        FT_RETURN_IF_FAILED(no_anchor(b, event, event->data.sequence_start.anchor));
        return on_open(b, event, FT_JSON_ARRAY);
    case YAML_MAPPING_START_EVENT:
        FT_RETURN_IF_FAILED(no_anchor(b, event, event->data.mapping_start.anchor));
        return on_open(b, event, FT_JSON_OBJECT);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b);
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
        break;
    }
    return FT_OK;
}

static enum ft_status parser_failed(const yaml_parser_t *parser, struct ft_err *err)
{
    const char *problem = parser->problem != NULL ? parser->problem : "it is not YAML";
    if (parser->error == YAML_MEMORY_ERROR) {
        return FT_FAIL(err, NOMEM, "no memory to read YAML");
    }
    if (parser->error == YAML_READER_ERROR) {
        return FT_FAIL(err, INVALID, "YAML byte %zu: %s", parser->problem_offset, problem);
    }
    return FT_FAIL(err, INVALID, "YAML line %d column %d: %s", (int)parser->problem_mark.line + 1,
                   (int)parser->problem_mark.column + 1, problem);
}

enum ft_status ft_yaml_parse(struct ft_bytes text, struct ft_arena *arena, struct ft_yaml **root,
                             struct ft_err *err)
{
    *root = NULL;
    if (text.size > FT_MAX_CONFIG_BYTES) {
        return FT_FAIL(err, LIMIT, "YAML has %zu bytes, more than the limit of %d", text.size,
                       (int)FT_MAX_CONFIG_BYTES);
    }
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0) {
        return FT_FAIL(err, NOMEM, "no memory to read YAML");
    }
    struct builder b = {.arena = arena, .err = err};
    enum ft_status st = FT_OK;
    bool end = false;
    yaml_parser_set_input_string(&parser, text.data != NULL ? text.data : (const yaml_char_t *)"", text.size);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    while (st == FT_OK && !end) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) == 0) {
            st = parser_failed(&parser, err);
            break;
        }
        st = on_event(&b, &event, &end);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (st == FT_OK && b.root == NULL) {
        st = ft_arena_new(arena, 1, sizeof *b.root, &b.root, err);
        if (st == FT_OK) {
            b.root->line = 1;
        }
    }
    if (st == FT_OK) {
        *root = b.root;
    }
    return st;
}

const struct ft_yaml *ft_yaml_get(const struct ft_yaml *object, const char *key)
{
    if (object == NULL || object->kind != FT_JSON_OBJECT) {
        return NULL;
    }
    for (size_t i = 0; i < object->count; i++) {
        if (strcmp(object->keys[i], key) == 0) {
            return object->items[i];
        }
    }
    return NULL;
}

static enum ft_status children_to_json(const struct ft_yaml *yaml, struct ft_json *into, struct ft_err *err)
{
    for (size_t i = 0; i < yaml->count; i++) {
        struct ft_json *child = NULL;
        FT_RETURN_IF_FAILED(ft_yaml_to_json(yaml->items[i], &child, err));
        if (yaml->kind == FT_JSON_OBJECT) {
            FT_RETURN_IF_FAILED(ft_json_set(into, yaml->keys[i], child, err));
        } else {
            FT_RETURN_IF_FAILED(ft_json_push(into, child, err));
        }
    }
    return FT_OK;
}

/* Recurses as deep as ft_yaml_parse() lets a tree be. */
enum ft_status ft_yaml_to_json(const struct ft_yaml *yaml, struct ft_json **json, struct ft_err *err)
{
    struct ft_json *made = NULL;
    *json = NULL;
    switch (yaml->kind) {
    case FT_JSON_NULL:
        made = ft_json_null();
        break;
    case FT_JSON_BOOL:
        made = ft_json_of_bool(yaml->truth);
        break;
    case FT_JSON_INT:
        made = ft_json_of_int(yaml->integer);
        break;
    case FT_JSON_REAL:
        if (!isfinite(yaml->real)) {
            return FT_FAIL(err, INVALID, "YAML line %d: %s has no place in JSON", yaml->line, yaml->text);
        }
        made = ft_json_of_real(yaml->real);
        break;
    case FT_JSON_TEXT:
        made = ft_json_of_text(yaml->text);
        break;
    case FT_JSON_ARRAY:
        made = ft_json_array();
        break;
    case FT_JSON_OBJECT:
        made = ft_json_object();
        break;
    }
    if (made == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a JSON value");
    }
    enum ft_status st = children_to_json(yaml, made, err);
    if (st != FT_OK) {
        ft_json_free(made);
        return st;
    }
    *json = made;
    return FT_OK;
}

/* ---- writing ---- */

enum { SIMPLE_KEY_BYTES = 900 }; /* readers look for a key's ':' within 1024 characters */

/* Words that YAML 1.1 (PyYAML) or 1.2 reads as something else than text. */
static bool is_word_of_yaml(const char *text)
{
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", NULL};
    for (const char *const *w = words; *w != NULL; w++) {
        if (strcasecmp(text, *w) == 0) {
            return true;
        }
    }
    return false;
}

/* Deliberately narrow: what starts with a letter and holds nothing that any reader could take for syntax. */
static bool may_be_plain(const char *text, size_t size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    static const char others[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789 ./-+@()=";
    if (size == 0 || strchr(letters, text[0]) == NULL || text[size - 1] == ' ') {
        return false;
    }
    return strspn(text, others) == size && !is_word_of_yaml(text);
}

static enum ft_status put_escape(struct ft_buf *out, uint32_t code, struct ft_err *err)
{
    switch (code) {
    case '"':
        return ft_buf_text(out, "\\\"", err);
    case '\\':
        return ft_buf_text(out, "\\\\", err);
    case '\n':
        return ft_buf_text(out, "\\n", err);
    case '\r':
        return ft_buf_text(out, "\\r", err);
    case '\t':
        return ft_buf_text(out, "\\t", err);
    default:
        return ft_buf_printf(out, err, code < 0x100 ? "\\x%02X" : "\\u%04X", code);
    }
}

/* The character at p (valid UTF-8) and its length. */
static uint32_t decode_utf8(const uint8_t *p, size_t *size)
{
    if (p[0] < 0x80) {
        *size = 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *size = 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *size = 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *size = 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
           (p[3] & 0x3f);
}

static bool must_escape(uint32_t code)
{
    return code < 0x20 || code == '"' || code == '\\' || (code >= 0x7f && code < 0xa0) || code == 0x2028 ||
           code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff;
}

static enum ft_status put_text(struct ft_buf *out, const char *text, size_t size, struct ft_err *err)
{
    if (may_be_plain(text, size)) {
        return ft_buf_append(out, text, size, err);
    }
    FT_RETURN_IF_FAILED(ft_buf_text(out, "\"", err));
    for (size_t i = 0; i < size;) {
        size_t n = 0;
        uint32_t code = decode_utf8((const uint8_t *)text + i, &n);
        if (must_escape(code)) {
            FT_RETURN_IF_FAILED(put_escape(out, code, err));
        } else {
            FT_RETURN_IF_FAILED(ft_buf_append(out, text + i, n, err));
        }
        i += n;
    }
    return ft_buf_text(out, "\"", err);
}

/* As JSON writes it, but with a point also before an exponent: PyYAML takes 1e-05 for text. */
static enum ft_status put_real(struct ft_buf *out, const struct ft_json *json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    FT_TRY(ft_json_write(json, 0, &text, err));
    const char *number = (const char *)text.data;
    const char *exponent = strchr(number, 'e');
    if (exponent != NULL && strchr(number, '.') == NULL) {
        FT_TRY(ft_buf_append(out, number, (size_t)(exponent - number), err));
        FT_TRY(ft_buf_text(out, ".0", err));
        number = exponent;
    }
    st = ft_buf_text(out, number, err);
done:
    ft_buf_release(&text);
    return st;
}

static enum ft_status put_scalar(struct ft_buf *out, const struct ft_json *json, struct ft_err *err)
{
    size_t size = 0;
    enum ft_json_kind kind = ft_json_kind(json);
    if (kind == FT_JSON_TEXT) {
        const char *text = ft_json_text(json, &size);
        return put_text(out, text, size, err);
    }
    if (kind == FT_JSON_REAL) {
        return put_real(out, json, err);
    }
    return ft_json_write(json, 0, out, err); /* null, true, false, integers, {} and [] are the same */
}

static bool is_container(const struct ft_json *json)
{
    enum ft_json_kind kind = ft_json_kind(json);
    return kind == FT_JSON_ARRAY || kind == FT_JSON_OBJECT;
}

/* Scalars, empty containers and arrays of scalars stand on the line of their key. */
static bool fits_line(const struct ft_json *json)
{
    if (!is_container(json) || ft_json_count(json) == 0) {
        return true;
    }
    if (ft_json_kind(json) == FT_JSON_OBJECT) {
        return false;
    }
    for (size_t i = 0; i < ft_json_count(json); i++) {
        if (is_container(ft_json_at(json, i))) {
            return false;
        }
    }
    return true;
}

static enum ft_status put_line(struct ft_buf *out, const struct ft_json *json, struct ft_err *err)
{
    if (ft_json_kind(json) != FT_JSON_ARRAY || ft_json_count(json) == 0) {
        FT_RETURN_IF_FAILED(put_scalar(out, json, err));
        return ft_buf_text(out, "\n", err);
    }
    for (size_t i = 0; i < ft_json_count(json); i++) {
        FT_RETURN_IF_FAILED(ft_buf_text(out, i == 0 ? "[" : ", ", err));
        FT_RETURN_IF_FAILED(put_scalar(out, ft_json_at(json, i), err));
    }
    return ft_buf_text(out, "]\n", err);
}

static enum ft_status put_key(struct ft_buf *out, const char *key, int indent, struct ft_err *err)
{
    size_t start = out->size;
    FT_RETURN_IF_FAILED(put_text(out, key, strlen(key), err));
    if (out->size - start <= SIMPLE_KEY_BYTES) {
        return ft_buf_text(out, ":", err);
    }
    out->size = start;
    FT_RETURN_IF_FAILED(ft_buf_text(out, "? ", err));
    FT_RETURN_IF_FAILED(put_text(out, key, strlen(key), err));
    return ft_buf_printf(out, err, "\n%*s:", indent, "");
}

/* `begun`: the first line is already indented (it follows "- "). */
static enum ft_status put_block(struct ft_buf *out, const struct ft_json *json, int indent, bool begun,
                                struct ft_err *err)
{
    if (fits_line(json)) {
        return put_line(out, json, err);
    }
    bool object = ft_json_kind(json) == FT_JSON_OBJECT;
    struct ft_json_iter *it = ft_json_first(json);
    for (size_t i = 0; i < ft_json_count(json); i++) {
        const struct ft_json *child = object ? ft_json_value(it) : ft_json_at(json, i);
        if (i > 0 || !begun) {
            FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "%*s", indent, ""));
        }
        if (object) {
            FT_RETURN_IF_FAILED(put_key(out, ft_json_key(it), indent, err));
            FT_RETURN_IF_FAILED(ft_buf_text(out, fits_line(child) ? " " : "\n", err));
            it = ft_json_next(json, it);
        } else {
            FT_RETURN_IF_FAILED(ft_buf_text(out, "- ", err));
        }
        FT_RETURN_IF_FAILED(put_block(out, child, indent + 2, !object, err));
    }
    return FT_OK;
}

enum ft_status ft_yaml_write(const struct ft_json *json, struct ft_buf *out, struct ft_err *err)
{
    size_t before = out->size;
    enum ft_status st = put_block(out, json, 0, false, err);
    if (st != FT_OK) {
        out->size = before;
    }
    return st;
}
