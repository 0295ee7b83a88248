// Reads the files of an email, one piece a command.

import type { RedisConnection } from "./connection.ts";
import { scripts } from "./scripts.ts";

/**
 * All files of an email, one behind the other; undefined if they are not there. Rejects as {@link RedisConnection.run}.
 */
export async function readPieces(connection: RedisConnection, id: string): Promise<Uint8Array | undefined> {
  let contents: Uint8Array | undefined;
  let length = 0;
  for (let number = 0; contents === undefined || length < contents.length; number += 1) {
    const reply = (await connection.readBytes(scripts.getPiece, [id, number])) as [Buffer, Buffer] | null;
    if (reply === null) return undefined;
    const [size, piece] = reply;
    contents ??= new Uint8Array(Number(size));
    if (length + piece.length > contents.length) return undefined;
    contents.set(piece, length);
    length += piece.length;
  }
  return contents;
}
