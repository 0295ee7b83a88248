// A real Redis Cluster for one test, whose nodes know each other from the start: forming one by MEET takes seconds.

import { randomBytes } from "node:crypto";
import { eventually } from "./eventually.ts";
import type { RedisServer } from "./redis.ts";
import {
  type NodesOptions,
  type PlannedNode,
  planNode,
  startAll,
  startNode,
  stopAll,
  urlOf,
} from "./redis_nodes.ts";

export interface ClusterOptions extends NodesOptions {
  /** Default: 3, which share the slots evenly. */
  readonly primaries?: number;
  /** Replicas of each primary. Default: 2. */
  readonly replicas?: number;
}

/** A slot by its number, or by a key in it. */
type Slot = number | string;

/** The move of a slot, step by step. It ends when `finish` or `redis-cli --cluster fix` has been called. */
export interface SlotMove {
  readonly slot: number;
  readonly source: RedisServer;
  readonly target: RedisServer;
  /**
   * Moves some keys of the slot.
   * @param countMax default: all
   * @returns how many are left at the source
   */
  migrate(countMax?: number): number;
  /** Gives the slot to the target, on both nodes and then on the other primaries. */
  finish(): void;
}

export interface RedisCluster {
  /** Names all nodes. */
  readonly url: string;
  /** First the primaries of the start, then their replicas. */
  readonly nodes: readonly RedisServer[];
  slotOf(slot: Slot): number;
  /** The running node that owns the slot by its own word; of several, the one with the latest configuration. */
  primaryOf(slot: Slot): RedisServer;
  /** The running replicas of that node, by their own word. */
  replicasOf(slot: Slot): RedisServer[];
  /** A primary that does not own the slot, to which it may move. */
  otherPrimary(slot: Slot): RedisServer;
  /** Promotes a replica as an operator would, and returns it. The old primary is its replica by then. */
  failOver(slot: Slot): Promise<RedisServer>;
  /** Opens the slot on both nodes, so that its keys can move. */
  startMove(slot: Slot, target: RedisServer): SlotMove;
  /** Waits until all nodes are running, agree, and every replica follows its primary. */
  settled(withinMs?: number): Promise<void>;
  stop(): Promise<void>;
}

const slots = 16_384;
/** How many keys move with one command; their names are its arguments. */
const keysAtOnce = 500;
/** How long a node may be silent until others hold it for failed, ms. Promotion takes about as long again. */
export const nodeTimeoutMs = 1000;

const clusterSettings = {
  "cluster-enabled": "yes",
  "cluster-node-timeout": String(nodeTimeoutMs),
  "cluster-require-full-coverage": "no",
  // The replicas stay where a test expects them. Without `cluster-allow-replica-migration`, an old primary that lost its
  // slots would not become a replica.
  "cluster-migration-barrier": "100",
};

interface Member extends PlannedNode {
  readonly id: string;
  readonly bus: PlannedNode;
  /** Index of its primary, or its own if it is one. */
  readonly primary: number;
}

export async function startRedisCluster(options: ClusterOptions = {}): Promise<RedisCluster> {
  const { primaries = 3, replicas = 2, settings = {} } = options;
  const members: Member[] = [];
  for (let i = 0; i < primaries * (1 + replicas); i += 1) {
    const name = `node-${i}`;
    const [node, bus] = [await planNode(name, options), await planNode(name, options)];
    members.push({ ...node, bus, id: randomBytes(20).toString("hex"), primary: i % primaries });
  }
  const nodes = await startAll(
    members.map((member) => {
      const own = { ...clusterSettings, ...settings, ...announcements(member) };
      return startNode(member, options, own, {
        files: { "nodes.conf": nodesFile(members, member, primaries) },
      });
    }),
  );
  const cluster = clusterOf(members, nodes, settings["requirepass"]);
  await cluster.settled();
  return cluster;
}

function announcements({ announcedPort, bus }: Member): Record<string, string> {
  return {
    "cluster-port": String(bus.port),
    "cluster-announce-ip": "127.0.0.1",
    "cluster-announce-port": String(announcedPort),
    "cluster-announce-bus-port": String(bus.announcedPort),
    "replica-announce-ip": "127.0.0.1",
    "replica-announce-port": String(announcedPort),
  };
}

/** The file in which `myself` keeps what it knows about the cluster. */
function nodesFile(members: readonly Member[], myself: Member, primaries: number): string {
  const lines = members.map((member, index) => {
    const isPrimary = member.primary === index;
    const flags = `${member === myself ? "myself," : ""}${isPrimary ? "master" : "slave"}`;
    const [from, to] = [member.primary, member.primary + 1].map((i) => Math.floor((i * slots) / primaries));
    const rest = isPrimary ? `connected ${from}-${to! - 1}` : "connected";
    const primaryId = isPrimary ? "-" : members[member.primary]!.id;
    const address = `127.0.0.1:${member.announcedPort}@${member.bus.announcedPort}`;
    return `${member.id} ${address} ${flags} ${primaryId} 0 0 ${member.primary + 1} ${rest}`;
  });
  return [...lines, `vars currentEpoch ${primaries} lastVoteEpoch 0`, ""].join("\n");
}

