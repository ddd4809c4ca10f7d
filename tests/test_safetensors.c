/* links: ft_codec ft_base */
#include "executor/codec/safetensors.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support.h"

static char *data_path(const char *name)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(FT_TEST_DATA "/codec", name, &path, &err));
    return path;
}

static void every_type_is_widened_as_numpy_does(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    struct ft_buf text = golden("codec/st_types.txt");
    char *path = data_path("st_types.safetensors");
    size_t at = 0;
    size_t lines = 0;
    char *name = NULL;
    char *hex = NULL;
    ASSERT_OK(ft_safetensors_open(path, &set, &err));
    assert_int_equal(ft_safetensors_count(set), 15);
    while (next_line(&text, &at, &name, &hex)) {
        const struct ft_tensor *t = ft_safetensors_find(set, name);
        struct ft_bytes want = unhex(hex);
        float out[6];
        assert_non_null(t);
        assert_true(t->rank == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->count == 6);
        ASSERT_OK(ft_safetensors_floats(t, out, &err));
        assert_int_equal(want.size, sizeof out);
        if (memcmp(out, want.data, sizeof out) != 0) {
            fail_msg("%s is widened to something else", name);
        }
        lines++;
    }
    assert_int_equal(lines, 13);
    float none[2];
    assert_int_equal(ft_safetensors_find(set, "empty")->count, 0);
    ASSERT_OK(ft_safetensors_floats(ft_safetensors_find(set, "empty"), none, &err));
    assert_int_equal(ft_safetensors_floats(ft_safetensors_find(set, "float8"), none, &err), FT_UNSUPPORTED);
    assert_null(ft_safetensors_find(set, "float99"));
    ft_safetensors_close(set);
    ft_free(path);
    ft_buf_release(&text);
}

static const float sixes[6] = {0, 1, 2, 3, 4, 5};
static const float zeros[4] = {0};
static const float scalar[1] = {2.5F};
static const int64_t dims_6[2] = {2, 3};
static const int64_t dims_3[1] = {3};
static const int64_t dims_2[3] = {1, 2, 1};
static const int64_t dims_4[2] = {2, 2};
static const struct ft_tensor_out written[5] = {{"b.weight", 2, dims_6, sixes},
                                                {"a", 1, dims_3, sixes},
                                                {"s", 0, NULL, scalar},
                                                {"\xc3\xa9\"\\", 3, dims_2, sixes},
                                                {"B", 2, dims_4, zeros}};

static void what_we_write_equals_the_librarys_file(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf want = golden("codec/st_written.safetensors");
    struct ft_buf out = {0};
    ASSERT_OK(ft_safetensors_write(written, 5, &out, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&out), ft_buf_bytes(&want)));
    const struct ft_tensor_out twice[2] = {written[0], written[0]};
    assert_int_equal(ft_safetensors_write(twice, 2, &out, &err), FT_INVALID);
    ft_buf_release(&want);
    ft_buf_release(&out);
}

static void nothing_written_is_read_back(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_safetensors *set = NULL;
    ASSERT_OK(ft_safetensors_write(NULL, 0, &out, &err));
    ASSERT_OK(ft_safetensors_parse(ft_buf_bytes(&out), &set, &err));
    assert_int_equal(ft_safetensors_count(set), 0);
    assert_null(ft_safetensors_find(set, "a"));
    ft_safetensors_close(set);
    ft_buf_release(&out);
}

static void shards_are_one_set(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    char *path = data_path("st.safetensors.index.json");
    ASSERT_OK(ft_safetensors_open_index(path, &set, &err));
    assert_int_equal(ft_safetensors_count(set), 5);
    for (size_t i = 0; i < 5; i++) {
        const struct ft_tensor *t = ft_safetensors_find(set, written[i].name);
        float out[6];
        assert_non_null(t);
        assert_int_equal(t->rank, written[i].rank);
        ASSERT_OK(ft_safetensors_floats(t, out, &err));
        assert_memory_equal(out, written[i].data, (size_t)t->count * sizeof *out);
        assert_true(i == 0 ||
                    strcmp(ft_safetensors_at(set, i - 1)->name, ft_safetensors_at(set, i)->name) < 0);
    }
    ft_safetensors_close(set);
    ft_free(path);
}

/* ---- hostile files: a header and so many bytes of data */

static struct ft_buf file_of(const char *header, size_t data)
{
    struct ft_err err = {0};
    struct ft_buf file = {0};
    uint8_t length[8];
    ft_put_u64(length, strlen(header));
    ASSERT_OK(ft_buf_append(&file, length, sizeof length, &err));
    ASSERT_OK(ft_buf_text(&file, header, &err));
    for (size_t i = 0; i < data; i++) {
        ASSERT_OK(ft_buf_append(&file, "\0", 1, &err));
    }
    return file;
}

