// Several partitions: each behind a proxy of its own, so that one can fail alone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Proxy, startProxy } from "../../fakes/tcp_proxy.ts";
import {
  type Admin,
  type Batch,
  type Consumer,
  type Producer,
  type StoreLimits,
  StoreUnavailable,
  type Submission,
} from "../../lib/queue/contract.ts";
import { createId, partitionOf, tagOf } from "../../lib/queue/redis/partition.ts";
import { openPartitionedAdmin } from "../../lib/queue/redis/partitioned/admin.ts";
import { PartitionedConsumer } from "../../lib/queue/redis/partitioned/consumer.ts";
import { PartitionedProducer } from "../../lib/queue/redis/partitioned/producer.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { bytesOf, joined, withFiles } from "./conformance_files.ts";
import { serving, soon, submission } from "./conformance_tools.ts";

const count = 4;
const numbers = [0, 1, 2, 3];
let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
const closing: (() => unknown)[] = [];
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
  await redis.stop();
});

let queues = 0;

/** A new queue: nothing of it is opened yet. */
async function partitioned() {
  queues += 1;
  const prefix = `parts-${queues}`;
  const proxies: Proxy[] = [];
  for (const _ of numbers) proxies.push(await startProxy(redis.port));
  closing.push(() => proxies.map((one) => one.stop()));
  const fatal: string[] = [];
  const options = {
    url: redis.url,
    urlOf: (partition: number) => `redis://127.0.0.1:${proxies[partition]!.port}`,
    prefix,
    partitions: count,
    minReplicas: 0,
    durability: "verify" as const,
    retainMs: 3_600_000,
    log: silent,
    onFatal: (reason: string) => void fatal.push(reason),
  };
  const kept = <One extends Producer | Consumer | Admin>(one: One): One => {
    closing.push(() => one.close());
    return one;
  };
  const healthy = (one: Producer | Consumer, partitions: readonly number[] = numbers) =>
    eventually("its partitions are connected", () =>
      one.health().partitions!.every(({ ok }, number) => ok === partitions.includes(number)),
    );
  return {
    options,
    proxies,
    fatal,
    healthy,
    tag: (partition: number) => tagOf(prefix, partition, count),
    format: (partition: number) => redis.cli("GET", `${tagOf(prefix, partition, count)}:format`),
    setFormat: (partition: number, format: string) =>
      redis.cli("SET", `${tagOf(prefix, partition, count)}:format`, format),
    produce: (limits: StoreLimits = {}) => kept(new PartitionedProducer({ ...options, ...limits })),
    consume: () => kept(new PartitionedConsumer(options)),
    administer: async () => kept(await openPartitionedAdmin(options)),
    /** Makes a partition unreachable. */
    kill(partition: number) {
      proxies[partition]!.refusing = true;
      proxies[partition]!.cutAll();
    },
    revive(partition: number) {
      proxies[partition]!.refusing = false;
    },
  };
}

type Queue = Awaited<ReturnType<typeof partitioned>>;

const of = (partition: number): Submission => submission({ id: createId(partition, count) });
const keyed = (key: string): Submission =>
  submission({ id: Bun.randomUUIDv7(), idempotency: { key, fingerprint: "f", token: "" } });
/** A key of this partition. */
const keyOf = (partition: number) => {
  for (let i = 0; ; i += 1) if (partitionOf(`order-${i}`, count) === partition) return `order-${i}`;
};
const partitionIn = ({ id }: { readonly id: string }) => partitionOf(id, count);

async function store(producer: Producer, one: Submission): Promise<string> {
  const result = await producer.submit(one, soon());
  if (result.kind !== "stored") throw new Error(JSON.stringify(result));
  return result.id;
}

/** A queue with everything opened and connected. */
async function running() {
  const queue = await partitioned();
  const [producer, consumer] = [queue.produce(), queue.consume()];
  await queue.healthy(producer);
  await queue.healthy(consumer);
  return { queue, producer, consumer, admin: await queue.administer() };
}

