/* What exporters spell out is read as one row, what only looks like it is not, and every function of maps.def
 * comes back from the ONNX that it is written as. */
/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include "executor/graph/graph.h"

/* Nodes as "Op input ... output", one after the other with ; between them. */
static void add_nodes(struct onnx_build *b, const char *nodes)
{
    while (*nodes != '\0') {
        char op[32] = "";
        char in[64] = "";
        char out[16] = "";
        size_t size = strcspn(nodes, ";");
        const char *end = nodes + size;
        size_t op_size = strcspn(nodes, " ");
        const char *last = end;
        while (last[-1] != ' ') {
            last--;
        }
        assert_true(op_size < sizeof op && (size_t)(end - last) < sizeof out);
        memcpy(op, nodes, op_size);
        memcpy(in, nodes + op_size + 1, (size_t)(last - nodes) - op_size - 2);
        memcpy(out, last, (size_t)(end - last));
        add_node(b, op, in, out, NULL);
        nodes = *end == ';' ? end + 1 : end;
    }
}

static struct ft_model *read_nodes(const char *nodes)
{
    struct onnx_build b = {.opset = 17};
    add_input(&b, "x", "n,4,6");
    add_input(&b, "other", "n,4,6");
    add_number(&b, "half", 0.5F);
    add_number(&b, "one", 1.0F);
    add_number(&b, "two", 2.0F);
    add_number(&b, "three", 3.0F);
    add_number(&b, "six", 6.0F);
    add_number(&b, "sixth", 1.0F / 6.0F);
    add_number(&b, "zero", 0.0F);
    add_number(&b, "eps", 1e-6F);
    add_number(&b, "sqrt2", 1.41421354F);
    add_number(&b, "rsqrt2", 0.70710677F);
    add_number(&b, "quick", 1.702F);
    add_number(&b, "c", 0.79788458F);
    add_number(&b, "cubic", 0.044715F);
    ADD_WEIGHT(&b, "scale", 6);
    ADD_WEIGHT(&b, "shift", 6);
    add_nodes(&b, nodes);
    add_output(&b, "y", "?");
    return read_built(&b);
}

static void activations_are_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *nodes;
        int kind;
        float a, b;
    } cases[] = {
        {"Div x sqrt2 a;Erf a b;Add b one c1;Mul x c1 d;Mul d half y", FT_MAP_GELU, 0, 0},
        {"Div x sqrt2 a;Erf a b;Add one b c1;Mul c1 x d;Mul half d y", FT_MAP_GELU, 0, 0},
        {"Mul x rsqrt2 a;Erf a b;Add b one c1;Mul c1 half d;Mul x d y", FT_MAP_GELU, 0, 0},
        {"Mul x half h;Div x sqrt2 a;Erf a b;Add b one c1;Mul h c1 y", FT_MAP_GELU, 0, 0},
        {"Div x sqrt2 a;Erf a b;Mul b half c1;Add c1 half d;Mul d x y", FT_MAP_GELU, 0, 0},
        {"Div x sqrt2 a;Erf a b;Add b one c1;Mul x c1 d;Div d two y", FT_MAP_GELU, 0, 0},
        {"Pow x three a;Mul a cubic b;Add x b d;Mul d c e;Tanh e f;Add f one g;Mul x half h;Mul h g y",
         FT_MAP_GELU_TANH, 0, 0},
        {"Mul x x s;Mul x s a;Mul cubic a b;Add b x d;Mul c d e;Tanh e f;Add one f g;Mul x g h;Mul h half y",
         FT_MAP_GELU_TANH, 0, 0},
        {"Sigmoid x a;Mul x a y", FT_MAP_SILU, 1.0F, 0},
        {"Sigmoid x a;Mul a x y", FT_MAP_SILU, 1.0F, 0},
        {"Mul x quick a;Sigmoid a b;Mul x b y", FT_MAP_SILU, 1.702F, 0},
        {"Softplus x a;Tanh a b;Mul x b y", FT_MAP_MISH, 0, 0},
        {"Add x three a;Clip a zero six b;Mul x b d;Div d six y", FT_MAP_HARD_SWISH, 0, 0},
        {"Add x three a;Clip a zero six b;Div b six d;Mul x d y", FT_MAP_HARD_SWISH, 0, 0},
        {"Add x three a;Clip a zero six b;Mul b sixth d;Mul d x y", FT_MAP_HARD_SWISH, 0, 0},
        {"Add x three a;Clip a zero six b;Div b six y", FT_MAP_HARD_SIGMOID, 1.0F / 6.0F, 0.5F},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_model *m = read_nodes(cases[i].nodes);
        const struct ft_node *n = ft_graph_node(m->graph, 0);
        if (ft_graph_nodes(m->graph) != 1 || n->op != FT_OP_MAP || n->attrs.kind != cases[i].kind ||
            n->attrs.alpha != cases[i].a || n->attrs.beta != cases[i].b) {
            fail_msg("%s: %d nodes, the first is %s", cases[i].nodes, ft_graph_nodes(m->graph),
                     ft_op_info(n->op)->name);
        }
        ft_model_free(m);
    }
}

