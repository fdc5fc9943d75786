/* Preloaded into a process that writes a store: records, in order, what reaches data.mdb and what was
   acknowledged. An operation and its record are one step under a lock, so the record's order is true.

   A record is { op, is_dsync, offset, length } and, for writes and acknowledgements, the bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, ACK = 4, UNKNOWN = 5 };

struct record { int32_t op, is_dsync; int64_t offset, length; };

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

static void put(const void *data, size_t length) {
    const char *at = data;
    while (length) {
        ssize_t done = syscall(SYS_write, log_fd, at, length);
        if (done <= 0) abort();
        at += done;
        length -= done;
    }
}

static void note(int op, int fd, int64_t offset, const struct iovec *parts, int count, int64_t length) {
    if (log_fd < 0) {
        log_fd = syscall(SYS_openat, AT_FDCWD, getenv("POWER_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0) abort();
    }
    struct record head = { op, (fcntl(fd, F_GETFL) & O_DSYNC) != 0, offset, length };
    put(&head, sizeof head);
    for (int n = 0; n < count && length > 0; n++) {
        size_t some = parts[n].iov_len < (size_t)length ? parts[n].iov_len : (size_t)length;
        put(parts[n].iov_base, some);
        length -= some;
    }
}

static int names(int fd, const char *name) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)strlen(name)) return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(name), name) == 0;
}

static ssize_t writes(int fd, const struct iovec *parts, int count, int64_t offset) {
    int is_ack = names(fd, "/acks");
    int is_data = !is_ack && names(fd, "/data.mdb");
    if (!is_ack && !is_data)
        return offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    pthread_mutex_lock(&gate);
    int64_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset;
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    if (done >= 0) note(is_ack ? ACK : WRITE, fd, at, parts, count, done);
    pthread_mutex_unlock(&gate);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    struct iovec one = { (void *)data, length };
    return writes(fd, &one, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return writes(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    struct iovec one = { (void *)data, length };
    return writes(fd, &one, 1, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return pwrite(fd, data, length, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return writes(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return writes(fd, parts, count, offset); }

static int noted(int op, int fd, long number, int64_t length) {
    pthread_mutex_lock(&gate);
    int result = number == SYS_ftruncate ? syscall(number, fd, length) : syscall(number, fd);
    if (result == 0 && names(fd, "/data.mdb")) note(op, fd, 0, 0, 0, length);
    pthread_mutex_unlock(&gate);
    return result;
}
int fsync(int fd) { return noted(SYNC, fd, SYS_fsync, 0); }
int fdatasync(int fd) { return noted(SYNC, fd, SYS_fdatasync, 0); }
int ftruncate(int fd, off_t length) { return noted(TRUNCATE, fd, SYS_ftruncate, length); }
int ftruncate64(int fd, off64_t length) { return noted(TRUNCATE, fd, SYS_ftruncate, length); }

/* LMDB calls neither of these on a store that is not a writable map; if one day it does, replay must refuse. */
int msync(void *start, size_t length, int flags) {
    if (getenv("POWER_LOG")) note(UNKNOWN, -1, 0, 0, 0, 0);
    return syscall(SYS_msync, start, length, flags);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    if (names(fd, "/data.mdb")) note(UNKNOWN, fd, 0, 0, 0, 0);
    return syscall(SYS_fallocate, fd, mode, offset, length);
}
