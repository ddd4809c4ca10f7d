/*
 * internal.h - the service's inside: its parts and the life of one request.
 */
#ifndef FT_SERVER_INTERNAL_H
#define FT_SERVER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "executor/base/arena.h"
#include "executor/base/file.h"
#include "executor/base/thread.h"
#include "executor/rpc/server.h"
#include "executor/runs/runs.h"
#include "executor/server/service.h"
#include "executor/server/tls.h"
#include "executor/server/uploads.h"
#include "executor/store/folder.h"
#include "executor/store/set.h"
#include "executor/wire/control.h"
#include "executor/wire/document.h"
#include "executor/wire/jina.h"
#include "executor/wire/reflection.h"

struct ft_datasets; /* datasets.c: the datasets that are open */
struct ft_encode;   /* encode.c: the thread that owns the device */
struct ft_v1;       /* v1.c: the calls of finetuner.v1 */
struct ft_monitor;  /* monitor.c: what is counted, and its page */

struct ft_service {
    const struct ft_config *config;
    const struct ft_engine *engine;
    struct ft_runs *runs;
    struct ft_datasets *datasets;
    struct ft_encode *encode;
    struct ft_v1 *v1;
    struct ft_monitor *monitor;
    struct ft_rpc_server *rpc;
    struct ft_rpc_method *methods;
    struct ft_queue *requests; /* of struct ft_request */
    struct ft_thread **handlers;
    struct ft_tls_stamp tls_stamp;
    char tls_refused[FT_ERR_TEXT]; /* why the files there are not taken, as it was logged; "" */
    struct ft_uploads *uploads;    /* models that were put there by hand or sent */
    double started_at;
    atomic_bool serving, asked; /* asked: by Health/Check or Health/Watch */

    pthread_mutex_t watch_mutex;   /* guards the watchers; gRPC's threads take it: never held across a wait */
    struct ft_rpc_call **watchers; /* Health/Watch */
    size_t n_watchers, watchers_capacity;

    pthread_mutex_t models_mutex; /* guards names of models, and the memory in which a model is tried */

    pthread_mutex_t mutex; /* guards the waiters; held while a run is registered, which touches the disk */
    struct ft_request **waiters; /* /fit with wait, each with its run's id */
    size_t n_waiters, waiters_capacity;
};

/* One message of Jina's in hand. Whoever holds it answers or fails it, which frees it. */
struct ft_request {
    struct ft_service *service;
    struct ft_rpc_call *call;
    enum ft_jina_form form;
    bool stream;              /* one of many of a JinaRPC/Call */
    double came_at, began_at; /* ft_clock_seconds(): handed over, in a handler's hands */
    struct ft_jina_request jina;
    struct ft_json
        *options; /* parameters without Jina's own keys, those under our name merged over the rest */
    struct ft_arena arena;
    struct ft_document *docs; /* in arena, once ft_request_docs() was called */
    const char *dataset;      /* /train: where its Documents go */
    char run[FT_RUN_ID];      /* /fit with wait */
};

/* request.c */
enum ft_status ft_request_read(struct ft_request *request, struct ft_err *err); /* scan the message */
void ft_request_answer(struct ft_request *request, struct ft_jina_reply *reply);
void ft_request_fail(struct ft_request *request, const struct ft_err *why);
void ft_request_pass(struct ft_request *request); /* back as it came */
/* parameters.__results__[name] = results, which is taken over. */
void ft_request_results(struct ft_request *request, struct ft_json *take_results);
/* All Documents scanned; FT_UNSUPPORTED for v1's docs_bytes. Errors name id and position. */
enum ft_status ft_request_docs(struct ft_request *request, struct ft_err *err);
/* Count what so many Documents of the message in hand take beside it. FT_BUSY: no room for them now;
 * FT_LIMIT: there never is. */
enum ft_status ft_hold_documents(struct ft_rpc_call *call, size_t count, struct ft_err *err);
/* "document 3 (id 'x')" in front of what err says; docs may be NULL. */
enum ft_status ft_wrap_document(const struct ft_document *docs, size_t i, struct ft_err *err);
/* What makes Documents examples, and what makes them embeddable. *failed: the first that is not. */
enum ft_status ft_check_examples(const struct ft_document *docs, size_t count, size_t *failed,
                                 struct ft_err *err);
enum ft_status ft_check_contents(const struct ft_document *docs, size_t count, size_t *failed,
                                 struct ft_err *err);
/* Text of parameters[key]; NULL: absent. FT_INVALID: not text (numbers are taken as written). */
enum ft_status ft_request_text(const struct ft_request *request, const char *key, const char **text,
                               struct ft_err *err);
enum ft_status ft_request_int(const struct ft_request *request, const char *key, int64_t standard,
                              int64_t low, int64_t high, int64_t *value, struct ft_err *err);

/* dispatch.c: answers or fails the request, or hands it over. */
void ft_dispatch(struct ft_request *request);
/* The endpoint's name if it is one of ours, for figures, whose labels clients must not choose; else "other".
 */
const char *ft_endpoint_label(const struct ft_config *config, struct ft_bytes endpoint);

/* methods.c: the gRPC methods, FT_METHODS of them. */
size_t ft_method_count(void);
void ft_methods_fill(struct ft_service *service, struct ft_rpc_method *methods);
void ft_health_changed(struct ft_service *service,
                       bool last); /* tell the watchers; the last time they are let go */

