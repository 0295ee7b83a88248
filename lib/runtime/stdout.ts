// Standard output as the log uses it: every line goes to the kernel at once, so that nothing is left in a buffer when
// the process ends or grows while nobody reads, and a reader that stalls costs lines and not time.

import { errorCode } from "./errors.ts";
import { constants, fstatSync, openSync, writeSync } from "node:fs";
import { isatty } from "node:tty";

/** How long lines wait for a reader that is only slow, ms in each second. Once it was in vain, the next do not wait. */
const patienceMs = 100;
const windowMs = 1000;

/** Writes one line. Throws when nothing of it can be written: it is lost. */
export function openStdout(): (line: string) => void {
  const fd = descriptor();
  /** What is still to come of a line that was written in part. */
  let rest: Uint8Array = new Uint8Array(0);
  let stalled = false;
  let windowStartMs = 0;
  let waitedMs = 0;

  /** Returns what could not be written. */
  function write(bytes: Uint8Array): Uint8Array {
    let left = bytes;
    while (left.length > 0) {
      try {
        left = left.subarray(writeSync(fd, left));
        stalled = false;
      } catch (error) {
        if (errorCode(error) !== "EAGAIN" || !waited()) return left;
      }
    }
    return left;
  }

  /** False if that has been done for long enough: a reader that is always a little late would hold the process up. */
  function waited(): boolean {
    const nowMs = performance.now();
    if (nowMs - windowStartMs > windowMs) {
      windowStartMs = nowMs;
      waitedMs = 0;
    }
    stalled ||= waitedMs >= patienceMs;
    if (stalled) return false;
    Bun.sleepSync(1);
    waitedMs += performance.now() - nowMs;
    return true;
  }

  return (line) => {
    rest = write(rest);
    if (rest.length > 0) throw new Error("an earlier line is not written yet");
    const bytes = Buffer.from(line);
    const left = write(bytes);
    if (left.length === bytes.length) throw new Error("the line cannot be written");
    rest = left;
  };
}

/**
 * A pipe or a terminal is opened a second time, so that not to wait is a property of this descriptor and of nobody
 * else's. A file takes what it is given. A socket, such as the journal's, cannot be opened so, nor can what belongs to
 * another user: they are waited for.
 */
function descriptor(): number {
  try {
    if (!fstatSync(1).isFIFO() && !isatty(1)) return 1;
    return openSync("/proc/self/fd/1", constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return 1;
  }
}
