/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * The service over real gRPC on the loopback, with an engine that this file brings and workers that are this
 * program again. Requests and answers are bytes captured from Jina (tests/data/jina) or made here.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/base/thread.h"
#include "executor/codec/digest.h"
#include "executor/rpc/client.h"
#include "executor/server/service.h"
#include "executor/wire/control.h"
#include "executor/wire/docarray_v1.h"
#include "executor/wire/jina.h"
#include "executor/wire/struct.h"
#include "tests/support.h"

static struct ft_err err;

enum { DIM = 4, ARTIFACT_BYTES = (9 << 20) + 5 };

/* ---- an engine: a text becomes 1 2 3 4, a tensor of four floats itself; models are paths that are
 * remembered */

enum { LOGGED = 256 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool blocked;               /* encode() waits while set */
    bool waiting;               /* and this is set while it does */
    bool load_blocked, loading; /* the same of open_model() */
    bool broken;                /* open_model() fails */
    int opens, closes;
    char opened[512];
    atomic_int computed;
    size_t log_count; /* of each batch: how many Documents, the first number of the first one */
    size_t log_docs[LOGGED];
    float log_first[LOGGED];
} engine = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct model {
    size_t bytes;
    float plus; /* added to the first number of each vector */
};

static enum ft_status open_model(const struct ft_config *config, const char *path, void **encoder,
                                 struct ft_err *e)
{
    (void)config;
    *encoder = NULL;
    (void)pthread_mutex_lock(&engine.mutex);
    while (engine.load_blocked) {
        engine.loading = true;
        (void)pthread_cond_broadcast(&engine.changed);
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    engine.loading = false;
    bool broken = engine.broken || strstr(path, "broken") != NULL;
    engine.opens += broken ? 0 : 1;
    (void)snprintf(engine.opened, sizeof engine.opened, "%s", path);
    (void)pthread_mutex_unlock(&engine.mutex);
    if (broken) {
        return FT_FAIL(e, CORRUPT, "%s is broken", path);
    }
    struct model *model = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *model, &model, e));
    model->bytes = strstr(path, "huge") != NULL ? 2000000 : 600000;
    model->plus = strstr(path, "plus") != NULL ? 1000 : 0;
    *encoder = model;
    return FT_OK;
}

static void close_model(void *encoder)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.closes++;
    (void)pthread_mutex_unlock(&engine.mutex);
    ft_free(encoder);
}

static size_t four(void *encoder)
{
    (void)encoder;
    return DIM;
}

static size_t bytes(void *encoder)
{
    return ((const struct model *)encoder)->bytes;
}

/* A text weighs what it is long. */
static size_t weight(void *encoder, const struct ft_document *doc)
{
    (void)encoder;
    return doc->content.kind == FT_CONTENT_TEXT ? doc->content.bytes.size : 0;
}

static enum ft_status prepare(const struct ft_content *content, float *row, struct ft_err *e)
{
    static const float text[DIM] = {1, 2, 3, 4};
    if (content->kind == FT_CONTENT_TEXT) {
        memcpy(row, text, sizeof text);
        return FT_OK;
    }
    if (content->kind != FT_CONTENT_TENSOR || content->bytes.size != sizeof text) {
        return FT_FAIL(e, INVALID, "not four floats");
    }
    memcpy(row, content->bytes.data, sizeof text);
    return FT_OK;
}

/* Returns once nobody blocks, having said that somebody waits. */
static void pass_gate(void)
{
    (void)pthread_mutex_lock(&engine.mutex);
    while (engine.blocked) {
        engine.waiting = true;
        (void)pthread_cond_broadcast(&engine.changed);
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    engine.waiting = false;
    (void)pthread_mutex_unlock(&engine.mutex);
}

static enum ft_status encode(void *encoder, const struct ft_document *docs, size_t count, float *out,
                             size_t *failed, struct ft_err *e)
{
    for (*failed = 0; *failed < count; ++*failed) {
        FT_RETURN_IF_FAILED(prepare(&docs[*failed].content, out + *failed * DIM, e));
        out[*failed * DIM] += ((const struct model *)encoder)->plus;
    }
    (void)pthread_mutex_lock(&engine.mutex);
    if (engine.log_count < LOGGED) {
        engine.log_docs[engine.log_count] = count;
        engine.log_first[engine.log_count++] = out[0];
    }
    (void)pthread_mutex_unlock(&engine.mutex);
    pass_gate();
    (void)atomic_fetch_add(&engine.computed, 1);
    return FT_OK;
}

static void block(bool blocked)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.blocked = blocked;
    (void)pthread_cond_broadcast(&engine.changed);
    (void)pthread_mutex_unlock(&engine.mutex);
}

