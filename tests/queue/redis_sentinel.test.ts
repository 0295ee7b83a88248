// The conformance suite on Redis with Sentinel.

import { afterAll, beforeAll } from "bun:test";
import { type RedisSentinel, startRedisSentinel } from "../support/redis_sentinel.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { openRedisQueue } from "./redis_queue.ts";

let redis: RedisSentinel;
beforeAll(async () => {
  // Without replicas, a busy machine cannot cause a failover.
  redis = await startRedisSentinel({ replicas: 0 });
});
afterAll(() => redis.stop());

const open = () => openRedisQueue(redis.url);

conformance("queue on Redis with Sentinel", open);
conformanceClock("queue on Redis with Sentinel", open);
