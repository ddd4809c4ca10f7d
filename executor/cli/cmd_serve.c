/* serve, worker, ping, and the same under the name `jina` (jina/SPEC 4: docker:// and Kubernetes start us
 * so). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/base/file.h"
#include "executor/base/limits.h"
#include "executor/base/log.h"
#include "executor/cli/cli.h"
#include "executor/cli/remote.h"
#include "executor/codec/pem.h"
#include "executor/rpc/client.h"
#include "executor/runs/worker.h"
#include "executor/server/serve.h"

enum { PING_MS = 3000 };

typedef enum ft_status (*read_flags)(struct ft_config *config, int argc, char **argv, struct ft_err *err);

void ft_help_serve(const char *command)
{
    (void)command;
    struct ft_buf text = {0};
    struct ft_err err = {0};
    puts("Settings, on the command line or below `with:` in config.yml:");
    if (ft_config_help(&text, &err) == FT_OK) {
        (void)fwrite(text.data, 1, text.size, stdout);
    }
    ft_buf_release(&text);
}

/* What is said while settings are read has their form already, and workers inherit it: a look ahead in
 * silence. What is wrong with them is told by the second reading. */
static void set_log_format(int argc, char **argv, read_flags read)
{
    struct ft_err err = {0};
    struct ft_config config = {0};
    enum ft_log_format format = FT_LOG_TEXT;
    enum ft_log_level level = ft_log_level();
    ft_log_level_set(FT_LOG_OFF);
    if (ft_config_init(&config, &err) == FT_OK) {
        (void)!read(&config, argc, argv, &err);
        if (ft_log_format_parse(config.log_format, &format)) {
            ft_log_format_set(format);
            (void)setenv(FT_LOG_FORMAT_VARIABLE, config.log_format, 1);
        }
    }
    ft_config_release(&config);
    ft_log_level_set(level);
}

static enum ft_status serve(int argc, char **argv, read_flags read, enum ft_started_as as, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_config config = {0};
    set_log_format(argc, argv, read);
    FT_TRY(ft_config_init(&config, err));
    FT_TRY(read(&config, argc, argv, err));
    FT_TRY(ft_serve(&config, as, ft_cli_cancel(), err));
done:
    ft_config_release(&config);
    return st;
}

enum ft_status ft_cmd_serve(int argc, char **argv, struct ft_err *err)
{
    return serve(argc, argv, ft_config_flags, FT_STARTED_AS_ITSELF, err);
}

static bool no_flags(const char *key)
{
    (void)key;
    return false;
}

enum ft_status ft_cmd_worker(int argc, char **argv, struct ft_err *err)
{
    struct ft_args args;
    const char *run = NULL;
    const char *data_dir = NULL;
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, no_flags, &args, err));
    for (int i = 0; i < args.n_options; i++) {
        if (strcmp(args.key[i], "run") == 0) {
            run = args.value[i];
        } else if (strcmp(args.key[i], "data-dir") == 0) {
            data_dir = args.value[i];
        } else {
            return FT_FAIL(err, USAGE, "unknown option --%s", args.key[i]);
        }
    }
    if (run == NULL || data_dir == NULL) {
        return FT_FAIL(err, USAGE, "usage: finetuner %s", ft_command_find("worker")->usage);
    }
    return ft_worker_main(data_dir, run, ft_cli_cancel(), err);
}

enum ft_status ft_cmd_ping(int argc, char **argv, struct ft_err *err)
{
    struct ft_args args;
    struct ft_remote_args where = {0};
    struct ft_remote remote = {0};
    FT_RETURN_IF_FAILED(ft_args_parse(argc, argv, ft_remote_flag, &args, err));
    FT_RETURN_IF_FAILED(ft_args_want(&args, 1, ft_command_find("ping")->usage, err));
    for (int i = 0; i < args.n_options; i++) {
        bool known = false;
        FT_RETURN_IF_FAILED(ft_remote_option(&where, args.key[i], args.value[i], &known, err));
        if (!known) {
            return FT_FAIL(err, USAGE, "unknown option --%s (finetuner help ping lists them)", args.key[i]);
        }
    }
    where.server = args.positional[0];
    enum ft_status st = ft_remote_open(&where, &remote, err);
    st = st == FT_OK ? ft_remote_ping(&remote, PING_MS, err) : st;
    ft_remote_close(&remote);
    if (st == FT_OK) {
        puts("serving");
    }
    return st;
}

struct ping {
    const char *target;
    int64_t timeout_ms, attempts, min_successful;
};

