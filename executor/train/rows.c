#include "executor/train/rows.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"

size_t ft_rows_keep_max(void)
{
    return ft_memory_limit() / 4;
}

enum ft_status ft_rows_wrap(const struct ft_rows *rows, size_t i, struct ft_err *err)
{
    struct ft_bytes id = ft_dataset_id(rows->dataset, i);
    if (id.size == 0) {
        return ft_err_wrap(err, "%s", ft_dataset_where(rows->dataset, i));
    }
    return ft_err_wrap(err, "%s: document \"%.*s\"", ft_dataset_where(rows->dataset, i), ft_bytes_shown(id),
                       (const char *)id.data);
}

/* To a row, or with `pixels` to what comes before it. */
static enum ft_status prepare(const struct ft_rows *rows, size_t i, float *row, struct ft_pixels *pixels,
                              struct ft_err *err)
{
    struct ft_buf own = {0};
    struct ft_content content;
    enum ft_status st = ft_dataset_content(rows->dataset, i, &own, &content, err);
    if (st == FT_OK) {
        st = pixels != NULL ? ft_prep_pixels(&rows->prep, &content, pixels, err)
                            : ft_prep_item(&rows->prep, &content, row, err);
    }
    ft_buf_release(&own);
    return st == FT_OK ? st : ft_rows_wrap(rows, i, err);
}

/* ---- many at once */

struct fill {
    const struct ft_rows *rows;
    size_t first;
    float *out;
    struct ft_pixels *pixels; /* instead of `out` */
    atomic_size_t failed;     /* smallest failing position so far, or SIZE_MAX */
};

static void fill_one(void *arg, size_t i)
{
    struct fill *f = arg;
    struct ft_err err = {0};
    if (atomic_load(&f->failed) < i) {
        return;
    }
    float *row = f->pixels == NULL ? f->out + i * f->rows->elements : NULL;
    if (prepare(f->rows, f->first + i, row, f->pixels == NULL ? NULL : f->pixels + i, &err) == FT_OK) {
        return;
    }
    size_t smallest = atomic_load(&f->failed);
    while (i < smallest && !atomic_compare_exchange_weak(&f->failed, &smallest, i)) {
    }
}

static enum ft_status fill(struct fill *f, size_t count, struct ft_pool *pool, struct ft_err *err)
{
    atomic_init(&f->failed, SIZE_MAX);
    if (pool != NULL) {
        ft_pool_run(pool, count, fill_one, f);
    } else {
        for (size_t i = 0; i < count; i++) {
            fill_one(f, i);
        }
    }
    /* Again from there, for the story (the pool's threads have no room for one each). Should it succeed now,
     * as after a moment without memory, the rows behind it were passed over and are prepared here. */
    for (size_t i = atomic_load(&f->failed); i < count; i++) {
        if (f->pixels != NULL) {
            ft_pixels_release(&f->pixels[i]);
            FT_RETURN_IF_FAILED(prepare(f->rows, f->first + i, NULL, &f->pixels[i], err));
        } else {
            float *row = f->out + i * f->rows->elements;
            FT_RETURN_IF_FAILED(prepare(f->rows, f->first + i, row, NULL, err));
        }
    }
    return FT_OK;
}

enum ft_status ft_rows_fill(const struct ft_rows *rows, size_t first, size_t count, float *out,
                            struct ft_pool *pool, struct ft_err *err)
{
    struct fill f = {.rows = rows, .first = first, .out = out};
    if (rows->kept != NULL) {
        memcpy(out, rows->kept + first * rows->elements, count * rows->elements * sizeof *out);
        return FT_OK;
    }
    return fill(&f, count, pool, err);
}

/* ---- what is kept */

enum { CHUNK = 256 }; /* documents between looks at `cancel` */

static enum ft_status go_on(const struct ft_cancel *cancel, struct ft_err *err)
{
    return ft_cancelled(cancel) ? FT_FAIL(err, CANCELLED, "cancelled while documents were prepared") : FT_OK;
}

static enum ft_status keep_all(struct ft_rows *rows, int threads, const struct ft_cancel *cancel,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    float *kept = NULL;
    struct ft_pool *pool = NULL;
    FT_TRY(ft_new(rows->count, rows->elements * sizeof *kept, &kept, err));
    FT_TRY(ft_pool_new(threads > 0 ? (size_t)threads : ft_thread_cpus(), &pool, err));
    for (size_t i = 0; i < rows->count; i += CHUNK) {
        size_t count = rows->count - i < CHUNK ? rows->count - i : CHUNK;
        FT_TRY(go_on(cancel, err));
        FT_TRY(ft_rows_fill(rows, i, count, kept + i * rows->elements, pool, err));
    }
    rows->kept = kept;
    kept = NULL;
done:
    ft_pool_free(pool);
    ft_free(kept);
    return st;
}

