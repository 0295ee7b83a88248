// What the workers say of themselves: which live, what they serve, and with which credentials.

import type { WorkerPresence } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

/** A worker that was heard of within this time lives, ms. */
const aliveMs = 60_000;
/** What has not changed is written again only after this time, ms: an idle worker hardly writes. */
const refreshMs = 20_000;
/** A clock that is so much behind another stamp has stepped, ms. */
const toleranceMs = 2000;
const dayMs = 24 * 60 * 60 * 1000;

export interface Bounds {
  readonly retryMaxMs: number;
  readonly searchWaitMs: number;
}

/** Whether {@link recordPresence} has anything to write. */
export function isPresenceDue(db: SqliteConnection, presence: WorkerPresence, atMs: number): boolean {
  const row = db.get<{ heard_at: number; presence: string }>(
    "SELECT heard_at, presence FROM workers WHERE worker = ?",
    presence.worker,
  );
  return (
    row === undefined ||
    row.presence !== JSON.stringify(presence) ||
    row.heard_at > atMs + toleranceMs ||
    row.heard_at + refreshMs <= atMs
  );
}

export function recordPresence(db: SqliteConnection, presence: WorkerPresence, atMs: number): void {
  db.run(
    `INSERT INTO workers (worker, heard_at, presence) VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET heard_at = ?2, presence = ?3`,
    presence.worker,
    atMs,
    JSON.stringify(presence),
  );
  for (const [provider, { takesEmails }] of Object.entries(presence.providers)) {
    if (!takesEmails) continue;
    db.run(
      "INSERT INTO served (provider, at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at = ?2",
      provider,
      atMs,
    );
  }
  // Of a clock that ran ahead.
  db.run("UPDATE served SET at = ?1 WHERE at > ?1", atMs);
  db.run("UPDATE workers SET heard_at = ?1 WHERE heard_at > ?1", atMs);
}

/** Forgets the workers and the providers that nobody has heard of for a day. */
export function forgetWorkers(db: SqliteConnection, atMs: number): void {
  db.run("DELETE FROM workers WHERE heard_at <= ?", atMs - dayMs);
  db.run("DELETE FROM served WHERE at <= ?", atMs - dayMs);
}

export function hasForgettable(db: SqliteConnection, atMs: number): boolean {
  const isOld = (sql: string) => db.get(sql, atMs - dayMs) !== undefined;
  return (
    isOld("SELECT 1 FROM workers WHERE heard_at <= ? LIMIT 1") ||
    isOld("SELECT 1 FROM served WHERE at <= ? LIMIT 1")
  );
}

/** Whether a live worker has this credential for this provider. */
export function isServedElsewhere(
  db: SqliteConnection,
  provider: string,
  credential: string,
  atMs: number,
): boolean {
  return liveWorkers(db, atMs).some(({ providers }) => providers[provider]?.credential === credential);
}

/** Longest that live workers delay anything; of releases that do not say so, a day. */
export function boundsOf(db: SqliteConnection, atMs: number): Bounds {
  const live = liveWorkers(db, atMs);
  const longest = (of: (one: WorkerPresence) => number, unknown: number) =>
    live.length === 0 ? unknown : Math.max(...live.map(of));
  return {
    retryMaxMs: longest(({ retryMaxMs }) => retryMaxMs, dayMs),
    searchWaitMs: longest(({ searchWaitMs }) => searchWaitMs, 0),
  };
}

function liveWorkers(db: SqliteConnection, atMs: number): WorkerPresence[] {
  const rows = db.all<{ presence: string }>(
    "SELECT presence FROM workers WHERE heard_at > ?",
    atMs - aliveMs,
  );
  return rows.map(({ presence }) => JSON.parse(presence) as WorkerPresence);
}
