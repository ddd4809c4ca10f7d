/*
 * stored.h - models in the workspace's folder `models`, put there by hand or by PushModel.
 *
 * By hand: "NAME.onnx", "NAME.zip" or a folder "NAME". By PushModel: a folder "NAME" with FT_UPLOAD_ABOUT
 * (upload.h), which says what in it is loaded. Thread-safety: any thread.
 */
#ifndef FT_SERVER_STORED_H
#define FT_SERVER_STORED_H

#include "executor/base/status.h"
#include "executor/server/upload.h"

struct ft_stored {
    char *root;                 /* what is the model's, to be removed; NULL: there is none of that name */
    char *path;                 /* what is loaded: root, or something in it */
    char sha256[FT_SHA256_HEX]; /* of the content; "": put there by hand */
    uint64_t bytes;             /* of all its files; 0: a folder put there by hand */
};
/* A name that is none finds nothing. FT_CORRUPT: FT_UPLOAD_ABOUT is damaged; root is found.
 * ft_stored_release() in every case. */
FT_MUST_CHECK enum ft_status ft_stored_find(const char *models, const char *name, struct ft_stored *stored,
                                            struct ft_err *err);
/* The one at that path, put there by hand. */
FT_MUST_CHECK enum ft_status ft_stored_at(const char *path, struct ft_stored *stored, struct ft_err *err);
void ft_stored_release(struct ft_stored *stored);
#endif
