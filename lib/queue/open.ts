// From settings to a queue: the only file above the stores that knows that there is more than one.

import type { Log } from "../runtime/log.ts";
import type { Producer, Admin, Consumer } from "./contract.ts";
import { openRedisProducer } from "./redis/producer.ts";
import { openRedisAdmin } from "./redis/admin.ts";
import { openRedisConsumer } from "./redis/consumer.ts";
import { openSqliteProducer } from "./sqlite/producer.ts";
import { openSqliteAdmin } from "./sqlite/admin.ts";
import { openSqliteConsumer } from "./sqlite/consumer.ts";

export { checkRedis } from "./redis/admin.ts";

/** Where the queue is. */
export type QueueSettings =
  | {
      readonly kind: "redis";
      readonly url: string;
      readonly prefix: string;
      readonly minReplicas: number;
      readonly durability: "verify" | "trust";
    }
  /** Embedded: a file in `folder`. */
  | { readonly kind: "sqlite"; readonly folder: string };

export interface StoreWatcher {
  readonly log: Log;
  /** The store cannot be used by this process, now or later. */
  readonly onFatal: (reason: string) => void;
}

export interface ProducerWatcher extends StoreWatcher {
  /** Told of each write that stored what it held: submissions in it, and how long it took, ms. */
  readonly onGroup?: (emails: number, elapsedMs: number) => void;
}

export function openProducer(queue: QueueSettings, watcher: ProducerWatcher): Producer {
  if (queue.kind === "redis") return openRedisProducer({ ...queue, ...watcher });
  return openSqliteProducer({ ...queue, ...watcher });
}

/** @param retainMs how long the record of a sent email is kept */
export function openConsumer(queue: QueueSettings, retainMs: number, watcher: StoreWatcher): Consumer {
  if (queue.kind === "redis") return openRedisConsumer({ ...queue, ...watcher, retainMs });
  return openSqliteConsumer({ ...queue, ...watcher, retainMs });
}

/**
 * Makes no queue: rejects with {@link QueueMissing} where no server and no worker has made one.
 * @param retainMs how long the id of a deleted email stays known
 */
export async function openAdmin(queue: QueueSettings, retainMs: number, log: Log): Promise<Admin> {
  if (queue.kind === "redis") return openRedisAdmin({ ...queue, retainMs, log });
  return openSqliteAdmin({ ...queue, retainMs, log });
}
