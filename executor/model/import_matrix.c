#include <string.h>

#include "executor/model/import.h"

/* Products of matrices: MatMul, and Einsum where it is one or less. */

static enum ft_status two(struct ft_at *at, enum ft_op op, ft_value a, ft_value b, ft_value *out,
                          struct ft_err *err)
{
    const ft_value in[2] = {a, b};
    return ft_at_add(at, op, NULL, in, 2, out, err);
}

/* ---- MatMul */

static bool batches_equal(const struct ft_type *a, const struct ft_type *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank - 2; i++) {
        same = ft_dim_equal(a->dim[i], b->dim[i]);
    }
    return same;
}

/* Without the ones in front of its last two axes, if nothing else stands there. */
static enum ft_status without_batch(struct ft_at *at, ft_value *v, struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, *v);
    for (int i = 0; i < type.rank - 2; i++) {
        if (!ft_dim_is_one(type.dim[i])) {
            return FT_OK;
        }
    }
    return ft_at_reshape(at, *v, type.dim + type.rank - 2, 2, v, err);
}

/* v with the batch axes that it has together with `other`. What says how large they are is only looked at for
 * its shape. */
static enum ft_status with_batch_of(struct ft_at *at, ft_value v, ft_value other, ft_value *out,
                                    struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value like = FT_NO_VALUE;
    int rank = ft_at_type(at, other)->rank;
    memset(&attrs, 0, sizeof attrs);
    attrs.keepdims = 1;
    attrs.axes_count = 2;
    attrs.axes[0] = rank - 2;
    attrs.axes[1] = rank - 1;
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_REDUCE_SUM, &attrs, &other, 1, &like, err));
    FT_RETURN_IF_FAILED(two(at, FT_OP_ADD, v, like, &like, err));
    if (ft_type_same_shape(ft_at_type(at, v), ft_at_type(at, like))) {
        *out = v;
        return FT_OK;
    }
    return two(at, FT_OP_EXPAND_TO, v, like, out, err);
}

static enum ft_status same_batch(struct ft_at *at, ft_value in[2], struct ft_err *err)
{
    ft_value out[2] = {FT_NO_VALUE, FT_NO_VALUE};
    if (batches_equal(ft_at_type(at, in[0]), ft_at_type(at, in[1]))) {
        return FT_OK;
    }
    /* A weight for the whole batch is one product of all rows; the other way round it saves the copies. The
     * result has the batch of the other side, whose rank is then the larger one. */
    int a = ft_at_type(at, in[0])->rank;
    int b = ft_at_type(at, in[1])->rank;
    FT_RETURN_IF_FAILED(b > 2 && b <= a ? without_batch(at, &in[1], err) : FT_OK);
    FT_RETURN_IF_FAILED(a > 2 && a <= b ? without_batch(at, &in[0], err) : FT_OK);
    if (ft_at_type(at, in[0])->rank == 2 || ft_at_type(at, in[1])->rank == 2) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(with_batch_of(at, in[0], in[1], &out[0], err));
    FT_RETURN_IF_FAILED(with_batch_of(at, in[1], in[0], &out[1], err));
    memcpy(in, out, sizeof out);
    return FT_OK;
}

/* A vector is a row on the left and a column on the right; the axis that it gets for that goes again. */
enum ft_status ft_import_matmul(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct ft_attrs attrs;
    ft_value in[2] = {FT_NO_VALUE, FT_NO_VALUE};
    ft_value y = FT_NO_VALUE;
    bool vector[2] = {false, false};
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    bool known = ft_at_all_host(at); /* then what the matrix multiplies is a buffer, e.g. coordinates */
    for (int i = 0; i < 2; i++) {
        FT_RETURN_IF_FAILED(known && i == 0 ? ft_at_value(at, i, &in[i], err)
                                            : ft_at_weight(at, i, FT_PARAM_WEIGHT, &in[i], err));
        const struct ft_type *type = ft_at_type(at, in[i]);
        struct ft_dim matrix[2] = {ft_dim_of(1), ft_dim_of(1)};
        matrix[1 - i] = type->dim[0];
        if (type->rank == 0) {
            return FT_FAIL(err, INVALID, "input %d is a scalar", i);
        }
        vector[i] = type->rank == 1;
        if (vector[i]) {
            FT_RETURN_IF_FAILED(ft_at_reshape(at, in[i], matrix, 2, &in[i], err));
        }
    }
    FT_RETURN_IF_FAILED(same_batch(at, in, err));
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_MATMUL, &attrs, in, 2, &y, err));
    if (vector[0] || vector[1]) {
        struct ft_type type = *ft_at_type(at, y);
        struct ft_dim dims[FT_MAX_RANK];
        int rank = 0;
        for (int i = 0; i < type.rank; i++) {
            if (!(vector[0] && i == type.rank - 2) && !(vector[1] && i == type.rank - 1)) {
                dims[rank++] = type.dim[i];
            }
        }
        FT_RETURN_IF_FAILED(ft_at_reshape(at, y, dims, rank, &y, err));
    }
    return ft_at_set(at, 0, y, err);
}

