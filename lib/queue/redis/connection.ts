// Connections to Redis. ioredis's defaults send a command whose reply was lost a second time, behind the caller's
// back; here it reconnects but never re-sends: repeating is done above, by ids that make it harmless.

import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { AbstractConnector, Redis, type RedisOptions } from "ioredis";
import type { Log } from "../../runtime/log.ts";
import { driverUrl } from "../../runtime/redis_url.ts";
import { redisErrorText } from "./scripts.ts";

/** Longest wait for one reply, ms. After it the command may still be executed. */
export const commandTimeoutMs = 1000;
/** Longest silence of Redis while it owes a reply, ms: then the connection is given up. */
export const silenceMs = 1500;
const connectTimeoutMs = 1000;
/** How often a connection asks its node whether it is still the primary, ms. */
const roleCheckMs = 2000;
/** Longest stay on a node that is loading its data, ms: the address may lead elsewhere by now. */
const loadingMaxMs = 5000;

export interface RedisConnection extends Redis {
  /** Why it is down, in Redis's words where there are any. */
  trouble(): string;
  /** Closes it for good, without waiting for replies. */
  stop(): void;
}

/** Whether Redis refuses what `REDIS_URL` names: another user, password or database is needed, or a permission. */
export function refusesSettings(message: string): boolean {
  return /^(WRONGPASS|NOAUTH|NOPERM|ERR (invalid )?DB index|ERR SELECT) ?/.test(message);
}

const noTls = `no TLS handshake within ${connectTimeoutMs} ms: rediss:// needs a port on which Redis speaks TLS`;
const isReplica = "this node is a replica, not the primary";

/**
 * Opens a connection to the primary that is kept up for as long as the process lives. Commands fail at once while it
 * is down. The name or address may lead to another node after a failover: a connection whose node is not the primary,
 * or does not answer, is closed and made anew, so that the name is resolved again.
 * @param role shown by `CLIENT LIST`, and in the log
 * @param replyTimeoutMs longest wait for one whole reply
 */
export function connect(
  url: string,
  role: string,
  log: Log,
  replyTimeoutMs = commandTimeoutMs,
): RedisConnection {
  /** Since it was last up. An outage repeats its reasons, and may alternate between several. */
  const reported = new Set<string>();
  let trouble = "not connected";
  let connectedAtMs = 0;
  let isInTlsHandshake = false;

  function fail(reason: string): void {
    trouble = reason;
    if (!reported.has(reason)) log.warn("store-connection-lost", { connection: role, reason });
    reported.add(reason);
  }

  const redis = new Redis(driverUrl(url), {
    Connector: class extends PrimaryConnector {
      override onReplica = () => fail(isReplica);
      override onTls = (state: "begun" | "done") => (isInTlsHandshake = state === "begun");
    },
    connectionName: `reliable-email-${role}`,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: replyTimeoutMs,
    socketTimeout: silenceMs,
    connectTimeout: connectTimeoutMs,
    maxLoadingRetryTime: 250,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), 500),
    // A primary that became a replica: only a new connection may lead to the new primary.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  });

  redis.on("error", (error: Error & { readonly command?: { readonly name: string } }) => {
    const reason = isInTlsHandshake && error.message === "connect ETIMEDOUT" ? noTls : redisErrorText(error);
    // ioredis goes on with its handshake on a connection that was just closed: the cause is known already.
    if (reason !== "not connected") fail(reason);
    // ioredis would go on with database 0, which is another queue's.
    if (error.command?.name === "select") redis.disconnect(true);
  });
  redis.on("connect", () => (connectedAtMs = performance.now()));
  redis.on("ready", () => {
    reported.clear();
    trouble = "not connected";
    log.info("store-connected", { connection: role });
  });

  // An idle connection would notice neither a demotion nor a node that hangs.
  const timer = setInterval(() => void checkRole(), roleCheckMs);

  async function checkRole(): Promise<void> {
    if (redis.status === "connect" && performance.now() - connectedAtMs > loadingMaxMs) {
      fail("Redis is loading its data");
      redis.disconnect(true);
    }
    if (redis.status !== "ready") return;
    // No answer within `silenceMs` closes the connection; a refusal is an answer.
    const info = await redis.info("replication").catch(() => "");
    if (!/^role:slave\r?$/m.test(info) || redis.status !== "ready") return;
    fail(isReplica);
    redis.disconnect(true);
  }

  return Object.assign(redis, {
    trouble: () => trouble,
    stop() {
      clearInterval(timer);
      redis.removeAllListeners();
      redis.on("error", () => {});
      redis.disconnect();
    },
  });
}

/** Closes without waiting for replies. */
export function disconnect(redis: RedisConnection): void {
  redis.stop();
}

/** Makes ioredis's connections, resolving the name each time, and lets none become ready that leads to a replica. */
abstract class PrimaryConnector extends AbstractConnector {
  readonly #options: RedisOptions;
  abstract onReplica: () => void;
  abstract onTls: (state: "begun" | "done") => void;

  constructor(options: unknown) {
    super((options as RedisOptions).disconnectTimeout ?? 2000);
    this.#options = options as RedisOptions;
  }

  override async connect() {
    const { host = "localhost", port = 6379, path, tls } = this.#options;
    const address = path === undefined ? { host, port } : { path };
    this.connecting = true;
    // Not before ioredis's constructor has returned: whoever made it may close it at once.
    await Promise.resolve();
    if (!this.connecting) throw new Error("Connection is closed.");
    this.onTls("done");
    const stream = tls ? connectTls({ host, port, ...tls }) : connectTcp(address);
    if (tls) {
      stream.once("connect", () => this.onTls("begun"));
      stream.once("secureConnect", () => this.onTls("done"));
    }
    stream.once("error", (error) => (this.firstError = error));
    this.stream = stream;
    return stream;
  }

  /** @param info of INFO; empty where Redis does not tell it */
  override check(info: { readonly role?: string }): boolean {
    if (info.role !== "slave") return true;
    this.onReplica();
    return false;
  }
}

/** All keys of a queue share one hash tag, so that every script is one slot's. */
export function partitionOf(prefix: string): string {
  return `{${prefix}:0}`;
}
