// The conformance suite on Redis.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { StoreLimits } from "../../lib/queue/contract.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { eventually } from "../support/eventually.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { conformanceFiles } from "./conformance_files.ts";
import { hourMs, type QueueUnderTest, serving, submission, toolsFor } from "./conformance_tools.ts";
import { openRedisQueue } from "./redis_queue.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const open = (limits?: StoreLimits) => openRedisQueue(redis.url, 1, limits);

conformance("queue on Redis", open);
conformanceClock("queue on Redis", open);
conformanceFiles("queue on Redis", open);

describe("queue on Redis, its sweeps:", () => {
  const tools = toolsFor(open);
  const step = async (q: QueueUnderTest) => (await q.admin.stats()).clockStep;

  test("a sweep that Redis executes late, as its reply shows, finds no step", async () => {
    const q = await tools.queue();
    await q.consumer.sweep(serving("resend"));
    const [id] = await tools.submitMany(q, 1);
    await tools.settle(q, await tools.claim(q), [tools.sent(id!)]);
    // Sent now, and executed half an hour later by Redis's clock.
    q.step(30 * 60_000);
    const held = q.consumer.sweep(serving("resend"));
    q.step(-30 * 60_000);
    q.advance(30 * 60_000);
    await held;
    expect(await step(q)).toBeUndefined();
    q.advance(24 * hourMs);
    await q.consumer.sweep(serving("resend"));
    expect(await step(q)).toBeUndefined();
    expect(await tools.state(q, id!)).toBeUndefined();
  });

  test("a sweep changes nothing if the clock has stepped since it looked at it", async () => {
    const q = await tools.queue();
    const idempotency = { key: "order-17", fingerprint: "a", token: "" };
    const first = submission({ idempotency });
    await tools.submit(q, first);
    await q.consumer.sweep(serving("resend"));
    q.advance(2 * hourMs);
    await q.consumer.sweep(serving("resend"));
    let [isSwept, calls] = [false, 0];
    const other = q.another(() => (isSwept && (calls += 1) > 1 ? 25 * hourMs : 0));
    await eventually("it is connected", () => other.health().ok);
    isSwept = true;
    await other.sweep({ ...serving("resend"), worker: Bun.randomUUIDv7() });
    expect(calls).toBe(2);
    expect(await tools.submit(q, submission({ idempotency }))).toEqual([first.id]);
  });

  test("the sweeps of several workers find a step once", async () => {
    const q = await tools.queue();
    const others = [1, 2].map(() => ({ consumer: q.another(), worker: Bun.randomUUIDv7() }));
    const sweep = async () => {
      await q.consumer.sweep(serving("resend"));
      for (const { consumer, worker } of others) await consumer.sweep({ ...serving("resend"), worker });
    };
    await eventually("all are connected", () => others.every(({ consumer }) => consumer.health().ok));
    await sweep();
    await tools.submitMany(q, 1);
    const before = await tools.claim(q);
    for (const ms of [5 * hourMs, -5 * hourMs]) {
      q.step(ms);
      await sweep();
      expect((await step(q))!.byMs).toBeWithin(ms - 2000, ms + 2000);
    }
    await tools.settle(q, before, [], tools.doubt);
    // If found more than once, the steps would not cancel each other.
    expect((await tools.claim(q)).doubtEndsAtMs).toBe(before.doubtEndsAtMs);
  });

  test("a step right after another is found, even by a worker that has not seen the first", async () => {
    const q = await tools.queue();
    const other = q.another();
    const key = { key: "order-17", fingerprint: "a", token: "" };
    const first = submission({ idempotency: key });
    await tools.submit(q, first);
    await eventually("it is connected", () => other.health().ok);
    const sweepOther = () =>
      other.sweep({ ...serving("resend"), worker: "01234567-0000-7000-8000-000000000001" });
    await q.consumer.sweep(serving("resend"));
    await sweepOther();
    q.step(-25 * hourMs);
    await q.consumer.sweep(serving("resend"));
    q.step(50 * hourMs);
    await sweepOther();
    expect((await step(q))!.byMs).toBeWithin(50 * hourMs - 2000, 50 * hourMs + 2000);
    expect(await tools.submit(q, submission({ idempotency: key }))).toEqual([first.id]);
    await q.consumer.sweep(serving("resend"));
    expect((await step(q))!.byMs).toBeWithin(50 * hourMs - 2000, 50 * hourMs + 2000);
  });

  test("a new worker leaves a step to one that knows how much time has passed", async () => {
    const q = await tools.queue();
    await q.consumer.sweep(serving("resend"));
    await tools.submitMany(q, 1);
    const before = await tools.claim(q);
    for (const ms of [-365 * 24 * hourMs, 365 * 24 * hourMs]) {
      q.step(ms);
      const started = q.another();
      await eventually("it is connected", () => started.health().ok);
      if (ms > 0) await started.sweep({ ...serving("resend"), worker: Bun.randomUUIDv7() });
      await q.consumer.sweep(serving("resend"));
      expect((await step(q))!.byMs).toBeWithin(ms - 2000, ms + 2000);
    }
    await tools.settle(q, before, [], tools.doubt);
    const { doubtEndsAtMs } = await tools.claim(q);
    expect(doubtEndsAtMs).toBeWithin(before.doubtEndsAtMs - 10_000, before.doubtEndsAtMs + 10_000);
  });

  test("nothing expires for an hour after a time without workers, since nobody knows how much time has passed", async () => {
    const q = await tools.queue();
    const key = { key: "order-17", fingerprint: "a", token: "" };
    const first = submission({ idempotency: key });
    await tools.submit(q, first);
    await q.consumer.sweep(serving("resend"));
    q.advance(25 * hourMs);
    const later = q.another();
    await eventually("it is connected", () => later.health().ok);
    // At first it leaves the judgment to others, but there are none.
    await later.sweep(serving("resend"));
    q.advance(6000);
    await later.sweep(serving("resend"));
    expect(await step(q)).toBeUndefined();
    expect(await tools.submit(q, submission({ idempotency: key }))).toEqual([first.id]);
    q.advance(hourMs + 1000);
    await later.sweep(serving("resend"));
    const second = submission({ idempotency: key });
    expect(await tools.submit(q, second)).toEqual([second.id]);
  });
});
