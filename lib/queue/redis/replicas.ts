// What replicas say of their own settings. A primary does not know them, and a replica with other ones loses what it
// acknowledged, or is refused as soon as it is promoted: an operator hears of it before that.

import { Redis } from "ioredis";
import type { Log } from "../../runtime/log.ts";

/** For each step of asking one replica, ms. */
const stepTimeoutMs = 1000;

export interface NotDurable {
  readonly reason: string;
  readonly fixes: readonly string[];
}

export interface ReplicaCheck {
  /**
   * Asks each replica that a primary lists in INFO, at the address that it lists, and logs what is wrong. One that
   * cannot be reached there, or does not let this user ask, is left out.
   */
  look(info: Readonly<Record<string, string>>): Promise<void>;
  stop(): void;
}

/**
 * @param url of the primary: its user, its password and its TLS are the replicas' as well
 * @param judge undefined for one that is as it should be, or that is never promoted
 */
export function createReplicaCheck(
  url: string,
  log: Log,
  judge: (replica: Redis) => Promise<NotDurable | undefined>,
): ReplicaCheck {
  /** What was logged last of each, by its address. */
  const reported = new Map<string, string>();
  let asking: Redis | undefined;
  let isLooking = false;
  let stopped = false;

  async function ask(host: string, port: number): Promise<void> {
    const { protocol, hostname, username, password } = new URL(url);
    const replica = (asking = new Redis({
      host,
      port,
      ...(username !== "" && { username: decodeURIComponent(username) }),
      ...(password !== "" && { password: decodeURIComponent(password) }),
      ...(protocol === "rediss:" && { tls: { servername: hostname } }),
      connectionName: "reliable-email-replica-check",
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      connectTimeout: stepTimeoutMs,
      commandTimeout: stepTimeoutMs,
      socketTimeout: stepTimeoutMs,
    }));
    replica.on("error", () => {});
    try {
      await replica.connect();
      const wrong = await judge(replica);
      const address = `${host}:${port}`;
      if (stopped || wrong?.reason === reported.get(address)) return;
      if (wrong === undefined) {
        reported.delete(address);
        return;
      }
      reported.set(address, wrong.reason);
      log.warn("replica-not-durable", {
        replica: address,
        reason: wrong.reason,
        fix: wrong.fixes.join("; "),
      });
    } catch {
      // Its address may be one that only the primary can use.
    } finally {
      replica.disconnect();
    }
  }

  return {
    async look(info) {
      if (isLooking) return;
      isLooking = true;
      for (const [name, value] of Object.entries(info)) {
        const [, host, port] = /^ip=([^,]+),port=(\d+),state=online/.exec(value) ?? [];
        if (stopped || !/^slave\d+$/.test(name) || host === undefined) continue;
        await ask(host, Number(port));
      }
      isLooking = false;
    },
    stop() {
      stopped = true;
      asking?.disconnect();
    },
  };
}
