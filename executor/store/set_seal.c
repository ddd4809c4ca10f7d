/*
 * The thread of a dataset that makes shards: of journals that have grown large, and of shards that stand
 * beside each other. Every step ends with a manifest; the index of ids follows it in small pieces between
 * which calls are stored.
 */
#include <assert.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/store/set_internal.h"
#include "executor/store/shard_write.h"

enum {
    PIECE = 4096, /* ids that move while nobody stores: about a millisecond */
    MERGE_AT = 4, /* so many shards of like size become one */
    MANY = 64,    /* with more, four become one whatever their sizes */
    RETRY_SECONDS = 1,
    MERGE_PAUSE_SECONDS = 300 /* at most; it doubles: to read a damaged shard over and over costs a core */
};

/* Some segments that become one. */
struct job {
    struct ft_set *set;
    size_t count;
    struct ft_shard_source *sources;
    struct ft_segment **segments; /* borrowed of the set, or one of our own: a journal's */
    uint64_t **dead;              /* as it was at the start: marks go on changing */
    uint64_t number;
    struct ft_segment *fresh; /* NULL: nothing stayed */
};

static void job_release(struct job *job)
{
    for (size_t i = 0; i < job->count; i++) {
        if (job->sources != NULL) {
            ft_free(job->sources[i].placed);
        }
        if (job->dead != NULL) {
            ft_free(job->dead[i]);
        }
    }
    ft_free(job->sources);
    ft_free(job->dead);
    ft_segment_free(job->fresh);
}

/* A copy of the marks, made as the writer. */
static enum ft_status copy_dead(const struct ft_segment *segment, uint64_t **copy, struct ft_err *err)
{
    if (segment->dead == NULL) {
        return FT_OK;
    }
    size_t words = segment->documents / 64 + 1;
    FT_RETURN_IF_FAILED(ft_new(words, sizeof **copy, copy, err));
    memcpy(*copy, segment->dead, words * sizeof **copy);
    return FT_OK;
}

static enum ft_status job_write(struct job *job, bool oldest, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    size_t documents = 0;
    struct ft_set *set = job->set;
    FT_RETURN_IF_FAILED(ft_new(job->count, sizeof *job->sources, &job->sources, err));
    FT_RETURN_IF_FAILED(ft_new(job->count, sizeof *job->dead, &job->dead, err));
    ft_set_enter(set);
    for (size_t i = 0; i < job->count && st == FT_OK; i++) {
        st = copy_dead(job->segments[i], &job->dead[i], err);
    }
    ft_set_leave(set);
    FT_RETURN_IF_FAILED(st);
    for (size_t i = 0; i < job->count; i++) {
        struct ft_shard_source *source = &job->sources[i];
        source->segment = job->segments[i];
        source->dead = job->dead[i];
        FT_RETURN_IF_FAILED(
            ft_new(source->segment->documents + 1, sizeof *source->placed, &source->placed, err));
    }
    job->number = set->manifest.next++;
    const struct ft_shard_plan plan = {.dir = set->dir,
                                       .number = job->number,
                                       .salt = set->salt,
                                       .sources = job->sources,
                                       .n_sources = job->count,
                                       .drop_deletions = oldest,
                                       .cancel = &set->cancel};
    FT_RETURN_IF_FAILED(ft_shard_write(&plan, &documents, err));
    if (documents > 0) {
        FT_RETURN_IF_FAILED(ft_segment_open_shard(set->dir, job->number, &job->fresh, err));
        FT_RETURN_IF_FAILED(ft_segment_reserve_marks(job->fresh, err));
    }
    return FT_OK;
}

