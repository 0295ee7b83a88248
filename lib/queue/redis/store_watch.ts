// Watches whether the Redis behind a connection is durable and accepts writes. It is checked on every new connection and
// every 10 s, since anybody can change its settings. Creates the queue in a Redis that has none.

import { readRedisUrl } from "../../runtime/redis_url.ts";
import type { Health } from "../contract.ts";
import type { RedisConnection, RedisStoreOptions } from "./connection.ts";
import {
  judgeDurability,
  readRedisConfig,
  readInfo,
  refuse,
  ReplicaCheck,
  replicasIn,
  type StoreState,
} from "./durability.ts";
import { redisErrorText } from "./error_text.ts";
import { QueueFormat } from "./queue_format.ts";
import { type Script, scripts } from "./scripts.ts";

const recheckMs = 10_000;
const recheckUnverifiedMs = 500;

export interface StoreWatchOptions extends RedisStoreOptions {
  /** The scripts that this process runs, and that Redis must permit. */
  readonly scripts: readonly Script[];
  /** Whether a queue is created in a Redis that has none. */
  readonly createsQueue: boolean;
  /** Called whenever the store has become ready. */
  readonly onVerified?: () => void;
}

export class StoreWatch {
  /** Resolves once the store has been reached and is of a format that this version understands. */
  readonly compatible: Promise<void>;
  readonly #connection: RedisConnection;
  readonly #options: StoreWatchOptions;
  readonly #format: QueueFormat;
  readonly #replicas: ReplicaCheck;
  /** Whether the topology knows several nodes, so that it has to be said which one is meant. */
  readonly #hasNodes: boolean;
  readonly #markCompatible: () => void;
  #state: StoreState = { kind: "pending", reason: "not connected yet" };
  /** `run_id` of the Redis that was last found durable. */
  #verifiedRun: string | undefined;
  /** Counts connections: the result of a check does not hold for the next one. */
  #generation = 0;
  /** The connection that the check in progress belongs to. */
  #checking: number | undefined;
  #reported = "";
  #warned: string | undefined;
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(connection: RedisConnection, options: StoreWatchOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#format = options.format ?? new QueueFormat(connection.partitions);
    this.#replicas = new ReplicaCheck(options.url, options.log);
    const { kind } = readRedisUrl(options.url).topology;
    this.#hasNodes = kind === "sentinel" || kind === "cluster";
    const { promise, resolve } = Promise.withResolvers<void>();
    this.compatible = promise;
    this.#markCompatible = resolve;
    connection.redis.on("ready", () => void this.#run());
    connection.redis.on("close", () => {
      this.#generation += 1;
      this.#state = { kind: "pending", reason: connection.trouble };
    });
    this.#format.onCreated(() => void this.#run());
    void this.#run();
  }

  get state(): StoreState {
    return this.#state;
  }

  health(): Health {
    const state = this.#state;
    return state.kind === "ready"
      ? { ok: true, warning: state.warning }
      : { ok: false, reason: state.reason };
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#replicas.stop();
  }

  async #run(): Promise<void> {
    if (this.#checking === this.#generation || this.#isStopped) return;
    const generation = (this.#checking = this.#generation);
    clearTimeout(this.#timer);
    const { redis, trouble } = this.#connection;
    const next: StoreState =
      redis.status === "ready"
        ? await this.#check().catch((error: unknown) => this.#judgeRefusal(redisErrorText(error)))
        : { kind: "pending", reason: trouble };
    if (this.#isStopped || generation !== this.#generation) return;
    this.#checking = undefined;
    this.#adopt(next);
    this.#timer = setTimeout(() => void this.#run(), next.kind === "ready" ? recheckMs : recheckUnverifiedMs);
  }

  async #check(): Promise<StoreState> {
    const found = await this.#format.read(this.#connection);
    if (found.kind === "foreign") {
      this.#options.onFatal(found.reason);
      return refuse("store-not-durable", found.reason);
    }
    this.#markCompatible();
    const state = await this.#judgeStore();
    if (state.kind !== "ready") return state;
    const commands = new Set(this.#options.scripts.flatMap((script) => script.commands));
    const { reply: denied } = await this.#connection.run(scripts.permissions, [...commands]);
    if (denied !== null) {
      return this.#judgeRefusal(`NOPERM this user may not run ${String(denied)} on the queue's keys`);
    }
    if (found.kind === "present") return state;
    const lost = await this.#format.judgeLoss(this.#connection);
    if (lost !== undefined || !this.#options.createsQueue) return lost ?? state;
    return (await this.#format.create(this.#connection, this.#options.minReplicas)) ?? this.#check();
  }

  async #judgeStore(): Promise<StoreState> {
    const { durability, minReplicas } = this.#options;
    const { redis } = this.#connection;
    const info = await readInfo(redis);
    const answer = durability === "verify" ? await readRedisConfig(redis) : { config: undefined };
    if ("refusal" in answer) {
      const fix = "set REDIS_DURABILITY=trust if whoever runs this Redis vouches for appendfsync always";
      return refuse("store-not-durable", answer.refusal, [fix]);
    }
    const state = judgeDurability(info, answer.config, minReplicas, this.#verifiedRun === info["run_id"]);
    // A moment without replicas does not affect the file; a period as a replica, or wrong settings, may.
    if (state.kind === "ready") {
      this.#verifiedRun = info["run_id"];
      if (durability === "verify" && (minReplicas > 0 || this.#hasNodes)) {
        void this.#replicas.check(this.#connection.replicas ?? replicasIn(info));
      }
    } else if (state.kind === "refused" || info["role"] !== "master") {
      this.#verifiedRun = undefined;
    }
    if (state.kind !== "refused" || !this.#hasNodes) return state;
    return { ...state, reason: `${this.#connection.address}: ${state.reason}` };
  }

  /** The state after a check that Redis refused, or did not answer. */
  #judgeRefusal(reason: string): StoreState {
    if (reason.startsWith("NOPERM ")) {
      return refuse("writes-refused", reason, [
        "give its user the permissions that docs/deploy-redis.md lists",
      ]);
    }
    if (reason.startsWith("MISCONF ")) {
      // Next to an append-only file that is fsynced, snapshots are not needed. If Redis hides whether there is one, the
      // snapshots may be the only copy.
      const isSafe = this.#options.durability === "verify" && reason.includes("RDB");
      const fixes = isSafe ? ["CONFIG SET stop-writes-on-bgsave-error no", "CONFIG REWRITE"] : [];
      return refuse("writes-refused", reason, fixes);
    }
    if (/^(TRYAGAIN|ASK) /.test(reason)) {
      const fix = `redis-cli --cluster fix ${this.#connection.address}`;
      const moving = `its slot is being moved to another node (${reason}); if no move is under way, run ${fix}`;
      return { kind: "pending", reason: moving };
    }
    return { kind: "pending", reason: `no answer to the check (${reason})` };
  }

  /** Logs a change, once. */
  #adopt(next: StoreState): void {
    const before = this.#state;
    this.#state = next;
    const { log, onVerified } = this.#options;
    if (next.kind === "ready") {
      const { warning } = next;
      if (warning !== undefined && warning !== this.#warned)
        log.warn("spare-replica-missing", { reason: warning });
      this.#warned = warning;
      if (before.kind === "ready") return;
      if (this.#reported !== "") log.info("store-durable");
      this.#reported = "";
      onVerified?.();
      return;
    }
    const { reason } = next;
    // Only what persists is logged: every start and every failover is pending for a moment.
    const isBrief = before.kind !== "pending" || reason !== before.reason;
    const isPending = next.kind === "pending";
    if (reason === this.#reported || (isPending && (isBrief || this.#connection.redis.status !== "ready")))
      return;
    this.#reported = reason;
    if (isPending) return log.warn("store-not-ready", { reason });
    const fields = { reason, fix: next.fixes.join("; ") };
    if (next.event === "writes-refused") log.error("writes-refused", fields);
    else log.error("store-not-durable", fields);
  }
}
