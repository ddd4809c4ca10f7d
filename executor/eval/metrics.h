/*
 * metrics.h - retrieval quality by labels: Finetuner's metrics (finetuner/SPEC A.6, docarray's definitions)
 * and P@1, R-precision, MAP@R, NDCG@k (pytorch-metric-learning's AccuracyCalculator definitions).
 */
#ifndef FT_EVAL_METRICS_H
#define FT_EVAL_METRICS_H

#include "executor/eval/search.h"

struct ft_metrics { /* means over the queries that have at least one relevant document in the index */
    double precision_at_k, recall_at_k, f1_score_at_k, hit_at_k, average_precision, reciprocal_rank, dcg_at_k,
        ndcg_at_k;
    double precision_at_1, r_precision, map_at_r;
    size_t queries; /* counted */
    size_t skipped; /* without a label or without any relevant document */
};
/* Labels are class numbers of one numbering; -1 = none. limit = k (20 in Finetuner). FT_INVALID when no query
 * counts. */
FT_MUST_CHECK enum ft_status ft_metrics_run(struct ft_device *device, const struct ft_search *search,
                                            const int32_t *query_labels, const int32_t *index_labels,
                                            size_t limit, struct ft_metrics *metrics, struct ft_err *err);
/* name and value of metric i, in a fixed order; NULL beyond the last. */
const char *ft_metrics_at(const struct ft_metrics *metrics, size_t i, double *value);
#endif
