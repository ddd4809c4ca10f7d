#include <math.h>
#include <string.h>

#include "executor/base/rand.h"
#include "executor/graph/pack_internal.h"
#include "executor/graph/plan.h"

/*
 * What a mask is made of differs with every exporter and its version; what it is does not. So the part of the
 * graph that makes it is computed for some batches and looked at: on `cpu`, as buckets of distances are cut
 * from logarithms where float decides. It must read the mask alone: all other inputs are drawn twice, and the
 * result must not move; parameters have no part in it.
 */

enum { MOST = 1 << 22 }; /* elements of one result */

struct batch {
    int64_t rows, places;
    const int64_t *mask; /* (rows, places) */
};

struct result {
    double *data;
    struct ft_type type;
};

/* ---- computing */

static enum ft_status fill(struct ft_plan *plan, const struct ft_graph *g, ft_value v,
                           const struct batch *batch, uint64_t seed, void **memory, struct ft_err *err)
{
    size_t bytes = ft_plan_bytes(plan, v);
    struct ft_rand r = ft_rand_at(seed, FT_RAND_TEST, (uint64_t)v);
    int64_t *ints = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, bytes, memory, err));
    ints = *memory;
    bool is_mask = strcmp(ft_graph_name(g, v), FT_PACK_MASK) == 0;
    for (size_t i = 0; ft_graph_type(g, v)->dtype == FT_I64 && i < bytes / sizeof *ints; i++) {
        ints[i] = is_mask ? batch->mask[i] : (int64_t)(ft_rand_u32(r, i) & 1);
    }
    return ft_plan_bind(plan, v, *memory, err);
}

/* What devices store: floats, doubles, int64 or bytes. */
static void widen(const void *from, enum ft_dtype dtype, int64_t count, double *to)
{
    for (int64_t i = 0; i < count; i++) {
        to[i] = dtype == FT_F32   ? (double)((const float *)from)[i]
                : dtype == FT_F64 ? ((const double *)from)[i]
                : dtype == FT_I64 ? (double)((const int64_t *)from)[i]
                                  : (double)((const uint8_t *)from)[i];
    }
}

static enum ft_status run(struct ft_device *device, const struct ft_graph *g, const struct batch *batch,
                          uint64_t seed, struct result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_plan *plan = NULL;
    void **memory = NULL;
    ft_value v = ft_graph_output_at(g, 0);
    struct ft_plan_spec spec = {.symbols = {batch->rows, batch->places}, .wanted = &v, .n_wanted = 1};
    FT_TRY(ft_plan_new(device, g, &spec, &plan, err));
    FT_TRY(ft_new((size_t)ft_graph_inputs(g) + 1, sizeof *memory, &memory, err));
    for (int i = 0; i < ft_graph_inputs(g); i++) {
        FT_TRY(fill(plan, g, ft_graph_input_at(g, i), batch, seed, &memory[i], err));
    }
    FT_TRY(ft_plan_run(plan, err));
    FT_TRY(ft_device_wait(device, err));
    enum ft_dtype dtype = result->type.dtype == FT_F32 ? ft_device_float(device) : result->type.dtype;
    widen(ft_plan_data(plan, v), dtype, ft_elements(&result->type), result->data);
done:
    for (int i = 0; memory != NULL && i < ft_graph_inputs(g); i++) {
        ft_free(memory[i]);
    }
    ft_free(memory);
    ft_plan_free(plan);
    return st;
}

/* The part of the graph that makes v; NULL if parameters have a part in it. */
static enum ft_status part_of(const struct ft_graph *g, ft_value v, struct ft_graph **part,
                              struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_graph_extract(g, &v, NULL, 1, part, err));
    if (ft_graph_params(*part) > 0) {
        ft_graph_free(*part);
        *part = NULL;
    }
    return FT_OK;
}

/* Twice, so that what other inputs hold shows. *told = false: it depends on them, is too large, or cannot be
 * computed. */
