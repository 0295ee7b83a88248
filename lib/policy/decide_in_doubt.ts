// A batch of which a provider may have accepted emails. It stays whole, with that provider, under its key, until an
// answer or a search accounts for it, or the time for its doubt is over. Waiting is a later due time, never a sleep
// inside a lease.
//
// One exception: if the provider keeps failing at a batch of several emails while it accepts others, one of these emails
// is probably to blame. The batch is split, so that the others do not wait for most of a day.

import { type DecodedBatch, isInDoubt } from "./batch.ts";
import type { DecisionInput, Ruling, Verdict } from "./decision.ts";
import { backoff, isLate, isOtherCredential, markDead, markSent } from "./decide_email.ts";
import { resendAfterDoubt, withAttempt, withHistory } from "./decide_email.ts";
import { addAttempts, encodeMemory, type Notes } from "./history.ts";
import type { FailedOutcome } from "./request_outcome.ts";

/** Emails that were not found are sent again after this many searches that count. */
const searchesNeeded = 2;
/** Delay from an unknown outcome to the first search, ms. */
const firstSearchMs = 1000;
/** Bounds of the delay between two searches, which is a sixth of `searchWaitMs`, ms. */
const searchGapMaxMs = 15_000;
const searchGapMinMs = 50;
/** Longest delay between two attempts under the same key, ms. */
const attemptGapMaxMs = 30_000;
/** Failed attempts under its key before a batch may be split. */
const strikesNeeded = 5;
/** Delay of a batch whose time for doubt is over: housekeeping ends the doubt before the next claim, ms. */
const endedDelayMs = 2000;

/** The provider did not say what it accepted: the emails without a verdict stay in the batch until later. */
export function keepInDoubt(
  outcome: FailedOutcome,
  input: DecisionInput,
  verdicts: readonly Verdict[] = [],
  refusals: Notes["refusals"] = [],
): Ruling {
  const { batch, policy } = input;
  const { kind, reason } = outcome;
  const notes = { ...afterFailure(outcome, input), ...(refusals.length > 0 && { refusals }) };
  const emails = batch.emails.map((email) => withAttempt(email, kind, reason, input));
  const [only, ...others] = emails;
  // A single email is given up while in doubt. If it can be searched for, it is given up only after the search.
  const mayEnd = policy.searchWaitMs === undefined && isInDoubt(batch) && notes.isBlamed;
  if (mayEnd && only !== undefined && others.length === 0 && !only.marked && isLate(only, input)) {
    return { verdicts: [markDead(withHistory(only, { doubted: true }), "gaveUp", reason)] };
  }
  if (shouldSplit(notes, input)) return splitInDoubt({ ...input, batch: { ...batch, emails } });
  return {
    verdicts,
    rest: restUntil(retryDelayMs(outcome, notes, input), notes, input),
    counts: isInDoubt(batch) ? {} : { unknown: batch.emails.length - verdicts.length },
  };
}

function afterFailure(outcome: FailedOutcome, { batch, policy, nowMs }: DecisionInput): Notes {
  const { kind, reason } = outcome;
  const before = batch.notes;
  const isSearch = policy.searchWaitMs !== undefined && isInDoubt(batch);
  // Whether an email may have caused the failure. A refused sender counts too: the request can never succeed as it is,
  // and its bytes cannot change under the same key.
  const mayBeCausedByEmail =
    (kind === "unknown" && !outcome.isAtWork) || kind === "senderRefused" || kind === "rejected";
  const isStrike = !isSearch && mayBeCausedByEmail;
  const keepsBaseline = before.strikes === 0 || before.baseline?.credential === policy.credential;
  const attempt = { provider: batch.provider, atMs: nowMs, outcome: kind, reason };
  return {
    ...addAttempts(before, { kept: [attempt], total: 1 }),
    failures: before.failures + (kind === "throttled" ? 0 : 1),
    strikes: before.strikes + (isStrike ? 1 : 0),
    baseline: keepsBaseline
      ? before.baseline
      : { credential: policy.credential, acceptances: batch.acceptances },
    isBlamed: isSearch ? before.isBlamed : isStrike && policy.question !== "none",
  };
}

/**
 * True after five failures that one email may have caused, if the doubt has lasted long enough and the provider works:
 * it has accepted other emails meanwhile, or has just refused a sender in this batch.
 */
export function shouldSplit(
  { strikes, baseline, attempts }: Notes,
  { batch, policy, nowMs }: DecisionInput,
): boolean {
  if (policy.searchWaitMs !== undefined || batch.emails.length === 1 || strikes < strikesNeeded) return false;
  if (batch.doubtSinceMs === undefined || nowMs - batch.doubtSinceMs < policy.doubtSplitAfterMs) return false;
  if (attempts.kept.at(-1)?.outcome === "senderRefused") return true;
  return baseline?.credential === policy.credential && batch.acceptances > baseline.acceptances;
}

/** The emails are sent again, by any provider, as possible duplicates. */
export function splitInDoubt(input: DecisionInput): Ruling {
  const why = "split: the provider works, but does not account for this batch";
  return { ...endDoubt(input, why), counts: { doubts_split: 1 } };
}

/** Ends the doubt without an answer: the emails are sent again, or given up. */
export function endDoubt(input: DecisionInput, why?: string): Ruling {
  const { emails } = input.batch;
  return {
    verdicts: emails.map((email) => resendAfterDoubt(email, "doubtEnded", emails.length, input, why)),
  };
}

