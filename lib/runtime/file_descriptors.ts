// Whether a process has file descriptors left for its next connections. Nothing else reports that it has none: the
// kernel accepts connections, Bun cannot take them over, and clients wait for an answer.

import { closeSync, openSync } from "node:fs";
import { errorCode } from "./errors.ts";
import type { Log } from "./log.ts";

/** With fewer left, there is a shortage: the store and the admin port need a few. */
const spareMin = 16;
const checkEveryMs = 1000;
/** Between two lines of the log, ms: at the limit, descriptors come and go. */
const logEveryMs = 60_000;

/**
 * @param relieve called once a second during a shortage, to close what can be spared
 * @returns why the next connections may fail, if they may
 */
export function watchDescriptors(log: Log, relieve = () => {}): () => string | undefined {
  let loggedAtMs = -Infinity;
  const timer = setInterval(() => {
    const reason = shortage();
    if (reason === undefined) return;
    relieve();
    if (performance.now() - loggedAtMs < logEveryMs) return;
    loggedAtMs = performance.now();
    log.error("descriptors-exhausted", { reason });
  }, checkEveryMs);
  timer.unref();
  return shortage;
}

/** Opens as many as must be left and closes them again, which is cheaper than counting those that are open. */
function shortage(): string | undefined {
  const taken: number[] = [];
  try {
    while (taken.length < spareMin) taken.push(openSync("/dev/null", "r"));
    return undefined;
  } catch (error) {
    const code = errorCode(error);
    if (code !== "EMFILE" && code !== "ENFILE") return undefined;
    const whose = code === "EMFILE" ? "this process" : "the whole machine";
    return `fewer than ${spareMin} file descriptors are left for ${whose}`;
  } finally {
    for (const descriptor of taken) closeSync(descriptor);
  }
}
