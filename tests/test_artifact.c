/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
#include "tests/onnx_build.h"

#include "executor/codec/yaml.h"
#include "executor/codec/zip.h"
#include "executor/model/artifact.h"
#include "executor/model/tailor.h"

/* Artifacts written and loaded, and ft_model_load() over everything a MODEL may be. */

static char left_out[FT_ERR_TEXT]; /* "" here: no model comes as a Hugging Face folder */

struct fixture {
    char *dir;
    struct ft_buf file;
    struct ft_model *model;
    struct ft_graph *graph;
    struct ft_json *prep, *config, *metrics, *card;
    struct ft_artifact artifact;
};

static struct ft_json *parsed(const char *text)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(text), &json, &err));
    return json;
}

static int open_fixture(void **state)
{
    struct ft_err err = {0};
    struct fixture *f = ft_calloc(1, sizeof *f);
    const struct ft_tailor_options o = {0};
    assert_non_null(f);
    ASSERT_OK(ft_dir_temp("ft-artifact", &f->dir, &err));
    f->file = small_classifier("Softmax");
    f->model = read_model(&f->file);
    ASSERT_OK(ft_tailor(f->model, &o, &f->graph, NULL, &err));
    f->prep = parsed("{\"kind\":\"image\",\"mean\":[0.5,0.5,0.5]}");
    f->config = parsed(
        "{\"run_name\":\"happy-turing\",\"experiment_name\":\"default\",\"model\":{\"name\":\"a/b c\","
        "\"freeze\":true,\"output_dim\":null},\"hyper_parameters\":{\"epochs\":5,\"learning_rate\":0.001}}");
    f->metrics = parsed("{\"before\":{\"mrr\":0.25},\"after\":{\"mrr\":0.5,\"map\":0.125}}");
    f->card = parsed("{\"dataset\":\"sha256:00|11\",\"documents\":40,\"command\":\"finetuner fit x\\ny\"}");
    f->artifact = (struct ft_artifact){.run_name = "happy-turing",
                                       .model_name = "a/b c",
                                       .graph = f->graph,
                                       .prep = f->prep,
                                       .config = f->config,
                                       .metrics = f->metrics,
                                       .card = f->card};
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    struct ft_err err = {0};
    struct fixture *f = *state;
    ASSERT_OK(ft_path_remove(f->dir, &err));
    ft_free(f->dir);
    ft_buf_release(&f->file);
    ft_model_free(f->model);
    ft_graph_free(f->graph);
    ft_json_free(f->prep);
    ft_json_free(f->config);
    ft_json_free(f->metrics);
    ft_json_free(f->card);
    ft_free(f);
    return 0;
}

static char *below(const struct fixture *f, const char *name)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(f->dir, name, &path, &err));
    return path;
}

static struct ft_buf contents(const char *dir, const char *name)
{
    struct ft_err err = {0};
    struct ft_buf buf = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(dir, name, &path, &err));
    ASSERT_OK(ft_file_read(path, 1 << 24, &buf, &err));
    ft_free(path);
    return buf;
}

static void write_below(const struct fixture *f, const char *name, const char *text)
{
    struct ft_err err = {0};
    char *path = below(f, name);
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text(text), &err));
    ft_free(path);
}

static void check_loaded(const struct fixture *f, const char *path)
{
    struct ft_err err = {0};
    struct ft_model *m = NULL;
    assert_true(ft_artifact_known(path));
    ASSERT_OK(ft_model_load(path, NULL, &m, &err));
    assert_true(m->is_embedding);
    assert_string_equal(m->name, "a-b-c");
    assert_string_equal(m->source, path);
    assert_string_equal(ft_json_text(ft_json_get(m->prep, "kind"), NULL), "image");
    const struct ft_json *config = ft_json_get(m->meta, "config");
    assert_string_equal(ft_json_text(ft_json_get(config, "run_name"), NULL), "happy-turing");
    assert_true(ft_json_real(ft_json_get(ft_json_get(config, "hyper_parameters"), "learning_rate")) == 0.001);
    assert_true(ft_json_real(ft_json_get(ft_json_get(ft_json_get(m->meta, "metrics"), "after"), "map")) ==
                0.125);
    assert_int_equal(ft_graph_nodes(m->graph), ft_graph_nodes(f->graph));
    assert_string_equal(ft_graph_output_name(m->graph, 0), "embedding");
    for (int i = 0; i < ft_graph_params(f->graph); i++) {
        ft_value v = ft_graph_param_at(f->graph, i);
        ft_value there = ft_graph_find(m->graph, ft_graph_name(f->graph, v));
        assert_true(there != FT_NO_VALUE);
        assert_memory_equal(ft_graph_data(m->graph, there), ft_graph_data(f->graph, v),
                            ft_type_bytes(ft_graph_type(f->graph, v)));
    }
    ft_model_free(m);
}

