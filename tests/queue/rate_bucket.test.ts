// The token bucket that both stores keep for a rate, with the policy that learns its rate. A minute takes no time here.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { learnRate } from "../../lib/policy/rate_limit.ts";
import type { RateHint } from "../../lib/policy/request_outcome.ts";
import {
  changeRate,
  newBucket,
  type RateBucket,
  sharedRate,
  takePermit,
} from "../../lib/queue/rate_bucket.ts";

const fresh = newBucket(2);
const maxPerSecond = 50;

/** Learns from the answer to a request that took its permit when the bucket was `taken`. */
function learn(bucket: RateBucket, taken: RateBucket, hint: RateHint, nowMs: number, isThrottled = false) {
  const change = learnRate(sharedRate(taken, nowMs), hint, { isThrottled, maxPerSecond, random: 0 });
  return changeRate(bucket, change, nowMs);
}

const onAnswer = (bucket: RateBucket, hint: RateHint, nowMs: number) => learn(bucket, bucket, hint, nowMs);
const onThrottled = (bucket: RateBucket, hint: RateHint, nowMs: number) =>
  learn(bucket, bucket, hint, nowMs, true);
const nextAtMs = (bucket: RateBucket, nowMs: number) => nowMs + sharedRate(bucket, nowMs).nextInMs;

/** The times at which requests begin that ask for a permit every ms. */
function times(bucket: RateBucket, fromMs: number, untilMs: number): number[] {
  const begun: number[] = [];
  for (let nowMs = fromMs; nowMs < untilMs; nowMs += 1) {
    if (nextAtMs(bucket, nowMs) > nowMs) continue;
    bucket = takePermit(bucket, nowMs);
    begun.push(nowMs);
  }
  return begun;
}

const mostInASecond = (begun: readonly number[]) =>
  Math.max(0, ...begun.map((first) => begun.filter((one) => one >= first && one < first + 1_000).length));

describe("rate bucket: permits", () => {
  test("are spread", () => expect(times(fresh, 0, 2_001)).toEqual([0, 450, 950, 1_450, 1_950]));

  test("do not accumulate while nothing is sent", () => {
    expect(times(fresh, 60_000, 60_440)).toEqual([60_000]);
  });

  test("are available exactly at the time that is stated", () => {
    const rates = fc.double({ min: 0.2, max: 1000, noNaN: true });
    fc.assert(
      fc.property(rates, fc.nat({ max: 10_000 }), (perSecond, nowMs) => {
        let bucket = newBucket(perSecond);
        for (let count = 0; count < 60; count += 1) {
          const atMs = nextAtMs(bucket, nowMs);
          expect(nextAtMs(bucket, Math.max(nowMs, atMs - 1))).toBe(atMs);
          nowMs = atMs;
          bucket = takePermit(bucket, nowMs);
        }
      }),
    );
  });

  test("stay within a limit over any second, and use nine tenths of it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.nat({ max: 5_000 }), (limitPerSecond, pauseMs) => {
        const begun = times(onAnswer(fresh, { limitPerSecond }, 0), pauseMs, pauseMs + 3_000);
        expect(mostInASecond(begun)).toBeLessThanOrEqual(limitPerSecond);
        expect(begun.length).toBeGreaterThanOrEqual(Math.floor(limitPerSecond * 0.9 * 3));
      }),
      { numRuns: 30 },
    );
  });

  test("that are asked for late are not fewer", () => {
    const bucket = onAnswer(fresh, { limitPerSecond: 10 }, 0);
    let [late, nowMs, count] = [bucket, 1_000, 0];
    for (; nowMs < 11_000; nowMs = nextAtMs(late, nowMs) + 40) {
      late = takePermit(late, nowMs);
      count += 1;
    }
    expect(count).toBe(times(bucket, 1_000, 11_000).length);
  });

  test("return if they are not used, and open no gate", () => {
    const taken = takePermit(fresh, 1_000);
    expect(times(changeRate(taken, { kind: "unused" }, 1_000), 1_000, 1_440)).toEqual([1_000]);
    const unused = Array.from({ length: 100 }).reduce<RateBucket>(
      (bucket) => changeRate(bucket, { kind: "unused" }, 1_000),
      taken,
    );
    expect(times(unused, 1_000, 1_440)).toEqual([1_000]);
  });
});

