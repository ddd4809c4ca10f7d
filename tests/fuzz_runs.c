/* links: ft_runs ft_train ft_store ft_wire ft_codec ft_base */
/* covers: executor/runs/events.c executor/runs/record.c executor/runs/settle.c */
/*
 * A workspace that is not what we wrote: a row of the registry, a journal and a result.json of a stranger's.
 * All of it is told, settled or refused, never believed.
 *
 * Input: a byte of choices, a byte for the times, then texts that 0x1e separates: name, reason, spec, result,
 * events.jsonl, result.json.
 */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/log.h"
#include "executor/runs/internal.h"

enum { TEXTS = 6, NAME = 0, REASON, SPEC, RESULT, EVENTS, RESULT_FILE };
enum { STATES = 7, BLOB = 8, NO_RESULT = 16, CANCELLING = 32, CLOSING = 64, RESUMED = 128 };

static struct ft_runs *runs;

static void sql(const char *text)
{
    int cause = sqlite3_exec(runs->db, text, NULL, NULL, NULL);
    assert(cause == SQLITE_OK);
}

static void remove_all(void)
{
    struct ft_err err = {0};
    ft_db_close(runs);
    (void)!ft_path_remove(runs->data_dir, &err);
}

static void set_up(void)
{
    static struct ft_runs one;
    static char dir[] = "/tmp/fuzz_runs_XXXXXX";
    static char path[sizeof dir + 8];
    struct ft_err err = {0};
    runs = &one;
    runs->data_dir = mkdtemp(dir);
    assert(runs->data_dir != NULL);
    (void)pthread_mutex_init(&runs->mutex, NULL);
    (void)pthread_mutex_init(&runs->read_mutex, NULL);
    (void)pthread_mutex_init(&runs->newest_mutex, NULL);
    (void)snprintf(path, sizeof path, "%s/runs/r", dir);
    enum ft_status st = ft_dir_make(path, &err);
    assert(st == FT_OK);
    st = ft_db_open(runs, &err);
    assert(st == FT_OK);
    sql("PRAGMA synchronous=OFF");
    (void)atexit(remove_all);
}

static void put_file(const char *name, struct ft_bytes text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "%s/runs/r/%s", runs->data_dir, name);
    (void)unlink(path);
    if (text.size > 0) {
        FILE *f = fopen(path, "wbe");
        assert(f != NULL && fwrite(text.data, 1, text.size, f) == text.size);
        (void)fclose(f);
    }
}

static void bind(sqlite3_stmt *statement, int at, struct ft_bytes text, bool blob)
{
    const void *data = text.size > 0 ? (const void *)text.data : "";
    int cause = blob ? sqlite3_bind_blob(statement, at, data, (int)text.size, SQLITE_STATIC)
                     : sqlite3_bind_text(statement, at, data, (int)text.size, SQLITE_STATIC);
    assert(cause == SQLITE_OK);
}

static void put_row(uint8_t choices, uint8_t times, const struct ft_bytes texts[TEXTS])
{
    static const char *const states[STATES + 1] = {"CREATED",   "STARTED", "FINISHED", "FAILED",
                                                   "CANCELLED", "STARTED", "",         "none"};
    static const int64_t moments[] = {0, 1764000000000, INT64_MAX, INT64_MIN, -1, 253402300800000};
    sqlite3_stmt *statement = NULL;
    int cause =
        sqlite3_prepare_v2(runs->db,
                           "INSERT INTO runs (id, name, state, reason, spec, result, created_ms, started_ms,"
                           " ended_ms, resumes) VALUES ('r', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8)",
                           -1, &statement, NULL);
    assert(cause == SQLITE_OK);
    bool blob = (choices & BLOB) != 0;
    bind(statement, 1, texts[NAME], blob);
    bind(statement, 2, ft_bytes_of_text(states[choices & STATES]), false);
    bind(statement, 3, texts[REASON], blob);
    bind(statement, 4, texts[SPEC], blob);
    if ((choices & NO_RESULT) == 0) {
        bind(statement, 5, texts[RESULT], blob);
    }
    (void)sqlite3_bind_int64(statement, 6, moments[times % 6]);
    if (times / 6 % 2 == 0) {
        (void)sqlite3_bind_int64(statement, 7, moments[times / 12 % 6]);
    }
    (void)sqlite3_bind_int(statement, 8, (choices & RESUMED) != 0 ? 1 : 0);
    cause = sqlite3_step(statement);
    assert(cause == SQLITE_DONE);
    (void)sqlite3_finalize(statement);
}

