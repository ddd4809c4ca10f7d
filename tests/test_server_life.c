/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * How a service starts, goes on without memory, and ends.
 */
#include "tests/server_test.h"

/* Requests in hand are answered while the service goes down. */
static void stopping_answers_what_is_in_hand(void **state)
{
    struct fixture *f = *state;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct client client = {.f = f, .request = make_request("/encode", "{}", &doc, 1)};
    struct ft_thread *thread = NULL;
    struct ft_thread *unblock = NULL;
    block(true);
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL);
    struct ft_service *service = f->service;
    f->service = NULL;
    ASSERT_OK(ft_thread_start("stop", (ft_thread_main)ft_service_stop, service, &unblock, &err));
    (void)nanosleep(&nap, NULL);
    assert_int_equal(ft_rpc_ping(f->target, 500, &err), FT_UNAVAILABLE);
    block(false);
    ft_thread_join(thread);
    ft_thread_join(unblock);
    assert_int_equal(client.st, FT_OK);
    assert_false(client.answer.is_error);
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    ft_buf_release(&doc);
}

/* Each call finds no memory to ask gRPC for the next one: the service must not run out of open slots. */
static void moments_without_memory_cost_no_slot(void **state)
{
    const struct fixture *f = *state;
    struct ft_rpc_channel *channel = NULL; /* opened before: a client's own memory is not meant */
    ASSERT_OK(ft_rpc_channel_open(f->target, NULL, &channel, &err));
    for (int i = 0; i < 20; i++) {
        struct ft_rpc_answer answer;
        ft_alloc_fail_at(1);
        ASSERT_OK(ft_rpc_channel_call(channel, "/grpc.health.v1.Health/Check", ft_bytes_of(NULL, 0), 2000,
                                      &answer, &err));
        ft_alloc_fail_at(0);
        assert_int_equal(answer.code, 0);
        ft_rpc_answer_release(&answer);
    }
    ft_rpc_channel_close(channel);
}

static void stop_and_say(void *arg)
{
    struct fixture *f = arg;
    ft_service_stop(f->service);
    f->service = NULL;
}

/* A request to wait for a run that reaches the registry after the service began to go down: nobody will tell
 * of that run's end any more. */
static void a_late_wait_does_not_hold_the_service_up(void **state)
{
    struct fixture *f = *state;
    struct ft_buf docs[2] = {vector_doc("a", "x", 1), vector_doc("b", "y", 2)};
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    ask(f, "/train", "{}", docs, 2, &answer, &scanned);
    let_go(&answer, &scanned);
    struct client client = {.f = f,
                            .request = make_request("/fit", "{\"act\": \"late\", \"wait\": true}", NULL, 0)};
    struct ft_thread *thread = NULL;
    struct ft_thread *stop = NULL;
    block(true);
    ASSERT_OK(ft_thread_start("client", client_main, &client, &thread, &err));
    until_blocked();
    ASSERT_OK(ft_thread_start("stop", stop_and_say, f, &stop, &err));
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL);
    block(false);
    ft_thread_join(thread);
    ft_thread_join(stop);
    assert_int_equal(client.st, FT_OK);
    assert_true(client.answer.is_error);
    assert_non_null(
        memmem(client.answer.message.data, client.answer.message.size, "going down", strlen("going down")));
    ft_buf_release(&client.request);
    ft_buf_release(&client.answer.message);
    ft_buf_release(&docs[0]);
    ft_buf_release(&docs[1]);
}

static void starting_fails_with_the_reason(void **state)
{
    struct fixture *f = *state;
    struct ft_service *second = NULL;
    assert_int_equal(ft_service_start(&f->config, &ENGINE, &second, &err),
                     FT_BUSY); /* the workspace is held */
    struct ft_config config;
    char text[600];
    ASSERT_OK(ft_config_init(&config, &err));
    (void)snprintf(text, sizeof text, "%s/other", f->dir);
    ASSERT_OK(ft_config_set(&config, "test", "workspace", text, &err));
    ASSERT_OK(ft_config_set(&config, "test", "model", "broken.onnx", &err));
    assert_int_equal(ft_service_start(&config, &ENGINE, &second, &err), FT_CORRUPT);
    ASSERT_OK(ft_config_set(&config, "test", "model", "", &err));
    (void)snprintf(text, sizeof text, "%d", ft_service_port(f->service));
    ASSERT_OK(ft_config_set(&config, "test", "port", text, &err));
    ASSERT_OK(ft_config_set(&config, "test", "host", "127.0.0.1", &err));
    assert_int_equal(ft_service_start(&config, &ENGINE, &second, &err), FT_UNAVAILABLE);
    assert_null(second);
    ft_config_release(&config);
}

int main(int argc, char **argv)
{
    if (is_worker(argc, argv)) {
        return play(argv);
    }
    const struct CMUnitTest tests[] = {
        CASE(stopping_answers_what_is_in_hand),
        CASE(moments_without_memory_cost_no_slot),
        CASE(a_late_wait_does_not_hold_the_service_up),
        CASE(starting_fails_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
