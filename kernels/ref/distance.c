#include "kernels/ref/ref.h"

#include <math.h>

static void run_l2_normalize(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    double *y = out[0].data;
    double *norm = out[1].data;
    int64_t rows = ft_elements(&k->out[1]);
    int64_t width = ft_elements(&k->in[0]) / rows;
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (int64_t i = 0; i < width; i++) {
            squares += x[r * width + i] * x[r * width + i];
        }
        norm[r] = sqrt(squares);
        double eps = (double)k->attrs.eps;
        double divisor = norm[r] < eps ? eps : norm[r]; /* a NaN stays */
        for (int64_t i = 0; i < width; i++) {
            y[r * width + i] = x[r * width + i] / divisor;
        }
    }
}
FT_REF_ROW(l2_normalize, run_l2_normalize)

static void run_l2_normalize_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                 const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *y = in[1].data;
    const double *norm = in[2].data;
    double *dx = out[0].data;
    double eps = (double)k->attrs.eps;
    int64_t rows = ft_elements(&k->in[2]);
    int64_t width = ft_elements(&k->in[0]) / rows;
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0.0;
        for (int64_t i = 0; i < width; i++) {
            dot += dy[r * width + i] * y[r * width + i];
        }
        for (int64_t i = 0; i < width; i++) {
            int64_t at = r * width + i;
            dx[at] = norm[r] < eps ? dy[at] / eps : (dy[at] - y[at] * dot) / norm[r];
        }
    }
}
FT_REF_ROW(l2_normalize_bwd, run_l2_normalize_bwd)

static void run_pdist(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *a = in[0].data;
    const double *b = in[1].data;
    double *d = out[0].data;
    int64_t n = ft_extent(&k->in[1], 0);
    int64_t width = ft_extent(&k->in[1], 1);
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        double squares = 0.0;
        for (int64_t l = 0; l < width; l++) {
            double difference = a[i / n * width + l] - b[i % n * width + l];
            squares += difference * difference;
        }
        d[i] = k->attrs.kind == FT_DIST_EUCLIDEAN ? sqrt(squares) : squares;
    }
}
FT_REF_ROW(pdist, run_pdist)

static void run_pdist_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *dd = in[0].data;
    const double *d = in[1].data;
    const double *a = in[2].data;
    const double *b = in[3].data;
    double *da = out[0].data;
    double *db = out[1].data;
    int64_t n = ft_extent(&k->in[3], 0);
    int64_t width = ft_extent(&k->in[3], 1);
    int64_t count = ft_elements(&k->in[0]);
    ft_ref_zero(&k->out[0], da);
    ft_ref_zero(&k->out[1], db);
    for (int64_t i = 0; i < count; i++) {
        double slope = 2.0 * dd[i];
        if (k->attrs.kind == FT_DIST_EUCLIDEAN) {
            slope = d[i] == 0.0 ? 0.0 : dd[i] / d[i];
        }
        for (int64_t l = 0; l < width; l++) {
            double difference = a[i / n * width + l] - b[i % n * width + l];
            da[i / n * width + l] += slope * difference;
            db[i % n * width + l] -= slope * difference;
        }
    }
}
FT_REF_ROW(pdist_bwd, run_pdist_bwd)
