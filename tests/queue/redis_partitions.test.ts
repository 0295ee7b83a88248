// The conformance suite on four partitions of one Redis.

import { afterAll, beforeAll } from "bun:test";
import type { StoreLimits } from "../../lib/queue/contract.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { conformanceFiles } from "./conformance_files.ts";
import { openRedisQueue } from "./redis_queue.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const open = (limits?: StoreLimits) => openRedisQueue(redis.url, 4, limits);

conformance("queue on four partitions", open, true);
conformanceClock("queue on four partitions", open, true);
conformanceFiles("queue on four partitions", open, 4);
