import { describe, expect, test } from "bun:test";
import { mergeHealth, mergeStrictly } from "../../lib/queue/redis/partitioned/partitions.ts";
import type { PartitionStats } from "../../lib/queue/redis/batch_codec.ts";
import { mergeStats } from "../../lib/queue/redis/partitioned/stats.ts";
import { createId, hashSlot, partitionOf, tagOf } from "../../lib/queue/redis/partition.ts";

/** All that REDIS_PARTITIONS may be. */
const counts = Array.from({ length: 64 }, (_, i) => i + 1);
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("partition", () => {
  test("that of a text is its CRC-32 modulo their number, whatever the release", () => {
    // The check value of CRC-32 is 0xcbf43926.
    expect(partitionOf("123456789", 1_000_000)).toBe(0xcbf43926 % 1_000_000);
    expect(partitionOf("0192f8a0-0000-7000-8000-000000000000", 4)).toBe(3);
    expect(partitionOf("order-17", 1)).toBe(0);
  });

  test("a new id is of the one it is made for", () => {
    for (const partitions of [1, 4, 64]) {
      for (const partition of range(partitions)) {
        const id = createId(partition, partitions);
        expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
        expect(partitionOf(id, partitions)).toBe(partition);
      }
    }
  });

  test("ids spread evenly", () => {
    const found = range(4).map(() => 0);
    for (let i = 0; i < 8000; i += 1) found[partitionOf(Bun.randomUUIDv7(), 4)]! += 1;
    for (const count of found) expect(count).toBeWithin(1700, 2300);
  });

  test("number 0 has the tag of a queue with one, whatever their number", () => {
    for (const count of counts) expect(tagOf("mail", 0, count)).toBe("{mail:0}");
    expect(range(4).map((i) => tagOf("mail", i, 4))).toEqual([
      "{mail:0}",
      "{mail:1}",
      "{mail:2}",
      "{mail:3}",
    ]);
  });

  test("each of four or more lies in another part of the slots", () => {
    for (const prefix of ["reliable-email", "a", "x:y/z"]) {
      for (const count of counts.filter((one) => one >= 4)) {
        const parts = range(count).map((i) =>
          Math.floor((hashSlot(tagOf(prefix, i, count)) * count) / 16_384),
        );
        expect(new Set(parts).size).toBe(count);
      }
    }
  });
});

test("partitions: a process is healthy while one of them is, and warns of the others", () => {
  const partitions = [
    { ok: true, warning: "1 replica is connected" },
    { ok: true },
    { ok: false, reason: "not connected" },
    { ok: true, warning: "1 replica is connected" },
  ] as const;
  const warning = "partition 0, 3: 1 replica is connected; partition 2: not connected";
  expect(mergeHealth(partitions)).toEqual({ ok: true, warning, partitions });
  expect(mergeHealth([{ ok: true }])).toEqual({ ok: true, partitions: [{ ok: true }] });
  const reason = "no partition can be used (partition 0: not connected)";
  expect(mergeHealth(partitions.slice(2, 3))).toMatchObject({ ok: false, reason });
});

test("partitions: a check is passed only if all partitions pass it", () => {
  const broken = { ok: false, reason: "not connected" } as const;
  expect(mergeStrictly([broken, { ok: true, warning: "x" }, broken])).toMatchObject({
    ok: false,
    reason: "partition 0, 2: not connected",
  });
  expect(mergeStrictly([{ ok: true, warning: "x" }])).toMatchObject({ ok: true, warning: "partition 0: x" });
});

test("partitions: their statistics are added, and their times compared by how long ago they were", () => {
  const states = { scheduled: 0, waiting: 1, retrying: 0, sending: 0, "in-doubt": 0, dead: 0, sent: 2 };
  const common = {
    states,
    paused: false,
    pauseVersion: 0,
    moving: false,
    fileBytes: 1,
    bytesUsed: 5,
    bytesMax: 10,
  };
  const partition = (over: Partial<PartitionStats>): PartitionStats => {
    return { ...common, nowMs: 100_000, node: "a", counters: {}, providers: {}, ...over };
  };
  const merged = mergeStats([
    partition({
      counters: { "accepted:resend": 2 },
      oldestDueAtMs: 95_000,
      providers: {
        resend: {
          lastAcceptedAtMs: 90_000,
          failingSinceMs: 91_000,
          lastFailedAtMs: 92_000,
          lastFailure: "x",
        },
      },
    }),
    // Its clock is behind by 50 s.
    partition({
      nowMs: 50_000,
      node: "b",
      pauseVersion: 1,
      paused: true,
      counters: { "accepted:resend": 3, restamped: 1 },
      oldestDueAtMs: 44_000,
      providers: {
        resend: {
          lastAcceptedAtMs: 42_500,
          failingSinceMs: 43_000,
          lastFailedAtMs: 44_000,
          lastFailure: "y",
          isUnanswered: true,
        },
        postmark: { rate: { perSecond: 9, pausedUntilMs: 51_000 } },
      },
      clockStep: { atMs: 40_000, byMs: -50_000 },
    }),
    partition({ nowMs: 99_000, oldestDueAtMs: 96_000 }),
  ]);
  expect(merged).toEqual({
    nowMs: 100_000,
    states: { scheduled: 0, waiting: 3, retrying: 0, sending: 0, "in-doubt": 0, dead: 0, sent: 6 },
    counters: { "accepted:resend": 5, restamped: 1 },
    oldestDueAtMs: 94_000,
    paused: true,
    moving: false,
    clockStep: { atMs: 90_000, byMs: -50_000 },
    fileBytes: 3,
    bytesUsed: 10,
    bytesMax: 20,
    providers: {
      resend: {
        lastAcceptedAtMs: 92_500,
        failingSinceMs: 93_000,
        lastFailedAtMs: 94_000,
        lastFailure: "y",
        isUnanswered: true,
      },
      postmark: { rate: { perSecond: 9, pausedUntilMs: 101_000 } },
    },
  });
});