let claims = 0;
async function claim(consumer: Consumer, claimant = "worker:resend", over = {}) {
  claims += 1;
  return consumer.claim(claimRequest({ claimant, number: claims, ...over }));
}

async function batchOf(consumer: Consumer, claimant?: string, over = {}): Promise<Batch> {
  const result = await claim(consumer, claimant, over);
  if (result.kind !== "batch") throw new Error(JSON.stringify(result));
  return result.batch;
}

const scriptCalls = () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(redis.cli("INFO", "commandstats"))?.[1]);

/** Settles everything that can be claimed. Returns the ids. */
async function drain(consumer: Consumer): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const result = await claim(consumer);
    if (result.kind !== "batch") return ids;
    ids.push(...result.batch.emails.map(({ id }) => id));
    const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent", record: "{}" }) as const);
    await consumer.settle(result.batch, { fates, counts: {} });
  }
}

describe("partitions: a queue", () => {
  const formats = (queue: Queue) => numbers.map((number) => queue.format(number));

  test("is created in all partitions, once all can be reached", async () => {
    const queue = await partitioned();
    queue.kill(2);
    const producer = queue.produce();
    await eventually("it waits for the last one", () => {
      const [first] = producer.health().partitions!;
      return !first!.ok && first!.reason.endsWith("not yet 2");
    });
    expect(formats(queue)).toEqual(["", "", "", ""]);
    queue.revive(2);
    await queue.healthy(producer);
    expect(formats(queue)).toEqual(["1 4", "1 4", "1 4", "1 4"]);
  });

  const begun = "1 4 creating";
  test.each([[[begun, "", "", ""]], [[begun, "1 4", "", "1 4"]], [[begun, "1 4", "1 4", "1 4"]]])(
    "whose creation was interrupted at %j is completed",
    async (found) => {
      const queue = await partitioned();
      for (const [number, format] of found.entries()) if (format !== "") queue.setFormat(number, format);
      await queue.healthy(queue.produce());
      expect(formats(queue)).toEqual(["1 4", "1 4", "1 4", "1 4"]);
    },
  );

  test.each([0, 2])("closes partition %i if it lost its data, and goes on with the others", async (lost) => {
    const { queue, producer, consumer, admin } = await running();
    await store(producer, of(lost));
    redis.cli("DEL", ...redis.cli("KEYS", `${queue.tag(lost)}*`).split("\n"));
    // A process that does not know yet: Redis refuses the write, and it is certain that nothing was stored.
    const early = await store(producer, of(lost));
    expect(partitionOf(early, count)).not.toBe(lost);
    const [again, other] = [queue.produce(), queue.consume()];
    const others = numbers.filter((number) => number !== lost);
    await queue.healthy(again, others);
    await queue.healthy(other, others);
    await eventually("the loss is noticed", () => {
      const one = again.health().partitions![lost]!;
      return !one.ok && one.reason.includes("lost its data");
    });
    const all = await Promise.all(numbers.map((number) => store(again, of(number))));
    for (const id of all) expect(partitionOf(id, count)).not.toBe(lost);
    expect((await drain(consumer)).toSorted()).toEqual([early, ...all].toSorted());
    await consumer.sweep(serving("resend"));
    expect(queue.format(lost)).toBe("");
    expect((await admin.stats()).unreached).toEqual([{ partition: lost, reason: "it has lost its data" }]);
  });

  test("that lost the data of several partitions, the first among them, is not created again", async () => {
    const { queue, producer } = await running();
    await producer.close();
    for (const lost of [0, 1]) redis.cli("DEL", ...redis.cli("KEYS", `${queue.tag(lost)}*`).split("\n"));
    // A process that learns of the last partition's format when it has found that the first ones have none.
    queue.kill(2);
    queue.kill(3);
    const again = queue.produce();
    const isWaiting = (reason: string) => reason.endsWith("not yet 2, 3");
    await eventually("it waits for the others", () =>
      again
        .health()
        .partitions!.slice(0, 2)
        .every((one) => !one.ok && isWaiting(one.reason)),
    );
    queue.revive(2);
    queue.revive(3);
    await eventually("the loss is noticed", () =>
      again
        .health()
        .partitions!.slice(0, 2)
        .every((one) => !one.ok && one.reason.includes("lost its data")),
    );
    expect(formats(queue)).toEqual(["", "", "1 4", "1 4"]);
  });

  test("is not used by a process that is set to another number of partitions", async () => {
    const { queue } = await running();
    const fatal: string[] = [];
    const { urlOf: _, ...options } = {
      ...queue.options,
      onFatal: (reason: string) => void fatal.push(reason),
    };
    const others = [
      new PartitionedProducer({ ...options, partitions: 8 }),
      new RedisProducer({ ...options, partitions: 1 }),
    ];
    for (const one of others) closing.push(() => one.close());
    await eventually("both notice", () => fatal.length >= 2);
    expect([...new Set(fatal)].toSorted()).toEqual([
      "the queue has 4 partitions, REDIS_PARTITIONS is 1",
      "the queue has 4 partitions, REDIS_PARTITIONS is 8",
    ]);
    await expect(openPartitionedAdmin({ ...options, partitions: 8 })).rejects.toThrow("has 4 partitions");
  });

  test("has one number of partitions, though servers with different ones create it at the same moment", async () => {
    const race = async () => {
      const { options, fatal } = await partitioned();
      const { urlOf: _, ...direct } = options;
      const opened = [3, 4].map((partitions) => new PartitionedProducer({ ...direct, partitions }));
      for (const one of opened) closing.push(() => one.close());
      await eventually("one can use it, and the other notices", () => {
        return fatal.length > 0 && opened.some((one) => one.health().partitions!.every(({ ok }) => ok));
      });
      expect(opened.filter((one) => one.health().ok).length).toBe(1);
      return numbers.map((number) => redis.cli("GET", `{${options.prefix}:${number}}:format`)).join(",");
    };
    for (const formats of await Promise.all(Array.from({ length: 8 }, race)))
      expect(["1 3,1 3,1 3,", "1 4,1 4,1 4,1 4"]).toContain(formats);
  });

  test("with one partition is not taken for one with several", async () => {
    const queue = await partitioned();
    queue.setFormat(0, "1");
    queue.produce();
    await eventually("it notices", () => queue.fatal.length > 0);
    expect(queue.fatal[0]).toBe("the queue has 1 partition, REDIS_PARTITIONS is 4");
  });
});

