/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
/*
 * train_probe [FORM] MODEL.onnx OPTIONS.json BATCHES.bin OUT.bin - drives the training step for the oracles.
 *
 * OPTIONS.json: fit options. BATCHES.bin: i64 batches, rows, elements; then of each batch i32 labels[rows]
 * and f32 data[rows][elements]. OUT.bin: of each trained parameter the gradients at the first batch, then of
 * each parameter its values after all steps, as float32 in the order of "params". Standard output: {"losses",
 * "grad_norms", "params":
 * [[name, trained, count]...]}.
 *
 * With FORM, --evaluation or --training (how BatchNorm computes), no step but the gradients of
 * sum(embedding * weights): BATCHES.bin is i64 1, rows, elements; f32 data[rows][elements]; f32
 * weights[rows][dim]. OUT.bin: the embedding [rows][dim]; then of each parameter its gradient (zero where
 * there is none) and its values. Standard output: {"dim", "activation_bytes", "params": [[name, trained,
 * count]...]}.
 */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/train/defaults.h"
#include "executor/train/fit.h"
#include "executor/train/input.h"
#include "executor/train/step.h"

struct probe {
    struct ft_fit_options options;
    struct ft_buf batches, out;
    struct ft_device *device;
    struct ft_model *model;
    struct ft_graph *graph;
    struct ft_step *step;
    struct ft_batch batch;
    struct ft_json *losses, *norms, *params, *all;
    const uint8_t *at;
    int64_t head[3]; /* batches, rows, elements */
};

static enum ft_status read_input(struct probe *p, char **argv, struct ft_err *err)
{
    struct ft_buf text = {0};
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_fit_options_init(&p->options, err));
    FT_TRY(ft_file_read(argv[2], FT_MAX_CONFIG_BYTES, &text, err));
    FT_TRY(ft_json_parse(ft_buf_bytes(&text), &json, err));
    FT_TRY(ft_fit_options_read(&p->options, json, err));
    FT_TRY(ft_defaults_resolve(&p->options, err));
    FT_TRY(ft_file_read(argv[3], (size_t)1 << 32, &p->batches, err));
    memcpy(p->head, p->batches.data, sizeof p->head);
    p->at = p->batches.data + sizeof p->head;
done:
    ft_json_free(json);
    ft_buf_release(&text);
    return st;
}

static enum ft_status load(struct probe *p, const char *model, struct ft_err *err)
{
    struct ft_model_options model_options = {p->options.input_shape};
    struct ft_tailor_options tailor;
    memset(&tailor, 0, sizeof tailor);
    tailor.keep_head = p->options.keep_head;
    tailor.cut = p->options.cut;
    tailor.freeze = p->options.freeze;
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_device_open(p->options.device, (int)p->options.threads, &p->device, err));
    FT_RETURN_IF_FAILED(ft_precision_parse(p->options.precision, &precision, err));
    FT_RETURN_IF_FAILED(ft_device_set_precision(p->device, precision, err));
    FT_RETURN_IF_FAILED(ft_model_load(model, &model_options, &p->model, err));
    return ft_tailor(p->model, &tailor, &p->graph, NULL, err);
}

static enum ft_status make_step(struct probe *p, struct ft_err *err)
{
    struct ft_step_spec spec;
    struct ft_batch_input input;
    memset(&spec, 0, sizeof spec);
    memset(&input, 0, sizeof input);
    FT_RETURN_IF_FAILED(ft_loss_parse(p->options.loss, p->options.loss_options, p->options.miner,
                                      p->options.miner_options, &spec.loss, err));
    FT_RETURN_IF_FAILED(ft_optim_parse(p->options.optimizer, p->options.optimizer_options, &spec.optim, err));
    spec.device = p->device;
    spec.graph = p->graph;
    spec.clip_norm = p->options.clip_norm;
    spec.batch = (size_t)p->head[1];
    input.name = "input";
    input.row_elements = (size_t)p->head[2];
    FT_RETURN_IF_FAILED(ft_batch_init(&p->batch, &input, 1, spec.batch, 0, err));
    return ft_step_new(&spec, &p->step, err);
}

