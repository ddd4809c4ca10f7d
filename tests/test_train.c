/* links: ft_train ft_graph ft_kernels ft_codec ft_base */
#include <math.h>

#include "tests/support.h"

#include "executor/train/callbacks.h"
#include "executor/train/checkpoint.h"
#include "executor/train/defaults.h"
#include "executor/train/fit.h"
#include "executor/train/losses.h"
#include "executor/train/optim.h"

#define FAILS(code, part, call)                                                                              \
    do {                                                                                                     \
        assert_int_equal(call, FT_##code);                                                                   \
        if (strstr(err.text, part) == NULL) {                                                                \
            fail_msg("'%s' does not tell of '%s'", err.text, part);                                          \
        }                                                                                                    \
    } while (0)

static struct ft_json *json_of(const char *text)
{
    struct ft_err err = {0};
    struct ft_json *json = NULL;
    ASSERT_OK(ft_json_parse(ft_bytes_of_text(text), &json, &err));
    return json;
}

/* ---- options */

static void options_are_read_in_both_spellings(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_options o;
    ASSERT_OK(ft_fit_options_init(&o, &err));
    assert_string_equal(o.loss, "TripletMarginLoss");
    assert_int_equal(o.batch_size, 128);
    ASSERT_OK(ft_fit_options_set(&o, "learning-rate", "0.25", &err));
    ASSERT_OK(ft_fit_options_set(&o, "batch_size", "64", &err));
    ASSERT_OK(ft_fit_options_set(&o, "keep-head", NULL, &err));
    ASSERT_OK(ft_fit_options_set(&o, "loss-options", "{\"margin\": 0.5}", &err));
    struct ft_json *json =
        json_of("{\"freeze\": [\"conv1\", \"bn1\"], \"epochs\": 7, \"normalize\": true, \"cut\": null}");
    ASSERT_OK(ft_fit_options_read(&o, json, &err));
    ft_json_free(json);
    assert_true(o.learning_rate == 0.25 && o.batch_size == 64 && o.keep_head && o.normalize && o.epochs == 7);
    assert_string_equal(o.freeze, "conv1,bn1");
    assert_true(ft_fit_options_is_flag("keep-head") && !ft_fit_options_is_flag("epochs"));
    json = json_of("{\"freeze\": true}");
    ASSERT_OK(ft_fit_options_read(&o, json, &err));
    ft_json_free(json);
    assert_string_equal(o.freeze, "all");
    /* What is written reads back as the same. */
    struct ft_json *first = NULL, *second = NULL;
    struct ft_buf a = {0}, b = {0};
    struct ft_fit_options copy;
    ASSERT_OK(ft_fit_options_write(&o, &first, &err));
    ASSERT_OK(ft_fit_options_init(&copy, &err));
    ASSERT_OK(ft_fit_options_read(&copy, first, &err));
    ASSERT_OK(ft_fit_options_write(&copy, &second, &err));
    ASSERT_OK(ft_json_write(first, 0, &a, &err));
    ASSERT_OK(ft_json_write(second, 0, &b, &err));
    assert_string_equal((char *)a.data, (char *)b.data);
    ft_buf_release(&a);
    ft_buf_release(&b);
    ft_json_free(first);
    ft_json_free(second);
    ft_fit_options_release(&o);
    ft_fit_options_release(&copy);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_options o;
    ASSERT_OK(ft_fit_options_init(&o, &err));
    FAILS(USAGE, "learning_rate", ft_fit_options_set(&o, "lerning-rate", "1", &err));
    FAILS(USAGE, "wants a value", ft_fit_options_set(&o, "epochs", NULL, &err));
    FAILS(INVALID, "1 .. 1e+06", ft_fit_options_set(&o, "epochs", "0", &err));
    FAILS(INVALID, "whole number", ft_fit_options_set(&o, "epochs", "1.5", &err));
    FAILS(INVALID, "number", ft_fit_options_set(&o, "epochs", "many", &err));
    FAILS(INVALID, "number", ft_fit_options_set(&o, "clip-norm", "nan", &err));
    FAILS(INVALID, "default|avg|mean|GeM|max|cls|last|weighted_mean",
          ft_fit_options_set(&o, "pooler", "av", &err));
    FAILS(INVALID, "loss_options", ft_fit_options_set(&o, "loss-options", "{", &err));
    FAILS(INVALID, "object", ft_fit_options_set(&o, "loss-options", "[]", &err));
    FAILS(INVALID, "true or false", ft_fit_options_set(&o, "normalize", "maybe", &err));
    static const char *const bad[] = {"{\"epoch\": 3}",   "{\"epochs\": \"3\"}", "{\"normalize\": 1}",
                                      "{\"name\": 3}",    "{\"callbacks\": {}}", "[1]",
                                      "{\"freeze\": [1]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ft_json *json = json_of(bad[i]);
        assert_int_equal(ft_fit_options_read(&o, json, &err), FT_INVALID);
        ft_json_free(json);
    }
    ft_fit_options_release(&o);
}

static void help_and_defaults(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf text = {0};
    struct ft_fit_options o;
    ASSERT_OK(ft_fit_options_help(&text, &err));
    assert_non_null(strstr((char *)text.data, "--num-items-per-class N"));
    assert_non_null(strstr((char *)text.data, "FaceNetSemihardMiner"));
    ft_buf_release(&text);
    ASSERT_OK(ft_fit_options_init(&o, &err));
    ASSERT_OK(ft_defaults_resolve(&o, &err));
    assert_string_equal(o.miner, "FaceNetSemihardMiner");
    assert_true(o.learning_rate == 1e-3);
    assert_true(ft_json_real(ft_json_get(o.loss_options, "margin")) == 0.2);
    ft_fit_options_release(&o);
    ASSERT_OK(ft_fit_options_init(&o, &err));
    FAILS(INVALID, "ContrastiveLoss", ft_fit_options_set(&o, "loss", "ArcFaceLoss", &err));
    FAILS(INVALID, "SGD", ft_fit_options_set(&o, "optimizer", "Sgd", &err));
    FAILS(INVALID, "cosine", ft_fit_options_set(&o, "scheduler", "step", &err));
    FAILS(INVALID, "BatchHardMiner", ft_fit_options_set(&o, "miner", "AngularMiner", &err));
    FAILS(INVALID, "auto|cpu|ref|cuda", ft_fit_options_set(&o, "device", "abacus", &err));
    ft_fit_options_release(&o);
}

static void options_survive_no_memory(void **state)
{
    (void)state;
    struct ft_err err = {0};
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    for (uint64_t n = 1; st != FT_OK; n++) {
        struct ft_fit_options o;
        struct ft_json *json = NULL;
        ft_alloc_fail_at(n);
        st = ft_fit_options_init(&o, &err);
        if (st == FT_OK) {
            st = ft_fit_options_set(&o, "callbacks", "[{\"name\": \"EarlyStopping\"}]", &err);
        }
        if (st == FT_OK) {
            st = ft_defaults_resolve(&o, &err);
        }
        if (st == FT_OK) {
            st = ft_fit_options_write(&o, &json, &err);
        }
        ft_alloc_fail_at(0);
        assert_true(st == FT_OK || st == FT_NOMEM);
        ft_json_free(json);
        ft_fit_options_release(&o);
        assert_int_equal(ft_alloc_stats().live_blocks, live);
        assert_true(n < 500);
    }
}

/* ---- losses, optimisers, schedules by name */

static enum ft_status loss(const char *name, const char *options, const char *miner,
                           const char *miner_options, struct ft_loss_spec *spec, struct ft_err *err)
{
    struct ft_json *a = json_of(options), *b = json_of(miner_options);
    enum ft_status st = ft_loss_parse(name, a, miner, b, spec, err);
    ft_json_free(a);
    ft_json_free(b);
    return st;
}

static void losses_have_the_peers_defaults(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_loss_spec s;
    ASSERT_OK(loss("TripletMarginLoss", "{}", "TripletMarginMiner", "{}", &s, &err));
    assert_true(s.margin == 0.05F && s.miner_margin == 0.2F && s.miner == FT_MINER_MARGIN_ALL);
    assert_true(s.reducer == FT_REDUCE_AVG_NON_ZERO && s.distance.normalize &&
                s.distance.kind == FT_DIST_EUCLIDEAN);
    ASSERT_OK(loss("ContrastiveLoss",
                   "{\"reducer\": \"MeanReducer\", \"distance\": {\"name\": \"LpDistance\", \"power\": 2, "
                   "\"normalize_embeddings\": false}}",
                   "none", "{}", &s, &err));
    assert_true(s.pos_margin == 0.0F && s.neg_margin == 1.0F && s.miner == FT_MINER_NONE);
    assert_true(s.reducer == FT_REDUCE_MEAN && !s.distance.normalize &&
                s.distance.kind == FT_DIST_SQEUCLIDEAN);
    ASSERT_OK(loss("TripletMarginLoss",
                   "{\"swap\": false, \"smooth_loss\": false, \"triplets_per_anchor\": \"all\"}",
                   "BatchHardMiner", "{}", &s, &err));
    FAILS(UNSUPPORTED, "swap", loss("TripletMarginLoss", "{\"swap\": true}", "none", "{}", &s, &err));
    FAILS(UNSUPPORTED, "triplets_per_anchor",
          loss("TripletMarginLoss", "{\"triplets_per_anchor\": 100}", "none", "{}", &s, &err));
    FAILS(UNSUPPORTED, "LpDistance",
          loss("TripletMarginLoss", "{\"distance\": \"CosineSimilarity\"}", "none", "{}", &s, &err));
    FAILS(UNSUPPORTED, "p is 1",
          loss("TripletMarginLoss", "{\"distance\": {\"name\": \"LpDistance\", \"p\": 1}}", "none", "{}", &s,
               &err));
    ASSERT_OK(loss("SupConLoss", "{}", "none", "{}", &s, &err));
    assert_true(s.temperature == 0.1F && s.reducer == FT_REDUCE_AVG_NON_ZERO);
    ASSERT_OK(loss("NTXentLoss", "{}", "none", "{}", &s, &err));
    assert_true(s.temperature == 0.07F && s.reducer == FT_REDUCE_MEAN);
    ASSERT_OK(loss("MultiSimilarityLoss", "{\"distance\": \"CosineSimilarity\"}", "none", "{}", &s, &err));
    assert_true(s.alpha == 2.0F && s.beta == 50.0F && s.base == 0.5F && s.reducer == FT_REDUCE_MEAN);
    FAILS(UNSUPPORTED, "distance",
          loss("SupConLoss", "{\"distance\": \"LpDistance\"}", "none", "{}", &s, &err));
    FAILS(UNSUPPORTED, "--miner none", loss("SupConLoss", "{}", "BatchHardMiner", "{}", &s, &err));
    FAILS(INVALID, "temperature", loss("NTXentLoss", "{\"temperature\": 0}", "none", "{}", &s, &err));
    FAILS(INVALID, "margins", loss("TripletMarginLoss", "{\"margins\": 1}", "none", "{}", &s, &err));
    FAILS(INVALID, "BatchHardMiner", loss("TripletMarginLoss", "{}", "AngularMiner", "{}", &s, &err));
    FAILS(INVALID, "ContrastiveLoss", loss("CircleLoss", "{}", "none", "{}", &s, &err));
    FAILS(INVALID, "semihard",
          loss("TripletMarginLoss", "{}", "TripletMarginMiner", "{\"type_of_triplets\": \"medium\"}", &s,
               &err));
}

static enum ft_status optim(const char *name, const char *options, struct ft_optim_spec *spec,
                            struct ft_err *err)
{
    struct ft_json *json = json_of(options);
    enum ft_status st = ft_optim_parse(name, json, spec, err);
    ft_json_free(json);
    return st;
}

static void optimizers_have_torchs_defaults(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_optim_spec s;
    ASSERT_OK(optim("AdamW", "{}", &s, &err));
    assert_true(s.beta1 == 0.9 && s.beta2 == 0.999 && s.eps == 1e-8 && s.weight_decay == 0.01);
    ASSERT_OK(optim("Adam", "{\"betas\": [0.8, 0.99], \"amsgrad\": false}", &s, &err));
    assert_true(s.beta1 == 0.8 && s.beta2 == 0.99 && s.weight_decay == 0);
    ASSERT_OK(optim("SGD", "{\"momentum\": 0.9, \"nesterov\": true}", &s, &err));
    assert_true(s.momentum == 0.9 && s.nesterov && s.dampening == 0 && s.weight_decay == 0);
    FAILS(INVALID, "nesterov", optim("SGD", "{\"nesterov\": true}", &s, &err));
    FAILS(INVALID, "learning_rate", optim("SGD", "{\"lr\": 0.1}", &s, &err));
    FAILS(INVALID, "betas", optim("Adam", "{\"betas\": [0.9]}", &s, &err));
    FAILS(UNSUPPORTED, "amsgrad", optim("Adam", "{\"amsgrad\": true}", &s, &err));
    FAILS(INVALID, "SGD Adam AdamW", optim("LBFGS", "{}", &s, &err));
    assert_true(ft_optim_clip(0.5, 1.0) == 1.0 && ft_optim_clip(100, 0) == 1.0);
    assert_true(fabs(ft_optim_clip(4.0, 1.0) - 1.0 / (4.0 + 1e-6)) < 1e-15);
}

static struct ft_schedule schedule(const char *name, const char *options)
{
    struct ft_err err = {0};
    struct ft_schedule s;
    struct ft_json *json = json_of(options);
    ASSERT_OK(ft_schedule_parse(name, json, &s, &err));
    ft_json_free(json);
    return s;
}

static void near(double a, double b)
{
    assert_true(fabs(a - b) < 1e-12);
}

static void schedules_follow_transformers(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_schedule s = schedule("linear", "{\"num_warmup_steps\": 4, \"num_training_steps\": 12}");
    near(ft_schedule_factor(&s, 0), 0);
    near(ft_schedule_factor(&s, 3), 0.75);
    near(ft_schedule_factor(&s, 4), 1);
    near(ft_schedule_factor(&s, 8), 0.5);
    near(ft_schedule_factor(&s, 12), 0);
    near(ft_schedule_factor(&s, 100), 0);
    s = schedule("cosine",
                 "{\"num_warmup_steps\": 2, \"num_training_steps\": 10, \"scheduler_step\": \"epoch\"}");
    assert_true(s.by_epoch);
    near(ft_schedule_factor(&s, 1), 0.5);
    near(ft_schedule_factor(&s, 2), 1);
    near(ft_schedule_factor(&s, 4), 0.5 * (1 + sqrt(0.5)));
    near(ft_schedule_factor(&s, 6), 0.5);
    near(ft_schedule_factor(&s, 10), 0);
    s = schedule("constant_with_warmup", "{\"num_warmup_steps\": 2, \"num_training_steps\": \"auto\"}");
    near(ft_schedule_factor(&s, 1), 0.5);
    near(ft_schedule_factor(&s, 77), 1);
    assert_int_equal(s.total, 0);
    s = schedule("constant", "{}");
    near(ft_schedule_factor(&s, 0), 1);
    FAILS(INVALID, "constant_with_warmup", ft_schedule_parse("polynomial", NULL, &s, &err));
    struct ft_json *json = json_of("{\"num_training_steps\": \"all\"}");
    FAILS(INVALID, "num_training_steps", ft_schedule_parse("linear", json, &s, &err));
    ft_json_free(json);
}

/* ---- callbacks */

static void early_stopping_counts_as_finetuner_did(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_callbacks c;
    struct ft_json *list =
        json_of("[{\"name\": \"EarlyStopping\", \"options\": {\"monitor\": \"train_loss\", \"min_delta\": "
                "0.1}}, {\"name\": \"BestModelCheckpoint\", \"options\": {\"monitor\": \"map_at_r\"}}]");
    ASSERT_OK(ft_callbacks_parse(list, &c, &err));
    ft_json_free(list);
    struct ft_monitor *m = &c.early_stopping;
    assert_true(m->on && !m->larger_is_better && m->patience == 2 && c.best_model.larger_is_better);
    assert_true(ft_monitor_check(m, 1.0, 1) && !ft_monitor_stops(m));
    assert_false(ft_monitor_check(m, 0.95, 2)); /* not by more than min_delta */
    assert_true(ft_monitor_check(m, 0.8, 3));
    assert_false(ft_monitor_check(m, 0.75, 4));
    assert_false(ft_monitor_stops(m));
    assert_false(ft_monitor_check(m, 0.9, 5));
    assert_true(ft_monitor_stops(m));
    struct ft_json *kept = NULL;
    ASSERT_OK(ft_monitor_write(m, &kept, &err));
    struct ft_monitor back = {0};
    ft_monitor_read(&back, kept);
    ft_json_free(kept);
    assert_true(back.has_best && back.best == 0.8 && back.best_epoch == 3 && back.counter == 2);
    /* With a baseline the best is the baseline at every check. */
    struct ft_monitor base = {
        .on = true, .patience = 2, .has_baseline = true, .baseline = 0.5, .larger_is_better = true};
    assert_true(ft_monitor_check(&base, 0.7, 1));
    assert_true(ft_monitor_check(&base, 0.6, 2)); /* worse than 0.7, better than the baseline */
    assert_false(ft_monitor_check(&base, 0.4, 3));
    assert_false(ft_monitor_check(&base, 0.4, 4));
    assert_true(ft_monitor_stops(&base));
}

static void unknown_callbacks_are_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_callbacks c;
    static const struct {
        const char *json, *part;
        enum ft_status want;
    } bad[] = {
        {"[{\"name\": \"WandBLogger\"}]", "EarlyStopping", FT_INVALID},
        {"[{\"name\": \"EarlyStopping\", \"options\": {\"patience\": 0}}]", "patience", FT_INVALID},
        {"[{\"name\": \"EarlyStopping\", \"options\": {\"patient\": 1}}]", "patience", FT_INVALID},
        {"[{\"name\": \"BestModelCheckpoint\", \"options\": {\"mode\": \"best\"}}]", "mode", FT_INVALID},
        {"[{\"name\": \"EvaluationCallback\", \"options\": {\"query_data\": \"x.csv\"}}]", "query_data",
         FT_UNSUPPORTED},
        {"[3]", "callback", FT_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ft_json *list = json_of(bad[i].json);
        assert_int_equal(ft_callbacks_parse(list, &c, &err), bad[i].want);
        assert_non_null(strstr(err.text, bad[i].part));
        ft_json_free(list);
    }
    struct ft_json *list = json_of("[\"EvaluationCallback\"]");
    ASSERT_OK(ft_callbacks_parse(list, &c, &err));
    assert_true(c.evaluate && c.exclude_self);
    ft_json_free(list);
}

/* ---- checkpoints */

static const char job_a[FT_SHA256_HEX] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char job_b[FT_SHA256_HEX] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static void save(const char *dir, int64_t step, uint8_t value)
{
    struct ft_err err = {0};
    uint8_t a[100], b[7];
    memset(a, value, sizeof a);
    memset(b, value, sizeof b);
    struct ft_blob blobs[] = {{"weights", a, sizeof a}, {"states", b, sizeof b}, {"none", NULL, 0}};
    struct ft_json *state = ft_json_object();
    ASSERT_OK(ft_json_set(state, "step", ft_json_of_int(step), &err));
    struct ft_checkpoint c = {.step = step, .state = state, .blobs = blobs, .n_blobs = 3};
    memcpy(c.job, job_a, sizeof c.job);
    ASSERT_OK(ft_checkpoint_save(dir, &c, &err));
    ft_json_free(state);
}

static enum ft_status load(const char *dir, const char *job, uint8_t *value, int64_t *step,
                           struct ft_err *err)
{
    uint8_t a[100] = {0}, b[7] = {0};
    struct ft_blob blobs[] = {{"weights", a, sizeof a}, {"states", b, sizeof b}, {"none", NULL, 0}};
    struct ft_json *state = NULL;
    enum ft_status st = ft_checkpoint_load(dir, job, blobs, 3, &state, err);
    *value = a[99];
    *step = state != NULL ? ft_json_int(ft_json_get(state, "step")) : -1;
    ft_json_free(state);
    return st;
}

static void damage(const char *dir, const char *name, size_t at, bool cut)
{
    struct ft_err err = {0};
    struct ft_buf bytes = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(dir, name, &path, &err));
    ASSERT_OK(ft_file_read(path, 1 << 20, &bytes, &err));
    assert_true(at < bytes.size);
    bytes.data[at] ^= 1;
    ASSERT_OK(ft_file_write(path, ft_bytes_of(bytes.data, cut ? at : bytes.size), &err));
    ft_buf_release(&bytes);
    ft_free(path);
}