describe("partitions: a submission", () => {
  test("keeps its id, or is given one of the partition of its key", async () => {
    const { producer, admin } = await running();
    for (const number of numbers) {
      const one = of(number);
      expect(await store(producer, one)).toBe(one.id);
      expect(partitionOf(await store(producer, keyed(keyOf(number))), count)).toBe(number);
    }
    const id = await store(producer, keyed("order-17"));
    expect(await store(producer, keyed("order-17"))).toBe(id);
    expect(await admin.show(id)).toMatchObject({ state: "waiting" });
    expect((await admin.stats()).states.waiting).toBe(9);
  });

  test("goes to another partition at once if its own is down, unless it has a key", async () => {
    const { queue, producer, consumer } = await running();
    queue.kill(1);
    await queue.healthy(producer, [0, 2, 3]);
    expect(producer.health().ok).toBe(true);
    const waiting = store(producer, keyed(keyOf(1)));
    const ids = await Promise.all(Array.from({ length: 20 }, () => store(producer, of(1))));
    expect(new Set(ids.map((id) => partitionOf(id, count)))).toEqual(new Set([0, 2, 3]));
    expect((await drain(consumer)).toSorted()).toEqual(ids.toSorted());
    queue.revive(1);
    expect(partitionOf(await waiting, count)).toBe(1);
  });

  test("with files goes to another partition at once if its own is down, and its files with it", async () => {
    const { queue, producer, consumer, admin } = await running();
    queue.kill(1);
    await queue.healthy(producer, [0, 2, 3]);
    const files = [bytesOf(300_000)];
    const id = await store(producer, withFiles(files, { id: createId(1, count) }));
    expect(partitionOf(id, count)).not.toBe(1);
    expect(await consumer.readFiles(id)).toEqual(joined(files));
    expect(await admin.readFiles(id)).toEqual(joined(files));
  });

  test("with files goes to the first partition that comes back while all are down", async () => {
    const { queue, producer, admin } = await running();
    for (const number of numbers) queue.kill(number);
    await queue.healthy(producer, []);
    const files = [bytesOf(300_000)];
    const waiting = store(producer, withFiles(files, { id: createId(0, count) }));
    queue.revive(3);
    const id = await waiting;
    expect(partitionOf(id, count)).toBe(3);
    expect(await admin.readFiles(id)).toEqual(joined(files));
  });

  test("with files stays where they are, even if that partition goes down before it is stored", async () => {
    const { queue, producer, admin } = await running();
    const files = [bytesOf(8 * 1024 * 1024)];
    const one = withFiles(files, { id: createId(1, count) });
    const waiting = store(producer, one);
    const key = `${queue.tag(1)}:files:${one.id}`;
    await eventually("its first pieces are written", () => redis.cli("EXISTS", key) === "1");
    queue.kill(1);
    await queue.healthy(producer, [0, 2, 3]);
    queue.revive(1);
    expect(await waiting).toBe(one.id);
    expect(await admin.readFiles(one.id)).toEqual(joined(files));
    expect(await eventually("all is settled", async () => (await admin.stats()).fileBytes)).toBe(
      files[0]!.length,
    );
  });

  test("with files in a partition that is down is not taken for one without", async () => {
    const { queue, producer, consumer, admin } = await running();
    const id = await store(producer, withFiles([bytesOf(1000)], { id: createId(1, count) }));
    queue.kill(1);
    await queue.healthy(consumer, [0, 2, 3]);
    await expect(consumer.readFiles(id)).rejects.toThrow(StoreUnavailable);
    await expect(admin.readFiles(id)).rejects.toThrow(StoreUnavailable);
    queue.revive(1);
    await queue.healthy(consumer);
    expect((await consumer.readFiles(id))!.length).toBe(1000);
  });

  test("with files is refused beyond its partition's part of the limit", async () => {
    const queue = await partitioned();
    const producer = queue.produce({ filesMaxBytes: 40_000 });
    await queue.healthy(producer);
    const into = (number: number, bytes: number) =>
      producer.submit(withFiles([bytesOf(bytes)], { id: createId(number, count) }), soon());
    expect(await into(1, 10_001)).toEqual({ kind: "filesFull" });
    expect(await into(1, 10_000)).toMatchObject({ kind: "stored" });
    expect(await into(1, 1)).toEqual({ kind: "filesFull" });
    expect(await into(2, 10_000)).toMatchObject({ kind: "stored" });
  });

  test("in line for a partition that stops answering is handed over; one that was in a write stays", async () => {
    const { queue, producer } = await running();
    const proxy = queue.proxies[1]!;
    proxy.requests = "hold";
    const written = of(1);
    const first = store(producer, written);
    await eventually("it is being written", () => !producer.health().partitions![1]!.ok);
    const later = await Promise.all(Array.from({ length: 5 }, () => store(producer, of(1))));
    for (const id of later) expect(partitionOf(id, count)).not.toBe(1);
    proxy.release();
    expect(await first).toBe(written.id);
  });

  test("with a key is refused at once while as many as half of a server's wait for partitions that are down", async () => {
    const queue = await partitioned();
    const producer = queue.produce();
    await queue.healthy(producer);
    queue.kill(2);
    await queue.healthy(producer, [0, 1, 3]);
    const key = keyOf(2);
    const until = performance.now() + 60_000;
    const waiting = Array.from({ length: 4096 }, () => producer.submit(keyed(key), until));
    expect(await producer.submit(keyed(key), until)).toEqual({ kind: "busy" });
    await store(producer, keyed(keyOf(1)));

    queue.revive(2);
    const kinds = new Set((await Promise.all(waiting)).map(({ kind }) => kind));
    expect([...kinds]).toEqual(["stored"]);
    expect(await producer.submit(keyed(key), until)).toMatchObject({ kind: "stored" });

    queue.kill(2);
    await queue.healthy(producer, [0, 1, 3]);
    const large = { ...keyed(key), text: "x".repeat(20 * 1024 * 1024) };
    void producer.submit(large, until);
    expect(await producer.submit(large, until)).toEqual({ kind: "busy" });
  });

  test("waits for the first partition that comes back while all are down", async () => {
    const { queue, producer } = await running();
    for (const number of numbers) queue.kill(number);
    await queue.healthy(producer, []);
    expect(producer.health()).toMatchObject({ ok: false, reason: expect.stringContaining("no partition") });
    const waiting = store(producer, of(0));
    queue.revive(3);
    expect(partitionOf(await waiting, count)).toBe(3);
  });
});

