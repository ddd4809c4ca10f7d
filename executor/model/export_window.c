#include <string.h>

#include "executor/model/export.h"

/* Convolution, pooling and padding, opset 17. */

struct window_attrs {
    struct ft_export_attr list[8];
    int64_t pads[6];
    int count;
};

static void window_attrs(const struct ft_window *w, struct window_attrs *a)
{
    memset(a, 0, sizeof *a);
    for (int i = 0; i < w->rank; i++) {
        a->pads[i] = w->pad_begin[i];
        a->pads[i + w->rank] = w->pad_end[i];
    }
    a->list[0] = (struct ft_export_attr){
        .name = "kernel_shape", .kind = FT_ATTR_INTS, .ints = w->kernel, .count = w->rank};
    a->list[1] =
        (struct ft_export_attr){.name = "strides", .kind = FT_ATTR_INTS, .ints = w->stride, .count = w->rank};
    a->list[2] =
        (struct ft_export_attr){.name = "pads", .kind = FT_ATTR_INTS, .ints = a->pads, .count = 2 * w->rank};
    a->count = 3;
}

static void add_dilations(const struct ft_window *w, struct window_attrs *a)
{
    a->list[a->count++] = (struct ft_export_attr){
        .name = "dilations", .kind = FT_ATTR_INTS, .ints = w->dilation, .count = w->rank};
}

enum ft_status ft_export_conv(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    struct window_attrs a;
    window_attrs(&node->attrs.window, &a);
    add_dilations(&node->attrs.window, &a);
    a.list[a.count++] = (struct ft_export_attr){.name = "group", .kind = FT_ATTR_INT, .i = node->attrs.group};
    n.attrs = a.list;
    n.n_attrs = a.count;
    return ft_export_put(x, &n, err);
}

/* The extents of the result are written as padding beyond the smallest that fits. */
enum ft_status ft_export_conv_transpose(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                        struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const struct ft_window *w = &node->attrs.window;
    const struct ft_type *from = ft_graph_type(x->graph, node->in[0]);
    const struct ft_type *to = ft_graph_type(x->graph, node->out[0]);
    struct window_attrs a;
    int64_t extra[3];
    window_attrs(w, &a);
    add_dilations(w, &a);
    for (int i = 0; i < w->rank; i++) {
        int64_t least = w->stride[i] * (from->dim[i + 2].coef - 1) + (w->kernel[i] - 1) * w->dilation[i] + 1;
        extra[i] = to->dim[i + 2].coef - (least - w->pad_begin[i] - w->pad_end[i]);
        if (extra[i] < 0) { /* only a gradient's: more is cut off than its pads say */
            a.pads[i + w->rank] -= extra[i];
            extra[i] = 0;
        }
    }
    a.list[a.count++] = (struct ft_export_attr){.name = "group", .kind = FT_ATTR_INT, .i = node->attrs.group};
    a.list[a.count++] = (struct ft_export_attr){
        .name = "output_padding", .kind = FT_ATTR_INTS, .ints = extra, .count = w->rank};
    n.n_in = 2;
    n.attrs = a.list;
    n.n_attrs = a.count;
    return ft_export_put(x, &n, err);
}

/* Extents fixed by the importer come from ceil_mode: say so when rounding down gives fewer windows. */
static bool rounds_up(const struct ft_window *w, const struct ft_type *x)
{
    for (int i = 0; i < w->rank; i++) {
        int64_t room =
            x->dim[i + 2].coef + w->pad_begin[i] + w->pad_end[i] - ((w->kernel[i] - 1) * w->dilation[i] + 1);
        if (w->out[i] != 0 && w->out[i] != room / w->stride[i] + 1) {
            return true;
        }
    }
    return false;
}

/* A constant of this type. */
static enum ft_status all_ones(struct ft_export *x, const char *stem, const struct ft_type *type,
                               const char **out, struct ft_err *err)
{
    int64_t count = ft_elements(type);
    float *ones = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, (size_t)count, sizeof *ones, &ones, err));
    for (int64_t i = 0; i < count; i++) {
        ones[i] = 1.0F;
    }
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, out, err));
    return ft_export_constant(x, *out, type, ones, err);
}

/* Taps of window o along axis i that an average counts. */
static int64_t counted_taps(const struct ft_window *w, int i, int64_t extent, int64_t o, bool include_pad)
{
    int64_t start = o * w->stride[i] - w->pad_begin[i];
    int64_t room = extent - start + (include_pad ? w->pad_end[i] : 0);
    int64_t last = room < 0 ? 0 : (room + w->dilation[i] - 1) / w->dilation[i];
    last = last < w->kernel[i] ? last : w->kernel[i];
    return last - (include_pad || start >= 0 ? 0 : (-start + w->dilation[i] - 1) / w->dilation[i]);
}

