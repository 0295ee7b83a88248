// Connections to Redis. ioredis's defaults send a command whose reply was lost a second time, behind the caller's
// back; here it reconnects but never re-sends: repeating is done above, by ids that make it harmless.

import { Redis } from "ioredis";
import type { Log } from "../../log.ts";
import { driverUrl } from "../../redis_url.ts";

/** Longest wait for one reply, ms. After it the command may still be executed. */
export const commandTimeoutMs = 1000;
/** Longest silence of Redis while it owes a reply, ms: then the connection is given up. */
export const silenceMs = 1500;

/** Whether Redis wants another user or password than the ones it was shown. */
export function refusesLogin(message: string): boolean {
  return /^(WRONGPASS|NOAUTH) /.test(message);
}

const noSuchDatabase = /^ERR (DB index is out of range|invalid DB index)/;

/**
 * Opens a connection that is kept up for as long as the process lives. Commands fail at once while it is down.
 * @param role shown by `CLIENT LIST`, and in the log
 * @param replyTimeoutMs longest wait for one whole reply
 */
export function connect(url: string, role: string, log: Log, replyTimeoutMs = commandTimeoutMs): Redis {
  const redis = new Redis(driverUrl(url), {
    connectionName: `reliable-email-${role}`,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: replyTimeoutMs,
    socketTimeout: silenceMs,
    connectTimeout: 1000,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), 500),
    // A primary that became a replica: only a new connection may lead to the new primary.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  });
  let reported = "";
  redis.on("error", ({ message }) => {
    // ioredis repeats itself for as long as the outage lasts.
    if (message !== reported) log.warn("store-connection-lost", { connection: role, reason: message });
    reported = message;
    // ioredis would go on with database 0, which is another queue's.
    if (noSuchDatabase.test(message)) redis.disconnect(true);
  });
  redis.on("ready", () => {
    reported = "";
    log.info("store-connected", { connection: role });
  });
  return redis;
}

/** Closes without waiting for replies. */
export function disconnect(redis: Redis): void {
  redis.removeAllListeners();
  redis.on("error", () => {});
  redis.disconnect();
}

/** All keys of a queue share one hash tag, so that every script is one slot's. */
export function partitionOf(prefix: string): string {
  return `{${prefix}:0}`;
}
