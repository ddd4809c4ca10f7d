/*
 * loss_softmax.h - losses over softmaxes of cosines, as small graphs: SupConLoss (Khosla et al. 2020),
 * NTXentLoss (Chen et al. 2020) and MultiSimilarityLoss (Wang et al. 2019), as pytorch-metric-learning 2.9.0
 * defines them: same names, options, presets and reducers; all pairs of the batch take part, without a miner.
 *
 * Differs in one place: PML adds a tiny number inside NTXent's logarithm, which caps a pair's loss near 16;
 * here it is not capped.
 */
#ifndef FT_TRAIN_LOSS_SOFTMAX_H
#define FT_TRAIN_LOSS_SOFTMAX_H

#include "executor/train/losses.h"

/* spec->kind is one of the three; the rest as ft_loss_build(). stats: of row PAIRS. */
FT_MUST_CHECK enum ft_status ft_loss_softmax_build(struct ft_graph *g, const struct ft_loss_spec *spec,
                                                   const struct ft_loss_inputs *in, ft_value *loss,
                                                   ft_value *stats, struct ft_err *err);

#endif
