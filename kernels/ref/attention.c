#include <math.h>

#include "kernels/ref/ref.h"
#include "kernels/sequence.h"

/* Attention, one query and one head after the other. */

struct attention {
    const struct ft_attrs *a;
    struct ft_sequences s;
    int64_t channels, size; /* C, and of one head */
    const double *q, *k, *v;
    const double *bias; /* (heads, 2D + 1) or NULL */
    int64_t distances;  /* 2D + 1 */
    const int64_t *rng; /* NULL: nothing is dropped */
};

/* `q`: the number of q among the inputs; k and v follow. */
static struct attention attention_of(const struct ft_ref_kernel *k, const struct ft_arg *in, int q, int seq)
{
    const struct ft_type *t = &k->in[q];
    const struct ft_attention_extras more = ft_attention_extras_of(k->in, k->n_in, seq);
    struct attention a = {.a = &k->attrs,
                          .channels = ft_extent(t, t->rank - 1),
                          .q = in[q].data,
                          .k = in[q + 1].data,
                          .v = in[q + 2].data,
                          .bias = more.bias < 0 ? NULL : in[more.bias].data,
                          .distances = more.bias < 0 ? 0 : ft_extent(&k->in[more.bias], 1),
                          .rng = more.rng < 0 ? NULL : in[more.rng].data};
    a.s = ft_sequences_of(t, 1, &k->in[seq]);
    a.s.at = in[seq].data;
    a.size = a.channels / k->attrs.group;
    return a;
}

/* Does the query of row i see the key of row j of the same sequence? */
static bool sees(const struct attention *a, int64_t i, int64_t j)
{
    int64_t window = a->a->count;
    return ft_sequence_has(&a->s, j) && (window == 0 || (j - i <= window && i - j <= window));
}

static int64_t bias_at(const struct attention *a, int64_t h, int64_t i, int64_t j)
{
    int64_t most = a->distances / 2;
    int64_t d = j - i < -most ? -most : j - i > most ? most : j - i;
    return h * a->distances + d + most;
}

static double dot(const struct attention *a, const double *x, int64_t i, const double *y, int64_t j,
                  int64_t h)
{
    double sum = 0.0;
    for (int64_t c = h * a->size; c < (h + 1) * a->size; c++) {
        sum += x[i * a->channels + c] * y[j * a->channels + c];
    }
    return sum;
}

static double score(const struct attention *a, int64_t h, int64_t i, int64_t j)
{
    double s = (double)a->a->alpha * dot(a, a->q, i, a->k, j, h);
    return a->bias == NULL ? s : s + a->bias[bias_at(a, h, i, j)];
}

/* y += w x of one head. */
static void add(const struct attention *a, double *y, int64_t i, double w, const double *x, int64_t j,
                int64_t h)
{
    for (int64_t c = h * a->size; c < (h + 1) * a->size; c++) {
        y[i * a->channels + c] += w * x[j * a->channels + c];
    }
}

/* Of a sequence: from its first token to its last one, begin .. end - 1. */
struct rows {
    int64_t begin, end;
};

static struct rows rows_of(const struct attention *a, int64_t n)
{
    struct rows r = {ft_sequence_begin(&a->s, n), ft_sequence_end(&a->s, n)};
    while (r.begin < r.end && !ft_sequence_has(&a->s, r.begin)) {
        r.begin++;
    }
    while (r.begin < r.end && !ft_sequence_has(&a->s, r.end - 1)) {
        r.end--;
    }
    return r;
}

/* What the weight of query i and key j is multiplied by. */
static double kept(const struct attention *a, const struct rows *r, int64_t h, int64_t i, int64_t j)
{
    if (a->rng == NULL) {
        return 1.0;
    }
    int64_t row = 0;
    uint64_t at = ft_attention_element(r->begin, r->end - r->begin, a->a->group, h, &row);
    at += (uint64_t)((i - r->begin) * row + j - r->begin);
    float u = ft_rand_float(ft_attention_rand(a->a, a->rng), at);
    return u >= a->a->dropout ? 1.0 / (1.0 - (double)a->a->dropout) : 0.0;
}

