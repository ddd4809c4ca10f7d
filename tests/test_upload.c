/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/* A model in pieces: checked before it touches the disk, gone on with after a cut, under its name at once or
 * not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "executor/server/stored.h"
#include "executor/server/upload.h"
#include "tests/support.h"

static struct ft_err err;
static struct ft_v1_fault fault;

/* ---- what a model is made of */

static const char *hash_of(const char *text)
{
    static char hex[4][FT_SHA256_HEX];
    static int next;
    next = (next + 1) % 4;
    ft_sha256_of(ft_bytes_of_text(text), hex[next]);
    return hex[next];
}

static struct ft_json *parsed(const char *format)
{
    struct ft_json *json = NULL;
    struct ft_buf text = {0};
    for (const char *c = format; *c != '\0'; c++) { /* A stands for a hash */
        ASSERT_OK(*c == 'A' ? ft_buf_text(&text, hash_of("a"), &err) : ft_buf_append(&text, c, 1, &err));
    }
    ASSERT_OK(ft_json_parse(ft_buf_bytes(&text), &json, &err));
    ft_buf_release(&text);
    return json;
}

static void what_it_is_made_of_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *json, *field;
        enum ft_status st;
    } cases[] = {
        {"{}", "model.name", FT_INVALID},
        {"{\"name\": \"a/b\"}", "model.name", FT_INVALID},
        {"{\"name\": \"..\"}", "model.name", FT_INVALID},
        {"{\"name\": \".hidden\"}", "model.name", FT_INVALID},
        {"{\"name\": \"m\"}", "model.files", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"sha256\": \"A\"}]}", "model.files[0].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"/etc/x\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"../x\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"a/./x\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"a//x\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"a/\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"a\\\\x\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"a\\n\", \"sha256\": \"A\"}]}", "model.files[0].name",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"1/2/3/4/5/6/7/8/9\", \"sha256\": \"A\"}]}",
         "model.files[0].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \".model.json\", \"sha256\": \"A\"}]}",
         "model.files[0].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \".model.json/x\", \"sha256\": \"A\"}]}",
         "model.files[0].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"sha256\": \"A\"}, {\"name\": \"x\", \"sha256\": "
         "\"A\"}]}",
         "model.files[1].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"y\", \"sha256\": \"A\"}, {\"name\": \"x\", \"sha256\": "
         "\"A\"}]}",
         "model.files[1].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"sha256\": \"A\"}, {\"name\": \"x-\", \"sha256\": "
         "\"A\"}, {\"name\": \"x/y\", \"sha256\": \"A\"}]}",
         "model.files[2].name", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"sha256\": \"12\"}]}", "model.files[0].sha256",
         FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"bytes\": 101, \"sha256\": \"A\"}]}",
         "model.files[0].bytes", FT_LIMIT},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"bytes\": 60, \"sha256\": \"A\"}, {\"name\": "
         "\"y\", "
         "\"bytes\": 9223372036854775807, \"sha256\": \"A\"}]}",
         "model.files[1].bytes", FT_LIMIT},
        {"{\"name\": \"m\", \"entry\": \"z\", \"files\": [{\"name\": \"x\", \"sha256\": \"A\"}]}",
         "model.entry", FT_INVALID},
        {"{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"sha256\": \"A\"}, {\"name\": \"y\", \"sha256\": "
         "\"A\"}]}",
         "model.entry", FT_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_upload_spec spec;
        struct ft_json *json = parsed(cases[i].json);
        assert_int_equal(ft_upload_spec_read(json, 100, &spec, &fault, &err), cases[i].st);
        assert_string_equal(fault.field, cases[i].field);
        ft_upload_spec_release(&spec);
        ft_json_free(json);
    }
    struct ft_upload_spec spec;
    struct ft_json *json =
        parsed("{\"name\": \"m\", \"files\": [{\"name\": \"x\", \"bytes\": 100, \"sha256\": \"A\"}]}");
    ASSERT_OK(ft_upload_spec_read(json, 100, &spec, &fault, &err));
    assert_string_equal(spec.entry, "x"); /* the only file */
    ft_upload_spec_release(&spec);
    ft_json_free(json);
}

