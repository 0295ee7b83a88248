// How a worker learns at once that emails were queued: every writer touches one file beside the queue's, and the kernel
// tells the workers. A wake may be lost: workers look for what is due once a second anyway.

import { closeSync, type FSWatcher, futimesSync, openSync, watch } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../../runtime/errors.ts";
import type { Log } from "../../runtime/log.ts";

const fileName = "queue.wake";
/** Bun (1.4.5) drops an event that follows another within a millisecond: each wake is repeated after this time, ms. */
const repeatMs = 2;

export interface Waker {
  touch(): void;
  close(): void;
}

/**
 * The folder must exist by the first touch.
 * @param mode "r+" does not create the file: if it is missing, nobody listens
 */
export function openWaker(folder: string, mode: "a" | "r+" = "a"): Waker {
  let descriptor: number | undefined;
  return {
    touch() {
      try {
        descriptor ??= openSync(join(folder, fileName), mode, 0o600);
        const now = new Date();
        futimesSync(descriptor, now, now);
      } catch {
        // Workers find what is due within a second.
      }
    },
    close() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}

/** @returns a function that stops listening */
export function listen(folder: string, callback: () => void, log: Log): () => void {
  const waker = openWaker(folder);
  waker.touch();
  waker.close();
  let watcher: FSWatcher | undefined;
  let repetition: Timer | undefined;
  const wake = () => {
    callback();
    repetition ??= setTimeout(() => {
      repetition = undefined;
      callback();
    }, repeatMs);
  };
  const warn = (error: unknown) =>
    log.warn("wakeup-refused", { reason: errorCode(error) ?? "unknown error" });
  try {
    watcher = watch(join(folder, fileName), wake);
    watcher.on("error", warn);
  } catch (error) {
    warn(error);
  }
  return () => {
    clearTimeout(repetition);
    watcher?.close();
  };
}
