// The primary according to Redis Sentinel.

import type { Redis } from "ioredis";
import {
  addressText,
  type RedisNode,
  type RedisTarget,
  type RedisTopology,
} from "../../../runtime/redis_url.ts";
import { type Info, pairsIn } from "../durability.ts";
import { redisErrorText } from "../error_text.ts";
import type { Topology } from "./topology.ts";
import { type Peer, Survey, type View } from "./survey.ts";

type SentinelTopology = Extract<RedisTopology, { kind: "sentinel" }>;

/** The primary, as one Sentinel describes it. */
export interface SentinelView extends View {
  readonly primary: RedisNode;
  /** Grows with every failover. */
  readonly epoch: number;
}

export function surveySentinels({ tls }: RedisTarget, { nodes, name, login }: SentinelTopology): Topology {
  return new Survey<SentinelView>({
    kind: "Sentinel",
    nodes,
    login,
    tls,
    ask: (redis) => askSentinel(redis, name),
    judge: (views) => ({ kind: "primary", address: judgeSentinels([...views.values()])! }),
    replicas() {},
  });
}

/**
 * The primary that was promoted last, by the highest configuration epoch. A Sentinel that was cut off names an older one.
 * Within one epoch, most votes decide.
 */
export function judgeSentinels(
  views: readonly Pick<SentinelView, "primary" | "epoch">[],
): RedisNode | undefined {
  const epochMax = Math.max(...views.map(({ epoch }) => epoch));
  const groups = Map.groupBy(
    views.filter(({ epoch }) => epoch === epochMax),
    ({ primary }) => addressText(primary),
  );
  const [best] = [...groups].toSorted(
    ([a, one], [b, other]) => other.length - one.length || (a < b ? -1 : 1),
  );
  return best?.[1][0]?.primary;
}

/**
 * `SENTINEL MASTER` has the epoch, but the Sentinel that leads a failover shows the old address in it, with the new epoch,
 * until all replicas follow the new primary. `GET-MASTER-ADDR-BY-NAME` has the new address from the promotion on. Both
 * come in one write, so that they belong together.
 */
async function askSentinel(redis: Redis, name: string): Promise<SentinelView> {
  try {
    const [id, primary, address, peers] = await Promise.all([
      redis.call("SENTINEL", "MYID"),
      redis.call("SENTINEL", "MASTER", name),
      redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
      redis.call("SENTINEL", "SENTINELS", name),
    ]);
    const [host = "", port] = address as string[];
    return {
      id: String(id),
      primary: { host, port: Number(port) },
      epoch: Number(pairsIn(primary)["config-epoch"]),
      peers: (peers as unknown[]).map(pairsIn).flatMap(readPeer),
    };
  } catch (error) {
    if (!redisErrorText(error).startsWith("ERR No such master")) throw error;
    const known = (await redis.call("SENTINEL", "MASTERS")) as unknown[];
    const names = known.map((one) => pairsIn(one)["name"]).join(", ");
    throw new Error(`this Sentinel knows no primary called ${name}, only ${names || "none at all"}`);
  }
}

function readPeer({ runid: id = "", ip: host = "", port }: Info): Peer[] {
  return id === "" || host === "" ? [] : [{ id, node: { host, port: Number(port) } }];
}
