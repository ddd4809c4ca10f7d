/* links: ft_codec ft_base */
#include "executor/codec/csv.h"

#include "tests/codec_dump.h"

static enum ft_status dump_csv(struct ft_bytes text, struct ft_buf *out, struct ft_err *err)
{
    struct ft_csv csv;
    enum ft_status st = FT_OK;
    ft_csv_open(&csv, text);
    out->size = 0;
    FT_TRY(ft_buf_text(out, "[", err));
    for (bool first = true;; first = false) {
        struct ft_bytes fields[FT_CSV_MAX_FIELDS];
        size_t count = 0;
        FT_TRY(ft_csv_next(&csv, fields, &count, err));
        if (count == 0) {
            break;
        }
        FT_TRY(ft_buf_text(out, first ? "[" : " [", err));
        for (size_t i = 0; i < count; i++) {
            FT_TRY(ft_buf_text(out, i == 0 ? "s" : " s", err));
            for (size_t k = 0; k < fields[i].size; k++) {
                FT_TRY(ft_buf_printf(out, err, "%02x", fields[i].data[k]));
            }
        }
        FT_TRY(ft_buf_text(out, "]", err));
    }
    FT_TRY(ft_buf_text(out, "]", err));
done:
    ft_csv_release(&csv);
    return st;
}

static void records_are_those_of_pythons_csv(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/csv_valid.txt");
    size_t at = 0;
    size_t lines = 0;
    char *hex = NULL;
    char *want = NULL;
    while (next_line(&file, &at, &hex, &want)) {
        struct ft_err err = {0};
        struct ft_buf got = {0};
        struct ft_bytes text = unhex(hex);
        uint8_t *copy = ft_alloc(text.size); /* so that a sanitizer sees a read beyond */
        memcpy(copy, text.data, text.size);
        ASSERT_OK(dump_csv(ft_bytes_of(copy, text.size), &got, &err));
        assert_string_equal((char *)got.data, want);
        ft_free(copy);
        ft_buf_release(&got);
        lines++;
    }
    assert_true(lines >= 18);
    ft_buf_release(&file);
}

static void all_dialects_hold_the_same_records(void **state)
{
    (void)state;
    struct ft_buf want = golden("codec/dialect.txt");
    want.data[want.size - 1] = '\0';
    static const char *const names[] = {"excel", "excel-tab", "unix"};
    for (size_t i = 0; i < 3; i++) {
        struct ft_err err = {0};
        struct ft_buf got = {0};
        char path[64];
        (void)snprintf(path, sizeof path, "codec/dialect_%s.csv", names[i]);
        struct ft_buf file = golden(path);
        ASSERT_OK(dump_csv(ft_buf_bytes(&file), &got, &err));
        assert_string_equal((char *)got.data, (char *)want.data);
        ft_buf_release(&file);
        ft_buf_release(&got);
    }
    ft_buf_release(&want);
}

static char separator_of(const char *text)
{
    struct ft_csv csv;
    ft_csv_open(&csv, ft_bytes_of_text(text));
    char separator = csv.separator;
    ft_csv_release(&csv);
    return separator;
}

static void the_separator_is_the_regular_one(void **state)
{
    (void)state;
    assert_int_equal(separator_of("a;b\nc;d\n"), ';');
    assert_int_equal(separator_of("a, x\tb\nc\td\n"), '\t');
    assert_int_equal(separator_of("a|b|c\nd|e|f"), '|');
    assert_int_equal(separator_of("one\ntwo\n"), ',');
    assert_int_equal(separator_of(""), ',');
    assert_int_equal(separator_of("\"a;b\",c\n\"d\",e;\n"), ',');
    assert_int_equal(separator_of("\"two\nlines\"\tx\nb\ty\n"), '\t');
}

static void a_byte_order_mark_is_skipped(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf got = {0};
    ASSERT_OK(dump_csv(ft_bytes_of_text("\xef\xbb\xbf"
                                        "a,b\n"),
                       &got, &err));
    assert_string_equal((char *)got.data, "[[s61 s62]]");
    ft_buf_release(&got);
}

static void lines_are_counted_through_quotes_and_blanks(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_csv csv;
    struct ft_bytes fields[FT_CSV_MAX_FIELDS];
    size_t count = 0;
    ft_csv_open(&csv, ft_bytes_of_text("a,b\n\n\"x\ny\r\nz\",c\r\nd,e\n\"open,f\n"));
    const int lines[] = {1, 3, 6};
    for (size_t i = 0; i < 3; i++) {
        ASSERT_OK(ft_csv_next(&csv, fields, &count, &err));
        assert_int_equal(count, 2);
        assert_int_equal(csv.line, lines[i]);
    }
    assert_int_equal(ft_csv_next(&csv, fields, &count, &err), FT_INVALID);
    assert_string_equal(err.text, "CSV line 7: a quoted field is not closed");
    assert_int_equal(count, 0);
    ft_csv_release(&csv);
}

static void broken_records_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf got = {0};
    assert_int_equal(dump_csv(ft_bytes_of_text("\"a\"b,c\n"), &got, &err), FT_INVALID);
    assert_string_equal(err.text, "CSV line 1: something follows a closing quote");
    assert_int_equal(dump_csv(ft_bytes_of_text("\""), &got, &err), FT_INVALID);
    char many[2 * FT_CSV_MAX_FIELDS];
    memset(many, ',', sizeof many);
    assert_int_equal(dump_csv(ft_bytes_of(many, FT_CSV_MAX_FIELDS), &got, &err), FT_LIMIT);
    ASSERT_OK(dump_csv(ft_bytes_of(many, FT_CSV_MAX_FIELDS - 1), &got, &err));
    ft_buf_release(&got);
}

static enum ft_status use_csv(void *arg, struct ft_err *err)
{
    struct ft_buf got = {0};
    enum ft_status st = dump_csv(ft_bytes_of_text(arg), &got, err);
    ft_buf_release(&got);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    char text[] = "a,\"b \"\" c\"\nd,\"e \"\"\"\" a longer text than before, so that it grows \"\" f\"\n";
    fail_each_allocation(use_csv, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_those_of_pythons_csv),
        cmocka_unit_test(all_dialects_hold_the_same_records),
        cmocka_unit_test(the_separator_is_the_regular_one),
        cmocka_unit_test(a_byte_order_mark_is_skipped),
        cmocka_unit_test(lines_are_counted_through_quotes_and_blanks),
        cmocka_unit_test(broken_records_are_refused),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
