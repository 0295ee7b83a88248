// What becomes of one email once what happened to it is certain, or once nobody will find out any more. That it is
// still uncertain is never decided email by email: that is in_doubt.ts.

import { addAttempt, type AttemptEnd } from "./attempts.ts";
import { backoffMs } from "./backoff.ts";
import { isDoubtOver, isInDoubt, type DecodedBatch, type DecodedEmail } from "./batch.ts";
import type { Death, Policy, Verdict } from "./decision.ts";
import { asDead, encodeHistory, encodeRecord, type History, withNotes } from "./history.ts";
import type { Outcome } from "./request_outcome.ts";

/** All that a verdict depends on besides the email and what happened to it. */
export interface DecisionInput {
  readonly batch: DecodedBatch;
  readonly policy: Policy;
  /** The store's time, Unix ms. */
  readonly nowMs: number;
  /** In [0, 1). One for a whole decision: emails that failed together come back together, as one batch. */
  readonly random: number;
}

export type CertainOutcome = Exclude<Outcome, { kind: "unknown" }>;

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
 * @param accountWorks the same answer accepted another email. What it says of the account then does not hold for
 *   all: the breaker stays closed, and so this email has to wait like any that failed.
 */
export function decideEmail(
  email: DecodedEmail,
  outcome: CertainOutcome,
  accountWorks: boolean,
  setting: DecisionInput,
): Verdict {
  if (outcome.kind === "accepted") {
    const verdict = markSent(email, outcome.providerMessageId, "accepted", setting);
    return mayBeSecond(setting) ? { ...verdict, mayBeDuplicate: true } : verdict;
  }
  if (email.marked) return leaveToMark(email);
  const { kind, reason } = outcome;
  const { question } = setting.policy;
  const history = tried(email, kind, reason, setting);
  switch (kind) {
    case "rejected":
      return markDead(email, history, { cause: "rejected", reason, counts: ["rejected"] });
    case "senderRefused": {
      const verdict = refusedHere(email, history, reason, setting);
      return { ...verdict, counts: [...verdict.counts, "rejected"], refusedSender: email.from };
    }
    case "accountRefused":
      // Apart from emails that were not refused: the next probe is made with one of those.
      return failed(
        email,
        history,
        reason,
        {
          backsOff: accountWorks || setting.batch.pieceMax !== undefined,
          isBlamed: question === "ok" && !outcome.isQuota,
          apart: setting.batch.emails.length,
        },
        setting,
      );
    case "throttled":
      return scheduleRetry(email, history, { delayMs: 0 }, setting);
    case "unavailable":
      // An email may have caused the provider's own answer, but not a connection that was never made.
      return failed(email, history, reason, { backsOff: true, isBlamed: outcome.own }, setting);
    case "keyReused":
      return markDead(email, { ...history, doubted: true }, { cause: "keyReused", reason });
  }
}

/** Accepted, as an answer or a search (`end`) says. */
export function markSent(
  email: DecodedEmail,
  providerMessageId: string,
  end: "accepted" | "recalled",
  setting: DecisionInput,
): Verdict {
  const { batch, nowMs } = setting;
  const record = encodeRecord({
    batchId: batch.id,
    provider: batch.provider,
    providerMessageId,
    atMs: nowMs,
    history: tried(email, end, undefined, setting),
  });
  return { fate: { id: email.id, kind: "sent", record }, counts: ["accepted"], acceptedSender: email.from };
}

/** Accepted a second time, perhaps: another account does not know the idempotency key, and nobody knows it for ever. */
function mayBeSecond({ batch, policy, nowMs }: DecisionInput): boolean {
  if (!isInDoubt(batch) || policy.search !== undefined) return false;
  return isOtherCredential(batch, policy) || isDoubtOver(batch, nowMs);
}

export function isOtherCredential({ credential }: DecodedBatch, policy: Policy): boolean {
  return credential !== "" && credential !== policy.credential;
}

/**
 * Doubt ends without an answer: sent again rather than lost, by any provider, and apart from most of those that it was
 * in doubt with. At once the first time; later times back off, so that an email which ends in doubt at every attempt
 * arrives a few times too often, not thousands of times.
 * @param suspects emails of the batch that nobody knows about
 */
