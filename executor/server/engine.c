#include "executor/server/engine.h"

#include "executor/base/alloc.h"
#include "executor/base/log.h"
#include "executor/model/artifact.h"
#include "executor/train/encoder.h"
#include "executor/train/fit.h"

static const char *none_if_empty(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

/* One small Document through it: makes a first plan and packs the weights. */
static enum ft_status warm_up(struct ft_encoder *encoder, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    const struct ft_prep *prep = ft_encoder_prep(encoder);
    const struct ft_document doc = {.content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("one")}};
    size_t failed = 0;
    float *row = NULL;
    float *out = NULL;
    FT_TRY(ft_new((size_t)ft_encoder_dim(encoder), sizeof *out, &out, err));
    if (prep->kind == FT_PREP_TEXT) {
        FT_TRY(ft_encoder_documents(encoder, &doc, 1, out, &failed, err));
    } else {
        FT_TRY(ft_new(ft_prep_elements(prep), sizeof *row, &row, err));
        FT_TRY(ft_encoder_rows(encoder, row, 1, out, err));
    }
done:
    ft_free(row);
    ft_free(out);
    return st;
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
    enum ft_precision precision = FT_PRECISION_F32;
    FT_RETURN_IF_FAILED(ft_pooler_find(config->pooler, &tailor.pooler, err));
    FT_RETURN_IF_FAILED(ft_precision_parse(config->precision, &precision, err));
    struct ft_model_options options = {.input_shape = none_if_empty(config->input_shape)};
    /* An artifact was tailored when it was made, and knows how its input is prepared. */
    bool artifact = ft_artifact_known(model);
    struct ft_encoder_spec spec = {
        .model_path = model,
        .tailor = artifact ? NULL : &tailor,
        .model_options = artifact ? NULL : &options,
        .prep_options = artifact || ft_json_count(config->prep) == 0 ? NULL : config->prep,
        .device = config->device,
        .precision = precision,
        .threads = (int)config->threads,
        .batch_max = config->encode_batch_size,
    };
    FT_RETURN_IF_FAILED(ft_encoder_open(&spec, &opened, err));
    enum ft_status st = warm_up(opened, err);
    if (st != FT_OK) {
        ft_encoder_free(opened);
        return ft_err_wrap(err, "a first embedding");
    }
    if (precision == FT_PRECISION_INT8) {
        FT_LOG_INFO_LINE("server", "model in int8 path=\"%s\" products=\"%s\"", model,
                         ft_encoder_int8(opened));
    }
    const char *note = ft_encoder_precision_note(opened);
    if (note != NULL) {
        FT_LOG_INFO_LINE("server", "model in bf16 path=\"%s\" note=\"%s\"", model, note);
    }
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

static size_t encoder_bytes(void *encoder)
{
    return ft_encoder_bytes(encoder);
}

/* English has about four bytes a token, Chinese three, code less. */
static size_t weight(void *encoder, const struct ft_document *doc)
{
    enum { TOKEN_BYTES = 3, SPECIAL = 2 };
    const struct ft_prep *prep = ft_encoder_prep(encoder);
    size_t tokens = doc->content.bytes.size / TOKEN_BYTES + SPECIAL;
    if (prep->kind != FT_PREP_TEXT) {
        return 0;
    }
    return tokens < (size_t)prep->max_length ? tokens : (size_t)prep->max_length;
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
    /* A device that this machine lacks does not come back: it is no service that is away for a while. */
    return st == FT_UNAVAILABLE ? (err->code = FT_UNSUPPORTED) : st;
}

static enum ft_status check_model(const char *path, struct ft_err *err)
{
    struct ft_model *model = NULL;
    enum ft_status st = ft_model_load(path, NULL, &model, err);
    ft_model_free(model);
    return st;
}

const struct ft_engine *ft_engine_standard(void)
{
    static const struct ft_engine engine = {
        .open = open_encoder,
        .close = close_encoder,
        .dim = encoder_dim,
        .bytes = encoder_bytes,
        .weight = weight,
        .encode = encode,
        .check_fit = check_fit,
        .check_model = check_model,
    };
    return &engine;
}