describe("partitions: claims", () => {
  test("go from one partition to the next", async () => {
    const { producer, consumer } = await running();
    for (const number of [...numbers, ...numbers]) await store(producer, of(number));
    const first: number[] = [];
    for (const _ of numbers) first.push(partitionIn(await batchOf(consumer, "a", { countMax: 1 })));
    expect(first.toSorted()).toEqual(numbers);
  });

  test("ask no partition again that has nothing, until a wake-up", async () => {
    const { queue, producer, consumer } = await running();
    const [first] = [await claim(consumer, "b")];
    expect(first.kind).toBe("empty");
    const before = scriptCalls();
    for (let i = 0; i < 10; i += 1) expect((await claim(consumer, "b")).kind).toBe("empty");
    // Other tests of this file do not run at the same time; a sweep or a poll may.
    expect(scriptCalls() - before).toBeLessThan(10);
    let wakes = 0;
    consumer.onWake(() => (wakes += 1));
    await store(producer, of(2));
    await eventually("it is woken", () => wakes > 0);
    expect(partitionIn(await batchOf(consumer, "b"))).toBe(2);
    expect(queue.fatal).toEqual([]);
  });

  test("go on while a partition is down, and find its emails when it is back", async () => {
    const { queue, producer, consumer } = await running();
    const ids = await Promise.all(numbers.map((number) => store(producer, of(number))));
    queue.kill(0);
    await queue.healthy(consumer, [1, 2, 3]);
    expect((await drain(consumer)).toSorted()).toEqual(ids.slice(1).toSorted());
    await consumer.sweep(serving("resend"));
    queue.revive(0);
    await queue.healthy(consumer);
    await eventually("it is claimed", async () => (await drain(consumer)).includes(ids[0]!));
  });

  test("that a partition answers late hold up no other, and are taken later with the time when they were sent", async () => {
    const { queue, producer, consumer } = await running();
    const ids = await Promise.all([0, 1].map((number) => store(producer, of(number))));
    const proxy = queue.proxies[0]!;
    proxy.onlyWith = ids[0]!;
    proxy.replies = "hold";
    const beforeMs = performance.now();
    const first = await batchOf(consumer, "c");
    expect(partitionIn(first)).toBe(1);
    await eventually("the answer is held", () => proxy.heldReplies > 0);
    let wakes = 0;
    consumer.onWake(() => (wakes += 1));
    proxy.release();
    await eventually("it is woken", () => wakes > 0);
    const late = await claim(consumer, "c");
    if (late.kind !== "batch") throw new Error(late.kind);
    expect(late.batch.emails.map(({ id }) => id)).toEqual([ids[0]!]);
    expect(late.claim).toMatchObject({ id: late.batch.id });
    expect(late.claim!.sentAtMs - beforeMs).toBeLessThan(performance.now() - beforeMs);
  });

  test("whose answer was lost are repeated in their partition, under the same lease", async () => {
    const { queue, producer, consumer } = await running();
    const id = await store(producer, of(2));
    const proxy = queue.proxies[2]!;
    proxy.onlyWith = id;
    proxy.replies = "cut";
    await claim(consumer, "d");
    await eventually("the answer is lost", () => proxy.lost > 0);
    proxy.replies = "pass";
    const batch = await eventually("it is repeated", async () => {
      const result = await claim(consumer, "d");
      return result.kind === "batch" ? result.batch : undefined;
    });
    expect(batch).toMatchObject({ lease: 1, leaseExpired: false });
    expect(batch.emails.map((email) => email.id)).toEqual([id]);
  });
});

