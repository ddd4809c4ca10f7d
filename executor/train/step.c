#include "executor/train/step.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/blocks.h"
#include "executor/train/buckets.h"
#include "executor/train/input.h"

/* A model graph with labels and a loss behind it, and what its plan is fed with. */
struct lossy {
    struct ft_device *device;
    struct ft_graph *graph;
    const int *numbers; /* parameter of this graph -> of the whole one; NULL: the same */
    int n_inputs;       /* of rows; 0 of texts from their ids on */
    ft_value inputs[FT_BATCH_INPUTS], rng, embedding;
    ft_value labels, loss, stats;
    size_t batch;
    bool is_text;
    struct ft_text_inputs text;
    struct ft_text_limits limits;
    struct ft_text_in text_in;
    struct ft_flat rows[FT_BATCH_INPUTS]; /* by input */
    struct ft_flat loss_out;
    void *labels_data, *stats_data, *rng_data;
    struct ft_buckets *buckets;
    struct ft_plan *plan; /* of the last batch */
};

struct ft_step {
    struct lossy model;
    double clip_norm;
    uint64_t seed;
    struct ft_params params;
    struct ft_optim optim;
    ft_value *grad; /* by parameter of the model's graph; FT_NO_VALUE: not trained */
    struct ft_state_update *updates;
    int n_updates;
    struct ft_flat new_states; /* what the states become, copied over them after the step */
    struct ft_one copy_states;
};

struct ft_step_loss {
    struct lossy model;
    const struct ft_params *params;
};

/* ---- graph and plan */

/* What is trained: the whole graph, or what stands behind the frozen part. */
static const struct ft_graph *trained_part(const struct ft_step_spec *spec)
{
    return spec->frontier != NULL && spec->frontier->n > 0 ? spec->frontier->suffix : spec->graph;
}

struct ft_text_limits ft_step_limits(const struct ft_text_inputs *text, const struct ft_step_spec *spec)
{
    int64_t rows = (int64_t)spec->batch;
    int64_t padded = rows * spec->longest;
    return (struct ft_text_limits){.rows = rows,
                                   .tokens = text->packed && spec->tokens < padded ? spec->tokens : padded,
                                   .longest = spec->longest,
                                   .exact_rows = true};
}

static enum ft_status find_inputs(struct lossy *m, const struct ft_step_spec *spec, struct ft_err *err)
{
    struct ft_input input;
    FT_RETURN_IF_FAILED(ft_input_find(spec->graph, &input, err));
    m->rng = ft_input_rng(m->graph);
    m->embedding = ft_graph_output_at(m->graph, 0);
    m->numbers = trained_part(spec) != spec->graph ? spec->frontier->suffix_params : NULL;
    m->text = ft_input_texts(m->graph);
    m->is_text = m->text.seq != FT_NO_VALUE;
    if (m->is_text) {
        m->limits = ft_step_limits(&m->text, spec);
    }
    for (int i = 0; i < ft_graph_inputs(m->graph); i++) {
        ft_value v = ft_graph_input_at(m->graph, i);
        if (v != m->rng && v != m->text.ids && v != m->text.types && v != m->text.seq) {
            assert(m->n_inputs < FT_BATCH_INPUTS);
            m->inputs[m->n_inputs++] = v;
        }
    }
    return FT_OK;
}

static int number_of(const struct lossy *m, int param)
{
    return m->numbers != NULL ? m->numbers[param] : param;
}

static enum ft_status add_loss(struct lossy *m, const struct ft_step_spec *spec, struct ft_err *err)
{
    struct ft_type labels;
    FT_RETURN_IF_FAILED(find_inputs(m, spec, err));
    labels = ft_type_of(FT_I32, 1, (const int64_t[]){1});
    labels.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    FT_RETURN_IF_FAILED(ft_graph_input(m->graph, "", &labels, &m->labels, err));
    struct ft_loss_inputs in = {
        .rows = m->embedding, .all = m->embedding, .row_labels = m->labels, .all_labels = m->labels};
    return ft_loss_build(m->graph, &spec->loss, &in, &m->loss, &m->stats, err);
}

