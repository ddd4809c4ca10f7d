/* docarray v1 on the wire, against bytes that docarray 0.21 and jina 3.34 wrote (tests/data/jina). */
/* links: ft_wire ft_codec ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/rand.h"
#include "executor/wire/docarray_v1.h"

static struct ft_buf golden(const char *name)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    char *path = NULL;
    assert_int_equal(ft_path_join(FT_TEST_DATA "/jina", name, &path, &err), FT_OK);
    assert_int_equal(ft_file_read(path, 1 << 20, &buf, &err), FT_OK);
    ft_free(path);
    return buf;
}

static void assert_text(struct ft_bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.size);
}

static enum ft_status scan(struct ft_bytes message, struct ft_arena *arena, struct ft_document *doc)
{
    struct ft_err err = {0};
    enum ft_status st = ft_docarray_v1_scan(message, arena, doc, &err);
    assert_int_equal(st, err.code);
    return st;
}

/* ---- reading what docarray wrote ---- */

static void labels_and_content_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        const char *label;
        bool number;
        enum ft_content_kind kind;
    } want[] = {{"a",
                 "st\xc3\xa4"
                 "dte",
                 false, FT_CONTENT_TEXT},
                {"b", "3", true, FT_CONTENT_BLOB},
                {"c", "0.5", true, FT_CONTENT_TENSOR},
                {"d", "3", false, FT_CONTENT_TENSOR},
                {"e", "0", true, FT_CONTENT_URI},
                {"f", NULL, false, FT_CONTENT_TEXT},
                {"g", NULL, false, FT_CONTENT_TEXT},
                {"h", "1e+300", true, FT_CONTENT_TEXT}};
    struct ft_err err = {0};
    struct ft_buf file = golden("v1/labels.protobuf-array");
    struct ft_pb_cursor docs = ft_pb_open(ft_buf_bytes(&file));
    struct ft_arena arena = {0};
    struct ft_bytes message;
    struct ft_document doc;
    bool more = false;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(ft_docarray_next(&docs, &message, &more, &err), FT_OK);
        assert_true(more);
        assert_int_equal(ft_docarray_sniff(message), FT_DOCARRAY_V1);
        assert_int_equal(scan(message, &arena, &doc), FT_OK);
        assert_text(doc.id, want[i].id);
        assert_int_equal(doc.content.kind, want[i].kind);
        assert_int_equal(doc.has_label, want[i].label != NULL);
        assert_int_equal(doc.label_is_number, want[i].number);
        assert_text(doc.label, want[i].label == NULL ? "" : want[i].label);
        assert_ptr_equal(doc.raw.data, message.data);
        if (i == 2) {
            const float values[6] = {0, 1, 2, 3, 4, 5};
            assert_string_equal(doc.content.dtype, "<f4");
            assert_int_equal(doc.content.rank, 2);
            assert_int_equal(doc.content.dims[0], 2);
            assert_int_equal(doc.content.dims[1], 3);
            assert_memory_equal(doc.content.bytes.data, values, sizeof values);
        }
    }
    assert_int_equal(ft_docarray_next(&docs, &message, &more, &err), FT_OK);
    assert_false(more);
    ft_arena_release(&arena);
    ft_buf_release(&file);
}

