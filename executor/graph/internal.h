/*
 * internal.h - how a graph is stored, and copying of parts between graphs; private to executor/graph.
 *
 * Values and nodes are allocated one by one from the graph's arena, so pointers to them (and to their types
 * and names) stay valid while the graph grows. Bytes of parameters and constants are shared between copies of
 * a graph and counted; ft_graph_param_set() gives a graph bytes of its own.
 */
#ifndef FT_GRAPH_INTERNAL_H
#define FT_GRAPH_INTERNAL_H

#include <stdatomic.h>

#include "executor/base/alloc.h"
#include "executor/base/arena.h"
#include "executor/graph/graph.h"

/* Immutable bytes after a header of FT_ALIGN bytes. */
struct ft_blob {
    _Atomic size_t refs;
    size_t bytes;
};

struct ft_graph_value {
    struct ft_type type;
    const char *name;
    bool auto_named; /* such a name gives way when somebody asks for it */
    enum ft_source source;
    int index;            /* number of the input, parameter or node; -1 for a constant */
    struct ft_blob *blob; /* of parameters and constants */
};

struct ft_graph_param {
    ft_value value;
    enum ft_param_role role;
    bool frozen;
};

struct ft_graph_output {
    ft_value value;
    const char *name;
};

/* Names by open addressing: a slot holds a value's number, SLOT_EMPTY or SLOT_GONE. */
struct ft_graph_names {
    ft_value *slots;
    size_t count; /* a power of two, or 0 */
    size_t used;  /* not empty: names and gone ones */
    uint64_t next_suffix;
};

struct ft_graph {
    struct ft_arena arena;
    struct ft_graph_value **values;
    size_t n_values, values_capacity;
    struct ft_node **nodes;
    size_t n_nodes, nodes_capacity;
    ft_value *inputs;
    size_t n_inputs, inputs_capacity;
    struct ft_graph_param *params;
    size_t n_params, params_capacity;
    struct ft_graph_output *outputs;
    size_t n_outputs, outputs_capacity;
    struct ft_graph_names names;
};

/* ---- names (names.c). Reserve before anything is committed: an insertion cannot fail then. */
FT_MUST_CHECK enum ft_status ft_names_reserve(struct ft_graph *g, size_t extra, struct ft_err *err);
void ft_names_insert(struct ft_graph *g, ft_value v);
void ft_names_remove(struct ft_graph *g, ft_value v);
/* A free name for value `v` that starts with `stem`, in the graph's arena. */
FT_MUST_CHECK enum ft_status ft_names_fresh(struct ft_graph *g, const char *stem, ft_value v,
                                            const char **name, struct ft_err *err);
/* Make `name` free for value v (FT_NO_VALUE: a new one): FT_EXISTS unless it is free, v's own or an automatic
 * one. */
FT_MUST_CHECK enum ft_status ft_names_claim(struct ft_graph *g, const char *name, ft_value v,
                                            struct ft_err *err);

/* ---- bytes */
FT_MUST_CHECK enum ft_status ft_blob_new(const void *data, size_t bytes, struct ft_blob **blob,
                                         struct ft_err *err);
const void *ft_blob_data(const struct ft_blob *blob); /* NULL for NULL */
void ft_blob_drop(struct ft_blob *blob);              /* NULL is fine */

/* ---- copying (copy.c): value by value, with map[v of `from`] = value of `to`. */
struct ft_graph_copier {
    const struct ft_graph *from;
    struct ft_graph *to;
    ft_value *map; /* ft_graph_values(from) entries; FT_NO_VALUE: not there yet. ft_free() by the caller */
    ft_value *node_in; /* room for the inputs of any node */
    size_t node_in_capacity;
};
FT_MUST_CHECK enum ft_status ft_copier_init(struct ft_graph_copier *c, const struct ft_graph *from,
                                            struct ft_graph *to, struct ft_err *err);
void ft_copier_release(struct ft_graph_copier *c);
/* An input, parameter or constant; its bytes are shared. */
FT_MUST_CHECK enum ft_status ft_copy_source(struct ft_graph_copier *c, ft_value v, struct ft_err *err);
/* A node; the values of its inputs must be there. */
FT_MUST_CHECK enum ft_status ft_copy_node(struct ft_graph_copier *c, int node, struct ft_err *err);
/* Give `out` (a value of `to`) the name that `v` has in `from`. */
FT_MUST_CHECK enum ft_status ft_copy_name(struct ft_graph_copier *c, ft_value v, ft_value out,
                                          struct ft_err *err);
/* keep[v] for all that the values marked in it are computed from, and what their nodes make beside them. */
void ft_mark_needed(const struct ft_graph *g, bool *keep);
FT_MUST_CHECK enum ft_status ft_copy_outputs(struct ft_graph_copier *c, struct ft_err *err);

/* A source whose bytes are shared instead of copied. */
FT_MUST_CHECK enum ft_status ft_graph_source_shared(struct ft_graph *g, const char *name,
                                                    const struct ft_graph_value *like, ft_value *out,
                                                    struct ft_err *err);

/* "relu 'origin'" for messages. */
enum { FT_NODE_TEXT = 256 };
const char *ft_node_text(const struct ft_node *node, char out[FT_NODE_TEXT]);
/* Is input i of this op read for its shape only? */
bool ft_node_shape_only(enum ft_op op, int i);

#endif
