#include "kernels/ref/ref.h"

/* One (M, K) x (K, N) product inside the batch. */
struct product {
    int64_t m, n, k;
    bool trans_a, trans_b;
    double alpha;
};

static void multiply(const struct product *p, const double *a, const double *b, const double *bias, double *y)
{
    for (int64_t i = 0; i < p->m * p->n; i++) {
        int64_t row = i / p->n;
        int64_t column = i % p->n;
        double sum = 0.0;
        for (int64_t l = 0; l < p->k; l++) {
            double left = p->trans_a ? a[l * p->m + row] : a[row * p->k + l];
            double right = p->trans_b ? b[column * p->k + l] : b[l * p->n + column];
            sum += left * right;
        }
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
