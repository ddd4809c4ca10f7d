#include <string.h>

#include "executor/base/clock.h"
#include "executor/server/internal.h"

static const struct {
    const char *endpoint;
    void (*run)(struct ft_request *request);
} ENDPOINTS[] = {
    {"/train", ft_endpoint_train},   {"/fit", ft_endpoint_fit},           {"/runs", ft_endpoint_runs},
    {"/status", ft_endpoint_status}, {"/logs", ft_endpoint_logs},         {"/metrics", ft_endpoint_metrics},
    {"/cancel", ft_endpoint_cancel}, {"/artifact", ft_endpoint_artifact},
};

static bool encodes_on(const struct ft_config *config, struct ft_bytes endpoint)
{
    for (size_t i = 0; i < config->encode_on.count; i++) {
        if (ft_bytes_is(endpoint, config->encode_on.items[i])) {
            return true;
        }
    }
    return false;
}

const char *ft_endpoint_label(const struct ft_config *config, struct ft_bytes endpoint)
{
    const struct ft_list *lists[] = {&config->encode_on, &config->endpoints};
    for (size_t i = 0; i < sizeof ENDPOINTS / sizeof ENDPOINTS[0]; i++) {
        if (ft_bytes_is(endpoint, ENDPOINTS[i].endpoint)) {
            return ENDPOINTS[i].endpoint;
        }
    }
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < lists[k]->count; i++) {
            if (ft_bytes_is(endpoint, lists[k]->items[i])) {
                return lists[k]->items[i];
            }
        }
    }
    return "other";
}

void ft_dispatch(struct ft_request *request)
{
    struct ft_err err = {0};
    request->began_at = ft_clock_seconds();
    enum ft_status st = ft_request_read(request, &err);
    if (st == FT_OK && ft_rpc_cancelled(request->call)) {
        st = FT_FAIL(&err, CANCELLED, "the client went away");
    }
    if (st != FT_OK) {
        ft_request_fail(request, &err);
        return;
    }
    for (size_t i = 0; i < sizeof ENDPOINTS / sizeof ENDPOINTS[0]; i++) {
        if (ft_bytes_is(request->jina.endpoint, ENDPOINTS[i].endpoint)) {
            ENDPOINTS[i].run(request);
            return;
        }
    }
    if (encodes_on(request->service->config, request->jina.endpoint)) {
        ft_endpoint_encode(request);
        return;
    }
    ft_request_pass(request);
}
