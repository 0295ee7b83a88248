// The disk that loses power: what it takes back is what no fsync had followed, and nothing else. That Redis and SQLite
// are seen through it is shown by the controls among the broken variants.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildDisk, type Disk, openDisk } from "../../chaos/disk/disk.ts";
import { eventually } from "../support/eventually.ts";

let root = "";
let library = "";
let disks = 0;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "reliable-email-disk-"));
  library = buildDisk(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function newDisk(): { disk: Disk; path: string } {
  disks += 1;
  const folder = join(root, `disk-${disks}`, "store");
  mkdirSync(folder, { recursive: true });
  const disk = openDisk({ folder, journal: join(root, `disk-${disks}`, "journal"), library });
  return { disk, path: join(folder, "file") };
}

/** Runs Python, whose file calls are libc's, until it ends or kills itself. `f` is the file, open for both. */
function python(disk: Disk, path: string, ...lines: string[]): string {
  const code = ["import os, signal", `f = os.open("${path}", os.O_RDWR | os.O_CREAT, 0o644)`, ...lines];
  const { stdout, stderr, exitCode, signalCode } = Bun.spawnSync(["python3", "-c", code.join("\n")], {
    env: { PATH: process.env["PATH"] ?? "", ...disk.env },
  });
  if (exitCode !== 0 && signalCode !== "SIGKILL") throw new Error(stderr.toString());
  return stdout.toString().trim();
}

const killed = "os.kill(os.getpid(), signal.SIGKILL)";
const textOf = (path: string) => readFileSync(path, "utf8");

describe("a power cut", () => {
  test("takes back what no fsync followed, and leaves what one did", () => {
    const { disk, path } = newDisk();
    python(disk, path, 'os.write(f, b"kept ")', "os.fsync(f)", 'os.write(f, b"lost")', killed);
    expect(textOf(path)).toBe("kept lost");
    expect(disk.losePower()).toEqual({ files: 1, writes: 1, bytes: 4 });
    expect(textOf(path)).toBe("kept ");
    expect(disk.losePower()).toEqual({ files: 0, writes: 0, bytes: 0 });
  });

  test("a file that was never fsynced comes back empty", () => {
    const { disk, path } = newDisk();
    python(disk, path, 'os.write(f, b"lost")');
    disk.losePower();
    expect(textOf(path)).toBe("");
  });

  test("bytes that were written over, and those that were cut off, come back", () => {
    const { disk, path } = newDisk();
    python(
      disk,
      path,
      'os.write(f, b"0123456789")',
      "os.fdatasync(f)",
      'os.pwrite(f, b"abc", 2)',
      'os.pwrite(f, b"defg", 8)',
      "os.ftruncate(f, 4)",
      'os.pwrite(f, b"z", 6)',
    );
    expect(disk.losePower().writes).toBe(4);
    expect(textOf(path)).toBe("0123456789");
  });

  test("appended lines are taken back from the end, but for the first few, and a part of the next", () => {
    const append = ['g = os.open(f"/proc/self/fd/{f}", os.O_WRONLY | os.O_APPEND)'];
    const lines = ["one.", "two.", "three."].map((text) => `os.write(g, b"${text}")`);
    const { disk, path } = newDisk();
    python(disk, path, ...append, ...lines);
    disk.losePower({ writes: 1, torn: 0.5 });
    expect(textOf(path)).toBe("one.tw");
  });

  test("an fsync counts for the writes of every process", () => {
    const { disk, path } = newDisk();
    python(disk, path, 'os.write(f, b"of the first")');
    python(disk, path, "os.fsync(f)");
    python(disk, path, 'os.pwrite(f, b"OF", 0)');
    disk.losePower();
    expect(textOf(path)).toBe("of the first");
  });

  test("an fsync counts only for what was written before it began", async () => {
    const { disk, path } = newDisk();
    disk.setSyncDelay(60_000);
    const code = `import os
f = os.open("${path}", os.O_RDWR | os.O_CREAT, 0o644)
os.write(f, b"lost")
open("${path}.written", "w").close()
os.fsync(f)`;
    const child = Bun.spawn(["python3", "-c", code], {
      env: { PATH: process.env["PATH"] ?? "", ...disk.env },
      stderr: "inherit",
    });
    await eventually("it is in its fsync", () => existsSync(`${path}.written`));
    child.kill("SIGKILL");
    await child.exited;
    disk.losePower();
    expect(textOf(path)).toBe("");
  });

  test("a file that takes the place of another has nothing of it to take back", () => {
    const { disk, path } = newDisk();
    python(disk, path, 'os.write(f, b"old")', `os.unlink("${path}")`);
    python(disk, path, 'os.write(f, b"new")', "os.fsync(f)", 'os.write(f, b" and more")');
    disk.losePower();
    expect(textOf(path)).toBe("new");
  });
});

describe("a disk in trouble", () => {
  const tried = (call: string) => ["try:", `  ${call}`, "except OSError as e:", "  print(e.errno)"];

  test("full: nothing becomes longer, what is there can be written over", () => {
    const { disk, path } = newDisk();
    python(disk, path, 'os.write(f, b"0123")', "os.fsync(f)");
    disk.setFull(true);
    expect(python(disk, path, ...tried('os.pwrite(f, b"4", 4)'), 'os.pwrite(f, b"x", 0)')).toBe("28");
    disk.setFull(false);
    python(disk, path, 'os.pwrite(f, b"4", 4)');
    expect(textOf(path)).toBe("x1234");
  });

  test("failing: an fsync says so, and counts for nothing", () => {
    const { disk, path } = newDisk();
    disk.setSyncFails(true);
    expect(python(disk, path, 'os.write(f, b"lost")', ...tried("os.fsync(f)"))).toBe("5");
    disk.losePower();
    expect(textOf(path)).toBe("");
  });
});
