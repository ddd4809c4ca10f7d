/* links: ft_config ft_codec ft_base */
/*
 * The one table of settings: its file, its flags, its errors; the shipped config.yml is what the table says.
 */
#include <stdlib.h>

#include "executor/config/config.h"
#include "tests/support.h"

static struct ft_err err;

/* A config file with that text in a folder of its own; *dir is removed by drop(). */
static char *file_with(const char *text, char **dir)
{
    char *path = NULL;
    ASSERT_OK(ft_dir_temp("config", dir, &err));
    ASSERT_OK(ft_path_join(*dir, "c.yml", &path, &err));
    ASSERT_OK(ft_file_write(path, ft_bytes_of_text(text), &err));
    return path;
}

static void drop(char *path, char *dir)
{
    ASSERT_OK(ft_path_remove(dir, &err));
    ft_free(path);
    ft_free(dir);
}

static enum ft_status read_text(const char *text, struct ft_config *config)
{
    char *dir = NULL;
    char *path = file_with(text, &dir);
    ASSERT_OK(ft_config_init(config, &err));
    enum ft_status st = ft_config_read_file(config, path, &err);
    struct ft_err kept = err;
    drop(path, dir);
    err = kept;
    return st;
}

static void refused(const char *text, enum ft_status want, const char *part)
{
    struct ft_config config;
    assert_int_equal(read_text(text, &config), want);
    if (strstr(err.text, part) == NULL) {
        fail_msg("'%s' is not in '%s'", part, err.text);
    }
    ft_config_release(&config);
}

static void shipped_file_is_the_dump(void **state)
{
    (void)state;
    struct ft_buf dump = {0};
    struct ft_buf file = golden("../../config.yml");
    ASSERT_OK(ft_config_dump(&dump, &err));
    assert_string_equal((const char *)dump.data, (const char *)file.data);
    ft_buf_release(&dump);
    ft_buf_release(&file);
}

static struct ft_buf written(const struct ft_config *config)
{
    struct ft_json *json = NULL;
    struct ft_buf text = {0};
    ASSERT_OK(ft_config_write(config, &json, &err));
    ASSERT_OK(ft_json_write(json, 1, &text, &err));
    ft_json_free(json);
    return text;
}

static void dump_reads_back_as_the_defaults(void **state)
{
    (void)state;
    struct ft_buf dump = {0};
    struct ft_config read;
    struct ft_config standard;
    ASSERT_OK(ft_config_dump(&dump, &err));
    ASSERT_OK(read_text((const char *)dump.data, &read));
    ASSERT_OK(ft_config_init(&standard, &err));
    struct ft_buf a = written(&read);
    struct ft_buf b = written(&standard);
    assert_string_equal((const char *)a.data, (const char *)b.data);
    assert_int_equal(standard.port, 54321);
    assert_string_equal(standard.host, "0.0.0.0");
    assert_int_equal(standard.encode_on.count, 6);
    ft_buf_release(&a);
    ft_buf_release(&b);
    ft_buf_release(&dump);
    ft_config_release(&read);
    ft_config_release(&standard);
}

static void errors_name_file_line_key_and_range(void **state)
{
    (void)state;
    refused("with:\n  host: a\n  port: 99999\n", FT_INVALID, "c.yml:3: port: 99999 is not in 0 .. 65535");
    refused("with:\n  prot: 1\n", FT_INVALID, "c.yml:2: no setting is called 'prot'; did you mean 'port'?");
    refused("with:\n  port: many\n", FT_INVALID, "c.yml:2: port: 'many' is not a whole number in 0 .. 65535");
    refused("with:\n  keep_head: 3\n", FT_INVALID, "c.yml:2: keep_head: '3' is not true or false");
    refused("with:\n  device: tpu\n", FT_INVALID, "c.yml:2: device: 'tpu' is not one of auto|cpu|cuda");
    refused("with:\n  encode_on: {a: 1}\n", FT_INVALID, "c.yml:2: encode_on is not a list of texts");
    refused("with:\n  encode_on: [1]\n", FT_INVALID, "item 1 is not text");
    refused("with:\n  prep: [1]\n", FT_INVALID, "c.yml:2: prep is not an object");
    refused("port: 3\n", FT_INVALID, "c.yml:1: 'port' is not one of jtype, with");
    refused("metas:\n  nam: x\n", FT_INVALID, "c.yml:2: 'nam' is not one of Jina's metas");
    refused("with: [\n", FT_INVALID, "c.yml");
    refused("- 1\n", FT_INVALID, "c.yml:1: not a map");
    refused("with: 3\n", FT_INVALID, "c.yml:1: `with` is not a map");
    struct ft_config config;
    ASSERT_OK(ft_config_init(&config, &err));
    assert_int_equal(ft_config_read_file(&config, "/nonexistent/c.yml", &err), FT_NOT_FOUND);
    ft_config_release(&config);
}

