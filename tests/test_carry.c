/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/* The files that a MODEL is read from: those, by names that keep their places, and no others. */

#include "executor/codec/pb.h"
#include "executor/model/carry.h"
#include "tests/support.h"

static struct ft_err err;

static int set_up(void **state)
{
    char *dir = NULL;
    ASSERT_OK(ft_dir_temp("ft-carry", &dir, &err));
    *state = dir;
    return 0;
}

static int tear_down(void **state)
{
    char *dir = *state;
    ASSERT_OK(ft_path_remove(dir, &err));
    ft_free(dir);
    return 0;
}

static char *path_of(const char *dir, const char *name)
{
    char *path = NULL;
    ASSERT_OK(ft_path_join(dir, name, &path, &err));
    return path;
}

static void put_bytes(const char *dir, const char *name, struct ft_bytes bytes)
{
    char *path = path_of(dir, name);
    char *parent = path_of(dir, name);
    parent[ft_path_base(parent) - parent - 1] = '\0';
    ASSERT_OK(ft_dir_make(parent, &err));
    ASSERT_OK(ft_file_write(path, bytes, &err));
    ft_free(parent);
    ft_free(path);
}

static void put(const char *dir, const char *name, const char *text)
{
    put_bytes(dir, name, ft_bytes_of_text(text));
}

static void wrap(struct ft_buf *message, uint32_t field)
{
    struct ft_buf outer = {0};
    ASSERT_OK(ft_pb_put_bytes(&outer, field, ft_buf_bytes(message), &err));
    ft_buf_release(message);
    *message = outer;
}

/* A model with a tensor whose data lie in `location`: an initializer, or in a branch of a node of a function.
 */
static void put_onnx(const char *dir, const char *name, const char *location, bool deep)
{
    struct ft_buf m = {0};
    ASSERT_OK(ft_pb_put_text(&m, 1, "location", &err));
    ASSERT_OK(ft_pb_put_text(&m, 2, location, &err));
    wrap(&m, 13);
    if (deep) {
        wrap(&m, 5); /* attribute.t */
        wrap(&m, 5); /* node.attribute */
        wrap(&m, 1); /* graph.node */
        wrap(&m, 6); /* attribute.g */
        wrap(&m, 5);
        wrap(&m, 7);  /* function.node */
        wrap(&m, 25); /* model.functions */
    } else {
        wrap(&m, 5);
        wrap(&m, 7);
    }
    put_bytes(dir, name, ft_buf_bytes(&m));
    ft_buf_release(&m);
}

/* "entry: name name ..." */
static void lists(const char *dir, const char *model, const char *want)
{
    struct ft_carry carry;
    struct ft_buf text = {0};
    char *path = path_of(dir, model);
    ASSERT_OK(ft_carry_list(path, &carry, &err));
    ASSERT_OK(ft_buf_printf(&text, &err, "%s:", carry.entry));
    for (size_t i = 0; i < carry.count; i++) {
        assert_int_equal(ft_path_kind(carry.files[i].path), FT_PATH_FILE);
        ASSERT_OK(ft_buf_printf(&text, &err, " %s", carry.files[i].name));
    }
    assert_string_equal((const char *)text.data, want);
    ft_buf_release(&text);
    ft_carry_release(&carry);
    ft_free(path);
}

static void refuses(const char *dir, const char *model, enum ft_status st)
{
    struct ft_carry carry;
    char *path = path_of(dir, model);
    assert_int_equal(ft_carry_list(path, &carry, &err), st);
    ft_carry_release(&carry);
    ft_free(path);
}

static void files_with_their_data(void **state)
{
    const char *dir = *state;
    put(dir, "junk.txt", "x");
    put(dir, "config.json", "{}"); /* of something else: nothing tells of texts */
    put(dir, "w/a.bin", "x");
    put_onnx(dir, "plain.onnx", "w/a.bin", false);
    put_onnx(dir, "deep.onnx", "w/a.bin", true);
    put_onnx(dir, "out.onnx", "../junk.txt", false);
    put(dir, "any.zip", "PK");
    lists(dir, "plain.onnx", "plain.onnx: plain.onnx w/a.bin");
    lists(dir, "deep.onnx", "deep.onnx: deep.onnx w/a.bin");
    lists(dir, "out.onnx", "out.onnx: out.onnx"); /* refused where it is loaded */
    lists(dir, "any.zip", "any.zip: any.zip");
    put(dir, "noise.onnx", "\xff\xff\xff");
    refuses(dir, "noise.onnx", FT_CORRUPT);
    refuses(dir, "nothing", FT_NOT_FOUND);
    refuses(dir, "w", FT_NOT_FOUND);
}

