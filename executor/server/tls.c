#include "executor/server/tls.h"

#include <string.h>
#include <sys/stat.h>

#include "executor/base/clock.h"
#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/codec/pem.h"

enum { SOON_SECONDS = 14 * 24 * 3600 };

static enum ft_status read_file(const char *setting, const char *path, struct ft_buf *text,
                                struct ft_err *err)
{
    enum ft_status st = ft_file_read(path, FT_MAX_CONFIG_BYTES, text, err);
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s", setting);
}

static enum ft_status told(enum ft_status st, const char *setting, const char *path, struct ft_err *err)
{
    return st == FT_OK ? FT_OK : ft_err_wrap(err, "%s: %s", setting, path);
}

/* Clients will refuse it then: better read in the log beforehand. */
static void say_end(const char *path, int64_t expires)
{
    char until[FT_CLOCK_TEXT];
    ft_clock_iso(expires * 1000, until);
    bool soon = expires - ft_clock_unix_ms() / 1000 < SOON_SECONDS;
    ft_log_line(soon ? FT_LOG_WARNING : FT_LOG_INFO, "server", "certificate file=\"%s\" expires=%s", path,
                until);
}

static enum ft_status read_own(const struct ft_config *config, struct ft_tls *tls, struct ft_err *err)
{
    int64_t expires = 0;
    FT_RETURN_IF_FAILED(read_file("tls_cert", config->tls_cert, &tls->certificate, err));
    FT_RETURN_IF_FAILED(read_file("tls_key", config->tls_key, &tls->key, err));
    struct ft_bytes certificate = ft_buf_bytes(&tls->certificate);
    FT_RETURN_IF_FAILED(
        told(ft_pem_certificate(certificate, &expires, err), "tls_cert", config->tls_cert, err));
    FT_RETURN_IF_FAILED(
        told(ft_pem_key(ft_buf_bytes(&tls->key), certificate, err), "tls_key", config->tls_key, err));
    say_end(config->tls_cert, expires);
    return FT_OK;
}

enum ft_status ft_tls_read(const struct ft_config *config, struct ft_tls *tls, struct ft_err *err)
{
    bool cert = config->tls_cert[0] != '\0';
    bool key = config->tls_key[0] != '\0';
    bool ca = config->tls_client_ca[0] != '\0';
    *tls = (struct ft_tls){0};
    if (cert != key) {
        return FT_FAIL(err, INVALID, "%s is set and %s is not: TLS needs both", cert ? "tls_cert" : "tls_key",
                       cert ? "tls_key" : "tls_cert");
    }
    if (ca && !cert) { /* else clients would be let in unasked */
        return FT_FAIL(err, INVALID, "tls_client_ca is set without tls_cert and tls_key");
    }
    if (cert) {
        FT_RETURN_IF_FAILED(read_own(config, tls, err));
    }
    if (ca) {
        FT_RETURN_IF_FAILED(read_file("tls_client_ca", config->tls_client_ca, &tls->client_ca, err));
        FT_RETURN_IF_FAILED(told(ft_pem_roots(ft_buf_bytes(&tls->client_ca), err), "tls_client_ca",
                                 config->tls_client_ca, err));
    }
    tls->texts = (struct ft_rpc_server_tls){.certificate = ft_buf_bytes(&tls->certificate),
                                            .key = ft_buf_bytes(&tls->key),
                                            .client_roots = ft_buf_bytes(&tls->client_ca)};
    return FT_OK;
}

bool ft_tls_changed(const struct ft_config *config, struct ft_tls_stamp *stamp)
{
    const char *const paths[] = {config->tls_cert, config->tls_key, config->tls_client_ca};
    struct ft_tls_stamp now = {0};
    for (size_t i = 0; i < 3; i++) {
        struct stat s;
        if (paths[i][0] != '\0' && stat(paths[i], &s) == 0) {
            now.changed_ns[i] = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
            now.inode[i] = (int64_t)s.st_ino;
            now.bytes[i] = (int64_t)s.st_size;
        }
    }
    bool changed = memcmp(&now, stamp, sizeof now) != 0;
    *stamp = now;
    return changed;
}

void ft_tls_release(struct ft_tls *tls)
{
    if (tls->key.data != NULL) {
        explicit_bzero(tls->key.data, tls->key.capacity);
    }
    ft_buf_release(&tls->certificate);
    ft_buf_release(&tls->key);
    ft_buf_release(&tls->client_ca);
}
