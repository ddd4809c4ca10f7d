/*
 * pb.h - protobuf's wire format without generated code: scan zero-copy, emit, check depth. Wraps nanopb's
 * reader.
 *
 * For messages whose size or nesting is in a stranger's hand (Documents, ONNX). A cursor walks one message's
 * fields; sub-messages are walked by a new cursor on `field.bytes`: recursion is the caller's, so is its
 * depth limit. Thread-safety: pure functions on caller-owned cursors.
 */
#ifndef FT_CODEC_PB_H
#define FT_CODEC_PB_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/bytes.h"

enum ft_pb_wire { FT_PB_VARINT = 0, FT_PB_FIXED64 = 1, FT_PB_BYTES = 2, FT_PB_FIXED32 = 5 };

struct ft_pb_cursor {
    struct ft_bytes message;
    size_t at; /* offset of the next field */
};

struct ft_pb_field {
    uint32_t number;
    enum ft_pb_wire wire;
    uint64_t varint;       /* VARINT; FIXED32 and FIXED64 as their bits */
    struct ft_bytes bytes; /* BYTES: the payload */
    struct ft_bytes raw;   /* tag and payload, for passing on what we do not understand */
};

struct ft_pb_cursor ft_pb_open(struct ft_bytes message);
/* *more = false at the end. FT_CORRUPT: truncated, field number 0, groups (wire types 3 and 4) or unknown
 * wire types. */
FT_MUST_CHECK enum ft_status ft_pb_next(struct ft_pb_cursor *cursor, struct ft_pb_field *field, bool *more,
                                        struct ft_err *err);

/* Typed views of a field; FT_CORRUPT on another wire type, naming the field number. */
FT_MUST_CHECK enum ft_status ft_pb_int64(const struct ft_pb_field *field, int64_t *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_float(const struct ft_pb_field *field, float *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_double(const struct ft_pb_field *field, double *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_bytes(const struct ft_pb_field *field, struct ft_bytes *out,
                                         struct ft_err *err);

/* Repeated scalars, packed or not: append this field's value(s) to a growing array of *count elements. */
FT_MUST_CHECK enum ft_status ft_pb_append_int64(const struct ft_pb_field *field, int64_t **array,
                                                size_t *count, size_t *capacity, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_append_float(const struct ft_pb_field *field, float **array, size_t *count,
                                                size_t *capacity, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_append_double(const struct ft_pb_field *field, double **array,
                                                 size_t *count, size_t *capacity, struct ft_err *err);

/* Refuse a message that some recursive decoder could be led deeper than `depth` levels by: every
 * length-delimited field that parses completely as fields counts as a possible level; the message itself is
 * level 0. Non-recursive, bounded memory, linear time; depth <= FT_MAX_NESTING. Used before protobuf-c
 * unpacks. FT_LIMIT; FT_CORRUPT when the message itself does not parse as fields. */
FT_MUST_CHECK enum ft_status ft_pb_check_depth(struct ft_bytes message, int depth, struct ft_err *err);

/* Emit into a buffer. ft_pb_put_message() emits tag and length of an already built payload. */
FT_MUST_CHECK enum ft_status ft_pb_put_varint(struct ft_buf *out, uint32_t number, uint64_t value,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_put_float(struct ft_buf *out, uint32_t number, float value,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_put_double(struct ft_buf *out, uint32_t number, double value,
                                              struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_put_bytes(struct ft_buf *out, uint32_t number, struct ft_bytes value,
                                             struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_pb_put_text(struct ft_buf *out, uint32_t number, const char *value,
                                            struct ft_err *err);
/* Tag and length only: the caller appends exactly `size` bytes next (large payloads without a copy). */
FT_MUST_CHECK enum ft_status ft_pb_put_header(struct ft_buf *out, uint32_t number, size_t size,
                                              struct ft_err *err);
/* Packed repeated int64 (also enums, int32). Nothing is written for count 0. */
FT_MUST_CHECK enum ft_status ft_pb_put_packed(struct ft_buf *out, uint32_t number, const int64_t *values,
                                              size_t count, struct ft_err *err);
#endif
