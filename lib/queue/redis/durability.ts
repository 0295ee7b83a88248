// Whether a Redis keeps what it acknowledges, according to INFO and CONFIG. The settings are never changed from here.

import { Redis } from "ioredis";
import type { Log } from "../../runtime/log.ts";
import { addressText, readRedisUrl, type RedisNode, type RedisTarget } from "../../runtime/redis_url.ts";
import { redisErrorText } from "./error_text.ts";

export type StoreState =
  /** `warning`: what will make it unready once one more thing fails. */
  | { readonly kind: "ready"; readonly warning?: string | undefined }
  /** Not known yet, or not at the moment: no connection, a rewrite in progress. */
  | { readonly kind: "pending"; readonly reason: string }
  | Refused;

/** An operator has to act first. */
export interface Refused {
  readonly kind: "refused";
  /** Redis would lose what it acknowledges, or refuses to take it. */
  readonly event: "store-not-durable" | "writes-refused";
  readonly reason: string;
  readonly fixes: readonly string[];
}

export function refuse(event: Refused["event"], reason: string, fixes: readonly string[] = []): Refused {
  return { kind: "refused", event, reason, fixes };
}

export type Info = Readonly<Record<string, string>>;

/** Judges `INFO` and `CONFIG GET`. `config` is undefined where the operator vouches. */
export function judgeDurability(
  info: Info,
  config: Info | undefined,
  minReplicas: number,
  verifiedBefore: boolean,
): StoreState {
  const pending = (reason: string) => ({ kind: "pending", reason }) as const;
  const { role, connected_slaves: replicas } = info;
  if (info["loading"] !== "0") return pending("Redis is loading its data");
  if (role !== "master") return pending(`Redis is a ${role}, not a primary`);
  if (Number(replicas) < minReplicas) {
    return pending(`${replicas} replicas are connected, REDIS_MIN_REPLICAS is ${minReplicas}`);
  }
  const ready = { kind: "ready", warning: spareWarning(Number(replicas), minReplicas) } as const;
  if (config === undefined) return ready;
  const wrong = judgeSettings(info, config);
  // After appendonly was switched on nothing is durable until the first rewrite has ended, and INFO does not
  // distinguish it from a later one. A rewrite of a Redis that was durable at the last check is a later one.
  if (wrong !== undefined || verifiedBefore) return wrong ?? ready;
  if (info["aof_rewrite_in_progress"] === "1" || info["aof_rewrite_scheduled"] === "1") {
    return pending("a rewrite of the append-only file is in progress, perhaps the first");
  }
  if (info["aof_last_bgrewrite_status"] === "ok") return ready;
  const failed = "the last rewrite of the append-only file failed, perhaps the first";
  return refuse("store-not-durable", failed, ["BGREWRITEAOF"]);
}

function spareWarning(replicas: number, minReplicas: number): string | undefined {
  if (minReplicas === 0 || replicas > minReplicas) return undefined;
  const count = `${replicas} ${replicas === 1 ? "replica is" : "replicas are"} connected`;
  return `${count}, no more than REDIS_MIN_REPLICAS: when one is lost or promoted, nothing is accepted until it is back`;
}

/** Name, value, and what happens otherwise. */
const wantedSettings = [
  ["appendonly", "yes", "a crash loses everything"],
  ["appendfsync", "always", "a crash loses what was acknowledged last"],
  ["no-appendfsync-on-rewrite", "no", "nothing is on disk during a rewrite"],
  ["maxmemory-policy", "noeviction", "emails may be evicted"],
] as const;
const wantedInCluster = [
  ["cluster-require-full-coverage", "no", "one shard that is down stops all others"],
] as const;

function judgeSettings(info: Info, config: Info): Refused | undefined {
  const hasFile = info["aof_enabled"] === "1";
  const wanted = info["redis_mode"] === "cluster" ? [...wantedSettings, ...wantedInCluster] : wantedSettings;
  const found: Info = { ...config, appendonly: hasFile ? "yes" : "no" };
  const wrong = wanted.filter(([name, value]) => found[name] !== value);
  const reasons = wrong.map(([name, , consequence]) => `${name} is ${found[name]}: ${consequence}`);
  const fixes = wrong.map(([name, value]) => `CONFIG SET ${name} ${value}`);
  if (hasFile && info["aof_last_write_status"] !== "ok") {
    reasons.push("the last write to the append-only file failed");
  }
  if (reasons.length === 0) return undefined;
  return refuse("store-not-durable", reasons.join("; "), [...fixes, "CONFIG REWRITE"]);
}

