#include "executor/model/hf_tail.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/text_pool.h"

enum { AFFINE = 4 }; /* ADD and BATCHNORM between a product and its function */

static const struct ft_node *node_of(const struct ft_graph *g, ft_value v)
{
    int n = ft_graph_producer(g, v);
    return n >= 0 ? ft_graph_node(g, n) : NULL;
}

static int64_t width_of(const struct ft_graph *g, ft_value v)
{
    const struct ft_type *t = ft_graph_type(g, v);
    return t->dim[t->rank - 1].coef;
}

static bool is_param(const struct ft_graph *g, ft_value v, int rank)
{
    return ft_graph_source(g, v) == FT_FROM_PARAM && ft_graph_type(g, v)->rank == rank;
}

/* ---- Pooling */

static bool add_mode(const struct ft_graph *g, ft_value v, struct ft_hf_step *step, int *last,
                     ft_value *tokens)
{
    const struct ft_node *node = node_of(g, v);
    if (node == NULL || node->op != FT_OP_SEQ_POOL ||
        strcmp(ft_graph_name(g, node->in[1]), "attention_mask") != 0) {
        return false;
    }
    int mode = 0;
    while (mode < FT_HF_MODES && (int)ft_hf_modes[mode].kind != node->attrs.kind) {
        mode++;
    }
    if (mode == FT_HF_MODES || mode <= *last || (*last >= 0 && *tokens != node->in[0])) {
        return false; /* files say which modes, not in which order */
    }
    *last = mode;
    *tokens = node->in[0];
    step->modes[mode] = true;
    return true;
}

static bool read_pooling(const struct ft_graph *g, const struct ft_node *node, struct ft_hf_step *step,
                         ft_value *v)
{
    int last = -1;
    ft_value tokens = FT_NO_VALUE;
    bool fits = true;
    if (node->op == FT_OP_SEQ_POOL) {
        fits = add_mode(g, *v, step, &last, &tokens);
    }
    for (int i = 0; fits && node->op == FT_OP_CONCAT && i < node->n_in; i++) {
        fits = add_mode(g, node->in[i], step, &last, &tokens);
    }
    if (fits) {
        *v = tokens;
    }
    return fits;
}

/* ---- Dense: a product, what is added and scaled, a function; found from behind */

struct dense {
    const struct ft_node *product;
    const struct ft_node *affine[AFFINE]; /* last one first */
    int n;
};

static bool is_product(const struct ft_graph *g, const struct ft_node *node)
{
    return node != NULL && node->op == FT_OP_MATMUL && node->attrs.act == FT_ACT_NONE &&
           !node->attrs.residual && !node->attrs.trans_a && is_param(g, node->in[1], 2) &&
           (node->n_in < 3 || is_param(g, node->in[2], 1));
}

/* The operand that goes on, or FT_NO_VALUE. */
static ft_value through_affine(const struct ft_graph *g, const struct ft_node *node)
{
    if (node != NULL && node->op == FT_OP_BATCHNORM) {
        return node->in[0];
    }
    if (node != NULL && node->op == FT_OP_ADD) {
        return is_param(g, node->in[1], 1)   ? node->in[0]
               : is_param(g, node->in[0], 1) ? node->in[1]
                                             : FT_NO_VALUE;
    }
    return FT_NO_VALUE;
}

static bool find_dense(const struct ft_graph *g, ft_value v, struct dense *d, const char **function)
{
    const struct ft_node *node = node_of(g, v);
    const char *name = node != NULL ? ft_hf_torch_function(node) : NULL;
    *function = name != NULL ? name : "linear.Identity";
    node = name != NULL ? node_of(g, node->in[0]) : node;
    d->n = 0;
    while (!is_product(g, node)) {
        ft_value next = through_affine(g, node);
        if (next == FT_NO_VALUE || d->n == AFFINE) {
            return false;
        }
        d->affine[d->n++] = node;
        node = node_of(g, next);
    }
    d->product = node;
    return true;
}

/* y = scale (x - mean) / sqrt(var + eps) + bias of each row, in double. */
static void fold_batchnorm(const struct ft_graph *g, const struct ft_node *node, struct ft_hf_step *step)
{
    const float *vectors[4];
    for (int i = 0; i < 4; i++) {
        vectors[i] = ft_graph_data(g, node->in[i + 1]);
    }
    for (int64_t i = 0; i < step->out; i++) {
        double scale = (double)vectors[0][i] / sqrt((double)vectors[3][i] + (double)node->attrs.eps);
        for (int64_t j = 0; j < step->in; j++) {
            step->weight[i * step->in + j] = (float)((double)step->weight[i * step->in + j] * scale);
        }
        step->bias[i] =
            (float)(((double)step->bias[i] - (double)vectors[2][i]) * scale + (double)vectors[1][i]);
    }
}

static void add_bias(const struct ft_graph *g, ft_value v, struct ft_hf_step *step)
{
    const float *bias = ft_graph_data(g, v);
    for (int64_t i = 0; i < step->out; i++) {
        step->bias[i] += bias[width_of(g, v) == 1 ? 0 : i];
    }
}

