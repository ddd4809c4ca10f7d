/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include "executor/graph/graph.h"

/* Import of ONNX. Values are compared with onnxruntime in tests/oracle; here: the structure.
 * What is refused is in test_onnx_refusals.c, export in test_onnx_write.c. */

static const struct ft_type *type_named(const struct ft_graph *g, const char *name)
{
    ft_value v = ft_graph_find(g, name);
    if (v == FT_NO_VALUE) {
        fail_msg("there is no value '%s'", name);
    }
    return ft_graph_type(g, v);
}

#define ASSERT_TYPE(model, name, text)                                                                       \
    do {                                                                                                     \
        char type_text_[FT_TYPE_TEXT];                                                                       \
        assert_string_equal(ft_type_text(type_named((model)->graph, name), type_text_), text);               \
    } while (0)

static int count_op(const struct ft_graph *g, enum ft_op op)
{
    int n = 0;
    for (int i = 0; i < ft_graph_nodes(g); i++) {
        n += ft_graph_node(g, i)->op == op;
    }
    return n;
}

/* ---- a plain model */

static void a_cnn_has_its_parameters_and_states(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier(NULL);
    struct ft_model *m = read_model(&file);
    int states = 0;
    assert_int_equal(ft_graph_params(m->graph), 9);
    for (int i = 0; i < 9; i++) {
        states += ft_graph_param_role(m->graph, i) == FT_PARAM_STATE;
    }
    assert_int_equal(states, 2);
    assert_int_equal(m->opset, 17);
    assert_string_equal(m->producer, "by hand");
    assert_false(m->is_embedding);
    assert_null(m->prep);
    ASSERT_TYPE(m, "image", "float32 (N, 3, 8, 8)");
    ASSERT_TYPE(m, "d", "float32 (N, 4, 4, 4)");
    ASSERT_TYPE(m, "scores", "float32 (N, 5)");
    assert_string_equal(ft_graph_output_name(m->graph, 0), "scores");
    assert_string_equal(ft_graph_node(m->graph, 0)->origin, "n_a");
    ft_model_free(m);
    ft_buf_release(&file);
}

static void what_no_output_needs_is_not_there(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", NULL);
    add_node(&b, "NoSuchOp", "x", "unused", NULL);
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_nodes(m->graph), 1);
    ft_model_free(m);
}

static void nodes_may_stand_in_any_order(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_node(&b, "Relu", "b", "y", NULL);
    add_node(&b, "Tanh", "a", "b", NULL);
    add_node(&b, "Sigmoid", "x", "a", NULL);
    add_input(&b, "x", "n,4");
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_node(m->graph, 0)->op, FT_OP_SIGMOID);
    assert_int_equal(ft_graph_node(m->graph, 2)->op, FT_OP_RELU);
    ft_model_free(m);
}

/* ---- weights */

static void merged_weights_are_parted_and_shared_ones_stay_shared(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    ADD_WEIGHT(&b, "w", 4, 4);
    add_input(&b, "x", "n,4");
    add_node(&b, "Identity", "w", "copy", NULL);
    add_node(&b, "MatMul", "x w", "a", NULL);
    add_node(&b, "MatMul", "a copy", "b", NULL);
    add_node(&b, "MatMul", "b w", "y", NULL);
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_params(m->graph), 2);
    static const char *const weights[] = {"w", "copy", "w"};
    for (int n = 0; n < 3; n++) {
        assert_string_equal(ft_graph_name(m->graph, ft_graph_node(m->graph, n)->in[1]), weights[n]);
    }
    ft_model_free(m);
}

static void a_transposed_weight_stays_a_parameter(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    ADD_WEIGHT(&b, "fc.weight", 3, 4);
    add_input(&b, "x", "n,4");
    ATTR_INTS(&attrs, "perm", 1, 0);
    add_node(&b, "Transpose", "fc.weight", "t", &attrs);
    add_node(&b, "MatMul", "x t", "y", NULL);
    add_output(&b, "y", "n,3");
    struct ft_model *m = read_built(&b);
    ASSERT_TYPE(m, "fc.weight", "float32 (4, 3)");
    assert_int_equal(ft_graph_params(m->graph), 1);
    assert_int_equal(count_op(m->graph, FT_OP_TRANSPOSE), 0);
    const float *t = ft_graph_data(m->graph, ft_graph_find(m->graph, "fc.weight"));
    struct ft_rand r = ft_rand_at(strlen("fc.weight"), FT_RAND_TEST, 'f');
    assert_true(t[1 * 3 + 2] == ft_rand_float(r, 2 * 4 + 1));
    ft_model_free(m);
}

