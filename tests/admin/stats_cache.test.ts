import { expect, test } from "bun:test";
import { StatsCache } from "../../lib/admin/stats_cache.ts";
import type { QueueStats } from "../../lib/queue/contract.ts";
import { statsOf } from "./fixtures.ts";

const adminOf = (stats: () => Promise<QueueStats>) => ({ stats, async close() {} });

test("stats cache: the store is asked on the first request, once for all concurrent requests", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let [opened, asked] = [0, 0];
  const cache = new StatsCache(async () => {
    opened += 1;
    return adminOf(() => {
      asked += 1;
      return gate.promise;
    });
  });
  expect(opened).toBe(0);
  const looks = [cache.look(), cache.look(), cache.look()];
  gate.resolve(statsOf({ paused: true }));
  expect((await Promise.all(looks)).map((stats) => stats?.paused)).toEqual([true, true, true]);
  expect(await cache.look()).toEqual(statsOf({ paused: true }));
  expect({ opened, asked }).toEqual({ opened: 1, asked: 1 });
});

test("stats cache: a stale answer is replaced over the same connection", async () => {
  let [opened, asked] = [0, 0];
  const cache = new StatsCache(
    async () => {
      opened += 1;
      return adminOf(async () => statsOf({ bytesUsed: (asked += 1) }));
    },
    { ageMaxMs: 0 },
  );
  expect((await cache.look())?.bytesUsed).toBe(1);
  expect((await cache.look())?.bytesUsed).toBe(2);
  expect(opened).toBe(1);
});

test("stats cache: a hanging store is neither waited for nor asked again, and its late answer is used", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let asked = 0;
  const cache = new StatsCache(
    async () =>
      adminOf(() => {
        asked += 1;
        return gate.promise;
      }),
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

test("stats cache: a store that fails or cannot be opened is asked again by the next request", async () => {
  let tries = 0;
  const cache = new StatsCache(async () => {
    tries += 1;
    if (tries === 1) throw new Error("not there");
    return adminOf(async () => {
      tries += 1;
      if (tries === 3) throw new Error("gone");
      return statsOf();
    });
  });
  expect(await cache.look()).toBeUndefined();
  expect(await cache.look()).toBeUndefined();
  expect(await cache.look()).toEqual(statsOf());
  expect(tries).toBe(4);
});

test("stats cache: if closed while opening, it closes what was opened", async () => {
  const gate = Promise.withResolvers<void>();
  let closed = 0;
  const cache = new StatsCache(async () => {
    await gate.promise;
    return {
      ...adminOf(async () => statsOf()),
      async close() {
        closed += 1;
      },
    };
  });
  const look = cache.look();
  cache.close();
  gate.resolve();
  expect(await look).toBeUndefined();
  expect(closed).toBe(1);
  expect(await cache.look()).toBeUndefined();
});
