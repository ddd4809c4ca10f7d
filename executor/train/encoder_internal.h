/*
 * encoder_internal.h - an encoder over parameters that somebody else trains; private to train/.
 *
 * Threads: like the device, one thread.
 */
#ifndef FT_TRAIN_ENCODER_INTERNAL_H
#define FT_TRAIN_ENCODER_INTERNAL_H

#include "executor/train/encoder.h"
#include "executor/train/params.h"
#include "executor/train/rows.h"
#include "executor/train/text_in.h"

struct ft_encoder_parts { /* all borrowed */
    struct ft_device *device;
    const struct ft_graph *graph; /* evaluation form; packed if it can be */
    const char *padded;           /* why it is not packed; NULL or "": it is, or has no texts */
    const struct ft_params *params;
    const struct ft_prep *prep;
};
/* How large the batches of an encoder of texts become. */
struct ft_text_limits ft_encoder_limits(int64_t batch_max, int64_t longest);
FT_MUST_CHECK enum ft_status ft_encoder_share(const struct ft_encoder_parts *parts, int threads,
                                              int64_t batch_max, struct ft_encoder **encoder,
                                              struct ft_err *err);
/* Like ft_encoder_dataset(), of rows that may be kept already. */
FT_MUST_CHECK enum ft_status ft_encoder_all(struct ft_encoder *encoder, const struct ft_rows *rows,
                                            float *out, const struct ft_cancel *cancel,
                                            ft_encode_progress progress, void *arg, struct ft_err *err);
#endif
