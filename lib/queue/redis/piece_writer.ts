// Writes the files of emails that are being submitted, piece by piece, on a connection of its own: so other submissions
// wait for one piece at most. Emails take turns, so that a small file does not wait for large ones.

import { pieceBytesMax, piecesKeptMs, piecesOf, sizeOf } from "../file_pieces.ts";
import { RedisConnection, type RedisStoreOptions } from "./connection.ts";
import { isFinalRefusal, redisErrorText } from "./error_text.ts";
import { scripts } from "./scripts.ts";

/** Pause before a piece that Redis did not take is written again, ms. */
const againMs = 50;

export type PieceFailure = { readonly kind: "busy" } | { readonly kind: "failed"; readonly reason: string };

interface Upload {
  readonly id: string;
  readonly pieces: Iterator<Uint8Array, undefined>;
  /** Number of the next piece. */
  number: number;
  bytesLeft: number;
  isOver: boolean;
  /** Called with nothing once all pieces are written. */
  readonly end: (failure?: PieceFailure) => void;
}

export class PieceWriter {
  readonly #options: RedisStoreOptions;
  /** Made for the first file. */
  #connection: RedisConnection | undefined;
  readonly #open = new Set<Upload>();
  /** In turn; the one whose piece is being written is left out. */
  readonly #waiting: Upload[] = [];
  #isWriting = false;
  /** How long a piece has taken lately, ms. */
  #paceMs = 0;
  #trouble = "";
  #isClosed = false;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
  }

  /**
   * Whether files would be written too late, after those of other emails. As in a group commit, half of the time until the
   * deadline is in reserve, and an idle store always has room.
   */
  isBusy(files: readonly Uint8Array[], deadlineMs: number): boolean {
    if (this.#open.size === 0 || files.length === 0) return false;
    const own = sizeOf(files);
    let bytes = own;
    // Since emails take turns, it does not wait for all of a larger one.
    for (const { bytesLeft } of this.#open) bytes += Math.min(bytesLeft, own);
    return (bytes / pieceBytesMax) * this.#paceMs > (deadlineMs - performance.now()) / 2;
  }

  /**
   * Writes the files of an email, or again those that were lost. Resolves by the deadline, with nothing if all are written;
   * never rejects.
   */
  write(id: string, files: readonly Uint8Array[], deadlineMs: number): Promise<PieceFailure | undefined> {
    if (this.isBusy(files, deadlineMs)) return Promise.resolve({ kind: "busy" });
    const { promise, resolve } = Promise.withResolvers<PieceFailure | undefined>();
    const late = () => upload.end({ kind: "failed", reason: this.#trouble || "no answer in time" });
    const timer = setTimeout(late, Math.max(0, deadlineMs - performance.now()));
    const upload: Upload = {
      id,
      pieces: piecesOf(files),
      number: 0,
      bytesLeft: sizeOf(files),
      isOver: false,
      end: (failure) => {
        clearTimeout(timer);
        upload.isOver = true;
        this.#open.delete(upload);
        resolve(failure);
      },
    };
    this.#open.add(upload);
    this.#waiting.push(upload);
    if (!this.#isWriting) void this.#run();
    return promise;
  }

  /** Removes what was written of an email that was not stored. Without that it would expire. */
  drop(id: string): void {
    this.#connection?.run(scripts.dropPieces, [id]).catch(() => {});
  }

  close(): void {
    this.#isClosed = true;
    for (const upload of this.#open) upload.end({ kind: "failed", reason: "closed" });
    this.#connection?.close();
  }

  async #run(): Promise<void> {
    this.#isWriting = true;
    for (;;) {
      const upload = this.#waiting.shift();
      if (upload === undefined) break;
      if (!upload.isOver) await this.#writeNext(upload);
      if (!upload.isOver) this.#waiting.push(upload);
    }
    this.#isWriting = false;
  }

  /** Writes the next piece of an email, and again until Redis has taken it. */
  async #writeNext(upload: Upload): Promise<void> {
    const { value: piece } = upload.pieces.next();
    if (piece === undefined) return upload.end();
    while (!upload.isOver && !this.#isClosed) {
      const beganMs = performance.now();
      const reason = await this.#put(upload, piece);
      if (reason === undefined) {
        this.#paceMs += (performance.now() - beganMs - this.#paceMs) / 4;
        upload.number += 1;
        upload.bytesLeft -= piece.length;
        return upload.bytesLeft === 0 ? upload.end() : undefined;
      }
      if (isFinalRefusal(reason)) return upload.end({ kind: "failed", reason });
      this.#report(reason);
      await Bun.sleep(againMs);
    }
  }

  /** @returns why Redis did not take it */
  async #put({ id, number }: Upload, piece: Uint8Array): Promise<string | undefined> {
    this.#connection ??= new RedisConnection(this.#options, "files");
    await this.#connection.untilReady();
    try {
      await this.#connection.run(scripts.putPiece, [id, number, piecesKeptMs, piece]);
      this.#trouble = "";
      return undefined;
    } catch (error) {
      return redisErrorText(error);
    }
  }

  /** Logs each kind of trouble once. */
  #report(reason: string): void {
    if (reason !== this.#trouble) this.#options.log.warn("submission-delayed", { reason });
    this.#trouble = reason;
  }
}
