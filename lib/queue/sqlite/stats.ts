// The numbers of the embedded queue. They are asked for every few seconds, by processes that have better things to do:
// what there may be millions of stands in the tally, and what is counted here are few.

import type { ProviderCondition, QueueStats } from "../contract.ts";
import { isPaused } from "./claim.ts";
import { lastStep } from "./clock.ts";
import type { SqliteConnection } from "./connection.ts";
import { anyProvider, providersOf } from "./due_lists.ts";

/** @param roomBytes what the disk can take besides, undefined if nobody can tell */
export function readQueueStats(
  db: SqliteConnection,
  atMs: number,
  roomBytes: number | undefined,
): QueueStats {
  const tally = db.get<{ placed: number; dead: number; sent: number }>("SELECT * FROM tally");
  if (tally === undefined) throw new Error("stats: no tally");
  const { placed, dead, sent } = tally;
  const batched = countOf(db, "SELECT count(*) AS count FROM places WHERE batch IS NOT NULL");
  const inDoubt = doubtfulOf(db, atMs);
  const due = placed - dead - batched;
  const counters = db.all<{ name: string; count: number }>("SELECT name, count FROM counters");
  const retrying = retryingOf(db, atMs, due);
  return {
    nowMs: atMs,
    states: {
      waiting: due - retrying,
      retrying,
      sending: batched - inDoubt,
      "in-doubt": inDoubt,
      dead,
      sent,
    },
    counters: Object.fromEntries(counters.map(({ name, count }) => [name, count])),
    providers: conditionsOf(db),
    oldestDueAtMs: oldestDue(db, atMs),
    oldestDoubtSinceMs: oldestDoubt(db, atMs),
    paused: isPaused(db),
    clockStep: lastStep(db, atMs),
    ...bytes(db, roomBytes),
  };
}

const countOf = (db: SqliteConnection, sql: string, ...parameters: (string | number)[]) =>
  db.get<{ count: number }>(sql, ...parameters)?.count ?? 0;

/** An email that was accepted elsewhere meanwhile counts as what is in its batch, until that ends. */
function doubtfulOf(db: SqliteConnection, atMs: number): number {
  const inBatches = (condition: string, ...parameters: number[]) =>
    countOf(
      db,
      `SELECT count(*) AS count FROM batches CROSS JOIN places ON places.batch = batches.id WHERE ${condition}`,
      ...parameters,
    );
  const lapsed = inBatches("held = 1 AND doubt_since IS NULL AND batches.due_at <= ?", atMs);
  return inBatches("doubt_since IS NOT NULL") + lapsed;
}

/**
 * Of `due`, those that are due later. What is retrying becomes waiting without a write, so that no tally can tell them
 * apart: the fewer of the two are counted, whichever that is, 10 ms for each hundred thousand.
 */
function retryingOf(db: SqliteConnection, atMs: number, due: number): number {
  const upTo = (range: ">" | "<=", countMax: number) => {
    let count = 0;
    for (const provider of [anyProvider, ...providersOf(db, "due")]) {
      count += countOf(
        db,
        `SELECT count(*) AS count FROM (
           SELECT 1 FROM places WHERE due_at IS NOT NULL AND provider = ? AND due_at ${range} ? LIMIT ?)`,
        provider,
        atMs,
        countMax - count,
      );
    }
    return count;
  };
  for (let countMax = 1000; ; countMax *= 8) {
    const later = upTo(">", countMax);
    if (later < countMax) return later;
    const now = upTo("<=", countMax);
    if (now < countMax) return due - now;
  }
}

interface Condition {
  readonly provider: string;
  readonly accepted_at: number | null;
  readonly failing_since: number | null;
  readonly failed_at: number | null;
  readonly reason: string | null;
  readonly unanswered: number;
}

export function conditionsOf(db: SqliteConnection): Record<string, ProviderCondition> {
  const rows = db.all<Condition>("SELECT * FROM conditions ORDER BY provider");
  return Object.fromEntries(
    rows.map(({ provider, accepted_at, failing_since, failed_at, reason, unanswered }) => [
      provider,
      {
        ...(accepted_at !== null && { lastAcceptedAtMs: accepted_at }),
        ...(failing_since !== null && { failingSinceMs: failing_since }),
        ...(failed_at !== null && { lastFailedAtMs: failed_at, lastFailure: reason ?? "" }),
        ...(failing_since !== null && unanswered === 1 && { isUnanswered: true as const }),
      },
    ]),
  );
}

/** Since when what is due longest is so: an email, or a batch that is to be claimed again. */
function oldestDue(db: SqliteConnection, atMs: number): number | undefined {
  const emails = [anyProvider, ...providersOf(db, "due")].map((provider) =>
    firstAt(db, "SELECT min(due_at) AS at FROM places WHERE due_at IS NOT NULL AND provider = ?", provider),
  );
  const batches = [...providersOf(db, "batches")].map((provider) =>
    firstAt(db, "SELECT min(due_at) AS at FROM batches WHERE provider = ?", provider),
  );
  return earliest([...emails, ...batches], atMs);
}

function oldestDoubt(db: SqliteConnection, atMs: number): number | undefined {
  const recorded = firstAt(db, "SELECT min(doubt_since) AS at FROM batches WHERE doubt_since IS NOT NULL");
  const leased = firstAt(db, "SELECT min(due_at) AS at FROM batches WHERE held = 1 AND doubt_since IS NULL");
  return earliest([recorded, leased], atMs);
}

const firstAt = (db: SqliteConnection, sql: string, ...parameters: string[]) =>
  db.get<{ at: number | null }>(sql, ...parameters)?.at ?? Infinity;

function earliest(times: readonly number[], atMs: number): number | undefined {
  const first = Math.min(...times);
  return first <= atMs ? first : undefined;
}

/** Of the file, what is not free in it; and how much that may become before new emails are refused. */
function bytes(
  db: SqliteConnection,
  roomBytes: number | undefined,
): Pick<QueueStats, "bytesUsed" | "bytesMax"> {
  const pragma = (name: string) => db.get<Record<string, number>>(`PRAGMA ${name}`)?.[name] ?? 0;
  const page = pragma("page_size");
  const file = pragma("page_count") * page;
  return {
    bytesUsed: file - pragma("freelist_count") * page,
    bytesMax: roomBytes === undefined ? undefined : file + Math.max(0, roomBytes),
  };
}
