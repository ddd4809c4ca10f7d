/*
 * Preloaded into a service: a clock that jumps. CLOCK_REALTIME is as many seconds off as the file that
 * FT_CLOCK names says, 8 bytes, at any moment; the monotonic clock goes on as it does. Waits of the system's
 * are not moved: one until a time that was read from this clock ends at once, or after days.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_offset(void)
{
    const char *path = getenv("FT_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED) {
        abort(); /* a test that does not test */
    }
    (void)close(fd);
    offset = at;
}

static int64_t off(void)
{
    (void)pthread_once(&once, open_offset);
    return *offset;
}

static int is_real(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (failed == 0 && is_real(clock)) {
        now->tv_sec += (time_t)off();
    }
    return (int)failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec t;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    *now = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (now != NULL) {
        *now = t.tv_sec;
    }
    return t.tv_sec;
}