export function resendAfterDoubt(
  email: DecodedEmail,
  end: "notFound" | "doubtEnded",
  suspects: number,
  setting: DecisionInput,
  why?: string,
): Verdict {
  if (email.marked) return leaveToMark(email);
  const { notes } = setting.batch;
  const history = end === "doubtEnded" ? tried(email, end, why, setting) : inherited(email, setting);
  const doubted = { ...history, doubted: true, tries: history.tries + 1 };
  if (suspects === 1 && notes.isBlamed && isLate(email, setting)) {
    return markDead(email, doubted, { cause: "gaveUp", reason: lastReason(history) });
  }
  const delayMs = history.tries === 0 ? 0 : backoff(history.tries, setting);
  const pieceMax = nextPieceMax(suspects);
  return { ...scheduleRetry(email, doubted, { delayMs, pieceMax }, setting), mayBeDuplicate: true };
}

/** A late, lone email in doubt that failed at a provider which answers questions: given up, its outcome unknown. */
export function giveUpInDoubt(
  email: DecodedEmail,
  end: AttemptEnd,
  reason: string,
  setting: DecisionInput,
): Verdict {
  const history = { ...tried(email, end, reason, setting), doubted: true };
  return markDead(email, history, { cause: "gaveUp", reason });
}

/** Given back as it was, after `delayMs`. Only from a batch that was never begun. */
export function giveBackEmail(email: DecodedEmail, delayMs: number, setting: DecisionInput): Verdict {
  if (email.marked) return leaveToMark(email);
  return { ...scheduleRetry(email, inherited(email, setting), { delayMs }, setting), counts: [] };
}

/** Some email of the batch is at fault, unnamed: this one goes on at once, with fewer others. */
export function splitOff(
  email: DecodedEmail,
  pieceMax: number,
  reason: string,
  setting: DecisionInput,
): Verdict {
  if (email.marked) return leaveToMark(email);
  const history = tried(email, "split", reason, setting);
  return { ...scheduleRetry(email, history, { delayMs: 0, pieceMax }, setting), counts: [] };
}

/** Taken out of the batch before its request, to go on at once with others of its kind. */
export function setApart(email: DecodedEmail, pieceMax: number, setting: DecisionInput): Verdict {
  return {
    ...scheduleRetry(email, inherited(email, setting), { delayMs: 0, pieceMax }, setting),
    counts: [],
  };
}

/** Refused by this provider, without a request: another is asked, or, if every one has refused it, it is dead. */
export function handOver(email: DecodedEmail, setting: DecisionInput): Verdict {
  const reason = "the provider refuses this sender";
  const history = tried(email, "handedOver", reason, setting);
  const verdict = refusedHere(email, history, reason, setting);
  return verdict.death === undefined ? { ...verdict, counts: ["handed_over"] } : verdict;
}

/** The first provider that may still take it. */
export function nextProvider(history: History, providers: readonly string[]): string | undefined {
  return providers.find((name) => !history.refusedBy.includes(name));
}

/** `history`, with `provider` among those that refused. */
export function withRefusal(history: History, provider: string): History {
  if (history.refusedBy.includes(provider)) return history;
  return { ...history, refusedBy: [...history.refusedBy, provider] };
}

function refusedHere(email: DecodedEmail, before: History, reason: string, setting: DecisionInput): Verdict {
  const history = withRefusal(before, setting.batch.provider);
  const next = nextProvider(history, setting.policy.providers);
  if (next === undefined) return markDead(email, history, { cause: "refusedByAll", reason });
  return scheduleRetry(email, history, { delayMs: 0, only: next }, setting);
}

/**
 * Accepted elsewhere while it was in this batch. The store ends it as sent whatever the fate says; of the fates,
 * this is the one that would not send it again.
 */
export function leaveToMark(email: DecodedEmail): Verdict {
  return { fate: { id: email.id, kind: "dead", history: encodeHistory(email.history) }, counts: [] };
}

function markDead(
  email: DecodedEmail,
  history: History,
  { cause, reason, counts = [] }: { cause: Death["cause"]; reason: string; counts?: readonly string[] },
): Verdict {
  return {
    fate: {
      id: email.id,
      kind: "dead",
      history: encodeHistory(asDead(history, `${causes[cause]}${reason}`)),
    },
    counts: [...counts, "dead"],
    death: { id: email.id, cause, reason, outcomeUnknown: history.doubted },
  };
}