#define ENTRY(name, dtype, shape, begin, end)                                                                \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const struct {
    const char *header;
    size_t data;
    enum ft_status want;
    const char *says;
} hostile[] = {
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "}", 8, FT_OK, ""},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "}   ", 8, FT_OK, ""},
    {"{}", 0, FT_OK, ""},
    {"{}", 1, FT_CORRUPT, "belong to no tensor"},
    {"", 0, FT_CORRUPT, "does not begin"},
    {" {}", 0, FT_CORRUPT, "does not begin"},
    {"[]", 0, FT_CORRUPT, "does not begin"},
    {"{", 0, FT_CORRUPT, "JSON"},
    {"{} {}", 0, FT_CORRUPT, "JSON"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "}", 7, FT_CORRUPT, "lies at 0 .. 8 of 7"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "}", 9, FT_CORRUPT, "1 bytes of data belong to no tensor"},
    {"{" ENTRY("a", "F32", "[2]", "4", "12") "}", 12, FT_CORRUPT, "gap"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[2]", "4", "12") "}", 12, FT_CORRUPT,
     "overlaps"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[2]", "0", "8") "}", 8, FT_CORRUPT,
     "overlaps"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[0]", "4", "4") "}", 8, FT_CORRUPT,
     "overlaps"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[1]", "12", "16") "}", 16, FT_CORRUPT,
     "gap"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("a", "F32", "[2]", "8", "16") "}", 16, FT_CORRUPT,
     "JSON"},
    {"{" ENTRY("a", "F32", "[3]", "0", "8") "}", 8, FT_CORRUPT, "3 elements of F32 do not take 8 bytes"},
    {"{" ENTRY("a", "F64", "[2]", "0", "8") "}", 8, FT_CORRUPT, "do not take"},
    {"{" ENTRY("a", "F4", "[2]", "0", "1") "}", 1, FT_UNSUPPORTED, "\"F4\""},
    {"{" ENTRY("a", "F32", "[-1,-2]", "0", "8") "}", 8, FT_CORRUPT, "dimension 0"},
    {"{" ENTRY("a", "F32", "[2.0]", "0", "8") "}", 8, FT_CORRUPT, "dimension 0"},
    {"{" ENTRY("a", "F32", "[4294967296,4294967296]", "0", "8") "}", 8, FT_CORRUPT, "absurd"},
    {"{" ENTRY("a", "F32", "[4611686018427387906]", "0", "8") "}", 8, FT_CORRUPT, "do not take"},
    {"{" ENTRY("a", "F32", "[99999999999999999999999]", "0", "8") "}", 8, FT_CORRUPT, "dimension 0"},
    {"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, FT_LIMIT, "9 dimensions"},
    {"{" ENTRY("a", "F32", "[2]", "-8", "0") "}", 8, FT_CORRUPT, "lies at"},
    {"{" ENTRY("a", "F32", "[2]", "8", "0") "}", 8, FT_CORRUPT, "lies at"},
    {"{" ENTRY("a", "F32", "[2]", "0", "9223372036854775807") "}", 8, FT_CORRUPT, "lies at"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8.0") "}", 8, FT_CORRUPT, "data_offsets"},
    {"{" ENTRY("a", "F32", "[2]", "0", "8,9") "}", 8, FT_CORRUPT, "data_offsets"},
    {"{" ENTRY("a", "F32", "{}", "0", "8") "}", 8, FT_CORRUPT, "no shape"},
    {"{\"a\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, FT_CORRUPT, "no dtype"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, FT_CORRUPT, "not described"},
    {"{\"a\":[]}", 0, FT_CORRUPT, "not described"},
    {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, FT_OK, ""},
    {"{\"__metadata__\":{\"format\":1}}", 0, FT_CORRUPT, "no text"},
    {"{\"__metadata__\":[]}", 0, FT_CORRUPT, "no object"},
};

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct ft_err err = {0};
        struct ft_safetensors *set = NULL;
        struct ft_buf file = file_of(hostile[i].header, hostile[i].data);
        enum ft_status st = ft_safetensors_parse(ft_buf_bytes(&file), &set, &err);
        if (st != hostile[i].want || err.code != st || strstr(err.text, hostile[i].says) == NULL) {
            fail_msg("%s: %s: %s", hostile[i].header, ft_status_text(st), err.text);
        }
        assert_int_equal(set != NULL, st == FT_OK);
        ft_safetensors_close(set);
        ft_buf_release(&file);
    }
}

static void a_length_that_lies_is_refused(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {3, 1 << 20, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct ft_err err = {0};
        struct ft_safetensors *set = NULL;
        struct ft_buf file = file_of("{}", 0);
        ft_put_u64(file.data, lengths[i]);
        assert_int_equal(ft_safetensors_parse(ft_buf_bytes(&file), &set, &err), FT_CORRUPT);
        ft_buf_release(&file);
    }
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    assert_int_equal(ft_safetensors_parse(ft_bytes_of("\2\0\0\0\0\0\0", 7), &set, &err), FT_CORRUPT);
    assert_int_equal(ft_safetensors_parse(ft_bytes_of(NULL, 0), &set, &err), FT_CORRUPT);
}

