// The fate of one email once its outcome is certain, or can no longer be found out. While it is uncertain, the batch is
// decided as a whole, in decide_in_doubt.ts.

import { hasFiles } from "../email/email.ts";
import { backoffMs } from "./backoff.ts";
import { type DecodedBatch, type DecodedEmail, firstDueAtMs, isDoubtOver, isInDoubt } from "./batch.ts";
import type { Death, DecisionInput, Policy, Verdict } from "./decision.ts";
import { addAttempts, asDead, type AttemptEnd, encodeMemory, encodeRecord } from "./history.ts";
import { type History, noHistory } from "./history.ts";
import type { Acceptance, Outcome } from "./request_outcome.ts";

/**
 * Largest piece of a batch that may have failed because of one email. A piece that fails again is sent as single
 * emails: two rounds find the one at fault, where halving would take seven, each with its waits.
 */
const pieceMaxFirst = 8;

/** Size of the pieces in which the emails of a batch travel next, after `suspects` of them failed together. */
export function nextPieceMax(suspects: number): number {
  return suspects > pieceMaxFirst ? pieceMaxFirst : 1;
}

/**
 * After a certain outcome.
 * @param accountWorks the same answer accepted another email, so that a refusal of the account does not hold for all:
 *   the breaker stays closed, and this email has to wait like any that failed
 */
export function decideEmail(
  before: DecodedEmail,
  outcome: Exclude<Outcome, { kind: "unknown" }>,
  accountWorks: boolean,
  input: DecisionInput,
): Verdict {
  const { batch, policy, nowMs } = input;
  if (outcome.kind === "accepted") {
    // Perhaps a second time: another account does not know the key, and no provider knows it forever.
    const mayBeDuplicate =
      isInDoubt(batch) &&
      policy.searchWaitMs === undefined &&
      (isOtherCredential(batch, policy) || isDoubtOver(batch, nowMs));
    return { ...markSent(before, outcome, "accepted", input), mayBeDuplicate };
  }
  if (before.marked) return leaveToMark(before);
  const { kind, reason } = outcome;
  const email = withAttempt(before, kind, reason, input);
  switch (kind) {
    case "rejected":
      // Submissions are checked against all providers' known rules, but this one may have a rule that the next lacks.
      if (outcome.stable) return withCount("rejected", tryNextProvider(email, reason, input));
      return markDead(email, "rejected", reason, ["rejected"]);
    case "senderRefused": {
      const verdict = tryNextProvider(email, reason, input);
      return { ...withCount("rejected", verdict), refusedSender: email.email.from };
    }
    case "accountRefused": {
      const backsOff = accountWorks || batch.pieceMax !== undefined;
      const isBlamed = policy.question === "ok" && !outcome.isQuota;
      // These wait apart from emails that were not refused, so that the next probe is made with one of those.
      const apart = batch.emails.length;
      return retryOrGiveUp(email, { reason, backsOff, isBlamed, apart }, input);
    }
    case "throttled":
      return scheduleRetry(email, { delayMs: 0 }, input);
    case "unavailable":
      // An email may have caused the provider's own answer, but not a connection that was never made.
      return retryOrGiveUp(email, { reason, backsOff: true, isBlamed: outcome.own }, input);
    case "keyReused":
      return markDead(withHistory(email, { doubted: true }), "keyReused", reason);
  }
}

function withCount(name: string, verdict: Verdict): Verdict {
  return { ...verdict, counts: [...verdict.counts, name] };
}

/** Accepted, according to an answer or a search. */
export function markSent(
  email: DecodedEmail,
  { providerMessageId, note }: Omit<Acceptance, "kind">,
  end: "accepted" | "recalled",
  input: DecisionInput,
): Verdict {
  const { id: batchId, provider } = input.batch;
  const { id, history } = withAttempt(email, end, note, input);
  const record = encodeRecord({ batchId, provider, providerMessageId, atMs: input.nowMs, history });
  return { fate: { id, kind: "sent", record }, counts: ["accepted"], acceptedSender: email.email.from };
}

export function isOtherCredential({ credential }: DecodedBatch, policy: Policy): boolean {
  return credential !== policy.credential;
}

