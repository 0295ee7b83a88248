// Several times more submissions than a slow store can take, on real processes: what is acknowledged is stored, the
// surplus is refused immediately, memory stays bounded, and the service recovers completely.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { watchMemory } from "../support/process_memory.ts";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { post, startServer } from "../support/service.ts";
import { queueAdminOf } from "../support/processes.ts";

/** A store takes ten of these in one write. */
const large = { subject: "Hi", body: "x".repeat(100_000), to: "jane@example.org", from: "shop@example.com" };
const small = { ...large, body: "Hello" };

let folder = "";
let redis: RedisServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-overload-"));
  redis = await startRedis();
});
afterAll(async () => {
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface SlowStore {
  /** Settings for the server. */
  readonly env: Record<string, string>;
  /** Settings for reading the queue. */
  readonly admin: Record<string, string>;
  slow(): void;
  fast(): Promise<void>;
}

/** Every reply of Redis is delayed. */
async function slowRedis(): Promise<SlowStore> {
  const proxy = await startProxy(redis.port);
  return {
    env: { REDIS_URL: `redis://127.0.0.1:${proxy.port}` },
    admin: { REDIS_URL: redis.url },
    slow() {
      proxy.delayMs = 200;
    },
    async fast() {
      proxy.delayMs = 0;
    },
  };
}

/** Another process holds the file's lock and releases it for one write at a time. */
async function slowFile(): Promise<SlowStore> {
  const env = { DATA_DIR: folder };
  let isSlow = false;
  let holding = Promise.resolve();
  async function hold(): Promise<void> {
    const db = new Database(join(folder, "queue.db"));
    db.run("PRAGMA busy_timeout = 5000");
    const version = db.prepare("PRAGMA data_version");
    while (isSlow) {
      db.run("BEGIN IMMEDIATE");
      await Bun.sleep(400);
      const before = version.values();
      db.run("COMMIT");
      while (isSlow && Bun.deepEquals(version.values(), before)) await Bun.sleep(1);
    }
    db.close();
  }
  return {
    env,
    admin: env,
    slow() {
      isSlow = true;
      holding = hold();
    },
    async fast() {
      isSlow = false;
      await holding;
    },
  };
}

test.each([
  ["a slow Redis", slowRedis],
  ["a file that another process holds", slowFile],
])(
  "overload: the surplus over what %s can take is refused immediately, and the rest is stored",
  async (_, open) => {
    const store = await open();
    const server = await startServer({
      PORT: "0",
      ADMIN_PORT: "",
      SUBMIT_TIMEOUT: "4s",
      ...store.env,
    });
    await eventually("it is ready", async () => (await post(server.url, small)).status === 200);
    let alone = 1;
    const answeredMs = async () => {
      const startMs = performance.now();
      if ((await post(server.url, small)).status !== 200) return Infinity;
      alone += 1;
      return performance.now() - startMs;
    };
    let slowestMs = 0;
    for (let i = 0; i < 20; i += 1) slowestMs = Math.max(slowestMs, await answeredMs());
    expect(slowestMs).toBeFinite();
    const memory = watchMemory(server.pid);
    store.slow();

    const ids: string[] = [];
    /** Immediate refusals. The first submissions are accepted before the store is known to be slow. */
    let refusals = 0;
    let timeouts = 0;
    let going = true;
    /** Resolves when another submission has been taken, or given up: a client that was refused tries again then. */
    let handled = Promise.withResolvers<void>();
    const client = async () => {
      while (going) {
        const answer = await post(server.url, large);
        if (answer.status === 200) {
          ids.push(answer.id!);
        } else {
          expect(answer).toMatchObject({ status: 500, ok: false });
          if (answer.error_message === "the service is busy: try again later") {
            refusals += 1;
            if (going) await handled.promise;
            continue;
          }
          timeouts += 1;
        }
        handled.resolve();
        handled = Promise.withResolvers();
      }
    };
    // As many as Bun's fetch allows at a time.
    const clients = Array.from({ length: 250 }, client);
    await eventually(
      () => `enough is accepted (${ids.length}) and refused (${refusals})`,
      () => ids.length > 150 && refusals > 500,
    );
    going = false;
    handled.resolve();
    await Promise.all(clients);
    expect(memory.grownMiB()).toBeLessThan(400);

    await store.fast();
    await eventually("it is as fast as before", async () => (await answeredMs()) <= slowestMs);
    const admin = await queueAdminOf(store.admin);
    for (const id of ids) expect((await admin.show(id))?.state).toBe("waiting");
    // And nothing that was refused immediately: only submissions without an answer in time may be stored as well.
    const { states } = await admin.stats();
    expect(states.waiting - alone).toBeWithin(ids.length, ids.length + timeouts + 1);
    await Promise.all([admin.close(), server.kill()]);
  },
);

test("overload: a large email gets more time for its write, and is stored", async () => {
  const proxy = await startProxy(redis.port);
  const server = await startServer({
    PORT: "0",
    MAX_BODY_BYTES: "33554432",
    SUBMIT_TIMEOUT: "30s",
    REDIS_PREFIX: "large",
    REDIS_URL: `redis://127.0.0.1:${proxy.port}`,
  });
  // In JSON it takes six times as much.
  const email = { ...small, body: `a${"\u0001".repeat(3_000_000)}` };
  // A durability check may come in between, and is not answered in time either.
  await eventually("it is stored", async () => {
    proxy.delayMs = 0;
    await eventually("it is ready", async () => (await post(server.url, small)).status === 200);
    // Twice as long as a small write can take, and longer than Redis may be silent.
    proxy.delayMs = 2000;
    return (await post(server.url, email)).status === 200;
  });
  proxy.delayMs = 0;
  await server.kill();
  proxy.stop();
});
