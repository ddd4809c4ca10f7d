#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"
#include "executor/server/monitor.h"
#include "executor/wire/docarray.h"

static void request_free(struct ft_request *request)
{
    ft_jina_request_release(&request->jina);
    ft_json_free(request->options);
    ft_arena_release(&request->arena);
    ft_free(request);
}

/* parameters without `__results__`; what stands under our own name goes over the rest, as Jina's executors do
 * it. */
static enum ft_status merge_options(struct ft_request *request, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_json *given = request->jina.parameters;
    struct ft_bytes name = ft_config_short_name(request->service->config);
    const struct ft_json *mine = NULL;
    request->options = ft_json_object();
    if (request->options == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading parameters");
    }
    for (struct ft_json_iter *it = ft_json_first(given); it != NULL; it = ft_json_next(given, it)) {
        const char *key = ft_json_key(it);
        const struct ft_json *value = ft_json_value(it);
        if (ft_bytes_is(name, key) && ft_json_kind(value) == FT_JSON_OBJECT) {
            mine = value;
        } else if (strcmp(key, "__results__") != 0) {
            FT_TRY(ft_json_set(request->options, key, ft_json_copy(value), err));
        }
    }
    for (struct ft_json_iter *it = ft_json_first(mine); it != NULL; it = ft_json_next(mine, it)) {
        FT_TRY(ft_json_set(request->options, ft_json_key(it), ft_json_copy(ft_json_value(it)), err));
    }
done:
    return st;
}

enum ft_status ft_request_read(struct ft_request *request, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(
        ft_jina_request_scan(ft_rpc_message(request->call), request->form, &request->jina, err));
    return merge_options(request, err);
}

/* Any pointer but NULL: a message of this stream failed, its end says so. */
static void mark_failed(struct ft_rpc_call *call, struct ft_service *service)
{
    ft_rpc_set_user(call, service);
}

/* The last step of every request: bytes out, and the call ends or reads on. */
static void send_out(struct ft_request *request, struct ft_buf *message, bool is_error)
{
    struct ft_rpc_call *call = request->call;
    struct ft_service *service = request->service;
    bool stream = request->stream;
    ft_monitor_request(service->monitor, request, message->size, is_error);
    request_free(request);
    bool sent = ft_rpc_send(call, message);
    assert(sent); /* one answer a message: the call's queue never fills */
    if (!stream) {
        ft_rpc_finish(call, FT_RPC_OK, NULL, is_error);
        return;
    }
    if (is_error) {
        mark_failed(call, service);
    }
    ft_rpc_read(call);
}

void ft_request_fail(struct ft_request *request, const struct ft_err *why)
{
    struct ft_buf out = {0};
    struct ft_err second = {0};
    struct ft_err told = *why;
    ft_path_hide(told.text, request->service->config->workspace);
    FT_LOG_DEBUG_LINE("server", "request refused request=\"%.*s\" endpoint=\"%.*s\" reason=\"%s\"",
                      ft_bytes_shown(request->jina.id), (const char *)request->jina.id.data,
                      ft_bytes_shown(request->jina.endpoint), (const char *)request->jina.endpoint.data,
                      why->text);
    if (why->code == FT_BUSY && !request->stream) {
        /* jina/SPEC.md 3.5: a gateway tries another replica, or this one again. One message of a stream
         * cannot be refused that way: it gets its answer like any other error. */
        struct ft_rpc_call *call = request->call;
        ft_monitor_request(request->service->monitor, request, 0, true);
        request_free(request);
        ft_rpc_finish(call, FT_RPC_UNAVAILABLE, told.text, false);
        return;
    }
    if (ft_jina_error(&request->jina, &told, &out, &second) != FT_OK) {
        ft_buf_release(&out);
        struct ft_rpc_call *call = request->call;
        ft_monitor_request(request->service->monitor, request, 0, true);
        request_free(request);
        ft_rpc_finish(call, FT_RPC_UNAVAILABLE, second.text, false);
        return;
    }
    send_out(request, &out, true);
}

void ft_request_answer(struct ft_request *request, struct ft_jina_reply *reply)
{
    struct ft_buf out = {0};
    struct ft_err err = {0};
    reply->route = ft_config_short_name(request->service->config);
    if (ft_jina_answer(&request->jina, reply, &out, &err) != FT_OK) {
        ft_buf_release(&out);
        ft_request_fail(request, &err);
        return;
    }
    send_out(request, &out, false);
}

