#include "kernels/cpu/cpu.h"

/* The rows MAP and MAP_BWD; the loops are in vec_map.inc. */

struct map {
    struct ft_kernel head;
    int64_t n;
    enum ft_map map;
    float a, b;
};

struct map_job {
    const struct map *k;
    const struct ft_vec *vec;
    const float *dy, *x;
    float *y;
};

static void map_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct map_job *job = context;
    const struct map *k = job->k;
    size_t n = (size_t)(end - begin);
    (void)thread;
    if (job->dy == NULL) {
        job->vec->map(k->map, job->x + begin, job->y + begin, n, k->a, k->b);
    } else {
        job->vec->map_bwd(k->map, job->dy + begin, job->x + begin, job->y + begin, n, k->a, k->b);
    }
}

static enum ft_status map_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                              void *scratch, struct ft_err *err)
{
    (void)scratch;
    (void)err;
    const struct map *k = (const struct map *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    bool backward = kernel->op == FT_OP_MAP_BWD;
    struct map_job job = {.k = k,
                          .vec = cpu->vec,
                          .dy = backward ? ft_in(in, 0) : NULL,
                          .x = ft_in(in, backward ? 1 : 0),
                          .y = ft_out(out, 0)};
    ft_cpu_flat(cpu, k->n, map_range, &job);
    return FT_OK;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_one_layout(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct map), map_run, kernel, err));
    struct map *k = (struct map *)(void *)*kernel;
    k->n = ft_elements(&call->in[0]);
    k->map = (enum ft_map)call->attrs.kind;
    k->a = call->attrs.alpha;
    k->b = call->attrs.beta;
    return FT_OK;
}

enum ft_status ft_cpu_map(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                          size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare(device, call, kernel, err);
}

enum ft_status ft_cpu_map_bwd(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                              size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare(device, call, kernel, err);
}