static void attend(const struct attention *a, const struct rows *r, int64_t h, int64_t i, double *y,
                   double *lse)
{
    double most = -INFINITY;
    double sum = 0.0;
    for (int64_t j = r->begin; j < r->end; j++) {
        most = sees(a, i, j) ? fmax(most, score(a, h, i, j)) : most;
    }
    for (int64_t j = r->begin; j < r->end; j++) {
        sum += sees(a, i, j) ? exp(score(a, h, i, j) - most) : 0.0;
    }
    *lse = most + log(sum);
    for (int64_t j = r->begin; j < r->end; j++) {
        if (sees(a, i, j)) {
            add(a, y, i, kept(a, r, h, i, j) * exp(score(a, h, i, j) - *lse), a->v, j, h);
        }
    }
}

static enum ft_status run_attention(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                    const struct ft_arg *out, struct ft_err *err)
{
    struct attention a = attention_of(k, in, 0, 3);
    double *lse = out[1].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &a.s, err));
    ft_ref_zero(&k->out[0], out[0].data);
    ft_ref_zero(&k->out[1], lse);
    for (int64_t n = 0; n < a.s.count; n++) {
        const struct rows r = rows_of(&a, n);
        for (int64_t i = r.begin; i < r.end; i++) {
            for (int64_t h = 0; ft_sequence_has(&a.s, i) && h < k->attrs.group; h++) {
                attend(&a, &r, h, i, out[0].data, &lse[i * k->attrs.group + h]);
            }
        }
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(attention, run_attention)

/* ---- backward: what each pair of query and key gives */

struct backward {
    struct attention a;
    const double *dy, *y, *lse;
    double *dq, *dk, *dv, *dbias; /* the first three or the last one */
};

static void give_back(const struct backward *b, const struct rows *r, int64_t h, int64_t i, int64_t j)
{
    const struct attention *a = &b->a;
    double keep = kept(a, r, h, i, j);
    double p = exp(score(a, h, i, j) - b->lse[i * a->a->group + h]);
    double ds = p * (keep * dot(a, b->dy, i, a->v, j, h) - dot(a, b->dy, i, b->y, i, h));
    if (b->dbias != NULL) {
        b->dbias[bias_at(a, h, i, j)] += ds;
        return;
    }
    add(a, b->dq, i, (double)a->a->alpha * ds, a->k, j, h);
    add(a, b->dk, j, (double)a->a->alpha * ds, a->q, i, h);
    add(a, b->dv, j, keep * p, b->dy, i, h);
}

static enum ft_status run_backward(const struct ft_ref_kernel *k, const struct ft_arg *in, struct backward *b,
                                   struct ft_err *err)
{
    const struct attention *a = &b->a;
    b->a = attention_of(k, in, 1, 6);
    b->dy = in[0].data;
    b->y = in[4].data;
    b->lse = in[5].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &a->s, err));
    for (int i = 0; i < ft_op_info(k->head.op)->outputs; i++) {
        ft_ref_zero(&k->out[i], b->dbias != NULL ? b->dbias : i == 0 ? b->dq : i == 1 ? b->dk : b->dv);
    }
    for (int64_t n = 0; n < a->s.count; n++) {
        const struct rows r = rows_of(a, n);
        for (int64_t i = r.begin; i < r.end; i++) {
            for (int64_t j = r.begin; ft_sequence_has(&a->s, i) && j < r.end; j++) {
                for (int64_t h = 0; sees(a, i, j) && h < k->attrs.group; h++) {
                    give_back(b, &r, h, i, j);
                }
            }
        }
    }
    return FT_OK;
}

static enum ft_status run_attention_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                        const struct ft_arg *out, struct ft_err *err)
{
    struct backward b = {.dq = out[0].data, .dk = out[1].data, .dv = out[2].data};
    return run_backward(k, in, &b, err);
}
FT_REF_CHECKED_ROW(attention_bwd, run_attention_bwd)

static enum ft_status run_attention_bwd_bias(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                             const struct ft_arg *out, struct ft_err *err)
{
    struct backward b = {.dbias = out[0].data};
    return run_backward(k, in, &b, err);
}
FT_REF_CHECKED_ROW(attention_bwd_bias, run_attention_bwd_bias)
