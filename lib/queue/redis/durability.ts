// Whether this Redis keeps what it acknowledges. Checked, not assumed: on every new connection and every 10 s,
// since anybody can CONFIG SET it away. The settings are never changed from here.

import type { Redis } from "ioredis";
import type { Log } from "../../runtime/log.ts";
import type { Health } from "../contract.ts";
import type { CommitReadiness } from "../group_commit.ts";
import type { RedisConnection } from "./connection.ts";
import probeText from "./scripts/permissions.lua" with { type: "text" };
import { createReplicaCheck } from "./replicas.ts";
import { redisErrorText, run, type Script, standaloneScript } from "./scripts.ts";

const probeScript = standaloneScript(`#!lua flags=allow-oom\n${probeText}`);

const recheckMs = 10_000;
const recheckUnverifiedMs = 500;

/** Readers and writers of another number do not understand each other's keys. */
const storeFormat = "1";

/** Null if there is no queue yet. */
export function readFormat(redis: Redis, partition: string): Promise<string | null> {
  return redis.get(formatKeyOf(partition));
}

const formatKeyOf = (partition: string) => `${partition}:format`;

/** Why this version must not touch a store, as its format says; undefined if it may. */
export function foreignText(format: string | null): string | undefined {
  if (format === null || format === storeFormat) return undefined;
  return `the store has format ${format}, this version reads and writes format ${storeFormat}`;
}

/** As {@link foreignText}, when a script has refused to run on a store of another format. */
export function foreignFormat(error: unknown): string | undefined {
  const [, format] = /^FORMAT (.*)$/.exec(redisErrorText(error)) ?? [];
  return format === undefined ? undefined : foreignText(format);
}

/** Pending is what is not known yet, or not at the moment: no connection, a rewrite under way. */
export type StoreState =
  | Exclude<CommitReadiness, { kind: "refused" }>
  /** An operator has to act first. */
  | {
      readonly kind: "refused";
      readonly reason: string;
      readonly fixes: readonly string[];
      /** Redis would lose what it acknowledges, or refuses to take it. */
      readonly event: "store-not-durable" | "writes-refused";
    };

export interface DurabilityOptions {
  readonly url: string;
  readonly partition: string;
  /** What this process runs: Redis must let it. */
  readonly scripts: readonly Script[];
  readonly durability: "verify" | "trust";
  readonly minReplicas: number;
  readonly log: Log;
  /** The store is of another format: this process must not go on. */
  readonly onFatal: (reason: string) => void;
  /** False: no queue is created in a Redis that has none. Default: true. */
  readonly createsQueue?: boolean;
}

export interface StoreWatch {
  state(): StoreState;
  health(): Health;
  onVerified(callback: () => void): void;
  /** Resolves once the store has been reached and is of a format that this version understands. */
  readonly compatible: Promise<void>;
  stop(): void;
}

