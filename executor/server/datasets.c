#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"
#include "executor/store/folder.h"

enum { OPEN_MAX_SETS = 1024 }; /* each has two threads and files; beyond that one that rests is closed */

/* What is being done to a dataset. Opening, closing and removing touch the disk: the mutex is not held
 * meanwhile, the state keeps others away. */
enum set_state { SET_OPENING, SET_OPEN, SET_CLOSING, SET_REMOVING };

struct open_set {
    char name[FT_DATASET_NAME];
    enum set_state state;
    struct ft_set *set; /* once it is open */
    size_t users;       /* calls that are not answered */
    uint64_t used;      /* when last, counted in uses of any */
    bool closing;       /* nobody asks it any more: */
    struct ft_set_stats last;
};

struct ft_datasets {
    char *data_dir;
    uint64_t seal_bytes;
    pthread_mutex_t mutex;  /* guards all below; never held across work on the disk */
    pthread_cond_t changed; /* a set's state, or its last user is gone */
    struct open_set **sets;
    size_t count, capacity;
    struct ft_set_stats closed; /* sums of those that are no longer open */
    uint64_t uses;
    bool hurry; /* ft_set_hurry() */
};

/* What grows, not what is there. */
static void add_stats(struct ft_set_stats *sum, const struct ft_set_stats *one)
{
    sum->groups += one->groups;
    sum->stored += one->stored;
    sum->duplicates += one->duplicates;
    sum->deleted += one->deleted;
    sum->written += one->written;
    sum->failures += one->failures;
    sum->syncs += one->syncs;
    sum->seals += one->seals;
    sum->merges += one->merges;
    sum->merges_failed += one->merges_failed;
}

static void close_set(struct open_set *open)
{
    if (open->set == NULL) {
        return;
    }
    struct ft_set_stats stats = ft_set_stats(open->set);
    FT_LOG_INFO_LINE(
        "server", "dataset closed dataset=%s documents=%llu groups=%llu syncs=%llu sealed=%llu merged=%llu",
        open->name, (unsigned long long)stats.ids, (unsigned long long)stats.groups,
        (unsigned long long)stats.syncs, (unsigned long long)stats.seals, (unsigned long long)stats.merges);
    ft_set_close(open->set);
    open->set = NULL;
}

static enum ft_status set_path(const struct ft_datasets *datasets, const char *name, char **dir,
                               struct ft_err *err)
{
    struct ft_buf tail = {0};
    *dir = NULL;
    enum ft_status st = ft_buf_printf(&tail, err, "datasets/%s", name);
    if (st == FT_OK) {
        st = ft_path_join(datasets->data_dir, (const char *)tail.data, dir, err);
    }
    ft_buf_release(&tail);
    return st;
}

/* Calls' own datasets and half-removed ones of a service before this one. */
static bool is_left_over(void *arg, const char *name)
{
    (void)arg;
    return ft_dataset_name_hidden(name);
}

static enum ft_status sweep(const struct ft_datasets *datasets, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(set_path(datasets, "", &dir, err));
    enum ft_status st = ft_path_kind(dir) == FT_PATH_DIR ? ft_dir_sweep(dir, is_left_over, NULL, err) : FT_OK;
    ft_free(dir);
    return st;
}

enum ft_status ft_datasets_new(const char *data_dir, int64_t seal_bytes, struct ft_datasets **datasets,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_datasets *d = NULL;
    *datasets = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *d, &d, err));
    (void)pthread_mutex_init(&d->mutex, NULL);
    d->seal_bytes = (uint64_t)seal_bytes;
    (void)pthread_cond_init(&d->changed, NULL);
    FT_TRY(ft_new_text(data_dir, &d->data_dir, err));
    FT_TRY(sweep(d, err));
    *datasets = d;
    d = NULL;
done:
    ft_datasets_free(d);
    return st;
}

void ft_datasets_free(struct ft_datasets *datasets)
{
    if (datasets == NULL) {
        return;
    }
    for (size_t i = 0; i < datasets->count; i++) {
        close_set(datasets->sets[i]);
        ft_free(datasets->sets[i]);
    }
    (void)pthread_mutex_destroy(&datasets->mutex);
    (void)pthread_cond_destroy(&datasets->changed);
    ft_free(datasets->sets);
    ft_free(datasets->data_dir);
    ft_free(datasets);
}

