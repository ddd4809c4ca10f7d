/*
 * runs.h - the same work over and over, timed: what bench_model and bench_text share.
 */
#ifndef FT_TOOLS_BENCHES_RUNS_H
#define FT_TOOLS_BENCHES_RUNS_H
#include "executor/graph/plan.h"

enum { FT_RUNS_MAX = 10000 };

struct ft_runs {
    int repeat;   /* timed runs, when nobody is waited for */
    bool wait;    /* say "ready", then run once for each line of standard input and print its seconds */
    bool profile; /* the plan, after warming up */
    int slowest;  /* steps that the profile lists */
    /* out */
    int count;
    double seconds[FT_RUNS_MAX];
    uint64_t allocations; /* of ours, in timed runs */
};
struct ft_runs_job {
    enum ft_status (*once)(void *arg, double *seconds, struct ft_err *err);
    struct ft_plan *(*plan)(void *arg); /* asked after a run */
    void *arg;
};

/* 1 .. most, or -1. */
int ft_runs_number(const char *text, int most);
/* 'r' and 's' of getopt: repeat and slowest, from `text`. False: no such number. */
bool ft_runs_option(struct ft_runs *runs, int option, const char *text);
FT_MUST_CHECK enum ft_status ft_runs_all(struct ft_runs *runs, const struct ft_runs_job *job,
                                         struct ft_err *err);
/* Sorts them; 0 for none. */
double ft_runs_median(double *seconds, size_t n);
#endif
