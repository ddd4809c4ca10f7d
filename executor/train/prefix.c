#include "executor/train/prefix.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/train/input.h"
#include "kernels/bf16.h"

struct ft_prefix {
    struct ft_device *device;
    const struct ft_frontier *frontier;
    const struct ft_params *params;
    ft_value input;
    size_t input_elements;
    struct ft_plan *plan;
    struct ft_flat rows;    /* (FT_PREFIX_ROWS, input_elements) */
    struct ft_flat *values; /* (frontier->n) of (FT_PREFIX_ROWS, elements) */
    float *host;            /* one of them */
    uint16_t *kept;         /* (FT_PREFIX_ROWS, row_elements) */
};

/* ---- numbers */

static void widen(const uint16_t *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = ft_bf16_to(from[i]);
    }
}

/* ---- life */

static enum ft_status make_plan(struct ft_prefix *p, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_graph *g = p->frontier->prefix;
    struct ft_plan_spec spec;
    ft_value *wanted = NULL;
    size_t n = (size_t)p->frontier->n;
    memset(&spec, 0, sizeof spec);
    FT_TRY(ft_new(n, sizeof *wanted, &wanted, err));
    for (size_t i = 0; i < n; i++) {
        wanted[i] = ft_graph_output_at(g, (int)i);
    }
    spec.symbols[FT_SYMBOL_BATCH] = FT_PREFIX_ROWS;
    spec.wanted = wanted;
    spec.n_wanted = (int)n;
    FT_TRY(ft_plan_new(p->device, g, &spec, &p->plan, err));
    FT_TRY(ft_plan_bind(p->plan, p->input, p->rows.data, err));
    for (size_t i = 0; i < n; i++) {
        FT_TRY(ft_plan_bind(p->plan, wanted[i], p->values[i].data, err));
    }
    FT_TRY(ft_params_bind(p->params, p->plan, g, p->frontier->prefix_params, err));
    ft_plan_set_version(p->plan, 1); /* frozen weights never change */
done:
    ft_free(wanted);
    return st;
}

static enum ft_status set_up(struct ft_prefix *p, struct ft_err *err)
{
    const struct ft_frontier *f = p->frontier;
    size_t widest = 0;
    assert(ft_graph_inputs(f->prefix) == 1); /* ft_input_find() let no other model in */
    p->input = ft_graph_input_at(f->prefix, 0);
    const struct ft_type *type = ft_graph_type(f->prefix, p->input);
    p->input_elements = 1;
    for (int i = 1; i < type->rank; i++) {
        p->input_elements *= (size_t)ft_extent(type, i);
    }
    FT_RETURN_IF_FAILED(ft_flat_init(&p->rows, p->device, FT_PREFIX_ROWS * p->input_elements, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)f->n, sizeof *p->values, &p->values, err));
    for (int i = 0; i < f->n; i++) {
        widest = f->elements[i] > widest ? f->elements[i] : widest;
        FT_RETURN_IF_FAILED(ft_flat_init(&p->values[i], p->device, FT_PREFIX_ROWS * f->elements[i], err));
    }
    FT_RETURN_IF_FAILED(ft_new(FT_PREFIX_ROWS * widest, sizeof *p->host, &p->host, err));
    FT_RETURN_IF_FAILED(ft_new(FT_PREFIX_ROWS * f->row_elements, sizeof *p->kept, &p->kept, err));
    return make_plan(p, err);
}

enum ft_status ft_prefix_new(struct ft_device *device, const struct ft_frontier *frontier,
                             const struct ft_params *params, struct ft_prefix **prefix, struct ft_err *err)
{
    struct ft_prefix *p = NULL;
    *prefix = NULL;
    if (frontier->n > FT_BATCH_INPUTS) {
        return FT_FAIL(err, LIMIT, "the frozen layers end in %d values, at most %d are kept", frontier->n,
                       FT_BATCH_INPUTS);
    }
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *p, &p, err));
    p->device = device;
    p->frontier = frontier;
    p->params = params;
    enum ft_status st = set_up(p, err);
    if (st != FT_OK) {
        ft_prefix_free(p);
        return st;
    }
    *prefix = p;
    return FT_OK;
}

