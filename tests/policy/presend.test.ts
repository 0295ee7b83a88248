// Emails with files before a batch's first request. Senders are in sender_memory.test.ts.

import { describe, expect, test } from "bun:test";
import type { DecodedBatch } from "../../lib/policy/batch.ts";
import { nextStep } from "../../lib/policy/decide_batch.ts";
import type { Policy } from "../../lib/policy/decision.ts";
import { addAttempts, noHistory } from "../../lib/policy/history.ts";
import { presend } from "../../lib/policy/presend.ts";
import { noSenders } from "../../lib/policy/sender_memory.ts";
import {
  batch,
  describeDecision,
  email,
  fileOf,
  historyOf,
  inDoubt,
  inputOf,
  policy,
  searchPolicy,
} from "./fixtures.ts";

const batching: Policy = { ...searchPolicy, batchesFiles: true };
const small = email("s");
const withFile = email("f", fileOf(10));
const another = email("g", fileOf(10));

function outcomeOf(given: DecodedBatch, under: Policy, takesFiles = true): string {
  const { emails, decision } = presend(inputOf(given, under), noSenders, 1, takesFiles);
  const left = decision === undefined ? "" : `${describeDecision(decision)}; `;
  return `${left}send ${emails.map(({ id }) => id).join(" ")}`;
}

describe("files: at a provider that takes them alone", () => {
  test("an email with files leaves a batch of several, to travel alone", () => {
    expect(outcomeOf(batch([small, withFile]), policy)).toBe("f due any 0 in 1; send s");
    expect(outcomeOf(batch([withFile, small, another]), policy)).toBe(
      "f due any 0 in 1; g due any 0 in 1; send s",
    );
  });

  test("the first stays if all have files", () => {
    expect(outcomeOf(batch([withFile, another]), policy)).toBe("g due any 0 in 1; send f");
    expect(outcomeOf(batch([withFile]), policy)).toBe("send f");
  });

  test("an email that leaves keeps its history, without an attempt", () => {
    const attempts = { kept: [{ provider: "resend", atMs: 1, outcome: "unavailable" } as const], total: 1 };
    const history = { ...addAttempts(noHistory, attempts), tries: 3 };
    const { decision } = presend(
      inputOf(batch([small, { ...withFile, history }]), policy),
      noSenders,
      1,
      true,
    );
    expect(historyOf(decision!, "f")).toEqual(history);
    expect(decision!.settlement.counts).toEqual({});
  });

  test("one whose sender travels apart does not come back in a batch", () => {
    const stranger = email("x", { ...fileOf(10), from: "me@example.org" });
    const senders = { ...noSenders, accepted: new Map([["example.com", 9]]) };
    const { decision } = presend(inputOf(batch([small, stranger]), policy), senders, 1, true);
    expect(describeDecision(decision!)).toBe("x due any 0 in 1");
  });

  test("a batch that was begun keeps its emails", () => {
    expect(outcomeOf(batch([withFile], inDoubt), policy)).toBe("send f");
  });

  test("a batch with such an email was never begun, whatever became of its lease", () => {
    const step = (given: DecodedBatch, under: Policy) => nextStep(inputOf(given, under), true);
    expect(step(batch([small, withFile], { leaseExpired: true }), policy)).toEqual({ kind: "neverBegun" });
    expect(step(batch([withFile], { leaseExpired: true }), policy)).toBe("send");
    expect(step(batch([small], { leaseExpired: true }), policy)).toBe("send");
    expect(step(batch([small, withFile], { leaseExpired: true }), batching)).toBe("search");
  });
});

describe("files: at a provider that takes them together", () => {
  test("emails with files share a request with others", () => {
    expect(outcomeOf(batch([small, withFile, another]), batching)).toBe("send s f g");
  });

  test("a request of several has at most 10 MB, in base64", () => {
    const large = (id: string) => email(id, fileOf(3_000_000));
    expect(outcomeOf(batch([large("a"), large("b"), large("c"), small]), batching)).toBe(
      "c due any 0 in 1; send a b s",
    );
  });

  test("one alone may have more", () => {
    expect(outcomeOf(batch([email("a", fileOf(9_000_000))]), batching)).toBe("send a");
  });
});

describe("files: while too many requests have some", () => {
  test.each([policy, batching])("emails with files leave the batch, even the only one", (under) => {
    expect(outcomeOf(batch([small, withFile]), under, false)).toBe("f due any 0 in 1; send s");
    expect(outcomeOf(batch([withFile]), under, false)).toBe("f due any 0 in 1; send ");
  });

  test("emails without files are not affected", () => {
    expect(outcomeOf(batch([small]), batching, false)).toBe("send s");
  });
});
