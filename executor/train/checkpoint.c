#include "executor/train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"

enum {
    MAGIC_BYTES = 8,
    VERSION = 1,
    KEEP = 2,
    HASH_BYTES = 64,
    HEAD_BYTES = MAGIC_BYTES + 4 + 4 + HASH_BYTES + 8
};
static const uint8_t magic[MAGIC_BYTES] = {'F', 'T', 'C', 'K', 'P', 'T', '\r', '\n'};
static const char prefix[] = "checkpoint-";
static const char suffix[] = ".ftc";

/* ---- names */

/* The step of "checkpoint-000000000012.ftc"; -1 for another name. */
static int64_t step_of(const char *name)
{
    size_t n = strlen(prefix);
    char *end = NULL;
    if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9') {
        return -1;
    }
    errno = 0;
    long long step = strtoll(name + n, &end, 10);
    return errno == 0 && strcmp(end, suffix) == 0 ? (int64_t)step : -1;
}

static enum ft_status path_of(const char *dir, int64_t step, char **path, struct ft_err *err)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s%012" PRId64 "%s", prefix, step, suffix);
    return ft_path_join(dir, name, path, err);
}

struct pruning {
    size_t count; /* of checkpoints */
    size_t go;    /* so many, the oldest, are still to be removed */
};

static bool count_one(void *arg, const char *name)
{
    struct pruning *p = arg;
    p->count += step_of(name) >= 0 ? 1 : 0;
    return false;
}

static bool is_old(void *arg, const char *name)
{
    struct pruning *p = arg;
    bool goes = step_of(name) >= 0 && p->go > 0;
    p->go -= goes ? 1 : 0;
    return goes;
}

/* Remove all but the newest `keep`; names are sorted, and their numbers have equal lengths. */
static enum ft_status prune(const char *dir, size_t keep, struct ft_err *err)
{
    struct pruning p = {0};
    FT_RETURN_IF_FAILED(ft_dir_sweep(dir, count_one, &p, err));
    p.go = p.count > keep ? p.count - keep : 0;
    return ft_dir_sweep(dir, is_old, &p, err);
}

enum ft_status ft_checkpoint_clear(const char *dir, struct ft_err *err)
{
    return ft_path_kind(dir) == FT_PATH_DIR ? prune(dir, 0, err) : FT_OK;
}

/* ---- writing: streamed, because a checkpoint is several times the model */

struct sink {
    int fd;
    uint32_t crc;
    const char *path;
};

static enum ft_status emit(struct sink *sink, const void *data, size_t bytes, struct ft_err *err)
{
    const char *at = data;
    sink->crc = ft_crc32(sink->crc, ft_bytes_of(data, bytes));
    while (bytes > 0) {
        ssize_t n = write(sink->fd, at, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return FT_FAIL(err, IO, "%s: %s", sink->path, strerror(errno));
        }
        at += n;
        bytes -= (size_t)n;
    }
    return FT_OK;
}

static enum ft_status emit_head(struct sink *sink, const struct ft_checkpoint *c, size_t json_bytes,
                                struct ft_err *err)
{
    uint8_t head[HEAD_BYTES];
    memcpy(head, magic, MAGIC_BYTES);
    ft_put_u32(head + MAGIC_BYTES, VERSION);
    ft_put_u32(head + MAGIC_BYTES + 4, (uint32_t)c->n_blobs);
    memcpy(head + MAGIC_BYTES + 8, c->job, HASH_BYTES);
    ft_put_u64(head + MAGIC_BYTES + 8 + HASH_BYTES, json_bytes);
    return emit(sink, head, sizeof head, err);
}

static enum ft_status emit_all(struct sink *sink, const struct ft_checkpoint *c, struct ft_err *err)
{
    struct ft_buf json = {0};
    uint8_t number[8];
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_write(c->state, 0, &json, err));
    FT_TRY(emit_head(sink, c, json.size, err));
    FT_TRY(emit(sink, json.data, json.size, err));
    for (size_t i = 0; i < c->n_blobs; i++) {
        size_t name = strlen(c->blobs[i].name);
        ft_put_u32(number, (uint32_t)name);
        FT_TRY(emit(sink, number, 4, err));
        FT_TRY(emit(sink, c->blobs[i].name, name, err));
        ft_put_u64(number, c->blobs[i].bytes);
        FT_TRY(emit(sink, number, 8, err));
        FT_TRY(emit(sink, c->blobs[i].data, c->blobs[i].bytes, err));
    }
    ft_put_u32(number, sink->crc);
    FT_TRY(emit(sink, number, 4, err));
    if (fsync(sink->fd) != 0) {
        st = FT_FAIL(err, IO, "%s: %s", sink->path, strerror(errno));
    }
done:
    ft_buf_release(&json);
    return st;
}

enum ft_status ft_checkpoint_save(const char *dir, const struct ft_checkpoint *checkpoint, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    char *temporary = NULL;
    struct sink sink = {-1, 0, NULL};
    FT_TRY(path_of(dir, checkpoint->step, &path, err));
    FT_TRY(ft_path_join(dir, "checkpoint.tmp", &temporary, err));
    sink.path = temporary;
    sink.fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (sink.fd < 0) {
        st = FT_FAIL(err, IO, "%s: %s", temporary, strerror(errno));
        goto done;
    }
    FT_TRY(emit_all(&sink, checkpoint, err));
    if (close(sink.fd) != 0) {
        st = FT_FAIL(err, IO, "%s: %s", temporary, strerror(errno));
    }
    sink.fd = -1;
    FT_TRY(st);
    FT_TRY(ft_path_rename(temporary, path, err));
    FT_TRY(prune(dir, KEEP, err));
done:
    if (sink.fd >= 0) {
        (void)close(sink.fd);
    }
    ft_free(path);
    ft_free(temporary);
    return st;
}

