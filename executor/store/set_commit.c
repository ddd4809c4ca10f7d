/*
 * Calls of several threads become groups of one batch: one write, one fsync, then all are answered. A thread
 * of its own does it, so that nobody who only wanted to store something goes on storing for all others.
 */
#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/store/set_internal.h"

enum {
    BATCH_BYTES = 64 << 20,   /* one fsync covers at most about this much, so that nobody waits for long */
    PENDING_BYTES = 256 << 20 /* callers wait before more than this waits to be written */
};

static enum ft_status put_item(struct ft_set *set, const struct ft_set_item *item, struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_RECORD];
    ft_journal_put_record(head, set->active.file.salt, item->id, item->message);
    FT_RETURN_IF_FAILED(ft_buf_append(&set->batch, head, sizeof head, err));
    FT_RETURN_IF_FAILED(ft_buf_append(&set->batch, item->id.data, item->id.size, err));
    return ft_buf_append(&set->batch, item->message.data, item->message.size, err);
}

static enum ft_status add_item(struct ft_set *set, const struct ft_set_item *item,
                               struct ft_set_result *result, struct ft_err *err)
{
    uint64_t hash = ft_id_hash(set->salt, item->id);
    bool deletes = item->message.size == 0;
    struct ft_journal_record stored;
    size_t slot = 0;
    FT_RETURN_IF_FAILED(ft_index_find(set, item->id, hash, &slot, &stored, err));
    bool there = stored.id.data != NULL && stored.doc.size > 0;
    if (deletes && !there) {
        return FT_OK;
    }
    if (there && ft_bytes_equal(stored.doc, item->message)) {
        result->duplicates++;
        return FT_OK;
    }
    uint64_t place = ft_place(set->active.number, set->active.file.size + set->batch.size);
    FT_RETURN_IF_FAILED(put_item(set, item, err));
    result->stored += deletes ? 0 : 1;
    result->deleted += deletes ? 1 : 0;
    return ft_index_set(set, slot, (struct ft_set_slot){hash, place}, there, !deletes, true, err);
}

static enum ft_status add_group(struct ft_set *set, struct ft_set_request *r, struct ft_err *err)
{
    uint8_t head[FT_JOURNAL_GROUP] = {0};
    uint8_t commit[FT_JOURNAL_COMMIT];
    uint64_t salt = set->active.file.salt;
    size_t start = set->batch.size;
    FT_RETURN_IF_FAILED(ft_buf_append(&set->batch, head, sizeof head, err));
    for (size_t i = 0; i < r->count; i++) {
        FT_RETURN_IF_FAILED(add_item(set, &r->items[i], &r->result, err));
    }
    size_t records = r->result.stored + r->result.deleted;
    if (records == 0) {
        set->batch.size = start;
        return FT_OK;
    }
    size_t body = set->batch.size - start - sizeof head;
    ft_journal_put_commit(commit, salt, set->active.file.size + start);
    FT_RETURN_IF_FAILED(ft_buf_append(&set->batch, commit, sizeof commit, err));
    ft_journal_put_group(set->batch.data + start, salt, (uint32_t)records, body, set->active.file.size);
    return FT_OK;
}

static enum ft_status commit_requests(struct ft_set *set, struct ft_set_request *list, uint64_t *groups,
                                      struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t count = 0;
    set->batch.size = 0;
    set->n_undo = 0;
    set->live_before = set->live;
    *groups = 0;
    if (set->broken) {
        return FT_FAIL(err, IO, "%.600s failed before and has no successor yet: try again",
                       set->active.file.path);
    }
    for (struct ft_set_request *r = list; r != NULL; r = r->next) {
        count += r->count;
    }
    FT_TRY(ft_index_reserve(set, count, err)); /* before the first undo: it moves slots */
    for (struct ft_set_request *r = list; r != NULL; r = r->next) {
        FT_TRY(add_group(set, r, err));
        *groups += r->result.stored + r->result.deleted > 0 ? 1 : 0;
    }
    if (set->batch.size > 0) {
        bool intact = true;
        st = ft_journal_write(&set->active.file, ft_buf_bytes(&set->batch), &intact, err);
        set->broken = !intact;
    }
done:
    if (st != FT_OK) {
        ft_index_roll_back(set);
    }
    set->n_undo = 0;
    set->batch.size = 0;
    if (set->batch.capacity > BATCH_BYTES / 4) {
        ft_buf_release(&set->batch);
    }
    return st;
}

