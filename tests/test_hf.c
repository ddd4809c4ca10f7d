/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/* Folders that are made here: a BERT of two layers. tests/oracle/test_hf.py has what they compute. */
#include "executor/model/hf.h"

#include "executor/codec/safetensors.h"
#include "tests/support.h"

enum { VOCAB = 11, WIDTH = 4, INNER = 6, PLACES = 9, LAYERS = 2, MOST_TENSORS = 64, NAME = 96 };

static const char config[] =
    "{\"model_type\":\"bert\",\"vocab_size\":11,\"hidden_size\":4,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":2,\"intermediate_size\":6,\"max_position_embeddings\":9}";

struct folder {
    char *dir;
    struct ft_tensor_out tensors[MOST_TENSORS];
    char names[MOST_TENSORS][NAME];
    int64_t dims[MOST_TENSORS][2];
    size_t n;
};

static float numbers[VOCAB * WIDTH];

static void put(struct folder *f, const char *name, int64_t rows, int64_t columns)
{
    size_t i = f->n++;
    assert_true(i < MOST_TENSORS);
    (void)snprintf(f->names[i], NAME, "%s", name);
    f->dims[i][0] = rows;
    f->dims[i][1] = columns;
    f->tensors[i] = (struct ft_tensor_out){
        .name = f->names[i], .rank = columns > 0 ? 2 : 1, .dims = f->dims[i], .data = numbers};
}

static void put_linear(struct folder *f, int layer, const char *module, int64_t rows, int64_t columns)
{
    char name[NAME];
    (void)snprintf(name, sizeof name, "encoder.layer.%d.%s.weight", layer, module);
    put(f, name, rows, columns);
    (void)snprintf(name, sizeof name, "encoder.layer.%d.%s.bias", layer, module);
    put(f, name, rows, 0);
}

static void put_text(const struct folder *f, const char *name, const char *text)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(f->dir, name, &path, &err));
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text(text), &err));
    ft_free(path);
}

static void put_weights(const struct folder *f)
{
    struct ft_err err = {0};
    struct ft_buf file = {0};
    char *path = NULL;
    ASSERT_OK(ft_safetensors_write(f->tensors, f->n, &file, &err));
    ASSERT_OK(ft_path_join(f->dir, "model.safetensors", &path, &err));
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&file), &err));
    ft_free(path);
    ft_buf_release(&file);
}

/* Tensors point into the struct, so it stays where it is. */
static void make_bert(struct folder *f)
{
    struct ft_err err = {0};
    *f = (struct folder){.n = 0};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        numbers[i] = (float)i / 16.0F;
    }
    ASSERT_OK(ft_dir_temp("hf", &f->dir, &err));
    put(f, "embeddings.word_embeddings.weight", VOCAB, WIDTH);
    put(f, "embeddings.position_embeddings.weight", PLACES, WIDTH);
    put(f, "embeddings.token_type_embeddings.weight", 2, WIDTH);
    put(f, "embeddings.LayerNorm.weight", WIDTH, 0);
    put(f, "embeddings.LayerNorm.bias", WIDTH, 0);
    for (int i = 0; i < LAYERS; i++) {
        put_linear(f, i, "attention.self.query", WIDTH, WIDTH);
        put_linear(f, i, "attention.self.key", WIDTH, WIDTH);
        put_linear(f, i, "attention.self.value", WIDTH, WIDTH);
        put_linear(f, i, "attention.output.dense", WIDTH, WIDTH);
        put_linear(f, i, "attention.output.LayerNorm", WIDTH, 0);
        put_linear(f, i, "intermediate.dense", INNER, WIDTH);
        put_linear(f, i, "output.dense", WIDTH, INNER);
        put_linear(f, i, "output.LayerNorm", WIDTH, 0);
    }
    put(f, "pooler.dense.weight", WIDTH, WIDTH);
    put_text(f, "config.json", config);
    put_weights(f);
}

static void gone(struct folder *f)
{
    struct ft_err err = {0};
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
}

/* Loading it fails like this, and says this. */
static void refuses(const struct folder *f, enum ft_status want, const char *says)
{
    struct ft_err err = {0};
    struct ft_model *model = NULL;
    enum ft_status st = ft_hf_load(f->dir, &model, &err);
    if (st != want || strstr(err.text, says) == NULL) {
        fail_msg("wanted %s with \"%s\", got %s: %s", ft_status_text(want), says, ft_status_text(st),
                 err.text);
    }
    assert_null(model);
}

