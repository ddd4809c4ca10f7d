/*
 * sampler.h - which Documents stand in which batch: P classes with K items each, endlessly.
 *
 * Every class appears before any class repeats, and every item of a class before it repeats; inside a batch
 * classes are distinct, and items too as long as their class has K. A shorter class is taken whole in a fresh
 * order and padded from another fresh order. Orders are functions of (seed, class, how often it was gone
 * through), so nothing is kept of them: memory does not depend on how many items or classes there are, and
 * ft_sampler_seek() only sets the position. Thread-safety: one thread at a time.
 */
#ifndef FT_TRAIN_SAMPLER_H
#define FT_TRAIN_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/status.h"
#include "executor/store/dataset.h"

struct ft_sampler; /* opaque */

struct ft_sampler_shape {
    size_t classes_per_batch; /* P */
    size_t items_per_class;   /* K */
    size_t batch;             /* P * K */
    size_t batches_per_epoch; /* ceil(N / batch) */
    bool adjusted;            /* not what was asked for: the caller says so to the user */
};

/* Items of class c are item(arg, c, 0 .. count(arg, c) - 1); classes without items are left out of the
 * sequence. Borrowed for as long as the sampler lives. */
struct ft_sampler_classes {
    size_t classes;
    size_t (*count)(const void *arg, size_t c);
    uint32_t (*item)(const void *arg, size_t c, size_t k);
    const void *arg;
};
/* The classes of a dataset, which is borrowed. */
struct ft_sampler_classes ft_sampler_classes_of(const struct ft_dataset *dataset);

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
/* Go to where `position` batches have been drawn: at once. */
void ft_sampler_seek(struct ft_sampler *sampler, uint64_t position);
#endif
