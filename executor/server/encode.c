#include <assert.h>
#include <string.h>
#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"
#include "executor/server/models.h"
#include "executor/server/monitor.h"

/*
 * Requests that wait for the model stand in line. A turn of the encode thread computes a batch: as many
 * Documents of the first in line as the budget has room for, then of the others that want the same model. A
 * request that had a batch to itself and is not done goes to the end of the line, one that got what was left
 * of a batch stays in front: so a long request never keeps others waiting for more than a batch at a time.
 */

/* One request in line. */
struct job {
    struct ft_encode_ask ask;
    struct ft_served *model;
    float *vectors; /* (ask.count, dim), once computing began */
    size_t dim;
    size_t done;   /* Documents computed */
    size_t failed; /* the one at fault; ask.count: none is */
    enum ft_status st;
    struct ft_err why;
    double came_at;
    struct job *next;
};

/* What a batch has of one request. */
struct part {
    struct job *job;
    size_t count; /* Documents from job->done on */
};

struct ft_encode {
    struct ft_service *service;
    struct ft_models *models;
    struct ft_thread *thread;

    pthread_mutex_t mutex;  /* guards all below; ft_models' comes after it */
    pthread_cond_t changed; /* a request came, a model was loaded or not, or closed */
    struct job *first;
    size_t waiting; /* requests in line */
    double pace;    /* seconds a request, lately */
    bool closed;

    /* The encode thread's own. */
    struct part *parts; /* (encode_batch_size) of the batch in hand */
    struct ft_document *docs;
    size_t n_parts, n_docs, tokens;
};

static size_t batch_size(const struct ft_encode *e)
{
    return (size_t)e->service->config->encode_batch_size;
}

static void job_free(struct ft_encode *e, struct job *job)
{
    ft_models_drop(e->models, job->model);
    ft_free(job->vectors);
    ft_free(job);
}

/* The end of a request's way; no lock held. */
static void end_job(struct ft_encode *e, struct job *job)
{
    job->ask.done(job->ask.arg, job->vectors, job->dim, job->failed, &job->why);
    job_free(e, job);
}

/* ---- the line; mutex held */

static void put_first(struct ft_encode *e, struct job *job)
{
    job->next = e->first;
    e->first = job;
    e->waiting++;
}

static void put_last(struct ft_encode *e, struct job *job)
{
    struct job **at = &e->first;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    job->next = NULL;
    *at = job;
    e->waiting++;
}

static void take_out(struct ft_encode *e, struct job *job)
{
    struct job **at = &e->first;
    while (*at != job) {
        at = &(*at)->next;
    }
    *at = job->next;
    job->next = NULL;
    e->waiting--;
}

/* One that need not be computed: its client has gone, or its model cannot be loaded. */
static struct job *take_dead(struct ft_encode *e)
{
    for (struct job *job = e->first; job != NULL; job = job->next) {
        if (ft_rpc_cancelled(job->ask.call)) {
            job->st = FT_FAIL(&job->why, CANCELLED, "the client went away");
        } else if (ft_models_state(e->models, job->model) == FT_SERVED_BROKEN) {
            job->st = ft_models_why(e->models, job->model, &job->why);
        }
        if (job->st != FT_OK) {
            take_out(e, job);
            return job;
        }
    }
    return NULL;
}

static struct job *first_ready(const struct ft_encode *e)
{
    for (struct job *job = e->first; job != NULL; job = job->next) {
        if (ft_models_state(e->models, job->model) == FT_SERVED_READY) {
            return job;
        }
    }
    return NULL;
}

/* As many of its Documents as there is room for. False: there was none for all. */
static bool add_part(struct ft_encode *e, struct job *job)
{
    const struct ft_engine *engine = e->service->engine;
    size_t most = (size_t)e->service->config->encode_batch_tokens;
    void *encoder = ft_served_encoder(job->model);
    struct part part = {.job = job};
    bool room = true;
    for (size_t i = job->done; i < job->ask.count; i++) {
        size_t weight = engine->weight(encoder, &job->ask.docs[i]);
        bool fits = most == 0 || e->n_docs == 0 || e->tokens + weight <= most;
        if (e->n_docs == batch_size(e) || !fits) {
            room = false;
            break;
        }
        e->docs[e->n_docs++] = job->ask.docs[i];
        e->tokens += weight;
        part.count++;
    }
    if (part.count > 0) {
        e->parts[e->n_parts++] = part;
    }
    return room;
}

