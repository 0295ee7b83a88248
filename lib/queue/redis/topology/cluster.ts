// The primary of a slot according to the nodes of a Redis Cluster.

import type { Redis } from "ioredis";
import {
  addressText,
  type RedisNode,
  type RedisTarget,
  type RedisTopology,
} from "../../../runtime/redis_url.ts";
import type { Place, Topology } from "./topology.ts";
import { Survey, type View } from "./survey.ts";

/** A line of CLUSTER NODES. */
interface ClusterLine {
  readonly id: string;
  /** Undefined if the node that answers does not know it. */
  readonly node: RedisNode | undefined;
  readonly flags: readonly string[];
  /** Id of its primary, of a replica. */
  readonly primary: string;
  /** Grows with every failover and every move of a slot. */
  readonly epoch: number;
  /** Ranges such as 0-99 and, in a node's own line, open slots such as `[5->-id]` and `[5-<-id]`. */
  readonly slots: readonly string[];
}

/** The cluster, as one node describes it. */
export interface ClusterView extends View {
  /** The line about itself. */
  readonly own: ClusterLine;
  readonly lines: readonly ClusterLine[];
  /** By slot that was asked about: its primary, and how many of its keys are on the node that answers. */
  readonly slots: ReadonlyMap<number, { readonly owner: ClusterLine | undefined; readonly keys: number }>;
}

type Views = ReadonlyMap<string, ClusterView>;

export function surveyCluster(
  { login, tls }: RedisTarget,
  { nodes }: Extract<RedisTopology, { kind: "cluster" }>,
): Topology {
  return new Survey<ClusterView>({
    kind: "node of the cluster",
    nodes,
    login,
    tls,
    ask: (redis, node, slots) => askNode(redis, node, slots, tls),
    judge: judgeCluster,
    replicas: replicasIn,
  });
}

async function askNode(
  redis: Redis,
  node: RedisNode,
  slots: readonly number[],
  tls: boolean,
): Promise<ClusterView> {
  const [text, ...keys] = await Promise.all([
    redis.call("CLUSTER", "NODES"),
    ...slots.map((slot) => redis.call("CLUSTER", "COUNTKEYSINSLOT", slot)),
  ]);
  return readView(String(text), node, new Map(slots.map((slot, i) => [slot, Number(keys[i])])), tls);
}

/**
 * @param text of CLUSTER NODES
 * @param asked where the node that answered was reached
 * @param keys by slot
 * @param tls see `readNode`
 */
export function readView(
  text: string,
  asked: RedisNode,
  keys: ReadonlyMap<number, number>,
  tls: boolean,
): ClusterView {
  const lines = text
    .trim()
    .split("\n")
    .map((line): ClusterLine => {
      const [id = "", address = "", flags = "", primary = "", , , epoch, , ...slots] = line.trim().split(" ");
      const all = flags.split(",");
      const node = readNode(address, all.includes("myself") ? asked : undefined, tls);
      return { id, node, flags: all, primary, epoch: Number(epoch), slots };
    });
  const own = lines.find(({ flags }) => flags.includes("myself"));
  if (own === undefined) throw new Error("CLUSTER NODES: no line about the node itself");
  const peers = lines.flatMap(({ id, node, flags }) => {
    const isKnown = id !== own.id && !flags.includes("noaddr") && !flags.includes("handshake");
    return isKnown && node !== undefined ? [{ id, node }] : [];
  });
  const slots = Array.from(keys, ([slot, count]) => {
    const owner = lines.find((line) => isPrimary(line) && owns(line, slot));
    return [slot, { owner, keys: count }] as const;
  });
  return { id: own.id, own, lines, peers, slots: new Map(slots) };
}

/**
 * Reads `ip:port@busport[,hostname]`. A node that has met no other does not know its own address.
 * @param tls prefers a host name, to which certificates are issued
 */
