// What follows from what happened to a batch. A table: the rows are the kinds of result and outcome, the two
// columns are "never in doubt" and "in doubt"; its entries are in email_fate.ts and in_doubt.ts.

import { isInDoubt, type DecodedBatch, type DecodedEmail } from "./batch.ts";
import { compose, type Decision, type Policy, type Result, type Verdict } from "./decision.ts";
import { endDoubtOf, postpone, decideSearch, splitInDoubt, keepInDoubt } from "./in_doubt.ts";
import type { Outcome, SendResult } from "./request_outcome.ts";
import { failedOutcomeOf, healthOf } from "./provider_health.ts";
import { domainOf, strangersMax } from "./known_senders.ts";
import {
  type CertainOutcome,
  giveBackEmail,
  nextPieceMax,
  type DecisionInput,
  splitOff,
  decideEmail,
} from "./email_fate.ts";

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
  const decision = decided(result, { batch, policy, nowMs, random });
  const failure = failedOutcomeOf(result);
  const { credential } = policy;
  return {
    ...decision,
    settlement: { ...decision.settlement, credential, ...(failure !== undefined && { failure }) },
  };
}

function decided(result: Result, setting: DecisionInput): Decision {
  const { batch } = setting;
  switch (result.kind) {
    case "send":
      return answered(result.result, setting);
    case "search":
      return decideSearch(result.result, setting);
    case "ended":
      return endDoubtOf(setting);
    case "split":
      return splitInDoubt(setting);
    case "untouched":
      return isInDoubt(batch) ? postpone(result.delayMs, setting) : handedBack(result.delayMs, setting);
  }
}

function answered(result: SendResult, setting: DecisionInput): Decision {
  switch (result.kind) {
    case "each":
      return eachAnswered(result.outcomes, setting);
    case "whole":
      return wholeAnswered(result.outcome, setting);
  }
}

/** Accounts for every email: whatever was in doubt is so no more. */
function eachAnswered(outcomes: readonly Outcome[], setting: DecisionInput): Decision {
  const { batch, policy } = setting;
  const accountWorks = outcomes.some(({ kind }) => kind === "accepted");
  const verdicts: Verdict[] = [];
  let uncertain: Extract<Outcome, { kind: "unknown" }> | undefined;
  for (const [index, email] of batch.emails.entries()) {
    const outcome = outcomes[index] ?? {
      kind: "unknown",
      reason: "the answer leaves an email out",
      own: false,
    };
    if (outcome.kind === "unknown") uncertain ??= outcome;
    else verdicts.push(decideEmail(email, outcome, accountWorks, setting));
  }
  // What is asked again under the same key must have the same bytes, so that the batch stays whole; what is
  // searched for need not.
  if (uncertain !== undefined) {
    const certain = policy.search === undefined ? [] : verdicts;
    return { ...keepInDoubt(uncertain, setting, certain), health: healthOf(outcomes) };
  }
  return compose({
    provider: batch.provider,
    verdicts,
    health: healthOf(outcomes),
    throttled: outcomes.some(({ kind }) => kind === "throttled"),
  });
}

function wholeAnswered(outcome: Exclude<Outcome, { kind: "accepted" }>, setting: DecisionInput): Decision {
  const inDoubt = isInDoubt(setting.batch);
  switch (outcome.kind) {
    case "rejected":
      // A refusal that depends on the message alone would have been the same at every earlier try.
      if (inDoubt && !outcome.stable) return keepInDoubt(outcome, setting);
      return isAlone(setting) ? alike(outcome, setting) : split(outcome, setting);
    case "senderRefused":
      if (inDoubt) return keepInDoubt(outcome, setting);
      return senderRefused(outcome, setting);
    case "accountRefused":
    case "throttled":
    case "unavailable":
      return inDoubt ? keepInDoubt(outcome, setting) : alike(outcome, setting);
    case "unknown":
      return keepInDoubt(outcome, setting);
    case "keyReused":
      return alike(outcome, setting);
  }
}

/** The sender that the answer names is refused, or the only one there is; otherwise it is some email's. */
function senderRefused(
  outcome: Extract<Outcome, { kind: "senderRefused" }>,
  setting: DecisionInput,
): Decision {
  const { batch } = setting;
  if (new Set(batch.emails.map(({ from }) => from)).size === 1) return alike(outcome, setting);
  const isNamed = ({ from }: DecodedEmail) => domainOf(from) === outcome.domain;
  if (!batch.emails.some(isNamed)) return split(outcome, setting);
  const othersMax = batch.pieceMax === undefined ? strangersMax : Math.max(1, batch.emails.length >> 1);
  const verdicts = batch.emails.map((email) =>
    isNamed(email)
      ? decideEmail(email, outcome, false, setting)
      : splitOff(email, othersMax, outcome.reason, setting),
  );
  return compose({ provider: batch.provider, verdicts, health: healthOf([outcome]) });
}

const isAlone = ({ batch }: DecisionInput) => batch.emails.length === 1;

/** Some email is at fault, unnamed: all go on, in small pieces. */
function split(outcome: Exclude<Outcome, { kind: "accepted" }>, setting: DecisionInput): Decision {
  const { batch } = setting;
  const pieceMax = nextPieceMax(batch.emails.length);
  return compose({
    provider: batch.provider,
    verdicts: batch.emails.map((email) => splitOff(email, pieceMax, outcome.reason, setting)),
    health: healthOf([outcome]),
  });
}

/** One outcome for all. */
function alike(outcome: CertainOutcome, setting: DecisionInput): Decision {
  const { batch } = setting;
  return compose({
    provider: batch.provider,
    verdicts: batch.emails.map((email) => decideEmail(email, outcome, false, setting)),
    health: healthOf([outcome]),
    throttled: outcome.kind === "throttled",
  });
}

function handedBack(delayMs: number, setting: DecisionInput): Decision {
  const { batch } = setting;
  const verdicts = batch.emails.map((email) => giveBackEmail(email, delayMs, setting));
  return compose({ provider: batch.provider, verdicts, health: "none" });
}
