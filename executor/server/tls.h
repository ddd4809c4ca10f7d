/*
 * tls.h - the service's certificate, key and trusted clients, from the files that the config names; private
 * to server/.
 */
#ifndef FT_SERVER_TLS_H
#define FT_SERVER_TLS_H

#include "executor/config/config.h"
#include "executor/rpc/server.h"

struct ft_tls {
    struct ft_buf certificate, key, client_ca;
    struct ft_rpc_server_tls texts; /* the same, for the server */
};

/* Which versions of the files were looked at last. */
struct ft_tls_stamp {
    int64_t changed_ns[3], inode[3], bytes[3];
};
/* True when a file is another one than at the last call; never without TLS. */
bool ft_tls_changed(const struct ft_config *config, struct ft_tls_stamp *stamp);

/* Reads and checks them; all empty: no TLS. Errors name the setting and the file: FT_NOT_FOUND, FT_IO (may
 * not be read), FT_CORRUPT, FT_UNSUPPORTED, FT_INVALID (the key is another's; one without the other).
 * ft_tls_release() in every case. */
FT_MUST_CHECK enum ft_status ft_tls_read(const struct ft_config *config, struct ft_tls *tls,
                                         struct ft_err *err);
void ft_tls_release(struct ft_tls *tls); /* the key's bytes are wiped */
#endif
