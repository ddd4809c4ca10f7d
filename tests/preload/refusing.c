/*
 * Preloaded into a service: a disk that refuses. While the file FT_REFUSE_IF exists, writing and syncing
 * files below FT_REFUSE_OF (absolute) fail with the error whose number stands in it; so does making new ones.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int below(const char *path)
{
    const char *of = getenv("FT_REFUSE_OF");
    return of != NULL && strncmp(path, of, strlen(of)) == 0;
}

/* The error, or 0. */
static int refusal(void)
{
    char text[16] = "";
    const char *flag = getenv("FT_REFUSE_IF");
    int fd = flag == NULL ? -1 : openat(AT_FDCWD, flag, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    return n > 0 ? (int)strtol(text, NULL, 10) : 0;
}

static int refused(int fd)
{
    char link[64];
    char path[4096];
    int before = errno;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = '\0';
    int cause = n > 0 && below(path) ? refusal() : 0;
    errno = cause != 0 ? cause : before;
    return cause != 0;
}

typedef ssize_t (*write_call)(int, const void *, size_t);
typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);
typedef int (*sync_call)(int);

ssize_t write(int fd, const void *data, size_t size)
{
    return refused(fd) ? -1 : ((write_call)dlsym(RTLD_NEXT, "write"))(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return refused(fd) ? -1 : ((pwrite_call)dlsym(RTLD_NEXT, "pwrite"))(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return refused(fd) ? -1 : ((pwrite_call)dlsym(RTLD_NEXT, "pwrite64"))(fd, data, size, at);
}

int fsync(int fd)
{
    return refused(fd) ? -1 : ((sync_call)dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd)
{
    return refused(fd) ? -1 : ((sync_call)dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    int cause = (flags & O_CREAT) != 0 && below(path) ? refusal() : 0;
    if (cause != 0) {
        errno = cause;
        return -1;
    }
    return openat(AT_FDCWD, path, flags, mode);
}