static void request_free(struct ft_set_request *r)
{
    if (r != NULL) {
        ft_arena_release(&r->arena);
        ft_free(r);
    }
}

static void answer(struct ft_set_request *r)
{
    r->done(r->arg, &r->result, &r->why);
    request_free(r);
}

/* The first call that deletes, out of the middle. Mutex held. */
static struct ft_set_request *take_deletion(struct ft_set *set)
{
    struct ft_set_request **at = &set->first;
    while (!(*at)->deletes) {
        at = &(*at)->next;
    }
    struct ft_set_request *r = *at;
    *at = r->next;
    set->last = r->next == NULL ? at : set->last;
    r->next = NULL;
    set->pending_bytes -= r->bytes;
    set->pending_deletions--;
    return r;
}

/* The calls that wait, as many as one fsync shall cover. Mutex held. */
static struct ft_set_request *take_list(struct ft_set *set)
{
    struct ft_set_request *list = set->first;
    struct ft_set_request *last = list;
    size_t bytes = list->bytes;
    size_t deletions = list->deletes ? 1 : 0;
    while (last->next != NULL && bytes + last->next->bytes <= BATCH_BYTES) {
        last = last->next;
        bytes += last->bytes;
        deletions += last->deletes ? 1 : 0;
    }
    set->first = last->next;
    set->last = set->first == NULL ? &set->first : set->last;
    last->next = NULL;
    set->pending_bytes -= bytes;
    set->pending_deletions -= deletions;
    return list;
}

void ft_set_count_files(struct ft_set *set)
{
    set->stats.ids = set->live;
    set->stats.bytes = set->stats.backlog = set->active.file.size;
    for (size_t i = 0; i < set->n_sealing; i++) {
        set->stats.backlog += set->sealing[i].file.size;
    }
    set->stats.shards = set->n_shards;
    set->stats.journals = set->n_sealing + 1;
}

/* Nothing is stored for now. Mutex held. */
static bool is_behind(const struct ft_set *set)
{
    return set->stats.backlog > ft_set_backlog_max(set) && !set->hurry;
}

/* Mutex held. */
static void count_list(struct ft_set *set, const struct ft_set_request *list, uint64_t groups)
{
    set->stats.groups += groups;
    set->stats.syncs += groups > 0 ? 1 : 0;
    for (const struct ft_set_request *r = list; r != NULL; r = r->next) {
        set->stats.stored += r->result.stored;
        set->stats.duplicates += r->result.duplicates;
        set->stats.deleted += r->result.deleted;
    }
}

/* `refused`: nothing can be stored, for that reason. */
static void store_list(struct ft_set *set, struct ft_set_request *list, const struct ft_err *refused)
{
    struct ft_err err = *refused;
    uint64_t groups = 0;
    uint64_t before = set->active.file.size;
    enum ft_status st = err.code == FT_OK ? commit_requests(set, list, &groups, &err) : err.code;
    (void)pthread_mutex_lock(&set->mutex);
    ft_set_count_files(set);
    if (st == FT_OK) {
        set->stats.written += set->active.file.size - before;
        count_list(set, list, groups);
    } else {
        set->stats.failures += st == FT_IO ? 1 : 0;
    }
    if (set->broken || (set->active.file.size >= set->seal_bytes && !set->stats.working)) {
        ft_set_ask(set);
    }
    (void)pthread_mutex_unlock(&set->mutex);
    while (list != NULL) {
        struct ft_set_request *r = list;
        list = list->next;
        if (st != FT_OK) {
            r->why = err;
            r->result = (struct ft_set_result){0};
        }
        answer(r);
    }
}

