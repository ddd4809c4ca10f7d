#include "executor/server/models.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/base/thread.h"

/* The loader stands back behind the encode thread (nice). */
enum { LOADER_NICE = 5 };

struct ft_served {
    char *path;
    char *note; /* of a swap; NULL: it is only wanted */
    bool becomes_current;
    enum ft_served_state state;
    void *encoder;
    size_t bytes;
    size_t users;
    uint64_t used; /* clock of when it was wanted last, or loaded */
    struct ft_err why;
    struct ft_served *next;
};

struct ft_models {
    struct ft_models_options options;
    size_t limit; /* bytes */
    struct ft_thread *loader;

    pthread_mutex_t mutex;   /* guards all below, and what is in the table. Taken last */
    pthread_cond_t changed;  /* something to load, to let go of, or a load has ended */
    struct ft_served *first; /* loading and ready ones; a broken one is its users' alone */
    char *current;           /* path; the model itself may go like any other */
    uint64_t clock;
    bool closing;
};

static void served_free(struct ft_models *models, struct ft_served *s)
{
    if (s == NULL) {
        return;
    }
    if (s->encoder != NULL) {
        models->options.engine->close(s->encoder);
    }
    ft_free(s->path);
    ft_free(s->note);
    ft_free(s);
}

/* ---- the table; mutex held */

static void unlink_served(struct ft_models *models, struct ft_served *s)
{
    struct ft_served **at = &models->first;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    s->next = NULL;
}

static size_t bytes_held(const struct ft_models *models)
{
    size_t bytes = 0;
    for (const struct ft_served *s = models->first; s != NULL; s = s->next) {
        bytes += s->bytes;
    }
    return bytes;
}

/* Whether the current one is newer than another that somebody still uses: the one before a swap, which goes
 * when it is done. */
static bool stays(const struct ft_models *models, const struct ft_served *served)
{
    bool older_in_use = false;
    for (const struct ft_served *s = models->first; s != NULL; s = s->next) {
        older_in_use =
            older_in_use || (s->state == FT_SERVED_READY && s->users > 0 && s->used < served->used);
    }
    return older_in_use && models->current != NULL && strcmp(served->path, models->current) == 0;
}

/* The idle one that was not used longest, if anything else is there or must come; NULL: all are in use. */
static struct ft_served *least_used(const struct ft_models *models)
{
    struct ft_served *least = NULL;
    size_t others = 0;
    for (struct ft_served *s = models->first; s != NULL; s = s->next) {
        others++;
        bool idle = s->state == FT_SERVED_READY && s->users == 0 && !stays(models, s);
        if (idle && (least == NULL || s->used < least->used)) {
            least = s;
        }
    }
    return others > 1 ? least : NULL;
}

static struct ft_served *next_to_load(const struct ft_models *models)
{
    struct ft_served *oldest = NULL;
    for (struct ft_served *s = models->first; s != NULL; s = s->next) {
        if (s->state == FT_SERVED_LOADING && (oldest == NULL || s->used < oldest->used)) {
            oldest = s;
        }
    }
    return oldest;
}

static enum ft_status find_or_add(struct ft_models *models, const char *path, struct ft_served **found,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_served *fresh = NULL;
    *found = NULL;
    for (struct ft_served *s = models->first; s != NULL; s = s->next) {
        if (strcmp(s->path, path) == 0) {
            s->used = s->state == FT_SERVED_READY ? ++models->clock : s->used;
            *found = s;
            return FT_OK;
        }
    }
    FT_TRY(ft_new(1, sizeof *fresh, &fresh, err));
    FT_TRY(ft_new_text(path, &fresh->path, err));
    fresh->used = ++models->clock;
    fresh->next = models->first;
    models->first = fresh;
    *found = fresh;
    fresh = NULL;
    (void)pthread_cond_broadcast(&models->changed);
done:
    served_free(models, fresh);
    return st;
}

/* ---- the loader */

/* Out of the table: its users are told why when they ask, the last of them frees it. */
static struct ft_served *break_served(struct ft_models *models, struct ft_served *s)
{
    s->state = FT_SERVED_BROKEN;
    unlink_served(models, s);
    return s->users == 0 ? s : NULL;
}

