/* links: ft_train ft_model ft_graph ft_kernels ft_codec ft_base */
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/train_test.h"

#include "executor/base/rand.h"
#include "executor/model/onnx.h"
#include "executor/train/encoder.h"
#include "executor/train/feed.h"
#include "executor/train/fit.h"

#define FAILS(code, part, call)                                                                              \
    do {                                                                                                     \
        enum ft_status fails_ = (call);                                                                      \
        if (fails_ != FT_##code || strstr(err.text, part) == NULL) {                                         \
            fail_msg("%s: '%s' does not tell of '%s'", ft_status_text(fails_), err.text, part);              \
        }                                                                                                    \
    } while (0)

enum { IN = 8, HIDDEN = 16, DIM = 6, LABELS = 5 };

static char *folder; /* of this program's files; removed at the end */
static const char *self;

static char *in_folder(const char *name)
{
    struct ft_err err = {0};
    char *path = NULL;
    ASSERT_OK(ft_path_join(folder, name, &path, &err));
    return path;
}

/* ---- a model and data, written as files */

static ft_value weights(struct ft_graph *g, const char *name, int rank, const int64_t *extents, double fill,
                        enum ft_param_role role)
{
    struct ft_err err = {0};
    struct ft_type type = ft_type_of(FT_F32, rank, extents);
    static float data[1024];
    static uint64_t stream;
    stream++;
    for (int64_t i = 0; i < ft_elements(&type); i++) {
        double x = ft_rand_normal(ft_rand_at(11, FT_RAND_TEST, stream), (uint64_t)i);
        data[i] = (float)(isnan(fill) ? 0.4 * x : fill);
    }
    ft_value v = FT_NO_VALUE;
    ASSERT_OK(ft_graph_param(g, name, &type, role, data, &v, &err));
    return v;
}

static ft_value linear(struct ft_graph *g, ft_value x, const char *name, int64_t from, int64_t to)
{
    struct ft_err err = {0};
    struct ft_attrs a;
    char w[32], b[32];
    memset(&a, 0, sizeof a);
    a.alpha = 1.0F;
    (void)snprintf(w, sizeof w, "%s.weight", name);
    (void)snprintf(b, sizeof b, "%s.bias", name);
    ft_value in[3] = {x, weights(g, w, 2, (const int64_t[]){from, to}, NAN, FT_PARAM_WEIGHT),
                      weights(g, b, 1, (const int64_t[]){to}, 0, FT_PARAM_WEIGHT)};
    ft_value out = FT_NO_VALUE;
    ASSERT_OK(ft_graph_add(g, FT_OP_MATMUL, &a, in, 3, name, &out, &err));
    return out;
}

static void write_model(const char *path)
{
    struct ft_err err = {0};
    struct ft_graph *g = NULL;
    struct ft_buf bytes = {0};
    struct ft_attrs a;
    struct ft_type type = ft_type_of(FT_F32, 2, (const int64_t[]){1, IN});
    type.dim[0] = ft_dim_symbol(FT_SYMBOL_BATCH);
    ft_value x = FT_NO_VALUE, y = FT_NO_VALUE, out[FT_MAX_OUTPUTS];
    const int64_t c[1] = {HIDDEN};
    ASSERT_OK(ft_graph_new(&g, &err));
    ASSERT_OK(ft_graph_input(g, "x", &type, &x, &err));
    y = linear(g, x, "fc1", IN, HIDDEN);
    memset(&a, 0, sizeof a);
    a.eps = 1e-5F;
    a.momentum = 0.1F;
    ft_value bn[5] = {y, weights(g, "bn.weight", 1, c, 1, FT_PARAM_WEIGHT),
                      weights(g, "bn.bias", 1, c, 0, FT_PARAM_WEIGHT),
                      weights(g, "bn.running_mean", 1, c, 0, FT_PARAM_STATE),
                      weights(g, "bn.running_var", 1, c, 1, FT_PARAM_STATE)};
    ASSERT_OK(ft_graph_add(g, FT_OP_BATCHNORM, &a, bn, 5, "bn", out, &err));
    ASSERT_OK(ft_graph_add1(g, FT_OP_RELU, out[0], &y, &err));
    y = linear(g, y, "embed", HIDDEN, DIM);
    y = linear(g, y, "classifier", DIM, LABELS);
    ASSERT_OK(ft_graph_output(g, y, "logits", &err));
    ASSERT_OK(ft_onnx_write(g, "test", NULL, &bytes, &err));
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&bytes), &err));
    ft_buf_release(&bytes);
    ft_graph_free(g);
}

