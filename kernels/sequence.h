/*
 * sequence.h - where the tokens of a call lie, padded or packed, and the angles of rotary positions: what the
 * rows of sequences in ops.def mean on every device.
 *
 * Tokens are rows: row r of the padded form is token r % S of sequence r / S.
 * Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_SEQUENCE_H
#define FT_KERNELS_SEQUENCE_H

#include <math.h>

#include "executor/base/rand.h"
#include "kernels/kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ft_sequences {
    bool padded;
    int64_t count;     /* N */
    int64_t rows;      /* N * S or T */
    int64_t length;    /* S; packed: T, which no sequence exceeds */
    const int64_t *at; /* mask (N, S) or spans (N, 2); NULL: not known yet, or not read */
};

/* Of tokens x with `channels` axes behind those of the tokens; seq may be NULL in the padded form. */
static inline struct ft_sequences ft_sequences_of(const struct ft_type *x, int channels,
                                                  const struct ft_type *seq)
{
    struct ft_sequences s;
    s.padded = x->rank == channels + 2;
    s.count = s.padded ? ft_extent(x, 0) : ft_extent(seq, 0);
    s.length = ft_extent(x, s.padded ? 1 : 0);
    s.rows = s.padded ? s.count * s.length : s.length;
    s.at = NULL;
    return s;
}

/* The rows of sequence i: begin .. end - 1. */
static inline int64_t ft_sequence_begin(const struct ft_sequences *s, int64_t i)
{
    return s->padded ? i * s->length : s->at[2 * i];
}

static inline int64_t ft_sequence_end(const struct ft_sequences *s, int64_t i)
{
    return s->padded ? (i + 1) * s->length : s->at[2 * i] + s->at[2 * i + 1];
}

/* Is row r of a sequence a token? */
static inline bool ft_sequence_has(const struct ft_sequences *s, int64_t r)
{
    return !s->padded || s->at[r] != 0;
}

/* What ATTENTION and its gradients may read behind `seq`: a bias, random numbers; which input, -1: not there.
 */
struct ft_attention_extras {
    int bias, rng;
};

static inline struct ft_attention_extras ft_attention_extras_of(const struct ft_type *in, int n_in, int seq)
{
    struct ft_attention_extras e = {-1, -1};
    for (int i = seq + 1; i < n_in; i++) {
        if (in[i].dtype == FT_I64) {
            e.rng = i;
        } else {
            e.bias = i;
        }
    }
    return e;
}

/* The numbers that decide about weights, and of a sequence of n rows that begins with row `first`, for head h
 * of `heads`: element i * *row + j is the query i's and the key j's. */
static inline struct ft_rand ft_attention_rand(const struct ft_attrs *attrs, const int64_t *rng)
{
    return ft_rand_at((uint64_t)rng[0], FT_RAND_DROPOUT, (uint64_t)rng[1] << 20 | (uint64_t)attrs->node);
}

static inline uint64_t ft_attention_element(int64_t first, int64_t n, int64_t heads, int64_t h, int64_t *row)
{
    *row = (n + 3) / 4 * 4;
    return (uint64_t)(first * heads + h) << 32;
}

/* Rows of filler lie before each sequence, and behind the last one (i = N): from here to its begin (N: to
 * `rows`). */
static inline int64_t ft_sequence_filler(const struct ft_sequences *s, int64_t i)
{
    return i == 0 ? 0 : ft_sequence_end(s, i - 1);
}

/* To be called before anything else looks at spans. */
FT_MUST_CHECK static inline enum ft_status ft_sequences_check(enum ft_op op, const struct ft_sequences *s,
                                                              struct ft_err *err)
{
    int64_t least = 0;
    for (int64_t i = 0; !s->padded && i < s->count; i++) {
        int64_t begin = s->at[2 * i];
        int64_t length = s->at[2 * i + 1];
        if (begin < least || begin > s->rows || length < 1 || length > s->rows - begin) {
            return FT_FAIL(err, INVALID,
                           "%s: sequence %lld is %lld tokens from %lld on, not within %lld .. %lld",
                           ft_op_info(op)->name, (long long)i, (long long)length, (long long)begin,
                           (long long)least, (long long)s->rows - 1);
        }
        least = begin + length;
    }
    return FT_OK;
}

/* Of pair i of `rotated` numbers: inv_freq and its product with the place in float32, as transformers has
 * them. */
static inline float ft_rope_frequency(float base, int64_t rotated, int64_t i)
{
    return 1.0F / powf(base, (float)(2 * i) / (float)rotated);
}

static inline float ft_rope_angle(float frequency, int64_t place)
{
    return (float)place * frequency;
}

#ifdef __cplusplus
}
#endif
#endif