static struct open_set *look_up(struct ft_datasets *datasets, const char *name)
{
    for (size_t i = 0; i < datasets->count; i++) {
        if (strcmp(datasets->sets[i]->name, name) == 0) {
            return datasets->sets[i];
        }
    }
    return NULL;
}

/* All that follow: mutex held. */

static enum ft_status add_set(struct ft_datasets *datasets, const char *name, enum set_state state,
                              struct open_set **added, struct ft_err *err)
{
    struct open_set *fresh = NULL;
    FT_RETURN_IF_FAILED(
        ft_grow(&datasets->sets, &datasets->capacity, datasets->count + 1, sizeof *datasets->sets, err));
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *fresh, &fresh, err));
    (void)snprintf(fresh->name, sizeof fresh->name, "%s", name);
    fresh->state = state;
    datasets->sets[datasets->count++] = fresh;
    *added = fresh;
    return FT_OK;
}

/* Before it is closed without the mutex. */
static void begin_close(struct open_set *open)
{
    if (open->set != NULL) {
        open->last = ft_set_stats(open->set);
        open->closing = true;
    }
}

static void drop_set(struct ft_datasets *datasets, struct open_set *open)
{
    add_stats(&datasets->closed, &open->last);
    for (size_t i = 0; i < datasets->count; i++) {
        if (datasets->sets[i] == open) {
            datasets->sets[i] = datasets->sets[--datasets->count];
            break;
        }
    }
    ft_free(open);
    (void)pthread_cond_broadcast(&datasets->changed);
}

/* Room for one more: the one that rests longest is closed. Let go of the mutex meanwhile. */
static enum ft_status make_room(struct ft_datasets *datasets, struct ft_err *err)
{
    struct open_set *oldest = NULL;
    for (size_t i = 0; i < datasets->count; i++) {
        struct open_set *open = datasets->sets[i];
        if (open->state == SET_OPEN && open->users == 0 && (oldest == NULL || open->used < oldest->used)) {
            oldest = open;
        }
    }
    if (oldest == NULL) {
        return FT_FAIL(err, BUSY, "%d datasets are written to at the same time: try again", OPEN_MAX_SETS);
    }
    oldest->state = SET_CLOSING;
    begin_close(oldest);
    (void)pthread_mutex_unlock(&datasets->mutex);
    close_set(oldest);
    (void)pthread_mutex_lock(&datasets->mutex);
    drop_set(datasets, oldest);
    return FT_OK;
}

static enum ft_status find_dir(struct ft_datasets *datasets, const char *name, char **dir, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(set_path(datasets, name, dir, err));
    if (ft_path_kind(*dir) != FT_PATH_DIR) {
        ft_free(*dir);
        *dir = NULL;
        return FT_FAIL(
            err, NOT_FOUND,
            "there is no dataset '%s': send labelled Documents to /train, or `finetuner push` them, first",
            name);
    }
    return FT_OK;
}

/* Without the mutex. `make`: also one that is not there yet. */
static enum ft_status open_files(struct ft_datasets *datasets, const char *name, bool make,
                                 struct ft_set **set, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(make ? set_path(datasets, name, &dir, err) : find_dir(datasets, name, &dir, err));
    enum ft_status st = ft_set_open(dir, datasets->seal_bytes, set, err);
    ft_free(dir);
    return st;
}

static enum ft_status open_set(struct ft_datasets *datasets, const char *name, bool make,
                               struct open_set **open, struct ft_err *err)
{
    struct open_set *fresh = NULL;
    struct ft_set *set = NULL;
    FT_RETURN_IF_FAILED(add_set(datasets, name, SET_OPENING, &fresh, err));
    (void)pthread_mutex_unlock(&datasets->mutex);
    enum ft_status st = open_files(datasets, name, make, &set, err);
    (void)pthread_mutex_lock(&datasets->mutex);
    if (st != FT_OK) {
        drop_set(datasets, fresh);
        return st;
    }
    fresh->set = set;
    fresh->state = SET_OPEN;
    if (datasets->hurry) {
        ft_set_hurry(set);
    }
    (void)pthread_cond_broadcast(&datasets->changed);
    *open = fresh;
    return FT_OK;
}

