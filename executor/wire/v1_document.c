#include "executor/wire/v1.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/docarray_v1.h"
#include "executor/wire/docarray_v2.h"
#include "executor/wire/internal.h"
#include "executor/wire/struct.h"

/* proto/finetuner/v1/finetuner.proto */
enum {
    DOC_ID = 1,
    DOC_LABEL = 2,
    DOC_LABEL_NUMBER = 3,
    DOC_TEXT = 4,
    DOC_BLOB = 5,
    DOC_URI = 6,
    DOC_TENSOR = 7,
    DOC_V1 = 8,
    DOC_V2 = 9,
    DOC_TAGS = 10
};
enum { TENSOR_DTYPE = 1, TENSOR_SHAPE = 2, TENSOR_DATA = 3 };
enum { BATCH_HEAD = 1, BATCH_DOCUMENTS = 2 };
enum { V1_TAGS = 17 }; /* of docarray v1's DocumentProto */

static const char *const NAMES[] = {"",    "id",     "label",       "label_number", "text", "blob",
                                    "uri", "tensor", "docarray_v1", "docarray_v2",  "tags"};

struct scan {
    struct ft_arena *arena;
    struct ft_document *doc;
    struct ft_bytes tags, docarray;
    struct ft_wire_tensor tensor;
    uint32_t at;      /* the field being read */
    uint32_t content; /* the oneof's member; 0: none */
    bool own;         /* id, label or tags of our own were given */
};

static enum ft_status add_shape(struct ft_wire_tensor *t, const struct ft_pb_field *f, struct ft_err *err)
{
    int64_t *dims = NULL;
    size_t count = 0;
    size_t capacity = 0;
    enum ft_status st = FT_OK;
    if (f->wire == FT_PB_BYTES &&
        f->bytes.size > (size_t)FT_MAX_RANK * 10) { /* varints of 10 bytes at most */
        return FT_FAIL(err, LIMIT, "a tensor has more than %d dimensions", FT_MAX_RANK);
    }
    FT_TRY(ft_pb_append_int64(f, &dims, &count, &capacity, err));
    for (size_t i = 0; i < count; i++) {
        if (t->rank == FT_MAX_RANK) {
            st = FT_FAIL(err, LIMIT, "a tensor has more than %d dimensions", FT_MAX_RANK);
            goto done;
        }
        t->dims[t->rank++] = (int64_t)(uint32_t)dims[i];
    }
done:
    ft_free(dims);
    return st;
}

static enum ft_status scan_tensor(struct ft_wire_tensor *t, struct ft_bytes message, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == TENSOR_SHAPE) {
            FT_RETURN_IF_FAILED(add_shape(t, &f, err));
        } else if (f.number == TENSOR_DTYPE) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &t->dtype, err));
        } else if (f.number == TENSOR_DATA) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &t->buffer, err));
        }
    }
}

/* A member of the oneof: the last one counts; a tensor in pieces merges. */
static enum ft_status scan_content(struct scan *s, const struct ft_pb_field *f, struct ft_err *err)
{
    static const enum ft_content_kind kinds[] = {FT_CONTENT_TEXT, FT_CONTENT_BLOB, FT_CONTENT_URI};
    struct ft_bytes payload;
    FT_RETURN_IF_FAILED(ft_pb_bytes(f, &payload, err));
    if (f->number != DOC_TENSOR || s->content != DOC_TENSOR) {
        s->tensor = (struct ft_wire_tensor){0};
        s->doc->content = (struct ft_content){0};
    }
    s->content = f->number;
    s->docarray = (struct ft_bytes){0};
    switch (f->number) {
    case DOC_TENSOR:
        return scan_tensor(&s->tensor, payload, err);
    case DOC_V1:
    case DOC_V2:
        s->docarray = payload;
        return FT_OK;
    default:
        if (payload.size > 0) {
            s->doc->content = (struct ft_content){.kind = kinds[f->number - DOC_TEXT], .bytes = payload};
        }
        return FT_OK;
    }
}

