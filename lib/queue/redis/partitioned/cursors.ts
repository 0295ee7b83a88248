// Where the next page begins in each partition, as one opaque text.

/** By partition: where its part of the next page begins, "" at its beginning. Those that are finished are left out. */
export type Cursors = Map<number, string>;

export function readCursors(from: string | undefined): Cursors | undefined {
  return from === undefined ? undefined : new Map(JSON.parse(from) as [number, string][]);
}

export function moveCursor(cursors: Cursors, number: number, next: string | undefined): void {
  if (next === undefined) cursors.delete(number);
  else cursors.set(number, next);
}

export function writeCursors(cursors: Cursors): string | undefined {
  return cursors.size === 0 ? undefined : JSON.stringify([...cursors]);
}