static void checkpoints_keep_two_and_skip_damage(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char *dir = NULL;
    uint8_t value = 0;
    int64_t step = 0;
    ASSERT_OK(ft_dir_temp("ft-checkpoint", &dir, &err));
    ASSERT_OK(load(dir, job_a, &value, &step, &err));
    assert_int_equal(step, -1);
    save(dir, 9, 1);
    save(dir, 10, 2);
    save(dir, 100, 3);
    struct ft_dir_list list = {0};
    ASSERT_OK(ft_dir_list(dir, &list, &err));
    assert_int_equal(list.count, 2);
    ft_dir_list_release(&list);
    ASSERT_OK(load(dir, job_a, &value, &step, &err));
    assert_true(step == 100 && value == 3);
    FAILS(INVALID, "another job", load(dir, job_b, &value, &step, &err));
    damage(dir, "checkpoint-000000000100.ftc", 150, false);
    ASSERT_OK(load(dir, job_a, &value, &step, &err));
    assert_true(step == 10 && value == 2);
    damage(dir, "checkpoint-000000000010.ftc", 60, true);
    FAILS(CORRUPT, "damaged", load(dir, job_a, &value, &step, &err));
    ASSERT_OK(ft_checkpoint_clear(dir, &err));
    ASSERT_OK(load(dir, job_a, &value, &step, &err));
    assert_int_equal(step, -1);
    ASSERT_OK(ft_path_remove(dir, &err));
    ft_free(dir);
}

