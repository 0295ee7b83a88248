// Watches whether the Redis behind a connection may be relied upon: checked, not assumed, on every new connection and
// every 10 s, since anybody can CONFIG SET it away. Creates the queue in a Redis that has none.

import type { Health } from "../contract.ts";
import { type RedisConnection, redisErrorText, type RedisStoreOptions } from "./connection.ts";
import { judgeDurability, readRedisConfig, readInfo, ReplicaCheck, type StoreState } from "./durability.ts";
import { type Script, scripts } from "./scripts.ts";

const recheckMs = 10_000;
const recheckUnverifiedMs = 500;

/** Readers and writers of another number do not understand each other's keys. */
const storeFormat = "1";

function foreignText(format: string): string {
  return `the store has format ${format}, this version reads and writes format ${storeFormat}`;
}

/** Why this version must not touch a store, when a script has refused to run on one of another format. */
export function foreignFormat(error: unknown): string | undefined {
  const [, format] = /^FORMAT (.*)$/.exec(redisErrorText(error)) ?? [];
  return format === undefined ? undefined : foreignText(format);
}

export interface StoreWatchOptions extends RedisStoreOptions {
  /** The scripts that this process runs: Redis must let it. */
  readonly scripts: readonly Script[];
  /** False: no queue is created in a Redis that has none. Default: true. */
  readonly createsQueue?: boolean;
  /** Told whenever the store has become ready. */
  readonly onVerified?: () => void;
}

export class StoreWatch {
  /** Resolves once the store has been reached and is of a format that this version understands. */
  readonly compatible: Promise<void>;
  readonly #connection: RedisConnection;
  readonly #options: StoreWatchOptions;
  readonly #replicas: ReplicaCheck;
  readonly #markCompatible: () => void;
  #state: StoreState = { kind: "pending", reason: "not connected yet" };
  /** `run_id` of the Redis that was found durable last. */
  #verifiedRun: string | undefined;
  /** Counts connections: what a check finds says nothing of the next one. */
  #generation = 0;
  /** The connection that a check under way belongs to. */
  #checking: number | undefined;
  #reported = "";
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(connection: RedisConnection, options: StoreWatchOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#replicas = new ReplicaCheck(options.url, options.log);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.compatible = promise;
    this.#markCompatible = resolve;
    connection.redis.on("ready", () => void this.#check());
    connection.redis.on("close", () => {
      this.#generation += 1;
      this.#state = { kind: "pending", reason: connection.trouble };
    });
    void this.#check();
  }

  get state(): StoreState {
    return this.#state;
  }

  health(): Health {
    const state = this.#state;
    return state.kind === "ready" ? { ok: true } : { ok: false, reason: state.reason };
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#replicas.stop();
  }

  async #check(): Promise<void> {
    if (this.#checking === this.#generation || this.#isStopped) return;
    const generation = (this.#checking = this.#generation);
    clearTimeout(this.#timer);
    const { redis, trouble } = this.#connection;
    let next: StoreState;
    try {
      next = redis.status === "ready" ? await this.#look() : { kind: "pending", reason: trouble };
    } catch (error) {
      next = this.#judgeRefusal(redisErrorText(error));
    }
    if (this.#isStopped || generation !== this.#generation) return;
    this.#checking = undefined;
    this.#adopt(next);
    this.#timer = setTimeout(
      () => void this.#check(),
      next.kind === "ready" ? recheckMs : recheckUnverifiedMs,
    );
  }

  async #look(): Promise<StoreState> {
    const { redis, partition } = this.#connection;
    const format = await redis.get(`${partition}:format`);
    if (format !== null && format !== storeFormat) {
      const reason = foreignText(format);
      this.#options.onFatal(reason);
      return { kind: "refused", reason, fixes: [], event: "store-not-durable" };
    }
    this.#markCompatible();
    const verdict = await this.#judgeStore();
    if (verdict.kind !== "ready") return verdict;
    const commands = new Set(this.#options.scripts.flatMap((script) => script.commands));
    const { reply: denied } = await this.#connection.run(scripts.permissions, [...commands]);
    if (denied !== null) {
      return this.#judgeRefusal(`NOPERM this user may not run ${String(denied)} on the queue's keys`);
    }
    if (format !== null || this.#options.createsQueue === false) return verdict;
    await redis.setnx(`${partition}:format`, storeFormat);
    return this.#look();
  }

  async #judgeStore(): Promise<StoreState> {
    const { durability, minReplicas } = this.#options;
    const { redis } = this.#connection;
    const info = await readInfo(redis);
    const answer = durability === "verify" ? await readRedisConfig(redis) : { config: undefined };
    if ("refusal" in answer) {
      const fixes = ["set REDIS_DURABILITY=trust if whoever runs this Redis vouches for appendfsync always"];
      return { kind: "refused", reason: answer.refusal, fixes, event: "store-not-durable" };
    }
    const isSame = this.#verifiedRun === info["run_id"];
    const verdict = judgeDurability(info, answer.config, minReplicas, isSame);
    // A moment without replicas says nothing about the file; a spell as a replica, or wrong settings, do.
    if (verdict.kind === "ready") {
      this.#verifiedRun = info["run_id"];
      if (durability === "verify" && minReplicas > 0) void this.#replicas.check(info);
    } else if (verdict.kind === "refused" || info["role"] !== "master") {
      this.#verifiedRun = undefined;
    }
    return verdict;
  }

  /** The state after a check that Redis refused, or did not answer. */
  #judgeRefusal(reason: string): StoreState {
    if (reason.startsWith("NOPERM ")) {
      const fixes = ["give its user the permissions that docs/deploy-redis.md lists"];
      return { kind: "refused", reason, fixes, event: "writes-refused" };
    }
    if (reason.startsWith("MISCONF ")) {
      // Not needed beside an append-only file that is fsynced; where that is hidden, the snapshots may be all there is.
      const isSafe = this.#options.durability === "verify" && reason.includes("RDB");
      const fixes = isSafe ? ["CONFIG SET stop-writes-on-bgsave-error no", "CONFIG REWRITE"] : [];
      return { kind: "refused", reason, fixes, event: "writes-refused" };
    }
    return { kind: "pending", reason: `no answer to the check (${reason})` };
  }

  #adopt(next: StoreState): void {
    const before = this.#state;
    this.#state = next;
    const { log, onVerified } = this.#options;
    switch (next.kind) {
      case "ready":
        if (before.kind === "ready") return;
        if (this.#reported !== "") log.info("store-durable");
        this.#reported = "";
        onVerified?.();
        return;
      case "refused":
        if (next.reason === this.#reported) return;
        this.#reported = next.reason;
        this.#complain(next);
        return;
      case "pending":
        // Only what lasts is logged: every start and every failover is pending for a moment.
        if (this.#connection.redis.status !== "ready" || before.kind !== "pending") return;
        if (next.reason === this.#reported || next.reason !== before.reason) return;
        this.#reported = next.reason;
        log.warn("store-not-ready", { reason: next.reason });
    }
  }

  #complain({ event, reason, fixes }: Extract<StoreState, { kind: "refused" }>): void {
    const { log } = this.#options;
    const fields = { reason, fix: fixes.join("; ") };
    if (event === "writes-refused") log.error("writes-refused", fields);
    else log.error("store-not-durable", fields);
  }
}
