/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/*
 * model_probe - load a model, tailor, run, export or pack it: what the oracle scripts drive. Prints one JSON
 * object.
 *
 * model_probe MODEL [--input-shape S] [--tailor] [--cut NODE] [--keep-head] [--labels N] [--output-dim N]
 *   [--projection-layers N] [--pooler avg|GeM] [--gem-p P] [--normalize] [--freeze WHAT] [--seed N]
 *   [--export FILE.onnx] [--artifact PATH] [--device ref|cpu] [--precision P]
 *   [--input [NAME=]FILE.npy]... [--out PREFIX] [--gradients] [--pack]
 * Inputs are given in the order of the graph's, or all by the name that the file gives them: then those that
 * no node reads, which the graph has dropped, may be among them. Outputs go to PREFIX<i>.bin as raw float64.
 * With --gradients the outputs are those of sum(output * cotangent) for each parameter, called as they are;
 * "cotangent" is one input more. With --pack the graph is the packed one if there is one; "unpacked" says why
 * not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/npy.h"
#include "executor/graph/plan.h"
#include "executor/graph/pack.h"
#include "executor/model/artifact.h"
#include "executor/model/onnx.h"
#include "executor/model/tailor.h"

enum { MAX_INPUTS = 16 };

struct probe {
    const char *model, *device, *precision, *out, *export_to, *artifact, *tokenizer;
    const char *inputs[MAX_INPUTS];
    int n_inputs;
    bool tailored, gradients, packed;
    struct ft_model_options options;
    struct ft_tailor_options tailor;
};

static bool flag(struct probe *p, const char *name)
{
    if (strcmp(name, "--tailor") == 0) {
        p->tailored = true;
    } else if (strcmp(name, "--pack") == 0) {
        p->packed = true;
    } else if (strcmp(name, "--gradients") == 0) {
        p->gradients = true;
    } else if (strcmp(name, "--keep-head") == 0) {
        p->tailored = p->tailor.keep_head = true;
    } else if (strcmp(name, "--normalize") == 0) {
        p->tailored = p->tailor.normalize = true;
    } else {
        return false;
    }
    return true;
}

static bool tailor_option(struct probe *p, const char *name, const char *value)
{
    p->tailored = true;
    if (strcmp(name, "--cut") == 0) {
        p->tailor.cut = value;
    } else if (strcmp(name, "--labels") == 0) {
        p->tailor.labels = strtol(value, NULL, 10);
    } else if (strcmp(name, "--output-dim") == 0) {
        p->tailor.output_dim = strtol(value, NULL, 10);
    } else if (strcmp(name, "--projection-layers") == 0) {
        p->tailor.projection_layers = (int)strtol(value, NULL, 10);
    } else if (strcmp(name, "--pooler") == 0) {
        p->tailor.pooler = strcmp(value, "GeM") == 0 ? FT_POOLER_GEM : FT_POOLER_AVG;
        return p->tailor.pooler == FT_POOLER_GEM || strcmp(value, "avg") == 0;
    } else if (strcmp(name, "--gem-p") == 0) {
        p->tailor.gem_p = strtof(value, NULL);
    } else if (strcmp(name, "--freeze") == 0) {
        p->tailor.freeze = value;
    } else if (strcmp(name, "--seed") == 0) {
        p->tailor.seed = strtoul(value, NULL, 10);
    } else {
        return false;
    }
    return true;
}

static bool option(struct probe *p, const char *name, const char *value)
{
    if (strcmp(name, "--input-shape") == 0) {
        p->options.input_shape = value;
    } else if (strcmp(name, "--device") == 0) {
        p->device = value;
    } else if (strcmp(name, "--precision") == 0) {
        p->precision = value;
    } else if (strcmp(name, "--out") == 0) {
        p->out = value;
    } else if (strcmp(name, "--export") == 0) {
        p->export_to = value;
    } else if (strcmp(name, "--artifact") == 0) {
        p->artifact = value;
    } else if (strcmp(name, "--tokenizer") == 0) {
        p->tokenizer = value;
    } else if (strcmp(name, "--input") == 0 && p->n_inputs < MAX_INPUTS) {
        p->inputs[p->n_inputs++] = value;
    } else {
        return tailor_option(p, name, value);
    }
    return true;
}

static bool read_arguments(int argc, char **argv, struct probe *p)
{
    *p = (struct probe){.device = "ref", .precision = "f32", .out = "out"};
    if (argc < 2) {
        return false;
    }
    p->model = argv[1];
    for (int i = 2; i < argc; i++) {
        if (flag(p, argv[i])) {
            continue;
        }
        if (i + 1 == argc || !option(p, argv[i], argv[i + 1])) {
            return false;
        }
        i++;
    }
    return true;
}

/* ---- printing */

