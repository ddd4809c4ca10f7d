#include "executor/runs/runs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/codec/digest.h"
#include "executor/runs/internal.h"
#include "executor/store/folder.h"

/* Who has the lock, as it wrote down. A text, for people: the lock itself is the system's. */
static void read_holder(int fd, char text[64])
{
    char number[24] = "";
    ssize_t n = pread(fd, number, sizeof number - 1, 0);
    long pid = n > 0 ? strtol(number, NULL, 10) : 0;
    text[0] = '\0';
    if (pid > 0) {
        (void)snprintf(text, 64, ": process %ld", pid);
    }
}

/* On a full disk nobody is told; that is no reason not to start. */
static void write_holder(int fd)
{
    char number[24];
    int n = snprintf(number, sizeof number, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0) {
        (void)!pwrite(fd, number, (size_t)n, 0);
    }
}

/* One service or shell command at a time writes a DATA_DIR: the lock goes with the process, however it ends.
 */
enum ft_status ft_runs_lock(const char *data_dir, int *fd, struct ft_err *err)
{
    char *path = NULL;
    *fd = -1;
    FT_RETURN_IF_FAILED(ft_path_join(data_dir, "lock", &path, err));
    enum ft_status st = FT_OK;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*fd < 0) {
        st = FT_FAIL(err, IO, "%s: %s", path, strerrorname_np(errno));
    } else if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        char holder[64];
        read_holder(*fd, holder);
        (void)close(*fd);
        *fd = -1;
        st = FT_FAIL(err, BUSY, "workspace %s is in use by another process%s", data_dir, holder);
    } else {
        write_holder(*fd);
    }
    ft_free(path);
    return st;
}

static enum ft_status make_dirs(const char *data_dir, struct ft_err *err)
{
    static const char *const names[] = {"datasets", "runs", "artifacts", "models"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = NULL;
        FT_RETURN_IF_FAILED(ft_path_join(data_dir, names[i], &path, err));
        enum ft_status st = ft_dir_make(path, err);
        ft_free(path);
        if (st != FT_OK) {
            return st;
        }
    }
    return FT_OK;
}

static void init_lock(struct ft_runs *runs)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&runs->mutex, NULL);
    (void)pthread_mutex_init(&runs->read_mutex, NULL);
    (void)pthread_mutex_init(&runs->newest_mutex, NULL);
    (void)pthread_cond_init(&runs->wake, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    runs->lock_fd = -1;
}

enum ft_status ft_runs_open(const struct ft_runs_options *options, struct ft_runs **runs, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_runs *r = NULL;
    *runs = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *r, &r, err));
    init_lock(r);
    r->at_once = options->at_once;
    r->threads = options->threads;
    r->nice = options->nice;
    r->ended = options->ended;
    r->arg = options->arg;
    FT_TRY(ft_new_text(options->data_dir, &r->data_dir, err));
    FT_TRY(ft_new_text(options->device, &r->device, err));
    FT_TRY(ft_new((size_t)options->at_once, sizeof *r->workers, &r->workers, err));
    FT_TRY(make_dirs(r->data_dir, err));
    FT_TRY(ft_runs_lock(r->data_dir, &r->lock_fd, err));
    FT_TRY(ft_db_open(r, err));
    FT_TRY(ft_recover(r, err));
    FT_TRY(ft_db_newest(r, err));
    *runs = r; /* before its thread, which may call `ended` at once, which may ask here */
    FT_TRY(ft_thread_start("runs", ft_supervise, r, &r->thread, err));
    r = NULL;
done:
    if (r != NULL) {
        *runs = NULL;
    }
    ft_runs_close(r, 0);
    return st;
}

void ft_runs_stop(struct ft_runs *runs, int grace_ms)
{
    (void)pthread_mutex_lock(&runs->mutex);
    runs->closing = true;
    runs->grace_ms = grace_ms;
    (void)pthread_cond_broadcast(&runs->wake);
    (void)pthread_mutex_unlock(&runs->mutex);
}

void ft_runs_close(struct ft_runs *runs, int grace_ms)
{
    if (runs == NULL) {
        return;
    }
    ft_runs_stop(runs, grace_ms);
    ft_thread_join(runs->thread);
    ft_db_close(runs);
    if (runs->lock_fd >= 0) {
        (void)close(runs->lock_fd);
    }
    (void)pthread_cond_destroy(&runs->wake);
    (void)pthread_mutex_destroy(&runs->mutex);
    (void)pthread_mutex_destroy(&runs->read_mutex);
    (void)pthread_mutex_destroy(&runs->newest_mutex);
    ft_free(runs->data_dir);
    ft_free(runs->device);
    ft_free(runs->workers);
    ft_free(runs);
}

