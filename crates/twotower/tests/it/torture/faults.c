/* Preloaded into an unchanged program under test (Linux, glibc): counts the calls that change something outside of the
 * program, and at a chosen call kills the program, kills another one, or makes the call fail.
 *
 *   TORTURE_WATCH   targets that count: "socket", or the prefix of a path; several are separated by ':'
 *   TORTURE_WATCH_FILE  instead of TORTURE_WATCH: a file of 4096 bytes that begins with the same text, padded with zeros.
 *                   Writing to it changes the targets of a running program; nothing counts while it is all zeros
 *   TORTURE_READS   if set, calls that read count too
 *   TORTURE_AT      number of the chosen call, from 1; 0 only counts
 *   TORTURE_ACTION  kill           SIGKILL before the call
 *                   torn           SIGKILL after half of the data is written
 *                   error          the call fails with TORTURE_ERRNO, once
 *                   errors         this call and all later ones fail
 *                   kill-other     SIGKILL to TORTURE_OTHER before the call, which then proceeds
 *                   trace          every call is noted in TORTURE_LOG: "call CALL TARGET"
 *   TORTURE_LOG     file that gets "hit NUMBER CALL TARGET" at the chosen call, and "total NUMBER" at exit
 *
 * Direct system calls and writes through mapped memory are not seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { COUNT, KILL, TORN, ERROR, ERRORS, KILL_OTHER, TRACE };

static enum action action;
static const char *watched, *log_path;
static long at;
static int error_number, reads;
static pid_t other;
static atomic_long calls;

static void watch_file(const char *path)
{
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (map != MAP_FAILED)
        watched = map;
}

__attribute__((constructor)) static void set_up(void)
{
    static const char *const names[] = {"count", "kill", "torn", "error", "errors", "kill-other", "trace"};
    const char *text = getenv("TORTURE_ACTION");
    watched = getenv("TORTURE_WATCH");
    watch_file(getenv("TORTURE_WATCH_FILE"));
    reads = getenv("TORTURE_READS") != NULL;
    log_path = getenv("TORTURE_LOG");
    for (int i = 0; text && i < 7; i++)
        if (!strcmp(text, names[i]))
            action = (enum action)i;
    at = (text = getenv("TORTURE_AT")) ? atol(text) : 0;
    error_number = (text = getenv("TORTURE_ERRNO")) ? atoi(text) : EIO;
    other = (text = getenv("TORTURE_OTHER")) ? atoi(text) : 0;
}

/* Uses system calls directly, to bypass the functions below. */
static void note(const char *line)
{
    if (!log_path)
        return;
    long fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, line, strlen(line));
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void tear_down(void)
{
    char line[64];
    snprintf(line, sizeof line, "total %ld\n", atomic_load(&calls));
    note(line);
}

static int is_watched(const char *target)
{
    for (const char *from = watched; from && *from;) {
        const char *end = strchrnul(from, ':');
        size_t length = (size_t)(end - from);
        if (length && !strncmp(target, from, length))
            return 1;
        from = *end ? end + 1 : end;
    }
    return 0;
}

/* Returns whether the call fails. Sets *half if the caller must write half and then call die(). */
static int reached(const char *call, const char *target, int *half)
{
    char line[PATH_MAX + 64];
    if (!watched || !is_watched(target))
        return 0;
    if (action == TRACE) {
        snprintf(line, sizeof line, "call %s %s\n", call, target);
        note(line);
        return 0;
    }
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (!at || number < at || (number > at && action != ERRORS))
        return 0;
    snprintf(line, sizeof line, "hit %ld %s %s\n", number, call, target);
    note(line);
    switch (action) {
    case COUNT:
    case TRACE:
        return 0;
    case TORN:
        if (half) {
            *half = 1;
            return 0;
        }
        /* fall through */
    case KILL:
        syscall(SYS_kill, getpid(), SIGKILL);
        return 0;
    case KILL_OTHER:
        syscall(SYS_kill, other, SIGKILL);
        return 0;
    default:
        errno = error_number;
        return 1;
    }
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
}

