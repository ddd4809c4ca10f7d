#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/hf_internal.h"

enum { LISTED = 8 }; /* tensors named in a message */

enum ft_status ft_hf_enter(struct ft_hf *hf, struct ft_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(hf->scope, sizeof hf->scope, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof hf->scope) {
        return FT_FAIL(err, INTERNAL, "the name of a module is too long");
    }
    return FT_OK;
}

/* "<scope>.<name>" */
static const char *path_of(const struct ft_hf *hf, const char *name, char out[FT_HF_NAME])
{
    (void)snprintf(out, FT_HF_NAME, "%s%s%s", hf->scope, hf->scope[0] != '\0' && name[0] != '\0' ? "." : "",
                   name);
    return out;
}

static const struct ft_tensor *find(const struct ft_hf *hf, const char *path)
{
    char whole[FT_HF_NAME + FT_HF_SCOPE];
    (void)snprintf(whole, sizeof whole, "%s%s", hf->prefix, path);
    return ft_safetensors_find(hf->weights, whole);
}

/* bert-base-uncased and its time call the weights of LayerNorm gamma and beta; transformers renames them too.
 */
static const struct ft_tensor *find_old(const struct ft_hf *hf, const char *path)
{
    static const char *const names[2][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                            {"LayerNorm.bias", "LayerNorm.beta"}};
    char old[FT_HF_NAME];
    size_t size = strlen(path);
    for (int i = 0; i < 2; i++) {
        size_t tail = strlen(names[i][0]);
        if (size >= tail && strcmp(path + size - tail, names[i][0]) == 0) {
            (void)snprintf(old, sizeof old, "%.*s%s", (int)(size - tail), path, names[i][1]);
            return find(hf, old);
        }
    }
    return NULL;
}

bool ft_hf_has(const struct ft_hf *hf, const char *name)
{
    char path[FT_HF_NAME];
    return find(hf, path_of(hf, name, path)) != NULL;
}

static enum ft_status note_missing(struct ft_hf *hf, const char *path, struct ft_err *err)
{
    if (hf->n_missing++ >= LISTED) {
        return FT_OK;
    }
    return ft_buf_printf(&hf->missing, err, "%s%s%s", hf->n_missing > 1 ? ", " : "", hf->prefix, path);
}

static enum ft_status check_shape(const struct ft_hf *hf, const struct ft_tensor *t, int rank,
                                  const int64_t *dims, struct ft_err *err)
{
    char there[FT_TYPE_TEXT];
    char wanted[FT_TYPE_TEXT];
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) {
        same = t->dims[i] == dims[i];
    }
    if (same) {
        return FT_OK;
    }
    struct ft_type has = ft_type_of(FT_F32, t->rank, t->dims);
    struct ft_type want = ft_type_of(FT_F32, rank, dims);
    return FT_FAIL(err, INVALID, "tensor %.200s is %s, %s wants %s", t->name, ft_type_text(&has, there),
                   hf->config_path, ft_type_text(&want, wanted));
}

static enum ft_status add_param(struct ft_hf *hf, const struct ft_tensor *t, const char *name,
                                const struct ft_type *type, ft_value *out, struct ft_err *err)
{
    float *wide = NULL;
    const void *data = t->data.data;
    enum ft_status st = FT_OK;
    if (t->dtype != FT_TENSOR_F32) {
        FT_TRY(ft_new((size_t)t->count, sizeof *wide, &wide, err));
        FT_TRY(ft_safetensors_floats(t, wide, err));
        data = wide;
    }
    FT_TRY(ft_graph_param(hf->graph, name, type, FT_PARAM_WEIGHT, data, out, err));
done:
    ft_free(wide);
    return st;
}

enum ft_status ft_hf_weight(struct ft_hf *hf, const char *name, int rank, const int64_t *dims, ft_value *out,
                            struct ft_err *err)
{
    char path[FT_HF_NAME];
    char shown[FT_HF_NAME + FT_HF_SCOPE];
    struct ft_type type = ft_type_of(FT_F32, rank, dims);
    const struct ft_tensor *t = find(hf, path_of(hf, name, path));
    (void)snprintf(shown, sizeof shown, "%s%s", hf->shown, path);
    *out = ft_graph_find(hf->graph, shown);
    if (*out != FT_NO_VALUE) {
        return FT_OK; /* shared: ALBERT's layers, T5's embeddings */
    }
    t = t != NULL ? t : find_old(hf, path);
    if (t == NULL) {
        FT_RETURN_IF_FAILED(note_missing(hf, path, err));
        return ft_graph_input(hf->graph, shown, &type, out, err);
    }
    hf->used[t - ft_safetensors_at(hf->weights, 0)] = true;
    FT_RETURN_IF_FAILED(check_shape(hf, t, rank, dims, err));
    return add_param(hf, t, shown, &type, out, err);
}

/* ---- what is left over */

static bool is_ignored(const char *name, const char *const *ignored)
{
    size_t size = strlen(name);
    for (; *ignored != NULL; ignored++) {
        const char *what = *ignored;
        size_t n = strlen(what);
        if (what[0] == '*' ? size >= n - 1 && strcmp(name + size - (n - 1), what + 1) == 0
                           : strncmp(name, what, n) == 0) {
            return true;
        }
    }
    return false;
}

static enum ft_status list_unknown(const struct ft_hf *hf, const char *const *ignored, struct ft_buf *list,
                                   size_t *count, struct ft_err *err)
{
    size_t prefix = strlen(hf->prefix);
    *count = 0;
    for (size_t i = 0; i < ft_safetensors_count(hf->weights); i++) {
        const char *name = ft_safetensors_at(hf->weights, i)->name;
        const char *base = strncmp(name, hf->prefix, prefix) == 0 ? name + prefix : name;
        if (hf->used[i] || is_ignored(base, ignored)) {
            continue;
        }
        if ((*count)++ < LISTED) {
            FT_RETURN_IF_FAILED(ft_buf_printf(list, err, "%s%.200s", *count > 1 ? ", " : "", name));
        }
    }
    return FT_OK;
}

enum ft_status ft_hf_finish(struct ft_hf *hf, const char *const *ignored, struct ft_err *err)
{
    struct ft_buf list = {0};
    size_t unknown = 0;
    enum ft_status st = FT_OK;
    if (hf->n_missing > 0) {
        return FT_FAIL(err, CORRUPT, "%zu tensors that %s needs are not in the weights: %s%s", hf->n_missing,
                       hf->config_path, (const char *)hf->missing.data,
                       hf->n_missing > LISTED ? ", ..." : "");
    }
    FT_TRY(list_unknown(hf, ignored, &list, &unknown, err));
    if (unknown > 0) {
        st = FT_FAIL(err, CORRUPT, "%zu tensors of the weights belong to nothing that %s tells of: %s%s",
                     unknown, hf->config_path, (const char *)list.data, unknown > LISTED ? ", ..." : "");
    }
done:
    ft_buf_release(&list);
    return st;
}