/* Memory for what goes in and comes out. */
static enum ft_status init_memory(struct lossy *m, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_flat_init(&m->loss_out, m->device, 1, err));
    FT_RETURN_IF_FAILED(ft_device_alloc(m->device, m->batch * sizeof(int32_t), &m->labels_data, err));
    FT_RETURN_IF_FAILED(ft_device_alloc(m->device, 4 * sizeof(int64_t), &m->stats_data, err));
    if (m->rng != FT_NO_VALUE) {
        FT_RETURN_IF_FAILED(ft_device_alloc(m->device, 2 * sizeof(int64_t), &m->rng_data, err));
    }
    if (m->is_text) {
        FT_RETURN_IF_FAILED(ft_text_in_init(&m->text_in, m->device, &m->text, &m->limits, err));
    }
    for (int k = 0; k < m->n_inputs; k++) {
        const struct ft_type *input = ft_graph_type(m->graph, m->inputs[k]);
        bool of_tokens = input->dim[0].power[FT_SYMBOL_TOKENS] > 0;
        size_t elements = of_tokens ? (size_t)m->limits.tokens : m->batch;
        for (int i = 1; i < input->rank; i++) {
            elements *= (size_t)ft_extent(input, i);
        }
        FT_RETURN_IF_FAILED(ft_flat_init(&m->rows[k], m->device, elements, err));
    }
    return FT_OK;
}

static enum ft_status bind_model(struct lossy *m, struct ft_plan *plan, struct ft_err *err)
{
    for (int k = 0; k < m->n_inputs; k++) {
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, m->inputs[k], m->rows[k].data, err));
    }
    FT_RETURN_IF_FAILED(m->is_text ? ft_text_in_bind(&m->text_in, plan, err) : FT_OK);
    FT_RETURN_IF_FAILED(m->rng != FT_NO_VALUE ? ft_plan_bind(plan, m->rng, m->rng_data, err) : FT_OK);
    FT_RETURN_IF_FAILED(ft_plan_bind(plan, m->labels, m->labels_data, err));
    FT_RETURN_IF_FAILED(ft_plan_bind(plan, m->loss, m->loss_out.data, err));
    return ft_plan_bind(plan, m->stats, m->stats_data, err);
}

/* Extents of the largest batch; of rows all are like it. */
static void largest(const struct lossy *m, int64_t symbols[FT_MAX_SYMBOLS])
{
    memset(symbols, 0, FT_MAX_SYMBOLS * sizeof *symbols);
    symbols[FT_SYMBOL_BATCH] = (int64_t)m->batch;
    if (m->is_text) {
        ft_text_largest(&m->text, &m->limits, symbols);
    }
}

typedef enum ft_status (*bind_plan)(void *arg, struct ft_plan *plan, struct ft_err *err);
/* wanted: loss and stats first. The plan of the largest batch is made. */
static enum ft_status plan_model(struct lossy *m, const ft_value *wanted, int n_wanted, bind_plan bind,
                                 void *arg, struct ft_err *err)
{
    int64_t symbols[FT_MAX_SYMBOLS];
    largest(m, symbols);
    const struct ft_buckets_spec spec = {.device = m->device,
                                         .graph = m->graph,
                                         .wanted = wanted,
                                         .n_wanted = n_wanted,
                                         .largest = symbols,
                                         .bind = bind,
                                         .arg = arg};
    FT_RETURN_IF_FAILED(init_memory(m, err));
    FT_RETURN_IF_FAILED(ft_buckets_new(&spec, &m->buckets, err));
    return ft_buckets_find(m->buckets, symbols, &m->plan, err);
}

static void release_model(struct lossy *m)
{
    ft_buckets_free(m->buckets);
    ft_text_in_release(&m->text_in);
    for (int i = 0; i < m->n_inputs; i++) {
        ft_flat_release(&m->rows[i]);
    }
    ft_flat_release(&m->loss_out);
    if (m->device != NULL) {
        ft_device_free(m->device, m->labels_data);
        ft_device_free(m->device, m->stats_data);
        ft_device_free(m->device, m->rng_data);
    }
    ft_graph_free(m->graph);
}

