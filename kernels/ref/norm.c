#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

/* Layer normalisation of rows of n. */

static void run_layernorm(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    int64_t rows = ft_elements(&k->out[1]);
    int64_t n = ft_elements(&k->in[1]);
    const double *scale = in[1].data;
    const double *bias = k->n_in == 3 ? in[2].data : NULL;
    double *means = out[1].data;
    double *invstds = out[2].data;
    for (int64_t r = 0; r < rows; r++) {
        const double *x = (const double *)in[0].data + r * n;
        double *y = (double *)out[0].data + r * n;
        double sum = 0.0;
        double squares = 0.0;
        for (int64_t i = 0; i < n; i++) {
            sum += x[i];
        }
        double mean = sum / (double)n;
        for (int64_t i = 0; i < n; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        double invstd = 1.0 / sqrt(squares / (double)n + (double)k->attrs.eps);
        for (int64_t i = 0; i < n; i++) {
            y[i] = (x[i] - mean) * invstd * scale[i] + (bias != NULL ? bias[i] : 0.0);
        }
        means[r] = mean;
        invstds[r] = invstd;
    }
}
FT_REF_ROW(layernorm, run_layernorm)

static void run_layernorm_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                              const struct ft_arg *out)
{
    int64_t rows = ft_elements(&k->in[3]);
    int64_t n = ft_elements(&k->in[2]);
    const double *scale = in[2].data;
    double *dscale = out[1].data;
    double *dbias = out[2].data;
    ft_ref_zero(&k->out[1], dscale);
    ft_ref_zero(&k->out[2], dbias);
    for (int64_t r = 0; r < rows; r++) {
        const double *dy = (const double *)in[0].data + r * n;
        const double *x = (const double *)in[1].data + r * n;
        double mean = ((const double *)in[3].data)[r];
        double invstd = ((const double *)in[4].data)[r];
        double *dx = (double *)out[0].data + r * n;
        double sum = 0.0;
        double dot = 0.0;
        for (int64_t i = 0; i < n; i++) {
            double normal = (x[i] - mean) * invstd;
            sum += dy[i] * scale[i];
            dot += dy[i] * scale[i] * normal;
            dscale[i] += dy[i] * normal;
            dbias[i] += dy[i];
        }
        for (int64_t i = 0; i < n; i++) {
            double normal = (x[i] - mean) * invstd;
            dx[i] = invstd * (dy[i] * scale[i] - sum / (double)n - normal * dot / (double)n);
        }
    }
}
FT_REF_ROW(layernorm_bwd, run_layernorm_bwd)
