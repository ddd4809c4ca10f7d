/*
 * engine.h - what the service needs of the model engine: open, encode, check a run's options.
 *
 * The one table in engine.c does it with train/encoder.h and train/fit.h; tests of the service bring their
 * own. Threads: an encoder is one thread's at a time, first the loader's, then the encode thread's
 * (models.h); check_fit is called from any.
 */
#ifndef FT_SERVER_ENGINE_H
#define FT_SERVER_ENGINE_H

#include "executor/config/config.h"
#include "executor/wire/document.h"

struct ft_engine {
    /* Ready to compute at once: plans and packed weights of a first batch are there. */
    enum ft_status (*open)(const struct ft_config *config, const char *model, void **encoder,
                           struct ft_err *err);
    void (*close)(void *encoder);
    size_t (*dim)(void *encoder);
    size_t (*bytes)(void *encoder); /* of memory that it takes, as it is now */
    /* About how many tokens the Document becomes; 0 where there are none. Cheap: by its length. */
    size_t (*weight)(void *encoder, const struct ft_document *doc);
    /* docs[0 .. count) -> out (count, dim). *failed: the Document that could not be prepared, which the
     * caller names, else count. */
    enum ft_status (*encode)(void *encoder, const struct ft_document *docs, size_t count, float *out,
                             size_t *failed, struct ft_err *err);
    enum ft_status (*check_fit)(const struct ft_json *options, struct ft_err *err);
    /* Whether a model that somebody sent can be loaded; called from any thread, one at a time. */
    enum ft_status (*check_model)(const char *path, struct ft_err *err);
};

const struct ft_engine *ft_engine_standard(void);
#endif
