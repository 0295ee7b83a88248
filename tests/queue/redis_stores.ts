// Queues on Redis for the tests of one file, one partition each, which are closed after them.

import { afterAll } from "bun:test";
import type { Admin, Consumer, Producer } from "../../lib/queue/contract.ts";
import { openRedisAdmin } from "../../lib/queue/redis/admin.ts";
import { RedisConsumer, type RedisConsumerOptions } from "../../lib/queue/redis/consumer.ts";
import { RedisProducer, type RedisProducerOptions } from "../../lib/queue/redis/producer.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";

export type RedisOptions = RedisProducerOptions & RedisConsumerOptions;

/** @param name with which the prefixes of the queues begin */
export function useRedisStores(name: string) {
  const closing: (() => Promise<unknown>)[] = [];
  afterAll(async () => {
    for (const close of closing) await close();
  });
  let prefixes = 0;

  function optionsFor(url: string, over: Partial<RedisOptions> = {}): RedisOptions {
    prefixes += 1;
    return {
      url,
      prefix: `${name}-${prefixes}`,
      minReplicas: 0,
      durability: "verify",
      retainMs: 3_600_000,
      log: silent,
      onFatal: () => {},
      ...over,
    };
  }

  async function verified<Opened extends Producer | Consumer>(opened: Opened): Promise<Opened> {
    closing.push(() => opened.close());
    await eventually("the store is verified", () => opened.health().ok);
    return opened;
  }

  async function adminOn(options: RedisOptions): Promise<Admin> {
    const admin = await openRedisAdmin(options);
    closing.push(() => admin.close());
    return admin;
  }

  return {
    closing,
    optionsFor,
    producerOn: (options: RedisOptions) => verified(new RedisProducer(options)),
    consumerOn: (options: RedisOptions) => verified(new RedisConsumer(options)),
    adminOn,
  };
}
