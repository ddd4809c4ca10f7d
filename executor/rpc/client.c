#include "executor/rpc/client.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/rpc/internal.h"

enum {
    MAX_PEM_BYTES = 16 << 20,
    /* A peer that is gone without a word (a cable, a power cut) is found so much later. Servers of gRPC take
     * it ill to be asked more often than every five minutes. */
    KEEPALIVE_MS = 310000,
    KEEPALIVE_TIMEOUT_MS = 20000,
    BACKOFF_MS = 100,    /* before a connection is tried again: the least that gRPC takes */
    FIRST_TRY_MS = 500,  /* a connection that takes longer has not failed at once */
    SECOND_TRY_MS = 300, /* from its failure on */
};

struct ft_rpc_channel {
    grpc_channel *grpc;
    char *host;
    pthread_mutex_t meeting;
    bool met; /* its first connection has been tried */
};

/* ---- channels */

static enum ft_status read_target(const char *target, const char **host, bool *tls, struct ft_err *err)
{
    *host = target;
    *tls = strncmp(target, "grpcs://", 8) == 0;
    if (*tls) {
        *host = target + 8;
    } else if (strncmp(target, "grpc://", 7) == 0) {
        *host = target + 7;
    }
    if (strstr(*host, "://") != NULL || strchr(*host, ':') == NULL) {
        return FT_FAIL(err, INVALID, "'%s' is not a target: HOST:PORT, grpc://HOST:PORT or grpcs://HOST:PORT",
                       target);
    }
    return FT_OK;
}

/* Where distributions keep the certificates that the system trusts, as one file. gRPC would use a file of its
 * own. */
static enum ft_status system_roots(struct ft_buf *pem, struct ft_err *err)
{
    const char *const places[] = {getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt",
                                  "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                                  "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (places[i] != NULL && ft_path_kind(places[i]) == FT_PATH_FILE) {
            return ft_file_read(places[i], MAX_PEM_BYTES, pem, err);
        }
    }
    return FT_FAIL(err, NOT_FOUND,
                   "this system has no file of trusted certificates (Debian: package ca-certificates): name "
                   "the server's own authority");
}

static enum ft_status make_tls(const struct ft_rpc_tls *tls, grpc_channel_credentials **credentials,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf roots = {0};
    struct ft_buf certificate = {0};
    struct ft_buf key = {0};
    bool own = tls->certificate.size > 0;
    assert(own == (tls->key.size > 0));
    FT_TRY(tls->roots.size > 0 ? ft_buf_append(&roots, tls->roots.data, tls->roots.size, err)
                               : system_roots(&roots, err));
    if (own) {
        FT_TRY(ft_buf_append(&certificate, tls->certificate.data, tls->certificate.size, err));
        FT_TRY(ft_buf_append(&key, tls->key.data, tls->key.size, err));
    }
    grpc_ssl_pem_key_cert_pair pair = {(const char *)key.data, (const char *)certificate.data};
    *credentials = grpc_ssl_credentials_create((const char *)roots.data, own ? &pair : NULL, NULL, NULL);
    if (*credentials == NULL) {
        st = FT_FAIL(err, INVALID, "TLS cannot be set up with these certificates");
    }
done:
    ft_buf_release(&roots);
    ft_buf_release(&certificate);
    ft_buf_release(&key);
    return st;
}

/* TLS with whoever answers: only for questions that tell nobody anything. */
static enum ft_status make_unverified(const struct ft_rpc_tls *own, grpc_channel_credentials **credentials,
                                      struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf certificate = {0};
    struct ft_buf key = {0};
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();
    grpc_tls_certificate_verifier *verifier = grpc_tls_certificate_verifier_no_op_create();
    grpc_tls_credentials_options_set_verify_server_cert(options, 0);
    grpc_tls_credentials_options_set_certificate_verifier(options, verifier);
    grpc_tls_credentials_options_set_check_call_host(options, 0);
    grpc_tls_certificate_verifier_release(verifier);
    if (own->certificate.size > 0) {
        FT_TRY(ft_buf_append(&certificate, own->certificate.data, own->certificate.size, err));
        FT_TRY(ft_buf_append(&key, own->key.data, own->key.size, err));
        grpc_tls_identity_pairs *pairs = grpc_tls_identity_pairs_create();
        grpc_tls_identity_pairs_add_pair(pairs, (const char *)key.data, (const char *)certificate.data);
        grpc_tls_certificate_provider *provider =
            grpc_tls_certificate_provider_static_data_create(NULL, pairs);
        grpc_tls_credentials_options_set_certificate_provider(options, provider);
        grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
        grpc_tls_certificate_provider_release(provider);
    }
done:
    *credentials = grpc_tls_credentials_create(options); /* which owns the options, so also after a failure */
    ft_buf_release(&certificate);
    ft_buf_release(&key);
    return st;
}

