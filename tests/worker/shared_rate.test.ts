// Twenty workers on one queue share the rate of a provider. Times are those of the store and of the fake, and only
// compared with each other.

import { describe, expect } from "bun:test";
import { answerInstead } from "../../fakes/faults.ts";
import { eventually } from "../support/eventually.ts";
import type { InProcess, WorkerOptions } from "../support/in_process.ts";
import { sharedRedis, times, worldTests } from "../support/worlds.ts";

const limit = 20;
const workers = 20;
const onlyResend = { weights: { resend: 1 }, rates: { resend: limit }, batchMax: 5 };

/** Starts the workers. Returns the times at which claims got a batch, by the store's clock. */
async function startWorkers(world: InProcess, options: WorkerOptions): Promise<number[]> {
  const claimedAtMs: number[] = [];
  for (let started = 0; started < workers; started += 1) {
    const { consumer } = await world.startWorker(options);
    const claim = consumer.claim.bind(consumer);
    consumer.claim = async (request) => {
      const result = await claim(request);
      if (result.kind === "batch") claimedAtMs.push(result.batch.nowMs);
      return result;
    };
  }
  return claimedAtMs;
}

/** The most of these times in any window of so many ms. */
function mostWithin(atMs: readonly number[], windowMs: number): number {
  return Math.max(...atMs.map((from) => atMs.filter((at) => at >= from && at < from + windowMs).length));
}

const redis = sharedRedis();
for (const [store, urlOf, partitions] of [
  ["Redis", redis, 1],
  ["four partitions of Redis", redis, 4],
  ["the embedded queue", () => undefined, 1],
] as const) {
  describe(`twenty workers on ${store}:`, () => {
    // With partitions a claim follows its permit in a request of its own, which a busy machine may delay.
    const late = partitions > 1 ? limit / 5 : 0;
    const inWorld: ReturnType<typeof worldTests> = (name, options, body) =>
      worldTests("shared rate", urlOf)(name, { ...options, partitions }, body);

    inWorld(
      "stay within the limit that the provider names",
      { resend: { rateLimit: limit } },
      async (world) => {
        const claimedAtMs = await startWorkers(world, { ...onlyResend, rates: { resend: 2 } });
        await times(300, () => world.submit());
        await world.drained();
        expect(world.acceptances()).toHaveLength(300);
        expect(mostWithin(claimedAtMs, 1000)).toBeLessThanOrEqual(limit + late);
        const requestedAtMs = world.resend.requests.map(({ atMs }) => atMs);
        expect(mostWithin(requestedAtMs, 3000)).toBeLessThanOrEqual(3 * limit * 1.1);
        const { rate } = (await world.stats()).providers["resend"]!;
        expect(rate).toMatchObject({ limitPerSecond: limit });
        expect(rate!.perSecond).toBeLessThanOrEqual(0.9 * limit);
      },
    );

    inWorld("all pause when the provider asks one of them to", {}, async (world) => {
      const claimedAtMs = await startWorkers(world, onlyResend);
      await times(100, () => world.submit());
      await eventually("they work", () => world.resend.requests.length > 3);
      const body = { statusCode: 429, name: "rate_limit_exceeded", message: "Too many requests" };
      world.resend.faults.next(answerInstead(429, body, { "retry-after": "3" }));
      const pausedUntilMs = await eventually("they pause", async () => {
        return (await world.stats()).providers["resend"]?.rate?.pausedUntilMs;
      });
      await world.drained();
      expect(world.acceptances()).toHaveLength(100);
      const during = claimedAtMs.filter((at) => at > pausedUntilMs - 3000 && at < pausedUntilMs);
      expect(during.length).toBeLessThanOrEqual(late);
      expect(claimedAtMs.some((at) => at >= pausedUntilMs)).toBe(true);
    });

    inWorld("take no permits while they are idle", {}, async (world) => {
      // One permit in a quarter of an hour.
      const options = { weights: { resend: 1 }, rates: { resend: 0.001 } };
      const started = await times(workers, () => world.startWorker(options));
      await eventually("all are idle", () => started.every((one) => one.isIdle()));
      const id = await world.submit();
      await eventually("it is accepted", () => world.acceptances().some(({ emailId }) => emailId === id));
    });

    inWorld("keep the weights", {}, async (world) => {
      const batchMax = 2;
      await startWorkers(world, {
        weights: { resend: 3, postmark: 1 },
        rates: { resend: 100, postmark: 100 },
        batchMax,
      });
      const rounds = 25;
      for (let round = 1; round <= rounds; round += 1) {
        await times(40, () => world.submit());
        await eventually("they are accepted", () => world.acceptances().length === 40 * round);
      }
      const total = 40 * rounds;
      // Two percentage points, and a batch for each worker.
      const slack = 0.02 * total + workers * batchMax;
      expect(Math.abs(world.resend.acceptances.length - 0.75 * total)).toBeLessThanOrEqual(slack);
    });
  });
}
