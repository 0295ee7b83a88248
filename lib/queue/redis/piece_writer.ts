// Writes the files of emails that are being submitted to Redis, on a connection of its own: small submissions never wait
// behind megabytes on one socket.

import { piecesKeptMs } from "../file_pieces.ts";
import { PieceWriter, type PieceWritten } from "../piece_writer.ts";
import { RedisConnection, type RedisStoreOptions } from "./connection.ts";
import { isFinalRefusal, redisErrorText } from "./error_text.ts";
import { scripts } from "./scripts.ts";

/** Pause before a piece that Redis did not take is written again, ms. */
const againMs = 50;

export class RedisPieceWriter {
  readonly #options: RedisStoreOptions;
  /** Made for the first file. */
  #connection: RedisConnection | undefined;
  readonly #writer: PieceWriter;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    const put = (id: string, number: number, piece: Uint8Array) => this.#put(id, number, piece);
    this.#writer = new PieceWriter({ log: options.log, againMs, put });
  }

  isBusy(...parameters: Parameters<PieceWriter["isBusy"]>) {
    return this.#writer.isBusy(...parameters);
  }

  write(...parameters: Parameters<PieceWriter["write"]>) {
    return this.#writer.write(...parameters);
  }

  /** Removes what was written of an email that was not stored. Without that it would expire. */
  drop(id: string): void {
    this.#connection?.run(scripts.dropPieces, [id]).catch(() => {});
  }

  close(): void {
    this.#writer.close();
    this.#connection?.close();
  }

  async #put(id: string, number: number, piece: Uint8Array): Promise<PieceWritten> {
    this.#connection ??= new RedisConnection(this.#options, "files");
    await this.#connection.untilReady();
    try {
      await this.#connection.run(scripts.putPiece, [id, number, piecesKeptMs, piece]);
      return { kind: "done" };
    } catch (error) {
      const reason = redisErrorText(error);
      return { kind: isFinalRefusal(reason) ? "failed" : "again", reason };
    }
  }
}