/* What each window is divided by, (1, 1, O...). */
static enum ft_status average_counts(struct ft_export *x, const struct ft_node *node, const struct ft_type *y,
                                     const char *stem, const char **out, struct ft_err *err)
{
    const struct ft_window *w = &node->attrs.window;
    const struct ft_type *from = ft_graph_type(x->graph, node->in[0]);
    struct ft_type type = *y;
    float *counts = NULL;
    type.dim[0] = type.dim[1] = ft_dim_of(1);
    int64_t count = ft_elements(&type);
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, (size_t)count, sizeof *counts, &counts, err));
    for (int64_t k = 0; k < count; k++) {
        int64_t rest = k;
        counts[k] = 1.0F;
        for (int i = w->rank - 1; i >= 0; i--) {
            int64_t extent = type.dim[i + 2].coef;
            counts[k] *= (float)counted_taps(w, i, from->dim[i + 2].coef, rest % extent,
                                             node->attrs.count_include_pad != 0);
            rest /= extent;
        }
    }
    FT_RETURN_IF_FAILED(ft_export_fresh(x, stem, out, err));
    return ft_export_constant(x, *out, &type, counts, err);
}

/* Opset 17 has no dilated average: a depthwise convolution with ones, over what each window was divided by.
 */
static enum ft_status write_dilated_average(struct ft_export *x, const struct ft_node *node,
                                            struct ft_err *err)
{
    const struct ft_type *from = ft_graph_type(x->graph, node->in[0]);
    const char *out = x->names[node->out[0]];
    struct ft_window w = node->attrs.window;
    struct ft_type type = *ft_graph_type(x->graph, node->out[0]);
    struct ft_export_node conv = {
        .op = "Conv", .origin = node->origin, .in = {x->names[node->in[0]]}, .n_in = 2};
    struct ft_export_node div = {.op = "Div", .n_in = 2, .out = out};
    struct window_attrs a;
    int64_t channels = from->dim[1].coef;
    FT_RETURN_IF_FAILED(average_counts(x, node, &type, out, &div.in[1], err));
    for (int i = 0; i < w.rank;
         i++) { /* a convolution's extents round down: pads that give as many windows */
        int64_t reach = (type.dim[i + 2].coef - 1) * w.stride[i] + (w.kernel[i] - 1) * w.dilation[i] + 1;
        int64_t end = reach - from->dim[i + 2].coef - w.pad_begin[i];
        w.pad_end[i] = end > 0 ? end : 0;
        type.dim[i + 2] = ft_dim_of(w.kernel[i]);
    }
    type.dim[0] = ft_dim_of(channels);
    type.dim[1] = ft_dim_of(1);
    FT_RETURN_IF_FAILED(all_ones(x, out, &type, &conv.in[1], err));
    window_attrs(&w, &a);
    add_dilations(&w, &a);
    a.list[a.count++] = (struct ft_export_attr){.name = "group", .kind = FT_ATTR_INT, .i = channels};
    conv.attrs = a.list;
    conv.n_attrs = a.count;
    FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &conv.out, err));
    FT_RETURN_IF_FAILED(ft_export_put(x, &conv, err));
    div.in[0] = conv.out;
    return ft_export_put(x, &div, err);
}

enum ft_status ft_export_pool(struct ft_export *x, const struct ft_node *node, const char *onnx,
                              struct ft_err *err)
{
    struct ft_export_node n = ft_export_like(x, node, onnx);
    const struct ft_window *w = &node->attrs.window;
    struct window_attrs a;
    if (n.out == NULL) {
        return FT_OK; /* only its places are read, which another node writes */
    }
    window_attrs(w, &a);
    if (node->op == FT_OP_MAXPOOL) {
        add_dilations(w, &a);
    } else {
        for (int i = 0; i < w->rank; i++) {
            if (w->dilation[i] != 1) {
                return write_dilated_average(x, node, err);
            }
        }
        a.list[a.count++] = (struct ft_export_attr){
            .name = "count_include_pad", .kind = FT_ATTR_INT, .i = node->attrs.count_include_pad};
    }
    a.list[a.count++] = (struct ft_export_attr){
        .name = "ceil_mode", .kind = FT_ATTR_INT, .i = rounds_up(w, ft_graph_type(x->graph, node->in[0]))};
    n.attrs = a.list;
    n.n_attrs = a.count;
    return ft_export_put(x, &n, err);
}

