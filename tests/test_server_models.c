/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * Models of a service: they change while it serves, and share its memory.
 */
#include "tests/server_test.h"

static void block_loading(bool blocked)
{
    (void)pthread_mutex_lock(&engine.mutex);
    engine.load_blocked = blocked;
    (void)pthread_cond_broadcast(&engine.changed);
    (void)pthread_mutex_unlock(&engine.mutex);
}

static void until_loading(void)
{
    (void)pthread_mutex_lock(&engine.mutex);
    while (!engine.loading) {
        (void)pthread_cond_wait(&engine.changed, &engine.mutex);
    }
    (void)pthread_mutex_unlock(&engine.mutex);
}

static void encodes(const struct fixture *f, const char *parameters, float plus)
{
    struct client client;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct ft_thread *thread = begin(&client, f, parameters, &doc, 1);
    ends_well(&client, thread, &doc, 1, plus);
    ft_buf_release(&doc);
}

/* A run's model is loaded while the old one serves; one that is broken changes nothing. */
static void a_new_model_comes_without_delay_and_a_broken_one_not_at_all(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct client client;
    struct ft_thread *thread = NULL;
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    block_loading(true);
    client = (struct client){.f = f,
                             .request = make_request("/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0)};
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    until_loading();
    for (int i = 0; i < 5; i++) {
        encodes(f, "{}", 0); /* would wait for ever if the old model had gone */
    }
    block_loading(false);
    ft_thread_join(thread); /* the run's answer comes once its model is served */
    assert_false(client.answer.is_error);
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    char tuned[512];
    (void)snprintf(tuned, sizeof tuned, "%s", look().opened);
    assert_non_null(strstr(tuned, "artifacts"));
    break_models(true);
    ask(f, "/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    assert_string_not_equal(look().opened, tuned); /* it was tried */
    encodes(f, "{}", 0);
    break_models(false);
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

/* Both models do not fit, and the old one still computes when the new one comes: the new one is not let go.
 */
static void a_new_model_stays_while_the_old_one_ends(void **state)
{
    const struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct client client;
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    block(true);
    struct ft_thread *thread = begin(&client, f, "{}", docs, 1);
    until_blocked();
    ask(f, "/fit", "{\"act\": \"go\", \"wait\": true}", NULL, 0, &answer, &scanned);
    assert_false(answer.is_error);
    let_go(&answer, &scanned);
    block(false);
    ends_well(&client, thread, docs, 1, 0);
    encodes(f, "{}", 0);
    assert_non_null(strstr(look().opened, "artifacts"));
    assert_int_equal(look().opens, 2); /* the configured one and the run's, each once */
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

/* Two models of 600 kB in 1 MB: the one not used goes. One that cannot fit is refused and costs nothing; so
 * is a broken one, while requests for others go on. */
static void models_share_a_memory_limit(void **state)
{
    const struct fixture *f = *state;
    static const char *const names[] = {"plus.onnx", "huge.onnx", "broken.onnx"};
    for (size_t i = 0; i < 3; i++) {
        put(f->dir, "models", ".", names[i], ft_bytes_of_text("x"));
    }
    struct ft_buf doc = vector_doc("a", NULL, 1);
    encodes(f, "{}", 0);
    encodes(f, "{\"model\": \"plus\"}", 1000);
    refused(f, "/encode", "{\"model\": \"huge\"}", &doc, 1, "models may take 1 MB");
    refused(f, "/encode", "{\"model\": \"broken\"}", &doc, 1, "is broken");
    refused(f, "/encode", "{\"model\": \"broken\"}", &doc, 1, "is broken"); /* tried again, not remembered */
    encodes(f, "{\"model\": \"plus\"}", 1000);
    assert_int_equal(look().opens, 3); /* classifier, plus, huge */
    encodes(f, "{}", 0);
    assert_int_equal(look().opens, 4); /* the first had to go for plus */
    block(true);
    struct client clients[2];
    struct ft_thread *first = begin(&clients[0], f, "{}", &doc, 1);
    until_blocked();
    block_loading(true);
    struct ft_thread *second = begin(&clients[1], f, "{\"model\": \"plus\"}", &doc, 1);
    until_in_line(f, 1);
    block(false);
    ends_well(&clients[0], first, &doc, 1, 0);
    encodes(f, "{}", 0); /* passes the one that waits for its model */
    block_loading(false);
    ends_well(&clients[1], second, &doc, 1, 1000);
    ft_buf_release(&doc);
}

int main(int argc, char **argv)
{
    if (is_worker(argc, argv)) {
        return play(argv);
    }
    const struct CMUnitTest tests[] = {
        WIDE(a_new_model_comes_without_delay_and_a_broken_one_not_at_all),
        WIDE(a_new_model_stays_while_the_old_one_ends),
        WIDE(models_share_a_memory_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
