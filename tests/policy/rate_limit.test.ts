import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  learnRate,
  newRate,
  nextPermitAtMs,
  type Rate,
  returnPermit,
  takePermit,
} from "../../lib/policy/rate_limit.ts";
import type { RateHint } from "../../lib/policy/request_outcome.ts";

const fresh = newRate({ startPerSecond: 2, maxPerSecond: 50, nowMs: 0 });

function onAnswer(rate: Rate, hint: RateHint, takenAtMs: number, nowMs: number): Rate {
  return learnRate(rate, hint, { isThrottled: false, takenAtMs, nowMs, random: 0 });
}

function onThrottled(rate: Rate, hint: RateHint, takenAtMs: number, nowMs: number, random: number): Rate {
  return learnRate(rate, hint, { isThrottled: true, takenAtMs, nowMs, random });
}

function taken(rate: Rate, nowMs: number): Rate {
  const next = takePermit(rate, nowMs);
  if (next === undefined) throw new Error(`no permit at ${nowMs}`);
  return next;
}

/** The times at which requests begin that ask for a permit every ms. */
function times(rate: Rate, fromMs: number, untilMs: number): number[] {
  const begun: number[] = [];
  for (let nowMs = fromMs; nowMs < untilMs; nowMs += 1) {
    const next = takePermit(rate, nowMs);
    if (next === undefined) continue;
    rate = next;
    begun.push(nowMs);
  }
  return begun;
}

const mostInASecond = (begun: readonly number[]) =>
  Math.max(0, ...begun.map((first) => begun.filter((one) => one >= first && one < first + 1_000).length));

