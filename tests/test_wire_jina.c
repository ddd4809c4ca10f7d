/* links: ft_wire ft_codec ft_base */
/*
 * Jina's envelopes against bytes captured from the real thing (tests/data/jina: jina 3.34 executors, docarray
 * 0.21).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/wire/control.h"
#include "executor/wire/docarray_v1.h"
#include "executor/wire/jina.h"
#include "executor/wire/reflection.h"
#include "executor/wire/struct.h"

static struct ft_err err;

static struct ft_buf golden(const char *name)
{
    char path[512];
    struct ft_buf bytes = {0};
    (void)snprintf(path, sizeof path, "%s/jina/%s", FT_TEST_DATA, name);
    assert_int_equal(ft_file_read(path, 1 << 20, &bytes, &err), FT_OK);
    return bytes;
}

static struct ft_json *json_of(const char *text)
{
    struct ft_json *json = NULL;
    assert_int_equal(ft_json_parse(ft_bytes_of_text(text), &json, &err), FT_OK);
    return json;
}

static bool json_same(const struct ft_json *a, const struct ft_json *b)
{
    if (ft_json_kind(a) != ft_json_kind(b) || ft_json_count(a) != ft_json_count(b)) {
        return false;
    }
    if (ft_json_kind(a) == FT_JSON_OBJECT) { /* maps have no order on the wire */
        for (struct ft_json_iter *it = ft_json_first(a); it != NULL; it = ft_json_next(a, it)) {
            if (!json_same(ft_json_value(it), ft_json_get(b, ft_json_key(it)))) {
                return false;
            }
        }
        return true;
    }
    struct ft_buf ta = {0};
    struct ft_buf tb = {0};
    assert_int_equal(ft_json_write(a, 0, &ta, &err), FT_OK);
    assert_int_equal(ft_json_write(b, 0, &tb, &err), FT_OK);
    bool same = ft_bytes_equal(ft_buf_bytes(&ta), ft_buf_bytes(&tb));
    ft_buf_release(&ta);
    ft_buf_release(&tb);
    return same;
}

/* All fields of that number, joined: what protobuf's merging makes of them. */
static struct ft_buf gather(struct ft_bytes message, uint32_t number, bool raw)
{
    struct ft_buf all = {0};
    struct ft_pb_cursor cursor = ft_pb_open(message);
    struct ft_pb_field field;
    bool more = false;
    for (;;) {
        assert_int_equal(ft_pb_next(&cursor, &field, &more, &err), FT_OK);
        if (!more) {
            return all;
        }
        if (field.number == number) {
            struct ft_bytes part = raw ? field.raw : field.bytes;
            assert_int_equal(ft_buf_append(&all, part.data, part.size, &err), FT_OK);
        }
    }
}

static void same_field(struct ft_bytes a, struct ft_bytes b, uint32_t number)
{
    struct ft_buf fa = gather(a, number, true);
    struct ft_buf fb = gather(b, number, true);
    assert_int_equal(fa.size, fb.size);
    if (fa.size > 0) {
        assert_memory_equal(fa.data, fb.data, fa.size);
    }
    ft_buf_release(&fa);
    ft_buf_release(&fb);
}

/* The same Struct in that field. */
static void same_struct(struct ft_bytes a, struct ft_bytes b, uint32_t number)
{
    struct ft_buf fa = gather(a, number, false);
    struct ft_buf fb = gather(b, number, false);
    struct ft_json *ja = NULL;
    struct ft_json *jb = NULL;
    assert_int_equal(ft_struct_read(ft_buf_bytes(&fa), &ja, &err), FT_OK);
    assert_int_equal(ft_struct_read(ft_buf_bytes(&fb), &jb, &err), FT_OK);
    assert_true(json_same(ja, jb));
    ft_json_free(ja);
    ft_json_free(jb);
    ft_buf_release(&fa);
    ft_buf_release(&fb);
}

