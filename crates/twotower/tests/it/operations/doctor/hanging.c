/* Preloaded: a file system that hangs. Queries about paths below TWOTOWER_TEST_HANGS block forever. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void hang(const char *path) {
    const char *under = getenv("TWOTOWER_TEST_HANGS");
    if (under && !strncmp(path, under, strlen(under)))
        for (;;)
            pause();
}

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
    hang(path);
    return (int)syscall(SYS_statx, folder, path, flags, mask, found);
}

int access(const char *path, int mode) {
    hang(path);
    return (int)syscall(SYS_faccessat, -100, path, mode);
}
