#include "executor/wire/control.h"

#include "executor/wire/struct.h"

/* jina/SPEC.md 2.4: "default": null keeps every property optional under pydantic 2. The properties are those
 * of docarray's TextDoc; the name is our own, because HTTP gateways fail to make /openapi.json when a
 * neighbour's model has the same name and other details. */
static const char SCHEMAS[] =
    "{\"/default\":{\"output\":{\"name\":\"FinetunerTextDoc\",\"model\":{\"title\":\"FinetunerTextDoc\","
    "\"properties\":{\"text\":{\"default\":null,\"type\":\"string\",\"title\":\"Text\"},"
    "\"id\":{\"default\":null,\"title\":\"Id\",\"type\":\"string\"},"
    "\"embedding\":{\"tensor/array shape\":\"not specified\",\"title\":\"Embedding\","
    "\"items\":{\"type\":\"number\"},\"type\":\"array\",\"default\":null},"
    "\"bytes_\":{\"title\":\"Bytes \",\"default\":null,\"type\":\"string\",\"format\":\"binary\"},"
    "\"url\":{\"title\":\"Url\",\"format\":\"uri\",\"type\":\"string\",\"default\":null}},"
    "\"type\":\"object\"}},\"is_generator\":false,"
    "\"input\":{\"model\":{\"properties\":{\"id\":{\"default\":null,\"type\":\"string\","
    "\"title\":\"Id\"},\"text\":{\"default\":null,\"title\":\"Text\",\"type\":\"string\"},"
    "\"url\":{\"title\":\"Url\",\"default\":null,\"format\":\"uri\",\"type\":\"string\"},"
    "\"embedding\":{\"tensor/array shape\":\"not specified\",\"title\":\"Embedding\","
    "\"type\":\"array\",\"items\":{\"type\":\"number\"},\"default\":null},"
    "\"bytes_\":{\"title\":\"Bytes \",\"default\":null,\"format\":\"binary\",\"type\":\"string\"}},"
    "\"title\":\"FinetunerTextDoc\",\"type\":\"object\"},\"name\":\"FinetunerTextDoc\"},\"parameters\":{"
    "\"name\":null,"
    "\"model\":null},\"is_singleton_doc\":false}}";

/* For endpoints with names. Every property has one type that pydantic 1 and 2 understand the same way, and a
 * default. */
static const char DOCUMENT[] =
    "{\"title\":\"FinetunerDocument\",\"type\":\"object\",\"properties\":{"
    "\"id\":{\"title\":\"Id\",\"type\":\"string\",\"default\":null},"
    "\"text\":{\"title\":\"Text\",\"type\":\"string\",\"default\":null},"
    "\"url\":{\"title\":\"Url\",\"type\":\"string\",\"format\":\"uri\",\"default\":null},"
    "\"blob\":{\"title\":\"Blob\",\"type\":\"string\",\"format\":\"binary\",\"default\":null},"
    "\"tensor\":{\"title\":\"Tensor\",\"type\":\"array\",\"items\":{\"type\":\"number\"},"
    "\"tensor/array shape\":\"not specified\",\"default\":null},"
    "\"embedding\":{\"title\":\"Embedding\",\"type\":\"array\",\"items\":{\"type\":\"number\"},"
    "\"tensor/array shape\":\"not specified\",\"default\":null},"
    "\"tags\":{\"title\":\"Tags\",\"type\":\"object\",\"default\":{}}}}";

enum ft_status ft_health_read(struct ft_bytes message, struct ft_bytes *service, struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    *service = ft_bytes_of(NULL, 0);
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &field, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (field.number == 1) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&field, service, err));
        }
    }
}

enum ft_status ft_health_write(enum ft_health health, struct ft_buf *out, struct ft_err *err)
{
    return ft_pb_put_varint(out, 1, (uint64_t)health, err);
}

/* {input, output: {name, model}, is_generator, is_singleton_doc, parameters {name, model}} */
static enum ft_status add_schema(struct ft_json *schemas, const char *endpoint, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    struct ft_json *schema = NULL;
    FT_TRY(ft_buf_printf(&text, err,
                         "{\"input\":{\"name\":\"FinetunerDocument\",\"model\":%s},"
                         "\"output\":{\"name\":\"FinetunerDocument\",\"model\":%s},"
                         "\"is_generator\":false,\"is_singleton_doc\":false,"
                         "\"parameters\":{\"name\":null,\"model\":null}}",
                         DOCUMENT, DOCUMENT));
    FT_TRY(ft_json_parse(ft_buf_bytes(&text), &schema, err));
    FT_TRY(ft_json_set(schemas, endpoint, schema, err));
done:
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_discovery_write(const char *const *endpoints, size_t count, struct ft_buf *out,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *schemas = NULL;
    struct ft_buf body = {0};
    FT_TRY(ft_json_parse(ft_bytes_of_text(SCHEMAS), &schemas, err));
    FT_TRY(ft_pb_put_text(out, 1, "/default", err));
    for (size_t i = 0; i < count; i++) {
        if (ft_json_get(schemas, endpoints[i]) == NULL) {
            FT_TRY(add_schema(schemas, endpoints[i], err));
            FT_TRY(ft_pb_put_text(out, 1, endpoints[i], err));
        }
    }
    FT_TRY(ft_struct_write(schemas, &body, err));
    FT_TRY(ft_pb_put_bytes(out, 3, ft_buf_bytes(&body), err));
done:
    ft_json_free(schemas);
    ft_buf_release(&body);
    return st;
}

static enum ft_status put_map(uint32_t number, const struct ft_json *object, struct ft_buf *out,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf entry = {0};
    for (struct ft_json_iter *it = ft_json_first(object); it != NULL; it = ft_json_next(object, it)) {
        entry.size = 0;
        FT_TRY(ft_pb_put_text(&entry, 1, ft_json_key(it), err));
        FT_TRY(ft_pb_put_text(&entry, 2, ft_json_text(ft_json_value(it), NULL), err));
        FT_TRY(ft_pb_put_bytes(out, number, ft_buf_bytes(&entry), err));
    }
done:
    ft_buf_release(&entry);
    return st;
}

enum ft_status ft_info_write(const struct ft_json *jina, const struct ft_json *envs, struct ft_buf *out,
                             struct ft_err *err)
{
    FT_RETURN_IF_FAILED(put_map(1, jina, out, err));
    return put_map(2, envs, out, err);
}
