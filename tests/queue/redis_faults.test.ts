// The queue on Redis when Redis, or the connection to it, fails.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import {
  type Batch,
  type Producer,
  QueueMissing,
  type Settlement,
  StoreUnavailable,
} from "../../lib/queue/contract.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { checkRedis, openRedisAdmin } from "../../lib/queue/redis/admin.ts";
import { RedisConsumer } from "../../lib/queue/redis/consumer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { recordingLog } from "../support/log.ts";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { submission } from "./conformance_tools.ts";
import { useRedisStores } from "./redis_stores.ts";

let shared: RedisServer;
beforeAll(async () => {
  shared = await startRedis();
});
afterAll(() => shared.stop());

const { closing, optionsFor, producerOn, consumerOn, adminOn } = useRedisStores("faults");

const within = (ms: number) => performance.now() + ms;

describe("redis: a reply that is lost", () => {
  for (const how of ["drop", "cut"] as const) {
    test(`(${how}) delays submissions within their deadline, and nothing is queued twice`, async () => {
      const proxy = await startProxy(shared.port);
      const options = optionsFor(`redis://127.0.0.1:${proxy.port}`);
      const producer = await producerOn(options);
      const admin = await adminOn({ ...options, url: shared.url });
      // Once Redis knows the script, a lost reply belongs to an execution.
      await producer.submit(submission(), within(5000));
      proxy.replies = how;
      const ones = Array.from({ length: 50 }, () => submission());
      const answers = ones.map((one) => producer.submit(one, within(15_000)));
      await eventually("Redis has them", async () => (await admin.stats()).states.waiting === 51);
      await eventually("a reply is lost", () => proxy.lost > 0);
      proxy.cutAll();
      proxy.replies = "pass";
      expect(await Promise.all(answers)).toEqual(
        ones.map(({ id }) => ({ kind: "stored", id, repeated: true })),
      );
      expect((await admin.stats()).states.waiting).toBe(51);
      proxy.stop();
    });
  }

  test("forever leads to a failure by the deadline", async () => {
    const proxy = await startProxy(shared.port);
    const producer = await producerOn(optionsFor(`redis://127.0.0.1:${proxy.port}`));
    proxy.replies = "drop";
    const startMs = performance.now();
    expect((await producer.submit(submission(), within(600))).kind).toBe("failed");
    expect(performance.now() - startMs).toBeWithin(590, 1500);
    proxy.stop();
  });

  test("to a claim strands nothing", async () => {
    const proxy = await startProxy(shared.port);
    const options = optionsFor(`redis://127.0.0.1:${proxy.port}`);
    const producer = await producerOn({ ...options, url: shared.url });
    const consumer = await consumerOn(options);
    const one = submission();
    await producer.submit(one, within(5000));
    proxy.replies = "cut";
    const request = claimRequest();
    expect(consumer.claim(request)).rejects.toThrow();
    await eventually("the reply is lost", () => proxy.lost > 0);
    proxy.replies = "pass";
    const again = await eventually("it is repeated", () => consumer.claim(request).catch(() => undefined));
    expect(again).toMatchObject({
      kind: "batch",
      batch: { lease: 1, leaseExpired: false, emails: [{ id: one.id }] },
    });
    proxy.stop();
  });
});

test("redis: a first try executed after its repeat, when the email has been sent, queues nothing", async () => {
  const proxy = await startProxy(shared.port);
  const options = optionsFor(`redis://127.0.0.1:${proxy.port}`);
  const slow = await producerOn(options);
  const direct = await producerOn({ ...options, url: shared.url });
  const consumer = await consumerOn({ ...options, url: shared.url });
  const admin = await adminOn({ ...options, url: shared.url });
  const one = submission();
  proxy.requests = "hold";
  expect((await slow.submit(one, within(300))).kind).toBe("failed");
  expect(await direct.submit(one, within(5000))).toMatchObject({ kind: "stored", repeated: false });
  const claimed = await consumer.claim(claimRequest());
  if (claimed.kind !== "batch") throw new Error("no batch");
  await consumer.settle(claimed.batch, { fates: [{ id: one.id, kind: "sent", record: "{}" }], counts: {} });
  const callsBefore = scriptCalls(shared);
  proxy.release();
  await eventually("the held try is executed", () => scriptCalls(shared) > callsBefore);
  expect((await admin.show(one.id))!.state).toBe("sent");
  expect((await admin.stats()).states).toMatchObject({ waiting: 0, sent: 1 });
  proxy.stop();
});

