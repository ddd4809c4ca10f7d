/*
 * graph.h - the canonical graph: values and nodes at the level of ONNX, typed, with symbolic dimensions.
 *
 * A graph is built by appending; what is in it never changes except names, the output list, parameters' data
 * and marks of dropout. Pointers to nodes, types and names stay valid as long as the graph. When a call fails
 * the graph may hold nodes and values that nothing uses. Nodes stand in topological order by construction: a
 * node's inputs exist before it. Fusion, layouts, precision and memory are the plan's business (plan.h);
 * export reads only this.
 *
 * Values are numbered 0 .. ft_graph_values()-1 and come from inputs, parameters, constants or nodes. A
 * parameter is a weight of the model: it has a stable id (order of creation), a name, initial data, and a
 * role. "State" parameters (BatchNorm's running mean and variance) are saved and updated, but have no
 * gradient.
 *
 * Thread-safety: a const graph may be read by any number of threads; building belongs to one.
 */
#ifndef FT_GRAPH_GRAPH_H
#define FT_GRAPH_GRAPH_H

#include "kernels/kernel.h"

struct ft_graph; /* opaque */

typedef int32_t ft_value; /* index into the graph's values */
enum { FT_NO_VALUE = -1 };

enum ft_source { FT_FROM_INPUT, FT_FROM_PARAM, FT_FROM_CONST, FT_FROM_NODE };
enum ft_param_role { FT_PARAM_WEIGHT, FT_PARAM_STATE };

