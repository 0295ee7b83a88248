import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { backoffMs, breakerOpenMs } from "../../lib/policy/backoff.ts";
import { leaseOutlasts } from "../../lib/policy/lease.ts";
import { anyRandom } from "./fixtures.ts";

const baseMs = 1_000;
const maxMs = 3_600_000;
const almostOne = 1 - 2 ** -53;

describe("backoff", () => {
  test("the upper end doubles with every attempt, up to the cap", () => {
    const upper = (attempt: number) => backoffMs({ attempt, baseMs, maxMs, random: almostOne }) + 1;
    expect([1, 2, 3, 4, 12, 13, 5_000].map(upper)).toEqual([
      1_000,
      2_000,
      4_000,
      8_000,
      2_048_000,
      maxMs,
      maxMs,
    ]);
    expect(backoffMs({ attempt: 9, baseMs, maxMs, random: 0 })).toBe(0);
  });

  test("a delay is whole and under the cap, whatever the attempt", () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), anyRandom, (attempt, baseMs, maxMs, random) => {
        const delayMs = backoffMs({ attempt, baseMs, maxMs, random });
        expect(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= maxMs).toBe(true);
      }),
    );
  });

  test("a door stays shut for half its time at least", () => {
    expect(breakerOpenMs({ times: 3, baseMs, maxMs, random: 0 })).toBe(4_000);
    expect(breakerOpenMs({ times: 3, baseMs, maxMs, random: 0.999 })).toBe(7_996);
  });
});

describe("lease", () => {
  const given = { leaseMs: 60_000, needMs: 15_000, monotonicElapsedMs: 0, wallElapsedMs: 0 };

  test("a fresh lease outlasts a request", () => expect(leaseOutlasts(given)).toBe(true));

  test("either clock can say that it is too late", () => {
    expect(leaseOutlasts({ ...given, monotonicElapsedMs: 45_000 })).toBe(false);
    expect(leaseOutlasts({ ...given, wallElapsedMs: 45_000 })).toBe(false);
    expect(leaseOutlasts({ ...given, monotonicElapsedMs: 44_999, wallElapsedMs: 44_999 })).toBe(true);
  });

  test("a wall clock set back gains nothing", () => {
    expect(leaseOutlasts({ ...given, monotonicElapsedMs: 50_000, wallElapsedMs: -50_000 })).toBe(false);
  });
});
