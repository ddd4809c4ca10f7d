/*
 * profile.h - where a plan's time goes, as tables: by op row, and the slowest steps.
 */
#ifndef FT_TOOLS_BENCHES_PROFILE_H
#define FT_TOOLS_BENCHES_PROFILE_H
#include <stdio.h>

#include "executor/graph/plan.h"

/* Floating-point operations of one run in convolutions and products, both directions; the rest counts
 * nothing. */
double ft_profile_flops(const struct ft_plan *plan);
/* runs: how many the plan made since ft_plan_profile(); slowest: how many single steps are listed. FT_NOMEM.
 */
FT_MUST_CHECK enum ft_status ft_profile_print(const struct ft_plan *plan, int runs, int slowest, FILE *out,
                                              struct ft_err *err);
#endif