static enum ft_status open_model(const struct ft_models *models, const char *path, void **encoder,
                                 size_t *bytes, struct ft_err *err)
{
    const struct ft_engine *engine = models->options.engine;
    FT_RETURN_IF_FAILED(engine->open(models->options.config, path, encoder, err));
    *bytes = engine->bytes(*encoder);
    if (*bytes > models->limit) {
        engine->close(*encoder);
        *encoder = NULL;
        return FT_FAIL(err, LIMIT, "%s takes %zu MB, models may take %zu MB (models_memory_mb)", path,
                       (*bytes + 999999) / 1000000, models->limit / 1000000);
    }
    return FT_OK;
}

static void make_current(struct ft_models *models, const char *path)
{
    char *copy = ft_strdup(path);
    if (copy == NULL) {
        FT_LOG_ERROR_LINE("server", "cannot serve model path=\"%s\" reason=\"out of memory\"", path);
        return;
    }
    ft_free(models->current);
    models->current = copy;
}

/* Mutex held, and let go of meanwhile. */
static void load(struct ft_models *models, struct ft_served *s)
{
    void *encoder = NULL;
    size_t bytes = 0;
    struct ft_err why = {0};
    s->users++; /* it must not go while nobody holds the mutex */
    (void)pthread_mutex_unlock(&models->mutex);
    enum ft_status st = open_model(models, s->path, &encoder, &bytes, &why);
    if (st == FT_OK) {
        FT_LOG_INFO_LINE("server", "model loaded path=\"%s\" dim=%zu bytes=%zu", s->path,
                         models->options.engine->dim(encoder), bytes);
    } else {
        FT_LOG_ERROR_LINE("server", "cannot load model path=\"%s\" reason=\"%s\"", s->path, why.text);
    }
    (void)pthread_mutex_lock(&models->mutex);
    s->users--;
    s->encoder = encoder;
    s->bytes = bytes;
    s->why = why;
    s->used = ++models->clock;
    s->state = FT_SERVED_READY;
    char *note = s->note;
    s->note = NULL;
    if (st == FT_OK && s->becomes_current) {
        make_current(models, s->path);
    }
    s->becomes_current = false;
    struct ft_served *gone = st != FT_OK ? break_served(models, s) : NULL;
    (void)pthread_cond_broadcast(&models->changed);
    (void)pthread_mutex_unlock(&models->mutex);
    served_free(models, gone);
    models->options.settled(models->options.encode);
    if (note != NULL) {
        models->options.swapped(models->options.service, note);
    }
    ft_free(note);
    (void)pthread_mutex_lock(&models->mutex);
}

static void let_go(struct ft_models *models, struct ft_served *s)
{
    unlink_served(models, s);
    (void)pthread_mutex_unlock(&models->mutex);
    FT_LOG_INFO_LINE("server", "model unloaded path=\"%s\"", s->path);
    served_free(models, s);
    (void)pthread_mutex_lock(&models->mutex);
}

static void loader_main(void *arg)
{
    struct ft_models *models = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LOADER_NICE); /* refused: it is no worse than others */
    (void)pthread_mutex_lock(&models->mutex);
    while (!models->closing) {
        bool over = bytes_held(models) > models->limit;
        struct ft_served *idle = over ? least_used(models) : NULL;
        struct ft_served *wanted = next_to_load(models);
        if (idle != NULL) {
            let_go(models, idle);
        } else if (wanted != NULL && !over) {
            load(models, wanted);
        } else { /* over the limit with all in use: whoever drops one says so */
            (void)pthread_cond_wait(&models->changed, &models->mutex);
        }
    }
    (void)pthread_mutex_unlock(&models->mutex);
}

/* ---- from outside */

enum ft_status ft_models_new(const struct ft_models_options *options, struct ft_models **models,
                             struct ft_err *err)
{
    struct ft_models *m = NULL;
    *models = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *m, &m, err));
    m->options = *options;
    int64_t mb = options->config->models_memory_mb;
    m->limit = mb > 0 ? (size_t)mb * 1000000 : ft_memory_limit() / 2;
    (void)pthread_mutex_init(&m->mutex, NULL);
    (void)pthread_cond_init(&m->changed, NULL);
    enum ft_status st = ft_thread_start("loader", loader_main, m, &m->loader, err);
    if (st != FT_OK) {
        ft_models_free(m);
        return st;
    }
    *models = m;
    return FT_OK;
}

void ft_models_free(struct ft_models *models)
{
    if (models == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&models->mutex);
    models->closing = true;
    (void)pthread_cond_broadcast(&models->changed);
    (void)pthread_mutex_unlock(&models->mutex);
    ft_thread_join(models->loader);
    struct ft_served *next = NULL;
    for (struct ft_served *s = models->first; s != NULL; s = next) {
        next = s->next;
        assert(s->users == 0);
        served_free(models, s);
    }
    (void)pthread_mutex_destroy(&models->mutex);
    (void)pthread_cond_destroy(&models->changed);
    ft_free(models->current);
    ft_free(models);
}

