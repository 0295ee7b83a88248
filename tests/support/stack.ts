// What tests of whole processes share: a Redis and both fakes for a file of tests, and settings that lead to them.

import { afterAll, beforeAll } from "bun:test";
import { type FakesProcess, settingsFor, startFakes } from "./service.ts";
import { type RedisServer, startRedis } from "./redis.ts";

export interface Stack {
  readonly redis: RedisServer;
  readonly fakes: FakesProcess;
  /** Settings of a queue of its own, on the shared Redis and fakes. */
  settings(over?: Record<string, string>): Record<string, string>;
}

/** To be called where `beforeAll` may be; its parts are there once the tests run. */
export function useStack(): Stack {
  let redis: RedisServer | undefined;
  let fakes: FakesProcess | undefined;
  let queues = 0;
  beforeAll(async () => {
    [redis, fakes] = await Promise.all([startRedis(), startFakes()]);
  });
  afterAll(async () => {
    await Promise.all([redis?.stop(), fakes?.stop()]);
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
      return settingsFor(redis!.url, fakes!, { REDIS_PREFIX: `queue-${queues}`, ...over });
    },
  };
}
