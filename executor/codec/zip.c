#include "executor/codec/zip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"

struct ft_zip_reader {
    zip_t *archive;
    char *path;
    size_t count;
};

static enum ft_status fail_zip(const char *path, const char *what, zip_error_t *error, struct ft_err *err)
{
    int code = zip_error_code_zip(error);
    const char *why = zip_error_strerror(error);
    switch (code) {
    case ZIP_ER_MEMORY:
        return FT_FAIL(err, NOMEM, "zip %.800s: %s: no memory", path, what);
    case ZIP_ER_NOENT:
        return FT_FAIL(err, NOT_FOUND, "zip %.800s: %s: %s", path, what, why);
    case ZIP_ER_OPEN:
    case ZIP_ER_SEEK:
    case ZIP_ER_WRITE:
    case ZIP_ER_TMPOPEN:
    case ZIP_ER_RENAME:
    case ZIP_ER_CLOSE:
        return FT_FAIL(err, IO, "zip %.800s: %s: %s", path, what, why);
    case ZIP_ER_COMPNOTSUPP:
    case ZIP_ER_ENCRNOTSUPP:
    case ZIP_ER_NOPASSWD:
    case ZIP_ER_MULTIDISK:
        return FT_FAIL(err, UNSUPPORTED, "zip %.800s: %s: %s", path, what, why);
    default:
        return FT_FAIL(err, CORRUPT, "zip %.800s: %s: %s", path, what, why);
    }
}

/* Relative, '/'-separated, no part that is empty, "." or "..": nothing that could leave the folder it goes
 * to. */
static bool is_safe_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > FT_MAX_NAME_BYTES || strchr(name, '\\') != NULL || strchr(name, ':') != NULL ||
        !ft_utf8_valid(ft_bytes_of(name, size))) {
        return false;
    }
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");
        bool dots = n <= 2 && strncmp(part, "..", n) == 0; /* "", "." and ".." */
        if (dots) {
            return false;
        }
        part += n;
        if (*part == '\0' || part[1] == '\0') {
            return true;
        }
        part++;
    }
}

static enum ft_status check_names(struct ft_zip_reader *zip, struct ft_err *err)
{
    for (size_t i = 0; i < zip->count; i++) {
        const char *name = zip_get_name(zip->archive, i, ZIP_FL_ENC_GUESS);
        if (name == NULL) {
            return fail_zip(zip->path, "entry's name", zip_get_error(zip->archive), err);
        }
        if (!is_safe_name(name)) {
            return FT_FAIL(err, INVALID, "zip %.500s: entry %zu has the unsafe name '%.200s'", zip->path, i,
                           name);
        }
    }
    return FT_OK;
}

enum ft_status ft_zip_open(const char *path, struct ft_zip_reader **zip, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_zip_reader *z = NULL;
    int code = 0;
    *zip = NULL;
    if (ft_path_kind(path) == FT_PATH_DIR) {
        return FT_FAIL(err, INVALID, "zip %.800s: it is a folder", path);
    }
    FT_TRY(ft_new(1, sizeof *z, &z, err));
    FT_TRY(ft_new_text(path, &z->path, err));
    z->archive = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    if (z->archive == NULL) {
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        st = fail_zip(path, "open", &error, err);
        zip_error_fini(&error);
        goto done;
    }
    z->count = (size_t)zip_get_num_entries(z->archive, 0);
    if (z->count > FT_MAX_ZIP_ENTRIES) {
        st = FT_FAIL(err, LIMIT, "zip %.800s: %zu entries are more than the limit of %d", path, z->count,
                     FT_MAX_ZIP_ENTRIES);
        goto done;
    }
    FT_TRY(check_names(z, err));
    *zip = z;
    z = NULL;
done:
    ft_zip_close(z);
    return st;
}

size_t ft_zip_count(const struct ft_zip_reader *zip)
{
    return zip->count;
}

const char *ft_zip_name(const struct ft_zip_reader *zip, size_t i)
{
    return zip_get_name(zip->archive, i, ZIP_FL_ENC_GUESS);
}

bool ft_zip_fits(const struct ft_zip_reader *zip, uint64_t max_bytes)
{
    for (size_t i = 0; i < zip->count; i++) {
        zip_stat_t stat;
        bool said = zip_stat_index(zip->archive, i, 0, &stat) == 0 && (stat.valid & ZIP_STAT_SIZE) != 0;
        if (said && stat.size > max_bytes) {
            return false;
        }
        max_bytes -= said ? stat.size : 0; /* an entry that does not say is not read */
    }
    return true;
}

