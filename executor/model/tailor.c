#include "executor/model/tailor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"
#include "executor/model/freeze.h"
#include "executor/model/head.h"
#include "executor/model/text_pool.h"

/* ---- adding to the graph */

struct adding {
    enum ft_op op;
    const struct ft_attrs *attrs;
    const char *origin;
};

static enum ft_status add(struct ft_graph *g, struct adding what, const ft_value *in, int n_in, ft_value *out,
                          struct ft_err *err)
{
    ft_value results[FT_MAX_OUTPUTS];
    enum ft_status st = ft_graph_add(g, what.op, what.attrs, in, n_in, what.origin, results, err);
    *out = results[0];
    return st;
}

/* A parameter with `count` elements, all `value`, or uniform in +-bound when bound > 0. */
struct fill {
    float value;
    float bound;
    uint64_t seed;
};

enum { PARAM_MAX = 1 << 28 }; /* elements of a new parameter: 1 GiB */

static enum ft_status check_param(const char *name, const struct ft_type *type, struct ft_err *err)
{
    char text[FT_TYPE_TEXT];
    int64_t count = 1;
    for (int i = 0; i < type->rank; i++) {
        if (__builtin_mul_overflow(count, ft_extent(type, i), &count) || count > PARAM_MAX) {
            return FT_FAIL(err, LIMIT, "%s would be %s; %d elements are the limit", name,
                           ft_type_text(type, text), PARAM_MAX);
        }
    }
    return FT_OK;
}

static enum ft_status add_param(struct ft_graph *g, const char *name, const struct ft_type *type,
                                enum ft_param_role role, const struct fill *fill, ft_value *out,
                                struct ft_err *err)
{
    float *data = NULL;
    FT_RETURN_IF_FAILED(check_param(name, type, err));
    size_t n = (size_t)ft_elements(type);
    struct ft_rand r = ft_rand_at(fill->seed, FT_RAND_INIT, (uint64_t)ft_graph_params(g));
    enum ft_status st = FT_OK;
    FT_TRY(ft_new(n, sizeof *data, &data, err));
    for (size_t i = 0; i < n; i++) {
        data[i] = fill->bound > 0.0F ? (2.0F * ft_rand_float(r, i) - 1.0F) * fill->bound : fill->value;
    }
    FT_TRY(ft_graph_param(g, name, type, role, data, out, err));
done:
    ft_free(data);
    return st;
}

/* "stem", or "stem_2", ... such that `stem.suffix` is free: an artifact may be tailored again. */
enum { STEM = 64 };
static void free_stem(const struct ft_graph *g, const char *stem, const char *suffix, char out[STEM])
{
    char name[2 * STEM];
    (void)snprintf(out, STEM, "%s", stem);
    for (int k = 2;; k++) {
        (void)snprintf(name, sizeof name, "%s.%s", out, suffix);
        if (ft_graph_find(g, name) == FT_NO_VALUE) {
            return;
        }
        (void)snprintf(out, STEM, "%s_%d", stem, k);
    }
}

/* ---- pooling: (N, C, S...) -> (N, C) */

static enum ft_status add_mean(struct ft_graph *g, ft_value x, const char *origin, ft_value *out,
                               struct ft_err *err)
{
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    for (int i = 2; i < ft_graph_type(g, x)->rank; i++) {
        attrs.axes[attrs.axes_count++] = i;
    }
    return add(g, (struct adding){FT_OP_REDUCE_MEAN, &attrs, origin}, &x, 1, out, err);
}