/* As many as fit, from the first on. */
static enum ft_status keep_pixels(struct ft_rows *rows, size_t keep_max, const struct ft_cancel *cancel,
                                  struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_pool *pool = NULL;
    bool full = false;
    FT_TRY(ft_new(rows->count, sizeof *rows->pixels, &rows->pixels, err));
    FT_TRY(ft_pool_new(rows->threads > 0 ? (size_t)rows->threads : ft_thread_cpus(), &pool, err));
    for (size_t i = 0; i < rows->count && !full; i += CHUNK) {
        struct fill f = {.rows = rows, .first = i, .pixels = rows->pixels + i};
        size_t count = rows->count - i < CHUNK ? rows->count - i : CHUNK;
        FT_TRY(go_on(cancel, err));
        FT_TRY(fill(&f, count, pool, err));
        for (size_t k = i; k < i + count; k++) {
            size_t bytes = ft_pixels_bytes(&rows->pixels[k]);
            full = full || bytes > keep_max - rows->pixel_bytes;
            if (full) {
                ft_pixels_release(&rows->pixels[k]);
            } else {
                rows->pixel_bytes += bytes;
            }
        }
    }
done:
    ft_pool_free(pool);
    return st;
}

enum ft_status ft_rows_init_augmented(struct ft_rows *rows, const struct ft_dataset *dataset,
                                      const struct ft_rows_augmented *how, const struct ft_cancel *cancel,
                                      struct ft_err *err)
{
    assert(how->augment->on);
    *rows = (struct ft_rows){.dataset = dataset,
                             .prep = *how->prep,
                             .count = ft_dataset_count(dataset),
                             .elements = ft_prep_elements(how->prep),
                             .threads = how->threads,
                             .augment = *how->augment,
                             .seed = how->seed};
    enum ft_status st = how->prep->kind == FT_PREP_IMAGE
                            ? keep_pixels(rows, how->keep_max, cancel, err)
                            : FT_FAIL(err, INVALID, "augment is for images; the model takes %s",
                                      how->prep->kind == FT_PREP_TEXT ? "texts" : "vectors");
    if (st != FT_OK) {
        ft_rows_release(rows);
    }
    return st;
}

static enum ft_status content_of(const void *arg, size_t i, struct ft_buf *own, struct ft_content *content,
                                 struct ft_err *err)
{
    return ft_dataset_content(arg, i, own, content, err);
}

static enum ft_status init_texts(struct ft_rows *rows, size_t keep_max, const struct ft_cancel *cancel,
                                 struct ft_err *err)
{
    const struct ft_texts_source source = {content_of, rows->dataset, rows->count, rows->threads, keep_max};
    size_t failed = 0;
    rows->is_text = true;
    enum ft_status st = ft_texts_init(&rows->texts, &source, &rows->prep, cancel, &failed, err);
    return st == FT_OK || failed == rows->count ? st : ft_rows_wrap(rows, failed, err);
}

enum ft_status ft_rows_init(struct ft_rows *rows, const struct ft_dataset *dataset,
                            const struct ft_prep *prep, int threads, size_t keep_max,
                            const struct ft_cancel *cancel, struct ft_err *err)
{
    size_t bytes = 0;
    memset(rows, 0, sizeof *rows);
    rows->dataset = dataset;
    rows->prep = *prep;
    rows->count = ft_dataset_count(dataset);
    rows->elements = ft_prep_elements(prep);
    rows->threads = threads;
    if (prep->kind == FT_PREP_TEXT) {
        return init_texts(rows, keep_max, cancel, err);
    }
    if (!ft_mul_size(rows->elements * sizeof(float), rows->count, &bytes)) {
        return FT_FAIL(err, LIMIT, "%zu rows of %zu numbers do not fit any memory", rows->count,
                       rows->elements);
    }
    return bytes <= keep_max ? keep_all(rows, threads, cancel, err) : FT_OK;
}

void ft_rows_release(struct ft_rows *rows)
{
    ft_texts_release(&rows->texts);
    ft_free(rows->kept);
    for (size_t i = 0; rows->pixels != NULL && i < rows->count; i++) {
        ft_pixels_release(&rows->pixels[i]);
    }
    ft_free(rows->pixels);
    memset(rows, 0, sizeof *rows);
}

