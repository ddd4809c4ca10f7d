#include <math.h>

#include "kernels/check.h"

/* The rows MAP and MAP_BWD. */

const char *ft_map_name(enum ft_map map)
{
    static const char *const names[FT_MAP_COUNT] = {
#define FT_MAP(NAME, name, value, slope) #name,
#include "kernels/maps.def"
#undef FT_MAP
    };
    return (int)map >= 0 && map < FT_MAP_COUNT ? names[map] : "a function that does not exist";
}

static bool is_flat(enum ft_map map)
{
    static const bool flat[FT_MAP_COUNT] = {
#define FT_MAP(NAME, name, value, slope) false,
#define FT_MAP_FLAT(NAME, name, value) true,
#include "kernels/maps.def"
#undef FT_MAP
    };
    return flat[map];
}

static enum ft_status check_map(const char *op, const struct ft_attrs *attrs, struct ft_err *err)
{
    if (attrs->kind < 0 || attrs->kind >= FT_MAP_COUNT) {
        return FT_FAIL(err, INVALID, "%s: there is no function %d", op, attrs->kind);
    }
    const char *name = ft_map_name((enum ft_map)attrs->kind);
    if (!isfinite(attrs->alpha) || !isfinite(attrs->beta)) {
        return FT_FAIL(err, INVALID, "%s: a parameter of %s is not finite", op, name);
    }
    if (attrs->kind == FT_MAP_CELU && attrs->alpha == 0.0F) {
        return FT_FAIL(err, INVALID, "%s: celu divides by its alpha, which is 0", op);
    }
    return FT_OK;
}

enum ft_status ft_infer_map(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                            struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_map("map", attrs, err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}

enum ft_status ft_infer_map_bwd(const struct ft_attrs *attrs, const struct ft_type *in, int n_in,
                                struct ft_type *out, struct ft_err *err)
{
    (void)n_in;
    FT_RETURN_IF_FAILED(check_map("map_bwd", attrs, err));
    if (is_flat((enum ft_map)attrs->kind)) {
        return FT_FAIL(err, UNSUPPORTED, "%s is flat: nothing is learned through it",
                       ft_map_name((enum ft_map)attrs->kind));
    }
    FT_RETURN_IF_FAILED(ft_check_same("map_bwd", "dy and x", &in[0], &in[1], err));
    out[0] = ft_check_like(&in[0]);
    return FT_OK;
}