static void next_batch(struct probe *p)
{
    size_t labels = (size_t)p->head[1] * sizeof(int32_t);
    size_t data = (size_t)(p->head[1] * p->head[2]) * sizeof(float);
    memcpy(p->batch.labels, p->at, labels);
    memcpy(p->batch.input[0].data, p->at + labels, data);
    p->at += labels + data;
    p->batch.rows = (size_t)p->head[1];
}

static enum ft_status dump(struct probe *p, struct ft_flat *flat, const struct ft_params_slot *slot,
                           struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_buf_reserve(&p->out, slot->count * sizeof(float), err));
    FT_RETURN_IF_FAILED(
        ft_flat_get(flat, slot->at, (float *)(void *)(p->out.data + p->out.size), slot->count, err));
    p->out.size += slot->count * sizeof(float);
    return FT_OK;
}

/* Gradients of what is trained, or values of all. */
static enum ft_status dump_all(struct probe *p, bool gradients, struct ft_err *err)
{
    struct ft_params *params = ft_step_params(p->step);
    for (int i = 0; i < params->n; i++) {
        const struct ft_params_slot *slot = &params->slots[i];
        if (!gradients) {
            FT_RETURN_IF_FAILED(dump(p, &params->group[slot->group], slot, err));
        } else if (slot->group == FT_PARAMS_TRAINED) {
            FT_RETURN_IF_FAILED(dump(p, &ft_step_optim(p->step)->grads, slot, err));
        }
    }
    return FT_OK;
}

static enum ft_status list_params(struct probe *p, const struct ft_params *params, struct ft_err *err)
{
    for (int i = 0; i < params->n; i++) {
        struct ft_json *row = ft_json_array();
        const char *name = ft_graph_name(p->graph, ft_graph_param_at(p->graph, i));
        FT_RETURN_IF_FAILED(ft_json_push(row, ft_json_of_text(name), err));
        FT_RETURN_IF_FAILED(
            ft_json_push(row, ft_json_of_bool(params->slots[i].group == FT_PARAMS_TRAINED), err));
        FT_RETURN_IF_FAILED(ft_json_push(row, ft_json_of_int((int64_t)params->slots[i].count), err));
        FT_RETURN_IF_FAILED(ft_json_push(p->params, row, err));
    }
    return FT_OK;
}

static enum ft_status train(struct probe *p, struct ft_err *err)
{
    struct ft_step_result r;
    const uint8_t *first = p->at;
    p->losses = ft_json_array();
    p->norms = ft_json_array();
    p->params = ft_json_array();
    next_batch(p);
    FT_RETURN_IF_FAILED(ft_step_gradients(p->step, &p->batch, &r, err));
    FT_RETURN_IF_FAILED(dump_all(p, true, err));
    p->at = first;
    for (int64_t i = 0; i < p->head[0]; i++) {
        next_batch(p);
        FT_RETURN_IF_FAILED(ft_step_run(p->step, &p->batch, i + 1, p->options.learning_rate, &r, err));
        FT_RETURN_IF_FAILED(ft_json_push(p->losses, ft_json_of_real(r.loss), err));
        FT_RETURN_IF_FAILED(ft_json_push(p->norms, ft_json_of_real(r.grad_norm), err));
    }
    FT_RETURN_IF_FAILED(dump_all(p, false, err));
    return list_params(p, ft_step_params(p->step), err);
}

/* ---- with FORM: gradients of a weighted sum of the embedding */

struct weighted {
    struct ft_train_form form;
    struct ft_params params;
    struct ft_flat rows, weights;
    struct ft_input input;
    struct ft_plan *plan;
    ft_value weights_in;
    ft_value *grad;   /* by parameter */
    ft_value *wanted; /* the embedding, then the gradients that exist */
    int n_wanted;
    bool *trained;
    size_t activation_bytes;
};

