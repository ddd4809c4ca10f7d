#include "executor/wire/docarray_v1.h"

#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/internal.h"

/* Field numbers: jina/SPEC.md 1.2. */
enum {
    DOC_ID = 1,
    DOC_BLOB = 2,
    DOC_TENSOR = 3,
    DOC_TEXT = 4,
    DOC_URI = 9,
    DOC_EMBEDDING = 16,
    DOC_TAGS = 17
};
enum { ND_CLS_NAME = 3, STRUCT_FIELDS = 1 };
#define CLS_NAME "numpy"
enum { VALUE_FIRST = 1, VALUE_NUMBER = 2, VALUE_STRING = 3, VALUE_LAST = 6 };

struct scan {
    struct ft_arena *arena;
    struct ft_document *doc;
    struct ft_wire_tensor tensor;
    struct ft_bytes uri;
};

/* One google.protobuf.Value: the label when it is text or a number. */
static enum ft_status scan_label(struct scan *s, struct ft_bytes value, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(value);
    struct ft_pb_field f;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number < VALUE_FIRST || f.number > VALUE_LAST) {
            continue;
        }
        ft_wire_label_none(s->doc);
        double number = 0.0;
        if (f.number == VALUE_STRING && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(ft_wire_label_text(s->doc, f.bytes, err));
        } else if (f.number == VALUE_NUMBER && f.wire == FT_PB_FIXED64) {
            FT_RETURN_IF_FAILED(ft_pb_double(&f, &number, err));
            FT_RETURN_IF_FAILED(ft_wire_label_number(s->doc, number, s->arena, err));
        }
    }
}

/* One entry of the map: Values merge when an entry repeats field 2, so each is looked at in turn. */
static enum ft_status scan_tag(struct scan *s, struct ft_bytes entry, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(entry);
    struct ft_pb_field f;
    struct ft_bytes key = {0};
    bool more = true;
    FT_RETURN_IF_FAILED(ft_wire_entry_key(entry, &key, err));
    if (!ft_bytes_is(key, FT_LABEL_KEY)) {
        return FT_OK;
    }
    ft_wire_label_none(s->doc); /* a later entry replaces an earlier one, also by nothing */
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == FT_ENTRY_VALUE && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(scan_label(s, f.bytes, err));
        }
    }
    return FT_OK;
}

static enum ft_status scan_tags(struct scan *s, struct ft_bytes tags, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(tags);
    struct ft_pb_field f;
    bool more = true;
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == STRUCT_FIELDS && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(scan_tag(s, f.bytes, err));
        }
    }
    return FT_OK;
}

static enum ft_status scan_content(struct scan *s, enum ft_content_kind kind, struct ft_bytes payload,
                                   struct ft_err *err)
{
    struct ft_content *content = &s->doc->content;
    if (kind == FT_CONTENT_TENSOR) {
        if (content->kind != FT_CONTENT_TENSOR) {
            s->tensor = (struct ft_wire_tensor){0};
        }
        *content = (struct ft_content){.kind = FT_CONTENT_TENSOR};
        return ft_wire_tensor_scan(payload, true, &s->tensor, err);
    }
    *content = (struct ft_content){.kind = kind, .bytes = payload};
    return FT_OK;
}

static enum ft_status scan_field(struct scan *s, const struct ft_pb_field *f, struct ft_err *err)
{
    if (f->wire != FT_PB_BYTES) {
        return FT_OK; /* all fields we read are length-delimited; others are passed over as unknown ones are
                       */
    }
    switch (f->number) {
    case DOC_ID:
        s->doc->id = f->bytes;
        return FT_OK;
    case DOC_BLOB:
        return scan_content(s, FT_CONTENT_BLOB, f->bytes, err);
    case DOC_TENSOR:
        return scan_content(s, FT_CONTENT_TENSOR, f->bytes, err);
    case DOC_TEXT:
        return scan_content(s, FT_CONTENT_TEXT, f->bytes, err);
    case DOC_URI:
        s->uri = f->bytes;
        return FT_OK;
    case DOC_TAGS:
        return scan_tags(s, f->bytes, err);
    default:
        return FT_OK;
    }
}

static enum ft_status finish(struct scan *s, struct ft_err *err)
{
    struct ft_content *content = &s->doc->content;
    if (content->kind == FT_CONTENT_TENSOR) {
        FT_RETURN_IF_FAILED(ft_wire_tensor_finish(&s->tensor, content, err));
    } else if (content->bytes.size == 0) {
        *content = (struct ft_content){0};
        if (s->uri.size > 0) {
            *content = (struct ft_content){.kind = FT_CONTENT_URI, .bytes = s->uri};
        }
    }
    return ft_wire_check(s->doc, err);
}

enum ft_status ft_docarray_v1_scan(struct ft_bytes message, struct ft_arena *arena, struct ft_document *doc,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct scan s = {.arena = arena, .doc = doc};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    *doc = (struct ft_document){.raw = message};
    FT_TRY(ft_wire_check_size(message, err));
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            break;
        }
        FT_TRY(scan_field(&s, &f, err));
    }
    st = finish(&s, err);
done:
    if (st != FT_OK) {
        *doc = (struct ft_document){0};
    }
    return st;
}

