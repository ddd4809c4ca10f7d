#include "executor/cli/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/pem.h"

enum {
    UNARY_MS = 60000, /* a call that only looks something up */
    MAX_PEM_BYTES = 16 << 20,
    LONGEST_WAIT_S = 60, /* that a service may ask for */
    TRIES = 7            /* in a row without progress: 0.5, 1, 2, 4, 8, 8, 8 s */
};

/* Codes of gRPC that are told apart here. */
enum {
    OK = 0,
    CANCELLED = 1,
    INVALID_ARGUMENT = 3,
    DEADLINE_EXCEEDED = 4,
    NOT_FOUND = 5,
    ALREADY_EXISTS = 6,
    PERMISSION_DENIED = 7,
    RESOURCE_EXHAUSTED = 8,
    FAILED_PRECONDITION = 9,
    OUT_OF_RANGE = 11,
    UNIMPLEMENTED = 12,
    UNAVAILABLE = 14,
    UNAUTHENTICATED = 16
};

bool ft_remote_wanted(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--server") == 0 || strncmp(argv[i], "--server=", 9) == 0) {
            return true;
        }
    }
    return false;
}

bool ft_remote_flag(const char *key)
{
    return strcmp(key, "tls") == 0;
}

enum ft_status ft_remote_option(struct ft_remote_args *args, const char *key, const char *value, bool *known,
                                struct ft_err *err)
{
    *known = true;
    if (strcmp(key, "server") == 0) {
        args->server = value;
    } else if (strcmp(key, "tls-ca") == 0) {
        args->tls_ca = value;
    } else if (strcmp(key, "tls-cert") == 0) {
        args->tls_cert = value;
    } else if (strcmp(key, "tls-key") == 0) {
        args->tls_key = value;
    } else if (strcmp(key, "tls") == 0) {
        return ft_arg_flag(key, value, &args->tls, err);
    } else {
        *known = false;
    }
    return FT_OK;
}

bool ft_remote_verb_flag(const char *key)
{
    return ft_remote_flag(key) || ft_output_flag(key);
}

enum ft_status ft_remote_verb_option(struct ft_remote_args *args, struct ft_output *output, const char *key,
                                     const char *value, bool *known, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_remote_option(args, key, value, known, err));
    return *known ? FT_OK : ft_output_option(output, key, value, known, err);
}

/* ---- the connection */

/* By options; grpcs:// in front says so too. */
static bool tls_wanted(const struct ft_remote_args *args)
{
    return args->tls || args->tls_ca != NULL || args->tls_cert != NULL;
}

static enum ft_status connect_to(struct ft_remote *r, struct ft_err *err)
{
    const struct ft_rpc_tls tls = {ft_buf_bytes(&r->ca), ft_buf_bytes(&r->cert), ft_buf_bytes(&r->key)};
    bool wanted = tls_wanted(&r->args);
    enum ft_status st = ft_rpc_channel_open(r->args.server, wanted ? &tls : NULL, &r->channel, err);
    if (st != FT_OK) {
        (void)ft_err_wrap(err, "--server");
    }
    return st == FT_INVALID && !wanted ? ft_usage(err) : st; /* else it may be what a file holds */
}

static enum ft_status read_pem(const char *path, struct ft_buf *pem, struct ft_err *err)
{
    return path != NULL ? ft_file_read(path, MAX_PEM_BYTES, pem, err) : FT_OK;
}

static enum ft_status named(enum ft_status st, const char *path, struct ft_err *err)
{
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s", path);
}

/* gRPC takes what is no certificate and then only says that nobody answers. */
static enum ft_status check_pem(const struct ft_remote *r, struct ft_err *err)
{
    int64_t expires = 0;
    struct ft_bytes cert = ft_buf_bytes(&r->cert);
    if (r->args.tls_ca != NULL) {
        FT_RETURN_IF_FAILED(named(ft_pem_roots(ft_buf_bytes(&r->ca), err), r->args.tls_ca, err));
    }
    if (r->args.tls_cert == NULL) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(named(ft_pem_certificate(cert, &expires, err), r->args.tls_cert, err));
    return named(ft_pem_key(ft_buf_bytes(&r->key), cert, err), r->args.tls_key, err);
}

