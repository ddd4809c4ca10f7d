#include "kernels/sequence.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Places of tokens, and sequences that become one row. */

struct sequence {
    struct ft_kernel head;
    struct ft_attrs attrs;
    struct ft_sequences s;
    int64_t channels;
};

struct sequence_job {
    const struct sequence *k;
    const struct ft_vec *vec;
    struct ft_sequences s;
    const float *x, *dy;
    float *y;     /* or dx */
    float *turns; /* ROPE: (longest, count / 2), cosines, then as many sines */
};

static const struct sequence *sequence_of(const struct ft_kernel *kernel)
{
    return (const struct sequence *)(const void *)kernel;
}

/* x and seq: numbers of inputs. */
static enum ft_status prepare(struct ft_device *device, const struct ft_call *call, ft_cpu_run run, int x,
                              int seq, struct ft_kernel **kernel, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_cpu_row_major(call, err));
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, call, sizeof(struct sequence), run, kernel, err));
    struct sequence *k = (struct sequence *)(void *)*kernel;
    k->attrs = call->attrs;
    const struct ft_type *t = &call->in[x];
    bool ids = call->op == FT_OP_POSITIONS; /* tokens without channels */
    k->s = ft_sequences_of(t, ids ? 0 : 1, &call->in[seq]);
    k->channels = ids ? 1 : ft_extent(t, t->rank - 1);
    return FT_OK;
}

/* Filler before sequence n and, with the last one, behind it: zeros, or what x has there. */
static void fill(const struct ft_sequences *s, int64_t n, char *y, const char *x, size_t row_bytes)
{
    for (int64_t i = n; !s->padded && i <= (n + 1 < s->count ? n : n + 1); i++) {
        int64_t from = ft_sequence_filler(s, i);
        int64_t to = i < s->count ? ft_sequence_begin(s, i) : s->rows;
        if (x != NULL) {
            memcpy(y + (size_t)from * row_bytes, x + (size_t)from * row_bytes,
                   (size_t)(to - from) * row_bytes);
        } else {
            memset(y + (size_t)from * row_bytes, 0, (size_t)(to - from) * row_bytes);
        }
    }
}

/* ---- rotary positions */

static int64_t longest_of(const struct ft_sequences *s)
{
    int64_t most = 0;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t length = ft_sequence_end(s, i) - ft_sequence_begin(s, i);
        most = length > most ? length : most;
    }
    return most;
}

static void fill_turns(void *context, int thread, int64_t begin, int64_t end)
{
    const struct sequence_job *job = context;
    int64_t half = job->k->attrs.count / 2;
    (void)thread;
    for (int64_t i = 0; i < half; i++) {
        float frequency = ft_rope_frequency(job->k->attrs.alpha, job->k->attrs.count, i);
        for (int64_t place = begin; place < end; place++) {
            float angle = ft_rope_angle(frequency, place);
            job->turns[place * 2 * half + i] = cosf(angle);
            job->turns[place * 2 * half + half + i] = job->k->attrs.kind == 0 ? sinf(angle) : -sinf(angle);
        }
    }
}

static void turn_head(const float *turns, int64_t half, const float *x, float *y)
{
    for (int64_t i = 0; i < half; i++) {
        float a = x[i];
        float b = x[i + half];
        y[i] = a * turns[i] - b * turns[half + i];
        y[i + half] = b * turns[i] + a * turns[half + i];
    }
}

static void turn_sequences(void *context, int thread, int64_t begin, int64_t end)
{
    const struct sequence_job *job = context;
    int64_t rotated = job->k->attrs.count;
    int64_t heads = job->k->attrs.group;
    int64_t size = job->k->channels / heads;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        int64_t first = ft_sequence_begin(&job->s, n);
        fill(&job->s, n, (char *)job->y, (const char *)job->x, (size_t)job->k->channels * sizeof(float));
        for (int64_t r = first; r < ft_sequence_end(&job->s, n); r++) {
            for (int64_t h = 0; h < heads; h++) {
                const float *x = job->x + r * job->k->channels + h * size;
                float *y = job->y + r * job->k->channels + h * size;
                turn_head(job->turns + (r - first) * rotated, rotated / 2, x, y);
                memcpy(y + rotated, x + rotated, (size_t)(size - rotated) * sizeof *y);
            }
        }
    }
}

