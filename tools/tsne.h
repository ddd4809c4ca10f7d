/*
 * tsne.h - rows of an embedding laid out in the plane, neighbours beside neighbours: t-SNE (van der Maaten
 * and Hinton 2008), exact, with the usual settings: perplexity 30, early exaggeration 12, momentum 0.5 then
 * 0.8, gains.
 */
#ifndef FT_TOOLS_TSNE_H
#define FT_TOOLS_TSNE_H

#include <stdint.h>

#include "executor/base/status.h"

enum { TSNE_ROWS_MAX = 4096 }; /* time and memory grow with the square */

/* rows: (count, dim), of any length; cosine distances are taken. xy: (count, 2), the caller's. Deterministic.
 * FT_INVALID: fewer than 100 rows or more than TSNE_ROWS_MAX; a row of zeros. */
FT_MUST_CHECK enum ft_status tsne(const float *rows, size_t count, int64_t dim, float *xy,
                                  struct ft_err *err);

#endif