static enum ft_status scan_field(struct scan *s, const struct ft_pb_field *f, struct ft_err *err)
{
    struct ft_bytes payload;
    double number = 0;
    switch (f->number) {
    case DOC_ID:
        s->own = true;
        return ft_pb_bytes(f, &s->doc->id, err);
    case DOC_LABEL:
        s->own = true;
        FT_RETURN_IF_FAILED(ft_pb_bytes(f, &payload, err));
        return ft_wire_label_text(s->doc, payload, err);
    case DOC_LABEL_NUMBER:
        s->own = true;
        FT_RETURN_IF_FAILED(ft_pb_double(f, &number, err));
        return ft_wire_label_number(s->doc, number, s->arena, err);
    case DOC_TAGS:
        s->own = true;
        if (s->tags.data != NULL) {
            return FT_FAIL(err, INVALID, "tags come in pieces");
        }
        return ft_pb_bytes(f, &s->tags, err);
    default:
        return f->number >= DOC_TEXT && f->number <= DOC_V2 ? scan_content(s, f, err) : FT_OK;
    }
}

/* With tags a Document becomes one of docarray v1, which can hold them: tags first, so that our own label,
 * which comes behind them, is the one that counts. */
static enum ft_status add_tags(struct scan *s, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *checked = NULL;
    struct ft_buf written = {0};
    const char *kept = NULL;
    s->at = DOC_TAGS;
    FT_TRY(ft_struct_read(s->tags, &checked, err));
    FT_TRY(ft_pb_put_bytes(&written, V1_TAGS, s->tags, err));
    FT_TRY(ft_docarray_v1_write(s->doc, &written, err));
    FT_TRY(ft_arena_text(s->arena, (const char *)written.data, written.size, &kept, err));
    FT_TRY(ft_docarray_v1_scan(ft_bytes_of(kept, written.size), s->arena, s->doc, err));
done:
    ft_json_free(checked);
    ft_buf_release(&written);
    return st;
}

static enum ft_status finish(struct scan *s, struct ft_err *err)
{
    s->at = s->content;
    if (s->content == DOC_V1 || s->content == DOC_V2) {
        if (s->own) {
            return FT_FAIL(err, INVALID, "%s has its own id, label and tags: those of the message stay empty",
                           NAMES[s->content]);
        }
        return s->content == DOC_V1 ? ft_docarray_v1_scan(s->docarray, s->arena, s->doc, err)
                                    : ft_docarray_v2_scan(s->docarray, s->arena, s->doc, err);
    }
    if (s->content == DOC_TENSOR) {
        s->doc->content.kind = FT_CONTENT_TENSOR;
        FT_RETURN_IF_FAILED(ft_wire_tensor_finish(&s->tensor, &s->doc->content, err));
    }
    s->at = ft_utf8_valid(s->doc->id) && s->doc->id.size <= FT_MAX_ID_BYTES ? s->content : DOC_ID;
    FT_RETURN_IF_FAILED(ft_wire_check(s->doc, err));
    return s->tags.size > 0 ? add_tags(s, err) : FT_OK;
}

enum ft_status ft_v1_document_scan(struct ft_bytes message, struct ft_arena *arena, struct ft_document *doc,
                                   struct ft_v1_fault *fault, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct scan s = {.arena = arena, .doc = doc};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    *doc = (struct ft_document){0};
    FT_TRY(ft_wire_check_size(message, err));
    for (;;) {
        s.at = 0;
        FT_TRY(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            break;
        }
        s.at = f.number <= DOC_TAGS ? f.number : 0;
        FT_TRY(scan_field(&s, &f, err));
    }
    st = finish(&s, err);
done:
    if (st != FT_OK) {
        (void)snprintf(fault->field, sizeof fault->field, "%s", NAMES[s.at]);
        *doc = (struct ft_document){0};
    }
    return st;
}

