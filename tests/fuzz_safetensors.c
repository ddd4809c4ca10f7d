/* links: ft_codec ft_base */
/* covers: executor/codec/safetensors.c executor/codec/safetensors_floats.c executor/codec/safetensors_write.c
 */
/* Any bytes: refused, or a set whose tensors lie in the file, can be widened, and are written and read back.
 */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/codec/safetensors.h"

/* Floats for every tensor, or NULL where there are none. */
static void widen(const struct ft_safetensors *set, struct ft_tensor_out *out, float **floats)
{
    for (size_t i = 0; i < ft_safetensors_count(set); i++) {
        const struct ft_tensor *t = ft_safetensors_at(set, i);
        struct ft_err err = {0};
        floats[i] = ft_calloc((size_t)t->count + 1, sizeof(float));
        assert(floats[i] != NULL);
        enum ft_status st = ft_safetensors_floats(t, floats[i], &err);
        assert(st == FT_OK || st == FT_UNSUPPORTED);
        out[i] = (struct ft_tensor_out){.name = t->name, .rank = t->rank, .dims = t->dims, .data = floats[i]};
    }
}

static void write_back(const struct ft_safetensors *set, const struct ft_tensor_out *out)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    struct ft_safetensors *again = NULL;
    size_t n = ft_safetensors_count(set);
    enum ft_status st = ft_safetensors_write(out, n, &text, &err);
    assert(st == FT_OK);
    st = ft_safetensors_parse(ft_buf_bytes(&text), &again, &err);
    assert(st == FT_OK && ft_safetensors_count(again) == n);
    for (size_t i = 0; i < n; i++) {
        const struct ft_tensor *t = ft_safetensors_at(again, i);
        assert(strcmp(t->name, out[i].name) == 0 && t->dtype == FT_TENSOR_F32);
        assert(t->data.size == 0 || memcmp(t->data.data, out[i].data, t->data.size) == 0);
    }
    ft_safetensors_close(again);
    ft_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    if (ft_safetensors_parse(ft_bytes_of(data, size), &set, &err) == FT_OK) {
        size_t n = ft_safetensors_count(set);
        struct ft_tensor_out *out = ft_calloc(n + 1, sizeof *out);
        float **floats = ft_calloc(n + 1, sizeof *floats);
        assert(out != NULL && floats != NULL);
        widen(set, out, floats);
        write_back(set, out);
        for (size_t i = 0; i < n; i++) {
            ft_free(floats[i]);
        }
        ft_free(floats);
        ft_free(out);
    } else {
        assert(err.code == FT_CORRUPT || err.code == FT_LIMIT || err.code == FT_UNSUPPORTED);
    }
    ft_safetensors_close(set);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
