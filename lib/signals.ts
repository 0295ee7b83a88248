// How a process ends when it is told to: it drains, but not for ever.

import type { Log } from "./log.ts";

/**
 * On the first SIGTERM or SIGINT `drain` runs, and the process exits 0 when it has. Just before `timeoutMs` is over
 * `hurry` runs, to end what can still be ended; after `timeoutMs` the process exits 0 with whatever is left. A second
 * signal exits at once.
 */
export function onStop({
  log,
  timeoutMs,
  drain,
  hurry = () => {},
}: {
  log: Log;
  timeoutMs: number;
  drain: () => Promise<void>;
  hurry?: () => void;
}): void {
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (stopping) {
      log.warn("stopped-at-once", { signal });
      process.exit(1);
    }
    stopping = true;
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
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