static enum ft_status read_stream(struct ft_zip_reader *zip, zip_file_t *file, size_t size,
                                  struct ft_buf *out, struct ft_err *err)
{
    uint8_t chunk[16 * 1024];
    size_t made = 0;
    for (;;) {
        zip_int64_t n = zip_fread(file, chunk, sizeof chunk);
        if (n < 0) {
            return fail_zip(zip->path, "read", zip_file_get_error(file), err);
        }
        if (n == 0) {
            break;
        }
        made += (size_t)n;
        if (made > size) {
            break;
        }
        FT_RETURN_IF_FAILED(ft_buf_append(out, chunk, (size_t)n, err));
    }
    if (made != size) {
        return FT_FAIL(err, CORRUPT, "zip %.800s: an entry is not as long as it says", zip->path);
    }
    return ft_buf_append(out, "", 0, err);
}

enum ft_status ft_zip_read(struct ft_zip_reader *zip, size_t i, size_t max_bytes, struct ft_buf *out,
                           struct ft_err *err)
{
    zip_stat_t stat;
    size_t before = out->size;
    if (zip_stat_index(zip->archive, i, 0, &stat) != 0) {
        return fail_zip(zip->path, "entry", zip_get_error(zip->archive), err);
    }
    if ((stat.valid & ZIP_STAT_SIZE) == 0) {
        return FT_FAIL(err, CORRUPT, "zip %.800s: an entry has no size", zip->path);
    }
    if (stat.size > max_bytes) {
        return FT_FAIL(err, LIMIT, "zip %.500s: '%.200s' has %llu bytes, more than the limit of %zu",
                       zip->path, ft_zip_name(zip, i), (unsigned long long)stat.size, max_bytes);
    }
    zip_file_t *file = zip_fopen_index(zip->archive, i, 0);
    if (file == NULL) {
        return fail_zip(zip->path, "entry", zip_get_error(zip->archive), err);
    }
    enum ft_status st = read_stream(zip, file, (size_t)stat.size, out, err);
    (void)zip_fclose(file);
    if (st != FT_OK) {
        out->size = before;
        return ft_err_wrap(err, "'%.200s'", ft_zip_name(zip, i));
    }
    return FT_OK;
}

void ft_zip_close(struct ft_zip_reader *zip)
{
    if (zip == NULL) {
        return;
    }
    if (zip->archive != NULL) {
        zip_discard(zip->archive);
    }
    ft_free(zip->path);
    ft_free(zip);
}

/* ---- packing ---- */

struct paths {
    char **items; /* relative to the folder */
    size_t count;
    size_t capacity;
};

static void paths_release(struct paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        ft_free(paths->items[i]);
    }
    ft_free(paths->items);
    *paths = (struct paths){0};
}

static enum ft_status collect(const char *dir, const char *below, int depth, struct paths *paths,
                              struct ft_err *err);

static enum ft_status collect_one(const char *dir, char **take_relative, int depth, struct paths *paths,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *full = NULL;
    FT_TRY(ft_path_join(dir, *take_relative, &full, err));
    switch (ft_path_kind(full)) {
    case FT_PATH_DIR:
        FT_TRY(collect(dir, *take_relative, depth + 1, paths, err));
        break;
    case FT_PATH_FILE:
        FT_TRY(ft_grow(&paths->items, &paths->capacity, paths->count + 1, sizeof *paths->items, err));
        paths->items[paths->count++] = *take_relative;
        *take_relative = NULL;
        break;
    case FT_PATH_NONE:
    case FT_PATH_OTHER:
        st = FT_FAIL(err, INVALID, "%.800s is neither a file nor a folder", full);
        break;
    }
done:
    ft_free(full);
    return st;
}