static void a_folder_becomes_a_graph(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    make_bert(&f);
    struct ft_model *model = NULL;
    char text[FT_TYPE_TEXT];
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    const struct ft_graph *g = model->graph;
    assert_int_equal(ft_graph_inputs(g), 3);
    assert_string_equal(ft_graph_name(g, ft_graph_input_at(g, 0)), "input_ids");
    assert_string_equal(ft_graph_name(g, ft_graph_input_at(g, 1)), "attention_mask");
    assert_string_equal(ft_graph_name(g, ft_graph_input_at(g, 2)), "token_type_ids");
    assert_int_equal(ft_graph_outputs(g), 1);
    assert_string_equal(ft_graph_output_name(g, 0), "last_hidden_state");
    assert_string_equal(ft_type_text(ft_graph_type(g, ft_graph_output_at(g, 0)), text), "float32 (N, S, 4)");
    assert_int_equal(ft_graph_params(g), (int)f.n - 1); /* the pooler is left out */
    ft_value v = ft_graph_find(g, "encoder.layer.1.output.dense.weight");
    assert_true(v != FT_NO_VALUE);
    assert_memory_equal(ft_graph_data(g, v), numbers, (size_t)WIDTH * INNER * sizeof(float));
    assert_string_equal(ft_graph_node(g, ft_graph_nodes(g) - 1)->origin, "encoder.layer.1.output.LayerNorm");
    assert_int_equal(model->max_length, PLACES);
    assert_int_equal(model->tokenizer.size, 0);
    assert_null(model->prompt);
    assert_false(model->is_embedding);
    assert_non_null(ft_json_get(model->meta, "config"));
    ft_model_free(model);
    gone(&f);
}

static void tensors_that_are_missing_or_unknown_are_named(void **state)
{
    (void)state;
    struct folder f;
    make_bert(&f);
    char kept[NAME];
    (void)snprintf(kept, sizeof kept, "%s", f.names[10]);
    (void)snprintf(f.names[10], NAME, "encoder.layer.0.attention.self.surprise");
    put_weights(&f);
    refuses(&f, FT_CORRUPT, kept);
    (void)snprintf(f.names[10], NAME, "%s", kept);
    put(&f, "encoder.layer.2.surprise", WIDTH, 0);
    put_weights(&f);
    refuses(&f, FT_CORRUPT, "encoder.layer.2.surprise");
    f.n--;
    f.dims[0][0] = VOCAB - 1;
    put_weights(&f);
    refuses(&f, FT_INVALID, "embeddings.word_embeddings.weight is float32 (10, 4)");
    gone(&f);
}

static void absurd_configs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        enum ft_status want;
    } cases[] = {
        {"model_type", "1", FT_UNSUPPORTED},
        {"model_type", "\"gpt2\"", FT_UNSUPPORTED},
        {"vocab_size", "0", FT_INVALID},
        {"vocab_size", "1e30", FT_INVALID},
        {"vocab_size", "16777216", FT_INVALID}, /* not what the file has; nothing was allocated for it */
        {"hidden_size", "-4", FT_INVALID},
        {"hidden_size", "5", FT_INVALID},
        {"hidden_size", "131073", FT_INVALID},
        {"num_hidden_layers", "1000000000", FT_INVALID},
        {"num_hidden_layers", "1024", FT_CORRUPT},
        {"num_hidden_layers", "1", FT_CORRUPT},
        {"num_attention_heads", "0", FT_INVALID},
        {"num_attention_heads", "3", FT_INVALID},
        {"intermediate_size", "[6]", FT_INVALID},
        {"max_position_embeddings", "\"9\"", FT_INVALID},
        {"type_vocab_size", "0", FT_INVALID},
        {"layer_norm_eps", "0", FT_INVALID},
        {"layer_norm_eps", "2", FT_INVALID},
        {"hidden_act", "\"snake\"", FT_UNSUPPORTED},
        {"hidden_act", "7", FT_INVALID},
        {"position_embedding_type", "\"relative_key_query\"", FT_UNSUPPORTED},
        {"is_decoder", "true", FT_UNSUPPORTED},
        {"is_decoder", "1", FT_UNSUPPORTED},
        {"add_cross_attention", "true", FT_UNSUPPORTED},
        {"quantization_config", "{}", FT_UNSUPPORTED},
    };
    struct folder f;
    make_bert(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ft_err err = {0};
        struct ft_json *json = NULL;
        struct ft_json *value = NULL;
        struct ft_buf text = {0};
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(config), &json, &err));
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(cases[i].value), &value, &err));
        ASSERT_OK(ft_json_set(json, cases[i].key, value, &err));
        ASSERT_OK(ft_json_write(json, 0, &text, &err));
        put_text(&f, "config.json", (const char *)text.data);
        refuses(&f, cases[i].want, "");
        ft_buf_release(&text);
        ft_json_free(json);
    }
    put_text(&f, "config.json", "[]");
    refuses(&f, FT_INVALID, "config.json");
    put_text(&f, "config.json", "{");
    refuses(&f, FT_INVALID, "config.json");
    gone(&f);
}

