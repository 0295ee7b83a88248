// A wall clock that can be stepped while processes run. Processes started with LD_PRELOAD set to this library read it.
//
// Every reading of the wall clock is shifted by a number of nanoseconds: an int64_t in native byte order in the file
// CHAOS_CLOCK, which clock.ts writes. As with a real step, the monotonic clock is not affected. File timestamps, which
// the kernel sets, are not shifted either.
//
// Deadlines computed from the shifted clock are shifted back before the kernel waits for them, so that waits keep their
// length.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

// Used until the file is mapped.
static const volatile int64_t right = 0;
static const volatile int64_t *offset = &right;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static void find_functions(void) {
  if (real_clock_gettime != NULL) return;
  *(void **)&real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void map_offset(void) {
  find_functions();
  const char *path = getenv("CHAOS_CLOCK");
  int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) {
    perror("chaos clock: CHAOS_CLOCK");
    abort();
  }
  close(file);
  offset = mapped;
}

static void shift(struct timespec *at, int64_t by) {
  int64_t seconds = by / SECOND, nanoseconds = at->tv_nsec + by % SECOND;
  if (nanoseconds < 0) seconds--, nanoseconds += SECOND;
  if (nanoseconds >= SECOND) seconds++, nanoseconds -= SECOND;
  at->tv_sec += seconds;
  at->tv_nsec = nanoseconds;
}

static bool is_wall(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  find_functions();
  int result = real_clock_gettime(clock, at);
  if (result == 0 && is_wall(clock)) shift(at, *offset);
  return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *at = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at != NULL) *at = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  find_functions();
  struct timespec shifted = *until;
  // A condition variable may use the monotonic clock, which starts at zero. No machine has been up for 30 years, so a
  // larger deadline is one of the wall clock.
  if (until->tv_sec > 30 * 365 * 86400) shift(&shifted, -*offset);
  return real_timedwait(condition, mutex, &shifted);
}
