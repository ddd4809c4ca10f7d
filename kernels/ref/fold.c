#include <math.h>

#include "kernels/ref/ref.h"

/* Reductions that are not sums. For each element of x, the element of y that it goes into. */

static bool is_reduced(const struct ft_attrs *attrs, int axis)
{
    for (int i = 0; i < attrs->axes_count; i++) {
        if (attrs->axes[i] == axis) {
            return true;
        }
    }
    return false;
}

static int64_t goes_to(const struct ft_attrs *attrs, const struct ft_type *x, int64_t index)
{
    int64_t at[FT_MAX_RANK];
    int64_t to = 0;
    ft_ref_split(x, index, at);
    for (int i = 0; i < x->rank; i++) {
        if (!is_reduced(attrs, i)) {
            to = to * ft_extent(x, i) + at[i];
        }
    }
    return to;
}

static double neutral(enum ft_reduce_kind fold)
{
    return fold == FT_FOLD_PROD ? 1.0 : fold == FT_FOLD_MIN ? INFINITY : -INFINITY;
}

/* The first pass: of a log of sums the largest exponent. A NaN stays. */
static double folded(enum ft_reduce_kind fold, double y, double x)
{
    if (fold == FT_FOLD_PROD) {
        return y * x;
    }
    bool takes = fold == FT_FOLD_MIN ? x < y : x > y;
    return takes || isnan(x) ? x : y;
}

static void run_reduce(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    enum ft_reduce_kind fold = (enum ft_reduce_kind)k->attrs.kind;
    const struct ft_type *type = &k->in[0];
    const double *x = in[0].data;
    double *y = out[0].data;
    int64_t results = ft_elements(&k->out[0]);
    for (int64_t o = 0; o < results; o++) {
        y[o] = neutral(fold);
    }
    for (int64_t i = 0; i < ft_elements(type); i++) {
        int64_t o = goes_to(&k->attrs, type, i);
        y[o] = folded(fold, y[o], x[i]);
    }
    for (int64_t o = 0; fold == FT_FOLD_LOG_SUM_EXP && o < results; o++) {
        double shift = isfinite(y[o]) ? y[o] : 0.0;
        double sum = 0.0;
        for (int64_t i = 0; i < ft_elements(type); i++) {
            sum += goes_to(&k->attrs, type, i) == o ? exp(x[i] - shift) : 0.0;
        }
        y[o] = shift + log(sum);
    }
}
FT_REF_ROW(reduce, run_reduce)

/* d y[o] / d x[i] */
static double slope(const struct ft_ref_kernel *k, const double *x, const double *y, int64_t i, int64_t o)
{
    enum ft_reduce_kind fold = (enum ft_reduce_kind)k->attrs.kind;
    const struct ft_type *type = &k->in[1];
    double others = 1.0;
    double ties = 0.0;
    if (fold == FT_FOLD_LOG_SUM_EXP) {
        return exp(x[i] - y[o]);
    }
    if (fold != FT_FOLD_PROD && x[i] != y[o]) {
        return 0.0;
    }
    for (int64_t j = 0; j < ft_elements(type); j++) {
        if (goes_to(&k->attrs, type, j) == o) {
            others *= j == i ? 1.0 : x[j];
            ties += x[j] == y[o];
        }
    }
    return fold == FT_FOLD_PROD ? others : 1.0 / ties;
}

static void run_reduce_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *dy = in[0].data;
    const double *x = in[1].data;
    const double *y = in[2].data;
    double *dx = out[0].data;
    for (int64_t i = 0; i < ft_elements(&k->in[1]); i++) {
        int64_t o = goes_to(&k->attrs, &k->in[1], i);
        dx[i] = dy[o] * slope(k, x, y, i, o);
    }
}
FT_REF_ROW(reduce_bwd, run_reduce_bwd)
