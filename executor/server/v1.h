/*
 * v1.h - finetuner.v1: its calls as state machines; private to server/.
 *
 * gRPC's threads only note what came (a message, the end of the stream, room for another answer, a
 * cancellation) and put the call into the line of a few threads of the service's, which run one step of it at
 * a time. A step looks at the call and does what can be done: takes a message, begins work elsewhere (busy),
 * answers. So a call has no thread of its own, is stepped by one thread at a time, and needs no locks; its
 * next message is asked for by ft_v1_next() once the last is dealt with, and no more than FT_V1_WINDOW
 * answers of it wait for the wire.
 *
 * There are two lines, each with its threads: calls that may wait for the disk (an fsync, a dataset that is
 * opened, a file that is hashed) never hold up those that only look and compute.
 */
#ifndef FT_SERVER_V1_H
#define FT_SERVER_V1_H

#include "executor/base/file.h"
#include "executor/codec/digest.h"
#include "executor/server/internal.h"
#include "executor/server/upload.h"
#include "executor/store/dataset.h"
#include "executor/wire/v1.h"

enum {
    FT_V1_WINDOW = 4,             /* answers of a call on their way */
    FT_V1_CHUNK = 2 << 20,        /* bytes of a chunk of an artifact: gRPC's clients take 4 MiB a message */
    FT_V1_PIECE = 4 << 20,        /* most bytes of a piece of a model that comes in */
    FT_V1_CHUNK_LEAST = 64 << 10, /* when too much waits for those who do not read */
    FT_V1_CALLS = 4096,           /* in hand; more are refused */
    FT_V1_PAGE = 100,             /* entries of a page that says no size */
    FT_V1_PAGE_MAX = 1000,
    FT_V1_TICK_MS = 100 /* how often a call that waits for nobody's event looks again */
};

/* Why a call fails. */
struct ft_v1_why {
    struct ft_err err;
    struct ft_v1_fault fault;
    enum ft_rpc_code code; /* FT_RPC_OK: as err says */
};

struct ft_v1_call;
struct ft_v1_kind {
    const char *path;
    bool disk;  /* its steps may wait for the disk */
    bool light; /* one small message: rpc/server.h */
    /* Unary: answers a request, both as JSON. NULL: a stream, with a step. */
    enum ft_v1_type request, response;
    enum ft_status (*answer)(struct ft_service *service, const struct ft_json *request,
                             struct ft_json **answer, struct ft_v1_why *why);
    void (*step)(struct ft_v1_call *call);
    size_t state_bytes;                       /* of call->state, zeroed at first */
    void (*ended)(struct ft_v1_call *call);   /* about to be finished; may wait; may be NULL */
    void (*release)(struct ft_v1_call *call); /* of call->state; must not wait; may be NULL */
};

struct ft_v1_call {
    struct ft_service *service;
    const struct ft_v1_kind *kind;
    struct ft_rpc_call *rpc; /* until finished */
    void *state;             /* the kind's own */

    /* For steps. */
    bool has_message; /* ft_rpc_message(rpc) */
    bool half_closed; /* the client sends no more */
    bool stopping;    /* the service is going down */
    bool begun;       /* for the kind: the first message was seen */
    bool busy;        /* work is under way elsewhere: no step until ft_v1_worked() */
    bool cancelled;
    bool refused; /* a message could not be taken */
    bool finished;
    bool ticking; /* step again after FT_V1_TICK_MS */

    atomic_int refs; /* one is gRPC's, others of the line and of work under way */
    atomic_int out;  /* answers not yet on the wire */

    /* The line's, under its mutex. */
    unsigned events;
    bool in_line, running;
    double wake_at; /* 0: no tick is wanted */
    struct ft_v1_call *next_in_line;
    struct ft_v1_call *earlier, *later; /* that sleep until wake_at */
    struct ft_v1_call *before, *after;  /* all calls */
};

/* Work elsewhere: busy until ft_v1_worked(), which any thread may call, once. */
void ft_v1_begin_work(struct ft_v1_call *call);
void ft_v1_worked(struct ft_v1_call *call);
/* The same when it was not begun after all. */
void ft_v1_no_work(struct ft_v1_call *call);
/* The message is dealt with: ask for the next. */
void ft_v1_next(struct ft_v1_call *call);
/* For another answer: one that was made always is. */
bool ft_v1_has_room(const struct ft_v1_call *call);
/* part 0: the message itself, else as that member of a FinetuneResponse. The buffer is taken over. */
FT_MUST_CHECK enum ft_status ft_v1_send(struct ft_v1_call *call, unsigned part, struct ft_buf *take_message,
                                        struct ft_err *err);
