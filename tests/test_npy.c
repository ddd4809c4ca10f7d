/* links: ft_codec ft_base */
#include "executor/codec/npy.h"

#include <stdlib.h>

#include "tests/support.h"

static void headers_are_numpys_byte_for_byte(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/npy_headers.txt");
    size_t at = 0;
    size_t lines = 0;
    char *line = NULL;
    char *none = NULL;
    while (next_line(&file, &at, &line, &none)) {
        struct ft_err err = {0};
        struct ft_buf out = {0};
        char *end = NULL;
        long long rows = strtoll(line, &end, 10);
        long long columns = strtoll(end, &end, 10);
        struct ft_bytes want = unhex(end + 1);
        ASSERT_OK(ft_npy_header(rows, columns, &out, &err));
        assert_true(ft_bytes_equal(ft_buf_bytes(&out), want));
        assert_int_equal(out.size % 64, 0);
        ft_buf_release(&out);
        lines++;
    }
    assert_int_equal(lines, 5);
    ft_buf_release(&file);
}

static void what_we_write_equals_numpys_file(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf want = golden("codec/npy_f4.npy");
    struct ft_buf out = {0};
    const float values[6] = {0, 1, 2, 3, 4, 5};
    ASSERT_OK(ft_npy_header(2, 3, &out, &err));
    ASSERT_OK(ft_buf_append(&out, values, sizeof values, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&out), ft_buf_bytes(&want)));
    ft_buf_release(&out);
    ft_buf_release(&want);
}

static void every_type_of_number_is_read(void **state)
{
    (void)state;
    static const char *const names[] = {"f2", "f4", "f8", "i1", "i2", "i4",
                                        "i8", "u1", "u2", "u4", "u8", "b1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct ft_err err = {0};
        struct ft_npy npy = {0};
        char path[64];
        (void)snprintf(path, sizeof path, "codec/npy_%s.npy", names[i]);
        struct ft_buf file = golden(path);
        ASSERT_OK(ft_npy_parse(ft_buf_bytes(&file), &npy, &err));
        size_t width = (size_t)(names[i][1] - '0');
        assert_string_equal(npy.dtype + 1, names[i]);
        assert_int_equal(npy.dtype[0], width == 1 ? '|' : '<');
        assert_true(npy.rank == 2 && npy.dims[0] == 2 && npy.dims[1] == 3);
        assert_int_equal(npy.data.size, 6 * width);
        ft_buf_release(&file);
    }
    struct ft_err err = {0};
    struct ft_npy npy = {0};
    struct ft_buf file = golden("codec/npy_i4.npy");
    ASSERT_OK(ft_npy_parse(ft_buf_bytes(&file), &npy, &err));
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(ft_get_u32(npy.data.data + 4 * (size_t)i), i);
    }
    ft_buf_release(&file);
}

static void odd_shapes_and_versions_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rank;
        int64_t first;
        size_t bytes;
    } cases[] = {{"scalar", 0, 0, 4}, {"vector", 1, 5, 20}, {"rows", 2, 0, 0}, {"version2", 2, 2, 24}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_err err = {0};
        struct ft_npy npy = {0};
        char path[64];
        (void)snprintf(path, sizeof path, "codec/npy_%s.npy", cases[i].name);
        struct ft_buf file = golden(path);
        ASSERT_OK(ft_npy_parse(ft_buf_bytes(&file), &npy, &err));
        assert_int_equal(npy.rank, cases[i].rank);
        assert_int_equal(npy.dims[0], cases[i].first);
        assert_int_equal(npy.data.size, cases[i].bytes);
        ft_buf_release(&file);
    }
}

static void what_is_not_read_is_unsupported(void **state)
{
    (void)state;
    static const char *const names[] = {"fortran", "big", "struct", "text"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct ft_err err = {0};
        struct ft_npy npy = {0};
        char path[64];
        (void)snprintf(path, sizeof path, "codec/npy_%s.npy", names[i]);
        struct ft_buf file = golden(path);
        assert_int_equal(ft_npy_parse(ft_buf_bytes(&file), &npy, &err), FT_UNSUPPORTED);
        assert_null(npy.data.data);
        assert_int_equal(npy.rank, 0);
        ft_buf_release(&file);
    }
}

static enum ft_status parse_header(const char *header)
{
    struct ft_err err = {0};
    struct ft_npy npy = {0};
    struct ft_buf file = {0};
    uint8_t size[2] = {(uint8_t)strlen(header), (uint8_t)(strlen(header) >> 8)};
    ASSERT_OK(ft_buf_append(&file, "\x93NUMPY\x01\x00", 8, &err));
    ASSERT_OK(ft_buf_append(&file, size, 2, &err));
    ASSERT_OK(ft_buf_text(&file, header, &err));
    ASSERT_OK(ft_buf_append(&file, "abcdefgh", 8, &err));
    enum ft_status st = ft_npy_parse(ft_buf_bytes(&file), &npy, &err);
    ft_buf_release(&file);
    return st;
}

static void broken_files_are_corrupt(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/npy_f4.npy");
    for (size_t n = 0; n < file.size; n++) {
        struct ft_err err = {0};
        struct ft_npy npy = {0};
        uint8_t *copy = ft_alloc(n);
        memcpy(copy, file.data, n);
        assert_int_equal(ft_npy_parse(ft_bytes_of(copy, n), &npy, &err), FT_CORRUPT);
        ft_free(copy);
    }
    ft_buf_release(&file);
    assert_int_equal(parse_header("{'shape': (2,), 'descr': \"<f4\", 'fortran_order': False}\n"), FT_OK);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }"), FT_OK);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, }"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2 2), }"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'shape': (2,), }"), FT_CORRUPT);
    assert_int_equal(
        parse_header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"),
        FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}"),
                     FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x"), FT_CORRUPT);
    assert_int_equal(
        parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
        FT_CORRUPT);
    assert_int_equal(
        parse_header("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 16)}"),
        FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}"),
                     FT_LIMIT);
    assert_int_equal(parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,2)}"),
                     FT_OK);
    assert_int_equal(parse_header("{'descr': 5, 'fortran_order': False, 'shape': (2,)}"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"), FT_UNSUPPORTED);
    assert_int_equal(parse_header("[]"), FT_CORRUPT);
    assert_int_equal(parse_header("{'descr"), FT_CORRUPT);
}

static enum ft_status make_header(void *arg, struct ft_err *err)
{
    (void)arg;
    struct ft_buf out = {0};
    enum ft_status st = ft_npy_header(10, 20, &out, err);
    ft_buf_release(&out);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    fail_each_allocation(make_header, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_numpys_byte_for_byte),
        cmocka_unit_test(what_we_write_equals_numpys_file),
        cmocka_unit_test(every_type_of_number_is_read),
        cmocka_unit_test(odd_shapes_and_versions_are_read),
        cmocka_unit_test(what_is_not_read_is_unsupported),
        cmocka_unit_test(broken_files_are_corrupt),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
