#include "executor/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"

/* The last `cause` is errno. Paths are cut so that the reason always fits the message. */
static enum ft_status fail_path(struct ft_err *err, const char *verb, const char *path, int cause)
{
    char reason[128];
    const char *why = strerror_r(cause, reason, sizeof reason);
    switch (cause) {
    case ENOENT:
    case ENOTDIR:
        return FT_FAIL(err, NOT_FOUND, "cannot %s %.800s: %s", verb, path, why);
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return FT_FAIL(err, INVALID, "cannot %s %.800s: %s", verb, path, why);
    case EEXIST:
        return FT_FAIL(err, EXISTS, "cannot %s %.800s: %s", verb, path, why);
    case ENOMEM:
        return FT_FAIL(err, NOMEM, "cannot %s %.800s: %s", verb, path, why);
    default:
        return FT_FAIL(err, IO, "cannot %s %.800s: %s", verb, path, why);
    }
}

enum ft_path_kind ft_path_kind(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) {
        return FT_PATH_NONE;
    }
    if (S_ISREG(s.st_mode)) {
        return FT_PATH_FILE;
    }
    return S_ISDIR(s.st_mode) ? FT_PATH_DIR : FT_PATH_OTHER;
}

enum ft_status ft_path_join(const char *dir, const char *name, char **out, struct ft_err *err)
{
    *out = NULL;
    size_t dir_size = strlen(dir);
    bool rooted = dir_size > 0 && dir[0] == '/';
    while (dir_size > 0 && dir[dir_size - 1] == '/') {
        dir_size--;
    }
    while (*name == '/') {
        name++;
    }
    size_t name_size = strlen(name);
    char *path = ft_alloc(dir_size + name_size + 2);
    if (path == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for a path");
    }
    memcpy(path, dir, dir_size);
    size_t at = dir_size;
    if (dir_size > 0 || rooted) {
        path[at++] = '/';
    }
    memcpy(path + at, name, name_size);
    path[at + name_size] = '\0';
    *out = path;
    return FT_OK;
}

const char *ft_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void ft_path_trim(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) {
        path[n - 1] = '\0';
    }
}

void ft_path_hide(char *text, const char *folder)
{
    size_t n = strlen(folder);
    while (n > 0 && folder[n - 1] == '/') {
        n--;
    }
    if (n == 0 || folder[0] != '/') {
        return;
    }
    for (char *at = text; *at != '\0';) {
        bool begins = strncmp(at, folder, n) == 0 && at[n] == '/';
        if (begins) {
            memmove(at, at + n + 1, strlen(at + n + 1) + 1);
        } else {
            at++;
        }
    }
}

bool ft_path_has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path);
    size_t k = strlen(suffix);
    return n >= k && strcasecmp(path + n - k, suffix) == 0;
}

/* The folder that holds `path`, as the caller's text. */
static enum ft_status parent_of(const char *path, char **out, struct ft_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    *out = n == 0 ? ft_strdup(".") : ft_strndup(path, n);
    return *out != NULL ? FT_OK : FT_FAIL(err, NOMEM, "no memory for a path");
}

static enum ft_status sync_parent(const char *path, struct ft_err *err)
{
    char *parent = NULL;
    FT_RETURN_IF_FAILED(parent_of(path, &parent, err));
    enum ft_status st = ft_dir_sync(parent, err);
    ft_free(parent);
    return st;
}

static enum ft_status read_all(int fd, const char *path, size_t max_bytes, struct ft_buf *buf,
                               struct ft_err *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0) {
        return fail_path(err, "read", path, errno);
    }
    if (S_ISDIR(s.st_mode)) {
        return fail_path(err, "read", path, EISDIR);
    }
    /* The size is a hint: pipes have none and a file may grow while it is read. */
    size_t hint = S_ISREG(s.st_mode) && s.st_size > 0 ? (size_t)s.st_size : 0;
    if (hint > max_bytes) {
        return FT_FAIL(err, LIMIT, "%.800s has %zu bytes, more than the limit of %zu", path, hint, max_bytes);
    }
    FT_RETURN_IF_FAILED(ft_buf_reserve(buf, hint + 1, err));
    for (;;) {
        FT_RETURN_IF_FAILED(ft_buf_reserve(buf, 1, err));
        ssize_t n = read(fd, buf->data + buf->size, buf->capacity - buf->size - 1);
        if (n == 0) {
            buf->data[buf->size] = '\0';
            return FT_OK;
        }
        if (n < 0 && errno != EINTR) {
            return fail_path(err, "read", path, errno);
        }
        buf->size += n > 0 ? (size_t)n : 0;
        if (buf->size > max_bytes) {
            return FT_FAIL(err, LIMIT, "%.800s has more than the limit of %zu bytes", path, max_bytes);
        }
    }
}

