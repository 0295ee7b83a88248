// The harness's disk under real writers: Redis, SQLite, and for single calls a Python interpreter. A disk that undoes
// too much would accuse the service, and one that undoes too little would acquit it. So each test that expects no loss
// has a counterpart with settings under which something must be lost.

import { Database } from "bun:sqlite";
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { buildDisk, type Disk, openDisk } from "../../chaos/disk/disk.ts";
import { durableSettings } from "../support/redis.ts";
import { eventually, freePort } from "../support/eventually.ts";

// Other tests run at the same time, on few cores.
setDefaultTimeout(60_000);

const temporary = mkdtempSync(join(tmpdir(), "reliable-email-disk-"));
const running = new Set<Bun.Subprocess>();
function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}
afterAll(() => {
  killAll();
  rmSync(temporary, { recursive: true, force: true });
});

const library = buildDisk(temporary);

interface TestDisk extends Disk {
  readonly folder: string;
  readonly journal: string;
}

function newDisk(): TestDisk {
  const base = mkdtempSync(join(temporary, "disk-"));
  const [folder, journal] = [join(base, "folder"), join(base, "journal")];
  mkdirSync(folder);
  return { ...openDisk({ folder, journal, library }), folder, journal };
}

interface Child {
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** Whole lines that it has printed. */
  readonly lines: string[];
  readonly stderr: () => string;
  kill(): Promise<void>;
}

function start(command: string[], env: Readonly<Record<string, string>>): Child {
  const child = Bun.spawn(command, {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  const lines: string[] = [];
  let stderr = "";
  const read = (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const whole = (rest + chunk).split("\n");
      rest = whole.pop() ?? "";
      lines.push(...whole);
    }
  })();
  void (async () => {
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) stderr += chunk;
  })();
  return {
    process: child,
    lines,
    stderr: () => stderr,
    async kill() {
      child.kill("SIGKILL");
      await child.exited;
      await read;
    },
  };
}

/** Waits until it has printed this many lines. */
function printed(child: Child, count: number): Promise<unknown> {
  return eventually(
    () => `${count} lines: ${child.stderr()}`,
    () => {
      if (child.process.exitCode !== null || child.process.signalCode !== null)
        throw new Error(`exited: ${child.stderr()}`);
      return child.lines.length >= count;
    },
  );
}

const python = `
import errno, fcntl, os, sys
def opened(name, flags=os.O_RDWR | os.O_CREAT): return os.open(name, flags, 0o644)
def in_child(what):
    pid = os.fork()
    if pid == 0:
        what()
        os._exit(0)
    return os.waitpid(pid, 0)[1]
for line in sys.stdin:
    try: print(eval(line), flush=True)
    except OSError as error: print(errno.errorcode[error.errno], flush=True)
`;

/** Starts a process on the disk, in its folder, that evaluates what it is sent. Descriptor `f` is the file `file`. */
async function startWriter(disk: TestDisk) {
  const child = start(["python3", "-c", python], disk.env);
  async function tell(...expressions: string[]): Promise<string[]> {
    const from = child.lines.length;
    for (const one of expressions) child.process.stdin.write(`${one}\n`);
    await child.process.stdin.flush();
    await printed(child, from + expressions.length);
    return child.lines.slice(from);
  }
  await tell(`os.chdir(${JSON.stringify(disk.folder)})`, "(f := opened('file'))");
  return { ...child, tell };
}

const contents = (disk: TestDisk, name = "file") => readFileSync(join(disk.folder, name), "utf8");

