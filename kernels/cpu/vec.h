/*
 * vec.h - inner loops over contiguous floats, compiled once for each instruction set.
 *
 * vec.inc holds the code; vec_base.c, vec_avx2.c and vec_avx512.c compile it with their own flags
 * (flags.cmake), and ft_vec_available() says which run here; a device takes the widest: the program starts
 * on any x86-64, and on other processors. The result for one element never depends on where in an array it
 * lies; sums depend on the instruction set, not on threads. Outputs may be one of the inputs (the same
 * pointer), never a part of one. Thread-safety: pure functions.
 */
#ifndef FT_KERNELS_CPU_VEC_H
#define FT_KERNELS_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>

#include "executor/base/rand.h"
#include "kernels/kernel.h"

enum { FT_VEC_WIDEST = 32 };                          /* product_cols, at most */
enum { FT_VEC_CONV_PIXELS = 6 };                      /* of a tile of vec->conv_tile */
enum { FT_VEC_WINO_SIDE = 6, FT_VEC_WINO_TILE = 4 };  /* squares of winograd.h: transformed, and of y */
enum { FT_VEC_TILE_ROWS = 4, FT_VEC_TILE_COLS = 16 }; /* one tile of vec->pdist */

enum ft_vec_binary_mode { FT_VEC_VV, FT_VEC_VS, FT_VEC_SV }; /* which side is one number */

/* Running statistics of one channel or of a row of channels, merged by Chan's rule. */
struct ft_vec_moments {
    double count;
    double *mean, *m2; /* (C) */
};

/* The constants of one optimiser step. */
struct ft_vec_step {
    float lr, beta1, beta2, eps, decay, correct1, correct2, scale;
    int kind;
};

/* A sparse vector. */
struct ft_vec_weights {
    int64_t count;
    const int32_t *index;
    const float *weight;
};

/* One anchor with one positive: a triplet is mined if low < mine_negative - mine <= high, or always. */
struct ft_vec_pair {
    float mine, low, high;
    bool always;
    float dist, margin; /* loss = max(0, dist - dist_negative + margin) */
};

/* Sums over the triplets of one pair; added to. */
struct ft_vec_hinge {
    double loss;
    int64_t mined, active;
};

/* Neighbouring pixels of y and the taps over each: x at x + i * step + t * tap, dy at dy + i * channels. */
struct ft_vec_depthwise {
    const float *x, *dy;
    int64_t step, tap; /* floats */
    int64_t count, channels;
    int taps;
};

/* One tile of a convolution: FT_VEC_CONV_PIXELS pixels times vec->conv_features features, over a part of the
 * depth. A run is `length` floats of x that lie together: channels of one tap. */
struct ft_vec_conv {
    int64_t runs, length, from; /* of each run, floats from .. from + length - 1 */
    const float *const *at;     /* (runs, FT_VEC_CONV_PIXELS): all readable */
    const float *panel;         /* (runs, length, conv_features) */
    int64_t pixels, features;   /* what is stored */
    const int64_t *place;       /* (pixels): where in y and residual they lie */
    bool first, last;           /* part: y is added to unless first; the rest follows the last */
    const float *bias;          /* (features), or NULL */
    const float *residual;      /* or NULL; may be y: it is added first */
    float *y;                   /* = act(sum + bias + residual) */
    enum ft_act act;
    float act_a, act_b;
};

/* One tile of y from its 36 sums (winograd.h). */
struct ft_vec_wino_result {
    const float *from; /* (FT_VEC_WINO_SIDE^2, features), `apart` floats between the first axis */
    int64_t apart, features;
    int64_t place[FT_VEC_WINO_TILE * FT_VEC_WINO_TILE]; /* of each pixel in y and residual; < 0: not stored */
    const float *bias;                                  /* (features), or NULL */
    const float *residual;                              /* or NULL; may be y */
    float *y;                                           /* = act(result + bias + residual) */
    enum ft_act act;
    float act_a, act_b;
};

/* c (rows, panels * product_cols) = alpha a b + bias + more. Element (i, k) of a lies at
 * a[i * a_row + k * a_step]; panel j of b is (depth, product_cols) at b + j * b_panel, its rows b_row apart.
 */
struct ft_vec_product {
    const float *a, *b;
    const float *bias; /* (panels * product_cols), or NULL */
    const float *more; /* laid out as c, which it may be; or NULL */
    float *c;
    int64_t a_row, a_step, b_row, b_panel, c_row; /* floats */
    int64_t rows, panels, depth;
    float alpha;
};

/* c (rows, cols) = sums of a b, each times a_scale of its row and b_scale of its column, + bias + more: one
 * panel of b, (pairs, product_cols, 2) signed bytes, for rows of a, (pairs, 2). What is beyond the depth or
 * cols is 0. */
struct ft_vec_product_int8 {
    const int16_t *a;
    const int8_t *b;
    const float *a_scale, *b_scale; /* (rows), (product_cols) */
    const float *bias;              /* (cols), or NULL */
    const float *more;              /* laid out as c, which it may be; or NULL */
    float *c;
    int64_t c_row;             /* floats */
    int64_t rows, cols, pairs; /* cols <= product_cols */
};

