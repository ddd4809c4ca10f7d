/*
 * plan_internal.h - how a plan is made: passes over physical values, storages and steps; private to
 * executor/graph and its tests.
 *
 * plan.c        binds symbols, marks what is needed, runs the passes, runs the steps
 * plan_layout.c turns nodes into steps: layouts, reorders, aliases, copies into wanted memory
 * plan_fuse.c   lets products take over what follows them
 * plan_once.c   finds the steps that run once a version of the parameters
 * plan_precision.c says what is stored as bf16 and computed in int8
 * plan_chain.c  makes one step of element-wise steps that follow one another
 * plan_memory.c life times, in-place reuse, offsets in the one block
 * plan_kernel.c prepares kernels and their argument arrays
 * plan_profile.c keeps the time of each step
 *
 * A physical value (pval) is a tensor in one layout. Pval v < ft_graph_values() is the graph's value v as its
 * producer makes it; later ones are copies in the other layout or at another place. Several pvals may share
 * one storage (a reshape copies nothing). Each storage is written by one step, so a step may move to any
 * place behind what it reads.
 */
#ifndef FT_GRAPH_PLAN_INTERNAL_H
#define FT_GRAPH_PLAN_INTERNAL_H

#include "executor/base/arena.h"
#include "executor/graph/plan.h"

enum { FT_PLAN_NO_PACKING = 1, FT_PLAN_NO_INPLACE = 2, FT_PLAN_NO_FUSION = 4 };
enum { FT_PLAN_NO_KERNELS = 64 }; /* nor memory: such a plan cannot run, it is only looked at */

/* ft_plan_new() without some of its tricks: tests compare the results. */
FT_MUST_CHECK enum ft_status ft_plan_new_with(struct ft_device *device, const struct ft_graph *graph,
                                              const struct ft_plan_spec *spec, unsigned flags,
                                              struct ft_plan **plan, struct ft_err *err);

enum ft_place {
    FT_PLACE_NONE,
    FT_PLACE_INPUT,
    FT_PLACE_PARAM,
    FT_PLACE_CONST,
    FT_PLACE_WANTED, /* a wanted value: the caller's memory, or memory of its own */
    FT_PLACE_KEPT,   /* memory of its own: made of parameters and constants, lasts between runs */
    FT_PLACE_BLOCK   /* an offset in the plan's block */
};

struct ft_plan_storage {
    enum ft_place place;
    size_t bytes;
    int first, last; /* steps between which the contents matter, both included; first > last: never */
    size_t offset;   /* in the block */
    int share;       /* storage whose bytes are reused in place, or -1 */
    ft_value value;  /* of an outside place */
    void *data;
    void *owned; /* memory of a wanted value that nobody bound, or of what is kept; NULL: another plan's */
    uint64_t version; /* as handed to kernels */
    int first_arg;    /* list of arguments that point here, -1 ends it */
};

struct ft_plan_pval {
    struct ft_type type; /* known extents, the device's float type or bf16, the layout */
    int storage;         /* -1: not there (yet) */
    int other;           /* the same value in the other layout, or -1 */
    bool bound;          /* type is filled in */
};

/* One kernel. Types are what the kernel is told: a reorder sees its operands as plain matrices of numbers. */
struct ft_plan_step {
    enum ft_op op;
    bool is_reorder; /* or a copy: not a node of the graph */
    bool once;       /* runs when the parameters' version has changed */
    int node;
    const struct ft_attrs *attrs;
    const struct ft_chain *chain; /* rows run together; op and attrs are those of the last. NULL: op alone */
    int n_in, n_out;
    const int *in, *out;         /* pvals; -1 for an input of which only the shape is read */
    const struct ft_type *types; /* n_in, then n_out */
    struct ft_kernel *kernel;
    struct ft_arg *args; /* n_in, then n_out */
};

/* A step that is no chain, as a device is asked for it; borrows the step's types. */
static inline struct ft_call ft_plan_call_of(const struct ft_plan_step *step)
{
    return (struct ft_call){.op = step->op,
                            .attrs = *step->attrs,
                            .n_in = step->n_in,
                            .in = step->types,
                            .out = step->types + step->n_in};
}

struct ft_plan {
    struct ft_device *device;
    const struct ft_graph *graph;
    struct ft_plan_spec spec; /* wanted is a copy */
    unsigned flags;
    struct ft_arena arena; /* lists of steps */
    bool *needed;          /* by node, while the plan is made */
    struct ft_plan_pval *pvals;
    size_t n_pvals, pvals_capacity;
    struct ft_plan_storage *storages;
    size_t n_storages, storages_capacity;
    struct ft_plan_step *steps;
    size_t n_steps, steps_capacity;
    int *wanted_storage; /* by position in spec.wanted */
    struct ft_arg *args; /* of all steps */
    int *next_arg;       /* by position in args */
    size_t n_args;
    void *block;
    size_t block_bytes; /* wanted; what is there may be more */
    void *scratch;
    size_t scratch_bytes;
    bool owns_block, owns_scratch; /* else they are spec.like's */
    uint64_t version;              /* of the parameters, 0 = unknown */
    uint64_t once_version;         /* for which the steps marked `once` ran; 0 = never. Of `keeper` */
    struct ft_plan *keeper;        /* whose memory FT_PLACE_KEPT is: itself, or spec.like's keeper */
    int unbound;                   /* inputs and parameters that are read and have no memory */
    int reorders;
    double *seconds; /* by step, while profiling; else NULL */
};

/* Type of a graph's value with the symbols bound. FT_INVALID: a symbol has no extent. FT_LIMIT. */
FT_MUST_CHECK enum ft_status ft_plan_bind_type(const struct ft_plan *plan, ft_value v, struct ft_type *type,
                                               struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_add_storage(struct ft_plan *plan, enum ft_place place, size_t bytes,
                                                 int *storage, struct ft_err *err);

/* A new pval of the given type in new memory. */
FT_MUST_CHECK enum ft_status ft_plan_new_pval(struct ft_plan *plan, const struct ft_type *type,
                                              enum ft_place place, int *pval, struct ft_err *err);

/* By storage: the step that writes it (-1: none, or it comes from outside) and how many inputs read it. */
struct ft_plan_uses {
    int *producer, *reads;
};
FT_MUST_CHECK enum ft_status ft_plan_uses_init(struct ft_plan_uses *uses, const struct ft_plan *plan,
                                               struct ft_err *err);
void ft_plan_uses_release(struct ft_plan_uses *uses);
/* Take the steps marked `gone` (by step) off the list. */
void ft_plan_drop_steps(struct ft_plan *plan, const bool *gone);

/* The passes, in this order. */
FT_MUST_CHECK enum ft_status ft_plan_lower(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_layout(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_fuse(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_once(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_precision(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_chain(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_memory(struct ft_plan *plan, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_plan_kernels(struct ft_plan *plan, struct ft_err *err);

/* No two storages whose contents matter at one time share bytes, except a storage and the one it took over.
 */
bool ft_plan_memory_is_sound(const struct ft_plan *plan);

#endif
