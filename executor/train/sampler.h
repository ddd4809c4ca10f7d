/*
 * sampler.h - which Documents stand in which batch: P classes with K items each, endlessly.
 *
 * Every class appears before any class repeats, and every item of a class before it repeats; inside a batch
 * classes are distinct, and items too as long as their class has K. A shorter class is taken whole in a fresh
 * order and padded from another fresh order. The sequence is a function of the seed and the number of batches
 * drawn, so the position is one integer: ft_sampler_seek() draws again without looking, which costs less than
 * a microsecond a batch of 128. Thread-safety: one thread at a time.
 */
#ifndef FT_TRAIN_SAMPLER_H
#define FT_TRAIN_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/status.h"

struct ft_sampler; /* opaque */

struct ft_sampler_shape {
    size_t classes_per_batch; /* P */
    size_t items_per_class;   /* K */
    size_t batch;             /* P * K */
    size_t batches_per_epoch; /* ceil(N / batch) */
    bool adjusted;            /* not what was asked for: the caller says so to the user */
};

/* Items of class c are items[c][0 .. counts[c]); classes without items are left out of the sequence. Copied.
 */
struct ft_sampler_classes {
    size_t classes;
    const uint32_t *const *items;
    const size_t *counts;
};

/* The nearest workable P and K: K as asked if it divides the batch; else the nearest divisor of the batch, at
 * least 2; with fewer classes than P, all classes and K = batch / P, at most the longest class. FT_INVALID:
 * fewer than two classes. */
FT_MUST_CHECK enum ft_status ft_sampler_fit_shape(const struct ft_sampler_classes *data, size_t batch,
                                                  size_t items_per_class, struct ft_sampler_shape *shape,
                                                  struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_sampler_new(const struct ft_sampler_classes *data,
                                            const struct ft_sampler_shape *shape, uint64_t seed,
                                            struct ft_sampler **sampler, struct ft_err *err);
void ft_sampler_free(struct ft_sampler *sampler); /* NULL is fine */

/* The next batch: items[batch] and, beside each, its class. Allocates nothing. */
void ft_sampler_next(struct ft_sampler *sampler, uint32_t *items, int32_t *classes);
uint64_t ft_sampler_position(const struct ft_sampler *sampler); /* batches drawn so far */
/* Go to where `position` batches have been drawn. */
void ft_sampler_seek(struct ft_sampler *sampler, uint64_t position);
#endif
