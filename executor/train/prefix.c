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
#include "executor/train/buckets.h"
#include "executor/train/input.h"
#include "executor/train/text_in.h"
#include "kernels/bf16.h"

struct ft_prefix {
    struct ft_device *device;
    const struct ft_frontier *frontier;
    const struct ft_params *params;
    int64_t symbols[FT_MAX_SYMBOLS];
    struct ft_plan *plan;
    bool is_text;
    ft_value input;         /* of rows */
    size_t input_elements;  /* of a row */
    struct ft_flat rows;    /* (FT_PREFIX_ROWS, input_elements) */
    struct ft_text_in text; /* of texts */
    struct ft_batch part;   /* those of one run */
    struct ft_flat *values; /* (frontier->n) of (rows or tokens of the plan, elements) */
    float **host;           /* (frontier->n) the same */
    uint16_t *kept;         /* one item */
};

/* ---- numbers */

static size_t numbers_of(const struct ft_frontier *f, size_t tokens)
{
    return f->row_elements + tokens * f->token_elements;
}

/* Value k of an item in rows of it: where they begin and how many numbers they are. */
static size_t place_of(const struct ft_frontier *f, int k, size_t row, const int64_t span[2], size_t *count)
{
    *count = f->elements[k] * (f->of_tokens[k] ? (size_t)span[1] : 1);
    return f->elements[k] * (f->of_tokens[k] ? (size_t)span[0] : row);
}

/* An item as it is kept, its values one after the other, from a row of the last run ... */
static void round_item(const struct ft_prefix *p, size_t row, const int64_t span[2], uint16_t *kept)
{
    size_t count = 0;
    for (int k = 0; k < p->frontier->n; k++) {
        const float *from = p->host[k] + place_of(p->frontier, k, row, span, &count);
        for (size_t i = 0; i < count; i++) {
            kept[i] = ft_bf16_of(from[i]);
        }
        kept += count;
    }
}

/* ... and into a row of a batch. */
static void spread(const struct ft_frontier *f, const uint16_t *kept, const struct ft_batch *batch,
                   size_t row, const int64_t span[2])
{
    size_t count = 0;
    assert(batch->n_inputs == f->n);
    for (int k = 0; k < f->n; k++) {
        float *to = batch->input[k].data + place_of(f, k, row, span, &count);
        for (size_t i = 0; i < count; i++) {
            to[i] = ft_bf16_to(kept[i]);
        }
        kept += count;
    }
}

/* ---- life */

static enum ft_status bind_plan(struct ft_prefix *p, const ft_value *wanted, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(p->is_text ? ft_text_in_bind(&p->text, p->plan, err)
                                   : ft_plan_bind(p->plan, p->input, p->rows.data, err));
    for (int i = 0; i < p->frontier->n; i++) {
        FT_RETURN_IF_FAILED(ft_plan_bind(p->plan, wanted[i], p->values[i].data, err));
    }
    return ft_params_bind(p->params, p->plan, p->frontier->prefix, p->frontier->prefix_params, err);
}

static enum ft_status make_plan(struct ft_prefix *p, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_graph *g = p->frontier->prefix;
    struct ft_plan_spec spec = {.n_wanted = p->frontier->n};
    ft_value *wanted = NULL;
    FT_TRY(ft_new((size_t)spec.n_wanted, sizeof *wanted, &wanted, err));
    for (int i = 0; i < spec.n_wanted; i++) {
        wanted[i] = ft_graph_output_at(g, i);
    }
    memcpy(spec.symbols, p->symbols, sizeof spec.symbols);
    spec.wanted = wanted;
    FT_TRY(ft_plan_new(p->device, g, &spec, &p->plan, err));
    FT_TRY(bind_plan(p, wanted, err));
    ft_plan_set_version(p->plan, 1); /* frozen weights never change */
done:
    ft_free(wanted);
    return st;
}

