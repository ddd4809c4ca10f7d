/*
 * defaults.h - what `fit` takes where nothing is said: one table, measured, printed by fit and by help.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_TRAIN_DEFAULTS_H
#define FT_TRAIN_DEFAULTS_H

#include "executor/train/fit.h"

/* Of a loss: its miner and its options when none are given. NULL: unknown loss. */
struct ft_loss_default {
    const char *loss, *miner, *loss_options, *why;
};
const struct ft_loss_default *ft_defaults_loss(const char *loss);
/* Of an optimiser: its learning rate; 0 for an unknown one. */
double ft_defaults_learning_rate(const char *optimizer);
FT_MUST_CHECK enum ft_status ft_defaults_help(struct ft_buf *out, struct ft_err *err);
/* Fill in what was left open: miner "auto", loss_options NULL, learning_rate 0. FT_INVALID: unknown names,
 * with the known. */
FT_MUST_CHECK enum ft_status ft_defaults_resolve(struct ft_fit_options *options, struct ft_err *err);
/* Once it is known that the model reads texts: what was left open in `asked` becomes what suits them. */
void ft_defaults_of_texts(const struct ft_fit_options *asked, struct ft_fit_options *options);
#endif