void ft_request_pass(struct ft_request *request)
{
    struct ft_buf out = {0};
    struct ft_err err = {0};
    struct ft_bytes message = request->jina.message;
    if (ft_buf_append(&out, message.data, message.size, &err) != FT_OK) {
        ft_buf_release(&out);
        ft_request_fail(request, &err);
        return;
    }
    send_out(request, &out, false);
}

void ft_request_results(struct ft_request *request, struct ft_json *take_results)
{
    struct ft_err err = {0};
    if (take_results == NULL) {
        (void)FT_FAIL(&err, NOMEM, "out of memory answering");
        ft_request_fail(request, &err);
        return;
    }
    struct ft_jina_reply reply = {.results_key = request->service->config->name, .results = take_results};
    ft_request_answer(request, &reply);
    ft_json_free(take_results);
}

enum ft_status ft_wrap_document(const struct ft_document *docs, size_t i, struct ft_err *err)
{
    struct ft_bytes id = docs != NULL ? docs[i].id : ft_bytes_of(NULL, 0);
    if (id.size == 0) {
        return ft_err_wrap(err, "document %zu (no id)", i);
    }
    return ft_err_wrap(err, "document %zu (id '%.*s')", i, ft_bytes_shown(id), (const char *)id.data);
}

enum ft_status ft_hold_documents(struct ft_rpc_call *call, size_t count, struct ft_err *err)
{
    size_t size = ft_documents_bytes(count);
    if (ft_rpc_hold(call, size)) {
        return FT_OK;
    }
    if (!ft_rpc_could_hold(call, size)) {
        return FT_FAIL(
            err, LIMIT,
            "%zu Documents take %zu bytes beside their message of %zu, more than may be in hand at "
            "all: send fewer at once, or raise messages_mb of the service",
            count, size, ft_rpc_message(call).size);
    }
    return FT_FAIL(err, BUSY,
                   "%zu Documents take %zu bytes beside their message, and there is no room for them "
                   "(messages_mb): try again, or send fewer at once",
                   count, size);
}

enum ft_status ft_request_docs(struct ft_request *request, struct ft_err *err)
{
    const struct ft_jina_request *jina = &request->jina;
    if (jina->has_pickle) {
        return FT_FAIL(err, UNSUPPORTED,
                       "data.docs_bytes is a Python pickle and is not read: send data.docs");
    }
    if (jina->n_docs == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_hold_documents(request->call, jina->n_docs, err));
    FT_RETURN_IF_FAILED(
        ft_arena_new(&request->arena, jina->n_docs, sizeof *request->docs, &request->docs, err));
    for (size_t i = 0; i < jina->n_docs; i++) {
        enum ft_status st =
            ft_docarray_scan(jina->docs[i], jina->flavour, &request->arena, &request->docs[i], err);
        if (st != FT_OK) {
            return ft_wrap_document(request->docs, i, err);
        }
    }
    return FT_OK;
}

enum ft_status ft_request_text(const struct ft_request *request, const char *key, const char **text,
                               struct ft_err *err)
{
    const struct ft_json *value = ft_json_get(request->options, key);
    *text = ft_json_text(value, NULL);
    if (*text == NULL && ft_json_kind(value) != FT_JSON_NULL) {
        return FT_FAIL(err, INVALID, "parameters.%s is %s, not text", key,
                       ft_json_kind_name(ft_json_kind(value)));
    }
    return FT_OK;
}

enum ft_status ft_request_int(const struct ft_request *request, const char *key, int64_t standard,
                              int64_t low, int64_t high, int64_t *value, struct ft_err *err)
{
    const struct ft_json *given = ft_json_get(request->options, key);
    *value = standard;
    if (ft_json_kind(given) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (!ft_json_is_integral(given) || ft_json_int(given) < low || ft_json_int(given) > high) {
        return FT_FAIL(err, INVALID, "parameters.%s is not a whole number in %lld .. %lld", key,
                       (long long)low, (long long)high);
    }
    *value = ft_json_int(given);
    return FT_OK;
}
