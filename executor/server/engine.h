/*
 * engine.h - what the service needs of the model engine: open, prepare, compute, check a run's options.
 *
 * The one table in engine.c does it with train/encoder.h and train/fit.h; tests of the service bring their
 * own. Threads: everything with an encoder is called from the one thread that owns the device; check_fit from
 * any.
 */
#ifndef FT_SERVER_ENGINE_H
#define FT_SERVER_ENGINE_H

#include "executor/codec/content.h"
#include "executor/config/config.h"

struct ft_engine {
    enum ft_status (*open)(const struct ft_config *config, const char *model, void **encoder,
                           struct ft_err *err);
    void (*close)(void *encoder);
    size_t (*dim)(void *encoder);
    size_t (*row_size)(void *encoder); /* floats of one prepared input */
    enum ft_status (*prepare)(void *encoder, const struct ft_content *content, float *row,
                              struct ft_err *err);
    /* rows <= config->encode_batch_size */
    enum ft_status (*compute)(void *encoder, const float *rows_in, size_t rows, float *out,
                              struct ft_err *err);
    enum ft_status (*check_fit)(const struct ft_json *options, struct ft_err *err);
};

const struct ft_engine *ft_engine_standard(void);
#endif
