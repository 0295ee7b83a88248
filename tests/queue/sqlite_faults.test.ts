// The embedded queue when its file, its disk or another process on it fails.

import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { Database } from "bun:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Consumer } from "../../lib/queue/contract.ts";
import { ClockWatch, type Moment } from "../../lib/queue/clock_watch.ts";
import { stampClock, stepSince } from "../../lib/queue/sqlite/clock_steps.ts";
import { openConnection, StoreUnusable } from "../../lib/queue/sqlite/connection.ts";
import { openSqliteProducer } from "../../lib/queue/sqlite/producer.ts";
import { openSqliteAdmin } from "../../lib/queue/sqlite/admin.ts";
import { applicationId, format, schema } from "../../lib/queue/sqlite/schema.ts";
import { listen, wake } from "../../lib/queue/sqlite/wakeup.ts";
import { openSqliteConsumer } from "../../lib/queue/sqlite/consumer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { startClock } from "../support/clock.ts";
import { eventually } from "../support/eventually.ts";
import { recordingLog, silent } from "../support/log.ts";
import { connectRaw } from "../support/raw_http.ts";
import { startProcess } from "../support/service.ts";
import { hasSmallDisk, onSmallDisk, orWhyNot, removeSmallDisk } from "../support/small_disk.ts";
import { endedRequest, serving, soon, submission } from "./conformance_tools.ts";

const root = mkdtempSync(join(tmpdir(), "reliable-email-sqlite-faults-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = () => join(root, String((folders += 1)));

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

interface Over {
  readonly clockOffsetMs?: () => number;
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
function producerOn(folder: string, over: Over = {}) {
  const producer = openSqliteProducer(optionsFor(folder, over));
  closing.push(() => producer.close());
  return producer;
}
function consumerOn(folder: string, over: Over = {}) {
  const consumer = openSqliteConsumer(optionsFor(folder, over));
  closing.push(() => consumer.close());
  return consumer;
}
async function adminOn(folder: string) {
  const admin = await openSqliteAdmin(optionsFor(folder));
  closing.push(() => admin.close());
  return admin;
}

/** Claims a batch and settles it as sent. Returns false if nothing is due. */
async function sendBatch(consumer: Consumer): Promise<boolean> {
  const result = await consumer.claim(claimRequest());
  if (result.kind !== "batch") return false;
  const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
  await consumer.settle(result.batch, { fates, counts: {} });
  return true;
}

/** Starts another process and freezes it inside a transaction. */
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

describe("sqlite: a process frozen inside a transaction", () => {
  test("fails others' submissions by their deadline, and never blocks their event loop", async () => {
    const folder = newFolder();
    const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
    expect((await producer.submit(submission(), soon())).kind).toBe("stored");
    const frozen = await freezeInTransaction(folder);

    let ticks = 0;
    const ticking = setInterval(() => (ticks += 1), 10);
    // It stays frozen, so only their deadline answers them.
    const deadlineMs = performance.now() + 1500;
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => producer.submit(submission(), deadlineMs)),
    );
    clearInterval(ticking);
    for (const answer of answers) {
      expect(answer).toMatchObject({ kind: "failed", reason: "another process holds the queue's file" });
    }
    // About 150 on an idle machine; a single wait inside SQLite would leave none.
    expect(ticks).toBeGreaterThan(3);
    // Reads continue.
    expect((await (await adminOn(folder)).stats()).states.waiting).toBe(1);

    const waiting = producer.submit(submission(), soon());
    const claimed = consumer.claim(claimRequest());
    frozen.kill("SIGCONT");
    expect((await waiting).kind).toBe("stored");
    expect((await claimed).kind).toBe("batch");
    await frozen.exited;
    const { counters } = await (await adminOn(folder)).stats();
    expect(counters).toEqual({ frozen: 1 });
  });

  test("and then killed leaves nothing behind", async () => {
    const folder = newFolder();
    const producer = producerOn(folder);
    expect((await producer.submit(submission(), soon())).kind).toBe("stored");
    const frozen = await freezeInTransaction(folder);
    const waiting = producer.submit(submission(), soon());
    frozen.kill("SIGKILL");
    expect((await waiting).kind).toBe("stored");
    const { counters, states } = await (await adminOn(folder)).stats();
    expect(counters).toEqual({});
    expect(states.waiting).toBe(2);
  });

  test("finally fails a claim as unavailable, and the same claim succeeds later", async () => {
    const folder = newFolder();
    const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
    const one = submission();
    await producer.submit(one, soon());
    const frozen = await freezeInTransaction(folder);
    const request = claimRequest();
    await expect(consumer.claim(request)).rejects.toThrow("has held the queue's file");
    frozen.kill("SIGCONT");
    await frozen.exited;
    expect(await consumer.claim(request)).toMatchObject({ kind: "batch", batch: { lease: 1 } });
  });
});

const isPermitted = Bun.spawnSync(["unshare", "-rm", "true"]).success;

/** Bytes that have arrived at a local port and were not read by its listener. */
function unreadBytes(port: number): number {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) => readFileSync(file, "utf8").split("\n"));
  return lines.reduce((sum, line) => {
    const [, local, , , queues] = line.trim().split(/\s+/);
    return local?.endsWith(suffix) ? sum + Number.parseInt(queues!.split(":")[1]!, 16) : sum;
  }, 0);
}