static enum ft_status being_removed(const char *name, struct ft_err *err)
{
    return FT_FAIL(err, UNAVAILABLE, "dataset '%s' is being removed", name);
}

static enum ft_status take_locked(struct ft_datasets *datasets, const char *name, bool make,
                                  struct open_set **taken, struct ft_err *err)
{
    struct open_set *open = NULL;
    for (;;) {
        open = look_up(datasets, name);
        if (open != NULL && open->state == SET_REMOVING) {
            return being_removed(name, err);
        }
        if (open != NULL && open->state == SET_OPEN) {
            break;
        }
        if (open != NULL) {
            (void)pthread_cond_wait(&datasets->changed, &datasets->mutex);
        } else if (datasets->count >= OPEN_MAX_SETS) {
            FT_RETURN_IF_FAILED(make_room(datasets, err));
        } else {
            FT_RETURN_IF_FAILED(open_set(datasets, name, make, &open, err));
            break;
        }
    }
    open->users++;
    open->used = ++datasets->uses;
    *taken = open;
    return FT_OK;
}

/* The dataset of that name, opened if it is not yet; it stays until let_go(). */
static enum ft_status take_set(struct ft_datasets *datasets, const char *name, bool make,
                               struct open_set **open, struct ft_err *err)
{
    *open = NULL;
    (void)pthread_mutex_lock(&datasets->mutex);
    enum ft_status st = take_locked(datasets, name, make, open, err);
    (void)pthread_mutex_unlock(&datasets->mutex);
    return st;
}

static void let_go(struct ft_datasets *datasets, struct open_set *open)
{
    (void)pthread_mutex_lock(&datasets->mutex);
    open->users--;
    if (open->users == 0) {
        (void)pthread_cond_broadcast(&datasets->changed);
    }
    (void)pthread_mutex_unlock(&datasets->mutex);
}

/* One submission, until it is answered. */
struct ticket {
    struct ft_datasets *datasets;
    struct open_set *open;
    ft_set_done done;
    void *arg;
};

static void answered(void *arg, const struct ft_set_result *result, const struct ft_err *why)
{
    struct ticket ticket = *(struct ticket *)arg;
    ft_free(arg);
    ticket.done(ticket.arg, result, why);
    let_go(ticket.datasets, ticket.open);
}

enum ft_status ft_datasets_submit(struct ft_datasets *datasets, const char *name,
                                  const struct ft_document *docs, size_t count, ft_set_done done, void *arg,
                                  struct ft_err *err)
{
    struct ticket *ticket = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *ticket, &ticket, err));
    *ticket = (struct ticket){datasets, NULL, done, arg};
    enum ft_status st = take_set(datasets, name, true, &ticket->open, err);
    if (st != FT_OK) {
        ft_free(ticket);
        return st;
    }
    ft_set_submit(ticket->open->set, docs, count, answered, ticket);
    return FT_OK;
}

void ft_datasets_hurry(struct ft_datasets *datasets)
{
    if (datasets == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&datasets->mutex);
    datasets->hurry = true;
    for (size_t i = 0; i < datasets->count; i++) {
        struct open_set *open = datasets->sets[i];
        if (!open->closing && open->set != NULL) { /* who closes it writes `set` without the mutex */
            ft_set_hurry(open->set);
        }
    }
    (void)pthread_mutex_unlock(&datasets->mutex);
}

struct ft_set_stats ft_datasets_stats(struct ft_datasets *datasets)
{
    (void)pthread_mutex_lock(&datasets->mutex);
    struct ft_set_stats sum = datasets->closed;
    for (size_t i = 0; i < datasets->count; i++) {
        const struct open_set *open = datasets->sets[i];
        struct ft_set_stats one = open->last;
        if (!open->closing && open->set != NULL) {
            one = ft_set_stats(open->set);
        }
        add_stats(&sum, &one);
        sum.ids += one.ids;
        sum.shards += one.shards;
        sum.journals += one.journals;
    }
    (void)pthread_mutex_unlock(&datasets->mutex);
    return sum;
}

