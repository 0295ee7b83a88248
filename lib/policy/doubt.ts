// A batch of which a provider may have accepted emails. It stays whole, with that provider, under its key, until
// an answer accounts for it, a search does, or its time is over. Waiting is never a sleep inside a lease: it is a
// later due time, and what has been found out so far is in the notes.

import { addAttempt, type AttemptEnd } from "./attempts.ts";
import { backoffMs } from "./backoff.ts";
import { isInDoubt, type OpenBatch } from "./batch.ts";
import { compose, type Decision, type RecallPolicy, type Verdict } from "./decision.ts";
import { encodeNotes, type Notes } from "./history.ts";
import type { Outcome, RecallResult } from "./outcome.ts";
import { signOf } from "./sign.ts";
import { doubtEnded, sent, type Setting } from "./verdict.ts";

/** Searches that found nothing, each believed, after which the rest is sent again. */
const looksNeeded = 2;
/** Between two looks: a sixth of the wait, but no more than 15 s and no less than 50 ms. */
const lookGapMaxMs = 15_000;
const lookGapMinMs = 50;

/** The provider did not say what it accepted: all emails stay, or those without a verdict, until later. */
export function stays(
  outcome: Exclude<Outcome, { kind: "accepted" }>,
  setting: Setting,
  verdicts: readonly Verdict[] = [],
): Decision {
  const { batch } = setting;
  const wasInDoubt = isInDoubt(batch);
  const notes = noted(outcome.kind, outcome.reason, setting);
  const failures = notes.failures + (outcome.kind === "throttled" ? 0 : 1);
  return compose({
    provider: batch.provider,
    verdicts,
    rest: rest({ ...notes, failures }, retryDelayMs(outcome, failures, setting), setting),
    counts: wasInDoubt ? {} : { unknown: batch.emails.length - verdicts.length },
    health: signOf([outcome]),
    throttled: outcome.kind === "throttled",
    failedAgain: wasInDoubt,
  });
}

/** A search. What it finds is sent at once; the rest is given up only after looks that can be believed. */
export function recalled(result: RecallResult, setting: Setting): Decision {
  switch (result.kind) {
    case "failed":
      return stays(result.outcome, setting);
    case "looked":
      return looked(result.found, setting);
  }
}

/** The time for doubt is over. */
export function ended(setting: Setting): Decision {
  const { batch } = setting;
  const verdicts = batch.emails.map((email) => doubtEnded(email, "doubtEnded", setting));
  return compose({ provider: batch.provider, verdicts, health: "none" });
}

/** In doubt, and nothing was begun under this lease: whoever claims it next goes on from the same point. */
export function postponed(delayMs: number, setting: Setting): Decision {
  const { batch } = setting;
  return compose({
    provider: batch.provider,
    verdicts: [],
    rest: rest(batch.notes, delayMs, setting),
    health: "none",
  });
}

function looked(found: ReadonlyMap<string, string>, setting: Setting): Decision {
  const { batch, policy } = setting;
  const provider = batch.provider;
  const verdicts: Verdict[] = [];
  const missing = batch.emails.filter((email) => {
    const messageId = found.get(email.id);
    if (messageId !== undefined) verdicts.push(sent(email, messageId, "recalled", setting));
    return messageId === undefined;
  });
  if (missing.length === 0) return compose({ provider, verdicts, health: "success" });

  const notes = noted("notFound", undefined, setting);
  const looks = notes.looks + (isBelieved(batch, policy.recall) ? 1 : 0);
  const after: Setting = { ...setting, batch: { ...batch, notes } };
  if (looks >= looksNeeded || missing.every(({ marked }) => marked)) {
    const lost = missing.map((email) => doubtEnded(email, "notFound", after));
    return compose({ provider, verdicts: [...verdicts, ...lost], health: "success" });
  }
  return compose({
    provider,
    verdicts,
    rest: rest({ ...notes, looks, failures: 0 }, lookDelayMs(setting), setting),
    health: "success",
    failedAgain: true,
  });
}

/** Patience counts by the store's clock, from the record of the doubt to the claim under which the look was made. */
function isBelieved({ claimedAtMs, doubtSinceMs }: OpenBatch, recall: RecallPolicy | undefined): boolean {
  return recall !== undefined && claimedAtMs >= (doubtSinceMs ?? claimedAtMs) + recall.searchWaitMs;
}

/** To the first look that will be believed or, once that was possible, to another soon after. */
function lookDelayMs({ batch, policy, nowMs }: Setting): number {
  const searchWaitMs = policy.recall?.searchWaitMs ?? 0;
  const waitMs = (batch.doubtSinceMs ?? batch.claimedAtMs) + searchWaitMs - nowMs;
  // A little more than the wait: a look that is a moment early would not count.
  if (waitMs > 0) return waitMs + lookGapMinMs;
  return Math.max(lookGapMinMs, Math.min(searchWaitMs / 6, lookGapMaxMs));
}

function retryDelayMs(outcome: Pick<Outcome, "kind">, failures: number, setting: Setting): number {
  const { batch, policy, random } = setting;
  if (!isInDoubt(batch) && policy.recall !== undefined) return policy.recall.firstLookMs;
  // How long a throttled one has to wait is known to the rate limiter, and is no failure of its own.
  const attempt = outcome.kind === "throttled" ? 1 : failures;
  return backoffMs({ attempt, baseMs: policy.retryBaseMs, maxMs: policy.retryMaxMs, random });
}

/** Never later than the end of doubt, when it has to be looked at in any case. */
function rest(notes: Notes, delayMs: number, { batch, nowMs }: Setting): { delayMs: number; notes: string } {
  const leftMs = Math.max(0, batch.doubtEndsAtMs - nowMs);
  return { delayMs: Math.ceil(Math.min(delayMs, leftMs)), notes: encodeNotes(notes) };
}

function noted(end: AttemptEnd, reason: string | undefined, { batch, nowMs }: Setting): Notes {
  const attempt = {
    provider: batch.provider,
    atMs: nowMs,
    outcome: end,
    ...(reason !== undefined && { reason }),
  };
  return { ...batch.notes, attempts: addAttempt(batch.notes.attempts, attempt) };
}
