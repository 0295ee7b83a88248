// Opens a queue from its settings: the only file above the stores that knows that there are two. Only the store that is
// used is loaded: ioredis alone takes longer to load than the rest of a server.

import type { Log } from "../runtime/log.ts";
import type { Admin, Consumer, Health, Producer, ProducerWatcher, StoreWatcher } from "./contract.ts";
import type { RedisStoreOptions } from "./redis/connection.ts";

type RedisSettings = { readonly kind: "redis" } & Pick<
  RedisStoreOptions,
  "url" | "prefix" | "partitions" | "minReplicas" | "durability"
>;

/** Where the queue is: in Redis, or embedded as a file in `folder`. */
export type QueueSettings = RedisSettings | { readonly kind: "sqlite"; readonly folder: string };

function isPartitioned({ partitions = 1 }: RedisSettings): boolean {
  return partitions > 1;
}

export async function openProducer(queue: QueueSettings, watcher: ProducerWatcher): Promise<Producer> {
  if (queue.kind === "sqlite") {
    const { openSqliteProducer } = await import("./sqlite/producer.ts");
    return openSqliteProducer({ ...queue, ...watcher });
  }
  const ProducerOf = isPartitioned(queue)
    ? (await import("./redis/partitioned/producer.ts")).PartitionedProducer
    : (await import("./redis/producer.ts")).RedisProducer;
  return new ProducerOf({ ...queue, ...watcher });
}

/** @param retainMs how long the record of a sent email is kept */
export async function openConsumer(
  queue: QueueSettings,
  retainMs: number,
  watcher: StoreWatcher,
): Promise<Consumer> {
  if (queue.kind === "sqlite") {
    const { openSqliteConsumer } = await import("./sqlite/consumer.ts");
    return openSqliteConsumer({ ...queue, ...watcher, retainMs });
  }
  const ConsumerOf = isPartitioned(queue)
    ? (await import("./redis/partitioned/consumer.ts")).PartitionedConsumer
    : (await import("./redis/consumer.ts")).RedisConsumer;
  return new ConsumerOf({ ...queue, ...watcher, retainMs });
}

/**
 * Creates no queue: rejects with `QueueMissing` if no server and no worker has created one.
 * @param retainMs how long the id of a deleted email stays known
 */
export async function openAdmin(queue: QueueSettings, retainMs: number, log: Log): Promise<Admin> {
  if (queue.kind === "sqlite") {
    const { openSqliteAdmin } = await import("./sqlite/admin.ts");
    return openSqliteAdmin({ ...queue, retainMs, log });
  }
  const open = isPartitioned(queue)
    ? (await import("./redis/partitioned/admin.ts")).openPartitionedAdmin
    : (await import("./redis/admin.ts")).openRedisAdmin;
  return open({ ...queue, retainMs, log });
}

/** As the health of an admin, for a Redis that may have no queue. */
export async function checkRedis(queue: RedisSettings, log: Log): Promise<Health> {
  const check = isPartitioned(queue)
    ? (await import("./redis/partitioned/admin.ts")).checkPartitions
    : (await import("./redis/admin.ts")).checkRedis;
  return check({ ...queue, log });
}