static enum ft_status rope_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    const struct sequence *k = sequence_of(kernel);
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct sequence_job job = {
        .k = k, .vec = cpu->vec, .x = ft_in(in, 0), .y = ft_out(out, 0), .turns = scratch};
    job.s = k->s;
    job.s.at = k->s.padded ? NULL : in[1].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    ft_cpu_items(cpu, longest_of(&job.s), 16 * k->attrs.count, fill_turns, &job);
    ft_cpu_items(cpu, job.s.count, k->s.rows * k->channels / job.s.count, turn_sequences, &job);
    return FT_OK;
}

enum ft_status ft_cpu_rope(struct ft_device *device, const struct ft_call *call, struct ft_kernel **kernel,
                           size_t *scratch, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(prepare(device, call, rope_run, 0, 1, kernel, err));
    const struct sequence *k = sequence_of(*kernel);
    *scratch = (size_t)(k->s.length * k->attrs.count) * sizeof(float);
    return FT_OK;
}

/* ---- places */

static enum ft_status positions_run(struct ft_kernel *kernel, const struct ft_arg *in,
                                    const struct ft_arg *out, void *scratch, struct ft_err *err)
{
    const struct sequence *k = sequence_of(kernel);
    struct ft_sequences s = k->s;
    const int64_t *n = k->attrs.count == 0 ? NULL : in[2].data;
    int64_t *y = out[0].data;
    (void)scratch;
    s.at = in[0].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &s, err));
    for (int64_t i = 0; i < s.count; i++) {
        int64_t begin = ft_sequence_begin(&s, i);
        uint64_t sum = 0; /* wraps, as CUMSUM does */
        fill(&s, i, out[0].data, NULL, sizeof *y);
        for (int64_t r = begin; r < ft_sequence_end(&s, i); r++) {
            sum = n == NULL ? (uint64_t)(r - begin) : sum + (uint64_t)n[r];
            y[r] = ft_sequence_has(&s, r) ? (int64_t)sum : 0;
        }
    }
    return FT_OK;
}

enum ft_status ft_cpu_positions(struct ft_device *device, const struct ft_call *call,
                                struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    FT_RETURN_IF_FAILED(prepare(device, call, positions_run, 1, 0, kernel, err));
    ((struct sequence *)(void *)*kernel)->attrs.count = call->n_in == 3; /* is there an n? */
    return FT_OK;
}

/* ---- pooling */

/* What pooling looks at of one sequence. */
struct pooled {
    int64_t begin, end, first, last; /* last: -1 without a token */
    double count, places;
};

static struct pooled pooled_of(const struct ft_sequences *s, int64_t n)
{
    struct pooled p = {.begin = ft_sequence_begin(s, n), .end = ft_sequence_end(s, n), .last = -1};
    p.first = p.end;
    for (int64_t r = p.begin; r < p.end; r++) {
        if (ft_sequence_has(s, r)) {
            p.first = p.first < r ? p.first : r;
            p.last = r;
            p.count += 1;
            p.places += (double)(r - p.first + 1);
        }
    }
    return p;
}

/* Of token row r in the sum. */
static double weight_of(int kind, const struct pooled *p, int64_t r)
{
    switch (kind) {
    case FT_SEQ_FIRST:
        return r == p->first ? 1 : 0;
    case FT_SEQ_LAST:
        return r == p->last ? 1 : 0;
    case FT_SEQ_WEIGHTED_MEAN:
        return (double)(r - p->first + 1) / p->places;
    case FT_SEQ_MEAN_SQRT_LEN:
        return 1 / sqrt(p->count);
    default: /* FT_SEQ_MEAN */
        return 1 / p->count;
    }
}