describe("rate bucket: a rate", () => {
  test("is that of a limit as soon as the provider states one", () => {
    const rate = onAnswer(fresh, { limitPerSecond: 10 }, 50);
    expect(rate.perSecond).toBe(9);
    expect(onAnswer(rate, { limitPerSecond: 5 }, 90).perSecond).toBe(4.5);
    expect(onAnswer(rate, {}, 90)).toMatchObject({ perSecond: 9, limitPerSecond: 10 });
  });

  test("does not fall back if an answer without a limit comes after the first limit", () => {
    const limited = onAnswer(fresh, { limitPerSecond: 100 }, 10);
    expect(learn(limited, fresh, {}, 20)).toMatchObject({ perSecond: 90, limitPerSecond: 100 });
  });

  test("never exceeds a lower limit, however old the answer", () => {
    const full = onAnswer(fresh, { limitPerSecond: 100 }, 10);
    const throttled = onThrottled(full, {}, 20);
    expect(learn(throttled, full, { limitPerSecond: 10 }, 30).perSecond).toBe(9);
  });

  test("grows with every answer while no limit is stated, also with concurrent ones, up to the maximum", () => {
    expect(onAnswer(fresh, {}, 0).perSecond).toBe(2.5);
    expect(learn(onAnswer(fresh, {}, 0), fresh, {}, 0).perSecond).toBe(3);
    let rate = fresh;
    for (let count = 0; count < 200; count += 1) rate = onAnswer(rate, {}, count);
    expect(rate.perSecond).toBe(maxPerSecond);
  });

  test("is halved by throttling, down to a request every five seconds, and pauses longer each time", () => {
    let rate = onAnswer(fresh, { limitPerSecond: 10 }, 0);
    const rates: number[] = [];
    const pauses: number[] = [];
    for (let nowMs = 1; rates.length < 8; nowMs = nextAtMs(rate, nowMs)) {
      rate = onThrottled(rate, {}, nowMs);
      rates.push(rate.perSecond);
      pauses.push(sharedRate(rate, nowMs).nextInMs);
    }
    expect(rates).toEqual([4.5, 2.25, 1.125, 0.5625, 0.28125, 0.2, 0.2, 0.2]);
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  test("is halved once by requests that are throttled together, but the longest pause holds", () => {
    const full = onAnswer(fresh, { limitPerSecond: 10 }, 0);
    const once = onThrottled(full, {}, 50);
    const again = learn(once, full, { retryAfterMs: 7_000 }, 60, true);
    expect(again).toMatchObject({
      perSecond: 4.5,
      version: once.version,
      throttles: 1,
      blockedUntilMs: 7_060,
    });
    expect(learn(again, full, {}, 70, true).blockedUntilMs).toBe(7_060);
  });

  test("recovers after 50 answers, and only through requests that began after the throttling", () => {
    const full = onAnswer(fresh, { limitPerSecond: 10 }, 0);
    const throttled = onThrottled(full, { limitPerSecond: 10 }, 50);
    expect(learn(throttled, full, { limitPerSecond: 10 }, 60)).toEqual(throttled);
    let rate = throttled;
    for (let count = 0; count < 49; count += 1) rate = onAnswer(rate, { limitPerSecond: 10 }, 1_000);
    expect(rate.perSecond).toBeLessThan(8.99);
    const recovered = onAnswer(rate, { limitPerSecond: 10 }, 1_000);
    expect(recovered.perSecond).toBeCloseTo(9);
    expect(recovered.throttles).toBe(0);
  });

  test("is not changed by a change that was learned before, but repeated", () => {
    const throttle = { isThrottled: true, maxPerSecond, random: 0 };
    const change = learnRate(sharedRate(fresh, 0), {}, throttle);
    const once = changeRate(fresh, change, 10);
    expect(changeRate(once, change, 10)).toEqual(once);
  });
});

describe("rate bucket: a clock", () => {
  test("that has stepped back holds nothing up", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2_001, max: 1e12 }), fc.boolean(), (byMs, isThrottled) => {
        const nowMs = 2e12;
        const taken = takePermit(newBucket(0.2), nowMs);
        const bucket = isThrottled ? onThrottled(taken, { retryAfterMs: 3e6 }, nowMs) : taken;
        expect(sharedRate(bucket, nowMs - byMs).nextInMs).toBeLessThanOrEqual(5_050);
      }),
    );
  });

  test("that has stepped back far makes the next permit available, however long nobody took one", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 7_051, max: 1e12 }),
        fc.integer({ min: 0, max: 1000 }),
        (byMs, laterMs) => {
          const taken = takePermit(newBucket(0.2), 2e12);
          const nowMs = 2e12 - byMs - laterMs;
          expect(sharedRate(taken, nowMs).nextInMs).toBe(0);
          expect(sharedRate(takePermit(taken, nowMs), nowMs).nextInMs).toBe(4_950);
        },
      ),
    );
  });

  test("that has stepped back a little does not end a pause", () => {
    const bucket = onThrottled(fresh, { retryAfterMs: 60_000 }, 1_000_000);
    expect(sharedRate(bucket, 999_000).nextInMs).toBe(61_000);
  });

  test("that was ahead does not bring a pause back", () => {
    const ahead = onThrottled(fresh, { retryAfterMs: 3_600_000 }, 2_000_000);
    const taken = takePermit(ahead, 1_000_000);
    expect(sharedRate(taken, 2_000_001).nextInMs).toBe(0);
  });
});