static void add_int(grpc_arg *arg, const char *key, int value)
{
    memset(arg, 0, sizeof *arg);
    arg->type = GRPC_ARG_INTEGER;
    arg->key = (char *)(uintptr_t)key;
    arg->value.integer = value;
}

static void let_go(struct ft_rpc_channel *channel)
{
    (void)pthread_mutex_destroy(&channel->meeting);
    ft_free(channel->host);
    ft_free(channel);
    grpc_shutdown();
}

/* own: TLS unverified, showing that certificate if there is one; else NULL. */
static enum ft_status open_channel(const char *target, const struct ft_rpc_tls *tls,
                                   const struct ft_rpc_tls *own, struct ft_rpc_channel **channel,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const char *host = NULL;
    bool wants_tls = false;
    const struct ft_rpc_tls trusting = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct ft_rpc_channel *c = NULL;
    grpc_channel_credentials *credentials = NULL;
    *channel = NULL;
    FT_RETURN_IF_FAILED(read_target(target, &host, &wants_tls, err));
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *c, &c, err));
    ft_rpc_log_init();
    grpc_init();
    (void)pthread_mutex_init(&c->meeting, NULL);
    FT_TRY(ft_new_text(host, &c->host, err));
    if (own != NULL) {
        FT_TRY(make_unverified(own, &credentials, err));
    } else if (tls != NULL || wants_tls) {
        FT_TRY(make_tls(tls != NULL ? tls : &trusting, &credentials, err));
    } else {
        credentials = grpc_insecure_credentials_create();
    }
    grpc_arg args[6];
    add_int(&args[0], GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1);
    add_int(&args[1], GRPC_ARG_ENABLE_HTTP_PROXY, 0); /* that address, not whatever a proxy setting names */
    add_int(&args[2], GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); /* a connection of its own */
    add_int(&args[3], GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS);
    add_int(&args[4], GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
    add_int(&args[5], GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_MS);
    const grpc_channel_args list = {6, args};
    c->grpc = grpc_channel_create(host, credentials, &list);
    *channel = c;
    c = NULL;
done:
    if (credentials != NULL) {
        grpc_channel_credentials_release(credentials);
    }
    if (c != NULL) {
        let_go(c);
    }
    return st;
}

enum ft_status ft_rpc_channel_open(const char *target, const struct ft_rpc_tls *tls,
                                   struct ft_rpc_channel **channel, struct ft_err *err)
{
    return open_channel(target, tls, NULL, channel, err);
}

void ft_rpc_channel_close(struct ft_rpc_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    grpc_channel_destroy(channel->grpc);
    let_go(channel);
}

const char *ft_rpc_channel_host(const struct ft_rpc_channel *channel)
{
    return channel->host;
}

static gpr_timespec in_ms(int ms)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

/* The state after `state`, or that one still at the deadline. */
static grpc_connectivity_state next_state(grpc_channel *channel, grpc_connectivity_state state,
                                          gpr_timespec deadline)
{
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    grpc_channel_watch_connectivity_state(channel, state, deadline, queue, NULL);
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue);
    return grpc_channel_check_connectivity_state(channel, 1);
}

/* Other calls stand between gRPC 1.51's connect() and its look at errno (grpc/grpc#35064), so that a
 * connection which is being made can be taken for one that failed, with whatever errno they left. One of them
 * absl makes once in a process: it looks for a file that is not there. So a first connection that fails at
 * once is tried again. */
static void meet(grpc_channel *channel, gpr_timespec deadline)
{
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(channel, 1);
    gpr_timespec end = gpr_time_min(deadline, in_ms(FIRST_TRY_MS));
    while ((state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING) &&
           gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), end) < 0) {
        state = next_state(channel, state, end);
    }
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
        (void)next_state(channel, state, gpr_time_min(deadline, in_ms(SECOND_TRY_MS)));
    }
}