/* `classes` clouds in a space where three of eight axes tell them apart. */
static void write_data(const char *path, int classes, int each, uint64_t seed)
{
    struct ft_err err = {0};
    struct ft_buf text = {0};
    for (int i = 0; i < classes * each; i++) {
        int label = i % classes;
        ASSERT_OK(ft_buf_text(&text, "{\"tensor\": [", &err));
        for (int d = 0; d < IN; d++) {
            double centre =
                d < 3 ? ft_rand_normal(ft_rand_at(5, FT_RAND_TEST, 900), (uint64_t)label * 3 + (uint64_t)d)
                      : 0;
            double noise =
                ft_rand_normal(ft_rand_at(seed, FT_RAND_TEST, 901), (uint64_t)i * IN + (uint64_t)d);
            ASSERT_OK(ft_buf_printf(&text, &err, "%s%.5f", d > 0 ? ", " : "",
                                    1.5 * centre + (d < 3 ? 0.4 : 1.5) * noise));
        }
        ASSERT_OK(ft_buf_printf(&text, &err, "], \"label\": \"class-%d\"}\n", label));
    }
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&text), &err));
    ft_buf_release(&text);
}

/* ---- a job */

struct setting {
    const char *options; /* JSON */
    const char *train;   /* file in the folder */
    const char *eval;    /* or NULL */
    const char *out;     /* or NULL */
    const char *work;    /* or NULL */
    bool resume;
    int64_t cancel_at; /* step; 0 = never */
    int64_t crash_at;
    const char *listen; /* *heard: was a note with these words told? */
    bool *heard;
};

struct watcher {
    const struct setting *setting;
    struct ft_cancel cancel;
    int64_t steps;
    int notes;
};

static void on_progress(void *arg, const struct ft_fit_progress *p)
{
    struct watcher *w = arg;
    w->steps++;
    if (p->step == w->setting->cancel_at) {
        atomic_store(&w->cancel.asked, true);
    }
    if (p->step == w->setting->crash_at) {
        _exit(9);
    }
    assert_true(p->steps >= p->step && p->epochs >= p->epoch && isfinite(p->loss));
}

static void on_note(void *arg, const char *line)
{
    struct watcher *w = arg;
    assert_non_null(line);
    w->notes++;
    if (w->setting->listen != NULL && strstr(line, w->setting->listen) != NULL) {
        *w->setting->heard = true;
    }
}

static enum ft_status make_options(const struct setting *s, struct ft_fit_options *o, struct ft_err *err)
{
    struct ft_json *json = NULL;
    enum ft_status st = FT_OK;
    char *work = NULL;
    FT_TRY(ft_fit_options_init(o, err));
    FT_TRY(ft_fit_options_set(o, "threads", "1", err));
    FT_TRY(ft_fit_options_set(o, "batch-size", "20", err));
    if (s->options != NULL) {
        FT_TRY(ft_json_parse(ft_bytes_of_text(s->options), &json, err));
        FT_TRY(ft_fit_options_read(o, json, err));
    }
    if (s->work != NULL) {
        FT_TRY(ft_path_join(folder, s->work, &work, err));
        FT_TRY(ft_fit_options_set(o, "work-dir", work, err));
    }
    o->resume = s->resume;
done:
    ft_free(work);
    ft_json_free(json);
    return st;
}

