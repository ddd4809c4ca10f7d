/* links: ft_runs ft_codec ft_base */
/*
 * The registry of runs with real worker processes: this very program, started again as `worker`, plays what
 * runs/ID/spec.json asks for: ending well, failing, crashing, waiting to be told to stop.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/runs/runs.h"
#include "tests/support.h"

static struct ft_err err;
static volatile sig_atomic_t stop;

static void on_term(int signal)
{
    (void)signal;
    stop = 1;
}

static void nap_ms(long ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

static void put(const char *dir, const char *run, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/runs/%s/%s", dir, run, name);
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text(text), &err));
}

/* worker --run ID --data-dir DIR */
static int play(char **argv)
{
    const char *run = argv[3];
    const char *dir = argv[5];
    char path[512];
    struct ft_buf text = {0};
    (void)snprintf(path, sizeof path, "%s/runs/%s/spec.json", dir, run);
    if (ft_file_read(path, 1 << 16, &text, &err) != FT_OK) {
        return 9;
    }
    const char *spec = (const char *)text.data;
    int code = 0;
    (void)signal(SIGTERM, on_term);
    if (strstr(spec, "\"finish\"") != NULL) {
        put(dir, run, "events.jsonl",
            "{\"event\": \"note\",\"text\":\"one\"}\n{\"event\": \"progress\",\"step\":1}\n"
            "{\"event\": \"progress\",\"step\":2}\n{\"event\": \"prog");
        put(dir, run, "result.json",
            "{\"status\":\"FINISHED\",\"summary\":{\"metrics\":{\"after\":{\"map\":0.5}},\"steps\":2}}");
    } else if (strstr(spec, "\"fail\"") != NULL) {
        put(dir, run, "result.json", "{\"status\":\"FAILED\",\"reason\":\"one class only\"}");
        code = 3;
    } else if (strstr(spec, "\"crash\"") != NULL) {
        (void)raise(SIGKILL);
    } else if (strstr(spec, "\"exit\"") != NULL) {
        code = 7;
    } else if (strstr(spec, "\"say\"") != NULL) { /* a disk that has no room for a result */
        static const char why[] = "work/checkpoint.tmp: no space";
        code = write((int)strtol(getenv("FINETUNER_WORKER_SAYS"), NULL, 10), why, strlen(why)) > 0 ? 1 : 9;
    } else if (strstr(spec, "\"garble\"") != NULL) {
        put(dir, run, "events.jsonl",
            "{\"event\": \"progress\",\"st{\"event\": \"progress\",\"step\":1}\n"
            "{\"event\": \"progress\",\"step\":2}\n");
        put(dir, run, "result.json", "{\"status\":");
    } else { /* wait */
        put(dir, run, "started", "");
        for (int i = 0; i < 600 && stop == 0; i++) {
            nap_ms(50);
        }
        if (strstr(spec, "\"stubborn\"") != NULL) {
            nap_ms(30000);
        }
        put(dir, run, "result.json", "{\"status\":\"CANCELLED\"}");
    }
    ft_buf_release(&text);
    return code;
}

static atomic_int ended;

static void count_ended(void *arg, const char *run)
{
    (void)arg;
    (void)run;
    (void)atomic_fetch_add(&ended, 1);
}

static struct ft_runs *open_runs(const char *dir)
{
    struct ft_runs_options options = {.data_dir = dir, .at_once = 1, .device = "cpu", .ended = count_ended};
    struct ft_runs *runs = NULL;
    ASSERT_OK(ft_runs_open(&options, &runs, &err));
    return runs;
}

static void submit(struct ft_runs *runs, const char *act, char id[FT_RUN_ID])
{
    struct ft_json *options = ft_json_object();
    ASSERT_OK(ft_json_set(options, "act", ft_json_of_text(act), &err));
    struct ft_run_spec spec = {.model = "/m/a.onnx", .dataset = "/d/letters", .options = options};
    ASSERT_OK(ft_runs_submit(runs, &spec, id, &err));
    ft_json_free(options);
}

static void wait_for(struct ft_runs *runs, const char *id, enum ft_run_state want)
{
    enum ft_run_state state = FT_RUN_CREATED;
    double until = ft_clock_seconds() + 20;
    while (ft_clock_seconds() < until) {
        ASSERT_OK(ft_runs_state(runs, id, &state, &err));
        if (state == want) {
            return;
        }
        nap_ms(20);
    }
    fail_msg("run is %s, not %s", ft_run_state_name(state), ft_run_state_name(want));
}

