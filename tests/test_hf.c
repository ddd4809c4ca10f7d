/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/* Folders that are made here: a BERT of two layers. tests/oracle/test_hf.py has what they compute. */
#include "executor/model/hf.h"

#include <stdlib.h>

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
    assert_non_null(model->hf->config);
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

/* ---- written again */

static const char pooled[] = "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
                             "{\"path\":\"p\",\"type\":\"sentence_transformers.models.Pooling\"},"
                             "{\"path\":\"n\",\"type\":\"sentence_transformers.models.Normalize\"}]";

static void make_texts(struct folder *f)
{
    make_bert(f);
    put_text(f, "modules.json", pooled);
    put_text(f, "tokenizer.json", "{\"model\":{}}");
    put_text(f, "vocab.txt", "a\nb\n");
    put_text(f, "config_sentence_transformers.json", "{\"prompts\":{\"query\":\"query: \"}}");
}

struct writing {
    const struct ft_model *model;
    const char *dir;
};

static enum ft_status write_it(void *arg, struct ft_err *err)
{
    const struct writing *w = arg;
    char why[FT_ERR_TEXT];
    struct ft_json *prep = NULL;
    FT_RETURN_IF_FAILED(
        ft_json_parse(ft_bytes_of_text("{\"max_length\":6,\"prefix\":\"query: \"}"), &prep, err));
    const struct ft_hf_out out = {.graph = w->model->graph,
                                  .source = w->model->hf,
                                  .tokenizer = ft_buf_bytes(&w->model->tokenizer),
                                  .prep = prep};
    enum ft_status st = ft_hf_write(&out, w->dir, why, err);
    ft_json_free(prep);
    return st == FT_OK && why[0] != '\0' ? FT_FAIL(err, INTERNAL, "left out: %s", why) : st;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    struct folder to = {0};
    struct ft_model *model = NULL;
    struct ft_model *again = NULL;
    make_texts(&f);
    ASSERT_OK(ft_dir_temp("hf", &to.dir, &err));
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    struct writing w = {model, to.dir};
    ASSERT_OK(write_it(&w, &err));
    ASSERT_OK(ft_hf_load(to.dir, &again, &err));
    assert_int_equal(ft_graph_nodes(again->graph), ft_graph_nodes(model->graph));
    assert_int_equal(ft_graph_params(again->graph), ft_graph_params(model->graph));
    assert_int_equal(again->max_length, 6);
    assert_string_equal(again->prompt, "query: ");
    assert_string_equal(ft_json_text(ft_json_get(again->hf->prompts, "default_prompt_name"), NULL), "query");
    assert_int_equal(again->hf->n_files, 1);
    assert_string_equal((const char *)again->hf->files[0].text.data, "a\nb\n");
    ft_model_free(again);
    ft_model_free(model);
    gone(&to);
    gone(&f);
}

static void what_cannot_be_said_is_told(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    struct folder to = {0};
    struct ft_model *model = NULL;
    struct ft_dir_list list = {0};
    char why[FT_ERR_TEXT];
    ft_value v = FT_NO_VALUE;
    make_texts(&f);
    ASSERT_OK(ft_dir_temp("hf", &to.dir, &err));
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    struct ft_hf_out out = {
        .graph = model->graph, .source = model->hf, .tokenizer = ft_buf_bytes(&model->tokenizer)};
    /* Another encoder than config.json tells of: nothing stays. */
    ft_graph_clear_outputs(model->graph);
    struct ft_attrs mean;
    memset(&mean, 0, sizeof mean);
    int last = -1;
    for (int n = 0; n < ft_graph_nodes(model->graph); n++) {
        if (strcmp(ft_graph_node(model->graph, n)->origin, "encoder.layer.0.output.LayerNorm") == 0) {
            last = n;
        }
    }
    assert_true(last >= 0);
    const ft_value in[2] = {ft_graph_node(model->graph, last)->out[0],
                            ft_graph_find(model->graph, "attention_mask")};
    mean.kind = FT_SEQ_MEAN;
    ASSERT_OK(ft_graph_add(model->graph, FT_OP_SEQ_POOL, &mean, in, 2, "pool", &v, &err));
    ASSERT_OK(ft_graph_output(model->graph, v, "embedding", &err));
    ASSERT_OK(ft_hf_write(&out, to.dir, why, &err));
    assert_non_null(strstr(why, "not the encoder"));
    ASSERT_OK(ft_dir_list(to.dir, &list, &err));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.names[0], "tokenizer.json");
    ft_dir_list_release(&list);
    /* An op that their modules have not. */
    ft_graph_clear_outputs(model->graph);
    ASSERT_OK(ft_graph_add1(model->graph, FT_OP_EXP, v, &v, &err));
    ASSERT_OK(ft_graph_output(model->graph, v, "embedding", &err));
    ASSERT_OK(ft_hf_write(&out, to.dir, why, &err));
    assert_non_null(strstr(why, "no module for exp"));
    out.tokenizer = ft_bytes_of(NULL, 0);
    ASSERT_OK(ft_hf_write(&out, to.dir, why, &err));
    assert_non_null(strstr(why, "no tokenizer"));
    ft_model_free(model);
    gone(&to);
    gone(&f);
}

static void no_memory_while_writing(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct folder f;
    struct folder to = {0};
    struct ft_model *model = NULL;
    make_texts(&f);
    ASSERT_OK(ft_dir_temp("hf", &to.dir, &err));
    ASSERT_OK(ft_hf_load(f.dir, &model, &err));
    struct writing w = {model, to.dir};
    fail_each_allocation(write_it, &w);
    ft_model_free(model);
    gone(&to);
    gone(&f);
}

int main(void)
{
    if (ft_path_kind("/dev/shm") == FT_PATH_DIR) { /* each file is synced, for each allocation that fails */
        (void)setenv("TMPDIR", "/dev/shm", 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_becomes_a_graph),
        cmocka_unit_test(tensors_that_are_missing_or_unknown_are_named),
        cmocka_unit_test(absurd_configs_are_refused),
        cmocka_unit_test(files_that_lack_are_named),
        cmocka_unit_test(modules_are_checked),
        cmocka_unit_test(texts_have_the_folders_options),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(what_cannot_be_said_is_told),
        cmocka_unit_test(no_memory_while_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