grpc_call *ft_rpc_channel_begin(struct ft_rpc_channel *channel, grpc_completion_queue *queue,
                                const char *method, gpr_timespec deadline)
{
    (void)pthread_mutex_lock(&channel->meeting);
    if (!channel->met) {
        meet(channel->grpc, deadline);
        channel->met = true;
    }
    (void)pthread_mutex_unlock(&channel->meeting);
    grpc_slice path = grpc_slice_from_copied_string(method);
    grpc_call *call = grpc_channel_create_call(channel->grpc, NULL, GRPC_PROPAGATE_DEFAULTS, queue, path,
                                               NULL, deadline, NULL);
    grpc_slice_unref(path);
    return call;
}

/* ---- what comes back */

void ft_rpc_answer_release(struct ft_rpc_answer *answer)
{
    ft_buf_release(&answer->message);
    ft_buf_release(&answer->status);
}

enum ft_status ft_rpc_take_message(grpc_byte_buffer *message, struct ft_buf *out, struct ft_err *err)
{
    grpc_byte_buffer_reader reader;
    if (grpc_byte_buffer_reader_init(&reader, message) == 0) {
        return FT_FAIL(err, CORRUPT, "an answer cannot be read");
    }
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    enum ft_status st = ft_buf_append(out, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), err);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return st;
}

enum ft_status ft_rpc_take_status(grpc_status_code code, grpc_slice details,
                                  const grpc_metadata_array *trailing, struct ft_rpc_answer *answer,
                                  struct ft_err *err)
{
    answer->code = (int)code;
    size_t length = GRPC_SLICE_LENGTH(details);
    (void)snprintf(answer->details, sizeof answer->details, "%.*s",
                   (int)(length < sizeof answer->details ? length : sizeof answer->details - 1),
                   (const char *)GRPC_SLICE_START_PTR(details));
    for (size_t i = 0; i < trailing->count; i++) {
        const grpc_metadata *md = &trailing->metadata[i];
        if (grpc_slice_str_cmp(md->key, "is-error") == 0 && grpc_slice_str_cmp(md->value, "true") == 0) {
            answer->is_error = true;
        } else if (grpc_slice_str_cmp(md->key, "grpc-status-details-bin") == 0) {
            answer->status.size = 0;
            FT_RETURN_IF_FAILED(ft_buf_append(&answer->status, GRPC_SLICE_START_PTR(md->value),
                                              GRPC_SLICE_LENGTH(md->value), err));
        }
    }
    return FT_OK;
}

/* ---- one unary call */

/* Everything it holds; released whole. */
struct call_state {
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_byte_buffer *request, *response;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice details;
};

static void open_call(struct call_state *s, struct ft_rpc_channel *channel, const char *method,
                      struct ft_bytes request, int timeout_ms)
{
    s->queue = grpc_completion_queue_create_for_pluck(NULL);
    s->call = ft_rpc_channel_begin(channel, s->queue, method, in_ms(timeout_ms));
    grpc_slice body = grpc_slice_from_copied_buffer((const char *)request.data, request.size);
    s->request = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice_unref(body);
    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    s->details = grpc_empty_slice();
}