/* The index of ids follows, piece by piece. Nothing can fail here any more. */
static void job_move(struct job *job)
{
    for (size_t i = 0; i < job->count; i++) {
        const struct ft_segment *from = job->segments[i];
        for (size_t k = 0; k < from->documents; k += PIECE) {
            size_t end = from->documents - k < PIECE ? from->documents : k + PIECE;
            ft_set_enter(job->set);
            for (size_t e = k; e < end; e++) {
                if (!ft_segment_is_dead(job->dead[i], ft_segment_id(from, e).document)) {
                    ft_index_move(job->set, from, e, job->sources[i].placed, job->fresh);
                }
            }
            ft_set_leave(job->set);
        }
    }
}

static void remove_file(const struct ft_set *set, const char *name)
{
    struct ft_err err = {0};
    char *path = NULL;
    if (ft_path_join(set->dir, name, &path, &err) != FT_OK || ft_path_remove(path, &err) != FT_OK) {
        FT_LOG_WARNING_LINE("store", "a file stays behind until the next start reason=\"%s\"", err.text);
    }
    ft_free(path);
}

static void take_manifest(struct ft_set *set, struct ft_manifest *take)
{
    uint64_t next = set->manifest.next;
    ft_manifest_release(&set->manifest);
    set->manifest = *take;
    set->manifest.next = next;
    *take = (struct ft_manifest){0};
}

/* Room for one more journal and shard, so that nothing fails once the manifest has changed. */
static enum ft_status reserve_lists(struct ft_set *set, struct ft_err *err)
{
    ft_set_enter(set);
    enum ft_status st =
        ft_grow(&set->sealing, &set->sealing_capacity, set->n_sealing + 1, sizeof *set->sealing, err);
    if (st == FT_OK) {
        st = ft_grow(&set->shards, &set->shards_capacity, set->n_shards + 1, sizeof *set->shards, err);
    }
    ft_set_leave(set);
    return st;
}

/* ---- a journal gets a successor ---- */

/* The manifest names it before it is used: its Documents come after those of the journal before it. */
static enum ft_status rotate(struct ft_set *set, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_manifest manifest = {0};
    struct ft_set_journal fresh = {.file.fd = -1};
    char name[FT_STORE_NAME];
    char *path = NULL;
    fresh.number = set->manifest.next++;
    ft_journal_name(fresh.number, name);
    FT_TRY(ft_path_join(set->dir, name, &path, err));
    FT_TRY(ft_journal_create(path, err));
    FT_TRY(ft_journal_open(path, NULL, NULL, &fresh.file, err));
    FT_TRY(reserve_lists(set, err));
    FT_TRY(ft_manifest_copy(&set->manifest, &manifest, err));
    FT_TRY(ft_manifest_add(&manifest.journals, &manifest.n_journals,
                           (struct ft_manifest_file){.number = fresh.number}, err));
    manifest.generation++;
    FT_TRY(ft_manifest_write(set->dir, &manifest, err));
    take_manifest(set, &manifest);
    ft_set_enter(set);
    set->sealing[set->n_sealing++] = set->active;
    set->active = fresh;
    set->broken = false;
    ft_set_leave(set);
    fresh = (struct ft_set_journal){.file.fd = -1};
done:
    ft_journal_close(&fresh.file);
    ft_manifest_release(&manifest);
    ft_free(path);
    return st;
}

/* ---- a journal becomes a shard ---- */

static enum ft_status name_sealed(struct ft_set *set, const struct job *job, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_manifest manifest = {0};
    FT_TRY(ft_manifest_copy(&set->manifest, &manifest, err));
    if (job->fresh != NULL) {
        FT_TRY(ft_manifest_add(&manifest.shards, &manifest.n_shards,
                               (struct ft_manifest_file){.number = job->number}, err));
    }
    assert(manifest.n_journals > 1 && manifest.journals[0].number == set->sealing[0].number);
    memmove(manifest.journals, manifest.journals + 1, --manifest.n_journals * sizeof *manifest.journals);
    manifest.generation++;
    FT_TRY(ft_manifest_write(set->dir, &manifest, err));
    take_manifest(set, &manifest);
done:
    ft_manifest_release(&manifest);
    return st;
}

