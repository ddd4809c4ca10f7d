/* links: ft_codec ft_base */
#include "executor/codec/json.h"

#include <math.h>

#include "tests/codec_dump.h"
#include "executor/base/limits.h"

static struct ft_json *parsed(const char *text)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(text), &json, &err));
    return json;
}

/* Values, and the text that we write for them, are what Python reads. */
static void valid_texts_are_read_as_python_reads_them(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/json_valid.txt");
    size_t at = 0;
    size_t lines = 0;
    char *hex = NULL;
    char *want = NULL;
    while (next_line(&file, &at, &hex, &want)) {
        struct ft_err err = {0};
        struct ft_json *json = NULL;
        struct ft_bytes text = unhex(hex);
        ASSERT_OK(ft_json_parse(text, &json, &err));
        for (int indent = 0; indent <= 2; indent += 2) {
            struct ft_buf dump = {0};
            struct ft_buf written = {0};
            struct ft_json *again = NULL;
            dump_json(json, &dump);
            assert_string_equal((char *)dump.data, want);
            ASSERT_OK(ft_json_write(json, indent, &written, &err));
            ASSERT_OK(ft_json_parse(ft_buf_bytes(&written), &again, &err));
            dump.size = 0;
            dump_json(again, &dump);
            assert_string_equal((char *)dump.data, want);
            ft_json_free(again);
            ft_buf_release(&written);
            ft_buf_release(&dump);
        }
        ft_json_free(json);
        lines++;
    }
    assert_true(lines > 30);
    ft_buf_release(&file);
}

static void invalid_texts_are_refused_with_a_place(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/json_invalid.txt");
    size_t at = 0;
    size_t lines = 0;
    char *hex = NULL;
    char *none = NULL;
    while (next_line(&file, &at, &hex, &none)) {
        struct ft_err err = {0};
        struct ft_json *json = (struct ft_json *)&lines;
        struct ft_bytes text = unhex(hex);
        uint8_t *copy = ft_alloc(text.size); /* so that a sanitizer sees a read beyond */
        memcpy(copy, text.data, text.size);
        if (ft_json_parse(ft_bytes_of(copy, text.size), &json, &err) != FT_INVALID) {
            fail_msg("accepted: %.*s", (int)text.size, (const char *)text.data);
        }
        assert_null(json);
        assert_non_null(strstr(err.text, "line "));
        ft_free(copy);
        lines++;
    }
    assert_true(lines > 50);
    ft_buf_release(&file);
}

static void a_place_is_line_and_character(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    assert_int_equal(ft_json_parse(ft_bytes_of_text("{\"a\": 1,\n \"\xc3\xa9\": x}"), &json, &err),
                     FT_INVALID);
    assert_string_equal(err.text, "JSON line 2 column 7: a value is expected here");
    assert_int_equal(ft_json_parse(ft_bytes_of_text("{\"k\": 1,\n\n \"k\": 2}"), &json, &err), FT_INVALID);
    assert_string_equal(err.text, "JSON line 3 column 2: this key stands twice in its object");
    assert_int_equal(ft_json_parse(ft_bytes_of_text("[\"\xff\"]"), &json, &err), FT_INVALID);
    assert_non_null(strstr(err.text, "UTF-8"));
    assert_int_equal(ft_json_parse(ft_bytes_of(NULL, 0), &json, &err), FT_INVALID);
}

static void nesting_is_limited(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    struct ft_buf text = {0};
    for (int i = 0; i < 20000; i++) {
        put(&text, i % 2 == 0 ? "[" : "{\"a\":");
    }
    assert_int_equal(ft_json_parse(ft_buf_bytes(&text), &json, &err), FT_LIMIT);
    assert_null(json);
    text.size = 0;
    for (int i = 0; i < FT_MAX_NESTING + 1; i++) {
        put(&text, "[");
    }
    for (int i = 0; i < FT_MAX_NESTING + 1; i++) {
        put(&text, "]");
    }
    assert_int_equal(ft_json_parse(ft_buf_bytes(&text), &json, &err), FT_LIMIT);
    ASSERT_OK(ft_json_parse(ft_bytes_of(text.data + 1, text.size - 2), &json, &err));
    ft_json_free(json);
    ft_buf_release(&text);
}