enum ft_status ft_file_read(const char *path, size_t max_bytes, struct ft_buf *buf, struct ft_err *err)
{
    *buf = (struct ft_buf){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_path(err, "open", path, errno);
    }
    enum ft_status st = read_all(fd, path, max_bytes, buf, err);
    (void)close(fd);
    if (st != FT_OK) {
        ft_buf_release(buf);
    }
    return st;
}

/* A name of ours in the folder of `path`; O_EXCL makes it unique and the mode follows the caller's umask,
 * which mkstemp() would not. */
static enum ft_status open_temporary(const char *path, char **name, int *fd, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *parent = NULL;
    char *temporary = NULL;
    char base[64];
    FT_TRY(parent_of(path, &parent, err));
    for (int i = 0; i < 100; i++) {
        struct timespec now = {0};
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        (void)snprintf(base, sizeof base, ".ft-%ld-%lld%09ld.tmp", (long)getpid(), (long long)now.tv_sec,
                       now.tv_nsec);
        ft_free(temporary);
        temporary = NULL;
        FT_TRY(ft_path_join(parent, base, &temporary, err));
        *fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) {
            *name = temporary;
            temporary = NULL;
            goto done;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    st = fail_path(err, "write", path, errno);
done:
    ft_free(parent);
    ft_free(temporary);
    return st;
}

static enum ft_status write_all(int fd, const char *path, struct ft_bytes bytes, struct ft_err *err)
{
    size_t at = 0;
    while (at < bytes.size) {
        ssize_t n = write(fd, bytes.data + at, bytes.size - at);
        if (n < 0 && errno != EINTR) {
            return fail_path(err, "write", path, errno);
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) == 0 ? FT_OK : fail_path(err, "write", path, errno);
}

enum ft_status ft_file_write(const char *path, struct ft_bytes bytes, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *temporary = NULL;
    int fd = -1;
    FT_TRY(open_temporary(path, &temporary, &fd, err));
    FT_TRY(write_all(fd, path, bytes, err));
    int closed = close(fd);
    fd = -1;
    if (closed != 0) {
        st = fail_path(err, "write", path, errno);
        goto done;
    }
    FT_TRY(ft_path_rename(temporary, path, err));
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    if (temporary != NULL && st != FT_OK) {
        (void)unlink(temporary);
    }
    ft_free(temporary);
    return st;
}

static enum ft_status map_fd(int fd, const char *path, struct ft_mapping *map, struct ft_err *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0) {
        return fail_path(err, "map", path, errno);
    }
    if (S_ISDIR(s.st_mode)) {
        return fail_path(err, "map", path, EISDIR);
    }
    if (!S_ISREG(s.st_mode)) {
        return FT_FAIL(err, INVALID, "cannot map %.800s: it is not a regular file", path);
    }
    if (s.st_size == 0) {
        return FT_OK;
    }
    void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        return fail_path(err, "map", path, errno);
    }
    map->bytes = ft_bytes_of(p, (size_t)s.st_size);
    return FT_OK;
}

