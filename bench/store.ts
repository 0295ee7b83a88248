// The stores of the contestants: a Redis of its own that fsyncs every write, or a folder for the embedded queue.

import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeEmail, type Email } from "../lib/email/email.ts";
import { openAdmin, openProducer, type QueueSettings } from "../lib/queue/open.ts";
import { silent } from "../tests/support/log.ts";
import { startRedis } from "../tests/support/redis.ts";

export type StoreKind = "redis" | "embedded";
export const storeKinds: readonly StoreKind[] = ["embedded", "redis"];

export interface Store {
  readonly kind: StoreKind;
  readonly env: Readonly<Record<string, string>>;
  readonly queue: QueueSettings;
  /** Where its files are. */
  readonly folder: string;
  /** Process of the Redis. */
  readonly pid: number | undefined;
  /** Runs `redis-cli`. */
  cli(...command: string[]): string;
  /** Number of writes to Redis so far: calls of scripts, and single commands that add emails. */
  calls(): number;
  stop(): Promise<void>;
}

export async function startStore(kind: StoreKind): Promise<Store> {
  return kind === "redis" ? startRedisStore() : startFolder();
}

function startFolder(): Store {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
  return {
    kind: "embedded",
    env: { DATA_DIR: folder },
    queue: { kind: "sqlite", folder },
    folder,
    pid: undefined,
    cli: () => "",
    calls: () => 0,
    stop: async () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function startRedisStore(): Promise<Store> {
  // Rewrites of the log would begin at different moments for different contestants.
  const { url, cli, folder, stop } = await startRedis({ "auto-aof-rewrite-percentage": "0" });
  return {
    kind: "redis",
    env: { REDIS_URL: url },
    queue: { kind: "redis", url, prefix: "reliable-email", minReplicas: 0, durability: "verify" },
    folder,
    pid: Number(/process_id:(\d+)/.exec(cli("INFO", "server"))?.[1]),
    cli,
    calls() {
      const stats = cli("INFO", "commandstats");
      const callsOf = (name: string) =>
        Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
      // The commands of scripts are counted too.
      return callsOf("evalsha") || callsOf("xadd") + callsOf("rpush");
    },
    stop,
  };
}

/** All emails of the service's own queue that were not sent. */
export async function countQueue({ queue }: Store): Promise<number> {
  const admin = await openAdmin(queue, 86_400_000, silent);
  try {
    const { states } = await admin.stats();
    return Object.values(states).reduce((sum, count) => sum + count, -states.sent);
  } finally {
    await admin.close();
  }
}

/** The numbers of Redis's INFO by name, of `cmdstat_…` the number of calls; none for a file. */
export function infoOf({ cli }: Store): Readonly<Record<string, number>> {
  const lines = cli("INFO", "all").matchAll(/^(\w+):(?:calls=)?(\d+)/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, Number(value)]));
}

/** Memory of Redis, or the pages of the file that are in use. */
export function bytesKept(store: Store): number {
  if (store.queue.kind !== "sqlite") return infoOf(store)["used_memory"] ?? Number.NaN;
  const database = new Database(join(store.queue.folder, "queue.db"), { readonly: true });
  const number = (name: string) => Object.values(database.query(`PRAGMA ${name}`).get() ?? {})[0] as number;
  const bytes = (number("page_count") - number("freelist_count")) * number("page_size");
  database.close();
  return bytes;
}

/** Queues `count` identical emails, a thousand at a time. */
export async function fill(queue: QueueSettings, email: Email, count: number): Promise<void> {
  const producer = await openProducer(queue, {
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
