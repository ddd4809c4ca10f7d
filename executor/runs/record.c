/* Runs as clients see them: rows of the registry as JSON. What stands in them is looked at, not believed. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/runs/internal.h"
#include "executor/store/folder.h"

static enum ft_status set_time(struct ft_json *object, const char *key, sqlite3_stmt *row, int column,
                               struct ft_err *err)
{
    char iso[FT_CLOCK_TEXT];
    if (sqlite3_column_type(row, column) == SQLITE_NULL) {
        return FT_OK;
    }
    ft_clock_iso(sqlite3_column_int64(row, column), iso);
    return ft_run_set_text(object, key, iso, err);
}

/* Columns of every query that makes records. */
#define RECORD                                                                                               \
    "SELECT id, name, state, reason, created_ms, started_ms, ended_ms, resumes, result, spec, seq FROM "     \
    "runs "

struct records {
    struct ft_json *array;
    bool full;     /* with the summary */
    int64_t limit; /* of records; 0: none */
    int64_t last;  /* place of the last one */
    bool more;     /* there was one beyond the limit */
};

/* All of the summary but the path on our disk. */
static enum ft_status add_full_summary(struct ft_json *record, const struct ft_json *summary,
                                       struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *shown = ft_json_object();
    if (shown == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading runs");
    }
    for (struct ft_json_iter *it = ft_json_first(summary); it != NULL; it = ft_json_next(summary, it)) {
        if (strcmp(ft_json_key(it), "out") != 0) {
            FT_TRY(ft_json_set(shown, ft_json_key(it), ft_json_copy(ft_json_value(it)), err));
        }
    }
    struct ft_json *taken = shown;
    shown = NULL;
    st = ft_json_set(record, "summary", taken, err);
done:
    ft_json_free(shown);
    return st;
}

/* What clients ask for first stands beside the summary: metrics before and after. */
static enum ft_status add_summary(struct ft_json *record, sqlite3_stmt *row, bool full, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *summary = NULL;
    const char *text = (const char *)sqlite3_column_text(row, 8);
    if (text == NULL) {
        return FT_OK;
    }
    FT_TRY(ft_json_parse(ft_bytes_of_text(text), &summary, err));
    const struct ft_json *metrics = ft_json_get(summary, "metrics");
    if (metrics != NULL) {
        FT_TRY(ft_json_set(record, "metrics", ft_json_copy(metrics), err));
    }
    if (full) {
        FT_TRY(add_full_summary(record, summary, err));
    }
done:
    ft_json_free(summary);
    return st;
}

static enum ft_status add_spec(struct ft_json *record, sqlite3_stmt *row, struct ft_err *err)
{
    static const char *const keys[] = {"dataset", "eval_dataset", "model"};
    enum ft_status st = FT_OK;
    struct ft_json *spec = NULL;
    const char *text = (const char *)sqlite3_column_text(row, 9);
    FT_TRY(ft_json_parse(ft_bytes_of_text(text != NULL ? text : "{}"), &spec, err));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = ft_json_text(ft_json_get(spec, keys[i]), NULL);
        const char *name = value != NULL ? ft_path_base(value) : NULL; /* not where it lies on our disk */
        if (name != NULL && !ft_dataset_name_hidden(name)) {
            FT_TRY(ft_run_set_text(record, keys[i], name, err));
        }
    }
done:
    ft_json_free(spec);
    return st;
}

static enum ft_status read_record(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct records *out = arg;
    if (out->limit > 0 && ft_json_count(out->array) == (size_t)out->limit) {
        out->more = true;
        return FT_OK;
    }
    out->last = sqlite3_column_int64(row, 10);
    struct ft_json *record = ft_json_object();
    if (record == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading runs");
    }
    FT_TRY(ft_run_set_text(record, "run", (const char *)sqlite3_column_text(row, 0), err));
    FT_TRY(ft_run_set_text(record, "name", (const char *)sqlite3_column_text(row, 1), err));
    FT_TRY(ft_run_set_text(record, "status", (const char *)sqlite3_column_text(row, 2), err));
    if (sqlite3_column_type(row, 3) != SQLITE_NULL) {
        FT_TRY(ft_run_set_text(record, "reason", (const char *)sqlite3_column_text(row, 3), err));
    }
    FT_TRY(set_time(record, "created", row, 4, err));
    FT_TRY(set_time(record, "started", row, 5, err));
    FT_TRY(set_time(record, "finished", row, 6, err));
    FT_TRY(ft_json_set(record, "resumes", ft_json_of_int(sqlite3_column_int64(row, 7)), err));
    FT_TRY(add_spec(record, row, err));
    FT_TRY(add_summary(record, row, out->full, err));
    struct ft_json *taken = record;
    record = NULL;
    FT_TRY(ft_json_push(out->array, taken, err));
done:
    ft_json_free(record);
    return st;
}

static enum ft_status query_records(struct ft_runs *runs, const struct ft_db_query *base, struct records *out,
                                    struct ft_err *err)
{
    struct ft_db_query query = *base;
    out->array = ft_json_array();
    if (out->array == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory reading runs");
    }
    query.row = read_record;
    query.arg = out;
    enum ft_status st = ft_db_read(runs, &query, err);
    if (st != FT_OK) {
        ft_json_free(out->array);
        out->array = NULL;
    }
    return st;
}

static enum ft_status add_progress(struct ft_runs *runs, const char *id, struct ft_json *record,
                                   struct ft_err *err)
{
    struct ft_json *last = NULL;
    FT_RETURN_IF_FAILED(ft_runs_events(runs, id, "progress", -1, 1, &last, err));
    enum ft_status st = FT_OK;
    if (ft_json_count(last) > 0) {
        st = ft_json_set(record, "progress", ft_json_copy(ft_json_at(last, 0)), err);
    }
    ft_json_free(last);
    return st;
}

enum ft_status ft_runs_get(struct ft_runs *runs, const char *id, struct ft_json **record, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct records found = {.full = true};
    struct ft_json *one = NULL;
    *record = NULL;
    struct ft_db_query query = {.sql = RECORD "WHERE id=?1", .texts = {id}, .n_texts = 1};
    FT_TRY(query_records(runs, &query, &found, err));
    if (ft_json_count(found.array) == 0) {
        st = FT_FAIL(err, NOT_FOUND, "there is no run '%.64s'", id);
        goto done;
    }
    one = ft_json_copy(ft_json_at(found.array, 0));
    if (one == NULL) {
        st = FT_FAIL(err, NOMEM, "out of memory reading a run");
        goto done;
    }
    FT_TRY(add_progress(runs, id, one, err));
    *record = one;
    one = NULL;
done:
    ft_json_free(one);
    ft_json_free(found.array);
    return st;
}

enum ft_status ft_runs_list(struct ft_runs *runs, int64_t limit, int64_t from, struct ft_json **records,
                            int64_t *next, struct ft_err *err)
{
    char count[32];
    char before[32];
    struct records found = {.limit = limit};
    *records = NULL;
    (void)snprintf(count, sizeof count, "%lld", (long long)limit + 1);
    (void)snprintf(before, sizeof before, "%lld", (long long)(from > 0 ? from : INT64_MAX));
    struct ft_db_query query = {.sql = RECORD "WHERE seq < CAST(?2 AS INTEGER) "
                                              "ORDER BY seq DESC LIMIT CAST(?1 AS INTEGER)",
                                .texts = {count, before},
                                .n_texts = 2};
    FT_RETURN_IF_FAILED(query_records(runs, &query, &found, err));
    *records = found.array;
    if (next != NULL) {
        *next = found.more ? found.last : 0;
    }
    return FT_OK;
}
