#include "executor/train/optim.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/named.h"

enum { HYPER = 8 };

/* ---- options */

/* torch takes betas as a pair. */
static enum ft_status parse_betas(const char *name, const struct ft_json *options, struct ft_optim_spec *spec,
                                  struct ft_err *err)
{
    const struct ft_json *betas = ft_json_get(options, "betas");
    spec->beta1 = 0.9;
    spec->beta2 = 0.999;
    if (ft_json_kind(betas) == FT_JSON_NULL) {
        return FT_OK;
    }
    const struct ft_json *one = ft_json_at(betas, 0);
    const struct ft_json *two = ft_json_at(betas, 1);
    spec->beta1 = ft_json_real(one);
    spec->beta2 = ft_json_real(two);
    if (ft_json_count(betas) != 2 || !ft_json_is_number(one) || !ft_json_is_number(two) || spec->beta1 < 0 ||
        spec->beta1 >= 1 || spec->beta2 < 0 || spec->beta2 >= 1) {
        return FT_FAIL(err, INVALID, "%s: betas must be two numbers of [0, 1)", name);
    }
    return FT_OK;
}

/* What torch has and we do not: only its preset passes. */
static enum ft_status refuse_others(const char *name, const struct ft_json *options, struct ft_err *err)
{
    static const char *const off[] = {"amsgrad", "maximize", "differentiable", "capturable"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        FT_RETURN_IF_FAILED(ft_named_only(name, options, off[i], "false", err));
    }
    if (ft_json_get(options, "lr") != NULL) {
        return FT_FAIL(err, INVALID, "%s: the learning rate is the option learning_rate, not lr", name);
    }
    return FT_OK;
}

static enum ft_status parse_sgd(const char *name, const struct ft_json *o, struct ft_optim_spec *spec,
                                struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_named_check(
        name, o,
        "momentum dampening weight_decay nesterov layer_wise_lr_decay lr maximize differentiable "
        "foreach fused",
        err));
    FT_RETURN_IF_FAILED(ft_named_real(name, o, "momentum", 0, 1, &spec->momentum, err));
    FT_RETURN_IF_FAILED(ft_named_real(name, o, "dampening", 0, 1, &spec->dampening, err));
    FT_RETURN_IF_FAILED(ft_named_bool(name, o, "nesterov", &spec->nesterov, err));
    if (spec->nesterov && (spec->momentum <= 0 || spec->dampening > 0)) {
        return FT_FAIL(err, INVALID, "SGD: nesterov needs a momentum and no dampening");
    }
    return FT_OK;
}

static enum ft_status parse_adam(const char *name, const struct ft_json *o, struct ft_optim_spec *spec,
                                 struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_named_check(
        name, o,
        "betas eps weight_decay layer_wise_lr_decay amsgrad lr maximize differentiable capturable "
        "foreach fused",
        err));
    spec->eps = 1e-8;
    spec->weight_decay = spec->kind == FT_OPTIM_ADAMW ? 1e-2 : 0;
    FT_RETURN_IF_FAILED(parse_betas(name, o, spec, err));
    return ft_named_real(name, o, "eps", 0, 1, &spec->eps, err);
}

enum ft_status ft_optim_parse(const char *name, const struct ft_json *options, struct ft_optim_spec *spec,
                              struct ft_err *err)
{
    int kind = ft_named_index("SGD Adam AdamW", name);
    memset(spec, 0, sizeof *spec);
    if (kind < 0) {
        return FT_FAIL(err, INVALID, "there is no optimizer \"%s\"; known: SGD Adam AdamW", name);
    }
    spec->kind = (enum ft_optim_kind)kind;
    FT_RETURN_IF_FAILED(kind == 0 ? parse_sgd(name, options, spec, err)
                                  : parse_adam(name, options, spec, err));
    FT_RETURN_IF_FAILED(refuse_others(name, options, err));
    spec->layer_decay = 1;
    FT_RETURN_IF_FAILED(ft_named_real(name, options, "layer_wise_lr_decay", 0, 1, &spec->layer_decay, err));
    return ft_named_real(name, options, "weight_decay", 0, 1e6, &spec->weight_decay, err);
}

/* ---- schedules */

