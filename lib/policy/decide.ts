// The next step with a claimed batch, and what follows from what happened to it. A table: the rows are the kinds of result
// and outcome, the two columns are "never in doubt" and "in doubt"; its entries are in email_fate.ts and in_doubt.ts.

import { type DecodedBatch, type DecodedEmail, isDoubtOver, isInDoubt } from "./batch.ts";
import { compose, type Decision, type DecisionInput, type Policy, type Result } from "./decision.ts";
import type { Ruling, Verdict } from "./decision.ts";
import { decideEmail, giveBack, markUnreadable, nextPieceMax, splitOff } from "./email_fate.ts";
import { decideSearch, endDoubt, isToBeSplit, keepInDoubt, postpone, splitInDoubt } from "./in_doubt.ts";
import type { FailedOutcome, Outcome } from "./request_outcome.ts";
import { domainOf, strangersMax } from "./senders.ts";

/**
 * The request to make for a batch that was just claimed, or the result if there is none to make. Once the time for its
 * doubt is over, housekeeping ends it; but for an hour after a step of the store's clock no doubt ends, and the batch
 * goes on as before.
 * @param takesNew whether new emails are handed to its provider
 * @param nowMs    the store's time, Unix ms
 */
export function nextStep(
  batch: DecodedBatch,
  policy: Policy,
  takesNew: boolean,
  nowMs: number,
): "send" | "search" | Result {
  const handBack: Result = { kind: "untouched", delayMs: 0 };
  if (batch.isDamaged) return handBack;
  if (!isInDoubt(batch)) return takesNew ? "send" : handBack;
  if (isDoubtOver(batch, nowMs) && batch.clockSteppedAtMs === undefined) return handBack;
  if (policy.searchWaitMs !== undefined) return "search";
  return isToBeSplit(batch.notes, { batch, policy, nowMs }) ? { kind: "split" } : "send";
}

/**
 * @param nowMs  the store's time, Unix ms: the claim's plus what has elapsed since
 * @param random in [0, 1)
 */
export function decide(
  batch: DecodedBatch,
  result: Result,
  policy: Policy,
  nowMs: number,
  random: number,
): Decision {
  const input = { batch, policy, nowMs, random };
  const ruling = batch.isDamaged ? setAside(input) : rule(result, input);
  return compose(ruling, input, outcomesOf(result));
}

function outcomesOf(result: Result): readonly Outcome[] {
  if (result.kind === "each") return result.outcomes;
  return result.kind === "whole" || result.kind === "failed" ? [result.outcome] : [];
}

function rule(result: Result, input: DecisionInput): Ruling {
  switch (result.kind) {
    case "each":
      return ruleEach(result.outcomes, input);
    case "whole":
      return ruleWhole(result.outcome, input);
    case "searched":
      return decideSearch(result.found, input);
    case "failed":
      return keepInDoubt(result.outcome, input);
    case "ended":
      return endDoubt(input);
    case "split":
      return splitInDoubt(input);
    case "untouched":
      if (isInDoubt(input.batch)) return postpone(result.delayMs, input);
      return forAll(input, (email) => giveBack(email, { delayMs: result.delayMs }, input));
  }
}

/** Accounts for every email: whatever was in doubt is so no more. */
function ruleEach(outcomes: readonly Outcome[], input: DecisionInput): Ruling {
  const { batch, policy } = input;
  const accountWorks = outcomes.some(({ kind }) => kind === "accepted");
  const verdicts: Verdict[] = [];
  let uncertain: Extract<Outcome, { kind: "unknown" }> | undefined;
  for (const [index, email] of batch.emails.entries()) {
    const missing = { kind: "unknown", reason: "the answer leaves an email out", own: false } as const;
    const outcome = outcomes[index] ?? missing;
    if (outcome.kind === "unknown") uncertain ??= outcome;
    else verdicts.push(decideEmail(email, outcome, accountWorks, input));
  }
  if (uncertain === undefined) return { verdicts };
  // A request under the same key must have the same bytes, so that the batch stays whole; what is
  // searched for need not.
  return keepInDoubt(uncertain, input, policy.searchWaitMs === undefined ? [] : verdicts);
}

function ruleWhole(outcome: FailedOutcome, input: DecisionInput): Ruling {
  const inDoubt = isInDoubt(input.batch);
  switch (outcome.kind) {
    case "rejected":
      // A refusal that depends on the message alone would have been the same at every earlier attempt.
      if (inDoubt && !outcome.stable) return keepInDoubt(outcome, input);
      return input.batch.emails.length === 1 ? ruleAlike(outcome, input) : splitAll(outcome, input);
    case "senderRefused":
      return inDoubt ? keepInDoubt(outcome, input) : ruleSenderRefused(outcome, input);
    case "accountRefused":
    case "throttled":
    case "unavailable":
      return inDoubt ? keepInDoubt(outcome, input) : ruleAlike(outcome, input);
    case "unknown":
      return keepInDoubt(outcome, input);
    case "keyReused":
      return ruleAlike(outcome, input);
  }
}

/** The sender that the answer names is refused, or the only one there is; otherwise it is some email's. */
function ruleSenderRefused(
  outcome: Extract<Outcome, { kind: "senderRefused" }>,
  input: DecisionInput,
): Ruling {
  const { emails, pieceMax } = input.batch;
  if (new Set(emails.map(({ email }) => email.from)).size === 1) return ruleAlike(outcome, input);
  const isNamed = ({ email }: DecodedEmail) => domainOf(email.from) === outcome.domain;
  if (!emails.some(isNamed)) return splitAll(outcome, input);
  const othersMax = pieceMax === undefined ? strangersMax : Math.max(1, emails.length >> 1);
  return forAll(input, (email) =>
    isNamed(email)
      ? decideEmail(email, outcome, false, input)
      : splitOff(email, othersMax, outcome.reason, input),
  );
}

/** Some email is at fault, unnamed: all go on, in small pieces. */
function splitAll({ reason }: FailedOutcome, input: DecisionInput): Ruling {
  const pieceMax = nextPieceMax(input.batch.emails.length);
  return forAll(input, (email) => splitOff(email, pieceMax, reason, input));
}

function ruleAlike(outcome: Exclude<FailedOutcome, { kind: "unknown" }>, input: DecisionInput): Ruling {
  return forAll(input, (email) => decideEmail(email, outcome, false, input));
}

function forAll({ batch }: DecisionInput, judge: (email: DecodedEmail) => Verdict): Ruling {
  return { verdicts: batch.emails.map(judge) };
}

/** Emails that cannot be read become dead letters; the others cannot be sent as they were, and go back to waiting. */
function setAside(input: DecisionInput): Ruling {
  const { verdicts } = isInDoubt(input.batch)
    ? endDoubt(input)
    : forAll(input, (email) => giveBack(email, { delayMs: 0 }, input));
  return { verdicts: [...verdicts, ...input.batch.unreadable.map((id) => markUnreadable(id, input))] };
}
