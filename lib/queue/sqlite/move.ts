// The move of the embedded queue to another store, or of another queue to here.

import { type AdoptAnswer, type DeadLetter, StoreUnavailable } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";
import { hasPieces, keepPieces } from "./files.ts";
import { anyProvider, deadList, noBatch } from "./lists.ts";

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
  const size = Buffer.byteLength(text) + (contents?.length ?? 0);
  // The tally counts deaths by the change of the row.
  if (isHidden) {
    if (contents !== undefined && !hasPieces(db, id, contents.length))
      throw new StoreUnavailable(`adopt: the files of ${id} are not there`);
    db.run`INSERT INTO places (id, size, file_bytes, history, batch, position, hidden_list, hidden_at)
      VALUES (${id}, ${size}, ${contents?.length ?? null}, ${history}, ${noBatch}, 0, ${anyProvider},
        ${Math.min(diedAtMs, atMs)})`;
    keepPieces(db, id);
    db.run`UPDATE places SET hidden_list = ${deadList} WHERE id = ${id}`;
  } else {
    db.run`INSERT INTO places (id, size, history, due_at, provider)
      VALUES (${id}, ${size}, ${history}, ${atMs}, ${anyProvider})`;
    db.run`UPDATE places SET due_at = NULL, provider = NULL, died_at = ${Math.min(diedAtMs, atMs)} WHERE id = ${id}`;
  }
  return "adopted";
}
