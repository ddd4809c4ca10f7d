#include "executor/wire/reflection.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Made by the build from proto/: a serialized google.protobuf.FileDescriptorSet. */
extern const unsigned char ft_descriptors[];
extern const size_t ft_descriptors_size;

/* Questions and answers: ServerReflectionRequest and -Response. */
enum {
    ASK_FILE = 3,
    ASK_SYMBOL = 4,
    ASK_EXTENSION = 5,
    ASK_EXTENSIONS = 6,
    ASK_SERVICES = 7,
    ANSWER_FILES = 4,
    ANSWER_EXTENSIONS = 5,
    ANSWER_SERVICES = 6,
    ANSWER_ERROR = 7,
    NOT_FOUND = 5,
    INVALID_ARGUMENT = 3
};
/* google/protobuf/descriptor.proto: FileDescriptorProto. */
enum { FILE_NAME = 1, FILE_PACKAGE = 2, FILE_IMPORTS = 3 };
enum { FILES_MAX = 64 };

/* Our own bytes: what is wrong with them is our own fault. */
static bool next(struct ft_pb_cursor *cursor, struct ft_pb_field *field)
{
    struct ft_err ignored = {0};
    bool more = false;
    enum ft_status st = ft_pb_next(cursor, field, &more, &ignored);
    assert(st == FT_OK);
    (void)st;
    return more;
}

static size_t list_files(struct ft_bytes files[FILES_MAX])
{
    struct ft_pb_cursor cursor = ft_pb_open(ft_bytes_of(ft_descriptors, ft_descriptors_size));
    struct ft_pb_field field;
    size_t n = 0;
    while (next(&cursor, &field)) {
        if (field.number == 1) {
            assert(n < FILES_MAX);
            files[n++] = field.bytes;
        }
    }
    return n;
}

/* The first field of that number; empty when there is none. */
static struct ft_bytes field_of(struct ft_bytes message, uint32_t number)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    while (next(&cursor, &field)) {
        if (field.number == number) {
            return field.bytes;
        }
    }
    return (struct ft_bytes){0};
}

enum scope { SCOPE_FILE, SCOPE_MESSAGE, SCOPE_ENUM, SCOPE_SERVICE, SCOPE_LEAF, SCOPE_NONE };

/* What a field of a descriptor declares. All that declare have their name in field 1. */
static enum scope declared_by(enum scope scope, uint32_t number)
{
    if (scope == SCOPE_FILE) {
        static const enum scope in_file[] = {SCOPE_MESSAGE, SCOPE_ENUM, SCOPE_SERVICE}; /* 4, 5, 6 */
        return number >= 4 && number <= 6 ? in_file[number - 4] : SCOPE_NONE;
    }
    if (scope == SCOPE_MESSAGE) {
        static const enum scope in_message[] = {SCOPE_LEAF, SCOPE_MESSAGE, SCOPE_ENUM}; /* fields, 3, 4 */
        return number >= 2 && number <= 4 ? in_message[number - 2] : SCOPE_NONE;
    }
    return number == 2 && (scope == SCOPE_ENUM || scope == SCOPE_SERVICE) ? SCOPE_LEAF : SCOPE_NONE;
}

/* The declaration of that name in *scope, which it then is. */
static bool step_into(struct ft_bytes *descriptor, enum scope *scope, struct ft_bytes name)
{
    struct ft_pb_cursor cursor = ft_pb_open(*descriptor);
    struct ft_pb_field field;
    while (next(&cursor, &field)) {
        enum scope inner = declared_by(*scope, field.number);
        if (inner != SCOPE_NONE && ft_bytes_equal(field_of(field.bytes, 1), name)) {
            *descriptor = field.bytes;
            *scope = inner;
            return true;
        }
    }
    return false;
}

/* Does the file declare that symbol, such as jina.StatusProto.StatusCode or jina.JinaRPC.Call? */
static bool declares(struct ft_bytes file, struct ft_bytes symbol)
{
    struct ft_bytes package = field_of(file, FILE_PACKAGE);
    enum scope scope = SCOPE_FILE;
    if (symbol.size <= package.size || symbol.data[package.size] != '.' ||
        memcmp(symbol.data, package.data, package.size) != 0) {
        return false;
    }
    size_t at = package.size + 1;
    while (at <= symbol.size) {
        const uint8_t *dot = memchr(symbol.data + at, '.', symbol.size - at);
        size_t end = dot != NULL ? (size_t)(dot - symbol.data) : symbol.size;
        if (!step_into(&file, &scope, ft_bytes_of(symbol.data + at, end - at))) {
            return false;
        }
        at = end + 1;
    }
    return true;
}

