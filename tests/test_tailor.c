/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include <math.h>

#include "executor/model/tailor.h"

/* The head rule, cutting, pooling, projection and freezing. Values are checked in tests/oracle. */

static struct ft_graph *tailored(const struct ft_model *m, const struct ft_tailor_options *o,
                                 struct ft_tailor_report *report)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    ASSERT_OK(ft_tailor(m, o, &g, report, &err));
    assert_int_equal(ft_graph_outputs(g), 1);
    assert_string_equal(ft_graph_output_name(g, 0), "embedding");
    return g;
}

#define REFUSES(code, part, model, options)                                                                  \
    do {                                                                                                     \
        struct ft_err refuses_err_ = {0};                                                                    \
        struct ft_graph *refuses_g_ = NULL;                                                                  \
        struct ft_tailor_report refuses_r_ = {0};                                                            \
        enum ft_status refuses_st_ = ft_tailor(model, options, &refuses_g_, &refuses_r_, &refuses_err_);     \
        if (refuses_st_ != FT_##code || strstr(refuses_err_.text, part) == NULL) {                           \
            fail_msg("wanted %s with '%s', got %s: %s", #code, part, ft_status_text(refuses_st_),            \
                     refuses_err_.text);                                                                     \
        }                                                                                                    \
        assert_null(refuses_g_);                                                                             \
        assert_null(refuses_r_.memory);                                                                      \
    } while (0)

static int64_t width(const struct ft_graph *g)
{
    const struct ft_type *t = ft_graph_type(g, ft_graph_output_at(g, 0));
    assert_int_equal(t->rank, 2);
    assert_true(ft_dim_equal(t->dim[0], ft_dim_symbol(FT_SYMBOL_BATCH)));
    return t->dim[1].coef;
}

static bool frozen(const struct ft_graph *g, const char *name)
{
    ft_value v = ft_graph_find(g, name);
    if (v == FT_NO_VALUE || ft_graph_param_of(g, v) < 0) {
        fail_msg("there is no parameter '%s'", name);
    }
    return ft_graph_param_frozen(g, ft_graph_param_of(g, v));
}

/* x (n, 6) -> Gemm to 4 -> Relu -> Gemm to 3, the last weight called `weight`, then `tail` (or NULL). */
static struct ft_model *mlp(const char *weight, const char *tail)
{
    struct onnx_build b = {0};
    char in[64];
    add_input(&b, "x", "n,6");
    ADD_WEIGHT(&b, "0.weight", 6, 4);
    ADD_WEIGHT(&b, weight, 4, 3);
    add_node(&b, "Gemm", "x 0.weight", "a", NULL);
    add_node(&b, "Relu", "a", "b", NULL);
    (void)snprintf(in, sizeof in, "b %s", weight);
    add_node(&b, "Gemm", in, "c", NULL);
    if (tail != NULL) {
        add_node(&b, tail, "c", "d", NULL);
    }
    add_output(&b, tail != NULL ? "d" : "c", "n,3");
    struct ft_buf file = built(&b);
    struct ft_model *m = read_model(&file);
    ft_buf_release(&file);
    return m;
}

/* ---- head rule */

static void the_head_goes_when_something_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *weight, *tail;
        int64_t labels;
        bool cut;
        const char *why;
    } cases[] = {
        {"2.weight", NULL, 0, false, "kept"},
        {"2.weight", NULL, 7, false, "kept"},
        {"2.weight", NULL, 3, true, "as many outputs"},
        {"2.weight", "Softmax", 0, true, "softmax"},
        {"2.weight", "LogSoftmax", 0, true, "softmax"},
        {"2.weight", "Sigmoid", 0, true, "sigmoid"},
        {"2.weight", "Dropout", 0, false, "kept"},
        {"net.fc2.weight", NULL, 0, true, "named"},
        {"model.classifier.6.weight", NULL, 0, true, "named"},
        {"Head.weight", NULL, 0, true, "named"},
        {"fcx.weight", NULL, 0, false, "kept"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_model *m = mlp(cases[i].weight, cases[i].tail);
        struct ft_tailor_options o = {.labels = cases[i].labels};
        struct ft_tailor_report r;
        struct ft_graph *g = tailored(m, &o, &r);
        if (width(g) != (cases[i].cut ? 4 : 3) || strstr(r.why, cases[i].why) == NULL) {
            fail_msg("%s, %s, %d labels: width %d, '%s'", cases[i].weight,
                     cases[i].tail != NULL ? cases[i].tail : "no tail", (int)cases[i].labels, (int)width(g),
                     r.why);
        }
        assert_int_equal(r.head[0] != '\0', cases[i].cut);
        assert_int_equal(r.dim, width(g));
        assert_int_equal(ft_graph_params(g), cases[i].cut ? 1 : 2);
        ft_tailor_report_release(&r);
        ft_graph_free(g);
        /* --keep-head and --cut overrule. */
        o.keep_head = true;
        g = tailored(m, &o, NULL);
        assert_int_equal(width(g), 3);
        ft_graph_free(g);
        o.cut = "matmul_0";
        g = tailored(m, &o, NULL);
        assert_int_equal(width(g), 4);
        assert_int_equal(ft_graph_nodes(g), 1);
        ft_graph_free(g);
        ft_model_free(m);
    }
}