void ft_v1_document_field(size_t i, const char *field, struct ft_v1_fault *fault)
{
    (void)snprintf(fault->field, sizeof fault->field, "documents[%zu]%s%s", i, field[0] != '\0' ? "." : "",
                   field);
}

enum ft_status ft_v1_batch_look(struct ft_bytes message, struct ft_v1_batch *batch, struct ft_v1_fault *fault,
                                struct ft_err *err)
{
    *batch = (struct ft_v1_batch){0};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == BATCH_HEAD) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &batch->head, err));
            batch->has_head = true;
        } else if (f.number == BATCH_DOCUMENTS) {
            struct ft_bytes ignored;
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &ignored, err));
            if (batch->count == FT_MAX_DOCUMENTS) {
                (void)snprintf(fault->field, sizeof fault->field, "documents");
                return FT_FAIL(err, LIMIT, "the message has more than %d Documents", FT_MAX_DOCUMENTS);
            }
            batch->count++;
        }
    }
}

enum ft_status ft_v1_batch_scan(struct ft_bytes message, struct ft_arena *arena, struct ft_v1_batch *batch,
                                struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    struct ft_v1_fault inner = {{0}, 0};
    bool more = true;
    if (batch->count == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_arena_new(arena, batch->count, sizeof *batch->docs, &batch->docs, err));
    for (size_t i = 0; i < batch->count;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (f.number != BATCH_DOCUMENTS) {
            continue;
        }
        enum ft_status st = ft_v1_document_scan(f.bytes, arena, &batch->docs[i], &inner, err);
        if (st != FT_OK) {
            ft_v1_document_field(i, inner.field, fault);
            return st;
        }
        i++;
    }
    return FT_OK;
}

/* ---- writing */

static enum ft_status put_tensor(const struct ft_content *content, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf head = {0};
    FT_TRY(ft_pb_put_text(&head, TENSOR_DTYPE, content->dtype, err));
    FT_TRY(ft_pb_put_packed(&head, TENSOR_SHAPE, content->dims, (size_t)content->rank, err));
    FT_TRY(ft_pb_put_header(out, DOC_TENSOR, head.size + ft_wire_with_head(content->bytes.size), err));
    FT_TRY(ft_buf_append(out, head.data, head.size, err));
    FT_TRY(ft_pb_put_bytes(out, TENSOR_DATA, content->bytes, err));
done:
    ft_buf_release(&head);
    return st;
}

static enum ft_status put_label(const struct ft_document *doc, struct ft_buf *out, struct ft_err *err)
{
    char text[FT_LABEL_NUMBER_TEXT] = {0};
    if (!doc->label_is_number || doc->label.size >= sizeof text) {
        return ft_pb_put_bytes(out, DOC_LABEL, doc->label, err);
    }
    memcpy(text, doc->label.data, doc->label.size);
    return ft_pb_put_double(out, DOC_LABEL_NUMBER, strtod(text, NULL), err);
}

enum ft_status ft_v1_document_write(const struct ft_document *doc, struct ft_buf *out, struct ft_err *err)
{
    if (doc->raw.size > 0) {
        bool v2 = ft_docarray_sniff(doc->raw) == FT_DOCARRAY_V2;
        return ft_pb_put_bytes(out, v2 ? DOC_V2 : DOC_V1, doc->raw, err);
    }
    if (doc->id.size > 0) {
        FT_RETURN_IF_FAILED(ft_pb_put_bytes(out, DOC_ID, doc->id, err));
    }
    if (doc->has_label) {
        FT_RETURN_IF_FAILED(put_label(doc, out, err));
    }
    switch (doc->content.kind) {
    case FT_CONTENT_TEXT:
        return ft_pb_put_bytes(out, DOC_TEXT, doc->content.bytes, err);
    case FT_CONTENT_BLOB:
        return ft_pb_put_bytes(out, DOC_BLOB, doc->content.bytes, err);
    case FT_CONTENT_URI:
        return ft_pb_put_bytes(out, DOC_URI, doc->content.bytes, err);
    case FT_CONTENT_TENSOR:
        return put_tensor(&doc->content, out, err);
    case FT_CONTENT_NONE:
        break;
    }
    return FT_OK;
}

