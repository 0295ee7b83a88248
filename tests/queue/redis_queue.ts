// A queue on Redis for one test, and a consumer for each further worker.

import type { Consumer, StoreLimits } from "../../lib/queue/contract.ts";
import { openPartitionedAdmin } from "../../lib/queue/redis/partitioned/admin.ts";
import { PartitionedConsumer } from "../../lib/queue/redis/partitioned/consumer.ts";
import { PartitionedProducer } from "../../lib/queue/redis/partitioned/producer.ts";
import { RedisProducer, type RedisProducerOptions } from "../../lib/queue/redis/producer.ts";
import { openRedisAdmin } from "../../lib/queue/redis/admin.ts";
import { RedisConsumer, type RedisConsumerOptions } from "../../lib/queue/redis/consumer.ts";
import { silent } from "../support/log.ts";
import { eventually } from "../support/eventually.ts";
import type { QueueUnderTest } from "./conformance_tools.ts";

let queues = 0;
export interface RedisQueue extends QueueUnderTest {
  /** With which a process opens the same queue. */
  readonly options: RedisConsumerOptions & RedisProducerOptions;
  /** The consumer of another worker on the same queue, for which the clock is ahead by so much. */
  another(aheadMs?: () => number): Consumer;
}

/** Opens a new queue at this `REDIS_URL`. */
export async function openRedisQueue(
  url: string,
  partitions = 1,
  limits: StoreLimits = {},
): Promise<RedisQueue> {
  const isPartitioned = partitions > 1;
  const ProducerOf = isPartitioned ? PartitionedProducer : RedisProducer;
  const ConsumerOf = isPartitioned ? PartitionedConsumer : RedisConsumer;
  let offsetMs = 0;
  let passedMs = 0;
  queues += 1;
  const options = {
    url,
    prefix: `test-${queues}`,
    ...limits,
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
  const producer = new ProducerOf(options);
  const consumer = new ConsumerOf(options);
  // In each partition, one wake-up when its settlements are connected, and one when it has subscribed.
  let wakes = 0;
  consumer.onWake(() => (wakes += 1));
  const areHealthy = () =>
    [producer.health(), consumer.health()].every((one) =>
      [one, ...(one.partitions ?? [])].every(({ ok }) => ok),
    );
  await eventually("both are connected", () => areHealthy() && wakes === 2 * partitions);
  const admin = await (isPartitioned ? openPartitionedAdmin : openRedisAdmin)(options);
  const others: Consumer[] = [];
  return {
    options,
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
    another(aheadMs = () => 0) {
      const other = new ConsumerOf({ ...options, clockOffsetMs: () => offsetMs + aheadMs() });
      others.push(other);
      return other;
    },
    async close() {
      await Promise.all([producer, consumer, admin, ...others].map((one) => one.close()));
    },
  };
}