static enum ft_status put_type(struct ft_json *to, const char *key, const struct ft_type *type,
                               struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    return ft_json_set(to, key, ft_json_of_text(ft_type_text(type, text)), err);
}

static enum ft_status describe_params(const struct ft_graph *g, struct ft_json *to, struct ft_err *err)
{
    struct ft_json *list = ft_json_array();
    enum ft_status st = FT_OK;
    for (int i = 0; i < ft_graph_params(g); i++) {
        ft_value v = ft_graph_param_at(g, i);
        struct ft_json *param = ft_json_object();
        if (param == NULL) {
            st = FT_FAIL(err, NOMEM, "no memory");
            goto done;
        }
        st = ft_json_set(param, "name", ft_json_of_text(ft_graph_name(g, v)), err);
        if (st == FT_OK) {
            st = put_type(param, "type", ft_graph_type(g, v), err);
        }
        if (st == FT_OK) {
            bool state = ft_graph_param_role(g, i) == FT_PARAM_STATE;
            st = ft_json_set(param, "state", ft_json_of_bool(state), err);
        }
        if (st == FT_OK) {
            st = ft_json_set(param, "frozen", ft_json_of_bool(ft_graph_param_frozen(g, i)), err);
        }
        if (st != FT_OK) {
            ft_json_free(param);
            goto done;
        }
        FT_TRY(ft_json_push(list, param, err));
    }
    FT_TRY(ft_json_set(to, "params", list, err));
    list = NULL;
done:
    ft_json_free(list);
    return st;
}

static enum ft_status describe_graph(const struct ft_graph *g, struct ft_json *to, struct ft_err *err)
{
    struct ft_json *ops = ft_json_object();
    struct ft_json *inputs = ft_json_object();
    enum ft_status st = FT_OK;
    for (int i = 0; i < ft_graph_nodes(g); i++) {
        const char *name = ft_op_info(ft_graph_node(g, i)->op)->name;
        int64_t count = ft_json_int(ft_json_get(ops, name)) + 1;
        FT_TRY(ft_json_set(ops, name, ft_json_of_int(count), err));
    }
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        ft_value v = ft_graph_input_at(g, i);
        FT_TRY(put_type(inputs, ft_graph_name(g, v), ft_graph_type(g, v), err));
    }
    FT_TRY(ft_json_set(to, "ops", ft_json_copy(ops), err));
    FT_TRY(ft_json_set(to, "inputs", ft_json_copy(inputs), err));
    FT_TRY(describe_params(g, to, err));
done:
    ft_json_free(ops);
    ft_json_free(inputs);
    return st;
}

static enum ft_status describe_report(const struct ft_tailor_report *r, struct ft_json *to,
                                      struct ft_err *err)
{
    struct ft_json *layers = ft_json_array();
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_set(to, "head", ft_json_of_text(r->head), err));
    FT_TRY(ft_json_set(to, "why", ft_json_of_text(r->why), err));
    FT_TRY(ft_json_set(to, "embedding_at", ft_json_of_text(r->embedding_at), err));
    FT_TRY(ft_json_set(to, "dim", ft_json_of_int(r->dim), err));
    FT_TRY(ft_json_set(to, "params_total", ft_json_of_int(r->params_total), err));
    FT_TRY(ft_json_set(to, "params_trainable", ft_json_of_int(r->params_trainable), err));
    for (size_t i = 0; i < r->n_layers; i++) {
        const struct ft_layer *layer = &r->layers[i];
        char text[512];
        (void)snprintf(text, sizeof text, "%s|%s|%s|%" PRId64 "|%s%s", layer->name, layer->op, layer->origin,
                       layer->params, layer->trainable ? "trainable" : "", layer->cut_away ? "cut" : "");
        FT_TRY(ft_json_push(layers, ft_json_of_text(text), err));
    }
    FT_TRY(ft_json_set(to, "layers", layers, err));
    layers = NULL;
