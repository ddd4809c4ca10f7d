/*
 * metrics.h - figures of a service that only grow or come and go, and their page for Prometheus (text format
 * 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * A family is a row of the caller's table; its series are its members with their labels' values. Counting is
 * a few atomic operations without a lock. Values of labels must come from a bounded set, never from a client:
 * a series stays until the end. Thread-safety: any thread.
 */
#ifndef FT_BASE_METRICS_H
#define FT_BASE_METRICS_H

#include <stdbool.h>

#include "executor/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ft_metric_kind {
    FT_METRIC_COUNTER,  /* sum of what was added */
    FT_METRIC_GAUGE,    /* what was set last */
    FT_METRIC_SUMMARY,  /* how many were added, and their sum */
    FT_METRIC_HISTOGRAM /* the same, and how many were at most each of the bounds */
};

enum { FT_METRIC_LABELS = 3, FT_METRIC_BOUNDS = 16 };

struct ft_metric {
    const char *name; /* as on the page: a counter's ends in _total */
    enum ft_metric_kind kind;
    const char *help; /* one line */
    const char *labels[FT_METRIC_LABELS];
    double bounds[FT_METRIC_BOUNDS]; /* of a histogram, ascending; 0 ends them */
    bool created; /* a gauge <name>_created says since when, as Python's client writes it */
};

struct ft_metrics; /* opaque */
struct ft_series;  /* opaque; as long as its metrics */

/* Families are borrowed while it lives; those without labels have their series at once. ft_metrics_free(). */
FT_MUST_CHECK enum ft_status ft_metrics_new(const struct ft_metric *families, size_t count,
                                            struct ft_metrics **metrics, struct ft_err *err);
void ft_metrics_free(struct ft_metrics *metrics); /* NULL is fine */

/* The series of family `family` (its row) with these values, one for each label; made when it is new. NULL:
 * out of memory. A value's bytes that are not UTF-8 are shown as U+FFFD. */
struct ft_series *ft_metrics_series(struct ft_metrics *metrics, size_t family, const char *const *values);
/* A counter grows by x >= 0. NULL is fine. */
void ft_series_count(struct ft_series *series, double x);
/* A summary or histogram takes one more. NULL is fine. */
void ft_series_add(struct ft_series *series, double x);
/* A gauge is x; also a counter that is kept elsewhere. NULL is fine. */
void ft_series_set(struct ft_series *series, double x);

/* Append the page: families in the table's order, those without series left out. */
FT_MUST_CHECK enum ft_status ft_metrics_write(const struct ft_metrics *metrics, struct ft_buf *out,
                                              struct ft_err *err);

#ifdef __cplusplus
}
#endif
#endif
