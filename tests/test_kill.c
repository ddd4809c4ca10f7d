/*
 * kill -9 of a service that eight clients stream Documents to: after each, every acknowledged Document is
 * there, once, as it was sent, and shards verify. The same of the disk that a power cut would have left: with
 * all writes lost that were not synced, and with a random part of them lost.
 *
 * FT_KILLS sets how often (20 when unset; 200 shows what issue 6 asks for).
 */
/* links: ft_rpc ft_store ft_wire ft_codec ft_base */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/rand.h"
#include "executor/base/thread.h"
#include "executor/rpc/client.h"
#include "executor/rpc/stream.h"
#include "executor/store/dataset.h"
#include "executor/store/manifest.h"
#include "executor/store/segment.h"
#include "executor/store/set.h"
#include "tools/benches/push.h"

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != FT_OK) {                                                                               \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, err.text);                                             \
        }                                                                                                    \
    } while (0)

enum { CLIENTS = 8, BATCH = 16, AGAIN = 4, IDS = 40000, FILLER = 300, PATH = 1024, FOLDER_ROUNDS = 10 };

static struct ft_rand r;
static uint64_t drawn;
static char root[PATH], workspace[PATH], data[PATH], shadow[PATH];
static int port;

static uint64_t below(uint64_t n)
{
    return ft_rand_below(r, drawn++, n);
}

/* ---- the service ---- */

static int free_port(void)
{
    static int next;
    if (next == 0) {
        next = 20000 + (int)(getpid() % 20000);
    }
    return next++;
}

static void built(char path[PATH], const char *name)
{
    char self[PATH];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    (void)snprintf(path, PATH, "%.900s/%s", self, name);
}

static pid_t start(void)
{
    char program[PATH], library[PATH], number[16];
    struct ft_err err = {0};
    char target[64];
    port = free_port();
    built(program, "../finetuner");
    built(library, "libft_unsynced.so");
    (void)snprintf(number, sizeof number, "%d", port);
    (void)snprintf(target, sizeof target, "127.0.0.1:%d", port);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char log[PATH];
        (void)snprintf(log, sizeof log, "%.900s/log", root);
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        (void)dup2(fd, 2);
        (void)setenv("LD_PRELOAD", library, 1);
        (void)setenv("FT_SHADOW_OF", workspace, 1);
        (void)setenv("FT_SHADOW", shadow, 1);
        (void)execl(program, "finetuner", "serve", "--host", "127.0.0.1", "--port", number, "--workspace",
                    workspace, "--shard-kib", "48", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 200; i++) {
        if (ft_rpc_ping(target, 2000, &err) == FT_OK) {
            return child;
        }
        if (waitpid(child, NULL, WNOHANG) == child) {
            break;
        }
        (void)usleep(10000);
    }
    fail_msg("the service does not start: see %s/log: %s", root, err.text);
    return -1;
}

/* ---- clients ---- */

struct client {
    unsigned number;
    uint32_t next;          /* first id never sent */
    uint32_t *acked, *sent; /* (IDS) versions; 0: none */
    size_t acknowledged;    /* Documents, over all rounds */
    struct ft_err err;
    uint64_t drawn;
};
static struct client clients[CLIENTS];

static void texts_of(unsigned client, uint32_t id, uint32_t version, char name[32], char label[32],
                     char text[FILLER + 64])
{
    (void)snprintf(name, 32, "%u-%u", client, id);
    (void)snprintf(label, 32, "class-%u", (id + version) % 29);
    int n = snprintf(text, 64, "client %u document %u version %u ", client, id, version);
    size_t size = (size_t)n + id % FILLER;
    uint64_t x = (uint64_t)client << 48 ^ (uint64_t)id << 20 ^ version;
    for (size_t i = (size_t)n; i < size; i++) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        text[i] = (char)('a' + (x >> 33) % 26);
    }
    text[size] = '\0';
}

/* New Documents, and some again with other bytes and another label. */
static void choose(struct client *c, uint32_t ids[BATCH])
{
    for (size_t i = 0; i < BATCH; i++) {
        bool again = i < AGAIN && c->next > BATCH;
        struct ft_rand mine = ft_rand_at(c->number, FT_RAND_TEST, 7);
        ids[i] = again ? (uint32_t)ft_rand_below(mine, c->drawn++, c->next / AGAIN) * AGAIN + (uint32_t)i
                       : c->next + (uint32_t)i;
        c->sent[ids[i]]++;
    }
    c->next += BATCH;
}