static void files_that_lack_are_named(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    make_bert(&f);
    char *path = NULL;
    ASSERT_OK(ft_path_join(f.dir, "model.safetensors", &path, &err));
    ASSERT_OK(ft_path_remove(path, &err));
    refuses(&f, FT_NOT_FOUND, "model.safetensors");
    put_text(&f, "pytorch_model.bin", "x");
    refuses(&f, FT_UNSUPPORTED, "save_pretrained");
    put_text(&f, "model.safetensors", "not one");
    refuses(&f, FT_CORRUPT, "model.safetensors");
    ft_free(path);
    ASSERT_OK(ft_path_join(f.dir, "config.json", &path, &err));
    ASSERT_OK(ft_path_remove(path, &err));
    refuses(&f, FT_NOT_FOUND, "config.json");
    ft_free(path);
    gone(&f);
}

static void modules_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *modules;
        enum ft_status want;
        const char *says;
    } cases[] = {
        {"{}", FT_INVALID, "no list"},
        {"[]", FT_INVALID, "no list"},
        {"[{\"path\":\"\",\"type\":\"a.BoW\"}]", FT_UNSUPPORTED, "a.BoW"},
        {"[{\"type\":\"sentence_transformers.models.Transformer\"}]", FT_INVALID, "path"},
        {"[{\"path\":\"/etc\",\"type\":\"sentence_transformers.models.Transformer\"}]", FT_INVALID, "/etc"},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
         "{\"path\":\"n\",\"type\":\"sentence_transformers.models.Normalize\"}]",
         FT_UNSUPPORTED, "in front of Pooling"},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
         "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"},"
         "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"}]",
         FT_UNSUPPORTED, "second Pooling"},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
         "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"},"
         "{\"path\":\"d\",\"type\":\"sentence_transformers.models.Dense\"}]",
         FT_INVALID, "out_features"},
    };
    struct folder f;
    make_bert(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(&f, "modules.json", cases[i].modules);
        refuses(&f, cases[i].want, cases[i].says);
    }
    gone(&f);
}

static void texts_have_the_folders_options(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    make_bert(&f);
    struct ft_model *model = NULL;
    put_text(&f, "modules.json",
             "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
             "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"}]");
    put_text(&f, "sentence_bert_config.json", "{\"max_seq_length\":7,\"do_lower_case\":true}");
    put_text(&f, "tokenizer_config.json", "{\"model_max_length\":5}");
    put_text(&f, "tokenizer.json", "{\"normalizer\":{\"type\":\"NFC\"},\"model\":{}}");
    put_text(&f, "config_sentence_transformers.json",
             "{\"prompts\":{\"query\":\"query: \"},\"default_prompt_name\":\"query\"}");
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    assert_int_equal(model->max_length, 7);
    assert_string_equal(model->prompt, "query: ");
    assert_string_equal(
        (const char *)model->tokenizer.data,
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Lowercase\"}, "
        "{\"type\": \"NFC\"}]}, \"model\": {}}");
    assert_string_equal(ft_graph_output_name(model->graph, 0), "embedding");
    ft_model_free(model);
    put_text(&f, "sentence_bert_config.json", "{\"max_seq_length\":null}");
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    assert_int_equal(model->max_length, 5);
    assert_string_equal((const char *)model->tokenizer.data,
                        "{\"normalizer\":{\"type\":\"NFC\"},\"model\":{}}");
    ft_model_free(model);
    put_text(&f, "sentence_bert_config.json", "{\"max_seq_length\":512}");
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    assert_int_equal(model->max_length, PLACES); /* there are no more */
    ft_model_free(model);
    put_text(&f, "sentence_bert_config.json", "{\"max_seq_length\":-1}");
    refuses(&f, FT_INVALID, "max_seq_length");
    put_text(&f, "sentence_bert_config.json", "{}");
    put_text(&f, "config_sentence_transformers.json", "{\"default_prompt_name\":\"query\"}");
    refuses(&f, FT_INVALID, "default_prompt_name");
    gone(&f);
}

static enum ft_status load(void *arg, struct ft_err *err)
{
    const struct folder *f = arg;
    struct ft_model *model = NULL;
    enum ft_status st = ft_hf_load(f->dir, &model, err);
    ft_model_free(model);
    return st;
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    struct folder f;
    make_bert(&f);
    put_text(&f, "modules.json",
             "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
             "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"},"
             "{\"path\":\"n\",\"type\":\"sentence_transformers.models.Normalize\"}]");
    put_text(&f, "sentence_bert_config.json", "{\"do_lower_case\":true}");
    put_text(&f, "tokenizer.json", "{\"normalizer\":null}");
    fail_each_allocation(load, &f);
    gone(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_becomes_a_graph),
        cmocka_unit_test(tensors_that_are_missing_or_unknown_are_named),
        cmocka_unit_test(absurd_configs_are_refused),
        cmocka_unit_test(files_that_lack_are_named),
        cmocka_unit_test(modules_are_checked),
        cmocka_unit_test(texts_have_the_folders_options),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
