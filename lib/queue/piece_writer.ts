// Writes the files of emails that are being submitted, piece by piece, so that other submissions wait for one piece at
// most. Emails take turns, so that a small file does not wait for large ones.

import type { Log } from "../runtime/log.ts";
import { pieceBytesMax, piecesOf, sizeOf } from "./file_pieces.ts";

export type PieceFailure = { readonly kind: "busy" } | { readonly kind: "failed"; readonly reason: string };

/** The result of writing one piece. */
export type PieceWritten =
  | { readonly kind: "done" }
  /** To be repeated, which is harmless even if it was executed. `reason` is undefined if that is routine. */
  | { readonly kind: "again"; readonly reason: string | undefined }
  | { readonly kind: "failed"; readonly reason: string };

export interface PieceWriterOptions {
  readonly log: Log;
  /** Pause before a piece is written again, ms. */
  readonly againMs: number;
  /** Never rejects. @param number of the piece, from 0 */
  put(id: string, number: number, piece: Uint8Array): Promise<PieceWritten>;
}

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
  readonly #options: PieceWriterOptions;
  /** In turn. */
  readonly #uploads: Upload[] = [];
  #isWriting = false;
  /** How long a piece has taken lately, ms. */
  #paceMs = 0;
  #trouble = "";

  constructor(options: PieceWriterOptions) {
    this.#options = options;
  }

  /**
   * Writes the files of an email, or again those that were lost. Resolves by the deadline, with nothing if all are written;
   * never rejects.
   */
  write(id: string, files: readonly Uint8Array[], deadlineMs: number): Promise<PieceFailure | undefined> {
    const bytesLeft = sizeOf(files);
    if (this.#isBusy(bytesLeft, deadlineMs)) return Promise.resolve({ kind: "busy" });
    const { promise, resolve } = Promise.withResolvers<PieceFailure | undefined>();
    const late = () => upload.end({ kind: "failed", reason: this.#trouble || "no answer in time" });
    const timer = setTimeout(late, Math.max(0, deadlineMs - performance.now()));
    const upload: Upload = {
      id,
      pieces: piecesOf(files),
      number: 0,
      bytesLeft,
      isOver: false,
      end(failure) {
        clearTimeout(timer);
        upload.isOver = true;
        resolve(failure);
      },
    };
    this.#uploads.push(upload);
    if (!this.#isWriting) void this.#run();
    return promise;
  }

  close(): void {
    for (const upload of this.#uploads) upload.end({ kind: "failed", reason: "closed" });
  }

  /** As in a group commit: half of the time is in reserve, and an idle store always has room. */
  #isBusy(bytes: number, deadlineMs: number): boolean {
    const open = this.#uploads.filter(({ isOver }) => !isOver);
    if (open.length === 0) return false;
    const ahead = open.reduce((sum, { bytesLeft }) => sum + bytesLeft, bytes);
    const waitMs = (ahead / pieceBytesMax) * this.#paceMs;
    return waitMs > (deadlineMs - performance.now()) / 2;
  }

  async #run(): Promise<void> {
    this.#isWriting = true;
    for (let upload = this.#uploads[0]; upload !== undefined; upload = this.#uploads[0]) {
      await this.#writeNext(upload);
      this.#uploads.shift();
      if (!upload.isOver) this.#uploads.push(upload);
    }
    this.#isWriting = false;
  }

  /** Writes the next piece of an email, and again until the store has taken it. */
  async #writeNext(upload: Upload): Promise<void> {
    if (upload.isOver) return;
    const { value: piece } = upload.pieces.next();
    if (piece === undefined) return upload.end();
    const beganMs = performance.now();
    while (!upload.isOver) {
      const written = await this.#options.put(upload.id, upload.number, piece);
      if (written.kind === "failed") return upload.end(written);
      if (written.kind === "done") {
        this.#trouble = "";
        this.#paceMs += (performance.now() - beganMs - this.#paceMs) / 4;
        upload.number += 1;
        upload.bytesLeft -= piece.length;
        return upload.bytesLeft === 0 ? upload.end() : undefined;
      }
      if (written.reason !== undefined) this.#report(written.reason);
      await Bun.sleep(this.#options.againMs);
    }
  }

  /** Logs each kind of trouble once. */
  #report(reason: string): void {
    if (reason !== this.#trouble) this.#options.log.warn("submission-delayed", { reason });
    this.#trouble = reason;
  }
}