/* ---- on the disk */

enum { ROOM = 100 };

struct fixture {
    char *models;
    struct ft_uploads *uploads;
    struct ft_json *json;
    struct ft_upload_spec spec;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char *dir = NULL;
    ASSERT_OK(ft_dir_temp("ft-upload", &dir, &err));
    f->models = dir;
    ASSERT_OK(ft_uploads_new(dir, ROOM, &f->uploads, &err));
    struct ft_buf text = {0};
    ASSERT_OK(ft_buf_printf(
        &text, &err,
        "{\"name\": \"m\", \"entry\": \"d\", \"files\": [{\"name\": \"d/a.onnx\", \"bytes\": 5, "
        "\"sha256\": \"%s\"}, {\"name\": \"d/x/empty\", \"sha256\": \"%s\"}, {\"name\": \"e\", "
        "\"bytes\": 3, \"sha256\": \"%s\"}]}",
        hash_of("abcde"), hash_of(""), hash_of("xyz")));
    ASSERT_OK(ft_json_parse(ft_buf_bytes(&text), &f->json, &err));
    ft_buf_release(&text);
    ASSERT_OK(ft_upload_spec_read(f->json, 100, &f->spec, &fault, &err));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    ft_uploads_free(f->uploads);
    ASSERT_OK(ft_path_remove(f->models, &err));
    ft_upload_spec_release(&f->spec);
    ft_json_free(f->json);
    ft_free(f->models);
    free(f);
    return 0;
}

static bool never(const void *arg)
{
    (void)arg;
    return false;
}

static bool at_once(const void *arg)
{
    (void)arg;
    return true;
}

static struct ft_upload *opened(const struct fixture *f)
{
    struct ft_upload *u = NULL;
    ASSERT_OK(ft_upload_open(f->uploads, &f->spec, &u, &err));
    return u;
}

static void put(struct ft_upload *u, const char *text)
{
    ASSERT_OK(ft_upload_write(u, ft_upload_have(u), ft_bytes_of_text(text), &err));
}

static struct ft_stored found(const struct fixture *f)
{
    struct ft_stored stored;
    ASSERT_OK(ft_stored_find(f->models, "m", &stored, &err));
    return stored;
}

static void assert_file(const struct fixture *f, const char *name, const char *text)
{
    char *path = NULL;
    struct ft_buf got = {0};
    ASSERT_OK(ft_path_join(f->models, name, &path, &err));
    ASSERT_OK(ft_file_read(path, 1000, &got, &err));
    assert_true(ft_bytes_is(ft_buf_bytes(&got), text));
    ft_buf_release(&got);
    ft_free(path);
}

static size_t entries(const struct fixture *f)
{
    struct ft_dir_list list;
    ASSERT_OK(ft_dir_list(f->models, &list, &err));
    size_t count = list.count;
    ft_dir_list_release(&list);
    return count;
}