static enum ft_status collect(const char *dir, const char *below, int depth, struct paths *paths,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *full = NULL;
    char *relative = NULL;
    struct ft_dir_list list = {0};
    if (depth > FT_MAX_NESTING) {
        return FT_FAIL(err, LIMIT, "%.800s is nested more than %d levels deep", dir, FT_MAX_NESTING);
    }
    FT_TRY(ft_path_join(dir, below, &full, err));
    FT_TRY(ft_dir_list(full, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        ft_free(relative);
        relative = NULL;
        FT_TRY(ft_path_join(below, list.names[i], &relative, err));
        FT_TRY(collect_one(dir, &relative, depth, paths, err));
    }
done:
    ft_free(relative);
    ft_dir_list_release(&list);
    ft_free(full);
    return st;
}

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

static enum ft_status add_file(zip_t *archive, const char *path, const char *file, const char *name,
                               struct ft_err *err)
{
    enum {
        DAY_ONE = 1 << 5 | 1
    }; /* 1980-01-01, where zip's calendar begins: the bytes must not know the clock */
    if (!is_safe_name(name)) {
        return FT_FAIL(err, INVALID, "'%.500s' cannot be a name in a zip file", name);
    }
    zip_source_t *source = zip_source_file(archive, file, 0, -1);
    if (source == NULL) {
        return fail_zip(path, name, zip_get_error(archive), err);
    }
    zip_int64_t i = zip_file_add(archive, name, source, ZIP_FL_ENC_UTF_8);
    if (i < 0) {
        zip_source_free(source);
        return fail_zip(path, name, zip_get_error(archive), err);
    }
    zip_uint64_t at = (zip_uint64_t)i;
    if (zip_set_file_compression(archive, at, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(archive, at, 0, DAY_ONE, 0) != 0 ||
        zip_file_set_external_attributes(archive, at, 0, ZIP_OPSYS_UNIX, (zip_uint32_t)0100644 << 16) != 0) {
        return fail_zip(path, name, zip_get_error(archive), err);
    }
    return FT_OK;
}

static enum ft_status add_all(zip_t *archive, const char *dir, const char *prefix, const char *path,
                              const struct paths *paths, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *file = NULL;
    struct ft_buf name = {0};
    for (size_t i = 0; i < paths->count; i++) {
        ft_free(file);
        file = NULL;
        name.size = 0;
        FT_TRY(ft_path_join(dir, paths->items[i], &file, err));
        FT_TRY(ft_buf_printf(&name, err, "%s%s", prefix, paths->items[i]));
        FT_TRY(add_file(archive, path, file, (const char *)name.data, err));
    }
done:
    ft_free(file);
    ft_buf_release(&name);
    return st;
}

/* libzip renames its own temporary file to `temporary` without flushing it: flush, then take the real name.
 */
static enum ft_status publish(const char *temporary, const char *path, struct ft_err *err)
{
    int fd = open(temporary, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        int cause = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return FT_FAIL(err, IO, "zip %.800s: flush: error %d", path, cause);
    }
    (void)close(fd);
    return ft_path_rename(temporary, path, err);
}

static enum ft_status write_archive(const char *dir, const char *prefix, const char *temporary,
                                    const char *path, const struct paths *paths, struct ft_err *err)
{
    int code = 0;
    zip_t *archive = zip_open(temporary, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (archive == NULL) {
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        enum ft_status st = fail_zip(path, "create", &error, err);
        zip_error_fini(&error);
        return st;
    }
    enum ft_status st = add_all(archive, dir, prefix, path, paths, err);
    if (st == FT_OK && zip_close(archive) == 0) {
        return publish(temporary, path, err);
    }
    if (st == FT_OK) {
        st = fail_zip(path, "write", zip_get_error(archive), err);
    }
    zip_discard(archive);
    return st;
}

enum ft_status ft_zip_pack(const char *dir, const char *prefix, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct paths paths = {0};
    struct ft_buf temporary = {0};
    FT_TRY(collect(dir, "", 0, &paths, err));
    if (paths.count == 0) {
        /* libzip removes an archive without entries. */
        st = FT_FAIL(err, INVALID, "%.800s holds no file to pack", dir);
        goto done;
    }
    if (paths.count > FT_MAX_ZIP_ENTRIES) {
        st = FT_FAIL(err, LIMIT, "%.800s holds more than %d files", dir, FT_MAX_ZIP_ENTRIES);
        goto done;
    }
    qsort(paths.items, paths.count, sizeof *paths.items, by_bytes);
    FT_TRY(ft_buf_printf(&temporary, err, "%s.%ld.tmp", path, (long)getpid()));
    st = write_archive(dir, prefix, (const char *)temporary.data, path, &paths, err);
    if (st != FT_OK) {
        (void)unlink((const char *)temporary.data);
    }
done:
    ft_buf_release(&temporary);
    paths_release(&paths);
    return st;
}

/* ---- unpacking ---- */

static enum ft_status unpack_one(struct ft_zip_reader *zip, size_t i, const char *dir, size_t *left,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    struct ft_buf bytes = {0};
    const char *name = ft_zip_name(zip, i);
    FT_TRY(ft_path_join(dir, name, &path, err));
    if (name[strlen(name) - 1] == '/') {
        FT_TRY(ft_dir_make(path, err));
        goto done;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    FT_TRY(ft_dir_make(path, err));
    *slash = '/';
    FT_TRY(ft_zip_read(zip, i, *left, &bytes, err));
    *left -= bytes.size;
    if (ft_path_kind(path) != FT_PATH_NONE) {
        st = FT_FAIL(err, EXISTS, "zip %.400s: '%.200s' is there already", zip->path, name);
        goto done;
    }
    FT_TRY(ft_file_write(path, ft_buf_bytes(&bytes), err));
done:
    ft_free(path);
    ft_buf_release(&bytes);
    return st;
}

enum ft_status ft_zip_unpack(const char *path, const char *dir, size_t max_bytes, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_zip_reader *zip = NULL;
    bool fresh = ft_path_kind(dir) == FT_PATH_NONE;
    size_t left = max_bytes;
    FT_TRY(ft_zip_open(path, &zip, err));
    FT_TRY(ft_dir_make(dir, err));
    for (size_t i = 0; i < zip->count; i++) {
        FT_TRY(unpack_one(zip, i, dir, &left, err));
    }
done:
    ft_zip_close(zip);
    if (st != FT_OK && fresh) {
        struct ft_err ignored = {0};
        enum ft_status removed = ft_path_remove(dir, &ignored);
        (void)removed; /* the first failure is the one to tell */
    }
    return st;
}
