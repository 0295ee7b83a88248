// Where the primary of a queue is: at a fixed address, as the Sentinels say, or as the nodes of a cluster say.

import {
  readRedisUrl,
  type RedisAddress,
  type RedisNode,
  type RedisTarget,
} from "../../../runtime/redis_url.ts";
import { surveyCluster } from "./cluster.ts";
import { surveySentinels } from "./sentinel.ts";

export type Place =
  | { readonly kind: "primary"; readonly address: RedisAddress }
  /** No connection may be made now. */
  | { readonly kind: "unknown"; readonly reason: string };

export interface Topology {
  /** Asks all nodes, then says where a new connection has to lead. @param slot on a cluster, of the queue's keys */
  locate(slot: number): Promise<Place>;
  /** As `locate`, according to the last answers. */
  place(slot: number): Place;
  /** The replicas that may be promoted; undefined if only the primary's INFO knows them. */
  replicas(slot: number): readonly RedisNode[] | undefined;
  /** Calls a function whenever the place may have changed. @returns a function that ends this */
  onAnswer(listener: () => void): () => void;
  close(): void;
}

interface Shared {
  readonly topology: Topology;
  users: number;
}

/** By URL: all connections of a process share one topology, and so one connection to each node for its questions. */
const shared = new Map<string, Shared>();

/** The topology of a URL, until {@link releaseTopology} has been called as often. */
export function acquireTopology(url: string): Topology {
  const one = shared.get(url) ?? { topology: createTopology(readRedisUrl(url)), users: 0 };
  shared.set(url, one);
  one.users += 1;
  return one.topology;
}

export function releaseTopology(url: string): void {
  const one = shared.get(url);
  if (one === undefined || (one.users -= 1) > 0) return;
  shared.delete(url);
  one.topology.close();
}

function createTopology(target: RedisTarget): Topology {
  const { topology } = target;
  switch (topology.kind) {
    case "address":
      return fixed({ kind: "primary", address: topology.address });
    case "sentinel":
      return surveySentinels(target, topology);
    case "cluster":
      return surveyCluster(target, topology);
  }
}

function fixed(place: Place): Topology {
  return {
    locate: async () => place,
    place: () => place,
    replicas() {},
    onAnswer: () => () => {},
    close() {},
  };
}
