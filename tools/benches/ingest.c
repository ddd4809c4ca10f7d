/*
 * How many Documents a second a service stores durably, and how soon a data set of many can be trained on.
 *
 * bench_ingest push HOST:PORT CLIENTS SECONDS DOCUMENTS-A-REQUEST BYTES CLASSES DOCUMENTS
 *   measured over SECONDS; then it goes on until so many DOCUMENTS are stored
 * bench_ingest open DATASET-FOLDER
 */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "executor/base/alloc.h"
#include "executor/base/clock.h"
#include "executor/base/rand.h"
#include "executor/base/thread.h"
#include "executor/rpc/stream.h"
#include "executor/store/dataset.h"
#include "executor/train/sampler.h"
#include "tools/benches/push.h"

enum { MAX_CLIENTS = 512, MAX_LATENCIES = 200000, TEXT = 64 };

struct goal {
    size_t documents; /* of all clients */
    atomic_size_t stored;
};

struct client {
    const char *target;
    unsigned number;
    double until;
    size_t batch, bytes;
    unsigned classes;
    struct goal *goal;
    size_t requests;
    /* until `until` */
    size_t stored, in_time;
    double *latencies; /* ms */
    struct ft_err err;
};

struct batch {
    struct ft_document *docs;
    char (*texts)[2][TEXT];
    char *body;
    struct ft_buf request, answer;
};

static void fill(struct client *c, struct batch *b)
{
    for (size_t i = 0; i < c->batch; i++) {
        size_t n = c->requests * c->batch + i;
        uint32_t label = ft_rand_u32(ft_rand_at(c->number, FT_RAND_TEST, 0), n) % c->classes;
        (void)snprintf(b->texts[i][0], TEXT, "client-%u-document-%zu", c->number, n);
        (void)snprintf(b->texts[i][1], TEXT, "class-%06u", label);
        b->docs[i].id = ft_bytes_of_text(b->texts[i][0]);
        b->docs[i].label = ft_bytes_of_text(b->texts[i][1]);
        b->docs[i].has_label = true;
        b->docs[i].content =
            (struct ft_content){.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of(b->body, c->bytes)};
    }
}

static enum ft_status push(struct client *c, struct batch *b, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_rpc_stream *stream = NULL;
    FT_TRY(ft_new(c->batch, sizeof *b->docs, &b->docs, err));
    FT_TRY(ft_new(c->batch, sizeof *b->texts, &b->texts, err));
    FT_TRY(ft_new(c->bytes, 1, &b->body, err));
    memset(b->body, 'x', c->bytes);
    FT_TRY(ft_rpc_stream_open(c->target, push_method, &stream, err));
    while (ft_clock_seconds() < c->until || atomic_load(&c->goal->stored) < c->goal->documents) {
        if (c->requests == MAX_LATENCIES) {
            st = FT_FAIL(err, LIMIT,
                         "a client keeps %d times at most: more of them, or more Documents a request",
                         MAX_LATENCIES);
            goto done;
        }
        size_t count = 0;
        fill(c, b);
        FT_TRY(push_request("ingest", b->docs, c->batch, &b->request, err));
        double start = ft_clock_seconds();
        FT_TRY(ft_rpc_stream_exchange(stream, ft_buf_bytes(&b->request), &b->answer, err));
        FT_TRY(push_acknowledged(ft_buf_bytes(&b->answer), &count, err));
        double now = ft_clock_seconds();
        c->requests++;
        atomic_fetch_add(&c->goal->stored, count);
        if (now < c->until) {
            c->latencies[c->in_time++] = 1000 * (now - start);
            c->stored += count;
        }
    }
done:
    ft_rpc_stream_close(stream);
    return st;
}

