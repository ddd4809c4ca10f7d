#include <math.h>

#include "kernels/integer.h"
#include "kernels/ref/ref.h"

/* Indexing, and what is ordered along one axis. */

/* ---- indices */

static enum ft_status resolve(const struct ft_ref_kernel *k, int64_t index, int64_t extent, int64_t *out,
                              struct ft_err *err)
{
    *out = index < 0 ? index + extent : index;
    if (*out < 0 || *out >= extent) {
        return FT_FAIL(err, INVALID, "%s: index %lld is not within %lld", ft_op_info(k->head.op)->name,
                       (long long)index, (long long)extent);
    }
    return FT_OK;
}

/* The element of x that GATHER reads for element i of y. */
static enum ft_status gather_from(const struct ft_ref_kernel *k, const struct ft_type *x,
                                  const struct ft_type *y, const int64_t *indices, int64_t i, int64_t *from,
                                  struct ft_err *err)
{
    const struct ft_type *index = &k->in[1];
    int axis = k->attrs.axis;
    int64_t at[FT_MAX_RANK] = {0};
    int64_t source[FT_MAX_RANK] = {0};
    ft_ref_split(y, i, at);
    int64_t which = indices[ft_ref_join(index, at + axis)];
    for (int d = 0; d < x->rank; d++) {
        source[d] = d < axis ? at[d] : d > axis ? at[d - 1 + index->rank] : 0;
    }
    FT_RETURN_IF_FAILED(resolve(k, which, ft_extent(x, axis), &source[axis], err));
    *from = ft_ref_join(x, source);
    return FT_OK;
}

