/*
 * manifest.h - what a dataset folder of the service says about itself: format, version, the form of its
 * Documents.
 *
 * A small JSON file, written once. Private to store/. Thread-safety: any thread.
 */
#ifndef FT_STORE_MANIFEST_H
#define FT_STORE_MANIFEST_H

#include "executor/base/status.h"

/* Write `dir`/manifest when it is missing, else check it. */
FT_MUST_CHECK enum ft_status ft_manifest_ensure(const char *dir, struct ft_err *err);
/* FT_NOT_FOUND: no dataset is there; FT_UNSUPPORTED: another program's or a newer version's; FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_manifest_check(const char *dir, struct ft_err *err);
#endif