static void documents_from_a_flow_are_read(void **state)
{
    (void)state;
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_buf full = golden("v1/document_full.bin");
    assert_int_equal(scan(ft_buf_bytes(&full), &arena, &doc), FT_OK);
    assert_text(doc.id, "ffffffffffffffffffffffffffffffff");
    assert_int_equal(doc.content.kind, FT_CONTENT_TEXT);
    assert_text(doc.content.bytes, "t");
    assert_false(doc.has_label);
    ft_buf_release(&full);

    struct ft_buf blob = golden("v1/document_blob.bin");
    assert_int_equal(scan(ft_buf_bytes(&blob), &arena, &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_BLOB);
    assert_text(doc.content.bytes, "\x89PNG");
    ft_buf_release(&blob);

    struct ft_buf list = golden("v1/document_tensor_list.bin");
    assert_int_equal(scan(ft_buf_bytes(&list), &arena, &doc), FT_OK);
    assert_string_equal(doc.content.dtype, "<f8");
    assert_int_equal(doc.content.rank, 1);
    assert_int_equal(doc.content.dims[0], 2);
    ft_buf_release(&list);

    struct ft_buf u8 = golden("v1/document_tensor_u8.bin");
    assert_int_equal(scan(ft_buf_bytes(&u8), &arena, &doc), FT_OK);
    assert_string_equal(doc.content.dtype, "|u1");
    assert_int_equal(doc.content.rank, 3);
    assert_int_equal(doc.content.dims[2], 3);
    ft_buf_release(&u8);
    ft_arena_release(&arena);
}

static void the_two_flavours_are_told_apart(void **state)
{
    (void)state;
    const char *v2[] = {"v2/docproto_imagedoc.bin", "v2/docproto_legacy.bin"};
    const char *v1[] = {"v1/document_full.bin", "v1/document_blob.bin"};
    for (size_t i = 0; i < 2; i++) {
        struct ft_buf b = golden(v2[i]);
        assert_int_equal(ft_docarray_sniff(ft_buf_bytes(&b)), FT_DOCARRAY_V2);
        ft_buf_release(&b);
        b = golden(v1[i]);
        assert_int_equal(ft_docarray_sniff(ft_buf_bytes(&b)), FT_DOCARRAY_V1);
        ft_buf_release(&b);
    }
    assert_int_equal(ft_docarray_sniff((struct ft_bytes){0}), FT_DOCARRAY_UNDECIDED);
    /* A v1 Document of nothing but its id. */
    assert_int_equal(ft_docarray_sniff(ft_bytes_of("\x0a\x03"
                                                   "abc",
                                                   5)),
                     FT_DOCARRAY_V1);
}

/* ---- protobuf's rules: any order, repeated fields, unknown fields ---- */

static void last_content_wins(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf b = {0};
    struct ft_arena arena = {0};
    struct ft_document doc;
    assert_int_equal(ft_pb_put_text(&b, 9, "http://u", &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&b, 1, "old", &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&b, 2, "blob", &err), FT_OK);
    assert_int_equal(ft_pb_put_varint(&b, 500, 7, &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&b, 4, "text", &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&b, 1, "new", &err), FT_OK);
    assert_int_equal(ft_pb_put_varint(&b, 1, 5, &err), FT_OK); /* another wire type: an unknown field */
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_text(doc.id, "new");
    assert_int_equal(doc.content.kind, FT_CONTENT_TEXT);
    assert_text(doc.content.bytes, "text");
    /* Empty text clears the blob, and leaves the uri as the content. */
    assert_int_equal(ft_pb_put_text(&b, 4, "", &err), FT_OK);
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_URI);
    assert_text(doc.content.bytes, "http://u");
    ft_buf_release(&b);
    ft_arena_release(&arena);
}

static void put_tensor(struct ft_buf *out, const char *dtype, const char *data, size_t size,
                       const int64_t *dims, size_t rank, bool packed)
{
    struct ft_err err = {0};
    struct ft_buf dense = {0};
    struct ft_buf nd = {0};
    assert_int_equal(ft_pb_put_bytes(&dense, 1, ft_bytes_of(data, size), &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&dense, 3, dtype, &err), FT_OK);
    if (packed) {
        assert_int_equal(ft_pb_put_packed(&dense, 2, dims, rank, &err), FT_OK);
    } else {
        for (size_t i = 0; i < rank; i++) {
            assert_int_equal(ft_pb_put_varint(&dense, 2, (uint64_t)dims[i], &err), FT_OK);
        }
    }
    assert_int_equal(ft_pb_put_bytes(&nd, 1, ft_buf_bytes(&dense), &err), FT_OK);
    assert_int_equal(ft_pb_put_bytes(out, 3, ft_buf_bytes(&nd), &err), FT_OK);
    ft_buf_release(&dense);
    ft_buf_release(&nd);
}

static void tensors_are_checked(void **state)
{
    (void)state;
    static const int64_t d22[] = {2, 2};
    static const int64_t d0[] = {2, 0};
    static const int64_t huge[] = {4294967295, 4294967295, 4294967295};
    static const int64_t nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const struct {
        const char *dtype;
        size_t size;
        const int64_t *dims;
        size_t rank;
        enum ft_status want;
    } cases[] = {{"|u1", 4, d22, 2, FT_OK},
                 {"<f2", 8, d22, 2, FT_OK},
                 {"<i8", 8, NULL, 0, FT_OK},
                 {"|u1", 3, d22, 2, FT_INVALID},
                 {"|u1", 0, d0, 2, FT_INVALID},
                 {"|u1", 4, huge, 3, FT_INVALID},
                 {"|u1", 1, nine, 9, FT_LIMIT},
                 {">f4", 16, d22, 2, FT_UNSUPPORTED},
                 {"|O", 4, d22, 2, FT_UNSUPPORTED},
                 {"", 4, d22, 2, FT_UNSUPPORTED},
                 {"<complex128", 4, d22, 2, FT_UNSUPPORTED}};
    static const char zeros[16] = {0};
    struct ft_arena arena = {0};
    struct ft_document doc;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int packed = 0; packed < 2; packed++) {
            struct ft_buf b = {0};
            put_tensor(&b, cases[i].dtype, zeros, cases[i].size, cases[i].dims, cases[i].rank, packed == 1);
            assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), cases[i].want);
            if (cases[i].want == FT_OK) {
                assert_int_equal(doc.content.kind, FT_CONTENT_TENSOR);
                assert_int_equal(doc.content.rank, (int)cases[i].rank);
                assert_string_equal(doc.content.dtype, cases[i].dtype);
            }
            ft_buf_release(&b);
        }
    }
    /* Sparse is refused; a dense part after it counts. */
    assert_int_equal(scan(ft_bytes_of("\x1a\x02\x12\x00", 4), &arena, &doc), FT_UNSUPPORTED);
    ft_arena_release(&arena);
}