describe("rate", () => {
  test("requests are spread", () => expect(times(fresh, 0, 2_001)).toEqual([0, 500, 1_000, 1_500, 2_000]));

  test("permits do not accumulate while nothing is sent", () => {
    expect(times(fresh, 60_000, 60_400)).toEqual([60_000]);
  });

  test("the next permit is available exactly at the time that is stated", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.2, max: 500, noNaN: true }),
        fc.nat({ max: 10_000 }),
        (startPerSecond, nowMs) => {
          let rate = newRate({ startPerSecond, maxPerSecond: 500, nowMs });
          for (let count = 0; count < 60; count += 1) {
            const atMs = nextPermitAtMs(rate, nowMs);
            if (atMs > nowMs) expect(takePermit(rate, nowMs)).toBeUndefined();
            nowMs = atMs;
            rate = taken(rate, nowMs);
          }
        },
      ),
    );
  });

  test("a permit that was not needed is returned", () => {
    expect(takePermit(returnPermit(taken(fresh, 0)), 0)).toBeDefined();
    expect(returnPermit(fresh).tokens).toBe(1);
  });

  test("a limit that the provider states is adopted immediately", () => {
    const rate = onAnswer(taken(fresh, 0), { limitPerSecond: 10 }, 0, 50);
    expect(rate.ratePerSecond).toBe(9);
    expect(onAnswer(rate, { limitPerSecond: 5 }, 60, 90).ratePerSecond).toBe(4.5);
  });

  test("a nonsensical limit is ignored", () => {
    for (const limitPerSecond of [0, -1, NaN]) {
      expect(onAnswer(fresh, { limitPerSecond }, 0, 1).limitPerSecond).toBeUndefined();
    }
  });

  test("a stated limit holds over any second, whatever the limit and the pauses", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.nat({ max: 5_000 }), (limitPerSecond, pauseMs) => {
        const rate = onAnswer(fresh, { limitPerSecond }, 0, 0);
        const begun = times(rate, pauseMs, pauseMs + 3_000);
        expect(mostInASecond(begun)).toBeLessThanOrEqual(limitPerSecond);
        expect(begun.length).toBeGreaterThanOrEqual(Math.floor(limitPerSecond * 0.9 * 3) - 1);
      }),
      { numRuns: 30 },
    );
  });

  test("without a stated limit the rate grows with every answer, up to the maximum", () => {
    let rate = fresh;
    let nowMs = 0;
    const seen: number[] = [];
    for (let count = 0; count < 200; count += 1) {
      nowMs = nextPermitAtMs(rate, nowMs);
      rate = onAnswer(taken(rate, nowMs), {}, nowMs, nowMs + 1);
      seen.push(rate.ratePerSecond);
    }
    expect(seen[0]).toBeCloseTo(2.5);
    expect(seen.every((one, index) => index === 0 || one >= (seen[index - 1] ?? 0))).toBe(true);
    expect(rate.ratePerSecond).toBe(50);
  });

  test("an exhausted window is waited for", () => {
    const rate = onAnswer(fresh, { limitPerSecond: 10, remaining: 0, resetMs: 700 }, 0, 100);
    expect(nextPermitAtMs(rate, 200)).toBe(800);
    expect(nextPermitAtMs(onAnswer(fresh, { remaining: 1, resetMs: 700 }, 0, 100), 200)).toBe(200);
  });

  test("throttling halves the rate and pauses, longer each time", () => {
    let rate = onAnswer(fresh, { limitPerSecond: 10 }, 0, 0);
    const rates: number[] = [];
    const pauses: number[] = [];
    for (let nowMs = 1; rates.length < 8; nowMs = nextPermitAtMs(rate, nowMs)) {
      rate = onThrottled(rate, {}, nowMs, nowMs, 0);
      rates.push(rate.ratePerSecond);
      pauses.push(rate.blockedUntilMs - nowMs);
    }
    expect(rates).toEqual([4.5, 2.25, 1.125, 0.5625, 0.28125, 0.2, 0.2, 0.2]);
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  test("a provider that states a time gets no request for so long, at most an hour", () => {
    expect(onThrottled(fresh, { retryAfterMs: 7_000 }, 1, 1, 0).blockedUntilMs).toBe(7_001);
    expect(onThrottled(fresh, { retryAfterMs: 1e12 }, 1, 1, 0).blockedUntilMs).toBe(3_600_001);
  });

  test("a stated time shorter than the usual pause does not shorten it", () => {
    const usual = onThrottled(fresh, {}, 1, 1, 0.5).blockedUntilMs;
    for (const retryAfterMs of [0, 1, 500])
      expect(onThrottled(fresh, { retryAfterMs }, 1, 1, 0.5).blockedUntilMs).toBe(usual);
  });

  test("concurrent requests that are throttled together count once", () => {
    const once = onThrottled(fresh, {}, 10, 50, 0);
    const again = onThrottled(once, {}, 20, 60, 0);
    expect(again.ratePerSecond).toBe(once.ratePerSecond);
    expect(again.blockedUntilMs).toBe(once.blockedUntilMs);
  });

  test("after throttling the rate recovers gradually, and only through requests that began later", () => {
    const rate = onThrottled(
      onAnswer(fresh, { limitPerSecond: 10 }, 0, 0),
      { limitPerSecond: 10 },
      10,
      50,
      0,
    );
    expect(onAnswer(rate, { limitPerSecond: 10 }, 20, 60).ratePerSecond).toBe(4.5);
    expect(onAnswer(rate, { limitPerSecond: 10 }, 20, 60).throttles).toBe(1);
    expect(onAnswer(rate, { limitPerSecond: 10 }, 600, 700).ratePerSecond).toBeCloseTo(4.59);
    expect(onAnswer(rate, { limitPerSecond: 10 }, 600, 700).throttles).toBe(0);
  });

  test("a halved rate has recovered after 50 answers", () => {
    const full = onAnswer(fresh, { limitPerSecond: 10 }, 0, 0);
    let rate = onThrottled(full, {}, 10, 50, 0);
    const rates = Array.from({ length: 50 }, (_, index) => {
      rate = onAnswer(rate, { limitPerSecond: 10 }, 1_000 + index, 1_000 + index);
      return rate.ratePerSecond;
    });
    expect(rates[48]).toBeLessThan(8.99);
    expect(rates[49]).toBeCloseTo(full.ratePerSecond);
  });
});