describe("partitions: a rate", () => {
  const permit = { provider: "resend", credential: "c", startPerSecond: 0.01 };
  const home = partitionOf("resend c", count);
  const away = (home + 1) % count;

  test("loses no permit to a claim that finds nothing, wherever that looks", async () => {
    const { producer, consumer } = await running();
    expect((await claim(consumer, "a", permit)).kind).toBe("empty");
    // A claim that knows of emails takes its permit before it finds that another has claimed them.
    await store(producer, of(away));
    await store(producer, of(away));
    const [first, second] = [await batchOf(consumer, "a", { countMax: 1 }), await batchOf(consumer, "b")];
    expect([first, second].map(partitionIn)).toEqual([away, away]);
    expect((await claim(consumer, "a", permit)).kind).toBe("empty");
    expect((await consumer.takePermit(permit)).isTaken).toBe(true);
    expect((await consumer.takePermit(permit)).isTaken).toBe(false);
  });

  test("does not keep a claim from being repeated whose answer was lost", async () => {
    const { queue, producer, consumer } = await running();
    const one = { countMax: 1, dueCountMax: 10 };
    const all = [
      await store(producer, of(away)),
      await store(producer, of(away)),
      await store(producer, of(away)),
    ];
    // From now on it knows of emails there, and takes a permit before it claims them.
    await batchOf(consumer, "a", one);
    const proxy = queue.proxies[away]!;
    proxy.onlyWith = all[1]!;
    proxy.replies = "cut";
    await claim(consumer, "a", { ...permit, ...one });
    await eventually("the answer is lost", () => proxy.lost > 0);
    proxy.replies = "pass";
    const batch = await eventually("it is repeated", async () => {
      const result = await claim(consumer, "a", { ...permit, ...one });
      return result.kind === "batch" ? result.batch : undefined;
    });
    expect(batch.emails.map(({ id }) => id)).toEqual([all[1]!]);
    expect((await consumer.takePermit(permit)).isTaken).toBe(false);
  });

  test("goes on, by this worker's part, while the partition that keeps it is down", async () => {
    const { queue, producer, consumer } = await running();
    const quick = { ...permit, startPerSecond: 1000 };
    expect((await consumer.takePermit(quick)).isTaken).toBe(true);
    queue.kill(home);
    await queue.healthy(
      consumer,
      numbers.filter((number) => number !== home),
    );
    await store(producer, of(away));
    const claimed = await eventually("a permit of its part is due", async () => {
      const result = await claim(consumer, "a", quick);
      return result.kind === "batch" ? result : undefined;
    });
    expect(claimed.rate).toMatchObject({ perSecond: 1000, version: 0 });
  });

  test("is kept by its partition again once that is back", async () => {
    const { queue, consumer } = await running();
    queue.kill(home);
    await queue.healthy(
      consumer,
      numbers.filter((number) => number !== home),
    );
    expect((await consumer.takePermit(permit)).isTaken).toBe(true);
    expect((await consumer.takePermit(permit)).isTaken).toBe(false);
    queue.revive(home);
    await eventually("a permit is taken there", async () => (await consumer.takePermit(permit)).isTaken);
  });
});