/* Returns when a thread of the service stands at the gate. */
static void until_blocked(void)
{
    (void)pthread_mutex_lock(&engine.mutex);
    while (!engine.waiting) {
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    (void)pthread_mutex_unlock(&engine.mutex);
}

static enum ft_status check_fit(const struct ft_json *options, struct ft_err *e)
{
    const char *act = ft_json_text(ft_json_get(options, "act"), NULL);
    if (act != NULL && strcmp(act, "late") == 0) {
        pass_gate();
    }
    for (struct ft_json_iter *it = ft_json_first(options); it != NULL; it = ft_json_next(options, it)) {
        if (strcmp(ft_json_key(it), "act") != 0) {
            return FT_FAIL(e, INVALID, "no option is called '%s'", ft_json_key(it));
        }
    }
    return FT_OK;
}

static enum ft_status check_model(const char *path, struct ft_err *e)
{
    struct ft_buf text = {0};
    FT_RETURN_IF_FAILED(ft_file_read(path, 1 << 20, &text, e));
    bool broken = text.size >= 6 && memcmp(text.data, "broken", 6) == 0;
    ft_buf_release(&text);
    return broken ? FT_FAIL(e, CORRUPT, "%s is broken", path) : FT_OK;
}

static const struct ft_engine ENGINE = {.open = open_model,
                                        .close = close_model,
                                        .dim = four,
                                        .bytes = bytes,
                                        .weight = weight,
                                        .encode = encode,
                                        .check_fit = check_fit,
                                        .check_model = check_model};

/* What the engine has seen so far: gRPC orders the threads, but tools cannot see inside it. */
struct seen {
    int opens, closes;
    char opened[512];
    size_t log_count, log_docs[LOGGED];
    float log_first[LOGGED];
};

static struct seen look(void)
{
    struct seen seen;
    (void)pthread_mutex_lock(&engine.mutex);
    seen.opens = engine.opens;
    seen.closes = engine.closes;
    seen.log_count = engine.log_count;
    memcpy(seen.opened, engine.opened, sizeof seen.opened);
    memcpy(seen.log_docs, engine.log_docs, sizeof seen.log_docs);
    memcpy(seen.log_first, engine.log_first, sizeof seen.log_first);
    (void)pthread_mutex_unlock(&engine.mutex);
    return seen;
}

static void break_models(bool broken)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.broken = broken;
    (void)pthread_mutex_unlock(&engine.mutex);
}

/* ---- a worker: what spec.json's act says */

static void put(const char *dir, const char *folder, const char *run, const char *name, struct ft_bytes bytes)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s/%s", dir, folder, run);
    ASSERT_OK(ft_dir_make(path, &err));
    (void)snprintf(path, sizeof path, "%s/%s/%s/%s", dir, folder, run, name);
    ASSERT_OK(ft_file_write(path, bytes, &err));
}

