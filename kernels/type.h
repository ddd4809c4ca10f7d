/*
 * type.h - what a tensor is: element type, symbolic dimensions, physical layout.
 *
 * A dimension is a monomial: coef x product of symbols (batch N, tokens T, ...) to small powers. A concrete
 * dimension has no symbols. So Flatten of (N, 64, 7, 7) is (N, 3136) and Reshape's -1 is an exact division,
 * before N is known. Dimensions are >= 1: empty tensors do not occur in graphs (a batch has at least one
 * row). Thread-safety: plain values.
 */
#ifndef FT_KERNELS_TYPE_H
#define FT_KERNELS_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/limits.h"
#include "executor/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* FT_BF16 is a way to store floats, the upper half of an FT_F32 (kernels/bf16.h): of plans and kernels only,
 * never in graphs. */
enum ft_dtype { FT_F32, FT_F64, FT_I64, FT_I32, FT_U8, FT_BOOL, FT_BF16, FT_DTYPE_COUNT };
size_t ft_dtype_size(enum ft_dtype dtype);
bool ft_dtype_is_float(enum ft_dtype dtype); /* float32 or float64: what is computed with */
const char *ft_dtype_name(
    enum ft_dtype dtype); /* numpy's: float32 float64 int64 int32 uint8 bool, and bfloat16 */

enum { FT_MAX_SYMBOLS = 4 };
enum {
    FT_SYMBOL_BATCH = 0,  /* N: items, sequences */
    FT_SYMBOL_LENGTH = 1, /* S: tokens of a padded sequence */
    FT_SYMBOL_TOKENS = 2  /* T: tokens of all sequences, packed */
};

struct ft_dim {
    int64_t coef; /* >= 1 in a valid dimension */
    uint8_t power[FT_MAX_SYMBOLS];
};

/* How the elements of a rank-4 activation lie in memory: (N, C, H, W) row-major, or the same tensor stored
 * (N, H, W, C). Logical dims are always in NCHW order. A property of plan values, never of the canonical
 * graph. */
enum ft_layout { FT_ROW_MAJOR, FT_CHANNELS_LAST };

struct ft_type {
    enum ft_dtype dtype;
    enum ft_layout layout;
    int rank; /* 0 = scalar */
    struct ft_dim dim[FT_MAX_RANK];
};

struct ft_dim ft_dim_of(int64_t extent);
struct ft_dim ft_dim_symbol(int symbol);
bool ft_dim_is_known(struct ft_dim d);
bool ft_dim_equal(struct ft_dim a, struct ft_dim b);
bool ft_dim_is_one(struct ft_dim d);
bool ft_dim_mul(struct ft_dim a, struct ft_dim b, struct ft_dim *out); /* false: overflow */
bool ft_dim_div(struct ft_dim a, struct ft_dim b, struct ft_dim *out); /* false: not exact */
/* Put `symbols[k]` (each >= 1) in place of symbol k; 0 leaves it symbolic. false: overflow. */
bool ft_dim_bind(struct ft_dim d, const int64_t symbols[FT_MAX_SYMBOLS], struct ft_dim *out);
bool ft_type_bind(const struct ft_type *t, const int64_t symbols[FT_MAX_SYMBOLS], struct ft_type *out);

struct ft_type ft_type_of(enum ft_dtype dtype, int rank, const int64_t *extents);
bool ft_type_is_known(const struct ft_type *t);
bool ft_type_same_shape(const struct ft_type *a, const struct ft_type *b);
/* Of known types only (asserted). */
int64_t ft_extent(const struct ft_type *t, int axis);
int64_t ft_elements(const struct ft_type *t);
size_t ft_type_bytes(const struct ft_type *t);
/* "float32 (N, 3, 32, 32)"; symbols are N S T S3. Returns out. */
enum { FT_TYPE_TEXT = 160 };
const char *ft_type_text(const struct ft_type *t, char out[FT_TYPE_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
