#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"

/*
 * Sums over axes, in any layout. The axes of x in memory order are kept or summed; if the innermost is kept,
 * rows are added to a vector of accumulators (a bias gradient, the mean over pixels channels-last), else runs
 * are summed to one number. Long sums are cut into lanes whose number depends on the shape alone; partial
 * sums are doubles.
 */

struct axes {
    int rank;
    int64_t count; /* product of extents */
    int64_t extent[FT_MAX_RANK], x[FT_MAX_RANK], y[FT_MAX_RANK];
};

struct reduce {
    struct ft_kernel head;
    struct axes kept, summed; /* without the innermost axis if that is kept; with it if it is summed */
    bool inner_kept;
    int64_t inner, inner_y; /* its extent (1 if it is summed) and stride in y */
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

static int64_t offset_of(const struct axes *a, const int64_t *stride, int64_t index)
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
    int last = k->summed.rank - 1;
    int64_t extent = last >= 0 ? k->summed.extent[last] : 1;
    int64_t stride = last >= 0 ? k->summed.x[last] : 0;
    for (int64_t at = begin; at < end;) {
        int64_t run = extent - at % extent;
        run = run < end - at ? run : end - at;
        const float *from = x + offset_of(&k->summed, k->summed.x, at);
        if (k->inner_kept) {
            job->vec->col_sum(from, run, stride, k->inner, acc);
        } else {
            acc[0] += job->vec->sum(from, (size_t)run);
        }
        at += run;
    }
}

static void finish(const struct reduce_job *job, int64_t kept)
{
    const struct reduce *k = job->k;
    float *y = job->y + offset_of(&k->kept, k->kept.y, kept);
    const double *partial = job->partial + kept * k->lanes * k->inner;
    for (int64_t c = 0; c < k->inner; c++) {
        double total = 0;
        for (int64_t lane = 0; lane < k->lanes; lane++) {
            total += partial[lane * k->inner + c];
        }
        y[c * k->inner_y] = (float)(total * (double)k->scale);
    }
}

static void sum_items(void *context, int thread, int64_t begin, int64_t end)
{
    const struct reduce_job *job = context;
    const struct reduce *k = job->k;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        int64_t kept = item / k->lanes;
        int64_t lane = item % k->lanes;
        double *acc = job->partial + item * k->inner;
        memset(acc, 0, (size_t)k->inner * sizeof *acc);
        sum_range(job, job->x + offset_of(&k->kept, k->kept.x, kept), k->summed.count * lane / k->lanes,
                  k->summed.count * (lane + 1) / k->lanes, acc);
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
    struct reduce_job job = {
        .k = k, .vec = cpu->vec, .x = ft_in(in, 0), .y = ft_out(out, 0), .partial = scratch};
    ft_cpu_items(cpu, k->kept.count * k->lanes, k->summed.count * k->inner / k->lanes + 1, sum_items, &job);
    for (int64_t kept = 0; k->lanes > 1 && kept < k->kept.count; kept++) {
        finish(&job, kept);
    }
    return FT_OK;
}

/* ---- preparation */

static void add_axis(struct axes *a, const struct ft_nd *nd, int i)
{
    a->extent[a->rank] = nd->extent[i];
    a->x[a->rank] = nd->stride[0][i];
    a->y[a->rank] = nd->stride[1][i];
    a->count *= nd->extent[i];
    a->rank++;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call,
                              int64_t strides[][FT_MAX_RANK], struct ft_kernel **kernel, size_t *scratch,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct reduce), reduce_run, kernel, err));
    struct reduce *k = (struct reduce *)(void *)*kernel;
    struct ft_nd nd;
    ft_nd_build(&call->in[0], 2, strides, &nd);
    int last = nd.rank - 1;
    k->kept.count = 1;
    k->summed.count = 1;
    k->inner_kept = nd.stride[1][last] != 0;
    k->inner = k->inner_kept ? nd.extent[last] : 1;
    k->inner_y = k->inner_kept ? nd.stride[1][last] : 0;
    for (int i = 0; i < (k->inner_kept ? last : nd.rank); i++) {
        add_axis(nd.stride[1][i] != 0 ? &k->kept : &k->summed, &nd, i);
    }
    /* Many results are enough to share out; few long sums are cut. */
    k->lanes = k->kept.count < FT_CPU_LANES ? ft_cpu_lanes(k->summed.count * k->inner) : 1;
    k->lanes = k->lanes < k->summed.count ? k->lanes : k->summed.count;
    k->scale = 1.0F;
    if (call->op == FT_OP_REDUCE_MEAN) {
        k->scale = (float)((double)ft_elements(&call->out[0]) / (double)ft_elements(&call->in[0]));
    }
    *scratch = (size_t)(k->kept.count * k->lanes * k->inner) * sizeof(double);
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

static enum ft_status prepare_reduce(struct ft_device *device, const struct ft_call *call,
                                     struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    int64_t strides[2][FT_MAX_RANK] = {{0}};
    int64_t own[FT_MAX_RANK] = {0};
    ft_nd_strides(&call->in[0], strides[0]);
    ft_nd_strides(&call->out[0], own);
    int at = 0;
    for (int i = 0; i < call->in[0].rank; i++) {
        bool summed = is_summed(&call->attrs, i);
        strides[1][i] = summed ? 0 : own[at];
        at += !summed || call->attrs.keepdims;
    }
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
