// The sweep of one worker, and the clock by which it tells a step of Redis's clock from time that passed.

import type { WorkerPresence } from "../contract.ts";

/** A clock that is slewed moves less than this between two sweeps, ms. */
const stepMinMs = 2000;

/** Another worker that lives has swept by then, and knows how much time passed, ms. */
const othersSweepMs = 5000;

/** The reply of sweep.lua. */
interface Reply {
  readonly nowMs: number;
  /** Number of steps so far. */
  readonly epoch: number;
  readonly isDone: boolean;
  /** Sum of the steps that others have noted since the last sweep, ms. */
  readonly notedMs?: number;
}

/** A reply, and between which times it was written, by the monotonic clock. */
interface Look extends Reply {
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
}

interface Limits {
  /** How long an id stays known. */
  readonly retainMs: number;
  readonly idempotencyMs: number;
}

export class Sweeper {
  readonly #limits: Limits;
  readonly #run: (request: string) => Promise<unknown>;
  readonly #monotonicMs: () => number;
  #last: Look | undefined;
  #firstAtMs: number | undefined;

  /**
   * @param run runs sweep.lua with its request
   * @param monotonicMs a clock that is never set
   */
  constructor(limits: Limits, run: (request: string) => Promise<unknown>, monotonicMs: () => number) {
    this.#limits = limits;
    this.#run = run;
    this.#monotonicMs = monotonicMs;
  }

  async sweep(presence: WorkerPresence): Promise<void> {
    this.#firstAtMs ??= this.#monotonicMs();
    const before = this.#last;
    const isNew = before === undefined && this.#monotonicMs() < this.#firstAtMs + othersSweepMs;
    const suspect = await this.#look(presence, { isNew });
    if (suspect.isDone || before === undefined) return;
    const passedMs = suspect.answeredAtMs - before.askedAtMs;
    const stepMs = Math.floor(suspect.nowMs - before.nowMs - (suspect.notedMs ?? 0) - passedMs);
    this.#last = suspect;
    try {
      // Without a step, the answer came late enough to account for the difference.
      await this.#look(presence, { stepMs: stepMs > stepMinMs ? stepMs : 0 });
    } catch (error) {
      // The step may not have been noted.
      this.#last = before;
      throw error;
    }
  }

  async #look(presence: WorkerPresence, judgement: { isNew?: boolean; stepMs?: number }): Promise<Look> {
    const askedAtMs = this.#monotonicMs();
    const last = this.#last && {
      nowMs: this.#last.nowMs,
      epoch: this.#last.epoch,
      passedMs: Math.floor(askedAtMs - this.#last.answeredAtMs),
    };
    const who = { worker: presence.worker, presence: lineOf(presence) };
    const reply = await this.#run(JSON.stringify({ ...this.#limits, ...judgement, ...who, last }));
    const look = { ...(JSON.parse(String(reply)) as Reply), askedAtMs, answeredAtMs: this.#monotonicMs() };
    if (look.isDone) this.#last = look;
    return look;
  }
}

/** The text after the time in a worker's field of the key `workers`. */
function lineOf({ retryMaxMs, searchWaitMs, providers }: WorkerPresence): string {
  const served = Object.entries(providers).flatMap(([name, { credential, takesEmails }]) => [
    name,
    credential || "-",
    takesEmails ? 1 : 0,
  ]);
  return [retryMaxMs, searchWaitMs, ...served].join(" ");
}