/* Equal answers: header, parameters, routes and every Document; tags are maps, so their order is free. */
static void same_answer(struct ft_bytes ours, struct ft_bytes theirs)
{
    struct ft_jina_request a;
    struct ft_jina_request b;
    assert_int_equal(ours.size, theirs.size);
    assert_int_equal(ft_jina_request_scan(ours, FT_JINA_DATA, &a, &err), FT_OK);
    assert_int_equal(ft_jina_request_scan(theirs, FT_JINA_DATA, &b, &err), FT_OK);
    same_field(ours, theirs, 1);
    same_struct(ours, theirs, 2);
    same_field(ours, theirs, 3);
    assert_int_equal(a.n_docs, b.n_docs);
    for (size_t i = 0; i < a.n_docs; i++) {
        for (uint32_t number = 1; number <= 20; number++) {
            if (number == 17) {
                same_struct(a.docs[i], b.docs[i], number);
            } else {
                same_field(a.docs[i], b.docs[i], number);
            }
        }
    }
    ft_jina_request_release(&a);
    ft_jina_request_release(&b);
}

static void answer_of(const char *request_name, enum ft_jina_form form, struct ft_jina_reply *reply,
                      const char *answer_name)
{
    struct ft_buf in = golden(request_name);
    struct ft_buf want = golden(answer_name);
    struct ft_buf out = {0};
    struct ft_jina_request request;
    assert_int_equal(ft_jina_request_scan(ft_buf_bytes(&in), form, &request, &err), FT_OK);
    assert_int_equal(ft_jina_answer(&request, reply, &out, &err), FT_OK);
    same_answer(ft_buf_bytes(&out), ft_buf_bytes(&want));
    ft_jina_request_release(&request);
    ft_buf_release(&in);
    ft_buf_release(&want);
    ft_buf_release(&out);
}

static const float VECTORS[16] = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4};

static void encode_equals_the_captured_answer(void **state)
{
    (void)state;
    struct ft_jina_reply reply = {.route = ft_bytes_of_text("myexec"), .embeddings = VECTORS, .dim = 4};
    answer_of("v1/req_encode.bin", FT_JINA_DATA, &reply, "v1/resp_encode.bin");
}

static void list_is_joined_as_captured(void **state)
{
    (void)state;
    struct ft_jina_reply reply = {.route = ft_bytes_of_text("myexec"), .embeddings = VECTORS, .dim = 4};
    answer_of("v1/req_list.bin", FT_JINA_LIST, &reply, "v1/resp_list.bin");
}

static void results_go_where_python_puts_them(void **state)
{
    (void)state;
    struct ft_json *two = json_of("{\"n\": 2}");
    struct ft_jina_reply reply = {
        .route = ft_bytes_of_text("myexec"), .results_key = "myexec/rep-0", .results = two};
    answer_of("v1/req_dict.bin", FT_JINA_DATA, &reply, "v1/resp_dict.bin");
    ft_json_free(two);
}

static void unknown_endpoint_passes_byte_for_byte(void **state)
{
    (void)state;
    struct ft_buf in = golden("v1/req_unknown.bin");
    struct ft_buf out = {0};
    struct ft_jina_request request;
    struct ft_jina_reply reply = {0};
    assert_int_equal(ft_jina_request_scan(ft_buf_bytes(&in), FT_JINA_DATA, &request, &err), FT_OK);
    assert_true(ft_bytes_is(request.endpoint, "/nope"));
    assert_int_equal(ft_jina_answer(&request, &reply, &out, &err), FT_OK);
    assert_int_equal(out.size, in.size);
    assert_memory_equal(out.data, in.data, in.size);
    ft_jina_request_release(&request);
    ft_buf_release(&out);
    ft_buf_release(&in);
}

static void results_of_others_stay(void **state)
{
    (void)state;
    struct ft_json *before =
        json_of("{\"k\": 1.5, \"__results__\": {\"first\": {\"a\": [1, \"x\", null, true]}}}");
    struct ft_json *mine = json_of("{\"run\": \"r1\"}");
    struct ft_json *want =
        json_of("{\"k\": 1.5, \"__results__\": {\"first\": {\"a\": [1, \"x\", null, true]},"
                "\"me\": {\"run\": \"r1\"}}}");
    struct ft_buf parameters = {0};
    struct ft_buf in = {0};
    struct ft_buf out = {0};
    struct ft_jina_request request;
    struct ft_jina_request answer;
    struct ft_jina_reply reply = {.results_key = "me", .results = mine};
    assert_int_equal(ft_struct_write(before, &parameters, &err), FT_OK);
    assert_int_equal(ft_pb_put_bytes(&in, 2, ft_buf_bytes(&parameters), &err), FT_OK);
    assert_int_equal(ft_pb_put_text(&in, 77, "kept", &err), FT_OK);
    assert_int_equal(ft_jina_request_scan(ft_buf_bytes(&in), FT_JINA_DATA, &request, &err), FT_OK);
    assert_int_equal(ft_jina_answer(&request, &reply, &out, &err), FT_OK);
    assert_int_equal(ft_jina_request_scan(ft_buf_bytes(&out), FT_JINA_DATA, &answer, &err), FT_OK);
    assert_true(json_same(answer.parameters, want));
    same_field(ft_buf_bytes(&in), ft_buf_bytes(&out), 77);
    ft_jina_request_release(&request);
    ft_jina_request_release(&answer);
    ft_buf_release(&parameters);
    ft_buf_release(&in);
    ft_buf_release(&out);
    ft_json_free(before);
    ft_json_free(mine);
    ft_json_free(want);
}

