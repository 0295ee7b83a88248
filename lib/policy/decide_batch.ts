// Chooses the next step for a claimed batch, and decides what its result means. Reads like a table: the rows are the
// kinds of result and outcome, the two columns are "never in doubt" and "in doubt". Its entries are in decide_email.ts and
// decide_in_doubt.ts.

import { type DecodedEmail, isDoubtOver, isInDoubt } from "./batch.ts";
import { compose, type Decision, type DecisionInput, type Result } from "./decision.ts";
import type { Ruling, Verdict } from "./decision.ts";
import { decideEmail, giveBack, markFilesLost, markUnreadable } from "./decide_email.ts";
import { nextPieceMax, splitOff } from "./decide_email.ts";
import {
  decideSearch,
  endDoubt,
  keepInDoubt,
  postpone,
  shouldSplit,
  splitInDoubt,
} from "./decide_in_doubt.ts";
import type { FailedOutcome, Outcome } from "./request_outcome.ts";
import { isNeverBegun } from "./presend.ts";
import { domainOf, strangersMax } from "./sender_memory.ts";

/**
 * The request to make for a batch that was just claimed, or the result if there is none to make. A batch whose time for
 * doubt is over is handed back, and housekeeping ends its doubt. But for an hour after a step of the store's clock no
 * doubt ends, and the batch is handled as before.
 * @param takesNew whether new emails are handed to its provider
 */
export function nextStep(input: DecisionInput, takesNew: boolean): "send" | "search" | Result {
  const { batch, policy, nowMs } = input;
  const handBack: Result = { kind: "untouched", delayMs: 0 };
  if (batch.isDamaged) return handBack;
  if (isInDoubt(batch) && isNeverBegun(input)) return { kind: "neverBegun" };
  if (!isInDoubt(batch)) return takesNew ? "send" : handBack;
  if (isDoubtOver(batch, nowMs) && batch.clockSteppedAtMs === undefined) return handBack;
  if (policy.searchWaitMs !== undefined) return "search";
  return shouldSplit(batch.notes, input) ? { kind: "split" } : "send";
}

export function decide(result: Result, input: DecisionInput): Decision {
  if (input.batch.isDamaged) return compose(setAside(input), input);
  switch (result.kind) {
    case "each":
      return compose(ruleEach(result.outcomes, input), input, result.outcomes);
    case "whole":
      return compose(ruleWhole(result.outcome, input), input, [result.outcome]);
    case "searched":
      return compose(decideSearch(result.found, input), input);
    case "failed":
      return compose(keepInDoubt(result.outcome, input), input, [result.outcome]);
    case "ended":
      return compose(endDoubt(input), input);
    case "split":
      return compose(splitInDoubt(input), input);
    case "neverBegun":
      return compose(
        forAll(input, (email) => giveBack(email, { delayMs: 0 }, input)),
        input,
      );
    case "filesLost":
      return compose(setAside(input, result.ids), input);
    case "untouched": {
      const { delayMs } = result;
      const ruling = isInDoubt(input.batch)
        ? postpone(delayMs, input)
        : forAll(input, (email) => giveBack(email, { delayMs }, input));
      return compose(ruling, input);
    }
  }
}

/** Each email has an outcome of its own. If none is unknown, that ends any doubt. */
function ruleEach(outcomes: readonly Outcome[], input: DecisionInput): Ruling {
  const { batch, policy } = input;
  const accountWorks = outcomes.some(({ kind }) => kind === "accepted");
  const verdicts: Verdict[] = [];
  const refusals: { id: string; reason: string }[] = [];
  let uncertain: Extract<Outcome, { kind: "unknown" }> | undefined;
  for (const [index, email] of batch.emails.entries()) {
    const missing = { kind: "unknown", reason: "the answer leaves an email out", own: false } as const;
    const outcome: Outcome = outcomes[index] ?? missing;
    if (outcome.kind === "unknown") {
      uncertain ??= outcome;
      if (outcome.isRefusal) refusals.push({ id: email.id, reason: outcome.reason });
    } else verdicts.push(decideEmail(email, outcome, accountWorks, input));
  }
  if (uncertain === undefined) return { verdicts };
  // A request under the same key must have the same bytes, so the batch stays whole; a search does not need that.
  return keepInDoubt(uncertain, input, policy.searchWaitMs === undefined ? [] : verdicts, refusals);
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
    case "unknown": {
      const [only, ...others] = input.batch.emails;
      const isOfOne = outcome.isRefusal && only !== undefined && others.length === 0;
      return keepInDoubt(outcome, input, [], isOfOne ? [{ id: only.id, reason: outcome.reason }] : []);
    }
    case "keyReused":
      return ruleAlike(outcome, input);
  }
}

/**
 * The refused sender is the only one in the batch, or the one that the answer names. If the batch has neither, any email
 * may be at fault.
 */
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

/** Any email may be at fault: all are sent on, in small pieces. */
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

/**
 * Unreadable emails become dead letters. The others go back to waiting, because the request cannot be repeated unchanged.
 * @param filesLost ids of emails whose files cannot be read
 */
function setAside(input: DecisionInput, filesLost: ReadonlySet<string> = new Set()): Ruling {
  const { batch } = input;
  const [ill, whole] = [true, false].map((is) => batch.emails.filter(({ id }) => filesLost.has(id) === is));
  const rest = { ...input, batch: { ...batch, emails: whole! } };
  const { verdicts } = isInDoubt(batch)
    ? endDoubt(rest)
    : forAll(rest, (email) => giveBack(email, { delayMs: 0 }, input));
  const dead = [
    ...batch.unreadable.map((id) => markUnreadable(id, input)),
    ...ill!.map((email) => markFilesLost(email, input)),
  ];
  return { verdicts: [...verdicts, ...dead] };
}
