/*
 * onnx_build.h - ONNX files made by hand, for the tests of executor/model: right ones and broken ones.
 *
 * Buffers grow until built; a failed allocation ends the test.
 */
#ifndef FT_TESTS_ONNX_BUILD_H
#define FT_TESTS_ONNX_BUILD_H

#include "tests/support.h"

#include <stdlib.h>

#include "executor/base/rand.h"
#include "executor/codec/pb.h"
#include "executor/model/onnx.h"

struct onnx_build {
    struct ft_buf graph;
    struct ft_buf extra; /* ModelProto fields after the graph */
    int64_t opset, ir;
};

static inline void put_text(struct ft_buf *b, uint32_t number, const char *text)
{
    struct ft_err err = {0};
    ASSERT_OK(ft_pb_put_text(b, number, text, &err));
}

static inline void put_int(struct ft_buf *b, uint32_t number, int64_t value)
{
    struct ft_err err = {0};
    ASSERT_OK(ft_pb_put_varint(b, number, (uint64_t)value, &err));
}

static inline void put_part(struct ft_buf *b, uint32_t number, struct ft_buf *part)
{
    struct ft_err err = {0};
    ASSERT_OK(ft_pb_put_bytes(b, number, ft_buf_bytes(part), &err));
    ft_buf_release(part);
}

/* ---- attributes, collected in a buffer of NodeProto fields */

static inline void attr_int(struct ft_buf *attrs, const char *name, int64_t value)
{
    struct ft_buf a = {0};
    put_text(&a, 1, name);
    put_int(&a, 3, value);
    put_int(&a, 20, 2);
    put_part(attrs, 5, &a);
}

static inline void attr_float(struct ft_buf *attrs, const char *name, float value)
{
    struct ft_err err = {0};
    struct ft_buf a = {0};
    put_text(&a, 1, name);
    ASSERT_OK(ft_pb_put_float(&a, 2, value, &err));
    put_int(&a, 20, 1);
    put_part(attrs, 5, &a);
}

static inline void attr_text(struct ft_buf *attrs, const char *name, const char *value)
{
    struct ft_buf a = {0};
    put_text(&a, 1, name);
    put_text(&a, 4, value);
    put_int(&a, 20, 3);
    put_part(attrs, 5, &a);
}

static inline void attr_ints(struct ft_buf *attrs, const char *name, int count, const int64_t *values)
{
    struct ft_buf a = {0};
    put_text(&a, 1, name);
    for (int i = 0; i < count; i++) {
        put_int(&a, 8, values[i]);
    }
    put_int(&a, 20, 7);
    put_part(attrs, 5, &a);
}
#define ATTR_INTS(attrs, name, ...)                                                                          \
    attr_ints(attrs, name, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                  \
              (const int64_t[]){__VA_ARGS__})

/* ---- nodes: names in `in` and `out` are parted by spaces, "_" is an absent one. Takes attrs (may be NULL).
 */

static inline void put_names(struct ft_buf *node, uint32_t number, const char *names)
{
    while (*names != '\0') {
        char name[64];
        size_t size = strcspn(names, " ");
        assert_true(size < sizeof name);
        memcpy(name, names, size);
        name[size] = '\0';
        put_text(node, number, strcmp(name, "_") == 0 ? "" : name);
        names += size + (names[size] == ' ');
    }
}

static inline void add_node_in(struct onnx_build *b, const char *domain, const char *op, const char *in,
                               const char *out, struct ft_buf *attrs)
{
    struct ft_err err = {0};
    struct ft_buf node = {0};
    char name[80];
    (void)snprintf(name, sizeof name, "n_%.60s", out);
    put_names(&node, 1, in);
    put_names(&node, 2, out);
    put_text(&node, 3, name);
    put_text(&node, 4, op);
    if (domain != NULL) {
        put_text(&node, 7, domain);
    }
    if (attrs != NULL) {
        ASSERT_OK(ft_buf_append(&node, attrs->data, attrs->size, &err));
        ft_buf_release(attrs);
    }
    put_part(&b->graph, 1, &node);
}

