#include <string.h>

#include "kernels/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/nd.h"

/*
 * Element-wise rows run together, a tile at a time: what one leaves for the next stays in the cache. Every
 * row does to a tile what it would do to the whole tensor, so no bit changes.
 *
 * A tile is some thousand neighbours in memory. An operand that is broadcast is spread out to a tile first:
 * once for all tiles when it repeats with a period that divides the tile (a bias, channels-last), else for
 * each.
 */

enum { TILE = 1024, PERIOD_MAX = 4096 };

/* Operands that are stored as bf16 are widened into a tile and rounded out of one. */

enum spread {
    WHOLE,  /* has the tensor's own elements */
    REPEAT, /* the same in every tile */
    WALK    /* spread out for each tile */
};

struct input {
    enum spread spread;
    bool narrow;     /* bf16 */
    struct ft_nd nd; /* 0 = the tensor, 1 = this operand */
    int slot;        /* of scratch; -1: none */
};

enum form { UNARY, BACKWARD, BINARY, MAP, MAP_BACKWARD, COPY };

struct step {
    enum form form;
    enum ft_op op;
    enum ft_map map;
    float a, b;
    int in[2];   /* inputs, then results */
    int slot;    /* of scratch; -1: written to the output */
    int output;  /* or -1 */
    bool narrow; /* the output is bf16: from the slot */
};

struct chain {
    struct ft_kernel head;
    int n_in, n_ops;
    int64_t n, tile;
    int slots; /* tiles of scratch a thread has */
    struct input in[FT_CHAIN_INPUTS];
    struct step ops[FT_CHAIN_OPS];
};

/* ---- which rows */

static enum form form_of(enum ft_op op, bool *known)
{
    *known = true;
    switch ((int)op) {
    case FT_OP_RELU:
    case FT_OP_LEAKY_RELU:
    case FT_OP_SIGMOID:
    case FT_OP_TANH:
    case FT_OP_CLIP:
    case FT_OP_EXP:
    case FT_OP_LOG:
    case FT_OP_SQRT:
    case FT_OP_NEG:
    case FT_OP_SCALE:
        return UNARY;
    case FT_OP_RELU_BWD:
    case FT_OP_LEAKY_RELU_BWD:
    case FT_OP_SIGMOID_BWD:
    case FT_OP_TANH_BWD:
    case FT_OP_CLIP_BWD:
        return BACKWARD;
    case FT_OP_ADD:
    case FT_OP_SUB:
    case FT_OP_MUL:
    case FT_OP_DIV:
    case FT_OP_POW:
        return BINARY;
    case FT_OP_MAP:
        return MAP;
    case FT_OP_MAP_BWD:
        return MAP_BACKWARD;
    case FT_OP_EXPAND_TO:
        return COPY;
    default:
        *known = false;
        return COPY;
    }
}

bool ft_cpu_chain_takes(enum ft_op op)
{
    bool known = false;
    (void)form_of(op, &known);
    return known;
}

/* ---- run */

struct job {
    const struct chain *k;
    const struct ft_vec *vec;
    const struct ft_arg *in, *out;
    float *scratch;
};

/* n floats that lie `stride` apart from x + at on. */
static void pull(const struct job *job, const struct input *in, const void *x, const int64_t at_stride[2],
                 int64_t n, float *to)
{
    const float *wide = (const float *)x + at_stride[0];
    const uint16_t *narrow = (const uint16_t *)x + at_stride[0];
    int64_t stride = at_stride[1];
    if (stride == 1 && in->narrow) {
        job->vec->widen(narrow, to, (size_t)n);
    } else if (stride == 1) {
        memcpy(to, wide, (size_t)n * sizeof *to);
    } else {
        for (int64_t i = 0; i < n; i++) {
            to[i] = in->narrow ? ft_bf16_to(narrow[i * stride]) : wide[i * stride];
        }
    }
}

