/*
 * serve.h - the service: everything `finetuner serve` and `jina executor` do between start and exit.
 */
#ifndef FT_SERVER_SERVE_H
#define FT_SERVER_SERVE_H

#include "executor/base/thread.h"
#include "executor/config/config.h"

/* Runs until `cancel` is set (by the caller's SIGTERM and SIGINT handler), then drains: NOT_SERVING, requests
 * in hand are answered, workers checkpoint and are resumed at the next start; FT_OK. Fails before serving
 * when the port is taken (FT_UNAVAILABLE), the workspace is in use by another process (FT_BUSY) or cannot be
 * written, or the configured model does not load. Health answers SERVING only once the model is loaded. Call
 * from the main thread; spawns threads and, for runs, processes of this program: `finetuner worker ...`. */
FT_MUST_CHECK enum ft_status ft_serve(const struct ft_config *config, const struct ft_cancel *cancel,
                                      struct ft_err *err);
#endif