/* The graph with sum(embedding * weights) and its gradients. */
static enum ft_status add_weighted_sum(struct weighted *w, struct ft_err *err)
{
    struct ft_graph *g = w->form.graph;
    struct ft_attrs attrs;
    ft_value sum = FT_NO_VALUE;
    ft_value *wrt = w->wanted + 1;
    int n = 0;
    memset(&attrs, 0, sizeof attrs);
    attrs.axes_count = 2;
    attrs.axes[1] = 1;
    FT_RETURN_IF_FAILED(ft_input_find(g, &w->input, err));
    FT_RETURN_IF_FAILED(ft_graph_input(g, "", ft_graph_type(g, w->input.embedding), &w->weights_in, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(g, FT_OP_MUL, w->input.embedding, w->weights_in, &sum, err));
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_REDUCE_SUM, &attrs, &sum, 1, "probe", &sum, err));
    for (int i = 0; i < ft_graph_params(g); i++) {
        w->grad[i] = FT_NO_VALUE;
        if (ft_graph_param_role(g, i) == FT_PARAM_WEIGHT && !ft_graph_param_frozen(g, i)) {
            wrt[n++] = ft_graph_param_at(g, i);
        }
    }
    ft_value *found = wrt + n;
    FT_RETURN_IF_FAILED(ft_graph_backward(g, sum, wrt, n, found, err));
    w->wanted[w->n_wanted++] = w->input.embedding;
    for (int i = 0; i < n; i++) {
        int param = ft_graph_param_of(g, wrt[i]);
        w->grad[param] = found[i];
        w->trained[param] = found[i] != FT_NO_VALUE;
    }
    for (int i = 0; i < ft_graph_params(g); i++) {
        if (w->trained[i]) {
            w->wanted[w->n_wanted++] = w->grad[i];
        }
    }
    return FT_OK;
}

static enum ft_status plan_weighted(struct probe *p, struct weighted *w, struct ft_err *err)
{
    struct ft_plan_spec spec = {.wanted = w->wanted, .n_wanted = w->n_wanted};
    size_t rows = (size_t)p->head[1];
    const float *data = (const float *)(const void *)p->at;
    spec.symbols[FT_SYMBOL_BATCH] = p->head[1];
    FT_RETURN_IF_FAILED(ft_params_init(&w->params, p->device, w->form.graph, w->trained, err));
    FT_RETURN_IF_FAILED(ft_plan_new(p->device, w->form.graph, &spec, &w->plan, err));
    FT_RETURN_IF_FAILED(ft_flat_init(&w->rows, p->device, rows * (size_t)p->head[2], err));
    FT_RETURN_IF_FAILED(ft_flat_init(&w->weights, p->device, rows * (size_t)w->input.dim, err));
    FT_RETURN_IF_FAILED(ft_flat_put(&w->rows, 0, data, w->rows.count, err));
    FT_RETURN_IF_FAILED(ft_flat_put(&w->weights, 0, data + w->rows.count, w->weights.count, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(w->plan, w->input.data, w->rows.data, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(w->plan, w->weights_in, w->weights.data, err));
    FT_RETURN_IF_FAILED(ft_params_bind(&w->params, w->plan, w->form.graph, NULL, err));
    ft_params_show(&w->params, w->plan);
    FT_RETURN_IF_FAILED(ft_plan_run(w->plan, err));
    return ft_device_wait(p->device, err);
}

/* count numbers of a wanted value, or zeros for FT_NO_VALUE. */
static enum ft_status dump_value(struct probe *p, struct weighted *w, ft_value v, size_t count,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    void *raw = NULL;
    FT_TRY(ft_new(count, sizeof(double), &raw, err));
    FT_TRY(ft_buf_reserve(&p->out, count * sizeof(float), err));
    float *to = (float *)(void *)(p->out.data + p->out.size);
    if (v != FT_NO_VALUE) {
        FT_TRY(ft_device_download(p->device, raw, ft_plan_data(w->plan, v), ft_plan_bytes(w->plan, v), err));
    }
    for (size_t i = 0; i < count; i++) {
        to[i] = ft_device_float(p->device) == FT_F64 ? (float)((double *)raw)[i] : ((float *)raw)[i];
    }
    p->out.size += count * sizeof(float);
done:
    ft_free(raw);
    return st;
}

static enum ft_status differentiate(struct probe *p, struct weighted *w, bool training, struct ft_err *err)
{
    size_t n = (size_t)ft_graph_params(p->graph);
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *w->grad, &w->grad, err));
    FT_RETURN_IF_FAILED(ft_new(2 * n + 1, sizeof *w->wanted, &w->wanted, err));
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *w->trained, &w->trained, err));
    if (training) {
        FT_RETURN_IF_FAILED(ft_graph_train_form(p->graph, -1, &w->form, err));
    } else {
        FT_RETURN_IF_FAILED(ft_graph_copy(p->graph, &w->form.graph, err));
    }
    FT_RETURN_IF_FAILED(add_weighted_sum(w, err));
    FT_RETURN_IF_FAILED(plan_weighted(p, w, err));
    FT_RETURN_IF_FAILED(dump_value(p, w, w->input.embedding, w->weights.count, err));
    for (int i = 0; i < w->params.n; i++) {
        const struct ft_params_slot *slot = &w->params.slots[i];
        FT_RETURN_IF_FAILED(dump_value(p, w, w->grad[i], slot->count, err));
        FT_RETURN_IF_FAILED(dump(p, &w->params.group[slot->group], slot, err));
    }
    p->params = ft_json_array();
    w->activation_bytes = ft_plan_stats(w->plan).activation_bytes;
    return list_params(p, &w->params, err);
}