static enum ft_status push_some(struct client *c, struct ft_rpc_stream *stream, struct ft_buf *request,
                                struct ft_buf *answer, struct ft_err *err)
{
    static __thread char names[BATCH][32], labels[BATCH][32], bodies[BATCH][FILLER + 64];
    struct ft_document docs[BATCH] = {0};
    uint32_t ids[BATCH];
    size_t count = 0;
    choose(c, ids);
    for (size_t i = 0; i < BATCH; i++) {
        texts_of(c->number, ids[i], c->sent[ids[i]], names[i], labels[i], bodies[i]);
        docs[i] = (struct ft_document){
            .id = ft_bytes_of_text(names[i]), .has_label = true, .label = ft_bytes_of_text(labels[i])};
        docs[i].content = (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text(bodies[i])};
    }
    FT_RETURN_IF_FAILED(push_request("kill", docs, BATCH, request, err));
    FT_RETURN_IF_FAILED(ft_rpc_stream_exchange(stream, ft_buf_bytes(request), answer, err));
    FT_RETURN_IF_FAILED(push_acknowledged(ft_buf_bytes(answer), &count, err));
    if (count != BATCH) {
        return FT_FAIL(err, INTERNAL, "%zu of %d acknowledged", count, BATCH);
    }
    for (size_t i = 0; i < BATCH; i++) {
        c->acked[ids[i]] = c->sent[ids[i]];
    }
    c->acknowledged += BATCH;
    return FT_OK;
}

static void push_all(void *arg)
{
    struct client *c = arg;
    struct ft_rpc_stream *stream = NULL;
    struct ft_buf request = {0}, answer = {0};
    char target[64];
    (void)snprintf(target, sizeof target, "127.0.0.1:%d", port);
    c->err = (struct ft_err){0};
    enum ft_status st = ft_rpc_stream_open(target, push_method, &stream, &c->err);
    while (st == FT_OK && c->next + 2 * BATCH < IDS) {
        st = push_some(c, stream, &request, &answer, &c->err);
    }
    ft_rpc_stream_close(stream);
    ft_buf_release(&request);
    ft_buf_release(&answer);
}

static void forget_all(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].next = 0;
        memset(clients[i].acked, 0, IDS * sizeof(uint32_t));
        memset(clients[i].sent, 0, IDS * sizeof(uint32_t));
    }
}

/* ---- what must be there ---- */

static void check_document(const struct ft_dataset *ds, size_t i, uint32_t *found[CLIENTS], const char *which)
{
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_document doc;
    char id_text[32], name[32], label[32], text[FILLER + 64];
    unsigned client = 0, id = 0, version = 0, c2 = 0, id2 = 0;
    OK(ft_dataset_read(ds, i, &arena, &doc, &err));
    (void)snprintf(id_text, sizeof id_text, "%.*s", (int)doc.id.size, (const char *)doc.id.data);
    (void)snprintf(text, sizeof text, "%.*s", (int)doc.content.bytes.size,
                   (const char *)doc.content.bytes.data);
    assert_int_equal(sscanf(id_text, "%u-%u", &client, &id), 2);
    assert_int_equal(sscanf(text, "client %u document %u version %u", &c2, &id2, &version), 3);
    assert_true(client < CLIENTS && id < IDS && version > 0);
    texts_of(client, id, version, name, label, text);
    assert_string_equal(id_text, name);
    assert_true(ft_bytes_is(doc.content.bytes, text));
    assert_true(ft_bytes_is(doc.label, label));
    if (found[client][id] != 0) {
        fail_msg("%s: %s is there twice", which, id_text);
    }
    if (version < clients[client].acked[id] || version > clients[client].sent[id]) {
        fail_msg("%s: %s has version %u, acknowledged was %u, sent %u", which, id_text, version,
                 clients[client].acked[id], clients[client].sent[id]);
    }
    found[client][id] = version;
    ft_arena_release(&arena);
}

static void verify(const char *dir)
{
    struct ft_err err = {0};
    struct ft_manifest m;
    struct ft_segment *segment = NULL;
    OK(ft_manifest_read(dir, &m, &err));
    for (size_t i = 0; i < m.n_shards; i++) {
        OK(ft_segment_open_shard(dir, m.shards[i].number, &segment, &err));
        OK(ft_segment_verify(segment, m.salt, &err));
        ft_segment_free(segment);
    }
    ft_manifest_release(&m);
}

/* Opens as a service would, then reads everything. `learn`: what was found counts as acknowledged from now
 * on; the next service syncs it before it acknowledges anything. */
