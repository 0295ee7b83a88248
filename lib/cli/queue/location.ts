// Where a queue is, and whether its store keeps what it acknowledges, in words without a password.

import type { QueueSettings } from "../../queue/open.ts";
import { redisAddress } from "../../runtime/redis_url.ts";
import { visible } from "../format.ts";

/** Every answer that changes something names the queue in this form. */
export function locationOf(queue: QueueSettings): string {
  if (queue.kind === "sqlite") return visible(queue.folder);
  return `Redis at ${redisAddress(queue.url)}, keys under ${queue.prefix}`;
}

/** Says that there is no queue, and which setting led there. */
export function missingText(queue: QueueSettings): string {
  const where =
    queue.kind === "sqlite"
      ? `in ${visible(queue.folder)} (DATA_DIR)`
      : `under prefix ${queue.prefix} in Redis at ${redisAddress(queue.url)} (REDIS_PREFIX)`;
  // A server or worker creates the queue on Redis only once it has found Redis durable.
  const why = queue.kind === "redis" ? ", or none has found it durable: see `config --check`" : "";
  return `There is no queue ${where}: no server and no worker has started on it${why}`;
}

/** Why a store that was found healthy can be relied on. */
export function durabilityOf(queue: QueueSettings): string {
  if (queue.kind === "sqlite") return `${queue.folder} holds the queue, and every write is fsynced`;
  const where = `Redis at ${redisAddress(queue.url)}`;
  const replicas = queue.minReplicas === 0 ? "" : `, and has ${queue.minReplicas} replicas or more`;
  return queue.durability === "trust"
    ? `${where} answers; its durability is not checked (REDIS_DURABILITY=trust)${replicas}`
    : `${where} fsyncs every write and evicts nothing${replicas}`;
}
