// How a worker learns at once that emails were queued: every writer touches one file beside the queue's, and workers
// have the kernel tell them. A hint that can be lost; they look once a second all the same.

import { closeSync, type FSWatcher, futimesSync, openSync, watch } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../../runtime/errors.ts";
import type { Log } from "../../runtime/log.ts";

const fileName = "queue.wake";
/** Bun drops an event that follows another within a millisecond (1.4.5): wakes are repeated after so long, ms. */
const repeatMs = 2;

export interface Waker {
  touch(): void;
  close(): void;
}

/**
 * The folder is there by the time of the first touch.
 * @param mode "r+" does not make the file: without one nobody listens
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
        // The worker's own look finds what this would have said.
      }
    },
    close() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
    },
  };
}

/** @returns how to stop listening */
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
  const lost = (error: unknown) => {
    // Not needed to deliver: without it, new emails are found by the look once a second.
    log.warn("wakeup-refused", { reason: errorCode(error) ?? "unknown error" });
  };
  try {
    watcher = watch(join(folder, fileName), wake);
    watcher.on("error", lost);
  } catch (error) {
    lost(error);
  }
  return () => {
    clearTimeout(repetition);
    watcher?.close();
  };
}