enum ft_status ft_remote_open(const struct ft_remote_args *args, struct ft_remote *remote, struct ft_err *err)
{
    *remote = (struct ft_remote){.args = *args};
    if (args->server == NULL) {
        return FT_FAIL(err, USAGE, "--server HOST:PORT says which service: one that `finetuner serve` runs");
    }
    if ((args->tls_cert != NULL) != (args->tls_key != NULL)) {
        return FT_FAIL(err, USAGE, "--tls-cert and --tls-key go together");
    }
    FT_RETURN_IF_FAILED(read_pem(args->tls_ca, &remote->ca, err));
    FT_RETURN_IF_FAILED(read_pem(args->tls_cert, &remote->cert, err));
    FT_RETURN_IF_FAILED(read_pem(args->tls_key, &remote->key, err));
    FT_RETURN_IF_FAILED(check_pem(remote, err));
    return connect_to(remote, err);
}

void ft_remote_close(struct ft_remote *remote)
{
    ft_rpc_channel_close(remote->channel);
    ft_buf_release(&remote->ca);
    ft_buf_release(&remote->cert);
    ft_buf_release(&remote->key);
    *remote = (struct ft_remote){0};
}

void ft_remote_print_options(const struct ft_remote *remote)
{
    const struct ft_remote_args *a = &remote->args;
    (void)fprintf(stderr, " --server %s%s", a->server, a->tls ? " --tls" : "");
    if (a->tls_ca != NULL) {
        (void)fprintf(stderr, " --tls-ca %s", a->tls_ca);
    }
    if (a->tls_cert != NULL) {
        (void)fprintf(stderr, " --tls-cert %s --tls-key %s", a->tls_cert, a->tls_key);
    }
}

/* ---- statuses */

static enum ft_status status_of(int code)
{
    switch (code) {
    case OK:
        return FT_OK;
    case CANCELLED:
        return FT_CANCELLED;
    case INVALID_ARGUMENT:
    case FAILED_PRECONDITION:
    case OUT_OF_RANGE:
    case PERMISSION_DENIED:
    case UNAUTHENTICATED:
        return FT_INVALID;
    case NOT_FOUND:
        return FT_NOT_FOUND;
    case ALREADY_EXISTS:
        return FT_EXISTS;
    case RESOURCE_EXHAUSTED:
        return FT_BUSY;
    case UNIMPLEMENTED:
        return FT_UNSUPPORTED;
    case DEADLINE_EXCEEDED:
    case UNAVAILABLE:
        return FT_UNAVAILABLE;
    default:
        return FT_INTERNAL;
    }
}

/* What a person can do about a connection that did not come about. gRPC's texts tell what went wrong, inside
 * others. */
static const char *advice(const struct ft_remote *remote, const char *text)
{
    if (remote->reached) {
        return "; the service was there and went away";
    }
    if (strstr(text, "Connection refused") != NULL) {
        return "; nobody listens there: start it with `finetuner serve`, or look at host and port";
    }
    if (strstr(text, "DNS") != NULL || strstr(text, "resol") != NULL) {
        return "; look at the host's name";
    }
    if (strstr(text, "andshake") != NULL || strstr(text, "SSL") != NULL || strstr(text, "CERT") != NULL) {
        return "; one side talks TLS and the other does not, or does not trust it: --tls, --tls-ca FILE, "
               "--tls-cert FILE --tls-key FILE";
    }
    /* Who asks its clients for a certificate hangs up on those without one. */
    bool tls = tls_wanted(&remote->args) || strncmp(remote->args.server, "grpcs://", 8) == 0;
    if (tls && remote->args.tls_cert == NULL) {
        return "; it may want to know who asks: --tls-cert FILE --tls-key FILE; or it talks no TLS";
    }
    if (tls) {
        return "; it may not trust the certificate of --tls-cert, or talks no TLS";
    }
    return "; is it a finetuner service, and does it talk TLS (--tls)?";
}

