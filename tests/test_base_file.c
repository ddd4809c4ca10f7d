/* links: ft_base */
#include "executor/base/file.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support.h"

static char *joined(const char *dir, const char *name)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(dir, name, &path, &err));
    return path;
}

static int make_folder(void **state)
{
    struct ft_err err = {0};
    char *dir = NULL;
    if (ft_dir_temp("ft-test-file", &dir, &err) != FT_OK) {
        return -1;
    }
    *state = dir;
    return 0;
}

static int remove_folder(void **state)
{
    struct ft_err err = {0};
    char *dir = *state;
    enum ft_status st = ft_path_remove(dir, &err);
    bool gone = ft_path_kind(dir) == FT_PATH_NONE;
    ft_free(dir);
    return st == FT_OK && gone ? 0 : -1;
}

static void paths_are_joined_with_one_slash(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"},         {"a//", "/b", "a/b"},       {"/", "b", "/b"},
        {"", "b", "b"},    {"a", "/etc/x", "a/etc/x"}, {"/a/b", "c/d", "/a/b/c/d"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = joined(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        ft_free(path);
    }
    assert_string_equal(ft_path_base("/a/b.c"), "b.c");
    assert_string_equal(ft_path_base("b.c"), "b.c");
    assert_true(ft_path_has_suffix("Model.ONNX", ".onnx"));
    assert_false(ft_path_has_suffix("onnx", ".onnx"));
    assert_false(ft_path_has_suffix("a.onnx.data", ".onnx"));
}

static void a_file_is_written_whole_or_not_at_all(void **state)
{
    struct ft_err err = {0};
    char *path = joined(*state, "data.bin");
    struct ft_buf buf = {0};
    uint8_t bytes[100000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    ASSERT_OK(ft_file_write(path, ft_bytes_of(bytes, sizeof bytes), &err));
    ASSERT_OK(ft_file_read(path, sizeof bytes, &buf, &err));
    assert_int_equal(buf.size, sizeof bytes);
    assert_memory_equal(buf.data, bytes, sizeof bytes);
    assert_int_equal(buf.data[buf.size], 0);
    ft_buf_release(&buf);
    assert_int_equal(ft_file_read(path, sizeof bytes - 1, &buf, &err), FT_LIMIT);
    assert_null(buf.data);
    ASSERT_OK(ft_file_write(path, ft_bytes_of("x", 1), &err));
    ASSERT_OK(ft_file_read(path, 1, &buf, &err));
    assert_string_equal((char *)buf.data, "x");
    ft_buf_release(&buf);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    mode_t mask = umask(0);
    (void)umask(mask);
    assert_int_equal(s.st_mode & 0777, 0666 & ~mask);

    char *folder = joined(*state, "folder");
    ASSERT_OK(ft_dir_make(folder, &err));
    assert_int_equal(ft_file_write(folder, ft_bytes_of("x", 1), &err), FT_INVALID);
    struct ft_dir_list list = {0};
    ASSERT_OK(ft_dir_list(*state, &list, &err));
    assert_int_equal(list.count, 2); /* no temporary file is left */
    ft_dir_list_release(&list);
    ft_free(folder);
    ft_free(path);
}

static void errors_name_path_and_reason(void **state)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    struct ft_mapping map = {0};
    struct ft_dir_list list = {0};
    char *path = joined(*state, "nothing/here");
    assert_int_equal(ft_file_read(path, 10, &buf, &err), FT_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "No such file or directory"));
    assert_int_equal(ft_file_write(path, ft_bytes_of("x", 1), &err), FT_NOT_FOUND);
    assert_int_equal(ft_file_map(path, &map, &err), FT_NOT_FOUND);
    assert_int_equal(ft_dir_list(path, &list, &err), FT_NOT_FOUND);
    assert_int_equal(ft_dir_sync(path, &err), FT_NOT_FOUND);
    assert_int_equal(ft_path_rename(path, *state, &err), FT_NOT_FOUND);
    assert_int_equal(ft_file_read(*state, 10, &buf, &err), FT_INVALID);
    assert_int_equal(ft_file_map(*state, &map, &err), FT_INVALID);
    assert_int_equal(ft_file_read("/proc/self/mem", 10, &buf, &err), FT_IO);
    assert_int_equal(ft_file_map("/dev/null", &map, &err), FT_INVALID);
    ft_free(path);
    path = joined(*state, "plain");
    ASSERT_OK(ft_file_write(path, ft_bytes_of("x", 1), &err));
    char *below = joined(path, "below");
    assert_int_equal(ft_dir_make(below, &err), FT_EXISTS);
    assert_int_equal(ft_dir_make(path, &err), FT_EXISTS);
    assert_int_equal(ft_path_kind(path), FT_PATH_FILE);
    assert_int_equal(ft_path_kind("/dev/null"), FT_PATH_OTHER);
    ft_free(below);
    ft_free(path);
}

