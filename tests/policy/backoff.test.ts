import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { backoffMs, pauseMs } from "../../lib/policy/backoff.ts";
import { anyRandom } from "./fixtures.ts";

const baseMs = 1_000;
const maxMs = 3_600_000;
const almostOne = 1 - 2 ** -53;

describe("backoff", () => {
  test("the upper bound doubles with every attempt, up to the cap", () => {
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

  test("a delay is a whole number under the cap, whatever the attempt", () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), anyRandom, (attempt, baseMs, maxMs, random) => {
        const delayMs = backoffMs({ attempt, baseMs, maxMs, random });
        expect(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= maxMs).toBe(true);
      }),
    );
  });

  test("a pause lasts at least half of its nominal time", () => {
    expect(pauseMs({ times: 3, baseMs, maxMs, random: 0 })).toBe(4_000);
    expect(pauseMs({ times: 3, baseMs, maxMs, random: 0.999 })).toBe(7_996);
  });
});