static void folders_and_archives_load_back(void **state)
{
    const struct fixture *f = *state;
    struct ft_err err = {0};
    static const char *const targets[] = {"folder", "nested/deep.zip", "slash/"};
    char *nested = below(f, "nested");
    ASSERT_OK(ft_dir_make(nested, &err));
    ft_free(nested);
    for (size_t i = 0; i < 3; i++) {
        char *path = below(f, targets[i]);
        ASSERT_OK(ft_artifact_write(&f->artifact, path, left_out, &err));
        check_loaded(f, path);
        ASSERT_OK(ft_artifact_write(&f->artifact, path, left_out, &err)); /* over an artifact: replaced */
        check_loaded(f, path);
        ft_free(path);
    }
    /* Nothing half-written stays behind. */
    struct ft_dir_list list = {0};
    ASSERT_OK(ft_dir_list(f->dir, &list, &err));
    assert_int_equal(list.count, 3);
    ft_dir_list_release(&list);
}

static void equal_runs_give_equal_bytes(void **state)
{
    const struct fixture *f = *state;
    struct ft_err err = {0};
    char *one = below(f, "one.zip");
    char *two = below(f, "two.zip");
    ASSERT_OK(ft_artifact_write(&f->artifact, one, left_out, &err));
    ASSERT_OK(ft_artifact_write(&f->artifact, two, left_out, &err));
    struct ft_buf a = contents(f->dir, "one.zip");
    struct ft_buf b = contents(f->dir, "two.zip");
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    assert_null(strstr((const char *)a.data, f->dir));
    struct ft_zip_reader *zip = NULL;
    ASSERT_OK(ft_zip_open(one, &zip, &err));
    for (size_t i = 0; i < ft_zip_count(zip); i++) {
        assert_int_equal(strncmp(ft_zip_name(zip, i), "happy-turing/", 13), 0);
    }
    ft_zip_close(zip);
    ft_buf_release(&a);
    ft_buf_release(&b);
    ft_free(one);
    ft_free(two);
}

/* The keys without which Finetuner's loader refuses an artifact. */
static void metadata_has_what_finetuners_loader_wants(void **state)
{
    const struct fixture *f = *state;
    static const char *const keys[] = {"name",
                                       "builder",
                                       "options",
                                       "descriptor",
                                       "input_names",
                                       "input_shapes",
                                       "output_name",
                                       "output_shape",
                                       "output_dim",
                                       "freeze",
                                       "embedding_layer",
                                       "tailor_input_shape",
                                       "preprocess_types",
                                       "collate_types",
                                       "task",
                                       "architecture",
                                       "tailor_input_dtype",
                                       "preprocess_options",
                                       "collate_options",
                                       "input_dtypes",
                                       "dynamic_axes"};
    struct ft_err err = {0};
    struct ft_arena arena = {0};
    struct ft_yaml *y = NULL;
    char *path = below(f, "out");
    ASSERT_OK(ft_artifact_write(&f->artifact, path, left_out, &err));
    struct ft_buf text = contents(path, "models/a-b-c/metadata.yml");
    ASSERT_OK(ft_yaml_parse(ft_buf_bytes(&text), &arena, &y, &err));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (ft_yaml_get(y, keys[i]) == NULL) {
            fail_msg("'%s' is missing", keys[i]);
        }
    }
    const struct ft_yaml *shape = ft_yaml_get(y, "input_shapes")->items[0];
    assert_string_equal(shape->items[0]->text, "batch-size");
    assert_int_equal(shape->items[1]->integer, 3);
    assert_int_equal(shape->items[3]->integer, 8);
    assert_int_equal(ft_yaml_get(y, "output_shape")->items[1]->integer, 6);
    assert_true(ft_yaml_get(y, "freeze")->truth);
    assert_string_equal(ft_yaml_get(ft_yaml_get(y, "preprocess_types"), "image")->text, "VisionPreprocess");
    assert_non_null(strstr((const char *)text.data, "\n    0: batch-size\n"));
    ft_buf_release(&text);
    text = contents(path, "models/input-map.yml");
    assert_string_equal((const char *)text.data, "image: [a-b-c]\n");
    ft_buf_release(&text);
    text = contents(path, "README.md");
    assert_non_null(strstr((const char *)text.data, "| mrr | 0.25 | 0.5 |"));
    assert_non_null(strstr((const char *)text.data, "| map |  | 0.125 |"));
    assert_non_null(strstr((const char *)text.data, "| dataset | sha256:00 11 |"));
    assert_non_null(strstr((const char *)text.data, "| command | finetuner fit x y |"));
    ft_buf_release(&text);
    ft_arena_release(&arena);
    ft_free(path);
}

