// Connections to Redis. By default, ioredis silently repeats a command whose reply was lost. Here it reconnects but never
// repeats: callers do, with ids that make it harmless.

import { Redis } from "ioredis";
import type { Log } from "../../runtime/log.ts";
import { addressText, readRedisUrl, type RedisNode, type RedisTarget } from "../../runtime/redis_url.ts";
import type { StoreWatcher } from "../contract.ts";
import { createConnector, type NodeInfo } from "./connector.ts";
import { redisErrorText } from "./error_text.ts";
import { hashSlot, tagOf } from "./partition.ts";
import type { QueueFormat } from "./queue_format.ts";
import type { Script } from "./scripts.ts";
import "./tracing.ts";
import { acquireTopology, type Place, releaseTopology, type Topology } from "./topology/topology.ts";
import { formFor } from "./topology/url_form.ts";

/** Longest wait for one reply, ms. The command may still be executed after that. */
export const commandTimeoutMs = 1000;
/** Longest silence of Redis while it owes a reply, ms; after that the connection is closed. */
export const silenceMs = 1500;
const connectTimeoutMs = 1000;
/** How often a connection asks its node whether it is still the primary, ms. */
const roleCheckMs = 2000;
/** Longest connection to a node that is loading its data, ms: the address may lead to another one by now. */
const loadingMaxMs = 5000;

const noTls = `no TLS handshake within ${connectTimeoutMs} ms: rediss:// needs a port on which Redis speaks TLS`;
/** Refusals by a node that is not, or no longer, the primary. */
const leadsElsewhere = /^(READONLY|MOVED|ASK|CLUSTERDOWN)/;

const isReplica = "this node is a replica, not the primary";

export type ScriptArgument = string | number | Uint8Array;

/** ioredis accepts bytes only as a Buffer. */
function asBuffer(argument: ScriptArgument): string | number | Buffer {
  if (!(argument instanceof Uint8Array)) return argument;
  return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength);
}

/** Given to everything that opens a connection to a queue on Redis. */
export interface ConnectionOptions {
  readonly url: string;
  readonly prefix: string;
  /** The number of partitions of the queue. Default: 1. */
  readonly partitions?: number;
  /** Number of the partition that the connection is for. Default: 0. */
  readonly partition?: number;
  /** A URL for each partition instead of one for all; for tests. */
  readonly urlOf?: (partition: number) => string;
  readonly log: Log;
  /** Added to the store's clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
}

/** Given to a server and a worker, which rely on the store. */
export interface RedisStoreOptions extends ConnectionOptions, StoreWatcher {
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
  /** Shared by the partitions of a queue. */
  readonly format?: QueueFormat;
}

/**
 * A connection to the primary that is restored until it is closed. Commands fail immediately while it is down. After a
 * failover the name or address may lead to another node: a connection to a node that is not the primary, or does not
 * answer, is closed and made again, so that the name is resolved again.
 */
export class RedisConnection {
  readonly redis: Redis;
  /** The number of its partition, and how many the queue has. */
  readonly partition: number;
  readonly partitions: number;
  /** All keys of the partition share this hash tag, so that every script stays in one slot. */
  readonly tag: string;
  readonly #clockOffsetMs: () => number;
  readonly #role: string;
  readonly #log: Log;
  /** Kinds of reasons logged since it was last up: an outage repeats its reasons, and may alternate between several. */
  readonly #reported = new Set<string>();
  readonly #timer: Timer;
  readonly #url: string;
  readonly #target: RedisTarget;
  readonly #topology: Topology;
  readonly #slot: number;
  readonly #unfollow: () => void;
  /** Where the connection leads, or is being made to; undefined while it leaves, or the primary is located. */
  #place: Place | undefined;
  #trouble = "not connected";
  #connectedAtMs = 0;
  #isInTlsHandshake = false;

