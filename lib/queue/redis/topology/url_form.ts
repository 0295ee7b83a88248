// The form of REDIS_URL that leads to a node, for one that was reached with another form.

import type { Redis } from "ioredis";
import { addressText, type RedisAddress, type RedisNode } from "../../../runtime/redis_url.ts";
import { redisErrorText } from "../error_text.ts";

/** The form of REDIS_URL for a node, by the `redis_mode` in its INFO; undefined if that is unknown. */
export function formFor(mode: string | undefined, node: RedisAddress, tls: boolean): string | undefined {
  if ("path" in node) return undefined;
  const [scheme, address] = [tls ? "rediss" : "redis", addressText(node)];
  switch (mode) {
    case "standalone":
      return `this node is neither a Sentinel nor in a cluster: use ${scheme}://${address}`;
    case "sentinel":
      return `this node is a Sentinel: use ${scheme}+sentinel://${address}/name`;
    case "cluster":
      return `this node is part of a Redis Cluster: use ${scheme}+cluster://${address}`;
  }
  return undefined;
}

/** Why a node did not answer a question or, if it does not understand it, which form of REDIS_URL leads to it. */
export async function explainError(
  redis: Redis,
  node: RedisNode,
  tls: boolean,
  error: unknown,
): Promise<string> {
  const reason = redisErrorText(error);
  if (!/unknown (sub)?command|cluster support disabled/i.test(reason)) return reason;
  const info = await redis.info("server").catch(() => "");
  const [, mode] = /^redis_mode:(\w+)/m.exec(info) ?? [];
  return formFor(mode, node, tls) ?? reason;
}
