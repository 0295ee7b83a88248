// A disk that can lose power, fill up and slow down, for processes that are started with LD_PRELOAD set to this
// library.
//
// It intercepts system calls on regular files below CHAOS_DISK_FOLDER. Before each write it appends to an undo journal
// how to reverse that write; a successful fsync drops the records of what it made durable. Once every process is dead,
// disk.ts reverses what is left: exactly what a disk that honors fsync may lose.
//
// A file has one journal, named by its device and inode, in CHAOS_DISK_JOURNAL, shared by all processes that write it.
// Record and write happen under one lock on the journal, so that all processes agree on their order; the kernel
// releases the lock when its holder is killed. An fsync covers the writes that were complete before it began, whoever
// made them. A process killed between record and write does no harm: the undo restores bytes that never changed.
//
//   journal  struct head, padded to HEAD_SIZE; then records, without gaps
//   record   struct record, then the `kept` bytes that stood at `offset` before and were overwritten or cut off
//
// Positions in the journal only grow: position p is at byte HEAD_SIZE + p - origin of the file, and the valid records
// are those from `dropped` to `end`. A record is valid once `end` includes it, so the next writer overwrites a partial
// record of a killed one.
//
// The model covers contents and lengths, not names: a new file's name is taken to be durable with its first fsync, as
// on ext4, xfs and btrfs. A file that was never fsynced comes back empty, under its last name.
//
// Not intercepted: writes by libc itself (fwrite, with which Redis makes the base of a rewritten log; it fsyncs the
// file before using it), mapped memory, and raw system calls (bun's own node:fs, but not its SQLite). The index of
// SQLite's log, `-shm`, is ignored, because the first process that opens it builds it anew.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The file `control` in CHAOS_DISK_JOURNAL, which disk.ts changes while processes run.
struct control {
  // Writes that extend a file fail with ENOSPC; writes in place succeed, as on ext4 and xfs.
  uint32_t full;
  // fsync fails with EIO and makes nothing durable; a later one still can.
  uint32_t sync_fails;
  uint32_t sync_delay_us;
  uint32_t write_delay_us;
};

struct head {
  _Atomic uint64_t origin;
  _Atomic uint64_t dropped;
  _Atomic uint64_t end;
};

struct record {
  uint64_t offset;
  uint64_t length; // of the write; 0 if the file is truncated or extended
  uint64_t size;   // of the file before the write
  uint64_t kept;
};

enum {
  HEAD_SIZE = 4096,
  // Journals shrink by at least this many bytes.
  COMPACT_MIN = 1 << 20,
  JOURNALS_MAX = 64,
};

// Stands for the descriptor's current offset.
#define HERE ((off_t) -1)

struct journal {
  dev_t device;
  ino_t inode;
  int file;
  struct head *head; // NULL if unused
};

static char folder[PATH_MAX], journals[PATH_MAX];
static size_t folder_length;
static const volatile struct control *control;
static struct journal opened[JOURNALS_MAX];
// Excludes other threads of this process; file locks exclude other processes. Held whenever a journal is locked.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what) {
  dprintf(STDERR_FILENO, "chaos disk: %s: %s\n", what, strerror(errno));
  abort();
}

static void before_fork(void) { pthread_mutex_lock(&mutex); }
static void after_fork(void) { pthread_mutex_unlock(&mutex); }

// After a fork the child reopens its files: a lock on an inherited one would be shared with the parent.
static void after_fork_in_child(void) {
  for (struct journal *one = opened; one < opened + JOURNALS_MAX; one++) {
    if (one->head == NULL) continue;
    munmap(one->head, HEAD_SIZE);
    syscall(SYS_close, one->file);
    one->head = NULL;
  }
  pthread_mutex_unlock(&mutex);
}

static void folder_of(const char *variable, char *path) {
  const char *value = getenv(variable);
  if (value == NULL) errno = EINVAL;
  // The kernel's path of it, copied, because Redis writes its process title over its environment.
  if (value == NULL || realpath(value, path) == NULL) die(variable);
}

static void set_up(void) {
  folder_of("CHAOS_DISK_FOLDER", folder);
  folder_of("CHAOS_DISK_JOURNAL", journals);
  folder_length = strlen(folder);
  char path[PATH_MAX + 16];
  snprintf(path, sizeof path, "%s/control", journals);
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) die(path);
  void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) die(path);
  syscall(SYS_close, file);
  if (pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0) die("pthread_atfork");
  control = mapped;
}