static void getters_answer_for_every_kind(void **state)
{
    (void)state;
    struct ft_json *json =
        parsed("{\"i\": 7, \"r\": 2.5, \"w\": 3.0, \"big\": 1e30, \"t\": \"x\\ny\", \"b\": true, \"n\": null,"
               " \"a\": [1, 2], \"o\": {\"k\": 1}}");
    assert_int_equal(ft_json_kind(json), FT_JSON_OBJECT);
    assert_int_equal(ft_json_count(json), 9);
    const struct ft_json *i = ft_json_get(json, "i");
    const struct ft_json *r = ft_json_get(json, "r");
    const struct ft_json *w = ft_json_get(json, "w");
    const struct ft_json *big = ft_json_get(json, "big");
    const struct ft_json *t = ft_json_get(json, "t");
    size_t size = 0;
    assert_true(ft_json_int(i) == 7 && ft_json_real(i) == 7.0 && ft_json_is_integral(i) &&
                ft_json_is_number(i));
    assert_true(ft_json_int(r) == 0 && ft_json_real(r) == 2.5 && !ft_json_is_integral(r) &&
                ft_json_is_number(r));
    assert_true(ft_json_int(w) == 3 && ft_json_is_integral(w) && ft_json_kind(w) == FT_JSON_REAL);
    assert_true(ft_json_int(big) == 0 && !ft_json_is_integral(big));
    assert_string_equal(ft_json_text(t, &size), "x\ny");
    assert_true(size == 3 && !ft_json_is_number(t) && ft_json_real(t) == 0.0 && ft_json_count(t) == 0);
    assert_null(ft_json_text(i, NULL));
    assert_true(ft_json_bool(ft_json_get(json, "b")) && !ft_json_bool(i));
    assert_int_equal(ft_json_kind(ft_json_get(json, "n")), FT_JSON_NULL);
    assert_int_equal(ft_json_int(ft_json_at(ft_json_get(json, "a"), 1)), 2);
    assert_null(ft_json_at(ft_json_get(json, "a"), 2));
    assert_null(ft_json_at(json, 0));
    assert_null(ft_json_get(json, "none"));
    assert_null(ft_json_get(i, "k"));
    assert_null(ft_json_first(i));
    assert_int_equal(ft_json_kind(NULL), FT_JSON_NULL);
    assert_true(ft_json_int(NULL) == 0 && ft_json_count(NULL) == 0 && ft_json_text(NULL, NULL) == NULL);
    for (int kind = FT_JSON_NULL; kind <= FT_JSON_OBJECT; kind++) {
        assert_true(strlen(ft_json_kind_name((enum ft_json_kind)kind)) > 3);
    }
    ft_json_free(json);
    ft_json_free(NULL);
}

static void text_is_written_as_json_wants_it(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_json *json =
        parsed("{\"z\":[1,2.5,-0.0,1e300,0.1],\"a\":\"\\u0001\\\"\\\\\\n\\u00e9/\",\"e\":[],\"o\":{}}");
    ASSERT_OK(ft_json_write(json, 0, &out, &err));
    assert_string_equal(
        (char *)out.data,
        "{\"z\": [1, 2.5, -0.0, 1e+300, 0.1], \"a\": \"\\u0001\\\"\\\\\\n\xc3\xa9/\", \"e\": [], \"o\": {}}");
    out.size = 0;
    ASSERT_OK(ft_json_write(ft_json_get(json, "e"), 2, &out, &err));
    assert_string_equal((char *)out.data, "[]");
    ft_json_free(json);
    json = parsed("{\"a\":[1],\"b\":2}");
    out.size = 0;
    ASSERT_OK(ft_json_write(json, 2, &out, &err));
    assert_string_equal((char *)out.data, "{\n  \"a\": [\n    1\n  ],\n  \"b\": 2\n}");
    ft_json_free(json);
    ft_buf_release(&out);
}

