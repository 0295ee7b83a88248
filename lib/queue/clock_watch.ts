// Distinguishes a step of a store's clock from time that passes. Workers stamp the store with the time of its clock; by
// its own monotonic clock, each worker knows how old such a stamp can be.

/** A smaller difference is not a step, ms. */
export const toleranceMs = 2000;
/** After a larger step nothing expires for a while, since the clock may be wrong now, ms. */
export const largeStepMs = 60_000;
/** Another live worker has looked at the clock within this time, and recorded its step, ms. */
const othersLookMs = 5000;

/**
 * How far a clock has stepped since it was last stamped, ms: ahead, or back if negative; 0 if it has not. `unwatched` if
 * it was never stamped, or has gone ahead by more than a minute and no worker knows how much time has passed; `unknown`
 * while another worker that knows may live.
 */
export type ClockStep = number | "unwatched" | "unknown";

/** A look at the clocks, in this order: a process frozen at any point in between sees no step. */
export interface Moment {
  /** By the monotonic clock, before the stamp was read. */
  readonly beganMs: number;
  /** By the monotonic clock, at some time before `atMs` was read. */
  readonly monotonicMs: number;
  /** By the store's clock, Unix ms. */
  readonly atMs: number;
}

/** The knowledge of a process about the age of the last stamp, by any process. */
export class ClockWatch {
  readonly #monotonicMs: () => number;
  #stampMs: number | undefined;
  #firstSeenMs = 0;
  /** The last time that another stamp, or none, was there. */
  #lastUnseenMs = -Infinity;
  #lastLookMs = -Infinity;

  /** @param monotonicMs the clock of this process, which never steps */
  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /** @param stampMs as it was read with this moment */
  look(stampMs: number | undefined, { beganMs, monotonicMs, atMs }: Moment): ClockStep {
    const nowMs = this.#monotonicMs();
    if (stampMs !== this.#stampMs) {
      this.#stampMs = stampMs;
      this.#firstSeenMs = nowMs;
      this.#lastUnseenMs = this.#lastLookMs;
    }
    this.#lastLookMs = beganMs;
    // The clock may have been right when the first emails were submitted, and be wrong by now.
    if (stampMs === undefined) return "unwatched";
    const ageMinMs = Math.max(0, monotonicMs - this.#firstSeenMs);
    const ageMaxMs = nowMs - this.#lastUnseenMs;
    const passedMs = atMs - stampMs;
    if (ageMaxMs === Infinity && passedMs > largeStepMs)
      return ageMinMs < othersLookMs ? "unknown" : "unwatched";
    if (passedMs > ageMaxMs + toleranceMs) return Math.round(passedMs - ageMaxMs);
    if (passedMs < ageMinMs - toleranceMs) return Math.round(passedMs - ageMinMs);
    return 0;
  }
}
