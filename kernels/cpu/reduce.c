#include <string.h>

#include "kernels/cpu/reduce.h"

/*
 * Sums over axes, in any layout. The axes of x in memory order are kept or summed; if the innermost is kept,
 * rows are added to a vector of accumulators (a bias gradient, the mean over pixels channels-last), else runs
 * are summed to one number. Long sums are cut into lanes whose number depends on the shape alone; partial
 * sums are doubles.
 */

struct reduce {
    struct ft_kernel head;
    struct ft_reduce axes;
    int64_t lanes;
    float scale;
};

struct reduce_job {
    const struct reduce *k;
    const struct ft_vec *vec;
    const float *x;
    float *y;
    double *partial; /* (kept, lanes, inner) */
};

int64_t ft_reduce_offset(const struct ft_reduce_axes *a, const int64_t *stride, int64_t index)
{
    int64_t offset = 0;
    for (int i = a->rank - 1; i >= 0; i--) {
        offset += index % a->extent[i] * stride[i];
        index /= a->extent[i];
    }
    return offset;
}

/* Add elements begin .. end - 1 of the summed axes, run by run along the last of them. */
static void sum_range(const struct reduce_job *job, const float *x, int64_t begin, int64_t end, double *acc)
{
    const struct reduce *k = job->k;
    const struct ft_reduce *a = &k->axes;
    int last = a->summed.rank - 1;
    int64_t extent = last >= 0 ? a->summed.extent[last] : 1;
    int64_t stride = last >= 0 ? a->summed.x[last] : 0;
    for (int64_t at = begin; at < end;) {
        int64_t run = extent - at % extent;
        run = run < end - at ? run : end - at;
        const float *from = x + ft_reduce_offset(&a->summed, a->summed.x, at);
        if (a->inner_kept) {
            job->vec->col_sum(from, run, stride, a->inner, acc);
        } else {
            acc[0] += job->vec->sum(from, (size_t)run);
        }
        at += run;
    }
}

static void finish(const struct reduce_job *job, int64_t kept)
{
    const struct reduce *k = job->k;
    const struct ft_reduce *a = &k->axes;
    float *y = job->y + ft_reduce_offset(&a->kept, a->kept.y, kept);
    const double *partial = job->partial + kept * k->lanes * a->inner;
    for (int64_t c = 0; c < a->inner; c++) {
        double total = 0;
        for (int64_t lane = 0; lane < k->lanes; lane++) {
            total += partial[lane * a->inner + c];
        }
        y[c * a->inner_y] = (float)(total * (double)k->scale);
    }
}

static void sum_items(void *context, int thread, int64_t begin, int64_t end)
{
    const struct reduce_job *job = context;
    const struct reduce *k = job->k;
    const struct ft_reduce *a = &k->axes;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t kept = item / k->lanes;
        int64_t lane = item % k->lanes;
        double *acc = job->partial + item * a->inner;
        memset(acc, 0, (size_t)a->inner * sizeof *acc);
        sum_range(job, job->x + ft_reduce_offset(&a->kept, a->kept.x, kept),
                  a->summed.count * lane / k->lanes, a->summed.count * (lane + 1) / k->lanes, acc);
        if (k->lanes == 1) {
            finish(job, kept);
        }
    }
}