test("redis: a claim whose answer has been forgotten takes nothing under its old id", async () => {
  const options = optionsFor(shared.url);
  const producer = await producerOn(options);
  const consumer = await consumerOn(options);
  const admin = await adminOn(options);
  const one = submission();
  await producer.submit(one, within(5000));
  const request = claimRequest();
  const claimed = await consumer.claim(request);
  if (claimed.kind !== "batch") throw new Error("no batch");
  await consumer.settle(claimed.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
  await producer.submit(submission(), within(5000));
  shared.cli("DEL", `{${options.prefix}:0}:claimants`);
  expect(await consumer.claim(request)).toEqual({ kind: "spent" });
  expect((await admin.show(one.id))!.state).toBe("in-doubt");
  const again = await consumer.claim(claimRequest());
  expect(again).toMatchObject({ kind: "batch", batch: { id: request.claimId, emails: [{ id: one.id }] } });
});

test("redis: a settlement that is refused permanently is not repeated forever", async () => {
  const options = optionsFor(shared.url);
  const consumer = await consumerOn(options);
  const batch = { id: "none", provider: "resend", lease: 1, emails: [] } as unknown as Batch;
  const broken = {
    fates: [{ id: "x", kind: "due", delayMs: Number.NaN, history: "" }],
    counts: { a: Number.NaN },
  };
  await consumer.settle(batch, { fates: [], counts: {} });
  shared.cli(
    "HSET",
    `{${options.prefix}:0}:batch:none`,
    "lease",
    "1",
    "held",
    "1",
    "ids",
    "x",
    "provider",
    "resend",
  );
  const failure = await consumer
    .settle(batch, broken as unknown as Settlement)
    .catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(Error);
  expect(failure).not.toBeInstanceOf(StoreUnavailable);
});

test("redis: scripts that Redis has forgotten are sent again", async () => {
  const options = optionsFor(shared.url);
  const producer = await producerOn(options);
  await producer.submit(submission(), within(5000));
  shared.cli("SCRIPT", "FLUSH");
  expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
});

test("redis: a consumer subscribes once on each connection", async () => {
  const redis = await startRedis();
  try {
    const consumer = await consumerOn(optionsFor(redis.url));
    const subscribes = () =>
      Number(/cmdstat_subscribe:calls=(\d+)/.exec(redis.cli("INFO", "commandstats"))?.[1]);
    const isListening = () => redis.cli("CLIENT", "LIST", "TYPE", "pubsub") !== "";
    await eventually("it listens", isListening);
    redis.cli("CLIENT", "KILL", "TYPE", "pubsub");
    await eventually("it listens again", () => isListening() && subscribes() > 1);
    expect(subscribes()).toBe(2);
    await consumer.close();
  } finally {
    await redis.stop();
  }
});

test("redis: a store of another format is refused and left alone", async () => {
  const options = optionsFor(shared.url);
  shared.cli("SET", `{${options.prefix}:0}:format`, "2");
  const fatal = Promise.withResolvers<string>();
  const producer = new RedisProducer({ ...options, onFatal: fatal.resolve });
  closing.push(() => producer.close());
  expect(await fatal.promise).toContain("format 2");
  expect((await producer.submit(submission(), within(3000))).kind).toBe("failed");
  expect(shared.cli("EXISTS", `{${options.prefix}:0}:emails`)).toBe("0");
});

test("redis: a store of another format is refused to operators too", async () => {
  const options = optionsFor(shared.url);
  shared.cli("SET", `{${options.prefix}:0}:format`, "2");
  expect(openRedisAdmin(options)).rejects.toThrow("the store has format 2");
});

test("redis: an operator gets all statistics except the memory that a Redis hides", async () => {
  const options = optionsFor(shared.url);
  await producerOn(options);
  shared.cli("ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", "-info");
  const admin = await adminOn({
    ...options,
    url: shared.url.replace("redis://", "redis://shy:secret@"),
  });
  const { paused, bytesUsed, bytesMax } = await admin.stats();
  expect({ paused, bytesUsed, bytesMax }).toEqual({ paused: false, bytesUsed: 0, bytesMax: undefined });
});

test("redis: a port without TLS is named as the reason why rediss:// fails", async () => {
  const log = recordingLog();
  const url = shared.url.replace("redis://", "rediss://mail:secret-word@");
  const producer = new RedisProducer(optionsFor(url, { log }));
  closing.push(() => producer.close());
  await eventually("readiness says so", () => unreadyReason(producer).startsWith("no TLS handshake"));
  expect(unreadyReason(producer)).toContain("rediss://");
  expect(log.events("store-connection-lost")).toEqual([
    { connection: "server", reason: unreadyReason(producer) },
  ]);
});

test("redis: a key of another type fails submissions, and leaves no half of one", async () => {
  const options = optionsFor(shared.url);
  const producer = await producerOn(options);
  const due = `{${options.prefix}:0}:due`;
  shared.cli("SET", due, "not a sorted set");
  const one = submission({ idempotency: { key: "k", fingerprint: "f", token: "" } });
  expect((await producer.submit(one, within(3000))).kind).toBe("failed");
  expect(shared.cli("HLEN", `{${options.prefix}:0}:emails`)).toBe("0");
  shared.cli("DEL", due);
  expect(await producer.submit(one, within(3000))).toEqual({ kind: "stored", id: one.id, repeated: false });
});

function unreadyReason(store: Pick<Producer, "health">): string {
  const health = store.health();
  return health.ok ? "" : health.reason;
}

/** Number of script calls on this Redis. */
function scriptCalls(redis: RedisServer): number {
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(redis.cli("INFO", "commandstats"))?.[1] ?? 0);
}