/* What is added to a row of n scores; NULL: nothing. */
struct ft_vec_scores {
    int64_t n;
    const float *relative, *mask;
};

struct ft_vec {
    const char *name;
    /* y = f(x) for the element-wise rows of ops.def, EXP, LOG, SQRT, ... ; a and b as the row says. */
    void (*unary)(enum ft_op op, const float *x, float *y, size_t n, float a, float b);
    void (*unary_bwd)(enum ft_op op, const float *dy, const float *t, float *dx, size_t n, float a, float b);
    /* y = f(x) and dx = dy f'(x) for a function of maps.def */
    void (*map)(enum ft_map map, const float *x, float *y, size_t n, float a, float b);
    void (*map_bwd)(enum ft_map map, const float *dy, const float *x, float *dx, size_t n, float a, float b);
    void (*binary)(enum ft_op op, enum ft_vec_binary_mode mode, const float *a, const float *b, float *y,
                   size_t n);
    /* bf16 to floats and back (kernels/bf16.h); x and y do not overlap. */
    void (*widen)(const uint16_t *x, float *y, size_t n);
    void (*narrow)(const float *x, uint16_t *y, size_t n);
    /* y = alpha x; y += alpha x; y = alpha (x - s) */
    void (*scale)(const float *x, float *y, size_t n, float alpha);
    void (*add_scaled)(const float *x, float *y, size_t n, float alpha);

    /* Sums: floats in lanes, folded into double every 1,024 elements. */
    double (*sum)(const float *x, size_t n);
    double (*dot)(const float *x, const float *y, size_t n);
    double (*sum_squares)(const float *x, size_t n); /* every square in double */
    float (*max)(const float *x, size_t n);          /* NaN are passed over */
    /* acc[c] += sum over rows of x[r * stride + c] */
    void (*col_sum)(const float *x, int64_t rows, int64_t stride, int64_t cols, double *acc);

    /* Softmax of one row: y = exp(x - shift), returns the sum. */
    double (*exp_sum)(const float *x, float *y, size_t n, float shift);

    /* Batch normalisation. _cols: x is rows of C channels; _row: x is n values of one channel. */
    void (*bn_moments_cols)(const float *x, int64_t rows, int64_t channels, struct ft_vec_moments *m);
    void (*bn_moments_row)(const float *x, int64_t n, struct ft_vec_moments *m);
    /* y = (x - mean) * k + b */
    void (*bn_apply_cols)(const float *x, float *y, int64_t rows, int64_t channels, const float *mkb);
    void (*bn_apply_row)(const float *x, float *y, int64_t n, const float mkb[3]);
    /* s[c] += sum dy, s[C + c] += sum dy * (x - mean) */
    void (*bn_sums_cols)(const float *dy, const float *x, int64_t rows, int64_t channels, const float *mean,
                         double *s);
    void (*bn_sums_row)(const float *dy, const float *x, int64_t n, float mean, double s[2]);
    /* dx = k * (dy - p - (x - mean) * q); coefficients are (mean, k, p, q), each (C) */
    void (*bn_grad_cols)(const float *dy, const float *x, float *dx, int64_t rows, int64_t channels,
                         const float *mkpq);
    void (*bn_grad_row)(const float *dy, const float *x, float *dx, int64_t n, const float mkpq[4]);

    /* Layer normalisation of one row. y = (x - mean) * k * scale + bias, without it when NULL; mk = mean, k
     */
    void (*ln_apply)(const float *x, const float *scale, const float *bias, float *y, size_t n,
                     const float mk[2]);
    /* sum of dy * scale * (x - mean) */
    double (*ln_dot)(const float *dy, const float *x, const float *scale, size_t n, float mean);
    /* dx = k * dy * scale - p - (x - mean) * q; sums (2, n) grow by dy * (x - mean) * k and dy; mkpq = mean,
     * k, p, q */
    void (*ln_grad)(const float *dy, const float *x, const float *scale, float *dx, size_t n,
                    const float mkpq[4], float *sums);

    /* Pooling of one pixel, channels last; tap t lies at base + offset[t]. */
    void (*pool_max)(const float *base, const int64_t *offset, const int32_t *index, int taps, float *y,
                     int32_t *where, size_t channels);
    /* dx[c] = sum over taps of dy[c] where where[c] == self */
    void (*pool_max_bwd)(const float *dy, const int32_t *where, const int64_t *offset, int taps, int32_t self,
                         float *dx, size_t channels);
    /* y[c] = sum over taps of weight[t] * x[c] */
    void (*pool_sum)(const float *base, const int64_t *offset, const float *weight, int taps, float *y,
                     size_t channels);

    /* dw[t * channels + c] += sum over pixels of dy[c] * x[c] */
    void (*depthwise_weight)(const struct ft_vec_depthwise *r, float *dw);