static void close_call(struct call_state *s)
{
    grpc_byte_buffer_destroy(s->request);
    grpc_byte_buffer_destroy(s->response);
    grpc_metadata_array_destroy(&s->initial);
    grpc_metadata_array_destroy(&s->trailing);
    grpc_slice_unref(s->details);
    grpc_call_unref(s->call);
    grpc_completion_queue_shutdown(s->queue);
    while (grpc_completion_queue_pluck(s->queue, NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(s->queue);
}

/* Start everything at once and wait: the deadline is the call's own. */
static void exchange(struct call_state *s)
{
    grpc_op ops[6];
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = s->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &s->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &s->trailing;
    ops[5].data.recv_status_on_client.status = &s->code;
    ops[5].data.recv_status_on_client.status_details = &s->details;
    grpc_call_error cause = grpc_call_start_batch(s->call, ops, 6, s, NULL);
    if (cause != GRPC_CALL_OK) {
        s->code = GRPC_STATUS_INTERNAL;
        return;
    }
    (void)grpc_completion_queue_pluck(s->queue, s, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
}

enum ft_status ft_rpc_channel_call(struct ft_rpc_channel *channel, const char *method,
                                   struct ft_bytes request, int timeout_ms, struct ft_rpc_answer *answer,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct call_state s;
    memset(answer, 0, sizeof *answer);
    memset(&s, 0, sizeof s);
    open_call(&s, channel, method, request, timeout_ms);
    exchange(&s);
    if (s.code == GRPC_STATUS_UNAVAILABLE || s.code == GRPC_STATUS_DEADLINE_EXCEEDED) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: %s: %.*s", channel->host,
                     s.code == GRPC_STATUS_UNAVAILABLE ? "unavailable" : "no answer in time",
                     (int)GRPC_SLICE_LENGTH(s.details), (const char *)GRPC_SLICE_START_PTR(s.details));
    } else {
        st = ft_rpc_take_status(s.code, s.details, &s.trailing, answer, err);
        if (st == FT_OK && s.response != NULL) {
            st = ft_rpc_take_message(s.response, &answer->message, err);
        }
    }
    close_call(&s);
    if (st != FT_OK) {
        ft_rpc_answer_release(answer);
        memset(answer, 0, sizeof *answer);
    }
    return st;
}

enum ft_status ft_rpc_call(const char *target, const char *method, struct ft_bytes request, int timeout_ms,
                           struct ft_rpc_answer *answer, struct ft_err *err)
{
    struct ft_rpc_channel *channel = NULL;
    memset(answer, 0, sizeof *answer);
    FT_RETURN_IF_FAILED(ft_rpc_channel_open(target, NULL, &channel, err));
    enum ft_status st = ft_rpc_channel_call(channel, method, request, timeout_ms, answer, err);
    ft_rpc_channel_close(channel);
    return st;
}

enum ft_status ft_rpc_channel_ping(struct ft_rpc_channel *channel, int timeout_ms, struct ft_err *err)
{
    struct ft_rpc_answer answer;
    const char *target = channel->host;
    FT_RETURN_IF_FAILED(ft_rpc_channel_call(channel, "/grpc.health.v1.Health/Check", ft_bytes_of(NULL, 0),
                                            timeout_ms, &answer, err));
    static const uint8_t serving[] = {0x08, 0x01}; /* HealthCheckResponse{status: SERVING} */
    enum ft_status st = FT_OK;
    if (answer.code != 0) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: gRPC status %d: %s", target, answer.code, answer.details);
    } else if (!ft_bytes_equal(ft_buf_bytes(&answer.message), ft_bytes_of(serving, sizeof serving))) {
        st = FT_FAIL(err, UNAVAILABLE, "%s: not serving", target);
    }
    ft_rpc_answer_release(&answer);
    return st;
}

static enum ft_status ping_once(const char *target, const struct ft_rpc_tls *own, int timeout_ms,
                                struct ft_err *err)
{
    struct ft_rpc_channel *channel = NULL;
    FT_RETURN_IF_FAILED(open_channel(target, NULL, own, &channel, err));
    enum ft_status st = ft_rpc_channel_ping(channel, timeout_ms, err);
    ft_rpc_channel_close(channel);
    return st;
}

enum ft_status ft_rpc_ping(const char *target, int timeout_ms, struct ft_err *err)
{
    return ping_once(target, NULL, timeout_ms, err);
}

enum ft_status ft_rpc_ping_any(const char *target, const struct ft_rpc_tls *own, int timeout_ms,
                               struct ft_err *err)
{
    const char *host = NULL;
    bool tls = false;
    struct ft_err as_tls = {0};
    double began = ft_clock_seconds();
    FT_RETURN_IF_FAILED(read_target(target, &host, &tls, err));
    if (!tls && (host != target || !ft_rpc_waits_for_client(host, timeout_ms))) {
        return ft_rpc_ping(target, timeout_ms, err);
    }
    if (ping_once(host, own, timeout_ms, &as_tls) == FT_OK) {
        return FT_OK;
    }
    /* It may be one that was too busy to speak at once. */
    int left_ms = timeout_ms - (int)((ft_clock_seconds() - began) * 1000);
    if (!tls && left_ms > 0 && ft_rpc_ping(host, left_ms, err) == FT_OK) {
        return FT_OK;
    }
    return FT_FAIL(err, UNAVAILABLE, "asked with TLS: %s", as_tls.text);
}
