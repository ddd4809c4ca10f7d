/* What a worker that is gone left, and what a service that died left: each run gets the state it deserves. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/runs/internal.h"

/* result.json as the worker left it; *json NULL: there is none. */
static enum ft_status read_result(struct ft_runs *runs, const char *id, struct ft_json **json,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    struct ft_buf text = {0};
    *json = NULL;
    FT_TRY(ft_run_path(runs->data_dir, id, "result.json", &path, err));
    st = ft_file_read(path, FT_MAX_CONFIG_BYTES, &text, err);
    if (st == FT_OK) {
        st = ft_json_parse(ft_buf_bytes(&text), json, err);
        if (st != FT_OK) {
            (void)ft_err_wrap(err, "result.json");
        }
    } else if (st == FT_NOT_FOUND) {
        st = FT_OK;
    }
done:
    ft_free(path);
    ft_buf_release(&text);
    return st;
}

/* The copies of its datasets that an ended run leaves (worker.c). */
static void drop_snapshots(const struct ft_runs *runs, const char *id)
{
    static const char *const keys[] = {"dataset", "eval_dataset"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct ft_err err = {0};
        char *path = NULL;
        enum ft_status st = ft_run_path(runs->data_dir, id, keys[i], &path, &err);
        if (st == FT_OK) {
            st = ft_path_remove(path, &err);
        }
        if (st != FT_OK) {
            FT_LOG_WARNING_LINE("runs", "cannot remove a copied dataset run=%s reason=\"%s\"", id, err.text);
        }
        ft_free(path);
    }
}

enum ft_status ft_run_end(struct ft_runs *runs, const char *id, enum ft_run_state state, const char *reason,
                          const char *result, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_db_set_state(runs, id, state, reason, result, err));
    if (state == FT_RUN_FINISHED) {
        ft_db_set_newest(runs, id);
    }
    drop_snapshots(runs, id);
    FT_LOG_INFO_LINE("runs", "run ended run=%s status=%s reason=\"%s\"", id, ft_run_state_name(state),
                     reason != NULL ? reason : "");
    return FT_OK;
}

/* The state that result.json tells, and the texts that go with it. */
static enum ft_status settle_result(struct ft_runs *runs, const char *id, const struct ft_json *result,
                                    bool cancelling, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf summary = {0};
    const char *status = ft_json_text(ft_json_get(result, "status"), NULL);
    const char *reason = ft_json_text(ft_json_get(result, "reason"), NULL);
    const struct ft_json *body = ft_json_get(result, "summary");
    enum ft_run_state state = FT_RUN_FAILED;
    if (status != NULL && strcmp(status, "FINISHED") == 0) {
        state = FT_RUN_FINISHED;
    } else if (status != NULL && strcmp(status, "CANCELLED") == 0) {
        /* Nobody asked for this run to end: the service is going down. It goes on at the next start. */
        state = cancelling ? FT_RUN_CANCELLED : FT_RUN_CREATED;
    }
    if (body != NULL) {
        FT_TRY(ft_json_write(body, 0, &summary, err));
    }
    if (ft_run_ended(state)) {
        FT_TRY(ft_run_end(runs, id, state, reason, (const char *)summary.data, err));
    } else {
        FT_TRY(ft_db_set_state(runs, id, state, reason, (const char *)summary.data, err));
        FT_LOG_INFO_LINE("runs", "run goes on at the next start run=%s", id);
    }
done:
    ft_buf_release(&summary);
    return st;
}

static enum ft_status go_on_later(struct ft_runs *runs, const char *id, struct ft_err *err)
{
    struct ft_db_query query = {
        .sql = "UPDATE runs SET state='CREATED', resumes=resumes+1 WHERE id=?1", .texts = {id}, .n_texts = 1};
    FT_LOG_INFO_LINE("runs", "run goes on at the next chance run=%s", id);
    return ft_db_run(runs, &query, err);
}

enum ft_status ft_settle(struct ft_runs *runs, const char *id, const char *crash, bool cancelling,
                         struct ft_err *err)
{
    struct ft_json *result = NULL;
    struct ft_err unread = {0};
    enum ft_status st = FT_OK;
    if (read_result(runs, id, &result, &unread) != FT_OK) { /* it must not stay STARTED for that */
        st = ft_run_end(runs, id, FT_RUN_FAILED, unread.text, NULL, err);
    } else if (result != NULL) {
        st = settle_result(runs, id, result, cancelling, err);
    } else if (cancelling) {
        st = ft_run_end(runs, id, FT_RUN_CANCELLED, crash, NULL, err);
    } else if (runs->closing) { /* killed because it was slow to checkpoint */
        st = go_on_later(runs, id, err);
    } else {
        st = ft_run_end(runs, id, FT_RUN_FAILED, crash, NULL, err);
    }
    ft_json_free(result);
    return st;
}

struct cut_off {
    char id[FT_RUN_ID];
    int resumes;
};
struct cut_offs {
    struct cut_off *rows;
    size_t count, capacity;
};

static enum ft_status read_cut_off(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    struct cut_offs *list = arg;
    FT_RETURN_IF_FAILED(ft_grow(&list->rows, &list->capacity, list->count + 1, sizeof *list->rows, err));
    struct cut_off *c = &list->rows[list->count++];
    const char *text = (const char *)sqlite3_column_text(row, 0);
    (void)snprintf(c->id, sizeof c->id, "%s", text != NULL ? text : "");
    c->resumes = sqlite3_column_int(row, 1);
    return FT_OK;
}

static enum ft_status recover_one(struct ft_runs *runs, const struct cut_off *run, struct ft_err *err)
{
    struct ft_json *result = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(read_result(runs, run->id, &result, err));
    /* CANCELLED: the worker saw its service die and wrote a checkpoint. */
    const char *status = ft_json_text(ft_json_get(result, "status"), NULL);
    if (status != NULL && strcmp(status, "CANCELLED") != 0) { /* it ended while nobody looked */
        st = settle_result(runs, run->id, result, false, err);
    } else if (run->resumes > 0) {
        st = ft_run_end(runs, run->id, FT_RUN_FAILED, "the service died twice while this run trained", NULL,
                        err);
    } else {
        st = go_on_later(runs, run->id, err);
    }
done:
    ft_json_free(result);
    return st;
}

enum ft_status ft_recover(struct ft_runs *runs, struct ft_err *err)
{
    struct cut_offs list = {0};
    struct ft_db_query query = {.sql = "SELECT id, resumes FROM runs WHERE state='STARTED' ORDER BY seq",
                                .row = read_cut_off,
                                .arg = &list};
    enum ft_status st = ft_db_run(runs, &query, err);
    for (size_t i = 0; st == FT_OK && i < list.count; i++) {
        st = recover_one(runs, &list.rows[i], err);
    }
    ft_free(list.rows);
    return st;
}