/* ft_rpc's words for nobody there, with advice. */
static enum ft_status advised(const struct ft_remote *remote, struct ft_err *err)
{
    const struct ft_err why = *err;
    return ft_err_set(err, why.code, __FILE__, __LINE__, "%.700s%s", why.text, advice(remote, why.text));
}

enum ft_status ft_remote_ping(struct ft_remote *remote, int timeout_ms, struct ft_err *err)
{
    enum ft_status st = ft_rpc_channel_ping(remote->channel, timeout_ms, err);
    bool answered = strstr(err->text, ": not serving") != NULL || strstr(err->text, ": gRPC status") != NULL;
    return st == FT_UNAVAILABLE && !answered ? advised(remote, err) : st;
}

static enum ft_status failed(struct ft_remote *remote, const struct ft_rpc_answer *answer,
                             struct ft_v1_fault *fault, struct ft_err *err)
{
    struct ft_v1_fault told = {{0}, 0};
    struct ft_err none = {0};
    char field[sizeof told.field + 24] = "";
    char retry[64] = "";
    enum ft_status st = status_of(answer->code);
    if (ft_v1_status_read(ft_buf_bytes(&answer->status), &told, &none) != FT_OK) {
        told = (struct ft_v1_fault){{0}, 0};
    }
    remote->retry_seconds = told.retry_seconds;
    remote->reached = remote->reached || told.retry_seconds > 0; /* who is not there gives no advice */
    if (fault != NULL) {
        *fault = told;
    }
    if (told.field[0] != '\0') {
        (void)snprintf(field, sizeof field, " (at fault: %s)", told.field);
    }
    if (told.retry_seconds > 0) {
        (void)snprintf(retry, sizeof retry, "; try again in %.3g s", told.retry_seconds);
    }
    const char *why = answer->details[0] != '\0' ? answer->details : "no reason was given";
    const char *more = st == FT_UNSUPPORTED   ? "; it does not know this call: another or an older program"
                       : st == FT_UNAVAILABLE ? advice(remote, why)
                                              : "";
    return ft_err_set(err, st, __FILE__, __LINE__, "%s: %s%s%s%s", ft_rpc_channel_host(remote->channel), why,
                      field, retry, more);
}

enum ft_status ft_remote_ended(struct ft_remote *remote, const struct ft_rpc_stream *stream,
                               struct ft_v1_fault *fault, struct ft_err *err)
{
    const struct ft_rpc_answer *answer = ft_rpc_stream_answer(stream);
    remote->reached = remote->reached || answer->code != UNAVAILABLE;
    return answer->code == OK ? FT_OK : failed(remote, answer, fault, err);
}

bool ft_remote_at_fault(const struct ft_v1_fault *fault, size_t *document)
{
    static const char start[] = "documents[";
    char *end = NULL;
    if (strncmp(fault->field, start, sizeof start - 1) != 0) {
        return false;
    }
    *document = strtoul(fault->field + sizeof start - 1, &end, 10);
    return *end == ']';
}

/* ---- trying again */

static void nap(double seconds)
{
    const struct ft_cancel *cancel = ft_cli_cancel();
    for (double left = seconds; left > 0 && !ft_cancelled(cancel); left -= 0.1) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
}

/* A failure with `st` may pass by itself, and was not tried too often: waits. *tries: in a row. */
static bool again(struct ft_remote *remote, int *tries, enum ft_status st, bool quiet,
                  const struct ft_err *err)
{
    struct ft_err mine = {0};
    if ((st != FT_UNAVAILABLE && st != FT_BUSY) || (st == FT_UNAVAILABLE && !remote->reached) ||
        *tries == TRIES || ft_cancelled(ft_cli_cancel())) {
        return false;
    }
    double wait = *tries < 4 ? 0.5 * (double)(1 << *tries) : 8;
    wait = remote->retry_seconds > wait && remote->retry_seconds <= LONGEST_WAIT_S ? remote->retry_seconds
                                                                                   : wait;
    ++*tries;
    if (!quiet) {
        (void)fprintf(stderr, "%s; trying again in %.3g s (%d of %d)\n", err->text, wait, *tries, TRIES);
    }
    nap(wait);
    ft_rpc_channel_close(remote->channel); /* an old one waits for seconds before it connects again */
    remote->channel = NULL;
    return !ft_cancelled(ft_cli_cancel()) && connect_to(remote, &mine) == FT_OK;
}