static uint8_t *artifact_bytes(void)
{
    uint8_t *bytes = malloc(ARTIFACT_BYTES);
    for (size_t i = 0; i < ARTIFACT_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    return bytes;
}

static int play(char **argv)
{
    const char *run = argv[3];
    const char *dir = argv[5];
    char path[512];
    struct ft_buf spec = {0};
    (void)snprintf(path, sizeof path, "%s/runs/%s/spec.json", dir, run);
    ASSERT_OK(ft_file_read(path, 1 << 16, &spec, &err));
    if (strstr((const char *)spec.data, "\"fail\"") != NULL) {
        put(dir, "runs", run, "result.json",
            ft_bytes_of_text("{\"status\":\"FAILED\",\"reason\":\"one class\"}"));
        return 1;
    }
    uint8_t *bytes = artifact_bytes();
    put(dir, "artifacts", run, "model.zip", ft_bytes_of(bytes, ARTIFACT_BYTES));
    free(bytes);
    put(dir, "runs", run, "events.jsonl",
        ft_bytes_of_text("{\"event\": \"metrics\",\"when\":\"before\",\"metrics\":{\"map\":0.25}}\n"));
    put(dir, "runs", run, "result.json",
        ft_bytes_of_text("{\"status\":\"FINISHED\",\"summary\":{\"metrics\":{\"after\":{\"map\":0.5}}}}"));
    ft_buf_release(&spec);
    return 0;
}

/* ---- a service and a client */

struct fixture {
    char *dir;
    struct ft_config config;
    struct ft_service *service;
    char target[64];
};

static int start(void **state, const char *batch, const char *queue, const char *memory_mb)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    engine.opens = engine.closes = 0;
    engine.log_count = 0;
    ASSERT_OK(ft_dir_temp("server", &f.dir, &err));
    const char *const settings[][2] = {
        {"workspace", f.dir},           {"host", "127.0.0.1"},           {"port", "0"},
        {"name", "myexec/rep-0"},       {"model", "/m/classifier.onnx"}, {"drain_seconds", "5"},
        {"encode_batch_size", batch},   {"encode_batch_tokens", "40"},   {"encode_queue", queue},
        {"models_memory_mb", memory_mb}};
    ASSERT_OK(ft_config_init(&f.config, &err));
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        ASSERT_OK(ft_config_set(&f.config, "test", settings[i][0], settings[i][1], &err));
    }
    ASSERT_OK(ft_service_start(&f.config, &ENGINE, &f.service, &err));
    (void)snprintf(f.target, sizeof f.target, "127.0.0.1:%d", ft_service_port(f.service));
    *state = &f;
    return 0;
}

static int set_up(void **state)
{
    return start(state, "3", "2", "0");
}

/* Room for many requests, and for one model of 600 kB. */
static int set_up_wide(void **state)
{
    return start(state, "4", "64", "1");
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    ft_service_stop(f->service);
    assert_int_equal(look().opens, look().closes);
    ft_config_release(&f->config);
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
    return 0;
}

static struct ft_rpc_answer call(const struct fixture *f, const char *method, struct ft_bytes request)
{
    struct ft_rpc_answer answer;
    struct ft_err e = {0};
    enum ft_status st = ft_rpc_call(f->target, method, request, 20000, &answer, &e);
    if (st != FT_OK) {
        fail_msg("%s: %s", method, e.text);
    }
    return answer;
}

static const char SINGLE[] = "/jina.JinaSingleDataRequestRPC/process_single_data";

/* A request made here. parameters: JSON. docs: their bytes. */
static struct ft_buf make_request(const char *endpoint, const char *parameters, const struct ft_buf *docs,
                                  size_t count)
{
    struct ft_buf out = {0};
    struct ft_buf part = {0};
    struct ft_buf data = {0};
    struct ft_json *json = NULL;
    ASSERT_OK(ft_pb_put_text(&part, 1, "0123", &err));
    ASSERT_OK(ft_pb_put_text(&part, 3, endpoint, &err));
    ASSERT_OK(ft_pb_put_bytes(&out, 1, ft_buf_bytes(&part), &err));
    part.size = 0;
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(parameters), &json, &err));
    ASSERT_OK(ft_struct_write(json, &part, &err));
    ASSERT_OK(ft_pb_put_bytes(&out, 2, ft_buf_bytes(&part), &err));
    part.size = 0;
    for (size_t i = 0; i < count; i++) {
        ASSERT_OK(ft_pb_put_bytes(&part, 1, ft_buf_bytes(&docs[i]), &err));
    }
    ASSERT_OK(ft_pb_put_bytes(&data, 1, ft_buf_bytes(&part), &err));
    ASSERT_OK(ft_pb_put_bytes(&out, 4, ft_buf_bytes(&data), &err));
    ft_json_free(json);
    ft_buf_release(&part);
    ft_buf_release(&data);
    return out;
}

/* A Document with a tensor of four floats. */
static struct ft_buf vector_doc(const char *id, const char *label, float first)
{
    const float values[DIM] = {first, 0.5F, -1, 7};
    struct ft_document doc = {.id = ft_bytes_of_text(id), .has_label = label != NULL};
    struct ft_buf out = {0};
    if (label != NULL) {
        doc.label = ft_bytes_of_text(label);
    }
    doc.content = (struct ft_content){.kind = FT_CONTENT_TENSOR,
                                      .bytes = ft_bytes_of(values, sizeof values),
                                      .dtype = "<f4",
                                      .rank = 1,
                                      .dims = {DIM}};
    ASSERT_OK(ft_docarray_v1_write(&doc, &out, &err));
    return out;
}

