// Reads and writes the pieces of files in Redis, one per command.

import { joinPieces, piecesKeptMs } from "../file_pieces.ts";
import type { PieceStore } from "../piece_writer.ts";
import { RedisConnection, type RedisStoreOptions } from "./connection.ts";
import { isFinalRefusal, redisErrorText } from "./error_text.ts";
import { scripts } from "./scripts.ts";

/** Uses a separate connection, created for the first piece, so that small submissions never wait behind megabytes. */
export class RedisPieces implements PieceStore {
  readonly againMs = 50;
  readonly #options: RedisStoreOptions;
  #connection: RedisConnection | undefined;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
  }

  async put(id: string, number: number, piece: Uint8Array) {
    this.#connection ??= new RedisConnection(this.#options, "files");
    await this.#connection.untilReady();
    try {
      await this.#connection.run(scripts.putPiece, [id, number, piecesKeptMs, piece]);
      return { kind: "done" } as const;
    } catch (error) {
      const reason = redisErrorText(error);
      return { kind: isFinalRefusal(reason) ? "failed" : "again", reason } as const;
    }
  }

  drop(id: string): void {
    this.#connection?.run(scripts.dropPieces, [id]).catch(() => {});
  }

  close(): void {
    this.#connection?.close();
  }
}

/** See `Consumer.readFiles`. Rejects as {@link RedisConnection.run}. */
export function readFiles(connection: RedisConnection, id: string): Promise<Uint8Array | undefined> {
  return joinPieces(async (number) => {
    const reply = await connection.readBytes(scripts.getPiece, [id, number]);
    const [size, content] = (reply ?? []) as Buffer[];
    return content && { content, bytes: Number(size) };
  });
}