done:
    ft_json_free(layers);
    return st;
}

/* ---- running */

struct run {
    struct ft_device *device;
    struct ft_plan *plan;
    void **memory;
    int n_memory;
    ft_value *wanted;
    ft_value values[MAX_INPUTS]; /* FT_NO_VALUE: the graph does not read it */
    const char *paths[MAX_INPUTS];
    struct ft_mapping maps[MAX_INPUTS];
    struct ft_npy npys[MAX_INPUTS];
};

/* One element of an .npy array as double. */
static double element(const struct ft_npy *npy, size_t i)
{
    if (strcmp(npy->dtype, "<f8") == 0) {
        double d = 0.0;
        memcpy(&d, npy->data.data + i * sizeof d, sizeof d);
        return d;
    }
    if (strcmp(npy->dtype, "<i8") == 0) {
        int64_t n = 0;
        memcpy(&n, npy->data.data + i * sizeof n, sizeof n);
        return (double)n;
    }
    float f = 0.0F;
    memcpy(&f, npy->data.data + i * sizeof f, sizeof f);
    return (double)f;
}

/* Where a value's data come from: an .npy file, or the graph's floats. */
struct source {
    const struct ft_npy *npy;
    const float *floats;
};

static enum ft_status bind(struct run *r, const struct ft_graph *g, ft_value v, struct source from,
                           struct ft_err *err)
{
    const struct ft_type *type = ft_graph_type(g, v);
    size_t bytes = ft_plan_bytes(r->plan, v);
    bool wide = ft_device_float(r->device) == FT_F64;
    size_t size = type->dtype != FT_F32 ? ft_dtype_size(type->dtype) : wide ? 8 : 4;
    void **memory = &r->memory[r->n_memory++];
    char *host = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_device_alloc(r->device, bytes, memory, err));
    FT_TRY(ft_new(bytes + 8, 1, &host, err));
    for (size_t i = 0; i < bytes / size; i++) {
        double d = from.npy != NULL ? element(from.npy, i) : (double)from.floats[i];
        float f = (float)d;
        int64_t n = (int64_t)d;
        const void *bits = wide ? (const void *)&d : (const void *)&f;
        memcpy(host + i * size, type->dtype != FT_F32 ? (const void *)&n : bits, size);
    }
    FT_TRY(ft_device_upload(r->device, *memory, host, bytes, err));
    FT_TRY(ft_plan_bind(r->plan, v, *memory, err));
done:
    ft_free(host);
    return st;
}

static double stored_element(enum ft_dtype stored, const char *at)
{
    double d = 0.0;
    float f = 0.0F;
    int64_t n = 0;
    if (stored == FT_F64) {
        memcpy(&d, at, sizeof d);
        return d;
    }
    if (stored == FT_F32) {
        memcpy(&f, at, sizeof f);
        return (double)f;
    }
    memcpy(&n, at, ft_dtype_size(stored)); /* little-endian; outputs are int64 or bool */
    return (double)n;
}

