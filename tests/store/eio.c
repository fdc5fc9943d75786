/* LD_PRELOAD: the N-th write or sync of a file whose name ends in data.mdb fails with EIO, once or from then on.
   EIO_AT=N, EIO_STICKY=1, EIO_COUNT=FILE (counts calls, one byte each). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int armed(int fd) {
  static int seen, counter = -2;
  char link[64], name[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 8) return 0;
  name[length] = 0;
  if (strcmp(name + length - 8, "data.mdb") != 0) return 0;
  const char *gate = getenv("EIO_GATE");
  if (gate && access(gate, F_OK) != 0) return 0;
  if (counter == -2) counter = getenv("EIO_COUNT") ? open(getenv("EIO_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
  if (counter >= 0) { ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write"); real(counter, "x", 1); }
  int at = getenv("EIO_AT") ? atoi(getenv("EIO_AT")) : 0;
  seen++;
  return at && (seen == at || (seen > at && getenv("EIO_STICKY")));
}

#define WRAP(type, name, arguments, ...)                          \
  type name arguments {                                           \
    static type (*real) arguments;                                \
    if (!real) real = dlsym(RTLD_NEXT, #name);                    \
    if (armed(fd)) { errno = EIO; return -1; }                    \
    return real(__VA_ARGS__);                                     \
  }

WRAP(ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
WRAP(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), fd, parts, count, at)
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), fd, parts, count, at)
WRAP(int, fdatasync, (int fd), fd)
WRAP(int, fsync, (int fd), fd)
