#include "kernels/ref/ref.h"

#include <math.h>

/* Outputs may be the inputs' own memory: each element is read before it is written. */

static void run_sum_squares(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    double *y = out[0].data;
    double sum = 0.0;
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        sum += x[i] * x[i];
    }
    y[0] = sum;
}
FT_REF_ROW(sum_squares, run_sum_squares)

static void run_sgd_step(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *p = in[0].data;
    const double *g = in[1].data;
    const double *v = in[2].data;
    const double *hyper = in[3].data;
    double lr = hyper[0];
    double momentum = hyper[1];
    double dampening = hyper[2];
    double decay = hyper[4];
    bool first = hyper[5] == 0.0;
    double *new_p = out[0].data;
    double *new_v = out[1].data;
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        double gradient = g[i] * hyper[7] + decay * p[i];
        double velocity = v[i];
        double step = gradient;
        if (momentum != 0.0) {
            velocity = first ? gradient : momentum * velocity + (1.0 - dampening) * gradient;
            step = k->attrs.kind == 1 ? gradient + momentum * velocity : velocity;
        }
        new_p[i] = p[i] - lr * step;
        new_v[i] = velocity;
    }
}
FT_REF_ROW(sgd_step, run_sgd_step)

static void run_adam_step(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *p = in[0].data;
    const double *g = in[1].data;
    const double *m = in[2].data;
    const double *v = in[3].data;
    const double *hyper = in[4].data;
    double lr = hyper[0];
    double beta1 = hyper[1];
    double beta2 = hyper[2];
    double eps = hyper[3];
    double decay = hyper[4];
    bool decoupled = k->attrs.kind == 1;
    double *new_p = out[0].data;
    double *new_m = out[1].data;
    double *new_v = out[2].data;
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        double gradient = g[i] * hyper[7] + (decoupled ? 0.0 : decay * p[i]);
        double decayed = decoupled ? p[i] * (1.0 - lr * decay) : p[i];
        double first = beta1 * m[i] + (1.0 - beta1) * gradient;
        double second = beta2 * v[i] + (1.0 - beta2) * gradient * gradient;
        new_p[i] = decayed - lr / hyper[5] * first / (sqrt(second) / sqrt(hyper[6]) + eps);
        new_m[i] = first;
        new_v[i] = second;
    }
}
FT_REF_ROW(adam_step, run_adam_step)
