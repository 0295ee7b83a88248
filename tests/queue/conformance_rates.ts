// Rates: the fourth part of the conformance suite. The clock stands still except for `advance`, and a test leaves room for
// the time that it takes itself: rates are a request in many seconds.

import { describe, expect, test } from "bun:test";
import { learnRate } from "../../lib/policy/rate_limit.ts";
import type { RateChange } from "../../lib/queue/contract.ts";
import { hourMs, leaseMs, type QueueUnderTest, serving, type Tools } from "./conformance_tools.ts";

/** A permit each 100 s. */
const slow = { startPerSecond: 0.01 };
const everyMs = 100_000;
/** Longer than a test waits for a store, ms. */
const roughlyMs = 20_000;
const permit = { provider: "resend", credential: "c" };
const resend = { credential: "c" };

function learned(over: Partial<Extract<RateChange, { kind: "learned" }>>): RateChange & typeof resend {
  const change = { version: 0, factor: 1, step: 0, throttles: 0, minPerSecond: 0.001, maxPerSecond: 1000 };
  return { kind: "learned", ...change, pauseMs: 0, ...over, ...resend };
}

export function sharingRates({
  queue,
  testUndivided,
  submitMany,
  request,
  claim,
  claimed,
  ids,
  sent,
  due,
}: Tools): void {
  describe("shared rates:", () => {
    const take = (q: QueueUnderTest, over: object = {}) =>
      q.consumer.takePermit({ ...permit, ...slow, ...over });
    const rateOf = async (q: QueueUnderTest) => (await q.admin.stats()).providers["resend"]?.rate;
    /** Has a batch of one email settled, and the rate of its provider changed so. */
    async function change(q: QueueUnderTest, rate: RateChange & typeof resend) {
      await submitMany(q, 1);
      const batch = await claim(q);
      const fates = ids(batch).map((id) => sent(id));
      await q.consumer.settle(batch, { fates, counts: {}, rate });
      return batch;
    }

    test("a claim takes a permit if it finds something, and none otherwise", async () => {
      const q = await queue();
      expect(await claimed(q, slow)).toBe("empty");
      await submitMany(q, 2);
      const result = await q.consumer.claim(request({ ...slow, countMax: 1 }));
      expect(result).toMatchObject({ kind: "batch", rate: { perSecond: 0.01, version: 0, throttles: 0 } });
      const limited = await q.consumer.claim(request({ ...slow, countMax: 1 }));
      if (limited.kind !== "limited") throw new Error(limited.kind);
      expect(limited.rate.nextInMs).toBeWithin(everyMs - roughlyMs, everyMs);
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 1, sending: 1 });
      q.advance(limited.rate.nextInMs);
      expect(await claimed(q, { ...slow, countMax: 1 })).toBe("batch");
    });

    testUndivided("a claim that is repeated takes no second permit", async () => {
      const q = await queue();
      await submitMany(q, 1);
      const asked = request(slow);
      const first = await q.consumer.claim(asked);
      expect(first.kind).toBe("batch");
      expect(await q.consumer.claim(asked)).toMatchObject({ kind: "batch", rate: { version: 0 } });
      q.advance(everyMs);
      expect((await take(q)).isTaken).toBe(true);
    });

    test("a claim without a first rate needs no permit", async () => {
      const q = await queue();
      await submitMany(q, 2);
      expect(await claimed(q, { ...slow, countMax: 1 })).toBe("batch");
      expect(await claimed(q, { countMax: 1 })).toBe("batch");
    });

    test("a claim that is limited leaves no trace, and is repeated with its number", async () => {
      const q = await queue();
      await submitMany(q, 1);
      await take(q);
      const asked = request(slow);
      expect((await q.consumer.claim(asked)).kind).toBe("limited");
      q.advance(everyMs);
      expect((await q.consumer.claim(asked)).kind).toBe("batch");
    });

    test("permits outside of claims are of the same rate", async () => {
      const q = await queue();
      const first = await take(q);
      expect(first.isTaken).toBe(true);
      expect(first.rate.nextInMs).toBeGreaterThan(everyMs - roughlyMs);
      const second = await take(q);
      expect(second.isTaken).toBe(false);
      expect(second.rate.nextInMs).toBeWithin(1, first.rate.nextInMs + 1);
      await submitMany(q, 1);
      expect(await claimed(q, slow)).toBe("limited");
      q.advance(second.rate.nextInMs);
      expect((await take(q)).isTaken).toBe(true);
    });

    test("providers and credentials have rates of their own", async () => {
      const q = await queue();
      await take(q);
      expect((await take(q)).isTaken).toBe(false);
      expect((await take(q, { provider: "postmark" })).isTaken).toBe(true);
      expect((await take(q, { credential: "" })).isTaken).toBe(true);
      expect((await take(q, { credential: "other" })).isTaken).toBe(true);
    });

    test("a permit that a settlement returns can be taken again, once", async () => {
      const q = await queue();
      await submitMany(q, 1);
      const batch = await claim(q, slow);
      const settlement = { fates: ids(batch).map((id) => due(id)), counts: {} };
      const rate = { kind: "unused", ...resend } as const;
      await q.consumer.settle(batch, { ...settlement, rate });
      await q.consumer.settle(batch, { ...settlement, rate });
      expect((await take(q)).isTaken).toBe(true);
      expect((await take(q)).isTaken).toBe(false);
    });

    test("a settlement changes the rate, unless it has changed since", async () => {
      const q = await queue();
      await take(q, { startPerSecond: 2 });
      await change(q, learned({ factor: 1, step: 0.5 }));
      await change(q, learned({ factor: 1, step: 0.5 }));
      expect(await rateOf(q)).toEqual({ perSecond: 3 });
      await change(q, learned({ factor: 0.5, throttles: 1 }));
      await change(q, learned({ factor: 0.5, throttles: 1 }));
      expect(await rateOf(q)).toEqual({ perSecond: 1.5 });
      expect((await take(q)).rate).toMatchObject({ perSecond: 1.5, version: 1, throttles: 1 });
      await change(q, learned({ version: 1, step: 100, maxPerSecond: 9, limitPerSecond: 10 }));
      expect(await rateOf(q)).toEqual({ perSecond: 9, limitPerSecond: 10 });
      // Older than the limit: it only bounds.
      await change(q, learned({ version: 1, step: 1, maxPerSecond: 9, limitPerSecond: 10 }));
      await change(q, learned({ version: 0, step: -8, maxPerSecond: 18, limitPerSecond: 20 }));
      expect(await rateOf(q)).toEqual({ perSecond: 9, limitPerSecond: 20 });
      expect((await take(q)).rate).toMatchObject({ version: 3, throttles: 0 });
    });

    test("a pause holds for every worker, and only a longer one replaces it", async () => {
      const q = await queue();
      await take(q, { startPerSecond: 1000 });
      await change(q, learned({ pauseMs: 60_000 }));
      await change(q, learned({ pauseMs: 10 }));
      await submitMany(q, 1);
      expect(await claimed(q, slow)).toBe("limited");
      const { rate } = await take(q);
      expect(rate.nextInMs).toBeWithin(60_000 - roughlyMs, 60_001);
      const { nowMs, providers } = await q.admin.stats();
      expect(providers["resend"]?.rate?.pausedUntilMs).toBeWithin(nowMs + 60_000 - roughlyMs, nowMs + 60_001);
      q.advance(rate.nextInMs);
      expect(await claimed(q, slow)).toBe("batch");
      expect((await rateOf(q))?.pausedUntilMs).toBeUndefined();
    });

    test("a limit with many digits is new only once", async () => {
      const q = await queue();
      const versions: number[] = [];
      for (let answers = 0; answers < 3; answers += 1) {
        const { rate } = await take(q);
        versions.push(rate.version);
        const policy = { isThrottled: false, maxPerSecond: 50, random: 0 };
        await change(q, { ...learnRate(rate, { limitPerSecond: 100 / 7 }, policy), ...resend });
        q.advance(everyMs);
      }
      expect(versions).toEqual([0, 1, 1]);
    });

    test("no pause is longer than an hour", async () => {
      const q = await queue();
      await take(q, { startPerSecond: 1000 });
      await change(q, learned({ pauseMs: 1e15 }));
      expect((await take(q)).rate.nextInMs).toBeWithin(hourMs - roughlyMs, hourMs + 1);
    });

    test("what is learned under a lost lease counts too", async () => {
      const q = await queue();
      await take(q, { startPerSecond: 2 });
      await submitMany(q, 1);
      const batch = await claim(q);
      q.advance(leaseMs);
      await claim(q);
      const settled = await q.consumer.settle(batch, {
        fates: ids(batch).map((id) => sent(id)),
        counts: {},
        rate: learned({ factor: 0.5, throttles: 1 }),
      });
      expect(settled.leaseHeld).toBe(false);
      expect(await rateOf(q)).toEqual({ perSecond: 1 });
    });

    test("a step back of the clock holds up no permit", async () => {
      const q = await queue();
      await take(q, { startPerSecond: 1000 });
      await change(q, learned({ pauseMs: hourMs }));
      await take(q, { ...slow, credential: "other" });
      q.step(-24 * hourMs);
      // As after a permit that was taken just now.
      expect((await take(q)).rate.nextInMs).toBeWithin(0, 5);
      const { isTaken, rate } = await take(q, { credential: "other" });
      expect(isTaken).toBe(true);
      expect(rate.nextInMs).toBeWithin(1, everyMs + 1);
    });

    test("a rate that nobody has used for a day is forgotten", async () => {
      const q = await queue();
      await q.consumer.sweep(serving("resend"));
      await take(q, { startPerSecond: 1000 });
      await change(q, learned({ pauseMs: hourMs }));
      for (let hours = 0; hours < 23; hours += 1) {
        q.advance(hourMs);
        await q.consumer.sweep(serving("resend"));
      }
      expect(await rateOf(q)).toEqual({ perSecond: 1000 });
      q.advance(2 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await rateOf(q)).toBeUndefined();
    });

    test("a store takes one permit for two claims at the same time", async () => {
      const q = await queue();
      await submitMany(q, 20);
      const claims = Array.from({ length: 20 }, () => claimed(q, { ...slow, countMax: 1 }));
      const kinds = await Promise.all(claims);
      expect(kinds.filter((kind) => kind === "batch")).toHaveLength(1);
      expect(kinds.filter((kind) => kind === "limited")).toHaveLength(19);
    });
  });
}
