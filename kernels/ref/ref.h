/*
 * ref.h - what the plain loops of device `ref` share; private to kernels/ref/.
 *
 * Row-major float64 only, one element after the other, no scratch: slow, and simple enough to be believed.
 * The other devices are tested against it. Thread-safety: one thread owns the device.
 */
#ifndef FT_KERNELS_REF_REF_H
#define FT_KERNELS_REF_REF_H

#include "kernels/internal.h"

struct ft_ref_kernel;
typedef void (*ft_ref_body)(const struct ft_ref_kernel *k, const struct ft_arg *in, const struct ft_arg *out);
/* Of rows that data can make fail: an index out of range, a division by the integer 0. */
typedef enum ft_status (*ft_ref_checked_body)(const struct ft_ref_kernel *k, const struct ft_arg *in,
                                              const struct ft_arg *out, struct ft_err *err);

struct ft_ref_kernel {
    struct ft_kernel head; /* first: a struct ft_kernel * is one of these */
    ft_ref_body body;
    ft_ref_checked_body checked; /* in place of body */
    struct ft_attrs attrs;
    int n_in;
    struct ft_type *in; /* in the same allocation */
    struct ft_type out[FT_MAX_OUTPUTS];
};

FT_MUST_CHECK enum ft_status ft_ref_new(struct ft_device *device, const struct ft_call *call,
                                        ft_ref_body body, struct ft_kernel **kernel, size_t *scratch,
                                        struct ft_err *err);

FT_MUST_CHECK enum ft_status ft_ref_new_checked(struct ft_device *device, const struct ft_call *call,
                                                ft_ref_checked_body body, struct ft_kernel **kernel,
                                                size_t *scratch, struct ft_err *err);
/* ADD, SUB, MUL, DIV, POW, MAXIMUM, MINIMUM and MOD of integers. */
FT_MUST_CHECK enum ft_status ft_ref_integers(struct ft_device *device, const struct ft_call *call,
                                             struct ft_kernel **kernel, size_t *scratch, struct ft_err *err);

/* The prepare function of a row of ops.def whose loops are `body`. */
#define FT_REF_ROW(name, body)                                                                               \
    enum ft_status ft_ref_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        return ft_ref_new(device, call, body, kernel, scratch, err);                                         \
    }

#define FT_REF_CHECKED_ROW(name, body)                                                                       \
    enum ft_status ft_ref_##name(struct ft_device *device, const struct ft_call *call,                       \
                                 struct ft_kernel **kernel, size_t *scratch, struct ft_err *err)             \
    {                                                                                                        \
        return ft_ref_new_checked(device, call, body, kernel, scratch, err);                                 \
    }

/* y[i] = x[j], whatever the elements of type t are. */
void ft_ref_move(const struct ft_type *t, void *y, int64_t i, const void *x, int64_t j);
/* Coordinates of row-major element `index`, and back. */
void ft_ref_split(const struct ft_type *t, int64_t index, int64_t at[FT_MAX_RANK]);
int64_t ft_ref_join(const struct ft_type *t, const int64_t at[FT_MAX_RANK]);
/* The element of `small` that NumPy's broadcasting puts at element `index` of `large`. */
int64_t ft_ref_broadcast(const struct ft_type *large, int64_t index, const struct ft_type *small);
/* Product of the extents `from .. to - 1`. */
int64_t ft_ref_extent(const struct ft_type *t, int from, int to);
void ft_ref_zero(const struct ft_type *t, double *data);

/* [bias], [residual] and activation behind the sum y[i] of CONV and MATMUL; NULL: none. */
struct ft_ref_epilogue {
    const double *bias, *residual;
};
struct ft_ref_epilogue ft_ref_epilogue_of(const struct ft_ref_kernel *k, const struct ft_arg *in);
double ft_ref_act(const struct ft_attrs *a, double x);

/* A window over (N, C, D, H, W); the axes that lower ranks lack have extent 1. */
struct ft_ref_window {
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
    int64_t in_plane, out_plane, taps; /* products over the axes */
};
struct ft_ref_window ft_ref_window_of(const struct ft_window *w, const struct ft_type *x,
                                      const struct ft_type *y);
/* Index in its plane of x that tap `tap` of window `o` of a plane of y looks at; -1: outside x. *counted:
 * inside x or on its pads. */
int64_t ft_ref_tap(const struct ft_ref_window *g, int64_t o, int64_t tap, bool *counted);

#endif