  /**
   * @param role shown by `CLIENT LIST`, and in the log
   * @param replyTimeoutMs longest wait for one whole reply
   */
  constructor(options: ConnectionOptions, role: string, replyTimeoutMs = commandTimeoutMs) {
    const { prefix, partition = 0, partitions = 1 } = options;
    this.partition = partition;
    this.partitions = partitions;
    this.tag = tagOf(prefix, partition, partitions);
    this.#clockOffsetMs = options.clockOffsetMs ?? (() => 0);
    this.#role = role;
    this.#log = options.log;
    this.#slot = hashSlot(this.tag);
    this.#url = options.url;
    this.#target = readRedisUrl(options.url);
    this.#topology = acquireTopology(options.url);
    const { login, db, tls } = this.#target;
    this.redis = new Redis({
      ...login,
      db,
      ...(tls && { tls: {} }),
      Connector: createConnector({
        locate: () => this.#locate(),
        onTls: (isInHandshake) => (this.#isInTlsHandshake = isInHandshake),
        check: (info) => this.#isPrimary(info),
      }),
      connectionName: `reliable-email-${role}`,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      // The consumer subscribes itself. ioredis would too, and leave a rejection that nobody handles if the connection breaks.
      autoResubscribe: false,
      commandTimeout: replyTimeoutMs,
      socketTimeout: silenceMs,
      connectTimeout: connectTimeoutMs,
      maxLoadingRetryTime: 250,
      keepAlive: 10_000,
      retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), 500),
      // A primary that became a replica, or a node that lost the slot: only a new connection may lead to the new primary.
      reconnectOnError: (error) => leadsElsewhere.test(error.message),
      // A hung node would keep a connection that is left open.
      disconnectTimeout: 50,
    });
    this.redis.on("error", (error) => this.#onError(error));
    this.redis.on("connect", () => (this.#connectedAtMs = performance.now()));
    this.redis.on("ready", () => {
      this.#reported.clear();
      this.#trouble = "not connected";
      this.#log.info("store-connected", { connection: role });
    });
    this.redis.on("reconnecting", () => this.#follow());
    this.#unfollow = this.#topology.onAnswer(() => this.#follow());
    // An idle connection notices neither a demotion nor a node that hangs.
    this.#timer = setInterval(() => void this.#checkRole(), roleCheckMs);
  }

  /** Why it is down, in Redis's words where there are any. */
  get trouble(): string {
    return this.#trouble;
  }

  /** Host and port, or the path of the socket; "" while the primary is located. */
  get address(): string {
    return this.#place?.kind === "primary" ? addressText(this.#place.address) : "";
  }

  /** The replicas of its primary, where the topology knows them better than the primary's INFO. */
  get replicas(): readonly RedisNode[] | undefined {
    return this.#topology.replicas(this.#slot);
  }

  /**
   * Runs a script by its digest, and by its text if Redis does not know it (after a restart or SCRIPT FLUSH): it was not
   * executed then, so that sending it again is safe. With `replicas`, a `WAIT` follows on the same connection.
   * Rejects if Redis refused it (a ReplyError) or did not answer (any other error).
   * @param args from ARGV[2] on; ARGV[1] is the offset of the clock
   * @param replicas how many replicas to wait for
   * @param waitMs for how long
   * @returns the script's reply, and how many replicas hold everything that this connection has written
   */
  async run(script: Script, args: readonly ScriptArgument[] = [], replicas = 0, waitMs = 0) {
    const [reply, acknowledged] = await this.#evaluate(script, args, async (...call) => {
      if (replicas === 0) return [await this.redis.call(...call), 0] as const;
      const pipeline = this.redis.pipeline().call(...call);
      const [first, second] = (await pipeline.wait(replicas, waitMs).exec()) ?? [];
      if (first === undefined || second === undefined) throw new Error("Pipeline: no answer");
      const error = first[0] ?? second[0];
      if (error !== null) throw error;
      return [first[1], Number(second[1])] as const;
    });
    return { reply, replicas: acknowledged };
  }

  async #evaluate<Reply>(
    script: Script,
    args: readonly ScriptArgument[],
    call: (command: string, ...args: (string | number | Buffer)[]) => Promise<Reply>,
  ): Promise<Reply> {
    const keys = [this.tag, `${this.tag}:format`, `${this.tag}:absent`];
    const rest = [keys.length, ...keys, this.#clockOffsetMs(), ...args.map(asBuffer)];
    const { sha, text } = script.version(this.partitions);
    try {
      return await call("evalsha", sha, ...rest);
    } catch (error) {
      if (!redisErrorText(error).startsWith("NOSCRIPT")) throw error;
      return call("eval", text, ...rest);
    }
  }

  /** As {@link run}, for a script whose reply is bytes. */
  readBytes(script: Script, args: readonly ScriptArgument[]): Promise<unknown> {
    return this.#evaluate(script, args, (...call) => this.redis.callBuffer(...call));
  }

  /** Resolves once the connection is ready, or after the longest wait for a reply. */
  async untilReady(): Promise<void> {
    if (this.redis.status === "ready") return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, commandTimeoutMs);
    // All emails of a batch with files may wait at once: Node would warn of a leak.
    this.redis.setMaxListeners(0);
    this.redis.once("ready", resolve);
    await promise;
    clearTimeout(timer);
    this.redis.off("ready", resolve);
  }

