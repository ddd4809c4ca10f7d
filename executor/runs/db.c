#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/runs/internal.h"

static const char *const STATES[FT_RUN_STATES] = {"CREATED", "STARTED", "FINISHED", "FAILED", "CANCELLED"};

const char *ft_run_state_name(enum ft_run_state state)
{
    return STATES[state];
}

bool ft_run_id_valid(const char *id)
{
    size_t n = 0;
    for (; id[n] != '\0'; n++) {
        if (isalnum((unsigned char)id[n]) == 0 && id[n] != '-') {
            return false;
        }
    }
    return n > 0 && n < FT_RUN_ID;
}

enum ft_status ft_run_path(const char *data_dir, const char *id, const char *name, char **path,
                           struct ft_err *err)
{
    struct ft_buf tail = {0};
    *path = NULL;
    enum ft_status st = ft_buf_printf(&tail, err, "runs/%s%s%s", id, name[0] != '\0' ? "/" : "", name);
    if (st == FT_OK) {
        st = ft_path_join(data_dir, (const char *)tail.data, path, err);
    }
    ft_buf_release(&tail);
    return st;
}

static enum ft_status db_fail(const struct ft_runs *runs, sqlite3 *db, int cause, const char *what,
                              struct ft_err *err)
{
    const char *text = sqlite3_errmsg(db);
    switch (cause) {
    case SQLITE_NOMEM:
        return FT_FAIL(err, NOMEM, "out of memory in finetuner.db: %s", what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return FT_FAIL(err, CORRUPT, "%s/finetuner.db: %s: %s", runs->data_dir, what, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return FT_FAIL(err, BUSY, "%s/finetuner.db: %s: %s", runs->data_dir, what, text);
    default:
        return FT_FAIL(err, IO, "%s/finetuner.db: %s: %s", runs->data_dir, what, text);
    }
}

static enum ft_status run_query(const struct ft_runs *runs, sqlite3 *db, const struct ft_db_query *query,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    sqlite3_stmt *statement = NULL;
    int cause = sqlite3_prepare_v2(db, query->sql, -1, &statement, NULL);
    for (int i = 0; cause == SQLITE_OK && i < query->n_texts; i++) {
        cause = sqlite3_bind_text(statement, i + 1, query->texts[i], -1, SQLITE_STATIC);
    }
    if (cause == SQLITE_OK) {
        cause = sqlite3_step(statement);
        while (cause == SQLITE_ROW && st == FT_OK) {
            st = query->row != NULL ? query->row(query->arg, statement, err) : FT_OK;
            cause = st == FT_OK ? sqlite3_step(statement) : SQLITE_ROW;
        }
    }
    if (st == FT_OK && cause != SQLITE_DONE) {
        st = db_fail(runs, db, cause, "query", err);
    }
    (void)sqlite3_finalize(statement);
    return st;
}

enum ft_status ft_db_run(struct ft_runs *runs, const struct ft_db_query *query, struct ft_err *err)
{
    return run_query(runs, runs->db, query, err);
}

enum ft_status ft_db_read(struct ft_runs *runs, const struct ft_db_query *query, struct ft_err *err)
{
    (void)pthread_mutex_lock(&runs->read_mutex);
    enum ft_status st = run_query(runs, runs->reader, query, err);
    (void)pthread_mutex_unlock(&runs->read_mutex);
    return st;
}

/* user_version counts changes of this layout. */
static const char SCHEMA[] = "PRAGMA journal_mode=WAL;"
                             "PRAGMA synchronous=FULL;"
                             "CREATE TABLE IF NOT EXISTS runs ("
                             "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  id TEXT NOT NULL UNIQUE,"
                             "  name TEXT NOT NULL,"
                             "  state TEXT NOT NULL,"
                             "  reason TEXT,"
                             "  spec TEXT NOT NULL," /* JSON */
                             "  result TEXT,"        /* JSON: the summary of ft_fit() */
                             "  created_ms INTEGER NOT NULL,"
                             "  started_ms INTEGER,"
                             "  ended_ms INTEGER,"
                             "  ended_seq INTEGER," /* order of ending; clocks jump */
                             "  resumes INTEGER NOT NULL DEFAULT 0);"
                             "CREATE INDEX IF NOT EXISTS runs_state ON runs (state, seq);"
                             "CREATE TABLE IF NOT EXISTS keys (" /* of idempotency */
                             "  key TEXT PRIMARY KEY,"
                             "  run TEXT NOT NULL,"
                             "  asked TEXT NOT NULL);" /* SHA-256 of what the run was asked for */
                             "PRAGMA user_version=3;";

static enum ft_status read_version(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    (void)err;
    *(int *)arg = sqlite3_column_int(row, 0);
    return FT_OK;
}

static enum ft_status open_file(const struct ft_runs *runs, const char *path, int flags, sqlite3 **db,
                                struct ft_err *err)
{
    int cause = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_FULLMUTEX, NULL);
    if (cause != SQLITE_OK) {
        return *db != NULL ? db_fail(runs, *db, cause, "open", err)
                           : FT_FAIL(err, NOMEM, "%s: out of memory", path);
    }
    (void)sqlite3_busy_timeout(*db, 5000);
    return FT_OK;
}

enum ft_status ft_db_open(struct ft_runs *runs, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    int version = 0;
    FT_TRY(ft_path_join(runs->data_dir, "finetuner.db", &path, err));
    FT_TRY(open_file(runs, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &runs->db, err));
    struct ft_db_query query = {.sql = "PRAGMA user_version", .row = read_version, .arg = &version};
    FT_TRY(ft_db_run(runs, &query, err));
    if (version > 3) {
        st = FT_FAIL(err, UNSUPPORTED, "%s was written by a newer version of finetuner", path);
        goto done;
    }
    int cause = sqlite3_exec(runs->db, SCHEMA, NULL, NULL, NULL);
    if (cause != SQLITE_OK) {
        st = db_fail(runs, runs->db, cause, "schema", err);
        goto done;
    }
    if (version == 2) { /* `asked` was the hash of another text: a key of then would meet nothing it knows */
        struct ft_db_query forget = {.sql = "DELETE FROM keys"};
        FT_TRY(ft_db_run(runs, &forget, err));
    }
    FT_TRY(open_file(runs, path, SQLITE_OPEN_READWRITE, &runs->reader, err));
done:
    ft_free(path);
    return st;
}

void ft_db_close(struct ft_runs *runs)
{
    (void)sqlite3_close(runs->reader);
    (void)sqlite3_close(runs->db);
}

enum ft_status ft_db_set_state(struct ft_runs *runs, const char *id, enum ft_run_state state,
                               const char *reason, const char *result, struct ft_err *err)
{
    char now[32];
    (void)snprintf(now, sizeof now, "%lld", (long long)ft_clock_unix_ms());
    struct ft_db_query query = {.texts = {id, ft_run_state_name(state), reason, result, now}, .n_texts = 5};
    if (ft_run_ended(state)) {
        query.sql = "UPDATE runs SET state=?2, reason=?3, result=?4, ended_ms=CAST(?5 AS INTEGER),"
                    " ended_seq=(SELECT COALESCE(MAX(ended_seq),0)+1 FROM runs) WHERE id=?1";
    } else if (state == FT_RUN_STARTED) {
        query.sql = "UPDATE runs SET state=?2, reason=?3, result=?4,"
                    " started_ms=COALESCE(started_ms,CAST(?5 AS INTEGER)) WHERE id=?1";
    } else {
        query.sql = "UPDATE runs SET state=?2, reason=?3, result=?4 WHERE id=?1";
        query.n_texts = 4;
    }
    return ft_db_run(runs, &query, err);
}

struct state_row {
    bool found;
    enum ft_run_state state;
};

static enum ft_status read_state(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    struct state_row *out = arg;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    for (int s = 0; text != NULL && s < FT_RUN_STATES; s++) {
        if (strcmp(STATES[s], text) == 0) {
            *out = (struct state_row){true, (enum ft_run_state)s};
            return FT_OK;
        }
    }
    return FT_FAIL(err, CORRUPT, "finetuner.db: a run is in no known state");
}

/* By one connection or the other. */
static enum ft_status query_state(struct ft_runs *runs, bool reading, const char *id,
                                  enum ft_run_state *state, struct ft_err *err)
{
    struct state_row row = {0};
    struct ft_db_query query = {.sql = "SELECT state FROM runs WHERE id=?1",
                                .texts = {id},
                                .n_texts = 1,
                                .row = read_state,
                                .arg = &row};
    FT_RETURN_IF_FAILED(reading ? ft_db_read(runs, &query, err) : ft_db_run(runs, &query, err));
    if (!row.found) {
        return FT_FAIL(err, NOT_FOUND, "there is no run '%.64s'", id);
    }
    *state = row.state;
    return FT_OK;
}

enum ft_status ft_db_state(struct ft_runs *runs, const char *id, enum ft_run_state *state, struct ft_err *err)
{
    return query_state(runs, false, id, state, err);
}

enum ft_status ft_runs_state(struct ft_runs *runs, const char *id, enum ft_run_state *state,
                             struct ft_err *err)
{
    return query_state(runs, true, id, state, err);
}

static enum ft_status read_id(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    (void)err;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    (void)snprintf(arg, FT_RUN_ID, "%s", text != NULL ? text : "");
    return FT_OK;
}

void ft_db_set_newest(struct ft_runs *runs, const char *id)
{
    (void)pthread_mutex_lock(&runs->newest_mutex);
    (void)snprintf(runs->newest, sizeof runs->newest, "%s", id);
    (void)pthread_mutex_unlock(&runs->newest_mutex);
}

enum ft_status ft_db_newest(struct ft_runs *runs, struct ft_err *err)
{
    char id[FT_RUN_ID] = "";
    struct ft_db_query query = {
        .sql = "SELECT id FROM runs WHERE state='FINISHED' ORDER BY ended_seq DESC LIMIT 1",
        .row = read_id,
        .arg = id};
    FT_RETURN_IF_FAILED(ft_db_run(runs, &query, err));
    ft_db_set_newest(runs, id);
    return FT_OK;
}
