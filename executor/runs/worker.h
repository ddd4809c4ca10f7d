/*
 * worker.h - the body of `finetuner worker --run ID --data-dir DIR`: one run in a process of its own.
 *
 * Reads runs/ID/spec.json, opens the dataset's journal, calls ft_fit() with events appended to
 * runs/ID/events.jsonl, writes the artifact to artifacts/ID/ and, last, runs/ID/result.json: its absence
 * after the process ended is a crash, or a disk that refuses, which the service is told by a pipe. A run
 * found with a checkpoint goes on from there. `cancel` is set by the caller's SIGTERM handler: a checkpoint
 * is written and the result says CANCELLED. The worker ends itself when its parent dies.
 */
#ifndef FT_RUNS_WORKER_H
#define FT_RUNS_WORKER_H

#include "executor/base/thread.h"

/* FT_OK also when the run was cancelled; any failure is in result.json as well, or was told to the service.
 */
FT_MUST_CHECK enum ft_status ft_worker_main(const char *data_dir, const char *run,
                                            const struct ft_cancel *cancel, struct ft_err *err);
#endif