static enum ft_status compute(struct ft_device *device, const struct ft_graph *g, const struct batch *batch,
                              struct result *result, bool *told, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct result again = {0};
    const int64_t symbols[FT_MAX_SYMBOLS] = {batch->rows, batch->places};
    *told = false;
    if (!ft_type_bind(ft_graph_type(g, ft_graph_output_at(g, 0)), symbols, &result->type) ||
        !ft_type_is_known(&result->type) || ft_elements(&result->type) > MOST ||
        (result->type.dtype != FT_F32 && result->type.dtype != FT_I64 && result->type.dtype != FT_BOOL)) {
        return FT_OK;
    }
    size_t count = (size_t)ft_elements(&result->type);
    again.type = result->type;
    FT_TRY(ft_new(count, sizeof *result->data, &result->data, err));
    FT_TRY(ft_new(count, sizeof *again.data, &again.data, err));
    FT_TRY(run(device, g, batch, 1, result, err));
    FT_TRY(run(device, g, batch, 2, &again, err));
    *told = memcmp(result->data, again.data, count * sizeof *again.data) == 0;
done:
    ft_free(again.data);
    if (st == FT_INVALID || st == FT_UNSUPPORTED || st == FT_LIMIT) { /* then it is no mask */
        ft_err_clear(err);
        return FT_OK;
    }
    return st;
}

/* ---- looking */

/* Element (n, i, j) of something that is broadcast to (N, H, S, S), of every head. */
static double score_at(const struct result *r, int64_t n, int64_t i, int64_t j)
{
    int64_t at = 0;
    const int64_t place[4] = {n, 0, i, j};
    for (int k = 0; k < r->type.rank; k++) {
        int64_t extent = ft_extent(&r->type, k);
        at = at * extent + (extent == 1 ? 0 : place[4 - r->type.rank + k]);
    }
    return r->data[at];
}

/* As an addend 0 lets through and a very negative number does not; as a choice 1 and 0. */
static bool lets_through(const struct result *r, double x, bool *known)
{
    if (r->type.dtype == FT_BOOL) {
        return x != 0.0;
    }
    *known = *known && (x == 0.0 || x <= -1e4);
    return x == 0.0;
}

/* How far the token in the middle of a row of tokens only sees; 0 if as far as there are any. */
static int64_t window_of(const struct result *r, const struct batch *b)
{
    bool known = true;
    int64_t middle = b->places / 2;
    int64_t w = 0;
    while (middle + w + 1 < b->places && lets_through(r, score_at(r, 0, middle, middle + w + 1), &known)) {
        w++;
    }
    return middle + w + 1 < b->places ? w : 0;
}

static bool are_keys(const struct result *r, const struct batch *b, int64_t *window)
{
    int rank = r->type.rank;
    if (rank < 1 || rank > 4 ||
        (rank >= 3 && ft_extent(&r->type, rank - 3) != 1)) { /* of every head the same */
        return false;
    }
    bool good = true;
    if (b->rows == 1) {
        *window = window_of(r, b);
    }
    for (int64_t n = 0; good && n < b->rows; n++) {
        for (int64_t i = 0; good && i < b->places; i++) {
            for (int64_t j = 0; good && b->mask[n * b->places + i] != 0 && j < b->places; j++) {
                bool near = *window == 0 || (i - j <= *window && j - i <= *window);
                bool through = lets_through(r, score_at(r, n, i, j), &good);
                good = good && through == (near && b->mask[n * b->places + j] != 0);
            }
        }
    }
    return good;
}

/* (N, S, 1...), (1, S), (S) and so on: the element of row n and place i; rest axes have extent 1. */
static bool per_token(const struct result *r, const struct batch *b, const double **row, int64_t *stride)
{
    int64_t count = ft_elements(&r->type);
    *row = r->data;
    *stride = count == b->rows * b->places ? b->places : 0;
    return count == b->rows * b->places || count == b->places;
}

static bool are_places(const struct result *r, const struct batch *b, bool mask)
{
    const double *data = NULL;
    int64_t stride = 0;
    bool good = per_token(r, b, &data, &stride);
    for (int64_t n = 0; good && n < b->rows; n++) {
        for (int64_t i = 0; good && i < b->places; i++) {
            double want = mask ? (double)b->mask[n * b->places + i] : (double)i;
            good = data[n * stride + i] == want;
        }
    }
    return good;
}