/* Until the worker has begun. */
static void wait_started(const char *dir, const char *id)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/runs/%s/started", dir, id);
    for (int i = 0; i < 400 && ft_path_kind(path) != FT_PATH_FILE; i++) {
        nap_ms(20);
    }
    assert_int_equal(ft_path_kind(path), FT_PATH_FILE);
}

static void reason_holds(struct ft_runs *runs, const char *id, const char *part)
{
    struct ft_json *record = NULL;
    ASSERT_OK(ft_runs_get(runs, id, &record, &err));
    const char *reason = ft_json_text(ft_json_get(record, "reason"), NULL);
    if (reason == NULL || strstr(reason, part) == NULL) {
        fail_msg("'%s' is not in '%s'", part, reason != NULL ? reason : "(none)");
    }
    ft_json_free(record);
}

struct fixture {
    char *dir;
};

static int set_up(void **state)
{
    static struct fixture f;
    ASSERT_OK(ft_dir_temp("runs", &f.dir, &err));
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
    return 0;
}

static void a_finished_run_tells_what_it_did(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    char *path = NULL;
    ASSERT_OK(ft_runs_newest(runs, &path, &err));
    assert_null(path);
    submit(runs, "finish", id);
    wait_for(runs, id, FT_RUN_FINISHED);
    struct ft_json *record = NULL;
    ASSERT_OK(ft_runs_get(runs, id, &record, &err));
    assert_string_equal(ft_json_text(ft_json_get(record, "status"), NULL), "FINISHED");
    assert_string_equal(ft_json_text(ft_json_get(record, "dataset"), NULL), "letters");
    assert_int_equal(ft_json_int(ft_json_get(ft_json_get(record, "summary"), "steps")), 2);
    assert_int_equal(ft_json_int(ft_json_get(ft_json_get(record, "progress"), "step")), 2);
    assert_non_null(ft_json_get(record, "metrics"));
    ft_json_free(record);
    struct ft_json *events = NULL;
    ASSERT_OK(ft_runs_events(runs, id, NULL, 0, 100, &events, &err));
    assert_int_equal(ft_json_count(events), 3); /* the half line is still being written */
    ft_json_free(events);
    ASSERT_OK(ft_runs_events(runs, id, "progress", 1, 100, &events, &err));
    assert_int_equal(ft_json_count(events), 1);
    ft_json_free(events);
    ASSERT_OK(ft_runs_newest(runs, &path, &err));
    assert_non_null(strstr(path, id));
    ft_free(path);
    ASSERT_OK(ft_runs_artifact(runs, id, &path, &err));
    assert_non_null(strstr(path, "/model.zip"));
    ft_free(path);
    ft_runs_close(runs, 1000);
    runs = open_runs(f->dir); /* and after a restart */
    ASSERT_OK(ft_runs_newest(runs, &path, &err));
    assert_non_null(strstr(path, id));
    ft_free(path);
    ft_runs_close(runs, 1000);
}

static void failures_keep_their_reason(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    static const char *const acts[][2] = {{"fail", "one class only"},
                                          {"crash", "signal 9 (KILL): out of memory"},
                                          {"exit", "exit code 7"},
                                          {"say", "work/checkpoint.tmp: no space"}};
    char *path = NULL;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        char id[FT_RUN_ID];
        submit(runs, acts[i][0], id);
        wait_for(runs, id, FT_RUN_FAILED);
        reason_holds(runs, id, acts[i][1]);
        assert_int_equal(ft_runs_artifact(runs, id, &path, &err), FT_UNAVAILABLE);
        assert_int_equal(ft_runs_cancel(runs, id, &err), FT_INVALID);
    }
    struct ft_json *list = NULL;
    ASSERT_OK(ft_runs_list(runs, 2, 0, &list, NULL, &err));
    assert_int_equal(ft_json_count(list), 2);
    ft_json_free(list);
    ft_runs_close(runs, 1000);
}

