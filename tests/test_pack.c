/* links: ft_graph ft_kernels ft_base */
/*
 * Packing: a small text encoder gives the same embeddings, token rows and gradients with padding and without;
 * what looks from one token at another is refused by name.
 */
#include <math.h>

#include "executor/graph/pack.h"
#include "executor/graph/plan.h"
#include "tests/graph_test.h"

enum {
    WORDS = 13,
    PLACES = 9,
    WIDTH = 8,
    HEADS = 2,
    MAX_PARAMS = 64,
    ROWS = 3,
    LONGEST = 7,
    TOKENS = 13,
    FILLER = 3
};
static const int64_t lengths[ROWS] = {5, 7, 1};

struct net {
    struct ft_graph *g;
    ft_value ids, mask, types;
    uint64_t drawn;
};

static ft_value param(struct net *net, struct ft_type t)
{
    struct ft_err err = {0};
    float data[WORDS * 4 * WIDTH];
    ft_value v = FT_NO_VALUE;
    assert_true(ft_elements(&t) <= WORDS * 4 * WIDTH);
    for (int64_t i = 0; i < ft_elements(&t); i++) {
        data[i] = (float)test_uniform(ft_rand_at(5, FT_RAND_TEST, 3), net->drawn++, -0.7, 0.7);
    }
    OK(ft_graph_param(net->g, "", &t, FT_PARAM_WEIGHT, data, &v, &err));
    return v;
}

static ft_value input(struct net *net, const char *name)
{
    struct ft_err err = {0};
    struct ft_type t = batched(shape(2, 1, 1));
    ft_value v = FT_NO_VALUE;
    t.dtype = FT_I64;
    t.dim[1] = ft_dim_symbol(FT_SYMBOL_LENGTH);
    OK(ft_graph_input(net->g, name, &t, &v, &err));
    return v;
}

static void open_net(struct net *net)
{
    struct ft_err err = {0};
    memset(net, 0, sizeof *net);
    OK(ft_graph_new(&net->g, &err));
    net->ids = input(net, "input_ids");
    net->mask = input(net, FT_PACK_MASK);
    net->types = input(net, "token_type_ids");
}

static ft_value add(struct net *net, enum ft_op op, const struct ft_attrs *a, int n, const ft_value *in)
{
    struct ft_err err = {0};
    ft_value out[FT_MAX_OUTPUTS];
    OK(ft_graph_add(net->g, op, a, in, n, "here", out, &err));
    return out[0];
}
#define ADD(net, op, attrs, ...)                                                                             \
    add(net, op, &(struct ft_attrs)attrs, (int)(sizeof((ft_value[]){__VA_ARGS__}) / sizeof(ft_value)),       \
        (ft_value[]){__VA_ARGS__})
#define ATTRS(...)                                                                                           \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static ft_value linear(struct net *net, ft_value x, int from, int to)
{
    ft_value w = param(net, shape(2, to, from));
    ft_value b = param(net, shape(1, to));
    x = ADD(net, FT_OP_MATMUL, ATTRS(.alpha = 1, .trans_b = 1), x, w);
    return ADD(net, FT_OP_ADD, ATTRS(0), x, b);
}

static ft_value norm(struct net *net, ft_value x)
{
    ft_value scale = param(net, shape(1, WIDTH));
    ft_value shift = param(net, shape(1, WIDTH));
    return ADD(net, FT_OP_LAYERNORM, ATTRS(.axis = 2, .eps = 1e-5F), x, scale, shift);
}

static ft_value embed(struct net *net)
{
    ft_value places = ADD(net, FT_OP_POSITIONS, ATTRS(0), net->mask, net->ids);
    ft_value x = ADD(net, FT_OP_GATHER, ATTRS(0), param(net, shape(2, WORDS, WIDTH)), net->ids);
    ft_value p = ADD(net, FT_OP_GATHER, ATTRS(0), param(net, shape(2, PLACES, WIDTH)), places);
    ft_value t = ADD(net, FT_OP_GATHER, ATTRS(0), param(net, shape(2, 2, WIDTH)), net->types);
    x = ADD(net, FT_OP_ADD, ATTRS(0), ADD(net, FT_OP_ADD, ATTRS(0), x, p), t);
    return norm(net, x);
}

