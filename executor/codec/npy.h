/*
 * npy.h - NumPy's .npy format 1.0: little-endian, C order, float32 out; float32/float64/integers in.
 *
 * The writer streams rows; the header is written first and must be given the number of rows.
 */
#ifndef FT_CODEC_NPY_H
#define FT_CODEC_NPY_H

#include <stdint.h>
#include <stdio.h>

#include "executor/base/bytes.h"

/* Append the header for a float32 matrix (rows, columns); the data follow as raw rows. */
FT_MUST_CHECK enum ft_status ft_npy_header(int64_t rows, int64_t columns, struct ft_buf *out,
                                           struct ft_err *err);

struct ft_npy {
    char dtype[8]; /* "<f4" ... as in the file */
    int rank;
    int64_t dims[8];
    struct ft_bytes data; /* borrowed from the text given to the parser */
};
/* FT_CORRUPT, FT_UNSUPPORTED (Fortran order with rank > 1, object and big-endian dtypes). */
FT_MUST_CHECK enum ft_status ft_npy_parse(struct ft_bytes file, struct ft_npy *npy, struct ft_err *err);
#endif
