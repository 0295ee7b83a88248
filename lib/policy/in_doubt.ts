// A batch of which a provider may have accepted emails. It stays whole, with that provider, under its key, until
// an answer accounts for it, a search does, or its time is over. Waiting is never a sleep inside a lease: it is a
// later due time, and what has been found out so far is in the notes.
//
// One exception: if the provider keeps failing at a batch of several emails while it accepts others, one of these emails
// is probably to blame. The batch is split, so that the others do not wait for most of a day.

import { addAttempt, type AttemptEnd } from "./attempts.ts";
import { backoffMs } from "./backoff.ts";
import { isInDoubt, type DecodedBatch, type DecodedEmail } from "./batch.ts";
import { compose, type Decision, type Policy, type Verdict } from "./decision.ts";
import { encodeNotes, type Notes } from "./history.ts";
import type { Outcome, SearchResult } from "./request_outcome.ts";
import { healthOf } from "./provider_health.ts";
import {
  resendAfterDoubt,
  giveUpInDoubt,
  isLate,
  isOtherCredential,
  markSent,
  type DecisionInput,
} from "./email_fate.ts";

/** Searches that found nothing, each believed, after which the rest is sent again. */
const looksNeeded = 2;
/** Between two looks: a sixth of the wait, but no more than 15 s and no less than 50 ms. */
const lookGapMaxMs = 15_000;
const lookGapMinMs = 50;
/** Between two attempts under the same key. */
const attemptGapMaxMs = 30_000;
/** Failed attempts under its key before a batch may be split. */
const strikesNeeded = 5;
/** Before a batch is claimed again whose doubt housekeeping has to end, or whose clock it has not looked at yet, ms. */
const endedDelayMs = 2000;

/** The provider did not say what it accepted: all emails stay, or those without a verdict, until later. */
export function keepInDoubt(
  outcome: Exclude<Outcome, { kind: "accepted" }>,
  setting: DecisionInput,
  verdicts: readonly Verdict[] = [],
): Decision {
  const { batch } = setting;
  const provider = batch.provider;
  const health = healthOf([outcome]);
  const notes = afterFailure(outcome, setting);
  const [only] = batch.emails;
  if (only !== undefined && batch.emails.length === 1 && endsInDoubt(only, notes, setting)) {
    const verdict = giveUpInDoubt(only, outcome.kind, outcome.reason, setting);
    return compose({ provider, verdicts: [verdict], health });
  }
  if (isToBeSplit(notes, setting)) {
    return { ...splitInDoubt({ ...setting, batch: { ...batch, notes } }), health };
  }
  return compose({
    provider,
    verdicts,
    rest: rest(notes, retryDelayMs(outcome, notes, setting), setting),
    counts: isInDoubt(batch) ? {} : { unknown: batch.emails.length - verdicts.length },
    health,
    throttled: outcome.kind === "throttled",
  });
}

function afterFailure(outcome: Exclude<Outcome, { kind: "accepted" }>, setting: DecisionInput): Notes {
  const { batch, policy } = setting;
  const before = batch.notes;
  const isSearch = policy.search !== undefined && isInDoubt(batch);
  const isStrike = !isSearch && mayBeAnEmails(outcome);
  const isOwnBaseline = before.baseline?.credential === policy.credential;
  const baseline =
    before.strikes === 0 || isOwnBaseline
      ? before.baseline
      : { credential: policy.credential, acceptances: batch.acceptances };
  return {
    ...noted(outcome.kind, outcome.reason, setting),
    failures: before.failures + (outcome.kind === "throttled" ? 0 : 1),
    strikes: before.strikes + (isStrike ? 1 : 0),
    ...(baseline !== undefined && { baseline }),
    isBlamed: isSearch ? before.isBlamed : isStrike && policy.question !== "none",
  };
}

/**
 * Whether one of the emails may have caused it. A refused sender counts too: the request can never succeed as it is, and
 * its bytes cannot change under the same key.
 */
function mayBeAnEmails(outcome: Outcome): boolean {
  const { kind } = outcome;
  return (kind === "unknown" && !outcome.isAtWork) || kind === "senderRefused" || kind === "rejected";
}

