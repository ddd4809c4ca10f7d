/* links: ft_codec ft_base */
/* covers: executor/codec/yaml.c */
/* Any text: refused, or values that are written and read back as the same values. */
#include "tests/fuzz/target.h"

#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/codec/yaml.h"

static enum ft_status read_values(struct ft_bytes text, struct ft_json **json, struct ft_err *err)
{
    struct ft_arena arena = {0};
    struct ft_yaml *root = NULL;
    enum ft_status st = ft_yaml_parse(text, &arena, &root, err);
    if (st == FT_OK) {
        st = ft_yaml_to_json(root, json, err);
    }
    ft_arena_release(&arena);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    struct ft_json *again = NULL;
    struct ft_buf yaml = {0};
    struct ft_buf text = {0};
    struct ft_buf second = {0};
    enum ft_status st = read_values(ft_bytes_of(data, size), &json, &err);
    if (st == FT_OK) {
        st = ft_yaml_write(json, &yaml, &err);
        assert(st == FT_OK);
        st = read_values(ft_buf_bytes(&yaml), &again, &err);
        assert(st == FT_OK || (st == FT_LIMIT && yaml.size > size));
    } else {
        assert(st == FT_INVALID || st == FT_UNSUPPORTED || st == FT_LIMIT);
    }
    if (again != NULL) {
        st = ft_json_write(json, 0, &text, &err);
        assert(st == FT_OK);
        st = ft_json_write(again, 0, &second, &err);
        assert(st == FT_OK);
        assert(ft_bytes_equal(ft_buf_bytes(&text), ft_buf_bytes(&second)));
    }
    ft_json_free(json);
    ft_json_free(again);
    ft_buf_release(&yaml);
    ft_buf_release(&text);
    ft_buf_release(&second);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
