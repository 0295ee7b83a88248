// How a process ends when it is told to: it drains, but not for ever.

import type { Log } from "./log.ts";

/**
 * On the first SIGTERM or SIGINT `drain` runs, and the process exits 0 when it has, or after `timeoutMs` with
 * whatever is left. A second signal exits at once.
 */
export function onStop({
  log,
  timeoutMs,
  drain,
}: {
  log: Log;
  timeoutMs: number;
  drain: () => Promise<void>;
}): void {
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (stopping) {
      log.warn("stopped-at-once", { signal });
      process.exit(1);
    }
    stopping = true;
    log.info("draining", { signal });
    setTimeout(() => {
      log.warn("drain-incomplete", { timeoutMs });
      process.exit(0);
    }, timeoutMs);
    try {
      await drain();
    } catch (error) {
      log.error("drain-failed", { reason: String(error) });
    }
    log.info("stopped");
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
