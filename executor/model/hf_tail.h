/*
 * hf_tail.h - what stands behind the rows of tokens in a graph, as modules of sentence-transformers; private
 * to model/.
 *
 * BatchNorm in its evaluation form becomes part of the Dense in front of it.
 */
#ifndef FT_MODEL_HF_TAIL_H
#define FT_MODEL_HF_TAIL_H

#include "executor/model/hf_internal.h"

enum { FT_HF_STEPS = 16 };
enum ft_hf_step_kind { FT_HF_POOLING, FT_HF_DENSE, FT_HF_NORMALIZE };

struct ft_hf_step {
    enum ft_hf_step_kind kind;
    int64_t in, out;         /* widths */
    bool modes[FT_HF_MODES]; /* of a Pooling: those of ft_hf_modes that it has, side by side */
    float *weight;           /* of a Dense: (out, in) */
    float *bias;             /* (out) */
    const char *function;    /* of torch.nn */
};
struct ft_hf_tail {
    ft_value tokens; /* (N, S, C), what the first step reads */
    struct ft_hf_step steps[FT_HF_STEPS];
    int n;
};
/* Of the graph's one output. Not sayable: why names the op, and tail is empty; else why is "".
 * ft_hf_tail_release(). */
FT_MUST_CHECK enum ft_status ft_hf_tail_read(const struct ft_graph *graph, struct ft_hf_tail *tail,
                                             char why[FT_ERR_TEXT], struct ft_err *err);
void ft_hf_tail_release(struct ft_hf_tail *tail);

/* Do the files in dir embed as the graph does? why: "" or that they do not. */
FT_MUST_CHECK enum ft_status ft_hf_compare(const struct ft_graph *graph, const char *dir,
                                           char why[FT_ERR_TEXT], struct ft_err *err);
#endif
