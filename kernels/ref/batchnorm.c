#include "kernels/ref/ref.h"

#include <math.h>

/* (N, C, S...) as images x channels x plane. Element i of channel c, in order, is at channel_at(s, c, i). */
struct shape {
    int64_t images, channels, plane;
};

static struct shape shape_of(const struct ft_type *x)
{
    struct shape s = {
        .images = ft_extent(x, 0), .channels = ft_extent(x, 1), .plane = ft_ref_extent(x, 2, x->rank)};
    return s;
}

static int64_t channel_at(const struct shape *s, int64_t c, int64_t i)
{
    return (i / s->plane * s->channels + c) * s->plane + i % s->plane;
}

static void run_batchnorm(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct shape s = shape_of(&k->in[0]);
    const double *x = in[0].data;
    const double *scale = in[1].data;
    const double *bias = in[2].data;
    const double *mean = in[3].data;
    const double *var = in[4].data;
    double *y = out[0].data;
    for (int64_t c = 0; c < s.channels; c++) {
        double invstd = 1.0 / sqrt(var[c] + (double)k->attrs.eps);
        for (int64_t i = 0; i < s.images * s.plane; i++) {
            int64_t at = channel_at(&s, c, i);
            y[at] = (x[at] - mean[c]) * invstd * scale[c] + bias[c];
        }
    }
}
FT_REF_ROW(batchnorm, run_batchnorm)

static void run_batchnorm_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                              const struct ft_arg *out)
{
    struct shape s = shape_of(&k->in[1]);
    const double *dy = in[0].data;
    const double *x = in[1].data;
    const double *scale = in[2].data;
    const double *mean = in[3].data;
    const double *var = in[4].data;
    double *dx = out[0].data;
    double *dscale = out[1].data;
    double *dbias = out[2].data;
    for (int64_t c = 0; c < s.channels; c++) {
        double invstd = 1.0 / sqrt(var[c] + (double)k->attrs.eps);
        dscale[c] = 0.0;
        dbias[c] = 0.0;
        for (int64_t i = 0; i < s.images * s.plane; i++) {
            int64_t at = channel_at(&s, c, i);
            dscale[c] += dy[at] * (x[at] - mean[c]) * invstd;
            dbias[c] += dy[at];
            dx[at] = dy[at] * scale[c] * invstd;
        }
    }
}
FT_REF_ROW(batchnorm_bwd, run_batchnorm_bwd)

/* Mean and biased variance of a channel, in two passes. */
static void moments(const struct shape *s, const double *x, int64_t c, double *mean, double *var)
{
    int64_t count = s->images * s->plane;
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += x[channel_at(s, c, i)];
    }
    *mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        double d = x[channel_at(s, c, i)] - *mean;
        squares += d * d;
    }
    *var = squares / (double)count;
}

static void run_batchnorm_train(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                const struct ft_arg *out)
{
    struct shape s = shape_of(&k->in[0]);
    const double *x = in[0].data;
    const double *scale = in[1].data;
    const double *bias = in[2].data;
    const double *old_mean = in[3].data;
    const double *old_var = in[4].data;
    double *y = out[0].data;
    double *save_mean = out[1].data;
    double *save_invstd = out[2].data;
    double *new_mean = out[3].data;
    double *new_var = out[4].data;
    double count = (double)(s.images * s.plane);
    double m = (double)k->attrs.momentum;
    for (int64_t c = 0; c < s.channels; c++) {
        double mean = 0.0;
        double var = 0.0;
        moments(&s, x, c, &mean, &var);
        double invstd = 1.0 / sqrt(var + (double)k->attrs.eps);
        for (int64_t i = 0; i < s.images * s.plane; i++) {
            int64_t at = channel_at(&s, c, i);
            y[at] = (x[at] - mean) * invstd * scale[c] + bias[c];
        }
        save_mean[c] = mean;
        save_invstd[c] = invstd;
        new_mean[c] = (1.0 - m) * old_mean[c] + m * mean;
        new_var[c] = (1.0 - m) * old_var[c] + m * var * count / (count - 1.0);
    }
}
FT_REF_ROW(batchnorm_train, run_batchnorm_train)

static void run_batchnorm_train_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                    const struct ft_arg *out)
{
    struct shape s = shape_of(&k->in[1]);
    const double *dy = in[0].data;
    const double *x = in[1].data;
    const double *scale = in[2].data;
    const double *mean = in[3].data;
    const double *invstd = in[4].data;
    double *dx = out[0].data;
    double *dscale = out[1].data;
    double *dbias = out[2].data;
    double count = (double)(s.images * s.plane);
    for (int64_t c = 0; c < s.channels; c++) {
        double sum = 0.0;
        double dot = 0.0;
        for (int64_t i = 0; i < s.images * s.plane; i++) {
            int64_t at = channel_at(&s, c, i);
            sum += dy[at];
            dot += dy[at] * (x[at] - mean[c]) * invstd[c];
        }
        for (int64_t i = 0; i < s.images * s.plane; i++) {
            int64_t at = channel_at(&s, c, i);
            double normal = (x[at] - mean[c]) * invstd[c];
            dx[at] = scale[c] * invstd[c] * (dy[at] - sum / count - normal * dot / count);
        }
        dscale[c] = dot;
        dbias[c] = sum;
    }
}
FT_REF_ROW(batchnorm_train_bwd, run_batchnorm_train_bwd)

static void run_fold(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *w = in[0].data;
    const double *scale = in[1].data;
    const double *bias = in[2].data;
    const double *mean = in[3].data;
    const double *var = in[4].data;
    double *w_out = out[0].data;
    double *b_out = out[1].data;
    int64_t features = ft_extent(&k->in[0], 0);
    int64_t taps = ft_elements(&k->in[0]) / features;
    for (int64_t m = 0; m < features; m++) {
        double factor = scale[m] / sqrt(var[m] + (double)k->attrs.eps);
        double b = k->n_in == 6 ? ((const double *)in[5].data)[m] : 0.0;
        b_out[m] = (b - mean[m]) * factor + bias[m];
        for (int64_t i = 0; i < taps; i++) {
            w_out[m * taps + i] = w[m * taps + i] * factor;
        }
    }
}
FT_REF_ROW(fold_batchnorm, run_fold)