    /* Convolution, channels last (kernels/cpu/direct.h). conv_tile_skip: without the runs that begin at
     * `outside`, slowly; what conv_tile gives where these hold zeros and the panel is finite. */
    int64_t conv_features;
    void (*conv_tile)(const struct ft_vec_conv *tile);
    void (*conv_tile_skip)(const struct ft_vec_conv *tile, const float *outside);
    /* sum (FT_VEC_CONV_PIXELS, conv_features) += sum over n pixels of x's channels (n, FT_VEC_CONV_PIXELS)
     * times dy's features (n, conv_features); stride: between channels of sum. */
    void (*conv_outer)(const float *x, const float *dy, float *sum, int64_t n, int64_t stride);

    /* The transforms of winograd.h; channels and features are multiples of product_cols. `apart`: floats
     * between the FT_VEC_WINO_SIDE^2 places of a result. Source: pixels at[row * FT_VEC_WINO_SIDE + column]
     * of x, all readable. Weight: (3, 3, product_cols) -> product_cols a place. */
    void (*wino_source)(const float *const *at, int64_t channels, float *to, int64_t apart);
    void (*wino_weight)(const float *from, float *to, int64_t apart);
    void (*wino_result)(const struct ft_vec_wino_result *tile);
    /* For the gradient of the weight: a tile of dy, at[row * FT_VEC_WINO_TILE + column], as wino_source; and
     * from the sums, product_cols a place, `apart`, to (3, 3, product_cols). */
    void (*wino_gradient)(const float *const *at, int64_t features, float *to, int64_t apart);
    void (*wino_taps)(const float *from, int64_t apart, float *to);

    /* Attention: small products whose b fits the second-level cache. */
    int64_t product_cols;
    void (*product)(const struct ft_vec_product *p);
    /* x (rows, depth), its rows `stride` apart -> a b of ft_vec_product whose columns are x's rows: panels of
     * (depth, product_cols), zeros past the last row. */
    void (*transpose_panels)(const float *x, int64_t stride, int64_t rows, int64_t depth, float *y);
    /* kernels/int8.h: the largest |x|, NaN or an infinity if there is one; y = rint(x * inverse), 0 where
     * inverse is 0 */
    float (*most)(const float *x, size_t n);
    void (*quantise)(const float *x, int16_t *y, size_t n, float inverse);
    void (*product_int8)(const struct ft_vec_product_int8 *p);
    /* s = exp(s + what is added - the largest of these); returns that, *sum = the sum of s */
    float (*scores_softmax)(const struct ft_vec_scores *r, float *s, double *sum);
    /* s = exp(s + what is added - shift[0]), ds = alpha s (ds - shift[1]) */
    void (*scores_grad)(const struct ft_vec_scores *r, float *s, float *ds, const float shift[2],
                        float alpha);

    /* tile[r * FT_VEC_TILE_COLS + c] = sum over k of (rows[r][k] - panel[k * FT_VEC_TILE_COLS + c])^2 */
    void (*pdist)(const float *const rows[FT_VEC_TILE_ROWS], const float *panel, int64_t depth, float *tile);
    /* out[k] += sum over i of w->weight[i] * (x[k] - y[w->index[i] * depth + k]) */
    void (*weighted_difference)(const float *x, const float *y, const struct ft_vec_weights *w, int64_t depth,
                                float *out);
    /* y = d == 0 ? 0 : dd / d */
    void (*quotient)(const float *dd, const float *d, float *y, size_t n);

    /* One (anchor, positive) against n negatives: hits of the active triplets grow by 1 (mark: of the mined
     * ones, and their number is returned). Arrays of negatives are readable up to a multiple of
     * FT_VEC_TILE_COLS. */
    void (*hinge)(const struct ft_vec_pair *pair, const float *neg_mine, const float *neg_dist, float *hits,
                  int64_t n, struct ft_vec_hinge *sum);
    int64_t (*mark)(const struct ft_vec_pair *pair, const float *neg_mine, float *hits, int64_t n);
    /* Index of the smallest element above `floor`, -1 if there is none; the first of equals. */
    int64_t (*min_above)(const float *x, int64_t n, float floor);

    void (*sgd)(const struct ft_vec_step *s, const float *p, const float *g, const float *v, float *p_out,
                float *v_out, size_t n);
    void (*adam)(const struct ft_vec_step *s, const float *p, const float *g, const float *m, const float *v,
                 float *out[3], size_t n);
    /* keep[i] = ft_rand_float(r, first + i) >= alpha ? 1 / (1 - alpha) : 0, n a multiple of 4, first too */
    void (*dropout_mask)(struct ft_rand r, uint64_t first, float alpha, float *keep, size_t n);
};

#define FT_VEC_SETS(X) X(base) X(avx2) X(avx512) X(avx512_vnni)
#define FT_VEC_DECLARE(set) const struct ft_vec *ft_vec_##set(void);
FT_VEC_SETS(FT_VEC_DECLARE)
#undef FT_VEC_DECLARE
#define FT_VEC_ONE(set) +1
enum { FT_VEC_SET_COUNT = FT_VEC_SETS(FT_VEC_ONE) };
#undef FT_VEC_ONE

/* The sets that this processor runs, the widest last; returns how many, at least 1. */
int ft_vec_available(const struct ft_vec *sets[FT_VEC_SET_COUNT]);

#endif