static enum ft_status run(const struct setting *s, struct ft_fit_result *result, struct ft_err *err)
{
    struct ft_fit_options options;
    struct ft_dataset *train = NULL, *eval = NULL;
    char *model = NULL, *train_path = NULL, *eval_path = NULL, *out = NULL;
    struct watcher watcher = {.setting = s};
    enum ft_status st = FT_OK;
    memset(&options, 0, sizeof options);
    memset(result, 0, sizeof *result);
    FT_TRY(make_options(s, &options, err));
    FT_TRY(ft_path_join(folder, "model.onnx", &model, err));
    FT_TRY(ft_path_join(folder, s->train, &train_path, err));
    FT_TRY(ft_dataset_open(train_path, true, &train, err));
    if (s->eval != NULL) {
        FT_TRY(ft_path_join(folder, s->eval, &eval_path, err));
        FT_TRY(ft_dataset_open(eval_path, true, &eval, err));
    }
    if (s->out != NULL) {
        FT_TRY(ft_path_join(folder, s->out, &out, err));
    }
    struct ft_fit_job job = {.model_path = model,
                             .train = train,
                             .eval = eval,
                             .options = &options,
                             .out = out,
                             .command = "finetuner fit",
                             .cancel = &watcher.cancel,
                             .events = {&watcher, on_progress, on_note, NULL, NULL}};
    FT_TRY(ft_fit(&job, result, err));
done:
    ft_dataset_free(train);
    ft_dataset_free(eval);
    ft_free(model);
    ft_free(train_path);
    ft_free(eval_path);
    ft_free(out);
    ft_fit_options_release(&options);
    return st;
}

static double number(const struct ft_fit_result *r, const char *a, const char *b, const char *c)
{
    const struct ft_json *j = ft_json_get(r->summary, a);
    j = b != NULL ? ft_json_get(j, b) : j;
    j = c != NULL ? ft_json_get(j, c) : j;
    assert_true(ft_json_is_number(j));
    return ft_json_real(j);
}

static struct ft_buf bytes_of(const char *name)
{
    struct ft_err err = {0};
    struct ft_buf bytes = {0};
    char *path = in_folder(name);
    ASSERT_OK(ft_file_read(path, 1 << 24, &bytes, &err));
    ft_free(path);
    return bytes;
}

static void assert_same_file(const char *a, const char *b)
{
    struct ft_buf x = bytes_of(a), y = bytes_of(b);
    assert_true(ft_bytes_equal(ft_buf_bytes(&x), ft_buf_bytes(&y)));
    ft_buf_release(&x);
    ft_buf_release(&y);
}

static int set_up(void **state)
{
    (void)state;
    struct ft_err err = {0};
    ASSERT_OK(ft_dir_temp("ft-fit", &folder, &err));
    struct {
        const char *name;
        int classes, each;
        uint64_t seed;
    } sets[] = {{"train.jsonl", 6, 30, 1},
                {"eval.jsonl", 6, 15, 2},
                {"one.jsonl", 1, 20, 3},
                {"single.jsonl", 20, 1, 4},
                {"other.jsonl", 6, 30, 7}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char *path = in_folder(sets[i].name);
        write_data(path, sets[i].classes, sets[i].each, sets[i].seed);
        ft_free(path);
    }
    char *model = in_folder("model.onnx");
    write_model(model);
    ft_free(model);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct ft_err err = {0};
    ASSERT_OK(ft_path_remove(folder, &err));
    ft_free(folder);
    return 0;
}

/* ---- promises */

static void training_improves_retrieval_and_allocates_nothing(void **state)
{
    (void)state;
    struct ft_err err = {0};
    static const char *const devices[] = {"cpu", "ref"};
    for (size_t i = 0; i < 2; i++) {
        char options[64];
        (void)snprintf(options, sizeof options, "{\"steps\": 80, \"device\": \"%s\"}", devices[i]);
        struct setting s = {
            .options = options, .train = "train.jsonl", .eval = "eval.jsonl", .out = "tuned.zip"};
        struct ft_fit_result r;
        ASSERT_OK(run(&s, &r, &err));
        assert_false(r.cancelled);
        double before = number(&r, "metrics", "before", "map_at_r");
        double after = number(&r, "metrics", "after", "map_at_r");
        printf("%s: MAP@R %.3f -> %.3f\n", devices[i], before, after);
        assert_true(after > before + 0.1);
        assert_true(number(&r, "allocations_in_steps", NULL, NULL) == 0);
        assert_true(number(&r, "steps", NULL, NULL) == 80 && number(&r, "epochs", NULL, NULL) == 9);
        ft_json_free(r.summary);
        char *work = in_folder("tuned.zip.work");
        assert_int_equal(ft_path_kind(work), FT_PATH_NONE);
        ft_free(work);
    }
}

