/*
 * v1.h - messages of finetuner.v1 (proto/finetuner/v1/finetuner.proto) as bytes.
 *
 * Control messages become JSON objects and back, by the names of the .proto: what is not set is not there,
 * enums are their names, a google.protobuf.Struct is an object. protobuf-c does that, behind a check of size,
 * depth and text, which it has not. Messages that carry Documents are scanned: nothing is copied or recurses,
 * a Document borrows from the message (but for one of ours with tags, which is written anew, as docarray v1).
 *
 * Errors of what a client sent are told with the field at fault, "documents[3].label" (struct ft_v1_fault).
 * Thread-safety: pure functions on caller-owned structs.
 */
#ifndef FT_WIRE_V1_H
#define FT_WIRE_V1_H

#include "executor/base/arena.h"
#include "executor/codec/json.h"
#include "executor/codec/pb.h"
#include "executor/wire/document.h"

/* The control messages. */
#define FT_V1_TYPES(X)                                                                                       \
    X(PUSH_RESPONSE, push_response)                                                                          \
    X(FIT_REQUEST, fit_request)                                                                              \
    X(RUN, run)                                                                                              \
    X(GET_RUN_REQUEST, get_run_request)                                                                      \
    X(LIST_RUNS_REQUEST, list_runs_request)                                                                  \
    X(LIST_RUNS_RESPONSE, list_runs_response)                                                                \
    X(CANCEL_RUN_REQUEST, cancel_run_request)                                                                \
    X(DELETE_RUN_REQUEST, delete_run_request)                                                                \
    X(DELETE_RUN_RESPONSE, delete_run_response)                                                              \
    X(WATCH_REQUEST, watch_request)                                                                          \
    X(EVENT, event)                                                                                          \
    X(PULL_REQUEST, pull_request)                                                                            \
    X(DATASET, dataset)                                                                                      \
    X(LIST_DATASETS_REQUEST, list_datasets_request)                                                          \
    X(LIST_DATASETS_RESPONSE, list_datasets_response)                                                        \
    X(GET_DATASET_REQUEST, get_dataset_request)                                                              \
    X(DELETE_DATASET_REQUEST, delete_dataset_request)                                                        \
    X(DELETE_DATASET_RESPONSE, delete_dataset_response)                                                      \
    X(DELETE_DOCUMENTS_REQUEST, delete_documents_request)                                                    \
    X(DELETE_DOCUMENTS_RESPONSE, delete_documents_response)                                                  \
    X(MODEL, model)                                                                                          \
    X(LIST_MODELS_REQUEST, list_models_request)                                                              \
    X(LIST_MODELS_RESPONSE, list_models_response)                                                            \
    X(GET_MODEL_REQUEST, get_model_request)                                                                  \
    X(DELETE_MODEL_REQUEST, delete_model_request)                                                            \
    X(DELETE_MODEL_RESPONSE, delete_model_response)                                                          \
    X(FINETUNE_CONFIG, finetune_config)                                                                      \
    X(MODEL_UPLOAD, model_upload)                                                                            \
    X(PUSH_MODEL_RESPONSE, push_model_response)

enum ft_v1_type {
#define FT_V1_ENUM(name, message) FT_V1_##name,
    FT_V1_TYPES(FT_V1_ENUM)
#undef FT_V1_ENUM
        FT_V1_TYPE_COUNT
};

/* What google.rpc's details say beside a status. Zeroed: nothing. */
struct ft_v1_fault {
    char field[96];       /* "" or the field at fault */
    double retry_seconds; /* 0, or when trying again may help */
};

/* *json (an object) is the caller's. FT_CORRUPT: not such a message; FT_INVALID: text that is not UTF-8 or
 * has U+0000 inside, a number that is not finite or does not fit 64 bits with a sign; FT_LIMIT: more than
 * FT_MAX_CONFIG_BYTES or nested too deeply. */
FT_MUST_CHECK enum ft_status ft_v1_read(enum ft_v1_type type, struct ft_bytes message, struct ft_json **json,
                                        struct ft_v1_fault *fault, struct ft_err *err);
/* A text of such an object; "" when absent. */
const char *ft_v1_text(const struct ft_json *message, const char *key);
/* Append a message. Members that it does not have are left out; of a oneof's the last one counts.
 * FT_INTERNAL: a value of another kind than its field. */
FT_MUST_CHECK enum ft_status ft_v1_write(enum ft_v1_type type, const struct ft_json *json, struct ft_buf *out,
                                         struct ft_err *err);

/* PushRequest, EncodeRequest or FinetuneRequest: what is in field 1, and the Documents. */
struct ft_v1_batch {
    bool has_head;
    struct ft_bytes head;     /* a dataset's or model's name, unchecked, or a FinetuneConfig */
    struct ft_document *docs; /* (count), in the arena */
    size_t count;
};
/* The head, and how many Documents there are: FT_LIMIT above FT_MAX_DOCUMENTS. */
FT_MUST_CHECK enum ft_status ft_v1_batch_look(struct ft_bytes message, struct ft_v1_batch *batch,
                                              struct ft_v1_fault *fault, struct ft_err *err);
