#include "kernels/ref/ref.h"

#include <math.h>

#include "executor/base/rand.h"

/* y = f(x) and dx = f(dy, other), element by element; `a` is the attributes. */
#define FT_REF_UNARY(name, expression)                                                                       \
    static void run_##name(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out) \
    {                                                                                                        \
        const struct ft_attrs *a = &k->attrs;                                                                \
        const double *xs = in[0].data;                                                                       \
        double *ys = out[0].data;                                                                            \
        int64_t count = ft_elements(&k->out[0]);                                                             \
        (void)a;                                                                                             \
        for (int64_t i = 0; i < count; i++) {                                                                \
            double x = xs[i];                                                                                \
            ys[i] = (expression);                                                                            \
        }                                                                                                    \
    }                                                                                                        \
    FT_REF_ROW(name, run_##name)

#define FT_REF_UNARY_BWD(name, expression)                                                                   \
    static void run_##name(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out) \
    {                                                                                                        \
        const struct ft_attrs *a = &k->attrs;                                                                \
        const double *dys = in[0].data;                                                                      \
        const double *xs = in[1].data;                                                                       \
        double *dxs = out[0].data;                                                                           \
        int64_t count = ft_elements(&k->out[0]);                                                             \
        (void)a;                                                                                             \
        for (int64_t i = 0; i < count; i++) {                                                                \
            double dy = dys[i];                                                                              \
            double x = xs[i]; /* the forward pass's input or result, as the row says */                      \
            dxs[i] = (expression);                                                                           \
        }                                                                                                    \
    }                                                                                                        \
    FT_REF_ROW(name, run_##name)

static double clamp(double x, double lo, double hi)
{
    double y = x < lo ? lo : x; /* a NaN stays, as in torch.clamp */
    return y > hi ? hi : y;
}

FT_REF_UNARY(relu, x < 0.0 ? 0.0 : x)
FT_REF_UNARY_BWD(relu_bwd, x > 0.0 ? dy : 0.0)
FT_REF_UNARY(leaky_relu, x > 0.0 ? x : (double)a->alpha * x)
FT_REF_UNARY_BWD(leaky_relu_bwd, x > 0.0 ? dy : (double)a->alpha * dy)
FT_REF_UNARY(sigmoid, 1.0 / (1.0 + exp(-x)))
FT_REF_UNARY_BWD(sigmoid_bwd, dy *x *(1.0 - x))
FT_REF_UNARY(tanh, tanh(x))
FT_REF_UNARY_BWD(tanh_bwd, dy *(1.0 - x * x))
FT_REF_UNARY(clip, clamp(x, (double)a->lo, (double)a->hi))
FT_REF_UNARY_BWD(clip_bwd, x > (double)a->lo && x < (double)a->hi ? dy : 0.0)
FT_REF_UNARY(exp, exp(x))
FT_REF_UNARY(log, log(x))
FT_REF_UNARY(sqrt, sqrt(x))
FT_REF_UNARY(neg, -x)
FT_REF_UNARY(scale, (double)a->alpha *x + (double)a->beta)

#define FT_REF_BINARY(name, expression)                                                                      \
    static void run_##name(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out) \
    {                                                                                                        \
        const double *as = in[0].data;                                                                       \
        const double *bs = in[1].data;                                                                       \
        double *ys = out[0].data;                                                                            \
        int64_t count = ft_elements(&k->out[0]);                                                             \
        for (int64_t i = 0; i < count; i++) {                                                                \
            double a = as[ft_ref_broadcast(&k->out[0], i, &k->in[0])];                                       \
            double b = bs[ft_ref_broadcast(&k->out[0], i, &k->in[1])];                                       \
            ys[i] = (expression);                                                                            \
        }                                                                                                    \
    }                                                                                                        \
    enum ft_status ft_ref_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        if (call->in[0].dtype == FT_I64) {                                                                   \
            return ft_ref_integers(device, call, kernel, scratch, err);                                      \
        }                                                                                                    \
        return ft_ref_new(device, call, run_##name, kernel, scratch, err);                                   \
    }

/* A NaN wins. */
static double larger(double a, double b)
{
    return a > b || isnan(a) ? a : b;
}

static double smaller(double a, double b)
{
    return a < b || isnan(a) ? a : b;
}

FT_REF_BINARY(add, a + b)
FT_REF_BINARY(sub, a - b)
FT_REF_BINARY(mul, a *b)
FT_REF_BINARY(div, a / b)
FT_REF_BINARY(pow, pow(a, b))
FT_REF_BINARY(maximum, larger(a, b))
FT_REF_BINARY(minimum, smaller(a, b))
FT_REF_BINARY(mod, fmod(a, b))

static void run_dropout(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    const int64_t *rng = in[1].data;
    double *y = out[0].data;
    float p = k->attrs.alpha;
    struct ft_rand r =
        ft_rand_at((uint64_t)rng[0], FT_RAND_DROPOUT, (uint64_t)rng[1] << 20 | (uint64_t)k->attrs.node);
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        y[i] = ft_rand_float(r, (uint64_t)i) >= p ? x[i] / (1.0 - (double)p) : 0.0;
    }
}
FT_REF_ROW(dropout, run_dropout)