void ft_v1_finish(struct ft_v1_call *call); /* OK */
void ft_v1_fail(struct ft_v1_call *call, struct ft_v1_why *why);
enum ft_rpc_code ft_v1_code(enum ft_status st);
/* What failed is on our disk: damage there is not the client's fault. Returns st. */
enum ft_status ft_v1_ours(struct ft_v1_why *why, enum ft_status st);
/* The name of a run or model was found, but nothing can be computed with it yet. Returns st. */
enum ft_status ft_v1_not_yet(struct ft_v1_why *why, enum ft_status st);
/* Where the disk refused (FT_IO): nothing else helps than room there. */
void ft_v1_disk_refused(struct ft_v1_why *why);
/* The message's Documents, counted with it. FT_BUSY: no room for them; FT_LIMIT: there never is. */
FT_MUST_CHECK enum ft_status ft_v1_scan(struct ft_v1_call *call, struct ft_arena *arena,
                                        struct ft_v1_batch *batch, struct ft_v1_why *why);
/* The end of a stream that waits for its client's next message, when there is none. True: it is finished. */
bool ft_v1_no_more(struct ft_v1_call *call);

void ft_v1_at_fault(struct ft_v1_why *why, const char *field);
void ft_v1_at_document(struct ft_v1_why *why, size_t i);
/* An answer without members. */
FT_MUST_CHECK enum ft_status ft_v1_empty(struct ft_json **answer, struct ft_v1_why *why);
/* ft_v1_text() of a request, which must be there: FT_INVALID naming the field. */
FT_MUST_CHECK enum ft_status ft_v1_need(const struct ft_json *request, const char *key, const char **text,
                                        struct ft_v1_why *why);
/* page_size and page_token. */
FT_MUST_CHECK enum ft_status ft_v1_page(const struct ft_json *request, int64_t *size, const char **token,
                                        struct ft_v1_why *why);

/* v1_runs.c, v1_data.c: unary ones. */
#define FT_V1_ANSWER(name)                                                                                   \
    enum ft_status name(struct ft_service *service, const struct ft_json *request, struct ft_json **answer,  \
                        struct ft_v1_why *why)
FT_V1_ANSWER(ft_v1_fit);
FT_V1_ANSWER(ft_v1_get_run);
FT_V1_ANSWER(ft_v1_list_runs);
FT_V1_ANSWER(ft_v1_cancel_run);
FT_V1_ANSWER(ft_v1_delete_run);
FT_V1_ANSWER(ft_v1_list_datasets);
FT_V1_ANSWER(ft_v1_get_dataset);
FT_V1_ANSWER(ft_v1_delete_dataset);
FT_V1_ANSWER(ft_v1_delete_documents);
FT_V1_ANSWER(ft_v1_list_models);
FT_V1_ANSWER(ft_v1_get_model);
FT_V1_ANSWER(ft_v1_delete_model);

/* v1_model.c: a PushModel call. */
struct ft_v1_model_push {
    struct ft_json *model; /* the first message; NULL: it has not come */
    struct ft_upload_spec spec;
    struct ft_upload *upload; /* NULL: none yet, or another call has it */
    struct ft_thread *keeper; /* checks it and gives it its name */
    double heard_at;          /* ft_clock_seconds(): the last message */
    bool keeping;             /* all bytes are there: busy, then `why` says how it went */
    bool over;                /* the last answer went out */
    struct ft_v1_why why;
};
void ft_v1_push_model_step(struct ft_v1_call *call);
void ft_v1_push_model_ended(struct ft_v1_call *call);
void ft_v1_push_model_release(struct ft_v1_call *call);

/* A run as clients see it; FT_NOT_FOUND. */
FT_MUST_CHECK enum ft_status ft_v1_run(struct ft_service *service, const char *run, struct ft_json **json,
                                       struct ft_v1_why *why);

/* Start a run: members of a FitRequest or FinetuneConfig; dataset: instead of the one in it, or NULL. */
FT_MUST_CHECK enum ft_status ft_v1_fit_submit(struct ft_service *service, const struct ft_json *request,
                                              const char *dataset, char id[FT_RUN_ID], struct ft_v1_why *why);

/* v1_watch.c: what is left to tell of a run. */
struct ft_v1_watch {
    char run[FT_RUN_ID];
    int64_t from;               /* events before that are not told */
    struct ft_runs_place place; /* all before it were looked at */
    bool over;                  /* all is told */
    enum ft_run_state how;      /* it ended, once over */
};
/* Send what there is and there is room for; the call ticks while more may come. */
FT_MUST_CHECK enum ft_status ft_v1_watch_on(struct ft_v1_call *call, struct ft_v1_watch *watch, unsigned part,
                                            struct ft_v1_why *why);
