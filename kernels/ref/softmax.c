#include "kernels/ref/ref.h"

#include <math.h>

/* Row r of a tensor along `axis`: element i is at first + i * step. */
struct row {
    int64_t first, step, count;
};

static int64_t rows_of(const struct ft_type *t, int axis)
{
    return ft_elements(t) / ft_extent(t, axis);
}

static struct row row_at(const struct ft_type *t, int axis, int64_t r)
{
    int64_t inner = ft_ref_extent(t, axis + 1, t->rank);
    struct row row = {.step = inner, .count = ft_extent(t, axis)};
    row.first = r / inner * inner * row.count + r % inner;
    return row;
}

/* log(sum(exp(x))) of a row. */
static double log_sum_exp(const double *x, struct row row)
{
    double most = x[row.first];
    double sum = 0.0;
    for (int64_t i = 1; i < row.count; i++) {
        most = fmax(most, x[row.first + i * row.step]);
    }
    for (int64_t i = 0; i < row.count; i++) {
        sum += exp(x[row.first + i * row.step] - most);
    }
    return most + log(sum);
}

static void softmax_rows(const struct ft_ref_kernel *k, const double *x, double *y, bool logarithm)
{
    int64_t rows = rows_of(&k->in[0], k->attrs.axis);
    for (int64_t r = 0; r < rows; r++) {
        struct row row = row_at(&k->in[0], k->attrs.axis, r);
        double all = log_sum_exp(x, row);
        for (int64_t i = 0; i < row.count; i++) {
            int64_t at = row.first + i * row.step;
            y[at] = logarithm ? x[at] - all : exp(x[at] - all);
        }
    }
}

static void run_softmax(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    softmax_rows(k, in[0].data, out[0].data, false);
}
FT_REF_ROW(softmax, run_softmax)

static void run_log_softmax(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    softmax_rows(k, in[0].data, out[0].data, true);
}
FT_REF_ROW(log_softmax, run_log_softmax)

static void run_softmax_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *y = in[1].data;
    double *dx = out[0].data;
    int64_t rows = rows_of(&k->in[0], k->attrs.axis);
    for (int64_t r = 0; r < rows; r++) {
        struct row row = row_at(&k->in[0], k->attrs.axis, r);
        double dot = 0.0;
        for (int64_t i = 0; i < row.count; i++) {
            int64_t at = row.first + i * row.step;
            dot += dy[at] * y[at];
        }
        for (int64_t i = 0; i < row.count; i++) {
            int64_t at = row.first + i * row.step;
            dx[at] = y[at] * (dy[at] - dot);
        }
    }
}
FT_REF_ROW(softmax_bwd, run_softmax_bwd)

static void run_log_softmax_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *y = in[1].data;
    double *dx = out[0].data;
    int64_t rows = rows_of(&k->in[0], k->attrs.axis);
    for (int64_t r = 0; r < rows; r++) {
        struct row row = row_at(&k->in[0], k->attrs.axis, r);
        double sum = 0.0;
        for (int64_t i = 0; i < row.count; i++) {
            sum += dy[row.first + i * row.step];
        }
        for (int64_t i = 0; i < row.count; i++) {
            int64_t at = row.first + i * row.step;
            dx[at] = dy[at] - exp(y[at]) * sum;
        }
    }
}
FT_REF_ROW(log_softmax_bwd, run_log_softmax_bwd)