/**
 * Doubt has ended without an answer: the email is sent again rather than lost, by any provider, and apart from most of
 * its batch. The first time this happens at once, later with backoff, so that an email that ends in doubt after every
 * attempt arrives a few times too often, not thousands of times.
 * @param suspects emails of the batch whose outcome is unknown
 */
export function resendAfterDoubt(
  before: DecodedEmail,
  end: "notFound" | "doubtEnded",
  suspects: number,
  input: DecisionInput,
  why?: string,
): Verdict {
  if (before.marked) return leaveToMark(before);
  const { tries } = before.history;
  const email = withHistory(withAttempt(before, end, why, input), { doubted: true, tries: tries + 1 });
  if (suspects === 1 && input.batch.notes.isBlamed && isLate(email, input)) {
    const last = email.history.attempts.kept.findLast(({ reason }) => reason !== undefined);
    return markDead(email, "gaveUp", last?.reason ?? "no answer");
  }
  const when = { delayMs: tries === 0 ? 0 : backoff(tries, input), pieceMax: nextPieceMax(suspects) };
  return { ...scheduleRetry(email, when, input), mayBeDuplicate: true };
}

/** The email goes back to waiting. No retry is counted, since this email did not fail. */
export function giveBack(email: DecodedEmail, when: RetryTime, input: DecisionInput): Verdict {
  if (email.marked) return leaveToMark(email);
  return { ...scheduleRetry(email, when, input), counts: [] };
}

/** An email of the batch is at fault, not known to be this one: this one is sent again at once, with fewer others. */
export function splitOff(
  email: DecodedEmail,
  pieceMax: number,
  reason: string,
  input: DecisionInput,
): Verdict {
  return giveBack(withAttempt(email, "split", reason, input), { delayMs: 0, pieceMax }, input);
}

/**
 * This provider has refused the email before, or has just refused its sender. The email goes to another provider without
 * a request to this one, or becomes a dead letter if all have refused it.
 */
export function handOver(email: DecodedEmail, input: DecisionInput): Verdict {
  const isKnown = email.history.refusedBy.includes(input.batch.provider);
  const reason = isKnown ? "the provider has refused it before" : "the provider refuses this sender";
  const verdict = tryNextProvider(withAttempt(email, "handedOver", reason, input), reason, input);
  return verdict.death === undefined ? { ...verdict, counts: ["handed_over"] } : verdict;
}

/** The providers that may still take it once this batch's provider has refused it. */
export function othersFor(
  { history: { refusedBy } }: DecodedEmail,
  { batch, policy: { providers } }: DecisionInput,
): readonly string[] {
  return providers.filter((name) => name !== batch.provider && !refusedBy.includes(name));
}

function tryNextProvider(before: DecodedEmail, reason: string, input: DecisionInput): Verdict {
  const refusedBy = [...new Set([...before.history.refusedBy, input.batch.provider])];
  const email = withHistory(before, { refusedBy });
  const [only] = othersFor(email, input);
  if (only === undefined) return markDead(email, "refusedByAll", reason);
  return scheduleRetry(email, { delayMs: 0, only }, input);
}

/**
 * The email was accepted elsewhere while it was in this batch. The store ends it as sent whatever the fate says. The
 * fate is "dead" because that one would not send it again.
 */
export function leaveToMark({ id, history }: DecodedEmail): Verdict {
  return { fate: { id, kind: "dead", history: encodeMemory(history) }, counts: [] };
}

/** Its files are missing or damaged in the store. It is never sent without them. */
export function markFilesLost(email: DecodedEmail, { batch }: DecisionInput): Verdict {
  if (email.marked) return leaveToMark(email);
  const doubted = email.history.doubted || isInDoubt(batch);
  return markDead(withHistory(email, { doubted }), "unreadable", "its files cannot be read from the store");
}

/** An email that cannot be decoded would hold up its batch forever. Its text is kept. */
export function markUnreadable(id: string, { batch }: DecisionInput): Verdict {
  const history = { ...noHistory, doubted: isInDoubt(batch) };
  return markDead({ id, history }, "unreadable", "cannot be read from the store");
}

/** How the reason of a dead letter begins, after "outcome unknown" if that applies. */
const reasonPrefix: Readonly<Partial<Record<Death["cause"], string>>> = {
  refusedByAll: "refused by every provider: ",
  gaveUp: "gave up: ",
};

