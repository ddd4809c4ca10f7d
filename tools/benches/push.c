#include "tools/benches/push.h"

#include <stdio.h>

#include "executor/codec/json.h"
#include "executor/codec/pb.h"
#include "executor/wire/docarray_v1.h"
#include "executor/wire/jina.h"
#include "executor/wire/struct.h"

const char push_method[] = "/jina.JinaRPC/Call";

/* jina/SPEC.md 1: header{1: request_id, 3: exec_endpoint} = 1, parameters = 2, data{1: docs{1: ...}} = 4. */
enum ft_status push_request(const char *dataset, const struct ft_document *docs, size_t count,
                            struct ft_buf *out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf part = {0};
    struct ft_buf list = {0};
    struct ft_json *parameters = ft_json_object();
    out->size = 0;
    FT_TRY(ft_pb_put_text(&part, 1, "push", err));
    FT_TRY(ft_pb_put_text(&part, 3, "/train", err));
    FT_TRY(ft_pb_put_bytes(out, 1, ft_buf_bytes(&part), err));
    part.size = 0;
    FT_TRY(ft_json_set(parameters, "dataset", ft_json_of_text(dataset), err));
    FT_TRY(ft_struct_write(parameters, &part, err));
    FT_TRY(ft_pb_put_bytes(out, 2, ft_buf_bytes(&part), err));
    for (size_t i = 0; i < count; i++) {
        part.size = 0;
        FT_TRY(ft_docarray_v1_write(&docs[i], &part, err));
        FT_TRY(ft_pb_put_bytes(&list, 1, ft_buf_bytes(&part), err));
    }
    part.size = 0;
    FT_TRY(ft_pb_put_bytes(&part, 1, ft_buf_bytes(&list), err));
    FT_TRY(ft_pb_put_bytes(out, 4, ft_buf_bytes(&part), err));
done:
    ft_json_free(parameters);
    ft_buf_release(&part);
    ft_buf_release(&list);
    return st;
}

enum ft_status push_acknowledged(struct ft_bytes answer, size_t *count, struct ft_err *err)
{
    struct ft_jina_request scanned = {0};
    enum ft_status st = ft_jina_request_scan(answer, FT_JINA_DATA, &scanned, err);
    *count = 0;
    if (st == FT_OK) {
        const struct ft_json *all = ft_json_get(scanned.parameters, "__results__");
        struct ft_json_iter *first = ft_json_first(all);
        const struct ft_json *mine = first != NULL ? ft_json_value(first) : NULL;
        int64_t stored = ft_json_int(ft_json_get(mine, "stored"));
        int64_t twins = ft_json_int(ft_json_get(mine, "duplicates"));
        *count = (size_t)(stored + twins);
        if (mine == NULL) {
            st = FT_FAIL(err, INVALID, "the service refused a request");
        }
    }
    ft_jina_request_release(&scanned);
    return st;
}
