// The store's clock is the machine's, which may be wrong for a while. Steps are recorded here; housekeeping.ts repairs what was
// stamped under a wrong clock.

import { type ClockStep, type ClockWatch, largeStepMs, type Moment, toleranceMs } from "../clock_watch.ts";
import type { QueueStats } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

/** How long a step is reported, and the clock doubted after a large one, ms. */
const rememberedMs = 60 * 60 * 1000;
/** Longest doubt that a worker may be set to, ms. */
export const doubtMaxMs = 23 * 60 * 60 * 1000;
/** After a time without workers expiry is doubted once within this time, ms: or short runs of workers would expire nothing. */
const unwatchedPauseMs = 24 * 60 * 60 * 1000;
/** A worker that was heard of within this time lives, ms. */
export const aliveMs = 60_000;

interface ClockRow {
  readonly stamped_at: number;
  readonly stepped_at: number | null;
  readonly stepped_by: number | null;
  readonly doubted_at: number | null;
  readonly unwatched_at: number | null;
}

function clockOf(db: SqliteConnection): ClockRow | undefined {
  return db.get<ClockRow>`SELECT * FROM clock`;
}

export function stepSince(db: SqliteConnection, watch: ClockWatch): ClockStep {
  return watch.look(clockOf(db)?.stamped_at, db.now);
}

/** Records what the clock says now, for later comparisons. */
export function stampClock(db: SqliteConnection): void {
  db.run`INSERT INTO clock (one, stamped_at) VALUES (1, ${db.now.atMs})
    ON CONFLICT DO UPDATE SET stamped_at = excluded.stamped_at`;
}

/**
 * Records a step of the clock, once for all processes. To be called before anything is stamped by the clock.
 *
 * No key may be used for longer than its provider remembers it. So the end of each doubt moves with the sum of the
 * steps since the batch was begun, while that sum is negative, and returns once the steps are undone. A positive sum
 * moves nothing, since nobody knows whether the clock is wrong now or was wrong before: an end that comes too soon
 * costs a duplicate, which is counted.
 * @returns whether it is known now how old the last stamp is
 */
export function noteStep(db: SqliteConnection, watch: ClockWatch): boolean {
  const { atMs } = db.now;
  const byMs = stepSince(db, watch);
  if (byMs === 0) return true;
  if (byMs === "unwatched" || byMs === "unknown") {
    // "unknown" leaves the old stamp to the workers that know how old it is.
    const isStamped = byMs === "unwatched";
    db.run`INSERT INTO clock (one, stamped_at, unwatched_at) VALUES (1, ${atMs}, ${atMs})
      ON CONFLICT DO UPDATE SET stamped_at = iif(${Number(isStamped)}, excluded.stamped_at, stamped_at),
        unwatched_at = iif(excluded.unwatched_at - unwatched_at < ${unwatchedPauseMs},
          unwatched_at, excluded.unwatched_at)`;
    return isStamped;
  }
  db.run`UPDATE clock SET stamped_at = ${atMs}, stepped_at = ${atMs}, stepped_by = ${byMs},
    doubted_at = iif(${Math.abs(byMs)} > ${largeStepMs}, ${atMs}, doubted_at),
    unwatched_at = min(unwatched_at, ${atMs})`;
  // A batch that ends later was begun after the step, by a worker that could not know of it.
  const endsBeforeMs = byMs > 0 ? atMs - byMs + doubtMaxMs + toleranceMs : Number.MAX_SAFE_INTEGER;
  db.run`UPDATE batches
    SET ends_at = ends_at + min(0, ahead_ms + ${byMs}) - min(0, ahead_ms), ahead_ms = ahead_ms + ${byMs}
    WHERE ends_at <= ${endsBeforeMs}`;
  // Live workers were heard of just now.
  if (byMs > 0) db.run`UPDATE workers SET heard_at = heard_at + ${byMs}`;
  return true;
}

/** Whether no doubt ends now and nothing expires: the clock has made a large step, and may be wrong. */
export function isClockDoubted(db: SqliteConnection): boolean {
  return isRecent(clockOf(db)?.doubted_at, db.now);
}

/** Whether nothing expires now: the clock is doubted, or no worker saw how much time has passed. */
export function isExpiryDoubted(db: SqliteConnection): boolean {
  return isClockDoubted(db) || isRecent(clockOf(db)?.unwatched_at, db.now);
}

function isRecent(sinceMs: number | null | undefined, { atMs }: Moment): boolean {
  return typeof sinceMs === "number" && atMs < sinceMs + rememberedMs;
}

/** The last step, for an hour. */
export function lastStep(db: SqliteConnection): QueueStats["clockStep"] {
  const { stepped_at, stepped_by } = clockOf(db) ?? { stepped_at: null, stepped_by: null };
  if (stepped_at === null || !isRecent(stepped_at, db.now)) return undefined;
  return { atMs: stepped_at, byMs: stepped_by ?? 0 };
}
