/* A model's bytes on their way into a service. */
#include <string.h>

#include "executor/codec/digest.h"
#include "executor/wire/v1.h"

enum { PART_MODEL = 1, PART_OFFSET = 2, PART_DATA = 3 };

enum ft_status ft_v1_model_part_read(struct ft_bytes message, struct ft_v1_model_part *part,
                                     struct ft_err *err)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = true;
    *part = (struct ft_v1_model_part){0};
    for (;;) {
        FT_RETURN_IF_FAILED(ft_pb_next(&cursor, &f, &more, err));
        if (!more) {
            return FT_OK;
        }
        if (f.number == PART_MODEL) {
            part->has_model = true;
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &part->model, err));
        } else if (f.number == PART_DATA) {
            FT_RETURN_IF_FAILED(ft_pb_bytes(&f, &part->data, err));
        } else if (f.number == PART_OFFSET && f.wire == FT_PB_VARINT) {
            part->offset = f.varint;
        }
    }
}

enum ft_status ft_v1_model_head_write(const struct ft_json *model, struct ft_buf *out, struct ft_err *err)
{
    struct ft_buf head = {0};
    enum ft_status st = ft_v1_write(FT_V1_MODEL_UPLOAD, model, &head, err);
    if (st == FT_OK) {
        st = ft_pb_put_bytes(out, PART_MODEL, ft_buf_bytes(&head), err);
    }
    ft_buf_release(&head);
    return st;
}

enum ft_status ft_v1_model_data_write(uint64_t offset, struct ft_bytes data, struct ft_buf *out,
                                      struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_pb_put_varint(out, PART_OFFSET, offset, err));
    return ft_pb_put_bytes(out, PART_DATA, data, err);
}

enum ft_status ft_v1_model_digest(const char *entry, const struct ft_json *files, char hex[65],
                                  struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = ft_buf_printf(&text, err, "%s\n", entry);
    for (size_t i = 0; st == FT_OK && i < ft_json_count(files); i++) {
        const struct ft_json *f = ft_json_at(files, i);
        st = ft_buf_printf(&text, err, "%s  %s\n", ft_v1_text(f, "sha256"), ft_v1_text(f, "name"));
    }
    if (st == FT_OK) {
        ft_sha256_of(ft_buf_bytes(&text), hex);
    }
    ft_buf_release(&text);
    return st;
}
