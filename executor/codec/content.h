/*
 * content.h - what one training example or query is made of, before any model sees it.
 *
 * Borrowed views; who made the struct says how long the bytes live.
 */
#ifndef FT_CODEC_CONTENT_H
#define FT_CODEC_CONTENT_H

#include <stdint.h>

#include "executor/base/bytes.h"
#include "executor/base/limits.h"

enum ft_content_kind { FT_CONTENT_NONE, FT_CONTENT_TEXT, FT_CONTENT_BLOB, FT_CONTENT_TENSOR, FT_CONTENT_URI };

struct ft_content {
    enum ft_content_kind kind;
    struct ft_bytes bytes; /* UTF-8 text, blob, URI, or the tensor's elements: C order, little-endian */
    char dtype[8];         /* TENSOR: NumPy's dtype.str, "<f4" "|u1" ... */
    int rank;
    int64_t dims[FT_MAX_RANK];
};
#endif
