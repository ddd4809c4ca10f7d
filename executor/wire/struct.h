/*
 * struct.h - google.protobuf.Struct as JSON and back: Jina's `parameters`, schemas and results.
 *
 * A Struct has only doubles: integral ones within 2^53 become integers again, so options read as they were
 * written. Duplicate keys: the last wins, as protobuf's maps do. Nesting is limited to FT_MAX_NESTING.
 * Thread-safety: pure functions.
 */
#ifndef FT_WIRE_STRUCT_H
#define FT_WIRE_STRUCT_H

#include "executor/codec/json.h"
#include "executor/codec/pb.h"

/* *json (an object) is the caller's: ft_json_free(). FT_CORRUPT; FT_INVALID: text that is not UTF-8, numbers
 * that are not finite; FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_struct_read(struct ft_bytes message, struct ft_json **json,
                                            struct ft_err *err);
/* Append the payload of a Struct; `object` is a JSON object, its members are written in their order. */
FT_MUST_CHECK enum ft_status ft_struct_write(const struct ft_json *object, struct ft_buf *out,
                                             struct ft_err *err);
/* Append one member {key: object} as a Struct's map entry, tag included. */
FT_MUST_CHECK enum ft_status ft_struct_member(const char *key, const struct ft_json *value,
                                              struct ft_buf *out, struct ft_err *err);
#endif