/* One column of a maximum: the first of equals, a NaN before all; -1: no token. */
static int64_t row_of_max(const struct sequence_job *job, const struct pooled *p, int64_t c)
{
    int64_t best = -1;
    for (int64_t r = p->first; r <= p->last; r++) {
        float here = job->x[r * job->k->channels + c];
        float most = best < 0 ? 0 : job->x[best * job->k->channels + c];
        bool wins = best < 0 || here > most || (here != here && most == most);
        best = ft_sequence_has(&job->s, r) && wins ? r : best;
    }
    return best;
}

static void pool_sequences(void *context, int thread, int64_t begin, int64_t end)
{
    const struct sequence_job *job = context;
    int64_t channels = job->k->channels;
    int kind = job->k->attrs.kind;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        struct pooled p = pooled_of(&job->s, n);
        float *y = job->y + n * channels;
        memset(y, 0, (size_t)channels * sizeof *y);
        for (int64_t c = 0; kind == FT_SEQ_MAX && p.last >= 0 && c < channels; c++) {
            y[c] = job->x[row_of_max(job, &p, c) * channels + c];
        }
        for (int64_t r = p.first; kind != FT_SEQ_MAX && r <= p.last; r++) {
            float weight = ft_sequence_has(&job->s, r) ? (float)weight_of(kind, &p, r) : 0;
            if (weight != 0) {
                job->vec->add_scaled(job->x + r * channels, y, (size_t)channels, weight);
            }
        }
    }
}

static void unpool_sequences(void *context, int thread, int64_t begin, int64_t end)
{
    const struct sequence_job *job = context;
    int64_t channels = job->k->channels;
    int kind = job->k->attrs.kind;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        struct pooled p = pooled_of(&job->s, n);
        const float *dy = job->dy + n * channels;
        fill(&job->s, n, (char *)job->y, NULL, (size_t)channels * sizeof *dy);
        for (int64_t r = p.begin; r < p.end; r++) {
            float weight =
                kind != FT_SEQ_MAX && ft_sequence_has(&job->s, r) ? (float)weight_of(kind, &p, r) : 0;
            float *dx = job->y + r * channels;
            if (weight != 0) {
                job->vec->scale(dy, dx, (size_t)channels, weight);
            } else {
                memset(dx, 0, (size_t)channels * sizeof *dx);
            }
        }
        for (int64_t c = 0; kind == FT_SEQ_MAX && p.last >= 0 && c < channels; c++) {
            job->y[row_of_max(job, &p, c) * channels + c] = dy[c];
        }
    }
}

static enum ft_status pool_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                               void *scratch, struct ft_err *err)
{
    const struct sequence *k = sequence_of(kernel);
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    bool backward = kernel->op == FT_OP_SEQ_POOL_BWD;
    struct sequence_job job = {.k = k,
                               .vec = cpu->vec,
                               .x = ft_in(in, backward ? 1 : 0),
                               .dy = backward ? ft_in(in, 0) : NULL,
                               .y = ft_out(out, 0)};
    (void)scratch;
    job.s = k->s;
    job.s.at = in[backward ? 3 : 1].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(kernel->op, &job.s, err));
    ft_cpu_items(cpu, job.s.count, k->s.rows * k->channels / job.s.count,
                 backward ? unpool_sequences : pool_sequences, &job);
    return FT_OK;
}

enum ft_status ft_cpu_seq_pool(struct ft_device *device, const struct ft_call *call,
                               struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare(device, call, pool_run, 0, 1, kernel, err);
}

enum ft_status ft_cpu_seq_pool_bwd(struct ft_device *device, const struct ft_call *call,
                                   struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    *scratch = 0;
    return prepare(device, call, pool_run, 1, 3, kernel, err);
}
