/* A dataset of the service: atomic, durable, once; and what opening makes of every kind of damage. */
/* links: ft_store ft_wire ft_codec ft_base */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/base/rand.h"
#include "executor/base/thread.h"
#include "executor/store/dataset.h"
#include "executor/store/set.h"
#include "executor/store/journal_format.h"
#include "executor/wire/docarray_v1.h"

/* The system's, as NFS has it: who locks has the file open for writing. */
int flock(int fd, int operation)
{
    if ((operation & LOCK_EX) != 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

static char *root; /* of this program's files, fresh */

static int set_up(void **state)
{
    struct ft_err err = {0};
    (void)state;
    return ft_dir_temp("test-journal", &root, &err) == FT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct ft_err err = {0};
    (void)state;
    enum ft_status st = ft_path_remove(root, &err);
    ft_free(root);
    return st == FT_OK ? 0 : -1;
}

/* A fresh dataset folder's path, valid until the next call but three. */
static const char *fresh(void)
{
    static char paths[4][512];
    static int next;
    struct ft_err err = {0};
    char *path = paths[next % 4];
    (void)snprintf(path, 512, "%s/dataset-%d", root, next % 4);
    next++;
    assert_int_equal(ft_path_remove(path, &err), FT_OK);
    return path;
}

static struct ft_set *opened(const char *dir)
{
    struct ft_err err = {0};
    struct ft_set *j = NULL;
    if (ft_set_open(dir, 0, &j, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    return j;
}

/* Document number n: bytes as a client sends them, kept in `buf`. */
static struct ft_document document(int n, const char *text, struct ft_buf *buf, struct ft_arena *arena)
{
    struct ft_err err = {0};
    struct ft_document doc = {.has_label = true, .content.kind = FT_CONTENT_TEXT};
    struct ft_document scanned;
    char id[32];
    char label[32];
    (void)snprintf(id, sizeof id, "id-%d", n);
    (void)snprintf(label, sizeof label, "class-%d", n % 3);
    doc.id = ft_bytes_of_text(id);
    doc.label = ft_bytes_of_text(label);
    doc.content.bytes = ft_bytes_of_text(text);
    assert_int_equal(ft_docarray_v1_write(&doc, buf, &err), FT_OK);
    assert_int_equal(ft_docarray_v1_scan(ft_buf_bytes(buf), arena, &scanned, &err), FT_OK);
    return scanned;
}

/* Append the Documents first .. first + count - 1 in one call. */
static struct ft_set_result append(struct ft_set *j, int first, int count, const char *text)
{
    struct ft_err err = {0};
    struct ft_buf bufs[16] = {0};
    struct ft_document docs[16];
    struct ft_arena arena = {0};
    struct ft_set_result result;
    assert_true(count <= 16);
    for (int i = 0; i < count; i++) {
        docs[i] = document(first + i, text, &bufs[i], &arena);
    }
    if (ft_set_append(j, docs, (size_t)count, &result, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < count; i++) {
        ft_buf_release(&bufs[i]);
    }
    ft_arena_release(&arena);
    return result;
}

static void journal_path(const char *dir, char out[600])
{
    (void)snprintf(out, 600, "%s/journal", dir);
}

static struct ft_buf bytes_of(const char *dir)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    char path[600];
    journal_path(dir, path);
    assert_int_equal(ft_file_read(path, 1 << 24, &buf, &err), FT_OK);
    return buf;
}

/* A dataset folder whose journal is `bytes`: the same folder every time, written without waiting for the
 * disk. */
static const char *folder_of(const struct ft_buf *bytes, size_t size)
{
    static char dir[512];
    char path[600];
    if (dir[0] == '\0') {
        (void)snprintf(dir, sizeof dir, "%s/damaged", root);
        ft_set_close(opened(dir)); /* the manifest */
    }
    journal_path(dir, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes->data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    return dir;
}

static size_t documents_in(const char *dir)
{
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    if (ft_dataset_open_set(dir, &ds, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    size_t n = ft_dataset_count(ds);
    ft_dataset_free(ds);
    return n;
}

/* ---- what it keeps ---- */

static void appended_documents_are_read_back(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    struct ft_err err = {0};
    struct ft_set_result r = append(j, 0, 5, "first");
    assert_int_equal(r.stored, 5);
    assert_int_equal(r.duplicates, 0);
    assert_int_equal(documents_in(dir), 5); /* while it is open */
    (void)append(j, 5, 3, "second");
    ft_set_close(j);
    struct ft_dataset *ds = NULL;
    assert_int_equal(ft_dataset_open_set(dir, &ds, &err), FT_OK);
    assert_int_equal(ft_dataset_count(ds), 8);
    assert_int_equal(ft_dataset_classes(ds), 3);
    assert_string_equal(ft_dataset_class_name(ds, 2), "class-2");
    /* class-0: 0 3 6, class-1: 1 4 7, class-2: 2 5 */
    struct ft_arena arena = {0};
    struct ft_document doc;
    assert_true(ft_bytes_is(ft_dataset_id(ds, 5), "id-7"));
    assert_int_equal(ft_dataset_read(ds, 5, &arena, &doc, &err), FT_OK);
    assert_true(ft_bytes_is(doc.content.bytes, "second"));
    assert_true(doc.raw.size > 0);
    assert_int_equal(ft_dataset_class_of(ds, 5), 1);
    assert_int_equal(ft_dataset_class_of(ds, 7), 2);
    assert_int_equal(ft_dataset_class_count(ds, 0), 3);
    assert_int_equal(ft_dataset_class_item(ds, 2, 1), 7);
    ft_arena_release(&arena);
    char hex[FT_SHA256_HEX];
    assert_int_equal(ft_dataset_digest(ds, hex, &err), FT_OK);
    ft_dataset_free(ds);
    j = opened(dir);
    assert_int_equal(ft_set_stats(j).ids, 8);
    assert_int_equal(ft_set_stats(j).cut, 0);
    ft_set_close(j);
}

static void equal_documents_are_stored_once(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    (void)append(j, 0, 4, "x");
    uint64_t bytes = ft_set_stats(j).bytes;
    struct ft_set_result r = append(j, 0, 4, "x"); /* a retry */
    assert_int_equal(r.stored, 0);
    assert_int_equal(r.duplicates, 4);
    assert_int_equal(ft_set_stats(j).bytes, bytes);
    r = append(j, 2, 4, "x"); /* overlapping */
    assert_int_equal(r.stored, 2);
    assert_int_equal(r.duplicates, 2);
    ft_set_close(j);
    j = opened(dir); /* what it knows survives */
    r = append(j, 0, 6, "x");
    assert_int_equal(r.duplicates, 6);
    r = append(j, 1, 1, "changed"); /* the same id with other bytes replaces */
    assert_int_equal(r.stored, 1);
    r = append(j, 1, 1, "changed");
    assert_int_equal(r.duplicates, 1);
    assert_int_equal(ft_set_stats(j).ids, 6);
    ft_set_close(j);
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    assert_int_equal(ft_dataset_open_set(dir, &ds, &err), FT_OK);
    assert_int_equal(ft_dataset_count(ds), 6);
    struct ft_buf own = {0};
    struct ft_content content;
    assert_true(ft_bytes_is(ft_dataset_id(ds, 3), "id-1")); /* of class-1: 4, then 1, which came again */
    assert_int_equal(ft_dataset_content(ds, 3, &own, &content, &err), FT_OK);
    assert_true(ft_bytes_is(content.bytes, "changed"));
    ft_dataset_free(ds);
}

static void twins_in_one_call_are_stored_once(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    struct ft_arena arena = {0};
    struct ft_document docs[2];
    struct ft_set_result r;
    struct ft_set *j = opened(fresh());
    docs[0] = document(1, "x", &buf, &arena);
    docs[1] = docs[0];
    assert_int_equal(ft_set_append(j, docs, 2, &r, &err), FT_OK);
    assert_int_equal(r.stored, 1);
    assert_int_equal(r.duplicates, 1);
    assert_int_equal(ft_set_append(j, docs, 0, &r, &err), FT_OK);
    assert_int_equal(r.stored, 0);
    ft_set_close(j);
    ft_buf_release(&buf);
    ft_arena_release(&arena);
}

static void documents_without_id_get_one_from_their_content(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    struct ft_set_result r;
    struct ft_document docs[3] = {0};
    const float values[2] = {1.0F, 2.0F};
    for (int i = 0; i < 3; i++) {
        docs[i].has_label = true;
        docs[i].label = ft_bytes_of_text(i == 2 ? "b" : "a");
        docs[i].content = (struct ft_content){.kind = FT_CONTENT_TENSOR,
                                              .bytes = ft_bytes_of(values, sizeof values),
                                              .dtype = "<f4",
                                              .rank = i == 1 ? 2 : 1,
                                              .dims = {2, 1}};
    }
    assert_int_equal(ft_set_append(j, docs, 3, &r, &err),
                     FT_OK); /* another label or shape is another Document */
    assert_int_equal(r.stored, 3);
    assert_int_equal(ft_set_append(j, docs, 3, &r, &err), FT_OK);
    assert_int_equal(r.duplicates, 3);
    ft_set_close(j);
    struct ft_dataset *ds = NULL;
    assert_int_equal(ft_dataset_open_set(dir, &ds, &err), FT_OK);
    struct ft_buf own = {0};
    struct ft_content content;
    assert_int_equal(ft_dataset_id(ds, 0).size, 64);
    assert_int_equal(ft_dataset_content(ds, 1, &own, &content, &err), FT_OK);
    assert_int_equal(content.rank, 2);
    ft_dataset_free(ds);
}

static void bad_documents_are_named_and_nothing_is_stored(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    struct ft_arena arena = {0};
    struct ft_document docs[2];
    struct ft_set_result r;
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    docs[0] = document(1, "x", &buf, &arena);
    docs[1] = docs[0];
    docs[1].has_label = false;
    assert_int_equal(ft_set_append(j, docs, 2, &r, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "Document 1 (id \"id-1\") has no label"));
    docs[1] = docs[0];
    docs[1].content = (struct ft_content){0};
    assert_int_equal(ft_set_append(j, docs, 2, &r, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "no content"));
    assert_int_equal(r.stored, 0);
    assert_int_equal(ft_set_stats(j).ids, 0);
    ft_set_close(j);
    assert_int_equal(documents_in(dir), 0);
    ft_buf_release(&buf);
    ft_arena_release(&arena);
}

static void only_one_writer_at_a_time(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    struct ft_set *second = NULL;
    assert_int_equal(ft_set_open(dir, 0, &second, &err), FT_UNAVAILABLE);
    assert_null(second);
    ft_set_close(j);
    ft_set_close(opened(dir));
    struct ft_dataset *ds = NULL;
    assert_int_equal(ft_dataset_open_set(root, &ds, &err), FT_NOT_FOUND);
}

static void other_manifests_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum ft_status want;
    } cases[] = {
        {"{\"format\": \"finetuner-dataset\", \"version\": 3, \"documents\": \"docarray-v1\"}",
         FT_UNSUPPORTED},
        {"{\"format\": \"finetuner-dataset\", \"version\": 2, \"documents\": \"docarray-v1\"}", FT_CORRUPT},
        {"{\"format\": \"x\", \"version\": 1, \"documents\": \"docarray-v1\"}", FT_UNSUPPORTED},
        {"[]", FT_CORRUPT},
        {"", FT_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_err err = {0};
        struct ft_set *j = NULL;
        char path[600];
        const char *dir = fresh();
        ft_set_close(opened(dir));
        (void)snprintf(path, sizeof path, "%s/manifest", dir);
        assert_int_equal(ft_file_write(path, ft_bytes_of_text(cases[i].text), &err), FT_OK);
        assert_int_equal(ft_set_open(dir, 0, &j, &err), cases[i].want);
    }
}

/* ---- crashes ---- */

/* The bytes before and after a last call of `count` Documents; `torn` gets the header of before, since a
 * crash that loses a call has not acknowledged it. */
static void last_call(int count, struct ft_buf *before, struct ft_buf *torn)
{
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    (void)append(j, 0, 3, "kept");
    (void)append(j, 3, 2, "kept too");
    *before = bytes_of(dir);
    (void)append(j, 5, count, "torn");
    *torn = bytes_of(dir);
    ft_set_close(j);
    memcpy(torn->data, before->data, FT_JOURNAL_HEAD);
}

static void assert_recovers(const char *dir, size_t documents, uint64_t cut)
{
    assert_int_equal(documents_in(dir), documents); /* a reader needs no recovery */
    struct ft_set *j = opened(dir);
    assert_int_equal(ft_set_stats(j).ids, documents);
    assert_int_equal(ft_set_stats(j).cut, cut);
    struct ft_set_result r = append(j, 4, 2, "after");
    assert_int_equal(r.stored, 2);
    ft_set_close(j);
    /* Numbers 0 .. documents - 1 were there. */
    assert_int_equal(documents_in(dir), documents + (documents <= 4 ? 1 : 0) + (documents <= 5 ? 1 : 0));
    j = opened(dir);
    assert_int_equal(ft_set_stats(j).cut, 0);
    ft_set_close(j);
}

static void a_torn_tail_is_cut_at_every_byte(void **state)
{
    (void)state;
    struct ft_buf before;
    struct ft_buf torn;
    last_call(2, &before, &torn);
    for (size_t n = before.size; n < torn.size; n++) {
        assert_recovers(folder_of(&torn, n), 5, n - before.size);
    }
    /* Whole, but its acknowledgement did not reach the disk: it is kept. */
    assert_recovers(folder_of(&torn, torn.size), 7, 0);
    ft_buf_release(&before);
    ft_buf_release(&torn);
}

/* A disk may write pages in any order, so any part of what was not yet synced may be missing. */
static void unsynced_writes_dropped_in_any_order(void **state)
{
    (void)state;
    struct ft_buf before;
    struct ft_buf torn;
    last_call(16, &before, &torn);
    const size_t page = 64;
    struct ft_rand rand = ft_rand_at(20261123, FT_RAND_TEST, 1);
    for (uint64_t trial = 0; trial < 60; trial++) {
        struct ft_buf damaged = {0};
        struct ft_err err = {0};
        size_t dropped = 0;
        assert_int_equal(ft_buf_append(&damaged, torn.data, torn.size, &err), FT_OK);
        for (size_t at = before.size; at < torn.size; at += page) {
            if (ft_rand_u32(rand, trial * 1000 + at / page) % 3 == 0) {
                size_t size = torn.size - at < page ? torn.size - at : page;
                memset(damaged.data + at, 0, size);
                dropped++;
            }
        }
        if (dropped > 0) {
            assert_recovers(folder_of(&damaged, damaged.size), 5, torn.size - before.size);
        }
        ft_buf_release(&damaged);
    }
    ft_buf_release(&before);
    ft_buf_release(&torn);
}

/* Two calls behind the header's acknowledgement: the second proves that the first was durable. */
static void damage_before_a_later_group_is_corruption(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    (void)append(j, 0, 2, "kept");
    struct ft_buf before = bytes_of(dir);
    (void)append(j, 2, 2, "acknowledged");
    struct ft_buf middle = bytes_of(dir);
    (void)append(j, 4, 2, "acknowledged too");
    struct ft_buf after = bytes_of(dir);
    ft_set_close(j);
    memcpy(after.data, before.data, FT_JOURNAL_HEAD);
    for (size_t at = before.size; at < middle.size; at += 5) {
        struct ft_err err = {0};
        char offset[64];
        after.data[at] ^= 0x10;
        const char *damaged = folder_of(&after, after.size);
        after.data[at] ^= 0x10;
        assert_int_equal(ft_set_open(damaged, 0, &j, &err), FT_CORRUPT);
        (void)snprintf(offset, sizeof offset, "(offset %zu)", before.size);
        assert_non_null(strstr(err.text, offset));
    }
    ft_buf_release(&before);
    ft_buf_release(&middle);
    ft_buf_release(&after);
}

static void no_flipped_bit_loses_an_acknowledged_document(void **state)
{
    (void)state;
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    (void)append(j, 0, 3, "a");
    (void)append(j, 3, 2, "b");
    ft_set_close(j);
    struct ft_buf file = bytes_of(dir);
    size_t refused = 0;
    for (size_t bit = 0; bit < 8 * file.size; bit += 7) {
        struct ft_err err = {0};
        struct ft_dataset *ds = NULL;
        file.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        const char *damaged = folder_of(&file, file.size);
        file.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        enum ft_status read = ft_dataset_open_set(damaged, &ds, &err);
        size_t count = read == FT_OK ? ft_dataset_count(ds) : 0;
        ft_dataset_free(ds);
        enum ft_status st = ft_set_open(damaged, 0, &j, &err);
        if (st == FT_OK) {
            assert_int_equal(ft_set_stats(j).ids, 5);
            assert_int_equal(read, FT_OK);
            assert_int_equal(count, 5);
            ft_set_close(j);
        } else {
            assert_int_equal(st, FT_CORRUPT);
            assert_int_equal(read, FT_CORRUPT);
            refused++;
        }
    }
    assert_true(refused > 8 * (file.size - FT_JOURNAL_HEAD) / 7 - 8);
    /* Nor does a cut below what is acknowledged. */
    for (size_t n = 0; n < file.size; n += 3) {
        struct ft_err err = {0};
        assert_int_equal(ft_set_open(folder_of(&file, n), 0, &j, &err), FT_CORRUPT);
        assert_non_null(strstr(err.text, "offset"));
    }
    ft_buf_release(&file);
}

/* A Document may hold the bytes of a journal: they must not be taken for groups of this one. */
static void a_journal_inside_a_document_is_no_group(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *other = fresh();
    struct ft_set *j = opened(other);
    (void)append(j, 0, 3, "inner");
    (void)append(j, 3, 3, "inner");
    ft_set_close(j);
    struct ft_buf inner = bytes_of(other);
    const char *dir = fresh();
    j = opened(dir);
    (void)append(j, 0, 3, "kept");
    struct ft_buf before = bytes_of(dir);
    struct ft_document doc = {
        .id = ft_bytes_of_text("blob"), .has_label = true, .label = ft_bytes_of_text("x")};
    struct ft_set_result r;
    doc.content = (struct ft_content){.kind = FT_CONTENT_BLOB, .bytes = ft_buf_bytes(&inner)};
    assert_int_equal(ft_set_append(j, &doc, 1, &r, &err), FT_OK);
    struct ft_buf torn = bytes_of(dir);
    ft_set_close(j);
    memcpy(torn.data, before.data, FT_JOURNAL_HEAD);
    torn.data[before.size] ^= 1;
    assert_recovers(folder_of(&torn, torn.size), 3, torn.size - before.size);
    ft_buf_release(&inner);
    ft_buf_release(&before);
    ft_buf_release(&torn);
}

/* A child appends until it is killed; what it was told is stored must be there. */
static void killed_writers_lose_nothing_acknowledged(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        const char *dir = fresh();
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct ft_set *j = opened(dir);
            for (int i = 0;; i += 3) {
                (void)append(j, i, 3, "x");
                int told = i + 3;
                if (write(ends[1], &told, sizeof told) != (ssize_t)sizeof told) {
                    _exit(1);
                }
            }
        }
        (void)close(ends[1]);
        int told = 0;
        for (int i = 0; i < 20 + 7 * round; i++) {
            assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(ends[0], &told, sizeof told) == (ssize_t)sizeof told) {
        }
        (void)close(ends[0]);
        struct ft_set *j = opened(dir);
        size_t ids = (size_t)ft_set_stats(j).ids;
        assert_true(ids >= (size_t)told && ids % 3 == 0); /* whole calls only */
        ft_set_close(j);
        assert_int_equal(documents_in(dir), ids);
    }
}

/* ---- threads ---- */

struct writer {
    struct ft_set *journal;
    int first;
    size_t stored;
};

static void write_many(void *arg)
{
    struct writer *w = arg;
    for (int i = 0; i < 40; i++) {
        w->stored += append(w->journal, w->first + 2 * i, 2, "x").stored;
    }
}

static void callers_share_an_fsync(void **state)
{
    (void)state;
    enum { WRITERS = 8 };
    const char *dir = fresh();
    struct ft_set *j = opened(dir);
    struct ft_err err = {0};
    struct writer writers[WRITERS];
    struct ft_thread *threads[WRITERS];
    size_t stored = 0;
    for (int i = 0; i < WRITERS; i++) {
        /* Two threads each send the same Documents. */
        writers[i] = (struct writer){.journal = j, .first = i / 2 * 1000};
        assert_int_equal(ft_thread_start("writer", write_many, &writers[i], &threads[i], &err), FT_OK);
    }
    for (int i = 0; i < WRITERS; i++) {
        ft_thread_join(threads[i]);
        stored += writers[i].stored;
    }
    struct ft_set_stats stats = ft_set_stats(j);
    assert_int_equal(stats.ids, WRITERS / 2 * 80);
    assert_int_equal(stored, WRITERS / 2 * 80);
    assert_true(stats.syncs <= stats.groups);
    print_message("%llu groups, %llu fsyncs\n", (unsigned long long)stats.groups,
                  (unsigned long long)stats.syncs);
    ft_set_close(j);
    assert_int_equal(documents_in(dir), WRITERS / 2 * 80);
}

static void out_of_memory_leaks_and_stores_nothing(void **state)
{
    (void)state;
    struct ft_arena arena = {0};
    struct ft_buf bufs[3] = {0};
    struct ft_document docs[3];
    for (int i = 0; i < 3; i++) {
        docs[i] = document(i, "x", &bufs[i], &arena);
    }
    docs[1].raw = (struct ft_bytes){0}; /* to be written */
    docs[2].id = (struct ft_bytes){0};  /* to be derived */
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct ft_err err = {0};
        struct ft_set *j = NULL;
        struct ft_set_result r = {0};
        const char *dir = fresh();
        size_t before = ft_alloc_stats().live_blocks;
        ft_alloc_fail_at(n);
        enum ft_status st = ft_set_open(dir, 0, &j, &err);
        enum ft_status opened_st = st;
        if (st == FT_OK) {
            st = ft_set_append(j, docs, 3, &r, &err);
        }
        ft_alloc_fail_at(0);
        failed = st == FT_NOMEM;
        assert_true(st == FT_OK || st == FT_NOMEM);
        if (opened_st == FT_OK) {
            assert_int_equal(ft_set_stats(j).ids, st == FT_OK ? 3 : 0);
            assert_int_equal(ft_set_append(j, docs, 3, &r, &err), FT_OK); /* it goes on */
            assert_int_equal(r.stored, st == FT_OK ? 0 : 3);
        }
        ft_set_close(j);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    for (int i = 0; i < 3; i++) {
        ft_buf_release(&bufs[i]);
    }
    ft_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_documents_are_read_back),
        cmocka_unit_test(equal_documents_are_stored_once),
        cmocka_unit_test(twins_in_one_call_are_stored_once),
        cmocka_unit_test(documents_without_id_get_one_from_their_content),
        cmocka_unit_test(bad_documents_are_named_and_nothing_is_stored),
        cmocka_unit_test(only_one_writer_at_a_time),
        cmocka_unit_test(other_manifests_are_refused),
        cmocka_unit_test(a_torn_tail_is_cut_at_every_byte),
        cmocka_unit_test(unsynced_writes_dropped_in_any_order),
        cmocka_unit_test(damage_before_a_later_group_is_corruption),
        cmocka_unit_test(no_flipped_bit_loses_an_acknowledged_document),
        cmocka_unit_test(a_journal_inside_a_document_is_no_group),
        cmocka_unit_test(killed_writers_lose_nothing_acknowledged),
        cmocka_unit_test(callers_share_an_fsync),
        cmocka_unit_test(out_of_memory_leaks_and_stores_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
