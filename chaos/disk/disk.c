// A disk that can lose power, fill up and slow down, for processes that are started with LD_PRELOAD set to this.
//
// It stands between a process and the kernel for files below CHAOS_DISK_FOLDER. Before each write it appends to an
// undo journal how to take that write back; an fsync that succeeds drops what it made durable. When every process is
// dead, disk.ts takes back what is left: that is what a disk which honours fsync may lose.
//
// One journal for each file, by device and inode, in CHAOS_DISK_JOURNAL, shared by all processes that write the file:
// record and write happen under one lock, and an fsync counts for the writes that were complete before it began,
// whoever made them. The kernel gives the lock back when its holder is killed. A process killed between record and
// write is harmless: what is put back is what is there.
//
//   journal  header { u64 epoch }, then records
//   record   { u32 kind; u32 old_count; i64 offset; i64 old_size; i64 new_count } and old_count bytes
//   kind     1 a write: old bytes from `offset`, the file's length before, and how many bytes were to be written
//            2 a cut: the bytes from the new length `offset` to the old one
//            3 an fsync that was overtaken by writes: records that begin before `offset` are durable
//
// What it does not model: names. A new file's name is taken to be durable with its first fsync, as on ext4, xfs and
// btrfs; one that was never fsynced comes back empty. What libc writes by itself is not seen (fwrite, by which Redis
// makes a new base of its log, and fsyncs it before it is used), nor what is mapped (SQLite's index of its log, which
// is made anew at each start).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

enum { WRITE = 1, CUT = 2, OVERTAKEN = 3 };

struct record {
  uint32_t kind;
  uint32_t old_count;
  int64_t offset;
  int64_t old_size;
  int64_t new_count;
};

// Set by disk.ts while processes run.
struct control {
  uint32_t full;
  uint32_t sync_fails;
  uint32_t sync_delay_us;
  uint32_t writes_delay_us;
};

// What a file descriptor was when it was last looked at.
struct known {
  dev_t device;
  ino_t inode;
  int tracked;
  int journal;
};