enum ft_status ft_schedule_parse(const char *name, const struct ft_json *options, struct ft_schedule *s,
                                 struct ft_err *err)
{
    int kind = ft_named_index("constant constant_with_warmup linear cosine", name);
    int by = 0;
    memset(s, 0, sizeof *s);
    s->cycles = 0.5;
    if (kind < 0) {
        return FT_FAIL(err, INVALID,
                       "there is no scheduler \"%s\"; known: constant constant_with_warmup linear cosine",
                       name);
    }
    s->kind = (enum ft_schedule_kind)kind;
    FT_RETURN_IF_FAILED(
        ft_named_check(name, options, "num_warmup_steps num_training_steps scheduler_step num_cycles", err));
    FT_RETURN_IF_FAILED(ft_named_int(name, options, "num_warmup_steps", 0, INT32_MAX, &s->warmup, err));
    FT_RETURN_IF_FAILED(ft_named_choice(name, options, "scheduler_step", "batch epoch", &by, err));
    FT_RETURN_IF_FAILED(ft_named_real(name, options, "num_cycles", 0, 1000, &s->cycles, err));
    s->by_epoch = by == 1;
    const char *text = ft_json_text(ft_json_get(options, "num_training_steps"), NULL);
    if (text != NULL && strcmp(text, "auto") == 0) {
        return FT_OK;
    }
    return ft_named_int(name, options, "num_training_steps", 1, INT32_MAX, &s->total, err);
}

double ft_schedule_factor(const struct ft_schedule *s, int64_t t)
{
    static const double pi = 3.14159265358979323846;
    double step = (double)t;
    double warmup = (double)s->warmup;
    double rest = s->total - s->warmup > 1 ? (double)(s->total - s->warmup) : 1.0;
    if (s->kind == FT_SCHEDULE_CONSTANT) {
        return 1.0;
    }
    if (t < s->warmup) {
        return step / (warmup > 1.0 ? warmup : 1.0);
    }
    if (s->kind == FT_SCHEDULE_LINEAR) {
        return fmax(0.0, ((double)s->total - step) / rest);
    }
    if (s->kind == FT_SCHEDULE_COSINE) {
        return fmax(0.0, 0.5 * (1.0 + cos(pi * s->cycles * 2.0 * ((step - warmup) / rest))));
    }
    return 1.0;
}

double ft_optim_clip(double norm, double max_norm)
{
    double coefficient = max_norm / (norm + 1e-6);
    return max_norm > 0 && coefficient < 1.0 ? coefficient : 1.0;
}

/* ---- steps */

static enum ft_status init_step(const struct ft_optim *o, struct ft_optim_part *part, struct ft_err *err)
{
    struct ft_attrs attrs;
    struct ft_device *device = o->weights->device;
    size_t n = part->count;
    size_t extents[5] = {n, n, n, HYPER, 0};
    memset(&attrs, 0, sizeof attrs);
    if (o->spec.kind == FT_OPTIM_SGD) {
        attrs.kind = o->spec.nesterov;
        return ft_one_init(&part->step, device, FT_OP_SGD_STEP, &attrs, extents, 4, err);
    }
    attrs.kind = o->spec.kind == FT_OPTIM_ADAMW;
    extents[3] = n;
    extents[4] = HYPER;
    return ft_one_init(&part->step, device, FT_OP_ADAM_STEP, &attrs, extents, 5, err);
}

static enum ft_status init_parts(struct ft_optim *o, const struct ft_optim_part *parts, size_t n_parts,
                                 struct ft_err *err)
{
    const struct ft_optim_part all = {.count = o->weights->count, .factor = 1};
    const struct ft_optim_part *from = n_parts > 0 ? parts : &all;
    size_t at = 0;
    size_t n = n_parts > 0 ? n_parts : 1;
    FT_RETURN_IF_FAILED(ft_new(n, sizeof *o->parts, &o->parts, err));
    FT_RETURN_IF_FAILED(ft_flat_init(&o->hyper, o->weights->device, n * HYPER, err));
    for (; o->n_parts < n; o->n_parts++) {
        struct ft_optim_part *part = &o->parts[o->n_parts];
        *part = from[o->n_parts];
        assert(part->at == at);
        at += part->count;
        FT_RETURN_IF_FAILED(init_step(o, part, err));
    }
    assert(at == o->weights->count);
    return FT_OK;
}

