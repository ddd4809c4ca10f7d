#include "executor/server/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"

enum {
    SYNC_BYTES = 64 << 20, /* written between two calls of fdatasync(): what waits for the disk is bounded */
    READ_BYTES = 1 << 20   /* of a file that is hashed */
};

struct ft_upload {
    struct ft_uploads *uploads;
    const struct ft_upload_spec *spec;
    char *dir;    /* of what is there */
    bool entered; /* ft_uploads_enter() */
    int fd;       /* of the file in hand; -1: not open yet */
    size_t file;  /* in hand; spec->count: all are there */
    uint64_t at;  /* bytes of it */
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

/* What a file system over a network could not write it may say here only. */
static enum ft_status close_file(struct ft_upload *u, struct ft_err *err)
{
    int fd = u->fd;
    u->fd = -1;
    return fd < 0 || close(fd) == 0 ? FT_OK : forget(u, u->spec->files[u->file].name, err);
}

/* From files that are whole to the one that comes next; empty ones are made. */
static enum ft_status settle(struct ft_upload *u, struct ft_err *err)
{
    while (u->file < u->spec->count && u->at == u->spec->files[u->file].bytes) {
        FT_RETURN_IF_FAILED(open_file(u, err));
        FT_RETURN_IF_FAILED(close_file(u, err));
        u->file++;
        u->at = 0;
    }
    return FT_OK;
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

/* Its day begins. */
static void touch(const struct ft_upload *u)
{
    (void)utimensat(AT_FDCWD, u->dir, NULL, AT_SYMLINK_NOFOLLOW);
}

enum ft_status ft_upload_open(struct ft_uploads *uploads, const struct ft_upload_spec *spec,
                              struct ft_upload **upload, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_upload *u = NULL;
    char name[sizeof FT_UPLOAD_PART + FT_SHA256_HEX];
    *upload = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *u, &u, err));
    u->uploads = uploads;
    u->spec = spec;
    u->fd = -1;
    (void)snprintf(name, sizeof name, FT_UPLOAD_PART "%s", spec->sha256);
    FT_TRY(ft_path_join(ft_uploads_models(uploads), name, &u->dir, err));
    FT_TRY(ft_uploads_enter(uploads, spec->sha256, spec->bytes, err));
    u->entered = true;
    FT_TRY(ft_dir_make(u->dir, err));
    touch(u);
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
    struct ft_err lost = {0};
    if (u == NULL) {
        return;
    }
    if (u->entered) {
        (void)!close_file(u, &lost);
        touch(u);
        ft_uploads_leave(u->uploads, u->spec->sha256);
    }
    ft_free(u->dir);
    ft_free(u);
}

enum ft_status ft_upload_discard(struct ft_upload *u, struct ft_err *err)
{
    struct ft_err lost = {0};
    (void)!close_file(u, &lost);
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
    FT_RETURN_IF_FAILED(ft_path_join(ft_uploads_models(u->uploads), u->spec->name, &path, err));
    enum ft_status st = ft_path_rename(u->dir, path, err);
    ft_free(path);
    return st;
}
