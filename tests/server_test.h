/*
 * server_test.h - a service over real gRPC on the loopback, with an engine that this file brings and workers
 * that are the test's program again, and clients of it. For tests/test_server*.c.
 */
#ifndef FT_TESTS_SERVER_TEST_H
#define FT_TESTS_SERVER_TEST_H

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

static inline enum ft_status open_model(const struct ft_config *config, const char *path, void **encoder,
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

static inline void close_model(void *encoder)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.closes++;
    (void)pthread_mutex_unlock(&engine.mutex);
    ft_free(encoder);
}

static inline size_t four(void *encoder)
{
    (void)encoder;
    return DIM;
}

static inline size_t bytes(void *encoder)
{
    return ((const struct model *)encoder)->bytes;
}

/* A text weighs what it is long. */
static inline size_t weight(void *encoder, const struct ft_document *doc)
{
    (void)encoder;
    return doc->content.kind == FT_CONTENT_TEXT ? doc->content.bytes.size : 0;
}

static inline enum ft_status prepare(const struct ft_content *content, float *row, struct ft_err *e)
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
static inline void pass_gate(void)
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

static inline enum ft_status encode(void *encoder, const struct ft_document *docs, size_t count, float *out,
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

static inline void block(bool blocked)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.blocked = blocked;
    (void)pthread_cond_broadcast(&engine.changed);
    (void)pthread_mutex_unlock(&engine.mutex);
}

/* Returns when a thread of the service stands at the gate. */
static inline void until_blocked(void)
{
    (void)pthread_mutex_lock(&engine.mutex);
    while (!engine.waiting) {
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    (void)pthread_mutex_unlock(&engine.mutex);
}

static inline enum ft_status check_fit(const struct ft_json *options, struct ft_err *e)
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

static inline enum ft_status check_model(const char *path, struct ft_err *e)
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

static inline struct seen look(void)
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

static inline void break_models(bool broken)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.broken = broken;
    (void)pthread_mutex_unlock(&engine.mutex);
}

/* ---- a worker: what spec.json's act says */

static inline void put(const char *dir, const char *folder, const char *run, const char *name,
                       struct ft_bytes bytes)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s/%s", dir, folder, run);
    ASSERT_OK(ft_dir_make(path, &err));
    (void)snprintf(path, sizeof path, "%s/%s/%s/%s", dir, folder, run, name);
    ASSERT_OK(ft_file_write(path, bytes, &err));
}

static inline uint8_t *artifact_bytes(void)
{
    uint8_t *bytes = malloc(ARTIFACT_BYTES);
    for (size_t i = 0; i < ARTIFACT_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    return bytes;
}

static inline int play(char **argv)
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

static inline int start(void **state, const char *batch, const char *queue, const char *memory_mb)
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

static inline int set_up(void **state)
{
    return start(state, "3", "2", "0");
}

/* Room for many requests, and for one model of 600 kB. */
static inline int set_up_wide(void **state)
{
    return start(state, "4", "64", "1");
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    ft_service_stop(f->service);
    assert_int_equal(look().opens, look().closes);
    ft_config_release(&f->config);
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
    return 0;
}

static inline struct ft_rpc_answer call(const struct fixture *f, const char *method, struct ft_bytes request)
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
static inline struct ft_buf make_request(const char *endpoint, const char *parameters,
                                         const struct ft_buf *docs, size_t count)
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
static inline struct ft_buf vector_doc(const char *id, const char *label, float first)
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
static inline void ask(const struct fixture *f, const char *endpoint, const char *parameters,
                       const struct ft_buf *docs, size_t count, struct ft_rpc_answer *answer,
                       struct ft_jina_request *scanned)
{
    struct ft_buf request = make_request(endpoint, parameters, docs, count);
    *answer = call(f, SINGLE, ft_buf_bytes(&request));
    assert_int_equal(answer->code, 0);
    ASSERT_OK(ft_jina_request_scan(ft_buf_bytes(&answer->message), FT_JINA_DATA, scanned, &err));
    ft_buf_release(&request);
}

static inline void let_go(struct ft_rpc_answer *answer, struct ft_jina_request *scanned)
{
    ft_jina_request_release(scanned);
    ft_buf_release(&answer->message);
}

/* The service must refuse, saying this. */
static inline void refused(const struct fixture *f, const char *endpoint, const char *parameters,
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

static inline const struct ft_json *results_of(const struct ft_jina_request *scanned)
{
    const struct ft_json *results =
        ft_json_get(ft_json_get(scanned->parameters, "__results__"), "myexec/rep-0");
    assert_non_null(results);
    return results;
}

/* ---- clients with threads of their own */

struct client {
    const struct fixture *f;
    struct ft_buf request;
    struct ft_rpc_answer answer;
    enum ft_status st;
    struct ft_err why;
};

static inline void client_main(void *arg)
{
    struct client *c = arg;
    c->st = ft_rpc_call(c->f->target, SINGLE, ft_buf_bytes(&c->request), 20000, &c->answer, &c->why);
}

static inline struct ft_thread *begin(struct client *client, const struct fixture *f, const char *parameters,
                                      const struct ft_buf *docs, size_t count)
{
    struct ft_thread *thread = NULL;
    *client = (struct client){.f = f, .request = make_request("/encode", parameters, docs, count)};
    ASSERT_OK(ft_thread_start("client", client_main, client, &thread, &err));
    return thread;
}

static inline void until_in_line(const struct fixture *f, size_t count)
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
static inline void ends_well(struct client *client, struct ft_thread *thread, const struct ft_buf *docs,
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

static inline void ends_refused(struct client *client, struct ft_thread *thread, const char *part)
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

/* gRPC's own locks are not seen by ThreadSanitizer. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}

/* The program is to be a worker; else its tests are to run, silently. */
static inline bool is_worker(int argc, char **argv)
{
    ft_log_level_set(FT_LOG_OFF);
    return argc == 6 && strcmp(argv[1], "worker") == 0;
}

#define WIDE(name) cmocka_unit_test_setup_teardown(name, set_up_wide, tear_down)
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#endif
