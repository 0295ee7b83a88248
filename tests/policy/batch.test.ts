import { describe, expect, test } from "bun:test";
import { encodeEmail } from "../../lib/email/email.ts";
import { nextStep, decodeBatch } from "../../lib/policy/batch.ts";
import { noHistory, noNotes } from "../../lib/policy/history.ts";
import type { Batch } from "../../lib/queue/contract.ts";
import { batch, email, inDoubt, nowMs } from "./fixtures.ts";

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
  test("a claimed batch is opened with what its email needs", () => {
    expect(decodeBatch({ ...claimed, leaseExpired: false })).toEqual({
      id: "b",
      provider: "resend",
      claimedAtMs: 50,
      pieceMax: 8,
      credential: "key",
      acceptances: 3,
      clockSteppedAtMs: undefined,
      doubtSinceMs: 50,
      doubtEndsAtMs: 900,
      leaseExpired: false,
      notes: { ...noNotes, looks: 1 },
      emails: [{ id: "a", from: "shop@example.com", submittedAtMs: 10, history: noHistory, marked: false }],
    });
  });

  test("a lapse is an attempt, when it is first seen", () => {
    expect(decodeBatch(claimed).notes).toEqual({
      ...noNotes,
      looks: 1,
      attempts: { kept: [{ provider: "resend", atMs: 50, outcome: "lapsed" }], total: 1 },
    });
  });

  test("a batch in doubt is searched for where that is possible, and sent again under its key where it is not, until housekeeping has to end its doubt", () => {
    const doubtful = batch([email("a")], inDoubt);
    expect(nextStep(batch([email("a")]), true, nowMs)).toBe("send");
    expect(nextStep(doubtful, false, nowMs)).toBe("send");
    expect(nextStep(doubtful, true, nowMs)).toBe("search");
    expect(nextStep(batch([email("a")], { leaseExpired: true }), true, nowMs)).toBe("search");
    expect(nextStep(doubtful, false, doubtful.doubtEndsAtMs)).toBe("wait");
    expect(nextStep(doubtful, true, doubtful.doubtEndsAtMs)).toBe("wait");
  });

  test("a batch in doubt goes on past its end while the store's clock is not believed", () => {
    const doubtful = batch([email("a")], { ...inDoubt, clockSteppedAtMs: nowMs - 1 });
    expect(nextStep(doubtful, false, doubtful.doubtEndsAtMs)).toBe("send");
    expect(nextStep(doubtful, true, doubtful.doubtEndsAtMs)).toBe("search");
  });
});
