/*
 * rand.h - counter-based randomness: Philox4x32-10 (Salmon et al., SC'11; Random123, same known answers).
 *
 * A value is a pure function of (seed, stream, index): nothing is kept, so resume, several threads and
 * several devices see the same numbers. `stream` names the use (FT_RAND_*) and where in it (step, node);
 * `index` the element. Thread-safety: pure functions.
 */
#ifndef FT_BASE_RAND_H
#define FT_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ft_rand_use {
    FT_RAND_INIT = 1,    /* new weights: `where` = parameter index */
    FT_RAND_SAMPLER = 2, /* `where` = epoch or draw */
    FT_RAND_DROPOUT = 3, /* `where` = step << 20 | node */
    FT_RAND_SPLIT = 4,   /* train/validation split */
    FT_RAND_TEST = 5,
    FT_RAND_AUGMENT = 6 /* `where` = batches drawn before this one */
};

struct ft_rand {
    uint64_t seed;
    uint64_t stream;
};

/* One stream for one use at one place; where < 2^56. */
struct ft_rand ft_rand_at(uint64_t seed, enum ft_rand_use use, uint64_t where);

/* Four 32-bit words for counter `index`. */
void ft_rand_block(struct ft_rand r, uint64_t index, uint32_t out[4]);
/* Word `index` of the stream: block index/4, lane index%4. */
uint32_t ft_rand_u32(struct ft_rand r, uint64_t index);
/* Uniform in [0, 1) with 24 bits: exact in float. */
float ft_rand_float(struct ft_rand r, uint64_t index);
/* Uniform in [0, n), n > 0, without modulo bias worth noticing (64-bit multiply; bias < n / 2^64). */
uint64_t ft_rand_below(struct ft_rand r, uint64_t index, uint64_t n);
/* Standard normal (Box-Muller in double). */
double ft_rand_normal(struct ft_rand r, uint64_t index);
/* Fisher-Yates of `count` indices in place; the same (seed, stream) gives the same order. */
void ft_rand_shuffle(struct ft_rand r, uint32_t *items, size_t count);

#ifdef __cplusplus
}
#endif
#endif
