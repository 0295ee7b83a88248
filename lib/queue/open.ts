// Opens a queue from its settings: the only file above the stores that knows that there are two.

import type { Log } from "../runtime/log.ts";
import type { Admin, Consumer, Health, Producer, ProducerWatcher, StoreWatcher } from "./contract.ts";
import { checkRedis as checkOnePartition, openRedisAdmin } from "./redis/admin.ts";
import { openRedisConsumer } from "./redis/consumer.ts";
import { checkPartitions, openPartitionedAdmin } from "./redis/partitioned/admin.ts";
import { openPartitionedConsumer } from "./redis/partitioned/consumer.ts";
import { openPartitionedProducer } from "./redis/partitioned/producer.ts";
import { openRedisProducer } from "./redis/producer.ts";
import { openSqliteAdmin } from "./sqlite/admin.ts";
import { openSqliteConsumer } from "./sqlite/consumer.ts";
import { openSqliteProducer } from "./sqlite/producer.ts";

interface RedisSettings {
  readonly kind: "redis";
  readonly url: string;
  readonly prefix: string;
  /** Default: 1. */
  readonly partitions?: number;
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
}

/** Where the queue is: in Redis, or embedded as a file in `folder`. */
export type QueueSettings = RedisSettings | { readonly kind: "sqlite"; readonly folder: string };

function isPartitioned({ partitions = 1 }: RedisSettings): boolean {
  return partitions > 1;
}

export function openProducer(queue: QueueSettings, watcher: ProducerWatcher): Producer {
  if (queue.kind === "redis") {
    const open = isPartitioned(queue) ? openPartitionedProducer : openRedisProducer;
    return open({ ...queue, ...watcher });
  }
  return openSqliteProducer({ ...queue, ...watcher });
}

/** @param retainMs how long the record of a sent email is kept */
export function openConsumer(queue: QueueSettings, retainMs: number, watcher: StoreWatcher): Consumer {
  if (queue.kind === "redis") {
    const open = isPartitioned(queue) ? openPartitionedConsumer : openRedisConsumer;
    return open({ ...queue, ...watcher, retainMs });
  }
  return openSqliteConsumer({ ...queue, ...watcher, retainMs });
}

/**
 * Creates no queue: rejects with `QueueMissing` if no server and no worker has created one.
 * @param retainMs how long the id of a deleted email stays known
 */
export async function openAdmin(queue: QueueSettings, retainMs: number, log: Log): Promise<Admin> {
  if (queue.kind === "redis") {
    const open = isPartitioned(queue) ? openPartitionedAdmin : openRedisAdmin;
    return open({ ...queue, retainMs, log });
  }
  return openSqliteAdmin({ ...queue, retainMs, log });
}

/** As the health of an admin, for a Redis that may have no queue. */
export function checkRedis(queue: RedisSettings, log: Log): Promise<Health> {
  return (isPartitioned(queue) ? checkPartitions : checkOnePartition)({ ...queue, log });
}
