#include "executor/server/serve.h"

#include <time.h>

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/server/service.h"

enum { POLL_NS = 50000000, TEND_POLLS = 20, FIRST_REMINDER_POLLS = 4 };

/* At whatever level is written, since Jina waits for a line. */
static void remind(double seconds)
{
    enum ft_log_level level = ft_log_level() > FT_LOG_INFO ? ft_log_level() : FT_LOG_INFO;
    ft_log_line(level, "server", "ready; no health check has come so far after_seconds=%.1f", seconds);
}

enum ft_status ft_serve(const struct ft_config *config, enum ft_started_as as, const struct ft_cancel *cancel,
                        struct ft_err *err)
{
    struct ft_service *service = NULL;
    enum ft_log_level level;
    if (config->log_level[0] != '\0' && ft_log_level_parse(config->log_level, &level)) {
        ft_log_level_set(level);
    }
    ft_alloc_give_back();
    FT_RETURN_IF_FAILED(ft_service_start(config, ft_engine_standard(), &service, err));
    FT_LOG_INFO_LINE("server", "serving host=%s port=%d name=%s workspace=\"%s\"", config->host,
                     ft_service_port(service), config->name, config->workspace);
    if (config->monitoring) {
        FT_LOG_INFO_LINE("server", "figures for Prometheus port=%d", ft_service_monitor_port(service));
    }
    int64_t reminder = as == FT_STARTED_AS_JINA ? FIRST_REMINDER_POLLS : 0;
    for (int64_t polls = 1; !ft_cancelled(cancel); polls++) {
        const struct timespec nap = {0, POLL_NS};
        (void)nanosleep(&nap, NULL); /* ends early at a signal */
        if (polls % TEND_POLLS == 0) {
            ft_service_tend(service);
        }
        if (polls == reminder && !ft_service_asked(service)) {
            remind((double)polls * POLL_NS / 1e9);
            reminder *= 2;
        }
    }
    FT_LOG_INFO_LINE("server", "draining seconds=%lld", (long long)config->drain_seconds);
    ft_service_stop(service);
    FT_LOG_INFO_LINE("server", "stopped port=%lld", (long long)config->port);
    return FT_OK;
}