describe("partitions: a pause", () => {
  test("reaches a partition that was down when it was made, before anything is claimed there", async () => {
    const { queue, producer, consumer, admin } = await running();
    await store(producer, of(3));
    queue.kill(3);
    await queue.healthy(consumer, [0, 1, 2]);
    expect((await admin.setPaused(true)).unreached).toMatchObject([{ partition: 3 }]);
    queue.revive(3);
    await queue.healthy(consumer);
    expect((await claim(consumer)).kind).toBe("paused");
    await eventually("a sweep has written it", async () => {
      await consumer.sweep(serving("resend"));
      return redis.cli("EXISTS", `${queue.tag(3)}:paused`) === "1";
    });
    expect((await claim(consumer)).kind).toBe("paused");
    expect(await admin.setPaused(false)).toEqual({});
    expect((await drain(consumer)).length).toBe(1);
  });

  test("outlasts a claim that was answered before it, but late, while another partition is swept slowly", async () => {
    const { queue, consumer, admin } = await running();
    await consumer.sweep(serving("resend"));
    const [late, slow] = [queue.proxies[1]!, queue.proxies[2]!];
    late.onlyWith = '"kind":"empty"';
    late.replies = "hold";
    expect((await claim(consumer, "late")).kind).toBe("empty");
    await eventually("its answer is held", () => late.heldReplies > 0);
    await admin.setPaused(true);
    const before = scriptCalls();
    slow.replies = "hold";
    const sweeping = consumer.sweep(serving("resend"));
    // Each is looked at before it is swept.
    await eventually("the others are swept", () => scriptCalls() >= before + 7);
    const woken = Promise.withResolvers<void>();
    consumer.onWake(woken.resolve);
    late.release();
    await woken.promise;
    slow.release();
    await sweeping;
    expect((await admin.stats()).paused).toBe(true);
    for (const number of numbers) expect(redis.cli("EXISTS", `${queue.tag(number)}:paused`)).toBe("1");
  });

  test("that a returning partition still has does not stop the others", async () => {
    const { queue, producer, consumer, admin } = await running();
    await admin.setPaused(true);
    queue.kill(3);
    await queue.healthy(consumer, [0, 1, 2]);
    expect((await admin.setPaused(false)).unreached).toMatchObject([{ partition: 3 }]);
    queue.revive(3);
    await queue.healthy(consumer);
    const ids = await Promise.all([0, 3].map((number) => store(producer, of(number))));
    await consumer.sweep(serving("resend"));
    const sent = await drain(consumer);
    expect(sent.toSorted()).toEqual(ids.toSorted());
  });
});