/* A journal read in pieces: all of it once, and what was read is not read again. */
static void a_journal_is_read_on_from_a_place(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    struct ft_buf text = {0};
    struct ft_runs_place place = {0, 0};
    struct ft_json *events = NULL;
    char id[FT_RUN_ID];
    int64_t seen = 0;
    submit(runs, "finish", id);
    wait_for(runs, id, FT_RUN_FINISHED);
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(
            ft_buf_printf(&text, &err, i % 100 == 99 ? "cut\n" : "{\"event\": \"note\",\"n\":%d}\n", i));
    }
    ASSERT_OK(ft_buf_text(&text, "", &err));
    ASSERT_OK(ft_buf_append(&text, "", 1, &err));
    put(f->dir, id, "events.jsonl", (const char *)text.data);
    size_t count = 0;
    do {
        size_t before = place.at;
        ASSERT_OK(ft_runs_events_on(runs, id, &place, 0, 4, &events, &err));
        count = ft_json_count(events);
        assert_true(count <= 4 && place.at <= before + 5 * 40);
        for (size_t i = 0; i < count; i++) {
            const struct ft_json *event = ft_json_at(events, i);
            assert_int_equal(ft_json_int(ft_json_get(event, "index")), ft_json_int(ft_json_get(event, "n")));
            seen++;
        }
        ft_json_free(events);
    } while (count > 0);
    assert_int_equal(seen, 990);
    assert_int_equal(place.index, 1000);
    assert_int_equal(place.at, text.size - 1);
    place = (struct ft_runs_place){0, 0};
    ASSERT_OK(ft_runs_events_on(runs, id, &place, 500, 1, &events, &err));
    assert_int_equal(ft_json_int(ft_json_get(ft_json_at(events, 0), "n")), 500);
    ft_json_free(events);
    ft_buf_release(&text);
    ft_runs_close(runs, 1000);
}

static void unknown_runs_are_not_found(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    struct ft_json *json = NULL;
    char *path = NULL;
    assert_int_equal(ft_runs_get(runs, "../../etc", &json, &err), FT_NOT_FOUND);
    assert_int_equal(ft_runs_events(runs, "x", NULL, 0, 1, &json, &err), FT_NOT_FOUND);
    assert_int_equal(ft_runs_cancel(runs, "x", &err), FT_NOT_FOUND);
    assert_int_equal(ft_runs_artifact(runs, "x", &path, &err), FT_NOT_FOUND);
    ft_runs_close(runs, 1000);
}

static void cancelling_ends_waiting_and_training_runs(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char training[FT_RUN_ID];
    char waiting[FT_RUN_ID];
    submit(runs, "wait", training);
    submit(runs, "finish", waiting);
    wait_started(f->dir, training);
    ASSERT_OK(ft_runs_cancel(runs, waiting, &err));
    wait_for(runs, waiting, FT_RUN_CANCELLED);
    ASSERT_OK(ft_runs_cancel(runs, training, &err));
    wait_for(runs, training, FT_RUN_CANCELLED);
    ft_runs_close(runs, 1000);
}

static void a_folder_belongs_to_one_process(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    struct ft_runs_options options = {.data_dir = f->dir, .at_once = 1, .device = "cpu"};
    struct ft_runs *second = NULL;
    assert_int_equal(ft_runs_open(&options, &second, &err), FT_BUSY);
    assert_null(second);
    ft_runs_close(runs, 1000);
}

static void closing_lets_a_run_go_on_at_the_next_start(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    char path[512];
    submit(runs, "wait", id);
    wait_started(f->dir, id);
    ft_runs_close(runs, 5000); /* SIGTERM: a checkpoint, and CREATED again */
    (void)snprintf(path, sizeof path, "%s/runs/%s/started", f->dir, id);
    ASSERT_OK(ft_path_remove(path, &err));
    runs = open_runs(f->dir);
    wait_started(f->dir, id);
    ASSERT_OK(ft_runs_cancel(runs, id, &err));
    wait_for(runs, id, FT_RUN_CANCELLED);
    ft_runs_close(runs, 1000);
}

static void a_worker_that_does_not_listen_is_killed(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    submit(runs, "stubborn", id);
    wait_started(f->dir, id);
    double start = ft_clock_seconds();
    ft_runs_close(runs, 200);
    assert_true(ft_clock_seconds() - start < 5);
    runs = open_runs(f->dir); /* it goes on once ... */
    struct ft_json *record = NULL;
    ASSERT_OK(ft_runs_get(runs, id, &record, &err));
    assert_int_equal(ft_json_int(ft_json_get(record, "resumes")), 1);
    ft_json_free(record);
    ASSERT_OK(ft_runs_cancel(runs, id, &err));
    ft_runs_close(runs, 200);
}

/* The copy of its dataset that a worker makes. */
static void make_copy(const char *dir, const char *id)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/runs/%s/dataset", dir, id);
    ASSERT_OK(ft_dir_make(path, &err));
}

