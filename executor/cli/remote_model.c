/* MODEL of a remote verb: a name there, or a path here. */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/cli/remote.h"

/* A model or a run of that name is there? FT_NOT_FOUND. */
static enum ft_status look_up(struct ft_remote *remote, const char *name, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_json *as_model = NULL;
    struct ft_json *as_run = NULL;
    struct ft_err missing = {0};
    FT_TRY(ft_remote_request("model", name, &as_model, err));
    FT_TRY(ft_remote_request("run", name, &as_run, err));
    st = ft_remote_call(remote, "GetModel", FT_V1_GET_MODEL_REQUEST, as_model, FT_V1_MODEL, NULL, err);
    if (st == FT_NOT_FOUND) {
        st = ft_remote_call(remote, "GetRun", FT_V1_GET_RUN_REQUEST, as_run, FT_V1_RUN, NULL, &missing);
        if (st == FT_NOT_FOUND) {
            st = FT_FAIL(err, NOT_FOUND, "'%.200s' is no file or folder here and no model or run at %.200s",
                         name, ft_rpc_channel_host(remote->channel));
        } else if (st != FT_OK) {
            *err = missing;
        } else {
            ft_err_clear(err);
        }
    }
done:
    ft_json_free(as_model);
    ft_json_free(as_run);
    return st;
}

enum ft_status ft_remote_model(struct ft_remote *remote, const char *model, bool quiet, char **name,
                               struct ft_err *err)
{
    (void)quiet;
    *name = NULL;
    if (ft_path_kind(model) != FT_PATH_NONE) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%.300s is a model here: uploading models is not built; put it into "
                       "`models` of the service's workspace and name it",
                       model);
    }
    FT_RETURN_IF_FAILED(look_up(remote, model, err));
    return ft_new_text(model, name, err);
}
