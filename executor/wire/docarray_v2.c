#include "executor/wire/docarray_v2.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "executor/wire/internal.h"

/* Field numbers: jina/SPEC.md 1.3. A DocProto and a DictOfAnyProto are the same: map<string, NodeProto> in
 * field 1. */
enum { MAP_DATA = 1 };
enum {
    NODE_TEXT = 1,
    NODE_INTEGER = 2,
    NODE_FLOAT = 3,
    NODE_BOOLEAN = 4,
    NODE_BLOB = 5,
    NODE_NDARRAY = 6,
    NODE_DICT = 12,
    NODE_LAST = 12, /* of the oneof that holds the content */
    NODE_TYPE = 13
};

/* A NodeProto as far as we read one: what its oneof holds, and that. */
struct node {
    uint32_t kind; /* 0: nothing, Python's None */
    struct ft_bytes bytes;
    double number;
    struct ft_wire_tensor tensor;
};

/* The entries we read. Content in the order in which it counts. */
enum slot { SLOT_TEXT, SLOT_TENSOR, SLOT_BLOB, SLOT_BYTES, SLOT_URL, SLOT_URI, SLOT_ID, SLOT_LABEL, SLOTS };
static const char *const SLOT_KEYS[SLOTS] = {"text", "tensor", "blob", "bytes_",
                                             "url",  "uri",    "id",   FT_LABEL_KEY};
static const char TAGS[] = "tags";
static const char EMBEDDING[] = "embedding";
static const char EMBEDDING_TYPE[] = "ndarray_embedding";

struct scan {
    struct node slots[SLOTS];
    struct node tag; /* tags.finetuner_label */
};

/* One member of the oneof; one of another wire type is an unknown field. Tensors merge, the rest replaces. */
static enum ft_status scan_member(const struct ft_pb_field *f, struct node *node, struct ft_err *err)
{
    enum ft_pb_wire wire = FT_PB_BYTES;
    if (f->number == NODE_INTEGER || f->number == NODE_BOOLEAN) {
        wire = FT_PB_VARINT;
    } else if (f->number == NODE_FLOAT) {
        wire = FT_PB_FIXED64;
    }
    if (f->number > NODE_LAST || f->wire != wire) {
        return FT_OK;
    }
    if (f->number != NODE_NDARRAY || node->kind != NODE_NDARRAY) {
        *node = (struct node){.kind = f->number};
    }
    node->bytes = f->bytes;
    if (f->number == NODE_FLOAT) {
        return ft_pb_double(f, &node->number, err);
    }
    if (f->number == NODE_INTEGER) {
        node->number = (double)(int32_t)(uint32_t)f->varint; /* int32 on the wire: the low bits */
    }
    return f->number == NODE_NDARRAY ? ft_wire_tensor_scan(f->bytes, false, &node->tensor, err) : FT_OK;
}

static enum ft_status scan_node(struct ft_bytes message, struct node *node, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more) {
            FT_RETURN_IF_FAILED(scan_member(&f, node, err));
        }
    }
    return FT_OK;
}

/* The values of one map entry into `node`: a later entry replaces an earlier one, values within one merge. */
static enum ft_status scan_values(struct ft_bytes entry, struct node *node, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(entry);
    struct ft_pb_field f;
    bool more = true;
    *node = (struct node){0};
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == FT_ENTRY_VALUE && f.wire == FT_PB_BYTES) {
            FT_RETURN_IF_FAILED(scan_node(f.bytes, node, err));
        }
    }
    return FT_OK;
}

static enum ft_status scan_dict(struct ft_bytes dict, struct node *label, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(dict);
    struct ft_pb_field f;
    struct ft_bytes key;
    bool more = true;
    while (more) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more || f.number != MAP_DATA || f.wire != FT_PB_BYTES) {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_wire_entry_key(f.bytes, &key, err));
        if (ft_bytes_is(key, FT_LABEL_KEY)) {
            FT_RETURN_IF_FAILED(scan_values(f.bytes, label, err));
        }
    }
    return FT_OK;
}