/* "20261123-222643-1f3a9c": sorts by time, hard to guess by accident. */
static enum ft_status make_id(char id[FT_RUN_ID], struct ft_err *err)
{
    uint8_t random[3];
    char iso[FT_CLOCK_TEXT];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return FT_FAIL(err, IO, "the operating system has no random bytes");
    }
    ft_clock_iso(ft_clock_unix_ms(), iso);
    (void)snprintf(id, FT_RUN_ID, "%.4s%.2s%.2s-%.2s%.2s%.2s-%02x%02x%02x", iso, iso + 5, iso + 8, iso + 11,
                   iso + 14, iso + 17, random[0], random[1], random[2]);
    return FT_OK;
}

enum ft_status ft_run_set_text(struct ft_json *object, const char *key, const char *text, struct ft_err *err)
{
    return ft_json_set(object, key, text != NULL ? ft_json_of_text(text) : ft_json_null(), err);
}

static enum ft_status make_spec(const struct ft_runs *runs, const struct ft_run_spec *spec, const char *id,
                                struct ft_buf *text, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = ft_json_object();
    if (json == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory writing a run");
    }
    FT_TRY(ft_run_set_text(json, "run", id, err));
    FT_TRY(ft_run_set_text(json, "name", spec->name != NULL ? spec->name : id, err));
    FT_TRY(ft_run_set_text(json, "model", spec->model, err));
    FT_TRY(ft_run_set_text(json, "dataset", spec->dataset, err));
    FT_TRY(ft_run_set_text(json, "eval_dataset", spec->eval_dataset, err));
    FT_TRY(ft_run_set_text(json, "device", runs->device, err));
    FT_TRY(ft_json_set(json, "threads", ft_json_of_int(runs->threads), err));
    FT_TRY(ft_json_set(json, "nice", ft_json_of_int(runs->nice), err));
    FT_TRY(ft_json_set(json, "options", ft_json_copy(spec->options), err));
    FT_TRY(ft_json_write(json, 1, text, err));
done:
    ft_json_free(json);
    return st;
}

/* What a caller asks for, in its own words: clients do not keep the order of a map. */
static enum ft_status hash_asked(const struct ft_json *asked, char hash[FT_SHA256_HEX], struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = ft_json_write_sorted(asked, &text, err);
    if (st == FT_OK) {
        ft_sha256_of(ft_buf_bytes(&text), hash);
    }
    ft_buf_release(&text);
    return st;
}

static enum ft_status write_spec(const struct ft_runs *runs, const char *id, struct ft_bytes text,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *dir = NULL;
    char *path = NULL;
    FT_TRY(ft_run_path(runs->data_dir, id, "", &dir, err));
    FT_TRY(ft_dir_make(dir, err));
    FT_TRY(ft_run_path(runs->data_dir, id, "spec.json", &path, err));
    FT_TRY(ft_file_write(path, text, err));
done:
    ft_free(dir);
    ft_free(path);
    return st;
}

struct key_row {
    char run[FT_RUN_ID];
    char asked[FT_SHA256_HEX];
};

static enum ft_status read_key(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    struct key_row *out = arg;
    (void)err;
    (void)snprintf(out->run, sizeof out->run, "%s", (const char *)sqlite3_column_text(row, 0));
    (void)snprintf(out->asked, sizeof out->asked, "%s", (const char *)sqlite3_column_text(row, 1));
    return FT_OK;
}

/* The run of a key that was asked for the same things; id is "" when there is none. `reading`: by the reader,
 * else mutex held. */
static enum ft_status find_key(struct ft_runs *runs, bool reading, const char *key, const char *asked,
                               char id[FT_RUN_ID], struct ft_err *err)
{
    struct key_row row = {{0}, {0}};
    struct ft_db_query query = {.sql = "SELECT run, asked FROM keys WHERE key=?1",
                                .texts = {key},
                                .n_texts = 1,
                                .row = read_key,
                                .arg = &row};
    FT_RETURN_IF_FAILED(reading ? ft_db_read(runs, &query, err) : ft_db_run(runs, &query, err));
    if (row.run[0] != '\0' && strcmp(row.asked, asked) != 0) {
        return FT_FAIL(err, EXISTS, "the key '%.128s' is that of run '%s', which was asked for other things",
                       key, row.run);
    }
    (void)snprintf(id, FT_RUN_ID, "%s", row.run);
    return FT_OK;
}

