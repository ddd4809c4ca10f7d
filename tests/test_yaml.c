/* links: ft_codec ft_base */
#include "executor/codec/yaml.h"

#include <math.h>
#include <stdlib.h>

#include "tests/codec_dump.h"
#include "executor/base/limits.h"

/* Reads `text` into a dump; the tree is gone afterwards. */
static enum ft_status dump_yaml(struct ft_bytes text, struct ft_buf *out, struct ft_err *err)
{
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    out->size = 0;
    FT_TRY(ft_yaml_parse(text, &arena, &root, err));
    FT_TRY(ft_yaml_to_json(root, &json, err));
    dump_json(json, out);
done:
    ft_json_free(json);
    ft_arena_release(&arena);
    return st;
}

static void values_are_those_of_pyyaml(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/yaml_valid.txt");
    size_t at = 0;
    size_t lines = 0;
    char *hex = NULL;
    char *want = NULL;
    while (next_line(&file, &at, &hex, &want)) {
        struct ft_err err = {0};
        struct ft_buf got = {0};
        struct ft_bytes text = unhex(hex);
        ASSERT_OK(dump_yaml(text, &got, &err));
        if (strcmp((char *)got.data, want) != 0) {
            fail_msg("%.*s: %s is not %s", (int)text.size, (const char *)text.data, (char *)got.data, want);
        }
        ft_buf_release(&got);
        lines++;
    }
    assert_true(lines >= 36);
    ft_buf_release(&file);
}

static void invalid_texts_are_refused_with_a_line(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/yaml_invalid.txt");
    size_t at = 0;
    char *hex = NULL;
    char *none = NULL;
    while (next_line(&file, &at, &hex, &none)) {
        struct ft_err err = {0};
        struct ft_buf got = {0};
        struct ft_bytes text = unhex(hex);
        if (dump_yaml(text, &got, &err) != FT_INVALID) {
            fail_msg("accepted: %.*s", (int)text.size, (const char *)text.data);
        }
        assert_non_null(strstr(err.text, "YAML line"));
        ft_buf_release(&got);
    }
    ft_buf_release(&file);
}

/* YAML 1.2.2, example 10.3's table for the core schema, where YAML 1.1 reads otherwise. */
static void plain_scalars_follow_the_core_schema(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    ASSERT_OK(ft_yaml_parse(
        ft_bytes_of_text(
            "- [null, Null, NULL, ~, true, True, TRUE, false, False, FALSE]\n"
            "- [0, 0o7, 0x3A, -19, +12, 012]\n"
            "- [0., -0.0, .5, +12e03, -2E+05, 1e3]\n"
            "- [.inf, -.Inf, +.INF, .NAN]\n"
            "- [yes, no, on, off, y, 1_000, 0b1, 1:30, 0o8, 0xg, '', 2020-01-01, +.5.5, 1e, .]\n"),
        &arena, &root, &err));
    assert_int_equal(root->kind, FT_JSON_ARRAY);
    assert_int_equal(root->count, 5);
    for (size_t i = 0; i < 10; i++) {
        const struct ft_yaml *v = root->items[0]->items[i];
        assert_int_equal(v->kind, i < 4 ? FT_JSON_NULL : FT_JSON_BOOL);
        assert_int_equal(v->truth, i >= 4 && i < 7);
        assert_int_equal(v->line, 1);
    }
    const int64_t ints[] = {0, 7, 58, -19, 12, 12};
    for (size_t i = 0; i < 6; i++) {
        const struct ft_yaml *v = root->items[1]->items[i];
        assert_true(v->kind == FT_JSON_INT && v->integer == ints[i] && v->real == (double)ints[i] &&
                    v->text != NULL);
    }
    const double reals[] = {0, 0, 0.5, 12000, -200000, 1000};
    for (size_t i = 0; i < 6; i++) {
        const struct ft_yaml *v = root->items[2]->items[i];
        assert_true(v->kind == FT_JSON_REAL && v->real == reals[i]);
    }
    assert_true(signbit(root->items[2]->items[1]->real));
    for (size_t i = 0; i < 3; i++) {
        const struct ft_yaml *v = root->items[3]->items[i];
        assert_true(v->kind == FT_JSON_REAL && isinf(v->real) &&
                    signbit(v->real) == (i == 1 ? signbit(-1.0) : 0));
    }
    assert_true(isnan(root->items[3]->items[3]->real));
    for (size_t i = 0; i < root->items[4]->count; i++) {
        assert_int_equal(root->items[4]->items[i]->kind, FT_JSON_TEXT);
        assert_int_equal(root->items[4]->items[i]->line, 5);
    }
    struct ft_json *json = NULL;
    assert_int_equal(ft_yaml_to_json(root, &json, &err), FT_INVALID);
    assert_string_equal(err.text, "YAML line 4: .inf has no place in JSON");
    assert_null(json);
    ft_arena_release(&arena);
}

static void nodes_know_their_lines(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    ASSERT_OK(ft_yaml_parse(ft_bytes_of_text("# first\nwith:\n  port: 1\n\n  host: \"2\"\nlist:\n- a\n- b\n"),
                            &arena, &root, &err));
    const struct ft_yaml *with = ft_yaml_get(root, "with");
    assert_true(with->kind == FT_JSON_OBJECT && with->line == 3 && root->key_lines[0] == 2);
    assert_int_equal(ft_yaml_get(with, "host")->line, 5);
    assert_int_equal(ft_yaml_get(with, "host")->kind, FT_JSON_TEXT);
    assert_int_equal(ft_yaml_get(root, "list")->items[1]->line, 8);
    assert_null(ft_yaml_get(root, "none"));
    assert_null(ft_yaml_get(NULL, "none"));
    assert_null(ft_yaml_get(ft_yaml_get(root, "list"), "a"));
    ft_arena_release(&arena);
}