enum ft_status ft_models_want(struct ft_models *models, const char *path, struct ft_served **served,
                              struct ft_err *err)
{
    (void)pthread_mutex_lock(&models->mutex);
    enum ft_status st = find_or_add(models, path, served, err);
    if (st == FT_OK) {
        (*served)->users++;
    }
    (void)pthread_mutex_unlock(&models->mutex);
    return st;
}

void ft_models_loaded(struct ft_models *models, size_t *count, size_t *bytes)
{
    *count = 0;
    (void)pthread_mutex_lock(&models->mutex);
    *bytes = bytes_held(models);
    for (const struct ft_served *s = models->first; s != NULL; s = s->next) {
        *count += s->state == FT_SERVED_READY ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&models->mutex);
}

void ft_models_drop(struct ft_models *models, struct ft_served *served)
{
    if (served == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&models->mutex);
    assert(served->users > 0);
    served->users--;
    bool last = served->users == 0 && served->state == FT_SERVED_BROKEN;
    (void)pthread_cond_broadcast(&models->changed);
    (void)pthread_mutex_unlock(&models->mutex);
    if (last) {
        served_free(models, served);
    }
}

enum ft_served_state ft_models_state(struct ft_models *models, const struct ft_served *served)
{
    (void)pthread_mutex_lock(&models->mutex);
    enum ft_served_state state = served->state;
    (void)pthread_mutex_unlock(&models->mutex);
    return state;
}

void *ft_served_encoder(const struct ft_served *served)
{
    return served->encoder;
}

void ft_models_ran(struct ft_models *models, struct ft_served *served)
{
    size_t bytes = models->options.engine->bytes(served->encoder);
    (void)pthread_mutex_lock(&models->mutex);
    served->bytes = bytes;
    (void)pthread_mutex_unlock(&models->mutex);
}

enum ft_status ft_models_why(struct ft_models *models, const struct ft_served *served, struct ft_err *err)
{
    (void)pthread_mutex_lock(&models->mutex);
    assert(served->state == FT_SERVED_BROKEN && served->why.code != FT_OK);
    *err = served->why;
    (void)pthread_mutex_unlock(&models->mutex);
    return err->code;
}

enum ft_status ft_models_current(struct ft_models *models, char **path, struct ft_err *err)
{
    *path = NULL;
    (void)pthread_mutex_lock(&models->mutex);
    enum ft_status st = models->current != NULL ? ft_new_text(models->current, path, err) : FT_OK;
    (void)pthread_mutex_unlock(&models->mutex);
    return st;
}

void ft_models_swap(struct ft_models *models, const char *path, const char *note)
{
    struct ft_err err = {0};
    struct ft_served *s = NULL;
    char *copy = NULL;
    (void)pthread_mutex_lock(&models->mutex);
    enum ft_status st = ft_new_text(note, &copy, &err);
    if (st == FT_OK) {
        st = find_or_add(models, path, &s, &err);
    }
    bool loading = st == FT_OK && s->state == FT_SERVED_LOADING;
    if (loading) {
        ft_free(s->note);
        s->note = copy;
        s->becomes_current = true;
        copy = NULL;
    } else if (st == FT_OK) {
        make_current(models, s->path);
    }
    (void)pthread_mutex_unlock(&models->mutex);
    if (st != FT_OK) {
        FT_LOG_ERROR_LINE("server", "cannot serve model path=\"%s\" reason=\"%s\"", path, err.text);
    }
    if (!loading) {
        models->options.swapped(models->options.service, note);
    }
    ft_free(copy);
}

enum ft_status ft_models_begin(struct ft_models *models, const char *path, struct ft_err *err)
{
    struct ft_served *s = NULL;
    FT_RETURN_IF_FAILED(ft_models_want(models, path, &s, err));
    (void)pthread_mutex_lock(&models->mutex);
    while (s->state == FT_SERVED_LOADING) {
        (void)pthread_cond_wait(&models->changed, &models->mutex);
    }
    enum ft_status st = s->state == FT_SERVED_BROKEN ? s->why.code : FT_OK;
    if (st == FT_OK) {
        make_current(models, path);
    } else {
        *err = s->why;
    }
    (void)pthread_mutex_unlock(&models->mutex);
    ft_models_drop(models, s);
    return st;
}
