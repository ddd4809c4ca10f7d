/* links: ft_wire ft_codec ft_base */
/* covers: executor/wire/v1_message.c executor/wire/v1_document.c */
/*
 * A message of finetuner.v1 from a stranger: refused, or what was read is written and read again as the same.
 * The first byte says which message it is; as many as there are types, and one that carries Documents.
 */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/v1.h"

static void control(enum ft_v1_type type, struct ft_bytes message)
{
    struct ft_err err = {0};
    struct ft_v1_fault fault = {{0}, 0};
    struct ft_json *json = NULL;
    struct ft_json *again = NULL;
    struct ft_buf once = {0};
    struct ft_buf twice = {0};
    enum ft_status st = ft_v1_read(type, message, &json, &fault, &err);
    assert(st == FT_OK || st == FT_CORRUPT || st == FT_INVALID || st == FT_LIMIT);
    if (st == FT_OK) {
        st = ft_v1_write(type, json, &once, &err);
        assert(st == FT_OK || st == FT_INTERNAL || st == FT_LIMIT); /* an enum's unknown number */
    }
    if (st == FT_OK) {
        st = ft_v1_read(type, ft_buf_bytes(&once), &again, &fault, &err);
        assert(st == FT_OK || st == FT_LIMIT);
    }
    if (st == FT_OK) {
        st = ft_v1_write(type, again, &twice, &err);
        assert(st == FT_OK && ft_bytes_equal(ft_buf_bytes(&once), ft_buf_bytes(&twice)));
    } else {
        ft_buf_release(&once);
        st = ft_v1_status_write(3, err.text, &fault, &once, &err);
        assert(st == FT_OK);
    }
    ft_json_free(json);
    ft_json_free(again);
    ft_buf_release(&once);
    ft_buf_release(&twice);
}

static void written_again(const struct ft_document *doc, struct ft_arena *arena)
{
    struct ft_err err = {0};
    struct ft_v1_fault fault = {{0}, 0};
    struct ft_buf out = {0};
    struct ft_document back;
    enum ft_status st = ft_v1_document_write(doc, &out, &err);
    assert(st == FT_OK);
    st = ft_v1_document_scan(ft_buf_bytes(&out), arena, &back, &fault, &err);
    if (doc->raw.size == 0) { /* which docarray wrote bytes is told by the bytes: another may be seen */
        assert(st == FT_OK && back.content.kind == doc->content.kind);
        assert(ft_bytes_equal(back.id, doc->id) && ft_bytes_equal(back.label, doc->label));
        assert(ft_bytes_equal(back.content.bytes, doc->content.bytes));
    }
    ft_buf_release(&out);
}

static void batch(struct ft_bytes message)
{
    static const float vectors[64];
    struct ft_err err = {0};
    struct ft_v1_fault fault = {{0}, 0};
    struct ft_arena arena = {0};
    struct ft_v1_batch b;
    struct ft_buf out = {0};
    struct ft_v1_model_part part;
    enum ft_status piece = ft_v1_model_part_read(message, &part, &err);
    assert(piece == FT_OK || piece == FT_CORRUPT);
    assert(part.data.size <= message.size && part.model.size <= message.size);
    enum ft_status st = ft_v1_batch_look(message, &b, &fault, &err);
    if (st == FT_OK) {
        st = ft_v1_batch_scan(message, &arena, &b, &fault, &err);
    }
    assert(st == FT_OK || st == FT_CORRUPT || st == FT_INVALID || st == FT_UNSUPPORTED || st == FT_LIMIT);
    for (size_t i = 0; st == FT_OK && i < b.count; i++) {
        written_again(&b.docs[i], &arena);
    }
    if (st == FT_OK && b.count <= 32) {
        st = ft_v1_embeddings_write(b.docs, b.count, vectors, 2, &out, &err);
        assert(st == FT_OK);
        st = ft_v1_chunk_write(1, 2, "00", message, &out, &err);
        assert(st == FT_OK);
    }
    ft_buf_release(&out);
    ft_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct ft_bytes message = ft_bytes_of(data + 1, size - 1);
    unsigned type = data[0] % (2 * FT_V1_TYPE_COUNT);
    if (type < FT_V1_TYPE_COUNT) {
        control((enum ft_v1_type)type, message);
    } else {
        batch(message);
    }
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
