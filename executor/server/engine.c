#include "executor/server/engine.h"

#include "executor/model/artifact.h"
#include "executor/train/encoder.h"
#include "executor/train/fit.h"

static const char *none_if_empty(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static enum ft_status open_encoder(const struct ft_config *config, const char *model, void **encoder,
                                   struct ft_err *err)
{
    struct ft_encoder *opened = NULL;
    *encoder = NULL;
    struct ft_tailor_options tailor = {
        .cut = none_if_empty(config->cut),
        .keep_head = config->keep_head,
        .normalize = config->normalize,
        .output_dim = config->output_dim,
    };
    FT_RETURN_IF_FAILED(ft_pooler_find(config->pooler, &tailor.pooler, err));
    struct ft_model_options options = {.input_shape = none_if_empty(config->input_shape)};
    /* An artifact was tailored when it was made, and knows how its input is prepared. */
    bool artifact = ft_artifact_known(model);
    struct ft_encoder_spec spec = {
        .model_path = model,
        .tailor = artifact ? NULL : &tailor,
        .model_options = artifact ? NULL : &options,
        .prep_options = artifact || ft_json_count(config->prep) == 0 ? NULL : config->prep,
        .device = config->device,
        .threads = (int)config->threads,
        .batch_max = config->encode_batch_size,
    };
    FT_RETURN_IF_FAILED(ft_encoder_open(&spec, &opened, err));
    *encoder = opened;
    return FT_OK;
}

static void close_encoder(void *encoder)
{
    ft_encoder_free(encoder);
}

static size_t encoder_dim(void *encoder)
{
    return (size_t)ft_encoder_dim(encoder);
}

static enum ft_status encode(void *encoder, const struct ft_document *docs, size_t count, float *out,
                             size_t *failed, struct ft_err *err)
{
    return ft_encoder_documents(encoder, docs, count, out, failed, err);
}

static enum ft_status check_fit(const struct ft_json *options, struct ft_err *err)
{
    struct ft_fit_options read = {0};
    enum ft_status st = ft_fit_options_init(&read, err);
    if (st == FT_OK) {
        st = ft_fit_options_read(&read, options, err);
    }
    if (st == FT_OK) {
        st = ft_fit_options_check(&read, err);
    }
    ft_fit_options_release(&read);
    return st;
}

const struct ft_engine *ft_engine_standard(void)
{
    static const struct ft_engine engine = {
        .open = open_encoder,
        .close = close_encoder,
        .dim = encoder_dim,
        .encode = encode,
        .check_fit = check_fit,
    };
    return &engine;
}
