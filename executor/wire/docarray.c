#include "executor/wire/docarray.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/wire/docarray_v1.h"
#include "executor/wire/docarray_v2.h"
#include "executor/wire/internal.h"

void ft_label_number_text(double number, char out[FT_LABEL_NUMBER_TEXT])
{
    assert(isfinite(number));
    if (number == 0.0) { /* -0 is the same class as 0 */
        (void)snprintf(out, FT_LABEL_NUMBER_TEXT, "0");
        return;
    }
    if (fabs(number) < 1e15 && number == floor(number)) {
        (void)snprintf(out, FT_LABEL_NUMBER_TEXT, "%.0f", number);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, FT_LABEL_NUMBER_TEXT, "%.*g", digits, number);
        if (strtod(out, NULL) == number) {
            return;
        }
    }
}

void ft_wire_label_none(struct ft_document *doc)
{
    doc->has_label = false;
    doc->label_is_number = false;
    doc->label = (struct ft_bytes){0};
}

enum ft_status ft_wire_label_text(struct ft_document *doc, struct ft_bytes text, struct ft_err *err)
{
    ft_wire_label_none(doc);
    if (text.size > FT_MAX_LABEL_BYTES) {
        return FT_FAIL(err, LIMIT, "a finetuner_label has %zu bytes, more than %d", text.size,
                       FT_MAX_LABEL_BYTES);
    }
    if (!ft_utf8_valid(text) || (text.size > 0 && memchr(text.data, 0, text.size) != NULL)) {
        return FT_FAIL(err, INVALID, "a finetuner_label is not UTF-8 text without NUL");
    }
    doc->has_label = text.size > 0;
    doc->label = text;
    return FT_OK;
}

enum ft_status ft_wire_label_number(struct ft_document *doc, double number, struct ft_arena *arena,
                                    struct ft_err *err)
{
    char text[FT_LABEL_NUMBER_TEXT];
    const char *kept = NULL;
    ft_wire_label_none(doc);
    if (!isfinite(number)) {
        return FT_OK;
    }
    ft_label_number_text(number, text);
    FT_RETURN_IF_FAILED(ft_arena_text(arena, text, strlen(text), &kept, err));
    doc->has_label = true;
    doc->label_is_number = true;
    doc->label = ft_bytes_of_text(kept);
    return FT_OK;
}

enum ft_status ft_wire_check_size(struct ft_bytes message, struct ft_err *err)
{
    return message.size <= FT_MAX_DOC_BYTES ? FT_OK
                                            : FT_FAIL(err, LIMIT, "a Document has %zu bytes, more than %d",
                                                      message.size, FT_MAX_DOC_BYTES);
}

enum ft_status ft_wire_check(const struct ft_document *doc, struct ft_err *err)
{
    enum ft_content_kind kind = doc->content.kind;
    if (doc->id.size > FT_MAX_ID_BYTES) {
        return FT_FAIL(err, LIMIT, "an id has %zu bytes, more than %d", doc->id.size, FT_MAX_ID_BYTES);
    }
    if (!ft_utf8_valid(doc->id)) {
        return FT_FAIL(err, INVALID, "an id is not UTF-8");
    }
    if ((kind == FT_CONTENT_TEXT || kind == FT_CONTENT_URI) && !ft_utf8_valid(doc->content.bytes)) {
        return FT_FAIL(err, INVALID, "the %s is not UTF-8", kind == FT_CONTENT_TEXT ? "text" : "uri");
    }
    return FT_OK;
}

enum ft_status ft_wire_entry_key(struct ft_bytes entry, struct ft_bytes *key, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(entry);
    struct ft_pb_field f;
    bool more = true;
    *key = (struct ft_bytes){0};
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == FT_ENTRY_KEY && f.wire == FT_PB_BYTES) {
            *key = f.bytes;
        }
    }
    return FT_OK;
}

enum ft_status ft_wire_copy_without(struct ft_bytes message, ft_wire_drop drop, struct ft_buf *out,
                                    size_t *kept, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    size_t run = 0; /* where the bytes not yet copied begin */
    bool more = true;
    *kept = 0;
    while (more) {
        size_t before = cursor.at;
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && !drop(&f)) {
            continue;
        }
        *kept += before - run;
        if (out != NULL && before > run) {
            FT_RETURN_IF_FAILED(ft_buf_append(out, message.data + run, before - run, err));
        }
        run = cursor.at;
    }
    return FT_OK;
}