static void release_weighted(struct weighted *w)
{
    ft_plan_free(w->plan);
    ft_flat_release(&w->rows);
    ft_flat_release(&w->weights);
    ft_params_release(&w->params);
    ft_free(w->grad);
    ft_free(w->wanted);
    ft_free(w->trained);
    ft_free(w->form.updates);
    ft_graph_free(w->form.graph);
}

/* p->all with the parameters, on standard output. */
static enum ft_status print(struct probe *p, struct ft_err *err)
{
    struct ft_buf text = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_set(p->all, "params", p->params, err));
    p->params = NULL;
    FT_TRY(ft_json_write(p->all, 0, &text, err));
    puts((const char *)text.data);
done:
    ft_buf_release(&text);
    return st;
}

static enum ft_status print_weighted(struct probe *p, const struct weighted *w, struct ft_err *err)
{
    p->all = ft_json_object();
    FT_RETURN_IF_FAILED(ft_json_set(p->all, "dim", ft_json_of_int(w->input.dim), err));
    FT_RETURN_IF_FAILED(
        ft_json_set(p->all, "activation_bytes", ft_json_of_int((int64_t)w->activation_bytes), err));
    return print(p, err);
}

static enum ft_status run_weighted(struct probe *p, bool training, struct ft_err *err)
{
    struct weighted w;
    memset(&w, 0, sizeof w);
    enum ft_status st = differentiate(p, &w, training, err);
    if (st == FT_OK) {
        st = print_weighted(p, &w, err);
    }
    release_weighted(&w);
    return st;
}

/* ---- with a loss */

static enum ft_status print_losses(struct probe *p, struct ft_err *err)
{
    p->all = ft_json_object();
    FT_RETURN_IF_FAILED(ft_json_set(p->all, "losses", p->losses, err));
    p->losses = NULL;
    FT_RETURN_IF_FAILED(ft_json_set(p->all, "grad_norms", p->norms, err));
    p->norms = NULL;
    return print(p, err);
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct probe p;
    enum ft_status st = FT_OK;
    bool training = argc > 1 && strcmp(argv[1], "--training") == 0;
    bool form = training || (argc > 1 && strcmp(argv[1], "--evaluation") == 0);
    memset(&p, 0, sizeof p);
    argv += form;
    if (argc != 5 + form) {
        (void)fputs("train_probe [--evaluation|--training] MODEL OPTIONS BATCHES OUT\n", stderr);
        return 2;
    }
    FT_TRY(read_input(&p, argv, &err));
    FT_TRY(load(&p, argv[1], &err));
    if (form) {
        FT_TRY(run_weighted(&p, training, &err));
    } else {
        FT_TRY(make_step(&p, &err));
        FT_TRY(train(&p, &err));
        FT_TRY(print_losses(&p, &err));
    }
    FT_TRY(ft_file_write(argv[4], ft_buf_bytes(&p.out), &err));
done:
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    ft_json_free(p.all);
    ft_step_free(p.step);
    ft_batch_release(&p.batch);
    ft_graph_free(p.graph);
    ft_model_free(p.model);
    ft_device_close(p.device);
    ft_buf_release(&p.batches);
    ft_buf_release(&p.out);
    ft_fit_options_release(&p.options);
    return st == FT_OK ? 0 : 3;
}