void ft_prefix_free(struct ft_prefix *p)
{
    if (p == NULL) {
        return;
    }
    ft_plan_free(p->plan);
    ft_flat_release(&p->rows);
    for (int i = 0; p->values != NULL && i < p->frontier->n; i++) {
        ft_flat_release(&p->values[i]);
    }
    ft_free(p->values);
    ft_free(p->host);
    ft_free(p->kept);
    ft_free(p);
}

/* ---- computing */

/* At most FT_PREFIX_ROWS rows into p->kept. Of a short batch the last rows hold what they held before. */
static enum ft_status run_rows(struct ft_prefix *p, const float *rows, size_t count, struct ft_err *err)
{
    const struct ft_frontier *f = p->frontier;
    size_t at = 0;
    FT_RETURN_IF_FAILED(ft_flat_put(&p->rows, 0, rows, count * p->input_elements, err));
    FT_RETURN_IF_FAILED(ft_plan_run(p->plan, err));
    FT_RETURN_IF_FAILED(ft_device_wait(p->device, err));
    for (int k = 0; k < f->n; k++) {
        size_t elements = f->elements[k];
        FT_RETURN_IF_FAILED(ft_flat_get(&p->values[k], 0, p->host, count * elements, err));
        for (size_t r = 0; r < count; r++) {
            for (size_t i = 0; i < elements; i++) {
                p->kept[r * f->row_elements + at + i] = ft_bf16_of(p->host[r * elements + i]);
            }
        }
        at += elements;
    }
    return FT_OK;
}

/* One document as it is kept, its values one after the other, into a batch. */
static void spread(const struct ft_frontier *f, const uint16_t *kept, const struct ft_batch *batch,
                   size_t row)
{
    assert(batch->n_inputs == f->n);
    for (int k = 0; k < f->n; k++) {
        widen(kept, f->elements[k], batch->input[k].data + row * f->elements[k]);
        kept += f->elements[k];
    }
}

enum ft_status ft_prefix_batch_init(const struct ft_frontier *frontier, size_t rows_max,
                                    struct ft_batch *batch, struct ft_err *err)
{
    struct ft_batch_input inputs[FT_BATCH_INPUTS];
    memset(inputs, 0, sizeof inputs);
    assert(frontier->n <= FT_BATCH_INPUTS);
    for (int i = 0; i < frontier->n; i++) {
        inputs[i].name = ft_graph_name(frontier->suffix, ft_graph_input_at(frontier->suffix, i));
        inputs[i].row_elements = frontier->elements[i];
    }
    return ft_batch_init(batch, inputs, frontier->n, rows_max, err);
}

enum ft_status ft_prefix_batch(struct ft_prefix *p, const struct ft_batch *from, struct ft_batch *to,
                               struct ft_err *err)
{
    assert(from->rows <= to->rows_max);
    for (size_t i = 0; i < from->rows; i += FT_PREFIX_ROWS) {
        size_t count = from->rows - i < FT_PREFIX_ROWS ? from->rows - i : FT_PREFIX_ROWS;
        FT_RETURN_IF_FAILED(run_rows(p, from->input[0].data + i * p->input_elements, count, err));
        for (size_t r = 0; r < count; r++) {
            spread(p->frontier, p->kept + r * p->frontier->row_elements, to, i + r);
        }
    }
    to->rows = from->rows;
    memcpy(to->labels, from->labels, from->rows * sizeof *to->labels);
    memcpy(to->items, from->items, from->rows * sizeof *to->items);
    return FT_OK;
}

/* ---- the cache */

struct ft_prefix_cache {
    const struct ft_frontier *frontier;
    uint16_t *data; /* (count, row_elements) */
    size_t bytes;
    bool is_file;
};