/* ---- Einsum: a letter is a label; the axes of an ellipsis are labels too, counted from the right */

enum { LABELS = 64, ELLIPSIS = 52 };

struct term {
    ft_value v;
    int rank;
    int labels[FT_MAX_RANK];
};

static int label_of(uint8_t c)
{
    if (c >= 'a' && c <= 'z') {
        return c - 'a';
    }
    return c >= 'A' && c <= 'Z' ? c - 'A' + 26 : -1;
}

static int find_label(const struct term *t, int label)
{
    for (int i = 0; i < t->rank; i++) {
        if (t->labels[i] == label) {
            return i;
        }
    }
    return -1;
}

/* Labels of one term of the equation, which has `axes` axes (-1: the result, whose ellipsis has `dots`). */
static enum ft_status parse_term(struct ft_bytes text, int axes, int dots, struct term *t, struct ft_err *err)
{
    int letters = 0;
    t->rank = 0;
    for (size_t i = 0; i < text.size; i++) {
        letters += label_of(text.data[i]) >= 0;
    }
    for (size_t i = 0; i < text.size; i++) {
        int label = label_of(text.data[i]);
        int count = 1;
        if (text.data[i] == ' ') {
            continue;
        }
        if (text.data[i] == '.' && i + 2 < text.size && text.data[i + 1] == '.' && text.data[i + 2] == '.') {
            count = axes >= 0 ? axes - letters : dots;
            i += 2;
        } else if (label < 0) {
            return FT_FAIL(err, INVALID, "the equation has a '%c'", text.data[i]);
        }
        if (count < 0 || t->rank + count > FT_MAX_RANK) {
            return FT_FAIL(err, INVALID, "the equation does not fit a tensor of rank %d", axes);
        }
        for (int k = 0; k < count; k++) {
            t->labels[t->rank++] = label >= 0 ? label : ELLIPSIS + count - 1 - k;
        }
    }
    if (axes >= 0 && t->rank != axes) {
        return FT_FAIL(err, INVALID, "the equation names %d axes of a tensor of rank %d", t->rank, axes);
    }
    return FT_OK;
}

static int times_label(const struct term *t, int label)
{
    int n = 0;
    for (int i = 0; i < t->rank; i++) {
        n += t->labels[i] == label;
    }
    return n;
}

/* The labels of the result when the equation has no arrow: the ellipsis, then what occurs once, sorted. */
static void implied_result(const struct term *in, int n_in, struct term *out)
{
    out->rank = 0;
    for (int i = LABELS - 1; i >= ELLIPSIS; i--) {
        bool seen = find_label(&in[0], i) >= 0 || (n_in == 2 && find_label(&in[1], i) >= 0);
        if (seen && out->rank < FT_MAX_RANK) {
            out->labels[out->rank++] = i;
        }
    }
    for (int k = 0; k < 52; k++) {
        int label = k < 26 ? k + 26 : k - 26; /* 'A' is before 'a' */
        int count = times_label(&in[0], label) + (n_in == 2 ? times_label(&in[1], label) : 0);
        if (count == 1 && out->rank < FT_MAX_RANK) {
            out->labels[out->rank++] = label;
        }
    }
}

static struct ft_bytes cut(struct ft_bytes text, size_t from, size_t to)
{
    return from < to ? (struct ft_bytes){text.data + from, to - from} : (struct ft_bytes){NULL, 0};
}

