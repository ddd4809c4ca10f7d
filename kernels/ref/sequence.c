#include "kernels/sequence.h"

#include <math.h>

#include "kernels/ref/ref.h"

/* Places of tokens, and sequences that become one row. */

static void turn(const struct ft_attrs *a, int64_t size, int64_t place, const double *x, double *y)
{
    int64_t half = a->count / 2;
    for (int64_t i = 0; i < size; i++) {
        y[i] = x[i];
    }
    for (int64_t i = 0; i < half; i++) {
        double angle = (double)ft_rope_angle(ft_rope_frequency(a->alpha, a->count, i), place);
        double sine = a->kind == 0 ? sin(angle) : -sin(angle);
        y[i] = x[i] * cos(angle) - x[i + half] * sine;
        y[i + half] = x[i + half] * cos(angle) + x[i] * sine;
    }
}

static enum ft_status run_rope(const struct ft_ref_kernel *k, const struct ft_arg *in,
                               const struct ft_arg *out, struct ft_err *err)
{
    const struct ft_type *x = &k->in[0];
    int64_t channels = ft_extent(x, x->rank - 1);
    int64_t size = channels / k->attrs.group;
    struct ft_sequences s = ft_sequences_of(x, 1, &k->in[1]);
    s.at = s.padded ? NULL : in[1].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &s, err));
    for (int64_t i = 0; i < ft_elements(x); i++) {
        ((double *)out[0].data)[i] = ((const double *)in[0].data)[i]; /* filler stays */
    }
    for (int64_t n = 0; n < s.count; n++) {
        int64_t begin = ft_sequence_begin(&s, n);
        for (int64_t r = begin; r < ft_sequence_end(&s, n); r++) {
            for (int64_t h = 0; h < k->attrs.group; h++) {
                int64_t at = r * channels + h * size;
                turn(&k->attrs, size, r - begin, (const double *)in[0].data + at, (double *)out[0].data + at);
            }
        }
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(rope, run_rope)

static enum ft_status run_positions(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                    const struct ft_arg *out, struct ft_err *err)
{
    struct ft_sequences s = ft_sequences_of(&k->in[1], 0, &k->in[0]);
    s.at = in[0].data;
    const int64_t *n = k->n_in == 3 ? in[2].data : NULL;
    int64_t *y = out[0].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &s, err));
    for (int64_t r = 0; r < s.rows; r++) {
        y[r] = 0;
    }
    for (int64_t i = 0; i < s.count; i++) {
        int64_t begin = ft_sequence_begin(&s, i);
        uint64_t sum = 0; /* wraps, as CUMSUM does */
        for (int64_t r = begin; r < ft_sequence_end(&s, i); r++) {
            sum += n == NULL ? 0 : (uint64_t)n[r];
            y[r] = !ft_sequence_has(&s, r) ? 0 : n == NULL ? r - begin : (int64_t)sum;
        }
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(positions, run_positions)

/* ---- pooling */

struct pool {
    const struct ft_attrs *a;
    struct ft_sequences s;
    int64_t channels;
};

static struct pool pool_of(const struct ft_ref_kernel *k, const struct ft_type *x, const struct ft_type *seq,
                           const void *data)
{
    struct pool p = {.a = &k->attrs, .channels = ft_extent(x, x->rank - 1)};
    p.s = ft_sequences_of(x, 1, seq);
    p.s.at = data;
    return p;
}

/* What token row r counts for in the sum that sequence n becomes, and not in a maximum. */
static double weight_of(const struct pool *p, int64_t n, int64_t r)
{
    int64_t first = -1;
    int64_t last = -1;
    double count = 0.0;
    double places = 0.0;
    for (int64_t i = ft_sequence_begin(&p->s, n); i < ft_sequence_end(&p->s, n); i++) {
        if (ft_sequence_has(&p->s, i)) {
            first = first < 0 ? i : first;
            last = i;
            count += 1.0;
            places += (double)(i - first + 1);
        }
    }
    switch (p->a->kind) {
    case FT_SEQ_FIRST:
        return r == first ? 1.0 : 0.0;
    case FT_SEQ_LAST:
        return r == last ? 1.0 : 0.0;
    case FT_SEQ_WEIGHTED_MEAN:
        return (double)(r - first + 1) / places;
    case FT_SEQ_MEAN_SQRT_LEN:
        return 1.0 / sqrt(count);
    default: /* FT_SEQ_MEAN */
        return 1.0 / count;
    }
}

/* The row of the maximum of column c; the first of equals, a NaN before all; -1: no token. */
static int64_t row_of_max(const struct pool *p, int64_t n, const double *x, int64_t c)
{
    int64_t best = -1;
    for (int64_t r = ft_sequence_begin(&p->s, n); r < ft_sequence_end(&p->s, n); r++) {
        double here = x[r * p->channels + c];
        double most = best < 0 ? 0.0 : x[best * p->channels + c];
        bool wins = best < 0 || here > most || (isnan(here) && !isnan(most));
        best = ft_sequence_has(&p->s, r) && wins ? r : best;
    }
    return best;
}

static enum ft_status run_seq_pool(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                   const struct ft_arg *out, struct ft_err *err)
{
    struct pool p = pool_of(k, &k->in[0], &k->in[1], in[1].data);
    const double *x = in[0].data;
    double *y = out[0].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &p.s, err));
    ft_ref_zero(&k->out[0], y);
    for (int64_t i = 0; i < p.s.count * p.channels; i++) {
        int64_t n = i / p.channels;
        int64_t c = i % p.channels;
        int64_t best = k->attrs.kind == FT_SEQ_MAX ? row_of_max(&p, n, x, c) : -1;
        y[i] = best < 0 ? 0.0 : x[best * p.channels + c];
        for (int64_t r = ft_sequence_begin(&p.s, n); r < ft_sequence_end(&p.s, n); r++) {
            bool summed = k->attrs.kind != FT_SEQ_MAX && ft_sequence_has(&p.s, r);
            double weight = summed ? weight_of(&p, n, r) : 0.0;
            y[i] += weight != 0.0 ? weight * x[r * p.channels + c] : 0.0; /* also where x is not finite */
        }
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(seq_pool, run_seq_pool)

static enum ft_status run_seq_pool_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                       const struct ft_arg *out, struct ft_err *err)
{
    struct pool p = pool_of(k, &k->in[1], &k->in[3], in[3].data);
    const double *dy = in[0].data;
    double *dx = out[0].data;
    FT_RETURN_IF_FAILED(ft_sequences_check(k->head.op, &p.s, err));
    ft_ref_zero(&k->out[0], dx);
    for (int64_t i = 0; i < p.s.count * p.channels; i++) {
        int64_t n = i / p.channels;
        int64_t c = i % p.channels;
        int64_t best = k->attrs.kind == FT_SEQ_MAX ? row_of_max(&p, n, in[1].data, c) : -1;
        if (best >= 0) {
            dx[best * p.channels + c] = dy[i];
        }
        for (int64_t r = ft_sequence_begin(&p.s, n);
             k->attrs.kind != FT_SEQ_MAX && r < ft_sequence_end(&p.s, n); r++) {
            dx[r * p.channels + c] = ft_sequence_has(&p.s, r) ? weight_of(&p, n, r) * dy[i] : 0.0;
        }
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(seq_pool_bwd, run_seq_pool_bwd)
