#include <math.h>
#include <string.h>

#include "executor/model/import.h"

/* Integers, booleans and choices. What is known is folded (fold.c), the rest becomes nodes. All integers are
 * FT_I64; where the file has a narrower type, arithmetic is followed by a CAST that wraps as that type does.
 */

static struct ft_attrs of_kind(int kind)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = kind;
    return attrs;
}

/* Inputs 0 .. n-1 -> one node -> output 0. */
static enum ft_status to_node(struct ft_at *at, enum ft_op op, int kind, int n, struct ft_err *err)
{
    struct ft_attrs attrs = of_kind(kind);
    ft_value in[3] = {FT_NO_VALUE, FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    for (int i = 0; i < n; i++) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[i], err));
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, op, &attrs, in, n, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* ---- Cast */

static enum ft_status cast_of_onnx(struct ft_at *at, int64_t type, enum ft_cast *out, struct ft_err *err)
{
    static const struct {
        int type;
        enum ft_cast cast;
    } casts[] = {
        {FT_ONNX_FLOAT, FT_CAST_FLOAT},    {FT_ONNX_DOUBLE, FT_CAST_FLOAT}, {FT_ONNX_FLOAT16, FT_CAST_FLOAT},
        {FT_ONNX_BFLOAT16, FT_CAST_FLOAT}, {FT_ONNX_BOOL, FT_CAST_BOOL},    {FT_ONNX_INT64, FT_CAST_I64},
        {FT_ONNX_UINT64, FT_CAST_I64},     {FT_ONNX_INT32, FT_CAST_I32},    {FT_ONNX_INT16, FT_CAST_I16},
        {FT_ONNX_INT8, FT_CAST_I8},        {FT_ONNX_UINT32, FT_CAST_U32},   {FT_ONNX_UINT16, FT_CAST_U16},
        {FT_ONNX_UINT8, FT_CAST_U8},
    };
    for (size_t i = 0; i < sizeof casts / sizeof casts[0]; i++) {
        if (casts[i].type == type) {
            *out = casts[i].cast;
            return FT_OK;
        }
    }
    return ft_at_unsupported(at, err, "to this element type");
}

enum ft_status ft_at_cast_to(struct ft_at *at, const char *name, enum ft_cast *out, struct ft_err *err)
{
    int64_t type = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, name, &type, err));
    return type == 0 ? FT_OK : cast_of_onnx(at, type, out, err);
}

static enum ft_cast cast_of_input(const struct ft_at *at, int i)
{
    enum ft_dtype dtype = ft_at_dtype(at, i);
    enum ft_cast narrow = ft_at_slot(at, i)->integer;
    return dtype == FT_F32    ? FT_CAST_FLOAT
           : dtype == FT_BOOL ? FT_CAST_BOOL
           : narrow != 0      ? narrow
                              : FT_CAST_I64;
}

enum ft_status ft_import_cast(struct ft_at *at, int like, struct ft_err *err)
{
    enum ft_cast from = cast_of_input(at, 0);
    enum ft_cast to = FT_CAST_FLOAT;
    int64_t type = 0;
    if (like) {
        to = cast_of_input(at, 1);
    } else {
        FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "to", &type, err));
        FT_RETURN_IF_FAILED(cast_of_onnx(at, type, &to, err));
    }
    int number = at->node->n_out > 0 ? at->im->out[at->index][0] : -1;
    if (number >= 0) {
        at->im->slots[number].integer = to > FT_CAST_I64 ? to : (enum ft_cast)0;
    }
    if (from == to || (to == FT_CAST_I64 && from > FT_CAST_I64)) { /* widening changes nothing */
        FT_RETURN_IF_FAILED(ft_at_pass(at, err));
        ft_at_keep_weight(at, 0);
        return FT_OK;
    }
    return ft_at_host(at, 0) != NULL ? ft_fold_cast(at, to, err) : to_node(at, FT_OP_CAST, (int)to, 1, err);
}

enum ft_status ft_at_wrapped(struct ft_at *at, ft_value v, ft_value *out, struct ft_err *err)
{
    enum ft_cast narrow = ft_at_slot(at, 0)->integer;
    struct ft_attrs attrs = of_kind((int)narrow);
    *out = v;
    return narrow == 0 || ft_at_type(at, v)->dtype != FT_I64
               ? FT_OK
               : ft_at_add(at, FT_OP_CAST, &attrs, &v, 1, out, err);
}

/* ---- comparisons, logic, Where */