static enum ft_status write_output(struct ft_device *device, struct ft_plan *plan, const struct ft_graph *g,
                                   int i, const struct probe *p, struct ft_json *list, struct ft_err *err)
{
    ft_value v = ft_graph_output_at(g, i);
    size_t bytes = ft_plan_bytes(plan, v);
    enum ft_dtype dtype = ft_graph_type(g, v)->dtype;
    enum ft_dtype stored = dtype == FT_F32 ? ft_device_float(device) : dtype;
    size_t n = bytes / ft_dtype_size(stored);
    struct ft_buf path = {0};
    char *raw = NULL;
    double *values = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_new(bytes, 1, &raw, err));
    FT_TRY(ft_new(n, sizeof *values, &values, err));
    FT_TRY(ft_device_download(device, raw, ft_plan_data(plan, v), bytes, err));
    for (size_t k = 0; k < n; k++) {
        values[k] = stored_element(stored, raw + k * ft_dtype_size(stored));
    }
    FT_TRY(ft_buf_printf(&path, err, "%s%d.bin", p->out, i));
    FT_TRY(ft_file_write((const char *)path.data, ft_bytes_of(values, n * sizeof *values), err));
    FT_TRY(ft_json_push(list, ft_json_of_text(ft_graph_output_name(g, i)), err));
done:
    ft_free(values);
    ft_free(raw);
    ft_buf_release(&path);
    return st;
}

static enum ft_status find_inputs(const struct probe *p, const struct ft_graph *g, struct run *r,
                                  struct ft_err *err)
{
    int found = 0;
    for (int i = 0; i < p->n_inputs; i++) {
        const char *equals = strchr(p->inputs[i], '=');
        r->values[i] = FT_NO_VALUE;
        r->paths[i] = equals == NULL ? p->inputs[i] : equals + 1;
        for (int k = 0; k < ft_graph_inputs(g); k++) {
            const char *name = ft_graph_name(g, ft_graph_input_at(g, k));
            size_t n = strlen(name);
            bool here =
                equals == NULL ? k == i : strncmp(p->inputs[i], name, n) == 0 && p->inputs[i] + n == equals;
            r->values[i] = here ? ft_graph_input_at(g, k) : r->values[i];
        }
        found += r->values[i] != FT_NO_VALUE;
        if (equals == NULL && r->values[i] == FT_NO_VALUE) {
            found = -1;
            break;
        }
    }
    return found == ft_graph_inputs(g) ? FT_OK
                                       : FT_FAIL(err, USAGE, "%d inputs are given, the graph has %d",
                                                 p->n_inputs, ft_graph_inputs(g));
}

static enum ft_status prepare(const struct probe *p, const struct ft_graph *g, struct run *r,
                              struct ft_err *err)
{
    struct ft_plan_spec spec = {.n_wanted = 0};
    FT_RETURN_IF_FAILED(find_inputs(p, g, r, err));
    for (int i = 0; i < p->n_inputs; i++) {
        if (r->values[i] == FT_NO_VALUE) {
            continue;
        }
        FT_RETURN_IF_FAILED(ft_file_map(r->paths[i], &r->maps[i], err));
        FT_RETURN_IF_FAILED(ft_npy_parse(r->maps[i].bytes, &r->npys[i], err));
        const struct ft_type *type = ft_graph_type(g, r->values[i]);
        for (int k = 0; k < type->rank; k++) {
            for (int symbol = 0; symbol < FT_MAX_SYMBOLS; symbol++) {
                if (ft_dim_equal(type->dim[k], ft_dim_symbol(symbol))) {
                    spec.symbols[symbol] = r->npys[i].dims[k];
                }
            }
        }
    }
    FT_RETURN_IF_FAILED(ft_new((size_t)ft_graph_outputs(g), sizeof *r->wanted, &r->wanted, err));
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        r->wanted[i] = ft_graph_output_at(g, i);
    }
    spec.wanted = r->wanted;
    spec.n_wanted = ft_graph_outputs(g);
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_device_open(p->device, 2, &r->device, err));
    FT_RETURN_IF_FAILED(ft_precision_parse(p->precision, &precision, err));
    FT_RETURN_IF_FAILED(ft_device_set_precision(r->device, precision, err));
    FT_RETURN_IF_FAILED(ft_plan_new(r->device, g, &spec, &r->plan, err));
    return ft_new((size_t)p->n_inputs + (size_t)ft_graph_params(g), sizeof *r->memory, &r->memory, err);
}

