// The conformance suite on four partitions of one Redis.

import { afterAll, beforeAll } from "bun:test";
import { openPartitionedAdmin } from "../../lib/queue/redis/partitioned/admin.ts";
import { openPartitionedConsumer } from "../../lib/queue/redis/partitioned/consumer.ts";
import { openPartitionedProducer } from "../../lib/queue/redis/partitioned/producer.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import type { QueueUnderTest } from "./conformance_tools.ts";

const partitions = 4;
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
    partitions,
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
  const producer = openPartitionedProducer(options);
  const consumer = openPartitionedConsumer(options);
  let wakes = 0;
  consumer.onWake(() => (wakes += 1));
  const isReady = () =>
    [producer, consumer].every((one) => one.health().partitions!.every(({ ok }) => ok)) &&
    wakes === 2 * partitions;
  await eventually("all partitions are connected", isReady);
  const admin = await openPartitionedAdmin(options);
  return {
    producer,
    consumer,
    admin,
    advance: (ms) => {
      offsetMs += ms;
      passedMs += ms;
    },
    step: (ms) => {
      offsetMs += ms;
    },
    async close() {
      await Promise.all([producer, consumer, admin].map((one) => one.close()));
    },
  };
}

conformance("queue on four partitions", open, true);
conformanceClock("queue on four partitions", open, true);