static void it_has_its_name_at_once_or_not_at_all(void **state)
{
    const struct fixture *f = *state;
    size_t bad = 0;
    struct ft_upload *u = opened(f);
    assert_int_equal(ft_upload_have(u), 0);
    assert_false(ft_upload_resumed(u));
    put(u, "abc");
    assert_int_equal(ft_upload_write(u, 2, ft_bytes_of_text("c"), &err), FT_INVALID);
    assert_int_equal(ft_upload_write(u, 4, ft_bytes_of_text("e"), &err), FT_INVALID);
    assert_int_equal(ft_upload_write(u, 3, ft_bytes_of_text("dexyz!"), &err), FT_INVALID);
    put(u, "dex"); /* over the ends of two files */
    assert_null(found(f).root);
    put(u, "yz");
    assert_int_equal(ft_upload_have(u), f->spec.bytes);
    assert_int_equal(ft_upload_verify(u, at_once, NULL, &bad, &err), FT_CANCELLED);
    ASSERT_OK(ft_upload_verify(u, never, NULL, &bad, &err));
    char *path = NULL;
    ASSERT_OK(ft_upload_entry(u, &path, &err));
    assert_int_equal(ft_path_kind(path), FT_PATH_DIR);
    char text[2048];
    char wanted[1024];
    (void)snprintf(text, sizeof text, "in %s/a.onnx and %s, %s/m and %s-old", path, path, f->models,
                   f->models);
    ft_uploads_hide(f->uploads, text);
    (void)snprintf(wanted, sizeof wanted, "in d/a.onnx and d, m and %s-old", f->models); /* another folder */
    assert_string_equal(text, wanted);
    ft_free(path);
    assert_null(found(f).root);
    ASSERT_OK(ft_upload_publish(u, &err));
    ft_upload_close(u);
    assert_file(f, "m/d/a.onnx", "abcde");
    assert_file(f, "m/d/x/empty", "");
    assert_file(f, "m/e", "xyz");
    struct ft_stored stored = found(f);
    assert_string_equal(stored.sha256, f->spec.sha256);
    assert_int_equal(stored.bytes, 8);
    assert_string_equal(ft_path_base(stored.root), "m");
    assert_string_equal(ft_path_base(stored.path), "d");
    ASSERT_OK(ft_uploads_remove(f->uploads, stored.root, &err));
    ft_stored_release(&stored);
    assert_int_equal(entries(f), 0);
}

static void a_cut_one_goes_on(void **state)
{
    const struct fixture *f = *state;
    size_t bad = 0;
    static const char all[] = "abcdexyz";
    for (size_t cut = 0; cut <= strlen(all); cut++) {
        struct ft_upload *u = opened(f);
        ASSERT_OK(ft_upload_write(u, 0, ft_bytes_of(all, cut), &err));
        ft_upload_close(u);
        u = opened(f);
        assert_int_equal(ft_upload_have(u), cut);
        assert_int_equal(ft_upload_resumed(u), cut > 0);
        put(u, all + cut);
        ASSERT_OK(ft_upload_verify(u, never, NULL, &bad, &err));
        ASSERT_OK(ft_upload_discard(u, &err));
        ft_upload_close(u);
        assert_int_equal(entries(f), 0);
    }
}

static void other_bytes_are_seen(void **state)
{
    const struct fixture *f = *state;
    size_t bad = 0;
    struct ft_upload *u = opened(f);
    put(u, "abcdexyZ");
    assert_int_equal(ft_upload_verify(u, never, NULL, &bad, &err), FT_CORRUPT);
    assert_int_equal(bad, 2);
    ft_upload_close(u);
}

static bool refusing, refusing_at_close, refusing_to_remove;

