// The embedded queue when its file, its disk or another process on it is not as it should be.

import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { Database } from "bun:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClaimRequest, Work } from "../../lib/queue/queue.ts";
import { openConnection, StoreUnusable } from "../../lib/queue/sqlite/connection.ts";
import { openSqliteIntake } from "../../lib/queue/sqlite/intake.ts";
import { openSqliteOperator } from "../../lib/queue/sqlite/operator.ts";
import { additions, migrations } from "../../lib/queue/sqlite/schema.ts";
import { openSqliteWork } from "../../lib/queue/sqlite/work.ts";
import { eventually } from "../support/eventually.ts";
import { recordingLog, silent } from "../support/log.ts";
import { endedRequest, serving, submission } from "./tools.ts";

const root = mkdtempSync(join(tmpdir(), "reliable-email-sqlite-faults-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = () => join(root, String((folders += 1)));

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

interface Over {
  readonly log?: typeof silent;
  readonly onFatal?: (reason: string) => void;
}
const optionsFor = (folder: string, over: Over = {}) => ({
  folder,
  retainMs: 3_600_000,
  log: silent,
  onFatal: (reason: string) => {
    throw new Error(reason);
  },
  ...over,
});
function intakeOn(folder: string, over: Over = {}) {
  const intake = openSqliteIntake(optionsFor(folder, over));
  closing.push(() => intake.close());
  return intake;
}
function workOn(folder: string, over: Over = {}) {
  const work = openSqliteWork(optionsFor(folder, over));
  closing.push(() => work.close());
  return work;
}
async function operatorOn(folder: string) {
  const operator = await openSqliteOperator(optionsFor(folder));
  closing.push(() => operator.close());
  return operator;
}
const within = (ms: number) => performance.now() + ms;
const claimRequest = (): ClaimRequest => ({
  claimId: Bun.randomUUIDv7(),
  claimant: Bun.randomUUIDv7(),
  number: 1,
  provider: "resend",
  credential: "",
  shared: true,
  dueCountMax: 0,
  countMax: 100,
  bytesMax: 4 * 1024 * 1024,
  leaseMs: 60_000,
  doubtMs: 3_600_000,
  context: "",
  sources: ["batches", "split", "emails"],
});

/** Claims a batch and settles it as sent. False if nothing is due. */
async function sendBatch(work: Work): Promise<boolean> {
  const result = await work.claim(claimRequest());
  if (result.kind !== "batch") return false;
  const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
  await work.settle(result.batch, { fates, counts: {} });
  return true;
}

/** Another process in the middle of a transaction, frozen there. */
async function freezeInTransaction(folder: string) {
  const code = `
    const { Database } = require("bun:sqlite");
    const db = new Database(${JSON.stringify(join(folder, "queue.db"))});
    db.run("BEGIN IMMEDIATE");
    db.run("INSERT INTO counters VALUES ('frozen', 1)");
    console.log("held");
    process.kill(process.pid, "SIGSTOP");
    db.run("COMMIT");
    db.close();`;
  const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "inherit" });
  closing.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  await child.stdout.getReader().read();
  await eventually("it is frozen", async () =>
    /^State:\tT/m.test(await Bun.file(`/proc/${child.pid}/status`).text()),
  );
  return child;
}