/** A node's answers about itself. */
interface OwnWord {
  readonly node: RedisServer;
  readonly id: string;
  readonly isPrimary: boolean;
  readonly primaryId: string;
  readonly epoch: number;
  owns(slot: number): boolean;
  readonly hasOpenSlots: boolean;
}

function ownWord(node: RedisServer): OwnWord | undefined {
  const line = /^.* myself,.*$/m.exec(node.cli("CLUSTER", "NODES"))?.[0].trim();
  if (line === undefined) return undefined;
  const [id = "", , flags = "", primaryId = "", , , epoch, , ...places] = line.split(" ");
  const ranges = places
    .filter((place) => !place.startsWith("["))
    .map((place) => place.split("-").map(Number));
  return {
    node,
    id,
    primaryId,
    isPrimary: flags.includes("master"),
    epoch: Number(epoch),
    owns: (slot) => ranges.some(([from = 0, to = from]) => slot >= from && slot <= to),
    hasOpenSlots: ranges.length < places.length,
  };
}

function clusterOf(
  members: readonly Member[],
  nodes: readonly RedisServer[],
  password?: string,
): RedisCluster {
  const words = () => nodes.filter((node) => node.isRunning).flatMap((node) => ownWord(node) ?? []);
  const slotOf = (slot: Slot) =>
    typeof slot === "number" ? slot : Number(words()[0]!.node.cli("CLUSTER", "KEYSLOT", slot));

  function ownerOf(slot: Slot, all = words()): OwnWord | undefined {
    const number = slotOf(slot);
    return all.filter((word) => word.isPrimary && word.owns(number)).toSorted((a, b) => b.epoch - a.epoch)[0];
  }
  function owner(slot: Slot): OwnWord {
    const found = ownerOf(slot);
    if (found === undefined) throw new Error(`no running node owns the slot of ${slot}`);
    return found;
  }
  function replicasOf(slot: Slot): RedisServer[] {
    const { id } = owner(slot);
    return words().flatMap((word) => (!word.isPrimary && word.primaryId === id ? [word.node] : []));
  }
  const idOf = (node: RedisServer) => members[nodes.indexOf(node)]!.id;

  function isSettled(): boolean {
    if (nodes.some((node) => !node.isRunning)) return false;
    return nodes.every((node) => {
      const word = ownWord(node);
      if (word === undefined || word.hasOpenSlots) return false;
      if (!node.cli("CLUSTER", "INFO").includes("cluster_state:ok")) return false;
      const view = node.cli("CLUSTER", "NODES");
      if (/fail|handshake|disconnected/.test(view)) return false;
      return word.isPrimary || node.cli("INFO", "replication").includes("master_link_status:up");
    });
  }

  return {
    url: urlOf("redis+cluster", nodes, password),
    nodes,
    slotOf,
    primaryOf: (slot) => owner(slot).node,
    replicasOf,
    otherPrimary(slot) {
      const { id } = owner(slot);
      return words().find((word) => word.isPrimary && word.id !== id)!.node;
    },
    async failOver(slot) {
      const old = owner(slot).node;
      const [next] = replicasOf(slot);
      if (next === undefined) throw new Error("no running replica");
      await eventually("the replica may take over", () => next.cli("CLUSTER", "FAILOVER") === "OK");
      await eventually("the replica is the primary, and the old one its replica", () => {
        return ownerOf(slot)?.node === next && ownWord(old)?.primaryId === idOf(next);
      });
      return next;
    },
    startMove(at, target) {
      const slot = slotOf(at);
      const source = owner(slot).node;
      const set = (node: RedisServer, ...rest: string[]) => {
        const answer = node.cli("CLUSTER", "SETSLOT", String(slot), ...rest);
        if (answer !== "OK") throw new Error(`CLUSTER SETSLOT ${slot} ${rest.join(" ")}: ${answer}`);
      };
      set(target, "IMPORTING", idOf(source));
      set(source, "MIGRATING", idOf(target));
      return {
        slot,
        source,
        target,
        migrate(countMax = Infinity) {
          // A node that was replaced has keys that it must not give away, or none though its replacement has some.
          const word = ownWord(source);
          if (!word?.isPrimary || !word.owns(slot)) throw new Error(`${source.name} has lost the slot`);
          const count = Number(source.cli("CLUSTER", "COUNTKEYSINSLOT", String(slot)));
          const moving = Math.min(count, countMax);
          for (let moved = 0; moved < moving; moved += keysAtOnce) {
            const most = String(Math.min(keysAtOnce, moving - moved));
            const keys = source.cli("CLUSTER", "GETKEYSINSLOT", String(slot), most).split("\n");
            const to = ["127.0.0.1", String(target.announcedPort), "", "0", "20000"];
            const auth = password === undefined ? [] : ["AUTH", password];
            const answer = source.cli("MIGRATE", ...to, ...auth, "KEYS", ...keys);
            if (answer !== "OK") throw new Error(`MIGRATE: ${answer}`);
          }
          return count - moving;
        },
        finish() {
          set(target, "NODE", idOf(target));
          set(source, "NODE", idOf(target));
          for (const { node, isPrimary } of words()) {
            if (isPrimary && node !== target && node !== source) set(node, "NODE", idOf(target));
          }
        },
      };
    },
    async settled(withinMs) {
      await eventually("the cluster has settled", isSettled, withinMs);
    },
    stop: () => stopAll(nodes),
  };
}
