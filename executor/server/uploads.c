#include "executor/server/uploads.h"

#include <assert.h>
#include <errno.h>
#include <fts.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/codec/digest.h"

enum { KEPT_SECONDS = 24 * 3600 /* an upload that was cut */ };

struct sender {
    char sha256[FT_SHA256_HEX];
    uint64_t bytes; /* announced */
};

struct ft_uploads {
    char *models;
    uint64_t bytes_max;
    pthread_mutex_t mutex; /* guards all below, and uploads that nobody sends: held while they are removed */
    struct sender *senders;
    size_t count, capacity;
    int checking;
};

/* An upload that was cut. */
struct part {
    char *path;
    uint64_t bytes;
    time_t when;
};
struct parts {
    struct part *list;
    size_t count, capacity;
    uint64_t bytes;
};

/* ---- what lies there */

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static uint64_t bytes_below(char *path)
{
    uint64_t bytes = 0;
    char *const roots[] = {path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (const FTSENT *at = NULL; walk != NULL && (at = fts_read(walk)) != NULL;) {
        bytes += at->fts_info == FTS_F ? (uint64_t)at->fts_statp->st_size : 0;
    }
    if (walk != NULL) {
        (void)fts_close(walk);
    }
    return bytes;
}

static struct sender *sender_of(const struct ft_uploads *u, const char *sha256)
{
    for (size_t i = 0; i < u->count; i++) {
        if (strcmp(u->senders[i].sha256, sha256) == 0) {
            return &u->senders[i];
        }
    }
    return NULL;
}

static void parts_release(struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++) {
        ft_free(parts->list[i].path);
    }
    ft_free(parts->list);
}

/* It only takes room, and is counted as long as it does. */
static bool removed(const char *path)
{
    struct ft_err why = {0};
    bool gone = ft_path_remove(path, &why) == FT_OK;
    if (!gone) {
        FT_LOG_WARNING_LINE("models", "what is left of a model stays reason=\"%s\"", why.text);
    }
    return gone;
}

/* path is taken over if it is kept. */
static enum ft_status look_at(struct parts *parts, char **path, struct ft_err *err)
{
    struct stat s;
    if (lstat(*path, &s) != 0 || (s.st_mtime < time(NULL) - KEPT_SECONDS && removed(*path))) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_grow(&parts->list, &parts->capacity, parts->count + 1, sizeof *parts->list, err));
    struct part *part = &parts->list[parts->count++];
    *part = (struct part){*path, bytes_below(*path), s.st_mtime};
    parts->bytes += part->bytes;
    *path = NULL;
    return FT_OK;
}

/* Uploads that were cut less than a day ago, but for those that somebody sends, and for `mine`. What is
 * older, and what is half removed, goes. Mutex held. */
static enum ft_status sweep(const struct ft_uploads *u, const char *mine, struct parts *parts,
                            struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    char *path = NULL;
    FT_TRY(ft_dir_list(u->models, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.names[i];
        FT_TRY(ft_path_join(u->models, name, &path, err));
        if (begins(name, FT_UPLOAD_GONE)) {
            (void)removed(path);
        } else if (begins(name, FT_UPLOAD_PART)) {
            const char *sha256 = name + strlen(FT_UPLOAD_PART);
            if (strcmp(sha256, mine) != 0 && sender_of(u, sha256) == NULL) {
                FT_TRY(look_at(parts, &path, err));
            }
        }
        ft_free(path);
        path = NULL;
    }
done:
    ft_free(path);
    ft_dir_list_release(&list);
    return st;
}

static void drop_oldest(struct parts *parts)
{
    size_t oldest = 0;
    for (size_t i = 1; i < parts->count; i++) {
        oldest = parts->list[i].when < parts->list[oldest].when ? i : oldest;
    }
    struct part *part = &parts->list[oldest];
    if (removed(part->path)) {
        FT_LOG_INFO_LINE("models", "an upload that was cut makes room upload=%s bytes=%llu",
                         ft_path_base(part->path), (unsigned long long)part->bytes);
        parts->bytes -= part->bytes;
    }
    ft_free(part->path);
    *part = parts->list[--parts->count];
}

/* Cut uploads go, the oldest first, until so many bytes have room: none for an upload that has none all the
 * same beside those that are sent. *taken: by what stays. Mutex held. */
static enum ft_status make_room(const struct ft_uploads *u, const char *sha256, uint64_t bytes,
                                uint64_t *taken, struct ft_err *err)
{
    struct parts parts = {0};
    *taken = 0;
    for (size_t i = 0; i < u->count; i++) {
        *taken += u->senders[i].bytes;
    }
    enum ft_status st = sweep(u, sha256, &parts, err);
    if (st == FT_OK && *taken + bytes <= u->bytes_max) {
        while (parts.count > 0 && *taken + parts.bytes + bytes > u->bytes_max) {
            drop_oldest(&parts);
        }
        *taken += parts.bytes;
    }
    parts_release(&parts);
    return st;
}

/* ---- who sends */

enum ft_status ft_uploads_new(const char *models, uint64_t bytes_max, struct ft_uploads **uploads,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_uploads *u = NULL;
    uint64_t taken = 0;
    *uploads = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *u, &u, err));
    (void)pthread_mutex_init(&u->mutex, NULL);
    u->bytes_max = bytes_max;
    FT_TRY(ft_new_text(models, &u->models, err));
    FT_TRY(make_room(u, "", 0, &taken, err)); /* also where less may lie there than before */
    *uploads = u;
    u = NULL;
