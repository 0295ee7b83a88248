// How emails leave the queue, and how long their ids stay known.

import { idempotencyMs } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

/** By which batch an email was sent, and what remains of it. */
export interface Remains {
  readonly batch: string;
  readonly remains: string;
}

/** The id stays known until `expiresAtMs`. */
export function retire(
  db: SqliteConnection,
  id: string,
  sent: Remains | undefined,
  expiresAtMs: number,
): void {
  db.run("DELETE FROM emails WHERE id = ?", id);
  db.run("DELETE FROM places WHERE id = ?", id);
  db.run(
    "INSERT INTO sent (id, batch, remains, expires_at) VALUES (?, ?, ?, ?)",
    id,
    sent?.batch ?? null,
    sent?.remains ?? "",
    expiresAtMs,
  );
}

/** Tables whose rows are dropped some time after they were last needed, and their keys. */
const passing = Object.entries({
  sent: "id",
  idempotency: "key",
  idempotency_uses: "key, token",
  // Of the release before.
  claims: "id",
});
/** A claimant that has claimed nothing for so long is forgotten, ms. */
const claimantMs = 24 * 60 * 60 * 1000;

const keyed = ["idempotency", "idempotency_uses"] as const;

/** Whether there is anything to expire. */
export function hasExpired(db: SqliteConnection, atMs: number): boolean {
  const isAny = (sql: string, ms: number) => db.get(sql, ms) !== undefined;
  return (
    passing.some(([table]) => isAny(`SELECT 1 FROM ${table} WHERE expires_at <= ? LIMIT 1`, atMs)) ||
    keyed.some((table) => isAny(`SELECT 1 FROM ${table} WHERE expires_at > ? LIMIT 1`, keyMaxMs(atMs))) ||
    isAny("SELECT 1 FROM claimants WHERE heard_at <= ? LIMIT 1", atMs - claimantMs)
  );
}

/** Forgets at most `limit` rows of each kind whose time is over. */
export function expire(db: SqliteConnection, atMs: number, limit: number): void {
  for (const [table, key] of passing) {
    db.run(
      `DELETE FROM ${table} WHERE (${key}) IN (SELECT ${key} FROM ${table} WHERE expires_at <= ? LIMIT ?)`,
      atMs,
      limit,
    );
  }
  // Of a clock that ran ahead.
  for (const table of keyed) {
    db.run(`UPDATE ${table} SET expires_at = ? WHERE expires_at > ?`, atMs + idempotencyMs, keyMaxMs(atMs));
  }
  db.run(
    `DELETE FROM claimants WHERE claimant IN (SELECT claimant FROM claimants WHERE heard_at <= ? LIMIT ?)`,
    atMs - claimantMs,
    limit,
  );
}

/** No key that was stamped by a clock that was right expires later. */
const keyMaxMs = (atMs: number) => atMs + idempotencyMs + 60_000;