static inline void add_node(struct onnx_build *b, const char *op, const char *in, const char *out,
                            struct ft_buf *attrs)
{
    add_node_in(b, NULL, op, in, out, attrs);
}

/* ---- tensors */

static inline void put_tensor(struct ft_buf *t, const char *name, int32_t type, int rank, const int64_t *dims,
                              const void *raw, size_t size)
{
    struct ft_err err = {0};
    for (int i = 0; i < rank; i++) {
        put_int(t, 1, dims[i]);
    }
    put_int(t, 2, type);
    put_text(t, 8, name);
    ASSERT_OK(ft_pb_put_bytes(t, 9, ft_bytes_of(raw, size), &err));
}

static inline void add_raw(struct onnx_build *b, const char *name, int32_t type, int rank,
                           const int64_t *dims, const void *raw, size_t size)
{
    struct ft_buf t = {0};
    put_tensor(&t, name, type, rank, dims, raw, size);
    put_part(&b->graph, 5, &t);
}

static inline void add_ints(struct onnx_build *b, const char *name, int count, const int64_t *values)
{
    const int64_t dims[1] = {count};
    add_raw(b, name, 7, 1, dims, values, (size_t)count * sizeof *values);
}
#define ADD_INTS(b, name, ...)                                                                               \
    add_ints(b, name, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                       \
             (const int64_t[]){__VA_ARGS__})

/* A float initializer with fixed pseudo-random values. */
static inline void add_weight_dims(struct onnx_build *b, const char *name, int rank, const int64_t *dims)
{
    float data[4096];
    size_t n = 1;
    for (int i = 0; i < rank; i++) {
        n *= (size_t)dims[i];
    }
    assert_true(n <= 4096);
    for (size_t i = 0; i < n; i++) {
        data[i] = ft_rand_float(ft_rand_at(strlen(name), FT_RAND_TEST, (uint64_t)(uint8_t)name[0]), i);
    }
    add_raw(b, name, 1, rank, dims, data, n * sizeof *data);
}
#define ADD_WEIGHT(b, name, ...)                                                                             \
    add_weight_dims(b, name, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                \
                    (const int64_t[]){__VA_ARGS__})

static inline void add_number(struct onnx_build *b, const char *name, float value)
{
    add_raw(b, name, 1, 0, NULL, &value, sizeof value);
}

/* ---- inputs and outputs: extents parted by commas, a word is a symbol, "?" an unnamed one */

static inline void put_port(struct onnx_build *b, uint32_t number, const char *name, int32_t type,
                            const char *shape)
{
    struct ft_buf dims = {0};
    struct ft_buf tensor = {0};
    struct ft_buf holder = {0};
    struct ft_buf port = {0};
    while (*shape != '\0') {
        struct ft_buf dim = {0};
        char word[32];
        size_t size = strcspn(shape, ",");
        assert_true(size < sizeof word);
        memcpy(word, shape, size);
        word[size] = '\0';
        if (word[0] >= '0' && word[0] <= '9') {
            put_int(&dim, 1, (int64_t)strtoll(word, NULL, 10));
        } else if (word[0] != '?') {
            put_text(&dim, 2, word);
        }
        put_part(&dims, 1, &dim);
        shape += size + (shape[size] == ',');
    }
    put_int(&tensor, 1, type);
    put_part(&tensor, 2, &dims);
    put_part(&holder, 1, &tensor);
    put_text(&port, 1, name);
    put_part(&port, 2, &holder);
    put_part(&b->graph, number, &port);
}

static inline void add_input(struct onnx_build *b, const char *name, const char *shape)
{
    put_port(b, 11, name, 1, shape);
}

static inline void add_output(struct onnx_build *b, const char *name, const char *shape)
{
    put_port(b, 12, name, 1, shape);
}

