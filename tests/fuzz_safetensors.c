/* links: ft_codec ft_base */
/* covers: executor/codec/safetensors.c executor/codec/safetensors_floats.c executor/codec/safetensors_write.c
 */
/* Any bytes: refused, or a set whose tensors lie in the file, can be widened, and are written and read back.
 * Those that begin like JSON, which no such file does, are an index beside one sound shard, a.safetensors. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
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

/* ---- an index and its shard, in a folder that is there as long as the process */

enum { PATH = 512 };
static char folder[PATH - 64];

static void leave(void)
{
    struct ft_err err = {0};
    if (ft_path_remove(folder, &err) != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
}

static void put(const char *name, const void *data, size_t size, char path[PATH])
{
    (void)snprintf(path, PATH, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert(file != NULL);
    size_t written = fwrite(data, 1, size, file);
    assert(written == size);
    (void)fclose(file);
}

static void make_folder(void)
{
    static const float numbers[2] = {1.0F, 2.0F};
    static const int64_t dims[1] = {2};
    const struct ft_tensor_out x = {.name = "x", .rank = 1, .dims = dims, .data = numbers};
    struct ft_err err = {0};
    struct ft_buf shard = {0};
    char path[PATH];
    char *made = NULL;
    enum ft_status st = ft_dir_temp("safetensors", &made, &err);
    assert(st == FT_OK && strlen(made) < sizeof folder);
    memcpy(folder, made, strlen(made) + 1);
    (void)atexit(leave);
    st = ft_safetensors_write(&x, 1, &shard, &err);
    assert(st == FT_OK);
    put("a.safetensors", shard.data, shard.size, path);
    ft_buf_release(&shard);
    ft_free(made);
}

static void open_index(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_safetensors *set = NULL;
    char path[PATH];
    if (folder[0] == '\0') {
        make_folder();
    }
    put("model.safetensors.index.json", data, size, path);
    if (ft_safetensors_open_index(path, &set, &err) == FT_OK) {
        /* An index may name no tensor at all. */
        assert(ft_safetensors_count(set) == 0 ||
               (ft_safetensors_count(set) == 1 && ft_safetensors_find(set, "x") != NULL));
    } else {
        assert(set == NULL && err.code != FT_NOMEM && err.code != FT_INTERNAL);
    }
    ft_safetensors_close(set);
    (void)snprintf(path, sizeof path, "%s/a.safetensors", folder);
    enum ft_status st = ft_safetensors_open(path, &set, &err);
    assert(st == FT_OK && strcmp(ft_tensor_dtype_name(ft_safetensors_at(set, 0)->dtype), "F32") == 0);
    ft_safetensors_close(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    if (size > 0 && data[0] == '{') {
        open_index(data, size);
        assert(ft_alloc_stats().live_blocks == 0);
        return 0;
    }
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