/* Operand `in` for elements begin .. begin + n - 1 of the tensor, in memory order. */
static void spread_out(const struct job *job, const struct input *in, const void *x, int64_t begin, int64_t n,
                       float *to)
{
    const struct ft_nd *nd = &in->nd;
    int last = nd->rank - 1;
    int64_t index[FT_MAX_RANK];
    int64_t rest = begin;
    for (int i = last; i >= 0; i--) {
        index[i] = rest % nd->extent[i];
        rest /= nd->extent[i];
    }
    while (n > 0) {
        int64_t at = 0;
        for (int i = 0; i <= last; i++) {
            at += index[i] * nd->stride[1][i];
        }
        int64_t run = nd->extent[last] - index[last];
        run = run < n ? run : n;
        pull(job, in, x, (const int64_t[2]){at, nd->stride[1][last]}, run, to);
        to += run;
        n -= run;
        index[last] += run;
        for (int i = last; i > 0 && index[i] == nd->extent[i]; i--) {
            index[i] = 0;
            index[i - 1]++;
        }
    }
}

static void apply(const struct ft_vec *vec, const struct step *s, const float *a, const float *b, float *y,
                  size_t n)
{
    switch (s->form) {
    case UNARY:
        vec->unary(s->op, a, y, n, s->a, s->b);
        break;
    case BACKWARD:
        vec->unary_bwd(s->op, a, b, y, n, s->a, s->b);
        break;
    case BINARY:
        vec->binary(s->op, FT_VEC_VV, a, b, y, n);
        break;
    case MAP:
        vec->map(s->map, a, y, n, s->a, s->b);
        break;
    case MAP_BACKWARD:
        vec->map_bwd(s->map, a, b, y, n, s->a, s->b);
        break;
    case COPY:
        memcpy(y, a, n * sizeof *y);
        break;
    }
}

static float *slot_of(const struct job *job, int thread, int slot)
{
    return job->scratch + ((int64_t)thread * job->k->slots + slot) * job->k->tile;
}

static void run_tile(const struct job *job, int thread, int64_t begin, int64_t n)
{
    const struct chain *k = job->k;
    const float *value[FT_CHAIN_INPUTS + FT_CHAIN_OPS];
    for (int i = 0; i < k->n_in; i++) {
        const struct input *in = &k->in[i];
        float *spread = in->slot < 0 ? NULL : slot_of(job, thread, in->slot);
        if (in->spread == WALK) {
            spread_out(job, in, job->in[i].data, begin, n, spread);
        } else if (in->spread == WHOLE && in->narrow) {
            job->vec->widen((const uint16_t *)job->in[i].data + begin, spread, (size_t)n);
        }
        value[i] = spread == NULL ? ft_in(job->in, i) + begin : spread;
    }
    for (int i = 0; i < k->n_ops; i++) {
        const struct step *s = &k->ops[i];
        float *y = s->slot < 0 ? ft_out(job->out, s->output) + begin : slot_of(job, thread, s->slot);
        apply(job->vec, s, value[s->in[0]], value[s->in[1]], y, (size_t)n);
        if (s->narrow) {
            job->vec->narrow(y, (uint16_t *)job->out[s->output].data + begin, (size_t)n);
        }
        value[k->n_in + i] = y;
    }
}

static void run_range(void *context, int thread, int64_t begin, int64_t end)
{
    const struct job *job = context;
    const struct chain *k = job->k;
    for (int i = 0; i < k->n_in; i++) {
        if (k->in[i].spread == REPEAT) {
            int64_t n = k->tile < k->n ? k->tile : k->n;
            spread_out(job, &k->in[i], job->in[i].data, 0, n, slot_of(job, thread, k->in[i].slot));
        }
    }
    for (int64_t t = begin; t < end; t++) {
        int64_t rest = k->n - t * k->tile;
        run_tile(job, thread, t * k->tile, rest < k->tile ? rest : k->tile);
    }
}

static enum ft_status chain_run(struct ft_kernel *kernel, const struct ft_arg *in, const struct ft_arg *out,
                                void *scratch, struct ft_err *err)
{
    (void)err;
    const struct chain *k = (const struct chain *)(const void *)kernel;
    const struct ft_cpu *cpu = ft_cpu_of(kernel->device);
    struct job job = {.k = k, .vec = cpu->vec, .in = in, .out = out, .scratch = scratch};
    ft_cpu_items(cpu, (k->n + k->tile - 1) / k->tile, k->tile * k->n_ops, run_range, &job);
    return FT_OK;
}

/* ---- preparation */

/* The period with which an operand repeats; 0: it does not. 1: one number. */
static int64_t period_of(const struct ft_nd *nd)
{
    if (nd->rank == 1) {
        return nd->stride[1][0] == 0 ? 1 : 0;
    }
    bool repeats = nd->rank == 2 && nd->stride[1][0] == 0 && nd->stride[1][1] == 1;
    return repeats && nd->extent[1] <= PERIOD_MAX ? nd->extent[1] : 0;
}