/* mean(max(x, eps)^p)^(1/p), p trained. */
static enum ft_status add_gem(struct ft_graph *g, const struct ft_tailor_options *o, ft_value x,
                              ft_value *out, struct ft_err *err)
{
    char stem[STEM];
    char name[2 * STEM];
    struct ft_attrs clip;
    const int64_t one_dim[1] = {1};
    const float one = 1.0F;
    struct ft_type type = ft_type_of(FT_F32, 1, one_dim);
    const struct fill fill = {.value = o->gem_p > 0.0F ? o->gem_p : 3.0F};
    ft_value pair[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value p = FT_NO_VALUE;
    ft_value inverse[2] = {FT_NO_VALUE, FT_NO_VALUE};
    memset(&clip, 0, sizeof clip);
    clip.lo = o->gem_eps > 0.0F ? o->gem_eps : 1e-6F;
    clip.hi = INFINITY;
    free_stem(g, "gem", "p", stem);
    (void)snprintf(name, sizeof name, "%s.p", stem);
    FT_RETURN_IF_FAILED(add_param(g, name, &type, FT_PARAM_WEIGHT, &fill, &p, err));
    FT_RETURN_IF_FAILED(add(g, (struct adding){FT_OP_CLIP, &clip, "gem/clip"}, &x, 1, &pair[0], err));
    pair[1] = p;
    FT_RETURN_IF_FAILED(add(g, (struct adding){FT_OP_POW, NULL, "gem/pow"}, pair, 2, &pair[0], err));
    FT_RETURN_IF_FAILED(add_mean(g, pair[0], "gem/mean", &pair[0], err));
    FT_RETURN_IF_FAILED(ft_graph_const(g, "", &type, &one, &inverse[0], err));
    inverse[1] = p;
    FT_RETURN_IF_FAILED(add(g, (struct adding){FT_OP_DIV, NULL, "gem/inverse"}, inverse, 2, &pair[1], err));
    return add(g, (struct adding){FT_OP_POW, NULL, "gem/root"}, pair, 2, out, err);
}

static enum ft_status flatten(struct ft_graph *g, ft_value x, ft_value *out, struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(g, x);
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.shape_rank = 2;
    attrs.shape[0] = t->dim[0];
    attrs.shape[1] = ft_dim_of(1);
    for (int i = 1; i < t->rank; i++) {
        if (!ft_dim_mul(attrs.shape[1], t->dim[i], &attrs.shape[1])) {
            return FT_FAIL(err, LIMIT, "the embedding is too large");
        }
    }
    return add(g, (struct adding){FT_OP_RESHAPE, &attrs, "flatten"}, &x, 1, out, err);
}

static bool all_ones_from(const struct ft_type *t, int axis)
{
    for (int i = axis; i < t->rank; i++) {
        if (!ft_dim_is_one(t->dim[i])) {
            return false;
        }
    }
    return true;
}

/* A spatial map becomes a vector: by the pooler asked for, the mean by default. */
static enum ft_status add_pooling(struct ft_graph *g, const struct ft_tailor_options *o, ft_value *v,
                                  struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(g, *v);
    if (t->rank <= 2) {
        return FT_OK;
    }
    if (ft_is_token_map(t)) {
        return ft_add_text_pooling(g, o, v, err);
    }
    if (o->pooler == FT_POOLER_GEM) {
        return add_gem(g, o, *v, v, err);
    }
    return all_ones_from(t, 2) ? flatten(g, *v, v, err) : add_mean(g, *v, "pool", v, err);
}

/* ---- projection head: [Linear, BatchNorm, ReLU] x (layers - 1), Linear, BatchNorm (finetuner/SPEC A.1) */

static enum ft_status add_linear(struct ft_graph *g, const char *stem, int number, int64_t width,
                                 uint64_t seed, ft_value *v, struct ft_err *err)
{
    char name[2 * STEM];
    char origin[2 * STEM];
    struct ft_attrs attrs;
    int64_t in = ft_graph_type(g, *v)->dim[1].coef;
    const int64_t dims[2] = {width, in};
    struct ft_type type = ft_type_of(FT_F32, 2, dims);
    const struct fill fill = {.bound = 1.0F / sqrtf((float)in), .seed = seed};
    ft_value pair[2] = {*v, FT_NO_VALUE};
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    attrs.trans_b = 1;
    (void)snprintf(name, sizeof name, "%s.%d.weight", stem, number);
    (void)snprintf(origin, sizeof origin, "%s.%d", stem, number);
    FT_RETURN_IF_FAILED(add_param(g, name, &type, FT_PARAM_WEIGHT, &fill, &pair[1], err));
    return add(g, (struct adding){FT_OP_MATMUL, &attrs, origin}, pair, 2, v, err);
}

static enum ft_status add_batchnorm(struct ft_graph *g, const char *stem, int number, ft_value *v,
                                    struct ft_err *err)
{
    static const struct {
        const char *name;
        enum ft_param_role role;
        float value;
    } vectors[4] = {{"weight", FT_PARAM_WEIGHT, 1.0F},
                    {"bias", FT_PARAM_WEIGHT, 0.0F},
                    {"running_mean", FT_PARAM_STATE, 0.0F},
                    {"running_var", FT_PARAM_STATE, 1.0F}};
    char name[2 * STEM];
    struct ft_attrs attrs;
    const int64_t dims[1] = {ft_graph_type(g, *v)->dim[1].coef};
    struct ft_type type = ft_type_of(FT_F32, 1, dims);
    ft_value in[5] = {*v};
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = 1e-5F;
    attrs.momentum = 0.1F;
    for (int i = 0; i < 4; i++) {
        const struct fill fill = {.value = vectors[i].value};
        (void)snprintf(name, sizeof name, "%s.%d.%s", stem, number, vectors[i].name);
        FT_RETURN_IF_FAILED(add_param(g, name, &type, vectors[i].role, &fill, &in[i + 1], err));
    }
    (void)snprintf(name, sizeof name, "%s.%d", stem, number);
    return add(g, (struct adding){FT_OP_BATCHNORM, &attrs, name}, in, 5, v, err);
}

static enum ft_status add_projection(struct ft_graph *g, const struct ft_tailor_options *o, ft_value *v,
                                     struct ft_err *err)
{
    char stem[STEM];
    char origin[2 * STEM];
    int layers = o->projection_layers > 0 ? o->projection_layers : 2;
    int number = 0;
    int64_t width = ft_graph_type(g, *v)->dim[1].coef;
    free_stem(g, "projection_head.head_layers", "0.weight", stem);
    for (int i = 0; i + 1 < layers; i++) {
        FT_RETURN_IF_FAILED(add_linear(g, stem, number++, width, o->seed, v, err));
        FT_RETURN_IF_FAILED(add_batchnorm(g, stem, number++, v, err));
        (void)snprintf(origin, sizeof origin, "%s.%d", stem, number++);
        FT_RETURN_IF_FAILED(add(g, (struct adding){FT_OP_RELU, NULL, origin}, v, 1, v, err));
    }
    FT_RETURN_IF_FAILED(add_linear(g, stem, number++, o->output_dim, o->seed, v, err));
    return add_batchnorm(g, stem, number, v, err);
}

static enum ft_status add_normalize(struct ft_graph *g, ft_value *v, struct ft_err *err)
{
    struct ft_attrs attrs;
    int producer = ft_graph_producer(g, *v);
    if (producer >= 0 && ft_graph_node(g, producer)->op == FT_OP_L2_NORMALIZE) {
        return FT_OK; /* an artifact that does it already */
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = 1e-12F; /* torch.nn.functional.normalize */
    return add(g, (struct adding){FT_OP_L2_NORMALIZE, &attrs, "normalize"}, v, 1, v, err);
}

/* ---- all of it */

enum ft_status ft_pooler_find(const char *name, enum ft_pooler *pooler, struct ft_err *err)
{
    static const struct {
        const char *name;
        enum ft_pooler pooler;
    } names[] = {{"default", FT_POOLER_DEFAULT}, {"avg", FT_POOLER_AVG},
                 {"mean", FT_POOLER_AVG},        {"GeM", FT_POOLER_GEM},
                 {"max", FT_POOLER_MAX},         {"cls", FT_POOLER_CLS},
                 {"last", FT_POOLER_LAST},       {"weighted_mean", FT_POOLER_WEIGHTED_MEAN}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *pooler = names[i].pooler;
            return FT_OK;
        }
    }
    return FT_FAIL(err, INVALID, "there is no pooler \"%.100s\": " FT_POOLER_NAMES, name);
}

static enum ft_status check_options(const struct ft_tailor_options *o, struct ft_err *err)
{
    if (o->output_dim < 0 || o->output_dim > 1 << 20) {
        return FT_FAIL(err, USAGE, "output dim %lld: 1 to 1048576", (long long)o->output_dim);
    }
    if (o->projection_layers < 0 || o->projection_layers > 16) {
        return FT_FAIL(err, USAGE, "%d projection layers: 1 to 16", o->projection_layers);
    }
    if (!(o->gem_p >= 0.0F) || isinf(o->gem_p) || !(o->gem_eps >= 0.0F) || isinf(o->gem_eps)) {
        return FT_FAIL(err, USAGE, "GeM's p and eps are positive numbers");
    }
    return FT_OK;
}

static enum ft_status choose_tokens(const struct ft_graph *g, ft_value *at, bool *normalized,
                                    struct ft_err *err)
{
    ft_value map = ft_token_map(g, *at, normalized);
    if (map == FT_NO_VALUE) {
        return FT_FAIL(err, INVALID,
                       "a pooler is asked for, but the model has layers behind its own pooling; --cut its "
                       "last row of tokens to lose them");
    }
    *at = map;
    return FT_OK;
}

/* A pooler that is asked for replaces the model's own pooling right before the embedding. */
static enum ft_status choose_map(const struct ft_graph *g, const struct ft_tailor_options *o, ft_value *at,
                                 bool *normalized, struct ft_err *err)
{
    if (o->pooler == FT_POOLER_DEFAULT) {
        return FT_OK;
    }
    if (ft_graph_reads_texts(g)) {
        return choose_tokens(g, at, normalized, err);
    }
    if (o->pooler > FT_POOLER_GEM) {
        return FT_FAIL(err, INVALID, "this pooler is for texts; models of other things take avg or GeM");
    }
    ft_value map = ft_pooled_map(g, *at);
    if (map == FT_NO_VALUE) {
        return FT_FAIL(err, INVALID,
                       "a pooler is asked for, but the embedding is not made from a spatial map");
    }
    *at = map;
    return FT_OK;
}

static enum ft_status check_embedding(const struct ft_graph *g, ft_value v, struct ft_err *err)
{
    const struct ft_type *t = ft_graph_type(g, v);
    char text[FT_TYPE_TEXT];
    if (t->dtype != FT_F32 || t->rank < 2) {
        return FT_FAIL(err, INVALID,
                       "the embedding would be %s, wanted (N, D); choose another layer with --cut",
                       ft_type_text(t, text));
    }
    if (ft_graph_inputs(g) == 0) {
        return FT_FAIL(err, INVALID, "the model reads no input: there is nothing to embed");
    }
    if (ft_dim_is_known(t->dim[0])) {
        return FT_FAIL(err, UNSUPPORTED,
                       "the model works on a fixed batch of %lld: export it with a dynamic batch axis",
                       (long long)t->dim[0].coef);
    }
    if (!ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_BATCH))) {
        return FT_FAIL(err, INVALID, "the embedding would be %s: its first axis is not the batch",
                       ft_type_text(t, text));
    }
    for (int i = ft_is_token_map(t) ? 2 : 1; i < t->rank; i++) {
        if (!ft_dim_is_known(t->dim[i])) {
            return FT_FAIL(err, INVALID, "the embedding would be %s: its width depends on the batch",
                           ft_type_text(t, text));
        }
    }
    return FT_OK;
}