describe("partitions: an operator", () => {
  test("sees all emails, each once, and in the order of time", async () => {
    const { producer, admin } = await running();
    const ids: string[] = [];
    for (let i = 0; i < 30; i += 1) ids.push(await store(producer, submission({ id: Bun.randomUUIDv7() })));
    const seen: string[] = [];
    let from: string | undefined;
    do {
      const page = await admin.list("waiting", 7, from);
      expect(page.emails.length).toBeLessThanOrEqual(7);
      expect(page.emails.map(({ atMs }) => atMs!)).toEqual(page.emails.map(({ atMs }) => atMs!).toSorted());
      seen.push(...page.emails.map(({ id }) => id));
      from = page.next;
    } while (from !== undefined);
    expect(seen.toSorted()).toEqual(ids.toSorted());
    expect((await admin.list("waiting", 1)).emails).toMatchObject([{ id: ids[0] }]);
    expect((await admin.stats()).states.waiting).toBe(30);
  });

  test("learns what a partition that is down keeps from being done, and the rest is done", async () => {
    const { queue, producer, admin } = await running();
    const ids = await Promise.all(numbers.map((number) => store(producer, of(number))));
    queue.kill(1);
    const lost = [{ partition: 1, reason: expect.any(String) }];
    await eventually("it is noticed", async () => (await admin.stats()).unreached !== undefined);
    const stats = await admin.stats();
    expect(stats.unreached).toEqual(lost);
    expect(stats.states.waiting).toBe(3);
    const page = await admin.list("waiting", 100);
    expect(page.emails.length).toBe(3);
    expect(page.unreached).toEqual(lost);
    expect(page.next).toBeUndefined();
    await expect(admin.show(ids[1]!)).rejects.toThrow("partition 1");
    expect(await admin.delete(ids.slice(0, 2))).toEqual(["deleted", "unreached"]);
    expect(await admin.clear(100, stats.nowMs)).toEqual({ deleted: 2, next: undefined, unreached: lost });
    expect(await admin.health()).toMatchObject({ ok: false, reason: expect.stringContaining("partition 1") });
    const second = await queue.administer();
    expect((await second.stats()).unreached).toEqual(lost);
  });
});
