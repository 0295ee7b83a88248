// How a worker learns at once that emails were queued: every writer touches one file beside the queue's, and the kernel
// tells the workers. A wake may be lost: workers look for what is due once a second anyway.

import { closeSync, type FSWatcher, openSync, utimesSync, watch } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../../runtime/errors.ts";
import type { Log } from "../../runtime/log.ts";

const fileName = "queue.wake";
/** Bun (1.4.5) drops an event that follows another within a millisecond: each wake is repeated after this time, ms. */
const repeatMs = 2;

/** Wakes the workers on the queue in this folder. */
export function wake(folder: string): void {
  const now = new Date();
  try {
    utimesSync(join(folder, fileName), now, now);
  } catch {
    // The first worker creates the file: if it is missing, nobody listens.
  }
}

/** @returns a function that stops listening */
export function listen(folder: string, callback: () => void, log: Log): () => void {
  const path = join(folder, fileName);
  let watcher: FSWatcher | undefined;
  let repetition: Timer | undefined;
  const callTwice = () => {
    callback();
    repetition ??= setTimeout(() => {
      repetition = undefined;
      callback();
    }, repeatMs);
  };
  const warn = (error: unknown) =>
    log.warn("wakeup-refused", { reason: errorCode(error) ?? "unknown error" });
  try {
    closeSync(openSync(path, "a", 0o600));
    watcher = watch(path, callTwice);
    watcher.on("error", warn);
  } catch (error) {
    warn(error);
  }
  return () => {
    clearTimeout(repetition);
    watcher?.close();
  };
}
