#include "kernels/cpu/packs.h"

#include <string.h>

#include "executor/base/alloc.h"
#include "kernels/cpu/winograd.h"
#include "kernels/int8.h"

struct ft_cpu_pack {
    struct ft_cpu_pack *next; /* in cpu->packs */
    struct ft_cpu_pack_shape shape;
    const void *data; /* NULL: reserved */
    uint64_t version;
    int users;
    char *panels;
};

/* ---- packing */

enum { PIECE = 8, AHEAD = 8 }; /* floats that product_cols is a multiple of; rows to be asked for early */

/* A call for so little would cost more than it copies. */
static inline void copy_whole(int64_t width, const float *from, float *to)
{
    for (int64_t j = 0; j < width; j += PIECE) {
        memcpy(to + j, from + j, PIECE * sizeof *to);
    }
}

static void pack_rows(const struct ft_cpu_pack_part *p, int64_t cols, int64_t width, const float *b,
                      float *to)
{
    for (int64_t k = 0; k < p->length; k++) {
        const float *row = b + (p->from + k) * cols;
        for (int64_t i = 0; i < p->count; i++) {
            int64_t col = (p->first + i) * width;
            int64_t have = ft_smaller(width, cols - col);
            __builtin_prefetch(row + col + AHEAD * cols);
            float *at = to + (i * p->length + k) * width;
            if (have == width) {
                copy_whole(width, row + col, at);
                continue;
            }
            memcpy(at, row + col, (size_t)have * sizeof *at);
            memset(at + have, 0, (size_t)(width - have) * sizeof *at);
        }
    }
}

void ft_cpu_pack_part(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape, const float *b,
                      const struct ft_cpu_pack_part *part, float *to)
{
    int64_t width = cpu->vec->product_cols;
    if (!shape->trans) {
        pack_rows(part, shape->cols, width, b, to);
        return;
    }
    int64_t col = part->first * width;
    int64_t cols = ft_smaller(part->count * width, shape->cols - col);
    cpu->vec->transpose_panels(b + col * shape->depth + part->from, shape->depth, cols, part->length, to);
}

/* ---- packing in int8 */

/* Rows from .. from + length - 1 of column `col` of b. */
static void take_column(const struct ft_cpu_pack *pack, int64_t col, int64_t from, int64_t length, float *to)
{
    const struct ft_cpu_pack_shape *s = &pack->shape;
    const float *b = pack->data;
    if (s->trans) {
        memcpy(to, b + col * s->depth + from, (size_t)length * sizeof *to);
        return;
    }
    for (int64_t k = 0; k < length; k++) {
        to[k] = b[(from + k) * s->cols + col];
    }
}

/* Column `at` of a panel; returns its scale. `bytes`: its first one, two neighbours of the depth together. */
static float quantise_column(const struct ft_cpu *cpu, const struct ft_cpu_pack *pack, int64_t col,
                             int8_t *bytes)
{
    enum { BLOCK = 256 };
    float x[BLOCK];
    int16_t q[BLOCK];
    float most[2] = {0, 0}; /* so far, of a block */
    int64_t depth = pack->shape.depth;
    for (int64_t k = 0; k < depth; k += BLOCK) {
        int64_t length = ft_smaller(BLOCK, depth - k);
        take_column(pack, col, k, length, x);
        most[1] = cpu->vec->most(x, (size_t)length);
        most[0] = cpu->vec->most(most, 2);
    }
    const struct ft_int8_line line = ft_int8_line_of(most[0], FT_INT8_LEVELS);
    for (int64_t k = 0; k < depth; k += BLOCK) {
        int64_t length = ft_smaller(BLOCK, depth - k);
        take_column(pack, col, k, length, x);
        cpu->vec->quantise(x, q, (size_t)length, line.inverse);
        for (int64_t i = 0; i < length; i++) {
            bytes[(k + i) / 2 * 2 * cpu->vec->product_cols + (k + i) % 2] = (int8_t)q[i];
        }
    }
    return line.scale;
}

static void quantise_panel(const struct ft_cpu *cpu, const struct ft_cpu_pack *pack, int64_t panel, char *to)
{
    int64_t width = cpu->vec->product_cols;
    float *scales = (float *)(void *)to;
    int8_t *bytes = (int8_t *)(scales + width);
    memset(to, 0, (size_t)ft_cpu_pack_bytes(cpu, &pack->shape));
    for (int64_t i = 0; i < ft_smaller(width, pack->shape.cols - panel * width); i++) {
        scales[i] = quantise_column(cpu, pack, panel * width + i, bytes + 2 * i);
    }
}

struct job {
    const struct ft_cpu *cpu;
    const struct ft_cpu_pack *pack;
};