describe("sqlite: the file", () => {
  test("and its folder are accessible only to their owner", async () => {
    const folder = join(newFolder(), "deep", "er");
    const producer = producerOn(folder);
    await producer.submit(submission(), soon());
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(folder)) {
      expect(`${name} ${(statSync(join(folder, name)).mode & 0o777).toString(8)}`).toBe(`${name} 600`);
    }
    expect(readdirSync(folder)).toContain("queue.db");
  });

  test("can be created by many processes concurrently", async () => {
    const folder = newFolder();
    // All at the same instants, and often, because races between them are rare.
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
      expect((await (await adminOn(one)).stats()).counters).toEqual({ opened: 6 });
    }
  });

  test("of a newer version is not changed", () => {
    const folder = newFolder();
    openConnection(folder).close();
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${format + 1}`);
    newer.close();
    let fatal = "";
    producerOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect(fatal).toContain(`has format ${format + 1}, this version reads and writes format`);
  });

  test("that becomes one of a newer version is no longer written to", async () => {
    const folder = newFolder();
    let fatal = "";
    const producer = producerOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect((await producer.submit(submission(), soon())).kind).toBe("stored");
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${format + 1}`);
    newer.close();
    const answers = await Promise.all(
      Array.from({ length: 600 }, async () => {
        const { kind } = await producer.submit(submission(), soon());
        return `${kind}, ${fatal === "" ? "and before that is fatal" : "too late"}`;
      }),
    );
    // The submissions that met it fail, and those after them are answered too.
    expect(answers[0]).toBe("failed, and before that is fatal");
    expect(answers.filter((answer) => answer.startsWith("stored"))).toEqual([]);
    await eventually("it is reported", () => fatal.includes("has format"));
  });

  test("that becomes one of a newer version ends a server, after it has answered the requests that have arrived", async () => {
    const folder = newFolder();
    const server = startProcess("server.ts", { PORT: "0", DATA_DIR: folder });
    const port = Number((await server.event("server-listening"))["port"]);
    const head = (length: number) =>
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
    const body = JSON.stringify({
      subject: "Hi",
      body: "Hello",
      to: "jane@example.org",
      from: "shop@example.com",
    });
    const connections = await Promise.all(Array.from({ length: 30 }, () => connectRaw(port)));
    // The server has accepted each connection by now: one that it has not would be lost with its port.
    for (const one of connections) one.write(head(body.length) + body);
    await Promise.all(connections.map((one) => one.received(/^HTTP\/1.1 200 .*"ok":true/s)));

    const newer = new Database(join(folder, "queue.db"));
    newer.run("BEGIN IMMEDIATE");
    newer.run(`PRAGMA user_version = ${format + 1}`);
    for (const [i, one] of connections.entries()) one.write(head(body.length) + (i % 2 === 0 ? body : "{"));
    await eventually("the server has read them all", () => unreadBytes(port) === 0);
    newer.run("COMMIT");
    newer.close();
    const answers = await Promise.all(connections.map((one) => one.closed()));
    for (const answer of answers) expect(answer).toMatch(/HTTP\/1.1 [45]00 .*"ok":false/s);
    expect(await server.exited).toBe(1);
    expect(await server.event("store-unusable")).toMatchObject({
      reason: expect.stringContaining("has format"),
    });
  });

  test("that becomes one of a newer version is no longer read", async () => {
    const folder = newFolder();
    let fatal = "";
    const consumer = consumerOn(folder, { onFatal: (reason) => (fatal = reason) });
    expect((await consumer.claim(claimRequest())).kind).toBe("empty");
    const newer = new Database(join(folder, "queue.db"));
    newer.run(`PRAGMA user_version = ${format + 1}`);
    newer.close();
    await expect(consumer.claim(claimRequest())).rejects.toThrow("has format");
    await eventually("it is reported", () => fatal.includes("has format"));
  });

  test("is opened so that a commit is on disk when it returns", () => {
    const connection = openConnection(newFolder());
    expect(connection.get("PRAGMA journal_mode")).toEqual({ journal_mode: "wal" });
    // FULL: each commit is fsynced.
    expect(connection.get("PRAGMA synchronous")).toEqual({ synchronous: 2 });
    connection.close();
  });

  test("restored from a backup, which has no log yet, accepts emails immediately", async () => {
    const [folder, restored] = [newFolder(), newFolder()];
    openConnection(folder).close();
    mkdirSync(restored);
    const db = new Database(join(folder, "queue.db"));
    db.run("VACUUM INTO ?", [join(restored, "queue.db")]);
    db.close();
    expect((await producerOn(restored).submit(submission(), soon())).kind).toBe("stored");
  });

  test.each([
    ["is not a database", (path: string) => writeFileSync(path, "x".repeat(10_000)), "is not a database"],
    [
      "belongs to another program",
      (path: string) => {
        const other = new Database(path);
        other.run("CREATE TABLE theirs (x)");
        other.close();
      },
      "another program",
    ],
    ["is a folder", (path: string) => mkdirSync(path), "cannot be opened"],
  ])("that %s is left alone and named", (_, make, text) => {
    const folder = newFolder();
    mkdirSync(folder);
    const path = join(folder, "queue.db");
    make(path);
    expect(() => openConnection(folder)).toThrow(text);
    expect(() => openConnection(folder)).toThrow(StoreUnusable);
    expect(() => openConnection(folder)).toThrow(path);
  });

  test("that is damaged fails submissions with a reason, and stays unchanged", async () => {
    const folder = newFolder();
    const first = producerOn(folder);
    await Promise.all(Array.from({ length: 500 }, () => first.submit(submission(), soon())));
    await first.close();
    const path = join(folder, "queue.db");
    const db = new Database(path);
    // The list of tables is still readable: only their root pages are lost.
    const roots = db.prepare("SELECT rootpage AS page FROM sqlite_schema WHERE rootpage > 1").all();
    db.close();
    const bytes = new Uint8Array(await Bun.file(path).arrayBuffer());
    for (const { page } of roots as { page: number }[]) bytes.fill(0x5a, 4096 * (page - 1), 4096 * page);
    await Bun.write(path, bytes);
    const log = recordingLog();
    const [producer, consumer] = [producerOn(folder, { log }), consumerOn(folder)];
    expect(await producer.submit(submission(), soon())).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("is damaged"),
    });
    await expect(consumer.claim(claimRequest())).rejects.toThrow("is damaged");
    expect(log.events("store-failed")[0]).toMatchObject({ reason: expect.stringContaining("is damaged") });
    expect(producer.health()).toMatchObject({ ok: false });
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
  ])("that is %s under a running process accepts and delivers nothing more", async (_, change) => {
    const folder = newFolder();
    const log = recordingLog();
    const [producer, consumer] = [producerOn(folder, { log }), consumerOn(folder)];
    expect((await producer.submit(submission(), soon())).kind).toBe("stored");
    change(join(folder, "queue.db"));
    expect(await producer.submit(submission(), soon())).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("removed or replaced"),
    });
    // Repeated as by a worker: the first claim may have been written where nobody finds it.
    const request = claimRequest();
    await expect(consumer.claim(request)).rejects.toThrow("removed or replaced");
    await expect(consumer.claim(request)).rejects.toThrow("removed or replaced");
    expect(producer.health().ok).toBe(false);
    await eventually("it is reported", () => log.events("store-failed").length > 0);
  });

  test.skipIf(!isPermitted)(
    "in a folder that becomes inaccessible is reported until it is accessible again",
    async () => {
      const folder = newFolder();
      const code = `
      const { chmodSync } = require("node:fs");
      const { openSqliteProducer } = await import(${JSON.stringify(join(import.meta.dir, "../../lib/queue/sqlite/producer.ts"))});
      const { submission } = await import(${JSON.stringify(join(import.meta.dir, "conformance_tools.ts"))});
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const options = { folder: ${JSON.stringify(folder)}, log, onFatal: (reason) => console.log("fatal", reason) };
      const producer = openSqliteProducer(options);
      const submit = () => producer.submit(submission(), performance.now() + 5000);
      const before = await submit();
      chmodSync(options.folder, 0);
      const { reason } = await submit();
      const health = producer.health();
      chmodSync(options.folder, 0o700);
      const after = await submit();
      console.log(JSON.stringify({ before: before.kind, reason, health, after: after.kind }));
      process.exit(0);`;
      // Root could still enter it, but not a root without its privileges.
      const child = Bun.spawn(["unshare", "-U", process.execPath, "-e", code], {
        cwd: join(import.meta.dir, "../.."),
        stdout: "pipe",
        stderr: "inherit",
      });
      const outcome = JSON.parse(await new Response(child.stdout).text());
      expect(outcome).toEqual({
        before: "stored",
        reason: expect.stringMatching(
          /^DATA_DIR .* cannot be entered by user \d+ \(EACCES\): restore its permissions$/,
        ),
        health: { ok: false, reason: outcome.reason },
        after: "stored",
      });
    },
  );

  test("in a read-only folder is refused immediately", () => {
    // Not even root can create one there.
    expect(() => openConnection("/proc/reliable-email")).toThrow(
      "DATA_DIR /proc/reliable-email cannot be written to",
    );
  });

  test.each([
    ["its folder", ""],
    ["itself", "queue.db"],
  ])("is refused immediately and named if %s is a dangling symbolic link", async (_, name) => {
    const folder = newFolder();
    if (name !== "") mkdirSync(folder);
    const link = join(folder, name);
    symlinkSync(join(root, "nowhere"), link);
    const text = `symbolic link to ${join(root, "nowhere")}, which does not exist`;
    expect(() => openConnection(folder)).toThrow(text);
    expect(() => openConnection(folder)).toThrow(StoreUnusable);
    await expect(adminOn(folder)).rejects.toThrow(text);
    expect(existsSync(join(root, "nowhere"))).toBe(false);
  });

  test("in a folder that is a file is refused immediately", () => {
    const folder = newFolder();
    writeFileSync(folder, "");
    expect(() => openConnection(folder)).toThrow(`${folder} is a file, not a directory`);
    const below = join(folder, "data");
    expect(() => openConnection(below)).toThrow(`DATA_DIR ${below} cannot be created: ${folder} is a file`);
  });
});

