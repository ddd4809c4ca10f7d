#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/sequence.h"

/* Attention: one (sequence, head) after the other, which share nothing but the gradient of the bias. */

struct attention {
    struct ft_kernel head;
    struct ft_attrs attrs;
    struct ft_sequences s;
    int64_t channels, size;
    int64_t distances; /* 2D + 1; 0: no bias */
};

struct attention_job {
    const struct attention *k;
    const struct ft_vec *vec;
    struct ft_sequences s;
    const float *q, *k_, *v, *bias;
    const float *dy, *y, *lse; /* backward */
    float *out, *lse_out;      /* forward */
    float *dq, *dk, *dv;
    double *dbias; /* (heads, distances) */
    float *scratch;
};

/* One head of one sequence: rows begin .. end - 1, from its channel on. */
struct one {
    int64_t begin, end, h, channel;
};

static bool sees(const struct attention_job *job, int64_t i, int64_t j)
{
    int64_t window = job->k->attrs.count;
    return ft_sequence_has(&job->s, j) && (window == 0 || (j - i <= window && i - j <= window));
}

static int64_t bias_at(const struct attention *k, int64_t h, int64_t i, int64_t j)
{
    int64_t most = k->distances / 2;
    int64_t d = j - i < -most ? -most : j - i > most ? most : j - i;
    return h * k->distances + d + most;
}

/* Scores of the query of row i; of keys that it does not see -inf. */
static void score(const struct attention_job *job, const struct one *o, int64_t i, float *s)
{
    const struct attention *k = job->k;
    const float *q = job->q + i * k->channels + o->channel;
    for (int64_t j = o->begin; j < o->end; j++) {
        float bias = job->bias == NULL ? 0.0F : job->bias[bias_at(k, o->h, i, j)];
        const float *key = job->k_ + j * k->channels + o->channel;
        s[j - o->begin] = sees(job, i, j)
                              ? k->attrs.alpha * (float)job->vec->dot(q, key, (size_t)k->size) + bias
                              : -INFINITY;
    }
}

static void attend(const struct attention_job *job, const struct one *o, int64_t i, float *s)
{
    const struct attention *k = job->k;
    size_t n = (size_t)(o->end - o->begin);
    float *y = job->out + i * k->channels + o->channel;
    float *lse = &job->lse_out[i * k->attrs.group + o->h];
    memset(y, 0, (size_t)k->size * sizeof *y);
    *lse = 0.0F;
    if (!ft_sequence_has(&job->s, i)) {
        return;
    }
    score(job, o, i, s);
    float most = job->vec->max(s, n);
    double sum = job->vec->exp_sum(s, s, n, most);
    *lse = most + (float)log(sum);
    for (int64_t j = o->begin; j < o->end; j++) {
        if (sees(job, i, j)) {
            job->vec->add_scaled(job->v + j * k->channels + o->channel, y, (size_t)k->size,
                                 s[j - o->begin] / (float)sum);
        }
    }
}

static void give_back(const struct attention_job *job, const struct one *o, int64_t i, float *s)
{
    const struct attention *k = job->k;
    const struct ft_vec *vec = job->vec;
    size_t size = (size_t)k->size;
    int64_t at = i * k->channels + o->channel;
    float lse = job->lse[i * k->attrs.group + o->h];
    float mean = (float)vec->dot(job->dy + at, job->y + at, size);
    score(job, o, i, s);
    (void)vec->exp_sum(s, s, (size_t)(o->end - o->begin), lse);
    for (int64_t j = o->begin; j < o->end; j++) {
        int64_t to = j * k->channels + o->channel;
        float p = s[j - o->begin];
        if (!sees(job, i, j)) {
            continue;
        }
        float ds = p * ((float)vec->dot(job->dy + at, job->v + to, size) - mean);
        if (job->dbias != NULL) {
            job->dbias[bias_at(k, o->h, i, j)] += (double)ds;
            continue;
        }
        vec->add_scaled(job->k_ + to, job->dq + at, size, k->attrs.alpha * ds);
        vec->add_scaled(job->q + at, job->dk + to, size, k->attrs.alpha * ds);
        vec->add_scaled(job->dy + at, job->dv + to, size, p);
    }
}

static struct one one_of(const struct attention_job *job, int64_t n, int64_t h)
{
    struct one o = {.begin = ft_sequence_begin(&job->s, n),
                    .end = ft_sequence_end(&job->s, n),
                    .h = h,
                    .channel = h * job->k->size};
    return o;
}

static void forward_items(void *context, int thread, int64_t begin, int64_t end)
{
    const struct attention_job *job = context;
    for (int64_t item = begin; item < end; item++) {
        struct one o = one_of(job, item / job->k->attrs.group, item % job->k->attrs.group);
        for (int64_t i = o.begin; i < o.end; i++) {
            attend(job, &o, i, job->scratch + (int64_t)thread * job->k->s.length);
        }
    }
}

static void backward_items(void *context, int thread, int64_t begin, int64_t end)
{
    const struct attention_job *job = context;
    for (int64_t item = begin; item < end; item++) {
        struct one o = one_of(job, item / job->k->attrs.group, item % job->k->attrs.group);
        float *to[3] = {job->dq, job->dk, job->dv};
        for (int64_t i = o.begin; i < o.end; i++) {
            for (int d = 0; d < 3; d++) {
                memset(to[d] + i * job->k->channels + o.channel, 0, (size_t)job->k->size * sizeof(float));
            }
        }
        for (int64_t i = o.begin; i < o.end; i++) {
            if (ft_sequence_has(&job->s, i)) {
                give_back(job, &o, i, job->scratch + (int64_t)thread * job->k->s.length);
            }
        }
    }
}

