/* links: ft_wire ft_codec ft_base */
/* covers: executor/wire/docarray.c executor/wire/docarray_v1.c executor/wire/docarray_v2.c
 * executor/wire/tensor.c */
/* A Document of either docarray: refused, or its content is as large as its shape says, and splicing an
 * embedding changes nothing else. The same bytes are read as both. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/wire/docarray_v1.h"

static void assert_same(const struct ft_document *a, const struct ft_document *b)
{
    assert(ft_bytes_equal(a->id, b->id));
    assert(a->has_label == b->has_label && a->label_is_number == b->label_is_number);
    assert(ft_bytes_equal(a->label, b->label));
    assert(a->content.kind == b->content.kind && a->content.rank == b->content.rank);
    assert(ft_bytes_equal(a->content.bytes, b->content.bytes));
    assert(strcmp(a->content.dtype, b->content.dtype) == 0);
    assert(memcmp(a->content.dims, b->content.dims, sizeof a->content.dims) == 0);
}

static void check_document(const struct ft_document *doc)
{
    const struct ft_content *c = &doc->content;
    size_t bytes = c->kind == FT_CONTENT_TENSOR ? ft_tensor_dtype_size(c->dtype) : 0;
    assert(c->rank >= 0 && c->rank <= FT_MAX_RANK);
    for (int i = 0; i < c->rank; i++) {
        assert(c->dims[i] > 0);
        bytes *= (size_t)c->dims[i];
    }
    assert(c->kind != FT_CONTENT_TENSOR || (bytes == c->bytes.size && bytes > 0));
    assert((c->kind == FT_CONTENT_NONE) == (c->bytes.size == 0));
    assert(doc->has_label == (doc->label.size > 0));
}

static void splice(struct ft_bytes message, enum ft_docarray_flavour flavour, const struct ft_document *doc,
                   struct ft_arena *arena)
{
    static const float embedding[3] = {1.0F, -2.0F, 0.5F};
    struct ft_err err = {0};
    struct ft_buf once = {0};
    struct ft_buf twice = {0};
    struct ft_document back;
    size_t size = 0;
    enum ft_status st = ft_docarray_splice(message, flavour, embedding, 3, &once, &err);
    assert(st == FT_OK);
    st = ft_docarray_splice_size(message, flavour, 3, &size, &err);
    assert(st == FT_OK && size == once.size);
    st = ft_docarray_scan(ft_buf_bytes(&once), flavour, arena, &back, &err);
    assert(st == FT_OK);
    assert_same(doc, &back);
    st = ft_docarray_splice(ft_buf_bytes(&once), flavour, embedding, 3, &twice, &err);
    assert(st == FT_OK && ft_bytes_equal(ft_buf_bytes(&once), ft_buf_bytes(&twice)));
    ft_buf_release(&once);
    ft_buf_release(&twice);
}

static void write_back(const struct ft_document *doc, struct ft_arena *arena)
{
    struct ft_err err = {0};
    struct ft_buf written = {0};
    struct ft_document back;
    enum ft_status st = ft_docarray_v1_write(doc, &written, &err);
    assert(st == FT_OK);
    st = ft_docarray_v1_scan(ft_buf_bytes(&written), arena, &back, &err);
    assert(st == FT_OK);
    assert_same(doc, &back);
    ft_buf_release(&written);
}

static void read_as(struct ft_bytes message, enum ft_docarray_flavour flavour, struct ft_arena *arena)
{
    struct ft_err err = {0};
    struct ft_document doc;
    enum ft_status st = ft_docarray_scan(message, flavour, arena, &doc, &err);
    assert(st == FT_OK || st == FT_CORRUPT || st == FT_INVALID || st == FT_UNSUPPORTED || st == FT_LIMIT);
    if (st == FT_OK) {
        check_document(&doc);
        splice(message, flavour, &doc, arena);
        write_back(&doc, arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_bytes message = ft_bytes_of(data, size);
    struct ft_pb_cursor docs = ft_pb_open(message);
    bool more = true;
    read_as(message, FT_DOCARRAY_V1, &arena);
    read_as(message, FT_DOCARRAY_V2, &arena);
    while (more) { /* the same bytes as a DocumentArrayProto or DocListProto */
        struct ft_bytes one;
        if (ft_docarray_next(&docs, &one, &more, &err) != FT_OK) {
            break;
        }
        if (more && ft_docarray_scan(one, FT_DOCARRAY_UNDECIDED, &arena, &doc, &err) == FT_OK) {
            check_document(&doc);
        }
    }
    ft_arena_release(&arena);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
