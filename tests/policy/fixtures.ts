// Batches, policies, outcomes and results for tests of policy, described with as little as a test cares about.

import fc from "fast-check";
import type { DecodedBatch, DecodedEmail } from "../../lib/policy/batch.ts";
import { decide } from "../../lib/policy/decide_batch.ts";
import type { Decision, DecisionInput, Policy, Result } from "../../lib/policy/decision.ts";
import { addAttempts, decodeHistory, type History, noHistory, noNotes } from "../../lib/policy/history.ts";
import type { Email } from "../../lib/email/email.ts";
import type { Outcome } from "../../lib/policy/request_outcome.ts";

export const hourMs = 3_600_000;
export const nowMs = 1_000 * hourMs;

export const policy: Policy = {
  retryBaseMs: 1_000,
  retryMaxMs: hourMs,
  giveUpAfterMs: 72 * hourMs,
  searchWaitMs: undefined,
  batchesFiles: false,
  providers: ["resend", "postmark"],
  credential: "key",
  doubtSplitAfterMs: 120_000,
  question: "none",
};

export const searchPolicy: Policy = { ...policy, searchWaitMs: 60_000 };

const content: Email = { to: "jane@example.org", from: "shop@example.com", subject: "Hi", body: "Hello" };

/** The fields of an email that a test sets; `from` is its sender. */
export type EmailOver = Partial<Omit<DecodedEmail, "email">> &
  Pick<Partial<Email>, "from" | "attachments" | "send_at">;

/** A file of this many bytes. */
export const fileOf = (size: number): Pick<Email, "attachments"> => ({
  attachments: [{ filename: "a.pdf", content_type: "application/pdf", size, sha256: "" }],
});

export function email(
  id: string,
  { from = content.from, attachments, send_at, ...over }: EmailOver = {},
): DecodedEmail {
  return {
    id,
    email: { ...content, from, ...(attachments && { attachments }), ...(send_at && { send_at }) },
    submittedAtMs: nowMs - 5_000,
    history: noHistory,
    marked: false,
    ...over,
  };
}

/** Its emails have its attempts in their histories, as in every decoded batch. */
export function batch(emails: readonly DecodedEmail[], over: Partial<DecodedBatch> = {}): DecodedBatch {
  const { notes = noNotes } = over;
  return {
    id: "batch",
    provider: "resend",
    lease: 1,
    nowMs: nowMs - 100,
    leaseEndsAtMs: nowMs + 60_000,
    context: "",
    servedProviders: [],
    unreadable: [],
    isDamaged: false,
    doubtSinceMs: undefined,
    doubtEndsAtMs: nowMs + 22 * hourMs,
    leaseExpired: false,
    notes,
    pieceMax: undefined,
    credential: "key",
    acceptances: 0,
    clockSteppedAtMs: undefined,
    emails: emails.map((one) => ({ ...one, history: addAttempts(one.history, notes.attempts) })),
    ...over,
  };
}

export const inDoubt: Partial<DecodedBatch> = { doubtSinceMs: nowMs - 300_000 };
/** Submitted longer than GIVE_UP_AFTER ago. */
export const old: EmailOver = { submittedAtMs: nowMs - 73 * hourMs };

export const outcomes = {
  accepted: { kind: "accepted", providerMessageId: "m" },
  rejected: { kind: "rejected", reason: "bad address", stable: true },
  unstable: { kind: "rejected", reason: "not today", stable: false },
  senderRefused: { kind: "senderRefused", reason: "not verified" },
  accountRefused: { kind: "accountRefused", reason: "bad key" },
  throttled: { kind: "throttled", reason: "slow down" },
  unavailable: { kind: "unavailable", reason: "refused", own: false },
  maintenance: { kind: "unavailable", reason: "503", own: true },
  unknown: { kind: "unknown", reason: "reset", own: false },
  serverError: { kind: "unknown", reason: "500", own: true },
  partlyRefused: { kind: "unknown", reason: "inactive", own: true, isRefusal: true },
  keyReused: { kind: "keyReused", reason: "other bytes" },
  named: { kind: "senderRefused", reason: "not verified", domain: "example.org" },
} as const satisfies Record<
  Outcome["kind"] | "unstable" | "maintenance" | "serverError" | "partlyRefused" | "named",
  Outcome
>;

export type OutcomeName = keyof typeof outcomes;

export function whole(name: Exclude<OutcomeName, "accepted">): Result {
  return { kind: "whole", outcome: outcomes[name] };
}

export function each(...names: OutcomeName[]): Result {
  return { kind: "each", outcomes: names.map((name) => outcomes[name]) };
}

export function searched(...found: string[]): Result {
  return { kind: "searched", found: new Map(found.map((id) => [id, `m-${id}`])) };
}