describe("disk: a power cut undoes", () => {
  const durable = ["os.write(f, b'durable')", "os.fsync(f)"];
  const rows: [string, string[], string][] = [
    ["nothing, after an fsync", [], "durable"],
    ["nothing, after an fdatasync", ["os.write(f, b' too')", "os.fdatasync(f)"], "durable too"],
    ["bytes that were appended", ["os.write(f, b' not')"], "durable"],
    [
      "bytes that were appended by O_APPEND",
      ["os.write(opened('file', os.O_WRONLY | os.O_APPEND), b' not')"],
      "durable",
    ],
    ["bytes that were overwritten", ["os.pwrite(f, b'D', 0)", "os.pwrite(f, b'BLE!', 4)"], "durable"],
    [
      "bytes that were overwritten through a descriptor that cannot read",
      ["os.pwrite(opened('file', os.O_WRONLY), b'D', 0)"],
      "durable",
    ],
    ["lists of bytes", ["os.writev(f, [b' n', b'ot'])", "os.pwritev(f, [b'D', b'U'], 0)"], "durable"],
    ["bytes beyond the end", ["os.pwrite(f, b'far', 100)"], "durable"],
    ["a truncation", ["os.ftruncate(f, 3)"], "durable"],
    ["a truncation by name", ["os.truncate('file', 3)"], "durable"],
    ["a truncation on open", ["os.write(opened('file', os.O_WRONLY | os.O_TRUNC), b'new')"], "durable"],
    ["an extension", ["os.ftruncate(f, 50)"], "durable"],
    [
      "a mix of these",
      ["os.ftruncate(f, 2)", "os.pwrite(f, b'x', 1)", "os.ftruncate(f, 9)", "os.pwrite(f, b'yz', 6)"],
      "durable",
    ],
    [
      "writes followed by another file's fsync",
      ["os.write(f, b' not')", "os.fsync(opened('other'))"],
      "durable",
    ],
    [
      "writes followed by sync_file_range",
      ["os.write(f, b' not')", "__import__('ctypes').CDLL(None).sync_file_range(f, 0, 0, 7)"],
      "durable",
    ],
    [
      "nothing that was fsynced through another descriptor",
      ["os.write(f, b' too')", "os.fsync(opened('file'))"],
      "durable too",
    ],
    [
      "nothing that was fsynced after a rename",
      ["os.write(f, b' too')", "os.rename('file', 'x')", "os.fsync(f)", "os.rename('x', 'file')"],
      "durable too",
    ],
    [
      "a file that was renamed and never fsynced",
      ["os.write(opened('new'), b'new')", "os.rename('new', 'file')"],
      "",
    ],
  ];
  /** Run alone, because other tests would take their inodes. */
  const alone: typeof rows = [
    [
      "nothing in a file that reuses the inode of an unlinked one",
      ["os.write(f, b' not')", "os.unlink('file')", "os.close(f)", "os.write(opened('file'), b'another')"],
      "",
    ],
    [
      "nothing in a file that reuses the inode of one that was replaced by a rename",
      [
        "os.write(f, b' not')",
        "os.rename('file', 'old')",
        "opened('new')",
        "os.rename('new', 'old')",
        "os.close(f)",
        "os.write(opened('file'), b'another')",
      ],
      "",
    ],
  ];
  async function takesBack(_: string, expressions: string[], left: string): Promise<void> {
    const disk = newDisk();
    const writer = await startWriter(disk);
    for (const answer of await writer.tell(...durable, ...expressions)) expect(answer).not.toStartWith("E");
    await writer.kill();
    disk.losePower();
    expect(contents(disk)).toBe(left);
    // It remembers no earlier writes.
    expect(disk.losePower()).toEqual({ files: 0, writes: 0, bytes: 0 });
  }
  test.concurrent.each(rows)("%s", takesBack);
  test.each(alone)("%s", takesBack);

  test("the content of a file that was never fsynced, and nothing outside of the folder", async () => {
    const disk = newDisk();
    const writer = await startWriter(disk);
    await writer.tell("os.write(f, b'12345')", "os.write(opened('../outside'), b'12345')");
    await writer.kill();
    expect(disk.losePower()).toEqual({ files: 1, writes: 1, bytes: 5 });
    expect([contents(disk), contents(disk, "../outside")]).toEqual(["", "12345"]);
  });

  test("no write before an fsync by any process, and all writes after it", async () => {
    const disk = newDisk();
    const [one, other] = [await startWriter(disk), await startWriter(disk)];
    await one.tell("os.write(f, b'before')");
    disk.setSyncDelay(200);
    const syncing = other.tell("os.fsync(f)");
    // The fsync has begun once only it can delay the answer.
    await eventually(
      "it sleeps",
      () => /^State:\tS/m.test(status(other.process.pid)) && inSleep(other.process.pid),
    );
    await one.tell("os.write(f, b' meanwhile')");
    await syncing;
    await Promise.all([one.kill(), other.kill()]);
    expect(disk.losePower()).toEqual({ files: 1, writes: 1, bytes: 10 });
    expect(contents(disk)).toBe("before");
  });

  const status = (pid: number) => readFileSync(`/proc/${pid}/status`, "utf8");
  const inSleep = (pid: number) => readFileSync(`/proc/${pid}/wchan`, "utf8").includes("nanosleep");

  test("concurrent writes of several processes, in their order", async () => {
    const disk = newDisk();
    const writers = await Promise.all([1, 2, 3].map(() => startWriter(disk)));
    const append =
      "[os.write(a, b'%04d' % n) for a in [opened('file', os.O_WRONLY | os.O_APPEND)] for n in range(2000)] and 0";
    await Promise.all(writers.map(({ tell }) => tell(append)));
    await Promise.all(writers.map((writer) => writer.kill()));
    const written = contents(disk);
    expect(disk.losePower({ writes: 1000, torn: 0.5 })).toEqual({
      files: 1,
      writes: 5000,
      bytes: 5000 * 4 - 2,
    });
    expect(contents(disk)).toBe(written.slice(0, 4002));
  });

  test("writes of a forked child, in one order with its parent's", async () => {
    const disk = newDisk();
    const writer = await startWriter(disk);
    const forked = "in_child(lambda: (os.write(f, b'b'), os.fsync(f)))";
    expect(await writer.tell("os.write(f, b'a')", forked, "os.write(f, b'c')")).toEqual(["1", "0", "1"]);
    await writer.kill();
    disk.losePower();
    expect(contents(disk)).toBe("ab");
  });

  test("no POSIX lock that a process has on a file, whatever it does to it", async () => {
    const disk = newDisk();
    const [one, other] = [await startWriter(disk), await startWriter(disk)];
    await one.tell("os.write(f, b'12345')", "fcntl.lockf(f, fcntl.LOCK_EX)");
    await one.tell(
      "os.pwrite(f, b'x', 0)",
      "os.ftruncate(f, 2)",
      "os.fsync(f)",
      "os.rename('file', 'renamed')",
    );
    await one.tell("os.rename('renamed', 'file')", "os.write(opened('g'), b'1')", "os.rename('g', 'h')");
    expect(await other.tell("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)")).toEqual(["EAGAIN"]);
  });

  test("running processes too: they are killed", async () => {
    const disk = newDisk();
    const writer = await startWriter(disk);
    await writer.tell("os.write(f, b'x')");
    disk.losePower();
    expect(await writer.process.exited).toBe(137);
    expect(contents(disk)).toBe("");
  });
});

