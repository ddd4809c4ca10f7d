/*
 * upload.h - a model that comes in pieces: a hidden folder in the workspace's `models` until all of it is
 * there, checked and on the disk; then it gets its name, at once; private to server/.
 *
 * A model is files, whose bytes come one file after another in the order of the list, which is by name. What
 * is there of a cut upload stays for a day, in a folder named after the model's content, so that whoever
 * sends the same goes on there. Beside the files lies FT_UPLOAD_ABOUT, which says what they are (stored.h
 * reads it). Thread-safety: one thread at a time uses an upload; any number of threads have one each.
 */
#ifndef FT_SERVER_UPLOAD_H
#define FT_SERVER_UPLOAD_H

#include "executor/codec/digest.h"
#include "executor/codec/json.h"
#include "executor/server/uploads.h"
#include "executor/wire/v1.h"

#define FT_UPLOAD_ABOUT ".model.json"

/* What is to come; all borrows from the JSON of a ModelUpload. */
struct ft_upload_file {
    const char *name; /* relative: "onnx/model.onnx" */
    uint64_t bytes;
    const char *sha256;
};
struct ft_upload_spec {
    const char *name, *entry;
    struct ft_upload_file *files;
    size_t count;
    uint64_t bytes;             /* of all files */
    char sha256[FT_SHA256_HEX]; /* of the content: ft_v1_model_digest() */
};
/* Checked whole: FT_INVALID, or FT_LIMIT above bytes_max, with the field at fault. ft_upload_spec_release()
 * in every case. */
FT_MUST_CHECK enum ft_status ft_upload_spec_read(const struct ft_json *model, uint64_t bytes_max,
                                                 struct ft_upload_spec *spec, struct ft_v1_fault *fault,
                                                 struct ft_err *err);
void ft_upload_spec_release(struct ft_upload_spec *spec);

struct ft_upload; /* opaque */
/* Goes on where an upload of the same content was cut. uploads and spec are borrowed while the upload lives.
 * FT_BUSY: another one is under way; FT_LIMIT: no room, as ft_uploads_enter() says. */
FT_MUST_CHECK enum ft_status ft_upload_open(struct ft_uploads *uploads, const struct ft_upload_spec *spec,
                                            struct ft_upload **upload, struct ft_err *err);
uint64_t ft_upload_have(const struct ft_upload *upload); /* bytes, of all files */
bool ft_upload_resumed(const struct ft_upload *upload);  /* some of them came in another call */
/* FT_INVALID: not the bytes at ft_upload_have(), or more than there are to come; FT_IO: the disk refuses. */
FT_MUST_CHECK enum ft_status ft_upload_write(struct ft_upload *upload, uint64_t offset, struct ft_bytes data,
                                             struct ft_err *err);
/* All of it is there: each file against its hash, and to the disk. FT_CORRUPT: file number *bad is another;
 * FT_CANCELLED: stop(arg) said so. */
FT_MUST_CHECK enum ft_status ft_upload_verify(const struct ft_upload *upload, bool (*stop)(const void *arg),
                                              const void *arg, size_t *bad, struct ft_err *err);
/* Where what is to be loaded lies meanwhile; *path is the caller's. */
FT_MUST_CHECK enum ft_status ft_upload_entry(const struct ft_upload *upload, char **path, struct ft_err *err);
/* It was verified: from now on it is models/NAME, also after a crash. */
FT_MUST_CHECK enum ft_status ft_upload_publish(struct ft_upload *upload, struct ft_err *err);
/* What is there goes. */
FT_MUST_CHECK enum ft_status ft_upload_discard(struct ft_upload *upload, struct ft_err *err);
void ft_upload_close(struct ft_upload *upload); /* what is there stays; NULL is fine */
#endif