export function markDead(
  { id, history }: Pick<DecodedEmail, "id" | "history">,
  cause: Death["cause"],
  reason: string,
  counts: readonly string[] = [],
): Verdict {
  const dead = asDead(history, `${reasonPrefix[cause] ?? ""}${reason}`);
  return {
    fate: { id, kind: "dead", history: encodeMemory(dead) },
    counts: [...counts, "dead"],
    death: { id, cause, reason, outcomeUnknown: history.doubted },
  };
}

/**
 * The provider failed, or refused everything. After `GIVE_UP_AFTER` this ends an email if it traveled alone and the
 * provider had just answered a question, so that no outage, pause or rate limit ends one. A late email that traveled in
 * company travels alone next.
 */
function retryOrGiveUp(
  email: DecodedEmail,
  failure: { reason: string; backsOff: boolean; isBlamed: boolean; apart?: number },
  input: DecisionInput,
): Verdict {
  const { batch, policy } = input;
  const { reason, backsOff, isBlamed, apart } = failure;
  const suspects = batch.emails.length;
  const late = isLate(email, input);
  if (late && suspects === 1 && isBlamed && policy.question !== "none") {
    return markDead(email, "gaveUp", reason);
  }
  let pieceMax = batch.pieceMax ?? apart;
  if (backsOff && isBlamed && suspects > 1) pieceMax = nextPieceMax(suspects);
  if (late) pieceMax = 1;
  if (!backsOff) return scheduleRetry(email, { delayMs: 0, pieceMax }, input);
  const tries = email.history.tries + 1;
  return scheduleRetry(withHistory(email, { tries }), { delayMs: backoff(tries, input), pieceMax }, input);
}

interface RetryTime {
  readonly delayMs: number;
  /** Default: that of the batch from which it comes. */
  readonly pieceMax?: number | undefined;
  /** The one provider that may take it. */
  readonly only?: string;
}

/** Any provider may take it; if all but one have refused it, that one is named, to save the others a claim. */
function scheduleRetry({ id, email, history }: DecodedEmail, when: RetryTime, input: DecisionInput): Verdict {
  const { batch, policy } = input;
  const { delayMs } = when;
  // An email that this provider takes only alone must not join a batch again.
  const pieceMax = hasFiles(email) && !policy.batchesFiles ? 1 : (when.pieceMax ?? batch.pieceMax);
  const left = policy.providers.filter((name) => !history.refusedBy.includes(name));
  const only = when.only ?? (left.length === 1 && history.refusedBy.length > 0 ? left[0] : undefined);
  return {
    fate: {
      id,
      kind: "due",
      delayMs,
      ...(only !== undefined && { only }),
      ...(pieceMax !== undefined && { pieceMax }),
      history: encodeMemory(history),
    },
    counts: ["retried"],
  };
}

/** @param attempt attempts that failed, 1-based */
export function backoff(attempt: number, { policy, random }: DecisionInput): number {
  return backoffMs({ attempt, baseMs: policy.retryBaseMs, maxMs: policy.retryMaxMs, random });
}

/**
 * First due, or last retried by an operator, so long ago that a failure may end it. For an hour after a step of the
 * store's clock no email is late, since ages cannot be trusted.
 */
export function isLate(email: DecodedEmail, { batch, policy, nowMs }: DecisionInput): boolean {
  if (batch.clockSteppedAtMs !== undefined) return false;
  return nowMs - (email.history.replayedAtMs ?? firstDueAtMs(email)) >= policy.giveUpAfterMs;
}

/** The email, with the attempt that has just ended. */
export function withAttempt(
  email: DecodedEmail,
  outcome: AttemptEnd,
  reason: string | undefined,
  { batch: { provider }, nowMs: atMs }: DecisionInput,
): DecodedEmail {
  const attempts = { kept: [{ provider, atMs, outcome, reason }], total: 1 };
  return { ...email, history: addAttempts(email.history, attempts) };
}

export function withHistory(email: DecodedEmail, change: Partial<History>): DecodedEmail {
  return { ...email, history: { ...email.history, ...change } };
}
