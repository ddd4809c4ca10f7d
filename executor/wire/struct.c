#include "executor/wire/struct.h"

#include <math.h>
#include <string.h>

#include "executor/base/limits.h"

/* Field numbers of google.protobuf.Value. */
enum { VALUE_NULL = 1, VALUE_NUMBER = 2, VALUE_TEXT = 3, VALUE_BOOL = 4, VALUE_STRUCT = 5, VALUE_LIST = 6 };

/* Doubles hold every integer up to here. */
static const double EXACT = 9007199254740992.0;

static enum ft_status read_struct(struct ft_bytes message, int depth, struct ft_json **json,
                                  struct ft_err *err);

static enum ft_status check_text(struct ft_bytes text, struct ft_err *err)
{
    if (!ft_utf8_valid(text) || (text.size > 0 && memchr(text.data, 0, text.size) != NULL)) {
        return FT_FAIL(err, INVALID, "parameters hold text that is not UTF-8 or has U+0000 inside");
    }
    return FT_OK;
}

static enum ft_status made(struct ft_json *value, struct ft_json **json, struct ft_err *err)
{
    *json = value;
    return value != NULL ? FT_OK : FT_FAIL(err, NOMEM, "out of memory reading parameters");
}

static enum ft_status read_number(const struct ft_pb_field *field, struct ft_json **json, struct ft_err *err)
{
    double number = 0;
    FT_RETURN_IF_FAILED(ft_pb_double(field, &number, err));
    if (!isfinite(number)) {
        return FT_FAIL(err, INVALID, "parameters hold a number that is not finite");
    }
    bool integral = fabs(number) <= EXACT && trunc(number) == number && !(number == 0 && signbit(number));
    return made(integral ? ft_json_of_int((int64_t)number) : ft_json_of_real(number), json, err);
}

static enum ft_status read_value(struct ft_bytes message, int depth, struct ft_json **json,
                                 struct ft_err *err);

static enum ft_status read_list(struct ft_bytes message, int depth, struct ft_json **json, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *list = NULL;
    struct ft_json *item = NULL;
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    *json = NULL;
    FT_TRY(made(ft_json_array(), &list, err));
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == 1) {
            struct ft_bytes payload;
            FT_TRY(ft_pb_bytes(&field, &payload, err));
            FT_TRY(read_value(payload, depth, &item, err));
            FT_TRY(ft_json_push(list, item, err));
            item = NULL;
        }
    }
    *json = list;
    list = NULL;
done:
    ft_json_free(list);
    return st;
}

/* One member of Value's oneof. */
static enum ft_status read_kind(const struct ft_pb_field *field, int depth, struct ft_json **json,
                                struct ft_err *err)
{
    struct ft_bytes payload = {0};
    if (field->number == VALUE_TEXT || field->number == VALUE_STRUCT || field->number == VALUE_LIST) {
        FT_RETURN_IF_FAILED(ft_pb_bytes(field, &payload, err));
    }
    switch (field->number) {
    case VALUE_NULL:
        return made(ft_json_null(), json, err);
    case VALUE_NUMBER:
        return read_number(field, json, err);
    case VALUE_TEXT:
        FT_RETURN_IF_FAILED(check_text(payload, err));
        return made(ft_json_of_bytes(payload), json, err);
    case VALUE_BOOL: {
        int64_t truth = 0;
        FT_RETURN_IF_FAILED(ft_pb_int64(field, &truth, err));
        return made(ft_json_of_bool(truth != 0), json, err);
    }
    case VALUE_STRUCT:
        return read_struct(payload, depth + 1, json, err);
    default:
        return read_list(payload, depth + 1, json, err);
    }
}

static enum ft_status read_value(struct ft_bytes message, int depth, struct ft_json **json,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    struct ft_json *value = NULL;
    bool more = false;
    *json = NULL;
    if (depth > FT_MAX_NESTING) {
        return FT_FAIL(err, LIMIT, "parameters are nested deeper than %d", FT_MAX_NESTING);
    }
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number >= VALUE_NULL && field.number <= VALUE_LIST) {
            ft_json_free(value);
            value = NULL;
            FT_TRY(read_kind(&field, depth, &value, err));
        }
    }
    if (value == NULL) { /* a Value with nothing set reads as null */
        FT_TRY(made(ft_json_null(), &value, err));
    }
    *json = value;
    value = NULL;
done:
    ft_json_free(value);
    return st;
}