describe("disk: a power cut keeps", () => {
  const writes = [
    "os.write(f, b'abcd')",
    "os.fsync(f)",
    "os.pwrite(f, b'ABCD', 0)",
    "os.pwrite(f, b'123456', 2)",
    "os.ftruncate(f, 1)",
  ];
  const rows: [number, number, string][] = [
    [0, 0, "abcd"],
    [0, 0.5, "ABcd"],
    [1, 0, "ABCD"],
    [1, 0.4, "AB12"],
    [1, 0.9, "AB12345"],
    [2, 0.5, "AB123456"],
    [3, 0, "A"],
    [9, 0.5, "A"],
  ];
  test.concurrent.each(rows)("%d writes and %d of the next: %s", async (kept, torn, left) => {
    const disk = newDisk();
    const writer = await startWriter(disk);
    await writer.tell(...writes);
    await writer.kill();
    disk.losePower({ writes: kept, torn });
    expect(contents(disk)).toBe(left);
  });
});

test("disk: after a kill in the middle of writing, exactly the writes before the last fsync are left", async () => {
  const disk = newDisk();
  writeFileSync(join(disk.folder, "file"), "-".repeat(16_384));
  // Writes four pages between fsyncs. The other processes write after it, never fsync, and are killed one after
  // another.
  const numbered = `
import itertools, os
f = os.open(${JSON.stringify(join(disk.folder, "file"))}, os.O_RDWR)
for n in itertools.count(1):
    for page in range(4): os.pwrite(f, b"%08d" % n * 512, page * 4096)
    os.fsync(f)
    print(n, flush=True)
`;
  const disturbing = `
import itertools, os
f = os.open(${JSON.stringify(join(disk.folder, "file"))}, os.O_RDWR)
print("ready", flush=True)
for n in itertools.count(): os.pwrite(f, b"x" * 9000, 16384 + n % 5 * 100)
`;
  for (let round = 0; round < 3; round += 1) {
    const main = start(["python3", "-c", numbered], disk.env);
    for (let i = 0; i < 4; i += 1) {
      const other = start(["python3", "-c", disturbing], disk.env);
      await printed(other, 1);
      await printed(main, main.lines.length + 10);
      await other.kill();
    }
    await main.kill();
    disk.losePower();
    const pages = contents(disk).slice(0, 16_384).match(/.{8}/g)!;
    expect(new Set(pages).size).toBe(1);
    expect(Number(pages[0])).toBeGreaterThanOrEqual(Number(main.lines.at(-1)));
    expect(Number(pages[0])).toBeLessThanOrEqual(Number(main.lines.at(-1)) + 1);
  }
});

