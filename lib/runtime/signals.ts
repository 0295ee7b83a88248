// How a process ends when it is told to: it drains, but not for ever.

import { readFileSync } from "node:fs";
import { describe } from "./errors.ts";
import type { Log } from "./log.ts";

/** What a signal means by the time at which it comes. */
export type SignalMeaning = "first" | "repeat" | "second";

/**
 * Tells the first signal, which lets a process finish, from a second one, which ends it at once. What comes within
 * `repeatMs` of the first is the first one once more: Ctrl-C under npm arrives from the terminal, and again from npm,
 * and a service manager may signal a whole group. A third one always counts: somebody insists.
 * @returns the meaning of a signal that comes at `nowMs`
 */
export function createSignalCounter(repeatMs: number): (nowMs: number) => SignalMeaning {
  let firstAtMs: number | undefined;
  let count = 0;
  return (nowMs) => {
    count += 1;
    firstAtMs ??= nowMs;
    if (count === 1) return "first";
    return count === 2 && nowMs <= firstAtMs + repeatMs ? "repeat" : "second";
  };
}

const stopSignals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** Whether whoever started this process wants it to outlive its terminal, as `nohup` does. */
function ignoresHangup(): boolean {
  try {
    const [, mask] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    // Bit 0 is signal 1, SIGHUP.
    return mask !== undefined && (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    // Only Linux has it.
    return false;
  }
}

/**
 * Calls `first` on the first SIGTERM, SIGINT or, unless it was ignored at startup, SIGHUP; and `second` on a second
 * one, see {@link createSignalCounter}.
 * @returns how to leave them to the system again
 */
export function onSignals({
  first,
  second,
  repeatMs,
}: {
  first: (signal: NodeJS.Signals) => void;
  second: (signal: NodeJS.Signals) => void;
  repeatMs: number;
}): () => void {
  const meaningAt = createSignalCounter(repeatMs);
  const take = (signal: NodeJS.Signals) => {
    const meaning = meaningAt(performance.now());
    if (meaning === "first") first(signal);
    else if (meaning === "second") second(signal);
  };
  // A handler would undo what nohup did.
  const signals = stopSignals.filter((signal) => signal !== "SIGHUP" || !ignoresHangup());
  for (const signal of signals) process.on(signal, take);
  return () => {
    for (const signal of signals) process.off(signal, take);
  };
}

/**
 * On the first signal, as of {@link onSignals}, `drain` runs, and the process exits 0 when it has. Just before
 * `timeoutMs` is over `hurry` runs, to end what can still be ended; after `timeoutMs` the process exits 0 with whatever
 * is left. A second signal exits at once. SIGUSR1 and SIGUSR2, which would end the process otherwise, do nothing.
 */
export function onStop({
  log,
  timeoutMs,
  repeatMs,
  drain,
  hurry = () => {},
}: {
  log: Log;
  timeoutMs: number;
  repeatMs: number;
  drain: () => Promise<void>;
  hurry?: () => void;
}): void {
  const stop = async (signal: NodeJS.Signals) => {
    log.info("drain-started", { signal });
    setTimeout(hurry, Math.max(timeoutMs - 1000, timeoutMs / 2));
    setTimeout(() => {
      log.warn("drain-incomplete", { timeoutMs });
      process.exit(0);
    }, timeoutMs);
    try {
      await drain();
    } catch (error) {
      log.error("drain-failed", describe(error));
      process.exit(1);
    }
    log.info("stopped");
    process.exit(0);
  };
  onSignals({
    repeatMs,
    first: stop,
    second(signal) {
      log.warn("exit-forced", { signal });
      process.exit(1);
    },
  });
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) process.on(signal, () => {});
}