static void the_artifact_encodes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_encoder *encoder = NULL;
    struct ft_dataset *data = NULL;
    char *path = in_folder("tuned.zip"), *eval = in_folder("eval.jsonl");
    static float all[90 * DIM], one[DIM];
    struct ft_encoder_spec spec = {.model_path = path, .device = "cpu", .threads = 1, .batch_max = 32};
    ASSERT_OK(ft_encoder_open(&spec, &encoder, &err));
    assert_int_equal(ft_encoder_dim(encoder), DIM);
    ASSERT_OK(ft_dataset_open(eval, true, &data, &err));
    assert_int_equal(ft_dataset_count(data), 90);
    ASSERT_OK(ft_encoder_dataset(encoder, data, all, NULL, NULL, NULL, &err));
    /* A row alone is what it is among others. */
    float row[IN];
    struct ft_content content;
    struct ft_buf own = {0};
    ASSERT_OK(ft_dataset_content(data, 77, &own, &content, &err));
    ASSERT_OK(ft_prep_item(ft_encoder_prep(encoder), &content, row, &err));
    ASSERT_OK(ft_encoder_rows(encoder, row, 1, one, &err));
    for (int d = 0; d < DIM; d++) {
        assert_true(fabsf(one[d] - all[77 * DIM + d]) < 1e-5F);
    }
    struct ft_cancel cancel;
    atomic_init(&cancel.asked, true);
    assert_int_equal(ft_encoder_dataset(encoder, data, all, &cancel, NULL, NULL, &err), FT_CANCELLED);
    ft_buf_release(&own);
    ft_dataset_free(data);
    ft_encoder_free(encoder);
    ft_free(path);
    ft_free(eval);
}

static void batches_are_the_same_kept_or_prepared_on_the_way(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    struct ft_prep prep;
    struct ft_rows rows[2];
    struct ft_sampler *sampler[2];
    struct ft_feed *feed[2];
    struct ft_sampler_shape shape;
    char *path = in_folder("train.jsonl");
    ASSERT_OK(ft_dataset_open(path, true, &data, &err));
    ASSERT_OK(ft_prep_infer((const int64_t[]){IN}, 1, &prep, &err));
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(ft_rows_init(&rows[i], data, &prep, 2, i == 0 ? SIZE_MAX : 0, NULL, &err));
        sampler[i] = sampler_of(data, &shape);
        ASSERT_OK(
            ft_feed_new(&rows[i], NULL, sampler[i], &(struct ft_feed_size){shape.batch, 0}, &feed[i], &err));
    }
    assert_true(rows[0].kept != NULL && rows[1].kept == NULL);
    for (int n = 0; n < 30; n++) {
        const struct ft_batch *b[2];
        ASSERT_OK(ft_feed_next(feed[0], &b[0], &err));
        ASSERT_OK(ft_feed_next(feed[1], &b[1], &err));
        assert_memory_equal(b[0]->items, b[1]->items, shape.batch * sizeof(uint32_t));
        assert_memory_equal(b[0]->labels, b[1]->labels, shape.batch * sizeof(int32_t));
        assert_memory_equal(b[0]->input[0].data, b[1]->input[0].data, shape.batch * IN * sizeof(float));
        ft_feed_done(feed[0], b[0]);
        ft_feed_done(feed[1], b[1]);
    }
    for (int i = 0; i < 2; i++) {
        ft_feed_free(feed[i]);
        ft_sampler_free(sampler[i]);
        ft_rows_release(&rows[i]);
    }
    ft_dataset_free(data);
    ft_free(path);
}

