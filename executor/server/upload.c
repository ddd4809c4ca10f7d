#include "executor/server/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"

enum {
    SYNC_BYTES = 64 << 20, /* written between two calls of fdatasync(): what waits for the disk is bounded */
    READ_BYTES = 1 << 20,  /* of a file that is hashed */
    KEPT_SECONDS = 24 * 3600 /* an upload that was cut */
};

struct ft_upload {
    const struct ft_upload_spec *spec;
    char *models, *dir; /* the folder of models, and that of what is there */
    int lock;           /* the folder, held by flock() */
    int fd;             /* of the file in hand; -1: not open yet */
    size_t file;        /* in hand; spec->count: all are there */
    uint64_t at;        /* bytes of it */
    uint64_t have, unsynced;
    bool resumed;
};

static enum ft_status fail(struct ft_err *err, const char *verb, const char *name)
{
    int cause = errno;
    char reason[128];
    const char *why = strerror_r(cause, reason, sizeof reason);
    return cause == ENAMETOOLONG || cause == ELOOP
               ? FT_FAIL(err, INVALID, "cannot %s '%.300s': %s", verb, name, why)
               : FT_FAIL(err, IO, "cannot %s '%.300s': %s", verb, name, why);
}

/* Path of a file of the model; the caller's. */
static enum ft_status path_of(const struct ft_upload *u, const char *name, char **path, struct ft_err *err)
{
    return ft_path_join(u->dir, name, path, err);
}

/* ---- writing */

/* How far it got: the first file that is not whole. */
static enum ft_status find_place(struct ft_upload *u, struct ft_err *err)
{
    for (u->file = 0; u->file < u->spec->count; u->file++) {
        const struct ft_upload_file *f = &u->spec->files[u->file];
        struct stat s;
        char *path = NULL;
        FT_RETURN_IF_FAILED(path_of(u, f->name, &path, err));
        bool there = lstat(path, &s) == 0 && S_ISREG(s.st_mode);
        ft_free(path);
        uint64_t size = there ? (uint64_t)s.st_size : 0;
        if (!there || size != f->bytes) {
            u->at = size < f->bytes ? size : 0;
            u->have += u->at;
            break;
        }
        u->have += size;
    }
    u->resumed = u->have > 0;
    return FT_OK;
}

static enum ft_status make_parent(const char *path, struct ft_err *err)
{
    char *parent = NULL;
    FT_RETURN_IF_FAILED(ft_new_text(path, &parent, err));
    parent[ft_path_base(path) - path - 1] = '\0';
    enum ft_status st = ft_dir_make(parent, err);
    ft_free(parent);
    return st;
}

/* The file in hand, for what comes behind `at`. */
static enum ft_status open_file(struct ft_upload *u, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const char *name = u->spec->files[u->file].name;
    char *path = NULL;
    if (u->fd >= 0) {
        return FT_OK;
    }
    FT_TRY(path_of(u, name, &path, err));
    FT_TRY(make_parent(path, err));
    u->fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (u->fd < 0 || ftruncate(u->fd, (off_t)u->at) != 0 || lseek(u->fd, (off_t)u->at, SEEK_SET) < 0) {
        st = fail(err, "write", name);
    }
done:
    ft_free(path);
    return st;
}

static void close_file(struct ft_upload *u)
{
    if (u->fd >= 0) {
        (void)close(u->fd);
    }
    u->fd = -1;
}

/* From files that are whole to the one that comes next; empty ones are made. */
static enum ft_status settle(struct ft_upload *u, struct ft_err *err)
{
    while (u->file < u->spec->count && u->at == u->spec->files[u->file].bytes) {
        FT_RETURN_IF_FAILED(open_file(u, err));
        close_file(u);
        u->file++;
        u->at = 0;
    }
    return FT_OK;
}

/* What the disk did not take may still be read, and a second fsync() finds nothing to write: it would pass
 * for whole. So it goes, and is sent again. */
static enum ft_status forget(const struct ft_upload *u, const char *name, struct ft_err *err)
{
    char *path = NULL;
    struct ft_err none = {0};
    enum ft_status st = fail(err, "write", name);
    if (path_of(u, name, &path, &none) == FT_OK) {
        (void)unlink(path);
    }
    ft_free(path);
    return st;
}

static enum ft_status write_some(struct ft_upload *u, struct ft_bytes *data, struct ft_err *err)
{
    const struct ft_upload_file *f = &u->spec->files[u->file];
    uint64_t room = f->bytes - u->at;
    FT_RETURN_IF_FAILED(open_file(u, err));
    ssize_t n = write(u->fd, data->data, data->size < room ? data->size : (size_t)room);
    if (n < 0 && errno != EINTR) {
        return fail(err, "write", f->name);
    }
    n = n > 0 ? n : 0;
    data->data += n;
    data->size -= (size_t)n;
    u->at += (uint64_t)n;
    u->have += (uint64_t)n;
    u->unsynced += (uint64_t)n;
    if (u->unsynced >= SYNC_BYTES) {
        u->unsynced = 0;
        return fdatasync(u->fd) == 0 ? FT_OK : forget(u, f->name, err);
    }
    return FT_OK;
}

