#include "tools/benches/runs.h"

#include <stdio.h>
#include <stdlib.h>

#include "executor/base/alloc.h"

int ft_runs_number(const char *text, int most)
{
    char *end = NULL;
    long n = strtol(text, &end, 10);
    return *text == '\0' || *end != '\0' || n < 1 || n > most ? -1 : (int)n;
}

bool ft_runs_option(struct ft_runs *runs, int option, const char *text)
{
    if (option == 'r') {
        runs->repeat = ft_runs_number(text, FT_RUNS_MAX);
        return runs->repeat > 0;
    }
    runs->slowest = ft_runs_number(text, 1 << 20);
    return runs->slowest > 0;
}

static enum ft_status run_timed(struct ft_runs *r, const struct ft_runs_job *job, struct ft_err *err)
{
    uint64_t calls = ft_alloc_stats().calls;
    FT_RETURN_IF_FAILED(job->once(job->arg, &r->seconds[r->count++], err));
    r->allocations += ft_alloc_stats().calls - calls;
    return FT_OK;
}

enum ft_status ft_runs_all(struct ft_runs *r, const struct ft_runs_job *job, struct ft_err *err)
{
    enum { WARM_UP = 2 };
    double ignored = 0;
    char line[16];
    for (int i = 0; i < WARM_UP; i++) {
        FT_RETURN_IF_FAILED(job->once(job->arg, &ignored, err));
    }
    if (r->profile) {
        FT_RETURN_IF_FAILED(ft_plan_profile(job->plan(job->arg), true, err));
    }
    if (!r->wait) {
        for (int i = 0; i < r->repeat; i++) {
            FT_RETURN_IF_FAILED(run_timed(r, job, err));
        }
        return FT_OK;
    }
    (void)puts("ready");
    (void)fflush(stdout);
    while (r->count < FT_RUNS_MAX && fgets(line, (int)sizeof line, stdin) != NULL) {
        FT_RETURN_IF_FAILED(run_timed(r, job, err));
        (void)printf("%.9f\n", r->seconds[r->count - 1]);
        (void)fflush(stdout);
    }
    return FT_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double ft_runs_median(double *seconds, size_t n)
{
    qsort(seconds, n, sizeof *seconds, ascending);
    return n == 0 ? 0 : seconds[n / 2];
}
