// Where a queue is, in words, without a password: no answer leaves open which queue it is about.

import type { QueueSettings } from "../../queue/open.ts";
import { redisAddress } from "../../runtime/redis_url.ts";
import { visible } from "../format.ts";

export function locationOf(queue: QueueSettings): string {
  if (queue.kind === "sqlite") return visible(queue.folder);
  return `Redis at ${redisAddress(queue.url)}, keys under ${queue.prefix}`;
}

/** That there is none, and which setting led there. */
export function missingText(queue: QueueSettings): string {
  const where =
    queue.kind === "sqlite"
      ? `in ${visible(queue.folder)} (DATA_DIR)`
      : `under prefix ${queue.prefix} in Redis at ${redisAddress(queue.url)} (REDIS_PREFIX)`;
  // On Redis the first of them makes it only once Redis keeps what it acknowledges.
  const why = queue.kind === "redis" ? ", or none has found it durable: see `config --check`" : "";
  return `There is no queue ${where}: no server and no worker has started on it${why}`;
}
