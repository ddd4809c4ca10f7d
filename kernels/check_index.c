#include "kernels/check.h"

/* Integers, booleans, choices. */

enum ft_status ft_infer_cast(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                             struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind < FT_CAST_FLOAT || attrs->kind > FT_CAST_U8) {
        return FT_FAIL(err, INVALID, "cast: there is no element type %d", attrs->kind);
    }
    if (attrs->kind == FT_CAST_FLOAT && (in[0].dtype == FT_F32 || in[0].dtype == FT_F64)) {
        return FT_FAIL(err, INVALID, "cast: x is %s already", FT_SHOW(&in[0]));
    }
    out[0] = ft_check_like(&in[0]);
    out[0].dtype = attrs->kind == FT_CAST_FLOAT ? FT_F32 : attrs->kind == FT_CAST_BOOL ? FT_BOOL : FT_I64;
    return FT_OK;
}

enum ft_status ft_infer_compare(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind < FT_EQUAL || attrs->kind > FT_GREATER_OR_EQUAL) {
        return FT_FAIL(err, INVALID, "compare: there is no comparison %d", attrs->kind);
    }
    if (attrs->kind != FT_EQUAL && in[0].dtype == FT_BOOL) {
        return FT_FAIL(err, INVALID, "compare: booleans have no order");
    }
    FT_RETURN_IF_FAILED(ft_check_broadcast("compare", &in[0], &in[1], out, err));
    out[0].dtype = FT_BOOL;
    return FT_OK;
}

enum ft_status ft_infer_logic(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    if (attrs->kind < FT_LOGIC_NOT || attrs->kind > FT_LOGIC_XOR) {
        return FT_FAIL(err, INVALID, "logic: there is no function %d", attrs->kind);
    }
    if (n_in != (attrs->kind == FT_LOGIC_NOT ? 1 : 2)) {
        return FT_FAIL(err, INVALID, "logic: function %d does not take %d inputs", attrs->kind, n_in);
    }
    return ft_check_broadcast("logic", &in[0], &in[n_in - 1], out, err);
}

enum ft_status ft_infer_where(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                              struct ft_type *out, struct ft_err *err)
{
    (void)attrs;
    (void)n_in;
    struct ft_type both;
    FT_RETURN_IF_FAILED(ft_check_broadcast("where", &in[1], &in[2], &both, err));
    return ft_check_broadcast("where", &both, &in[0], out, err);
}

#define FT_NUMBERS(name)                                                                                     \
    enum ft_status ft_infer_##name(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,         \
                                   struct ft_type *out, struct ft_err *err)                                  \
    {                                                                                                        \
        (void)attrs;                                                                                         \
        (void)n_in;                                                                                          \
        return ft_check_broadcast(#name, &in[0], &in[1], out, err);                                          \
    }

FT_NUMBERS(maximum)
FT_NUMBERS(minimum)

enum ft_status ft_infer_mod(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                            struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    if (attrs->kind != 1 && (attrs->kind != 0 || in[0].dtype != FT_I64)) {
        return FT_FAIL(err, INVALID, "mod: of floats it has the sign of a: fmod must be 1");
    }
    return ft_check_broadcast("mod", &in[0], &in[1], out, err);
}