/* Fill the batch with what waits for head's model; nothing is taken out of the line. True: it is full. */
static bool gather(struct ft_encode *e, struct job *head)
{
    e->n_parts = e->n_docs = e->tokens = 0;
    for (struct job *job = head; job != NULL; job = job->next) {
        if (job->model == head->model && !add_part(e, job)) {
            return true;
        }
    }
    return e->n_docs == batch_size(e);
}

/* Until `until` (ft_clock_seconds()) at most. */
static void wait_until(struct ft_encode *e, double until)
{
    double left = until - ft_clock_seconds();
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + (int64_t)(left > 0 ? left * 1e9 : 0);
    at.tv_sec += (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    (void)pthread_cond_timedwait(&e->changed, &e->mutex, &at);
}

/* Waits for something to do. True: *dead is to be ended, or (NULL) a batch is in hand, its requests out of
 * line. False: closed, and nobody in line any more. */
static bool next_turn(struct ft_encode *e, struct job **dead)
{
    double window = (double)e->service->config->encode_wait_ms / 1000;
    for (;;) {
        *dead = take_dead(e);
        if (*dead != NULL) {
            return true;
        }
        struct job *head = first_ready(e);
        if (head != NULL) {
            bool full = gather(e, head);
            double until = head->came_at + window;
            if (full || head->done > 0 || e->closed || until <= ft_clock_seconds()) {
                break;
            }
            wait_until(e, until);
        } else if (e->closed && e->first == NULL) {
            return false;
        } else {
            (void)pthread_cond_wait(&e->changed, &e->mutex);
        }
    }
    for (size_t i = 0; i < e->n_parts; i++) {
        take_out(e, e->parts[i].job);
    }
    return true;
}

/* ---- computing; no lock held, by the encode thread */

static enum ft_status begin_job(const struct ft_encode *e, struct job *job, struct ft_err *err)
{
    size_t total = job->ask.count;
    size_t cells = 0;
    if (job->vectors != NULL) {
        return FT_OK;
    }
    job->dim = e->service->engine->dim(ft_served_encoder(job->model));
    if (!ft_mul_size(total, job->dim, &cells)) {
        return FT_FAIL(err, LIMIT, "%zu documents are too many", total);
    }
    return ft_new(cells, sizeof(float), &job->vectors, err);
}

/* Documents of a part alone, straight into its request's vectors. */
static void compute_alone(const struct ft_encode *e, struct part part, const struct ft_document *docs)
{
    struct job *job = part.job;
    size_t failed = part.count;
    job->st = begin_job(e, job, &job->why);
    if (job->st == FT_OK) {
        job->st = e->service->engine->encode(ft_served_encoder(job->model), docs, part.count,
                                             job->vectors + job->done * job->dim, &failed, &job->why);
        if (job->st != FT_OK && failed < part.count) {
            job->failed = job->done + failed;
            (void)ft_wrap_document(job->ask.docs, job->failed, &job->why);
        }
    }
    job->done += part.count;
}

static enum ft_status compute_together(const struct ft_encode *e, float *out, struct ft_err *err)
{
    size_t failed = 0;
    void *encoder = ft_served_encoder(e->parts[0].job->model);
    FT_RETURN_IF_FAILED(e->service->engine->encode(encoder, e->docs, e->n_docs, out, &failed, err));
    const float *from = out;
    for (size_t i = 0; i < e->n_parts; i++) {
        struct part part = e->parts[i];
        struct job *job = part.job;
        job->st = begin_job(e, job, &job->why);
        if (job->st == FT_OK) {
            memcpy(job->vectors + job->done * job->dim, from, part.count * job->dim * sizeof *from);
        }
        from += part.count * e->service->engine->dim(encoder);
        job->done += part.count;
    }
    return FT_OK;
}

/* All parts at once; if that fails each alone, so that only the request that is at fault fails. */
static void compute(struct ft_encode *e)
{
    struct ft_err err = {0};
    float *out = NULL;
    struct ft_served *model = e->parts[0].job->model;
    size_t dim = e->service->engine->dim(ft_served_encoder(model));
    bool together = e->n_parts > 1 && ft_new(e->n_docs * dim, sizeof *out, &out, &err) == FT_OK &&
                    compute_together(e, out, &err) == FT_OK;
    const struct ft_document *docs = e->docs;
    for (size_t i = 0; !together && i < e->n_parts; i++) {
        compute_alone(e, e->parts[i], docs);
        docs += e->parts[i].count;
    }
    ft_models_ran(e->models, model);
    ft_free(out);
}

static bool is_over(const struct job *job)
{
    return job->st != FT_OK || job->done == job->ask.count;
}

/* Ends what is done, puts the rest back into the line. */
static void part_ways(struct ft_encode *e, double seconds)
{
    size_t over = 0;
    for (size_t i = 0; i < e->n_parts; i++) {
        over += is_over(e->parts[i].job) ? 1 : 0;
    }
    (void)pthread_mutex_lock(&e->mutex);
    if (over > 0) {
        e->pace = e->pace > 0 ? 0.9 * e->pace + 0.1 * seconds / (double)over : seconds / (double)over;
    }
    for (size_t i = 0; i < e->n_parts; i++) { /* only the last part can be one of which more is to come */
        struct job *job = e->parts[i].job;
        if (!is_over(job) && e->n_parts == 1) {
            put_last(e, job);
        } else if (!is_over(job)) {
            put_first(e, job);
        }
    }
    (void)pthread_mutex_unlock(&e->mutex);
    for (size_t i = 0; i < e->n_parts; i++) {
        if (is_over(e->parts[i].job)) {
            end_job(e, e->parts[i].job);
        }
    }
}

static void encode_main(void *arg)
{
    struct ft_encode *e = arg;
    struct job *dead = NULL;
    (void)pthread_mutex_lock(&e->mutex);
    while (next_turn(e, &dead)) {
        (void)pthread_mutex_unlock(&e->mutex);
        if (dead != NULL) {
            end_job(e, dead);
        } else {
            double start = ft_clock_seconds();
            compute(e);
            double seconds = ft_clock_seconds() - start;
            ft_monitor_batch(e->service->monitor, e->n_docs, seconds);
            part_ways(e, seconds);
        }
        (void)pthread_mutex_lock(&e->mutex);
    }
    (void)pthread_mutex_unlock(&e->mutex);
}

/* ---- from outside */

static void look_again(void *arg)
{
    struct ft_encode *e = arg;
    (void)pthread_mutex_lock(&e->mutex);
    (void)pthread_cond_broadcast(&e->changed);
    (void)pthread_mutex_unlock(&e->mutex);
}

static void init_locks(struct ft_encode *e)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&e->mutex, NULL);
    (void)pthread_cond_init(&e->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

static enum ft_status start_threads(struct ft_encode *e, struct ft_err *err)
{
    const struct ft_models_options models = {.config = e->service->config,
                                             .engine = e->service->engine,
                                             .settled = look_again,
                                             .swapped = ft_run_is_served,
                                             .encode = e,
                                             .service = e->service};
    FT_RETURN_IF_FAILED(ft_new(batch_size(e), sizeof *e->parts, &e->parts, err));
    FT_RETURN_IF_FAILED(ft_new(batch_size(e), sizeof *e->docs, &e->docs, err));
    FT_RETURN_IF_FAILED(ft_models_new(&models, &e->models, err));
    return ft_thread_start("encode", encode_main, e, &e->thread, err);
}

enum ft_status ft_encode_new(struct ft_service *service, struct ft_encode **encode, struct ft_err *err)
{
    struct ft_encode *e = NULL;
    *encode = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *e, &e, err));
    e->service = service;
    init_locks(e);
    enum ft_status st = start_threads(e, err);
    if (st != FT_OK) {
        ft_encode_free(e);
        return st;
    }
    *encode = e;
    return FT_OK;
}

