// A primary with two replicas, of which one takes over, with Sentinel or in a cluster: what fails the same way in both.

import { eventually } from "./eventually.ts";
import { createNetwork } from "./network.ts";
import type { RedisServer } from "./redis.ts";
import { startRedisCluster } from "./redis_cluster.ts";
import { startRedisSentinel } from "./redis_sentinel.ts";

export const replicatedKinds = ["Sentinel", "Cluster"] as const;

export interface ReplicatedStore {
  readonly url: string;
  primary(): RedisServer;
  replicas(): RedisServer[];
  /** Resolves when another node than this one is the primary. */
  replaced(node: RedisServer): Promise<void>;
  settled(): Promise<void>;
  /** Cuts a node off from all other nodes, but not from clients. @returns a function that ends this */
  cut(node: RedisServer): () => void;
  stop(): Promise<void>;
}

/** @param key of the queue, which leads to its slot */
export async function startReplicatedStore(
  kind: (typeof replicatedKinds)[number],
  key: string,
): Promise<ReplicatedStore> {
  const network = createNetwork();
  const setup = await (kind === "Sentinel"
    ? startRedisSentinel({ network })
    : startRedisCluster({ network }));
  const isCluster = "primaryOf" in setup;
  const primary = () => (isCluster ? setup.primaryOf(key) : setup.primary());
  return {
    url: setup.url,
    primary,
    replicas: () => (isCluster ? setup.replicasOf(key) : setup.replicas()),
    replaced: (node) =>
      eventually("another node is the primary", () => {
        try {
          return primary() !== node;
        } catch {
          // No node that is running takes itself for the primary.
          return false;
        }
      }).then(() => {}),
    settled: () => setup.settled(),
    cut: ({ name }) => network.cut({ host: name, from: "peers" }),
    async stop() {
      await setup.stop();
      network.stop();
    },
  };
}

/** The ends of a primary. Each returns a function that brings it back. */
export const primaryEnds = {
  killed(_store, primary) {
    primary.kill("SIGKILL");
    return () => primary.restart();
  },
  hung(_store, primary) {
    primary.kill("SIGSTOP");
    return () => primary.kill("SIGCONT");
  },
  "cut off": (store, primary) => store.cut(primary),
} satisfies Record<string, (store: ReplicatedStore, primary: RedisServer) => () => unknown>;
