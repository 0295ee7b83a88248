// The move of a queue with several partitions, each of which is a queue on Redis of its own here.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { idempotencyMs, type Admin } from "../../lib/queue/contract.ts";
import { partitionOf } from "../../lib/queue/redis/partition.ts";
import { PartitionedMove } from "../../lib/queue/redis/partitioned/move.ts";
import { queueAdminOf } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { submission } from "./conformance_tools.ts";

let redis: RedisServer;
let partitions: Admin[] = [];
beforeAll(async () => {
  redis = await startRedis();
  const names = ["a", "b", "c"];
  partitions = await Promise.all(
    names.map((name) => queueAdminOf({ REDIS_URL: redis.url, REDIS_PREFIX: name })),
  );
});
afterAll(async () => {
  await Promise.all(partitions.map((one) => one.close()));
  await redis.stop();
});

test("partitions: keys and dead letters go to their own partition, and every key is listed", async () => {
  const move = new PartitionedMove(partitions);
  const keys = Array.from({ length: 40 }, (_, i) => {
    const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "", lifeMs: idempotencyMs };
    return { key: `order-${i}`, uses: [use] };
  });
  expect(await move.rememberKeys(keys)).toEqual({ added: 40, conflicts: 0 });
  const others = keys.map(({ key, uses }) => ({ key, uses: [{ ...uses[0]!, id: Bun.randomUUIDv7() }] }));
  expect(await move.rememberKeys(others)).toEqual({ added: 0, conflicts: 40 });
  for (const limit of [1, 7, 1000]) {
    const listed: string[] = [];
    for (let from: string | undefined; ;) {
      const page = await move.listKeys(limit, from);
      listed.push(...page.keys.map(({ key }) => key));
      if (page.next === undefined) break;
      from = page.next;
    }
    expect(listed.toSorted()).toEqual(keys.map(({ key }) => key).toSorted());
  }
  const held = await Promise.all(partitions.map((one) => one.listKeys(1000)));
  for (const [number, page] of held.entries()) {
    expect(page.keys.length).toBeGreaterThan(0);
    for (const { key } of page.keys) expect(partitionOf(key, 3)).toBe(number);
  }

  const letters = Array.from({ length: 20 }, (_, i) => {
    return { ...submission(), submittedAtMs: 1, diedAtMs: 2 + i, history: "h" };
  });
  await move.adopt(letters.slice(0, 5));
  await Promise.all(partitions.map((one) => one.delete([letters[3]!.id])));
  const answers = letters.map((_, i) => (i === 3 ? "deleted" : i < 5 ? "known" : "adopted"));
  expect(await move.adopt(letters)).toEqual(answers);
  for (const { id } of letters) {
    const shown = await Promise.all(partitions.map((one) => one.show(id)));
    const found = shown.flatMap((one, number) => (one === undefined ? [] : [number]));
    expect(found).toEqual([partitionOf(id, 3)]);
  }
});

test("partitions: a move closes and opens all of them", async () => {
  const move = new PartitionedMove(partitions);
  const moving = async () =>
    (await Promise.all(partitions.map((one) => one.stats()))).map((one) => one.moving);
  await move.beginMove();
  expect(await moving()).toEqual([true, true, true]);
  await move.cancelMove();
  expect(await moving()).toEqual([false, false, false]);
});
