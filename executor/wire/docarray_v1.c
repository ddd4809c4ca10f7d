#include "executor/wire/docarray_v1.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"

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
enum { ND_DENSE = 1, ND_SPARSE = 2, ND_CLS_NAME = 3 };
enum { DENSE_BUFFER = 1, DENSE_SHAPE = 2, DENSE_DTYPE = 3 };
enum { STRUCT_FIELDS = 1, ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum { VALUE_FIRST = 1, VALUE_NUMBER = 2, VALUE_STRING = 3, VALUE_LAST = 6 };

static const char label_key[] = "finetuner_label";

/* A dense NdArrayProto as far as it was read; several occurrences merge into it. */
struct tensor {
    bool sparse;
    struct ft_bytes buffer;
    struct ft_bytes dtype;
    int rank;
    int64_t dims[FT_MAX_RANK];
};

struct scan {
    struct ft_arena *arena;
    struct ft_document *doc;
    struct tensor tensor;
    struct ft_bytes uri;
};

size_t ft_tensor_dtype_size(const char *dtype)
{
    static const struct {
        char text[4];
        size_t size;
    } known[] = {{"<f4", 4}, {"<f8", 8}, {"<f2", 2}, {"|u1", 1}, {"|i1", 1}, {"|b1", 1},
                 {"<i2", 2}, {"<u2", 2}, {"<i4", 4}, {"<u4", 4}, {"<i8", 8}, {"<u8", 8}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(dtype, known[i].text) == 0) {
            return known[i].size;
        }
    }
    return 0;
}

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

static enum ft_status add_dim(struct tensor *t, uint64_t extent, struct ft_err *err)
{
    if (t->rank == FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "a tensor has more than %d dimensions", FT_MAX_RANK);
    }
    t->dims[t->rank++] = (int64_t)(uint32_t)extent; /* uint32 on the wire: protobuf keeps the low bits */
    return FT_OK;
}

/* Packed varints are read without an array, so that a long run of them costs nothing. */
static enum ft_status add_packed_dims(struct tensor *t, struct ft_bytes packed, struct ft_err *err)
{
    size_t at = 0;
    while (at < packed.size) {
        uint64_t value = 0;
        int shift = 0;
        uint8_t byte = 0x80;
        while ((byte & 0x80U) != 0) {
            if (at == packed.size || shift > 63) {
                return FT_FAIL(err, CORRUPT, "a tensor's packed shape is cut off");
            }
            byte = packed.data[at++];
            value |= (uint64_t)(byte & 0x7fU) << shift;
            shift += 7;
        }
        FT_RETURN_IF_FAILED(add_dim(t, value, err));
    }
    return FT_OK;
}

static enum ft_status scan_dense(struct ft_bytes message, struct tensor *t, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == DENSE_BUFFER && f.wire == FT_PB_BYTES) {
            t->buffer = f.bytes;
        } else if (f.number == DENSE_DTYPE && f.wire == FT_PB_BYTES) {
            t->dtype = f.bytes;
        } else if (f.number == DENSE_SHAPE && f.wire == FT_PB_VARINT) {
            FT_RETURN_IF_FAILED(add_dim(t, f.varint, err));
        } else if (f.number == DENSE_SHAPE && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(add_packed_dims(t, f.bytes, err));
        }
    }
}

static enum ft_status scan_tensor(struct ft_bytes message, struct tensor *t, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == ND_DENSE && f.wire == FT_PB_BYTES) {
            if (t->sparse) { /* dense and sparse exclude each other: what came before is gone */
                *t = (struct tensor){0};
            }
            FT_RETURN_IF_FAILED(scan_dense(f.bytes, t, err));
        } else if (f.number == ND_SPARSE && f.wire == FT_PB_BYTES) {
            *t = (struct tensor){.sparse = true};
        }
    }
}

static enum ft_status finish_tensor(const struct tensor *t, struct ft_content *content, struct ft_err *err)
{
    size_t elements = 1;
    size_t bytes = 0;
    if (t->sparse) {
        return FT_FAIL(err, UNSUPPORTED, "sparse tensors are not read; send a dense one");
    }
    *content = (struct ft_content){.kind = FT_CONTENT_TENSOR, .bytes = t->buffer, .rank = t->rank};
    if (t->dtype.size < sizeof content->dtype) {
        memcpy(content->dtype, t->dtype.data == NULL ? (const uint8_t *)"" : t->dtype.data, t->dtype.size);
    }
    size_t item = ft_tensor_dtype_size(content->dtype);
    if (item == 0) {
        return FT_FAIL(err, UNSUPPORTED,
                       "a tensor of dtype \"%.*s\" is not read; send <f4, <f8, <f2, |u1 or another "
                       "little-endian number",
                       ft_bytes_shown(t->dtype), (const char *)t->dtype.data);
    }
    for (int i = 0; i < t->rank; i++) {
        content->dims[i] = t->dims[i];
        if (!ft_mul_size(elements, (size_t)t->dims[i], &elements)) {
            return FT_FAIL(err, INVALID, "a tensor's shape has more elements than memory");
        }
    }
    if (elements == 0) {
        return FT_FAIL(err, INVALID, "a tensor has no elements");
    }
    if (!ft_mul_size(elements, item, &bytes) || bytes != t->buffer.size) {
        return FT_FAIL(err, INVALID, "a tensor of %zu elements of %s comes with %zu bytes", elements,
                       content->dtype, t->buffer.size);
    }
    return FT_OK;
}