static void copy_is_gone(const char *dir, const char *id)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/runs/%s/dataset", dir, id);
    assert_int_equal(ft_path_kind(path), FT_PATH_NONE);
}

static void every_way_to_end_is_told_and_leaves_no_copy(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char training[FT_RUN_ID];
    char waiting[FT_RUN_ID];
    char stuck[FT_RUN_ID];
    char path[512];
    submit(runs, "wait", training);
    submit(runs, "wait", waiting);
    submit(runs, "wait", stuck);
    wait_started(f->dir, training);
    atomic_store(&ended, 0);
    make_copy(f->dir, training);
    make_copy(f->dir, waiting);
    make_copy(f->dir, stuck);
    (void)snprintf(path, sizeof path, "%s/runs/%s/worker.log", f->dir, stuck);
    ASSERT_OK(ft_dir_make(path, &err)); /* its worker cannot start */
    ASSERT_OK(ft_runs_cancel(runs, waiting, &err));
    assert_int_equal(atomic_load(&ended), 1);
    copy_is_gone(f->dir, waiting);
    ASSERT_OK(ft_runs_cancel(runs, training, &err));
    wait_for(runs, stuck, FT_RUN_FAILED);
    reason_holds(runs, stuck, "cannot start a worker");
    copy_is_gone(f->dir, training);
    for (int i = 0; i < 200 && atomic_load(&ended) < 3; i++) {
        nap_ms(10);
    }
    assert_int_equal(atomic_load(&ended), 3);
    copy_is_gone(f->dir, stuck);
    ft_runs_close(runs, 1000);
}

/* The service dies under the same run twice: what it would leave is written by hand. */
static void dying_twice_under_a_run_fails_it(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    submit(runs, "finish", id);
    wait_for(runs, id, FT_RUN_FINISHED);
    ft_runs_close(runs, 1000);
    char path[512];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/finetuner.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE runs SET state='STARTED', resumes=1", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    (void)snprintf(path, sizeof path, "%s/runs/%s/result.json", f->dir, id);
    ASSERT_OK(ft_path_remove(path, &err));
    make_copy(f->dir, id);
    runs = open_runs(f->dir);
    wait_for(runs, id, FT_RUN_FAILED);
    reason_holds(runs, id, "died twice");
    copy_is_gone(f->dir, id);
    ft_runs_close(runs, 1000);
}

/* A full disk can cut a line of events in two and leave a result that is none. */
static void what_a_worker_garbled_is_not_fatal(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    struct ft_json *events = NULL;
    submit(runs, "garble", id);
    wait_for(runs, id, FT_RUN_FAILED);
    reason_holds(runs, id, "result.json");
    ASSERT_OK(ft_runs_events(runs, id, "progress", 0, 10, &events, &err));
    assert_int_equal(ft_json_count(events), 1);
    assert_int_equal(ft_json_int(ft_json_get(ft_json_at(events, 0), "step")), 2);
    ft_json_free(events);
    ft_runs_close(runs, 1000);
}

static void memory_running_out_leaks_nothing(void **state)
{
    struct fixture *f = *state;
    struct ft_runs *runs = open_runs(f->dir);
    char id[FT_RUN_ID];
    submit(runs, "finish", id);
    wait_for(runs, id, FT_RUN_FINISHED);
    nap_ms(100); /* its thread sleeps now and allocates nothing */
    size_t before = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    uint64_t n = 0;
    while (st != FT_OK) {
        struct ft_json *record = NULL;
        ft_alloc_fail_at(++n);
        st = ft_runs_get(runs, id, &record, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_json_free(record);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    assert_true(n > 10);
    ft_runs_close(runs, 1000);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "worker") == 0) {
        return play(argv);
    }
    ft_log_level_set(FT_LOG_ERROR);
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_finished_run_tells_what_it_did),
        CASE(failures_keep_their_reason),
        CASE(a_journal_is_read_on_from_a_place),
        CASE(unknown_runs_are_not_found),
        CASE(cancelling_ends_waiting_and_training_runs),
        CASE(a_folder_belongs_to_one_process),
        CASE(closing_lets_a_run_go_on_at_the_next_start),
        CASE(a_worker_that_does_not_listen_is_killed),
        CASE(every_way_to_end_is_told_and_leaves_no_copy),
        CASE(dying_twice_under_a_run_fails_it),
        CASE(what_a_worker_garbled_is_not_fatal),
        CASE(memory_running_out_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
