/*
 * codec_dump.h - a JSON tree in the form of tests/data/codec/make.py's dump(): n t f i<int> r<bits> s<hex>
 * [..] {..}.
 */
#ifndef FT_TESTS_CODEC_DUMP_H
#define FT_TESTS_CODEC_DUMP_H

#include "executor/codec/json.h"
#include "tests/support.h"

static inline void put(struct ft_buf *out, const char *text)
{
    struct ft_err err = {0};
    ASSERT_OK(ft_buf_text(out, text, &err));
}

static inline void dump_text(const void *bytes, size_t size, struct ft_buf *out)
{
    struct ft_err err = {0};
    put(out, "s");
    for (size_t i = 0; i < size; i++) {
        ASSERT_OK(ft_buf_printf(out, &err, "%02x", ((const uint8_t *)bytes)[i]));
    }
}

static inline void dump_json(const struct ft_json *json, struct ft_buf *out)
{
    struct ft_err err = {0};
    size_t size = 0;
    double real = ft_json_real(json);
    uint64_t bits = 0;
    const char *text = ft_json_text(json, &size);
    bool first = true;
    switch (ft_json_kind(json)) {
    case FT_JSON_NULL:
        put(out, "n");
        break;
    case FT_JSON_BOOL:
        put(out, ft_json_bool(json) ? "t" : "f");
        break;
    case FT_JSON_INT:
        ASSERT_OK(ft_buf_printf(out, &err, "i%lld", (long long)ft_json_int(json)));
        break;
    case FT_JSON_REAL:
        memcpy(&bits, &real, sizeof bits);
        ASSERT_OK(ft_buf_printf(out, &err, "r%016llx", (unsigned long long)bits));
        break;
    case FT_JSON_TEXT:
        dump_text(text, size, out);
        break;
    case FT_JSON_ARRAY:
        put(out, "[");
        for (size_t i = 0; i < ft_json_count(json); i++) {
            put(out, i == 0 ? "" : " ");
            dump_json(ft_json_at(json, i), out);
        }
        put(out, "]");
        break;
    case FT_JSON_OBJECT:
        put(out, "{");
        for (struct ft_json_iter *it = ft_json_first(json); it != NULL; it = ft_json_next(json, it)) {
            put(out, first ? "" : " ");
            first = false;
            dump_text(ft_json_key(it), strlen(ft_json_key(it)), out);
            put(out, " ");
            dump_json(ft_json_value(it), out);
        }
        put(out, "}");
        break;
    }
}

#endif
