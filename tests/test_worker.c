/* links: ft_runs ft_train ft_store ft_wire ft_model ft_graph ft_kernels ft_codec ft_base */
/* One run as the service's worker does it: spec.json and a journal in; events, an artifact and a result out.
 */
#include <stdlib.h>
#include <unistd.h>

#include "tests/train_test.h"

#include "executor/codec/json.h"
#include "executor/model/onnx.h"
#include "executor/runs/worker.h"
#include "executor/store/set.h"

enum { IN = 8, HIDDEN = 12, DIM = 5, LABELS = 6, EACH = 10 };

static void path_in(const char *dir, const char *name, char out[256])
{
    int n = snprintf(out, 256, "%s/%s", dir, name);
    assert_true(n > 0 && n < 256);
}

static void write_model(const char *path)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_buf bytes = {0};
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, IN});
    ft_value y = FT_NO_VALUE;
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &y, &err));
    ASSERT_OK(ft_graph_add1(g, FT_OP_TANH, times_weight(g, "one", y, (int[]){IN, HIDDEN}, 0.3F), &y, &err));
    ASSERT_OK(ft_graph_output(g, times_weight(g, "two", y, (int[]){HIDDEN, DIM}, 0.3F), "embedding", &err));
    ASSERT_OK(ft_onnx_write(g, "test", NULL, &bytes, &err));
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&bytes), &err));
    ft_buf_release(&bytes);
    ft_graph_free(g);
}

static void write_data(const char *dir)
{
    struct ft_err err = {0};
    struct ft_set *set = NULL;
    struct ft_set_result result;
    struct ft_document docs[LABELS * EACH];
    float values[LABELS * EACH][IN];
    char names[LABELS * EACH][2][16];
    memset(docs, 0, sizeof docs);
    for (int i = 0; i < LABELS * EACH; i++) {
        (void)snprintf(names[i][0], sizeof names[i][0], "id-%d", i);
        (void)snprintf(names[i][1], sizeof names[i][1], "label-%d", i % LABELS);
        for (int k = 0; k < IN; k++) {
            values[i][k] = (float)ft_rand_normal(ft_rand_at(2, FT_RAND_TEST, (uint64_t)i), (uint64_t)k) +
                           (k == i % LABELS ? 2.0F : 0.0F);
        }
        docs[i].id = ft_bytes_of_text(names[i][0]);
        docs[i].has_label = true;
        docs[i].label = ft_bytes_of_text(names[i][1]);
        docs[i].content = (struct ft_content){.kind = FT_CONTENT_TENSOR,
                                              .bytes = ft_bytes_of(values[i], sizeof values[i]),
                                              .dtype = "<f4",
                                              .rank = 1,
                                              .dims = {IN}};
    }
    ASSERT_OK(ft_set_open(dir, 0, &set, &err));
    ASSERT_OK(ft_set_append(set, docs, LABELS * EACH, &result, &err));
    assert_int_equal(result.stored, LABELS * EACH);
    ft_set_close(set);
}

static void write_spec(const char *dir, const char *options)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    char path[256];
    path_in(dir, "runs/r1", path);
    ASSERT_OK(ft_dir_make(path, &err));
    path_in(dir, "runs/r1/spec.json", path);
    ASSERT_OK(ft_buf_printf(&text, &err,
                            "{\"model\": \"%s/model.onnx\", \"dataset\": \"%s/data\", \"threads\": 1, "
                            "\"options\": %s}",
                            dir, dir, options));
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&text), &err));
    ft_buf_release(&text);
}

static struct ft_json *last_of(const char *dir, const char *kind)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    struct ft_json *last = NULL;
    char path[256];
    char *line = NULL;
    char *none = NULL;
    size_t at = 0;
    path_in(dir, "runs/r1/events.jsonl", path);
    ASSERT_OK(ft_file_read(path, 1 << 20, &text, &err));
    while (next_line(&text, &at, &line, &none)) {
        struct ft_json *event = NULL;
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(line), &event, &err));
        if (strcmp(ft_json_text(ft_json_get(event, "event"), NULL), kind) == 0) {
            ft_json_free(last);
            last = event;
        } else {
            ft_json_free(event);
        }
    }
    ft_buf_release(&text);
    return last;
}

static void frozen_layers_are_told_of_while_they_run(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char dir[] = "/tmp/ft-test-worker-XXXXXX";
    char path[256];
    assert_non_null(mkdtemp(dir));
    path_in(dir, "model.onnx", path);
    write_model(path);
    path_in(dir, "data", path);
    write_data(path);
    write_spec(dir, "{\"freeze\": \"one\", \"steps\": 4, \"batch_size\": 24}");
    ASSERT_OK(ft_worker_main(dir, "r1", NULL, &err));
    struct ft_json *stage = last_of(dir, "stage");
    assert_non_null(stage);
    assert_string_equal(ft_json_text(ft_json_get(stage, "title"), NULL), "Frozen layers");
    assert_int_equal(ft_json_int(ft_json_get(stage, "done")), LABELS * EACH);
    assert_int_equal(ft_json_int(ft_json_get(stage, "total")), LABELS * EACH);
    assert_true(ft_json_real(ft_json_get(stage, "eta_seconds")) == 0);
    struct ft_json *progress = last_of(dir, "progress");
    assert_non_null(progress);
    assert_int_equal(ft_json_int(ft_json_get(progress, "step")), 4);
    path_in(dir, "artifacts/r1/model.zip", path);
    assert_int_equal(ft_path_kind(path), FT_PATH_FILE);
    ft_json_free(stage);
    ft_json_free(progress);
    ASSERT_OK(ft_path_remove(dir, &err));
}

/* The journal cannot be opened, nor a result be written: the reason goes to the service by the pipe. */
static void what_cannot_be_written_is_said(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char dir[] = "/tmp/ft-test-worker-XXXXXX";
    char path[256];
    char said[FT_ERR_TEXT + 1] = "";
    char number[16];
    int ends[2];
    assert_non_null(mkdtemp(dir));
    write_spec(dir, "{}");
    path_in(dir, "runs/r1/events.jsonl", path);
    ASSERT_OK(ft_dir_make(path, &err));
    assert_int_equal(pipe(ends), 0);
    (void)snprintf(number, sizeof number, "%d", ends[1]);
    assert_int_equal(setenv("FINETUNER_WORKER_SAYS", number, 1), 0);
    assert_int_equal(ft_worker_main(dir, "r1", NULL, &err), FT_IO);
    assert_int_equal(unsetenv("FINETUNER_WORKER_SAYS"), 0);
    assert_true(read(ends[0], said, FT_ERR_TEXT) > 0);
    assert_string_equal(said, err.text);
    assert_non_null(strstr(said, "events.jsonl: EISDIR"));
    (void)close(ends[0]);
    (void)close(ends[1]);
    ASSERT_OK(ft_path_remove(dir, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_layers_are_told_of_while_they_run),
        cmocka_unit_test(what_cannot_be_written_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
