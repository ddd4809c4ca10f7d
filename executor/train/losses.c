#include "executor/train/losses.h"

#include <string.h>

#include "executor/train/loss_softmax.h"
#include "executor/train/named.h"

const char ft_loss_names[] = "TripletMarginLoss ContrastiveLoss SupConLoss NTXentLoss MultiSimilarityLoss";
static const char miner_names[] = "none TripletMarginMiner BatchHardMiner FaceNetSemihardMiner";
/* Order of the names above. */
enum { MINER_NONE, MINER_MARGIN, MINER_BATCH_HARD, MINER_FACENET };

/* ---- options */

/* "LpDistance" or {"name": "LpDistance", "normalize_embeddings": true, "p": 2, "power": 1, "is_inverted":
 * false}. */
static enum ft_status parse_distance(const char *who, const struct ft_json *options,
                                     struct ft_loss_distance *distance, struct ft_err *err)
{
    const struct ft_json *json = ft_json_get(options, "distance");
    const char *name = ft_json_text(json, NULL);
    int64_t power = 1;
    distance->normalize = true;
    distance->kind = FT_DIST_EUCLIDEAN;
    if (ft_json_kind(json) == FT_JSON_NULL) {
        return FT_OK;
    }
    if (name == NULL) {
        name = ft_json_text(ft_json_get(json, "name"), NULL);
        FT_RETURN_IF_FAILED(
            ft_named_check("LpDistance", json, "name normalize_embeddings p power is_inverted", err));
    }
    if (name == NULL || strcmp(name, "LpDistance") != 0) {
        return FT_FAIL(err, UNSUPPORTED, "%s: distance is %s; only LpDistance is built", who,
                       name != NULL ? name : "without a name");
    }
    if (ft_json_kind(json) == FT_JSON_TEXT) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(ft_named_only("LpDistance", json, "p", "2", err));
    FT_RETURN_IF_FAILED(ft_named_only("LpDistance", json, "is_inverted", "false", err));
    FT_RETURN_IF_FAILED(ft_named_bool("LpDistance", json, "normalize_embeddings", &distance->normalize, err));
    FT_RETURN_IF_FAILED(ft_named_int("LpDistance", json, "power", 1, 2, &power, err));
    distance->kind = power == 2 ? FT_DIST_SQEUCLIDEAN : FT_DIST_EUCLIDEAN;
    return FT_OK;
}

/* "MeanReducer" or {"name": "MeanReducer"}. *reducer: the preset, and what is chosen. */
static enum ft_status parse_reducer(const char *who, const struct ft_json *options, enum ft_reducer *reducer,
                                    struct ft_err *err)
{
    const struct ft_json *json = ft_json_get(options, "reducer");
    int choice = *reducer == FT_REDUCE_AVG_NON_ZERO ? 0 : 1;
    if (ft_json_kind(json) == FT_JSON_OBJECT) {
        FT_RETURN_IF_FAILED(ft_named_check("reducer", json, "name", err));
        FT_RETURN_IF_FAILED(
            ft_named_choice("reducer", json, "name", "AvgNonZeroReducer MeanReducer", &choice, err));
    } else {
        FT_RETURN_IF_FAILED(
            ft_named_choice(who, options, "reducer", "AvgNonZeroReducer MeanReducer", &choice, err));
    }
    *reducer = choice == 0 ? FT_REDUCE_AVG_NON_ZERO : FT_REDUCE_MEAN;
    return FT_OK;
}

static enum ft_status parse_margin(const char *who, const struct ft_json *options, const char *key,
                                   double preset, float *margin, struct ft_err *err)
{
    double value = preset;
    FT_RETURN_IF_FAILED(ft_named_real(who, options, key, -1e6, 1e6, &value, err));
    *margin = (float)value;
    return FT_OK;
}

