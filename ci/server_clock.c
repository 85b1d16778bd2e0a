/* Moves the date that a program reads, by the seconds in the file that SERVER_CLOCK names, such as +60.
 *
 *   cc -shared -fPIC -O2 -o server_clock.so ci/server_clock.c
 *   LD_PRELOAD=$PWD/server_clock.so SERVER_CLOCK=FILE redis-server
 *
 * The file is read at each call. The monotonic clock stays as it is, as if the date of a machine were
 * set. libfaketime does the same, but looks up the functions that it replaces, which allocates: the
 * allocator of Debian's Redis and Valkey asks it for the time before that. This one calls the system.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
    char text[32] = "";
    const char *file = getenv("SERVER_CLOCK");
    int descriptor = file ? syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC) : -1;

    if (descriptor >= 0) {
        syscall(SYS_read, descriptor, text, sizeof(text) - 1);
        syscall(SYS_close, descriptor);
    }
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