static void a_tied_weight_stays_tied_through_a_transpose(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    ADD_WEIGHT(&b, "w", 4, 4);
    add_input(&b, "x", "n,4");
    add_node(&b, "Transpose", "w", "t", NULL);
    add_node(&b, "MatMul", "x t", "a", NULL);
    add_node(&b, "MatMul", "a w", "y", NULL);
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_params(m->graph), 1);
    assert_int_equal(count_op(m->graph, FT_OP_TRANSPOSE), 1);
    ft_model_free(m);
}

static void a_buffer_is_a_constant_and_a_bias_a_parameter(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    ADD_WEIGHT(&b, "mean", 4);
    ADD_WEIGHT(&b, "onnx::Add_7", 4);
    ADD_WEIGHT(&b, "w", 4, 4);
    add_input(&b, "x", "n,4");
    add_node(&b, "Sub", "x mean", "a", NULL);
    add_node(&b, "MatMul", "a w", "c", NULL);
    add_node(&b, "Add", "onnx::Add_7 c", "y", NULL);
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_params(m->graph), 2);
    assert_int_equal(ft_graph_source(m->graph, ft_graph_find(m->graph, "mean")), FT_FROM_CONST);
    assert_int_equal(ft_graph_source(m->graph, ft_graph_find(m->graph, "onnx::Add_7")), FT_FROM_PARAM);
    ft_model_free(m);
}

static void old_files_list_initializers_as_inputs(void **state)
{
    (void)state;
    struct onnx_build b = {.ir = 3, .opset = 9};
    ADD_WEIGHT(&b, "w", 4, 4);
    add_input(&b, "x", "n,4");
    add_input(&b, "w", "4,4");
    add_node(&b, "MatMul", "x w", "y", NULL);
    add_output(&b, "y", "n,4");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_inputs(m->graph), 1);
    assert_int_equal(ft_graph_params(m->graph), 1);
    ft_model_free(m);
}

/* One weight of six values in every element type that becomes float; 1.5, -2, 0.25 and 65504 are exact in all
 * but bfloat16's last. */
static void element_types_are_widened(void **state)
{
    (void)state;
    static const float want[4] = {1.5F, -2.0F, 0.25F, 0x1p-24F};
    static const double f64[4] = {1.5, -2.0, 0.25, 0x1p-24};
    static const uint16_t f16[4] = {0x3e00, 0xc000, 0x3400, 0x0001};
    static const uint16_t bf16[4] = {0x3fc0, 0xc000, 0x3e80, 0x3380};
    const struct {
        int32_t type;
        const void *raw;
        size_t size;
    } forms[] = {
        {1, want, sizeof want}, {11, f64, sizeof f64}, {10, f16, sizeof f16}, {16, bf16, sizeof bf16}};
    const int64_t dims[2] = {4, 1};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct onnx_build b = {0};
        add_raw(&b, "w", forms[i].type, 2, dims, forms[i].raw, forms[i].size);
        add_input(&b, "x", "n,4");
        add_node(&b, "MatMul", "x w", "y", NULL);
        add_output(&b, "y", "n,1");
        struct ft_model *m = read_built(&b);
        assert_memory_equal(ft_graph_data(m->graph, ft_graph_find(m->graph, "w")), want, sizeof want);
        ft_model_free(m);
    }
}

