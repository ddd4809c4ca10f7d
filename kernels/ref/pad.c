#include "kernels/ref/ref.h"

/* Index along an axis of x that element i of y shows; -1: the constant. */
static int64_t source_of(int kind, int64_t i, int64_t begin, int64_t extent)
{
    int64_t at = i - begin;
    int64_t period = kind == FT_PAD_WRAP ? extent : 2 * (extent - 1);
    switch ((enum ft_pad)kind) {
    case FT_PAD_CONSTANT:
        return at >= 0 && at < extent ? at : -1;
    case FT_PAD_EDGE:
        return at < 0 ? 0 : at < extent ? at : extent - 1;
    case FT_PAD_REFLECT:
    case FT_PAD_WRAP:
        break;
    }
    if (period == 0) {
        return 0;
    }
    at = (at % period + period) % period;
    return at < extent ? at : period - at;
}

/* Row-major index in x of element `index` of y, or -1. */
static int64_t place_of(const struct ft_attrs *a, const struct ft_type *x, const struct ft_type *y,
                        int64_t index)
{
    int64_t at[FT_MAX_RANK];
    ft_ref_split(y, index, at);
    for (int i = 0; i < x->rank; i++) {
        at[i] = source_of(a->kind, at[i], a->pad_begin[i], ft_extent(x, i));
        if (at[i] < 0) {
            return -1;
        }
    }
    return ft_ref_join(x, at);
}

/* The constant as an element of each type. */
union element {
    double f64;
    int64_t i64;
    int32_t i32;
    bool truth;
};

static union element constant_of(const struct ft_type *t, float alpha)
{
    union element e = {.f64 = (double)alpha};
    if (t->dtype == FT_I64) {
        e.i64 = (int64_t)alpha;
    } else if (t->dtype == FT_I32) {
        e.i32 = (int32_t)alpha;
    } else if (t->dtype == FT_BOOL) {
        e.truth = alpha != 0.0F;
    }
    return e;
}

static void run_pad(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const struct ft_type *y = &k->out[0];
    union element constant = constant_of(y, k->attrs.alpha);
    int64_t count = ft_elements(y);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = place_of(&k->attrs, &k->in[0], y, i);
        ft_ref_move(y, out[0].data, i, from < 0 ? (const void *)&constant : in[0].data, from < 0 ? 0 : from);
    }
}
FT_REF_ROW(pad, run_pad)

static void run_pad_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *dy = in[0].data;
    double *dx = out[0].data;
    ft_ref_zero(&k->out[0], dx);
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t to = place_of(&k->attrs, &k->out[0], &k->in[0], i);
        if (to >= 0) {
            dx[to] += dy[i];
        }
    }
}
FT_REF_ROW(pad_bwd, run_pad_bwd)