// Other libraries may write before this constructor runs.
__attribute__((constructor)) static void ready(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, set_up);
}

static void pause_for(uint32_t us) {
  struct timespec rest = {us / 1000000, (long)(us % 1000000) * 1000};
  while (us > 0 && nanosleep(&rest, &rest) != 0 && errno == EINTR) {
  }
}

enum place { ELSEWHERE, HAS_NO_POWER_TO_LOSE, ON_DISK };

// Asks the kernel each time: descriptors are closed and reused in ways that this library does not see.
static enum place place_of(int fd, struct stat *file) {
  ready();
  if (fstat(fd, file) != 0 || !S_ISREG(file->st_mode)) return ELSEWHERE;
  char link[32], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  if (length < 0) die(link);
  if ((size_t)length <= folder_length || memcmp(path, folder, folder_length) != 0 || path[folder_length] != '/')
    return ELSEWHERE;
  if (file->st_nlink == 0 || (length >= 4 && memcmp(path + length - 4, "-shm", 4) == 0)) return HAS_NO_POWER_TO_LOSE;
  return ON_DISK;
}

static void set_lock(int file, short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
  while (fcntl(file, F_OFD_SETLKW, &lock) != 0) {
    if (errno != EINTR) die("lock");
  }
}

// Locks the journal of a file, creating it for the first write.
static struct journal *enter(const struct stat *of) {
  pthread_mutex_lock(&mutex);
  struct journal *journal = &opened[of->st_ino % JOURNALS_MAX];
  if (journal->head != NULL && journal->inode == of->st_ino && journal->device == of->st_dev) {
    set_lock(journal->file, F_WRLCK);
    return journal;
  }
  if (journal->head != NULL) {
    munmap(journal->head, HEAD_SIZE);
    syscall(SYS_close, journal->file);
  }
  char path[PATH_MAX + 64];
  snprintf(path, sizeof path, "%s/%llu-%llu", journals, (unsigned long long)of->st_dev,
           (unsigned long long)of->st_ino);
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) die(path);
  set_lock(file, F_WRLCK);
  struct stat is;
  if (fstat(file, &is) != 0) die(path);
  if (is.st_size < HEAD_SIZE && syscall(SYS_ftruncate, file, (off_t)HEAD_SIZE) != 0) die(path);
  void *head = mmap(NULL, HEAD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (head == MAP_FAILED) die(path);
  *journal = (struct journal){of->st_dev, of->st_ino, file, head};
  return journal;
}

static void leave(struct journal *journal) {
  set_lock(journal->file, F_UNLCK);
  pthread_mutex_unlock(&mutex);
}

static off_t byte_of(const struct head *head, uint64_t position) {
  return (off_t)(HEAD_SIZE + position - head->origin);
}

static void copy(int from, off_t at, int to, off_t there, uint64_t count) {
  // Belongs to the holder of the mutex.
  static char some[1 << 16];
  while (count > 0) {
    size_t wanted = count < sizeof some ? (size_t)count : sizeof some;
    ssize_t got = syscall(SYS_pread64, from, some, wanted, at);
    if (got <= 0) die("read what is overwritten");
    if (syscall(SYS_pwrite64, to, some, (size_t)got, there) != got) die("write the journal");
    at += got;
    there += got;
    count -= (uint64_t)got;
  }
}

// Records a write that is about to happen to a file of this size.
static void record(struct journal *journal, int fd, uint64_t offset, uint64_t length, uint64_t size, uint64_t kept) {
  struct head *head = journal->head;
  struct record new = {offset, length, size, kept};
  off_t at = byte_of(head, head->end);
  if (syscall(SYS_pwrite64, journal->file, &new, sizeof new, at) != sizeof new) die("write the journal");
  if (kept > 0) {
    int reader = fd;
    // If the descriptor can read, no other one is opened: closing that would release the process's POSIX locks on the
    // file, which are SQLite's.
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR) {
      char link[32];
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      reader = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
      if (reader < 0) die("read what is overwritten");
    }
    copy(reader, (off_t)offset, journal->file, at + (off_t)sizeof new, kept);
    if (reader != fd) syscall(SYS_close, reader);
  }
  head->end += sizeof new + kept;
}

