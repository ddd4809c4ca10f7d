/*
 * log_json.h - a log line as one JSON object; private to base/.
 *
 * The format says what is the message and what are fields (log.h), so that no value can be taken for another
 * field, whatever stands in it: `run ended run=%s status=%s` becomes {"message":"run ended","run":...}.
 */
#ifndef FT_BASE_LOG_JSON_H
#define FT_BASE_LOG_JSON_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ft_log_head {
    const char *time, *level, *room;
};
/* Writes at most `capacity` (> 256) bytes, the last of them a newline; returns how many. What does not fit is
 * left out, values are cut; it stays one valid object. Bytes that are not UTF-8 become U+FFFD. */
size_t ft_log_json(char *line, size_t capacity, const struct ft_log_head *head, const char *fmt,
                   va_list args);

#ifdef __cplusplus
}
#endif
#endif
