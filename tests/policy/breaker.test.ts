import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  admit,
  type Admitted,
  type Breaker,
  closedBreaker,
  onAccountRefused,
  onFailure,
  onNone,
  onSuccess,
} from "../../lib/policy/breaker.ts";
import { anyRandom } from "./given.ts";

function admitted(breaker: Breaker, nowMs: number): { breaker: Breaker; admission: Admitted } {
  const { breaker: next, admission } = admit(breaker, nowMs);
  if (admission.kind === "shut") throw new Error("shut");
  return { breaker: next, admission };
}

/** One request that ends so at once. */
function after(
  breaker: Breaker,
  answer: "ok" | "fails" | "refused" | "none",
  nowMs = 0,
  random = 0,
): Breaker {
  const { breaker: begun, admission } = admitted(breaker, nowMs);
  switch (answer) {
    case "ok":
      return onSuccess(begun, admission);
    case "fails":
      return onFailure(begun, admission, nowMs, random);
    case "refused":
      return onAccountRefused(begun, admission, nowMs, random);
    case "none":
      return onNone(begun, admission);
  }
}

const failed = (times: number) =>
  Array.from({ length: times }).reduce<Breaker>((one) => after(one, "fails"), closedBreaker);
const untilMs = (breaker: Breaker) => (breaker.kind === "open" ? breaker.untilMs : undefined);

describe("breaker", () => {
  test("five failures in a row open it", () => {
    expect(failed(4).kind).toBe("closed");
    expect(failed(5).kind).toBe("open");
    expect(after(after(failed(4), "ok"), "fails").kind).toBe("closed");
  });

  test("it stays shut, then lets one probe through", () => {
    const open = failed(5);
    expect(admit(open, 499).admission).toEqual({ kind: "shut", untilMs: 500 });
    const { breaker, admission } = admit(open, 500);
    expect(admission.kind).toBe("probe");
    expect(admit(breaker, 10_000).admission).toEqual({ kind: "shut", untilMs: undefined });
  });

  test("every probe that fails doubles the time, up to a minute", () => {
    let breaker = failed(5);
    const times: number[] = [];
    for (let nowMs = untilMs(breaker) ?? 0; times.length < 9; nowMs = untilMs(breaker) ?? 0) {
      breaker = after(breaker, "fails", nowMs);
      times.push((untilMs(breaker) ?? 0) - nowMs);
    }
    expect(times).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000]);
  });

  test("a probe that succeeds closes it, and forgets how often it opened", () => {
    const closed = after(failed(5), "ok", 500);
    expect(closed).toMatchObject({ kind: "closed", failures: 0 });
    const again = Array.from({ length: 5 }).reduce<Breaker>((one) => after(one, "fails"), closed);
    expect(untilMs(again)).toBe(500);
  });

  test("an account's refusal opens it at once, for a minute at first and an hour at last", () => {
    let breaker = after(closedBreaker, "refused", 0, 1 - 2 ** -53);
    const times = [untilMs(breaker)];
    for (let times_ = 0; times_ < 8; times_ += 1) {
      const nowMs = untilMs(breaker) ?? 0;
      breaker = after(breaker, "refused", nowMs, 1 - 2 ** -53);
      times.push((untilMs(breaker) ?? 0) - nowMs);
    }
    expect(times.map((time) => Math.ceil((time ?? 0) / 1_000))).toEqual([
      60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600,
    ]);
  });

  test("probes alternate between batches in doubt and new emails, also from one opening to the next", () => {
    let breaker = failed(5);
    const turns: string[] = [];
    for (const answer of ["fails", "none", "fails", "refused"] as const) {
      const nowMs = untilMs(breaker) ?? 0;
      const { admission } = admitted(breaker, nowMs);
      turns.push(admission.kind === "probe" ? admission.first : "closed");
      breaker = after(breaker, answer, nowMs);
    }
    expect(turns).toEqual(["batches", "emails", "batches", "emails"]);
  });

  test("a probe without an answer makes room for another", () => {
    const open = failed(5);
    expect(admit(after(open, "none", 500), 500).admission.kind).toBe("probe");
  });

  test("requests that began before it opened neither close nor open it again", () => {
    const { breaker, admission } = admitted(failed(4), 0);
    const open = onFailure(breaker, admission, 0, 0);
    for (const late of [
      onSuccess(open, admission),
      onFailure(open, admission, 100, 0),
      onAccountRefused(open, admission, 100, 0),
      onNone(open, admission),
    ]) {
      expect(late).toEqual(open);
    }
    const { breaker: probing, admission: probe } = admitted(open, 500);
    expect(onSuccess(probing, admission)).toEqual(probing);
    expect(onSuccess(probing, probe).kind).toBe("closed");
  });

  test("it never has two probes under way, nor any request while it is shut", () => {
    const step = fc.record({
      act: fc.constantFrom("admit", "ok", "fails", "refused", "none"),
      which: fc.nat(),
      waitMs: fc.nat({ max: 90_000 }),
      random: anyRandom,
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        let breaker: Breaker = closedBreaker;
        let nowMs = 0;
        const underWay: Admitted[] = [];
        for (const { act, which, waitMs, random } of steps) {
          nowMs += waitMs;
          if (act === "admit") {
            const { breaker: next, admission } = admit(breaker, nowMs);
            if (admission.kind === "shut") {
              if (breaker.kind === "open") expect(admission.untilMs).toBeGreaterThan(nowMs);
              continue;
            }
            if (breaker.kind === "open") expect(nowMs).toBeGreaterThanOrEqual(breaker.untilMs);
            breaker = next;
            underWay.push(admission);
            const probes = underWay.filter(({ kind }) => kind === "probe").length;
            expect(probes).toBeLessThanOrEqual(1);
            continue;
          }
          const [admission] = underWay.splice(which % (underWay.length || 1), 1);
          if (admission === undefined) continue;
          if (act === "ok") breaker = onSuccess(breaker, admission);
          if (act === "fails") breaker = onFailure(breaker, admission, nowMs, random);
          if (act === "refused") breaker = onAccountRefused(breaker, admission, nowMs, random);
          if (act === "none") breaker = onNone(breaker, admission);
        }
      }),
    );
  });
});