// Drops the records before a position. Reclaims the space once more is dropped than is left, so that the two do not
// overlap and one store moves the records.
static void drop(struct journal *journal, uint64_t position) {
  struct head *head = journal->head;
  if (position > head->dropped) head->dropped = position;
  uint64_t gone = head->dropped - head->origin;
  uint64_t left = head->end - head->dropped;
  if (left > gone || (left > 0 && gone < COMPACT_MIN)) return;
  copy(journal->file, byte_of(head, head->dropped), journal->file, HEAD_SIZE, left);
  head->origin = head->dropped;
  if (gone >= COMPACT_MIN && syscall(SYS_ftruncate, journal->file, (off_t)(HEAD_SIZE + left)) != 0)
    die("cut the journal");
}

// Repeats the process's own call.
static ssize_t pass_on(int fd, const struct iovec *parts, int count, off_t offset) {
  if (offset == HERE) {
    return count == 1 ? syscall(SYS_write, fd, parts->iov_base, parts->iov_len) : syscall(SYS_writev, fd, parts, count);
  }
  return count == 1 ? syscall(SYS_pwrite64, fd, parts->iov_base, parts->iov_len, offset)
                    : syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

static ssize_t put(int fd, const struct iovec *parts, int count, off_t offset) {
  struct stat file;
  enum place place = place_of(fd, &file);
  if (place == ELSEWHERE) return pass_on(fd, parts, count, offset);
  uint64_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  pause_for(control->write_delay_us);
  struct journal *journal = place == ON_DISK ? enter(&file) : NULL;
  // Reads the size again: others may have written until now.
  if (fstat(fd, &file) != 0) die("fstat");
  int flags = fcntl(fd, F_GETFL);
  if ((flags & O_DSYNC) != 0) {
    errno = ENOTSUP;
    die("O_DSYNC");
  }
  off_t from = offset;
  if ((flags & O_APPEND) != 0) from = file.st_size;
  else if (offset == HERE) from = lseek(fd, 0, SEEK_CUR);
  off_t to = from + (off_t)length;
  ssize_t result = -1;
  int error = ENOSPC;
  if (control->full == 0 || to <= file.st_size) {
    if (journal != NULL && length > 0) {
      off_t last = to < file.st_size ? to : file.st_size;
      uint64_t kept = last > from ? (uint64_t)(last - from) : 0;
      record(journal, fd, (uint64_t)from, length, (uint64_t)file.st_size, kept);
    }
    result = pass_on(fd, parts, count, offset);
    error = errno;
  }
  if (journal != NULL) leave(journal);
  errno = error;
  return result;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  return put(fd, &(struct iovec){(void *)bytes, count}, 1, HERE);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  return put(fd, &(struct iovec){(void *)bytes, count}, 1, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) { return put(fd, parts, count, HERE); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  return put(fd, parts, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return pwritev64(fd, parts, count, offset);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
  struct stat file;
  if (flags == 0) return pwritev64(fd, parts, count, offset);
  if (place_of(fd, &file) != ELSEWHERE) {
    errno = ENOTSUP;
    die("pwritev2 with flags");
  }
  return syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
  return pwritev64v2(fd, parts, count, offset, flags);
}

int ftruncate64(int fd, off64_t size) {
  struct stat file;
  if (place_of(fd, &file) != ON_DISK || size < 0) return (int)syscall(SYS_ftruncate, fd, size);
  struct journal *journal = enter(&file);
  if (fstat(fd, &file) != 0) die("fstat");
  uint64_t kept = size < file.st_size ? (uint64_t)(file.st_size - size) : 0;
  if (size != file.st_size) record(journal, fd, (uint64_t)size, 0, (uint64_t)file.st_size, kept);
  int result = (int)syscall(SYS_ftruncate, fd, size);
  int error = errno;
  leave(journal);
  errno = error;
  return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

// Redis uses this to truncate half a command from its log.
int truncate64(const char *path, off64_t size) {
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = ftruncate64(fd, size);
  int error = errno;
  syscall(SYS_close, fd);
  errno = error;
  return result;
}

int truncate(const char *path, off_t size) { return truncate64(path, size); }

static int sync_now(int fd, long call) {
  struct stat file;
  if (place_of(fd, &file) != ON_DISK) return (int)syscall(call, fd);
  struct journal *journal = enter(&file);
  uint64_t complete = journal->head->end;
  leave(journal);
  pause_for(control->sync_delay_us);
  if (control->sync_fails != 0) {
    errno = EIO;
    return -1;
  }
  int result = (int)syscall(call, fd);
  if (result == 0) {
    journal = enter(&file);
    drop(journal, complete);
    leave(journal);
  }
  return result;
}

int fsync(int fd) { return sync_now(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_now(fd, SYS_fdatasync); }

// Implements an open with O_TRUNC as one without it, followed by a recorded truncation.
static int open_at(int folder_fd, const char *path, int flags, mode_t mode) {
  bool empties = (flags & O_TRUNC) != 0 && (flags & O_ACCMODE) != O_RDONLY;
  int fd = (int)syscall(SYS_openat, folder_fd, path, empties ? flags & ~O_TRUNC : flags, mode);
  struct stat file;
  if (fd < 0 || !empties || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || ftruncate64(fd, 0) == 0) return fd;
  int error = errno;
  syscall(SYS_close, fd);
  errno = error;
  return -1;
}

#define MODE_BEHIND(flags)                                              \
  mode_t mode = 0;                                                      \
  if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) { \
    va_list rest;                                                       \
    va_start(rest, flags);                                              \
    mode = va_arg(rest, mode_t);                                        \
    va_end(rest);                                                       \
  }

int open(const char *path, int flags, ...) {
  MODE_BEHIND(flags)
  return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE_BEHIND(flags)
  return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder_fd, const char *path, int flags, ...) {
  MODE_BEHIND(flags)
  return open_at(folder_fd, path, flags, mode);
}

int openat64(int folder_fd, const char *path, int flags, ...) {
  MODE_BEHIND(flags)
  return open_at(folder_fd, path, flags, mode);
}

int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

// Runs `syscall(call, …)`, which takes the name `path` away from a file. If that was its last name, nothing is left to
// undo, and its inode can be reused.
static int take_name(int folder_fd, const char *path, const struct stat *successor, long call, long a, long b, long c,
                     long d) {
  struct stat file;
  // Keeps the inode from being reused meanwhile. Closing this descriptor releases no POSIX locks.
  int fd = (int)syscall(SYS_openat, folder_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct journal *journal = NULL;
  if (fd >= 0 && place_of(fd, &file) == ON_DISK && file.st_nlink == 1 &&
      (successor == NULL || successor->st_ino != file.st_ino || successor->st_dev != file.st_dev)) {
    journal = enter(&file);
    // Before the call, in case this process is killed right after it: whatever is not undone then has survived.
    drop(journal, journal->head->end);
  }
  int result = (int)syscall(call, a, b, c, d, 0);
  int error = errno;
  if (journal != NULL) leave(journal);
  if (fd >= 0) syscall(SYS_close, fd);
  errno = error;
  return result;
}

int unlinkat(int folder_fd, const char *path, int flags) {
  return take_name(folder_fd, path, NULL, SYS_unlinkat, folder_fd, (long)path, flags, 0);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
  struct stat moved;
  bool is_there = fstatat(from_fd, from, &moved, AT_SYMLINK_NOFOLLOW) == 0;
  return take_name(to_fd, to, is_there ? &moved : NULL, SYS_renameat2, from_fd, (long)from, to_fd, (long)to);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

// Calls that would change a file without a record are refused.
#define REFUSED_ON_DISK(type, name, parameters, fd, ...)               \
  type name parameters {                                               \
    struct stat file;                                                  \
    if (place_of(fd, &file) == ON_DISK) {                              \
      errno = ENOTSUP;                                                 \
      die(#name);                                                      \
    }                                                                  \
    return ((type(*) parameters)dlsym(RTLD_NEXT, #name))(__VA_ARGS__); \
  }

REFUSED_ON_DISK(int, fallocate, (int fd, int mode, off_t at, off_t count), fd, fd, mode, at, count)
REFUSED_ON_DISK(int, fallocate64, (int fd, int mode, off64_t at, off64_t count), fd, fd, mode, at, count)
REFUSED_ON_DISK(int, posix_fallocate, (int fd, off_t at, off_t count), fd, fd, at, count)
REFUSED_ON_DISK(int, posix_fallocate64, (int fd, off64_t at, off64_t count), fd, fd, at, count)
REFUSED_ON_DISK(ssize_t, sendfile, (int to, int from, off_t *at, size_t count), to, to, from, at, count)
REFUSED_ON_DISK(ssize_t, sendfile64, (int to, int from, off64_t *at, size_t count), to, to, from, at, count)
REFUSED_ON_DISK(ssize_t, copy_file_range,
                (int from, off64_t *at, int to, off64_t *there, size_t count, unsigned int flags), to, from, at, to,
                there, count, flags)