static void a_huge_header_is_refused_unread(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    size_t size = ((size_t)16 << 20) + 1;
    uint8_t *file = ft_calloc(size + 8, 1);
    assert_non_null(file);
    ft_put_u64(file, size);
    memset(file + 8, ' ', size);
    file[8] = '{';
    assert_int_equal(ft_safetensors_parse(ft_bytes_of(file, size + 8), &set, &err), FT_LIMIT);
    ft_free(file);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/st_types.safetensors");
    for (size_t n = 0; n < file.size; n++) {
        struct ft_err err = {0};
        struct ft_safetensors *set = NULL;
        uint8_t *cut = ft_alloc(n); /* exactly so long, for the sanitizer */
        memcpy(cut, file.data, n);
        assert_int_equal(ft_safetensors_parse(ft_bytes_of(cut, n), &set, &err), FT_CORRUPT);
        ft_free(cut);
    }
    ft_buf_release(&file);
}

/* ---- hostile indexes, in a folder of their own */

static void write_text(const char *dir, const char *name, struct ft_bytes bytes)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(dir, name, &path, &err));
    ASSERT_OK(ft_file_write(path, bytes, &err));
    ft_free(path);
}

static const struct {
    const char *index;
    enum ft_status want;
    const char *says;
} indexes[] = {
    {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", FT_OK, ""},
    {"{\"weight_map\":{\"a\":\"one.safetensors\"}}", FT_OK, ""},
    {"{\"weight_map\":{}}", FT_OK, ""},
    {"{}", FT_CORRUPT, "no weight_map"},
    {"{\"weight_map\":[]}", FT_CORRUPT, "no weight_map"},
    {"{\"weight_map\":{\"a\":1}}", FT_CORRUPT, "no shard"},
    {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", FT_CORRUPT, "no shard"},
    {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", FT_CORRUPT, "no shard"},
    {"{\"weight_map\":{\"a\":\"one.bin\"}}", FT_CORRUPT, "no shard"},
    {"{\"weight_map\":{\"b\":\"one.safetensors\"}}", FT_CORRUPT, "tensor b is in no shard"},
    {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"three.safetensors\"}}", FT_CORRUPT, "twice"},
    {"{\"weight_map\":{\"a\":\"three.safetensors\"}}", FT_CORRUPT, "the shards hold 2 tensors"},
    {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", FT_NOT_FOUND, "none.safetensors"},
    {"{\"weight_map\":", FT_INVALID, "JSON"},
};

static void hostile_indexes_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char *dir = NULL;
    char *path = NULL;
    ASSERT_OK(ft_dir_temp("safetensors", &dir, &err));
    ASSERT_OK(ft_path_join(dir, "i.json", &path, &err));
    struct ft_buf one = file_of("{" ENTRY("a", "F32", "[2]", "0", "8") "}", 8);
    struct ft_buf two = file_of("{" ENTRY("b", "F32", "[1]", "0", "4") "}", 4);
    struct ft_buf three =
        file_of("{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("b", "F32", "[1]", "4", "8") "}", 8);
    write_text(dir, "one.safetensors", ft_buf_bytes(&one));
    write_text(dir, "two.safetensors", ft_buf_bytes(&two));
    write_text(dir, "three.safetensors", ft_buf_bytes(&three));
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        struct ft_safetensors *set = NULL;
        ft_err_clear(&err);
        write_text(dir, "i.json", ft_bytes_of_text(indexes[i].index));
        enum ft_status st = ft_safetensors_open_index(path, &set, &err);
        if (st != indexes[i].want || strstr(err.text, indexes[i].says) == NULL) {
            fail_msg("%s: %s: %s", indexes[i].index, ft_status_text(st), err.text);
        }
        ft_safetensors_close(set);
    }
    ASSERT_OK(ft_path_remove(dir, &err));
    ft_free(path);
    ft_free(dir);
    ft_buf_release(&one);
    ft_buf_release(&two);
    ft_buf_release(&three);
}

static enum ft_status read_and_write(void *arg, struct ft_err *err)
{
    const char *path = arg;
    struct ft_safetensors *set = NULL;
    struct ft_buf out = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_safetensors_open_index(path, &set, err));
    FT_TRY(ft_safetensors_write(written, 5, &out, err));
done:
    ft_buf_release(&out);
    ft_safetensors_close(set);
    return st;
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    char *path = data_path("st.safetensors.index.json");
    fail_each_allocation(read_and_write, path);
    ft_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_widened_as_numpy_does),
        cmocka_unit_test(what_we_write_equals_the_librarys_file),
        cmocka_unit_test(nothing_written_is_read_back),
        cmocka_unit_test(shards_are_one_set),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(a_length_that_lies_is_refused),
        cmocka_unit_test(a_huge_header_is_refused_unread),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(hostile_indexes_are_refused),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