/* Sends and scans the answer; *answer must outlive *scanned. */
static void ask(const struct fixture *f, const char *endpoint, const char *parameters,
                const struct ft_buf *docs, size_t count, struct ft_rpc_answer *answer,
                struct ft_jina_request *scanned)
{
    struct ft_buf request = make_request(endpoint, parameters, docs, count);
    *answer = call(f, SINGLE, ft_buf_bytes(&request));
    assert_int_equal(answer->code, 0);
    ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&answer->message), FT_JINA_DATA, scanned, &err));
    ft_buf_release(&request);
}

static void let_go(struct ft_rpc_answer *answer, struct ft_jina_request *scanned)
{
    ft_jina_request_release(scanned);
    ft_buf_release(&answer->message);
}

/* The service must refuse, saying this. */
static void refused(const struct fixture *f, const char *endpoint, const char *parameters,
                    const struct ft_buf *docs, size_t count, const char *part)
{
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, endpoint, parameters, docs, count, &answer, &scanned);
    assert_true(answer.is_error);
    assert_int_equal(scanned.n_docs, count); /* the request's Documents stay */
    if (memmem(answer.message.data, answer.message.size, part, strlen(part)) == NULL) {
        fail_msg("'%s' is not in the answer of %s", part, endpoint);
    }
    let_go(&answer, &scanned);
}

static const struct ft_json *results_of(const struct ft_jina_request *scanned)
{
    const struct ft_json *results =
        ft_json_get(ft_json_get(scanned->parameters, "__results__"), "myexec/rep-0");
    assert_non_null(results);
    return results;
}

/* ---- tests */

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

struct client {
    const struct fixture *f;
    struct ft_buf request;
    struct ft_rpc_answer answer;
    enum ft_status st;
    struct ft_err why;
};

static void client_main(void *arg)
{
    struct client *c = arg;
    c->st = ft_rpc_call(c->f->target, SINGLE, ft_buf_bytes(&c->request), 20000, &c->answer, &c->why);
}

/* The device blocked, its queue full: health answers at once, requests beyond the queue are refused, none is
 * lost. */
static void a_full_queue_refuses_and_health_answers(void **state)
{
    enum { CLIENTS = 10 };
    const struct fixture *f = *state;
    struct client clients[CLIENTS];
    struct ft_thread *threads[CLIENTS];
    struct ft_buf doc = vector_doc("a", NULL, 1);
    block(true);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.f = f, .request = make_request("/encode", "{}", &doc, 1)};
        ASSERT_OK(ft_thread_start("client", client_main, &clients[i], &threads[i], &err));
        if (i == 0) {
            until_blocked(); /* the first one is out of the queue: how many fit behind it is certain */
        }
    }
    for (int i = 0; i < 20; i++) {
        const struct timespec nap = {0, 20000000};
        double start = ft_clock_seconds();
        ASSERT_OK(ft_rpc_ping(f->target, 1000, &err));
        assert_true(ft_clock_seconds() - start < 1);
        (void)nanosleep(&nap, NULL);
    }
    block(false);
    size_t refused_count = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        ft_thread_join(threads[i]);
        assert_false(clients[i].answer.is_error);
        if (clients[i].st != FT_OK) { /* jina/SPEC.md 3.5: gRPC's UNAVAILABLE is "try another replica" */
            refused_count++;
            assert_int_equal(clients[i].st, FT_UNAVAILABLE);
            assert_non_null(strstr(clients[i].why.text, "unavailable: too many requests"));
            assert_non_null(strstr(clients[i].why.text, "encode_queue = 2"));
        }
        ft_buf_release(&clients[i].request);
        ft_buf_release(&clients[i].answer.message);
    }
    /* One computes, two wait; the rest found no room. */
    assert_int_equal(refused_count, CLIENTS - 3);
    ft_buf_release(&doc);
}

/* ---- batches */

static struct ft_thread *begin(struct client *client, const struct fixture *f, const char *parameters,
                               const struct ft_buf *docs, size_t count)
{
    struct ft_thread *thread = NULL;
    *client = (struct client){.f = f, .request = make_request("/encode", parameters, docs, count)};
    ASSERT_OK(ft_thread_start("client", client_main, client, &thread, &err));
    return thread;
}

