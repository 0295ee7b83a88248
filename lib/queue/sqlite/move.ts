// The move of the embedded queue to another store, or of another queue to here.

import { type AdoptAnswer, type DeadLetter, type SeenEmail, StoreUnavailable } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";
import { hasPieces } from "./files.ts";
import { anyProvider, deadList, placeHidden, scheduledList } from "./lists.ts";

/** The remains of a dead letter that another queue has adopted. */
export const moved = "moved";

/** Whether an operator moves the queue to another store: see `Admin.setMoving`. */
export function isMoving(db: SqliteConnection): boolean {
  return db.get`SELECT 1 FROM moves` !== undefined;
}

export function setMoving(db: SqliteConnection, moving: boolean): void {
  if (moving) db.run`INSERT INTO moves (one, since) VALUES (1, ${db.now.atMs}) ON CONFLICT DO NOTHING`;
  else db.run`DELETE FROM moves`;
}

/** Whether a dead letter was deleted here because another queue has adopted it. */
export function wasMoved(db: SqliteConnection, id: string): boolean {
  return db.get`SELECT 1 FROM sent WHERE id = ${id} AND batch IS NULL AND remains = ${moved}` !== undefined;
}

/** See `Admin.withdraw`. */
export function withdraw(db: SqliteConnection, emails: readonly SeenEmail[]): string[] {
  if (!isMoving(db)) return [];
  const withdrawn = emails.filter(
    ({ id, seenHistory, history }) =>
      db.run`UPDATE places SET hidden_list = ${deadList}, hidden_at = ${db.now.atMs}, history = ${history}
        WHERE id = ${id} AND hidden_list = ${scheduledList} AND history = ${seenHistory}` === 1,
  );
  return withdrawn.map(({ id }) => id);
}

/** Adds a dead letter of another queue, whose files have been written. */
export function adopt(
  db: SqliteConnection,
  { id, text, submittedAtMs, diedAtMs, history, isHidden = false, contents }: DeadLetter,
): AdoptAnswer {
  const { atMs } = db.now;
  db.run`DELETE FROM sent WHERE id = ${id} AND batch IS NULL AND remains = ${moved}`;
  const gone = db.get<{ batch: string | null }>`SELECT batch FROM sent WHERE id = ${id}`;
  if (gone !== undefined) return gone.batch === null ? "deleted" : "known";
  const added = db.run`INSERT INTO emails (id, submitted_at, text) VALUES (${id}, ${submittedAtMs}, ${text})
    ON CONFLICT DO NOTHING`;
  if (added === 0) return "known";
  const deadSinceMs = Math.min(diedAtMs, atMs);
  if (isHidden) {
    if (contents !== undefined && !hasPieces(db, id, contents.length))
      throw new StoreUnavailable(`adopt: the files of ${id} are not there`);
    placeHidden(db, { id, text, history, fileBytes: contents?.length }, deadList, deadSinceMs);
  } else {
    // The tally counts deaths by the change of the row.
    db.run`INSERT INTO places (id, size, history, due_at, provider)
      VALUES (${id}, ${Buffer.byteLength(text)}, ${history}, ${atMs}, ${anyProvider})`;
    db.run`UPDATE places SET due_at = NULL, provider = NULL, died_at = ${deadSinceMs} WHERE id = ${id}`;
  }
  return "adopted";
}