/* Seconds until the line may be shorter. */
static double advice(const struct ft_encode *e)
{
    double seconds = e->pace * (double)e->waiting;
    return seconds < 0.1 ? 0.1 : seconds > 30 ? 30 : seconds;
}

static enum ft_status stand_in_line(struct ft_encode *e, struct job *job, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    (void)pthread_mutex_lock(&e->mutex);
    if (e->waiting >= (size_t)e->service->config->encode_queue) {
        st = FT_FAIL(err, BUSY,
                     "too many requests wait for the model (encode_queue = %lld): try again in %.1f s",
                     (long long)e->service->config->encode_queue, advice(e));
    } else {
        put_last(e, job);
        (void)pthread_cond_broadcast(&e->changed);
    }
    (void)pthread_mutex_unlock(&e->mutex);
    return st;
}

enum ft_status ft_encode_push(struct ft_encode *encode, const struct ft_encode_ask *ask, const char *model,
                              struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct job *job = NULL;
    FT_TRY(ft_new(1, sizeof *job, &job, err));
    job->ask = *ask;
    job->failed = ask->count;
    job->came_at = ft_clock_seconds();
    FT_TRY(ft_models_want(encode->models, model, &job->model, err));
    FT_TRY(stand_in_line(encode, job, err));
    job = NULL;
done:
    if (job != NULL) {
        job_free(encode, job);
    }
    return st;
}