static enum ft_status seal(struct ft_set *set, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_segment *journal = NULL;
    char name[FT_STORE_NAME];
    struct job job = {.set = set, .count = 1, .segments = &journal};
    const struct ft_manifest_file file = {set->sealing[0].number, set->sealing[0].file.size};
    FT_TRY(ft_segment_open_journal(set->dir, &file, set->salt, &journal, err));
    FT_TRY(job_write(&job, set->n_shards == 0, err));
    FT_TRY(reserve_lists(set, err));
    FT_TRY(name_sealed(set, &job, err));
    if (job.fresh != NULL) {
        ft_set_enter(set);
        set->shards[set->n_shards++] = job.fresh;
        ft_set_leave(set);
    }
    job_move(&job);
    job.fresh = NULL;
    ft_set_enter(set);
    ft_journal_close(&set->sealing[0].file);
    memmove(set->sealing, set->sealing + 1, --set->n_sealing * sizeof *set->sealing);
    ft_set_leave(set);
    ft_journal_name(file.number, name);
    remove_file(set, name);
    (void)pthread_mutex_lock(&set->mutex);
    set->stats.seals++;
    (void)pthread_mutex_unlock(&set->mutex);
done:
    job_release(&job);
    ft_segment_free(journal);
    return st;
}

/* ---- shards become one ---- */

/* The new shard stands where the first of those it replaces stood. */
static enum ft_status name_merged(struct ft_set *set, const struct job *job, size_t first, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_manifest manifest = {0};
    FT_TRY(ft_manifest_copy(&set->manifest, &manifest, err));
    size_t keeps = job->fresh != NULL ? 1 : 0;
    manifest.shards[first].number = keeps > 0 ? job->number : manifest.shards[first].number;
    memmove(manifest.shards + first + keeps, manifest.shards + first + job->count,
            (manifest.n_shards - first - job->count) * sizeof *manifest.shards);
    manifest.n_shards -= job->count - keeps;
    manifest.generation++;
    FT_TRY(ft_manifest_write(set->dir, &manifest, err));
    take_manifest(set, &manifest);
done:
    ft_manifest_release(&manifest);
    return st;
}

/* Take `count` shards from `first` on out of the list, and free them; the new one, at the end, goes there. */
static void replace_shards(struct ft_set *set, const struct job *job, size_t first)
{
    char name[FT_STORE_NAME];
    for (size_t i = 0; i < job->count; i++) {
        ft_shard_name(set->shards[first + i]->number, name);
        ft_segment_free(set->shards[first + i]);
        remove_file(set, name);
    }
    size_t keeps = job->fresh != NULL ? 1 : 0;
    size_t behind = set->n_shards - keeps - first - job->count;
    struct ft_segment *fresh = keeps > 0 ? set->shards[set->n_shards - 1] : NULL;
    memmove(set->shards + first + keeps, set->shards + first + job->count, behind * sizeof *set->shards);
    if (fresh != NULL) {
        set->shards[first] = fresh;
    }
    set->n_shards = first + keeps + behind;
}

static enum ft_status merge(struct ft_set *set, size_t first, size_t count, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct job job = {.set = set, .count = count};
    FT_TRY(ft_new(count, sizeof *job.segments, &job.segments, err));
    memcpy(job.segments, set->shards + first, count * sizeof *job.segments);
    FT_TRY(job_write(&job, first == 0, err));
    FT_TRY(reserve_lists(set, err));
    FT_TRY(name_merged(set, &job, first, err));
    if (job.fresh != NULL) {
        ft_set_enter(set);
        set->shards[set->n_shards++] = job.fresh;
        ft_set_leave(set);
    }
    job_move(&job);
    ft_set_enter(set);
    replace_shards(set, &job, first);
    ft_set_leave(set);
    job.fresh = NULL;
    (void)pthread_mutex_lock(&set->mutex);
    set->stats.merges++;
    (void)pthread_mutex_unlock(&set->mutex);
done:
    ft_free(job.segments);
    job_release(&job);
    return st;
}

