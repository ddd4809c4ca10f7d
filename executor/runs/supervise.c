#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/runs/internal.h"

enum { POLL_MS = 50, TRY_AGAIN_S = 1 };

enum { SAYS = 3 }; /* the pipe, in the worker */

/* Environment of a worker: ours, with OpenMP told not to spin beside the service (DESIGN 5.11). */
static enum ft_status worker_environment(const struct ft_runs *runs, char ***env, char *threads,
                                         struct ft_err *err)
{
    static char passive[] = "OMP_WAIT_POLICY=PASSIVE";
    static char says[] = FT_WORKER_SAYS "=3";
    static_assert(SAYS == 3, "says");
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **list = NULL;
    *env = NULL;
    FT_RETURN_IF_FAILED(ft_new(count + 4, sizeof *list, &list, err));
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        bool ours = strncmp(environ[i], "OMP_WAIT_POLICY=", 16) == 0 ||
                    strncmp(environ[i], says, sizeof FT_WORKER_SAYS) == 0 ||
                    (runs->threads > 0 && strncmp(environ[i], "OMP_NUM_THREADS=", 16) == 0);
        if (!ours) {
            list[n++] = environ[i];
        }
    }
    list[n++] = passive;
    list[n++] = says;
    if (runs->threads > 0) {
        list[n++] = threads;
    }
    *env = list;
    return FT_OK;
}

static int prepare_spawn(posix_spawnattr_t *attr, posix_spawn_file_actions_t *files, const char *log,
                         int says)
{
    sigset_t none;
    sigset_t standard;
    (void)sigemptyset(&none);
    (void)sigemptyset(&standard);
    (void)sigaddset(&standard, SIGTERM);
    (void)sigaddset(&standard, SIGINT);
    (void)sigaddset(&standard, SIGPIPE);
    /* A group of its own: Ctrl-C at the service's terminal reaches the service, which tells its workers. */
    int cause = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                   POSIX_SPAWN_SETPGROUP);
    cause = cause != 0 ? cause : posix_spawnattr_setsigmask(attr, &none);
    cause = cause != 0 ? cause : posix_spawnattr_setsigdefault(attr, &standard);
    cause = cause != 0 ? cause : posix_spawnattr_setpgroup(attr, 0);
    cause = cause != 0 ? cause : posix_spawn_file_actions_adddup2(files, says, SAYS); /* may be 0 to 2 here */
    cause = cause != 0 ? cause : posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    cause = cause != 0 ? cause
                       : posix_spawn_file_actions_addopen(files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    cause = cause != 0 ? cause : posix_spawn_file_actions_adddup2(files, 1, 2);
    /* Sockets and database handles stay here. */
    return cause != 0 ? cause : posix_spawn_file_actions_addclosefrom_np(files, SAYS + 1);
}

/* argv is only read by posix_spawn(), whose type lacks the const. */
static char *word(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void close_pipe(int ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            (void)close(ends[i]);
        }
    }
}

static enum ft_status spawn_worker(struct ft_runs *runs, const char *id, struct ft_worker *worker,
                                   struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int ends[2] = {-1, -1};
    char *log = NULL;
    char *result = NULL;
    char **env = NULL;
    char threads[48];
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    bool made = false;
    (void)snprintf(threads, sizeof threads, "OMP_NUM_THREADS=%lld", (long long)runs->threads);
    FT_TRY(worker_environment(runs, &env, threads, err));
    FT_TRY(ft_run_path(runs->data_dir, id, "worker.log", &log, err));
    FT_TRY(ft_run_path(runs->data_dir, id, "result.json", &result, err));
    FT_TRY(ft_path_remove(result, err)); /* of a worker before this one */
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        st = FT_FAIL(err, UNAVAILABLE, "cannot start a worker: %s", strerrorname_np(errno));
        goto done;
    }
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_init(&files);
    made = true;
    int cause = prepare_spawn(&attr, &files, log, ends[1]);
    if (cause == 0) {
        char *argv[] = {word("finetuner"),  word("worker"), word("--run"), word(id),
                        word("--data-dir"), runs->data_dir, NULL};
        /* Not our path on disk: that file may have been replaced by a newer version since we started. */
        cause = posix_spawn(&worker->pid, "/proc/self/exe", &files, &attr, argv, env);
    }
    if (cause != 0) {
        st = FT_FAIL(err, UNAVAILABLE, "cannot start a worker: %s", strerrorname_np(cause));
        goto done;
    }
    worker->says = ends[0];
    ends[0] = -1;
done:
    close_pipe(ends);
    if (made) {
        (void)posix_spawnattr_destroy(&attr);
        (void)posix_spawn_file_actions_destroy(&files);
    }
    ft_free(env);
    ft_free(log);
    ft_free(result);
    return st;
}

static enum ft_status read_first(void *arg, sqlite3_stmt *row, struct ft_err *err)
{
    (void)err;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    (void)snprintf(arg, FT_RUN_ID, "%s", text != NULL ? text : "");
    return FT_OK;
}

/* Start runs that wait while a worker's place is free. True: this one cannot start and has failed; there may
 * be more. Mutex held. */
