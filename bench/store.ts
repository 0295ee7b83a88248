// The stores of the contestants: a dedicated Redis that fsyncs every write, or a folder for the embedded queue.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeEmail, type Email } from "../lib/email/email.ts";
import { openProducer, type QueueSettings } from "../lib/queue/open.ts";
import { silent } from "../tests/support/log.ts";
import { startRedis } from "../tests/support/redis.ts";
import { cpuMicros } from "./cpu.ts";

export type StoreKind = "redis" | "embedded";

export interface Store {
  readonly kind: StoreKind;
  readonly url: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly queue: QueueSettings;
  /** CPU time of its process so far, microseconds; 0 for a file. */
  cpuMicros(): number;
  /** Number of calls of the Redis commands that match a pattern. */
  calls(pattern: string): number;
  stop(): Promise<void>;
}

export const storeKinds: readonly StoreKind[] = ["embedded", "redis"];

export async function startStore(kind: StoreKind): Promise<Store> {
  if (kind === "embedded") {
    const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
    return {
      kind,
      url: undefined,
      env: { DATA_DIR: folder },
      queue: { kind: "sqlite", folder },
      cpuMicros: () => 0,
      calls: () => 0,
      async stop() {
        rmSync(folder, { recursive: true, force: true });
      },
    };
  }
  const redis = await startRedis();
  const pid = Number(/process_id:(\d+)/.exec(redis.cli("INFO", "server"))?.[1]);
  const { url } = redis;
  return {
    kind,
    url,
    env: { REDIS_URL: url },
    queue: { kind: "redis", url, prefix: "reliable-email", minReplicas: 0, durability: "verify" },
    cpuMicros: () => cpuMicros(pid),
    calls: (pattern) =>
      Number(
        new RegExp(`cmdstat_(?:${pattern}):calls=(\\d+)`).exec(redis.cli("INFO", "commandstats"))?.[1] ?? 0,
      ),
    stop: redis.stop,
  };
}

/** Queues `count` identical emails, a thousand at a time. */
export async function fill(queue: QueueSettings, email: Email, count: number): Promise<void> {
  const producer = openProducer(queue, {
    log: silent,
    onFatal(reason) {
      throw new Error(reason);
    },
  });
  const text = encodeEmail(email);
  for (let left = count; left > 0; left -= 1000) {
    const group = Array.from({ length: Math.min(1000, left) }, () =>
      producer.submit({ id: Bun.randomUUIDv7(), text }, performance.now() + 60_000),
    );
    for (const { kind } of await Promise.all(group)) if (kind !== "stored") throw new Error(kind);
  }
  await producer.close();
}