  /** Closes it for good, without waiting for replies. */
  close(): void {
    clearInterval(this.#timer);
    this.#unfollow();
    releaseTopology(this.#url);
    this.redis.removeAllListeners();
    this.redis.on("error", () => {});
    this.redis.disconnect();
  }

  #fail(reason: string): void {
    this.#trouble = reason;
    // Without the details: when several nodes fail, they come in many combinations.
    const [kind = ""] = reason.split(": ", 1);
    if (!this.#reported.has(kind)) {
      this.#log.warn("store-connection-lost", { connection: this.#role, reason });
    }
    this.#reported.add(kind);
  }

  #onError(error: Error & { readonly command?: { readonly name: string } }): void {
    const hasNoTls = this.#isInTlsHandshake && error.message === "connect ETIMEDOUT";
    const reason = hasNoTls ? noTls : redisErrorText(error);
    // ioredis continues its handshake on a connection that was just closed: the cause is known already.
    if (reason !== "not connected") this.#fail(reason);
    // ioredis would continue with database 0, which is another queue's.
    if (error.command?.name === "select") this.redis.disconnect(true);
  }

  async #locate(): Promise<Place> {
    this.#place = undefined;
    return (this.#place = await this.#topology.locate(this.#slot));
  }

  /** Leaves for a new primary. The connection stays where it is while none is known. */
  #follow(): void {
    const { redis } = this;
    const place = this.#topology.place(this.#slot);
    if (place.kind === "unknown" || addressText(place.address) === this.address) return;
    if (redis.status === "reconnecting") {
      // At once, instead of after the backoff.
      redis.connect().catch(() => {});
    } else if (this.#place !== undefined) {
      this.#place = undefined;
      this.#fail(`the primary is ${addressText(place.address)} now`);
      redis.disconnect(true);
    }
  }

  #isPrimary({ role, redis_mode: mode }: NodeInfo): boolean {
    const { topology, tls } = this.#target;
    const place = this.#place;
    const isWrongMode = topology.kind !== "cluster" && (mode === "cluster" || mode === "sentinel");
    const wrongForm =
      isWrongMode && place?.kind === "primary" ? formFor(mode, place.address, tls) : undefined;
    const reason = wrongForm ?? (role === "slave" ? isReplica : undefined);
    if (reason !== undefined) this.#fail(reason);
    return reason === undefined;
  }

  async #checkRole(): Promise<void> {
    const { redis } = this;
    if (redis.status === "connect" && performance.now() - this.#connectedAtMs > loadingMaxMs) {
      this.#fail("Redis is loading its data");
      redis.disconnect(true);
    }
    if (redis.status !== "ready") return;
    // No answer within `silenceMs` closes the connection; a refusal is an answer.
    const info = await redis.info("replication").catch(() => "");
    if (!/^role:slave\r?$/m.test(info) || redis.status !== "ready") return;
    this.#fail(isReplica);
    redis.disconnect(true);
  }
}
