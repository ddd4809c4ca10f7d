/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include "executor/graph/graph.h"

/* Export of ONNX, read back; and every allocation of both ways failing once. */

static void written_models_read_back_the_same(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf file = small_classifier("LogSoftmax");
    struct ft_model *m = read_model(&file);
    struct ft_buf once = {0};
    struct ft_buf twice = {0};
    ASSERT_OK(ft_onnx_write(m->graph, "g", NULL, &once, &err));
    struct ft_model *again = read_model(&once);
    assert_int_equal(ft_graph_nodes(again->graph), ft_graph_nodes(m->graph));
    for (int i = 0; i < ft_graph_nodes(m->graph); i++) {
        const struct ft_node *a = ft_graph_node(m->graph, i);
        const struct ft_node *b = ft_graph_node(again->graph, i);
        assert_int_equal(a->op, b->op);
        assert_memory_equal(&a->attrs, &b->attrs, sizeof a->attrs);
        assert_string_equal(a->origin, b->origin);
    }
    assert_int_equal(again->opset, 17);
    assert_int_equal(ft_graph_params(again->graph), ft_graph_params(m->graph));
    for (int i = 0; i < ft_graph_params(m->graph); i++) {
        ft_value v = ft_graph_param_at(m->graph, i);
        ft_value there = ft_graph_find(again->graph, ft_graph_name(m->graph, v));
        assert_int_equal(ft_graph_param_role(again->graph, ft_graph_param_of(again->graph, there)),
                         ft_graph_param_role(m->graph, i));
        assert_memory_equal(ft_graph_data(again->graph, there), ft_graph_data(m->graph, v),
                            ft_type_bytes(ft_graph_type(m->graph, v)));
    }
    ASSERT_OK(ft_onnx_write(again->graph, "g", NULL, &twice, &err));
    assert_int_equal(once.size, twice.size);
    assert_memory_equal(once.data, twice.data, once.size);
    ft_model_free(again);
    ft_model_free(m);
    ft_buf_release(&once);
    ft_buf_release(&twice);
    ft_buf_release(&file);
}

static void properties_come_back(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf file = small_classifier(NULL);
    struct ft_model *m = read_model(&file);
    struct ft_json *o = NULL;
    struct ft_buf out = {0};
    ASSERT_OK(ft_json_parse(
        ft_bytes_of_text(
            "{\"finetuner.prep\":\"{\\\"kind\\\":\\\"image\\\"}\",\"finetuner.embedding\":\"true\","
            "\"note\":\"n\"}"),
        &o, &err));
    ASSERT_OK(ft_onnx_write(m->graph, "g", o, &out, &err));
    struct ft_model *again = read_model(&out);
    assert_true(again->is_embedding);
    assert_string_equal(ft_json_text(ft_json_get(again->prep, "kind"), NULL), "image");
    assert_string_equal(ft_json_text(ft_json_get(again->meta, "note"), NULL), "n");
    ft_model_free(again);
    ft_json_free(o);
    ASSERT_OK(ft_json_parse(ft_bytes_of_text("{\"a\":1}"), &o, &err));
    size_t size = out.size;
    assert_int_equal(ft_onnx_write(m->graph, "g", o, &out, &err), FT_INVALID);
    assert_int_equal(out.size, size);
    ft_json_free(o);
    ft_model_free(m);
    ft_buf_release(&out);
    ft_buf_release(&file);
}

/* An output that is an input, one value under two names, a name that somebody else has, and dropout. */
static void odd_outputs_are_written(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    const int64_t two[1] = {2};
    struct ft_type rng_type = ft_type_of(FT_I64, 1, two);
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, 4});
    ft_value x = FT_NO_VALUE;
    ft_value rng = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    ft_value results[FT_MAX_OUTPUTS];
    struct ft_attrs attrs;
    struct ft_buf out = {0};
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 0.5F;
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
    ASSERT_OK(ft_graph_input(g, "rng", &rng_type, &rng, &err));
    ASSERT_OK(ft_graph_add(g, FT_OP_DROPOUT, &attrs, (const ft_value[]){x, rng}, 2, "drop", results, &err));
    ASSERT_OK(ft_graph_add1(g, FT_OP_RELU, results[0], &y, &err));
    ASSERT_OK(ft_graph_rename(g, y, "embedding", &err));
    ASSERT_OK(ft_graph_output(g, x, "same", &err));
    ASSERT_OK(ft_graph_output(g, results[0], "embedding", &err));
    ASSERT_OK(ft_graph_output(g, y, "a", &err));
    ASSERT_OK(ft_graph_output(g, y, "b", &err));
    ASSERT_OK(ft_onnx_write(g, "odd", NULL, &out, &err));
    struct ft_model *m = read_model(&out);
    assert_int_equal(ft_graph_inputs(m->graph), 1);
    assert_int_equal(ft_graph_nodes(m->graph), 1);
    assert_int_equal(ft_graph_outputs(m->graph), 4);
    assert_int_equal(ft_graph_output_at(m->graph, 0), ft_graph_output_at(m->graph, 1));
    assert_int_equal(ft_graph_output_at(m->graph, 2), ft_graph_output_at(m->graph, 3));
    ft_model_free(m);
    ft_buf_release(&out);
    ft_graph_clear_outputs(g);
    ASSERT_OK(ft_graph_output(g, y, "x", &err));
    assert_int_equal(ft_onnx_write(g, "odd", NULL, &out, &err), FT_INVALID);
    ft_graph_free(g);
    ft_buf_release(&out);
}

static void ops_of_training_are_not_written(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){3, 4});
    ft_value x = FT_NO_VALUE;
    ft_value y = FT_NO_VALUE;
    struct ft_buf out = {0};
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
    ASSERT_OK(ft_graph_add2(g, FT_OP_PDIST, x, x, &y, &err));
    ASSERT_OK(ft_graph_output(g, y, "d", &err));
    assert_int_equal(ft_onnx_write(g, "g", NULL, &out, &err), FT_UNSUPPORTED);
    assert_non_null(strstr(err.text, "pdist"));
    ft_graph_free(g);
    ft_buf_release(&out);
}

/* ---- out of memory */

static enum ft_status read_and_write(void *arg, struct ft_err *err)
{
    const struct ft_buf *file = arg;
    struct ft_model *m = NULL;
    struct ft_buf out = {0};
    enum ft_status st = FT_OK;
    FT_TRY(ft_onnx_read(ft_buf_bytes(file), NULL, NULL, &m, err));
    FT_TRY(ft_onnx_write(m->graph, "g", m->meta, &out, err));
done:
    ft_model_free(m);
    ft_buf_release(&out);
    return st;
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier("Softmax");
    fail_each_allocation(read_and_write, &file);
    ft_buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_models_read_back_the_same),
        cmocka_unit_test(properties_come_back),
        cmocka_unit_test(odd_outputs_are_written),
        cmocka_unit_test(ops_of_training_are_not_written),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
