#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/server/internal.h"

/* A model in memory. */
struct loaded {
    char *path;
    void *encoder;
    uint64_t used; /* clock of the last use */
};

/* Somebody waits for a model to be loaded. */
struct waiting {
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t changed;
    bool done;
    enum ft_status st;
    struct ft_err *err;
};

struct job {
    struct ft_request *request; /* NULL: only load `model` */
    char *model;
    struct waiting *waiting; /* of a load; may be NULL */
};

struct ft_encode {
    struct ft_service *service;
    struct ft_queue *queue; /* of struct job */
    struct ft_thread *thread;
    /* Below: the encode thread's own, and the starting thread's before that one runs. */
    struct loaded *models; /* config->models_loaded of them; path NULL = free */
    uint64_t clock;
};

static void unload(struct ft_encode *encode, struct loaded *model)
{
    if (model->encoder != NULL) {
        encode->service->engine->close(model->encoder);
    }
    ft_free(model->path);
    *model = (struct loaded){0};
}

/* The loaded model of that path, loading it in the place of the one not used longest. */
static enum ft_status find_model(struct ft_encode *encode, const char *path, struct loaded **found,
                                 struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct loaded *place = &encode->models[0];
    struct loaded fresh = {0};
    *found = NULL;
    for (int64_t i = 0; i < encode->service->config->models_loaded; i++) {
        struct loaded *model = &encode->models[i];
        if (model->path != NULL && strcmp(model->path, path) == 0) {
            model->used = ++encode->clock;
            *found = model;
            return FT_OK;
        }
        if (model->used < place->used) {
            place = model;
        }
    }
    FT_TRY(ft_new_text(path, &fresh.path, err));
    /* The old one goes only when the new one is there: a broken file must not cost a working model. */
    FT_TRY(encode->service->engine->open(encode->service->config, path, &fresh.encoder, err));
    fresh.used = ++encode->clock;
    unload(encode, place);
    *place = fresh;
    fresh = (struct loaded){0};
    *found = place;
    FT_LOG_INFO_LINE("server", "model loaded path=\"%s\" dim=%zu", path,
                     encode->service->engine->dim(place->encoder));
done:
    unload(encode, &fresh);
    return st;
}

/* Documents first .. first + count of the request. */
static enum ft_status encode_batch(const struct ft_encode *encode, const struct ft_request *request,
                                   void *encoder, size_t first, size_t count, float *out, struct ft_err *err)
{
    size_t failed = count;
    enum ft_status st =
        encode->service->engine->encode(encoder, request->docs + first, count, out, &failed, err);
    return st != FT_OK && failed < count ? ft_wrap_document(request, first + failed, err) : st;
}

static enum ft_status encode_request(struct ft_encode *encode, const struct ft_request *request,
                                     const char *path, float **vectors, size_t *dim, struct ft_err *err)
{
    struct loaded *model = NULL;
    FT_RETURN_IF_FAILED(find_model(encode, path, &model, err));
    size_t total = request->jina.n_docs;
    size_t batch = (size_t)encode->service->config->encode_batch_size;
    size_t cells = 0;
    *dim = encode->service->engine->dim(model->encoder);
    if (!ft_mul_size(total, *dim, &cells)) {
        return FT_FAIL(err, LIMIT, "%zu documents are too many", total);
    }
    FT_RETURN_IF_FAILED(ft_new(cells, sizeof(float), vectors, err));
    for (size_t first = 0; first < total; first += batch) {
        size_t count = total - first < batch ? total - first : batch;
        if (ft_rpc_cancelled(request->call)) {
            return FT_FAIL(err, CANCELLED, "the client went away");
        }
        FT_RETURN_IF_FAILED(
            encode_batch(encode, request, model->encoder, first, count, *vectors + first * *dim, err));
    }
    return FT_OK;
}

static void load_only(struct ft_encode *encode, const struct job *job)
{
    struct loaded *model = NULL;
    struct waiting *waiting = job->waiting;
    struct ft_err err = {0};
    enum ft_status st = find_model(encode, job->model, &model, &err);
    if (waiting != NULL) {
        (void)pthread_mutex_lock(&waiting->mutex);
        waiting->st = st;
        *waiting->err = err;
        waiting->done = true;
        (void)pthread_cond_signal(&waiting->changed);
        (void)pthread_mutex_unlock(&waiting->mutex);
    } else if (st != FT_OK) {
        FT_LOG_ERROR_LINE("server", "cannot load model path=\"%s\" reason=\"%s\"", job->model, err.text);
    }
}

static void run_job(struct ft_encode *encode, const struct job *job)
{
    struct ft_err err = {0};
    if (job->request == NULL) {
        load_only(encode, job);
        return;
    }
    float *vectors = NULL;
    size_t dim = 0;
    if (encode_request(encode, job->request, job->model, &vectors, &dim, &err) == FT_OK) {
        struct ft_jina_reply reply = {.embeddings = vectors, .dim = dim};
        ft_request_answer(job->request, &reply);
    } else {
        ft_request_fail(job->request, &err);
    }
    ft_free(vectors);
}