static void a_document_that_does_not_fit_is_named(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    struct ft_prep prep;
    struct ft_rows rows;
    struct ft_sampler_shape shape;
    const struct ft_batch *batch = NULL;
    struct ft_feed *feed = NULL;
    char *path = in_folder("train.jsonl");
    ASSERT_OK(ft_dataset_open(path, true, &data, &err));
    ASSERT_OK(ft_prep_infer((const int64_t[]){IN + 1}, 1, &prep, &err));
    FAILS(INVALID, "train.jsonl:1", ft_rows_init(&rows, data, &prep, 2, SIZE_MAX, NULL, &err));
    ASSERT_OK(ft_rows_init(&rows, data, &prep, 2, 0, NULL, &err));
    struct ft_sampler *sampler = sampler_of(data, &shape);
    ASSERT_OK(ft_feed_new(&rows, NULL, sampler, &(struct ft_feed_size){shape.batch, 0}, &feed, &err));
    FAILS(INVALID, "train.jsonl:", ft_feed_next(feed, &batch, &err));
    ft_feed_free(feed);
    ft_sampler_free(sampler);
    ft_rows_release(&rows);
    ft_dataset_free(data);
    ft_free(path);
}

/* A failure that does not come again must not leave the rows behind it unprepared. */
static void rows_are_whole_or_refused(void **state)
{
    (void)state;
    enum { ROWS = 8, PIXELS = 3 * 4 * 4 };
    struct ft_err err = {0};
    struct ft_dataset *data = NULL;
    struct ft_prep prep;
    struct ft_rows rows;
    struct ft_buf text = {0};
    float want[ROWS * PIXELS], got[ROWS * PIXELS];
    char *path = in_folder("images.jsonl");
    for (int i = 0; i < ROWS; i++) {
        ASSERT_OK(ft_buf_printf(&text, &err, "{\"uri\": \"%s/codec/png_c2_b8.png\", \"label\": \"%d\"}\n",
                                FT_TEST_DATA, i % 2));
    }
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&text), &err));
    ASSERT_OK(ft_dataset_open(path, true, &data, &err));
    ASSERT_OK(ft_prep_infer((const int64_t[]){3, 4, 4}, 3, &prep, &err));
    ASSERT_OK(ft_rows_init(&rows, data, &prep, 2, 0, NULL, &err));
    ASSERT_OK(ft_rows_fill(&rows, 0, ROWS, want, NULL, &err));
    int good = 0;
    for (uint64_t n = 1; n <= 30; n++) {
        memset(got, 0, sizeof got);
        ft_alloc_fail_at(n);
        enum ft_status st = ft_rows_fill(&rows, 0, ROWS, got, NULL, &err);
        ft_alloc_fail_at(0);
        assert_true(st == FT_NOMEM || (st == FT_OK && memcmp(got, want, sizeof got) == 0));
        good += st == FT_OK;
    }
    assert_true(good > 0);
    ft_rows_release(&rows);
    ft_dataset_free(data);
    ft_buf_release(&text);
    ft_free(path);
}

static void equal_jobs_make_equal_bytes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    static const char *const outs[] = {"a.zip", "b.zip"};
    for (int i = 0; i < 2; i++) {
        struct setting s = {.options = "{\"steps\": 15, \"name\": \"same\"}",
                            .train = "train.jsonl",
                            .eval = "eval.jsonl",
                            .out = outs[i]};
        ASSERT_OK(run(&s, &r, &err));
        ft_json_free(r.summary);
    }
    assert_same_file("a.zip", "b.zip");
}

static const char rich[] =
    "{\"epochs\": 4, \"scheduler\": \"cosine\", \"scheduler_options\": {\"num_warmup_steps\": 5}, "
    "\"val_split\": 0.2, "
    "\"checkpoint_steps\": 3, \"callbacks\": [{\"name\": \"BestModelCheckpoint\"}, {\"name\": "
    "\"EarlyStopping\", "
    "\"options\": {\"patience\": 3}}, {\"name\": \"EvaluationCallback\"}], \"name\": \"same\"}";

