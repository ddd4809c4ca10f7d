/*
 * Preloaded into a service: keeps beside its files what a disk would hold of them if every write that was not
 * synced were lost.
 *
 * FT_SHADOW_OF names the folder that is watched (absolute), FT_SHADOW another one, outside of it:
 *   i-<inode>  the file's content at its last fsync() or fdatasync(); missing: never synced, so empty
 *   d-<inode>  the folder's entries, "<inode> <name>" a line, at its last fsync()
 * Files are replaced whole, so that a kill at any moment leaves one state. What was not synced is not there
 * at all: stricter than any disk; test_kill.c mixes some of it in again.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4096 };
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int watched(int fd)
{
    char link[64];
    char path[PATH];
    const char *of = getenv("FT_SHADOW_OF");
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (of == NULL || getenv("FT_SHADOW") == NULL || n < 0) {
        return 0;
    }
    path[n] = '\0';
    return strncmp(path, of, strlen(of)) == 0;
}

static void shadow_path(char path[PATH], char kind, unsigned long long inode, const char *suffix)
{
    (void)snprintf(path, PATH, "%s/%c-%llu%s", getenv("FT_SHADOW"), kind, inode, suffix);
}

static void give_up(const char *what)
{
    (void)fprintf(stderr, "unsynced: %s: %s\n", what, strerror(errno));
    abort();
}

static void put_all(int out, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(out, data, size);
        if (n <= 0) {
            give_up("write");
        }
        data += n;
        size -= (size_t)n;
    }
}

static void copy_content(int fd, int out)
{
    static char buf[1 << 16];
    char self[64];
    ssize_t n = 0;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd); /* it may be open for writing only */
    int in = openat(AT_FDCWD, self, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        give_up("open");
    }
    while ((n = read(in, buf, sizeof buf)) > 0) {
        put_all(out, buf, (size_t)n);
    }
    if (n < 0) {
        give_up("read");
    }
    (void)close(in);
}

static void copy_entries(int fd, int out)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    if (dir == NULL) {
        give_up("open folder");
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char line[512];
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            int n = snprintf(line, sizeof line, "%llu %s\n", (unsigned long long)e->d_ino, e->d_name);
            put_all(out, line, (size_t)n);
        }
    }
    (void)closedir(dir);
}

static void synced(int fd)
{
    struct stat s;
    char fresh[PATH];
    char path[PATH];
    if (!watched(fd) || fstat(fd, &s) != 0) {
        return;
    }
    (void)pthread_mutex_lock(&one_at_a_time);
    char kind = S_ISDIR(s.st_mode) ? 'd' : 'i';
    shadow_path(fresh, kind, s.st_ino, ".new");
    shadow_path(path, kind, s.st_ino, "");
    int out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0) {
        give_up("make");
    }
    if (kind == 'd') {
        copy_entries(fd, out);
    } else {
        copy_content(fd, out);
    }
    (void)close(out);
    if (rename(fresh, path) != 0) {
        give_up("rename");
    }
    (void)pthread_mutex_unlock(&one_at_a_time);
}

typedef int (*sync_call)(int);

static int sync_by(const char *name, int fd)
{
    sync_call real = (sync_call)dlsym(RTLD_NEXT, name);
    int result = real(fd);
    int cause = errno;
    if (result == 0) {
        synced(fd);
    }
    errno = cause;
    return result;
}

int fsync(int fd)
{
    return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_by("fdatasync", fd);
}

/* A new file may get the inode of one that is gone: it begins with nothing on the disk. */
int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    int fd = openat(AT_FDCWD, path, flags, mode);
    struct stat s;
    if (fd >= 0 && (flags & O_CREAT) != 0 && watched(fd) && fstat(fd, &s) == 0 && s.st_size == 0) {
        char gone[PATH];
        shadow_path(gone, 'i', s.st_ino, "");
        (void)unlink(gone);
    }
    return fd;
}