static bool start_waiting(struct ft_runs *runs, char failed[FT_RUN_ID])
{
    for (int64_t i = 0; i < runs->at_once && !runs->closing; i++) {
        struct ft_worker *worker = &runs->workers[i];
        char id[FT_RUN_ID] = "";
        struct ft_err err = {0};
        if (worker->pid != 0) {
            continue;
        }
        struct ft_db_query query = {.sql = "SELECT id FROM runs WHERE state='CREATED' ORDER BY seq LIMIT 1",
                                    .row = read_first,
                                    .arg = id};
        enum ft_status st = ft_db_run(runs, &query, &err);
        if (st == FT_OK && id[0] == '\0') {
            return false;
        }
        if (st == FT_OK) {
            st = ft_db_set_state(runs, id, FT_RUN_STARTED, NULL, NULL, &err);
        }
        if (st == FT_OK) {
            st = spawn_worker(runs, id, worker, &err);
        }
        if (st != FT_OK) {
            FT_LOG_ERROR_LINE("runs", "cannot start run=%s reason=\"%s\"", id, err.text);
            struct ft_err second = {0};
            worker->pid = 0;
            (void)snprintf(failed, FT_RUN_ID, "%s", id);
            /* false: the disk refuses, the next wake tries again */
            return id[0] != '\0' && ft_run_end(runs, id, FT_RUN_FAILED, err.text, NULL, &second) == FT_OK;
        }
        (void)snprintf(worker->run, sizeof worker->run, "%s", id);
        worker->cancelling = false;
        FT_LOG_INFO_LINE("runs", "run started run=%s pid=%d", id, (int)worker->pid);
    }
    return false;
}

enum { CRASH_TEXT = FT_ERR_TEXT + 160 };

static void crash_text(const struct ft_worker *worker, char out[CRASH_TEXT])
{
    int status = worker->status;
    if (WIFSIGNALED(status)) {
        int signal = WTERMSIG(status);
        (void)snprintf(out, CRASH_TEXT, "the worker was ended by signal %d (%s)%s", signal,
                       sigabbrev_np(signal),
                       signal == SIGKILL ? ": out of memory, or killed by hand" : "; see its log");
    } else if (worker->said[0] != '\0') {
        (void)snprintf(out, CRASH_TEXT, "%s", worker->said);
    } else {
        (void)snprintf(out, CRASH_TEXT, "the worker ended with exit code %d and left no result; see its log",
                       WEXITSTATUS(status));
    }
}

/* It has ended: all that it said is there. */
static void hear(struct ft_worker *worker)
{
    ssize_t n = read(worker->says, worker->said, sizeof worker->said - 1);
    worker->said[n > 0 ? n : 0] = '\0';
    (void)close(worker->says);
}

/* Whether the worker's end is to be recorded now. */
static bool has_ended(struct ft_worker *worker)
{
    if (worker->pid == 0) {
        return false;
    }
    if (!worker->over) {
        worker->over = waitpid(worker->pid, &worker->status, WNOHANG) == worker->pid;
        worker->try_at = 0;
        if (worker->over) {
            hear(worker);
        }
    }
    return worker->over && ft_clock_seconds() >= worker->try_at;
}

/* False: the registry takes nothing, its disk is full or broken. Whoever watches the run waits until it does;
 * a service that goes down does not, the next one looks at the result. */
static bool record_end(struct ft_runs *runs, struct ft_worker *worker)
{
    char crash[CRASH_TEXT];
    struct ft_err err = {0};
    crash_text(worker, crash);
    if (ft_settle(runs, worker->run, crash, worker->cancelling, &err) == FT_OK) {
        return true;
    }
    if (worker->try_at == 0) { /* said once */
        FT_LOG_ERROR_LINE("runs", "cannot record the end of run=%s reason=\"%s\"", worker->run, err.text);
    }
    worker->try_at = ft_clock_seconds() + TRY_AGAIN_S;
    return runs->closing;
}

/* True and the run's id when a worker has ended. Mutex held. */
static bool reap_one(struct ft_runs *runs, char id[FT_RUN_ID])
{
    for (int64_t i = 0; i < runs->at_once; i++) {
        struct ft_worker *worker = &runs->workers[i];
        if (has_ended(worker) && record_end(runs, worker)) {
            (void)snprintf(id, FT_RUN_ID, "%s", worker->run);
            worker->pid = 0;
            worker->over = false;
            return true;
        }
    }
    return false;
}

static bool any_worker(const struct ft_runs *runs)
{
    for (int64_t i = 0; i < runs->at_once; i++) {
        if (runs->workers[i].pid != 0) {
            return true;
        }
    }
    return false;
}

static void signal_workers(const struct ft_runs *runs, int signal)
{
    for (int64_t i = 0; i < runs->at_once; i++) {
        if (runs->workers[i].pid != 0 && !runs->workers[i].over) {
            (void)kill(runs->workers[i].pid, signal);
        }
    }
}

static void nap(struct ft_runs *runs)
{
    if (!any_worker(runs)) {
        if (!runs->closing) {
            (void)pthread_cond_wait(&runs->wake, &runs->mutex);
        }
        return;
    }
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += POLL_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_cond_timedwait(&runs->wake, &runs->mutex, &until);
}

void ft_supervise(void *arg)
{
    struct ft_runs *runs = arg;
    double closing_at = 0;
    bool killed = false;
    (void)pthread_mutex_lock(&runs->mutex);
    for (;;) {
        char id[FT_RUN_ID];
        if (reap_one(runs, id) || start_waiting(runs, id)) {
            if (runs->ended != NULL) {
                (void)pthread_mutex_unlock(&runs->mutex);
                runs->ended(runs->arg, id);
                (void)pthread_mutex_lock(&runs->mutex);
            }
            continue;
        }
        if (runs->closing && closing_at == 0) {
            closing_at = ft_clock_seconds();
            signal_workers(runs, SIGTERM);
        }
        if (runs->closing && !any_worker(runs)) {
            break;
        }
        if (runs->closing && !killed && ft_clock_seconds() - closing_at > runs->grace_ms / 1000.0) {
            killed = true; /* recovery at the next start resumes from the last checkpoint */
            signal_workers(runs, SIGKILL);
        }
        nap(runs);
    }
    (void)pthread_mutex_unlock(&runs->mutex);
}