/* A head's sequences in order. */
static void bias_heads(void *context, int thread, int64_t begin, int64_t end)
{
    const struct attention_job *job = context;
    for (int64_t h = begin; h < end; h++) {
        memset(job->dbias + h * job->k->distances, 0, (size_t)job->k->distances * sizeof *job->dbias);
        for (int64_t n = 0; n < job->s.count; n++) {
            struct one o = one_of(job, n, h);
            for (int64_t i = o.begin; i < o.end; i++) {
                if (ft_sequence_has(&job->s, i)) {
                    give_back(job, &o, i, job->scratch + (int64_t)thread * job->k->s.length);
                }
            }
        }
        for (int64_t d = 0; d < job->k->distances; d++) {
            job->out[h * job->k->distances + d] = (float)job->dbias[h * job->k->distances + d];
        }
    }
}

static struct attention_job job_of(const struct attention *k, const struct ft_arg *in, int q, int seq,
                                   int bias)
{
    struct attention_job job = {.k = k,
                                .vec = ft_cpu_of(k->head.device)->vec,
                                .q = ft_in(in, q),
                                .k_ = ft_in(in, q + 1),
                                .v = ft_in(in, q + 2),
                                .bias = k->distances == 0 ? NULL : ft_in(in, bias)};
    job.s = k->s;
    job.s.at = in[seq].data;
    return job;
}

/* What belongs to no sequence, of rows of `width`. */
static void zero_filler(const struct ft_sequences *s, float *x, int64_t width)
{
    for (int64_t i = 0; !s->padded && i <= s->count; i++) {
        int64_t from = ft_sequence_filler(s, i);
        int64_t to = i < s->count ? ft_sequence_begin(s, i) : s->rows;
        memset(x + from * width, 0, (size_t)((to - from) * width) * sizeof *x);
    }
}

static int64_t cost_of(const struct attention *k)
{
    return k->s.rows * k->channels * k->s.length;
}

static enum ft_status forward_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                  void *scratch, struct ft_err *err)
{
    const struct attention *k = (const struct attention *)(const void *)kernel;
    struct attention_job job = job_of(k, in, 0, 3, 4);
    int64_t items = job.s.count * k->attrs.group;
    job.out = ft_out(out, 0);
    job.lse_out = ft_out(out, 1);
    job.scratch = scratch;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    zero_filler(&job.s, job.out, k->channels);
    zero_filler(&job.s, job.lse_out, k->attrs.group);
    ft_cpu_items(ft_cpu_of(kernel->device), items, cost_of(k) / items + 1, forward_items, &job);
    return FT_OK;
}

static enum ft_status backward_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                   const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    const struct attention *k = (const struct attention *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct attention_job job = job_of(k, in, 1, 6, 7);
    job.dy = ft_in(in, 0);
    job.y = ft_in(in, 4);
    job.lse = ft_in(in, 5);
    job.scratch = scratch;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    if (kernel->op == FT_OP_ATTENTION_BWD_BIAS) {
        job.out = ft_out(out, 0);
        job.dbias = scratch;
        job.scratch = (float *)(void *)(job.dbias + k->attrs.group * k->distances);
        ft_cpu_items(cpu, k->attrs.group, cost_of(k) / k->attrs.group + 1, bias_heads, &job);
        return FT_OK;
    }
    int64_t items = job.s.count * k->attrs.group;
    job.dq = ft_out(out, 0);
    job.dk = ft_out(out, 1);
    job.dv = ft_out(out, 2);
    zero_filler(&job.s, job.dq, k->channels);
    zero_filler(&job.s, job.dk, k->channels);
    zero_filler(&job.s, job.dv, k->channels);
    ft_cpu_items(cpu, items, cost_of(k) / items + 1, backward_items, &job);
    return FT_OK;
}

static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, int q, int seq, int bias,
                              struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    const struct ft_type *x = &call->in[q];
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct attention),
                                      q == 0 ? forward_run : backward_run, kernel, err));
    struct attention *k = (struct attention *)(void *)*kernel;
    k->attrs = call->attrs;
    k->s = ft_sequences_of(x, 1, &call->in[seq]);
    k->channels = ft_extent(x, x->rank - 1);
    k->size = k->channels / k->attrs.group;
    k->distances = call->n_in > bias ? ft_extent(&call->in[bias], 1) : 0;
    *scratch = (size_t)(ft_cpu_of(device)->threads * k->s.length) * sizeof(float);
    if (call->op == FT_OP_ATTENTION_BWD_BIAS) {
        *scratch += (size_t)(k->attrs.group * k->distances) * sizeof(double);
    }
    return FT_OK;
}

enum ft_status ft_cpu_attention(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return prepare(device, call, 0, 3, 4, kernel, scratch, err);
}

enum ft_status ft_cpu_attention_bwd(struct ft_device *device, const struct ft_call *call,
                                    struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return prepare(device, call, 1, 6, 7, kernel, scratch, err);
}

enum ft_status ft_cpu_attention_bwd_bias(struct ft_device *device, const struct ft_call *call,
                                         struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return prepare(device, call, 1, 6, 7, kernel, scratch, err);
}
