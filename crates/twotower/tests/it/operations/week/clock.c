/* Preloaded: shifts a program's wall clock (CLOCK_REALTIME, not its monotonic clock) by the number of microseconds in the file
 * that TWOTOWER_TEST_CLOCK names; a negative number moves it back. Writing the file moves the clocks of all such programs at
 * once. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_us;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("TWOTOWER_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof *shift_us, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED)
        shift_us = map;
}

static int shifted(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (failed || !shift_us || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    int64_t us = *shift_us + at->tv_nsec / 1000;
    int64_t seconds = us / 1000000 - (us % 1000000 < 0);
    at->tv_sec += seconds;
    at->tv_nsec = (us - seconds * 1000000) * 1000 + at->tv_nsec % 1000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) { return shifted(clock, at); }

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int failed = shifted(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    shifted(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