/** Judges what `INFO` and `CONFIG GET` say. `config` is undefined where the operator vouches. */
export function judgeDurability(
  info: Readonly<Record<string, string>>,
  config: Readonly<Record<string, string>> | undefined,
  minReplicas: number,
  verifiedBefore: boolean,
): StoreState {
  if (info["loading"] !== "0") return { kind: "pending", reason: "Redis is loading its data" };
  if (info["role"] !== "master")
    return { kind: "pending", reason: `Redis is a ${info["role"]}, not a primary` };
  if (Number(info["connected_slaves"]) < minReplicas) {
    return {
      kind: "pending",
      reason: `${info["connected_slaves"]} replicas are connected, REDIS_MIN_REPLICAS is ${minReplicas}`,
    };
  }
  if (config === undefined) return { kind: "ready" };

  const wrong: { reason: string; fix?: string }[] = [];
  const want = (name: string, value: string, consequence: string) => {
    if (config[name] === value) return;
    wrong.push({ reason: `${name} is ${config[name]}: ${consequence}`, fix: `CONFIG SET ${name} ${value}` });
  };
  if (info["aof_enabled"] !== "1") {
    wrong.push({ reason: "appendonly is no: a crash loses everything", fix: "CONFIG SET appendonly yes" });
  }
  want("appendfsync", "always", "a crash loses what was acknowledged last");
  want("no-appendfsync-on-rewrite", "no", "nothing is on disk during a rewrite");
  want("maxmemory-policy", "noeviction", "emails may be evicted");
  if (info["aof_enabled"] === "1" && info["aof_last_write_status"] !== "ok") {
    wrong.push({ reason: "the last write to the append-only file failed" });
  }
  if (wrong.length > 0) {
    return {
      kind: "refused",
      reason: wrong.map(({ reason }) => reason).join("; "),
      fixes: [...wrong.flatMap(({ fix }) => fix ?? []), "CONFIG REWRITE"],
      event: "store-not-durable",
    };
  }
  // After appendonly was switched on nothing is durable until the first rewrite has ended, and INFO does not tell
  // a first rewrite from a later one. Of a Redis that was good at the last look it is a later one.
  const rewriting = info["aof_rewrite_in_progress"] === "1" || info["aof_rewrite_scheduled"] === "1";
  if (!verifiedBefore && rewriting) {
    return { kind: "pending", reason: "a rewrite of the append-only file is under way, perhaps the first" };
  }
  if (!verifiedBefore && info["aof_last_bgrewrite_status"] !== "ok") {
    return {
      kind: "refused",
      reason: "the last rewrite of the append-only file failed, perhaps the first",
      fixes: ["BGREWRITEAOF"],
      event: "store-not-durable",
    };
  }
  return { kind: "ready" };
}

function parseInfo(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split("\r\n").flatMap((line) => {
      const colon = line.indexOf(":");
      return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)]] : [];
    }),
  );
}