static ft_value layer(struct net *net, ft_value x)
{
    ft_value q = ADD(net, FT_OP_ROPE, ATTRS(.group = HEADS, .count = 2, .alpha = 100),
                     linear(net, x, WIDTH, WIDTH), net->mask);
    ft_value k = linear(net, x, WIDTH, WIDTH);
    ft_value v = linear(net, x, WIDTH, WIDTH);
    ft_value bias = param(net, shape(2, HEADS, 5));
    ft_value y = ADD(net, FT_OP_ATTENTION, ATTRS(.group = HEADS, .alpha = 0.5F), q, k, v, net->mask, bias);
    x = norm(net, ADD(net, FT_OP_ADD, ATTRS(0), x, linear(net, y, WIDTH, WIDTH)));
    y = ADD(net, FT_OP_MAP, ATTRS(.kind = FT_MAP_GELU), linear(net, x, WIDTH, 2 * WIDTH));
    struct ft_attrs apart = {.shape_rank = 4,
                             .shape = {ft_dim_symbol(0), ft_dim_symbol(1), ft_dim_of(4), ft_dim_of(4)}};
    struct ft_attrs joined = {.shape_rank = 3, .shape = {ft_dim_symbol(0), ft_dim_symbol(1), ft_dim_of(16)}};
    struct ft_attrs turned = {.perm = {0, 1, 3, 2}};
    y = add(net, FT_OP_RESHAPE, &apart, 1, &y);
    y = add(net, FT_OP_TRANSPOSE, &turned, 1, &y);
    y = add(net, FT_OP_RESHAPE, &joined, 1, &y);
    return norm(net, ADD(net, FT_OP_ADD, ATTRS(0), x, linear(net, y, 2 * WIDTH, WIDTH)));
}

/* Outputs: pooled + first token, and all tokens. */
static void build_encoder(struct net *net)
{
    struct ft_err err = {0};
    int64_t zero = 0;
    struct ft_type scalar = {.dtype = FT_I64};
    ft_value first = FT_NO_VALUE;
    open_net(net);
    ft_value x = layer(net, layer(net, embed(net)));
    ft_value pooled = ADD(net, FT_OP_SEQ_POOL, ATTRS(.kind = FT_SEQ_MEAN), x, net->mask);
    OK(ft_graph_const(net->g, "zero", &scalar, &zero, &first, &err));
    first = ADD(net, FT_OP_GATHER, ATTRS(.axis = 1), x, first);
    ft_value y = ADD(net, FT_OP_ADD, ATTRS(0), linear(net, pooled, WIDTH, WIDTH), first);
    OK(ft_graph_output(net->g, y, "embedding", &err));
    OK(ft_graph_output(net->g, x, "tokens", &err));
}

/* ---- running on ref */

struct results {
    double embedding[ROWS * WIDTH], tokens[ROWS * LONGEST * WIDTH];
    double gradients[4096];
    size_t n_gradients;
};

static int64_t id_of(int64_t row, int64_t place)
{
    return (7 * row + 3 * place + 2) % WORDS;
}

/* What the graph's inputs are: padding and filler hold numbers that must not matter. */
static void fill_inputs(const char *name, bool packed, int64_t *data)
{
    int64_t at = 1; /* filler in front, and behind */
    for (int64_t i = 0; packed && strcmp(name, FT_PACK_SPANS) != 0 && i < TOKENS + FILLER; i++) {
        data[i] = 1;
    }
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t p = 0; p < (packed ? lengths[r] : LONGEST); p++) {
            int64_t *to = packed ? &data[at + p] : &data[r * LONGEST + p];
            if (strcmp(name, "input_ids") == 0) {
                *to = p < lengths[r] ? id_of(r, p) : 1;
            } else if (strcmp(name, "token_type_ids") == 0) {
                *to = p < lengths[r] ? (r + p) % 2 : 1;
            } else if (!packed) {
                *to = p < lengths[r];
            }
        }
        if (strcmp(name, FT_PACK_SPANS) == 0) {
            data[2 * r] = at;
            data[2 * r + 1] = lengths[r];
        }
        at += lengths[r];
    }
}