static enum ft_status parse_triplet(const char *who, const struct ft_json *o, struct ft_loss_spec *spec,
                                    struct ft_err *err)
{
    spec->kind = FT_LOSS_TRIPLET;
    FT_RETURN_IF_FAILED(ft_named_check(who, o,
                                       "margin swap smooth_loss triplets_per_anchor reducer distance "
                                       "embedding_regularizer embedding_reg_weight",
                                       err));
    FT_RETURN_IF_FAILED(ft_named_only(who, o, "swap", "false", err));
    FT_RETURN_IF_FAILED(ft_named_only(who, o, "smooth_loss", "false", err));
    FT_RETURN_IF_FAILED(ft_named_only(who, o, "triplets_per_anchor", "\"all\"", err));
    return parse_margin(who, o, "margin", 0.05, &spec->margin, err);
}

static enum ft_status parse_contrastive(const char *who, const struct ft_json *o, struct ft_loss_spec *spec,
                                        struct ft_err *err)
{
    spec->kind = FT_LOSS_CONTRASTIVE;
    FT_RETURN_IF_FAILED(ft_named_check(who, o,
                                       "pos_margin neg_margin reducer distance embedding_regularizer "
                                       "embedding_reg_weight",
                                       err));
    FT_RETURN_IF_FAILED(parse_margin(who, o, "pos_margin", 0, &spec->pos_margin, err));
    return parse_margin(who, o, "neg_margin", 1, &spec->neg_margin, err);
}

static enum ft_status parse_miner(const char *miner, const struct ft_json *o, struct ft_loss_spec *spec,
                                  struct ft_err *err)
{
    static const enum ft_miner types[] = {FT_MINER_MARGIN_ALL, FT_MINER_MARGIN_HARD, FT_MINER_MARGIN_SEMIHARD,
                                          FT_MINER_MARGIN_EASY};
    int type = 0;
    switch (ft_named_index(miner_names, miner)) {
    case MINER_NONE:
        spec->miner = FT_MINER_NONE;
        return ft_named_check(miner, o, "", err);
    case MINER_MARGIN:
        FT_RETURN_IF_FAILED(ft_named_check(miner, o, "margin type_of_triplets distance", err));
        FT_RETURN_IF_FAILED(
            ft_named_choice(miner, o, "type_of_triplets", "all hard semihard easy", &type, err));
        spec->miner = types[type];
        FT_RETURN_IF_FAILED(parse_margin(miner, o, "margin", 0.2, &spec->miner_margin, err));
        break;
    case MINER_BATCH_HARD:
    case MINER_FACENET:
        FT_RETURN_IF_FAILED(ft_named_check(miner, o, "distance", err));
        spec->miner = strcmp(miner, "BatchHardMiner") == 0 ? FT_MINER_BATCH_HARD : FT_MINER_FACENET_SEMIHARD;
        break;
    default:
        return FT_FAIL(err, INVALID, "there is no miner \"%s\"; known: %s", miner, miner_names);
    }
    return parse_distance(miner, o, &spec->miner_distance, err);
}

static enum ft_status parse_positive(const char *who, const struct ft_json *options, const char *key,
                                     float *value, struct ft_err *err)
{
    double number = (double)*value;
    FT_RETURN_IF_FAILED(ft_named_real(who, options, key, 1e-6, 1e6, &number, err));
    *value = (float)number;
    return FT_OK;
}

/* Those of train/loss_softmax.h: all pairs, by cosine. */
static enum ft_status parse_softmax(const char *who, const struct ft_json *o, struct ft_loss_spec *spec,
                                    struct ft_err *err)
{
    static const char cosine[] = "\"CosineSimilarity\"";
    bool tempered = spec->kind != FT_LOSS_MULTI_SIMILARITY;
    spec->reducer = spec->kind == FT_LOSS_SUPCON ? FT_REDUCE_AVG_NON_ZERO : FT_REDUCE_MEAN;
    spec->temperature = spec->kind == FT_LOSS_SUPCON ? 0.1F : 0.07F;
    spec->alpha = 2.0F;
    spec->beta = 50.0F;
    FT_RETURN_IF_FAILED(ft_named_check(
        who, o,
        tempered ? "temperature reducer distance embedding_regularizer embedding_reg_weight"
                 : "alpha beta base reducer distance embedding_regularizer embedding_reg_weight",
        err));
    FT_RETURN_IF_FAILED(ft_named_only(who, o, "distance", cosine, err));
    if (tempered) {
        return parse_positive(who, o, "temperature", &spec->temperature, err);
    }
    FT_RETURN_IF_FAILED(parse_positive(who, o, "alpha", &spec->alpha, err));
    FT_RETURN_IF_FAILED(parse_positive(who, o, "beta", &spec->beta, err));
    return parse_margin(who, o, "base", 0.5, &spec->base, err);
}

