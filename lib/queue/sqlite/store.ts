// One process's access to the queue's file: transactions, and the health of the file and its disk. SQLite never waits:
// a process that finds the file locked tries again a millisecond later, so a process that is frozen inside a transaction
// does not stop the event loop of the others.

import { statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../../runtime/errors.ts";
import { type Health, StoreUnavailable, type StoreWatcher } from "../contract.ts";
import type { CommitReadiness } from "../group_commit.ts";
import {
  asOutOfInodes,
  fileName,
  formatMismatch,
  isBusy,
  isOfDisk,
  openConnection,
  type SqliteConnection,
  sqliteErrorText,
  StoreUnusable,
  userName,
} from "./connection.ts";
import { type Body, JobQueue } from "./job_queue.ts";
import { applicationId, format } from "./schema.ts";

export interface StoreOptions extends StoreWatcher {
  /** The folder of the file, as an absolute path. */
  readonly folder: string;
  /** Added to the clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
  /** Added to the monotonic clock, ms; for tests. */
  readonly monotonicOffsetMs?: () => number;
}

/** Pause between two tries while another process holds the lock, ms. */
export const busyPauseMs = 1;
/** How long {@link Store.write}, {@link Store.transact} and {@link Store.open} try, ms. */
const patienceMs = 5000;
/** Pause between two tries to open the file while another process holds the lock, ms. */
const reopenBusyMs = 10;
/** A process that holds the file for longer than this is reported, ms. */
export const busyNoteMs = 1000;
export const busyText = "another process holds the queue's file";
const watchMs = 1000;
/** With fewer free bytes than this on the disk, new emails are refused. Claims and settlements continue. */
const reserveBytes = 64 * 1024 * 1024;
export const fullText = `the disk of DATA_DIR is nearly full: its last ${reserveBytes / 1024 / 1024} MiB are reserved for delivery`;

export class Store {
  readonly #options: StoreOptions;
  readonly #path: string;
  readonly #startedMs = performance.now();
  readonly #opened = Promise.withResolvers<void>();
  /** Resolves when the file is open, and of this version's format. */
  readonly opened = this.#opened.promise;
  #connection: SqliteConnection | undefined;
  /** Identifies the file that was opened: another one may take its place. */
  #identity = "";
  #notOpen = "not opened yet";
  /** Why this process can never use the file. */
  #unusable: string | undefined;
  /** The fault of the disk at the last write. */
  #failure: string | undefined;
  #reported: string | undefined;
  #timer: Timer | undefined;
  #closed = false;
  readonly #jobs = new JobQueue((isWrite, body) =>
    this.#patiently((tries) =>
      // Once a deferred transaction has begun, it fails because of another process only if it writes. So the next try takes
      // the lock at the beginning.
      this.#transact(isWrite || tries > 0, body),
    ),
  );

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#path = join(options.folder, fileName);
  }

  /** The monotonic clock of this process, ms. */
  monotonicMs(): number {
    return performance.now() + (this.#options.monotonicOffsetMs?.() ?? 0);
  }

  /** Opens or creates the file as soon as possible, and then checks it once a second. */
  watch(): void {
    if (this.#connection === undefined) this.#tryToOpen();
    // Writes the value that is already there, which shows whether the disk works again. #transact reports errors.
    else if (this.#failure !== undefined)
      this.write((db) => db.exec(`PRAGMA application_id = ${applicationId}`)).catch(() => {});
    if (this.#unusable !== undefined) return;
    const reason = this.#unhealthyReason();
    const isInTheWay = reason === busyText;
    if (!isInTheWay || performance.now() - this.#startedMs > busyNoteMs) this.#report(reason);
    this.#timer = setTimeout(() => this.watch(), isInTheWay ? reopenBusyMs : watchMs);
  }

  /** Opens a file that exists. Rejects with {@link StoreUnavailable}, or with `QueueMissing` if there is no queue. */
  open(): Promise<void> {
    return this.#patiently(() => this.#open(false));
  }

  /**
   * Whether to try a write. A failed write is no reason not to try the next one, and whether the file is still there is
   * checked after each.
   */
  readiness(): CommitReadiness {
    if (this.#unusable !== undefined) return { kind: "refused", reason: this.#unusable };
    return this.#connection === undefined ? { kind: "pending", reason: this.#notOpen } : { kind: "ready" };
  }

  health(): Health {
    const reason = this.#unhealthyReason();
    return reason === undefined ? { ok: true } : { ok: false, reason };
  }

  /** Free bytes on the disk beyond the reserve: negative if the reserve is in use, undefined if unknown. */
  roomBytes(): number | undefined {
    try {
      const { bavail, bsize } = statfsSync(this.#options.folder);
      // The content of the log still has to be copied into the file.
      return bavail * bsize - statSync(`${this.#path}-wal`).size - reserveBytes;
    } catch {
      return undefined;
    }
  }

  /** Whether this many bytes fit, twice: they are written to the log first, and copied into the file later. */
  hasRoomFor(bytes: number): boolean {
    // If free space is unknown, attempt the write anyway.
    return (this.roomBytes() ?? Infinity) >= 2 * bytes;
  }

  /**
   * Runs `body` in one transaction, once. If it throws, nothing has changed; {@link isBusy} recognizes the error that
   * means that another process held the lock.
   */
  writeOnce<T>(body: Body<T>): T {
    return this.#transact(true, body);
  }

  /** Runs `body` in one transaction, which waits for other processes. Rejects with {@link StoreUnavailable}. */
  write<T>(body: Body<T>): Promise<T> {
    return this.#jobs.run(true, body);
  }

  /** As {@link write}, but takes no lock until `body` writes: to read, or to write only if that is needed. */
  transact<T>(body: Body<T>): Promise<T> {
    return this.#jobs.run(false, body);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#connection?.close();
    this.#connection = undefined;
    this.#notOpen = "closed";
  }

  #open(creates: boolean): void {
    this.#connection = openConnection(this.#options.folder, creates);
    this.#identity = this.#readIdentity();
    this.#options.log.info("store-opened", { file: this.#path });
    this.#opened.resolve();
  }

  #tryToOpen(): void {
    try {
      this.#open(true);
    } catch (error) {
      if (error instanceof StoreUnusable) this.#giveUp(error.message);
      else this.#notOpen = isBusy(error) ? busyText : sqliteErrorText(error);
    }
  }

  #giveUp(reason: string): void {
    this.#unusable = reason;
    if (!this.#closed) this.#options.onFatal(reason);
  }

  /** Identifies the file and its log, which exists while a process has the file open. Throws if either is missing. */
  #readIdentity(): string {
    return [this.#path, `${this.#path}-wal`].map((one) => statSync(one, { bigint: true }).ino).join();
  }

  /** Why the file cannot be used. */
  #unusableReason(): string | undefined {
    if (this.#unusable !== undefined) return this.#unusable;
    if (this.#connection === undefined) return this.#notOpen;
    try {
      if (this.#readIdentity() === this.#identity) return undefined;
    } catch (error) {
      const { folder } = this.#options;
      const code = errorCode(error) ?? "";
      if (code !== "ENOENT" && code !== "ENOTDIR")
        return `DATA_DIR ${folder} cannot be entered by ${userName()} (${code}): restore its permissions`;
    }
    return `${this.#path} or its log was removed or replaced: restart this process`;
  }

  /** Why the file cannot be used, or takes no new emails. */
  #unhealthyReason(): string | undefined {
    return this.#unusableReason() ?? this.#failure ?? (this.hasRoomFor(0) ? undefined : fullText);
  }

  /** Logs a change, once. */
  #report(reason: string | undefined): void {
    if (reason === this.#reported) return;
    if (reason === undefined) this.#options.log.info("store-restored");
    else this.#options.log.error("store-failed", { reason });
    this.#reported = reason;
  }

  #transact<T>(isWrite: boolean, body: Body<T>): T {
    const db = this.#connection;
    if (db === undefined || this.#unusable !== undefined)
      throw new StoreUnavailable(this.#unusable ?? this.#notOpen);
    let result: T;
    try {
      const beganMs = this.monotonicMs();
      db.run(isWrite ? "BEGIN IMMEDIATE" : "BEGIN DEFERRED");
      this.#checkFormat(db);
      const monotonicMs = this.monotonicMs();
      db.now = { beganMs, monotonicMs, atMs: Date.now() + (this.#options.clockOffsetMs?.() ?? 0) };
      result = body(db);
      db.run("COMMIT");
    } catch (error) {
      const cause = asOutOfInodes(error, this.#options.folder);
      if (isOfDisk(cause)) {
        this.#failure = sqliteErrorText(cause);
        this.#report(this.#failure);
      }
      if (db.inTransaction) db.run("ROLLBACK");
      throw cause;
    }
    // If the file is gone, nothing written to it is acknowledged, and nothing read from it is sent.
    const lost = this.#unusableReason();
    if (lost !== undefined) throw new StoreUnavailable(lost);
    if (isWrite) this.#failure = undefined;
    return result;
  }

  #checkFormat(db: SqliteConnection): void {
    const { user_version: found } = db.get<{ user_version: number }>`PRAGMA user_version`!;
    if (found === format) return;
    const reason = formatMismatch(this.#path, found);
    this.#unusable = reason;
    // The submissions that wait for this transaction are answered first.
    setImmediate(() => this.#giveUp(reason));
    throw new StoreUnavailable(reason);
  }

  async #patiently<T>(attempt: (tries: number) => T): Promise<T> {
    const endMs = performance.now() + patienceMs;
    for (let tries = 0; ; tries += 1) {
      try {
        return attempt(tries);
      } catch (error) {
        if (isOfDisk(error) || error instanceof StoreUnusable)
          throw new StoreUnavailable(sqliteErrorText(error));
        if (!isBusy(error)) throw error;
      }
      if (this.#closed || performance.now() > endMs)
        throw new StoreUnavailable(`another process has held the queue's file for over ${patienceMs} ms`);
      await Bun.sleep(tries === 0 ? 0 : busyPauseMs);
    }
  }
}
