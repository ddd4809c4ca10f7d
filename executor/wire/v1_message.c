#include "executor/wire/v1.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "finetuner/v1/finetuner.pb-c.h"

#include "executor/base/limits.h"
#include "executor/wire/struct.h"

static const ProtobufCMessageDescriptor *const TYPES[FT_V1_TYPE_COUNT] = {
#define ROW(name, message) &finetuner__v1__##message##__descriptor,
    FT_V1_TYPES(ROW)
#undef ROW
};

/* ---- memory: protobuf-c takes it from an arena, which is released whole */

struct pool {
    struct ft_arena arena;
    struct ft_err err; /* of an allocation */
};

static void *pool_alloc(void *data, size_t size)
{
    struct pool *pool = data;
    void *p = NULL;
    return ft_arena_new(&pool->arena, 1, size > 0 ? size : 1, &p, &pool->err) == FT_OK ? p : NULL;
}

static void pool_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

/* NULL: not such a message, or no memory (pool->err). */
static ProtobufCMessage *unpack(struct pool *pool, const ProtobufCMessageDescriptor *type,
                                struct ft_bytes message)
{
    ProtobufCAllocator allocator = {pool_alloc, pool_free, pool};
    return protobuf_c_message_unpack(type, &allocator, message.size, message.data);
}

static bool is_struct(const ProtobufCMessageDescriptor *type)
{
    return type == &google__protobuf__struct__descriptor;
}

static const uint8_t *member(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f)
{
    return (const uint8_t *)message + f->offset;
}

/* ---- reading */

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, uint32_t number)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (type->fields[i].id == number) {
            return &type->fields[i];
        }
    }
    return NULL;
}

enum ft_status ft_v1_check_text(const char *field, struct ft_bytes text, struct ft_v1_fault *fault,
                                struct ft_err *err)
{
    if (ft_utf8_valid(text) && (text.size == 0 || memchr(text.data, 0, text.size) == NULL)) {
        return FT_OK;
    }
    (void)snprintf(fault->field, sizeof fault->field, "%s", field);
    return FT_FAIL(err, INVALID, "%s is not UTF-8 text without U+0000", field);
}

const char *ft_v1_text(const struct ft_json *message, const char *key)
{
    const char *text = ft_json_text(ft_json_get(message, key), NULL);
    return text != NULL ? text : "";
}

/* Texts as they are on the wire: protobuf-c would cut them at a NUL. Messages of ours nest two deep; Structs
 * are looked at when they are read. */
static enum ft_status check_texts(const ProtobufCMessageDescriptor *type, struct ft_bytes message,
                                  struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        const ProtobufCFieldDescriptor *known = find_field(type, f.number);
        if (known == NULL || f.wire != FT_PB_BYTES) {
            continue;
        }
        if (known->type == PROTOBUF_C_TYPE_STRING) {
            FT_RETURN_IF_FAILED(ft_v1_check_text(known->name, f.bytes, fault, err));
        }
        if (known->type == PROTOBUF_C_TYPE_MESSAGE && !is_struct(known->descriptor)) {
            FT_RETURN_IF_FAILED(check_texts(known->descriptor, f.bytes, fault, err));
        }
    }
}

static enum ft_status read_message(const ProtobufCMessage *message, struct ft_json **json,
                                   struct ft_v1_fault *fault, struct ft_err *err);

static enum ft_status read_struct(const ProtobufCMessage *message, struct ft_json **json, struct ft_err *err)
{
    struct ft_buf packed = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    enum ft_status st = ft_buf_reserve(&packed, size, err);
    if (st == FT_OK) {
        packed.size = size > 0 ? protobuf_c_message_pack(message, packed.data) : 0;
        st = ft_struct_read(ft_buf_bytes(&packed), json, err);
    }
    ft_buf_release(&packed);
    return st;
}

static struct ft_json *enum_name(const ProtobufCFieldDescriptor *f, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(f->descriptor, value);
    return known != NULL ? ft_json_of_text(known->name) : ft_json_of_int(value);
}

/* One value at `at`; *json stays NULL where nothing was set. */
static enum ft_status read_value(const ProtobufCFieldDescriptor *f, const uint8_t *at, struct ft_json **json,
                                 struct ft_v1_fault *fault, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t wide = 0;
    int32_t narrow = 0;
    double real = 0;
    const void *pointer = NULL;
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
        memcpy(&narrow, at, sizeof narrow);
        *json = narrow != 0 ? ft_json_of_int(narrow) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_BOOL:
        memcpy(&narrow, at, sizeof narrow);
        *json = narrow != 0 ? ft_json_of_bool(true) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_ENUM:
        memcpy(&narrow, at, sizeof narrow);
        *json = narrow != 0 ? enum_name(f, narrow) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        memcpy(&wide, at, sizeof wide);
        if (wide < 0 && f->type == PROTOBUF_C_TYPE_UINT64) {
            return FT_FAIL(err, INVALID, "%s is larger than %lld", f->name, (long long)INT64_MAX);
        }
        *json = wide != 0 ? ft_json_of_int(wide) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(&real, at, sizeof real);
        if (!isfinite(real)) {
            return FT_FAIL(err, INVALID, "%s is not finite", f->name);
        }
        *json = real != 0 ? ft_json_of_real(real) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&pointer, at, sizeof(char *));
        *json = pointer != NULL && *(const char *)pointer != '\0' ? ft_json_of_text(pointer) : NULL;
        return FT_OK;
    case PROTOBUF_C_TYPE_MESSAGE:
        memcpy(&pointer, at, sizeof(void *));
        if (pointer != NULL) {
            st = is_struct(f->descriptor) ? read_struct(pointer, json, err)
                                          : read_message(pointer, json, fault, err);
        }
        return st;
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BYTES:
        break;
    }
    return FT_FAIL(err, INTERNAL, "%s: no control message has fields of this type", f->name);
}