static void typed_fields_are_read(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct onnx_build b = {0};
    struct ft_buf t = {0};
    put_int(&t, 1, 4);
    put_int(&t, 1, 1);
    put_int(&t, 2, 1);
    put_text(&t, 8, "w");
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(ft_pb_put_float(&t, 4, (float)i, &err)); /* not packed */
    }
    put_part(&b.graph, 5, &t);
    put_int(&t, 1, 2);
    put_int(&t, 2, 7);
    put_text(&t, 8, "shape");
    ASSERT_OK(ft_pb_put_packed(&t, 7, (const int64_t[]){-1, 1}, 2, &err));
    put_part(&b.graph, 5, &t);
    add_input(&b, "x", "n,4");
    add_node(&b, "MatMul", "x w", "a", NULL);
    add_node(&b, "Reshape", "a shape", "y", NULL);
    add_output(&b, "y", "n,1");
    struct ft_model *m = read_built(&b);
    const float *w = ft_graph_data(m->graph, ft_graph_find(m->graph, "w"));
    assert_true(w[0] == 0.0F && w[3] == 3.0F);
    ft_model_free(m);
}

/* ---- shapes */

/* Shape -> Gather -> Unsqueeze -> Concat -> Reshape with the batch unknown, as x.view(x.size(0), -1) is
 * exported. */
static void shape_arithmetic_works_before_the_batch_is_known(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,2,3,4");
    add_raw(&b, "zero", 7, 0, NULL, (const int64_t[]){0}, 8);
    ADD_INTS(&b, "first", 0);
    ADD_INTS(&b, "rest", -1);
    ADD_INTS(&b, "two", 2);
    add_node(&b, "Shape", "x", "s", NULL);
    add_node(&b, "Gather", "s zero", "n", NULL);
    add_node(&b, "Unsqueeze", "n first", "n1", NULL);
    add_node(&b, "Mul", "n1 two", "n2", NULL);
    add_node(&b, "Div", "n2 two", "n3", NULL);
    struct ft_buf attrs = {0};
    attr_int(&attrs, "axis", 0);
    add_node(&b, "Concat", "n3 rest", "target", &attrs);
    add_node(&b, "Reshape", "x target", "y", NULL);
    add_output(&b, "y", "n,24");
    struct ft_model *m = read_built(&b);
    ASSERT_TYPE(m, "y", "float32 (N, 24)");
    assert_int_equal(ft_graph_nodes(m->graph), 1);
    ft_model_free(m);
}

static void reshape_knows_zero_and_allowzero(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    add_input(&b, "x", "n,6");
    ADD_INTS(&b, "target", 0, 2, -1);
    add_node(&b, "Reshape", "x target", "y", NULL);
    add_output(&b, "y", "n,2,3");
    struct ft_model *m = read_built(&b);
    ASSERT_TYPE(m, "y", "float32 (N, 2, 3)");
    ft_model_free(m);
    add_input(&b, "x", "n,6");
    ADD_INTS(&b, "target", 0, 6);
    attr_int(&attrs, "allowzero", 1);
    add_node(&b, "Reshape", "x target", "y", &attrs);
    add_output(&b, "y", "n,6");
    FAILS_READ(UNSUPPORTED, "empty", &b);
    add_input(&b, "x", "n,6");
    ADD_INTS(&b, "target", 4, -1);
    add_node(&b, "Reshape", "x target", "y", NULL);
    add_output(&b, "y", "4,?");
    FAILS_READ(INVALID, "divide", &b);
}

static void a_fixed_batch_becomes_symbolic_when_that_holds(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "1,2,3");
    ADD_INTS(&b, "target", 1, -1);
    add_node(&b, "Reshape", "x target", "y", NULL);
    add_output(&b, "y", "1,6");
    struct ft_model *m = read_built(&b);
    ASSERT_TYPE(m, "y", "float32 (N, 6)");
    ft_model_free(m);
    /* Here it does not: the leading axis is no batch any more. */
    add_input(&b, "x", "1,2,3");
    ADD_INTS(&b, "target", 2, 3);
    add_node(&b, "Reshape", "x target", "y", NULL);
    add_output(&b, "y", "2,3");
    m = read_built(&b);
    ASSERT_TYPE(m, "x", "float32 (1, 2, 3)");
    ft_model_free(m);
}