static void a_lone_linear_layer_is_kept(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,6");
    ADD_WEIGHT(&b, "fc.weight", 6, 3);
    add_node(&b, "MatMul", "x fc.weight", "c", NULL);
    add_node(&b, "Softmax", "c", "d", NULL);
    add_output(&b, "d", "n,3");
    struct ft_buf file = built(&b);
    struct ft_model *m = read_model(&file);
    struct ft_tailor_options o = {.labels = 3};
    struct ft_tailor_report r;
    struct ft_graph *g = tailored(m, &o, &r);
    assert_int_equal(width(g), 3);
    assert_int_equal(ft_graph_nodes(g), 1);
    assert_non_null(strstr(r.why, "only one with weights"));
    ft_tailor_report_release(&r);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
}

static void a_matmul_with_an_added_bias_is_a_head(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,6");
    ADD_WEIGHT(&b, "w1", 6, 4);
    ADD_WEIGHT(&b, "w2", 4, 3);
    ADD_WEIGHT(&b, "b2", 3);
    add_node(&b, "MatMul", "x w1", "a", NULL);
    add_node(&b, "Tanh", "a", "t", NULL);
    add_node(&b, "MatMul", "t w2", "c", NULL);
    add_node(&b, "Add", "c b2", "d", NULL);
    add_output(&b, "d", "n,3");
    struct ft_buf file = built(&b);
    struct ft_model *m = read_model(&file);
    struct ft_tailor_options o = {.labels = 3};
    struct ft_graph *g = tailored(m, &o, NULL);
    assert_int_equal(width(g), 4);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
}

static void several_outputs_are_listed(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,6");
    ADD_WEIGHT(&b, "w1", 6, 4);
    ADD_WEIGHT(&b, "w2", 4, 3);
    ADD_WEIGHT(&b, "w3", 4, 2);
    add_node(&b, "MatMul", "x w1", "a", NULL);
    add_node(&b, "MatMul", "a w2", "one", NULL);
    add_node(&b, "MatMul", "a w3", "two", NULL);
    add_output(&b, "one", "n,3");
    add_output(&b, "two", "n,2");
    struct ft_buf file = built(&b);
    struct ft_model *m = read_model(&file);
    struct ft_tailor_options o = {0};
    REFUSES(INVALID, "2 outputs: one float32 (N, 3), two float32 (N, 2)", m, &o);
    o.cut = "two";
    struct ft_graph *g = tailored(m, &o, NULL);
    assert_int_equal(width(g), 2);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
    /* Two outputs with one feature in front are no ambiguity. */
    add_input(&b, "x", "n,6");
    ADD_WEIGHT(&b, "w1", 6, 4);
    ADD_WEIGHT(&b, "w2", 4, 3);
    add_node(&b, "MatMul", "x w1", "a", NULL);
    add_node(&b, "MatMul", "a w2", "scores", NULL);
    add_node(&b, "Softmax", "scores", "probabilities", NULL);
    add_output(&b, "scores", "n,3");
    add_output(&b, "probabilities", "n,3");
    file = built(&b);
    m = read_model(&file);
    o = (struct ft_tailor_options){.labels = 3};
    g = tailored(m, &o, NULL);
    assert_int_equal(width(g), 4);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
}

/* ---- cutting and pooling */

static void cuts_take_names_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *cut;
        int64_t width;
    } cases[] = {{"n_c", 4}, {"c", 4}, {"relu_2", 4}, {"scores", 5}, {"n_h", 6}, {"image", 3}};
    struct ft_buf file = small_classifier(NULL);
    struct ft_model *m = read_model(&file);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_tailor_options o = {.cut = cases[i].cut};
        struct ft_graph *g = tailored(m, &o, NULL);
        assert_int_equal(width(g), cases[i].width);
        ft_graph_free(g);
    }
    struct ft_tailor_options o = {.cut = "layer9"};
    REFUSES(INVALID, "the last layers are", m, &o);
    o.cut = "last.weight";
    REFUSES(INVALID, "is a weight", m, &o);
    ft_model_free(m);
    ft_buf_release(&file);
}