enum ft_status ft_remote_keep_on(struct ft_remote *remote, const struct ft_remote_work *work, size_t *retries,
                                 struct ft_err *err)
{
    int tries = 0;
    for (;;) {
        uint64_t before = work->far(work->arg);
        enum ft_status st = work->stream(work->arg, err);
        if (work->open != NULL) {
            ft_rpc_stream_close(*work->open);
            *work->open = NULL;
        }
        ft_bar_clear(work->bar);
        tries = work->far(work->arg) > before ? 0 : tries;
        if (st == FT_OK || !again(remote, &tries, st, work->bar->quiet, err)) {
            return st;
        }
        if (retries != NULL) {
            ++*retries;
        }
    }
}

/* ---- calls */

static enum ft_status call_once(struct ft_remote *remote, const char *path, struct ft_bytes request,
                                enum ft_v1_type answer_type, struct ft_json **answer, struct ft_err *err)
{
    struct ft_rpc_answer got;
    struct ft_v1_fault fault = {{0}, 0};
    enum ft_status st = ft_rpc_channel_call(remote->channel, path, request, UNARY_MS, &got, err);
    if (st == FT_UNAVAILABLE) {
        return advised(remote, err);
    }
    FT_RETURN_IF_FAILED(st);
    remote->reached = true;
    if (got.code != OK) {
        st = failed(remote, &got, NULL, err);
    } else if (answer != NULL) {
        st = ft_v1_read(answer_type, ft_buf_bytes(&got.message), answer, &fault, err);
    }
    ft_rpc_answer_release(&got);
    return st;
}

static enum ft_status path_of(const char *method, struct ft_buf *path, struct ft_err *err)
{
    return ft_buf_printf(path, err, "/finetuner.v1.Finetuner/%s", method);
}

enum ft_status ft_remote_call(struct ft_remote *remote, const char *method, enum ft_v1_type request_type,
                              const struct ft_json *request, enum ft_v1_type answer_type,
                              struct ft_json **answer, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf path = {0};
    struct ft_buf message = {0};
    int tries = 0;
    FT_TRY(path_of(method, &path, err));
    FT_TRY(ft_v1_write(request_type, request, &message, err));
    do {
        st = call_once(remote, (const char *)path.data, ft_buf_bytes(&message), answer_type, answer, err);
    } while (st != FT_OK && again(remote, &tries, st, false, err));
done:
    ft_buf_release(&path);
    ft_buf_release(&message);
    return st;
}

enum ft_status ft_remote_request(const char *key, const char *value, struct ft_json **request,
                                 struct ft_err *err)
{
    *request = ft_json_object();
    enum ft_status st = *request != NULL ? ft_json_set(*request, key, ft_json_of_text(value), err)
                                         : FT_FAIL(err, NOMEM, "out of memory asking");
    if (st != FT_OK) {
        ft_json_free(*request);
        *request = NULL;
        st = st == FT_NOMEM ? FT_FAIL(err, USAGE, "%s is not UTF-8 text", key) : st;
    }
    return st;
}

enum ft_status ft_remote_dataset(struct ft_remote *remote, const char *name, struct ft_json **dataset,
                                 struct ft_err *err)
{
    struct ft_json *request = NULL;
    *dataset = NULL;
    enum ft_status st = ft_remote_request("dataset", name, &request, err);
    if (st == FT_OK) {
        st = ft_remote_call(remote, "GetDataset", FT_V1_GET_DATASET_REQUEST, request, FT_V1_DATASET, dataset,
                            err);
    }
    ft_json_free(request);
    return st;
}