static void until_in_line(const struct fixture *f, size_t count)
{
    const struct timespec nap = {0, 2000000};
    for (double start = ft_clock_seconds(); ft_service_waiting(f->service) != count;) {
        if (ft_clock_seconds() - start > 10) {
            fail_msg("%zu requests in line, not %zu", ft_service_waiting(f->service), count);
        }
        (void)nanosleep(&nap, NULL);
    }
}

/* Joins, and checks that the answer has these Documents with what a model that adds `plus` makes of them. */
static void ends_well(struct client *client, struct ft_thread *thread, const struct ft_buf *docs,
                      size_t count, float plus)
{
    struct ft_jina_request scanned;
    ft_thread_join(thread);
    if (client->st != FT_OK) {
        fail_msg("%s: %s", ft_status_text(client->st), client->why.text);
    }
    assert_false(client->answer.is_error);
    ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&client->answer.message), FT_JINA_DATA, &scanned, &err));
    assert_int_equal(scanned.n_docs, count);
    for (size_t i = 0; i < count; i++) {
        struct ft_document doc;
        struct ft_arena arena = {0};
        float values[DIM];
        struct ft_buf want = {0};
        ASSERT_OK(ft_docarray_v1_scan(ft_buf_bytes(&docs[i]), &arena, &doc, &err));
        memcpy(values, doc.content.bytes.data, sizeof values);
        values[0] += plus;
        ASSERT_OK(ft_docarray_splice(ft_buf_bytes(&docs[i]), FT_DOCARRAY_V1, values, DIM, &want, &err));
        assert_true(ft_bytes_equal(ft_buf_bytes(&want), scanned.docs[i]));
        ft_buf_release(&want);
        ft_arena_release(&arena);
    }
    ft_jina_request_release(&scanned);
    ft_buf_release(&client->request);
    ft_buf_release(&client->answer.message);
}

static void ends_refused(struct client *client, struct ft_thread *thread, const char *part)
{
    ft_thread_join(thread);
    assert_int_equal(client->st, FT_OK);
    assert_true(client->answer.is_error);
    if (memmem(client->answer.message.data, client->answer.message.size, part, strlen(part)) == NULL) {
        fail_msg("'%s' is not in the answer", part);
    }
    ft_buf_release(&client->request);
    ft_buf_release(&client->answer.message);
}

/* While one is computed, three others come, of 1, 1 and 2 Documents: one batch. */
static void waiting_requests_are_computed_together(void **state)
{
    const struct fixture *f = *state;
    struct client clients[4];
    struct ft_thread *threads[4];
    struct ft_buf docs[5];
    for (size_t i = 0; i < 5; i++) {
        docs[i] = vector_doc("a", NULL, (float)i);
    }
    block(true);
    for (size_t i = 0; i < 4; i++) {
        threads[i] = begin(&clients[i], f, "{}", &docs[i], i == 3 ? 2 : 1);
        if (i == 0) {
            until_blocked();
        }
        until_in_line(f, i);
    }
    block(false);
    for (size_t i = 0; i < 4; i++) {
        ends_well(&clients[i], threads[i], &docs[i], i == 3 ? 2 : 1, 0);
    }
    assert_int_equal(look().log_count, 2);
    assert_int_equal(look().log_docs[1], 4);
    for (size_t i = 0; i < 5; i++) {
        ft_buf_release(&docs[i]);
    }
}

static void a_bad_document_fails_only_its_own_request(void **state)
{
    const struct fixture *f = *state;
    struct client clients[4];
    struct ft_thread *threads[4];
    struct ft_buf docs[3] = {vector_doc("a", NULL, 5), {0}, vector_doc("c", NULL, 7)};
    const struct ft_document bad = {.id = ft_bytes_of_text("the bad one"),
                                    .content = {.kind = FT_CONTENT_BLOB, .bytes = ft_bytes_of_text("x")}};
    ASSERT_OK(ft_docarray_v1_write(&bad, &docs[1], &err));
    block(true);
    for (size_t i = 0; i < 4; i++) { /* the first computes; then a; a with the bad one; c */
        threads[i] = begin(&clients[i], f, "{}", &docs[i == 3 ? 2 : 0], i == 2 ? 2 : 1);
        if (i == 0) {
            until_blocked();
        }
        until_in_line(f, i);
    }
    block(false);
    ends_well(&clients[0], threads[0], &docs[0], 1, 0);
    ends_well(&clients[1], threads[1], &docs[0], 1, 0);
    ends_refused(&clients[2], threads[2], "document 1 (id 'the bad one')");
    ends_well(&clients[3], threads[3], &docs[2], 1, 0);
    for (size_t i = 0; i < 3; i++) {
        ft_buf_release(&docs[i]);
    }
}