/* The file; `b` is empty afterwards. ft_buf_release(). */
static inline struct ft_buf built(struct onnx_build *b)
{
    struct ft_err err = {0};
    struct ft_buf file = {0};
    struct ft_buf opset = {0};
    put_int(&file, 1, b->ir > 0 ? b->ir : 8);
    put_text(&file, 2, "by hand");
    put_part(&file, 7, &b->graph);
    put_int(&opset, 2, b->opset > 0 ? b->opset : 17);
    put_part(&file, 8, &opset);
    ASSERT_OK(ft_buf_append(&file, b->extra.data, b->extra.size, &err));
    ft_buf_release(&b->extra);
    return file;
}

/* ---- a convolutional classifier: conv, batch norm, relu, pool, conv, relu, mean, flatten, gemm */
static inline struct ft_buf small_classifier(const char *tail)
{
    struct onnx_build b = {0};
    struct ft_buf attrs = {0};
    add_input(&b, "image", "batch,3,8,8");
    ADD_WEIGHT(&b, "layer1.conv.weight", 4, 3, 3, 3);
    ADD_WEIGHT(&b, "layer1.bn.weight", 4);
    ADD_WEIGHT(&b, "layer1.bn.bias", 4);
    ADD_WEIGHT(&b, "layer1.bn.running_mean", 4);
    ADD_WEIGHT(&b, "layer1.bn.running_var", 4);
    ADD_WEIGHT(&b, "layer2.weight", 6, 4, 3, 3);
    ADD_WEIGHT(&b, "layer2.bias", 6);
    ADD_WEIGHT(&b, "last.weight", 5, 6);
    ADD_WEIGHT(&b, "last.bias", 5);
    ATTR_INTS(&attrs, "pads", 1, 1, 1, 1);
    add_node(&b, "Conv", "image layer1.conv.weight", "a", &attrs);
    add_node(&b, "BatchNormalization",
             "a layer1.bn.weight layer1.bn.bias layer1.bn.running_mean layer1.bn.running_var", "b", NULL);
    add_node(&b, "Relu", "b", "c", NULL);
    ATTR_INTS(&attrs, "kernel_shape", 2, 2);
    ATTR_INTS(&attrs, "strides", 2, 2);
    add_node(&b, "MaxPool", "c", "d", &attrs);
    add_node(&b, "Conv", "d layer2.weight layer2.bias", "e", NULL);
    add_node(&b, "Relu", "e", "f", NULL);
    add_node(&b, "GlobalAveragePool", "f", "g", NULL);
    add_node(&b, "Flatten", "g", "h", NULL);
    attr_int(&attrs, "transB", 1);
    add_node(&b, "Gemm", "h last.weight last.bias", "scores", &attrs);
    if (tail != NULL) {
        add_node(&b, tail, "scores", "y", NULL);
    }
    add_output(&b, tail != NULL ? "y" : "scores", "batch,5");
    return built(&b);
}

static inline struct ft_model *read_model(const struct ft_buf *file)
{
    struct ft_err err = {0};
    struct ft_model *model = NULL;
    ASSERT_OK(ft_onnx_read(ft_buf_bytes(file), NULL, NULL, &model, &err));
    return model;
}

/* FAILS_READ(UNSUPPORTED, "Erf", b): the file built is refused with this status and these words. */
#define FAILS_READ(code, part, b)                                                                            \
    do {                                                                                                     \
        struct ft_err fails_err_ = {0};                                                                      \
        struct ft_buf fails_file_ = built(b);                                                                \
        struct ft_model *fails_model_ = NULL;                                                                \
        enum ft_status fails_st_ =                                                                           \
            ft_onnx_read(ft_buf_bytes(&fails_file_), NULL, NULL, &fails_model_, &fails_err_);                \
        if (fails_st_ != FT_##code || strstr(fails_err_.text, part) == NULL) {                               \
            fail_msg("wanted %s with '%s', got %s: %s", #code, part, ft_status_text(fails_st_),              \
                     fails_err_.text);                                                                       \
        }                                                                                                    \
        assert_null(fails_model_);                                                                           \
        ft_buf_release(&fails_file_);                                                                        \
    } while (0)

static inline struct ft_model *read_built(struct onnx_build *b)
{
    struct ft_buf file = built(b);
    struct ft_model *model = read_model(&file);
    ft_buf_release(&file);
    return model;
}

#endif
