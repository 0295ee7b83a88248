// The store's clock is the machine's, which may be wrong for a while. Its steps are noticed by comparing it with a clock
// that never steps, the process's own; what was stamped under a wrong clock is put right by sweep.ts.

import type { QueueStats } from "../queue.ts";
import type { Connection } from "./connection.ts";

/** A clock that is less off than this is not said to have stepped, ms. */
const toleranceMs = 2000;
/** After a larger step nothing expires for a while: it may be a mistake. */
const largeStepMs = 60_000;
/** How long a step is remembered, and a large one doubted, ms. */
const rememberedMs = 60 * 60 * 1000;

interface ClockRow {
  readonly stamped_at: number;
  readonly stepped_at: number | null;
  readonly stepped_by: number | null;
  readonly doubted_at: number | null;
}

function clockOf(db: Connection): ClockRow | undefined {
  return db.get<ClockRow>("SELECT * FROM clock");
}

/**
 * What the clock says, and what the monotonic clock of this process said before that: the process may be frozen at any
 * point in between, which must not look like a step.
 */
export interface Moment {
  readonly atMs: number;
  readonly monotonicMs: number;
}

/** What a process knows of how long ago the clock was last stamped, by any process. */
export class StampAge {
  readonly #monotonicMs: () => number;
  #stamp: number | undefined;
  #firstSeenMs = 0;
  /** The last time that another stamp, or none, was seen there. */
  #lastUnseenMs: number | undefined;
  #lastLookMs: number | undefined;

  /** @param monotonicMs the clock of this process, which never steps */
  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /**
   * The stamp is at least so old at `beganMs`, and at most so old now, ms.
   * @param stamp as it was read after `beganMs`
   */
  look(stamp: number | undefined, beganMs: number): { readonly minMs: number; readonly maxMs: number } {
    const nowMs = this.#monotonicMs();
    if (stamp !== this.#stamp) {
      this.#stamp = stamp;
      this.#firstSeenMs = nowMs;
      this.#lastUnseenMs = this.#lastLookMs;
    }
    this.#lastLookMs = beganMs;
    return {
      minMs: Math.max(0, beganMs - this.#firstSeenMs),
      maxMs: nowMs - (this.#lastUnseenMs ?? -Infinity),
    };
  }
}

/** By how much the clock has stepped since it was last stamped, ms: ahead, or back if negative; 0 if it has not. */
export function stepSince(db: Connection, age: StampAge, { atMs, monotonicMs }: Moment): number {
  const clock = clockOf(db);
  const { minMs, maxMs } = age.look(clock?.stamped_at, monotonicMs);
  if (clock === undefined) return 0;
  const passedMs = atMs - clock.stamped_at;
  if (passedMs > maxMs + toleranceMs) return Math.round(passedMs - maxMs);
  if (passedMs < minMs - toleranceMs) return Math.round(passedMs - minMs);
  return 0;
}

/** Records what the clock says now, to be compared with later. */
export function stampClock(db: Connection, atMs: number): void {
  db.run(
    "INSERT INTO clock (one, stamped_at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET stamped_at = ?1",
    atMs,
  );
}

/**
 * Notices a step of the clock, once for all processes. Before anything is stamped by it.
 *
 * No key may be used for longer than its provider remembers it. So the end of each doubt moves back with the clock, but
 * for as far as the clock had stepped ahead since the batch was begun: that was undone. A step ahead moves no end, since
 * nobody knows whether the clock is wrong now or was wrong before: an end that comes too soon costs a duplicate that is
 * counted.
 */
export function noteStep(db: Connection, age: StampAge, moment: Moment): void {
  const { atMs } = moment;
  const byMs = stepSince(db, age, moment);
  if (byMs === 0) return;
  db.run(
    `UPDATE clock SET stamped_at = ?1, stepped_at = ?1, stepped_by = ?2,
       doubted_at = CASE WHEN abs(?2) > ?3 THEN ?1 ELSE doubted_at END`,
    atMs,
    byMs,
    largeStepMs,
  );
  if (byMs > 0) {
    db.run("UPDATE batches SET ahead_ms = ahead_ms + ? WHERE ends_at IS NOT NULL", byMs);
    // They were heard of just now.
    db.run("UPDATE workers SET heard_at = heard_at + ?", byMs);
    return;
  }
  db.run(
    `UPDATE batches SET ends_at = ends_at - max(0, ?1 - ahead_ms), ahead_ms = max(0, ahead_ms - ?1)
     WHERE ends_at IS NOT NULL`,
    -byMs,
  );
}

/** Whether nothing expires now, and no doubt ends: the clock has made a large step, and may be wrong. */
export function isClockDoubted(db: Connection, atMs: number): boolean {
  const { doubted_at } = clockOf(db) ?? { doubted_at: null };
  return doubted_at !== null && atMs < doubted_at + rememberedMs;
}

/** The last step, for an hour. */
export function lastStep(db: Connection, atMs: number): QueueStats["clockStep"] {
  const { stepped_at, stepped_by } = clockOf(db) ?? { stepped_at: null, stepped_by: null };
  if (stepped_at === null || atMs >= stepped_at + rememberedMs) return undefined;
  return { atMs: stepped_at, byMs: stepped_by ?? 0 };
}