async function readConfig(redis: Redis): Promise<{ config: Record<string, string> } | { refusal: string }> {
  try {
    const pairs = await redis.config("GET", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy");
    const list = pairs as string[];
    return {
      config: Object.fromEntries(list.flatMap((name, i) => (i % 2 === 0 ? [[name, list[i + 1] ?? ""]] : []))),
    };
  } catch (error) {
    if (redis.status !== "ready") throw error;
    return { refusal: `CONFIG GET is refused (${redisErrorText(error)})` };
  }
}

/** Watches the Redis behind this connection for as long as the process lives. */
export function watchDurability(redis: RedisConnection, options: DurabilityOptions): StoreWatch {
  const { partition, scripts, durability, minReplicas, log } = options;
  const commands = [...new Set(scripts.flatMap((one) => one.commands))];
  let state: StoreState = { kind: "pending", reason: "not connected yet" };
  let verifiedRun: string | undefined;
  let timer: Timer | undefined;
  let stopped = false;
  /** The connection that a check belongs to: what it finds says nothing of the next one. */
  let connection = 0;
  let checking: number | undefined;
  let reported = "";
  const callbacks: (() => void)[] = [];
  const compatible = Promise.withResolvers<void>();
  const replicas = createReplicaCheck(options.url, log, async (replica) => {
    const info = parseInfo(await replica.info("server", "replication", "persistence"));
    const answer = await readConfig(replica);
    // Sentinel promotes none of priority 0.
    if ("refusal" in answer || info["slave_priority"] === "0") return undefined;
    const verdict = judgeDurability({ ...info, role: "master" }, answer.config, 0, true);
    return verdict.kind === "refused" ? verdict : undefined;
  });

  async function look(): Promise<StoreState> {
    const format = await readFormat(redis, partition);
    const foreign = foreignText(format);
    if (foreign !== undefined) {
      options.onFatal(foreign);
      return { kind: "refused", reason: foreign, fixes: [], event: "store-not-durable" };
    }
    compatible.resolve();
    const verdict = await judgeStore();
    if (verdict.kind !== "ready") return verdict;
    const { reply: denied } = await run(redis, probeScript, partition, commands);
    if (denied !== null) return refusal(`NOPERM this user may not run ${String(denied)} on the queue's keys`);
    if (format === null && options.createsQueue !== false) {
      await redis.setnx(formatKeyOf(partition), storeFormat);
      return look();
    }
    return verdict;
  }

  /** What a check that was not carried out comes to. */
  function refusal(reason: string): StoreState {
    if (reason.startsWith("NOPERM ")) {
      const fixes = ["give its user the permissions that README.md lists under Redis"];
      return { kind: "refused", reason, fixes, event: "writes-refused" };
    }
    if (reason.startsWith("MISCONF ")) {
      // Not needed beside an append-only file that is fsynced; where that is hidden, the snapshots may be all there is.
      const isSafe = durability === "verify" && reason.includes("RDB");
      const fixes = isSafe ? ["CONFIG SET stop-writes-on-bgsave-error no", "CONFIG REWRITE"] : [];
      return { kind: "refused", reason, fixes, event: "writes-refused" };
    }
    return { kind: "pending", reason: `no answer to the check (${reason})` };
  }

  async function judgeStore(): Promise<StoreState> {
    const info = parseInfo(await redis.info("server", "replication", "persistence"));
    const answer = durability === "verify" ? await readConfig(redis) : { config: undefined };
    if ("refusal" in answer) {
      const fixes = ["set REDIS_DURABILITY=trust if whoever runs this Redis vouches for appendfsync always"];
      return { kind: "refused", reason: answer.refusal, fixes, event: "store-not-durable" };
    }
    const verdict = judgeDurability(info, answer.config, minReplicas, verifiedRun === info["run_id"]);
    // A moment without replicas says nothing about the file; a spell as a replica, or wrong settings, do.
    if (verdict.kind === "ready") {
      verifiedRun = info["run_id"];
      if (durability === "verify" && minReplicas > 0) void replicas.look(info);
    } else if (verdict.kind === "refused" || info["role"] !== "master") verifiedRun = undefined;
    return verdict;
  }

  async function check(): Promise<void> {
    if (checking === connection || stopped) return;
    const mine = (checking = connection);
    clearTimeout(timer);
    let next: StoreState;
    try {
      next = redis.status === "ready" ? await look() : { kind: "pending", reason: redis.trouble() };
    } catch (error) {
      next = refusal(redisErrorText(error));
    }
    if (stopped || mine !== connection) return;
    checking = undefined;
    adopt(next);
    timer = setTimeout(check, next.kind === "ready" ? recheckMs : recheckUnverifiedMs);
  }

  function adopt(next: StoreState): void {
    const before = state;
    state = next;
    switch (next.kind) {
      case "ready":
        if (before.kind === "ready") return;
        if (reported !== "") log.info("store-durable");
        reported = "";
        for (const callback of callbacks) callback();
        return;
      case "refused":
        if (next.reason === reported) return;
        reported = next.reason;
        complain(next);
        return;
      case "pending":
        // Said only of what lasts: every start and every failover is pending for a moment.
        if (redis.status !== "ready" || before.kind !== "pending") return;
        if (next.reason === reported || next.reason !== before.reason) return;
        reported = next.reason;
        log.warn("store-not-ready", { reason: next.reason });
    }
  }

  function complain({ event, reason, fixes }: Extract<StoreState, { kind: "refused" }>): void {
    const fields = { reason, fix: fixes.join("; ") };
    if (event === "writes-refused") log.error("writes-refused", fields);
    else log.error("store-not-durable", fields);
  }

  redis.on("ready", () => void check());
  redis.on("close", () => {
    connection += 1;
    state = { kind: "pending", reason: redis.trouble() };
  });
  void check();

  return {
    state: () => state,
    health: () => (state.kind === "ready" ? { ok: true } : { ok: false, reason: state.reason }),
    onVerified: (callback) => callbacks.push(callback),
    compatible: compatible.promise,
    stop() {
      stopped = true;
      clearTimeout(timer);
      replicas.stop();
    },
  };
}