describe("redis: a Redis", () => {
  /** Starts a Redis for a test that changes or kills it. */
  async function withRedis(settings: Record<string, string>, body: (redis: RedisServer) => Promise<void>) {
    const redis = await startRedis(settings);
    try {
      await body(redis);
    } finally {
      await redis.stop();
    }
  }

  test("that is killed and comes back within the deadline costs only time", () =>
    withRedis({}, async (redis) => {
      const options = optionsFor(redis.url);
      const producer = await producerOn(options);
      const before = submission();
      await producer.submit(before, within(5000));
      redis.kill("SIGKILL");
      const during = Array.from({ length: 20 }, () => submission());
      const answers = during.map((one) => producer.submit(one, within(15_000)));
      await redis.restart();
      for (const answer of await Promise.all(answers)) expect(answer.kind).toBe("stored");
      const admin = await adminOn(options);
      expect((await admin.stats()).states.waiting).toBe(21);
    }));

  test("that hangs leads to failures by the deadline, and works again when it continues", () =>
    withRedis({}, async (redis) => {
      const producer = await producerOn(optionsFor(redis.url));
      redis.kill("SIGSTOP");
      const startMs = performance.now();
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => producer.submit(submission(), within(2500))),
      );
      expect(performance.now() - startMs).toBeLessThan(4000);
      for (const answer of answers) expect(answer.kind).toBe("failed");
      redis.kill("SIGCONT");
      expect((await producer.submit(submission(), within(10_000))).kind).toBe("stored");
    }));

  test("that is full fails submissions immediately, while claims and settlements continue until it is empty", () =>
    withRedis({}, async (redis) => {
      const options = optionsFor(redis.url);
      const producer = await producerOn(options);
      const consumer = await consumerOn(options);
      const admin = await adminOn(options);
      const body = "x".repeat(100_000);
      const stored = 120;
      await Promise.all(
        Array.from({ length: stored }, () => producer.submit(submission({}, body), within(5000))),
      );
      // Well below the size of its data, and well above its size when empty: memory for commands varies.
      redis.cli("CONFIG", "SET", "maxmemory", "8mb");
      const startMs = performance.now();
      expect(await producer.submit(submission({}, body), within(5000))).toMatchObject({
        kind: "failed",
        reason: expect.stringContaining("OOM"),
      });
      expect(performance.now() - startMs).toBeLessThan(1000);
      let sent = 0;
      for (;;) {
        const result = await consumer.claim(claimRequest());
        if (result.kind !== "batch") break;
        const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
        expect((await consumer.settle(result.batch, { fates, counts: {} })).leaseHeld).toBe(true);
        sent += fates.length;
      }
      expect(sent).toBe(stored);
      expect((await admin.stats()).states).toMatchObject({ waiting: 0, sent });
      await eventually(
        "there is memory again",
        async () => (await producer.submit(submission({}, body), within(5000))).kind === "stored",
      );
    }));

  test("that is full lets an operator read, pause, retry and free memory", () =>
    withRedis({}, async (redis) => {
      const options = optionsFor(redis.url);
      const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
      const admin = await adminOn(options);
      const body = "x".repeat(100_000);
      const ids = Array.from({ length: 120 }, () => submission({}, body)).map((one) => {
        void producer.submit(one, within(5000));
        return one.id;
      });
      await eventually("all wait", async () => (await admin.stats()).states.waiting === 120);
      const dead = await consumer.claim(claimRequest({ countMax: 1 }));
      const doubtful = await consumer.claim(claimRequest({ countMax: 1 }));
      if (dead.kind !== "batch" || doubtful.kind !== "batch") throw new Error("no batch");
      const [deadId, doubtfulId] = [ids[0]!, ids[1]!];
      const history = "died";
      await consumer.settle(dead.batch, { fates: [{ id: deadId, kind: "dead", history }], counts: {} });
      await consumer.settle(doubtful.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
      redis.cli("CONFIG", "SET", "maxmemory", "8mb");
      expect((await producer.submit(submission({}, body), within(5000))).kind).toBe("failed");

      const { bytesUsed, bytesMax } = await admin.stats();
      expect(bytesMax).toBe(8 * 1024 * 1024);
      expect(bytesUsed).toBeGreaterThan(8 * 1024 * 1024);
      await admin.setPaused(true);
      expect((await consumer.claim(claimRequest())).kind).toBe("paused");
      await admin.setPaused(false);
      expect((await admin.list("waiting", 1000)).emails.length).toBeGreaterThan(20);
      const replays = [{ id: deadId, seenHistory: history, history: "again" }];
      expect(await admin.retry(replays, { replayed: 1 })).toEqual([deadId]);
      const { batch } = (await admin.show(doubtfulId))!;
      const fates = [{ id: doubtfulId, kind: "due" as const, delayMs: 0, history: "h" }];
      expect(await admin.release(batch!, { fates, counts: {} })).toBe(true);
      expect((await admin.show(doubtfulId))!.state).toBe("waiting");
      expect(await admin.delete([deadId])).toEqual(["deleted"]);
      expect((await admin.clear(1000, (await admin.stats()).nowMs)).deleted).toBe(119);
      expect((await admin.stats()).states.waiting).toBe(0);
      await eventually(
        "there is memory again",
        async () => (await producer.submit(submission({}, body), within(5000))).kind === "stored",
      );
    }));

  const wrong: [string, Record<string, string>, string][] = [
    ["appendonly no", { appendonly: "no" }, "appendonly"],
    ["appendfsync everysec", { appendfsync: "everysec" }, "appendfsync"],
    ["no-appendfsync-on-rewrite yes", { "no-appendfsync-on-rewrite": "yes" }, "no-appendfsync-on-rewrite"],
    ["an evicting policy", { "maxmemory-policy": "allkeys-lru" }, "maxmemory-policy"],
  ];
  for (const [what, settings, name] of wrong) {
    test(`with ${what} is not written to, and the log says how to fix it`, () =>
      withRedis(settings, async (redis) => {
        const log = recordingLog();
        const producer = new RedisProducer(optionsFor(redis.url, { log }));
        closing.push(() => producer.close());
        await eventually("it is refused", () => log.events("store-not-durable").length > 0);
        const result = await producer.submit(submission(), within(5000));
        expect(result).toMatchObject({ kind: "failed", reason: expect.stringContaining(name) });
        const fix = String(log.events("store-not-durable")[0]!["fix"]);
        expect(fix).toContain(`CONFIG SET ${name}`);
        for (const command of fix.split("; ").filter((one) => one.startsWith("CONFIG SET")))
          redis.cli(...command.split(" "));
        await eventually("it is fixed", () => producer.health().ok);
        expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
      }));
  }

  test("in the first rewrite of its append-only file is not written to until it has ended", () =>
    withRedis({ appendonly: "no" }, async (redis) => {
      for (let i = 0; i < 100; i += 1) redis.cli("SET", `filler-${i}`, "x");
      redis.cli("CONFIG", "SET", "rdb-key-save-delay", "30000");
      redis.cli("CONFIG", "SET", "appendonly", "yes");
      const options = optionsFor(redis.url);
      const producer = new RedisProducer(options);
      closing.push(() => producer.close());
      expect((await producer.submit(submission(), within(1000))).kind).toBe("failed");
      expect(redis.cli("EXISTS", `{${options.prefix}:0}:emails`)).toBe("0");
      expect((await producer.submit(submission(), within(15_000))).kind).toBe("stored");
      expect(redis.cli("INFO", "persistence")).toContain("aof_rewrite_in_progress:0");
    }));

  const elsewhere: [string, string, string][] = [
    ["without the selected database", "mail:secret-word", "ERR DB index is out of range"],
    ["whose user may not select a database", "shy:secret-word", "NOPERM"],
  ];
  for (const [what, user, reason] of elsewhere) {
    test(`${what} is not written to, nor in another database, and its error is reported once`, () =>
      withRedis({}, async (redis) => {
        redis.cli("ACL", "SETUSER", "mail", "on", ">secret-word", "~*", "&*", "+@all");
        redis.cli("ACL", "SETUSER", "shy", "on", ">secret-word", "~*", "&*", "+@all", "-select");
        const url = redis.url.replace("redis://", `redis://${user}@`) + (reason === "NOPERM" ? "/1" : "/99");
        const log = recordingLog();
        const producer = new RedisProducer(optionsFor(url, { log }));
        closing.push(() => producer.close());
        await eventually("it is tried repeatedly", () => {
          const stats = redis.cli("INFO", "commandstats");
          const refused = /cmdstat_select:.*rejected_calls=(\d+),failed_calls=(\d+)/.exec(stats);
          return refused !== null && Number(refused[1]) + Number(refused[2]) >= 4;
        });
        expect((await producer.submit(submission(), within(1500))).kind).toBe("failed");
        expect(redis.cli("DBSIZE")).toBe("0");
        const [first, ...more] = log.events("store-connection-lost");
        expect(first!["reason"]).toStartWith(reason);
        expect(more).toEqual([]);
        expect(log.events("store-not-ready")).toEqual([]);
        expect(unreadyReason(producer)).toStartWith(reason);
        await expect(adminOn(optionsFor(url))).rejects.toThrow(reason);
      }));
  }

  for (const durability of ["verify", "trust"] as const) {
    test(`(${durability}) that refuses writes because its snapshots fail is reported, and still read`, () =>
      withRedis({ save: "3600 1000000", "stop-writes-on-bgsave-error": "yes" }, async (redis) => {
        const log = recordingLog();
        const options = optionsFor(redis.url, { durability, log });
        const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
        const admin = await adminOn(options);
        const one = submission();
        expect((await producer.submit(one, within(5000))).kind).toBe("stored");
        // A snapshot cannot replace a folder.
        mkdirSync(join(redis.folder, "dump.rdb"));
        redis.cli("BGSAVE");
        await eventually("the snapshot fails", () =>
          redis.cli("INFO", "persistence").includes("rdb_last_bgsave_status:err"),
        );
        await eventually("both report it", () =>
          [producer, consumer].every((store) => unreadyReason(store).startsWith("MISCONF ")),
        );
        expect(unreadyReason(producer)).toContain("snapshot");
        expect((await producer.submit(submission(), within(3000))).kind).toBe("failed");
        expect(log.events("writes-refused").length).toBe(2);
        expect((await admin.stats()).states.waiting).toBe(1);
        expect((await admin.list("waiting", 10)).emails.length).toBe(1);
        expect((await admin.show(one.id))!.state).toBe("waiting");
        const fix = String(log.events("writes-refused")[0]!["fix"]);
        expect(fix).toBe(
          durability === "trust" ? "" : "CONFIG SET stop-writes-on-bgsave-error no; CONFIG REWRITE",
        );
        rmdirSync(join(redis.folder, "dump.rdb"));
        redis.cli("BGSAVE");
        await eventually("it is found ready again", () => producer.health().ok && consumer.health().ok);
        expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
      }));
  }

  // Commands that are called directly, that run scripts, and that only scripts call.
  for (const command of ["get", "info", "evalsha", "hset", "zadd"]) {
    test(`whose user may not run ${command} is reported with Redis's error, and works once it may`, () =>
      withRedis({}, async (redis) => {
        redis.cli("ACL", "SETUSER", "mail", "on", ">secret-word", "~*", "&*", "+@all", `-${command}`);
        const log = recordingLog();
        const url = redis.url.replace("redis://", "redis://mail:secret-word@");
        const options = optionsFor(url, { log });
        const [producer, consumer] = [new RedisProducer(options), new RedisConsumer(options)];
        closing.push(() => Promise.all([producer.close(), consumer.close()]));
        await eventually("both report it", () =>
          [producer, consumer].every((store) => unreadyReason(store).startsWith("NOPERM ")),
        );
        for (const store of [producer, consumer])
          expect(unreadyReason(store).toLowerCase()).toContain(command);
        expect((await producer.submit(submission(), within(3000))).kind).toBe("failed");
        expect(log.events("writes-refused").map(({ reason }) => reason)).toEqual(
          [producer, consumer].map(unreadyReason),
        );
        redis.cli("ACL", "SETUSER", "mail", `+${command}`);
        await eventually("they are permitted now", () => producer.health().ok && consumer.health().ok);
        expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
      }));
  }

  test("with the permissions in docs/deploy-redis.md is written to", () =>
    withRedis({}, async (redis) => {
      const page = await Bun.file(join(import.meta.dir, "..", "..", "docs/deploy-redis.md")).text();
      const command = /redis-cli (ACL SETUSER mail [^`]*)\n```/.exec(page)![1]!;
      const words = command.replaceAll("\\\n", " ").replaceAll("'", "").split(/\s+/);
      expect(redis.cli(...words)).toBe("OK");
      const url = redis.url.replace("redis://", "redis://mail:secret@");
      const options = { ...optionsFor(url), prefix: "reliable-email" };
      const [producer] = [await producerOn(options), await consumerOn(options), await adminOn(options)];
      expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
    }));

  test("whose replica would lose acknowledged writes causes a warning, and is used", () =>
    withRedis({}, async (primary) => {
      const settings = { replicaof: `127.0.0.1 ${primary.port}`, appendfsync: "everysec" };
      const replica = await startRedis(settings);
      try {
        for (const node of [primary, replica])
          node.cli("ACL", "SETUSER", "mail", "on", ">secret-word", "~*", "&*", "+@all");
        replica.cli("ACL", "SETUSER", "default", "-config", "-info");
        const log = recordingLog();
        const url = primary.url.replace("redis://", "redis://mail:secret-word@");
        const producer = await producerOn(optionsFor(url, { log, minReplicas: 1 }));
        await eventually("it is reported", () => log.events("replica-not-durable").length > 0, 40_000);
        expect(log.events("replica-not-durable")).toEqual([
          {
            replica: `127.0.0.1:${replica.port}`,
            reason: "appendfsync is everysec: a crash loses what was acknowledged last",
            fix: "CONFIG SET appendfsync always; CONFIG REWRITE",
          },
        ]);
        expect((await producer.submit(submission(), within(15_000))).kind).toBe("stored");
      } finally {
        await replica.stop();
      }
    }));

  test("without a queue is read by an operator without creating one", () =>
    withRedis({}, async (redis) => {
      const options = optionsFor(redis.url);
      expect(await checkRedis(options)).toEqual({ ok: true });
      await expect(openRedisAdmin(options)).rejects.toThrow(QueueMissing);
      expect(redis.cli("DBSIZE")).toBe("0");
    }));

  test("with REDIS_DURABILITY=trust is written to, whatever its settings", () =>
    withRedis({ appendonly: "no" }, async (redis) => {
      const producer = await producerOn(optionsFor(redis.url, { durability: "trust" }));
      expect((await producer.submit(submission(), within(5000))).kind).toBe("stored");
    }));

  test("that becomes a replica is not written to", () =>
    withRedis({}, async (redis) => {
      const producer = await producerOn(optionsFor(redis.url));
      redis.cli("REPLICAOF", "127.0.0.1", String(shared.port));
      expect((await producer.submit(submission(), within(1500))).kind).toBe("failed");
      await eventually("it is noticed", () => !producer.health().ok);
    }));

  test("with too few replicas acknowledges and delivers nothing, and with enough it does", () =>
    withRedis({}, async (primary) => {
      const replica = await startRedis({ replicaof: `127.0.0.1 ${primary.port}` });
      try {
        const options = optionsFor(primary.url, { minReplicas: 1 });
        const producer = await producerOn(options);
        const consumer = await consumerOn(options);
        const admin = await adminOn(options);
        const first = submission();
        expect((await producer.submit(first, within(15_000))).kind).toBe("stored");
        const claimed = await consumer.claim(claimRequest());
        if (claimed.kind !== "batch") throw new Error(claimed.kind);
        await consumer.settle(claimed.batch, {
          fates: [{ id: first.id, kind: "sent", record: "{}" }],
          counts: {},
        });

        replica.kill("SIGSTOP");
        const second = submission();
        expect((await producer.submit(second, within(1500))).kind).toBe("failed");
        // Nor is it acknowledged over a connection that wrote nothing because the email is already known.
        const other = await producerOn(options);
        expect((await other.submit(second, within(1500))).kind).toBe("failed");
        // It may be queued nevertheless, and stays so.
        expect((await admin.show(second.id))!.state).toBe("waiting");
        expect((await consumer.claim(claimRequest({ leaseMs: 4000 }))).kind).toBe("unreplicated");
        // An operator's changes are made, but a failover could undo them.
        const changes = [
          () => admin.setPaused(true),
          () => admin.setPaused(false),
          () => admin.retry([{ id: second.id, seenHistory: "", history: "" }], {}),
          () => admin.delete([first.id]),
          () => admin.clear(1, 0),
        ];
        for (const change of changes) await expect(change()).rejects.toThrow("0 replicas acknowledged");

        replica.kill("SIGCONT");
        expect(await producer.submit(second, within(10_000))).toMatchObject({
          kind: "stored",
          repeated: true,
        });
      } finally {
        await replica.stop();
      }
    }));

  test("with too few replicas has neither taken over nor handed over what a move brings, and with enough it has", () =>
    withRedis({}, async (primary) => {
      const replica = await startRedis({ replicaof: `127.0.0.1 ${primary.port}` });
      try {
        const options = optionsFor(primary.url, { minReplicas: 1 });
        const producer = await producerOn(options);
        const admin = await adminOn(options);
        const one = submission({ idempotency: { key: "k", fingerprint: "f", token: "" } });
        expect((await producer.submit(one, within(15_000))).kind).toBe("stored");
        const { keys } = await admin.listKeys(10);
        const letter = { ...submission(), submittedAtMs: 1, diedAtMs: 2, history: "h" };
        const steps = {
          listKeys: () => admin.listKeys(10),
          rememberKeys: () => admin.rememberKeys(keys),
          adopt: () => admin.adopt([letter]),
          setMoving: () => admin.setMoving(true),
        };
        replica.kill("SIGSTOP");
        for (const step of Object.values(steps))
          await expect(step()).rejects.toThrow("0 replicas acknowledged");
        replica.kill("SIGCONT");
        // A move repeats what was not acknowledged.
        for (const [name, step] of Object.entries(steps)) {
          await eventually(`${name} is acknowledged`, () =>
            step().then(
              () => true,
              () => false,
            ),
          );
        }
        expect(await admin.adopt([letter])).toEqual(["known"]);
      } finally {
        await replica.stop();
      }
    }));
});
