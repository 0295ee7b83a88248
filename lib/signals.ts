// How a process ends when it is told to: it drains, but not for ever.

import type { Log } from "./log.ts";

/**
 * Ctrl-C under `npm run` arrives twice: from the terminal, and from npm, which passes on what it got itself. A service
 * manager that signals all of a group does the same. Whoever means a second signal comes later than this.
 */
const sameSignalMs = 1000;

const stopSignals = ["SIGTERM", "SIGINT"] as const;

/**
 * Calls `first` on the first signal, and `second` on a second one, but for the same one within a second, which is the
 * first one once more.
 * @returns how to leave them to the system again
 */
export function onSignals({
  first,
  second,
  signals = stopSignals,
}: {
  first: (signal: NodeJS.Signals) => void;
  second: (signal: NodeJS.Signals) => void;
  signals?: readonly NodeJS.Signals[];
}): () => void {
  let before: { readonly signal: NodeJS.Signals; readonly atMs: number } | undefined;
  const take = (signal: NodeJS.Signals) => {
    const nowMs = performance.now();
    if (before === undefined) {
      before = { signal, atMs: nowMs };
      first(signal);
    } else if (signal !== before.signal || nowMs >= before.atMs + sameSignalMs) second(signal);
  };
  for (const signal of signals) process.on(signal, take);
  return () => {
    for (const signal of signals) process.off(signal, take);
  };
}

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
  signals = stopSignals,
}: {
  log: Log;
  timeoutMs: number;
  drain: () => Promise<void>;
  hurry?: () => void;
  signals?: readonly NodeJS.Signals[];
}): void {
  const stop = async (signal: NodeJS.Signals) => {
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
  onSignals({
    signals,
    first: stop,
    second(signal) {
      log.warn("stopped-at-once", { signal });
      process.exit(1);
    },
  });
}
