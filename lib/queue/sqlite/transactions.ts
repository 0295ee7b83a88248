// The file as a process uses it: transactions that never block the event loop for longer than they take, and
// whether what is written stays. SQLite itself never waits here: whoever finds the file busy comes again in a
// millisecond, so that a process frozen inside a transaction stops nobody from answering.

import { errorCode } from "../../runtime/errors.ts";
import { statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "../../runtime/log.ts";
import type { CommitReadiness } from "../group_commit.ts";
import { type Health, QueueMissing, StoreUnavailable } from "../contract.ts";
import {
  asOutOfInodes,
  type SqliteConnection,
  sqliteErrorText,
  fileName,
  formatOf,
  isBusy,
  newerText,
  openConnection,
  StoreUnusable,
  userName,
} from "./connection.ts";
import { applicationId, migrations } from "./schema.ts";

export interface StoreOptions {
  /** Where the file is, absolute. */
  readonly folder: string;
  readonly log: Log;
  /** This process cannot use the file, now or later. */
  readonly onFatal: (reason: string) => void;
  /** There is no queue. Default: one is made, and an older one brought up to date. */
  readonly onMissing?: () => void;
  /** Added to the clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
  /** Added to the monotonic clock, ms; for tests. */
  readonly monotonicOffsetMs?: () => number;
}

export interface Store {
  /** Unix ms. */
  nowMs(): number;
  /** By the clock of this process, which never steps, ms. */
  monotonicMs(): number;
  /** Whether anything may be added. A write that failed is no reason not to try the next. */
  readiness(): CommitReadiness;
  /** Whether so many bytes may be added: enough has to be left for delivery. */
  hasRoomFor(bytes: number): boolean;
  health(): Health;
  /** Bytes that the disk can take before new emails are refused, or less than none; undefined if nobody can tell. */
  roomBytes(): number | undefined;
  /** Resolves when the file is open, and of this version's format. */
  readonly opened: Promise<void>;
  /**
   * Runs `body` in one transaction, once. Throws what went wrong, with nothing changed; {@link isBusy} tells
   * whether another process was in the way.
   */
  write<T>(body: (connection: SqliteConnection) => T): T;
  /** The same, again and again while another process is in the way. Rejects with {@link StoreUnavailable}. */
  writePatiently<T>(body: (connection: SqliteConnection) => T): Promise<T>;
  /** On one state of the file. Rejects with {@link StoreUnavailable}. */
  read<T>(body: (connection: SqliteConnection) => T): Promise<T>;
  close(): void;
}

/** Between two tries while another process is in the way, ms. */
export const busyPauseMs = 1;
/** Longest that {@link Store.writePatiently} tries, ms. */
const patienceMs = 5000;
/** Between two tries to open the file: while another process is in the way, and after anything else, ms. */
const reopenBusyMs = 10;
const reopenMs = 500;
/** A process that has been in the way for so long is worth a word, ms. */
export const busyNoteMs = 1000;
const watchMs = 1000;
/**
 * Kept for what makes the queue shorter, bytes: with less than this left of the disk, new emails are refused, while
 * claims and settlements go on.
 */
const reserveBytes = 64 * 1024 * 1024;

export const fullText = `under ${reserveBytes / 1024 / 1024} MiB would be left on the disk of DATA_DIR: they are for delivery`;

/** Something between SQLite and the disk, not a mistake in a statement. */
const diskCodes =
  /^(SQLITE_(FULL|IOERR|CORRUPT|READONLY|CANTOPEN|NOTADB|NOMEM|PROTOCOL|PERM|AUTH|NOLFS)|ENOSPC)/;
const isOfDisk = (error: unknown) => diskCodes.test(errorCode(error) ?? "");

export function openStore(options: StoreOptions): Store {
  const { folder, log, onFatal, onMissing, clockOffsetMs = () => 0, monotonicOffsetMs = () => 0 } = options;
  const path = join(folder, fileName);
  let connection: SqliteConnection | undefined;
  /** The file that was opened: another may be put in its place. */
  let identity: string | undefined;
  let notOpen = "not opened yet";
  let nextOpenMs = reopenMs;
  const startedMs = performance.now();
  /** What the last write failed of. */
  let failure: string | undefined;
  let reported: string | undefined;
  /** Why this process can never use the file. */
  let unusable: string | undefined;
  let closed = false;
  let timer: Timer | undefined;
  const opened = Promise.withResolvers<void>();

  function open(): void {
    try {
      connection = openConnection(folder, onMissing === undefined);
      identity = fileIdentity();
      look();
      opened.resolve();
      log.info("store-opened", { file: path });
    } catch (error) {
      if (error instanceof QueueMissing) return onMissing?.();
      if (error instanceof StoreUnusable) return giveUp(error.message);
      const busy = isBusy(error);
      notOpen = busy ? "another process holds the queue's file" : sqliteErrorText(error);
      nextOpenMs = busy ? reopenBusyMs : reopenMs;
      if (!busy || performance.now() - startedMs > busyNoteMs) report(notOpen);
    }
  }

  /** From now on nothing is taken or given out. */
  function giveUp(reason: string): void {
    unusable = reason;
    notOpen = reason;
    if (!closed) onFatal(reason);
  }

  /** Of the file and of its log, which is there as long as somebody has the file open. Throws if one cannot be found. */
  function fileIdentity(): string {
    return [path, `${path}-wal`].map((one) => statSync(one, { bigint: true }).ino).join();
  }

  function trouble(): string | undefined {
    if (unusable !== undefined) return unusable;
    if (connection === undefined) return notOpen;
    try {
      if (fileIdentity() === identity) return undefined;
    } catch (error) {
      const code = errorCode(error) ?? "";
      if (code !== "ENOENT" && code !== "ENOTDIR")
        return `DATA_DIR ${folder} cannot be entered by ${userName()} (${code}): restore its permissions`;
    }
    return `${path} or its log was removed or replaced: start this process again`;
  }

  /**
   * What is left of the disk beyond the reserve. All that is in the log by now has still to be copied into the file.
   */
  function roomBytes(): number | undefined {
    try {
      const { bavail, bsize } = statfsSync(folder);
      return bavail * bsize - statSync(`${path}-wal`).size - reserveBytes;
    } catch {
      return undefined;
    }
  }

  /** They are written twice, into the log and from there into the file. Of what nobody knows the write will tell. */
  function hasRoomFor(bytes: number): boolean {
    return (roomBytes() ?? Infinity) >= 2 * bytes;
  }

  /** What can change without a write of ours. */
  function look(): void {
    report(ailment());
  }

  function ailment(): string | undefined {
    return trouble() ?? failure ?? (hasRoomFor(0) ? undefined : fullText);
  }

  /** Once for each kind of trouble. */
  function report(reason: string | undefined): void {
    if (reason === reported) return;
    if (reason === undefined) log.info("store-restored");
    else log.error("store-failed", { reason });
    reported = reason;
  }

  function watch(): void {
    if (unusable !== undefined) return;
    if (connection === undefined) open();
    else if (failure === undefined) look();
    // Nobody may write for a long time: what ails it is found out here.
    else probe();
    timer = setTimeout(watch, connection === undefined ? nextOpenMs : watchMs);
  }

  function probe(): void {
    try {
      // As it is already, but a write all the same.
      write((one) => one.run(`PRAGMA application_id = ${applicationId}`));
    } catch {
      // It has been noted.
    }
    look();
  }

  function transact<T>(begin: "BEGIN" | "BEGIN IMMEDIATE", body: (connection: SqliteConnection) => T): T {
    if (connection === undefined || unusable !== undefined) throw new StoreUnavailable(notOpen);
    let result: T;
    try {
      connection.run(begin);
      checkFormat(connection);
      result = body(connection);
      connection.run("COMMIT");
    } catch (error) {
      rollBack(connection);
      const cause = asOutOfInodes(error, folder);
      note(cause);
      throw cause;
    }
    // Of a file that nobody can find any more nothing is acknowledged, and nothing of it is sent.
    const lost = trouble();
    if (lost !== undefined) throw new StoreUnavailable(lost);
    return result;
  }

  function write<T>(body: (connection: SqliteConnection) => T): T {
    const result = transact("BEGIN IMMEDIATE", body);
    failure = undefined;
    return result;
  }

  function checkFormat(one: SqliteConnection): void {
    const format = formatOf(one);
    if (format === migrations.length) return;
    const reason = newerText(path, format, migrations.length);
    if (unusable === undefined) {
      unusable = reason;
      // Those who wait for this transaction are answered first.
      setImmediate(giveUp, reason);
    }
    throw new StoreUnavailable(reason);
  }

  function rollBack(one: SqliteConnection): void {
    try {
      if (one.inTransaction) one.run("ROLLBACK");
    } catch (error) {
      note(error);
    }
  }

  function note(error: unknown): void {
    if (!isOfDisk(error)) return;
    failure = sqliteErrorText(error);
    report(failure);
  }

  async function patiently<T>(body: () => T): Promise<T> {
    const endMs = performance.now() + patienceMs;
    for (;;) {
      try {
        return body();
      } catch (error) {
        if (isOfDisk(error)) throw new StoreUnavailable(sqliteErrorText(error));
        if (!isBusy(error)) throw error;
      }
      if (closed || performance.now() > endMs) {
        throw new StoreUnavailable(`another process has held the queue's file for over ${patienceMs} ms`);
      }
      await Bun.sleep(busyPauseMs);
    }
  }

  watch();

  return {
    nowMs: () => Date.now() + clockOffsetMs(),
    monotonicMs: () => performance.now() + monotonicOffsetMs(),
    readiness() {
      if (unusable !== undefined) return { kind: "refused", reason: unusable };
      if (connection === undefined) return { kind: "pending", reason: notOpen };
      const reason = trouble() ?? (hasRoomFor(0) ? undefined : fullText);
      return reason === undefined ? { kind: "ready" } : { kind: "refused", reason };
    },
    hasRoomFor,
    health() {
      const reason = ailment();
      return reason === undefined ? { ok: true } : { ok: false, reason };
    },
    roomBytes,
    opened: opened.promise,
    write,
    async writePatiently(body) {
      const result = await patiently(() => write(body));
      // Nothing here waits for anything outside: without a turn of the event loop in between, a worker that settles
      // batch after batch without a request would hear of nothing else.
      await new Promise(setImmediate);
      return result;
    },
    read: (body) => patiently(() => transact("BEGIN", body)),
    close() {
      closed = true;
      clearTimeout(timer);
      connection?.close();
      connection = undefined;
      notOpen = "closed";
    },
  };
}