static void what_is_not_ours_is_not_replaced(void **state)
{
    struct fixture *f = *state;
    struct ft_err err = {0};
    char *dir = below(f, "full");
    ASSERT_OK(ft_dir_make(dir, &err));
    write_below(f, "full/precious.txt", "x");
    assert_int_equal(ft_artifact_write(&f->artifact, dir, left_out, &err), FT_EXISTS);
    ft_err_clear(&err);
    struct ft_buf kept = contents(dir, "precious.txt");
    assert_string_equal((const char *)kept.data, "x");
    ft_buf_release(&kept);
    write_below(f, "other.zip", "no archive");
    char *zip = below(f, "other.zip");
    assert_int_equal(ft_artifact_write(&f->artifact, zip, left_out, &err), FT_EXISTS);
    ft_err_clear(&err);
    f->artifact.run_name = "../up";
    char *fresh = below(f, "fresh");
    assert_int_equal(ft_artifact_write(&f->artifact, fresh, left_out, &err), FT_INVALID);
    assert_int_equal(ft_path_kind(fresh), FT_PATH_NONE);
    ft_err_clear(&err);
    f->artifact.run_name = "happy-turing";
    char *nowhere = below(f, "full/precious.txt/x");
    assert_true(ft_artifact_write(&f->artifact, nowhere, left_out, &err) != FT_OK);
    ft_free(nowhere);
    ft_free(fresh);
    ft_free(zip);
    ft_free(dir);
}

/* ---- loading */

static void loads_onnx_files(void **state)
{
    const struct fixture *f = *state;
    struct ft_err err = {0};
    struct ft_model *m = NULL;
    char *path = below(f, "my.classifier.onnx");
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&f->file), &err));
    ASSERT_OK(ft_model_load(path, NULL, &m, &err));
    assert_string_equal(m->name, "my.classifier");
    assert_string_equal(m->source, path);
    assert_false(m->is_embedding);
    ft_model_free(m);
    ft_free(path);
}

#define LOAD_FAILS(code, part, f, name)                                                                      \
    do {                                                                                                     \
        struct ft_err load_err_ = {0};                                                                       \
        struct ft_model *load_model_ = NULL;                                                                 \
        char *load_path_ = below(f, name);                                                                   \
        enum ft_status load_st_ = ft_model_load(load_path_, NULL, &load_model_, &load_err_);                 \
        if (load_st_ != FT_##code || strstr(load_err_.text, part) == NULL) {                                 \
            fail_msg("wanted %s with '%s', got %s: %s", #code, part, ft_status_text(load_st_),               \
                     load_err_.text);                                                                        \
        }                                                                                                    \
        assert_null(load_model_);                                                                            \
        ft_free(load_path_);                                                                                 \
    } while (0)

