#include "executor/cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/clock.h"

enum { BAR_WIDTH = 24 };

enum ft_status ft_print_json(const struct ft_json *json, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_write(json, 0, &text, err));
    FT_TRY(ft_buf_text(&text, "\n", err));
    if (fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout) != 0) {
        st = FT_FAIL(err, IO, "cannot write to standard output");
    }
done:
    ft_buf_release(&text);
    return st;
}

enum ft_status ft_print_json_list(const char *key, struct ft_json *take_array, struct ft_err *err)
{
    struct ft_json *object = ft_json_object();
    if (object == NULL) {
        ft_json_free(take_array);
        return FT_FAIL(err, NOMEM, "out of memory");
    }
    enum ft_status st = ft_json_set(object, key, take_array, err);
    st = st == FT_OK ? ft_print_json(object, err) : st;
    ft_json_free(object);
    return st;
}

const char *ft_count_text(int64_t n, char out[FT_COUNT_TEXT])
{
    char digits[FT_COUNT_TEXT];
    int size = snprintf(digits, sizeof digits, "%" PRId64, n);
    int at = 0;
    for (int i = 0; i < size && at < FT_COUNT_TEXT - 2; i++) {
        out[at++] = digits[i];
        int left = size - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-') {
            out[at++] = ',';
        }
    }
    out[at] = '\0';
    return out;
}

const char *ft_span_text(double seconds, char out[FT_SPAN_TEXT])
{
    if (!isfinite(seconds) || seconds < 0) {
        (void)snprintf(out, FT_SPAN_TEXT, "-:--:--");
        return out;
    }
    int64_t s = (int64_t)(seconds + 0.5);
    (void)snprintf(out, FT_SPAN_TEXT, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
    return out;
}

void ft_bar_init(struct ft_bar *bar, bool quiet)
{
    *bar = (struct ft_bar){.terminal = isatty(STDERR_FILENO) == 1, .quiet = quiet, .shown = -1};
    ft_bar_begin(bar, 0);
}

void ft_bar_init_terminal(struct ft_bar *bar, bool quiet)
{
    ft_bar_init(bar, quiet);
    bar->quiet = quiet || !bar->terminal;
}

void ft_bar_begin(struct ft_bar *bar, int64_t from)
{
    bar->began = ft_clock_seconds();
    bar->from = from;
}

double ft_bar_pace(const struct ft_bar *bar, int64_t done)
{
    double spent = ft_clock_seconds() - bar->began;
    return spent > 0 ? (double)(done - bar->from) / spent : 0;
}

static void draw_terminal(const char *title, int64_t done, int64_t total, const char *span, const char *rest)
{
    char cells[BAR_WIDTH * 3 + 1];
    int full = total > 0 ? (int)(done * BAR_WIDTH / total) : 0;
    size_t at = 0;
    for (int i = 0; i < BAR_WIDTH; i++) {
        const char *cell = i < full ? "\u2501" : "\u2500"; /* heavy and light line */
        size_t n = strlen(cell);
        memcpy(cells + at, cell, n);
        at += n;
    }
    cells[at] = '\0';
    (void)fprintf(stderr, "\r\033[K%s %s %" PRId64 "/%" PRId64 " eta %s %s", title, cells, done, total, span,
                  rest);
    (void)fflush(stderr);
}

void ft_bar_draw(struct ft_bar *bar, const char *title, int64_t done, int64_t total, const char *rest)
{
    double pace = ft_bar_pace(bar, done);
    ft_bar_draw_eta(bar, title, done, total, pace > 0 ? (double)(total - done) / pace : -1, rest);
}

void ft_bar_draw_eta(struct ft_bar *bar, const char *title, int64_t done, int64_t total, double eta_seconds,
                     const char *rest)
{
    char span[FT_SPAN_TEXT];
    if (bar->quiet) {
        return;
    }
    if (bar->terminal) {
        double now = ft_clock_seconds();
        if (done < total && now - bar->drawn < 0.1) {
            return;
        }
        bar->drawn = now;
        draw_terminal(title, done, total, ft_span_text(eta_seconds, span), rest);
        return;
    }
    int64_t tenth = total > 0 ? done * 10 / total : 0;
    if (tenth != bar->shown) {
        bar->shown = tenth;
        (void)fprintf(stderr, "%s %" PRId64 "/%" PRId64 " eta %s %s\n", title, done, total,
                      ft_span_text(eta_seconds, span), rest);
    }
}

void ft_bar_clear(struct ft_bar *bar)
{
    if (bar->terminal && !bar->quiet) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
    bar->shown = -1;
}
