/* Makes a chosen call of a process fail: ENOSPC, EIO, or a write that writes a half.
 *
 * Loaded with LD_PRELOAD, it stands in front of libc, below Python and TensorStore. It looks only
 * at calls that change files under the given folders. Environment variables, read at the start and
 * again by faults_configure():
 *
 *   FAULTS_FOLDERS  absolute folders, separated by ':'; without it nothing is counted
 *   FAULTS_KIND     open (for writing), write, fsync, rename or mkdir
 *   FAULTS_NUMBER   which call of this kind fails, from 1; 0: none
 *   FAULTS_ERROR    ENOSPC, EIO, or SHORT (write only)
 *   FAULTS_LASTING  1: later calls of this kind fail too, after SHORT with ENOSPC
 *   FAULTS_LOG      gets a line for each call: kind, 1 if it was made to fail, bytes, path
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SHORT = -1, MAX_FOLDERS = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folders[MAX_FOLDERS][PATH_MAX], kind[16];
static int num_folders, number, seen, error, lasting, log_fd = -1;

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

__attribute__((constructor)) void faults_configure(void) {
  pthread_mutex_lock(&lock);
  char text[MAX_FOLDERS * PATH_MAX];
  snprintf(text, sizeof text, "%s", setting("FAULTS_FOLDERS"));
  num_folders = 0;
  for (char *rest = text, *folder; num_folders < MAX_FOLDERS && (folder = strsep(&rest, ":"));)
    if (*folder) snprintf(folders[num_folders++], PATH_MAX, "%s", folder);
  snprintf(kind, sizeof kind, "%s", setting("FAULTS_KIND"));
  const char *name = setting("FAULTS_ERROR");
  error = !strcmp(name, "EIO") ? EIO : !strcmp(name, "SHORT") ? SHORT : ENOSPC;
  number = atoi(setting("FAULTS_NUMBER"));
  lasting = atoi(setting("FAULTS_LASTING"));
  seen = 0;
  if (log_fd >= 0) syscall(SYS_close, log_fd);
  log_fd = *setting("FAULTS_LOG") ? syscall(SYS_openat, AT_FDCWD, setting("FAULTS_LOG"),
                                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
                                  : -1;
  pthread_mutex_unlock(&lock);
}

static void path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
}

static void path_at(int dirfd, const char *name, char *path) {
  char folder[PATH_MAX] = "";
  if (*name != '/' && dirfd == AT_FDCWD) {
    if (!getcwd(folder, sizeof folder)) *folder = 0;
  } else if (*name != '/') {
    path_of(dirfd, folder);
  }
  if (snprintf(path, PATH_MAX, "%s%s%s", folder, *folder ? "/" : "", name) >= PATH_MAX) *path = 0;
}

static int is_watched(const char *path) {
  for (int i = 0; i < num_folders; i++) {
    size_t length = strlen(folders[i]);
    if (!strncmp(path, folders[i], length) && (!path[length] || path[length] == '/')) return 1;
  }
  return 0;
}

/* 0 if the call goes through, otherwise an errno or SHORT. */
static int fault(const char *what, const char *path, size_t bytes) {
  if (!num_folders || !is_watched(path)) return 0;
  pthread_mutex_lock(&lock);
  int result = 0;
  if (!strcmp(what, kind)) {
    seen++;
    if (number && seen == number) result = error;
    if (number && lasting && seen > number) result = error == SHORT ? ENOSPC : error;
    if (result == SHORT && bytes < 2) result = ENOSPC; /* has no half */
  }
  if (log_fd >= 0) {
    char line[PATH_MAX + 64];
    int length =
        snprintf(line, sizeof line, "%s\t%d\t%zu\t%s\n", what, result != 0, bytes, path);
    syscall(SYS_write, log_fd, line, length);
  }
  pthread_mutex_unlock(&lock);
  if (result > 0) errno = result;
  return result;
}

static int fault_of_fd(const char *what, int fd, size_t bytes) {
  char path[PATH_MAX];
  if (!num_folders) return 0;
  int before = errno;
  path_of(fd, path);
  errno = before;
  return fault(what, path, bytes);
}

static int fault_at(const char *what, int dirfd, const char *name) {
  char path[PATH_MAX];
  if (!num_folders) return 0;
  path_at(dirfd, name, path);
  return fault(what, path, 0);
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

#define MODE \
  mode_t mode = 0; \
  if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    MODE NEXT(name); \
    if (writes(flags) && fault_at("open", AT_FDCWD, path)) return -1; \
    return next(path, flags, mode); \
  }

#define OPENAT(name) \
  int name(int dirfd, const char *path, int flags, ...) { \
    MODE NEXT(name); \
    if (writes(flags) && fault_at("open", dirfd, path)) return -1; \
    return next(dirfd, path, flags, mode); \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *path, const char *mode) {
  NEXT(fopen);
  if (strpbrk(mode, "wa+") && fault_at("open", AT_FDCWD, path)) return NULL;
  return next(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
  NEXT(fopen64);
  if (strpbrk(mode, "wa+") && fault_at("open", AT_FDCWD, path)) return NULL;
  return next(path, mode);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  NEXT(write);
  int result = fault_of_fd("write", fd, count);
  return result > 0 ? -1 : next(fd, bytes, result ? count / 2 : count);
}

#define PWRITE(name, off) \
  ssize_t name(int fd, const void *bytes, size_t count, off offset) { \
    NEXT(name); \
    int result = fault_of_fd("write", fd, count); \
    return result > 0 ? -1 : next(fd, bytes, result ? count / 2 : count, offset); \
  }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static size_t size_of(const struct iovec *parts, int num_parts) {
  size_t size = 0;
  for (int i = 0; i < num_parts; i++) size += parts[i].iov_len;
  return size;
}

ssize_t writev(int fd, const struct iovec *parts, int num_parts) {
  NEXT(writev);
  int result = fault_of_fd("write", fd, size_of(parts, num_parts));
  if (result > 0) return -1;
  if (!result) return next(fd, parts, num_parts);
  size_t half = size_of(parts, num_parts) / 2, before = 0;
  for (int i = 0; i < num_parts; before += parts[i++].iov_len) {
    if (before + parts[i].iov_len < half) continue;
    struct iovec cut[i + 1];
    memcpy(cut, parts, sizeof cut);
    cut[i].iov_len = half - before;
    return next(fd, cut, i + 1);
  }
  return next(fd, parts, num_parts);
}

int fsync(int fd) {
  NEXT(fsync);
  return fault_of_fd("fsync", fd, 0) ? -1 : next(fd);
}

int fdatasync(int fd) {
  NEXT(fdatasync);
  return fault_of_fd("fsync", fd, 0) ? -1 : next(fd);
}

int rename(const char *from, const char *to) {
  NEXT(rename);
  return fault_at("rename", AT_FDCWD, to) ? -1 : next(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
  NEXT(renameat);
  return fault_at("rename", to_dir, to) ? -1 : next(from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  NEXT(renameat2);
  return fault_at("rename", to_dir, to) ? -1 : next(from_dir, from, to_dir, to, flags);
}

int mkdir(const char *path, mode_t mode) {
  NEXT(mkdir);
  return fault_at("mkdir", AT_FDCWD, path) ? -1 : next(path, mode);
}

int mkdirat(int dirfd, const char *path, mode_t mode) {
  NEXT(mkdirat);
  return fault_at("mkdir", dirfd, path) ? -1 : next(dirfd, path, mode);
}
