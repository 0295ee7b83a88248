// What tests of whole processes share: a Redis, a folder for embedded queues and both fakes for a file of tests, and
// settings that lead to them.

import { afterAll, beforeAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../../lib/config/config.ts";
import { openProducer, openAdmin } from "../../lib/queue/open.ts";
import { type Admin, QueueMissing } from "../../lib/queue/contract.ts";
import { eventually } from "./eventually.ts";
import { silent } from "./log.ts";
import { type FakesProcess, settingsFor, startFakes } from "./service.ts";
import { type RedisServer, startRedis } from "./redis.ts";

export interface Processes {
  readonly redis: RedisServer;
  readonly fakes: FakesProcess;
  /** Settings of a queue of its own, on the shared Redis and fakes. */
  settings(over?: Record<string, string>): Record<string, string>;
  /** Settings of an embedded queue of its own. */
  embedded(over?: Record<string, string>): Record<string, string>;
}

/** What an operator sees of the queue that these settings lead to. It is made if no server has made it yet. */
export async function queueAdminOf(env: Record<string, string>): Promise<Admin> {
  const read = readConfig(env, "server");
  if (!read.ok) throw new Error(read.message);
  const { queue, retainMs } = read.config;
  try {
    return await openAdmin(queue, retainMs, silent);
  } catch (error) {
    if (!(error instanceof QueueMissing)) throw error;
  }
  const producer = openProducer(queue, {
    log: silent,
    onFatal(reason) {
      throw new Error(reason);
    },
  });
  await eventually("the queue is made", () => producer.health().ok);
  await producer.close();
  return openAdmin(queue, retainMs, silent);
}

/** Waits until nothing is left to do. */
export function drained(admin: Admin): Promise<boolean> {
  return eventually("the queue is empty", async () => {
    const { states } = await admin.stats();
    return states.waiting + states.retrying + states.sending + states["in-doubt"] === 0;
  });
}

/** To be called where `beforeAll` may be; its parts are there once the tests run. */
export function useProcesses(): Processes {
  let redis: RedisServer | undefined;
  let fakes: FakesProcess | undefined;
  let folder = "";
  let queues = 0;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "reliable-email-stack-"));
    [redis, fakes] = await Promise.all([startRedis(), startFakes()]);
  });
  afterAll(async () => {
    await Promise.all([redis?.stop(), fakes?.stop()]);
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    get redis() {
      return redis!;
    },
    get fakes() {
      return fakes!;
    },
    settings(over = {}) {
      queues += 1;
      return settingsFor({ REDIS_URL: redis!.url }, fakes!, { REDIS_PREFIX: `queue-${queues}`, ...over });
    },
    embedded(over = {}) {
      queues += 1;
      return settingsFor({ DATA_DIR: join(folder, `queue-${queues}`) }, fakes!, over);
    },
  };
}
