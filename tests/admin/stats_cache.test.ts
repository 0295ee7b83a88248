import { expect, test } from "bun:test";
import { StatsCache } from "../../lib/admin/stats_cache.ts";
import type { QueueStats } from "../../lib/queue/contract.ts";
import { statsOf } from "./fixtures.ts";

test("stats cache: the store is asked on the first request, once for all concurrent requests", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let asked = 0;
  const cache = new StatsCache(() => {
    asked += 1;
    return gate.promise;
  });
  expect(asked).toBe(0);
  const looks = [cache.look(), cache.look(), cache.look()];
  gate.resolve(statsOf({ paused: true }));
  expect((await Promise.all(looks)).map((stats) => stats?.paused)).toEqual([true, true, true]);
  expect(await cache.look()).toEqual(statsOf({ paused: true }));
  expect(asked).toBe(1);
});

test("stats cache: a stale answer is replaced", async () => {
  let asked = 0;
  const cache = new StatsCache(async () => statsOf({ bytesUsed: (asked += 1) }), { ageMaxMs: 0 });
  expect((await cache.look())?.bytesUsed).toBe(1);
  expect((await cache.look())?.bytesUsed).toBe(2);
});

test("stats cache: a hanging store is neither waited for nor asked again, and its late answer is used", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let asked = 0;
  const cache = new StatsCache(
    () => {
      asked += 1;
      return gate.promise;
    },
    { waitMaxMs: 20, ageMaxMs: 60_000 },
  );
  expect(await cache.look()).toBeUndefined();
  expect(await cache.look()).toBeUndefined();
  expect(asked).toBe(1);
  gate.resolve(statsOf());
  await gate.promise;
  expect(await cache.look()).toEqual(statsOf());
  expect(asked).toBe(1);
});

test("stats cache: a store that fails is asked again by the next request", async () => {
  let tries = 0;
  const cache = new StatsCache(async () => {
    tries += 1;
    if (tries < 3) throw new Error("gone");
    return statsOf();
  });
  expect(await cache.look()).toBeUndefined();
  expect(await cache.look()).toBeUndefined();
  expect(await cache.look()).toEqual(statsOf());
  expect(tries).toBe(3);
});
