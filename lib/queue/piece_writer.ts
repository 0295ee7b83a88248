// Writes the files of submissions piece by piece, so that other submissions wait for one piece at most. Emails take turns,
// so that a small file does not wait for large ones.

import type { Log } from "../runtime/log.ts";
import type { Submission, SubmitResult } from "./contract.ts";
import { pieceBytesMax, piecesOf, sizeOf } from "./file_pieces.ts";
import type { Committed, GroupCommit } from "./group_commit.ts";

type PieceFailure = Extract<SubmitResult, { kind: "busy" | "failed" }>;

/** The result of writing one piece. */
export type PieceWritten = { readonly kind: "done" } | Exclude<Committed, { kind: "done" }>;

export interface PieceStore {
  /** Pause before a piece is written again, ms. */
  readonly againMs: number;
  /**
   * Writes a piece. Never rejects.
   * @param number    index of the piece, from 0
   * @param bytesLeft of this piece and those after it
   */
  put(id: string, number: number, piece: Uint8Array, bytesLeft: number): Promise<PieceWritten>;
  /** Removes the pieces of an email that was not stored. Otherwise they would expire. */
  drop(id: string): void;
}

interface Upload {
  readonly id: string;
  readonly pieces: Iterator<Uint8Array, undefined>;
  /** Number of the next piece. */
  number: number;
  bytesLeft: number;
  isOver: boolean;
  /** Called without a failure once all pieces are written. */
  readonly end: (failure?: PieceFailure) => void;
}

export class PieceWriter {
  readonly #store: PieceStore;
  readonly #log: Log;
  /** Submissions with pieces that have been or are being written. */
  readonly #begun = new Set<Submission>();
  readonly #open = new Set<Upload>();
  /** In order of their turns, without the one whose piece is being written. */
  readonly #waiting: Upload[] = [];
  #isWriting = false;
  /** How long recent pieces took to write, ms. */
  #paceMs = 0;
  #trouble = "";

  constructor(store: PieceStore, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /**
   * Submits an email, and writes its files if the store asks for them, which it does not if the key is known or the limit
   * reached. If a failover loses them before the email is stored, they are written again.
   */
  async submit(
    submission: Submission,
    deadlineMs: number,
    submit: GroupCommit["submit"],
  ): Promise<SubmitResult> {
    const { id, files = [] } = submission;
    try {
      for (;;) {
        const result = await submit(submission, deadlineMs);
        if (result.kind !== "piecesMissing") {
          if (result.kind === "stored" && result.id === id) this.#begun.delete(submission);
          return result;
        }
        this.#begun.add(submission);
        const failure = await this.#write(id, files, deadlineMs);
        if (failure !== undefined) return failure;
      }
    } finally {
      if (this.#begun.delete(submission)) this.#store.drop(id);
    }
  }

  /** Whether the store may have pieces of this submission, which other partitions lack. */
  hasBegun(submission: Submission): boolean {
    return this.#begun.has(submission);
  }

  /**
   * Whether files would be written too late, because other emails have files to write too. As in a group commit, half of
   * the time until the deadline is kept in reserve, and an idle store always has room.
   */
  isBusy(files: readonly Uint8Array[], deadlineMs: number): boolean {
    if (this.#open.size === 0 || files.length === 0) return false;
    const own = sizeOf(files);
    let bytes = own;
    // Emails take turns, so an email waits for no more bytes of another one than it has itself.
    for (const { bytesLeft } of this.#open) bytes += Math.min(bytesLeft, own);
    return (bytes / pieceBytesMax) * this.#paceMs > (deadlineMs - performance.now()) / 2;
  }

  /**
   * Writes the files of an email; also again, if the store has lost some. Resolves by the deadline, to undefined if all
   * are written. Never rejects.
   */
  #write(id: string, files: readonly Uint8Array[], deadlineMs: number): Promise<PieceFailure | undefined> {
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

  close(): void {
    for (const upload of this.#open) upload.end({ kind: "failed", reason: "closed" });
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

  /** Writes the next piece of an email, and repeats that until the store has taken it. */
  async #writeNext(upload: Upload): Promise<void> {
    const { value: piece } = upload.pieces.next();
    if (piece === undefined) return upload.end();
    while (!upload.isOver) {
      // Submissions get a turn before each piece. Time in which large bodies are read does not count as the store's.
      await Bun.sleep(0);
      const beganMs = performance.now();
      const written = await this.#store.put(upload.id, upload.number, piece, upload.bytesLeft);
      if (written.kind === "failed") return upload.end(written);
      if (written.kind === "done") {
        this.#trouble = "";
        this.#paceMs += (performance.now() - beganMs - this.#paceMs) / 4;
        upload.number += 1;
        upload.bytesLeft -= piece.length;
        return upload.bytesLeft === 0 ? upload.end() : undefined;
      }
      if (written.reason !== undefined) this.#report(written.reason);
      await Bun.sleep(this.#store.againMs);
    }
  }

  /** Logs each kind of trouble once. */
  #report(reason: string): void {
    if (reason !== this.#trouble) this.#log.warn("submission-delayed", { reason });
    this.#trouble = reason;
  }
}