enum ft_status ft_runs_find_key(struct ft_runs *runs, const char *key, const struct ft_json *asked,
                                char id[FT_RUN_ID], struct ft_err *err)
{
    char hash[FT_SHA256_HEX];
    id[0] = '\0';
    FT_RETURN_IF_FAILED(hash_asked(asked, hash, err));
    return find_key(runs, true, key, hash, id, err);
}

static enum ft_status run_sql(struct ft_runs *runs, const char *sql, struct ft_err *err)
{
    struct ft_db_query query = {.sql = sql};
    return ft_db_run(runs, &query, err);
}

/* The run and its key, both or none. Mutex held. */
static enum ft_status insert_run(struct ft_runs *runs, const struct ft_run_spec *spec, const char *id,
                                 const char *asked, const char *text, struct ft_err *err)
{
    char now[32];
    struct ft_err second = {0};
    (void)snprintf(now, sizeof now, "%lld", (long long)ft_clock_unix_ms());
    struct ft_db_query run = {
        .sql = "INSERT INTO runs (id, name, state, spec, created_ms) VALUES (?1, ?2, 'CREATED', ?3, CAST(?4 "
               "AS INTEGER))",
        .texts = {id, spec->name != NULL ? spec->name : id, text, now},
        .n_texts = 4};
    struct ft_db_query key = {.sql = "INSERT INTO keys (key, run, asked) VALUES (?1, ?2, ?3)",
                              .texts = {spec->key, id, asked},
                              .n_texts = 3};
    FT_RETURN_IF_FAILED(run_sql(runs, "BEGIN IMMEDIATE", err));
    enum ft_status st = ft_db_run(runs, &run, err);
    if (st == FT_OK && spec->key != NULL && spec->key[0] != '\0') {
        st = ft_db_run(runs, &key, err);
    }
    if (st == FT_OK) {
        st = run_sql(runs, "COMMIT", err);
    }
    if (st != FT_OK) {
        (void)!run_sql(runs, "ROLLBACK", &second);
    }
    return st;
}

enum ft_status ft_runs_submit(struct ft_runs *runs, const struct ft_run_spec *spec, char id[FT_RUN_ID],
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    char before[FT_RUN_ID] = "";
    char asked[FT_SHA256_HEX] = "";
    bool keyed = spec->key != NULL && spec->key[0] != '\0';
    if (keyed) {
        FT_TRY(hash_asked(spec->asked, asked, err));
    }
    FT_TRY(make_id(id, err));
    FT_TRY(make_spec(runs, spec, id, &text, err));
    (void)pthread_mutex_lock(&runs->mutex);
    st = keyed ? find_key(runs, false, spec->key, asked, before, err) : FT_OK;
    if (st == FT_OK && before[0] == '\0') {
        st = write_spec(runs, id, ft_buf_bytes(&text), err);
        st = st == FT_OK ? insert_run(runs, spec, id, asked, (const char *)text.data, err) : st;
        (void)pthread_cond_broadcast(&runs->wake);
    } else if (st == FT_OK) {
        (void)snprintf(id, FT_RUN_ID, "%s", before);
    }
    (void)pthread_mutex_unlock(&runs->mutex);
done:
    ft_buf_release(&text);
    if (st != FT_OK) {
        id[0] = '\0';
    }
    return st;
}

/* Mutex held. */
static enum ft_status delete_locked(struct ft_runs *runs, const char *id, struct ft_err *err)
{
    enum ft_run_state state = FT_RUN_CREATED;
    struct ft_err second = {0};
    struct ft_db_query key = {.sql = "DELETE FROM keys WHERE run=?1", .texts = {id}, .n_texts = 1};
    struct ft_db_query run = {.sql = "DELETE FROM runs WHERE id=?1", .texts = {id}, .n_texts = 1};
    FT_RETURN_IF_FAILED(ft_db_state(runs, id, &state, err));
    if (!ft_run_ended(state)) {
        return FT_FAIL(err, BUSY, "run '%s' has not ended: it is %s", id, ft_run_state_name(state));
    }
    FT_RETURN_IF_FAILED(run_sql(runs, "BEGIN IMMEDIATE", err));
    enum ft_status st = ft_db_run(runs, &key, err);
    st = st == FT_OK ? ft_db_run(runs, &run, err) : st;
    st = st == FT_OK ? run_sql(runs, "COMMIT", err) : st;
    if (st != FT_OK) {
        (void)!run_sql(runs, "ROLLBACK", &second);
        return st;
    }
    return ft_db_newest(runs, err);
}