/** Whether a lone email is given up while in doubt. One that can be searched for is given up after the search instead. */
function endsInDoubt(email: DecodedEmail, { isBlamed }: Notes, setting: DecisionInput): boolean {
  if (email.marked || setting.policy.search !== undefined) return false;
  return isInDoubt(setting.batch) && isBlamed && isLate(email, setting);
}

/** Whether a claim finds that there is evidence by now: no further attempt is needed. */
export function isDueToSplit(batch: DecodedBatch, policy: Policy, nowMs: number): boolean {
  return isToBeSplit(batch.notes, { batch, policy, nowMs });
}

/** The emails are sent again, by any provider, as possible duplicates. */
export function splitInDoubt(setting: DecisionInput): Decision {
  const { batch } = setting;
  const why = "split: the provider accepts other emails, but does not answer for this batch";
  const verdicts = batch.emails.map((email) =>
    resendAfterDoubt(email, "doubtEnded", batch.emails.length, setting, why),
  );
  return compose({ provider: batch.provider, verdicts, counts: { doubts_split: 1 }, health: "none" });
}

/**
 * Five failures that one email may have caused, for long enough, while the provider worked: it accepted others, or said
 * itself, under this very key, that it refuses a sender.
 */
function isToBeSplit(
  { strikes, baseline, attempts }: Notes,
  { batch, policy, nowMs }: Omit<DecisionInput, "random">,
): boolean {
  if (policy.search !== undefined || batch.emails.length === 1 || strikes < strikesNeeded) return false;
  if (batch.doubtSinceMs === undefined || nowMs - batch.doubtSinceMs < policy.splitAfterMs) return false;
  if (attempts.kept.at(-1)?.outcome === "senderRefused") return true;
  return baseline?.credential === policy.credential && batch.acceptances > baseline.acceptances;
}

/** A search. What it finds is sent at once; the rest is given up only after looks that can be believed. */
export function decideSearch(result: SearchResult, setting: DecisionInput): Decision {
  switch (result.kind) {
    case "failed":
      return keepInDoubt(result.outcome, setting);
    case "searched":
      return looked(result.found, setting);
  }
}

/** The time for doubt is over. */
export function endDoubtOf(setting: DecisionInput): Decision {
  const { batch } = setting;
  const verdicts = batch.emails.map((email) =>
    resendAfterDoubt(email, "doubtEnded", batch.emails.length, setting),
  );
  return compose({ provider: batch.provider, verdicts, health: "none" });
}

/** In doubt, and nothing was begun under this lease: whoever claims it next goes on from the same point. */
export function postpone(delayMs: number, setting: DecisionInput): Decision {
  const { batch } = setting;
  return compose({
    provider: batch.provider,
    verdicts: [],
    rest: rest(batch.notes, delayMs, setting),
    health: "none",
  });
}

function looked(found: ReadonlyMap<string, string>, setting: DecisionInput): Decision {
  const { batch } = setting;
  const provider = batch.provider;
  const verdicts: Verdict[] = [];
  const missing = batch.emails.filter((email) => {
    const messageId = found.get(email.id);
    if (messageId !== undefined) verdicts.push(markSent(email, messageId, "recalled", setting));
    return messageId === undefined;
  });
  if (missing.length === 0) return compose({ provider, verdicts, health: "none" });

  const notes = withAccount(noted("notFound", undefined, setting), setting);
  const looks = notes.looks + (isBelieved(notes, setting) ? 1 : 0);
  const after: DecisionInput = { ...setting, batch: { ...batch, notes } };
  if (looks >= looksNeeded || missing.every(({ marked }) => marked)) {
    const lost = missing.map((email) => resendAfterDoubt(email, "notFound", missing.length, after));
    return compose({ provider, verdicts: [...verdicts, ...lost], health: "none" });
  }
  return compose({
    provider,
    verdicts,
    rest: rest({ ...notes, looks, failures: 0 }, lookDelayMs(setting), setting),
    health: "none",
  });
}

