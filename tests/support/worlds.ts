// Tests that each get their own queue, fakes and workers, closed whatever happens, on a Redis that the tests of a file
// share.

import { afterAll, beforeAll, test } from "bun:test";
import { type InProcess, type InProcessOptions, openInProcess } from "./in_process.ts";
import { type RedisServer, startRedis } from "./redis.ts";

/** Runs a Redis during the tests of this file. The returned function gives its URL, once the tests run. */
export function sharedRedis(): () => string {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());
  return () => redis.url;
}

/**
 * Returns a function that declares such a test.
 * @param subject prefix of the tests' names
 * @param urlOf   URL of a Redis, once the tests run; undefined for an embedded queue
 */
export function worldTests(subject: string, urlOf: () => string | undefined) {
  return (
    name: string,
    options: Omit<InProcessOptions, "url">,
    body: (world: InProcess) => Promise<void>,
  ): void => {
    test(`${subject}: ${name}`, async () => {
      const world = await openInProcess({ url: urlOf(), ...options });
      try {
        await body(world);
      } finally {
        await world.close();
      }
    });
  };
}

/** Makes this many concurrently. */
export function times<T>(count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => make(index)));
}