static enum ft_status take_page(const struct ft_json *page, const char *key, struct ft_json *all,
                                struct ft_err *err)
{
    const struct ft_json *list = ft_json_get(page, key);
    for (size_t i = 0; i < ft_json_count(list); i++) {
        FT_RETURN_IF_FAILED(ft_json_push(all, ft_json_copy(ft_json_at(list, i)), err));
    }
    return FT_OK;
}

enum ft_status ft_remote_list(struct ft_remote *remote, const char *method, enum ft_v1_type request_type,
                              enum ft_v1_type answer_type, const char *key, struct ft_json **all,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_json *page = NULL;
    struct ft_json *list = ft_json_array();
    *all = NULL;
    if (list == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory listing");
    }
    do {
        ft_json_free(request);
        request = NULL;
        FT_TRY(ft_remote_request("page_token", ft_v1_text(page, "next_page_token"), &request, err));
        ft_json_free(page);
        page = NULL;
        FT_TRY(ft_remote_call(remote, method, request_type, request, answer_type, &page, err));
        FT_TRY(take_page(page, key, list, err));
    } while (ft_v1_text(page, "next_page_token")[0] != '\0');
    *all = list;
    list = NULL;
done:
    ft_json_free(list);
    ft_json_free(page);
    ft_json_free(request);
    return st;
}

enum ft_status ft_remote_content_name(const char *base, const char *sha256, char **name, struct ft_err *err)
{
    enum { STEM = 48, DIGEST_SHOWN = 12 };
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    struct ft_buf text = {0};
    size_t stem = strcspn(base, ".");
    enum ft_status st =
        ft_buf_printf(&text, err, "%.*s-%.*s", (int)(stem < STEM ? stem : STEM), base, DIGEST_SHOWN, sha256);
    for (size_t i = 0; st == FT_OK && i < text.size; i++) {
        text.data[i] = strchr(allowed, text.data[i]) != NULL ? text.data[i] : '_';
    }
    if (st == FT_OK) {
        st = ft_new_text((const char *)text.data, name, err);
    }
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_remote_stream(struct ft_remote *remote, const char *method, struct ft_rpc_stream **stream,
                                struct ft_err *err)
{
    struct ft_buf path = {0};
    *stream = NULL;
    enum ft_status st = path_of(method, &path, err);
    if (st == FT_OK) {
        st = ft_rpc_stream_begin(remote->channel, (const char *)path.data, stream, err);
    }
    ft_buf_release(&path);
    return st;
}

/* Sent, and the end of sending too. */
static enum ft_status ask(struct ft_remote *remote, const struct ft_remote_question *q,
                          struct ft_rpc_stream **stream, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *request = NULL;
    struct ft_buf message = {0};
    FT_TRY(ft_remote_request("run", q->run, &request, err));
    FT_TRY(ft_json_set(request, q->from_key, ft_json_of_int(q->from), err));
    FT_TRY(ft_v1_write(q->type, request, &message, err));
    FT_TRY(ft_remote_stream(remote, q->method, stream, err));
    ft_rpc_stream_send_last(*stream, ft_buf_bytes(&message));
done:
    ft_json_free(request);
    ft_buf_release(&message);
    return st;
}

enum ft_status ft_remote_follow(struct ft_remote *remote, const struct ft_remote_question *q,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    struct ft_rpc_stream *stream = NULL;
    struct ft_buf message = {0};
    FT_TRY(ask(remote, q, &stream, err));
    while (what != FT_RPC_NEXT_END) {
        if (ft_cancelled(ft_cli_cancel())) {
            st = FT_FAIL(err, CANCELLED, "%s", q->stopped);
            goto done;
        }
        FT_TRY(ft_rpc_stream_next(stream, FT_REMOTE_POLL_MS, &what, &message, err));
        if (what == FT_RPC_NEXT_MESSAGE) {
            FT_TRY(q->take(q->arg, ft_buf_bytes(&message), err));
        }
    }
    st = ft_remote_ended(remote, stream, NULL, err);
done:
    ft_rpc_stream_close(stream);
    ft_buf_release(&message);
    return st;
}
