/*
 * control.h - the small messages beside the data: health, discovery, information.
 *
 * Thread-safety: pure functions.
 */
#ifndef FT_WIRE_CONTROL_H
#define FT_WIRE_CONTROL_H

#include <stdbool.h>

#include "executor/codec/json.h"
#include "executor/codec/pb.h"

/* grpc.health.v1.HealthCheckRequest{service}; borrowed from the message. */
FT_MUST_CHECK enum ft_status ft_health_read(struct ft_bytes message, struct ft_bytes *service,
                                            struct ft_err *err);
/* HealthCheckResponse.status. */
enum ft_health { FT_HEALTH_SERVING = 1, FT_HEALTH_NOT_SERVING = 2, FT_HEALTH_SERVICE_UNKNOWN = 3 };
FT_MUST_CHECK enum ft_status ft_health_write(enum ft_health health, struct ft_buf *out, struct ft_err *err);

/* jina.EndpointsProto: /default with the schema that every gateway tested takes (jina/SPEC.md 2.4), and
 * `endpoints` with that of FinetunerDocument, which has what a Document needs to be trained on as well: id,
 * text, url, blob, tensor, embedding, tags. Endpoints that are "/default" or said before are left out. */
FT_MUST_CHECK enum ft_status ft_discovery_write(const char *const *endpoints, size_t count,
                                                struct ft_buf *out, struct ft_err *err);

/* jina.JinaInfoProto from two objects of texts. */
FT_MUST_CHECK enum ft_status ft_info_write(const struct ft_json *jina, const struct ft_json *envs,
                                           struct ft_buf *out, struct ft_err *err);
#endif
