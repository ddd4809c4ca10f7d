/* push.h - Documents sent to /train of a running service over a stream, for the benchmark and the kill test.
 */
#ifndef FT_BENCHES_PUSH_H
#define FT_BENCHES_PUSH_H

#include "executor/base/bytes.h"
#include "executor/wire/document.h"

/* A message for JinaRPC/Call: `count` Documents for a dataset. *out is emptied first. */
FT_MUST_CHECK enum ft_status push_request(const char *dataset, const struct ft_document *docs, size_t count,
                                          struct ft_buf *out, struct ft_err *err);
/* How many Documents an answer says are stored or were. An error in it is FT_INVALID with its description. */
FT_MUST_CHECK enum ft_status push_acknowledged(struct ft_bytes answer, size_t *count, struct ft_err *err);
extern const char push_method[];
#endif