enum ft_status ft_upload_write(struct ft_upload *u, uint64_t offset, struct ft_bytes data, struct ft_err *err)
{
    uint64_t left = u->spec->bytes - u->have;
    if (offset != u->have) {
        return FT_FAIL(err, INVALID, "these bytes are for place %llu, and %llu are there",
                       (unsigned long long)offset, (unsigned long long)u->have);
    }
    if (data.size > left) {
        return FT_FAIL(err, INVALID, "%zu bytes came where %llu are left of what was announced", data.size,
                       (unsigned long long)left);
    }
    while (data.size > 0) {
        FT_RETURN_IF_FAILED(write_some(u, &data, err));
        FT_RETURN_IF_FAILED(settle(u, err));
    }
    return FT_OK;
}

/* ---- the folder */

/* It is ours alone, and still the one of that name: who had it before may have renamed or removed it. */
static enum ft_status take_folder(struct ft_upload *u, struct ft_err *err)
{
    struct stat held;
    struct stat named;
    u->lock = open(u->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (u->lock < 0) {
        return errno == ENOENT ? FT_FAIL(err, BUSY, "another upload of this model has just ended")
                               : fail(err, "open", "the folder of an upload");
    }
    if (flock(u->lock, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? FT_FAIL(err, BUSY, "this model is being uploaded by another call")
                                    : fail(err, "lock", "the folder of an upload");
    }
    if (fstat(u->lock, &held) != 0 || stat(u->dir, &named) != 0 || held.st_ino != named.st_ino) {
        return FT_FAIL(err, BUSY, "another upload of this model has just ended");
    }
    (void)futimens(u->lock, NULL); /* its day begins */
    return FT_OK;
}

enum ft_status ft_upload_open(const char *models, const struct ft_upload_spec *spec,
                              struct ft_upload **upload, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_upload *u = NULL;
    char name[sizeof FT_UPLOAD_PART + FT_SHA256_HEX];
    *upload = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *u, &u, err));
    u->spec = spec;
    u->lock = u->fd = -1;
    (void)snprintf(name, sizeof name, FT_UPLOAD_PART "%s", spec->sha256);
    FT_TRY(ft_new_text(models, &u->models, err));
    FT_TRY(ft_path_join(models, name, &u->dir, err));
    FT_TRY(ft_dir_make(u->dir, err));
    FT_TRY(take_folder(u, err));
    FT_TRY(ft_uploads_sweep(models, err));
    FT_TRY(find_place(u, err));
    FT_TRY(settle(u, err));
    *upload = u;
    u = NULL;
done:
    ft_upload_close(u);
    return st;
}

uint64_t ft_upload_have(const struct ft_upload *u)
{
    return u->have;
}

bool ft_upload_resumed(const struct ft_upload *u)
{
    return u->resumed;
}

void ft_upload_close(struct ft_upload *u)
{
    if (u == NULL) {
        return;
    }
    close_file(u);
    if (u->lock >= 0) {
        (void)futimens(u->lock, NULL);
        (void)close(u->lock);
    }
    ft_free(u->models);
    ft_free(u->dir);
    ft_free(u);
}

enum ft_status ft_upload_discard(struct ft_upload *u, struct ft_err *err)
{
    close_file(u);
    return ft_path_remove(u->dir, err);
}

/* ---- the end */

static enum ft_status hash_file(int fd, const char *name, bool (*stop)(const void *arg), const void *arg,
                                char hex[FT_SHA256_HEX], struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_sha256 *sha = NULL;
    uint8_t *piece = NULL;
    FT_TRY(ft_sha256_new(&sha, err));
    FT_TRY(ft_new(READ_BYTES, 1, &piece, err));
    for (;;) {
        if (stop(arg)) {
            st = FT_FAIL(err, CANCELLED, "stopped while '%.300s' was checked", name);
            goto done;
        }
        ssize_t n = read(fd, piece, READ_BYTES);
        if (n < 0 && errno != EINTR) {
            st = fail(err, "read", name);
            goto done;
        }
        if (n == 0) {
            break;
        }
        ft_sha256_add(sha, ft_bytes_of(piece, n > 0 ? (size_t)n : 0));
    }
    ft_sha256_finish(sha, hex);
done:
    ft_free(piece);
    ft_sha256_free(sha);
    return st;
}

/* The file and its name in its folder. */
static enum ft_status sync_file(const struct ft_upload *u, int fd, char *path, const char *name,
                                struct ft_err *err)
{
    if (fsync(fd) != 0) {
        return forget(u, name, err);
    }
    path[ft_path_base(path) - path - 1] = '\0';
    return ft_dir_sync(path, err);
}