/* Field 16 and all in it: NdArrayProto {dense, cls_name "numpy"}. */
struct embedding_sizes {
    size_t dense;
    size_t nd;
};

static enum ft_status embedding_sizes(size_t dim, struct embedding_sizes *sizes, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_wire_dense_size(dim, &sizes->dense, err));
    sizes->nd = ft_wire_with_head(sizes->dense) + ft_wire_with_head(sizeof CLS_NAME - 1);
    return FT_OK;
}

static enum ft_status embedding_size(size_t dim, size_t *size, struct ft_err *err)
{
    struct embedding_sizes sizes;
    FT_RETURN_IF_FAILED(embedding_sizes(dim, &sizes, err));
    *size = 1 + ft_wire_with_head(sizes.nd); /* a tag of two bytes */
    return FT_OK;
}

static enum ft_status put_embedding(const float *embedding, size_t dim, struct ft_buf *out,
                                    struct ft_err *err)
{
    struct embedding_sizes sizes;
    FT_RETURN_IF_FAILED(embedding_sizes(dim, &sizes, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, DOC_EMBEDDING, sizes.nd, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, FT_ND_DENSE, sizes.dense, err));
    FT_RETURN_IF_FAILED(ft_wire_put_dense(embedding, dim, out, err));
    return ft_pb_put_text(out, ND_CLS_NAME, CLS_NAME, err);
}

static bool is_embedding(const struct ft_pb_field *field)
{
    return field->number == DOC_EMBEDDING;
}

const struct ft_wire_embedding ft_docarray_v1_embedding = {is_embedding, embedding_size, put_embedding};

static enum ft_status put_tensor(const struct ft_content *content, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf tail = {0}; /* shape and dtype: what follows the large buffer */
    size_t dense = 0;
    size_t nd = 0;
    FT_TRY(ft_pb_put_packed(&tail, FT_DENSE_SHAPE, content->dims, (size_t)content->rank, err));
    FT_TRY(ft_pb_put_text(&tail, FT_DENSE_DTYPE, content->dtype, err));
    dense = ft_wire_with_head(content->bytes.size) + tail.size;
    nd = ft_wire_with_head(dense) + ft_wire_with_head(sizeof CLS_NAME - 1);
    FT_TRY(ft_pb_put_header(out, DOC_TENSOR, nd, err));
    FT_TRY(ft_pb_put_header(out, FT_ND_DENSE, dense, err));
    FT_TRY(ft_pb_put_bytes(out, FT_DENSE_BUFFER, content->bytes, err));
    FT_TRY(ft_buf_append(out, tail.data, tail.size, err));
    FT_TRY(ft_pb_put_text(out, ND_CLS_NAME, CLS_NAME, err));
done:
    ft_buf_release(&tail);
    return st;
}

/* tags {fields {key: "finetuner_label" value {...}}}, from the inside out. */
static enum ft_status put_label(const struct ft_document *doc, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf value = {0};
    struct ft_buf entry = {0};
    struct ft_buf tags = {0};
    char text[64] = {0};
    if (doc->label_is_number && doc->label.size < sizeof text) {
        memcpy(text, doc->label.data, doc->label.size);
        FT_TRY(ft_pb_put_double(&value, VALUE_NUMBER, strtod(text, NULL), err));
    } else {
        FT_TRY(ft_pb_put_bytes(&value, VALUE_STRING, doc->label, err));
    }
    FT_TRY(ft_pb_put_text(&entry, FT_ENTRY_KEY, FT_LABEL_KEY, err));
    FT_TRY(ft_pb_put_bytes(&entry, FT_ENTRY_VALUE, ft_buf_bytes(&value), err));
    FT_TRY(ft_pb_put_bytes(&tags, STRUCT_FIELDS, ft_buf_bytes(&entry), err));
    FT_TRY(ft_pb_put_bytes(out, DOC_TAGS, ft_buf_bytes(&tags), err));
done:
    ft_buf_release(&value);
    ft_buf_release(&entry);
    ft_buf_release(&tags);
    return st;
}

static enum ft_status put_content(const struct ft_content *content, struct ft_buf *out, struct ft_err *err)
{
    switch (content->kind) {
    case FT_CONTENT_TEXT:
        return ft_pb_put_bytes(out, DOC_TEXT, content->bytes, err);
    case FT_CONTENT_BLOB:
        return ft_pb_put_bytes(out, DOC_BLOB, content->bytes, err);
    case FT_CONTENT_URI:
        return ft_pb_put_bytes(out, DOC_URI, content->bytes, err);
    case FT_CONTENT_TENSOR:
        return put_tensor(content, out, err);
    case FT_CONTENT_NONE:
        break;
    }
    return FT_OK;
}

enum ft_status ft_docarray_v1_write(const struct ft_document *doc, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t start = out->size;
    if (doc->id.size > 0) {
        FT_TRY(ft_pb_put_bytes(out, DOC_ID, doc->id, err));
    }
    FT_TRY(put_content(&doc->content, out, err));
    if (doc->has_label) {
        FT_TRY(put_label(doc, out, err));
    }
done:
    if (st != FT_OK) {
        out->size = start;
    }
    return st;
}
