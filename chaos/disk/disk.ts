// The other side of disk.c: builds it, controls the disk, and cuts the power. disk.c describes the model and the format
// of the journal.

import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { buildLibrary } from "../preload.ts";

export interface Disk {
  /** Environment variables for a process on this disk. */
  readonly env: Readonly<Record<string, string>>;
  /** Writes that extend a file fail with ENOSPC. Writes in place succeed, as on ext4 and xfs. */
  setFull(full: boolean): void;
  /** Delays each fsync by this long, ms. It covers the writes made before the delay. */
  setSyncDelay(ms: number): void;
  /** Delays each write by this long, ms. */
  setWriteDelay(ms: number): void;
  /** Each fsync fails with EIO and makes nothing durable. The writes stay, for a later fsync. */
  setSyncFails(fails: boolean): void;
  /**
   * Undoes every write that no fsync followed: in each file all but the first `writes` of them, in the order in which
   * all processes made them. Of the next write, the fraction `torn` of its bytes stays. A truncation counts as a write
   * and is never torn. Processes still running on the disk, such as a child of Redis, are killed.
   */
  losePower(kept?: { readonly writes: number; readonly torn: number }): PowerCut;
}

/** The writes that were undone. */
export interface PowerCut {
  readonly files: number;
  /** Includes writes that were undone only in part, and truncations. */
  readonly writes: number;
  readonly bytes: number;
}

/** Compiles the library into the folder and returns its path. */
export function buildDisk(into: string): string {
  return buildLibrary(join(import.meta.dir, "disk.c"), into);
}

/** Words of `struct control`. */
const control = { full: 0, syncFails: 1, syncDelayUs: 2, writeDelayUs: 3 };
const controlLength = 16;

/**
 * Opens a disk, before the first process on it starts.
 * @param folder  exists; regular files below it are on the disk
 * @param journal a folder outside of `folder`, for the undo journals
 */
export function openDisk(options: { folder: string; journal: string; library: string }): Disk {
  mkdirSync(options.journal, { recursive: true });
  const folder = realpathSync(options.folder);
  const journal = realpathSync(options.journal);
  if (`${journal}/`.startsWith(`${folder}/`)) throw new Error(`Cannot open the disk: ${journal} is on it`);
  const controlFile = join(journal, "control");
  writeFileSync(controlFile, new Uint8Array(controlLength));

  function set(word: keyof typeof control, value: number): void {
    // Written in place: processes have the file mapped, and would crash if it were shorter for a moment.
    const file = openSync(controlFile, "r+");
    writeSync(file, new Uint32Array([value]), 0, 4, 4 * control[word]);
    closeSync(file);
  }

  return {
    env: {
      LD_PRELOAD: realpathSync(options.library),
      CHAOS_DISK_FOLDER: folder,
      CHAOS_DISK_JOURNAL: journal,
    },
    setFull: (full) => set("full", Number(full)),
    setSyncFails: (fails) => set("syncFails", Number(fails)),
    setSyncDelay: (ms) => set("syncDelayUs", Math.round(ms * 1000)),
    setWriteDelay: (ms) => set("writeDelayUs", Math.round(ms * 1000)),
    losePower(kept = { writes: 0, torn: 0 }) {
      killAllOn(controlFile);
      const total = { files: 0, writes: 0, bytes: 0 };
      for (const path of filesBelow(folder)) {
        const { dev, ino } = statSync(path, { bigint: true });
        const cut = takeBack(path, readJournal(join(journal, `${dev}-${ino}`)), kept);
        if (cut.writes > 0) total.files += 1;
        total.writes += cut.writes;
        total.bytes += cut.bytes;
      }
      // The remaining journals belong to files that are gone.
      for (const name of readdirSync(journal)) if (name !== "control") rmSync(join(journal, name));
      return total;
    },
  };
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Kills the processes that have the file mapped and waits until they have exited. */
function killAllOn(file: string): void {
  const endMs = performance.now() + 10_000;
  for (;;) {
    const users = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isMapped(file, name));
    if (users.length === 0) return;
    if (performance.now() > endMs) throw new Error(`Cannot lose power: still running: ${users.join(", ")}`);
    for (const user of users) {
      try {
        process.kill(Number(user), "SIGKILL");
      } catch {
        // It has exited meanwhile.
      }
    }
    Bun.sleepSync(1);
  }
}

function isMapped(file: string, pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/maps`, "utf8").includes(` ${file}\n`);
  } catch {
    return false;
  }
}

/** `struct record` of disk.c, with the bytes before the write. */
interface Undo {
  readonly offset: number;
  readonly length: number;
  readonly size: number;
  readonly before: Uint8Array;
}

const headLength = 4096;
const recordLength = 32;

/** The writes that no fsync followed, in order. */
function readJournal(path: string): Undo[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
  // The first process was killed before it wrote anything.
  if (bytes.byteLength < headLength) return [];
  const word = (at: number) => Number(bytes.readBigUInt64LE(at));
  const [origin, dropped, end] = [word(0), word(8), word(16)];
  const undos: Undo[] = [];
  for (let at = headLength + dropped - origin; at < headLength + end - origin;) {
    const before = bytes.subarray(at + recordLength, at + recordLength + word(at + 24));
    undos.push({ offset: word(at), length: word(at + 8), size: word(at + 16), before });
    at += recordLength + before.byteLength;
  }
  return undos;
}

function takeBack(path: string, undos: readonly Undo[], kept: { writes: number; torn: number }) {
  const undone = undos.slice(kept.writes);
  let bytes = 0;
  const file = openSync(path, "r+");
  for (const undo of undone.toReversed()) {
    const stays = undo === undone[0] ? Math.floor(kept.torn * undo.length) : 0;
    takeBackOne(file, undo, stays);
    bytes += undo.length - stays;
  }
  closeSync(file);
  return { writes: undone.length, bytes };
}

/** Undoes the last write to the file, except for its first bytes. */
function takeBackOne(file: number, { offset, length, size, before }: Undo, stays: number): void {
  const rest = before.subarray(stays);
  for (let done = 0; done < rest.byteLength;) {
    done += writeSync(file, rest, done, rest.byteLength - done, offset + stays + done);
  }
  // The write may never have happened, if the process was killed before it: never beyond the file's end.
  const torn = stays > 0 && length > 0 ? Math.min(offset + stays, fstatSync(file).size) : 0;
  ftruncateSync(file, Math.max(size, torn));
}