static void files_are_mapped(void **state)
{
    struct ft_err err = {0};
    struct ft_mapping map = {0};
    char *path = joined(*state, "map");
    ASSERT_OK(ft_file_write(path, ft_bytes_of("hello", 5), &err));
    ASSERT_OK(ft_file_map(path, &map, &err));
    assert_true(ft_bytes_is(map.bytes, "hello"));
    ft_file_unmap(&map);
    assert_null(map.bytes.data);
    ft_file_unmap(&map);
    ASSERT_OK(ft_file_write(path, ft_bytes_of("", 0), &err));
    ASSERT_OK(ft_file_map(path, &map, &err));
    assert_int_equal(map.bytes.size, 0);
    ft_file_unmap(&map);
    ft_free(path);
}

static void a_pipe_is_read_to_its_end(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    int ends[2];
    char path[64];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "from a pipe", 11), 11);
    (void)close(ends[1]);
    (void)snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    ASSERT_OK(ft_file_read(path, 100, &buf, &err));
    assert_true(ft_bytes_is(ft_buf_bytes(&buf), "from a pipe"));
    ft_buf_release(&buf);
    (void)close(ends[0]);
}

static void folders_are_made_listed_and_removed(void **state)
{
    struct ft_err err = {0};
    struct ft_dir_list list = {0};
    char *deep = joined(*state, "a//b/c/");
    char *a = joined(*state, "a");
    char *outside = joined(*state, "outside");
    char *link_path = joined(a, "link");
    ASSERT_OK(ft_dir_make(deep, &err));
    ASSERT_OK(ft_dir_make(deep, &err));
    assert_int_equal(ft_path_kind(deep), FT_PATH_DIR);
    ASSERT_OK(ft_file_write(outside, ft_bytes_of("x", 1), &err));
    assert_int_equal(symlink(*state, link_path), 0);
    const char *names[] = {"z", "B", "\xc3\xa9", "10", "9"};
    for (size_t i = 0; i < 5; i++) {
        char *path = joined(deep, names[i]);
        ASSERT_OK(ft_file_write(path, ft_bytes_of("x", 1), &err));
        ft_free(path);
    }
    ASSERT_OK(ft_dir_list(deep, &list, &err));
    assert_int_equal(list.count, 5);
    const char *sorted[] = {"10", "9", "B", "z", "\xc3\xa9"};
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(list.names[i], sorted[i]);
    }
    ft_dir_list_release(&list);
    ASSERT_OK(ft_path_remove(a, &err));
    assert_int_equal(ft_path_kind(a), FT_PATH_NONE);
    assert_int_equal(ft_path_kind(outside), FT_PATH_FILE); /* the link was not followed */
    ASSERT_OK(ft_path_remove(a, &err));
    ASSERT_OK(ft_path_remove(outside, &err));
    ft_free(deep);
    ft_free(a);
    ft_free(outside);
    ft_free(link_path);
}