test("disk: the journal of a file under constant writes and fsyncs stays small", async () => {
  const disk = newDisk();
  const [one, other] = [await startWriter(disk), await startWriter(disk)];
  disk.setSyncDelay(1);
  // One process's writes fall between the beginning and the end of the other's fsyncs.
  await Promise.all([
    one.tell("[os.pwrite(f, b'x' * 4096, n % 8 * 4096) for n in range(10000)] and 0"),
    other.tell("[os.fsync(f) for n in range(300)] and 0"),
  ]);
  await other.tell("os.fsync(f)");
  const { dev, ino } = statSync(join(disk.folder, "file"), { bigint: true });
  expect(statSync(join(disk.journal, `${dev}-${ino}`)).size).toBeLessThan(16 * 1024 * 1024);
  await Promise.all([one.kill(), other.kill()]);
  expect(disk.losePower().writes).toBe(0);
});

describe("disk: faults", () => {
  test("on a full disk, files cannot grow, and writes in place succeed", async () => {
    const disk = newDisk();
    const { tell } = await startWriter(disk);
    await tell("os.write(f, b'12345')");
    disk.setFull(true);
    const calls = [
      "os.write(f, b'6')",
      "os.pwrite(f, b'56', 4)",
      "os.pwrite(f, b'5', 4)",
      "os.write(opened('x'), b'1')",
      "os.write(opened('x-shm'), b'1')",
    ];
    expect(await tell(...calls)).toEqual(["ENOSPC", "ENOSPC", "1", "ENOSPC", "ENOSPC"]);
    disk.setFull(false);
    expect(await tell("os.write(f, b'6')")).toEqual(["1"]);
  });

  test("an fsync that fails makes nothing durable", async () => {
    const disk = newDisk();
    const writer = await startWriter(disk);
    disk.setSyncFails(true);
    expect(await writer.tell("os.write(f, b'1')", "os.fsync(f)", "os.fdatasync(f)")).toEqual([
      "1",
      "EIO",
      "EIO",
    ]);
    await writer.kill();
    disk.losePower();
    expect(contents(disk)).toBe("");
  });

  test("each fsync and each write takes as long as it is set to", async () => {
    const disk = newDisk();
    const { tell } = await startWriter(disk);
    const took = "(t := __import__('time').monotonic)";
    disk.setSyncDelay(40);
    const [sync] = await tell(`(a := ${took}(), os.fsync(f), t() - a)[2]`);
    disk.setSyncDelay(0);
    disk.setWriteDelay(40);
    const [write] = await tell(`(a := ${took}(), os.write(f, b'1'), t() - a)[2]`);
    disk.setWriteDelay(0);
    for (const seconds of [sync, write]) expect(Number(seconds)).toBeGreaterThanOrEqual(0.04);
    // No call would be this quick if the delay still applied.
    const calls = "(a := t(), os.write(f, b'1'), os.fsync(f), t() - a)[3]";
    await eventually("neither is delayed any more", async () => Number((await tell(calls))[0]) < 0.04);
  });

  test("a call that cannot be undone, and a missing disk, end the process with a message", async () => {
    const disk = newDisk();
    const { process: child, stderr, tell } = await startWriter(disk);
    await expect(tell("os.posix_fallocate(f, 0, 10)")).rejects.toThrow();
    expect([await child.exited, stderr()]).toEqual([
      134,
      expect.stringContaining("chaos disk: posix_fallocate"),
    ]);
    for (const missing of ["CHAOS_DISK_FOLDER", "CHAOS_DISK_JOURNAL"]) {
      const {
        exitCode,
        signalCode,
        stderr: text,
      } = Bun.spawnSync(["true"], { env: { ...disk.env, [missing]: "/nowhere" } });
      expect([exitCode, signalCode, text.toString()]).toEqual([
        null,
        "SIGABRT",
        expect.stringContaining(missing),
      ]);
    }
  });

  test("it compiles without a warning", () => {
    const source = join(import.meta.dir, "../../chaos/disk/disk.c");
    const flags = ["-O2", "-Wall", "-Wextra", "-fPIC", "-fsyntax-only"];
    expect(Bun.spawnSync(["cc", ...flags, source]).stderr.toString()).toBe("");
  });
});

