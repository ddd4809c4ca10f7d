/*
 * log.h - one line per event to stderr: `2026-11-23T22:26:43.123Z info room message key=value ...`, or a JSON
 * object with the members time, level, room, message and one for each key.
 *
 * The message is constant, the values are fields written as key=value by the caller's format; values with
 * blanks are quoted by the caller with %s inside "". An error is logged once, where it is handled. No
 * payloads, tokens or URLs. Level from JINA_LOG_LEVEL or ft_log_level_set(), form from
 * FINETUNER_LOG_FORMAT (text, json) or ft_log_format_set(). Thread-safety: any thread; a
 * line is written with one write().
 */
#ifndef FT_BASE_LOG_H
#define FT_BASE_LOG_H

#include <stdbool.h>

#include "executor/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ft_log_level { FT_LOG_DEBUG, FT_LOG_INFO, FT_LOG_WARNING, FT_LOG_ERROR, FT_LOG_OFF };

/* DEBUG INFO SUCCESS WARNING ERROR CRITICAL (Jina's names, any case). False: unknown, nothing changed. */
bool ft_log_level_parse(const char *text, enum ft_log_level *level);
void ft_log_level_set(enum ft_log_level level);
enum ft_log_level ft_log_level(void); /* the least that is written now */

enum ft_log_format { FT_LOG_TEXT, FT_LOG_JSON };
#define FT_LOG_FORMAT_VARIABLE "FINETUNER_LOG_FORMAT"
/* "text" or "json". False: unknown, nothing changed. */
bool ft_log_format_parse(const char *text, enum ft_log_format *format);
void ft_log_format_set(enum ft_log_format format);
enum ft_log_format ft_log_format(void);
void ft_log_line(enum ft_log_level level, const char *room, const char *fmt, ...) FT_PRINTF(3, 4);

#define FT_LOG_DEBUG_LINE(room, ...) ft_log_line(FT_LOG_DEBUG, room, __VA_ARGS__)
#define FT_LOG_INFO_LINE(room, ...) ft_log_line(FT_LOG_INFO, room, __VA_ARGS__)
#define FT_LOG_WARNING_LINE(room, ...) ft_log_line(FT_LOG_WARNING, room, __VA_ARGS__)
#define FT_LOG_ERROR_LINE(room, ...) ft_log_line(FT_LOG_ERROR, room, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
#endif