static enum ft_status parse_loss(const char *loss, const struct ft_json *options, struct ft_loss_spec *spec,
                                 struct ft_err *err)
{
    int kind = ft_named_index(ft_loss_names, loss);
    if (kind < 0) {
        return FT_FAIL(err, INVALID, "there is no loss \"%s\"; known: %s", loss, ft_loss_names);
    }
    spec->kind = (enum ft_loss_kind)kind;
    spec->reducer = FT_REDUCE_AVG_NON_ZERO;
    switch (spec->kind) {
    case FT_LOSS_TRIPLET:
        FT_RETURN_IF_FAILED(parse_triplet(loss, options, spec, err));
        return parse_distance(loss, options, &spec->distance, err);
    case FT_LOSS_CONTRASTIVE:
        FT_RETURN_IF_FAILED(parse_contrastive(loss, options, spec, err));
        return parse_distance(loss, options, &spec->distance, err);
    case FT_LOSS_SUPCON:
    case FT_LOSS_NTXENT:
    case FT_LOSS_MULTI_SIMILARITY:
        break;
    }
    return parse_softmax(loss, options, spec, err);
}

enum ft_status ft_loss_parse(const char *loss, const struct ft_json *loss_options, const char *miner,
                             const struct ft_json *miner_options, struct ft_loss_spec *spec,
                             struct ft_err *err)
{
    memset(spec, 0, sizeof *spec);
    spec->miner_distance.normalize = true;
    FT_RETURN_IF_FAILED(parse_loss(loss, loss_options, spec, err));
    FT_RETURN_IF_FAILED(ft_named_only(loss, loss_options, "embedding_regularizer", "null", err));
    FT_RETURN_IF_FAILED(parse_reducer(loss, loss_options, &spec->reducer, err));
    FT_RETURN_IF_FAILED(parse_miner(miner, miner_options, spec, err));
    if (spec->kind >= FT_LOSS_SUPCON && spec->miner != FT_MINER_NONE) {
        return FT_FAIL(err, UNSUPPORTED,
                       "%s takes all pairs of a batch: a miner is not built for it (--miner none)", loss);
    }
    return FT_OK;
}

/* ---- graphs */

static enum ft_status normalized(struct ft_graph *g, ft_value x, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value outs[FT_MAX_OUTPUTS];
    memset(&attrs, 0, sizeof attrs);
    attrs.eps = 1e-12F; /* torch.nn.functional.normalize */
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_L2_NORMALIZE, &attrs, &x, 1, "loss/normalize", outs, err));
    *out = outs[0];
    return FT_OK;
}

static enum ft_status distances(struct ft_graph *g, const struct ft_loss_distance *spec,
                                const struct ft_loss_inputs *in, ft_value *out, struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value ab[2] = {in->rows, in->all};
    memset(&attrs, 0, sizeof attrs);
    attrs.kind = (int)spec->kind;
    if (spec->normalize) {
        FT_RETURN_IF_FAILED(normalized(g, in->rows, &ab[0], err));
        ab[1] = ab[0];
        if (in->all != in->rows) {
            FT_RETURN_IF_FAILED(normalized(g, in->all, &ab[1], err));
        }
    }
    return ft_graph_add(g, FT_OP_PDIST, &attrs, ab, 2, "loss/distance", out, err);
}