/* A file without a name: nothing is left of it, however the process ends. */
static enum ft_status open_nameless(const char *dir, int *fd, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *path = NULL;
    FT_RETURN_IF_FAILED(ft_path_join(dir, "frozen-XXXXXX", &path, err));
    *fd = mkstemp(path);
    if (*fd < 0 || unlink(path) != 0 || fcntl(*fd, F_SETFD, FD_CLOEXEC) != 0) {
        st = FT_FAIL(err, IO, "%s: %s", path, strerror(errno));
    }
    if (st != FT_OK && *fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
    ft_free(path);
    return st;
}

/* All of the file is reserved first: a full disk shows here, not as a signal when a page is written. */
static enum ft_status map_file(struct ft_prefix_cache *c, const char *dir, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const char *temp = getenv("TMPDIR");
    int fd = -1;
    void *data = MAP_FAILED;
    dir = dir != NULL ? dir : temp != NULL && temp[0] != '\0' ? temp : "/tmp";
    FT_TRY(open_nameless(dir, &fd, err));
    int failed = posix_fallocate(fd, 0, (off_t)c->bytes);
    if (failed != 0) {
        st =
            FT_FAIL(err, IO,
                    "the outputs of the frozen layers need a file of %.1f MB in %s: %s; activation_cache off "
                    "computes them again in every step",
                    (double)c->bytes / 1e6, dir, strerror(failed));
        goto done;
    }
    data = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
        st = FT_FAIL(err, IO, "%s: a file of %.1f MB cannot be mapped: %s", dir, (double)c->bytes / 1e6,
                     strerror(errno));
        goto done;
    }
    c->data = data;
    c->is_file = true;
done:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

static enum ft_status make_room(struct ft_prefix_cache *c, const struct ft_prefix_fill *fill,
                                struct ft_err *err)
{
    size_t row = c->frontier->row_elements * sizeof *c->data;
    if (!ft_mul_size(row, fill->rows->count, &c->bytes)) {
        return FT_FAIL(err, LIMIT, "%zu documents of %zu bytes do not fit any memory", fill->rows->count,
                       row);
    }
    return c->bytes <= fill->memory_max ? ft_new(c->bytes, 1, &c->data, err) : map_file(c, fill->dir, err);
}

static enum ft_status compute_all(struct ft_prefix *p, const struct ft_prefix_fill *fill,
                                  struct ft_prefix_cache *c, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_rows *rows = fill->rows;
    size_t elements = p->frontier->row_elements;
    struct ft_pool *pool = NULL;
    float *batch = NULL;
    FT_TRY(ft_new(FT_PREFIX_ROWS, rows->elements * sizeof *batch, &batch, err));
    FT_TRY(ft_pool_new(fill->threads > 0 ? (size_t)fill->threads : ft_thread_cpus(), &pool, err));
    for (size_t i = 0; i < rows->count; i += FT_PREFIX_ROWS) {
        size_t count = rows->count - i < FT_PREFIX_ROWS ? rows->count - i : FT_PREFIX_ROWS;
        if (ft_cancelled(fill->cancel)) {
            st = FT_FAIL(err, CANCELLED, "cancelled while the frozen layers were computed");
            goto done;
        }
        FT_TRY(ft_rows_fill(rows, i, count, batch, pool, err));
        FT_TRY(run_rows(p, batch, count, err));
        memcpy(c->data + i * elements, p->kept, count * elements * sizeof *p->kept);
        if (fill->progress != NULL) {
            fill->progress(fill->arg, i + count, rows->count);
        }
    }
done:
    ft_pool_free(pool);
    ft_free(batch);
    return st;
}

enum ft_status ft_prefix_fill(struct ft_prefix *prefix, const struct ft_prefix_fill *fill,
                              struct ft_prefix_cache **cache, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_prefix_cache *c = NULL;
    *cache = NULL;
    assert(fill->rows->elements == prefix->input_elements);
    FT_TRY(ft_new(1, sizeof *c, &c, err));
    c->frontier = prefix->frontier;
    FT_TRY(make_room(c, fill, err));
    FT_TRY(compute_all(prefix, fill, c, err));
    *cache = c;
    c = NULL;
done:
    ft_prefix_cache_free(c);
    return st;
}

void ft_prefix_cache_free(struct ft_prefix_cache *c)
{
    if (c == NULL) {
        return;
    }
    if (c->is_file) {
        (void)munmap(c->data, c->bytes);
    } else {
        ft_free(c->data);
    }
    ft_free(c);
}

void ft_prefix_cache_get(const struct ft_prefix_cache *c, size_t item, const struct ft_batch *batch,
                         size_t row)
{
    spread(c->frontier, c->data + item * c->frontier->row_elements, batch, row);
}

const struct ft_frontier *ft_prefix_cache_frontier(const struct ft_prefix_cache *c)
{
    return c->frontier;
}

size_t ft_prefix_cache_bytes(const struct ft_prefix_cache *c)
{
    return c->bytes;
}

bool ft_prefix_cache_is_file(const struct ft_prefix_cache *c)
{
    return c->is_file;
}