static void poolers_replace_the_models_own(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier("Softmax");
    struct ft_model *m = read_model(&file);
    struct ft_tailor_options o = {.pooler = FT_POOLER_GEM, .gem_p = 2.5F, .gem_eps = 1e-3F};
    struct ft_graph *g = tailored(m, &o, NULL);
    ft_value p = ft_graph_find(g, "gem.p");
    assert_int_equal(width(g), 6);
    assert_true(ft_graph_param_of(g, p) >= 0);
    assert_true(*(const float *)ft_graph_data(g, p) == 2.5F);
    int clips = 0;
    for (int n = 0; n < ft_graph_nodes(g); n++) {
        const struct ft_node *node = ft_graph_node(g, n);
        assert_true(node->op != FT_OP_RESHAPE);
        if (node->op == FT_OP_CLIP) {
            clips++;
            assert_true(node->attrs.lo == 1e-3F && isinf(node->attrs.hi));
        }
    }
    assert_int_equal(clips, 1);
    ft_graph_free(g);
    o.pooler = FT_POOLER_AVG;
    g = tailored(m, &o, NULL);
    assert_int_equal(ft_graph_node(g, ft_graph_nodes(g) - 1)->op, FT_OP_REDUCE_MEAN);
    assert_int_equal(width(g), 6);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
    m = mlp("fc.weight", NULL);
    o.pooler = FT_POOLER_GEM;
    REFUSES(INVALID, "spatial map", m, &o);
    ft_model_free(m);
}

/* ---- what is added */

static void the_projection_head_is_finetuners(void **state)
{
    (void)state;
    static const enum ft_op ops[] = {FT_OP_MATMUL, FT_OP_BATCHNORM, FT_OP_RELU,
                                     FT_OP_MATMUL, FT_OP_BATCHNORM, FT_OP_RELU,
                                     FT_OP_MATMUL, FT_OP_BATCHNORM, FT_OP_L2_NORMALIZE};
    struct ft_model *m = mlp("fc.weight", NULL);
    struct ft_tailor_options o = {.output_dim = 5, .projection_layers = 3, .normalize = true, .seed = 9};
    struct ft_graph *g = tailored(m, &o, NULL);
    assert_int_equal(width(g), 5);
    assert_int_equal(ft_graph_nodes(g), 2 + 9);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(ft_graph_node(g, 2 + i)->op, ops[i]);
    }
    assert_true(ft_graph_node(g, 3)->attrs.eps == 1e-5F);
    const char *last = "projection_head.head_layers.6.weight";
    const struct ft_type *t = ft_graph_type(g, ft_graph_find(g, last));
    assert_int_equal(t->dim[0].coef, 5);
    assert_int_equal(t->dim[1].coef, 4);
    const float *w = ft_graph_data(g, ft_graph_find(g, "projection_head.head_layers.0.weight"));
    for (int i = 0; i < 16; i++) {
        assert_true(w[i] >= -0.5F && w[i] < 0.5F && (i == 0 || w[i] != w[i - 1]));
    }
    struct ft_graph *same = tailored(m, &o, NULL);
    assert_memory_equal(ft_graph_data(same, ft_graph_find(same, last)),
                        ft_graph_data(g, ft_graph_find(g, last)), 80);
    ft_graph_free(same);
    o.seed = 10;
    same = tailored(m, &o, NULL);
    assert_memory_not_equal(ft_graph_data(same, ft_graph_find(same, last)),
                            ft_graph_data(g, ft_graph_find(g, last)), 80);
    ft_graph_free(same);
    ft_graph_free(g);
    ft_model_free(m);
}

static void an_embedding_is_left_alone_but_for_what_is_asked(void **state)
{
    (void)state;
    struct ft_model *m = mlp("fc.weight", "Softmax");
    m->is_embedding = true;
    struct ft_tailor_options o = {.labels = 3};
    struct ft_graph *g = tailored(m, &o, NULL);
    assert_int_equal(ft_graph_nodes(g), ft_graph_nodes(m->graph));
    ft_graph_free(g);
    o.output_dim = 2;
    o.normalize = true;
    g = tailored(m, &o, NULL);
    assert_int_equal(width(g), 2);
    /* Once more over the result: a second head beside the first, no second normalisation. */
    struct ft_model again = {.graph = g, .is_embedding = true};
    struct ft_graph *twice = tailored(&again, &o, NULL);
    assert_true(ft_graph_find(twice, "projection_head.head_layers_2.0.weight") != FT_NO_VALUE);
    o.output_dim = 0;
    struct ft_graph *thrice = tailored(&again, &o, NULL);
    assert_int_equal(ft_graph_nodes(thrice), ft_graph_nodes(g));
    ft_graph_free(thrice);
    ft_graph_free(twice);
    ft_graph_free(g);
    ft_model_free(m);
}

