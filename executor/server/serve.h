/*
 * serve.h - the service: everything `finetuner serve` and `jina executor` do between start and exit.
 */
#ifndef FT_SERVER_SERVE_H
#define FT_SERVER_SERVE_H

#include "executor/base/thread.h"
#include "executor/config/config.h"

/* Started under the name `jina`, so most likely in a container of Jina's: its ContainerPod (3.34,
 * jina/orchestrate/pods/container.py) asks whether a container is ready only between two lines of its log,
 * and a Flow would wait for ever for one that has said all it has to say. So that it is ready is said again,
 * at growing intervals, until somebody has asked. */
enum ft_started_as { FT_STARTED_AS_ITSELF, FT_STARTED_AS_JINA };

/* Runs until `cancel` is set (by the caller's SIGTERM and SIGINT handler), then drains: NOT_SERVING, requests
 * in hand are answered, workers checkpoint and are resumed at the next start; FT_OK. Fails before serving
 * when the port is taken (FT_UNAVAILABLE), the workspace is in use by another process (FT_BUSY) or cannot be
 * written, or the configured model does not load. Health answers SERVING only once the model is loaded. Call
 * from the main thread; spawns threads and, for runs, processes of this program: `finetuner worker ...`. */
FT_MUST_CHECK enum ft_status ft_serve(const struct ft_config *config, enum ft_started_as as,
                                      const struct ft_cancel *cancel, struct ft_err *err);
#endif