static enum ft_status scan_entry(struct ft_bytes entry, struct scan *s, struct ft_err *err)
{
    struct ft_bytes key;
    FT_RETURN_IF_FAILED(ft_wire_entry_key(entry, &key, err));
    for (size_t i = 0; i < SLOTS; i++) {
        if (ft_bytes_is(key, SLOT_KEYS[i])) {
            return scan_values(entry, &s->slots[i], err);
        }
    }
    if (ft_bytes_is(key, TAGS)) {
        struct node tags;
        s->tag = (struct node){0};
        FT_RETURN_IF_FAILED(scan_values(entry, &tags, err));
        return tags.kind == NODE_DICT ? scan_dict(tags.bytes, &s->tag, err) : FT_OK;
    }
    return FT_OK;
}

static enum ft_status take_label(const struct node *node, struct ft_arena *arena, struct ft_document *doc,
                                 struct ft_err *err)
{
    if (node->kind == NODE_TEXT) {
        return ft_wire_label_text(doc, node->bytes, err);
    }
    if (node->kind == NODE_INTEGER || node->kind == NODE_FLOAT) {
        return ft_wire_label_number(doc, node->number, arena, err);
    }
    return FT_OK;
}

/* The first content that is not empty. */
static enum ft_status take_content(const struct scan *s, struct ft_content *content, struct ft_err *err)
{
    static const struct {
        uint32_t kind;
        enum ft_content_kind content;
    } read[SLOT_ID] = {{NODE_TEXT, FT_CONTENT_TEXT}, {NODE_NDARRAY, FT_CONTENT_TENSOR},
                       {NODE_BLOB, FT_CONTENT_BLOB}, {NODE_BLOB, FT_CONTENT_BLOB},
                       {NODE_TEXT, FT_CONTENT_URI},  {NODE_TEXT, FT_CONTENT_URI}};
    for (size_t i = 0; i < SLOT_ID; i++) {
        const struct node *node = &s->slots[i];
        if (node->kind != read[i].kind) {
            continue;
        }
        if (node->kind == NODE_NDARRAY) {
            return ft_wire_tensor_finish(&node->tensor, content, err);
        }
        if (node->bytes.size > 0) {
            *content = (struct ft_content){.kind = read[i].content, .bytes = node->bytes};
            return FT_OK;
        }
    }
    return FT_OK;
}

static enum ft_status finish(const struct scan *s, struct ft_arena *arena, struct ft_document *doc,
                             struct ft_err *err)
{
    if (s->slots[SLOT_ID].kind == NODE_TEXT) {
        doc->id = s->slots[SLOT_ID].bytes;
    }
    FT_RETURN_IF_FAILED(take_label(&s->slots[SLOT_LABEL], arena, doc, err));
    if (!doc->has_label) {
        FT_RETURN_IF_FAILED(take_label(&s->tag, arena, doc, err));
    }
    FT_RETURN_IF_FAILED(take_content(s, &doc->content, err));
    return ft_wire_check(doc, err);
}

enum ft_status ft_docarray_v2_scan(struct ft_bytes message, struct ft_arena *arena, struct ft_document *doc,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct scan s;
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    memset(&s, 0, sizeof s);
    *doc = (struct ft_document){.raw = message};
    FT_TRY(ft_wire_check_size(message, err));
    while (more) {
        FT_TRY(ft_pb_next(&cursor, &f, &more, err));
        if (more && f.number == MAP_DATA && f.wire == FT_PB_BYTES) {
            FT_TRY(scan_entry(f.bytes, &s, err));
        }
    }
    st = finish(&s, arena, doc, err);
done:
    if (st != FT_OK) {
        *doc = (struct ft_document){0};
    }
    return st;
}

/* The entry {embedding: {ndarray {dense}, type}}, its messages from the inside out. */
struct embedding_sizes {
    size_t dense;
    size_t nd;
    size_t node;
    size_t entry;
};

static enum ft_status embedding_sizes(size_t dim, struct embedding_sizes *sizes, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_wire_dense_size(dim, &sizes->dense, err));
    sizes->nd = ft_wire_with_head(sizes->dense);
    sizes->node = ft_wire_with_head(sizes->nd) + ft_wire_with_head(sizeof EMBEDDING_TYPE - 1);
    sizes->entry = ft_wire_with_head(sizeof EMBEDDING - 1) + ft_wire_with_head(sizes->node);
    return FT_OK;
}