/* ---- gradients */

/* Two parameters may share one gradient value (a + b of equal shapes); each gets a value of its own to be
 * written to its own place. */
static enum ft_status make_distinct(struct ft_graph *g, ft_value *grad, int n, struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    for (int i = 0; i < n; i++) {
        bool copy = grad[i] != FT_NO_VALUE && ft_graph_source(g, grad[i]) != FT_FROM_NODE;
        for (int j = 0; j < i && !copy; j++) {
            copy = grad[i] != FT_NO_VALUE && grad[j] == grad[i];
        }
        if (copy) {
            ft_value v = grad[i];
            FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_SCALE, &attrs, &v, 1, "loss/gradient", &grad[i], err));
        }
    }
    return FT_OK;
}

/* grad (params): FT_NO_VALUE for what is not trained. */
static enum ft_status differentiate(struct ft_graph *g, ft_value loss, ft_value *grad, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int n = ft_graph_params(g);
    int n_wrt = 0;
    ft_value *wrt = NULL;
    ft_value *found = NULL;
    FT_TRY(ft_new((size_t)n, sizeof *wrt, &wrt, err));
    FT_TRY(ft_new((size_t)n, sizeof *found, &found, err));
    for (int i = 0; i < n; i++) {
        grad[i] = FT_NO_VALUE;
        if (ft_graph_param_role(g, i) == FT_PARAM_WEIGHT && !ft_graph_param_frozen(g, i)) {
            wrt[n_wrt++] = ft_graph_param_at(g, i);
        }
    }
    if (n_wrt == 0) {
        st = FT_FAIL(err, INVALID, "every layer is frozen: there is nothing to train");
        goto done;
    }
    FT_TRY(ft_graph_backward(g, loss, wrt, n_wrt, found, err));
    FT_TRY(ft_graph_check_trained(g, loss, wrt, n_wrt, found, err));
    FT_TRY(make_distinct(g, found, n_wrt, err));
    for (int i = 0; i < n_wrt; i++) {
        grad[ft_graph_param_of(g, wrt[i])] = found[i];
    }
done:
    ft_free(wrt);
    ft_free(found);
    return st;
}

static enum ft_status bind_all(void *arg, struct ft_plan *plan, struct ft_err *err)
{
    struct ft_step *s = arg;
    struct lossy *m = &s->model;
    FT_RETURN_IF_FAILED(bind_model(m, plan, err));
    FT_RETURN_IF_FAILED(ft_params_bind(&s->params, plan, m->graph, m->numbers, err));
    for (int i = 0; i < ft_graph_params(m->graph); i++) {
        const struct ft_params_slot *slot = &s->params.slots[number_of(m, i)];
        if (slot->group == FT_PARAMS_TRAINED) {
            void *to = ft_flat_at(&s->optim.grads, slot->at);
            FT_RETURN_IF_FAILED(ft_plan_bind(plan, s->grad[i], to, err));
        }
    }
    for (int i = 0; i < s->n_updates; i++) {
        const struct ft_params_slot *slot = &s->params.slots[number_of(m, s->updates[i].param)];
        assert(slot->group == FT_PARAMS_STATES);
        void *to = ft_flat_at(&s->new_states, slot->at);
        FT_RETURN_IF_FAILED(ft_plan_bind(plan, s->updates[i].value, to, err));
    }
    return FT_OK;
}

/* The plan computes loss, stats, gradients of what is trained, new states. ft_free(). */
static enum ft_status list_wanted(const struct ft_step *s, ft_value **wanted, int *n_wanted,
                                  struct ft_err *err)
{
    int params = ft_graph_params(s->model.graph);
    int n = 2;
    FT_RETURN_IF_FAILED(ft_new((size_t)(params + s->n_updates + n), sizeof **wanted, wanted, err));
    (*wanted)[0] = s->model.loss;
    (*wanted)[1] = s->model.stats;
    for (int i = 0; i < params; i++) {
        if (s->grad[i] != FT_NO_VALUE) {
            (*wanted)[n++] = s->grad[i];
        }
    }
    for (int i = 0; i < s->n_updates; i++) {
        (*wanted)[n++] = s->updates[i].value;
    }
    *n_wanted = n;
    return FT_OK;
}

