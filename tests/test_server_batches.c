/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * Requests that stand in line for the model: which are computed together, which are refused, which are gone.
 */
#include "tests/server_test.h"

/* The device blocked, its queue full: health answers at once, requests beyond the queue are refused, none is
 * lost. */
static void a_full_queue_refuses_and_health_answers(void **state)
{
    enum { CLIENTS = 10 };
    const struct fixture *f = *state;
    struct client clients[CLIENTS];
    struct ft_thread *threads[CLIENTS];
    struct ft_buf doc = vector_doc("a", NULL, 1);
    block(true);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.f = f, .request = make_request("/encode", "{}", &doc, 1)};
        ASSERT_OK(ft_thread_start("client", client_main, &clients[i], &threads[i], &err));
        if (i == 0) {
            until_blocked(); /* the first one is out of the queue: how many fit behind it is certain */
        }
    }
    for (int i = 0; i < 20; i++) {
        const struct timespec nap = {0, 20000000};
        double start = ft_clock_seconds();
        ASSERT_OK(ft_rpc_ping(f->target, 1000, &err));
        assert_true(ft_clock_seconds() - start < 1);
        (void)nanosleep(&nap, NULL);
    }
    block(false);
    size_t refused_count = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        ft_thread_join(threads[i]);
        assert_false(clients[i].answer.is_error);
        if (clients[i].st != FT_OK) { /* jina/SPEC.md 3.5: gRPC's UNAVAILABLE is "try another replica" */
            refused_count++;
            assert_int_equal(clients[i].st, FT_UNAVAILABLE);
            assert_non_null(strstr(clients[i].why.text, "unavailable: too many requests"));
            assert_non_null(strstr(clients[i].why.text, "encode_queue = 2"));
        }
        ft_buf_release(&clients[i].request);
        ft_buf_release(&clients[i].answer.message);
    }
    /* One computes, two wait; the rest found no room. */
    assert_int_equal(refused_count, CLIENTS - 3);
    ft_buf_release(&doc);
}

/* While one is computed, three others come, of 1, 1 and 2 Documents: one batch. */
static void waiting_requests_are_computed_together(void **state)
{
    const struct fixture *f = *state;
    struct client clients[4];
    struct ft_thread *threads[4];
    struct ft_buf docs[5];
    for (size_t i = 0; i < 5; i++) {
        docs[i] = vector_doc("a", NULL, (float)i);
    }
    block(true);
    for (size_t i = 0; i < 4; i++) {
        threads[i] = begin(&clients[i], f, "{}", &docs[i], i == 3 ? 2 : 1);
        if (i == 0) {
            until_blocked();
        }
        until_in_line(f, i);
    }
    block(false);
    for (size_t i = 0; i < 4; i++) {
        ends_well(&clients[i], threads[i], &docs[i], i == 3 ? 2 : 1, 0);
    }
    assert_int_equal(look().log_count, 2);
    assert_int_equal(look().log_docs[1], 4);
    for (size_t i = 0; i < 5; i++) {
        ft_buf_release(&docs[i]);
    }
}

static void a_bad_document_fails_only_its_own_request(void **state)
{
    const struct fixture *f = *state;
    struct client clients[4];
    struct ft_thread *threads[4];
    struct ft_buf docs[3] = {vector_doc("a", NULL, 5), {0}, vector_doc("c", NULL, 7)};
    const struct ft_document bad = {.id = ft_bytes_of_text("the bad one"),
                                    .content = {.kind = FT_CONTENT_BLOB, .bytes = ft_bytes_of_text("x")}};
    ASSERT_OK(ft_docarray_v1_write(&bad, &docs[1], &err));
    block(true);
    for (size_t i = 0; i < 4; i++) { /* the first computes; then a; a with the bad one; c */
        threads[i] = begin(&clients[i], f, "{}", &docs[i == 3 ? 2 : 0], i == 2 ? 2 : 1);
        if (i == 0) {
            until_blocked();
        }
        until_in_line(f, i);
    }
    block(false);
    ends_well(&clients[0], threads[0], &docs[0], 1, 0);
    ends_well(&clients[1], threads[1], &docs[0], 1, 0);
    ends_refused(&clients[2], threads[2], "document 1 (id 'the bad one')");
    ends_well(&clients[3], threads[3], &docs[2], 1, 0);
    for (size_t i = 0; i < 3; i++) {
        ft_buf_release(&docs[i]);
    }
}