enum ft_status ft_docarray_next(struct ft_pb_cursor *docs, struct ft_bytes *message, bool *more,
                                struct ft_err *err)
{
    struct ft_pb_field f;
    *message = (struct ft_bytes){0};
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(docs, &f, more, err));
        if (!*more) {
            return FT_OK;
        }
        if (f.number == 1 && f.wire == FT_PB_BYTES) {
            *message = f.bytes;
            return FT_OK;
        }
    }
}

/* A map<string, message> entry and nothing else: 1 = key, 2 = value, the value itself a message. */
static bool is_map_entry(struct ft_bytes bytes)
{
    struct ft_err ignored = {0};
    struct ft_pb_cursor cursor = ft_pb_open(bytes);
    struct ft_pb_field f;
    bool more = true;
    bool has_key = false;
    while (more) {
        if (ft_pb_next(&cursor, &f, &more, &ignored) != FT_OK) {
            return false;
        }
        if (!more) {
            break;
        }
        if (f.wire != FT_PB_BYTES || (f.number == FT_ENTRY_KEY && !ft_utf8_valid(f.bytes)) ||
            f.number > FT_ENTRY_VALUE) {
            return false;
        }
        has_key = has_key || f.number == FT_ENTRY_KEY;
        if (f.number == FT_ENTRY_VALUE) {
            struct ft_pb_cursor inner = ft_pb_open(f.bytes);
            struct ft_pb_field g;
            bool inside = true;
            while (inside) {
                if (ft_pb_next(&inner, &g, &inside, &ignored) != FT_OK) {
                    return false;
                }
            }
        }
    }
    return has_key;
}

enum ft_docarray_flavour ft_docarray_sniff(struct ft_bytes message)
{
    struct ft_err ignored = {0};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    enum ft_docarray_flavour flavour = FT_DOCARRAY_UNDECIDED;
    while (more) {
        if (ft_pb_next(&cursor, &f, &more, &ignored) != FT_OK) {
            return FT_DOCARRAY_UNDECIDED;
        }
        if (!more) {
            break;
        }
        if (f.number != 1 || f.wire != FT_PB_BYTES || f.bytes.size == 0 || f.bytes.data[0] != 0x0a ||
            !is_map_entry(f.bytes)) {
            return FT_DOCARRAY_V1;
        }
        flavour = FT_DOCARRAY_V2;
    }
    return flavour;
}

enum ft_status ft_docarray_scan(struct ft_bytes message, enum ft_docarray_flavour flavour,
                                struct ft_arena *arena, struct ft_document *doc, struct ft_err *err)
{
    if (flavour == FT_DOCARRAY_UNDECIDED) {
        flavour = ft_docarray_sniff(message);
    }
    return flavour == FT_DOCARRAY_V2 ? ft_docarray_v2_scan(message, arena, doc, err)
                                     : ft_docarray_v1_scan(message, arena, doc, err);
}

static const struct ft_wire_embedding *embedding_of(enum ft_docarray_flavour flavour)
{
    return flavour == FT_DOCARRAY_V2 ? &ft_docarray_v2_embedding : &ft_docarray_v1_embedding;
}

enum ft_status ft_docarray_splice_size(struct ft_bytes message, enum ft_docarray_flavour flavour, size_t dim,
                                       size_t *size, struct ft_err *err)
{
    const struct ft_wire_embedding *how = embedding_of(flavour);
    size_t kept = 0;
    size_t field = 0;
    *size = 0;
    FT_RETURN_IF_FAILED(how->size(dim, &field, err));
    FT_RETURN_IF_FAILED(ft_wire_copy_without(message, how->is_old, NULL, &kept, err));
    *size = kept + field;
    return FT_OK;
}

enum ft_status ft_docarray_splice(struct ft_bytes message, enum ft_docarray_flavour flavour,
                                  const float *embedding, size_t dim, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_wire_embedding *how = embedding_of(flavour);
    size_t start = out->size;
    size_t kept = 0;
    size_t field = 0;
    FT_TRY(how->size(dim, &field, err));
    FT_TRY(ft_buf_reserve(out, message.size + field, err));
    FT_TRY(ft_wire_copy_without(message, how->is_old, out, &kept, err));
    FT_TRY(how->put(embedding, dim, out, err));
    assert(out->size - start == kept + field);
done:
    if (st != FT_OK) {
        out->size = start;
    }
    return st;
}