static void a_jina_executor_file_is_read(void **state)
{
    (void)state;
    struct ft_config config;
    (void)setenv("FT_TEST_PORT", "4242", 1);
    ASSERT_OK(read_text("jtype: MyEncoder\n"
                        "metas:\n  name: enc/rep-0\n  description: x\n  keywords: [a, b]\n"
                        "py_modules: []\nrequests:\n  /a: b\n"
                        "with:\n  port: ${{ ENV.FT_TEST_PORT }}\n  encode_on: [/e, /]\n  normalize: true\n"
                        "  prep:\n    size: 32\n  model: 007\n  cut:\n",
                        &config));
    assert_string_equal(config.name, "enc/rep-0");
    assert_true(ft_bytes_is(ft_config_short_name(&config), "enc"));
    assert_int_equal(config.port, 4242);
    assert_int_equal(config.encode_on.count, 2);
    assert_string_equal(config.encode_on.items[1], "/");
    assert_true(config.normalize);
    assert_int_equal(ft_json_int(ft_json_get(config.prep, "size")), 32);
    assert_string_equal(config.model, "007"); /* text stays as it was written */
    assert_string_equal(config.cut, "");
    ft_config_release(&config);
    (void)unsetenv("FT_TEST_PORT");
    refused("with:\n  port: ${{ ENV.FT_TEST_PORT }}\n", FT_INVALID,
            "c.yml:2: the environment has no FT_TEST_PORT");
    refused("with:\n  port: ${{ CONTEXT.X }}\n", FT_INVALID, "is not ${{ ENV.NAME }}");
}

#define FLAGS(...) ((char *[]){__VA_ARGS__}), (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *))

static enum ft_status serve_flags(struct ft_config *config, char **argv, int argc)
{
    ASSERT_OK(ft_config_init(config, &err));
    return ft_config_flags(config, argc, argv, &err);
}

