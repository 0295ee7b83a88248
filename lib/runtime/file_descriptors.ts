// Whether a process has file descriptors left for its next connections. Nothing else reports that there are none: the
// kernel accepts connections, Bun cannot take them over, and clients wait as if nobody were there.

import { closeSync, openSync } from "node:fs";
import { errorCode } from "./errors.ts";
import type { Log } from "./log.ts";

/** With fewer left, a process counts as having none: the store and a reader of the admin port need a few. */
const spareMin = 16;
const lookEveryMs = 1000;
/** From one line of the log to the next, ms: at the limit, descriptors come and go. */
const logEveryMs = 60_000;

/** Why the next connections may fail; undefined if they need not. */
export type Shortage = () => string | undefined;

/** @param relieve called once a second while they are short: to close what can be spared */
export function watchDescriptors(log: Log, relieve: () => void = () => {}): Shortage {
  let loggedAtMs = -Infinity;
  const timer = setInterval(() => {
    const reason = shortage();
    if (reason === undefined) return;
    relieve();
    if (performance.now() - loggedAtMs < logEveryMs) return;
    loggedAtMs = performance.now();
    log.error("descriptors-exhausted", { reason });
  }, lookEveryMs);
  timer.unref();
  return shortage;
}

/** Takes as many as have to be left and gives them back, which is cheaper than to count those that are open. */
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
