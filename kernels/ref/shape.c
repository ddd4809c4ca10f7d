#include "kernels/ref/ref.h"

#include <string.h>

/* ---- reductions */

/* Adds every element of x to the element of y that has its coordinates on the axes not reduced. */
static void sum_axes(const struct ft_ref_kernel *k, const double *x, double *y)
{
    struct ft_type kept = k->in[0]; /* the result with keepdims */
    for (int i = 0; i < k->attrs.axes_count; i++) {
        kept.dim[k->attrs.axes[i]] = ft_dim_of(1);
    }
    ft_ref_zero(&k->out[0], y);
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        y[ft_ref_broadcast(&k->in[0], i, &kept)] += x[i];
    }
}

static void run_reduce_sum(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    sum_axes(k, in[0].data, out[0].data);
}
FT_REF_ROW(reduce_sum, run_reduce_sum)

static void run_reduce_mean(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    double *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    double each = (double)ft_elements(&k->in[0]) / (double)count;
    sum_axes(k, in[0].data, y);
    for (int64_t i = 0; i < count; i++) {
        y[i] /= each;
    }
}
FT_REF_ROW(reduce_mean, run_reduce_mean)

static void run_sum_to(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const double *x = in[0].data;
    double *y = out[0].data;
    ft_ref_zero(&k->out[0], y);
    int64_t count = ft_elements(&k->in[0]);
    for (int64_t i = 0; i < count; i++) {
        y[ft_ref_broadcast(&k->in[0], i, &k->out[0])] += x[i];
    }
}
FT_REF_ROW(sum_to, run_sum_to)

/* ---- moving elements */

static void run_expand_to(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = ft_ref_broadcast(&k->out[0], i, &k->in[0]);
        ft_ref_move(&k->out[0], out[0].data, i, in[0].data, from);
    }
}
FT_REF_ROW(expand_to, run_expand_to)

static void run_copy(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    memmove(out[0].data, in[0].data, ft_type_bytes(&k->out[0]));
}
FT_REF_ROW(reshape, run_copy)
FT_REF_ROW(reshape_like, run_copy)

static void run_transpose(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t to[FT_MAX_RANK] = {0};
        int64_t from[FT_MAX_RANK] = {0};
        ft_ref_split(&k->out[0], i, to);
        for (int axis = 0; axis < k->out[0].rank; axis++) {
            from[k->attrs.perm[axis]] = to[axis];
        }
        ft_ref_move(&k->out[0], out[0].data, i, in[0].data, ft_ref_join(&k->in[0], from));
    }
}
FT_REF_ROW(transpose, run_transpose)

/* Copies `part` to where `whole` has it along the axis: from a.start on in steps of a.step; or back. */
static void copy_part(const struct ft_type *part, const struct ft_type *whole, const struct ft_attrs *a,
                      const void *from, void *to, bool back)
{
    int64_t step = a->step == 0 ? 1 : a->step;
    int64_t count = ft_elements(part);
    for (int64_t i = 0; i < count; i++) {
        int64_t at[FT_MAX_RANK];
        ft_ref_split(part, i, at);
        at[a->axis] = a->start + at[a->axis] * step;
        int64_t j = ft_ref_join(whole, at);
        ft_ref_move(part, to, back ? i : j, from, back ? j : i);
    }
}

static void run_concat(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct ft_attrs at = {.axis = k->attrs.axis};
    for (int i = 0; i < k->n_in; i++) {
        copy_part(&k->in[i], &k->out[0], &at, in[i].data, out[0].data, false);
        at.start += ft_extent(&k->in[i], at.axis);
    }
}
FT_REF_ROW(concat, run_concat)

static void run_slice(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    copy_part(&k->out[0], &k->in[0], &k->attrs, in[0].data, out[0].data, true);
}
FT_REF_ROW(slice, run_slice)

static void run_pad_like(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    ft_ref_zero(&k->out[0], out[0].data);
    copy_part(&k->in[0], &k->out[0], &k->attrs, in[0].data, out[0].data, false);
}
FT_REF_ROW(pad_like, run_pad_like)
