/* links: ft_store ft_wire ft_codec ft_base */
/* More comes to a dataset than is made into shards: calls wait, are refused, or are told why none can be
 * made. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/clock.h"
#include "executor/store/set.h"
#include "tests/support.h"

/* Bytes of journals at which calls wait, as set.h has it for small shards; most that wait to be written. */
enum { MIB = 1 << 20, BACKLOG = 64 << 20, PENDING = 256, SEAL = 64 << 10, MORE = BACKLOG + (96 << 20) };

enum { FLOWING, STANDING, REFUSING };
static atomic_int mode;

/* The system's, of a disk that takes journals, and shards as `mode` says. */
int fsync(int fd)
{
    char link[64];
    char path[600];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    while (strstr(path, "/shard-") != NULL && atomic_load(&mode) == STANDING) {
        const struct timespec nap = {0, 1000000};
        (void)nanosleep(&nap, NULL);
    }
    if (strstr(path, "/shard-") != NULL && atomic_load(&mode) == REFUSING) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

struct fixture {
    char *dir;
    struct ft_set *set;
    char *text;                    /* a MiB */
    struct ft_document docs[1024]; /* borrowed until they are answered */
    char ids[1024][16];
    int next;
    atomic_int stored, busy, failed;
    struct ft_err why;
};

static int set_up(void **state)
{
    struct ft_err err = {0};
    struct fixture *f = calloc(1, sizeof *f);
    ASSERT_OK(ft_dir_temp("ft-backlog", &f->dir, &err));
    ASSERT_OK(ft_set_open(f->dir, SEAL, &f->set, &err));
    f->text = malloc(MIB);
    memset(f->text, 'x', MIB);
    atomic_store(&mode, STANDING);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct ft_err err = {0};
    struct fixture *f = *state;
    atomic_store(&mode, FLOWING);
    ft_set_close(f->set);
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
    free(f->text);
    free(f);
    return 0;
}

static void done(void *arg, const struct ft_set_result *result, const struct ft_err *why)
{
    struct fixture *f = arg;
    if (why->code == FT_OK) {
        (void)atomic_fetch_add(&f->stored, (int)result->stored);
    } else if (why->code == FT_BUSY) {
        (void)atomic_fetch_add(&f->busy, 1);
    } else {
        f->why = *why;
        (void)atomic_fetch_add(&f->failed, 1);
    }
}

static int answered(struct fixture *f)
{
    return atomic_load(&f->stored) + atomic_load(&f->busy) + atomic_load(&f->failed);
}

/* One Document of a MiB. */
static void submit(struct fixture *f)
{
    int i = f->next++;
    assert_true(i < 1024);
    (void)snprintf(f->ids[i], sizeof f->ids[i], "%d", i);
    f->docs[i] =
        (struct ft_document){.id = ft_bytes_of_text(f->ids[i]),
                             .has_label = true,
                             .label = ft_bytes_of_text("a"),
                             .content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of(f->text, MIB)}};
    ft_set_submit(f->set, &f->docs[i], 1, done, f);
}

/* Until all calls are answered, or calls wait for shards. */
static bool settles(struct fixture *f)
{
    for (int i = 0; i < 60000; i++) {
        if (answered(f) == f->next || ft_set_stats(f->set).behind) {
            return answered(f) == f->next;
        }
        const struct timespec nap = {0, 1000000};
        (void)nanosleep(&nap, NULL);
    }
    fail_msg("%d of %d calls are answered", answered(f), f->next);
    return false;
}

static void fill(struct fixture *f)
{
    while (f->next < MORE / MIB) {
        submit(f);
    }
    assert_false(settles(f));
}

static void nap_ms(long ms)
{
    const struct timespec nap = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&nap, NULL);
}

static void calls_wait_until_shards_keep_up(void **state)
{
    struct fixture *f = *state;
    fill(f);
    struct ft_set_stats stats = ft_set_stats(f->set);
    assert_true(stats.backlog > BACKLOG);
    assert_true(stats.backlog < MORE - 16 * MIB); /* and what one fsync covers */
    assert_int_equal(stats.seals, 0);
    nap_ms(200);
    assert_true(ft_set_stats(f->set).backlog < stats.backlog + 4096); /* heads of journals may come */
    struct ft_err err = {0};
    struct ft_set_result result;
    const struct ft_bytes ids[] = {ft_bytes_of_text("0"), ft_bytes_of_text("none")};
    ASSERT_OK(ft_set_delete(f->set, ids, 2, &result, &err)); /* takes no room to speak of */
    assert_int_equal(result.deleted, 1);
    assert_true(ft_set_stats(f->set).behind);
    assert_true(ft_set_stats(f->set).backlog < stats.backlog + 8192);
    atomic_store(&mode, FLOWING);
    while (!settles(f)) {
    }
    assert_int_equal(atomic_load(&f->stored), f->next);
    stats = ft_set_stats(f->set);
    assert_int_equal(stats.ids, f->next - 1);
    assert_true(stats.seals > 0);
}