static void what_is_no_model_is_refused(void **state)
{
    const struct fixture *f = *state;
    struct ft_err err = {0};
    char *dir = below(f, "d/models/m");
    ASSERT_OK(ft_dir_make(dir, &err));
    LOAD_FAILS(NOT_FOUND, "no model at", f, "nothing");
    LOAD_FAILS(INVALID, "not a model folder", f, "d");
    write_below(f, "d/config.json", "{}");
    LOAD_FAILS(UNSUPPORTED, "model_type", f, "d");
    write_below(f, "d/config.yml", "a: 1\n");
    LOAD_FAILS(CORRUPT, "no models/<name>/model.onnx", f, "d");
    write_below(f, "d/models/m/model.pt", "x");
    LOAD_FAILS(UNSUPPORTED, "PyTorch weights only", f, "d");
    write_below(f, "d/models/m/model.onnx", "x");
    LOAD_FAILS(CORRUPT, "d: ", f, "d");
    char *second = below(f, "d/models/n");
    ASSERT_OK(ft_dir_make(second, &err));
    write_below(f, "d/models/n/model.onnx", "x");
    LOAD_FAILS(UNSUPPORTED, "2 models", f, "d");
    write_below(f, "text.onnx", "hello world");
    LOAD_FAILS(CORRUPT, "text.onnx", f, "text.onnx");
    write_below(f, "empty.onnx", "");
    LOAD_FAILS(CORRUPT, "not a whole ONNX model: no graph inside", f, "empty.onnx");
    write_below(f, "m.pt", "PK\3\4...m/data.pkl");
    LOAD_FAILS(UNSUPPORTED, "not an ONNX model: a PyTorch model comes here by torch.onnx.export", f, "m.pt");
    write_below(f, "old.pt", "\x80\2\x8a\nl");
    LOAD_FAILS(UNSUPPORTED, "a Python pickle", f, "old.pt");
    write_below(f, "no.zip", "hello");
    LOAD_FAILS(INVALID, "not an artifact", f, "no.zip");
    ft_free(second);
    ft_free(dir);
}

/* Written by the class of Finetuner 0.13.10 itself; its embeddings are compared in tests/oracle. */
static void artifacts_of_the_real_finetuner_load(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int params;
        enum ft_op last;
    } cases[] = {{"mlp-onnx", 2, FT_OP_MATMUL}, {"mlp-onnx-deep", 4, FT_OP_L2_NORMALIZE}};
    for (size_t i = 0; i < 2; i++) {
        struct ft_err err = {0};
        struct ft_model *m = NULL;
        char path[512];
        (void)snprintf(path, sizeof path, FT_TEST_DATA "/model/%s.zip", cases[i].name);
        ASSERT_OK(ft_model_load(path, NULL, &m, &err));
        assert_true(m->is_embedding);
        assert_string_equal(m->name, "mlp");
        assert_null(m->prep);
        assert_int_equal(ft_graph_params(m->graph), cases[i].params);
        assert_int_equal(ft_graph_node(m->graph, ft_graph_nodes(m->graph) - 1)->op, cases[i].last);
        const struct ft_json *config = ft_json_get(m->meta, "config");
        assert_string_equal(ft_json_text(ft_json_get(config, "run_name"), NULL), cases[i].name);
        assert_int_equal(ft_json_count(ft_json_get(m->meta, "metrics")), 2);
        ft_model_free(m);
    }
}

struct round_trip {
    const struct fixture *f;
    const char *path;
};

static enum ft_status write_and_load(void *arg, struct ft_err *err)
{
    const struct round_trip *r = arg;
    struct ft_model *m = NULL;
    enum ft_status st = FT_OK;
    FT_TRY(ft_artifact_write(&r->f->artifact, r->path, left_out, err));
    FT_TRY(ft_model_load(r->path, NULL, &m, err));
done:
    ft_model_free(m);
    return st;
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
    const struct fixture *f = *state;
    struct ft_err err = {0};
    struct round_trip r = {f, below(f, "a")};
    fail_each_allocation(write_and_load, &r);
    ft_free((void *)(uintptr_t)r.path);
    struct ft_dir_list list = {0};
    ASSERT_OK(ft_dir_list(f->dir, &list, &err));
    assert_int_equal(list.count, 1);
    ft_dir_list_release(&list);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(folders_and_archives_load_back),
        WITH_FIXTURE(equal_runs_give_equal_bytes),
        WITH_FIXTURE(metadata_has_what_finetuners_loader_wants),
        WITH_FIXTURE(what_is_not_ours_is_not_replaced),
        WITH_FIXTURE(loads_onnx_files),
        WITH_FIXTURE(what_is_no_model_is_refused),
        cmocka_unit_test(artifacts_of_the_real_finetuner_load),
        WITH_FIXTURE(a_failed_allocation_leaves_nothing_behind),
    };
    if (ft_path_kind("/dev/shm") == FT_PATH_DIR) { /* some hundred artifacts are written durably */
        (void)setenv("TMPDIR", "/dev/shm", 0);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
