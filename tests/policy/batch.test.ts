import { describe, expect, test } from "bun:test";
import { decodeEmail, encodeEmail } from "../../lib/email/email.ts";
import { decodeBatch, type DecodedBatch } from "../../lib/policy/batch.ts";
import { decide, nextStep } from "../../lib/policy/decide_batch.ts";
import type { Policy, Result } from "../../lib/policy/decision.ts";
import { noHistory, noNotes } from "../../lib/policy/history.ts";
import type { Batch } from "../../lib/queue/contract.ts";
import { batch, email, inDoubt, inputOf, nowMs, policy, searchPolicy } from "./fixtures.ts";

const text = encodeEmail({ to: "jane@example.org", from: "shop@example.com", subject: "Hi", body: "Hello" });
const claimed: Batch = {
  id: "b",
  provider: "resend",
  lease: 2,
  nowMs: 50,
  leaseEndsAtMs: 90,
  doubtEndsAtMs: 900,
  doubtSinceMs: 50,
  leaseExpired: true,
  context: "",
  notes: '{"looks":1}',
  pieceMax: 8,
  credential: "key",
  acceptances: 3,
  servedProviders: [],
  clockSteppedAtMs: undefined,
  emails: [{ id: "a", text, submittedAtMs: 10, history: "", marked: false }],
};

describe("batch", () => {
  test("a claimed batch is decoded with its emails and their histories", () => {
    const { emails, notes, ...rest } = decodeBatch({ ...claimed, leaseExpired: false });
    const { emails: _, notes: __, ...same } = claimed;
    expect(rest).toEqual({ ...same, leaseExpired: false, unreadable: [], isDamaged: false });
    expect(notes).toEqual({ ...noNotes, looks: 1 });
    expect(emails).toEqual([
      { id: "a", email: decodeEmail(text), submittedAtMs: 10, history: noHistory, marked: false },
    ]);
  });

  test("an expired lease counts as an attempt at the time when it is found", () => {
    expect(decodeBatch(claimed).notes).toEqual({
      ...noNotes,
      looks: 1,
      attempts: { kept: [{ provider: "resend", atMs: 50, outcome: "lapsed" }], total: 1 },
    });
  });

  test("a batch in doubt is searched for, or sent again under its key without a search, until housekeeping ends its doubt", () => {
    const doubtful = batch([email("a")], inDoubt);
    expect(step(batch([email("a")]), searchPolicy)).toBe("send");
    expect(step(doubtful, policy)).toBe("send");
    expect(step(doubtful, searchPolicy)).toBe("search");
    expect(step(batch([email("a")], { leaseExpired: true }), searchPolicy)).toBe("search");
    expect(step(doubtful, policy, doubtful.doubtEndsAtMs)).toEqual(untouched);
    expect(step(doubtful, searchPolicy, doubtful.doubtEndsAtMs)).toEqual(untouched);
  });

  test("a batch in doubt continues past its end while the store's clock is not trusted", () => {
    const doubtful = batch([email("a")], { ...inDoubt, clockSteppedAtMs: nowMs - 1 });
    expect(step(doubtful, policy, doubtful.doubtEndsAtMs)).toBe("send");
    expect(step(doubtful, searchPolicy, doubtful.doubtEndsAtMs)).toBe("search");
  });

  test("a provider of weight 0 gets nothing new, and continues with batches in doubt", () => {
    expect(nextStep(inputOf(batch([email("a")])), false)).toEqual(untouched);
    expect(nextStep(inputOf(batch([email("a")], inDoubt)), false)).toBe("send");
  });

  test("a batch in doubt is split without another attempt once there is evidence", () => {
    const notes = { ...noNotes, strikes: 5, baseline: { credential: "key", acceptances: 7 } };
    const struck = batch([email("a"), email("b")], { ...inDoubt, notes, acceptances: 8 });
    expect(step(struck, policy)).toEqual({ kind: "split" });
    expect(step({ ...struck, acceptances: 7 }, policy)).toBe("send");
  });

  test("unreadable emails are set aside, with an unknown outcome if the batch was in doubt; the others continue", () => {
    const [one] = claimed.emails;
    const emails = [one!, { ...one!, id: "t", text: "no JSON" }, { ...one!, id: "h", history: "nor this" }];
    for (const leaseExpired of [false, true]) {
      const damaged = decodeBatch({ ...claimed, doubtSinceMs: undefined, leaseExpired, emails });
      expect(step(damaged, policy)).toEqual(untouched);
      const { dead, settlement, possibleDuplicates } = decide(untouched, inputOf(damaged, policy, 60));
      expect(settlement.fates.map(({ id, kind }) => `${id} ${kind}`)).toEqual(["a due", "t dead", "h dead"]);
      expect(dead.map(({ cause, outcomeUnknown }) => [cause, outcomeUnknown])).toEqual([
        ["unreadable", leaseExpired],
        ["unreadable", leaseExpired],
      ]);
      expect(possibleDuplicates).toEqual(leaseExpired ? ["a"] : []);
    }
    const notes = decodeBatch({ ...claimed, notes: "no JSON" });
    expect(step(notes, policy)).toEqual(untouched);
    expect(decide(untouched, inputOf(notes, policy, 60)).settlement.fates).toMatchObject([
      { id: "a", kind: "due" },
    ]);
  });
});

const untouched: Result = { kind: "untouched", delayMs: 0 };
const step = (given: DecodedBatch, under: Policy, atMs = nowMs) =>
  nextStep(inputOf(given, under, atMs), true);