static enum ft_status plan_step(struct ft_step *s, struct ft_err *err)
{
    ft_value *wanted = NULL;
    int n = 0;
    FT_RETURN_IF_FAILED(list_wanted(s, &wanted, &n, err));
    enum ft_status st = plan_model(&s->model, wanted, n, bind_all, s, err);
    ft_free(wanted);
    return st;
}

static enum ft_status init_states(struct ft_step *s, struct ft_err *err)
{
    struct ft_attrs attrs;
    struct ft_flat *states = &s->params.group[FT_PARAMS_STATES];
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    FT_RETURN_IF_FAILED(ft_flat_init(&s->new_states, s->model.device, states->count, err));
    if (states->count == 0) {
        return FT_OK;
    }
    /* States without an update (frozen layers) stay what they are. */
    struct ft_arg from = {states->data, 0};
    struct ft_arg to = {s->new_states.data, 0};
    FT_RETURN_IF_FAILED(
        ft_one_init(&s->copy_states, s->model.device, FT_OP_SCALE, &attrs, &states->count, 1, err));
    FT_RETURN_IF_FAILED(ft_one_run(&s->copy_states, &from, &to, err));
    return ft_device_wait(s->model.device, err);
}

/* The graph of the step, and its gradients by parameter. */
static enum ft_status derive(struct ft_step *s, const struct ft_step_spec *spec, struct ft_err *err)
{
    struct ft_train_form form;
    const struct ft_graph *part = trained_part(spec);
    int n = ft_graph_params(part);
    s->model.device = spec->device;
    s->model.batch = spec->batch;
    s->clip_norm = spec->clip_norm;
    s->seed = spec->seed;
    FT_RETURN_IF_FAILED(ft_new((size_t)n, sizeof *s->grad, &s->grad, err));
    FT_RETURN_IF_FAILED(ft_graph_train_form(part, spec->dropout, &form, err));
    s->model.graph = form.graph;
    s->updates = form.updates;
    s->n_updates = form.n_updates;
    FT_RETURN_IF_FAILED(add_loss(&s->model, spec, err));
    FT_RETURN_IF_FAILED(differentiate(s->model.graph, s->model.loss, s->grad, err));
    for (int i = 0; i < n; i++) {
        if (s->grad[i] != FT_NO_VALUE) {
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "the embedding depends on no weight that is trained");
}

/* The learning rate of the topmost trained layer is whole, each below it has layer_decay times the one above.
 * None without a decay; ft_free(). */
static enum ft_status find_parts(const struct ft_params *params, const struct ft_step_spec *spec,
                                 struct ft_optim_part **parts, size_t *n, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int *depth = NULL;
    int top = 0;
    *n = 0;
    *parts = NULL;
    if (spec->optim.layer_decay == 1) {
        return FT_OK;
    }
    FT_TRY(ft_new((size_t)params->n, sizeof *depth, &depth, err));
    FT_TRY(ft_new((size_t)params->n, sizeof **parts, parts, err));
    if (ft_block_depths(spec->graph, depth) == 0) {
        FT_TRY(FT_FAIL(err, INVALID,
                       "layer_wise_lr_decay: no weight is named after a numbered layer "
                       "(encoder.layer.3.)"));
    }
    for (int i = 0; i < params->n; i++) {
        top = params->slots[i].group == FT_PARAMS_TRAINED && depth[i] > top ? depth[i] : top;
    }
    size_t end = params->group[FT_PARAMS_TRAINED].count;
    for (int i = 0; i < params->n; i++) {
        const struct ft_params_slot *slot = &params->slots[i];
        if (slot->group == FT_PARAMS_TRAINED) {
            (*parts)[*n] = (struct ft_optim_part){.at = slot->at,
                                                  .count = end - slot->at,
                                                  .factor = pow(spec->optim.layer_decay, top - depth[i])};
            bool goes_on = *n > 0 && (*parts)[*n - 1].factor == (*parts)[*n].factor;
            if (*n > 0 && !goes_on) {
                (*parts)[*n - 1].count = slot->at - (*parts)[*n - 1].at;
            }
            *n += !goes_on;
        }
    }
done:
    ft_free(depth);
    if (st != FT_OK) {
        ft_free(*parts);
        *parts = NULL;
    }
    return st;
}

static enum ft_status set_up(struct ft_step *s, const struct ft_step_spec *spec, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    bool *trained = NULL;
    struct ft_optim_part *parts = NULL;
    size_t n_parts = 0;
    FT_TRY(ft_new((size_t)ft_graph_params(spec->graph), sizeof *trained, &trained, err));
    FT_TRY(derive(s, spec, err));
    for (int i = 0; i < ft_graph_params(s->model.graph); i++) {
        trained[number_of(&s->model, i)] = s->grad[i] != FT_NO_VALUE;
    }
    FT_TRY(ft_params_init(&s->params, spec->device, spec->graph, trained, err));
    FT_TRY(find_parts(&s->params, spec, &parts, &n_parts, err));
    FT_TRY(ft_optim_init(&s->optim, &spec->optim, &s->params.group[FT_PARAMS_TRAINED], parts, n_parts, err));
    FT_TRY(init_states(s, err));
    FT_TRY(plan_step(s, err));
done:
    ft_free(parts);
    ft_free(trained);
    return st;
}

enum ft_status ft_step_new(const struct ft_step_spec *spec, struct ft_step **step, struct ft_err *err)
{
    struct ft_step *s = NULL;
    *step = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    enum ft_status st = set_up(s, spec, err);
    if (st != FT_OK) {
        ft_step_free(s);
        return st;
    }
    *step = s;
    return FT_OK;
}

void ft_step_free(struct ft_step *s)
{
    if (s == NULL) {
        return;
    }
    release_model(&s->model);
    ft_one_release(&s->copy_states);
    ft_flat_release(&s->new_states);
    ft_optim_release(&s->optim);
    ft_params_release(&s->params);
    ft_free(s->updates);
    ft_free(s->grad);
    ft_free(s);
}

/* ---- what it takes */

static size_t bytes_of(const struct ft_step_spec *spec, const struct ft_graph *g, int param)
{
    size_t count = (size_t)ft_elements(ft_graph_type(g, ft_graph_param_at(g, param)));
    return count * ft_dtype_size(ft_device_float(spec->device));
}

enum ft_status ft_step_price(const struct ft_step_spec *spec, struct ft_step_cost *cost, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_step *s = NULL;
    struct ft_plan_stats stats;
    ft_value *wanted = NULL;
    int n = 0;
    memset(cost, 0, sizeof *cost);
    FT_TRY(ft_new(1, sizeof *s, &s, err));
    FT_TRY(derive(s, spec, err));
    FT_TRY(list_wanted(s, &wanted, &n, err));
    struct ft_plan_spec plan = {.wanted = wanted, .n_wanted = n};
    largest(&s->model, plan.symbols);
    FT_TRY(ft_plan_price(spec->device, s->model.graph, &plan, &stats, err));
    for (int i = 0; i < ft_graph_params(spec->graph); i++) {
        cost->weights += bytes_of(spec, spec->graph, i);
    }
    size_t bound = 0; /* parameters of the part and gradients, which are counted elsewhere */
    for (int i = 0; i < ft_graph_params(s->model.graph); i++) {
        size_t bytes = bytes_of(spec, s->model.graph, i);
        cost->trained += s->grad[i] != FT_NO_VALUE ? bytes : 0;
        bound += s->grad[i] != FT_NO_VALUE ? 2 * bytes : bytes;
    }
    size_t outside = stats.bound_bytes > bound ? stats.bound_bytes - bound : 0;
    cost->activations = stats.activation_bytes + outside;
    cost->activations += s->model.is_text ? ft_text_in_bytes(&s->model.text, &s->model.limits) : 0;
    cost->packed = stats.packed_bytes;
    cost->scratch = stats.scratch_bytes;
    cost->optimizer = cost->trained * (spec->optim.kind == FT_OPTIM_SGD ? 2 : 3);
done:
    ft_free(wanted);
    ft_step_free(s);
    return st;
}

struct ft_params *ft_step_params(struct ft_step *step)
{
    return &step->params;
}

struct ft_optim *ft_step_optim(struct ft_step *step)
{
    return &step->optim;
}

struct ft_plan *ft_step_plan(struct ft_step *step)
{
    return step->model.plan;
}

/* ---- running */

/* Zeros for `count` numbers from `at` on. */
static enum ft_status put_zeros(struct ft_flat *flat, size_t at, size_t count, struct ft_err *err)
{
    static const float zeros[1024];
    enum { PIECE = sizeof zeros / sizeof *zeros };
    for (; count > 0; at += PIECE) {
        size_t n = count < PIECE ? count : PIECE;
        FT_RETURN_IF_FAILED(ft_flat_put(flat, at, zeros, n, err));
        count -= n;
    }
    return FT_OK;
}

/* A plan's `tokens` are more than the batch has: at filler stand zeros. */
static enum ft_status put_rows(struct lossy *m, const struct ft_batch *batch, int64_t tokens,
                               struct ft_err *err)
{
    assert(batch->n_inputs == m->n_inputs);
    for (int i = 0; i < m->n_inputs; i++) {
        const struct ft_batch_input *in = &batch->input[i];
        size_t given = in->row_elements * (in->of_tokens ? batch->texts.tokens : batch->rows);
        size_t all = in->row_elements * (in->of_tokens ? (size_t)tokens : batch->rows);
        assert(given <= all && all <= m->rows[i].count);
        FT_RETURN_IF_FAILED(ft_flat_put(&m->rows[i], 0, in->data, given, err));
        FT_RETURN_IF_FAILED(put_zeros(&m->rows[i], given, all - given, err));
    }
    return FT_OK;
}

/* And the plan for so many tokens. */
static enum ft_status put_batch(struct lossy *m, const struct ft_batch *batch, struct ft_err *err)
{
    const struct ft_batch_texts *t = &batch->texts;
    int64_t symbols[FT_MAX_SYMBOLS] = {0};
    if (m->is_text) {
        ft_text_symbols(&m->text, &m->limits, (int64_t)batch->rows, (int64_t)t->tokens, (int64_t)t->longest,
                        symbols);
        FT_RETURN_IF_FAILED(ft_buckets_find(m->buckets, symbols, &m->plan, err));
        FT_RETURN_IF_FAILED(ft_text_in_put(&m->text_in, batch, symbols, err));
    }
    return put_rows(m, batch, symbols[FT_SYMBOL_TOKENS], err);
}

static enum ft_status run_model(struct lossy *m, const struct ft_params *params, const struct ft_batch *batch,
                                double *loss, struct ft_err *err)
{
    float value = 0;
    assert(batch->rows == m->batch);
    FT_RETURN_IF_FAILED(put_batch(m, batch, err));
    FT_RETURN_IF_FAILED(
        ft_device_upload(m->device, m->labels_data, batch->labels, m->batch * sizeof(int32_t), err));
    ft_params_show(params, m->plan);
    FT_RETURN_IF_FAILED(ft_plan_run(m->plan, err));
    FT_RETURN_IF_FAILED(ft_device_wait(m->device, err));
    FT_RETURN_IF_FAILED(ft_flat_get(&m->loss_out, 0, &value, 1, err));
    *loss = (double)value;
    return FT_OK;
}

static enum ft_status forward_backward(struct ft_step *s, const struct ft_batch *batch, int64_t t,
                                       struct ft_step_result *r, struct ft_err *err)
{
    struct lossy *m = &s->model;
    if (m->rng_data != NULL) {
        int64_t rng[2] = {(int64_t)s->seed, t};
        FT_RETURN_IF_FAILED(ft_device_upload(m->device, m->rng_data, rng, sizeof rng, err));
    }
    FT_RETURN_IF_FAILED(run_model(m, &s->params, batch, &r->loss, err));
    FT_RETURN_IF_FAILED(ft_device_download(m->device, r->stats, m->stats_data, sizeof r->stats, err));
    return ft_optim_norm(&s->optim, &r->grad_norm, err);
}

/* Without the sign of a NaN, which says nothing. */
static double shown(double x)
{
    return isnan(x) ? fabs(x) : x;
}

static enum ft_status diverged(struct ft_step *s, int64_t t, const struct ft_step_result *r,
                               struct ft_err *err)
{
    char origin[FT_ERR_TEXT];
    FT_RETURN_IF_FAILED(ft_plan_find_nonfinite(s->model.plan, origin, err));
    if (origin[0] != '\0') {
        return FT_FAIL(err, DIVERGED,
                       "step %" PRId64
                       ": loss %g, gradient norm %g; the first value that is not finite comes "
                       "out of %s; a smaller learning rate may help",
                       t, shown(r->loss), shown(r->grad_norm), origin);
    }
    return FT_FAIL(err, DIVERGED,
                   "step %" PRId64 ": loss %g, gradient norm %g: the sum of the squared gradients overflows; "
                   "a smaller learning rate may help",
                   t, shown(r->loss), shown(r->grad_norm));
}

enum ft_status ft_step_gradients(struct ft_step *s, const struct ft_batch *batch,
                                 struct ft_step_result *result, struct ft_err *err)
{
    return forward_backward(s, batch, 1, result, err);
}

enum ft_status ft_step_run(struct ft_step *s, const struct ft_batch *batch, int64_t t, double learning_rate,
                           struct ft_step_result *result, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(forward_backward(s, batch, t, result, err));
    if (!isfinite(result->loss) || !isfinite(result->grad_norm)) {
        return diverged(s, t, result, err);
    }
    double scale = ft_optim_clip(result->grad_norm, s->clip_norm);
    FT_RETURN_IF_FAILED(ft_optim_step(&s->optim, t, learning_rate, scale, err));
    if (s->copy_states.kernel != NULL) {
        struct ft_arg from = {s->new_states.data, 0};
        struct ft_arg to = {s->params.group[FT_PARAMS_STATES].data, 0};
        FT_RETURN_IF_FAILED(ft_one_run(&s->copy_states, &from, &to, err));
    }
    FT_RETURN_IF_FAILED(ft_device_wait(s->model.device, err));
    s->params.version++;
    return FT_OK;
}

/* ---- the loss alone */

static enum ft_status bind_loss(void *arg, struct ft_plan *plan, struct ft_err *err)
{
    struct ft_step_loss *l = arg;
    FT_RETURN_IF_FAILED(bind_model(&l->model, plan, err));
    return ft_params_bind(l->params, plan, l->model.graph, l->model.numbers, err);
}

enum ft_status ft_step_loss_new(const struct ft_step_spec *spec, const struct ft_params *params,
                                struct ft_step_loss **loss, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_step_loss *l = NULL;
    *loss = NULL;
    FT_TRY(ft_new(1, sizeof *l, &l, err));
    l->params = params;
    l->model.device = spec->device;
    l->model.batch = spec->batch;
    FT_TRY(ft_graph_copy(trained_part(spec), &l->model.graph, err));
    FT_TRY(add_loss(&l->model, spec, err));
    const ft_value wanted[2] = {l->model.loss, l->model.stats};
    FT_TRY(plan_model(&l->model, wanted, 2, bind_loss, l, err));
    *loss = l;
    l = NULL;
done:
    ft_step_loss_free(l);
    return st;
}

void ft_step_loss_free(struct ft_step_loss *loss)
{
    if (loss != NULL) {
        release_model(&loss->model);
        ft_free(loss);
    }
}

enum ft_status ft_step_loss_run(struct ft_step_loss *loss, const struct ft_batch *batch, double *value,
                                struct ft_err *err)
{
    return run_model(&loss->model, loss->params, batch, value, err);
}