enum ft_status ft_optim_init(struct ft_optim *o, const struct ft_optim_spec *spec, struct ft_flat *weights,
                             const struct ft_optim_part *parts, size_t n_parts, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_attrs attrs;
    memset(o, 0, sizeof *o);
    o->spec = *spec;
    o->weights = weights;
    struct ft_device *device = weights->device;
    FT_TRY(ft_flat_init(&o->grads, device, weights->count, err));
    FT_TRY(ft_flat_init(&o->first, device, weights->count, err));
    FT_TRY(ft_flat_init(&o->second, device, spec->kind == FT_OPTIM_SGD ? 0 : weights->count, err));
    FT_TRY(ft_flat_init(&o->norm, device, 1, err));
    memset(&attrs, 0, sizeof attrs);
    FT_TRY(ft_one_init(&o->sum_squares, device, FT_OP_SUM_SQUARES, &attrs, &weights->count, 1, err));
    FT_TRY(init_parts(o, parts, n_parts, err));
done:
    if (st != FT_OK) {
        ft_optim_release(o);
    }
    return st;
}

void ft_optim_release(struct ft_optim *o)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        ft_one_release(&o->parts[i].step);
    }
    ft_free(o->parts);
    ft_one_release(&o->sum_squares);
    ft_flat_release(&o->grads);
    ft_flat_release(&o->first);
    ft_flat_release(&o->second);
    ft_flat_release(&o->hyper);
    ft_flat_release(&o->norm);
    memset(o, 0, sizeof *o);
}

enum ft_status ft_optim_norm(struct ft_optim *o, double *norm, struct ft_err *err)
{
    struct ft_arg in = {o->grads.data, 0};
    struct ft_arg out = {o->norm.data, 0};
    float sum = 0;
    FT_RETURN_IF_FAILED(ft_one_run(&o->sum_squares, &in, &out, err));
    FT_RETURN_IF_FAILED(ft_device_wait(o->weights->device, err));
    FT_RETURN_IF_FAILED(ft_flat_get(&o->norm, 0, &sum, 1, err));
    *norm = sqrt((double)sum);
    return FT_OK;
}

static enum ft_status run_part(struct ft_optim *o, size_t number, float *hyper, double learning_rate,
                               struct ft_err *err)
{
    bool sgd = o->spec.kind == FT_OPTIM_SGD;
    struct ft_optim_part *part = &o->parts[number];
    size_t at = part->at;
    hyper[0] = (float)(learning_rate * part->factor);
    FT_RETURN_IF_FAILED(ft_flat_put(&o->hyper, number * HYPER, hyper, HYPER, err));
    void *weights = ft_flat_at(o->weights, at);
    void *first = ft_flat_at(&o->first, at);
    void *second = sgd ? NULL : ft_flat_at(&o->second, at);
    void *numbers = ft_flat_at(&o->hyper, number * HYPER);
    const struct ft_arg in[5] = {{weights, 0},
                                 {ft_flat_at(&o->grads, at), 0},
                                 {first, 0},
                                 {sgd ? numbers : second, 0},
                                 {sgd ? NULL : numbers, 0}};
    const struct ft_arg out[3] = {{weights, 0}, {first, 0}, {second, 0}};
    return ft_one_run(&part->step, in, out, err);
}

enum ft_status ft_optim_step(struct ft_optim *o, int64_t t, double learning_rate, double scale,
                             struct ft_err *err)
{
    const struct ft_optim_spec *s = &o->spec;
    bool sgd = s->kind == FT_OPTIM_SGD;
    /* The corrections are of the betas as the kernel sees them: 1 - 0.999 in float is off by 1e-5 of itself,
     * and the quotient must not be. */
    double beta1 = (double)(float)s->beta1;
    double beta2 = (double)(float)s->beta2;
    float hyper[HYPER] = {
        0.0F, /* the learning rate of each part */
        (float)(sgd ? s->momentum : s->beta1),
        (float)(sgd ? s->dampening : s->beta2),
        (float)s->eps,
        (float)s->weight_decay,
        sgd ? (t > 1 ? 1.0F : 0.0F) : (float)(1.0 - pow(beta1, (double)t)),
        sgd ? 0.0F : (float)(1.0 - pow(beta2, (double)t)),
        (float)scale,
    };
    for (size_t i = 0; i < o->n_parts; i++) {
        FT_RETURN_IF_FAILED(run_part(o, i, hyper, learning_rate, err));
    }
    return FT_OK;
}
