/*
 * internal.h - what the loaders of models share; private to model/.
 */
#ifndef FT_MODEL_INTERNAL_H
#define FT_MODEL_INTERNAL_H

#include "executor/model/model.h"

/* A folder or .zip that ft_artifact_known() accepts. */
FT_MUST_CHECK enum ft_status ft_artifact_read(const char *path, const struct ft_model_options *options,
                                              struct ft_model **model, struct ft_err *err);
/* ft_artifact_known() for those who can pass a failure on. */
FT_MUST_CHECK enum ft_status ft_artifact_probe(const char *path, bool *known, struct ft_err *err);
/* A name of external data: relative, without empty or dot components, no backslash, so that it stays below
 * the model's folder. */
bool ft_location_is_safe(struct ft_bytes location);
#endif
