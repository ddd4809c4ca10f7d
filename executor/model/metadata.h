/*
 * metadata.h - the texts of an artifact beside the weights: models/<name>/metadata.yml and README.md; private
 * to model/.
 */
#ifndef FT_MODEL_METADATA_H
#define FT_MODEL_METADATA_H

#include "executor/model/artifact.h"

/* name: of the model, fit for a path. */
FT_MUST_CHECK enum ft_status ft_metadata_model(const struct ft_artifact *artifact, const char *name,
                                               struct ft_buf *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_metadata_run(const struct ft_artifact *artifact, const char *name,
                                             struct ft_buf *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_metadata_input_map(const struct ft_artifact *artifact, const char *name,
                                                   struct ft_buf *out, struct ft_err *err);
/* left_out as ft_artifact_write() tells it. */
FT_MUST_CHECK enum ft_status ft_metadata_card(const struct ft_artifact *artifact, const char *name,
                                              const char *left_out, struct ft_buf *out, struct ft_err *err);
#endif
