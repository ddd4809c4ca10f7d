/*
 * plan.h - a graph made executable on one device for fixed extents: layouts, memory, prepared kernels.
 *
 * The plan decides what the canonical graph must not know: which values are stored channels-last and where
 * reorders go, float type (ft_device_float; with ft_device_precision() what is bf16 or int8), in-place
 * reuse, one block of activation memory with offsets by lifetime, scratch. Values are bound to outside memory
 * (inputs, parameters, wanted outputs) or live in the plan's own block. Nothing is allocated by
 * ft_plan_run().
 *
 * Threads: like the device, one thread.
 */
#ifndef FT_GRAPH_PLAN_H
#define FT_GRAPH_PLAN_H

#include "executor/graph/graph.h"

struct ft_plan; /* opaque */

/* Values that the caller wants to read after a run, and what the symbols stand for. */
struct ft_plan_spec {
    int64_t symbols[FT_MAX_SYMBOLS]; /* 0 for a symbol that does not occur */
    const ft_value *wanted;
    int n_wanted;
    /* A plan of the same graph and device for other extents, or NULL: its memory is used, where it is large
     * enough, so the largest is made first. Only one of them may be between its run and the reading of what
     * it left in the plan; `like` must outlive this one. */
    struct ft_plan *like;
};
/* The graph is borrowed and must outlive the plan. Only nodes that `wanted` need are prepared. FT_NOMEM,
 * FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_plan_new(struct ft_device *device, const struct ft_graph *graph,
                                         const struct ft_plan_spec *spec, struct ft_plan **plan,
                                         struct ft_err *err);
void ft_plan_free(struct ft_plan *plan); /* NULL is fine */

/* Bind an input, parameter, constant or wanted value to memory of the device: row-major, the device's float
 * type, at least ft_plan_bytes(). Must be done for every input and parameter before the first run; constants
 * bind themselves. A wanted value without a binding lives in the plan: ft_plan_data(). Two plans may share
 * memory.
 * Binding again moves a value; an input that nothing reads may be bound too. A wanted value must not lie in
 * memory that the plan reads (an update in place): fusion lets nodes run later than they stand in the graph.
 * FT_INVALID: no such value, or NULL. */
FT_MUST_CHECK enum ft_status ft_plan_bind(struct ft_plan *plan, ft_value v, void *data, struct ft_err *err);
size_t ft_plan_bytes(const struct ft_plan *plan, ft_value v);
const void *ft_plan_data(const struct ft_plan *plan,
                         ft_value v); /* of a wanted value after ft_plan_run + wait; else NULL */

/* Parameters changed (after an optimiser step or an upload): packed copies of weights are renewed on the next
 * run. version is any number > 0 that was not used before for other data. Until the first call weights are
 * packed in every run. */
void ft_plan_set_version(struct ft_plan *plan, uint64_t version);

/* Queue everything; results are there after ft_device_wait(). */
FT_MUST_CHECK enum ft_status ft_plan_run(struct ft_plan *plan, struct ft_err *err);

/* Run once more, node by node, and find the first node with a non-finite float output. FT_OK and *origin = ""
 * if none; else the node's origin and op in text (at most FT_ERR_TEXT - 1 bytes). */
FT_MUST_CHECK enum ft_status ft_plan_find_nonfinite(struct ft_plan *plan, char origin[FT_ERR_TEXT],
                                                    struct ft_err *err);

/* Where the time goes. From ft_plan_profile(plan, true) on every run waits for the device after each step and
 * adds up its time; ft_plan_profile(plan, false) forgets it all. Off at first, and then free. FT_NOMEM. */
FT_MUST_CHECK enum ft_status ft_plan_profile(struct ft_plan *plan, bool on, struct ft_err *err);
struct ft_plan_step_time { /* everything is borrowed from the plan */
    enum ft_op op;
    int chained;        /* rows that run together in it, the last of them is op; 1: op alone */
    bool is_reorder;    /* a change of layout or a copy, not a node; op is what does it */
    const char *origin; /* of the node; "" if unknown */
    const struct ft_attrs *attrs;
    const struct ft_type *in, *out; /* as the kernel sees them */
    int n_in, n_out;
    double seconds; /* of all runs since profiling began */
};
int ft_plan_steps(const struct ft_plan *plan); /* in the order in which they run */
struct ft_plan_step_time ft_plan_step_time(const struct ft_plan *plan, int step);

struct ft_plan_stats {
    int nodes, reorders;
    int products, int8;      /* CONV and MATMUL of every run; those computed in int8 (kernels/int8.h) */
    size_t activation_bytes; /* the plan's block, and what it keeps of parameters */
    size_t scratch_bytes;
    size_t bound_bytes;  /* inputs, parameters, outputs outside */
    size_t packed_bytes; /* of weights, beyond one copy for each product: what ft_kernel_room() knows */
};
struct ft_plan_stats ft_plan_stats(const struct ft_plan *plan);
/* What ft_plan_stats() would say of a plan of this spec, without making its memory and kernels: some
 * milliseconds, so that several batches can be tried. scratch_bytes is what ft_kernel_room() knows. */
FT_MUST_CHECK enum ft_status ft_plan_price(struct ft_device *device, const struct ft_graph *graph,
                                           const struct ft_plan_spec *spec, struct ft_plan_stats *stats,
                                           struct ft_err *err);
#endif
