#include "executor/base/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"

struct ft_series {
    const struct ft_metric *family;
    char *labels; /* {a="b"} without the braces, escaped; "" */
    char *values[FT_METRIC_LABELS];
    double born; /* seconds since 1970 */
    _Atomic(double) sum;
    /* How many were at most bounds[i] and more than bounds[i - 1]; the last of them: more than all. */
    atomic_uint_fast64_t counts[FT_METRIC_BOUNDS + 1];
    struct ft_series *next;
};

struct ft_metrics {
    const struct ft_metric *families;
    size_t n_families;
    /* Series are only ever put in front, so that they can be looked for without the lock. */
    _Atomic(struct ft_series *) *series;
    pthread_mutex_t mutex; /* held while one is made: of two who want the same, one makes it */
};

static size_t label_count(const struct ft_metric *family)
{
    size_t n = 0;
    while (n < FT_METRIC_LABELS && family->labels[n] != NULL) {
        n++;
    }
    return n;
}

static void series_free(struct ft_series *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < FT_METRIC_LABELS; i++) {
        ft_free(s->values[i]);
    }
    ft_free(s->labels);
    ft_free(s);
}

void ft_metrics_free(struct ft_metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (size_t i = 0; metrics->series != NULL && i < metrics->n_families; i++) {
        struct ft_series *s = atomic_load(&metrics->series[i]);
        while (s != NULL) {
            struct ft_series *next = s->next;
            series_free(s);
            s = next;
        }
    }
    (void)pthread_mutex_destroy(&metrics->mutex);
    ft_free(metrics->series);
    ft_free(metrics);
}

enum ft_status ft_metrics_new(const struct ft_metric *families, size_t count, struct ft_metrics **metrics,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_metrics *m = NULL;
    *metrics = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *m, &m, err));
    (void)pthread_mutex_init(&m->mutex, NULL);
    m->families = families;
    m->n_families = count;
    FT_TRY(ft_new(count, sizeof *m->series, &m->series, err));
    for (size_t i = 0; i < count; i++) {
        if (label_count(&families[i]) == 0 && ft_metrics_series(m, i, NULL) == NULL) {
            st = FT_FAIL(err, NOMEM, "out of memory for %s", families[i].name);
            goto done;
        }
    }
    *metrics = m;
    m = NULL;
done:
    ft_metrics_free(m);
    return st;
}

/* ---- series */

static enum ft_status put_escaped(struct ft_buf *out, const char *value, struct ft_err *err)
{
    struct ft_bytes rest = ft_bytes_of_text(value);
    while (rest.size > 0) {
        size_t length = ft_utf8_length(rest);
        char c = (char)rest.data[0];
        if (c == '\\' || c == '"' || c == '\n') {
            const char escaped[2] = {'\\', c == '\n' ? 'n' : c};
            FT_RETURN_IF_FAILED(ft_buf_append(out, escaped, sizeof escaped, err));
        } else if (length == 0 || c == '\r') { /* a lone CR is a line's end to some readers */
            length = 1;
            FT_RETURN_IF_FAILED(ft_buf_text(out, "\xef\xbf\xbd", err));
        } else {
            FT_RETURN_IF_FAILED(ft_buf_append(out, rest.data, length, err));
        }
        rest = ft_bytes_of(rest.data + length, rest.size - length);
    }
    return FT_OK;
}

static enum ft_status fill_series(struct ft_series *s, const char *const *values, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    FT_TRY(ft_buf_text(&text, "", err));
    for (size_t i = 0; i < label_count(s->family); i++) {
        FT_TRY(ft_new_text(values[i], &s->values[i], err));
        FT_TRY(ft_buf_printf(&text, err, "%s%s=\"", i > 0 ? "," : "", s->family->labels[i]));
        FT_TRY(put_escaped(&text, values[i], err));
        FT_TRY(ft_buf_text(&text, "\"", err));
    }
    s->labels = (char *)text.data;
    text = (struct ft_buf){0};
done:
    ft_buf_release(&text);
    return st;
}

static struct ft_series *find(struct ft_metrics *metrics, size_t family, const char *const *values)
{
    size_t n = label_count(&metrics->families[family]);
    struct ft_series *s = atomic_load_explicit(&metrics->series[family], memory_order_acquire);
    for (; s != NULL; s = s->next) {
        size_t same = 0;
        while (same < n && strcmp(s->values[same], values[same]) == 0) {
            same++;
        }
        if (same == n) {
            break;
        }
    }
    return s;
}

struct ft_series *ft_metrics_series(struct ft_metrics *metrics, size_t family, const char *const *values)
{
    assert(family < metrics->n_families);
    struct ft_series *s = find(metrics, family, values);
    if (s != NULL) {
        return s;
    }
    struct ft_err err = {0};
    (void)pthread_mutex_lock(&metrics->mutex);
    s = find(metrics, family, values);
    if (s == NULL && ft_new(1, sizeof *s, &s, &err) == FT_OK) {
        s->family = &metrics->families[family];
        s->born = (double)ft_clock_unix_ms() / 1000;
        if (fill_series(s, values, &err) == FT_OK) {
            s->next = atomic_load(&metrics->series[family]);
            atomic_store_explicit(&metrics->series[family], s, memory_order_release);
        } else {
            series_free(s);
            s = NULL;
        }
    }
    (void)pthread_mutex_unlock(&metrics->mutex);
    return s;
}