static void bind_all(struct ft_device *device, struct ft_plan *plan, const struct ft_graph *g, bool packed,
                     void **memory)
{
    struct ft_err err = {0};
    int n = 0;
    for (ft_value v = 0; v < ft_graph_values(g); v++) {
        enum ft_source source = ft_graph_source(g, v);
        if (source != FT_FROM_INPUT && source != FT_FROM_PARAM) {
            continue;
        }
        size_t bytes = ft_plan_bytes(plan, v);
        OK(ft_device_alloc(device, bytes, &memory[n], &err));
        if (source == FT_FROM_INPUT) {
            fill_inputs(ft_graph_name(g, v), packed, memory[n]);
        } else {
            for (size_t i = 0; i < bytes / sizeof(double); i++) {
                ((double *)memory[n])[i] = (double)((const float *)ft_graph_data(g, v))[i];
            }
        }
        OK(ft_plan_bind(plan, v, memory[n++], &err));
    }
}

/* Outputs and, of the sum of squares of the embedding, gradients. `g` grows by the backward nodes. */
static void run_graph(struct ft_graph *g, bool packed, struct results *r)
{
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    struct ft_plan *plan = NULL;
    void *memory[MAX_PARAMS + 8] = {NULL};
    ft_value wanted[2 + MAX_PARAMS];
    ft_value wrt[MAX_PARAMS];
    ft_value loss = FT_NO_VALUE;
    int n = ft_graph_params(g);
    assert_true(n <= MAX_PARAMS);
    wanted[0] = ft_graph_output_at(g, 0);
    wanted[1] = ft_graph_output_at(g, 1);
    for (int i = 0; i < n; i++) {
        wrt[i] = ft_graph_param_at(g, i);
    }
    OK(ft_graph_add1(g, FT_OP_SUM_SQUARES, wanted[0], &loss, &err));
    OK(ft_graph_backward(g, loss, wrt, n, wanted + 2, &err));
    struct ft_plan_spec spec = {.symbols = {ROWS, packed ? 0 : LONGEST, packed ? TOKENS + FILLER : 0},
                                .wanted = wanted,
                                .n_wanted = 2 + n};
    OK(ft_device_open("ref", 1, &device, &err));
    OK(ft_plan_new(device, g, &spec, &plan, &err));
    bind_all(device, plan, g, packed, memory);
    OK(ft_plan_run(plan, &err));
    OK(ft_device_wait(device, &err));
    memset(r, 0, sizeof *r);
    memcpy(r->embedding, ft_plan_data(plan, wanted[0]), sizeof r->embedding);
    const double *tokens = ft_plan_data(plan, wanted[1]);
    int64_t at = 1;
    for (int64_t row = 0; row < ROWS; row++) {
        memcpy(r->tokens + row * LONGEST * WIDTH, tokens + (packed ? at : row * LONGEST) * WIDTH,
               (size_t)lengths[row] * WIDTH * sizeof(double));
        at += lengths[row];
    }
    for (int i = 0; i < n; i++) {
        size_t count = ft_plan_bytes(plan, wanted[2 + i]) / sizeof(double);
        assert_true(r->n_gradients + count <= 4096);
        memcpy(r->gradients + r->n_gradients, ft_plan_data(plan, wanted[2 + i]), count * sizeof(double));
        r->n_gradients += count;
    }
    ft_plan_free(plan);
    for (int i = 0; i < MAX_PARAMS + 8; i++) {
        ft_device_free(device, memory[i]);
    }
    ft_device_close(device);
}

static void assert_near(const double *a, const double *b, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(b[i]));
    }
    assert_true(largest > 0.01);
    for (size_t i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= 1e-12 * largest)) { /* sums in another order, in double */
            fail_msg("%zu: %.17g, wanted %.17g", i, a[i], b[i]);
        }
    }
}

