/*
 * remote.h - what the remote verbs share: the options that say which service, a connection to it, calls of
 * finetuner.v1 as JSON, statuses as errors of ours, trying again.
 *
 * Errors of a call are ours: INVALID_ARGUMENT and FAILED_PRECONDITION FT_INVALID, NOT_FOUND FT_NOT_FOUND,
 * UNAVAILABLE and DEADLINE_EXCEEDED FT_UNAVAILABLE, RESOURCE_EXHAUSTED FT_BUSY; the text names the server,
 * the field at fault, and when trying again may help.
 */
#ifndef FT_CLI_REMOTE_H
#define FT_CLI_REMOTE_H

#include "executor/cli/cli.h"
#include "executor/rpc/stream.h"
#include "executor/store/dataset.h"
#include "executor/train/fit.h"
#include "executor/wire/v1.h"

struct ft_remote_args {
    const char *server; /* NULL: none was named */
    bool tls;
    const char *tls_ca, *tls_cert, *tls_key;
};
#define FT_REMOTE_HELP                                                                                       \
    "  --server HOST:PORT     the service: where `finetuner serve` listens\n"                                \
    "  --tls                  talk TLS, trusting whom the system trusts\n"                                   \
    "  --tls-ca FILE          talk TLS, trusting these certificates (PEM) instead\n"                         \
    "  --tls-cert FILE        with --tls-key FILE: the certificate that we show, if the service asks for "   \
    "one"
bool ft_remote_flag(const char *key);
/* *known: it is one of these options, and was taken. */
FT_MUST_CHECK enum ft_status ft_remote_option(struct ft_remote_args *args, const char *key, const char *value,
                                              bool *known, struct ft_err *err);

/* These and --json and --quiet: what every remote verb takes. */
bool ft_remote_verb_flag(const char *key);
FT_MUST_CHECK enum ft_status ft_remote_verb_option(struct ft_remote_args *args, struct ft_output *output,
                                                   const char *key, const char *value, bool *known,
                                                   struct ft_err *err);

struct ft_remote {
    struct ft_remote_args args;
    struct ft_buf ca, cert, key;
    struct ft_rpc_channel *channel;
    bool reached;         /* it answered once */
    double retry_seconds; /* that its last refusal asked for; 0: none */
};
/* Connects at the first call. ft_remote_close() also after a failure. FT_USAGE: options that do not go
 * together. */
FT_MUST_CHECK enum ft_status ft_remote_open(const struct ft_remote_args *args, struct ft_remote *remote,
                                            struct ft_err *err);
void ft_remote_close(struct ft_remote *remote);

/* Is it there and serving? FT_UNAVAILABLE. */
FT_MUST_CHECK enum ft_status ft_remote_ping(struct ft_remote *remote, int timeout_ms, struct ft_err *err);

/* A unary call of finetuner.v1. *answer (may be asked for as NULL) is the caller's. A service that was there
 * and is gone is waited for a while; calls here may be made twice. */
FT_MUST_CHECK enum ft_status ft_remote_call(struct ft_remote *remote, const char *method,
                                            enum ft_v1_type request_type, const struct ft_json *request,
                                            enum ft_v1_type answer_type, struct ft_json **answer,
                                            struct ft_err *err);
/* All that a List call has, page after page, which the answer calls `key`: an array, the caller's. */
FT_MUST_CHECK enum ft_status ft_remote_list(struct ft_remote *remote, const char *method,
                                            enum ft_v1_type request_type, enum ft_v1_type answer_type,
                                            const char *key, struct ft_json **all, struct ft_err *err);
/* GetDataset. */
FT_MUST_CHECK enum ft_status ft_remote_dataset(struct ft_remote *remote, const char *name,
                                               struct ft_json **dataset, struct ft_err *err);
/* {key: value}, the caller's. */
FT_MUST_CHECK enum ft_status ft_remote_request(const char *key, const char *value, struct ft_json **request,
                                               struct ft_err *err);
/* What content with that SHA-256 is called there: "train-3f0a1b2c4d5e" for train.jsonl. Equal content gets an
 * equal name, so that it is sent once. *name is the caller's. */
