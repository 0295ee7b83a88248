// Shared by the tests of a file that run whole processes: a Redis, a folder for embedded queues, both fakes, and
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
  /** Settings of a new queue on the shared Redis, and of the fakes. */
  settings(over?: Record<string, string>): Record<string, string>;
  /** Settings of a new embedded queue, and of the fakes. */
  embedded(over?: Record<string, string>): Record<string, string>;
}

/** The queue of these settings as an operator sees it. It is created if no server has created it yet. */
export async function queueAdminOf(env: Record<string, string>): Promise<Admin> {
  const read = readConfig(env, "server");
  if (!read.ok) throw new Error(read.message);
  const { queue, retainMs } = read.config;
  try {
    return await openAdmin(queue, retainMs, silent);
  } catch (error) {
    if (!(error instanceof QueueMissing)) throw error;
  }
  const producer = await openProducer(queue, {
    log: silent,
    onFatal(reason) {
      throw new Error(reason);
    },
  });
  await eventually("the queue is created", () => producer.health().ok);
  await producer.close();
  return openAdmin(queue, retainMs, silent);
}

/** Waits until the queue has drained. */
export function drained(admin: Admin): Promise<boolean> {
  return eventually("the queue is empty", async () => {
    const { states } = await admin.stats();
    return states.waiting + states.retrying + states.sending + states["in-doubt"] === 0;
  });
}

/** Call this where `beforeAll` is allowed; the processes are ready once the tests run. */
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
