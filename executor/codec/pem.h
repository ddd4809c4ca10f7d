/*
 * pem.h - certificates and private keys in PEM: whether they are any, and belong together (OpenSSL).
 *
 * gRPC takes them as text and says little about what is wrong with it: this is asked first.
 * Thread-safety: any thread.
 */
#ifndef FT_CODEC_PEM_H
#define FT_CODEC_PEM_H

#include <stdint.h>

#include "executor/base/bytes.h"

/* A server's or client's certificate, followed by those that vouch for it. *expires: seconds since 1970.
 * FT_CORRUPT: no certificate, or one that cannot be read; FT_INVALID: TLS takes none so weak. */
FT_MUST_CHECK enum ft_status ft_pem_certificate(struct ft_bytes text, int64_t *expires, struct ft_err *err);
/* Certificates that are trusted: at least one, all of them readable. FT_CORRUPT. */
FT_MUST_CHECK enum ft_status ft_pem_roots(struct ft_bytes text, struct ft_err *err);
/* A key without a passphrase. FT_CORRUPT; FT_UNSUPPORTED: it is encrypted; FT_INVALID: it is another
 * certificate's. */
FT_MUST_CHECK enum ft_status ft_pem_key(struct ft_bytes text, struct ft_bytes certificate,
                                        struct ft_err *err);
#endif