static bool are_counts(const struct result *r, const struct batch *b)
{
    int64_t each = ft_elements(&r->type) / b->rows; /* (N, 1), or that number for every channel */
    bool good =
        r->type.rank > 0 && each * b->rows == ft_elements(&r->type) && ft_extent(&r->type, 0) == b->rows;
    for (int64_t n = 0; good && n < b->rows; n++) {
        int64_t count = 0;
        for (int64_t i = 0; i < b->places; i++) {
            count += b->mask[n * b->places + i];
        }
        for (int64_t k = 0; good && k < each; k++) {
            good = r->data[n * each + k] == (double)count;
        }
    }
    return good;
}

/* The mask may have been repeated for every channel: (N, S, C). */
static bool is_mask(const struct result *r, const struct batch *b)
{
    int64_t each = ft_elements(&r->type) / (b->rows * b->places);
    bool good = each > 0 && each * b->rows * b->places == ft_elements(&r->type);
    for (int64_t t = 0; good && t < b->rows * b->places; t++) {
        for (int64_t k = 0; good && k < each; k++) {
            good = r->data[t * each + k] == (double)b->mask[t];
        }
    }
    return good;
}

static bool is_same(const struct result *r)
{
    for (int64_t i = 1; i < ft_elements(&r->type); i++) {
        if (r->data[i] != r->data[0]) {
            return false;
        }
    }
    return true;
}

static bool answer(const struct result *r, const struct batch *b, enum ft_probe_question question,
                   int64_t *number)
{
    switch (question) {
    case FT_PROBE_KEYS:
        return are_keys(r, b, number);
    case FT_PROBE_PLACES:
        return are_places(r, b, false);
    case FT_PROBE_MASK:
        return is_mask(r, b);
    case FT_PROBE_COUNT:
        return are_counts(r, b);
    case FT_PROBE_SAME:
        *number = (int64_t)r->data[0];
        return is_same(r);
    }
    return false;
}

/* ---- asking */

/* A value for one batch. NULL data: it cannot be told. */
static enum ft_status compute_value(struct ft_packer *p, ft_value v, const struct batch *batch,
                                    struct result *result, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_graph *part = NULL;
    struct ft_device *device = NULL;
    bool told = false;
    FT_TRY(part_of(p->c.from, v, &part, err));
    if (part != NULL) {
        FT_TRY(ft_device_open("cpu", 1, &device, err));
        FT_TRY(compute(device, part, batch, result, &told, err));
    }
    if (!told) {
        ft_free(result->data);
        result->data = NULL;
    }
done:
    ft_graph_free(part);
    ft_device_close(device);
    return st;
}

/* A long row of tokens first: of scores one in which a window shows, of places one that tables of places
 * reach. Then rows of lengths that differ. */
static enum ft_status ask(struct ft_packer *p, ft_value v, enum ft_probe_question question, int64_t *number,
                          bool *yes, struct ft_err *err)
{
    enum { LONG = 700 };
    static const int64_t lengths[2][3] = {{LONG, 0, 0}, {4, 7, 1}};
    const int64_t shapes[2][2] = {{1, question == FT_PROBE_KEYS ? LONG : 29}, {3, 7}};
    int64_t mask[LONG];
    *yes = true;
    for (int b = 0; *yes && b < 2; b++) {
        struct batch batch = {.rows = shapes[b][0], .places = shapes[b][1], .mask = mask};
        struct result result = {0};
        for (int64_t t = 0; t < batch.rows * batch.places; t++) {
            mask[t] = t % batch.places < lengths[b][t / batch.places];
        }
        FT_RETURN_IF_FAILED(compute_value(p, v, &batch, &result, err));
        *yes = result.data != NULL && answer(&result, &batch, question, number);
        ft_free(result.data);
    }
    return FT_OK;
}

/* What each distance says, and whether all pairs agree. */
static bool read_distances(const struct result *r, int64_t places, int64_t *table)
{
    for (int64_t i = 0; i < places; i++) {
        for (int64_t j = 0; j < places; j++) {
            int64_t x = (int64_t)r->data[i * places + j];
            int64_t *to = &table[j - i + places - 1];
            if (i > 0 && j > 0 && *to != x) {
                return false;
            }
            *to = x;
        }
    }
    return true;
}