/* Ten batches of one request under way, a single Document behind it: it is in the next batch. By tokens, too:
 * texts of 30 and a budget of 40 are a batch each. */
static void a_long_request_lets_others_pass(void **state)
{
    enum { LONG = 40, TEXTS = 3 };
    const struct fixture *f = *state;
    struct client clients[2];
    struct ft_thread *threads[2];
    struct ft_buf docs[LONG + 1];
    for (size_t i = 0; i <= LONG; i++) {
        docs[i] = vector_doc("a", NULL, (float)i);
    }
    block(true);
    threads[0] = begin(&clients[0], f, "{}", docs, LONG);
    until_blocked();
    threads[1] = begin(&clients[1], f, "{}", docs + LONG, 1);
    until_in_line(f, 1);
    block(false);
    ends_well(&clients[0], threads[0], docs, LONG, 0);
    ends_well(&clients[1], threads[1], docs + LONG, 1, 0);
    assert_true(look().log_first[1] == LONG && look().log_docs[1] == 4);
    assert_int_equal(look().log_count, 11);
    for (size_t i = 0; i <= LONG; i++) {
        ft_buf_release(&docs[i]);
    }
    struct ft_buf texts[TEXTS] = {0};
    const struct ft_document text = {
        .id = ft_bytes_of_text("t"),
        .content = {.kind = FT_CONTENT_TEXT, .bytes = ft_bytes_of_text("a text of thirty bytes, in all")}};
    struct ft_rpc_answer answer;
    struct ft_jina_request scanned;
    for (size_t i = 0; i < TEXTS; i++) {
        ASSERT_OK(ft_docarray_v1_write(&text, &texts[i], &err));
    }
    ask(f, "/encode", "{}", texts, TEXTS, &answer, &scanned);
    assert_false(answer.is_error);
    assert_int_equal(look().log_count, 11 + TEXTS);
    let_go(&answer, &scanned);
    for (size_t i = 0; i < TEXTS; i++) {
        ft_buf_release(&texts[i]);
    }
}

/* A client that gave up is not computed for. */
static void a_request_whose_client_left_is_dropped(void **state)
{
    const struct fixture *f = *state;
    struct client client;
    struct ft_buf doc = vector_doc("a", NULL, 1);
    struct ft_buf other = vector_doc("b", NULL, 2);
    struct ft_buf request = make_request("/encode", "{}", &other, 1);
    struct ft_rpc_answer answer;
    block(true);
    struct ft_thread *thread = begin(&client, f, "{}", &doc, 1);
    until_blocked();
    assert_int_equal(ft_rpc_call(f->target, SINGLE, ft_buf_bytes(&request), 200, &answer, &err),
                     FT_UNAVAILABLE);
    const struct timespec nap = {0, 300000000};
    (void)nanosleep(&nap, NULL); /* the server hears of it */
    block(false);
    ends_well(&client, thread, &doc, 1, 0);
    until_in_line(f, 0);
    ft_buf_release(&doc);
    doc = vector_doc("c", NULL, 3);
    thread = begin(&client, f, "{}", &doc, 1);
    ends_well(&client, thread, &doc, 1, 0);
    assert_int_equal(look().log_count, 2);
    assert_true(look().log_first[1] == 3);
    ft_buf_release(&request);
    ft_buf_release(&other);
    ft_buf_release(&doc);
}

int main(int argc, char **argv)
{
    if (is_worker(argc, argv)) {
        return play(argv);
    }
    const struct CMUnitTest tests[] = {
        CASE(a_full_queue_refuses_and_health_answers),   WIDE(waiting_requests_are_computed_together),
        WIDE(a_bad_document_fails_only_its_own_request), WIDE(a_long_request_lets_others_pass),
        WIDE(a_request_whose_client_left_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