static enum ft_status verify_file(const struct ft_upload *u, const struct ft_upload_file *f,
                                  bool (*stop)(const void *arg), const void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char hex[FT_SHA256_HEX];
    char *path = NULL;
    int fd = -1;
    FT_TRY(path_of(u, f->name, &path, err));
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        st = fail(err, "read", f->name);
        goto done;
    }
    FT_TRY(hash_file(fd, f->name, stop, arg, hex, err));
    if (strcmp(hex, f->sha256) != 0) {
        st = FT_FAIL(err, CORRUPT, "'%.300s' came with SHA-256 %s, not %s as was announced", f->name, hex,
                     f->sha256);
        goto done;
    }
    FT_TRY(sync_file(u, fd, path, f->name, err));
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    ft_free(path);
    return st;
}

enum ft_status ft_upload_verify(const struct ft_upload *u, bool (*stop)(const void *arg), const void *arg,
                                size_t *bad, struct ft_err *err)
{
    *bad = u->spec->count;
    for (size_t i = 0; i < u->spec->count; i++) {
        enum ft_status st = verify_file(u, &u->spec->files[i], stop, arg, err);
        if (st != FT_OK) {
            *bad = i;
            return st;
        }
    }
    return FT_OK;
}

enum ft_status ft_upload_entry(const struct ft_upload *u, char **path, struct ft_err *err)
{
    return path_of(u, u->spec->entry, path, err);
}

void ft_upload_hide(const struct ft_upload *u, char *text)
{
    size_t size = strlen(u->dir) + 1; /* and the slash behind it */
    for (char *at = text; (at = strstr(at, u->dir)) != NULL;) {
        size_t cut = at[size - 1] == '/' ? size : size - 1;
        memmove(at, at + cut, strlen(at + cut) + 1);
    }
}

static enum ft_status write_about(const struct ft_upload *u, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    char *path = NULL;
    struct ft_json *about = ft_json_object();
    if (about == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory keeping a model");
    }
    FT_TRY(ft_json_set(about, "entry", ft_json_of_text(u->spec->entry), err));
    FT_TRY(ft_json_set(about, "bytes", ft_json_of_int((int64_t)u->spec->bytes), err));
    FT_TRY(ft_json_set(about, "sha256", ft_json_of_text(u->spec->sha256), err));
    FT_TRY(ft_json_write(about, 0, &text, err));
    FT_TRY(path_of(u, FT_UPLOAD_ABOUT, &path, err));
    FT_TRY(ft_file_write(path, ft_buf_bytes(&text), err));
done:
    ft_free(path);
    ft_buf_release(&text);
    ft_json_free(about);
    return st;
}

enum ft_status ft_upload_publish(struct ft_upload *u, struct ft_err *err)
{
    char *path = NULL;
    FT_RETURN_IF_FAILED(write_about(u, err));
    FT_RETURN_IF_FAILED(ft_path_join(u->models, u->spec->name, &path, err));
    enum ft_status st = ft_path_rename(u->dir, path, err);
    ft_free(path);
    return st;
}

/* ---- what goes */

enum ft_status ft_upload_remove(const char *models, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct timespec now = {0};
    char name[64];
    char *gone = NULL;
    if (ft_path_kind(path) != FT_PATH_DIR) {
        return ft_path_remove(path, err);
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(name, sizeof name, FT_UPLOAD_GONE "%lld%09ld", (long long)now.tv_sec, now.tv_nsec);
    FT_TRY(ft_path_join(models, name, &gone, err));
    FT_TRY(ft_path_rename(path, gone, err));
    FT_TRY(ft_path_remove(gone, err));
done:
    ft_free(gone);
    return st;
}

/* Unless somebody writes there, or did in the last day; nobody may begin to while it goes. */
static enum ft_status remove_left(const char *path, struct ft_err *err)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool left = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &s) == 0 &&
                s.st_mtime < time(NULL) - KEPT_SECONDS;
    enum ft_status st = left ? ft_path_remove(path, err) : FT_OK;
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

enum ft_status ft_uploads_sweep(const char *models, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_dir_list(models, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.names[i];
        struct ft_err why = {0};
        FT_TRY(ft_path_join(models, name, &path, err));
        if (strncmp(name, FT_UPLOAD_GONE, strlen(FT_UPLOAD_GONE)) == 0) {
            st = ft_path_remove(path, &why);
        } else if (strncmp(name, FT_UPLOAD_PART, strlen(FT_UPLOAD_PART)) == 0) {
            st = remove_left(path, &why);
        }
        if (st != FT_OK) { /* it only takes room; the next sweep tries again */
            FT_LOG_WARNING_LINE("models", "what is left of a model stays reason=\"%s\"", why.text);
            st = FT_OK;
        }
        ft_free(path);
        path = NULL;
    }
done:
    ft_free(path);
    ft_dir_list_release(&list);
    return st;
}
