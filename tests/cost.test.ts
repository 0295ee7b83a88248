// The cost of a submission, a claim and a settlement in each store: round trips, commands or statements, bytes written,
// fsyncs. The limits are close to what the code does now, and count instead of measuring time. If a change exceeds one,
// it is either a mistake, or a price to be stated where the limit is raised.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeEmail } from "../lib/email/email.ts";
import { learnRate } from "../lib/policy/rate_limit.ts";
import type { Batch, Consumer, Producer, SharedRate, Submission } from "../lib/queue/contract.ts";
import { openConsumer, openProducer, type QueueSettings } from "../lib/queue/open.ts";
import { completeEmail } from "../bench/email.ts";
import { claimRequest } from "./support/claim_request.ts";
import { canTrace, countFsyncs } from "./support/fsyncs.ts";
import { silent } from "./support/log.ts";
import { type RedisServer, startRedis } from "./support/redis.ts";

const watcher = {
  log: silent,
  onFatal(reason: string) {
    throw new Error(reason);
  },
};

/** The life of emails in a queue, one step at a time. */
class Life {
  readonly #producer: Producer;
  readonly #consumer: Consumer;
  #batch: Batch | undefined;
  #rate: SharedRate | undefined;

  constructor(producer: Producer, consumer: Consumer) {
    this.#producer = producer;
    this.#consumer = consumer;
  }

  static async open(settings: QueueSettings): Promise<Life> {
    return new Life(await openProducer(settings, watcher), await openConsumer(settings, 3_600_000, watcher));
  }

  /** Once through all steps, so that what happens only once is over. */
  async begin(): Promise<void> {
    await this.#consumer.compatible;
    await this.pass(1, 0);
  }

  async pass(emails: number, pieces: number): Promise<void> {
    for (const step of steps) await this[step](emails, pieces);
  }

  /**
   * All in one turn of the event loop: one group.
   * @param pieces of files of each email
   */
  async submit(emails: number, pieces: number): Promise<void> {
    const results = await Promise.all(
      Array.from({ length: emails }, () =>
        this.#producer.submit(submissionOf(pieces), performance.now() + 60_000),
      ),
    );
    for (const { kind } of results) expect(kind).toBe("stored");
  }

  async claim(emails: number): Promise<void> {
    const claimed = await this.#consumer.claim(claimRequest({ countMax: emails, startPerSecond: 1000 }));
    if (claimed.kind !== "batch") throw new Error(claimed.kind);
    expect(claimed.batch.emails.length).toBe(emails);
    this.#batch = claimed.batch;
    this.#rate = claimed.rate;
  }