static enum ft_status parse_only(const char *text, struct ft_err *err)
{
    struct ft_buf got = {0};
    enum ft_status st = dump_yaml(ft_bytes_of_text(text), &got, err);
    ft_buf_release(&got);
    return st;
}

static void what_is_not_read_is_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    assert_int_equal(parse_only("a: &x 1\nb: *x\n", &err), FT_UNSUPPORTED);
    assert_string_equal(err.text, "YAML line 1: anchors and aliases are not read");
    assert_int_equal(parse_only("a: 1\n<<: *x\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("- &x [1]\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("- &x {a: 1}\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("a: 1\n---\nb: 2\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("? [1, 2]\n: 3\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("? {a: 1}\n: 3\n", &err), FT_UNSUPPORTED);
    assert_int_equal(parse_only("a: \"x\\0y\"\n", &err), FT_INVALID);
    assert_int_equal(parse_only("a: 1\nb: 2\n\na: 3\n", &err), FT_INVALID);
    assert_string_equal(err.text, "YAML line 4: key 'a' stands already on line 1");
    assert_int_equal(parse_only("a: \xff\n", &err), FT_INVALID);
    struct ft_buf text = {0};
    for (int i = 0; i < 20000; i++) {
        put(&text, "[");
    }
    assert_int_equal(parse_only((char *)text.data, &err), FT_LIMIT);
    text.size = 0;
    ASSERT_OK(ft_buf_reserve(&text, FT_MAX_CONFIG_BYTES + 1, &err));
    memset(text.data, '\n', FT_MAX_CONFIG_BYTES + 1);
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    assert_int_equal(ft_yaml_parse(ft_bytes_of(text.data, FT_MAX_CONFIG_BYTES + 1), &arena, &root, &err),
                     FT_LIMIT);
    ASSERT_OK(ft_yaml_parse(ft_bytes_of(NULL, 0), &arena, &root, &err));
    assert_int_equal(root->kind, FT_JSON_NULL);
    ft_arena_release(&arena);
    ft_buf_release(&text);
}

/* written.yml was checked with PyYAML (make.py check): equal bytes mean that PyYAML reads what was meant.
 * With FT_WRITE_GOLDEN set the file is made anew, to be checked again. */
static void what_we_write_is_what_pyyaml_was_shown(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf source = golden("codec/written.json");
    struct ft_buf out = {0};
    struct ft_buf want_dump = {0};
    struct ft_buf got_dump = {0};
    struct ft_json *json = NULL;
    ASSERT_OK(ft_json_parse(ft_buf_bytes(&source), &json, &err));
    ASSERT_OK(ft_yaml_write(json, &out, &err));
    if (getenv("FT_WRITE_GOLDEN") != NULL) {
        ASSERT_OK(ft_file_write(FT_TEST_DATA "/codec/written.yml", ft_buf_bytes(&out), &err));
    }
    struct ft_buf want = golden("codec/written.yml");
    assert_string_equal((char *)out.data, (char *)want.data);
    dump_json(json, &want_dump);
    ASSERT_OK(dump_yaml(ft_buf_bytes(&out), &got_dump, &err));
    assert_string_equal((char *)got_dump.data, (char *)want_dump.data);
    ft_json_free(json);
    ft_buf_release(&source);
    ft_buf_release(&out);
    ft_buf_release(&want);
    ft_buf_release(&want_dump);
    ft_buf_release(&got_dump);
}

static void scalars_and_lists_are_written_alone(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"1", "1\n"},      {"\"a\"", "a\n"},       {"[]", "[]\n"},
                                           {"{}", "{}\n"},    {"[1, 2]", "[1, 2]\n"}, {"[[1]]", "- [1]\n"},
                                           {"null", "null\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_err err = {0};
        struct ft_json *json = NULL;
        struct ft_buf out = {0};
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(cases[i][0]), &json, &err));
        ASSERT_OK(ft_yaml_write(json, &out, &err));
        assert_string_equal((char *)out.data, cases[i][1]);
        ft_json_free(json);
        ft_buf_release(&out);
    }
}

static enum ft_status use_yaml(void *arg, struct ft_err *err)
{
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    struct ft_json *json = NULL;
    struct ft_buf out = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_yaml_parse(ft_bytes_of_text(arg), &arena, &root, err));
    FT_TRY(ft_yaml_to_json(root, &json, err));
    FT_TRY(ft_yaml_write(json, &out, err));
done:
    ft_json_free(json);
    ft_arena_release(&arena);
    ft_buf_release(&out);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    char text[] = "a: 1\nb: [x, 2.5, 'q']\nc: {d: ~, e: [true, [1]]}\nf: \"quoted \\t text\"\n";
    fail_each_allocation(use_yaml, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_pyyaml),
        cmocka_unit_test(invalid_texts_are_refused_with_a_line),
        cmocka_unit_test(plain_scalars_follow_the_core_schema),
        cmocka_unit_test(nodes_know_their_lines),
        cmocka_unit_test(what_is_not_read_is_refused),
        cmocka_unit_test(what_we_write_is_what_pyyaml_was_shown),
        cmocka_unit_test(scalars_and_lists_are_written_alone),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
