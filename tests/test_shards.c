/* Shards of a dataset: made while Documents come in, replaced and deleted ones left out, checked when opened.
 */
/* links: ft_store ft_wire ft_codec ft_base */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/rand.h"
#include "executor/base/thread.h"
#include "executor/store/dataset.h"
#include "executor/store/folder.h"
#include "executor/store/manifest.h"
#include "executor/store/segment.h"
#include "executor/store/set.h"
#include "executor/store/snapshot.h"
#include "executor/wire/docarray_v1.h"

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != FT_OK) {                                                                               \
            fail_msg("%s", err.text);                                                                        \
        }                                                                                                    \
    } while (0)

enum { IDS = 200, LABELS = 7, SEAL = 4096 };
static char *root;

static int set_up(void **state)
{
    struct ft_err err = {0};
    (void)state;
    return ft_dir_temp("test-shards", &root, &err) == FT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct ft_err err = {0};
    (void)state;
    enum ft_status st = ft_path_remove(root, &err);
    ft_free(root);
    return st == FT_OK ? 0 : -1;
}

static const char *fresh(const char *name)
{
    static char paths[4][512];
    static int next;
    struct ft_err err = {0};
    char *path = paths[next++ % 4];
    (void)snprintf(path, 512, "%s/%s", root, name);
    OK(ft_path_remove(path, &err));
    return path;
}

static struct ft_set *opened(const char *dir)
{
    struct ft_err err = {0};
    struct ft_set *set = NULL;
    OK(ft_set_open(dir, SEAL, &set, &err));
    return set;
}

/* What the dataset should hold: version 0 = no such Document, else which text and label it has. */
struct model {
    unsigned version[IDS];
    unsigned last;
    size_t live;
};

static void put(struct ft_set *set, struct model *m, const unsigned *ids, size_t count)
{
    struct ft_err err = {0};
    struct ft_document docs[16] = {0};
    char texts[16][3][64];
    struct ft_set_result result;
    for (size_t i = 0; i < count; i++) {
        m->live += m->version[ids[i]] == 0 ? 1 : 0;
        m->version[ids[i]] = ++m->last;
        (void)snprintf(texts[i][0], 64, "id-%u", ids[i]);
        (void)snprintf(texts[i][1], 64, "label-%u", m->last % LABELS);
        (void)snprintf(texts[i][2], 64, "text %u of %u", m->last, ids[i]);
        docs[i].id = ft_bytes_of_text(texts[i][0]);
        docs[i].has_label = true;
        docs[i].label = ft_bytes_of_text(texts[i][1]);
        docs[i].content =
            (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text(texts[i][2])};
    }
    OK(ft_set_append(set, docs, count, &result, &err));
    assert_int_equal(result.stored, count);
}

static void drop(struct ft_set *set, struct model *m, const unsigned *ids, size_t count)
{
    struct ft_err err = {0};
    struct ft_bytes names[16];
    char texts[16][64];
    struct ft_set_result result;
    size_t there = 0;
    for (size_t i = 0; i < count; i++) {
        there += m->version[ids[i]] != 0 ? 1 : 0;
        m->version[ids[i]] = 0;
        (void)snprintf(texts[i], 64, "id-%u", ids[i]);
        names[i] = ft_bytes_of_text(texts[i]);
    }
    m->live -= there;
    OK(ft_set_delete(set, names, count, &result, &err));
    assert_int_equal(result.deleted, there);
}

/* Everything a reader sees is what the model says, each id once. */
static void check(const char *dir, const struct model *m, char digest[FT_SHA256_HEX])
{
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    struct ft_arena arena = {0};
    size_t in_classes = 0;
    OK(ft_dataset_open_set(dir, &ds, &err));
    assert_int_equal(ft_dataset_count(ds), m->live);
    for (size_t i = 0; i < m->live; i++) {
        struct ft_document doc;
        char want[64];
        unsigned id = 0;
        OK(ft_dataset_read(ds, i, &arena, &doc, &err));
        struct ft_bytes name = ft_dataset_id(ds, i);
        assert_true(name.size > 3 && name.size < 8);
        for (size_t k = 3; k < name.size; k++) {
            id = id * 10 + (unsigned)(name.data[k] - '0');
        }
        assert_true(id < IDS && m->version[id] != 0);
        (void)snprintf(want, sizeof want, "text %u of %u", m->version[id], id);
        assert_true(ft_bytes_is(doc.content.bytes, want));
        (void)snprintf(want, sizeof want, "label-%u", m->version[id] % LABELS);
        size_t c = (size_t)ft_dataset_class_of(ds, i);
        assert_string_equal(ft_dataset_class_name(ds, c), want);
    }
    for (size_t c = 0; c < ft_dataset_classes(ds); c++) {
        assert_true(ft_dataset_class_count(ds, c) > 0);
        assert_int_equal(ft_dataset_class_item(ds, c, 0), in_classes);
        in_classes += ft_dataset_class_count(ds, c);
    }
    assert_int_equal(in_classes, m->live);
    OK(ft_dataset_digest(ds, digest, &err));
    ft_arena_release(&arena);
    ft_dataset_free(ds);
}

