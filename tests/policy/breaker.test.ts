import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  admit as admittedState,
  type Breaker,
  closedBreaker,
  record,
  suspiciousBreaker,
} from "../../lib/policy/breaker.ts";
import { anyRandom } from "./fixtures.ts";

/** Describes in words which request may begin, and when. */
type Admission =
  | { kind: "closed" | "question" | "probe"; generation: number; isBlind: boolean }
  | { kind: "refused"; untilMs: number | undefined };
type Admitted = Exclude<Admission, { kind: "refused" }>;

function admit(before: Breaker, nowMs: number): { breaker: Breaker; admission: Admission } {
  const breaker = admittedState(before, nowMs);
  if (breaker === undefined) {
    const untilMs = before.kind === "open" ? before.untilMs : undefined;
    return { breaker: before, admission: { kind: "refused", untilMs } };
  }
  const { kind, generation } = breaker;
  if (kind === "open") throw new Error("a request begins while the breaker is open");
  const isBlind = kind === "halfOpen" && breaker.isBlind === true;
  const words = { closed: "closed", asking: "question", halfOpen: "probe" } as const;
  return { breaker, admission: { kind: words[kind], generation, isBlind } };
}

function admitted(breaker: Breaker, nowMs: number): { breaker: Breaker; admission: Admitted } {
  const { breaker: next, admission } = admit(breaker, nowMs);
  if (admission.kind === "refused") throw new Error("refused");
  return { breaker: next, admission };
}

let requests = 0;

