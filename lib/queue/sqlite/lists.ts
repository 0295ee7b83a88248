// The lists in which emails wait. Hidden emails wait in lists that the previous release does not see.

import type { Parameter, SqliteConnection } from "./connection.ts";
import { keepPieces } from "./files.ts";

/** The name of the list of emails that any provider may take. */
export const anyProvider = "";
/** The lists of scheduled and of dead hidden emails. No provider's name has a colon. */
export const scheduledList = ":scheduled";
export const deadList = ":dead";

/**
 * The `batch` of hidden emails that are in no batch. No batch has this id, so the previous release considers these emails as
 * being sent, and neither claims nor changes them.
 */
export const noBatch = "+";

/** A list of emails that wait. */
export interface DueList {
  /** The value of the list's column in `places`. */
  readonly name: string;
  readonly columns: ListColumns;
  /** The only provider that may take its emails; {@link anyProvider} for any. */
  readonly only: string;
  /** Most emails in a batch from this list; undefined for as many as fit. */
  readonly pieceMax: number | undefined;
  readonly isScheduled: boolean;
  /** When the first of them is due, Unix ms. */
  readonly firstDueAtMs: number;
}

/** The columns of `places` for the list in which an email waits, and until when. */
type ListColumns = (typeof plainColumns | typeof hiddenColumns) & { readonly isHidden: boolean };

export const plainColumns = { list: "provider", at: "due_at", isHidden: false } as const;
export const hiddenColumns = { list: "hidden_list", at: "hidden_at", isHidden: true } as const;

interface HiddenEmail {
  readonly id: string;
  readonly text: string;
  readonly history?: string;
  /** Size of its files, which have been written; undefined without files. */
  readonly fileBytes: number | undefined;
}

/** Puts a hidden email that is being stored into a list. */
export function placeHidden(
  db: SqliteConnection,
  { id, text, history = "", fileBytes }: HiddenEmail,
  list: string,
  atMs: number,
): void {
  const size = Buffer.byteLength(text) + (fileBytes ?? 0);
  db.run`INSERT INTO places (id, size, file_bytes, history, batch, position, hidden_list, hidden_at)
    VALUES (${id}, ${size}, ${fileBytes ?? null}, ${history}, ${noBatch}, 0, ${list}, ${atMs})`;
  if (fileBytes !== undefined) keepPieces(db, id);
}

/** The list in which a hidden email that any provider may take waits for its time, and until when. */
export function hiddenPlaceFor(sendAtMs: number, atMs: number): [list: string, dueAtMs: number] {
  return sendAtMs > atMs ? [scheduledList, Math.ceil(sendAtMs)] : [anyProvider, atMs];
}

export function listName(only: string, pieceMax: number | undefined): string {
  if (pieceMax === undefined) return only;
  return only === anyProvider ? `split:${pieceMax}` : `split:${pieceMax}:${only}`;
}

/** The lists that are not empty. Seeks from list to list, since a list may have a million rows. */
export function dueLists(db: SqliteConnection): DueList[] {
  const rows = db.all<{ name: string; isHidden: number; firstDueAtMs: number }>`
    WITH RECURSIVE plain (name) AS (
      SELECT min(provider) FROM places WHERE due_at IS NOT NULL
      UNION ALL
      SELECT (SELECT min(provider) FROM places WHERE due_at IS NOT NULL AND provider > name)
      FROM plain WHERE name IS NOT NULL
    ), hidden (name) AS (
      SELECT min(hidden_list) FROM places WHERE hidden_at IS NOT NULL
      UNION ALL
      SELECT (SELECT min(hidden_list) FROM places WHERE hidden_at IS NOT NULL AND hidden_list > name)
      FROM hidden WHERE name IS NOT NULL
    )
    SELECT name, 0 AS isHidden,
      (SELECT min(due_at) FROM places WHERE due_at IS NOT NULL AND provider = name) AS firstDueAtMs
    FROM plain WHERE name IS NOT NULL
    UNION ALL
    SELECT name, 1, (SELECT min(hidden_at) FROM places WHERE hidden_at IS NOT NULL AND hidden_list = name)
    FROM hidden WHERE name IS NOT NULL AND name <> ${deadList}`;
  return rows.map(({ name, isHidden, firstDueAtMs }) => {
    const columns = isHidden === 1 ? hiddenColumns : plainColumns;
    const isScheduled = name === scheduledList;
    const list = { name, columns, isScheduled, firstDueAtMs };
    const [, pieceMax, piecesOnly = anyProvider] = /^split:(\d+)(?::(.*))?$/.exec(name) ?? [];
    if (pieceMax !== undefined) return { ...list, only: piecesOnly, pieceMax: Number(pieceMax) };
    return { ...list, only: isScheduled ? anyProvider : name, pieceMax: undefined };
  });
}

/** The tables of batches: those that both releases may claim, and those with hidden emails. */
export const batchTables: readonly string[] = ["batches", "hidden_batches"];

/**
 * Runs a statement that changes one batch, in whichever table it is.
 * @param sqlOf the statement, for a table
 */
export function changeBatch(
  db: SqliteConnection,
  sqlOf: (table: string) => string,
  ...parameters: Parameter[]
): void {
  for (const table of batchTables) if (db.run(sqlOf(table), ...parameters) > 0) return;
}