static enum ft_status use_files(void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    char *folder = NULL;
    char *moved = NULL;
    struct ft_buf buf = {0};
    struct ft_dir_list list = {0};
    FT_TRY(ft_path_join(arg, "oom/in/side", &folder, err));
    FT_TRY(ft_path_remove(folder, err)); /* what a failed run left */
    FT_TRY(ft_dir_make(folder, err));
    FT_TRY(ft_path_join(folder, "file", &path, err));
    FT_TRY(ft_path_join(folder, "moved", &moved, err));
    FT_TRY(ft_file_write(path, ft_bytes_of("abc", 3), err));
    FT_TRY(ft_file_read(path, 10, &buf, err));
    FT_TRY(ft_path_rename(path, moved, err));
    FT_TRY(ft_dir_list(folder, &list, err));
done:
    ft_dir_list_release(&list);
    ft_buf_release(&buf);
    ft_free(path);
    ft_free(folder);
    ft_free(moved);
    return st;
}

struct asked {
    char names[8][8];
    size_t count;
};

static bool begins_with_a(void *arg, const char *name)
{
    struct asked *asked = arg;
    (void)snprintf(asked->names[asked->count++], sizeof asked->names[0], "%s", name);
    return name[0] == 'a';
}

static void what_is_chosen_in_a_folder_goes(void **state)
{
    struct ft_err err = {0};
    struct asked asked = {0};
    static const char *const names[] = {"a1", "a2/x/y", "b", "c"};
    for (size_t i = 0; i < 4; i++) {
        char *path = joined(*state, names[i]);
        ASSERT_OK(i == 1 ? ft_dir_make(path, &err) : ft_file_write(path, ft_bytes_of("x", 1), &err));
        ft_free(path);
    }
    ASSERT_OK(ft_dir_sweep(*state, begins_with_a, &asked, &err));
    assert_int_equal(asked.count, 4);
    assert_string_equal(asked.names[0], "a1");
    assert_string_equal(asked.names[3], "c");
    struct ft_dir_list left = {0};
    ASSERT_OK(ft_dir_list(*state, &left, &err));
    assert_int_equal(left.count, 2);
    assert_string_equal(left.names[0], "b");
    ft_dir_list_release(&left);
    char *none = joined(*state, "none");
    assert_int_equal(ft_dir_sweep(none, begins_with_a, &asked, &err), FT_NOT_FOUND);
    ft_free(none);
}

static void a_folder_is_hidden_in_texts(void **state)
{
    static const char *const cases[][3] = {
        {"/srv/ws", "cannot link /srv/ws/a/b to '/srv/ws/c': no", "cannot link a/b to 'c': no"},
        {"/srv/ws/", "/srv/ws/a", "a"},
        {"/srv/ws", "/srv/ws-old/a /srv/ws", "/srv/ws-old/a /srv/ws"},
        {"/srv/ws", "/srv/ws/", ""},
        {"/srv/ws", "", ""},
        {"ws", "ws/a", "ws/a"},
        {"/", "/a", "/a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s", cases[i][1]);
        ft_path_hide(text, cases[i][0]);
        assert_string_equal(text, cases[i][2]);
    }
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    fail_each_allocation(use_files, *state);
}

static void temporary_folders_are_private_and_fresh(void **state)
{
    struct ft_err err = {0};
    char *a = NULL;
    char *b = NULL;
    struct stat s;
    assert_int_equal(setenv("TMPDIR", *state, 1), 0);
    ASSERT_OK(ft_dir_temp("name", &a, &err));
    ASSERT_OK(ft_dir_temp("name", &b, &err));
    assert_true(strncmp(a, *state, strlen(*state)) == 0);
    assert_string_not_equal(a, b);
    assert_int_equal(stat(a, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    ft_free(a);
    ft_free(b);
    assert_int_equal(setenv("TMPDIR", "/nowhere/at/all", 1), 0);
    assert_int_equal(ft_dir_temp("name", &a, &err), FT_NOT_FOUND);
    assert_null(a);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_joined_with_one_slash),
        cmocka_unit_test_setup_teardown(a_file_is_written_whole_or_not_at_all, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(errors_name_path_and_reason, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(files_are_mapped, make_folder, remove_folder),
        cmocka_unit_test(a_folder_is_hidden_in_texts),
        cmocka_unit_test(a_pipe_is_read_to_its_end),
        cmocka_unit_test_setup_teardown(folders_are_made_listed_and_removed, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_chosen_in_a_folder_goes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(memory_running_out_leaves_nothing_behind, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(temporary_folders_are_private_and_fresh, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