/* As resp_boom, but for the traceback, which is Python's. */
static void an_error_keeps_the_request(void **state)
{
    (void)state;
    struct ft_buf in = golden("v1/req_boom.bin");
    struct ft_buf theirs = golden("v1/resp_boom.bin");
    struct ft_buf out = {0};
    struct ft_jina_request request;
    struct ft_err why = {0};
    (void)FT_FAIL(&why, NOT_FOUND, "no run '%s'", "x");
    assert_int_equal(ft_jina_request_scan(ft_buf_bytes(&in), FT_JINA_DATA, &request, &err), FT_OK);
    assert_int_equal(ft_jina_error(&request, &why, &out, &err), FT_OK);
    same_field(ft_buf_bytes(&in), ft_buf_bytes(&out), 4);
    same_field(ft_buf_bytes(&in), ft_buf_bytes(&out), 2);
    struct ft_buf header = gather(ft_buf_bytes(&out), 1, false);
    struct ft_buf their_header = gather(ft_buf_bytes(&theirs), 1, false);
    same_field(ft_buf_bytes(&header), ft_buf_bytes(&their_header), 1);
    same_field(ft_buf_bytes(&header), ft_buf_bytes(&their_header), 3);
    struct ft_buf status = gather(ft_buf_bytes(&header), 2, false);
    struct ft_buf their_status = gather(ft_buf_bytes(&their_header), 2, false);
    same_field(ft_buf_bytes(&status), ft_buf_bytes(&their_status), 1);
    struct ft_buf text = gather(ft_buf_bytes(&status), 2, false);
    assert_true(ft_bytes_is(ft_buf_bytes(&text), "NotFound(\"no run 'x'\")"));
    ft_buf_release(&text);
    struct ft_buf exception = gather(ft_buf_bytes(&status), 3, false);
    text = gather(ft_buf_bytes(&exception), 1, false);
    assert_true(ft_bytes_is(ft_buf_bytes(&text), "NotFound"));
    ft_buf_release(&text);
    ft_jina_request_release(&request);
    ft_buf_release(&exception);
    ft_buf_release(&status);
    ft_buf_release(&their_status);
    ft_buf_release(&header);
    ft_buf_release(&their_header);
    ft_buf_release(&in);
    ft_buf_release(&theirs);
    ft_buf_release(&out);
}

static void broken_requests_are_refused(void **state)
{
    (void)state;
    struct ft_buf in = golden("v1/req_encode.bin");
    size_t refused = 0;
    for (size_t size = 0; size < in.size; size++) { /* every truncation: a status, never a crash */
        struct ft_jina_request request;
        enum ft_status st = ft_jina_request_scan(ft_bytes_of(in.data, size), FT_JINA_DATA, &request, &err);
        assert_true(st == FT_OK || st == FT_CORRUPT);
        refused += st == FT_CORRUPT ? 1 : 0;
        struct ft_buf out = {0};
        assert_int_equal(ft_jina_error(&request, &err, &out, &err), FT_OK);
        ft_buf_release(&out);
        ft_jina_request_release(&request);
    }
    assert_true(refused > in.size / 2);
    ft_buf_release(&in);
    /* parameters 20,000 levels deep */
    struct ft_buf deep = {0};
    for (int i = 0; i < 20000; i++) {
        struct ft_buf outer = {0};
        struct ft_bytes inner = ft_buf_bytes(&deep);
        if (deep.size > 60000) {
            break;
        }
        struct ft_buf entry = {0};
        assert_int_equal(ft_pb_put_text(&entry, 1, "k", &err), FT_OK);
        struct ft_buf value = {0};
        assert_int_equal(ft_pb_put_bytes(&value, 5, inner, &err), FT_OK);
        assert_int_equal(ft_pb_put_bytes(&entry, 2, ft_buf_bytes(&value), &err), FT_OK);
        assert_int_equal(ft_pb_put_bytes(&outer, 1, ft_buf_bytes(&entry), &err), FT_OK);
        ft_buf_release(&deep);
        ft_buf_release(&value);
        ft_buf_release(&entry);
        deep = outer;
    }
    struct ft_json *json = NULL;
    assert_int_equal(ft_struct_read(ft_buf_bytes(&deep), &json, &err), FT_LIMIT);
    assert_null(json);
    ft_buf_release(&deep);
    /* NaN */
    static const uint8_t nan_entry[] = {0x0a, 0x0e, 0x0a, 0x01, 'x', 0x12, 0x09, 0x11,
                                        0,    0,    0,    0,    0,   0,    0xf8, 0x7f};
    assert_int_equal(ft_struct_read(ft_bytes_of(nan_entry, sizeof nan_entry), &json, &err), FT_INVALID);
}