static void files_of_texts(void **state)
{
    const char *dir = *state;
    put(dir, "t/tokenizer.json", "{}");
    put(dir, "t/config.json", "{}");
    put(dir, "t/junk.json", "{}");
    put(dir, "t/modules.json", "[{\"path\": \"\"}, {\"path\": \"1_Dense\"}]");
    put(dir, "t/1_Dense/config.json", "{}");
    put(dir, "t/1_Dense/model.safetensors", "x");
    put(dir, "t/1_Dense/pytorch_model.bin", "x");
    put_onnx(dir, "t/onnx/model.onnx", "data", false);
    put(dir, "t/onnx/data", "x");
    put_onnx(dir, "t/own.onnx", "", false);
    put(dir, "t/onnx/tuned.zip", "PK");
#define BESIDE "1_Dense/config.json 1_Dense/model.safetensors config.json modules.json "
    lists(dir, "t/onnx/model.onnx", "onnx/model.onnx: " BESIDE "onnx/data onnx/model.onnx tokenizer.json");
    lists(dir, "t/own.onnx", "own.onnx: " BESIDE "own.onnx tokenizer.json");
    lists(dir, "t/onnx/tuned.zip", "tuned.zip: tuned.zip"); /* which needs nothing beside it */
    lists(dir, "t/",
          "t: t/1_Dense/config.json t/1_Dense/model.safetensors t/config.json t/modules.json t/onnx/data "
          "t/onnx/model.onnx t/tokenizer.json");
    put(dir, "t/model.safetensors", "x"); /* it is read from that then */
    lists(dir, "t",
          "t: t/1_Dense/config.json t/1_Dense/model.safetensors t/config.json t/model.safetensors "
          "t/modules.json "
          "t/tokenizer.json");
    put(dir, "t/modules.json", "[{\"path\": \"../x\"}]");
    refuses(dir, "t", FT_INVALID);
}

static void shards_and_artifacts(void **state)
{
    const char *dir = *state;
    put(dir, "s/config.json", "{}");
    put(dir, "s/vocab.txt", "x");
    put(dir, "s/model.safetensors.index.json",
        "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\", \"c\": \"1.safetensors\", "
        "\"d\": "
        "\"../dir\"}}");
    put(dir, "s/1.safetensors", "x");
    put(dir, "s/2.safetensors", "x");
    put(dir, "s/3.safetensors", "x");
    lists(dir, "s",
          "s: s/1.safetensors s/2.safetensors s/config.json s/model.safetensors.index.json s/vocab.txt");
    put(dir, "a/config.yml", "x: 1\n");
    put(dir, "a/metrics.json", "{}");
    put(dir, "a/junk", "x");
    put(dir, "a/preprocess/prep.json", "{}");
    put(dir, "a/models/input-map.yml", "x");
    put_onnx(dir, "a/models/net/model.onnx", "w", false);
    put(dir, "a/models/net/w", "x");
    put(dir, "a/models/net/junk", "x");
    put(dir, "a/models/net/metadata.yml", "x");
    lists(dir, "a",
          "a: a/config.yml a/metrics.json a/models/input-map.yml a/models/net/metadata.yml "
          "a/models/net/model.onnx "
          "a/models/net/w a/preprocess/prep.json");
}

static enum ft_status list_it(void *arg, struct ft_err *e)
{
    struct ft_carry carry;
    enum ft_status st = ft_carry_list(arg, &carry, e);
    ft_carry_release(&carry);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const char *dir = *state;
    files_of_texts(state);
    put(dir, "t/modules.json", "[{\"path\": \"1_Dense\"}]");
    char *folder = path_of(dir, "t");
    char *file = path_of(dir, "t/onnx/model.onnx");
    fail_each_allocation(list_it, folder);
    fail_each_allocation(list_it, file);
    ft_free(folder);
    ft_free(file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(files_with_their_data),
        CASE(files_of_texts),
        CASE(shards_and_artifacts),
        CASE(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