/* The Documents of a batch that was looked at, into ft_documents_bytes(count) of the arena's. FT_CORRUPT,
 * FT_INVALID, FT_UNSUPPORTED, FT_LIMIT as docarray.h; a Document may lack label or content. */
FT_MUST_CHECK enum ft_status ft_v1_batch_scan(struct ft_bytes message, struct ft_arena *arena,
                                              struct ft_v1_batch *batch, struct ft_v1_fault *fault,
                                              struct ft_err *err);
/* fault->field: "documents[i]", or that with ".field" behind it. */
void ft_v1_document_field(size_t i, const char *field, struct ft_v1_fault *fault);
/* A text field as it is on the wire. FT_INVALID, naming it: not UTF-8, or with U+0000 inside. */
FT_MUST_CHECK enum ft_status ft_v1_check_text(const char *field, struct ft_bytes text,
                                              struct ft_v1_fault *fault, struct ft_err *err);
/* One Document. *doc borrows from message and arena; doc->raw is its docarray form, if it has one. */
FT_MUST_CHECK enum ft_status ft_v1_document_scan(struct ft_bytes message, struct ft_arena *arena,
                                                 struct ft_document *doc, struct ft_v1_fault *fault,
                                                 struct ft_err *err);
/* Append a Document of ours: of a document with raw its bytes as docarray_v1 or docarray_v2. */
FT_MUST_CHECK enum ft_status ft_v1_document_write(const struct ft_document *doc, struct ft_buf *out,
                                                  struct ft_err *err);

/* Append an EncodeResponse: docs' ids beside rows of vectors (count, dim). */
FT_MUST_CHECK enum ft_status ft_v1_embeddings_write(const struct ft_document *docs, size_t count,
                                                    const float *vectors, size_t dim, struct ft_buf *out,
                                                    struct ft_err *err);
/* Append a Chunk. */
FT_MUST_CHECK enum ft_status ft_v1_chunk_write(uint64_t offset, uint64_t size, const char *sha256,
                                               struct ft_bytes data, struct ft_buf *out, struct ft_err *err);
/* A PushModelRequest: what a model is made of (a ModelUpload), or a piece of it. Borrows from message.
 * FT_CORRUPT. */
struct ft_v1_model_part {
    bool has_model;
    struct ft_bytes model, data;
    uint64_t offset;
};
FT_MUST_CHECK enum ft_status ft_v1_model_part_read(struct ft_bytes message, struct ft_v1_model_part *part,
                                                   struct ft_err *err);
/* Append one: with a ModelUpload, with a piece. */
FT_MUST_CHECK enum ft_status ft_v1_model_head_write(const struct ft_json *model, struct ft_buf *out,
                                                    struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_v1_model_data_write(uint64_t offset, struct ft_bytes data, struct ft_buf *out,
                                                    struct ft_err *err);
/* Model.sha256 of what a ModelUpload lists; what a file lacks counts as empty. */
FT_MUST_CHECK enum ft_status ft_v1_model_digest(const char *entry, const struct ft_json *files, char hex[65],
                                                struct ft_err *err);

/* Members of FinetuneResponse; each is a message written before. */
enum ft_v1_part {
    FT_V1_PART_PUSHED = 1,
    FT_V1_PART_RUN = 2,
    FT_V1_PART_EVENT = 3,
    FT_V1_PART_EMBEDDINGS = 4,
    FT_V1_PART_ARTIFACT = 5
};

/* Append a google.rpc.Status with the details that `fault` has: what grpc-status-details-bin holds. */
FT_MUST_CHECK enum ft_status ft_v1_status_write(int code, const char *text, const struct ft_v1_fault *fault,
                                                struct ft_buf *out, struct ft_err *err);

/* ---- what a client reads, v1_client.c */

/* What a google.rpc.Status says beside code and text; other details are passed over. FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_v1_status_read(struct ft_bytes message, struct ft_v1_fault *fault,
                                               struct ft_err *err);
/* A Chunk. data borrows from message. FT_CORRUPT: no such message, or a hash of another length. */
struct ft_v1_chunk {
    uint64_t offset, size;
    char sha256[65];
    struct ft_bytes data;
};
FT_MUST_CHECK enum ft_status ft_v1_chunk_read(struct ft_bytes message, struct ft_v1_chunk *chunk,
                                              struct ft_err *err);
/* How wide the first row of an EncodeResponse is; its rows (count, dim), of which there must be `count`, all
 * as wide. FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_v1_embeddings_dim(struct ft_bytes message, size_t *dim, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_v1_embeddings_read(struct ft_bytes message, size_t count, size_t dim,
                                                   float *rows, struct ft_err *err);
/* Append the head of a PushRequest or EncodeRequest ("" adds nothing), and a Document to it. */
FT_MUST_CHECK enum ft_status ft_v1_batch_head(const char *name, struct ft_buf *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_v1_batch_add(const struct ft_document *doc, struct ft_buf *scratch,
                                             struct ft_buf *out, struct ft_err *err);
#endif
