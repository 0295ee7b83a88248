// The sweep of one worker, and the clock by which it tells a step of Redis's clock from time that passed.

import type { WorkerPresence } from "../contract.ts";

/** What a clock that is corrected gently moves less than, between two sweeps, ms. */
const stepMinMs = 2000;

/** Another worker that lives has swept by then, and knows how much time passed, ms. */
const othersSweepMs = 5000;

export interface SweeperOptions {
  /** Runs sweep.lua, with its arguments from the fourth on. */
  sweep(args: readonly (string | number)[]): Promise<unknown>;
  /** A clock that is never set. */
  monotonicMs(): number;
}

/** When the answer of a sweep was written, and what it said. */
interface Look {
  readonly nowMs: number;
  readonly epoch: number;
  /** Steps that others have noted since the look before, together, ms. */
  readonly notedMs: number;
  /** Between these it was written, by the monotonic clock. */
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
}

export function createSweeper({ sweep, monotonicMs }: SweeperOptions) {
  let last: Look | undefined;
  let firstMs: number | undefined;

  async function look(
    presence: readonly (string | number)[],
    stepMs: number | "" | "wait",
  ): Promise<Look | undefined> {
    const askedAtMs = monotonicMs();
    const passedMs = last === undefined ? 0 : Math.floor(askedAtMs - last.answeredAtMs);
    const clock = [last?.nowMs ?? "", passedMs, last?.epoch ?? 0, stepMs];
    const answer = (await sweep([...clock, ...presence])) as [string, number, number, number?];
    const [nowMs, epoch, isDone, notedMs = 0] = answer;
    const found = { nowMs: Number(nowMs), epoch, askedAtMs, answeredAtMs: monotonicMs(), notedMs };
    if (isDone === 0) return found;
    last = found;
    return undefined;
  }

  return async function sweepOnce(presence: WorkerPresence): Promise<void> {
    const { worker, retryMaxMs, searchWaitMs, providers } = presence;
    const served = Object.entries(providers).flatMap(([name, { credential, takesEmails }]) => [
      name,
      credential || "-",
      takesEmails ? 1 : 0,
    ]);
    const own = [worker, retryMaxMs, searchWaitMs, ...served];
    firstMs ??= monotonicMs();
    const isNew = last === undefined && monotonicMs() < firstMs + othersSweepMs;
    const suspect = await look(own, isNew ? "wait" : "");
    if (suspect === undefined || last === undefined) return;
    const before = last;
    const passedMs = suspect.answeredAtMs - before.askedAtMs;
    const stepMs = Math.floor(suspect.nowMs - before.nowMs - suspect.notedMs - passedMs);
    last = suspect;
    try {
      // Otherwise the answer came late enough to account for it.
      await look(own, stepMs > stepMinMs ? stepMs : 0);
    } catch (error) {
      // Perhaps nobody has noted it.
      last = before;
      throw error;
    }
  };
}
