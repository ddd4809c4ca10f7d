#include "kernels/ref/ref.h"

#include "kernels/int8.h"

/* One (M, K) x (K, N) product inside the batch. */
struct product {
    int64_t m, n, k;
    bool trans_a, trans_b, int8;
    double alpha;
};

/* A row of a or a column of b: element l at x[l * step]. */
struct line {
    const double *x;
    int64_t step, length;
};

static struct line row_of(const struct product *p, const double *a, int64_t row)
{
    return p->trans_a ? (struct line){a + row, p->m, p->k} : (struct line){a + row * p->k, 1, p->k};
}

static struct line column_of(const struct product *p, const double *b, int64_t column)
{
    return p->trans_b ? (struct line){b + column * p->k, 1, p->k} : (struct line){b + column, p->n, p->k};
}

static double multiply_lines(const struct line *left, const struct line *right)
{
    double sum = 0.0;
    for (int64_t l = 0; l < left->length; l++) {
        sum += left->x[l * left->step] * right->x[l * right->step];
    }
    return sum;
}

static struct ft_int8_line quantised(const struct line *line, int32_t levels)
{
    float most = 0;
    for (int64_t l = 0; l < line->length; l++) {
        float x = fabsf((float)line->x[l * line->step]);
        most = x > most || isnan(x) ? x : most; /* a NaN stays: nothing is greater */
    }
    return ft_int8_line_of(most, levels);
}

static double multiply_int8(const struct line *left, const struct line *right)
{
    const struct ft_int8_line a = quantised(left, ft_int8_levels(left->length));
    const struct ft_int8_line b = quantised(right, FT_INT8_LEVELS);
    int64_t sum = 0;
    for (int64_t l = 0; a.inverse != 0 && b.inverse != 0 && l < left->length; l++) {
        sum += (int64_t)ft_int8_of((float)left->x[l * left->step], a) *
               ft_int8_of((float)right->x[l * right->step], b);
    }
    return (double)sum * (double)a.scale * (double)b.scale;
}

static void multiply(const struct product *p, const double *a, const double *b, const double *bias, double *y)
{
    for (int64_t i = 0; i < p->m * p->n; i++) {
        int64_t row = i / p->n;
        int64_t column = i % p->n;
        const struct line left = row_of(p, a, row);
        const struct line right = column_of(p, b, column);
        double sum = p->int8 ? multiply_int8(&left, &right) : multiply_lines(&left, &right);
        y[i] = p->alpha * sum + (bias != NULL ? bias[column] : 0.0);
    }
}

static void run_matmul(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const struct ft_type *a = &k->in[0];
    const struct ft_type *b = &k->in[1];
    const struct ft_type *y = &k->out[0];
    struct product p = {.m = ft_extent(y, y->rank - 2),
                        .n = ft_extent(y, y->rank - 1),
                        .k = ft_extent(a, a->rank - (k->attrs.trans_a ? 2 : 1)),
                        .trans_a = k->attrs.trans_a != 0,
                        .trans_b = k->attrs.trans_b != 0,
                        .int8 = k->attrs.int8 != 0,
                        .alpha = (double)k->attrs.alpha};
    int64_t batch = ft_ref_extent(y, 0, y->rank - 2);
    int64_t step_a = a->rank == 2 ? 0 : p.m * p.k; /* a matrix meets every one of the batch */
    int64_t step_b = b->rank == 2 ? 0 : p.k * p.n;
    struct ft_ref_epilogue e = ft_ref_epilogue_of(k, in);
    double *ys = out[0].data;
    for (int64_t i = 0; i < batch; i++) {
        multiply(&p, (const double *)in[0].data + i * step_a, (const double *)in[1].data + i * step_b, e.bias,
                 ys + i * p.m * p.n);
    }
    int64_t count = ft_elements(y);
    for (int64_t i = 0; i < count; i++) {
        ys[i] = ft_ref_act(&k->attrs, ys[i] + (e.residual != NULL ? e.residual[i] : 0.0));
    }
}
FT_REF_ROW(matmul, run_matmul)
