/* links: ft_wire ft_codec ft_base */
/*
 * Messages of finetuner.v1: control messages as JSON and back, Documents scanned, details of errors. What a
 * client of another's making sends is in tests/oracle/test_v1.py.
 */
#include <math.h>

#include "executor/base/alloc.h"
#include "executor/base/limits.h"

#include "executor/wire/docarray_v1.h"
#include "executor/wire/struct.h"
#include "executor/wire/v1.h"
#include "tests/support.h"

static struct ft_err err;
static struct ft_v1_fault fault;

static struct ft_buf bytes_of(enum ft_v1_type type, const char *json)
{
    struct ft_json *object = NULL;
    struct ft_buf out = {0};
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(json), &object, &err));
    ASSERT_OK(ft_v1_write(type, object, &out, &err));
    ft_json_free(object);
    return out;
}

static void reads_as(enum ft_v1_type type, struct ft_bytes message, const char *json)
{
    struct ft_json *object = NULL;
    struct ft_buf text = {0};
    ASSERT_OK(ft_v1_read(type, message, &object, &fault, &err));
    ASSERT_OK(ft_json_write(object, 0, &text, &err));
    assert_string_equal((const char *)text.data, json);
    ft_json_free(object);
    ft_buf_release(&text);
}

static void control_messages_go_both_ways(void **state)
{
    (void)state;
    static const struct {
        enum ft_v1_type type;
        const char *json;
    } cases[] = {
        {FT_V1_FIT_REQUEST, "{\"model\": \"m\", \"options\": {\"epochs\": 5, \"learning_rate\": 0.5, "
                            "\"deep\": [1, {\"x\": null}]}}"},
        {FT_V1_RUN, "{\"id\": \"a\", \"status\": \"FINISHED\", \"resumes\": 2, \"progress\": {\"step\": 3, "
                    "\"loss\": 0.25}}"},
        {FT_V1_LIST_RUNS_REQUEST, "{\"page_size\": -7, \"page_token\": \"x\"}"},
        {FT_V1_LIST_RUNS_RESPONSE, "{\"runs\": [{\"id\": \"a\"}, {}], \"next_page_token\": \"9\"}"},
        {FT_V1_WATCH_REQUEST, "{\"run\": \"a\", \"from\": -1}"},
        {FT_V1_EVENT, "{\"index\": 4, \"metrics\": {\"when\": \"after\", \"metrics\": {\"map\": 0.5}}}"},
        {FT_V1_MODEL, "{\"name\": \"m\", \"configured\": true, \"bytes\": 9223372036854775807}"},
        {FT_V1_DELETE_DOCUMENTS_REQUEST, "{\"dataset\": \"d\", \"ids\": [\"a\", \"\", \"b\"]}"},
        {FT_V1_DELETE_RUN_RESPONSE, "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_buf message = bytes_of(cases[i].type, cases[i].json);
        reads_as(cases[i].type, ft_buf_bytes(&message), cases[i].json);
        ft_buf_release(&message);
    }
}

static void what_a_message_does_not_have_is_left_out(void **state)
{
    (void)state;
    struct ft_buf message = bytes_of(FT_V1_RUN, "{\"seq\": [], \"id\": \"a\", \"name\": null}");
    reads_as(FT_V1_RUN, ft_buf_bytes(&message), "{\"id\": \"a\"}");
    struct ft_json *json = NULL;
    ASSERT_OK(ft_json_parse(ft_bytes_of_text("{\"id\": 3}"), &json, &err));
    assert_int_equal(ft_v1_write(FT_V1_RUN, json, &message, &err), FT_INTERNAL);
    ft_json_free(json);
    ft_buf_release(&message);
}

static void refused(enum ft_v1_type type, struct ft_bytes message, enum ft_status st, const char *field)
{
    struct ft_json *json = NULL;
    fault = (struct ft_v1_fault){{0}, 0};
    assert_int_equal(ft_v1_read(type, message, &json, &fault, &err), st);
    assert_null(json);
    assert_string_equal(fault.field, field);
}

static void hostile_control_messages_are_refused(void **state)
{
    (void)state;
    struct ft_buf value = {0};
    struct ft_buf deep = {0};
    refused(FT_V1_FIT_REQUEST, ft_bytes_of("\xff", 1), FT_CORRUPT, "");
    refused(FT_V1_FIT_REQUEST, ft_bytes_of("\x0a\x02\xc3\x28", 4), FT_INVALID, "model");
    refused(FT_V1_FIT_REQUEST,
            ft_bytes_of("\x0a\x02"
                        "a\0",
                        4),
            FT_INVALID, "model");
    refused(FT_V1_PULL_REQUEST, ft_bytes_of("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), FT_INVALID,
            "offset");
    /* NaN in options */
    ASSERT_OK(ft_pb_put_double(&value, 2, NAN, &err));
    ASSERT_OK(ft_pb_put_bytes(&deep, 2, ft_buf_bytes(&value), &err));
    value.size = 0;
    ASSERT_OK(ft_pb_put_bytes(&value, 1, ft_buf_bytes(&deep), &err));
    deep.size = 0;
    ASSERT_OK(ft_pb_put_bytes(&deep, 5, ft_buf_bytes(&value), &err));
    refused(FT_V1_FIT_REQUEST, ft_buf_bytes(&deep), FT_INVALID, "options");
    for (int i = 0; i < 3000; i++) { /* deeper than protobuf-c could take */
        value.size = 0;
        ASSERT_OK(ft_pb_put_bytes(&value, 5, ft_buf_bytes(&deep), &err));
        struct ft_buf swap = value;
        value = deep;
        deep = swap;
    }
    refused(FT_V1_FIT_REQUEST, ft_buf_bytes(&deep), FT_LIMIT, "");
    ft_buf_release(&value);
    ft_buf_release(&deep);
}

static struct ft_document scan(const struct ft_buf *message, struct ft_arena *arena)
{
    struct ft_document doc;
    ASSERT_OK(ft_v1_document_scan(ft_buf_bytes(message), arena, &doc, &fault, &err));
    return doc;
}

static void a_document_borrows_from_its_message(void **state)
{
    (void)state;
    struct ft_arena arena = {0};
    const float x[2] = {1, 2};
    const struct ft_document given[] = {
        {.id = ft_bytes_of_text("a"),
         .has_label = true,
         .label = ft_bytes_of_text("l"),
         .content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("text")}},
        {.has_label = true,
         .label_is_number = true,
         .label = ft_bytes_of_text("0.5"),
         .content = {.kind = FT_CONTENT_BLOB, .bytes = ft_bytes_of_text("blob")}},
        {.content = {.kind = FT_CONTENT_URI, .bytes = ft_bytes_of_text("uri")}},
        {.content = {.kind = FT_CONTENT_TENSOR,
                     .bytes = ft_bytes_of(x, sizeof x),
                     .dtype = "<f4",
                     .rank = 2,
                     .dims = {1, 2}}},
        {.id = ft_bytes_of_text("none")},
    };
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        struct ft_buf message = {0};
        ASSERT_OK(ft_v1_document_write(&given[i], &message, &err));
        struct ft_document doc = scan(&message, &arena);
        const struct ft_content *c = &doc.content;
        assert_true(ft_bytes_equal(doc.id, given[i].id));
        assert_int_equal(doc.has_label, given[i].has_label);
        assert_int_equal(doc.label_is_number, given[i].label_is_number);
        assert_true(ft_bytes_equal(doc.label, given[i].label));
        assert_int_equal(c->kind, given[i].content.kind);
        assert_true(ft_bytes_equal(c->bytes, given[i].content.bytes));
        assert_int_equal(c->rank, given[i].content.rank);
        assert_memory_equal(c->dims, given[i].content.dims, sizeof c->dims);
        assert_string_equal(c->dtype, given[i].content.dtype);
        bool inside = c->bytes.size == 0 ||
                      (c->bytes.data >= message.data && c->bytes.data < message.data + message.size);
        assert_true(inside && doc.raw.size == 0);
        ft_buf_release(&message);
    }
    ft_arena_release(&arena);
}

