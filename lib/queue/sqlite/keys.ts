// The idempotency keys of the embedded queue: who used them for which email, and how they reach another queue.

import { idempotencyMs, type KeyPage, type StoredKey } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

export interface KeyUse {
  readonly id: string;
  readonly fingerprint: string;
  readonly token: string;
  /** See {@link longLivedMs}. */
  readonly expires_at: number;
}

/**
 * Added to the expiry of a use that may live longer than {@link idempotencyMs} from now because its email is scheduled. This
 * lets a sweep find uses that live too long because of a wrong clock, without reading a million that may.
 */
export const longLivedMs = 1e15;

/** A use keeps its expiry if it would change by less, ms. */
const toleranceMs = 60_000;
/** Shortest life of a use from another queue, ms: its clock may not have been trusted when it should have expired. */
const lifeMinMs = 60 * 60 * 1000;

/** All uses of a key, the first first. */
export function usesOf(db: SqliteConnection, key: string): KeyUse[] {
  return db.all<KeyUse>`
    SELECT id, fingerprint, token, expires_at FROM idempotency WHERE key = ${key}
    UNION ALL SELECT id, fingerprint, token, expires_at FROM idempotency_uses WHERE key = ${key}`;
}

/**
 * The `expires_at` of a key that is used now.
 * @param sendAtMs the time of its email, if it has one
 */
export function expiryOf(db: SqliteConnection, sendAtMs = 0): number {
  const { atMs } = db.now;
  return sendAtMs > atMs ? longLivedMs + Math.ceil(sendAtMs) + idempotencyMs : atMs + idempotencyMs;
}

/** Adds the first use of a key by a token. */
export function addUse(db: SqliteConnection, key: string, use: KeyUse): void {
  const isFirst = db.get`SELECT 1 FROM idempotency WHERE key = ${key}` === undefined;
  const table = isFirst ? "idempotency" : "idempotency_uses";
  const sql = `INSERT INTO ${table} (key, token, id, fingerprint, expires_at) VALUES (?, ?, ?, ?, ?)`;
  db.run(sql, key, use.token, use.id, use.fingerprint, use.expires_at);
}

/** In the order of the keys, which never changes. */
export function listKeys(db: SqliteConnection, limit: number, from = "", lifeMinMs = -Infinity): KeyPage {
  const leastMs = Math.max(0, db.now.atMs + lifeMinMs);
  // The first use of a key may have expired before the others.
  const names = db.all<{ key: string }>`
    SELECT key FROM (SELECT key FROM idempotency
      WHERE key > ${from} AND expires_at % ${longLivedMs} >= ${leastMs} ORDER BY key LIMIT ${limit})
    UNION SELECT key FROM (SELECT key FROM idempotency_uses
      WHERE key > ${from} AND expires_at % ${longLivedMs} >= ${leastMs} ORDER BY key LIMIT ${limit})
    ORDER BY key LIMIT ${limit}`;
  const keys = names.map(({ key }) => ({ key, uses: usesOf(db, key).map((use) => storedUse(db, use)) }));
  return { keys, next: names.length < limit ? undefined : names.at(-1)?.key };
}

function storedUse(db: SqliteConnection, { id, fingerprint, token, expires_at }: KeyUse) {
  return { id, fingerprint, token, lifeMs: (expires_at % longLivedMs) - db.now.atMs };
}

/** See `Admin.rememberKeys`. */
export function rememberKeys(db: SqliteConnection, keys: readonly StoredKey[]) {
  let added = 0;
  let conflicts = 0;
  for (const { key, uses } of keys) {
    for (const { id, fingerprint, token, lifeMs } of uses) {
      const expiresAtMs = db.now.atMs + Math.max(lifeMs, lifeMinMs);
      const own = usesOf(db, key).find((use) => use.token === token);
      const isLong = lifeMs > idempotencyMs + toleranceMs || (own?.expires_at ?? 0) >= longLivedMs;
      const expires_at = expiresAtMs + (isLong ? longLivedMs : 0);
      if (own === undefined) {
        addUse(db, key, { id, fingerprint, token, expires_at });
        added += 1;
      } else if (own.id !== id) conflicts += 1;
      else if (expiresAtMs > (own.expires_at % longLivedMs) + toleranceMs) {
        for (const table of ["idempotency", "idempotency_uses"])
          db.run(`UPDATE ${table} SET expires_at = ? WHERE key = ? AND id = ?`, expires_at, key, id);
      }
    }
  }
  return { added, conflicts };
}