/* Two occurrences of a sub-message merge, as every protobuf reader does: the shape grows. */
static void repeated_tensors_merge(void **state)
{
    (void)state;
    static const int64_t two[] = {2};
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_buf b = {0};
    struct ft_err err = {0};
    put_tensor(&b, "|u1", "ab", 2, two, 1, true);
    put_tensor(&b, "|u1", "abcd", 4, two, 1, true);
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_int_equal(doc.content.rank, 2);
    assert_text(doc.content.bytes, "abcd");
    /* Another member of the oneof in between starts anew. */
    assert_int_equal(ft_pb_put_text(&b, 4, "text", &err), FT_OK);
    put_tensor(&b, "|u1", "xy", 2, two, 1, true);
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_int_equal(doc.content.rank, 1);
    assert_text(doc.content.bytes, "xy");
    ft_buf_release(&b);
    ft_arena_release(&arena);
}

static void put_tag(struct ft_buf *out, const char *key, struct ft_bytes value)
{
    struct ft_err err = {0};
    struct ft_buf entry = {0};
    struct ft_buf tags = {0};
    assert_int_equal(ft_pb_put_bytes(&entry, 2, value, &err), FT_OK); /* value before key is legal too */
    assert_int_equal(ft_pb_put_text(&entry, 1, key, &err), FT_OK);
    assert_int_equal(ft_pb_put_bytes(&tags, 1, ft_buf_bytes(&entry), &err), FT_OK);
    assert_int_equal(ft_pb_put_bytes(out, 17, ft_buf_bytes(&tags), &err), FT_OK);
    ft_buf_release(&entry);
    ft_buf_release(&tags);
}

static void labels_follow_the_rules(void **state)
{
    (void)state;
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_buf b = {0};
    put_tag(&b, "finetuner_label", ft_bytes_of("\x1a\x01x", 3));
    put_tag(&b, "other", ft_bytes_of("\x1a\x01y", 3));
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_text(doc.label, "x");
    put_tag(&b, "finetuner_label",
            ft_bytes_of("\x1a\x01z", 3)); /* a later tags field merges: the key is replaced */
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_text(doc.label, "z");
    put_tag(&b, "finetuner_label", ft_bytes_of("\x20\x01", 2)); /* true is no label */
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_false(doc.has_label);
    put_tag(&b, "finetuner_label", ft_bytes_of("\x11\x00\x00\x00\x00\x00\x00\xf8\x7f", 9)); /* nor is NaN */
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_false(doc.has_label);
    put_tag(&b, "finetuner_label", ft_bytes_of("\x1a\x00", 2)); /* nor is empty text */
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_false(doc.has_label);
    b.size = 0; /* an entry without a value replaces a number, and leaves nothing of it */
    put_tag(&b, "finetuner_label", ft_bytes_of("\x11\x00\x00\x00\x00\x00\x00\x08\x40", 9));
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_true(doc.label_is_number);
    put_tag(&b, "finetuner_label", (struct ft_bytes){0});
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_OK);
    assert_false(doc.has_label || doc.label_is_number);
    b.size = 0;
    put_tag(&b, "finetuner_label", ft_bytes_of("\x1a\x01\xff", 3));
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_INVALID);
    b.size = 0;
    char *longer = calloc(1, FT_MAX_LABEL_BYTES + 8);
    assert_non_null(longer);
    memset(longer, 'a', FT_MAX_LABEL_BYTES + 1);
    struct ft_buf value = {0};
    struct ft_err err = {0};
    assert_int_equal(ft_pb_put_text(&value, 3, longer, &err), FT_OK);
    put_tag(&b, "finetuner_label", ft_buf_bytes(&value));
    assert_int_equal(scan(ft_buf_bytes(&b), &arena, &doc), FT_LIMIT);
    free(longer);
    ft_buf_release(&value);
    ft_buf_release(&b);
    ft_arena_release(&arena);
}