export async function readInfo(redis: Redis): Promise<Info> {
  const text = await redis.info("server", "replication", "persistence");
  return Object.fromEntries(
    Array.from(text.matchAll(/^([^:\r\n]+):(.*)\r$/gm), ([, name, value]) => [name, value]),
  );
}

export async function readRedisConfig(redis: Redis): Promise<{ config: Info } | { refusal: string }> {
  try {
    const names = [...wantedSettings, ...wantedInCluster].map(([name]) => name);
    return { config: pairsIn(await redis.config("GET", ...names)) };
  } catch (error) {
    if (redis.status !== "ready") throw error;
    return { refusal: `CONFIG GET is refused (${redisErrorText(error)})` };
  }
}

/** A reply that lists names, each followed by its value. */
export function pairsIn(reply: unknown): Info {
  const list = reply as string[];
  return Object.fromEntries(list.flatMap((name, i) => (i % 2 === 0 ? [[name, list[i + 1]!]] : [])));
}

/** The replicas in the INFO of a primary, at the addresses that it knows. */
export function replicasIn(info: Info): RedisNode[] {
  return Object.entries(info).flatMap(([name, value]) => {
    const [, host, port] = /^ip=([^,]+),port=(\d+),state=online/.exec(value) ?? [];
    return /^slave\d+$/.test(name) && host !== undefined ? [{ host, port: Number(port) }] : [];
  });
}

/** For each step of asking one replica, ms. */
const stepTimeoutMs = 1000;

/**
 * Asks replicas for their own settings, which their primary does not know. One with other settings loses what it
 * acknowledged, or is refused as soon as it is promoted: an operator learns of it before that.
 */
export class ReplicaCheck {
  readonly #target: RedisTarget;
  readonly #log: Log;
  /** The last reason that was logged about each address. */
  readonly #reported = new Map<string, string>();
  #asking: Redis | undefined;
  #isStopped = false;

  /** @param url of the primary: its user, its password and its TLS are the replicas' as well */
  constructor(url: string, log: Log) {
    this.#target = readRedisUrl(url);
    this.#log = log;
  }

  /**
   * Asks each replica that may be promoted, and logs what is wrong. One that cannot be reached, or does not let this user
   * ask, is omitted.
   */
  async check(replicas: readonly RedisNode[]): Promise<void> {
    if (this.#asking !== undefined) return;
    for (const node of replicas) {
      if (this.#isStopped) break;
      this.#asking = this.#connect(node);
      try {
        await this.#asking.connect();
        this.#report(addressText(node), await judgeReplica(this.#asking));
      } catch {
        // Its address may be one that only the primary can use.
      } finally {
        this.#asking.disconnect();
      }
    }
    this.#asking = undefined;
  }

  stop(): void {
    this.#isStopped = true;
    this.#asking?.disconnect();
  }

  #connect({ host, port }: RedisNode): Redis {
    const { topology, login, tls } = this.#target;
    // Over TLS, a replica at a bare address shows the certificate of the name that leads to the primary.
    const address = topology.kind === "address" ? topology.address : undefined;
    const servername = address && "host" in address ? address.host : undefined;
    const replica = new Redis({
      host,
      port,
      ...login,
      ...(tls && { tls: { ...(servername !== undefined && { servername }) } }),
      connectionName: "reliable-email-replica-check",
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      connectTimeout: stepTimeoutMs,
      commandTimeout: stepTimeoutMs,
      socketTimeout: stepTimeoutMs,
    });
    replica.on("error", () => {});
    return replica;
  }

  #report(replica: string, state: StoreState): void {
    if (this.#isStopped) return;
    if (state.kind !== "refused") {
      this.#reported.delete(replica);
    } else if (state.reason !== this.#reported.get(replica)) {
      this.#reported.set(replica, state.reason);
      this.#log.warn("replica-not-durable", { replica, reason: state.reason, fix: state.fixes.join("; ") });
    }
  }
}

async function judgeReplica(replica: Redis): Promise<StoreState> {
  const info = await readInfo(replica);
  const answer = await readRedisConfig(replica);
  // Sentinel promotes none of priority 0; a cluster does.
  const isNeverPromoted = info["slave_priority"] === "0" && info["redis_mode"] !== "cluster";
  if ("refusal" in answer || isNeverPromoted) return { kind: "ready" };
  return judgeDurability({ ...info, role: "master" }, answer.config, 0, true);
}
