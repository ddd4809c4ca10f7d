/*
 * safetensors.h - Hugging Face's safetensors files: read by mmap, every number of the header checked;
 * written.
 *
 * A file is 8 bytes (little-endian length of the header), the header in JSON, the data. One file or the
 * shards that a `model.safetensors.index.json` names are one set of tensors. Checked when opened: the length
 * of the header, each name once, each element type, shape, offset and size, and that the tensors fill the
 * data without overlap, gap or rest; of shards also that the index and the files name the same tensors.
 * Format: https://github.com/huggingface/safetensors#format. Thread-safety: a const set may be read by any
 * number of threads.
 */
#ifndef FT_CODEC_SAFETENSORS_H
#define FT_CODEC_SAFETENSORS_H

#include <stdint.h>

#include "executor/base/bytes.h"
#include "executor/base/limits.h"

enum ft_tensor_dtype {
    FT_TENSOR_BOOL,
    FT_TENSOR_U8,
    FT_TENSOR_I8,
    FT_TENSOR_F8_E5M2,
    FT_TENSOR_F8_E4M3,
    FT_TENSOR_I16,
    FT_TENSOR_U16,
    FT_TENSOR_F16,
    FT_TENSOR_BF16,
    FT_TENSOR_I32,
    FT_TENSOR_U32,
    FT_TENSOR_F32,
    FT_TENSOR_I64,
    FT_TENSOR_U64,
    FT_TENSOR_F64,
    FT_TENSOR_DTYPE_COUNT
};
const char *ft_tensor_dtype_name(enum ft_tensor_dtype dtype); /* "F32", as files spell it */

struct ft_tensor {
    const char *name; /* UTF-8 */
    enum ft_tensor_dtype dtype;
    int rank;
    int64_t dims[FT_MAX_RANK]; /* >= 0 */
    int64_t count;             /* elements */
    struct ft_bytes data;      /* row-major, not aligned */
};

struct ft_safetensors; /* opaque */
/* The bytes of one file, borrowed as long as the set lives. FT_CORRUPT, FT_LIMIT, FT_UNSUPPORTED (an element
 * type). *set is owned by the caller: ft_safetensors_close(). */
FT_MUST_CHECK enum ft_status ft_safetensors_parse(struct ft_bytes file, struct ft_safetensors **set,
                                                  struct ft_err *err);
/* One mapped file. */
FT_MUST_CHECK enum ft_status ft_safetensors_open(const char *path, struct ft_safetensors **set,
                                                 struct ft_err *err);
/* The shards of an index, which lie beside it. */
FT_MUST_CHECK enum ft_status ft_safetensors_open_index(const char *path, struct ft_safetensors **set,
                                                       struct ft_err *err);
void ft_safetensors_close(struct ft_safetensors *set); /* NULL is fine */

size_t ft_safetensors_count(const struct ft_safetensors *set);
const struct ft_tensor *ft_safetensors_at(const struct ft_safetensors *set, size_t i); /* by name, bytewise */
const struct ft_tensor *ft_safetensors_find(const struct ft_safetensors *set, const char *name); /* or NULL */

/* Into out[tensor->count]: F16, BF16 and F32 exactly, F64, I64 and the other integers rounded to the nearest
 * float. FT_UNSUPPORTED: 8-bit floats. */
FT_MUST_CHECK enum ft_status ft_safetensors_floats(const struct ft_tensor *tensor, float *out,
                                                   struct ft_err *err);

/* What is written: float32. */
struct ft_tensor_out {
    const char *name;
    int rank;
    const int64_t *dims;
    const float *data;
};
/* Appends one file, tensors sorted by name, metadata {"format":"pt"}: the bytes depend on nothing else and
 * equal those of the safetensors library. FT_INVALID: a name is there twice. */
FT_MUST_CHECK enum ft_status ft_safetensors_write(const struct ft_tensor_out *tensors, size_t n,
                                                  struct ft_buf *out, struct ft_err *err);
#endif
