import { describe, expect, test } from "bun:test";
import { Claimant, outlasts } from "../../lib/worker/claim.ts";

describe("lease", () => {
  const claim = { id: "c", number: 1, sentAtMs: 0, sentAtWallMs: 0 };
  const isEnough = (elapsedMs: number, wallElapsedMs: number) =>
    outlasts(claim, 60_000, 15_000, elapsedMs, wallElapsedMs);

  test("a fresh lease outlasts a request", () => expect(isEnough(0, 0)).toBe(true));

  test("either clock can say that it is too late", () => {
    expect(isEnough(45_000, 0)).toBe(false);
    expect(isEnough(0, 45_000)).toBe(false);
    expect(isEnough(44_999, 44_999)).toBe(true);
  });

  test("a wall clock set back gains nothing", () => {
    expect(isEnough(50_000, -50_000)).toBe(false);
  });
});

describe("claimant", () => {
  test("a claim is repeated until it is answered, or its lease would be over", () => {
    const claimant = new Claimant();
    const first = claimant.next(60_000);
    expect(first.number).toBe(1);
    expect(claimant.next(60_000)).toBe(first);
    claimant.answered();
    const second = claimant.next(60_000);
    expect(second.number).toBe(2);
    expect(second.id).not.toBe(first.id);
    expect(claimant.next(0).number).toBe(3);
  });
});