/* Ten batches of one request under way, a single Document behind it: it is in the next batch. By tokens, too:
 * texts of 30 and a budget of 40 are a batch each. */
static void a_long_request_lets_others_pass(void **state)
{
    enum { LONG = 40, TEXTS = 3 };
    const struct fixture *f = *state;
    struct client clients[2];
    struct ft_thread *threads[2];
    struct ft_buf docs[LONG + 1];
    for (size_t i = 0; i <= LONG; i++) {
        docs[i] = vector_doc("a", NULL, (float)i);
    }
    block(true);
    threads[0] = begin(&clients[0], f, "{}", docs, LONG);
    until_blocked();
    threads[1] = begin(&clients[1], f, "{}", docs + LONG, 1);
    until_in_line(f, 1);
    block(false);
    ends_well(&clients[0], threads[0], docs, LONG, 0);
    ends_well(&clients[1], threads[1], docs + LONG, 1, 0);
    assert_true(look().log_first[1] == LONG && look().log_docs[1] == 4);
    assert_int_equal(look().log_count, 11);
    for (size_t i = 0; i <= LONG; i++) {
        ft_buf_release(&docs[i]);
    }
    struct ft_buf texts[TEXTS] = {0};
    const struct ft_document text = {
        .id = ft_bytes_of_text("t"),
        .content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("a text of thirty bytes, in all")}};
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    for (size_t i = 0; i < TEXTS; i++) {
        ASSERT_OK(ft_docarray_v1_write(&text, &texts[i], &err));
    }
    ask(f, "/encode", "{}", texts, TEXTS, &answer, &scanned);
    assert_false(answer.is_error);
    assert_int_equal(look().log_count, 11 + TEXTS);
    let_go(&answer, &scanned);
    for (size_t i = 0; i < TEXTS; i++) {
        ft_buf_release(&texts[i]);
    }
}

/* A client that gave up is not computed for. */
static void a_request_whose_client_left_is_dropped(void **state)
{
    const struct fixture *f = *state;
    struct client client;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct ft_buf other = vector_doc("b", NULL, 2);
    struct ft_buf request = make_request("/encode", "{}", &other, 1);
    struct ft_rpc_answer answer;
    block(true);
    struct ft_thread *thread = begin(&client, f, "{}", &doc, 1);
    until_blocked();
    assert_int_equal(ft_rpc_call(f->target, SINGLE, ft_buf_bytes(&request), 200, &answer, &err),
                     FT_UNAVAILABLE);
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL); /* the server hears of it */
    block(false);
    ends_well(&client, thread, &doc, 1, 0);
    until_in_line(f, 0);
    ft_buf_release(&doc);
    doc = vector_doc("c", NULL, 3);
    thread = begin(&client, f, "{}", &doc, 1);
    ends_well(&client, thread, &doc, 1, 0);
    assert_int_equal(look().log_count, 2);
    assert_true(look().log_first[1] == 3);
    ft_buf_release(&request);
    ft_buf_release(&other);
    ft_buf_release(&doc);
}

/* ---- models */

static void block_loading(bool blocked)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.load_blocked = blocked;
    (void)pthread_cond_broadcast(&engine.changed);
    (void)pthread_mutex_unlock(&engine.mutex);
}

