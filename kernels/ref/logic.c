#include "kernels/integer.h"
#include "kernels/ref/ref.h"

/* Integers, booleans and choices. */

/* ---- reading elements */

static double float_at(const struct ft_type *t, const void *data, int64_t i)
{
    switch (t->dtype) {
    case FT_F32:
        return (double)((const float *)data)[i];
    case FT_I64:
        return (double)((const int64_t *)data)[i];
    case FT_I32:
        return ((const int32_t *)data)[i];
    case FT_U8:
    case FT_BOOL:
        return ((const uint8_t *)data)[i];
    case FT_F64:
    case FT_BF16: /* widened before it comes here */
    case FT_DTYPE_COUNT:
        break;
    }
    return ((const double *)data)[i];
}

static int64_t int_at(const struct ft_type *t, const void *data, int64_t i)
{
    return t->dtype == FT_I64 ? ((const int64_t *)data)[i] : ft_int_of_float(float_at(t, data, i));
}

/* ---- rows */

static void run_cast(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    int kind = k->attrs.kind;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        if (kind == FT_CAST_FLOAT) {
            ((double *)out[0].data)[i] = float_at(&k->in[0], in[0].data, i);
        } else if (kind == FT_CAST_BOOL) {
            ((uint8_t *)out[0].data)[i] = float_at(&k->in[0], in[0].data, i) != 0.0;
        } else {
            ((int64_t *)out[0].data)[i] = ft_int_narrow(kind, int_at(&k->in[0], in[0].data, i));
        }
    }
}
FT_REF_ROW(cast, run_cast)

static bool holds(int kind, bool less, bool equal, bool greater)
{
    switch (kind) {
    case FT_EQUAL:
        return equal;
    case FT_LESS:
        return less;
    case FT_LESS_OR_EQUAL:
        return less || equal;
    case FT_GREATER:
        return greater;
    default: /* FT_GREATER_OR_EQUAL */
        return greater || equal;
    }
}

static void run_compare(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    uint8_t *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = ft_ref_broadcast(&k->out[0], i, &k->in[0]);
        int64_t bt = ft_ref_broadcast(&k->out[0], i, &k->in[1]);
        if (k->in[0].dtype == FT_I64) { /* a double would not hold all of them */
            int64_t a = int_at(&k->in[0], in[0].data, at);
            int64_t b = int_at(&k->in[1], in[1].data, bt);
            y[i] = holds(k->attrs.kind, a<b, a == b, a> b);
        } else {
            double a = float_at(&k->in[0], in[0].data, at);
            double b = float_at(&k->in[1], in[1].data, bt);
            y[i] = holds(k->attrs.kind, a<b, a == b, a> b);
        }
    }
}
FT_REF_ROW(compare, run_compare)

static void run_logic(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const uint8_t *as = in[0].data;
    const uint8_t *bs = in[k->n_in - 1].data;
    uint8_t *y = out[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        bool a = as[ft_ref_broadcast(&k->out[0], i, &k->in[0])] != 0;
        bool b = bs[ft_ref_broadcast(&k->out[0], i, &k->in[k->n_in - 1])] != 0;
        switch (k->attrs.kind) {
        case FT_LOGIC_NOT:
            y[i] = !a;
            break;
        case FT_LOGIC_AND:
            y[i] = a && b;
            break;
        case FT_LOGIC_OR:
            y[i] = a || b;
            break;
        default: /* FT_LOGIC_XOR */
            y[i] = a != b;
            break;
        }
    }
}
FT_REF_ROW(logic, run_logic)

static void run_where(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out)
{
    const uint8_t *c = in[0].data;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        int from = c[ft_ref_broadcast(&k->out[0], i, &k->in[0])] != 0 ? 1 : 2;
        int64_t at = ft_ref_broadcast(&k->out[0], i, &k->in[from]);
        ft_ref_move(&k->out[0], out[0].data, i, in[from].data, at);
    }
}
FT_REF_ROW(where, run_where)

static enum ft_status run_integers(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                   const struct ft_arg *out, struct ft_err *err)
{
    const int64_t *a = in[0].data;
    const int64_t *b = in[1].data;
    int64_t *y = out[0].data;
    bool fault = false;
    int64_t count = ft_elements(&k->out[0]);
    for (int64_t i = 0; i < count; i++) {
        y[i] = ft_int_binary(k->head.op, k->attrs.kind, a[ft_ref_broadcast(&k->out[0], i, &k->in[0])],
                             b[ft_ref_broadcast(&k->out[0], i, &k->in[1])], &fault);
    }
    return fault ? FT_FAIL(err, INVALID, "%s: an integer is divided by zero", ft_op_info(k->head.op)->name)
                 : FT_OK;
}

enum ft_status ft_ref_integers(struct ft_device *device, const struct ft_call *call,
                               struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)
{
    return ft_ref_new_checked(device, call, run_integers, kernel, scratch, err);
}
