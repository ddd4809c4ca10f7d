/*
 * freeze.h - which parameters of a tailored graph are frozen, and the report about its layers; private to
 * model/.
 */
#ifndef FT_MODEL_FREEZE_H
#define FT_MODEL_FREEZE_H

#include "executor/model/head.h"

/* Set the flags of `tailored` as options->freeze says. Layers are those of `original`; `at` is the value of
 * it that the tailored graph goes on from. */
FT_MUST_CHECK enum ft_status ft_freeze(const struct ft_graph *original, ft_value at,
                                       const struct ft_tailor_options *options, struct ft_graph *tailored,
                                       struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_tailor_describe(const struct ft_graph *original, ft_value at,
                                                const struct ft_cut *cut, const struct ft_graph *tailored,
                                                struct ft_tailor_report *report, struct ft_err *err);
#endif
