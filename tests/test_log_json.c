/* links: ft_codec ft_base */
#include "executor/base/log_json.h"

#include <stdlib.h>

#include "executor/codec/json.h"
#include "tests/support.h"

enum { MOST = 4096 };

/* The line, which must be one object, read again. */
static struct ft_json *line(size_t capacity, const char *fmt, ...) FT_PRINTF(2, 3);
static struct ft_json *line(size_t capacity, const char *fmt, ...)
{
    char text[MOST];
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    const struct ft_log_head head = {"2026-11-23T22:26:43.123Z", "info", "runs"};
    va_list args;
    memset(text, 'x', sizeof text);
    va_start(args, fmt);
    size_t size = ft_log_json(text, capacity, &head, fmt, args);
    va_end(args);
    assert_in_range(size, 1, capacity);
    assert_int_equal(text[size - 1], '\n');
    assert_null(memchr(text, '\n', size - 1));
    assert_true(capacity == sizeof text || text[capacity] == 'x');
    ASSERT_OK(ft_json_parse(ft_bytes_of(text, size - 1), &json, &err));
    assert_int_equal(ft_json_kind(json), FT_JSON_OBJECT);
    return json;
}

static void is_text(const struct ft_json *json, const char *key, const char *want)
{
    const char *text = ft_json_text(ft_json_get(json, key), NULL);
    assert_non_null(text);
    assert_string_equal(text, want);
}

static void the_format_tells_message_and_fields(void **state)
{
    (void)state;
    struct ft_json *json =
        line(MOST, "run ended run=%s code=%d bytes=%llu rate=%.1f where=%s:%d text=\"%.*s\"", "a b=1", -7,
             1234567890123ULL, 2.5, "host", 9, 3, "abcdef");
    is_text(json, "time", "2026-11-23T22:26:43.123Z");
    is_text(json, "level", "info");
    is_text(json, "room", "runs");
    is_text(json, "message", "run ended");
    is_text(json, "run", "a b=1"); /* no field of its own, whatever a value says */
    assert_int_equal(ft_json_int(ft_json_get(json, "code")), -7);
    assert_true(ft_json_real(ft_json_get(json, "rate")) == 2.5);
    is_text(json, "where", "host:9");
    is_text(json, "text", "abc");
    ft_json_free(json);
}

static void what_is_no_number_is_text(void **state)
{
    (void)state;
    struct ft_json *json = line(MOST, "m share=%d%% nan=%f padded=%03d hex=%x size=%zu", 50,
                                strtod("nan", NULL), 7, 255U, (size_t)3);
    is_text(json, "share", "50%");
    is_text(json, "nan", "nan");
    is_text(json, "padded", "007");
    is_text(json, "hex", "ff");
    assert_int_equal(ft_json_int(ft_json_get(json, "size")), 3);
    ft_json_free(json);
}

static void any_bytes_stay_one_line(void **state)
{
    (void)state;
    struct ft_json *json =
        line(MOST, "m a=%s b=\"%s\"", "q\"\\\n\t\x01\x7f", "\xff\xc3(\xe2\x82\xac\xed\xa0\x80");
    is_text(json, "a", "q\"\\\n\t\x01\x7f");
    is_text(json, "b", "\xef\xbf\xbd\xef\xbf\xbd(\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    ft_json_free(json);
}

/* At every capacity there is an object, of whole fields and whole characters. */
static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    char quotes[3000];
    memset(quotes, '"', sizeof quotes - 1);
    quotes[sizeof quotes - 1] = '\0';
    for (size_t capacity = 257; capacity < 700; capacity++) {
        struct ft_json *json = line(capacity, "%s a=\"%s\" b=%d c=\"%s\" d=%d", quotes + 2950,
                                    "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", 12345, quotes + 2850, 7);
        ft_json_free(json);
    }
    struct ft_json *json = line(MOST, "%s a=\"%s\" b=%s", quotes, quotes, quotes);
    ft_json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_format_tells_message_and_fields),
        cmocka_unit_test(what_is_no_number_is_text),
        cmocka_unit_test(any_bytes_stay_one_line),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
