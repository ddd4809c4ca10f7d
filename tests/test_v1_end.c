/* links: ft_server ft_rpc ft_runs ft_config ft_store ft_wire ft_codec ft_base */
/*
 * A call of finetuner.v1 whose answer is on the wire while the thread that worked for it still holds it, in
 * the moment in which the service ends: the thread is stopped there by this program's own
 * pthread_mutex_unlock(), and what it locks next must not have been destroyed meanwhile.
 */
#include <dlfcn.h>

#include "executor/rpc/stream.h"
#include "tests/server_test.h"

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#ifndef HAS_TSAN /* which has functions of its own in their place */
enum { GONE = 64, SLOW_MS = 500 };

static atomic_bool slow;                      /* the thread that has the device, after each unlock */
static _Atomic(pthread_mutex_t *) gone[GONE]; /* destroyed while that was so */
static atomic_size_t n_gone;
static atomic_int locked_gone;

typedef int (*mutex_function)(pthread_mutex_t *);

static mutex_function next(const char *name)
{
    mutex_function function = NULL;
    *(void **)&function = dlsym(RTLD_NEXT, name);
    return function;
}

static bool is_slow(void)
{
    char name[16] = "";
    return atomic_load(&slow) && pthread_getname_np(pthread_self(), name, sizeof name) == 0 &&
           strcmp(name, "encode") == 0;
}

/* The system's, watched. */
int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    if (atomic_load(&slow)) {
        size_t n = atomic_fetch_add(&n_gone, 1);
        if (n < GONE) {
            atomic_store(&gone[n], mutex);
        }
    }
    return next("pthread_mutex_destroy")(mutex);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static _Atomic(mutex_function) real;
    if (atomic_load(&real) == NULL) {
        atomic_store(&real, next("pthread_mutex_lock"));
    }
    for (size_t i = 0; i < GONE && atomic_load(&slow) && is_slow(); i++) {
        if (atomic_load(&gone[i]) == mutex) {
            (void)atomic_fetch_add(&locked_gone, 1);
        }
    }
    return atomic_load(&real)(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static _Atomic(mutex_function) real;
    if (atomic_load(&real) == NULL) {
        atomic_store(&real, next("pthread_mutex_unlock"));
    }
    int result = atomic_load(&real)(mutex);
    if (is_slow()) {
        const struct timespec nap = {0, SLOW_MS * 1000000L};
        (void)nanosleep(&nap, NULL);
    }
    return result;
}

/* EncodeRequest {documents: [{text: "x"}]} */
static const uint8_t REQUEST[] = {0x12, 3, 0x22, 1, 'x'};

static void who_worked_may_hold_what_was_answered(void **state)
{
    struct fixture *f = *state;
    struct ft_rpc_stream *stream = NULL;
    enum ft_rpc_next what = FT_RPC_NEXT_NOTHING;
    struct ft_buf answer = {0};
    int answers = 0;
    ASSERT_OK(ft_rpc_stream_open(f->target, "/finetuner.v1.Finetuner/Encode", &stream, &err));
    block(true);
    ft_rpc_stream_send_last(stream, ft_bytes_of(REQUEST, sizeof REQUEST));
    until_blocked();
    atomic_store(&slow, true);
    block(false);
    while (what != FT_RPC_NEXT_END) {
        ASSERT_OK(ft_rpc_stream_next(stream, 20000, &what, &answer, &err));
        answers += what == FT_RPC_NEXT_MESSAGE ? 1 : 0;
        ft_buf_release(&answer);
    }
    assert_int_equal(answers, 1);
    assert_int_equal(ft_rpc_stream_answer(stream)->code, 0);
    ft_rpc_stream_close(stream);
    ft_service_stop(f->service); /* while the thread naps behind the answer */
    f->service = NULL;
    atomic_store(&slow, false);
    assert_true(atomic_load(&n_gone) > 0);
    assert_int_equal(atomic_load(&locked_gone), 0);
}
#else
static void who_worked_may_hold_what_was_answered(void **state)
{
    (void)state;
    print_message("not under ThreadSanitizer, which has its own functions in place of this program's\n");
    skip();
}
#endif

int main(int argc, char **argv)
{
    if (is_worker(argc, argv)) {
        return play(argv);
    }
    const struct CMUnitTest tests[] = {
        CASE(who_worked_may_hold_what_was_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