static size_t find_file(const struct ft_bytes *files, size_t count, struct ft_bytes wanted, bool by_name)
{
    for (size_t i = 0; i < count; i++) {
        if (by_name ? ft_bytes_equal(field_of(files[i], FILE_NAME), wanted) : declares(files[i], wanted)) {
            return i;
        }
    }
    return count;
}

/* Marks what the files that are marked import, until nothing is new. */
static void mark_imports(const struct ft_bytes *files, size_t count, bool *marked)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            struct ft_pb_cursor cursor = ft_pb_open(files[i]);
            struct ft_pb_field field;
            while (marked[i] && next(&cursor, &field)) {
                size_t at = field.number == FILE_IMPORTS ? find_file(files, count, field.bytes, true) : count;
                if (at < count && !marked[at]) {
                    marked[at] = true;
                    changed = true;
                }
            }
        }
    }
}

static enum ft_status put_error(uint64_t code, const char *what, struct ft_bytes name, struct ft_buf *out,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf body = {0};
    struct ft_buf text = {0};
    FT_TRY(ft_buf_printf(&text, err, "%s: %.*s", what, ft_bytes_shown(name), (const char *)name.data));
    FT_TRY(ft_pb_put_varint(&body, 1, code, err));
    FT_TRY(ft_pb_put_bytes(&body, 2, ft_buf_bytes(&text), err));
    FT_TRY(ft_pb_put_bytes(out, ANSWER_ERROR, ft_buf_bytes(&body), err));
done:
    ft_buf_release(&body);
    ft_buf_release(&text);
    return st;
}

static enum ft_status put_files(struct ft_bytes wanted, bool by_name, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf body = {0};
    struct ft_bytes files[FILES_MAX];
    bool marked[FILES_MAX] = {false};
    size_t count = list_files(files);
    size_t first = find_file(files, count, wanted, by_name);
    if (first == count) {
        return put_error(NOT_FOUND, by_name ? "no such file" : "no such symbol", wanted, out, err);
    }
    marked[first] = true;
    mark_imports(files, count, marked);
    FT_TRY(ft_pb_put_bytes(&body, 1, files[first], err));
    for (size_t i = 0; i < count; i++) {
        if (marked[i] && i != first) {
            FT_TRY(ft_pb_put_bytes(&body, 1, files[i], err));
        }
    }
    FT_TRY(ft_pb_put_bytes(out, ANSWER_FILES, ft_buf_bytes(&body), err));
done:
    ft_buf_release(&body);
    return st;
}

/* No message here can be extended: a known one has no extensions. */
static enum ft_status put_extensions(struct ft_bytes type, struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf body = {0};
    struct ft_bytes files[FILES_MAX];
    size_t count = list_files(files);
    if (find_file(files, count, type, false) == count) {
        return put_error(NOT_FOUND, "no such type", type, out, err);
    }
    FT_TRY(ft_pb_put_bytes(&body, 1, type, err));
    FT_TRY(ft_pb_put_bytes(out, ANSWER_EXTENSIONS, ft_buf_bytes(&body), err));
done:
    ft_buf_release(&body);
    return st;
}

static enum ft_status put_services(const char *const *services, size_t count, struct ft_buf *out,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf list = {0};
    struct ft_buf service = {0};
    for (size_t i = 0; i < count; i++) {
        service.size = 0;
        FT_TRY(ft_pb_put_text(&service, 1, services[i], err));
        FT_TRY(ft_pb_put_bytes(&list, 1, ft_buf_bytes(&service), err));
    }
    FT_TRY(ft_pb_put_bytes(out, ANSWER_SERVICES, ft_buf_bytes(&list), err));
done:
    ft_buf_release(&list);
    ft_buf_release(&service);
    return st;
}

enum ft_status ft_reflection_answer(struct ft_bytes request, const char *const *services, size_t count,
                                    struct ft_buf *out, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(request);
    struct ft_pb_field field;
    struct ft_bytes argument = {0};
    bool more = false;
    uint32_t asked = 0; /* the last member of the oneof wins; 1 is `host` */
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            break;
        }
        if (field.number >= ASK_FILE && field.number <= ASK_SERVICES) {
            asked = field.number;
            argument = field.bytes;
        }
    }
    switch (asked) {
    case ASK_FILE:
        return put_files(argument, true, out, err);
    case ASK_SYMBOL:
        return put_files(argument, false, out, err);
    case ASK_EXTENSION:
        return put_error(NOT_FOUND, "no extensions", (struct ft_bytes){0}, out, err);
    case ASK_EXTENSIONS:
        return put_extensions(argument, out, err);
    case ASK_SERVICES:
        return put_services(services, count, out, err);
    default:
        return put_error(INVALID_ARGUMENT, "no question", (struct ft_bytes){0}, out, err);
    }
}