void ft_prefix_symbols(const struct ft_frontier *frontier, int64_t longest, int64_t symbols[FT_MAX_SYMBOLS])
{
    int64_t least = longest + FT_PREFIX_ROWS - 1; /* a row without a text is a token long */
    memset(symbols, 0, FT_MAX_SYMBOLS * sizeof *symbols);
    symbols[FT_SYMBOL_BATCH] = FT_PREFIX_ROWS;
    if (ft_input_texts(frontier->prefix).ids != FT_NO_VALUE) {
        symbols[FT_SYMBOL_TOKENS] = ft_bucket_tokens(least > FT_PREFIX_TOKENS ? least : FT_PREFIX_TOKENS);
    }
}

static enum ft_status set_up_texts(struct ft_prefix *p, const struct ft_text_inputs *values, int64_t longest,
                                   struct ft_err *err)
{
    const struct ft_text_limits limits = {.rows = FT_PREFIX_ROWS,
                                          .tokens = p->symbols[FT_SYMBOL_TOKENS],
                                          .longest = longest,
                                          .exact_rows = true};
    assert(longest > 0);
    p->is_text = true;
    FT_RETURN_IF_FAILED(ft_text_in_init(&p->text, p->device, values, &limits, err));
    return ft_batch_init_texts(&p->part, (size_t)limits.rows, (size_t)limits.tokens, err);
}

static enum ft_status set_up_rows(struct ft_prefix *p, struct ft_err *err)
{
    const struct ft_graph *g = p->frontier->prefix;
    assert(ft_graph_inputs(g) == 1); /* ft_input_find() let no other model in */
    p->input = ft_graph_input_at(g, 0);
    const struct ft_type *type = ft_graph_type(g, p->input);
    p->input_elements = 1;
    for (int i = 1; i < type->rank; i++) {
        p->input_elements *= (size_t)ft_extent(type, i);
    }
    return ft_flat_init(&p->rows, p->device, FT_PREFIX_ROWS * p->input_elements, err);
}

static enum ft_status set_up(struct ft_prefix *p, int64_t longest, struct ft_err *err)
{
    const struct ft_frontier *f = p->frontier;
    const struct ft_text_inputs texts = ft_input_texts(f->prefix);
    ft_prefix_symbols(f, longest, p->symbols);
    FT_RETURN_IF_FAILED(texts.ids != FT_NO_VALUE ? set_up_texts(p, &texts, longest, err)
                                                 : set_up_rows(p, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)f->n, sizeof *p->values, &p->values, err));
    FT_RETURN_IF_FAILED(ft_new((size_t)f->n, sizeof *p->host, &p->host, err));
    for (int i = 0; i < f->n; i++) {
        size_t rows = (size_t)p->symbols[f->of_tokens[i] ? FT_SYMBOL_TOKENS : FT_SYMBOL_BATCH];
        FT_RETURN_IF_FAILED(ft_flat_init(&p->values[i], p->device, rows * f->elements[i], err));
        FT_RETURN_IF_FAILED(ft_new(rows * f->elements[i], sizeof **p->host, &p->host[i], err));
    }
    FT_RETURN_IF_FAILED(ft_new(numbers_of(f, (size_t)longest), sizeof *p->kept, &p->kept, err));
    return make_plan(p, err);
}

enum ft_status ft_prefix_new(struct ft_device *device, const struct ft_frontier *frontier,
                             const struct ft_params *params, int64_t longest, struct ft_prefix **prefix,
                             struct ft_err *err)
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
    enum ft_status st = set_up(p, longest, err);
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
    ft_text_in_release(&p->text);
    ft_batch_release(&p->part);
    for (int i = 0; p->values != NULL && i < p->frontier->n; i++) {
        ft_flat_release(&p->values[i]);
    }
    for (int i = 0; p->host != NULL && i < p->frontier->n; i++) {
        ft_free(p->host[i]);
    }
    ft_free(p->values);
    ft_free(p->host);
    ft_free(p->kept);
    ft_free(p);
}

