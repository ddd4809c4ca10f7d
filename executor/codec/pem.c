#include "executor/codec/pem.h"

#include <limits.h>
#include <stdbool.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static enum ft_status open_text(struct ft_bytes text, BIO **bio, struct ft_err *err)
{
    *bio = text.size <= INT_MAX
               ? BIO_new_mem_buf(text.size > 0 ? (const void *)text.data : "", (int)text.size)
               : NULL;
    return *bio != NULL ? FT_OK : FT_FAIL(err, NOMEM, "out of memory reading PEM");
}

/* The next certificate; NULL: none follows, or (*damaged) one that cannot be read. */
static X509 *next_certificate(BIO *bio, bool *damaged)
{
    ERR_clear_error();
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    *damaged = certificate == NULL && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
    ERR_clear_error();
    return certificate;
}

static int64_t expires_at(const X509 *certificate)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* gRPC fails with it otherwise when it is too late to say why: a key that is too short, a weak signature. */
static enum ft_status taken_by_tls(X509 *certificate, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL) {
        st = FT_FAIL(err, NOMEM, "out of memory for TLS");
    } else if (SSL_CTX_use_certificate(context, certificate) != 1) {
        const char *why = ERR_reason_error_string(ERR_peek_last_error());
        st = FT_FAIL(err, INVALID, "TLS refuses the certificate: %s", why != NULL ? why : "no reason given");
    }
    SSL_CTX_free(context);
    ERR_clear_error();
    return st;
}

/* All of them; if asked for, when the first one ends, which then has to be one that can be shown. */
static enum ft_status read_all(struct ft_bytes text, int64_t *expires, struct ft_err *err)
{
    BIO *bio = NULL;
    bool damaged = false;
    size_t count = 0;
    enum ft_status st = FT_OK;
    FT_RETURN_IF_FAILED(open_text(text, &bio, err));
    for (X509 *one = next_certificate(bio, &damaged); one != NULL; one = next_certificate(bio, &damaged)) {
        if (count++ == 0 && expires != NULL) {
            *expires = expires_at(one);
            st = taken_by_tls(one, err);
        }
        X509_free(one);
    }
    BIO_free(bio);
    if (st != FT_OK) {
        return st;
    }
    if (damaged) {
        return FT_FAIL(err, CORRUPT, "certificate %zu in it cannot be read", count + 1);
    }
    return count > 0 ? FT_OK : FT_FAIL(err, CORRUPT, "no certificate in it (BEGIN CERTIFICATE)");
}

enum ft_status ft_pem_certificate(struct ft_bytes text, int64_t *expires, struct ft_err *err)
{
    *expires = 0;
    return read_all(text, expires, err);
}

enum ft_status ft_pem_roots(struct ft_bytes text, struct ft_err *err)
{
    return read_all(text, NULL, err);
}

/* Who starts a service is not asked for a passphrase. */
static int no_passphrase(char *out, int size, int writing, void *asked)
{
    (void)out;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static enum ft_status check_key(BIO *key_text, BIO *certificate_text, struct ft_err *err)
{
    bool encrypted = false;
    bool damaged = false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(key_text, NULL, no_passphrase, &encrypted);
    X509 *certificate = next_certificate(certificate_text, &damaged);
    enum ft_status st = FT_OK;
    if (encrypted) {
        st = FT_FAIL(err, UNSUPPORTED, "the key has a passphrase: give one without");
    } else if (key == NULL) {
        st = FT_FAIL(err, CORRUPT, "no private key in it that can be read");
    } else if (certificate == NULL) {
        st = FT_FAIL(err, CORRUPT, "there is no certificate to go with it");
    } else if (X509_check_private_key(certificate, key) != 1) {
        st = FT_FAIL(err, INVALID, "the key does not belong to the certificate");
    }
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(certificate);
    return st;
}

enum ft_status ft_pem_key(struct ft_bytes text, struct ft_bytes certificate, struct ft_err *err)
{
    BIO *key_text = NULL;
    BIO *certificate_text = NULL;
    enum ft_status st = open_text(text, &key_text, err);
    st = st == FT_OK ? open_text(certificate, &certificate_text, err) : st;
    st = st == FT_OK ? check_key(key_text, certificate_text, err) : st;
    BIO_free(key_text);
    BIO_free(certificate_text);
    return st;
}