static void look_at_inputs(struct chain *k, const struct ft_chain *chain)
{
    int64_t period = 1;
    for (int i = 0; i < k->n_in; i++) {
        struct input *in = &k->in[i];
        int64_t strides[FT_ND_OPERANDS][FT_MAX_RANK];
        ft_nd_strides(&chain->out[0], strides[0]);
        ft_nd_broadcast(&chain->in[i], &chain->out[0], strides[1]);
        ft_nd_build(&chain->out[0], 2, strides, &in->nd);
        in->spread = WALK;
        in->slot = -1;
        in->narrow = chain->in[i].dtype == FT_BF16;
        if (in->nd.rank == 1 && in->nd.stride[1][0] == 1) {
            in->spread = WHOLE;
            in->slot = in->narrow ? k->slots++ : -1;
            continue;
        }
        in->slot = k->slots++;
        int64_t own = period_of(&in->nd);
        if (own > 0 && (own == 1 || period == 1 || period == own)) {
            in->spread = REPEAT;
            period = own > period ? own : period;
        }
    }
    k->tile = period > TILE ? period : TILE / period * period;
}

/* Results that no output takes get slots; one whose last reader is past is given to the next. */
static void place_results(struct chain *k)
{
    int last[FT_CHAIN_OPS] = {0};
    int free_slots[FT_CHAIN_OPS];
    int n_free = 0;
    for (int i = 0; i < k->n_ops; i++) {
        for (int j = 0; j < 2; j++) {
            if (k->ops[i].in[j] >= k->n_in) {
                last[k->ops[i].in[j] - k->n_in] = i;
            }
        }
    }
    for (int i = 0; i < k->n_ops; i++) {
        struct step *s = &k->ops[i];
        s->slot = -1;
        if (s->output < 0 || s->narrow) {
            s->slot = n_free > 0 ? free_slots[--n_free] : k->slots++;
        }
        for (int r = 0; r < i; r++) { /* free from the next row on */
            if (last[r] == i && k->ops[r].slot >= 0) {
                free_slots[n_free++] = k->ops[r].slot;
            }
        }
    }
}

static void look_at_rows(struct chain *k, const struct ft_chain *chain)
{
    for (int i = 0; i < k->n_ops; i++) {
        const struct ft_chain_op *from = &chain->ops[i];
        struct step *s = &k->ops[i];
        bool known = false;
        bool clips = from->op == FT_OP_CLIP || from->op == FT_OP_CLIP_BWD;
        s->form = form_of(from->op, &known);
        s->op = from->op;
        s->map = (enum ft_map)from->attrs->kind;
        s->a = clips ? from->attrs->lo : from->attrs->alpha;
        s->b = clips ? from->attrs->hi : from->attrs->beta;
        s->in[0] = from->in[0];
        s->in[1] = from->in[1] >= 0 ? from->in[1] : from->in[0];
        s->output = -1;
    }
    for (int o = 0; o < chain->n_out; o++) {
        k->ops[chain->results[o]].output = o;
        k->ops[chain->results[o]].narrow = chain->out[o].dtype == FT_BF16;
    }
}

enum ft_status ft_cpu_chain(struct ft_device *device, const struct ft_chain *chain, struct ft_kernel **kernel,
                            size_t *scratch, struct ft_err *err)
{
    struct ft_call call;
    struct ft_cpu *cpu = ft_cpu_of(device);
    memset(&call, 0, sizeof call);
    call.op = chain->ops[chain->n_ops - 1].op;
    FT_RETURN_IF_FAILED(ft_cpu_kernel(device, &call, sizeof(struct chain), chain_run, kernel, err));
    struct chain *k = (struct chain *)(void *)*kernel;
    k->n_in = chain->n_in;
    k->n_ops = chain->n_ops;
    k->n = ft_elements(&chain->out[0]);
    look_at_inputs(k, chain);
    look_at_rows(k, chain);
    place_results(k);
    int64_t tiles = (k->n + k->tile - 1) / k->tile;
    int threads = ft_cpu_threads(cpu, tiles * k->tile * k->n_ops);
    *scratch = (size_t)(threads * k->slots * k->tile) * sizeof(float);
    return FT_OK;
}