/* ---- computing */

/* Inputs are there; what the values are of the first rows and tokens. */
static enum ft_status run(struct ft_prefix *p, size_t rows, size_t tokens, struct ft_err *err)
{
    const struct ft_frontier *f = p->frontier;
    FT_RETURN_IF_FAILED(ft_plan_run(p->plan, err));
    FT_RETURN_IF_FAILED(ft_device_wait(p->device, err));
    for (int k = 0; k < f->n; k++) {
        size_t count = f->elements[k] * (f->of_tokens[k] ? tokens : rows);
        FT_RETURN_IF_FAILED(ft_flat_get(&p->values[k], 0, p->host[k], count, err));
    }
    return FT_OK;
}

/* At most FT_PREFIX_ROWS. Of a short batch the last rows hold what they held before. */
static enum ft_status run_rows(struct ft_prefix *p, const float *rows, size_t count, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_flat_put(&p->rows, 0, rows, count * p->input_elements, err));
    return run(p, count, 0, err);
}

static enum ft_status run_part(struct ft_prefix *p, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_text_in_put(&p->text, &p->part, p->symbols, err));
    return run(p, p->part.rows, p->part.texts.tokens, err);
}

/* Room in the part for the ids of one more text; NULL: it is full. */
static int64_t *room_for(struct ft_prefix *p, size_t tokens)
{
    const struct ft_batch *b = &p->part;
    assert(tokens <= (size_t)p->text.limits.longest);
    bool fits = ft_text_fits(&p->text.values, &p->text.limits, (int64_t)b->rows + 1,
                             (int64_t)(b->texts.tokens + tokens), p->text.limits.longest);
    return fits ? b->texts.ids + ft_batch_add_text(&p->part, tokens) : NULL;
}

/* ---- a batch */

enum ft_status ft_prefix_batch_init(const struct ft_frontier *frontier, size_t rows_max, size_t tokens_max,
                                    struct ft_batch *batch, struct ft_err *err)
{
    struct ft_batch_input inputs[FT_BATCH_INPUTS];
    memset(inputs, 0, sizeof inputs);
    assert(frontier->n <= FT_BATCH_INPUTS);
    for (int i = 0; i < frontier->n; i++) {
        inputs[i].name = ft_graph_name(frontier->suffix, ft_graph_input_at(frontier->suffix, i));
        inputs[i].row_elements = frontier->elements[i];
        inputs[i].of_tokens = frontier->of_tokens[i];
    }
    return ft_batch_init(batch, inputs, frontier->n, rows_max, frontier->token_elements > 0 ? tokens_max : 0,
                         err);
}

/* Row `row` of a batch begins, of a text with so many tokens. */
static void begin_row(const struct ft_frontier *f, struct ft_batch *batch, size_t row, size_t tokens,
                      int64_t span[2])
{
    span[0] = f->token_elements > 0 ? (int64_t)ft_batch_add_text(batch, tokens) : 0;
    span[1] = (int64_t)tokens;
    batch->rows = row + 1;
}

/* Texts first, first + 1, ... as many as one run takes. */
static enum ft_status do_texts(struct ft_prefix *p, const struct ft_batch *from, size_t first,
                               struct ft_batch *to, struct ft_err *err)
{
    const int64_t *spans = from->texts.spans;
    int64_t *ids = NULL;
    ft_batch_clear_texts(&p->part);
    for (size_t i = first; i < from->rows; i++) {
        size_t tokens = (size_t)spans[2 * i + 1];
        ids = room_for(p, tokens);
        if (ids == NULL) {
            break;
        }
        memcpy(ids, from->texts.ids + spans[2 * i], tokens * sizeof *ids);
    }
    FT_RETURN_IF_FAILED(run_part(p, err));
    for (size_t r = 0; r < p->part.rows; r++) {
        const int64_t *span = p->part.texts.spans + 2 * r;
        int64_t there[2];
        begin_row(p->frontier, to, first + r, (size_t)span[1], there);
        round_item(p, r, span, p->kept);
        spread(p->frontier, p->kept, to, first + r, there);
    }
    return FT_OK;
}

