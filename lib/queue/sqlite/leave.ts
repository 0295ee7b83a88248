// How emails leave the queue, and how long their ids stay known.

import type { Connection } from "./connection.ts";

/** By which batch an email was sent, and what remains of it. */
export interface Remains {
  readonly batch: string;
  readonly remains: string;
}

/** The id stays known until `expiresAtMs`. */
export function leave(db: Connection, id: string, sent: Remains | undefined, expiresAtMs: number): void {
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
const passing = Object.entries({ sent: "id", idempotency: "key", claims: "id" });

/** Whether there is anything to expire. */
export function hasExpired(db: Connection, atMs: number): boolean {
  return passing.some(
    ([table]) => db.get(`SELECT 1 FROM ${table} WHERE expires_at <= ? LIMIT 1`, atMs) !== undefined,
  );
}

/** Forgets at most `limit` rows of each kind whose time is over. */
export function expire(db: Connection, atMs: number, limit: number): void {
  for (const [table, key] of passing) {
    db.run(
      `DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ${table} WHERE expires_at <= ? LIMIT ?)`,
      atMs,
      limit,
    );
  }
}
