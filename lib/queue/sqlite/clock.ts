// The store's clock is the machine's, which may be wrong for a while. Its steps are noticed by comparing it with a clock
// that never steps, the process's own; what was stamped under a wrong clock is put right by sweep.ts.

import type { QueueStats } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

/** A clock that is less off than this is not said to have stepped, ms. */
const toleranceMs = 2000;
/** After a larger step nothing expires for a while: it may be a mistake. */
const largeStepMs = 60_000;
/** How long a step is remembered, and a large one doubted, ms. */
const rememberedMs = 60 * 60 * 1000;
/** Another worker that lives has looked at the clock by then, and noticed its step, ms. */
const othersLookMs = 5000;
/** Longest doubt that a worker may be set to, ms. */
export const doubtMaxMs = 23 * 60 * 60 * 1000;
/** A time without any worker is not doubted again so soon, ms: workers that never run for long do expire things. */
const unwatchedPauseMs = 24 * 60 * 60 * 1000;

interface ClockRow {
  readonly stamped_at: number;
  readonly stepped_at: number | null;
  readonly stepped_by: number | null;
  readonly doubted_at: number | null;
  readonly unwatched_at: number | null;
}

function clockOf(db: SqliteConnection): ClockRow | undefined {
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

/**
 * By how much the clock has stepped since it was last stamped, ms: ahead, or back if negative; 0 if it has not.
 * "unwatched" if it has gone ahead by more than a minute, or was never stamped, and no worker can tell how much time
 * passed; "unknown" as long as another worker may live that can.
 */
export function stepSince(
  db: SqliteConnection,
  age: StampAge,
  { atMs, monotonicMs }: Moment,
): number | "unwatched" | "unknown" {
  const clock = clockOf(db);
  const { minMs, maxMs } = age.look(clock?.stamped_at, monotonicMs);
  // It may have been right when the first emails were submitted, and wrong by now.
  if (clock === undefined) return "unwatched";
  const passedMs = atMs - clock.stamped_at;
  if (maxMs === Infinity && passedMs > largeStepMs) return minMs < othersLookMs ? "unknown" : "unwatched";
  if (passedMs > maxMs + toleranceMs) return Math.round(passedMs - maxMs);
  if (passedMs < minMs - toleranceMs) return Math.round(passedMs - minMs);
  return 0;
}

/** Records what the clock says now, to be compared with later. */
export function stampClock(db: SqliteConnection, atMs: number): void {
  db.run(
    "INSERT INTO clock (one, stamped_at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET stamped_at = ?1",
    atMs,
  );
}

/**
 * Notices a step of the clock, once for all processes. Before anything is stamped by it.
 *
 * No key may be used for longer than its provider remembers it. So the end of each doubt moves with the sum of the steps
 * since the batch was begun while that is a step back: it comes back too, once that is undone. A sum ahead moves no end,
 * since nobody knows whether the clock is wrong now or was wrong before: an end that comes too soon costs a duplicate
 * that is counted.
 */
export function noteStep(db: SqliteConnection, age: StampAge, moment: Moment): void {
  const { atMs } = moment;
  const byMs = stepSince(db, age, moment);
  if (byMs === 0) return;
  if (byMs === "unwatched" || byMs === "unknown") {
    // The old stamp is left to those who know how old it is.
    db.run(
      `INSERT INTO clock (one, stamped_at, unwatched_at) VALUES (1, ?1, ?1)
       ON CONFLICT DO UPDATE SET stamped_at = iif(?3, ?1, stamped_at),
         unwatched_at = iif(unwatched_at IS NULL OR ?1 - unwatched_at >= ?2, ?1, unwatched_at)`,
      atMs,
      unwatchedPauseMs,
      byMs === "unwatched" ? 1 : 0,
    );
    return;
  }
  db.run(
    `UPDATE clock SET stamped_at = ?1, stepped_at = ?1, stepped_by = ?2,
       doubted_at = iif(abs(?2) > ?3, ?1, doubted_at), unwatched_at = min(unwatched_at, ?1)`,
    atMs,
    byMs,
    largeStepMs,
  );
  // What ends later was begun after it, by a worker that could not know of it.
  const beganBeforeMs = byMs > 0 ? atMs - byMs + doubtMaxMs + toleranceMs : Number.MAX_SAFE_INTEGER;
  db.run(
    `UPDATE batches SET ends_at = ends_at + min(0, ahead_ms + ?1) - min(0, ahead_ms), ahead_ms = ahead_ms + ?1
     WHERE ends_at IS NOT NULL AND ends_at <= ?2`,
    byMs,
    beganBeforeMs,
  );
  // They were heard of just now.
  if (byMs > 0) db.run("UPDATE workers SET heard_at = heard_at + ?", byMs);
}

/** Whether no doubt ends now, and nothing expires: the clock has made a large step, and may be wrong. */
export function isClockDoubted(db: SqliteConnection, atMs: number): boolean {
  return isWithinHour(clockOf(db)?.doubted_at, atMs);
}

/** Whether nothing expires now: as {@link isClockDoubted}, and after a time that no worker saw pass. */
export function isExpiryDoubted(db: SqliteConnection, atMs: number): boolean {
  return isClockDoubted(db, atMs) || isWithinHour(clockOf(db)?.unwatched_at, atMs);
}

function isWithinHour(sinceMs: number | null | undefined, atMs: number): boolean {
  return typeof sinceMs === "number" && atMs < sinceMs + rememberedMs;
}

/** The last step, for an hour. */
export function lastStep(db: SqliteConnection, atMs: number): QueueStats["clockStep"] {
  const { stepped_at, stepped_by } = clockOf(db) ?? { stepped_at: null, stepped_by: null };
  if (stepped_at === null || !isWithinHour(stepped_at, atMs)) return undefined;
  return { atMs: stepped_at, byMs: stepped_by ?? 0 };
}
