// The conformance suite on Redis.

import { afterAll, beforeAll } from "bun:test";
import { openRedisIntake } from "../../lib/queue/redis/intake.ts";
import { openRedisOperator } from "../../lib/queue/redis/operator.ts";
import { openRedisWork } from "../../lib/queue/redis/work.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { silent } from "../support/log.ts";
import { eventually } from "../support/eventually.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import type { QueueUnderTest } from "./tools.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

let queues = 0;
async function open(): Promise<QueueUnderTest> {
  let offsetMs = 0;
  let passedMs = 0;
  queues += 1;
  const options = {
    url: redis.url,
    prefix: `test-${queues}`,
    minReplicas: 0,
    durability: "verify" as const,
    retainMs: 24 * 3_600_000,
    log: silent,
    onFatal: (reason: string) => {
      throw new Error(reason);
    },
    clockOffsetMs: () => offsetMs,
    monotonicOffsetMs: () => passedMs,
  };
  const intake = openRedisIntake(options);
  const work = openRedisWork(options);
  await eventually("both are connected", () => intake.health().ok && work.health().ok);
  const operator = await openRedisOperator(options);
  return {
    intake,
    work,
    operator,
    advance: (ms) => {
      offsetMs += ms;
      passedMs += ms;
    },
    step: (ms) => {
      offsetMs += ms;
    },
    async close() {
      await Promise.all([intake.close(), work.close(), operator.close()]);
    },
  };
}

conformance("queue on Redis", open);
conformanceClock("queue on Redis", open);