static size_t check(const char *dir, const char *which, bool learn)
{
    struct ft_err err = {0};
    struct ft_set *set = NULL;
    struct ft_dataset *ds = NULL;
    uint32_t *found[CLIENTS];
    size_t count = 0;
    if (!learn) { /* of the real folder the service itself does it */
        if (ft_set_open(dir, (uint64_t)1 << 40, &set, &err) != FT_OK) {
            fail_msg("%s: %s", which, err.text);
        }
        ft_set_close(set);
    }
    verify(dir);
    OK(ft_dataset_open_set(dir, &ds, &err));
    for (unsigned c = 0; c < CLIENTS; c++) {
        OK(ft_new(IDS, sizeof(uint32_t), &found[c], &err));
    }
    for (size_t i = 0; i < ft_dataset_count(ds); i++) {
        check_document(ds, i, found, which);
    }
    for (unsigned c = 0; c < CLIENTS; c++) {
        for (uint32_t id = 0; id < clients[c].next; id++) {
            if (clients[c].acked[id] > 0 && found[c][id] == 0) {
                fail_msg("%s: %u-%u was acknowledged and is not there", which, c, id);
            }
            count += clients[c].acked[id] > 0 ? 1 : 0;
            if (learn) {
                clients[c].acked[id] = found[c][id];
                clients[c].sent[id] = found[c][id];
            }
        }
        ft_free(found[c]);
    }
    ft_dataset_free(ds);
    return count;
}

/* Files on the disk say that a shard was being made. */
static bool was_working(void)
{
    struct ft_err err = {0};
    struct ft_manifest m;
    struct ft_dir_list list;
    OK(ft_manifest_read(data, &m, &err));
    OK(ft_dir_list(data, &list, &err));
    bool working = m.n_journals > 1;
    for (size_t i = 0; i < list.count; i++) {
        working = working || ft_manifest_is_left_over(&m, list.names[i]);
    }
    ft_dir_list_release(&list);
    ft_manifest_release(&m);
    return working;
}

/* ---- the disk after a power cut ---- */

struct entry {
    unsigned long long inode;
    char name[128];
};

static struct ft_buf read_or_empty(const char *path)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    if (ft_path_kind(path) == FT_PATH_FILE) {
        OK(ft_file_read(path, (size_t)1 << 30, &buf, &err));
    }
    return buf;
}

static size_t durable_entries(struct entry *entries, size_t max)
{
    struct stat s;
    char path[PATH];
    size_t n = 0;
    assert_int_equal(stat(data, &s), 0);
    (void)snprintf(path, sizeof path, "%.900s/d-%llu", shadow, (unsigned long long)s.st_ino);
    struct ft_buf list = read_or_empty(path);
    for (char *line = (char *)list.data; line != NULL && *line != '\0';) {
        assert_true(n < max);
        assert_int_equal(sscanf(line, "%llu %127s", &entries[n].inode, entries[n].name), 2);
        n++;
        line = strchr(line, '\n') + 1;
    }
    ft_buf_release(&list);
    return n;
}

static size_t actual_entries(struct entry *entries, size_t max)
{
    size_t n = 0;
    DIR *dir = opendir(data);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2) {
            assert_true(n < max);
            entries[n].inode = e->d_ino;
            (void)snprintf(entries[n++].name, 128, "%.127s", e->d_name);
        }
    }
    (void)closedir(dir);
    return n;
}

static const struct entry *named(const struct entry *entries, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(entries[i].name, name) == 0) {
            return &entries[i];
        }
    }
    return NULL;
}

/* What was synced of a file; with `mixed`, some pages of what was not. */
static void write_file(const char *dir, const struct entry *e, const struct entry *actual, size_t n_actual,
                       bool mixed)
{
    char path[PATH];
    struct ft_buf now = {0};
    struct ft_err err = {0};
    (void)snprintf(path, sizeof path, "%.900s/i-%llu", shadow, e->inode);
    struct ft_buf was = read_or_empty(path);
    for (size_t i = 0; mixed && i < n_actual; i++) {
        if (actual[i].inode == e->inode) {
            (void)snprintf(path, sizeof path, "%.800s/%s", data, actual[i].name);
            now = read_or_empty(path);
            break;
        }
    }
    if (now.size > was.size && below(2) == 0) { /* the new size got there */
        size_t more = now.size - was.size;
        OK(ft_buf_reserve(&was, more, &err));
        memset(was.data + was.size, 0, more);
        was.size = now.size;
    }
    for (size_t at = 0; at < now.size && at < was.size; at += 512) {
        size_t end = was.size < now.size ? was.size : now.size;
        size_t size = end - at < 512 ? end - at : 512;
        if (below(2) == 0) {
            memcpy(was.data + at, now.data + at, size);
        }
    }
    (void)snprintf(path, sizeof path, "%.800s/%s", dir, e->name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(was.data, 1, was.size, f), was.size);
    assert_int_equal(fclose(f), 0);
    ft_buf_release(&was);
    ft_buf_release(&now);
}