/* The same pool once more, with its second output: indices are rare, and an op writes one node at a time. */
enum ft_status ft_export_maxpool_indices(struct ft_export *x, const struct ft_node *node, const char *onnx,
                                         struct ft_err *err)
{
    const struct ft_node *pool = ft_graph_node(x->graph, ft_graph_producer(x->graph, node->in[0]));
    struct ft_export_node n = ft_export_like(x, pool, onnx);
    const struct ft_window *w = &pool->attrs.window;
    struct window_attrs a;
    window_attrs(w, &a);
    add_dilations(w, &a);
    a.list[a.count++] = (struct ft_export_attr){
        .name = "ceil_mode", .kind = FT_ATTR_INT, .i = rounds_up(w, ft_graph_type(x->graph, pool->in[0]))};
    a.list[a.count++] =
        (struct ft_export_attr){.name = "storage_order", .kind = FT_ATTR_INT, .i = node->attrs.kind};
    n.attrs = a.list;
    n.n_attrs = a.count;
    n.out2 = x->names[node->out[0]];
    FT_RETURN_IF_FAILED(ft_export_fresh(x, n.out2, &n.out, err));
    return ft_export_put(x, &n, err);
}

/* ---- padding */

/* Along one axis: the positions of x that the result shows, as indices. */
static enum ft_status gather_axis(struct ft_export *x, const struct ft_attrs *attrs, int axis, int64_t extent,
                                  struct ft_export_node *n, struct ft_err *err)
{
    const struct ft_export_attr attr = {.name = "axis", .kind = FT_ATTR_INT, .i = axis};
    int64_t count = extent + attrs->pad_begin[axis] + attrs->pad_end[axis];
    int64_t *at = NULL;
    FT_RETURN_IF_FAILED(ft_arena_new(&x->arena, (size_t)count, sizeof *at, &at, err));
    for (int64_t i = 0; i < count; i++) {
        int64_t period = attrs->kind == FT_PAD_WRAP ? extent : 2 * (extent - 1);
        int64_t k = i - attrs->pad_begin[axis];
        k = period == 0 ? 0 : (k % period + period) % period;
        at[i] = k < extent ? k : period - k;
    }
    FT_RETURN_IF_FAILED(ft_export_ints(x, n->out, at, (int)count, &n->in[1], err));
    n->attrs = &attr;
    n->n_attrs = 1;
    return ft_export_put(x, n, err);
}

/* Opset 17 does not wrap, and reflects only once. */
static enum ft_status write_gathers(struct ft_export *x, const struct ft_node *node, struct ft_err *err)
{
    const struct ft_attrs *a = &node->attrs;
    const struct ft_type *from = ft_graph_type(x->graph, node->in[0]);
    const char *out = x->names[node->out[0]];
    int last = -1;
    for (int i = 0; i < from->rank; i++) {
        last = a->pad_begin[i] != 0 || a->pad_end[i] != 0 ? i : last;
    }
    struct ft_export_node n = {
        .op = "Gather", .origin = node->origin, .in = {x->names[node->in[0]]}, .n_in = 2};
    for (int i = 0; i <= last; i++) {
        if (a->pad_begin[i] == 0 && a->pad_end[i] == 0) {
            continue;
        }
        n.out = out;
        if (i != last) {
            FT_RETURN_IF_FAILED(ft_export_fresh(x, out, &n.out, err));
        }
        FT_RETURN_IF_FAILED(gather_axis(x, a, i, from->dim[i].coef, &n, err));
        n.in[0] = n.out;
    }
    return FT_OK;
}

enum ft_status ft_export_pad(struct ft_export *x, const struct ft_node *node, const char *onnx,
                             struct ft_err *err)
{
    static const char *const modes[] = {
        [FT_PAD_CONSTANT] = "constant", [FT_PAD_REFLECT] = "reflect", [FT_PAD_EDGE] = "edge"};
    const struct ft_attrs *a = &node->attrs;
    const struct ft_type *from = ft_graph_type(x->graph, node->in[0]);
    struct ft_export_node n = ft_export_like(x, node, onnx);
    int64_t pads[2 * FT_MAX_RANK];
    bool gathers = a->kind == FT_PAD_WRAP;
    for (int i = 0; i < from->rank; i++) {
        pads[i] = a->pad_begin[i];
        pads[i + from->rank] = a->pad_end[i];
        bool again = a->pad_begin[i] >= from->dim[i].coef || a->pad_end[i] >= from->dim[i].coef;
        gathers = gathers || (a->kind == FT_PAD_REFLECT && (a->pad_begin[i] | a->pad_end[i]) != 0 && again);
    }
    if (gathers) {
        return write_gathers(x, node, err);
    }
    const struct ft_export_attr attr = {.name = "mode", .kind = FT_ATTR_TEXT, .text = modes[a->kind]};
    n.attrs = &attr;
    n.n_attrs = 1;
    n.n_in = a->kind == FT_PAD_CONSTANT && a->alpha != 0.0F ? 3 : 2;
    FT_RETURN_IF_FAILED(ft_export_ints(x, n.out, pads, 2 * from->rank, &n.in[1], err));
    if (n.n_in == 3) {
        FT_RETURN_IF_FAILED(ft_export_float(x, n.out, a->alpha, &n.in[2], err));
    }
    return ft_export_put(x, &n, err);
}