/* The registry first: what a crash leaves on the disk then belongs to no run. */
enum ft_status ft_runs_delete(struct ft_runs *runs, const char *id, struct ft_err *err)
{
    static const char *const places[] = {"runs", "artifacts"};
    (void)pthread_mutex_lock(&runs->mutex);
    enum ft_status st = delete_locked(runs, id, err);
    (void)pthread_mutex_unlock(&runs->mutex);
    for (size_t i = 0; i < 2 && st == FT_OK; i++) {
        struct ft_buf tail = {0};
        char *path = NULL;
        st = ft_buf_printf(&tail, err, "%s/%s", places[i], id);
        st = st == FT_OK ? ft_path_join(runs->data_dir, (const char *)tail.data, &path, err) : st;
        st = st == FT_OK ? ft_path_remove(path, err) : st;
        ft_free(path);
        ft_buf_release(&tail);
    }
    return st;
}

static enum ft_status read_count(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    int64_t *counts = arg;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    (void)err;
    for (int s = 0; text != NULL && s < FT_RUN_STATES; s++) {
        if (strcmp(ft_run_state_name((enum ft_run_state)s), text) == 0) {
            counts[s] = sqlite3_column_int64(row, 1);
        }
    }
    return FT_OK;
}

enum ft_status ft_runs_count(struct ft_runs *runs, int64_t counts[FT_RUN_STATES], struct ft_err *err)
{
    struct ft_db_query query = {
        .sql = "SELECT state, COUNT(*) FROM runs GROUP BY state", .row = read_count, .arg = counts};
    memset(counts, 0, FT_RUN_STATES * sizeof *counts);
    return ft_db_read(runs, &query, err);
}

/* Mutex held. */
static enum ft_status cancel_locked(struct ft_runs *runs, const char *id, bool *ended, struct ft_err *err)
{
    enum ft_run_state state = FT_RUN_CREATED;
    FT_RETURN_IF_FAILED(ft_db_state(runs, id, &state, err));
    if (ft_run_ended(state)) {
        return FT_FAIL(err, INVALID, "run '%s' has ended already: %s", id, ft_run_state_name(state));
    }
    for (int64_t i = 0; i < runs->at_once; i++) {
        struct ft_worker *worker = &runs->workers[i];
        if (worker->pid != 0 && strcmp(worker->run, id) == 0) {
            worker->cancelling = true;
            if (!worker->over) {
                (void)kill(worker->pid, SIGTERM);
            }
            return FT_OK;
        }
    }
    *ended = true;
    return ft_run_end(runs, id, FT_RUN_CANCELLED, "cancelled before it started", NULL, err);
}

enum ft_status ft_runs_cancel(struct ft_runs *runs, const char *id, struct ft_err *err)
{
    bool ended = false;
    (void)pthread_mutex_lock(&runs->mutex);
    enum ft_status st = cancel_locked(runs, id, &ended, err);
    (void)pthread_mutex_unlock(&runs->mutex);
    if (st == FT_OK && ended && runs->ended != NULL) {
        runs->ended(runs->arg, id);
    }
    return st;
}

enum ft_status ft_runs_artifact(struct ft_runs *runs, const char *id, char **path, struct ft_err *err)
{
    enum ft_run_state state = FT_RUN_CREATED;
    struct ft_buf tail = {0};
    *path = NULL;
    FT_RETURN_IF_FAILED(ft_runs_state(runs, id, &state, err));
    if (state != FT_RUN_FINISHED) {
        return FT_FAIL(err, UNAVAILABLE, "run '%s' has no model: it is %s", id, ft_run_state_name(state));
    }
    enum ft_status st = ft_buf_printf(&tail, err, "artifacts/%s/model.zip", id);
    if (st == FT_OK) {
        st = ft_path_join(runs->data_dir, (const char *)tail.data, path, err);
    }
    ft_buf_release(&tail);
    return st;
}

enum ft_status ft_runs_newest(struct ft_runs *runs, char **path, struct ft_err *err)
{
    char id[FT_RUN_ID];
    struct ft_buf tail = {0};
    *path = NULL;
    (void)pthread_mutex_lock(&runs->newest_mutex);
    (void)snprintf(id, sizeof id, "%s", runs->newest);
    (void)pthread_mutex_unlock(&runs->newest_mutex);
    if (id[0] == '\0') {
        return FT_OK;
    }
    enum ft_status st = ft_buf_printf(&tail, err, "artifacts/%s/model.zip", id);
    if (st == FT_OK) {
        st = ft_path_join(runs->data_dir, (const char *)tail.data, path, err);
    }
    ft_buf_release(&tail);
    return st;
}
