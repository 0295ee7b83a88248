// Housekeeping, bounded: records that a worker lives, notices steps of the clock and repairs what a wrong clock stamped,
// deletes what has expired, and lets any provider take the emails of one that no worker serves.

import { type ClockWatch, toleranceMs } from "../clock_watch.ts";
import { idempotencyMs, type WorkerPresence } from "../contract.ts";
import { piecesKeptMs } from "../file_pieces.ts";
import { aliveMs, doubtMaxMs, isExpiryDoubted, noteStep, stampClock } from "./clock_steps.ts";
import type { SqliteConnection } from "./connection.ts";
import { dropPieces } from "./files.ts";
import { longLivedMs } from "./keys.ts";
import { anyProvider, batchTables, dueLists, listName } from "./lists.ts";
import { count } from "./settle.ts";

/** A presence that has not changed is written again after this time, ms: an idle worker hardly writes. */
const refreshMs = 20_000;
/** Tolerance for times that are later than possible, ms. */
const marginMs = 60_000;
const dayMs = 24 * 60 * 60 * 1000;

/** Most rows that one sweep deletes from a table, makes due in a list, or gives to all providers. */
const expiredMax = 1000;
const restampedMax = 1000;
const emailsMax = 100;
/** Most uploads that one sweep deletes. Deleting the largest takes 20 ms. */
const uploadsMax = 2;

export function sweep(db: SqliteConnection, presence: WorkerPresence, watch: ClockWatch): void {
  const isAgeKnown = noteStep(db, watch);
  if (recordPresence(db, presence) && isAgeKnown) stampClock(db);
  boundDoubt(db);
  restamp(db);
  if (!isExpiryDoubted(db)) expire(db);
  giveBackEmails(db);
}

/** @returns false if nothing was due to be recorded */
function recordPresence(db: SqliteConnection, presence: WorkerPresence): boolean {
  const { atMs } = db.now;
  const recorded = db.run`INSERT INTO workers (worker, heard_at, presence)
    VALUES (${presence.worker}, ${atMs}, ${JSON.stringify(presence)})
    ON CONFLICT DO UPDATE SET heard_at = excluded.heard_at, presence = excluded.presence
    WHERE presence <> excluded.presence
      OR heard_at > ${atMs + toleranceMs} OR heard_at <= ${atMs - refreshMs}`;
  if (recorded === 0) return false;
  for (const [provider, { takesEmails }] of Object.entries(presence.providers)) {
    if (takesEmails) db.run`INSERT OR REPLACE INTO served (provider, at) VALUES (${provider}, ${atMs})`;
  }
  // Rows stamped by a clock that ran ahead.
  db.run`UPDATE served SET at = ${atMs} WHERE at > ${atMs}`;
  db.run`UPDATE workers SET heard_at = ${atMs} WHERE heard_at > ${atMs}`;
  return true;
}

/** Doubt cannot have begun later than now, or last longer than a provider remembers a key. */
function boundDoubt(db: SqliteConnection): void {
  const { atMs } = db.now;
  const endMaxMs = atMs + doubtMaxMs;
  for (const table of batchTables) {
    db.run(`UPDATE ${table} SET ends_at = ? WHERE ends_at > ?`, endMaxMs, endMaxMs + marginMs);
    db.run(
      `UPDATE ${table} SET doubt_since = ? WHERE doubt_since IS NOT NULL AND doubt_since > ?`,
      atMs,
      atMs + marginMs,
    );
  }
}

/** Makes due now what is due later than any live worker would have set it. */
function restamp(db: SqliteConnection): void {
  const { atMs } = db.now;
  const { retryMaxMs, searchWaitMs } = db.get<Record<"retryMaxMs" | "searchWaitMs", number>>`
    SELECT max(presence ->> '$.retryMaxMs') AS retryMaxMs, max(presence ->> '$.searchWaitMs') AS searchWaitMs
    FROM workers WHERE heard_at > ${atMs - aliveMs}`!;
  const emailsDueMs = atMs + retryMaxMs + marginMs;
  const batchesDueMs = atMs + Math.max(retryMaxMs, searchWaitMs) + marginMs;
  let restamped = 0;
  for (const table of batchTables) {
    restamped += db.run(
      `UPDATE ${table}
        SET due_at = ?1 + iif(held = 0, 0, lease_ms)
        WHERE due_at > iif(held = 0, ?2, ?1 + 2 * lease_ms)`,
      atMs,
      batchesDueMs,
    );
  }
  for (const { name, columns, isScheduled } of dueLists(db)) {
    // A scheduled email becomes due only at its own time.
    if (isScheduled) continue;
    restamped += db.run(
      `UPDATE places SET ${columns.at} = ? WHERE id IN (SELECT id FROM places
        WHERE ${columns.at} IS NOT NULL AND ${columns.list} = ? AND ${columns.at} > ? LIMIT ?)`,
      atMs,
      name,
      emailsDueMs,
      restampedMax,
    );
  }
  if (restamped > 0) count(db, { restamped });
}

/** Deletes ids, records, keys, claimants, workers and providers whose time is over. */
function expire(db: SqliteConnection): void {
  const { atMs } = db.now;
  const drop = (table: string, key: string, time: string, tillMs: number, fromMs = 0) =>
    db.run(
      `DELETE FROM ${table} WHERE (${key}) IN (SELECT ${key} FROM ${table} WHERE ${time} BETWEEN ? AND ? LIMIT ?)`,
      fromMs,
      tillMs,
      expiredMax,
    );
  drop("sent", "id", "expires_at", atMs);
  const keyMaxMs = atMs + idempotencyMs;
  for (const [table, key] of Object.entries({ idempotency: "key", idempotency_uses: "key, token" })) {
    drop(table, key, "expires_at", atMs);
    drop(table, key, "expires_at", longLivedMs + atMs, longLivedMs);
    // Uses that were stamped by a clock that ran ahead.
    db.run(
      `UPDATE ${table} SET expires_at = ? WHERE expires_at > ? AND expires_at < ?`,
      keyMaxMs,
      keyMaxMs + marginMs,
      longLivedMs,
    );
  }
  drop("claimants", "claimant", "heard_at", atMs - dayMs);
  drop("workers", "worker", "heard_at", atMs - dayMs);
  drop("served", "provider", "at", atMs - dayMs);
  drop("rates", "provider, credential", "next_at", atMs - dayMs);
  dropExpiredUploads(db);
}

/** Deletes the files of expired uploads, whose emails were never stored. */
function dropExpiredUploads(db: SqliteConnection): void {
  const { atMs } = db.now;
  const expired = db.all<{ id: string }>`
    SELECT email AS id FROM uploads WHERE expires_at <= ${atMs} LIMIT ${uploadsMax}`;
  for (const { id } of expired) dropPieces(db, id);
  const keptMaxMs = atMs + piecesKeptMs;
  db.run`UPDATE uploads SET expires_at = ${keptMaxMs} WHERE expires_at > ${keptMaxMs + marginMs}`;
}

/** Lets any provider take the emails of one that no worker has served for a day. */
function giveBackEmails(db: SqliteConnection): void {
  for (const { name, columns, only, pieceMax } of dueLists(db)) {
    if (only === anyProvider || db.get`SELECT 1 FROM served WHERE provider = ${only}` !== undefined) continue;
    db.run(
      `UPDATE places SET ${columns.list} = ? WHERE id IN (SELECT id FROM places
        WHERE ${columns.at} IS NOT NULL AND ${columns.list} = ? ORDER BY ${columns.at} LIMIT ?)`,
      listName(anyProvider, pieceMax),
      name,
      emailsMax,
    );
  }
}
