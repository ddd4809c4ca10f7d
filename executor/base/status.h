/*
 * status.h - the one error convention: a status is returned, its story is written into struct ft_err.
 *
 * The first failure is recorded by FT_FAIL() with file and line; callers may put context in front of it with
 * ft_err_wrap() and pass the status on. On failure a function's outputs are NULL/zero and the caller owns
 * nothing new. Library code never prints, exits or aborts.
 * Thread-safety: a struct ft_err belongs to one thread at a time.
 */
#ifndef FT_BASE_STATUS_H
#define FT_BASE_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* name, text, what it means. server/ maps these to gRPC codes and cli/ to exit codes, each in one switch. */
#define FT_STATUS_LIST(X)                                                                                    \
    X(OK, "ok")                   /* no failure */                                                           \
    X(USAGE, "usage")             /* the command line or a call's options are wrong (exit 2) */              \
    X(INVALID, "invalid")         /* input from outside is wrong: value, shape, syntax (exit 3) */           \
    X(UNSUPPORTED, "unsupported") /* input is legal but we do not do it (exit 3) */                          \
    X(CORRUPT, "corrupt")         /* a file or message fails its checks (exit 3) */                          \
    X(LIMIT, "limit")             /* a limit of limits.h or of the config is exceeded (exit 3) */            \
    X(NOT_FOUND, "not found")     /* a file, run, dataset or model does not exist (exit 4) */                \
    X(EXISTS, "exists")           /* it exists already (exit 3) */                                           \
    X(UNAVAILABLE, "unavailable") /* a peer or resource is not there now; trying again may help (exit 5) */  \
    X(BUSY, "busy")               /* a bounded queue is full (RESOURCE_EXHAUSTED; exit 5) */                 \
    X(CANCELLED, "cancelled")     /* somebody asked to stop (exit 1; after a Ctrl-C checkpoint too) */       \
    X(DIVERGED, "diverged")       /* a loss or gradient is not finite (exit 1) */                            \
    X(NOMEM, "out of memory")     /* (exit 1) */                                                             \
    X(IO, "input/output")         /* the operating system refused a read or write (exit 1) */                \
    X(INTERNAL, "internal")       /* a bug of ours or of a library (exit 1) */

enum ft_status {
#define FT_STATUS_ENUM(name, text) FT_##name,
    FT_STATUS_LIST(FT_STATUS_ENUM)
#undef FT_STATUS_ENUM
        FT_STATUS_COUNT
};

enum { FT_ERR_TEXT = 1024 };

/* Where and why something failed first. Initialise with {0} or ft_err_clear(). */
struct ft_err {
    enum ft_status code;
    int line;
    const char *file;       /* __FILE__ of the failure */
    char text[FT_ERR_TEXT]; /* one line, UTF-8, no trailing newline; cut at the end if too long */
};

#if defined(__GNUC__)
#define FT_MUST_CHECK __attribute__((warn_unused_result))
#define FT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define FT_MUST_CHECK
#define FT_PRINTF(fmt, args)
#endif

const char *ft_status_text(enum ft_status code);

/* Record a failure and return `code`. Control characters in the finished text are replaced by '?'. */
enum ft_status ft_err_set(struct ft_err *err, enum ft_status code, const char *file, int line,
                          const char *fmt, ...) FT_PRINTF(5, 6);

/* Put "<context>: " in front of the recorded text; returns err->code so `return ft_err_wrap(...)` works. */
enum ft_status ft_err_wrap(struct ft_err *err, const char *fmt, ...) FT_PRINTF(2, 3);

void ft_err_clear(struct ft_err *err);

#define FT_FAIL(err, code, ...) ft_err_set((err), FT_##code, __FILE__, __LINE__, __VA_ARGS__)

/* In a function with `enum ft_status st` and a label `done:`. */
#define FT_TRY(call)                                                                                         \
    do {                                                                                                     \
        st = (call);                                                                                         \
        if (st != FT_OK) {                                                                                   \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

/* The same for functions that own nothing to release. */
#define FT_RETURN_IF_FAILED(call)                                                                            \
    do {                                                                                                     \
        enum ft_status ft_st_ = (call);                                                                      \
        if (ft_st_ != FT_OK) {                                                                               \
            return ft_st_;                                                                                   \
        }                                                                                                    \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