/* One google.protobuf.Value: the label when it is text or a number. */
static enum ft_status scan_label(struct scan *s, struct ft_bytes value, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(value);
    struct ft_pb_field f;
    struct ft_document *doc = s->doc;
    bool more = false;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number < VALUE_FIRST || f.number > VALUE_LAST) {
            continue;
        }
        doc->has_label = false;
        doc->label_is_number = false;
        doc->label = (struct ft_bytes){0};
        double number = 0.0;
        if (f.number == VALUE_STRING && f.wire == FT_PB_BYTES && f.bytes.size > 0) {
            if (f.bytes.size > FT_MAX_LABEL_BYTES) {
                return FT_FAIL(err, LIMIT, "a finetuner_label has %zu bytes, more than %d", f.bytes.size,
                               FT_MAX_LABEL_BYTES);
            }
            if (!ft_utf8_valid(f.bytes) || memchr(f.bytes.data, 0, f.bytes.size) != NULL) {
                return FT_FAIL(err, INVALID, "a finetuner_label is not UTF-8 text without NUL");
            }
            doc->has_label = true;
            doc->label = f.bytes;
        } else if (f.number == VALUE_NUMBER && f.wire == FT_PB_FIXED64) {
            FT_RETURN_IF_FAILED(ft_pb_double(&f, &number, err));
            if (isfinite(number)) {
                char text[FT_LABEL_NUMBER_TEXT];
                const char *kept = NULL;
                ft_label_number_text(number, text);
                FT_RETURN_IF_FAILED(ft_arena_text(s->arena, text, strlen(text), &kept, err));
                doc->has_label = true;
                doc->label_is_number = true;
                doc->label = ft_bytes_of_text(kept);
            }
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
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == ENTRY_KEY && f.wire == FT_PB_BYTES) {
            key = f.bytes;
        }
    }
    if (!ft_bytes_is(key, label_key)) {
        return FT_OK;
    }
    s->doc->has_label = false; /* a later entry replaces an earlier one, also by nothing */
    s->doc->label_is_number = false;
    s->doc->label = (struct ft_bytes){0};
    cursor = ft_pb_open(entry);
    more = true;
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == ENTRY_VALUE && f.wire == FT_PB_BYTES) {
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
            s->tensor = (struct tensor){0};
        }
        *content = (struct ft_content){.kind = FT_CONTENT_TENSOR};
        return scan_tensor(payload, &s->tensor, err);
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
    struct ft_document *doc = s->doc;
    struct ft_content *content = &doc->content;
    if (doc->id.size > FT_MAX_ID_BYTES) {
        return FT_FAIL(err, LIMIT, "an id has %zu bytes, more than %d", doc->id.size, FT_MAX_ID_BYTES);
    }
    if (!ft_utf8_valid(doc->id)) {
        return FT_FAIL(err, INVALID, "an id is not UTF-8");
    }
    if (content->kind == FT_CONTENT_TENSOR) {
        return finish_tensor(&s->tensor, content, err);
    }
    if (content->bytes.size == 0) {
        *content = (struct ft_content){0};
        if (s->uri.size > 0) {
            *content = (struct ft_content){.kind = FT_CONTENT_URI, .bytes = s->uri};
        }
    }
    if ((content->kind == FT_CONTENT_TEXT || content->kind == FT_CONTENT_URI) &&
        !ft_utf8_valid(content->bytes)) {
        return FT_FAIL(err, INVALID, "the %s is not UTF-8",
                       content->kind == FT_CONTENT_TEXT ? "text" : "uri");
    }
    return FT_OK;
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
    if (message.size > FT_MAX_DOC_BYTES) {
        st = FT_FAIL(err, LIMIT, "a Document has %zu bytes, more than %d", message.size, FT_MAX_DOC_BYTES);
        goto done;
    }
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