describe("sqlite: an operator", () => {
  test("waits for a file that another process locks for a moment", async () => {
    const folder = newFolder();
    openConnection(folder).close();
    const other = new Database(join(folder, "queue.db"));
    other.run("PRAGMA locking_mode = EXCLUSIVE");
    other.run("BEGIN EXCLUSIVE");
    const opening = adminOn(folder);
    other.run("COMMIT");
    other.close();
    expect((await (await opening).stats()).states.waiting).toBe(0);
  });

  test("gets the reason why a file cannot be used", async () => {
    const folder = newFolder();
    mkdirSync(folder);
    writeFileSync(join(folder, "queue.db"), "x".repeat(10_000));
    await expect(adminOn(folder)).rejects.toThrow("is not a database");
  });
});

describe("sqlite: a file of the previous release", () => {
  /** Created and filled as by that release. */
  function older(folder: string): Database {
    mkdirSync(folder);
    const db = new Database(join(folder, "queue.db"), { create: true });
    db.run(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${format}; ${schema}`);
    db.run("INSERT INTO emails (id, submitted_at, text) VALUES ('waiting', 1, ?)", [submission().text]);
    db.run("INSERT INTO places (id, size, due_at, provider) VALUES ('waiting', 100, 1, '')");
    return db;
  }
  const schemaOf = (db: Database) => db.prepare("SELECT sql FROM sqlite_schema ORDER BY name").values();

  test("is not changed by commands, which say what to start first", async () => {
    const folder = newFolder();
    const db = older(folder);
    const before = schemaOf(db);
    await expect(adminOn(folder)).rejects.toThrow(
      "is of an older version: start the server or the worker of this version first",
    );
    expect(schemaOf(db)).toEqual(before);
    db.close();
  });

  test("keeps its data and its format number, so that both releases can use it", async () => {
    const folder = newFolder();
    const db = older(folder);
    const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
    await consumer.compatible;
    const one = submission({ isHidden: true });
    await producer.submit(one, soon());
    expect(db.prepare("PRAGMA user_version").values()).toEqual([[2]]);
    db.close();
    expect(await consumer.claim(claimRequest())).toMatchObject({
      batch: { emails: [{ id: "waiting" }, { id: one.id }] },
    });
  });
});

test("sqlite: a command creates nothing", async () => {
  const folder = newFolder();
  const producer = producerOn(folder);
  await producer.submit(submission(), soon());
  await producer.close();
  expect(readdirSync(folder)).not.toContain("queue.wake");
  const before = readdirSync(folder);
  const admin = await adminOn(folder);
  await admin.setPaused(true);
  await admin.setPaused(false);
  await admin.close();
  expect(readdirSync(folder)).toEqual(before);
  const missing = newFolder();
  await expect(adminOn(missing)).rejects.toThrow("there is no queue");
  expect(existsSync(missing)).toBe(false);
});

test("sqlite: processes whose own clock is ahead for a moment strand nothing, and queue nothing twice", async () => {
  const clock = startClock();
  try {
    const folder = newFolder();
    const code = `
      const { openSync, writeSync } = require("node:fs");
      const lib = ${JSON.stringify(join(import.meta.dir, "../../lib/queue/sqlite"))};
      const { openSqliteProducer } = await import(lib + "/producer.ts");
      const { openSqliteConsumer } = await import(lib + "/consumer.ts");
      const { openSqliteAdmin } = await import(lib + "/admin.ts");
      const { submission, serving } = await import(${JSON.stringify(join(import.meta.dir, "conformance_tools.ts"))});
      const offset = openSync(process.env.CHAOS_CLOCK, "r+");
      const setAhead = (days) => writeSync(offset, new BigInt64Array([BigInt(days * 86_400_000) * 1_000_000n]), 0, 8, 0);
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const onFatal = (reason) => { throw new Error(reason); };
      const options = { folder: ${JSON.stringify(folder)}, retainMs: 3_600_000, log, onFatal };
      const [intake, ...works] = [openSqliteProducer(options), openSqliteConsumer(options), openSqliteConsumer(options)];
      const operator = await openSqliteAdmin(options);
      const submit = async (over) => {
        const result = await intake.submit(submission(over), performance.now() + 5000);
        return result.id + (result.repeated ? " again" : "");
      };
      const keyed = () => submit({ idempotency: { key: "k", fingerprint: "f", token: "" } });
      const sweep = async () => {
        for (const [i, work] of works.entries()) await work.sweep({ ...serving("resend"), worker: String(i) });
      };
      const claim = async (sources) => {
        const over = { claimId: Bun.randomUUIDv7(), claimant: Bun.randomUUIDv7(), sources };
        const result = await works[0].claim({ ...${JSON.stringify(claimRequest())}, ...over });
        return result.batch;
      };
      const first = await keyed();
      await sweep();
      const before = await claim(["emails"]);
      const seen = [];
      for (const days of [25 / 24, 365]) {
        setAhead(days);
        await sweep();
        const then = await submit();
        const ended = await works[1].claimEnded({ claimant: "c", number: 1, leaseMs: 1000 });
        const { clockStep } = await operator.stats();
        const isKnown = (await keyed()) === first + " again";
        setAhead(0);
        await sweep();
        const claimed = await claim(["emails"]);
        seen.push({
          isKnown: isKnown && (await keyed()) === first + " again",
          ended: ended.kind,
          isSeen: clockStep.byMs > 86_400_000,
          isClaimed: claimed?.emails[0].id === then,
        });
      }
      const { leaseHeld } = await works[0].settle(before, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
      const after = await claim(["batches"]);
      const movedMs = after.doubtEndsAtMs - before.doubtEndsAtMs;
      console.log(JSON.stringify({ seen, leaseHeld, movedMs }));
      process.exit(0);`;
    const child = Bun.spawn([process.execPath, "-e", code], {
      cwd: join(import.meta.dir, "../.."),
      env: { ...process.env, ...clock.env },
      stdout: "pipe",
      stderr: "inherit",
    });
    const outcome = JSON.parse(await new Response(child.stdout).text());
    const right = { isKnown: true, ended: "empty", isSeen: true, isClaimed: true };
    expect(outcome).toEqual({ seen: [right, right], leaseHeld: true, movedMs: expect.any(Number) });
    // As exact as steps are measured, but never later.
    expect(outcome.movedMs).toBeWithin(-60_000, 1);
  } finally {
    clock.stop();
  }
});

describe("sqlite: a step of the clock that no sweep has noticed yet", () => {
  let offsetMs = 0;
  const clock = { clockOffsetMs: () => offsetMs };

  test("ends no doubt", async () => {
    const folder = newFolder();
    const [producer, consumer] = [producerOn(folder), consumerOn(folder, clock)];
    await producer.submit(submission(), soon());
    await consumer.claim(claimRequest());
    await consumer.sweep(serving("resend"));
    offsetMs = 3 * 3_600_000;
    expect((await consumer.claimEnded(endedRequest())).kind).toBe("empty");
    expect((await (await adminOn(folder)).stats()).clockStep).toBeDefined();
    offsetMs = 0;
  });

  test("is not found if the process was frozen while it read its clocks", () => {
    const connection = openConnection(newFolder());
    let monotonicMs = 0;
    const watch = new ClockWatch(() => monotonicMs);
    const stepFrom = (now: Omit<Moment, "beganMs">, lookedMs: number) => {
      monotonicMs = lookedMs;
      connection.now = { beganMs: now.monotonicMs, ...now };
      return stepSince(connection, watch);
    };
    const stampAt = (atMs: number) => {
      connection.now = { ...connection.now, atMs };
      stampClock(connection);
    };
    expect(stepFrom({ monotonicMs: 0, atMs: 1000 }, 0)).toBe("unwatched");
    stampAt(1000);
    expect(stepFrom({ monotonicMs: 0, atMs: 1000 }, 0)).toBe(0);
    // Frozen between the two clocks, and then before it has read another process's stamp.
    expect(stepFrom({ monotonicMs: 1000, atMs: 102_000 }, 101_000)).toBe(0);
    expect(stepFrom({ monotonicMs: 102_000, atMs: 103_000 }, 202_000)).toBe(0);
    stampAt(153_000);
    expect(stepFrom({ monotonicMs: 203_000, atMs: 204_000 }, 203_000)).toBe(0);
    // It still finds other steps.
    expect(stepFrom({ monotonicMs: 204_000, atMs: 405_000 }, 204_000)).toBeWithin(100_000, 200_001);
    expect(stepFrom({ monotonicMs: 205_000, atMs: 5000 }, 205_000)).toBeWithin(-201_000, -100_000);
    connection.close();
  });

  test("is left by a new worker to one that knows how much time has passed", async () => {
    const folder = newFolder();
    const [producer, consumer] = [producerOn(folder), consumerOn(folder, clock)];
    await producer.submit(submission(), soon());
    await consumer.sweep(serving("resend"));
    const before = await consumer.claim(claimRequest());
    if (before.kind !== "batch") throw new Error(before.kind);
    await consumer.settle(before.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
    offsetMs = 365 * 24 * 3_600_000;
    await producer.submit(submission(), soon());
    const started = consumerOn(folder, clock);
    const presence = { ...serving("resend"), worker: Bun.randomUUIDv7() };
    const anew = () => claimRequest();
    await started.claim({ ...anew(), sources: ["emails"] });
    await started.sweep(presence);
    await consumer.sweep(serving("resend"));
    expect((await (await adminOn(folder)).stats()).clockStep?.byMs).toBeGreaterThan(offsetMs - 10_000);
    offsetMs = 0;
    await started.sweep(presence);
    const after = await consumer.claim({ ...anew(), sources: ["batches"] });
    if (after.kind !== "batch") throw new Error(after.kind);
    const movedMs = after.batch.doubtEndsAtMs - before.batch.doubtEndsAtMs;
    expect(after.batch.id).toBe(before.batch.id);
    expect(movedMs).toBeWithin(-60_000, 1);
  });

  test("back does not change the end of a doubt that begins after it", async () => {
    const folder = newFolder();
    const [producer, consumer] = [producerOn(folder), consumerOn(folder, clock)];
    await consumer.sweep(serving("resend"));
    await producer.submit(submission(), soon());
    await consumer.sweep(serving("resend"));
    offsetMs = -3_600_000;
    await producer.close();
    const later = openSqliteProducer({ ...optionsFor(folder), ...clock });
    closing.push(() => later.close());
    const one = submission();
    await later.submit(one, soon());
    const result = await consumer.claim(claimRequest());
    if (result.kind !== "batch") throw new Error(result.kind);
    expect(result.batch.emails).toMatchObject([{ id: one.id }]);
    await consumer.sweep(serving("resend"));
    await consumer.settle(result.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
    const again = await consumer.claim(claimRequest({ sources: ["batches"] }));
    expect(again).toMatchObject({ batch: { doubtEndsAtMs: result.batch.doubtEndsAtMs } });
    offsetMs = 0;
  });
});

test("sqlite: nothing expires for an hour after a time without workers, since nobody knows how much time has passed", async () => {
  const folder = newFolder();
  let [offsetMs, passedMs] = [0, 0];
  const options = {
    ...optionsFor(folder),
    clockOffsetMs: () => offsetMs,
    monotonicOffsetMs: () => passedMs,
  };
  const producer = openSqliteProducer(options);
  closing.push(() => producer.close());
  const submit = async () => {
    const idempotency = { key: "key", fingerprint: "a", token: "" };
    return producer.submit(submission({ idempotency }), soon());
  };
  const start = async () => {
    const consumer = openSqliteConsumer(options);
    await consumer.compatible;
    await consumer.sweep(serving("resend"));
    return consumer;
  };
  const advance = (ms: number) => {
    offsetMs += ms;
    passedMs += ms;
  };
  await submit();
  await (await start()).close();
  advance(25 * 3_600_000);
  await (await start()).close();
  expect(await submit()).toMatchObject({ repeated: true });
  // Workers that never run for a whole hour finally expire it too.
  for (let hours = 0; hours < 2; hours += 1) {
    advance(3_600_000);
    await (await start()).close();
  }
  expect(await submit()).toMatchObject({ kind: "stored", repeated: false });
  const { clockStep } = await (await adminOn(folder)).stats();
  expect(clockStep).toBeUndefined();
});

test("sqlite: a key used while the clock was a year ahead is free a day after the clock is trusted", async () => {
  const folder = newFolder();
  let [offsetMs, passedMs] = [0, 0];
  const options = {
    ...optionsFor(folder),
    clockOffsetMs: () => offsetMs,
    monotonicOffsetMs: () => passedMs,
  };
  const [producer, consumer] = [openSqliteProducer(options), openSqliteConsumer(options)];
  closing.push(
    () => producer.close(),
    () => consumer.close(),
  );
  const submit = (fingerprint: string) =>
    producer.submit(submission({ idempotency: { key: "key", fingerprint, token: "" } }), soon());
  const sweepAt = async (hours: number) => {
    [offsetMs, passedMs] = [hours * 3_600_000, hours * 3_600_000];
    await consumer.sweep(serving("resend"));
  };
  await sweepAt(0);
  offsetMs = 365 * 24 * 3_600_000;
  await submit("a");
  await sweepAt(0);
  await sweepAt(2);
  expect(await submit("b")).toEqual({ kind: "conflict" });
  await sweepAt(27);
  expect((await submit("b")).kind).toBe("stored");
});

test("sqlite: a new email wakes a sleeping worker", async () => {
  const folder = newFolder();
  const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
  let wakes = 0;
  consumer.onWake(() => (wakes += 1));
  await consumer.compatible;
  await eventually("it has been woken by the start", () => wakes > 0);
  const before = wakes;
  await producer.submit(submission(), soon());
  await eventually("it is woken", () => wakes > before);
});

test("sqlite: an email right after another wakes a worker too", async () => {
  const folder = newFolder();
  mkdirSync(folder, { recursive: true });
  let wakes = 0;
  const stop = listen(folder, () => (wakes += 1), silent);
  try {
    for (let i = 0; i < 25; i += 1) {
      const before = wakes;
      wake(folder);
      // Not `eventually`, because the next email has to follow within a millisecond.
      while (wakes === before) await new Promise<void>((resolve) => setImmediate(resolve));
      const between = wakes;
      wake(folder);
      await eventually("the second wakes it", () => wakes > between);
      await Bun.sleep(5);
    }
  } finally {
    stop();
  }
});

test("sqlite: an idle worker writes nothing", async () => {
  const folder = newFolder();
  const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
  await producer.submit(submission(), soon());
  await sendBatch(consumer);
  await consumer.sweep(serving("resend"));
  const written = () => {
    const { size, mtimeNs } = statSync(join(folder, "queue.db-wal"), { bigint: true });
    return `${size} ${mtimeNs}`;
  };
  const before = written();
  for (let i = 0; i < 50; i += 1) {
    expect((await consumer.claim(claimRequest())).kind).toBe("empty");
    expect((await consumer.claimEnded(endedRequest())).kind).toBe("empty");
    await consumer.sweep(serving("resend"));
  }
  expect(written()).toBe(before);
});

/** Runs a scenario of full_disk_process.ts with its own file system mounted at its folder. */
async function runOnSmallDisk(options: string, scenario: string): Promise<unknown> {
  const folder = newFolder();
  mkdirSync(folder);
  const script = [process.execPath, join(import.meta.dir, "full_disk_process.ts"), folder, scenario];
  const child = Bun.spawn(onSmallDisk(folder, options, script), { stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const code = await child.exited;
  removeSmallDisk(folder);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

describe.skipIf(!hasSmallDisk)(`sqlite: a disk${orWhyNot}`, () => {
  test("that fills up accepts no new emails, and its emails are delivered", async () => {
    expect(await runOnSmallDisk("size=80m", "delivery-goes-on")).toEqual({
      refusal: "the disk of DATA_DIR is nearly full: its last 64 MiB are reserved for delivery",
      lost: 0,
      acceptsAgain: true,
    });
  });

  test.each(["burst-of-large-ones", "burst-of-files", "one-that-is-too-large", "log-that-cannot-be-emptied"])(
    "keeps the reserve for delivery, whatever is submitted: %s",
    async (scenario) => {
      expect(await runOnSmallDisk("size=200m", scenario)).toEqual({
        refusals: ["the disk of DATA_DIR is nearly full: its last 64 MiB are reserved for delivery"],
        lost: 0,
      });
    },
  );

  test("that is full to the last byte stops everything until there is space, and nothing is lost", async () => {
    expect(await runOnSmallDisk("size=80m", "to-the-last-byte")).toEqual({
      claim: expect.stringContaining("is full"),
      sent: 50,
      lost: 0,
      acceptsAgain: true,
    });
  });

  test("without inodes counts as full, and is waited for", async () => {
    expect(await runOnSmallDisk("size=80m,nr_inodes=64", "without-inodes")).toEqual({
      failed: "the disk of DATA_DIR is full (ENOSPC): it has no inodes left",
      later: "the disk of DATA_DIR is full (ENOSPC): it has no inodes left",
      acceptsAgain: true,
    });
  });

  test("that is full from the start is waited for", async () => {
    expect(await runOnSmallDisk("size=80m", "from-the-start")).toEqual({
      failed: expect.stringContaining("is full"),
      acceptsAgain: true,
    });
  });
});

test("sqlite: deliveries without a request leave turns of the event loop to others", async () => {
  const folder = newFolder();
  const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
  await Promise.all(Array.from({ length: 2000 }, () => producer.submit(submission(), soon())));
  let turns = 0;
  const count = () => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  let batches = 0;
  while (await sendBatch(consumer)) batches += 1;
  clearImmediate(timer);
  expect(batches).toBe(20);
  expect(turns).toBeGreaterThanOrEqual(batches);
});

test("sqlite: groups of submissions leave turns of the event loop to others", async () => {
  const producer = producerOn(newFolder());
  expect((await producer.submit(submission(), soon())).kind).toBe("stored");
  let turns = 0;
  const count = () => {
    turns += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  await Promise.all(Array.from({ length: 3000 }, () => producer.submit(submission(), soon())));
  clearImmediate(timer);
  // At most 256 emails per group.
  expect(turns).toBeGreaterThanOrEqual(10);
});

test("sqlite: sent and deleted emails leave no text behind", async () => {
  const folder = newFolder();
  const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
  await producer.submit(submission(), soon());
  await sendBatch(consumer);
  const connection = openConnection(folder);
  expect(connection.get("SELECT count(*) AS count FROM emails")).toEqual({ count: 0 });
  expect(connection.get("SELECT count(*) AS count FROM places")).toEqual({ count: 0 });
  connection.close();
});

test("sqlite: a claim repeated after its answer was forgotten takes nothing under the old id", async () => {
  const folder = newFolder();
  const [producer, consumer] = [producerOn(folder), consumerOn(folder)];
  await producer.submit(submission(), soon());
  const request = claimRequest();
  const { batch } = (await consumer.claim(request)) as { batch: Parameters<typeof consumer.settle>[0] };
  await consumer.settle(batch, { fates: [], rest: { delayMs: 3_600_000, notes: "" }, counts: {} });
  const connection = openConnection(folder);
  connection.run("DELETE FROM claimants");
  connection.close();
  await producer.submit(submission(), soon());
  expect(await consumer.claim(request)).toEqual({ kind: "spent" });
});
