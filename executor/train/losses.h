/*
 * losses.h - losses and miners by pytorch-metric-learning's names (2.9.0), as small graphs.
 *
 * TripletMarginLoss, ContrastiveLoss, SupConLoss, NTXentLoss, MultiSimilarityLoss; TripletMarginMiner,
 * BatchHardMiner and, under a name of its own, FaceNetSemihardMiner (sentence-transformers'
 * BatchSemiHardTripletLoss: for each anchor and positive the nearest negative that is farther than the
 * positive; if there is none, the farthest). Options keep PML's names and presets; one whose value would need
 * what is not built (swap, smooth_loss, triplets_per_anchor, p other than 2) is refused.
 *
 * A loss sees gathered embeddings: `rows` are this process's anchors, `all` everybody's, `offset` is where
 * rows begin in all. Thread-safety: pure functions.
 */
#ifndef FT_TRAIN_LOSSES_H
#define FT_TRAIN_LOSSES_H

#include "executor/codec/json.h"
#include "executor/graph/graph.h"

struct ft_loss_distance {
    bool normalize;        /* embeddings to length one first */
    enum ft_distance kind; /* power 1 or 2 */
};
/* The last three: train/loss_softmax.h. */
enum ft_loss_kind {
    FT_LOSS_TRIPLET,
    FT_LOSS_CONTRASTIVE,
    FT_LOSS_SUPCON,
    FT_LOSS_NTXENT,
    FT_LOSS_MULTI_SIMILARITY
};
struct ft_loss_spec {
    enum ft_loss_kind kind;
    float margin;                 /* triplet */
    float pos_margin, neg_margin; /* contrastive */
    float temperature;            /* SupCon, NTXent */
    float alpha, beta, base;      /* MultiSimilarity */
    enum ft_reducer reducer;
    struct ft_loss_distance distance;
    enum ft_miner miner;
    float miner_margin;
    struct ft_loss_distance miner_distance;
};
/* All names, between spaces: for help and messages. */
extern const char ft_loss_names[];
/* Options may be NULL = {}. FT_INVALID: unknown name or option (with the known ones) or bad value.
 * FT_UNSUPPORTED: known to PML, not built. */
FT_MUST_CHECK enum ft_status ft_loss_parse(const char *loss, const struct ft_json *loss_options,
                                           const char *miner, const struct ft_json *miner_options,
                                           struct ft_loss_spec *spec, struct ft_err *err);
struct ft_loss_inputs {
    ft_value rows, all;              /* (M, D), (N, D) float; one value for both in one process */
    ft_value row_labels, all_labels; /* (M), (N) I32 */
    int64_t offset;
};
/* loss: scalar. stats: (4) I64, candidates, mined, active, anchors with a mined triplet (op rows TRIPLET and
 * PAIRS). */
FT_MUST_CHECK enum ft_status ft_loss_build(struct ft_graph *g, const struct ft_loss_spec *spec,
                                           const struct ft_loss_inputs *in, ft_value *loss, ft_value *stats,
                                           struct ft_err *err);
#endif
