// The files of emails in the embedded queue. Each piece is written in a transaction of its own before the email. The
// transaction that stores the email removes it from the uploads, and a trigger deletes its pieces when it leaves.

import { countPieces, joinPieces, piecesKeptMs } from "../file_pieces.ts";
import type { SqliteConnection } from "./connection.ts";
import type { Store } from "./store.ts";

/** Writes a piece of an email that is being submitted. Writing it again is harmless, even once the email is stored. */
export function putPiece(db: SqliteConnection, id: string, number: number, content: Uint8Array): void {
  // Another submission with this id has stored the email, with the same files.
  if (db.get`SELECT 1 FROM emails WHERE id = ${id}` !== undefined) return;
  db.run`INSERT OR REPLACE INTO uploads (email, expires_at) VALUES (${id}, ${db.now.atMs + piecesKeptMs})`;
  db.run`INSERT OR REPLACE INTO file_pieces (email, number, content) VALUES (${id}, ${number}, ${content})`;
}

/** Whether all pieces of an email that is being submitted are there. */
export function hasPieces(db: SqliteConnection, id: string, bytes: number): boolean {
  const { count } = db.get<{ count: number }>`
    SELECT count(*) AS count FROM file_pieces WHERE email = ${id} AND EXISTS (
      SELECT 1 FROM uploads WHERE email = ${id})`!;
  return count === countPieces(bytes);
}

/** Keeps the files of an email that is stored in this transaction. */
export function keepPieces(db: SqliteConnection, id: string): void {
  db.run`DELETE FROM uploads WHERE email = ${id}`;
}

/** Deletes the pieces of an email that was not stored. */
export function dropPieces(db: SqliteConnection, id: string): void {
  if (db.run`DELETE FROM uploads WHERE email = ${id}` > 0)
    db.run`DELETE FROM file_pieces WHERE email = ${id}`;
}

/** See `Consumer.readFiles`. */
export function readFiles(store: Store, id: string): Promise<Uint8Array | undefined> {
  return joinPieces((number) =>
    store.transact(
      (db) => db.get<{ content: Uint8Array; bytes: number }>`
        SELECT content, file_bytes AS bytes FROM places JOIN file_pieces ON email = places.id
        WHERE places.id = ${id} AND number = ${number}`,
    ),
  );
}
