/*
 * inspect.h - what `inspect` shows of a model: its layers, folded into blocks, what tailoring does to it, and
 * what training will cost.
 *
 * Layers are folded by the parts of their origins ("/layer1/layer1.0/conv1/Conv"), as deep as still fits a
 * page, and equal neighbours become one line. Names that say nothing are folded by repetition alone.
 */
#ifndef FT_CLI_INSPECT_H
#define FT_CLI_INSPECT_H

#include "executor/model/tailor.h"
#include "executor/train/cost.h"

struct ft_inspection { /* all borrowed */
    const struct ft_model *model;
    const struct ft_tailor_report *report;
    const struct ft_json *prep;   /* NULL: the model cannot be prepared for */
    const char *prep_text, *hint; /* hint may be NULL */
    const struct ft_cost *cost;   /* NULL: it has none, for `no_cost` says why */
    const char *no_cost;
    const char *padded; /* of texts: why they are padded, "" if they are not; NULL: of no texts */
    const char *out;    /* of `tailor`; NULL: nothing was written */
    bool full;          /* one line a layer */
};
FT_MUST_CHECK enum ft_status ft_inspect_print(const struct ft_inspection *inspection, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_inspect_print_json(const struct ft_inspection *inspection,
                                                   struct ft_err *err);
#endif