static void beyond_what_may_wait_they_are_refused(void **state)
{
    struct fixture *f = *state;
    fill(f);
    int most = f->next + PENDING + 2;
    while (f->next < most && atomic_load(&f->busy) == 0) {
        submit(f);
    }
    assert_int_equal(atomic_load(&f->busy), 1);
    atomic_store(&mode, FLOWING);
    while (!settles(f)) {
    }
    assert_int_equal(atomic_load(&f->stored), f->next - 1);
}

static void where_no_shard_can_be_made_they_are_told(void **state)
{
    struct fixture *f = *state;
    atomic_store(&mode, REFUSING);
    while (f->next < MORE / MIB) {
        submit(f);
    }
    while (!settles(f)) {
    }
    assert_true(atomic_load(&f->failed) > 0);
    assert_true(atomic_load(&f->stored) >= BACKLOG / MIB - 1);
    assert_int_equal(f->why.code, FT_IO);
    assert_non_null(strstr(f->why.text, "shard-"));
    atomic_store(&mode, FLOWING); /* the thread tries again by itself */
    int before = atomic_load(&f->stored);
    while (atomic_load(&f->stored) == before) {
        nap_ms(50);
        submit(f);
        while (!settles(f)) {
        }
    }
}

/* A byte of each shard, in the middle of a Document: what is written anew from it is refused. */
static void spoil_shards(const struct fixture *f)
{
    struct ft_err err = {0};
    struct ft_dir_list list;
    char path[600];
    int spoilt = 0;
    ASSERT_OK(ft_dir_list(f->dir, &list, &err));
    for (size_t i = 0; i < list.count; i++) {
        if (strncmp(list.names[i], "shard-", 6) == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", f->dir, list.names[i]);
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            assert_int_equal(pwrite(fd, "y", 1, MIB / 2), 1);
            assert_int_equal(close(fd), 0);
            spoilt++;
        }
    }
    ft_dir_list_release(&list);
    assert_true(spoilt > 0);
}

/* Shards are still made of journals: calls wait for them, and are told nothing of others. */
static void damage_that_shards_do_not_need_is_not_told(void **state)
{
    enum { MERGED = 4 /* shards of like size become one */ };
    struct fixture *f = *state;
    double start = ft_clock_seconds();
    atomic_store(&mode, FLOWING);
    while (f->next < MERGED) {
        submit(f);
        for (uint64_t seals = 0; seals < (uint64_t)f->next; seals = ft_set_stats(f->set).seals) {
            nap_ms(1);
        }
        spoil_shards(f);
    }
    while (ft_set_stats(f->set).working) {
        nap_ms(1);
    }
    assert_int_equal(ft_set_stats(f->set).merges, 0);
    nap_ms(3500);
    uint64_t failed = ft_set_stats(f->set).merges_failed;
    assert_true(failed >= 2);
    for (uint64_t i = 1, pause = 1; i < failed; i++, pause *= 2) { /* after 1 s, after 2 s, after 4 s, ... */
        start += (double)pause;
    }
    assert_true(ft_clock_seconds() > start);
    atomic_store(&mode, STANDING);
    fill(f);
    nap_ms(200);
    assert_int_equal(atomic_load(&f->failed), 0);
    atomic_store(&mode, FLOWING);
    while (!settles(f)) {
    }
    assert_int_equal(atomic_load(&f->stored), f->next);
}

static void who_is_in_a_hurry_does_not_wait(void **state)
{
    struct fixture *f = *state;
    fill(f);
    ft_set_hurry(f->set);
    submit(f);
    assert_true(settles(f));
    assert_int_equal(atomic_load(&f->stored), f->next);
    assert_int_equal(ft_set_stats(f->set).seals, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(calls_wait_until_shards_keep_up),          CASE(beyond_what_may_wait_they_are_refused),
        CASE(where_no_shard_can_be_made_they_are_told), CASE(damage_that_shards_do_not_need_is_not_told),
        CASE(who_is_in_a_hurry_does_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