static enum ft_status run_gather(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                 const struct ft_arg *out, struct ft_err *err)
{
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = 0;
        FT_RETURN_IF_FAILED(gather_from(k, &k->in[0], &k->out[0], in[1].data, i, &from, err));
        ft_ref_move(&k->out[0], out[0].data, i, in[0].data, from);
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(gather, run_gather)

static enum ft_status run_gather_bwd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                     const struct ft_arg *out, struct ft_err *err)
{
    const double *dy = in[0].data;
    double *dx = out[0].data;
    int64_t count = ft_elements(&k->in[0]);
    ft_ref_zero(&k->out[0], dx);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = 0;
        FT_RETURN_IF_FAILED(gather_from(k, &k->out[0], &k->in[0], in[1].data, i, &from, err));
        dx[from] += dy[i];
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(gather_bwd, run_gather_bwd)

/* The element of x beside element i of an index of GATHER_ELEMENTS. */
static enum ft_status beside(const struct ft_ref_kernel *k, const int64_t *indices, int64_t i, int64_t *place,
                             struct ft_err *err)
{
    int64_t at[FT_MAX_RANK] = {0};
    int axis = k->attrs.axis;
    ft_ref_split(&k->in[1], i, at);
    FT_RETURN_IF_FAILED(resolve(k, indices[i], ft_extent(&k->in[0], axis), &at[axis], err));
    *place = ft_ref_join(&k->in[0], at);
    return FT_OK;
}

static enum ft_status run_gather_elements(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                          const struct ft_arg *out, struct ft_err *err)
{
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = 0;
        FT_RETURN_IF_FAILED(beside(k, in[1].data, i, &from, err));
        ft_ref_move(&k->out[0], out[0].data, i, in[0].data, from);
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(gather_elements, run_gather_elements)

static double combined(int kind, double a, double b)
{
    switch (kind) {
    case FT_SCATTER_ADD:
        return a + b;
    case FT_SCATTER_MUL:
        return a * b;
    case FT_SCATTER_MAX:
        return a > b || isnan(a) ? a : b;
    default: /* FT_SCATTER_MIN */
        return a < b || isnan(a) ? a : b;
    }
}

static int64_t combined_integers(int kind, int64_t a, int64_t b)
{
    static const enum ft_op ops[] = {[FT_SCATTER_ADD] = FT_OP_ADD,
                                     [FT_SCATTER_MUL] = FT_OP_MUL,
                                     [FT_SCATTER_MAX] = FT_OP_MAXIMUM,
                                     [FT_SCATTER_MIN] = FT_OP_MINIMUM};
    bool fault = false;
    return ft_int_binary(ops[kind], 0, a, b, &fault);
}

/* y[to] with u[i]. */
static void put(const struct ft_ref_kernel *k, void *y, int64_t to, const void *u, int64_t i)
{
    int kind = k->attrs.kind;
    if (kind == FT_SCATTER_SET) {
        ft_ref_move(&k->out[0], y, to, u, i);
    } else if (k->out[0].dtype == FT_I64) {
        ((int64_t *)y)[to] = combined_integers(kind, ((int64_t *)y)[to], ((const int64_t *)u)[i]);
    } else {
        ((double *)y)[to] = combined(kind, ((double *)y)[to], ((const double *)u)[i]);
    }
}

static void copy_all(const struct ft_type *t, void *y, const void *x)
{
    int64_t count = ft_elements(t);
    for (int64_t i = 0; i < count; i++) {
        ft_ref_move(t, y, i, x, i);
    }
}

static enum ft_status run_scatter_elements(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                           const struct ft_arg *out, struct ft_err *err)
{
    int64_t count = ft_elements(&k->in[1]);
    copy_all(&k->out[0], out[0].data, in[0].data);
    for (int64_t i = 0; i < count; i++) {
        int64_t to = 0;
        FT_RETURN_IF_FAILED(beside(k, in[1].data, i, &to, err));
        put(k, out[0].data, to, in[2].data, i);
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(scatter_elements, run_scatter_elements)

/* The element of x beside element i of the result of GATHER_ND, whose type is `y`. */
static enum ft_status beside_nd(const struct ft_ref_kernel *k, const struct ft_type *y,
                                const int64_t *indices, int64_t i, int64_t *place, struct ft_err *err)
{
    const struct ft_type *x = &k->in[0];
    const struct ft_type *index = &k->in[1];
    int batch = (int)k->attrs.count;
    int depth = (int)ft_extent(index, index->rank - 1);
    int64_t at[FT_MAX_RANK] = {0};
    int64_t row[FT_MAX_RANK] = {0};
    int64_t source[FT_MAX_RANK] = {0};
    ft_ref_split(y, i, at);
    for (int d = 0; d < index->rank - 1; d++) {
        row[d] = at[d];
    }
    int64_t first = ft_ref_join(index, row);
    for (int d = 0; d < x->rank; d++) {
        if (d < batch) {
            source[d] = at[d];
        } else if (d < batch + depth) {
            FT_RETURN_IF_FAILED(resolve(k, indices[first + d - batch], ft_extent(x, d), &source[d], err));
        } else {
            source[d] = at[index->rank - 1 + d - batch - depth];
        }
    }
    *place = ft_ref_join(x, source);
    return FT_OK;
}

static enum ft_status run_gather_nd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                    const struct ft_arg *out, struct ft_err *err)
{
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t from = 0;
        FT_RETURN_IF_FAILED(beside_nd(k, &k->out[0], in[1].data, i, &from, err));
        ft_ref_move(&k->out[0], out[0].data, i, in[0].data, from);
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(gather_nd, run_gather_nd)

static enum ft_status run_scatter_nd(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                     const struct ft_arg *out, struct ft_err *err)
{
    int64_t count = ft_elements(&k->in[2]);
    copy_all(&k->out[0], out[0].data, in[0].data);
    for (int64_t i = 0; i < count; i++) {
        int64_t to = 0;
        FT_RETURN_IF_FAILED(beside_nd(k, &k->in[2], in[1].data, i, &to, err));
        put(k, out[0].data, to, in[2].data, i);
    }
    return FT_OK;
}
FT_REF_CHECKED_ROW(scatter_nd, run_scatter_nd)

/* ---- along one axis: lane i of the others, element j of the axis */

struct lanes {
    int64_t count, extent, inner;
};

static struct lanes lanes_of(const struct ft_type *x, int axis)
{
    struct lanes l = {.extent = ft_extent(x, axis), .inner = ft_ref_extent(x, axis + 1, x->rank)};
    l.count = ft_elements(x) / l.extent;
    return l;
}

static int64_t lane_at(const struct lanes *l, int64_t extent, int64_t lane, int64_t j)
{
    return (lane / l->inner * extent + j) * l->inner + lane % l->inner;
}

/* Does element a of x come before element b, the larger first? A NaN counts as the largest. */
static bool ahead(const struct ft_type *t, const void *x, int64_t a, int64_t b, bool smallest)
{
    if (t->dtype == FT_I64) {
        const int64_t *n = x;
        return smallest ? n[a] < n[b] : n[a] > n[b];
    }
    double p = ((const double *)x)[smallest ? b : a];
    double q = ((const double *)x)[smallest ? a : b];
    return p > q || (isnan(p) && !isnan(q));
}

static void run_arg_extreme(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const struct ft_type *t = &k->in[0];
    struct lanes l = lanes_of(t, k->attrs.axis);
    bool smallest = k->attrs.kind != 0;
    for (int64_t i = 0; i < l.count; i++) {
        int64_t best = 0;
        for (int64_t j = 1; j < l.extent; j++) {
            int64_t a = lane_at(&l, l.extent, i, j);
            int64_t b = lane_at(&l, l.extent, i, best);
            bool is_nan = t->dtype != FT_I64 && isnan(((const double *)in[0].data)[a]);
            bool was_nan = t->dtype != FT_I64 && isnan(((const double *)in[0].data)[b]);
            bool wins = is_nan || was_nan ? is_nan && !was_nan : ahead(t, in[0].data, a, b, smallest);
            bool ties = is_nan == was_nan && (is_nan || !ahead(t, in[0].data, b, a, smallest));
            best = wins || (ties && k->attrs.count != 0) ? j : best;
        }
        ((int64_t *)out[0].data)[i] = best;
    }
}
FT_REF_ROW(arg_extreme, run_arg_extreme)

/* An element's place in the result is the number of those before it. */
static void run_topk(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const struct ft_type *t = &k->in[0];
    struct lanes l = lanes_of(t, k->attrs.axis);
    bool smallest = k->attrs.kind != 0;
    for (int64_t i = 0; i < l.count; i++) {
        for (int64_t j = 0; j < l.extent; j++) {
            int64_t place = 0;
            int64_t a = lane_at(&l, l.extent, i, j);
            for (int64_t other = 0; other < l.extent; other++) {
                int64_t b = lane_at(&l, l.extent, i, other);
                bool first = other < j && !ahead(t, in[0].data, a, b, smallest);
                place += first || ahead(t, in[0].data, b, a, smallest);
            }
            if (place < k->attrs.count) {
                int64_t to = lane_at(&l, k->attrs.count, i, place);
                ft_ref_move(t, out[0].data, to, in[0].data, a);
                ((int64_t *)out[1].data)[to] = j;
            }
        }
    }
}
FT_REF_ROW(topk, run_topk)

static void run_cumsum(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    struct lanes l = lanes_of(&k->in[0], k->attrs.axis);
    bool exclusive = (k->attrs.kind & FT_CUMSUM_EXCLUSIVE) != 0;
    bool reverse = (k->attrs.kind & FT_CUMSUM_REVERSE) != 0;
    bool integers = k->in[0].dtype == FT_I64;
    for (int64_t i = 0; i < l.count; i++) {
        double sum = 0.0;
        uint64_t total = 0;
        for (int64_t j = 0; j < l.extent; j++) {
            int64_t at = lane_at(&l, l.extent, i, reverse ? l.extent - 1 - j : j);
            double before = sum;
            uint64_t total_before = total;
            if (integers) {
                total += (uint64_t)((const int64_t *)in[0].data)[at];
                ((int64_t *)out[0].data)[at] = ft_int_wrap(exclusive ? total_before : total);
            } else {
                sum += ((const double *)in[0].data)[at];
                ((double *)out[0].data)[at] = exclusive ? before : sum;
            }
        }
    }
}
FT_REF_ROW(cumsum, run_cumsum)

static void run_maxpool_indices(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                const struct ft_arg *out)
{
    const struct ft_type *x = &k->in[1];
    const int32_t *where = in[0].data;
    int64_t *y = out[0].data;
    int64_t width = ft_extent(x, x->rank - 1);
    int64_t plane = ft_ref_extent(x, 2, x->rank);
    int64_t per_plane = ft_ref_extent(&k->out[0], 2, x->rank);
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t w = where[i];
        int64_t inside = k->attrs.kind != 0 ? w % width * (plane / width) + w / width : w;
        y[i] = i / per_plane * plane + inside;
    }
}
FT_REF_ROW(maxpool_indices, run_maxpool_indices)