/* Deep nesting costs nothing: what we do not read is never entered. */
static void nesting_is_not_followed(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_buf inner = {0};
    struct ft_buf outer = {0};
    assert_int_equal(ft_pb_put_text(&inner, 4, "x", &err), FT_OK);
    for (int i = 0; i < 2000; i++) {
        outer.size = 0;
        assert_int_equal(ft_pb_put_bytes(&outer, 14, ft_buf_bytes(&inner), &err), FT_OK);
        struct ft_buf swap = inner;
        inner = outer;
        outer = swap;
    }
    assert_int_equal(scan(ft_buf_bytes(&inner), &arena, &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_NONE);
    ft_buf_release(&inner);
    ft_buf_release(&outer);
    ft_arena_release(&arena);
}

static void numbers_have_one_text(void **state)
{
    (void)state;
    static const struct {
        double number;
        const char *text;
    } cases[] = {{3.0, "3"},
                 {-0.0, "0"},
                 {0.1, "0.1"},
                 {1e15, "1e+15"},
                 {123456789012.0, "123456789012"},
                 {-2.5, "-2.5"},
                 {1.0 / 3.0, "0.3333333333333333"},
                 {5e-324, "5e-324"}};
    char text[FT_LABEL_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ft_label_number_text(cases[i].number, text);
        assert_string_equal(text, cases[i].text);
    }
    struct ft_rand r = ft_rand_at(7, FT_RAND_TEST, 0);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t bits = (uint64_t)ft_rand_u32(r, 2 * i) << 32 | ft_rand_u32(r, 2 * i + 1);
        double number = 0;
        memcpy(&number, &bits, sizeof number);
        if (number - number == 0.0) {
            ft_label_number_text(number, text);
            assert_true(strtod(text, NULL) == number);
        }
    }
}

/* ---- splicing ---- */

static void splice_keeps_every_other_byte(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const float embedding[3] = {1.0F, 1.0F, 1.0F};
    struct ft_buf full = golden("v1/document_full.bin");
    struct ft_buf out = {0};
    /* docarray's own field 16 of that file, byte for byte, which holds the same three ones. */
    static const size_t old_at = 0xd1;
    static const size_t old_size = 0x22;
    size_t size = 0;
    assert_int_equal(ft_docarray_splice_size(ft_buf_bytes(&full), FT_DOCARRAY_V1, 3, &size, &err), FT_OK);
    assert_int_equal(ft_docarray_splice(ft_buf_bytes(&full), FT_DOCARRAY_V1, embedding, 3, &out, &err),
                     FT_OK);
    assert_int_equal(out.size, full.size);
    assert_int_equal(out.size, size);
    assert_memory_equal(out.data, full.data, old_at);
    assert_memory_equal(out.data + old_at, full.data + old_at + old_size, full.size - old_at - old_size);
    assert_memory_equal(out.data + full.size - old_size, full.data + old_at, old_size);
    /* Again: one embedding, not two. */
    struct ft_buf again = {0};
    const float two[2] = {0.25F, -4.0F};
    assert_int_equal(ft_docarray_splice(ft_buf_bytes(&out), FT_DOCARRAY_V1, two, 2, &again, &err), FT_OK);
    assert_int_equal(again.size, out.size - 4);
    ft_buf_release(&again);
    ft_buf_release(&out);
    ft_buf_release(&full);
}

static void splice_of_an_empty_message_and_large_dims(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    static float embedding[20000];
    static const size_t dims[] = {1, 31, 32, 127, 128, 4096, 16384, 20000};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        size_t size = 0;
        out.size = 0;
        assert_int_equal(
            ft_docarray_splice((struct ft_bytes){0}, FT_DOCARRAY_V1, embedding, dims[i], &out, &err), FT_OK);
        assert_int_equal(ft_docarray_splice_size((struct ft_bytes){0}, FT_DOCARRAY_V1, dims[i], &size, &err),
                         FT_OK);
        assert_int_equal(size, out.size);
        struct ft_pb_cursor c = ft_pb_open(ft_buf_bytes(&out));
        struct ft_pb_field f;
        bool more = false;
        assert_int_equal(ft_pb_next(&c, &f, &more, &err), FT_OK);
        assert_int_equal(f.number, 16);
        assert_int_equal(f.raw.size, out.size);
    }
    assert_int_equal(ft_docarray_splice((struct ft_bytes){0}, FT_DOCARRAY_V1, embedding, 0, &out, &err),
                     FT_LIMIT);
    size_t before = out.size;
    assert_int_equal(ft_docarray_splice(ft_bytes_of("\x0a\x7f", 2), FT_DOCARRAY_V1, embedding, 3, &out, &err),
                     FT_CORRUPT);
    assert_int_equal(out.size, before);
    ft_buf_release(&out);
}