/* sum over pairs of weight x relu(alpha d + beta), reduced. */
static enum ft_status pair_term(struct ft_graph *g, const struct ft_loss_spec *spec, ft_value dist,
                                ft_value weights, const float alpha_beta[2], ft_value *out,
                                struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value scaled = FT_NO_VALUE;
    ft_value hinge = FT_NO_VALUE;
    ft_value outs[FT_MAX_OUTPUTS];
    memset(&attrs, 0, sizeof attrs);
    attrs.alpha = alpha_beta[0];
    attrs.beta = alpha_beta[1];
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_SCALE, &attrs, &dist, 1, "loss/margin", &scaled, err));
    FT_RETURN_IF_FAILED(ft_graph_add1(g, FT_OP_RELU, scaled, &hinge, err));
    memset(&attrs, 0, sizeof attrs);
    attrs.reducer = spec->reducer;
    ft_value in[2] = {hinge, weights};
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_MASKED_MEAN, &attrs, in, 2, "loss/reduce", outs, err));
    *out = outs[0];
    return FT_OK;
}

static enum ft_status build_contrastive(struct ft_graph *g, const struct ft_loss_spec *spec,
                                        const struct ft_attrs *mining, const ft_value mined[3], ft_value dist,
                                        ft_value loss_stats[2], struct ft_err *err)
{
    ft_value pairs[FT_MAX_OUTPUTS];
    ft_value positive = FT_NO_VALUE;
    ft_value negative = FT_NO_VALUE;
    const float pull[2] = {1.0F, -spec->pos_margin};
    const float push[2] = {-1.0F, spec->neg_margin};
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_PAIRS, mining, mined, 3, "loss/pairs", pairs, err));
    FT_RETURN_IF_FAILED(pair_term(g, spec, dist, pairs[0], pull, &positive, err));
    FT_RETURN_IF_FAILED(pair_term(g, spec, dist, pairs[1], push, &negative, err));
    loss_stats[1] = pairs[2];
    return ft_graph_add2(g, FT_OP_ADD, positive, negative, &loss_stats[0], err);
}

enum ft_status ft_loss_build(struct ft_graph *g, const struct ft_loss_spec *spec,
                             const struct ft_loss_inputs *in, ft_value *loss, ft_value *stats,
                             struct ft_err *err)
{
    struct ft_attrs attrs;
    ft_value dist = FT_NO_VALUE;
    ft_value outs[FT_MAX_OUTPUTS];
    if (spec->kind >= FT_LOSS_SUPCON) {
        return ft_loss_softmax_build(g, spec, in, loss, stats, err);
    }
    memset(&attrs, 0, sizeof attrs);
    attrs.miner = spec->miner;
    attrs.miner_margin = spec->miner_margin;
    attrs.margin = spec->margin;
    attrs.reducer = spec->reducer;
    attrs.offset = in->offset;
    FT_RETURN_IF_FAILED(distances(g, &spec->distance, in, &dist, err));
    ft_value mine = dist;
    if (spec->miner != FT_MINER_NONE && (spec->miner_distance.normalize != spec->distance.normalize ||
                                         spec->miner_distance.kind != spec->distance.kind)) {
        FT_RETURN_IF_FAILED(distances(g, &spec->miner_distance, in, &mine, err));
    }
    if (spec->kind == FT_LOSS_CONTRASTIVE) {
        ft_value mined[3] = {mine, in->row_labels, in->all_labels};
        FT_RETURN_IF_FAILED(build_contrastive(g, spec, &attrs, mined, dist, outs, err));
        *loss = outs[0];
        *stats = outs[1];
        return FT_OK;
    }
    ft_value all[4] = {mine, dist, in->row_labels, in->all_labels};
    FT_RETURN_IF_FAILED(ft_graph_add(g, FT_OP_TRIPLET, &attrs, all, 4, "loss/triplet", outs, err));
    *loss = outs[0];
    *stats = outs[2];
    return FT_OK;
}