/* ... and of an artifact. */
struct ft_v1_pull {
    struct ft_mapping map;
    char sha256[FT_SHA256_HEX];
    size_t at;
    bool over;
};
FT_MUST_CHECK enum ft_status ft_v1_pull_open(struct ft_service *service, const char *run, uint64_t offset,
                                             struct ft_v1_pull *pull, struct ft_v1_why *why);
FT_MUST_CHECK enum ft_status ft_v1_pull_on(struct ft_v1_call *call, struct ft_v1_pull *pull, unsigned part,
                                           struct ft_v1_why *why);
void ft_v1_pull_close(struct ft_v1_pull *pull);
void ft_v1_watch_step(struct ft_v1_call *call);
void ft_v1_pull_step(struct ft_v1_call *call);
void ft_v1_pull_release(struct ft_v1_call *call);

/* v1_push.c: Documents of one message on their way to the disk. */
struct ft_v1_push {
    char dataset[FT_DATASET_NAME];
    uint64_t position; /* of the first Document of the message in hand */
    struct ft_arena arena;
    struct ft_v1_batch batch;
    struct ft_set_result result;
    struct ft_err why; /* of the store */
    bool stored;       /* result and why are there */
    bool waits;        /* the store has no room for it yet */
    bool submitted;    /* something was given to the store: the dataset may be there */
};
/* Store the batch, which was scanned: the call is busy, then ft_v1_push_look(). */
FT_MUST_CHECK enum ft_status ft_v1_push_begin(struct ft_v1_call *call, struct ft_v1_push *push,
                                              struct ft_v1_why *why);
/* Whether the store has answered. Where it has no room the call ticks, and asks it again. */
FT_MUST_CHECK enum ft_status ft_v1_push_look(struct ft_v1_call *call, struct ft_v1_push *push, bool *answered,
                                             struct ft_v1_why *why);
/* Send the answer, make ready for the next message. */
FT_MUST_CHECK enum ft_status ft_v1_push_end(struct ft_v1_call *call, struct ft_v1_push *push, unsigned part,
                                            struct ft_v1_why *why);
void ft_v1_push_release(struct ft_v1_push *push);
void ft_v1_push_step(struct ft_v1_call *call);
void ft_v1_push_call_release(struct ft_v1_call *call);

/* v1_encode.c: Documents on their way to their embeddings. */
struct ft_v1_embed {
    struct ft_buf out; /* the EncodeResponse */
    struct ft_v1_why why;
    struct ft_document *docs; /* borrowed until done */
    size_t count;
    bool done;
    struct ft_v1_call *call;
};
/* Compute with the model at that path. *full: the line is full, nothing was begun. Else the call is busy,
 * then embed->done. */
FT_MUST_CHECK enum ft_status ft_v1_embed_begin(struct ft_v1_call *call, struct ft_v1_embed *embed,
                                               const char *path, bool *full, struct ft_v1_why *why);
/* An Encode call. */
struct ft_v1_encode {
    char *model; /* as the client says; NULL: none was named */
    struct ft_arena arena;
    struct ft_v1_batch batch;
    struct ft_v1_embed embed;
    bool in_hand; /* a message waits for its embeddings, or for room in the line */
};
void ft_v1_encode_step(struct ft_v1_call *call);
void ft_v1_encode_release(struct ft_v1_call *call);

/* v1_finetune.c: a Finetune call, stage after stage. */
enum ft_v1_stage { FT_V1_STORING, FT_V1_TRAINING, FT_V1_EMBEDDING, FT_V1_SENDING };
struct ft_v1_finetune {
    enum ft_v1_stage stage;
    struct ft_json *config;
    bool own_dataset; /* it goes with the call */
    bool in_hand;     /* the store has the message */
    struct ft_v1_push push;
    struct ft_v1_watch watch; /* watch.run: the run, once there is one */
    char *model;              /* path of the artifact */
    struct ft_dataset *dataset;
    size_t embedded; /* Documents of the dataset */
    struct ft_arena arena;
    struct ft_document *docs; /* of the batch in hand, in the arena */
    size_t count;
    struct ft_v1_embed embed;
    struct ft_v1_pull pull;
};
void ft_v1_finetune_step(struct ft_v1_call *call);
void ft_v1_finetune_ended(struct ft_v1_call *call);
void ft_v1_finetune_release(struct ft_v1_call *call);
#endif