static void verify(const char *dir)
{
    struct ft_err err = {0};
    struct ft_manifest m;
    OK(ft_manifest_read(dir, &m, &err));
    for (size_t i = 0; i < m.n_shards; i++) {
        struct ft_segment *segment = NULL;
        OK(ft_segment_open_shard(dir, m.shards[i].number, &segment, &err));
        OK(ft_segment_verify(segment, m.salt, &err));
        ft_segment_free(segment);
    }
    for (size_t i = 0; i < m.n_journals; i++) {
        struct ft_segment *segment = NULL;
        OK(ft_segment_open_journal(dir, &m.journals[i], m.salt, &segment, &err));
        OK(ft_segment_verify(segment, m.salt, &err));
        ft_segment_free(segment);
    }
    ft_manifest_release(&m);
}

static void wait_idle(struct ft_set *set)
{
    for (int i = 0; i < 2000; i++) {
        struct ft_set_stats s = ft_set_stats(set);
        if (!s.working && s.journals == 1 && s.bytes < SEAL) {
            return;
        }
        (void)usleep(1000);
    }
    fail_msg("its thread does not come to rest");
}

/* One random step of a dataset's life. */
static void step(struct ft_set *set, struct model *m, struct ft_rand r, uint64_t n)
{
    unsigned ids[16];
    size_t count = 1 + (size_t)ft_rand_below(r, 100 * n, 12);
    unsigned start = (unsigned)ft_rand_below(r, 100 * n + 1, IDS);
    for (size_t i = 0; i < count; i++) {
        ids[i] = (start + (unsigned)i * 7) % IDS; /* different ones */
    }
    if (ft_rand_below(r, 100 * n + 2, 4) == 0) {
        drop(set, m, ids, count);
    } else {
        put(set, m, ids, count);
    }
}

static void any_history_reads_as_the_model_says(void **state)
{
    (void)state;
    uint64_t seals = 0, merges = 0;
    for (uint64_t trial = 0; trial < 6; trial++) {
        struct ft_rand r = ft_rand_at(20261126, FT_RAND_TEST, trial);
        const char *dir = fresh("history");
        struct ft_set *set = opened(dir);
        struct model m = {0};
        char digest[2][FT_SHA256_HEX];
        for (uint64_t n = 0; n < 400; n++) {
            step(set, &m, r, n);
            assert_int_equal(ft_set_stats(set).ids, m.live);
            if (ft_rand_below(r, 100 * n + 3, 40) == 0) {
                check(dir, &m, digest[0]); /* in whatever state its files are */
            }
            if (ft_rand_below(r, 100 * n + 4, 60) == 0) {
                seals += ft_set_stats(set).seals;
                merges += ft_set_stats(set).merges;
                ft_set_close(set);
                set = opened(dir);
                assert_int_equal(ft_set_stats(set).ids, m.live);
                assert_int_equal(ft_set_stats(set).cut, 0);
            }
        }
        struct ft_err err = {0};
        wait_idle(set);
        check(dir, &m, digest[0]);
        verify(dir);
        OK(ft_set_compact(set, &err));
        struct ft_set_stats stats = ft_set_stats(set);
        assert_int_equal(stats.shards, 1);
        assert_int_equal(stats.ids, m.live);
        check(dir, &m, digest[1]); /* the same Documents have the same numbers however they lie */
        assert_string_equal(digest[0], digest[1]);
        verify(dir);
        seals += stats.seals;
        merges += stats.merges;
        unsigned one = 3;
        put(set, &m, &one, 1);
        drop(set, &m, &one, 1);
        check(dir, &m, digest[0]);
        ft_set_close(set);
    }
    print_message("%llu journals sealed, %llu merges\n", (unsigned long long)seals,
                  (unsigned long long)merges);
    assert_true(seals > 10 && merges > 10);
}