static int reached_fd(const char *call, int fd, int *half)
{
    char link[64], target[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    errno = before;
    if (length < 0)
        return 0;
    target[length] = 0;
    return reached(call, target, half);
}

static int reached_path(const char *call, int folder, const char *path)
{
    char link[64], whole[PATH_MAX * 2];
    int before = errno;
    if (path[0] == '/')
        return reached(call, path, NULL);
    if (folder == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    errno = before;
    if (length < 0)
        return 0;
    snprintf(whole + length, sizeof whole - (size_t)length, "/%s", path);
    return reached(call, whole, NULL);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Functions that write COUNT bytes of BYTES to FD. */
#define WRITES(name, fd, bytes, count, parameters, whole, part) \
    ssize_t name parameters \
    { \
        REAL(name); \
        int half = 0; \
        if (reached_fd(#name, fd, &half)) \
            return -1; \
        if (half) { \
            size_t few = (count) / 2; \
            (void)!part; \
            die(); \
        } \
        return whole; \
    }

WRITES(write, fd, bytes, count, (int fd, const void *bytes, size_t count), real(fd, bytes, count), real(fd, bytes, few))
WRITES(pwrite, fd, bytes, count, (int fd, const void *bytes, size_t count, off_t from), real(fd, bytes, count, from),
       real(fd, bytes, few, from))
WRITES(pwrite64, fd, bytes, count, (int fd, const void *bytes, size_t count, off64_t from), real(fd, bytes, count, from),
       real(fd, bytes, few, from))
WRITES(send, fd, bytes, count, (int fd, const void *bytes, size_t count, int flags), real(fd, bytes, count, flags),
       real(fd, bytes, few, flags))
WRITES(sendto, fd, bytes, count,
       (int fd, const void *bytes, size_t count, int flags, const struct sockaddr *to, socklen_t length),
       real(fd, bytes, count, flags, to, length), real(fd, bytes, few, flags, to, length))

/* With a single buffer, half of the buffers is none. */
WRITES(writev, fd, bytes, count, (int fd, const struct iovec *bytes, int count), real(fd, bytes, count),
       real(fd, bytes, (int)few))
WRITES(pwritev, fd, bytes, count, (int fd, const struct iovec *bytes, int count, off_t from), real(fd, bytes, count, from),
       real(fd, bytes, (int)few, from))
WRITES(pwritev64, fd, bytes, count, (int fd, const struct iovec *bytes, int count, off64_t from), real(fd, bytes, count, from),
       real(fd, bytes, (int)few, from))

#define READS(name, parameters, whole) \
    ssize_t name parameters \
    { \
        REAL(name); \
        return reads && reached_fd(#name, fd, NULL) ? -1 : whole; \
    }

READS(read, (int fd, void *bytes, size_t count), real(fd, bytes, count))
READS(pread, (int fd, void *bytes, size_t count, off_t from), real(fd, bytes, count, from))
READS(pread64, (int fd, void *bytes, size_t count, off64_t from), real(fd, bytes, count, from))
READS(readv, (int fd, const struct iovec *bytes, int count), real(fd, bytes, count))

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    return reached_fd("sendmsg", fd, NULL) ? -1 : real(fd, message, flags);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags)
{
    REAL(copy_file_range);
    return reached_fd("copy_file_range", to, NULL) ? -1 : real(from, from_at, to, to_at, count, flags);
}

#define ON_FD(name, fd, parameters, whole) \
    int name parameters \
    { \
        REAL(name); \
        return reached_fd(#name, fd, NULL) ? -1 : whole; \
    }

ON_FD(fsync, fd, (int fd), real(fd))
ON_FD(fdatasync, fd, (int fd), real(fd))
ON_FD(ftruncate, fd, (int fd, off_t length), real(fd, length))
ON_FD(ftruncate64, fd, (int fd, off64_t length), real(fd, length))
ON_FD(fallocate, fd, (int fd, int mode, off_t from, off_t length), real(fd, mode, from, length))
ON_FD(fallocate64, fd, (int fd, int mode, off64_t from, off64_t length), real(fd, mode, from, length))

/* These return the error number. */
#define ALLOCATES(name, offset) \
    int name(int fd, offset from, offset length) \
    { \
        REAL(name); \
        return reached_fd(#name, fd, NULL) ? error_number : real(fd, from, length); \
    }

ALLOCATES(posix_fallocate, off_t)
ALLOCATES(posix_fallocate64, off64_t)

#define ON_PATH(name, folder, path, parameters, whole) \
    int name parameters \
    { \
        REAL(name); \
        return reached_path(#name, folder, path) ? -1 : whole; \
    }

ON_PATH(rename, AT_FDCWD, to, (const char *from, const char *to), real(from, to))
ON_PATH(renameat, at_to, to, (int at_from, const char *from, int at_to, const char *to), real(at_from, from, at_to, to))
ON_PATH(renameat2, at_to, to, (int at_from, const char *from, int at_to, const char *to, unsigned flags),
        real(at_from, from, at_to, to, flags))
ON_PATH(link, AT_FDCWD, to, (const char *from, const char *to), real(from, to))
ON_PATH(linkat, at_to, to, (int at_from, const char *from, int at_to, const char *to, int flags),
        real(at_from, from, at_to, to, flags))
ON_PATH(unlink, AT_FDCWD, path, (const char *path), real(path))
ON_PATH(unlinkat, folder, path, (int folder, const char *path, int flags), real(folder, path, flags))
ON_PATH(rmdir, AT_FDCWD, path, (const char *path), real(path))
ON_PATH(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), real(path, mode))
ON_PATH(mkdirat, folder, path, (int folder, const char *path, mode_t mode), real(folder, path, mode))

/* Opening a file counts if it may create or truncate it. */
#define OPENS(name, folder, parameters, whole) \
    int name parameters \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        if ((flags & (O_CREAT | O_TRUNC)) && reached_path(#name, folder, path)) \
            return -1; \
        return whole; \
    }

OPENS(open, AT_FDCWD, (const char *path, int flags, ...), real(path, flags, mode))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), real(path, flags, mode))
OPENS(openat, folder, (int folder, const char *path, int flags, ...), real(folder, path, flags, mode))
OPENS(openat64, folder, (int folder, const char *path, int flags, ...), real(folder, path, flags, mode))
