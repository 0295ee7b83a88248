import { expect, test } from "bun:test";
import { createStatsCache } from "../../lib/admin/stats_cache.ts";
import type { Admin, QueueStats } from "../../lib/queue/contract.ts";
import { statsOf } from "./fixtures.ts";

/** An operator of which only `stats` is asked. */
const operatorOf = (stats: () => Promise<QueueStats>) => ({ stats, async close() {} }) as unknown as Admin;

test("view: the store is not asked before somebody asks, then once for all that ask meanwhile", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let [opened, asked] = [0, 0];
  const view = createStatsCache({
    async open() {
      opened += 1;
      return operatorOf(() => {
        asked += 1;
        return gate.promise;
      });
    },
  });
  expect(opened).toBe(0);
  const looks = [view.look(), view.look(), view.look()];
  gate.resolve(statsOf({ paused: true }));
  expect((await Promise.all(looks)).map((stats) => stats?.paused)).toEqual([true, true, true]);
  expect(await view.look()).toEqual(statsOf({ paused: true }));
  expect({ opened, asked }).toEqual({ opened: 1, asked: 1 });
});

test("view: an answer that is too old is asked for again, on the same connection", async () => {
  let [opened, asked] = [0, 0];
  const view = createStatsCache({
    freshMs: 0,
    async open() {
      opened += 1;
      return operatorOf(async () => statsOf({ bytesUsed: (asked += 1) }));
    },
  });
  expect((await view.look())?.bytesUsed).toBe(1);
  expect((await view.look())?.bytesUsed).toBe(2);
  expect(opened).toBe(1);
});

test("view: a store that hangs is not waited for, nor asked a second time, and its late answer serves", async () => {
  const gate = Promise.withResolvers<QueueStats>();
  let asked = 0;
  const view = createStatsCache({
    deadlineMs: 20,
    freshMs: 60_000,
    open: async () =>
      operatorOf(() => {
        asked += 1;
        return gate.promise;
      }),
  });
  expect(await view.look()).toBeUndefined();
  expect(await view.look()).toBeUndefined();
  expect(asked).toBe(1);
  gate.resolve(statsOf());
  await gate.promise;
  expect(await view.look()).toEqual(statsOf());
  expect(asked).toBe(1);
});

test("view: a store that fails, or cannot be opened, is asked again the next time", async () => {
  let tries = 0;
  const view = createStatsCache({
    async open() {
      tries += 1;
      if (tries === 1) throw new Error("not there");
      return operatorOf(async () => {
        tries += 1;
        if (tries === 3) throw new Error("gone");
        return statsOf();
      });
    },
  });
  expect(await view.look()).toBeUndefined();
  expect(await view.look()).toBeUndefined();
  expect(await view.look()).toEqual(statsOf());
  expect(tries).toBe(4);
});

test("view: closed while it opens, it lets go of what was opened", async () => {
  const gate = Promise.withResolvers<void>();
  let closed = 0;
  const view = createStatsCache({
    async open() {
      await gate.promise;
      return {
        ...operatorOf(async () => statsOf()),
        async close() {
          closed += 1;
        },
      };
    },
  });
  const look = view.look();
  view.close();
  gate.resolve();
  expect(await look).toBeUndefined();
  expect(closed).toBe(1);
  expect(await view.look()).toBeUndefined();
});
