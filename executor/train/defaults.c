#include "executor/train/defaults.h"

#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/train/losses.h"

/* Measured with the demo's backbone, tuned for 150 steps on three quarters of its 42 training characters;
 * MAP@R on the other quarter, mean of four folds (two seeds a fold, five in one): with a constant schedule
 * BatchHardMiner 0.870 and FaceNetSemihardMiner 0.850, with cosine 0.844 and 0.861: within the spread of
 * seeds (0.03). What decides is a weak start: on digits, a half-trained CNN, batches of 64, 30 epochs,
 * BatchHard goes from 0.385 to 0.622 only and FaceNet to 0.883. In one fold, two seeds each, FaceNet:
 * margins 0.1 and 0.4, learning rates 3e-4 and 3e-3, eight items a class, no clipping: no better. */
static const struct ft_loss_default losses[] = {
    {"TripletMarginLoss", "FaceNetSemihardMiner", "{\"margin\": 0.2}",
     "generalises as well as any here, and does not stall on a weak backbone"},
    {"ContrastiveLoss", "none", "{}", "all pairs, margins 0 and 1"},
    {"SupConLoss", "none", "{}", "softmax over the batch, all positives of an anchor; temperature 0.1"},
    {"NTXentLoss", "none", "{}",
     "softmax over the negatives of each pair; temperature 0.07; with texts the best of these "
     "(tools/demo.sh)"},
    {"MultiSimilarityLoss", "none", "{}", "alpha 2, beta 50, base 0.5"},
};
enum { LOSSES = sizeof losses / sizeof *losses };

static const struct {
    const char *optimizer;
    double learning_rate, of_texts;
} rates[] = {{"AdamW", 1e-3, 2e-5}, {"Adam", 1e-3, 2e-5}, {"SGD", 1e-2, 1e-2}};
enum { RATES = sizeof rates / sizeof *rates };

/* Of texts, all-MiniLM-L6-v2 and the demo's descriptions of Debian's packages. Trained on 15 sections,
 * measured on 15 others, 60 steps of 64 texts of 32 tokens, learning rate 2e-5, one seed, MAP@R (P@1): before
 * 0.236 (0.616), FaceNetSemihardMiner 0.292 (0.616), SupConLoss 0.266 (0.587), BatchHardMiner 0.254 (0.591).
 * Trained on 22 sections, measured on 8 easier ones, 100 steps of 64 tokens: before 0.441,
 * FaceNetSemihardMiner at 2e-5 0.434, at 5e-5 0.373; SupConLoss 0.423, BatchHardMiner 0.361 at 2e-5.
 * With --mix, FaceNetSemihardMiner, 15 sections trained, 40 steps of 32 tokens, two seeds, dropout as the
 * model has it, MAP@R (P@1): on other packages of these before 0.235 (0.557), at 5e-5 0.628 (0.798), and
 * mixed 0.5 0.546 (0.786); on the 15 other sections 0.313 (0.630), 0.314 (0.607), and mixed 0.5 0.339
 * (0.655). At 2e-5 on 30 documents each of the latter: 0.308 (0.620), 0.315 (0.643), mixed 0.5 0.330 (0.641);
 * without dropout 0.315 (0.623), mixed 0.332 (0.649).
 * The settings of tools/demo.sh: trained on 22 of its 30 sections, 60 steps of 32 tokens, one seed, measured
 * on the other 8 (and on other packages of the 22), before 0.253 (0.643): FaceNetSemihardMiner at 2e-5 0.313
 * (0.658; 0.478), at 5e-5 mixed 0.5 0.311 (0.679; 0.478); SupConLoss at 2e-5 0.313 (0.693; 0.467), at 5e-5
 * mixed 0.7 0.317 (0.708; 0.498); MultiSimilarityLoss at 2e-5 0.271 (0.635; 0.435); NTXentLoss at 2e-5 0.318
 * (0.689; 0.473), at 5e-5 0.327 (0.698; 0.532), mixed 0.5 0.308 (0.700; 0.464). */
enum { TEXT_BATCH = 64 };

const struct ft_loss_default *ft_defaults_loss(const char *loss)
{
    for (size_t i = 0; i < LOSSES; i++) {
        if (strcmp(losses[i].loss, loss) == 0) {
            return &losses[i];
        }
    }
    return NULL;
}

double ft_defaults_learning_rate(const char *optimizer)
{
    for (size_t i = 0; i < RATES; i++) {
        if (strcmp(rates[i].optimizer, optimizer) == 0) {
            return rates[i].learning_rate;
        }
    }
    return 0;
}

void ft_defaults_of_texts(const struct ft_fit_options *asked, struct ft_fit_options *o)
{
    for (size_t i = 0; i < RATES; i++) {
        if (asked->learning_rate <= 0 && strcmp(rates[i].optimizer, o->optimizer) == 0) {
            o->learning_rate = rates[i].of_texts;
        }
    }
    if (!asked->batch_size_given) {
        o->batch_size = TEXT_BATCH;
    }
}

enum ft_status ft_defaults_help(struct ft_buf *out, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(
        ft_buf_text(out, "\nDefaults, measured on images, vectors and texts, where nothing is said:\n", err));
    for (size_t i = 0; i < LOSSES; i++) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-18s miner %s, options %s: %s\n", losses[i].loss,
                                          losses[i].miner, losses[i].loss_options, losses[i].why));
    }
    for (size_t i = 0; i < RATES; i++) {
        FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-18s learning rate %g; of texts %g\n",
                                          rates[i].optimizer, rates[i].learning_rate, rates[i].of_texts));
    }
    FT_RETURN_IF_FAILED(ft_buf_printf(out, err, "  %-18s batches of %d documents\n", "texts", TEXT_BATCH));
    return FT_OK;
}

enum ft_status ft_defaults_resolve(struct ft_fit_options *o, struct ft_err *err)
{
    const struct ft_loss_default *loss = ft_defaults_loss(o->loss);
    if (loss == NULL) {
        return FT_FAIL(err, INVALID, "there is no loss \"%s\"; known: %s", o->loss, ft_loss_names);
    }
    if (strcmp(o->miner, "auto") == 0) {
        (void)snprintf(o->miner, sizeof o->miner, "%s", loss->miner);
    }
    if (o->loss_options == NULL) {
        FT_RETURN_IF_FAILED(ft_json_parse(ft_bytes_of_text(loss->loss_options), &o->loss_options, err));
    }
    if (ft_defaults_learning_rate(o->optimizer) <= 0) {
        return FT_FAIL(err, INVALID, "there is no optimizer \"%s\": SGD, Adam, AdamW", o->optimizer);
    }
    if (o->learning_rate <= 0) {
        o->learning_rate = ft_defaults_learning_rate(o->optimizer);
    }
    return FT_OK;
}