/* Repeated fields of control messages are texts or messages: pointers. */
static enum ft_status read_list(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f,
                                struct ft_json **json, struct ft_v1_fault *fault, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t count = 0;
    const uint8_t *items = NULL;
    struct ft_json *list = NULL;
    memcpy(&count, (const uint8_t *)message + f->quantifier_offset, sizeof count);
    memcpy(&items, member(message, f), sizeof items);
    if (count == 0) {
        return FT_OK;
    }
    list = ft_json_array();
    if (list == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading %s", f->name);
    }
    for (size_t i = 0; i < count; i++) {
        struct ft_json *item = NULL;
        FT_TRY(read_value(f, items + i * sizeof(void *), &item, fault, err));
        if (item == NULL) { /* an empty text is one all the same */
            item = ft_json_of_text("");
        }
        FT_TRY(ft_json_push(list, item, err));
    }
    *json = list;
    list = NULL;
done:
    ft_json_free(list);
    return st;
}

static bool is_other_member(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f)
{
    uint32_t which = 0;
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
        return false;
    }
    memcpy(&which, (const uint8_t *)message + f->quantifier_offset, sizeof which);
    return which != f->id;
}

static enum ft_status read_message(const ProtobufCMessage *message, struct ft_json **json,
                                   struct ft_v1_fault *fault, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *object = ft_json_object();
    *json = NULL;
    if (object == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading a message");
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &message->descriptor->fields[i];
        struct ft_json *value = NULL;
        if (is_other_member(message, f)) {
            continue;
        }
        st = f->label == PROTOBUF_C_LABEL_REPEATED ? read_list(message, f, &value, fault, err)
                                                   : read_value(f, member(message, f), &value, fault, err);
        if (st != FT_OK) {
            if (fault->field[0] == '\0') {
                (void)snprintf(fault->field, sizeof fault->field, "%s", f->name);
            }
            goto done;
        }
        if (value != NULL) {
            FT_TRY(ft_json_set(object, f->name, value, err));
        }
    }
    *json = object;
    object = NULL;
done:
    ft_json_free(object);
    return st;
}

enum ft_status ft_v1_read(enum ft_v1_type type, struct ft_bytes message, struct ft_json **json,
                          struct ft_v1_fault *fault, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct pool pool = {{0}, {0}};
    *json = NULL;
    if (message.size > FT_MAX_CONFIG_BYTES) {
        return FT_FAIL(err, LIMIT, "the message has %zu bytes, more than %d", message.size,
                       FT_MAX_CONFIG_BYTES);
    }
    FT_RETURN_IF_FAILED(ft_pb_check_depth(message, FT_MAX_NESTING, err)); /* protobuf-c recurses */
    FT_RETURN_IF_FAILED(check_texts(TYPES[type], message, fault, err));
    const ProtobufCMessage *unpacked = unpack(&pool, TYPES[type], message);
    if (unpacked != NULL) {
        st = read_message(unpacked, json, fault, err);
    } else if (pool.err.code != FT_OK) {
        *err = pool.err;
        st = err->code;
    } else {
        st = FT_FAIL(err, CORRUPT, "the message is not a %s", TYPES[type]->name);
    }
    ft_arena_release(&pool.arena);
    return st;
}

/* ---- writing: the message is built in the pool; texts are the JSON's */

static enum ft_status build(struct pool *pool, const ProtobufCMessageDescriptor *type,
                            const struct ft_json *json, ProtobufCMessage **message, struct ft_err *err);

static enum ft_status build_struct(struct pool *pool, const struct ft_json *json, ProtobufCMessage **message,
                                   struct ft_err *err)
{
    struct ft_buf bytes = {0};
    enum ft_status st = ft_struct_write(json, &bytes, err);
    if (st == FT_OK) {
        *message = unpack(pool, &google__protobuf__struct__descriptor, ft_buf_bytes(&bytes));
        if (*message == NULL) {
            *err = pool->err;
            st = pool->err.code != FT_OK ? pool->err.code : FT_FAIL(err, INTERNAL, "a Struct cannot be read");
        }
    }
    ft_buf_release(&bytes);
    return st;
}

static enum ft_status wrong_kind(const ProtobufCFieldDescriptor *f, const struct ft_json *json,
                                 struct ft_err *err)
{
    return FT_FAIL(err, INTERNAL, "%s is %s", f->name, ft_json_kind_name(ft_json_kind(json)));
}