static void run(void *arg)
{
    struct client *c = arg;
    struct batch b = {0};
    (void)push(c, &b, &c->err);
    ft_free(b.docs);
    ft_free(b.texts);
    ft_free(b.body);
    ft_buf_release(&b.request);
    ft_buf_release(&b.answer);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum ft_status bench_push(char **argv, struct ft_err *err)
{
    static struct client clients[MAX_CLIENTS];
    static struct ft_thread *threads[MAX_CLIENTS];
    enum ft_status st = FT_OK;
    struct goal goal = {.documents = strtoul(argv[6], NULL, 10)};
    size_t n = strtoul(argv[1], NULL, 10);
    double seconds = strtod(argv[2], NULL);
    double *all = NULL;
    size_t stored = 0, requests = 0;
    if (n < 1 || n > MAX_CLIENTS) {
        return FT_FAIL(err, USAGE, "1 to %d clients", MAX_CLIENTS);
    }
    FT_RETURN_IF_FAILED(ft_new(n * MAX_LATENCIES, sizeof *all, &all, err));
    double start = ft_clock_seconds();
    for (unsigned i = 0; i < n; i++) {
        clients[i] = (struct client){.target = argv[0],
                                     .number = i,
                                     .until = start + seconds,
                                     .batch = strtoul(argv[3], NULL, 10),
                                     .bytes = strtoul(argv[4], NULL, 10),
                                     .classes = (unsigned)strtoul(argv[5], NULL, 10),
                                     .goal = &goal,
                                     .latencies = all + i * MAX_LATENCIES};
        FT_TRY(ft_thread_start("client", run, &clients[i], &threads[i], err));
    }
    for (size_t i = 0; i < n; i++) {
        ft_thread_join(threads[i]);
        memmove(all + requests, clients[i].latencies, clients[i].in_time * sizeof *all);
        requests += clients[i].in_time;
        stored += clients[i].stored;
        if (clients[i].err.code != FT_OK) {
            *err = clients[i].err;
            st = err->code;
        }
    }
    double took = ft_clock_seconds() - start;
    if (st == FT_OK && requests > 0) {
        qsort(all, requests, sizeof *all, ascending);
        printf("%zu clients, %s Documents of %s bytes a request: %.0f durable Documents/s over %.1f s (%zu); "
               "acknowledged after %.1f ms p50, %.1f ms p99, %.1f ms at most\n"
               "%zu Documents stored after %.1f s\n",
               n, argv[3], argv[4], (double)stored / seconds, seconds, stored, all[requests / 2],
               all[requests * 99 / 100], all[requests - 1], atomic_load(&goal.stored), took);
    }
done:
    ft_free(all);
    return st;
}

static enum ft_status bench_open(const char *dir, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dataset *ds = NULL;
    struct ft_sampler *sampler = NULL;
    struct ft_sampler_shape shape;
    struct ft_buf own = {0};
    struct ft_content content;
    uint32_t items[128];
    int32_t classes[128];
    double start = ft_clock_seconds();
    FT_TRY(ft_dataset_open_set(dir, &ds, err));
    double opened = ft_clock_seconds();
    size_t data_bytes = ft_alloc_stats().live_bytes;
    struct ft_sampler_classes view = ft_sampler_classes_of(ds);
    FT_TRY(ft_sampler_fit_shape(&view, 128, 4, &shape, err));
    FT_TRY(ft_sampler_new(&view, &shape, 1, &sampler, err));
    size_t sampler_bytes = ft_alloc_stats().live_bytes - data_bytes;
    ft_sampler_next(sampler, items, classes);
    for (size_t i = 0; i < shape.batch; i++) {
        FT_TRY(ft_dataset_content(ds, items[i], &own, &content, err));
    }
    double first_read = ft_clock_seconds();
    enum { BATCHES = 1000 };
    for (int i = 0; i < BATCHES; i++) {
        ft_sampler_next(sampler, items, classes);
    }
    double batches = ft_clock_seconds() - first_read;
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    printf("%zu Documents in %zu classes: first batch of %zu read after %.0f ms (opened in %.0f, sampled and "
           "read in "
           "%.1f); %.1f us a batch; memory: %.1f MB for the data set, %zu bytes for the sampler, %.0f MB "
           "resident "
           "at most, mapped shards included\n",
           ft_dataset_count(ds), ft_dataset_classes(ds), shape.batch, 1000 * (first_read - start),
           1000 * (opened - start), 1000 * (first_read - opened), 1e6 * batches / BATCHES,
           (double)data_bytes / 1e6, sampler_bytes, (double)used.ru_maxrss / 1e3);
done:
    ft_sampler_free(sampler);
    ft_dataset_free(ds);
    ft_buf_release(&own);
    return st;
}

int main(int argc, char **argv)
{
    struct ft_err err = {0};
    enum ft_status st = FT_USAGE;
    if (argc == 9 && strcmp(argv[1], "push") == 0) {
        st = bench_push(argv + 2, &err);
    } else if (argc == 3 && strcmp(argv[1], "open") == 0) {
        st = bench_open(argv[2], &err);
    } else {
        (void)fprintf(stderr, "usage: tools/bench ingest\n");
        return 2;
    }
    if (st != FT_OK) {
        (void)fprintf(stderr, "bench_ingest: %s\n", err.text);
    }
    return st == FT_OK ? 0 : 1;
}
