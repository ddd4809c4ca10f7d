/*
 * internal.h - the registry's inside: database, table of workers, paths.
 */
#ifndef FT_RUNS_INTERNAL_H
#define FT_RUNS_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include <sqlite3.h>

#include "executor/base/thread.h"
#include "executor/runs/runs.h"

/* The variable in a worker's environment with the number of a pipe to the service: where result.json cannot
 * be written, as on a disk that is full, it says there why it ends. At most FT_ERR_TEXT bytes. */
#define FT_WORKER_SAYS "FINETUNER_WORKER_SAYS"

struct ft_worker {
    char run[FT_RUN_ID];
    pid_t pid; /* 0: the place is free */
    int says;  /* the service's end of the pipe */
    bool cancelling;
    bool over;  /* the process is gone, its end is not in the registry: there is no room for it on the disk */
    int status; /* waitpid()'s, once over */
    char said[FT_ERR_TEXT]; /* once over; "" */
    double try_at;          /* ft_clock_seconds(): when to try again */
};

struct ft_runs {
    char *data_dir;
    char *device;
    int64_t at_once, threads, nice;
    void (*ended)(void *arg, const char *run);
    void *arg;
    int lock_fd;
    struct ft_thread *thread;

    /* SQLite writes ahead: what reads sees the last commit and waits for nobody who writes. */
    pthread_mutex_t read_mutex; /* guards the reader; may be taken while `mutex` is held, not the other way */
    sqlite3 *reader;
    pthread_mutex_t newest_mutex; /* guards `newest`; taken last */
    char newest[FT_RUN_ID];       /* "" = none has finished */

    pthread_mutex_t mutex; /* guards all below; held across fsync */
    pthread_cond_t wake;   /* a run was submitted, or closing */
    sqlite3 *db;
    struct ft_worker *workers; /* at_once of them; pid 0 = free */
    bool closing;
    int grace_ms;
};

/* One statement, prepared, bound with texts (NULL = SQL NULL) and stepped; `row` is called for each row, may
 * be NULL. */
typedef enum ft_status (*ft_db_row)(void *arg, sqlite3_stmt *row, struct ft_err *err);
struct ft_db_query {
    const char *sql;
    const char *texts[8]; /* ?1 .. */
    int n_texts;
    ft_db_row row;
    void *arg;
};
enum ft_status ft_db_open(struct ft_runs *runs, struct ft_err *err);
enum ft_status ft_db_run(struct ft_runs *runs, const struct ft_db_query *query, struct ft_err *err);
/* The same of a query that changes nothing, by the reader. Without the mutex. */
enum ft_status ft_db_read(struct ft_runs *runs, const struct ft_db_query *query, struct ft_err *err);
void ft_db_close(struct ft_runs *runs);
/* reason may be NULL, result too (JSON text). */
enum ft_status ft_db_set_state(struct ft_runs *runs, const char *id, enum ft_run_state state,
                               const char *reason, const char *result, struct ft_err *err);
enum ft_status ft_db_state(struct ft_runs *runs, const char *id, enum ft_run_state *state,
                           struct ft_err *err);
void ft_db_set_newest(struct ft_runs *runs, const char *id);
enum ft_status ft_db_newest(struct ft_runs *runs, struct ft_err *err); /* into runs->newest */
bool ft_run_id_valid(const char *id);

/* DATA_DIR/runs/ID/name; *path is the caller's. */
enum ft_status ft_run_path(const char *data_dir, const char *id, const char *name, char **path,
                           struct ft_err *err);

/* object[key] = text, null for NULL. */
enum ft_status ft_run_set_text(struct ft_json *object, const char *key, const char *text, struct ft_err *err);

/* Events of a journal's text from a place on, those of `kind` (NULL: all) and with numbers from `first` on,
 * at most `limit`; the place is then behind them. */
enum ft_status ft_events_collect(struct ft_bytes text, const char *kind, struct ft_runs_place *place,
                                 int64_t first, int64_t limit, struct ft_json *array, struct ft_err *err);
int64_t ft_events_count(struct ft_bytes text, const char *kind);

/* The thread's body: starts what waits, reaps what ended. */
void ft_supervise(void *arg);
/* What a worker that is gone left: its state goes into the database. Mutex held. */
enum ft_status ft_settle(struct ft_runs *runs, const char *id, const char *crash, bool cancelling,
                         struct ft_err *err);
/* The last word on a run: its state is recorded and the copies of its datasets go. Whoever calls it sees to
 * it that `ended` is told, which must not hold the mutex. Mutex held. */
enum ft_status ft_run_end(struct ft_runs *runs, const char *id, enum ft_run_state state, const char *reason,
                          const char *result, struct ft_err *err);
/* Runs that were STARTED when the last service died. Mutex held. */
enum ft_status ft_recover(struct ft_runs *runs, struct ft_err *err);
#endif
