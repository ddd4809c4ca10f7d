/*
 * page.h - one page of text over HTTP, for Prometheus: GET and HEAD of / and /metrics. Wraps libmicrohttpd,
 * whose headers never show outside this room.
 *
 * It listens where gRPC would for the same host: on every address of both families for 0.0.0.0 and ::, on all
 * that a name stands for. A thread of its own serves each, with a few connections at most, fewer from one
 * address: slow readers cost each other their place (more of one address are closed at once), and nobody
 * else. Other paths are 404, other methods 405. Thread-safety: new and free from one thread.
 */
#ifndef FT_RPC_PAGE_H
#define FT_RPC_PAGE_H

#include "executor/base/bytes.h"

struct ft_page; /* opaque */
/* Appends the page as it is now. On a thread of the page's, one at a time; a failure is answered with 500. */
typedef enum ft_status (*ft_page_write)(void *arg, struct ft_buf *out, struct ft_err *err);

/* Listens and serves at once; port 0: any free one. FT_UNAVAILABLE: the port is taken or the host is not
 * ours. *page: ft_page_free(). */
FT_MUST_CHECK enum ft_status ft_page_new(const char *host, int port, ft_page_write write, void *arg,
                                         struct ft_page **page, struct ft_err *err);
int ft_page_port(const struct ft_page *page);
void ft_page_free(struct ft_page *page); /* NULL is fine */
#endif
