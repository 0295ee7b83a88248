import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  adopted,
  heard,
  learnRate,
  newRate,
  nextPermitAtMs,
  outpaced,
  paused,
  permitsAtOnce,
} from "../../lib/policy/rate_limit.ts";
import type { RateHint } from "../../lib/policy/request_outcome.ts";

const start = { perSecond: 2, version: 3, throttles: 0 };
const limited = { ...start, perSecond: 9, limitPerSecond: 10 };

const onAnswer = (taken: typeof start, hint: RateHint) =>
  learnRate(taken, hint, { isThrottled: false, maxPerSecond: 50, random: 0 });
const onThrottled = (taken: typeof start, hint: RateHint, random = 0) =>
  learnRate(taken, hint, { isThrottled: true, maxPerSecond: 50, random });

describe("rate: learning", () => {
  test("a limit that the provider states is adopted immediately, a tenth of it left out", () => {
    expect(onAnswer(start, { limitPerSecond: 10 })).toMatchObject({
      version: 3,
      factor: 0,
      step: 9,
      maxPerSecond: 9,
      limitPerSecond: 10,
    });
  });

  test("an answer adds a hundredth of the highest rate", () => {
    expect(onAnswer(start, {})).toMatchObject({ factor: 1, step: 0.5, maxPerSecond: 50 });
    expect(onAnswer(limited, { limitPerSecond: 10 })).toMatchObject({ factor: 1, step: 0.09 });
    expect(onAnswer(limited, {})).toMatchObject({ factor: 1, step: 0.09, maxPerSecond: 9 });
  });

  test("an exhausted window is waited for, at most a minute", () => {
    expect(onAnswer(start, { remaining: 0, resetMs: 700 }).pauseMs).toBe(700);
    expect(onAnswer(start, { remaining: 1, resetMs: 700 }).pauseMs).toBe(0);
    expect(onAnswer(start, { remaining: 0, resetMs: 1e12 }).pauseMs).toBe(60_000);
  });

  test("a window that the workers' own rate has used up ends after a second, in whatever units the provider counts", () => {
    const left = (perSecond: number, limitPerSecond: number) =>
      onAnswer({ ...start, perSecond }, { limitPerSecond, remaining: 0, resetMs: 1000 }).pauseMs;
    expect(left(9, 10)).toBeCloseTo(100);
    expect(left(1.8, 2)).toBeCloseTo(1000 - 1000 / 1.8 + 100);
    expect(left(0.9, 1)).toBe(1000);
    // Others use the same account.
    expect(left(4.5, 10)).toBe(1000);
  });

  test("throttling halves the rate, and pauses for half to all of a time that doubles", () => {
    expect(onThrottled(start, {})).toMatchObject({ factor: 0.5, step: 0, throttles: 1, pauseMs: 500 });
    expect(onThrottled({ ...start, throttles: 3 }, {}, 0.5)).toMatchObject({ throttles: 4, pauseMs: 6_000 });
    expect(onThrottled({ ...start, throttles: 99 }, {}, 0.5).pauseMs).toBe(45_000);
  });

  test("a provider that states a time gets no request for so long, at most an hour", () => {
    expect(onThrottled(start, { retryAfterMs: 7_000 }).pauseMs).toBe(7_000);
    expect(onThrottled(start, { retryAfterMs: 1e12 }).pauseMs).toBe(3_600_000);
    expect(onThrottled(start, { retryAfterMs: Infinity }).pauseMs).toBe(3_600_000);
  });

  test("a stated time shorter than the usual pause does not shorten it", () => {
    for (const retryAfterMs of [0, 1, 500])
      expect(onThrottled(start, { retryAfterMs }, 0.5).pauseMs).toBe(onThrottled(start, {}, 0.5).pauseMs);
  });

  test("a nonsensical limit is ignored", () => {
    for (const limitPerSecond of [0, -1, NaN])
      expect(onAnswer(start, { limitPerSecond }).limitPerSecond).toBeUndefined();
  });

  test("whatever a header says, the rate stays between 0.18 and 1000 a second, and the pause within an hour", () => {
    const number = fc.option(fc.double(), { nil: undefined });
    const hints = fc.record({
      limitPerSecond: number,
      remaining: number,
      resetMs: number,
      retryAfterMs: number,
    });
    fc.assert(
      fc.property(hints, fc.boolean(), (hint, isThrottled) => {
        const defined = Object.entries(hint).filter(([, value]) => value !== undefined);
        const change = (isThrottled ? onThrottled : onAnswer)(start, Object.fromEntries(defined));
        expect(change.minPerSecond).toBeWithin(0.18, 0.2001);
        expect(change.maxPerSecond).toBeWithin(0.18, 1000.1);
        expect(change.minPerSecond).toBeLessThanOrEqual(change.maxPerSecond);
        expect(change.pauseMs).toBeWithin(0, 3_600_001);
        expect(Number.isFinite(change.step)).toBe(true);
      }),
    );
  });
});

describe("rate: a worker's knowledge", () => {
  const answer = { ...start, nextInMs: 300 };

  test("permits may be asked for until the queue says otherwise", () => {
    expect(nextPermitAtMs(newRate(2), 1_000)).toBe(1_000);
    const known = heard(newRate(2), answer, 1_000);
    expect(nextPermitAtMs(known, 1_100)).toBe(1_300);
    expect(nextPermitAtMs(known, 1_400)).toBe(1_400);
    expect(heard(known, { ...answer, perSecond: 9 }, 1_000).perSecond).toBe(9);
  });

  test("a worker that came too late asks later, within ten permits' time and half a second", () => {
    const askedAtMs = (perSecond: number, random: number) =>
      nextPermitAtMs(outpaced(newRate(2), { ...answer, perSecond }, 1_000, random), 0);
    expect(askedAtMs(100, 0)).toBe(1_300);
    expect(askedAtMs(100, 0.5)).toBe(1_350);
    expect(askedAtMs(2, 0.5)).toBe(1_550);
  });

  test("once the queue has adopted a rate, no permit falls due later than it allows", () => {
    const waiting = heard(newRate(2), { ...answer, perSecond: 2, nextInMs: 450 }, 1_000);
    const about = { isThrottled: false, maxPerSecond: 2, random: 0 };
    const known = adopted(waiting, learnRate(answer, { limitPerSecond: 100 }, about), 1_050);
    expect(known.perSecond).toBe(90);
    expect(nextPermitAtMs(known, 1_050)).toBeCloseTo(1_061, 0);
    // A permit that falls due sooner stays as it is.
    expect(nextPermitAtMs({ ...known, nextAtMs: 1_055 }, 1_050)).toBe(1_055);
    const unchanged = learnRate({ ...answer, limitPerSecond: 100 }, { limitPerSecond: 100 }, about);
    expect(adopted({ ...known, nextAtMs: 1_055 }, unchanged, 1_050)).toMatchObject({ nextAtMs: 1_055 });
  });

  test("only a fast rate allows several permits at a time", () => {
    expect([2, 9, 40, 900].map((perSecond) => permitsAtOnce(newRate(perSecond)))).toEqual([1, 1, 2, 45]);
  });

  test("its own pause holds, also if the queue does not know it yet", () => {
    const known = heard(paused(newRate(2), 5_000, 1_000), answer, 1_200);
    expect(nextPermitAtMs(known, 1_300)).toBe(6_000);
    expect(nextPermitAtMs(paused(known, 10, 1_400), 1_500)).toBe(6_000);
  });
});
