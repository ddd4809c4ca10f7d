/* links: ft_codec ft_base */
#include "executor/codec/zip.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support.h"

#define DATA FT_TEST_DATA "/codec/"

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
    if (ft_dir_temp("ft-test-zip", &dir, &err) != FT_OK) {
        return -1;
    }
    *state = dir;
    return 0;
}

static int remove_folder(void **state)
{
    struct ft_err err = {0};
    enum ft_status st = ft_path_remove(*state, &err);
    ft_free(*state);
    return st == FT_OK ? 0 : -1;
}

static void expect_file(const char *dir, const char *name, struct ft_bytes want)
{
    struct ft_err err = {0};
    struct ft_buf got = {0};
    char *path = joined(dir, name);
    ASSERT_OK(ft_file_read(path, 1 << 20, &got, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&got), want));
    ft_buf_release(&got);
    ft_free(path);
}

static void archives_of_python_are_read(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "zip_stored.zip", DATA "zip_deflated.zip"};
    static const char *const names[] = {"a.txt", "dir/", "dir/b.bin", "dir/\xc3\xa9.txt", "empty"};
    static const size_t sizes[] = {5, 0, 2048, 1, 0};
    for (size_t k = 0; k < 2; k++) {
        struct ft_err err = {0};
        struct ft_zip_reader *zip = NULL;
        ASSERT_OK(ft_zip_open(files[k], &zip, &err));
        assert_int_equal(ft_zip_count(zip), 5);
        for (size_t i = 0; i < 5; i++) {
            struct ft_buf out = {0};
            assert_string_equal(ft_zip_name(zip, i), names[i]);
            ASSERT_OK(ft_zip_read(zip, i, 2048, &out, &err));
            assert_int_equal(out.size, sizes[i]);
            for (size_t b = 0; i == 2 && b < out.size; b++) {
                assert_int_equal(out.data[b], b % 256);
            }
            ft_buf_release(&out);
        }
        assert_true(ft_zip_fits(zip, 5 + 2048 + 1));
        assert_false(ft_zip_fits(zip, 5 + 2048));
        struct ft_buf out = {0};
        assert_int_equal(ft_zip_read(zip, 2, 2047, &out, &err), FT_LIMIT);
        assert_non_null(strstr(err.text, "dir/b.bin"));
        assert_int_equal(out.size, 0);
        ft_zip_close(zip);
    }
    ft_zip_close(NULL);
}

static void archives_are_unpacked_once(void **state)
{
    struct ft_err err = {0};
    char *to = joined(*state, "new/folder");
    ASSERT_OK(ft_zip_unpack(DATA "zip_deflated.zip", to, 2054, &err));
    expect_file(to, "a.txt", ft_bytes_of_text("hello"));
    expect_file(to, "dir/\xc3\xa9.txt", ft_bytes_of_text("x"));
    expect_file(to, "empty", ft_bytes_of_text(""));
    assert_int_equal(ft_zip_unpack(DATA "zip_deflated.zip", to, 5000, &err), FT_EXISTS);
    expect_file(to, "a.txt", ft_bytes_of_text("hello")); /* a folder that was there is kept */
    ft_free(to);
    to = joined(*state, "second");
    assert_int_equal(ft_zip_unpack(DATA "zip_deflated.zip", to, 2053, &err), FT_LIMIT);
    assert_int_equal(ft_path_kind(to), FT_PATH_NONE);
    ft_free(to);
}

static void unsafe_names_are_refused(void **state)
{
    char *to = joined(*state, "to");
    for (int i = 0; i < 8; i++) {
        struct ft_err err = {0};
        struct ft_zip_reader *zip = NULL;
        char path[512];
        (void)snprintf(path, sizeof path, DATA "zip_unsafe_%d.zip", i);
        assert_int_equal(ft_zip_open(path, &zip, &err), FT_INVALID);
        assert_non_null(strstr(err.text, "unsafe name"));
        assert_null(zip);
        assert_int_equal(ft_zip_unpack(path, to, 1000, &err), FT_INVALID);
        assert_int_equal(ft_path_kind(to), FT_PATH_NONE);
    }
    ft_free(to);
}

static void broken_archives_are_corrupt(void **state)
{
    struct ft_err err = {0};
    struct ft_zip_reader *zip = NULL;
    struct ft_buf out = {0};
    ASSERT_OK(ft_zip_open(DATA "zip_checksum.zip", &zip, &err));
    assert_int_equal(ft_zip_read(zip, 0, 1000, &out, &err), FT_CORRUPT);
    assert_int_equal(out.size, 0);
    ft_buf_release(&out);
    ft_zip_close(zip);
    assert_int_equal(ft_zip_open(*state, &zip, &err), FT_INVALID);
    char *path = joined(*state, "cut.zip");
    assert_int_equal(ft_zip_open(path, &zip, &err), FT_NOT_FOUND);
    struct ft_buf file = golden("codec/zip_deflated.zip");
    for (size_t n = 0; n < file.size; n += 11) {
        ASSERT_OK(ft_file_write(path, ft_bytes_of(file.data, n), &err));
        assert_int_equal(ft_zip_open(path, &zip, &err), FT_CORRUPT);
        assert_null(zip);
    }
    ft_buf_release(&file);
    ft_free(path);
}

