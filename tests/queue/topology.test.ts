// Finding the primary: how contradicting answers are judged, and what happens to real Sentinels and clusters.

import { describe, expect, test } from "bun:test";
import { judgeSentinels } from "../../lib/queue/redis/topology/sentinel.ts";
import { hashSlot } from "../../lib/queue/redis/topology/hash_slot.ts";

const at = (port: number) => ({ host: "a", port });

test("topology: a slot is that of the Redis Cluster Specification", () => {
  expect(hashSlot("123456789")).toBe(0x31c3);
  expect(hashSlot("{user1000}.following")).toBe(hashSlot("user1000"));
  expect(hashSlot("foo{}{bar}")).not.toBe(hashSlot("bar"));
  expect(hashSlot("foo{{bar}}zap")).toBe(hashSlot("{bar"));
  expect(hashSlot("foo{bar}{zap}")).toBe(hashSlot("bar"));
});

describe("topology: among Sentinels that disagree", () => {
  const says = (port: number, epoch: number) => ({ primary: at(port), epoch });

  test("the one that saw the last failover is believed, whatever the others say", () => {
    expect(judgeSentinels([says(1, 3), says(1, 3), says(2, 4)])).toEqual(at(2));
  });

  test("the majority of one epoch is believed", () => {
    expect(judgeSentinels([says(1, 3), says(2, 3), says(2, 3)])).toEqual(at(2));
  });

  test("none is no primary", () => {
    expect(judgeSentinels([])).toBeUndefined();
  });
});