static enum ft_status run_graph(const struct probe *p, const struct ft_graph *g, struct ft_json *to,
                                struct ft_err *err)
{
    struct run r = {0};
    struct ft_json *list = ft_json_array();
    enum ft_status st = FT_OK;
    FT_TRY(prepare(p, g, &r, err));
    for (int i = 0; i < p->n_inputs; i++) {
        if (r.values[i] != FT_NO_VALUE) {
            FT_TRY(bind(&r, g, r.values[i], (struct source){.npy = &r.npys[i]}, err));
        }
    }
    for (int i = 0; i < ft_graph_params(g); i++) {
        ft_value v = ft_graph_param_at(g, i);
        FT_TRY(bind(&r, g, v, (struct source){.floats = ft_graph_data(g, v)}, err));
    }
    FT_TRY(ft_plan_run(r.plan, err));
    FT_TRY(ft_device_wait(r.device, err));
    for (int i = 0; i < ft_graph_outputs(g); i++) {
        FT_TRY(write_output(r.device, r.plan, g, i, p, list, err));
    }
    FT_TRY(ft_json_set(to, "outputs", list, err));
    list = NULL;
done:
    ft_json_free(list);
    ft_plan_free(r.plan);
    for (int i = 0; i < r.n_memory; i++) {
        ft_device_free(r.device, r.memory[i]);
    }
    ft_free(r.memory);
    ft_free(r.wanted);
    ft_device_close(r.device);
    for (int i = 0; i < p->n_inputs; i++) {
        ft_file_unmap(&r.maps[i]);
    }
    return st;
}

/* ---- gradients */

/* sum(output * cotangent) */
static enum ft_status add_loss(struct ft_graph *g, ft_value *loss, struct ft_err *err)
{
    struct ft_attrs sum;
    ft_value y = ft_graph_output_at(g, 0);
    ft_value cotangent = FT_NO_VALUE;
    memset(&sum, 0, sizeof sum);
    for (int i = 0; i < ft_graph_type(g, y)->rank; i++) {
        sum.axes[sum.axes_count++] = i;
    }
    FT_RETURN_IF_FAILED(ft_graph_input(g, "cotangent", ft_graph_type(g, y), &cotangent, err));
    FT_RETURN_IF_FAILED(ft_graph_add2(g, FT_OP_MUL, y, cotangent, &y, err));
    return ft_graph_add(g, FT_OP_REDUCE_SUM, &sum, &y, 1, NULL, loss, err);
}

static enum ft_status with_gradients(const struct ft_graph *from, struct ft_graph **out, struct ft_err *err)
{
    struct ft_graph *g = NULL;
    ft_value *values = NULL; /* parameters, then their gradients */
    ft_value loss = FT_NO_VALUE;
    int n = ft_graph_params(from);
    enum ft_status st = FT_OK;
    FT_TRY(ft_graph_copy(from, &g, err));
    FT_TRY(add_loss(g, &loss, err));
    FT_TRY(ft_new((size_t)n, 2 * sizeof *values, &values, err));
    for (int i = 0; i < n; i++) {
        values[i] = ft_graph_param_at(g, i);
    }
    FT_TRY(ft_graph_backward(g, loss, values, n, values + n, err));
    ft_graph_clear_outputs(g);
    for (int i = 0; i < n; i++) {
        if (values[n + i] != FT_NO_VALUE) {
            FT_TRY(ft_graph_output(g, values[n + i], ft_graph_name(g, values[i]), err));
        }
    }
    *out = g;
    g = NULL;
done:
    ft_free(values);
    ft_graph_free(g);
    return st;
}

/* ---- writing */

static enum ft_status write_onnx(const struct probe *p, const struct ft_graph *g, struct ft_err *err)
{
    struct ft_buf out = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_onnx_write(g, "probe", NULL, &out, err));
    FT_TRY(ft_file_write(p->export_to, ft_buf_bytes(&out), err));
done:
    ft_buf_release(&out);
    return st;
}