describe("a process frozen inside a transaction", () => {
  test("costs others a failed submission by its deadline, and never their event loop", async () => {
    const folder = newFolder();
    const [intake, work] = [intakeOn(folder), workOn(folder)];
    expect((await intake.submit(submission(), within(5000))).kind).toBe("stored");
    const frozen = await freezeInTransaction(folder);

    let ticks = 0;
    const ticking = setInterval(() => (ticks += 1), 10);
    const startMs = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => intake.submit(submission(), within(1500))),
    );
    clearInterval(ticking);
    expect(performance.now() - startMs).toBeLessThan(3000);
    for (const answer of answers) {
      expect(answer).toMatchObject({ kind: "failed", reason: "another process holds the queue's file" });
    }
    // Of about 150; a single wait inside SQLite would have left none.
    expect(ticks).toBeGreaterThan(30);
    // What needs no write goes on.
    expect((await (await operatorOn(folder)).stats()).states.waiting).toBe(1);

    const waiting = intake.submit(submission(), within(15_000));
    const claimed = work.claim(claimRequest());
    frozen.kill("SIGCONT");
    expect((await waiting).kind).toBe("stored");
    expect((await claimed).kind).toBe("batch");
    await frozen.exited;
    const { counters } = await (await operatorOn(folder)).stats();
    expect(counters).toEqual({ frozen: 1 });
  }, 30_000);

  test("and then killed leaves nothing of it", async () => {
    const folder = newFolder();
    const intake = intakeOn(folder);
    expect((await intake.submit(submission(), within(5000))).kind).toBe("stored");
    const frozen = await freezeInTransaction(folder);
    const waiting = intake.submit(submission(), within(15_000));
    frozen.kill("SIGKILL");
    expect((await waiting).kind).toBe("stored");
    const { counters, states } = await (await operatorOn(folder)).stats();
    expect(counters).toEqual({});
    expect(states.waiting).toBe(2);
  }, 30_000);

  test("makes a claim fail as unavailable in the end, and the same claim succeeds later", async () => {
    const folder = newFolder();
    const [intake, work] = [intakeOn(folder), workOn(folder)];
    const one = submission();
    await intake.submit(one, within(5000));
    const frozen = await freezeInTransaction(folder);
    const request = claimRequest();
    await expect(work.claim(request)).rejects.toThrow("has held the queue's file");
    frozen.kill("SIGCONT");
    await frozen.exited;
    expect(await work.claim(request)).toMatchObject({ kind: "batch", batch: { lease: 1 } });
  }, 30_000);
});

