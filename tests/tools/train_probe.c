/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
/*
 * train_probe MODEL.onnx OPTIONS.json BATCHES.bin OUT.bin - drives the training step for the oracles.
 *
 * OPTIONS.json: fit options. BATCHES.bin: i64 batches, rows, elements; then of each batch i32 labels[rows]
 * and f32 data[rows][elements]. OUT.bin: of each trained parameter the gradients at the first batch, then of
 * each parameter its values after all steps, as float32 in the order of "params". Standard output: {"losses",
 * "grad_norms", "params":
 * [[name, trained, count]...]}.
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

static enum ft_status make_step(struct probe *p, const char *model, struct ft_err *err)
{
    struct ft_model_options model_options = {p->options.input_shape};
    struct ft_tailor_options tailor;
    struct ft_step_spec spec;
    struct ft_batch_input input;
    memset(&tailor, 0, sizeof tailor);
    memset(&spec, 0, sizeof spec);
    memset(&input, 0, sizeof input);
    tailor.keep_head = p->options.keep_head;
    tailor.cut = p->options.cut;
    tailor.freeze = p->options.freeze;
    FT_RETURN_IF_FAILED(ft_device_open(p->options.device, (int)p->options.threads, &p->device, err));
    FT_RETURN_IF_FAILED(ft_model_load(model, &model_options, &p->model, err));
    FT_RETURN_IF_FAILED(ft_tailor(p->model, &tailor, &p->graph, NULL, err));
    FT_RETURN_IF_FAILED(ft_loss_parse(p->options.loss, p->options.loss_options, p->options.miner,
                                      p->options.miner_options, &spec.loss, err));
    FT_RETURN_IF_FAILED(ft_optim_parse(p->options.optimizer, p->options.optimizer_options, &spec.optim, err));
    spec.device = p->device;
    spec.graph = p->graph;
    spec.clip_norm = p->options.clip_norm;
    spec.batch = (size_t)p->head[1];
    input.name = "input";
    input.row_elements = (size_t)p->head[2];
    FT_RETURN_IF_FAILED(ft_batch_init(&p->batch, &input, 1, spec.batch, err));
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

static enum ft_status list_params(struct probe *p, struct ft_err *err)
{
    struct ft_params *params = ft_step_params(p->step);
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
    return list_params(p, err);
}

static enum ft_status print(struct probe *p, struct ft_err *err)
{
    struct ft_buf text = {0};
    p->all = ft_json_object();
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_set(p->all, "losses", p->losses, err));
    p->losses = NULL;
    FT_TRY(ft_json_set(p->all, "grad_norms", p->norms, err));
    p->norms = NULL;
    FT_TRY(ft_json_set(p->all, "params", p->params, err));
    p->params = NULL;
    FT_TRY(ft_json_write(p->all, 0, &text, err));
    puts((const char *)text.data);
done:
    ft_buf_release(&text);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    struct probe p;
    enum ft_status st = FT_OK;
    memset(&p, 0, sizeof p);
    if (argc != 5) {
        (void)fputs("train_probe MODEL OPTIONS BATCHES OUT\n", stderr);
        return 2;
    }
    FT_TRY(read_input(&p, argv, &err));
    FT_TRY(make_step(&p, argv[1], &err));
    FT_TRY(train(&p, &err));
    FT_TRY(ft_file_write(argv[4], ft_buf_bytes(&p.out), &err));
    FT_TRY(print(&p, &err));
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