/** How the reason of a dead letter begins, after what says that its outcome is unknown. */
const causes: Readonly<Record<Death["cause"], string>> = {
  rejected: "",
  refusedByAll: "refused by every provider: ",
  gaveUp: "gave up: ",
  keyReused: "",
};

/**
 * The provider failed, or refused everything. After `GIVE_UP_AFTER` that ends an email if it traveled alone and the
 * provider has just answered a question, so that no outage, pause or rate limit ends one. A late email that traveled in
 * company travels alone next.
 */
function failed(
  email: DecodedEmail,
  history: History,
  reason: string,
  { backsOff, isBlamed, apart }: { backsOff: boolean; isBlamed: boolean; apart?: number },
  setting: DecisionInput,
): Verdict {
  const { batch, policy } = setting;
  const suspects = batch.emails.length;
  const late = isLate(email, setting);
  if (late && suspects === 1 && isBlamed && policy.question !== "none") {
    return markDead(email, history, { cause: "gaveUp", reason });
  }
  const tries = backsOff ? history.tries + 1 : history.tries;
  const delayMs = backsOff ? backoff(tries, setting) : 0;
  const pieceMax = late
    ? 1
    : backsOff && isBlamed && suspects > 1
      ? nextPieceMax(suspects)
      : (batch.pieceMax ?? apart);
  return scheduleRetry(
    email,
    { ...history, tries },
    { delayMs, ...(pieceMax !== undefined && { pieceMax }) },
    setting,
  );
}

/**
 * Any provider may take it; if all but one have refused it, that one is named, to save the others a claim. An email
 * from a piece stays in pieces of that size unless `pieceMax` says otherwise.
 */
function scheduleRetry(
  email: DecodedEmail,
  history: History,
  { delayMs, only, pieceMax }: { delayMs: number; only?: string; pieceMax?: number },
  { batch, policy }: DecisionInput,
): Verdict {
  const left = policy.providers.filter((name) => !history.refusedBy.includes(name));
  const last = left.length === 1 && history.refusedBy.length > 0 ? left[0] : undefined;
  const provider = only ?? last;
  const piece = pieceMax ?? batch.pieceMax;
  return {
    fate: {
      id: email.id,
      kind: "due",
      delayMs,
      ...(provider !== undefined && { only: provider }),
      ...(piece !== undefined && { pieceMax: piece }),
      history: encodeHistory(history),
    },
    counts: ["retried"],
  };
}

function backoff(attempt: number, { policy, random }: DecisionInput): number {
  return backoffMs({ attempt, baseMs: policy.retryBaseMs, maxMs: policy.retryMaxMs, random });
}

/**
 * Submitted, or last retried by an operator, so long ago that a failure may end it. For an hour after a step of the
 * store's clock no email is late, since ages cannot be trusted.
 */
export function isLate(
  { submittedAtMs, history }: DecodedEmail,
  { batch, policy, nowMs }: Pick<DecisionInput, "batch" | "policy" | "nowMs">,
): boolean {
  if (batch.clockSteppedAtMs !== undefined) return false;
  return nowMs - (history.replayedAtMs ?? submittedAtMs) >= policy.giveUpAfterMs;
}

/** The reason of the last attempt that has one. */
function lastReason({ attempts }: History): string {
  return attempts.kept.findLast(({ reason }) => reason !== undefined)?.reason ?? "no answer";
}

/** What the email went through before, with what this batch went through while in doubt. */
function inherited(email: DecodedEmail, { batch }: DecisionInput): History {
  return withNotes(email.history, batch.notes);
}

function tried(
  email: DecodedEmail,
  end: AttemptEnd,
  reason: string | undefined,
  setting: DecisionInput,
): History {
  const { batch, nowMs } = setting;
  const attempt = {
    provider: batch.provider,
    atMs: nowMs,
    outcome: end,
    ...(reason !== undefined && { reason }),
  };
  const history = inherited(email, setting);
  return { ...history, attempts: addAttempt(history.attempts, attempt) };
}
