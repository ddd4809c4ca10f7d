/*
 * reflection.h - grpc.reflection.v1 and v1alpha, which have the same wire: what services there are, and what
 * they look like.
 *
 * The files of proto/ are compiled into the program as protoc's descriptors; they are looked through for each
 * question. Thread-safety: pure functions.
 */
#ifndef FT_WIRE_REFLECTION_H
#define FT_WIRE_REFLECTION_H

#include "executor/codec/pb.h"

/* Append the answer to one ServerReflectionRequest. list_services is answered with `services`, questions for
 * files, by name or by what they declare, with the file and all it imports. There are no extensions. What is
 * not known is answered with error_response 5 NOT_FOUND. FT_CORRUPT: not such a request. */
FT_MUST_CHECK enum ft_status ft_reflection_answer(struct ft_bytes request, const char *const *services,
                                                  size_t count, struct ft_buf *out, struct ft_err *err);
#endif
