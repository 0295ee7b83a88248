// Housekeeping, bounded: forgets what has expired, and gives back to all what only a provider may take that nobody
// serves any more. (Batches that were begun are in doubt, and end so.)

import type { Connection } from "./connection.ts";
import { expire, hasExpired, leave } from "./leave.ts";
import { anyProvider, providersOf } from "./providers.ts";
import { markOf, membersOf } from "./settle.ts";

const expiredMax = 1000;
const emailsMax = 100;
const batchesMax = 20;

/** Whether {@link sweep} would change anything. */
export function needsSweep(db: Connection, providers: readonly string[], atMs: number): boolean {
  return hasExpired(db, atMs) || unserved(db, providers).length > 0;
}

/** @param providers those that this worker hands new emails to */
export function sweep(db: Connection, providers: readonly string[], atMs: number, retainMs: number): void {
  expire(db, atMs, expiredMax);
  for (const { what, provider } of unserved(db, providers)) {
    if (what === "due") giveBackEmails(db, provider);
    else giveBackBatches(db, provider, atMs, retainMs);
  }
}

/** Of what only a provider outside `providers` may take. */
function unserved(db: Connection, providers: readonly string[]) {
  return (["due", "unbegun"] as const).flatMap((what) =>
    providersOf(db, what).flatMap((provider) => (providers.includes(provider) ? [] : [{ what, provider }])),
  );
}

function giveBackEmails(db: Connection, provider: string): void {
  db.run(
    `UPDATE places SET provider = ?1
     WHERE id IN (SELECT id FROM places WHERE due_at IS NOT NULL AND provider = ?2 ORDER BY due_at LIMIT ?3)`,
    anyProvider,
    provider,
    emailsMax,
  );
}

function giveBackBatches(db: Connection, provider: string, atMs: number, retainMs: number): void {
  const unbegun = db.all<{ id: string }>(
    "SELECT id FROM batches WHERE ends_at IS NULL AND provider = ? LIMIT ?",
    provider,
    batchesMax,
  );
  for (const { id } of unbegun) {
    for (const member of membersOf(db, id)) {
      const mark = markOf(member);
      if (mark !== undefined) leave(db, member.id, mark, atMs + retainMs);
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
