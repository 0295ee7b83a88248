// Whether a Redis is durable, judged from its INFO and CONFIG.

import { expect, test } from "bun:test";
import { judgeDurability } from "../../lib/queue/redis/durability.ts";

const info = {
  loading: "0",
  role: "master",
  connected_slaves: "0",
  aof_enabled: "1",
  aof_last_write_status: "ok",
  aof_rewrite_in_progress: "0",
  aof_rewrite_scheduled: "0",
  aof_last_bgrewrite_status: "ok",
};
const config = { appendfsync: "always", "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction" };

const inCluster = { redis_mode: "cluster" };

const rows: [string, object, object, "ready" | "pending" | "refused"][] = [
  ["as in docs/deploy-redis.md", {}, {}, "ready"],
  ["still loading", { loading: "1" }, {}, "pending"],
  ["a replica", { role: "slave" }, {}, "pending"],
  ["without an append-only file", { aof_enabled: "0" }, {}, "refused"],
  ["whose last write failed", { aof_last_write_status: "err" }, {}, "refused"],
  ["in a rewrite, at first sight", { aof_rewrite_in_progress: "1" }, {}, "pending"],
  ["about to rewrite, at first sight", { aof_rewrite_scheduled: "1" }, {}, "pending"],
  ["whose first rewrite failed", { aof_last_bgrewrite_status: "err" }, {}, "refused"],
  ["that fsyncs each second", {}, { appendfsync: "everysec" }, "refused"],
  ["that does not fsync in a rewrite", {}, { "no-appendfsync-on-rewrite": "yes" }, "refused"],
  [
    "in a cluster of which all shards must be up",
    inCluster,
    { "cluster-require-full-coverage": "yes" },
    "refused",
  ],
  [
    "in a cluster whose shards are independent",
    inCluster,
    { "cluster-require-full-coverage": "no" },
    "ready",
  ],
  ["outside a cluster", { redis_mode: "standalone" }, { "cluster-require-full-coverage": "yes" }, "ready"],
  ["that evicts", {}, { "maxmemory-policy": "allkeys-lru" }, "refused"],
];
for (const [what, inInfo, inConfig, verdict] of rows) {
  test(`durability: a Redis ${what} is ${verdict}`, () => {
    expect(judgeDurability({ ...info, ...inInfo }, { ...config, ...inConfig }, 0, false).kind).toBe(verdict);
  });
}

test("durability: a rewrite, even a failed one, does not matter for a Redis that was durable before", () => {
  const later = { ...info, aof_rewrite_in_progress: "1", aof_last_bgrewrite_status: "err" };
  expect(judgeDurability(later, config, 0, true).kind).toBe("ready");
});

test("durability: too few replicas are waited for", () => {
  expect(judgeDurability({ ...info, connected_slaves: "1" }, config, 2, true).kind).toBe("pending");
  expect(judgeDurability({ ...info, connected_slaves: "2" }, config, 2, true).kind).toBe("ready");
});

test("durability: no more replicas than REDIS_MIN_REPLICAS cause a warning, with trust too", () => {
  const judged = (replicas: string, minReplicas: number) =>
    [config, undefined].map((one) =>
      judgeDurability({ ...info, connected_slaves: replicas }, one, minReplicas, true),
    );
  const warned = { kind: "ready", warning: expect.stringMatching(/^1 replica is connected/) };
  expect<object[]>(judged("1", 1)).toEqual([warned, warned]);
  expect(judged("2", 1)).toEqual([{ kind: "ready" }, { kind: "ready" }]);
  expect(judged("0", 0)).toEqual([{ kind: "ready" }, { kind: "ready" }]);
});

test("durability: trust replaces the checks of CONFIG, but not of the role", () => {
  expect(judgeDurability({ ...info, aof_enabled: "0" }, undefined, 0, false).kind).toBe("ready");
  expect(judgeDurability({ ...info, role: "slave" }, undefined, 0, false).kind).toBe("pending");
});

test("durability: every wrong setting is named, with the commands that fix it", () => {
  const wrong = judgeDurability(
    { ...info, aof_enabled: "0" },
    { ...config, appendfsync: "everysec" },
    0,
    false,
  );
  expect(wrong).toMatchObject({
    reason: expect.stringMatching(/appendonly.*appendfsync/),
    fixes: ["CONFIG SET appendonly yes", "CONFIG SET appendfsync always", "CONFIG REWRITE"],
  });
});
