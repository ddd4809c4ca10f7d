#include <pthread.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/rpc/internal.h"

struct texts {
    char *certificate, *key, *roots; /* roots NULL: clients need not show who they are */
};

struct ft_rpc_secure {
    bool asks_who;         /* settled at the start: with or without client_ca */
    pthread_mutex_t mutex; /* guards what follows; gRPC's threads take it: never held across a wait */
    struct texts texts;
    bool fresh; /* gRPC has not asked for these yet */
};

static void texts_release(struct texts *texts)
{
    if (texts->key != NULL) {
        explicit_bzero(texts->key, strlen(texts->key));
    }
    ft_free(texts->certificate);
    ft_free(texts->key);
    ft_free(texts->roots);
    *texts = (struct texts){0};
}

static enum ft_status copy_text(struct ft_bytes from, char **to, struct ft_err *err)
{
    *to = from.size > 0 ? ft_strndup((const char *)from.data, from.size) : NULL;
    return from.size == 0 || *to != NULL ? FT_OK : FT_FAIL(err, NOMEM, "out of memory for TLS");
}

static enum ft_status copy_texts(const struct ft_rpc_server_tls *tls, struct texts *texts, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    FT_TRY(copy_text(tls->certificate, &texts->certificate, err));
    FT_TRY(copy_text(tls->key, &texts->key, err));
    FT_TRY(copy_text(tls->client_roots, &texts->roots, err));
done:
    if (st != FT_OK) {
        texts_release(texts);
    }
    return st;
}

enum ft_status ft_rpc_secure_new(const struct ft_rpc_server_tls *tls, struct ft_rpc_secure **secure,
                                 struct ft_err *err)
{
    struct ft_rpc_secure *s = NULL;
    *secure = NULL;
    FT_RETURN_IF_FAILED(ft_new(1, sizeof *s, &s, err));
    (void)pthread_mutex_init(&s->mutex, NULL);
    enum ft_status st = copy_texts(tls, &s->texts, err);
    if (st != FT_OK) {
        ft_rpc_secure_free(s);
        return st;
    }
    s->fresh = true;
    s->asks_who = s->texts.roots != NULL;
    *secure = s;
    return FT_OK;
}

void ft_rpc_secure_free(struct ft_rpc_secure *secure)
{
    if (secure != NULL) {
        texts_release(&secure->texts);
        (void)pthread_mutex_destroy(&secure->mutex);
        ft_free(secure);
    }
}

enum ft_status ft_rpc_secure_renew(struct ft_rpc_secure *secure, const struct ft_rpc_server_tls *tls,
                                   struct ft_err *err)
{
    struct texts texts = {0};
    if (secure->asks_who != (tls->client_roots.size > 0)) {
        return FT_FAIL(err, INVALID, "whether clients are asked who they are is settled at the start");
    }
    FT_RETURN_IF_FAILED(copy_texts(tls, &texts, err));
    (void)pthread_mutex_lock(&secure->mutex);
    texts_release(&secure->texts);
    secure->texts = texts;
    secure->fresh = true;
    (void)pthread_mutex_unlock(&secure->mutex);
    return FT_OK;
}

/* Asked at the start and by each connection that comes. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **config)
{
    struct ft_rpc_secure *secure = arg;
    grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    (void)pthread_mutex_lock(&secure->mutex);
    if (secure->fresh) {
        const grpc_ssl_pem_key_cert_pair pair = {secure->texts.key, secure->texts.certificate};
        /* gRPC insists on roots here; of clients that are not asked it compares nothing with them. */
        const char *roots = secure->texts.roots != NULL ? secure->texts.roots : secure->texts.certificate;
        *config = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
        status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
        secure->fresh = false;
    }
    (void)pthread_mutex_unlock(&secure->mutex);
    return status;
}

grpc_server_credentials *ft_rpc_secure_credentials(struct ft_rpc_secure *secure)
{
    grpc_ssl_client_certificate_request_type ask =
        secure->asks_who ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                         : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(ask, fetch, secure));
}