#define KNOWN_MAX 4096
static struct known known[KNOWN_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static const char *journals;
static volatile struct control *control;

static void fail(const char *what) {
  dprintf(2, "chaos disk: %s: %s\n", what, strerror(errno));
  abort();
}

static void lock_mutex(void) { pthread_mutex_lock(&mutex); }
static void unlock_mutex(void) { pthread_mutex_unlock(&mutex); }

__attribute__((constructor)) static void begin(void) {
  folder = getenv("CHAOS_DISK_FOLDER");
  journals = getenv("CHAOS_DISK_JOURNAL");
  if (folder == NULL || journals == NULL) fail("CHAOS_DISK_FOLDER and CHAOS_DISK_JOURNAL are needed");
  // Redis writes its title over its environment.
  folder = strdup(folder);
  journals = strdup(journals);
  if (folder == NULL || journals == NULL) fail("memory");
  folder_length = strlen(folder);
  char path[4096];
  snprintf(path, sizeof path, "%s/control", journals);
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (file < 0) fail(path);
  control = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
  if (control == MAP_FAILED) fail("control");
  syscall(SYS_close, file);
  // A child of Redis must not inherit a lock that nobody in it holds.
  pthread_atfork(lock_mutex, unlock_mutex, unlock_mutex);
}

static void wait_for(uint32_t us) {
  if (us == 0) return;
  struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

static void journal_path(char *path, size_t size, const struct stat *file) {
  snprintf(path, size, "%s/%llu-%llu.undo", journals, (unsigned long long)file->st_dev,
           (unsigned long long)file->st_ino);
}

static int open_journal(const struct stat *file, int flags) {
  char path[4096];
  journal_path(path, sizeof path, file);
  return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | flags, 0644);
}

static void lock_journal(int journal, short kind) {
  struct flock lock = {.l_type = kind, .l_whence = SEEK_SET};
  while (fcntl(journal, F_OFD_SETLKW, &lock) != 0) {
    if (errno != EINTR) fail("lock");
  }
}

// The journal of the file behind a descriptor; -1 if it is none of ours. `file` is what it is now. With the mutex held.
static int journal_of(int fd, struct stat *file) {
  if (fd < 0 || fd >= KNOWN_MAX || fstat(fd, file) != 0 || !S_ISREG(file->st_mode)) return -1;
  struct known *entry = &known[fd];
  if (entry->inode == file->st_ino && entry->device == file->st_dev) return entry->tracked ? entry->journal : -1;
  if (entry->tracked) syscall(SYS_close, entry->journal);
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  int below = length > (ssize_t)folder_length && strncmp(path, folder, folder_length) == 0 && path[folder_length] == '/';
  entry->device = file->st_dev;
  entry->inode = file->st_ino;
  entry->tracked = below;
  if (!below) return -1;
  entry->journal = open_journal(file, O_CREAT);
  if (entry->journal < 0) fail("journal");
  // Out of the way of the numbers that the process gets for its own files.
  int high = fcntl(entry->journal, F_DUPFD_CLOEXEC, KNOWN_MAX);
  if (high >= 0) {
    syscall(SYS_close, entry->journal);
    entry->journal = high;
  }
  return entry->journal;
}

static int64_t size_of(int fd) {
  struct stat file;
  if (fstat(fd, &file) != 0) fail("fstat");
  return file.st_size;
}

static void append(int journal, const void *bytes, size_t count, int64_t *at) {
  while (count > 0) {
    ssize_t written = syscall(SYS_pwrite64, journal, bytes, count, *at);
    if (written < 0) fail("journal");
    bytes = (const char *)bytes + written;
    count -= (size_t)written;
    *at += written;
  }
}

static int64_t journal_end(int journal) {
  int64_t end = size_of(journal);
  if (end >= (int64_t)sizeof(uint64_t)) return end;
  uint64_t epoch = 1;
  end = 0;
  append(journal, &epoch, sizeof epoch, &end);
  return end;
}

// Writes a record with the bytes from `offset` to `old_end` of the file, as they are now. With the journal locked.
static void note(int journal, int fd, uint32_t kind, int64_t offset, int64_t old_end, int64_t old_size, int64_t count) {
  int64_t old_count = old_end > offset ? old_end - offset : 0;
  char *old = NULL;
  if (old_count > 0) {
    // The descriptor may be open for writing only.
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reader = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    old = malloc((size_t)old_count);
    if (reader < 0 || old == NULL) fail("old bytes");
    ssize_t got = syscall(SYS_pread64, reader, old, (size_t)old_count, offset);
    if (got < 0) fail("old bytes");
    old_count = got;
    syscall(SYS_close, reader);
  }
  struct record record = {kind, (uint32_t)old_count, offset, old_size, count};
  int64_t end = journal_end(journal);
  // The head last: a process killed in between leaves a record of zeros, which is none.
  int64_t at = end + (int64_t)sizeof record;
  append(journal, old, (size_t)old_count, &at);
  append(journal, &record, sizeof record, &end);
  free(old);
}

// Does a write that begins at `offset`, or at the end of the file if that is negative and the file is only appended to.
typedef ssize_t writer(int fd, const void *what, size_t count, int64_t offset);

static ssize_t recorded(int fd, int64_t offset, int64_t count, writer *write_now, const void *what, size_t number) {
  struct stat file;
  lock_mutex();
  int journal = journal_of(fd, &file);
  if (journal < 0) {
    unlock_mutex();
    return write_now(fd, what, number, offset);
  }
  lock_journal(journal, F_WRLCK);
  int64_t size = size_of(fd);
  int64_t from = offset;
  if (from < 0) from = (fcntl(fd, F_GETFL) & O_APPEND) ? size : (int64_t)lseek(fd, 0, SEEK_CUR);
  ssize_t result;
  if (control->full && from + count > size) {
    errno = ENOSPC;
    result = -1;
  } else {
    int64_t end = from + count < size ? from + count : size;
    note(journal, fd, WRITE, from, end, size, count);
    result = write_now(fd, what, number, offset);
  }
  int error = errno;
  lock_journal(journal, F_UNLCK);
  unlock_mutex();
  wait_for(control->writes_delay_us);
  errno = error;
  return result;
}

static ssize_t write_here(int fd, const void *what, size_t count, int64_t offset) {
  (void)offset;
  return syscall(SYS_write, fd, what, count);
}

static ssize_t write_there(int fd, const void *what, size_t count, int64_t offset) {
  return syscall(SYS_pwrite64, fd, what, count, offset);
}

static ssize_t write_list_here(int fd, const void *what, size_t count, int64_t offset) {
  (void)offset;
  return syscall(SYS_writev, fd, what, count);
}

static ssize_t write_list_there(int fd, const void *what, size_t count, int64_t offset) {
  return syscall(SYS_pwritev, fd, what, count, offset, 0);
}

static int64_t total(const struct iovec *list, int count) {
  int64_t sum = 0;
  for (int i = 0; i < count; i++) sum += (int64_t)list[i].iov_len;
  return sum;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  return recorded(fd, -1, (int64_t)count, write_here, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  return recorded(fd, offset, (int64_t)count, write_there, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  return recorded(fd, offset, (int64_t)count, write_there, bytes, count);
}

ssize_t writev(int fd, const struct iovec *list, int count) {
  return recorded(fd, -1, total(list, count), write_list_here, list, (size_t)count);
}

ssize_t pwritev(int fd, const struct iovec *list, int count, off_t offset) {
  return recorded(fd, offset, total(list, count), write_list_there, list, (size_t)count);
}

ssize_t pwritev64(int fd, const struct iovec *list, int count, off64_t offset) {
  return recorded(fd, offset, total(list, count), write_list_there, list, (size_t)count);
}

static int cut(int fd, int64_t length) {
  struct stat file;
  lock_mutex();
  int journal = journal_of(fd, &file);
  if (journal < 0) {
    unlock_mutex();
    return (int)syscall(SYS_ftruncate, fd, length);
  }
  lock_journal(journal, F_WRLCK);
  int64_t size = size_of(fd);
  note(journal, fd, CUT, length, size, size, 0);
  int result = (int)syscall(SYS_ftruncate, fd, length);
  int error = errno;
  lock_journal(journal, F_UNLCK);
  unlock_mutex();
  errno = error;
  return result;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

// Everything recorded is durable, or without a file.
static void clear(int journal, uint64_t epoch) {
  epoch += 1;
  if (syscall(SYS_ftruncate, journal, (off_t)0) != 0) fail("journal");
  int64_t at = 0;
  append(journal, &epoch, sizeof epoch, &at);
}

static uint64_t epoch_of(int journal) {
  uint64_t epoch = 0;
  if (syscall(SYS_pread64, journal, &epoch, sizeof epoch, (off_t)0) < 0) fail("journal");
  return epoch;
}

static int synced(int fd, long call) {
  struct stat file;
  lock_mutex();
  int journal = journal_of(fd, &file);
  int64_t end = 0;
  uint64_t epoch = 0;
  // Writes are complete before the lock on them is given back: what is recorded now is what this fsync is for.
  if (journal >= 0) {
    // Its own: another thread may close the descriptor meanwhile, and its entry with it.
    journal = fcntl(journal, F_DUPFD_CLOEXEC, KNOWN_MAX);
    if (journal < 0) fail("journal");
    lock_journal(journal, F_WRLCK);
    end = journal_end(journal);
    epoch = epoch_of(journal);
    lock_journal(journal, F_UNLCK);
  }
  unlock_mutex();
  if (journal < 0) return (int)syscall(call, fd);
  wait_for(control->sync_delay_us);
  int result = control->sync_fails ? (errno = EIO, -1) : (int)syscall(call, fd);
  int error = errno;
  if (result == 0) {
    lock_mutex();
    lock_journal(journal, F_WRLCK);
    // Another fsync has dropped it all meanwhile.
    if (epoch_of(journal) == epoch) {
      if (journal_end(journal) == end) clear(journal, epoch);
      else {
        struct record record = {OVERTAKEN, 0, end, 0, 0};
        int64_t at = journal_end(journal);
        append(journal, &record, sizeof record, &at);
      }
    }
    lock_journal(journal, F_UNLCK);
    unlock_mutex();
  }
  syscall(SYS_close, journal);
  errno = error;
  return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

// The file's inode may soon be another file's.
static void forget(int at, const char *path) {
  struct stat file;
  if (fstatat(at, path, &file, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(file.st_mode)) return;
  lock_mutex();
  int journal = open_journal(&file, 0);
  if (journal >= 0) {
    lock_journal(journal, F_WRLCK);
    clear(journal, epoch_of(journal));
    lock_journal(journal, F_UNLCK);
    syscall(SYS_close, journal);
  }
  unlock_mutex();
}

int unlinkat(int at, const char *path, int flags) {
  if ((flags & AT_REMOVEDIR) == 0) forget(at, path);
  return (int)syscall(SYS_unlinkat, at, path, flags);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int renameat(int from_at, const char *from, int to_at, const char *to) {
  forget(to_at, to);
  return (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