static int64_t train_whole(void)
{
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {.options = rich, .train = "train.jsonl", .out = "whole.zip", .work = "whole"};
    ASSERT_OK(run(&s, &r, &err));
    assert_true(number(&r, "best_epoch", NULL, NULL) >= 1);
    assert_int_equal(ft_json_count(ft_json_get(r.summary, "history")),
                     (size_t)number(&r, "epochs", NULL, NULL));
    int64_t steps = (int64_t)number(&r, "steps", NULL, NULL);
    ft_json_free(r.summary);
    return steps;
}

static void assert_ends_alike(int64_t steps, const char *work)
{
    char a[96], b[96];
    (void)snprintf(a, sizeof a, "whole/checkpoint-%012lld.ftc", (long long)steps);
    (void)snprintf(b, sizeof b, "%s/checkpoint-%012lld.ftc", work, (long long)steps);
    assert_same_file(a, b);
    assert_same_file("whole.zip", "parts.zip");
}

static void a_cancelled_run_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    int64_t steps = train_whole();
    for (int64_t at = 1; at < steps; at += 5) {
        struct setting s = {
            .options = rich, .train = "train.jsonl", .out = "parts.zip", .work = "parts", .cancel_at = at};
        ASSERT_OK(run(&s, &r, &err));
        assert_true(r.cancelled);
        assert_string_equal(ft_json_text(ft_json_get(r.summary, "status"), NULL), "cancelled");
        ft_json_free(r.summary);
        s.cancel_at = 0;
        s.resume = true;
        ASSERT_OK(run(&s, &r, &err));
        assert_true(number(&r, "resumed_from", NULL, NULL) == (double)at);
        assert_true(number(&r, "repeated_steps", NULL, NULL) == 0);
        ft_json_free(r.summary);
        assert_ends_alike(steps, "parts");
    }
}

/* The other process: this program with "crash-at STEP" or "resume-crash-at STEP". */
static int crash(const char *step, bool resume)
{
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {.options = rich, .train = "train.jsonl", .out = "parts.zip", .work = "crashed"};
    s.resume = resume;
    s.crash_at = strtoll(step, NULL, 10);
    folder = getenv("FT_FIT_FOLDER");
    (void)run(&s, &r, &err);
    return 1; /* it should have ended inside */
}

static void crash_in_a_child(const char *how, int64_t at)
{
    char command[512];
    assert_int_equal(setenv("FT_FIT_FOLDER", folder, 1), 0);
    (void)snprintf(command, sizeof command, "'%s' %s %lld", self, how, (long long)at);
    int status = system(command); /* NOLINT(cert-env33-c): a test starts itself */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

static void a_crashed_run_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    int64_t steps = train_whole();
    for (int64_t at = 2; at < steps; at += 7) {
        crash_in_a_child("crash-at", at);
        struct setting s = {
            .options = rich, .train = "train.jsonl", .out = "parts.zip", .work = "crashed", .resume = true};
        ASSERT_OK(run(&s, &r, &err));
        double from = number(&r, "resumed_from", NULL, NULL);
        assert_true(from < (double)at || at % 3 == 0);
        assert_true(number(&r, "repeated_steps", NULL, NULL) == (double)at - from);
        ft_json_free(r.summary);
        assert_ends_alike(steps, "crashed");
    }
}

/* Checkpoints at 3, 6, 9, ...: step 7 is done three times, step 8 and those behind the last checkpoint twice.
 */