FT_MUST_CHECK enum ft_status ft_graph_new(struct ft_graph **graph, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_graph_copy(const struct ft_graph *graph, struct ft_graph **copy,
                                           struct ft_err *err);
void ft_graph_free(struct ft_graph *graph); /* NULL is fine */

/* ---- building. Names are copied; "" is fine and is replaced by a unique one. FT_EXISTS: an input, parameter
 * or constant has that name already. Results of nodes get names of their own until ft_graph_rename(). */
FT_MUST_CHECK enum ft_status ft_graph_input(struct ft_graph *g, const char *name, const struct ft_type *type,
                                            ft_value *out, struct ft_err *err);
/* data: ft_type_bytes(type) bytes, copied, FT_F32. */
FT_MUST_CHECK enum ft_status ft_graph_param(struct ft_graph *g, const char *name, const struct ft_type *type,
                                            enum ft_param_role role, const void *data, ft_value *out,
                                            struct ft_err *err);
/* Never trained: any dtype, copied. */
FT_MUST_CHECK enum ft_status ft_graph_const(struct ft_graph *g, const char *name, const struct ft_type *type,
                                            const void *data, ft_value *out, struct ft_err *err);
/* One node; infers and checks types. out receives ft_op_info(op)->outputs values. origin: where it came from,
 * for messages and `inspect` (e.g. the ONNX node's name); may be NULL. A failed inference is wrapped with
 * origin. `out` may be `in`. */
FT_MUST_CHECK enum ft_status ft_graph_add(struct ft_graph *g, enum ft_op op, const struct ft_attrs *attrs,
                                          const ft_value *in, int n_in, const char *origin, ft_value *out,
                                          struct ft_err *err);
/* Shorthand for one- and two-input ops without attributes, one output taken. */
FT_MUST_CHECK enum ft_status ft_graph_add1(struct ft_graph *g, enum ft_op op, ft_value a, ft_value *out,
                                           struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_graph_add2(struct ft_graph *g, enum ft_op op, ft_value a, ft_value b,
                                           ft_value *out, struct ft_err *err);
FT_MUST_CHECK enum ft_status ft_graph_output(struct ft_graph *g, ft_value v, const char *name,
                                             struct ft_err *err);
void ft_graph_clear_outputs(struct ft_graph *g);
/* Give a parameter other data (copied), e.g. trained weights before export; the type is unchanged. */
FT_MUST_CHECK enum ft_status ft_graph_param_set(struct ft_graph *g, int param, const void *data,
                                                struct ft_err *err);
/* Parameters frozen for training (BatchNorm over frozen scale and bias runs in evaluation mode). Default:
 * not. */
void ft_graph_param_freeze(struct ft_graph *g, int param, bool frozen);

/* A new graph with only what `outputs` need, in the same order; parameters keep names, flags and data but are
 * renumbered; all inputs that are still read remain. Names of the outputs are given. */
FT_MUST_CHECK enum ft_status ft_graph_extract(const struct ft_graph *g, const ft_value *outputs,
                                              const char *const *names, int n_outputs, struct ft_graph **out,
                                              struct ft_err *err);

/* ---- reading */
struct ft_node {
    enum ft_op op;
    struct ft_attrs attrs;
    const ft_value *in;
    int n_in;
    const ft_value *out;
    int n_out;
    const char *origin; /* "" if unknown */
};
int ft_graph_nodes(const struct ft_graph *g);
const struct ft_node *ft_graph_node(const struct ft_graph *g, int node);
int ft_graph_values(const struct ft_graph *g);
const struct ft_type *ft_graph_type(const struct ft_graph *g, ft_value v);
const char *ft_graph_name(const struct ft_graph *g, ft_value v); /* unique in the graph */
FT_MUST_CHECK enum ft_status ft_graph_rename(struct ft_graph *g, ft_value v, const char *name,
                                             struct ft_err *err);
ft_value ft_graph_find(const struct ft_graph *g, const char *name); /* FT_NO_VALUE */
enum ft_source ft_graph_source(const struct ft_graph *g, ft_value v);
int ft_graph_producer(const struct ft_graph *g, ft_value v);     /* node, or -1 */
const void *ft_graph_data(const struct ft_graph *g, ft_value v); /* of a parameter or constant, else NULL */
int ft_graph_inputs(const struct ft_graph *g);
ft_value ft_graph_input_at(const struct ft_graph *g, int i);
int ft_graph_outputs(const struct ft_graph *g);
ft_value ft_graph_output_at(const struct ft_graph *g, int i);
const char *ft_graph_output_name(const struct ft_graph *g, int i);
int ft_graph_params(const struct ft_graph *g);
ft_value ft_graph_param_at(const struct ft_graph *g, int param);
enum ft_param_role ft_graph_param_role(const struct ft_graph *g, int param);
bool ft_graph_param_frozen(const struct ft_graph *g, int param);
int ft_graph_param_of(const struct ft_graph *g, ft_value v); /* parameter number, or -1 */

/* ---- training
 * Turn the model part into its training form: a BATCHNORM whose scale or bias is not frozen becomes
 * BATCHNORM_TRAIN (its running statistics move by its a.momentum; their new values are listed in the update
 * pairs), and DROPOUT stays; frozen ones stay as they are. Where nodes are marked for it (a.drops) training
 * drops: a DROPOUT comes behind the node, or ATTENTION drops its weights. dropout: the probability at all
 * marks; below 0: what each of them says. `rng` is the graph's (2) I64 input, used by what drops: it is there
 * if anything does. Nodes that drop are numbered in their order, so equal graphs drop alike. */
struct ft_state_update {
    int param;      /* the state parameter */
    ft_value value; /* what it becomes after the step */
};
struct ft_train_form {
    struct ft_graph *graph; /* owned: ft_graph_free(); same inputs, outputs, parameters (same numbers) */
    struct ft_state_update *updates; /* ft_free() */
    int n_updates;
};
FT_MUST_CHECK enum ft_status ft_graph_train_form(const struct ft_graph *g, double dropout,
                                                 struct ft_train_form *out, struct ft_err *err);
/* Mark the node that makes v: training drops v with that probability (v of ATTENTION: its weights). */
void ft_graph_mark_dropout(struct ft_graph *g, ft_value v, double probability);

/* Reverse mode: append to g the nodes that compute d loss / d wrt[i] for scalar `loss`; grad[i] = FT_NO_VALUE
 * if loss does not depend on wrt[i]. FT_UNSUPPORTED names the node whose op has no gradient on a path that
 * needs one. The gradient builder of each op stands in one table (grad.c). */
FT_MUST_CHECK enum ft_status ft_graph_backward(struct ft_graph *g, ft_value loss, const ft_value *wrt,
                                               int n_wrt, ft_value *grad, struct ft_err *err);
/* Does every wrt[i] that the loss is computed from have a gradient? FT_UNSUPPORTED names one that takes part
 * only through ops without a gradient (a comparison, an index), and the first of them. */
FT_MUST_CHECK enum ft_status ft_graph_check_trained(const struct ft_graph *g, ft_value loss,
                                                    const ft_value *wrt, int n_wrt, const ft_value *grad,
                                                    struct ft_err *err);
#endif
