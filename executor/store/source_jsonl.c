#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/json.h"
#include "executor/store/internal.h"
#include "executor/wire/docarray_v1.h"

enum { WHERE_BYTES = 640 };
static const char accepted[] = "text, uri, blob (base64), tensor (nested numbers), label, id";

/* ---- tensors ---- */

/* The shape of the first path down; whether all others agree is checked while the numbers are copied. */
static enum ft_status tensor_shape(const struct ft_json *json, struct ft_content *content, size_t *elements,
                                   struct ft_err *err)
{
    *elements = 1;
    while (ft_json_kind(json) == FT_JSON_ARRAY) {
        size_t n = ft_json_count(json);
        if (content->rank == FT_MAX_RANK) {
            return FT_FAIL(err, LIMIT, "\"tensor\" has more than %d dimensions", FT_MAX_RANK);
        }
        if (n == 0) {
            return FT_FAIL(err, INVALID, "\"tensor\" holds an empty array");
        }
        if (!ft_mul_size(*elements, n, elements) || *elements > FT_MAX_LINE_BYTES) {
            return FT_FAIL(err, INVALID, "\"tensor\" is not a regular array of numbers");
        }
        content->dims[content->rank++] = (int64_t)n;
        json = ft_json_at(json, 0);
    }
    if (content->rank == 0) {
        return FT_FAIL(err, INVALID, "\"tensor\" must be an array of numbers");
    }
    return FT_OK;
}

/* Depth is at most FT_MAX_RANK, checked by tensor_shape(). */
static enum ft_status copy_numbers(const struct ft_json *json, const struct ft_content *content, int axis,
                                   float **next, struct ft_err *err)
{
    if (axis < content->rank) {
        size_t n = ft_json_count(json);
        if (ft_json_kind(json) != FT_JSON_ARRAY || n != (size_t)content->dims[axis]) {
            return FT_FAIL(err, INVALID, "\"tensor\" is ragged: its arrays have different lengths");
        }
        for (size_t i = 0; i < n; i++) {
            FT_RETURN_IF_FAILED(copy_numbers(ft_json_at(json, i), content, axis + 1, next, err));
        }
        return FT_OK;
    }
    if (!ft_json_is_number(json)) {
        return FT_FAIL(err, INVALID, "\"tensor\" holds %s where a number belongs",
                       ft_json_kind_name(ft_json_kind(json)));
    }
    float value = (float)ft_json_real(json);
    if (!isfinite(value)) {
        return FT_FAIL(err, INVALID, "\"tensor\" holds a number too large for 32 bits");
    }
    *(*next)++ = value;
    return FT_OK;
}

static enum ft_status read_tensor(struct ft_dataset *ds, const struct ft_json *json,
                                  struct ft_content *content, struct ft_err *err)
{
    size_t elements = 0;
    float *data = NULL;
    *content = (struct ft_content){.kind = FT_CONTENT_TENSOR, .dtype = "<f4"};
    FT_RETURN_IF_FAILED(tensor_shape(json, content, &elements, err));
    FT_RETURN_IF_FAILED(ft_arena_new(&ds->arena, elements, sizeof *data, &data, err));
    float *next = data;
    FT_RETURN_IF_FAILED(copy_numbers(json, content, 0, &next, err));
    content->bytes = ft_bytes_of(data, elements * sizeof *data);
    return FT_OK;
}

/* ---- the other keys ---- */

static enum ft_status read_text(struct ft_dataset *ds, const char *key, const struct ft_json *json,
                                struct ft_bytes *out, struct ft_err *err)
{
    size_t size = 0;
    const char *text = ft_json_text(json, &size);
    if (text == NULL) {
        return FT_FAIL(err, INVALID, "\"%s\" must be text, not %s", key,
                       ft_json_kind_name(ft_json_kind(json)));
    }
    return ft_dataset_keep(ds, ft_bytes_of(text, size), out, err);
}

static enum ft_status read_blob(struct ft_dataset *ds, const struct ft_json *json, struct ft_content *content,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf bytes = {0};
    size_t size = 0;
    const char *text = ft_json_text(json, &size);
    if (text == NULL) {
        return FT_FAIL(err, INVALID, "\"blob\" must be base64 text, not %s",
                       ft_json_kind_name(ft_json_kind(json)));
    }
    if (ft_base64_decode(ft_bytes_of(text, size), &bytes, err) != FT_OK) {
        st = ft_err_wrap(err, "\"blob\"");
        goto done;
    }
    content->kind = FT_CONTENT_BLOB;
    FT_TRY(ft_dataset_keep(ds, ft_buf_bytes(&bytes), &content->bytes, err));
done:
    ft_buf_release(&bytes);
    return st;
}

/* Text or a number; null and "" are no label. */
static enum ft_status read_label(struct ft_dataset *ds, const struct ft_json *json, struct ft_document *doc,
                                 struct ft_err *err)
{
    char text[FT_LABEL_NUMBER_TEXT];
    enum ft_json_kind kind = ft_json_kind(json);
    if (kind == FT_JSON_NULL) {
        return FT_OK;
    }
    if (kind == FT_JSON_TEXT) {
        FT_RETURN_IF_FAILED(read_text(ds, "label", json, &doc->label, err));
        doc->has_label = doc->label.size > 0;
        return FT_OK;
    }
    if (!ft_json_is_number(json)) {
        return FT_FAIL(err, INVALID, "\"label\" must be text or a number, not %s", ft_json_kind_name(kind));
    }
    if (kind == FT_JSON_INT) {
        (void)snprintf(text, sizeof text, "%lld", (long long)ft_json_int(json));
    } else {
        ft_label_number_text(ft_json_real(json), text);
    }
    doc->has_label = true;
    doc->label_is_number = true;
    return ft_dataset_keep(ds, ft_bytes_of_text(text), &doc->label, err);
}

