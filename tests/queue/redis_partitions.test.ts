// The conformance suite on four partitions of one Redis.

import { afterAll, beforeAll } from "bun:test";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { openRedisQueue } from "./redis_queue.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const open = () => openRedisQueue(redis.url, 4);

conformance("queue on four partitions", open, true);
conformanceClock("queue on four partitions", open, true);
