/*
 * texts.h - many texts as token ids: tokenised once, in parallel, and kept as long as there is room.
 *
 * Lengths are always kept, so that batches can be planned; a text whose ids did not fit is tokenised again
 * when it is asked for. Thread-safety: ft_texts_get() may be called by any number of threads on a const
 * object.
 */
#ifndef FT_TRAIN_TEXTS_H
#define FT_TRAIN_TEXTS_H

#include "executor/base/thread.h"
#include "executor/prep/prep.h"
#include "executor/train/sampler.h"

/* Where the contents come from; may be called by several threads. *own holds what `content` does not borrow.
 */
struct ft_texts_source {
    enum ft_status (*content)(const void *arg, size_t i, struct ft_buf *own, struct ft_content *content,
                              struct ft_err *err);
    const void *arg;
    size_t count;
    int threads;     /* that tokenise; 0 = as many as processors */
    size_t keep_max; /* bytes of ids that are kept at most */
};
struct ft_texts {
    struct ft_texts_source source;
    struct ft_prep prep;
    uint32_t *lengths; /* (source.count) in tokens, each at least 1 */
    int32_t *ids;      /* of the first `kept` texts, one after another */
    size_t *at;        /* (kept) where each begins */
    size_t kept, kept_tokens;
    size_t tokens;  /* of all */
    size_t longest; /* text, in tokens */
};
/* FT_CANCELLED. *failed: the text that could not be prepared, or
 * source.count if something else failed. */
FT_MUST_CHECK enum ft_status ft_texts_init(struct ft_texts *texts, const struct ft_texts_source *source,
                                           const struct ft_prep *prep, const struct ft_cancel *cancel,
                                           size_t *failed, struct ft_err *err);
void ft_texts_release(struct ft_texts *texts);
size_t ft_texts_bytes(const struct ft_texts *texts);
/* The lengths[i] ids of text i. */
FT_MUST_CHECK enum ft_status ft_texts_get(const struct ft_texts *texts, size_t i, int64_t *ids,
                                          struct ft_err *err);
/* Most tokens that a batch of this shape can have, texts standing in it as the sampler lets them. */
FT_MUST_CHECK enum ft_status ft_texts_most(const struct ft_texts *texts,
                                           const struct ft_sampler_classes *classes,
                                           const struct ft_sampler_shape *shape, size_t *tokens,
                                           struct ft_err *err);
/* Text numbers from the longest to the shortest, ties in order; (count), the caller's: ft_free(). */
FT_MUST_CHECK enum ft_status ft_texts_by_length(const struct ft_texts *texts, uint32_t **order,
                                                struct ft_err *err);
#endif