/* One word of `jina ping`. Kubernetes' probe writes "--timeout 9500" as one word with a blank inside. */
static enum ft_status ping_word(char **argv, int argc, int *i, struct ping *ping, struct ft_err *err)
{
    static const char *const keys[] = {"--timeout", "--attempts", "--min-successful-attempts"};
    int64_t *values[] = {&ping->timeout_ms, &ping->attempts, &ping->min_successful};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        size_t size = strlen(keys[k]);
        if (strncmp(argv[*i], keys[k], size) != 0) {
            continue;
        }
        char after = argv[*i][size];
        if (after == ' ' || after == '=') {
            return ft_arg_int(keys[k] + 2, argv[*i] + size + 1, 1, 1000000, values[k], err);
        }
        if (after == '\0' && *i + 1 < argc) {
            return ft_arg_int(keys[k] + 2, argv[++*i], 1, 1000000, values[k], err);
        }
    }
    if (argv[*i][0] == '-') {
        (void)fprintf(stderr, "warning: jina ping: %s is not known here and is left out\n", argv[*i]);
    } else {
        ping->target = argv[*i];
    }
    return FT_OK;
}

/* What a service that asks its clients who they are is shown: Kubernetes' YAML leaves no room for flags here.
 */
static enum ft_status own_certificate(struct ft_buf *certificate, struct ft_buf *key, struct ft_err *err)
{
    const char *paths[] = {getenv("FINETUNER_PING_CERT"), getenv("FINETUNER_PING_KEY")};
    if (paths[0] == NULL && paths[1] == NULL) {
        return FT_OK;
    }
    if (paths[0] == NULL || paths[1] == NULL) {
        return FT_FAIL(err, USAGE, "FINETUNER_PING_CERT and FINETUNER_PING_KEY go together");
    }
    FT_RETURN_IF_FAILED(ft_file_read(paths[0], FT_MAX_CONFIG_BYTES, certificate, err));
    FT_RETURN_IF_FAILED(ft_file_read(paths[1], FT_MAX_CONFIG_BYTES, key, err));
    FT_RETURN_IF_FAILED(ft_pem_certificate(ft_buf_bytes(certificate), &(int64_t){0}, err));
    return ft_pem_key(ft_buf_bytes(key), ft_buf_bytes(certificate), err);
}

static enum ft_status ping_often(const struct ping *ping, const struct ft_rpc_tls *own, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    int64_t good = 0;
    for (int64_t n = 0; n < ping->attempts; n++) {
        if (n > 0) {
            (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        }
        enum ft_status one = ft_rpc_ping_any(ping->target, own, (int)ping->timeout_ms, err);
        good += one == FT_OK;
        st = one != FT_OK ? one : st;
    }
    return good >= ping->min_successful ? FT_OK : st;
}

/* jina ping executor [grpc://|grpcs://]HOST:PORT: 0 when enough attempts found the server serving. */
static enum ft_status jina_ping(int argc, char **argv, struct ft_err *err)
{
    struct ping ping = {.timeout_ms = 3000, .attempts = 1, .min_successful = 1};
    struct ft_buf certificate = {0};
    struct ft_buf key = {0};
    for (int i = 1; i < argc; i++) {
        FT_RETURN_IF_FAILED(ping_word(argv, argc, &i, &ping, err));
    }
    if (argc < 1 || strcmp(argv[0], "executor") != 0 || ping.target == NULL) {
        return FT_FAIL(err, USAGE, "usage: jina ping executor HOST:PORT");
    }
    enum ft_status st = own_certificate(&certificate, &key, err);
    if (st == FT_OK) {
        const struct ft_rpc_tls own = {{NULL, 0}, ft_buf_bytes(&certificate), ft_buf_bytes(&key)};
        st = ping_often(&ping, &own, err);
    }
    ft_buf_release(&certificate);
    ft_buf_release(&key);
    if (st == FT_OK) {
        puts("readiness check succeeded");
    }
    return st;
}

enum ft_status ft_cmd_jina(int argc, char **argv, struct ft_err *err)
{
    if (argc > 0 && strcmp(argv[0], "executor") == 0) {
        return serve(argc - 1, argv + 1, ft_config_jina_flags, FT_STARTED_AS_JINA, err);
    }
    if (argc > 0 && strcmp(argv[0], "ping") == 0) {
        return jina_ping(argc - 1, argv + 1, err);
    }
    if (argc > 0 && strcmp(argv[0], "--version") == 0) {
        puts("finetuner " FT_VERSION);
        return FT_OK;
    }
    return FT_FAIL(err, USAGE,
                   "this is finetuner under the name jina: `jina executor` and `jina ping executor` are "
                   "what it does");
}
