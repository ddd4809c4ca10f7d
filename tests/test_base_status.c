/* links: ft_base */
#include "executor/base/status.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "executor/base/bytes.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "tests/support.h"

static void a_failure_keeps_code_place_and_text(void **state)
{
    (void)state;
    struct ft_err err = {0};
    int line = __LINE__ + 1;
    assert_int_equal(FT_FAIL(&err, INVALID, "value %d of %s", 3, "x"), FT_INVALID);
    assert_int_equal(err.code, FT_INVALID);
    assert_int_equal(err.line, line);
    assert_string_equal(err.file, __FILE__);
    assert_string_equal(err.text, "value 3 of x");
    assert_int_equal(ft_err_wrap(&err, "file %s", "a.json"), FT_INVALID);
    assert_string_equal(err.text, "file a.json: value 3 of x");
    assert_int_equal(err.line, line);
    ft_err_clear(&err);
    assert_int_equal(err.code, FT_OK);
    assert_string_equal(err.text, "");
}

static void a_message_is_one_line_of_whole_characters(void **state)
{
    (void)state;
    struct ft_err err = {0};
    (void)FT_FAIL(&err, INVALID, "a\nb\tc\x7f%s", "\x1b[31m");
    assert_string_equal(err.text, "a?b?c??[31m");
    for (size_t pad = 0; pad < 4; pad++) {
        char text[2 * FT_ERR_TEXT];
        memset(text, 'a', pad);
        for (size_t i = pad; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xe2\x82\xac", 4);
        }
        (void)FT_FAIL(&err, INVALID, "%s", text);
        assert_true(strlen(err.text) > FT_ERR_TEXT - 8);
        assert_true(ft_utf8_valid(ft_bytes_of_text(err.text)));
        (void)FT_FAIL(&err, INVALID, "cause");
        (void)ft_err_wrap(&err, "%s", text);
        assert_true(ft_utf8_valid(ft_bytes_of_text(err.text)));
        assert_string_equal(err.text + strlen(err.text) - 7, ": cause");
    }
}

static void a_full_message_takes_no_context(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char text[2 * FT_ERR_TEXT];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)FT_FAIL(&err, INVALID, "%s", text);
    (void)ft_err_wrap(&err, "context");
    assert_int_equal(strlen(err.text), FT_ERR_TEXT - 1);
    assert_int_equal(err.text[0], 'x');
}

static void every_status_has_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < FT_STATUS_COUNT; i++) {
        assert_true(strlen(ft_status_text((enum ft_status)i)) > 1);
    }
    assert_string_equal(ft_status_text(FT_NOT_FOUND), "not found");
}

static void dates_equal_the_c_librarys(void **state)
{
    (void)state;
    const int64_t moments[] = {0,
                               -1,
                               1,
                               951782400123,
                               951868799999,
                               1709164800000,
                               4107542400000,
                               -2208988800000,
                               253402300799999,
                               -62135596800000,
                               1795472803123};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        int64_t ms = moments[i];
        time_t seconds = (time_t)((ms - (ms % 1000 + 1000) % 1000) / 1000);
        struct tm tm;
        char want[64];
        char date[40];
        char got[FT_CLOCK_TEXT];
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(date, sizeof date, "-%m-%dT%H:%M:%S", &tm) > 0);
        (void)snprintf(want, sizeof want, "%04d%s.%03dZ", tm.tm_year + 1900, date,
                       (int)((ms % 1000 + 1000) % 1000));
        ft_clock_iso(ms, got);
        assert_string_equal(got, want);
    }
}

static void clocks_run(void **state)
{
    (void)state;
    double a = ft_clock_seconds();
    double b = ft_clock_seconds();
    assert_true(b >= a);
    int64_t now = (int64_t)time(NULL) * 1000;
    assert_true(ft_clock_unix_ms() >= now - 2000 && ft_clock_unix_ms() <= now + 5000);
    char text[FT_CLOCK_TEXT];
    ft_clock_iso(INT64_MAX, text); /* must not overrun */
    ft_clock_iso(INT64_MIN, text);
}

/* What `run` writes to stderr. */
static struct ft_buf captured(void (*run)(void))
{
    char path[] = "/tmp/ft-test-log-XXXXXX";
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    int fd = mkstemp(path);
    int saved = dup(STDERR_FILENO);
    assert_true(fd >= 0 && saved >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    run();
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    (void)close(fd);
    ASSERT_OK(ft_file_read(path, 1 << 20, &buf, &err));
    (void)unlink(path);
    return buf;
}

static void write_lines(void)
{
    ft_log_level_set(FT_LOG_INFO);
    FT_LOG_DEBUG_LINE("base", "hidden");
    FT_LOG_INFO_LINE("base", "file read path=%s", "a\nb");
    ft_log_level_set(FT_LOG_ERROR);
    FT_LOG_WARNING_LINE("base", "hidden");
    FT_LOG_ERROR_LINE("base", "failed code=%d", 7);
    ft_log_level_set(FT_LOG_OFF);
    FT_LOG_ERROR_LINE("base", "hidden");
}

static void write_long_line(void)
{
    char text[9000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    ft_log_level_set(FT_LOG_DEBUG);
    FT_LOG_DEBUG_LINE("base", "long %s", text);
}

static void log_lines_have_time_level_room_and_one_line(void **state)
{
    (void)state;
    struct ft_buf out = captured(write_lines);
    char *text = (char *)out.data;
    char *second = strchr(text, '\n') + 1;
    assert_true(strlen(text) > 30);
    assert_int_equal(text[23], 'Z');
    assert_memory_equal(text + 24, " info base file read path=a?b\n", 30);
    assert_string_equal(second + 24, " error base failed code=7\n");
    ft_buf_release(&out);
    out = captured(write_long_line);
    assert_int_equal(out.size, 4095);
    assert_int_equal(out.data[4094], '\n');
    ft_buf_release(&out);
}

static void log_levels_have_jinas_names(void **state)
{
    (void)state;
    enum ft_log_level level = FT_LOG_OFF;
    assert_true(ft_log_level_parse("success", &level) && level == FT_LOG_INFO);
    assert_true(ft_log_level_parse("Critical", &level) && level == FT_LOG_ERROR);
    assert_true(ft_log_level_parse("DEBUG", &level) && level == FT_LOG_DEBUG);
    assert_false(ft_log_level_parse("loud", &level));
    assert_int_equal(level, FT_LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_keeps_code_place_and_text),
        cmocka_unit_test(a_message_is_one_line_of_whole_characters),
        cmocka_unit_test(a_full_message_takes_no_context),
        cmocka_unit_test(every_status_has_a_text),
        cmocka_unit_test(dates_equal_the_c_librarys),
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(log_lines_have_time_level_room_and_one_line),
        cmocka_unit_test(log_levels_have_jinas_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