enum ft_status ft_import_compare(struct ft_at *at, int kind, struct ft_err *err)
{
    return ft_at_all_host(at) ? ft_fold_compare(at, (enum ft_compare)kind, err)
                              : to_node(at, FT_OP_COMPARE, kind, 2, err);
}

enum ft_status ft_import_logic(struct ft_at *at, int kind, struct ft_err *err)
{
    int n = kind == FT_LOGIC_NOT ? 1 : 2;
    for (int i = 0; i < n; i++) {
        if (ft_at_dtype(at, i) != FT_BOOL) {
            return FT_FAIL(err, INVALID, "input %d is not boolean", i);
        }
    }
    return ft_at_all_host(at) ? ft_fold_logic(at, (enum ft_logic)kind, err)
                              : to_node(at, FT_OP_LOGIC, kind, n, err);
}

enum ft_status ft_import_where(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    return ft_at_all_host(at) ? ft_fold_where(at, err) : to_node(at, FT_OP_WHERE, 0, 3, err);
}

/* A NaN alone differs from itself. */
enum ft_status ft_import_is_nan(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs = of_kind(FT_EQUAL);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    in[1] = in[0];
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, &y, err));
    attrs.kind = FT_LOGIC_NOT;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_LOGIC, &attrs, &y, 1, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_is_inf(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    static const float ends[2] = {-INFINITY, INFINITY};
    static const char *const names[2] = {"detect_negative", "detect_positive"};
    struct ft_type scalar = ft_type_of(FT_F32, 0, NULL);
    struct ft_attrs attrs = of_kind(FT_EQUAL);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value found[2] = {FT_NO_VALUE, FT_NO_VALUE};
    int n = 0;
    FT_RETURN_IF_FAILED(ft_at_value(at, 0, &in[0], err));
    for (int i = 0; i < 2; i++) {
        int64_t asked = 1;
        FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, names[i], &asked, err));
        if (asked != 0) {
            FT_RETURN_IF_FAILED(ft_at_const(at, &scalar, &ends[i], &in[1], err));
            FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, &found[n++], err));
        }
    }
    if (n == 0) {
        return ft_at_unsupported(at, err, "neither infinity is looked for");
    }
    attrs.kind = FT_LOGIC_OR;
    if (n == 2) {
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_LOGIC, &attrs, found, 2, &found[0], err));
    }
    return ft_at_set(at, 0, found[0], err);
}

/* ---- arithmetic on integers */

/* Pow gives the type of its base: an integer base with a float exponent goes through floats and back. */
static enum ft_status mixed_power(struct ft_at *at, ft_value *in, ft_value *y, struct ft_err *err)
{
    struct ft_attrs attrs = of_kind(FT_CAST_FLOAT);
    bool ints = ft_at_dtype(at, 0) == FT_I64;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_CAST, &attrs, &in[ints ? 0 : 1], 1, &in[ints ? 0 : 1], err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_POW, NULL, in, 2, y, err));
    attrs.kind = FT_CAST_I64;
    return ints ? ft_at_add(at, FT_OP_CAST, &attrs, y, 1, y, err) : FT_OK;
}

enum ft_status ft_import_int_binary(struct ft_at *at, enum ft_op op, int kind, struct ft_err *err)
{
    struct ft_attrs attrs = of_kind(kind);
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    for (int i = 0; i < 2; i++) {
        FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[i], err));
    }
    if (op == FT_OP_POW && ft_at_dtype(at, 0) != ft_at_dtype(at, 1)) {
        FT_RETURN_IF_FAILED(mixed_power(at, in, &y, err));
    } else {
        FT_RETURN_IF_FAILED(ft_at_add(at, op, &attrs, in, 2, &y, err));
    }
    FT_RETURN_IF_FAILED(ft_at_wrapped(at, y, &y, err));
    return ft_at_set(at, 0, y, err);
}

/* x compared with 0, as 0 or 1. */
static enum ft_status beside_zero(struct ft_at *at, ft_value x, ft_value zero, enum ft_compare side,
                                  ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs = of_kind((int)side);
    const ft_value in[2] = {x, zero};
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_COMPARE, &attrs, in, 2, out, err));
    attrs.kind = FT_CAST_I64;
    return ft_at_add(at, FT_OP_CAST, &attrs, out, 1, out, err);
}

