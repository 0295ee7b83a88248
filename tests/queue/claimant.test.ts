import { describe, expect, test } from "bun:test";
import { type Claim, Claimant, outlasts } from "../../lib/queue/claimant.ts";

describe("lease", () => {
  const claim = { id: "c", number: 1, sentAtMs: 0, sentAtWallMs: 0 };
  const isEnough = (elapsedMs: number, wallElapsedMs: number) =>
    outlasts(claim, 60_000, 15_000, elapsedMs, wallElapsedMs);

  test("a fresh lease outlasts a request", () => expect(isEnough(0, 0)).toBe(true));

  test("either clock can show that it is too late", () => {
    expect(isEnough(45_000, 0)).toBe(false);
    expect(isEnough(0, 45_000)).toBe(false);
    expect(isEnough(44_999, 44_999)).toBe(true);
  });

  test("a wall clock set back gains nothing", () => {
    expect(isEnough(50_000, -50_000)).toBe(false);
  });
});

describe("claimant", () => {
  test("a claim is repeated until it is answered or its lease would have expired", async () => {
    const claimant = new Claimant();
    const sent: Claim[] = [];
    const send = (leaseMs: number, isAnswered: boolean) =>
      claimant.claim(leaseMs, async (claim) => {
        sent.push(claim);
        if (!isAnswered) throw new Error("no answer");
      });
    await expect(send(60_000, false)).rejects.toThrow("no answer");
    await send(60_000, true);
    await expect(send(60_000, false)).rejects.toThrow("no answer");
    await send(0, true);
    expect(sent.map(({ number }) => number)).toEqual([1, 1, 2, 3]);
    expect(sent[1]).toBe(sent[0]!);
    expect(new Set(sent.map(({ id }) => id)).size).toBe(3);
  });
});
