/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * Requests of Jina's and their answers: bytes captured from Jina (tests/data/jina), or made here.
 */
#include "tests/server_test.h"

static void captured_requests_get_the_captured_answers(void **state)
{
    const struct fixture *f = *state;
    static const char *const cases[][3] = {
        {SINGLE, "jina/v1/req_encode.bin", "jina/v1/resp_encode.bin"},
        {"/jina.JinaDataRequestRPC/process_data", "jina/v1/req_list.bin", "jina/v1/resp_list.bin"},
        {SINGLE, "jina/v1/req_unknown.bin", "jina/v1/resp_unknown.bin"},
        {SINGLE, "jina/v2/req_encode.bin", "jina/v2/resp_encode.bin"},
        {"/jina.JinaDataRequestRPC/process_data", "jina/v2/req_list.bin", "jina/v2/resp_list.bin"},
        {SINGLE, "jina/v2/req_unknown.bin", "jina/v2/resp_unknown.bin"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_buf request = golden(cases[i][1]);
        struct ft_buf want = golden(cases[i][2]);
        struct ft_rpc_answer answer = call(f, cases[i][0], ft_buf_bytes(&request));
        assert_int_equal(answer.code, 0);
        assert_false(answer.is_error);
        struct ft_jina_request ours;
        struct ft_jina_request theirs;
        ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&answer.message), FT_JINA_DATA, &ours, &err));
        ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&want), FT_JINA_DATA, &theirs, &err));
        /* Tags are maps, whose order Python changes; test_wire_jina compares them member by member. */
        assert_int_equal(answer.message.size, want.size);
        size_t head = (size_t)(ours.docs[0].data - answer.message.data);
        assert_memory_equal(answer.message.data, want.data, head);
        assert_int_equal(ours.n_docs, theirs.n_docs);
        for (size_t d = 0; d < ours.n_docs; d++) {
            assert_int_equal(ours.docs[d].size, theirs.docs[d].size);
        }
        ft_jina_request_release(&ours);
        ft_jina_request_release(&theirs);
        ft_buf_release(&answer.message);
        ft_buf_release(&request);
        ft_buf_release(&want);
    }
    struct ft_buf dry = golden("jina/v1/req_dry.bin");
    struct ft_rpc_answer answer = call(f, SINGLE, ft_buf_bytes(&dry));
    assert_true(ft_bytes_equal(ft_buf_bytes(&answer.message), ft_buf_bytes(&dry)));
    ft_buf_release(&answer.message);
    ft_buf_release(&dry);
}

static void control_calls_are_answered(void **state)
{
    const struct fixture *f = *state;
    static const uint8_t list[] = {0x3a, 0x00};
    struct ft_buf want = {0}; /* tests/test_wire_jina.c compares it with the one that was captured */
    ASSERT_OK(ft_discovery_write(NULL, 0, &want, &err));
    struct ft_rpc_answer a =
        call(f, "/jina.JinaDiscoverEndpointsRPC/endpoint_discovery", ft_bytes_of(NULL, 0));
    assert_true(ft_bytes_equal(ft_buf_bytes(&a.message), ft_buf_bytes(&want)));
    ft_buf_release(&a.message);
    ft_buf_release(&want);
    a = call(f, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ft_bytes_of(list, 2));
    assert_int_equal(a.code, 0);
    assert_non_null(memmem(a.message.data, a.message.size, "jina.JinaSingleDataRequestRPC", 29));
    ft_buf_release(&a.message);
    ASSERT_OK(ft_rpc_ping(f->target, 1000, &err));
    a = call(f, "/grpc.health.v1.Health/Check", ft_bytes_of_text("\x0a\x04nope"));
    assert_int_equal(a.code, 5);
    ft_buf_release(&a.message);
    a = call(f, "/jina.JinaGatewayDryRunRPC/dry_run", ft_bytes_of(NULL, 0));
    assert_int_equal(a.code, 0);
    assert_int_equal(a.message.size, 0);
    ft_buf_release(&a.message);
    a = call(f, "/jina.JinaInfoRPC/_status", ft_bytes_of(NULL, 0));
    assert_non_null(memmem(a.message.data, a.message.size, "finetuner", 9));
    ft_buf_release(&a.message);
    a = call(f, "/no.Such/method", ft_bytes_of(NULL, 0));
    assert_int_equal(a.code, 12);
    ft_buf_release(&a.message);
}

