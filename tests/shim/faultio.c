/* A disk that fails on demand: LD_PRELOAD for the daemons, in tests only.
 *
 * FAULTIO_CONTROL names a file that is mapped; who started the process turns faults on and off by
 * writing to it, and reads from it what happened. FAULTIO_DIR is the folder whose files fail; whatever
 * lies elsewhere is left alone. What a call does when it does not fail is libc's affair.
 *
 * rustix makes its own system calls and is not seen here; the daemons write through std and sled,
 * which call libc.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { /* bits of control.which */
    WRITES = 1,  /* write, ftruncate */
    SYNCS = 2,   /* fsync, fdatasync, sync_file_range */
    NAMES = 4,   /* creating open, mkdir, rename, unlink, rmdir */
    READS = 8,   /* read, pread, readdir */
    LOOKS = 16,  /* open of what is there, opendir, stat */
};

/* Little of it, each naturally aligned; tests/src/chaos/shim.rs writes the same. */
struct control {
    _Atomic uint32_t which;    /* kinds of calls that count, and may fail */
    _Atomic uint32_t error;    /* errno of a failure */
    _Atomic uint64_t calls;    /* calls of these kinds so far */
    _Atomic uint64_t first;    /* the first that fails, counted from 1; 0: none */
    _Atomic uint64_t last;     /* the last that fails */
    _Atomic uint64_t failed;   /* how many have */
    _Atomic uint32_t slow_ms;  /* each fsync and fdatasync takes so much longer */
    _Atomic uint32_t no_sync;  /* fsync and fdatasync do nothing, and say they did */
    _Atomic uint64_t slept;    /* syncs that took longer */
    char what[512];            /* the first call that failed, for people */
};

static struct control *control;
static char dir[4096];
static size_t dir_length;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTIO_CONTROL");
    const char *under = getenv("FAULTIO_DIR");
    if (!file || !under || strlen(under) >= sizeof dir)
        return;
    strcpy(dir, under);
    dir_length = strlen(dir);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        control = mapped;
}

static int is_ours(const char *path) {
    return path && !strncmp(path, dir, dir_length) && (path[dir_length] == '/' || !path[dir_length]);
}

static int fd_is_ours(int fd) {
    char link[32], path[sizeof dir];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_ours(path);
}

/* Whether this call, of a file that is ours, is to fail; errno is set then. */
static int fails(uint32_t kind, const char *name, const char *path, int fd) {
    if (!(atomic_load(&control->which) & kind))
        return 0;
    uint64_t number = atomic_fetch_add(&control->calls, 1) + 1;
    uint64_t first = atomic_load(&control->first);
    if (!first || number < first || number > atomic_load(&control->last))
        return 0;
    if (!atomic_fetch_add(&control->failed, 1)) {
        char link[32], file[256] = "";
        if (!path) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t length = readlink(link, file, sizeof file - 1);
            file[length < 0 ? 0 : length] = 0;
        }
        snprintf(control->what, sizeof control->what, "%s %s", name, path ? path : file);
    }
    errno = (int)atomic_load(&control->error);
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FD(kind, result, name, parameters, arguments)            \
    result name parameters {                                        \
        static __typeof__(&name) real;                              \
        if (!real)                                                  \
            real = REAL(name);                                      \
        if (control && fd_is_ours(fd) && fails(kind, #name, NULL, fd))               \
            return -1;                                              \
        return real arguments;                                      \
    }
#define ON_PATH(kind, result, name, parameters, arguments)          \
    result name parameters {                                        \
        static __typeof__(&name) real;                              \
        if (!real)                                                  \
            real = REAL(name);                                      \
        if (control && is_ours(path) && fails(kind, #name, path, -1))                \
            return -1;                                              \
        return real arguments;                                      \
    }

ON_FD(WRITES, ssize_t, write, (int fd, const void *from, size_t count), (fd, from, count))
ON_FD(WRITES, ssize_t, pwrite, (int fd, const void *from, size_t count, off_t at), (fd, from, count, at))
ON_FD(WRITES, ssize_t, pwrite64, (int fd, const void *from, size_t count, off64_t at), (fd, from, count, at))
ON_FD(WRITES, int, ftruncate, (int fd, off_t length), (fd, length))
ON_FD(WRITES, int, ftruncate64, (int fd, off64_t length), (fd, length))
ON_FD(READS, ssize_t, read, (int fd, void *to, size_t count), (fd, to, count))
ON_FD(READS, ssize_t, pread, (int fd, void *to, size_t count, off_t at), (fd, to, count, at))
ON_FD(READS, ssize_t, pread64, (int fd, void *to, size_t count, off64_t at), (fd, to, count, at))
ON_FD(SYNCS, int, sync_file_range, (int fd, off64_t at, off64_t count, unsigned flags), (fd, at, count, flags))
ON_PATH(NAMES, int, mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(NAMES, int, rename, (const char *path, const char *to), (path, to))
ON_PATH(NAMES, int, unlink, (const char *path), (path))
ON_PATH(NAMES, int, rmdir, (const char *path), (path))

static int sync_of(int fd, int (*real)(int), const char *name) {
    if (!control || !fd_is_ours(fd))
        return real(fd);
    uint32_t slow = atomic_load(&control->slow_ms);
    if (slow) {
        struct timespec pause = {slow / 1000, (long)(slow % 1000) * 1000000};
        nanosleep(&pause, NULL);
        atomic_fetch_add(&control->slept, 1);
    }
    if (fails(SYNCS, name, NULL, fd))
        return -1;
    return atomic_load(&control->no_sync) ? 0 : real(fd);
}

int fsync(int fd) { return sync_of(fd, REAL(fsync), "fsync"); }
int fdatasync(int fd) { return sync_of(fd, REAL(fdatasync), "fdatasync"); }

/* std asks statx for everything: a path, or an open file with an empty one. */
int statx(int fd, const char *path, int flags, unsigned mask, struct statx *to) {
    int of_fd = !*path;
    if (control && (of_fd ? fd_is_ours(fd) : is_ours(path)) &&
        fails(LOOKS, "statx", of_fd ? NULL : path, fd))
        return -1;
    return REAL(statx)(fd, path, flags, mask, to);
}

DIR *opendir(const char *path) {
    if (control && is_ours(path) && fails(LOOKS, "opendir", path, -1))
        return NULL;
    return REAL(opendir)(path);
}

struct dirent64 *readdir64(DIR *of) {
    static __typeof__(&readdir64) real;
    if (!real)
        real = REAL(readdir64);
    if (control && fd_is_ours(dirfd(of)) && fails(READS, "readdir", NULL, dirfd(of)))
        return NULL;
    return real(of);
}

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        mode_t mode = 0;                                                                    \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                              \
            va_list rest;                                                                   \
            va_start(rest, flags);                                                          \
            mode = va_arg(rest, mode_t);                                                    \
            va_end(rest);                                                                   \
        }                                                                                   \
        uint32_t kind = flags & O_CREAT ? NAMES : LOOKS;                                    \
        if (control && is_ours(path) && fails(kind, #name, path, -1))                       \
            return -1;                                                                      \
        return REAL(name)(path, flags, mode);                                               \
    }
OPEN(open)
OPEN(open64)
