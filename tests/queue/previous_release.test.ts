// Both queues, used by the adjacent release and this one side by side.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { extractPreviousRelease, hasPreviousRelease, orWhyNoRelease } from "../support/previous_release.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { besidePrevious, type QueueOfBoth } from "./conformance_previous.ts";
import { hourMs, serving, submission, toolsFor } from "./conformance_tools.ts";
import { openRedisQueue } from "./redis_queue.ts";
import { openSqliteQueue } from "./sqlite_queue.ts";

const sources = mkdtempSync(join(tmpdir(), "reliable-email-previous-"));
afterAll(() => rmSync(sources, { recursive: true }));
if (hasPreviousRelease) extractPreviousRelease(sources);

/** A module of the previous release. */
async function load<Module>(path: string): Promise<Module> {
  return (await import(join(sources, path))) as Module;
}

async function openSqlite(): Promise<QueueOfBoth> {
  const q = await openSqliteQueue();
  const { openSqliteProducer } = await load<typeof import("../../lib/queue/sqlite/producer.ts")>(
    "lib/queue/sqlite/producer.ts",
  );
  const { openSqliteConsumer } = await load<typeof import("../../lib/queue/sqlite/consumer.ts")>(
    "lib/queue/sqlite/consumer.ts",
  );
  const { openSqliteAdmin } =
    await load<typeof import("../../lib/queue/sqlite/admin.ts")>("lib/queue/sqlite/admin.ts");
  const [producer, consumer] = [openSqliteProducer(q.options), openSqliteConsumer(q.options)];
  await consumer.compatible;
  return beside(q, { producer, consumer, admin: await openSqliteAdmin(q.options) });
}

let redis: RedisServer;

async function openRedis(): Promise<QueueOfBoth> {
  const q = await openRedisQueue(redis.url);
  const { RedisProducer } = await load<typeof import("../../lib/queue/redis/producer.ts")>(
    "lib/queue/redis/producer.ts",
  );
  const { RedisConsumer } = await load<typeof import("../../lib/queue/redis/consumer.ts")>(
    "lib/queue/redis/consumer.ts",
  );
  const { openRedisAdmin } =
    await load<typeof import("../../lib/queue/redis/admin.ts")>("lib/queue/redis/admin.ts");
  const [producer, consumer] = [new RedisProducer(q.options), new RedisConsumer(q.options)];
  await eventually("the previous release is connected", () => producer.health().ok && consumer.health().ok);
  return beside(q, { producer, consumer, admin: await openRedisAdmin(q.options) });
}

function beside(
  q: Awaited<ReturnType<typeof openSqliteQueue>> | Awaited<ReturnType<typeof openRedisQueue>>,
  previous: QueueOfBoth["previous"],
): QueueOfBoth {
  const close = async () => {
    await Promise.all(Object.values(previous).map((one) => one.close()));
    await q.close();
  };
  return { ...q, previous, close };
}

describe.skipIf(!hasPreviousRelease)(`two releases${orWhyNoRelease}:`, () => {
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  besidePrevious("embedded queue", openSqlite);
  besidePrevious("queue on Redis", openRedis);

  test("embedded queue: sweeps of the previous release leave the key of a scheduled email its life", async () => {
    const { queue, submit } = toolsFor(openSqlite);
    const q = await queue();
    const { nowMs } = await q.admin.stats();
    const sendAtMs = nowMs + 100 * hourMs;
    const keyed = () =>
      submission({ isHidden: true, sendAtMs, idempotency: { key: "k", fingerprint: "f", token: "" } });
    const [id] = await submit(q, keyed());
    for (let hour = 0; hour < 123; hour += 1) {
      await q.previous.consumer.sweep(serving("resend"));
      q.advance(hourMs);
    }
    expect(await submit(q, keyed())).toEqual([id!]);
  });

  test("embedded queue: a step of the clock that the previous release notices moves the end of a doubt", async () => {
    const { queue, submit, claim } = toolsFor(openSqlite);
    const q = await queue();
    await submit(q, submission({ isHidden: true }));
    await q.previous.consumer.sweep(serving("resend"));
    const first = await claim(q);
    q.step(-2 * hourMs);
    await q.previous.consumer.sweep(serving("resend"));
    q.advance(3 * hourMs);
    const again = await claim(q, { sources: ["batches"] });
    const passedMs = first.doubtEndsAtMs - first.nowMs - (again.doubtEndsAtMs - again.nowMs);
    // Only as exact as the distance of two sweeps.
    expect(passedMs).toBeWithin(3 * hourMs - 10_000, 3 * hourMs + 10_000);
  });
});