static void steps_are_counted_over_all_crashes(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    int64_t steps = train_whole();
    crash_in_a_child("crash-at", 8);
    crash_in_a_child("resume-crash-at", 7);
    struct ft_buf cut = bytes_of("crashed/steps.jsonl"); /* a crash may cut its last line */
    ASSERT_OK(ft_buf_text(&cut, "{\"step\":8,\"epo", &err));
    char *path = in_folder("crashed/steps.jsonl");
    ASSERT_OK(ft_file_write(path, ft_buf_bytes(&cut), &err));
    crash_in_a_child("resume-crash-at", 11);
    struct setting s = {
        .options = rich, .train = "train.jsonl", .out = "parts.zip", .work = "crashed", .resume = true};
    ASSERT_OK(run(&s, &r, &err));
    assert_true(number(&r, "resumed_from", NULL, NULL) >= 9);
    struct ft_buf text = bytes_of("crashed/steps.jsonl");
    struct ft_bytes rest = ft_buf_bytes(&text);
    int64_t lines = 0, again = 0;
    for (const uint8_t *end; (end = memchr(rest.data, '\n', rest.size)) != NULL; lines++) {
        struct ft_json *line = NULL;
        size_t size = (size_t)(end - rest.data);
        ASSERT_OK(ft_json_parse(ft_bytes_of(rest.data, size), &line, &err));
        again += ft_json_bool(ft_json_get(line, "again"));
        ft_json_free(line);
        rest = ft_bytes_of(end + 1, rest.size - size - 1);
    }
    assert_int_equal(rest.size, 0);
    assert_int_equal(again, lines - steps);
    assert_true(number(&r, "repeated_steps", NULL, NULL) == (double)(lines - steps));
    ft_json_free(r.summary);
    assert_ends_alike(steps, "crashed");
    ft_buf_release(&text);
    ft_buf_release(&cut);
    ft_free(path);
}

static void another_number_of_threads_is_told(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    for (int threads = 1; threads <= 2; threads++) {
        bool heard = false;
        char options[64];
        struct setting s = {
            .options = "{\"steps\": 9}", .train = "train.jsonl", .work = "threads", .cancel_at = 4};
        ASSERT_OK(run(&s, &r, &err));
        ft_json_free(r.summary);
        (void)snprintf(options, sizeof options, "{\"steps\": 9, \"threads\": %d}", threads);
        s = (struct setting){.options = options,
                             .train = "train.jsonl",
                             .work = "threads",
                             .resume = true,
                             .listen = "2 threads, begun with 1",
                             .heard = &heard};
        ASSERT_OK(run(&s, &r, &err));
        ft_json_free(r.summary);
        assert_int_equal(heard, threads == 2);
    }
}

static void a_resume_of_another_job_is_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {.options = "{\"steps\": 6}", .train = "train.jsonl", .work = "mine"};
    ASSERT_OK(run(&s, &r, &err));
    ft_json_free(r.summary);
    s.resume = true;
    s.train = "other.jsonl";
    FAILS(INVALID, "another job", run(&s, &r, &err));
    s.train = "train.jsonl";
    s.options = "{\"steps\": 6, \"learning_rate\": 0.5}";
    FAILS(INVALID, "another job", run(&s, &r, &err));
    s.work = NULL;
    FAILS(INVALID, "work folder", run(&s, &r, &err));
}

