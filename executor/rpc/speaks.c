#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/rpc/internal.h"

/* A plain server of gRPC sends its SETTINGS as soon as somebody connects; one of TLS waits for its client. */

enum { PATIENCE_MS = 300, PORT_TEXT = 8 };

static bool wait_for(int fd, short what, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = what};
    int found = 0;
    do {
        found = poll(&poll_fd, 1, timeout_ms);
    } while (found < 0 && errno == EINTR);
    return found == 1;
}

static int connect_to(const struct addrinfo *address, int timeout_ms)
{
    int cause = 0;
    socklen_t size = sizeof cause;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if ((connect(fd, address->ai_addr, address->ai_addrlen) == 0 ||
         (errno == EINPROGRESS && wait_for(fd, POLLOUT, timeout_ms))) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &cause, &size) == 0 && cause == 0) {
        return fd;
    }
    (void)close(fd);
    return -1;
}

static bool is_silent(const char *host, const char *port, int timeout_ms)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return false;
    }
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = connect_to(at, timeout_ms);
    }
    freeaddrinfo(found);
    bool silent = fd >= 0 && !wait_for(fd, POLLIN, timeout_ms < PATIENCE_MS ? timeout_ms : PATIENCE_MS);
    if (fd >= 0) {
        (void)close(fd);
    }
    return silent;
}

bool ft_rpc_waits_for_client(const char *target, int timeout_ms)
{
    bool brackets = target[0] == '[';
    char *host = ft_strdup(target + (brackets ? 1 : 0));
    char *end = host == NULL ? NULL : brackets ? strstr(host, "]:") : strrchr(host, ':');
    bool silent = false;
    if (end != NULL) {
        *end = '\0';
        silent = is_silent(host, end + (brackets ? 2 : 1), timeout_ms);
    }
    ft_free(host);
    return silent;
}
