#include "executor/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "executor/base/clock.h"
#include "executor/base/log_json.h"

enum { LINE_BYTES = 4096, UNSET = -1 };

/* Both are one for the process by nature: they are set once at the start and only read afterwards. */
static atomic_int threshold = UNSET;
static atomic_int form = UNSET;

static const char *environment(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? text : "";
}

/* The first who asks settles what nobody has set. */
static int settle(atomic_int *what, int first)
{
    int expected = UNSET;
    (void)atomic_compare_exchange_strong(what, &expected, first);
    return atomic_load_explicit(what, memory_order_relaxed);
}

bool ft_log_format_parse(const char *text, enum ft_log_format *format)
{
    bool json = strcasecmp(text, "json") == 0;
    if (!json && strcasecmp(text, "text") != 0) {
        return false;
    }
    *format = json ? FT_LOG_JSON : FT_LOG_TEXT;
    return true;
}

void ft_log_format_set(enum ft_log_format format)
{
    atomic_store_explicit(&form, (int)format, memory_order_relaxed);
}

enum ft_log_format ft_log_format(void)
{
    int now = atomic_load_explicit(&form, memory_order_relaxed);
    if (now == UNSET) {
        enum ft_log_format first = FT_LOG_TEXT;
        (void)ft_log_format_parse(environment(FT_LOG_FORMAT_VARIABLE), &first);
        now = settle(&form, (int)first);
    }
    return (enum ft_log_format)now;
}

bool ft_log_level_parse(const char *text, enum ft_log_level *level)
{
    static const struct {
        const char *name;
        enum ft_log_level level;
    } names[] = {{"DEBUG", FT_LOG_DEBUG},     {"INFO", FT_LOG_INFO},   {"SUCCESS", FT_LOG_INFO},
                 {"WARNING", FT_LOG_WARNING}, {"ERROR", FT_LOG_ERROR}, {"CRITICAL", FT_LOG_ERROR},
                 {"OFF", FT_LOG_OFF}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcasecmp(text, names[i].name) == 0) {
            *level = names[i].level;
            return true;
        }
    }
    return false;
}

void ft_log_level_set(enum ft_log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

enum ft_log_level ft_log_level(void)
{
    int now = atomic_load_explicit(&threshold, memory_order_relaxed);
    if (now == UNSET) {
        enum ft_log_level first = FT_LOG_INFO;
        (void)ft_log_level_parse(environment("JINA_LOG_LEVEL"), &first);
        now = settle(&threshold, (int)first);
    }
    return (enum ft_log_level)now;
}

static const char *level_name(enum ft_log_level level)
{
    switch (level) {
    case FT_LOG_DEBUG:
        return "debug";
    case FT_LOG_INFO:
        return "info";
    case FT_LOG_WARNING:
        return "warning";
    case FT_LOG_ERROR:
    case FT_LOG_OFF:
        break;
    }
    return "error";
}

/* One event is one line whatever its fields hold. Returns the length with the newline. */
static size_t finish_line(char line[LINE_BYTES], size_t size)
{
    if (size > LINE_BYTES - 2) {
        size = LINE_BYTES - 2;
        while (size > 0 && ((unsigned char)line[size] & 0xc0) == 0x80) {
            size--;
        }
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f) {
            line[i] = '?';
        }
    }
    line[size] = '\n';
    return size + 1;
}

static size_t write_text(char line[LINE_BYTES], const struct ft_log_head *head, const char *fmt, va_list args)
{
    int before = snprintf(line, LINE_BYTES, "%s %s %s ", head->time, head->level, head->room);
    size_t size = before < 0 ? 0 : (size_t)before < LINE_BYTES ? (size_t)before : LINE_BYTES - 1;
    int n = vsnprintf(line + size, LINE_BYTES - size, fmt, args);
    return finish_line(line, size + (n < 0 ? 0 : (size_t)n));
}

void ft_log_line(enum ft_log_level level, const char *room, const char *fmt, ...)
{
    if (level < ft_log_level() || level == FT_LOG_OFF) {
        return;
    }
    char line[LINE_BYTES];
    char when[FT_CLOCK_TEXT];
    ft_clock_iso(ft_clock_unix_ms(), when);
    const struct ft_log_head head = {when, level_name(level), room};
    va_list args;
    va_start(args, fmt);
    size_t size = ft_log_format() == FT_LOG_JSON ? ft_log_json(line, sizeof line, &head, fmt, args)
                                                 : write_text(line, &head, fmt, args);
    va_end(args);
    /* A caller may look at errno after logging; a log that cannot be written has nowhere to complain. */
    int saved = errno;
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written;
    errno = saved;
}
