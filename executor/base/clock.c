#include "executor/base/clock.h"

#include <stdio.h>
#include <time.h>

double ft_clock_seconds(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t ft_clock_unix_ms(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Days since 1970-01-01 to a date of the proleptic Gregorian calendar, counted in years that begin in March
 * (H. Hinnant, "chrono-compatible low-level date algorithms"): the C library's own call keeps state. */
static void date_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t in_era = days - era * 146097;
    int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;
    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2 ? 1 : 0);
}

void ft_clock_iso(int64_t unix_ms, char out[FT_CLOCK_TEXT])
{
    const int64_t day_ms = 86400000;
    int64_t days = unix_ms / day_ms;
    int64_t ms = unix_ms % day_ms;
    if (ms < 0) {
        ms += day_ms;
        days--;
    }
    int64_t year = 0;
    int month = 0;
    int day = 0;
    date_of(days, &year, &month, &day);
    int n = snprintf(out, FT_CLOCK_TEXT, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ", (long long)year, month, day,
                     (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000));
    if (n < 0) {
        out[0] = '\0';
    }
}
