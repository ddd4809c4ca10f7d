/*
 * uploads.h - the folder of models as clients send there: who sends what now, and how much lies there that is
 * no model yet; private to server/.
 *
 * Of uploads that are not finished, one that is sent now counts with all the bytes it announced, one that was
 * cut with those that lie there. Together they have at most bytes_max: where one that begins needs their
 * room, those that were cut go, the oldest first; where that would not do, it is refused and they stay. What
 * nobody went on with for a day goes when the next one begins.
 *
 * One process at a time has the workspace (runs/runs.h), so who sends what is known in memory and no folder
 * is locked: a file system like NFS refuses flock() of a folder. What is asked of a file system is that
 * rename() of a folder to a free name is all or nothing, and that fsync(), fdatasync() or close() says what
 * was not written (NFS may say it at close() only). A model that is removed while it is served may stay
 * hidden for a while, as NFS keeps a file that somebody has open under another name. Ages are compared with
 * the file system's clock to about a day.
 *
 * Thread-safety: any thread.
 */
#ifndef FT_SERVER_UPLOADS_H
#define FT_SERVER_UPLOADS_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/base/status.h"

#define FT_UPLOAD_PART ".push-" /* names of folders that are not whole; the content's SHA-256 follows */
#define FT_UPLOAD_GONE ".gone-" /* and of those that are being removed */

enum { FT_UPLOADS_CHECKED = 2 }; /* models whose bytes are read and hashed at the same time */

struct ft_uploads; /* opaque */
/* models: the folder, which is there. What earlier processes left half removed, or cut for a day, goes, and
 * more where bytes_max is less than it was; what cannot be removed is counted. */
FT_MUST_CHECK enum ft_status ft_uploads_new(const char *models, uint64_t bytes_max,
                                            struct ft_uploads **uploads, struct ft_err *err);
void ft_uploads_free(struct ft_uploads *uploads); /* nobody sends any more; NULL is fine */
const char *ft_uploads_models(const struct ft_uploads *uploads);

/* The content of that SHA-256, of so many bytes, is the caller's alone until ft_uploads_leave(). FT_BUSY:
 * somebody else has it; FT_LIMIT: there is no room for it now. */
FT_MUST_CHECK enum ft_status ft_uploads_enter(struct ft_uploads *uploads, const char *sha256, uint64_t bytes,
                                              struct ft_err *err);
void ft_uploads_leave(struct ft_uploads *uploads, const char *sha256);

/* One more of FT_UPLOADS_CHECKED; true: until ft_uploads_checked(). */
bool ft_uploads_check(struct ft_uploads *uploads);
void ft_uploads_checked(struct ft_uploads *uploads);

/* A model with a name goes: at once for others, also when it is a folder. */
FT_MUST_CHECK enum ft_status ft_uploads_remove(const struct ft_uploads *uploads, const char *path,
                                               struct ft_err *err);
/* The service's paths out of a text for clients: of a model and of an upload the name inside it stays, of
 * the folder its own. */
void ft_uploads_hide(const struct ft_uploads *uploads, char *text);
#endif
