/* docarray v2 on the wire, against bytes that docarray 0.40 wrote (tests/data/jina/v2). What it writes of all
 * kinds is read by tests/jina_v2/test_docarray_oracle.py. */
/* links: ft_wire ft_codec ft_base */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/wire/docarray_v2.h"

static struct ft_err err;
static struct ft_arena arena;

static struct ft_buf golden(const char *name)
{
    char path[512];
    struct ft_buf bytes = {0};
    (void)snprintf(path, sizeof path, "%s/jina/v2/%s", FT_TEST_DATA, name);
    assert_int_equal(ft_file_read(path, 1 << 20, &bytes, &err), FT_OK);
    return bytes;
}

static void put(struct ft_buf *out, uint32_t number, struct ft_bytes payload)
{
    assert_int_equal(ft_pb_put_bytes(out, number, payload, &err), FT_OK);
}

/* Append an entry {key: node}. */
static void entry(struct ft_buf *out, const char *key, struct ft_bytes node)
{
    struct ft_buf e = {0};
    put(&e, 1, ft_bytes_of_text(key));
    put(&e, 2, node);
    put(out, 1, ft_buf_bytes(&e));
    ft_buf_release(&e);
}

/* Append an entry {key: {field number: payload}}. */
static void entry_of(struct ft_buf *out, const char *key, uint32_t number, struct ft_bytes payload)
{
    struct ft_buf node = {0};
    put(&node, number, payload);
    entry(out, key, ft_buf_bytes(&node));
    ft_buf_release(&node);
}

static enum ft_status scan(struct ft_bytes message, struct ft_document *doc)
{
    err = (struct ft_err){0};
    enum ft_status st = ft_docarray_v2_scan(message, &arena, doc, &err);
    assert_int_equal(st, err.code);
    return st;
}

static int done(void **state)
{
    (void)state;
    ft_arena_release(&arena);
    arena = (struct ft_arena){0};
    assert_int_equal(ft_alloc_stats().live_blocks, 0);
    return 0;
}