static enum ft_status write_artifact(const struct probe *p, const struct ft_model *model,
                                     const struct ft_graph *g, struct ft_err *err)
{
    struct ft_json *prep = NULL;
    struct ft_json *config = NULL;
    struct ft_json *metrics = NULL;
    struct ft_json *card = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_json_parse(ft_bytes_of_text("{\"kind\":\"vector\",\"shape\":[8]}"), &prep, err));
    FT_TRY(ft_json_parse(ft_bytes_of_text("{\"run_name\":\"probe-run\",\"hyper_parameters\":{\"epochs\":5}}"),
                         &config, err));
    FT_TRY(ft_json_parse(ft_bytes_of_text("{\"before\":{\"mrr\":0.25},\"after\":{\"mrr\":0.5}}"), &metrics,
                         err));
    FT_TRY(ft_json_parse(ft_bytes_of_text("{\"seed\":1,\"documents\":40}"), &card, err));
    char left_out[FT_ERR_TEXT];
    struct ft_artifact a = {.run_name = "probe-run",
                            .model_name = model->name,
                            .graph = g,
                            .prep = prep,
                            .config = config,
                            .metrics = metrics,
                            .card = card};
    FT_TRY(ft_artifact_write(&a, p->artifact, left_out, err));
done:
    ft_json_free(prep);
    ft_json_free(config);
    ft_json_free(metrics);
    ft_json_free(card);
    return st;
}

static enum ft_status work(const struct probe *p, struct ft_json *to, struct ft_err *err)
{
    struct ft_model *model = NULL;
    struct ft_graph *tailored = NULL;
    struct ft_graph *backward = NULL;
    struct ft_graph *packed = NULL;
    char why[FT_ERR_TEXT];
    struct ft_tailor_report report = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_model_load(p->model, &p->options, &model, err));
    FT_TRY(ft_json_set(to, "name", ft_json_of_text(model->name), err));
    FT_TRY(ft_json_set(to, "producer", ft_json_of_text(model->producer), err));
    FT_TRY(ft_json_set(to, "opset", ft_json_of_int(model->opset), err));
    FT_TRY(ft_json_set(to, "is_embedding", ft_json_of_bool(model->is_embedding), err));
    FT_TRY(ft_json_set(to, "max_length", ft_json_of_int(model->max_length), err));
    if (p->tokenizer != NULL) {
        FT_TRY(ft_file_write(p->tokenizer, ft_buf_bytes(&model->tokenizer), err));
    }
    if (p->tailored) {
        FT_TRY(ft_tailor(model, &p->tailor, &tailored, &report, err));
        FT_TRY(describe_report(&report, to, err));
    }
    const struct ft_graph *g = tailored != NULL ? tailored : model->graph;
    if (p->packed) {
        FT_TRY(ft_graph_pack(g, &packed, why, err));
        FT_TRY(ft_json_set(to, "unpacked", ft_json_of_text(why), err));
        g = packed != NULL ? packed : g;
    }
    FT_TRY(describe_graph(g, to, err));
    if (p->export_to != NULL) {
        FT_TRY(write_onnx(p, g, err));
    }
    if (p->artifact != NULL) {
        FT_TRY(write_artifact(p, model, g, err));
    }
    if (p->gradients) {
        FT_TRY(with_gradients(g, &backward, err));
        g = backward;
    }
    if (p->n_inputs > 0 || ft_graph_inputs(g) == 0) {
        FT_TRY(run_graph(p, g, to, err));
    }
done:
    ft_graph_free(backward);
    ft_tailor_report_release(&report);
    ft_graph_free(packed);
    ft_graph_free(tailored);
    ft_model_free(model);
    return st;
}

int main(int argc, char **argv)
{
    struct probe p;
    struct ft_err err = {0};
    struct ft_buf text = {0};
    struct ft_json *to = ft_json_object();
    if (!read_arguments(argc, argv, &p)) {
        (void)fprintf(stderr, "usage: model_probe MODEL [options]\n");
        ft_json_free(to);
        return 2;
    }
    enum ft_status st = work(&p, to, &err);
    if (st == FT_OK) {
        st = ft_json_write(to, 0, &text, &err);
    }
    if (st == FT_OK) {
        (void)printf("%s\n", (const char *)text.data);
    } else {
        (void)fprintf(stderr, "%s: %s\n", ft_status_text(st), err.text);
    }
    ft_buf_release(&text);
    ft_json_free(to);
    return st == FT_OK ? 0 : 1;
}
