#include "executor/rpc/page.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"

enum {
    CONNECTIONS = 16,         /* at a time; others wait in the listening socket */
    CONNECTIONS_OF_ONE = 8,   /* from one address; more are closed */
    QUIET_SECONDS = 10,       /* a connection on which nothing moves for so long is closed */
    CONNECTION_BYTES = 32768, /* of memory; a request's head must fit */
    BACKLOG = 64
};

struct ft_page {
    struct MHD_Daemon *daemon;
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
        st = page->write(page->arg, &body, &err);
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

static enum ft_status find_address(const char *host, int port, struct addrinfo **found, struct ft_err *err)
{
    char service[16];
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    (void)snprintf(service, sizeof service, "%d", port);
    int cause = getaddrinfo(host, service, &hints, found);
    if (cause != 0) {
        *found = NULL;
        return FT_FAIL(err, UNAVAILABLE, "cannot listen on %.200s: %s", host, gai_strerror(cause));
    }
    return FT_OK;
}

static struct MHD_Daemon *start(struct ft_page *page, const struct addrinfo *address)
{
    unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ERROR_LOG |
                     (address->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    return MHD_start_daemon(
        flags, 0, NULL, NULL, answer, page, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_SOCK_ADDR,
        address->ai_addr, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)CONNECTIONS_OF_ONE, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)QUIET_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_LISTEN_BACKLOG_SIZE, (unsigned)BACKLOG, MHD_OPTION_END);
}

enum ft_status ft_page_new(const char *host, int port, ft_page_write write, void *arg, struct ft_page **page,
                           struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_page *p = NULL;
    struct addrinfo *address = NULL;
    *page = NULL;
    FT_TRY(find_address(host, port, &address, err));
    FT_TRY(ft_new(1, sizeof *p, &p, err));
    p->write = write;
    p->arg = arg;
    p->daemon = start(p, address);
    if (p->daemon == NULL) {
        st = FT_FAIL(err, UNAVAILABLE,
                     "cannot listen on %.200s:%d: the port is taken or the address is not of this machine",
                     host, port);
        goto done;
    }
    p->port = MHD_get_daemon_info(p->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    *page = p;
    p = NULL;
done:
    if (address != NULL) {
        freeaddrinfo(address);
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
    if (page->daemon != NULL) {
        MHD_stop_daemon(page->daemon);
    }
    ft_free(page);
}