/* How often the size of a sealed journal must be quadrupled. */
static int tier(const struct ft_set *set, size_t i)
{
    int t = 0;
    for (uint64_t size = set->shards[i]->map.bytes.size; size > 2 * set->seal_bytes; size /= 4) {
        t++;
    }
    return t;
}

static bool is_worn(const struct ft_set *set, size_t i)
{
    const struct ft_segment *s = set->shards[i];
    size_t gone = s->n_dead + (i == 0 ? ft_segment_deletions(s) : 0);
    return gone * 4 > s->documents;
}

/* What to merge next; *count 0: nothing. As the writer: marks change. */
static void choose(const struct ft_set *set, bool force, size_t *first, size_t *count)
{
    *first = 0;
    *count = 0;
    if (force) {
        *count = set->n_shards > 1 || (set->n_shards == 1 &&
                                       set->shards[0]->n_dead + ft_segment_deletions(set->shards[0]) > 0)
                     ? set->n_shards
                     : 0;
        return;
    }
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i + MERGE_AT <= set->n_shards; i++) {
        uint64_t bytes = 0;
        bool alike = true;
        for (size_t k = i; k < i + MERGE_AT; k++) {
            bytes += set->shards[k]->map.bytes.size;
            alike = alike && tier(set, k) == tier(set, i);
        }
        if ((alike || set->n_shards > MANY) && bytes < least) {
            least = bytes;
            *first = i;
            *count = MERGE_AT;
        }
    }
    for (size_t i = 0; i < set->n_shards && *count == 0; i++) {
        *first = i;
        *count = is_worn(set, i) ? 1 : 0;
    }
}

/* ---- the thread ---- */

static enum ft_status seal_journals(struct ft_set *set, bool force, struct ft_err *err)
{
    ft_set_enter(set);
    bool full = set->broken || set->active.file.size >= set->seal_bytes ||
                (force && set->active.file.size > FT_JOURNAL_HEAD);
    ft_set_leave(set);
    if (full) {
        FT_RETURN_IF_FAILED(rotate(set, err));
    }
    while (set->n_sealing > 0 && !ft_cancelled(&set->cancel)) {
        FT_RETURN_IF_FAILED(seal(set, err));
    }
    return FT_OK;
}

static enum ft_status merge_shards(struct ft_set *set, bool force, struct ft_err *err)
{
    size_t first = 0;
    size_t count = 0;
    bool full = false;
    do {
        ft_set_enter(set);
        choose(set, force, &first, &count);
        ft_set_leave(set);
        if (count > 0 && !ft_cancelled(&set->cancel)) {
            FT_RETURN_IF_FAILED(merge(set, first, count, err));
        }
        ft_set_enter(set);
        full = set->active.file.size >= set->seal_bytes; /* it goes first, since calls may wait for it */
        ft_set_leave(set);
    } while (count > 0 && !full && !force && !ft_cancelled(&set->cancel));
    return FT_OK;
}

/* Calls wait for journals to become shards only: what is wrong with older shards is not theirs. */
static enum ft_status work(struct ft_set *set, bool force, bool merges, struct ft_err *err)
{
    enum ft_status st = seal_journals(set, force, err);
    (void)pthread_mutex_lock(&set->mutex);
    set->stuck = *err;
    (void)pthread_cond_broadcast(&set->turn);
    (void)pthread_mutex_unlock(&set->mutex);
    return st == FT_OK && merges ? merge_shards(set, force, err) : st;
}

/* Mutex held. */
static void nap(struct ft_set *set, double seconds)
{
    struct timespec until = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)ceil(seconds);
    (void)pthread_cond_timedwait(&set->wake, &set->mutex, &until);
}