/* Abs or Sign of a known tensor: a monomial has the sign of its coefficient. */
static enum ft_status fold_int_unary(struct ft_at *at, bool sign, struct ft_err *err)
{
    const struct ft_host *x = ft_at_host(at, 0);
    struct ft_host *out = NULL;
    FT_RETURN_IF_FAILED(ft_host_new(&at->im->arena, FT_I64, x->rank, x->dims, &out, NULL, err));
    for (int64_t i = 0; i < x->count; i++) {
        int64_t coef = x->ints[i].coef;
        out->ints[i] = sign ? ft_dim_of((coef > 0) - (coef < 0)) : x->ints[i];
        if (!sign && coef < 0 && __builtin_sub_overflow(0, coef, &out->ints[i].coef)) {
            return FT_FAIL(err, LIMIT, "an integer overflows");
        }
    }
    ft_at_set_host(at, 0, out);
    return FT_OK;
}

enum ft_status ft_import_int_unary(struct ft_at *at, struct ft_err *err)
{
    const int64_t nothing = 0;
    bool sign = ft_bytes_is(at->node->op, "Sign");
    bool absolute = ft_bytes_is(at->node->op, "Abs");
    struct ft_type scalar = ft_type_of(FT_I64, 0, NULL);
    ft_value x = FT_NO_VALUE;
    ft_value zero = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    if (ft_at_host(at, 0) != NULL) {
        return fold_int_unary(at, sign, err);
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, 0, &x, err));
    FT_RETURN_IF_FAILED(ft_graph_const(at->im->graph, "", &scalar, &nothing, &zero, err));
    ft_value in[2] = {zero, x};
    if (sign) {
        FT_RETURN_IF_FAILED(beside_zero(at, x, zero, FT_GREATER, &in[0], err));
        FT_RETURN_IF_FAILED(beside_zero(at, x, zero, FT_LESS, &in[1], err));
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_SUB, NULL, in, 2, &y, err));
    if (absolute) {
        in[0] = y;
        FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MAXIMUM, NULL, in, 2, &y, err));
    }
    FT_RETURN_IF_FAILED(ft_at_wrapped(at, y, &y, err));
    return ft_at_set(at, 0, y, err);
}

enum ft_status ft_import_mod(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    int64_t fmod_kind = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_int(at->node, "fmod", &fmod_kind, err));
    if (fmod_kind == 0 && ft_at_dtype(at, 0) != FT_I64) {
        return FT_FAIL(err, INVALID, "the remainder of floats needs fmod = 1");
    }
    return ft_at_all_host(at) ? ft_fold_binary(at, FT_OP_MOD, fmod_kind != 0, err)
                              : ft_import_int_binary(at, FT_OP_MOD, fmod_kind != 0, err);
}

/* ---- Max and Min */

/* One more input: with a known number it is a Clip, which is cheaper. */
static enum ft_status extreme_with(struct ft_at *at, bool largest, ft_value so_far, int i, ft_value *out,
                                   struct ft_err *err)
{
    struct ft_attrs attrs = of_kind(0);
    const struct ft_host *h = ft_at_host(at, i);
    ft_value in[2] = {so_far, FT_NO_VALUE};
    if (h != NULL && !ft_host_is_int(h) && h->count == 1 && h->rank <= ft_at_type(at, so_far)->rank &&
        !isnan(ft_host_float(h, 0)) && ft_at_slot(at, i)->as_weight == FT_NO_VALUE) {
        attrs.lo = largest ? ft_host_float(h, 0) : -INFINITY;
        attrs.hi = largest ? INFINITY : ft_host_float(h, 0);
        return ft_at_add(at, FT_OP_CLIP, &attrs, in, 1, out, err);
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, i, &in[1], err));
    return ft_at_add(at, largest ? FT_OP_MAXIMUM : FT_OP_MINIMUM, &attrs, in, 2, out, err);
}

enum ft_status ft_import_extreme(struct ft_at *at, int largest, struct ft_err *err)
{
    ft_value most = FT_NO_VALUE;
    int first = 0;
    for (int i = 0; i < at->node->n_in; i++) {
        if (!ft_at_has(at, i)) {
            return FT_FAIL(err, INVALID, "input %d is missing", i);
        }
        if (ft_at_host(at, first) != NULL && ft_at_host(at, i) == NULL) {
            first = i; /* one that depends on the input, so that the known ones come to it */
        }
    }
    if (at->node->n_in == 1) {
        return ft_at_pass(at, err);
    }
    if (ft_at_all_host(at)) {
        return ft_fold_extreme(at, largest != 0, err);
    }
    FT_RETURN_IF_FAILED(ft_at_tensor(at, first, &most, err));
    for (int i = 0; i < at->node->n_in; i++) {
        if (i != first) {
            FT_RETURN_IF_FAILED(extreme_with(at, largest != 0, most, i, &most, err));
        }
    }
    return ft_at_set(at, 0, most, err);
}
