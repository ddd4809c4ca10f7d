/*
 * flat.h - one run of floats in device memory, seen from the host as float32; and single kernels outside of a
 * plan.
 *
 * The device stores floats as it likes (double on `ref`): ft_flat_put() and ft_flat_get() convert,
 * ft_flat_save() and ft_flat_load() move the stored bytes, which is what a bit-exact checkpoint wants.
 * Threads: like the device, one thread. Only *_init() allocates.
 */
#ifndef FT_TRAIN_FLAT_H
#define FT_TRAIN_FLAT_H

#include "kernels/kernel.h"

struct ft_flat {
    struct ft_device *device;
    enum ft_dtype dtype; /* the device's float */
    size_t count;
    void *data;      /* device memory; NULL when count is 0 */
    double *staging; /* host; only where floats are doubles */
};
FT_MUST_CHECK enum ft_status ft_flat_init(struct ft_flat *flat, struct ft_device *device, size_t count,
                                          struct ft_err *err);
void ft_flat_release(struct ft_flat *flat);
size_t ft_flat_bytes(const struct ft_flat *flat);
void *ft_flat_at(const struct ft_flat *flat, size_t element); /* device address */
FT_MUST_CHECK enum ft_status ft_flat_put(struct ft_flat *flat, size_t at, const float *from, size_t count,
                                         struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_flat_get(struct ft_flat *flat, size_t at, float *to, size_t count,
                                         struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_flat_save(const struct ft_flat *flat, void *to,
                                          struct ft_err *err); /* ft_flat_bytes() */
FT_MUST_CHECK enum ft_status ft_flat_load(struct ft_flat *flat, const void *from, struct ft_err *err);

/* One kernel with its scratch. A zeroed struct is none. */
struct ft_one {
    struct ft_device *device;
    struct ft_kernel *kernel;
    void *scratch;
};
/* Inputs are vectors of the given extents (0 = scalar); outputs follow from the op. At most 8 inputs. */
FT_MUST_CHECK enum ft_status ft_one_init(struct ft_one *one, struct ft_device *device, enum ft_op op,
                                         const struct ft_attrs *attrs, const size_t *extents, int n_in,
                                         struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_one_run(struct ft_one *one, const struct ft_arg *in, const struct ft_arg *out,
                                        struct ft_err *err);
void ft_one_release(struct ft_one *one);
#endif