static void all_deleted_is_an_empty_dataset(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh("empty");
    struct ft_set *set = opened(dir);
    struct model m = {0};
    char digest[FT_SHA256_HEX];
    unsigned ids[4] = {1, 2, 3, 4};
    put(set, &m, ids, 4);
    OK(ft_set_compact(set, &err));
    drop(set, &m, ids, 4);
    OK(ft_set_compact(set, &err));
    check(dir, &m, digest);
    assert_int_equal(ft_set_stats(set).shards, 0);
    put(set, &m, ids, 2);
    ft_set_close(set);
    set = opened(dir);
    assert_int_equal(ft_set_stats(set).ids, 2);
    ft_set_close(set);
    check(dir, &m, digest);
}

/* ---- several threads ---- */

struct pusher {
    struct ft_set *set;
    unsigned first;
    unsigned rounds;
};

static void push(void *arg)
{
    struct pusher *p = arg;
    struct ft_err err = {0};
    for (unsigned n = 0; n < p->rounds; n++) {
        struct ft_document docs[4] = {0};
        char texts[4][2][64];
        struct ft_set_result result;
        for (unsigned i = 0; i < 4; i++) {
            unsigned id = p->first + (n * 4 + i) % 64; /* each comes again and again */
            (void)snprintf(texts[i][0], 64, "id-%u", id);
            (void)snprintf(texts[i][1], 64, "text %u of %u", n, id);
            docs[i] = (struct ft_document){
                .id = ft_bytes_of_text(texts[i][0]), .has_label = true, .label = ft_bytes_of_text("l")};
            docs[i].content =
                (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text(texts[i][1])};
        }
        OK(ft_set_append(p->set, docs, 4, &result, &err));
        assert_int_equal(result.stored, 4);
    }
}

static void a_snapshot_stays_while_others_push(void **state)
{
    (void)state;
    enum { PUSHERS = 4 };
    struct ft_err err = {0};
    const char *dir = fresh("pushed");
    const char *at = fresh("snapshot");
    struct ft_set *set = opened(dir);
    struct model m = {0};
    struct pusher pushers[PUSHERS];
    struct ft_thread *threads[PUSHERS];
    char digest[3][FT_SHA256_HEX];
    for (unsigned i = 0; i < 100; i += 10) {
        unsigned ids[10];
        for (unsigned k = 0; k < 10; k++) {
            ids[k] = i + k;
        }
        put(set, &m, ids, 10);
    }
    OK(ft_snapshot_make(dir, at, &err));
    check(at, &m, digest[0]);
    for (unsigned i = 0; i < PUSHERS; i++) {
        pushers[i] = (struct pusher){.set = set, .first = i * 64, .rounds = 150};
        OK(ft_thread_start("pusher", push, &pushers[i], &threads[i], &err));
    }
    for (int i = 0; i < 20; i++) { /* snapshots of a moving dataset open, whatever is going on */
        char path[600];
        struct ft_dataset *ds = NULL;
        (void)snprintf(path, sizeof path, "%s/moving-%d", root, i);
        OK(ft_snapshot_make(dir, path, &err));
        OK(ft_dataset_open_set(path, &ds, &err));
        assert_true(ft_dataset_count(ds) >= 100 && ft_dataset_count(ds) <= 4 * 64);
        ft_dataset_free(ds);
        OK(ft_dataset_open_set(dir, &ds, &err));
        ft_dataset_free(ds);
        OK(ft_path_remove(path, &err));
    }
    for (unsigned i = 0; i < PUSHERS; i++) {
        ft_thread_join(threads[i]);
    }
    OK(ft_set_compact(set, &err));
    assert_int_equal(ft_set_stats(set).ids, 4 * 64);
    check(at, &m, digest[1]);
    assert_string_equal(digest[0], digest[1]);
    ft_set_close(set);
    OK(ft_path_remove(dir, &err)); /* a snapshot does not need what it was made of */
    check(at, &m, digest[2]);
    assert_string_equal(digest[0], digest[2]);
    OK(ft_snapshot_make(dir, at, &err)); /* made before: stays */
}

