/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include <stdlib.h>

/* Import of ONNX: what is refused, with which status and words, and the limits. */

static void unsupported_nodes_are_told_all_at_once(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    add_node(&b, "NonZero", "x", "a", NULL);
    add_node_in(&b, "com.microsoft", "BiasGelu", "a", "b", NULL);
    add_node_in(&b, "ai.onnx.ml", "Imputer", "b", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(UNSUPPORTED,
               "3 unsupported nodes: NonZero 'n_a', com.microsoft::BiasGelu 'n_b', ai.onnx.ml::Imputer 'n_y'",
               &b);
    /* What only turns out during conversion is collected too. */
    add_input(&b, "x", "n,3,8,8");
    add_raw(&b, "pads", 7, 1, (const int64_t[]){8}, (const int64_t[]){1, 0, 1, 1, 0, 0, 1, 1}, 64);
    add_node(&b, "Pad", "x pads", "a", NULL);
    add_node(&b, "Reshape", "x x", "b", NULL); /* to a shape that depends on data */
    add_node(&b, "Add", "a b", "c", NULL);
    add_output(&b, "c", "?");
    FAILS_READ(UNSUPPORTED, "2 unsupported nodes", &b);
}

static void broken_links_are_refused(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    add_node(&b, "Add", "x nowhere", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(INVALID, "'nowhere', which nothing makes", &b);

    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", NULL);
    add_node(&b, "Tanh", "x", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(INVALID, "'y' is defined twice", &b);

    add_input(&b, "x", "n,4");
    add_node(&b, "Add", "x b", "a", NULL);
    add_node(&b, "Relu", "a", "b", NULL);
    add_output(&b, "b", "n,4");
    FAILS_READ(INVALID, "cycle", &b);

    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", NULL);
    add_output(&b, "z", "n,4");
    FAILS_READ(INVALID, "output 'z'", &b);

    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "_", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(INVALID, "input 0 is missing", &b);

    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", NULL);
    FAILS_READ(INVALID, "no outputs", &b);

    add_input(&b, "x", "n,4");
    ADD_WEIGHT(&b, "w", 4);
    add_node(&b, "Relu", "x", "y", NULL);
    add_output(&b, "w", "4");
    FAILS_READ(UNSUPPORTED, "does not depend on the inputs", &b);
}

static void broken_tensors_are_refused(void **state)
{
    (void)state;
    static const float few[3] = {1, 2, 3};
    static const struct {
        int32_t type;
        int64_t dims[2];
        size_t size;
        enum ft_status want;
        const char *part;
    } cases[] = {{1, {4, 1}, sizeof few, FT_CORRUPT, "asks for 4 elements"},
                 {1, {-4, 1}, sizeof few, FT_LIMIT, "negative"},
                 {1, {INT64_MAX, INT64_MAX}, sizeof few, FT_LIMIT, "tensor 'w'"},
                 {1, {1LL << 33, 1}, sizeof few, FT_CORRUPT, "asks for"},
                 {8, {4, 1}, sizeof few, FT_UNSUPPORTED, "type 8"},
                 {1, {3, 0}, 0, FT_UNSUPPORTED, "empty"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct onnx_build b = {0};
        struct ft_err err = {0};
        struct ft_model *m = NULL;
        add_raw(&b, "w", cases[i].type, 2, cases[i].dims, few, cases[i].size);
        add_input(&b, "x", "n,4");
        add_node(&b, "MatMul", "x w", "y", NULL);
        add_output(&b, "y", "n,1");
        struct ft_buf file = built(&b);
        assert_int_equal(ft_onnx_read(ft_buf_bytes(&file), NULL, NULL, &m, &err), cases[i].want);
        if (strstr(err.text, cases[i].part) == NULL) {
            fail_msg("'%s' does not tell of '%s'", err.text, cases[i].part);
        }
        ft_buf_release(&file);
    }
}

static void a_tensor_of_too_many_dimensions_is_named(void **state)
{
    (void)state;
    static const int64_t dims[] = {1, 1, 1, 1, 1, 1, 1, 1, 4};
    static const float row[4] = {0};
    struct onnx_build b = {0};
    add_raw(&b, "deep.weight", 1, 9, dims, row, sizeof row);
    add_input(&b, "x", "n,4");
    add_node(&b, "Add", "x deep.weight", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(UNSUPPORTED, "tensor 'deep.weight': more than 8 dimensions", &b);
}

static void opsets_outside_are_refused(void **state)
{
    (void)state;
    static const int64_t opsets[] = {6, 28, 7, 27};
    for (size_t i = 0; i < 4; i++) {
        struct onnx_build b = {.opset = opsets[i]};
        add_input(&b, "x", "n,4");
        add_node(&b, "Relu", "x", "y", NULL);
        add_output(&b, "y", "n,4");
        if (i < 2) {
            FAILS_READ(UNSUPPORTED, "opset", &b);
        } else {
            ft_model_free(read_built(&b));
        }
    }
}

/* Opset 7 could normalise each position by itself. */
static void spatial_zero_is_refused(void **state)
{
    (void)state;
    struct onnx_build b = {.opset = 7};
    add_input(&b, "x", "n,4,2,2");
    ADD_WEIGHT(&b, "scale", 4);
    ADD_WEIGHT(&b, "bias", 4);
    ADD_WEIGHT(&b, "mean", 4);
    ADD_WEIGHT(&b, "var", 4);
    struct ft_buf attrs = {0};
    attr_int(&attrs, "spatial", 0);
    add_node(&b, "BatchNormalization", "x scale bias mean var", "y", &attrs);
    add_output(&b, "y", "n,4,2,2");
    FAILS_READ(UNSUPPORTED, "spatial = 0", &b);
}

static void wrong_shapes_name_the_node(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    ADD_WEIGHT(&b, "w", 5, 3);
    add_node(&b, "MatMul", "x w", "y", NULL);
    add_output(&b, "y", "n,3");
    FAILS_READ(INVALID, "n_y", &b);
    add_input(&b, "x", "n,3,8,8");
    ADD_WEIGHT(&b, "w", 4, 2, 3, 3);
    add_node(&b, "Conv", "x w", "y", NULL);
    add_output(&b, "y", "?");
    FAILS_READ(INVALID, "x has 3 channels", &b);
    add_input(&b, "x", "n,3,4,4,8,8");
    ADD_WEIGHT(&b, "w", 4, 3, 3, 3, 3, 3);
    add_node(&b, "Conv", "x w", "y", NULL);
    add_output(&b, "y", "?");
    FAILS_READ(UNSUPPORTED, "windows over 4 axes; 1 to 3 are done", &b);
}

static void absurd_constants_are_not_computed(void **state)
{
    (void)state;
    struct onnx_build b = {0};
    add_input(&b, "x", "n,4");
    ADD_INTS(&b, "shape", 100000, 100000);
    add_node(&b, "ConstantOfShape", "shape", "c", NULL);
    add_node(&b, "Add", "x c", "y", NULL);
    add_output(&b, "y", "?");
    FAILS_READ(LIMIT, "elements would have to be computed", &b);

    add_input(&b, "x", "n,4");
    add_raw(&b, "from", 7, 0, NULL, (const int64_t[]){INT64_MAX}, 8);
    add_raw(&b, "to", 7, 0, NULL, (const int64_t[]){INT64_MAX - 5000}, 8);
    add_raw(&b, "step", 7, 0, NULL, (const int64_t[]){-1000}, 8);
    add_node(&b, "Range", "from to step", "r", NULL);
    add_node(&b, "Reshape", "x r", "y", NULL);
    add_output(&b, "y", "?");
    FAILS_READ(LIMIT, "2^53", &b);
}

/* Two bytes of the file each, many times that in memory. */
static void properties_have_a_limit(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct onnx_build b = {0};
    for (int i = 0; i <= FT_MAX_NODES; i++) {
        ASSERT_OK(ft_buf_append(&b.extra, "\x72\0", 2, &err));
    }
    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", NULL);
    add_output(&b, "y", "n,4");
    FAILS_READ(LIMIT, "200001 metadata properties", &b);
}

/* 20,000 levels of subgraphs in attributes, and as many of types: never entered. */
static void nesting_is_never_followed(void **state)
{
    (void)state;
    struct ft_buf deep = {0};
    for (int i = 0; i < 20000; i++) {
        /* GraphProto{node{attribute{g}}} and TypeProto{sequence{elem}} alternate by field number. */
        struct ft_buf outer = {0};
        put_part(&outer, i % 3 == 0 ? 6 : i % 3 == 1 ? 5 : 1, &deep);
        deep = outer;
        if (deep.size > 200000) {
            break;
        }
    }
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    put_part(&attrs, 5, &deep);
    add_input(&b, "x", "n,4");
    add_node(&b, "Relu", "x", "y", &attrs);
    add_output(&b, "y", "n,4");
    ft_model_free(read_built(&b));
}

static void truncated_files_are_refused(void **state)
{
    (void)state;
    struct ft_buf file = small_classifier("Softmax");
    size_t refused = 0;
    for (size_t size = 0; size < file.size; size += size < 200 ? 1 : 37) {
        struct ft_err err = {0};
        struct ft_model *m = NULL;
        /* Exactly as long as the input, so that a sanitizer sees a read beyond it. */
        uint8_t *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, file.data, size);
        enum ft_status st = ft_onnx_read(ft_bytes_of(copy, size), NULL, NULL, &m, &err);
        assert_true(st == FT_CORRUPT || st == FT_UNSUPPORTED); /* without its opset */
        refused++;
        free(copy);
    }
    assert_true(refused > 200);
    ft_buf_release(&file);
}

static void external_data_stay_beside_the_model(void **state)
{
    (void)state;
    static const struct {
        const char *location;
        const char *offset;
        enum ft_status want;
    } cases[] = {{"../w.bin", "0", FT_INVALID},
                 {"/etc/passwd", "0", FT_INVALID},
                 {"a//b", "0", FT_INVALID},
                 {"a/../../b", "0", FT_INVALID},
                 {"", "0", FT_INVALID},
                 {"a\\b", "0", FT_INVALID},
                 {"missing.bin", "0", FT_NOT_FOUND},
                 {"w.bin", "0", FT_OK},
                 {"w.bin", "8", FT_CORRUPT},
                 {"w.bin", "99999999999999999999", FT_CORRUPT},
                 {"w.bin", "-1", FT_CORRUPT}};
    struct ft_err err = {0};
    char *dir = NULL;
    char *path = NULL;
    static const float data[4] = {1, 2, 3, 4};
    ASSERT_OK(ft_dir_temp("ft-onnx", &dir, &err));
    ASSERT_OK(ft_path_join(dir, "w.bin", &path, &err));
    ASSERT_OK(ft_file_write(path, ft_bytes_of(data, sizeof data), &err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct onnx_build b = {0};
        struct ft_buf t = {0};
        struct ft_buf pair = {0};
        struct ft_model *m = NULL;
        put_int(&t, 1, 4);
        put_int(&t, 1, 1);
        put_int(&t, 2, 1);
        put_text(&t, 8, "w");
        put_int(&t, 14, 1);
        put_text(&pair, 1, "location");
        put_text(&pair, 2, cases[i].location);
        put_part(&t, 13, &pair);
        put_text(&pair, 1, "offset");
        put_text(&pair, 2, cases[i].offset);
        put_part(&t, 13, &pair);
        put_part(&b.graph, 5, &t);
        add_input(&b, "x", "n,4");
        add_node(&b, "MatMul", "x w", "y", NULL);
        add_output(&b, "y", "n,1");
        struct ft_buf file = built(&b);
        if (ft_onnx_read(ft_buf_bytes(&file), dir, NULL, &m, &err) != cases[i].want) {
            fail_msg("'%s' at %s: %s", cases[i].location, cases[i].offset, err.text);
        }
        ft_err_clear(&err);
        ft_model_free(m);
        if (cases[i].want == FT_OK) {
            assert_int_equal(ft_onnx_read(ft_buf_bytes(&file), NULL, NULL, &m, &err), FT_UNSUPPORTED);
            ft_err_clear(&err);
        }
        ft_buf_release(&file);
    }
    ASSERT_OK(ft_path_remove(dir, &err));
    ft_free(path);
    ft_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_nodes_are_told_all_at_once),
        cmocka_unit_test(broken_links_are_refused),
        cmocka_unit_test(broken_tensors_are_refused),
        cmocka_unit_test(a_tensor_of_too_many_dimensions_is_named),
        cmocka_unit_test(opsets_outside_are_refused),
        cmocka_unit_test(spatial_zero_is_refused),
        cmocka_unit_test(wrong_shapes_name_the_node),
        cmocka_unit_test(absurd_constants_are_not_computed),
        cmocka_unit_test(properties_have_a_limit),
        cmocka_unit_test(nesting_is_never_followed),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(external_data_stay_beside_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
