#include "executor/rpc/page.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"

enum {
    ADDRESSES = 4,            /* that a host's name stands for and that are listened on */
    CONNECTIONS = 16,         /* of an address at a time; others wait in the listening socket */
    CONNECTIONS_OF_ONE = 8,   /* from one address; more are closed */
    QUIET_SECONDS = 10,       /* a connection on which nothing moves for so long is closed */
    CONNECTION_BYTES = 32768, /* of memory; a request's head must fit */
    BACKLOG = 64
};

struct ft_page {
    struct MHD_Daemon *daemons[ADDRESSES]; /* each with a thread */
    size_t n_daemons;
    pthread_mutex_t mutex; /* held while the page is written: one at a time */
    ft_page_write write;
    void *arg;
    int port;
};

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, struct ft_buf *take_body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(
        take_body->size, take_body->data, ft_free); /* owns the body if it is made */
    if (response == NULL) {
        ft_buf_release(take_body);
        return MHD_NO;
    }
    *take_body = (struct ft_buf){0};
    const char *kind = status == MHD_HTTP_OK ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain";
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, kind);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    enum MHD_Result done = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response); /* the connection keeps it as long as it needs it */
    return done;
}

/* NOLINTNEXTLINE(readability-function-size): the library says how many arguments there are */
static enum MHD_Result answer(void *arg, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *data, size_t *data_size,
                              void **seen)
{
    struct ft_page *page = arg;
    struct ft_err err = {0};
    struct ft_buf body = {0};
    unsigned status = MHD_HTTP_OK;
    enum ft_status st = FT_OK;
    (void)version;
    (void)data;
    bool known = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (known && *seen == NULL) { /* the head only; others are answered at once, their bodies are not read */
        *seen = page;
        return MHD_YES;
    }
    if (known && *data_size > 0) { /* a body that nobody asked for */
        *data_size = 0;
        return MHD_YES;
    }
    if (!known) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        st = ft_buf_text(&body, "GET or HEAD\n", &err);
    } else if (strcmp(path, "/") != 0 && strcmp(path, "/metrics") != 0) {
        status = MHD_HTTP_NOT_FOUND;
        st = ft_buf_text(&body, "the page is /metrics\n", &err);
    } else {
        (void)pthread_mutex_lock(&page->mutex);
        st = page->write(page->arg, &body, &err);
        (void)pthread_mutex_unlock(&page->mutex);
    }
    if (st != FT_OK) {
        FT_LOG_WARNING_LINE("rpc", "no page of metrics reason=\"%s\"", err.text);
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        body.size = 0;
        (void)!ft_buf_text(&body, "the page cannot be made\n", &err); /* else an empty body says it */
    }
    return respond(connection, status, &body);
}

/* Its own messages, which end in a newline of their own. */
static void log_line(void *arg, const char *fmt, va_list args)
{
    char text[300];
    (void)arg;
    if (vsnprintf(text, sizeof text, fmt, args) > 0) {
        text[strcspn(text, "\r\n")] = '\0';
        FT_LOG_DEBUG_LINE("rpc", "libmicrohttpd says text=\"%s\"", text);
    }
}

static enum ft_status find_addresses(const char *host, struct addrinfo **found, struct ft_err *err)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int cause = getaddrinfo(host, NULL, &hints, found);
    if (cause != 0) {
        *found = NULL;
        return FT_FAIL(err, UNAVAILABLE, "cannot listen on %.200s: %s", host, gai_strerror(cause));
    }
    return FT_OK;
}

/* An address with its port. */
union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static union address with_port(const struct addrinfo *found, int port)
{
    union address address = {.v6 = {0}};
    memcpy(&address, found->ai_addr, found->ai_addrlen < sizeof address ? found->ai_addrlen : sizeof address);
    if (address.any.sa_family == AF_INET6) {
        address.v6.sin6_port = htons((uint16_t)port);
    } else {
        address.v4.sin_port = htons((uint16_t)port);
    }
    return address;
}

/* 0.0.0.0 and ::, which mean every address of this machine to gRPC, whichever of them is written. */
static bool is_every(const struct addrinfo *found)
{
    union address address = with_port(found, 0);
    return address.any.sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&address.v6.sin6_addr)
                                             : address.v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

/* Whether this machine has IPv6 at all: containers often have not. */
static bool has_ipv6(void)
{
    union address every = {.v6 = {.sin6_family = AF_INET6}};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, &every.any, sizeof every.v6) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return has;
}

static struct MHD_Daemon *start(struct ft_page *page, const union address *address, unsigned family)
{
    unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ERROR_LOG | family;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, answer, page, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_SOCK_ADDR,
        &address->any, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_OF_ONE, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)QUIET_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_LISTEN_BACKLOG_SIZE,
        (unsigned)BACKLOG, MHD_OPTION_END);
}

/* The first address settles the port of all. */
static void listen_on(struct ft_page *page, const union address *address, unsigned family)
{
    struct MHD_Daemon *daemon = start(page, address, family);
    if (daemon != NULL) {
        page->daemons[page->n_daemons++] = daemon;
        page->port = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    }
}

/* As gRPC does: every address means both families, a name all addresses it stands for, of which one at least
 * must be ours. */
static void listen_on_all(struct ft_page *page, const struct addrinfo *found, int port)
{
    size_t asked = 0;
    page->port = port;
    for (const struct addrinfo *at = found; at != NULL && asked < ADDRESSES; at = at->ai_next) {
        union address address = with_port(at, page->port);
        unsigned family = address.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0;
        if (is_every(at) && has_ipv6()) {
            address = (union address){.v6 = {.sin6_family = AF_INET6,
                                             .sin6_port = htons((uint16_t)port),
                                             .sin6_addr = IN6ADDR_ANY_INIT}};
            listen_on(page, &address, MHD_USE_DUAL_STACK);
            return;
        }
        listen_on(page, &address, family);
        asked++;
    }
    if (page->n_daemons > 0 && page->n_daemons < asked) {
        FT_LOG_WARNING_LINE("rpc", "the page is not on all addresses of its host addresses=%zu of=%zu",
                            page->n_daemons, asked);
    }
}

enum ft_status ft_page_new(const char *host, int port, ft_page_write write, void *arg, struct ft_page **page,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_page *p = NULL;
    struct addrinfo *found = NULL;
    *page = NULL;
    FT_TRY(find_addresses(host, &found, err));
    FT_TRY(ft_new(1, sizeof *p, &p, err));
    (void)pthread_mutex_init(&p->mutex, NULL);
    p->write = write;
    p->arg = arg;
    listen_on_all(p, found, port);
    if (p->n_daemons == 0) {
        st = FT_FAIL(err, UNAVAILABLE,
                     "cannot listen on %.200s:%d: the port is taken or the address is not of this machine",
                     host, port);
        goto done;
    }
    *page = p;
    p = NULL;
done:
    if (found != NULL) {
        freeaddrinfo(found);
    }
    ft_page_free(p);
    return st;
}

int ft_page_port(const struct ft_page *page)
{
    return page->port;
}

void ft_page_free(struct ft_page *page)
{
    if (page == NULL) {
        return;
    }
    for (size_t i = 0; i < page->n_daemons; i++) {
        MHD_stop_daemon(page->daemons[i]);
    }
    (void)pthread_mutex_destroy(&page->mutex);
    ft_free(page);
}