FT_MUST_CHECK enum ft_status ft_remote_content_name(const char *base, const char *sha256, char **name,
                                                    struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_remote_stream(struct ft_remote *remote, const char *method,
                                              struct ft_rpc_stream **stream, struct ft_err *err);
enum { FT_REMOTE_POLL_MS = 100 }; /* how soon a Ctrl-C is seen */
/* About a run, from a place on: one request, many answers. */
struct ft_remote_question {
    const char *method;
    enum ft_v1_type type; /* of the request */
    const char *run;
    const char *from_key; /* how the request calls the place */
    int64_t from;
    const char *stopped; /* what is said when somebody asked to stop: FT_CANCELLED */
    enum ft_status (*take)(void *arg, struct ft_bytes message, struct ft_err *err);
    void *arg;
};
/* Until the service ends the stream, or take() fails. */
FT_MUST_CHECK enum ft_status ft_remote_follow(struct ft_remote *remote, const struct ft_remote_question *q,
                                              struct ft_err *err);
/* How a stream ended; fault may be NULL. */
FT_MUST_CHECK enum ft_status ft_remote_ended(struct ft_remote *remote, const struct ft_rpc_stream *stream,
                                             struct ft_v1_fault *fault, struct ft_err *err);
/* Whether a fault names a Document of a message, and which. */
bool ft_remote_at_fault(const struct ft_v1_fault *fault, size_t *document);

/* Work on a stream that goes on where it was cut. */
struct ft_remote_work {
    enum ft_status (*stream)(void *arg, struct ft_err *err); /* one, from where the last one ended */
    uint64_t (*far)(const void *arg);                        /* how far all of them got */
    void *arg;
    struct ft_rpc_stream **open; /* what stream() leaves open, which is closed; may be NULL */
    struct ft_bar *bar;          /* that it draws */
};
/* Until it is done. A failure that may pass by itself is waited for, with a fresh connection afterwards, and
 * tried again as long as it gets further, else a few times; not when nobody was ever reached or somebody
 * asked to stop. *retries, which may be NULL: how often. */
FT_MUST_CHECK enum ft_status ft_remote_keep_on(struct ft_remote *remote, const struct ft_remote_work *work,
                                               size_t *retries, struct ft_err *err);
/* "--server HOST:PORT" and the TLS options, as a shell reads them: for hints. On stderr. */
void ft_remote_print_options(const struct ft_remote *remote);

/* remote_push.c: DATA to a dataset. */
struct ft_push_result {
    size_t documents, stored, duplicates, messages, retries;
    size_t total;     /* what the dataset has now */
    bool total_known; /* false: it could not be asked, everything is stored all the same */
};
FT_MUST_CHECK enum ft_status ft_remote_push(struct ft_remote *remote, const char *name,
                                            const struct ft_dataset *data, bool quiet,
                                            struct ft_push_result *result, struct ft_err *err);
/* A message of Documents, and room to make it. Zeroed: empty. */
struct ft_remote_batch {
    struct ft_buf message;
    struct ft_buf scratch, own, raw;
};
struct ft_remote_most {
    size_t documents, bytes; /* of a message; one Document may be larger */
};
/* batch->message: Documents `from` .. from + *count - 1 as the service takes them, with the files that their
 * uris name inside. name: of the dataset or model; "": as in the message before. */
FT_MUST_CHECK enum ft_status ft_remote_batch_fill(struct ft_remote_batch *batch, const char *name,
                                                  const struct ft_dataset *data, size_t from,
                                                  struct ft_remote_most most, size_t *count,
                                                  struct ft_err *err);
void ft_remote_batch_release(struct ft_remote_batch *batch);

/* remote_watch.c: a run until it ends. *run is the Run as it ended, the caller's. FT_CANCELLED: somebody
 * asked to stop watching; the run goes on. */
FT_MUST_CHECK enum ft_status ft_remote_watch(struct ft_remote *remote, const char *id, int64_t from,
                                             bool quiet, bool json, struct ft_json **run, struct ft_err *err);
/* A run that ended, for fit and watch: prints the table, or with `json` the object of `fit --json`, whose
 * `run` is the service's id and `out` where the artifact lies here (NULL: it was not fetched). Fails as the
 * run did. */
FT_MUST_CHECK enum ft_status ft_remote_tell(const struct ft_json *run, const char *out, bool json,
                                            struct ft_err *err);
/* Says how to watch, pull and cancel it. On stderr. */
void ft_remote_hint(const struct ft_remote *remote, const char *id);

/* remote_pull.c: a run's artifact to a folder or .zip. */
FT_MUST_CHECK enum ft_status ft_remote_pull(struct ft_remote *remote, const char *id, const char *out,
                                            bool quiet, struct ft_err *err);

/* remote_model.c: MODEL as a name on the service: what is at a path here (model/carry.h) is sent, unless the
 * service has it; it goes on where it was cut. Another text is looked up: FT_NOT_FOUND. *name is the
 * caller's. */
FT_MUST_CHECK enum ft_status ft_remote_model(struct ft_remote *remote, const char *model, bool quiet,
                                             char **name, struct ft_err *err);

/* remote_fit.c, remote_encode.c, remote_datasets.c: the verbs, once --server was seen among the words. */
enum ft_status ft_remote_fit(int argc, char **argv, struct ft_err *err);
enum ft_status ft_remote_encode(int argc, char **argv, struct ft_err *err);
enum ft_status ft_remote_datasets(int argc, char **argv, struct ft_err *err);
/* Is --server among them? */
bool ft_remote_wanted(int argc, char **argv);
#endif