static void until_loading(void)
{
    (void)pthread_mutex_lock(&engine.mutex);
    while (!engine.loading) {
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    (void)pthread_mutex_unlock(&engine.mutex);
}

static void encodes(const struct fixture *f, const char *parameters, float plus)
{
    struct client client;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct ft_thread *thread = begin(&client, f, parameters, &doc, 1);
    ends_well(&client, thread, &doc, 1, plus);
    ft_buf_release(&doc);
}

/* A run's model is loaded while the old one serves; one that is broken changes nothing. */
static void a_new_model_comes_without_delay_and_a_broken_one_not_at_all(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct client client;
    struct ft_thread *thread = NULL;
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    block_loading(true);
    client = (struct client){.f = f,
                             .request = make_request("/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0)};
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    until_loading();
    for (int i = 0; i < 5; i++) {
        encodes(f, "{}", 0); /* would wait for ever if the old model had gone */
    }
    block_loading(false);
    ft_thread_join(thread); /* the run's answer comes once its model is served */
    assert_false(client.answer.is_error);
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    char tuned[512];
    (void)snprintf(tuned, sizeof tuned, "%s", look().opened);
    assert_non_null(strstr(tuned, "artifacts"));
    break_models(true);
    ask(f, "/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    assert_string_not_equal(look().opened, tuned); /* it was tried */
    encodes(f, "{}", 0);
    break_models(false);
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

/* Both models do not fit, and the old one still computes when the new one comes: the new one is not let go.
 */
static void a_new_model_stays_while_the_old_one_ends(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct client client;
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    block(true);
    struct ft_thread *thread = begin(&client, f, "{}", docs, 1);
    until_blocked();
    ask(f, "/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    block(false);
    ends_well(&client, thread, docs, 1, 0);
    encodes(f, "{}", 0);
    assert_non_null(strstr(look().opened, "artifacts"));
    assert_int_equal(look().opens, 2); /* the configured one and the run's, each once */
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

/* Two models of 600 kB in 1 MB: the one not used goes. One that cannot fit is refused and costs nothing; so
 * is a broken one, while requests for others go on. */
static void models_share_a_memory_limit(void **state)
{
    const struct fixture *f = *state;
    static const char *const names[] = {"plus.onnx", "huge.onnx", "broken.onnx"};
    for (size_t i = 0; i < 3; i++) {
        put(f->dir, "models", ".", names[i], ft_bytes_of_text("x"));
    }
    struct ft_buf doc = vector_doc("a", NULL, 1);
    encodes(f, "{}", 0);
    encodes(f, "{\"model\": \"plus\"}", 1000);
    refused(f, "/encode", "{\"model\": \"huge\"}", &doc, 1, "models may take 1 MB");
    refused(f, "/encode", "{\"model\": \"broken\"}", &doc, 1, "is broken");
    refused(f, "/encode", "{\"model\": \"broken\"}", &doc, 1, "is broken"); /* tried again, not remembered */
    encodes(f, "{\"model\": \"plus\"}", 1000);
    assert_int_equal(look().opens, 3); /* classifier, plus, huge */
    encodes(f, "{}", 0);
    assert_int_equal(look().opens, 4); /* the first had to go for plus */
    block(true);
    struct client clients[2];
    struct ft_thread *first = begin(&clients[0], f, "{}", &doc, 1);
    until_blocked();
    block_loading(true);
    struct ft_thread *second = begin(&clients[1], f, "{\"model\": \"plus\"}", &doc, 1);
    until_in_line(f, 1);
    block(false);
    ends_well(&clients[0], first, &doc, 1, 0);
    encodes(f, "{}", 0); /* passes the one that waits for its model */
    block_loading(false);
    ends_well(&clients[1], second, &doc, 1, 1000);
    ft_buf_release(&doc);
}

/* Requests in hand are answered while the service goes down. */
static void stopping_answers_what_is_in_hand(void **state)
{
    struct fixture *f = *state;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct client client = {.f = f, .request = make_request("/encode", "{}", &doc, 1)};
    struct ft_thread *thread = NULL;
    struct ft_thread *unblock = NULL;
    block(true);
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL);
    struct ft_service *service = f->service;
    f->service = NULL;
    ASSERT_OK(ft_thread_start("stop", (ft_thread_main)ft_service_stop, service, &unblock, &err));
    (void)nanosleep(&nap, NULL);
    assert_int_equal(ft_rpc_ping(f->target, 500, &err), FT_UNAVAILABLE);
    block(false);
    ft_thread_join(thread);
    ft_thread_join(unblock);
    assert_int_equal(client.st, FT_OK);
    assert_false(client.answer.is_error);
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    ft_buf_release(&doc);
}

/* Each call finds no memory to ask gRPC for the next one: the service must not run out of open slots. */
static void moments_without_memory_cost_no_slot(void **state)
{
    const struct fixture *f = *state;
    struct ft_rpc_channel *channel = NULL; /* opened before: a client's own memory is not meant */
    ASSERT_OK(ft_rpc_channel_open(f->target, NULL, &channel, &err));
    for (int i = 0; i < 20; i++) {
        struct ft_rpc_answer answer;
        ft_alloc_fail_at(1);
        ASSERT_OK(ft_rpc_channel_call(channel, "/grpc.health.v1.Health/Check", ft_bytes_of(NULL, 0), 2000,
                                      &answer, &err));
        ft_alloc_fail_at(0);
        assert_int_equal(answer.code, 0);
        ft_rpc_answer_release(&answer);
    }
    ft_rpc_channel_close(channel);
}

static void stop_and_say(void *arg)
{
    struct fixture *f = arg;
    ft_service_stop(f->service);
    f->service = NULL;
}

/* A request to wait for a run that reaches the registry after the service began to go down: nobody will tell
 * of that run's end any more. */
static void a_late_wait_does_not_hold_the_service_up(void **state)
{
    struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    struct client client = {.f = f,
                            .request = make_request("/fit", "{\"act\": \"late\", \"wait\": true}", NULL, 0)};
    struct ft_thread *thread = NULL;
    struct ft_thread *stop = NULL;
    block(true);
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    until_blocked();
    ASSERT_OK(ft_thread_start("stop", stop_and_say, f, &stop, &err));
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL);
    block(false);
    ft_thread_join(thread);
    ft_thread_join(stop);
    assert_int_equal(client.st, FT_OK);
    assert_true(client.answer.is_error);
    assert_non_null(
        memmem(client.answer.message.data, client.answer.message.size, "going down", strlen("going down")));
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

static void starting_fails_with_the_reason(void **state)
{
    struct fixture *f = *state;
    struct ft_service *second = NULL;
    assert_int_equal(ft_service_start(&f->config, &ENGINE, &second, &err),
                     FT_BUSY); /* the workspace is held */
    struct ft_config config;
    char text[600];
    ASSERT_OK(ft_config_init(&config, &err));
    (void)snprintf(text, sizeof text, "%s/other", f->dir);
    ASSERT_OK(ft_config_set(&config, "test", "workspace", text, &err));
    ASSERT_OK(ft_config_set(&config, "test", "model", "broken.onnx", &err));
    assert_int_equal(ft_service_start(&config, &ENGINE, &second, &err), FT_CORRUPT);
    ASSERT_OK(ft_config_set(&config, "test", "model", "", &err));
    (void)snprintf(text, sizeof text, "%d", ft_service_port(f->service));
    ASSERT_OK(ft_config_set(&config, "test", "port", text, &err));
    ASSERT_OK(ft_config_set(&config, "test", "host", "127.0.0.1", &err));
    assert_int_equal(ft_service_start(&config, &ENGINE, &second, &err), FT_UNAVAILABLE);
    assert_null(second);
    ft_config_release(&config);
}

/* gRPC's own locks are not seen by ThreadSanitizer. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "worker") == 0) {
        return play(argv);
    }
    ft_log_level_set(FT_LOG_OFF);
#define WIDE(name) cmocka_unit_test_setup_teardown(name, set_up_wide, tear_down)
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(captured_requests_get_the_captured_answers),
        CASE(control_calls_are_answered),
        CASE(single_documents_are_answered),
        CASE(documents_that_do_not_fit_are_named),
        CASE(empty_requests_come_back),
        CASE(vectors_are_encoded_in_batches),
        CASE(train_fit_encode_and_fetch),
        CASE(a_full_queue_refuses_and_health_answers),
        WIDE(waiting_requests_are_computed_together),
        WIDE(a_bad_document_fails_only_its_own_request),
        WIDE(a_long_request_lets_others_pass),
        WIDE(a_request_whose_client_left_is_dropped),
        WIDE(a_new_model_comes_without_delay_and_a_broken_one_not_at_all),
        WIDE(a_new_model_stays_while_the_old_one_ends),
        WIDE(models_share_a_memory_limit),
        CASE(stopping_answers_what_is_in_hand),
        CASE(moments_without_memory_cost_no_slot),
        CASE(a_late_wait_does_not_hold_the_service_up),
        CASE(starting_fails_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