describe("disk: Redis", () => {
  async function startRedis(disk: TestDisk, settings: Record<string, string> = {}) {
    const port = await freePort();
    const all = { ...durableSettings, ...settings, port: String(port), dir: disk.folder, bind: "127.0.0.1" };
    const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
    const server = start(["redis-server", ...args], disk.env);
    const client = new Redis({ port, maxRetriesPerRequest: 0, retryStrategy: () => 20 });
    client.on("error", () => {});
    await eventually("Redis answers", () => client.ping().catch(() => ""));
    return {
      ...server,
      client,
      async kill() {
        await server.kill();
        client.disconnect();
      },
    };
  }
  type Server = Awaited<ReturnType<typeof startRedis>>;

  /** Pushes from many clients until Redis stops answering; `acknowledged` collects what it has acknowledged. */
  async function push({ client }: Server, acknowledged: string[]): Promise<void> {
    const side = async () => {
      for (;;) {
        const id = Bun.randomUUIDv7();
        await client.rpush("list", id);
        acknowledged.push(id);
      }
    };
    await Promise.allSettled(Array.from({ length: 16 }, side));
  }

  const missing = async ({ client }: Server, acknowledged: readonly string[]) => {
    const stored = new Set(await client.lrange("list", 0, -1));
    return acknowledged.filter((id) => !stored.has(id)).length;
  };

  test("with appendfsync always, no acknowledged write is lost, even during a rewrite of the log", async () => {
    const disk = newDisk();
    disk.setSyncDelay(4);
    const acknowledged: string[] = [];
    let undone = 0;
    for (let round = 0; round < 5; round += 1) {
      const server = await startRedis(disk);
      expect(await missing(server, acknowledged)).toBe(0);
      const pushing = push(server, acknowledged);
      const enough = acknowledged.length + 200;
      await server.client.bgrewriteaof();
      await eventually("it is acknowledged", () => acknowledged.length >= enough + round);
      await server.kill();
      await pushing;
      undone += disk.losePower({ writes: 0, torn: round / 5 }).writes;
    }
    const server = await startRedis(disk);
    expect(await missing(server, acknowledged)).toBe(0);
    await server.kill();
    // In nearly every round, the last write was between its record and the end of its fsync.
    expect(undone).toBeGreaterThan(0);
  });

  test("with appendfsync everysec, acknowledged writes are lost", async () => {
    const disk = newDisk();
    const server = await startRedis(disk, { appendfsync: "everysec" });
    const acknowledged: string[] = [];
    // Longer than the test: nothing that waits for an fsync is acknowledged.
    disk.setSyncDelay(60_000);
    const pushing = push(server, acknowledged);
    await eventually("it is acknowledged", () => acknowledged.length >= 500);
    await server.kill();
    await pushing;
    expect(disk.losePower().writes).toBeGreaterThan(0);
    disk.setSyncDelay(0);
    const again = await startRedis(disk);
    expect(await missing(again, acknowledged)).toBeGreaterThanOrEqual(500);
    await again.kill();
  });

  test.each(["setFull", "setSyncFails"] as const)(
    "after %s, it exits rather than acknowledge",
    async (fault) => {
      const disk = newDisk();
      const server = await startRedis(disk);
      const acknowledged: string[] = [];
      const pushing = push(server, acknowledged);
      await eventually("it is acknowledged", () => acknowledged.length >= 100);
      disk[fault](true);
      expect(await server.process.exited).toBe(1);
      await pushing;
      server.client.disconnect();
      disk[fault](false);
      disk.losePower();
      const again = await startRedis(disk);
      expect(await missing(again, acknowledged)).toBe(0);
      await again.kill();
    },
  );
});