static enum ft_status embedding_size(size_t dim, size_t *size, struct ft_err *err)
{
    struct embedding_sizes sizes;
    FT_RETURN_IF_FAILED(embedding_sizes(dim, &sizes, err));
    *size = ft_wire_with_head(sizes.entry);
    return FT_OK;
}

static enum ft_status put_embedding(const float *embedding, size_t dim, struct ft_buf *out,
                                    struct ft_err *err)
{
    struct embedding_sizes sizes;
    FT_RETURN_IF_FAILED(embedding_sizes(dim, &sizes, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, MAP_DATA, sizes.entry, err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, FT_ENTRY_KEY, EMBEDDING, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, FT_ENTRY_VALUE, sizes.node, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, NODE_NDARRAY, sizes.nd, err));
    FT_RETURN_IF_FAILED(ft_pb_put_header(out, FT_ND_DENSE, sizes.dense, err));
    FT_RETURN_IF_FAILED(ft_wire_put_dense(embedding, dim, out, err));
    return ft_pb_put_text(out, NODE_TYPE, EMBEDDING_TYPE, err);
}

/* An entry that is no message stays: it cannot have the key. */
static bool is_embedding(const struct ft_pb_field *field)
{
    struct ft_err ignored = {0};
    struct ft_bytes key;
    return field->number == MAP_DATA && field->wire == FT_PB_BYTES &&
           ft_wire_entry_key(field->bytes, &key, &ignored) == FT_OK && ft_bytes_is(key, EMBEDDING);
}

const struct ft_wire_embedding ft_docarray_v2_embedding = {is_embedding, embedding_size, put_embedding};

/* An entry {key: node}. */
static enum ft_status put_entry(const char *key, const struct ft_buf *node, struct ft_buf *out,
                                struct ft_err *err)
{
    struct ft_bytes value = ft_buf_bytes(node);
    FT_RETURN_IF_FAILED(
        ft_pb_put_header(out, MAP_DATA, ft_wire_with_head(strlen(key)) + ft_wire_with_head(value.size), err));
    FT_RETURN_IF_FAILED(ft_pb_put_text(out, FT_ENTRY_KEY, key, err));
    return ft_pb_put_bytes(out, FT_ENTRY_VALUE, value, err);
}

/* Python's int is a 32-bit one on this wire; what does not fit is a float. */
static enum ft_status put_leaf(const struct ft_json *value, struct ft_buf *node, struct ft_err *err)
{
    if (ft_json_kind(value) == FT_JSON_TEXT) {
        return ft_pb_put_text(node, NODE_TEXT, ft_json_text(value, NULL), err);
    }
    assert(ft_json_is_number(value));
    int64_t whole = ft_json_int(value);
    if (ft_json_kind(value) == FT_JSON_INT && whole >= INT32_MIN && whole <= INT32_MAX) {
        return ft_pb_put_varint(node, NODE_INTEGER, (uint64_t)whole, err);
    }
    return ft_pb_put_double(node, NODE_FLOAT, ft_json_real(value), err);
}

enum ft_status ft_docarray_v2_blob(const char *id, struct ft_bytes blob, const struct ft_json *tags,
                                   struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf node = {0};
    struct ft_buf dict = {0};
    FT_TRY(ft_pb_put_text(&node, NODE_TEXT, id, err));
    FT_TRY(ft_pb_put_text(&node, NODE_TYPE, SLOT_KEYS[SLOT_ID], err));
    FT_TRY(put_entry(SLOT_KEYS[SLOT_ID], &node, out, err));
    node.size = 0;
    FT_TRY(ft_pb_put_bytes(&node, NODE_BLOB, blob, err));
    FT_TRY(put_entry(SLOT_KEYS[SLOT_BLOB], &node, out, err));
    for (struct ft_json_iter *it = ft_json_first(tags); it != NULL; it = ft_json_next(tags, it)) {
        node.size = 0;
        FT_TRY(put_leaf(ft_json_value(it), &node, err));
        FT_TRY(put_entry(ft_json_key(it), &node, &dict, err));
    }
    node.size = 0;
    FT_TRY(ft_pb_put_bytes(&node, NODE_DICT, ft_buf_bytes(&dict), err));
    FT_TRY(put_entry(TAGS, &node, out, err));
done:
    ft_buf_release(&node);
    ft_buf_release(&dict);
    return st;
}