/* When shards are merged again that could not be, unless somebody asks for it. */
struct patience {
    double pause, until; /* seconds; ft_clock_seconds() */
};

static void merges_went(struct ft_set *set, struct patience *patience, bool well)
{
    double pause = patience->pause == 0 ? RETRY_SECONDS : fmin(2 * patience->pause, MERGE_PAUSE_SECONDS);
    patience->pause = well ? 0 : pause;
    patience->until = ft_clock_seconds() + patience->pause;
    set->stats.merges_failed += !well;
}

/* Mutex held, after a round of work: what is next, and not at once where something did not work. */
static void rest(struct ft_set *set, const struct patience *patience, bool stuck)
{
    double wait = stuck ? RETRY_SECONDS : patience->until - ft_clock_seconds();
    bool at_once = set->asked || set->stats.bytes >= set->seal_bytes; /* it grew while we worked */
    set->asked = at_once || stuck || patience->pause > 0;
    if (set->asked && wait > 0 && (stuck || !at_once) && !ft_cancelled(&set->cancel)) {
        nap(set, wait);
    }
}

void ft_set_worker(void *arg)
{
    struct ft_set *set = arg;
    struct patience patience = {0, 0};
    (void)pthread_mutex_lock(&set->mutex);
    while (!ft_cancelled(&set->cancel)) {
        if (!set->asked) {
            (void)pthread_cond_wait(&set->wake, &set->mutex);
            continue;
        }
        struct ft_err err = {0};
        bool force = set->force;
        bool merges = force || ft_clock_seconds() >= patience.until;
        set->asked = false;
        set->stats.working = true;
        (void)pthread_mutex_unlock(&set->mutex);
        enum ft_status st = work(set, force, merges, &err);
        (void)pthread_mutex_lock(&set->mutex);
        set->stats.working = false;
        if (force) {
            set->force = false;
            set->forced = err;
            (void)pthread_cond_broadcast(&set->turn);
        }
        bool failed = st != FT_OK && st != FT_CANCELLED;
        bool stuck = failed && set->stuck.code != FT_OK; /* a journal cannot become a shard */
        if (failed) {
            FT_LOG_WARNING_LINE("store", "no shard was made, it is tried again dataset=\"%s\" reason=\"%s\"",
                                set->dir, err.text);
        }
        if (merges && !stuck) {
            merges_went(set, &patience, !failed);
        }
        rest(set, &patience, stuck);
    }
    set->force = false;
    (void)pthread_cond_broadcast(&set->turn);
    (void)pthread_mutex_unlock(&set->mutex);
}

void ft_set_ask(struct ft_set *set)
{
    struct ft_err err = {0};
    set->asked = true;
    if (set->thread == NULL && ft_thread_start("store", ft_set_worker, set, &set->thread, &err) != FT_OK) {
        FT_LOG_WARNING_LINE("store", "no thread to make shards dataset=\"%s\" reason=\"%s\"", set->dir,
                            err.text);
        set->stuck = err;
    }
    (void)pthread_cond_signal(&set->wake);
}

enum ft_status ft_set_compact(struct ft_set *set, struct ft_err *err)
{
    (void)pthread_mutex_lock(&set->mutex);
    while (set->force) { /* of another caller */
        (void)pthread_cond_wait(&set->turn, &set->mutex);
    }
    set->force = true;
    set->forced = (struct ft_err){0};
    ft_set_ask(set);
    while (set->force && set->thread != NULL) {
        (void)pthread_cond_wait(&set->turn, &set->mutex);
    }
    if (set->force) {
        set->force = false;
        (void)FT_FAIL(&set->forced, UNAVAILABLE, "%.600s: no thread can be made", set->dir);
    }
    enum ft_status st = set->forced.code;
    if (st != FT_OK) {
        *err = set->forced;
    }
    (void)pthread_mutex_unlock(&set->mutex);
    return st;
}