/* ---- freezing */

/* torch writes a Linear layer as MatMul and Add, with the bias in front or behind. */
static void the_last_layer_is_trained_with_its_bias_on_either_side(void **state)
{
    (void)state;
    static const char *const sums[] = {"c last.bias", "last.bias c"};
    for (size_t i = 0; i < 2; i++) {
        struct onnx_build b = {0};
        add_input(&b, "x", "n,6");
        ADD_WEIGHT(&b, "0.weight", 6, 4);
        ADD_WEIGHT(&b, "last.weight", 4, 3);
        ADD_WEIGHT(&b, "last.bias", 3);
        add_node(&b, "MatMul", "x 0.weight", "a", NULL);
        add_node(&b, "Relu", "a", "b", NULL);
        add_node(&b, "MatMul", "b last.weight", "c", NULL);
        add_node(&b, "Add", sums[i], "d", NULL);
        add_output(&b, "d", "n,3");
        struct ft_buf file = built(&b);
        struct ft_model *m = read_model(&file);
        struct ft_tailor_options o = {.freeze = "all", .keep_head = true};
        struct ft_graph *g = tailored(m, &o, NULL);
        assert_true(frozen(g, "0.weight"));
        assert_false(frozen(g, "last.bias"));
        assert_false(frozen(g, "last.weight"));
        ft_graph_free(g);
        ft_model_free(m);
        ft_buf_release(&file);
    }
}

static void freezing_takes_words_names_and_numbers(void **state)
{
    (void)state;
    static const char *const names[] = {"layer1.conv.weight", "layer1.bn.weight", "layer1.bn.running_mean",
                                        "layer2.weight", "layer2.bias"};
    static const struct {
        const char *freeze;
        const char *want; /* f = frozen, in the order of names */
    } cases[] = {{NULL, "....."},
                 {"", "....."},
                 {"false", "....."},
                 {"all", "fff.."},
                 {"True", "fff.."},
                 {"layer1", "fff.."},
                 {"n_a", "f...."},
                 {"conv_0, layer2.bias", "f...f"},
                 {"layer1.bn", ".ff.."},
                 {"batchnorm_1", ".ff.."},
                 {"1", "f...."},
                 {"2", "fff.."},
                 {"3", "fffff"},
                 {"last", "....."},
                 {"layer2.weight", "...f."},
                 {"*.bn*", ".ff.."},
                 {"layer?.weight", "...f."},
                 {"conv_*", "f..ff"},
                 {"*.weight,layer2", "ff.ff"}};
    struct ft_buf file = small_classifier("Softmax");
    struct ft_model *m = read_model(&file);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_tailor_options o = {.freeze = cases[i].freeze};
        struct ft_graph *g = tailored(m, &o, NULL);
        for (size_t k = 0; k < 5; k++) {
            if (frozen(g, names[k]) != (cases[i].want[k] == 'f')) {
                fail_msg("freeze '%s': %s", cases[i].freeze, names[k]);
            }
        }
        ft_graph_free(g);
    }
    struct ft_tailor_options o = {.freeze = "layer1,nothing"};
    REFUSES(INVALID, "'nothing'", m, &o);
    o.freeze = "layer";
    REFUSES(INVALID, "'layer'", m, &o);
    o.freeze = "layer?";
    REFUSES(INVALID, "'layer?'", m, &o);
    o.freeze = "4";
    REFUSES(INVALID, "4 layers", m, &o);
    /* With a projection everything of the model's own is frozen, nothing of what is added. */
    o = (struct ft_tailor_options){.freeze = "all", .output_dim = 4, .pooler = FT_POOLER_GEM};
    struct ft_tailor_report r;
    struct ft_graph *g = tailored(m, &o, &r);
    assert_true(frozen(g, "layer2.weight") && frozen(g, "layer2.bias"));
    assert_false(frozen(g, "gem.p") || frozen(g, "projection_head.head_layers.3.weight"));
    assert_int_equal(r.params_trainable, 1 + 36 + 12 + 24 + 8);
    ft_tailor_report_release(&r);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
}

/* ---- report */

