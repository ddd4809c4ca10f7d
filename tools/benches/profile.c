#include "tools/benches/profile.h"

#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"

/* ---- what a step computes and moves */

/* Of y (N, M, O...) with weights w (M, C / group, K...). */
static double conv_flops(const struct ft_type *y, const struct ft_type *w)
{
    return 2.0 * (double)ft_elements(y) * (double)ft_elements(w) / (double)ft_extent(w, 0);
}

static double step_flops(const struct ft_plan_step_time *s)
{
    if (s->is_reorder) {
        return 0;
    }
    if (s->op == FT_OP_CONV) {
        return conv_flops(&s->out[0], &s->in[1]);
    }
    if (s->op == FT_OP_CONV_BWD_DATA) {
        return conv_flops(&s->in[0], &s->in[1]);
    }
    if (s->op == FT_OP_CONV_BWD_WEIGHT) {
        return conv_flops(&s->in[1], &s->out[0]);
    }
    if (s->op == FT_OP_MATMUL) {
        const struct ft_type *a = &s->in[0];
        int64_t k = ft_extent(a, a->rank - (s->attrs->trans_a ? 2 : 1));
        return 2.0 * (double)ft_elements(&s->out[0]) * (double)k;
    }
    return 0;
}

static double step_bytes(const struct ft_plan_step_time *s)
{
    double bytes = 0;
    for (int i = 0; i < s->n_in; i++) {
        bytes += (double)ft_type_bytes(&s->in[i]);
    }
    for (int i = 0; i < s->n_out; i++) {
        bytes += (double)ft_type_bytes(&s->out[i]);
    }
    return bytes;
}

double ft_profile_flops(const struct ft_plan *plan)
{
    double flops = 0;
    for (int i = 0; i < ft_plan_steps(plan); i++) {
        struct ft_plan_step_time s = ft_plan_step_time(plan, i);
        flops += step_flops(&s);
    }
    return flops;
}

/* ---- tables */

struct row {
    const char *name;
    int steps, at; /* at: one step, for the list of slowest */
    double seconds, flops, bytes;
};

static int slower(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void print_row(const struct row *r, double total, FILE *out)
{
    (void)fprintf(out, "%9.3f ms %5.1f%% ", r->seconds * 1e3, 100 * r->seconds / total);
    if (r->flops > 0) {
        (void)fprintf(out, "%8.1f GFLOP/s", r->flops / r->seconds * 1e-9);
    } else {
        (void)fprintf(out, "%8.1f GB/s   ", r->bytes / r->seconds * 1e-9);
    }
}

static const char *row_name(const struct ft_plan_step_time *s)
{
    bool int8 = s->op == FT_OP_MATMUL && s->attrs->int8 != 0;
    return s->is_reorder ? "(reorder)" : int8 ? "matmul int8" : ft_op_info(s->op)->name;
}

static struct row row_of(const struct ft_plan *plan, int i, int runs)
{
    struct ft_plan_step_time s = ft_plan_step_time(plan, i);
    return (struct row){.name = row_name(&s),
                        .steps = 1,
                        .at = i,
                        .seconds = s.seconds / runs,
                        .flops = step_flops(&s),
                        .bytes = step_bytes(&s)};
}

static void add_row(struct row *rows, int *n, const struct row *one)
{
    int i = 0;
    while (i < *n && strcmp(rows[i].name, one->name) != 0) {
        i++;
    }
    if (i == *n) {
        rows[(*n)++] = (struct row){.name = one->name};
    }
    rows[i].steps++;
    rows[i].seconds += one->seconds;
    rows[i].flops += one->flops;
    rows[i].bytes += one->bytes;
}

static const char *shape_text(const struct ft_type *t, char text[FT_TYPE_TEXT])
{
    const char *brace = strchr(ft_type_text(t, text), '(');
    return brace == NULL ? "" : brace;
}

static void print_step(const struct ft_plan *plan, const struct row *r, double total, FILE *out)
{
    char text[FT_TYPE_TEXT];
    struct ft_plan_step_time s = ft_plan_step_time(plan, r->at);
    print_row(r, total, out);
    (void)fprintf(out, "  %-20s", r->name);
    for (int i = 0; i < s.n_in && i < 2; i++) {
        (void)fprintf(out, " %s", shape_text(&s.in[i], text));
    }
    (void)fprintf(out, " -> %s  %s\n", shape_text(&s.out[0], text), s.origin);
}

enum ft_status ft_profile_print(const struct ft_plan *plan, int runs, int slowest, FILE *out,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct row *steps = NULL;
    struct row *ops = NULL;
    int n = ft_plan_steps(plan);
    int n_ops = 0;
    double total = 0;
    FT_TRY(ft_new((size_t)n, sizeof *steps, &steps, err));
    FT_TRY(ft_new((size_t)n, sizeof *ops, &ops, err));
    for (int i = 0; i < n; i++) {
        steps[i] = row_of(plan, i, runs);
        total += steps[i].seconds;
        add_row(ops, &n_ops, &steps[i]);
    }
    qsort(steps, (size_t)n, sizeof *steps, slower);
    qsort(ops, (size_t)n_ops, sizeof *ops, slower);
    (void)fprintf(out, "by op row, mean of %d runs, %.3f ms in all:\n", runs, total * 1e3);
    for (int i = 0; i < n_ops; i++) {
        print_row(&ops[i], total, out);
        (void)fprintf(out, "  %-20s %5d steps\n", ops[i].name, ops[i].steps);
    }
    (void)fprintf(out, "slowest steps:\n");
    for (int i = 0; i < n && i < slowest; i++) {
        print_step(plan, &steps[i], total, out);
    }
done:
    ft_free(steps);
    ft_free(ops);
    return st;
}
