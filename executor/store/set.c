#include "executor/store/set.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/store/set_internal.h"

/* ---- opening ---- */

/* A file that can be written: NFS refuses to lock a folder, or what is open for reading only. */
static enum ft_status lock_dir(struct ft_set *set, struct ft_err *err)
{
    char reason[128];
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(set->dir, "lock", &path, err));
    set->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ft_free(path);
    if (set->lock_fd < 0) {
        return FT_FAIL(err, IO, "cannot open %.600s/lock: %s", set->dir,
                       strerror_r(errno, reason, sizeof reason));
    }
    if (flock(set->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? FT_FAIL(err, UNAVAILABLE, "%.600s is open in another process", set->dir)
                                    : FT_FAIL(err, IO, "cannot lock %.600s: %s", set->dir,
                                              strerror_r(errno, reason, sizeof reason));
    }
    return FT_OK;
}

static enum ft_status journal_path(const struct ft_set *set, uint64_t number, char **path, struct ft_err *err)
{
    char name[FT_STORE_NAME];
    ft_journal_name(number, name);
    return ft_path_join(set->dir, name, path, err);
}

/* A folder without a manifest, or with one of version 1: its first journal is made before the manifest that
 * names it. */
static enum ft_status begin(struct ft_set *set, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_manifest *m = &set->manifest;
    char *path = NULL;
    FT_TRY(journal_path(set, 0, &path, err));
    if (ft_path_kind(path) == FT_PATH_NONE) {
        FT_TRY(ft_journal_create(path, err));
    }
    if (m->n_journals == 0) {
        FT_TRY(ft_manifest_add(&m->journals, &m->n_journals, (struct ft_manifest_file){0}, err));
    }
    m->next = 1;
    m->generation = 1;
    if (getrandom(&m->salt, sizeof m->salt, 0) != (ssize_t)sizeof m->salt) {
        st = FT_FAIL(err, INTERNAL, "getrandom gives nothing");
        goto done;
    }
    FT_TRY(ft_manifest_write(set->dir, m, err));
done:
    ft_free(path);
    return st;
}

static enum ft_status read_manifest(struct ft_set *set, struct ft_err *err)
{
    struct ft_err missing = {0};
    enum ft_status st = ft_manifest_read(set->dir, &set->manifest, &missing);
    if (st != FT_OK && st != FT_NOT_FOUND) {
        *err = missing;
        return st;
    }
    if (st == FT_NOT_FOUND || set->manifest.old) {
        FT_RETURN_IF_FAILED(begin(set, err));
    }
    set->salt = set->manifest.salt;
    return FT_OK;
}

/* What a crash left that no manifest names. */
static bool is_left_over(void *manifest, const char *name)
{
    return ft_manifest_is_left_over(manifest, name);
}

/* An id of an opened file: what came later counts. */
static enum ft_status take_id(struct ft_set *set, struct ft_bytes id, struct ft_set_slot slot,
                              bool is_document, struct ft_err *err)
{
    struct ft_journal_record before;
    size_t at = 0;
    FT_RETURN_IF_FAILED(ft_index_reserve(set, 1, err));
    FT_RETURN_IF_FAILED(ft_index_find(set, id, slot.hash, &at, &before, err));
    bool there = before.id.data != NULL && before.doc.size > 0;
    return ft_index_set(set, at, slot, there, is_document, false, err);
}

static enum ft_status open_shard(struct ft_set *set, uint64_t number, struct ft_err *err)
{
    struct ft_segment *shard = NULL;
    struct ft_journal_record record;
    FT_RETURN_IF_FAILED(
        ft_grow(&set->shards, &set->shards_capacity, set->n_shards + 1, sizeof *set->shards, err));
    FT_RETURN_IF_FAILED(ft_segment_open_shard(set->dir, number, &shard, err));
    set->shards[set->n_shards++] = shard;
    FT_RETURN_IF_FAILED(ft_index_reserve(set, shard->documents, err));
    size_t deletions = ft_segment_deletions(shard);
    for (size_t k = 0; k < shard->documents; k++) {
        struct ft_segment_id id = ft_segment_id(shard, k);
        if (!ft_segment_record(shard, id.document, &record)) {
            return ft_segment_read(shard, id.document, &record, err);
        }
        const struct ft_set_slot slot = {id.hash, ft_place(number, id.document)};
        FT_RETURN_IF_FAILED(take_id(set, record.id, slot, id.document >= deletions, err));
    }
    return FT_OK;
}

struct opening {
    struct ft_set *set;
    uint64_t number;
};

static enum ft_status take_record(void *arg, const struct ft_journal_record *record, struct ft_err *err)
{
    const struct opening *o = arg;
    const struct ft_set_slot slot = {ft_id_hash(o->set->salt, record->id), ft_place(o->number, record->at)};
    return take_id(o->set, record->id, slot, record->doc.size > 0, err);
}