static void add_to(_Atomic(double) *sum, double x)
{
    double old = atomic_load_explicit(sum, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(sum, &old, old + x, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void ft_series_count(struct ft_series *series, double x)
{
    if (series != NULL) {
        add_to(&series->sum, x);
    }
}

static size_t bound_count(const struct ft_metric *family)
{
    size_t n = 0;
    while (n < FT_METRIC_BOUNDS && family->bounds[n] > 0) {
        n++;
    }
    return n;
}

void ft_series_add(struct ft_series *series, double x)
{
    if (series == NULL) {
        return;
    }
    size_t at = 0;
    size_t n = bound_count(series->family);
    while (at < n && x > series->family->bounds[at]) {
        at++;
    }
    add_to(&series->sum, x);
    (void)atomic_fetch_add_explicit(&series->counts[at], 1, memory_order_relaxed);
}

void ft_series_set(struct ft_series *series, double x)
{
    if (series != NULL) {
        atomic_store_explicit(&series->sum, x, memory_order_relaxed);
    }
}

/* ---- the page */

/* One sample; `extra` is a label of the line's own, or "". */
static enum ft_status put_line(struct ft_buf *out, const struct ft_series *s, const char *suffix,
                               const char *extra, double value, struct ft_err *err)
{
    bool braces = s->labels[0] != '\0' || extra[0] != '\0';
    const char *comma = s->labels[0] != '\0' && extra[0] != '\0' ? "," : "";
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "%s%s%s%s%s%s%s ", s->family->name, suffix, braces ? "{" : "",
                                      s->labels, comma, extra, braces ? "}" : ""));
    return ft_buf_printf(out, err, "%.17g\n", value);
}

static enum ft_status put_counts(struct ft_buf *out, const struct ft_series *s, struct ft_err *err)
{
    uint64_t total = 0;
    size_t n = bound_count(s->family);
    for (size_t i = 0; i <= n; i++) {
        char bound[48] = "le=\"+Inf\"";
        total += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        if (i < n) {
            (void)snprintf(bound, sizeof bound, "le=\"%.9g\"", s->family->bounds[i]);
        }
        if (s->family->kind == FT_METRIC_HISTOGRAM) {
            FT_RETURN_IF_FAILED(put_line(out, s, "_bucket", bound, (double)total, err));
        }
    }
    FT_RETURN_IF_FAILED(put_line(out, s, "_count", "", (double)total, err));
    return put_line(out, s, "_sum", "", atomic_load_explicit(&s->sum, memory_order_relaxed), err);
}

static enum ft_status put_series(struct ft_buf *out, const struct ft_series *s, struct ft_err *err)
{
    switch (s->family->kind) {
    case FT_METRIC_COUNTER:
    case FT_METRIC_GAUGE:
        break;
    case FT_METRIC_SUMMARY:
    case FT_METRIC_HISTOGRAM:
        return put_counts(out, s, err);
    }
    return put_line(out, s, "", "", atomic_load_explicit(&s->sum, memory_order_relaxed), err);
}

static enum ft_status put_head(struct ft_buf *out, const char *name, const char *help, const char *kind,
                               struct ft_err *err)
{
    return ft_buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* Python's client calls a counter x_total's birth x_created. */
static enum ft_status put_created(struct ft_buf *out, const struct ft_metric *family,
                                  const struct ft_series *first, struct ft_err *err)
{
    struct ft_metric born = {.kind = FT_METRIC_GAUGE};
    char name[128];
    size_t length = strlen(family->name);
    length -= family->kind == FT_METRIC_COUNTER ? sizeof "_total" - 1 : 0;
    (void)snprintf(name, sizeof name, "%.*s_created", (int)length, family->name);
    born.name = name;
    FT_RETURN_IF_FAILED(put_head(out, name, family->help, "gauge", err));
    for (const struct ft_series *s = first; s != NULL; s = s->next) {
        const struct ft_series shown = {.family = &born, .labels = s->labels};
        FT_RETURN_IF_FAILED(put_line(out, &shown, "", "", s->born, err));
    }
    return FT_OK;
}

enum ft_status ft_metrics_write(const struct ft_metrics *metrics, struct ft_buf *out, struct ft_err *err)
{
    static const char *const kinds[] = {"counter", "gauge", "summary", "histogram"};
    for (size_t i = 0; i < metrics->n_families; i++) {
        const struct ft_metric *family = &metrics->families[i];
        const struct ft_series *first = atomic_load_explicit(&metrics->series[i], memory_order_acquire);
        if (first == NULL) {
            continue;
        }
        FT_RETURN_IF_FAILED(put_head(out, family->name, family->help, kinds[family->kind], err));
        for (const struct ft_series *s = first; s != NULL; s = s->next) {
            FT_RETURN_IF_FAILED(put_series(out, s, err));
        }
        if (family->created) {
            FT_RETURN_IF_FAILED(put_created(out, family, first, err));
        }
    }
    return FT_OK;
}
