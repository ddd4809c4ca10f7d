/*
 * models.h - the models in memory: loaded by a thread of their own, so that requests for those that are there
 * go on, and let go by bytes, the one not used longest first; private to server/.
 *
 * The loader thread owns an encoder and its device while it is loaded, warmed and closed; in between they are
 * the encode thread's. They change hands under the table's mutex, so each has one owner at a time. Loading
 * computes a little, with OpenMP threads of the loader's own; nothing of a device is kept for each thread
 * (oneDNN's scratch is ours), so it makes no difference to what the encode thread gets.
 *
 * Thread-safety: any thread unless said otherwise.
 */
#ifndef FT_SERVER_MODELS_H
#define FT_SERVER_MODELS_H

#include "executor/server/engine.h"

struct ft_models; /* opaque */
struct ft_served; /* one model that somebody wants: it stays at least until everybody has dropped it */

struct ft_models_options { /* borrowed while the table lives */
    const struct ft_config *config;
    const struct ft_engine *engine;
    /* Called by the loader, no lock held: a load has ended, well or not. */
    void (*settled)(void *encode);
    void *encode;
    /* The model of a ft_models_swap() is served, or cannot be, which was logged. Called by the loader or by
     * ft_models_swap(), no lock held. */
    void (*swapped)(void *service, const char *note);
    void *service;
};
FT_MUST_CHECK enum ft_status ft_models_new(const struct ft_models_options *options, struct ft_models **models,
                                           struct ft_err *err);
/* A load under way is finished, others are not begun. Everything must have been dropped. NULL is fine. */
void ft_models_free(struct ft_models *models);

/* The model of that path, which is loaded if it is not there. *served: ft_models_drop(). */
FT_MUST_CHECK enum ft_status ft_models_want(struct ft_models *models, const char *path,
                                            struct ft_served **served, struct ft_err *err);
/* How many are loaded, and the bytes that they take. */
void ft_models_loaded(struct ft_models *models, size_t *count, size_t *bytes);
void ft_models_drop(struct ft_models *models, struct ft_served *served);
enum ft_served_state {
    FT_SERVED_LOADING,
    FT_SERVED_READY,
    FT_SERVED_BROKEN /* for those who waited; whoever wants it next has it loaded anew */
};
enum ft_served_state ft_models_state(struct ft_models *models, const struct ft_served *served);
/* The encode thread's, of a model that is ready. */
void *ft_served_encoder(const struct ft_served *served);
void ft_models_ran(struct ft_models *models, struct ft_served *served); /* what it takes may have changed */
/* Of a broken one: FT_OK never. */
enum ft_status ft_models_why(struct ft_models *models, const struct ft_served *served, struct ft_err *err);

/* What is computed with when a request names no model; *path is the caller's, NULL: none yet. */
FT_MUST_CHECK enum ft_status ft_models_current(struct ft_models *models, char **path, struct ft_err *err);
/* Load it and then make it the current one; until then, and if that fails, the old one is. `note` comes back.
 * Without memory to do so it is logged. */
void ft_models_swap(struct ft_models *models, const char *path, const char *note);
/* The same, waiting for it. */
FT_MUST_CHECK enum ft_status ft_models_begin(struct ft_models *models, const char *path, struct ft_err *err);
#endif
