/* links: ft_codec ft_base */
/* covers: executor/codec/json.c */
/* Any text: refused, or a tree that is written and read back to the same text. */
#include "tests/fuzz/target.h"

#include <assert.h>

#include "executor/base/alloc.h"
#include "executor/codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    struct ft_json *again = NULL;
    struct ft_buf text = {0};
    struct ft_buf second = {0};
    if (ft_json_parse(ft_bytes_of(data, size), &json, &err) == FT_OK) {
        enum ft_status st = ft_json_write(json, size % 3 == 0 ? 2 : 0, &text, &err);
        assert(st == FT_OK);
        st = ft_json_parse(ft_buf_bytes(&text), &again, &err);
        assert(st == FT_OK);
        st = ft_json_write(again, size % 3 == 0 ? 2 : 0, &second, &err);
        assert(st == FT_OK);
        assert(ft_bytes_equal(ft_buf_bytes(&text), ft_buf_bytes(&second)));
    } else {
        assert(err.code == FT_INVALID || err.code == FT_LIMIT);
    }
    ft_json_free(json);
    ft_json_free(again);
    ft_buf_release(&text);
    ft_buf_release(&second);
    assert(ft_alloc_stats().live_blocks == 0);
    return 0;
}