describe("disk: SQLite", () => {
  /** Commits one row after another, and prints its number once it is committed, or the error. */
  const program = `
const [path, synchronous, checkpoint, from] = process.argv.slice(1);
const { Database } = require("bun:sqlite");
const { writeSync } = require("node:fs");
const database = new Database(path);
database.run("PRAGMA busy_timeout = 10000");
database.run("PRAGMA journal_mode = WAL");
database.run("PRAGMA synchronous = " + synchronous);
database.run("PRAGMA wal_autocheckpoint = " + checkpoint);
database.run("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT)");
const insert = database.query("INSERT INTO rows VALUES (?, ?)");
for (let id = Number(from); ; id += 1) {
  try {
    insert.run(id, "x".repeat(id % 3000));
    writeSync(1, id + "\\n");
  } catch (error) {
    writeSync(1, error.code + "\\n");
    await Bun.sleep(5);
  }
}`;

  const path = (disk: TestDisk) => join(disk.folder, "test.db");

  function startInserts(
    disk: TestDisk,
    synchronous: string,
    options: { checkpoint: number; from: number },
  ): Child {
    const args = [path(disk), synchronous, String(options.checkpoint), String(options.from)];
    return start([process.execPath, "--no-install", "-e", program, ...args], disk.env);
  }

  const committed = (child: Child) => child.lines.filter((line) => /^\d+$/.test(line)).map(Number);

  function stored(disk: TestDisk): { integrity: unknown; ids: Set<number> } {
    const database = new Database(path(disk));
    try {
      const integrity = database.query("PRAGMA integrity_check").values()[0]?.[0];
      const hasRows = database.query("SELECT 1 FROM sqlite_schema WHERE name = 'rows'").get() !== null;
      const ids = hasRows
        ? database
            .query("SELECT id FROM rows")
            .values()
            .map(([id]) => Number(id))
        : [];
      return { integrity, ids: new Set(ids) };
    } finally {
      database.close();
    }
  }

  const rows: [string, number, number][] = [
    ["one process", 1, 1000],
    ["two processes, and a checkpoint every few commits", 2, 8],
  ];
  test.each(rows)("with synchronous FULL, no commit is lost: %s", async (_, processes, checkpoint) => {
    const disk = newDisk();
    disk.setSyncDelay(2);
    const acknowledged: number[] = [];
    let undone = 0;
    for (let round = 0; round < 4; round += 1) {
      const children: Child[] = [];
      for (let i = 0; i < processes; i += 1) {
        const from = 1 + (2 * round + i) * 1_000_000;
        const child = startInserts(disk, "FULL", { checkpoint, from });
        children.push(child);
        // Two processes that create the database's log at the same time would conflict.
        await printed(child, 1);
      }
      await Promise.all(children.map((child) => printed(child, 30 + round)));
      await Promise.all(children.map((child) => child.kill()));
      acknowledged.push(...children.flatMap(committed));
      undone += disk.losePower({ writes: round, torn: 0.5 }).writes;
      const { integrity, ids } = stored(disk);
      expect(integrity).toBe("ok");
      expect(acknowledged.filter((id) => !ids.has(id))).toEqual([]);
    }
    expect(undone).toBeGreaterThan(0);
  });

  test.each(["NORMAL", "OFF"])("with synchronous %s, commits are lost", async (synchronous) => {
    const disk = newDisk();
    const child = startInserts(disk, synchronous, { checkpoint: 100_000, from: 1 });
    await printed(child, 50);
    await child.kill();
    expect(disk.losePower().writes).toBeGreaterThan(50);
    expect(committed(child).filter((id) => !stored(disk).ids.has(id)).length).toBeGreaterThanOrEqual(50);
  });

  test.each([
    ["setFull", "SQLITE_FULL"],
    ["setSyncFails", "SQLITE_IOERR_FSYNC"],
  ] as const)("after %s, commits fail with %s until it is undone", async (fault, code) => {
    const disk = newDisk();
    const child = startInserts(disk, "FULL", { checkpoint: 1000, from: 1 });
    await printed(child, 20);
    disk[fault](true);
    await eventually("commits fail", () => child.lines.at(-1) === code);
    disk[fault](false);
    await eventually("commits succeed", () => /^\d+$/.test(child.lines.at(-1)!));
    await child.kill();
    disk.losePower();
    const { integrity, ids } = stored(disk);
    expect(integrity).toBe("ok");
    expect(committed(child).filter((id) => !ids.has(id))).toEqual([]);
  });
});