/* {finetuner_label: "of tags", n: 1} */
static void put_tags(struct ft_buf *out)
{
    struct ft_json *tags = NULL;
    struct ft_buf inner = {0};
    ASSERT_OK(ft_json_parse(ft_bytes_of_text("{\"finetuner_label\": \"of tags\", \"n\": 1}"), &tags, &err));
    ASSERT_OK(ft_struct_write(tags, &inner, &err));
    ASSERT_OK(ft_pb_put_bytes(out, 10, ft_buf_bytes(&inner), &err));
    ft_json_free(tags);
    ft_buf_release(&inner);
}

static void tags_are_kept_and_may_hold_the_label(void **state)
{
    (void)state;
    struct ft_arena arena = {0};
    for (int own = 0; own < 2; own++) {
        struct ft_buf message = {0};
        struct ft_document back;
        ASSERT_OK(ft_pb_put_text(&message, 4, "text", &err));
        put_tags(&message);
        if (own == 1) {
            ASSERT_OK(ft_pb_put_text(&message, 2, "own", &err));
        }
        struct ft_document doc = scan(&message, &arena);
        assert_true(ft_bytes_is(doc.label, own == 1 ? "own" : "of tags"));
        assert_true(ft_bytes_is(doc.content.bytes, "text"));
        ASSERT_OK(ft_docarray_v1_scan(doc.raw, &arena, &back, &err));
        assert_true(ft_bytes_equal(back.label, doc.label));
        assert_non_null(memmem(doc.raw.data, doc.raw.size, "n", 1));
        ft_buf_release(&message);
    }
    ft_arena_release(&arena);
}

