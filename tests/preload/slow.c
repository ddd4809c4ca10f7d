/*
 * Preloaded into a service: a disk that takes its time. While the file that FT_SLOW names is there, every
 * fsync() and fdatasync() waits for as many milliseconds as it says first, or until it is gone; with
 * FT_SLOW_OF, those of files with that text in their paths.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_MS = 20 };

static void wait_first(void)
{
    const char *path = getenv("FT_SLOW");
    FILE *f = path != NULL ? fopen(path, "re") : NULL;
    long ms = 0;
    if (f == NULL) {
        return;
    }
    if (fscanf(f, "%ld", &ms) != 1) { /* NOLINT(cert-err34-c): a test's own file */
        ms = 0;
    }
    (void)fclose(f);
    for (long waited = 0; waited < ms && access(path, F_OK) == 0; waited += PIECE_MS) {
        long piece = ms - waited < PIECE_MS ? ms - waited : PIECE_MS;
        (void)nanosleep(&(struct timespec){0, piece * 1000000}, NULL);
    }
}

static int is_meant(int fd)
{
    char link[64];
    char path[4096];
    const char *of = getenv("FT_SLOW_OF");
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = '\0';
    return of == NULL || strstr(path, of) != NULL;
}

typedef int (*sync_function)(int);
static int call(const char *name, int fd)
{
    sync_function next = NULL;
    *(void **)&next = dlsym(RTLD_NEXT, name);
    if (is_meant(fd)) {
        wait_first();
    }
    return next(fd);
}

int fsync(int fd)
{
    return call("fsync", fd);
}

int fdatasync(int fd)
{
    return call("fdatasync", fd);
}