/* stream_doc: one Document in, one out, of either docarray; what nobody here knows comes back as it was. */
static void single_documents_are_answered(void **state)
{
    const struct fixture *f = *state;
    static const char *const names[] = {"jina/v1/req_stream_doc.bin", "jina/v2/req_stream_doc.bin"};
    static const char method[] = "/jina.JinaSingleDocumentRequestRPC/stream_doc";
    for (size_t i = 0; i < 2; i++) {
        struct ft_buf request = golden(names[i]);
        struct ft_rpc_answer answer = call(f, method, ft_buf_bytes(&request));
        assert_true(ft_bytes_equal(ft_buf_bytes(&answer.message), ft_buf_bytes(&request)));
        ft_buf_release(&answer.message);
        /* The same for an endpoint that embeds: a later header merges over the first. */
        static const uint8_t encode[] = {0x0a, 9, 0x1a, 7, '/', 'e', 'n', 'c', 'o', 'd', 'e'};
        ASSERT_OK(ft_buf_append(&request, encode, sizeof encode, &err));
        answer = call(f, method, ft_buf_bytes(&request));
        assert_false(answer.is_error);
        struct ft_jina_request before;
        struct ft_jina_request after;
        struct ft_buf want = {0};
        const float values[DIM] = {1, 2, 3, 4};
        ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&request), FT_JINA_SINGLE, &before, &err));
        ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&answer.message), FT_JINA_SINGLE, &after, &err));
        assert_int_equal(after.n_docs, 1);
        assert_int_equal(after.flavour, i == 0 ? FT_DOCARRAY_V1 : FT_DOCARRAY_V2);
        ASSERT_OK(ft_docarray_splice(before.docs[0], before.flavour, values, DIM, &want, &err));
        assert_int_equal(after.docs[0].size, want.size);
        ft_jina_request_release(&before);
        ft_jina_request_release(&after);
        ft_buf_release(&want);
        ft_buf_release(&answer.message);
        ft_buf_release(&request);
    }
}

static void documents_that_do_not_fit_are_named(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("good", "a", 1), {0}};
    struct ft_document uri = {
        .id = ft_bytes_of_text("far"), .has_label = true, .label = ft_bytes_of_text("a")};
    uri.content.kind = FT_CONTENT_URI;
    uri.content.bytes = ft_bytes_of_text("file:///etc/passwd");
    ASSERT_OK(ft_docarray_v1_write(&uri, &docs[1], &err));
    refused(f, "/encode", "{}", docs, 2, "document 1 (id 'far'): a uri is not fetched");
    refused(f, "/train", "{}", docs, 2, "document 1 (id 'far'): a uri is not fetched");
    ft_buf_release(&docs[1]);
    docs[1] = vector_doc("bare", NULL, 1);
    refused(f, "/train", "{}", docs, 2, "document 1 (id 'bare'): no label");
    ft_buf_release(&docs[1]);
    ASSERT_OK(ft_pb_put_text(&docs[1], 1, "empty", &err));
    refused(f, "/encode", "{}", docs, 2, "document 1 (id 'empty'): no text, blob or tensor");
    ft_buf_release(&docs[1]);
    struct ft_document blob = {.id = ft_bytes_of_text("odd")};
    blob.content.kind = FT_CONTENT_BLOB;
    blob.content.bytes = ft_bytes_of_text("xyz");
    ASSERT_OK(ft_docarray_v1_write(&blob, &docs[1], &err));
    refused(f, "/encode", "{}", docs, 2, "document 1 (id 'odd'): not four floats");
    refused(f, "/train", "{\"dataset\": \"../x\"}", docs, 1, "is no name");
    refused(f, "/train", "{\"dataset\": 3}", docs, 1, "parameters.dataset is");
    refused(f, "/encode", "{\"model\": \"../../etc/passwd\"}", docs, 1, "there is no run and no model");
    char path[512];
    (void)snprintf(path, sizeof path, "%s/datasets/default", f->dir);
    assert_int_equal(ft_path_kind(path), FT_PATH_NONE); /* nothing of any of these was stored */
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
    struct ft_rpc_answer answer = call(f, SINGLE, ft_bytes_of_text("\xff\xff\xff"));
    assert_true(answer.is_error);
    ft_buf_release(&answer.message);
}

