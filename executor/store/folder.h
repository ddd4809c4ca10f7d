/*
 * folder.h - a dataset folder of the service looked at from outside: figures, a check of every byte, a copy.
 *
 * All of it may go on while a service writes the dataset: what is acknowledged when it begins is looked at.
 * Thread-safety: any thread.
 */
#ifndef FT_STORE_FOLDER_H
#define FT_STORE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/base/status.h"

/* Names of datasets: 1 to 64 letters, digits, '-', '_', '.'. Those that begin with a dot are hidden: of a
 * service's own, they come and go, nobody can name them and no list shows them. */
enum { FT_DATASET_NAME = 65 };
#define FT_DATASET_HIDDEN "."
bool ft_dataset_name_hidden(const char *name);
bool ft_dataset_name_valid(const char *name); /* one that a user may choose */

struct ft_folder_info {
    size_t documents, classes;
    size_t replaced; /* Documents still on the disk that later ones replace or delete */
    size_t shards, journals;
    uint64_t bytes; /* of shards and journals */
};
/* FT_NOT_FOUND: no dataset is there; FT_CORRUPT names the file. */
FT_MUST_CHECK enum ft_status ft_folder_look(const char *dir, struct ft_folder_info *info, struct ft_err *err);
/* The same after reading every record: its checksum, its place, its id. */
FT_MUST_CHECK enum ft_status ft_folder_verify(const char *dir, struct ft_folder_info *info,
                                              struct ft_err *err);
/* All Documents as they were sent, class by class, as DocumentArray.save_binary(protocol='protobuf') of
 * docarray 0.21 writes them (DocList's of 0.40 when the first is one of v2), so that `finetuner fit` and
 * Python read them. *documents: how many. FT_INVALID: both docarrays wrote some. */
FT_MUST_CHECK enum ft_status ft_folder_export(const char *dir, const char *path, size_t *documents,
                                              struct ft_err *err);
#endif