/* ---- reading */

struct source {
    const uint8_t *at;
    size_t left;
};

static const uint8_t *need(struct source *s, size_t bytes)
{
    const uint8_t *at = s->at;
    if (bytes > s->left) {
        return NULL;
    }
    s->at += bytes;
    s->left -= bytes;
    return at;
}

static enum ft_status damaged(const char *path, const char *what, struct ft_err *err)
{
    return FT_FAIL(err, CORRUPT, "%s: damaged checkpoint: %s", path, what);
}

static enum ft_status read_blob(struct source *s, const char *path, const struct ft_blob *blob,
                                struct ft_err *err)
{
    size_t name = strlen(blob->name);
    const uint8_t *length = need(s, 4);
    const uint8_t *text = length != NULL && ft_get_u32(length) == name ? need(s, name) : NULL;
    const uint8_t *bytes = text != NULL && memcmp(text, blob->name, name) == 0 ? need(s, 8) : NULL;
    const uint8_t *data = bytes != NULL && ft_get_u64(bytes) == blob->bytes ? need(s, blob->bytes) : NULL;
    if (data == NULL) {
        return FT_FAIL(err, CORRUPT, "%s: damaged checkpoint: no \"%s\" of %zu bytes", path, blob->name,
                       blob->bytes);
    }
    if (blob->bytes > 0) {
        memcpy(blob->data, data, blob->bytes);
    }
    return FT_OK;
}

static enum ft_status read_head(struct source *s, const char *path, const char *job, size_t n_blobs,
                                struct ft_json **state, struct ft_err *err)
{
    if (s->left < HEAD_BYTES + 4 || memcmp(s->at, magic, MAGIC_BYTES) != 0 ||
        ft_get_u32(s->at + s->left - 4) != ft_crc32(0, ft_bytes_of(s->at, s->left - 4))) {
        return damaged(path, "its checksum is wrong", err);
    }
    s->left -= 4;
    const uint8_t *head = need(s, HEAD_BYTES);
    if (ft_get_u32(head + MAGIC_BYTES) != VERSION) {
        return FT_FAIL(err, UNSUPPORTED, "%s: version %u of checkpoints, known is %d", path,
                       (unsigned)ft_get_u32(head + MAGIC_BYTES), VERSION);
    }
    if (memcmp(head + MAGIC_BYTES + 8, job, HASH_BYTES) != 0) {
        return FT_FAIL(
            err, INVALID,
            "%s belongs to another job: options, data or model differ; give the same ones, or start anew "
            "without resume",
            path);
    }
    uint64_t json = ft_get_u64(head + MAGIC_BYTES + 8 + HASH_BYTES);
    const uint8_t *text = json <= s->left ? need(s, (size_t)json) : NULL;
    if (text == NULL || ft_get_u32(head + MAGIC_BYTES + 4) != n_blobs) {
        return damaged(path, "its lengths are wrong", err);
    }
    return ft_json_parse(ft_bytes_of(text, (size_t)json), state, err);
}

static enum ft_status load_one(const char *path, const char *job, const struct ft_blob *blobs, size_t n_blobs,
                               struct ft_json **state, struct ft_err *err)
{
    struct ft_mapping map = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_file_map(path, &map, err));
    struct source s = {map.bytes.data, map.bytes.size};
    FT_TRY(read_head(&s, path, job, n_blobs, state, err));
    for (size_t i = 0; i < n_blobs; i++) {
        FT_TRY(read_blob(&s, path, &blobs[i], err));
    }
done:
    if (st != FT_OK) {
        ft_json_free(*state);
        *state = NULL;
    }
    ft_file_unmap(&map);
    return st;
}

enum ft_status ft_checkpoint_any(const char *dir, bool *any, struct ft_err *err)
{
    struct ft_dir_list list = {0};
    *any = false;
    FT_RETURN_IF_FAILED(ft_dir_list(dir, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        *any = *any || step_of(list.names[i]) >= 0;
    }
    ft_dir_list_release(&list);
    return FT_OK;
}

enum ft_status ft_checkpoint_load(const char *dir, const char job[FT_SHA256_HEX], const struct ft_blob *blobs,
                                  size_t n_blobs, struct ft_json **state, struct ft_err *err)
{
    struct ft_dir_list list = {0};
    enum ft_status st = FT_OK;
    char *path = NULL;
    *state = NULL;
    if (ft_path_kind(dir) != FT_PATH_DIR) {
        return FT_OK;
    }
    FT_TRY(ft_dir_list(dir, &list, err));
    for (size_t i = list.count; i > 0 && *state == NULL; i--) {
        if (step_of(list.names[i - 1]) < 0) {
            continue;
        }
        ft_free(path);
        path = NULL;
        FT_TRY(ft_path_join(dir, list.names[i - 1], &path, err));
        st = load_one(path, job, blobs, n_blobs, state, err);
        if (st == FT_CORRUPT) {
            FT_LOG_WARNING_LINE("train", "damaged checkpoint skipped file=\"%s\"", list.names[i - 1]);
        } else if (st != FT_OK) {
            goto done;
        }
    }
done:
    ft_free(path);
    ft_dir_list_release(&list);
    return st;
}