double ft_encode_advice(struct ft_encode *encode)
{
    (void)pthread_mutex_lock(&encode->mutex);
    double seconds = advice(encode);
    (void)pthread_mutex_unlock(&encode->mutex);
    return seconds;
}

size_t ft_encode_waiting(struct ft_encode *encode)
{
    (void)pthread_mutex_lock(&encode->mutex);
    size_t waiting = encode->waiting;
    (void)pthread_mutex_unlock(&encode->mutex);
    return waiting;
}

struct ft_models *ft_encode_models(struct ft_encode *encode)
{
    return encode->models;
}

void ft_encode_free(struct ft_encode *encode)
{
    if (encode == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&encode->mutex);
    encode->closed = true;
    (void)pthread_cond_broadcast(&encode->changed);
    (void)pthread_mutex_unlock(&encode->mutex);
    ft_thread_join(encode->thread);
    assert(encode->first == NULL);
    ft_models_free(encode->models);
    (void)pthread_mutex_destroy(&encode->mutex);
    (void)pthread_cond_destroy(&encode->changed);
    ft_free(encode->parts);
    ft_free(encode->docs);
    ft_free(encode);
}

enum ft_status ft_check_contents(const struct ft_document *docs, size_t count, size_t *failed,
                                 struct ft_err *err)
{
    for (*failed = 0; *failed < count; ++*failed) {
        enum ft_content_kind kind = docs[*failed].content.kind;
        if (kind == FT_CONTENT_NONE) {
            (void)FT_FAIL(err, INVALID, "no text, blob or tensor to embed");
            return ft_wrap_document(docs, *failed, err);
        }
        if (kind == FT_CONTENT_URI) {
            (void)FT_FAIL(err, UNSUPPORTED, "a uri is not fetched by the service: send the content");
            return ft_wrap_document(docs, *failed, err);
        }
    }
    return FT_OK;
}

static void answer_encoded(void *arg, const float *vectors, size_t dim, size_t failed,
                           const struct ft_err *why)
{
    struct ft_request *request = arg;
    (void)failed;
    if (why->code != FT_OK) {
        ft_request_fail(request, why);
        return;
    }
    struct ft_jina_reply reply = {.embeddings = vectors, .dim = dim};
    ft_request_answer(request, &reply);
}

void ft_endpoint_encode(struct ft_request *request)
{
    struct ft_service *service = request->service;
    struct ft_err err = {0};
    size_t failed = 0;
    const char *name = NULL;
    char *model = NULL;
    enum ft_status st = ft_request_docs(request, &err);
    if (st == FT_OK && request->jina.n_docs == 0) { /* jina/SPEC.md 3.2: the same comes back */
        struct ft_jina_reply reply = {0};
        ft_request_answer(request, &reply);
        return;
    }
    if (st == FT_OK) {
        st = ft_check_contents(request->docs, request->jina.n_docs, &failed, &err);
    }
    if (st == FT_OK) {
        st = ft_request_text(request, "run", &name, &err);
    }
    if (st == FT_OK && name == NULL) {
        st = ft_request_text(request, "model", &name, &err);
    }
    if (st == FT_OK) {
        st = ft_model_path(service, name, true, &model, &err);
    }
    if (st == FT_OK) {
        const struct ft_encode_ask ask = {.docs = request->docs,
                                          .count = request->jina.n_docs,
                                          .call = request->call,
                                          .done = answer_encoded,
                                          .arg = request};
        st = ft_encode_push(service->encode, &ask, model, &err);
    }
    ft_free(model);
    if (st != FT_OK) {
        ft_request_fail(request, &err);
    }
}
