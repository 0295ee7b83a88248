// A worker on a queue of several partitions, of which one is lost.

import { afterAll, beforeAll, expect } from "bun:test";
import { faults } from "../../fakes/faults.ts";
import { createId, partitionOf } from "../../lib/queue/redis/partition.ts";
import { eventually } from "../support/eventually.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { times, worldTests } from "../support/worlds.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const inWorld = worldTests("partitions", () => redis.url);
const partitions = 4;

/** While its format is hidden, a partition refuses everything. @returns a function that shows it again */
function hide(partition: number): () => void {
  // Those of the other tests here are not used any more, or not yet.
  const formats = redis.cli("KEYS", `{*:${partition}}:format`).split("\n");
  for (const format of formats) redis.cli("RENAME", format, `hidden ${format}`);
  return () => {
    for (const format of formats) redis.cli("RENAME", `hidden ${format}`, format);
  };
}

inWorld(
  "doubt goes on ending in the others when one is lost before a settlement",
  { partitions },
  async (world) => {
    world.resend.faults.add({ fault: faults.hangBeforeAccepting });
    const ids = await Promise.all([0, 1].map((number) => world.submit({}, createId(number, partitions))));
    const gone = await world.startWorker({ weights: { resend: 1 }, providerTimeoutMs: 200, doubtMs: 3000 });
    // While one is in doubt, the other may be in a request again.
    await eventually("both are in doubt", async () => {
      return ((await world.stats()).counters["unknown:resend"] ?? 0) >= 2;
    });
    await gone.stop();
    const { consumer } = await world.startWorker({ weights: { postmark: 1 } });
    const claimEnded = consumer.claimEnded.bind(consumer);
    let lost = "";
    let restore = () => {};
    consumer.claimEnded = async (request) => {
      const result = await claimEnded(request);
      if (result.kind === "batch" && lost === "") {
        lost = result.batch.emails[0]!.id;
        restore = hide(partitionOf(lost, partitions));
      }
      return result;
    };
    try {
      await eventually("the other is sent again", () =>
        world.postmark.acceptances.some(({ emailId }) => emailId !== lost),
      );
    } finally {
      restore();
    }
    await world.drained();
    expect(world.postmark.acceptances.map(({ emailId }) => emailId).toSorted()).toEqual(ids.toSorted());
    expect((await world.stats()).counters).toMatchObject({ possible_duplicates: 2 });
  },
);

inWorld(
  "batches of a backlog are delivered under their leases when the answers to their claims come late",
  { partitions },
  async (world) => {
    const ids = await times(800, () => world.submit({}, createId(1, partitions)));
    const proxy = await world.openProxy();
    // The answers behind it on the same connection are held too.
    proxy.onlyWith = ids[350]!;
    proxy.replies = "hold";
    const { isIdle } = await world.startWorker({
      url: proxy.url,
      weights: { resend: 1 },
      leaseMs: 3_600_000,
    });
    await eventually("several answers are held", () => proxy.heldReplies > 0 && isIdle());
    proxy.replies = "pass";
    proxy.release();
    await world.drained();
    expect(world.duplicates().size).toBe(0);
  },
);

inWorld(
  "a batch in doubt is split once emails of another one are accepted",
  { partitions },
  async (world) => {
    const isOfFirst = (id: unknown) => partitionOf(String(id), partitions) === 0;
    world.resend.faults.add({
      fault: faults.serverError,
      when: ({ headers }) => isOfFirst(headers["idempotency-key"]),
    });
    for (const _ of [1, 2]) await world.submit({}, createId(0, partitions));
    await world.startWorker({ weights: { resend: 1 }, doubtSplitAfterMs: 0 });
    await eventually("both are in doubt", async () => (await world.stats()).states["in-doubt"] === 2);
    await eventually("it is split", async () => {
      await world.submit({}, createId(1, partitions));
      return (await world.stats()).counters["doubts_split:resend"] !== undefined;
    });
    world.resend.faults.clear();
    await world.drained();
    expect(world.duplicates().size).toBe(0);
  },
);
