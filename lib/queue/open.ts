// From settings to a queue: the only file above the stores that knows that there is more than one.

import type { Log } from "../runtime/log.ts";
import type { Intake, Operator, Work } from "./contract.ts";
import { openRedisIntake } from "./redis/producer.ts";
import { openRedisOperator } from "./redis/admin.ts";
import { openRedisWork } from "./redis/consumer.ts";
import { openSqliteIntake } from "./sqlite/producer.ts";
import { openSqliteOperator } from "./sqlite/admin.ts";
import { openSqliteWork } from "./sqlite/consumer.ts";

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

export interface IntakeWatcher extends StoreWatcher {
  /** Told of each write that stored what it held: submissions in it, and how long it took, ms. */
  readonly onGroup?: (emails: number, elapsedMs: number) => void;
}

export function openIntake(queue: QueueSettings, watcher: IntakeWatcher): Intake {
  if (queue.kind === "redis") return openRedisIntake({ ...queue, ...watcher });
  return openSqliteIntake({ ...queue, ...watcher });
}

/** Whether Redis keeps what it acknowledges, as {@link openIntake} finds it, and creates nothing. */
export function openRedisCheck(
  queue: Extract<QueueSettings, { kind: "redis" }>,
  watcher: StoreWatcher,
): Pick<Intake, "health" | "close"> {
  return openRedisIntake({ ...queue, ...watcher, createsQueue: false });
}

/** @param retainMs how long the record of a sent email is kept */
export function openWork(queue: QueueSettings, retainMs: number, watcher: StoreWatcher): Work {
  if (queue.kind === "redis") return openRedisWork({ ...queue, ...watcher, retainMs });
  return openSqliteWork({ ...queue, ...watcher, retainMs });
}

/**
 * Makes no queue: rejects with {@link QueueMissing} where no server and no worker has made one.
 * @param retainMs how long the id of a deleted email stays known
 */
export async function openOperator(queue: QueueSettings, retainMs: number, log: Log): Promise<Operator> {
  if (queue.kind === "redis") return openRedisOperator({ ...queue, retainMs, log });
  return openSqliteOperator({ ...queue, retainMs, log });
}