static void other_products_are_left_alone(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Sigmoid other a;Mul x a y",
        "Sigmoid x a;Mul x a b;Mul b half y",
        "Div other sqrt2 a;Erf a b;Add b one c1;Mul x c1 d;Mul d half y",
        "Div x sqrt2 a;Erf a b;Add b one c1;Mul x c1 y",
        "Div x two a;Erf a b;Add b one c1;Mul x c1 d;Mul d half y",
        "Div x sqrt2 a;Erf a b;Add b two c1;Mul x c1 d;Mul d half y",
        "Pow x two a;Mul a cubic b;Add x b d;Mul d c e;Tanh e f;Add f one g;Mul x half h;Mul h g y",
        "Softplus other a;Tanh a b;Mul x b y",
        "Add x three a;Clip a zero one b;Mul x b d;Div d six y",
        "Add x two a;Clip a zero six b;Mul x b d;Div d six y",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_model *m = read_nodes(cases[i]);
        for (int n = 0; n < ft_graph_nodes(m->graph); n++) {
            const struct ft_node *node = ft_graph_node(m->graph, n);
            if (node->op == FT_OP_MAP && node->attrs.kind != FT_MAP_ERF &&
                node->attrs.kind != FT_MAP_SOFTPLUS &&
                !(node->attrs.kind == FT_MAP_SILU && i == 1)) { /* half a SiLU is a SiLU and a factor */
                fail_msg("%s became %s", cases[i], ft_map_name((enum ft_map)node->attrs.kind));
            }
        }
        ft_model_free(m);
    }
}

/* ---- layer normalisation; ReduceMean stands for its axes */

static struct ft_model *read_norm(const char *after, int64_t axis, int64_t second, int64_t keepdims)
{
    struct onnx_build b = {.opset = 17};
    struct ft_buf mean = {0};
    struct ft_buf var = {0};
    add_input(&b, "x", "n,4,6");
    add_number(&b, "two", 2.0F);
    add_number(&b, "eps", 1e-6F);
    ADD_WEIGHT(&b, "onnx::Mul_7", 6);
    ADD_WEIGHT(&b, "shift", 6);
    attr_ints(&mean, "axes", 1, &axis);
    attr_int(&mean, "keepdims", keepdims);
    attr_ints(&var, "axes", 1, &second);
    add_node(&b, "ReduceMean", "x", "m", &mean);
    add_nodes(&b, "Sub x m d;Pow d two q");
    add_node(&b, "ReduceMean", "q", "v", &var);
    add_nodes(&b, "Add v eps e;Sqrt e s");
    add_nodes(&b, after);
    add_output(&b, "y", "?");
    return read_built(&b);
}

