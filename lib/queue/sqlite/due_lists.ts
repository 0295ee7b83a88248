// Which providers there is something for, and the lists in which emails wait.

import type { SqliteConnection } from "./connection.ts";

/** Of any provider: the value of `places.provider` for an email that everyone may take. */
export const anyProvider = "";

/** A list of emails that wait. Its name is the value of `places.provider`. */
interface DueList {
  /** The only provider that may take them; empty for any. */
  readonly only: string;
  /** Most emails of a batch made of them; undefined for as many as fit. */
  readonly pieceMax: number | undefined;
}

const split = "split:";
/** Behind every name that begins with {@link split}. */
const splitEnd = "split;";

/**
 * A list of pieces has a name that no provider has: the release before, which knows no pieces, takes it for that of a
 * provider that is gone, and gives its emails back to all.
 */
export function listName({ only, pieceMax }: DueList): string {
  if (pieceMax === undefined) return only;
  return only === anyProvider ? `${split}${pieceMax}` : `${split}${pieceMax}:${only}`;
}

export function readListName(name: string): DueList {
  if (!name.startsWith(split)) return { only: name, pieceMax: undefined };
  const [pieceMax, only = anyProvider] = name.slice(split.length).split(":");
  return { only, pieceMax: Number(pieceMax) };
}

/** The sizes of pieces that wait for this provider, alone or among others. */
export function pieceSizesFor(db: SqliteConnection, provider: string): number[] {
  const sizes = new Set<number>();
  for (const name of providersOf(db, "due", split)) {
    if (name >= splitEnd) break;
    const { only, pieceMax } = readListName(name);
    if (pieceMax !== undefined && (only === anyProvider || only === provider)) sizes.add(pieceMax);
  }
  return [...sizes];
}

/** From one provider to the next, not from row to row: there may be a million. */
const loose = {
  due: "SELECT provider FROM places WHERE due_at IS NOT NULL AND provider > ? ORDER BY provider LIMIT 1",
  unbegun: "SELECT provider FROM batches WHERE ends_at IS NULL AND provider > ? ORDER BY provider LIMIT 1",
  batches: "SELECT provider FROM batches WHERE provider > ? ORDER BY provider LIMIT 1",
} as const;

/**
 * In order: lists of emails that are due now or later, but for the one for all; providers that have a batch, or one
 * that was never begun.
 * @param after leaves out those before
 */
export function* providersOf(
  db: SqliteConnection,
  what: keyof typeof loose,
  after = anyProvider,
): Generator<string, void> {
  for (let last = after; ;) {
    const next = db.get<{ provider: string }>(loose[what], last);
    if (next === undefined) return;
    last = next.provider;
    yield last;
  }
}