static void cut_power(const char *dir, bool mixed)
{
    enum { MOST = 512 };
    static struct entry durable[MOST], actual[MOST];
    struct ft_err err = {0};
    size_t n_durable = durable_entries(durable, MOST);
    size_t n_actual = actual_entries(actual, MOST);
    OK(ft_path_remove(dir, &err));
    OK(ft_dir_make(dir, &err));
    for (size_t i = 0; i < n_durable; i++) {
        const struct entry *now = named(actual, n_actual, durable[i].name);
        const struct entry *e = mixed && below(2) == 0 ? now : &durable[i];
        if (e != NULL) {
            write_file(dir, e, actual, n_actual, mixed);
        }
    }
    for (size_t i = 0; mixed && i < n_actual; i++) {
        if (named(durable, n_durable, actual[i].name) == NULL && below(2) == 0) {
            write_file(dir, &actual[i], actual, n_actual, mixed);
        }
    }
}

/* ---- the test ---- */

static void new_folder(int n)
{
    struct ft_err err = {0};
    OK(ft_path_remove(workspace, &err));
    OK(ft_path_remove(shadow, &err));
    (void)snprintf(workspace, sizeof workspace, "%.900s/data-%d", root, n);
    (void)snprintf(data, sizeof data, "%.900s/datasets/kill", workspace);
    (void)snprintf(shadow, sizeof shadow, "%.900s/shadow-%d", root, n);
    OK(ft_dir_make(workspace, &err));
    OK(ft_dir_make(shadow, &err));
    forget_all();
}

/* Sealing is a small part of the time on a fast disk: most kills wait until it is going on. */
static void wait_for_work(void)
{
    for (int i = 0; i < 20000 && !was_working(); i++) {
        (void)usleep(50);
    }
    (void)usleep((useconds_t)below(500));
}

static void one_round(bool aimed, bool *working)
{
    struct ft_err err = {0};
    struct ft_thread *threads[CLIENTS];
    char cut[PATH];
    size_t before = 0, after = 0;
    pid_t service = start();
    for (unsigned i = 0; i < CLIENTS; i++) {
        before += clients[i].acknowledged;
        OK(ft_thread_start("client", push_all, &clients[i], &threads[i], &err));
    }
    do {
        after = 0;
        (void)usleep((useconds_t)(1000 + below(300000)));
        for (unsigned i = 0; i < CLIENTS; i++) {
            after += __atomic_load_n(&clients[i].acknowledged, __ATOMIC_RELAXED);
        }
    } while (after == before); /* a kill before anything was stored shows nothing */
    if (aimed) {
        wait_for_work();
    }
    assert_int_equal(kill(service, SIGKILL), 0);
    assert_int_equal(waitpid(service, NULL, 0), service);
    for (unsigned i = 0; i < CLIENTS; i++) {
        ft_thread_join(threads[i]);
        if (clients[i].err.code != FT_UNAVAILABLE && clients[i].err.code != FT_OK) {
            fail_msg("client %u: %s", i, clients[i].err.text);
        }
    }
    *working = was_working();
    (void)snprintf(cut, sizeof cut, "%.900s/cut", root);
    cut_power(cut, false);
    (void)check(cut, "unsynced writes lost", false);
    cut_power(cut, true);
    (void)check(cut, "some unsynced writes lost", false);
    (void)check(data, "killed", true);
}

static void nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    struct ft_err err = {0};
    const char *asked = getenv("FT_KILLS");
    int kills = asked != NULL ? atoi(asked) : 20;
    int working = 0;
    size_t acknowledged = 0;
    r = ft_rand_at((uint64_t)time(NULL), FT_RAND_TEST, 1);
    print_message("seed %llu\n", (unsigned long long)r.seed);
    double begin = ft_clock_seconds();
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].number = i;
        OK(ft_new(IDS, sizeof(uint32_t), &clients[i].acked, &err));
        OK(ft_new(IDS, sizeof(uint32_t), &clients[i].sent, &err));
    }
    for (int n = 0; n < kills; n++) {
        bool now = false;
        if (n % FOLDER_ROUNDS == 0) {
            new_folder(n);
        }
        one_round(n % 3 != 0, &now);
        working += now ? 1 : 0;
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        acknowledged += clients[i].acknowledged;
        ft_free(clients[i].acked);
        ft_free(clients[i].sent);
    }
    print_message("%d kills, %d of them while a shard was made; %zu Documents acknowledged; %.0f s\n", kills,
                  working, acknowledged, ft_clock_seconds() - begin);
    assert_true(working * 5 >= kills);
}

int main(void)
{
    struct ft_err err = {0};
    char *made = NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_acknowledged_is_lost)};
    if (ft_dir_temp("test-kill", &made, &err) != FT_OK) {
        return 1;
    }
    (void)snprintf(root, sizeof root, "%s", made);
    (void)snprintf(workspace, sizeof workspace, "%.900s/none", root);
    (void)snprintf(shadow, sizeof shadow, "%.900s/none", root);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0 && ft_path_remove(root, &err) != FT_OK) {
        failed = 1;
    }
    ft_free(made);
    return failed;
}