static void plant_tree(const char *dir, bool backwards)
{
    struct ft_err err = {0};
    static const struct {
        const char *name;
        const char *text;
        size_t size;
    } files[] = {{"a.txt", "hello\n", 6}, {"sub/b.bin", "\0\1\2", 3}, {"sub/c", "", 0}};
    char *sub = joined(dir, "sub/hollow");
    ASSERT_OK(ft_dir_make(sub, &err));
    ft_free(sub);
    for (size_t i = 0; i < 3; i++) {
        size_t k = backwards ? 2 - i : i;
        char *path = joined(dir, files[k].name);
        ASSERT_OK(ft_file_write(path, ft_bytes_of(files[k].text, files[k].size), &err));
        if (backwards) {
            const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
            assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
            assert_int_equal(chmod(path, 0600), 0);
        }
        ft_free(path);
    }
}

/* packed.zip was checked with Python's zipfile (make.py check). With FT_WRITE_GOLDEN set it is made anew. */
static void equal_trees_give_equal_bytes(void **state)
{
    struct ft_err err = {0};
    char *one = joined(*state, "one");
    char *two = joined(*state, "two");
    char *zip_one = joined(*state, "one.zip");
    char *zip_two = joined(*state, "two.zip");
    char *back = joined(*state, "back");
    plant_tree(one, false);
    plant_tree(two, true);
    ASSERT_OK(ft_zip_pack(one, "model/", zip_one, &err));
    ASSERT_OK(ft_zip_pack(two, "model/", zip_two, &err));
    ASSERT_OK(ft_zip_pack(two, "model/", zip_two, &err)); /* over an old one */
    struct ft_buf a = {0};
    struct ft_buf b = {0};
    ASSERT_OK(ft_file_read(zip_one, 10000, &a, &err));
    ASSERT_OK(ft_file_read(zip_two, 10000, &b, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&a), ft_buf_bytes(&b)));
    if (getenv("FT_WRITE_GOLDEN") != NULL) {
        ASSERT_OK(ft_file_write(DATA "packed.zip", ft_buf_bytes(&a), &err));
    }
    struct ft_buf want = golden("codec/packed.zip");
    assert_true(ft_bytes_equal(ft_buf_bytes(&a), ft_buf_bytes(&want)));
    ASSERT_OK(ft_zip_unpack(zip_one, back, 9, &err));
    expect_file(back, "model/a.txt", ft_bytes_of_text("hello\n"));
    expect_file(back, "model/sub/b.bin", ft_bytes_of("\0\1\2", 3));
    struct ft_dir_list list = {0};
    ASSERT_OK(ft_dir_list(*state, &list, &err));
    assert_int_equal(list.count, 5); /* no temporary file is left */
    ft_dir_list_release(&list);
    ft_buf_release(&a);
    ft_buf_release(&b);
    ft_buf_release(&want);
    ft_free(one);
    ft_free(two);
    ft_free(zip_one);
    ft_free(zip_two);
    ft_free(back);
}

static void what_cannot_be_packed_is_refused(void **state)
{
    struct ft_err err = {0};
    char *empty = joined(*state, "empty");
    char *path = joined(*state, "x.zip");
    char *odd = joined(empty, "a:b");
    char *fifo = joined(empty, "fifo");
    ASSERT_OK(ft_dir_make(empty, &err));
    assert_int_equal(ft_zip_pack(empty, "", path, &err), FT_INVALID);
    assert_int_equal(ft_zip_pack(fifo, "", path, &err), FT_NOT_FOUND);
    ASSERT_OK(ft_file_write(odd, ft_bytes_of("x", 1), &err));
    assert_int_equal(ft_zip_pack(empty, "", path, &err), FT_INVALID);
    ASSERT_OK(ft_path_remove(odd, &err));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(ft_zip_pack(empty, "", path, &err), FT_INVALID);
    assert_int_equal(ft_path_kind(path), FT_PATH_NONE);
    ASSERT_OK(ft_path_remove(fifo, &err));
    ASSERT_OK(ft_file_write(fifo, ft_bytes_of("x", 1), &err));
    ft_free(path);
    path = joined(*state, "no/such/x.zip");
    enum ft_status st = ft_zip_pack(empty, "", path, &err);
    assert_true(st == FT_NOT_FOUND || st == FT_IO);
    ft_free(path);
    ft_free(odd);
    ft_free(fifo);
    ft_free(empty);
}

static enum ft_status use_zip(void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *tree = NULL;
    char *path = NULL;
    char *back = NULL;
    FT_TRY(ft_path_join(arg, "tree", &tree, err));
    FT_TRY(ft_path_join(arg, "tree.zip", &path, err));
    FT_TRY(ft_path_join(arg, "back", &back, err));
    FT_TRY(ft_zip_pack(tree, "", path, err));
    FT_TRY(ft_path_remove(back, err)); /* what a failed run left */
    FT_TRY(ft_zip_unpack(path, back, 100, err));
done:
    ft_free(tree);
    ft_free(path);
    ft_free(back);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    char *tree = joined(*state, "tree");
    plant_tree(tree, false);
    ft_free(tree);
    fail_each_allocation(use_zip, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archives_of_python_are_read),
        cmocka_unit_test_setup_teardown(archives_are_unpacked_once, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(unsafe_names_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(broken_archives_are_corrupt, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(equal_trees_give_equal_bytes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_cannot_be_packed_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(memory_running_out_leaves_nothing_behind, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