static void empty_requests_come_back(void **state)
{
    const struct fixture *f = *state;
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/encode", "{}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    assert_int_equal(scanned.n_docs, 0);
    let_go(&answer, &scanned);
    ask(f, "/train", "{}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
}

static void vectors_are_encoded_in_batches(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[8];
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    int before = atomic_load(&engine.computed);
    for (size_t i = 0; i < 8; i++) {
        char id[8];
        (void)snprintf(id, sizeof id, "d%zu", i);
        docs[i] = vector_doc(id, NULL, (float)i);
    }
    ask(f, "/", "{}", docs, 8, &answer, &scanned);
    assert_int_equal(atomic_load(&engine.computed) - before, 3); /* 3 + 3 + 2 */
    assert_int_equal(scanned.n_docs, 8);
    for (size_t i = 0; i < 8; i++) {
        struct ft_buf want = {0};
        const float values[DIM] = {(float)i, 0.5F, -1, 7};
        ASSERT_OK(ft_docarray_splice(ft_buf_bytes(&docs[i]), FT_DOCARRAY_V1, values, DIM, &want, &err));
        assert_true(ft_bytes_equal(ft_buf_bytes(&want), scanned.docs[i]));
        ft_buf_release(&want);
        ft_buf_release(&docs[i]);
    }
    let_go(&answer, &scanned);
}

static void artifact_comes_back_in_parts(const struct fixture *f, const char *run)
{
    char parameters[128];
    char sha256[FT_SHA256_HEX];
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    struct ft_arena arena = {0};
    uint8_t *bytes = artifact_bytes();
    size_t at = 0;
    ft_sha256_of(ft_bytes_of(bytes, ARTIFACT_BYTES), sha256);
    (void)snprintf(parameters, sizeof parameters, "{\"run\": \"%s\"}", run);
    ask(f, "/artifact", parameters, NULL, 0, &answer, &scanned);
    assert_int_equal(scanned.n_docs, 3); /* 4 + 4 + 1 MiB and 5 bytes */
    for (size_t i = 0; i < scanned.n_docs; i++) {
        struct ft_document doc;
        ASSERT_OK(ft_docarray_v1_scan(scanned.docs[i], &arena, &doc, &err));
        assert_int_equal(doc.content.kind, FT_CONTENT_BLOB);
        assert_true(doc.content.bytes.size <= 4 << 20);
        assert_memory_equal(doc.content.bytes.data, bytes + at, doc.content.bytes.size);
        at += doc.content.bytes.size;
        assert_non_null(memmem(scanned.docs[i].data, scanned.docs[i].size, sha256, FT_SHA256_HEX - 1));
    }
    assert_int_equal(at, ARTIFACT_BYTES);
    free(bytes);
    ft_arena_release(&arena);
    let_go(&answer, &scanned);
    (void)snprintf(parameters, sizeof parameters, "{\"run\": \"%s\", \"part\": 2}", run);
    ask(f, "/artifact", parameters, NULL, 0, &answer, &scanned);
    assert_int_equal(scanned.n_docs, 1);
    let_go(&answer, &scanned);
    (void)snprintf(parameters, sizeof parameters, "{\"run\": \"%s\", \"part\": 3}", run);
    refused(f, "/artifact", parameters, NULL, 0, "has 3 parts");
}

/* What /status, /metrics, /logs, /runs say of a finished run. */
static void run_is_told_about(const struct fixture *f, const char *run)
{
    char parameters[128];
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    (void)snprintf(parameters, sizeof parameters, "{\"run\": \"%s\"}", run);
    ask(f, "/status", parameters, NULL, 0, &answer, &scanned);
    assert_string_equal(ft_json_text(ft_json_get(results_of(&scanned), "status"), NULL), "FINISHED");
    let_go(&answer, &scanned);
    ask(f, "/metrics", parameters, NULL, 0, &answer, &scanned);
    assert_int_equal(ft_json_count(ft_json_get(results_of(&scanned), "metrics")), 1);
    let_go(&answer, &scanned);
    ask(f, "/logs", parameters, NULL, 0, &answer, &scanned);
    assert_int_equal(ft_json_count(ft_json_get(results_of(&scanned), "events")), 1);
    let_go(&answer, &scanned);
    ask(f, "/runs", "{}", NULL, 0, &answer, &scanned);
    assert_int_equal(ft_json_count(ft_json_get(results_of(&scanned), "runs")), 1);
    let_go(&answer, &scanned);
    refused(f, "/cancel", parameters, NULL, 0, "has ended already: FINISHED");
}

static void train_fit_encode_and_fetch(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    refused(f, "/fit", "{}", NULL, 0, "there is no dataset 'default'");
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    assert_false(answer.is_error);
    assert_int_equal(ft_json_int(ft_json_get(results_of(&scanned), "stored")), 2);
    assert_true(ft_bytes_equal(scanned.docs[1], ft_buf_bytes(&docs[1])));
    let_go(&answer, &scanned);
    ask(f, "/train", "{}", docs, 2, &answer, &scanned); /* Jina retries: stored once */
    assert_int_equal(ft_json_int(ft_json_get(results_of(&scanned), "stored")), 0);
    assert_int_equal(ft_json_int(ft_json_get(results_of(&scanned), "duplicates")), 2);
    let_go(&answer, &scanned);
    refused(f, "/fit", "{\"epochz\": 1}", NULL, 0, "no option is called 'epochz'");
    refused(f, "/fit", "{\"work_dir\": \"/\"}", NULL, 0, "cannot be given to a service");
    refused(f, "/fit", "{\"wait\": 1}", NULL, 0, "parameters.wait is");
    refused(f, "/fit", "{\"eval_dataset\": \"none\"}", NULL, 0, "there is no dataset 'none'");
    refused(f, "/status", "{}", NULL, 0, "parameters.run is missing");
    refused(f, "/status", "{\"run\": \"x\"}", NULL, 0, "there is no run 'x'");
    ask(f, "/fit", "{\"act\": \"finish\", \"wait\": true, \"__results__\": {}}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    char run[64];
    (void)snprintf(run, sizeof run, "%s", ft_json_text(ft_json_get(results_of(&scanned), "run"), NULL));
    assert_string_equal(ft_json_text(ft_json_get(results_of(&scanned), "status"), NULL), "FINISHED");
    assert_non_null(ft_json_get(results_of(&scanned), "metrics"));
    let_go(&answer, &scanned);
    run_is_told_about(f, run);
    artifact_comes_back_in_parts(f, run);
    ask(f, "/encode", "{}", docs, 1, &answer, &scanned);
    assert_false(answer.is_error);
    assert_non_null(strstr(look().opened, run)); /* the newest model, without being asked for */
    let_go(&answer, &scanned);
    ask(f, "/encode", "{\"myexec\": {\"model\": \"classifier\"}}", docs, 1, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    ask(f, "/fit", "{\"act\": \"fail\"}", NULL, 0, &answer, &scanned); /* does not wait */
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    refused(f, "/fit", "{\"act\": \"fail\", \"wait\": true}", NULL, 0, "one class");
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

int main(int argc, char **argv)
{
    if (is_worker(argc, argv)) {
        return play(argv);
    }
    const struct CMUnitTest tests[] = {
        CASE(captured_requests_get_the_captured_answers),
        CASE(control_calls_are_answered),
        CASE(single_documents_are_answered),
        CASE(documents_that_do_not_fit_are_named),
        CASE(empty_requests_come_back),
        CASE(vectors_are_encoded_in_batches),
        CASE(train_fit_encode_and_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
