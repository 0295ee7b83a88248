import { describe, expect, test } from "bun:test";
import { asDead, decodeHistory, encodeMemory, noHistory, noNotes } from "../../lib/policy/history.ts";
import { endDoubtNow, retryCounts, decideRetry } from "../../lib/policy/operator_retry.ts";
import type { Batch } from "../../lib/queue/contract.ts";

const nowMs = 1_800_000_000_000;
const failedAt = (atMs: number) =>
  ({ provider: "resend", atMs, outcome: "unavailable", reason: "503" }) as const;
const dead = asDead(
  { ...noHistory, attempts: { kept: [failedAt(1)], total: 1 }, tries: 1, refusedBy: ["postmark"] },
  "gave up: 503",
);

describe("operator retry: a dead letter", () => {
  test("keeps its attempts, and GIVE_UP_AFTER starts again", () => {
    const { history, mayBeDuplicate } = decideRetry(encodeMemory(dead), nowMs);
    expect(mayBeDuplicate).toBe(false);
    expect(decodeHistory(history)).toEqual({
      ...noHistory,
      attempts: dead.attempts,
      replayedAtMs: nowMs,
    });
  });

  test.each([encodeMemory({ ...dead, doubted: true }), "not JSON"])(
    "that may have been sent, or cannot be read (%s), becomes a possible duplicate",
    (seen) => {
      const { history, mayBeDuplicate } = decideRetry(seen, nowMs);
      expect(mayBeDuplicate).toBe(true);
      expect(decodeHistory(history)).toMatchObject({ doubted: true, replayedAtMs: nowMs });
    },
  );

  test("is counted, and also as a possible duplicate", () => {
    expect(retryCounts(false)).toEqual({ replayed: 1 });
    expect(retryCounts(true)).toEqual({ replayed: 1, possible_duplicates: 1 });
  });
});

describe("operator retry: a batch in doubt", () => {
  const batch = (over: Partial<Batch> = {}): Batch => ({
    id: "b",
    provider: "resend",
    lease: 2,
    nowMs,
    leaseEndsAtMs: nowMs + 1000,
    doubtEndsAtMs: nowMs + 5000,
    doubtSinceMs: nowMs - 1000,
    leaseExpired: false,
    context: "",
    notes: encodeMemory({ ...noNotes, attempts: { kept: [failedAt(2)], total: 1 }, failures: 1 }),
    pieceMax: undefined,
    credential: "key",
    acceptances: 0,
    servedProviders: [],
    clockSteppedAtMs: undefined,
    emails: [
      { id: "a", text: "", submittedAtMs: 1, history: encodeMemory({ ...dead, tries: 3 }), marked: false },
      { id: "m", text: "", submittedAtMs: 1, history: "", marked: true },
      { id: "d", text: "cannot be read", submittedAtMs: 1, history: "nor this", marked: false },
    ],
    ...over,
  });

  test("goes back in small pieces, due now, except for emails accepted elsewhere", () => {
    const { settlement, possibleDuplicates } = endDoubtNow(batch(), nowMs);
    expect(possibleDuplicates).toEqual(["a", "d"]);
    expect(settlement.counts).toEqual({ "retried:resend": 2, replayed: 2, possible_duplicates: 2 });
    expect(settlement.rest).toBeUndefined();
    expect(settlement.fates.map(({ id, kind }) => `${id} ${kind}`)).toEqual(["a due", "m dead", "d due"]);
    const [first] = settlement.fates;
    if (first?.kind !== "due") throw new Error(first?.kind);
    expect(first).toMatchObject({ delayMs: 0, pieceMax: 1 });
    expect(first).not.toHaveProperty("only");
    expect(decodeHistory(first.history)).toEqual({
      ...noHistory,
      doubted: true,
      replayedAtMs: nowMs,
      attempts: {
        kept: [
          failedAt(1),
          failedAt(2),
          { provider: "resend", atMs: nowMs, outcome: "doubtEnded", reason: "by an operator" },
        ],
        total: 3,
      },
    });
  });

  test("records that its worker was lost, if it was", () => {
    const [fate] = endDoubtNow(batch({ leaseExpired: true }), nowMs).settlement.fates;
    if (fate?.kind !== "due") throw new Error(fate?.kind);
    const outcomes = decodeHistory(fate.history).attempts.kept.map(({ outcome }) => outcome);
    expect(outcomes).toEqual(["unavailable", "unavailable", "lapsed", "doubtEnded"]);
  });

  test("of which no email goes back counts nothing", () => {
    const { settlement } = endDoubtNow(batch({ emails: [batch().emails[1]!], notes: "not JSON" }), nowMs);
    expect(settlement.counts).toEqual({});
  });
});