static void what_docarray_wrote_is_read(void **state)
{
    (void)state;
    struct ft_document doc;
    struct ft_buf image = golden("docproto_imagedoc.bin");
    assert_int_equal(scan(ft_buf_bytes(&image), &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_TENSOR);
    assert_false(doc.has_label);
    ft_buf_release(&image);
    struct ft_buf legacy = golden("docproto_legacy.bin");
    assert_int_equal(scan(ft_buf_bytes(&legacy), &doc), FT_OK);
    assert_true(ft_bytes_is(doc.id, "ffffffffffffffffffffffffffffffff"));
    assert_int_equal(doc.content.kind, FT_CONTENT_TEXT);
    assert_true(ft_bytes_is(doc.content.bytes, "t"));
    assert_ptr_equal(doc.raw.data, legacy.data);
    ft_buf_release(&legacy);
    struct ft_buf everything = golden("docproto_everything.bin");
    assert_int_equal(scan(ft_buf_bytes(&everything), &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_URI);
    assert_true(ft_bytes_is(doc.content.bytes, "http://x/y.png"));
    ft_buf_release(&everything);
}

/* What `message` is with its entries of that key cut out, and their number. */
static size_t without(struct ft_bytes message, const char *key, struct ft_buf *out)
{
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field f;
    bool more = false;
    size_t cut = 0;
    for (;;) {
        assert_int_equal(ft_pb_next(&cursor, &f, &more, &err), FT_OK);
        if (!more) {
            return cut;
        }
        size_t length = strlen(key);
        bool same = f.bytes.size > length + 2 && f.bytes.data[1] == length &&
                    memcmp(f.bytes.data + 2, key, length) == 0;
        cut += same ? 1 : 0;
        if (!same) {
            assert_int_equal(ft_buf_append(out, f.raw.data, f.raw.size, &err), FT_OK);
        }
    }
}

static void splicing_changes_nothing_else(void **state)
{
    (void)state;
    static const char *const names[] = {"docproto_imagedoc.bin", "docproto_legacy.bin",
                                        "docproto_everything.bin"};
    static const float vector[300] = {1.0F, -2.5F};
    for (size_t i = 0; i < 3; i++) {
        for (size_t dim = 1; dim <= 300; dim += 299) {
            struct ft_buf in = golden(names[i]);
            struct ft_buf kept = {0};
            struct ft_buf out = {0};
            struct ft_buf again = {0};
            size_t size = 0;
            (void)without(ft_buf_bytes(&in), "embedding", &kept);
            assert_int_equal(ft_docarray_splice_size(ft_buf_bytes(&in), FT_DOCARRAY_V2, dim, &size, &err),
                             FT_OK);
            assert_int_equal(ft_docarray_splice(ft_buf_bytes(&in), FT_DOCARRAY_V2, vector, dim, &out, &err),
                             FT_OK);
            assert_int_equal(size, out.size);
            assert_memory_equal(out.data, kept.data, kept.size);
            assert_int_equal(
                ft_docarray_splice(ft_buf_bytes(&out), FT_DOCARRAY_V2, vector, dim, &again, &err), FT_OK);
            assert_true(ft_bytes_equal(ft_buf_bytes(&out), ft_buf_bytes(&again)));
            kept.size = 0;
            assert_int_equal(without(ft_buf_bytes(&out), "embedding", &kept), 1);
            ft_buf_release(&in);
            ft_buf_release(&kept);
            ft_buf_release(&out);
            ft_buf_release(&again);
        }
    }
    struct ft_buf out = {0};
    assert_int_equal(ft_docarray_splice(ft_bytes_of(NULL, 0), FT_DOCARRAY_V2, vector, 0, &out, &err),
                     FT_LIMIT);
    assert_int_equal(ft_docarray_splice(ft_bytes_of("\x0a\x7f", 2), FT_DOCARRAY_V2, vector, 3, &out, &err),
                     FT_CORRUPT);
    assert_int_equal(out.size, 0);
    ft_buf_release(&out);
}

static void the_last_entry_replaces(void **state)
{
    (void)state;
    struct ft_document doc;
    struct ft_buf m = {0};
    entry_of(&m, "text", 1, ft_bytes_of_text("first"));
    entry_of(&m, "finetuner_label", 1, ft_bytes_of_text("first"));
    entry_of(&m, "text", 1, ft_bytes_of_text("second"));
    assert_int_equal(scan(ft_buf_bytes(&m), &doc), FT_OK);
    assert_true(ft_bytes_is(doc.content.bytes, "second"));
    assert_true(ft_bytes_is(doc.label, "first"));
    entry(&m, "text", ft_bytes_of(NULL, 0));
    entry(&m, "finetuner_label", ft_bytes_of(NULL, 0));
    entry_of(&m, "blob", 5, ft_bytes_of_text("b"));
    assert_int_equal(scan(ft_buf_bytes(&m), &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_BLOB);
    assert_false(doc.has_label);
    ft_buf_release(&m);
}

static void content_of_another_kind_is_none(void **state)
{
    (void)state;
    struct ft_document doc;
    struct ft_buf m = {0};
    entry_of(&m, "text", 5, ft_bytes_of_text("a blob"));
    entry_of(&m, "blob", 1, ft_bytes_of_text("a text"));
    entry_of(&m, "tensor", 9, ft_bytes_of(NULL, 0));
    entry(&m, "tags", ft_bytes_of("\x10\x05", 2));            /* an integer */
    entry(&m, "finetuner_label", ft_bytes_of("\x08\x05", 2)); /* `text` as a varint: an unknown field */
    assert_int_equal(scan(ft_buf_bytes(&m), &doc), FT_OK);
    assert_int_equal(doc.content.kind, FT_CONTENT_NONE);
    assert_false(doc.has_label);
    entry(&m, "finetuner_label", ft_bytes_of("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11));
    assert_int_equal(scan(ft_buf_bytes(&m), &doc), FT_OK);
    assert_true(doc.label_is_number);
    assert_true(ft_bytes_is(doc.label, "-1"));
    ft_buf_release(&m);
}

static void text_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        enum ft_status want;
    } cases[] = {{"text", FT_INVALID}, {"url", FT_INVALID}, {"id", FT_INVALID},
                 {"uri", FT_INVALID},  {"other", FT_OK},    {"finetuner_label", FT_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_document doc;
        struct ft_buf m = {0};
        entry_of(&m, cases[i].key, 1, ft_bytes_of("\xff\xfe", 2));
        assert_int_equal(scan(ft_buf_bytes(&m), &doc), cases[i].want);
        ft_buf_release(&m);
    }
}

static void cut_off_documents_have_a_status(void **state)
{
    (void)state;
    struct ft_buf in = golden("docproto_everything.bin");
    size_t refused = 0;
    for (size_t size = 0; size <= in.size; size++) {
        struct ft_document doc;
        enum ft_status st = scan(ft_bytes_of(in.data, size), &doc);
        assert_true(st == FT_OK || st == FT_CORRUPT);
        refused += st == FT_CORRUPT ? 1 : 0;
    }
    assert_true(refused > in.size / 2);
    ft_buf_release(&in);
    static const uint8_t two_gb[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 0x0a, 0x01, 'x'};
    struct ft_document doc;
    assert_int_equal(scan(ft_bytes_of(two_gb, sizeof two_gb), &doc), FT_CORRUPT);
}

static void memory_running_out_leaks_nothing(void **state)
{
    (void)state;
    static const float vector[3] = {1.0F, 2.0F, 3.0F};
    struct ft_buf in = golden("docproto_legacy.bin");
    entry(&in, "finetuner_label", ft_bytes_of("\x10\x05", 2));
    size_t before = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    for (uint64_t n = 1; st != FT_OK; n++) {
        struct ft_arena mine = {0};
        struct ft_buf out = {0};
        struct ft_document doc;
        ft_alloc_fail_at(n);
        st = ft_docarray_v2_scan(ft_buf_bytes(&in), &mine, &doc, &err);
        if (st == FT_OK) {
            st = ft_docarray_splice(ft_buf_bytes(&in), FT_DOCARRAY_V2, vector, 3, &out, &err);
        }
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_arena_release(&mine);
        ft_buf_release(&out);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    ft_buf_release(&in);
}

static void a_blob_reads_back(void **state)
{
    (void)state;
    struct ft_json *tags = NULL;
    struct ft_buf out = {0};
    struct ft_document doc;
    assert_int_equal(ft_json_parse(ft_bytes_of_text("{\"run\": \"r\", \"part\": 3, \"big\": 3000000000, "
                                                    "\"finetuner_label\": 2}"),
                                   &tags, &err),
                     FT_OK);
    assert_int_equal(ft_docarray_v2_blob("r/3", ft_bytes_of("\0x", 2), tags, &out, &err), FT_OK);
    assert_int_equal(ft_docarray_sniff(ft_buf_bytes(&out)), FT_DOCARRAY_V2);
    assert_int_equal(scan(ft_buf_bytes(&out), &doc), FT_OK);
    assert_true(ft_bytes_is(doc.id, "r/3"));
    assert_int_equal(doc.content.kind, FT_CONTENT_BLOB);
    assert_int_equal(doc.content.bytes.size, 2);
    assert_true(ft_bytes_is(doc.label, "2"));
    ft_json_free(tags);
    ft_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_docarray_wrote_is_read, done),
        cmocka_unit_test_teardown(splicing_changes_nothing_else, done),
        cmocka_unit_test_teardown(the_last_entry_replaces, done),
        cmocka_unit_test_teardown(content_of_another_kind_is_none, done),
        cmocka_unit_test_teardown(text_that_is_not_utf8_is_refused, done),
        cmocka_unit_test_teardown(cut_off_documents_have_a_status, done),
        cmocka_unit_test_teardown(memory_running_out_leaks_nothing, done),
        cmocka_unit_test_teardown(a_blob_reads_back, done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