static void written_documents_read_back(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf file = golden("v1/labels.protobuf-array");
    struct ft_pb_cursor docs = ft_pb_open(ft_buf_bytes(&file));
    struct ft_arena arena = {0};
    struct ft_bytes message;
    struct ft_document doc;
    struct ft_document back;
    bool more = true;
    for (size_t i = 0; i < 5; i++) {
        struct ft_buf out = {0};
        assert_int_equal(ft_docarray_next(&docs, &message, &more, &err), FT_OK);
        assert_int_equal(scan(message, &arena, &doc), FT_OK);
        assert_int_equal(ft_docarray_v1_write(&doc, &out, &err), FT_OK);
        if (i == 2 || i == 3) { /* tensors: the very bytes that docarray wrote */
            assert_true(ft_bytes_equal(ft_buf_bytes(&out), message));
        }
        assert_int_equal(scan(ft_buf_bytes(&out), &arena, &back), FT_OK);
        assert_true(ft_bytes_equal(doc.id, back.id));
        assert_true(ft_bytes_equal(doc.label, back.label));
        assert_int_equal(doc.label_is_number, back.label_is_number);
        assert_int_equal(doc.content.kind, back.content.kind);
        assert_true(ft_bytes_equal(doc.content.bytes, back.content.bytes));
        assert_int_equal(doc.content.rank, back.content.rank);
        ft_buf_release(&out);
    }
    ft_arena_release(&arena);
    ft_buf_release(&file);
}

/* ---- broken input ---- */

static void every_cut_is_corrupt_or_shorter(void **state)
{
    (void)state;
    struct ft_buf full = golden("v1/document_full.bin");
    struct ft_arena arena = {0};
    struct ft_document doc;
    struct ft_err err = {0};
    size_t refused = 0;
    for (size_t n = 0; n < full.size; n++) {
        enum ft_status st = ft_docarray_v1_scan(ft_bytes_of(full.data, n), &arena, &doc, &err);
        assert_true(st == FT_OK || st == FT_CORRUPT);
        refused += st == FT_CORRUPT;
        if (st != FT_OK) {
            assert_int_equal(doc.raw.size, 0);
        }
    }
    assert_true(refused > full.size / 2);
    ft_arena_release(&arena);
    ft_buf_release(&full);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct ft_buf file = golden("v1/labels.protobuf-array");
    const float embedding[300] = {0};
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct ft_err err = {0};
        struct ft_arena arena = {0};
        struct ft_buf out = {0};
        size_t before = ft_alloc_stats().live_blocks;
        struct ft_pb_cursor docs = ft_pb_open(ft_buf_bytes(&file));
        struct ft_bytes message;
        struct ft_document doc;
        bool more = true;
        enum ft_status st = FT_OK;
        ft_alloc_fail_at(n);
        while (more && st == FT_OK) {
            st = ft_docarray_next(&docs, &message, &more, &err);
            if (st == FT_OK && more) {
                st = ft_docarray_v1_scan(message, &arena, &doc, &err);
            }
            if (st == FT_OK && more) {
                st = ft_docarray_splice(message, FT_DOCARRAY_V1, embedding, 300, &out, &err);
            }
            if (st == FT_OK && more) {
                st = ft_docarray_v1_write(&doc, &out, &err);
            }
        }
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        failed = st != FT_OK;
        ft_arena_release(&arena);
        ft_buf_release(&out);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    ft_buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_and_content_are_read),
        cmocka_unit_test(documents_from_a_flow_are_read),
        cmocka_unit_test(the_two_flavours_are_told_apart),
        cmocka_unit_test(last_content_wins),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(repeated_tensors_merge),
        cmocka_unit_test(labels_follow_the_rules),
        cmocka_unit_test(nesting_is_not_followed),
        cmocka_unit_test(numbers_have_one_text),
        cmocka_unit_test(splice_keeps_every_other_byte),
        cmocka_unit_test(splice_of_an_empty_message_and_large_dims),
        cmocka_unit_test(written_documents_read_back),
        cmocka_unit_test(every_cut_is_corrupt_or_shorter),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