static void encode_main(void *arg)
{
    struct ft_encode *encode = arg;
    for (;;) {
        struct job *job = ft_queue_pop(encode->queue, -1);
        if (job == NULL) { /* closed and empty */
            return;
        }
        run_job(encode, job);
        ft_free(job->model);
        ft_free(job);
    }
}

enum ft_status ft_encode_new(struct ft_service *service, struct ft_encode **encode, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_encode *e = NULL;
    *encode = NULL;
    FT_TRY(ft_new(1, sizeof *e, &e, err));
    e->service = service;
    FT_TRY(ft_new((size_t)service->config->models_loaded, sizeof *e->models, &e->models, err));
    FT_TRY(ft_queue_new((size_t)service->config->encode_queue, &e->queue, err));
    FT_TRY(ft_thread_start("encode", encode_main, e, &e->thread, err));
    *encode = e;
    e = NULL;
done:
    ft_encode_free(e);
    return st;
}

static struct job *new_job(struct ft_request *request, char *take_model)
{
    struct job *job = take_model != NULL ? ft_calloc(1, sizeof *job) : NULL;
    if (job == NULL) {
        ft_free(take_model);
        return NULL;
    }
    *job = (struct job){request, take_model, NULL};
    return job;
}

bool ft_encode_push(struct ft_encode *encode, struct ft_request *request)
{
    char *model = request->model;
    request->model = NULL;
    struct job *job = new_job(request, model);
    if (job != NULL && ft_queue_try_push(encode->queue, job)) {
        return true;
    }
    if (job != NULL) {
        ft_free(job->model);
        ft_free(job);
    }
    return false;
}

void ft_encode_preload(struct ft_encode *encode, const char *model)
{
    struct job *job = new_job(NULL, ft_strdup(model));
    if (job != NULL && !ft_queue_try_push(encode->queue, job)) {
        ft_free(job->model); /* the first request that asks for it loads it */
        ft_free(job);
    }
}

enum ft_status ft_encode_load(struct ft_encode *encode, const char *model, struct ft_err *err)
{
    struct waiting waiting = {.st = FT_OK, .err = err};
    struct job *job = new_job(NULL, ft_strdup(model));
    if (job == NULL) {
        return FT_FAIL(err, NOMEM, "out of memory loading a model");
    }
    (void)pthread_mutex_init(&waiting.mutex, NULL);
    (void)pthread_cond_init(&waiting.changed, NULL);
    job->waiting = &waiting;
    bool pushed = ft_queue_push(encode->queue, job);
    assert(pushed); /* nobody closes the queue while it is being started */
    (void)pthread_mutex_lock(&waiting.mutex);
    while (!waiting.done) {
        (void)pthread_cond_wait(&waiting.changed, &waiting.mutex);
    }
    (void)pthread_mutex_unlock(&waiting.mutex);
    (void)pthread_cond_destroy(&waiting.changed);
    (void)pthread_mutex_destroy(&waiting.mutex);
    return waiting.st;
}

void ft_encode_free(struct ft_encode *encode)
{
    if (encode == NULL) {
        return;
    }
    if (encode->queue != NULL) {
        ft_queue_close(encode->queue);
    }
    ft_thread_join(encode->thread);
    for (int64_t i = 0; encode->models != NULL && i < encode->service->config->models_loaded; i++) {
        unload(encode, &encode->models[i]);
    }
    ft_queue_free(encode->queue);
    ft_free(encode->models);
    ft_free(encode);
}

void ft_endpoint_encode(struct ft_request *request)
{
    struct ft_service *service = request->service;
    struct ft_err err = {0};
    const char *name = NULL;
    enum ft_status st = ft_request_docs(request, &err);
    if (st == FT_OK && request->jina.n_docs == 0) { /* jina/SPEC.md 3.2: the same comes back */
        struct ft_jina_reply reply = {0};
        ft_request_answer(request, &reply);
        return;
    }
    for (size_t i = 0; st == FT_OK && i < request->jina.n_docs; i++) {
        enum ft_content_kind kind = request->docs[i].content.kind;
        if (kind == FT_CONTENT_NONE || kind == FT_CONTENT_URI) {
            st = kind == FT_CONTENT_NONE
                     ? FT_FAIL(&err, INVALID, "no text, blob or tensor to embed")
                     : FT_FAIL(&err, UNSUPPORTED, "a uri is not fetched by the service: send the content");
            (void)ft_wrap_document(request, i, &err);
        }
    }
    if (st == FT_OK) {
        st = ft_request_text(request, "run", &name, &err);
    }
    if (st == FT_OK && name == NULL) {
        st = ft_request_text(request, "model", &name, &err);
    }
    if (st == FT_OK) {
        st = ft_model_path(service, name, true, &request->model, &err);
    }
    if (st == FT_OK && !ft_encode_push(service->encode, request)) {
        st = FT_FAIL(&err, BUSY, "too many requests wait for the model (encode_queue = %lld): try again",
                     (long long)service->config->encode_queue);
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
    }
}