static void a_folder_is_verified_and_exported(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh("folder");
    struct ft_set *set = opened(dir);
    struct model m = {0};
    struct ft_folder_info info;
    struct ft_dataset *ds = NULL;
    char out[600];
    size_t count = 0;
    unsigned ids[16];
    for (unsigned n = 0; n < 10; n++) {
        for (unsigned i = 0; i < 16; i++) {
            ids[i] = (n * 9 + i) % IDS;
        }
        put(set, &m, ids, 16);
    }
    drop(set, &m, ids, 3);
    OK(ft_folder_verify(dir, &info, &err)); /* while it is written */
    assert_int_equal(info.documents, m.live);
    assert_int_equal(info.classes, LABELS);
    assert_true(info.bytes > 0 && info.journals >= 1);
    (void)snprintf(out, sizeof out, "%s/folder.bin", root);
    OK(ft_folder_export(dir, out, &count, &err));
    assert_int_equal(count, m.live);
    OK(ft_dataset_open(out, true, &ds, &err)); /* what the command line reads */
    assert_int_equal(ft_dataset_count(ds), m.live);
    for (size_t i = 0; i < m.live; i++) {
        char want[64];
        unsigned id = 0;
        assert_int_equal(sscanf((const char *)ft_dataset_id(ds, i).data, "id-%u", &id), 1);
        (void)snprintf(want, sizeof want, "text %u of %u", m.version[id % IDS], id);
        assert_true(ft_bytes_is(ft_dataset_doc(ds, i)->content.bytes, want));
    }
    ft_dataset_free(ds);
    OK(ft_set_compact(set, &err));
    OK(ft_folder_look(dir, &info, &err));
    assert_int_equal(info.documents, m.live);
    assert_int_equal(info.replaced, 0);
    assert_int_equal(info.shards, 1);
    ft_set_close(set);
    assert_int_equal(ft_folder_look(root, &info, &err), FT_NOT_FOUND);
}

/* ---- damage ---- */

static struct ft_buf shard_of(const char *dir, char path[600])
{
    struct ft_err err = {0};
    struct ft_manifest m;
    struct ft_buf file;
    char name[FT_STORE_NAME];
    OK(ft_manifest_read(dir, &m, &err));
    assert_int_equal(m.n_shards, 1);
    ft_shard_name(m.shards[0].number, name);
    ft_manifest_release(&m);
    (void)snprintf(path, 600, "%s/%s", dir, name);
    OK(ft_file_read(path, 1 << 24, &file, &err));
    return file;
}

static void no_flipped_bit_goes_unseen(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh("damaged");
    struct ft_set *set = opened(dir);
    struct model m = {0};
    char path[600];
    unsigned ids[16];
    for (unsigned i = 0; i < 16; i++) {
        ids[i] = i;
    }
    put(set, &m, ids, 16);
    OK(ft_set_compact(set, &err));
    ft_set_close(set);
    struct ft_buf file = shard_of(dir, path);
    for (size_t bit = 0; bit < 8 * file.size; bit += 3) {
        struct ft_err why = {0};
        struct ft_dataset *ds = NULL;
        file.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, (long)(bit / 8), SEEK_SET), 0);
        assert_int_equal(fwrite(file.data + bit / 8, 1, 1, f), 1);
        assert_int_equal(fclose(f), 0);
        enum ft_status st = ft_dataset_open_set(dir, &ds, &why);
        char digest[FT_SHA256_HEX];
        if (st == FT_OK) { /* then it is in a Document, and reading that tells */
            st = ft_dataset_digest(ds, digest, &why);
        }
        ft_dataset_free(ds);
        size_t at = bit / 8;
        bool padding = st == FT_OK;
        if (padding) { /* zeros between sections mean nothing */
            assert_true(at >= FT_SHARD_HEAD && file.data[at] == (1U << bit % 8));
        } else {
            assert_true(st == FT_CORRUPT || st == FT_UNSUPPORTED);
            assert_non_null(strstr(why.text, "shard-"));
        }
        file.data[at] ^= (uint8_t)(1U << bit % 8);
        f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(file.data + at, 1, 1, f), 1);
        assert_int_equal(fclose(f), 0);
    }
    ft_buf_release(&file);
    char digest[FT_SHA256_HEX];
    check(dir, &m, digest);
    assert_int_equal(unlink(path), 0);
    struct ft_dataset *ds = NULL;
    assert_int_equal(ft_dataset_open_set(dir, &ds, &err), FT_CORRUPT);
    assert_non_null(strstr(err.text, "missing"));
}

/* ---- a disk that refuses ---- */