done:
    ft_uploads_free(u);
    return st;
}

void ft_uploads_free(struct ft_uploads *uploads)
{
    if (uploads == NULL) {
        return;
    }
    assert(uploads->count == 0);
    (void)pthread_mutex_destroy(&uploads->mutex);
    ft_free(uploads->senders);
    ft_free(uploads->models);
    ft_free(uploads);
}

const char *ft_uploads_models(const struct ft_uploads *uploads)
{
    return uploads->models;
}

enum ft_status ft_uploads_enter(struct ft_uploads *u, const char *sha256, uint64_t bytes, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    uint64_t taken = 0;
    (void)pthread_mutex_lock(&u->mutex);
    if (sender_of(u, sha256) != NULL) {
        st = FT_FAIL(err, BUSY, "this model is being uploaded by another call");
        goto done;
    }
    FT_TRY(ft_grow(&u->senders, &u->capacity, u->count + 1, sizeof *u->senders, err));
    FT_TRY(make_room(u, sha256, bytes, &taken, err));
    if (taken + bytes > u->bytes_max) {
        st = FT_FAIL(err, LIMIT,
                     "models that are being sent have %llu of %llu bytes, and this one has %llu: try again "
                     "once they are here, or let the service have more (uploads_mb)",
                     (unsigned long long)taken, (unsigned long long)u->bytes_max, (unsigned long long)bytes);
        goto done;
    }
    struct sender *sender = &u->senders[u->count++];
    (void)snprintf(sender->sha256, sizeof sender->sha256, "%s", sha256);
    sender->bytes = bytes;
done:
    (void)pthread_mutex_unlock(&u->mutex);
    return st;
}

void ft_uploads_leave(struct ft_uploads *u, const char *sha256)
{
    (void)pthread_mutex_lock(&u->mutex);
    struct sender *sender = sender_of(u, sha256);
    assert(sender != NULL);
    *sender = u->senders[--u->count];
    (void)pthread_mutex_unlock(&u->mutex);
}

bool ft_uploads_check(struct ft_uploads *u)
{
    (void)pthread_mutex_lock(&u->mutex);
    bool mine = u->checking < FT_UPLOADS_CHECKED;
    u->checking += mine ? 1 : 0;
    (void)pthread_mutex_unlock(&u->mutex);
    return mine;
}

void ft_uploads_checked(struct ft_uploads *u)
{
    (void)pthread_mutex_lock(&u->mutex);
    assert(u->checking > 0);
    u->checking--;
    (void)pthread_mutex_unlock(&u->mutex);
}

/* ---- what goes */

enum ft_status ft_uploads_remove(const struct ft_uploads *uploads, const char *path, struct ft_err *err)
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
    FT_TRY(ft_path_join(uploads->models, name, &gone, err));
    FT_TRY(ft_path_rename(path, gone, err));
    (void)removed(gone); /* from here on nobody finds it; what stays goes the next time */
done:
    ft_free(gone);
    return st;
}

/* Bytes of a path in the folder of models up to a name inside the model or upload; of the folder's own up to
 * its name. */
static size_t hidden(const char *text, const char *models, size_t size)
{
    size_t part = strlen(FT_UPLOAD_PART) + FT_SHA256_HEX - 1;
    if (strncmp(text, models, size) != 0 || strchr("/:;,' )\"", text[size]) == NULL) {
        return 0;
    }
    if (text[size] != '/') {
        return (size_t)(ft_path_base(models) - models);
    }
    size++;
    if (begins(text + size, FT_UPLOAD_PART) && strlen(text + size) >= part) {
        size += part;
        size += text[size] == '/' ? 1 : 0;
    }
    return size;
}

void ft_uploads_hide(const struct ft_uploads *uploads, char *text)
{
    size_t size = strlen(uploads->models);
    for (char *at = text; (at = strstr(at, uploads->models)) != NULL;) {
        size_t cut = hidden(at, uploads->models, size);
        memmove(at, at + cut, strlen(at + cut) + 1);
        at += cut > 0 ? 0 : 1;
    }
}