static enum ft_status read_id(struct ft_dataset *ds, const struct ft_json *json, struct ft_document *doc,
                              struct ft_err *err)
{
    char text[32];
    if (ft_json_kind(json) != FT_JSON_INT) {
        return read_text(ds, "id", json, &doc->id, err);
    }
    (void)snprintf(text, sizeof text, "%lld", (long long)ft_json_int(json));
    return ft_dataset_keep(ds, ft_bytes_of_text(text), &doc->id, err);
}

/* What others call what we call something else. A key is never passed over: a slip in one, "lable", would
 * lose what stands there without a word. */
static enum ft_status refuse_key(const char *key, struct ft_err *err)
{
    static const char *const names[][2] = {
        {"content", "text"},     {"sentence", "text"},  {"title", "text"},   {"description", "text"},
        {"question", "text"},    {"query", "text"},     {"image", "uri"},    {"path", "uri"},
        {"file", "uri"},         {"url", "uri"},        {"labels", "label"}, {"finetuner_label", "label"},
        {"class", "label"},      {"category", "label"}, {"target", "label"}, {"tags", "label"},
        {"embedding", "tensor"}, {"vector", "tensor"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(key, names[i][0]) == 0) {
            return FT_FAIL(err, INVALID, "unknown key \"%s\"; accepted: %s; if it is that, call it \"%s\"",
                           key, accepted, names[i][1]);
        }
    }
    return FT_FAIL(err, INVALID,
                   "unknown key \"%.200s\"; accepted: %s; take others out, e.g. jq -c '{text, label}'", key,
                   accepted);
}

static enum ft_status read_member(struct ft_dataset *ds, const char *key, const struct ft_json *value,
                                  struct ft_document *doc, struct ft_err *err)
{
    struct ft_content *content = &doc->content;
    if (strcmp(key, "label") == 0) {
        return read_label(ds, value, doc, err);
    }
    if (strcmp(key, "id") == 0) {
        return read_id(ds, value, doc, err);
    }
    bool text = strcmp(key, "text") == 0;
    bool uri = strcmp(key, "uri") == 0;
    bool blob = strcmp(key, "blob") == 0;
    if (!text && !uri && !blob && strcmp(key, "tensor") != 0) {
        return refuse_key(key, err);
    }
    if (content->kind != FT_CONTENT_NONE) {
        return FT_FAIL(err, INVALID, "\"%s\" is a second content; give one of text, uri, blob, tensor", key);
    }
    if (blob) {
        return read_blob(ds, value, content, err);
    }
    if (!text && !uri) {
        return read_tensor(ds, value, content, err);
    }
    content->kind = text ? FT_CONTENT_TEXT : FT_CONTENT_URI;
    return read_text(ds, key, value, &content->bytes, err);
}

static enum ft_status read_line(struct ft_dataset *ds, struct ft_bytes line, const char *where,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = NULL;
    struct ft_document doc = {0};
    FT_TRY(ft_json_parse(line, &json, err));
    if (ft_json_kind(json) != FT_JSON_OBJECT) {
        st = FT_FAIL(err, INVALID, "a line must be a JSON object with %s", accepted);
        goto done;
    }
    for (struct ft_json_iter *it = ft_json_first(json); it != NULL; it = ft_json_next(json, it)) {
        FT_TRY(read_member(ds, ft_json_key(it), ft_json_value(it), &doc, err));
    }
    FT_TRY(ft_dataset_add(ds, &doc, where, err));
done:
    ft_json_free(json);
    return st;
}

static bool blank(struct ft_bytes line)
{
    for (size_t i = 0; i < line.size; i++) {
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r') {
            return false;
        }
    }
    return true;
}

enum ft_status ft_source_jsonl(struct ft_dataset *ds, const char *name, struct ft_bytes text,
                               struct ft_err *err)
{
    char where[WHERE_BYTES];
    size_t at = text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark */
    for (size_t number = 1; at < text.size; number++) {
        const uint8_t *end = memchr(text.data + at, '\n', text.size - at);
        size_t size = end == NULL ? text.size - at : (size_t)(end - text.data) - at;
        struct ft_bytes line = ft_bytes_of(text.data + at, size);
        at += size + 1;
        if (blank(line)) {
            continue;
        }
        (void)snprintf(where, sizeof where, "%.600s:%zu", name, number);
        enum ft_status st =
            line.size > FT_MAX_LINE_BYTES
                ? FT_FAIL(err, LIMIT, "a line of %zu bytes, more than %d", line.size, FT_MAX_LINE_BYTES)
                : read_line(ds, line, where, err);
        if (st != FT_OK) {
            return ft_err_wrap(err, "%s", where);
        }
    }
    return FT_OK;
}