static enum ft_status build(const struct ft_graph *g, const struct ft_tailor_options *o, ft_value at,
                            bool normalize, struct ft_graph **out, struct ft_err *err)
{
    static const char *const names[1] = {"embedding"};
    struct ft_graph *t = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_graph_extract(g, &at, names, 1, &t, err));
    ft_value v = ft_graph_output_at(t, 0);
    FT_TRY(add_pooling(t, o, &v, err));
    if (o->output_dim > 0) {
        FT_TRY(add_projection(t, o, &v, err));
    }
    if (normalize) {
        FT_TRY(add_normalize(t, &v, err));
    }
    ft_graph_clear_outputs(t);
    FT_TRY(ft_graph_output(t, v, names[0], err));
    *out = t;
    t = NULL;
done:
    ft_graph_free(t);
    return st;
}

enum ft_status ft_tailor(const struct ft_model *model, const struct ft_tailor_options *options,
                         struct ft_graph **tailored, struct ft_tailor_report *report, struct ft_err *err)
{
    struct ft_arena arena = {0};
    struct ft_graph *t = NULL;
    struct ft_cut cut;
    bool normalized = false; /* behind a pooling that is replaced */
    enum ft_status st = FT_OK;
    *tailored = NULL;
    if (report != NULL) {
        *report = (struct ft_tailor_report){0};
    }
    FT_TRY(check_options(options, err));
    FT_TRY(ft_cut_find(model, options, &arena, &cut, err));
    ft_value at = cut.at;
    FT_TRY(choose_map(model->graph, options, &at, &normalized, err));
    FT_TRY(check_embedding(model->graph, at, err));
    FT_TRY(build(model->graph, options, at, options->normalize || normalized, &t, err));
    FT_TRY(ft_freeze(model->graph, at, options, t, err));
    if (report != NULL) {
        FT_TRY(ft_tailor_describe(model->graph, at, &cut, t, report, err));
    }
    *tailored = t;
    t = NULL;
done:
    ft_graph_free(t);
    ft_arena_release(&arena);
    return st;
}