enum ft_status ft_pack_probe_distances(struct ft_packer *p, ft_value v, int64_t **table, int64_t *reach,
                                       bool *yes, struct ft_err *err)
{
    enum { LONG = 700 };
    enum ft_status st = FT_OK;
    struct result result = {0};
    int64_t mask[LONG];
    int64_t *all = NULL;
    int64_t far = LONG - 1;
    *yes = false;
    for (int i = 0; i < LONG; i++) {
        mask[i] = 1;
    }
    const struct batch batch = {.rows = 1, .places = LONG, .mask = mask};
    FT_TRY(compute_value(p, v, &batch, &result, err));
    FT_TRY(ft_new(2 * LONG - 1, sizeof *all, &all, err));
    *yes = result.data != NULL && ft_elements(&result.type) == (int64_t)LONG * LONG &&
           read_distances(&result, LONG, all);
    while (far > 1 && all[LONG - 1 - far] == all[LONG - far] && all[LONG - 1 + far] == all[LONG - 2 + far]) {
        far--;
    }
    *yes = *yes && far < LONG - 1;
    if (*yes) {
        FT_TRY(ft_new((size_t)(2 * far + 1), sizeof **table, table, err));
        memcpy(*table, all + LONG - 1 - far, (size_t)(2 * far + 1) * sizeof **table);
        *reach = far;
    }
done:
    ft_free(all);
    ft_free(result.data);
    return st;
}

/* The base that the second frequency tells, to the integer where it is one but for rounding. */
static float base_of(const struct result *cosines, int64_t half)
{
    if (half < 2) {
        return 10000.0F;
    }
    double base = pow(acos(cosines->data[2 * half + 1]), -(double)half);
    double whole = round(base);
    return (float)(fabs(base - whole) < 1e-4 * whole ? whole : base);
}

static bool is_rotation(const struct result *r, int64_t places, float base, double (*function)(double))
{
    int64_t size = ft_extent(&r->type, r->type.rank - 1);
    for (int64_t t = 0; t < places; t++) {
        for (int64_t i = 0; i < size; i++) {
            double angle = (double)t * pow((double)base, (double)(-2 * (i % (size / 2))) / (double)size);
            if (!(fabs(r->data[t * size + i] - function(angle)) < 1e-4)) { /* frequencies are float */
                return false;
            }
        }
    }
    return true;
}

enum ft_status ft_pack_probe_rotation(struct ft_packer *p, ft_value cosines, ft_value sines, float *base,
                                      bool *yes, struct ft_err *err)
{
    enum { PLACES = 29 };
    enum ft_status st = FT_OK;
    struct result c = {0};
    struct result s = {0};
    int64_t mask[PLACES];
    const struct batch batch = {.rows = 1, .places = PLACES, .mask = mask};
    for (int i = 0; i < PLACES; i++) {
        mask[i] = 1;
    }
    *yes = false;
    FT_TRY(compute_value(p, cosines, &batch, &c, err));
    FT_TRY(compute_value(p, sines, &batch, &s, err));
    if (c.data != NULL && s.data != NULL && c.type.rank > 0 && s.type.rank > 0) {
        int64_t size = ft_extent(&c.type, c.type.rank - 1);
        bool shaped = size % 2 == 0 && ft_elements(&c.type) == PLACES * size &&
                      ft_elements(&s.type) == PLACES * size && ft_extent(&s.type, s.type.rank - 1) == size;
        *base = shaped ? base_of(&c, size / 2) : 0.0F;
        *yes = shaped && is_rotation(&c, PLACES, *base, cos) && is_rotation(&s, PLACES, *base, sin);
    }
done:
    ft_free(c.data);
    ft_free(s.data);
    return st;
}

enum ft_status ft_pack_probe(struct ft_packer *p, ft_value v, enum ft_probe_question question, bool *yes,
                             struct ft_err *err)
{
    enum { KNOWN = 1, YES = 2 };
    int shift = 2 * (int)question;
    if (((p->verdicts[v] >> shift) & KNOWN) == 0) {
        FT_RETURN_IF_FAILED(ask(p, v, question, &p->numbers[v], yes, err));
        p->verdicts[v] |= (uint16_t)((KNOWN | (*yes ? YES : 0)) << shift);
    }
    *yes = ((p->verdicts[v] >> shift) & YES) != 0;
    return FT_OK;
}