static enum ft_status take_dense(const struct ft_graph *g, const struct dense *d, struct ft_hf_step *step,
                                 struct ft_err *err)
{
    const struct ft_node *p = d->product;
    const float *w = ft_graph_data(g, p->in[1]);
    step->in = width_of(g, p->in[0]);
    step->out = width_of(g, p->out[0]);
    FT_RETURN_IF_FAILED(ft_new((size_t)(step->in * step->out), sizeof *step->weight, &step->weight, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)step->out, sizeof *step->bias, &step->bias, err));
    for (int64_t i = 0; i < step->out; i++) {
        for (int64_t j = 0; j < step->in; j++) {
            step->weight[i * step->in + j] =
                p->attrs.alpha * (p->attrs.trans_b ? w[i * step->in + j] : w[j * step->out + i]);
        }
    }
    if (p->n_in > 2) {
        add_bias(g, p->in[2], step);
    }
    for (int i = d->n - 1; i >= 0; i--) {
        const struct ft_node *node = d->affine[i];
        if (node->op == FT_OP_BATCHNORM) {
            fold_batchnorm(g, node, step);
        } else {
            add_bias(g, is_param(g, node->in[1], 1) ? node->in[1] : node->in[0], step);
        }
    }
    return FT_OK;
}

/* ---- all of it */

static enum ft_status not_sayable(const struct ft_node *node, char why[FT_ERR_TEXT])
{
    if (node == NULL) {
        (void)snprintf(why, FT_ERR_TEXT, "its embedding is not made of rows of tokens");
        return FT_OK;
    }
    (void)snprintf(why, FT_ERR_TEXT, "sentence-transformers has no module for %s%s%.200s%s behind the tokens",
                   ft_op_info(node->op)->name, node->origin[0] != '\0' ? " (" : "", node->origin,
                   node->origin[0] != '\0' ? ")" : "");
    return FT_OK;
}

/* One step back from *v; *step is filled. */
static enum ft_status read_step(const struct ft_graph *g, ft_value *v, struct ft_hf_step *step,
                                char why[FT_ERR_TEXT], struct ft_err *err)
{
    const struct ft_node *node = node_of(g, *v);
    struct dense d;
    if (node == NULL || ft_graph_type(g, *v)->rank != 2) {
        return not_sayable(NULL, why);
    }
    step->out = width_of(g, *v);
    if (node->op == FT_OP_L2_NORMALIZE) {
        step->kind = FT_HF_NORMALIZE;
        *v = node->in[0];
        return node->attrs.eps <= 1e-12F ? FT_OK : not_sayable(node, why);
    }
    if (node->op == FT_OP_SEQ_POOL || node->op == FT_OP_CONCAT) {
        step->kind = FT_HF_POOLING;
        if (!read_pooling(g, node, step, v)) {
            return not_sayable(node, why);
        }
        step->in = width_of(g, *v);
        return FT_OK;
    }
    if (!find_dense(g, *v, &d, &step->function)) {
        return not_sayable(node, why);
    }
    step->kind = FT_HF_DENSE;
    *v = d.product->in[0];
    return take_dense(g, &d, step, err);
}

static void turn_around(struct ft_hf_tail *tail)
{
    for (int i = 0; i < tail->n / 2; i++) {
        struct ft_hf_step step = tail->steps[i];
        tail->steps[i] = tail->steps[tail->n - 1 - i];
        tail->steps[tail->n - 1 - i] = step;
    }
}

enum ft_status ft_hf_tail_read(const struct ft_graph *graph, struct ft_hf_tail *tail, char why[FT_ERR_TEXT],
                               struct ft_err *err)
{
    ft_value v = ft_graph_output_at(graph, 0);
    enum ft_status st = FT_OK;
    *tail = (struct ft_hf_tail){.tokens = FT_NO_VALUE};
    why[0] = '\0';
    while (!ft_is_token_map(ft_graph_type(graph, v))) {
        if (tail->n == FT_HF_STEPS) {
            (void)snprintf(why, FT_ERR_TEXT, "more than %d modules stand behind the tokens", FT_HF_STEPS);
            goto done;
        }
        FT_TRY(read_step(graph, &v, &tail->steps[tail->n++], why, err));
        if (why[0] != '\0') {
            goto done;
        }
    }
    turn_around(tail);
    if (tail->n == 0 || tail->steps[0].kind != FT_HF_POOLING) {
        st = not_sayable(NULL, why);
    }
    tail->tokens = v;
done:
    if (st != FT_OK || why[0] != '\0') {
        ft_hf_tail_release(tail);
    }
    return st;
}

void ft_hf_tail_release(struct ft_hf_tail *tail)
{
    for (int i = 0; i < tail->n; i++) {
        ft_free(tail->steps[i].weight);
        ft_free(tail->steps[i].bias);
    }
    tail->n = 0;
}
