#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/json.h"
#include "executor/codec/safetensors.h"

static int by_name(const void *a, const void *b)
{
    const struct ft_tensor_out *const *x = a;
    const struct ft_tensor_out *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static size_t bytes_of(const struct ft_tensor_out *t)
{
    size_t n = sizeof(float);
    for (int i = 0; i < t->rank; i++) {
        bool fits = ft_mul_size(n, (size_t)t->dims[i], &n);
        assert(fits); /* they are in memory */
    }
    return n;
}

static enum ft_status sort(const struct ft_tensor_out *tensors, size_t n, const struct ft_tensor_out **sorted,
                           struct ft_err *err)
{
    for (size_t i = 0; i < n; i++) {
        sorted[i] = &tensors[i];
    }
    if (n > 0) {
        qsort(sorted, n, sizeof *sorted, by_name);
    }
    for (size_t i = 1; i < n; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            return FT_FAIL(err, INVALID, "tensor %.200s is written twice", sorted[i]->name);
        }
    }
    return FT_OK;
}

/* ,"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} with the library's keys and blanks. */
static enum ft_status describe(const struct ft_tensor_out *t, size_t begin, struct ft_buf *text,
                               struct ft_err *err)
{
    struct ft_json *name = ft_json_of_text(t->name);
    enum ft_status st = FT_OK;
    if (name == NULL) {
        return FT_FAIL(err, NOMEM, "no memory for the header of a safetensors file");
    }
    FT_TRY(ft_buf_text(text, ",", err));
    FT_TRY(ft_json_write(name, 0, text, err));
    FT_TRY(ft_buf_text(text, ":{\"dtype\":\"F32\",\"shape\":[", err));
    for (int i = 0; i < t->rank; i++) {
        FT_TRY(ft_buf_printf(text, err, "%s%lld", i > 0 ? "," : "", (long long)t->dims[i]));
    }
    FT_TRY(ft_buf_printf(text, err, "],\"data_offsets\":[%zu,%zu]}", begin, begin + bytes_of(t)));
done:
    ft_json_free(name);
    return st;
}

static enum ft_status make_header(const struct ft_tensor_out *const *sorted, size_t n, struct ft_buf *text,
                                  size_t *data, struct ft_err *err)
{
    *data = 0;
    FT_RETURN_IF_FAILED(ft_buf_text(text, "{\"__metadata__\":{\"format\":\"pt\"}", err));
    for (size_t i = 0; i < n; i++) {
        FT_RETURN_IF_FAILED(describe(sorted[i], *data, text, err));
        *data += bytes_of(sorted[i]);
    }
    FT_RETURN_IF_FAILED(ft_buf_text(text, "}", err));
    while (text->size % 8 != 0) { /* so that the data are aligned */
        FT_RETURN_IF_FAILED(ft_buf_text(text, " ", err));
    }
    return FT_OK;
}

enum ft_status ft_safetensors_write(const struct ft_tensor_out *tensors, size_t n, struct ft_buf *out,
                                    struct ft_err *err)
{
    const struct ft_tensor_out **sorted = NULL;
    struct ft_buf header = {0};
    uint8_t length[8];
    size_t data = 0;
    enum ft_status st = FT_OK;
    FT_TRY(ft_new(n + 1, sizeof *sorted, &sorted, err));
    FT_TRY(sort(tensors, n, sorted, err));
    FT_TRY(make_header(sorted, n, &header, &data, err));
    ft_put_u64(length, header.size);
    FT_TRY(ft_buf_reserve(out, sizeof length + header.size + data, err));
    FT_TRY(ft_buf_append(out, length, sizeof length, err));
    FT_TRY(ft_buf_append(out, header.data, header.size, err));
    for (size_t i = 0; i < n; i++) {
        FT_TRY(ft_buf_append(out, sorted[i]->data, bytes_of(sorted[i]), err));
    }
done:
    ft_buf_release(&header);
    ft_free(sorted);
    return st;
}
