// The statistics of the embedded queue.

import type { QueueStats } from "../contract.ts";
import { isPaused } from "./claim.ts";
import { lastStep } from "./clock_steps.ts";
import type { SqliteConnection } from "./connection.ts";
import { type DueList, dueLists } from "./lists.ts";
import { isMoving } from "./move.ts";
import { readConditions } from "./settle.ts";

/** @param roomBytes how much more the disk can take; undefined if unknown */
export function readStats(db: SqliteConnection, roomBytes: number | undefined): QueueStats {
  const { atMs } = db.now;
  const tally = db.get<
    Record<"placed" | "dead" | "sent" | "scheduled" | "file_bytes", number>
  >`SELECT * FROM tally`!;
  const { batched, inDoubt } = db.get<Record<"batched" | "inDoubt", number>>`
    SELECT count(*) AS batched,
      count(*) FILTER (WHERE doubt_since IS NOT NULL OR held = 1 AND batches.due_at <= ${atMs}) AS inDoubt
    FROM all_batches AS batches CROSS JOIN places ON batch = batches.id`!;
  const oldest = db.get<Record<"dueAtMs" | "doubtSinceMs", number | null>>`
    SELECT min(due_at) AS dueAtMs,
      min(coalesce(doubt_since, iif(held = 1 AND due_at <= ${atMs}, due_at, NULL))) AS doubtSinceMs
    FROM all_batches`!;
  const lists = dueLists(db);
  const [timed, others] = [true, false].map((is) => lists.filter(({ isScheduled }) => isScheduled === is));
  const oldestDueAtMs = Math.min(oldest.dueAtMs ?? Infinity, ...lists.map((list) => list.firstDueAtMs));
  const due = tally.placed - tally.dead - batched;
  const scheduled = countLater(db, timed!, tally.scheduled);
  const retrying = countLater(db, others!, due - tally.scheduled);
  const counters = db.all<{ name: string; count: number }>`SELECT name, count FROM counters`;
  const { size, pages, free } = db.get<Record<"size" | "pages" | "free", number>>`
    SELECT page_size AS size, page_count AS pages, freelist_count AS free
    FROM pragma_page_size, pragma_page_count, pragma_freelist_count`!;
  return {
    nowMs: atMs,
    states: {
      scheduled,
      waiting: due - scheduled - retrying,
      retrying,
      sending: batched - inDoubt,
      "in-doubt": inDoubt,
      dead: tally.dead,
      sent: tally.sent,
    },
    fileBytes: tally.file_bytes,
    counters: Object.fromEntries(counters.map(({ name, count: value }) => [name, value])),
    providers: readConditions(db),
    oldestDueAtMs: oldestDueAtMs <= atMs ? oldestDueAtMs : undefined,
    oldestDoubtSinceMs: oldest.doubtSinceMs ?? undefined,
    paused: isPaused(db),
    moving: isMoving(db),
    clockStep: lastStep(db),
    bytesUsed: (pages - free) * size,
    bytesMax: roomBytes === undefined ? undefined : pages * size + Math.max(0, roomBytes),
  };
}

/**
 * How many of the emails in some lists are due later. Emails become due without a write, so no tally can count these apart.
 * Counting a million rows blocks the process for 100 ms, so the rows of the smaller side are counted.
 * @param total how many emails these lists have
 */
function countLater(db: SqliteConnection, lists: readonly DueList[], total: number): number {
  const countUpTo = (countMax: number, isLater: boolean) => {
    let sum = 0;
    for (const { name, columns } of lists) {
      const rows = db.get<{ count: number }>(
        `SELECT count(*) AS count FROM (SELECT 1 FROM places
           WHERE ${columns.at} IS NOT NULL AND ${columns.list} = ? AND ${columns.at} ${isLater ? ">" : "<="} ? LIMIT ?)`,
        name,
        db.now.atMs,
        countMax - sum,
      );
      sum += rows?.count ?? 0;
    }
    return sum;
  };
  for (let countMax = 1000; ; countMax *= 8) {
    const later = countUpTo(countMax, true);
    if (later < countMax) return later;
    const now = countUpTo(countMax, false);
    if (now < countMax) return total - now;
  }
}