/* The last is appended to, those before it are to become shards. */
static enum ft_status open_journal(struct ft_set *set, uint64_t number, bool last, struct ft_err *err)
{
    char *path = NULL;
    struct opening opening = {set, number};
    if (!last) {
        FT_RETURN_IF_FAILED(
            ft_grow(&set->sealing, &set->sealing_capacity, set->n_sealing + 1, sizeof *set->sealing, err));
    }
    FT_RETURN_IF_FAILED(journal_path(set, number, &path, err));
    struct ft_set_journal *j = last ? &set->active : &set->sealing[set->n_sealing++];
    *j = (struct ft_set_journal){.number = number, .file.fd = -1};
    enum ft_status st = ft_journal_open(path, take_record, &opening, &j->file, err);
    set->stats.cut += j->file.cut;
    ft_free(path);
    return st;
}

static enum ft_status open_files(struct ft_set *set, struct ft_err *err)
{
    const struct ft_manifest *m = &set->manifest;
    FT_RETURN_IF_FAILED(ft_index_reserve(set, 1, err));
    for (size_t i = 0; i < m->n_shards; i++) {
        FT_RETURN_IF_FAILED(open_shard(set, m->shards[i].number, err));
    }
    for (size_t i = 0; i < m->n_journals; i++) {
        FT_RETURN_IF_FAILED(open_journal(set, m->journals[i].number, i + 1 == m->n_journals, err));
    }
    ft_set_count_files(set);
    return FT_OK;
}

enum ft_status ft_set_open(const char *dir, uint64_t seal_bytes, struct ft_set **set, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_set *s = NULL;
    *set = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    s->lock_fd = -1;
    s->active = (struct ft_set_journal){.number = UINT64_MAX, .file.fd = -1}; /* none is open yet */
    s->last = &s->first;
    s->seal_bytes = seal_bytes > 0 ? seal_bytes : FT_SET_SEAL_BYTES;
    pthread_condattr_t monotonic; /* the wall clock may be set back while somebody waits */
    bool made = pthread_condattr_init(&monotonic) == 0 &&
                pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 &&
                pthread_mutex_init(&s->mutex, NULL) == 0 && pthread_cond_init(&s->turn, NULL) == 0 &&
                pthread_cond_init(&s->wake, &monotonic) == 0 && pthread_cond_init(&s->filled, NULL) == 0;
    (void)pthread_condattr_destroy(&monotonic);
    if (!made) {
        ft_free(s);
        return FT_FAIL(err, NOMEM, "cannot make a mutex or a condition");
    }
    FT_TRY(ft_new_text(dir, &s->dir, err));
    FT_TRY(ft_dir_make(dir, err));
    FT_TRY(lock_dir(s, err));
    FT_TRY(read_manifest(s, err));
    FT_TRY(ft_dir_sync(dir, err)); /* the manifest that is believed, before what it does not name goes */
    FT_TRY(ft_dir_sweep(dir, is_left_over, &s->manifest, err));
    FT_TRY(open_files(s, err));
    if (s->n_sealing > 0 || s->active.file.size >= s->seal_bytes) {
        (void)pthread_mutex_lock(&s->mutex);
        ft_set_ask(s);
        (void)pthread_mutex_unlock(&s->mutex);
    }
    *set = s;
    s = NULL;
done:
    ft_set_close(s);
    return st;
}

void ft_set_close(struct ft_set *set)
{
    if (set == NULL) {
        return;
    }
    assert(set->first == NULL);
    atomic_store(&set->cancel.asked, true);
    (void)pthread_mutex_lock(&set->mutex);
    (void)pthread_cond_broadcast(&set->wake);
    (void)pthread_cond_broadcast(&set->filled);
    (void)pthread_mutex_unlock(&set->mutex);
    ft_thread_join(set->thread);
    ft_thread_join(set->storer);
    assert(!set->writing);
    ft_journal_close(&set->active.file);
    for (size_t i = 0; i < set->n_sealing; i++) {
        ft_journal_close(&set->sealing[i].file);
    }
    for (size_t i = 0; i < set->n_shards; i++) {
        ft_segment_free(set->shards[i]);
    }
    if (set->lock_fd >= 0) {
        (void)close(set->lock_fd);
    }
    (void)pthread_cond_destroy(&set->turn);
    (void)pthread_cond_destroy(&set->wake);
    (void)pthread_cond_destroy(&set->filled);
    (void)pthread_mutex_destroy(&set->mutex);
    ft_manifest_release(&set->manifest);
    ft_free(set->dir);
    ft_free(set->sealing);
    ft_free(set->shards);
    ft_free(set->slots);
    ft_free(set->undo);
    ft_buf_release(&set->batch);
    ft_buf_release(&set->old);
    ft_free(set);
}

struct ft_set_stats ft_set_stats(struct ft_set *set)
{
    (void)pthread_mutex_lock(&set->mutex);
    struct ft_set_stats stats = set->stats;
    (void)pthread_mutex_unlock(&set->mutex);
    return stats;
}