static enum ft_status build_enum(const ProtobufCFieldDescriptor *f, const struct ft_json *json,
                                 int32_t *value, struct ft_err *err)
{
    const char *name = ft_json_text(json, NULL);
    const ProtobufCEnumValue *known =
        name != NULL ? protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, name) : NULL;
    if (known == NULL) {
        return wrong_kind(f, json, err);
    }
    *value = known->value;
    return FT_OK;
}

static enum ft_status build_pointer(struct pool *pool, const ProtobufCFieldDescriptor *f,
                                    const struct ft_json *json, const void **pointer, struct ft_err *err)
{
    ProtobufCMessage *inner = NULL;
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        *pointer = ft_json_text(json, NULL);
        return *pointer != NULL ? FT_OK : wrong_kind(f, json, err);
    }
    if (f->type != PROTOBUF_C_TYPE_MESSAGE || ft_json_kind(json) != FT_JSON_OBJECT) {
        return wrong_kind(f, json, err);
    }
    FT_RETURN_IF_FAILED(is_struct(f->descriptor) ? build_struct(pool, json, &inner, err)
                                                 : build(pool, f->descriptor, json, &inner, err));
    *pointer = inner;
    return FT_OK;
}

static enum ft_status build_value(struct pool *pool, const ProtobufCFieldDescriptor *f,
                                  const struct ft_json *json, uint8_t *at, struct ft_err *err)
{
    const void *pointer = NULL;
    int64_t wide = ft_json_int(json);
    int32_t narrow = (int32_t)wide;
    double real = ft_json_real(json);
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        memcpy(at, &wide, sizeof wide);
        return ft_json_is_integral(json) ? FT_OK : wrong_kind(f, json, err);
    case PROTOBUF_C_TYPE_INT32:
        memcpy(at, &narrow, sizeof narrow);
        return ft_json_is_integral(json) && narrow == wide ? FT_OK : wrong_kind(f, json, err);
    case PROTOBUF_C_TYPE_BOOL:
        narrow = ft_json_bool(json) ? 1 : 0;
        memcpy(at, &narrow, sizeof narrow);
        return ft_json_kind(json) == FT_JSON_BOOL ? FT_OK : wrong_kind(f, json, err);
    case PROTOBUF_C_TYPE_ENUM:
        FT_RETURN_IF_FAILED(build_enum(f, json, &narrow, err));
        memcpy(at, &narrow, sizeof narrow);
        return FT_OK;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(at, &real, sizeof real);
        return ft_json_is_number(json) ? FT_OK : wrong_kind(f, json, err);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        FT_RETURN_IF_FAILED(build_pointer(pool, f, json, &pointer, err));
        memcpy(at, &pointer, sizeof(void *));
        return FT_OK;
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BYTES:
        break;
    }
    return FT_FAIL(err, INTERNAL, "%s: no control message has fields of this type", f->name);
}

static enum ft_status build_list(struct pool *pool, const ProtobufCFieldDescriptor *f,
                                 const struct ft_json *json, ProtobufCMessage *message, struct ft_err *err)
{
    size_t count = ft_json_count(json);
    const void **items = NULL;
    if (ft_json_kind(json) != FT_JSON_ARRAY) {
        return wrong_kind(f, json, err);
    }
    if (count == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_arena_new(&pool->arena, count, sizeof *items, &items, err));
    for (size_t i = 0; i < count; i++) {
        FT_RETURN_IF_FAILED(build_pointer(pool, f, ft_json_at(json, i), &items[i], err));
    }
    memcpy((uint8_t *)message + f->offset, &items, sizeof(void *));
    memcpy((uint8_t *)message + f->quantifier_offset, &count, sizeof count);
    return FT_OK;
}

static enum ft_status build(struct pool *pool, const ProtobufCMessageDescriptor *type,
                            const struct ft_json *json, ProtobufCMessage **message, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_arena_new(&pool->arena, 1, type->sizeof_message, message, err));
    protobuf_c_message_init(type, *message);
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &type->fields[i];
        const struct ft_json *value = ft_json_get(json, f->name);
        uint8_t *base = (uint8_t *)*message;
        if (ft_json_kind(value) == FT_JSON_NULL) {
            continue;
        }
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            FT_RETURN_IF_FAILED(build_list(pool, f, value, *message, err));
            continue;
        }
        FT_RETURN_IF_FAILED(build_value(pool, f, value, base + f->offset, err));
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            memcpy(base + f->quantifier_offset, &f->id, sizeof f->id);
        }
    }
    return FT_OK;
}

enum ft_status ft_v1_write(enum ft_v1_type type, const struct ft_json *json, struct ft_buf *out,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct pool pool = {{0}, {0}};
    ProtobufCMessage *message = NULL;
    FT_TRY(build(&pool, TYPES[type], json, &message, err));
    size_t size = protobuf_c_message_get_packed_size(message);
    FT_TRY(ft_buf_reserve(out, size, err));
    if (size > 0) {
        size_t written = protobuf_c_message_pack(message, out->data + out->size);
        assert(written == size);
        out->size += written;
    }
done:
    ft_arena_release(&pool.arena);
    return st;
}
