#include "executor/cli/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void ft_screen_init(struct ft_screen *screen, bool quiet, bool json)
{
    screen->quiet = quiet;
    ft_bar_init(&screen->bar, quiet);
    ft_bar_init_terminal(&screen->stage, quiet || json);
}

static void on_progress(void *arg, const struct ft_fit_progress *p)
{
    struct ft_screen *screen = arg;
    char title[64];
    char rest[160];
    (void)snprintf(title, sizeof title, "Training [%" PRId64 "/%" PRId64 "]", p->epoch, p->epochs);
    int n = snprintf(rest, sizeof rest, "loss %.4f  %.0f samples/s", p->loss, p->samples_per_second);
    if (p->active_share >= 0 && n > 0) {
        (void)snprintf(rest + n, sizeof rest - (size_t)n, "  active %.0f%%", 100.0 * p->active_share);
    }
    ft_bar_draw_eta(&screen->bar, title, p->step, p->steps, p->eta_seconds, rest);
}

static void on_stage(void *arg, const char *title, int64_t done, int64_t total, double eta_seconds)
{
    struct ft_screen *screen = arg;
    ft_bar_draw_eta(&screen->stage, title, done, total, eta_seconds, "");
}

static void on_note(void *arg, const char *line)
{
    struct ft_screen *screen = arg;
    ft_bar_clear(&screen->bar);
    if (!screen->quiet) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static void on_metrics(void *arg, const char *when, int64_t epoch, const struct ft_json *metrics)
{
    struct ft_screen *screen = arg;
    ft_bar_clear(&screen->bar);
    if (!screen->quiet && strcmp(when, "epoch") == 0) {
        (void)fprintf(stderr, "epoch %" PRId64 ":", epoch);
        for (struct ft_json_iter *it = ft_json_first(metrics); it != NULL; it = ft_json_next(metrics, it)) {
            if (ft_json_is_number(ft_json_value(it))) {
                (void)fprintf(stderr, " %s %.4f", ft_json_key(it), ft_json_real(ft_json_value(it)));
            }
        }
        (void)fputc('\n', stderr);
    }
}

struct ft_fit_events ft_screen_events(struct ft_screen *screen)
{
    return (struct ft_fit_events){screen, on_progress, on_note, on_metrics, on_stage};
}

void ft_print_before_after(const struct ft_json *before, const struct ft_json *after)
{
    printf("%-20s %9s %9s\n", "metric", "before", "after");
    for (struct ft_json_iter *it = ft_json_first(after); it != NULL; it = ft_json_next(after, it)) {
        const struct ft_json *old = ft_json_get(before, ft_json_key(it));
        printf("%-20s %9.4f %9.4f\n", ft_json_key(it), ft_json_real(old), ft_json_real(ft_json_value(it)));
    }
}

void ft_screen_summary(const struct ft_json *summary)
{
    const struct ft_json *metrics = ft_json_get(summary, "metrics");
    const struct ft_json *before = ft_json_get(metrics, "before");
    const struct ft_json *after = ft_json_get(metrics, "after");
    if (ft_json_count(after) > 0) {
        ft_print_before_after(before, after);
    }
    const char *out = ft_json_text(ft_json_get(summary, "out"), NULL);
    printf("%" PRId64 " steps, %" PRId64 " epochs, %.0f samples/s, %.1f s, peak memory %.0f MB%s%s\n",
           ft_json_int(ft_json_get(summary, "steps")), ft_json_int(ft_json_get(summary, "epochs")),
           ft_json_real(ft_json_get(summary, "samples_per_second")),
           ft_json_real(ft_json_get(summary, "seconds")),
           ft_json_real(ft_json_get(summary, "peak_memory_bytes")) / 1e6, out != NULL ? "\nartifact: " : "",
           out != NULL ? out : "");
}
