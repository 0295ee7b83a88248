// The files of an email as a store keeps them: one behind the other, cut into pieces. While a piece is written or read,
// others wait.

/** Most bytes of a piece: all but the last have as many. */
export const pieceBytesMax = 256 * 1024;

/** How long the pieces of an email are kept that is not stored, ms: no submission takes longer. */
export { knownMinMs as piecesKeptMs } from "./contract.ts";

export function sizeOf(files: readonly Uint8Array[]): number {
  return files.reduce((sum, { length }) => sum + length, 0);
}

export function countPieces(bytes: number): number {
  return Math.ceil(bytes / pieceBytesMax);
}

/** In order. A piece that lies within one file is a view of it. */
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
