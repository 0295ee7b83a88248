// REDIS_MIN_REPLICAS keeps emails through the failover of a primary with two replicas, under load.

import { afterEach, describe, expect, test } from "bun:test";
import { Redis } from "ioredis";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { eventually } from "../support/eventually.ts";
import type { RedisServer } from "../support/redis.ts";
import { queueKey, queueOptions } from "../support/redis_queue.ts";
import {
  primaryEnds,
  replicatedKinds,
  type ReplicatedStore,
  startReplicatedStore,
} from "../support/replicated_store.ts";
import { submission } from "./conformance_tools.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function start(kind: (typeof replicatedKinds)[number]): Promise<ReplicatedStore> {
  const store = await startReplicatedStore(kind, queueKey);
  closing.push(store.stop);
  return store;
}

const endNames = Object.keys(primaryEnds) as (keyof typeof primaryEnds)[];

const loops = 8;
/** Before the next submission of a loop: as fast as possible would take the CPU time that a failover needs. */
const pauseMs = 10;
/** How many acknowledgements show that the store accepts emails. */
const some = 100;

/** Submits all the time. */
async function startLoad(url: string, minReplicas: number) {
  const producer = new RedisProducer(queueOptions(url, minReplicas));
  await eventually("the store is ready", () => producer.health().ok);
  const acknowledged: string[] = [];
  let isOver = false;
  const submitting = Array.from({ length: loops }, async () => {
    while (!isOver) {
      const answer = await producer.submit(submission(), performance.now() + 10_000);
      if (answer.kind === "stored") acknowledged.push(answer.id);
      await Bun.sleep(pauseMs);
    }
  });
  const stop = async () => {
    isOver = true;
    await Promise.all(submitting);
  };
  closing.push(async () => {
    isOver = true;
    await producer.close();
  });
  return {
    acknowledged,
    stop,
    more: (count = some) => {
      const end = acknowledged.length + count;
      return eventually("more emails are acknowledged", () => acknowledged.length >= end);
    },
  };
}

/** The acknowledged emails that a node does not have. */
function missing(node: RedisServer, acknowledged: readonly string[]): string[] {
  const present = new Set(node.cli("HKEYS", `${queueKey}:emails`).split("\n"));
  return acknowledged.filter((id) => !present.has(id));
}

/** Lets the primary end and another take over while emails are submitted. */
async function failOver(store: ReplicatedStore, end: keyof typeof primaryEnds, minReplicas: number) {
  const load = await startLoad(store.url, minReplicas);
  await load.more();
  const old = store.primary();
  const bringBack = primaryEnds[end](store, old);
  await store.replaced(old);
  return { ...load, bringBack };
}

describe.each(replicatedKinds)("REDIS_MIN_REPLICAS with %s", (kind) => {
  test.each(endNames)(
    "2 of 2 replicas: nothing is lost when the primary is %s, and it accepts again when that is back",
    async (how) => {
      const store = await start(kind);
      const load = await failOver(store, how, 2);
      await load.bringBack();
      await store.settled();
      await load.more();
      await load.stop();
      expect(missing(store.primary(), load.acknowledged)).toEqual([]);
    },
  );

  test.each(endNames)(
    "1 of 2 replicas: nothing is lost when the primary is %s, and it accepts before that is back",
    async (how) => {
      const store = await start(kind);
      const load = await failOver(store, how, 1);
      await load.more();
      await load.bringBack();
      await store.settled();
      await load.more();
      await load.stop();
      expect(missing(store.primary(), load.acknowledged)).toEqual([]);
    },
  );

  test("0: what a primary accepts while it is cut off is lost", async () => {
    const store = await start(kind);
    const load = await failOver(store, "cut off", 0);
    await load.more();
    load.bringBack();
    await store.settled();
    await load.stop();
    expect(missing(store.primary(), load.acknowledged)).not.toEqual([]);
  });
});

test("WAIT 1 of 2: what a primary that was frozen with a replica accepts before it learns of its successor is lost", async () => {
  const store = await start("Sentinel");
  const old = store.primary();
  const [, frozen] = store.replicas();
  const client = new Redis(old.port, { maxRetriesPerRequest: 0 });
  client.on("error", () => {});
  closing.push(() => client.disconnect());
  const key = `${queueKey}:frozen`;
  await client.pipeline().set(key, "before").wait(2, 30_000).exec();
  for (const node of [old, frozen!]) node.kill("SIGSTOP");
  await store.replaced(old);
  const answer = client.pipeline().set(key, "after").wait(1, 30_000).exec();
  for (const node of [frozen!, old]) node.kill("SIGCONT");
  expect(await answer).toEqual([
    [null, "OK"],
    [null, 1],
  ]);
  await store.settled();
  expect(store.primary().cli("GET", key)).toBe("before");
});