enum ft_status ft_file_map(const char *path, struct ft_mapping *map, struct ft_err *err)
{
    *map = (struct ft_mapping){0};
    /* O_NONBLOCK: opening a pipe without a writer must fail the check below, not wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return fail_path(err, "open", path, errno);
    }
    enum ft_status st = map_fd(fd, path, map, err);
    (void)close(fd);
    return st;
}

void ft_file_unmap(struct ft_mapping *map)
{
    if (map->bytes.data != NULL) {
        (void)munmap((void *)(uintptr_t)map->bytes.data, map->bytes.size);
    }
    *map = (struct ft_mapping){0};
}

static enum ft_status make_one(const char *path, struct ft_err *err)
{
    if (mkdir(path, 0777) == 0) {
        return sync_parent(path, err);
    }
    int cause = errno;
    if (cause == EEXIST && ft_path_kind(path) == FT_PATH_DIR) {
        return FT_OK;
    }
    return fail_path(err, "make folder", path, cause);
}

enum ft_status ft_dir_make(const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *part = NULL;
    if (ft_path_kind(path) == FT_PATH_DIR) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_new_text(path, &part, err));
    for (char *p = part; *p != '\0'; p++) {
        if (*p != '/' || p == part || p[-1] == '/') {
            continue;
        }
        *p = '\0';
        if (ft_path_kind(part) != FT_PATH_DIR) {
            FT_TRY(make_one(part, err));
        }
        *p = '/';
    }
    st = make_one(path, err);
done:
    ft_free(part);
    return st;
}

enum ft_status ft_dir_sync(const char *path, struct ft_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_path(err, "open folder", path, errno);
    }
    /* Some file systems have nothing to flush for a folder and say EINVAL. */
    enum ft_status st = FT_OK;
    if (fsync(fd) != 0 && errno != EINVAL) {
        st = fail_path(err, "flush folder", path, errno);
    }
    (void)close(fd);
    return st;
}

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

enum ft_status ft_dir_list(const char *path, struct ft_dir_list *list, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t capacity = 0;
    *list = (struct ft_dir_list){0};
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return fail_path(err, "list folder", path, errno);
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        FT_TRY(ft_grow(&list->names, &capacity, list->count + 1, sizeof *list->names, err));
        FT_TRY(ft_new_text(entry->d_name, &list->names[list->count], err));
        list->count++;
    }
    if (errno != 0) {
        st = fail_path(err, "list folder", path, errno);
        goto done;
    }
    if (list->count > 1) {
        qsort(list->names, list->count, sizeof *list->names, by_bytes);
    }
done:
    (void)closedir(dir);
    if (st != FT_OK) {
        ft_dir_list_release(list);
    }
    return st;
}

void ft_dir_list_release(struct ft_dir_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        ft_free(list->names[i]);
    }
    ft_free(list->names);
    *list = (struct ft_dir_list){0};
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where)
{
    (void)s;
    (void)kind;
    (void)where;
    if (remove(path) == 0 || errno == ENOENT) {
        return 0;
    }
    return errno;
}

enum ft_status ft_path_remove(const char *path, struct ft_err *err)
{
    int cause = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (cause == -1) {
        cause = errno;
    }
    return cause == 0 || cause == ENOENT ? FT_OK : fail_path(err, "remove", path, cause);
}

enum ft_status ft_dir_sweep(const char *path, bool (*goes)(void *arg, const char *name), void *arg,
                            struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    FT_TRY(ft_dir_list(path, &list, err));
    for (size_t i = 0; i < list.count && st == FT_OK; i++) {
        char *one = NULL;
        if (goes(arg, list.names[i])) {
            st = ft_path_join(path, list.names[i], &one, err);
            st = st == FT_OK ? ft_path_remove(one, err) : st;
            ft_free(one);
        }
    }
done:
    ft_dir_list_release(&list);
    return st;
}

enum ft_status ft_dir_temp(const char *prefix, char **out, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf name = {0};
    char *path = NULL;
    const char *base = getenv("TMPDIR");
    *out = NULL;
    FT_TRY(ft_buf_printf(&name, err, "%s-XXXXXX", prefix));
    FT_TRY(ft_path_join(base != NULL && *base != '\0' ? base : "/tmp", (const char *)name.data, &path, err));
    if (mkdtemp(path) == NULL) {
        st = fail_path(err, "make folder", path, errno);
        goto done;
    }
    *out = path;
    path = NULL;
done:
    ft_buf_release(&name);
    ft_free(path);
    return st;
}

enum ft_status ft_path_rename(const char *from, const char *to, struct ft_err *err)
{
    if (rename(from, to) != 0) {
        int cause = errno;
        (void)fail_path(err, "rename to", to, cause);
        return ft_err_wrap(err, "%.200s", from);
    }
    return sync_parent(to, err);
}