function readNode(text: string, asked: RedisNode | undefined, tls: boolean): RedisNode | undefined {
  const [, ip = "", port, name = ""] = /^(.*):(\d+)(?:@\d+)?(?:,([^,=]*))?(?:,.*)?$/.exec(text) ?? [];
  const host = (tls && name !== "" && name !== "?" ? name : ip) || asked?.host;
  return host === undefined || Number(port) === 0 ? undefined : { host, port: Number(port) };
}

function isPrimary({ flags }: ClusterLine): boolean {
  return flags.includes("master");
}

function owns({ slots }: ClusterLine, slot: number): boolean {
  return slots.some((range) => {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? [];
    return Number(first) <= slot && slot <= Number(last);
  });
}

function opens({ slots }: ClusterLine, slot: number): boolean {
  return slots.some((range) => range.startsWith(`[${slot}-`));
}

/**
 * The owner of a slot is the primary that claims it with the highest epoch. What a node says about itself replaces what
 * others say about it, since their word may be old. An owner that does not answer is awaited, even if an older one answers.
 */
function findOwner(views: Views, slot: number): ClusterLine | undefined {
  const claims = [...views.values()].flatMap(({ id, slots }) => {
    const owner = slots.get(slot)?.owner;
    return owner !== undefined && (owner.id === id || !views.has(owner.id)) ? [owner] : [];
  });
  const [best] = claims.toSorted(
    (a, b) => b.epoch - a.epoch || Number(views.has(b.id)) - Number(views.has(a.id)),
  );
  return best;
}

export function judgeCluster(views: Views, slot: number): Place {
  const owner = findOwner(views, slot);
  if (owner === undefined) return { kind: "unknown", reason: `no node of the cluster serves slot ${slot}` };
  const { id, node } = owner;
  const address = node === undefined ? "unknown" : addressText(node);
  if (node === undefined || !views.has(id)) {
    return { kind: "unknown", reason: `the primary of slot ${slot}, ${address}, does not answer` };
  }
  const other = findOtherHolder(views, slot, owner);
  return other === undefined
    ? { kind: "primary", address: node }
    : { kind: "unknown", reason: splitText(slot, other, id, node) };
}

/** Says how to unite a slot: these commands lose nothing as long as nothing was written to it meanwhile. */
function splitText(slot: number, holder: ClusterView, ownerId: string, owner: RedisNode): string {
  const { node } = holder.own;
  const [other, address] = [node === undefined ? holder.id : addressText(node), addressText(owner)];
  const fix = `redis-cli --cluster fix ${address}`;
  const unknown = `which its primary ${address} does not know`;
  if (opens(holder.own, slot)) return `slot ${slot} is open on ${other}, ${unknown}: run ${fix}`;
  const open = `redis-cli -h ${node?.host} -p ${node?.port} cluster setslot ${slot} importing ${ownerId}`;
  return `${other} has keys of slot ${slot}, ${unknown}: run ${open} && ${fix}`;
}

/**
 * Another node that may hold a part of the slot, while the owner does not know of a move. A replica that was promoted in
 * the middle of a move does not: it would answer as if the keys that were moved did not exist.
 */
function findOtherHolder(views: Views, slot: number, owner: ClusterLine): ClusterView | undefined {
  if (opens(owner, slot)) return undefined;
  return [...views.values()].find(({ id, own, slots }) => {
    if (id === owner.id) return false;
    if (opens(own, slot)) return true;
    // A replica speaks for its primary if that does not answer.
    const holder = isPrimary(own) ? id : own.primary;
    if (holder !== id && views.has(holder)) return false;
    const { owner: believed, keys = 0 } = slots.get(slot) ?? {};
    // An old primary that was cut off still has all keys, and believes that it is the owner.
    return keys > 0 && believed?.id !== holder;
  });
}

export function replicasIn(views: Views, slot: number): readonly RedisNode[] {
  const owner = findOwner(views, slot);
  const lines = owner === undefined ? [] : (views.get(owner.id)?.lines ?? []);
  return lines.flatMap(({ node, primary, flags }) =>
    node !== undefined && primary === owner?.id && !flags.includes("fail") ? [node] : [],
  );
}
