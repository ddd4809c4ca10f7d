/*
 * rows.h - a dataset seen as prepared rows: kept in memory when they all fit a quarter of it, else prepared
 * when asked for.
 *
 * Rows to be augmented differ each time; of them the decoded pictures are kept, as many as fit. Texts are
 * tokenised once (texts.h); their rows are ragged and come in batches only.
 *
 * Thread-safety: ft_rows_get() may be called by any number of threads on a const object.
 */
#ifndef FT_TRAIN_ROWS_H
#define FT_TRAIN_ROWS_H

#include "executor/base/thread.h"
#include "executor/prep/augment.h"
#include "executor/prep/batch.h"
#include "executor/store/dataset.h"
#include "executor/train/texts.h"

struct ft_rows {
    const struct ft_dataset *dataset;
    struct ft_prep prep;
    size_t count, elements; /* rows and floats a row; 0 of texts */
    bool is_text;
    struct ft_texts texts; /* when it is */
    float *kept;           /* (count, elements) or NULL */
    int threads;           /* that may prepare at once; 0 = as many as processors */
    struct ft_augment augment;
    uint64_t seed;            /* of the augmentation */
    struct ft_pixels *pixels; /* (count) pictures to augment, empty where they did not fit; or NULL */
    size_t pixel_bytes;
};
/* Bytes of rows that a process should keep at most: a quarter of the memory it may use. */
size_t ft_rows_keep_max(void);
/* threads: how many prepare; 0 = as many as processors. All rows are kept if they fit keep_max bytes (0:
 * never). FT_CANCELLED. Errors name the document. */
FT_MUST_CHECK enum ft_status ft_rows_init(struct ft_rows *rows, const struct ft_dataset *dataset,
                                          const struct ft_prep *prep, int threads, size_t keep_max,
                                          const struct ft_cancel *cancel, struct ft_err *err);
/* The same for training pictures that are augmented. FT_INVALID: a document is no picture. */
struct ft_rows_augmented {
    const struct ft_prep *prep;
    const struct ft_augment *augment; /* on */
    uint64_t seed;
    int threads;
    size_t keep_max;
};
FT_MUST_CHECK enum ft_status ft_rows_init_augmented(struct ft_rows *rows, const struct ft_dataset *dataset,
                                                    const struct ft_rows_augmented *how,
                                                    const struct ft_cancel *cancel, struct ft_err *err);
void ft_rows_release(struct ft_rows *rows);
size_t ft_rows_bytes(const struct ft_rows *rows); /* kept in memory */
/* As evaluation sees it: never augmented. */
FT_MUST_CHECK enum ft_status ft_rows_get(const struct ft_rows *rows, size_t i, float *row,
                                         struct ft_err *err);
/* As training sees it: of an augmented set, changed by what `step` and `place` (in the step's batch) draw. */
FT_MUST_CHECK enum ft_status ft_rows_draw(const struct ft_rows *rows, size_t i, uint64_t step, uint64_t place,
                                          float *row, struct ft_err *err);
/* Put where document i stands, and its id, before a failure's story. */
enum ft_status ft_rows_wrap(const struct ft_rows *rows, size_t i, struct ft_err *err);
/* A batch for rows of this set: texts with room for text_tokens. */
FT_MUST_CHECK enum ft_status ft_rows_batch_init(const struct ft_rows *rows, size_t count, size_t text_tokens,
                                                struct ft_batch *batch, struct ft_err *err);
/* The documents batch->items[0 .. rows_max) as training sees them at `step` (FT_ROWS_AS_THEY_ARE: as
 * evaluation does), on the pool (NULL: here). The first failure by position wins. */
#define FT_ROWS_AS_THEY_ARE UINT64_MAX
FT_MUST_CHECK enum ft_status ft_rows_batch(const struct ft_rows *rows, uint64_t step, struct ft_batch *batch,
                                           struct ft_pool *pool, struct ft_err *err);
/* rows[first .. first + count) on the pool (NULL: here), the first failure by position wins. */
FT_MUST_CHECK enum ft_status ft_rows_fill(const struct ft_rows *rows, size_t first, size_t count, float *out,
                                          struct ft_pool *pool, struct ft_err *err);
#endif
