/*
 * snapshot.h - one state of a dataset, kept while Documents come in and shards are made anew.
 *
 * A snapshot is a dataset folder of its own that ft_dataset_open_set() opens: hard links to the shards and
 * journals of a moment, and a manifest that says how many bytes of each journal count. It costs no copying
 * where the file system has links. Thread-safety: any thread.
 */
#ifndef FT_STORE_SNAPSHOT_H
#define FT_STORE_SNAPSHOT_H

#include "executor/base/status.h"

/* Make `to`, durable when it returns, of the dataset folder `from`, which another process may be writing:
 * everything it has acknowledged is in. An existing `to` is taken for one that was made before. */
FT_MUST_CHECK enum ft_status ft_snapshot_make(const char *from, const char *to, struct ft_err *err);
#endif