static void layer_normalisation_is_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *after;
        int params, n_in;
    } cases[] = {
        {"Div d s y", 0, 2},
        {"Reciprocal s r;Mul d r y", 0, 2},
        {"Div d s f;Mul f onnx::Mul_7 y", 1, 2},
        {"Div d s f;Mul f onnx::Mul_7 g;Add g shift y", 2, 3},
        {"Div d s f;Mul onnx::Mul_7 f g;Add shift g y", 2, 3},
        {"Div d s f;Add f shift y", 1, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_model *m = read_norm(cases[i].after, -1, 2, 1);
        const struct ft_node *n = ft_graph_node(m->graph, 0);
        if (ft_graph_nodes(m->graph) != 1 || n->op != FT_OP_LAYERNORM || n->n_in != cases[i].n_in ||
            n->attrs.axis != 2 || n->attrs.eps != 1e-6F || ft_graph_params(m->graph) != cases[i].params) {
            fail_msg("%s: %d nodes, the first is %s, %d parameters", cases[i].after, ft_graph_nodes(m->graph),
                     ft_op_info(n->op)->name, ft_graph_params(m->graph));
        }
        ft_model_free(m);
    }
    struct ft_model *m = read_norm("Div d s y", 1, 2, 1); /* a mean over one axis, a variance over another */
    assert_int_equal(ft_graph_node(m->graph, 0)->op, FT_OP_REDUCE_MEAN);
    ft_model_free(m);
    m = read_norm("Div d s f;Relu f y", 1, 1, 1); /* not the last axes */
    assert_int_equal(ft_graph_node(m->graph, 0)->op, FT_OP_REDUCE_MEAN);
    ft_model_free(m);
    m = read_norm("Div m s y", 2, 2, 1); /* not the centred value */
    assert_int_equal(ft_graph_node(m->graph, 0)->op, FT_OP_REDUCE_MEAN);
    ft_model_free(m);
}

/* ---- written and read */

static void functions_come_back_as_they_were(void **state)
{
    (void)state;
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, 4});
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    for (int map = 0; map < FT_MAP_COUNT; map++) {
        struct ft_err err = {0};
        struct ft_graph *g = NULL;
        struct ft_attrs attrs;
        struct ft_buf out = {0};
        ft_value x = FT_NO_VALUE;
        ft_value y[FT_MAX_OUTPUTS];
        memset(&attrs, 0, sizeof attrs);
        attrs.kind = map;
        bool one = map == FT_MAP_CELU || map == FT_MAP_SILU || map == FT_MAP_THRESHOLDED_RELU;
        bool two = map == FT_MAP_ELU || map == FT_MAP_HARD_SIGMOID || map == FT_MAP_SHRINK;
        attrs.alpha = one || two ? 0.75F : 0.0F;
        attrs.beta = two ? 1.25F : 0.0F;
        ASSERT_OK(ft_graph_new(&g, &err));
        ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
        ASSERT_OK(ft_graph_add(g, FT_OP_MAP, &attrs, &x, 1, "f", y, &err));
        ASSERT_OK(ft_graph_output(g, y[0], "y", &err));
        ASSERT_OK(ft_onnx_write(g, "g", NULL, &out, &err));
        struct ft_model *m = read_model(&out);
        const struct ft_node *n = ft_graph_node(m->graph, 0);
        if (ft_graph_nodes(m->graph) != 1 || memcmp(&n->attrs, &attrs, sizeof attrs) != 0) {
            fail_msg("%s came back as %d nodes, the first is %s %d", ft_map_name((enum ft_map)map),
                     ft_graph_nodes(m->graph), ft_op_info(n->op)->name, n->attrs.kind);
        }
        ft_model_free(m);
        ft_graph_free(g);
        ft_buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_recognised),
        cmocka_unit_test(other_products_are_left_alone),
        cmocka_unit_test(layer_normalisation_is_recognised),
        cmocka_unit_test(functions_come_back_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
