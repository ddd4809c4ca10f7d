/*
 * grad_cases_sequence.h - problems of sequences of tokens; included by grad_cases.h only.
 */
#ifndef FT_TESTS_GRAD_CASES_SEQUENCE_H
#define FT_TESTS_GRAD_CASES_SEQUENCE_H

/* Sequences of 3, 1 and 2 tokens with filler around; as a mask of 4 with a hole, and one without a token. */
static const int64_t three_spans[6] = {1, 3, 4, 1, 6, 2};
static const int64_t three_masks[12] = {1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0};

static inline struct ft_type tokens(bool padded, int channels)
{
    return padded ? shape(3, 3, 4, channels) : shape(2, 9, channels);
}

static inline ft_value seq_input(struct problem *p, bool padded)
{
    return padded ? int_input(p, shape(2, 3, 4), three_masks) : int_input(p, shape(2, 3, 2), three_spans);
}

/* Two heads of three numbers. */
static inline void attention(struct problem *p, bool padded, int window, int most, float dropout)
{
    struct ft_attrs a = no_attrs();
    a.group = 2;
    a.alpha = 0.5F;
    a.count = window;
    ft_value q = any(p, tokens(padded, 6));
    ft_value k = any(p, tokens(padded, 6));
    ft_value v = any(p, tokens(padded, 6));
    ft_value more[2];
    ft_value seq = seq_input(p, padded);
    int n = 0;
    if (most >= 0) {
        more[n++] = any(p, shape(2, 2, 2 * most + 1));
    }
    if (dropout > 0) {
        a.dropout = dropout;
        a.node = 6;
        more[n++] = rng_state(p);
    }
    p->y = n == 0   ? node(p->g, FT_OP_ATTENTION, a, 4, q, k, v, seq)
           : n == 1 ? node(p->g, FT_OP_ATTENTION, a, 5, q, k, v, seq, more[0])
                    : node(p->g, FT_OP_ATTENTION, a, 6, q, k, v, seq, more[0], more[1]);
}

#define ATTENTION_CASE(padded, window, most, dropout, name)                                                  \
    static inline void attention_##name(struct problem *p)                                                   \
    {                                                                                                        \
        attention(p, padded, window, most, dropout);                                                         \
    }
ATTENTION_CASE(false, 0, -1, 0, packed)
ATTENTION_CASE(false, 1, -1, 0, packed_window)
ATTENTION_CASE(false, 0, 1, 0, packed_bias)
ATTENTION_CASE(true, 0, -1, 0, padded)
ATTENTION_CASE(true, 2, 2, 0, padded_window_bias)
ATTENTION_CASE(false, 0, -1, 0.3F, packed_dropout)
ATTENTION_CASE(true, 2, 2, 0.4F, padded_dropout)

static inline struct ft_attrs rope_attrs(int kind)
{
    struct ft_attrs a = no_attrs();
    a.group = 2;
    a.count = 4;
    a.alpha = 100.0F;
    a.kind = kind;
    return a;
}

static inline void rope_packed(struct problem *p)
{
    ft_value x = any(p, tokens(false, 10));
    p->y = node(p->g, FT_OP_ROPE, rope_attrs(0), 2, x, seq_input(p, false));
}

static inline void rope_padded(struct problem *p)
{
    p->y = node(p->g, FT_OP_ROPE, rope_attrs(1), 1, any(p, tokens(true, 10)));
}

#define SEQ_POOL_CASES(X) X(MEAN) X(MAX) X(FIRST) X(LAST) X(WEIGHTED_MEAN) X(MEAN_SQRT_LEN)
#define SEQ_POOL_CASE(kind)                                                                                  \
    static inline void seq_pool_##kind(struct problem *p)                                                    \
    {                                                                                                        \
        ft_value x = distinct(p, tokens(false, 5));                                                          \
        p->y = node(p->g, FT_OP_SEQ_POOL, of_kind(FT_SEQ_##kind), 2, x, seq_input(p, false));                \
    }                                                                                                        \
    static inline void seq_pool_padded_##kind(struct problem *p)                                             \
    {                                                                                                        \
        ft_value x = distinct(p, tokens(true, 5));                                                           \
        p->y = node(p->g, FT_OP_SEQ_POOL, of_kind(FT_SEQ_##kind), 2, x, seq_input(p, true));                 \
    }
SEQ_POOL_CASES(SEQ_POOL_CASE)
#define SEQ_POOL_ROW(kind)                                                                                   \
    {FT_OP_SEQ_POOL, "seq_pool " #kind, seq_pool_##kind},                                                    \
        {FT_OP_SEQ_POOL, "seq_pool padded " #kind, seq_pool_padded_##kind},

#endif