/** The account that the batch was sent from is known once it has been searched under its own credential. */
function withAccount(notes: Notes, { batch, policy }: DecisionInput): Notes {
  if (policy.account === undefined || isOtherCredential(batch, policy)) return notes;
  return { ...notes, account: policy.account };
}

/**
 * An empty search counts if its claim came `searchWaitMs` after the doubt was recorded, or after a later step of the
 * store's clock, and if it searched the account that the batch was sent from.
 */
function isBelieved(notes: Notes, { batch, policy }: DecisionInput): boolean {
  if (isOtherCredential(batch, policy) && (notes.account === undefined || notes.account !== policy.account))
    return false;
  return (
    policy.search !== undefined && batch.claimedAtMs >= believedFromMs(batch, policy.search.searchWaitMs)
  );
}

function believedFromMs(
  { claimedAtMs, doubtSinceMs, clockSteppedAtMs }: DecodedBatch,
  waitMs: number,
): number {
  const sinceMs = doubtSinceMs ?? claimedAtMs;
  const steppedMs = clockSteppedAtMs ?? -Infinity;
  return (steppedMs <= claimedAtMs ? Math.max(sinceMs, steppedMs) : sinceMs) + waitMs;
}

/** To the first look that will be believed or, once that was possible, to another soon after. */
function lookDelayMs({ batch, policy, nowMs }: DecisionInput): number {
  const searchWaitMs = policy.search?.searchWaitMs ?? 0;
  const waitMs = believedFromMs(batch, searchWaitMs) - nowMs;
  // A little more than the wait: a look that is a moment early would not count.
  if (waitMs > 0) return waitMs + lookGapMinMs;
  return Math.max(lookGapMinMs, Math.min(searchWaitMs / 6, lookGapMaxMs));
}

function retryDelayMs(outcome: Pick<Outcome, "kind">, notes: Notes, setting: DecisionInput): number {
  const { batch, policy, random } = setting;
  if (!isInDoubt(batch) && policy.search !== undefined) return policy.search.firstLookMs;
  // How long a throttled one has to wait is known to the rate limiter, and is no failure of its own.
  const attempt = outcome.kind === "throttled" ? 1 : notes.failures;
  const delayMs = backoffMs({ attempt, baseMs: policy.retryBaseMs, maxMs: policy.retryMaxMs, random });
  const leftMs = untilSplitMs(notes, setting);
  // Enough attempts have failed: another one that hangs would only put the split off.
  if (notes.strikes >= strikesNeeded && leftMs <= attemptGapMaxMs) return leftMs;
  return Math.min(delayMs, attemptGapMaxMs, leftMs);
}

/** Longest wait that allows the attempts that a split needs before it is due; then the wait until it is due. */
function untilSplitMs({ strikes }: Notes, { batch, policy, nowMs }: DecisionInput): number {
  if (policy.search !== undefined || batch.emails.length === 1) return Infinity;
  if (strikes < strikesNeeded) return policy.splitAfterMs / strikesNeeded;
  const leftMs = (batch.doubtSinceMs ?? nowMs) + policy.splitAfterMs - nowMs;
  return leftMs > 0 ? leftMs + lookGapMinMs : Infinity;
}

/** Due again no later than the end of doubt; after that, housekeeping ends the doubt, unless the clock is doubted. */
function rest(
  notes: Notes,
  delayMs: number,
  { batch, nowMs }: DecisionInput,
): { delayMs: number; notes: string } {
  const leftMs = batch.doubtEndsAtMs - nowMs;
  const afterMs = batch.clockSteppedAtMs === undefined ? endedDelayMs : delayMs;
  const boundedMs = leftMs > 0 ? Math.min(delayMs, leftMs) : afterMs;
  return { delayMs: Math.ceil(boundedMs), notes: encodeNotes(notes) };
}

function noted(end: AttemptEnd, reason: string | undefined, { batch, nowMs }: DecisionInput): Notes {
  const attempt = {
    provider: batch.provider,
    atMs: nowMs,
    outcome: end,
    ...(reason !== undefined && { reason }),
  };
  return { ...batch.notes, attempts: addAttempt(batch.notes.attempts, attempt) };
}