/* The system's, of a disk that may refuse. */
int fsync(int fd)
{
    if (refusing) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* NFS writes when a file is closed, and says there what it could not. */
int close(int fd)
{
    int closed = (int)syscall(SYS_close, fd);
    if (refusing_at_close) {
        errno = ENOSPC;
        return -1;
    }
    return closed;
}

/* ... or where something belongs to somebody else. */
int remove(const char *path)
{
    if (refusing_to_remove) {
        errno = EPERM;
        return -1;
    }
    return unlinkat(AT_FDCWD, path, 0) == 0 ? 0 : rmdir(path);
}

/* It can be read back all the same, and the next fsync() has nothing to do: it must not pass for whole. */
static void what_the_disk_did_not_take_is_sent_again(void **state)
{
    const struct fixture *f = *state;
    size_t bad = 0;
    struct ft_upload *u = opened(f);
    put(u, "abcdexyz");
    refusing = true;
    assert_int_equal(ft_upload_verify(u, never, NULL, &bad, &err), FT_IO);
    refusing = false;
    ft_upload_close(u);
    u = opened(f);
    assert_int_equal(ft_upload_have(u), 0);
    put(u, "abcdexyz");
    ASSERT_OK(ft_upload_verify(u, never, NULL, &bad, &err));
    ft_upload_close(u);
}

static void what_is_refused_at_close_is_sent_again(void **state)
{
    const struct fixture *f = *state;
    struct ft_upload *u = opened(f);
    refusing_at_close = true;
    assert_int_equal(ft_upload_write(u, 0, ft_bytes_of_text("abcde"), &err), FT_IO);
    refusing_at_close = false;
    ft_upload_close(u);
    u = opened(f);
    assert_int_equal(ft_upload_have(u), 0);
    put(u, "abc");
    refusing_at_close = true;
    ft_upload_close(u); /* cut while the disk refuses */
    refusing_at_close = false;
    u = opened(f);
    assert_int_equal(ft_upload_have(u), 0);
    ft_upload_close(u);
}

/* The name was taken meanwhile, in a way that nobody looked at. */
static void paths_of_the_service_are_not_told(void **state)
{
    const struct fixture *f = *state;
    char path[600];
    struct ft_upload *u = opened(f);
    put(u, "abcdexyz");
    (void)snprintf(path, sizeof path, "%s/m/x", f->models);
    ASSERT_OK(ft_dir_make(path, &err));
    assert_int_equal(ft_upload_publish(u, &err), FT_IO);
    assert_non_null(strstr(err.text, f->models));
    ft_uploads_hide(f->uploads, err.text);
    assert_null(strstr(err.text, "/"));
    assert_null(strstr(err.text, FT_UPLOAD_PART));
    ft_upload_close(u);
    ASSERT_OK(ft_path_remove(f->models, &err)); /* by somebody else: the folder itself is at fault */
    assert_int_equal(ft_uploads_enter(f->uploads, "other", 1, &err), FT_NOT_FOUND);
    ft_uploads_hide(f->uploads, err.text);
    (void)snprintf(path, sizeof path, "cannot list folder %s: ", ft_path_base(f->models));
    assert_memory_equal(err.text, path, strlen(path));
}

/* A file of so many bytes, of which `sent` come; the last one's age is `hours`. */
static void cut_one(const struct fixture *f, char letter, size_t bytes, size_t sent, int hours)
{
    struct ft_upload_spec spec;
    struct ft_upload *u = NULL;
    struct ft_buf text = {0};
    struct ft_json *json = NULL;
    char path[600];
    uint8_t data[ROOM] = {0};
    ASSERT_OK(ft_buf_printf(
        &text, &err, "{\"name\": \"%c\", \"files\": [{\"name\": \"x\", \"bytes\": %zu, \"sha256\": \"%s\"}]}",
        letter, bytes, hash_of((const char[]){letter, '\0'})));
    ASSERT_OK(ft_json_parse(ft_buf_bytes(&text), &json, &err));
    ASSERT_OK(ft_upload_spec_read(json, ROOM, &spec, &fault, &err));
    ASSERT_OK(ft_upload_open(f->uploads, &spec, &u, &err));
    ASSERT_OK(ft_upload_write(u, 0, ft_bytes_of(data, sent), &err));
    ft_upload_close(u);
    (void)snprintf(path, sizeof path, "%s/" FT_UPLOAD_PART "%s", f->models, spec.sha256);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &times[1]), 0);
    times[1].tv_sec -= hours * 3600;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    ft_upload_spec_release(&spec);
    ft_json_free(json);
    ft_buf_release(&text);
}