/* One that can be asked for, or a call's own. */
static enum ft_status check_name(const char *name, struct ft_err *err)
{
    bool own = strncmp(name, FT_DATASET_OWN, sizeof FT_DATASET_OWN - 1) == 0 && strchr(name, '/') == NULL &&
               strlen(name) < FT_DATASET_NAME;
    return own || ft_dataset_name_valid(name) ? FT_OK
                                              : FT_FAIL(err, INVALID, "'%.64s' is no dataset's name", name);
}

enum ft_status ft_datasets_delete_ids(struct ft_datasets *datasets, const char *name,
                                      const struct ft_bytes *ids, size_t count, size_t *deleted,
                                      struct ft_err *err)
{
    struct ft_set_result result = {0};
    struct open_set *open = NULL;
    *deleted = 0;
    FT_RETURN_IF_FAILED(check_name(name, err));
    FT_RETURN_IF_FAILED(take_set(datasets, name, false, &open, err));
    enum ft_status st = ft_set_delete(open->set, ids, count, &result, err);
    let_go(datasets, open);
    *deleted = result.deleted;
    return st;
}

/* Nobody else has it from here on; waits for those who do. Mutex held, and let go of meanwhile. */
static enum ft_status claim(struct ft_datasets *datasets, const char *name, struct open_set **claimed,
                            struct ft_err *err)
{
    struct open_set *open = look_up(datasets, name);
    while (open != NULL && (open->state == SET_OPENING || open->state == SET_CLOSING)) {
        (void)pthread_cond_wait(&datasets->changed, &datasets->mutex);
        open = look_up(datasets, name);
    }
    if (open == NULL) {
        return add_set(datasets, name, SET_REMOVING, claimed, err);
    }
    if (open->state == SET_REMOVING) {
        return being_removed(name, err);
    }
    open->state = SET_REMOVING;
    while (open->users > 0) {
        (void)pthread_cond_wait(&datasets->changed, &datasets->mutex);
    }
    begin_close(open);
    *claimed = open;
    return FT_OK;
}

/* It gets a name that nobody can ask for first, so that a crash leaves all of it or nothing. */
static enum ft_status remove_claimed(struct ft_datasets *datasets, struct open_set *open, char **gone,
                                     struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *dir = NULL;
    struct ft_buf hidden = {0};
    FT_TRY(find_dir(datasets, open->name, &dir, err));
    close_set(open);
    FT_TRY(ft_buf_printf(&hidden, err, ".gone-%lld-%s", (long long)ft_clock_unix_ms(), open->name));
    FT_TRY(set_path(datasets, (const char *)hidden.data, gone, err));
    FT_TRY(ft_path_rename(dir, *gone, err));
done:
    ft_buf_release(&hidden);
    ft_free(dir);
    return st;
}

enum ft_status ft_datasets_remove(struct ft_datasets *datasets, const char *name, struct ft_err *err)
{
    struct open_set *open = NULL;
    char *gone = NULL;
    FT_RETURN_IF_FAILED(check_name(name, err));
    (void)pthread_mutex_lock(&datasets->mutex);
    enum ft_status st = claim(datasets, name, &open, err);
    (void)pthread_mutex_unlock(&datasets->mutex);
    FT_RETURN_IF_FAILED(st);
    st = remove_claimed(datasets, open, &gone, err);
    close_set(open); /* whatever went wrong: the next one who asks opens it again */
    (void)pthread_mutex_lock(&datasets->mutex);
    drop_set(datasets, open);
    (void)pthread_mutex_unlock(&datasets->mutex);
    st = st == FT_OK ? ft_path_remove(gone, err) : st;
    ft_free(gone);
    return st;
}

enum ft_status ft_datasets_list(struct ft_datasets *datasets, struct ft_dir_list *names, struct ft_err *err)
{
    char *dir = NULL;
    FT_RETURN_IF_FAILED(set_path(datasets, "", &dir, err));
    enum ft_status st = ft_dir_list(dir, names, err);
    ft_free(dir);
    return st;
}

enum ft_status ft_datasets_dir(struct ft_datasets *datasets, const char *name, char **dir, struct ft_err *err)
{
    *dir = NULL;
    FT_RETURN_IF_FAILED(check_name(name, err));
    return find_dir(datasets, name, dir, err);
}
