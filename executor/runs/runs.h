/*
 * runs.h - the registry of fine-tuning runs: what was asked, in which state it is, and the worker process of
 * each.
 *
 * DATA_DIR/finetuner.db (SQLite) is the truth about states; runs/ID/ holds spec.json, events.jsonl,
 * result.json and the worker's log; artifacts/ID/model.zip is what a FINISHED run leaves. Workers are
 * processes of this program started with posix_spawn(); one thread starts and reaps them. A run found STARTED
 * when the service starts was cut off: it goes on from its checkpoint once, a second time it is FAILED. One
 * process at a time holds a DATA_DIR. Thread-safety: any thread. Calls touch the disk: never from a gRPC
 * callback. Those that change nothing read beside those that do, and never wait for their fsync.
 */
#ifndef FT_RUNS_RUNS_H
#define FT_RUNS_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/codec/json.h"

enum ft_run_state {
    FT_RUN_CREATED,
    FT_RUN_STARTED,
    FT_RUN_FINISHED,
    FT_RUN_FAILED,
    FT_RUN_CANCELLED,
    FT_RUN_STATES
};
const char *ft_run_state_name(enum ft_run_state state); /* "CREATED" ... */
static inline bool ft_run_ended(enum ft_run_state state)
{
    return state >= FT_RUN_FINISHED;
}

enum { FT_RUN_ID = 40 };

struct ft_runs; /* opaque */
struct ft_runs_options {
    const char *data_dir; /* made if missing */
    int64_t at_once;      /* workers at the same time */
    int64_t threads;      /* of a worker; 0 = one for each processor */
    int64_t nice;
    const char *device;
    /* A run has ended. Called on the registry's thread without a lock held; may be NULL. */
    void (*ended)(void *arg, const char *run);
    void *arg;
};
/* FT_BUSY: another process holds the folder; FT_CORRUPT: not our database; FT_IO. *runs: ft_runs_close(). */
FT_MUST_CHECK enum ft_status ft_runs_open(const struct ft_runs_options *options, struct ft_runs **runs,
                                          struct ft_err *err);
/* Begins what ft_runs_close() ends, without waiting. */
void ft_runs_stop(struct ft_runs *runs, int grace_ms);
/* Workers get SIGTERM, checkpoint and are resumed at the next start; after grace_ms they are killed. NULL is
 * fine. */
void ft_runs_close(struct ft_runs *runs, int grace_ms);

struct ft_run_spec {
    const char *name;              /* shown; NULL = the id */
    const char *model;             /* path of the model to tune */
    const char *dataset;           /* folder of its journal */
    const char *eval_dataset;      /* NULL = none */
    const struct ft_json *options; /* fit options, checked by the caller */
    const char *key;               /* of idempotency; NULL or "" = none */
    const struct ft_json *asked;   /* with a key: what it was asked for, in the caller's words */
};
/* FT_OK: the run is CREATED, durably. A key that was used before, for the same things, gives that run;
 * FT_EXISTS: for others. */
FT_MUST_CHECK enum ft_status ft_runs_submit(struct ft_runs *runs, const struct ft_run_spec *spec,
                                            char id[FT_RUN_ID], struct ft_err *err);
/* The run that such a key gave before, "" when there is none: it is so also when what it was made of has gone
 * since. FT_EXISTS: it was asked for other things. */
FT_MUST_CHECK enum ft_status ft_runs_find_key(struct ft_runs *runs, const char *key,
                                              const struct ft_json *asked, char id[FT_RUN_ID],
                                              struct ft_err *err);
/* {run, name, status, reason, created, started, finished, resumes, metrics, summary, progress}; FT_NOT_FOUND.
 * *record is the caller's. */
FT_MUST_CHECK enum ft_status ft_runs_get(struct ft_runs *runs, const char *id, struct ft_json **record,
                                         struct ft_err *err);
/* An array of such records without summary and progress, newest first, behind the place `from` (0: the
 * newest). *next (NULL: not wanted) is the place where the next page begins, 0 when there is none. */
FT_MUST_CHECK enum ft_status ft_runs_list(struct ft_runs *runs, int64_t limit, int64_t from,
                                          struct ft_json **records, int64_t *next, struct ft_err *err);
/* A run that waits is CANCELLED at once, one that trains checkpoints first. FT_NOT_FOUND; FT_INVALID: it has
 * ended. */
FT_MUST_CHECK enum ft_status ft_runs_cancel(struct ft_runs *runs, const char *id, struct ft_err *err);
/* A run that has ended, with all it left. FT_NOT_FOUND; FT_BUSY: it has not ended. */
FT_MUST_CHECK enum ft_status ft_runs_delete(struct ft_runs *runs, const char *id, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_runs_state(struct ft_runs *runs, const char *id, enum ft_run_state *state,
                                           struct ft_err *err);
/* How many runs are in each state. */
FT_MUST_CHECK enum ft_status ft_runs_count(struct ft_runs *runs, int64_t counts[FT_RUN_STATES],
                                           struct ft_err *err);
/* Lines of the run's journal, kinds NULL or "progress", "stage", "note", "metrics": an array of at most
 * `limit` objects, from the from-th of that kind on, counted from the end when from < 0. Each has its number
 * among them in `index`. */
FT_MUST_CHECK enum ft_status ft_runs_events(struct ft_runs *runs, const char *id, const char *kind,
                                            int64_t from, int64_t limit, struct ft_json **events,
                                            struct ft_err *err);
/* The next lines of any kind, those with numbers from `from` on, at most `limit`; *place, zeroed for the
 * beginning, is then behind them. What is before it is not read again. */
struct ft_runs_place {
    int64_t index; /* of the next line */
    size_t at;     /* where it begins */
};
FT_MUST_CHECK enum ft_status ft_runs_events_on(struct ft_runs *runs, const char *id,
                                               struct ft_runs_place *place, int64_t from, int64_t limit,
                                               struct ft_json **events, struct ft_err *err);
/* Path of the artifact of a FINISHED run; FT_NOT_FOUND: no such run; FT_UNAVAILABLE: it has not finished.
 * *path is the caller's. */
FT_MUST_CHECK enum ft_status ft_runs_artifact(struct ft_runs *runs, const char *id, char **path,
                                              struct ft_err *err);
/* Artifact of the run that finished last, or NULL when none has. Never touches the disk. */
FT_MUST_CHECK enum ft_status ft_runs_newest(struct ft_runs *runs, char **path, struct ft_err *err);
/* The lock that ft_runs_open() holds, for a shell command that changes DATA_DIR: close(*fd) lets it go.
 * FT_BUSY: a service or another command has it. */
FT_MUST_CHECK enum ft_status ft_runs_lock(const char *data_dir, int *fd, struct ft_err *err);
#endif