static void the_report_tells_what_happens(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier("Softmax");
    struct ft_model *m = read_model(&file);
    struct ft_tailor_options o = {.normalize = true, .freeze = "layer1"};
    struct ft_tailor_report r;
    struct ft_graph *g = tailored(m, &o, &r);
    assert_int_equal(r.n_layers, ft_graph_nodes(m->graph) + 1);
    assert_string_equal(r.layers[0].name, "conv_0");
    assert_string_equal(r.layers[0].origin, "n_a");
    assert_int_equal(r.layers[0].params, 4 * 27);
    assert_false(r.layers[0].trainable);
    assert_int_equal(r.layers[1].params, 8);
    assert_true(r.layers[4].trainable && r.layers[4].params == 6 * 36 + 6);
    assert_false(r.layers[7].cut_away);
    assert_string_equal(r.layers[8].op, "matmul");
    assert_true(r.layers[8].cut_away && r.layers[9].cut_away && !r.layers[8].trainable);
    assert_string_equal(r.layers[10].op, "l2_normalize");
    assert_false(r.layers[10].cut_away);
    assert_string_equal(r.embedding_at, "reshape_7");
    assert_non_null(strstr(r.head, "6 -> 5"));
    assert_int_equal(r.dim, 6);
    assert_int_equal(r.params_total, 4 * 27 + 8 + 6 * 36 + 6);
    assert_int_equal(r.params_trainable, 6 * 36 + 6);
    ft_tailor_report_release(&r);
    assert_null(r.memory);
    ft_graph_free(g);
    ft_model_free(m);
    ft_buf_release(&file);
}

/* ---- refusals */

static void what_cannot_be_an_embedding_is_refused(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    struct ft_tailor_options o = {0};
    add_input(&b, "x", "1,2,3");
    ADD_INTS(&b, "target", 2, 3);
    ADD_WEIGHT(&b, "w", 3, 4);
    add_node(&b, "Reshape", "x target", "r", NULL);
    add_node(&b, "MatMul", "r w", "y", NULL);
    add_output(&b, "y", "2,4");
    struct ft_buf file = built(&b);
    struct ft_model *m = read_model(&file);
    REFUSES(UNSUPPORTED, "fixed batch of 2", m, &o);
    ft_model_free(m);
    ft_buf_release(&file);
    add_input(&b, "x", "n,3");
    add_node(&b, "Transpose", "x", "y", NULL);
    add_output(&b, "y", "3,n");
    file = built(&b);
    m = read_model(&file);
    REFUSES(UNSUPPORTED, "fixed batch", m, &o);
    ft_model_free(m);
    ft_buf_release(&file);
    m = mlp("fc.weight", NULL);
    o.output_dim = -1;
    REFUSES(USAGE, "output dim", m, &o);
    o = (struct ft_tailor_options){.projection_layers = 99};
    REFUSES(USAGE, "99 projection layers", m, &o);
    o = (struct ft_tailor_options){.gem_p = -1.0F};
    REFUSES(USAGE, "GeM", m, &o);
    ft_model_free(m);
}

static enum ft_status tailor_all(void *arg, struct ft_err *err)
{
    const struct ft_model *m = arg;
    struct ft_tailor_options o = {
        .output_dim = 3, .normalize = true, .pooler = FT_POOLER_GEM, .freeze = "layer1,1,all"};
    struct ft_graph *g = NULL;
    struct ft_tailor_report r = {0};
    enum ft_status st = ft_tailor(m, &o, &g, &r, err);
    ft_tailor_report_release(&r);
    ft_graph_free(g);
    return st;
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier("Softmax");
    struct ft_model *m = read_model(&file);
    fail_each_allocation(tailor_all, m);
    ft_model_free(m);
    ft_buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_goes_when_something_says_so),
        cmocka_unit_test(a_lone_linear_layer_is_kept),
        cmocka_unit_test(a_matmul_with_an_added_bias_is_a_head),
        cmocka_unit_test(several_outputs_are_listed),
        cmocka_unit_test(cuts_take_names_of_every_kind),
        cmocka_unit_test(poolers_replace_the_models_own),
        cmocka_unit_test(the_projection_head_is_finetuners),
        cmocka_unit_test(an_embedding_is_left_alone_but_for_what_is_asked),
        cmocka_unit_test(the_last_layer_is_trained_with_its_bias_on_either_side),
        cmocka_unit_test(freezing_takes_words_names_and_numbers),
        cmocka_unit_test(the_report_tells_what_happens),
        cmocka_unit_test(what_cannot_be_an_embedding_is_refused),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
