// The form in which stores keep the files of an email: concatenated, then cut into pieces. Other operations wait while a
// piece is written or read, so pieces are small.

/** Size of every piece but the last, which may be smaller. */
export const pieceBytesMax = 256 * 1024;

/** How long pieces are kept without their email, ms. No submission takes longer. */
export { knownMinMs as piecesKeptMs } from "./contract.ts";

export function sizeOf(files: readonly Uint8Array[]): number {
  return files.reduce((sum, { length }) => sum + length, 0);
}

export function countPieces(bytes: number): number {
  return Math.ceil(bytes / pieceBytesMax);
}

/** Yields the pieces in order. A piece that lies within one file is a view of it. */
export function* piecesOf(files: readonly Uint8Array[]): Generator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for (const file of files) {
    for (let from = 0; from < file.length;) {
      const part = file.subarray(from, from + pieceBytesMax - length);
      parts.push(part);
      length += part.length;
      from += part.length;
      if (length < pieceBytesMax) continue;
      yield join(parts);
      parts = [];
      length = 0;
    }
  }
  if (length > 0) yield join(parts);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/**
 * All files of an email, concatenated; undefined if they are not there.
 * @param read reads a piece by its number, and the size of all files
 */
export async function joinPieces(
  read: (number: number) => Promise<{ readonly content: Uint8Array; readonly bytes: number } | undefined>,
): Promise<Uint8Array | undefined> {
  let contents: Uint8Array | undefined;
  let length = 0;
  for (let number = 0; contents === undefined || length < contents.length; number += 1) {
    const piece = await read(number);
    // The email may have left the queue meanwhile.
    if (piece === undefined || length + piece.content.length > piece.bytes) return undefined;
    contents ??= new Uint8Array(piece.bytes);
    contents.set(piece.content, length);
    length += piece.content.length;
  }
  return contents;
}
