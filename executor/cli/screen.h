/*
 * screen.h - what a person sees of a run: bars and notes while it goes on, the table at its end. The same
 * whether it trains in this process or in a service.
 */
#ifndef FT_CLI_SCREEN_H
#define FT_CLI_SCREEN_H

#include "executor/cli/cli.h"
#include "executor/train/fit.h"

struct ft_screen {
    struct ft_bar bar;
    struct ft_bar stage; /* of work around the steps */
    bool quiet;
};
/* json: standard output gets an object, and whoever reads it no stages beside it. */
void ft_screen_init(struct ft_screen *screen, bool quiet, bool json);
/* What a job tells, drawn; the screen must outlive the job. */
struct ft_fit_events ft_screen_events(struct ft_screen *screen);
/* Before and after, and how it went: of the object that `fit --json` prints. On stdout. */
void ft_screen_summary(const struct ft_json *summary);
/* The table of metrics. */
void ft_print_before_after(const struct ft_json *before, const struct ft_json *after);
#endif
