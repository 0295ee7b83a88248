// The other side of disk.c: builds it, tells it what the disk does, and loses power.

import {
  closeSync,
  existsSync,
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

export interface Disk {
  /** What the environment of a process on this disk needs. */
  readonly env: Readonly<Record<string, string>>;
  /** Whatever makes a file longer fails with ENOSPC. */
  setFull(full: boolean): void;
  /** Each fsync takes so much longer, ms. */
  setSyncDelay(ms: number): void;
  /** Each fsync fails with EIO. */
  setSyncFails(fails: boolean): void;
  /**
   * Takes back every write that no fsync followed, in each file all but the first `writes` of them; of the next, the
   * share `torn` of its bytes stays. Every process on the disk must be dead.
   */
  losePower(kept?: { readonly writes: number; readonly torn: number }): PowerCut;
}

/** What was taken back. */
export interface PowerCut {
  readonly files: number;
  readonly writes: number;
  readonly bytes: number;
}

/** Compiles the library into the folder, and returns where it is. */
export function buildDisk(into: string): string {
  mkdirSync(into, { recursive: true });
  const library = join(into, "disk.so");
  const source = join(import.meta.dir, "disk.c");
  const cc = Bun.which("cc") ?? Bun.which("gcc");
  if (cc === null) throw new Error("no C compiler: install Debian's packages gcc and libc6-dev");
  const flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"];
  const built = Bun.spawnSync([cc, ...flags, "-o", library, source], { stderr: "pipe" });
  if (!built.success) throw new Error(`${source} cannot be compiled:\n${built.stderr.toString()}`);
  return library;
}

/** @param journal a folder outside `folder`, for what has to be remembered */
export function openDisk(options: { folder: string; journal: string; library: string }): Disk {
  mkdirSync(options.journal, { recursive: true });
  // As the kernel names it.
  const folder = realpathSync(options.folder);
  const journal = realpathSync(options.journal);
  const control = new Uint32Array(4);
  const controlFile = join(journal, "control");
  writeFileSync(controlFile, control);
  const set = (index: 0 | 1 | 2, value: number) => {
    control[index] = value;
    // Never shorter, not for a moment: it is mapped.
    const file = openSync(controlFile, "r+");
    writeSync(file, control, 0, control.byteLength, 0);
    closeSync(file);
  };
  return {
    env: {
      LD_PRELOAD: options.library,
      CHAOS_DISK_FOLDER: folder,
      CHAOS_DISK_JOURNAL: journal,
    },
    setFull: (full) => set(0, full ? 1 : 0),
    setSyncFails: (fails) => set(1, fails ? 1 : 0),
    setSyncDelay: (ms) => set(2, Math.round(ms * 1000)),
    losePower(kept = { writes: 0, torn: 0 }) {
      const cut = { files: 0, writes: 0, bytes: 0 };
      const files = filesBelow(folder);
      for (const name of readdirSync(journal).filter((one) => one.endsWith(".undo"))) {
        const path = files.get(name.slice(0, -".undo".length));
        const undone = path === undefined ? [] : takeBack(path, readUndo(join(journal, name)), kept);
        if (undone.length > 0) cut.files += 1;
        cut.writes += undone.length;
        cut.bytes += undone.reduce((sum, { newCount, old }) => sum + (newCount || old.byteLength), 0);
        rmSync(join(journal, name));
      }
      return cut;
    },
  };
}

/** Device and inode, as in the name of a journal -> path. */
function filesBelow(folder: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const { dev, ino } = statSync(path, { bigint: true });
    files.set(`${dev}-${ino}`, path);
  }
  return files;
}

/** How to take back one change of a file's bytes or length. See disk.c. */
interface Undo {
  readonly isCut: boolean;
  readonly offset: number;
  readonly oldSize: number;
  readonly newCount: number;
  readonly old: Uint8Array;
}

const headerSize = 8;
const recordSize = 32;

/** Those that no fsync followed, in their order. */
function readUndo(path: string): Undo[] {
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  const records: { at: number; undo: Undo }[] = [];
  let durableTo = 0;
  for (let at = headerSize; at + recordSize <= bytes.byteLength;) {
    const kind = bytes.readUInt32LE(at);
    const oldCount = bytes.readUInt32LE(at + 4);
    const offset = Number(bytes.readBigInt64LE(at + 8));
    // The last one, of a process that was killed before it had written it.
    if (kind === 0) break;
    if (kind === 3) durableTo = Math.max(durableTo, offset);
    else {
      const undo: Undo = {
        isCut: kind === 2,
        offset,
        oldSize: Number(bytes.readBigInt64LE(at + 16)),
        newCount: Number(bytes.readBigInt64LE(at + 24)),
        old: bytes.subarray(at + recordSize, at + recordSize + oldCount),
      };
      records.push({ at, undo });
    }
    at += recordSize + oldCount;
  }
  return records.filter(({ at }) => at >= durableTo).map(({ undo }) => undo);
}

/** Returns what was taken back. */
function takeBack(path: string, undos: readonly Undo[], kept: { writes: number; torn: number }): Undo[] {
  const undone = undos.slice(kept.writes);
  const file = openSync(path, "r+");
  try {
    for (const undo of undone.toReversed()) {
      const isTorn = undo === undone[0] && !undo.isCut;
      const stays = isTorn ? Math.floor(kept.torn * undo.newCount) : 0;
      const old = undo.old.subarray(stays);
      if (old.byteLength > 0) writeSync(file, old, 0, old.byteLength, undo.offset + stays);
      ftruncateSync(file, Math.max(undo.oldSize, stays > 0 ? undo.offset + stays : 0));
    }
  } finally {
    closeSync(file);
  }
  return undone;
}