static enum ft_status parse(struct ft_at *at, struct term *in, int n_in, struct term *out, struct ft_err *err)
{
    struct ft_bytes text = {NULL, 0};
    size_t from = 0;
    int dots = 0;
    FT_RETURN_IF_FAILED(ft_onnx_attr_text(at->node, "equation", &text, err));
    size_t end = text.size;
    for (size_t i = 0; i + 1 < text.size && end == text.size; i++) {
        end = text.data[i] == '-' && text.data[i + 1] == '>' ? i : end;
    }
    for (int k = 0; k < n_in; k++) {
        size_t to = from;
        while (to < end && text.data[to] != ',') {
            to++;
        }
        if ((to == end) != (k == n_in - 1)) {
            return FT_FAIL(err, INVALID, "the equation is not one of %d tensors", n_in);
        }
        FT_RETURN_IF_FAILED(parse_term(cut(text, from, to), ft_at_type(at, in[k].v)->rank, 0, &in[k], err));
        for (int i = 0; i < in[k].rank; i++) {
            int depth = in[k].labels[i] - ELLIPSIS + 1;
            dots = depth > dots ? depth : dots;
        }
        from = to + 1;
    }
    if (end == text.size) {
        implied_result(in, n_in, out);
        return FT_OK;
    }
    return parse_term(cut(text, end + 2, text.size), -1, dots, out, err);
}

/* Two axes of one label: the elements where their numbers are equal, every (n + 1)th of the axes laid
 * together. `first` < `second` are the axes; one label is left. */
