/*
 * pack_internal.h - how a graph is packed (pack.c), what exporters spell out around tokens (pack_match.c),
 * and what a part of a graph is for some batch (pack_probe.c); private to executor/graph.
 */
#ifndef FT_GRAPH_PACK_INTERNAL_H
#define FT_GRAPH_PACK_INTERNAL_H

#include "executor/graph/internal.h"
#include "executor/graph/pack.h"

/* How many leading axes of a value stand for tokens: 1 or 2; none: */
enum {
    FT_LEAD_FREE = 0,  /* no batch */
    FT_LEAD_ROWS = -1, /* a row an item */
    FT_LEAD_OTHER = -2 /* something else: scores, masks, heads in front of tokens */
};
int ft_pack_lead(const struct ft_type *t);

struct ft_packer {
    struct ft_graph_copier c; /* map: FT_NO_VALUE for what has no packed form of its own */
    ft_value mask;            /* of the padded graph, or FT_NO_VALUE */
    ft_value ids;             /* an input (N, S) I64 of it */
    ft_value spans;           /* of the packed graph */
    bool *needed;             /* by value of the padded graph */
    uint16_t *verdicts;       /* by value: what probing said */
    int64_t *numbers;     /* by value: of the one question with a number that was so (FT_PROBE_KEYS, _SAME) */
    ft_value *bias;       /* by value (S, S) of numbers of distances: its packed table (heads, 2D + 1) */
    const char **reasons; /* by value: why it has no packed form */
    struct ft_arena arena; /* of reasons */
    char *why;             /* the reason that is being found */
};

/* ---- spelled-out forms. *done: out is the packed value of the node's first output. */
FT_MUST_CHECK enum ft_status ft_pack_attention(struct ft_packer *p, const struct ft_node *node, ft_value *out,
                                               bool *done, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pack_mean(struct ft_packer *p, const struct ft_node *node, ft_value *out,
                                          bool *done, struct ft_err *err);
/* A value (N, S) that is the place of each token, or one number, whatever the batch holds. */
FT_MUST_CHECK enum ft_status ft_pack_places(struct ft_packer *p, ft_value v, ft_value *out, bool *done,
                                            struct ft_err *err);

/* ---- probing: is the value, whatever else the batch holds, and as far as some batches tell, */
enum ft_probe_question {
    FT_PROBE_KEYS,   /* an addend or a choice of scores that lets every token see all tokens of its sequence
                        and no padding; number: W of those it sees, |i - j| <= W; 0 = all */
    FT_PROBE_PLACES, /* the place of each token */
    FT_PROBE_MASK,   /* the mask */
    FT_PROBE_COUNT,  /* the number of tokens of each row */
    FT_PROBE_SAME    /* one number for all tokens */
};
/* What v (S, S), I64, says of distances j - i: (*table)[d + *reach] of d = -reach .. reach, and what is
 * farther says the same as the ends. *yes = false: it is not of that kind. *table: ft_free(). */
FT_MUST_CHECK enum ft_status ft_pack_probe_distances(struct ft_packer *p, ft_value v, int64_t **table,
                                                     int64_t *reach, bool *yes, struct ft_err *err);
/* Are these the cosines and sines (..., S, R) of places times base^(-2i/R), the second half as the first? */
FT_MUST_CHECK enum ft_status ft_pack_probe_rotation(struct ft_packer *p, ft_value cosines, ft_value sines,
                                                    float *base, bool *yes, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pack_probe(struct ft_packer *p, ft_value v, enum ft_probe_question question,
                                           bool *yes, struct ft_err *err);
#endif
