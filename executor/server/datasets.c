#include <ctype.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"

enum { NAME_BYTES = 64, OPEN_MAX_SETS = 1024 };

struct open_set {
    char name[NAME_BYTES + 1];
    struct ft_set *set;
    size_t users; /* calls that are not answered */
    bool going;   /* it is being removed */
};

struct ft_datasets {
    char *data_dir;
    uint64_t seal_bytes;
    pthread_mutex_t mutex; /* guards all below; opening a dataset reads its ids under the lock */
    pthread_cond_t idle;   /* a set's last user is gone */
    struct open_set **sets;
    size_t count, capacity;
    struct ft_set_stats closed; /* sums of those that are no longer open */
};

bool ft_dataset_name_valid(const char *name)
{
    size_t n = 0;
    for (; name[n] != '\0' && n <= NAME_BYTES; n++) {
        if (isalnum((unsigned char)name[n]) == 0 && strchr("-_.", name[n]) == NULL) {
            return false;
        }
    }
    return n > 0 && n <= NAME_BYTES && name[0] != '.';
}

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
}

static void close_set(struct ft_datasets *datasets, struct open_set *open)
{
    struct ft_set_stats stats = ft_set_stats(open->set);
    add_stats(&datasets->closed, &stats);
    FT_LOG_INFO_LINE(
        "server", "dataset closed dataset=%s documents=%llu groups=%llu syncs=%llu sealed=%llu merged=%llu",
        open->name, (unsigned long long)stats.ids, (unsigned long long)stats.groups,
        (unsigned long long)stats.syncs, (unsigned long long)stats.seals, (unsigned long long)stats.merges);
    ft_set_close(open->set);
    ft_free(open);
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
static enum ft_status sweep(const struct ft_datasets *datasets, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    char *dir = NULL;
    FT_TRY(set_path(datasets, "", &dir, err));
    if (ft_path_kind(dir) != FT_PATH_DIR) {
        goto done;
    }
    FT_TRY(ft_dir_list(dir, &list, err));
    for (size_t i = 0; i < list.count && st == FT_OK; i++) {
        if (list.names[i][0] == '.') {
            char *path = NULL;
            st = set_path(datasets, list.names[i], &path, err);
            st = st == FT_OK ? ft_path_remove(path, err) : st;
            ft_free(path);
        }
    }
done:
    ft_dir_list_release(&list);
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
    (void)pthread_cond_init(&d->idle, NULL);
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
        close_set(datasets, datasets->sets[i]);
    }
    (void)pthread_mutex_destroy(&datasets->mutex);
    (void)pthread_cond_destroy(&datasets->idle);
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

/* Mutex held. */
static enum ft_status open_set(struct ft_datasets *datasets, const char *name, struct open_set **open,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct open_set *fresh = NULL;
    char *dir = NULL;
    if (datasets->count == OPEN_MAX_SETS) {
        return FT_FAIL(err, LIMIT, "more than %d datasets are written to at the same time", OPEN_MAX_SETS);
    }
    FT_TRY(ft_grow(&datasets->sets, &datasets->capacity, datasets->count + 1, sizeof *datasets->sets, err));
    FT_TRY(ft_new(1, sizeof *fresh, &fresh, err));
    FT_TRY(set_path(datasets, name, &dir, err));
    FT_TRY(ft_set_open(dir, datasets->seal_bytes, &fresh->set, err));
    memcpy(fresh->name, name, strlen(name) + 1);
    datasets->sets[datasets->count++] = fresh;
    *open = fresh;
    fresh = NULL;
done:
    ft_free(dir);
    ft_free(fresh);
    return st;
}

/* The dataset of that name, opened if it is not yet; it stays until let_go(). */
static enum ft_status take_set(struct ft_datasets *datasets, const char *name, struct open_set **open,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    (void)pthread_mutex_lock(&datasets->mutex);
    *open = look_up(datasets, name);
    if (*open != NULL && (*open)->going) {
        *open = NULL;
        st = FT_FAIL(err, UNAVAILABLE, "dataset '%s' is being removed", name);
    } else if (*open == NULL) {
        st = open_set(datasets, name, open, err);
    }
    if (st == FT_OK) {
        (*open)->users++;
    }
    (void)pthread_mutex_unlock(&datasets->mutex);
    return st;
}

static void let_go(struct ft_datasets *datasets, struct open_set *open)
{
    (void)pthread_mutex_lock(&datasets->mutex);
    open->users--;
    if (open->users == 0) {
        (void)pthread_cond_broadcast(&datasets->idle);
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
    enum ft_status st = take_set(datasets, name, &ticket->open, err);
    if (st != FT_OK) {
        ft_free(ticket);
        return st;
    }
    ft_set_submit(ticket->open->set, docs, count, answered, ticket);
    return FT_OK;
}

struct ft_set_stats ft_datasets_stats(struct ft_datasets *datasets)
{
    (void)pthread_mutex_lock(&datasets->mutex);
    struct ft_set_stats sum = datasets->closed;
    for (size_t i = 0; i < datasets->count; i++) {
        struct ft_set_stats one = ft_set_stats(datasets->sets[i]->set);
        add_stats(&sum, &one);
        sum.ids += one.ids;
        sum.shards += one.shards;
        sum.journals += one.journals;
    }
    (void)pthread_mutex_unlock(&datasets->mutex);
    return sum;
}

static enum ft_status find_dir(struct ft_datasets *datasets, const char *name, char **dir, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(set_path(datasets, name, dir, err));
    if (ft_path_kind(*dir) != FT_PATH_DIR) {
        ft_free(*dir);
        *dir = NULL;
        return FT_FAIL(err, NOT_FOUND, "there is no dataset '%s': send labelled Documents to /train first",
                       name);
    }
    return FT_OK;
}

enum ft_status ft_datasets_delete_ids(struct ft_datasets *datasets, const char *name,
                                      const struct ft_bytes *ids, size_t count, size_t *deleted,
                                      struct ft_err *err)
{
    struct ft_set_result result = {0};
    struct open_set *open = NULL;
    char *dir = NULL;
    *deleted = 0;
    FT_RETURN_IF_FAILED(ft_datasets_dir(datasets, name, &dir, err));
    ft_free(dir);
    FT_RETURN_IF_FAILED(take_set(datasets, name, &open, err));
    enum ft_status st = ft_set_delete(open->set, ids, count, &result, err);
    let_go(datasets, open);
    *deleted = result.deleted;
    return st;
}

/* Closed and out of the list, when nobody uses it any more. Mutex held, and let go of meanwhile. */
static enum ft_status close_open(struct ft_datasets *datasets, const char *name, struct ft_err *err)
{
    struct open_set *open = look_up(datasets, name);
    if (open == NULL) {
        return FT_OK;
    }
    if (open->going) {
        return FT_FAIL(err, UNAVAILABLE, "dataset '%s' is being removed", name);
    }
    open->going = true;
    while (open->users > 0) {
        (void)pthread_cond_wait(&datasets->idle, &datasets->mutex);
    }
    for (size_t i = 0; i < datasets->count; i++) {
        if (datasets->sets[i] == open) {
            datasets->sets[i] = datasets->sets[--datasets->count];
        }
    }
    close_set(datasets, open);
    return FT_OK;
}

/* It gets a name that nobody can ask for first, so that a crash leaves all of it or nothing. */
enum ft_status ft_datasets_remove(struct ft_datasets *datasets, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *dir = NULL;
    char *gone = NULL;
    struct ft_buf hidden = {0};
    FT_TRY(ft_buf_printf(&hidden, err, ".gone-%lld-%s", (long long)ft_clock_unix_ms(), name));
    FT_TRY(set_path(datasets, (const char *)hidden.data, &gone, err));
    (void)pthread_mutex_lock(&datasets->mutex);
    st = find_dir(datasets, name, &dir, err);
    st = st == FT_OK ? close_open(datasets, name, err) : st;
    st = st == FT_OK ? ft_path_rename(dir, gone, err) : st;
    (void)pthread_mutex_unlock(&datasets->mutex);
    st = st == FT_OK ? ft_path_remove(gone, err) : st;
done:
    ft_buf_release(&hidden);
    ft_free(dir);
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
    bool own = strncmp(name, FT_DATASET_OWN, sizeof FT_DATASET_OWN - 1) == 0 && strchr(name, '/') == NULL;
    if (!own && !ft_dataset_name_valid(name)) {
        return FT_FAIL(err, INVALID, "'%.64s' is no dataset's name", name);
    }
    return find_dir(datasets, name, dir, err);
}