static enum ft_status take_diagonal(struct ft_at *at, struct term *t, int first, int second,
                                    struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, t->v);
    struct ft_attrs attrs;
    struct ft_dim dims[FT_MAX_RANK];
    struct ft_dim n = type.dim[first];
    int rank = 0;
    if (!ft_dim_equal(n, type.dim[second]) || !ft_dim_is_known(n) || n.coef > INT32_MAX) {
        return ft_at_unsupported(at, err, "a diagonal of axes that are not known to be equal");
    }
    memset(&attrs, 0, sizeof attrs);
    for (int i = 0; i < type.rank; i++) {
        if (i != second) {
            attrs.perm[rank++] = i;
        }
        if (i == first) {
            attrs.perm[rank++] = second;
        }
    }
    FT_RETURN_IF_FAILED(ft_at_add(at, FT_OP_TRANSPOSE, &attrs, &t->v, 1, &t->v, err));
    rank = 0;
    for (int i = 0; i < type.rank; i++) {
        if (i != second) {
            t->labels[rank] = t->labels[i];
            dims[rank++] = i == first ? ft_dim_of(n.coef * n.coef) : type.dim[i];
        }
    }
    t->rank = rank;
    FT_RETURN_IF_FAILED(ft_at_reshape(at, t->v, dims, rank, &t->v, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.axis = first;
    attrs.step = n.coef + 1;
    attrs.count = n.coef;
    return ft_at_add(at, FT_OP_SLICE, &attrs, &t->v, 1, &t->v, err);
}

static enum ft_status take_diagonals(struct ft_at *at, struct term *t, struct ft_err *err)
{
    for (int i = t->rank - 1; i > 0; i--) {
        int first = find_label(t, t->labels[i]);
        if (first < i) {
            FT_RETURN_IF_FAILED(take_diagonal(at, t, first, i, err));
        }
    }
    return FT_OK;
}

/* Axes whose label is not in `keep` (or is marked) are summed away. */
static enum ft_status sum_out(struct ft_at *at, struct term *t, const bool keep[LABELS], struct ft_err *err)
{
    struct ft_attrs attrs;
    int rank = 0;
    memset(&attrs, 0, sizeof attrs);
    for (int i = 0; i < t->rank; i++) {
        if (keep[t->labels[i]]) {
            t->labels[rank++] = t->labels[i];
        } else {
            attrs.axes[attrs.axes_count++] = i;
        }
    }
    t->rank = rank;
    return attrs.axes_count == 0 ? FT_OK : ft_at_add(at, FT_OP_REDUCE_SUM, &attrs, &t->v, 1, &t->v, err);
}

/* Axes in the order of `labels`, which are those of t. */
static enum ft_status order(struct ft_at *at, struct term *t, const int *labels, struct ft_err *err)
{
    struct ft_attrs attrs;
    bool moved = false;
    memset(&attrs, 0, sizeof attrs);
    for (int i = 0; i < t->rank; i++) {
        attrs.perm[i] = find_label(t, labels[i]);
        if (attrs.perm[i] < 0) {
            return FT_FAIL(err, INVALID, "the result has a label that no tensor has");
        }
        moved = moved || attrs.perm[i] != i;
    }
    memcpy(t->labels, labels, (size_t)t->rank * sizeof *labels);
    return moved ? ft_at_add(at, FT_OP_TRANSPOSE, &attrs, &t->v, 1, &t->v, err) : FT_OK;
}

/* Where one side has extent 1 and the other more, the axis of extent 1 goes. */
static enum ft_status drop_ones(struct ft_at *at, struct term *t, const struct term *other,
                                struct ft_err *err)
{
    struct ft_type type = *ft_at_type(at, t->v);
    const struct ft_type *there = ft_at_type(at, other->v);
    struct ft_dim dims[FT_MAX_RANK];
    int rank = 0;
    for (int i = 0; i < t->rank; i++) {
        int k = find_label(other, t->labels[i]);
        if (k >= 0 && ft_dim_is_one(type.dim[i]) && !ft_dim_is_one(there->dim[k])) {
            continue;
        }
        if (k >= 0 && !ft_dim_equal(type.dim[i], there->dim[k]) && !ft_dim_is_one(there->dim[k])) {
            return FT_FAIL(err, INVALID, "one label names axes of different extents");
        }
        t->labels[rank] = t->labels[i];
        dims[rank++] = type.dim[i];
    }
    t->rank = rank;
    return ft_at_reshape(at, t->v, dims, rank, &t->v, err);
}

/* Labels of a product: those of both and of the result, of one and the result, of both alone. */
struct parts {
    int labels[FT_MAX_RANK];
    struct ft_dim dims[FT_MAX_RANK];
    int count;
    struct ft_dim product;
};

static enum ft_status add_part(struct parts *p, int label, struct ft_dim dim, struct ft_err *err)
{
    if (p->count == FT_MAX_RANK || !ft_dim_mul(p->product, dim, &p->product)) {
        return FT_FAIL(err, LIMIT, "the product is too large");
    }
    p->labels[p->count] = label;
    p->dims[p->count++] = dim;
    return FT_OK;
}

enum part { BATCH, ROWS, COLUMNS, INNER, PARTS };

static enum ft_status divide(struct ft_at *at, const struct term in[2], const struct term *out,
                             struct parts p[PARTS], struct ft_err *err)
{
    memset(p, 0, PARTS * sizeof *p);
    for (int i = 0; i < PARTS; i++) {
        p[i].product = ft_dim_of(1);
    }
    for (int side = 0; side < 2; side++) {
        const struct ft_type *type = ft_at_type(at, in[side].v);
        for (int i = 0; i < in[side].rank; i++) {
            int label = in[side].labels[i];
            bool both = find_label(&in[1 - side], label) >= 0;
            bool kept = find_label(out, label) >= 0;
            enum part part = both ? (kept ? BATCH : INNER) : side == 0 ? ROWS : COLUMNS;
            if (!both || side == 0) {
                FT_RETURN_IF_FAILED(add_part(&p[part], label, type->dim[i], err));
            }
        }
    }
    return FT_OK;
}

/* One operand as (batch, first, second), or as (batch, second, first) when it lies so: *swapped. */
static enum ft_status as_matrices(struct ft_at *at, struct term *t, const struct parts *p,
                                  const enum part last[2], int *swapped, struct ft_err *err)
{
    int labels[2][FT_MAX_RANK];
    struct ft_dim dims[3] = {p[BATCH].product, p[last[0]].product, p[last[1]].product};
    for (int way = 0; way < 2; way++) {
        int n = 0;
        const enum part parts[3] = {BATCH, last[way], last[1 - way]};
        for (int k = 0; k < 3; k++) {
            memcpy(labels[way] + n, p[parts[k]].labels, (size_t)p[parts[k]].count * sizeof(int));
            n += p[parts[k]].count;
        }
    }
    *swapped = memcmp(t->labels, labels[0], (size_t)t->rank * sizeof(int)) != 0 &&
               memcmp(t->labels, labels[1], (size_t)t->rank * sizeof(int)) == 0;
    FT_RETURN_IF_FAILED(order(at, t, labels[*swapped], err));
    if (*swapped) {
        dims[1] = p[last[1]].product;
        dims[2] = p[last[0]].product;
    }
    int skip = p[BATCH].count == 0;
    return ft_at_reshape(at, t->v, dims + skip, 3 - skip, &t->v, err);
}

static enum ft_status contract(struct ft_at *at, struct term in[2], const struct parts *p, ft_value *out,
                               struct ft_err *err)
{
    static const enum part left[2] = {ROWS, INNER};
    static const enum part right[2] = {INNER, COLUMNS};
    struct ft_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = 1.0F;
    FT_RETURN_IF_FAILED(as_matrices(at, &in[0], p, left, &attrs.trans_a, err));
    FT_RETURN_IF_FAILED(as_matrices(at, &in[1], p, right, &attrs.trans_b, err));
    const ft_value both[2] = {in[0].v, in[1].v};
    return ft_at_add(at, FT_OP_MATMUL, &attrs, both, 2, out, err);
}

/* Nothing is summed: the product by broadcasting, (batch, rows, 1...) times (batch, 1..., columns). */
static enum ft_status multiply(struct ft_at *at, struct term in[2], const struct parts *p, ft_value *out,
                               struct ft_err *err)
{
    for (int side = 0; side < 2; side++) {
        struct ft_dim dims[FT_MAX_RANK];
        int labels[FT_MAX_RANK];
        int rank = 0;
        int own = 0;
        for (enum part part = BATCH; part <= COLUMNS; part++) {
            bool has = part == BATCH || (part == ROWS) == (side == 0);
            for (int i = 0; i < p[part].count; i++) {
                dims[rank++] = has ? p[part].dims[i] : ft_dim_of(1);
                if (has) {
                    labels[own++] = p[part].labels[i];
                }
            }
        }
        FT_RETURN_IF_FAILED(order(at, &in[side], labels, err));
        FT_RETURN_IF_FAILED(ft_at_reshape(at, in[side].v, dims, rank, &in[side].v, err));
    }
    return two(at, FT_OP_MUL, in[0].v, in[1].v, out, err);
}

static enum ft_status product(struct ft_at *at, struct term in[2], const struct term *out, struct term *y,
                              struct ft_err *err)
{
    struct parts p[PARTS];
    bool keep[2][LABELS] = {{false}};
    struct ft_dim dims[FT_MAX_RANK];
    struct term first = in[0];
    FT_RETURN_IF_FAILED(drop_ones(at, &in[0], &in[1], err));
    FT_RETURN_IF_FAILED(drop_ones(at, &in[1], &first, err));
    for (int side = 0; side < 2; side++) {
        for (int label = 0; label < LABELS; label++) {
            keep[side][label] = find_label(out, label) >= 0 || find_label(&in[1 - side], label) >= 0;
        }
    }
    FT_RETURN_IF_FAILED(sum_out(at, &in[0], keep[0], err));
    FT_RETURN_IF_FAILED(sum_out(at, &in[1], keep[1], err));
    FT_RETURN_IF_FAILED(divide(at, in, out, p, err));
    if (p[BATCH].count + p[ROWS].count + p[COLUMNS].count > FT_MAX_RANK) {
        return FT_FAIL(err, LIMIT, "more than %d dimensions", FT_MAX_RANK);
    }
    FT_RETURN_IF_FAILED(p[INNER].count > 0 ? contract(at, in, p, &y->v, err)
                                           : multiply(at, in, p, &y->v, err));
    y->rank = 0;
    for (enum part part = BATCH; part <= COLUMNS; part++) {
        for (int i = 0; i < p[part].count; i++) {
            dims[y->rank] = p[part].dims[i];
            y->labels[y->rank++] = p[part].labels[i];
        }
    }
    return ft_at_reshape(at, y->v, dims, y->rank, &y->v, err);
}

enum ft_status ft_import_einsum(struct ft_at *at, int arg, struct ft_err *err)
{
    (void)arg;
    struct term in[2];
    struct term out;
    struct term y;
    int n_in = at->node->n_in;
    memset(in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    if (n_in < 1 || n_in > 2) {
        return ft_at_unsupported(at, err, "of more than two tensors");
    }
    for (int i = 0; i < n_in; i++) {
        FT_RETURN_IF_FAILED(ft_at_weight(at, i, FT_PARAM_WEIGHT, &in[i].v, err));
    }
    FT_RETURN_IF_FAILED(parse(at, in, n_in, &out, err));
    for (int i = 0; i < n_in; i++) {
        FT_RETURN_IF_FAILED(take_diagonals(at, &in[i], err));
    }
    y = in[0];
    if (n_in == 2) {
        FT_RETURN_IF_FAILED(product(at, in, &out, &y, err));
    } else {
        bool keep[LABELS] = {false};
        for (int i = 0; i < out.rank; i++) {
            keep[out.labels[i]] = true;
        }
        FT_RETURN_IF_FAILED(sum_out(at, &y, keep, err));
    }
    if (y.rank != out.rank) {
        return FT_FAIL(err, INVALID, "the result has a label that no tensor has");
    }
    FT_RETURN_IF_FAILED(order(at, &y, out.labels, err));
    return ft_at_set(at, 0, y.v, err);
}