describe("the file", () => {
  test("and its folder are made for their owner alone", async () => {
    const folder = join(newFolder(), "deep", "er");
    const intake = intakeOn(folder);
    await intake.submit(submission(), within(5000));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(folder)) {
      expect(`${name} ${(statSync(join(folder, name)).mode & 0o777).toString(8)}`).toBe(`${name} 600`);
    }
    expect(readdirSync(folder)).toContain("queue.db");
  });

  test("may be opened by many at once, when it is not there yet", async () => {
    const folder = newFolder();
    // All at the same instants, and often: what goes wrong between them does so rarely.
    const folders = Array.from({ length: 30 }, (_, i) => join(folder, String(i)));
    const code = `
      const { openConnection, isBusy } = await import(${JSON.stringify(join(import.meta.dir, "../../lib/queue/sqlite/connection.ts"))});
      for (const [i, folder] of ${JSON.stringify(folders)}.entries()) {
        await Bun.sleep(${Date.now() + 1000} + 20 * i - Date.now());
        for (let connection; connection === undefined;) {
          try {
            connection = openConnection(folder);
            connection.run("BEGIN IMMEDIATE");
            connection.run("INSERT INTO counters VALUES ('opened', 1) ON CONFLICT DO UPDATE SET count = count + 1");
            connection.run("COMMIT");
            connection.close();
          } catch (error) {
            if (!isBusy(error)) throw error;
            connection?.close();
            connection = undefined;
            await Bun.sleep(1);
          }
        }
      }`;
    const children = Array.from({ length: 6 }, () =>
      Bun.spawn([process.execPath, "-e", code], { stdout: "ignore", stderr: "inherit" }),
    );
    for (const child of children) expect(await child.exited).toBe(0);
    for (const one of folders) {
      expect((await (await operatorOn(one)).stats()).counters).toEqual({ opened: 6 });
    }
  }, 30_000);

  test("of a newer version is not touched", () => {
    const folder = newFolder();
    openConnection(folder).close();
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${migrations.length + 1}`);
    newer.close();
    let fatal = "";
    intakeOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect(fatal).toContain(`has format ${migrations.length + 1}, this version reads and writes format`);
  });

  test("that becomes one of a newer version is written to no more", async () => {
    const folder = newFolder();
    let fatal = "";
    const intake = intakeOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect((await intake.submit(submission(), within(5000))).kind).toBe("stored");
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${migrations.length + 1}`);
    newer.close();
    const answers = await Promise.all(
      Array.from({ length: 600 }, async () => {
        const { kind } = await intake.submit(submission(), within(5000));
        return `${kind}, ${fatal === "" ? "and before that is fatal" : "too late"}`;
      }),
    );
    // The group that met it; those behind it are answered as well.
    expect(answers.slice(0, 256)).toEqual(Array(256).fill("failed, and before that is fatal"));
    for (const answer of answers) expect(answer).toStartWith("failed");
    await eventually("it is said", () => fatal.includes("has format"));
  });

  test("that becomes one of a newer version is read no more", async () => {
    const folder = newFolder();
    let fatal = "";
    const work = workOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect((await work.claim(claimRequest())).kind).toBe("empty");
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${migrations.length + 1}`);
    newer.close();
    await expect(work.claim(claimRequest())).rejects.toThrow("has format");
    await eventually("it is said", () => fatal.includes("has format"));
  });

  test("is opened so that a commit is on disk when it returns", () => {
    const connection = openConnection(newFolder());
    expect(connection.get("PRAGMA journal_mode")).toEqual({ journal_mode: "wal" });
    // FULL: each commit is fsynced.
    expect(connection.get("PRAGMA synchronous")).toEqual({ synchronous: 2 });
    connection.close();
  });

  test("of an older version is brought up to date, with all that it holds", async () => {
    const folder = newFolder();
    const intake = intakeOn(folder);
    await intake.submit(submission(), within(5000));
    await intake.close();
    const steps = [...migrations, "ALTER TABLE emails ADD COLUMN colour TEXT", "CREATE TABLE more (x)"];
    const schema = { migrations: steps, additions };
    const later = openConnection(folder, true, schema);
    expect(later.get("PRAGMA user_version")).toEqual({ user_version: migrations.length + 2 });
    expect(later.get("SELECT count(*) AS count, colour FROM emails")).toEqual({ count: 1, colour: null });
    later.close();
    openConnection(folder, true, schema).close();
    expect(() => openConnection(folder)).toThrow(StoreUnusable);
  });

  test("whose migration fails stays as it was", () => {
    const folder = newFolder();
    openConnection(folder).close();
    const steps = [...migrations, "CREATE TABLE more (x)", "nonsense"];
    expect(() => openConnection(folder, true, { migrations: steps, additions })).toThrow("nonsense");
    const same = openConnection(folder);
    expect(same.get("SELECT count(*) AS count FROM sqlite_schema WHERE name = 'more'")).toEqual({ count: 0 });
    same.close();
  });

  test.each([
    ["is no database", (path: string) => writeFileSync(path, "x".repeat(10_000)), "is not a database"],
    [
      "is another program's",
      (path: string) => {
        const other = new Database(path);
        other.run("CREATE TABLE theirs (x)");
        other.close();
      },
      "another program",
    ],
    ["is a folder", (path: string) => mkdirSync(path), "cannot be opened"],
  ])("that %s is left alone, and named", (_, make, text) => {
    const folder = newFolder();
    mkdirSync(folder);
    const path = join(folder, "queue.db");
    make(path);
    expect(() => openConnection(folder)).toThrow(text);
    expect(() => openConnection(folder)).toThrow(StoreUnusable);
    expect(() => openConnection(folder)).toThrow(path);
  });

  test("that is damaged fails submissions with a reason, and stays as it is", async () => {
    const folder = newFolder();
    const first = intakeOn(folder);
    await Promise.all(Array.from({ length: 500 }, () => first.submit(submission(), within(5000))));
    await first.close();
    const path = join(folder, "queue.db");
    const db = new Database(path);
    // What tables there are can still be read: only where each begins is lost.
    const roots = db.prepare("SELECT rootpage AS page FROM sqlite_schema WHERE rootpage > 1").all();
    db.close();
    const bytes = new Uint8Array(await Bun.file(path).arrayBuffer());
    for (const { page } of roots as { page: number }[]) bytes.fill(0x5a, 4096 * (page - 1), 4096 * page);
    await Bun.write(path, bytes);
    const log = recordingLog();
    const [intake, work] = [intakeOn(folder, { log }), workOn(folder)];
    expect(await intake.submit(submission(), within(5000))).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("is damaged"),
    });
    await expect(work.claim(claimRequest())).rejects.toThrow("is damaged");
    expect(log.events("store-failed")[0]).toMatchObject({ reason: expect.stringContaining("is damaged") });
    expect(intake.health()).toMatchObject({ ok: false });
  });

  test.each([
    ["removed", (path: string) => renameSync(path, `${path}.away`)],
    [
      "replaced",
      (path: string) => {
        copyFileSync(path, `${path}.copy`);
        renameSync(`${path}.copy`, path);
      },
    ],
    ["left without its log", (path: string) => rmSync(`${path}-wal`)],
  ])("that is %s under a running process takes no more, and gives nothing out", async (_, change) => {
    const folder = newFolder();
    const log = recordingLog();
    const [intake, work] = [intakeOn(folder, { log }), workOn(folder)];
    expect((await intake.submit(submission(), within(5000))).kind).toBe("stored");
    change(join(folder, "queue.db"));
    expect(await intake.submit(submission(), within(5000))).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("removed or replaced"),
    });
    // Asked for again, as a worker does: the first may have been written where nobody finds it.
    const request = claimRequest();
    await expect(work.claim(request)).rejects.toThrow("removed or replaced");
    await expect(work.claim(request)).rejects.toThrow("removed or replaced");
    expect(intake.health().ok).toBe(false);
    await eventually("it is said", () => log.events("store-failed").length > 0);
  });

  test("in a folder that may not be written to is refused at once", () => {
    // Not even root may make one there.
    expect(() => openConnection("/proc/reliable-email")).toThrow(
      "DATA_DIR /proc/reliable-email cannot be written to",
    );
  });

  test.each([
    ["its folder", ""],
    ["itself", "queue.db"],
  ])("where a symbolic link leads nowhere, %s, is refused at once, and named", async (_, name) => {
    const folder = newFolder();
    if (name !== "") mkdirSync(folder);
    const link = join(folder, name);
    symlinkSync(join(root, "nowhere"), link);
    const text = `symbolic link to ${join(root, "nowhere")}, which does not exist`;
    expect(() => openConnection(folder)).toThrow(text);
    expect(() => openConnection(folder)).toThrow(StoreUnusable);
    await expect(operatorOn(folder)).rejects.toThrow(text);
    expect(existsSync(join(root, "nowhere"))).toBe(false);
  });

  test("in a folder that is a file is refused at once", () => {
    const folder = newFolder();
    writeFileSync(folder, "");
    expect(() => openConnection(folder)).toThrow(`${folder} is a file, not a directory`);
    const below = join(folder, "data");
    expect(() => openConnection(below)).toThrow(`DATA_DIR ${below} cannot be created: ${folder} is a file`);
  });
});

describe("an operator", () => {
  test("waits for a file that another process holds for a moment", async () => {
    const folder = newFolder();
    openConnection(folder).close();
    const other = new Database(join(folder, "queue.db"));
    other.run("PRAGMA locking_mode = EXCLUSIVE");
    other.run("BEGIN EXCLUSIVE");
    const opening = operatorOn(folder);
    other.run("COMMIT");
    other.close();
    expect((await (await opening).stats()).states.waiting).toBe(0);
  });

  test("is told what is wrong with a file that cannot be used", async () => {
    const folder = newFolder();
    mkdirSync(folder);
    writeFileSync(join(folder, "queue.db"), "x".repeat(10_000));
    await expect(operatorOn(folder)).rejects.toThrow("is not a database");
  });
});

test("a new email wakes a worker that sleeps", async () => {
  const folder = newFolder();
  const [intake, work] = [intakeOn(folder), workOn(folder)];
  let wakes = 0;
  work.onWake(() => (wakes += 1));
  await work.compatible;
  await eventually("it has been woken by the start", () => wakes > 0);
  const before = wakes;
  await intake.submit(submission(), within(5000));
  await eventually("it is woken", () => wakes > before);
});

test("an idle worker writes nothing", async () => {
  const folder = newFolder();
  const [intake, work] = [intakeOn(folder), workOn(folder)];
  await intake.submit(submission(), within(5000));
  await sendBatch(work);
  await work.sweep(serving("resend"));
  const written = () => {
    const { size, mtimeNs } = statSync(join(folder, "queue.db-wal"), { bigint: true });
    return `${size} ${mtimeNs}`;
  };
  const before = written();
  for (let i = 0; i < 50; i += 1) {
    expect((await work.claim(claimRequest())).kind).toBe("empty");
    expect((await work.claimEnded(endedRequest())).kind).toBe("empty");
    await work.sweep(serving("resend"));
  }
  expect(written()).toBe(before);
});

const isPermitted = Bun.spawnSync(["unshare", "-rm", "true"]).success;

/** Runs small_disk.ts with a file system of its own, of `mib` MiB, at the folder that it is told. */
async function onSmallDisk(mib: number, scenario: string): Promise<unknown> {
  const folder = newFolder();
  mkdirSync(folder);
  const mount = `mount -t tmpfs -o size=${mib}m tmpfs "$1" && shift && exec "$@"`;
  const script = [process.execPath, join(import.meta.dir, "small_disk.ts"), folder, scenario];
  const child = Bun.spawn(["unshare", "-rm", "sh", "-c", mount, "sh", folder, ...script], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

describe.skipIf(!isPermitted)("a disk", () => {
  test("that runs full takes no new emails, and what it has is delivered", async () => {
    expect(await onSmallDisk(80, "delivery-goes-on")).toEqual({
      refusal: "under 64 MiB would be left on the disk of DATA_DIR: they are for delivery",
      lost: 0,
      acceptsAgain: true,
    });
  }, 30_000);

  test.each(["burst-of-large-ones", "one-that-is-too-large", "log-that-cannot-be-emptied"])(
    "keeps what delivery needs, whatever comes: %s",
    async (scenario) => {
      expect(await onSmallDisk(200, scenario)).toEqual({
        refusals: ["under 64 MiB would be left on the disk of DATA_DIR: they are for delivery"],
        lost: 0,
      });
    },
    60_000,
  );

  test("that is full to the last byte stops everything until there is room, and nothing is lost", async () => {
    expect(await onSmallDisk(80, "to-the-last-byte")).toEqual({
      claim: expect.stringContaining("is full"),
      sent: 50,
      lost: 0,
      acceptsAgain: true,
    });
  }, 30_000);

  test("that is full from the start is waited for", async () => {
    expect(await onSmallDisk(80, "from-the-start")).toEqual({
      failed: expect.stringContaining("is full"),
      acceptsAgain: true,
    });
  }, 30_000);
});

test("deliveries without a request leave turns of the event loop to others", async () => {
  const folder = newFolder();
  const [intake, work] = [intakeOn(folder), workOn(folder)];
  await Promise.all(Array.from({ length: 2000 }, () => intake.submit(submission(), within(5000))));
  let turns = 0;
  const count = () => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  let batches = 0;
  while (await sendBatch(work)) batches += 1;
  clearImmediate(timer);
  expect(batches).toBe(20);
  expect(turns).toBeGreaterThanOrEqual(batches);
});

test("groups of submissions leave turns of the event loop to others", async () => {
  const intake = intakeOn(newFolder());
  expect((await intake.submit(submission(), within(5000))).kind).toBe("stored");
  let turns = 0;
  const count = () => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  await Promise.all(Array.from({ length: 3000 }, () => intake.submit(submission(), within(5000))));
  clearImmediate(timer);
  // 256 emails a group at most.
  expect(turns).toBeGreaterThanOrEqual(10);
});

test("what has left leaves no text behind", async () => {
  const folder = newFolder();
  const [intake, work] = [intakeOn(folder), workOn(folder)];
  await intake.submit(submission(), within(5000));
  await sendBatch(work);
  const connection = openConnection(folder);
  expect(connection.get("SELECT count(*) AS count FROM emails")).toEqual({ count: 0 });
  expect(connection.get("SELECT count(*) AS count FROM places")).toEqual({ count: 0 });
  connection.close();
});

test("a claim repeated after its answer was forgotten takes nothing under the old id", async () => {
  const folder = newFolder();
  const [intake, work] = [intakeOn(folder), workOn(folder)];
  await intake.submit(submission(), within(5000));
  const request = claimRequest();
  const { batch } = (await work.claim(request)) as { batch: Parameters<typeof work.settle>[0] };
  await work.settle(batch, { fates: [], rest: { delayMs: 3_600_000, notes: "" }, counts: {} });
  const connection = openConnection(folder);
  connection.run("DELETE FROM claimants");
  connection.close();
  await intake.submit(submission(), within(5000));
  expect(await work.claim(request)).toEqual({ kind: "spent" });
});