/* What /fit asks before it promises a run: every name is checked without model and data. */
static void names_are_checked_before_a_run(void **state)
{
    static const struct {
        const char *json, *says;
        enum ft_status code;
    } bad[] = {
        {"{\"loss\": \"ArcFaceLoss\"}", "TripletMarginLoss", FT_INVALID},
        {"{\"miner\": \"HDCMiner\"}", "BatchHardMiner", FT_INVALID},
        {"{\"optimizer\": \"Foo\"}", "AdamW", FT_INVALID},
        {"{\"scheduler\": \"Foo\"}", "cosine", FT_INVALID},
        {"{\"optimizer_options\": {\"momentun\": 1}}", "momentun", FT_INVALID},
        {"{\"device\": \"cuda\"}", "cuda", FT_UNAVAILABLE},
    };
    struct ft_err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ft_fit_options o;
        struct ft_json *json = NULL;
        ASSERT_OK(ft_fit_options_init(&o, &err));
        ASSERT_OK(ft_fit_options_check(&o, &err));
        ASSERT_OK(ft_json_parse(ft_bytes_of_text(bad[i].json), &json, &err));
        enum ft_status st = ft_fit_options_read(&o, json, &err);
        st = st == FT_OK ? ft_fit_options_check(&o, &err) : st;
        assert_int_equal(st, bad[i].code);
        if (strstr(err.text, bad[i].says) == NULL) {
            fail_msg("%s: %s", bad[i].json, err.text);
        }
        ft_json_free(json);
        ft_fit_options_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked_before_a_run),
        cmocka_unit_test(options_are_read_in_both_spellings),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(help_and_defaults),
        cmocka_unit_test(options_survive_no_memory),
        cmocka_unit_test(losses_have_the_peers_defaults),
        cmocka_unit_test(optimizers_have_torchs_defaults),
        cmocka_unit_test(schedules_follow_transformers),
        cmocka_unit_test(early_stopping_counts_as_finetuner_did),
        cmocka_unit_test(unknown_callbacks_are_refused),
        cmocka_unit_test(checkpoints_keep_two_and_skip_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