/* Calls and the pieces of the thread's work take turns; with neither at hand the other goes on, as it does
 * where calls wait for it. Mutex held. */
static void start_writing(struct ft_set *set, bool calls)
{
    set->waiting += calls ? 0 : 1;
    while (set->writing || (calls ? set->waiting > 0 && !set->calls_next
                                  : set->calls_next && set->first != NULL && !set->paused)) {
        (void)pthread_cond_wait(&set->turn, &set->mutex);
    }
    set->waiting -= calls ? 0 : 1;
    set->writing = true;
}

static void stop_writing(struct ft_set *set, bool calls)
{
    set->writing = false;
    set->calls_next = !calls;
    (void)pthread_cond_broadcast(&set->turn);
}

void ft_set_enter(struct ft_set *set)
{
    (void)pthread_mutex_lock(&set->mutex);
    start_writing(set, false);
    (void)pthread_mutex_unlock(&set->mutex);
}

void ft_set_leave(struct ft_set *set)
{
    (void)pthread_mutex_lock(&set->mutex);
    ft_set_count_files(set);
    stop_writing(set, false);
    (void)pthread_mutex_unlock(&set->mutex);
}

void ft_set_hurry(struct ft_set *set)
{
    (void)pthread_mutex_lock(&set->mutex);
    set->hurry = true;
    set->paused = set->stats.behind = false;
    (void)pthread_cond_broadcast(&set->turn);
    (void)pthread_mutex_unlock(&set->mutex);
}

/* Until shards keep up, or none can be made, or there is something to delete. Mutex held. */
static void wait_for_shards(struct ft_set *set)
{
    while (is_behind(set) && set->stuck.code == FT_OK && set->pending_deletions == 0) {
        set->paused = set->stats.behind = true;
        (void)pthread_cond_broadcast(&set->turn);
        (void)pthread_cond_wait(&set->turn, &set->mutex);
    }
    set->paused = false;
    set->stats.behind = is_behind(set);
}

static void store_calls(void *arg)
{
    struct ft_set *set = arg;
    (void)pthread_mutex_lock(&set->mutex);
    for (;;) {
        while (set->first == NULL && !ft_cancelled(&set->cancel)) {
            (void)pthread_cond_wait(&set->filled, &set->mutex);
        }
        if (set->first == NULL) {
            break;
        }
        wait_for_shards(set);
        start_writing(set, true);
        bool deletes = is_behind(set) && set->pending_deletions > 0;
        struct ft_err refused = is_behind(set) && !deletes ? set->stuck : (struct ft_err){0};
        struct ft_set_request *list = deletes ? take_deletion(set) : take_list(set);
        (void)pthread_mutex_unlock(&set->mutex);
        store_list(set, list, &refused);
        (void)pthread_mutex_lock(&set->mutex);
        stop_writing(set, true);
    }
    (void)pthread_mutex_unlock(&set->mutex);
}

/* Mutex held. For who does not wait for shards. */
static enum ft_status check_room(const struct ft_set *set, struct ft_err *err)
{
    return set->pending_bytes > PENDING_BYTES && set->stats.behind
               ? FT_FAIL(err, BUSY, "more comes than can be made into shards: try again")
               : FT_OK;
}