enum ft_status ft_docarray_v1_next(struct ft_pb_cursor *docs, struct ft_bytes *message, bool *more,
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

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

/* Sizes of the nested messages of an embedding of `dim` floats, from the inside out. */
struct embedding_sizes {
    size_t buffer;
    size_t dense;
    size_t nd;
    size_t field; /* with tag and length: what is appended */
};

static enum ft_status embedding_sizes(size_t dim, struct embedding_sizes *sizes, struct ft_err *err)
{
    if (dim == 0 || dim > FT_MAX_DOC_BYTES / sizeof(float)) {
        return FT_FAIL(err, LIMIT, "an embedding of %zu numbers does not fit a Document", dim);
    }
    sizes->buffer = dim * sizeof(float);
    size_t shape = varint_size(dim);
    sizes->dense = 1 + varint_size(sizes->buffer) + sizes->buffer + 2 + shape + 2 + 3;
    sizes->nd = 1 + varint_size(sizes->dense) + sizes->dense + 2 + 5;
    sizes->field = 2 + varint_size(sizes->nd) + sizes->nd;
    return FT_OK;
}

static enum ft_status put_embedding(const float *embedding, size_t dim, const struct embedding_sizes *sizes,
                                    struct ft_buf *out, struct ft_err *err)
{
    int64_t shape = (int64_t)dim;
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, DOC_EMBEDDING, sizes->nd, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, ND_DENSE, sizes->dense, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, DENSE_BUFFER, sizes->buffer, err));
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats are written as they lie in memory"
#endif
    FT_RETURN_IF_FAILED(ft_buf_append(out, embedding, sizes->buffer, err));
    FT_RETURN_IF_FAILED(ft_pb_put_packed(out, DENSE_SHAPE, &shape, 1, err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, DENSE_DTYPE, "<f4", err));
    return ft_pb_put_text(out, ND_CLS_NAME, "numpy", err);
}

/* Walk the runs of bytes between old embeddings: append them to `out`, or only count when out is NULL. */
static enum ft_status copy_without_embedding(struct ft_bytes message, struct ft_buf *out, size_t *kept,
                                             struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    size_t run = 0; /* where the bytes not yet copied begin */
    bool more = true;
    *kept = 0;
    while (more) {
        size_t before = cursor.at;
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number != DOC_EMBEDDING) {
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

enum ft_status ft_docarray_v1_splice_size(struct ft_bytes message, size_t dim, size_t *size,
                                          struct ft_err *err)
{
    struct embedding_sizes sizes;
    size_t kept = 0;
    *size = 0;
    FT_RETURN_IF_FAILED(embedding_sizes(dim, &sizes, err));
    FT_RETURN_IF_FAILED(copy_without_embedding(message, NULL, &kept, err));
    *size = kept + sizes.field;
    return FT_OK;
}

enum ft_status ft_docarray_v1_splice(struct ft_bytes message, const float *embedding, size_t dim,
                                     struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t start = out->size;
    size_t kept = 0;
    struct embedding_sizes sizes;
    FT_TRY(embedding_sizes(dim, &sizes, err));
    FT_TRY(ft_buf_reserve(out, message.size + sizes.field, err));
    FT_TRY(copy_without_embedding(message, out, &kept, err));
    FT_TRY(put_embedding(embedding, dim, &sizes, out, err));
    assert(out->size - start == kept + sizes.field);
done:
    if (st != FT_OK) {
        out->size = start;
    }
    return st;
}

static enum ft_status put_tensor(const struct ft_content *content, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf tail = {0}; /* shape and dtype: what follows the large buffer */
    size_t dense = 0;
    size_t nd = 0;
    FT_TRY(ft_pb_put_packed(&tail, DENSE_SHAPE, content->dims, (size_t)content->rank, err));
    FT_TRY(ft_pb_put_text(&tail, DENSE_DTYPE, content->dtype, err));
    dense = 1 + varint_size(content->bytes.size) + content->bytes.size + tail.size;
    nd = 1 + varint_size(dense) + dense + 2 + 5;
    FT_TRY(ft_pb_put_header(out, DOC_TENSOR, nd, err));
    FT_TRY(ft_pb_put_header(out, ND_DENSE, dense, err));
    FT_TRY(ft_pb_put_bytes(out, DENSE_BUFFER, content->bytes, err));
    FT_TRY(ft_buf_append(out, tail.data, tail.size, err));
    FT_TRY(ft_pb_put_text(out, ND_CLS_NAME, "numpy", err));
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
    FT_TRY(ft_pb_put_text(&entry, ENTRY_KEY, label_key, err));
    FT_TRY(ft_pb_put_bytes(&entry, ENTRY_VALUE, ft_buf_bytes(&value), err));
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
        if (f.wire != FT_PB_BYTES || (f.number == ENTRY_KEY && !ft_utf8_valid(f.bytes)) ||
            f.number > ENTRY_VALUE) {
            return false;
        }
        has_key = has_key || f.number == ENTRY_KEY;
        if (f.number == ENTRY_VALUE) {
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

enum ft_status ft_docarray_require_v1(struct ft_bytes message, struct ft_err *err)
{
    if (ft_docarray_sniff(message) == FT_DOCARRAY_V2) {
        return FT_FAIL(
            err, UNSUPPORTED,
            "docarray v2 Documents are not read; use docarray 0.21 (pip install \"docarray<0.30\")");
    }
    return FT_OK;
}
