#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/graph/plan.h"
#include "executor/model/hf_tail.h"

/*
 * A graph may have been cut anywhere, and its files can only tell of a whole encoder. Whether they tell of
 * this one is not read off its nodes: they are read back, and both embed two texts.
 */

enum { ROWS = 2, PLACES = 6 };

struct probe {
    int64_t ids[ROWS * PLACES], mask[ROWS * PLACES], types[ROWS * PLACES];
    int64_t places;
};

/* Token numbers below every embedding's height, of a whole text and a shorter one. */
static void make_probe(const struct ft_model *model, struct probe *p)
{
    int64_t vocab = ft_json_int(ft_json_get(model->hf->config, "vocab_size"));
    struct ft_rand r = ft_rand_at(1, FT_RAND_TEST, 0);
    memset(p, 0, sizeof *p);
    p->places = model->max_length < PLACES ? model->max_length : PLACES;
    for (int64_t i = 0; i < ROWS * p->places; i++) {
        p->ids[i] = vocab > 0 ? (int64_t)(ft_rand_u32(r, (uint64_t)i) % (uint64_t)vocab) : 0;
        p->mask[i] = i < p->places || i % p->places < (p->places + 1) / 2;
    }
}

static const int64_t *numbers_of(const struct probe *p, const char *name)
{
    return strcmp(name, "input_ids") == 0 ? p->ids : strcmp(name, "attention_mask") == 0 ? p->mask : p->types;
}

/* Memory of the device for inputs and parameters; memory[i] is freed by the caller. */
static enum ft_status bind(struct ft_device *device, struct ft_plan *plan, const struct ft_graph *g,
                           const struct probe *p, void **memory, struct ft_err *err)
{
    int n_in = ft_graph_inputs(g);
    for (int i = 0; i < n_in + ft_graph_params(g); i++) {
        ft_value v = i < n_in ? ft_graph_input_at(g, i) : ft_graph_param_at(g, i - n_in);
        const void *data = i < n_in ? numbers_of(p, ft_graph_name(g, v)) : ft_graph_data(g, v);
        size_t bytes = ft_plan_bytes(plan, v);
        FT_RETURN_IF_FAILED(ft_device_alloc(device, bytes, &memory[i], err));
        FT_RETURN_IF_FAILED(ft_device_upload(device, memory[i], data, bytes, err));
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, v, memory[i], err));
    }
    return FT_OK;
}

/* out: (ROWS, dim) */
static enum ft_status embed(struct ft_device *device, const struct ft_graph *g, const struct probe *p,
                            float *out, struct ft_err *err)
{
    ft_value v = ft_graph_output_at(g, 0);
    struct ft_plan_spec spec = {.symbols = {ROWS, p->places}, .wanted = &v, .n_wanted = 1};
    size_t n = (size_t)ft_graph_inputs(g) + (size_t)ft_graph_params(g);
    struct ft_plan *plan = NULL;
    void **memory = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_plan_new(device, g, &spec, &plan, err));
    FT_TRY(ft_new(n, sizeof *memory, &memory, err));
    FT_TRY(bind(device, plan, g, p, memory, err));
    FT_TRY(ft_plan_run(plan, err));
    FT_TRY(ft_device_wait(device, err));
    FT_TRY(ft_device_download(device, out, ft_plan_data(plan, v), ft_plan_bytes(plan, v), err));
done:
    ft_plan_free(plan);
    for (size_t i = 0; memory != NULL && i < n; i++) {
        ft_device_free(device, memory[i]);
    }
    ft_free(memory);
    return st;
}

/* Sums in another order, and a BatchNorm that became weights: 1e-4 of the largest number. */
static bool alike(const float *a, const float *b, size_t n)
{
    float most = 0.0F;
    float apart = 0.0F;
    for (size_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(a[i]));
        apart = fmaxf(apart, fabsf(a[i] - b[i]));
        if (!isfinite(a[i]) || !isfinite(b[i])) {
            return false;
        }
    }
    return apart <= 1e-4F * most;
}

static int64_t dim_of(const struct ft_graph *g)
{
    const struct ft_type *t = ft_graph_type(g, ft_graph_output_at(g, 0));
    return t->rank == 2 ? t->dim[1].coef : 0;
}

static enum ft_status compare(const struct ft_graph *g, const struct ft_model *model, bool *same,
                              struct ft_err *err)
{
    struct probe probe;
    struct ft_device *device = NULL;
    size_t n = ROWS * (size_t)dim_of(g);
    float *a = NULL;
    float *b = NULL;
    enum ft_status st = FT_OK;
    *same = false;
    if (dim_of(g) != dim_of(model->graph)) {
        return FT_OK;
    }
    make_probe(model, &probe);
    FT_TRY(ft_new(n, sizeof *a, &a, err));
    FT_TRY(ft_new(n, sizeof *b, &b, err));
    FT_TRY(ft_device_open("cpu", 0, &device, err));
    FT_TRY(embed(device, g, &probe, a, err));
    FT_TRY(embed(device, model->graph, &probe, b, err));
    *same = alike(a, b, n);
done:
    ft_device_close(device);
    ft_free(a);
    ft_free(b);
    return st;
}

enum ft_status ft_hf_compare(const struct ft_graph *graph, const char *dir, char why[FT_ERR_TEXT],
                             struct ft_err *err)
{
    struct ft_model *model = NULL;
    bool same = false;
    enum ft_status st = ft_hf_load(dir, &model, err);
    why[0] = '\0';
    if (st == FT_OK) {
        st = compare(graph, model, &same, err);
    }
    if (st == FT_CORRUPT || st == FT_INVALID || st == FT_LIMIT || st == FT_UNSUPPORTED) {
        /* Weights that config.json does not tell of, or too few: model.onnx has them all the same. */
        bool other = st == FT_CORRUPT || st == FT_INVALID;
        (void)snprintf(why, FT_ERR_TEXT, "%s (%.300s)",
                       other ? "what stands before its pooling is not the encoder that config.json tells of"
                             : "the files cannot be read back",
                       err->text);
        ft_err_clear(err);
        st = FT_OK;
    } else if (st == FT_OK && !same) {
        (void)snprintf(why, FT_ERR_TEXT,
                       "what stands before its pooling is not the encoder that config.json tells of");
    }
    ft_model_free(model);
    return st;
}