static void other_symbolic_axes_need_the_option(void **state)
{
    (void)state;
    struct ft_err err = {0};
    static const struct {
        const char *option;
        enum ft_status want;
        const char *part;
    } cases[] = {{"N,3,8,10", FT_OK, "float32 (N, 3, 8, 10)"},
                 {"height=8,width=10", FT_OK, "float32 (N, 3, 8, 10)"},
                 {"2,3,8,10", FT_OK, "float32 (2, 3, 8, 10)"},
                 {NULL, FT_UNSUPPORTED, "--input-shape"},
                 {"height=8", FT_UNSUPPORTED, "width"},
                 {"N,3,eight,10", FT_USAGE, "eight"},
                 {"N,3,0,10", FT_USAGE, "'0'"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct onnx_build b = {0};
        struct ft_model_options options = {.input_shape = cases[i].option};
        struct ft_model *m = NULL;
        add_input(&b, "x", "n,3,height,width");
        add_node(&b, "Relu", "x", "y", NULL);
        add_output(&b, "y", "n,3,height,width");
        struct ft_buf file = built(&b);
        enum ft_status st = ft_onnx_read(ft_buf_bytes(&file), NULL, &options, &m, &err);
        assert_int_equal(st, cases[i].want);
        if (st == FT_OK) {
            ASSERT_TYPE(m, "x", cases[i].part);
        } else if (strstr(err.text, cases[i].part) == NULL) {
            fail_msg("'%s' does not tell of '%s'", err.text, cases[i].part);
        }
        ft_err_clear(&err);
        ft_model_free(m);
        ft_buf_release(&file);
    }
}

/* ---- op by op: what old and new forms become */

struct form {
    const char *op, *more; /* inputs after x */
    int64_t opset;
    void (*attrs)(struct ft_buf *a);
    enum ft_op want;
    const char *type; /* of y for x (N, 4, 6, 6) */
};

static void axes_2_3(struct ft_buf *a)
{
    ATTR_INTS(a, "axes", 2, -1);
}
static void same_upper(struct ft_buf *a)
{
    ATTR_INTS(a, "kernel_shape", 3, 3);
    ATTR_INTS(a, "strides", 4, 4);
    attr_text(a, "auto_pad", "SAME_UPPER");
}
static void valid(struct ft_buf *a)
{
    ATTR_INTS(a, "kernel_shape", 3, 3);
    attr_text(a, "auto_pad", "VALID");
}
static void ceil_mode(struct ft_buf *a)
{
    ATTR_INTS(a, "kernel_shape", 3, 3);
    ATTR_INTS(a, "strides", 2, 2);
    attr_int(a, "ceil_mode", 1);
}
static void min_max(struct ft_buf *a)
{
    attr_float(a, "min", 0.0F);
    attr_float(a, "max", 6.0F);
}
static void axis_1(struct ft_buf *a)
{
    attr_int(a, "axis", 1);
}
static void slice_attrs(struct ft_buf *a)
{
    ATTR_INTS(a, "starts", 1);
    ATTR_INTS(a, "ends", -1);
    ATTR_INTS(a, "axes", 2);
}
static void keep_no_dims(struct ft_buf *a)
{
    attr_int(a, "keepdims", 0);
}

static void old_and_new_forms_of_ops(void **state)
{
    (void)state;
    static const struct form forms[] = {
        {"ReduceMean", "", 13, axes_2_3, FT_OP_REDUCE_MEAN, "float32 (N, 4, 1, 1)"},
        {"ReduceMean", "axes23", 18, keep_no_dims, FT_OP_REDUCE_MEAN, "float32 (N, 4)"},
        {"ReduceSum", "axes23", 13, NULL, FT_OP_REDUCE_SUM, "float32 (N, 4, 1, 1)"},
        {"ReduceSum", "", 11, axes_2_3, FT_OP_REDUCE_SUM, "float32 (N, 4, 1, 1)"},
        {"MaxPool", "", 12, same_upper, FT_OP_MAXPOOL, "float32 (N, 4, 2, 2)"},
        {"AveragePool", "", 11, valid, FT_OP_AVGPOOL, "float32 (N, 4, 4, 4)"},
        {"AveragePool", "", 19, ceil_mode, FT_OP_AVGPOOL, "float32 (N, 4, 3, 3)"},
        {"MaxPool", "", 10, ceil_mode, FT_OP_MAXPOOL, "float32 (N, 4, 3, 3)"},
        {"GlobalMaxPool", "", 17, NULL, FT_OP_MAXPOOL, "float32 (N, 4, 1, 1)"},
        {"Clip", "", 9, min_max, FT_OP_CLIP, "float32 (N, 4, 6, 6)"},
        {"Clip", "lo hi", 11, NULL, FT_OP_CLIP, "float32 (N, 4, 6, 6)"},
        {"Clip", "_ hi", 13, NULL, FT_OP_CLIP, "float32 (N, 4, 6, 6)"},
        {"Max", "lo", 13, NULL, FT_OP_CLIP, "float32 (N, 4, 6, 6)"},
        {"Mul", "hi", 13, NULL, FT_OP_SCALE, "float32 (N, 4, 6, 6)"},
        {"Pow", "hi", 13, NULL, FT_OP_POW, "float32 (N, 4, 6, 6)"},
        {"Softmax", "", 11, axis_1, FT_OP_SOFTMAX, "float32 (N, 4, 6, 6)"},
        {"Softmax", "", 13, NULL, FT_OP_SOFTMAX, "float32 (N, 4, 6, 6)"},
        {"Slice", "", 9, slice_attrs, FT_OP_SLICE, "float32 (N, 4, 4, 6)"},
        {"Slice", "one minus1 axis2", 10, NULL, FT_OP_SLICE, "float32 (N, 4, 4, 6)"},
        {"Gather", "one0", 13, axis_1, FT_OP_SLICE, "float32 (N, 6, 6)"},
        {"Squeeze", "none", 13, NULL, FT_OP_COUNT, "float32 (N, 4, 6, 6)"},
        {"Dropout", "half false0", 13, NULL, FT_OP_COUNT, "float32 (N, 4, 6, 6)"},
        {"Dropout", "", 10, NULL, FT_OP_COUNT, "float32 (N, 4, 6, 6)"},
        {"Dropout", "half true0", 13, NULL, FT_OP_DROPOUT, "float32 (N, 4, 6, 6)"},
        {"Unsqueeze", "axis2", 13, NULL, FT_OP_RESHAPE, "float32 (N, 4, 1, 6, 6)"},
        {"LeakyRelu", "", 17, NULL, FT_OP_LEAKY_RELU, "float32 (N, 4, 6, 6)"},
        {"HardSwish", "", 14, NULL, FT_OP_MAP, "float32 (N, 4, 6, 6)"},
        {"LpNormalization", "", 17, NULL, FT_OP_L2_NORMALIZE, "float32 (N, 4, 6, 6)"},
        {"Flatten", "", 17, axis_1, FT_OP_RESHAPE, "float32 (N, 144)"},
        {"Transpose", "", 17, NULL, FT_OP_TRANSPOSE, "float32 (6, 6, 4, N)"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const struct form *f = &forms[i];
        struct onnx_build b = {.opset = f->opset};
        struct ft_buf attrs = {0};
        char in[80];
        char text[FT_TYPE_TEXT];
        add_input(&b, "x", "n,4,6,6");
        ADD_INTS(&b, "axes23", 2, 3);
        ADD_INTS(&b, "one", 1);
        ADD_INTS(&b, "minus1", -1);
        ADD_INTS(&b, "axis2", 2);
        add_ints(&b, "none", 0, NULL);
        add_raw(&b, "one0", 7, 0, NULL, (const int64_t[]){1}, 8);
        add_raw(&b, "true0", 9, 0, NULL, (const uint8_t[]){1}, 1);
        add_raw(&b, "false0", 9, 0, NULL, (const uint8_t[]){0}, 1);
        add_number(&b, "lo", 0.0F);
        add_number(&b, "hi", 6.0F);
        add_number(&b, "half", 0.25F);
        (void)snprintf(in, sizeof in, "x%s%s", f->more[0] != '\0' ? " " : "", f->more);
        if (f->attrs != NULL) {
            f->attrs(&attrs);
        }
        add_node(&b, f->op, in, "y", &attrs);
        add_node(&b, "Relu", "y", "z", NULL);
        add_output(&b, "z", "?");
        struct ft_model *m = read_built(&b);
        const struct ft_type *t = ft_graph_type(m->graph, ft_graph_output_at(m->graph, 0));
        if (strcmp(ft_type_text(t, text), f->type) != 0) {
            fail_msg("%s (opset %d): %s, wanted %s", f->op, (int)f->opset, text, f->type);
        }
        if (f->want == FT_OP_COUNT ? ft_graph_nodes(m->graph) != 1 : count_op(m->graph, f->want) != 1) {
            fail_msg("%s (opset %d) became %d nodes", f->op, (int)f->opset, ft_graph_nodes(m->graph));
        }
        assert_int_equal(ft_graph_inputs(m->graph), f->want == FT_OP_DROPOUT ? 2 : 1);
        ft_model_free(m);
    }
}

static void gemm_adds_what_is_no_bias_by_broadcasting(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    add_input(&b, "x", "n,4");
    ADD_WEIGHT(&b, "w", 4, 3);
    ADD_WEIGHT(&b, "c", 1, 3);
    attr_float(&attrs, "alpha", 0.5F);
    attr_float(&attrs, "beta", 2.0F);
    add_node(&b, "Gemm", "x w c", "y", &attrs);
    add_output(&b, "y", "n,3");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_nodes(m->graph), 3);
    assert_true(ft_graph_node(m->graph, 0)->attrs.alpha == 0.5F);
    assert_int_equal(ft_graph_node(m->graph, 1)->op, FT_OP_SCALE);
    assert_int_equal(ft_graph_params(m->graph), 2);
    ft_model_free(m);
}

static void labels_at_the_end_are_taken_off(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    ADD_WEIGHT(&b, "w", 4, 3);
    add_node(&b, "MatMul", "x w", "scores", NULL);
    add_node(&b, "ArgMax", "scores", "class", NULL);
    add_node_in(&b, "ai.onnx.ml", "ZipMap", "scores", "map", NULL);
    add_output(&b, "class", "n");
    add_output(&b, "map", "n");
    add_output(&b, "scores", "n,3");
    struct ft_model *m = read_built(&b);
    assert_int_equal(ft_graph_outputs(m->graph), 1);
    assert_string_equal(ft_graph_output_name(m->graph, 0), "scores");
    ft_model_free(m);
}

/* ONNX weighs the old statistics, PyTorch and ops.def the new ones. */
static void the_momentum_of_a_batchnorm_is_kept(void **state)
{
    (void)state;
    static const struct {
        float onnx, want;
    } cases[] = {{0.9F, 0.1F}, {0.99F, 0.01F}, {0.0F, 1.0F}, {1.0F, 0.0F}, {-1.0F, 0.1F}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ft_err err = {0};
        struct onnx_build b = {0};
        struct ft_buf attrs = {0};
        struct ft_buf written = {0};
        add_input(&b, "x", "n,4");
        ADD_WEIGHT(&b, "s", 4);
        ADD_WEIGHT(&b, "t", 4);
        ADD_WEIGHT(&b, "m", 4);
        ADD_WEIGHT(&b, "v", 4);
        if (cases[i].onnx >= 0.0F) { /* else: not given */
            attr_float(&attrs, "momentum", cases[i].onnx);
        }
        add_node(&b, "BatchNormalization", "x s t m v", "y", &attrs);
        add_output(&b, "y", "n,4");
        struct ft_model *m = read_built(&b);
        assert_true(ft_graph_node(m->graph, 0)->attrs.momentum == cases[i].want);
        ASSERT_OK(ft_onnx_write(m->graph, "again", NULL, &written, &err));
        struct ft_model *again = read_model(&written);
        assert_true(ft_graph_node(again->graph, 0)->attrs.momentum == cases[i].want);
        ft_model_free(again);
        ft_model_free(m);
        ft_buf_release(&written);
    }
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    add_input(&b, "x", "n,4");
    ADD_WEIGHT(&b, "s", 4);
    attr_float(&attrs, "momentum", 1.5F);
    add_node(&b, "BatchNormalization", "x s s s s", "y", &attrs);
    add_output(&b, "y", "n,4");
    FAILS_READ(INVALID, "momentum 1.5", &b);
}

static void training_mode_batchnorm_is_the_same_model(void **state)
{
    (void)state;
    for (int read_statistics = 0; read_statistics < 2; read_statistics++) {
        struct onnx_build b = {0};
        struct ft_buf attrs = {0};
        add_input(&b, "x", "n,4");
        ADD_WEIGHT(&b, "s", 4);
        ADD_WEIGHT(&b, "t", 4);
        ADD_WEIGHT(&b, "m", 4);
        ADD_WEIGHT(&b, "v", 4);
        attr_int(&attrs, "training_mode", 1);
        add_node(&b, "BatchNormalization", "x s t m v", "y mean var", &attrs);
        add_output(&b, "y", "n,4");
        if (read_statistics) {
            b.opset = 13; /* other outputs, of other meaning, than since 14 */
            add_output(&b, "mean", "4");
            FAILS_READ(UNSUPPORTED, "statistics", &b);
            continue;
        }
        struct ft_model *m = read_built(&b);
        assert_int_equal(ft_graph_node(m->graph, 0)->op, FT_OP_BATCHNORM);
        ft_model_free(m);
    }
}

/* Where an op does not say what its input is, the name tells a parameter from a buffer. */
static void parameters_are_known_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool param;
    } cases[] = {{"encoder.class_token", true},   {"class_token", true},      {"1.layer_scale", true},
                 {"encoder.pos_embedding", true}, {"a.weight", true},         {"onnx::Mul_3", false},
                 {"running_mean", false},         {"my_class_tokens", false}, {"not_a_class_token", false},
                 {"x.subclass_token", false},     {"x.attn_mask", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct onnx_build b = {.opset = 17};
        struct ft_buf attrs = {0};
        char in[64];
        add_input(&b, "x", "n,2,4");
        ADD_WEIGHT(&b, cases[i].name, 1, 1, 4);
        (void)snprintf(in, sizeof in, "x %s", cases[i].name);
        add_node(&b, "Mul", in, "y", &attrs);
        add_output(&b, "y", "n,2,4");
        struct ft_model *m = read_built(&b);
        if (ft_graph_params(m->graph) != (cases[i].param ? 1 : 0)) {
            fail_msg("%s: %d parameters", cases[i].name, ft_graph_params(m->graph));
        }
        ft_model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cnn_has_its_parameters_and_states),
        cmocka_unit_test(what_no_output_needs_is_not_there),
        cmocka_unit_test(nodes_may_stand_in_any_order),
        cmocka_unit_test(merged_weights_are_parted_and_shared_ones_stay_shared),
        cmocka_unit_test(a_transposed_weight_stays_a_parameter),
        cmocka_unit_test(a_tied_weight_stays_tied_through_a_transpose),
        cmocka_unit_test(a_buffer_is_a_constant_and_a_bias_a_parameter),
        cmocka_unit_test(old_files_list_initializers_as_inputs),
        cmocka_unit_test(element_types_are_widened),
        cmocka_unit_test(typed_fields_are_read),
        cmocka_unit_test(shape_arithmetic_works_before_the_batch_is_known),
        cmocka_unit_test(reshape_knows_zero_and_allowzero),
        cmocka_unit_test(a_fixed_batch_becomes_symbolic_when_that_holds),
        cmocka_unit_test(other_symbolic_axes_need_the_option),
        cmocka_unit_test(old_and_new_forms_of_ops),
        cmocka_unit_test(gemm_adds_what_is_no_bias_by_broadcasting),
        cmocka_unit_test(labels_at_the_end_are_taken_off),
        cmocka_unit_test(the_momentum_of_a_batchnorm_is_kept),
        cmocka_unit_test(training_mode_batchnorm_is_the_same_model),
        cmocka_unit_test(parameters_are_known_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