static void unfinished_ones_have_a_bound_together(void **state)
{
    struct fixture *f = *state;
    cut_one(f, 'p', 60, 40, 1);
    cut_one(f, 'q', 60, 30, 3); /* 40 + 60: just room, by what they have, not what they announced */
    assert_int_equal(entries(f), 2);
    cut_one(f, 'r', 60, 20, 2); /* 40 + 30 + 60 > 100: the oldest goes */
    assert_int_equal(entries(f), 2);
    struct ft_upload *u = opened(f); /* 8 bytes: 40 + 20 + 8 */
    assert_int_equal(entries(f), 3);
    assert_int_equal(ft_uploads_enter(f->uploads, "other", 93, &err), FT_LIMIT); /* u counts with all of it */
    assert_non_null(strstr(err.text, "uploads_mb"));
    assert_int_equal(entries(f), 3); /* nothing goes for one that has no room all the same */
    put(u, "abcdexyz");
    ASSERT_OK(ft_uploads_enter(f->uploads, "other", 92, &err));
    assert_int_equal(entries(f), 1); /* u is here */
    ft_uploads_leave(f->uploads, "other");
    ft_upload_close(u);
    assert_int_equal(entries(f), 1);
    ASSERT_OK(ft_uploads_enter(f->uploads, "other", 93, &err)); /* nobody sends it any more */
    assert_int_equal(entries(f), 0);
    ft_uploads_leave(f->uploads, "other");
    cut_one(f, 'p', 60, 40, 1);
    ft_uploads_free(f->uploads); /* a service that may have less is started */
    refusing_to_remove = true;   /* it does, and counts what it cannot remove */
    ASSERT_OK(ft_uploads_new(f->models, 39, &f->uploads, &err));
    assert_int_equal(ft_uploads_enter(f->uploads, "other", 1, &err), FT_LIMIT);
    assert_int_equal(entries(f), 1);
    refusing_to_remove = false;
    ft_uploads_free(f->uploads);
    ASSERT_OK(ft_uploads_new(f->models, 39, &f->uploads, &err));
    assert_int_equal(entries(f), 0);
}

static void few_are_checked_at_the_same_time(void **state)
{
    const struct fixture *f = *state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < FT_UPLOADS_CHECKED; i++) {
            assert_true(ft_uploads_check(f->uploads));
        }
        assert_false(ft_uploads_check(f->uploads));
        ft_uploads_checked(f->uploads);
        assert_true(ft_uploads_check(f->uploads));
        for (int i = 0; i < FT_UPLOADS_CHECKED; i++) {
            ft_uploads_checked(f->uploads);
        }
    }
}

static void one_at_a_time(void **state)
{
    const struct fixture *f = *state;
    struct ft_upload *second = NULL;
    struct ft_upload *u = opened(f);
    assert_int_equal(ft_upload_open(f->uploads, &f->spec, &second, &err), FT_BUSY);
    assert_null(second);
    put(u, "abc");
    ft_upload_close(u);
    ASSERT_OK(ft_upload_open(f->uploads, &f->spec, &second, &err));
    assert_int_equal(ft_upload_have(second), 3);
    ft_upload_close(second);
}

/* What lies in the folder is a file of ours or nothing: a link leads nowhere. */
static void links_are_not_followed(void **state)
{
    const struct fixture *f = *state;
    char *outside = NULL;
    char path[600];
    struct ft_upload *u = opened(f);
    ASSERT_OK(ft_path_join(f->models, "outside", &outside, &err));
    ASSERT_OK(ft_file_write(outside, ft_bytes_of_text("mine"), &err));
    (void)snprintf(path, sizeof path, "%s/" FT_UPLOAD_PART "%s/e", f->models, f->spec.sha256);
    assert_int_equal(symlink(outside, path), 0);
    put(u, "abcde");
    assert_int_not_equal(ft_upload_write(u, 5, ft_bytes_of_text("xyz"), &err), FT_OK);
    assert_file(f, "outside", "mine");
    ft_upload_close(u);
    ft_free(outside);
}

/* As by a service that starts. */
static void sweep(const struct fixture *f)
{
    struct ft_uploads *fresh = NULL;
    ASSERT_OK(ft_uploads_new(f->models, ROOM, &fresh, &err));
    ft_uploads_free(fresh);
}

static void old_ones_are_swept(void **state)
{
    const struct fixture *f = *state;
    char path[600];
    ft_upload_close(opened(f));
    (void)snprintf(path, sizeof path, "%s/" FT_UPLOAD_GONE "12/d", f->models);
    ASSERT_OK(ft_dir_make(path, &err));
    sweep(f);
    assert_int_equal(entries(f), 1); /* of today */
    (void)snprintf(path, sizeof path, "%s/" FT_UPLOAD_PART "%s", f->models, f->spec.sha256);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &times[1]), 0);
    times[1].tv_sec -= 25 * 3600;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    sweep(f);
    assert_int_equal(entries(f), 0);
    struct ft_upload *u = opened(f);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    ASSERT_OK(ft_uploads_enter(f->uploads, "other", 1, &err));
    ft_uploads_leave(f->uploads, "other");
    assert_int_equal(entries(f), 1); /* somebody has it */
    ft_upload_close(u);
}