enum ft_status ft_v1_embeddings_write(const struct ft_document *docs, size_t count, const float *vectors,
                                      size_t dim, struct ft_buf *out, struct ft_err *err)
{
    enum { EMBEDDING = 1, ID = 1, VALUES = 2 };
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats go out as they lie in memory");
    struct ft_buf id = {0};
    enum ft_status st = FT_OK;
    for (size_t i = 0; i < count; i++) {
        struct ft_bytes values = ft_bytes_of(vectors + i * dim, dim * sizeof *vectors);
        id.size = 0;
        if (docs[i].id.size > 0) {
            FT_TRY(ft_pb_put_bytes(&id, ID, docs[i].id, err));
        }
        FT_TRY(ft_pb_put_header(out, EMBEDDING, id.size + ft_wire_with_head(values.size), err));
        FT_TRY(ft_buf_append(out, id.data, id.size, err));
        FT_TRY(ft_pb_put_bytes(out, VALUES, values, err));
    }
done:
    ft_buf_release(&id);
    return st;
}

enum ft_status ft_v1_chunk_write(uint64_t offset, uint64_t size, const char *sha256, struct ft_bytes data,
                                 struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_reserve(out, data.size + 128, err));
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, 1, offset, err));
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, 2, size, err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, 3, sha256, err));
    return ft_pb_put_bytes(out, 4, data, err);
}

/* ---- google.rpc.Status {code, message, details: Any {type_url, value}} */

static enum ft_status put_detail(const char *type, const struct ft_buf *value, struct ft_buf *out,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf any = {0};
    FT_TRY(ft_pb_put_text(&any, 1, type, err));
    FT_TRY(ft_pb_put_bytes(&any, 2, ft_buf_bytes(value), err));
    FT_TRY(ft_pb_put_bytes(out, 3, ft_buf_bytes(&any), err));
done:
    ft_buf_release(&any);
    return st;
}

/* BadRequest {field_violations: {field, description}} */
static enum ft_status put_violation(const char *field, const char *text, struct ft_buf *out,
                                    struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf violation = {0};
    struct ft_buf request = {0};
    FT_TRY(ft_pb_put_text(&violation, 1, field, err));
    FT_TRY(ft_pb_put_text(&violation, 2, text, err));
    FT_TRY(ft_pb_put_bytes(&request, 1, ft_buf_bytes(&violation), err));
    FT_TRY(put_detail("type.googleapis.com/google.rpc.BadRequest", &request, out, err));
done:
    ft_buf_release(&violation);
    ft_buf_release(&request);
    return st;
}

/* RetryInfo {retry_delay: Duration {seconds, nanos}} */
static enum ft_status put_retry(double seconds, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf delay = {0};
    struct ft_buf info = {0};
    uint64_t ms = (uint64_t)(seconds * 1000);
    FT_TRY(ft_pb_put_varint(&delay, 1, ms / 1000, err));
    FT_TRY(ft_pb_put_varint(&delay, 2, ms % 1000 * 1000000, err));
    FT_TRY(ft_pb_put_bytes(&info, 1, ft_buf_bytes(&delay), err));
    FT_TRY(put_detail("type.googleapis.com/google.rpc.RetryInfo", &info, out, err));
done:
    ft_buf_release(&delay);
    ft_buf_release(&info);
    return st;
}

enum ft_status ft_v1_status_write(int code, const char *text, const struct ft_v1_fault *fault,
                                  struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, 1, (uint64_t)code, err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, 2, text, err));
    if (fault->field[0] != '\0') {
        FT_RETURN_IF_FAILED(put_violation(fault->field, text, out, err));
    }
    return fault->retry_seconds > 0 ? put_retry(fault->retry_seconds, out, err) : FT_OK;
}
