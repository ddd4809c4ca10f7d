/*
 * jina.h - Jina's envelopes (jina.DataRequestProto and its kin): taken apart without copying, answered with
 * the request's own bytes and only what must change (jina/SPEC.md 1, 3).
 *
 * A scanned request borrows from its message, which must outlive it. Sub-messages may come in pieces and
 * fields in any order; what we do not know is passed on byte for byte. Thread-safety: pure functions on
 * caller-owned structs.
 */
#ifndef FT_WIRE_JINA_H
#define FT_WIRE_JINA_H

#include <stdbool.h>

#include "executor/codec/json.h"
#include "executor/codec/pb.h"
#include "executor/wire/docarray.h"

enum ft_jina_form {
    FT_JINA_DATA,  /* DataRequestProto: data.docs */
    FT_JINA_LIST,  /* DataRequestListProto: answered as its first request with the Documents of all */
    FT_JINA_SINGLE /* SingleDocumentRequestProto: one document, also in the answer */
};

struct ft_jina_request {
    struct ft_bytes message; /* the envelope that is answered: of a list, its first request */
    enum ft_jina_form form;
    struct ft_bytes id;         /* header.request_id */
    struct ft_bytes endpoint;   /* header.exec_endpoint; empty when absent */
    struct ft_json *parameters; /* an object, empty when absent; owned */
    struct ft_bytes *docs;      /* each Document's bytes; the array is owned */
    size_t n_docs, docs_capacity;
    enum ft_docarray_flavour flavour; /* of the Documents; UNDECIDED when there are none or empty ones only */
    bool has_docs_bytes; /* data.docs_bytes was used: a DocListProto in v2, whose docs are above */
    bool has_pickle;     /* ... a Python pickle in v1: not read */
};

/* FT_CORRUPT: not such a message; FT_INVALID: bad parameters. Release with ft_jina_request_release() in every
 * case. */
FT_MUST_CHECK enum ft_status ft_jina_request_scan(struct ft_bytes message, enum ft_jina_form form,
                                                  struct ft_jina_request *request, struct ft_err *err);
void ft_jina_request_release(struct ft_jina_request *request); /* a zeroed one is fine */

/* What changes in the answer. Zeroed: nothing but the docs of a list joined. */
struct ft_jina_reply {
    struct ft_bytes route;   /* executor of the appended route; empty: none is appended */
    const char *results_key; /* NULL, or: parameters.__results__[results_key] = results */
    const struct ft_json *results;
    const float *embeddings; /* NULL, or (n_docs, dim): put into the Documents */
    size_t dim;
    const struct ft_bytes *docs; /* NULL, or: the Documents of the answer instead of the request's */
    size_t n_docs;
};
/* Append the answer to `out`. */
FT_MUST_CHECK enum ft_status ft_jina_answer(const struct ft_jina_request *request,
                                            const struct ft_jina_reply *reply, struct ft_buf *out,
                                            struct ft_err *err);

/* Append the answer that says why not: header.status ERROR with description and exception (SPEC 3.5),
 * everything else as the request had it. Goes with the trailing metadata is-error: true. A request that could
 * not be scanned answers with a header only. */
FT_MUST_CHECK enum ft_status ft_jina_error(const struct ft_jina_request *request, const struct ft_err *why,
                                           struct ft_buf *out, struct ft_err *err);

/* Append a Document {id, blob, tags} of that docarray: a part of an artifact. `tags` is an object of texts
 * and numbers. */
FT_MUST_CHECK enum ft_status ft_jina_blob_doc(enum ft_docarray_flavour flavour, const char *id,
                                              struct ft_bytes blob, const struct ft_json *tags,
                                              struct ft_buf *out, struct ft_err *err);
#endif