/* v1.c: the methods of finetuner.v1, ft_v1_method_count of them. */
extern const size_t ft_v1_method_count;
void ft_v1_methods_fill(struct ft_service *service, struct ft_rpc_method *methods);
enum ft_status ft_v1_new(struct ft_service *service, struct ft_v1 **v1, struct ft_err *err);
void ft_v1_stop(struct ft_v1 *v1);      /* calls that wait for something end, others once they can */
void ft_v1_free(struct ft_v1 *v1);      /* all calls must be over; NULL is fine */
size_t ft_v1_waiting(struct ft_v1 *v1); /* calls in line for a step */

/* Endpoints. Each answers, fails or hands over. */
void ft_endpoint_train(struct ft_request *request);
void ft_endpoint_fit(struct ft_request *request);
void ft_endpoint_runs(struct ft_request *request);
void ft_endpoint_status(struct ft_request *request);
void ft_endpoint_logs(struct ft_request *request);
void ft_endpoint_metrics(struct ft_request *request);
void ft_endpoint_cancel(struct ft_request *request);
void ft_endpoint_artifact(struct ft_request *request);
void ft_endpoint_encode(struct ft_request *request);

/* fit.c */
void ft_run_has_ended(void *service, const char *run); /* struct ft_runs_options.ended */
void ft_run_is_served(void *service, const char *run); /* its model is the current one now, or cannot be */
void ft_release_waiters(struct ft_service *service);   /* shutting down */
/* A run that is asked for, whoever asks. Texts may be NULL. */
struct ft_fit_ask {
    const char *model, *dataset, *eval_dataset, *name, *key;
    const struct ft_json *options; /* fit options, an object; borrowed */
};
/* Checks all of it and registers the run, or finds the one that its key gave before; *field: the member at
 * fault, a literal, or "". */
enum ft_status ft_fit_submit(struct ft_service *service, const struct ft_fit_ask *ask, char id[FT_RUN_ID],
                             const char **field, struct ft_err *err);
/* Whether that is a name of the configured model. */
bool ft_names_configured(const char *model, const char *name);
/* The path a model's name stands for: a run's id, a name below DATA_DIR/models, the configured model; name
 * NULL: what is served if `tuned`, else the configured one. *path is the caller's. */
enum ft_status ft_model_path(struct ft_service *service, const char *name, bool tuned, char **path,
                             struct ft_err *err);

/* encode.c */
enum ft_status ft_encode_new(struct ft_service *service, struct ft_encode **encode, struct ft_err *err);
/* What is to be computed; docs are borrowed until `done`. */
struct ft_encode_ask {
    const struct ft_document *docs;
    size_t count;                   /* > 0 */
    const struct ft_rpc_call *call; /* cancelled: it is not computed */
    /* Called once, by the encode thread, no lock held. why->code FT_OK: vectors (count, dim), borrowed. Else
     * `failed` is the Document at fault, count when it is none's; why names it. */
    void (*done)(void *arg, const float *vectors, size_t dim, size_t failed, const struct ft_err *why);
    void *arg;
};
/* Hands it over to the model at that path. On failure `done` is not called. FT_BUSY: the line is full. */
enum ft_status ft_encode_push(struct ft_encode *encode, const struct ft_encode_ask *ask, const char *model,
                              struct ft_err *err);
double ft_encode_advice(struct ft_encode *encode); /* seconds until the line may be shorter */
size_t ft_encode_waiting(struct ft_encode *encode);
struct ft_models *ft_encode_models(struct ft_encode *encode);
void ft_encode_free(struct ft_encode *encode); /* what is in line is computed first */

/* datasets.c; seal_bytes as in store/set.h */
enum ft_status ft_datasets_new(const char *data_dir, int64_t seal_bytes, struct ft_datasets **datasets,
                               struct ft_err *err);
void ft_datasets_free(struct ft_datasets *datasets);
/* FT_OK: `done` is called once they are durable or refused (store/set.h), perhaps before this returns. Else
 * it is not called. FT_BUSY: too many datasets are in use. May wait for the disk. */
enum ft_status ft_datasets_submit(struct ft_datasets *datasets, const char *name,
                                  const struct ft_document *docs, size_t count, ft_set_done done, void *arg,
                                  struct ft_err *err);
/* The service goes down: what waits for shards is stored at once; NULL is fine. */
void ft_datasets_hurry(struct ft_datasets *datasets);
/* Sums since the start; ids, shards and journals: of those that are open. */
struct ft_set_stats ft_datasets_stats(struct ft_datasets *datasets);
/* Names of datasets begin with this where they are a call's own: hidden, gone at the next start. */
#define FT_DATASET_OWN FT_DATASET_HIDDEN "call-"
/* Delete ids, durably. FT_NOT_FOUND: no such dataset. */
enum ft_status ft_datasets_delete_ids(struct ft_datasets *datasets, const char *name,
                                      const struct ft_bytes *ids, size_t count, size_t *deleted,
                                      struct ft_err *err);
/* Remove a dataset; waits for what is being stored. FT_NOT_FOUND. */
enum ft_status ft_datasets_remove(struct ft_datasets *datasets, const char *name, struct ft_err *err);
/* All names, in order; *names: ft_dir_list_release(). */
enum ft_status ft_datasets_list(struct ft_datasets *datasets, struct ft_dir_list *names, struct ft_err *err);
/* Folder of a dataset that exists; FT_NOT_FOUND. *dir is the caller's. */
enum ft_status ft_datasets_dir(struct ft_datasets *datasets, const char *name, char **dir,
                               struct ft_err *err);
#endif