static enum ft_status do_rows(struct ft_prefix *p, const struct ft_batch *from, size_t first,
                              struct ft_batch *to, struct ft_err *err)
{
    static const int64_t none[2];
    size_t left = from->rows - first;
    size_t count = left < FT_PREFIX_ROWS ? left : FT_PREFIX_ROWS;
    FT_RETURN_IF_FAILED(run_rows(p, from->input[0].data + first * p->input_elements, count, err));
    for (size_t r = 0; r < count; r++) {
        round_item(p, r, none, p->kept);
        spread(p->frontier, p->kept, to, first + r, none);
    }
    to->rows = first + count;
    return FT_OK;
}

enum ft_status ft_prefix_batch(struct ft_prefix *p, const struct ft_batch *from, struct ft_batch *to,
                               struct ft_err *err)
{
    assert(from->rows <= to->rows_max);
    ft_batch_clear_texts(to);
    while (to->rows < from->rows) {
        FT_RETURN_IF_FAILED(p->is_text ? do_texts(p, from, to->rows, to, err)
                                       : do_rows(p, from, to->rows, to, err));
    }
    memcpy(to->labels, from->labels, from->rows * sizeof *to->labels);
    memcpy(to->items, from->items, from->rows * sizeof *to->items);
    return FT_OK;
}

/* ---- the cache */

struct ft_prefix_cache {
    const struct ft_frontier *frontier;
    size_t *tokens; /* (count + 1) tokens of all items before one; NULL where it holds none */
    uint16_t *data; /* item by item */
    size_t bytes;
    bool is_file;
};

static uint16_t *item_at(const struct ft_prefix_cache *c, size_t item)
{
    size_t tokens = c->tokens != NULL ? c->tokens[item] : 0;
    return c->data + item * c->frontier->row_elements + tokens * c->frontier->token_elements;
}

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

static enum ft_status count_tokens(struct ft_prefix_cache *c, const struct ft_texts *texts,
                                   struct ft_err *err)
{
    size_t count = texts->source.count;
    FT_RETURN_IF_FAILED(ft_new(count + 1, sizeof *c->tokens, &c->tokens, err));
    for (size_t i = 0; i < count; i++) {
        c->tokens[i + 1] = c->tokens[i] + texts->lengths[i];
    }
    return FT_OK;
}

static enum ft_status make_room(struct ft_prefix_cache *c, const struct ft_prefix_fill *fill,
                                struct ft_err *err)
{
    const struct ft_frontier *f = c->frontier;
    size_t count = fill->rows->count;
    size_t of_tokens = 0;
    if (f->token_elements > 0) {
        FT_RETURN_IF_FAILED(count_tokens(c, &fill->rows->texts, err));
    }
    size_t tokens = c->tokens != NULL ? c->tokens[count] : 0;
    if (!ft_mul_size(f->row_elements * sizeof *c->data, count, &c->bytes) ||
        !ft_mul_size(f->token_elements * sizeof *c->data, tokens, &of_tokens) ||
        c->bytes > SIZE_MAX - of_tokens) {
        return FT_FAIL(err, LIMIT, "what the frozen layers make of %zu documents does not fit any memory",
                       count);
    }
    c->bytes += of_tokens;
    return c->bytes <= fill->memory_max ? ft_new(c->bytes, 1, &c->data, err) : map_file(c, fill->dir, err);
}