static enum ft_status reduce_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                 void *scratch, struct ft_err *err)
{
    (void)err;
    const struct reduce *k = (const struct reduce *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    const struct ft_reduce *a = &k->axes;
    struct reduce_job job = {
        .k = k, .vec = cpu->vec, .x = ft_in(in, 0), .y = ft_out(out, 0), .partial = scratch};
    ft_cpu_items(cpu, a->kept.count * k->lanes, a->summed.count * a->inner / k->lanes + 1, sum_items, &job);
    for (int64_t kept = 0; k->lanes > 1 && kept < a->kept.count; kept++) {
        finish(&job, kept);
    }
    return FT_OK;
}

/* ---- preparation */

static void add_axis(struct ft_reduce_axes *a, const struct ft_nd *nd, int i)
{
    a->extent[a->rank] = nd->extent[i];
    a->x[a->rank] = nd->stride[0][i];
    a->y[a->rank] = nd->stride[1][i];
    a->count *= nd->extent[i];
    a->rank++;
}

void ft_reduce_build(const struct ft_type *x, int64_t strides[2][FT_MAX_RANK], struct ft_reduce *r)
{
    struct ft_nd nd;
    memset(r, 0, sizeof *r);
    ft_nd_build(x, 2, strides, &nd);
    int last = nd.rank - 1;
    r->kept.count = 1;
    r->summed.count = 1;
    r->inner_kept = nd.stride[1][last] != 0;
    r->inner = r->inner_kept ? nd.extent[last] : 1;
    r->inner_y = r->inner_kept ? nd.stride[1][last] : 0;
    for (int i = 0; i < (r->inner_kept ? last : nd.rank); i++) {
        add_axis(nd.stride[1][i] != 0 ? &r->kept : &r->summed, &nd, i);
    }
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call,
                              int64_t strides[][FT_MAX_RANK], struct ft_kernel **kernel, size_t *scratch,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct reduce), reduce_run, kernel, err));
    struct reduce *k = (struct reduce *)(void *)*kernel;
    struct ft_reduce *a = &k->axes;
    ft_reduce_build(&call->in[0], strides, a);
    /* Many results are enough to share out; few long sums are cut. */
    k->lanes = a->kept.count < FT_CPU_LANES ? ft_cpu_lanes(a->summed.count * a->inner) : 1;
    k->lanes = k->lanes < a->summed.count ? k->lanes : a->summed.count;
    k->scale = 1.0F;
    if (call->op == FT_OP_REDUCE_MEAN) {
        k->scale = (float)((double)ft_elements(&call->out[0]) / (double)ft_elements(&call->in[0]));
    }
    *scratch = (size_t)(a->kept.count * k->lanes * a->inner) * sizeof(double);
    return FT_OK;
}

static bool is_summed(const struct ft_attrs *attrs, int axis)
{
    for (int i = 0; i < attrs->axes_count; i++) {
        if (attrs->axes[i] == axis) {
            return true;
        }
    }
    return false;
}

void ft_reduce_strides(const struct ft_attrs *attrs, const struct ft_type *x, const struct ft_type *y,
                       int64_t strides[2][FT_MAX_RANK])
{
    int64_t own[FT_MAX_RANK] = {0};
    memset(strides, 0, sizeof(int64_t[2][FT_MAX_RANK]));
    ft_nd_strides(x, strides[0]);
    ft_nd_strides(y, own);
    int at = 0;
    for (int i = 0; i < x->rank; i++) {
        bool summed = is_summed(attrs, i);
        strides[1][i] = summed ? 0 : own[at];
        at += !summed || attrs->keepdims;
    }
}

static enum ft_status prepare_reduce(struct ft_device *device, const struct ft_call *call,
                                     struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK];
    ft_reduce_strides(&call->attrs, &call->in[0], &call->out[0], strides);
    return prepare(device, call, strides, kernel, scratch, err);
}

enum ft_status ft_cpu_reduce_sum(struct ft_device *device, const struct ft_call *call,
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return prepare_reduce(device, call, kernel, scratch, err);
}

enum ft_status ft_cpu_reduce_mean(struct ft_device *device, const struct ft_call *call,
                                  struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return prepare_reduce(device, call, kernel, scratch, err);
}

enum ft_status ft_cpu_sum_to(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                             size_t *scratch, struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK] = {{0}};
    ft_nd_strides(&call->in[0], strides[0]);
    ft_nd_broadcast(&call->out[0], &call->in[0], strides[1]);
    return prepare(device, call, strides, kernel, scratch, err);
}