static void sorted_texts_are_equal_for_equal_values(void **state)
{
    static const char *const texts[] = {"{\"b\": [{\"y\": 1, \"x\": 2}], \"a\": {\"d\": null, \"c\": \"\"}}",
                                        "{\"a\": {\"c\": \"\", \"d\": null}, \"b\": [{\"x\": 2, \"y\": 1}]}"};
    struct ft_err err = {0};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ft_json *json = NULL;
        struct ft_buf out = {0};
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(texts[i]), &json, &err));
        ASSERT_OK(ft_json_write_sorted(json, &out, &err));
        assert_true(ft_bytes_is(ft_buf_bytes(&out), texts[1]));
        ft_json_free(json);
        ft_buf_release(&out);
    }
}

static void builders_refuse_what_json_cannot_hold(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_json *object = ft_json_object();
    assert_null(ft_json_of_real(NAN));
    assert_null(ft_json_of_real(INFINITY));
    assert_null(ft_json_of_text("\xff"));
    assert_null(ft_json_of_bytes(ft_bytes_of("a\0b", 3)));
    assert_int_equal(ft_json_set(object, "k", NULL, &err), FT_NOMEM);
    assert_int_equal(ft_json_set(object, "\xff", ft_json_of_int(1), &err), FT_INVALID);
    ASSERT_OK(ft_json_set(object, "k", ft_json_of_int(1), &err));
    ASSERT_OK(ft_json_set(object, "k", ft_json_of_int(2), &err));
    assert_int_equal(ft_json_count(object), 1);
    assert_int_equal(ft_json_int(ft_json_get(object, "k")), 2);
    struct ft_json *empty = ft_json_of_bytes(ft_bytes_of(NULL, 0));
    assert_string_equal(ft_json_text(empty, NULL), "");
    ft_json_free(empty);
    ft_json_free(object);
}

static enum ft_status use_json(void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *json = NULL;
    struct ft_json *copy = NULL;
    struct ft_json *made = NULL;
    struct ft_buf out = {0};
    FT_TRY(ft_json_parse(ft_bytes_of_text(arg), &json, err));
    copy = ft_json_copy(json);
    made = ft_json_object();
    if (copy == NULL || made == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory");
        goto done;
    }
    struct ft_json *array = ft_json_array();
    if (array == NULL) {
        st = FT_FAIL(err, NOMEM, "no memory");
        goto done;
    }
    for (int64_t i = 0; st == FT_OK && i < 20; i++) {
        st = ft_json_push(array, ft_json_of_int(i), err);
    }
    if (st != FT_OK) {
        ft_json_free(array);
        goto done;
    }
    FT_TRY(ft_json_set(made, "array", array, err));
    FT_TRY(ft_json_set(made, "text", ft_json_of_text("some text"), err));
    FT_TRY(ft_json_set(made, "real", ft_json_of_real(0.5), err));
    FT_TRY(ft_json_set(made, "null", ft_json_null(), err));
    FT_TRY(ft_json_set(made, "bool", ft_json_of_bool(true), err));
    FT_TRY(ft_json_write(copy, 1, &out, err));
    FT_TRY(ft_json_write(made, 0, &out, err));
done:
    ft_json_free(json);
    ft_json_free(copy);
    ft_json_free(made);
    ft_buf_release(&out);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    char text[] = "{\"a\": [1, 2.5, \"a text that is longer than any small buffer \\u00e9\", null], \"b\": "
                  "{\"c\": {}, \"d\": [[]]},"
                  " \"e\": 12345678901234567890123, \"f\": 1, \"g\": 1, \"h\": 1, \"i\": 1, \"j\": 1, \"k\": "
                  "1, \"l\": 1}";
    fail_each_allocation(use_json, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_texts_are_read_as_python_reads_them),
        cmocka_unit_test(invalid_texts_are_refused_with_a_place),
        cmocka_unit_test(a_place_is_line_and_character),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(getters_answer_for_every_kind),
        cmocka_unit_test(text_is_written_as_json_wants_it),
        cmocka_unit_test(sorted_texts_are_equal_for_equal_values),
        cmocka_unit_test(builders_refuse_what_json_cannot_hold),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
