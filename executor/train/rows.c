#include "executor/train/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/base/alloc.h"

/* The machine's memory, or the control group's if that is less. */
size_t ft_rows_keep_max(void)
{
    size_t bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "r");
    if (file != NULL) {
        char text[32] = "";
        char *end = text;
        if (fgets(text, sizeof text, file) != NULL) {
            unsigned long long group = strtoull(text, &end, 10);
            bytes = end != text && group > 0 && group < bytes ? (size_t)group : bytes;
        }
        (void)fclose(file);
    }
    return bytes / 4;
}

static enum ft_status prepare(const struct ft_rows *rows, size_t i, float *row, struct ft_err *err)
{
    struct ft_buf own = {0};
    struct ft_content content;
    enum ft_status st = ft_dataset_content(rows->dataset, i, &own, &content, err);
    if (st == FT_OK) {
        st = ft_prep_item(&rows->prep, &content, row, err);
    }
    ft_buf_release(&own);
    if (st == FT_OK) {
        return FT_OK;
    }
    struct ft_bytes id = ft_dataset_doc(rows->dataset, i)->id;
    if (id.size == 0) {
        return ft_err_wrap(err, "%s", ft_dataset_where(rows->dataset, i));
    }
    return ft_err_wrap(err, "%s: document \"%.*s\"", ft_dataset_where(rows->dataset, i), ft_bytes_shown(id),
                       (const char *)id.data);
}

/* ---- many at once */

struct fill {
    const struct ft_rows *rows;
    size_t first;
    float *out;
    atomic_size_t failed; /* smallest failing position so far, or SIZE_MAX */
};

static void fill_one(void *arg, size_t i)
{
    struct fill *f = arg;
    struct ft_err err = {0};
    if (atomic_load(&f->failed) < i) {
        return;
    }
    if (prepare(f->rows, f->first + i, f->out + i * f->rows->elements, &err) == FT_OK) {
        return;
    }
    size_t smallest = atomic_load(&f->failed);
    while (i < smallest && !atomic_compare_exchange_weak(&f->failed, &smallest, i)) {
    }
}

enum ft_status ft_rows_fill(const struct ft_rows *rows, size_t first, size_t count, float *out,
                            struct ft_pool *pool, struct ft_err *err)
{
    struct fill f = {.rows = rows, .first = first, .out = out};
    if (rows->kept != NULL) {
        memcpy(out, rows->kept + first * rows->elements, count * rows->elements * sizeof *out);
        return FT_OK;
    }
    atomic_init(&f.failed, SIZE_MAX);
    if (pool != NULL) {
        ft_pool_run(pool, count, fill_one, &f);
    } else {
        for (size_t i = 0; i < count; i++) {
            fill_one(&f, i);
        }
    }
    /* Again from there, for the story (the pool's threads have no room for one each). Should it succeed now,
     * as after a moment without memory, the rows behind it were passed over and are prepared here. */
    for (size_t i = atomic_load(&f.failed); i < count; i++) {
        FT_RETURN_IF_FAILED(prepare(rows, first + i, out + i * rows->elements, err));
    }
    return FT_OK;
}

static enum ft_status keep_all(struct ft_rows *rows, int threads, const struct ft_cancel *cancel,
                               struct ft_err *err)
{
    enum { CHUNK = 256 }; /* between looks at `cancel` */
    enum ft_status st = FT_OK;
    float *kept = NULL;
    struct ft_pool *pool = NULL;
    FT_TRY(ft_new(rows->count, rows->elements * sizeof *kept, &kept, err));
    FT_TRY(ft_pool_new(threads > 0 ? (size_t)threads : ft_thread_cpus(), &pool, err));
    for (size_t i = 0; i < rows->count; i += CHUNK) {
        size_t count = rows->count - i < CHUNK ? rows->count - i : CHUNK;
        if (ft_cancelled(cancel)) {
            st = FT_FAIL(err, CANCELLED, "cancelled while documents were prepared");
            goto done;
        }
        FT_TRY(ft_rows_fill(rows, i, count, kept + i * rows->elements, pool, err));
    }
    rows->kept = kept;
    kept = NULL;
done:
    ft_pool_free(pool);
    ft_free(kept);
    return st;
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
    if (!ft_mul_size(rows->elements * sizeof(float), rows->count, &bytes)) {
        return FT_FAIL(err, LIMIT, "%zu rows of %zu numbers do not fit any memory", rows->count,
                       rows->elements);
    }
    return bytes <= keep_max ? keep_all(rows, threads, cancel, err) : FT_OK;
}

void ft_rows_release(struct ft_rows *rows)
{
    ft_free(rows->kept);
    memset(rows, 0, sizeof *rows);
}

enum ft_status ft_rows_get(const struct ft_rows *rows, size_t i, float *row, struct ft_err *err)
{
    if (rows->kept != NULL) {
        memcpy(row, rows->kept + i * rows->elements, rows->elements * sizeof *row);
        return FT_OK;
    }
    return prepare(rows, i, row, err);
}