static void pack_panels(void *context, int thread, int64_t begin, int64_t end)
{
    const struct job *job = context;
    const struct ft_cpu_pack *pack = job->pack;
    const struct ft_cpu_pack_part part = {.length = pack->shape.depth, .first = begin, .count = end - begin};
    int64_t bytes = ft_cpu_pack_bytes(job->cpu, &pack->shape);
    (void)thread;
    if (pack->shape.form == FT_CPU_PACK_FLOATS) {
        ft_cpu_pack_part(job->cpu, &pack->shape, pack->data, &part,
                         (float *)(void *)(pack->panels + begin * bytes));
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        char *to = pack->panels + i * bytes;
        if (pack->shape.form == FT_CPU_PACK_INT8) {
            quantise_panel(job->cpu, pack, i, to);
        } else {
            ft_cpu_winograd_panel(job->cpu, &pack->shape, pack->data, i, (float *)(void *)to);
        }
    }
}

/* ---- finding */

static bool is_for(const struct ft_cpu_pack *pack, const struct ft_cpu_pack_shape *shape,
                   const struct ft_arg *b)
{
    return pack->data == b->data && pack->shape.depth == shape->depth && pack->shape.cols == shape->cols &&
           pack->shape.trans == shape->trans && pack->shape.form == shape->form;
}

static int64_t panels_of(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape)
{
    return (shape->cols + cpu->vec->product_cols - 1) / cpu->vec->product_cols;
}

int64_t ft_cpu_pack_bytes(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape)
{
    int64_t width = cpu->vec->product_cols;
    int64_t floats = shape->depth * width * (int64_t)sizeof(float);
    switch (shape->form) {
    case FT_CPU_PACK_INT8:
        return width * (int64_t)sizeof(float) + ft_parts_of(shape->depth, 2) * 2 * width;
    case FT_CPU_PACK_WINOGRAD:
        return FT_VEC_WINO_SIDE * FT_VEC_WINO_SIDE * floats;
    case FT_CPU_PACK_FLOATS:
        break;
    }
    return floats;
}

enum ft_status ft_cpu_pack_reserve(struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                                   struct ft_cpu_pack **pack, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_cpu_pack *p = NULL;
    size_t bytes = (size_t)(panels_of(cpu, shape) * ft_cpu_pack_bytes(cpu, shape));
    FT_TRY(ft_new(1, sizeof *p, &p, err));
    p->panels = ft_alloc(bytes); /* no zeros: what is never packed takes no memory */
    if (p->panels == NULL) {
        FT_TRY(FT_FAIL(err, NOMEM, "no memory for %zu bytes of packed weights", bytes));
    }
    p->shape = *shape;
    p->users = 1;
    p->next = cpu->packs;
    cpu->packs = p;
    *pack = p;
    p = NULL;
done:
    ft_free(p);
    return st;
}

static struct ft_cpu_pack *found(const struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                                 const struct ft_arg *b)
{
    struct ft_cpu_pack *p = cpu->packs;
    while (p != NULL && !is_for(p, shape, b)) {
        p = p->next;
    }
    return p;
}

/* *pack is b's: another kernel's, or what was reserved, or made. */
static enum ft_status find(struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape, const struct ft_arg *b,
                           struct ft_cpu_pack **pack, struct ft_err *err)
{
    struct ft_cpu_pack *p = found(cpu, shape, b);
    if (p != NULL) {
        p->users++;
        ft_cpu_pack_drop(cpu, pack);
        *pack = p;
        return FT_OK;
    }
    if (*pack == NULL || (*pack)->users > 1) {
        ft_cpu_pack_drop(cpu, pack);
        FT_RETURN_IF_FAILED(ft_cpu_pack_reserve(cpu, shape, pack, err));
    }
    (*pack)->data = b->data;
    (*pack)->version = 0;
    return FT_OK;
}

enum ft_status ft_cpu_pack_panels(struct ft_cpu *cpu, const struct ft_cpu_pack_shape *shape,
                                  const struct ft_arg *b, struct ft_cpu_pack **pack, const void **panels,
                                  struct ft_err *err)
{
    if (*pack == NULL || !is_for(*pack, shape, b)) {
        FT_RETURN_IF_FAILED(find(cpu, shape, b, pack, err));
    }
    struct ft_cpu_pack *p = *pack;
    if (p->version != b->version || b->version == 0) {
        struct job job = {cpu, p};
        ft_cpu_items(cpu, panels_of(cpu, shape), ft_cpu_pack_bytes(cpu, shape) / (int64_t)sizeof(float),
                     pack_panels, &job);
        p->version = b->version;
    }
    *panels = p->panels;
    return FT_OK;
}

void ft_cpu_pack_drop(struct ft_cpu *cpu, struct ft_cpu_pack **pack)
{
    struct ft_cpu_pack *p = *pack;
    *pack = NULL;
    if (p == NULL || --p->users > 0) {
        return;
    }
    struct ft_cpu_pack **at = &cpu->packs;
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    ft_free(p->panels);
    ft_free(p);
}