static void impossible_jobs_are_refused_before_training(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    static const struct {
        const char *options, *train, *part;
        enum ft_status want;
    } bad[] = {
        {NULL, "one.jsonl", "\"class-0\"", FT_INVALID},
        {NULL, "single.jsonl", "\"class-0\", \"class-1\", ...", FT_INVALID},
        {"{\"loss\": \"ArcFaceLoss\"}", "train.jsonl", "ContrastiveLoss", FT_INVALID},
        {"{\"miner\": \"HDCMiner\"}", "train.jsonl", "BatchHardMiner", FT_INVALID},
        {"{\"optimizer\": \"Rprop\"}", "train.jsonl", "AdamW", FT_INVALID},
        {"{\"scheduler\": \"polynomial\"}", "train.jsonl", "cosine", FT_INVALID},
        {"{\"callbacks\": [\"EarlyStopping\"]}", "train.jsonl", "val_split", FT_INVALID},
        {"{\"callbacks\": [\"EvaluationCallback\"]}", "train.jsonl", "evaluation data", FT_INVALID},
        {"{\"callbacks\": [{\"name\": \"BestModelCheckpoint\", \"options\": {\"monitor\": \"map\"}}]}",
         "train.jsonl", "map", FT_INVALID},
        {"{\"device\": \"tpu\"}", "train.jsonl", "tpu", FT_INVALID},
        {"{\"cut\": \"nowhere\"}", "train.jsonl", "nowhere", FT_INVALID},
        {"{\"prep_options\": {\"kind\": \"sound\"}}", "train.jsonl", "kind", FT_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct setting s = {.options = bad[i].options, .train = bad[i].train};
        enum ft_status st = run(&s, &r, &err);
        if (st != bad[i].want || strstr(err.text, bad[i].part) == NULL) {
            fail_msg("case %zu: %s: %s", i, ft_status_text(st), err.text);
        }
        assert_null(r.summary);
    }
}

static void divergence_stops_and_says_where(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {
        .options = "{\"steps\": 50, \"optimizer\": \"SGD\", \"learning_rate\": 100, \"clip_norm\": 0, "
                   "\"optimizer_options\": {\"weight_decay\": 100000}}",
        .train = "train.jsonl"};
    FAILS(DIVERGED, "step ", run(&s, &r, &err));
    assert_non_null(strstr(err.text, "not finite"));
    assert_null(strstr(err.text, "-nan"));
}

static void training_stops_early(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {
        .options = "{\"epochs\": 50, \"val_split\": 0.3, \"callbacks\": [{\"name\": \"EarlyStopping\", "
                   "\"options\": {\"patience\": 2, \"min_delta\": 0.5}}]}",
        .train = "train.jsonl"};
    ASSERT_OK(run(&s, &r, &err));
    assert_true(number(&r, "epochs", NULL, NULL) == 3); /* the first value is the best, two are not */
    assert_true(ft_json_bool(ft_json_get(r.summary, "stopped_early")));
    ft_json_free(r.summary);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_fit_result r;
    struct setting s = {.options =
                            "{\"steps\": 2, \"val_split\": 0.3, \"callbacks\": [\"BestModelCheckpoint\"]}",
                        .train = "train.jsonl",
                        .out = "small",
                        .work = "small-work"};
    size_t live = ft_alloc_stats().live_blocks;
    enum ft_status st = FT_NOMEM;
    /* Every one of the first allocations, then ever fewer: there are some ten thousand. */
    for (uint64_t n = 1, tries = 0; st != FT_OK; n += 1 + n / 40, tries++) {
        ft_alloc_fail_at(n);
        st = run(&s, &r, &err);
        ft_alloc_fail_at(0);
        if (st != FT_OK && st != FT_NOMEM) {
            fail_msg("allocation %llu: %s: %s", (unsigned long long)n, ft_status_text(st), err.text);
        }
        ft_json_free(r.summary);
        if (ft_alloc_stats().live_blocks != live) {
            fail_msg("allocation %llu leaks", (unsigned long long)n);
        }
        assert_true(tries < 2000);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_improves_retrieval_and_allocates_nothing),
        cmocka_unit_test(the_artifact_encodes),
        cmocka_unit_test(batches_are_the_same_kept_or_prepared_on_the_way),
        cmocka_unit_test(a_document_that_does_not_fit_is_named),
        cmocka_unit_test(rows_are_whole_or_refused),
        cmocka_unit_test(equal_jobs_make_equal_bytes),
        cmocka_unit_test(a_cancelled_run_goes_on_bit_for_bit),
        cmocka_unit_test(a_crashed_run_goes_on_bit_for_bit),
        cmocka_unit_test(steps_are_counted_over_all_crashes),
        cmocka_unit_test(another_number_of_threads_is_told),
        cmocka_unit_test(a_resume_of_another_job_is_refused),
        cmocka_unit_test(impossible_jobs_are_refused_before_training),
        cmocka_unit_test(divergence_stops_and_says_where),
        cmocka_unit_test(training_stops_early),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    self = argv[0];
    if (argc == 3 && strstr(argv[1], "crash-at") != NULL) {
        return crash(argv[2], strcmp(argv[1], "resume-crash-at") == 0);
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
