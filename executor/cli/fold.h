/*
 * fold.h - the layers of a model as few lines: blocks by the parts of their names, equal blocks once.
 */
#ifndef FT_CLI_FOLD_H
#define FT_CLI_FOLD_H

#include "executor/model/tailor.h"

/* layers[first .. first + count), `times` times one after the other. */
struct ft_fold_line {
    size_t first, count, times;
    int depth; /* parts of the origin that name it; 0: none do */
};
struct ft_fold {
    struct ft_fold_line *lines; /* ft_free() */
    size_t n_lines;
};
/* At most `page` lines if there is any way. */
FT_MUST_CHECK enum ft_status ft_fold_layers(const struct ft_layer *layers, size_t n, size_t page,
                                            struct ft_fold *fold, struct ft_err *err);
/* "layer1.0", "features.3", or the layer's own name: what a line is called. */
enum { FT_FOLD_NAME = 80 };
const char *ft_fold_name(const struct ft_layer *layers, const struct ft_fold_line *line,
                         char out[FT_FOLD_NAME]);
/* "3 conv, 3 batchnorm, 2 relu, add", with an ellipsis when there are more */
enum { FT_FOLD_OPS = 42 };
const char *ft_fold_ops(const struct ft_layer *layers, const struct ft_fold_line *line,
                        char out[FT_FOLD_OPS]);
#endif