/** No request was made under this lease: the next claim continues from the same point. */
export function postpone(delayMs: number, input: DecisionInput): Ruling {
  return { verdicts: [], rest: restUntil(delayMs, input.batch.notes, input) };
}

/**
 * A search was answered. Emails that it found were sent. After enough empty searches the others are sent again, except
 * those that the provider said it refused: now the refusal counts.
 */
export function decideSearch(found: ReadonlyMap<string, string>, input: DecisionInput): Ruling {
  const { batch, policy, nowMs } = input;
  const missing = batch.emails.filter(({ id }) => !found.has(id));
  const verdicts = batch.emails.flatMap((email) => {
    const messageId = found.get(email.id);
    if (messageId === undefined) return [];
    return [markSent(email, { providerMessageId: messageId }, "recalled", input)];
  });
  if (missing.length === 0) return { verdicts };

  // The account that the batch was sent from is known once it has been searched under its own credential.
  const account = isOtherCredential(batch, policy)
    ? batch.notes.account
    : (policy.account ?? batch.notes.account);
  const looks = batch.notes.looks + (doesSearchCount(account, input) ? 1 : 0);
  if (looks >= searchesNeeded || missing.every(({ marked }) => marked)) {
    const refusals = new Map(batch.notes.refusals.map(({ id, reason }) => [id, reason]));
    const lost = missing.map((email) => {
      const refusal = refusals.get(email.id);
      if (refusal === undefined || email.marked)
        return resendAfterDoubt(email, "notFound", missing.length, input);
      return markDead(withAttempt(email, "notFound", undefined, input), "rejected", refusal, ["rejected"]);
    });
    return { verdicts: [...verdicts, ...lost] };
  }
  const attempt = { provider: batch.provider, atMs: nowMs, outcome: "notFound" } as const;
  const notes = addAttempts({ ...batch.notes, account, looks, failures: 0 }, { kept: [attempt], total: 1 });
  return { verdicts, rest: restUntil(searchDelayMs(input), notes, input) };
}

/**
 * An empty search counts if its claim came `searchWaitMs` after the doubt was recorded, or after a later step of the
 * store's clock, and if it searched the account that the batch was sent from.
 */
function doesSearchCount(account: string | undefined, { batch, policy }: DecisionInput): boolean {
  const isSameAccount = account !== undefined && account === policy.account;
  if (isOtherCredential(batch, policy) && !isSameAccount) return false;
  return policy.searchWaitMs !== undefined && batch.nowMs >= countsFromMs(batch, policy.searchWaitMs);
}

function countsFromMs({ nowMs, doubtSinceMs, clockSteppedAtMs }: DecodedBatch, waitMs: number): number {
  const sinceMs = doubtSinceMs ?? nowMs;
  const steppedMs = clockSteppedAtMs ?? -Infinity;
  return (steppedMs <= nowMs ? Math.max(sinceMs, steppedMs) : sinceMs) + waitMs;
}

/** Delay until the first search that will count or, if that time has come, until the next search. */
function searchDelayMs({ batch, policy, nowMs }: DecisionInput): number {
  const { searchWaitMs = 0 } = policy;
  const waitMs = countsFromMs(batch, searchWaitMs) - nowMs;
  // A little more than the wait: a search that is a moment early would not count.
  if (waitMs > 0) return waitMs + searchGapMinMs;
  return Math.max(searchGapMinMs, Math.min(searchWaitMs / 6, searchGapMaxMs));
}

function retryDelayMs(outcome: FailedOutcome, notes: Notes, input: DecisionInput): number {
  const { batch, policy } = input;
  if (!isInDoubt(batch) && policy.searchWaitMs !== undefined) return firstSearchMs;
  // After throttling, the rate limit decides how long to wait.
  const delayMs = backoff(outcome.kind === "throttled" ? 1 : notes.failures, input);
  const leftMs = untilSplitMs(notes, input);
  // Enough attempts have failed: another one that hangs would only delay the split.
  if (notes.strikes >= strikesNeeded && leftMs <= attemptGapMaxMs) return leftMs;
  return Math.min(delayMs, attemptGapMaxMs, leftMs);
}

/** Longest delay that leaves time for the attempts that a split needs. After those, the delay until the split. */
function untilSplitMs({ strikes }: Notes, { batch, policy, nowMs }: DecisionInput): number {
  if (policy.searchWaitMs !== undefined || batch.emails.length === 1) return Infinity;
  if (strikes < strikesNeeded) return policy.doubtSplitAfterMs / strikesNeeded;
  const leftMs = (batch.doubtSinceMs ?? nowMs) + policy.doubtSplitAfterMs - nowMs;
  return leftMs > 0 ? leftMs + searchGapMinMs : Infinity;
}

/** Due again when doubt ends at the latest. After that, housekeeping ends it, unless the store's clock has stepped. */
function restUntil(
  delayMs: number,
  notes: Notes,
  { batch, nowMs }: DecisionInput,
): NonNullable<Ruling["rest"]> {
  const leftMs = batch.doubtEndsAtMs - nowMs;
  const afterMs = batch.clockSteppedAtMs === undefined ? endedDelayMs : delayMs;
  const boundedMs = leftMs > 0 ? Math.min(delayMs, leftMs) : afterMs;
  return { delayMs: Math.ceil(boundedMs), notes: encodeMemory(notes) };
}