static void a_full_disk_loses_nothing_acknowledged(void **state)
{
    (void)state;
    const char *dir = fresh("full");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* a limit on the size of files stands for a disk that is full */
        struct ft_err err = {0};
        struct ft_set *set = opened(dir);
        struct ft_set_result result;
        struct model m = {0};
        struct rlimit limit = {1500, 100000};
        char digest[FT_SHA256_HEX];
        (void)signal(SIGXFSZ, SIG_IGN);
        unsigned refused = 0, id = 0;
        struct ft_document doc = {.has_label = true, .label = ft_bytes_of_text("x")};
        char text[4096];
        memset(text, 'x', sizeof text);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
            _exit(2);
        }
        for (unsigned i = 0; i < 40; i++) {
            put(set, &m, &id, 1);
            id = i % 8;
            doc.id = ft_bytes_of_text("large");
            doc.content =
                (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of(text, sizeof text)};
            refused += ft_set_append(set, &doc, 1, &result, &err) == FT_IO ? 1 : 0;
            if (result.stored != 0 || strstr(err.text, "File too large") == NULL || i == 8) {
                break;
            }
        }
        check(dir, &m, digest);
        limit.rlim_cur = 100000; /* there is room again: the same set goes on */
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        unsigned ids[16];
        for (unsigned n = 0; n < 40; n++) {
            for (unsigned i = 0; i < 16; i++) {
                ids[i] = (n * 16 + i) % IDS;
            }
            put(set, &m, ids, 16);
        }
        check(dir, &m, digest);
        ft_set_close(set);
        set = opened(dir);
        _exit(refused == 9 && ft_set_stats(set).ids == m.live ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void what_a_crash_left_is_swept(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh("left");
    struct model m = {0};
    struct ft_set *set = opened(dir);
    char path[600];
    char digest[FT_SHA256_HEX];
    unsigned ids[2] = {1, 2};
    put(set, &m, ids, 2);
    ft_set_close(set);
    static const char *const names[] = {"shard-000077.fts", "shard-000078.fts.tmp", "journal-000079",
                                        ".ft-1-2.tmp"};
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        OK(ft_file_write(path, ft_bytes_of_text("half"), &err));
    }
    check(dir, &m, digest);
    ft_set_close(opened(dir));
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(ft_path_kind(path), FT_PATH_NONE);
    }
    check(dir, &m, digest);
}

/* Ids of the first journal are looked up while a later one is opened. */
static void several_journals_are_opened(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh("several");
    struct model m = {0};
    struct ft_set *set = opened(dir);
    char path[3][600];
    char digest[FT_SHA256_HEX];
    unsigned ids[2] = {1, 2};
    struct ft_manifest manifest;
    struct ft_buf file;
    put(set, &m, ids, 2);
    ft_set_close(set);
    (void)snprintf(path[0], sizeof path[0], "%s/journal", dir);
    (void)snprintf(path[1], sizeof path[1], "%s/journal-000001", dir);
    OK(ft_file_read(path[0], 1 << 20, &file, &err));
    OK(ft_file_write(path[1], ft_buf_bytes(&file), &err)); /* the same Documents again */
    (void)snprintf(path[2], sizeof path[2], "%s/journal-000002", dir);
    OK(ft_file_write(path[2], ft_buf_bytes(&file), &err));
    ft_buf_release(&file);
    OK(ft_manifest_read(dir, &manifest, &err));
    manifest.next = 3;
    for (uint64_t n = 1; n < 3; n++) {
        const struct ft_manifest_file next = {.number = n};
        OK(ft_manifest_add(&manifest.journals, &manifest.n_journals, next, &err));
    }
    OK(ft_manifest_write(dir, &manifest, &err));
    ft_manifest_release(&manifest);
    set = opened(dir);
    assert_int_equal(ft_set_stats(set).ids, 2);
    wait_idle(set);
    ft_set_close(set);
    check(dir, &m, digest);
}

static void out_of_memory_leaves_it_whole(void **state)
{
    (void)state;
    struct ft_err err = {0};
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        const char *dir = fresh("memory");
        struct model m = {0};
        struct ft_set *set = opened(dir);
        char digest[FT_SHA256_HEX];
        unsigned ids[16];
        for (unsigned i = 0; i < 16; i++) {
            ids[i] = i;
        }
        put(set, &m, ids, 16);
        OK(ft_set_compact(set, &err));
        put(set, &m, ids, 8);
        drop(set, &m, ids + 8, 2);
        ft_alloc_fail_at(n);
        enum ft_status st = ft_set_compact(set, &err);
        failed = st != FT_OK;
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_alloc_fail_at(0);
        if (st != FT_OK) {
            ft_err_clear(&err);
        }
        check(dir, &m, digest);
        OK(ft_set_compact(set, &err));
        check(dir, &m, digest);
        assert_int_equal(ft_set_stats(set).ids, m.live);
        ft_set_close(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_history_reads_as_the_model_says),
        cmocka_unit_test(all_deleted_is_an_empty_dataset),
        cmocka_unit_test(a_snapshot_stays_while_others_push),
        cmocka_unit_test(a_folder_is_verified_and_exported),
        cmocka_unit_test(no_flipped_bit_goes_unseen),
        cmocka_unit_test(a_full_disk_loses_nothing_acknowledged),
        cmocka_unit_test(what_a_crash_left_is_swept),
        cmocka_unit_test(several_journals_are_opened),
        cmocka_unit_test(out_of_memory_leaves_it_whole),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