static void packed_equals_padded(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct net net;
    struct ft_graph *packed = NULL;
    static struct results a;
    static struct results b;
    char why[FT_ERR_TEXT];
    size_t live = ft_alloc_stats().live_blocks;
    build_encoder(&net);
    OK(ft_graph_pack(net.g, &packed, why, &err));
    assert_string_equal(why, "");
    assert_non_null(packed);
    assert_int_equal(ft_graph_params(packed), ft_graph_params(net.g));
    assert_int_equal(ft_graph_find(packed, FT_PACK_MASK), FT_NO_VALUE);
    run_graph(packed, true, &a);
    run_graph(net.g, false, &b);
    assert_near(a.embedding, b.embedding, ROWS * WIDTH);
    assert_near(a.tokens, b.tokens, ROWS * LONGEST * WIDTH);
    assert_int_equal(a.n_gradients, b.n_gradients);
    assert_near(a.gradients, b.gradients, a.n_gradients);
    ft_graph_free(packed);
    ft_graph_free(net.g);
    assert_int_equal(ft_alloc_stats().live_blocks, live);
}

/* ---- refusals */

static void refused(struct net *net, ft_value y, const char *part)
{
    struct ft_err err = {0};
    struct ft_graph *packed = NULL;
    char why[FT_ERR_TEXT];
    OK(ft_graph_output(net->g, y, "y", &err));
    OK(ft_graph_pack(net->g, &packed, why, &err));
    assert_null(packed);
    if (strstr(why, part) == NULL) {
        fail_msg("'%s' does not tell of '%s'", why, part);
    }
    ft_graph_free(net->g);
}

static void what_looks_at_other_tokens_is_refused(void **state)
{
    (void)state;
    struct net net;
    open_net(&net);
    refused(&net, ADD(&net, FT_OP_REDUCE_MEAN, ATTRS(.axes_count = 1, .axes = {1}), embed(&net)),
            "reduce_mean 'here': it works along the tokens");
    open_net(&net);
    refused(&net, ADD(&net, FT_OP_CUMSUM, ATTRS(.axis = 1, .kind = FT_CUMSUM_REVERSE), net.ids),
            "cumsum 'here': it may look from one token at another");
    open_net(&net);
    ft_value x = embed(&net);
    refused(&net, ADD(&net, FT_OP_MATMUL, ATTRS(.alpha = 1, .trans_b = 1), x, x),
            "its result float32 (N, S, S) has no row for each token");
    open_net(&net);
    x = ADD(&net, FT_OP_CAST, ATTRS(.kind = FT_CAST_FLOAT), net.mask);
    refused(&net, x, "it computes with attention_mask");
    open_net(&net);
    x = ADD(&net, FT_OP_ATTENTION, ATTRS(.group = HEADS, .alpha = 1), embed(&net), embed(&net), embed(&net),
            net.types);
    refused(&net, x, "it reads another mask than attention_mask");
}

static void no_mask_no_packing(void **state)
{
    (void)state;
    struct net net;
    struct ft_err err = {0};
    memset(&net, 0, sizeof net);
    OK(ft_graph_new(&net.g, &err));
    net.ids = input(&net, "input_ids");
    refused(&net, ADD(&net, FT_OP_GATHER, ATTRS(0), param(&net, shape(2, WORDS, WIDTH)), net.ids),
            "no inputs of token numbers and \"attention_mask\"");
}

static void no_memory_no_leak(void **state)
{
    (void)state;
    struct net net;
    struct ft_err err = {0};
    struct ft_graph *packed = NULL;
    char why[FT_ERR_TEXT];
    build_encoder(&net);
    size_t live = ft_alloc_stats().live_blocks;
    int failed = 0;
    for (;; failed++) {
        ft_alloc_fail_at((uint64_t)failed + 1);
        enum ft_status st = ft_graph_pack(net.g, &packed, why, &err);
        ft_alloc_fail_at(0);
        if (st == FT_OK) {
            break;
        }
        assert_int_equal(st, FT_NOMEM);
        assert_null(packed);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        ft_err_clear(&err);
    }
    assert_true(failed > 10);
    ft_graph_free(packed);
    ft_graph_free(net.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_equals_padded),
        cmocka_unit_test(what_looks_at_other_tokens_is_refused),
        cmocka_unit_test(no_mask_no_packing),
        cmocka_unit_test(no_memory_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
