// The conformance suite on four partitions of a Redis Cluster.

import { afterAll, beforeAll } from "bun:test";
import type { StoreLimits } from "../../lib/queue/contract.ts";
import { type RedisCluster, startRedisCluster } from "../support/redis_cluster.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { conformanceFiles } from "./conformance_files.ts";
import { openRedisQueue } from "./redis_queue.ts";

let redis: RedisCluster;
beforeAll(async () => {
  // A busy machine must not pass for a dead node.
  redis = await startRedisCluster({ replicas: 0, settings: { "cluster-node-timeout": "60000" } });
});
afterAll(() => redis.stop());

const open = (limits?: StoreLimits) => openRedisQueue(redis.url, 4, limits);

conformance("queue on Redis Cluster", open, true);
conformanceClock("queue on Redis Cluster", open, true);
conformanceFiles("queue on Redis Cluster", open, 4);