/** Makes one request that ends immediately with this event. */
function after(
  breaker: Breaker,
  answer: "ok" | "fails" | "unanswered" | "refused" | "none" | "asked" | "notAsked",
  nowMs = 0,
  random = 0,
): Breaker {
  const { breaker: begun, admission } = admitted(breaker, nowMs);
  switch (answer) {
    case "ok":
      return record(begun, admission, { kind: "success" }, 0, 0);
    case "fails":
      requests += 1;
      return record(
        begun,
        admission,
        { kind: "failure", name: `request ${requests}`, isNew: true },
        nowMs,
        random,
      );
    case "unanswered":
      return record(begun, admission, { kind: "unanswered", isNew: true }, nowMs, random);
    case "refused":
      return record(begun, admission, { kind: "accountRefused" }, nowMs, random);
    case "none":
      return record(begun, admission, { kind: "none" }, nowMs, 0);
    case "asked":
      return record(begun, admission, { kind: "success" }, nowMs, random);
    case "notAsked":
      return record(begun, admission, { kind: "unanswered", isNew: true }, nowMs, random);
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

  test("it stays open for its pause, then admits one probe", () => {
    const open = failed(5);
    expect(admit(open, 499).admission).toEqual({ kind: "refused", untilMs: 500 });
    const { breaker, admission } = admit(open, 500);
    expect(admission.kind).toBe("probe");
    expect(admit(breaker, 10_000).admission).toEqual({ kind: "refused", untilMs: undefined });
  });

  test("every failed probe doubles the pause, up to a minute", () => {
    let breaker = failed(5);
    const times: number[] = [];
    for (let nowMs = untilMs(breaker) ?? 0; times.length < 9; nowMs = untilMs(breaker) ?? 0) {
      breaker = after(breaker, "fails", nowMs);
      times.push((untilMs(breaker) ?? 0) - nowMs);
    }
    expect(times).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000]);
  });

  test("a successful probe closes it and resets the pause", () => {
    const closed = after(failed(5), "ok", 500);
    expect(closed).toMatchObject({ kind: "closed", failed: [] });
    const again = Array.from({ length: 5 }).reduce<Breaker>((one) => after(one, "fails"), closed);
    expect(untilMs(again)).toBe(500);
  });

  test("a refused account opens it immediately, at first for a minute, at last for an hour", () => {
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

  test("a batch that fails repeatedly counts as one failure", () => {
    let breaker: Breaker = closedBreaker;
    const fail = (what: string) => {
      const { breaker: begun, admission } = admitted(breaker, 0);
      breaker = record(begun, admission, { kind: "failure", name: what, isNew: true }, 0, 0);
    };
    for (let times = 0; times < 20; times += 1) fail("one");
    for (const what of ["two", "three", "four"]) fail(what);
    expect(breaker.kind).toBe("closed");
    fail("five");
    expect(breaker.kind).toBe("open");
  });

  test("a failure without an answer in the provider's own form leads to a question before the next request", () => {
    const open = after(closedBreaker, "unanswered", 100);
    expect(untilMs(open)).toBe(100);
    const { breaker: asking, admission } = admit(open, 100);
    expect(admission.kind).toBe("question");
    expect(admit(asking, 5_000).admission).toEqual({ kind: "refused", untilMs: undefined });
    if (admission.kind !== "question") throw new Error("not asked");
    const answered = record(asking, admission, { kind: "success" }, 100, 0);
    expect(admit(answered, 100).admission.kind).toBe("probe");
    expect(after(answered, "ok", 100)).toMatchObject({ kind: "closed" });
  });

  test("a question without an answer is repeated with backoff, up to a minute", () => {
    let breaker = after(closedBreaker, "unanswered");
    const times: number[] = [];
    for (let nowMs = untilMs(breaker) ?? 0; times.length < 6; nowMs = untilMs(breaker) ?? 0) {
      breaker = after(breaker, "notAsked", nowMs);
      times.push((untilMs(breaker) ?? 0) - nowMs);
    }
    expect(times).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000]);
  });

  test("a provider that answers no questions is finally probed blindly, every other time", () => {
    let breaker = after(closedBreaker, "unanswered");
    const kinds: string[] = [];
    const times: number[] = [];
    while (kinds.length < 10) {
      const nowMs = untilMs(breaker) ?? 0;
      const { admission } = admit(breaker, nowMs);
      kinds.push(admission.kind === "probe" && admission.isBlind ? "blind" : admission.kind);
      const { breaker: begun } = admitted(breaker, nowMs);
      breaker =
        admission.kind === "question"
          ? after(breaker, "notAsked", nowMs)
          : // With a batch that was in doubt before, which never lengthens the pause.
            record(begun, admitted(breaker, nowMs).admission, { kind: "unanswered", isNew: false }, nowMs, 0);
      times.push((untilMs(breaker) ?? 0) - nowMs);
    }
    expect(kinds.slice(0, 6)).toEqual(Array.from({ length: 6 }, () => "question"));
    expect(kinds.slice(6)).toEqual(["blind", "question", "blind", "question"]);
    expect(times.slice(6)).toEqual([30_000, 30_000, 30_000, 30_000]);
  });

  test("a repeated failure of the same emails does not lengthen the pause", () => {
    let breaker = failed(5);
    for (let times = 0; times < 10; times += 1) {
      const nowMs = untilMs(breaker) ?? 0;
      const { breaker: begun, admission } = admitted(breaker, nowMs);
      breaker = record(begun, admission, { kind: "failure", name: "again", isNew: false }, nowMs, 0);
      expect((untilMs(breaker) ?? 0) - nowMs).toBe(500);
    }
  });

  test("an unanswered probe after an answered question lengthens the pause before the next question", () => {
    let breaker = after(closedBreaker, "unanswered");
    const times: number[] = [];
    for (let nowMs = 0; times.length < 3;) {
      breaker = after(after(breaker, "asked", nowMs), "unanswered", nowMs);
      times.push((untilMs(breaker) ?? 0) - nowMs);
      nowMs = untilMs(breaker) ?? 0;
    }
    expect(times).toEqual([500, 1_000, 2_000]);
  });

  test("the provider counts as down after a second failure without an answer, since one may be an email's fault", () => {
    const open = after(closedBreaker, "unanswered");
    const isDown = (breaker: Breaker) => breaker.kind !== "closed" && breaker.isDown;
    expect(isDown(open)).toBe(false);
    expect(isDown(after(open, "asked"))).toBe(false);
    expect(isDown(after(open, "notAsked"))).toBe(true);
    expect(isDown(failed(5))).toBe(true);
    expect(isDown(closedBreaker)).toBe(false);
  });

  test("a provider whose last failure in the queue was unanswered is asked first", () => {
    expect(admit(suspiciousBreaker(7), 7).admission.kind).toBe("question");
  });

  test("a question that was not asked is asked next", () => {
    const open = after(closedBreaker, "unanswered");
    expect(admit(after(open, "none", 50), 50).admission.kind).toBe("question");
  });

  test("a probe whose answer says nothing allows another", () => {
    const open = failed(5);
    expect(admit(after(open, "none", 500), 500).admission.kind).toBe("probe");
  });

  test("requests that began before it opened neither close nor open it again", () => {
    const { breaker, admission } = admitted(failed(4), 0);
    const open = record(breaker, admission, { kind: "failure", name: "last", isNew: true }, 0, 0);
    for (const late of [
      record(open, admission, { kind: "success" }, 0, 0),
      record(open, admission, { kind: "failure", name: "late", isNew: true }, 100, 0),
      record(open, admission, { kind: "accountRefused" }, 100, 0),
      record(open, admission, { kind: "none" }, 100, 0),
      record(open, admission, { kind: "unanswered", isNew: true }, 100, 0),
      record(open, admission, { kind: "success" }, 100, 0),
    ]) {
      expect(late).toEqual(open);
    }
    const { breaker: probing, admission: probe } = admitted(open, 500);
    expect(record(probing, admission, { kind: "success" }, 0, 0)).toEqual(probing);
    expect(record(probing, probe, { kind: "success" }, 0, 0).kind).toBe("closed");
  });

  test("it never has two probes or questions in progress, nor any request while it is open", () => {
    const step = fc.record({
      act: fc.constantFrom("admit", "ok", "fails", "unanswered", "refused", "none", "asked", "notAsked"),
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
            if (admission.kind === "refused") {
              if (breaker.kind === "open") expect(admission.untilMs).toBeGreaterThan(nowMs);
              continue;
            }
            if (breaker.kind === "open") expect(nowMs).toBeGreaterThanOrEqual(breaker.untilMs);
            breaker = next;
            underWay.push(admission);
            const probes = underWay.filter(({ kind }) => kind !== "closed").length;
            expect(probes).toBeLessThanOrEqual(1);
            continue;
          }
          const [admission] = underWay.splice(which % (underWay.length || 1), 1);
          if (admission === undefined) continue;
          if (act === "ok") breaker = record(breaker, admission, { kind: "success" }, 0, 0);
          if (act === "fails")
            breaker = record(
              breaker,
              admission,
              { kind: "failure", name: `${which}`, isNew: which % 2 === 0 },
              nowMs,
              random,
            );
          if (act === "refused")
            breaker = record(breaker, admission, { kind: "accountRefused" }, nowMs, random);
          if (act === "none") breaker = record(breaker, admission, { kind: "none" }, nowMs, 0);
          if (act === "unanswered")
            breaker = record(
              breaker,
              admission,
              { kind: "unanswered", isNew: which % 2 === 0 },
              nowMs,
              random,
            );
          if (act === "asked") breaker = record(breaker, admission, { kind: "success" }, nowMs, random);
          if (act === "notAsked")
            breaker = record(breaker, admission, { kind: "unanswered", isNew: true }, nowMs, random);
        }
      }),
    );
  });
});