static void told(enum ft_status st, struct ft_json *json)
{
    assert((st == FT_OK) == (json != NULL));
    ft_json_free(json);
}

/* In pieces the same events come as at once. */
static void read_journal(int64_t from)
{
    static const char *const kinds[] = {NULL, "progress", "metrics"};
    struct ft_err err = {0};
    struct ft_json *all = NULL;
    struct ft_json *some = NULL;
    struct ft_runs_place place = {0, 0};
    size_t count = 0;
    for (size_t k = 0; k < 3; k++) {
        enum ft_status st = ft_runs_events(runs, "r", kinds[k], from, 3, &all, &err);
        told(st, all);
    }
    if (ft_runs_events(runs, "r", NULL, 0, INT64_MAX, &all, &err) != FT_OK) {
        return;
    }
    do {
        enum ft_status st = ft_runs_events_on(runs, "r", &place, 0, 2, &some, &err);
        assert(st == FT_OK);
        for (size_t i = 0; i < ft_json_count(some); i++) {
            int64_t index = ft_json_int(ft_json_get(ft_json_at(some, i), "index"));
            assert(index == ft_json_int(ft_json_get(ft_json_at(all, count + i), "index")));
        }
        count += ft_json_count(some);
        st = ft_json_count(some) == 0 ? FT_NOT_FOUND : FT_OK;
        ft_json_free(some);
        if (st != FT_OK) {
            break;
        }
    } while (true);
    assert(count == ft_json_count(all));
    ft_json_free(all);
}

static void look(void)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    enum ft_run_state state = FT_RUN_CREATED;
    int64_t next = 0;
    char *path = NULL;
    enum ft_status st = ft_runs_get(runs, "r", &json, &err);
    told(st, json);
    st = ft_runs_list(runs, 1, 0, &json, &next, &err);
    told(st, json);
    (void)!ft_runs_state(runs, "r", &state, &err);
    assert(state < FT_RUN_STATES);
    if (ft_runs_artifact(runs, "r", &path, &err) == FT_OK) {
        ft_free(path);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_bytes texts[TEXTS] = {{0}};
    struct ft_err err = {0};
    if (size < 2) {
        return 0;
    }
    if (runs == NULL) {
        ft_log_level_set(FT_LOG_OFF);
        set_up();
    }
    size_t at = 2;
    for (size_t i = 0; i < TEXTS && at < size; i++) {
        const uint8_t *end = i + 1 < TEXTS ? memchr(data + at, 0x1e, size - at) : NULL;
        size_t length = end != NULL ? (size_t)(end - data) - at : size - at;
        texts[i] = ft_bytes_of(data + at, length);
        at += length + 1;
    }
    sql("DELETE FROM runs");
    put_row(data[0], data[1], texts);
    put_file("events.jsonl", texts[EVENTS]);
    put_file("result.json", texts[RESULT_FILE]);
    look();
    read_journal((int64_t)data[1] - 128);
    runs->closing = (data[0] & CLOSING) != 0;
    enum ft_status st = ft_recover(runs, &err);
    assert(st == FT_OK || st == FT_INVALID || st == FT_LIMIT);
    st = ft_settle(runs, "r", "signal 9", (data[0] & CANCELLING) != 0, &err);
    assert(st == FT_OK);
    look(); /* as it was settled */
    return 0;
}