/* `patient`: whatever there is to wait for. */
static enum ft_status enqueue(struct ft_set *set, struct ft_set_request *r, bool patient, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    (void)pthread_mutex_lock(&set->mutex);
    if (set->storer == NULL) {
        FT_TRY(ft_thread_start("journal", store_calls, set, &set->storer, err));
    }
    while (set->pending_bytes > PENDING_BYTES && !r->deletes) {
        FT_TRY(patient ? FT_OK : check_room(set, err));
        (void)pthread_cond_wait(&set->turn, &set->mutex);
    }
    *set->last = r;
    set->last = &r->next;
    set->pending_bytes += r->bytes;
    set->pending_deletions += r->deletes ? 1 : 0;
    (void)pthread_cond_signal(&set->filled);
    if (r->deletes) { /* the one who stores may wait for shards */
        (void)pthread_cond_broadcast(&set->turn);
    }
done:
    (void)pthread_mutex_unlock(&set->mutex);
    return st;
}

static void submit(struct ft_set *set, const struct ft_document *docs, size_t count, bool patient,
                   ft_set_done done, void *arg)
{
    enum ft_status st = FT_OK;
    const struct ft_set_result nothing = {0};
    struct ft_err err = {0};
    struct ft_set_request *r = NULL;
    if (!patient) { /* told before the work that preparing is: it may come again and again */
        (void)pthread_mutex_lock(&set->mutex);
        st = check_room(set, &err);
        (void)pthread_mutex_unlock(&set->mutex);
        FT_TRY(st);
    }
    FT_TRY(ft_new(1, sizeof *r, &r, &err));
    r->done = done;
    r->arg = arg;
    FT_TRY(ft_set_prepare(r, docs, count, &err));
    FT_TRY(enqueue(set, r, patient, &err));
    return;
done:
    request_free(r);
    done(arg, &nothing, &err);
}

void ft_set_submit(struct ft_set *set, const struct ft_document *docs, size_t count, ft_set_done done,
                   void *arg)
{
    submit(set, docs, count, false, done, arg);
}

/* ---- calls that wait ---- */

struct waiter {
    struct ft_set *set;
    struct ft_set_result result;
    struct ft_err why;
    bool done;
};

static void wake(void *arg, const struct ft_set_result *result, const struct ft_err *why)
{
    struct waiter *w = arg;
    (void)pthread_mutex_lock(&w->set->mutex);
    w->result = *result;
    w->why = *why;
    w->done = true;
    (void)pthread_cond_broadcast(&w->set->turn);
    (void)pthread_mutex_unlock(&w->set->mutex);
}

static enum ft_status await(struct waiter *w, struct ft_set_result *result, struct ft_err *err)
{
    (void)pthread_mutex_lock(&w->set->mutex);
    while (!w->done) {
        (void)pthread_cond_wait(&w->set->turn, &w->set->mutex);
    }
    (void)pthread_mutex_unlock(&w->set->mutex);
    *result = w->result;
    if (w->why.code != FT_OK) {
        *err = w->why;
    }
    return w->why.code;
}

enum ft_status ft_set_append(struct ft_set *set, const struct ft_document *docs, size_t count,
                             struct ft_set_result *result, struct ft_err *err)
{
    struct waiter w = {.set = set};
    *result = (struct ft_set_result){0};
    if (count == 0) {
        return FT_OK;
    }
    submit(set, docs, count, true, wake, &w);
    return await(&w, result, err);
}

enum ft_status ft_set_delete(struct ft_set *set, const struct ft_bytes *ids, size_t count,
                             struct ft_set_result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct waiter w = {.set = set};
    struct ft_set_request *r = NULL;
    *result = (struct ft_set_result){0};
    if (count == 0) {
        return FT_OK;
    }
    FT_TRY(ft_new(1, sizeof *r, &r, err));
    FT_TRY(ft_arena_new(&r->arena, count, sizeof *r->items, &r->items, err));
    for (size_t i = 0; i < count; i++) {
        r->items[i].id = ids[i];
        r->bytes += ids[i].size + FT_JOURNAL_RECORD;
    }
    r->count = count;
    r->deletes = true;
    r->done = wake;
    r->arg = &w;
    FT_TRY(enqueue(set, r, true, err));
    return await(&w, result, err);
done:
    request_free(r);
    return st;
}