static void models_put_there_by_hand_are_found(void **state)
{
    const struct fixture *f = *state;
    char path[600];
    (void)snprintf(path, sizeof path, "%s/m.onnx", f->models);
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text("four"), &err));
    struct ft_stored stored = found(f);
    assert_string_equal(stored.path, path);
    assert_string_equal(stored.root, path);
    assert_string_equal(stored.sha256, "");
    assert_int_equal(stored.bytes, 4);
    ft_stored_release(&stored);
    ASSERT_OK(ft_stored_find(f->models, "../x", &stored, &err));
    assert_null(stored.root);
    (void)snprintf(path, sizeof path, "%s/m", f->models); /* first */
    ASSERT_OK(ft_dir_make(path, &err));
    stored = found(f);
    assert_string_equal(stored.path, path);
    ft_stored_release(&stored);
    (void)snprintf(path, sizeof path, "%s/m/" FT_UPLOAD_ABOUT, f->models);
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text("{\"entry\": 3}"), &err));
    assert_int_equal(ft_stored_find(f->models, "m", &stored, &err), FT_CORRUPT);
    ft_stored_release(&stored);
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text("{"), &err));
    assert_int_equal(ft_stored_find(f->models, "m", &stored, &err), FT_CORRUPT);
    ft_stored_release(&stored);
}

static enum ft_status whole(void *arg, struct ft_err *e)
{
    enum ft_status st = FT_OK;
    static const char all[] = "abcdexyz";
    const struct fixture *f = arg;
    struct ft_upload_spec spec = {0};
    struct ft_stored stored = {0};
    struct ft_uploads *uploads = NULL;
    struct ft_upload *u = NULL;
    size_t bad = 0;
    FT_TRY(ft_upload_spec_read(f->json, 100, &spec, &fault, e));
    FT_TRY(ft_uploads_new(f->models, ROOM, &uploads, e));
    FT_TRY(ft_upload_open(uploads, &spec, &u, e));
    FT_TRY(ft_upload_write(u, ft_upload_have(u), ft_bytes_of_text(&all[ft_upload_have(u)]), e));
    FT_TRY(ft_upload_verify(u, never, NULL, &bad, e));
    FT_TRY(ft_upload_publish(u, e));
    FT_TRY(ft_stored_find(f->models, "m", &stored, e));
    FT_TRY(ft_uploads_remove(uploads, stored.root, e));
done:
    ft_stored_release(&stored);
    ft_upload_close(u);
    ft_uploads_free(uploads);
    ft_upload_spec_release(&spec);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    /* What was published before a failure is in the way of the next: it goes first. */
    struct fixture *f = *state;
    for (uint64_t n = 1;; n++) {
        struct ft_alloc_stats before = ft_alloc_stats();
        ft_alloc_fail_at(n);
        enum ft_status st = whole(f, &err);
        ft_alloc_fail_at(0);
        assert_int_equal(ft_alloc_stats().live_blocks, before.live_blocks);
        if (st == FT_OK) {
            assert_true(n > 20);
            break;
        }
        assert_int_equal(st, FT_NOMEM);
        struct ft_stored stored = found(f);
        if (stored.root != NULL) {
            ASSERT_OK(ft_uploads_remove(f->uploads, stored.root, &err));
        }
        ft_stored_release(&stored);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_is_made_of_is_checked),
        CASE(it_has_its_name_at_once_or_not_at_all),
        CASE(a_cut_one_goes_on),
        CASE(other_bytes_are_seen),
        CASE(what_the_disk_did_not_take_is_sent_again),
        CASE(what_is_refused_at_close_is_sent_again),
        CASE(paths_of_the_service_are_not_told),
        CASE(unfinished_ones_have_a_bound_together),
        CASE(few_are_checked_at_the_same_time),
        CASE(one_at_a_time),
        CASE(links_are_not_followed),
        CASE(old_ones_are_swept),
        CASE(models_put_there_by_hand_are_found),
        CASE(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