static enum ft_status read_entry(struct ft_bytes message, int depth, struct ft_json *object,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    struct ft_bytes key = {0};
    struct ft_bytes value = {0};
    struct ft_buf name = {0};
    struct ft_json *item = NULL;
    bool more = false;
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == 1) {
            FT_TRY(ft_pb_bytes(&field, &key, err));
        } else if (field.number == 2) {
            FT_TRY(ft_pb_bytes(&field, &value, err));
        }
    }
    FT_TRY(check_text(key, err));
    FT_TRY(ft_buf_append(&name, key.data, key.size, err));
    FT_TRY(read_value(value, depth, &item, err));
    st = ft_json_set(object, name.data != NULL ? (const char *)name.data : "", item, err);
done:
    ft_buf_release(&name);
    return st;
}

static enum ft_status read_struct(struct ft_bytes message, int depth, struct ft_json **json,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *object = NULL;
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    *json = NULL;
    FT_TRY(made(ft_json_object(), &object, err));
    for (;;) {
        FT_TRY(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number == 1) {
            struct ft_bytes entry;
            FT_TRY(ft_pb_bytes(&field, &entry, err));
            FT_TRY(read_entry(entry, depth, object, err));
        }
    }
    *json = object;
    object = NULL;
done:
    ft_json_free(object);
    return st;
}

enum ft_status ft_struct_read(struct ft_bytes message, struct ft_json **json, struct ft_err *err)
{
    return read_struct(message, 0, json, err);
}

static enum ft_status write_value(const struct ft_json *json, int depth, struct ft_buf *out,
                                  struct ft_err *err);

static enum ft_status write_member(const char *key, const struct ft_json *value, int depth,
                                   struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf payload = {0};
    struct ft_buf entry = {0};
    FT_TRY(write_value(value, depth, &payload, err));
    FT_TRY(ft_pb_put_text(&entry, 1, key, err));
    FT_TRY(ft_pb_put_bytes(&entry, 2, ft_buf_bytes(&payload), err));
    FT_TRY(ft_pb_put_bytes(out, 1, ft_buf_bytes(&entry), err));
done:
    ft_buf_release(&payload);
    ft_buf_release(&entry);
    return st;
}

static enum ft_status write_struct(const struct ft_json *object, int depth, struct ft_buf *out,
                                   struct ft_err *err)
{
    for (struct ft_json_iter *it = ft_json_first(object); it != NULL; it = ft_json_next(object, it)) {
        FT_RETURN_IF_FAILED(write_member(ft_json_key(it), ft_json_value(it), depth, out, err));
    }
    return FT_OK;
}

static enum ft_status write_list(const struct ft_json *array, int depth, struct ft_buf *out,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf item = {0};
    for (size_t i = 0; i < ft_json_count(array); i++) {
        item.size = 0;
        FT_TRY(write_value(ft_json_at(array, i), depth, &item, err));
        FT_TRY(ft_pb_put_bytes(out, 1, ft_buf_bytes(&item), err));
    }
done:
    ft_buf_release(&item);
    return st;
}

static enum ft_status write_value(const struct ft_json *json, int depth, struct ft_buf *out,
                                  struct ft_err *err)
{
    if (depth > FT_MAX_NESTING) {
        return FT_FAIL(err, LIMIT, "a Struct would be nested deeper than %d", FT_MAX_NESTING);
    }
    enum ft_status st = FT_OK;
    struct ft_buf nested = {0};
    switch (ft_json_kind(json)) {
    case FT_JSON_NULL:
        return ft_pb_put_varint(out, VALUE_NULL, 0, err);
    case FT_JSON_BOOL:
        return ft_pb_put_varint(out, VALUE_BOOL, ft_json_bool(json) ? 1 : 0, err);
    case FT_JSON_INT:
    case FT_JSON_REAL:
        return ft_pb_put_double(out, VALUE_NUMBER, ft_json_real(json), err);
    case FT_JSON_TEXT:
        return ft_pb_put_text(out, VALUE_TEXT, ft_json_text(json, NULL), err);
    case FT_JSON_ARRAY:
        FT_TRY(write_list(json, depth + 1, &nested, err));
        FT_TRY(ft_pb_put_bytes(out, VALUE_LIST, ft_buf_bytes(&nested), err));
        break;
    case FT_JSON_OBJECT:
        FT_TRY(write_struct(json, depth + 1, &nested, err));
        FT_TRY(ft_pb_put_bytes(out, VALUE_STRUCT, ft_buf_bytes(&nested), err));
        break;
    }
done:
    ft_buf_release(&nested);
    return st;
}

enum ft_status ft_struct_write(const struct ft_json *object, struct ft_buf *out, struct ft_err *err)
{
    return write_struct(object, 0, out, err);
}

enum ft_status ft_struct_member(const char *key, const struct ft_json *value, struct ft_buf *out,
                                struct ft_err *err)
{
    return write_member(key, value, 0, out, err);
}
