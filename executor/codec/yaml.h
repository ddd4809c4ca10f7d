/*
 * yaml.h - YAML as a tree with line numbers (read) and block style (write). Wraps libyaml.
 *
 * Read: one document, no anchors or aliases (a config that needs them is refused, FT_UNSUPPORTED), tags
 * ignored except that a quoted scalar is always text. Plain scalars follow YAML 1.2's core schema: null ~,
 * true/false, int, float. Limits: FT_MAX_CONFIG_BYTES, FT_MAX_NESTING. Duplicate keys are refused with both
 * lines. Thread-safety: a const tree may be read by any number of threads.
 */
#ifndef FT_CODEC_YAML_H
#define FT_CODEC_YAML_H

#include "executor/base/arena.h"
#include "executor/codec/json.h"

struct ft_yaml {
    enum ft_json_kind kind; /* an INT or REAL keeps its text in `text` too */
    int line;               /* 1-based */
    const char *text;       /* scalar as written (NUL-terminated); NULL for arrays and objects */
    bool truth;             /* BOOL */
    int64_t integer;        /* INT */
    double real;            /* INT and REAL */
    size_t count;           /* children of an ARRAY or OBJECT */
    const char **keys;      /* of an OBJECT */
    int *key_lines;
    struct ft_yaml **items; /* children */
};

/* The tree lives in `arena`. An empty document is FT_JSON_NULL. Errors name the line. */
FT_MUST_CHECK enum ft_status ft_yaml_parse(struct ft_bytes text, struct ft_arena *arena,
                                           struct ft_yaml **root, struct ft_err *err);
const struct ft_yaml *ft_yaml_get(const struct ft_yaml *object, const char *key); /* NULL if none */
/* The same values as JSON (lines are lost). *json is the caller's. FT_INVALID: .inf or .nan inside. */
FT_MUST_CHECK enum ft_status ft_yaml_to_json(const struct ft_yaml *yaml, struct ft_json **json,
                                             struct ft_err *err);
/* Append block-style YAML that Python's yaml.safe_load and ft_yaml_parse() read back as the same values.
 * Empty and scalar-only arrays are written in flow style ([1, 2]). Text that would read as another type is
 * quoted. */
FT_MUST_CHECK enum ft_status ft_yaml_write(const struct ft_json *json, struct ft_buf *out,
                                           struct ft_err *err);
#endif