static void reflection_equals_the_capture(void **state)
{
    (void)state;
    struct ft_buf out = {0};
    struct ft_buf want = golden("v1/reflection_list_services_response.bin");
    static const char *const services[] = {"grpc.reflection.v1alpha.ServerReflection",
                                           "jina.JinaDataRequestRPC",
                                           "jina.JinaDiscoverEndpointsRPC",
                                           "jina.JinaGatewayDryRunRPC",
                                           "jina.JinaInfoRPC",
                                           "jina.JinaRPC",
                                           "jina.JinaSingleDataRequestRPC",
                                           "jina.JinaSingleDocumentRequestRPC"};
    static const uint8_t list[] = {0x3a, 0x00};
    assert_int_equal(ft_reflection_answer(ft_bytes_of(list, 2), services, 8, &out, &err), FT_OK);
    assert_int_equal(out.size, want.size);
    assert_memory_equal(out.data, want.data, want.size);
    ft_buf_release(&want);
    ft_buf_release(&out);
}

static void structs_read_back_as_written(void **state)
{
    (void)state;
    struct ft_json *json =
        json_of("{\"a\": 3, \"b\": 0.5, \"c\": [true, null, {\"d\": \"\\u00e9\"}, []], \"e\": {},"
                "\"f\": -9007199254740992}");
    struct ft_buf out = {0};
    struct ft_json *back = NULL;
    assert_int_equal(ft_struct_write(json, &out, &err), FT_OK);
    assert_int_equal(ft_struct_read(ft_buf_bytes(&out), &back, &err), FT_OK);
    assert_true(json_same(json, back));
    assert_int_equal(ft_json_kind(ft_json_get(back, "a")), FT_JSON_INT);
    ft_json_free(json);
    ft_json_free(back);
    ft_buf_release(&out);
}

static void memory_running_out_leaks_nothing(void **state)
{
    (void)state;
    struct ft_buf in = golden("v1/req_dict.bin");
    struct ft_json *results = json_of("{\"n\": [1, {\"k\": \"v\"}]}");
    size_t before = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    uint64_t n = 0;
    while (st != FT_OK) {
        n++;
        struct ft_buf out = {0};
        struct ft_jina_request request;
        struct ft_jina_reply reply = {.route = ft_bytes_of_text("myexec"),
                                      .embeddings = VECTORS,
                                      .dim = 4,
                                      .results_key = "me",
                                      .results = results};
        ft_alloc_fail_at(n);
        st = ft_jina_request_scan(ft_buf_bytes(&in), FT_JINA_DATA, &request, &err);
        if (st == FT_OK) {
            st = ft_jina_answer(&request, &reply, &out, &err);
        }
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_jina_request_release(&request);
        ft_buf_release(&out);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    assert_true(n > 5);
    ft_json_free(results);
    ft_buf_release(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_equals_the_captured_answer),
        cmocka_unit_test(list_is_joined_as_captured),
        cmocka_unit_test(results_go_where_python_puts_them),
        cmocka_unit_test(unknown_endpoint_passes_byte_for_byte),
        cmocka_unit_test(results_of_others_stay),
        cmocka_unit_test(an_error_keeps_the_request),
        cmocka_unit_test(broken_requests_are_refused),
        cmocka_unit_test(reflection_equals_the_capture),
        cmocka_unit_test(structs_read_back_as_written),
        cmocka_unit_test(memory_running_out_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
