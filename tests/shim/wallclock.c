/* A wall clock that is wrong on demand: LD_PRELOAD for the daemons, in tests only.
 *
 * WALLCLOCK_CONTROL names a file that is mapped: microseconds, as a native 64-bit number, by which the
 * clock of the day is ahead. Who started the process steps the clock by writing to it. Every other clock
 * is left alone, as a step of the real one leaves them.
 *
 * Who waits on a condition until a time of day waits by this clock too, as in the kernel: a step back
 * makes the wait longer by as much, a step forward ends it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define MILLION 1000000

static _Atomic int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("WALLCLOCK_CONTROL");
    int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = (__typeof__(&clock_gettime))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (!result && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t micros = (int64_t)time->tv_sec * MILLION + time->tv_nsec / 1000 + atomic_load(ahead);
        int64_t rest = ((micros % MILLION) + MILLION) % MILLION;
        time->tv_nsec = rest * 1000 + time->tv_nsec % 1000;
        time->tv_sec = (micros - rest) / MILLION;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

static int has_come(const struct timespec *when) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec != when->tv_sec ? now.tv_sec > when->tv_sec : now.tv_nsec >= when->tv_nsec;
}

/* 20 ms from now by the right time, as the kernel counts: a wait in such slices notices a step. */
static struct timespec slice(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t right = (int64_t)now.tv_sec * MILLION + now.tv_nsec / 1000 - atomic_load(ahead) + 20000;
    return (struct timespec){right / MILLION, right % MILLION * 1000};
}

/* librdkafka waits by C11's name, others by POSIX's. */
#define WAIT(name, condition_t, mutex_t, timed_out, find)                                               \
    int name(condition_t *restrict condition, mutex_t *restrict mutex, const struct timespec *until) { \
        static __typeof__(&name) real;                                                                  \
        if (!real)                                                                                      \
            real = (__typeof__(&name))find;                                                             \
        if (!ahead)                                                                                     \
            return real(condition, mutex, until);                                                       \
        while (!has_come(until)) {                                                                      \
            struct timespec part = slice();                                                             \
            int result = real(condition, mutex, &part);                                                 \
            if (result != timed_out)                                                                    \
                return result;                                                                          \
        }                                                                                               \
        return timed_out;                                                                               \
    }

/* Without its version the linker may find an older condition of another size. */
static void *newest(const char *name) {
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

WAIT(pthread_cond_timedwait, pthread_cond_t, pthread_mutex_t, ETIMEDOUT, newest("pthread_cond_timedwait"))
WAIT(cnd_timedwait, cnd_t, mtx_t, thrd_timedout, dlsym(RTLD_NEXT, "cnd_timedwait"))