static void flags_win_over_the_file(void **state)
{
    (void)state;
    char *dir = NULL;
    char *path = file_with("with:\n  port: 1\n  name: filed\n", &dir);
    struct ft_config config;
    ASSERT_OK(serve_flags(&config, FLAGS("--port=2", "--config", path, "--keep-head", "--normalize", "false",
                                         "--encode-on", "/a,/b", "--prep", "{\"size\": 8}")));
    assert_int_equal(config.port, 2);
    assert_string_equal(config.name, "filed");
    assert_true(config.keep_head);
    assert_false(config.normalize);
    assert_int_equal(config.encode_on.count, 2);
    assert_int_equal(ft_json_int(ft_json_get(config.prep, "size")), 8);
    ft_config_release(&config);
    drop(path, dir);
    static const struct {
        char *words[2];
        int count;
        enum ft_status want;
    } wrong[] = {
        {{"--prot", "1"}, 2, FT_USAGE},  {{"--port", NULL}, 1, FT_USAGE},
        {{"port", "1"}, 2, FT_USAGE},    {{"--port", "-1"}, 2, FT_USAGE},
        {{"--port", "1x"}, 2, FT_USAGE}, {{"--prep", "{"}, 2, FT_USAGE},
        {{"--port", ""}, 2, FT_USAGE},   {{"--config", "/nonexistent"}, 2, FT_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *words[2] = {wrong[i].words[0], wrong[i].words[1]};
        assert_int_equal(serve_flags(&config, words, wrong[i].count), wrong[i].want);
        ft_config_release(&config);
    }
}

/* Words captured from a local Flow's docker:// start (jina/SPEC.md 4.2), and Kubernetes' (4.3). */
static void the_words_of_jina_executor_are_taken(void **state)
{
    (void)state;
    char *dir = NULL;
    char *path = file_with("with:\n  port: 1\n  model: a.onnx\n  threads: 3\n", &dir);
    char *docker[] = {"--name",
                      "cexec/rep-0",
                      "--workspace-id",
                      "0af1",
                      "--workspace",
                      "/app/.cache/jina",
                      "--polling",
                      "ANY",
                      "--native",
                      "--host",
                      "0.0.0.0",
                      "--noblock-on-start",
                      "--port",
                      "58141",
                      "58142",
                      "--port-monitoring",
                      "49338",
                      "--retries",
                      "-1",
                      "--uses-with",
                      "{\"model\": \"/m.onnx\", \"threads\": 2.0}",
                      "encode_batch_size: 16",
                      "encode_queue=3",
                      "{\"cut\": \"x${{ ENV.FT_TEST_CUT }}\"}",
                      "run_nice=${{ env.FT_TEST_NICE }}",
                      "--uses",
                      path,
                      "--uses-metas",
                      "{\"name\": \"X\"}",
                      "--env",
                      "{\"FOO\": \"bar\"}",
                      "--what-is-this",
                      "1",
                      "2"};
    struct ft_config config;
    assert_int_equal(setenv("FT_TEST_CUT", "yz", 1), 0);
    assert_int_equal(setenv("FT_TEST_NICE", "7", 1), 0);
    ASSERT_OK(ft_config_init(&config, &err));
    ASSERT_OK(ft_config_jina_flags(&config, (int)(sizeof docker / sizeof docker[0]), docker, &err));
    assert_string_equal(config.name, "cexec/rep-0");
    assert_string_equal(config.host, "0.0.0.0");
    assert_int_equal(config.port, 58141);
    assert_string_equal(config.model, "/m.onnx");
    assert_int_equal(config.threads, 2);
    assert_int_equal(config.encode_batch_size, 16);
    assert_int_equal(config.encode_queue, 3);
    assert_int_equal(config.port_monitoring,
                     49338); /* which Jina gives whether or not there is to be a page */
    assert_false(config.monitoring);
    assert_string_equal(config.cut, "xyz");
    assert_int_equal(config.run_nice, 7);
    assert_string_equal(config.workspace, "/app/.cache/jina/cexec/rep-0");
    ft_config_release(&config);
    ASSERT_OK(ft_config_init(&config, &err));
    char *unset[] = {"--uses-with", "{\"cut\": \"${{ ENV.FT_TEST_UNSET }}\"}"};
    assert_int_equal(ft_config_jina_flags(&config, 2, unset, &err), FT_INVALID);
    ft_config_release(&config);
    static char *const wrong[][2] = {{"--uses-with", "{\"modle\": 1}"},
                                     {"--uses-with", "modle=1"},
                                     {"--uses-with", "word"},
                                     {"--uses", "BaseExecutor"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *words[2] = {wrong[i][0], wrong[i][1]};
        ASSERT_OK(ft_config_init(&config, &err));
        assert_int_equal(ft_config_jina_flags(&config, 2, words, &err), FT_USAGE);
        ft_config_release(&config);
    }
    drop(path, dir);
}

/* Jina replaces them wherever a text stands, and types what it has put in; so in files and in --uses-with. */
static void the_environment_is_put_in_at_any_depth(void **state)
{
    (void)state;
    struct ft_config config;
    assert_int_equal(setenv("FT_TEST_SIZE", "224", 1), 0);
    assert_int_equal(setenv("FT_TEST_PATH", "/deep", 1), 0);
    assert_int_equal(setenv("FT_TEST_TRUTH", "True", 1), 0);
    char *words[] = {"--uses-with",
                     "{\"encode_on\": [\"/a\", \"/x${{ ENV.FT_TEST_PATH }}\", \"${{ ENV.FT_TEST_SIZE }}\"],"
                     " \"prep\": {\"size\": \"${{ ENV.FT_TEST_SIZE }}\", \"as\": \"224\", \"in\":"
                     " [{\"a\": \"${{ env.FT_TEST_PATH }}/b\", \"t\": \"${{ ENV.FT_TEST_TRUTH }}\"}]}}"};
    ASSERT_OK(ft_config_init(&config, &err));
    ASSERT_OK(ft_config_jina_flags(&config, 2, words, &err));
    for (int from_file = 0; from_file < 2; from_file++) {
        assert_int_equal(config.encode_on.count, 3);
        assert_string_equal(config.encode_on.items[1], "/x/deep");
        assert_string_equal(config.encode_on.items[2], "224");
        const struct ft_json *inside = ft_json_at(ft_json_get(config.prep, "in"), 0);
        assert_int_equal(ft_json_kind(ft_json_get(config.prep, "size")), FT_JSON_INT);
        assert_int_equal(ft_json_int(ft_json_get(config.prep, "size")), 224);
        assert_string_equal(ft_json_text(ft_json_get(config.prep, "as"), NULL),
                            "224"); /* as it was written */
        assert_string_equal(ft_json_text(ft_json_get(inside, "a"), NULL), "/deep/b");
        assert_true(ft_json_bool(ft_json_get(inside, "t")));
        ft_config_release(&config);
        if (from_file == 0) {
            ASSERT_OK(
                read_text("with:\n  encode_on: [/a, '/x${{ ENV.FT_TEST_PATH }}', '${{ ENV.FT_TEST_SIZE }}']\n"
                          "  prep:\n    size: ${{ ENV.FT_TEST_SIZE }}\n    as: '224'\n"
                          "    in:\n    - a: ${{ env.FT_TEST_PATH }}/b\n      t: ${{ ENV.FT_TEST_TRUTH }}\n",
                          &config));
        }
    }
    refused("with:\n  prep:\n    size: ['${{ ENV.FT_TEST_UNSET }}']\n", FT_INVALID,
            "c.yml:2: the environment has no FT_TEST_UNSET");
    refused("with:\n  encode_on: ['${{ CONTEXT.X }}']\n", FT_INVALID,
            "c.yml:2: '${{ CONTEXT.X }}' is not ${{ ENV.NAME }}");
}

static void help_has_every_setting(void **state)
{
    (void)state;
    struct ft_buf help = {0};
    struct ft_json *all = NULL;
    struct ft_config config;
    ASSERT_OK(ft_config_init(&config, &err));
    ASSERT_OK(ft_config_help(&help, &err));
    ASSERT_OK(ft_config_write(&config, &all, &err));
    size_t lines = 0;
    for (const char *c = (const char *)help.data; (c = strchr(c, '\n')) != NULL; c++) {
        lines++;
    }
    assert_int_equal(lines, ft_json_count(all) + 1);
    assert_non_null(strstr((const char *)help.data, "--encode-batch-size"));
    ft_buf_release(&help);
    ft_json_free(all);
    ft_config_release(&config);
}

static void memory_running_out_leaks_nothing(void **state)
{
    (void)state;
    char *dir = NULL;
    char *path =
        file_with("metas:\n  name: n\nwith:\n  port: 7\n  encode_on: [a, b]\n  prep: {size: 3}\n", &dir);
    size_t before = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    uint64_t n = 0;
    while (st != FT_OK) {
        struct ft_config config;
        ft_alloc_fail_at(++n);
        st = ft_config_init(&config, &err);
        if (st == FT_OK) {
            st = ft_config_read_file(&config, path, &err);
        }
        ft_alloc_fail_at(0);
        if (st != FT_OK && st != FT_NOMEM) {
            fail_msg("allocation %d: %s", (int)n, err.text);
        }
        ft_config_release(&config);
        assert_int_equal(ft_alloc_stats().live_blocks, before);
    }
    assert_true(n > 20);
    drop(path, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_file_is_the_dump),
        cmocka_unit_test(dump_reads_back_as_the_defaults),
        cmocka_unit_test(errors_name_file_line_key_and_range),
        cmocka_unit_test(a_jina_executor_file_is_read),
        cmocka_unit_test(flags_win_over_the_file),
        cmocka_unit_test(the_words_of_jina_executor_are_taken),
        cmocka_unit_test(the_environment_is_put_in_at_any_depth),
        cmocka_unit_test(help_has_every_setting),
        cmocka_unit_test(memory_running_out_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
