/*
 * clock.h - time: a monotonic clock for durations, the wall clock for records.
 * Thread-safety: any thread.
 */
#ifndef FT_BASE_CLOCK_H
#define FT_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

double ft_clock_seconds(void); /* monotonic, arbitrary origin */
int64_t ft_clock_unix_ms(void);
enum { FT_CLOCK_TEXT = 32 };
/* "2026-11-23T22:26:43.123Z" */
void ft_clock_iso(int64_t unix_ms, char out[FT_CLOCK_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