static void bad_documents_name_their_field(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *field;
    } cases[] = {
        {"\x12\x05\x12\x03\x0a\x01\xff", 7, "documents[0].label"},        /* a label that is not UTF-8 */
        {"\x12\x00\x12\x03\x0a\x01\xff", 7, "documents[1].id"},           /* content behind a good one */
        {"\x12\x05\x3a\x03\x0a\x01x", 7, "documents[0].tensor"},          /* no such dtype */
        {"\x12\x06\x0a\x01x\x42\x01\x00", 8, "documents[0].docarray_v1"}, /* its own id beside docarray's */
        {"\x12\x05\x52\x03\x0a\x01\x0a", 7, "documents[0].tags"},         /* no Struct */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_arena arena = {0};
        struct ft_v1_batch batch;
        fault = (struct ft_v1_fault){{0}, 0};
        struct ft_bytes message = ft_bytes_of(cases[i].bytes, cases[i].size);
        ASSERT_OK(ft_v1_batch_look(message, &batch, &fault, &err));
        enum ft_status st = ft_v1_batch_scan(message, &arena, &batch, &fault, &err);
        assert_int_not_equal(st, FT_OK);
        assert_string_equal(fault.field, cases[i].field);
        ft_arena_release(&arena);
    }
}

/* Two bytes are a Document: their number is bounded before memory is taken for them. */
static void more_documents_than_may_be_are_refused(void **state)
{
    (void)state;
    struct ft_v1_batch batch;
    size_t size = 2 * ((size_t)FT_MAX_DOCUMENTS + 1);
    uint8_t *bytes = ft_calloc(size, 1);
    for (size_t i = 0; i < size; i += 2) {
        bytes[i] = 0x12;
    }
    ASSERT_OK(ft_v1_batch_look(ft_bytes_of(bytes, size - 2), &batch, &fault, &err));
    assert_int_equal(batch.count, FT_MAX_DOCUMENTS);
    assert_int_equal(ft_v1_batch_look(ft_bytes_of(bytes, size), &batch, &fault, &err), FT_LIMIT);
    assert_non_null(strstr(err.text, "more than 1048576 Documents"));
    assert_string_equal(fault.field, "documents");
    ft_free(bytes);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct ft_buf message =
        bytes_of(FT_V1_LIST_RUNS_RESPONSE,
                 "{\"runs\": [{\"id\": \"a\", \"metrics\": {\"x\": [1, \"y\"]}}, {\"status\": \"FAILED\"}]}");
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    for (uint64_t n = 1; st == FT_NOMEM && n < 200; n++) {
        struct ft_json *json = NULL;
        struct ft_buf out = {0};
        ft_alloc_fail_at(n);
        st = ft_v1_read(FT_V1_LIST_RUNS_RESPONSE, ft_buf_bytes(&message), &json, &fault, &err);
        if (st == FT_OK) {
            st = ft_v1_write(FT_V1_LIST_RUNS_RESPONSE, json, &out, &err);
        }
        ft_json_free(json);
        ft_buf_release(&out);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
    }
    ft_alloc_fail_at(0);
    assert_int_equal(st, FT_OK);
    ft_buf_release(&message);
}

static void details_name_the_field_and_when_to_come_back(void **state)
{
    (void)state;
    struct ft_buf out = {0};
    fault = (struct ft_v1_fault){"a.b", 1.5};
    ASSERT_OK(ft_v1_status_write(8, "no", &fault, &out, &err));
    static const char *const parts[] = {"google.rpc.BadRequest", "a.b", "google.rpc.RetryInfo",
                                        "\x08\x01\x10\x80\xca\xb5\xee\x01"}; /* 1 s, 500,000,000 ns */
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(memmem(out.data, out.size, parts[i], strlen(parts[i])));
    }
    ft_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_messages_go_both_ways),
        cmocka_unit_test(what_a_message_does_not_have_is_left_out),
        cmocka_unit_test(hostile_control_messages_are_refused),
        cmocka_unit_test(a_document_borrows_from_its_message),
        cmocka_unit_test(tags_are_kept_and_may_hold_the_label),
        cmocka_unit_test(bad_documents_name_their_field),
        cmocka_unit_test(more_documents_than_may_be_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(details_name_the_field_and_when_to_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
