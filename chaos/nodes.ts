// A store of several Redis nodes, with Sentinel or in a cluster, in which another node takes over from a primary that fails.

import { join } from "node:path";
import { createNetwork, type Network } from "../tests/support/network.ts";
import { type RedisCluster, startRedisCluster } from "../tests/support/redis_cluster.ts";
import { type RedisSentinel, startRedisSentinel } from "../tests/support/redis_sentinel.ts";
import type { RedisServer } from "../tests/support/redis.ts";
import type { NodeRole, Store } from "./scenario.ts";
import { pick } from "./schedule.ts";

/** How many replicas each primary has. */
export const replicasPerPrimary = 2;

/** A key of each partition of a queue in a cluster. */
const partitions = [0, 1, 2, 3].map((i) => `{reliable-email:${i}}`);

export interface Nodes {
  readonly url: string;
  /** Sentinels too. */
  readonly all: readonly RedisServer[];
  /** All that no fault strikes now: whatever struck the others will start them again. */
  free(): readonly RedisServer[];
  readonly network: Network;
  /** Undefined with Sentinel. */
  readonly cluster: RedisCluster | undefined;
  /**
   * Reserves a running node that has this role now, so that no other fault strikes it, until it is released. Undefined if
   * there is none.
   */
  reserve(role: NodeRole, random: number): RedisServer | undefined;
  release(node: RedisServer): void;
  /** Waits until another node is the primary of what this one was, and all others follow their primaries. */
  replaced(node: RedisServer): Promise<void>;
  /** Promotes a replica as an operator would. Returns what was answered. */
  promote(random: number): string;
  /** A key of one of the partitions. */
  partition(random: number): string;
  /** Waits until all nodes are running and agree. Returns why they do not after `withinMs`, else undefined. */
  settle(withinMs: number): Promise<string | undefined>;
  stop(): Promise<void>;
}

/** How often the state of the nodes is looked at, ms: each look runs redis-cli on all of them. */
const lookMs = 250;

/** @param folder holds the nodes' folders, which remain */
export async function startNodes(
  store: Extract<Store, "sentinel" | "cluster">,
  folder: string,
  settings: Readonly<Record<string, string>>,
): Promise<Nodes> {
  const network = createNetwork();
  const options = { network, folder: join(folder, "nodes"), settings: { ...settings, logfile: "log" } };
  const replicas = replicasPerPrimary;
  return store === "cluster"
    ? ofCluster(await startRedisCluster({ ...options, replicas }), network)
    : ofSentinel(await startRedisSentinel({ ...options, replicas }), network);
}

function ofSentinel(setup: RedisSentinel, network: Network): Nodes {
  return create({
    setup,
    network,
    cluster: undefined,
    all: [...setup.nodes, ...setup.sentinels],
    candidates(role) {
      if (role === "sentinel") return setup.sentinels;
      return role === "primary" ? [setup.primary()] : setup.replicas();
    },
    isReplaced: (node) => setup.primary() !== node,
    promote: () => setup.sentinels.find((one) => one.isRunning)!.cli("SENTINEL", "FAILOVER", setup.name),
  });
}

function ofCluster(setup: RedisCluster, network: Network): Nodes {
  return create({
    setup,
    network,
    cluster: setup,
    all: setup.nodes,
    candidates(role, random) {
      if (role === "sentinel") return [];
      const partition = pick(partitions, random);
      return role === "primary" ? [setup.primaryOf(partition)] : setup.replicasOf(partition);
    },
    isReplaced: (node) => partitions.every((partition) => setup.primaryOf(partition) !== node),
    promote(random) {
      const [replica] = setup.replicasOf(pick(partitions, random));
      return replica?.cli("CLUSTER", "FAILOVER") ?? "no replica";
    },
  });
}

interface Topology {
  readonly setup: RedisSentinel | RedisCluster;
  readonly network: Network;
  readonly cluster: RedisCluster | undefined;
  readonly all: readonly RedisServer[];
  /** Throws while no primary is known. */
  candidates(role: NodeRole, random: number): readonly RedisServer[];
  /** Throws while no primary is known. */
  isReplaced(node: RedisServer): boolean;
  promote(random: number): string;
}

function create({ setup, network, cluster, all, candidates, isReplaced, promote }: Topology): Nodes {
  const reserved = new Set<RedisServer>();
  const orElse = <T>(ask: () => T, other: T): T => {
    try {
      return ask();
    } catch {
      return other;
    }
  };
  return {
    url: setup.url,
    all,
    free: () => all.filter((node) => !reserved.has(node)),
    network,
    cluster,
    promote: (random) => orElse(() => promote(random), "no primary"),
    partition: (random) => pick(partitions, random),
    reserve(role, random) {
      const free = orElse(() => candidates(role, random), []).filter(
        (node) => node.isRunning && !reserved.has(node),
      );
      // Its first digits chose the partition.
      const node = free.length === 0 ? undefined : pick(free, (random * 1000) % 1);
      if (node !== undefined) reserved.add(node);
      return node;
    },
    release: (node) => void reserved.delete(node),
    async replaced(node) {
      const others = setup.nodes.filter((one) => one !== node);
      const isOver = () => {
        if (!isReplaced(node)) return false;
        return others.every((one) => !one.isRunning || isSynced(one));
      };
      for (let isDone = false; !isDone; isDone = orElse(isOver, false)) await Bun.sleep(lookMs);
    },
    settle: (withinMs) => setup.settled(withinMs).then(() => undefined, String),
    async stop() {
      await setup.stop();
      network.stop();
    },
  };
}

/** It is a replica that is connected to its primary. */
export function followsAnother(node: RedisServer): boolean {
  return node.cli("INFO", "replication").includes("master_link_status:up");
}

const isSynced = (node: RedisServer) => followsAnother(node) || node.cli("ROLE").startsWith("master");

/** Starts every node that is down, as a supervisor does. */
export async function startAllNodes(nodes: Nodes): Promise<void> {
  await Promise.all(nodes.free().map((node) => (node.isRunning ? undefined : node.restart())));
}

export function killAllNodes(nodes: Nodes): void {
  for (const node of nodes.free()) node.kill("SIGKILL");
}
