/*
 * rows.h - a dataset seen as prepared rows: kept in memory when they all fit a quarter of it, else prepared
 * when asked for.
 *
 * Thread-safety: ft_rows_get() may be called by any number of threads on a const object.
 */
#ifndef FT_TRAIN_ROWS_H
#define FT_TRAIN_ROWS_H

#include "executor/base/thread.h"
#include "executor/prep/prep.h"
#include "executor/store/dataset.h"

struct ft_rows {
    const struct ft_dataset *dataset;
    struct ft_prep prep;
    size_t count, elements; /* rows and floats a row */
    float *kept;            /* (count, elements) or NULL */
};
/* Bytes of rows that a process should keep at most: a quarter of the memory it may use. */
size_t ft_rows_keep_max(void);
/* threads: how many prepare; 0 = as many as processors. All rows are kept if they fit keep_max bytes (0:
 * never). FT_CANCELLED. Errors name the document. */
FT_MUST_CHECK enum ft_status ft_rows_init(struct ft_rows *rows, const struct ft_dataset *dataset,
                                          const struct ft_prep *prep, int threads, size_t keep_max,
                                          const struct ft_cancel *cancel, struct ft_err *err);
void ft_rows_release(struct ft_rows *rows);
FT_MUST_CHECK enum ft_status ft_rows_get(const struct ft_rows *rows, size_t i, float *row,
                                         struct ft_err *err);
/* rows[first .. first + count) on the pool (NULL: here), the first failure by position wins. */
FT_MUST_CHECK enum ft_status ft_rows_fill(const struct ft_rows *rows, size_t first, size_t count, float *out,
                                          struct ft_pool *pool, struct ft_err *err);
#endif
