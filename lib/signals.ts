// How a process ends when it is told to: it drains, but not for ever.

import type { Log } from "./log.ts";

/**
 * Ctrl-C under `npm run` arrives twice: from the terminal, and from npm, which passes on what it got itself. A service
 * manager that signals all of a group does the same. Whoever means a second signal comes later than this.
 */
const sameSignalMs = 1000;

/**
 * On the first SIGTERM or SIGINT `drain` runs, and the process exits 0 when it has. Just before `timeoutMs` is over
 * `hurry` runs, to end what can still be ended; after `timeoutMs` the process exits 0 with whatever is left. A second
 * signal exits at once, but for the same one within a second, which is the first one once more.
 */
export function onStop({
  log,
  timeoutMs,
  drain,
  hurry = () => {},
  signals = ["SIGTERM", "SIGINT"],
}: {
  log: Log;
  timeoutMs: number;
  drain: () => Promise<void>;
  hurry?: () => void;
  signals?: readonly NodeJS.Signals[];
}): void {
  let first: { readonly signal: NodeJS.Signals; readonly atMs: number } | undefined;
  const stop = async (signal: NodeJS.Signals) => {
    const nowMs = performance.now();
    if (first !== undefined) {
      if (signal === first.signal && nowMs < first.atMs + sameSignalMs) return;
      log.warn("stopped-at-once", { signal });
      process.exit(1);
    }
    first = { signal, atMs: nowMs };
    log.info("draining", { signal });
    setTimeout(hurry, Math.max(timeoutMs - 1000, timeoutMs / 2));
    setTimeout(() => {
      log.warn("drain-incomplete", { timeoutMs });
      process.exit(0);
    }, timeoutMs);
    try {
      await drain();
    } catch (error) {
      log.error("drain-failed", { reason: String(error) });
      process.exit(1);
    }
    log.info("stopped");
    process.exit(0);
  };
  for (const signal of signals) process.on(signal, stop);
}