/* Items i, i + 1, ... to the end of a part or of the rows; *done is how many. */
static enum ft_status fill_texts(struct ft_prefix *p, const struct ft_prefix_fill *fill, size_t i,
                                 struct ft_prefix_cache *c, size_t *done, struct ft_err *err)
{
    const struct ft_rows *rows = fill->rows;
    ft_batch_clear_texts(&p->part);
    for (size_t k = i; k < rows->count; k++) {
        int64_t *ids = room_for(p, rows->texts.lengths[k]);
        if (ids == NULL) {
            break;
        }
        if (ft_texts_get(&rows->texts, k, ids, err) != FT_OK) {
            return ft_rows_wrap(rows, k, err);
        }
    }
    *done = p->part.rows;
    FT_RETURN_IF_FAILED(run_part(p, err));
    for (size_t r = 0; r < *done; r++) {
        round_item(p, r, p->part.texts.spans + 2 * r, item_at(c, i + r));
    }
    return FT_OK;
}

/* The same of other rows, prepared on the pool. */
struct preparing {
    struct ft_pool *pool;
    float *batch; /* (FT_PREFIX_ROWS, rows->elements) */
};

static enum ft_status fill_rows(struct ft_prefix *p, const struct ft_prefix_fill *fill, size_t i,
                                const struct preparing *with, struct ft_prefix_cache *c, size_t *done,
                                struct ft_err *err)
{
    static const int64_t none[2];
    size_t left = fill->rows->count - i;
    *done = left < FT_PREFIX_ROWS ? left : FT_PREFIX_ROWS;
    FT_RETURN_IF_FAILED(ft_rows_fill(fill->rows, i, *done, with->batch, with->pool, err));
    FT_RETURN_IF_FAILED(run_rows(p, with->batch, *done, err));
    for (size_t r = 0; r < *done; r++) {
        round_item(p, r, none, item_at(c, i + r));
    }
    return FT_OK;
}

static enum ft_status compute_all(struct ft_prefix *p, const struct ft_prefix_fill *fill,
                                  struct ft_prefix_cache *c, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_rows *rows = fill->rows;
    struct preparing with = {0};
    size_t done = 0;
    if (!p->is_text) {
        size_t threads = fill->threads > 0 ? (size_t)fill->threads : ft_thread_cpus();
        FT_TRY(ft_new(FT_PREFIX_ROWS, rows->elements * sizeof *with.batch, &with.batch, err));
        FT_TRY(ft_pool_new(threads, &with.pool, err));
    }
    for (size_t i = 0; i < rows->count; i += done) {
        if (ft_cancelled(fill->cancel)) {
            st = FT_FAIL(err, CANCELLED, "cancelled while the frozen layers were computed");
            goto done;
        }
        FT_TRY(p->is_text ? fill_texts(p, fill, i, c, &done, err)
                          : fill_rows(p, fill, i, &with, c, &done, err));
        if (fill->progress != NULL) {
            fill->progress(fill->arg, i + done, rows->count);
        }
    }
done:
    ft_pool_free(with.pool);
    ft_free(with.batch);
    return st;
}

enum ft_status ft_prefix_fill(struct ft_prefix *prefix, const struct ft_prefix_fill *fill,
                              struct ft_prefix_cache **cache, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_prefix_cache *c = NULL;
    *cache = NULL;
    assert(fill->rows->is_text == prefix->is_text && fill->rows->elements == prefix->input_elements);
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
    ft_free(c->tokens);
    ft_free(c);
}

void ft_prefix_cache_batch(const struct ft_prefix_cache *c, struct ft_batch *batch)
{
    size_t rows = batch->rows;
    ft_batch_clear_texts(batch);
    for (size_t r = 0; r < rows; r++) {
        size_t item = batch->items[r];
        size_t tokens = c->tokens != NULL ? c->tokens[item + 1] - c->tokens[item] : 0;
        int64_t span[2];
        begin_row(c->frontier, batch, r, tokens, span);
        spread(c->frontier, item_at(c, item), batch, r, span);
    }
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