enum ft_status ft_rows_get(const struct ft_rows *rows, size_t i, float *row, struct ft_err *err)
{
    if (rows->kept != NULL) {
        memcpy(row, rows->kept + i * rows->elements, rows->elements * sizeof *row);
        return FT_OK;
    }
    return prepare(rows, i, row, NULL, err);
}

size_t ft_rows_bytes(const struct ft_rows *rows)
{
    if (rows->is_text) {
        return ft_texts_bytes(&rows->texts);
    }
    return rows->kept != NULL ? rows->count * rows->elements * sizeof *rows->kept : rows->pixel_bytes;
}

enum ft_status ft_rows_draw(const struct ft_rows *rows, size_t i, uint64_t step, uint64_t place, float *row,
                            struct ft_err *err)
{
    struct ft_augment_draw draw;
    struct ft_pixels own = {0};
    const struct ft_pixels *pixels = &own;
    if (!rows->augment.on) {
        return ft_rows_get(rows, i, row, err);
    }
    if (rows->pixels[i].data != NULL) {
        pixels = &rows->pixels[i];
    } else {
        FT_RETURN_IF_FAILED(prepare(rows, i, NULL, &own, err));
    }
    ft_augment_draw(&rows->augment, &rows->prep, pixels, ft_rand_at(rows->seed, FT_RAND_AUGMENT, step), place,
                    &draw);
    enum ft_status st = ft_augment_row(&draw, &rows->prep, pixels, row, err);
    ft_pixels_release(&own);
    return st == FT_OK ? st : ft_rows_wrap(rows, i, err);
}

/* ---- batches */

enum ft_status ft_rows_batch_init(const struct ft_rows *rows, size_t count, size_t text_tokens,
                                  struct ft_batch *batch, struct ft_err *err)
{
    const struct ft_batch_input input = {.name = "input", .row_elements = rows->elements};
    return rows->is_text ? ft_batch_init_texts(batch, count, text_tokens, err)
                         : ft_batch_init(batch, &input, 1, count, 0, err);
}

/* One batch on its way; `failed` is the smallest place that did, or SIZE_MAX. */
struct drawing {
    const struct ft_rows *rows;
    struct ft_batch *batch;
    uint64_t step;
    atomic_size_t failed;
};

static enum ft_status draw_row(const struct drawing *d, size_t i, struct ft_err *err)
{
    struct ft_batch *b = d->batch;
    uint32_t item = b->items[i];
    if (d->rows->is_text) {
        int64_t *ids = b->texts.ids + b->texts.spans[2 * i];
        enum ft_status st = ft_texts_get(&d->rows->texts, item, ids, err);
        return st == FT_OK ? st : ft_rows_wrap(d->rows, item, err);
    }
    float *row = b->input[0].data + i * b->input[0].row_elements;
    return d->step == FT_ROWS_AS_THEY_ARE ? ft_rows_get(d->rows, item, row, err)
                                          : ft_rows_draw(d->rows, item, d->step, i, row, err);
}

static void draw_one(void *arg, size_t i)
{
    struct drawing *d = arg;
    struct ft_err err = {0};
    size_t failed = atomic_load(&d->failed);
    if (failed < i || draw_row(d, i, &err) == FT_OK) {
        return;
    }
    while (i < failed && !atomic_compare_exchange_weak(&d->failed, &failed, i)) {
    }
}

enum ft_status ft_rows_batch(const struct ft_rows *rows, uint64_t step, struct ft_batch *batch,
                             struct ft_pool *pool, struct ft_err *err)
{
    struct drawing d = {.rows = rows, .batch = batch, .step = step};
    size_t count = batch->rows_max;
    atomic_init(&d.failed, SIZE_MAX);
    ft_batch_clear_texts(batch);
    for (size_t i = 0; rows->is_text && i < count; i++) {
        (void)ft_batch_add_text(batch, rows->texts.lengths[batch->items[i]]);
    }
    batch->rows = count;
    if (pool != NULL) {
        ft_pool_run(pool, count, draw_one, &d);
    } else {
        for (size_t i = 0; i < count; i++) {
            draw_one(&d, i);
        }
    }
    /* Again from there, for the story: the pool's threads have no room for one each. */
    for (size_t i = atomic_load(&d.failed); i < count; i++) {
        FT_RETURN_IF_FAILED(draw_row(&d, i, err));
    }
    return FT_OK;
}
