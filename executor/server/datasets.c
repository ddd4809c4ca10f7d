#include <ctype.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"

enum { NAME_BYTES = 64, OPEN_MAX_SETS = 1024 };

struct open_set {
    char name[NAME_BYTES + 1];
    struct ft_set *set;
};

struct ft_datasets {
    char *data_dir;
    uint64_t seal_bytes;
    pthread_mutex_t mutex; /* guards all below; opening a dataset reads its ids under the lock */
    struct open_set *sets;
    size_t count, capacity;
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

enum ft_status ft_datasets_new(const char *data_dir, int64_t seal_bytes, struct ft_datasets **datasets,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_datasets *d = NULL;
    *datasets = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *d, &d, err));
    (void)pthread_mutex_init(&d->mutex, NULL);
    d->seal_bytes = (uint64_t)seal_bytes;
    FT_TRY(ft_new_text(data_dir, &d->data_dir, err));
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
        struct ft_set_stats stats = ft_set_stats(datasets->sets[i].set);
        FT_LOG_INFO_LINE(
            "server",
            "dataset closed dataset=%s documents=%llu groups=%llu syncs=%llu sealed=%llu merged=%llu",
            datasets->sets[i].name, (unsigned long long)stats.ids, (unsigned long long)stats.groups,
            (unsigned long long)stats.syncs, (unsigned long long)stats.seals,
            (unsigned long long)stats.merges);
        ft_set_close(datasets->sets[i].set);
    }
    (void)pthread_mutex_destroy(&datasets->mutex);
    ft_free(datasets->sets);
    ft_free(datasets->data_dir);
    ft_free(datasets);
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

/* The dataset of that name, opened if it is not yet. Mutex held. */
static enum ft_status find_set(struct ft_datasets *datasets, const char *name, struct ft_set **set,
                               struct ft_err *err)
{
    for (size_t i = 0; i < datasets->count; i++) {
        if (strcmp(datasets->sets[i].name, name) == 0) {
            *set = datasets->sets[i].set;
            return FT_OK;
        }
    }
    if (datasets->count == OPEN_MAX_SETS) {
        return FT_FAIL(err, LIMIT, "more than %d datasets are written to at the same time", OPEN_MAX_SETS);
    }
    char *dir = NULL;
    FT_RETURN_IF_FAILED(
        ft_grow(&datasets->sets, &datasets->capacity, datasets->count + 1, sizeof *datasets->sets, err));
    FT_RETURN_IF_FAILED(set_path(datasets, name, &dir, err));
    struct open_set *fresh = &datasets->sets[datasets->count];
    enum ft_status st = ft_set_open(dir, datasets->seal_bytes, &fresh->set, err);
    ft_free(dir);
    if (st == FT_OK) {
        memcpy(fresh->name, name, strlen(name) + 1);
        *set = fresh->set;
        datasets->count++;
    }
    return st;
}

enum ft_status ft_datasets_submit(struct ft_datasets *datasets, const char *name,
                                  const struct ft_document *docs, size_t count, ft_set_done done, void *arg,
                                  struct ft_err *err)
{
    struct ft_set *set = NULL;
    (void)pthread_mutex_lock(&datasets->mutex);
    enum ft_status st = find_set(datasets, name, &set, err);
    (void)pthread_mutex_unlock(&datasets->mutex);
    if (st == FT_OK) {
        ft_set_submit(set, docs, count, done, arg); /* sets stay open until the service ends */
    }
    return st;
}

enum ft_status ft_datasets_dir(struct ft_datasets *datasets, const char *name, char **dir, struct ft_err *err)
{
    *dir = NULL;
    if (!ft_dataset_name_valid(name)) {
        return FT_FAIL(err, INVALID, "'%.64s' is no dataset's name", name);
    }
    FT_RETURN_IF_FAILED(set_path(datasets, name, dir, err));
    if (ft_path_kind(*dir) != FT_PATH_DIR) {
        ft_free(*dir);
        *dir = NULL;
        return FT_FAIL(err, NOT_FOUND, "there is no dataset '%s': send labelled Documents to /train first",
                       name);
    }
    return FT_OK;
}
