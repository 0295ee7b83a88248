// Housekeeping, bounded: notices steps of the clock and puts right what was stamped under a wrong one, forgets what has
// expired, and gives back to all what only a provider may take that no worker serves.

import type { WorkerPresence } from "../contract.ts";
import {
  doubtMaxMs,
  isExpiryDoubted,
  type Moment,
  noteStep,
  stampClock,
  type StampAge,
  stepSince,
} from "./clock.ts";
import type { SqliteConnection } from "./connection.ts";
import { expire, hasExpired, retire } from "./retention.ts";
import { anyProvider, listName, providersOf, readListName } from "./due_lists.ts";
import { count, markOf, membersOf } from "./settle.ts";
import {
  boundsOf,
  type Bounds,
  forgetWorkers,
  hasForgettable,
  isPresenceDue,
  recordPresence,
} from "./live_workers.ts";

const expiredMax = 1000;
const emailsMax = 100;
const batchesMax = 20;
const restampedMax = 1000;
/** What is due later than by rights by less than this is left alone, ms. */
const marginMs = 60_000;
/** Length of a lease of a release that does not say it, ms: the longest that there is. */
const leaseMaxMs = 60 * 60 * 1000;

/** Whether {@link sweep} would change anything. */
export function needsSweep(
  db: SqliteConnection,
  presence: WorkerPresence,
  age: StampAge,
  moment: Moment,
): boolean {
  const { atMs } = moment;
  return (
    stepSince(db, age, moment) !== 0 ||
    isPresenceDue(db, presence, atMs) ||
    (!isExpiryDoubted(db, atMs) && (hasExpired(db, atMs) || hasForgettable(db, atMs))) ||
    hasImpossibleDoubt(db, atMs) ||
    strandedIn(db, boundsOf(db, atMs), atMs, 1).length > 0 ||
    unserved(db).length > 0
  );
}

export function sweep(
  db: SqliteConnection,
  presence: WorkerPresence,
  age: StampAge,
  moment: Moment,
  retainMs: number,
): void {
  const { atMs } = moment;
  noteStep(db, age, moment);
  if (isPresenceDue(db, presence, atMs)) {
    recordPresence(db, presence, atMs);
    if (stepSince(db, age, moment) !== "unknown") stampClock(db, atMs);
  }
  boundDoubt(db, atMs);
  restamp(db, atMs);
  if (!isExpiryDoubted(db, atMs)) {
    expire(db, atMs, expiredMax);
    forgetWorkers(db, atMs);
  }
  for (const { what, name } of unserved(db)) {
    if (what === "due") giveBackEmails(db, name);
    else giveBackBatches(db, name, atMs, retainMs);
  }
}

/** No doubt began later than now, or lasts longer than a provider remembers a key. */
function hasImpossibleDoubt(db: SqliteConnection, atMs: number): boolean {
  const isAny = (sql: string, afterMs: number) => db.get(sql, afterMs) !== undefined;
  return (
    isAny(
      "SELECT 1 FROM batches WHERE ends_at IS NOT NULL AND ends_at > ? LIMIT 1",
      atMs + doubtMaxMs + marginMs,
    ) ||
    isAny("SELECT 1 FROM batches WHERE doubt_since IS NOT NULL AND doubt_since > ? LIMIT 1", atMs + marginMs)
  );
}

function boundDoubt(db: SqliteConnection, atMs: number): void {
  if (!hasImpossibleDoubt(db, atMs)) return;
  db.run("UPDATE batches SET ends_at = ?1 WHERE ends_at IS NOT NULL AND ends_at > ?1", atMs + doubtMaxMs);
  db.run("UPDATE batches SET doubt_since = ?1 WHERE doubt_since IS NOT NULL AND doubt_since > ?1", atMs);
}

interface Stranded {
  readonly what: "email" | "batch";
  readonly id: string;
  readonly dueAtMs: number;
}