export function inputOf(given: DecodedBatch, under = policy, atMs = nowMs, random = 0.5): DecisionInput {
  return { batch: given, policy: under, nowMs: atMs, random };
}

export function decided(given: DecodedBatch, result: Result, under = policy, random = 0.5): Decision {
  return decide(result, inputOf(given, under, nowMs, random));
}

/** Describes a decision in words: the fate of each email, then the rest. */
export function describeDecision({ settlement: { fates, rest } }: Decision): string {
  const words = fates.map((fate) => {
    switch (fate.kind) {
      case "sent":
        return `${fate.id} sent`;
      case "due":
        return `${fate.id} due ${fate.only ?? "any"} ${fate.delayMs}${fate.pieceMax === undefined ? "" : ` in ${fate.pieceMax}`}`;
      case "dead":
        return `${fate.id} dead: ${decodeHistory(fate.history).deadReason}`;
    }
  });
  return [...words, ...(rest === undefined ? [] : [`rest ${rest.delayMs}`])].join("; ");
}

export function historyOf(decision: Decision, id: string): History {
  const fate = decision.settlement.fates.find((one) => one.id === id);
  if (fate === undefined || fate.kind === "sent") throw new Error(`no history of ${id}`);
  return decodeHistory(fate.history);
}

const senders = ["shop@example.com", "news@example.com", "me@example.org"];

export const anyHistory: fc.Arbitrary<History> = fc.record(
  {
    attempts: fc.nat({ max: 25 }).map((total) => ({
      kept: Array.from({ length: Math.min(total, 20) }, (_, index) => ({
        provider: "resend",
        atMs: index,
        outcome: "unavailable" as const,
        reason: "down",
      })),
      total,
    })),
    tries: fc.nat({ max: 60 }),
    refusedBy: fc.subarray(["resend", "postmark"]),
    doubted: fc.boolean(),
    replayedAtMs: fc.constantFrom(nowMs - 2_000, nowMs - 90 * hourMs),
  },
  { requiredKeys: ["attempts", "tries", "refusedBy", "doubted"] },
);

export const anyEmails: fc.Arbitrary<DecodedEmail[]> = fc
  .array(
    fc.record({
      from: fc.constantFrom(...senders),
      submittedAtMs: fc.constantFrom(nowMs - 1_000, nowMs - 100 * hourMs),
      history: anyHistory,
      marked: fc.boolean(),
      files: fc.constantFrom({}, fileOf(10), fileOf(4_000_000)),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((all) => all.map(({ files, ...one }, index) => email(`e${index}`, { ...one, ...files })));

export const anyBatch: fc.Arbitrary<DecodedBatch> = fc
  .record({
    emails: anyEmails,
    doubtAgeMs: fc.option(fc.nat({ max: 23 * hourMs }), { nil: undefined }),
    lapsed: fc.boolean(),
    pieceMax: fc.constantFrom(undefined, 1, 8, 100),
    acceptances: fc.nat({ max: 3 }),
    strikes: fc.nat({ max: 9 }),
    isBlamed: fc.boolean(),
    looks: fc.nat({ max: 3 }),
    failures: fc.nat({ max: 100 }),
    attempts: anyHistory.map(({ attempts }) => attempts),
  })
  .map(({ emails, doubtAgeMs, lapsed, looks, failures, attempts, strikes, isBlamed, ...over }) =>
    batch(emails, {
      ...over,
      doubtSinceMs: doubtAgeMs === undefined ? undefined : nowMs - doubtAgeMs,
      leaseExpired: lapsed,
      notes:
        doubtAgeMs === undefined ? noNotes : { ...noNotes, attempts, looks, failures, strikes, isBlamed },
    }),
  );

export const anyName = fc.constantFrom(...(Object.keys(outcomes) as OutcomeName[]));
const anyWholeName = anyName.filter((name) => name !== "accepted") as fc.Arbitrary<
  Exclude<OutcomeName, "accepted">
>;

/** Results that fit any batch of {@link anyEmails}; an answer may omit emails. */
export const anyResult: fc.Arbitrary<Result> = fc.oneof(
  anyWholeName.map(whole),
  fc.array(anyName, { minLength: 12, maxLength: 12 }).map((names) => each(...names)),
  fc.array(anyName, { maxLength: 12 }).map((names) => each(...names)),
  fc.subarray(Array.from({ length: 12 }, (_, index) => `e${index}`)).map((found) => searched(...found)),
  fc
    .constantFrom("accountRefused" as const, "throttled" as const, "unavailable" as const, "unknown" as const)
    .map((name): Result => ({ kind: "failed", outcome: outcomes[name] })),
  fc.constant<Result>({ kind: "ended" }),
  fc.nat({ max: 5_000 }).map((delayMs): Result => ({ kind: "untouched", delayMs })),
);

export const anyRandom = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