  /** The contents of their files, if they have any. */
  async read(_: number, pieces: number): Promise<void> {
    if (pieces === 0) return;
    for (const { id } of this.#batch!.emails)
      expect((await this.#consumer.readFiles(id))?.byteLength).toBe(pieces * pieceBytes);
  }

  async settle(emails: number): Promise<void> {
    const fates = this.#batch!.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
    const rate = learnRate(
      this.#rate!,
      { limitPerSecond: 1000 },
      { isThrottled: false, maxPerSecond: 1000, random: 0 },
    );
    await this.#consumer.settle(this.#batch!, {
      fates,
      counts: { "accepted:resend": emails },
      rate: { ...rate, credential: "c" },
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#producer.close(), this.#consumer.close()]);
  }
}

/** How much of a file a store writes and reads at a time. */
const pieceBytes = 256 * 1024;

function submissionOf(pieces: number): Submission {
  const id = Bun.randomUUIDv7();
  if (pieces === 0) return { id, text: encodeEmail(completeEmail) };
  const size = pieces * pieceBytes;
  const about = { filename: "a.pdf", content_type: "application/pdf", size, sha256: "0".repeat(64) };
  const text = encodeEmail({ ...completeEmail, attachments: [about] });
  return { id, text, isHidden: true, files: [new Uint8Array(size)] };
}

const title = "%s of %d, each with %d pieces of files, costs no more than it did";
const withoutFsyncs = canTrace ? "" : " (its fsyncs are not counted: processes cannot be traced here)";

const steps = ["submit", "claim", "read", "settle"] as const;
type Step = (typeof steps)[number];
type Costs = Readonly<Record<string, number>>;
/** For each step, of 1 email and of 100, and of one with four pieces of files. */
type Limits = readonly (readonly [Step, emails: number, pieces: number, Costs])[];

/** A store in use, and how its costs are counted. */
interface Measured {
  readonly life: Life;
  /** The process that writes. */
  readonly pid: number;
  readonly read: () => Costs;
}

function testLimits(limits: Limits, limitsAfterFiles: Limits, measured: () => Measured): void {
  const testEach = (some: Limits) =>
    test.each(some)(`${title}${withoutFsyncs}`, async (step, emails, pieces, limit) => {
      expectWithin(await costOf([step, emails, pieces], measured()), limit);
    });
  testEach(limits);
  describe("after an email with files", () => {
    beforeAll(() => measured().life.pass(1, 4));
    testEach(limitsAfterFiles);
  });
}

/** Takes emails through all steps, and returns what one of them cost: the difference of the counts, and the fsyncs. */
async function costOf(
  [step, emails, pieces]: readonly [Step, number, number],
  { life, pid, read }: Measured,
): Promise<Costs> {
  let costs: Costs = {};
  for (const one of steps) {
    if (one === step) costs = await measure(() => life[one](emails, pieces), pid, read);
    else await life[one](emails, pieces);
  }
  return costs;
}

/** @param pid the process that writes */
async function measure(body: () => Promise<void>, pid: number, read: () => Costs): Promise<Costs> {
  let costs: Costs = {};
  const count = async () => {
    const before = read();
    await body();
    const after = read();
    costs = Object.fromEntries(Object.entries(after).map(([name, total]) => [name, total - before[name]!]));
  };
  if (canTrace) return { fsyncs: await countFsyncs(pid, count), ...costs };
  await count();
  return { fsyncs: 0, ...costs };
}

/** Names what exceeds its limit. */
function expectWithin(costs: Costs, limits: Costs): void {
  const exceeded = Object.entries(limits).filter(([name, limit]) => costs[name]! > limit);
  expect(exceeded.map(([name, limit]) => `${name}: ${costs[name]} instead of ${limit}`)).toEqual([]);
}

describe("cost: Redis", () => {
  let redis: RedisServer;
  let life: Life;
  let pid: number;
  beforeAll(async () => {
    redis = await startRedis();
    pid = Number(/process_id:(\d+)/.exec(redis.cli("INFO", "server"))![1]);
    const { url } = redis;
    life = await Life.open({ kind: "redis", url, prefix: "cost", minReplicas: 0, durability: "verify" });
    await life.begin();
  });
  afterAll(async () => {
    await life.close();
    await redis.stop();
  });

  /** Commands with which the connections are checked now and then. */
  const checks = /^(info|ping|role|config|client|hello|select|command|auth|cluster|script|subscribe|time)\b/;

  function read(): Costs {
    const info = redis.cli("INFO", "all");
    const calls = [...info.matchAll(/^cmdstat_([\w|-]+):calls=(\d+)/gm)]
      .filter(([, name]) => !checks.test(name!))
      .map(([, name, count]) => [name!, Number(count)] as const);
    const isScript = (name: string) => name.startsWith("eval") || name === "wait";
    const sum = (which: typeof calls) => which.reduce((total, [, count]) => total + count, 0);
    return {
      roundTrips: sum(calls.filter(([name]) => isScript(name))),
      commands: sum(calls.filter(([name]) => !isScript(name))),
      bytes: Number(/^aof_current_size:(\d+)/m.exec(info)![1]),
    };
  }

  const limits: Limits = [
    ["submit", 1, 0, { roundTrips: 1, commands: 6, bytes: 900, fsyncs: 1 }],
    ["claim", 1, 0, { roundTrips: 1, commands: 26, bytes: 1500, fsyncs: 1 }],
    ["settle", 1, 0, { roundTrips: 1, commands: 18, bytes: 1250, fsyncs: 1 }],
    ["submit", 100, 0, { roundTrips: 1, commands: 6, bytes: 78_000, fsyncs: 1 }],
    ["claim", 100, 0, { roundTrips: 1, commands: 35, bytes: 18_700, fsyncs: 1 }],
    ["settle", 100, 0, { roundTrips: 1, commands: 18, bytes: 37_200, fsyncs: 1 }],
  ];
  /** Claims look at more lists once there has been a hidden email. */
  const limitsAfterFiles: Limits = [
    ["claim", 1, 0, { roundTrips: 1, commands: 31, bytes: 1500, fsyncs: 1 }],
    ["settle", 1, 0, { roundTrips: 1, commands: 19, bytes: 1250, fsyncs: 1 }],
    // The email, its four pieces, and the email again.
    ["submit", 1, 4, { roundTrips: 6, commands: 34, bytes: 1_050_900, fsyncs: 6 }],
    ["claim", 1, 4, { roundTrips: 1, commands: 34, bytes: 1500, fsyncs: 1 }],
    ["read", 1, 4, { roundTrips: 4, commands: 12, bytes: 0, fsyncs: 0 }],
    ["settle", 1, 4, { roundTrips: 1, commands: 22, bytes: 1500, fsyncs: 1 }],
  ];
  testLimits(limits, limitsAfterFiles, () => ({ life, pid, read }));
});

describe("cost: the embedded queue", () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-cost-"));
  const prepare = Database.prototype.prepare;
  const prepared: string[] = [];
  let statements = 0;
  let life: Life;
  beforeAll(async () => {
    Database.prototype.prepare = function prepareCounted(this: Database, ...parameters: [string]) {
      const statement = prepare.apply(this, parameters);
      prepared.push(parameters[0]);
      for (const name of ["run", "get", "all"] as const) {
        const execute = statement[name].bind(statement) as (...values: never[]) => unknown;
        statement[name] = ((...values: never[]) => {
          statements += 1;
          return execute(...values);
        }) as never;
      }
      return statement as never;
    };
    life = await Life.open({ kind: "sqlite", folder });
    await life.begin();
  });
  afterAll(async () => {
    await life.close();
    Database.prototype.prepare = prepare;
    rmSync(folder, { recursive: true });
  });

  /** This process writes the file. */
  const read = (): Costs => ({
    statements,
    bytes: Number(/^wchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))![1]),
  });

  const limits: Limits = [
    ["submit", 1, 0, { statements: 7, bytes: 22_000, fsyncs: 1 }],
    ["claim", 1, 0, { statements: 21, bytes: 34_000, fsyncs: 1 }],
    ["settle", 1, 0, { statements: 13, bytes: 54_000, fsyncs: 1 }],
    ["submit", 100, 0, { statements: 11, bytes: 137_000, fsyncs: 1 }],
    ["claim", 100, 0, { statements: 21, bytes: 63_000, fsyncs: 1 }],
    ["settle", 100, 0, { statements: 17, bytes: 161_000, fsyncs: 1 }],
  ];
  const limitsAfterFiles: Limits = [
    ["claim", 1, 0, { statements: 21, bytes: 34_000, fsyncs: 1 }],
    ["settle", 1, 0, { statements: 13, bytes: 54_000, fsyncs: 1 }],
    // Each piece is a transaction, and the email another. A checkpoint writes the pages once more, with three fsyncs.
    ["submit", 1, 4, { statements: 39, bytes: 2_600_000, fsyncs: 8 }],
    ["claim", 1, 4, { statements: 21, bytes: 34_000, fsyncs: 1 }],
    ["read", 1, 4, { statements: 20, bytes: 0, fsyncs: 0 }],
    ["settle", 1, 4, { statements: 14, bytes: 75_000, fsyncs: 1 }],
  ];
  testLimits(limits, limitsAfterFiles, () => ({ life, pid: process.pid, read }));

  test("no statement shows its parameters to the planner, which would prepare it again for each value", () => {
    expect(prepared.length).toBeGreaterThan(30);
    expect(prepared.filter((sql) => /(?<!\+)\?/.test(sql))).toEqual([]);
  });

  test(`claims that are made together share one fsync${withoutFsyncs}`, async () => {
    await life.submit(300, 0);
    const claims = () => Promise.all([life.claim(100), life.claim(100), life.claim(100)]);
    expectWithin(await measure(async () => void (await claims()), process.pid, read), { fsyncs: 1 });
  });
});