/** Back to now with what is due at a time to which no worker would have put it off. */
function restamp(db: SqliteConnection, atMs: number): void {
  const stranded = strandedIn(db, boundsOf(db, atMs), atMs, restampedMax);
  for (const { what, id, dueAtMs } of stranded) {
    db.run(`UPDATE ${what === "email" ? "places" : "batches"} SET due_at = ? WHERE id = ?`, dueAtMs, id);
  }
  if (stranded.length > 0) count(db, "restamped", stranded.length);
}

/** @param limit of each kind and of all */
function strandedIn(db: SqliteConnection, bounds: Bounds, atMs: number, limit: number): Stranded[] {
  const emailMaxMs = atMs + bounds.retryMaxMs + marginMs;
  const batchMaxMs = atMs + Math.max(bounds.retryMaxMs, bounds.searchWaitMs) + marginMs;
  const found: Stranded[] = [];
  const add = (what: Stranded["what"], rows: readonly { id: string; due: number }[]) => {
    found.push(...rows.map(({ id, due }) => ({ what, id, dueAtMs: due })));
  };
  add(
    "batch",
    db.all(
      `SELECT id, ?1 + length AS due FROM (
         SELECT id, due_at, iif(timed_lease = lease, lease_ms, ?2) AS length FROM batches
         WHERE held = 1 AND due_at > ?1)
       WHERE due_at > ?1 + 2 * length LIMIT ?3`,
      atMs,
      leaseMaxMs,
      limit,
    ),
  );
  for (const provider of providersOf(db, "batches")) {
    add(
      "batch",
      db.all(
        "SELECT id, ?1 AS due FROM batches WHERE provider = ?2 AND due_at > ?3 AND held = 0 LIMIT ?4",
        atMs,
        provider,
        batchMaxMs,
        limit,
      ),
    );
  }
  for (const list of [anyProvider, ...providersOf(db, "due")]) {
    add(
      "email",
      db.all(
        `SELECT id, ?1 AS due FROM places
         WHERE due_at IS NOT NULL AND provider = ?2 AND due_at > ?3 LIMIT ?4`,
        atMs,
        list,
        emailMaxMs,
        limit,
      ),
    );
  }
  return found.slice(0, limit);
}

/** What only a provider may take that no worker has served for a day: lists of emails, and providers with batches. */
function unserved(db: SqliteConnection) {
  const isServed = (provider: string) =>
    db.get("SELECT 1 FROM served WHERE provider = ?", provider) !== undefined;
  return [
    ...[...providersOf(db, "due")]
      .filter((list) => {
        const { only } = readListName(list);
        return only !== anyProvider && !isServed(only);
      })
      .map((name) => ({ what: "due", name }) as const),
    // Made by the release before. (Batches that were begun are in doubt, and end so.)
    ...[...providersOf(db, "unbegun")]
      .filter((provider) => !isServed(provider))
      .map((name) => ({ what: "unbegun", name }) as const),
  ];
}

function giveBackEmails(db: SqliteConnection, list: string): void {
  const { pieceMax } = readListName(list);
  db.run(
    `UPDATE places SET provider = ?1
     WHERE id IN (SELECT id FROM places WHERE due_at IS NOT NULL AND provider = ?2 ORDER BY due_at LIMIT ?3)`,
    listName({ only: anyProvider, pieceMax }),
    list,
    emailsMax,
  );
}

function giveBackBatches(db: SqliteConnection, provider: string, atMs: number, retainMs: number): void {
  const unbegun = db.all<{ id: string }>(
    "SELECT id FROM batches WHERE ends_at IS NULL AND provider = ? LIMIT ?",
    provider,
    batchesMax,
  );
  for (const { id } of unbegun) {
    for (const member of membersOf(db, id)) {
      const mark = markOf(member);
      if (mark !== undefined) retire(db, member.id, mark, atMs + retainMs);
      else {
        db.run(
          "UPDATE places SET batch = NULL, position = NULL, due_at = ?, provider = ? WHERE id = ?",
          atMs,
          anyProvider,
          member.id,
        );
      }
    }
    db.run("DELETE FROM batches WHERE id = ?", id);
  }
}
